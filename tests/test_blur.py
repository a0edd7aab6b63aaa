"""The blur: irreversible where it says so, bounded, and without effect on what it was given."""

from __future__ import annotations

import time
import tracemalloc
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plateblur.blur import (
    COLOUR_BITS,
    FEATHER,
    SOLID_GREY,
    blur_boxes,
    hidden_bounds,
    opaque_boxes,
)
from plateblur.types import Boxes, Image, Method
from tests.fakes import boxes, street

HW = (90, 140)
METHODS = get_args(Method)
PLATES: dict[str, list[list[float]]] = {
    "one": [[40, 30, 90, 45]],
    "fractions": [[40.3, 30.7, 90.2, 45.9]],
    "several": [[10, 10, 40, 20], [80, 60, 130, 75]],
    "overlapping": [[20, 20, 60, 40], [50, 30, 100, 55]],
    "nested": [[20, 20, 100, 70], [40, 30, 60, 40]],
    "side-by-side": [[20, 20, 50, 35], [50, 20, 80, 35]],
    "one-above-the-other": [[20, 20, 60, 30], [20, 30, 60, 40]],
    "feathers-meet": [[20, 20, 50, 35], [53, 20, 80, 35]],
    "chain": [[10, 10, 40, 30], [70, 40, 110, 60], [35, 25, 75, 45]],
    "at-the-left-top": [[0, 0, 30, 12]],
    "at-the-right-bottom": [[110, 78, 140, 90]],
    "beyond-the-image": [[-20, 50, 30, 200]],
    "one-pixel": [[70, 50, 71, 51]],
    "one-row": [[10, 50, 130, 51]],
    "within-a-pixel": [[70.5, 50.5, 70.5, 50.5]],
    "all-but-a-row": [[0, 0, 140, 89]],
    "whole-image": [[0, 0, 140, 90]],
    "same-twice": [[40, 30, 90, 45], [40, 30, 90, 45]],
}
each_layout = pytest.mark.parametrize("plates", PLATES.values(), ids=PLATES)


def inside_of(xyxy: Boxes, *, margin: float, hw: tuple[int, int] = HW) -> np.ndarray:
    inside = np.zeros(hw, np.bool_)
    for x1, y1, x2, y2 in hidden_bounds(xyxy, image_hw=hw, margin=margin):
        inside[y1:y2, x1:x2] = True
    return inside


def with_other_letters(image: Image, inside: np.ndarray, *, seed: int) -> Image:
    """Return `image` with a pale ground and other dark marks inside the boxes.

    A mark has ground on both sides, so that more than half of the pixels of each row in each box
    are of the ground's colour and all such images share the dominant colour.
    """
    rng = np.random.default_rng(seed)
    other = image.copy()
    ground = rng.integers(0xE0, 0x100, (*inside.shape, 3), dtype=np.uint8)
    marks = rng.integers(0, 0x20, (*inside.shape, 3), dtype=np.uint8)
    columns = np.arange(inside.shape[1])
    is_mark = (rng.random(inside.shape) < 0.7) & (columns % 3 == seed % 3)
    is_mark[:, 1:-1] &= inside[:, :-2] & inside[:, 2:]
    is_mark[:, [0, -1]] = False
    texture = np.where(is_mark[..., None], marks, ground)
    other[inside] = texture[inside]
    return other


@each_layout
@pytest.mark.parametrize("margin", [0.0, 0.15], ids=["no-margin", "margin"])
def test_what_was_inside_the_boxes_does_not_show_in_a_veil(
    plates: list[list[float]], margin: float
) -> None:
    xyxy = boxes(*plates)
    inside = inside_of(xyxy, margin=margin)
    results = [
        blur_boxes(
            with_other_letters(street(*HW), inside, seed=seed), xyxy, method="veil", margin=margin
        )
        for seed in (1, 2, 3)
    ]
    assert np.array_equal(results[0], results[1])
    assert np.array_equal(results[0], results[2])


box = st.tuples(
    st.floats(-20, 150, width=32),
    st.floats(-20, 100, width=32),
    st.floats(0, 120, width=32),
    st.floats(0, 60, width=32),
).map(lambda b: [b[0], b[1], b[0] + b[2], b[1] + b[3]])


@pytest.mark.slow
@given(st.lists(box, min_size=1, max_size=4), st.integers(0, 99), st.sampled_from([0, 0.15, 0.4]))
@settings(max_examples=60, deadline=None)
def test_no_layout_of_boxes_lets_their_inside_through(
    plates: list[list[float]], seed: int, margin: float
) -> None:
    xyxy = boxes(*plates)
    inside = inside_of(xyxy, margin=margin)
    one, other = (
        blur_boxes(
            with_other_letters(street(*HW, seed=seed), inside, seed=s),
            xyxy,
            method="veil",
            margin=margin,
        )
        for s in (seed, seed + 1)
    )
    assert np.array_equal(one, other)


@pytest.mark.slow
def test_a_tall_plate_is_veiled_at_a_smaller_size_and_as_tight() -> None:
    hw = (700, 900)
    xyxy = boxes([101, 53, 803, 611], [700, 590, 871, 655])
    inside = inside_of(xyxy, margin=0.15, hw=hw)
    one, other = (
        blur_boxes(
            with_other_letters(street(*hw), inside, seed=s), xyxy, method="veil", margin=0.15
        )
        for s in (1, 2)
    )
    assert np.array_equal(one, other)


@pytest.mark.slow
def test_only_three_bits_of_each_channel_of_the_colour_show() -> None:
    assert COLOUR_BITS == 3
    xyxy = boxes(*PLATES["one"])
    inside = inside_of(xyxy, margin=0.15)
    seen = set()
    for level in range(0, 256, 4):
        image = street(*HW)
        image[inside] = level
        seen.add(blur_boxes(image, xyxy, method="veil", margin=0.15).tobytes())
    assert len(seen) == 8


def test_solid_takes_nothing_from_inside() -> None:
    xyxy = boxes(*PLATES["overlapping"])
    image = street(*HW)
    blurred = blur_boxes(image, xyxy, method="solid", margin=0.15)
    inside = inside_of(xyxy, margin=0.15)
    assert (blurred[inside] == SOLID_GREY).all()
    assert np.array_equal(blurred[~inside], image[~inside])


@each_layout
@pytest.mark.parametrize("method", METHODS)
def test_the_image_is_left_as_it_was(plates: list[list[float]], method: Method) -> None:
    image = street(*HW)
    before = image.copy()
    blurred = blur_boxes(image, boxes(*plates), method=method, margin=0.15)
    assert np.array_equal(image, before)
    assert not np.shares_memory(image, blurred)
    assert blurred.dtype == np.uint8
    assert blurred.shape == image.shape


@pytest.mark.parametrize("method", METHODS)
def test_in_place_gives_the_same_without_a_copy(method: Method) -> None:
    image = street(60, 120)
    near = boxes([10, 10, 40, 20], [44, 22, 80, 34], [30, 15, 50, 25])
    copied = blur_boxes(image, near, method=method, margin=0.25)
    assert not np.array_equal(copied, image)
    assert blur_boxes(image, near, method=method, margin=0.25, in_place=True) is image
    assert np.array_equal(copied, image)


@pytest.mark.parametrize("method", METHODS)
def test_a_read_only_image_and_a_turned_one_are_taken(method: Method) -> None:
    image = street(*HW)
    image.setflags(write=False)
    turned = image[::-1, ::-1]
    xyxy = boxes(*PLATES["one"])
    blurred = blur_boxes(turned, xyxy, method=method, margin=0.15)
    expected = blur_boxes(np.ascontiguousarray(turned), xyxy, method=method, margin=0.15)
    assert np.array_equal(blurred, expected)


@each_layout
@pytest.mark.parametrize("method", METHODS)
def test_beyond_the_feather_not_a_bit_changes(plates: list[list[float]], method: Method) -> None:
    xyxy = boxes(*plates)
    image = street(*HW)
    blurred = blur_boxes(image, xyxy, method=method, margin=0.15)
    changed = (blurred != image).any(axis=2)
    bounds = hidden_bounds(xyxy, image_hw=HW, margin=0.15)
    heights = bounds[:, 3] - bounds[:, 1]
    feather_px = max(1, round(FEATHER * heights.max())) if method == "veil" else 0
    allowed = inside_of(xyxy, margin=0.15)
    y, x = (at[:, None] for at in np.nonzero(changed & ~allowed))
    dx = np.maximum(bounds[:, 0] - x, x - bounds[:, 2] + 1).clip(0)
    dy = np.maximum(bounds[:, 1] - y, y - bounds[:, 3] + 1).clip(0)
    assert (np.hypot(dx, dy).min(axis=1) < feather_px + 1).all()


@pytest.mark.parametrize("method", METHODS)
def test_every_row_and_column_of_the_widened_box_is_hidden(method: Method) -> None:
    image = np.zeros((*HW, 3), np.uint8)
    image[::2] = 255
    image[:, ::2] ^= 255
    xyxy = boxes([40.5, 30.5, 90.5, 60.5])
    blurred = blur_boxes(image, xyxy, method=method, margin=0.1).astype(int)
    ((x1, y1, x2, y2),) = hidden_bounds(xyxy, image_hw=HW, margin=0.1)
    assert [x1, y1, x2, y2] == [35, 27, 96, 64]
    hidden = blurred[y1:y2, x1:x2]
    assert np.abs(np.diff(hidden, axis=0)).max() < 128
    assert np.abs(np.diff(hidden, axis=1)).max() < 128
    assert np.array_equal(blurred[y1 - 5], image[y1 - 5])


@pytest.mark.parametrize("method", ["mosaic", "gaussian"])
@pytest.mark.parametrize("height", [9, 30, 120, 600], ids=lambda h: f"{h}px")
def test_cosmetic_methods_grow_with_the_plate(method: Method, height: int) -> None:
    """Letters that take the same share of a plate are equally gone at every size."""
    width = 4 * height
    image = np.full((height, width, 3), 240, np.uint8)
    strokes = np.arange(width) // max(1, height // 9) % 2 == 0  # a stroke is a ninth of the height
    image[:, strokes] = 20
    blurred = blur_boxes(image, boxes([0, 0, width, height]), method=method, margin=0.0)
    contrast = np.ptp(blurred[height // 2, height:-height].astype(int))
    assert contrast < 0.4 * (240 - 20)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "plates",
    [
        [], [[10, 10, 10, 10]], [[-30, -30, -5, -5]], [[200, 10, 300, 40]], [[10, 120, 40, 130]],
        [[10, -30, 40, -10]],
    ],
    ids=["none", "empty", "left-of-image", "right-of-image", "below-image", "above-image"],
)  # fmt: skip
def test_boxes_without_a_pixel_change_nothing(method: Method, plates: list[list[float]]) -> None:
    image = street(*HW)
    assert hidden_bounds(boxes(*plates), image_hw=HW, margin=0.15).shape == (0, 4)
    assert np.array_equal(blur_boxes(image, boxes(*plates), method=method, margin=0.15), image)


@pytest.mark.parametrize("plates", [[], [[1, 1, 5, 5]]], ids=["no-boxes", "boxes"])
def test_an_unknown_method_is_refused_even_without_boxes(plates: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="method must be one of veil, solid, mosaic, gaussian"):
        blur_boxes(street(*HW), boxes(*plates), method="Veil", margin=0.15)  # type: ignore[arg-type]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "plate",
    [[np.nan, 0, 9, 9], [0, 0, np.inf, 9], [50, 10, 20, 30]],
    ids=["nan", "infinite", "inside-out"],
)
def test_a_box_that_can_not_be_hidden_is_never_passed_over(
    method: Method, plate: list[float]
) -> None:
    with pytest.raises(ValueError, match="xyxy must"):
        blur_boxes(street(*HW), boxes(plate), method=method, margin=0.15)


def test_a_veil_looks_like_what_is_around_it_and_like_its_plate() -> None:
    image = np.full((*HW, 3), (40, 80, 160), np.uint8)
    image[30:45, 40:90] = 250
    blurred = blur_boxes(image, boxes([40, 30, 90, 45]), method="veil", margin=0.15)
    assert (blurred[38, 65] > 200).all()
    edge = blurred[28, 34].astype(int)
    assert np.abs(edge - (40, 80, 160)).max() < 40


def test_opacity_is_full_inside_the_widened_boxes_and_untouched_outside() -> None:
    alpha = np.random.default_rng(0).integers(0, 256, HW, dtype=np.uint8)
    before = alpha.copy()
    xyxy = boxes(*PLATES["several"])
    opaque = opaque_boxes(alpha, xyxy, margin=0.15)
    inside = inside_of(xyxy, margin=0.15)
    assert (opaque[inside] == 255).all()
    assert np.array_equal(opaque[~inside], alpha[~inside])
    assert np.array_equal(alpha, before)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.slow
def test_a_plate_that_fills_a_large_photo_takes_no_minutes(method: Method) -> None:
    image = np.zeros((2000, 3000, 3), np.uint8)
    start = time.process_time()
    blur_boxes(image, boxes([0, 0, 3000, 1990]), method=method, margin=0.15)
    assert time.process_time() - start < 5  # a kernel of the plate's height would take a minute


@pytest.mark.slow
def test_a_veil_works_on_what_is_around_the_boxes_alone() -> None:
    """Beside the copy that comes back, a large photo costs no more than a small one."""
    image = street(1500, 2000)
    blur_boxes(image, boxes([100, 100, 160, 115]), method="veil", margin=0.25)
    tracemalloc.start()
    blur_boxes(image, boxes([100, 100, 160, 115]), method="veil", margin=0.25)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < image.nbytes + 1_000_000
