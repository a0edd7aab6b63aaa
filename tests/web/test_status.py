"""The history on the status page."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from html import unescape

import anyio
import pytest

from plateblur.accounts.types import HealthCheck, PartDay
from plateblur.errors import PlateblurError
from plateblur.web.health import Look
from plateblur.web.status import RUNNING, SHOWN_DAYS, SHOWN_OUTAGES, Watch, history_of
from tests.web.fakes import FakeGate, make_stand

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 3, 10, 12, 3, tzinfo=UTC)
TODAY = NOW.date()
DAY = timedelta(days=1)


class FakeLog:
    """Keeps checks in memory; may be unreachable."""

    def __init__(self, *days: PartDay) -> None:
        self.noted: list[HealthCheck] = []
        self.fails = False
        self.read = 0
        self._days = list(days)

    def note(self, checks: Iterable[HealthCheck]) -> None:
        if self.fails:
            raise PlateblurError("no store")
        self.noted += checks

    def days(self, *, since: date) -> list[PartDay]:
        self.read += 1
        if self.fails:
            raise PlateblurError("no store")
        return [one for one in self._days if one.day >= since]


def slots(text: str, *, at: int = 0) -> str:
    return ("-" * at + text).ljust(288, "-")


def test_missing_checks_after_the_first_are_an_outage_of_the_service() -> None:
    history = history_of(
        [
            PartDay(TODAY - DAY, RUNNING, slots("+" * 88, at=200)),
            PartDay(TODAY, RUNNING, slots("+" * 100)),  # until 08:20; now it is 12:03
        ],
        now=NOW,
    )
    (service,) = history.parts
    assert len(service.bars) == SHOWN_DAYS
    assert [bar.kind for bar in service.bars[-3:]] == ["none", "good", "much"]
    assert service.bars[-1].words == "2026-03-10: 3 h 40 min of outage"
    (outage,) = history.outages
    assert (outage.begins_at.hour, outage.begins_at.minute) == (8, 20)
    assert (outage.ends_at.hour, outage.ends_at.minute) == (12, 0)
    assert service.share == "81.03"  # 188 of 232 slots


def test_an_outage_over_midnight_is_one_and_the_newest_come_first() -> None:
    history = history_of(
        [
            PartDay(TODAY - DAY, RUNNING, "+" * 288),
            PartDay(TODAY - DAY, "model", "+" * 286 + "!!"),
            PartDay(TODAY, RUNNING, slots("+" * 144)),
            PartDay(TODAY, "model", slots("!" + "+" * 100 + "!" + "+" * 42)),
        ],
        now=NOW,
    )
    newest, older = history.outages
    assert (newest.part, newest.begins_at.hour) == ("model", 8)
    assert older.ends_at - older.begins_at == timedelta(minutes=15)
    model = history.parts[1]
    assert [bar.kind for bar in model.bars[-2:]] == ["some", "some"]
    assert history.parts[0].share == "100.00"


def test_many_outages_are_listed_up_to_a_limit_and_a_share_is_never_rounded_up() -> None:
    flapping = PartDay(TODAY - DAY, "model", "!+" * 144)
    good = [PartDay(TODAY - number * DAY, "model", "+" * 288) for number in range(2, 90)]
    history = history_of([*good, flapping], now=NOW)
    assert len(history.outages) == SHOWN_OUTAGES
    once = PartDay(TODAY - DAY, "model", "!" + "+" * 287)
    assert history_of([*good, once], now=NOW).parts[0].share == "99.99"
    assert history_of([], now=NOW).parts == ()


async def test_a_check_that_cannot_be_kept_is_kept_later() -> None:
    stand = make_stand(gate=FakeGate(ready=False))
    log = FakeLog()
    log.fails = True
    watch = Watch(Look(stand.app.state.service), log, lambda: NOW)
    await watch.check()
    assert await watch.history() is None
    log.fails = False
    await watch.check()
    await watch.check()
    assert [one.parts["store"] for one in log.noted] == [False] * 3


async def test_the_page_shows_bars_words_and_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    day = datetime.now(UTC).date() - DAY
    log = FakeLog(
        PartDay(day, RUNNING, "+" * 288), PartDay(day, "model", "+" * 100 + "!!" + "+" * 186)
    )
    stand = make_stand(health_log=log, now=lambda: datetime.now(UTC))
    page = unescape((await stand.client.get("/status")).text)
    for words in ("Last 90 days", "Detector", f"{day}: 0 h 10 min of outage", f"{day} 08:20"):
        assert words in page, words
    assert "style=" not in page
    await stand.client.get("/status")
    assert log.read <= 2  # a minute may just have begun
    log.fails = True
    broken = make_stand(health_log=log)
    assert "can't be read" in unescape((await broken.client.get("/status")).text)
    assert "Last 90 days" not in (await make_stand().client.get("/status")).text


async def test_a_flood_of_looks_costs_two_checks() -> None:
    asked: list[int] = []

    def works() -> bool:
        asked.append(1)
        return True

    stand = make_stand(ready_checks={"model": works})
    look = Look(stand.app.state.service)
    async with anyio.create_task_group() as group:
        for _ in range(50):
            group.start_soon(look)
    assert len(asked) <= 2
    await look()
    assert len(asked) <= 3
