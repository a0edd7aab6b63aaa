"""Views of equirectangular panoramas, and the pixels of outlines on them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from plateblur.letterbox import PAD_GREY
from plateblur.outlines import HALF_DIAGONAL_PX, Region, edges_around, filled
from plateblur.sphere import Panorama, Rays, View
from plateblur.types import Image

WIDEST_BLOCK = 32_766  # Source: OpenCV's remap takes images of less than 32,767 pixels a side
BAND_ROWS = 240  # of a view or a region that are worked out at a time

Maps = NDArray[np.float32]


def pictures(
    image: Image, panorama: Panorama, views: Sequence[View]
) -> Iterator[tuple[View, Image]]:
    """Yield each view with its picture, (side_px, side_px, 3) uint8 RGB.

    Args:
        image: (H, W, 3) uint8 RGB.
        panorama: where it lies on the sphere.
        views: those of one pitch one after another, because they share their work.
    """
    pitch, bands = math.nan, list[tuple[Maps, Maps]]()
    for view in views:
        if view.pitch != pitch:  # in one row of views only the yaw differs
            pitch, bands = view.pitch, _bands(view, panorama)
        shift = view.yaw / (2 * math.pi) * panorama.full_wh[0]
        parts = [_band(image, panorama, across, down, shift=shift) for across, down in bands]
        yield view, np.concatenate(parts)


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


def bounds_on(outline: Rays, panorama: Panorama) -> list[list[float]]:
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


def regions_on(outline: Rays, panorama: Panorama) -> list[Region]:
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
