"""Keep the figures of a measured detector, for the training log to quote.

    python -m training.evaluate --data DATA.yaml --split val --out runs/first/val \
        --model runs/first/plates.onnx
    python -m training.record runs/first/val --name "first, 640 px"

`docs/training-runs.json` gets an entry of that name, replacing an earlier one; the tables in the
docs are made from it. It contains no photo's file name and no box.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from training.checkout import run_step
from training.evaluation.figures import headline

RUNS = Path(__file__).parents[1] / "docs" / "training-runs.json"


def record(evaluation: Path, *, name: str, runs: Path, run: Path | None = None) -> dict[str, Any]:
    """Write an entry for what `training/evaluate.py` measured, and return it.

    Args:
        evaluation: its `--out`.
        name: of the entry.
        runs: JSON file of all entries, oldest first.
        run: run folder, whose `run.json` says how it was trained; None leaves that out.
    """
    metrics = json.loads((evaluation / "metrics.json").read_text())
    entry: dict[str, Any] = {
        key: metrics[key]
        for key in ("split", "labels", "min_confidence", "margin", "detect_ms_median", "commit")
    }
    entry["model_sha256"] = metrics["model"]["sha256"]
    entry["figures"] = headline(metrics)
    if "labels_as_they_are" in metrics:
        entry["labels_as_they_are"] = headline(metrics["labels_as_they_are"])
    if metrics["by_set"]:
        entry["ap50_95_by_set"] = {
            distance: {
                name: {"plates": one["plates"], "ap50_95": round(one["ap50_95"], 4)}
                for name, one in by_set.items()
                if one["plates"]
            }
            for distance, by_set in metrics["by_set_and_distance"].items()
        }
    if "compared" in metrics:
        compared = metrics["compared"]
        entry["compared"] = {
            "model_sha256": compared["model"]["sha256"],
            "figures": headline(compared),
            "differences": compared["differences"],
        }
    if run is not None:
        trained = json.loads((run / "run.json").read_text())
        entry["training"] = {"config": trained["config"], "hours": hours_of(trained)}
    entries = json.loads(runs.read_text()) if runs.exists() else {}
    runs.write_text(json.dumps(entries | {name: entry}, indent=2) + "\n")
    return entry


def hours_of(run: Mapping[str, Any]) -> float:
    """Return the hours of a run and of those that its first weights came from."""
    before = run.get("weights_run")
    return round(float(run["hours"]) + (hours_of(before) if before else 0.0), 2)


def main() -> None:
    """Read the command line and write the entry."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("evaluation", type=Path, help="folder of training/evaluate.py's report")
    parser.add_argument("--name", required=True, help="of the entry")
    parser.add_argument("--run", type=Path, help="run folder of training/train.py")
    parser.add_argument("--runs", type=Path, default=RUNS, help="default: docs/training-runs.json")
    given = parser.parse_args()
    entry = record(given.evaluation, name=given.name, runs=given.runs, run=given.run)
    print(json.dumps(entry["figures"], indent=2))


if __name__ == "__main__":
    run_step(main)
