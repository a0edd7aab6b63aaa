"""Make a run's model the shipped one, if it passes the gate.

    python -m training.promote runs/first/plates.onnx --data DATA.yaml

It measures both models on the test split and on the photos that the run kept apart from training
(`kept_apart` in its config), and asks `training/gate.py`, which has the rules. If the candidate is
refused, only the look itself is recorded, the reasons and tables are printed and kept in the run
folder (`refused.json`), and the exit code is 1. Otherwise it replaces
`plateblur/models/plates.onnx`, together with its card, `plateblur/models/plates.json`,
`docs/figures.json` with the figures that the docs quote, and the table in each page that has a
place for it, all ready to be committed.
`docs/promotion-looks.json` counts how often each split was looked at.

For the shipped model itself it compares nothing and writes card and figures again, because they
depend on the code around the model. Do that after a change of the detector's code.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx

from plateblur.detector import OnnxDetector, near_model
from plateblur.sets.split import data_sets_of, is_data_of, is_kept_apart, sets_of, split_photos
from training.ancestors import all_data_sets
from training.calibrate import FEWEST_OF_A_KIND
from training.card import (
    as_json,
    figures_to_quote,
    model_card,
    pages_with_figures,
    replace_file,
)
from training.checkout import run_step
from training.evaluate import evaluate
from training.evaluation.config import Config as EvaluationConfig
from training.evaluation.figures import headline
from training.evaluation.report import difference_table
from training.gate import Looks, reasons_to_refuse, seen_before

REPOSITORY = Path(__file__).resolve().parent.parent


FROM_THE_GATE = ("kept_apart", "looks")
"""Parts of a card that are not measured again with the shipped model itself."""


@dataclass(frozen=True, slots=True)
class Config:
    """One promotion; the command line's options."""

    candidate: Path  # ONNX file of training/export.py
    data: Path  # data.yaml with the test split, and the train split that photos were kept from
    run: Path | None = None  # run folder that it comes from; the candidate's own folder without it
    train_data: Path | None = None  # data.yaml that the run trained on; else its own copy, or data
    manifest: Path | None = None  # CSV with each photo's set and licence; else beside the data
    labels_overlay: Path | None = None  # corrections of labels, JSON lines
    models: Path = REPOSITORY / "plateblur" / "models"  # folder of the shipped model
    docs: Path = REPOSITORY / "docs"  # folder of figures.json and of pages that quote it
    readme: Path = REPOSITORY / "README.md"  # another page that quotes it
    threads: int | None = None  # of the detector; all cores without it
    plots: bool = True  # draw the plots, into the run folder
    contact_sheet: bool = False  # also draw the worst misses there


class RefusedError(Exception):
    """The candidate does not become the shipped model; the message says why."""


def promote(config: Config, *, date: str) -> list[Path]:
    """Write model, card and figures and return the files that were written.

    Args:
        config: what to promote, and where to.
        date: of today, YYYY-MM-DD; the card of the shipped model keeps that of its promotion.

    Raises:
        RefusedError: it has no record of its run, is not that run's model, is not calibrated, or
            didn't pass the gate; outside the run folder only the look was recorded.
    """
    run = config.run or config.candidate.parent
    shipped = config.models / "plates.onnx"
    card_in_place = shipped.with_suffix(".json")
    before = json.loads(card_in_place.read_text()) if card_in_place.exists() else None
    again = shipped.exists() and shipped.read_bytes() == config.candidate.read_bytes()
    apart: dict[str, Any] | None = None
    promoted_on = date
    if again and before is not None:
        record, export, data_sets, promoted_on = (
            before[part] for part in ("training", "export", "data_sets", "date")
        )
    else:
        record, export, data_sets = read_candidate(
            config, run, before, is_compared=shipped.exists()
        )

    measured = EvaluationConfig(
        data=config.data,
        out=run / "promotion",
        split="test",
        model=config.candidate,
        near=near_model(shipped),
        compare=shipped if shipped.exists() and not again else None,
        manifest=config.manifest,
        labels_overlay=config.labels_overlay,
        threads=config.threads,
        plots=config.plots,
        contact_sheet=config.contact_sheet,
    )
    metrics = evaluate(measured)
    if measured.compare:
        apart = evaluate(on_photos_kept_apart(measured, record))
    reasons = [] if again else reasons_to_refuse(metrics, apart)
    outcome = "measured again" if again else "refused" if reasons else "promoted"
    looks = write_looks(
        config.docs / "promotion-looks.json", metrics, apart, date=date, outcome=outcome
    )
    if reasons:
        (run / "refused.json").write_bytes(as_json(refused(reasons, metrics, apart)))
        raise RefusedError(refusal(reasons, metrics, apart))

    figures = figures_to_quote(metrics)
    card = model_card(
        metrics,
        figures=figures,
        record=record,
        export=export,
        data_sets=data_sets,
        date=promoted_on,
    )
    kept = before if again and before else {}
    card |= {part: kept[part] for part in FROM_THE_GATE if part in kept}
    card["looks"] = card.get("looks", {}) | looks
    if apart is not None:
        card["kept_apart"] = kept_apart_figures(apart, record["config"]["kept_apart"])
    written = {
        shipped: config.candidate.read_bytes(),
        shipped.with_suffix(".json"): as_json(card),
        config.docs / "figures.json": as_json({"model": card["name"], **figures}),
        **pages_with_figures([config.readme, *sorted(config.docs.rglob("*.md"))], figures),
    }
    for path, content in written.items():
        replace_file(path, content)
    return [*written, config.docs / "promotion-looks.json"]


def read_candidate(
    config: Config, run: Path, card: Mapping[str, Any] | None, *, is_compared: bool = True
) -> tuple[dict[str, Any], dict[str, Any], list[dict[str, Any]]]:
    """Return the record of a candidate's run, its metadata, and the data sets behind its weights.

    Args:
        config: names the candidate.
        run: its run folder.
        card: of the shipped model.
        is_compared: whether it will be compared on photos that its run kept apart.

    Raises:
        RefusedError: it has no record of its run, is not that run's model, is not calibrated, or
            has no photos to be compared on.
    """
    record, export = read_run(run), read_export(config.candidate)
    train_data = trained_on(config, run)
    require_same_origin(export, record, run=run, train_data=train_data)
    require_calibrated(export)
    own = count_data_sets(config.manifest or manifest_of(train_data, config.data))
    if is_compared:
        require_kept_apart(record, card, train_data=train_data, data=config.data)
    return record, export, all_data_sets(own, record, card)


def on_photos_kept_apart(test: EvaluationConfig, record: Mapping[str, Any]) -> EvaluationConfig:
    """Return the evaluation of the same on the photos that the run of `record` kept apart."""
    return replace(
        test,
        out=test.out.with_name(f"{test.out.name}-kept-apart"),
        split="train",
        kept_apart=tuple(record["config"]["kept_apart"]),
        contact_sheet=False,  # once a person has seen a photo, it isn't kept apart
    )


def read_run(run: Path) -> dict[str, Any]:
    """Return the record of a run.

    Raises:
        RefusedError: there is none, or it lacks what the card must say.
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
    """Return the ONNX file's metadata, as the detector reads it and as it was exported."""
    metadata = OnnxDetector(candidate, threads=1).metadata
    model = onnx.load(candidate, load_external_data=False)
    written = {entry.key: entry.value for entry in model.metadata_props}
    return {
        "input_size": metadata.input_size,
        "stride": metadata.stride,
        "classes": list(metadata.classes),
        "end_to_end": metadata.end_to_end,
        "calibration": list(metadata.calibration),
        "calibration_fit": json.loads(written["calibration_fit"])
        if "calibration_fit" in written
        else None,
        "opset": max(o.version for o in model.opset_import if o.domain in ("", "ai.onnx")),
        "ultralytics": written.get("ultralytics"),
        "weights_sha256": written.get("weights_sha256"),
    }


def trained_on(config: Config, run: Path) -> Path:
    """Return the `data.yaml` that a run trained on: as given, the run's own copy, or `data`."""
    own = run.with_name(f"{run.name}.data") / "data.yaml"
    return config.train_data or (own if own.exists() else config.data)


def manifest_of(train_data: Path, data: Path) -> Path:
    """Return the manifest beside what was trained on, or else beside the set that it is from."""
    beside = train_data.parent / "manifest.csv"
    return beside if beside.exists() else data.parent / "manifest.csv"


def require_same_origin(
    export: Mapping[str, Any], record: Mapping[str, Any], *, run: Path, train_data: Path
) -> None:
    """Refuse a card that would describe another run's model, or other data.

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
    if not is_data_of(train_data, record["data_hash"]):
        raise RefusedError(
            f"expected the data set that {run.name} trained on, with the hash "
            f"{record['data_hash'][:12]}; {train_data} holds other photos or labels. See "
            "--train-data"
        )


def require_calibrated(export: Mapping[str, Any]) -> None:
    """Refuse a model that was not calibrated.

    Raises:
        RefusedError: `training/calibrate.py` has not been run on it, or its curve was changed.
    """
    fit = export["calibration_fit"]
    if fit is None or export["calibration"] != [fit["slope"], fit["shift"]]:
        raise RefusedError(
            "expected a calibrated model; run `python -m training.calibrate` on it, which also "
            "writes what it measured into the file"
        )
    fewest = min(fit["boxes_on_plates"], fit["boxes_elsewhere"])
    if fewest < FEWEST_OF_A_KIND:
        raise RefusedError(
            f"expected a calibration by at least {FEWEST_OF_A_KIND} boxes of each kind, got one "
            f"by {fewest}"
        )


def require_kept_apart(
    record: Mapping[str, Any], card: Mapping[str, Any] | None, *, train_data: Path, data: Path
) -> None:
    """Refuse a run without photos that neither it nor an earlier run was trained on.

    Args:
        record: of the run.
        card: of the shipped model.
        train_data: what the run trained on.
        data: the set that photos were kept from.

    Raises:
        RefusedError: none were kept apart, or some were seen anyway.
    """
    sets = record["config"].get("kept_apart") or ()
    if not sets:
        raise RefusedError(
            "expected photos that the run never saw, because test was looked at many times; train "
            "with `kept_apart: [SET]` in the config"
        )
    if before := seen_before(sets, record, card):
        raise RefusedError(
            f"expected photos that no run has seen; of {', '.join(before)}, a run before this one "
            "may have been trained on every photo"
        )
    known = sets_of(data)
    apart = {
        photo.name
        for photo in split_photos(data, "train")  # photos of val are for everybody
        if is_kept_apart(photo.name, known, of=sets)
    }
    seen = {photo.name for split in ("train", "val") for photo in split_photos(train_data, split)}
    if both := apart & seen:
        raise RefusedError(f"{len(both)} photos that were to be kept apart are in {train_data}")


def count_data_sets(manifest: Path) -> list[dict[str, Any]]:
    """Return each set of a manifest with its stated licence and its photos by split.

    Raises:
        RefusedError: there is no manifest, so the licences are unknown.
    """
    if not manifest.exists():
        raise RefusedError(
            f"expected {manifest.name} beside the training data, found none: the card must name "
            "each set and its licence; see --manifest"
        )
    return data_sets_of(manifest)


def write_looks(
    path: Path,
    test: Mapping[str, Any],
    apart: Mapping[str, Any] | None,
    *,
    candidate: str | None = None,
    date: str,
    outcome: str,
) -> dict[str, int]:
    """Record that the splits were looked at; return how often each was, including this time.

    Args:
        path: of the file; created if absent.
        test: metrics on test.
        apart: metrics on the photos kept apart, if they were looked at.
        candidate: its sha256; without it, that of the model that was measured.
        date: of today.
        outcome: "promoted", "refused" or "measured again".
    """
    looks, counts = Looks(path), {}
    for name, metrics in (("test", test), ("kept apart", apart)):
        if metrics is None:
            continue
        looks.add(
            {
                "date": date,
                "split": name,
                "photos": metrics["overall"]["photos"],
                "photos_sha256": metrics["photos_sha256"],
                "model_sha256": candidate or metrics["model"]["sha256"],
                "outcome": outcome,
            }
        )
        counts[name] = looks.count(metrics["photos_sha256"])
    return counts


def refused(
    reasons: Iterable[str], test: Mapping[str, Any], apart: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return what the gate compared when it refused, for the pages that show it."""
    splits = {"test": test, "kept apart": apart}
    compared = {
        name: metrics["compared"]["differences"]
        for name, metrics in splits.items()
        if metrics is not None and "compared" in metrics
    }
    return {"model_sha256": test["model"]["sha256"], "reasons": list(reasons), **compared}


def refusal(
    reasons: Iterable[str],
    test: Mapping[str, Any],
    apart: Mapping[str, Any] | None,
    *,
    turned: Mapping[str, Any] | None = None,
) -> str:
    """Return the reasons, and the table of differences on each split."""
    lines = ["", *(f"- {reason}" for reason in reasons)]
    for name, metrics in (("test", test), ("kept apart", apart), ("test, turned", turned)):
        if metrics is not None and "compared" in metrics:
            rows = metrics["compared"]["differences"]
            lines += ["", f"On {name}:", "", *difference_table(rows, ("shipped", "candidate"))]
    return "\n".join(lines)


def kept_apart_figures(metrics: Mapping[str, Any], sets: Iterable[str]) -> dict[str, Any]:
    """Return the card's entry on the photos kept apart."""
    overall = metrics["overall"]
    return {
        "sets": sorted(sets),
        "photos": overall["photos"],
        "plates": overall["plates"],
        **{key: value for key, value in headline(metrics).items() if value is not None},
    }


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def config_of_command_line(summary: str) -> Config:
    """Return the options of a promotion, of the detector or of its network for near plates.

    Args:
        summary: of the help.
    """
    return Config(**vars(add_options(argparse.ArgumentParser(description=summary)).parse_args()))


def add_options(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add the options that fill a `Config` and return the parser."""
    parser.add_argument("candidate", type=Path, help="ONNX file of training/export.py")
    parser.add_argument("--data", type=Path, required=True, help="data.yaml with a test split")
    parser.add_argument("--run", type=Path, help="its run folder; else where the candidate is")
    parser.add_argument(
        "--train-data", type=Path, help="data.yaml trained on; else RUN.data, or --data"
    )
    parser.add_argument("--manifest", type=Path, help="CSV with each photo's set and licence")
    parser.add_argument("--labels-overlay", type=Path, help="corrections of labels, JSON lines")
    for name in ("models", "docs", "readme"):
        default = Config.__dataclass_fields__[name].default
        parser.add_argument(f"--{name}", type=Path, default=default, help="default: %(default)s")
    parser.add_argument("--threads", type=int, help="of the detector; all cores without it")
    parser.add_argument("--no-plots", dest="plots", action="store_false", help="tables only")
    parser.add_argument("--contact-sheet", action="store_true", help="draw the worst misses")
    return parser


def main() -> None:
    """Read the command line and promote."""
    config = config_of_command_line((__doc__ or "").splitlines()[0])
    try:
        written = promote(config, date=time.strftime("%Y-%m-%d"))
    except RefusedError as refusal:
        sys.exit(f"refused: {refusal}")
    print("promoted; to be committed together:")
    for path in written:
        print(f"  {path}")
    print("and the pictures that show it: run make pictures")


if __name__ == "__main__":
    run_step(main)
