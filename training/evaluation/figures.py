"""The figures of a detector on a split, misses first, and the comparison of two detectors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plateblur.boxes import iou_matrix
from plateblur.guidance import BUCKET_NAMES, GUIDANCE_RATIO, bucket_indices
from plateblur.sets.corrections import Correction
from plateblur.sets.metrics import (
    COVERED_SHARE,
    FALSE_BOX_IOU,
    Difference,
    Figures,
    Floats,
    Scores,
    calibration,
    coverage,
    expected_calibration_error,
    figures,
    paired_bootstrap,
    share,
    threshold_for_recall,
)
from plateblur.sets.predictions import Predictions
from plateblur.sets.split import LabelledPhoto
from training.evaluation.config import Config

RANGES: dict[str, tuple[int, ...]] = {
    "within 1:15": (0, 1),
    "1:15-1:30": (2, 3),
    "1:30-1:60": (4,),
    "below 1:60": (5,),
}
"""Names of the ranges that figures are promised for, and their buckets."""

DISTANCES: dict[str, tuple[int, ...]] = {"down to 1:30": (0, 1, 2, 3), "below 1:30": (4, 5)}
"""Names of the two ranges by which sets are compared, and their buckets."""

SWEEP = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Confidences at which the cost of a threshold is shown."""


def all_figures(scores: Scores, photos: Sequence[LabelledPhoto]) -> dict[str, Any]:
    """Return the figures overall, by range, plate ratio, set, region, and by set near and far."""
    overall = figures(scores)
    return {
        "overall": asdict(overall),
        "ranges": {
            name: asdict(figures(scores, buckets=buckets)) for name, buckets in RANGES.items()
        },
        "by_ratio": {
            name: asdict(figures(scores, buckets=[bucket]))
            for bucket, name in enumerate(BUCKET_NAMES)
        },
        "by_set": _figures_by(scores, photos, "set"),
        "by_region": _figures_by(scores, photos, "region"),
        "by_set_and_distance": {
            distance: _figures_by(scores, photos, "set", buckets=buckets)
            for distance, buckets in DISTANCES.items()
        },
    }


def _figures_by(
    scores: Scores,
    photos: Sequence[LabelledPhoto],
    key: str,
    *,
    buckets: Collection[int] | None = None,
) -> dict[str, dict[str, Any]]:
    names = np.array([photo.group.get(key, "") for photo in photos])
    grouped: dict[str, Figures] = {
        name: figures(scores, photos=names == name, buckets=buckets)
        for name in sorted(set(names.tolist()) - {""})
    }
    return {name: asdict(group) for name, group in grouped.items()}


def false_boxes_on(
    photos: Sequence[LabelledPhoto],
    predictions: Predictions,
    marks: Iterable[Correction],
    config: Config,
) -> dict[str, int]:
    """Count false boxes by what they cover: a marked thing, the area beside a plate, or neither.

    Args:
        photos: with their truth.
        predictions: of these photos.
        marks: corrections that name what a box without a plate shows.
        config: whose `min_confidence` counts.
    """
    counts: Counter[str] = Counter()
    by_image: dict[str, list[Correction]] = {}
    for mark in marks:
        by_image.setdefault(mark.image, []).append(mark)
    for photo in photos:
        rows = predictions[photo.path.name]
        for row in rows[rows[:, 4] >= config.min_confidence]:
            box = row[None, :4].astype(np.float32)
            overlap = iou_matrix(box, photo.truth.astype(np.float32))
            if overlap.max(initial=0) < FALSE_BOX_IOU:
                counts[_what_lies_there(box, overlap, by_image.get(photo.path.name, []))] += 1
    return dict(counts.most_common())


def _what_lies_there(
    box: NDArray[np.float32], overlap: NDArray[np.float32], marks: Iterable[Correction]
) -> str:
    for mark in marks:
        if iou_matrix(box, mark.boxes.astype(np.float32)).max() >= FALSE_BOX_IOU:
            return mark.reason
    if overlap.size == 0:
        return "a photo without plates"
    return "beside a plate" if overlap.max() > 0 else "elsewhere on a photo with plates"


def calibration_of(scores: Scores) -> dict[str, Any]:
    """Return the bins of confidence against precision, and the mean gap between the two.

    The gap is that of boxes that are blurred: most boxes down to the floor are background with a
    very low confidence, and would hide any other fault.
    """
    correct = scores.match[0] >= 0
    bins = calibration(scores.box_confidence, correct)
    kept = calibration(scores.box_confidence[scores.kept], correct[scores.kept])
    return {
        "expected_calibration_error": expected_calibration_error(kept),
        "bins": [asdict(b) for b in bins],
    }


def threshold_costs(
    scores: Scores,
    photos: Sequence[LabelledPhoto],
    predictions: Predictions,
    confidences: Iterable[float],
) -> list[dict[str, Any]]:
    """Return what would be found and hidden at each minimum confidence, with the false boxes."""
    within = scores.plate_ratio >= GUIDANCE_RATIO
    costs = []
    for confidence in confidences:
        recalled = scores.best_confidence >= confidence
        hidden = hidden_at(confidence, photos, predictions, margin=scores.margin)
        false_boxes = int((scores.off_plates & (scores.box_confidence >= confidence)).sum())
        costs.append(
            {
                "min_confidence": confidence,
                "within 1:15": {
                    "recall": asdict(share(int(recalled[within].sum()), int(within.sum()))),
                    "covered99": asdict(share(int(hidden[within].sum()), int(within.sum()))),
                },
                "overall": {
                    "recall": asdict(share(int(recalled.sum()), len(recalled))),
                    "covered99": asdict(share(int(hidden.sum()), len(hidden))),
                },
                "false_boxes_per_photo": false_boxes / len(photos),
            }
        )
    return costs


def hidden_at(
    confidence: float,
    photos: Sequence[LabelledPhoto],
    predictions: Predictions,
    *,
    margin: float,
) -> NDArray[np.bool_]:
    """Return for each plate whether boxes from `confidence` up hide at least 99 % of it."""
    covered = [np.zeros(0)]
    for photo in photos:
        rows = predictions[photo.path.name]
        kept = rows[rows[:, 4] >= confidence, :4]
        covered.append(coverage(photo.truth, kept, margin=margin))
    return np.concatenate(covered) >= COVERED_SHARE


def cost_of_recall(
    scores: Scores, photos: Sequence[LabelledPhoto], predictions: Predictions, target: float
) -> dict[str, Any]:
    """Return the highest threshold with this recall within 1:15, and what it costs."""
    within = scores.plate_ratio >= GUIDANCE_RATIO
    threshold = threshold_for_recall(scores.best_confidence[within], target=target)
    at = [] if threshold is None else threshold_costs(scores, photos, predictions, [threshold])
    return {"target": target, "min_confidence": threshold, "cost": at[0] if at else None}


def headline(metrics: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the few figures by which detectors are compared, rounded, misses first.

    Args:
        metrics: what `evaluate` counted, or its `labels_as_they_are`.
    """
    rows = {
        f"{figure}, {name}": metrics["ranges"][name][figure]["value"]
        for name in RANGES
        for figure in ("covered99", "recall")
    }
    overall = metrics["overall"]
    rows |= {"covered99": overall["covered99"]["value"], "recall": overall["recall"]["value"]}
    rows |= {key: overall[key] for key in ("false_boxes_per_photo", "ap50", "ap50_95")}
    return {key: None if value is None else round(value, 4) for key, value in rows.items()}


def differences(
    first: Scores, second: Scores, *, resamples: int, seed: int
) -> dict[str, dict[str, Any]]:
    """Return by how much `second` is above `first`, over the same photos, with paired intervals.

    Args:
        first: rows of the model that is compared with.
        second: rows of the model in question, on the same photos and truth.
        resamples: of the bootstrap over photos.
        seed: of the bootstrap.
    """
    rows: dict[str, dict[str, Any]] = {}
    every = {"overall": tuple(range(len(BUCKET_NAMES))), **RANGES}
    for name, buckets in every.items():
        for figure, flags in {
            "recall": (first.recalled, second.recalled),
            "covered99": (first.hidden, second.hidden),
        }.items():
            wanted = np.isin(bucket_indices(first.plate_ratio), buckets)
            of = _sums(first.plate_photo, wanted, first)
            counts = (
                _sums(first.plate_photo, wanted & flags[0], first),
                _sums(second.plate_photo, wanted & flags[1], second),
            )
            drawn = paired_bootstrap(counts, (of, of), resamples=resamples, seed=seed)
            rows[f"{figure}, {name}"] = _difference_row(counts, (of, of), drawn)
    ones = np.ones(len(first.over_blur))
    false_boxes = tuple(
        _sums(scores.box_photo, scores.kept & scores.off_plates, scores)
        for scores in (first, second)
    )
    pair = (false_boxes[0], false_boxes[1])
    drawn = paired_bootstrap(pair, (ones, ones), resamples=resamples, seed=seed)
    rows["false boxes per photo"] = _difference_row(pair, (ones, ones), drawn)
    return rows


def _sums(photo: NDArray[np.int64], flags: NDArray[np.bool_], scores: Scores) -> Floats:
    """Return how many flags are set in each photo."""
    return np.bincount(photo[flags], minlength=len(scores.over_blur)).astype(np.float64)


def _difference_row(
    counts: tuple[Floats, Floats], of: tuple[Floats, Floats], drawn: Difference
) -> dict[str, Any]:
    values = [
        float(c.sum() / n.sum()) if n.sum() else None for c, n in zip(counts, of, strict=True)
    ]
    return {"first": values[0], "second": values[1], "difference": asdict(drawn)}
