"""Plate height : picture height, its buckets, and what the guidance says of it.

The plate ratio is the share of the picture's height that a plate takes up, written 1:12.4. The
guidance asks for at least 1:15, which is 72 px of a 1080 px picture; smaller plates may be missed.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

GUIDANCE_RATIO = 1 / 15  # Source: the service's guidance for photos; at and above it, plates count.

FAR_RATIO = GUIDANCE_RATIO / 2  # 1:30; below it a plate counts as far
UNSURE_BELOW = 0.6  # a choice: between the default minimum of 0.45 and the sure ones above 0.9
EDGE_PX = 2.0  # a box that ends so near to the photo's edge may be of a plate that is cut

BUCKET_EDGES = (1 / 10, 1 / 15, 1 / 20, 1 / 30, 1 / 60)
"""Smallest plate ratio of each bucket but the last, which takes all that is smaller."""

BUCKET_NAMES = (">=1:10", "1:10-1:15", "1:15-1:20", "1:20-1:30", "1:30-1:60", "<1:60")
"""Names of the buckets, near plates first; a plate on an edge is in the nearer bucket."""


def plate_ratios(
    xyxy: NDArray[np.floating[Any]], *, image_hw: tuple[int, int]
) -> NDArray[np.float64]:
    """Return each box's height as a share of the image's height.

    Args:
        xyxy: (N, 4), pixels of the upright image.
        image_hw: height and width of that image, pixels.

    Returns:
        (N,) float64; 1/15 for a plate of 1:15.

    Raises:
        ValueError: the image has no height.
    """
    height = image_hw[0]
    if height <= 0:
        raise ValueError(f"image_hw must be positive, got {image_hw}")
    boxes = np.asarray(xyxy, dtype=np.float64)
    ratios: NDArray[np.float64] = (boxes[:, 3] - boxes[:, 1]) / height
    return ratios


def ratio_text(ratio: float) -> str:
    """Return the ratio as people write it: "1:12.4".

    Rounded towards the smaller plate, because "1:15" must not stand beside "may be missed".

    Args:
        ratio: plate height as a share of the picture's height.
    """
    if ratio <= 0:
        return "1:inf"
    tenths = math.ceil(round(10 / ratio, 6))
    return f"1:{tenths / 10:.1f}".removesuffix(".0")


def within_guidance(ratio: float) -> bool:
    """Return whether a plate of this ratio is at least as large as the guidance asks for."""
    return ratio >= GUIDANCE_RATIO


def bucket_indices(ratios: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return for each plate ratio the index of its bucket in `BUCKET_NAMES`.

    Args:
        ratios: (N,) plate heights as shares of their picture's height.

    Returns:
        (N,) int64, 0 for the nearest plates.
    """
    edges = np.array(BUCKET_EDGES)
    indices: NDArray[np.int64] = (ratios[:, None] < edges[None, :]).sum(axis=1, dtype=np.int64)
    return indices


def advice(ratio: float) -> str:
    """Return the ratio and what the guidance says of it, for people.

    Args:
        ratio: plate height as a share of the picture's height.
    """
    if within_guidance(ratio):
        return f"{ratio_text(ratio)}, within {ratio_text(GUIDANCE_RATIO)}"
    return f"{ratio_text(ratio)}, may be missed: come closer or use a longer lens"


def hidden_advice(ratio: float) -> str:
    """Return what a plate that is hidden says about the photo, for people.

    A small one was found, but others of its size may not have been.

    Args:
        ratio: plate height as a share of the picture's height.
    """
    if within_guidance(ratio):
        return f"Hidden. {advice(ratio)}"
    return f"Hidden. Small ({ratio_text(ratio)}): look for others like it"


def marks(
    xyxy: NDArray[np.floating[Any]],
    confidence: NDArray[np.floating[Any]],
    *,
    image_hw: tuple[int, int],
) -> list[str]:
    """Return why somebody should look at a photo: "edge", "small" and "unsure", in this order.

    Args:
        xyxy: (N, 4), boxes that the detector found, pixels of the upright image.
        confidence: (N,), of each box.
        image_hw: height and width of that image, pixels.
    """
    if len(xyxy) == 0:
        return []
    height, width = image_hw
    to_edge = np.hstack([xyxy[:, :2], np.array([width, height]) - xyxy[:, 2:]])
    reasons = {
        "edge": to_edge.min() < EDGE_PX,
        "small": plate_ratios(xyxy, image_hw=image_hw).min() < FAR_RATIO,
        "unsure": confidence.min() < UNSURE_BELOW,
    }
    return [name for name, is_so in reasons.items() if is_so]
