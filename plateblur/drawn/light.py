"""Colours, and how a scene is lit by day, at dusk and by night."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from plateblur.drawn.chance import Rng
from plateblur.types import Image

Colour = tuple[int, int, int]
Lit = Literal["day", "dusk", "night"]
INK: Colour = (22, 22, 26)
WHITE: Colour = (238, 238, 234)
YELLOW: Colour = (246, 196, 28)
EU_BLUE: Colour = (20, 60, 160)


@dataclass(frozen=True, slots=True)
class Light:
    """How a scene is lit.

    Attributes:
        sky_top: RGB of the sky overhead.
        sky_low: RGB of the sky at the horizon, and of the haze.
        tint: what the colours of things are multiplied with.
        plate_tint: the same for plates, which reflect light back to its source.
        lamps: whether lamps and windows shine.
        sun: (3,) direction towards the light.
    """

    sky_top: Colour
    sky_low: Colour
    tint: tuple[float, float, float]
    plate_tint: tuple[float, float, float]
    lamps: bool
    sun: tuple[float, float, float]


def light_at(rng: Rng, lit: Lit) -> Light:
    """Return the light at a time of day; by day the sky may be clear or overcast."""
    sun = (float(rng.uniform(-0.6, 0.6)), 0.8, -0.45)
    if lit == "night":
        return Light((10, 14, 30), (40, 44, 62), (0.30, 0.31, 0.38), (0.78, 0.76, 0.74), True, sun)
    if lit == "dusk":
        return Light(
            (62, 76, 122), (232, 164, 124), (0.66, 0.57, 0.56), (0.84, 0.78, 0.76), True, sun
        )
    if rng.random() < 0.4:  # overcast
        return Light((166, 178, 192), (214, 218, 222), (0.88, 0.90, 0.92), (0.93,) * 3, False, sun)
    return Light((74, 126, 196), (206, 222, 234), (1.0, 0.98, 0.95), (1.0, 0.99, 0.97), False, sun)


def tinted(colours: Any, tint: tuple[float, float, float]) -> Image:
    """Return colours as they look in a light."""
    return np.asarray(np.rint(np.asarray(colours) * tint).clip(0, 255), np.uint8)


DAYLIGHT = Light((0, 0, 0), (0, 0, 0), (1.0, 1.0, 1.0), (1.0, 1.0, 1.0), False, (0.0, 1.0, 0.0))


def rgb(values: Any) -> Colour:
    """Return three numbers as a colour, clipped to 0 to 255."""
    red, green, blue = (min(max(int(v), 0), 255) for v in values)
    return red, green, blue


def hazy(colour: Any, light: Light, distance_m: float) -> Image:
    """Return `colour` as seen through the air at a distance."""
    haze = 1 - float(np.exp(-distance_m / 160))
    lit = np.asarray(colour, np.float64) * light.tint
    return np.asarray((lit * (1 - haze) + np.array(light.sky_low) * haze).clip(0, 255), np.uint8)
