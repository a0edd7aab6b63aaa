"""Report how well a detector finds and hides plates on a split of a data set, misses first.

    python -m training.evaluate --data DATA.yaml --split test --out runs/first/test \
        --model runs/first/plates.onnx
    python -m training.evaluate --data DATA.yaml --split val --out runs/b/val \
        --model runs/b/plates.onnx --compare runs/a/plates.onnx --contact-sheet

It runs the detector as it is served, once, down to a low confidence, and writes into `--out`
`metrics.json` (every figure), `report.md` (tables), plots, and `predictions.jsonl`, one line
per photo: `{"image": name, "boxes": [[x1, y1, x2, y2, confidence], ...]}`, in pixels of the upright
photo. `--model` and `--compare` also accept such a file, to measure a detector that can't run here.
`--angles 20` also measures from which angles drawn plates are found.

`--out` will hold what was found on people's photos, so it must be outside the repository or
ignored by git.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from plateblur.detector import shipped_model
from plateblur.sets.corrections import read_corrections
from plateblur.sets.predictions import write_predictions
from plateblur.sets.split import (
    corrected_photo,
    kept_apart_of,
    labels_hash,
    names_hash,
    read_split,
    turned_photo,
)
from training.checkout import git_commit, require_private, run_step
from training.evaluation.angles import draw_one_plate, recall_by_angle
from training.evaluation.config import Config
from training.evaluation.detections import describe, detector_of, predictions_of, score
from training.evaluation.figures import (
    SWEEP,
    all_figures,
    calibration_of,
    cost_of_recall,
    differences,
    false_boxes_on,
    threshold_costs,
)
from training.evaluation.plots import (
    draw_angles,
    draw_calibration,
    draw_precision_recall,
    draw_recall_by_ratio,
)
from training.evaluation.report import report
from training.evaluation.sheets import draw_false_boxes, draw_misses


def evaluate(config: Config) -> dict[str, Any]:
    """Write the report into `config.out` and return the content of `metrics.json`."""
    if config.confidence_floor > config.min_confidence:
        raise ValueError(
            f"the floor {config.confidence_floor} must not be above the minimum confidence "
            f"{config.min_confidence}: boxes between them would be missing"
        )
    if config.turn and config.contact_sheet:
        raise ValueError("sheets show photos as they are; expected no turn with contact_sheet")
    require_private(config.out)
    config.out.mkdir(parents=True, exist_ok=True)
    labelled = read_split(config.data, config.split, manifest=config.manifest)
    if config.kept_apart:
        labelled = kept_apart_of(labelled, config.kept_apart)
    corrections = read_corrections(config.labels_overlay)
    corrected = [corrected_photo(photo, corrections) for photo in labelled]
    labelled, corrected = (
        [turned_photo(photo, config.turn) for photo in each] for each in (labelled, corrected)
    )
    marks = [c for c in corrections if c.action == "mark" and not config.turn]

    predictions, milliseconds = predictions_of(config.model, labelled, config, near=config.near)
    write_predictions(predictions, config.out / "predictions.jsonl")
    photos = corrected if corrections else labelled
    scores = score(photos, predictions, config)
    metrics: dict[str, Any] = {
        "model": describe(config.model, config.near),
        "turn": config.turn,
        "split": config.split,
        "labels_hash": labels_hash(labelled),
        "photos_sha256": names_hash(labelled),
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
        detector = detector_of(config.model, config, near=config.near)
        metrics["angles"] = recall_by_angle(detector, draw_one_plate, config)
    names = plot_names(config)
    shown = {names[0]: scores}
    if config.compare:
        other_predictions, other_milliseconds = predictions_of(config.compare, labelled, config)
        write_predictions(other_predictions, config.out / "predictions-compared.jsonl")
        other = shown[names[1]] = score(photos, other_predictions, config)
        metrics["compared"] = {
            "model": describe(config.compare),
            "detect_ms_median": other_milliseconds,
            **all_figures(other, photos),
            "differences": differences(other, scores, resamples=config.resamples, seed=config.seed),
        }
    (config.out / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    if config.plots:
        of = f"{config.split}: {len(scores.plate_ratio)} plates in {len(photos)} photos"
        draw_recall_by_ratio(shown, config.out / "recall-by-ratio.png", of=of)
        draw_precision_recall(shown, config.out / "precision-recall.png", of=of)
        draw_calibration(shown, config.out / "calibration.png", of=of)
        if "angles" in metrics:
            draw_angles(metrics["angles"], config.out / "recall-by-angle.png")
    if config.contact_sheet:
        draw_misses(scores, photos, predictions, config.out / "misses.jpg")
        draw_false_boxes(scores, photos, predictions, config.out / "false-boxes.jpg")
    (config.out / "report.md").write_text(report(metrics))
    return metrics


def plot_names(config: Config) -> tuple[str, str]:
    """Return what the plots call the model and the one beside it, never the same."""
    names = (config.model.stem, config.compare.stem if config.compare else "")
    return names if names[0] != names[1] else (f"{names[0]} (new)", f"{names[1]} (compared)")


def main(argv: Sequence[str] | None = None) -> None:
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
    parser.add_argument("--near", type=Path, help="ONNX; else the one beside the model, if any")
    parser.add_argument(
        "--turn", type=int, default=0, choices=range(4), help="quarter turns of every photo"
    )
    parser.add_argument("--threads", type=int, help="of the detector; all cores without it")
    parser.add_argument("--angles", type=int, default=0, metavar="SCENES", help="drawn, an angle")
    parser.add_argument("--no-second-look", dest="second_look", action="store_false")
    parser.add_argument("--no-plots", dest="plots", action="store_false", help="tables only")
    parser.add_argument("--contact-sheet", action="store_true", help="draw the worst misses")
    config = Config(**vars(parser.parse_args(argv)))
    evaluate(config)
    print((config.out / "report.md").read_text())


if __name__ == "__main__":
    run_step(main)
