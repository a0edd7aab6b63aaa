"""Deletes what has passed its period; to be called at the start and about once an hour."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from sqlalchemy import delete

from plateblur.accounts import (
    guests,
    health_log,
    invoices,
    jobs,
    mail,
    payments,
    sessions,
    signup,
    throttle,
    withdrawals,
)
from plateblur.accounts.models import MailedLink, RequestRow
from plateblur.accounts.periods import KEEP_REQUESTS
from plateblur.accounts.store import Store


def prune(store: Store, *, outbox: Path, now: datetime) -> None:
    """Delete what has passed its period; see `periods`.

    Args:
        store: the store.
        outbox: the folder of e-mails that no mail server accepted.
        now: UTC.

    Raises:
        StoreUnavailableError: the rest is deleted next time.
        MailError: an e-mail can't be deleted; the rest is deleted next time.
    """
    mail.prune_outbox(outbox, now=now)
    sessions.prune(store, now=now)
    throttle.prune(store, now=now)
    guests.prune(store, now=now)
    signup.prune_pending(store, now=now)
    signup.prune_trial_hashes(store, now=now)
    invoices.prune(store, now=now)
    payments.prune(store, now=now)
    withdrawals.prune(store, now=now)
    jobs.prune(store, now=now)
    health_log.prune(store, now=now)
    with store.write() as connection:
        connection.execute(delete(MailedLink).where(MailedLink.expires_at <= now))
        connection.execute(delete(RequestRow).where(RequestRow.reserved_at < now - KEEP_REQUESTS))
