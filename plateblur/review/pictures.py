"""Small pictures of photos and of frames, made when they are asked for; nothing is kept.

A picture is at most as large as a screen. To look closely, the page asks for a part of the photo,
which is cut from it at full size and then made as small as the screen.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import numpy as np

from plateblur.colours import to_srgb
from plateblur.errors import EncodeError, PhotoError
from plateblur.formats import JPEG, sniff
from plateblur.photo import decode, upright_hw
from plateblur.runs.workers import PixelsInHand, pixels_of
from plateblur.types import Image

THUMB_WH = (192, 128)
LONGEST_SIDE = 2048  # of what is sent: a large screen
QUALITY = 85
MOST_PIXELS_IN_HAND = 50_000_000  # of all photos that are decoded at a time: 150 MB
MEDIA_TYPE = "image/jpeg"

Part = tuple[int, int, int, int]
"""Left, top, right and bottom in pixels of the upright photo."""


class Pictures:
    """Makes them, and bounds how many pixels are decoded at a time; safe to share by threads."""

    def __init__(self) -> None:
        self._room = PixelsInHand(MOST_PIXELS_IN_HAND)

    def thumb(self, of: bytes | Image) -> bytes:
        """Return a JPEG that fits into `THUMB_WH`.

        Args:
            of: an encoded photo of a run, or a frame of a clip.

        Raises:
            PhotoError: it can't be read.
        """
        if not isinstance(of, bytes):
            return _jpeg(_fitted(of, THUMB_WH))
        with self._of(of):
            pixels = _small_jpeg(of) if sniff(of) == JPEG else None
            if pixels is None:
                pixels = _pixels(of)
            return _jpeg(_fitted(pixels, THUMB_WH))

    def picture(
        self, of: bytes | Image, part: Part | None = None, *, longest: int = LONGEST_SIDE
    ) -> bytes:
        """Return a photo or frame, or a part of it, as a JPEG of sides of at most `longest` px.

        Args:
            of: an encoded photo of a run, or a frame of a clip.
            part: what of it; None for all.
            longest: side, pixels.

        Raises:
            PhotoError: it can't be read, or has no such part.
        """
        if not isinstance(of, bytes):
            return _jpeg(_fitted(_cut(of, part), (longest, longest)))
        with self._of(of):
            return _jpeg(_fitted(_cut(_pixels(of), part), (longest, longest)))

    @contextmanager
    def _of(self, data: bytes) -> Iterator[None]:
        with self._room.of(pixels_of(data)):
            yield


def _pixels(data: bytes) -> Image:
    photo = decode(data)
    return to_srgb(photo.metadata.icc)(photo.pixels)


def _cut(pixels: Image, part: Part | None) -> Image:
    """Return a part of an image; all of it where it is None.

    Raises:
        PhotoError: there is no such part.
    """
    if part is None:
        return pixels
    left, top, right, bottom = part
    height, width = pixels.shape[:2]
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        raise PhotoError(f"expected a part of {width} x {height} pixels, got {part}")
    return pixels[top:bottom, left:right]


def _small_jpeg(data: bytes) -> Image | None:
    """Return a JPEG decoded at a fraction of its size; None where it is small already."""
    height, width = upright_hw(data)
    times = min(width / THUMB_WH[0], height / THUMB_WH[1])
    reduced = {8: cv2.IMREAD_REDUCED_COLOR_8, 4: cv2.IMREAD_REDUCED_COLOR_4}
    flag = next((flag for step, flag in reduced.items() if times >= step), None)
    if flag is None:
        return None
    found = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
    return None if found is None else np.ascontiguousarray(found[..., ::-1]).astype(np.uint8)


def _fitted(pixels: Image, most_wh: tuple[int, int]) -> Image:
    """Return an image made small enough for a width and a height, never larger."""
    height, width = pixels.shape[:2]
    scale = min(1.0, most_wh[0] / width, most_wh[1] / height)
    if scale == 1.0:
        return pixels
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA).astype(np.uint8)


def _jpeg(pixels: Image) -> bytes:
    done, data = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    if not done:
        raise EncodeError("the picture could not be written as JPEG")
    return data.tobytes()
