"""An account's profile: reading, changing, locking and deleting it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Select, delete, func, or_, select, update
from sqlalchemy.exc import IntegrityError

from plateblur.accounts import fields, vat
from plateblur.accounts.links import make_link, use_link
from plateblur.accounts.mail import Email, forget_emails
from plateblur.accounts.models import Account, LoginSession, MailedLink, PendingSignUp
from plateblur.accounts.store import Store
from plateblur.accounts.types import (
    AccountClosedError,
    AccountStatus,
    FieldError,
    Identity,
    LinkError,
    NotFoundError,
    Role,
)


@dataclass(frozen=True, slots=True)
class Profile:
    """What an account stores about its owner.

    Attributes:
        account_id: the store's id.
        email: as signed up.
        username: "" for none.
        role: what it may do in the console.
        status: whether it may be used.
        full_name: for invoices; "" until given, as the four below.
        company: "" for a private person.
        postal_address: lines.
        country: ISO 3166-1, two letters.
        vat_id: "" for a consumer.
        has_trial: whether a trial was started.
        has_invoice: whether a package was paid.
        created_at: UTC.
    """

    account_id: int
    email: str
    username: str
    role: Role
    status: AccountStatus
    full_name: str
    company: str
    postal_address: str
    country: str
    vat_id: str
    has_trial: bool
    has_invoice: bool
    created_at: datetime


def read_profile(store: Store, account_id: int) -> Profile:
    """Return an account's profile.

    Raises:
        NotFoundError: the account was deleted.
        StoreUnavailableError: the database can't be reached.
    """
    return _one(store, _columns().where(Account.id == account_id))


def find_profile(store: Store, login: str) -> Profile:
    """Return the profile behind an e-mail or user name.

    Raises:
        NotFoundError: nobody has it.
        StoreUnavailableError: the database can't be reached.
    """
    key = fields.login_key(login)
    return _one(store, _columns().where(or_(Account.email_key == key, Account.username_key == key)))


def list_profiles(
    store: Store, *, containing: str = "", after_id: int = 0, limit: int = 100
) -> list[Profile]:
    """Return accounts in the order of their sign-up, for the operator.

    Args:
        store: the store.
        containing: what the e-mail or user name must hold, in any case; "" for everybody.
        after_id: the last account of the page before.
        limit: the most that come back.

    Raises:
        StoreUnavailableError: the database can't be reached.
    """
    query = _columns().where(Account.id > after_id)
    if containing:
        part = containing.strip().casefold()
        query = query.where(
            or_(
                Account.email_key.contains(part, autoescape=True),
                Account.username_key.contains(part, autoescape=True),
            )
        )
    with store.read() as connection:
        rows = connection.execute(query.order_by(Account.id).limit(limit)).all()
    return [Profile(**row._mapping) for row in rows]


def change_profile(
    store: Store,
    account_id: int,
    *,
    full_name: str,
    company: str,
    postal_address: str,
    country: str,
    vat_id: str,
    username: str,
) -> None:
    """Replace the profile; issued invoices stay as they are.

    Raises:
        FieldError: a field is not valid, or the user name is taken.
        NotFoundError: the account was deleted.
        StoreUnavailableError: nothing changed.
    """
    country = fields.parse_country(country)
    vat_id = fields.plain_text("vat_id", vat_id, max_chars=20).replace(" ", "").upper()
    if vat_id and vat.is_in_eu(country) and not vat.is_vat_id(vat_id, country=country):
        raise FieldError(
            "vat_id", f"Enter a valid VAT number for {country}, including the country code."
        )

    username = fields.parse_username(username) if username else ""
    values = {
        "full_name": fields.plain_text("full_name", full_name, max_chars=200),
        "company": fields.plain_text("company", company, max_chars=200),
        "postal_address": fields.plain_text(
            "postal_address", postal_address, max_chars=500, lines=True
        ),
        "country": country,
        "vat_id": vat_id,
        "username": username or None,
        "username_key": fields.login_key(username) or None,
    }
    with store.write() as connection:
        try:
            changed = connection.execute(
                update(Account).where(Account.id == account_id).values(**values)
            ).rowcount
        except IntegrityError as error:
            raise FieldError("username", "This user name is taken.") from error
    if not changed:
        raise NotFoundError("This account was deleted.")


def request_email_change(
    store: Store, identity: Identity, *, email: str, page_url: str, now: datetime
) -> Email:
    """Return the e-mail to the new address; nothing changes until its link is opened.

    Args:
        store: the store.
        identity: who has just proved the password.
        email: as typed.
        page_url: the page that takes `?token=`.
        now: UTC.

    Raises:
        FieldError: not an address, or a disposable one.
        AccountClosedError: the account was deleted, or its password was changed.
        StoreUnavailableError: nothing was stored.
    """
    email = fields.parse_email(email)
    if fields.is_throwaway(email):
        raise FieldError("email", "Disposable e-mail addresses aren't accepted.")
    with store.write() as connection:
        version = connection.execute(
            select(Account.credentials_version).where(Account.id == identity.account_id)
        ).scalar()
        if version != identity.credentials_version:
            raise AccountClosedError("This account was deleted, or its password was changed.")
        link = make_link(
            connection,
            account_id=identity.account_id,
            credentials_version=identity.credentials_version,
            purpose="email",
            page_url=page_url,
            now=now,
            detail=email,
        )
    return Email(
        email,
        "Confirm your new e-mail address for PlateBlur",
        "Hello,\n\nTo use this e-mail address for your PlateBlur account, open this link and "
        f"confirm:\n\n{link}\n\nThe link expires in 24 hours. If you didn't ask for this change, "
        "you can ignore this e-mail.\n",
        link,
    )


def confirm_email_change(store: Store, secret: str, *, now: datetime) -> Email:
    """Switch to the new address; return the e-mail to the old one. Sessions and links end.

    Raises:
        LinkError: invalid, used or expired, or the address already has an account.
        StoreUnavailableError: nothing changed.
    """
    with store.write() as connection:
        account_id, email = use_link(connection, secret, purpose="email", now=now)
        old = connection.execute(select(Account.email).where(Account.id == account_id)).scalar_one()
        try:
            connection.execute(
                update(Account)
                .where(Account.id == account_id)
                .values(
                    email=email,
                    email_key=fields.login_key(email),
                    credentials_version=Account.credentials_version + 1,
                )
            )
        except IntegrityError as error:
            raise LinkError("This e-mail address already has an account.") from error
        connection.execute(delete(LoginSession).where(LoginSession.account_id == account_id))
        connection.execute(delete(MailedLink).where(MailedLink.account_id == account_id))
    return Email(
        old,
        "Your PlateBlur e-mail address was changed",
        "Hello,\n\nThe e-mail address of your PlateBlur account was changed. From now on, we will "
        "write to the new address.\n\nIf you didn't make this change, please contact us right "
        "away.\n",
    )


def lock_account(store: Store, account_id: int) -> None:
    """Lock the account, from its next request on and in every worker.

    Raises:
        NotFoundError: no such account.
        StoreUnavailableError: nothing changed.
    """
    _set_status(store, account_id, AccountStatus.LOCKED)


def unlock_account(store: Store, account_id: int) -> None:
    """Unlock the account.

    Raises:
        NotFoundError: no such account.
        StoreUnavailableError: nothing changed.
    """
    _set_status(store, account_id, AccountStatus.ACTIVE)


def delete_account(store: Store, account_id: int, *, outbox: Path) -> None:
    """Permanently delete the account and its personal data.

    Two things are kept for a period, see `periods`: its invoices, which tax law requires (with the
    buyer's name and address as printed, never the e-mail address), and the keyed hash that prevents
    a second trial.

    Args:
        store: the store.
        account_id: whose.
        outbox: the folder of e-mails for which there is no mail server.

    Raises:
        NotFoundError: no such account.
        StoreUnavailableError: nothing changed, or (on SQLite, at the very end) old pages of the
            journal still hold deleted rows until its next checkpoint.
    """
    with store.write() as connection:
        account = connection.execute(
            select(Account.email, Account.email_key).where(Account.id == account_id)
        ).first()
        if account is None:
            raise NotFoundError("Account not found.")
        asked_for = connection.execute(
            select(MailedLink.detail).where(
                MailedLink.account_id == account_id, MailedLink.purpose == "email"
            )
        ).scalars()
        addresses = [account.email, *asked_for]
        # The other tables' rows leave with it (ON DELETE CASCADE, and SET NULL on invoices).
        connection.execute(delete(Account).where(Account.id == account_id))
        connection.execute(
            delete(PendingSignUp).where(PendingSignUp.email_key == account.email_key)
        )
    forget_emails(outbox, addresses)
    store.forget_deleted_rows()


def _set_status(store: Store, account_id: int, status: AccountStatus) -> None:
    with store.write() as connection:
        changed = connection.execute(
            update(Account)
            .where(Account.id == account_id)
            .values(status=status, credentials_version=Account.credentials_version + 1)
        ).rowcount
        if not changed:
            raise NotFoundError("Account not found.")
        connection.execute(delete(LoginSession).where(LoginSession.account_id == account_id))
        connection.execute(delete(MailedLink).where(MailedLink.account_id == account_id))


def _columns() -> Select[*tuple[Any, ...]]:
    return select(
        Account.id.label("account_id"),
        Account.email,
        func.coalesce(Account.username, "").label("username"),
        Account.role,
        Account.status,
        Account.full_name,
        Account.company,
        Account.postal_address,
        Account.country,
        Account.vat_id,
        Account.has_trial,
        Account.has_invoice,
        Account.created_at,
    )


def _one(store: Store, query: Select[*tuple[Any, ...]]) -> Profile:
    with store.read() as connection:
        row = connection.execute(query).first()
    if row is None:
        raise NotFoundError("Account not found.")
    return Profile(**row._mapping)
