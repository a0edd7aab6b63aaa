"""Whether hiding a plate's outline instead of its box is worth it on flat photos.

    python -m benchmarks.outlines

Drawn scenes have each plate's four corners, which no labelled set has. For each plate that the
detector finds, three ways of hiding it are compared: the box, an outline worked out from the box
and the slope of the edges inside it, and the true corners, which no outline can beat. All have the
default margin. Written to `benchmarks/results/outlines.json`: the share of plates of which at least
99 % is hidden, and what is hidden beside the plate, in plates' areas.
"""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from plateblur.boxes import iou_matrix
from plateblur.detector import OnnxDetector
from plateblur.drawn.scene import draw_scene
from plateblur.outlines import Region, box_regions, flat_regions
from plateblur.types import BlurOptions, Image

RESULTS = Path(__file__).parent / "results" / "outlines.json"
SCENES = 15  # of each tilt
TILTS_DEG = {"upright, within 2": (-2.0, 2.0), "within 8": (-8.0, 8.0), "10 to 30": (10.0, 30.0)}
IMAGE_HW = (720, 1280)
MARGIN, MIN_CONFIDENCE = BlurOptions().margin, BlurOptions().min_confidence


def slope_in(image: Image, box: NDArray[np.float32]) -> float:
    """Return how much a plate's long edges fall to the right, radians, from -45 to 45 degrees.

    The strongest direction among the gradients that are nearer to upright than to level: the
    plate's upper and lower edge, and those of its letters.
    """
    x1, y1, x2, y2 = (int(side) for side in (*np.floor(box[:2]), *np.ceil(box[2:])))
    grey = cv2.cvtColor(image[max(0, y1) : y2, max(0, x1) : x2], cv2.COLOR_RGB2GRAY)
    if min(grey.shape) < 3:
        return 0.0
    across = cv2.Sobel(grey, cv2.CV_32F, 1, 0, ksize=3)
    down = cv2.Sobel(grey, cv2.CV_32F, 0, 1, ksize=3)
    down, across = np.where(down < 0, -down, down), np.where(down < 0, -across, across)
    angle = np.arctan2(-across, down)  # of the edge; 0 is level
    weight = np.hypot(across, down) * (np.abs(angle) < np.pi / 4)
    counts, edges = np.histogram(angle, bins=90, range=(-np.pi / 4, np.pi / 4), weights=weight)
    soft = np.convolve(counts, [1, 2, 3, 2, 1], mode="same")
    at = int(soft.argmax())
    return float((edges[at] + edges[at + 1]) / 2)


def outline_of(box: NDArray[np.float32], slope: float) -> NDArray[np.float32]:
    """Return the corners, (4, 2), of the rectangle of that slope whose bounds are the box."""
    width, height = box[2] - box[0], box[3] - box[1]
    sine, cosine = abs(np.sin(slope)), np.cos(slope)
    # width = a * cosine + b * sine; height = a * sine + b * cosine
    level = cosine**2 - sine**2
    a = (width * cosine - height * sine) / max(level, 1e-3)
    b = (height * cosine - width * sine) / max(level, 1e-3)
    if a <= 0 or b < 0.15 * a:  # no plate has such bounds at this slope
        return np.array([[box[i], box[j]] for i, j in ((0, 1), (2, 1), (2, 3), (0, 3))], np.float32)
    along = np.array([np.cos(slope), np.sin(slope)]) * a / 2
    beside = np.array([-np.sin(slope), np.cos(slope)]) * b / 2
    middle = np.array([box[0] + box[2], box[1] + box[3]]) / 2
    signs = ((-1, -1), (1, -1), (1, 1), (-1, 1))
    return np.array([middle + s * along + t * beside for s, t in signs], np.float32)


def mask_of(regions: list[Region]) -> NDArray[np.bool_]:
    """Return which pixels the regions hide."""
    mask = np.zeros(IMAGE_HW, np.bool_)
    for region in regions:
        x1, y1, x2, y2 = region.bounds
        mask[y1:y2, x1:x2] |= region.mask
    return mask


def measure(tilt_deg: tuple[float, float], detector: OnnxDetector) -> dict[str, object]:
    """Return the figures of one range of tilts."""
    names = ("box", "outline from slopes", "true outline")
    covered: dict[str, list[bool]] = {name: [] for name in names}
    beside: dict[str, list[float]] = {name: [] for name in names}
    hidden_share: dict[str, list[float]] = {name: [] for name in names}
    for seed in range(SCENES):
        scene = draw_scene(
            seed,
            image_hw=IMAGE_HW,
            tilt_deg=tilt_deg,
            side_deg=(-45.0, 45.0),
            ratios=(1 / 25, 1 / 10),
        )
        found = detector.detect(scene.image, min_confidence=MIN_CONFIDENCE)
        overlaps = iou_matrix(scene.xyxy, found.xyxy)
        for quad, overlap in zip(scene.quads, overlaps, strict=True):
            if overlap.max(initial=0) < 0.3:
                continue
            box = found.xyxy[int(overlap.argmax())]
            guess = outline_of(box, slope_in(scene.image, box))
            masks = {
                "box": mask_of(box_regions(box[None], image_hw=IMAGE_HW, margin=MARGIN)),
                "outline from slopes": mask_of(
                    flat_regions(guess[None], image_hw=IMAGE_HW, margin=MARGIN)
                ),
                "true outline": mask_of(flat_regions(quad[None], image_hw=IMAGE_HW, margin=MARGIN)),
            }
            plate = np.zeros(IMAGE_HW, np.uint8)
            cv2.fillConvexPoly(plate, np.rint(quad).astype(np.int32), 1)
            on_plate = plate.astype(bool)
            for name, mask in masks.items():
                covered[name].append(bool((mask & on_plate).sum() >= 0.99 * on_plate.sum()))
                beside[name].append(float((mask & ~on_plate).sum() / on_plate.sum()))
                hidden_share[name].append(float(mask.mean()))
    return {
        "plates": len(covered["box"]),
        "covered99": {name: round(float(np.mean(c)), 4) for name, c in covered.items()},
        "hidden beside a plate, plates": {
            n: round(float(np.mean(b)), 2) for n, b in beside.items()
        },
        "share of the photo hidden, a plate": {
            n: round(float(np.mean(h)), 5) for n, h in hidden_share.items()
        },
    }


def main() -> None:
    """Measure and write the figures."""
    detector = OnnxDetector.shipped()
    table = {name: measure(tilts, detector) for name, tilts in TILTS_DEG.items()}
    RESULTS.write_text(json.dumps(table, indent=2) + "\n")
    print(json.dumps(table, indent=2))


if __name__ == "__main__":
    main()
