"""Tracks: a plate that was found once stays hidden around and between its sightings."""

from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Sequence

import numpy as np
import pytest

from plateblur.tracks import (
    DRAW_OUT_S,
    GAP_S,
    LOOK_OUT_S,
    STILL,
    Frames,
    Step,
    Track,
    hidden_boxes,
    unseen,
)
from plateblur.types import Boxes, Detections
from tests.fakes import boxes

RATE = 10

Row = tuple[float, float, float, float, float]


def seen(*rows: Row) -> Detections:
    """Return detections of rows of `xyxy` and confidence."""
    return Detections(boxes(*(row[:4] for row in rows)), np.array([r[4] for r in rows], np.float32))


def at(frame: int, confidence: float = 0.9, *, speed: float = 5) -> Row:
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


def followed(
    found: Sequence[Detections],
    at_s: Sequence[float] | None = None,
    *,
    steps: Sequence[Step] | None = None,
    min_confidence: float = 0.25,
) -> tuple[list[Boxes], list[Track]]:
    """Return what is hidden of `found`, the camera standing still unless told otherwise."""
    at_s = times(len(found)) if at_s is None else at_s
    steps = [STILL] * len(found) if steps is None else steps
    return hidden_boxes(Frames(found, at_s, steps), min_confidence=min_confidence)


def drive(sightings: dict[int, float], count: int = 30, *, speed: float = 5) -> list[Detections]:
    return [
        seen(at(frame, sightings[frame], speed=speed)) if frame in sightings else seen()
        for frame in range(count)
    ]


@pytest.mark.parametrize("speed", [0, 5, 60, -60], ids=["parked", "slow", "fast", "fast, left"])
def test_gaps_and_ends_are_filled_where_the_plate_is(speed: float) -> None:
    found = drive(dict.fromkeys([8, 9, 10, 15, 16, 20], 0.9), speed=speed)

    hidden, tracks = followed(found)

    assert len(tracks) == 1
    drawn_out = int(DRAW_OUT_S * RATE)
    for frame in range(8 - drawn_out + 1, 20 + drawn_out):
        assert covers(hidden[frame], at(frame, speed=speed)), frame
    for frame in (8 - drawn_out - 1, 20 + drawn_out + 1):
        assert len(hidden[frame]) == 0


def test_what_was_found_stays_where_it_was_found() -> None:
    found = drive({3: 0.9, 4: 0.9})

    hidden, _ = followed(found)

    np.testing.assert_array_equal(hidden[3], found[3].xyxy)


def test_longer_unseen_is_another_plate() -> None:
    later = 5 + int(GAP_S * RATE) + 1
    found = drive({5: 0.9, later: 0.9}, count=60, speed=0)

    hidden, tracks = followed(found)

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
    hidden, _ = followed(drive(confidences))

    # The frames at the very edge hang on how a time is rounded.
    drawn = {frame for frame in range(30) if len(hidden[frame])}
    assert drawn - {0, 10, 13} == set(hidden_frames) - {0, 10, 13}


def test_an_unsure_box_elsewhere_does_not_drag_a_track_away() -> None:
    found = drive({3: 0.9, 5: 0.9}, speed=0)
    found[4] = seen((150, 50, 190, 60, 0.1))

    hidden, _ = followed(found)

    assert covers(hidden[4], at(4, speed=0))
    assert hidden[4][0, 2] < 160


@pytest.mark.parametrize("first", [0, 1], ids=["the-best-first", "the-best-last"])
def test_of_two_unsure_boxes_the_one_where_the_plate_should_be_goes_on(first: int) -> None:
    found = drive({3: 0.9, 5: 0.9}, speed=0)
    two = [(100.0, 50.0, 140.0, 60.0, 0.1), (118.0, 51.0, 158.0, 61.0, 0.1)]
    found[4] = seen(two[first], two[1 - first])

    hidden, tracks = followed(found)

    assert len(tracks) == 1
    assert tracks[0].xyxy[1].tolist() == [100, 50, 140, 60]
    assert hidden[4][:, 2].max() < 150


def test_two_plates_that_pass_each_other_are_both_hidden() -> None:
    right = [(20.0 + 6 * f, 50, 60.0 + 6 * f, 60, 0.9) for f in range(30)]
    left = [(200.0 - 6 * f, 54, 240.0 - 6 * f, 64, 0.9) for f in range(30)]
    found = [
        seen(a, b) if frame % 3 else seen()
        for frame, (a, b) in enumerate(zip(right, left, strict=True))
    ]

    hidden, _ = followed(found)

    for frame in range(1, 29):
        assert covers(hidden[frame], right[frame], slack=1), frame
        assert covers(hidden[frame], left[frame], slack=1), frame


@pytest.mark.parametrize("count", [0, 1, 3], ids=["none", "one frame", "some"])
def test_clips_without_plates_hide_nothing(count: int) -> None:
    hidden, tracks = followed([seen()] * count)

    assert len(tracks) == 0
    assert [box.shape for box in hidden] == [(0, 4)] * count


@pytest.mark.parametrize(
    "at_s", [[0.0, 0.1], [0.0, 0.1, 0.1], [0.0, 0.2, 0.1]], ids=["too few", "twice", "backwards"]
)
def test_times_that_do_not_fit_are_refused(at_s: list[float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        followed([seen()] * 3, at_s)


def test_a_plate_is_where_the_camera_left_it_however_that_moved() -> None:
    pan = [0, -40, -80, -60, -10, 50, 90, 100, 60, 0]  # px, where one thing is seen
    rows = [(300 + x, 50, 340 + x, 60, 0.9) for x in pan]
    found = [seen(row) if frame in (0, 1, 8, 9) else seen() for frame, row in enumerate(rows)]
    steps = [STILL, *(np.array([1.0, 0, b - a, 0]) for a, b in itertools.pairwise(pan))]

    hidden, tracks = followed(found, steps=steps)
    unsteady, _ = followed(found)

    assert len(tracks) == 1
    assert all(covers(boxes, row) for boxes, row in zip(hidden, rows, strict=True))
    assert not covers(unsteady[5], rows[5])


def test_a_camera_that_zooms_and_rolls_is_followed_beyond_the_ends() -> None:
    angle, zoom = 0.03, 1.04
    a, b = zoom * np.cos(angle), zoom * np.sin(angle)
    step = np.array([a, b, -8.0, 3.0])
    middle, width = np.array([300.0, 200.0]), 40.0
    rows = []
    for _ in range(12):
        half = np.array([width, width / 4]) / 2
        rows.append((*(middle - half), *(middle + half), 0.9))
        middle = np.array([[a, -b], [b, a]]) @ middle + step[2:]
        width *= zoom
    found = [seen(row) if frame in (5, 6) else seen() for frame, row in enumerate(rows)]

    hidden, _ = followed(found, steps=[STILL, *[step] * 11])

    for frame in range(2, 10):
        assert covers(hidden[frame], rows[frame], slack=0.5), frame


def test_unsure_sightings_before_the_first_sure_one_belong_to_it() -> None:
    found = drive({3: 0.1, 4: 0.1, 6: 0.2, 8: 0.9}, speed=0)

    hidden, (track,) = followed(found)

    assert track.frames == [3, 4, 6, 8]
    assert len(hidden[0])


def test_a_sighting_smaller_than_its_neighbours_hides_as_much_as_they_do() -> None:
    found = [seen((100, 50, 140, 60, 0.9)) for _ in range(7)]
    found[3] = seen((118, 50, 140, 60, 0.9))

    hidden, _ = followed(found)

    assert covers(hidden[3], (100, 50, 140, 60))


def test_a_closer_look_is_asked_for_where_a_plate_should_be() -> None:
    found = drive({15: 0.9, 16: 0.9, 20: 0.9}, count=60)

    places = unseen(Frames(found, times(60), [STILL] * 60), min_confidence=0.25)

    look_out = int(LOOK_OUT_S * RATE)
    asked = {frame for frame, boxes in enumerate(places) if len(boxes)}
    assert asked - {5, 30} == {*range(15 - look_out + 1, 15), 17, 18, 19, *range(21, 20 + look_out)}
    for frame in (12, 18, 24):
        np.testing.assert_allclose(places[frame][0], at(frame)[:4], atol=0.5)


@pytest.mark.slow
def test_a_plate_that_stays_in_view_takes_memory_by_its_frames_alone() -> None:
    frames = 3_000
    found = drive(dict.fromkeys(range(frames), 0.9), count=frames, speed=0)
    tracemalloc.start()

    hidden, tracks = followed(found)

    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()
    assert len(tracks) == 1
    assert len(hidden) == frames
