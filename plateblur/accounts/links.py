"""Single-use links for e-mails; the store holds only hashes of their secrets."""

from __future__ import annotations

from datetime import datetime, timedelta
from urllib.parse import quote

from sqlalchemy import Connection, Row, Select, delete, insert, select

from plateblur.accounts.credentials import fast_hash, random_secret
from plateblur.accounts.models import Account, MailedLink
from plateblur.accounts.store import Store
from plateblur.accounts.types import LinkError

# Source: OWASP Forgot Password Cheat Sheet ("expire after an appropriate period"); people reset a
# password right away.
VALID_FOR = {
    "reset": timedelta(hours=1),
    "email": timedelta(hours=24),
}


def make_link(
    connection: Connection,
    *,
    account_id: int,
    credentials_version: int,
    purpose: str,
    page_url: str,
    now: datetime,
    detail: str = "",
) -> str:
    """Return a link that works once; earlier ones for the account and purpose stop working.

    Args:
        connection: in a write.
        account_id: whose.
        credentials_version: the account's when the request was authenticated; the link works until
            that changes.
        purpose: a key of `VALID_FOR`.
        page_url: the page that takes it as `?token=`.
        now: UTC.
        detail: stored with it, returned by `use_link`.
    """
    connection.execute(
        delete(MailedLink).where(MailedLink.account_id == account_id, MailedLink.purpose == purpose)
    )
    secret = random_secret()
    connection.execute(
        insert(MailedLink).values(
            secret_hash=fast_hash(secret),
            account_id=account_id,
            credentials_version=credentials_version,
            purpose=purpose,
            detail=detail,
            expires_at=now + VALID_FOR[purpose],
        )
    )
    return link_to(page_url, secret)


def link_to(page_url: str, secret: str) -> str:
    """Return the URL that an e-mail carries."""
    return f"{page_url}?token={quote(secret)}"


def check_link(store: Store, secret: str, *, purpose: str, now: datetime) -> None:
    """Check whether a link would work, before anything costly is done for it.

    Raises:
        LinkError: invalid, used or expired.
        StoreUnavailableError: the database can't be reached.
    """
    with store.read() as connection:
        _check(connection.execute(_found(secret, purpose)).first(), now)


def use_link(
    connection: Connection, secret: str, *, purpose: str, now: datetime
) -> tuple[int, str]:
    """Use up a link; return its account and detail.

    Args:
        connection: in a write.
        secret: as sent.
        purpose: a key of `VALID_FOR`.
        now: UTC.

    Raises:
        LinkError: invalid, used or expired.
    """
    # The account first, as everywhere, so that no two writes deadlock.
    row = _check(
        connection.execute(_found(secret, purpose).with_for_update(of=Account)).first(), now
    )
    taken = connection.execute(
        delete(MailedLink).where(MailedLink.secret_hash == fast_hash(secret))
    ).rowcount
    row = _check(row if taken else None, now)
    return row.account_id, row.detail


def _found(secret: str, purpose: str) -> Select[int, str, datetime]:
    return (
        select(MailedLink.account_id, MailedLink.detail, MailedLink.expires_at)
        .join(
            Account,
            (Account.id == MailedLink.account_id)
            & (Account.credentials_version == MailedLink.credentials_version),
        )
        .where(MailedLink.secret_hash == fast_hash(secret), MailedLink.purpose == purpose)
    )


def _check(row: Row[int, str, datetime] | None, now: datetime) -> Row[int, str, datetime]:
    if row is None or row.expires_at <= now:
        raise LinkError("This link is invalid, expired or already used. Please request a new one.")
    return row
