"""Find plates in equirectangular panoramas, and say which of their pixels are to be hidden.

An equirectangular image has a longitude a column and a latitude a row. Near its horizon it looks
like any photo; towards its top and bottom it is stretched sideways, and its left and right edges
are one seam. So plates are looked for in views: what a camera with a lens of its own would have
taken, each in its direction, overlapping, all around and up to both poles. There a plate is a
rectangle, as in any photo; on the panorama its outline may be bent, cross the seam or hold a pole.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from plateblur.boxes import Indices, Overlap, Shares
from plateblur.letterbox import PAD_GREY
from plateblur.looks import one_a_plate
from plateblur.outlines import HALF_DIAGONAL_PX, Region, edges_around, filled, widened
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
WIDEST_BLOCK = 32_766  # Source: OpenCV's remap takes images of less than 32,767 pixels a side
TURNED = math.radians(15)  # from which a box around a tilted plate is loose
LOOSE = 4.0  # how many times as large it may be as a tight one: 3.1 at 30 degrees, 4.7 : 1
FARTHEST = math.radians(75)  # of a plate's corner from its middle
BAND_ROWS = 240  # of a view or a region that are worked out at a time

Maps = NDArray[np.float32]


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
    panorama: Panorama,
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
        panorama: where it lies on the sphere.
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
    found = [_flat_look(image, panorama, detector, min_confidence=min_confidence)]
    if effort != "fast":
        view_px = VIEW_HEIGHTS * smallest_plate_px
        for level, smaller in _levels(image, panorama, view_px=view_px):
            scale = panorama.full_wh[0] / smaller.full_wh[0]
            for view, picture in _pictures(level, smaller, view_px=view_px):
                boxes = detector.detect(
                    picture,
                    min_confidence=min_confidence,
                    smallest_plate_px=smallest_plate_px,
                    effort=effort,
                )
                found.append(
                    _Found(
                        view.rays(_corners(boxes.xyxy)),
                        boxes.confidence,
                        _is_cut(boxes.xyxy, view.side_px),
                        _scaled(boxes.searched, scale),
                    )
                )
    return _on_image(_merged(found), panorama)


def _levels(
    image: Image, panorama: Panorama, *, view_px: float
) -> Iterator[tuple[Image, Panorama]]:
    """Yield the panorama, then ever smaller ones until a view of one can hold a near plate."""
    yield image, panorama
    while across_of(panorama, view_px) < NARROW_VIEW:
        panorama = panorama.halved()
        image = cv2.resize(image, panorama.image_hw[::-1], interpolation=cv2.INTER_AREA).astype(
            np.uint8, copy=False
        )
        yield image, panorama


def _pictures(image: Image, panorama: Panorama, *, view_px: float) -> Iterator[tuple[View, Image]]:
    """Yield each planned view with its picture, (side_px, side_px, 3) uint8 RGB."""
    pitch, bands = math.nan, list[tuple[Maps, Maps]]()
    for view in planned_views(panorama, view_px=view_px):
        if view.pitch != pitch:  # in one row of views only the yaw differs
            pitch, bands = view.pitch, _bands(view, panorama)
        shift = view.yaw / (2 * math.pi) * panorama.full_wh[0]
        parts = [_band(image, panorama, across, down, shift=shift) for across, down in bands]
        yield view, np.concatenate(parts)


def _scaled(searched: Searched | None, scale: float) -> Searched | None:
    """Return how an image was searched, in pixels of one larger by `scale`."""
    if searched is None:
        return None
    return replace(searched, smallest_plate_px=searched.smallest_plate_px * scale)


def _bands(view: View, panorama: Panorama) -> list[tuple[Maps, Maps]]:
    """Return where the image's pixels for a view at yaw 0 are, some rows of the view at a time.

    Returns:
        Columns and rows of the image, each (h, side_px) float32; whole numbers are the middles
        of pixels. A column may lie beyond the image.
    """
    middle = np.arange(view.side_px, dtype=np.float32) + np.float32(0.5 - view.side_px / 2)
    sine, cosine = np.float32(math.sin(view.pitch)), np.float32(math.cos(view.pitch))
    full_w, full_h = panorama.full_wh
    left, top = panorama.left_top
    bands = []
    for at in range(0, view.side_px, BAND_ROWS):
        below = middle[at : at + BAND_ROWS, None]
        ahead = np.float32(view.focal_px) * cosine + below * sine
        down = below * cosine - np.float32(view.focal_px) * sine
        longitude = np.arctan2(middle[None], ahead)
        latitude = np.arctan2(down, np.hypot(middle[None], ahead))  # below the horizon
        longitude *= np.float32(full_w / (2 * math.pi))
        longitude += np.float32(full_w / 2 - left - 0.5)
        latitude *= np.float32(full_h / math.pi)
        latitude += np.float32(full_h / 2 - top - 0.5)
        bands.append((longitude, latitude))
    return bands


def _band(image: Image, panorama: Panorama, across: Maps, down: Maps, *, shift: float) -> Image:
    """Return the image's colours at these columns, moved by `shift` pixels, and rows.

    Grey beyond the image.
    """
    left = math.floor(float(across.min()) + shift) - 1
    right = math.ceil(float(across.max()) + shift) + 2
    top = max(0, math.floor(float(down.min())))
    bottom = min(panorama.image_hw[0], math.ceil(float(down.max())) + 2)
    if top >= bottom:
        return np.full((*down.shape, 3), PAD_GREY, np.uint8)
    block = _columns(image[top:bottom], left, right, full_w=panorama.full_wh[0])
    across = across + np.float32(shift - left)
    if block.shape[1] > WIDEST_BLOCK:  # only around a pole, where the columns are dense
        across = (across + np.float32(0.5)) * np.float32(WIDEST_BLOCK / block.shape[1]) - 0.5
        narrow_wh = (WIDEST_BLOCK, len(block))
        block = cv2.resize(block, narrow_wh, interpolation=cv2.INTER_AREA).astype(np.uint8)
    picture = cv2.remap(
        block,
        across,
        down - np.float32(top),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(PAD_GREY, PAD_GREY, PAD_GREY),
    )
    return picture.astype(np.uint8, copy=False)


def _columns(rows: Image, left: int, right: int, *, full_w: int) -> Image:
    """Return the columns from `left` to `right` of an image that goes around every `full_w`.

    Grey where the image has none; not a copy where the columns lie side by side in it.
    """
    width = rows.shape[1]
    turn = left // full_w * full_w
    if left - turn + right - left <= width:
        return rows[:, left - turn : right - turn]
    block = np.full((len(rows), right - left, 3), PAD_GREY, np.uint8)
    for start in range(turn, right, full_w):  # where a turn of the image begins
        first, last = max(left, start), min(right, start + width)
        if first < last:
            block[:, first - left : last - left] = rows[:, first - start : last - start]
    return block


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


def _around(xyxy: NDArray[np.floating], panorama: Panorama) -> tuple[Rays, NDArray[np.bool_]]:
    """Return outlines, (N, 4, 3) rays, that hold the panorama's boxes, and which can be plates.

    A box that reaches more than `FARTHEST` from its middle is none: not even a plate that touches
    the lens fills so much of the sphere.
    """
    share = np.linspace(0, 1, 17)[:-1, None]
    corners = _corners(xyxy)
    sides = [
        corners[:, None, i] * (1 - share) + corners[:, None, (i + 1) % 4] * share for i in range(4)
    ]
    edge = panorama.rays(np.concatenate(sides, axis=1))
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
    told = [each.searched for each in found if each.searched is not None]
    searched = None
    if len(told) == len(found):
        smallest_px = min(one.smallest_plate_px for one in told)
        searched = Searched(sum(one.looks for one in told), round(smallest_px, 1))
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


def _on_image(found: _Found, panorama: Panorama) -> Detections:
    """Return outlines as detections: bounds and corners in pixels of the image."""
    boxes: list[list[float]] = []
    rows: list[int] = []
    corners = panorama.points(found.rays)
    for row, outline in enumerate(found.rays):
        for box in _bounds(outline, panorama):
            boxes.append(box)
            rows.append(row)
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        found.confidence[rows].astype(np.float32),
        found.searched,
        corners[rows].astype(np.float32),
    )


def _bounds(outline: Rays, panorama: Panorama) -> list[list[float]]:
    """Return the bounds, `xyxy` in pixels of the image, of (4, 3) rays: one on each side of a seam.

    None where the outline lies beyond a cropped image.
    """
    share = np.linspace(0, 1, 65)[:-1, None]
    following = np.roll(outline, -1, axis=0)
    edge = np.concatenate([outline[i] * (1 - share) + following[i] * share for i in range(4)])
    x, y = panorama.points(edge).T
    height, width = panorama.image_hw
    full_w, full_h = panorama.full_wh
    top, bottom = float(y.min()), float(y.max())
    normals = edges_around(outline, dimensions=3, tolerance=math.inf)
    holds_pole = False
    for pole, row in (((0, -1, 0), 0), ((0, 1, 0), full_h)):
        if (normals @ pole >= 0).all():
            holds_pole = True
            top = min(top, row - panorama.left_top[1])
            bottom = max(bottom, row - panorama.left_top[1])
    if holds_pole:
        spans = [(-panorama.left_top[0], full_w - panorama.left_top[0])]
    else:
        (middle, _), half = panorama.points(outline.sum(axis=0)), full_w / 2
        beside = (x - middle + half) % full_w - half
        first, last = middle + float(beside.min()), middle + float(beside.max())
        spans = [(first + turn, last + turn) for turn in (-full_w, 0, full_w)]
    clipped = (
        [max(0.0, first), max(0.0, top), min(float(width), last), min(float(height), bottom)]
        for first, last in spans
    )
    return [box for box in clipped if box[0] < box[2] and box[1] < box[3]]


def outline_regions(
    corners: NDArray[np.float32], panorama: Panorama, *, margin: float
) -> list[Region]:
    """Return every pixel of the panorama that the widened outlines touch.

    Args:
        corners: (N, 4, 2) pixels, as in `Detections`; no NaN.
        panorama: where the image lies on the sphere.
        margin: share of an outline's size that is hidden beyond it on each side.

    Raises:
        ValueError: an outline is not finite, not convex or wider than half the sphere, or the
            margin is out of range.
    """
    regions = []
    for outline in panorama.rays(corners):
        (axes,) = _upright_axes(outline.sum(axis=0, keepdims=True))
        seen = outline @ axes.T
        if not (seen[:, 2] > 0.01).all():
            raise ValueError("corners must lie within half the sphere, got others")
        flat = widened(seen[:, :2] / seen[:, 2:], margin)
        wide = np.column_stack([flat, np.ones(4)]) @ axes
        regions += _regions_of(wide / np.linalg.norm(wide, axis=1, keepdims=True), panorama)
    return regions


def _regions_of(outline: Rays, panorama: Panorama) -> list[Region]:
    """Return the pixels inside (4, 3) rays of length 1: a region on each side of a seam."""
    # A pixel that is touched has its middle no farther off than half its diagonal.
    slack = math.sin(HALF_DIAGONAL_PX * 2 * math.pi / panorama.full_wh[0])
    normals = edges_around(outline, dimensions=3, tolerance=slack / 2)
    height, width = panorama.image_hw
    full_w, full_h = panorama.full_wh
    # The circle around the outline tells which rows and columns can hold it.
    middle = outline.sum(axis=0) / np.linalg.norm(outline.sum(axis=0))
    radius = math.acos(min(1.0, float((outline @ middle).min()))) + 4 * math.pi / full_w
    latitude = -math.asin(max(-1.0, min(1.0, float(middle[1]))))
    (across, down), rows = panorama.points(middle), radius / math.pi * full_h + 2
    top, bottom = max(0, math.floor(down - rows)), min(height, math.ceil(down + rows))
    if math.sin(radius) >= math.cos(latitude):  # it holds a pole
        columns = [(0, width)]
    else:
        reach = math.asin(math.sin(radius) / math.cos(latitude)) / (2 * math.pi) * full_w + 2
        first, last = math.floor(across - reach), math.ceil(across + reach)
        columns = [(max(0, first + turn), min(width, last + turn)) for turn in (-full_w, 0, full_w)]
    regions = []
    for left, right in columns:
        if left >= right or top >= bottom:
            continue
        mask = np.ones((bottom - top, right - left), np.bool_)
        longitude = (
            ((np.arange(left, right) + 0.5 + panorama.left_top[0]) / full_w - 0.5) * 2 * math.pi
        )
        lat = (0.5 - (np.arange(top, bottom) + 0.5 + panorama.left_top[1]) / full_h) * math.pi
        sine, cosine = np.sin(longitude), np.cos(longitude)
        for x, y, z in normals:
            level = (x * sine + z * cosine)[None].astype(np.float32)
            for at in range(0, len(mask), BAND_ROWS):
                part = np.s_[at : at + BAND_ROWS]
                upright = (-y * np.sin(lat[part]) + slack).astype(np.float32)[:, None]
                away = np.cos(lat[part]).astype(np.float32)[:, None] * level + upright
                mask[part] &= away >= 0
        regions += filled(Region(left, top, mask))
    return regions
