"""Fit the loose labels of train to their plates, and write that as corrections.

    python datasets/refit.py SET --only oi-google1800 --model runs/first/plates.onnx \
        --overlay datasets/corrections/plates.jsonl

A detector averages over the labels that it was trained on: where single boxes sit beside, below or
around their plate, its own lie better. What it keeps of them is that its boxes are too large. By
how much is measured on val, whose labels of these sets must be sound (look at them with
`review.py`), and taken off. Each label of train that a box matches, and that the box so mended
disagrees with, moves onto it. Look at a sample of what was moved before you train on it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plateblur.boxes import iou_matrix
from plateblur.detector import shipped_model
from plateblur.sets import findings, layout
from plateblur.sets.corrections import append_corrections

MATCH_IOU = 0.5  # overlap from which a label and a box are of the same plate
AGREE_IOU = 0.85  # overlap from which a label stays as it is; then the box may be the worse one
MIN_CONFIDENCE = 0.4  # of a box that may replace a label; edges of unsure boxes are unsure too
AT_EDGE_PX = 1.5  # a label this near the picture's edge is of a plate that the edge cuts
# Plate heights, pixels, between which the excess is measured together: relative to the plate it is
# larger the smaller the plate is. The last band has no end.
BANDS_PX = (0, 8, 30, 140)
MIN_PLATES = 20  # in a band, for its medians to be used
REASON = "loose label, moved onto the detector's box less its excess on val"


@dataclass(frozen=True, slots=True)
class Excess:
    """By how much boxes are larger than the labels of a band of plate heights.

    Attributes:
        from_px: height of the smallest plates of the band, pixels.
        plates: how many were measured.
        width: median of what a box has too much left and right, share of its width a side.
        height: the same above and below, share of its height a side.
    """

    from_px: int
    plates: int
    width: float
    height: float


def matched(photo: findings.Reviewed) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Return the labels of a photo that a sure box matches, each with its box, both (4,) `xyxy`.

    Label and box are each other's best: of two labels on one plate, one has no box.

    Args:
        photo: with labels and detections.
    """
    sure = photo.found[photo.found[:, 4] >= MIN_CONFIDENCE, :4]
    if len(sure) == 0 or len(photo.truth) == 0:
        return []
    overlap = iou_matrix(photo.truth.astype(np.float32), sure.astype(np.float32))
    best_box, best_label = overlap.argmax(axis=1), overlap.argmax(axis=0)
    return [
        (label, sure[best_box[row]])
        for row, label in enumerate(photo.truth)
        if overlap[row].max() >= MATCH_IOU and best_label[best_box[row]] == row
    ]


def measure_excess(photos: Sequence[findings.Reviewed]) -> list[Excess]:
    """Return for each band of plate heights by how much the boxes are larger than the labels.

    Args:
        photos: of val; a band with fewer than `MIN_PLATES` plates on them has no excess.
    """
    pairs = [pair for photo in photos for pair in matched(photo)]
    labels, boxes = (np.array([pair[i] for pair in pairs]).reshape(-1, 4) for i in (0, 1))
    sides = boxes[:, 2:] - boxes[:, :2]
    # How far each edge of the box is outside the label; left, top, right, bottom.
    outside = (boxes - labels) * [-1, -1, 1, 1] / np.hstack([sides, sides])
    band_of = np.digitize(sides[:, 1], BANDS_PX) - 1
    measured = []
    for band, from_px in enumerate(BANDS_PX):
        own = outside[band_of == band]
        left, top, right, bottom = (
            np.median(own, axis=0).tolist() if len(own) >= MIN_PLATES else (0.0,) * 4
        )
        width, height = max((left + right) / 2, 0.0), max((top + bottom) / 2, 0.0)
        measured.append(Excess(from_px, len(own), round(width, 4), round(height, 4)))
    return measured


def without_excess(box: NDArray[np.float64], excess: Sequence[Excess]) -> NDArray[np.float64]:
    """Return a box made smaller by the excess of its band.

    Args:
        box: (4,) `xyxy`, pixels.
        excess: of `measure_excess`.
    """
    width, height = box[2] - box[0], box[3] - box[1]
    band = [one for one in excess if one.from_px <= height][-1]
    inwards = np.array([band.width * width, band.height * height])
    return np.concatenate([box[:2] + inwards, box[2:] - inwards])


def refit(
    photo: findings.Reviewed, excess: Sequence[Excess], *, agree_iou: float
) -> dict[str, Any] | None:
    """Return the correction that moves a photo's loose labels, or None where they are sound.

    Args:
        photo: of train.
        excess: of `measure_excess`.
        agree_iou: overlap with the mended box from which a label stays as it is.
    """
    moved = []
    edges = np.array([0, 0, photo.row.width, photo.row.height])
    for label, box in matched(photo):
        fitted = without_excess(box, excess)
        # The detector learnt to stop short of the edge; the label of a cut plate does not.
        fitted = np.where(np.abs(label - edges) < AT_EDGE_PX, label, fitted).round(1)
        overlap = iou_matrix(label[None].astype(np.float32), fitted[None].astype(np.float32)).item()
        if MATCH_IOU <= overlap < agree_iou:
            moved.append((fitted.tolist(), label.round(1).tolist()))
    if not moved:
        return None
    boxes, labels = zip(*moved, strict=True)
    return {
        "image": photo.row.name,
        "action": "move",
        "boxes": list(boxes),
        "replaces": list(labels),
        "reason": REASON,
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line and write the corrections."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("root", type=Path, metavar="SET", help="folder of a set")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="of these sets")
    parser.add_argument("--model", type=Path, default=shipped_model(), help="ONNX")
    parser.add_argument("--overlay", type=Path, required=True, help="corrections, JSON lines")
    parser.add_argument(
        "--agree", type=float, default=AGREE_IOU, metavar="IOU", help="from which a label stays"
    )
    given = parser.parse_args(argv)
    val = findings.Config(given.root, "val", given.model, overlay=given.overlay, sets=given.only)
    excess = measure_excess(findings.read_reviewed(val))
    lines = [(f"from {e.from_px}", e.plates, f"{e.width:.1%}", f"{e.height:.1%}") for e in excess]
    print(layout.table(("px", "plates of val", "too wide a side", "too high a side"), lines))
    train = findings.read_reviewed(replace(val, split="train"))
    records = [record for photo in train if (record := refit(photo, excess, agree_iou=given.agree))]
    added = append_corrections(given.overlay, records)
    plates = sum(len(photo.truth) for photo in train)
    print(f"{sum(len(one.boxes) for one in added)} of {plates} labels of train moved")


if __name__ == "__main__":
    layout.run(main)
