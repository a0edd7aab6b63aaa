"""What is kept of each part's health: a letter for five minutes."""

from __future__ import annotations

from datetime import timedelta

from plateblur.accounts import health_log
from plateblur.accounts.health_log import StoreHealth
from plateblur.accounts.store import Store
from plateblur.accounts.types import HEALTH_SLOT, SLOTS_PER_DAY, HealthCheck, PartDay
from tests.accounts.fakes import NOW

NOON = SLOTS_PER_DAY // 2


def test_a_part_that_failed_for_one_worker_failed_in_that_slot(store: Store) -> None:
    log = StoreHealth(store)
    log.note([HealthCheck(NOW, {"store": True, "model": True})])
    log.note([HealthCheck(NOW + timedelta(minutes=4), {"store": True, "model": False})])
    log.note([HealthCheck(NOW + timedelta(minutes=4), {"store": True, "model": True})])
    log.note([HealthCheck(NOW + HEALTH_SLOT, {"store": True, "model": True})])
    model, kept = log.days(since=NOW.date())
    assert (model.part, kept.part) == ("model", "store")
    assert model.slots == "-" * NOON + "!+" + "-" * (NOON - 2)
    assert kept.slots == "-" * NOON + "++" + "-" * (NOON - 2)


def test_checks_of_several_days_are_kept_together_and_the_old_deleted(store: Store) -> None:
    log = StoreHealth(store)
    days = [NOW - timedelta(days=ago) for ago in (91, 90, 1)]
    log.note([HealthCheck(day, {"store": False}) for day in days])
    assert len(log.days(since=days[0].date())) == 3
    health_log.prune(store, now=NOW)
    assert [one.day for one in log.days(since=days[0].date())] == [day.date() for day in days[1:]]
    assert log.days(since=days[-1].date()) == [
        PartDay(days[-1].date(), "store", "-" * NOON + "!" + "-" * (NOON - 1))
    ]
