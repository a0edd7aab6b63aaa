"""Tracks: a plate that was found once stays hidden around and between its sightings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from plateblur.tracks import DRAW_OUT_S, GAP_S, hidden_boxes
from plateblur.types import Boxes, Detections
from tests.fakes import boxes

RATE = 10


def seen(*rows: tuple[float, float, float, float, float]) -> Detections:
    """Return detections of rows of `xyxy` and confidence."""
    return Detections(boxes(*(row[:4] for row in rows)), np.array([r[4] for r in rows], np.float32))


def at(frame: int, confidence: float = 0.9, *, speed: float = 5) -> tuple[float, ...]:
    left = 100 + speed * frame
    return (left, 50, left + 40, 60, confidence)


def times(count: int) -> list[float]:
    return [frame / RATE for frame in range(count)]


def covers(hidden: Boxes, row: Sequence[float], *, slack: float = 0.01) -> bool:
    x1, y1, x2, y2 = row[:4]
    return any(
        box[0] <= x1 + slack and box[1] <= y1 + slack and box[2] >= x2 - slack
        and box[3] >= y2 - slack
        for box in hidden
    )  # fmt: skip


def drive(sightings: dict[int, float], count: int = 30, *, speed: float = 5) -> list[Detections]:
    return [
        seen(at(frame, sightings[frame], speed=speed)) if frame in sightings else seen()  # type: ignore[arg-type]
        for frame in range(count)
    ]


@pytest.mark.parametrize("speed", [0, 5, 60, -60], ids=["parked", "slow", "fast", "fast, left"])
def test_gaps_and_ends_are_filled_where_the_plate_is(speed: float) -> None:
    found = drive(dict.fromkeys([8, 9, 10, 15, 16, 20], 0.9), speed=speed)

    hidden, tracks = hidden_boxes(found, times(30), min_confidence=0.25)

    assert len(tracks) == 1
    drawn_out = int(DRAW_OUT_S * RATE)
    for frame in range(8 - drawn_out + 1, 20 + drawn_out):
        assert covers(hidden[frame], at(frame, speed=speed)), frame
    for frame in (8 - drawn_out - 1, 20 + drawn_out + 1):
        assert len(hidden[frame]) == 0


def test_what_was_found_stays_where_it_was_found() -> None:
    found = drive({3: 0.9, 4: 0.9})

    hidden, _ = hidden_boxes(found, times(30), min_confidence=0.25)

    np.testing.assert_array_equal(hidden[3], found[3].xyxy)


def test_longer_unseen_is_another_plate() -> None:
    later = 5 + int(GAP_S * RATE) + 1
    found = drive({5: 0.9, later: 0.9}, speed=0)

    hidden, tracks = hidden_boxes(found, times(30), min_confidence=0.25)

    assert len(tracks) == 2
    assert len(hidden[5 + int(DRAW_OUT_S * RATE) + 1]) == 0


@pytest.mark.parametrize(
    ("confidences", "hidden_frames"),
    [
        ({5: 0.9, 6: 0.1, 7: 0.1, 8: 0.1}, range(1, 13)),
        ({5: 0.1, 6: 0.1}, range(0)),
        ({5: 0.25}, range(1, 10)),
    ],
    ids=["unsure after sure", "never sure", "just sure"],
)
def test_unsure_sightings_go_on_with_a_track_and_begin_none(
    confidences: dict[int, float], hidden_frames: range
) -> None:
    hidden, _ = hidden_boxes(drive(confidences), times(30), min_confidence=0.25)

    # The frames at the very edge hang on how a time is rounded.
    drawn = {frame for frame in range(30) if len(hidden[frame])}
    assert drawn - {0, 10, 13} == set(hidden_frames) - {0, 10, 13}


def test_an_unsure_box_elsewhere_does_not_drag_a_track_away() -> None:
    found = drive({3: 0.9, 5: 0.9}, speed=0)
    found[4] = seen((150, 50, 190, 60, 0.1))

    hidden, _ = hidden_boxes(found, times(30), min_confidence=0.25)

    assert covers(hidden[4], at(4, speed=0))
    assert hidden[4][0, 2] < 160


def test_two_plates_that_pass_each_other_are_both_hidden() -> None:
    right = [(20.0 + 6 * f, 50, 60.0 + 6 * f, 60, 0.9) for f in range(30)]
    left = [(200.0 - 6 * f, 54, 240.0 - 6 * f, 64, 0.9) for f in range(30)]
    found = [
        seen(a, b) if frame % 3 else seen()
        for frame, (a, b) in enumerate(zip(right, left, strict=True))
    ]

    hidden, _ = hidden_boxes(found, times(30), min_confidence=0.25)

    for frame in range(1, 29):
        assert covers(hidden[frame], right[frame], slack=1), frame
        assert covers(hidden[frame], left[frame], slack=1), frame


@pytest.mark.parametrize("count", [0, 1, 3], ids=["none", "one frame", "some"])
def test_clips_without_plates_hide_nothing(count: int) -> None:
    hidden, tracks = hidden_boxes([seen()] * count, times(count), min_confidence=0.25)

    assert len(tracks) == 0
    assert [box.shape for box in hidden] == [(0, 4)] * count


@pytest.mark.parametrize(
    "at_s", [[0.0, 0.1], [0.0, 0.1, 0.1], [0.0, 0.2, 0.1]], ids=["too few", "twice", "backwards"]
)
def test_times_that_do_not_fit_are_refused(at_s: list[float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        hidden_boxes([seen()] * 3, at_s, min_confidence=0.25)
