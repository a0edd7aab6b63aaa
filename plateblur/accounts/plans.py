"""The rules of the packages: periods, prices, limits and which plan counts. Pure; no store.

Every moment is an argument, aware and in UTC. A period holds its start and not its end.
"""

from __future__ import annotations

import calendar
from collections.abc import Sequence
from datetime import datetime, time, timedelta

from plateblur.accounts.types import (
    PAID_REQUESTS_PER_WINDOW,
    PAID_WINDOW,
    TRIAL_PERIOD,
    TRIAL_REQUESTS_PER_DAY,
    NoInvoiceError,
    PackageExpiredError,
    PlanKind,
    PlanPeriod,
    TrialExpiredError,
)

MONTHS = {PlanKind.MONTHLY: 1, PlanKind.YEARLY: 12}


def add_months(moment: datetime, months: int) -> datetime:
    """Return the same day and time some months on; the month's last day where it has no such day.

    Always counted from the anchor, because chained steps would drift: 31 January plus one month
    is 28 February, plus two is 31 March.
    """
    index = moment.year * 12 + (moment.month - 1) + months
    year, month = index // 12, index % 12 + 1
    last_day = calendar.monthrange(year, month)[1]
    return moment.replace(year=year, month=month, day=min(moment.day, last_day))


def trial_end(starts_at: datetime) -> datetime:
    """Return the moment at which a trial is over."""
    return starts_at + TRIAL_PERIOD


def package_period(
    kind: PlanKind, *, paid_at: datetime, covered_until: datetime | None
) -> tuple[datetime, datetime]:
    """Return start and end of a package that is paid now.

    It starts when it is paid, or follows the package that still runs, because a buyer who
    renews early must not lose the days left.

    Args:
        kind: a paid package.
        paid_at: UTC.
        covered_until: the end of the last paid package, over or not; None where there is none.

    Raises:
        ValueError: `kind` is the trial.
    """
    if kind not in MONTHS:
        raise ValueError(f"kind must be a paid package, got {kind}")
    starts_at = max(paid_at, covered_until) if covered_until is not None else paid_at
    return starts_at, add_months(starts_at, MONTHS[kind])


def month_of(starts_at: datetime, now: datetime) -> tuple[datetime, datetime]:
    """Return start and end of the package's month that holds `now`.

    Months are counted from the package's start, so that a yearly package has twelve full ones.

    Args:
        starts_at: the package's start, UTC.
        now: not before `starts_at`.
    """
    index = (now.year - starts_at.year) * 12 + now.month - starts_at.month
    if add_months(starts_at, index) > now:
        index -= 1
    return add_months(starts_at, index), add_months(starts_at, index + 1)


def window_start(kind: PlanKind, now: datetime) -> tuple[datetime, bool]:
    """Return where the request window begins, and whether that very moment belongs to it.

    The trial counts by the UTC day, midnight included; a paid package counts the last 60 s, and
    a request made exactly 60 s ago is out.
    """
    if kind is PlanKind.TRIAL:
        return datetime.combine(now.date(), time(), tzinfo=now.tzinfo), True
    return now - PAID_WINDOW, False


def window_limit(kind: PlanKind) -> int:
    """Return the most requests that the plan's window allows."""
    return TRIAL_REQUESTS_PER_DAY if kind is PlanKind.TRIAL else PAID_REQUESTS_PER_WINDOW


def window_resets_at(kind: PlanKind, *, oldest: datetime | None, now: datetime) -> datetime:
    """Return the moment at which the window allows at least one more request.

    Args:
        kind: which package.
        oldest: the request that leaves a sliding window next; None where the window is empty.
        now: UTC.
    """
    if kind is PlanKind.TRIAL:
        return window_start(kind, now)[0] + timedelta(days=1)
    return now if oldest is None else oldest + PAID_WINDOW


def choose_plan(
    trial: PlanPeriod | None, packages: Sequence[PlanPeriod], *, now: datetime
) -> PlanPeriod:
    """Return the plan that requests count on: a running package, else the running trial.

    The package goes first, because who pays during the trial wants what was paid for.

    Args:
        trial: the account's trial, if it ever had one.
        packages: its paid packages, in any order.
        now: UTC.

    Raises:
        PackageExpiredError: a package was paid, its period is over.
        TrialExpiredError: the trial is over, and no package is paid.
        NoInvoiceError: neither a trial nor a package that has begun.
    """
    running = [package for package in packages if package.holds(now)]
    if not running and trial is not None and trial.holds(now):
        running = [trial]
    if running:
        return max(running, key=lambda period: period.ends_at)
    if packages and all(package.starts_at > now for package in packages):
        start = min(package.starts_at for package in packages)
        raise NoInvoiceError(f"Your plan starts on {start:%Y-%m-%d %H:%M} UTC.")
    if packages:
        end = max(package.ends_at for package in packages)
        raise PackageExpiredError(f"Your last paid plan ended on {end:%Y-%m-%d %H:%M} UTC.")
    if trial is not None:
        raise TrialExpiredError(f"Your trial ended on {trial.ends_at:%Y-%m-%d %H:%M} UTC.")
    raise NoInvoiceError("You have neither a trial nor a paid plan.")
