"""The `JobQueue` over the store: workers claim photos and keep results, webhooks become due.

A photo's result, the deletion of what came, and its count are one transaction, so that a photo is
answered once and counted once, whichever process is killed whenever. A worker holds a claim for a
short time and renews it; after that, another may have the photo, and the first one's result no
longer counts. On PostgreSQL, workers of several hosts skip the rows that others are claiming;
SQLite lets one transaction write at a time.

Whatever ends a photo locks the account first, so that those that end the last two photos of a job
see each other. The statements of every photo are constants; see `quota`.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence, Set
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import (
    BigInteger,
    Connection,
    Integer,
    LargeBinary,
    Row,
    Select,
    String,
    Update,
    and_,
    bindparam,
    case,
    exists,
    func,
    or_,
    select,
    update,
)
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
from plateblur.accounts.jobs import HELD_BYTES, wrapping_seal
from plateblur.accounts.models import Account, Job, JobItem, Utc
from plateblur.accounts.quota import Clock, lock_account, utc_now
from plateblur.accounts.sealing import Seal
from plateblur.accounts.store import WITH_PHOTO, Store
from plateblur.accounts.types import AccountClosedError, AccountStatus, PlanPeriod

CLAIM_FOR = timedelta(seconds=30)  # renewed while the photo is in work
CLAIM_BYTES = 2 * 1024**2  # of the photos that one claim holds, unless it holds a single one
MAX_CLAIMS = 8  # of one photo: more than bad luck with hosts that go down
WEBHOOK_LEASE = timedelta(minutes=1)
# Source: Standard Webhooks, "Deliverability and reliability": the waits before each attempt.
WEBHOOK_WAITS = tuple(
    timedelta(seconds=seconds) for seconds in (0, 5, 300, 1800, 7200, 18_000, 36_000, 36_000)
)
UNFINISHED = (ItemState.WAITING, ItemState.WORKING)

_NOW = bindparam("now", type_=Utc())
_UNTIL = bindparam("until", type_=Utc())
_TOKEN = bindparam("of_token", type_=String())
_OF_JOB = bindparam("of_job", type_=String())


def _claiming(*, clips: bool) -> tuple[Select[str], tuple[Update, Update]]:
    """Return the statement that looks for the job whose turn it is, and those that claim of it.

    The first claims photos of that job: jobs are put in order, and not all their photos, of which
    there may be very many. Where others are just claiming all of them, the second takes any photo
    that waits: a host that is stuck meanwhile stops nobody.
    """
    may_be_claimed = and_(
        JobItem.media_type.is_not(None) if clips else JobItem.media_type.is_(None),
        or_(
            JobItem.state == ItemState.WAITING,
            and_(JobItem.state == ItemState.WORKING, JobItem.lease_until <= _NOW),
        ),
    )
    jobs = (
        select(Job.id)
        .join(Account, Account.id == Job.account_id)
        .where(
            Job.state == JobState.WORKING,
            Job.expires_at > _NOW,
            Account.status == AccountStatus.ACTIVE,
        )
    )
    other = aliased(Job)
    last = (
        select(other.account_id, func.max(other.claimed_at).label("claimed_at"))
        .group_by(other.account_id)
        .subquery()
    )
    its_turn = (
        jobs.join(last, last.c.account_id == Job.account_id)
        .where(exists().where(JobItem.job_id == Job.id, may_be_claimed))
        .order_by(
            last.c.claimed_at.asc().nulls_first(),
            Job.claimed_at.asc().nulls_first(),
            *(Job.created_at, Job.id),
        )
        .limit(1)
    )
    # What was begun before comes alone, so that a photo that takes a host down with it doesn't use
    # up the claims of those beside it; and a URL, because nobody knows how long its photo is.
    is_small = and_(JobItem.attempts == 0, JobItem.is_url.is_(False))
    weight = case((is_small, JobItem.size), else_=CLAIM_BYTES).label("weight")
    items = select(JobItem.id).where(may_be_claimed).with_for_update(skip_locked=True)
    # A CTE, because PostgreSQL may run a subquery that locks more than once, but never this.
    few = (
        items.where(JobItem.job_id == its_turn.scalar_subquery())
        .add_columns(JobItem.number, weight)
        .order_by(JobItem.number)
        .limit(bindparam("most", type_=Integer()))
        .cte("few")
    )
    with_those_before = func.sum(few.c.weight).over(order_by=few.c.number)
    place = func.row_number().over(order_by=few.c.number)
    weighed = select(few.c.id, place.label("place"), with_those_before.label("bytes")).subquery()
    claim = (
        update(JobItem)
        .values(
            state=ItemState.WORKING,
            token=_TOKEN,
            lease_until=_UNTIL,
            attempts=JobItem.attempts + 1,
        )
        .returning(
            *(JobItem.id, JobItem.job_id, JobItem.number, JobItem.photo, JobItem.is_url),
            *(JobItem.attempts, JobItem.media_type),
        )
        .execution_options(**WITH_PHOTO)
    )
    fitting = select(weighed.c.id).where(or_(weighed.c.place == 1, weighed.c.bytes <= CLAIM_BYTES))
    return its_turn, (
        claim.where(JobItem.id.in_(fitting)),
        claim.where(JobItem.id == items.where(JobItem.job_id.in_(jobs)).limit(1).scalar_subquery()),
    )


_CLAIMING = {clips: _claiming(clips=clips) for clips in (False, True)}
_NOTE_CLAIM = (
    update(Job)
    .where(Job.id == _OF_JOB)
    .values(claimed_at=_NOW)
    .returning(Job.account_id, Job.options, Job.sealed_key)
)
_CLAIMED = (  # locked, as far as the claims still hold; in order, so that no two wait in a circle
    select(
        *(JobItem.id, JobItem.job_id, JobItem.number, JobItem.size, Job.sealed_key),
        HELD_BYTES.where(Job.account_id == bindparam("of_account", type_=BigInteger()))
        .correlate(None)
        .scalar_subquery()
        .label("account_bytes"),
        HELD_BYTES.correlate(None).scalar_subquery().label("all_bytes"),
    )
    .join(Job, Job.id == JobItem.job_id)
    .where(JobItem.id.in_(bindparam("of_items", expanding=True)), JobItem.token == _TOKEN)
    .order_by(JobItem.id)
    .with_for_update(of=JobItem)
)
_DONE = (
    update(JobItem)
    .where(JobItem.id == bindparam("of_item", type_=BigInteger()))
    .values(
        state=ItemState.DONE,
        token=None,
        lease_until=None,
        photo=bindparam("of_photo", type_=LargeBinary()),
        size=bindparam("of_size", type_=BigInteger()),
        answer=bindparam("of_answer", type_=LargeBinary()),
        media_type=bindparam("of_media_type", type_=String()),
        predictions=bindparam("of_predictions", type_=Integer()),
    )
)
_FAILED = (
    update(JobItem)
    .where(JobItem.id == bindparam("of_item", type_=BigInteger()))
    .values(
        state=ItemState.FAILED,
        token=None,
        lease_until=None,
        photo=None,
        size=0,
        cd=bindparam("of_cd", type_=String()),
        error=bindparam("of_error", type_=String()),
    )
)
_HOLD = (  # and return how many photos aren't finished
    update(Job)
    .where(Job.id == _OF_JOB)
    .values(bytes_held=Job.bytes_held + bindparam("more_bytes", type_=BigInteger()))
    .returning(
        select(func.count())
        .select_from(JobItem)
        .where(JobItem.job_id == _OF_JOB, JobItem.state.in_(UNFINISHED))
        .scalar_subquery()
    )
)


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

    def claim(self, *, most: int = 1, clips: bool = False) -> list[Claim]:
        """Return the next photos to blur; see `JobQueue`."""
        now, token = self._clock(), secrets.token_hex(16)
        look, claims = _CLAIMING[clips]
        claiming = {"now": now, "until": now + self._claim_for, "of_token": token, "most": most}
        if self._store.is_sqlite:  # There a look keeps no writer waiting, and a write does.
            with self._store.read() as connection:
                if connection.execute(look, {"now": now}).first() is None:
                    return []
        with self._store.write(durable=False) as connection:
            for claim_some in claims:
                items = connection.execute(claim_some, claiming).all()
                if items:
                    break
            else:
                return []
            of_job = {"of_job": items[0].job_id, "now": now}
            job = connection.execute(_NOTE_CLAIM, of_job).one()
        seal = self._seal(items[0].job_id, job.sealed_key)
        claimed = []
        for item in sorted(items, key=lambda item: item.number):
            content = seal.open(item.photo, purpose=f"photo {item.number}")
            claim = Claim(
                item_id=item.id,
                token=token,
                account_id=job.account_id,
                options=job.options,
                photo=None if item.is_url else content,
                url=content.decode() if item.is_url else None,
                media_type=item.media_type,
            )
            if item.attempts > MAX_CLAIMS:
                begun = f"The photo was begun {MAX_CLAIMS} times and never finished."
                self.fail(claim, cd="2001", error=begun)
            else:
                claimed.append(claim)
        return claimed

    def renew(self, tokens: list[str]) -> set[str]:
        """Keep claims from running out; see `JobQueue`."""
        until = self._clock() + self._claim_for
        with self._store.write(durable=False) as connection:
            mine = JobItem.token.in_(tokens)
            connection.execute(update(JobItem).where(mine).values(lease_until=until))
            return {
                str(one) for one in connection.execute(select(JobItem.token).where(mine)).scalars()
            }

    def finish(self, plan: PlanPeriod, done: Sequence[tuple[Claim, ItemResult]]) -> list[bool]:
        """Keep results and count their photos; see `JobQueue`."""
        now, results = self._clock(), {claim.item_id: result for claim, result in done}
        claims = [claim for claim, _ in done]
        with self._store.write() as connection:
            lock_account(connection, claims[0].account_id)
            rows = _claimed(connection, claims)
            if rows:
                self._keep(connection, plan, rows, results, claims[0].account_id, now)
        held = {row.id for row in rows}
        return [claim.item_id in held for claim in claims]

    def _keep(
        self,
        connection: Connection,
        plan: PlanPeriod,
        rows: Sequence[Row[*tuple[Any, ...]]],
        results: dict[int, ItemResult],
        account_id: int,
        now: datetime,
    ) -> None:
        predictions = [results[row.id].predictions for row in rows]
        quota.count_photos(connection, account_id, plan, predictions, now)
        more = sum(
            len(results[row.id].photo) + len(results[row.id].answer) - row.size for row in rows
        )
        if rows[0].account_bytes + more > self._limits.account_bytes or (
            rows[0].all_bytes + more > self._limits.all_bytes
        ):
            raise JobLimitError(
                "There is no room for the result. Fetch results or delete jobs first."
            )
        seal = self._seal(rows[0].job_id, rows[0].sealed_key)
        ended = []
        for row in rows:
            result = results[row.id]
            ended.append(
                {
                    "of_item": row.id,
                    "of_photo": seal.close(result.photo, purpose=f"result {row.number}"),
                    "of_size": len(result.photo),
                    "of_answer": seal.close(result.answer, purpose=f"answer {row.number}"),
                    "of_media_type": result.media_type,
                    "of_predictions": result.predictions,
                }
            )
        connection.execute(_DONE, ended)
        _hold(connection, rows[0].job_id, now, more_bytes=more)

    def fail(self, claim: Claim, *, cd: str, error: str) -> None:
        """Note that the photo can't be blurred; it isn't counted."""
        # An account that was deleted took its jobs with it.
        with suppress(AccountClosedError), self._store.write() as connection:
            lock_account(connection, claim.account_id)
            for row in _claimed(connection, [claim]):
                failed = {"of_item": row.id, "of_cd": cd, "of_error": error}
                connection.execute(_FAILED, failed)
                _hold(connection, row.job_id, self._clock(), more_bytes=-row.size)

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


def _claimed(connection: Connection, claims: Sequence[Claim]) -> Sequence[Row[*tuple[Any, ...]]]:
    """Return the photos of claims that still hold, locked; `claims` were made together."""
    shown = {
        "of_items": [claim.item_id for claim in claims],
        "of_token": claims[0].token,
        "of_account": claims[0].account_id,
    }
    return connection.execute(_CLAIMED, shown).all()


def _hold(connection: Connection, job_id: str, now: datetime, *, more_bytes: int) -> None:
    """Note what a job holds, and end it with its last photo."""
    more = {"of_job": job_id, "more_bytes": more_bytes}
    if not connection.execute(_HOLD, more).scalar_one():
        connection.execute(
            update(Job)
            .where(Job.id == job_id)
            .values(state=JobState.DONE, finished_at=now, webhook_at=now)
        )
