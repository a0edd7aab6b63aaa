"""YOLO label lines to and from `xyxy`.

A label line is `class cx cy width height`, each a share of the picture between 0 and 1. Polygon
lines (`class x1 y1 x2 y2 x3 y3 ...`, at least three points) count as the box around them.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

PLATE_CLASS = 0
"""The one class of our data sets and of the model."""

TruthBoxes = NDArray[np.float64]
"""(N, 4) float64 `xyxy`; labels keep double precision so that a round trip loses nothing."""


def label_file(photo: Path) -> Path:
    """Return the file of a photo's labels, where ultralytics looks for it.

    That is under the same name in the folder `labels` beside the last one named `images`; without
    such a folder it is beside the photo.
    """
    folders = list(photo.parent.parts)
    if "images" in folders:
        folders[len(folders) - 1 - folders[::-1].index("images")] = "labels"
    return Path(*folders, f"{photo.stem}.txt")


def labels_to_xyxy(
    text: str, *, image_hw: tuple[int, int], plate_classes: Collection[int] | None = None
) -> TruthBoxes:
    """Return the boxes of a YOLO label file's text.

    Args:
        text: the file's text; empty lines are skipped.
        image_hw: height and width of the upright image, pixels.
        plate_classes: the classes that are plates in another data set; lines of other classes are
            ignored. Without it a class other than `PLATE_CLASS` is an error.

    Returns:
        (N, 4) float64, pixels of the upright image; not clipped to it.

    Raises:
        ValueError: a line is no label; the message gives its number.
    """
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            plate_class, cxcywhn = _parse_line(line)
            if plate_classes is None and plate_class != PLATE_CLASS:
                raise ValueError(f"expected class {PLATE_CLASS}, got {plate_class}")
        except ValueError as error:
            raise ValueError(f"label line {number}: {error}") from error
        if plate_classes is None or plate_class in plate_classes:
            rows.append(cxcywhn)
    centred = np.array(rows, dtype=np.float64).reshape(-1, 4)
    height, width = image_hw
    return np.column_stack(
        [
            (centred[:, 0] - centred[:, 2] / 2) * width,
            (centred[:, 1] - centred[:, 3] / 2) * height,
            (centred[:, 0] + centred[:, 2] / 2) * width,
            (centred[:, 1] + centred[:, 3] / 2) * height,
        ]
    )


def _parse_line(line: str) -> tuple[int, tuple[float, float, float, float]]:
    words = line.split()
    try:
        plate_class, numbers = int(words[0]), [float(word) for word in words[1:]]
    except ValueError as error:
        raise ValueError("expected a whole class number and then numbers") from error
    if not all(math.isfinite(number) and 0 <= number <= 1 for number in numbers):
        raise ValueError("expected shares of the picture between 0 and 1; are these pixels?")
    if len(numbers) == 4:
        cx, cy, width, height = numbers
    elif len(numbers) >= 6 and len(numbers) % 2 == 0:
        xs, ys = numbers[0::2], numbers[1::2]
        cx, cy = (min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2
        width, height = max(xs) - min(xs), max(ys) - min(ys)
    else:
        raise ValueError(
            f"expected a class and 4 numbers, or a polygon of 3 points or more, got {len(numbers)}"
            " numbers"
        )
    if width <= 0 or height <= 0:
        raise ValueError(f"expected a box with an area, got width {width} and height {height}")
    return plate_class, (cx, cy, width, height)


def xyxy_to_labels(xyxy: NDArray[np.floating[Any]], *, image_hw: tuple[int, int]) -> str:
    """Return the text of a YOLO label file, one line per box, each ending in a newline.

    Boxes are clipped to the image, because ultralytics drops a photo with a label beyond its edge.

    Args:
        xyxy: (N, 4), pixels of the upright image.
        image_hw: height and width of that image, pixels.

    Raises:
        ValueError: `xyxy` is not (N, 4), or a box has no area inside the image.
    """
    boxes = np.asarray(xyxy, dtype=np.float64)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"xyxy must have shape (N, 4), got {boxes.shape}")
    height, width = image_hw
    clipped = boxes.clip(0, [width, height, width, height])
    lines = []
    for (x1, y1, x2, y2), given in zip(clipped.tolist(), boxes.tolist(), strict=True):
        # Negated, so that a box with a NaN in it is refused too.
        if not (x2 > x1 and y2 > y1):
            raise ValueError(f"box {given} has no area inside an image of {width}x{height} pixels")
        shares = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width)
        numbers = " ".join(f"{share:.6f}" for share in (*shares, (y2 - y1) / height))
        lines.append(f"{PLATE_CLASS} {numbers}\n")
    return "".join(lines)
