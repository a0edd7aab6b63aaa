"""Masks of what was hidden in a photo, as pictures for other programs."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from plateblur.errors import EncodeError
from plateblur.outlines import Region

ALWAYS_HIDDEN = 65_535  # in a mask: a zone that is hidden whether there is a plate or not

InstanceMask = NDArray[np.uint16]
"""(H, W) uint16: 0 where nothing is hidden, k in the k-th plate, `ALWAYS_HIDDEN` in zones."""


def instance_mask(
    plates: Sequence[Sequence[Region]], zones: Sequence[Region], *, image_hw: tuple[int, int]
) -> InstanceMask:
    """Return which pixels are hidden for which plate; the more confident plate is on top.

    Args:
        plates: the regions of each, most confident first.
        zones: the regions that are hidden always.
        image_hw: height and width of the upright photo, pixels.
    """
    mask = np.zeros(image_hw, np.uint16)
    numbered = [(ALWAYS_HIDDEN, zones), *reversed(list(enumerate(plates, start=1)))]
    for number, regions in numbered:
        for region in regions:
            x1, y1, x2, y2 = region.bounds
            mask[y1:y2, x1:x2][region.mask] = min(number, ALWAYS_HIDDEN)
    return mask


def as_binary_png(mask: InstanceMask) -> bytes:
    """Return a mask as an 8-bit PNG: 255 where anything is hidden, else 0."""
    return _png((mask > 0).astype(np.uint8) * 255)


def as_instance_png(mask: InstanceMask) -> bytes:
    """Return a mask as a 16-bit PNG with the numbers as they are."""
    return _png(mask)


def _png(picture: NDArray[np.uint8] | InstanceMask) -> bytes:
    done, data = cv2.imencode(".png", picture)
    if not done:
        raise EncodeError("the mask could not be written as a PNG")
    return data.tobytes()
