"""A JPEG that is kept bit for bit outside its plates, and of whose plates nothing is left."""

from __future__ import annotations

import io
import shutil
import struct
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageDraw

from plateblur import exact
from plateblur.blur import FEATHER, blur_boxes, hidden_bounds
from plateblur.errors import EncodeError
from plateblur.jpeg import bare_jpeg
from plateblur.photo import UPRIGHT, decode
from plateblur.pipeline import blur_photo
from plateblur.types import BlurOptions, Image, Method
from tests.fakes import FixedDetector, boxes, encoded, opened, psnr, street

jpeglib = pytest.importorskip("jpeglib")

HW = (203, 301)  # no multiple of a block
BOX = (97, 83, 193, 123)
EXACT = BlurOptions(exact=True)
CODINGS: dict[str, dict[str, Any]] = {
    "4:2:0": {"quality": 90},
    "4:2:2": {"quality": 85, "subsampling": 1},
    "4:4:4": {"quality": 95, "subsampling": 0},
    "progressive": {"quality": 88, "progressive": True},
    "restarts": {"quality": 90, "restart_marker_rows": 1},
    "lowest": {"quality": 5},
    "highest": {"quality": 100, "subsampling": 0},
}


def with_plate(text: str, *, box: tuple[int, int, int, int] = BOX) -> Image:
    """Return a street with dark letters on one bright colour, all inside of `box`."""
    image = PillowImage.fromarray(street(*HW))
    draw = ImageDraw.Draw(image)
    x1, y1, x2, y2 = box
    draw.rectangle((x1, y1, x2 - 1, y2 - 1), fill=(224, 224, 224))
    draw.text(((x1 + x2) // 2, (y1 + y2) // 2), text, fill=(10, 10, 10), anchor="mm", font_size=18)
    return np.array(image)


def blocks(data: bytes, folder: Path) -> list[NDArray[np.int16]]:
    """Return the coefficients of each component of a JPEG."""
    path = folder / "read.jpg"
    path.write_bytes(data)
    coded = jpeglib.read_dct(str(path))
    planes = [coded.Y] if coded.num_components == 1 else [coded.Y, coded.Cb, coded.Cr]
    return [np.array(plane) for plane in planes]


def touched(grid: tuple[int, ...], bounds: NDArray[np.int64], *, reach: int) -> NDArray[np.bool_]:
    """Return (rows, columns) of the blocks of a component that a hidden box reaches into."""
    step_y, step_x = HW[0] / grid[0], HW[1] / grid[1]
    cell = (8, 8) if step_y < 12 else (16, 16)
    cell = (cell[0], 16 if step_x > 12 else 8)
    found = np.zeros(grid, np.bool_)
    for x1, y1, x2, y2 in bounds:
        top, left = max(0, y1 - reach) // cell[0], max(0, x1 - reach) // cell[1]
        found[top : -(-(y2 + reach) // cell[0]), left : -(-(x2 + reach) // cell[1])] = True
    return found


@pytest.mark.parametrize("coding", CODINGS.values(), ids=CODINGS)
def test_blocks_that_no_hidden_pixel_lies_in_stay_to_the_bit(
    coding: dict[str, Any], tmp_path: Path
) -> None:
    data = encoded(with_plate("AB 123"), **coding)
    blurred = blur_photo(data, FixedDetector(boxes(BOX)), EXACT)
    assert blurred.notes == ()
    bounds = hidden_bounds(boxes(BOX), image_hw=HW, margin=EXACT.margin)
    feather = 1 + round(FEATHER * float(bounds[0, 3] - bounds[0, 1]))
    for old, new in zip(blocks(data, tmp_path), blocks(blurred.data, tmp_path), strict=True):
        near = touched(old.shape[:2], bounds, reach=feather)
        inside = touched(old.shape[:2], bounds, reach=0)
        assert np.array_equal(old[~near], new[~near])
        assert not np.array_equal(old[inside], new[inside])
    shown = decode(blurred.data).pixels
    veiled = blur_boxes(decode(data).pixels, boxes(BOX), method="veil", margin=EXACT.margin)
    x1, y1, x2, y2 = bounds[0]
    assert psnr(shown[y1:y2, x1:x2], veiled[y1:y2, x1:x2]) > (20 if coding["quality"] < 50 else 30)


@pytest.mark.parametrize("method", ["veil", "solid"])
@pytest.mark.parametrize("coding", CODINGS.values(), ids=CODINGS)
def test_the_output_does_not_depend_on_what_the_plate_says(
    coding: dict[str, Any], method: Method
) -> None:
    """As the veil's own proof: two plates of one colour give one output, to the byte.

    The letters lie so far inside that no block which is kept knows of them.
    """
    options = replace(EXACT, method=method)
    detector = FixedDetector(boxes((80, 64, 208, 144)))
    one, other = (
        blur_photo(encoded(with_plate(text), **coding), detector, options).data
        for text in ("AB 123", "WX 987")
    )
    assert encoded(with_plate("AB 123"), **coding) != encoded(with_plate("WX 987"), **coding)
    assert one == other


@pytest.mark.parametrize("coding", CODINGS.values(), ids=CODINGS)
def test_no_old_coefficient_of_a_hidden_block_survives(
    coding: dict[str, Any], tmp_path: Path
) -> None:
    """The differences between two plates are sought in the output's coefficients."""
    data = [encoded(with_plate(text), **coding) for text in ("AB 123", "WX 987")]
    detector = FixedDetector(boxes((80, 64, 208, 144)))
    before = [blocks(one, tmp_path) for one in data]
    after = [blocks(blur_photo(one, detector, EXACT).data, tmp_path) for one in data]
    for plane in range(3):
        letters = before[0][plane].astype(int) - before[1][plane]
        left = after[0][plane].astype(int) - after[1][plane]
        if plane == 0:
            assert np.abs(letters).max() > 0
        assert not left.any()


ODD = {
    "4:1:1": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_411,
    "4:4:0": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_440,
    "4:2:2": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422,
}


@pytest.mark.parametrize("is_progressive", [False, True], ids=["baseline", "progressive"])
@pytest.mark.parametrize("sampling", ODD.values(), ids=ODD)
def test_chroma_that_is_sampled_otherwise_stays_and_nothing_of_a_plate_does(
    sampling: int, is_progressive: bool, tmp_path: Path
) -> None:
    """Chroma blocks are 32 x 8, 8 x 16 or 16 x 8 pixels large; Pillow writes only the last."""
    how = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
    how += [cv2.IMWRITE_JPEG_PROGRESSIVE, int(is_progressive), cv2.IMWRITE_JPEG_RST_INTERVAL, 3]
    data = [
        cv2.imencode(".jpg", with_plate(text)[..., ::-1], how)[1].tobytes()
        for text in ("AB 123", "WX 987")
    ]
    detector = FixedDetector(boxes((80, 64, 208, 144)))
    one, other = (blur_photo(each, detector, EXACT) for each in data)
    assert one.notes == ()
    assert data[0] != data[1]
    assert one.data == other.data
    assert opened(one.data).size == HW[::-1]
    for old, new in zip(blocks(data[0], tmp_path), blocks(one.data, tmp_path), strict=True):
        assert np.array_equal(old[:2], new[:2])
        assert np.array_equal(old[:, :1], new[:, :1])
        assert not np.array_equal(old, new)


@pytest.mark.skipif(not shutil.which("jpegtran"), reason="jpegtran isn't installed")
@pytest.mark.parametrize("more", [[], ["-progressive"]], ids=["baseline", "progressive"])
def test_an_arithmetic_coded_photo_keeps_its_blocks(more: list[str], tmp_path: Path) -> None:
    plain = encoded(with_plate("AB 123"), quality=90)
    command = ["jpegtran", "-arithmetic", *more]
    data = subprocess.run(command, input=plain, check=True, capture_output=True).stdout
    detector = FixedDetector(boxes(BOX))
    blurred = blur_photo(data, detector, EXACT)
    assert blurred.notes == ()
    as_plain = blocks(blur_photo(plain, detector, EXACT).data, tmp_path)
    for one, other in zip(blocks(blurred.data, tmp_path), as_plain, strict=True):
        assert np.array_equal(one, other)


def test_pixels_outside_are_those_of_the_first_input_after_ten_blurs() -> None:
    """Two samples beyond the blocks, as far as a decoder softens chroma."""
    data = first = encoded(with_plate("AB 123"), quality=80)
    detector = FixedDetector(boxes(BOX))
    for _ in range(10):
        data = blur_photo(data, detector, EXACT).data
    bounds = hidden_bounds(boxes(BOX), image_hw=HW, margin=EXACT.margin)
    x1, y1, x2, y2 = bounds[0]
    feather = 1 + round(FEATHER * float(y2 - y1))
    outside = np.ones(HW, np.bool_)
    top, left = (y1 - feather) // 16 * 16 - 2, (x1 - feather) // 16 * 16 - 2
    bottom, right = -(-(y2 + feather) // 16) * 16 + 2, -(-(x2 + feather) // 16) * 16 + 2
    outside[top:bottom, left:right] = False
    assert outside.mean() > 0.5
    assert np.array_equal(decode(first).pixels[outside], decode(data).pixels[outside])
    again = encoded(with_plate("AB 123"), quality=80)
    for _ in range(10):
        again = blur_photo(again, detector).data
    assert not np.array_equal(decode(first).pixels[outside], decode(again).pixels[outside])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_photo_keeps_its_blocks_and_its_orientation(
    orientation: int, tmp_path: Path
) -> None:
    exif = PillowImage.Exif()
    exif[0x0112] = orientation
    data = encoded(with_plate("AB 123"), quality=90, exif=exif.tobytes())
    upright = decode(data).pixels
    on_upright = np.zeros(HW, np.uint8)
    on_upright[BOX[1] : BOX[3], BOX[0] : BOX[2]] = 1
    turned = UPRIGHT[orientation](on_upright) if orientation in UPRIGHT else on_upright
    rows, columns = turned.nonzero()
    box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    blurred = blur_photo(data, FixedDetector(boxes(box)), EXACT)
    assert opened(blurred.data).getexif().get(0x0112, 1) == orientation
    shown = decode(blurred.data).pixels
    assert shown.shape == upright.shape
    corner = np.s_[:32, :32]
    assert np.array_equal(shown[corner], upright[corner])
    assert psnr(shown[turned > 0], upright[turned > 0]) < 20
    for old, new in zip(blocks(data, tmp_path), blocks(blurred.data, tmp_path), strict=True):
        assert old.shape == new.shape
        assert np.array_equal(old[:4, :4], new[:4, :4])


def test_a_grey_photo_stays_grey_and_exact(tmp_path: Path) -> None:
    data = encoded(PillowImage.fromarray(with_plate("AB 123")).convert("L"), quality=90)
    blurred = blur_photo(data, FixedDetector(boxes(BOX)), EXACT)
    assert opened(blurred.data).mode == "L"
    [old], [new] = blocks(data, tmp_path), blocks(blurred.data, tmp_path)
    assert np.array_equal(old[:8], new[:8])
    assert not np.array_equal(old[10:15, 12:24], new[10:15, 12:24])


def test_a_plate_at_the_edge_leaves_nothing_in_blocks_beyond_it(tmp_path: Path) -> None:
    """The last blocks reach beyond the picture, and a decoder doesn't show what they hold there."""
    box = (229, 163, 301, 203)
    outputs = [
        blur_photo(encoded(with_plate(text, box=box), quality=90), FixedDetector(boxes(box)), EXACT)
        for text in ("AB 123", "WX 987")
    ]
    assert outputs[0].data == outputs[1].data


def test_without_plates_all_blocks_stay(tmp_path: Path) -> None:
    data = encoded(with_plate("AB 123"), quality=90)
    blurred = blur_photo(data, FixedDetector(), EXACT)
    for old, new in zip(blocks(data, tmp_path), blocks(blurred.data, tmp_path), strict=True):
        assert np.array_equal(old, new)


def test_neither_thumbnail_nor_what_follows_the_photo_is_written() -> None:
    preview = encoded(with_plate("AB 123")[80:126, 94:196], quality=50)
    exif = b"Exif\0\0" + b"II*\0" + struct.pack("<L", 8) + struct.pack("<H", 0) + bytes(4) + preview
    data = encoded(with_plate("AB 123"), quality=90, exif=exif, comment=b"seen") + preview
    for policy in ("strip", "safe", "keep"):
        options = replace(EXACT, metadata=policy)
        blurred = blur_photo(data, FixedDetector(boxes(BOX)), options)
        assert preview[-200:-2] not in blurred.data
        assert blurred.data.count(b"\xff\xd8\xff") == 1
        assert blurred.data.endswith(b"\xff\xd9")


def test_density_profile_and_camera_stay_by_policy() -> None:
    exif = PillowImage.Exif()
    exif[0x010F] = "Maker"
    data = encoded(with_plate("AB 123"), quality=90, exif=exif.tobytes(), dpi=(240, 240))
    blurred = blur_photo(data, FixedDetector(boxes(BOX)), replace(EXACT, metadata="safe"))
    assert opened(blurred.data).info["dpi"] == (240, 240)
    assert opened(blurred.data).getexif()[0x010F] == "Maker"


@pytest.mark.parametrize("mode", ["CMYK", "RGB"])
def test_what_can_not_be_kept_exactly_is_written_all_the_same_and_said(mode: str) -> None:
    image = PillowImage.fromarray(with_plate("AB 123")).convert(mode)
    data = encoded(image, quality=90, keep_rgb=mode == "RGB")
    blurred = blur_photo(data, FixedDetector(boxes(BOX)), EXACT)
    kept, *converted = reversed(blurred.notes)
    assert "not kept bit for bit" in kept
    assert converted == (["its CMYK colours were converted to RGB"] if mode == "CMYK" else [])
    assert (
        psnr(decode(blurred.data).pixels[85:120, 100:190], with_plate("AB 123")[85:120, 100:190])
        < 25
    )


@pytest.mark.parametrize(
    ("format_", "notes"), [("PNG", 0), ("TIFF", 0), ("BMP", 0), ("GIF", 0), ("WEBP", 1)]
)
def test_other_formats_are_exact_or_say_that_they_are_not(format_: str, notes: int) -> None:
    blurred = blur_photo(encoded(with_plate("A"), format_), FixedDetector(boxes(BOX)), EXACT)
    assert len(blurred.notes) == notes


def test_blocks_that_were_not_to_be_written_stop_the_photo(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where jpeglib passed on the old ones."""
    data = encoded(with_plate("AB 123"), quality=90)
    monkeypatch.setattr(
        jpeglib.DCTJPEG, "write_dct", lambda _, path, flags: Path(path).write_bytes(data)
    )
    with pytest.raises(EncodeError, match="other blocks"):
        blur_photo(data, FixedDetector(boxes(BOX)), EXACT)


def test_without_the_extra_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "find_spec", lambda _: None)
    with pytest.raises(ValueError, match="plateblur\\[exact\\]"):
        blur_photo(encoded(street()), FixedDetector(), EXACT)


def test_a_bare_jpeg_shows_the_same_and_says_nothing() -> None:
    data = (
        encoded(street(), comment=b"secret", exif=b"Exif\0\0II*\0\x08\0\0\0\0\0" + bytes(4))
        + b"trailer"
    )
    bare = bare_jpeg(data)
    assert b"secret" not in bare
    assert b"Exif" not in bare
    assert bare.endswith(b"\xff\xd9")
    shown, as_before = (np.array(PillowImage.open(io.BytesIO(one))) for one in (bare, data))
    assert np.array_equal(shown, as_before)
