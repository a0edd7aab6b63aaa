"""What a photo says, beside an ICC profile, of how it is to be shown: its colours and its density.

It names no person, place or time, so it stays under every metadata policy.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from itertools import takewhile

from plateblur.headers import boxes_of, jpeg_segments, png_chunks

# Source: PNG (third edition), 11.3: how colours are meant, and how large the picture is.
PNG_CHUNKS = {
    **{b"gAMA": 4, b"cHRM": 32, b"sRGB": 1, b"cICP": 4, b"mDCV": 24, b"cLLI": 8},
    b"pHYs": 9,
}
"""Length of each chunk that is kept, bytes."""
UNSPECIFIED = 2  # Source: ITU-T H.273, tables 2 and 3
MOST_ITEMS = 10_000  # of a HEIF that are read; a grid of a 200-megapixel photo has 800
DENSITY = slice(11, 16)  # Source: JFIF 1.02, page 5: unit and both densities, from the marker on


@dataclass(frozen=True, slots=True)
class Display:
    """How a photo is to be shown; each part may be absent.

    Attributes:
        cicp: colour primaries and transfer characteristics of a HEIF or AVIF. Source: H.273.
        png: name and content of a PNG's chunks, those of `PNG_CHUNKS`.
        density: unit and densities of a JPEG, as JFIF holds them, 5 bytes.
        dpi: of a TIFF or BMP, across and down.
    """

    cicp: tuple[int, int] | None = None
    png: tuple[tuple[bytes, bytes], ...] = ()
    density: bytes | None = None
    dpi: tuple[float, float] | None = None


def display_of(data: bytes) -> Display:
    """Return how the photo in `data` is to be shown."""
    if data.startswith(b"\x89PNG"):
        return Display(png=_png_chunks(data))
    if data.startswith(b"\xff\xd8"):
        at = _jfif(data)
        return Display(density=None if at is None else data[at:][DENSITY])
    if data[4:8] == b"ftyp":
        return Display(cicp=_cicp(data))
    return Display()


def with_display(data: bytes, display: Display) -> bytes:
    """Return an encoded photo that says `display` of itself; what its format can't say is left out.

    Args:
        data: a photo as an encoder wrote it.
        display: how it is to be shown.
    """
    if data.startswith(b"\x89PNG") and display.png:
        return _with_png_chunks(data, display.png)
    if data.startswith(b"\xff\xd8") and display.density and (at := _jfif(data)) is not None:
        return data[: at + DENSITY.start] + display.density + data[at + DENSITY.stop :]
    if data[4:8] == b"ftyp" and display.cicp is not None:
        return _with_cicp(data, display.cicp)
    return data


def _jfif(data: bytes) -> int | None:
    """Return where the first whole JFIF segment of a JPEG begins, or None without one."""
    metadata = takewhile(lambda segment: segment[0] >= 0xE0, jpeg_segments(data))
    for marker, start, end in metadata:
        if marker == 0xE0 and data[start + 4 : start + 9] == b"JFIF\0" and end >= start + 18:
            return start
    return None


def _png_chunks(data: bytes) -> tuple[tuple[bytes, bytes], ...]:
    before_pixels = takewhile(lambda chunk: chunk[0] != b"IDAT", png_chunks(data))
    found = {
        name: data[start:end]
        for name, start, end in before_pixels
        if PNG_CHUNKS.get(name) == end - start and end <= len(data)
    }
    return tuple(found.items())


def _with_png_chunks(data: bytes, chunks: tuple[tuple[bytes, bytes], ...]) -> bytes:
    there = {name for name, _, _ in png_chunks(data)}
    added = b""
    for name, content in chunks:
        # Source: PNG (third edition), 11.3.2.5: a profile and sRGB don't go together.
        if name not in there and not (name == b"sRGB" and b"iCCP" in there):
            crc = zlib.crc32(name + content)
            added += struct.pack(">L", len(content)) + name + content + struct.pack(">L", crc)
    header_end = 33  # signature and IHDR
    return data[:header_end] + added + data[header_end:]


def _cicp(data: bytes) -> tuple[int, int] | None:
    """Return the colour description of the photo in a HEIF or AVIF that isn't a profile.

    Source: ISO/IEC 14496-12, 12.1.5.
    """
    for name, start, end in _properties(data):
        if name == b"colr" and data[start : start + 4] == b"nclx" and start + 11 <= end:
            primaries, transfer = struct.unpack_from(">HH", data, start + 4)
            if (primaries, transfer) != (UNSPECIFIED, UNSPECIFIED):
                return primaries, transfer
    return None


def _properties(data: bytes) -> list[tuple[bytes, int, int]]:
    """Return the boxes that describe the photo itself in a HEIF or AVIF.

    Those of all its images where the file doesn't say which belong to the photo: a gain map has
    colours of its own. Source: ISO/IEC 14496-12, 8.11.4, and ISO/IEC 23008-12, 9.3.
    """
    boxes = list(boxes_of(data))
    at = {name: (start, end) for name, start, end in reversed(boxes)}
    if not {b"pitm", b"ipma", b"ipco"} <= at.keys():
        return boxes
    first, last = at[b"ipco"]
    known = [box for box in boxes if first < box[1] <= last]
    try:
        photo = _number(data, at[b"pitm"][0] + 4, 4 if data[at[b"pitm"][0]] else 2)
        mine = _associations(data, at[b"ipma"][0]).get(photo, [])
    except IndexError:
        return boxes
    return [known[number - 1] for number in mine if 0 < number <= len(known)] or boxes


def _associations(data: bytes, at: int) -> dict[int, list[int]]:
    """Return the numbers of each item's properties, from 1, of an `ipma` box whose content is at.

    Raises:
        IndexError: it is cut.
    """
    id_bytes, is_wide = 4 if data[at] else 2, data[at + 3] & 1
    entries: dict[int, list[int]] = {}
    count, at = min(_number(data, at + 4, 4), MOST_ITEMS), at + 8
    for _ in range(count):
        item, number = _number(data, at, id_bytes), data[at + id_bytes]
        at += id_bytes + 1
        step = 2 if is_wide else 1
        essential = 0x8000 if is_wide else 0x80  # a flag in front of each number
        entries[item] = [
            _number(data, at + step * each, step) & ~essential for each in range(number)
        ]
        at += step * number
    return entries


def _number(data: bytes, at: int, size: int) -> int:
    """Return a number of `size` bytes; raises `IndexError` where there are fewer."""
    if at + size > len(data):
        raise IndexError(at)
    return int.from_bytes(data[at : at + size])


def _with_cicp(data: bytes, cicp: tuple[int, int]) -> bytes:
    """Return a HEIF or AVIF with other primaries and transfer; the matrix stays as it was encoded.

    A reader takes what the box says over what the coded picture says of itself. Source: MIAF
    (ISO/IEC 23000-22), 7.3.6.4.
    """
    for name, start, _ in boxes_of(data):
        if name == b"colr" and data[start : start + 4] == b"nclx":
            data = data[: start + 4] + struct.pack(">HH", *cicp) + data[start + 8 :]
    return data
