"""Letterbox and its undo: boxes come back where they were, and a wide photo pays for no square."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plateblur.letterbox import PAD_GREY, Pyramid, cut_out, letterbox
from tests.cases import at_most
from tests.fakes import boxes

sizes = st.tuples(st.integers(1, 900), st.integers(1, 900))
models = st.tuples(st.integers(1, 12), st.sampled_from([8, 16, 32])).map(
    lambda m: (m[0] * m[1], m[1])
)


def blank(hw: tuple[int, int]) -> np.ndarray:
    return np.full((*hw, 3), 200, np.uint8)


@given(sizes, models)
@at_most(60)
def test_both_sides_are_multiples_of_the_stride_and_no_longer_than_it_asks(
    hw: tuple[int, int], model: tuple[int, int]
) -> None:
    input_size, stride = model
    boxed = letterbox(Pyramid(blank(hw)), input_size=input_size, stride=stride)
    height, width = boxed.image.shape[:2]
    assert height % stride == 0
    assert width % stride == 0
    assert max(height, width) == input_size
    new_w, new_h = (round(boxed.scale_xy[i] * hw[1 - i]) for i in (0, 1))
    assert 0 <= height - new_h < stride
    assert 0 <= width - new_w < stride
    assert (boxed.image[new_h:] == PAD_GREY).all()
    assert (boxed.image[:, new_w:] == PAD_GREY).all()
    assert (boxed.image[:new_h, :new_w] == 200).all()


@given(sizes, models, st.tuples(*[st.floats(0, 1)] * 4))
@at_most(60)
def test_undo_maps_boxes_back(
    hw: tuple[int, int], model: tuple[int, int], shares: tuple[float, ...]
) -> None:
    input_size, stride = model
    height, width = hw
    there = np.array(shares, np.float32) * [width, height, width, height]
    boxed = letterbox(Pyramid(blank(hw)), input_size=input_size, stride=stride)
    letterboxed = there * np.array([*boxed.scale_xy, *boxed.scale_xy])
    back = boxed.undo(letterboxed.astype(np.float32)[None])
    assert np.allclose(back, there, atol=1e-3 * max(hw))


@pytest.mark.parametrize(
    ("hw", "letterboxed_hw"),
    [
        ((1080, 1920), (384, 640)),
        ((1920, 1080), (640, 384)),
        ((640, 640), (640, 640)),
        ((3000, 4000), (480, 640)),
        ((1, 2000), (32, 640)),
        ((10, 10), (640, 640)),
    ],
    ids=["16:9", "9:16", "square", "4:3", "sliver", "smaller-than-the-input"],
)
def test_the_input_is_as_small_as_the_photo_allows(
    hw: tuple[int, int], letterboxed_hw: tuple[int, int]
) -> None:
    boxed = letterbox(Pyramid(blank(hw)), input_size=640, stride=32)
    assert boxed.image.shape == (*letterboxed_hw, 3)
    assert boxed.image_hw == hw


def test_a_drawn_mark_is_found_where_undo_says() -> None:
    image = np.zeros((600, 1000, 3), np.uint8)
    image[240:300, 500:700] = 255
    boxed = letterbox(Pyramid(image), input_size=320, stride=32)
    rows, columns = np.nonzero(boxed.image[: round(600 * 0.32), :, 0] > 127)
    found = boxes([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    assert np.abs(boxed.undo(found) - boxes([500, 240, 700, 300])).max() <= 1 / 0.32


TURNS = pytest.mark.parametrize("turn", range(4))


@TURNS
def test_a_mark_in_a_turned_letterbox_is_found_where_undo_says(turn: int) -> None:
    image = np.zeros((100, 160, 3), np.uint8)
    image[10:30, 110:150] = 255
    boxed = letterbox(Pyramid(image), input_size=320, stride=32, turn=turn)
    rows, columns = np.nonzero(boxed.image[..., 0] > 200)
    found = boxes([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    assert np.abs(boxed.undo(found) - boxes([110, 10, 150, 30])).max() <= 0.5
    assert (columns.max() - columns.min() > rows.max() - rows.min()) == (turn % 2 == 0)


@TURNS
@pytest.mark.parametrize("box", [(110, 10, 150, 30), (110, 10, 130, 50)], ids=["wide", "high"])
def test_a_turned_cut_out_scales_what_is_wide_after_the_turn(
    turn: int, box: tuple[int, int, int, int]
) -> None:
    image = np.zeros((100, 160, 3), np.uint8)
    image[box[1] : box[3], box[0] : box[2]] = 255
    cut = cut_out(image, np.array(box), width_px=80, side_px=256, turn=turn)
    rows, columns = np.nonzero(cut.image[..., 0] > 200)
    found = boxes([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    assert np.abs(cut.undo(found) - boxes(box)).max() <= 0.5
    # Each of the boxes is 40 px long and 20 px across; one that is high counts as 80 px wide.
    lies = (box[2] - box[0] > box[3] - box[1]) == (turn % 2 == 0)
    assert cut.scale == pytest.approx(80 / (40 if lies else 80))


def test_a_stride_of_one_pixel_needs_no_fill() -> None:
    assert letterbox(Pyramid(blank((9, 7))), input_size=9, stride=1).image.shape == (9, 7, 3)


@pytest.mark.parametrize("hw", [(3, 900), (900, 3)], ids=["across", "down"])
def test_of_a_sliver_at_least_a_pixel_is_seen(hw: tuple[int, int]) -> None:
    height, width = hw
    cut = cut_out(blank(hw), np.array([0, 0, width, height]), width_px=40, side_px=256)
    assert (cut.image == 200).all(axis=-1).any()


def test_undo_clips_to_the_image() -> None:
    boxed = letterbox(Pyramid(blank((90, 160))), input_size=320, stride=32)
    assert boxed.undo(boxes([-50, -50, 500, 500])).tolist() == [[0, 0, 160, 90]]
    assert boxed.undo(boxes([-3e38, -3e38, 3e38, 3e38])).tolist() == [[0, 0, 160, 90]]
    assert boxed.undo(boxes()).shape == (0, 4)


@pytest.mark.parametrize("sizes", [(896, 384, 224), (224, 896, 384), (384, 384, 1120)])
@pytest.mark.parametrize("hw", [(1080, 1920), (1079, 1919), (700, 1280), (40, 50)])
def test_letterboxes_of_one_pyramid_are_those_of_the_image(
    hw: tuple[int, int], sizes: tuple[int, ...]
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*hw, 3), dtype=np.uint8)
    pyramid = Pyramid(image)
    for size in sizes:
        again = letterbox(pyramid, input_size=size, stride=32)
        alone = letterbox(Pyramid(image), input_size=size, stride=32)
        assert np.array_equal(again.image, alone.image)
        assert again.scale_xy == alone.scale_xy


def test_the_part_of_a_pyramid_is_that_part_of_the_image() -> None:
    image = np.random.default_rng(0).integers(0, 256, (90, 160, 3), dtype=np.uint8)
    pyramid = Pyramid(image)
    assert pyramid.part((0, 0, 160, 90)) is pyramid
    assert np.array_equal(pyramid.part((10, 20, 50, 90)).image, image[20:90, 10:50])


def test_the_image_is_left_as_it_was() -> None:
    image = blank((30, 50))
    before = image.copy()
    letterbox(Pyramid(image), input_size=64, stride=32).image[:] = 0
    assert np.array_equal(image, before)


@pytest.mark.parametrize(
    ("hw", "input_size", "stride"),
    [((0, 10), 64, 32), ((10, 0), 64, 32), ((9, 9), 65, 32), ((9, 9), 0, 32), ((9, 9), 64, 0)],
    ids=["no-rows", "no-columns", "no-multiple", "no-size", "no-stride"],
)
def test_what_can_not_be_fitted_is_refused(
    hw: tuple[int, int], input_size: int, stride: int
) -> None:
    with pytest.raises(ValueError, match="must"):
        letterbox(Pyramid(blank(hw)), input_size=input_size, stride=stride)


corners = st.tuples(*[st.floats(0, 1)] * 4)


@given(sizes, corners, st.sampled_from([40, 144]))
@at_most(60)
def test_a_cut_out_shows_the_box_in_its_middle_and_maps_boxes_back(
    hw: tuple[int, int], shares: tuple[float, ...], width_px: int
) -> None:
    height, width = hw
    x1, x2 = sorted((shares[0] * (width - 1), shares[2] * (width - 1)))
    y1, y2 = sorted((shares[1] * (height - 1), shares[3] * (height - 1)))
    box = np.array([x1, y1, x2 + 1, y2 + 1])
    cut = cut_out(blank(hw), box, width_px=width_px, side_px=256)
    assert cut.image.shape == (256, 256, 3)
    half = max(box[2] - box[0], 2 * (box[3] - box[1])) / 2
    middle = (box[:2] + box[2:]) / 2
    expected = np.hstack([middle - half, middle + half]).clip(0, [width, height, width, height])
    there = np.array([[128 - width_px / 2] * 2 + [128 + width_px / 2] * 2], np.float32)
    # The square's corner and side are whole pixels of the image.
    assert np.allclose(cut.undo(there), expected, atol=1.6)
    assert (cut.image == 200).any()


def test_beyond_the_image_a_cut_out_is_filled() -> None:
    cut = cut_out(blank((100, 100)), np.array([0, 0, 40, 20]), width_px=32, side_px=64)
    assert (cut.origin_xy, cut.scale) == ((-20, -30), 0.8)
    assert (cut.image[:24] == PAD_GREY).all()
    assert (cut.image[:, :16] == PAD_GREY).all()
    assert (cut.image[24:, 16:] == 200).all()


def test_what_is_shown_is_where_the_boxes_say() -> None:
    image = blank((400, 600))
    image[100:120, 200:260] = 10
    cut = cut_out(image, np.array([204.0, 102, 264, 122]), width_px=120, side_px=256)
    dark = np.argwhere(cut.image[..., 0] < 105)
    (top, left), (bottom, right) = dark.min(axis=0), dark.max(axis=0) + 1
    there = cut.undo(np.array([[left, top, right, bottom]], np.float32))
    assert np.allclose(there, [[200, 100, 260, 120]], atol=0.6)


@pytest.mark.slow
def test_a_near_plate_in_a_large_image_takes_no_memory_for_what_is_beyond() -> None:
    image = np.broadcast_to(np.uint8(200), (40_000, 40_000, 3))[:1000]
    cut = cut_out(image, np.array([0, 0, 40_000, 1000]), width_px=40, side_px=256)
    assert cut.scale == pytest.approx(40 / 40_000)
    assert (cut.image == 200).any()


@pytest.mark.parametrize(
    ("hw", "side"),
    [
        ((1080, 1920), 896),
        ((1079, 1919), 896),
        ((1440, 2880), 1120),
        ((700, 1280), 896),
        ((2, 4000), 896),
    ],
    ids=["halved", "odd", "twice", "less-than-twice", "sliver"],
)
def test_no_pixel_is_skipped_when_a_photo_is_made_smaller(hw: tuple[int, int], side: int) -> None:
    """One bright column leaves as much light wherever it is, to a third of it."""
    shrink = max(hw) / side
    light = []
    for column in range(max(hw) // 2, max(hw) // 2 + 12):
        image = np.zeros((*hw, 3), np.uint8)
        image[:, column] = 240
        boxed = letterbox(Pyramid(image), input_size=side, stride=32)
        rows = max(1, round(hw[0] / shrink))
        light.append(float(boxed.image[: rows - rows // 2, :, 0].sum(axis=1).mean()) * shrink)
    assert min(light) > 240 / 3 * min(shrink, 2)
