"""A JPEG that is cut: refused, or what can't be decoded is hidden and said."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from plateblur.errors import PhotoDecodeError
from plateblur.jpeg import GREY, is_cut
from plateblur.photo import decode
from plateblur.pipeline import DEFAULTS, blur_photo
from tests.fakes import FixedDetector, boxes, encoded, street

STREET = street(192, 256)
HIDE = replace(DEFAULTS, damaged="hide")
CODINGS: dict[str, dict[str, Any]] = {
    "4:2:0": {"quality": 85},
    "4:4:4": {"quality": 85, "subsampling": 0},
    "restarts": {"quality": 85, "restart_marker_rows": 2},
}


@pytest.mark.parametrize("share", [0.4, 0.7, 0.95])
@pytest.mark.parametrize("coding", CODINGS.values(), ids=CODINGS)
def test_rows_that_can_not_be_decoded_turn_grey_and_the_others_stay(
    coding: dict[str, Any], share: float
) -> None:
    data = encoded(STREET, **coding)
    cut = data[: int(len(data) * share)]
    with pytest.raises(PhotoDecodeError):
        decode(cut)
    photo = decode(cut, damaged="hide")
    grey = (photo.pixels == GREY).all(axis=(1, 2))
    first = int(grey.argmax())
    assert grey[first:].all()
    assert np.array_equal(photo.pixels[:first], decode(data).pixels[:first])
    assert first >= int(192 * share) - 32 * 2 - 8
    assert photo.notes == (f"it is cut: the lowest {192 - first} of 192 rows turned grey",)
    blurred = blur_photo(cut, FixedDetector(boxes([40, 4, 90, 12])), HIDE)
    assert blurred.notes == photo.notes
    assert not is_cut(blurred.data)


def test_a_turned_photo_that_is_cut_is_hidden_where_it_is_cut() -> None:
    from PIL import Image as PillowImage

    exif = PillowImage.Exif()
    exif[0x0112] = 6
    data = encoded(STREET, exif=exif.tobytes())
    photo = decode(data[: len(data) * 2 // 3], damaged="hide")
    assert photo.image_hw == (256, 192)
    assert (photo.pixels[:, 0] == GREY).all()
    assert not (photo.pixels[:, -1] == GREY).all()


def test_nothing_is_made_of_a_photo_of_which_nothing_can_be_decoded() -> None:
    data = encoded(STREET)
    start = data.index(b"\xff\xda") + 14
    for end in (start, start + 20):
        with pytest.raises(PhotoDecodeError):
            decode(data[:end], damaged="hide")


def test_a_progressive_jpeg_that_is_cut_between_its_scans_is_coarser() -> None:
    data = encoded(STREET, progressive=True, quality=85)
    last = data.rindex(b"\xff\xda")
    photo = decode(data[:last], damaged="hide")
    assert photo.notes == ("it is cut: finer detail is missing",)


@pytest.mark.parametrize("format_", ["PNG", "WEBP"])
def test_other_formats_are_refused_as_before(format_: str) -> None:
    data = encoded(STREET, format_)
    with pytest.raises(PhotoDecodeError):
        decode(data[: len(data) // 2], damaged="hide")


def test_a_whole_photo_and_one_that_lacks_its_end_marker_lose_nothing() -> None:
    data = encoded(STREET)
    for one in (data, data[:-2]):
        photo = decode(one, damaged="hide")
        assert photo.notes == ()
        assert np.array_equal(photo.pixels, decode(data).pixels)


def test_damage_inside_is_no_cut() -> None:
    """Nobody could say what of it is right, so it is taken or refused as without `hide`."""
    data = bytearray(encoded(STREET, quality=85))
    middle = len(data) // 2
    data[middle : middle + 60] = b"\xff\x01" * 30
    assert not is_cut(bytes(data))
    assert is_cut(encoded(STREET)[:-500])


def test_a_cut_photo_is_not_kept_exactly_and_that_is_said() -> None:
    pytest.importorskip("jpeglib")
    data = encoded(STREET, quality=85)
    options = replace(HIDE, exact=True)
    blurred = blur_photo(data[: len(data) // 2], FixedDetector(), options)
    assert any("not kept bit for bit: it is damaged" in note for note in blurred.notes)
