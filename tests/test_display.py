"""Colours and density as a photo says them: a viewer shows the output as it showed the input."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import replace

import numpy as np
import pillow_heif
import pytest
from PIL import Image as PillowImage

from plateblur.display import display_of, with_display
from plateblur.photo import decode
from plateblur.pipeline import DEFAULTS, blur_photo
from plateblur.types import MetadataPolicy
from tests.fakes import FixedDetector, boxes, encoded, opened, street

STREET = street(96, 144)
PLATE = FixedDetector(boxes([40, 30, 90, 48]))
POLICIES = pytest.mark.parametrize("policy", ["strip", "safe", "keep"])
CHUNKS = {
    b"gAMA": struct.pack(">L", 100_000),
    b"cHRM": struct.pack(">8L", *range(31270, 31278)),
    b"cICP": bytes([9, 16, 0, 1]),
    b"cLLI": struct.pack(">LL", 10_000_000, 4_000_000),
    b"pHYs": struct.pack(">LLB", 11811, 5906, 1),
}


def png_with(*chunks: tuple[bytes, bytes]) -> bytes:
    data = encoded(STREET, "PNG")
    added = b"".join(
        struct.pack(">L", len(content))
        + name
        + content
        + struct.pack(">L", zlib.crc32(name + content))
        for name, content in chunks
    )
    return data[:33] + added + data[33:]


@POLICIES
def test_a_png_says_the_same_of_its_colours_and_density(policy: MetadataPolicy) -> None:
    data = png_with(*CHUNKS.items())
    blurred = blur_photo(data, PLATE, replace(DEFAULTS, metadata=policy))
    assert dict(display_of(blurred.data).png) == CHUNKS
    PillowImage.open(io.BytesIO(blurred.data)).verify()


def test_chunks_of_another_length_or_behind_the_pixels_are_left_out() -> None:
    data = png_with((b"gAMA", b"\0" * 400))
    assert display_of(data).png == ()
    behind = png_with()[:-12] + b"\0\0\0\4gAMA\0\0\1\0" + bytes(4) + png_with()[-12:]
    assert display_of(behind).png == ()


def test_a_profile_and_srgb_do_not_go_together() -> None:
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    written = with_display(
        encoded(STREET, "PNG", icc_profile=profile),
        replace(display_of(b""), png=((b"sRGB", b"\0"),)),
    )
    assert b"sRGB\0" not in written[:60]


@POLICIES
@pytest.mark.parametrize("density", [b"\0\0\2\0\1", b"\1\0\xf0\0\xf0", b"\2\0\x76\0\x75"], ids=str)
def test_a_jpeg_keeps_its_density_to_the_bit(policy: MetadataPolicy, density: bytes) -> None:
    data = bytearray(encoded(STREET))
    data[13:18] = density
    blurred = blur_photo(bytes(data), PLATE, replace(DEFAULTS, metadata=policy))
    assert blurred.data[13:18] == density


def test_a_jpeg_without_jfif_says_nothing_of_density() -> None:
    assert display_of(encoded(PillowImage.fromarray(STREET).convert("CMYK"))).density is None


@pytest.mark.slow
@pytest.mark.parametrize("cicp", [(12, 13), (9, 16), (9, 18)], ids=["p3", "pq", "hlg"])
def test_a_heic_says_the_same_of_its_colours(cicp: tuple[int, int]) -> None:
    out = io.BytesIO()
    primaries, transfer = cicp
    pillow_heif.from_pillow(PillowImage.fromarray(STREET)).save(
        out, color_primaries=primaries, transfer_characteristics=transfer
    )
    blurred = blur_photo(out.getvalue(), PLATE)
    assert display_of(out.getvalue()).cicp == cicp
    assert display_of(blurred.data).cicp == cicp
    told = pillow_heif.open_heif(io.BytesIO(blurred.data)).info["nclx_profile"]
    assert (told["color_primaries"], told["transfer_characteristics"]) == cicp


@pytest.mark.slow
def test_an_avif_says_the_same_of_its_colours_and_stays_readable() -> None:
    data = with_display(encoded(STREET, "AVIF", speed=10), replace(display_of(b""), cicp=(9, 16)))
    assert display_of(data).cicp == (9, 16)
    blurred = blur_photo(data, PLATE)
    assert display_of(blurred.data).cicp == (9, 16)
    assert np.abs(decode(blurred.data).pixels[60:].astype(int) - STREET[60:]).mean() < 8


def box(name: bytes, content: bytes) -> bytes:
    return struct.pack(">L4s", 8 + len(content), name) + content


@pytest.mark.parametrize("is_wide", [False, True], ids=["short", "wide"])
def test_of_several_colours_in_a_heic_those_of_the_photo_count(is_wide: bool) -> None:
    """A gain map has colours too, and may be described first."""
    of_map, of_photo = (b"nclx" + struct.pack(">HHHB", *cicp, 6, 0) for cicp in ((1, 13), (12, 16)))
    ids = ">L" if is_wide else ">H"
    numbers = ">H" if is_wide else ">B"
    linked = b"".join(
        struct.pack(ids, item) + b"\1" + struct.pack(numbers, number)
        for item, number in ((1, 2), (2, 1))
    )
    flags = struct.pack(">L", 0x01_000001 if is_wide else 0)
    data = box(b"ftyp", b"heic" + bytes(4) + b"mif1") + box(
        b"meta",
        bytes(4)
        + box(b"pitm", bytes(4) + b"\0\1")
        + box(
            b"iprp",
            box(b"ipco", box(b"colr", of_map) + box(b"colr", of_photo))
            + box(b"ipma", flags + struct.pack(">L", 2) + linked),
        ),
    )
    assert display_of(data).cicp == (12, 16)
    for length in range(len(data)):  # never more than a wrong guess
        assert display_of(data[:length]).cicp in (None, (1, 13), (12, 16))


def test_more_than_8_bits_are_reduced_and_said() -> None:
    deep = PillowImage.fromarray(STREET[..., 0].astype(np.uint16) * 256)
    blurred = blur_photo(encoded(deep, "PNG"), PLATE)
    assert blurred.notes == ("its colours were reduced to 8 bits a channel",)
    assert blur_photo(encoded(STREET, "PNG"), PLATE).notes == ()


def test_a_crop_says_the_same_of_its_colours() -> None:
    blurred = blur_photo(png_with(*CHUNKS.items()), PLATE, replace(DEFAULTS, crops=True))
    assert dict(display_of(blurred.crops[0]).png) == CHUNKS
    assert opened(blurred.crops[0]).size == (50, 18)
