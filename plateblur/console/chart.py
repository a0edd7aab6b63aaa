"""The chart of an account's last days: two bars a day over one axis. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from plateblur.accounts.quota import DayOfUse


@dataclass(frozen=True, slots=True)
class DayColumn:
    """One day of the chart, also one without requests.

    Attributes:
        day: UTC.
        requests: on that day.
        predictions: on that day.
        requests_share: of the axis, in thousandths.
        predictions_share: of the axis, in thousandths.
    """

    day: date
    requests: int
    predictions: int
    requests_share: int
    predictions_share: int


@dataclass(frozen=True, slots=True)
class Chart:
    """What the page draws.

    Attributes:
        ticks: the axis from the top down, the last is 0.
        columns: a day each, oldest first.
        requests: of all days.
        predictions: of all days.
    """

    ticks: tuple[int, ...]
    columns: tuple[DayColumn, ...]
    requests: int
    predictions: int


def chart_of(used: Sequence[DayOfUse], *, today: date, days: int) -> Chart:
    """Return the chart of the last days.

    Args:
        used: the days with requests.
        today: the last day, UTC.
        days: how many there are.
    """
    by_day = {one.day: one for one in used}
    shown = [today - timedelta(days=ago) for ago in reversed(range(days))]
    rows = [by_day.get(day, DayOfUse(day, 0, 0)) for day in shown]
    top = round_up(max(max(row.requests, row.predictions) for row in rows))
    return Chart(
        ticks=(top, top // 2, 0),
        columns=tuple(
            DayColumn(
                row.day,
                row.requests,
                row.predictions,
                1000 * row.requests // top,
                1000 * row.predictions // top,
            )
            for row in rows
        ),
        requests=sum(row.requests for row in rows),
        predictions=sum(row.predictions for row in rows),
    )


def round_up(most: int) -> int:
    """Return the top of an axis whose half is a whole number too: 2, 4, 10, 20, 40, 100 ..."""
    top = 10
    while top < most:
        top *= 10
    return next(one for one in (top // 5, 2 * top // 5, top) if one >= most)
