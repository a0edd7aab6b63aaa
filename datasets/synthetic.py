"""Draw street scenes whose plates are known to the pixel: for tests, examples and the smoke run.

Nothing in a scene comes from a photo or from the net: vehicles are lofted from a few profiles,
streets and plates are painted, and one pinhole camera sees them all, so a plate's corners are
computed and never guessed. Every random choice comes from one `numpy.random.Generator` made from
the seed: the same seed, arguments and versions of NumPy, OpenCV and Pillow give the same bits.

    python datasets/synthetic.py OUT --count 200 --seed 1
    python datasets/synthetic.py OUT --examples

It reads downward: plates, camera, vehicles, surroundings, the scene, the data set, the command.
Metres are right (x), up (y) and away from the camera (z); a vehicle's own z starts at the end
that carries the plate.
"""

# ruff: noqa: RUF001 (Arabic figures and letters are meant)

from __future__ import annotations

import argparse
import csv
import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pil
from PIL import ImageDraw, ImageFont

Image = NDArray[np.uint8]
Floats = NDArray[np.float64]
Reals = NDArray[np.floating[Any]]
Colour = tuple[int, int, int]
Rng = np.random.Generator
T = TypeVar("T")
Lit = Literal["day", "dusk", "night"]
Place = Literal["street", "car_park"]

REGIONS = ("eu", "eu_two_row", "uk", "us", "india", "egypt", "gulf")
LITS: tuple[Lit, ...] = ("day", "dusk", "night")
PLACES: tuple[Place, ...] = ("street", "car_park")

INK: Colour = (22, 22, 26)
WHITE: Colour = (238, 238, 234)
YELLOW: Colour = (246, 196, 28)
EU_BLUE: Colour = (20, 60, 160)
LETTERS = "ABCDEFGHJKLMNPRSTUVWXYZ"  # without I, O and Q, which most regions leave out


# --- Plates ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Plate:
    """One plate as it lies on the table.

    Attributes:
        image: (h, w, 3) uint8 RGB, border included.
        text: what is to be read on it; the rows of a two-row plate are joined by a space.
        region: one of `REGIONS`.
        size_wh_m: width and height, metres.
    """

    image: Image
    text: str
    region: str
    size_wh_m: tuple[float, float]


def draw_plate(rng: Rng, *, region: str, front: bool, px_per_mm: float = 2.0) -> Plate:
    """Return a plate of `region` with a random text that follows the region's grammar.

    Args:
        rng: where every choice comes from.
        region: one of `REGIONS`.
        front: whether it is for the vehicle's front; in the UK that decides the colour.
        px_per_mm: how finely it is drawn.

    Raises:
        ValueError: `region` is not one of `REGIONS`.
    """
    painters: dict[str, Callable[[Rng, bool, float], Plate]] = {
        "eu": _eu_plate,
        "eu_two_row": _eu_two_row_plate,
        "uk": _uk_plate,
        "us": _us_plate,
        "india": _india_plate,
        "egypt": _egypt_plate,
        "gulf": _gulf_plate,
    }
    if region not in painters:
        raise ValueError(f"region must be one of {', '.join(REGIONS)}, got {region!r}")
    plate = painters[region](rng, front, px_per_mm)
    return Plate(_worn(plate.image, rng), plate.text, plate.region, plate.size_wh_m)


def _letters(rng: Rng, count: int) -> str:
    return "".join(LETTERS[i] for i in rng.integers(0, len(LETTERS), count))


def _digits(rng: Rng, count: int) -> str:
    """Return `count` digits, the first of them not 0."""
    return str(rng.integers(1, 10)) + "".join(str(i) for i in rng.integers(0, 10, count - 1))


def _choice(rng: Rng, values: Sequence[T]) -> T:
    return values[int(rng.integers(0, len(values)))]


def _eu_plate(rng: Rng, front: bool, scale: float) -> Plate:
    country = _choice(rng, ("D", "F", "I", "E", "NL", "PL"))
    a, b = _letters(rng, 2), _letters(rng, 2)
    text = {
        "D": f"{_choice(rng, ('B', 'M', 'K', 'HH', 'S'))} {a} {_digits(rng, 3)}",
        "F": f"{a}-{_digits(rng, 3)}-{b}",
        "I": f"{a} {_digits(rng, 3)}{b}",
        "E": f"{_digits(rng, 4)} {_letters(rng, 3)}",
        "NL": f"{a}-{_digits(rng, 3)}-{b[0]}",
        "PL": f"{_choice(rng, ('WA', 'KR', 'PO', 'GD'))} {_digits(rng, 5)}",
    }[country]
    image = _blank(520, 110, scale, YELLOW if country == "NL" else WHITE)
    _blue_strip(image, scale, country=country, width_mm=44)
    _write(image, scale, text, (60, 18, 445, 74), cells=True)
    _border(image, scale, INK)
    return Plate(image, text, "eu", (0.520, 0.110))


def _eu_two_row_plate(rng: Rng, front: bool, scale: float) -> Plate:
    first = f"{_choice(rng, ('B', 'M', 'HH', 'KI', 'DD'))} {_letters(rng, 1)}"
    second = _digits(rng, 4)
    image = _blank(280, 200, scale, WHITE)
    _blue_strip(image, scale, country="D", width_mm=36)
    _write(image, scale, first, (60, 18, 190, 72), cells=True)
    _write(image, scale, second, (54, 108, 205, 72), cells=True)
    _border(image, scale, INK)
    return Plate(image, f"{first} {second}", "eu_two_row", (0.280, 0.200))


def _uk_plate(rng: Rng, front: bool, scale: float) -> Plate:
    year = _choice(rng, ("09", "12", "15", "18", "21", "23", "62", "65", "68", "71", "73"))
    text = f"{_letters(rng, 2)}{year} {_letters(rng, 3)}"
    image = _blank(520, 111, scale, WHITE if front else YELLOW)
    _write(image, scale, text, (26, 16, 468, 79), cells=True)
    return Plate(image, text, "uk", (0.520, 0.111))


def _us_plate(rng: Rng, front: bool, scale: float) -> Plate:
    state, ground, ink, title = _choice(
        rng,
        (
            ("CALIFORNIA", WHITE, (24, 40, 110), (176, 30, 40)),
            ("TEXAS", WHITE, INK, INK),
            ("NEW YORK", (236, 190, 60), (24, 36, 90), (24, 36, 90)),
            ("COLORADO", (36, 92, 62), WHITE, WHITE),
            ("FLORIDA", (236, 240, 226), (18, 92, 52), (200, 90, 20)),
        ),
    )
    a = _letters(rng, 3)
    text = (
        f"{_digits(rng, 1)}{a}{_digits(rng, 3)}"
        if state == "CALIFORNIA"
        else f"{a} {_digits(rng, 4)}"
    )
    image = _blank(305, 152, scale, ground)
    if state == "FLORIDA":
        centre = (int(152 * scale), int(84 * scale))
        cv2.circle(image, centre, int(26 * scale), (250, 190, 120), -1, cv2.LINE_AA)
    _write(image, scale, state, (82, 10, 141, 20), ink=title)
    _write(image, scale, text, (18, 44, 269, 74), ink=ink, cells=True)
    _write(image, scale, "DRAWN SAMPLE", (102, 130, 101, 10), ink=title)
    _border(image, scale, ink)
    return Plate(image, text, "us", (0.305, 0.152))


def _india_plate(rng: Rng, front: bool, scale: float) -> Plate:
    state = _choice(rng, ("MH", "DL", "KA", "TN", "GJ", "UP", "KL"))
    text = f"{state} {rng.integers(1, 60):02d} {_letters(rng, 2)} {_digits(rng, 4)}"
    image = _blank(500, 120, scale, YELLOW if rng.random() < 0.35 else WHITE)
    _write(image, scale, "IND", (12, 70, 26, 14), ink=EU_BLUE)
    _write(image, scale, text, (50, 26, 436, 68), cells=True)
    _border(image, scale, INK)
    return Plate(image, text, "india", (0.500, 0.120))


def _egypt_plate(rng: Rng, front: bool, scale: float) -> Plate:
    digits = "".join(_choice(rng, "١٢٣٤٥٦٧٨٩") for _ in range(4))
    letters = " ".join(_choice(rng, "ابدرلوه") for _ in range(3))
    image = _blank(350, 170, scale, WHITE)
    header = _choice(rng, ((64, 140, 200), (64, 140, 200), (200, 60, 40), (230, 130, 30)))
    _fill(image, scale, (0, 0, 350, 46), header)
    _write(image, scale, "EGYPT", (20, 13, 84, 22))
    for i, char in enumerate("رصم"):
        _stroke(image, scale, char, (280 - 40 * i, 8, 30, 30))
    _fill(image, scale, (173, 46, 4, 124), INK)
    for i, char in enumerate(digits):
        _stroke(image, scale, char, (16 + 39 * i, 66, 34, 82))
    for i, char in enumerate(letters.split()):
        _stroke(image, scale, char, (288 - 52 * i, 66, 46, 82))
    _border(image, scale, INK)
    return Plate(image, f"{digits} {letters}", "egypt", (0.350, 0.170))


def _gulf_plate(rng: Rng, front: bool, scale: float) -> Plate:
    emirate = _choice(rng, ("DUBAI", "SHARJAH", "AJMAN"))
    code, number = _letters(rng, 1), _digits(rng, 5)
    image = _blank(335, 155, scale, WHITE)
    _write(image, scale, code, (24, 18, 46, 54), cells=True)
    _write(image, scale, emirate, (110, 24, 190, 42), ink=(150, 24, 30))
    _write(image, scale, number, (24, 84, 287, 54), cells=True)
    _border(image, scale, INK)
    return Plate(image, f"{code} {emirate} {number}", "gulf", (0.335, 0.155))


def _blank(width_mm: float, height_mm: float, scale: float, colour: Colour) -> Image:
    return np.full((round(height_mm * scale), round(width_mm * scale), 3), colour, np.uint8)


def _fill(
    image: Image, scale: float, xywh_mm: tuple[float, float, float, float], colour: Colour
) -> None:
    x, y, w, h = (round(v * scale) for v in xywh_mm)
    image[y : y + h, x : x + w] = colour


def _border(image: Image, scale: float, colour: Colour) -> None:
    height, width = image.shape[:2]
    inset, thickness = round(3 * scale), max(1, round(3 * scale))
    corners = (inset, inset), (width - 1 - inset, height - 1 - inset)
    cv2.rectangle(image, *corners, colour, thickness, cv2.LINE_AA)


def _blue_strip(image: Image, scale: float, *, country: str, width_mm: float) -> None:
    _fill(image, scale, (0, 0, width_mm, image.shape[0] / scale), EU_BLUE)
    centre_mm, radius_mm = (width_mm / 2 + 1, 34.0), width_mm * 0.27
    for angle in np.arange(12) * np.pi / 6:
        x = centre_mm[0] + radius_mm * np.cos(angle)
        y = centre_mm[1] + radius_mm * np.sin(angle)
        centre = (round(x * scale), round(y * scale))
        cv2.circle(image, centre, max(1, round(1.9 * scale)), (250, 214, 40), -1, cv2.LINE_AA)
    wide = 4.0 if country == "I" else 13.0 * len(country)
    box = ((width_mm - wide) / 2 + 1, image.shape[0] / scale - 44, wide, 26)
    _write(image, scale, country, box, ink=WHITE)


def _write(
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
    mask = (_cells if cells else _words)(text, (h, w))[..., None]
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


def _words(text: str, box_hw: tuple[int, int]) -> NDArray[np.float32]:
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


def _stroke(
    image: Image, scale: float, char: str, xywh_mm: tuple[float, float, float, float]
) -> None:
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


def _worn(image: Image, rng: Rng) -> Image:
    """Return the plate with uneven light, a little dirt and four screws' worth of use."""
    height, width = image.shape[:2]
    slope = np.linspace(1.03, 0.93, height)[:, None, None]
    dirt = cv2.resize(rng.random((4, 12)), (width, height), interpolation=cv2.INTER_CUBIC)
    shaded = image * slope * (1 - 0.10 * rng.random() * np.asarray(dirt)[..., None])
    worn: Image = shaded.clip(0, 255).astype(np.uint8)
    for x in (0.18, 0.82):
        centre = (int(width * x), int(height * 0.075))
        cv2.circle(worn, centre, max(1, height // 38), (120, 120, 122), -1, cv2.LINE_AA)
    return worn


# --- Camera ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Camera:
    """A pinhole camera above the ground at x = z = 0.

    Attributes:
        focal_px: focal length in pixels.
        image_hw: height and width of its image, pixels.
        height_m: how far above the ground it is held.
        pitch_deg: how far it looks down.
        tilt_deg: how far it is turned about its axis.
    """

    focal_px: float
    image_hw: tuple[int, int]
    height_m: float
    pitch_deg: float
    tilt_deg: float

    @property
    def rotation(self) -> Floats:
        """Return the (3, 3) turn from world to camera axes."""
        pitch, tilt = np.deg2rad([self.pitch_deg, self.tilt_deg])
        down = np.array(
            [[1, 0, 0], [0, np.cos(pitch), np.sin(pitch)], [0, -np.sin(pitch), np.cos(pitch)]]
        )
        turn = np.array(
            [[np.cos(tilt), -np.sin(tilt), 0], [np.sin(tilt), np.cos(tilt), 0], [0, 0, 1]]
        )
        return np.asarray(turn @ down, np.float64)

    def project(self, points: Floats) -> Floats:
        """Return (N, 3): image x, image y and depth in metres of (N, 3) points in metres."""
        seen = (points - [0.0, self.height_m, 0.0]) @ self.rotation.T
        depth = seen[:, 2]
        safe = np.where(depth > 0.05, depth, 0.05)
        x = self.image_hw[1] / 2 + self.focal_px * seen[:, 0] / safe
        y = self.image_hw[0] / 2 - self.focal_px * seen[:, 1] / safe
        return np.stack([x, y, depth], axis=1)

    def rays(self, step: int) -> NDArray[np.float32]:
        """Return (h, w, 3) float32 world directions through every `step`-th pixel."""
        height, width = self.image_hw
        ys, xs = np.mgrid[0:height:step, 0:width:step] + (step - 1) / 2
        x = (xs - width / 2) / self.focal_px
        y = (height / 2 - ys) / self.focal_px
        return np.asarray(np.stack([x, y, np.ones_like(x)], axis=-1) @ self.rotation, np.float32)


def _paste(canvas: Image, texture: Image, quad: Floats) -> None:
    """Lay an RGB or RGBA texture over the four corners `quad`, clockwise from top left.

    Where the canvas is RGBA too, what is covered becomes solid.

    A large texture is shrunk first, because the warp itself takes one sample a pixel.
    """
    height, width = canvas.shape[:2]
    low = np.floor(quad.min(axis=0)).astype(int) - 1
    high = np.ceil(quad.max(axis=0)).astype(int) + 2
    x1, y1 = int(max(low[0], 0)), int(max(low[1], 0))
    x2, y2 = int(min(high[0], width)), int(min(high[1], height))
    if x1 >= x2 or y1 >= y2:
        return
    sides = np.linalg.norm(quad - np.roll(quad, -1, axis=0), axis=1)
    fit = np.ceil([max(sides[0], sides[2]), max(sides[1], sides[3])]).astype(int).clip(2)
    size = (int(min(fit[0], texture.shape[1])), int(min(fit[1], texture.shape[0])))
    if size != texture.shape[1::-1]:
        texture = np.asarray(cv2.resize(texture, size, interpolation=cv2.INTER_AREA), np.uint8)
    if texture.shape[2] == 3:
        texture = np.dstack([texture, np.full(texture.shape[:2], 255, np.uint8)])
    h, w = texture.shape[:2]
    # Corner to corner: pixel centres lie at +0.5, OpenCV counts them as whole numbers.
    source = np.array([[0, 0], [w, 0], [w, h], [0, h]], np.float32) - 0.5
    target = (quad - [x1, y1] - 0.5).astype(np.float32)
    matrix = cv2.getPerspectiveTransform(source, target)
    warped = cv2.warpPerspective(
        texture, matrix, (x2 - x1, y2 - y1), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    cover = np.zeros(((y2 - y1) * 2, (x2 - x1) * 2), np.uint8)
    corners = np.rint((quad - [x1, y1]) * 2 * 16 - 8).astype(np.int32)
    cv2.fillConvexPoly(cover, corners, 255, cv2.LINE_AA, 4)
    covered = cv2.resize(cover, (x2 - x1, y2 - y1), interpolation=cv2.INTER_AREA)
    alpha = warped[..., 3:] * (covered[..., None] * np.float32(1 / 65025))
    warped[..., 3] = 255
    part = canvas[y1:y2, x1:x2]
    part[:] = np.rint(part + (warped[..., : part.shape[2]] - part.astype(np.float32)) * alpha)


# --- Vehicles -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Body:
    """A body's shape, metres; z runs from its rear to its front.

    Attributes:
        half_width: half its width.
        shoulder: height of the line under the side windows.
        profile: (z, height) of the roof line seen from the side.
        rear_glass: z from and to of the rear window; empty where it has none.
        front_glass: z from and to of the windscreen.
        side_glass: z from and to of the side windows.
        pillars: z of the pillars between them.
    """

    half_width: float
    shoulder: float
    profile: tuple[tuple[float, float], ...]
    rear_glass: tuple[float, float] | tuple[()]
    front_glass: tuple[float, float]
    side_glass: tuple[float, float]
    pillars: tuple[float, ...]

    @property
    def length(self) -> float:
        """Return how long it is."""
        return self.profile[-1][0]


BODIES = {
    "saloon": Body(
        0.91, 0.90,
        ((0, 0.96), (0.5, 1.02), (0.62, 1.03), (1.35, 1.39), (1.9, 1.44), (2.6, 1.41), (3.4, 1.02),
         (4.25, 0.90), (4.6, 0.74)),
        (0.68, 1.32), (2.66, 3.34), (0.98, 3.1), (1.45, 2.2),
    ),
    "hatchback": Body(
        0.88, 0.93,
        ((0, 1.0), (0.1, 1.06), (0.42, 1.40), (0.9, 1.48), (2.1, 1.46), (2.95, 1.04), (3.8, 0.91),
         (4.05, 0.76)),
        (0.11, 0.40), (2.16, 2.9), (0.5, 2.7), (0.85, 1.6),
    ),
    "suv": Body(
        0.94, 1.04,
        ((0, 1.08), (0.1, 1.14), (0.36, 1.58), (0.8, 1.68), (2.35, 1.66), (3.05, 1.2),
         (4.2, 1.05), (4.5, 0.90)),
        (0.11, 0.36), (2.4, 3.0), (0.5, 2.85), (0.95, 1.75),
    ),
    "van": Body(
        0.98, 1.12,
        ((0, 1.92), (0.25, 1.97), (3.3, 1.97), (4.15, 1.24), (4.85, 1.08), (5.05, 0.92)),
        (), (3.36, 4.12), (3.0, 3.95), (3.1,),
    ),
}  # fmt: skip
PAINTS: tuple[Colour, ...] = (
    (206, 208, 210), (150, 154, 160), (84, 88, 94), (34, 36, 40), (232, 232, 228), (150, 28, 32),
    (28, 58, 120), (58, 98, 140), (36, 74, 58), (168, 148, 112), (196, 92, 34),
)  # fmt: skip
LETTERING = (
    ("FRESH FISH DAILY", "CALL 555 0142"), ("NORTH STAR", "PLUMBING & HEATING"),
    ("BAKERY LANE", "BREAD SINCE 1974"), ("QUICK PARCEL 24", "555 0199"),
    ("GREEN LEAF", "GARDEN CARE 555 0117"), ("ELECTRO 2000", "INSTALL  REPAIR"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Vehicle:
    """A vehicle on the ground with one end towards the camera.

    Attributes:
        body: key of `BODIES`.
        front: whether its front is towards the camera, else its rear.
        paint: RGB.
        plate: its plate, or none.
        plate_y_m: height of the plate's centre above the ground.
        at_m: x and z of the middle of the end towards the camera.
        heading_deg: how far its length is turned away from the camera's z axis.
        lettering: two lines on a van's sides and doors.
    """

    body: str
    front: bool
    paint: Colour
    plate: Plate | None
    plate_y_m: float
    at_m: tuple[float, float]
    heading_deg: float
    lettering: tuple[str, str]

    def to_world(self, points: Floats) -> Floats:
        """Return (N, 3) world points of (N, 3) points of the vehicle."""
        angle = np.deg2rad(self.heading_deg)
        x = points[:, 0] * np.cos(angle) + points[:, 2] * np.sin(angle) + self.at_m[0]
        z = points[:, 2] * np.cos(angle) - points[:, 0] * np.sin(angle) + self.at_m[1]
        return np.stack([x, points[:, 1], z], axis=1)

    def plate_corners(self) -> Floats:
        """Return the plate's (4, 3) corners in the world, clockwise from top left."""
        if self.plate is None:
            raise ValueError("a vehicle without a plate has no plate corners")
        half_w, half_h = self.plate.size_wh_m[0] / 2, self.plate.size_wh_m[1] / 2
        low, high = self.plate_y_m - half_h, self.plate_y_m + half_h
        return self.to_world(_upright(-half_w, low, half_w, high, z=-0.03))


def _upright(x1: float, y1: float, x2: float, y2: float, *, z: float) -> Floats:
    return np.array([[x1, y2, z], [x2, y2, z], [x2, y1, z], [x1, y1, z]], np.float64)


@dataclass(frozen=True, slots=True)
class Mesh:
    """A vehicle's skin as four-cornered faces.

    Attributes:
        corners: (F, 4, 3) metres, the vehicle's own axes.
        glass: (F,) whether the face is a window.
        end: (P, 2) x and y of the outline of the flat end towards the camera.
    """

    corners: Floats
    glass: NDArray[np.bool_]
    end: Floats


@lru_cache(maxsize=16)
def _mesh(name: str, front: bool) -> Mesh:
    """Return the skin of a body, lofted through about fifty cross sections along its length."""
    body = BODIES[name]
    z = np.unique(
        np.concatenate([[0, 0.02, 0.05, 0.09, 0.14], np.linspace(0.2, body.length - 0.2, 56),
                        body.length - np.array([0.14, 0.09, 0.05, 0.02, 0])])
    )  # fmt: skip
    at = body.length - z if front else z  # measured from the rear
    heights = np.array(body.profile)
    grid = np.linspace(0, body.length, 400)
    smooth = np.interp(grid, heights[:, 0], heights[:, 1])
    smooth = np.convolve(np.pad(smooth, 10, mode="edge"), np.ones(21) / 21, mode="valid")
    top = np.interp(at, grid, smooth)
    near_end = np.minimum(z, body.length - z)
    half = body.half_width * (1 - 0.085 * np.exp(-near_end / 0.10))
    shoulder = np.minimum(body.shoulder, top - 0.07)
    rise = ((top - shoulder - 0.07) / (max(h for _, h in body.profile) - body.shoulder)).clip(0, 1)
    lean = 0.90 if name == "van" else 0.76
    roof = half * (0.93 - (0.93 - lean) * rise)
    roof_y = top - 0.035
    columns = [
        (half * 0.95, np.full_like(z, 0.20)),
        (half * 0.99, np.full_like(z, 0.33)),
        (half, np.full_like(z, 0.58)),
        (half * 0.985, shoulder),
    ]
    for t in (0.08, 0.5, 0.9, 1.0):
        columns.append((half * 0.985 * (1 - t) + roof * t, shoulder * (1 - t) + roof_y * t))
    columns += [(roof * 0.90, top - 0.014), (roof * 0.5, top - 0.003), (roof * 0.0, top)]
    right = np.stack([np.stack([x, y, z], axis=1) for x, y in columns], axis=1)  # (S, C, 3)
    left = right[:, ::-1] * [-1, 1, 1]
    ring = np.concatenate([right, left[:, 1:]], axis=1)
    corners = np.stack([ring[:-1, :-1], ring[:-1, 1:], ring[1:, 1:], ring[1:, :-1]], axis=2)
    mid_at, mid_rise = (at[:-1] + at[1:]) / 2, (rise[:-1] + rise[1:]) / 2

    def within(span: tuple[float, float] | tuple[()]) -> NDArray[np.bool_]:
        return (mid_at > span[0]) & (mid_at < span[1]) if span else np.zeros(len(mid_at), np.bool_)

    beside = within(body.side_glass) & (mid_rise > 0.25)
    for pillar in body.pillars:
        beside &= np.abs(mid_at - pillar) > 0.045
    over = within(body.rear_glass) | within(body.front_glass)
    column = np.arange(ring.shape[1] - 1)
    mirrored = np.minimum(column, len(column) - 1 - column)
    glass = (beside[:, None] & np.isin(mirrored, (4, 5))) | (over[:, None] & (mirrored >= 8))
    return Mesh(corners.reshape(-1, 4, 3), glass.reshape(-1), ring[0, :, :2])


@dataclass(frozen=True, slots=True)
class Light:
    """How a scene is lit.

    Attributes:
        sky_top: RGB of the sky overhead.
        sky_low: RGB of the sky at the horizon, and of the haze.
        tint: what the colours of things are multiplied with.
        plate_tint: the same for plates, which send light back to where it comes from.
        lamps: whether lamps and windows shine.
        sun: (3,) direction towards the light.
    """

    sky_top: Colour
    sky_low: Colour
    tint: tuple[float, float, float]
    plate_tint: tuple[float, float, float]
    lamps: bool
    sun: tuple[float, float, float]


def _light(rng: Rng, lit: Lit) -> Light:
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


def _tinted(colours: Any, tint: tuple[float, float, float]) -> Image:
    return np.asarray(np.rint(np.asarray(colours) * tint).clip(0, 255), np.uint8)


def _draw_vehicle(canvas: Image, vehicle: Vehicle, camera: Camera, light: Light) -> None:
    """Draw shadow, wheels, skin, the end towards the camera and the plate, in that order."""
    mesh = _mesh(vehicle.body, vehicle.front)
    world = vehicle.to_world(mesh.corners.reshape(-1, 3))
    seen = camera.project(world)
    height, width = canvas.shape[:2]
    pad = 0.4 * (seen[:, 0].max() - seen[:, 0].min())
    x1, x2 = (int(np.clip(v, 0, width)) for v in (seen[:, 0].min() - pad, seen[:, 0].max() + pad))
    y1, y2 = (int(np.clip(v, 0, height)) for v in (seen[:, 1].min() - 4, seen[:, 1].max() + pad))
    if x2 - x1 < 4 or y2 - y1 < 4:
        return
    part = canvas[y1:y2, x1:x2]
    _shade_ground(part, vehicle, camera, (x1, y1))
    fine = 2 if part.shape[0] * part.shape[1] < 500_000 else 1
    layer = np.zeros((part.shape[0] * fine, part.shape[1] * fine, 4), np.uint8)

    def on_layer(points: Floats) -> Floats:
        flat = camera.project(vehicle.to_world(points))[:, :2]
        return np.asarray((flat - [x1, y1]) * fine, np.float64)

    def polygon(points: Floats, colour: Any) -> None:
        pixels = np.rint((on_layer(points) - 0.5) * 16).clip(-1e6, 1e6).astype(np.int32)
        cv2.fillPoly(layer, [pixels], (*(int(c) for c in colour), 255), cv2.LINE_8, 4)

    body = BODIES[vehicle.body]
    side = _side_seen(vehicle)
    _draw_under(polygon, body, light)
    for mirror in {-1.0, 1.0} - {side}:
        _draw_mirror(polygon, mirror, body, vehicle, camera, light)
    _draw_skin(layer, mesh, vehicle, camera, light, (x1, y1), fine)
    if side:
        _draw_side(polygon, layer, on_layer, side, body, vehicle, light)
        _draw_mirror(polygon, side, body, vehicle, camera, light)
    across = on_layer(_upright(-0.5, 0.4, 0.5, 0.5, z=0))
    px_per_m = float(np.clip(np.linalg.norm(across[1] - across[0]), 60, 1400))
    face = _end_face(mesh.end, body, vehicle, light, px_per_m)
    half, top = float(mesh.end[:, 0].max()), float(mesh.end[:, 1].max())
    _paste(layer, face, on_layer(_upright(-half, 0.20, half, top, z=-0.001)))
    if fine == 2:
        layer = np.asarray(
            cv2.resize(layer, part.shape[1::-1], interpolation=cv2.INTER_AREA), np.uint8
        )
    alpha = layer[..., 3:].astype(np.float32) / 255
    # The layer's colours are already weighed by coverage, because empty pixels are black.
    part[:] = np.rint(part * (1 - alpha) + layer[..., :3]).clip(0, 255)
    if vehicle.plate is not None:
        flat = camera.project(vehicle.plate_corners())[:, :2]
        _paste(canvas, _tinted(vehicle.plate.image, light.plate_tint), flat)
    if light.lamps:
        _glow(canvas, vehicle, camera, half)


def _shade_ground(
    part: Image, vehicle: Vehicle, camera: Camera, origin_xy: tuple[int, int]
) -> None:
    body = BODIES[vehicle.body]
    for grow, strength in ((0.22, 0.45), (-0.02, 0.6)):
        w, near, far = body.half_width + grow, -grow, body.length + grow
        points = np.array([[-w, 0, near], [w, 0, near], [w, 0, far], [-w, 0, far]], np.float64)
        seen = camera.project(vehicle.to_world(points))
        if seen[:, 2].min() < 0.2:
            continue
        shadow = np.zeros(part.shape[:2], np.float32)
        flat = np.rint((seen[:, :2] - origin_xy) * 16).clip(-1e6, 1e6).astype(np.int32)
        cv2.fillPoly(shadow, [flat], 1.0, cv2.LINE_8, 4)
        soft = max(1.0, camera.focal_px / seen[:, 2].mean() * 0.06)
        small = cv2.resize(shadow, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
        small = cv2.GaussianBlur(small, (0, 0), soft / 4 + 0.3)
        shadow = np.asarray(cv2.resize(small, part.shape[1::-1]), np.float32)
        part[:] = np.rint(part * (1 - strength * shadow[..., None]))


def _draw_under(polygon: Callable[[Floats, Any], None], body: Body, light: Light) -> None:
    """Draw the dark underside and the tyres that are seen below the body."""
    dark = _tinted((26, 26, 28), light.tint)
    w = body.half_width * 0.84
    polygon(_upright(-w, 0.12, w, 0.4, z=0.5), dark)
    polygon(np.array([[-w, 0.16, 0.2], [w, 0.16, 0.2], [w, 0.16, 4], [-w, 0.16, 4]], float), dark)
    for at in (body.length - 0.82, 0.78):
        for side in (-1, 1):
            inner, outer = side * (body.half_width - 0.23), side * (body.half_width - 0.03)
            tyre = _upright(min(inner, outer), 0.0, max(inner, outer), 0.5, z=at - 0.26)
            polygon(tyre, _tinted((22, 22, 23), light.tint))


def _draw_skin(
    layer: Image,
    mesh: Mesh,
    vehicle: Vehicle,
    camera: Camera,
    light: Light,
    origin_xy: tuple[int, int],
    fine: int,
) -> None:
    """Fill the faces that look at the camera, the far ones first."""
    world = vehicle.to_world(mesh.corners.reshape(-1, 3)).reshape(-1, 4, 3)
    normal = np.cross(world[:, 2] - world[:, 0], world[:, 1] - world[:, 3])
    normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-9
    centre = world.mean(axis=1)
    inside = vehicle.to_world(np.array([[0.0, 0.7, BODIES[vehicle.body].length / 2]]))
    outward = np.where(((centre - inside) * normal).sum(axis=1) < 0, -1.0, 1.0)
    normal *= outward[:, None]
    to_eye = np.array([0, camera.height_m, 0]) - centre
    facing = (to_eye * normal).sum(axis=1) > 0
    seen = camera.project(world.reshape(-1, 3)).reshape(-1, 4, 3)
    facing &= seen[:, :, 2].min(axis=1) > 0.2
    to_eye /= np.linalg.norm(to_eye, axis=1, keepdims=True)
    sun = np.array(light.sun) / np.linalg.norm(light.sun)
    bright = 0.50 + 0.42 * (normal @ sun).clip(0) + 0.12 * normal[:, 1]
    bright *= 0.72 + 0.28 * ((centre[:, 1] - 0.2) / 0.6).clip(0, 1)
    mirror = 2 * (to_eye * normal).sum(axis=1, keepdims=True) * normal - to_eye
    shine = (mirror[:, 1].clip(0, 1) ** 0.7)[:, None]
    spark = ((mirror @ sun).clip(0) ** 24)[:, None]
    sky = np.array(light.sky_low) * 0.6 + np.array(light.sky_top) * 0.4
    painted = np.array(vehicle.paint) * bright[:, None] * light.tint
    # What the paint mirrors: sky above, dark street below, a hard edge at the horizon.
    street = 1 - 0.22 * (1 / (1 + np.exp(mirror[:, 1:2] * 14)))
    painted = (
        painted * street * (1 - 0.22 * shine) + sky * 0.30 * shine + 90 * spark * light.tint[0]
    )
    glimpse = ((centre[:, 1:2] - 0.9) / 0.7).clip(0, 1) ** 2  # brighter towards the roof
    shine = shine * (0.55 + 0.75 * glimpse)
    window = np.array([20, 24, 28]) * np.array(light.tint) * (1 - 0.5 * shine) + sky * 0.45 * shine
    colours = np.where(mesh.glass[:, None], window, painted).clip(0, 255)
    flat = np.rint(((seen[:, :, :2] - origin_xy) * fine - 0.5) * 16)
    flat = flat.clip(-1e6, 1e6).astype(np.int32)
    far_first = np.argsort(-seen[:, :, 2].mean(axis=1))
    for i in far_first[facing[far_first]]:
        cv2.fillConvexPoly(layer, flat[i], (*colours[i].tolist(), 255), cv2.LINE_8, 4)
    layer[..., :3] = cv2.GaussianBlur(layer[..., :3], (0, 0), 0.8 * fine)
    layer[..., :3] *= layer[..., 3:] > 0


def _side_seen(vehicle: Vehicle) -> float:
    """Return -1 or 1 for the side that the camera sees, in the vehicle's own x; 0 for neither."""
    angle = np.deg2rad(vehicle.heading_deg)
    lateral = -(vehicle.at_m[0] * np.cos(angle) - vehicle.at_m[1] * np.sin(angle))
    half = BODIES[vehicle.body].half_width
    return 1.0 if lateral > half else -1.0 if lateral < -half else 0.0


def _draw_mirror(
    polygon: Callable[[Floats, Any], None],
    side: float,
    body: Body,
    vehicle: Vehicle,
    camera: Camera,
    light: Light,
) -> None:
    z = body.length - body.front_glass[1] + 0.3 if vehicle.front else body.front_glass[1] - 0.3
    x, y = side * (body.half_width + 0.09), body.shoulder + 0.08
    turn = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    # Between a circle and a square, as mirrors are.
    round_x, round_y = (np.sign(v) * np.abs(v) ** 0.6 for v in (np.cos(turn), np.sin(turn)))
    for share, shade in ((1.0, 0.55), (0.75, 0.8 if vehicle.front else 0.3)):
        shape = np.stack([x + 0.115 * share * round_x, y + 0.075 * share * round_y,
                          np.full(24, z)], axis=1)  # fmt: skip
        if camera.project(vehicle.to_world(shape))[:, 2].min() > 0.3:
            polygon(shape, _tinted(np.array(vehicle.paint) * shade, light.tint))


def _draw_side(
    polygon: Callable[[Floats, Any], None],
    layer: Image,
    on_layer: Callable[[Floats], Floats],
    side: float,
    body: Body,
    vehicle: Vehicle,
    light: Light,
) -> None:
    """Draw wheels, door lines, handles and lettering on the side that is seen."""
    along = [body.length - z for z in body.pillars] if vehicle.front else list(body.pillars)
    x = side * (body.half_width + 0.004)
    turn = np.linspace(0, 2 * np.pi, 40, endpoint=False)

    def disc(z: float, radius: float, y: float, *, end: float = 2 * np.pi) -> Floats:
        arc = turn * end / (2 * np.pi)
        return np.stack(
            [np.full(40, x), y + radius * np.sin(arc), z + radius * np.cos(arc)], axis=1
        )

    for z in (0.80, body.length - 0.80):
        polygon(disc(z, 0.385, 0.33, end=np.pi), _tinted((16, 16, 17), light.tint))
        polygon(disc(z, 0.32, 0.32), _tinted((28, 28, 29), light.tint))
        polygon(disc(z, 0.22, 0.32), _tinted((150, 152, 156), light.tint))
        for spoke in np.arange(5) * 2 * np.pi / 5 + 0.3:
            hole = disc(z + 0.14 * np.cos(spoke), 0.055, 0.32 + 0.14 * np.sin(spoke))
            polygon(hole, _tinted((48, 48, 50), light.tint))
    dark = _tinted(np.array(vehicle.paint) * 0.45, light.tint)
    for z in along:
        polygon(np.array([[x, 0.34, z], [x, body.shoulder, z], [x, body.shoulder, z + 0.012],
                          [x, 0.34, z + 0.012]]), dark)  # fmt: skip
        polygon(np.array([[x, 0.80, z + 0.1], [x, 0.83, z + 0.1], [x, 0.83, z + 0.26],
                          [x, 0.80, z + 0.26]]), dark)  # fmt: skip
    if vehicle.body == "van":
        start, stop = (0.5, 2.8) if not vehicle.front else (2.3, 4.6)
        if side < 0:
            start, stop = stop, start
        corners = [[x * 0.97, 1.62, start], [x * 0.97, 1.62, stop], [x, 0.98, stop],
                   [x, 0.98, start]]  # fmt: skip
        sign = _signboard(vehicle.lettering, _ink_on(vehicle.paint), light, (120, 460))
        _paste(layer, sign, on_layer(np.array(corners)))


def _ink_on(paint: Colour) -> Colour:
    return (236, 232, 220) if sum(paint) < 330 else (30, 66, 110)


def _signboard(lines: tuple[str, str], ink: Colour, light: Light, hw: tuple[int, int]) -> Image:
    """Return two lines of lettering on nothing, RGBA."""
    height, width = hw
    board = np.zeros((height, width, 4), np.uint8)
    board[..., :3] = _tinted(ink, light.tint)
    first = _words(lines[0], (int(height * 0.5), width))
    second = _words(lines[1], (int(height * 0.28), int(width * 0.8)))
    board[: first.shape[0], :, 3] = first * 255
    board[height - second.shape[0] :, : second.shape[1], 3] = second * 255
    return board


def _end_face(
    outline: Floats, body: Body, vehicle: Vehicle, light: Light, px_per_m: float
) -> Image:
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

    seam: Colour = _rgb(np.array(vehicle.paint) * 0.42)
    (_paint_front if vehicle.front else _paint_rear)(
        block, line, half, top, seam, vehicle, light.lamps
    )
    if vehicle.body == "van" and not vehicle.front:
        sign = _signboard(vehicle.lettering, _ink_on(vehicle.paint), DAYLIGHT, (90, 400))
        board = Pil.fromarray(sign).resize(
            (max(1, round(1.2 * px_per_m)), max(1, round(0.26 * px_per_m)))
        )
        face.paste(board, tuple(round(v) for v in at(-0.6, 1.16)), board)  # type: ignore[arg-type]
    if vehicle.plate is not None:
        w, h = (v / 2 for v in vehicle.plate.size_wh_m)
        y = vehicle.plate_y_m
        if not vehicle.front:  # a hollow in the boot lid, a little darker than the paint
            hollow = _rgb(np.array(vehicle.paint) * 0.58)
            block(-w - 0.09, y - h - 0.05, w + 0.09, y + h + 0.06, hollow, 0.04)
        block(-w - 0.012, y - h - 0.014, w + 0.012, y + h + 0.012, (18, 18, 20), 0.01)
    mask = Pil.new("L", face.size)
    ImageDraw.Draw(mask).polygon([at(x, y) for x, y in outline], fill=255)
    pixels = np.dstack([_tinted(np.asarray(face), light.tint), np.asarray(mask)])
    return np.ascontiguousarray(pixels)


DAYLIGHT = Light((0, 0, 0), (0, 0, 0), (1.0, 1.0, 1.0), (1.0, 1.0, 1.0), False, (0.0, 1.0, 0.0))


def _rgb(values: Any) -> Colour:
    red, green, blue = (min(max(int(v), 0), 255) for v in values)
    return red, green, blue


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
        block(x1, high - 0.17, x2, high, _rgb(np.array(red) * 0.6), 0.04)
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


def _glow(canvas: Image, vehicle: Vehicle, camera: Camera, half: float) -> None:
    """Add the light of the lamps: white in front, red behind; it stays clear of the plate."""
    body = BODIES[vehicle.body]
    ends = dict(enumerate(body.profile))
    top = ends[len(body.profile) - 1][1] if vehicle.front else ends[0][1]
    y = top - 0.16 if vehicle.front else (0.87 if vehicle.body == "van" else top - 0.16)
    colour = np.array([150, 140, 112] if vehicle.front else [130, 22, 14], np.float32)
    spots = np.array([[-half * 0.84, y, -0.02], [half * 0.84, y, -0.02]])
    for x, y_px, depth in camera.project(vehicle.to_world(spots)):
        radius = camera.focal_px / max(depth, 0.3) * 0.26
        x1, y1 = int(max(x - radius, 0)), int(max(y_px - radius, 0))
        x2 = int(min(x + radius, canvas.shape[1]))
        y2 = int(min(y_px + radius, canvas.shape[0]))
        if x1 >= x2 or y1 >= y2:
            continue
        ys, xs = np.mgrid[y1:y2, x1:x2]
        far = np.hypot(xs - x, ys - y_px) / radius
        part = canvas[y1:y2, x1:x2]
        part[:] = (part + colour * ((1 - far).clip(0) ** 2)[..., None]).clip(0, 255)


# --- Surroundings ---------------------------------------------------------------------------


def _noise(rng: Rng, hw: tuple[int, int], cells: int) -> NDArray[np.float32]:
    """Return (h, w) smooth noise, 0 to 1, with about `cells` lumps across."""
    coarse = rng.random((max(2, cells * hw[0] // hw[1]), cells)).astype(np.float32)
    fine = rng.random((max(2, 3 * cells * hw[0] // hw[1]), 3 * cells)).astype(np.float32)
    size = (hw[1], hw[0])
    lumps = cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC) * 0.68
    lumps = lumps + cv2.resize(fine, size, interpolation=cv2.INTER_CUBIC) * 0.32
    return np.asarray(lumps.clip(0, 1), np.float32)


def _draw_surroundings(
    rng: Rng, camera: Camera, light: Light, place: Place, *, reach_m: tuple[float, float]
) -> Image:
    """Return sky, ground, houses, trees and signs; everything behind or beside the vehicles.

    Args:
        rng: where every choice comes from.
        camera: who looks.
        light: how it is lit.
        place: what it looks like.
        reach_m: how far the vehicles reach sideways and away.
    """
    canvas = _draw_sky_and_ground(rng, camera, light, place, road_m=max(4.2, reach_m[0] + 1.0))
    wall = max(8.0, reach_m[0] + 4.5)
    _draw_skyline(canvas, rng, camera, light)
    if place == "street":
        for side in (-1, 1):
            _draw_row(canvas, rng, camera, light, side * wall)
    else:
        _draw_wall(canvas, rng, camera, light, z=max(20.0, reach_m[1] + 12.0))
    for _ in range(int(rng.integers(3, 7))):
        z = float(rng.uniform(reach_m[1] + 3, reach_m[1] + 30))
        _draw_tree(canvas, rng, camera, light, (float(_choice(rng, (-1, 1)) * (wall - 1.8)), z))
    for _ in range(int(rng.integers(1, 4))):
        z = float(rng.uniform(reach_m[1] + 2, reach_m[1] + 14))
        _draw_road_sign(
            canvas, rng, camera, light, (float(_choice(rng, (-1, 1)) * (wall - 2.6)), z)
        )
    return canvas


def _draw_sky_and_ground(
    rng: Rng, camera: Camera, light: Light, place: Place, *, road_m: float
) -> Image:
    rays = camera.rays(2)
    x, y, z = rays[..., 0], rays[..., 1], rays[..., 2]
    rise = (y / np.hypot(x, z) / 0.55).clip(0, 1)[..., None]
    # Clouds lie on a ceiling, so that they get flatter towards the horizon.
    ceiling = 60 / (np.maximum(y, 0) + 0.12)
    sheet = _noise(rng, (512, 512), 9)
    clouds = cv2.remap(sheet, *_tile(x * ceiling + 2048, z * ceiling * 1.6), cv2.INTER_LINEAR)
    clouds = clouds[..., None]
    sky = np.array(light.sky_low) * (1 - rise) + np.array(light.sky_top) * rise
    puff = ((clouds - 0.5) * 3).clip(0, 1) * 0.5 * (0.3 + rise)
    sky = sky * (1 - puff) + (np.array(light.sky_low) * 0.6 + 98 * light.tint[0]) * puff
    distance = camera.height_m / np.maximum(-y, 1e-4)
    gx, gz = x * distance, z * distance
    lumps = _noise(rng, (512, 512), 24) - 0.5
    grain = cv2.GaussianBlur(rng.random((512, 512), dtype=np.float32) - 0.5, (0, 0), 0.8)
    rough = cv2.remap(lumps, *_tile(gx * 22, gz * 22), cv2.INTER_LINEAR)
    stones = cv2.remap(grain, *_tile(gx * 140, gz * 140), cv2.INTER_LINEAR)
    near = np.exp(-gz / 9)
    grey = float(rng.uniform(98, 128))
    ground = grey + 26 * rough + 60 * stones * near
    colour = ground[..., None] * [1.0, 1.0, 1.02]
    soft = np.maximum(0.012, distance * 2 / camera.focal_px)  # a line's edge, at least a pixel

    def stripe(off: Reals, half: float) -> NDArray[np.float32]:
        return np.asarray(((half - np.abs(off)) / soft + 0.5).clip(0, 1), np.float32)

    worn = (0.75 + 0.5 * rough)[..., None]
    if place == "street":
        paved = (((np.abs(gx) - road_m) / soft) + 0.5).clip(0, 1)[..., None]
        joints = np.maximum(stripe((gx + 0.3) % 0.6 - 0.3, 0.008), stripe(gz % 0.6 - 0.3, 0.008))
        slabs = (150 + 26 * rough + 30 * stones * near)[..., None] * [1.02, 1.0, 0.96]
        slabs = slabs * (1 - 0.3 * (joints * near)[..., None])
        colour = colour * (1 - paved) + slabs * paved
        kerb = stripe(np.abs(gx) - road_m, 0.09)[..., None]
        colour = colour * (1 - kerb) + 176 * kerb
        dashes = stripe(gx + float(rng.uniform(-1.0, 1.0)), 0.06) * ((gz % 6) < 3)
        lines = np.maximum(dashes, stripe(np.abs(gx) - road_m + 0.5, 0.05))[..., None]
    else:
        bays = stripe((gx + float(rng.uniform(0, 2.6))) % 2.6 - 1.3, 0.05) * ((gz % 16) < 11)
        lines = np.maximum(bays, stripe(gz % 16 - 5.5, 0.05))[..., None]
    colour = colour * (1 - 0.8 * lines * worn) + 222 * 0.8 * lines * worn
    haze = (1 - np.exp(-np.maximum(gz, 0) / 160))[..., None]
    colour = colour * light.tint * (1 - haze) + np.array(light.sky_low) * haze
    seen = np.where((y < -1e-3)[..., None], colour, sky).clip(0, 255).astype(np.uint8)
    height, width = camera.image_hw
    return np.asarray(cv2.resize(seen, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


def _tile(x: Reals, y: Reals) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return where to read a 512-pixel texture, folded to and fro so that it has no seams."""
    return tuple((511 - np.abs(v % 1022 - 511)).astype(np.float32) for v in (x, y))  # type: ignore[return-value]


def _hazy(colour: Any, light: Light, distance_m: float) -> Image:
    """Return `colour` as it is seen through the air from so far."""
    haze = 1 - float(np.exp(-distance_m / 160))
    lit = np.asarray(colour, np.float64) * light.tint
    return np.asarray((lit * (1 - haze) + np.array(light.sky_low) * haze).clip(0, 255), np.uint8)


def _draw_skyline(canvas: Image, rng: Rng, camera: Camera, light: Light) -> None:
    """Draw what closes the view: hills, then houses that face the camera, then bushes."""
    x = np.linspace(-260, 260, 80)
    ridge = 12 + 7 * np.sin(x / 60 + rng.uniform(0, 6)) + 3 * np.sin(x / 17 + rng.uniform(0, 6))
    line = np.stack([x, ridge, np.full(80, 260.0)], axis=1)
    foot = np.array([[260.0, -2, 260], [-260, -2, 260]])
    pixels = np.rint(camera.project(np.concatenate([line, foot]))[:, :2]).astype(np.int32)
    cv2.fillPoly(canvas, [pixels], _rgb(_hazy((70, 92, 72), light, 230)), cv2.LINE_AA)
    at = -50.0
    while at < 50:
        wide, high = float(rng.uniform(9, 18)), float(rng.uniform(6, 11))
        front = _hazy(_facade(rng, light, wide, high, scale=12) / np.array(light.tint), light, 100)
        _paste(canvas, front, camera.project(_upright(at, 0, at + wide, high, z=100))[:, :2])
        at += wide * float(rng.uniform(1.0, 1.25))
    for at in rng.uniform(-50, 50, 70):
        spot = camera.project(np.array([[at, rng.uniform(0.6, 2.4), 96.0]]))[0]
        radius = max(2, int(camera.focal_px / 96 * rng.uniform(0.8, 2.0)))
        green = _rgb(_hazy(np.array((66, 92, 56)) + rng.uniform(-14, 14), light, 96))
        cv2.circle(canvas, (int(spot[0]), int(spot[1])), radius, green, -1, cv2.LINE_AA)


def _facade(rng: Rng, light: Light, wide_m: float, high_m: float, *, scale: int) -> Image:
    """Return a house's front, `scale` pixels to the metre: windows, sills, a shop or doors."""
    height, width = int(high_m * scale), int(wide_m * scale)
    base = np.array(
        _choice(
            rng,
            ((176, 160, 138), (150, 92, 74), (196, 190, 178), (138, 140, 144), (206, 186, 150),
             (120, 78, 66)),
        ),
        np.float64,
    )  # fmt: skip
    wall = base * (0.92 + 0.16 * _noise(rng, (height, width), 12)[..., None])
    if base[0] > base[2] * 1.5:  # brick
        wall[:: max(2, scale // 8)] *= 0.88
    tone = _tinted(wall, light.tint)
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
            door = _rgb(_tinted(_choice(rng, PAINTS), light.tint))
            cv2.rectangle(tone, (x, y + 8), (x + int(step * 0.5), height), door, -1)
        else:
            draw_window(tone, x, y, int(step * 0.76), int(2.2 * scale))
    if rng.random() < 0.5:
        band = int(0.55 * scale)
        y = height - int(3.5 * scale)
        tone[y : y + band] = _tinted(_choice(rng, PAINTS), light.tint)
        name = _choice(rng, ("BOOKS & TEA", "CAFE ROMA", "HARDWARE 1928", "OPTICIAN", "FLOWERS"))
        mask = _words(name, (int(band * 0.6), int(width * 0.4)))[..., None]
        top, left = y + int(band * 0.2), int(width * 0.3)
        part = tone[top : top + mask.shape[0], left : left + mask.shape[1]]
        part[:] = part * (1 - mask) + np.array([230, 226, 214]) * light.tint * mask
    tone[: scale // 3] = (tone[: scale // 3] * 0.7).astype(np.uint8)
    return tone


def _window_painter(
    rng: Rng, light: Light, scale: int
) -> Callable[[Image, int, int, int, int], None]:
    thin = max(1, scale // 12)
    frame = _rgb(_tinted((216, 214, 208), light.tint))
    stone = _rgb(_tinted((120, 116, 110), light.tint))
    tint, sky = np.array(light.tint), np.array(light.sky_low) * 0.35

    def paint(tone: Image, x: int, y: int, w: int, h: int) -> None:
        corner = x + w + thin, y + h + thin
        cv2.rectangle(tone, (x - thin, y - thin), corner, frame, -1)
        if light.lamps and rng.random() < 0.35:
            pane = _rgb(np.array((250, 206, 130)) * rng.uniform(0.55, 0.95))
        else:
            pane = _rgb(np.array((40, 48, 56)) * tint + sky * rng.uniform(0.2, 0.9))
        cv2.rectangle(tone, (x, y), (x + w, y + h), pane, -1)
        cv2.line(tone, (x + w // 2, y), (x + w // 2, y + h), frame, max(1, scale // 15))
        sill = (x - 2 * thin, y + h + thin), (x + w + 2 * thin, y + h + 2 * thin)
        cv2.rectangle(tone, *sill, stone, -1)

    return paint


def _draw_row(canvas: Image, rng: Rng, camera: Camera, light: Light, x: float) -> None:
    """Draw a row of houses along the street, the far ones first."""
    houses: list[tuple[float, float, float]] = []
    z = 1.5
    while z < 95:
        wide = float(rng.uniform(8, 15))
        houses.append((z, z + wide, float(rng.uniform(7, 15))))
        z += wide + (float(rng.uniform(3, 7)) if rng.random() < 0.2 else 0.0)
    for near, far, high in reversed(houses):
        front = _facade(rng, light, far - near, high, scale=30 if near < 22 else 14)
        corners = np.array([[x, high, near], [x, high, far], [x, 0, far], [x, 0, near]])
        if x > 0:  # the far end is on the left there
            corners = corners[[1, 0, 3, 2]]
        seen = camera.project(corners)
        if seen[:, 2].min() < 0.3:
            continue
        shade = 0.80 if x < 0 else 0.96
        front = _hazy(front / np.array(light.tint) * shade, light, near)
        gable = np.array([[x, high, far], [x * 3, high, far], [x * 3, 0, far], [x, 0, far]])
        flat = np.rint(camera.project(gable)[:, :2]).astype(np.int32)
        cv2.fillPoly(canvas, [flat], _rgb(front.mean(axis=(0, 1)) * 0.7), cv2.LINE_AA)
        _paste(canvas, front, seen[:, :2])


def _draw_wall(canvas: Image, rng: Rng, camera: Camera, light: Light, *, z: float) -> None:
    """Draw houses that face the camera, with a hedge before them."""
    x = -60.0
    while x < 60:
        wide, high = float(rng.uniform(10, 20)), float(rng.uniform(6, 13))
        front = _hazy(_facade(rng, light, wide, high, scale=30) / np.array(light.tint), light, z)
        _paste(canvas, front, camera.project(_upright(x, 0, x + wide, high, z=z))[:, :2])
        x += wide
    leaves = rng.random((60, 1200, 1)) * 60 + np.array([44.0, 70.0, 38.0])
    hedge = _hazy(leaves, light, z - 2)
    _paste(canvas, hedge, camera.project(_upright(-60, 0, 60, 1.3, z=z - 2))[:, :2])


def _draw_tree(
    canvas: Image, rng: Rng, camera: Camera, light: Light, at_m: tuple[float, float]
) -> None:
    x, z = at_m
    high = float(rng.uniform(3.5, 6))
    foot, crown = camera.project(np.array([[x, 0, z], [x, high, z]]))[:, :2]
    scale = camera.focal_px / z
    points = (int(foot[0]), int(foot[1])), (int(crown[0]), int(crown[1]))
    cv2.line(canvas, *points, _rgb(_hazy((74, 60, 48), light, z)), max(2, int(0.24 * scale)))
    count = 320
    shade = np.linspace(0.45, 1.2, count)[:, None]
    spread = rng.normal(0, 0.72, (count, 2)) * [1.0, -0.8] - shade * [0.0, 0.25]
    centres = np.rint(crown + spread * scale).astype(int)
    radii = np.rint(rng.uniform(0.06, 0.26, count) * scale).astype(int).clip(1)
    greens = _hazy(np.array((66, 98, 46)) * shade + rng.uniform(-8, 8, (count, 3)), light, z)
    for (cx, cy), radius, green in zip(
        centres.tolist(), radii.tolist(), greens.tolist(), strict=True
    ):
        cv2.circle(canvas, (cx, cy), radius, green, -1, cv2.LINE_AA)


def _draw_road_sign(
    canvas: Image, rng: Rng, camera: Camera, light: Light, at_m: tuple[float, float]
) -> None:
    """Draw a sign on a post; signs carry figures and words and are no plates."""
    x, z = at_m
    kind = _choice(rng, ("limit", "parking", "town", "street"))
    wide, high = {"limit": (0.7, 0.7), "parking": (0.6, 0.6), "town": (1.5, 0.9)}.get(
        kind, (1.1, 0.28)
    )
    board = np.zeros((int(high * 200), int(wide * 200), 4), np.uint8)
    board[..., 3] = 255
    face = np.zeros((*board.shape[:2], 3), np.uint8)
    middle = (face.shape[1] // 2, face.shape[0] // 2)
    if kind == "limit":
        board[..., 3] = 0
        cover = np.zeros(face.shape[:2], np.uint8)
        cv2.circle(cover, middle, middle[0] - 1, 255, -1, cv2.LINE_AA)
        board[..., 3] = cover
        face[:] = (196, 30, 34)
        cv2.circle(face, middle, int(middle[0] * 0.76), WHITE, -1, cv2.LINE_AA)
        _write(face, 1, _choice(rng, ("30", "50", "60")), (40, 48, 60, 44))
    elif kind == "parking":
        face[:] = (24, 76, 168)
        _write(face, 1, "P", (40, 26, 40, 66), ink=WHITE)
    elif kind == "town":
        face[:] = YELLOW
        _write(face, 1, _choice(rng, ("ALTDORF", "MILLBROOK", "SANTA ELA")), (30, 40, 240, 46))
        _write(face, 1, f"{rng.integers(2, 60)} KM", (90, 110, 120, 34))
    else:
        face[:] = (28, 62, 130)
        _write(face, 1, _choice(rng, ("MARKET ST", "HARBOUR ROAD", "ELM LANE")), (18, 16, 184, 26),
               ink=WHITE)  # fmt: skip
    board[..., :3] = _hazy(face, light, z)
    low = 2.1
    foot, head = camera.project(np.array([[x, 0, z], [x, low + high, z]]))[:, :2]
    points = (int(foot[0]), int(foot[1])), (int(head[0]), int(head[1]))
    thick = max(2, int(0.07 * camera.focal_px / z))
    cv2.line(canvas, *points, _rgb(_hazy((130, 132, 134), light, z)), thick, cv2.LINE_AA)
    corners = _upright(x - wide / 2, low, x + wide / 2, low + high, z=z - 0.05)
    _paste(canvas, board, camera.project(corners)[:, :2])


# --- The scene ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Scene:
    """A drawn image and its plates, the nearest first.

    Attributes:
        image: (H, W, 3) uint8 RGB, upright.
        xyxy: (N, 4) float32, pixels of `image`: tight around each plate, border included.
        quads: (N, 4, 2) float32, each plate's corners clockwise from its own top left.
        texts: what is to be read on each plate.
        regions: which of `REGIONS` each plate is of.
        side_deg: (N,) float32, angle between the plate's normal and the line to the camera, seen
            from above; 0 is head-on.
        tilt_deg: how far the camera was turned about its axis.
    """

    image: Image
    xyxy: NDArray[np.float32]
    quads: NDArray[np.float32]
    texts: tuple[str, ...]
    regions: tuple[str, ...]
    side_deg: NDArray[np.float32]
    tilt_deg: float

    @property
    def ratios(self) -> NDArray[np.float32]:
        """Return (N,) plate ratios: box height : image height."""
        heights = (self.xyxy[:, 3] - self.xyxy[:, 1]) / self.image.shape[0]
        return np.asarray(heights, np.float32)


def draw_scene(
    seed: int,
    *,
    image_hw: tuple[int, int] = (1080, 1920),
    plates: int = 2,
    ratios: tuple[float, float] = (1 / 30, 1 / 14),
    side_deg: tuple[float, float] = (-25.0, 25.0),
    tilt_deg: tuple[float, float] = (-2.0, 2.0),
    lit: Lit = "day",
    place: Place = "street",
    regions: Sequence[str] = REGIONS,
) -> Scene:
    """Return a street scene with plates, the same bits for the same arguments.

    Args:
        seed: where every random choice comes from.
        image_hw: height and width of the image, pixels.
        plates: how many at most; one is left out where it would hide another or be cut off, but
            the first always finds its place.
        ratios: smallest and largest plate ratio (box height : image height).
        side_deg: smallest and largest side angle of a plate, -70 to 70.
        tilt_deg: smallest and largest turn of the camera about its axis, -45 to 45.
        lit: time of day.
        place: street with houses on both sides, or car park.
        regions: what plates to draw from, some of `REGIONS`.

    Raises:
        ValueError: an argument is outside its range, or no plate of that size fits.
    """
    _check(image_hw, plates, ratios, side_deg, tilt_deg, regions)
    rng = np.random.default_rng(seed)
    light = _light(rng, lit)
    camera, vehicles, sides = _place(
        rng, image_hw, plates, ratios, side_deg, float(rng.uniform(*tilt_deg)), regions
    )
    shown = vehicles or _unplated(rng)
    reach = [v.to_world(_mesh(v.body, v.front).corners.reshape(-1, 3)) for v in shown]
    points = np.concatenate(reach)
    reach_m = (min(float(np.abs(points[:, 0]).max()), 14.0), float(points[:, 2].max()))
    canvas = _draw_surroundings(rng, camera, light, place, reach_m=reach_m)
    nearest = min(v.at_m[1] for v in shown)
    canvas = _soften(canvas, camera.focal_px / nearest * 0.0022)
    for vehicle in sorted(shown, key=lambda v: -v.at_m[1]):
        _draw_vehicle(canvas, vehicle, camera, light)
    image = _through_lens(canvas, rng, lit)
    quads = [camera.project(v.plate_corners())[:, :2] for v in vehicles]
    quads_px = np.array(quads, np.float32).reshape(-1, 4, 2)
    xyxy = np.concatenate([quads_px.min(axis=1), quads_px.max(axis=1)], axis=1)
    known = [v.plate for v in vehicles if v.plate is not None]
    return Scene(
        image,
        xyxy,
        quads_px,
        tuple(plate.text for plate in known),
        tuple(plate.region for plate in known),
        np.array(sides, np.float32),
        camera.tilt_deg,
    )


def _check(
    image_hw: tuple[int, int],
    plates: int,
    ratios: tuple[float, float],
    side_deg: tuple[float, float],
    tilt_deg: tuple[float, float],
    regions: Sequence[str],
) -> None:
    if min(image_hw) < 64:
        raise ValueError(f"image_hw must be at least 64 each, got {image_hw}")
    if plates < 0:
        raise ValueError(f"plates must be 0 or more, got {plates}")
    if not 0.002 <= ratios[0] <= ratios[1] <= 0.5:
        raise ValueError(f"ratios must rise within 0.002 and 0.5, got {ratios}")
    if not -70 <= side_deg[0] <= side_deg[1] <= 70:
        raise ValueError(f"side_deg must rise within -70 and 70, got {side_deg}")
    if not -45 <= tilt_deg[0] <= tilt_deg[1] <= 45:
        raise ValueError(f"tilt_deg must rise within -45 and 45, got {tilt_deg}")
    unknown = [region for region in regions if region not in REGIONS]
    if unknown or not regions:
        raise ValueError(f"regions must be some of {', '.join(REGIONS)}, got {tuple(regions)}")


def _place(
    rng: Rng,
    image_hw: tuple[int, int],
    plates: int,
    ratios: tuple[float, float],
    side_deg: tuple[float, float],
    tilt_deg: float,
    regions: Sequence[str],
) -> tuple[Camera, list[Vehicle], list[float]]:
    """Set up the camera and the vehicles: no plate cut off, none behind another vehicle."""
    wanted = np.sort(np.exp(rng.uniform(np.log(ratios[0]), np.log(ratios[1]), plates)))[::-1]
    long_px = max(image_hw)
    close = float(wanted[0]) * image_hw[0] / long_px if plates else 0.03
    # A wide lens for a street, a longer one for a close-up, as a hand with a zoom would choose.
    focal_px = long_px * float(rng.uniform(0.95, 1.25)) * max(1.0, close / 0.035)
    away = focal_px * 0.12 / (close * long_px)
    height_m = float(np.clip(0.75 + 0.16 * away, 0.8, 1.65) + rng.uniform(-0.08, 0.08))
    target = float(rng.uniform(0.60, 0.74))
    camera = Camera(focal_px, image_hw, height_m, float(rng.uniform(2, 5)), tilt_deg)
    vehicles: list[Vehicle] = []
    sides: list[float] = []
    hulls: list[Floats] = []
    home = _choice(rng, regions)  # most plates of a street are of one region
    for ratio in wanted:
        vehicle = _vehicle(rng, home if rng.random() < 0.75 else _choice(rng, regions))
        for attempt in range(60):
            side = float(rng.uniform(*side_deg))
            first = not vehicles
            spread = (0.12 if plates == 1 else 0.3) if first else 0.44
            reach = np.rad2deg(np.arctan(spread * image_hw[1] / focal_px))
            bearing = float(rng.uniform(-reach, reach))
            if attempt % 2 == 0:  # parallel to the street, as most are
                bearing = float(np.clip(-side, -reach, reach))
            placed, looking = _at_ratio(
                camera, vehicle, ratio, bearing, side, target if first else None
            )
            if _is_clear(placed, looking, vehicles, hulls):
                camera = looking
                vehicles.append(placed)
                sides.append(side)
                hulls.append(_outline(placed, camera))
                break
        if not vehicles:
            raise ValueError(f"no plate of ratio {ratio:.3f} fits an image of {image_hw}")
    return camera, vehicles, sides


def _vehicle(rng: Rng, region: str) -> Vehicle:
    front = bool(rng.random() < 0.45)
    name = _choice(rng, ("saloon", "hatchback", "suv", "saloon", "hatchback", "van"))
    plate = draw_plate(rng, region=region, front=front)
    high = plate.size_wh_m[1]
    if front:
        y = {"saloon": 0.43, "hatchback": 0.43, "suv": 0.50, "van": 0.50}[name]
    elif name == "van":
        y = 0.72
    else:
        y = BODIES[name].profile[0][1] - 0.20 - high / 2 - 0.03
        y = max(y, 0.55 + high / 2)
    return Vehicle(
        name, front, _choice(rng, PAINTS), plate, y, (0.0, 8.0), 0.0, _choice(rng, LETTERING)
    )


def _unplated(rng: Rng) -> list[Vehicle]:
    """Return what stands in a scene without plates: a van with lettering and a bare car."""

    def bare(name: str, x: float, z: float) -> Vehicle:
        lettering = _choice(rng, LETTERING)
        return Vehicle(name, False, _choice(rng, PAINTS), None, 0.7, (x, z), 0.0, lettering)

    side = float(_choice(rng, (-1, 1)))
    near = float(rng.uniform(6, 9))
    return [bare("van", side * 1.9, near), bare("hatchback", -side * 1.7, near + 4)]


def _at_ratio(
    camera: Camera,
    vehicle: Vehicle,
    ratio: float,
    bearing_deg: float,
    side_deg: float,
    target: float | None,
) -> tuple[Vehicle, Camera]:
    """Return the vehicle so far away that its plate's box has the ratio, and who sees it so.

    With a target, the camera is pitched until the plate lies at that share of the image's height.
    """
    height, _ = camera.image_hw
    plate = vehicle.plate
    if plate is None:
        raise ValueError("a vehicle without a plate has no ratio")
    bearing = np.deg2rad(bearing_deg)
    away = camera.focal_px * plate.size_wh_m[1] / (ratio * height)
    for _ in range(12):
        at = (float(away * np.sin(bearing)), float(away * np.cos(bearing)))
        vehicle = Vehicle(
            vehicle.body, vehicle.front, vehicle.paint, plate, vehicle.plate_y_m, at,
            bearing_deg + side_deg, vehicle.lettering,
        )  # fmt: skip
        if target is not None:
            drop = np.rad2deg(np.arctan2(camera.height_m - vehicle.plate_y_m, away))
            below = np.rad2deg(np.arctan((target - 0.5) * height / camera.focal_px))
            pitch = float(np.clip(drop - below, -6, 24))
            camera = Camera(
                camera.focal_px, camera.image_hw, camera.height_m, pitch, camera.tilt_deg
            )
        flat = camera.project(vehicle.plate_corners())
        away *= float(np.ptp(flat[:, 1])) / (ratio * height)
    return vehicle, camera


def _outline(vehicle: Vehicle, camera: Camera) -> Floats:
    """Return (4,) left, top, right, bottom of all that a vehicle may cover, pixels."""
    corners = _mesh(vehicle.body, vehicle.front).corners.reshape(-1, 3)[::5]
    corners = np.concatenate([corners * [1.14, 1.01, 1], corners[::3] * [1, 0, 1]])
    flat = camera.project(vehicle.to_world(corners))[:, :2]
    return np.concatenate([flat.min(axis=0), flat.max(axis=0)])


def _is_clear(
    vehicle: Vehicle, camera: Camera, others: Sequence[Vehicle], hulls: Sequence[Floats]
) -> bool:
    """Tell whether the plate is whole in the image and no vehicle stands in or before another."""
    height, width = camera.image_hw
    flat = camera.project(vehicle.plate_corners())
    low, high = flat[:, :2].min(axis=0), flat[:, :2].max(axis=0)
    if flat[:, 2].min() < 0.3 or low.min() < 3 or high[0] > width - 3 or high[1] > height - 3:
        return False
    mine = _outline(vehicle, camera)
    for other, hull in zip(others, hulls, strict=True):
        clear_px = 0.12 * (high - low).max() + 4
        if _meet(np.concatenate([low, high]), hull, clear_px):
            return False
        theirs = camera.project(other.plate_corners())[:, :2]
        box = np.concatenate([theirs.min(axis=0), theirs.max(axis=0)])
        if vehicle.at_m[1] < other.at_m[1] + 0.5 and _meet(box, mine, clear_px):
            return False
        gap = np.hypot(vehicle.at_m[0] - other.at_m[0], vehicle.at_m[1] - other.at_m[1])
        if gap < 2.3 or _collide(vehicle, other):
            return False
    return True


def _meet(a: Floats, b: Floats, clear_px: float) -> bool:
    apart = (a[:2] - clear_px > b[2:]) | (b[:2] > a[2:] + clear_px)
    return not bool(apart.any())


def _collide(one: Vehicle, two: Vehicle) -> bool:
    """Tell whether two vehicles would stand in each other, by discs along their lengths."""

    def discs(vehicle: Vehicle) -> Floats:
        body = BODIES[vehicle.body]
        along = np.linspace(0.7, body.length - 0.7, 5)
        return vehicle.to_world(np.stack([along * 0, along * 0, along], axis=1))[:, [0, 2]]

    between = np.linalg.norm(discs(one)[:, None] - discs(two)[None], axis=2)
    return bool(between.min() < 2.0)


def _soften(canvas: Image, sigma: float) -> Image:
    """Return what lies behind, out of focus; the nearer the vehicles, the softer."""
    sigma = float(np.clip(sigma, 0.6, 7.0))
    if sigma < 2:
        return np.asarray(cv2.GaussianBlur(canvas, (0, 0), sigma), np.uint8)
    small = cv2.resize(canvas, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), sigma / 2)
    return np.asarray(cv2.resize(small, canvas.shape[1::-1]), np.uint8)


def _through_lens(canvas: Image, rng: Rng, lit: Lit) -> Image:
    """Return the image as a camera would: a little soft, noisy, darker towards the corners."""
    height, width = canvas.shape[:2]
    scale = max(height, width) / 1920
    soft = cv2.GaussianBlur(canvas, (0, 0), max(0.3, float(rng.uniform(0.45, 0.8)) * scale))
    ys = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    xs = np.linspace(-1, 1, width, dtype=np.float32)[None]
    dark = np.float32(1.07) - np.float32(rng.uniform(0.06, 0.14)) * (xs**2 + ys**2)
    sigma = {"day": 1.6, "dusk": 2.6, "night": 4.0}[lit] * float(rng.uniform(0.7, 1.2))
    # One tile of noise, shifted for each colour: drawing six million numbers is half the time.
    tile = rng.standard_normal((height + 16, width + 16), dtype=np.float32) * np.float32(sigma)
    image = np.empty_like(canvas)
    for channel, (dy, dx) in enumerate(((0, 0), (5, 9), (11, 3))):
        noise = tile[dy : dy + height, dx : dx + width]
        image[..., channel] = (soft[..., channel] * dark + noise).clip(0, 255)
    return image


# --- The data set ---------------------------------------------------------------------------

SPLITS = ("train", "val", "test")
COLUMNS = (
    "image", "split", "set", "source", "licence", "region", "width", "height", "plates",
    "smallest_plate_height_ratio", "sha256", "original_name",
)  # fmt: skip
QUALITY = 90  # Source: what phones write, about; 4:2:0 like theirs


def write_dataset(
    out: Path,
    *,
    count: int,
    seed: int,
    split_shares: tuple[float, float, float] = (0.8, 0.1, 0.1),
    image_hw: tuple[int, int] = (720, 1280),
) -> dict[str, int]:
    """Write `count` scenes with YOLO labels, `data.yaml` and `manifest.csv` into `out`.

    One scene in ten has no plates. Scene i of a seed is the same whatever the count.

    Args:
        out: folder to write into; made where it is missing.
        count: how many scenes.
        seed: where every random choice comes from.
        split_shares: shares of train, val and test; they add up to 1.
        image_hw: height and width of each image, pixels.

    Returns:
        How many scenes each split holds.

    Raises:
        ValueError: a share is negative or they don't add up to 1.
    """
    if min(split_shares) < 0 or abs(sum(split_shares) - 1) > 1e-6:
        raise ValueError(f"split_shares must be 0 or more and add up to 1, got {split_shares}")
    ends = np.rint(np.cumsum(split_shares) * count).astype(int)
    order = np.random.default_rng(seed).permutation(count)
    counts = dict.fromkeys(SPLITS, 0)
    rows: list[dict[str, object]] = []
    for split in SPLITS:
        for folder in ("images", "labels"):
            (out / folder / split).mkdir(parents=True, exist_ok=True)
    for i in range(count):
        split = SPLITS[int(np.searchsorted(ends, order[i], side="right"))]
        scene = draw_scene(**_varied(seed, i, image_hw))
        name = f"drawn-{seed}-{i:05d}"
        photo = encode(scene.image)
        (out / "images" / split / f"{name}.jpg").write_bytes(photo)
        lines = "".join(f"{line}\n" for line in label_lines(scene))
        (out / "labels" / split / f"{name}.txt").write_text(lines)
        counts[split] += 1
        height, width = image_hw
        rows.append({
            "image": f"images/{split}/{name}.jpg", "split": split, "set": "drawn",
            "source": "datasets/synthetic.py", "licence": "AGPL-3.0",
            "region": " ".join(sorted(set(scene.regions))), "width": width, "height": height,
            "plates": len(scene.xyxy),
            "smallest_plate_height_ratio":
                f"{scene.ratios.min():.5f}" if len(scene.xyxy) else "",
            "sha256": hashlib.sha256(photo).hexdigest(), "original_name": f"{name}.jpg",
        })  # fmt: skip
    with (out / "manifest.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    (out / "data.yaml").write_text(
        "# Drawn plates, one class. Paths are relative to this file.\n"
        "train: images/train\nval: images/val\ntest: images/test\nnames:\n  0: plate\n"
    )
    return counts


def _varied(seed: int, index: int, image_hw: tuple[int, int]) -> dict[str, Any]:
    """Return the arguments of scene `index` of a data set: sizes, angles and light mixed."""
    rng = np.random.default_rng([seed, index])
    far, near = _choice(rng, ((1 / 45, 1 / 20), (1 / 30, 1 / 12), (1 / 14, 1 / 7)))
    side = float(_choice(rng, (15.0, 30.0, 50.0)))
    tilt = float(_choice(rng, (1.0, 4.0, 12.0)))
    return {
        "seed": int(rng.integers(0, 2**31)),
        "image_hw": image_hw,
        "plates": 0 if rng.random() < 0.1 else int(rng.integers(1, 5)),
        "ratios": (far, near),
        "side_deg": (-side, side),
        "tilt_deg": (-tilt, tilt),
        "lit": _choice(rng, ("day", "day", "day", "dusk", "night")),
        "place": _choice(rng, PLACES),
    }


def label_lines(scene: Scene) -> list[str]:
    """Return one YOLO line for each plate: class 0, then `cxcywhn`."""
    height, width = scene.image.shape[:2]
    lines = []
    for x1, y1, x2, y2 in scene.xyxy.astype(np.float64):
        centre = (x1 + x2) / 2 / width, (y1 + y2) / 2 / height
        lines.append("0 " + " ".join(
            f"{v:.6f}" for v in (*centre, (x2 - x1) / width, (y2 - y1) / height)
        ))  # fmt: skip
    return lines


def encode(image: Image, *, exif: Pil.Exif | None = None) -> bytes:
    """Return `image` as a JPEG photo."""
    photo = io.BytesIO()
    Pil.fromarray(image).save(photo, "JPEG", quality=QUALITY, exif=exif or Pil.Exif())
    return photo.getvalue()


# --- The command ----------------------------------------------------------------------------

EXAMPLES: dict[str, dict[str, Any]] = {
    "street-day": {"seed": 11, "plates": 3, "regions": ("eu", "uk")},
    "street-dusk": {"seed": 7, "plates": 3, "lit": "dusk", "regions": ("us",)},
    "car-park": {
        "seed": 7,
        "plates": 6,
        "ratios": (1 / 40, 1 / 20),
        "place": "car_park",
        "regions": ("egypt", "gulf"),
    },
    "close-up": {
        "seed": 4,
        "plates": 1,
        "ratios": (1 / 6.2, 1 / 5.8),
        "side_deg": (-12.0, 12.0),
        "regions": ("eu",),
    },
    "phone-upright": {
        "seed": 2,
        "plates": 3,
        "image_hw": (1600, 1200),
        "ratios": (1 / 60, 1 / 34),
        "regions": ("india",),
    },
    "far-traffic": {"seed": 4, "plates": 7, "ratios": (1 / 70, 1 / 38), "side_deg": (-12.0, 12.0)},
}
LYING = "phone-upright"  # stored lying on its side with an EXIF orientation, as phones do


def write_examples(out: Path) -> list[Path]:
    """Write six chosen scenes as JPEG photos into `out` and return their paths."""
    out.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, arguments in EXAMPLES.items():
        image = draw_scene(**arguments).image
        exif = Pil.Exif()
        if name == LYING:
            image = np.ascontiguousarray(np.rot90(image))
            exif[0x010F], exif[0x0110] = "PlateBlur", "Drawn Camera 1"
            exif[0x0112] = 6  # to be shown turned a quarter clockwise
        path = out / f"{name}.jpg"
        path.write_bytes(encode(image, exif=exif))
        paths.append(path)
    return paths


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Draw scenes with plates.")
    parser.add_argument("out", type=Path, help="folder to write into")
    parser.add_argument("--count", type=int, default=100, help="how many scenes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--split-shares", type=float, nargs=3, default=(0.8, 0.1, 0.1), metavar=SPLITS
    )
    parser.add_argument("--image-hw", type=int, nargs=2, default=(720, 1280), metavar=("H", "W"))
    parser.add_argument("--examples", action="store_true", help="six chosen scenes instead")
    given = parser.parse_args(arguments)
    if given.examples:
        for path in write_examples(given.out):
            print(path)
        return
    counts = write_dataset(
        given.out,
        count=given.count,
        seed=given.seed,
        split_shares=tuple(given.split_shares),
        image_hw=tuple(given.image_hw),
    )
    for split, count in counts.items():
        print(f"{split}: {count}")


if __name__ == "__main__":
    main()
