"""How many photos visitors without an account may try."""

from __future__ import annotations

from datetime import timedelta

import pytest

from plateblur.accounts import guests
from plateblur.accounts.guests import GuestLimits
from plateblur.accounts.store import Store
from plateblur.accounts.types import DailyQuotaError
from tests.accounts.fakes import NOW

LIMITS = GuestLimits(each=2, together=3)
HERE, ELSEWHERE = "198.51.100.7", "203.0.113.9"


def try_one(store: Store, address: str = HERE, *, after: timedelta = timedelta()) -> None:
    guests.admit(store, address, LIMITS, now=NOW + after).settle(predictions=4)


def test_each_address_and_all_together_have_so_many_a_day(store: Store) -> None:
    try_one(store)
    try_one(store)
    with pytest.raises(DailyQuotaError) as refused:
        try_one(store, after=timedelta(hours=1))
    assert refused.value.retry_after_s == 23 * 3600
    try_one(store, ELSEWHERE)
    with pytest.raises(DailyQuotaError):
        try_one(store, "192.0.2.1")
    try_one(store, after=timedelta(days=1))


def test_one_ipv6_site_is_one_visitor(store: Store) -> None:
    try_one(store, "2001:db8:1:2::1")
    try_one(store, "2001:db8:1:2:ffff::2")
    with pytest.raises(DailyQuotaError):
        try_one(store, "2001:db8:1:2::3")


def test_what_failed_or_was_lost_stays_counted(store: Store) -> None:
    guests.admit(store, HERE, LIMITS, now=NOW)
    guests.admit(store, HERE, LIMITS, now=NOW).unsettle()
    with pytest.raises(DailyQuotaError):
        try_one(store)


def test_upkeep_forgets_addresses_after_a_day(store: Store) -> None:
    try_one(store)
    guests.prune(store, now=NOW + timedelta(hours=23))
    try_one(store)
    with pytest.raises(DailyQuotaError):
        try_one(store)
    guests.prune(store, now=NOW + timedelta(days=1))
    try_one(store)
