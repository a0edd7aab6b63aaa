"""What a photo's headers say it will cost, read before a decoder sees it.

Each walk reads a format's own structure and no more: no pixel, and nothing compressed. It refuses
what no camera or program writes and what only wears a decoder out. What it can't read it lets pass,
because the decoder will say what is wrong; and it promises nothing of what it lets pass, which is
why strangers' photos are decoded in a process that can be ended (`bounded.py`).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

from plateblur.errors import PhotoTooLargeError

MAX_SIDE_PX = 200_000  # three times what a JPEG can have; Pillow keeps a pointer for each row
MAX_DECODED_BYTES_PX = 4  # for each pixel of the limit: 8-bit RGBA or CMYK of all of it
MAX_SCANS = 100  # of a progressive JPEG; libjpeg's script has 10, scripts of optimisers up to 20
MAX_WHOLE_SCANS = 20  # of one that has as many pixels as its limit; a scan costs by the pixel
MAX_JPEG_SEGMENTS = 4_000  # a JPEG of 100 MB with 64 kB segments of XMP or ICC has 1,600
MOST_SEGMENTS = 10_000  # of a JPEG that are read; real ones have some hundreds
MAX_PNG_CHUNKS = 200_000  # one of 100 MB, cut into chunks of 512 bytes
MAX_PNG_EXTRAS = 1_000  # chunks of it that are no pixels
MAX_BOXES = 10_000  # of HEIF and AVIF; a grid of a 200-megapixel photo has 800 tiles

# In a scan 0xFF stands before a marker, unless 0 follows (a byte of data) or a restart's number.
_AFTER_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_FILL = re.compile(rb"\xff+")
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_BARE = frozenset({0x01, *range(0xD0, 0xD9)})  # markers that no length follows
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


def refuse_costly(data: bytes, *, max_pixels: int) -> None:
    """Raise where a photo's headers say that it costs far more than a photo of its limits does.

    Args:
        data: an encoded photo of any format.
        max_pixels: the most that may be decoded.

    Raises:
        PhotoTooLargeError: it says so.
    """
    if data.startswith(b"\xff\xd8\xff"):
        _walk_jpeg(data, max_pixels=max_pixels)
    elif data.startswith(b"\x89PNG\r\n\x1a\n"):
        _walk_png(data, max_pixels=max_pixels)
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        _walk_webp(data, max_pixels=max_pixels)
    elif data[4:8] == b"ftyp":
        _walk_boxes(data, max_pixels=max_pixels)


def _require_sides(width: int, height: int, *, bytes_px: float, max_pixels: int) -> None:
    """Raise unless an image of these sides, and of so many bytes a pixel, may be decoded."""
    if width * height > max_pixels:
        raise PhotoTooLargeError(
            f"expected at most {max_pixels} pixels, got {width} x {height} = {width * height}"
        )
    if max(width, height) > MAX_SIDE_PX:
        raise PhotoTooLargeError(f"expected sides of up to {MAX_SIDE_PX}, got {width} x {height}")
    decoded_bytes, most = width * height * bytes_px, max_pixels * MAX_DECODED_BYTES_PX
    if decoded_bytes > most:
        raise PhotoTooLargeError(
            f"expected at most {most} bytes of pixels, got {width} x {height} of {bytes_px:g} bytes"
        )


def _require_fewer(what: str, count: int, most: int) -> None:
    if count > most:
        raise PhotoTooLargeError(f"expected at most {most} {what}, got more")


def _walk_jpeg(data: bytes, *, max_pixels: int) -> None:
    """Count the segments before the first scan and, of a progressive JPEG, its scans.

    A decoder goes over the whole image once for each of them, even for one of a few bytes.
    """
    at, scans, segments, is_progressive, most_scans = 2, 0, 0, False, MAX_SCANS
    while at + 4 <= len(data):
        marker = data[at + 1]
        if data[at] != 0xFF:
            return
        if marker == 0xFF and (fill := _FILL.match(data, at)):
            at = fill.end() - 1
            continue
        segments += 1
        _require_fewer("segments", segments, MAX_JPEG_SEGMENTS)
        if marker == 0xD9:
            return
        if marker in _BARE:
            at += 2
            continue
        if marker in _FRAMES and at + 10 <= len(data):
            height, width, channels = struct.unpack_from(">HHB", data, at + 5)
            _require_sides(width, height, bytes_px=min(channels, 4), max_pixels=max_pixels)
            is_progressive = marker in _PROGRESSIVE
            whole = MAX_WHOLE_SCANS * max_pixels // max(1, width * height)
            most_scans = min(MAX_SCANS, whole)
        at += 2 + int.from_bytes(data[at + 2 : at + 4])
        if marker == 0xDA:
            if not is_progressive:  # which is decoded once, however it is cut into scans
                return
            scans += 1
            _require_fewer("scans", scans, most_scans)
            following = _AFTER_SCAN.search(data, at)
            if following is None:
                return
            at = following.start()


def jpeg_segments(data: bytes, *, at: int = 2) -> Iterator[tuple[int, int, int]]:
    """Yield marker, start and end of each segment of a JPEG, a scan with its data, up to its end.

    The start is where the marker is. The last is 0xD9 where the JPEG has its end marker.

    Args:
        data: holds a JPEG.
        at: where its first segment begins, behind its start marker.
    """
    for _ in range(MOST_SEGMENTS):
        if at + 2 > len(data) or data[at] != 0xFF:
            return
        marker = data[at + 1]
        if marker == 0xFF and (fill := _FILL.match(data, at)):
            at = fill.end() - 1
            continue
        end = at + 2
        if marker not in _BARE and marker != 0xD9:
            end += int.from_bytes(data[end : end + 2])
        if marker == 0xDA:
            following = _AFTER_SCAN.search(data, end)
            end = len(data) if following is None else following.start()
        yield marker, at, min(end, len(data))
        if marker == 0xD9:
            return
        at = end


def _walk_png(data: bytes, *, max_pixels: int) -> None:
    extras = 0
    for chunks, (name, start, _) in enumerate(png_chunks(data), start=1):
        extras += name != b"IDAT"
        _require_fewer("chunks", chunks, MAX_PNG_CHUNKS)
        _require_fewer("chunks of metadata", extras, MAX_PNG_EXTRAS)
        if name == b"IHDR" and start + 10 <= len(data):
            width, height, depth, colours = struct.unpack_from(">LLBB", data, start)
            bytes_px = _PNG_CHANNELS.get(colours, 4) * max(depth, 8) / 8
            _require_sides(width, height, bytes_px=bytes_px, max_pixels=max_pixels)


def png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, start and end of the content of each chunk of a PNG, up to its end chunk."""
    at, name = 8, b""
    while at + 8 <= len(data) and name != b"IEND":
        length, name = struct.unpack_from(">L4s", data, at)
        yield name, at + 8, at + 8 + length
        at += 12 + length


def _walk_webp(data: bytes, *, max_pixels: int) -> None:
    """Read the canvas and the image, because Pillow makes room for both before it tells a size."""
    at, chunks = 12, 0
    while at + 8 <= len(data):
        name, length = struct.unpack_from("<4sL", data, at)
        chunks += 1
        _require_fewer("chunks", chunks, MAX_PNG_EXTRAS)
        body = data[at + 8 : at + 18]
        size = None
        if name == b"VP8X" and len(body) == 10:
            size = tuple(1 + int.from_bytes(body[i : i + 3], "little") for i in (4, 7))
        elif name == b"VP8 " and len(body) == 10:
            size = tuple(int.from_bytes(body[i : i + 2], "little") & 0x3FFF for i in (6, 8))
        elif name == b"VP8L" and len(body) >= 5:
            bits = int.from_bytes(body[1:5], "little")
            size = (1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF))
        if size is not None:
            _require_sides(size[0], size[1], bytes_px=4, max_pixels=max_pixels)
        at += 8 + length + length % 2


def _walk_boxes(data: bytes, *, max_pixels: int) -> None:
    """Read the size of each image of a HEIF or AVIF, and count what it is described with."""
    for count, (name, start, _) in enumerate(boxes_of(data), start=1):
        _require_fewer("boxes", count, MAX_BOXES)
        if name == b"ispe" and start + 12 <= len(data):
            width, height = struct.unpack_from(">LL", data, start + 4)
            _require_sides(width, height, bytes_px=4, max_pixels=max_pixels)


def boxes_of(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, start and end of the content of each box of a HEIF or AVIF that describes it."""
    todo = [(0, len(data))]
    while todo:
        at, end = todo.pop()
        while at + 8 <= end:
            length, name = struct.unpack_from(">L4s", data, at)
            header = 8
            if length == 1 and at + 16 <= end:
                length, header = int.from_bytes(data[at + 8 : at + 16]), 16
            elif length == 0:
                length = end - at
            if length < header:
                return
            body, after = at + header, min(at + length, end)
            yield name, body, after
            if name in (b"iprp", b"ipco"):
                todo.append((body, after))
            elif name in (b"meta", b"iinf"):
                todo.append((body + (4 if name == b"meta" else 6), after))
            at += length


def is_animated_png(data: bytes) -> bool:
    """Return whether a PNG says that it has frames other than one."""
    controls = [data[start:end] for name, start, end in png_chunks(data) if name == b"acTL"]
    return len(controls) > 1 or any(one[:4] != b"\0\0\0\1" for one in controls)  # of frames


def is_lossless_webp(data: bytes) -> bool:
    """Return whether the image of a WebP is coded without loss; its chunks tell."""
    at = 12
    while at + 8 <= len(data):
        name, length = struct.unpack_from("<4sL", data, at)
        if name in (b"VP8 ", b"VP8L"):
            return bool(name == b"VP8L")
        at += 8 + length + length % 2
    return False


def is_deep(data: bytes) -> bool:
    """Return whether a PNG, HEIF or AVIF says that it has more than 8 bits a channel."""
    if data.startswith(b"\x89PNG"):
        return data[24:25] == b"\x10"
    if data[4:8] != b"ftyp":
        return False
    # Source: HEIF (ISO/IEC 23008-12), 6.5.6: version and flags, channels, and bits of each.
    return any(
        name == b"pixi" and max(data[at + 5 : end], default=0) > 8
        for name, at, end in boxes_of(data)
    )
