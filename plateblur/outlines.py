"""Make the plates inside outlines unreadable: as `blur.py` does, for regions that are no boxes.

A region is a set of whole pixels. What `blur.py` claims for a box holds for a region: `veil` takes
one dominant colour from inside it and nothing else, `solid` takes nothing, the others average.
Regions whose bounds touch count as one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from plateblur.blur import (
    FEATHER,
    SOLID_GREY,
    Float,
    Mask,
    _dominant_colour,
    _gaussian,
    _mosaic,
    _smooth,
    _veil_of,
    _veil_window,
)
from plateblur.boxes import expand, pixel_bounds
from plateblur.types import Boxes, Image, Method

HALF_DIAGONAL_PX = 0.7072  # from a pixel's middle to its corner, rounded up


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """Pixels of an image that are hidden together.

    Attributes:
        left: column of the mask's first column in the image, pixels.
        top: row of the mask's first row in the image, pixels.
        mask: (h, w) bool, the pixels to hide; all of it lies inside the image.
    """

    left: int
    top: int
    mask: Mask

    @property
    def bounds(self) -> tuple[int, int, int, int]:
        """Left, top, right and bottom in pixels of the image; right and bottom exclusive."""
        height, width = self.mask.shape
        return self.left, self.top, self.left + width, self.top + height


def widened(corners: NDArray[np.float64], margin: float) -> NDArray[np.float64]:
    """Return outlines larger by `margin` of their size on each side; `expand` for any quadrangle.

    Args:
        corners: (..., 4, 2) in a plane.
        margin: share of the size, at least 0.

    Raises:
        ValueError: `corners` is not finite, or `margin` is negative or not finite.
    """
    if not 0 <= margin < np.inf:
        raise ValueError(f"margin must be at least 0 and finite, got {margin}")
    if not np.isfinite(corners).all():
        raise ValueError("corners must be finite, got NaN or infinity")
    centre = corners.mean(axis=-2, keepdims=True)
    return np.asarray(centre + (corners - centre) * (1 + 2 * margin), np.float64)


def edges_around(
    corners: NDArray[np.float64], *, dimensions: int, tolerance: float
) -> NDArray[np.float64]:
    """Return what tells the inside of a quadrangle: (4, 3) normals, one for each edge.

    `normals @ p` is how far the point p lies inside of the four edges, negative outside.

    Args:
        corners: (4, 3) in order around it: (x, y, 1) in a plane, or rays of length 1.
        dimensions: 2 in a plane, where distances are those of x and y; 3 for rays, where they are
            sines of angles.
        tolerance: how far a corner may lie outside of another edge, because of rounding.

    Raises:
        ValueError: not finite or not convex: such an outline would hide less than it spans.
    """
    if corners.shape != (4, 3) or not np.isfinite(corners).all():
        raise ValueError("corners must be four finite points, got others")
    normals = np.cross(corners, np.roll(corners, -1, axis=0))
    lengths = np.linalg.norm(normals[:, :dimensions], axis=1, keepdims=True)
    normals = normals / np.maximum(lengths, np.finfo(np.float64).tiny)
    if (normals @ corners.mean(axis=0)).sum() < 0:
        normals = -normals
    if (normals @ corners.T < -tolerance).any():
        raise ValueError("corners must be in order around a convex outline, got others")
    return np.asarray(normals, np.float64)


def flat_regions(
    corners: NDArray[np.float32], *, image_hw: tuple[int, int], margin: float
) -> list[Region]:
    """Return every pixel that the widened outlines touch, in a photo where lines are straight.

    Args:
        corners: (N, 4, 2) pixels, as in `Detections`; no NaN.
        image_hw: height and width of the image, pixels.
        margin: share of an outline's size that is hidden beyond it on each side.

    Raises:
        ValueError: an outline is not finite or not convex, or the margin is out of range.
    """
    regions = []
    for outline in widened(corners.astype(np.float64), margin):
        points = np.column_stack([outline, np.ones(4)])
        normals = edges_around(points, dimensions=2, tolerance=HALF_DIAGONAL_PX / 2)
        limit = np.hstack([outline.min(axis=0), outline.max(axis=0)])[None]
        ((x1, y1, x2, y2),) = pixel_bounds(limit.astype(np.float32), image_hw=image_hw)
        x, y = np.arange(x1, x2) + 0.5, np.arange(y1, y2) + 0.5
        mask = np.ones((y2 - y1, x2 - x1), np.bool_)
        for across, down, beyond in normals:
            # A pixel that is touched has its middle no farther off than half its diagonal.
            mask &= (across * x)[None] + (down * y + beyond + HALF_DIAGONAL_PX)[:, None] >= 0
        regions += filled(Region(int(x1), int(y1), mask))
    return regions


def box_regions(xyxy: Boxes, *, image_hw: tuple[int, int], margin: float) -> list[Region]:
    """Return the widened boxes as regions.

    Args:
        xyxy: (N, 4) float32, pixels.
        image_hw: height and width of the image, pixels.
        margin: as for `blur_boxes`.
    """
    bounds = pixel_bounds(expand(xyxy, margin), image_hw=image_hw).tolist()
    regions = [Region(x1, y1, np.ones((y2 - y1, x2 - x1), np.bool_)) for x1, y1, x2, y2 in bounds]
    return [one for region in regions for one in filled(region)]


def filled(region: Region) -> list[Region]:
    """Return the region cut to the pixels that it hides, or nothing where it hides none."""
    rows, columns = (np.flatnonzero(region.mask.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return []
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    mask = np.ascontiguousarray(region.mask[top:bottom, left:right])
    return [Region(region.left + int(left), region.top + int(top), mask)]


def blur_regions(
    image: Image, regions: Sequence[Region], *, method: Method, in_place: bool = False
) -> Image:
    """Return a copy of `image` with everything inside the regions unreadable.

    Args:
        image: (H, W, 3) uint8 RGB.
        regions: inside `image`.
        method: how; see the head of `blur.py` for what each guarantees.
        in_place: write into `image` itself, where it may be lost and a copy is too large.

    Raises:
        ValueError: an unknown method.
    """
    if method not in get_args(Method):
        raise ValueError(f"method must be one of {', '.join(get_args(Method))}, got {method!r}")
    blurred = image if in_place else image.copy()
    if method == "veil":
        bounds = np.array([region.bounds for region in regions], np.int64).reshape(-1, 4)
        for group in _groups(bounds):
            _veil(blurred, group, regions, bounds)
    else:
        for region in regions:
            x1, y1, x2, y2 = region.bounds
            target = blurred[y1:y2, x1:x2]
            if method == "solid":
                target[region.mask] = SOLID_GREY
            else:
                averaged = _mosaic(target) if method == "mosaic" else _gaussian(target)
                np.copyto(target, averaged, where=region.mask[..., None])
    return blurred


def opaque_regions(alpha: NDArray[np.uint8], regions: Sequence[Region]) -> NDArray[np.uint8]:
    """Return a copy of `alpha`, (H, W) uint8 opacity, that is opaque inside the regions."""
    covered = alpha.copy()
    for region in regions:
        x1, y1, x2, y2 = region.bounds
        covered[y1:y2, x1:x2][region.mask] = 255
    return covered


def _veil(
    image: Image, group: NDArray[np.int64], regions: Sequence[Region], bounds: NDArray[np.int64]
) -> None:
    """Lay the veil over one group, the numbers of some of the regions of `image`, in place.

    The pixels inside any region are zeroed first, and the fill is made from that image, so that
    nothing of them can reach it.
    """
    thickness = [_thickness_px(regions[number].mask) for number in group]
    around, cell_px = _veil_window(bounds[group], height_px=max(thickness))
    left, top, right, bottom = around.tolist()  # beyond the image is cut by slicing
    crop = image[top:bottom, left:right]
    inside, hidden = np.zeros(crop.shape[:2], np.bool_), np.zeros(crop.shape[:2], np.bool_)
    for number in group:
        _paint(inside, regions[number], left=left, top=top)
    for number in np.flatnonzero(_touch(bounds, around)).tolist():
        _paint(hidden, regions[number], left=left, top=top)
    veil = _veil_of(
        np.where(hidden[..., None], np.uint8(0), crop),
        known=~hidden,
        inside=inside,
        colour=_dominant_colour(crop, inside),
        height_px=max(thickness),
        cell_px=cell_px,
    )
    feather_px = max(1, round(FEATHER * min(thickness)))
    away = cv2.distanceTransform((~inside).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    opacity: Float = _smooth(1 - away / (feather_px + 1))
    feather = (opacity > 0) & ~hidden
    share = opacity[feather][:, None]
    mixed = crop[feather] * (1 - share) + veil[feather] * share
    crop[feather] = mixed.round().astype(np.uint8)
    np.copyto(crop, veil, where=inside[..., None])


def _paint(mask: Mask, region: Region, *, left: int, top: int) -> None:
    """Set in `mask`, whose first pixel is at `left` and `top`, what lies in the region."""
    height, width = mask.shape
    x1, y1, x2, y2 = region.bounds
    u1, v1, u2, v2 = max(x1, left), max(y1, top), min(x2, left + width), min(y2, top + height)
    if u1 < u2 and v1 < v2:
        mask[v1 - top : v2 - top, u1 - left : u2 - left] |= region.mask[
            v1 - y1 : v2 - y1, u1 - x1 : u2 - x1
        ]


def _thickness_px(mask: Mask) -> int:
    """Return the diameter of the largest circle in a mask: a plate's height, however tilted."""
    framed = np.pad(mask.astype(np.uint8), 1)
    return max(1, round(2 * float(cv2.distanceTransform(framed, cv2.DIST_L2, 5).max()) - 1))


def _groups(bounds: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Return the numbers of the regions in groups whose bounds overlap or touch in a chain."""
    groups: list[NDArray[np.int64]] = []
    is_left = np.ones(len(bounds), np.bool_)
    while is_left.any():
        is_member = np.zeros(len(bounds), np.bool_)
        waiting = [int(is_left.argmax())]
        while waiting:
            is_member[waiting] = True
            touching = _touch(bounds, bounds[waiting.pop()]) & ~is_member
            is_member |= touching
            waiting += np.flatnonzero(touching).tolist()
        is_left &= ~is_member
        groups.append(np.flatnonzero(is_member))
    return groups


def _touch(bounds: NDArray[np.int64], one: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which of (N, 4) bounds overlap or touch one, (4,)."""
    apart = (bounds[:, :2] > one[2:]).any(axis=1) | (bounds[:, 2:] < one[:2]).any(axis=1)
    return np.asarray(~apart, np.bool_)
