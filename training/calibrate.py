"""Make a model's confidence a probability, measured by its boxes on the val split.

    python -m training.calibrate runs/first/plates.onnx --data DATA.yaml

Trained confidences only rank boxes. This fits a logistic curve to them, so that about half of the
boxes with confidence 0.5 are plates, and writes it into the model's metadata, where the detector
reads it. Source: J. Platt, "Probabilistic outputs for support vector machines", 1999; for
detectors F. Küppers et al., "Multivariate Confidence Calibration for Object Detection", 2020.

A curve fitted to few boxes does harm, so val must have enough boxes on plates and beside them.
The curve is also tried on photos that it was not fitted to (cross-validation). If it predicts them
no better than the network's own confidence, the model keeps that confidence.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from scipy.optimize import minimize

from plateblur.detector import OnnxDetector, calibrated, logit
from plateblur.guidance import GUIDANCE_RATIO
from plateblur.sets.corrections import read_corrections
from plateblur.sets.metrics import (
    PhotoBoxes,
    Scores,
    calibration,
    expected_calibration_error,
    score_photos,
)
from plateblur.sets.predictions import run_detector
from plateblur.sets.split import LabelledPhoto, corrected_photo, labels_hash, read_split
from plateblur.types import COUNT_FLOOR, BlurOptions
from training.checkout import run_step

PRIOR_SHIFT = 3.0  # standard deviation of the shift before any box is seen, log-odds
FOLDS = 5  # of the cross-validation; a photo's boxes are all in one of them
# Two numbers are fitted. Source: P. Peduzzi et al., "A simulation study of the number of events per
# variable in logistic regression analysis", 1996: 10 of the rarer outcome for each.
FEWEST_OF_A_KIND = 20

Curve = tuple[float, float]
"""Slope and shift over the log-odds; (1, 0) changes nothing."""

UNCHANGED: Curve = (1.0, 0.0)


class CalibrationRefusedError(Exception):
    """Val has too few boxes to fit a curve to; the model file was not changed."""


@dataclass(frozen=True, slots=True)
class Config:
    """One calibration."""

    model: Path  # ONNX file of training/export.py; its metadata is replaced
    data: Path  # data.yaml with a val split; test is for reporting only
    labels_overlay: Path | None = None  # corrections of labels, JSON lines
    fitted_from: float = COUNT_FLOOR  # smallest confidence of a box that counts
    fewest: int = FEWEST_OF_A_KIND  # required boxes on plates, and as many beside them
    threads: int | None = None  # of the detector; all cores without it


def calibrate(config: Config) -> dict[str, Any]:
    """Fit the curve on val, write it into the model, and return what was measured.

    Raises:
        CalibrationRefusedError: val has too few boxes on plates, or too few beside them.
    """
    corrections = read_corrections(config.labels_overlay)
    photos = [corrected_photo(photo, corrections) for photo in read_split(config.data, "val")]
    model = onnx.load(config.model)
    scores = scores_without_curve(model, photos, config)
    confidence, correct = scores.box_confidence, scores.match[0] >= 0
    plates, others = int(correct.sum()), int((~correct).sum())
    if min(plates, others) < config.fewest or plates + others == 0:
        raise CalibrationRefusedError(
            f"val has too few boxes to calibrate by: of {plates + others} boxes from confidence "
            f"{config.fitted_from:g} up, {plates} are on plates and {others} are not; each kind "
            f"needs at least {config.fewest}. Add photos to val (with plates, and with things that "
            "are taken for plates); the model was left as it is"
        )
    fitted = fit_curve(confidence, correct)
    held_out = cross_validated(confidence, correct, scores.box_photo)
    errors = {"before": _errors(confidence, correct), "after": _errors(held_out, correct)}
    helps = errors["after"]["log_loss"] < errors["before"]["log_loss"]
    curve = fitted if helps else UNCHANGED
    fit: dict[str, Any] = {
        "slope": curve[0],
        "shift": curve[1],
        "fitted": list(fitted),
        "helps": helps,
        "photos": len(photos),
        "boxes_on_plates": plates,
        "boxes_elsewhere": others,
        "cross_validated": {"folds": min(FOLDS, len(np.unique(scores.box_photo))), **errors},
        "recall_within_1_15": {
            "before": _recall_within(scores, UNCHANGED),
            "after": _recall_within(scores, curve),
        },
        "labels_hash": labels_hash(photos),
    }
    write_curve(model, config.model, curve=curve, fit=fit)
    return fit


def scores_without_curve(
    model: onnx.ModelProto, photos: Sequence[LabelledPhoto], config: Config
) -> Scores:
    """Return the boxes and plates of val, with the network's own confidence.

    Without the second look, which depends on calibrated confidences.
    """
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "plain.onnx"
        bare = onnx.ModelProto()
        bare.CopyFrom(model)
        write_curve(bare, plain, curve=UNCHANGED, fit=None)
        detector = OnnxDetector(plain, threads=config.threads, second_look=False)
        predictions, _ = run_detector(detector, photos, confidence_floor=config.fitted_from)
    paired = [
        PhotoBoxes(photo.image_hw, photo.truth, rows[:, :4], rows[:, 4])
        for photo in photos
        for rows in [predictions[photo.path.name]]
    ]
    return score_photos(paired, min_confidence=config.fitted_from, margin=BlurOptions().margin)


def fit_curve(confidence: NDArray[np.float64], correct: NDArray[np.bool_]) -> Curve:
    """Return slope and shift, over the log-odds, of the likeliest logistic curve.

    A prior around the curve that changes nothing (one standard deviation: a factor of e in slope,
    3 in shift) keeps a few boxes from bending it, and the slope above 0; hundreds outweigh it.
    Targets are smoothed as in Platt's paper, by one more box of each kind.

    Args:
        confidence: (N,) above 0 and below 1.
        correct: (N,) whether the box is on a plate, IoU at least 0.5.
    """
    odds = logit(confidence)
    right, wrong = int(correct.sum()), int((~correct).sum())
    target = np.where(correct, (right + 1) / (right + 2), 1 / (wrong + 2))

    def surprise(curve: NDArray[np.float64]) -> float:
        chance = np.exp(curve[0].clip(-5, 5)) * odds + curve[1]
        boxes = target * np.logaddexp(0, -chance) + (1 - target) * np.logaddexp(0, chance)
        return float(boxes.sum() + (curve[0] ** 2 + (curve[1] / PRIOR_SHIFT) ** 2) / 2)

    fitted = minimize(surprise, x0=np.zeros(2), method="BFGS")
    return round(float(np.exp(fitted.x[0].clip(-5, 5))), 4), round(float(fitted.x[1]), 4)


def cross_validated(
    confidence: NDArray[np.float64], correct: NDArray[np.bool_], photo: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return each box's confidence from a curve that was fitted to other photos.

    Args:
        confidence: (N,) of the network.
        correct: (N,) whether the box is on a plate.
        photo: (N,) index of the box's photo; the boxes of a photo always stay together.
    """
    numbers, index = np.unique(photo, return_inverse=True)
    folds = np.random.default_rng(0).permutation(len(numbers))[index] % FOLDS
    held_out = confidence.copy()
    for fold in np.unique(folds):
        inside = folds == fold
        slope, shift = fit_curve(confidence[~inside], correct[~inside])
        held_out[inside] = calibrated(confidence[inside], slope=slope, shift=shift)
    return held_out


def _errors(confidence: NDArray[np.float64], correct: NDArray[np.bool_]) -> dict[str, float]:
    """Return the mean log loss, and the mean gap between confidence and precision."""
    odds = logit(confidence)
    loss = np.where(correct, np.logaddexp(0, -odds), np.logaddexp(0, odds)).mean()
    gap = expected_calibration_error(calibration(confidence, correct)) or 0.0
    return {"log_loss": round(float(loss), 5), "expected_calibration_error": round(gap, 5)}


def _recall_within(scores: Scores, curve: Curve) -> float | None:
    """Return the recall within 1:15 at the default minimum confidence, or None without plates."""
    within = scores.plate_ratio >= GUIDANCE_RATIO
    best = np.maximum(scores.best_confidence[within], 0)
    if not len(best):
        return None
    found = calibrated(best, slope=curve[0], shift=curve[1]) >= BlurOptions().min_confidence
    return round(float(found.mean()), 4)


def write_curve(
    model: onnx.ModelProto, path: Path, *, curve: Curve, fit: dict[str, Any] | None
) -> None:
    """Write the curve, and how it was found, into the model's metadata in place of earlier ones.

    Args:
        model: whose metadata is replaced.
        path: the file; written whole or not at all.
        curve: slope and shift.
        fit: what `calibrate` measured, for `training/promote.py`; None where nothing was measured.
    """
    entries = [("calibration", json.dumps(curve))]
    if fit is not None:
        entries.append(("calibration_fit", json.dumps(fit)))
    ours = ("calibration", "calibration_fit")
    kept = [(e.key, e.value) for e in model.metadata_props if e.key not in ours]
    del model.metadata_props[:]
    for key, value in [*kept, *entries]:
        model.metadata_props.add(key=key, value=value)
    part = path.with_suffix(".part")
    onnx.save(model, part)
    part.replace(path)


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line and calibrate."""
    parser = argparse.ArgumentParser(description="Calibrate a model's confidence on val.")
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="data.yaml of a YOLO data set")
    parser.add_argument("--labels-overlay", type=Path, help="corrections of labels, JSON lines")
    try:
        fit = calibrate(Config(**vars(parser.parse_args(argv))))
    except CalibrationRefusedError as refusal:
        sys.exit(f"refused: {refusal}")
    if not fit["helps"]:
        sys.stderr.write(
            "on photos that the curve was not fitted to, it predicts no better than the network's "
            "own confidence, so the model keeps that\n"
        )
    recall = fit["recall_within_1_15"]
    if recall["before"] is not None and recall["after"] < recall["before"]:
        sys.stderr.write(
            f"within 1:15, recall on val at the default minimum confidence fell from "
            f"{recall['before']} to {recall['after']}: the network was too sure of its boxes. "
            "Choose a minimum confidence with training.evaluate\n"
        )
    sys.stdout.write(json.dumps(fit) + "\n")


if __name__ == "__main__":
    run_step(main)
