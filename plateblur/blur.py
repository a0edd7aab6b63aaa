"""Make the plates inside boxes unreadable.

`veil`, the default, looks like a soft blur and can't be undone, because almost nothing goes in:
inside a box the result depends on the photo's pixels inside that box only through one dominant
colour, rounded to 3 bits a channel. All else is filled in from around the box. Where boxes
overlap, the group of them counts as one box.

`solid` takes nothing from inside. `mosaic` and `gaussian` average what is inside; averages of
known letter shapes can be told apart, so they are cosmetic and can be attacked.
"""

from __future__ import annotations

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

Float = NDArray[np.float32]
Mask = NDArray[np.bool_]


def blur_boxes(image: Image, xyxy: Boxes, *, method: Method, margin: float) -> Image:
    """Return a copy of `image` with everything inside the widened boxes unreadable.

    Args:
        image: (H, W, 3) uint8 RGB.
        xyxy: (N, 4) float32, pixels of `image`.
        method: how; see the head of this file for what each guarantees.
        margin: share of a box's width and height hidden beyond it on each side.

    Raises:
        ValueError: an unknown method, a negative margin, or `xyxy` is not (N, 4).
    """
    bounds = hidden_bounds(xyxy, image_hw=image.shape[:2], margin=margin)
    if method == "veil":
        return _veil(image, bounds)
    blurred = image.copy()
    for x1, y1, x2, y2 in bounds:
        if method == "solid":
            blurred[y1:y2, x1:x2] = SOLID_GREY
        elif method == "mosaic":
            blurred[y1:y2, x1:x2] = _mosaic(blurred[y1:y2, x1:x2])
        elif method == "gaussian":
            sigma = max(1.0, GAUSSIAN_SIGMA * float(y2 - y1))
            blurred[y1:y2, x1:x2] = cv2.GaussianBlur(blurred[y1:y2, x1:x2], (0, 0), sigma)
        else:
            raise ValueError(
                f"method must be 'veil', 'solid', 'mosaic' or 'gaussian', got {method!r}"
            )
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


def _veil(image: Image, bounds: NDArray[np.int64]) -> Image:
    """Return `image` with each group of overlapping boxes veiled.

    The pixels inside any box are zeroed first, and the fill is made from that image, so that
    nothing of them can reach it.
    """
    hidden = np.zeros(image.shape[:2], np.bool_)
    for x1, y1, x2, y2 in bounds:
        hidden[y1:y2, x1:x2] = True
    veiled = image.copy()
    for group in _groups(bounds):
        heights = group[:, 3] - group[:, 1]
        reach = int(max(8, heights.max()))  # how far around the boxes the fill looks
        feather_px = max(1, round(FEATHER * float(heights.min())))
        left, top = (group[:, :2].min(axis=0) - reach).clip(0)
        right, bottom = group[:, 2:].max(axis=0) + reach  # beyond the image is cut by slicing
        crop = np.s_[top:bottom, left:right]
        inside = np.zeros_like(hidden[crop])
        for x1, y1, x2, y2 in group - [left, top, left, top]:
            inside[y1:y2, x1:x2] = True
        colour = _dominant_colour(image[crop][inside])
        around = np.where(hidden[crop][..., None], 0, image[crop]).astype(np.float32)
        fill = _fill_from_around(around, ~hidden[crop], soften_px=float(heights.max()) / 6)
        if fill is None:
            fill = np.broadcast_to(colour, around.shape)
        soft = cv2.GaussianBlur(inside.astype(np.float32), (0, 0), VEIL_EDGE * heights.max())
        # `soft` is 1/2 on a straight edge, 1 deep inside.
        weight = VEIL_STRENGTH * _smooth(np.asarray(2 * soft - 1, np.float32))
        veil = fill + (colour - fill) * weight[..., None]
        outside = _distance(~inside)
        opacity = np.where(inside, 1, _smooth(1 - outside / (feather_px + 1)))[..., None]
        opacity = np.where(hidden[crop][..., None] & ~inside[..., None], 0, opacity)
        mixed = veiled[crop] * (1 - opacity) + veil * opacity
        veiled[crop] = mixed.round().clip(0, 255).astype(np.uint8)
    return veiled


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


def _dominant_colour(pixels: NDArray[np.uint8]) -> Float:
    """Return the most frequent colour of (N, 3) pixels, rounded to `COLOUR_BITS`, (3,) float32."""
    shift = 8 - COLOUR_BITS
    coarse = (pixels >> shift).astype(np.int64)
    codes = (coarse[:, 0] << 2 * COLOUR_BITS) | (coarse[:, 1] << COLOUR_BITS) | coarse[:, 2]
    code = int(np.bincount(codes).argmax())
    mask = (1 << COLOUR_BITS) - 1
    levels = [(code >> 2 * COLOUR_BITS) & mask, (code >> COLOUR_BITS) & mask, code & mask]
    return np.array([level * 255 / mask for level in levels], np.float32)


def _fill_from_around(around: Float, known: Mask, *, soften_px: float) -> Float | None:
    """Return `around` with its unknown pixels filled in from the known ones, or None without any.

    Averages of ever larger neighbourhoods, as in the pull-push of Gortler et al., "The Lumigraph"
    (SIGGRAPH 1996), then softened.

    Args:
        around: (h, w, 3) float32, 0 where unknown.
        known: (h, w) which pixels may be used.
        soften_px: sigma of the last softening, pixels.
    """
    if not known.any():
        return None
    sums, weights = around, known.astype(np.float32)
    finer: list[tuple[Float, Float]] = []
    while weights.min() == 0:
        finer.append((sums, weights))
        half_wh = (max(1, weights.shape[1] // 2), max(1, weights.shape[0] // 2))
        sums = np.asarray(cv2.resize(sums, half_wh, interpolation=cv2.INTER_AREA), np.float32)
        weights = np.asarray(cv2.resize(weights, half_wh, interpolation=cv2.INTER_AREA), np.float32)
    filled = sums / weights[..., None]
    for sums, weights in reversed(finer):
        size_wh = (weights.shape[1], weights.shape[0])
        coarser = cv2.resize(filled, size_wh, interpolation=cv2.INTER_LINEAR)
        mean = sums / np.maximum(weights, np.finfo(np.float32).tiny)[..., None]
        filled = np.where(weights[..., None] > 0, mean, coarser).astype(np.float32)
    return np.asarray(cv2.GaussianBlur(filled, (0, 0), max(0.5, soften_px)), np.float32)


def _distance(mask: Mask) -> Float:
    """Return for each set pixel its distance to the nearest unset one, pixels."""
    return np.asarray(cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 3), np.float32)


def _smooth(x: NDArray[np.floating]) -> Float:
    """Return the smoothstep of `x`: 0 below 0, 1 above 1, level at both ends."""
    clipped = np.clip(x, 0, 1)
    return np.asarray(clipped * clipped * (3 - 2 * clipped), np.float32)
