"""Counting: windows, months, giving back; by threads, by processes, and by workers that die."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, nullcontext, suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, update

from plateblur.accounts import quota, upkeep
from plateblur.accounts.gate import LEASE, StoreGate
from plateblur.accounts.models import PackageMonth, RequestRow
from plateblur.accounts.store import Store
from plateblur.accounts.types import (
    DailyQuotaError,
    Identity,
    InvoiceStoreError,
    PaidQuotaError,
    PlanKind,
    QuotaError,
)
from tests.accounts.fakes import (
    NOW,
    TurnableClock,
    die_within_a_request,
    make_account,
    storm,
    use,
)

PAID = [PlanKind.MONTHLY, PlanKind.YEARLY]
SPAWN = multiprocessing.get_context("spawn")


def use_many(gate: StoreGate, identity: Identity, count: int) -> None:
    for _ in range(count):
        use(gate, identity)


def set_month(store: Store, predictions: int) -> None:
    with store.write() as connection:
        connection.execute(update(PackageMonth).values(predictions=predictions))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("plan", "error"),
    [
        (PlanKind.TRIAL, DailyQuotaError),
        (PlanKind.MONTHLY, PaidQuotaError),
        (PlanKind.YEARLY, PaidQuotaError),
    ],
)
def test_the_51st_request_is_refused_and_costs_nothing(
    store: Store, gate: StoreGate, plan: PlanKind, error: type[QuotaError]
) -> None:
    identity = make_account(store, plan=plan)
    use_many(gate, identity, 50)
    with pytest.raises(error):
        use(gate, identity)
    assert gate.usage(identity, gate.active_plan(identity)).window_requests == 50


@pytest.mark.parametrize(
    ("now", "passes"),
    [("2026-03-10T23:59:59.999999", False), ("2026-03-11T00:00:00", True)],
    ids=["same UTC day", "next UTC day"],
)
def test_the_trial_starts_again_at_midnight_utc(
    store: Store, gate: StoreGate, clock: TurnableClock, now: str, passes: bool
) -> None:
    identity = make_account(store, plan=PlanKind.TRIAL)
    use_many(gate, identity, 50)
    clock.now = datetime.fromisoformat(now).replace(tzinfo=UTC)
    if passes:
        use(gate, identity)
    else:
        with pytest.raises(DailyQuotaError) as caught:
            use(gate, identity)
        assert caught.value.retry_after_s == 1


def test_the_minute_slides(store: Store, gate: StoreGate, clock: TurnableClock) -> None:
    identity = make_account(store, plan=PlanKind.MONTHLY)
    use_many(gate, identity, 25)  # at 0 s
    clock.turn(seconds=30)
    use_many(gate, identity, 25)  # at 30 s
    clock.turn(seconds=29.999)
    with pytest.raises(PaidQuotaError) as caught:
        use(gate, identity)
    assert caught.value.retry_after_s == 1
    clock.turn(seconds=0.001)  # at 60 s the first 25 are out, the others are not
    use_many(gate, identity, 25)
    with pytest.raises(PaidQuotaError) as caught:
        use(gate, identity)
    assert caught.value.retry_after_s == 30


def test_the_month_allows_ten_thousand_predictions_and_not_one_more(
    store: Store, gate: StoreGate, clock: TurnableClock
) -> None:
    identity = make_account(store, plan=PlanKind.YEARLY)
    use(gate, identity, predictions=9_998)
    with pytest.raises(PaidQuotaError):
        use(gate, identity, predictions=3)
    plan = gate.active_plan(identity)
    usage = gate.usage(identity, plan)
    assert (usage.window_requests, usage.predictions) == (1, 9_998)
    use(gate, identity, predictions=2)
    with pytest.raises(PaidQuotaError), gate.admit(identity, plan):
        pytest.fail("admitted though the month is used up")
    clock.now = datetime(2026, 4, 10, 12, tzinfo=UTC)
    use(gate, identity, predictions=10_000)


@pytest.mark.slow
def test_a_photo_over_the_month_border_counts_on_the_month_it_came_in(
    store: Store, gate: StoreGate, clock: TurnableClock
) -> None:
    identity = make_account(store, plan=PlanKind.YEARLY)
    clock.now = datetime(2026, 4, 10, 11, 59, 59, tzinfo=UTC)
    plan = gate.active_plan(identity)
    with gate.admit(identity, plan) as reservation:
        clock.turn(seconds=2)
        reservation.settle(predictions=5)
    assert gate.usage(identity, plan).predictions == 0
    clock.turn(seconds=-2)
    assert gate.usage(identity, plan).predictions == 5


@pytest.mark.parametrize("plan", list(PlanKind))
def test_a_request_that_fails_is_given_back(store: Store, gate: StoreGate, plan: PlanKind) -> None:
    identity = make_account(store, plan=plan)
    active = gate.active_plan(identity)
    with suppress(RuntimeError), gate.admit(identity, active):
        assert gate.usage(identity, active).window_requests == 1
        raise RuntimeError("the detector failed")
    usage = gate.usage(identity, active)
    assert (usage.window_requests, usage.predictions) == (0, 0)
    assert quota.days_of_use(store, identity.account_id, since=date.min) == []


def test_an_answer_that_could_not_be_sent_is_given_back_though_its_settling_was_kept(
    store: Store, gate: StoreGate
) -> None:
    identity = make_account(store, plan=PlanKind.MONTHLY)
    plan = gate.active_plan(identity)
    reserved = quota.reserve(store, identity.account_id, plan, lease=LEASE, clock=lambda: NOW)
    quota.settle(store, reserved, predictions=7, clock=lambda: NOW)
    quota.give_back(store, reserved)
    usage = gate.usage(identity, plan)
    assert (usage.window_requests, usage.predictions) == (0, 0)


def test_a_reservation_is_settled_once(store: Store, gate: StoreGate) -> None:
    identity = make_account(store, plan=PlanKind.MONTHLY)
    with gate.admit(identity, gate.active_plan(identity)) as reservation:
        reservation.settle(predictions=1)
        with pytest.raises(ValueError, match="once"):
            reservation.settle(predictions=1)


def test_usage_tells_what_is_left_and_when_more_comes(
    store: Store, gate: StoreGate, clock: TurnableClock
) -> None:
    trial = make_account(store, plan=PlanKind.TRIAL)
    paid = make_account(store, plan=PlanKind.YEARLY, email="ion@plates.io")
    use(gate, trial, predictions=3)
    use(gate, paid, predictions=4)
    clock.turn(seconds=10)
    of_trial = gate.usage(trial, gate.active_plan(trial))
    of_paid = gate.usage(paid, gate.active_plan(paid))
    assert (of_trial.window_requests, of_trial.window_limit, of_trial.predictions) == (1, 50, 0)
    assert (of_trial.predictions_limit, of_trial.month_resets_at) == (None, None)
    assert of_trial.window_resets_at == datetime(2026, 3, 11, tzinfo=UTC)
    assert (of_paid.window_requests, of_paid.predictions) == (1, 4)
    assert of_paid.predictions_limit == 10_000
    assert of_paid.window_resets_at == NOW + timedelta(seconds=60)
    assert of_paid.month_resets_at == datetime(2026, 4, 10, 12, tzinfo=UTC)
    assert quota.days_of_use(store, trial.account_id, since=date.min) == [
        quota.DayOfUse(NOW.date(), 1, 3)
    ]


@pytest.mark.slow
def test_64_parallel_clients_on_a_plan_with_50_left_get_exactly_50(
    store: Store, gate: StoreGate, url: str
) -> None:
    identity = make_account(store, plan=PlanKind.TRIAL)
    assert storm(url, NOW, identity, 64, 0) == 50
    assert gate.usage(identity, gate.active_plan(identity)).window_requests == 50


@pytest.mark.slow
def test_three_processes_together_get_exactly_50(store: Store, gate: StoreGate, url: str) -> None:
    identity = make_account(store, plan=PlanKind.MONTHLY)
    with ProcessPoolExecutor(3, mp_context=SPAWN) as pool:
        runs = [pool.submit(storm, url, NOW, identity, 22, 1) for _ in range(3)]
        assert sum(run.result() for run in runs) == 50
    usage = gate.usage(identity, gate.active_plan(identity))
    assert (usage.window_requests, usage.predictions) == (50, 50)


def test_parallel_clients_never_get_more_predictions_than_the_month_has(
    store: Store, gate: StoreGate, url: str
) -> None:
    identity = make_account(store, plan=PlanKind.MONTHLY)
    use(gate, identity, predictions=1)
    set_month(store, 9_970)
    assert storm(url, NOW, identity, 20, 4) == 7
    assert gate.usage(identity, gate.active_plan(identity)).predictions == 9_998


@pytest.mark.slow
def test_a_killed_workers_request_is_given_back_after_its_lease(
    store: Store, gate: StoreGate, clock: TurnableClock, url: str
) -> None:
    identity = make_account(store, plan=PlanKind.TRIAL)
    use_many(gate, identity, 49)
    worker = SPAWN.Process(target=die_within_a_request, args=(url, NOW, identity))
    worker.start()
    worker.join(60)
    assert worker.exitcode == -9
    clock.turn(seconds=LEASE.total_seconds() - 1)
    with pytest.raises(DailyQuotaError):
        use(gate, identity)
    clock.turn(seconds=1)
    assert gate.usage(identity, gate.active_plan(identity)).window_requests == 49
    use(gate, identity)
    with pytest.raises(DailyQuotaError):
        use(gate, identity)


@pytest.mark.parametrize(
    ("others", "expectation"),
    [(49, nullcontext()), (50, pytest.raises(DailyQuotaError))],
    ids=["room left", "full"],
)
def test_an_answer_later_than_its_lease_is_counted_anew_or_not_sent(
    store: Store,
    gate: StoreGate,
    clock: TurnableClock,
    others: int,
    expectation: AbstractContextManager[object],
) -> None:
    identity = make_account(store, plan=PlanKind.TRIAL)
    plan = gate.active_plan(identity)
    with expectation, gate.admit(identity, plan) as reservation:
        clock.turn(seconds=LEASE.total_seconds())
        use_many(gate, identity, others)
        reservation.settle(predictions=0)
    assert gate.usage(identity, plan).window_requests == 50


def test_old_rows_are_dropped(store: Store, gate: StoreGate, clock: TurnableClock) -> None:
    identity = make_account(store, plan=PlanKind.YEARLY)
    use_many(gate, identity, 3)
    clock.turn(days=3)
    use_many(gate, identity, quota.SWEEP_EVERY)
    with store.read() as connection:
        assert len(connection.execute(select(RequestRow.id)).all()) == quota.SWEEP_EVERY
    clock.turn(days=3)
    upkeep.prune(store, outbox=Path("no outbox"), now=clock())
    with store.read() as connection:
        assert connection.execute(select(RequestRow.id)).all() == []


def test_a_request_in_flight_on_a_store_that_goes_away_is_left_to_its_lease(
    store: Store, gate: StoreGate, clock: TurnableClock
) -> None:
    identity = make_account(store, plan=PlanKind.MONTHLY)
    plan = gate.active_plan(identity)
    good, bad = store.engine, Store("sqlite:////nowhere/x", secret=b"x" * 32).engine
    # The store goes within the request.
    with pytest.raises(InvoiceStoreError), gate.admit(identity, plan) as reservation:  # noqa: PT012
        store.engine = bad
        reservation.settle(predictions=1)
    store.engine = good
    assert gate.usage(identity, plan).window_requests == 1
    clock.turn(seconds=LEASE.total_seconds())
    assert gate.usage(identity, plan).window_requests == 0
