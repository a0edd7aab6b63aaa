"""What a report says of a photo."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from plateblur.guidance import plate_ratios, ratio_text
from plateblur.types import Detections


def described(detections: Detections, image_hw: tuple[int, int], projection: str) -> dict[str, Any]:
    """Return detections, and how they were looked for, as the JSON that both commands write."""
    height, width = image_hw
    searched = detections.searched
    return {
        "width": width,
        "height": height,
        **({} if projection == "flat" else {"projection": projection}),
        **({} if searched is None else asdict(searched)),
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
