"""What the second look at unsure boxes costs on photos, beside the first look alone.

    python -m benchmarks.second_look --data DATA.yaml --split val

Both take each photo in turn, so that a noisy minute hits both. Times are this machine's; what
travels is the ratios, which go into `benchmarks/results/second_look.json`. No photo's name does.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

from benchmarks.machine import machine
from plateblur.detector import OnnxDetector, shipped_model
from plateblur.photo import decode
from plateblur.second_look import LOWERED_FROM
from plateblur.sets.split import read_split
from plateblur.types import BlurOptions, Image

RESULTS = Path(__file__).parent / "results" / "second_look.json"
WARM_UP = 5  # photos


def milliseconds(detector: OnnxDetector, image: Image, *, min_confidence: float) -> float:
    """Return how long the detector takes for an image."""
    started = time.perf_counter()
    detector.detect(image, min_confidence=min_confidence)
    return (time.perf_counter() - started) * 1000


def main() -> None:
    """Read the command line, measure, and write the ratios."""
    parser = argparse.ArgumentParser(description="Measure what the second look costs.")
    parser.add_argument("--data", type=Path, required=True, help="data.yaml of a YOLO data set")
    parser.add_argument("--split", default="val")
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    photos = read_split(given.data, given.split)
    whole, alone = OnnxDetector.shipped(), OnnxDetector(shipped_model(), second_look=False)
    floors = {"at the default": BlurOptions().min_confidence, "from 0.2 up": LOWERED_FROM}
    ratios: dict[str, dict[str, float]] = {}
    for name, floor in floors.items():
        times = []
        for count, photo in enumerate([*photos[:WARM_UP], *photos]):
            image = decode(photo.path.read_bytes()).pixels
            pair = [milliseconds(one, image, min_confidence=floor) for one in (alone, whole)]
            if count >= WARM_UP:
                times.append(pair)
        first, both = np.array(times).T
        ratios[name] = {
            "all photos": round(float(both.sum() / first.sum()), 3),
            "median photo": round(float(np.median(both / first)), 3),
            "slowest of a hundred": round(float(np.quantile(both / first, 0.99)), 2),
        }
    table = {
        "machine": machine(),
        "split": given.split,
        "photos": len(photos),
        "times_the_first_look": ratios,
    }
    given.results.write_text(json.dumps(table, indent=2) + "\n")
    print(json.dumps(table, indent=2))


if __name__ == "__main__":
    main()
