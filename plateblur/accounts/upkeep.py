"""What is dropped in time: call it at the start and about once an hour, in one worker or in all."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import delete

from plateblur.accounts import sessions, signup, throttle
from plateblur.accounts.models import MailedLink, RequestRow
from plateblur.accounts.quota import KEEP_REQUESTS
from plateblur.accounts.store import Store


def prune(store: Store, *, now: datetime) -> None:
    """Drop what no rule needs any more: old requests, links, sessions, counters, dead sign-ups.

    Raises:
        StoreUnavailableError: the rest is dropped next time.
    """
    sessions.prune(store, now=now)
    throttle.prune(store, now=now)
    signup.prune_pending(store, now=now)
    with store.write() as connection:
        connection.execute(delete(MailedLink).where(MailedLink.expires_at <= now))
        connection.execute(delete(RequestRow).where(RequestRow.reserved_at < now - KEEP_REQUESTS))
