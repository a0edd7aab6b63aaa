"""Make a model's confidence mean what it says, by what became of its boxes on the val split.

    python -m training.calibrate runs/first/plates.onnx --data DATA.yaml

Trained confidences only rank boxes. Here a logistic curve over them is fitted, so that of the
boxes with confidence 0.5 about half are plates, and written into the model's metadata, where the
detector reads it. Source: J. Platt, "Probabilistic outputs for support vector machines", 1999; for
detectors F. Küppers et al., "Multivariate Confidence Calibration for Object Detection", 2020.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from scipy.optimize import minimize

from plateblur.detector import OnnxDetector, calibrated, logit
from plateblur.sets.corrections import read_corrections
from plateblur.sets.metrics import (
    PhotoBoxes,
    calibration,
    expected_calibration_error,
    score_photos,
)
from plateblur.sets.predictions import run_detector
from plateblur.sets.split import corrected_photo, read_split
from plateblur.types import COUNT_FLOOR, BlurOptions

PRIOR_SHIFT = 3.0  # standard deviation of the shift before any box is seen, log-odds


@dataclass(frozen=True, slots=True)
class Config:
    """One calibration."""

    model: Path  # ONNX file of training/export.py; its metadata is written again
    data: Path  # data.yaml with a val split; test is for reporting only
    labels_overlay: Path | None = None  # corrections of labels, JSON lines
    fitted_from: float = COUNT_FLOOR  # smallest confidence of a box that counts


def calibrate(config: Config) -> dict[str, Any]:
    """Fit the curve on val, write it into the model, and return it with the errors.

    Raises:
        ValueError: val has no boxes to fit.
    """
    model = onnx.load(config.model)
    write_curve(model, config.model, slope=1.0, shift=0.0)
    corrections = read_corrections(config.labels_overlay)
    photos = [corrected_photo(photo, corrections) for photo in read_split(config.data, "val")]
    detector = OnnxDetector(config.model, second_look=False)  # it goes by calibrated confidences
    predictions, _ = run_detector(detector, photos, confidence_floor=config.fitted_from)
    scores = score_photos(
        [
            PhotoBoxes(photo.image_hw, photo.truth, rows[:, :4], rows[:, 4])
            for photo in photos
            for rows in [predictions[photo.path.name]]
        ],
        min_confidence=config.fitted_from,
        margin=BlurOptions().margin,
    )
    confidence, correct = scores.box_confidence, scores.match[0] >= 0
    if not len(confidence):
        raise ValueError(f"expected boxes of at least {config.fitted_from} on val, found none")
    slope, shift = fit_curve(confidence, correct)
    write_curve(model, config.model, slope=slope, shift=shift)
    after = calibrated(confidence, slope=slope, shift=shift)
    return {
        "slope": slope,
        "shift": shift,
        "boxes": len(confidence),
        "expected_calibration_error": {
            "before": expected_calibration_error(calibration(confidence, correct)),
            "after": expected_calibration_error(calibration(after, correct)),
        },
    }


def fit_curve(confidence: NDArray[np.float64], correct: NDArray[np.bool_]) -> tuple[float, float]:
    """Return slope and shift, over the log-odds, of the likeliest logistic curve.

    A prior around the curve that changes nothing (one standard deviation: a factor of e in slope,
    3 in shift) keeps a few boxes from bending it, and the slope above 0; hundreds outweigh it.
    Targets are smoothed as Platt does, by one box more of either kind.

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


def write_curve(model: onnx.ModelProto, path: Path, *, slope: float, shift: float) -> None:
    """Write the curve into the model's metadata, in place of an earlier one."""
    kept = [(e.key, e.value) for e in model.metadata_props if e.key != "calibration"]
    del model.metadata_props[:]
    for key, value in [*kept, ("calibration", json.dumps([slope, shift]))]:
        model.metadata_props.add(key=key, value=value)
    onnx.save(model, path)


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line and calibrate."""
    parser = argparse.ArgumentParser(description="Calibrate a model's confidence on val.")
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="data.yaml of a YOLO data set")
    parser.add_argument("--labels-overlay", type=Path, help="corrections of labels, JSON lines")
    sys.stdout.write(json.dumps(calibrate(Config(**vars(parser.parse_args(argv))))) + "\n")


if __name__ == "__main__":
    main()
