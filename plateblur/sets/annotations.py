"""Write what was found in photos for other programs: COCO and YOLO.

Both can be read again by `forms.read_coco` and `forms.read_yolo`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np

from plateblur.sets.labels import PLATE_CLASS, xyxy_to_labels

CLASS_NAME = "plate"
COCO_CATEGORY = 1  # COCO's own categories begin at 1


@dataclass(frozen=True, slots=True)
class Found:
    """The plates of one photo.

    Attributes:
        name: the photo's path in the file of annotations.
        image_hw: height and width of the upright photo, pixels.
        xyxy: a box per plate, pixels.
        confidence: of each.
    """

    name: str
    image_hw: tuple[int, int]
    xyxy: list[list[float]]
    confidence: list[float]


Photos = Callable[[], Iterator[Found]]
"""Yields all photos, each time that it is called: a survey is not held in memory."""


def write_coco(file: TextIO, photos: Photos) -> None:
    """Write photos and boxes as one COCO file; the confidence is the `score`."""
    file.write('{"images": [')
    for number, photo in enumerate(photos(), start=1):
        height, width = photo.image_hw
        image = {"id": number, "file_name": photo.name, "width": width, "height": height}
        file.write(("" if number == 1 else ",") + "\n" + json.dumps(image))
    file.write('\n],\n"annotations": [')
    count = 0
    for number, photo in enumerate(photos(), start=1):
        for (x1, y1, x2, y2), confidence in zip(photo.xyxy, photo.confidence, strict=True):
            count += 1
            annotation = {
                "id": count,
                "image_id": number,
                "category_id": COCO_CATEGORY,
                "bbox": [x1, y1, round(x2 - x1, 1), round(y2 - y1, 1)],
                "area": round((x2 - x1) * (y2 - y1), 1),
                "iscrowd": 0,
                "score": confidence,
            }
            file.write(("" if count == 1 else ",") + "\n" + json.dumps(annotation))
    category = {"id": COCO_CATEGORY, "name": CLASS_NAME}
    file.write('\n],\n"categories": [' + json.dumps(category) + "]}\n")


def write_yolo(folder: Path, photos: Photos, write: Callable[[Path, bytes], object]) -> None:
    """Write a label file for each photo, and `data.yaml`; an empty one means no plate.

    Args:
        folder: gets `labels/` and `data.yaml`. Its photos belong in `images/`.
        photos: their names are paths below `images/`.
        write: writes a file, making its folder.

    Raises:
        ValueError: two photos of one name, such as `a.jpg` and `a.png`, need the same label file.
    """
    taken: dict[Path, str] = {}
    for photo in photos():
        label = folder / "labels" / Path(photo.name).with_suffix(".txt")
        if taken.setdefault(label, photo.name) != photo.name:
            raise ValueError(f"{photo.name} and {taken[label]} would share a YOLO label file")
        height, width = photo.image_hw
        boxes = np.array(photo.xyxy, np.float64).reshape(-1, 4)
        inside = boxes.clip(0, [width, height, width, height])
        has_area = (inside[:, 2:] > inside[:, :2]).all(axis=1)
        text = xyxy_to_labels(boxes[has_area], image_hw=photo.image_hw)
        write(label, text.encode())
    settings = f"path: .\ntrain: images\nval: images\nnames:\n  {PLATE_CLASS}: {CLASS_NAME}\n"
    write(folder / "data.yaml", settings.encode())
