"""The `JobQueue` over the store: workers claim photos and keep results, webhooks become due.

A photo's result, the deletion of what came, and its count are one transaction, so that a photo is
answered once and counted once, whichever process is killed whenever. A worker holds a claim for a
short time and renews it; after that, another may have the photo, and the first one's result no
longer counts. On PostgreSQL, workers of several hosts skip the rows that others are claiming;
SQLite lets one transaction write at a time.
"""

from __future__ import annotations

import secrets
from collections.abc import Set
from datetime import datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import Connection, Row, and_, func, or_, select, update
from sqlalchemy.orm import aliased

from plateblur.accounts import quota
from plateblur.accounts.job_types import (
    Claim,
    DueWebhook,
    ItemResult,
    ItemState,
    JobLimitError,
    JobLimits,
    JobState,
    Webhook,
    WebhookState,
)
from plateblur.accounts.jobs import held_bytes, hold, wrapping_seal
from plateblur.accounts.models import Account, Job, JobItem
from plateblur.accounts.quota import Clock, lock_account, utc_now
from plateblur.accounts.sealing import Seal
from plateblur.accounts.store import Store
from plateblur.accounts.types import AccountStatus, PlanPeriod

CLAIM_FOR = timedelta(seconds=30)  # renewed while the photo is in work
MAX_CLAIMS = 8  # of one photo: more than bad luck with hosts that go down
WEBHOOK_LEASE = timedelta(minutes=1)
# Source: Standard Webhooks, "Deliverability and reliability": the waits before each attempt.
WEBHOOK_WAITS = tuple(
    timedelta(seconds=seconds) for seconds in (0, 5, 300, 1800, 7200, 18_000, 36_000, 36_000)
)
UNFINISHED = (ItemState.WAITING, ItemState.WORKING)


class StoreQueue:
    """The jobs in the store's tables, as workers see them."""

    def __init__(
        self,
        store: Store,
        limits: JobLimits,
        *,
        claim_for: timedelta = CLAIM_FOR,
        clock: Clock = utc_now,
    ) -> None:
        """Join the parts.

        Args:
            store: open and migrated.
            limits: of what may wait.
            claim_for: after this time without a renewal, another worker may have a photo.
            clock: aware, UTC.
        """
        self._store = store
        self._limits = limits
        self._claim_for = claim_for
        self._clock = clock
        self._wrapping = wrapping_seal(store)

    def claim(self, *, clips: bool = False) -> Claim | None:
        """Return the next photo to blur; see `JobQueue`."""
        now = self._clock()
        other = aliased(Job)
        account_claimed_at = (
            select(func.max(other.claimed_at))
            .where(other.account_id == Job.account_id)
            .scalar_subquery()
        )
        waits = and_(
            Job.state == JobState.WORKING,
            Job.expires_at > now,
            Account.status == AccountStatus.ACTIVE,
            JobItem.media_type.is_not(None) if clips else JobItem.media_type.is_(None),
            or_(
                JobItem.state == ItemState.WAITING,
                and_(JobItem.state == ItemState.WORKING, JobItem.lease_until <= now),
            ),
        )
        joined = (
            select(JobItem.id)
            .join(Job, Job.id == JobItem.job_id)
            .join(Account, Account.id == Job.account_id)
            .where(waits)
            .limit(1)
        )
        with self._store.read() as connection:  # On SQLite, a look keeps no writer waiting.
            if connection.execute(joined).first() is None:
                return None
        with self._store.write(durable=False) as connection:
            row = connection.execute(
                joined.with_only_columns(
                    *(JobItem.id, JobItem.number, JobItem.photo, JobItem.is_url, JobItem.attempts),
                    *(JobItem.job_id, JobItem.media_type),
                    *(Job.account_id, Job.options, Job.sealed_key),
                )
                .order_by(
                    account_claimed_at.asc().nulls_first(),
                    Job.claimed_at.asc().nulls_first(),
                    JobItem.id,  # older jobs first, and a job's photos in their order
                )
                .with_for_update(of=JobItem, skip_locked=True)
            ).first()
            if row is None:
                return None
            if row.attempts >= MAX_CLAIMS:
                self._end(
                    connection,
                    row,
                    {
                        "state": ItemState.FAILED,
                        "cd": "2001",
                        "error": f"The photo was begun {MAX_CLAIMS} times and never finished.",
                        "photo": None,
                        "size": 0,
                    },
                    now,
                )
                return None
            token = secrets.token_hex(16)
            connection.execute(
                update(JobItem)
                .where(JobItem.id == row.id)
                .values(
                    state=ItemState.WORKING,
                    token=token,
                    lease_until=now + self._claim_for,
                    attempts=row.attempts + 1,
                )
            )
            connection.execute(update(Job).where(Job.id == row.job_id).values(claimed_at=now))
        seal = self._seal(row.job_id, row.sealed_key)
        content = seal.open(row.photo, purpose=f"photo {row.number}")
        return Claim(
            item_id=row.id,
            token=token,
            account_id=row.account_id,
            options=row.options,
            photo=None if row.is_url else content,
            url=content.decode() if row.is_url else None,
            media_type=row.media_type,
        )

    def renew(self, tokens: list[str]) -> set[str]:
        """Keep claims from running out; see `JobQueue`."""
        until = self._clock() + self._claim_for
        with self._store.write(durable=False) as connection:
            mine = JobItem.token.in_(tokens)
            connection.execute(update(JobItem).where(mine).values(lease_until=until))
            return {
                str(one) for one in connection.execute(select(JobItem.token).where(mine)).scalars()
            }

    def finish(self, claim: Claim, plan: PlanPeriod, result: ItemResult) -> bool:
        """Keep the result and count the photo; see `JobQueue`."""
        now = self._clock()
        with self._store.write() as connection:
            lock_account(connection, claim.account_id)
            row = _claimed(connection, claim)
            if row is None:
                return False
            quota.count_photo(
                connection, claim.account_id, plan, predictions=result.predictions, now=now
            )
            mine, all_bytes = held_bytes(connection, claim.account_id)
            more = len(result.photo) - row.size
            if mine + more > self._limits.account_bytes or (
                all_bytes + more > self._limits.all_bytes
            ):
                raise JobLimitError(
                    "There is no room for the result. Fetch results or delete jobs first."
                )
            seal = self._seal(row.job_id, row.sealed_key)
            self._end(
                connection,
                row,
                {
                    "state": ItemState.DONE,
                    "photo": seal.close(result.photo, purpose=f"result {row.number}"),
                    "size": len(result.photo),
                    "answer": seal.close(result.answer, purpose=f"answer {row.number}"),
                    "media_type": result.media_type,
                    "predictions": result.predictions,
                },
                now,
            )
        return True

    def fail(self, claim: Claim, *, cd: str, error: str) -> None:
        """Note that the photo can't be blurred; it isn't counted."""
        with self._store.write() as connection:
            row = _claimed(connection, claim)
            if row is not None:
                values = {"cd": cd, "error": error, "photo": None, "size": 0}
                self._end(connection, row, {"state": ItemState.FAILED, **values}, self._clock())

    def put_back(self, claim: Claim) -> None:
        """Let another worker have the photo."""
        with self._store.write(durable=False) as connection:
            connection.execute(
                update(JobItem)
                .where(JobItem.id == claim.item_id, JobItem.token == claim.token)
                .values(
                    state=ItemState.WAITING,
                    token=None,
                    lease_until=None,
                    attempts=JobItem.attempts - 1,
                )
            )

    def due_webhook(self, *, passing_over: Set[int] = frozenset()) -> DueWebhook | None:
        """Return a message to send; see `JobQueue`."""
        now = self._clock()
        due = and_(
            Job.state == JobState.DONE,
            Job.webhook_state == WebhookState.WAITING,
            Job.webhook_at <= now,
            Job.expires_at > now,
            Job.account_id.not_in(list(passing_over)),
        )
        with self._store.read() as connection:
            if connection.execute(select(Job.id).where(due).limit(1)).first() is None:
                return None
        with self._store.write() as connection:
            job = connection.execute(
                select(Job)
                .where(due)
                .order_by(Job.webhook_at)
                .limit(1)
                .with_for_update(skip_locked=True)
            ).first()
            if job is None:
                return None
            counts = connection.execute(
                select(JobItem.state, func.count())
                .where(JobItem.job_id == job.id)
                .group_by(JobItem.state)
            ).all()
            connection.execute(
                update(Job)
                .where(Job.id == job.id)
                .values(webhook_attempts=job.webhook_attempts + 1, webhook_at=now + WEBHOOK_LEASE)
            )
        seal = self._seal(job.id, job.sealed_key)
        url, secret = orjson.loads(seal.open(job.webhook, purpose="webhook"))
        return DueWebhook(
            job_id=job.id,
            account_id=job.account_id,
            attempt=job.webhook_attempts + 1,
            webhook=Webhook(url, secret),
            created_at=job.created_at,
            finished_at=job.finished_at,
            expires_at=job.expires_at,
            counts={str(state): count for state, count in counts},
        )

    def note_webhook(self, due: DueWebhook, *, status: int | None) -> None:
        """Note how the receiver answered; see `JobQueue`."""
        values: dict[str, Any] = {"webhook_status": status}
        if status is not None and 200 <= status < 300:
            values["webhook_state"] = WebhookState.DELIVERED
        elif due.attempt >= len(WEBHOOK_WAITS) or status == 410:  # Source: the same; 410 is Gone.
            values["webhook_state"] = WebhookState.FAILED
        else:
            values["webhook_at"] = self._clock() + WEBHOOK_WAITS[due.attempt]
        with self._store.write() as connection:
            connection.execute(
                update(Job)
                .where(Job.id == due.job_id, Job.webhook_attempts == due.attempt)
                .values(**values)
            )

    def _seal(self, job_id: str, sealed_key: bytes) -> Seal:
        return Seal.unwrap(sealed_key, by=self._wrapping, purpose=job_id)

    def _end(
        self,
        connection: Connection,
        row: Row[*tuple[Any, ...]],
        values: dict[str, Any],
        now: datetime,
    ) -> None:
        """End a photo, and with the last one its job."""
        before = connection.execute(select(JobItem.size).where(JobItem.id == row.id)).scalar_one()
        connection.execute(
            update(JobItem)
            .where(JobItem.id == row.id)
            .values(token=None, lease_until=None, **values)
        )
        hold(connection, row.job_id, values["size"] - before)  # also locks the job's row
        unfinished = connection.execute(
            select(func.count())
            .select_from(JobItem)
            .where(JobItem.job_id == row.job_id, JobItem.state.in_(UNFINISHED))
        ).scalar_one()
        if not unfinished:
            connection.execute(
                update(Job)
                .where(Job.id == row.job_id)
                .values(state=JobState.DONE, finished_at=now, webhook_at=now)
            )


def _claimed(connection: Connection, claim: Claim) -> Row[*tuple[Any, ...]] | None:
    """Return the photo of a claim that still holds, locked."""
    return connection.execute(
        select(JobItem.id, JobItem.job_id, JobItem.number, JobItem.size, Job.sealed_key)
        .join(Job, Job.id == JobItem.job_id)
        .where(JobItem.id == claim.item_id, JobItem.token == claim.token)
        .with_for_update(of=JobItem)
    ).first()
