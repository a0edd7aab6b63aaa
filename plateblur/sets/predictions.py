"""What a detector finds on photos, and the file that keeps it."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from plateblur.photo import Photo, decode
from plateblur.pipeline import find_plates
from plateblur.sets.split import LabelledPhoto
from plateblur.types import Detector

Predictions = dict[str, NDArray[np.float64]]
"""By file name of a photo: (M, 5) float64, a box's `xyxy` in pixels and its confidence."""


def run_detector(
    detector: Detector, photos: Sequence[LabelledPhoto], *, confidence_floor: float
) -> tuple[Predictions, float]:
    """Return what is found on each photo the served way, and the median milliseconds of it."""
    predictions, seconds = {}, []
    for count, photo in enumerate(photos, start=1):
        decoded = decode(photo.path.read_bytes())
        if photo.turn:
            turned = np.ascontiguousarray(np.rot90(decoded.pixels, photo.turn))
            decoded = Photo(turned, decoded.format)
        started = time.perf_counter()
        found = find_plates(decoded, detector, min_confidence=confidence_floor)
        seconds.append(time.perf_counter() - started)
        rows = np.column_stack([found.xyxy, found.confidence]).astype(np.float64)
        predictions[photo.path.name] = rows.reshape(-1, 5)
        if count % 100 == 0 or count == len(photos):
            sys.stderr.write(f"{count} of {len(photos)} photos\n")
    return predictions, round(float(np.median(seconds)) * 1000, 1)


def write_predictions(predictions: Predictions, path: Path) -> None:
    """Write a JSON line a photo, with every digit, so that others count the same."""
    lines = (
        json.dumps({"image": name, "boxes": rows.tolist()}) + "\n"
        for name, rows in predictions.items()
    )
    path.write_text("".join(lines))


def read_predictions(path: Path) -> Predictions:
    """Return the predictions of a file that `write_predictions` or another tool wrote."""
    records = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    return {
        record["image"]: np.array(record["boxes"], dtype=np.float64).reshape(-1, 5)
        for record in records
    }
