"""Fronts of houses."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from plateblur.drawn.chance import Rng, choice, smooth_noise
from plateblur.drawn.lettering import words
from plateblur.drawn.light import Light, rgb, tinted
from plateblur.drawn.vehicles import PAINTS
from plateblur.types import Image


def facade(rng: Rng, light: Light, wide_m: float, high_m: float, *, scale: int) -> Image:
    """Return a house's front, `scale` pixels to the metre: windows, sills, a shop or doors."""
    height, width = int(high_m * scale), int(wide_m * scale)
    base = np.array(
        choice(
            rng,
            ((176, 160, 138), (150, 92, 74), (196, 190, 178), (138, 140, 144), (206, 186, 150),
             (120, 78, 66)),
        ),
        np.float64,
    )  # fmt: skip
    wall = base * (0.92 + 0.16 * smooth_noise(rng, (height, width), 12)[..., None])
    if base[0] > base[2] * 1.5:  # brick
        wall[:: max(2, scale // 8)] *= 0.88
    tone = tinted(wall, light.tint)
    draw_window = _window_painter(rng, light, scale)
    columns = max(2, int(wide_m / 2.4))
    step = width / columns
    floors = max(1, int((high_m - 3.6) / 3.0))
    for floor in range(floors):
        y = int(height - (3.6 + 3.0 * (floor + 1) - 0.7) * scale)
        for column in range(columns):
            draw_window(
                tone, int(column * step + step * 0.25), y, int(step * 0.5), int(1.7 * scale)
            )
    for column in range(columns):
        y = height - int(2.9 * scale)
        x = int(column * step + step * 0.12)
        if rng.random() < 0.3:
            door = rgb(tinted(choice(rng, PAINTS), light.tint))
            cv2.rectangle(tone, (x, y + 8), (x + int(step * 0.5), height), door, -1)
        else:
            draw_window(tone, x, y, int(step * 0.76), int(2.2 * scale))
    if rng.random() < 0.5:
        band = int(0.55 * scale)
        y = height - int(3.5 * scale)
        tone[y : y + band] = tinted(choice(rng, PAINTS), light.tint)
        name = choice(rng, ("BOOKS & TEA", "CAFE ROMA", "HARDWARE 1928", "OPTICIAN", "FLOWERS"))
        mask = words(name, (int(band * 0.6), int(width * 0.4)))[..., None]
        top, left = y + int(band * 0.2), int(width * 0.3)
        part = tone[top : top + mask.shape[0], left : left + mask.shape[1]]
        part[:] = part * (1 - mask) + np.array([230, 226, 214]) * light.tint * mask
    tone[: scale // 3] = (tone[: scale // 3] * 0.7).astype(np.uint8)
    return tone


def _window_painter(
    rng: Rng, light: Light, scale: int
) -> Callable[[Image, int, int, int, int], None]:
    thin = max(1, scale // 12)
    frame = rgb(tinted((216, 214, 208), light.tint))
    stone = rgb(tinted((120, 116, 110), light.tint))
    tint, sky = np.array(light.tint), np.array(light.sky_low) * 0.35

    def paint(tone: Image, x: int, y: int, w: int, h: int) -> None:
        corner = x + w + thin, y + h + thin
        cv2.rectangle(tone, (x - thin, y - thin), corner, frame, -1)
        if light.lamps and rng.random() < 0.35:
            pane = rgb(np.array((250, 206, 130)) * rng.uniform(0.55, 0.95))
        else:
            pane = rgb(np.array((40, 48, 56)) * tint + sky * rng.uniform(0.2, 0.9))
        cv2.rectangle(tone, (x, y), (x + w, y + h), pane, -1)
        cv2.line(tone, (x + w // 2, y), (x + w // 2, y + h), frame, max(1, scale // 15))
        sill = (x - 2 * thin, y + h + thin), (x + w + 2 * thin, y + h + 2 * thin)
        cv2.rectangle(tone, *sill, stone, -1)

    return paint
