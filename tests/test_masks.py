"""Which pixels a mask counts as hidden, for which plate, and how it is written."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image as PillowImage

from plateblur.errors import EncodeError
from plateblur.masks import (
    ALWAYS_HIDDEN,
    InstanceMask,
    as_binary_png,
    as_instance_png,
    instance_mask,
)
from plateblur.outlines import Region

HW = (6, 9)


def block(left: int, top: int, height: int, width: int) -> Region:
    return Region(left, top, np.ones((height, width), np.bool_))


def test_the_more_confident_plate_is_on_top_and_zones_are_below() -> None:
    plates = [[block(1, 1, 2, 3)], [block(2, 2, 3, 4)]]
    mask = instance_mask(plates, [block(0, 0, 6, 3)], image_hw=HW)
    zone = ALWAYS_HIDDEN
    assert mask.dtype == np.uint16
    assert mask.tolist() == [
        [zone, zone, zone, 0, 0, 0, 0, 0, 0],
        [zone, 1, 1, 1, 0, 0, 0, 0, 0],
        [zone, 1, 1, 1, 2, 2, 0, 0, 0],
        [zone, zone, 2, 2, 2, 2, 0, 0, 0],
        [zone, zone, 2, 2, 2, 2, 0, 0, 0],
        [zone, zone, zone, 0, 0, 0, 0, 0, 0],
    ]


def test_a_plate_of_several_regions_has_one_number_and_only_their_pixels() -> None:
    corner = Region(6, 0, np.array([[True, False], [False, True]]))
    mask = instance_mask([[corner, block(0, 5, 1, 2)]], [], image_hw=HW)
    assert np.argwhere(mask == 1).tolist() == [[0, 6], [1, 7], [5, 0], [5, 1]]
    assert np.count_nonzero(mask) == 4


def test_nothing_is_hidden_without_plates_and_zones() -> None:
    mask = instance_mask([], [], image_hw=HW)
    assert mask.shape == HW
    assert not mask.any()


@pytest.mark.parametrize(
    "count", [ALWAYS_HIDDEN, pytest.param(ALWAYS_HIDDEN + 2, marks=pytest.mark.slow)]
)
def test_more_plates_than_numbers_are_hidden_as_zones_are(count: int) -> None:
    plates = [[block(8, 5, 1, 1)] if number == count - 1 else [] for number in range(count)]
    assert instance_mask(plates, [], image_hw=HW)[5, 8] == ALWAYS_HIDDEN


def test_the_pictures_are_8_bits_of_black_and_white_and_16_bits_of_numbers() -> None:
    plates = [[block(5, 0, 1, 1)], [block(0, 0, 1, 2)]]
    mask = instance_mask(plates, [block(3, 0, 1, 1)], image_hw=HW)
    binary = PillowImage.open(io.BytesIO(as_binary_png(mask)))
    assert (binary.format, binary.mode) == ("PNG", "L")
    assert np.asarray(binary)[0].tolist() == [255, 255, 0, 255, 0, 255, 0, 0, 0]
    numbers = PillowImage.open(io.BytesIO(as_instance_png(mask)))
    assert (numbers.format, numbers.mode) == ("PNG", "I;16")
    assert np.asarray(numbers)[0].tolist() == [2, 2, 0, ALWAYS_HIDDEN, 0, 1, 0, 0, 0]


@pytest.mark.parametrize("write", [as_binary_png, as_instance_png])
def test_a_mask_that_can_not_be_written_is_an_error(
    write: Callable[[InstanceMask], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cv2.imencode", lambda *_: (False, None))
    with pytest.raises(EncodeError, match="the mask could not be written as a PNG"):
        write(instance_mask([], [], image_hw=HW))
