"""Photos without metadata, as sets keep them."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Literal

from PIL.JpegImagePlugin import JpegImageFile

from plateblur.photo import decode, encode

SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp"}
"""Formats that photos are kept in; OpenCV, which training reads with, opens them everywhere."""

# Source: JPEG (JFIF 1.02), PNG 3rd edition and WebP container specifications. Parts of a file that
# hold pixels or say how to show them; anything else is metadata.
JPEG_SEGMENTS = frozenset({"APP0", "APP14"})
JFIF_BYTES = 14  # of an APP0 segment without a thumbnail
PNG_CHUNKS = frozenset(
    {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"sBIT", b"pHYs"}
)
WEBP_CHUNKS = frozenset({b"VP8 ", b"VP8L", b"VP8X", b"ALPH"})


def without_metadata(data: bytes) -> tuple[bytes, str, tuple[int, int]]:
    """Return a photo without metadata, the suffix of its format, and its height and width.

    A photo without metadata is returned byte for byte. Any other is turned upright and encoded
    again, a JPEG with its own quantisation; its ICC profile stays.

    Raises:
        PhotoError: no photo, or a damaged one.
    """
    photo = decode(data)
    if photo.format in SUFFIXES and _holds_pixels_alone(data, photo.format):
        return data, SUFFIXES[photo.format], photo.image_hw
    if photo.format not in SUFFIXES:
        photo = replace(photo, format="PNG")
    written = encode(photo, photo.pixels, metadata="strip")
    return written, SUFFIXES[photo.format], photo.image_hw


def _holds_pixels_alone(data: bytes, format_: str) -> bool:
    if format_ == "JPEG":
        segments = JpegImageFile(io.BytesIO(data)).applist
        return data.endswith(b"\xff\xd9") and all(
            name in JPEG_SEGMENTS and (name != "APP0" or len(body) <= JFIF_BYTES)
            for name, body in segments
        )
    if format_ == "PNG":
        names, end = _chunk_names(data, start=8, order="big", name_first=False, tail_bytes=4)
        return names <= PNG_CHUNKS and end == len(data)
    names, end = _chunk_names(data, start=12, order="little", name_first=True, tail_bytes=0)
    return names <= WEBP_CHUNKS and end == len(data)


def _chunk_names(
    data: bytes,
    *,
    start: int,
    order: Literal["little", "big"],
    name_first: bool,
    tail_bytes: int,
) -> tuple[set[bytes], int]:
    """Return the names of a PNG's or WebP's chunks, and where the last one ends."""
    names, at = set(), start
    while at + 8 <= len(data):
        words = (data[at : at + 4], data[at + 4 : at + 8])
        name, size = words if name_first else words[::-1]
        names.add(name)
        length = int.from_bytes(size, order)
        at += 8 + length + (length % 2 if name_first else 0) + tail_bytes
    return names, at
