"""Fine-tune the shipped detector on your data with one command, and compare the two.

    python -m training.run training/configs/yolo26n-896.yaml --data DATA.yaml --out runs/mine

It restores the shipped model's weights, trains, exports, calibrates on val, evaluates on val and
compares with the shipped model. Run the same line again to continue after a kill. Each step is also
a command of its own (`python -m training`) on the same folder. The command doesn't touch test and
promotes nothing: those are decisions, not steps.

With too few boxes on val there is no calibration: the model keeps the network's own confidence, and
`summary.json` says why.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from plateblur.detector import near_model, shipped_model
from plateblur.sets import layout
from plateblur.sets.split import check_trainable
from training.calibrate import CalibrationRefusedError, calibrate
from training.calibrate import Config as CalibrationConfig
from training.checkout import ROOT, require_private, run_step
from training.evaluate import evaluate
from training.evaluation.config import Config as EvaluationConfig
from training.evaluation.figures import headline
from training.export import Config as ExportConfig
from training.export import export
from training.restore import Config as RestoreConfig
from training.restore import restore
from training.runs import is_done
from training.train import Config, read_config, train


@dataclass(frozen=True, slots=True)
class Options:
    """What to train on, and where; filled from the command line."""

    data: Path  # data.yaml of a YOLO data set
    out: Path  # run folder, created if needed
    weights: str | None = None  # start from this file; default: the shipped model, if it fits
    hours: float | None = None  # budget of training, in place of the config's epochs
    device: str | None = None  # cpu, or GPUs such as 0,1; default: what is available


def run(config: Config, options: Options) -> dict[str, Any]:
    """Run every step that is not done yet, and return the content of `summary.json`.

    Args:
        config: of the training.
        options: where, on what and from what.

    Raises:
        ValueError: the data can't be trained on, or git would commit the run folder.
    """
    require_private(options.out)
    if not is_done(options.out):
        train(
            config,
            data=options.data,
            run=options.out,
            weights=first_weights(config, options),
            resume=(options.out / "weights" / "last.pt").exists(),
            hours=options.hours,
            device=options.device,
        )
    best, model = options.out / "weights" / "best.pt", options.out / "plates.onnx"
    if metadata_of(model).get("weights_sha256") != hashlib.sha256(best.read_bytes()).hexdigest():
        export(ExportConfig(best, model, config.input_size))
    overlay = ROOT / config.overlay if config.overlay else None
    refused = None
    if "calibration_fit" not in metadata_of(model):
        try:
            calibrate(CalibrationConfig(model, options.data, overlay))
        except CalibrationRefusedError as refusal:
            refused = str(refusal)
            sys.stderr.write(f"not calibrated: {refused}\n")
    metrics = measured(model, overlay, options)
    fit = metadata_of(model).get("calibration_fit")
    summary = {
        "model": str(model),
        "sha256": metrics["model"]["sha256"],
        "calibration": json.loads(fit) if fit else None,
        "calibration_refused": refused,
        "val": {"this": headline(metrics), "shipped": headline(metrics["compared"])},
        "differences": metrics["compared"]["differences"],
    }
    (options.out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    return summary


def first_weights(config: Config, options: Options) -> str:
    """Return the weights to start from: the given ones, the shipped model's, or the config's.

    The shipped model's are taken where the config is for the same network.
    """
    if options.weights:
        return options.weights
    network = Path(config.model).stem
    card = json.loads(shipped_model().with_suffix(".json").read_text())
    if Path(card["training"]["config"]["model"]).stem != network or config.model.endswith(".yaml"):
        return config.model
    kept = options.out.with_name(f"{options.out.name}.start")  # training may empty its own folder
    made = kept / "weights" / "restored.pt"
    if not made.exists():
        check_trainable(options.data)
        sys.stderr.write("restoring the shipped model's weights, which takes minutes\n")
        restore(RestoreConfig(shipped_model(), f"{network}.yaml", options.data, kept))
    return str(made)


def measured(model: Path, overlay: Path | None, options: Options) -> dict[str, Any]:
    """Return the figures of the model and of the shipped one on val."""
    out = options.out / "val"
    before = out / "metrics.json"
    sha256 = hashlib.sha256(model.read_bytes()).hexdigest()
    if before.exists():
        metrics: dict[str, Any] = json.loads(before.read_text())
        if metrics["model"]["sha256"] == sha256:
            return metrics
    return evaluate(
        EvaluationConfig(
            data=options.data,
            out=out,
            split="val",
            model=model,
            near=near_model(shipped_model()),
            compare=shipped_model(),
            labels_overlay=overlay,
        )
    )


def table(summary: dict[str, Any]) -> str:
    """Return the figures of both models on val, as a text table; those without plates left out."""
    figures = summary["val"]
    rows = [
        (name, value, figures["shipped"][name])
        for name, value in figures["this"].items()
        if value is not None
    ]
    return layout.table(("on val", "this", "shipped"), rows)


def metadata_of(model: Path) -> dict[str, str]:
    """Return an export's metadata; nothing if there is no export."""
    if not model.exists():
        return {}
    loaded = onnx.load(model, load_external_data=False)
    return {entry.key: entry.value for entry in loaded.metadata_props}


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line, take the steps and print the summary."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("config", type=Path, help="a file of training/configs")
    parser.add_argument("--data", type=Path, required=True, help="data.yaml of a YOLO data set")
    parser.add_argument("--out", type=Path, help="run folder; else runs/ and the config's name")
    parser.add_argument("--weights", help="begin from this file instead of the shipped model")
    parser.add_argument("--hours", type=float, help="budget, instead of the config's epochs")
    parser.add_argument("--device", help="cpu, or GPUs such as 0,1; without it, what is there")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE")
    given = parser.parse_args(argv)
    options = Options(
        data=given.data,
        out=given.out or Path("runs") / given.config.stem,
        weights=given.weights,
        hours=given.hours,
        device=given.device,
    )
    summary = run(read_config(given.config, given.set), options)
    sys.stdout.write(f"\n{table(summary)}\n")
    sys.stdout.write(f"tables and plots: {options.out / 'val' / 'report.md'}\n")


if __name__ == "__main__":
    run_step(main)
