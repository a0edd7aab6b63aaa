"""Changing a password: known, or forgotten."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, delete, select, update

from plateblur.accounts import api_keys, fields
from plateblur.accounts.credentials import Hasher
from plateblur.accounts.links import check_link, make_link, use_link
from plateblur.accounts.mail import Email
from plateblur.accounts.models import Account, LoginSession, MailedLink
from plateblur.accounts.store import Store
from plateblur.accounts.types import AccountClosedError, AccountStatus, Identity


def change_password(
    store: Store,
    hasher: Hasher,
    identity: Identity,
    *,
    new: str,
    now: datetime,
    revoke_keys: bool = False,
) -> None:
    """Set another password; every session, mailed link and remembered credential ends.

    Args:
        store: the store.
        hasher: argon2.
        identity: who has just proved the old password.
        new: as typed.
        now: UTC.
        revoke_keys: whether the API keys end too.

    Raises:
        FieldError: the new one is not valid.
        AccountClosedError: the account was deleted, or its password was changed.
        BusyError: nothing changed.
        StoreUnavailableError: nothing changed.
    """
    fields.check_password(new)
    new_hash = hasher.hash(new)
    with store.write() as connection:
        version = identity.credentials_version
        if not _set_password_hash(connection, identity.account_id, new_hash, version=version):
            raise AccountClosedError("This account was deleted, or its password was changed.")
        if revoke_keys:
            api_keys.revoke_all(connection, identity.account_id, now=now)


def request_reset(store: Store, *, email: str, page_url: str, now: datetime) -> Email | None:
    """Return the e-mail to send; None if no active account has the address.

    The page must respond the same in both cases, or it would reveal who has an account.

    Raises:
        StoreUnavailableError: nothing was stored.
    """
    key = fields.login_key(email)
    with store.write() as connection:
        account = connection.execute(
            select(Account.id, Account.email, Account.credentials_version).where(
                Account.email_key == key, Account.status == AccountStatus.ACTIVE
            )
        ).first()
        if account is None:
            return None
        link = make_link(
            connection,
            account_id=account.id,
            credentials_version=account.credentials_version,
            purpose="reset",
            page_url=page_url,
            now=now,
        )
    return Email(
        account.email,
        "Reset your PlateBlur password",
        "Hello,\n\nSomeone asked to reset the password of your PlateBlur account. To set a new "
        f"one, open this link:\n\n{link}\n\nThe link expires in one hour. If you didn't ask for "
        "this, you can ignore this e-mail; your password stays the same.\n",
        link,
    )


def reset_password(
    store: Store, hasher: Hasher, secret: str, *, new: str, now: datetime, keep_keys: bool = False
) -> int:
    """Set the password of a mailed reset link; return how many API keys were revoked.

    Every session, mailed link and remembered credential ends. So do the API keys unless their
    owner says otherwise: anyone who knew the old password could have created one.

    Args:
        store: the store.
        hasher: argon2.
        secret: the link's.
        new: as typed.
        now: UTC.
        keep_keys: whether the API keys stay.

    Raises:
        LinkError: invalid, used or expired.
        FieldError: the new one is not valid; the link still works.
        BusyError: nothing changed; the link still works.
        StoreUnavailableError: nothing changed.
    """
    check_link(store, secret, purpose="reset", now=now)
    fields.check_password(new)
    new_hash = hasher.hash(new)
    with store.write() as connection:
        account_id, _ = use_link(connection, secret, purpose="reset", now=now)
        _set_password_hash(connection, account_id, new_hash)
        return 0 if keep_keys else api_keys.revoke_all(connection, account_id, now=now)


def _set_password_hash(
    connection: Connection, account_id: int, password_hash: str, *, version: int | None = None
) -> bool:
    """Set the hash; end everything that the old password opened: sessions and links.

    Args:
        connection: in a write.
        account_id: whose.
        password_hash: of the new password.
        version: what the credentials must still be, or nothing changes; None for any.
    """
    account = update(Account).where(Account.id == account_id)
    if version is not None:
        account = account.where(Account.credentials_version == version)
    changed = connection.execute(
        account.values(
            password_hash=password_hash, credentials_version=Account.credentials_version + 1
        )
    ).rowcount
    if not changed:
        return False
    connection.execute(delete(LoginSession).where(LoginSession.account_id == account_id))
    connection.execute(delete(MailedLink).where(MailedLink.account_id == account_id))
    return True
