"""How each method looks, compared with pictures that `python -m tests.test_blur_golden` makes.

Make them again only if a method is meant to look different, and look at them before you commit.
"""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import cv2
import numpy as np
import pytest
from PIL import Image as PillowImage

from plateblur.blur import (
    FEATHER,
    GAUSSIAN_SIGMA,
    MOSAIC_ROWS,
    SOLID_GREY,
    VEIL_STRENGTH,
    blur_boxes,
    hidden_bounds,
)
from plateblur.types import Image, Method
from tests.fakes import boxes

PICTURES = Path(__file__).parent / "golden"
HW = (300, 340)
# Levels. OpenCV rounds differently from one processor to the next, by one level here and there.
MEAN_DIFFERENCE = 0.05
MOST_DIFFERENCE = 3
PLATES = boxes(
    [12, 10, 52, 20],  # small
    [70, 8, 200, 40],  # of a usual size
    [220, 14, 290, 44],  # one of two that overlap
    [270, 34, 336, 60],
    [-10, 120, 26, 138],  # cut by the edge
    [40, 90, 330, 240],  # tall: done at a smaller size
    [150, 262, 151, 292],  # a pixel wide
)
METHODS = get_args(Method)


def scene() -> Image:
    """Return (H, W, 3) uint8: a slope of colours with pale plates, dark strokes and a blue end."""
    down, across = np.mgrid[0 : HW[0], 0 : HW[1]]
    image = np.stack([across * 0.6, 60 + down * 0.5, 200 - across * 0.3 - down * 0.2], axis=-1)
    image[(down // 7 + across // 11) % 5 == 0] *= 0.8
    image = image.round().astype(np.uint8)
    for x1, y1, x2, y2 in hidden_bounds(PLATES, image_hw=HW, margin=0.0):
        plate = image[y1:y2, x1:x2]
        plate[:] = (236, 232, 214)
        stroke = max(1, (y2 - y1) // 8)
        plate[stroke:-stroke, np.arange(x2 - x1) // stroke % 3 == 1] = (24, 26, 30)
        plate[:, : (x2 - x1) // 10] = (20, 60, 170)
    return image


@pytest.mark.parametrize("method", METHODS)
def test_a_method_looks_as_in_its_picture(method: Method) -> None:
    blurred = blur_boxes(scene(), PLATES, method=method, margin=0.1)
    golden = np.asarray(PillowImage.open(PICTURES / f"{method}.png"))
    apart = np.abs(blurred.astype(int) - golden)
    assert apart.max() <= MOST_DIFFERENCE
    assert apart.mean() <= MEAN_DIFFERENCE


@pytest.mark.parametrize("scale", [1, 2, 4], ids=lambda scale: f"x{scale}")
@pytest.mark.parametrize("method", METHODS)
def test_a_method_looks_the_same_at_every_size(method: Method, scale: int) -> None:
    """What a plate 40 px high becomes is what one of 160 px becomes, enlarged."""
    small = PillowImage.fromarray(scene()[:60, 60:210])
    plate = boxes([10, 8, 140, 40])
    size = (small.width * scale, small.height * scale)
    larger = np.asarray(small.resize(size, PillowImage.Resampling.NEAREST))
    blurred = blur_boxes(larger, plate * scale, method=method, margin=0.0)
    again = cv2.resize(blurred, small.size, interpolation=cv2.INTER_AREA)
    first = blur_boxes(np.asarray(small), plate, method=method, margin=0.0)
    assert np.abs(again.astype(int) - first)[9:39, 11:139].mean() < 6


def test_a_mosaic_has_so_many_rows_of_square_cells_of_one_colour() -> None:
    inside = blur_boxes(scene(), boxes([70, 8, 202, 41]), method="mosaic", margin=0.0)[8:41, 70:202]
    rows = 1 + int(np.count_nonzero(np.any(np.diff(inside.astype(int), axis=0), axis=(1, 2))))
    columns = 1 + int(np.count_nonzero(np.any(np.diff(inside.astype(int), axis=1), axis=(0, 2))))
    assert (rows, columns) == (MOSAIC_ROWS, round(MOSAIC_ROWS * 132 / 33))


@pytest.mark.parametrize("height", [24, 96, 400], ids=lambda height: f"{height}px")
def test_a_gaussian_softens_an_edge_by_its_sigma(height: int) -> None:
    """A step turns into the integral of the Gaussian: it goes from 16 % to 84 % in two sigma."""
    image = np.zeros((height, 4 * height, 3), np.uint8)
    image[:, 2 * height :] = 255
    whole = boxes([0, 0, 4 * height, height])
    row = blur_boxes(image, whole, method="gaussian", margin=0.0)[height // 2, :, 0] / 255
    crossed = [float(np.interp(level, row, np.arange(4 * height))) for level in (0.159, 0.841)]
    assert crossed[1] - crossed[0] == pytest.approx(2 * GAUSSIAN_SIGMA * height, rel=0.06, abs=1)


def test_a_veil_falls_off_within_its_feather() -> None:
    """Outside the box the veil shows less with every pixel, and in the last one hardly."""
    image = np.full((200, 300, 3), 40, np.uint8)
    image[50:150, 50:250] = 224  # the plate's colour, which shows in the veil
    blurred = blur_boxes(image, boxes([50, 51, 250, 149]), method="veil", margin=0.0).astype(int)
    feather = round(FEATHER * 98)
    above = np.abs(blurred[:51, 150, 0] - image[:51, 150, 0].astype(int))
    assert above[50] > 0  # the row of plate that the box left out is softened,
    assert not above[: 50 - feather].any()  # and beyond the feather nothing is


def test_the_middle_of_a_veil_has_most_of_the_plates_colour() -> None:
    image = np.full((200, 300, 3), 0, np.uint8)
    image[50:150, 50:250] = 255
    blurred = blur_boxes(image, boxes([50, 50, 250, 150]), method="veil", margin=0.0)
    assert blurred[100, 150].tolist() == pytest.approx([255 * VEIL_STRENGTH] * 3, abs=2)
    assert blurred[51, 150].max() < 0.2 * 255  # and at the edge it is that of the surroundings


def test_solid_is_one_grey_to_the_last_pixel_and_nothing_else_changes() -> None:
    image = scene()
    blurred = blur_boxes(image, boxes([70, 8, 200, 40]), method="solid", margin=0.0)
    changed = np.any(blurred != image, axis=-1)
    assert (blurred[8:40, 70:200] == SOLID_GREY).all()
    changed[8:40, 70:200] = False
    assert not changed.any()


if __name__ == "__main__":
    PICTURES.mkdir(exist_ok=True)
    for each in METHODS:
        made = blur_boxes(scene(), PLATES, method=each, margin=0.1)
        PillowImage.fromarray(made).save(PICTURES / f"{each}.png", optimize=True)
