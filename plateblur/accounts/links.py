"""Single-use secrets that go out by mail; the store holds only their hashes."""

from __future__ import annotations

from datetime import datetime, timedelta
from urllib.parse import quote

from sqlalchemy import Connection, delete, insert

from plateblur.accounts.credentials import fast_hash, random_secret
from plateblur.accounts.models import MailedLink
from plateblur.accounts.types import LinkError

# Source: OWASP Forgot Password Cheat Sheet ("expire after an appropriate period"); a reset is
# acted on at once, an activation may wait for the next day.
VALID_FOR = {
    "activate": timedelta(days=2),
    "reset": timedelta(hours=1),
    "email": timedelta(hours=24),
}


def make_link(
    connection: Connection,
    *,
    account_id: int,
    purpose: str,
    page_url: str,
    now: datetime,
    detail: str = "",
) -> str:
    """Return a link that works once; older ones of the account and purpose work no more.

    Args:
        connection: in a write.
        account_id: whose.
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
            purpose=purpose,
            detail=detail,
            expires_at=now + VALID_FOR[purpose],
        )
    )
    return f"{page_url}?token={quote(secret)}"


def use_link(
    connection: Connection, secret: str, *, purpose: str, now: datetime
) -> tuple[int, str]:
    """Take a link's secret out of the store; return its account and detail.

    Raises:
        LinkError: unknown, used or too old.
    """
    row = connection.execute(
        delete(MailedLink)
        .where(MailedLink.secret_hash == fast_hash(secret), MailedLink.purpose == purpose)
        .returning(MailedLink.account_id, MailedLink.detail, MailedLink.expires_at)
    ).first()
    if row is None or row.expires_at <= now:
        raise LinkError("The link is unknown, was used before, or is too old; ask for a new one.")
    return row.account_id, row.detail
