"""Counting: a request is reserved before its work, then settled or given back.

Every change locks the account first (see `store`), so that parallel clients never get more than
the plan allows. A reservation whose worker died stays unsettled; after its lease it no longer
counts, and a later request of the account deletes it.

The statements of every request are constants, because SQLAlchemy then builds and caches them once,
which is most of their cost.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from math import ceil
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Connection,
    Date,
    Integer,
    and_,
    bindparam,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)

from plateblur.accounts import plans
from plateblur.accounts.models import Account, PackageMonth, RequestRow, UsageDay, Utc
from plateblur.accounts.periods import KEEP_REQUESTS
from plateblur.accounts.store import Store
from plateblur.accounts.types import (
    PREDICTIONS_PER_MONTH,
    AccountClosedError,
    DailyQuotaError,
    InProgressError,
    OtherRequestError,
    PaidQuotaError,
    PlanKind,
    PlanPeriod,
    TooManyRepeatsError,
    Usage,
)

Clock = Callable[[], datetime]

ONCE_FOR = timedelta(hours=24)  # how long a key is remembered; below `KEEP_REQUESTS`
MAX_REPEATS = 10  # of one request: each costs a photo's work and isn't counted
SWEEP_EVERY = 16  # requests; Source: ours, rows left meanwhile cost nothing

_OF_ACCOUNT = bindparam("of_account", type_=BigInteger())
_NOW = bindparam("now", type_=Utc())
_MORE_REQUESTS = bindparam("more_requests", type_=Integer())
_MORE_PREDICTIONS = bindparam("more_predictions", type_=Integer())

_LOCK = select(Account.id).where(Account.id == _OF_ACCOUNT).with_for_update(key_share=True)
_INSERT = insert(RequestRow).returning(RequestRow.id)
_SETTLE = (
    update(RequestRow)
    .where(
        RequestRow.id == bindparam("of_request", type_=BigInteger()),
        RequestRow.settled_at.is_(None),
        RequestRow.lease_until > _NOW,
    )
    .values(settled_at=_NOW, predictions=_MORE_PREDICTIONS)
)
_SETTLE_NOW = (
    update(RequestRow)
    .where(RequestRow.id == bindparam("of_request", type_=BigInteger()))
    .values(settled_at=_NOW, predictions=_MORE_PREDICTIONS)
)
_COUNTING = and_(
    RequestRow.account_id == _OF_ACCOUNT,
    RequestRow.is_trial == bindparam("of_trial", type_=Boolean()),
    RequestRow.reserved_at > bindparam("after", type_=Utc()),
    or_(RequestRow.settled_at.is_not(None), RequestRow.lease_until > _NOW),
)
_WINDOW = select(func.count(), func.min(RequestRow.reserved_at)).where(_COUNTING)
_BLOCKING = (  # this one must leave the window before another one fits
    select(RequestRow.reserved_at)
    .where(_COUNTING)
    .order_by(RequestRow.reserved_at.desc())
    .offset(bindparam("limit_less_one", type_=Integer()))
    .limit(1)
)
_THE_MONTH = and_(
    PackageMonth.account_id == _OF_ACCOUNT,
    PackageMonth.invoice_id == bindparam("of_invoice", type_=BigInteger()),
    PackageMonth.starts_at == bindparam("month_start", type_=Utc()),
)
_MONTH = select(PackageMonth.predictions).where(_THE_MONTH)
_ADD_TO_MONTH = (
    update(PackageMonth)
    .where(_THE_MONTH, PackageMonth.predictions + _MORE_PREDICTIONS <= PREDICTIONS_PER_MONTH)
    .values(predictions=PackageMonth.predictions + _MORE_PREDICTIONS)
)
_ADD_TO_DAY = (
    update(UsageDay)
    .where(UsageDay.account_id == _OF_ACCOUNT, UsageDay.day == bindparam("of_day", type_=Date()))
    .values(
        requests=UsageDay.requests + _MORE_REQUESTS,
        predictions=UsageDay.predictions + _MORE_PREDICTIONS,
    )
)


@dataclass(frozen=True, slots=True)
class OnceHashes:
    """The keyed hashes of `types.Once`, 64 hex digits each: of the key and of the request."""

    key: str
    request: str


@dataclass(frozen=True, slots=True)
class Reserved:
    """One request that was counted.

    Attributes:
        request_id: the store's row.
        account_id: whose.
        plan: what it counts on.
        reserved_at: UTC; decides the window, and the month of its predictions.
        once: of its idempotency key, if it has one.
        is_repeat: it was counted when it was first sent.
    """

    request_id: int
    account_id: int
    plan: PlanPeriod
    reserved_at: datetime
    once: OnceHashes | None = None
    is_repeat: bool = False


@dataclass(frozen=True, slots=True)
class DayOfUse:
    """What an account settled on one UTC day."""

    day: date
    requests: int
    predictions: int


def utc_now() -> datetime:
    """Return the moment, UTC."""
    return datetime.now(UTC)


def reserve(
    store: Store,
    account_id: int,
    plan: PlanPeriod,
    *,
    lease: timedelta,
    once: OnceHashes | None = None,
    clock: Clock = utc_now,
) -> Reserved:
    """Count one request, unless it repeats one that was counted.

    Args:
        store: the store.
        account_id: whose.
        plan: what it counts on.
        lease: after this time an unsettled reservation counts no more.
        once: of its idempotency key, if it has one.
        clock: read once the account is locked, so that moments follow the order of counting.

    Raises:
        DailyQuotaError: the trial's day is used up.
        PaidQuotaError: the last 60 s, or the month's predictions, are used up.
        RepeatError: its key was sent before, and it can't be repeated.
        AccountClosedError: the account was deleted.
        StoreUnavailableError: nothing was counted.
    """
    # Not durable: what a power cut takes was not answered, and settling makes it last.
    with store.write(durable=False) as connection:
        lock_account(connection, account_id)
        now = clock()
        if once is not None:
            first = _first_of(connection, account_id, once, now)
            if first is not None:
                return Reserved(first, account_id, plan, now, once, is_repeat=True)
        _check_window(connection, account_id, plan, now)
        _check_month(connection, account_id, plan, now)
        request_id = _insert(
            connection, account_id, plan, now=now, lease_until=now + lease, once=once
        )
        if request_id % SWEEP_EVERY == 0:
            _sweep(connection, account_id, now)
    return Reserved(request_id, account_id, plan, now, once)


def settle(store: Store, reserved: Reserved, *, predictions: int, clock: Clock = utc_now) -> None:
    """Keep the request counted and add its predictions to the month, in one transaction.

    If a worker is so slow that its lease ran out, its request is counted again: no answer is sent
    uncounted or beyond the plan.

    Raises:
        PaidQuotaError: the month has fewer left, or a late request found its window full; nothing
            was counted.
        DailyQuotaError: a late request found the trial's day used up.
        InProgressError: a late request was sent again meanwhile.
        AccountClosedError: the account was deleted.
        ValueError: `predictions` is negative, or it was already settled.
        StoreUnavailableError: it is not known whether it was counted; give it back.
    """
    if predictions < 0:
        raise ValueError(f"predictions must not be negative, got {predictions}")
    account_id, plan = reserved.account_id, reserved.plan
    with store.write() as connection:
        lock_account(connection, account_id)
        now = clock()
        done = {"of_request": reserved.request_id, "now": now, "more_predictions": predictions}
        if not connection.execute(_SETTLE, done).rowcount:
            _count_anew(connection, reserved, now)
            connection.execute(_SETTLE, done)
        if plan.kind is not PlanKind.TRIAL:
            _add_to_month(connection, account_id, plan, reserved.reserved_at, predictions, now)
        _add_to_day(connection, account_id, reserved.reserved_at.date(), 1, predictions)


def count_photos(
    connection: Connection, account_id: int, plan: PlanPeriod, predictions: list[int], now: datetime
) -> None:
    """Count photos of a job, in the transaction that keeps their results: all of them or none.

    On the trial each counts as a request of the day. On a paid package they don't count toward the
    requests per minute: those bound how fast a client may ask, and a job's photos wait instead.

    Args:
        connection: of a transaction that has locked the account.
        account_id: whose.
        plan: what it counts on.
        predictions: of each photo, those that count toward the month.
        now: UTC.

    Raises:
        DailyQuotaError: the trial's day has fewer left.
        PaidQuotaError: the month has fewer left.
    """
    if plan.kind is PlanKind.TRIAL:
        for of_one in predictions:
            _check_window(connection, account_id, plan, now)
            request_id = _insert(connection, account_id, plan, now=now, lease_until=now)
            settled = {"of_request": request_id, "more_predictions": of_one}
            connection.execute(_SETTLE_NOW, settled | {"now": now})
    else:
        _add_to_month(connection, account_id, plan, now, sum(predictions), now)
    _add_to_day(connection, account_id, now.date(), len(predictions), sum(predictions))


def give_back(store: Store, reserved: Reserved) -> None:
    """Uncount a request, also one whose settling was committed though its answer was lost.

    A request that was repeated stays counted.

    Raises:
        StoreUnavailableError: the lease gives it back later.
    """
    account_id, plan = reserved.account_id, reserved.plan
    with store.write() as connection:
        try:
            lock_account(connection, account_id)
        except AccountClosedError:
            return  # its counters went with it
        # A repeat may have been answered; then the photo was not lost and stays counted.
        row = connection.execute(
            delete(RequestRow)
            .where(RequestRow.id == reserved.request_id, RequestRow.repeats == 0)
            .returning(RequestRow.settled_at, RequestRow.predictions)
        ).first()
        if row is None or row.settled_at is None:
            return
        if plan.kind is not PlanKind.TRIAL:
            month = _month(account_id, plan, reserved.reserved_at)
            connection.execute(_ADD_TO_MONTH, month | {"more_predictions": -row.predictions})
        _add_to_day(connection, account_id, reserved.reserved_at.date(), -1, -row.predictions)


def usage(store: Store, account_id: int, plan: PlanPeriod, *, now: datetime) -> Usage:
    """Return what the plan has used and has left.

    Raises:
        StoreUnavailableError: the database can't be reached.
    """
    paid = plan.kind is not PlanKind.TRIAL
    with store.read() as connection:
        window = _window(account_id, plan.kind, now)
        counted, oldest = connection.execute(_WINDOW, window).one()
        predictions = _predictions(connection, account_id, plan, now) if paid else 0
    return Usage(
        window_requests=counted,
        window_limit=plans.window_limit(plan.kind),
        window_resets_at=plans.window_resets_at(plan.kind, oldest=oldest, now=now),
        predictions=predictions,
        predictions_limit=PREDICTIONS_PER_MONTH if paid else None,
        month_resets_at=plans.month_of(plan.starts_at, now)[1] if paid else None,
    )


def days_of_use(store: Store, account_id: int, *, since: date) -> list[DayOfUse]:
    """Return the days with settled requests, oldest first.

    Raises:
        StoreUnavailableError: the database can't be reached.
    """
    with store.read() as connection:
        rows = connection.execute(
            select(UsageDay.day, UsageDay.requests, UsageDay.predictions)
            .where(UsageDay.account_id == account_id, UsageDay.day >= since)
            .order_by(UsageDay.day)
        ).all()
    return [DayOfUse(row.day, row.requests, row.predictions) for row in rows]


def lock_account(connection: Connection, account_id: int) -> None:
    """Let no other transaction count or hold anything of the account.

    Raises:
        AccountClosedError: it was deleted.
    """
    if connection.execute(_LOCK, {"of_account": account_id}).first() is None:
        raise AccountClosedError("This account was deleted.")


def _first_of(
    connection: Connection, account_id: int, once: OnceHashes, now: datetime
) -> int | None:
    """Return the counted request that one with this key repeats; None where it is the first.

    Raises:
        RepeatError: it can't be repeated.
    """
    with_key = and_(RequestRow.account_id == account_id, RequestRow.once_key == once.key)
    row = connection.execute(
        select(
            RequestRow.id,
            RequestRow.once_request,
            RequestRow.reserved_at,
            RequestRow.settled_at,
            RequestRow.lease_until,
            RequestRow.repeats,
        ).where(with_key)
    ).first()
    if row is None:
        return None
    is_dead = row.settled_at is None and row.lease_until <= now
    if is_dead or row.reserved_at <= now - ONCE_FOR:
        connection.execute(update(RequestRow).where(with_key).values(once_key=None))
        return None
    if row.once_request != once.request:
        raise OtherRequestError("The key was sent with another request.")
    if row.settled_at is None:
        raise InProgressError("The first request with the key isn't finished.")
    if row.repeats >= MAX_REPEATS:
        raise TooManyRepeatsError(f"The request was repeated {MAX_REPEATS} times.")
    connection.execute(update(RequestRow).where(with_key).values(repeats=RequestRow.repeats + 1))
    first: int = row.id
    return first


def _sweep(connection: Connection, account_id: int, now: datetime) -> None:
    """Drop the account's reservations past their lease, and rows that no window needs."""
    connection.execute(
        delete(RequestRow).where(
            RequestRow.account_id == account_id,
            or_(
                RequestRow.reserved_at < now - KEEP_REQUESTS,
                and_(RequestRow.settled_at.is_(None), RequestRow.lease_until <= now),
            ),
        )
    )


def _window(account_id: int, kind: PlanKind, now: datetime) -> dict[str, Any]:
    """Return the parameters of `_COUNTING`, whose `after` is outside the window."""
    start, inclusive = plans.window_start(kind, now)
    return {
        "of_account": account_id,
        "of_trial": kind is PlanKind.TRIAL,
        "after": start - timedelta.resolution if inclusive else start,
        "now": now,
    }


def _check_window(connection: Connection, account_id: int, plan: PlanPeriod, now: datetime) -> None:
    limit = plans.window_limit(plan.kind)
    window = _window(account_id, plan.kind, now)
    blocking = connection.execute(_BLOCKING, window | {"limit_less_one": limit - 1}).scalar()
    if blocking is None:
        return
    resets_at = plans.window_resets_at(plan.kind, oldest=blocking, now=now)
    retry_after_s = max(1, ceil((resets_at - now).total_seconds()))
    if plan.kind is PlanKind.TRIAL:
        raise DailyQuotaError(
            f"The trial allows {limit} requests a UTC day.", retry_after_s=retry_after_s
        )
    raise PaidQuotaError(
        f"The package allows {limit} requests in 60 seconds.", retry_after_s=retry_after_s
    )


def _month(account_id: int, plan: PlanPeriod, moment: datetime) -> dict[str, Any]:
    """Return the parameters of `_THE_MONTH`."""
    return {
        "of_account": account_id,
        "of_invoice": plan.plan_id,
        "month_start": plans.month_of(plan.starts_at, moment)[0],
    }


def _predictions(
    connection: Connection, account_id: int, plan: PlanPeriod, moment: datetime
) -> int:
    return connection.execute(_MONTH, _month(account_id, plan, moment)).scalar() or 0


def _month_is_used_up(plan: PlanPeriod, now: datetime) -> PaidQuotaError:
    resets_at = plans.month_of(plan.starts_at, now)[1]
    return PaidQuotaError(
        f"The package allows {PREDICTIONS_PER_MONTH} predictions a month.",
        retry_after_s=max(1, ceil((resets_at - now).total_seconds())),
    )


def _check_month(connection: Connection, account_id: int, plan: PlanPeriod, now: datetime) -> None:
    if plan.kind is PlanKind.TRIAL:
        return
    if _predictions(connection, account_id, plan, now) >= PREDICTIONS_PER_MONTH:
        raise _month_is_used_up(plan, now)


def _add_to_month(
    connection: Connection,
    account_id: int,
    plan: PlanPeriod,
    reserved_at: datetime,
    predictions: int,
    now: datetime,
) -> None:
    month = _month(account_id, plan, reserved_at)
    if connection.execute(_ADD_TO_MONTH, month | {"more_predictions": predictions}).rowcount:
        return
    used = connection.execute(_MONTH, month).scalar()  # no row yet, or too few left
    if used is not None or predictions > PREDICTIONS_PER_MONTH:
        raise _month_is_used_up(plan, now)
    connection.execute(
        insert(PackageMonth).values(
            account_id=account_id,
            invoice_id=plan.plan_id,
            starts_at=month["month_start"],
            predictions=predictions,
        )
    )


def _add_to_day(
    connection: Connection, account_id: int, day: date, requests: int, predictions: int
) -> None:
    more = {"more_requests": requests, "more_predictions": predictions}
    same_day = {"of_account": account_id, "of_day": day}
    if not connection.execute(_ADD_TO_DAY, same_day | more).rowcount:
        connection.execute(
            insert(UsageDay).values(
                account_id=account_id, day=day, requests=requests, predictions=predictions
            )
        )


def _count_anew(connection: Connection, reserved: Reserved, now: datetime) -> None:
    """Put a request whose lease ran out into its window again, under its own number.

    Raises:
        QuotaError: the window is full by now.
        InProgressError: its client sent it again, and the repeat counts.
        ValueError: it was settled before.
    """
    once = reserved.once
    if once is not None and (
        connection.execute(
            select(RequestRow.id).where(
                RequestRow.account_id == reserved.account_id,
                RequestRow.once_key == once.key,
                RequestRow.id != reserved.request_id,
            )
        ).first()
    ):
        raise InProgressError("The request was sent again meanwhile.")
    mine = RequestRow.id == reserved.request_id
    row = connection.execute(select(RequestRow.settled_at).where(mine)).first()
    if row is not None and row.settled_at is not None:
        raise ValueError(f"request {reserved.request_id} was settled before")
    connection.execute(delete(RequestRow).where(mine))
    _check_window(connection, reserved.account_id, reserved.plan, now)
    _insert(
        connection,
        reserved.account_id,
        reserved.plan,
        now=now,
        lease_until=now + timedelta.resolution,
        request_id=reserved.request_id,
        once=once,
    )


def _insert(
    connection: Connection,
    account_id: int,
    plan: PlanPeriod,
    *,
    now: datetime,
    lease_until: datetime,
    request_id: int | None = None,
    once: OnceHashes | None = None,
) -> int:
    values: dict[str, Any] = {
        "account_id": account_id,
        "is_trial": plan.kind is PlanKind.TRIAL,
        "reserved_at": now,
        "lease_until": lease_until,
        "settled_at": None,
        "predictions": 0,
        "once_key": once.key if once else None,
        "once_request": once.request if once else None,
        "repeats": 0,
    }
    if request_id is not None:
        values["id"] = request_id
    return connection.execute(_INSERT, values).scalar_one()
