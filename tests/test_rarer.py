"""TIFF, BMP and GIF: still ones are blurred, others are refused by name with what to do."""

from __future__ import annotations

import io
import struct
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image as PillowImage
from PIL import TiffImagePlugin

from plateblur.errors import PhotoDecodeError
from plateblur.photo import decode, upright_hw
from plateblur.pipeline import DEFAULTS, blur_photo
from plateblur.rarer import gif_image
from tests.fakes import FixedDetector, boxes, encoded, opened, street

STREET = street(96, 144)
PLATE = FixedDetector(boxes([40, 30, 90, 48]))


def pages(format_: str, count: int) -> bytes:
    out = io.BytesIO()
    first, *others = [PillowImage.fromarray(street(40, 60, seed=n)) for n in range(count)]
    first.save(out, format_, save_all=True, append_images=others)
    return out.getvalue()


@pytest.mark.parametrize("format_", ["TIFF", "BMP"])
def test_a_photo_comes_out_in_its_format_and_unchanged_outside_the_boxes(format_: str) -> None:
    blurred = blur_photo(encoded(STREET, format_, dpi=(300, 300)), PLATE)
    shown = opened(blurred.data)
    assert shown.format == blurred.format == format_
    assert shown.info["dpi"] == pytest.approx((300, 300), abs=0.1)
    assert np.array_equal(np.array(shown)[60:], STREET[60:])
    assert not np.array_equal(np.array(shown)[30:48, 40:90], STREET[30:48, 40:90])


@pytest.mark.parametrize("mode", ["P", "L", "1"])
def test_a_still_gif_keeps_its_colours_to_the_bit(mode: str) -> None:
    data = encoded(PillowImage.fromarray(STREET).convert(mode), "GIF")
    before = np.array(opened(data).convert("RGB"))
    blurred = blur_photo(data, PLATE)
    after = np.array(opened(blurred.data).convert("RGB"))
    assert blurred.format == "GIF"
    assert np.array_equal(after[60:], before[60:])
    assert not np.array_equal(after[30:48, 40:90], before[30:48, 40:90])


def test_a_gif_keeps_what_is_transparent_and_hides_plates_in_it() -> None:
    image = PillowImage.fromarray(STREET).quantize(200)
    index = np.array(image)
    index[50:, :60] = 220
    transparent = PillowImage.fromarray(index)
    transparent.putpalette(image.getpalette() or [])
    blurred = blur_photo(encoded(transparent, "GIF", transparency=220), PLATE)
    alpha = np.array(opened(blurred.data).convert("RGBA"))[..., 3]
    assert (alpha[60:, :60] == 0).all()
    assert (alpha[30:48, 40:90] == 255).all()


@pytest.mark.parametrize(
    ("count", "has_alpha", "is_kept"),
    [(256, False, True), (257, False, False), (255, True, True), (256, True, False)],
)
def test_a_gif_has_at_most_256_colours_and_one_of_them_is_for_what_is_transparent(
    count: int, has_alpha: bool, is_kept: bool
) -> None:
    numbers = np.arange(20 * 30).reshape(20, 30) % count
    levels = np.stack([numbers % 16 * 16, numbers // 16 % 16 * 16, numbers // 256], axis=2)
    image = np.asarray(levels, np.uint8)
    alpha = np.full((20, 30), 255, np.uint8) if has_alpha else None
    if alpha is not None:
        alpha[5:9] = 0
    shown = np.array(opened(encoded(gif_image(image, image, alpha), "GIF")).convert("RGBA"))
    opaque = np.ones((20, 30), np.bool_) if alpha is None else alpha > 0
    assert np.array_equal(shown[opaque][:, :3], image[opaque]) is is_kept
    assert np.abs(shown[opaque][:, :3].astype(int) - image[opaque]).max() <= 40
    if is_kept:
        assert np.array_equal(shown[..., 3] > 0, opaque)


@pytest.mark.parametrize("options", [{"crops": True}, {"projection": "equirectangular"}], ids=str)
def test_a_gif_is_written_whatever_is_asked_for(options: dict[str, Any]) -> None:
    data = encoded(PillowImage.fromarray(street(64, 128)).quantize(256), "GIF")
    blurred = blur_photo(data, PLATE, replace(DEFAULTS, **options))
    before, after = (np.array(opened(one).convert("RGB")) for one in (data, blurred.data))
    assert before.shape == after.shape
    assert not np.array_equal(before, after)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_tiff_is_turned_upright_once(orientation: int) -> None:
    ifd = TiffImagePlugin.ImageFileDirectory_v2()
    ifd[0x0112] = orientation
    data = encoded(STREET, "TIFF", tiffinfo=ifd)
    photo = decode(data)
    assert photo.image_hw == upright_hw(data) == ((144, 96) if orientation > 4 else (96, 144))
    blurred = blur_photo(data, FixedDetector())
    assert np.array_equal(decode(blurred.data).pixels, photo.pixels)


@pytest.mark.parametrize("compression", ["raw", "packbits", "tiff_lzw", "tiff_adobe_deflate"])
def test_a_tiff_stays_compressed_as_it_was(compression: str) -> None:
    blurred = blur_photo(encoded(STREET, "TIFF", compression=compression), PLATE)
    assert opened(blurred.data).info["compression"] == compression


def test_a_tiff_that_loses_is_written_without_loss() -> None:
    blurred = blur_photo(encoded(STREET, "TIFF", compression="jpeg"), PLATE)
    assert opened(blurred.data).info["compression"] == "tiff_lzw"


def test_what_is_lost_of_a_tiff_is_said() -> None:
    deep = PillowImage.fromarray(STREET[..., 0].astype(np.uint16) * 256)
    blurred = blur_photo(encoded(deep, "TIFF"), PLATE, replace(DEFAULTS, metadata="keep"))
    assert blurred.notes == (
        "its colours were reduced to 8 bits a channel",
        "metadata isn't kept in a TIFF",
    )


def test_a_tiff_of_16_bits_in_colour_says_that_it_loses_some() -> None:
    deep = cv2.imencode(".tiff", STREET[..., ::-1].astype(np.uint16) * 257)[1].tobytes()
    blurred = blur_photo(deep, PLATE)
    assert blurred.notes == ("its colours were reduced to 8 bits a channel",)
    assert np.array_equal(decode(blurred.data).pixels[60:], STREET[60:])


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (pages("TIFF", 2), "one page, got 2; save each as a photo of its own"),
        (pages("TIFF", 3), "one page, got 3; save each as a photo of its own"),
        (pages("GIF", 2), "an animation; save one of its images as a photo, or make it a clip"),
        (pages("PNG", 2), "an animation; save one"),
        (pages("WEBP", 2), "an animation; save one"),
    ],
    ids=["tiff", "longer-tiff", "gif", "png", "webp"],
)
def test_several_pages_are_refused_by_name_with_what_to_do(data: bytes, told: str) -> None:
    with pytest.raises(PhotoDecodeError, match=told):
        decode(data)


@pytest.mark.parametrize("tag", [0xC612, 0x014A, 0x00FE], ids=["dng", "sub-images", "preview"])
def test_a_camera_raw_that_begins_as_tiff_is_refused_by_name(tag: int) -> None:
    """Its first image is a preview, and would be blurred alone."""
    ifd = TiffImagePlugin.ImageFileDirectory_v2()
    ifd.tagtype[tag] = 4
    ifd[tag] = 1
    with pytest.raises(PhotoDecodeError, match="got a camera raw; develop it"):
        decode(encoded(STREET, "TIFF", tiffinfo=ifd))


@pytest.mark.parametrize("format_", ["TIFF", "BMP", "GIF"])
def test_a_damaged_one_is_refused(format_: str) -> None:
    data = encoded(STREET, format_)
    for end in (30, 200, len(data) // 2):
        with pytest.raises(PhotoDecodeError):
            decode(data[:end])


def test_letters_in_a_png_that_name_animation_chunks_are_none() -> None:
    """The chunks are walked: `acTL` may be in a text, or in the pixels."""
    data = encoded(STREET, "PNG")
    text = b"tEXt" + b"Comment\0acTL\0\0\0\x05 and more"
    chunk = struct.pack(">L", len(text) - 4) + text + bytes(4)
    photo = decode(data[:33] + with_checksum(chunk) + data[33:])
    assert photo.image_hw == (96, 144)


def with_checksum(chunk: bytes) -> bytes:
    import zlib

    return chunk[:-4] + struct.pack(">L", zlib.crc32(chunk[4:-4]))
