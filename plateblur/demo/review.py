"""Corrected photos that people donate for training: a data set as `plateblur/sets/layout.py` has.

FOLDER/
    data.yaml, train.txt   what training/train.py takes
    manifest.csv           one row per photo, which datasets/merge.py and review.py take
    consents.jsonl         one line per photo: its file's name, when, and what was agreed to
    images/<split>/        the photos, unblurred, upright, without metadata
    labels/<split>/        their plates as corrected; empty if there are none

The photos of one visitor go to one split, because they often show one street or one car. Photos
with a plate that the detector had missed are a part of their own, as in `plateblur collect`. To
remove a photo, delete its image and its label: the manifest follows with the next photo, or when
the demo starts.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import threading
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np

from plateblur.demo.visits import DroppedPhoto
from plateblur.errors import PlateblurError
from plateblur.formats import FORMATS, JPEG, PNG, WEBP
from plateblur.photo import decode, encode
from plateblur.runs.reviewed_set import MISSED, MISSED_TIMES
from plateblur.sets import layout
from plateblur.sets.files import photos_in
from plateblur.sets.labels import labels_to_xyxy, xyxy_to_labels
from plateblur.types import Detector

CONSENT = (
    "I have the right to share this photo, and agree that the operator of this page stores it "
    "unblurred to train the detector."
)
MAX_BYTES = 4 * 1024**3  # about two thousand photos from phones
VAL_EVERY = 5  # the photos of every fifth visitor are for validation
KEPT = (JPEG.name, PNG.name, WEBP.name)
"""Formats that are kept, because training reads them with OpenCV."""
CARD = layout.SetCard(
    name="donated",
    source="visitors of the demo page, with consent",
    licence="to train the operator's detector",
    region="unknown",
)
INDEX = ("manifest.csv", "train.txt", "data.yaml")


class ReviewFullError(PlateblurError):
    """The folder is full."""


@dataclass(frozen=True, slots=True)
class Example:
    """A photo as training takes it.

    Attributes:
        name: from its content; people name it to have the photo removed.
        suffix: of its file.
        data: the encoded photo, unblurred, upright, without metadata.
        labels: of its plates, as YOLO's lines.
        missed: the detector had missed one of them.
    """

    name: str
    suffix: str
    data: bytes
    labels: str
    missed: bool


class Review:
    """The folder; thread-safe."""

    def __init__(self, folder: Path, *, max_bytes: int = MAX_BYTES) -> None:
        """Keep photos in `folder`, which only its owner may read if it is made here.

        Args:
            folder: of one data set.
            max_bytes: maximum size, because anybody can contribute.

        Raises:
            DatasetError: it holds something that is no such data set.
            OSError: it can't be made.
        """
        self._folder = folder
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._write_index({})

    def save(self, example: Example, *, visitor: str, now: datetime) -> None:
        """Save an example, replacing an earlier one of the same photo.

        Args:
            example: whose sender agreed.
            visitor: who sent it, as a random name; only the split depends on it.
            now: when they agreed.

        Raises:
            ReviewFullError: the folder is full.
            DatasetError: the folder's manifest was damaged.
            OSError: the folder can't be written.
        """
        agreed = {
            "photo": example.name,
            "agreed": now.isoformat(timespec="seconds"),
            "to": CONSENT,
        }
        with self._lock:
            if self._used_bytes() + len(example.data) > self._max_bytes:
                raise ReviewFullError("the folder for training photos is full")
            split = self._split_of(example.name) or _split_of_visitor(visitor)
            layout.make_folders(self._folder)
            labels = self._folder / "labels" / split / f"{example.name}.txt"
            _write_whole(labels, example.labels.encode())
            with (self._folder / "consents.jsonl").open("a", encoding="utf-8") as consents:
                consents.write(json.dumps(agreed) + "\n")
            photo = self._folder / "images" / split / f"{example.name}{example.suffix}"
            _write_whole(photo, example.data)
            self._write_index({example.name: example.missed})

    def _used_bytes(self) -> int:
        return sum(path.stat().st_size for path in self._folder.rglob("*") if path.is_file())

    def _split_of(self, name: str) -> layout.Split | None:
        """Return the split of a photo that is there already, perhaps from another visitor."""
        folders = ((split, self._folder / "images" / split) for split in layout.SPLITS)
        return next((split for split, folder in folders if any(folder.glob(f"{name}.*"))), None)

    def _write_index(self, changed: dict[str, bool]) -> None:
        """Write the manifest and `data.yaml` for the photos that are there.

        Args:
            changed: photos that were just saved, by name, and whether a plate was missed in them.
        """
        known = {}
        if (self._folder / "manifest.csv").exists():
            known = {row.name: row for row in layout.read_manifest(self._folder)}
        rows = [
            known[path.name]
            if path.name in known and path.stem not in changed
            else _row_of(path, split, missed=changed.get(path.stem, False))
            for split in layout.SPLITS
            for path in photos_in(self._folder / "images" / split)
        ]
        if not rows and not known:
            return
        parts = {f"{CARD.name}-{MISSED}": MISSED_TIMES}
        with tempfile.TemporaryDirectory(prefix=".index-", dir=self._folder) as work:
            layout.write_manifest(Path(work), rows, oversample=parts)
            data_yaml = Path(work, "data.yaml")
            data_yaml.write_text(_with_both(data_yaml.read_text(), {row.split for row in rows}))
            for name in INDEX:
                Path(work, name).replace(self._folder / name)


def _with_both(data_yaml: str, splits: set[layout.Split]) -> str:
    """Return `data.yaml` with the photos of train also as val if there are no others, or reverse.

    Training starts only with both; a single visitor's photos are in one.
    """
    if "val" not in splits:
        return data_yaml.replace("val: images/val", "val: images/train")
    return data_yaml if "train" in splits else data_yaml.replace("train.txt", "images/val")


def _split_of_visitor(visitor: str) -> layout.Split:
    digest = hashlib.sha256(visitor.encode()).hexdigest()
    return "val" if int(digest[:8], 16) % VAL_EVERY == 0 else "train"


def _row_of(photo: Path, split: layout.Split, *, missed: bool) -> layout.Row:
    """Return the row of the manifest of a photo of the folder.

    Raises:
        DatasetError: it is no photo, or its label is missing or damaged.
    """
    height, width = layout.image_hw_of(photo)
    label = photo.parents[2] / "labels" / split / f"{photo.stem}.txt"
    try:
        boxes = labels_to_xyxy(label.read_text(), image_hw=(height, width))
    except (OSError, ValueError) as error:
        raise layout.DatasetError(f"{label} is missing or damaged: {error}") from error
    return layout.Row(
        image=f"images/{split}/{photo.name}",
        split=split,
        set=f"{CARD.name}-{MISSED}" if missed else CARD.name,
        source=CARD.source,
        licence=CARD.licence,
        region=CARD.region,
        width=width,
        height=height,
        plates=len(boxes),
        smallest_plate_height_ratio=layout.smallest_ratio(boxes, image_hw=(height, width)),
        sha256=hashlib.sha256(photo.read_bytes()).hexdigest(),
        original_name=photo.name,  # its name at its sender is never stored
    )


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
        suffix=FORMATS[decoded.format].suffixes[0],
        data=encode(decoded, decoded.pixels, metadata="strip"),
        labels=xyxy_to_labels(inside, image_hw=decoded.image_hw),
        missed=photo.by_hand > 0,
    )


def _write_whole(path: Path, data: bytes) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(data)
    part.replace(path)
