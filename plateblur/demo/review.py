"""Corrected photos that people contribute for training, as a YOLO data set of the operator.

FOLDER/
    data.yaml              what training/train.py takes
    consents.jsonl         one line per photo: its file's name, when, and what was agreed to
    images/<split>/        the photos, unblurred, upright, without metadata
    labels/<split>/        their plates as corrected; empty if there are none
"""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np

from plateblur.demo.visits import DroppedPhoto
from plateblur.errors import PlateblurError
from plateblur.formats import FORMATS, JPEG, PNG, WEBP
from plateblur.photo import decode, encode
from plateblur.sets.labels import xyxy_to_labels
from plateblur.types import Detector

CONSENT = (
    "I have the right to share this photo, and agree that the operator of this page stores it "
    "unblurred to train the detector."
)
MAX_BYTES = 4 * 1024**3  # about two thousand photos from phones
VAL_EVERY = 5  # every fifth photo is for validation, chosen by its content
KEPT = (JPEG.name, PNG.name, WEBP.name)
"""Formats that are kept, because training reads them with OpenCV."""
DATA_YAML = """\
# Licence plates, one class. Paths are relative to this file.
train: images/{train}
val: images/{val}
names:
  0: plate
"""


class ReviewFullError(PlateblurError):
    """The folder is full."""


@dataclass(frozen=True, slots=True)
class Example:
    """A photo as training takes it.

    Attributes:
        name: from its content; people name it to have the photo removed.
        split: "train" or "val", by its content.
        suffix: of its file.
        data: the encoded photo, unblurred, upright, without metadata.
        labels: of its plates, as YOLO's lines.
    """

    name: str
    split: str
    suffix: str
    data: bytes
    labels: str


class Review:
    """The folder; thread-safe."""

    def __init__(self, folder: Path, *, max_bytes: int = MAX_BYTES) -> None:
        """Keep photos in `folder`, which only its owner may read if it is made here.

        Args:
            folder: of one data set.
            max_bytes: maximum size, because anybody can contribute.

        Raises:
            OSError: it can't be made.
        """
        self._folder = folder
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def save(self, example: Example, *, now: datetime) -> None:
        """Save an example, replacing an earlier one of the same photo.

        Args:
            example: whose sender agreed.
            now: when that was.

        Raises:
            ReviewFullError: the folder is full.
            OSError: the folder can't be written.
        """
        agreed = {
            "photo": example.name,
            "agreed": now.isoformat(timespec="seconds"),
            "to": CONSENT,
        }
        split = example.split
        with self._lock:
            if self._used_bytes() + len(example.data) > self._max_bytes:
                raise ReviewFullError("the folder for training photos is full")
            for other in ("images", "labels"):
                (self._folder / other / split).mkdir(parents=True, exist_ok=True)
            labels = self._folder / "labels" / split / f"{example.name}.txt"
            _write_whole(labels, example.labels.encode())
            with (self._folder / "consents.jsonl").open("a", encoding="utf-8") as consents:
                consents.write(json.dumps(agreed) + "\n")
            photo = self._folder / "images" / split / f"{example.name}{example.suffix}"
            _write_whole(photo, example.data)
            _write_whole(self._folder / "data.yaml", self._data_yaml().encode())

    def _used_bytes(self) -> int:
        return sum(path.stat().st_size for path in self._folder.rglob("*") if path.is_file())

    def _data_yaml(self) -> str:
        """Return `data.yaml`; if a split is empty, the other is used for both."""
        there = [
            split
            for split in ("train", "val")
            if any((self._folder / "images" / split).glob("*.*"))
        ]
        return DATA_YAML.format(train=there[0], val=there[-1])


def example_of(_: Detector, photo: DroppedPhoto, min_confidence: float) -> Example:
    """Return a photo with its plates as corrected.

    Args:
        photo: one that could be blurred.
        min_confidence: plates below it were not hidden, so they are no plates.

    Raises:
        PlateblurError: it can't be decoded or written again.
    """
    digest = hashlib.sha256(photo.data).hexdigest()
    decoded = decode(photo.data)
    if decoded.format not in KEPT:
        decoded = replace(decoded, format="JPEG", alpha=None)
    height, width = decoded.image_hw
    boxes = photo.plates.at_least(min_confidence).xyxy.clip(0, [width, height, width, height])
    inside = boxes[(boxes[:, 2:] > boxes[:, :2]).all(axis=1)].astype(np.float64)
    return Example(
        name=digest[:16],
        split="val" if int(digest[:8], 16) % VAL_EVERY == 0 else "train",
        suffix=FORMATS[decoded.format].suffixes[0],
        data=encode(decoded, decoded.pixels, metadata="strip"),
        labels=xyxy_to_labels(inside, image_hw=decoded.image_hw),
    )


def _write_whole(path: Path, data: bytes) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(data)
    part.replace(path)
