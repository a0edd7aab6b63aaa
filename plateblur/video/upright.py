"""How stored frames are turned, mirrored and stretched before they are shown."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeVar, cast

import av
import numpy as np
from av.sidedata.sidedata import SideDataContainer, Type
from numpy.typing import NDArray

from plateblur.errors import VideoError

ONE = 1 << 16  # Source: ISO/IEC 14496-12, 8.3.2: entries of the matrix are 16.16 fixed point

AnyT = TypeVar("AnyT", bound=np.generic)


@dataclass(frozen=True, slots=True)
class Upright:
    """From a stored frame to the upright one.

    Attributes:
        transposed: rows and columns change places, before the mirroring.
        mirrored_x: left and right change places.
        mirrored_y: top and bottom change places.
        pixel_aspect: width to height of a stored pixel.
    """

    transposed: bool
    mirrored_x: bool
    mirrored_y: bool
    pixel_aspect: Fraction

    def turn(self, plane: NDArray[AnyT]) -> NDArray[AnyT]:
        """Return a view of `plane`, (H, W) or (H, W, C), turned upright."""
        if self.transposed:
            plane = plane.swapaxes(0, 1)
        return plane[:: -1 if self.mirrored_y else 1, :: -1 if self.mirrored_x else 1]

    @property
    def upright_aspect(self) -> Fraction:
        """Width to height of a pixel of the upright frame."""
        return 1 / self.pixel_aspect if self.transposed else self.pixel_aspect

    def shown_wh(self, width: int, height: int) -> tuple[int, int]:
        """Return the size at which a stored frame is shown, before it is turned.

        It only ever grows: nothing of a plate is lost to the detector.
        """
        if self.pixel_aspect >= 1:
            return round(width * self.pixel_aspect), height
        return width, round(height / self.pixel_aspect)


def upright_of(frame: av.VideoFrame, pixel_aspect: Fraction | None) -> Upright:
    """Return how players show `frame`.

    Args:
        frame: as it was decoded.
        pixel_aspect: of the stored pixels; square where None or 0.

    Raises:
        VideoError: its matrix does more than turning by right angles and mirroring.
    """
    x_of_x, y_of_x, x_of_y, y_of_y = _matrix(frame)
    straight = abs(x_of_x) == abs(y_of_y) == ONE and x_of_y == y_of_x == 0
    transposed = abs(x_of_y) == abs(y_of_x) == ONE and x_of_x == y_of_y == 0
    if not (straight or transposed):
        entries = ", ".join(f"{entry / ONE:g}" for entry in (x_of_x, y_of_x, x_of_y, y_of_y))
        raise VideoError(
            "the clip is rotated by an odd angle, scaled or sheared by its display matrix "
            f"({entries}); only right angles and mirroring are supported"
        )
    return Upright(
        transposed=transposed,
        mirrored_x=(x_of_y if transposed else x_of_x) < 0,
        mirrored_y=(y_of_x if transposed else y_of_y) < 0,
        pixel_aspect=pixel_aspect or Fraction(1),
    )


def side_data(frame: av.VideoFrame) -> Iterable[Any]:
    """Return what a frame carries beside its pixels; PyAV's types say otherwise of it.

    `frame.side_data` would store what it returns in the frame, which it holds in turn. Frames of
    several megabytes would then wait for the garbage collector, which counts objects, not bytes.
    """
    return cast(Iterable[Any], cast(Any, SideDataContainer)(frame))


def _matrix(frame: av.VideoFrame) -> tuple[int, int, int, int]:
    """Return the four entries a, b, c, d of x' = a x + c y, y' = b x + d y."""
    for data in side_data(frame):
        if data.type == Type.DISPLAYMATRIX:
            a, b, _, c, d, *_ = np.frombuffer(bytes(data), np.int32).tolist()
            return a, b, c, d
    return ONE, 0, 0, ONE
