"""Where photos were taken, so that those of one place go to one split."""

from __future__ import annotations

import io
import math

from PIL import Image as Pil

GPS_TAGS = 0x8825  # Source: EXIF 2.32, 4.6.3 and 4.6.6, for these too
LATITUDE_REF, LATITUDE, LONGITUDE_REF, LONGITUDE = 1, 2, 3, 4
CELL_M = 500.0  # a choice: what a street shows at its two ends differs
DEGREE_M = 111_320.0  # of latitude, about


def cell_of(data: bytes) -> str:
    """Return the name of the square of about `CELL_M` that a photo was taken in; "" if unknown.

    Args:
        data: an encoded photo with EXIF.
    """
    try:
        with Pil.open(io.BytesIO(data)) as photo:
            gps = photo.getexif().get_ifd(GPS_TAGS)
        north = _degrees(gps[LATITUDE], gps[LATITUDE_REF] == "S")
        east = _degrees(gps[LONGITUDE], gps[LONGITUDE_REF] == "W")
    except (KeyError, TypeError, ValueError, ZeroDivisionError, OSError, SyntaxError, ImportError):
        return ""  # Once ultralytics is imported, Pillow asks for a plugin that may be missing.
    if not (abs(north) <= 90 and abs(east) <= 180):
        return ""
    row = math.floor(north * DEGREE_M / CELL_M)
    across_m = DEGREE_M * max(0.01, math.cos(math.radians(row * CELL_M / DEGREE_M)))
    return f"{row},{math.floor(east * across_m / CELL_M)}"


def _degrees(parts: tuple[float, float, float], is_negative: bool) -> float:
    degrees, minutes, seconds = (float(part) for part in parts)
    value = degrees + minutes / 60 + seconds / 3600
    return -value if is_negative else value
