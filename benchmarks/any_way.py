"""What is found on photos that are turned, tilted, blurred by motion, or all plate.

    python -m benchmarks.any_way --data DATA.yaml --overlay datasets/corrections/plates.jsonl \
        --model shipped=plateblur/models/plates.onnx --model tried=runs/tried/plates.onnx

For a detector that is meant to see plates any way round, beside the shipped one, each calibrated:
in one look, or with `--effort default` as it is served.
Photos of val, unchanged and transformed. A plate counts as hidden as in `benchmarks/looks.py`.
Nothing of the photos gets into the results.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, get_args

import cv2
import numpy as np
from PIL import Image as PillowImage

from benchmarks.looks import (
    FILLS,
    TURNS,
    Floats,
    Found,
    Laid,
    as_they_are,
    cut_to_the_plate,
    encoded,
    find,
    pillow,
    turned,
)
from benchmarks.machine import machine
from plateblur.detector import OnnxDetector
from plateblur.guidance import FAR_RATIO
from plateblur.sets.corrections import read_corrections
from plateblur.sets.split import LabelledPhoto, corrected_photo, read_split
from plateblur.types import Effort

RESULTS = Path(__file__).parent / "results" / "any_way.json"
NEAR_RATIO = 1 / 15  # Source: the guidance
EDGES = {"within 1:15": NEAR_RATIO, "1:15-1:30": FAR_RATIO, "1:30-1:60": 1 / 60, "below 1:60": 0.0}
TILTS = (45, -30)  # degrees to the left
SHAKE = 0.02  # of the photo's width: how far the camera moved sideways
MOST = 60  # photos of each kind, near plates alone
NEW = "bangla"  # a set that the shipped detector was not trained on


def tilted(photos: Sequence[LabelledPhoto], degrees: float) -> Iterator[Laid]:
    """Yield photos tilted about their middle, no corner lost; a box becomes the box around it."""
    for photo in photos:
        image = np.asarray(pillow(photo))
        height, width = image.shape[:2]
        matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1)
        cos, sin = abs(matrix[0, 0]), abs(matrix[0, 1])
        new_w, new_h = int(height * sin + width * cos), int(height * cos + width * sin)
        matrix[:, 2] += (new_w / 2 - width / 2, new_h / 2 - height / 2)
        turned_to = cv2.warpAffine(image, matrix, (new_w, new_h), borderValue=(114,) * 3)
        x1, y1, x2, y2 = photo.truth.T
        ones = np.ones_like(x1)
        corners = np.stack([(x1, y1, ones), (x2, y1, ones), (x2, y2, ones), (x1, y2, ones)])
        placed = np.einsum("ij,cjn->nci", matrix, corners)
        truth: Floats = np.hstack([placed.min(axis=1), placed.max(axis=1)])
        yield encoded(PillowImage.fromarray(np.asarray(turned_to, np.uint8)), truth, quality=94)


def shaken(photos: Sequence[LabelledPhoto]) -> Iterator[Laid]:
    """Yield photos blurred sideways."""
    for photo in photos:
        image = np.asarray(pillow(photo))
        length = max(3, round(SHAKE * image.shape[1]))
        kernel = np.zeros((length, length), np.float32)
        kernel[length // 2] = 1 / length
        blurred = np.asarray(cv2.filter2D(image, -1, kernel), np.uint8)
        yield encoded(PillowImage.fromarray(blurred), photo.truth, quality=94)


def ranges(found: Found) -> dict[str, Any]:
    """Return plates and hidden ones by their ratio, and the false boxes."""
    table: dict[str, Any] = {}
    upper = np.inf
    for name, lower in EDGES.items():
        inside = (found.ratio >= lower) & (found.ratio < upper)
        upper = lower
        if inside.any():
            table[name] = {"plates": int(inside.sum()), "hidden": int(found.hidden[inside].sum())}
    return table | {"photos": found.photos, "false boxes": found.false_boxes}


def measure(
    detector: OnnxDetector, val: Sequence[LabelledPhoto], *, effort: Effort
) -> dict[str, Any]:
    """Return the figures of one detector."""
    near = [
        photo
        for photo in val
        if photo.group["set"] != NEW
        and len(photo.truth)
        and (photo.truth[:, 3] - photo.truth[:, 1]).min() >= NEAR_RATIO * photo.image_hw[0]
    ]
    near = [near[place] for place in np.random.default_rng(0).permutation(len(near))][:MOST]
    looks = partial(find, detector=detector, effort=effort)
    kinds: dict[str, Iterable[Laid]] = {
        "val without bangla": as_they_are([p for p in val if p.group["set"] != NEW]),
        **{f"turned by {degrees}": turned(near, n) for degrees, n in TURNS.items()},
        **{f"tilted by {degrees}": tilted(near, degrees) for degrees in TILTS},
        "blurred by motion": shaken(near),
        **{f"plate fills {fill:.0%}": islice(cut_to_the_plate(val, fill), 75) for fill in FILLS},
        "val of bangla": as_they_are([p for p in val if p.group["set"] == NEW]),
    }
    return {kind: ranges(looks(laid)) for kind, laid in kinds.items()}


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="data.yaml of a YOLO data set")
    parser.add_argument("--overlay", type=Path, required=True, help="corrections of labels")
    parser.add_argument("--model", action="append", required=True, metavar="NAME=ONNX")
    parser.add_argument(
        "--effort", choices=get_args(Effort), default="fast", help="default: one look"
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="others in it stay")
    given = parser.parse_args()
    corrections = read_corrections(given.overlay)
    val = [corrected_photo(photo, corrections) for photo in read_split(given.data, "val")]
    figures = json.loads(given.results.read_text())["figures"] if given.results.exists() else {}
    for named in given.model:
        name, _, path = named.partition("=")
        figures[name] = measure(OnnxDetector(Path(path)), val, effort=given.effort)
    written = {"machine": machine(), "effort": given.effort, "figures": figures}
    given.results.write_text(json.dumps(written, indent=2) + "\n")
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
