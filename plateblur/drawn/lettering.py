"""Letters and figures on plates, signs and vans: Pillow's own font, and strokes for Arabic ones."""

# ruff: noqa: RUF001 (Arabic figures and letters are meant)

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pil
from PIL import ImageDraw, ImageFont

from plateblur.drawn.light import INK, Colour, Light, tinted
from plateblur.types import Image


def write(
    image: Image,
    scale: float,
    text: str,
    xywh_mm: tuple[float, float, float, float],
    *,
    ink: Colour = INK,
    cells: bool = False,
) -> None:
    """Write `text` so that it fills a box; with `cells`, one equal cell for each character."""
    x, y, w, h = (round(v * scale) for v in xywh_mm)
    mask = (_cells if cells else words)(text, (h, w))[..., None]
    part = image[y : y + h, x : x + w]
    part[:] = np.rint(part * (1 - mask) + np.array(ink) * mask)


@lru_cache(maxsize=256)
def _glyph(text: str, weight: int) -> NDArray[np.float32]:
    """Return `text` as coverage, cut to its ink sideways and to capitals' height up and down."""
    font = ImageFont.load_default(size=160)
    mask = Pil.new("L", (200 + 130 * len(text), 300))
    ImageDraw.Draw(mask).text((40, 40), text, fill=255, font=font, stroke_width=weight)
    pixels = np.asarray(mask) / 255
    _, top, _, bottom = font.getbbox("H", stroke_width=weight)
    ink = np.flatnonzero(pixels.max(axis=0) > 0.1)
    return np.asarray(pixels[40 + int(top) : 40 + int(bottom), ink[0] : ink[-1] + 1], np.float32)


def _fit(mask: NDArray[np.float32], *, size_wh: tuple[int, int]) -> NDArray[np.float32]:
    shrinks = size_wh[1] < mask.shape[0]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(mask, size_wh, interpolation=how), np.float32)


def words(text: str, box_hw: tuple[int, int]) -> NDArray[np.float32]:
    """Return the coverage of `text`, 0 to 1, stretched to fill a box."""
    return _fit(_glyph(text, 4), size_wh=(max(1, box_hw[1]), max(1, box_hw[0])))


def _cells(text: str, box_hw: tuple[int, int]) -> NDArray[np.float32]:
    """Return the coverage of `text` in plate lettering: bold, narrow, every character as wide."""
    height, width = box_hw
    shares = [0.42 if char in " -" else 1.0 for char in text]
    step = min(width / sum(shares), height * 0.80)
    left = (width - step * sum(shares)) / 2
    mask = np.zeros((height, width), np.float32)
    for char, share in zip(text, shares, strict=True):
        if char != " ":
            glyph = _glyph(char, 7)
            room = step * share * 0.84
            narrow = {"I": 0.3, "1": 0.52, "J": 0.8, "L": 0.85}.get(char, 1.0)
            glyph = _fit(glyph, size_wh=(max(2, round(room * narrow)), height))
            x = round(left + (step * share - glyph.shape[1]) / 2)
            x = min(max(x, 0), width - glyph.shape[1])
            mask[:, x : x + glyph.shape[1]] = glyph
        left += step * share
    return mask


# Strokes in a unit square, because Pillow's own font has no Arabic. A lone pair is a dot.
STROKES: dict[str, tuple[tuple[tuple[float, float], ...], ...]] = {
    "١": (((0.42, 0.0), (0.56, 0.4), (0.5, 1.0)),),
    "٢": (((0.36, 1.0), (0.32, 0.5), (0.18, 0.0), (0.3, 0.27), (0.62, 0.28), (0.8, 0.0)),),
    "٣": (
        ((0.3, 1.0), (0.26, 0.5), (0.1, 0.0), (0.2, 0.27), (0.42, 0.27), (0.48, 0.05)),
        ((0.48, 0.05), (0.56, 0.27), (0.78, 0.27), (0.9, 0.0)),
    ),
    "٤": (((0.8, 0.0), (0.3, 0.2), (0.62, 0.45), (0.2, 0.72), (0.45, 1.0), (0.82, 0.93)),),
    "٥": (((0.5, 0.2), (0.2, 0.55), (0.3, 0.9), (0.7, 0.9), (0.8, 0.55), (0.5, 0.2)),),
    "٦": (((0.2, 0.02), (0.3, 0.14), (0.68, 0.08), (0.68, 0.5), (0.76, 1.0)),),
    "٧": (((0.1, 0.0), (0.5, 1.0), (0.9, 0.0)),),
    "٨": (((0.1, 1.0), (0.5, 0.0), (0.9, 1.0)),),
    "٩": (((0.68, 0.28), (0.45, 0.02), (0.22, 0.25), (0.45, 0.46), (0.68, 0.28), (0.74, 1.0)),),
    "ا": (((0.5, 0.0), (0.5, 1.0)),),
    "ب": (((0.05, 0.35), (0.15, 0.65), (0.5, 0.7), (0.85, 0.65), (0.95, 0.35)), ((0.5, 0.98),)),
    "د": (((0.35, 0.15), (0.7, 0.55), (0.62, 0.82), (0.15, 0.86)),),
    "ر": (((0.68, 0.35), (0.66, 0.7), (0.42, 0.96), (0.1, 1.0)),),
    "ص": (
        ((0.45, 0.5), (0.65, 0.25), (0.9, 0.3), (0.9, 0.5), (0.45, 0.52)),
        ((0.45, 0.52), (0.4, 0.85), (0.1, 0.85), (0.05, 0.55)),
    ),
    "م": (
        ((0.4, 0.3), (0.65, 0.25), (0.7, 0.5), (0.45, 0.5), (0.4, 0.3)),
        ((0.45, 0.5), (0.25, 0.55), (0.2, 1.0)),
    ),
    "ل": (((0.8, 0.0), (0.8, 0.72), (0.6, 0.96), (0.3, 0.92), (0.2, 0.65)),),
    "و": (
        ((0.7, 0.42), (0.5, 0.25), (0.3, 0.42), (0.5, 0.58), (0.7, 0.42), (0.6, 0.8), (0.15, 1)),
    ),
    "ه": (((0.5, 0.15), (0.2, 0.55), (0.4, 0.88), (0.75, 0.8), (0.78, 0.5), (0.5, 0.15)),),
}


def stroke(
    image: Image, scale: float, char: str, xywh_mm: tuple[float, float, float, float]
) -> None:
    """Draw an Arabic figure or letter of `STROKES` into a box."""
    x, y, w, h = xywh_mm
    thickness = max(1, round(h * scale * 0.13))
    for line in STROKES[char]:
        points = np.array([((x + px * w) * scale, (y + py * h) * scale) for px, py in line])
        if len(line) == 1:
            centre = (int(points[0, 0]), int(points[0, 1]))
            cv2.circle(image, centre, thickness, INK, -1, cv2.LINE_AA)
        else:
            pixels = np.rint(points).astype(np.int32)
            cv2.polylines(image, [pixels], False, INK, thickness, cv2.LINE_AA)


def ink_on(paint: Colour) -> Colour:
    """Return the colour of lettering that shows on a paint."""
    return (236, 232, 220) if sum(paint) < 330 else (30, 66, 110)


def signboard(lines: tuple[str, str], ink: Colour, light: Light, hw: tuple[int, int]) -> Image:
    """Return two lines of lettering on nothing, RGBA."""
    height, width = hw
    board = np.zeros((height, width, 4), np.uint8)
    board[..., :3] = tinted(ink, light.tint)
    first = words(lines[0], (int(height * 0.5), width))
    second = words(lines[1], (int(height * 0.28), int(width * 0.8)))
    board[: first.shape[0], :, 3] = first * 255
    board[height - second.shape[0] :, : second.shape[1], 3] = second * 255
    return board
