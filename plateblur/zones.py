"""Zones of a photo: where plates stay visible, and what is hidden whether there is a plate or not.

A zone is a rectangle in shares of the photo's width and height, or a mask picture that is laid
over the photo, whatever its size. A plate is ignored only where all of it lies in zones to
ignore, so edges are rounded to the side of hiding: inward here, outward where a zone is hidden.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from plateblur.boxes import pixel_bounds
from plateblur.outlines import Region, filled
from plateblur.photo import decode
from plateblur.types import Detections

MASK_LEVEL = 128  # from which a pixel of a mask picture counts as white
MAX_MASK_PIXELS = 50_000_000
ROUNDING = 1e-6  # of a pixel: 0.7 of 10 is no more than 7

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Rectangle:
    """Shares of width and height, 0 to 1: left, top, right, bottom."""

    left: float
    top: float
    right: float
    bottom: float

    def __post_init__(self) -> None:
        """Refuse what is no rectangle inside the photo."""
        sides = (self.left, self.top, self.right, self.bottom)
        if not all(math.isfinite(side) and 0 <= side <= 1 for side in sides):
            raise ValueError(f"expected shares of the photo from 0 to 1, got {sides}")
        if self.left >= self.right or self.top >= self.bottom:
            raise ValueError(f"expected left below right and top below bottom, got {sides}")

    def bounds(self, image_hw: tuple[int, int], *, outward: bool) -> tuple[int, int, int, int]:
        """Return the whole pixels of it, or those that it touches: left, top, right, bottom."""
        height, width = image_hw
        low, high = (math.floor, math.ceil) if outward else (math.ceil, math.floor)
        slack = ROUNDING if outward else -ROUNDING
        return (
            low(self.left * width + slack),
            low(self.top * height + slack),
            high(self.right * width - slack),
            high(self.bottom * height - slack),
        )

    def covers(self, part: tuple[int, int, int, int], image_hw: tuple[int, int]) -> Mask:
        """Return which pixels of `part` (left, top, right, bottom) lie whole in the zone."""
        left, top, right, bottom = part
        x1, y1, x2, y2 = self.bounds(image_hw, outward=False)
        x, y = np.arange(left, right), np.arange(top, bottom)
        return np.asarray(((y >= y1) & (y < y2))[:, None] & ((x >= x1) & (x < x2))[None])

    def region(self, image_hw: tuple[int, int]) -> Region:
        """Return the pixels that it touches."""
        x1, y1, x2, y2 = self.bounds(image_hw, outward=True)
        return Region(x1, y1, np.ones((y2 - y1, x2 - x1), np.bool_))

    def named(self) -> str:
        """Return what identifies the zone."""
        return f"{self.left!r},{self.top!r},{self.right!r},{self.bottom!r}"


@dataclass(frozen=True, slots=True, eq=False)
class MaskZone:
    """Where a mask picture is white.

    Attributes:
        mask: (h, w) bool, stretched over the upright photo.
    """

    mask: Mask

    def covers(self, part: tuple[int, int, int, int], image_hw: tuple[int, int]) -> Mask:
        """Return which pixels of `part` have their middle in the zone."""
        left, top, right, bottom = part
        rows = _places(top, bottom, image_hw[0], self.mask.shape[0])
        columns = _places(left, right, image_hw[1], self.mask.shape[1])
        return np.asarray(self.mask[rows[:, None], columns[None]])

    def region(self, image_hw: tuple[int, int]) -> Region:
        """Return the pixels that have their middle in the zone."""
        height, width = image_hw
        return Region(0, 0, self.covers((0, 0, width, height), image_hw))

    def named(self) -> str:
        """Return what identifies the zone."""
        return f"{self.mask.shape} {hashlib.sha256(np.packbits(self.mask).tobytes()).hexdigest()}"


Zone = Rectangle | MaskZone


@dataclass(frozen=True, slots=True, eq=False)
class Zones:
    """The zones of a photo.

    Attributes:
        ignore: plates that lie wholly in these, taken together, stay visible.
        hide: hidden always.
    """

    ignore: tuple[Zone, ...] = ()
    hide: tuple[Zone, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.ignore or self.hide)

    def and_those(self, other: Zones) -> Zones:
        """Return the zones of both."""
        return Zones(self.ignore + other.ignore, self.hide + other.hide)

    def named(self) -> str:
        """Return what identifies these zones; "" where there are none."""
        if not self:
            return ""
        names = [[zone.named() for zone in zones] for zones in (self.ignore, self.hide)]
        return hashlib.sha256(repr(names).encode()).hexdigest()[:16]

    def regions(self, image_hw: tuple[int, int]) -> list[Region]:
        """Return the pixels that are always hidden."""
        return [part for zone in self.hide for part in filled(zone.region(image_hw))]

    def is_ignored(self, detections: Detections, image_hw: tuple[int, int]) -> Mask:
        """Return, (N,) bool, which plates lie wholly in zones to ignore.

        One with an outline is judged by the outline's bounds.
        """
        bounds = pixel_bounds(detections.xyxy, image_hw=image_hw).tolist()
        return np.array([self._ignores(box, image_hw) for box in bounds], np.bool_)

    def _ignores(self, box: Iterable[int], image_hw: tuple[int, int]) -> bool:
        left, top, right, bottom = box
        if left >= right or top >= bottom or not self.ignore:
            return False
        covered = np.zeros((bottom - top, right - left), np.bool_)
        for zone in self.ignore:
            covered |= zone.covers((left, top, right, bottom), image_hw)
        return bool(covered.all())


NO_ZONES = Zones()


def rectangle(text: str) -> Rectangle:
    """Return the zone that a text like "0,0.85,1,1" names.

    Raises:
        ValueError: it is none.
    """
    try:
        left, top, right, bottom = (float(part) for part in text.split(","))
    except ValueError as error:
        raise ValueError(
            f"expected LEFT,TOP,RIGHT,BOTTOM in shares of the photo, got {text!r}"
        ) from error
    return Rectangle(left, top, right, bottom)


def mask_zone(data: bytes) -> MaskZone:
    """Return the zone where a picture is white: its levels are 128 or more.

    Args:
        data: an encoded picture of any format that photos may have; lossless is best.

    Raises:
        PhotoError: it can't be read.
        ValueError: it is white nowhere.
    """
    photo = decode(data, max_pixels=MAX_MASK_PIXELS)
    mask = np.asarray(photo.pixels.mean(axis=2) >= MASK_LEVEL)
    if not mask.any():
        raise ValueError("expected a mask picture that is white somewhere, got a dark one")
    return MaskZone(mask)


def _places(start: int, end: int, side: int, mask_side: int) -> NDArray[np.int64]:
    """Return which row, or column, of a mask lies over the middle of each pixel."""
    middles = (np.arange(start, end) + 0.5) * mask_side / side
    return np.asarray(middles.astype(np.int64).clip(0, mask_side - 1))
