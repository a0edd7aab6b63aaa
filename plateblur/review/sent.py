"""What the page sends of a box: checked, rounded as in the manifest, and clipped to the picture."""

from __future__ import annotations

import math
from typing import Any

from plateblur.errors import PlateblurError
from plateblur.runs.review_log import Box


class InvalidError(PlateblurError):
    """What the page sent makes no sense."""


def clipped(sides: Any, image_hw: tuple[int, int]) -> Box:
    """Return a box, clipped to the picture.

    Raises:
        InvalidError: nothing of it is in the picture.
        ValueError: it is no box.
    """
    height, width = image_hw
    left, top, right, bottom = four(sides)
    box = (max(0.0, left), max(0.0, top), min(float(width), right), min(float(height), bottom))
    if box[2] - box[0] < 1 or box[3] - box[1] < 1:
        raise InvalidError("A box must have at least one pixel of the picture.")
    return box


def four(sides: Any) -> Box:
    """Return four finite sides.

    Raises:
        ValueError: they are none.
    """
    left, top, right, bottom = (round(float(side), 1) for side in sides)
    if not all(math.isfinite(side) for side in (left, top, right, bottom)):
        raise ValueError
    return left, top, right, bottom
