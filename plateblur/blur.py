"""Make the plates inside boxes unreadable.

`veil`, the default, looks like a soft blur and can't be undone, because almost nothing goes in:
inside a box the result depends on the photo's pixels inside that box only through one dominant
colour, rounded to 3 bits a channel. All else is filled in from around the box. Where boxes
overlap, the group of them counts as one box.

`solid` takes nothing from inside. `mosaic` and `gaussian` average what is inside; averages of
known letter shapes can be distinguished, so they are cosmetic and can be attacked.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from plateblur.boxes import expand, pixel_bounds
from plateblur.types import Boxes, Image, Method

SOLID_GREY = 64  # a colour that says "hidden" on dark and bright photos alike
COLOUR_BITS = 3  # of each channel of the one colour that `veil` takes from inside a box
VEIL_STRENGTH = 0.8  # how much of that colour shows in the middle of a plate
VEIL_EDGE = 0.2  # of the box's height: sigma of how that colour sets in from the edge
FEATHER = 0.08  # of the box's height: how far outside the box its edge is softened
MOSAIC_ROWS = 3  # cells in the height of a plate: each wider than a letter's stroke
GAUSSIAN_SIGMA = 0.25  # of the box's height
STRIPE_ROWS = 256  # counted at a time
VEIL_ROWS = 24  # a group of taller boxes is veiled at a smaller size: it is smooth all over

Float = NDArray[np.float32]
Mask = NDArray[np.bool_]


def blur_boxes(
    image: Image, xyxy: Boxes, *, method: Method, margin: float, in_place: bool = False
) -> Image:
    """Return a copy of `image` with everything inside the widened boxes unreadable.

    Args:
        image: (H, W, 3) uint8 RGB.
        xyxy: (N, 4) float32, pixels of `image`.
        method: how; see the head of this file for what each guarantees.
        margin: share of a box's width and height hidden beyond it on each side.
        in_place: write into `image` itself, where it may be lost: a copy of a large one is slow.

    Raises:
        ValueError: an unknown method, a negative margin, or `xyxy` holds no boxes that can be
            hidden: not (N, 4), not finite, or turned inside out.
    """
    if method not in get_args(Method):
        raise ValueError(f"method must be one of {', '.join(get_args(Method))}, got {method!r}")
    bounds = hidden_bounds(xyxy, image_hw=image.shape[:2], margin=margin)
    blurred = image if in_place else image.copy()
    if method == "veil":
        _veil(blurred, bounds)
        return blurred
    for x1, y1, x2, y2 in bounds:
        inside = np.s_[y1:y2, x1:x2]
        if method == "solid":
            blurred[inside] = SOLID_GREY
        elif method == "mosaic":
            blurred[inside] = _mosaic(blurred[inside])
        else:
            blurred[inside] = _gaussian(blurred[inside])
    return blurred


def opaque_boxes(alpha: NDArray[np.uint8], xyxy: Boxes, *, margin: float) -> NDArray[np.uint8]:
    """Return a copy of `alpha` that is opaque inside the widened boxes.

    Because a plate can be drawn in opacity alone.

    Args:
        alpha: (H, W) uint8 opacity.
        xyxy: (N, 4) float32, pixels.
        margin: as for `blur_boxes`.
    """
    covered = alpha.copy()
    for x1, y1, x2, y2 in hidden_bounds(xyxy, image_hw=alpha.shape[:2], margin=margin):
        covered[y1:y2, x1:x2] = 255
    return covered


def hidden_bounds(xyxy: Boxes, *, image_hw: tuple[int, ...], margin: float) -> NDArray[np.int64]:
    """Return the whole pixels that are hidden for each box, (K, 4) int64, none of them empty."""
    height, width = image_hw
    bounds = pixel_bounds(expand(xyxy, margin), image_hw=(height, width))
    filled = (bounds[:, 2] > bounds[:, 0]) & (bounds[:, 3] > bounds[:, 1])
    return bounds[filled]


def _mosaic(inside: Image) -> Image:
    height, width = inside.shape[:2]
    rows = min(MOSAIC_ROWS, height)
    columns = max(1, min(width, round(width * rows / height)))
    cells = cv2.resize(inside, (columns, rows), interpolation=cv2.INTER_AREA)
    return cv2.resize(cells, (width, height), interpolation=cv2.INTER_NEAREST).astype(np.uint8)


def _gaussian(inside: Image) -> Image:
    height, width = inside.shape[:2]
    sigma = max(1.0, GAUSSIAN_SIGMA * height)
    shrink = max(1, math.floor(sigma / 8))  # at a sigma of 8 or more nothing finer is left to see
    small_wh = (math.ceil(width / shrink), math.ceil(height / shrink))
    small = cv2.resize(inside, small_wh, interpolation=cv2.INTER_AREA)
    soft = cv2.GaussianBlur(small, (0, 0), sigma / shrink)
    return cv2.resize(soft, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.uint8)


def _veil(image: Image, bounds: NDArray[np.int64]) -> None:
    """Lay the veil over each group of overlapping boxes, in place.

    The pixels inside any box are zeroed first, and the fill is made from that image, so that
    nothing of them can reach it. Only the surroundings of each group are worked on.
    """
    for group in _groups(bounds):
        heights = group[:, 3] - group[:, 1]
        height_px = int(heights.max())
        (left, top, right, bottom), cell_px = _veil_window(group, height_px=height_px)
        crop = np.s_[top:bottom, left:right]
        target = image[crop]
        local = group - [left, top, left, top]
        (x1, y1), (x2, y2) = local[:, :2].min(axis=0), local[:, 2:].max(axis=0)
        within = np.s_[y1:y2, x1:x2]
        inside = _covered(local, hw=target.shape[:2])
        every = (bounds - [left, top, left, top]).clip(0)
        hidden = _covered(every, hw=target.shape[:2])
        around = target.copy()
        for x1, y1, x2, y2 in every:
            around[y1:y2, x1:x2] = 0
        veil = _veil_of(
            around,
            known=~hidden,
            inside=inside,
            colour=_dominant_colour(target[within], inside[within]),
            height_px=height_px,
            cell_px=cell_px,
        )
        feather_px = max(1, round(FEATHER * float(heights.min())))
        _mix(target, veil, local, hidden=hidden, feather_px=feather_px)
        for x1, y1, x2, y2 in local:
            target[y1:y2, x1:x2] = veil[y1:y2, x1:x2]


def _covered(bounds: NDArray[np.int64], *, hw: tuple[int, ...]) -> Mask:
    """Return (h, w), set where a box lies; none of its numbers is negative."""
    covered = np.zeros(hw, np.bool_)
    for x1, y1, x2, y2 in bounds:
        covered[y1:y2, x1:x2] = True
    return covered


def _mix(
    target: Image, veil: Image, bounds: NDArray[np.int64], *, hidden: Mask, feather_px: int
) -> None:
    """Lay the veil over `target` just outside the boxes: falling to 0 beyond `feather_px`."""
    hw = hidden.shape
    strips = [strip for box in bounds for strip in _strips(box, reach=feather_px + 1, hw=hw)]
    opacity = _feather(bounds, hw=hw, feather_px=feather_px)
    opacity[hidden] = 0
    for strip in strips:
        share = opacity[strip][..., None]
        mixed = target[strip] * (1 - share) + veil[strip] * share
        target[strip] = mixed.round().astype(np.uint8)
        opacity[strip] = 0  # where strips of two boxes overlap, the veil is laid once


def _feather(bounds: NDArray[np.int64], *, hw: tuple[int, ...], feather_px: int) -> Float:
    """Return how much of the veil shows outside the boxes: falling to 0 beyond `feather_px`."""
    opacity = np.zeros(hw, np.float32)
    reach = feather_px + 1
    for box in bounds:
        x1, y1, x2, y2 = box
        for strip in _strips(box, reach=reach, hw=hw):
            rows, columns = np.ogrid[strip]
            down = np.maximum(y1 - rows, rows - (y2 - 1)).clip(0)
            across = np.maximum(x1 - columns, columns - (x2 - 1)).clip(0)
            away = np.hypot(down, across, dtype=np.float32)
            np.maximum(opacity[strip], _smooth(1 - away / reach), out=opacity[strip])
    return opacity


def _strips(
    box: NDArray[np.int64], *, reach: int, hw: tuple[int, ...]
) -> Iterator[tuple[slice, slice]]:
    """Yield where the four sides of a frame of `reach` pixels around a box lie in an image."""
    height, width = hw
    x1, y1, x2, y2 = box.tolist()
    for top, bottom, left, right in (
        *((y1 - reach, y1, x1 - reach, x2 + reach), (y2, y2 + reach, x1 - reach, x2 + reach)),
        *((y1, y2, x1 - reach, x1), (y1, y2, x2, x2 + reach)),
    ):
        yield np.s_[max(0, top) : min(height, bottom), max(0, left) : min(width, right)]


def _veil_window(bounds: NDArray[np.int64], *, height_px: int) -> tuple[NDArray[np.int64], int]:
    """Return where the fill of a group is taken from, and the size of the cells it is made of.

    Args:
        bounds: (N, 4) of the group's boxes or regions.
        height_px: height of the tallest.

    Returns:
        left, top, right, bottom, as whole cells, because OpenCV averages those in a third of the
        time; it may go on beyond the image's right and lower edge. And a cell's height and width.
    """
    reach = max(8, height_px)  # how far around the boxes the fill looks
    cell_px = math.ceil(height_px / VEIL_ROWS)
    start = (bounds[:, :2].min(axis=0) - reach).clip(0)
    cells = -(-(bounds[:, 2:].max(axis=0) + reach - start) // cell_px)
    return np.concatenate([start, start + cells * cell_px]), cell_px


def _veil_of(
    around: Image, *, known: Mask, inside: Mask, colour: Float, height_px: int, cell_px: int
) -> Image:
    """Return what is laid over one group of boxes.

    Args:
        around: (h, w, 3) uint8, the group and what is around it; 0 inside any box.
        known: (h, w) where `around` is not inside any box.
        inside: (h, w) where the group's boxes are.
        colour: (3,) the group's dominant colour.
        height_px: height of the tallest box in the group.
        cell_px: width and height of the cells of which the veil is made, before it is smoothed.

    Returns:
        (h, w, 3) uint8.
    """
    height, width = known.shape
    small_wh = (math.ceil(width / cell_px), math.ceil(height / cell_px))
    known_share = _shrunk(known, small_wh)
    sums = np.asarray(cv2.resize(around, small_wh, interpolation=cv2.INTER_AREA), np.float32)
    # Where less than half of a cell is known, rounding would show in its mean.
    usable = (known_share >= 0.5).astype(np.float32)
    fill = _fill_from_around(
        sums * usable[..., None], known_share * usable, soften_px=height_px / cell_px / 6
    )
    if fill is None:
        fill = np.broadcast_to(colour, (*usable.shape, 3))
    soft = cv2.GaussianBlur(_shrunk(inside, small_wh), (0, 0), VEIL_EDGE * height_px / cell_px)
    # `soft` is 1/2 on a straight edge, 1 deep inside.
    weight = VEIL_STRENGTH * _smooth(np.asarray(2 * soft - 1, np.float32))
    veil = (fill + (colour - fill) * weight[..., None]).round().clip(0, 255).astype(np.uint8)
    return cv2.resize(veil, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.uint8)


def _shrunk(mask: Mask, small_wh: tuple[int, int]) -> Float:
    """Return the share of `mask` that is set in each cell of a smaller grid."""
    levels = cv2.resize(mask.view(np.uint8) * 255, small_wh, interpolation=cv2.INTER_AREA)
    return np.asarray(levels, np.float32) / np.float32(255)


def _groups(bounds: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Return the boxes in groups, (K, 4) each, whose members overlap or touch in a chain."""
    groups: list[NDArray[np.int64]] = []
    for box in bounds:
        joined = [g for g in groups if _touch(g, box)]
        groups = [g for g in groups if not _touch(g, box)]
        groups.append(np.vstack([*joined, box[None]]))
    return groups


def _touch(group: NDArray[np.int64], box: NDArray[np.int64]) -> bool:
    apart = (group[:, :2] > box[2:]) | (box[:2] > group[:, 2:])
    return bool((~apart.any(axis=1)).any())


def _dominant_colour(image: Image, inside: Mask) -> Float:
    """Return the most frequent colour where `inside` is set, of `COLOUR_BITS`, (3,) float32."""
    levels = 1 << COLOUR_BITS
    mask = inside.view(np.uint8)
    counts = np.zeros(levels**3, np.int64)
    # In stripes, because OpenCV returns counts as float32, which is exact up to 2^24.
    for top in range(0, len(image), STRIPE_ROWS):
        rows = np.s_[top : top + STRIPE_ROWS]
        histogram = cv2.calcHist([image[rows]], [0, 1, 2], mask[rows], [levels] * 3, [0, 256] * 3)
        counts += histogram.ravel().astype(np.int64)
    brightest = levels - 1
    colour = np.unravel_index(counts.argmax(), (levels, levels, levels))
    return np.array([level * 255 / brightest for level in colour], np.float32)


def _fill_from_around(around: Float, known: Float, *, soften_px: float) -> Float | None:
    """Return `around` with its unknown pixels filled in from the known ones, or None without any.

    Averages of ever larger neighbourhoods, as in the pull-push of Gortler et al., "The Lumigraph"
    (SIGGRAPH 1996), then softened.

    Args:
        around: (h, w, 3) float32, each pixel times its `known`.
        known: (h, w) float32, how much of each pixel is known, 0 to 1.
        soften_px: sigma of the last softening, pixels.
    """
    if not known.any():
        return None
    sums, weights = around, known
    finer: list[tuple[Float, Float]] = []
    while weights.min() == 0:
        finer.append((sums, weights))
        half_wh = (max(1, weights.shape[1] // 2), max(1, weights.shape[0] // 2))
        sums = np.asarray(cv2.resize(sums, half_wh, interpolation=cv2.INTER_AREA), np.float32)
        weights = np.asarray(cv2.resize(weights, half_wh, interpolation=cv2.INTER_AREA), np.float32)
    filled = sums / weights[..., None]
    for sums, weights in reversed(finer):
        size_wh = (weights.shape[1], weights.shape[0])
        coarser = np.asarray(cv2.resize(filled, size_wh, interpolation=cv2.INTER_LINEAR))
        mean = sums / np.maximum(weights, np.finfo(np.float32).tiny)[..., None]
        filled = np.asarray(cv2.copyTo(mean, (weights > 0).view(np.uint8), coarser), np.float32)
    return np.asarray(cv2.GaussianBlur(filled, (0, 0), max(0.5, soften_px)), np.float32)


def _smooth(x: NDArray[np.floating]) -> Float:
    """Return the smoothstep of `x`: 0 below 0, 1 above 1, level at both ends."""
    clipped = np.clip(x, 0, 1)
    return np.asarray(clipped * clipped * (3 - 2 * clipped), np.float32)
