"""What is suspicious about a set's labels: where they and a detector's boxes disagree."""

from __future__ import annotations

import csv
import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from plateblur.boxes import iou_matrix
from plateblur.detector import OnnxDetector
from plateblur.guidance import plate_ratios, ratio_text
from plateblur.photo import decode
from plateblur.pipeline import find_plates
from plateblur.sets import layout, merge
from plateblur.sets.corrections import correct, parse_corrections
from plateblur.sets.labels import TruthBoxes
from plateblur.sets.metrics import COVERED_SHARE, FALSE_BOX_IOU, coverage
from plateblur.sets.predictions import read_predictions
from plateblur.types import BlurOptions

Kind = Literal["unlabelled", "loose", "missed", "near-duplicate", "mistaken"]
"""Why a photo is worth a look.

`unlabelled`: a sure detection that touches no label; a plate without one, or a false box.
`loose`: a label that a sure detection crosses or touches without matching it.
`missed`: a labelled plate that the blur would not hide, the largest first: the hardest misses.
`near-duplicate`: looks like another photo of the split.
`mistaken`: FiftyOne's mistakenness of a label, from the confidence of what disagrees with it.
"""

SURE = 0.5  # confidence of a detection that is held against a label
LOOSE_IOU = 0.6  # below it, box and label disagree; tight boxes of the same plate are above 0.7
BESIDE_HEIGHTS = 2.0  # distance of centres, in heights of the label, that is still the same plate


@dataclass(frozen=True, slots=True)
class Config:
    """What to look at; filled from the command line."""

    root: Path  # folder of a set
    split: str  # train, val or test
    model: Path  # ONNX model whose detections are compared with the labels
    predictions: Path | None = None  # stored ones of training/evaluate.py instead
    overlay: Path | None = None  # corrections of labels, JSON lines
    sets: Sequence[str] = ()  # only photos of these sets
    min_confidence: float = BlurOptions().min_confidence  # smallest confidence that is blurred


@dataclass(frozen=True, slots=True)
class Reviewed:
    """One photo with labels and detections.

    Attributes:
        path: of the photo.
        row: of the manifest.
        truth: (N, 4) float64 `xyxy`, corrected labels, pixels of the upright image.
        found: (M, 5) float64, the detections' `xyxy` and confidence.
    """

    path: Path
    row: layout.Row
    truth: TruthBoxes
    found: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Finding:
    """One suspicious thing.

    Attributes:
        image: file name of the photo.
        kind: see `Kind`.
        rank: larger for likelier faults, or for worse misses; comparable within a kind.
        box: four pixels of the box in question; none for a near-duplicate.
        other: the box or the photo that disagrees.
    """

    image: str
    kind: Kind
    rank: float
    box: tuple[float, ...] = ()
    other: str = ""


def read_reviewed(config: Config) -> list[Reviewed]:
    """Return the photos of the split, their labels corrected, with what the detector finds.

    Raises:
        DatasetError: the set can't be read, a photo has no stored prediction, or no photo is left.
    """
    corrections = defaultdict(list)
    if config.overlay and config.overlay.exists():
        for correction in parse_corrections(config.overlay.read_text(encoding="utf-8")):
            corrections[correction.image].append(correction)
    rows = [
        row
        for row in layout.read_manifest(config.root)
        if row.split == config.split and (not config.sets or row.set in config.sets)
    ]
    if not rows:
        raise layout.DatasetError(f"expected photos of {config.split} in {config.root}, found none")
    stored = read_predictions(config.predictions) if config.predictions else None
    detector = None if stored is not None else OnnxDetector(config.model)
    reviewed = []
    for row in rows:
        path = config.root / row.image
        try:
            truth = correct(layout.read_boxes(config.root, row), corrections[row.name])
        except ValueError as error:
            raise layout.DatasetError(str(error)) from error
        if detector is not None:
            boxes = find_plates(
                decode(path.read_bytes()), detector, min_confidence=config.min_confidence / 5
            )
            found = np.column_stack([boxes.xyxy, boxes.confidence]).astype(np.float64)
        elif stored is not None and row.name in stored:
            found = stored[row.name]
        else:
            raise layout.DatasetError(f"{config.predictions}: expected a line for {row.name}")
        reviewed.append(Reviewed(path, row, truth, found))
    return reviewed


def suspicious(photo: Reviewed, *, min_confidence: float) -> Iterator[Finding]:
    """Yield where labels and detections of one photo disagree.

    Args:
        photo: with both.
        min_confidence: smallest confidence of a box that is blurred.
    """
    name, truth = photo.row.name, photo.truth
    sure = photo.found[photo.found[:, 4] >= SURE]
    overlap = iou_matrix(sure[:, :4].astype(np.float32), truth.astype(np.float32))
    beside: set[int] = set()
    for plate, label in enumerate(truth):
        best = int(overlap[:, plate].argmax()) if len(sure) else -1
        if best >= 0 and overlap[best, plate] >= LOOSE_IOU:
            continue
        off = heights_away(label, sure[:, :4])
        nearest = best if best >= 0 and overlap[best, plate] >= FALSE_BOX_IOU else -1
        if nearest < 0 and len(sure) and off.min() <= BESIDE_HEIGHTS:
            nearest = int(off.argmin())
        # A detection with its own label says nothing about the label beside it.
        if nearest >= 0 and overlap[nearest].max(initial=0) < LOOSE_IOU:
            beside.add(nearest)
            rank = float(sure[nearest, 4] * (1 - overlap[nearest, plate]))
            yield Finding(name, "loose", rank, _numbers(label), _text(sure[nearest, :4]))
    for row, box in enumerate(sure):
        if row not in beside and overlap[row].max(initial=0) < FALSE_BOX_IOU:
            yield Finding(name, "unlabelled", float(box[4]), _numbers(box[:4]))
    kept = photo.found[photo.found[:, 4] >= min_confidence, :4]
    hidden = coverage(truth, kept, margin=BlurOptions().margin)
    ratios = plate_ratios(truth, image_hw=(photo.row.height, photo.row.width))
    for label, share, ratio in zip(truth, hidden, ratios, strict=True):
        if share < COVERED_SHARE:
            rank = float((1 - share) * ratio)
            yield Finding(
                name, "missed", rank, _numbers(label), f"{ratio_text(ratio)}, hidden {share:.2f}"
            )


def heights_away(label: NDArray[np.float64], boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how far the boxes' centres are from the label's, in heights of the label."""
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    away = np.hypot(*(centres - (label[:2] + label[2:]) / 2).T)
    heights: NDArray[np.float64] = away / max(label[3] - label[1], 1.0)
    return heights


def near_duplicates(photos: Sequence[Reviewed]) -> Iterator[Finding]:
    """Yield the photos that look like another one, by the perceptual hash that `merge.py` uses."""
    looks = np.array(
        [merge.perceptual_hash(photo.path.read_bytes()) for photo in photos], dtype=np.uint64
    )
    for first, second, bits in merge.near_pairs(looks, near_bits=merge.NEAR_BITS):
        other = photos[first].row.name
        yield Finding(photos[second].row.name, "near-duplicate", -float(bits), other=other)


def _numbers(box: Iterable[float]) -> tuple[float, ...]:
    return tuple(round(float(number), 1) for number in box)


def _text(box: Iterable[float]) -> str:
    return " ".join(f"{number:g}" for number in _numbers(box))


def write_findings(findings: Sequence[Finding], path: Path) -> None:
    """Write a table of findings, to be kept private because it says where plates are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("image", "kind", "rank", "box", "other"))
        writer.writerows(
            (f.image, f.kind, f"{f.rank:.4f}", _text(f.box), f.other) for f in findings
        )


def findings_by_set(
    photos: Sequence[Reviewed], findings: Sequence[Finding]
) -> dict[str, dict[str, int]]:
    """Return by set the number of its photos, and of findings of each kind on them."""
    set_of = {photo.row.name: photo.row.set for photo in photos}
    number = Counter((set_of[finding.image], finding.kind) for finding in findings)
    return {
        name: {"photos": size} | {kind: number[name, kind] for kind in get_args(Kind)}
        for name, size in sorted(Counter(set_of.values()).items())
    }


def findings_table(photos: Sequence[Reviewed], findings: Sequence[Finding]) -> str:
    """Return how many findings of each kind the photos of each set have."""
    kinds = ("photos", *get_args(Kind))
    by_set = findings_by_set(photos, findings)
    lines = [(name, *(numbers[kind] for kind in kinds)) for name, numbers in by_set.items()]
    return layout.table(("set", *kinds), lines)


def write_summary(
    photos: Sequence[Reviewed], findings: Sequence[Finding], path: Path, *, config: Config
) -> None:
    """Write the numbers of findings beside those of other splits.

    No photo is named, so that the file can be published.
    """
    detector = config.predictions or config.model
    summary = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    summary[config.split] = {
        "detector_sha256": hashlib.sha256(detector.read_bytes()).hexdigest(),
        "sets": findings_by_set(photos, findings),
    }
    path.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
