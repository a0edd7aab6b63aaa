"""Where an image lies on the sphere, an equirectangular one first, and views of it; no pixels.

Directions are rays: x to the right, y down and z ahead, where the panorama's middle looks ahead.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from plateblur.metadata import panorama_tags
from plateblur.types import Projection

WIDEST_VIEW = math.radians(90)  # beyond, a plate at the edge is stretched more than in photos
OVERLAP = 0.3  # of a view's width: a plate up to that size is whole in one of them
LEAST_ACROSS, LEAST_DOWN = math.radians(30), math.radians(10)  # seen less, it is no panorama

Rays = NDArray[np.float64]


class Sphere(Protocol):
    """An image of the sphere or of a part of it, as far as views of it are planned."""

    @property
    def focal_px(self) -> float:
        """Focal length of a view that has the image's own scale, pixels."""
        ...

    def shows(self, view: View) -> bool:
        """Return whether some of the image may be in the view."""
        ...


@dataclass(frozen=True, slots=True)
class Panorama:
    """Where an equirectangular image lies on the whole sphere.

    Attributes:
        image_hw: height and width of the image, pixels.
        full_wh: width and height of the whole sphere at the image's scale, pixels.
        left_top: where the image's first pixel lies on the whole sphere, pixels.
    """

    image_hw: tuple[int, int]
    full_wh: tuple[int, int]
    left_top: tuple[int, int] = (0, 0)

    def rays(self, xy: NDArray[np.floating]) -> Rays:
        """Return the directions, (..., 3) of length 1, of (..., 2) points of the image, pixels."""
        points = np.asarray(xy, np.float64)
        longitude = ((points[..., 0] + self.left_top[0]) / self.full_wh[0] - 0.5) * 2 * math.pi
        latitude = (0.5 - (points[..., 1] + self.left_top[1]) / self.full_wh[1]) * math.pi
        level = np.cos(latitude)
        return np.stack(
            [level * np.sin(longitude), -np.sin(latitude), level * np.cos(longitude)], axis=-1
        )

    def points(self, rays: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the (..., 2) points of the image, pixels, of (..., 3) directions.

        x lies from the whole sphere's left edge to its right one, so beyond a cropped image too.
        """
        x, y, z = np.moveaxis(np.asarray(rays, np.float64), -1, 0)
        longitude, latitude = np.arctan2(x, z), np.arctan2(-y, np.hypot(x, z))
        across = (longitude / (2 * math.pi) + 0.5) * self.full_wh[0] - self.left_top[0]
        down = (0.5 - latitude / math.pi) * self.full_wh[1] - self.left_top[1]
        return np.stack([across, down], axis=-1)

    @property
    def projection(self) -> Projection:
        """How the image shows the sphere."""
        return "equirectangular"

    def shows(self, view: View) -> bool:
        """Return whether some of the image may be in the view."""
        height, width = self.image_hw
        if (width, height) == self.full_wh:
            return True
        at = np.linspace(0, view.side_px, 33)
        x, y = np.moveaxis(self.points(view.rays(np.stack(np.meshgrid(at, at), axis=-1))), -1, 0)
        slack = view.side_px / 16
        beyond_x = (x + slack) % self.full_wh[0] - slack
        return bool(((beyond_x < width + slack) & (-slack < y) & (y < height + slack)).any())

    @property
    def focal_px(self) -> float:
        """Focal length of a view whose middle has the panorama's own scale, pixels."""
        return self.full_wh[0] / (2 * math.pi)

    def halved(self) -> Panorama:
        """Return where an image of half the size lies."""
        (height, width), (full_w, full_h), (left, top) = self.image_hw, self.full_wh, self.left_top
        return Panorama(
            (max(1, height // 2), max(1, width // 2)),
            (max(1, full_w // 2), max(1, full_h // 2)),
            (left // 2, top // 2),
        )


def panorama_of(
    xmp: bytes | None, *, image_hw: tuple[int, int], projection: Projection
) -> Panorama | None:
    """Return where an image lies on the sphere, or None where it is to be looked at as it is.

    Args:
        xmp: XMP packet of the photo, with or without GPano tags.
        image_hw: height and width of the upright image, pixels.
        projection: "auto" takes for a panorama what says so in its tags, "equirectangular" any
            image: as a whole turn where it is twice as wide as high, else as the part of the
            sphere around the horizon that fits.

    Raises:
        ValueError: an unknown projection.
    """
    if projection not in ("auto", "flat", "equirectangular"):
        raise ValueError(f"projection must be auto, flat or equirectangular, got {projection!r}")
    if projection == "flat":
        return None
    tags = panorama_tags(xmp)
    if projection == "auto" and tags.get("ProjectionType", "").strip().lower() != "equirectangular":
        return None
    panorama = _cropped(tags, image_hw) or _centred(image_hw)
    across = image_hw[1] / panorama.full_wh[0] * 2 * math.pi
    down = image_hw[0] / panorama.full_wh[1] * math.pi
    # A small part of the sphere is hardly distorted; and how many views there are stays in
    # proportion to the image's pixels.
    return panorama if across >= LEAST_ACROSS and down >= LEAST_DOWN else None


def _cropped(tags: dict[str, str], image_hw: tuple[int, int]) -> Panorama | None:
    """Return where the tags say that the image lies; None where they say nothing possible."""
    names = (
        *("CroppedAreaImageWidthPixels", "CroppedAreaImageHeightPixels"),
        *("FullPanoWidthPixels", "FullPanoHeightPixels"),
        *("CroppedAreaLeftPixels", "CroppedAreaTopPixels"),
    )
    try:
        area_w, area_h, full_w, full_h, left, top = (float(tags[name]) for name in names)
    except (KeyError, ValueError):
        return None
    height, width = image_hw
    if not (math.isfinite(area_w + area_h + full_w + full_h + left + top) and area_w > 0 < area_h):
        return None
    # The photo may have been made smaller since the tags were written.
    scale_x, scale_y = width / area_w, height / area_h
    whole = (round(full_w * scale_x), round(full_h * scale_y))
    origin = (round(left * scale_x), round(top * scale_y))
    fits_x = origin[0] >= 0 and origin[0] + width <= whole[0] + 1
    fits_y = origin[1] >= 0 and origin[1] + height <= whole[1] + 1
    if not (whole[1] > 0 and fits_x and fits_y and 1.9 <= whole[0] / whole[1] <= 2.1):
        return None
    return Panorama(image_hw, (max(whole[0], width), max(whole[1], height)), origin)


def _centred(image_hw: tuple[int, int]) -> Panorama:
    """Return the largest whole sphere that the image fits, with the horizon in its middle."""
    height, width = image_hw
    full_w = max(width, 2 * height)
    full_h = max(height, math.ceil(full_w / 2))
    return Panorama(image_hw, (full_w, full_h), ((full_w - width) // 2, (full_h - height) // 2))


@dataclass(frozen=True, slots=True)
class View:
    """A camera that looks at the sphere.

    Attributes:
        yaw: to the right of the panorama's middle, radians.
        pitch: above the horizon, radians.
        side_px: width and height of its picture, pixels.
        focal_px: its focal length, pixels.
    """

    yaw: float
    pitch: float
    side_px: int
    focal_px: float

    @property
    def axes(self) -> Rays:
        """(3, 3): its right, its down and its ahead as rays."""
        sin_yaw, cos_yaw = math.sin(self.yaw), math.cos(self.yaw)
        sin_pitch, cos_pitch = math.sin(self.pitch), math.cos(self.pitch)
        return np.array(
            [
                [cos_yaw, 0, -sin_yaw],
                [sin_pitch * sin_yaw, cos_pitch, sin_pitch * cos_yaw],
                [cos_pitch * sin_yaw, -sin_pitch, cos_pitch * cos_yaw],
            ]
        )

    def rays(self, xy: NDArray[np.floating]) -> Rays:
        """Return the directions, (..., 3), of (..., 2) points of its picture, pixels."""
        middle = self.side_px / 2
        points = np.asarray(xy, np.float64) - middle
        ahead = np.full((*points.shape[:-1], 1), self.focal_px)
        return np.asarray(np.concatenate([points, ahead], axis=-1) @ self.axes, np.float64)


def planned_views(sphere: Sphere, *, view_px: float) -> list[View]:
    """Return views, overlapping and row by row, that see all of the image at its own scale.

    Args:
        sphere: where the image lies on it.
        view_px: the largest width and height of a view, pixels.
    """
    focal_px = sphere.focal_px
    across = across_of(sphere, view_px)
    side_px = max(1, round(2 * focal_px * math.tan(across / 2)))
    step = across * (1 - OVERLAP)
    steepest = math.pi / 2 - across / 2 * (1 - OVERLAP)  # such a view sees beyond the pole
    rows = 1 + math.ceil(2 * steepest / step)
    views = []
    for pitch in np.linspace(-steepest, steepest, rows).tolist():
        # Where the row overlaps its neighbour it is longest.
        longest = math.cos(max(0.0, abs(pitch) - across / 2 * (1 - OVERLAP)))
        around = math.ceil(2 * math.pi * longest / step)
        views += [
            View(2 * math.pi * number / around, pitch, side_px, focal_px)
            for number in range(around)
        ]
    return [view for view in views if sphere.shows(view)]


def across_of(sphere: Sphere, view_px: float) -> float:
    """Return the angle of a view of at most `view_px`, radians."""
    return min(WIDEST_VIEW, 2 * math.atan(view_px / 2 / sphere.focal_px))
