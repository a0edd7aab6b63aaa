"""Run other plate detectors on a split and count them as our own is counted, on the same photos.

    python -m benchmarks.rivals --data DATA.yaml --split test --out runs/rivals \
        --overlay datasets/corrections/plates.jsonl

The rivals: the detector that the PyPI package fastanpr carries (yolov8n at 640 px), and OpenCV's
plate cascade. What they find goes into `--out`, which git ignores; the figures of all of them, with
and without the overlay, go into `benchmarks/results/rivals.json`. Run it when the machine is calm:
some five minutes on two cores.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from plateblur.detector import shipped_model
from plateblur.photo import decode
from plateblur.sets.predictions import write_predictions
from plateblur.sets.split import LabelledPhoto, read_split
from plateblur.types import BlurOptions
from training.checkout import require_private
from training.evaluate import evaluate
from training.evaluation.config import Config
from training.evaluation.figures import headline

RESULTS = Path(__file__).parent / "results" / "rivals.json"
FASTANPR = "fastanpr==0.1.13"
# Source: the wheel on PyPI; weights are a pickle, which is not opened unless it is that very file.
FASTANPR_SHA256 = "58f6ad86f35f09574e13484ead3346ae8cc052facae150041ed4a894ac2f3828"
CASCADE = "haarcascade_russian_plate_number.xml"
# Source: ultralytics' default, which fastanpr keeps. Ours counts at its own default.
RIVAL_CONFIDENCE = 0.25

Find = Callable[[NDArray[np.uint8]], NDArray[np.float64]]
"""From an RGB image to (M, 5): boxes' `xyxy` in its pixels, and confidence."""


def fastanpr(work: Path) -> Find:
    """Return the detector of fastanpr, its weights fetched by pip.

    Its package asks for a whole OCR engine, which finding plates does not need.

    Args:
        work: folder for the wheel.

    Raises:
        ValueError: the weights are not those that were looked at.
    """
    fetched = ("download", "--quiet", "--no-deps", "--dest", str(work), FASTANPR)
    subprocess.run([sys.executable, "-m", "pip", *fetched], check=True)
    (wheel,) = work.glob("fastanpr-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        weights = Path(archive.extract("fastanpr/best.pt", work))
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    if digest != FASTANPR_SHA256:
        raise ValueError(f"expected fastanpr's weights {FASTANPR_SHA256}, got {digest}")
    from ultralytics import YOLO

    network = YOLO(weights)

    def find(image: NDArray[np.uint8]) -> NDArray[np.float64]:
        bgr = np.ascontiguousarray(image[..., ::-1])
        boxes = network.predict(bgr, imgsz=640, conf=0.001, verbose=False)[0].boxes
        rows = np.column_stack([boxes.xyxy.numpy(), boxes.conf.numpy()])
        return rows.astype(np.float64).reshape(-1, 5)

    return find


def cascade() -> Find:
    """Return OpenCV's plate cascade at OpenCV's defaults, its stage weight as a confidence.

    A weight of 0 gives 0.5, so that every box it would return counts at any confidence below.
    """
    classifier = cv2.CascadeClassifier(str(Path(cv2.__path__[0]) / "data" / CASCADE))
    if classifier.empty():
        raise FileNotFoundError(f"expected {CASCADE} in OpenCV's package")

    def find(image: NDArray[np.uint8]) -> NDArray[np.float64]:
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        boxes, _, weights = classifier.detectMultiScale3(grey, outputRejectLevels=True)
        xywh = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
        confidence = 1 / (1 + np.exp(-np.abs(np.asarray(weights, dtype=np.float64)).reshape(-1)))
        return np.column_stack([xywh[:, :2], xywh[:, :2] + xywh[:, 2:], confidence])

    return find


def run(find: Find, photos: list[LabelledPhoto]) -> tuple[dict[str, Any], float]:
    """Return by photo what a rival finds, and its median milliseconds a photo."""
    found, seconds = {}, []
    for photo in photos:
        pixels = decode(photo.path.read_bytes()).pixels
        started = time.perf_counter()
        found[photo.path.name] = find(pixels)
        seconds.append(time.perf_counter() - started)
    return found, round(float(np.median(seconds)) * 1000, 1)


def measure(
    predictions: Path,
    *,
    data: Path,
    split: str,
    out: Path,
    overlay: Path | None,
    min_confidence: float = BlurOptions().min_confidence,
) -> dict[str, Any]:
    """Return one detector's row, and with an overlay also the one with the labels as they are."""
    metrics = evaluate(
        Config(
            data=data, split=split, out=out, model=predictions, labels_overlay=overlay,
            min_confidence=min_confidence, plots=False,
        )
    )  # fmt: skip
    rows = {"min_confidence": min_confidence, "figures": headline(metrics)}
    if overlay:
        rows["labels as they are"] = headline(metrics["labels_as_they_are"])
    return rows


def main() -> None:
    """Read the command line, run what is not stored yet, and write the table."""
    parser = argparse.ArgumentParser(description="Count other plate detectors as ours is counted.")
    parser.add_argument("--data", type=Path, required=True, help="data.yaml of a YOLO data set")
    parser.add_argument("--split", default="test")
    parser.add_argument("--out", type=Path, required=True, help="folder that git ignores")
    parser.add_argument("--overlay", type=Path, help="corrections of labels")
    parser.add_argument("--model", type=Path, default=shipped_model(), help="our own")
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    require_private(given.out)
    given.out.mkdir(parents=True, exist_ok=True)
    photos = read_split(given.data, given.split)
    table: dict[str, Any] = {"split": given.split, "photos": len(photos), "detectors": {}}
    with tempfile.TemporaryDirectory() as work:
        rivals: dict[str, Callable[[], Find]] = {
            FASTANPR: lambda: fastanpr(Path(work)),
            f"OpenCV {CASCADE}": cascade,
        }
        for number, (name, opened) in enumerate(rivals.items()):
            stored = given.out / f"rival-{number}.jsonl"
            if not stored.exists():
                found, milliseconds = run(opened(), photos)
                write_predictions(found, stored)
                print(f"{name}: {milliseconds:g} ms a photo")
            table["detectors"][name] = measure(
                stored, data=given.data, split=given.split, out=given.out / f"rival-{number}",
                overlay=given.overlay, min_confidence=RIVAL_CONFIDENCE,
            )  # fmt: skip
    ours = {"sha256": hashlib.sha256(given.model.read_bytes()).hexdigest()}
    table["detectors"]["PlateBlur"] = ours | measure(
        given.model, data=given.data, split=given.split, out=given.out / "ours",
        overlay=given.overlay,
    )  # fmt: skip
    given.results.parent.mkdir(parents=True, exist_ok=True)
    given.results.write_text(json.dumps(table, indent=2) + "\n")
    print(json.dumps(table, indent=2))


if __name__ == "__main__":
    main()
