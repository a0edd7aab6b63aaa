"""The chart of the last days: its axis, its bars, and days without requests."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from plateblur.accounts.quota import DayOfUse
from plateblur.console.chart import chart_of, round_up

TODAY = date(2026, 3, 10)


@pytest.mark.parametrize(
    ("most", "top"), [(0, 2), (1, 2), (3, 4), (5, 10), (11, 20), (41, 100), (10_001, 20_000)]
)
def test_the_axis_ends_at_a_round_number_whose_half_is_whole(most: int, top: int) -> None:
    assert round_up(most) == top
    assert top % 2 == 0


def test_every_day_has_a_column_and_the_largest_fits() -> None:
    used = [DayOfUse(TODAY - timedelta(days=3), 20, 7), DayOfUse(TODAY, 1, 0)]
    chart = chart_of(used, today=TODAY, days=14)
    assert [column.day for column in chart.columns] == [
        TODAY - timedelta(days=ago) for ago in range(13, -1, -1)
    ]
    assert chart.ticks == (20, 10, 0)
    assert chart.columns[-4].requests_share == 1000
    assert chart.columns[-4].predictions_share == 350
    assert chart.columns[0].requests == chart.columns[0].requests_share == 0
    assert (chart.requests, chart.predictions) == (21, 7)
