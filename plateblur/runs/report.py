"""What a report says of a photo."""

from __future__ import annotations

from typing import Any

from plateblur.guidance import plate_ratios, ratio_text
from plateblur.types import Detections


def described(detections: Detections, image_hw: tuple[int, int]) -> dict[str, Any]:
    """Return detections as the JSON that both commands write."""
    height, width = image_hw
    return {
        "width": width,
        "height": height,
        "detections": [
            {
                "xyxy": [round(side, 1) for side in box],
                "confidence": round(confidence, 4),
                "plate_ratio": ratio_text(ratio),
            }
            for box, confidence, ratio in zip(
                detections.xyxy.tolist(),
                detections.confidence.tolist(),
                plate_ratios(detections.xyxy, image_hw=image_hw).tolist(),
                strict=True,
            )
        ],
    }
