"""Report how well a detector finds and hides plates on a split of a data set, misses first.

    python -m training.evaluate --data DATA.yaml --split test --out runs/first/test \
        --model runs/first/plates.onnx
    python -m training.evaluate --data DATA.yaml --split val --out runs/b/val \
        --model runs/b/plates.onnx --compare runs/a/plates.onnx --contact-sheet

It runs the detector that is served, once, down to a low confidence, and writes into `--out`
`metrics.json` (every figure), `report.md` (tables), plots, and `predictions.jsonl`: a line a photo,
`{"image": name, "boxes": [[x1, y1, x2, y2, confidence], ...]}`, pixels of the upright photo.
`--model` and `--compare` take such a file too, so that a detector which can't be run here can be
measured. `--angles 20` also tells from which angles drawn plates are found.

`--out` holds what was found on people's photos: it stands outside the repository, or git ignores
it there.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageDraw

from plateblur.boxes import iou_matrix
from plateblur.detector import OnnxDetector, shipped_model
from plateblur.guidance import (
    BUCKET_NAMES,
    GUIDANCE_RATIO,
    bucket_indices,
    ratio_text,
)
from plateblur.labels import (
    Correction,
    correct,
    label_file,
    labels_to_xyxy,
    parse_corrections,
)
from plateblur.metrics import (
    COVERED_SHARE,
    FALSE_BOX_IOU,
    Difference,
    Figures,
    PhotoBoxes,
    Scores,
    calibration,
    coverage,
    expected_calibration_error,
    figures,
    paired_bootstrap,
    precision_recall_curve,
    score_photos,
    share,
    threshold_for_recall,
)
from plateblur.photo import decode, upright_hw
from plateblur.pipeline import find_plates
from plateblur.types import BlurOptions, Detector, Image

if TYPE_CHECKING or __package__:
    from training.drawn import synthetic
else:  # as a script, its own folder is on the path
    from drawn import synthetic

Floats = NDArray[np.float64]
DrawScene = Callable[[int, float, float], tuple[Image, Floats]]
"""From a seed and a plate's side and tilt angle in degrees: an image and its plates' `xyxy`."""

Predictions = dict[str, Floats]
"""By file name of a photo: (M, 5) float64, a box's `xyxy` in pixels and its confidence."""

RANGES: dict[str, tuple[int, ...]] = {
    "within 1:15": (0, 1),
    "1:15-1:30": (2, 3),
    "1:30-1:60": (4,),
    "below 1:60": (5,),
}
"""Names of the ranges that figures are promised for, and their buckets."""

DISTANCES: dict[str, tuple[int, ...]] = {"down to 1:30": (0, 1, 2, 3), "below 1:30": (4, 5)}
"""Names of the two ranges by which sets are compared, and their buckets."""

SWEEP = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Confidences at which the cost of a threshold is shown."""

SIDE_DEGREES = (0, 15, 30, 45, 60)
TILT_DEGREES = (0, 10, 20, 30)
"""Angles of drawn plates, to either side; beyond them hardly anything of a plate can be read."""

# Source: Okabe and Ito, "Color Universal Design": told apart with every kind of colour vision.
BLUE, ORANGE, GREEN, PINK, GREY = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#777777"


@dataclass(frozen=True, slots=True)
class Config:
    """What is measured, and how; the command line's options."""

    data: Path  # data.yaml of a YOLO data set
    out: Path  # folder of the report; made here
    split: str = "test"  # "val" to choose by, "test" to report
    model: Path = Path()  # ONNX model, or a file of stored predictions
    compare: Path | None = None  # a second one, measured on the same photos
    manifest: Path | None = None  # CSV with each photo's set and region; else beside the data
    labels_overlay: Path | None = None  # corrections of labels, JSON lines (plateblur/labels.py)
    min_confidence: float = BlurOptions().min_confidence  # smallest confidence that is blurred
    margin: float = BlurOptions().margin  # widening of a box on each side, share of its size
    confidence_floor: float = 0.001  # boxes are kept down to this, for AP and the thresholds
    target_recall: float = 0.985  # "which threshold gives this recall within 1:15?"
    threads: int | None = None  # of the detector; all cores without it
    second_look: bool = True  # of the detector at boxes that it is not sure of, as it is served
    angles: int = 0  # drawn scenes an angle, for recall by side and tilt; none without it
    plots: bool = True  # draw the plots, which the report shows
    contact_sheet: bool = False  # also draw the worst misses and the false boxes
    resamples: int = 2000  # of the paired bootstrap
    seed: int = 0  # of the paired bootstrap


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
    truth: Floats
    group: Mapping[str, str]


def evaluate(config: Config) -> dict[str, Any]:
    """Write the report into `config.out` and return what `metrics.json` holds."""
    if config.confidence_floor > config.min_confidence:
        raise ValueError(
            f"the floor {config.confidence_floor} must not be above the minimum confidence "
            f"{config.min_confidence}: boxes between them would be missing"
        )
    require_private(config.out)
    config.out.mkdir(parents=True, exist_ok=True)
    labelled = read_split(config.data, config.split, manifest=config.manifest)
    corrections = read_corrections(config.labels_overlay)
    corrected = [corrected_photo(photo, corrections) for photo in labelled]
    marks = [c for c in corrections if c.action == "mark"]

    predictions, milliseconds = predictions_of(config.model, labelled, config)
    write_predictions(predictions, config.out / "predictions.jsonl")
    photos = corrected if corrections else labelled
    scores = score(photos, predictions, config)
    metrics: dict[str, Any] = {
        "model": describe(config.model),
        "split": config.split,
        "labels_hash": labels_hash(labelled),
        "commit": git_commit(),
        "min_confidence": config.min_confidence,
        "margin": config.margin,
        "confidence_floor": config.confidence_floor,
        "detect_ms_median": milliseconds,
        "labels": "corrected" if corrections else "as they are",
        **all_figures(scores, photos),
        "false_boxes_on": false_boxes_on(photos, predictions, marks, config),
        "calibration": calibration_of(scores),
        "thresholds": threshold_costs(
            scores, photos, predictions, [c for c in SWEEP if c >= config.confidence_floor]
        ),
        "target_recall": cost_of_recall(scores, photos, predictions, config.target_recall),
    }
    if corrections:
        as_labelled = all_figures(score(labelled, predictions, config), labelled)
        metrics["labels_as_they_are"] = as_labelled
        metrics["corrections"] = dict(Counter(c.action for c in corrections))
    if config.angles:
        detector = detector_of(config.model, config)
        metrics["angles"] = recall_by_angle(detector, draw_one_plate, config)
    if config.compare:
        other_predictions, other_milliseconds = predictions_of(config.compare, labelled, config)
        write_predictions(other_predictions, config.out / "predictions-compared.jsonl")
        other = score(photos, other_predictions, config)
        metrics["compared"] = {
            "model": describe(config.compare),
            "detect_ms_median": other_milliseconds,
            **all_figures(other, photos),
            "differences": differences(other, scores, resamples=config.resamples, seed=config.seed),
        }
    (config.out / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    if config.plots:
        draw_recall_by_ratio(scores, config.out / "recall-by-ratio.png")
        draw_precision_recall(scores, config.out / "precision-recall.png")
        draw_calibration(scores, config.out / "calibration.png")
        if "angles" in metrics:
            draw_angles(metrics["angles"], config.out / "recall-by-angle.png")
    if config.contact_sheet:
        draw_misses(scores, photos, predictions, config.out / "misses.jpg")
        draw_false_boxes(scores, photos, predictions, config.out / "false-boxes.jpg")
    (config.out / "report.md").write_text(report(metrics))
    return metrics


def require_private(folder: Path) -> None:
    """Refuse a folder that git would commit, because photos and their labels stay off it.

    Raises:
        ValueError: the folder stands in a git tree and is not ignored there.
    """
    folder = folder.resolve()
    tree = next((p for p in (folder, *folder.parents) if (p / ".git").exists()), None)
    if tree is None:
        return
    # Asked for a file, because a pattern such as `runs/` does not match a folder not yet made.
    asked = subprocess.run(
        ["git", "check-ignore", "--quiet", str(folder / "metrics.json")], cwd=tree, check=False
    )
    if asked.returncode != 0:
        raise ValueError(
            f"{folder} is inside a git tree and not ignored there; it would hold detections on "
            "people's photos. Give a folder outside of it, or one of the ignored ones (runs/)"
        )


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


def read_corrections(overlay: Path | None) -> list[Correction]:
    """Return the corrections of an overlay file; none without one."""
    return parse_corrections(overlay.read_text()) if overlay else []


def corrected_photo(photo: LabelledPhoto, corrections: Iterable[Correction]) -> LabelledPhoto:
    """Return the photo with its own corrections applied to its labels."""
    own = [c for c in corrections if c.image == photo.path.name]
    return replace(photo, truth=correct(photo.truth, own)) if own else photo


def predictions_of(
    model: Path, photos: Sequence[LabelledPhoto], config: Config
) -> tuple[Predictions, float | None]:
    """Return what a model finds, or what a file says that it found, and milliseconds a photo.

    Raises:
        ValueError: a file of stored predictions that leaves out a photo.
    """
    if model.suffix == ".jsonl":
        stored = read_predictions(model)
        missing = [photo.path.name for photo in photos if photo.path.name not in stored]
        if missing:
            raise ValueError(
                f"expected a line for each of {len(photos)} photos in {model.name}, "
                f"{len(missing)} are missing, the first {missing[0]}"
            )
        return {photo.path.name: stored[photo.path.name] for photo in photos}, None
    return run_detector(
        detector_of(model, config), photos, confidence_floor=config.confidence_floor
    )


def detector_of(model: Path, config: Config) -> OnnxDetector:
    """Return the detector as the config has it measured."""
    return OnnxDetector(model, threads=config.threads, second_look=config.second_look)


def run_detector(
    detector: Detector, photos: Sequence[LabelledPhoto], *, confidence_floor: float
) -> tuple[Predictions, float]:
    """Return what is found on each photo the served way, and the median milliseconds of it."""
    predictions, seconds = {}, []
    for count, photo in enumerate(photos, start=1):
        decoded = decode(photo.path.read_bytes())
        started = time.perf_counter()
        found = find_plates(decoded, detector, min_confidence=confidence_floor)
        seconds.append(time.perf_counter() - started)
        rows = np.column_stack([found.xyxy, found.confidence]).astype(np.float64)
        predictions[photo.path.name] = rows.reshape(-1, 5)
        if count % 100 == 0 or count == len(photos):
            print(f"{count} of {len(photos)} photos", file=sys.stderr)
    return predictions, round(float(np.median(seconds)) * 1000, 1)


def write_predictions(predictions: Predictions, path: Path) -> None:
    """Write a JSON line a photo, with every digit, so that others count the same."""
    lines = (
        json.dumps({"image": name, "boxes": rows.tolist()}) + "\n"
        for name, rows in predictions.items()
    )
    path.write_text("".join(lines))


def read_predictions(path: Path) -> Predictions:
    """Return the predictions of a file that `write_predictions` or another tool wrote."""
    records = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    return {
        record["image"]: np.array(record["boxes"], dtype=np.float64).reshape(-1, 5)
        for record in records
    }


def score(photos: Sequence[LabelledPhoto], predictions: Predictions, config: Config) -> Scores:
    """Return the rows that the figures are counted from, at the config's blur options."""
    paired = [
        PhotoBoxes(photo.image_hw, photo.truth, rows[:, :4], rows[:, 4])
        for photo in photos
        for rows in [predictions[photo.path.name]]
    ]
    return score_photos(paired, min_confidence=config.min_confidence, margin=config.margin)


def describe(model: Path) -> dict[str, Any]:
    """Return what tells one model file from another."""
    data = model.read_bytes()
    return {"file": model.name, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}


def labels_hash(photos: Iterable[LabelledPhoto]) -> str:
    """Return the sha256 over the names and labelled boxes of a split."""
    digest = hashlib.sha256()
    for photo in photos:
        digest.update(f"{photo.path.name} {photo.truth.round(3).tolist()}\n".encode())
    return digest.hexdigest()


def git_commit() -> str:
    """Return the commit of this checkout, with "+changes" where the tree differs from it.

    Not train.py's own, because that page brings torch along.
    """

    def run(*arguments: str) -> str:
        here = Path(__file__).parent
        done = subprocess.run(
            ["git", *arguments], cwd=here, capture_output=True, text=True, check=False
        )
        return done.stdout.strip()

    commit = run("rev-parse", "HEAD") or "none"
    return f"{commit}+changes" if run("status", "--porcelain") else commit


# Figures


def all_figures(scores: Scores, photos: Sequence[LabelledPhoto]) -> dict[str, Any]:
    """Return the figures overall, by range, plate ratio, set, region, and by set near and far."""
    overall = figures(scores)
    return {
        "overall": asdict(overall),
        "ranges": {
            name: asdict(figures(scores, buckets=buckets)) for name, buckets in RANGES.items()
        },
        "by_ratio": {
            name: asdict(figures(scores, buckets=[bucket]))
            for bucket, name in enumerate(BUCKET_NAMES)
        },
        "by_set": _figures_by(scores, photos, "set"),
        "by_region": _figures_by(scores, photos, "region"),
        "by_set_and_distance": {
            distance: _figures_by(scores, photos, "set", buckets=buckets)
            for distance, buckets in DISTANCES.items()
        },
    }


def _figures_by(
    scores: Scores,
    photos: Sequence[LabelledPhoto],
    key: str,
    *,
    buckets: Collection[int] | None = None,
) -> dict[str, dict[str, Any]]:
    names = np.array([photo.group.get(key, "") for photo in photos])
    grouped: dict[str, Figures] = {
        name: figures(scores, photos=names == name, buckets=buckets)
        for name in sorted(set(names.tolist()) - {""})
    }
    return {name: asdict(group) for name, group in grouped.items()}


def false_boxes_on(
    photos: Sequence[LabelledPhoto],
    predictions: Predictions,
    marks: Iterable[Correction],
    config: Config,
) -> dict[str, int]:
    """Return how many false boxes lie on what: a marked thing, beside a plate, or elsewhere.

    Args:
        photos: with their truth.
        predictions: of these photos.
        marks: corrections that name what a box without a plate shows.
        config: whose `min_confidence` counts.
    """
    counts: Counter[str] = Counter()
    by_image: dict[str, list[Correction]] = {}
    for mark in marks:
        by_image.setdefault(mark.image, []).append(mark)
    for photo in photos:
        rows = predictions[photo.path.name]
        for row in rows[rows[:, 4] >= config.min_confidence]:
            box = row[None, :4].astype(np.float32)
            overlap = iou_matrix(box, photo.truth.astype(np.float32))
            if overlap.max(initial=0) < FALSE_BOX_IOU:
                counts[_what_lies_there(box, overlap, by_image.get(photo.path.name, []))] += 1
    return dict(counts.most_common())


def _what_lies_there(
    box: NDArray[np.float32], overlap: NDArray[np.float32], marks: Iterable[Correction]
) -> str:
    for mark in marks:
        if iou_matrix(box, mark.boxes.astype(np.float32)).max() >= FALSE_BOX_IOU:
            return mark.reason
    if overlap.size == 0:
        return "a photo without plates"
    return "beside a plate" if overlap.max() > 0 else "elsewhere on a photo with plates"


def calibration_of(scores: Scores) -> dict[str, Any]:
    """Return the bins of confidence against precision, and the mean gap between the two.

    The gap is that of the boxes which are blurred: most boxes down to the floor are background
    that the model itself hardly believes in, and would hide any other fault.
    """
    correct = scores.match[0] >= 0
    bins = calibration(scores.box_confidence, correct)
    kept = calibration(scores.box_confidence[scores.kept], correct[scores.kept])
    return {
        "expected_calibration_error": expected_calibration_error(kept),
        "bins": [asdict(b) for b in bins],
    }


def threshold_costs(
    scores: Scores,
    photos: Sequence[LabelledPhoto],
    predictions: Predictions,
    confidences: Iterable[float],
) -> list[dict[str, Any]]:
    """Return what each minimum confidence would find and hide, and its false boxes."""
    within = scores.plate_ratio >= GUIDANCE_RATIO
    costs = []
    for confidence in confidences:
        recalled = scores.best_confidence >= confidence
        hidden = hidden_at(confidence, photos, predictions, margin=scores.margin)
        false_boxes = int((scores.off_plates & (scores.box_confidence >= confidence)).sum())
        costs.append(
            {
                "min_confidence": confidence,
                "within 1:15": {
                    "recall": asdict(share(int(recalled[within].sum()), int(within.sum()))),
                    "covered99": asdict(share(int(hidden[within].sum()), int(within.sum()))),
                },
                "overall": {
                    "recall": asdict(share(int(recalled.sum()), len(recalled))),
                    "covered99": asdict(share(int(hidden.sum()), len(hidden))),
                },
                "false_boxes_per_photo": false_boxes / len(photos),
            }
        )
    return costs


def hidden_at(
    confidence: float,
    photos: Sequence[LabelledPhoto],
    predictions: Predictions,
    *,
    margin: float,
) -> NDArray[np.bool_]:
    """Return for each plate whether boxes from `confidence` up hide at least 99 % of it."""
    covered = [np.zeros(0)]
    for photo in photos:
        rows = predictions[photo.path.name]
        kept = rows[rows[:, 4] >= confidence, :4]
        covered.append(coverage(photo.truth, kept, margin=margin))
    return np.concatenate(covered) >= COVERED_SHARE


def cost_of_recall(
    scores: Scores, photos: Sequence[LabelledPhoto], predictions: Predictions, target: float
) -> dict[str, Any]:
    """Return the highest threshold with this recall within 1:15, and what it costs."""
    within = scores.plate_ratio >= GUIDANCE_RATIO
    threshold = threshold_for_recall(scores.best_confidence[within], target=target)
    at = [] if threshold is None else threshold_costs(scores, photos, predictions, [threshold])
    return {"target": target, "min_confidence": threshold, "cost": at[0] if at else None}


def headline(metrics: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the few figures that detectors are told apart by, rounded, misses first.

    Args:
        metrics: what `evaluate` counted, or its `labels_as_they_are`.
    """
    rows = {
        f"{figure}, {name}": metrics["ranges"][name][figure]["value"]
        for name in RANGES
        for figure in ("covered99", "recall")
    }
    overall = metrics["overall"]
    rows |= {"covered99": overall["covered99"]["value"], "recall": overall["recall"]["value"]}
    rows |= {key: overall[key] for key in ("false_boxes_per_photo", "ap50", "ap50_95")}
    return {key: None if value is None else round(value, 4) for key, value in rows.items()}


def differences(
    first: Scores, second: Scores, *, resamples: int, seed: int
) -> dict[str, dict[str, Any]]:
    """Return by how much `second` is above `first`, over the same photos, with paired intervals.

    Args:
        first: rows of the model that is compared with.
        second: rows of the model in question, on the same photos and truth.
        resamples: of the bootstrap over photos.
        seed: of the bootstrap.
    """
    rows: dict[str, dict[str, Any]] = {}
    every = {"overall": tuple(range(len(BUCKET_NAMES))), **RANGES}
    for name, buckets in every.items():
        for figure, flags in {
            "recall": (first.recalled, second.recalled),
            "covered99": (first.hidden, second.hidden),
        }.items():
            wanted = np.isin(bucket_indices(first.plate_ratio), buckets)
            of = _sums(first.plate_photo, wanted, first)
            counts = (
                _sums(first.plate_photo, wanted & flags[0], first),
                _sums(second.plate_photo, wanted & flags[1], second),
            )
            drawn = paired_bootstrap(counts, (of, of), resamples=resamples, seed=seed)
            rows[f"{figure}, {name}"] = _difference_row(counts, (of, of), drawn)
    ones = np.ones(len(first.over_blur))
    false_boxes = tuple(
        _sums(scores.box_photo, scores.kept & scores.off_plates, scores)
        for scores in (first, second)
    )
    pair = (false_boxes[0], false_boxes[1])
    drawn = paired_bootstrap(pair, (ones, ones), resamples=resamples, seed=seed)
    rows["false boxes per photo"] = _difference_row(pair, (ones, ones), drawn)
    return rows


def _sums(photo: NDArray[np.int64], flags: NDArray[np.bool_], scores: Scores) -> Floats:
    """Return how many flags are set in each photo."""
    return np.bincount(photo[flags], minlength=len(scores.over_blur)).astype(np.float64)


def _difference_row(
    counts: tuple[Floats, Floats], of: tuple[Floats, Floats], drawn: Difference
) -> dict[str, Any]:
    values = [
        float(c.sum() / n.sum()) if n.sum() else None for c, n in zip(counts, of, strict=True)
    ]
    return {"first": values[0], "second": values[1], "difference": asdict(drawn)}


# Angles, on drawn scenes


def draw_one_plate(seed: int, side_deg: float, tilt_deg: float) -> tuple[Image, Floats]:
    """Return a drawn street by day with one plate within the guidance, and its box.

    Args:
        seed: the same vehicle and street at every angle.
        side_deg: how far the plate is turned away, seen from above; 0 is head-on.
        tilt_deg: how far the camera is turned about its axis.
    """
    scene = synthetic.draw_scene(
        seed,
        image_hw=(720, 1280),
        plates=1,
        ratios=(1 / 14, 1 / 10),
        side_deg=(side_deg, side_deg),
        tilt_deg=(tilt_deg, tilt_deg),
    )
    return scene.image, scene.xyxy.astype(np.float64)


def recall_by_angle(detector: Detector, draw: DrawScene, config: Config) -> dict[str, Any]:
    """Return recall and covered99 of drawn plates by side angle and by tilt, the other being 0.

    Drawn plates tell how angles change the result, not how good it is on photos.

    Args:
        detector: that is served.
        draw: makes a scene; its angles are drawn to either side in turn.
        config: whose blur options and number of scenes an angle count.
    """
    angles: dict[str, Any] = {}
    for kind, degrees in (("side", SIDE_DEGREES), ("tilt", TILT_DEGREES)):
        angles[kind] = {}
        for degree in degrees:
            drawn = []
            for seed in range(config.angles):
                turned = float(degree if seed % 2 == 0 else -degree)
                image, truth = draw(seed, *((turned, 0.0) if kind == "side" else (0.0, turned)))
                found = detector.detect(image, min_confidence=config.min_confidence)
                image_hw = (image.shape[0], image.shape[1])
                xyxy, confidence = found.xyxy.astype(float), found.confidence.astype(float)
                drawn.append(PhotoBoxes(image_hw, truth, xyxy, confidence))
            scores = score_photos(drawn, min_confidence=config.min_confidence, margin=config.margin)
            one = figures(scores)
            angles[kind][str(degree)] = {
                "plates": one.plates,
                "missed": asdict(one.missed),
                "covered99": asdict(one.covered99),
                "recall": asdict(one.recall),
                "mean_coverage": one.mean_coverage,
            }
    return angles


# Plots


def draw_recall_by_ratio(scores: Scores, path: Path) -> None:
    """Draw recall and covered99 against the plate ratio, with the guidance's 1:15 as a line."""
    denominators = 1 / np.maximum(scores.plate_ratio, 1e-6)
    edges = np.array([1, 5, 7.5, 10, 12.5, 15, 17.5, 20, 25, 30, 40, 50, 60, 80, 120, 1e6])
    figure, axes = _empty_plot("plate ratio (plate height : picture height)", "share of plates")
    for label, flags, colour, marker, shift in (
        ("recall at IoU 0.5", scores.recalled, BLUE, "o", 0.99),
        ("covered99: at least 99 % hidden", scores.hidden, ORANGE, "s", 1.01),
    ):
        points = []
        for low, high in pairwise(edges):
            inside = (denominators > low) & (denominators <= high)
            one = share(int(flags[inside].sum()), int(inside.sum()))
            if one.value is not None and one.low is not None and one.high is not None:
                middle = float(np.median(denominators[inside]))
                points.append(
                    (middle * shift, one.value, one.value - one.low, one.high - one.value)
                )
        if points:
            x, y, below, above = np.array(points).T
            axes.errorbar(
                x, y, yerr=[below, above], color=colour, marker=marker, capsize=3, label=label
            )
    axes.axvline(1 / GUIDANCE_RATIO, color=GREY, linestyle="--", label="guidance: 1:15")
    axes.set_xscale("log")
    ticks = [5, 10, 15, 20, 30, 60, 100]
    axes.set_xticks(ticks, [f"1:{tick}" for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.set_ylim(0, 1.02)
    axes.legend(loc="lower left")
    figure.savefig(path)


def draw_precision_recall(scores: Scores, path: Path) -> None:
    """Draw precision against recall, for all plates and within 1:15, with the shipped threshold."""
    figure, axes = _empty_plot("recall (IoU 0.5, one box a plate)", "precision")
    correct = scores.match[0] >= 0
    plate_within = np.append(scores.plate_ratio >= GUIDANCE_RATIO, False)
    box_within = np.where(
        correct, plate_within[scores.match[0]], scores.box_ratio >= GUIDANCE_RATIO
    )
    for label, boxes, plates, colour, line in (
        ("all plates", np.ones_like(box_within), len(scores.plate_ratio), BLUE, "-"),
        ("within 1:15", box_within, int(plate_within.sum()), ORANGE, "--"),
    ):
        precision, recall, confidence = precision_recall_curve(
            scores.box_confidence[boxes], correct[boxes], plates=plates
        )
        axes.plot(recall, precision, color=colour, linestyle=line, label=label)
        kept = int((confidence >= scores.min_confidence).sum())
        if kept:
            axes.plot(recall[kept - 1], precision[kept - 1], color=colour, marker="o")
    axes.plot([], [], color=GREY, marker="o", linestyle="", label=f"at {scores.min_confidence:g}")
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, 1.02)
    axes.legend(loc="lower left")
    figure.savefig(path)


def draw_calibration(scores: Scores, path: Path) -> None:
    """Draw how often boxes of each confidence are right, beside what would be perfect."""
    bins = calibration(scores.box_confidence, scores.match[0] >= 0)
    figure, axes = _empty_plot("confidence", "share of boxes that are on a plate (IoU 0.5)")
    axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", label="perfectly calibrated")
    points = [
        (b.mean_confidence, b.precision.value, b.precision.low, b.precision.high, b.precision.of)
        for b in bins
        if b.mean_confidence is not None
    ]
    if points:
        x, y, low, high, of = np.array(points, dtype=np.float64).T
        axes.errorbar(
            x, y, yerr=[y - low, high - y], color=BLUE, marker="o", capsize=3, label="boxes"
        )
        for at, height, count in zip(x, high, of, strict=True):
            axes.annotate(
                f"{int(count)}", (at, min(height, 0.97)), xytext=(0, 3), fontsize=8,
                textcoords="offset points", ha="center",
            )  # fmt: skip
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, 1.05)
    axes.legend(loc="upper left")
    figure.savefig(path)


def draw_angles(angles: Mapping[str, Any], path: Path) -> None:
    """Draw recall of drawn plates against side angle and tilt."""
    figure, axes = _empty_plot("angle of the drawn plate, degrees", "recall at IoU 0.5")
    for kind, colour, marker in (("side", BLUE, "o"), ("tilt", ORANGE, "s")):
        x = [float(degree) for degree in angles[kind]]
        shares = [group["recall"] for group in angles[kind].values()]
        y, low, high = (np.array([s[key] for s in shares]) for key in ("value", "low", "high"))
        axes.errorbar(
            x, y, yerr=[y - low, high - y], color=colour, marker=marker, capsize=3, label=kind
        )
    axes.set_ylim(0, 1.02)
    axes.legend(loc="lower left")
    figure.savefig(path)


def _empty_plot(x_label: str, y_label: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7, 4.5), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(visible=True, alpha=0.3)
    return figure, axes


# Contact sheets, for local eyes only

CELL_PX = 320  # side of one cut-out on a contact sheet
CELLS = 30  # on one sheet, five in a row


@dataclass(frozen=True, slots=True)
class Cell:
    """One cut-out of a contact sheet: the photo's name, the box in its middle, and a caption."""

    photo: LabelledPhoto
    box: Floats
    caption: str


def draw_misses(
    scores: Scores, photos: Sequence[LabelledPhoto], predictions: Predictions, path: Path
) -> None:
    """Draw the plates that stay most readable: the largest of those least hidden come first."""
    truth = np.vstack([np.zeros((0, 4)), *(photo.truth for photo in photos)])
    left_readable = (1 - scores.coverage) * np.log1p(1000 * scores.plate_ratio)
    rows = np.argsort(-np.where(scores.hidden, 0, left_readable), kind="stable")[:CELLS]
    cells = [
        Cell(
            photos[scores.plate_photo[row]],
            truth[row],
            f"{ratio_text(scores.plate_ratio[row])}  hidden {scores.coverage[row]:.2f}  "
            f"best {max(scores.best_confidence[row], 0):.2f}",
        )
        for row in rows
        if not scores.hidden[row]
    ]
    _draw_sheet(cells, predictions, scores, path)


def draw_false_boxes(
    scores: Scores, photos: Sequence[LabelledPhoto], predictions: Predictions, path: Path
) -> None:
    """Draw the most confident boxes that overlap no labelled plate."""
    boxes = np.vstack([np.zeros((0, 5)), *(predictions[p.path.name] for p in photos)])
    false_boxes = np.flatnonzero(scores.off_plates & scores.kept)
    rows = false_boxes[np.argsort(-scores.box_confidence[false_boxes], kind="stable")][:CELLS]
    cells = [
        Cell(
            photos[scores.box_photo[row]],
            boxes[row, :4],
            f"confidence {scores.box_confidence[row]:.2f}  {ratio_text(scores.box_ratio[row])}",
        )
        for row in rows
    ]
    _draw_sheet(cells, predictions, scores, path)


def _draw_sheet(
    cells: Sequence[Cell], predictions: Predictions, scores: Scores, path: Path
) -> None:
    """Write a sheet of cut-outs: truth in blue, kept boxes in orange, unsure ones in pink."""
    columns, caption_px = 5, 30
    rows = max(1, -(-len(cells) // columns))
    sheet = PillowImage.new("RGB", (columns * CELL_PX, rows * (CELL_PX + caption_px)), "white")
    pen = ImageDraw.Draw(sheet)
    for place, cell in enumerate(cells):
        left = place % columns * CELL_PX
        top = place // columns * (CELL_PX + caption_px)
        sheet.paste(_cut_out(cell, predictions[cell.photo.path.name], scores), (left, top))
        pen.text((left + 2, top + CELL_PX + 1), cell.caption, fill="black")
        pen.text((left + 2, top + CELL_PX + 14), cell.photo.path.name, fill=GREY)
    sheet.save(path, quality=88)


def _cut_out(cell: Cell, rows: Floats, scores: Scores) -> PillowImage.Image:
    """Return the box and four times its size around it, with truth and boxes drawn in."""
    x1, y1, x2, y2 = cell.box
    side = max(4 * max(x2 - x1, y2 - y1), 64.0)
    corner = np.array([(x1 + x2 - side) / 2, (y1 + y2 - side) / 2])
    whole = PillowImage.fromarray(decode(cell.photo.path.read_bytes()).pixels)
    area = (corner[0], corner[1], corner[0] + side, corner[1] + side)
    cut = whole.transform(
        (CELL_PX, CELL_PX), PillowImage.Transform.EXTENT, area, PillowImage.Resampling.BICUBIC
    )
    pen = ImageDraw.Draw(cut)
    for box, confidence in zip(rows[:, :4], rows[:, 4], strict=True):
        if confidence >= scores.min_confidence:
            _outline(pen, box, corner, CELL_PX / side, ORANGE)
        elif confidence >= scores.min_confidence / 5:
            _outline(pen, box, corner, CELL_PX / side, PINK)
    for box in cell.photo.truth:
        _outline(pen, box, corner, CELL_PX / side, BLUE)
    return cut


def _outline(
    pen: ImageDraw.ImageDraw, box: Floats, corner: Floats, scale: float, colour: str
) -> None:
    x1, y1, x2, y2 = ((box - np.tile(corner, 2)) * scale).tolist()
    pen.rectangle((x1, y1, max(x1, x2), max(y1, y2)), outline=colour, width=2)


# The report


def report(metrics: Mapping[str, Any]) -> str:
    """Return the report as Markdown, from what `metrics.json` holds."""
    overall, within = metrics["overall"], metrics["ranges"]["within 1:15"]
    lines = [
        f"# {metrics['model']['file']} on {metrics['split']}",
        "",
        f"{overall['photos']} photos, {overall['plates']} plates, labels {metrics['labels']}; "
        f"minimum confidence {metrics['min_confidence']:g}, margin {metrics['margin']:g}. "
        f"Commit {metrics['commit'][:12]}, model sha256 {metrics['model']['sha256'][:12]}.",
        "",
        "## What is missed",
        "",
        _misses_sentence("Within 1:15", within),
        _misses_sentence("Over all plates", overall),
        "",
        "Missed: not one pixel of the plate is hidden. covered99: at least 99 % of it is hidden. "
        "Recall: a box is on it at IoU 0.5. In brackets: 95 % Wilson intervals.",
        "",
        *_plate_table({**metrics["ranges"], "all": overall}, "plates"),
        "",
    ]
    if "labels_as_they_are" in metrics:
        before = metrics["labels_as_they_are"]
        lines += [
            "The same with the labels as they are, uncorrected:",
            "",
            *_plate_table({**before["ranges"], "all": before["overall"]}, "plates"),
            "",
            *_box_table({"corrected labels": overall, "labels as they are": before["overall"]}, ""),
            "",
        ]
    lines += [
        "## By plate ratio",
        "",
        *_plate_table(metrics["by_ratio"], "plate ratio"),
        "",
        *_box_table(metrics["by_ratio"], "plate ratio"),
        "",
        "![recall by plate ratio](recall-by-ratio.png)",
        "",
        "## Boxes: precision, AP, false boxes, over-blur",
        "",
        "A false box overlaps no labelled plate (IoU below 0.1). Over-blur is the share of the "
        "picture that is blurred outside plates.",
        "",
        *_box_table({"all": overall}, ""),
        "",
    ]
    if metrics["false_boxes_on"]:
        lines += _table(
            ["false boxes lie on", "boxes"],
            [[k, str(v)] for k, v in metrics["false_boxes_on"].items()],
        )
        lines.append("")
    lines += ["![precision and recall](precision-recall.png)", ""]
    for key in ("set", "region"):
        if metrics[f"by_{key}"]:
            lines += [
                f"## By {key}",
                "",
                *_plate_table(metrics[f"by_{key}"], key),
                "",
                *_box_table(metrics[f"by_{key}"], key),
                "",
            ]
    if metrics["by_set"]:
        lines += [
            "AP50-95 by set and distance:",
            "",
            *_fit_table(metrics["by_set_and_distance"]),
            "",
        ]
    lines += ["## Thresholds", "", _recall_answer(metrics), "", *_threshold_table(metrics), ""]
    error = metrics["calibration"]["expected_calibration_error"]
    lines += [
        "## Calibration",
        "",
        f"Mean gap between confidence and precision: {_number(error)}, over boxes from "
        f"{metrics['min_confidence']:g} up.",
        "",
        "![calibration](calibration.png)",
        "",
    ]
    if "angles" in metrics:
        lines += _angles(metrics["angles"])
    if "compared" in metrics:
        lines += _comparison(metrics)
    if metrics["detect_ms_median"] is not None:
        lines += [f"Detecting took {metrics['detect_ms_median']:g} ms a photo (median).", ""]
    return "\n".join(lines)


def _misses_sentence(where: str, group: Mapping[str, Any]) -> str:
    missed, hidden = group["missed"]["count"], group["covered99"]["count"]
    return (
        f"- {where}: of {group['plates']} plates {missed} are missed, and "
        f"{group['plates'] - hidden - missed} more are less than 99 % hidden."
    )


def _plate_table(groups: Mapping[str, Mapping[str, Any]], key: str) -> list[str]:
    header = [key, "plates", "missed", "covered99", "recall", "mean coverage"]
    rows = [
        [
            name,
            str(group["plates"]),
            _share(group["missed"]),
            _share(group["covered99"]),
            _share(group["recall"]),
            _number(group["mean_coverage"]),
        ]
        for name, group in groups.items()
    ]
    return _table(header, rows)


def _box_table(groups: Mapping[str, Mapping[str, Any]], key: str) -> list[str]:
    header = [key, "photos", "false boxes", "a photo", "precision", "AP50", "AP50-95", "over-blur"]
    rows = [
        [
            name,
            str(group["photos"]),
            str(group["false_boxes"]),
            _number(group["false_boxes_per_photo"]),
            _share(group["precision"]),
            _number(group["ap50"]),
            _number(group["ap50_95"]),
            _number(group["over_blur"], digits=4),
        ]
        for name, group in groups.items()
    ]
    return _table(header, rows)


def _fit_table(distances: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[str]:
    header = ["set", *(f"{part} {name}" for name in distances for part in ("plates", "AP50-95"))]
    rows = [
        [
            name,
            *(
                cell
                for by_set in distances.values()
                for cell in (str(by_set[name]["plates"]), _number(by_set[name]["ap50_95"]))
            ),
        ]
        for name in next(iter(distances.values()))
    ]
    return _table(header, rows)


def _recall_answer(metrics: Mapping[str, Any]) -> str:
    answer = metrics["target_recall"]
    if answer["min_confidence"] is None:
        return (
            f"A recall of {answer['target']:g} within 1:15 is out of reach: even at "
            f"{metrics['confidence_floor']:g} fewer plates have a box on them."
        )
    now = metrics["overall"]["false_boxes_per_photo"]
    return (
        f"A recall of {answer['target']:g} within 1:15 needs a minimum confidence of "
        f"{answer['min_confidence']:.3f}, at {answer['cost']['false_boxes_per_photo']:.3f} false "
        f"boxes a photo ({now:.3f} at {metrics['min_confidence']:g}). "
        "A threshold is chosen on val; on test this is only told."
    )


def _threshold_table(metrics: Mapping[str, Any]) -> list[str]:
    header = [
        *("minimum confidence", "recall within 1:15", "covered99 within 1:15"),
        *("recall", "covered99", "false boxes a photo"),
    ]
    rows = [
        [
            f"{row['min_confidence']:g}",
            _number(row["within 1:15"]["recall"]["value"]),
            _number(row["within 1:15"]["covered99"]["value"]),
            _number(row["overall"]["recall"]["value"]),
            _number(row["overall"]["covered99"]["value"]),
            _number(row["false_boxes_per_photo"]),
        ]
        for row in metrics["thresholds"]
    ]
    return _table(header, rows)


def _angles(angles: Mapping[str, Any]) -> list[str]:
    groups = {
        f"{kind} {degree} deg": one for kind in angles for degree, one in angles[kind].items()
    }
    return [
        "## Angles",
        "",
        "Drawn scenes by day, one plate of 1:14 to 1:10 each, turned to either side or tilted. "
        "They tell how an angle changes the result, not how good it is on photos.",
        "",
        *_plate_table(groups, "angle"),
        "",
        "![recall by angle](recall-by-angle.png)",
        "",
    ]


def _comparison(metrics: Mapping[str, Any]) -> list[str]:
    other = metrics["compared"]
    names = (other["model"]["file"], metrics["model"]["file"])
    return [
        "## Compared",
        "",
        f"{names[1]} against {names[0]} on the same photos; intervals of 95 % from a paired "
        "bootstrap over photos. An interval with 0 in it shows no difference.",
        "",
        *difference_table(other["differences"], names),
        "",
        *_box_table({names[0]: other["overall"], names[1]: metrics["overall"]}, "model"),
        "",
    ]


def difference_table(rows: Mapping[str, Mapping[str, Any]], names: tuple[str, str]) -> list[str]:
    """Return the lines of a table of `differences`, as Markdown.

    Args:
        rows: by figure.
        names: of the first and of the second model.
    """
    cells = []
    for figure, row in rows.items():
        by = row["difference"]
        interval = "" if by["low"] is None else f" [{by['low']:+.3f}, {by['high']:+.3f}]"
        change = "-" if by["value"] is None else f"{by['value']:+.3f}{interval}"
        cells.append([figure, _number(row["first"]), _number(row["second"]), change])
    return _table(["figure", names[0], names[1], "difference"], cells)


def _share(one: Mapping[str, Any]) -> str:
    if one["value"] is None:
        return "-"
    return f"{one['value']:.3f} [{one['low']:.3f}, {one['high']:.3f}]"


def _number(value: float | None, *, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    rule = ["---"] + ["--:"] * (len(header) - 1)
    return [f"| {' | '.join(row)} |" for row in (header, rule, *rows)]


def main() -> None:
    """Read the command line, evaluate and print the report."""
    summary = (__doc__ or "").splitlines()[0]
    parser = argparse.ArgumentParser(description=summary)
    parser.add_argument("--data", type=Path, required=True, help="data.yaml of a YOLO data set")
    parser.add_argument("--out", type=Path, required=True, help="folder of the report, made here")
    parser.add_argument("--split", default=Config.__dataclass_fields__["split"].default)
    parser.add_argument("--model", type=Path, default=shipped_model(), help="ONNX or .jsonl")
    parser.add_argument("--compare", type=Path, help="a second model or .jsonl, side by side")
    parser.add_argument("--manifest", type=Path, help="CSV with each photo's set and region")
    parser.add_argument("--labels-overlay", type=Path, help="corrections of labels, JSON lines")
    for name in ("min_confidence", "margin", "confidence_floor", "target_recall"):
        default = Config.__dataclass_fields__[name].default
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, default=default)
    parser.add_argument("--threads", type=int, help="of the detector; all cores without it")
    parser.add_argument("--angles", type=int, default=0, metavar="SCENES", help="drawn, an angle")
    parser.add_argument("--no-second-look", dest="second_look", action="store_false")
    parser.add_argument("--no-plots", dest="plots", action="store_false", help="tables only")
    parser.add_argument("--contact-sheet", action="store_true", help="draw the worst misses")
    config = Config(**vars(parser.parse_args()))
    evaluate(config)
    print((config.out / "report.md").read_text())


if __name__ == "__main__":
    main()
