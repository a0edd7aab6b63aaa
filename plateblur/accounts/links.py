"""Single-use secrets that go out by mail; the store holds only their hashes."""

from __future__ import annotations

from datetime import datetime, timedelta
from urllib.parse import quote

from sqlalchemy import Connection, Row, Select, delete, insert, select

from plateblur.accounts.credentials import fast_hash, random_secret
from plateblur.accounts.models import Account, MailedLink
from plateblur.accounts.store import Store
from plateblur.accounts.types import LinkError

# Source: OWASP Forgot Password Cheat Sheet ("expire after an appropriate period"); a reset is
# acted on at once.
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
    """Return a link that works once; older ones of the account and purpose work no more.

    Args:
        connection: in a write.
        account_id: whose.
        credentials_version: the account's when it was proved who asks; the link works as long as
            the account has no other.
        purpose: a key of `VALID_FOR`.
        page_url: the page that takes it as `?token=`.
        now: UTC.
        detail: kept beside it, for whoever takes it.
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
    """Look whether a link would work, before anything costly is done for it.

    Raises:
        LinkError: unknown, used or too old.
        StoreUnavailableError: the database can't be reached.
    """
    with store.read() as connection:
        _check(connection.execute(_found(secret, purpose)).first(), now)


def use_link(
    connection: Connection, secret: str, *, purpose: str, now: datetime
) -> tuple[int, str]:
    """Take a link's secret out of the store; return its account and detail.

    Args:
        connection: in a write.
        secret: as sent.
        purpose: a key of `VALID_FOR`.
        now: UTC.

    Raises:
        LinkError: unknown, used or too old.
    """
    # The account first, as everywhere, so that no two writes wait for each other in a ring.
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
        raise LinkError("The link is unknown, was used before, or is too old; ask for a new one.")
    return row
