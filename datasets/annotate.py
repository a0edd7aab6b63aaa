"""Label photos of your own with a head start: the detector's boxes for CVAT or Label Studio.

    python datasets/annotate.py PHOTOS --form coco --out boxes.json
    python datasets/annotate.py PHOTOS --form label-studio --out tasks.json

CVAT imports the first as "COCO 1.0", Label Studio the second as tasks with predictions. Correct the
boxes there, export (CVAT: COCO 1.0; Label Studio: JSON), put the export beside the photos, and
`datasets/folder.py --form coco` or `--form label-studio` makes a set of it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from plateblur.detector import OnnxDetector, shipped_model
from plateblur.errors import PhotoError
from plateblur.photo import decode
from plateblur.pipeline import find_plates
from plateblur.sets import layout
from plateblur.sets.files import photos_in
from plateblur.types import BlurOptions


@dataclass(frozen=True, slots=True)
class Annotated:
    """One photo with the detector's boxes.

    Attributes:
        name: path from the folder of the photos, with forward slashes.
        image_hw: height and width of the upright image, pixels.
        boxes: (N, 5) float64, `xyxy` in pixels and confidence.
    """

    name: str
    image_hw: tuple[int, int]
    boxes: NDArray[np.float64]


def annotated(root: Path, detector: OnnxDetector, *, min_confidence: float) -> list[Annotated]:
    """Return the photos of a folder with the boxes that the detector finds.

    Raises:
        DatasetError: no photo, or one that can't be read.
    """
    found = []
    for path in photos_in(root):
        name = path.relative_to(root).as_posix()
        try:
            photo = decode(path.read_bytes())
        except PhotoError as error:
            raise layout.DatasetError(f"{name}: {error}") from error
        plates = find_plates(photo, detector, min_confidence=min_confidence)
        boxes = np.column_stack([plates.xyxy, plates.confidence]).astype(np.float64).reshape(-1, 5)
        height, width = photo.image_hw
        boxes[:, :4] = boxes[:, :4].clip(0, [width, height, width, height])
        found.append(Annotated(name, photo.image_hw, boxes))
    if not found:
        raise layout.DatasetError(f"expected photos in {root}, found none")
    return found


def coco(photos: Sequence[Annotated]) -> dict[str, Any]:
    """Return photos and boxes as COCO has them; `score` is what tools show as confidence."""
    annotations = [
        {
            "image_id": image,
            "category_id": 1,
            "bbox": [round(v, 2) for v in (x1, y1, x2 - x1, y2 - y1)],
            "area": round((x2 - x1) * (y2 - y1), 2),
            "iscrowd": 0,
            "score": round(confidence, 3),
        }
        for image, photo in enumerate(photos, start=1)
        for x1, y1, x2, y2, confidence in photo.boxes.tolist()
    ]
    return {
        "images": [
            {"id": n, "file_name": p.name, "width": p.image_hw[1], "height": p.image_hw[0]}
            for n, p in enumerate(photos, start=1)
        ],
        "annotations": [{"id": n, **one} for n, one in enumerate(annotations, start=1)],
        "categories": [{"id": 1, "name": "plate", "supercategory": ""}],
    }


def label_studio(photos: Sequence[Annotated], *, prefix: str) -> list[dict[str, Any]]:
    """Return tasks with predictions; its boxes are percentages of the upright picture.

    Args:
        photos: with boxes.
        prefix: what Label Studio puts before a photo's path, as its storage is set up.
    """
    return [
        {
            "data": {"image": prefix + quote(photo.name)},
            "predictions": [
                {
                    "model_version": "plateblur",
                    "result": [_rectangle(row, photo.image_hw) for row in photo.boxes.tolist()],
                }
            ],
        }
        for photo in photos
    ]


def _rectangle(row: Sequence[float], image_hw: tuple[int, int]) -> dict[str, Any]:
    x1, y1, x2, y2, confidence = row
    height, width = image_hw
    percent = {
        "x": 100 * x1 / width,
        "y": 100 * y1 / height,
        "width": 100 * (x2 - x1) / width,
        "height": 100 * (y2 - y1) / height,
    }
    return {
        "type": "rectanglelabels",
        "from_name": "label",
        "to_name": "image",
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "score": round(confidence, 3),
        "value": {**percent, "rotation": 0, "rectanglelabels": ["plate"]},
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line, detect and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("photos", type=Path, help="folder of photos")
    parser.add_argument("--form", choices=("coco", "label-studio"), required=True)
    parser.add_argument("--out", type=Path, required=True, help="JSON")
    parser.add_argument("--model", type=Path, default=shipped_model(), help="ONNX")
    parser.add_argument(
        "--min-confidence", type=float, default=BlurOptions().min_confidence / 2, help="of a box"
    )
    parser.add_argument(
        "--prefix", default="/data/local-files/?d=", help="of photos in Label Studio"
    )
    given = parser.parse_args(argv)
    if given.out.exists():
        raise layout.DatasetError(f"{given.out} is there already; it may hold somebody's work")
    detector = OnnxDetector(given.model)
    photos = annotated(given.photos, detector, min_confidence=given.min_confidence)
    made = coco(photos) if given.form == "coco" else label_studio(photos, prefix=given.prefix)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
    print(f"{len(photos)} photos, {sum(len(photo.boxes) for photo in photos)} boxes")


if __name__ == "__main__":
    layout.run(main)
