"""Every rule of the packages, with the clock as an argument."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plateblur.accounts import plans
from plateblur.accounts.types import (
    PRICE_CENTS,
    NoInvoiceError,
    PackageExpiredError,
    PlanError,
    PlanKind,
    PlanPeriod,
    TrialExpiredError,
)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def trial(start: str) -> PlanPeriod:
    return PlanPeriod(PlanKind.TRIAL, utc(start), plans.trial_end(utc(start)), 1)


def package(kind: PlanKind, start: str, plan_id: int = 7) -> PlanPeriod:
    starts_at, ends_at = plans.package_period(kind, paid_at=utc(start), covered_until=None)
    return PlanPeriod(kind, starts_at, ends_at, plan_id)


@pytest.mark.parametrize(
    ("anchor", "months", "expected"),
    [
        ("2026-03-10T12:00", 1, "2026-04-10T12:00"),
        ("2026-01-31T08:30", 1, "2026-02-28T08:30"),
        ("2026-01-31T08:30", 2, "2026-03-31T08:30"),
        ("2028-01-31", 1, "2028-02-29"),
        ("2028-02-29", 12, "2029-02-28"),
        ("2028-02-29", 48, "2032-02-29"),
        ("2026-01-29", 1, "2026-02-28"),
        ("2026-01-30", 1, "2026-02-28"),
        ("2026-12-31", 2, "2027-02-28"),
        ("2026-11-30", 1, "2026-12-30"),
    ],
    ids=[
        "usual", "31st to 28th", "no drift", "31st to leap day", "leap day to 28th",
        "leap day to leap day", "29th", "30th", "over the year", "to December",
    ],
)  # fmt: skip
def test_a_month_on_is_the_same_day_or_the_last_one(
    anchor: str, months: int, expected: str
) -> None:
    assert plans.add_months(utc(anchor), months) == utc(expected)


@pytest.mark.parametrize(
    ("start", "now", "expected"),
    [
        ("2026-03-10T12:00", "2026-03-10T12:00", ("2026-03-10T12:00", "2026-04-10T12:00")),
        ("2026-03-10T12:00", "2026-04-10T11:59", ("2026-03-10T12:00", "2026-04-10T12:00")),
        ("2026-03-10T12:00", "2026-04-10T12:00", ("2026-04-10T12:00", "2026-05-10T12:00")),
        ("2026-01-31", "2026-02-28", ("2026-02-28", "2026-03-31")),
        ("2026-01-31", "2026-03-30", ("2026-02-28", "2026-03-31")),
        ("2027-08-31", "2028-02-29", ("2028-02-29", "2028-03-31")),
        ("2026-11-15", "2027-01-14", ("2026-12-15", "2027-01-15")),
    ],
    ids=["start", "just before", "border", "short month", "31st waits", "leap", "new year"],
)
def test_a_package_counts_by_months_from_its_start(
    start: str, now: str, expected: tuple[str, str]
) -> None:
    assert plans.month_of(utc(start), utc(now)) == (utc(expected[0]), utc(expected[1]))


@given(
    start=st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC)),
    days=st.floats(0, 366),
)
def test_every_moment_lies_in_exactly_one_month(start: datetime, days: float) -> None:
    now = start + timedelta(days=days)
    begins, ends = plans.month_of(start, now)
    assert begins <= now < ends
    assert plans.month_of(start, ends)[0] == ends


@pytest.mark.parametrize(
    ("covered_until", "expected"),
    [
        (None, ("2026-03-10", "2026-04-10")),
        ("2026-03-01", ("2026-03-10", "2026-04-10")),
        ("2026-03-20", ("2026-03-20", "2026-04-20")),
    ],
    ids=["first", "after a gap", "renewed early"],
)
def test_a_package_starts_when_paid_or_follows_the_running_one(
    covered_until: str | None, expected: tuple[str, str]
) -> None:
    period = plans.package_period(
        PlanKind.MONTHLY,
        paid_at=utc("2026-03-10"),
        covered_until=utc(covered_until) if covered_until else None,
    )
    assert period == (utc(expected[0]), utc(expected[1]))


def test_a_yearly_package_has_twelve_months() -> None:
    assert plans.package_period(PlanKind.YEARLY, paid_at=utc("2028-02-29"), covered_until=None) == (
        utc("2028-02-29"),
        utc("2029-02-28"),
    )


def test_prices_are_those_of_the_product_page() -> None:
    assert PRICE_CENTS == {PlanKind.MONTHLY: 8000, PlanKind.YEARLY: 81600}
    assert PRICE_CENTS[PlanKind.YEARLY] * 100 == 12 * PRICE_CENTS[PlanKind.MONTHLY] * 85


T = "2026-03-01T09:00"


@pytest.mark.parametrize(
    ("the_trial", "packages", "now", "expected"),
    [
        (trial(T), [], T, PlanKind.TRIAL),
        (trial(T), [], "2026-03-08T08:59:59", PlanKind.TRIAL),
        (trial(T), [], "2026-03-08T09:00", TrialExpiredError),
        (None, [], T, NoInvoiceError),
        (None, [package(PlanKind.MONTHLY, T)], "2026-04-01T08:59", PlanKind.MONTHLY),
        (None, [package(PlanKind.MONTHLY, T)], "2026-04-01T09:00", PackageExpiredError),
        (None, [package(PlanKind.YEARLY, T)], "2027-03-01T08:59", PlanKind.YEARLY),
        (None, [package(PlanKind.YEARLY, T)], "2027-03-01T09:00", PackageExpiredError),
        (trial(T), [package(PlanKind.MONTHLY, T)], T, PlanKind.MONTHLY),
        (trial(T), [package(PlanKind.MONTHLY, "2026-03-20")], "2026-03-25", PlanKind.MONTHLY),
        (trial(T), [package(PlanKind.MONTHLY, "2026-03-20")], "2026-05-25", PackageExpiredError),
        (trial(T), [package(PlanKind.MONTHLY, "2026-01-10")], "2026-03-02", PlanKind.TRIAL),
    ],
    ids=[
        "trial's first moment", "trial's last moment", "trial over", "neither",
        "month's last moment", "month over", "year's last moment", "year over",
        "package goes before the trial", "trial then package", "both over",
        "trial after an old package",
    ],
)  # fmt: skip
def test_which_plan_counts(
    the_trial: PlanPeriod | None,
    packages: list[PlanPeriod],
    now: str,
    expected: PlanKind | type[PlanError],
) -> None:
    if isinstance(expected, PlanKind):
        assert plans.choose_plan(the_trial, packages, now=utc(now)).kind is expected
    else:
        with pytest.raises(expected):
            plans.choose_plan(the_trial, packages, now=utc(now))


@pytest.mark.parametrize(
    ("kind", "now", "expected"),
    [
        (PlanKind.TRIAL, "2026-03-10T00:00", ("2026-03-10", True)),
        (PlanKind.TRIAL, "2026-03-10T23:59:59", ("2026-03-10", True)),
        (PlanKind.MONTHLY, "2026-03-10T00:00:30", ("2026-03-09T23:59:30", False)),
        (PlanKind.YEARLY, "2026-03-10T12:00", ("2026-03-10T11:59", False)),
    ],
    ids=["midnight", "last second", "over midnight", "yearly"],
)
def test_windows_are_the_utc_day_and_the_last_60_seconds(
    kind: PlanKind, now: str, expected: tuple[str, bool]
) -> None:
    assert plans.window_start(kind, utc(now)) == (utc(expected[0]), expected[1])


def test_a_plan_that_ends_before_it_starts_is_a_bug() -> None:
    with pytest.raises(ValueError, match="must end after"):
        PlanPeriod(PlanKind.TRIAL, utc(T), utc(T), 1)


PACKAGE = Path(plans.__file__).parents[1]
ALLOWANCE = re.compile(r"\b(50 requests|10,?000 predictions|seven days|seven-day|7 days)\b")


@pytest.mark.parametrize("folder", ["accounts", "console", "web"])
def test_what_a_plan_allows_is_written_once(folder: str) -> None:
    """Texts take the numbers from `accounts/types.py`, so none can contradict the limits."""
    texts = [path for end in ("py", "html", "js") for path in (PACKAGE / folder).rglob(f"*.{end}")]
    assert len(texts) > 10
    assert [path.name for path in texts if ALLOWANCE.search(path.read_text())] == []
