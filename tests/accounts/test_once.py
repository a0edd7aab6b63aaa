"""Requests with an idempotency key: counted once, whatever is repeated, parallel or killed."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from sqlalchemy import select, text

from plateblur.accounts import quota, upkeep
from plateblur.accounts.gate import LEASE, StoreGate
from plateblur.accounts.models import RequestRow
from plateblur.accounts.store import Store
from plateblur.accounts.types import (
    DailyQuotaError,
    Identity,
    InProgressError,
    Once,
    OtherRequestError,
    PaidQuotaError,
    PlanKind,
    RepeatError,
    TooManyRepeatsError,
)
from tests.accounts.fakes import (
    NOW,
    SECRET,
    CountingHasher,
    TurnableClock,
    make_account,
    use,
)

KEY = "5f1f6b1e-8a55-4c0e-9c39-3a1d5f0f9a10"
ONCE = Once(KEY, b"a photo and its options")
OTHER = Once(KEY, b"another photo")


@pytest.fixture
def ana(store: Store) -> Identity:
    return make_account(store, plan=PlanKind.MONTHLY)


def ask(gate: StoreGate, who: Identity, once: Once = ONCE, *, predictions: int = 3) -> bool:
    """Make one request that is answered, and return whether it was a repeat."""
    with gate.admit(who, gate.active_plan(who), once=once) as reservation:
        reservation.settle(predictions=predictions)
        return reservation.is_repeat


def counted(gate: StoreGate, who: Identity) -> tuple[int, int]:
    usage = gate.usage(who, gate.active_plan(who))
    return usage.window_requests, usage.predictions


def test_the_same_request_is_counted_once(gate: StoreGate, ana: Identity) -> None:
    assert [ask(gate, ana) for _ in range(3)] == [False, True, True]
    assert counted(gate, ana) == (1, 3)


def test_other_keys_and_other_accounts_are_other_requests(
    gate: StoreGate, store: Store, ana: Identity
) -> None:
    ion = make_account(store, plan=PlanKind.MONTHLY, email="ion@plates.io")
    assert not ask(gate, ana)
    assert not ask(gate, ana, Once("another key", ONCE.fingerprint))
    assert not ask(gate, ion)
    use(gate, ana)
    use(gate, ana)
    assert (counted(gate, ana)[0], counted(gate, ion)[0]) == (4, 1)


def test_a_key_belongs_to_one_request(gate: StoreGate, ana: Identity) -> None:
    ask(gate, ana)
    with pytest.raises(OtherRequestError):
        ask(gate, ana, OTHER)
    assert counted(gate, ana) == (1, 3)


def test_a_repeat_while_the_first_is_in_work_is_refused(gate: StoreGate, ana: Identity) -> None:
    with gate.admit(ana, gate.active_plan(ana), once=ONCE) as first:
        with pytest.raises(InProgressError):
            ask(gate, ana)
        first.settle(predictions=1)
    assert ask(gate, ana)
    assert counted(gate, ana) == (1, 1)


def test_a_request_that_failed_leaves_its_key_free(gate: StoreGate, ana: Identity) -> None:
    with suppress(RuntimeError), gate.admit(ana, gate.active_plan(ana), once=ONCE):
        raise RuntimeError("the photo is damaged")
    assert not ask(gate, ana, OTHER)
    assert counted(gate, ana) == (1, 3)


def test_an_answer_that_was_not_taken_leaves_its_key_free(gate: StoreGate, ana: Identity) -> None:
    with gate.admit(ana, gate.active_plan(ana), once=ONCE) as reservation:
        reservation.settle(predictions=3)
        reservation.unsettle()
    assert counted(gate, ana) == (0, 0)
    assert not ask(gate, ana)


def test_nobody_gets_a_photo_for_nothing_by_leaving_the_first_answer_behind(
    gate: StoreGate, ana: Identity
) -> None:
    with gate.admit(ana, gate.active_plan(ana), once=ONCE) as reservation:
        reservation.settle(predictions=3)
        assert ask(gate, ana)  # while the first answer is still being sent
        reservation.unsettle()
    assert counted(gate, ana) == (1, 3)


def test_repeats_are_bounded_because_each_costs_work(gate: StoreGate, ana: Identity) -> None:
    ask(gate, ana)
    for _ in range(quota.MAX_REPEATS):
        assert ask(gate, ana)
    with pytest.raises(TooManyRepeatsError):
        ask(gate, ana)


def test_a_repeat_passes_where_the_plan_is_used_up(gate: StoreGate, store: Store) -> None:
    ion = make_account(store, plan=PlanKind.TRIAL, email="ion@plates.io")
    ask(gate, ion)
    for _ in range(49):
        use(gate, ion)
    with pytest.raises(DailyQuotaError):
        use(gate, ion)
    assert ask(gate, ion)


def test_a_key_is_forgotten_after_a_day(
    gate: StoreGate, ana: Identity, clock: TurnableClock
) -> None:
    ask(gate, ana)
    clock.turn(hours=23, minutes=59)
    assert ask(gate, ana)
    clock.turn(minutes=1)
    assert not ask(gate, ana, OTHER)
    assert ask(gate, ana, OTHER)


def test_the_store_holds_neither_key_nor_request(
    gate: StoreGate, store: Store, ana: Identity
) -> None:
    ask(gate, ana)
    with store.read() as connection:
        row = connection.execute(text("SELECT * FROM requests")).mappings().one()
    held = repr(dict(row))
    assert KEY not in held
    assert ONCE.fingerprint.hex() not in held
    assert len(row["once_key"]) == len(row["once_request"]) == 64


def test_upkeep_deletes_the_hashes_with_the_request(
    gate: StoreGate, store: Store, ana: Identity, clock: TurnableClock, tmp_path: object
) -> None:
    from pathlib import Path

    ask(gate, ana)
    clock.turn(days=2, seconds=1)
    upkeep.prune(store, outbox=Path(str(tmp_path)) / "outbox", now=clock())
    with store.read() as connection:
        assert connection.execute(select(RequestRow.once_key)).all() == []


def test_a_worker_that_was_too_slow_does_not_count_beside_the_repeat(
    gate: StoreGate, ana: Identity, clock: TurnableClock
) -> None:
    plan = gate.active_plan(ana)
    with pytest.raises(InProgressError), gate.admit(ana, plan, once=ONCE) as slow:  # noqa: PT012
        clock.turn(seconds=LEASE.total_seconds() + 1)
        assert not ask(gate, ana)
        slow.settle(predictions=3)
    assert counted(gate, ana) == (1, 3)
    assert ask(gate, ana)


@pytest.mark.slow
@pytest.mark.parametrize("before", [True, False], ids=["before settling", "after settling"])
def test_a_request_whose_worker_was_killed_is_counted_once_when_it_is_sent_again(
    gate: StoreGate, ana: Identity, url: str, clock: TurnableClock, before: bool
) -> None:
    work: Callable[..., None] = die_before if before else die_after
    process = multiprocessing.get_context("spawn").Process(target=work, args=(url, ana))
    process.start()
    process.join(300)
    assert process.exitcode == -signal.SIGKILL
    if before:
        with pytest.raises(InProgressError):
            ask(gate, ana)
        clock.turn(seconds=LEASE.total_seconds())
    assert ask(gate, ana) is not before
    assert counted(gate, ana) == (1, 3)


def die_before(url: str, who: Identity) -> None:
    gate = StoreGate(Store(url, secret=SECRET), hasher=CountingHasher(), clock=lambda: NOW)
    with gate.admit(who, gate.active_plan(who), once=ONCE):
        os.kill(os.getpid(), signal.SIGKILL)


def die_after(url: str, who: Identity) -> None:
    gate = StoreGate(Store(url, secret=SECRET), hasher=CountingHasher(), clock=lambda: NOW)
    with gate.admit(who, gate.active_plan(who), once=ONCE) as reservation:
        reservation.settle(predictions=3)
        os.kill(os.getpid(), signal.SIGKILL)


def test_of_parallel_ones_exactly_one_counts(gate: StoreGate, ana: Identity) -> None:
    def try_(_: int) -> str:
        try:
            return "repeat" if ask(gate, ana) else "first"
        except (RepeatError, PaidQuotaError) as error:
            return type(error).__name__

    with ThreadPoolExecutor(8) as clients:
        told = list(clients.map(try_, range(11)))
    assert told.count("first") == 1
    assert set(told) <= {"first", "repeat", "InProgressError"}
    assert counted(gate, ana) == (1, 3)
