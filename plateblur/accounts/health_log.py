"""Whether each part of the service worked, in slots of five minutes, for the status page.

A day of a part is one row with a letter for each slot, so that 90 days take less than 100 KB.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime

from sqlalchemy import delete, insert, select, update

from plateblur.accounts.models import HealthDay
from plateblur.accounts.periods import KEEP_HEALTH
from plateblur.accounts.store import Store
from plateblur.accounts.types import (
    HEALTH_SLOT,
    SLOTS_PER_DAY,
    HealthCheck,
    PartDay,
    SlotState,
)


class StoreHealth:
    """The checks of all workers, in the store."""

    def __init__(self, store: Store) -> None:
        """Use `store`, which stays open."""
        self._store = store

    def note(self, checks: Iterable[HealthCheck]) -> None:
        """Keep checks; a part that failed for one worker failed in that slot.

        Raises:
            StoreUnavailableError: none was kept.
        """
        with self._store.write(durable=False) as connection:
            self._store.lock(connection, "health")
            for check in checks:
                for part, works in check.parts.items():
                    own = (HealthDay.day == check.at.date(), HealthDay.part == part)
                    kept = connection.execute(select(HealthDay.slots).where(*own)).scalar()
                    slots = _marked(kept or SlotState.UNKNOWN * SLOTS_PER_DAY, check.at, works)
                    if kept is None:
                        row = {"day": check.at.date(), "part": part, "slots": slots}
                        connection.execute(insert(HealthDay).values(row))
                    elif slots != kept:
                        connection.execute(update(HealthDay).where(*own).values(slots=slots))

    def days(self, *, since: date) -> list[PartDay]:
        """Return the days of each part, oldest first.

        Raises:
            StoreUnavailableError: the database can't be reached.
        """
        query = select(HealthDay.day, HealthDay.part, HealthDay.slots)
        with self._store.read() as connection:
            rows = connection.execute(
                query.where(HealthDay.day >= since).order_by(HealthDay.day, HealthDay.part)
            ).all()
        return [PartDay(row.day, row.part, row.slots) for row in rows]


def prune(store: Store, *, now: datetime) -> None:
    """Delete the days that the status page no longer shows.

    Raises:
        StoreUnavailableError: nothing changed.
    """
    with store.write() as connection:
        connection.execute(delete(HealthDay).where(HealthDay.day < (now - KEEP_HEALTH).date()))


def _marked(slots: str, at: datetime, works: bool) -> str:
    """Return the letters of a day with one more check."""
    midnight = at.replace(hour=0, minute=0, second=0, microsecond=0)
    number = (at - midnight) // HEALTH_SLOT
    if slots[number] == SlotState.FAILED:
        return slots
    state = SlotState.WORKED if works else SlotState.FAILED
    return slots[:number] + state + slots[number + 1 :]
