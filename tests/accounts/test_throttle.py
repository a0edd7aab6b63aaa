"""Waiting after wrong credentials: an attacker waits, and nobody can make the owner wait."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from plateblur.accounts import throttle
from plateblur.accounts.store import Store

NOW = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)


def fail(store: Store, login: str, address: str, times: int = 1) -> None:
    for _ in range(times):
        throttle.note_failure(store, login=login, address=address, now=NOW)


def waits_s(store: Store, login: str, address: str, *, later_s: float = 0) -> int:
    moment = NOW + timedelta(seconds=later_s)
    return throttle.wait_s(store, login=login, address=address, now=moment)


def test_the_first_failures_of_a_pair_are_free_and_then_the_wait_doubles(store: Store) -> None:
    fail(store, "ana", "192.0.2.1", throttle.FREE_PER_PAIR - 1)
    assert waits_s(store, "ana", "192.0.2.1") == 0
    waited = []
    for _ in range(12):
        fail(store, "ana", "192.0.2.1")
        waited.append(waits_s(store, "ana", "192.0.2.1"))
    longest = int(throttle.MAX_WAIT.total_seconds())
    assert waited == [min(2**doublings, longest) for doublings in range(12)]
    assert waits_s(store, "ana", "192.0.2.1", later_s=longest) == 0


def test_an_address_that_tries_many_accounts_waits_for_all_of_them(store: Store) -> None:
    for number in range(throttle.FREE_PER_ADDRESS):
        assert waits_s(store, "somebody else", "192.0.2.1") == 0
        fail(store, f"account {number}", "192.0.2.1")
    assert waits_s(store, "somebody else", "192.0.2.1") == 1
    assert waits_s(store, "somebody else", "192.0.2.2") == 0


def test_an_attack_from_many_addresses_does_not_lock_the_owner_out(store: Store) -> None:
    for number in range(throttle.ATTACK_PER_ACCOUNT + 5):
        fail(store, "ana", f"198.51.100.{number}")
    assert waits_s(store, "ana", "192.0.2.1") == 0  # the owner's address, not seen before
    assert throttle.take_turn(store, login="ana", address="192.0.2.1", now=NOW) == 0
    # While it lasts, an address has one free try in place of five.
    assert waits_s(store, "ana", "192.0.2.1") == 1


def test_success_forgets_the_pair_and_not_the_address(store: Store) -> None:
    fail(store, "ana", "192.0.2.1", throttle.FREE_PER_ADDRESS)
    throttle.note_success(store, login="ana", address="192.0.2.1")
    assert waits_s(store, "ana", "192.0.2.1") == 1  # the address's own
    assert waits_s(store, "ana", "192.0.2.9") == 0
