"""What the demo's tests stand on: a drawn photo, and a detector that knows where its plate is."""

from __future__ import annotations

import io
from typing import Any

import cv2
import numpy as np
from PIL import Image as PillowImage

from plateblur.errors import DetectionError
from plateblur.types import Detections, Image

IMAGE_HW = (480, 640)
PLATE = (240, 300, 400, 340)  # xyxy of the drawn plate, pixels
MISSED = (40, 60, 160, 90)  # xyxy of a second drawn plate, which the detector never finds
FAINT = (500, 20, 560, 40)  # xyxy of a wall that it takes for a plate, at a low confidence


class DrawnDetector:
    """Finds one plate surely and one wrongly in every image, or fails."""

    def __init__(self, *, fails: bool = False) -> None:
        self.fails = fails

    def detect(self, image: Image, *, min_confidence: float, **how: Any) -> Detections:
        if self.fails:
            raise DetectionError("the detector failed")
        found = Detections(np.array([PLATE, FAINT], np.float32), np.array([0.9, 0.1], np.float32))
        return found.at_least(min_confidence)


def drawn_image(text: str = "AB 12 XYZ") -> Image:
    """Return (480, 640, 3) uint8 RGB with two plates that bear `text`."""
    rows = np.linspace(90, 200, IMAGE_HW[0])[:, None, None]
    image = np.broadcast_to(rows, (*IMAGE_HW, 3)).astype(np.uint8).copy()
    for x1, y1, x2, y2 in (PLATE, MISSED):
        cv2.rectangle(image, (x1, y1), (x2 - 1, y2 - 1), (245, 245, 240), cv2.FILLED)
        scale = (y2 - y1) / 40
        cv2.putText(image, text, (x1 + 4, y2 - 10), 0, scale * 0.9, (10, 10, 10), 2, cv2.LINE_AA)
    return image


def drawn_photo(format_: str = "JPEG", **options: Any) -> bytes:
    """Return a drawn scene with two plates, encoded."""
    out = io.BytesIO()
    PillowImage.fromarray(drawn_image()).save(out, format_, **options)
    return out.getvalue()


def contrast(image: Image, xyxy: tuple[int, int, int, int]) -> float:
    """Return how far the pixels inside a box differ, as 5th to 95th percentile, in levels."""
    x1, y1, x2, y2 = xyxy
    low, high = np.percentile(image[y1:y2, x1:x2].mean(axis=2), [5, 95])
    return float(high - low)
