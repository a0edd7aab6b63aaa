"""Counting: a request is reserved before its work, then settled or given back.

Every change locks the account first (see `store`), so that parallel clients never get more than
the plan allows. A reservation whose worker died stays unsettled; past its lease it counts no more,
and the next request of the account sweeps it away.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from math import ceil
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)

from plateblur.accounts import plans
from plateblur.accounts.models import Account, PackageMonth, RequestRow, UsageDay
from plateblur.accounts.store import Store
from plateblur.accounts.types import (
    AccountClosedError,
    ActivePlan,
    DailyQuotaError,
    PaidQuotaError,
    PlanKind,
    Usage,
)

Clock = Callable[[], datetime]

KEEP_REQUESTS = timedelta(days=2)  # the longest window is a UTC day


@dataclass(frozen=True, slots=True)
class Reserved:
    """One request that was counted.

    Attributes:
        request_id: the store's row.
        account_id: whose.
        plan: what it counts on.
        reserved_at: UTC; decides the window, and the month of its predictions.
    """

    request_id: int
    account_id: int
    plan: ActivePlan
    reserved_at: datetime


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
    store: Store, account_id: int, plan: ActivePlan, *, lease: timedelta, clock: Clock = utc_now
) -> Reserved:
    """Count one request.

    Args:
        store: the store.
        account_id: whose.
        plan: what it counts on.
        lease: after this time an unsettled reservation counts no more.
        clock: read once the account is locked, so that moments follow the order of counting.

    Raises:
        DailyQuotaError: the trial's day is used up.
        PaidQuotaError: the last 60 s, or the month's predictions, are used up.
        AccountClosedError: the account is gone.
        StoreUnavailableError: nothing was counted.
    """
    with store.write() as connection:
        _lock_account(connection, account_id)
        now = clock()
        _sweep(connection, account_id, now)
        _check_window(connection, account_id, plan, now)
        _check_month(connection, account_id, plan, now)
        request_id = _insert(connection, account_id, plan, now=now, lease_until=now + lease)
    return Reserved(request_id, account_id, plan, now)


def settle(store: Store, reserved: Reserved, *, predictions: int, clock: Clock = utc_now) -> None:
    """Keep the request counted and add its predictions to the month, in one transaction.

    A worker so slow that its lease ran out, and was swept, counts its request anew: an answer is
    never sent uncounted.

    Raises:
        PaidQuotaError: the month has fewer left, or a late request found its window full; nothing
            was counted.
        DailyQuotaError: a late request found the trial's day used up.
        AccountClosedError: the account is gone.
        ValueError: `predictions` is negative, or it was settled before.
        StoreUnavailableError: it is not known whether it was counted; give it back.
    """
    if predictions < 0:
        raise ValueError(f"predictions must not be negative, got {predictions}")
    account_id, plan = reserved.account_id, reserved.plan
    with store.write() as connection:
        _lock_account(connection, account_id)
        now = clock()
        request_id = reserved.request_id
        row = connection.execute(
            select(RequestRow.settled_at).where(RequestRow.id == request_id)
        ).first()
        if row is None:
            _check_window(connection, account_id, plan, now)
            _insert(connection, account_id, plan, now=now, lease_until=now, request_id=request_id)
        elif row.settled_at is not None:
            raise ValueError(f"request {request_id} was settled before")
        if plan.kind is not PlanKind.TRIAL:
            _add_to_month(connection, account_id, plan, reserved.reserved_at, predictions, now)
        _add_to_day(connection, account_id, reserved.reserved_at.date(), 1, predictions)
        connection.execute(
            update(RequestRow)
            .where(RequestRow.id == request_id)
            .values(settled_at=now, predictions=predictions)
        )


def give_back(store: Store, reserved: Reserved) -> None:
    """Uncount a request, also one whose settling was committed though its answer was lost.

    Raises:
        StoreUnavailableError: the lease gives it back later.
    """
    account_id, plan = reserved.account_id, reserved.plan
    with store.write() as connection:
        try:
            _lock_account(connection, account_id)
        except AccountClosedError:
            return  # its counters went with it
        row = connection.execute(
            delete(RequestRow)
            .where(RequestRow.id == reserved.request_id)
            .returning(RequestRow.settled_at, RequestRow.predictions)
        ).first()
        if row is None or row.settled_at is None:
            return
        if plan.kind is not PlanKind.TRIAL:
            connection.execute(
                update(PackageMonth)
                .where(*_month(account_id, plan, reserved.reserved_at))
                .values(predictions=PackageMonth.predictions - row.predictions)
            )
        _add_to_day(connection, account_id, reserved.reserved_at.date(), -1, -row.predictions)


def usage(store: Store, account_id: int, plan: ActivePlan, *, now: datetime) -> Usage:
    """Return what the plan has used and has left.

    Raises:
        StoreUnavailableError: the database can't be reached.
    """
    limit = plans.window_limit(plan.kind)
    paid = plan.kind is not PlanKind.TRIAL
    with store.read() as connection:
        counted, oldest = connection.execute(
            select(func.count(), func.min(RequestRow.reserved_at)).where(
                *_counting(account_id, plan.kind, now)
            )
        ).one()
        predictions = _predictions(connection, account_id, plan, now) if paid else 0
    return Usage(
        window_requests=counted,
        window_limit=limit,
        window_resets_at=plans.window_resets_at(plan.kind, oldest=oldest, now=now),
        predictions=predictions,
        predictions_limit=plans.PREDICTIONS_PER_MONTH if paid else None,
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


def _lock_account(connection: Connection, account_id: int) -> None:
    found = connection.execute(
        select(Account.id).where(Account.id == account_id).with_for_update(key_share=True)
    ).first()
    if found is None:
        raise AccountClosedError("The account is gone.")


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


def _counting(account_id: int, kind: PlanKind, now: datetime) -> list[ColumnElement[bool]]:
    """Return the conditions of the rows that count in the plan's window."""
    start, inclusive = plans.window_start(kind, now)
    return [
        RequestRow.account_id == account_id,
        RequestRow.is_trial == (kind is PlanKind.TRIAL),
        RequestRow.reserved_at >= start if inclusive else RequestRow.reserved_at > start,
        or_(RequestRow.settled_at.is_not(None), RequestRow.lease_until > now),
    ]


def _check_window(connection: Connection, account_id: int, plan: ActivePlan, now: datetime) -> None:
    limit = plans.window_limit(plan.kind)
    # The limit-th youngest request must leave the window before another one fits.
    blocking = connection.execute(
        select(RequestRow.reserved_at)
        .where(*_counting(account_id, plan.kind, now))
        .order_by(RequestRow.reserved_at.desc())
        .offset(limit - 1)
        .limit(1)
    ).scalar()
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


def _month(account_id: int, plan: ActivePlan, moment: datetime) -> list[ColumnElement[bool]]:
    return [
        PackageMonth.account_id == account_id,
        PackageMonth.invoice_id == plan.plan_id,
        PackageMonth.starts_at == plans.month_of(plan.starts_at, moment)[0],
    ]


def _predictions(
    connection: Connection, account_id: int, plan: ActivePlan, moment: datetime
) -> int:
    found = connection.execute(
        select(PackageMonth.predictions).where(*_month(account_id, plan, moment))
    ).scalar()
    return found or 0


def _month_is_used_up(plan: ActivePlan, now: datetime) -> PaidQuotaError:
    resets_at = plans.month_of(plan.starts_at, now)[1]
    return PaidQuotaError(
        f"The package allows {plans.PREDICTIONS_PER_MONTH} predictions a month.",
        retry_after_s=max(1, ceil((resets_at - now).total_seconds())),
    )


def _check_month(connection: Connection, account_id: int, plan: ActivePlan, now: datetime) -> None:
    if plan.kind is PlanKind.TRIAL:
        return
    if _predictions(connection, account_id, plan, now) >= plans.PREDICTIONS_PER_MONTH:
        raise _month_is_used_up(plan, now)


def _add_to_month(
    connection: Connection,
    account_id: int,
    plan: ActivePlan,
    reserved_at: datetime,
    predictions: int,
    now: datetime,
) -> None:
    month = _month(account_id, plan, reserved_at)
    used = connection.execute(select(PackageMonth.predictions).where(*month)).scalar()
    if (used or 0) + predictions > plans.PREDICTIONS_PER_MONTH:
        raise _month_is_used_up(plan, now)
    if used is None:
        connection.execute(
            insert(PackageMonth).values(
                account_id=account_id,
                invoice_id=plan.plan_id,
                starts_at=plans.month_of(plan.starts_at, reserved_at)[0],
                predictions=predictions,
            )
        )
    else:
        connection.execute(
            update(PackageMonth).where(*month).values(predictions=used + predictions)
        )


def _add_to_day(
    connection: Connection, account_id: int, day: date, requests: int, predictions: int
) -> None:
    changed = connection.execute(
        update(UsageDay)
        .where(UsageDay.account_id == account_id, UsageDay.day == day)
        .values(
            requests=UsageDay.requests + requests,
            predictions=UsageDay.predictions + predictions,
        )
    ).rowcount
    if not changed:
        connection.execute(
            insert(UsageDay).values(
                account_id=account_id, day=day, requests=requests, predictions=predictions
            )
        )


def _insert(
    connection: Connection,
    account_id: int,
    plan: ActivePlan,
    *,
    now: datetime,
    lease_until: datetime,
    request_id: int | None = None,
) -> int:
    values: dict[str, Any] = {} if request_id is None else {"id": request_id}
    return connection.execute(
        insert(RequestRow)
        .values(
            account_id=account_id,
            is_trial=plan.kind is PlanKind.TRIAL,
            reserved_at=now,
            lease_until=lease_until,
            settled_at=None,
            predictions=0,
            **values,
        )
        .returning(RequestRow.id)
    ).scalar_one()
