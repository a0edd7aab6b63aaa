"""Draw detections on a copy of an image."""

from __future__ import annotations

import cv2

from plateblur.boxes import pixel_bounds
from plateblur.types import Detections, Image

COLOUR = (255, 196, 0)  # amber: seen on asphalt, paint and sky alike
LINE_SHARE = 1 / 400  # of the image's shorter side
FONT = cv2.FONT_HERSHEY_SIMPLEX


def draw_detections(image: Image, detections: Detections) -> Image:
    """Return a copy of `image` with each detection's box and confidence.

    Args:
        image: (H, W, 3) uint8 RGB; blurred already, since what is drawn hides nothing.
        detections: boxes in pixels of `image`.
    """
    drawn = image.copy()
    line_px = max(1, round(min(image.shape[:2]) * LINE_SHARE))
    scale = max(0.35, line_px * 0.3)
    bounds = pixel_bounds(detections.xyxy, image_hw=image.shape[:2])
    for (x1, y1, x2, y2), confidence in zip(
        bounds.tolist(), detections.confidence.tolist(), strict=True
    ):
        cv2.rectangle(drawn, (x1, y1), (x2 - 1, y2 - 1), COLOUR, line_px)
        label = f"{confidence:.2f}"
        (width, height), below = cv2.getTextSize(label, FONT, scale, line_px)
        # Above the box; else below it; else, where the box fills the image, inside its top.
        base_y = y1 - line_px - below
        if base_y <= height:
            base_y = y2 + height + line_px
        if base_y + below >= image.shape[0]:
            base_y = y1 + height + line_px
        cv2.rectangle(
            drawn, (x1, base_y - height - 1), (x1 + width, base_y + below), COLOUR, cv2.FILLED
        )
        cv2.putText(drawn, label, (x1, base_y), FONT, scale, (0, 0, 0), line_px, cv2.LINE_AA)
    return drawn
