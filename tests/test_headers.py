"""What headers give away: bombs are refused before a decoder sees them, and no real photo is."""

from __future__ import annotations

import io
import struct
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as PillowImage

from plateblur.errors import PhotoTooLargeError
from plateblur.headers import MAX_JPEG_SEGMENTS, MAX_SCANS, MAX_SIDE_PX, refuse_costly
from plateblur.photo import MAX_PIXELS, decode
from tests.fakes import encoded, street
from tests.test_photo import png_chunk, png_of, with_jpeg_segment, with_png_chunk

STREET = street(96, 144)
CASES = Path(__file__).parents[2] / "shared" / "cases"


def progressive(scans: int, *, between: bytes = b"") -> bytes:
    """Return a progressive JPEG with its last scan again and again, each after `between`."""
    data = encoded(STREET, progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:-2] + (between + data[last:-2]) * scans + data[-2:]


def png_header(width: int, height: int, *, depth: int = 8, colours: int = 2) -> bytes:
    return struct.pack(">LLBBBBB", width, height, depth, colours, 0, 0, 0)


def webp_canvas(width: int, height: int) -> bytes:
    sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    canvas = b"VP8X" + struct.pack("<L", 10) + bytes(4) + sides
    data = encoded(STREET, "WEBP")[12:]
    return b"RIFF" + struct.pack("<L", 4 + len(canvas) + len(data)) + b"WEBP" + canvas + data


def box(name: bytes, content: bytes) -> bytes:
    return struct.pack(">L", 8 + len(content)) + name + content


def heif_of(*properties: bytes, brand: bytes = b"heic") -> bytes:
    meta = box(b"meta", bytes(4) + box(b"iprp", box(b"ipco", b"".join(properties))))
    return box(b"ftyp", brand + bytes(4) + brand) + meta


def ispe(width: int, height: int) -> bytes:
    return box(b"ispe", bytes(4) + struct.pack(">LL", width, height))


BOMBS: dict[str, bytes] = {
    "many scans": progressive(MAX_SCANS),
    "many scans after fill bytes": progressive(MAX_SCANS, between=b"\xff" * 50),
    "many scans behind an end of image": progressive(
        MAX_SCANS, between=b"\xff\xfe\x00\x06\xff\xd9\xff\xd9"
    ),
    "many segments": with_jpeg_segment(encoded(STREET), 0xFE, b"").replace(
        b"\xff\xfe\x00\x02", b"\xff\xfe\x00\x02" * MAX_JPEG_SEGMENTS
    ),
    "only markers": b"\xff\xd8\xff\xd0" + b"\xff\xd0" * 2 * MAX_JPEG_SEGMENTS,
    "a tall png": png_of(png_header(1, 60_000_000)),
    "a wide png": png_of(png_header(60_000_000, 1)),
    "16 bits and alpha": png_of(png_header(8_000, 7_000, depth=16, colours=6)),
    "too many pixels": png_of(png_header(10_000, 10_001)),
    "many chunks": with_png_chunk(encoded(STREET, "PNG"), b"tEXt", b"a\0b").replace(
        png_chunk(b"tEXt", b"a\0b"), png_chunk(b"tEXt", b"a\0b") * 2000
    ),
    "many empty chunks of pixels": png_of(png_header(9, 9), *[(b"IDAT", b"")] * 200_001),
    "a large canvas": webp_canvas(16_384, 16_384),
    "a large heif": heif_of(ispe(1_000_000, 1_000)),
    "a large avif": heif_of(ispe(16_000, 16_000), brand=b"avif"),
    "many boxes": heif_of(*[box(b"free", b"")] * 10_001),
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_a_bomb_is_refused_at_once_and_by_its_headers(bomb: bytes) -> None:
    started = time.process_time()

    with pytest.raises(PhotoTooLargeError):
        refuse_costly(bomb, max_pixels=MAX_PIXELS)
    with pytest.raises(PhotoTooLargeError):
        decode(bomb)

    assert time.process_time() - started < 4  # 0.2 s; under load a CPU is slower by a factor


PHOTOS: dict[str, bytes] = {
    "jpeg": encoded(STREET),
    "progressive jpeg": encoded(STREET, progressive=True),
    "progressive jpeg of optimisers": progressive(10),
    "grey jpeg": encoded(PillowImage.fromarray(STREET).convert("L"), progressive=True),
    "cmyk jpeg": encoded(PillowImage.fromarray(STREET).convert("CMYK")),
    "png": encoded(STREET, "PNG"),
    "16-bit png": encoded(PillowImage.fromarray(np.zeros((9, 9), np.uint16)), "PNG"),
    "png of one bit": encoded(PillowImage.fromarray(STREET).convert("1"), "PNG"),
    "webp": encoded(STREET, "WEBP"),
    "webp without loss": encoded(STREET, "WEBP", lossless=True),
    "webp with a canvas": encoded(STREET, "WEBP", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0"),
    "heic": encoded(STREET, "HEIF"),
    "avif": encoded(STREET, "AVIF"),
}


@pytest.mark.parametrize("photo", PHOTOS.values(), ids=PHOTOS)
def test_a_photo_passes_up_to_the_last_pixel_of_its_limit(photo: bytes) -> None:
    pixels = 9 * 9 if photo is PHOTOS["16-bit png"] else 96 * 144
    refuse_costly(photo, max_pixels=pixels)
    if photo is not PHOTOS["progressive jpeg of optimisers"]:  # whose scans repeat themselves
        decode(photo, max_pixels=pixels)

    with pytest.raises(PhotoTooLargeError):
        refuse_costly(photo, max_pixels=pixels - 1)


@pytest.mark.parametrize(
    ("width", "height", "depth", "colours"),
    [
        (MAX_SIDE_PX, 500, 8, 2),
        (10_000, 10_000, 8, 6),
        (10_000, 6_600, 16, 2),
        (9_999, 9_999, 8, 2),
    ],
    ids=["a wide panorama", "100 megapixels with alpha", "66 megapixels of 16 bits", "a square"],
)
def test_what_people_have_passes(width: int, height: int, depth: int, colours: int) -> None:
    header = png_header(width, height, depth=depth, colours=colours)

    refuse_costly(png_of(header), max_pixels=MAX_PIXELS)


@pytest.mark.parametrize(
    ("side", "scans", "passes"),
    [(10_000, 0, True), (10_000, 11, False), (4_000, 80, True), (4_000, 91, False)],
    ids=["100 megapixels", "many scans of them", "many scans of 16", "too many of them"],
)
def test_the_scans_of_a_large_jpeg_are_bounded_by_its_pixels(
    side: int, scans: int, passes: bool
) -> None:
    data = bytearray(progressive(scans))
    frame = data.index(b"\xff\xc2")
    data[frame + 5 : frame + 9] = struct.pack(">HH", side, side)

    try:
        refuse_costly(bytes(data), max_pixels=MAX_PIXELS)
        did_pass = True
    except PhotoTooLargeError:
        did_pass = False

    assert did_pass is passes


@pytest.mark.parametrize("photo", PHOTOS.values(), ids=PHOTOS)
@given(cut=st.integers(0, 3000), at=st.integers(0, 3000), flips=st.binary(min_size=1, max_size=8))
def test_damage_is_never_more_than_refused(photo: bytes, cut: int, at: int, flips: bytes) -> None:
    damaged = bytearray(photo[: max(12, len(photo) - cut)])
    at %= len(damaged)
    damaged[at : at + len(flips)] = flips

    for each in (bytes(damaged), photo[:cut]):
        try:
            refuse_costly(each, max_pixels=MAX_PIXELS)
        except PhotoTooLargeError:
            continue


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\xff\xd8\xff", b"\xff\xd8" + b"\xff" * 5_000_000,
        b"\xff\xd8\xff\xc2\x00\x02" + b"\xff\xda\x00\x00" * 50,
        b"\x89PNG\r\n\x1a\n" + b"\xff" * 100, b"RIFF\0\0\0\0WEBP" + b"\xff" * 100,
        b"\0\0\0\x18ftyp" + bytes(100), b"\0\0\0\x08ftyp" + b"\0\0\0\1meta" + bytes(100),
        b"\0\0\0\x08ftyp" + box(b"meta", bytes(4)) * 20,
    ],
    ids=lambda data: repr(data[:16]),
)  # fmt: skip
def test_what_cannot_be_read_passes_and_ends(data: bytes) -> None:
    started = time.process_time()

    refuse_costly(data, max_pixels=MAX_PIXELS)

    assert time.process_time() - started < 1


def test_boxes_within_boxes_end(tmp_path: Path) -> None:
    nested = b""
    for _ in range(100_000):
        nested = nested[:1000]
        nested = box(b"iprp", nested)

    refuse_costly(box(b"ftyp", b"heic" * 3) + nested, max_pixels=MAX_PIXELS)


@pytest.mark.skipif(not (CASES / "scan_bomb.py").exists(), reason="the shared cases are not here")
def test_the_bomb_that_was_reported_is_refused(tmp_path: Path) -> None:
    scope: dict[str, object] = {"__name__": "bomb"}
    exec((CASES / "scan_bomb.py").read_text(), scope)  # noqa: S102 - ours
    bomb, _ = scope["bomb"](1000, 1000, 8000)  # type: ignore[operator]

    with pytest.raises(PhotoTooLargeError, match="at most 100 scans"):
        decode(io.BytesIO(bomb).getvalue())
