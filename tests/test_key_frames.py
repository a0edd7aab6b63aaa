"""Key frames: where a box is between them, and that few of them cover what was hidden."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from numpy.testing import assert_allclose

from plateblur.key_frames import box_at, boxes_at, key_frames, micros

KEYS = ((1_000, 10.0, 20.0, 30.0, 40.0), (3_000, 30.0, 20.0, 70.0, 60.0))
HW = (540, 960)


@pytest.mark.parametrize(
    ("time_us", "box"),
    [
        (999, None),
        (1_000, [10, 20, 30, 40]),
        (2_000, [20, 20, 50, 50]),
        (2_500, [25, 20, 60, 55]),
        (3_000, [30, 20, 70, 60]),
        (3_001, None),
    ],
)
def test_a_box_moves_evenly_between_its_key_frames(time_us: int, box: list[float] | None) -> None:
    found = box_at(KEYS, time_us)
    assert (found is None) == (box is None)
    if found is not None and box is not None:
        assert_allclose(found, box)


def test_one_key_frame_is_one_frame() -> None:
    assert box_at(KEYS[:1], 1_000) is not None
    assert box_at(KEYS[:1], 1_001) is None


def test_the_boxes_of_a_frame_are_those_of_the_plates_that_are_there() -> None:
    later = ((2_900, 1.0, 2.0, 3.0, 4.0),)
    assert boxes_at([KEYS, later], 2_900).shape == (2, 4)
    assert boxes_at([KEYS, later], 2_000).tolist() == [[20, 20, 50, 50]]
    assert boxes_at([], 0).shape == (0, 4)


def test_times_are_whole_microseconds() -> None:
    assert micros(3, Fraction(1, 30)) == 100_000
    assert micros(-1, Fraction(1, 90_000)) == -11


@pytest.mark.parametrize("seed", range(6))
def test_key_frames_cover_every_box_and_are_few(seed: int) -> None:
    rng = np.random.default_rng(seed)
    times_us = np.cumsum(rng.integers(20_000, 60_000, 300)).tolist()  # an uneven rate
    start, speed = np.array([300.0, 250.0]), np.array([1.5, 0.3 * np.sin(seed)])
    middle = start + np.cumsum(speed + rng.normal(0, 0.4, (300, 2)), axis=0)
    size = np.linspace(20, 60, 300)[:, None] * [1.0, 0.4]
    boxes = np.hstack([middle - size, middle + size])
    keys = key_frames(times_us, boxes, image_hw=HW)
    assert len(keys) < 60
    for time, box in zip(times_us, boxes.clip(0, [960, 540, 960, 540]), strict=True):
        there = box_at(keys, time)
        assert there is not None
        assert (there[:2] <= box[:2] + 1e-6).all()
        assert (there[2:] >= box[2:] - 1e-6).all()
        # As the docstring says, and a pixel of rounding on each side.
        most = 2 * max(0.1 * (box[2:] - box[:2]).min(), 1.0) + 1.0
        assert np.abs(there - box).max() <= most + 1e-6


def test_an_even_way_needs_two_key_frames() -> None:
    boxes = np.linspace([10, 10, 50, 30], [310, 110, 350, 130], 100)
    keys = key_frames(list(range(0, 4_000_000, 40_000)), boxes, image_hw=HW)
    assert len(keys) == 2
    assert (keys[0][0], keys[-1][0]) == (0, 99 * 40_000)


def test_what_lies_beyond_the_picture_needs_no_key_frame() -> None:
    out = np.tile([-90.0, 10.0, -30.0, 30.0], (5, 1))
    assert key_frames(list(range(5)), out, image_hw=HW) == ()
    into = np.linspace([-90, 10, -30, 30], [10, 10, 70, 30], 5)
    keys = key_frames([0, 10, 20, 30, 40], into, image_hw=HW)
    assert keys[0][0] == 20  # the first frame with a pixel of it
