"""Licence plates of seven regions, flat on the table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from plateblur.drawn.chance import Rng, choice, random_digits, random_letters
from plateblur.drawn.lettering import stroke, write
from plateblur.drawn.light import EU_BLUE, INK, WHITE, YELLOW, Colour
from plateblur.types import Image

REGIONS = ("eu", "eu_two_row", "uk", "us", "india", "egypt", "gulf")


@dataclass(frozen=True, slots=True)
class Plate:
    """One plate, seen flat from above.

    Attributes:
        image: (h, w, 3) uint8 RGB, border included.
        text: its text; the rows of a two-row plate are joined by a space.
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


def _eu_plate(rng: Rng, front: bool, scale: float) -> Plate:
    country = choice(rng, ("D", "F", "I", "E", "NL", "PL"))
    a, b = random_letters(rng, 2), random_letters(rng, 2)
    text = {
        "D": f"{choice(rng, ('B', 'M', 'K', 'HH', 'S'))} {a} {random_digits(rng, 3)}",
        "F": f"{a}-{random_digits(rng, 3)}-{b}",
        "I": f"{a} {random_digits(rng, 3)}{b}",
        "E": f"{random_digits(rng, 4)} {random_letters(rng, 3)}",
        "NL": f"{a}-{random_digits(rng, 3)}-{b[0]}",
        "PL": f"{choice(rng, ('WA', 'KR', 'PO', 'GD'))} {random_digits(rng, 5)}",
    }[country]
    image = _blank(520, 110, scale, YELLOW if country == "NL" else WHITE)
    _blue_strip(image, scale, country=country, width_mm=44)
    write(image, scale, text, (60, 18, 445, 74), cells=True)
    _border(image, scale, INK)
    return Plate(image, text, "eu", (0.520, 0.110))


def _eu_two_row_plate(rng: Rng, front: bool, scale: float) -> Plate:
    first = f"{choice(rng, ('B', 'M', 'HH', 'KI', 'DD'))} {random_letters(rng, 1)}"
    second = random_digits(rng, 4)
    image = _blank(280, 200, scale, WHITE)
    _blue_strip(image, scale, country="D", width_mm=36)
    write(image, scale, first, (60, 18, 190, 72), cells=True)
    write(image, scale, second, (54, 108, 205, 72), cells=True)
    _border(image, scale, INK)
    return Plate(image, f"{first} {second}", "eu_two_row", (0.280, 0.200))


def _uk_plate(rng: Rng, front: bool, scale: float) -> Plate:
    year = choice(rng, ("09", "12", "15", "18", "21", "23", "62", "65", "68", "71", "73"))
    text = f"{random_letters(rng, 2)}{year} {random_letters(rng, 3)}"
    image = _blank(520, 111, scale, WHITE if front else YELLOW)
    write(image, scale, text, (26, 16, 468, 79), cells=True)
    return Plate(image, text, "uk", (0.520, 0.111))


def _us_plate(rng: Rng, front: bool, scale: float) -> Plate:
    state, ground, ink, title = choice(
        rng,
        (
            ("CALIFORNIA", WHITE, (24, 40, 110), (176, 30, 40)),
            ("TEXAS", WHITE, INK, INK),
            ("NEW YORK", (236, 190, 60), (24, 36, 90), (24, 36, 90)),
            ("COLORADO", (36, 92, 62), WHITE, WHITE),
            ("FLORIDA", (236, 240, 226), (18, 92, 52), (200, 90, 20)),
        ),
    )
    a = random_letters(rng, 3)
    text = (
        f"{random_digits(rng, 1)}{a}{random_digits(rng, 3)}"
        if state == "CALIFORNIA"
        else f"{a} {random_digits(rng, 4)}"
    )
    image = _blank(305, 152, scale, ground)
    if state == "FLORIDA":
        centre = (int(152 * scale), int(84 * scale))
        cv2.circle(image, centre, int(26 * scale), (250, 190, 120), -1, cv2.LINE_AA)
    write(image, scale, state, (82, 10, 141, 20), ink=title)
    write(image, scale, text, (18, 44, 269, 74), ink=ink, cells=True)
    write(image, scale, "DRAWN SAMPLE", (102, 130, 101, 10), ink=title)
    _border(image, scale, ink)
    return Plate(image, text, "us", (0.305, 0.152))


def _india_plate(rng: Rng, front: bool, scale: float) -> Plate:
    state = choice(rng, ("MH", "DL", "KA", "TN", "GJ", "UP", "KL"))
    text = f"{state} {rng.integers(1, 60):02d} {random_letters(rng, 2)} {random_digits(rng, 4)}"
    image = _blank(500, 120, scale, YELLOW if rng.random() < 0.35 else WHITE)
    write(image, scale, "IND", (12, 70, 26, 14), ink=EU_BLUE)
    write(image, scale, text, (50, 26, 436, 68), cells=True)
    _border(image, scale, INK)
    return Plate(image, text, "india", (0.500, 0.120))


def _egypt_plate(rng: Rng, front: bool, scale: float) -> Plate:
    digits = "".join(choice(rng, "١٢٣٤٥٦٧٨٩") for _ in range(4))
    letters = " ".join(choice(rng, "ابدرلوه") for _ in range(3))
    image = _blank(350, 170, scale, WHITE)
    header = choice(rng, ((64, 140, 200), (64, 140, 200), (200, 60, 40), (230, 130, 30)))
    _fill(image, scale, (0, 0, 350, 46), header)
    write(image, scale, "EGYPT", (20, 13, 84, 22))
    for i, char in enumerate("رصم"):
        stroke(image, scale, char, (280 - 40 * i, 8, 30, 30))
    _fill(image, scale, (173, 46, 4, 124), INK)
    for i, char in enumerate(digits):
        stroke(image, scale, char, (16 + 39 * i, 66, 34, 82))
    for i, char in enumerate(letters.split()):
        stroke(image, scale, char, (288 - 52 * i, 66, 46, 82))
    _border(image, scale, INK)
    return Plate(image, f"{digits} {letters}", "egypt", (0.350, 0.170))


def _gulf_plate(rng: Rng, front: bool, scale: float) -> Plate:
    emirate = choice(rng, ("DUBAI", "SHARJAH", "AJMAN"))
    code, number = random_letters(rng, 1), random_digits(rng, 5)
    image = _blank(335, 155, scale, WHITE)
    write(image, scale, code, (24, 18, 46, 54), cells=True)
    write(image, scale, emirate, (110, 24, 190, 42), ink=(150, 24, 30))
    write(image, scale, number, (24, 84, 287, 54), cells=True)
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
    write(image, scale, country, box, ink=WHITE)


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
