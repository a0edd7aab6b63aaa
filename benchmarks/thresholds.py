"""Count what each minimum confidence misses and blurs without need, on a split.

    python -m training.evaluate --data DATA.yaml --split val --out runs/val \
        --labels-overlay datasets/corrections/plates.jsonl
    python -m benchmarks.thresholds runs/val/predictions.jsonl --data DATA.yaml

The first line keeps what the shipped detector finds; it takes some minutes on two cores. The second
only counts, in seconds, and writes `benchmarks/results/thresholds.json`, which
`docs/howto/threshold.md` shows. A threshold is chosen on val, so test isn't taken.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from plateblur.boxes import iou_matrix
from plateblur.detector import shipped_model
from plateblur.guidance import GUIDANCE_RATIO, plate_ratios
from plateblur.sets.corrections import read_corrections
from plateblur.sets.metrics import COVERED_SHARE, FALSE_BOX_IOU, coverage
from plateblur.sets.predictions import Predictions, read_predictions
from plateblur.sets.split import LabelledPhoto, corrected_photo, labels_hash, read_split
from plateblur.types import COUNT_FLOOR, BlurOptions

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results" / "thresholds.json"
OVERLAY = ROOT / "datasets" / "corrections" / "plates.jsonl"
CONFIDENCES = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.45, 0.5, 0.6, 0.7, 0.8, 0.9)


def row(
    confidence: float, photos: Sequence[LabelledPhoto], predictions: Predictions, *, margin: float
) -> dict[str, Any]:
    """Return what boxes from `confidence` up miss, hide, and blur without need.

    Args:
        confidence: the smallest that is blurred.
        photos: with their truth.
        predictions: of these photos.
        margin: widening of a box on each side, share of its size.
    """
    hidden: dict[str, list[float]] = {"within 1:15": [], "all": []}
    false_boxes = 0
    for photo in photos:
        rows = predictions[photo.path.name]
        boxes = rows[rows[:, 4] >= confidence, :4]
        shares = coverage(photo.truth, boxes, margin=margin)
        near = plate_ratios(photo.truth, image_hw=photo.image_hw) >= GUIDANCE_RATIO
        hidden["within 1:15"] += shares[near].tolist()
        hidden["all"] += shares.tolist()
        overlap = iou_matrix(boxes.astype(np.float32), photo.truth.astype(np.float32))
        false_boxes += int((overlap.max(axis=1, initial=0) < FALSE_BOX_IOU).sum())
    return {
        "min_confidence": confidence,
        **{
            name: {
                "plates": len(shares),
                "missed": sum(share == 0 for share in shares),
                "covered99": sum(share >= COVERED_SHARE for share in shares),
            }
            for name, shares in hidden.items()
        },
        "false_boxes": false_boxes,
        "false_boxes_per_photo": round(false_boxes / len(photos), 4),
    }


def counted(photos: Sequence[LabelledPhoto], predictions: Predictions) -> dict[str, float]:
    """Return how many predictions a plan counts for a photo, and where they come from.

    Args:
        photos: with their corrected truth.
        predictions: of these photos, down to the floor of what is counted at least.
    """
    boxes = sum(int((predictions[one.path.name][:, 4] >= COUNT_FLOOR).sum()) for one in photos)
    plates = sum(len(one.truth) for one in photos)
    return {
        "floor": COUNT_FLOOR,
        "plates_a_photo": round(plates / len(photos), 3),
        "predictions_a_photo": round(boxes / len(photos), 3),
        "photos_of_10000_predictions": round(10_000 * len(photos) / boxes),
    }


def measure(
    data: Path, predictions: Predictions, *, overlay: Path, split: str = "val"
) -> dict[str, Any]:
    """Return the table for corrected and for original labels.

    Raises:
        ValueError: photos of the split without predictions.
    """
    labelled = read_split(data, split, manifest=None)
    missing = [one.path.name for one in labelled if one.path.name not in predictions]
    if missing:
        raise ValueError(
            f"expected predictions of {len(labelled)} photos, {len(missing)} have none"
        )
    corrections = read_corrections(overlay)
    corrected = [corrected_photo(photo, corrections) for photo in labelled]
    margin = BlurOptions().margin
    return {
        "split": split,
        "photos": len(labelled),
        "labels_hash": labels_hash(labelled),
        "model_sha256": hashlib.sha256(shipped_model().read_bytes()).hexdigest(),
        "margin": margin,
        "counted": counted(corrected, predictions),
        "corrected": [row(c, corrected, predictions, margin=margin) for c in CONFIDENCES],
        "original": [row(c, labelled, predictions, margin=margin) for c in CONFIDENCES],
    }


def main() -> None:
    """Read the command line, count and write the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("predictions", type=Path, help="predictions.jsonl of training.evaluate")
    parser.add_argument("--data", type=Path, required=True, help="data.yaml of the data set")
    parser.add_argument("--labels-overlay", type=Path, default=OVERLAY, help="JSON lines")
    parser.add_argument("--out", type=Path, default=RESULTS, help="default: %(default)s")
    given = parser.parse_args()
    found = measure(given.data, read_predictions(given.predictions), overlay=given.labels_overlay)
    given.out.write_text(json.dumps(found, indent=2) + "\n")
    print(f"{given.out}: {len(CONFIDENCES)} thresholds over {found['photos']} photos")


if __name__ == "__main__":
    main()
