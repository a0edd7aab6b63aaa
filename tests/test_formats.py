"""The table of formats: it knows what the decoders read, and all who ask get one answer."""

from __future__ import annotations

import struct

import pillow_heif
import pytest

from plateblur.errors import PhotoDecodeError
from plateblur.formats import (
    AVIF,
    BY_SUFFIX,
    FORMATS,
    HEIF,
    HEIF_BRANDS,
    JPEG,
    OTHER_PICTURES,
    OTHER_SUFFIXES,
    SERVED,
    Format,
    is_clip,
    other_picture,
    sniff,
)
from plateblur.photo import decode
from plateblur.web.body import refuse_no_photo
from plateblur.web.failures import Failure
from plateblur.web.schemas import MEDIA_TYPES
from tests.clips import drawn_clip, driving
from tests.fakes import encoded, street

STREET = street(40, 60)


def branded(major: bytes, *others: bytes) -> bytes:
    """Return the first box of a HEIF or AVIF file."""
    box = b"ftyp" + major + bytes(4) + b"".join(others)
    return struct.pack(">L", len(box) + 4) + box


@pytest.mark.parametrize("format_", FORMATS.values(), ids=FORMATS)
def test_what_is_written_in_a_format_is_known_as_it(format_: Format) -> None:
    data = encoded(STREET, format_.name)
    assert sniff(data) == format_
    assert sniff(data[:256]) == format_
    assert decode(data).format == format_.name
    assert other_picture(data) is None
    if format_.name in SERVED:
        refuse_no_photo(data)
    else:
        with pytest.raises(Failure):
            refuse_no_photo(data)


def test_a_suffix_belongs_to_one_format() -> None:
    assert sum(len(each.suffixes) for each in FORMATS.values()) == len(BY_SUFFIX)
    assert not BY_SUFFIX.keys() & OTHER_SUFFIXES
    assert all(suffix == suffix.lower() and suffix[0] == "." for suffix in BY_SUFFIX)
    for suffix, format_ in {
        **dict.fromkeys((".jpe", ".jfif", ".jpg_large", ".mpo"), JPEG),
        **dict.fromkeys((".hif", ".heics"), HEIF),
    }.items():
        assert BY_SUFFIX[suffix] == format_


def test_media_types_are_those_of_the_table() -> None:
    assert MEDIA_TYPES == {
        **{"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"},
        **{"HEIF": "image/heic", "AVIF": "image/avif"},
    }


@pytest.mark.parametrize("brand", sorted(HEIF_BRANDS), ids=bytes.decode)
def test_service_and_library_take_the_same_brands(brand: bytes) -> None:
    """They disagreed on five."""
    data = branded(brand, b"mif1", b"heic")
    assert sniff(data) == HEIF
    refuse_no_photo(data)
    assert pillow_heif.is_supported(data)


@pytest.mark.parametrize(
    ("data", "format_"),
    [
        (branded(b"mif1", b"avif"), AVIF),
        (branded(b"msf1", b"mif1", b"avis"), AVIF),
        (branded(b"avif", b"mif1"), AVIF),
        (branded(b"avis"), AVIF),
        (branded(b"mif1", b"heic"), HEIF),
        (branded(b"heic", b"avif"), HEIF),
        (branded(b"isom", b"heic"), None),
        (branded(b"mp42", b"avif"), None),
        (b"\0\0\0\x08ftyp", None),
        (b"\xff\xd8", None),
        (b"", None),
    ],
    ids=[
        *("mif1-avif", "msf1-avis", "avif", "avis", "mif1-heic", "heic-avif"),
        *("video-heic", "video-avif", "no-brand", "half", "nothing"),
    ],
)
def test_brands_decide_between_heif_and_avif(data: bytes, format_: Format | None) -> None:
    assert sniff(data) == format_
    if format_ is None:
        with pytest.raises(Failure):
            refuse_no_photo(data)


@pytest.mark.parametrize(
    ("begin", "told"),
    [
        (b"8BPS", "got a Photoshop document; convert it to JPEG or PNG first"),
        (b"\xff\x0a", "got a JPEG XL; convert it"),
        (b"II*\0\x10\0\0\0CR\2\0", "got a camera raw; develop it to JPEG or TIFF first"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1", "got a camera raw; develop"),
        (b"FUJIFILMCCD-RAW ", "got a camera raw; develop"),
        (b"IIU\0\x18\0\0\0", "got a camera raw; develop"),
    ],
    ids=["psd", "jxl", "cr2", "cr3", "raf", "rw2"],
)
def test_a_picture_of_another_format_is_refused_by_name_with_what_to_do(
    begin: bytes, told: str
) -> None:
    data = begin + bytes(300)
    assert sniff(data) is None
    with pytest.raises(PhotoDecodeError, match=told):
        decode(data)


def test_no_photo_begins_like_another_picture() -> None:
    for begin in OTHER_PICTURES:
        assert sniff(begin + bytes(300)) is None
        assert other_picture(begin + bytes(300)) is not None
    assert other_picture(b"BM by the way, this is a text of some length") is None


@pytest.mark.parametrize(
    ("kind", "codec"),
    [
        *(("mp4", "libx264"), ("mov", "libx264"), ("matroska", "libx264"), ("mpegts", "libx264")),
        *(("avi", "mpeg4"), ("webm", "libvpx"), ("3gp", "libx264"), ("asf", "mpeg4")),
        ("vob", "mpeg2video"),
    ],
)
def test_a_clip_is_known_by_its_first_bytes(kind: str, codec: str) -> None:
    clip = drawn_clip(driving(3), kind=kind, codec=codec)
    assert is_clip(clip[:400])
    assert sniff(clip) is None


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF", "BMP", "GIF"])
def test_no_photo_is_taken_for_a_clip(format_: str) -> None:
    assert not is_clip(encoded(STREET, format_))


@pytest.mark.parametrize(
    "data",
    [b"", b"G", b"ftyp", branded(b"heic"), branded(b"avif"), b"\0\0\0\x18ftypcrx " + bytes(400)],
    ids=["nothing", "one byte", "short", "HEIC", "AVIF", "camera raw"],
)
def test_other_bytes_are_not_taken_for_a_clip(data: bytes) -> None:
    assert not is_clip(data)
