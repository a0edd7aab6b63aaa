"""Find plates in pictures of the whole sphere, and say which of their pixels are to be hidden.

An equirectangular image has a longitude a column and a latitude a row. Near its horizon it looks
like any photo; towards its top and bottom it is stretched sideways, and its left and right edges
are one seam. So plates are looked for in views: what a camera with a lens of its own would have
taken, each in its direction, overlapping, all around and up to both poles. There a plate is a
rectangle, as in any photo; on the panorama its outline may be bent, cross the seam or hold a pole.

Cubemaps and dual fisheye pictures are looked at in the same views; `faces.py` knows their pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TypedDict

import cv2
import numpy as np
from numpy.typing import NDArray

from plateblur import equirectangular, faces
from plateblur.boxes import Indices, Overlap, Shares
from plateblur.faces import Face, Faces
from plateblur.looks import one_a_plate
from plateblur.outlines import Region, widened
from plateblur.sphere import Panorama, Rays, View, across_of, planned_views
from plateblur.types import (
    SMALLEST_PLATE_PX,
    Detections,
    Detector,
    Effort,
    Image,
    Searched,
)

VIEW_HEIGHTS = 160  # of the smallest plate in a view: 1920 px for one of 12 px, as in a 1080p photo
NARROW_VIEW = math.radians(60)  # views below it can't hold a near plate: wider ones are added
EDGE_PX = 2.0  # a box this close to a view's edge is cut by it
FLAT_PX = 1920  # width of the whole panorama in the flat look, before it is wrapped
FLAT_WRAP = 1 / 6  # of the width that is seen a second time beyond the right edge
TURNED = math.radians(15)  # from which a box around a tilted plate is loose
LOOSE = 4.0  # how many times as large it may be as a tight one: 3.1 at 30 degrees, 4.7 : 1
FARTHEST = math.radians(75)  # of a plate's corner from its middle

Spherical = Panorama | Faces
"""Where an image lies on the sphere."""


class _How(TypedDict):
    """How a detector is to look."""

    min_confidence: float
    smallest_plate_px: float
    effort: Effort


@dataclass(frozen=True, slots=True)
class _Found:
    """What one look found, or all of them.

    Attributes:
        rays: (N, 4, 3) float64, the corners of each box.
        confidence: (N,) float32.
        is_cut: (N,) bool, the box may go on beyond the edge of what the look saw, or is loose.
        searched: how, in pixels of the panorama; None where the detector does not tell.
    """

    rays: Rays
    confidence: NDArray[np.float32]
    is_cut: NDArray[np.bool_]
    searched: Searched | None


def find_on_panorama(
    image: Image,
    sphere: Spherical,
    detector: Detector,
    *,
    min_confidence: float,
    smallest_plate_px: float = SMALLEST_PLATE_PX,
    effort: Effort = "default",
) -> Detections:
    """Return the plates of a panorama with their outlines, most confident first.

    A plate across the seam is there twice, once for each side, with the same outline.

    Args:
        image: (H, W, 3) uint8 RGB, upright.
        sphere: where it lies on the sphere.
        detector: what finds plates in a view.
        min_confidence: the smallest confidence kept, above 0 and at most 1.
        smallest_plate_px: height of the smallest plate that is to be found, pixels of the
            panorama at its horizon.
        effort: "fast" looks once, at the panorama as it is; the others look in views, each with
            that effort.

    Raises:
        DetectionError: the detector failed.
        ValueError: an argument is out of range.
    """
    if not 1 <= smallest_plate_px < math.inf:
        raise ValueError(f"smallest_plate_px must be at least 1, got {smallest_plate_px}")
    how: _How = {
        "min_confidence": min_confidence,
        "smallest_plate_px": smallest_plate_px,
        "effort": effort,
    }
    beyond = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))
    if isinstance(sphere, Faces):
        flat, beyond = _look_at_faces(image, sphere, detector, how)
    else:
        flat = _flat_look(image, sphere, detector, min_confidence=min_confidence)
    found = [flat]
    if effort != "fast":
        view_px = VIEW_HEIGHTS * smallest_plate_px
        for level, smaller in _levels(image, sphere, view_px=view_px):
            scale = sphere.focal_px / smaller.focal_px
            for view, picture in _pictures(level, smaller, view_px=view_px):
                boxes = detector.detect(picture, **how)
                found.append(
                    _Found(
                        view.rays(_corners(boxes.xyxy)),
                        boxes.confidence,
                        _is_cut(boxes.xyxy, view.side_px),
                        _scaled(boxes.searched, scale),
                    )
                )
    return _with_boxes(_on_image(_merged(found), sphere), beyond)


def _levels(
    image: Image, sphere: Spherical, *, view_px: float
) -> Iterator[tuple[Image, Spherical]]:
    """Yield the panorama, then ever smaller ones until a view of one can hold a near plate."""
    yield image, sphere
    while across_of(sphere, view_px) < NARROW_VIEW:
        sphere = sphere.halved()
        image = cv2.resize(image, sphere.image_hw[::-1], interpolation=cv2.INTER_AREA).astype(
            np.uint8, copy=False
        )
        yield image, sphere


def _pictures(image: Image, sphere: Spherical, *, view_px: float) -> Iterator[tuple[View, Image]]:
    """Yield planned views with their pictures, (side_px, side_px, 3) uint8 RGB."""
    views = planned_views(sphere, view_px=view_px)
    match sphere:
        case Faces():
            yield from faces.pictures(image, sphere, views)
        case Panorama():
            yield from equirectangular.pictures(image, sphere, views)


def _regions_of(outline: Rays, sphere: Spherical) -> list[Region]:
    """Return the pixels inside (4, 3) rays of length 1: a region on each side of a seam."""
    match sphere:
        case Faces():
            return faces.regions_on(outline, sphere)
        case Panorama():
            return equirectangular.regions_on(outline, sphere)


def _bounds_of(outline: Rays, sphere: Spherical) -> list[list[float]]:
    """Return the bounds, `xyxy` in pixels of the image, of (4, 3) rays: one on each side of a seam.

    None where the outline lies beyond a cropped image.
    """
    match sphere:
        case Faces():
            outline = outline / np.linalg.norm(outline, axis=1, keepdims=True)
            regions = faces.regions_on(outline, sphere)
            return [[float(side) for side in region.bounds] for region in regions]
        case Panorama():
            return equirectangular.bounds_on(outline, sphere)


def _scaled(searched: Searched | None, scale: float) -> Searched | None:
    """Return how an image was searched, in pixels of one larger by `scale`."""
    if searched is None:
        return None
    return replace(searched, smallest_plate_px=searched.smallest_plate_px * scale)


def _flat_look(
    image: Image, panorama: Panorama, detector: Detector, *, min_confidence: float
) -> _Found:
    """Return what is found on the panorama as it is, made smaller: near plates at the horizon."""
    height, width = panorama.image_hw
    scale = min(1.0, FLAT_PX / width)
    small_wh = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(image, small_wh, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    if width == panorama.full_wh[0]:
        small = np.hstack([small, small[:, : round(small_wh[0] * FLAT_WRAP)]])
    boxes = detector.detect(small, min_confidence=min_confidence, effort="fast")
    on_image = boxes.xyxy / np.array([small_wh[0] / width, small_wh[1] / height] * 2)
    rays, is_plate = _around(on_image, panorama)
    # A box on the stretched picture is as loose as one that is cut: it gives way to a view's.
    is_cut = np.ones(len(boxes), np.bool_)
    searched = _scaled(boxes.searched, 1 / scale)
    return _Found(rays[is_plate], boxes.confidence[is_plate], is_cut[is_plate], searched)


def _look_at_faces(
    image: Image, sphere: Faces, detector: Detector, how: _How
) -> tuple[_Found, Detections]:
    """Return what is found in the image as it is: on its faces, and boxes that reach beyond them.

    So plates are found even where the cells are laid in another order than is known here.
    """
    boxes = detector.detect(image, **how)
    parts, beyond = faces.parts_in_faces(boxes.xyxy, sphere)
    outlines, rows = [np.zeros((0, 4, 3))], list[int]()
    for part in parts:
        outline, is_plate = _around(part.xyxy[None], part.face)
        if is_plate.all():
            outlines.append(outline)
            rows.append(part.row)
        else:
            beyond.append(part.row)
    # As loose as a box that is cut: it gives way to a view's.
    is_cut = np.ones(len(rows), np.bool_)
    found = _Found(np.concatenate(outlines), boxes.confidence[rows], is_cut, boxes.searched)
    return found, boxes.take(np.array(sorted(set(beyond)), np.int64))


def _with_boxes(found: Detections, boxes: Detections) -> Detections:
    """Return detections with boxes that have no outline, most confident first."""
    if not len(boxes) or found.corners is None:
        return found
    none = np.full((len(boxes), 4, 2), np.nan, np.float32)
    every = Detections(
        np.concatenate([found.xyxy, boxes.xyxy]),
        np.concatenate([found.confidence, boxes.confidence]),
        found.searched,
        np.concatenate([found.corners, none]),
    )
    return every.take(np.argsort(-every.confidence, kind="stable"))


def _around(xyxy: NDArray[np.floating], sphere: Spherical | Face) -> tuple[Rays, NDArray[np.bool_]]:
    """Return outlines, (N, 4, 3) rays, that hold boxes of the image, and which can be plates.

    A box that reaches more than `FARTHEST` from its middle is none: not even a plate that touches
    the lens fills so much of the sphere.
    """
    share = np.linspace(0, 1, 17)[:-1, None]
    corners = _corners(xyxy)
    sides = [
        corners[:, None, i] * (1 - share) + corners[:, None, (i + 1) % 4] * share for i in range(4)
    ]
    edge = sphere.rays(np.concatenate(sides, axis=1))
    axes = _upright_axes(edge.sum(axis=1))
    seen = np.einsum("nkj,nij->nki", edge, axes)
    is_plate = (seen[..., 2] > math.cos(FARTHEST)).all(axis=1)
    flat = seen[..., :2] / np.maximum(seen[..., 2:], math.cos(FARTHEST))
    bounds = np.hstack([flat.min(axis=1), flat.max(axis=1)])
    outline = np.concatenate([_corners(bounds), np.ones((len(bounds), 4, 1))], axis=-1)
    return np.einsum("nki,nij->nkj", outline, axes), is_plate


def _upright_axes(ahead: Rays) -> Rays:
    """Return the (N, 3, 3) axes of views without roll that look along (N, 3) rays."""
    ahead = ahead / np.maximum(np.linalg.norm(ahead, axis=-1, keepdims=True), 1e-12)
    right = np.stack([ahead[:, 2], np.zeros(len(ahead)), -ahead[:, 0]], axis=-1)
    right[np.linalg.norm(right, axis=-1) < 1e-9] = [1, 0, 0]  # straight up or down
    right = right / np.linalg.norm(right, axis=-1, keepdims=True)
    return np.stack([right, np.cross(ahead, right), ahead], axis=1)


def _corners(xyxy: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the (N, 4, 2) corners of boxes, clockwise from the left top."""
    return np.asarray(xyxy, np.float64).reshape(-1, 4)[:, [[0, 1], [2, 1], [2, 3], [0, 3]]]


def _is_cut(xyxy: NDArray[np.floating], side_px: int) -> NDArray[np.bool_]:
    """Return which boxes the edge of a view may have cut, (N,) bool."""
    before = (xyxy[:, :2] <= EDGE_PX).any(axis=1)
    return np.asarray(before | (xyxy[:, 2:] >= side_px - EDGE_PX).any(axis=1))


def _merged(found: list[_Found]) -> _Found:
    """Return each plate once, most confident first: the rule of `looks.merged`, on the sphere."""
    rays = np.concatenate([each.rays for each in found])
    confidence = np.concatenate([each.confidence for each in found])
    is_cut = np.concatenate([each.is_cut for each in found])
    order, sure = one_a_plate(confidence, is_cut, _sphere_overlap(rays))
    searches = [each.searched for each in found if each.searched is not None]
    searched = None
    if len(searches) == len(found):
        smallest_px = min(one.smallest_plate_px for one in searches)
        searched = Searched(sum(one.looks for one in searches), round(smallest_px, 1))
    return _Found(rays[order], sure[order], is_cut[order], searched)


def _sphere_overlap(rays: Rays) -> Overlap:
    """Return how (N, 4, 3) outlines overlap, for `one_a_plate`."""
    middles, radii = _circles(rays)

    def overlap(best: int, is_left: NDArray[np.bool_]) -> tuple[Indices, Shares, Shares]:
        left = np.flatnonzero(is_left)
        apart = np.arccos((middles[left] @ middles[best]).clip(-1, 1))
        rows = left[apart < radii[best] + radii[left]]
        return rows, *_overlaps(rays[best], rays[rows])

    return overlap


def _circles(rays: Rays) -> tuple[Rays, NDArray[np.float64]]:
    """Return the middles, (N, 3), and angles, (N,) radians, of circles around (N, 4, 3) corners."""
    corners = rays / np.linalg.norm(rays, axis=-1, keepdims=True)
    middles = corners.sum(axis=1)
    middles /= np.maximum(np.linalg.norm(middles, axis=-1, keepdims=True), 1e-12)
    cosines = np.einsum("nki,ni->nk", corners, middles).min(axis=1, initial=1)
    return middles, np.arccos(cosines.clip(-1, 1))


def _overlaps(outline: Rays, others: Rays) -> tuple[Shares, Shares]:
    """Return IoU with `outline`, (4, 3), of each of (N, 4, 3), and how much of each is inside it.

    Measured in the picture that looks straight at the outline, between upright boxes there. Two
    boxes of about one size that each hold the other's middle are of one plate, but in views that
    are turned against each other a tilted one is loose: it counts as inside, and as the same where
    it is turned.
    """
    (axes,) = _upright_axes(outline.sum(axis=0, keepdims=True))
    seen = np.concatenate([outline[None], others]) @ axes.T
    in_front = (seen[..., 2] > math.cos(FARTHEST)).all(axis=1)
    flat = seen[..., :2] / np.where(in_front[:, None, None], seen[..., 2:], 1)
    low, high = flat.min(axis=1), flat.max(axis=1)
    tiny = np.finfo(np.float64).tiny
    area = np.maximum(np.prod(high - low, axis=1), tiny)
    shared = np.prod((np.minimum(high[0], high[1:]) - np.maximum(low[0], low[1:])).clip(0), axis=1)
    shared *= in_front[1:] & in_front[0]
    iou, inside = shared / (area[0] + area[1:] - shared), shared / area[1:]

    middle = flat.mean(axis=1)
    holds = ((low[0] < middle[1:]) & (middle[1:] < high[0])).all(axis=1)
    is_held = ((low[1:] < middle[0]) & (middle[0] < high[1:])).all(axis=1)
    ratio = area[1:] / area[0]
    one_plate = (shared > 0) & holds & is_held & (ratio > 1 / LOOSE) & (ratio < LOOSE)
    along = flat[:, 1] - flat[:, 0]
    slope = np.arctan2(along[:, 1], along[:, 0])
    turned = np.abs((slope[1:] - slope[0] + math.pi) % (2 * math.pi) - math.pi) > TURNED
    return np.where(one_plate & turned, 1, iou), np.where(one_plate, 1, inside)


def _on_image(found: _Found, sphere: Spherical) -> Detections:
    """Return outlines as detections: bounds and corners in pixels of the image."""
    boxes: list[list[float]] = []
    rows: list[int] = []
    corners = sphere.points(found.rays)
    for row, outline in enumerate(found.rays):
        for box in _bounds_of(outline, sphere):
            boxes.append(box)
            rows.append(row)
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        found.confidence[rows].astype(np.float32),
        found.searched,
        corners[rows].astype(np.float32),
    )


def outline_regions(
    corners: NDArray[np.float32], sphere: Spherical, *, margin: float
) -> list[Region]:
    """Return every pixel of the panorama that the widened outlines touch.

    Args:
        corners: (N, 4, 2) pixels, as in `Detections`; no NaN.
        sphere: where the image lies on it.
        margin: share of an outline's size that is hidden beyond it on each side.

    Raises:
        ValueError: an outline is not finite, not convex or wider than half the sphere, or the
            margin is out of range.
    """
    regions = []
    for outline in sphere.rays(corners):
        (axes,) = _upright_axes(outline.sum(axis=0, keepdims=True))
        seen = outline @ axes.T
        if not (seen[:, 2] > 0.01).all():
            raise ValueError("corners must lie within half the sphere, got others")
        flat = widened(seen[:, :2] / seen[:, 2:], margin)
        wide = np.column_stack([flat, np.ones(4)]) @ axes
        regions += _regions_of(wide / np.linalg.norm(wide, axis=1, keepdims=True), sphere)
    return regions
