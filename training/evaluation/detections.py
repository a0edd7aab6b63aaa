"""The detections that are measured: of a model that runs, or of a file."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from plateblur.detector import OnnxDetector, near_model
from plateblur.sets.metrics import PhotoBoxes, Scores, score_photos
from plateblur.sets.predictions import Predictions, read_predictions, run_detector
from plateblur.sets.split import LabelledPhoto
from training.evaluation.config import Config


def predictions_of(
    model: Path, photos: Sequence[LabelledPhoto], config: Config, *, near: Path | None = None
) -> tuple[Predictions, float | None]:
    """Return what a model finds, or found when a file was written, and milliseconds per photo.

    With a network for near plates, or else the one beside the model.

    Raises:
        ValueError: a file of stored predictions lacks a photo.
    """
    if model.suffix == ".jsonl":
        stored = read_predictions(model)
        missing = [photo.path.name for photo in photos if photo.path.name not in stored]
        if missing:
            raise ValueError(
                f"expected a line for each of {len(photos)} photos in {model.name}, "
                f"{len(missing)} are missing, the first {missing[0]}"
            )
        return {photo.path.name: stored[photo.path.name] for photo in photos}, None
    return run_detector(
        detector_of(model, config, near=near), photos, confidence_floor=config.confidence_floor
    )


def detector_of(model: Path, config: Config, *, near: Path | None = None) -> OnnxDetector:
    """Return the detector with the settings of the config, and a network for near plates."""
    return OnnxDetector(model, threads=config.threads, second_look=config.second_look, near=near)


def score(photos: Sequence[LabelledPhoto], predictions: Predictions, config: Config) -> Scores:
    """Return the rows that the figures are counted from, at the config's blur options."""
    paired = [
        PhotoBoxes(photo.image_hw, photo.truth, rows[:, :4], rows[:, 4])
        for photo in photos
        for rows in [predictions[photo.path.name]]
    ]
    return score_photos(paired, min_confidence=config.min_confidence, margin=config.margin)


def describe(model: Path, near: Path | None = None) -> dict[str, Any]:
    """Return what identifies a model file, and its network for near plates."""
    data = model.read_bytes()
    said = {"file": model.name, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    near = near or near_model(model)
    return said | ({"near": describe(near)} if near else {})
