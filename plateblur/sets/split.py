"""A split of a data set, as its `data.yaml` names it: photos with their labelled plates."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from plateblur.photo import upright_hw
from plateblur.sets.corrections import Correction, correct
from plateblur.sets.labels import TruthBoxes, label_file, labels_to_xyxy


@dataclass(frozen=True, slots=True)
class LabelledPhoto:
    """One photo of a split.

    Attributes:
        path: of the photo.
        image_hw: height and width once upright, pixels.
        truth: (N, 4) float64 `xyxy`, the labelled plates, pixels of the upright image.
        group: its set and its region, empty where no manifest says.
    """

    path: Path
    image_hw: tuple[int, int]
    truth: TruthBoxes
    group: Mapping[str, str]


def read_split(data: Path, split: str, *, manifest: Path | None = None) -> list[LabelledPhoto]:
    """Return the photos of a split in the order of their names, with their labelled plates.

    Args:
        data: `data.yaml` of a YOLO data set; its `path`, if any, is relative to it.
        split: "train", "val" or "test".
        manifest: CSV with the columns image, set and region; without it `manifest.csv` beside
            `data`, if there is one.

    Raises:
        ValueError: no such split, a split that is no folder, or a label that is none.
    """
    described = yaml.safe_load(data.read_text())
    folder = described.get(split)
    if not isinstance(folder, str) or "images" not in Path(folder).parts:
        raise ValueError(
            f"expected `{split}:` with a folder of images/ in {data.name}, got {folder!r}"
        )
    images = data.parent / described.get("path", "") / folder
    groups = _read_manifest(manifest or data.parent / "manifest.csv", needed=manifest is not None)
    photos = []
    for path in sorted(images.iterdir()):
        image_hw = upright_hw(path.read_bytes())
        label = label_file(path)
        text = label.read_text() if label.exists() else ""
        try:
            truth = labels_to_xyxy(text, image_hw=image_hw)
        except ValueError as error:
            raise ValueError(f"{label.name}: {error}") from error
        photos.append(LabelledPhoto(path, image_hw, truth, groups.get(path.name, {})))
    if not photos:
        raise ValueError(f"expected photos in the split {split!r}, found none in {images}")
    return photos


def _read_manifest(path: Path, *, needed: bool) -> dict[str, dict[str, str]]:
    if not needed and not path.exists():
        return {}
    with path.open(newline="") as file:
        return {
            Path(row["image"]).name: {"set": row["set"], "region": row["region"]}
            for row in csv.DictReader(file)
        }


def sets_of(data: Path) -> dict[str, str]:
    """Return the set of each photo by its file name, of the manifest beside `data`, if any."""
    manifest = _read_manifest(data.parent / "manifest.csv", needed=False)
    return {name: row["set"] for name, row in manifest.items()}


def is_kept_apart(name: str, sets: Mapping[str, str], *, of: Collection[str]) -> bool:
    """Return whether a train photo is one of those that only the gate of promotion sees.

    A quarter of the photos of the sets `of`, by the hash of their names, so that the choice is the
    same on every machine and no list of names is needed.

    Args:
        name: of the photo's file.
        sets: the set of each photo, as `sets_of` returns them.
        of: names of sets.
    """
    return sets.get(name) in of and hashlib.sha256(name.encode()).digest()[0] < 64


def corrected_photo(photo: LabelledPhoto, corrections: Iterable[Correction]) -> LabelledPhoto:
    """Return the photo with its own corrections applied to its labels."""
    own = [c for c in corrections if c.image == photo.path.name]
    return replace(photo, truth=correct(photo.truth, own)) if own else photo


def labels_hash(photos: Iterable[LabelledPhoto]) -> str:
    """Return the sha256 over the names and labelled boxes of a split."""
    digest = hashlib.sha256()
    for photo in photos:
        digest.update(f"{photo.path.name} {photo.truth.round(3).tolist()}\n".encode())
    return digest.hexdigest()


def data_hash(data_yaml: Path) -> str:
    """Return the sha256 over the names and bytes of a data set's labels, train and val."""
    root = data_yaml.parent
    digest = hashlib.sha256()
    for label in sorted((root / "labels").glob("*/*.txt")):
        if label.parent.name in ("train", "val"):
            digest.update(f"{label.parent.name}/{label.name}\n".encode())
            digest.update(label.read_bytes())
    return digest.hexdigest()
