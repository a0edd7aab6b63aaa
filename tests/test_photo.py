"""Photos in and out: every kind is read right, nothing hostile passes, and little is lost."""

from __future__ import annotations

import contextlib
import io
import re
import struct
import time
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage
from PIL import ImageCms, ImageOps, PngImagePlugin

from plateblur import photo as photo_module
from plateblur.blur import blur_boxes, hidden_bounds
from plateblur.errors import EncodeError, PhotoDecodeError, PhotoError, PhotoTooLargeError
from plateblur.metadata import Metadata
from plateblur.photo import UPRIGHT, Photo, decode, encode, upright_hw
from plateblur.types import Image, MetadataPolicy
from tests.fakes import boxes, encoded, opened, psnr, street

STREET = street(96, 144)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
PLATE = boxes([40, 30, 90, 48])


def in_mode(mode: str) -> PillowImage.Image:
    return PillowImage.fromarray(STREET).convert(mode)


def exif_of(orientation: int) -> bytes:
    exif = PillowImage.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


def png_chunk(name: bytes, data: bytes) -> bytes:
    crc = zlib.crc32(name + data)
    return struct.pack(">L", len(data)) + name + data + struct.pack(">L", crc)


def png_of(header: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    parts = (png_chunk(name, data) for name, data in ((b"IHDR", header), *chunks, (b"IEND", b"")))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def with_png_chunk(data: bytes, name: bytes, content: bytes) -> bytes:
    """Return a PNG with one more chunk, behind its header."""
    return data[:33] + png_chunk(name, content) + data[33:]


def with_jpeg_segment(data: bytes, marker: int, content: bytes) -> bytes:
    return data[:2] + struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content + data[2:]


# --- Decoding -------------------------------------------------------------------------------

OPAQUE: dict[str, tuple[bytes, str, float]] = {
    "jpeg-444": (encoded(STREET, quality=95, subsampling=0), "JPEG", 35),
    "jpeg-422": (encoded(STREET, quality=95, subsampling=1), "JPEG", 32),
    "jpeg-420": (encoded(STREET, quality=95, subsampling=2), "JPEG", 30),
    "jpeg-progressive": (encoded(STREET, quality=95, progressive=True), "JPEG", 30),
    "png": (encoded(STREET, "PNG"), "PNG", np.inf),
    "webp-lossy": (encoded(STREET, "WEBP", quality=95), "WEBP", 30),
    "webp-lossless": (encoded(STREET, "WEBP", lossless=True), "WEBP", np.inf),
    "heic": (encoded(STREET, "HEIF", quality=95), "HEIF", 30),
    "avif": (encoded(STREET, "AVIF", quality=95, speed=10), "AVIF", 30),
}


@pytest.mark.parametrize(("data", "format_", "least_db"), OPAQUE.values(), ids=OPAQUE)
def test_each_format_is_read_as_upright_rgb(data: bytes, format_: str, least_db: float) -> None:
    photo = decode(data)
    assert photo.format == format_
    assert photo.image_hw == (96, 144)
    assert photo.pixels.dtype == np.uint8
    assert psnr(photo.pixels, STREET) >= least_db
    assert photo.alpha is None
    assert not photo.is_grey
    assert len(photo.views) == 1


def palette_png(*, transparent: bool) -> bytes:
    image = in_mode("P")
    return encoded(image, "PNG", **({"transparency": 3} if transparent else {}))


def sixteen_bit_png(*, colours: bool) -> bytes:
    samples = STREET if colours else STREET[..., 0]
    high = (samples.astype(np.int64) << 8 | 0x5A).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in high)
    header = struct.pack(">LLBBBBB", 144, 96, 16, 2 if colours else 0, 0, 0, 0)
    return png_of(header, (b"IDAT", zlib.compress(rows)))


PNG_MODES: dict[str, tuple[bytes, Image, bool, bool]] = {
    "1": (encoded(in_mode("1"), "PNG"), np.array(in_mode("1").convert("RGB")), True, False),
    "L": (encoded(in_mode("L"), "PNG"), np.array(in_mode("L").convert("RGB")), True, False),
    "LA": (encoded(in_mode("LA"), "PNG"), np.array(in_mode("L").convert("RGB")), True, True),
    "P": (palette_png(transparent=False), np.array(in_mode("P").convert("RGB")), False, False),
    "P+tRNS": (palette_png(transparent=True), np.array(in_mode("P").convert("RGB")), False, True),
    "RGB": (encoded(in_mode("RGB"), "PNG"), STREET, False, False),
    "RGBA": (encoded(in_mode("RGBA"), "PNG"), STREET, False, True),
    "16-bit-grey": (sixteen_bit_png(colours=False), STREET[..., :1].repeat(3, 2), True, False),
    "16-bit-RGB": (sixteen_bit_png(colours=True), STREET, False, False),
}


@pytest.mark.parametrize(
    ("data", "pixels", "is_grey", "has_alpha"), PNG_MODES.values(), ids=PNG_MODES
)
def test_each_kind_of_png_is_read_exactly(
    data: bytes, pixels: Image, is_grey: bool, has_alpha: bool
) -> None:
    photo = decode(data)
    assert photo.is_grey == is_grey
    assert (photo.alpha is not None) == has_alpha
    seen = np.ones(photo.image_hw, np.bool_) if photo.alpha is None else photo.alpha > 0
    assert np.array_equal(photo.pixels[seen], pixels[seen])
    again = decode(encode(photo, photo.pixels, metadata="strip"))
    assert np.array_equal(again.pixels, photo.pixels)
    assert again.is_grey == photo.is_grey
    assert (again.alpha is not None) == has_alpha


def test_sixteen_bits_with_a_transparent_colour_are_read_or_refused() -> None:
    rgb = with_png_chunk(sixteen_bit_png(colours=True), b"tRNS", struct.pack(">HHH", 99, 300, 7))
    grey = with_png_chunk(sixteen_bit_png(colours=False), b"tRNS", struct.pack(">H", 300))
    for data in (rgb, grey):
        with contextlib.suppress(PhotoDecodeError):
            assert decode(data).image_hw == (96, 144)


def test_a_grey_jpeg_is_read_as_grey() -> None:
    photo = decode(encoded(in_mode("L"), quality=95))
    assert photo.is_grey
    assert psnr(photo.pixels, np.array(in_mode("L").convert("RGB"))) > 35


def test_cmyk_without_a_profile_becomes_rgb() -> None:
    photo = decode(encoded(in_mode("CMYK"), quality=95))
    assert psnr(photo.pixels, STREET) > 30
    assert photo.metadata.icc is None
    assert photo.notes == ("its CMYK colours were converted to RGB",)
    written = opened(encode(photo, photo.pixels, metadata="strip"))
    assert written.mode == "RGB"
    assert psnr(np.array(written), photo.pixels) > 35


def test_lab_becomes_rgb_and_says_so() -> None:
    red = PillowImage.fromarray(np.full((20, 30, 3), (136, 80, 67), np.uint8), "LAB")
    out = io.BytesIO()
    red.save(out, "TIFF")
    photo = decode(out.getvalue())
    assert photo.notes == ("its LAB colours were converted to RGB",)
    assert photo.pixels[10, 15, 0] > photo.pixels[10, 15, 2]


def test_cmyk_goes_through_its_profile_which_then_stays_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No CMYK profile may be shipped here, so the conversion itself is stood in for."""
    calls = []

    def converted(image: PillowImage.Image, *profiles: Any, outputMode: str) -> PillowImage.Image:  # noqa: N803
        calls.append((image.mode, outputMode))
        return PillowImage.new(outputMode, image.size, (1, 2, 3))

    monkeypatch.setattr(ImageCms, "profileToProfile", converted)
    photo = decode(encoded(in_mode("CMYK"), icc_profile=SRGB))
    assert calls == [("CMYK", "RGB")]
    assert (photo.pixels == (1, 2, 3)).all()
    assert photo.metadata.icc is None


@pytest.mark.parametrize("profile", [SRGB, b"no profile at all"], ids=["of-rgb", "damaged"])
def test_cmyk_with_a_profile_that_does_not_fit_is_read_without_it(profile: bytes) -> None:
    photo = decode(encoded(in_mode("CMYK"), quality=95, icc_profile=profile))
    assert psnr(photo.pixels, STREET) > 30
    assert photo.metadata.icc is None


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "HEIF", "AVIF"])
def test_the_colour_profile_stays_and_a_damaged_one_goes(format_: str) -> None:
    sound = decode(encoded(STREET, format_, icc_profile=SRGB))
    assert sound.metadata.icc == SRGB
    assert decode(encode(sound, sound.pixels, metadata="strip")).metadata.icc == SRGB
    damaged = decode(encoded(STREET, format_, icc_profile=SRGB[:100] + b"\xff" * 40))
    assert damaged.metadata.icc is None


@pytest.mark.parametrize("format_", ["PNG", "WEBP", "HEIF", "AVIF"])
def test_alpha_is_read_and_written_again(format_: str) -> None:
    rgba = np.dstack([STREET, np.full((96, 144), 255, np.uint8)])
    rgba[:40, :60, 3] = 128
    lossless = {"lossless": True} if format_ == "WEBP" else {}
    photo = decode(encoded(PillowImage.fromarray(rgba, "RGBA"), format_, **lossless))
    assert photo.alpha is not None
    assert np.abs(photo.alpha.astype(int) - rgba[..., 3]).mean() < 3
    again = decode(encode(photo, photo.pixels, metadata="strip"))
    assert again.alpha is not None
    assert np.abs(again.alpha.astype(int) - photo.alpha).mean() < 3


def turned(image: Image, orientation: int) -> Image:
    """Return `image` as a camera stores it that writes this orientation."""
    if orientation == 1:
        return image
    # What is turned upright by a quarter turn was turned by the other.
    back = UPRIGHT[{6: 8, 8: 6}.get(orientation, orientation)]
    return np.ascontiguousarray(back(image))


@pytest.mark.parametrize("format_", ["PNG", "JPEG", "WEBP", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_comes_out_as_the_upright_original(
    format_: str, orientation: int
) -> None:
    lossless = {"lossless": True} if format_ == "WEBP" else {}
    quality = {"quality": 95} if format_ in ("JPEG", "AVIF") else {}
    stored = turned(STREET, orientation)
    photo = decode(encoded(stored, format_, exif=exif_of(orientation), **lossless, **quality))
    if format_ in ("PNG", "WEBP"):
        assert np.array_equal(photo.pixels, STREET)
    else:
        assert psnr(photo.pixels, STREET) > 28
    for policy in ("strip", "safe", "keep"):
        again = opened(encode(photo, photo.pixels, metadata=policy))
        assert again.getexif().get(0x0112, 1) == 1
        assert again.size == (144, 96)


def test_a_corner_is_where_exif_puts_it() -> None:
    """By the letter of EXIF 2.32, 4.6.4 A, and not through the table under test."""
    upright = np.zeros((4, 6, 3), np.uint8)
    upright[0, 0] = 255
    # orientation: where in the stored image its upright top left corner is
    corners = {1: (0, 0), 2: (0, -1), 3: (-1, -1), 4: (-1, 0)}
    swapped = {5: (0, 0), 6: (-1, 0), 7: (-1, -1), 8: (0, -1)}
    for orientation, at in {**corners, **swapped}.items():
        stored = np.zeros((6, 4, 3) if orientation in swapped else (4, 6, 3), np.uint8)
        stored[at] = 255
        photo = decode(encoded(stored, "PNG", exif=exif_of(orientation)))
        assert np.array_equal(photo.pixels, upright), orientation


@pytest.mark.parametrize("format_", ["PNG", "JPEG", "WEBP", "AVIF", "HEIF"])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_the_header_tells_the_upright_size(format_: str, orientation: int) -> None:
    data = encoded(turned(STREET, orientation), format_, exif=exif_of(orientation))
    assert upright_hw(data) == decode(data).image_hw == (96, 144)


@pytest.mark.parametrize("data", [b"", b"no photo", b"\xff\xd8\xff"], ids=["empty", "text", "cut"])
def test_what_is_no_photo_has_no_size(data: bytes) -> None:
    with pytest.raises(PhotoDecodeError, match="expected a"):
        upright_hw(data)


def test_alpha_turns_with_the_colours() -> None:
    rgba = np.dstack([STREET, np.arange(144, dtype=np.uint8)[None].repeat(96, 0)])
    stored = PillowImage.fromarray(rgba, "RGBA").transpose(PillowImage.Transpose.ROTATE_90)
    photo = decode(encoded(stored, "PNG", exif=exif_of(6)))
    assert photo.alpha is not None
    assert np.array_equal(photo.alpha, rgba[..., 3])


def test_heic_is_turned_once() -> None:
    stored = PillowImage.fromarray(turned(STREET, 6))
    photo = decode(encoded(stored, "HEIF", exif=exif_of(6), quality=95))
    assert photo.image_hw == (96, 144)
    assert psnr(photo.pixels, STREET) > 28


@pytest.mark.parametrize("value", [0, 9, 65535], ids=str)
def test_an_orientation_that_there_is_not_turns_nothing(value: int) -> None:
    assert np.array_equal(decode(encoded(STREET, "PNG", exif=exif_of(value))).pixels, STREET)


def test_the_orientation_in_imagemagicks_text_is_followed() -> None:
    text = PngImagePlugin.PngInfo()
    block = exif_of(3)
    text.add_text("Raw profile type exif", f"\nexif\n{len(block):8}\n{block.hex()}")
    stored = PillowImage.fromarray(turned(STREET, 3))
    photo = decode(encoded(stored, "PNG", pnginfo=text))
    assert np.array_equal(photo.pixels, STREET)


def test_of_several_images_in_a_jpeg_only_the_first_leaves() -> None:
    second = PillowImage.fromarray(street(96, 144, seed=9))
    data = encoded(STREET, "MPO", save_all=True, append_images=[second], quality=90)
    assert data.count(b"\xff\xd8\xff") == 2
    photo = decode(data)
    assert photo.format == "JPEG"
    for policy in ("strip", "safe", "keep"):
        written = encode(photo, photo.pixels, metadata=policy)
        assert written.count(b"\xff\xd8\xff") == 1
        assert b"MPF\0" not in written


def test_what_follows_a_photo_does_not_leave() -> None:
    for format_ in ("JPEG", "PNG", "WEBP"):
        photo = decode(encoded(STREET, format_) + b"PLATE AB12 CDE")
        assert b"AB12" not in encode(photo, photo.pixels, metadata="keep")


@pytest.mark.parametrize("format_", ["WEBP", "PNG", "AVIF"])
def test_an_animation_is_refused(format_: str) -> None:
    frames = [PillowImage.fromarray(street(96, 144, seed=seed)) for seed in range(3)]
    data = encoded(frames[0], format_, save_all=True, append_images=frames[1:], duration=100)
    with pytest.raises(PhotoDecodeError, match="animation"):
        decode(data)


@pytest.mark.parametrize("frames", [0, 2, 0xFFFFFFFF], ids=str)
def test_a_png_that_says_it_moves_is_refused(frames: int) -> None:
    data = with_png_chunk(encoded(STREET, "PNG"), b"acTL", struct.pack(">LL", frames, 0))
    with pytest.raises(PhotoDecodeError, match="animation"):
        decode(data)


# --- Hostile input --------------------------------------------------------------------------


def taken_or_refused(data: bytes, **limits: Any) -> Photo | None:
    """Return the photo, or None for a `PhotoError`; anything else fails, a warning too."""
    try:
        photo = decode(data, **limits)
    except PhotoError:
        return None
    assert photo.pixels.shape == (*photo.image_hw, 3)
    for policy in ("strip", "safe", "keep"):
        try:
            encode(photo, photo.pixels, metadata=policy)
        except EncodeError:
            continue
    return photo


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"\0", b"\0" * 4096, b"hello", b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
        b"%PDF-1.7\n",
        *(b"8BPS\0\1" + b"\0" * 40, b"RIFF\0\0\0\0WAVE", b"\xff\xd8", b"\0\0\0\x18ftypisom"),
        b"\0\0\0\x18ftyp",
    ],
    ids=[
        *("nothing", "zero", "zeros", "text", "svg", "pdf"),
        *("psd", "wave", "half-magic", "mp4", "no-brand"),
    ],
)
def test_what_is_no_photo_is_refused_by_its_first_bytes(data: bytes) -> None:
    with pytest.raises(
        PhotoDecodeError, match="expected a JPEG, PNG, WebP, HEIC, AVIF, TIFF, BMP or GIF"
    ):
        decode(data)


@pytest.mark.parametrize(
    "magic",
    [
        *(b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\x10\0\0\0WEBP"),
        *(b"\0\0\0\x14ftypheic\0\0\0\0heic", b"\0\0\0\x14ftypavif\0\0\0\0avif"),
        *(b"\0\0\0\x18ftypmif1\0\0\0\0avifmif1", b"\xff\xff\xff\xffftypavis\0\0\0\0avis"),
        *(b"II*\0\x08\0\0\0", b"BM\0\0\0\0\0\0\0\0\x36\0\0\0", b"GIF89a"),
    ],
    ids=["jpeg", "png", "webp", "heic", "avif", "mif1", "avis", "tiff", "bmp", "gif"],
)
@pytest.mark.parametrize("rest", [b"", b"\0" * 200, b"\xff" * 200, STREET.tobytes()[:2000]])
def test_a_first_line_alone_makes_no_photo(magic: bytes, rest: bytes) -> None:
    with pytest.raises(PhotoDecodeError):
        decode(magic + rest)


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "HEIF", "AVIF"])
def test_a_single_pixel_is_a_photo(format_: str) -> None:
    photo = decode(encoded(STREET[:1, :1], format_))
    assert photo.image_hw == (1, 1)
    again = decode(encode(photo, photo.pixels, metadata="strip"))
    assert again.image_hw == (1, 1)


RICH = {
    name: encoded(STREET, format_, exif=exif_of(6), icc_profile=SRGB, **options)
    for name, format_, options in (
        ("jpeg", "JPEG", {}),
        ("jpeg-progressive", "JPEG", {"progressive": True}),
        ("png", "PNG", {}),
        ("webp", "WEBP", {}),
        ("webp-lossless", "WEBP", {"lossless": True}),
        ("heic", "HEIF", {}),
        ("avif", "AVIF", {"speed": 10}),
    )
}


@pytest.mark.parametrize("data", RICH.values(), ids=RICH)
def test_a_truncated_photo_is_refused_wherever_it_ends(data: bytes) -> None:
    step = max(1, len(data) // 60)
    # Of the last bytes some formats need nothing: a checksum, an end mark.
    for length in range(0, len(data) - 24, step):
        photo = taken_or_refused(data[:length])
        assert photo is None, f"{length} of {len(data)} bytes were taken"


@pytest.mark.slow
@pytest.mark.parametrize("data", RICH.values(), ids=RICH)
def test_flipped_bytes_give_a_photo_or_a_photo_error(data: bytes) -> None:
    rng = np.random.default_rng(7)
    for round_ in range(60):
        damaged = bytearray(data)
        first = len(data) if round_ % 2 else min(len(data), 700)  # headers break more than pixels
        for at in rng.integers(0, first, 1 + round_ % 5):
            damaged[at] ^= int(rng.integers(1, 256))
        taken_or_refused(bytes(damaged), max_pixels=1_000_000)


@pytest.mark.slow
@given(st.sampled_from(sorted(RICH)), st.data())
@settings(max_examples=80, deadline=None)
def test_bytes_cut_out_or_put_in_give_a_photo_or_a_photo_error(
    name: str, drawn: st.DataObject
) -> None:
    data = RICH[name]
    start = drawn.draw(st.integers(0, len(data)))
    end = drawn.draw(st.integers(start, min(len(data), start + 64)))
    put_in = drawn.draw(st.binary(max_size=32))
    taken_or_refused(data[:start] + put_in + data[end:], max_pixels=1_000_000)


# --- JPEGs by the fast decoder, and without their end ------------------------------------------

COLOUR_JPEGS: dict[str, dict[str, Any]] = {
    **{f"4:{x}": {"subsampling": n} for n, x in enumerate(("4:4", "2:2", "2:0"))},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_blocks": 3},
    "coarse": {"quality": 5},
    "as-rgb": {"keep_rgb": True, "subsampling": 0},
    "turned": {"exif": exif_of(6)},
}


def seen_by_pillow(data: bytes) -> Image:
    """Return what Pillow alone makes of a photo, upright."""
    return np.array(ImageOps.exif_transpose(opened(data)).convert("RGB"))


@pytest.mark.parametrize("hw", [(96, 144), (97, 131), (1, 1), (8, 17)], ids=str)
@pytest.mark.parametrize("options", COLOUR_JPEGS.values(), ids=COLOUR_JPEGS)
def test_a_colour_jpeg_is_read_to_the_bit_as_by_pillow(
    hw: tuple[int, int], options: dict[str, Any]
) -> None:
    data = encoded(street(*hw), **{"quality": 90, **options})
    assert np.array_equal(decode(data).pixels, seen_by_pillow(data))


def test_an_ordinary_jpeg_is_not_decoded_by_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(STREET)
    expected = seen_by_pillow(data)

    def fail(_: object) -> None:
        raise OSError("Pillow was asked")

    monkeypatch.setattr(PillowImage.Image, "load", fail)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", fail)
    assert np.array_equal(decode(data).pixels, expected)


def test_what_libjpeg_only_warns_of_is_read_as_before() -> None:
    data = encoded(STREET)
    for odd in (data[:-2] + b"\0\0\0\xff\xd9", data + b"\xff\xd8 something else"):
        assert np.array_equal(decode(odd).pixels, seen_by_pillow(data))


def test_a_size_that_the_decoders_read_differently_is_never_written_beyond() -> None:
    """The second frame header says a larger size; Pillow's own look at it comes last."""
    data = encoded(STREET)
    frame = data.index(b"\xff\xc0")
    for height, width in ((96, 1440), (960, 144), (8, 8)):
        header = bytearray(data[frame : frame + 19])
        header[5:9] = struct.pack(">HH", height, width)
        for twice in (
            data[:frame] + bytes(header) + data[frame:],
            data[: frame + 19] + bytes(header) + data[frame + 19 :],
        ):
            photo = taken_or_refused(twice)
            assert photo is None or photo.image_hw == (96, 144)


UNENDED = {
    **{name: encoded(STREET, **options) for name, options in COLOUR_JPEGS.items()},
    "grey": encoded(in_mode("L")),
    "grey-progressive": encoded(in_mode("L"), progressive=True),
    "cmyk": encoded(in_mode("CMYK")),
}


@pytest.mark.parametrize("data", UNENDED.values(), ids=UNENDED)
def test_a_jpeg_that_lacks_its_end_marker_alone_is_a_whole_photo(data: bytes) -> None:
    expected = decode(data)
    for cut in (1, 2):
        photo = decode(data[:-cut])
        assert np.array_equal(photo.pixels, expected.pixels)
        assert encode(photo, photo.pixels, metadata="strip").endswith(b"\xff\xd9")
    for length in range(3, min(120, len(data) // 4)):
        with pytest.raises(PhotoDecodeError, match="damaged or truncated"):
            decode(data[:-length])


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_progressive_jpeg_cut_between_its_scans_is_refused(mode: str) -> None:
    data = encoded(in_mode(mode), progressive=True)
    starts = [at.start() for at in re.finditer(b"\xff[\xda\xc4]", data)]
    assert len(starts) > 8
    for start in starts:
        with pytest.raises(PhotoDecodeError):
            decode(data[:start])


def test_a_jpeg_of_segments_alone_costs_little() -> None:
    head = encoded(STREET)[:-200]
    for segment in (b"\xff\xfe\0\2", b"\xff" * 4, b"\xff\xda\0\x0c\3\1\0\2\0\3\0\0\x3f\0"):
        start = time.process_time()
        taken_or_refused(head + segment * 500_000)
        assert time.process_time() - start < 4


@pytest.mark.parametrize("orientation", range(2, 9))
def test_turning_upright_is_what_pillow_does(orientation: int) -> None:
    stored = street(31, 47)
    image = PillowImage.fromarray(stored)
    image.getexif()[0x0112] = orientation
    upright = np.array(ImageOps.exif_transpose(image))
    assert np.array_equal(UPRIGHT[orientation](stored), upright)
    assert np.array_equal(UPRIGHT[orientation](stored[..., 0].copy()), upright[..., 0])


def huge_webp(width: int, height: int) -> bytes:
    canvas = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    extended = b"VP8X" + struct.pack("<L", 10) + b"\0\0\0\0" + canvas
    frame = encoded(STREET, "WEBP")[12:]
    body = b"WEBP" + extended + frame
    return b"RIFF" + struct.pack("<L", len(body)) + body


def huge_lossless_webp() -> bytes:
    bits = 16382 | 16382 << 14
    chunk = b"\x2f" + struct.pack("<L", bits) + b"\0" * 64
    body = b"WEBPVP8L" + struct.pack("<L", len(chunk)) + chunk + b"\0"
    return b"RIFF" + struct.pack("<L", len(body)) + body


def jpeg_of_size(width: int, height: int) -> bytes:
    data = encoded(STREET)
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


def isobmff_of_size(name: str, width: int, height: int) -> bytes:
    data = OPAQUE[name][0]
    at = data.index(b"ispe") + 8
    return data[:at] + struct.pack(">LL", width, height) + data[at + 8 :]


BOMBS: dict[str, bytes] = {
    "png": png_of(struct.pack(">LLBBBBB", 65535, 65535, 8, 2, 0, 0, 0), (b"IDAT", b"x")),
    "png-2^31": png_of(struct.pack(">LLBBBBB", 2**31 - 1, 2**31 - 1, 16, 6, 0, 0, 0)),
    "png-zeros": png_of(
        struct.pack(">LLBBBBB", 20000, 20000, 1, 0, 0, 0, 0),
        (b"IDAT", zlib.compress(bytes(20000 * 2501), 1)),
    ),
    "jpeg": jpeg_of_size(65500, 65500),
    "webp": huge_webp(16383, 16383),
    "webp-canvas": huge_webp(1 << 24, 1 << 8),
    "webp-lossless": huge_lossless_webp(),
    "heic": isobmff_of_size("heic", 60000, 60000),
    "avif": isobmff_of_size("avif", 60000, 60000),
}


@pytest.mark.parametrize("data", BOMBS.values(), ids=BOMBS)
def test_huge_dimensions_are_refused_before_decoding(data: bytes) -> None:
    start = time.process_time()
    with pytest.raises(PhotoError):
        decode(data)
    assert time.process_time() - start < 1


@pytest.mark.parametrize("name", ["png", "png-zeros", "jpeg"])
def test_too_many_pixels_are_said_to_be_too_many(name: str) -> None:
    with pytest.raises(PhotoTooLargeError, match="expected at most 100000000 pixels, got"):
        decode(BOMBS[name])


@pytest.mark.parametrize("name", ["png", "jpeg-420", "webp-lossy", "heic", "avif"])
def test_the_pixel_limit_is_exact(name: str) -> None:
    data = OPAQUE[name][0]
    assert decode(data, max_pixels=96 * 144).image_hw == (96, 144)
    with pytest.raises(PhotoTooLargeError, match="144 x 96 = 13824"):
        decode(data, max_pixels=96 * 144 - 1)


def test_the_byte_limit_is_exact() -> None:
    data = encoded(STREET)
    assert decode(data, max_bytes=len(data)).image_hw == (96, 144)
    with pytest.raises(PhotoTooLargeError, match=f"got {len(data)}"):
        decode(data, max_bytes=len(data) - 1)


@pytest.mark.slow
def test_a_large_photo_within_the_limit_is_no_bomb() -> None:
    """Pillow alone would warn: its own limit lies below ours."""
    photo = decode(encoded(PillowImage.new("1", (9500, 9500)), "PNG"))
    assert photo.image_hw == (9500, 9500)


@pytest.mark.parametrize(
    "exif",
    [
        *(b"Exif\0\0", b"Exif\0\0II*\0", b"Exif\0\0MM\0*\xff\xff\xff\xff"),
        *(b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\xff" * 60, b"Exif\0\0" + b"\0" * 300),
        exif_of(6)[:-5],
        b"Exif\0\0II*\0\x08\0\0\0\1\0\x69\x87\4\0\1\0\0\0\x08\0\0\0\0\0\0\0",
    ],
    ids=["no-header", "short", "far", "wild-fields", "zeros", "cut", "points-to-itself"],
)
@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP"])
def test_a_damaged_exif_block_stops_no_photo(format_: str, exif: bytes) -> None:
    photo = taken_or_refused(encoded(STREET, format_, exif=exif))
    assert photo is not None


@pytest.mark.parametrize(
    "chunk",
    [
        (b"tEXt", b"Comment\0" + b"x" * 3_000_000),
        (b"zTXt", b"Comment\0\0" + zlib.compress(bytes(80_000_000))),
        (b"iTXt", b"Comment\0\1\0\0\0" + zlib.compress(bytes(80_000_000))),
        (b"iCCP", b"icc\0\0" + zlib.compress(bytes(80_000_000))),
        (b"iTXt", b""),
        (b"tEXt", b"\0"),
        (b"tRNS", b"\1\2\3\4\5"),
        (b"pHYs", b"\0"),
        (b"gAMA", b""),
    ],
    ids=[
        *("long-text", "text-bomb", "international-text-bomb", "profile-bomb"),
        *("empty-itxt", "nameless-text", "transparency", "resolution", "gamma"),
    ],
)
def test_odd_chunks_of_a_png_give_a_photo_or_a_photo_error(chunk: tuple[bytes, bytes]) -> None:
    start = time.process_time()
    taken_or_refused(with_png_chunk(encoded(STREET, "PNG"), *chunk))
    assert time.process_time() - start < 4


def test_many_texts_in_a_png_are_cut_to_a_few() -> None:
    data = encoded(STREET, "PNG")
    for i in range(300):
        data = with_png_chunk(data, b"tEXt", b"key%d\0value" % i)
    assert len(decode(data).metadata.text) == photo_module.MAX_TEXT


@pytest.mark.parametrize(
    ("marker", "content"),
    [(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x"), (0xED, b"Photoshop 3.0\x008BIM\x04\x04\0\0"),
     (0xE2, b"ICC_PROFILE\0\x05\x02" + b"x" * 50), (0xE2, b"MPF\0" + b"\xff" * 40),
     (0xEE, b"Adobe\0d\0\0\0\0\xff"), (0xFE, b"\xff" * 100), (0xE0, b"JFIF\0")],
    ids=["xmp", "photoshop", "profile-part", "mpf", "adobe", "comment", "jfif"],
)  # fmt: skip
def test_odd_segments_of_a_jpeg_give_a_photo_or_a_photo_error(marker: int, content: bytes) -> None:
    taken_or_refused(with_jpeg_segment(encoded(STREET), marker, content))


# --- Encoding -------------------------------------------------------------------------------


def noisy_street() -> Image:
    """Return a larger image with detail, on which sizes and losses mean something."""
    rng = np.random.default_rng(3)
    grain = rng.normal(0, 6, (360, 480, 1))
    image = street(360, 480).astype(float) + grain
    image[200:, 100:300] *= 0.5
    return image.round().clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("subsampling", [0, 1, 2], ids=["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("quality", [50, 75, 85, 95])
def test_a_jpeg_keeps_its_size_and_what_is_outside_the_boxes(
    subsampling: int, quality: int
) -> None:
    data = encoded(noisy_street(), quality=quality, subsampling=subsampling)
    photo = decode(data)
    xyxy = boxes([200, 150, 300, 180])
    blurred = blur_boxes(photo.pixels, xyxy, method="veil", margin=0.15)
    written = encode(photo, blurred, metadata="strip")
    assert abs(len(written) / len(data) - 1) <= 0.2
    outside = np.ones(photo.image_hw, np.bool_)
    for x1, y1, x2, y2 in hidden_bounds(xyxy, image_hw=photo.image_hw, margin=0.15):
        outside[max(0, y1 - 16) : y2 + 16, max(0, x1 - 16) : x2 + 16] = False
    again = decode(written)
    assert psnr(again.pixels[outside], photo.pixels[outside]) >= 40
    assert photo.jpeg == again.jpeg


@pytest.mark.parametrize("subsampling", [0, 1, 2], ids=["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("quality", [1, 37, 75, 90, 100])
@pytest.mark.parametrize("hw", [(360, 480), (97, 131), (1, 1)], ids=str)
def test_an_ordinary_jpeg_is_written_to_the_bit_as_by_pillow(
    hw: tuple[int, int], quality: int, subsampling: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = decode(encoded(street(*hw), quality=quality, subsampling=subsampling))
    fast = encode(photo, photo.pixels, metadata="strip")
    monkeypatch.setattr(photo_module, "_standard_quality", lambda *_: None)
    assert fast == encode(photo, photo.pixels, metadata="strip")
    assert decode(fast).jpeg == photo.jpeg


@pytest.mark.parametrize("policy", ["strip", "safe", "keep"])
def test_tables_of_a_camera_and_metadata_stay_where_libjpeg_has_a_quality_near(
    policy: MetadataPolicy,
) -> None:
    tables = [[3 + n for n in range(64)], [5 + n for n in range(64)]]
    camera = decode(encoded(STREET, qtables=tables))
    assert camera.jpeg is not None
    assert decode(encode(camera, camera.pixels, metadata=policy)).jpeg == camera.jpeg
    plain = decode(encoded(STREET, quality=90, icc_profile=SRGB, comment=b"a comment"))
    kept = decode(encode(plain, plain.pixels, metadata=policy)).metadata
    assert kept.icc == SRGB
    assert (kept.comment == b"a comment") == (policy == "keep")


@pytest.mark.parametrize("orientation", [3, 6, 8])
@pytest.mark.parametrize("subsampling", [0, 1, 2], ids=["4:4:4", "4:2:2", "4:2:0"])
def test_a_turned_jpeg_loses_no_more(orientation: int, subsampling: int) -> None:
    data = encoded(
        noisy_street()[:352], quality=85, subsampling=subsampling, exif=exif_of(orientation)
    )
    photo = decode(data)
    written = encode(photo, photo.pixels, metadata="strip")
    assert psnr(decode(written).pixels, photo.pixels) >= 40
    assert len(written) / len(data) <= 1.2


@pytest.mark.parametrize("progressive", [False, True], ids=["baseline", "progressive"])
def test_a_jpeg_stays_as_progressive_as_it_was(progressive: bool) -> None:
    photo = decode(encoded(STREET, progressive=progressive))
    written = opened(encode(photo, photo.pixels, metadata="strip"))
    assert bool(written.info.get("progressive")) == progressive


@pytest.mark.slow
@pytest.mark.parametrize("format_", ["JPEG", "PNG", "HEIF"])
def test_grey_stays_grey(format_: str) -> None:
    photo = decode(encoded(in_mode("L"), format_))
    written = encode(photo, photo.pixels, metadata="strip")
    assert opened(written).mode == "L"


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "HEIF", "AVIF"])
def test_the_format_stays(format_: str) -> None:
    photo = decode(encoded(STREET, format_))
    assert decode(encode(photo, photo.pixels, metadata="strip")).format == format_


@pytest.mark.parametrize("profile", [None, SRGB + bytes(500)], ids=["plain", "with-a-profile"])
def test_a_webp_without_loss_stays_so(profile: bytes | None) -> None:
    photo = decode(encoded(STREET, "WEBP", lossless=True, icc_profile=profile))
    assert photo.is_lossless
    again = decode(encode(photo, photo.pixels, metadata="strip"))
    assert again.is_lossless
    assert np.array_equal(again.pixels, STREET)
    assert not decode(encoded(STREET, "WEBP", icc_profile=profile)).is_lossless


def test_a_png_changes_not_a_bit_outside_the_boxes() -> None:
    photo = decode(encoded(STREET, "PNG"))
    blurred = blur_boxes(photo.pixels, PLATE, method="solid", margin=0.0)
    again = decode(encode(photo, blurred, metadata="strip"))
    assert np.array_equal(again.pixels, blurred)


@pytest.mark.parametrize("progressive", [False, True], ids=["baseline", "progressive"])
def test_noise_at_the_highest_quality_can_be_written(
    progressive: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (400, 500, 3), dtype=np.uint8)
    whole = encoded(noise, quality=100, subsampling=0)
    photo = decode(whole)
    assert photo.jpeg is not None
    photo = replace(photo, jpeg=replace(photo.jpeg, progressive=progressive))
    written = encode(photo, photo.pixels, metadata="strip")
    assert psnr(decode(written).pixels, photo.pixels) > 40
    capfd.readouterr()  # libjpeg says on standard error that its buffer was short


def test_what_the_encoder_can_not_write_is_an_encode_error() -> None:
    tall = Photo(pixels=np.zeros((16400, 2, 3), np.uint8), format="WEBP")
    with pytest.raises(EncodeError, match="could not be written as WEBP"):
        encode(tall, tall.pixels, metadata="strip")


@pytest.mark.parametrize(
    "fault",
    [OSError("disk"), ValueError("wrong"), MemoryError(), SystemError("tile"), RuntimeError("x")],
    ids=lambda fault: type(fault).__name__,
)
@pytest.mark.parametrize("format_", ["JPEG", "PNG", "HEIF"])
def test_a_failing_encoder_is_an_encode_error(
    monkeypatch: pytest.MonkeyPatch, fault: Exception, format_: str
) -> None:
    photo = decode(encoded(STREET, format_))

    def fail(*_: object, **__: object) -> None:
        raise fault

    monkeypatch.setattr("cv2.imencode", fail)
    monkeypatch.setattr(PillowImage.Image, "save", fail)
    monkeypatch.setattr("pillow_heif.HeifFile.save", fail)
    with pytest.raises(EncodeError, match=f"could not be written as {format_}"):
        encode(photo, photo.pixels, metadata="strip")


def test_alpha_of_another_size_is_a_callers_bug() -> None:
    photo = Photo(pixels=STREET, format="PNG", alpha=np.zeros((5, 5), np.uint8))
    with pytest.raises(ValueError, match="does not fit"):
        encode(photo, STREET, metadata="strip")


def test_too_long_metadata_is_left_out_of_a_jpeg_and_not_its_pixels() -> None:
    long = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'>" + b"<x:a>b</x:a>" * 9000 + b"</x:xmpmeta>"
    photo = Photo(pixels=STREET, format="JPEG", metadata=Metadata(xmp=long, iptc=b"\x1c\2\5\0\1x"))
    written = encode(photo, photo.pixels, metadata="keep")
    assert b"xap/1.0" not in written
    assert decode(written).metadata.iptc == b"\x1c\2\5\0\1x"


# --- Transparency ---------------------------------------------------------------------------


def test_colours_under_full_transparency_are_dropped() -> None:
    rgba = np.dstack([STREET, np.full((96, 144), 255, np.uint8)])
    rgba[30:48, 40:90, 3] = 0
    photo = decode(encoded(PillowImage.fromarray(rgba, "RGBA"), "PNG"))
    assert (photo.pixels[30:48, 40:90] == 0).all()
    written = opened(encode(photo, photo.pixels, metadata="strip"))
    assert (np.array(written)[30:48, 40:90] == 0).all()


@pytest.mark.parametrize("colour", [0, 128, 255], ids=["black", "grey", "white"])
def test_letters_in_opacity_alone_show_in_some_view(colour: int) -> None:
    rgba = np.full((20, 40, 4), colour, np.uint8)
    rgba[..., 3] = 255
    rgba[5:15, 10:30:4, 3] = 1
    photo = decode(encoded(PillowImage.fromarray(rgba, "RGBA"), "PNG"))
    contrast = max(int(np.ptp(view[5:15].astype(int))) for view in photo.views)
    assert contrast >= 120


def test_opacity_that_hides_nothing_costs_no_second_look() -> None:
    photo = decode(encoded(in_mode("RGBA"), "PNG"))
    assert photo.alpha is not None
    assert len(photo.views) == 1


@pytest.mark.parametrize(
    "read",
    [lambda data: decode(bytes(data)), lambda data: decode(data)],
    ids=["bytes", "bytearray"],
)
def test_the_bytes_given_are_left_as_they_were(read: Callable[[Any], Photo]) -> None:
    data = bytearray(encoded(STREET))
    before = bytes(data)
    photo = read(data)
    photo.pixels[:] = 0
    assert bytes(data) == before
    assert io.BytesIO(data).read() == before
