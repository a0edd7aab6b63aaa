"""The history on the status page: checked every five minutes, kept in the store."""

from __future__ import annotations

import asyncio
import logging
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from anyio import to_thread

from plateblur.accounts.types import (
    HEALTH_SLOT,
    SLOTS_PER_DAY,
    HealthCheck,
    HealthLog,
    PartDay,
    SlotState,
)
from plateblur.errors import PlateblurError
from plateblur.web.health import Look

LOG = logging.getLogger("plateblur.web")

SHOWN_DAYS = 90
SHOWN_OUTAGES = 20
RUNNING = "service"  # a part that every check shows to work, and no check to be down
MOST_WAITING = SLOTS_PER_DAY  # checks kept in memory while the store can't be reached


@dataclass(frozen=True, slots=True)
class DayBar:
    """One day of one part, as a bar.

    Attributes:
        day: UTC.
        known: slots that were checked or should have been.
        failed: of them.
    """

    day: date
    known: int
    failed: int

    @property
    def kind(self) -> str:
        """Return the bar's class: "none", "good", "some" or "much" of the day failed."""
        if not self.known:
            return "none"
        return "good" if not self.failed else "some" if self.failed * 20 < self.known else "much"

    @property
    def words(self) -> str:
        """Return what the bar says under the pointer."""
        if not self.known:
            return f"{self.day}: no data"
        if not self.failed:
            return f"{self.day}: no outage"
        minutes = self.failed * HEALTH_SLOT // timedelta(minutes=1)
        return f"{self.day}: {minutes // 60} h {minutes % 60:02d} min of outage"


@dataclass(frozen=True, slots=True)
class PartHistory:
    """The days of one part, oldest first.

    Attributes:
        part: its name.
        bars: `SHOWN_DAYS` of them.
        share: of the known slots in which it worked, in per cent, rounded down; "" without any.
    """

    part: str
    bars: tuple[DayBar, ...]
    share: str


@dataclass(frozen=True, slots=True)
class Outage:
    """A time in which a part did not work.

    Attributes:
        part: its name.
        begins_at: UTC.
        ends_at: UTC; up to five minutes more than it was.
    """

    part: str
    begins_at: datetime
    ends_at: datetime


@dataclass(frozen=True, slots=True)
class History:
    """What the status page shows of the last days.

    Attributes:
        parts: the service first, then its parts.
        outages: the newest `SHOWN_OUTAGES`, newest first.
    """

    parts: tuple[PartHistory, ...] = ()
    outages: tuple[Outage, ...] = ()


class Watch:
    """Checks all parts in every slot, and tells what was found on the last days."""

    def __init__(self, look: Look, log: HealthLog, now: Callable[[], datetime]) -> None:
        """Take the parts.

        Args:
            look: checks all parts.
            log: of all workers.
            now: UTC.
        """
        self._look = look
        self._log = log
        self._now = now
        self._waiting: deque[HealthCheck] = deque(maxlen=MOST_WAITING)
        self._reading = asyncio.Lock()
        self._read: tuple[int, History] = (-1, History())

    async def run(self) -> None:
        """Check now and at the beginning of each slot, until cancelled."""
        while True:
            await self.check()
            passed_s = self._now().timestamp() % HEALTH_SLOT.total_seconds()
            await asyncio.sleep(HEALTH_SLOT.total_seconds() - passed_s)

    async def check(self) -> None:
        """Check all parts once; what the store can't keep is kept later."""
        at = self._now()
        self._waiting.append(HealthCheck(at, {RUNNING: True, **await self._look()}))
        checks = tuple(self._waiting)
        try:
            await to_thread.run_sync(self._log.note, checks)
        except PlateblurError as error:
            LOG.warning("health not kept", extra={"fields": {"error": type(error).__name__}})
            return
        self._waiting.clear()

    async def history(self) -> History | None:
        """Return the last days, read once a minute; None if the store can't be reached."""
        async with self._reading:
            now = self._now()
            minute = int(now.timestamp() // 60)
            if self._read[0] != minute:
                since = (now - timedelta(days=SHOWN_DAYS - 1)).date()
                try:
                    days = await to_thread.run_sync(lambda: self._log.days(since=since))
                except PlateblurError:
                    return None
                self._read = (minute, history_of(days, now=now))
            return self._read[1]


def history_of(days: Sequence[PartDay], *, now: datetime) -> History:
    """Return what to show of the days that were kept.

    A slot without any check, between the first check of all and now, is one in which the service
    did not run.

    Args:
        days: of `SHOWN_DAYS` at most.
        now: UTC.
    """
    if not days:
        return History()
    by_part: dict[str, dict[date, str]] = {}
    for one in days:
        by_part.setdefault(one.part, {})[one.day] = one.slots
    first = now.date() - timedelta(days=SHOWN_DAYS - 1)
    begins_at = datetime.combine(first, time(), UTC)
    # The slot that is not over yet counts only once it was checked.
    over = (now - begins_at) // HEALTH_SLOT
    no_day = SlotState.UNKNOWN * SLOTS_PER_DAY
    strips = {
        part: "".join(
            kept.get(first + timedelta(days=number), no_day) for number in range(SHOWN_DAYS)
        )
        for part, kept in by_part.items()
    }
    running = strips.pop(RUNNING, "")
    start = running.find(SlotState.WORKED)
    if start >= 0:
        past = running[start:over].replace(SlotState.UNKNOWN, SlotState.FAILED)
        strips = {RUNNING: running[:start] + past + running[max(start, over) :]} | strips
    outages = sorted(
        (one for part, strip in strips.items() for one in _outages(part, strip, begins_at)),
        key=lambda one: one.begins_at,
        reverse=True,
    )
    return History(
        tuple(_part_history(part, strip, first) for part, strip in strips.items()),
        tuple(outages[:SHOWN_OUTAGES]),
    )


def _part_history(part: str, strip: str, first: date) -> PartHistory:
    bars = tuple(
        DayBar(first + timedelta(days=number), *_counted(strip[at : at + SLOTS_PER_DAY]))
        for number, at in enumerate(range(0, len(strip), SLOTS_PER_DAY))
    )
    known, failed = _counted(strip)
    share = f"{(known - failed) * 10_000 // known / 100:.2f}" if known else ""
    return PartHistory(part, bars, share)


def _counted(strip: str) -> tuple[int, int]:
    """Return how many slots are known, and how many of them failed."""
    return len(strip) - strip.count(SlotState.UNKNOWN), strip.count(SlotState.FAILED)


def _outages(part: str, strip: str, begins_at: datetime) -> Iterator[Outage]:
    for run in re.finditer(f"{SlotState.FAILED}+", strip):
        first, last = run.span()
        yield Outage(part, begins_at + first * HEALTH_SLOT, begins_at + last * HEALTH_SLOT)
