"""Drawn boxes: on a copy, at the detections, and readable wherever a box lies."""

from __future__ import annotations

import numpy as np
import pytest

from plateblur.draw import COLOUR, draw_detections
from plateblur.types import Detections
from tests.fakes import boxes

GREY = np.full((120, 200, 3), 90, np.uint8)


def detections(*xyxy: list[float]) -> Detections:
    return Detections(boxes(*xyxy), np.linspace(0.9, 0.5, len(xyxy)).astype(np.float32))


@pytest.mark.parametrize(
    "box",
    [
        [60, 50, 120, 70],
        [0, 0, 60, 20],
        [140, 100, 200, 120],
        [-30, -10, 40, 30],
        [0, 0, 200, 120],
        [80, 60, 80.5, 60.5],
        [300, 300, 400, 400],
    ],
    ids=[
        *("middle", "left-top", "right-bottom", "cut", "whole-image", "one-pixel"),
        "outside",
    ],
)
def test_a_box_is_drawn_wherever_it_lies_and_the_image_stays(box: list[float]) -> None:
    image = GREY.copy()
    drawn = draw_detections(image, detections(box))
    assert np.array_equal(image, GREY)
    assert drawn.shape == image.shape
    assert drawn.dtype == np.uint8


@pytest.mark.parametrize(
    "box",
    [[60, 50, 120, 70], [0, 0, 60, 20], [140, 90, 200, 118], [0, 0, 200, 120]],
    ids=["above", "below", "at-the-bottom", "inside"],
)
def test_the_confidence_stands_in_the_image(box: list[float]) -> None:
    drawn = draw_detections(GREY, detections(box))
    label = (drawn == COLOUR).all(axis=2)
    black = (drawn < 40).all(axis=2)
    assert label.sum() > 200  # a filled label, and not the outline alone
    assert black.sum() > 5  # and its letters


def test_the_outline_lies_on_the_boxs_outermost_pixels() -> None:
    drawn = draw_detections(GREY, detections([60, 50, 120, 70]))
    for y, x in [(50, 60), (50, 119), (69, 60), (69, 119)]:
        assert tuple(drawn[y, x]) == COLOUR


def test_no_detections_draw_nothing() -> None:
    assert np.array_equal(draw_detections(GREY, detections()), GREY)
