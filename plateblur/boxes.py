"""Axis-aligned boxes in pixels: overlap, suppression, widening and rounding; pure NumPy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from plateblur.types import Boxes

Indices = NDArray[np.int64]
Shares = NDArray[np.float64]

Overlap = Callable[[int, NDArray[np.bool_]], tuple[Indices, Shares, Shares]]
"""How one box overlaps others.

Given a box's index and (N,) bool, the boxes that are left, it returns the indices of those of them
near the box, (M,), the IoU of each with it, and the share of each that lies inside it.
"""


def _require_boxes(xyxy: Boxes) -> None:
    if xyxy.ndim != 2 or xyxy.shape[1] != 4:
        raise ValueError(f"xyxy must have shape (N, 4), got {xyxy.shape}")


def iou_matrix(a: Boxes, b: Boxes) -> NDArray[np.float32]:
    """Return the intersection over union of every box of `a` with every box of `b`.

    Args:
        a: (N, 4) float32 `xyxy`, pixels.
        b: (M, 4) float32 `xyxy`, pixels of the same image.

    Returns:
        (N, M) float32, 0 to 1; 0 where both boxes are empty.

    Raises:
        ValueError: `a` or `b` is not (N, 4).
    """
    _require_boxes(a)
    _require_boxes(b)
    # In float64, because the area of a box far beyond its image overflows float32.
    first, second = a.astype(np.float64), b.astype(np.float64)
    top_left = np.maximum(first[:, None, :2], second[None, :, :2])
    bottom_right = np.minimum(first[:, None, 2:], second[None, :, 2:])
    intersection = np.prod(np.clip(bottom_right - top_left, 0, None), axis=2)
    union = areas(a)[:, None] + areas(b)[None] - intersection
    iou = np.zeros(intersection.shape, np.float32)
    np.divide(intersection, union, out=iou, where=union > 0, casting="same_kind")
    return iou


def areas(xyxy: Boxes) -> NDArray[np.float64]:
    """Return the areas of (N, 4) boxes, (N,)."""
    sides = xyxy[:, 2:].astype(np.float64) - xyxy[:, :2]
    area: NDArray[np.float64] = np.prod(np.clip(sides, 0, None), axis=1)
    return area


def non_max_suppression(
    xyxy: Boxes, confidence: NDArray[np.float32], *, iou_threshold: float
) -> NDArray[np.int64]:
    """Return the indices of the boxes that greedy NMS keeps, most confident first.

    Args:
        xyxy: (N, 4) float32, pixels.
        confidence: (N,) float32.
        iou_threshold: boxes that overlap a kept one by more than this are dropped, 0 to 1.

    Returns:
        (K,) int64 indices into `xyxy`.

    Raises:
        ValueError: the shapes do not belong together.
    """
    _require_boxes(xyxy)
    if confidence.shape != (len(xyxy),):
        raise ValueError(f"confidence must have shape ({len(xyxy)},), got {confidence.shape}")
    order = np.argsort(-confidence, kind="stable").astype(np.int64)
    overlap = box_overlap(xyxy, least=iou_threshold)
    keeper = keepers(order, overlap, iou_threshold=iou_threshold)
    kept: NDArray[np.int64] = order[keeper[order] == order]
    return kept


def keepers(
    order: NDArray[np.int64],
    overlap: Overlap,
    *,
    iou_threshold: float,
    cut: NDArray[np.bool_] | None = None,
    cut_inside: float = 1.0,
) -> NDArray[np.int64]:
    """Return for each box the one that it gives way to in greedy NMS, itself where it stays.

    Args:
        order: (N,) int64, indices of the boxes, the one that goes first at the front.
        overlap: how boxes overlap, wherever they lie; `box_overlap` for those of a flat image.
        iou_threshold: a box gives way to one before it that it overlaps by more, above 0.
        cut: (N,) bool, boxes that also give way where they lie inside one before them.
        cut_inside: with at least this share of their area.

    Returns:
        (N,) int64.
    """
    keeper = np.full(len(order), -1, np.int64)
    for best in order.tolist():
        if keeper[best] >= 0:
            continue
        rows, iou, inside = overlap(best, keeper < 0)
        same = iou > iou_threshold
        if cut is not None:
            same |= cut[rows] & (inside >= cut_inside)
        keeper[rows[same]] = best
        keeper[best] = best
    return keeper


def box_overlap(xyxy: Boxes, *, least: float) -> Overlap:
    """Return how boxes of an image overlap, for `keepers`.

    A box is compared with those beside it alone, so that thousands of them stay affordable.

    Args:
        xyxy: (N, 4) float32, pixels.
        least: the smallest share that matters, of an IoU or of a box inside another, above 0.
    """
    x1, y1, x2, y2 = xyxy.astype(np.float64).T
    area, centre = areas(xyxy), (x1 + x2) / 2
    by_centre = np.argsort(centre, kind="stable")
    sorted_centre = centre[by_centre]
    # Farther apart than so many widths, one of two would be too wide to share so much of its area.
    reach = (x2 - x1) * (1 + 1 / least) / 2 if least > 1e-6 else np.full(len(area), np.inf)

    def overlap(best: int, is_left: NDArray[np.bool_]) -> tuple[Indices, Shares, Shares]:
        limits = [centre[best] - reach[best], centre[best] + reach[best]]
        near = np.searchsorted(sorted_centre, limits)
        rows = by_centre[near[0] : near[1] + 1]
        rows = rows[is_left[rows]]
        across = np.minimum(x2[rows], x2[best]) - np.maximum(x1[rows], x1[best])
        down = np.minimum(y2[rows], y2[best]) - np.maximum(y1[rows], y1[best])
        shared = across.clip(0) * down.clip(0)
        tiny = np.finfo(np.float64).tiny
        iou = shared / np.maximum(area[best] + area[rows] - shared, tiny)
        return rows, iou, shared / np.maximum(area[rows], tiny)

    return overlap


def expand(xyxy: Boxes, margin: float) -> Boxes:
    """Return the boxes widened by `margin` of their own width and height on each side.

    Args:
        xyxy: (N, 4) float32, pixels; a widened box may reach beyond its image.
        margin: fraction of the box's size, at least 0.

    Raises:
        ValueError: `xyxy` is not (N, 4), or `margin` is negative or not finite.
    """
    _require_boxes(xyxy)
    if not 0 <= margin < np.inf:
        raise ValueError(f"margin must be at least 0 and finite, got {margin}")
    grow = (xyxy[:, 2:] - xyxy[:, :2]) * np.float32(margin)
    return np.hstack([xyxy[:, :2] - grow, xyxy[:, 2:] + grow])


def pixel_bounds(xyxy: Boxes, *, image_hw: tuple[int, int]) -> NDArray[np.int64]:
    """Round boxes outward to whole pixels and clip them to the image.

    Outward, because a half-covered edge column can still be read.

    Args:
        xyxy: (N, 4) float32, pixels of the upright image; x2 and y2 exclusive.
        image_hw: height and width of that image, pixels.

    Returns:
        (N, 4) int64, row i for box i; a row may be empty (x1 == x2).

    Raises:
        ValueError: `xyxy` is not (N, 4), not finite, or a right or bottom side is before its
            left or top: such a box would hide nothing.
    """
    _require_boxes(xyxy)
    if not np.isfinite(xyxy).all():
        raise ValueError("xyxy must be finite, got NaN or infinity")
    if (xyxy[:, 2:] < xyxy[:, :2]).any():
        raise ValueError("xyxy must have x1 <= x2 and y1 <= y2, got a box turned inside out")
    height, width = image_hw
    outward = np.hstack([np.floor(xyxy[:, :2]), np.ceil(xyxy[:, 2:])])
    # Clipped before the cast: a number that int64 can't hold would turn up at the other end.
    return outward.clip(0, np.array([width, height, width, height])).astype(np.int64)
