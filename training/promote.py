"""Make a run's model the shipped one, if it is no worse than the one in place.

    python -m training.promote runs/first/plates.onnx --data DATA.yaml

It measures both on the test split over the same photos. The candidate replaces
`plateblur/models/plates.onnx` if neither recall nor covered99 within 1:15 is worse (their paired
95 % intervals reach up to no change at least) and it is better: in one of the two, or over the
plates of all distances beyond chance. Otherwise nothing is written, the table says why and the exit
code is 1. With the model go its card,
`plateblur/models/plates.json`, `docs/figures.json` with the figures that the docs quote, and the
table in each page that has a place for it: one change, ready to be committed.

Given the shipped model itself it compares nothing and writes card and figures anew, because they
are those of the model and of the code around it: run it so after a change of the detector's code.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from plateblur.detector import OnnxDetector
from plateblur.sets.split import data_hash
from training.card import (
    as_json,
    figures_to_quote,
    model_card,
    pages_with_figures,
    replace_file,
)
from training.evaluate import evaluate
from training.evaluation.config import Config as EvaluationConfig
from training.evaluation.report import difference_table

REPOSITORY = Path(__file__).resolve().parent.parent
JUDGED = ("recall, within 1:15", "covered99, within 1:15")
"""The figures that must not be worse; rows of `evaluate.differences`."""

OVERALL = ("recall, overall", "covered99, overall")
"""Of all plates. Where within 1:15 all but the odd plate is hidden, what is better shows here."""


@dataclass(frozen=True, slots=True)
class Config:
    """One promotion; the command line's options."""

    candidate: Path  # ONNX file of training/export.py
    data: Path  # data.yaml of the data set with the test split
    run: Path | None = None  # run folder that it comes from; the candidate's own folder without it
    train_data: Path | None = None  # data.yaml that the run trained on; `data` without it
    manifest: Path | None = None  # CSV with each photo's set and licence; else beside train_data
    labels_overlay: Path | None = None  # corrections of labels, JSON lines
    models: Path = REPOSITORY / "plateblur" / "models"  # where the shipped model stands
    docs: Path = REPOSITORY / "docs"  # where figures.json stands, and pages that quote it
    readme: Path = REPOSITORY / "README.md"  # another page that quotes it
    threads: int | None = None  # of the detector; all cores without it
    plots: bool = True  # draw the plots, into the run folder
    contact_sheet: bool = False  # also draw the worst misses there


class RefusedError(Exception):
    """The candidate does not become the shipped model; the message says why."""


def promote(config: Config, *, data_hash: str, date: str) -> list[Path]:
    """Write model, card and figures and return the files that were written.

    Args:
        config: what to promote, and where to.
        data_hash: of the data set that the run is said to have trained on, `train.data_hash`.
        date: of the promotion, YYYY-MM-DD; that of the shipped model stays.

    Raises:
        RefusedError: no record of its run, not the model of that run, or worse than the one in
            place; nothing was written outside the run folder.
    """
    run = config.run or config.candidate.parent
    shipped = config.models / "plates.onnx"
    again = shipped.exists() and shipped.read_bytes() == config.candidate.read_bytes()
    if again:
        before = json.loads(shipped.with_suffix(".json").read_text())
        record, export, data_sets, date = (
            before[part] for part in ("training", "export", "data_sets", "date")
        )
    else:
        record = read_run(run)
        export = read_export(config.candidate)
        require_same_origin(export, record, run=run, data_hash=data_hash)
        train_data = config.train_data or config.data
        data_sets = count_data_sets(config.manifest or train_data.parent / "manifest.csv")

    metrics = evaluate(
        EvaluationConfig(
            data=config.data,
            out=run / "promotion",
            split="test",
            model=config.candidate,
            compare=shipped if shipped.exists() and not again else None,
            manifest=config.manifest,
            labels_overlay=config.labels_overlay,
            threads=config.threads,
            plots=config.plots,
            contact_sheet=config.contact_sheet,
        )
    )
    if "compared" in metrics:
        require_better(metrics["compared"]["differences"])

    figures = figures_to_quote(metrics)
    card = model_card(
        metrics,
        figures=figures,
        record=record,
        export=export,
        data_sets=data_sets,
        date=date,
    )
    written = {
        shipped: config.candidate.read_bytes(),
        shipped.with_suffix(".json"): as_json(card),
        config.docs / "figures.json": as_json({"model": card["name"], **figures}),
        **pages_with_figures([config.readme, *sorted(config.docs.rglob("*.md"))], figures),
    }
    for path, content in written.items():
        replace_file(path, content)
    return list(written)


def read_run(run: Path) -> dict[str, Any]:
    """Return the record of a run.

    Raises:
        RefusedError: there is none, or it leaves out what the card must say.
    """
    path = run / "run.json"
    if not path.exists():
        raise RefusedError(
            f"expected run.json in {run.name}/, found none: nobody could say what this model was "
            "trained on"
        )
    record: dict[str, Any] = json.loads(path.read_text())
    missing = sorted({"config", "weights", "commit", "data_hash"} - set(record))
    if missing:
        raise RefusedError(f"expected {missing} in {run.name}/run.json, found {sorted(record)}")
    return record


def read_export(candidate: Path) -> dict[str, Any]:
    """Return what the ONNX file says of itself, as the detector reads it and as it was exported."""
    metadata = OnnxDetector(candidate, threads=1).metadata
    model = onnx.load(candidate, load_external_data=False)
    written = {entry.key: entry.value for entry in model.metadata_props}
    return {
        "input_size": metadata.input_size,
        "stride": metadata.stride,
        "classes": list(metadata.classes),
        "end_to_end": metadata.end_to_end,
        "calibration": list(metadata.calibration),
        "opset": max(o.version for o in model.opset_import if o.domain in ("", "ai.onnx")),
        "ultralytics": written.get("ultralytics"),
        "weights_sha256": written.get("weights_sha256"),
    }


def require_same_origin(
    export: Mapping[str, Any], record: Mapping[str, Any], *, run: Path, data_hash: str
) -> None:
    """Refuse a card that would tell of another run's model, or of other data.

    Raises:
        RefusedError: the model was not exported from this run's weights, or the data set is not
            the one that it trained on.
    """
    weights = [_sha256(path.read_bytes()) for path in (run / "weights").glob("*.pt")]
    if export["weights_sha256"] not in weights:
        raise RefusedError(
            f"expected a model exported from the weights in {run.name}/weights; those in its "
            f"metadata have the sha256 {export['weights_sha256']}"
        )
    if data_hash != record["data_hash"]:
        raise RefusedError(
            f"expected the data set that {run.name} trained on, with the hash "
            f"{record['data_hash'][:12]}, got one with {data_hash[:12]}; see --train-data"
        )


def count_data_sets(manifest: Path) -> list[dict[str, Any]]:
    """Return each set of a manifest with its stated licence and its photos by split.

    Raises:
        RefusedError: there is no manifest, so that licences are unknown.
    """
    if not manifest.exists():
        raise RefusedError(
            f"expected {manifest.name} beside the training data, found none: the card must name "
            "each set and its licence; see --manifest"
        )
    with manifest.open(newline="") as file:
        # By image, because a manifest may list one twice.
        rows = {row["image"]: row for row in csv.DictReader(file)}
    sets: dict[str, dict[str, Any]] = {}
    for row in rows.values():
        one = sets.setdefault(
            row["set"],
            {
                **{key: row.get(key, "") for key in ("set", "source", "licence", "region")},
                "photos": {"train": 0, "val": 0, "test": 0},
            },
        )
        one["photos"][row["split"]] += 1
    return sorted(sets.values(), key=lambda one: -sum(one["photos"].values()))


def require_better(differences: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse a candidate that is worse than the shipped model, or no better.

    Worse is a figure within 1:15 whose whole paired interval lies below no change. Better is one
    that is above it in the photos as they are, or one of all plates whose whole interval is.

    Raises:
        RefusedError: with the table of all differences.
    """
    changes = {figure: differences[figure]["difference"] for figure in JUDGED}
    if any(change["value"] is None for change in changes.values()):
        reason = "the test split has no plates within 1:15 to judge by"
    elif worse := [figure for figure, change in changes.items() if change["high"] < 0]:
        reason = f"worse than the shipped model in {' and '.join(worse)}"
    elif not (
        any(change["value"] > 0 for change in changes.values())
        or any(differences[figure]["difference"]["low"] > 0 for figure in OVERALL)
    ):
        reason = f"better than the shipped model in neither {' nor '.join((*JUDGED, *OVERALL))}"
    else:
        return
    table = difference_table(differences, ("shipped", "candidate"))
    raise RefusedError("\n".join([f"{reason}:", "", *table]))


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def main() -> None:
    """Read the command line and promote."""
    summary = (__doc__ or "").splitlines()[0]
    parser = argparse.ArgumentParser(description=summary)
    parser.add_argument("candidate", type=Path, help="ONNX file of training/export.py")
    parser.add_argument("--data", type=Path, required=True, help="data.yaml with a test split")
    parser.add_argument("--run", type=Path, help="its run folder; else where the candidate is")
    parser.add_argument("--train-data", type=Path, help="data.yaml trained on; else --data")
    parser.add_argument("--manifest", type=Path, help="CSV with each photo's set and licence")
    parser.add_argument("--labels-overlay", type=Path, help="corrections of labels, JSON lines")
    for name in ("models", "docs", "readme"):
        default = Config.__dataclass_fields__[name].default
        parser.add_argument(f"--{name}", type=Path, default=default, help="default: %(default)s")
    parser.add_argument("--threads", type=int, help="of the detector; all cores without it")
    parser.add_argument("--no-plots", dest="plots", action="store_false", help="tables only")
    parser.add_argument("--contact-sheet", action="store_true", help="draw the worst misses")
    config = Config(**vars(parser.parse_args()))
    try:
        written = promote(
            config,
            data_hash=data_hash(config.train_data or config.data),
            date=time.strftime("%Y-%m-%d"),
        )
    except RefusedError as refusal:
        sys.exit(f"refused: {refusal}")
    print("promoted; to be committed together:")
    for path in written:
        print(f"  {path}")
    print("and the pictures that show it: run make pictures")


if __name__ == "__main__":
    main()
