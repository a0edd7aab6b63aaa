"""Outlines that are no boxes: what they touch is hidden, as irreversibly as boxes, and no more."""

from __future__ import annotations

from typing import get_args

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plateblur.blur import FEATHER, SOLID_GREY, blur_boxes
from plateblur.outlines import (
    Region,
    blur_regions,
    box_regions,
    edges_around,
    flat_regions,
    opaque_regions,
    widened,
)
from plateblur.types import Image, Method
from tests.cases import at_most
from tests.fakes import boxes, street

HW = (90, 140)
METHODS = get_args(Method)
Outline = list[list[float]]


def tilted(x: float, y: float, width: float, height: float, degrees: float) -> Outline:
    """Return the corners of a rectangle around (x, y)."""
    turn = np.deg2rad(degrees)
    across = np.array([np.cos(turn), np.sin(turn)]) * width / 2
    down = np.array([-np.sin(turn), np.cos(turn)]) * height / 2
    signs = [(-1, -1), (1, -1), (1, 1), (-1, 1)]
    return [([x, y] + a * across + b * down).tolist() for a, b in signs]


OUTLINES: dict[str, list[Outline]] = {
    "upright": [tilted(70, 45, 50, 14, 0)],
    "tilted": [tilted(70, 45, 50, 14, 20)],
    "steep": [tilted(70, 45, 50, 14, 75)],
    "perspective": [[[40, 30], [95, 38], [93, 52], [42, 50]]],
    "anticlockwise": [tilted(70, 45, 50, 14, 20)[::-1]],
    "overlapping": [tilted(60, 40, 50, 14, 20), tilted(80, 45, 40, 12, -30)],
    "side-by-side": [tilted(40, 40, 30, 10, 10), tilted(100, 60, 30, 10, -10)],
    "at-the-corner": [tilted(2, 3, 40, 12, 30)],
    "beyond-the-image": [tilted(135, 60, 60, 20, 40)],
    "thin": [tilted(70, 45, 60, 1, 10)],
    "a-point": [[[70.2, 45.3]] * 4],
}
each_layout = pytest.mark.parametrize("outlines", OUTLINES.values(), ids=OUTLINES)


def regions_of(outlines: list[Outline], *, margin: float = 0.0) -> list[Region]:
    return flat_regions(np.array(outlines, np.float32), image_hw=HW, margin=margin)


def mask_of(regions: list[Region]) -> np.ndarray:
    mask = np.zeros(HW, np.bool_)
    for region in regions:
        x1, y1, x2, y2 = region.bounds
        mask[y1:y2, x1:x2] |= region.mask
    return mask


def with_other_letters(image: Image, inside: np.ndarray, *, seed: int) -> Image:
    """Return `image` with a pale ground and other dark marks inside; the ground is dominant."""
    rng = np.random.default_rng(seed)
    ground = rng.integers(0xE0, 0x100, (*HW, 3), dtype=np.uint8)
    marks = rng.integers(0, 0x20, (*HW, 3), dtype=np.uint8)
    columns = np.arange(HW[1])
    is_mark = (rng.random(HW) < 0.7) & (columns % 3 == seed % 3) & cv2_eroded(inside)
    other = image.copy()
    other[inside] = np.where(is_mark[..., None], marks, ground)[inside]
    return other


def cv2_eroded(mask: np.ndarray) -> np.ndarray:
    """Return the mask without its rim, so that marks never outnumber the ground."""
    return cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)


@each_layout
@pytest.mark.parametrize("margin", [0.0, 0.25], ids=["no-margin", "margin"])
def test_what_was_inside_the_outlines_does_not_show_in_a_veil(
    outlines: list[Outline], margin: float
) -> None:
    regions = regions_of(outlines, margin=margin)
    inside = mask_of(regions)
    one, other, third = (
        blur_regions(with_other_letters(street(*HW), inside, seed=s), regions, method="veil")
        for s in (1, 2, 3)
    )
    assert np.array_equal(one, other)
    assert np.array_equal(one, third)


outline = st.builds(
    tilted,
    st.floats(-10, 150),
    st.floats(-10, 100),
    st.floats(1, 90),
    st.floats(1, 50),
    st.floats(0, 180),
)


@pytest.mark.slow
@given(st.lists(outline, min_size=1, max_size=4), st.integers(0, 99), st.sampled_from([0, 0.3]))
@at_most(60)
def test_no_layout_of_outlines_lets_their_inside_through(
    outlines: list[Outline], seed: int, margin: float
) -> None:
    regions = regions_of(outlines, margin=margin)
    inside = mask_of(regions)
    one, other = (
        blur_regions(
            with_other_letters(street(*HW, seed=seed), inside, seed=s), regions, method="veil"
        )
        for s in (seed, seed + 1)
    )
    assert np.array_equal(one, other)


@given(outline)
@at_most(100)
def test_every_pixel_that_an_outline_touches_is_hidden(corners: Outline) -> None:
    mask = mask_of(regions_of([corners]))
    quad = np.array(corners, np.float32).astype(np.float64)
    across, down = np.meshgrid(np.linspace(0, 1, 120), np.linspace(0, 1, 60))
    inside = (
        quad[0] + across[..., None] * (quad[1] - quad[0]) + down[..., None] * (quad[3] - quad[0])
    )
    x, y = np.floor(inside.reshape(-1, 2)).astype(int).T
    seen = (x >= 0) & (y >= 0) & (x < HW[1]) & (y < HW[0])
    assert mask[y[seen], x[seen]].all()


def test_no_pixel_far_from_an_outline_is_hidden() -> None:
    quad = np.array(tilted(70, 45, 60, 14, 35), np.float32)
    mask = mask_of(regions_of([quad.tolist()]))
    y, x = np.nonzero(mask)
    away = [cv2.pointPolygonTest(quad, (u + 0.5, v + 0.5), True) for u, v in zip(x, y, strict=True)]
    assert min(away) > -1.5  # at a corner two edges' slack adds up


def test_an_upright_outline_hides_what_its_box_hides() -> None:
    quad = np.array([[[40, 30], [90, 30], [90, 45], [40, 45]]], np.float32)
    one = mask_of(flat_regions(quad, image_hw=HW, margin=0.2))
    other = mask_of(box_regions(boxes([40, 30, 90, 45]), image_hw=HW, margin=0.2))
    assert np.array_equal(one, other)


@each_layout
@pytest.mark.parametrize("method", METHODS)
def test_beyond_the_feather_not_a_bit_changes(outlines: list[Outline], method: Method) -> None:
    image = street(*HW)
    before = image.copy()
    regions = regions_of(outlines, margin=0.2)
    blurred = blur_regions(image, regions, method=method)
    assert np.array_equal(image, before)
    assert not np.shares_memory(image, blurred)
    inside = mask_of(regions)
    changed = (blurred != image).any(axis=2) & ~inside
    away = cv2.distanceTransform((~inside).astype(np.uint8), cv2.DIST_L2, 5)
    tallest = max(region.mask.shape[0] for region in regions)
    feather_px = max(1, round(FEATHER * tallest)) if method == "veil" else 0
    assert (away[changed] < feather_px + 1).all()


@pytest.mark.parametrize("method", METHODS)
def test_letters_in_a_tilted_outline_are_gone(method: Method) -> None:
    regions = regions_of([tilted(70, 45, 80, 24, 25)], margin=0.1)
    image = np.zeros((*HW, 3), np.uint8)
    image[::2] = 255
    image[:, ::2] ^= 255
    blurred = blur_regions(image, regions, method=method).astype(int)
    inside = mask_of(regions)
    for axis in (0, 1):
        both = inside & np.roll(inside, 1, axis=axis)
        steps = np.abs(blurred - np.roll(blurred, 1, axis=axis)).max(axis=2)
        assert steps[both].max() < 128


@pytest.mark.parametrize("method", METHODS)
def test_in_place_gives_the_same_without_a_copy(method: Method) -> None:
    regions = regions_of([*OUTLINES["overlapping"], *OUTLINES["at-the-corner"]])
    image = street(*HW)
    expected = blur_regions(image, regions, method=method)
    assert blur_regions(image, regions, method=method, in_place=True) is image
    assert np.array_equal(image, expected)


def test_solid_takes_nothing_from_inside() -> None:
    regions = regions_of(OUTLINES["overlapping"])
    image = street(*HW)
    blurred = blur_regions(image, regions, method="solid")
    inside = mask_of(regions)
    assert (blurred[inside] == SOLID_GREY).all()
    assert np.array_equal(blurred[~inside], image[~inside])


def test_a_veil_over_an_upright_region_looks_like_that_over_its_box() -> None:
    image = np.full((*HW, 3), (40, 80, 160), np.uint8)
    image[30:45, 40:90] = 250
    xyxy = boxes([40, 30, 90, 45])
    regions = box_regions(xyxy, image_hw=HW, margin=0.15)
    by_region = blur_regions(image, regions, method="veil").astype(int)
    by_box = blur_boxes(image, xyxy, method="veil", margin=0.15).astype(int)
    assert np.abs(by_region - by_box).max() <= 12


def test_only_a_veil_has_a_soft_edge_and_it_lies_outside() -> None:
    image = street(*HW)
    image[:, :70] = (image[:, :70].astype(int) // 3).astype(np.uint8)  # a hard edge to blend over
    regions = regions_of(OUTLINES["tilted"])
    inside = mask_of(regions)
    beside = cv2.dilate(inside.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool) & ~inside
    for method in METHODS:
        changed = (blur_regions(image, regions, method=method) != image).any(axis=2)
        if method == "veil":
            assert changed[beside].mean() > 0.7
        else:
            assert not changed[beside].any(), method


def test_opacity_is_full_inside_and_untouched_outside() -> None:
    alpha = np.random.default_rng(0).integers(0, 256, HW, dtype=np.uint8)
    regions = regions_of(OUTLINES["tilted"])
    opaque = opaque_regions(alpha, regions)
    inside = mask_of(regions)
    assert (opaque[inside] == 255).all()
    assert np.array_equal(opaque[~inside], alpha[~inside])


@pytest.mark.parametrize(
    "corners",
    [
        [[np.nan, 0], [9, 0], [9, 9], [0, 9]],
        [[np.inf, 0], [9, 0], [9, 9], [0, 9]],
        [[10, 10], [60, 10], [30, 20], [10, 60]],
        [[10, 10], [60, 60], [60, 10], [10, 60]],
    ],
    ids=["nan", "infinite", "dented", "crossed"],
)
def test_an_outline_that_can_not_be_hidden_is_never_passed_over(corners: Outline) -> None:
    with pytest.raises(ValueError, match="must be"):
        regions_of([corners])


def test_an_unknown_method_and_a_negative_margin_are_refused() -> None:
    with pytest.raises(ValueError, match="method must be one of veil"):
        blur_regions(street(*HW), [], method="Veil")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="margin must be at least 0"):
        regions_of(OUTLINES["tilted"], margin=-0.1)


def test_widening_grows_each_side_by_the_margin() -> None:
    corners = np.array([[0.0, 0], [10, 0], [10, 4], [0, 4]])
    assert np.allclose(widened(corners, 0.25), [[-2.5, -1], [12.5, -1], [12.5, 5], [-2.5, 5]])


def test_the_inside_is_the_same_in_either_order_of_corners() -> None:
    corners = np.column_stack([tilted(0, 0, 10, 4, 20), np.ones(4)])
    for order in (corners, corners[::-1]):
        around = edges_around(order, dimensions=2, tolerance=0.1)
        assert (around @ [0, 0, 1] > 0).all()
        assert not (around @ [9, 9, 1] > 0).all()
