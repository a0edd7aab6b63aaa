"""A split of a data set, as its `data.yaml` names it: photos with their labelled plates."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from plateblur.sets import layout
from plateblur.sets.corrections import Correction, correct
from plateblur.sets.files import photos_in
from plateblur.sets.labels import TruthBoxes, label_file, labels_to_xyxy


@dataclass(frozen=True, slots=True)
class LabelledPhoto:
    """One photo of a split.

    Attributes:
        path: of the photo.
        image_hw: height and width once upright, pixels.
        truth: (N, 4) float64 `xyxy`, the labelled plates, pixels of the upright image.
        group: its set and its region, empty where no manifest says.
        turn: quarter turns to the left that the upright photo is to be turned by; size and boxes
            are of the turned one.
    """

    path: Path
    image_hw: tuple[int, int]
    truth: TruthBoxes
    group: Mapping[str, str]
    turn: int = 0


def turned_photo(photo: LabelledPhoto, quarters: int) -> LabelledPhoto:
    """Return the photo turned to the left by 0 to 3 quarter turns."""
    for _ in range(quarters):
        height, width = photo.image_hw
        x1, y1, x2, y2 = photo.truth.T
        photo = replace(
            photo,
            image_hw=(width, height),
            truth=np.stack([y1, width - x2, y2, width - x1], axis=1),
            turn=(photo.turn + 1) % 4,
        )
    return photo


def split_photos(data: Path, split: str) -> list[Path]:
    """Return the photos of a split, wherever `data.yaml` points; a list may name one several times.

    As ultralytics reads it: a folder and the folders in it, a `.txt` list of photos, or several of
    these; Roboflow's `../train/images` is taken from beside `data.yaml` where it is there. Files of
    other kinds and hidden ones, such as `.DS_Store`, are passed over.

    Args:
        data: `data.yaml` of a YOLO data set; its `path`, if any, is relative to it.
        split: "train", "val" or "test".

    Raises:
        ValueError: no such split, or one that names neither a folder nor a list.
    """
    described = yaml.safe_load(data.read_text(encoding="utf-8"))
    if not isinstance(described, dict) or not described.get(split):
        raise ValueError(f"expected `{split}:` with a folder of photos in {data}, found none")
    named = described[split]
    root = data.parent / (described.get("path") or "")
    photos: list[Path] = []
    for one in [named] if isinstance(named, str) else named:
        place = root / str(one)
        if not place.exists() and str(one).startswith("../"):
            place = root / str(one)[3:]
        if place.is_dir():
            photos += photos_in(place)
        elif place.is_file():
            lines = place.read_text(encoding="utf-8").splitlines()
            photos += [place.parent / line.strip() for line in lines if line.strip()]
        else:
            raise ValueError(
                f"{data}: expected a folder or a list of photos for `{split}`, got {one}"
            )
    return photos


def read_split(data: Path, split: str, *, manifest: Path | None = None) -> list[LabelledPhoto]:
    """Return the photos of a split in the order of their names, with their labelled plates.

    Args:
        data: `data.yaml` of a YOLO data set; its `path`, if any, is relative to it.
        split: "train", "val" or "test".
        manifest: CSV with the columns image, set and region; without it `manifest.csv` beside
            `data`, if there is one.

    Raises:
        ValueError: no such split, no photo in it, one of which two have the same name, or a label
            that is none.
        DatasetError: a photo is none.
    """
    groups = _read_manifest(manifest or data.parent / "manifest.csv", needed=manifest is not None)
    photos: dict[str, LabelledPhoto] = {}
    for path in sorted(set(split_photos(data, split)), key=lambda photo: (photo.name, photo)):
        if path.name in photos:
            raise ValueError(
                f"{path} has the name of {photos[path.name].path}; photos need different names"
            )
        image_hw = layout.image_hw_of(path)
        label = label_file(path)
        try:
            text = label.read_text() if label.exists() else ""
            truth = labels_to_xyxy(text, image_hw=image_hw)
        except ValueError as error:
            raise ValueError(f"{label}: {error}") from error
        photos[path.name] = LabelledPhoto(path, image_hw, truth, groups.get(path.name, {}))
    if not photos:
        raise ValueError(f"expected photos in the split {split!r} of {data}, found none")
    return list(photos.values())


def check_trainable(data: Path) -> list[str]:
    """Check train and val before time is spent on them, and return what a person should know.

    ultralytics leaves out a photo with a broken label, trains on any number of classes, and takes a
    photo without a label file for one without plates.

    Args:
        data: `data.yaml` of a YOLO data set.

    Returns:
        A sentence where photos are in both splits, and one for each split with photos that have no
        label file.

    Raises:
        ValueError: a split has no photo, a label is none, there is more than one class, two photos
            of a split have one name, or a label file is named `.TXT`.
    """
    described = yaml.safe_load(data.read_text(encoding="utf-8"))
    names = described.get("names") if isinstance(described, dict) else None
    if not isinstance(names, dict | list) or len(names) != 1:
        raise ValueError(
            f"{data}: expected `names` with one class, plates, got {names!r}; datasets/folder.py "
            "makes such a set of one with more classes"
        )
    notes = []
    both = {path.resolve() for path in split_photos(data, "train")} & {
        path.resolve() for path in split_photos(data, "val")
    }
    if both:
        notes.append(
            f"val: {len(both)} photos are in train too; figures on photos that were trained on say "
            "nothing about others"
        )
    for split in ("train", "val"):
        stems: dict[str, Path] = {}
        unlabelled = 0
        photos = read_split(data, split)
        for path in (photo.path for photo in photos):
            if path.stem in stems:  # labels are found by it
                raise ValueError(
                    f"{path} has the name of {stems[path.stem]}; photos of a split need different "
                    "names, also where only the suffix differs"
                )
            stems[path.stem] = path
            label = label_file(path)
            if not label.exists():
                if label.with_suffix(".TXT").exists():
                    raise ValueError(f"{label.with_suffix('.TXT')}: expected the suffix .txt")
                unlabelled += 1
        if unlabelled:
            notes.append(
                f"{split}: {unlabelled} of {len(photos)} photos have no label file and count as "
                "photos without plates"
            )
    return notes


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


def kept_apart_of(photos: Iterable[LabelledPhoto], of: Collection[str]) -> list[LabelledPhoto]:
    """Return those of some train photos that are kept apart; see `is_kept_apart`.

    Raises:
        ValueError: none is.
    """
    photos = list(photos)
    sets = {photo.path.name: photo.group.get("set", "") for photo in photos}
    apart = [photo for photo in photos if is_kept_apart(photo.path.name, sets, of=of)]
    if not apart:
        raise ValueError(
            f"expected train photos of the sets {sorted(of)} to keep apart, found none"
        )
    return apart


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


def names_hash(photos: Iterable[LabelledPhoto]) -> str:
    """Return the sha256 over the names of a split's photos: the same whatever their labels are."""
    return hashlib.sha256("\n".join(sorted(p.path.name for p in photos)).encode()).hexdigest()


HASH_KIND = "2-"
"""Begins a hash over photos and labels; one without it is over the labels of two folders alone."""


def data_hash(data: Path) -> str:
    """Return the hash of a data set: over the bytes of its photos and labels, train and val.

    Raises:
        ValueError: nothing to hash, or no photo of train has a label file.
    """
    digest = hashlib.sha256()
    for split in ("train", "val"):
        photos = sorted(set(split_photos(data, split)), key=lambda photo: (photo.name, photo))
        if not photos:
            raise ValueError(f"expected photos in the split {split!r} of {data}, found none")
        labels = [label_file(photo) for photo in photos]
        if split == "train" and not any(label.exists() for label in labels):
            raise ValueError(
                f"expected label files for the photos of train in {data}, found none; the first "
                f"would be {labels[0]}"
            )
        for photo, label in zip(photos, labels, strict=True):
            digest.update(f"{split}/{photo.name}\n".encode())
            digest.update(hashlib.sha256(photo.read_bytes()).digest())
            digest.update(label.read_bytes() if label.exists() else b"no label file")
    return HASH_KIND + digest.hexdigest()


def is_data_of(data: Path, recorded: str) -> bool:
    """Return whether a data set has the hash that a run wrote down, of whichever kind that is."""
    if recorded.startswith(HASH_KIND):
        return data_hash(data) == recorded
    digest = hashlib.sha256()
    labels = sorted((data.parent / "labels").glob("*/*.txt"))
    for label in (one for one in labels if one.parent.name in ("train", "val")):
        digest.update(f"{label.parent.name}/{label.name}\n".encode())
        digest.update(label.read_bytes())
    return bool(labels) and digest.hexdigest() == recorded


def data_sets_of(manifest: Path, *, photos: Collection[str] | None = None) -> list[dict[str, Any]]:
    """Return each set of a manifest with its stated licence and its photos by split, largest first.

    Args:
        manifest: CSV with the columns image, split and set; source, licence and region if known.
        photos: file names of those that count; all without it.
    """
    with manifest.open(newline="", encoding="utf-8") as file:
        # By image, because a manifest may list one twice.
        rows = {row["image"]: row for row in csv.DictReader(file)}
    sets: dict[str, dict[str, Any]] = {}
    for row in rows.values():
        if photos is not None and Path(row["image"]).name not in photos:
            continue
        one = sets.setdefault(
            row["set"],
            {
                **{key: row.get(key, "") for key in ("set", "source", "licence", "region")},
                "photos": {"train": 0, "val": 0, "test": 0},
            },
        )
        one["photos"][row["split"]] += 1
    return sorted(sets.values(), key=lambda one: -sum(one["photos"].values()))
