"""Changing a password: known, or forgotten."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, delete, select, update

from plateblur.accounts import fields
from plateblur.accounts.credentials import Hasher
from plateblur.accounts.links import make_link, use_link
from plateblur.accounts.mail import Letter
from plateblur.accounts.models import Account, LoginSession, MailedLink
from plateblur.accounts.store import Store
from plateblur.accounts.types import AccountClosedError, FieldError


def change_password(store: Store, hasher: Hasher, account_id: int, *, old: str, new: str) -> None:
    """Set another password; every session and remembered credential ends.

    Raises:
        FieldError: the old one is wrong, or the new one can't be taken.
        AccountClosedError: the account is gone.
        StoreUnavailableError: nothing changed.
    """
    fields.check_password(new)
    with store.read() as connection:
        old_hash = connection.execute(
            select(Account.password_hash).where(Account.id == account_id)
        ).scalar()
    if old_hash is None:
        raise AccountClosedError("The account is gone.")
    if not hasher.verify(old_hash, old):
        raise FieldError("old", "The old password is wrong.")
    new_hash = hasher.hash(new)
    with store.write() as connection:
        set_password_hash(connection, account_id, new_hash)


def request_reset(store: Store, *, email: str, page_url: str, now: datetime) -> Letter | None:
    """Return the letter to send; None where no active account has the address.

    The page must answer the same in both cases, or it would tell who has an account.

    Raises:
        StoreUnavailableError: nothing was kept.
    """
    key = fields.login_key(email)
    with store.write() as connection:
        account = connection.execute(
            select(Account.id, Account.email).where(
                Account.email_key == key, Account.status == "active"
            )
        ).first()
        if account is None:
            return None
        link = make_link(
            connection, account_id=account.id, purpose="reset", page_url=page_url, now=now
        )
    return Letter(
        account.email,
        "Set a new PlateBlur password",
        f"Open this page within an hour to set a new password:\n\n{link}\n\n"
        "If you did not ask for it, do nothing.\n",
        link,
    )


def reset_password(store: Store, hasher: Hasher, secret: str, *, new: str, now: datetime) -> None:
    """Set the password of a mailed reset link; every session and remembered credential ends.

    Raises:
        FieldError: the new one can't be taken; the link still works.
        LinkError: unknown, used or too old.
        StoreUnavailableError: nothing changed.
    """
    fields.check_password(new)
    new_hash = hasher.hash(new)
    with store.write() as connection:
        account_id, _ = use_link(connection, secret, purpose="reset", now=now)
        set_password_hash(connection, account_id, new_hash)


def set_password_hash(connection: Connection, account_id: int, password_hash: str) -> None:
    """Set the hash; drop what the old password opened: sessions, remembered secrets, links."""
    connection.execute(
        update(Account)
        .where(Account.id == account_id)
        .values(
            password_hash=password_hash,
            credentials_version=Account.credentials_version + 1,
        )
    )
    connection.execute(delete(LoginSession).where(LoginSession.account_id == account_id))
    connection.execute(
        delete(MailedLink).where(
            MailedLink.account_id == account_id, MailedLink.purpose.in_(["reset", "email"])
        )
    )
