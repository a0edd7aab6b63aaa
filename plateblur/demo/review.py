"""Corrected photos that people give for retraining, as a YOLO data set folder of the operator.

FOLDER/
    data.yaml              what training/train.py takes
    consents.jsonl         one line a photo: its file's name, when, and what was agreed to
    images/<split>/        the photos, unblurred, upright, without metadata
    labels/<split>/        their plates as corrected; empty where there is none
"""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np

from plateblur.demo.visits import DroppedPhoto
from plateblur.formats import FORMATS, JPEG, PNG, WEBP
from plateblur.labels import xyxy_to_labels
from plateblur.photo import decode, encode

CONSENT = (
    "I may give this photo away, and agree that it is kept without blur by whoever runs this page, "
    "to train the detector."
)
VAL_EVERY = 5  # every fifth photo is for validation, chosen by its content
KEPT = (JPEG.name, PNG.name, WEBP.name)
"""Formats that are kept; OpenCV, which training reads with, opens no other."""
DATA_YAML = """\
# Licence plates, one class. Paths are relative to this file.
train: images/{train}
val: images/{val}
names:
  0: plate
"""


class Review:
    """The folder; safe to call from several threads at once."""

    def __init__(self, folder: Path) -> None:
        """Keep photos in `folder`, which only its owner may read if it is made here.

        Raises:
            OSError: it can't be made.
        """
        self._folder = folder
        self._lock = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def save(self, photo: DroppedPhoto, *, min_confidence: float, now: datetime) -> str:
        """Save a photo with its plates as corrected, in place of what was saved of it before.

        Args:
            photo: one that could be blurred.
            min_confidence: plates below it were not hidden, so they are no plates.
            now: when its sender agreed.

        Returns:
            The name that it has in the folder, for who wants it to be removed again.

        Raises:
            PlateblurError: it can't be decoded or written again.
            OSError: the folder can't be written.
        """
        digest = hashlib.sha256(photo.data).hexdigest()
        name = digest[:16]
        split = "val" if int(digest[:8], 16) % VAL_EVERY == 0 else "train"
        decoded = decode(photo.data)
        if decoded.format not in KEPT:
            decoded = replace(decoded, format="JPEG", alpha=None)
        data = encode(decoded, decoded.pixels, metadata="strip")
        height, width = decoded.image_hw
        boxes = photo.plates.at_least(min_confidence).xyxy.clip(0, [width, height, width, height])
        inside = boxes[(boxes[:, 2:] > boxes[:, :2]).all(axis=1)].astype(np.float64)
        agreed = {"photo": name, "agreed": now.isoformat(timespec="seconds"), "to": CONSENT}
        with self._lock:
            for other in ("images", "labels"):
                (self._folder / other / split).mkdir(parents=True, exist_ok=True)
            labels = xyxy_to_labels(inside, image_hw=decoded.image_hw)
            _write_whole(self._folder / "labels" / split / f"{name}.txt", labels.encode())
            with (self._folder / "consents.jsonl").open("a", encoding="utf-8") as consents:
                consents.write(json.dumps(agreed) + "\n")
            suffix = FORMATS[decoded.format].suffixes[0]
            _write_whole(self._folder / "images" / split / f"{name}{suffix}", data)
            _write_whole(self._folder / "data.yaml", self._data_yaml().encode())
        return name

    def _data_yaml(self) -> str:
        """Return `data.yaml`; where a split is empty the other serves for both."""
        there = [
            split
            for split in ("train", "val")
            if any((self._folder / "images" / split).glob("*.*"))
        ]
        return DATA_YAML.format(train=there[0], val=there[-1])


def _write_whole(path: Path, data: bytes) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(data)
    part.replace(path)
