"""The `JobStore` over the store: what an account sends, sees and fetches of its jobs."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Integer,
    Row,
    String,
    and_,
    bindparam,
    delete,
    func,
    insert,
    select,
    update,
)

from plateblur.accounts.job_types import (
    ItemResult,
    ItemState,
    ItemView,
    JobLimitError,
    JobLimits,
    JobState,
    JobView,
    NewItem,
    ResultView,
    Webhook,
    WebhookState,
)
from plateblur.accounts.models import Job, JobItem, Utc
from plateblur.accounts.quota import Clock, lock_account, utc_now
from plateblur.accounts.sealing import Seal
from plateblur.accounts.store import WITH_PHOTO, Store
from plateblur.accounts.types import (
    AccountClosedError,
    NotFoundError,
    Once,
    OtherRequestError,
)

RECEIVING_FOR = timedelta(hours=1)  # an upload that takes longer was broken off
ROW_BYTES = 1024  # of a job, and of each photo, beside what it holds: names, errors, a webhook
DELETED_AT_ONCE = 1000  # jobs in one statement; SQLite takes 32,766 values at most

# What waits or was done takes room until it is deleted, also what failed and wasn't counted.
HELD_BYTES = select(func.coalesce(func.sum(Job.bytes_held + ROW_BYTES * (Job.photos + 1)), 0))

# The statements of every photo, built once; see `quota`.
_OF_JOB = bindparam("of_job", type_=String())
_MINE = and_(Job.id == _OF_JOB, Job.account_id == bindparam("of_account", type_=BigInteger()))
_IS_DONE = and_(
    JobItem.job_id == _OF_JOB,
    JobItem.number == bindparam("of_number", type_=Integer()),
    JobItem.state == ItemState.DONE,
)
_NOT_EXPIRED = Job.expires_at > bindparam("now", type_=Utc())
_DONE = and_(_MINE, _NOT_EXPIRED, _IS_DONE)
_RESULTS = (
    select(JobItem.number, JobItem.media_type, JobItem.size)
    .join(Job, Job.id == JobItem.job_id)
    .where(_MINE, _NOT_EXPIRED, JobItem.state == ItemState.DONE)
    .order_by(JobItem.number)
)
_RESULT_BYTES = select(JobItem.size).join(Job, Job.id == JobItem.job_id).where(_DONE)
_RESULT = (
    select(Job.sealed_key, JobItem.photo, JobItem.media_type, JobItem.answer, JobItem.predictions)
    .join(Job, Job.id == JobItem.job_id)
    .where(_DONE)
    .execution_options(**WITH_PHOTO)
)
_FETCH = (
    update(JobItem)
    .where(
        JobItem.number.in_(bindparam("of_numbers", expanding=True)),
        JobItem.state == ItemState.DONE,
        JobItem.job_id.in_(select(Job.id).where(_MINE)),
    )
    .values(state=ItemState.FETCHED, photo=None)
    .returning(JobItem.size)
)
_GIVE_BACK = (
    update(Job)
    .where(Job.id == _OF_JOB)
    .values(bytes_held=Job.bytes_held - bindparam("fewer_bytes", type_=BigInteger()))
)


class StoreJobs:
    """Jobs in the store's tables."""

    def __init__(
        self,
        store: Store,
        limits: JobLimits,
        *,
        clock: Clock = utc_now,
    ) -> None:
        """Join the parts.

        Args:
            store: open and migrated.
            limits: of what may wait.
            clock: aware, UTC.
        """
        self._store = store
        self._limits = limits
        self._clock = clock
        self._wrapping = wrapping_seal(store)

    def begin(self, account_id: int, *, room_bytes: int) -> str:
        """Return the id of a new job; see `JobStore`."""
        now, job_id, seal = self._clock(), secrets.token_hex(16), Seal.new()
        with self._store.write() as connection:
            lock_account(connection, account_id)
            self._store.lock(connection, "room for jobs")
            mine, all_bytes = held_bytes(connection, account_id)
            jobs = connection.execute(
                select(func.count())
                .select_from(Job)
                .where(Job.account_id == account_id, Job.state != JobState.DONE)
            ).scalar_one()
            if jobs >= self._limits.jobs:
                raise JobLimitError(
                    f"You have {jobs} unfinished jobs, as many as are allowed. Wait for one of "
                    "them, or delete one."
                )
            if mine + room_bytes > self._limits.account_bytes:
                raise JobLimitError(
                    f"Your jobs would take more than {_mb(self._limits.account_bytes)} MB. Fetch "
                    "results or delete jobs first."
                )
            if all_bytes + room_bytes > self._limits.all_bytes:
                raise JobLimitError("The service has no room for more jobs now. Try again later.")
            connection.execute(
                insert(Job).values(
                    id=job_id,
                    account_id=account_id,
                    state=JobState.RECEIVING,
                    sealed_key=seal.wrap(by=self._wrapping, purpose=job_id),
                    options=b"",
                    webhook_state=WebhookState.NONE,
                    webhook_attempts=0,
                    photos=0,
                    bytes_held=room_bytes,
                    created_at=now,
                    expires_at=now + RECEIVING_FOR,
                )
            )
        return job_id

    def add(self, job_id: str, items: Sequence[NewItem]) -> None:
        """Add photos to a job that isn't open yet; see `JobStore`."""
        with self._store.write() as connection:
            job = connection.execute(
                update(Job)
                .where(Job.id == job_id, Job.state == JobState.RECEIVING)
                .values(photos=Job.photos + len(items))
                .returning(Job.photos, Job.bytes_held, Job.sealed_key)
            ).first()
            if job is None:
                raise NotFoundError("The job was deleted.")
            if job.photos > self._limits.photos:
                raise JobLimitError(f"A job may have {self._limits.photos} photos.")
            seal = self._seal(job_id, job.sealed_key)
            first = job.photos - len(items) + 1
            rows = [_row(job_id, number, item, seal) for number, item in enumerate(items, first)]
            connection.execute(insert(JobItem), rows)
            held = connection.execute(
                select(func.sum(JobItem.size)).where(JobItem.job_id == job_id)
            ).scalar_one()
            if held > job.bytes_held:
                raise JobLimitError("The photos are longer than the request that brought them.")

    def open(
        self, job_id: str, *, options: bytes, webhook: Webhook | None, once: Once | None
    ) -> str:
        """Let the workers begin; see `JobStore`."""
        with self._store.write() as connection:
            job = connection.execute(
                select(Job.account_id, Job.sealed_key).where(Job.id == job_id)
            ).first()
            if job is None:
                raise NotFoundError("The job was deleted.")
            lock_account(connection, job.account_id)
            hashes = self._hashes(job.account_id, once)
            earlier = self._earlier(connection, job.account_id, hashes)
            if earlier is not None:
                connection.execute(delete(Job).where(Job.id == job_id))
            else:
                seal = self._seal(job_id, job.sealed_key)
                self._open(connection, job_id, seal, options=options, webhook=webhook, more=hashes)
        if earlier is None:
            return job_id
        if earlier.once_request != hashes["once_request"]:
            raise OtherRequestError("The key was sent with another request.")
        return str(earlier.id)

    def _hashes(self, account_id: int, once: Once | None) -> dict[str, str]:
        if once is None:
            return {}
        return {
            "once_key": self._store.keyed_hash("job key", f"{account_id} {once.key}"),
            "once_request": self._store.keyed_hash("job request", once.fingerprint.hex()),
        }

    def _earlier(
        self, connection: Connection, account_id: int, hashes: dict[str, str]
    ) -> Row[*tuple[Any, ...]] | None:
        """Return the job that was opened with the same key."""
        if not hashes:
            return None
        with_key = and_(Job.account_id == account_id, Job.once_key == hashes["once_key"])
        connection.execute(
            update(Job).where(with_key, Job.expires_at <= self._clock()).values(once_key=None)
        )
        return connection.execute(select(Job.id, Job.once_request).where(with_key)).first()

    def _open(
        self,
        connection: Connection,
        job_id: str,
        seal: Seal,
        *,
        options: bytes,
        webhook: Webhook | None,
        more: dict[str, str],
    ) -> None:
        now = self._clock()
        held, waiting = connection.execute(
            select(
                func.coalesce(func.sum(JobItem.size), 0),
                func.count().filter(JobItem.state == ItemState.WAITING),
            ).where(JobItem.job_id == job_id)
        ).one()
        sealed = None
        if webhook is not None:
            sealed = seal.close(orjson.dumps([webhook.url, webhook.secret]), purpose="webhook")
        connection.execute(
            update(Job)
            .where(Job.id == job_id)
            .values(
                state=JobState.WORKING if waiting else JobState.DONE,
                options=options,
                webhook=sealed,
                webhook_state=WebhookState.WAITING if sealed else WebhookState.NONE,
                webhook_at=None if waiting else now,
                finished_at=None if waiting else now,
                bytes_held=held,
                expires_at=now + self._limits.keep,
                **more,
            )
        )

    def delete(self, account_id: int, job_id: str) -> None:
        """Stop a job, and delete everything of it; see `JobStore`."""
        with self._store.write() as connection:
            if not _delete(connection, _mine(account_id, job_id)):
                raise _no_job()

    def view(self, account_id: int, job_id: str) -> JobView:
        """Return a job; see `JobStore`."""
        with self._store.read() as connection:
            job = connection.execute(select(Job).where(_mine(account_id, job_id))).first()
            if job is None or job.state is JobState.RECEIVING or job.expires_at <= self._clock():
                raise _no_job()
            items = connection.execute(
                select(
                    *(JobItem.number, JobItem.name, JobItem.state, JobItem.cd, JobItem.error),
                    *(JobItem.answer, JobItem.media_type),
                )
                .where(JobItem.job_id == job_id)
                .order_by(JobItem.number)
            ).all()
        seal = self._seal(job_id, job.sealed_key)
        return JobView(
            job_id=job.id,
            state=job.state,
            created_at=job.created_at,
            finished_at=job.finished_at,
            expires_at=job.expires_at,
            items=tuple(
                ItemView(
                    number=one.number,
                    name=seal.open(one.name, purpose=f"name {one.number}").decode(),
                    state=one.state,
                    cd=one.cd,
                    error=one.error,
                    answer=(
                        None
                        if one.answer is None
                        else seal.open(one.answer, purpose=f"answer {one.number}")
                    ),
                    media_type=one.media_type,
                )
                for one in items
            ),
            webhook=job.webhook_state,
            webhook_attempts=job.webhook_attempts,
            webhook_status=job.webhook_status,
        )

    def jobs_of(self, account_id: int) -> list[str]:
        """Return the ids of an account's jobs, newest first."""
        with self._store.read() as connection:
            of_account = select(Job.id).where(
                Job.account_id == account_id,
                Job.state != JobState.RECEIVING,
                Job.expires_at > self._clock(),
            )
            ids = connection.execute(of_account.order_by(Job.created_at.desc())).scalars()
            return [str(one) for one in ids]

    def result_bytes(self, account_id: int, job_id: str, number: int) -> int:
        """Return how long a blurred photo is; see `JobStore`."""
        with self._store.read() as connection:
            one = self._of_item(account_id, job_id, number)
            size: int | None = connection.execute(_RESULT_BYTES, one).scalar()
        if size is None:
            raise _no_result()
        return size

    def result(self, account_id: int, job_id: str, number: int) -> ItemResult:
        """Return a blurred photo; see `JobStore`."""
        with self._store.read() as connection:
            one = self._of_item(account_id, job_id, number)
            row = connection.execute(_RESULT, one).first()
        if row is None:
            raise _no_result()
        seal = self._seal(job_id, row.sealed_key)
        return ItemResult(
            seal.open(row.photo, purpose=f"result {number}"),
            row.media_type,
            seal.open(row.answer, purpose=f"answer {number}"),
            row.predictions,
        )

    def results(self, account_id: int, job_id: str) -> list[ResultView]:
        """Return what can be fetched of a job; see `JobStore`."""
        mine = {"of_account": account_id, "of_job": job_id, "now": self._clock()}
        with self._store.read() as connection:
            rows = connection.execute(_RESULTS, mine).all()
        if not rows:
            raise _no_result()
        return [ResultView(row.number, row.media_type, row.size) for row in rows]

    def forget_results(self, account_id: int, job_id: str, numbers: Sequence[int]) -> None:
        """Delete blurred photos that were fetched."""
        # An account that was deleted took its jobs with it.
        with suppress(AccountClosedError), self._store.write() as connection:
            lock_account(connection, account_id)
            some = {"of_account": account_id, "of_job": job_id, "of_numbers": list(numbers)}
            sizes = connection.execute(_FETCH, some).scalars().all()
            if sizes:
                connection.execute(_GIVE_BACK, {"of_job": job_id, "fewer_bytes": sum(sizes)})

    def _of_item(self, account_id: int, job_id: str, number: int) -> dict[str, Any]:
        item = {"of_account": account_id, "of_job": job_id, "of_number": number}
        return item | {"now": self._clock()}

    def _seal(self, job_id: str, sealed_key: bytes) -> Seal:
        return Seal.unwrap(sealed_key, by=self._wrapping, purpose=job_id)


def prune(store: Store, *, now: datetime) -> None:
    """Delete the jobs that have expired, with their keys.

    Raises:
        StoreUnavailableError: the rest is deleted next time.
    """
    with store.write() as connection:
        _delete(connection, Job.expires_at <= now)


def wrapping_seal(store: Store) -> Seal:
    """Return what the keys of jobs are wrapped with."""
    return Seal(bytes.fromhex(store.keyed_hash("seal", "jobs")))


def _mine(account_id: int, job_id: str) -> ColumnElement[bool]:
    return and_(Job.id == job_id, Job.account_id == account_id)


def _no_job() -> NotFoundError:
    return NotFoundError("There is no such job.")


def _no_result() -> NotFoundError:
    return NotFoundError("There is no such result, or it was fetched before.")


def _mb(size: int) -> int:
    return size // 1024**2


def _row(job_id: str, number: int, item: NewItem, seal: Seal) -> dict[str, Any]:
    content = (item.url or "").encode() if item.photo is None else item.photo
    return {
        "job_id": job_id,
        "number": number,
        "state": ItemState.WAITING if item.error is None else ItemState.FAILED,
        "name": seal.close(item.name.encode(), purpose=f"name {number}"),
        "is_url": item.photo is None,
        "photo": seal.close(content, purpose=f"photo {number}"),
        "size": len(content),
        "predictions": 0,
        "attempts": 0,
        "media_type": item.media_type,
        "cd": None if item.error is None else "1014",
        "error": item.error,
    }


def _delete(connection: Connection, which: ColumnElement[bool]) -> int:
    """Delete jobs, and return how many there were.

    Their photos first, because whatever works on one locks it before its job: in the other order,
    the two could wait for each other.
    """
    ids = connection.execute(select(Job.id).where(which)).scalars().all()
    for at in range(0, len(ids), DELETED_AT_ONCE):
        some = ids[at : at + DELETED_AT_ONCE]
        connection.execute(delete(JobItem).where(JobItem.job_id.in_(some)))
        connection.execute(delete(Job).where(Job.id.in_(some)))
    return len(ids)


def held_bytes(connection: Connection, account_id: int) -> tuple[int, int]:
    """Return the bytes that the account's jobs hold, and those of all jobs."""
    mine = connection.execute(HELD_BYTES.where(Job.account_id == account_id)).scalar_one()
    return int(mine), int(connection.execute(HELD_BYTES).scalar_one())
