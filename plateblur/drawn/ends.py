"""The flat end of a vehicle that faces the camera, where its plate is."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image as Pil
from PIL import ImageDraw

from plateblur.drawn.camera import Floats
from plateblur.drawn.lettering import ink_on, signboard
from plateblur.drawn.light import DAYLIGHT, Colour, Light, rgb, tinted
from plateblur.drawn.vehicles import Body, Vehicle
from plateblur.types import Image


def end_face(outline: Floats, body: Body, vehicle: Vehicle, light: Light, px_per_m: float) -> Image:
    """Return the flat end towards the camera as RGBA: panels, lights, bumper, grille, recess."""
    half, top = float(outline[:, 0].max()), float(outline[:, 1].max())
    width, height = round(2 * half * px_per_m), round((top - 0.20) * px_per_m)
    ys = np.linspace(1, 0, height)[:, None, None]
    xs = np.abs(np.linspace(-1, 1, width))[None, :, None]
    panel = np.array(vehicle.paint) * (0.60 + 0.30 * ys) * (1 - 0.20 * xs**4)
    sky = (np.array(light.sky_low) * 0.5 + 40) * 0.22
    panel = panel + sky * np.exp(-(((ys - 0.82) / 0.10) ** 2))
    face = Pil.fromarray(panel.clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(face)

    def at(x: float, y: float) -> tuple[float, float]:
        return (x + half) * px_per_m, (top - y) * px_per_m

    def block(x1: float, y1: float, x2: float, y2: float, fill: Colour, r: float = 0.02) -> None:
        corners = (*at(x1, y2), *at(x2, y1))
        draw.rounded_rectangle(corners, radius=r * px_per_m, fill=fill)

    def line(points: Sequence[tuple[float, float]], fill: Colour, thick: float = 0.008) -> None:
        wide = max(1, round(thick * px_per_m))
        draw.line([at(x, y) for x, y in points], fill=fill, width=wide, joint="curve")

    seam: Colour = rgb(np.array(vehicle.paint) * 0.42)
    (_paint_front if vehicle.front else _paint_rear)(
        block, line, half, top, seam, vehicle, light.lamps
    )
    if vehicle.body == "van" and not vehicle.front:
        sign = signboard(vehicle.lettering, ink_on(vehicle.paint), DAYLIGHT, (90, 400))
        board = Pil.fromarray(sign).resize(
            (max(1, round(1.2 * px_per_m)), max(1, round(0.26 * px_per_m)))
        )
        face.paste(board, tuple(round(v) for v in at(-0.6, 1.16)), board)  # type: ignore[arg-type]
    if vehicle.plate is not None:
        w, h = (v / 2 for v in vehicle.plate.size_wh_m)
        y = vehicle.plate_y_m
        if not vehicle.front:  # a hollow in the boot lid, a little darker than the paint
            hollow = rgb(np.array(vehicle.paint) * 0.58)
            block(-w - 0.09, y - h - 0.05, w + 0.09, y + h + 0.06, hollow, 0.04)
        block(-w - 0.012, y - h - 0.014, w + 0.012, y + h + 0.012, (18, 18, 20), 0.01)
    mask = Pil.new("L", face.size)
    ImageDraw.Draw(mask).polygon([at(x, y) for x, y in outline], fill=255)
    pixels = np.dstack([tinted(np.asarray(face), light.tint), np.asarray(mask)])
    return np.ascontiguousarray(pixels)


def _paint_rear(
    block: Callable[..., None],
    line: Callable[..., None],
    half: float,
    top: float,
    seam: Colour,
    vehicle: Vehicle,
    lamps: bool,
) -> None:
    red: Colour = (235, 44, 40) if lamps else (158, 20, 24)
    dark: Colour = (30, 30, 32)
    block(-half, 0.2, half, 0.34, dark, 0.0)
    line([(-half, 0.52), (half, 0.52)], seam, 0.012)
    for side in (-1, 1):
        x1, x2 = sorted((side * 0.50, side * 0.70))
        block(x1, 0.37, x2, 0.40, (120, 16, 18), 0.01)
    if vehicle.body == "van":
        line([(0, 0.55), (0, top)], seam, 0.014)
        for side in (-1, 1):
            x1, x2 = sorted((side * 0.07, side * 0.74))
            block(x1, 1.26, x2, 1.78, (34, 38, 44), 0.05)
            block(x1 + 0.05, 1.30, x2 - 0.22, 1.72, (58, 66, 74), 0.04)
            x1, x2 = sorted((side * 0.80, side * (half - 0.02)))
            block(x1, 0.62, x2, 1.12, red, 0.03)
            block(x1 + 0.02, 0.72, x2 - 0.02, 0.80, (232, 228, 220), 0.01)
            block(x1 + 0.02, 0.84, x2 - 0.02, 0.92, (224, 120, 30), 0.01)
        block(0.05, 1.17, 0.2, 1.2, dark, 0.01)
        return
    high = top - 0.10
    line([(-half * 0.62, 0.52), (-half * 0.66, top)], seam)
    line([(half * 0.62, 0.52), (half * 0.66, top)], seam)
    for side in (-1, 1):
        x1, x2 = sorted((side * 0.53, side * (half - 0.03)))
        block(x1, high - 0.17, x2, high, rgb(np.array(red) * 0.6), 0.04)
        block(x1 + 0.02, high - 0.10, x2 - 0.02, high - 0.02, red, 0.03)
        x1, x2 = sorted((side * 0.55, side * 0.66))
        block(x1, high - 0.155, x2, high - 0.11, (226, 222, 216), 0.015)
    block(-0.055, top - 0.13, 0.055, top - 0.07, (188, 190, 194), 0.03)
    block(-0.28, top - 0.185, 0.28, top - 0.16, (176, 178, 182), 0.01)
    block(0.45, 0.235, 0.58, 0.275, (150, 150, 152), 0.02)


def _paint_front(
    block: Callable[..., None],
    line: Callable[..., None],
    half: float,
    top: float,
    seam: Colour,
    vehicle: Vehicle,
    lamps: bool,
) -> None:
    dark: Colour = (26, 27, 29)
    bright: Colour = (255, 252, 236) if lamps else (214, 220, 226)
    block(-half, 0.2, half, 0.27, dark, 0.0)
    block(-0.52, 0.25, 0.52, 0.37, dark, 0.04)
    upper = top - 0.10
    lower = max(upper - 0.20, vehicle.plate_y_m + 0.02)
    block(-0.46, lower, 0.46, upper, dark, 0.05)
    for y in np.linspace(lower + 0.03, upper - 0.02, 4):
        line([(-0.43, y), (0.43, y)], (92, 94, 98), 0.009)
    block(-0.055, upper - 0.09, 0.055, upper - 0.02, (200, 202, 206), 0.035)
    for side in (-1, 1):
        x1, x2 = sorted((side * 0.50, side * (half - 0.02)))
        block(x1, upper - 0.13, x2, upper + 0.01, (70, 76, 84), 0.05)
        block(x1 + 0.03, upper - 0.11, x2 - 0.05, upper - 0.01, bright, 0.04)
        x1, x2 = sorted((side * 0.58, side * (half - 0.07)))
        block(x1, 0.29, x2, 0.36, (60, 62, 66), 0.03)
        block(x1 + 0.04, 0.30, x2 - 0.04, 0.35, bright, 0.02)
    line([(-half, 0.42), (-0.55, 0.40)], seam)
    line([(half, 0.42), (0.55, 0.40)], seam)
    line([(-half, upper + 0.035), (half, upper + 0.035)], seam)
