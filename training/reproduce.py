"""Replay how the shipped model was made, stage by stage, as `training/shipped.yaml` describes it.

    python -m training.reproduce --data DATA.yaml --start yolo26n-coco.pt --out runs/again
    python -m training.reproduce --smoke --out runs/smoke

The steps are those of the other pages: train, average, restore, export, calibrate, evaluate. Before
a stage trains, its labels must have the hash that they had then. Run the same line again to
continue after a kill. `--smoke` takes minutes: drawn scenes, and a network without weights.

A replay repeats the steps, not the bits: threads add numbers in another order, and stages that were
once killed and resumed run without a break. The result is compared with the shipped model on val.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import subprocess
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from plateblur import drawn
from plateblur.detector import near_model, shipped_model
from plateblur.sets.labels import label_file
from plateblur.sets.layout import DATA_YAML, make_folders
from plateblur.sets.split import is_data_of
from training.average import average
from training.calibrate import Config as CalibrationConfig
from training.calibrate import calibrate
from training.checkout import ROOT, run_step
from training.evaluate import evaluate
from training.evaluation.config import Config as EvaluationConfig
from training.evaluation.figures import headline
from training.export import Config as ExportConfig
from training.export import export
from training.restore import Config as RestoreConfig
from training.restore import restore
from training.runs import is_done
from training.train import Config, prepare_data, read_config, train

RECIPE = Path(__file__).with_name("shipped.yaml")
OVERLAY = "datasets/corrections/plates.jsonl"
SMOKE_SIZE = 64  # input size of a smoke run, pixels
SMOKE_FLOOR = 0.0001  # about the confidence of a network that has learned nothing


class NotReproducibleError(Exception):
    """A stage can't be replayed: its data, its overlay or its first weights differ."""


@dataclass(frozen=True, slots=True)
class Options:
    """How to replay a recipe; filled from the command line."""

    out: Path  # a folder for each stage, and the model; outside the repository or ignored there
    data: Path | None = None  # data.yaml of the joined set, with its manifest beside it
    start: Path | None = None  # the weights that the first stage starts from
    smoke: bool = False  # the same steps on drawn scenes, in minutes
    other_data: bool = False  # continue even if labels or first weights have changed
    device: str | None = None  # cpu, or GPUs such as 0,1; default: what is available


def read_recipe(path: Path) -> dict[str, Any]:
    """Return a recipe, with the stages of the one that it continues, if it continues one."""
    recipe: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    if before := recipe.pop("continues", None):
        first = read_recipe(path.with_name(before))
        recipe = {**first, **recipe, "stages": [*first["stages"], *recipe["stages"]]}
    return recipe


def reproduce(recipe: dict[str, Any], options: Options) -> dict[str, Any]:
    """Replay a recipe and return the figures of its model beside those of the shipped one.

    Args:
        recipe: what `training/shipped.yaml` holds.
        options: where, and on what.

    Raises:
        NotReproducibleError: data, overlay or first weights have changed.
    """
    options.out.mkdir(parents=True, exist_ok=True)
    for stage in recipe["stages"]:
        sys.stderr.write(f"stage {stage['name']}\n")
        replay(stage, recipe, data=chosen_data(recipe, stage, options), options=options)
    data = chosen_data(recipe, recipe["calibration"], options)
    model = options.out / "plates.onnx"
    size = SMOKE_SIZE if options.smoke else recipe["export"]["input_size"]
    weights = place(recipe["export"]["weights"], recipe, options)
    export(ExportConfig(Path(weights), model, size))
    overlay = overlay_of(recipe["calibration"]["overlay"], options)
    config = CalibrationConfig(model, data, overlay)
    if options.smoke:
        config = replace(config, fitted_from=SMOKE_FLOOR, fewest=0)
    fitted = calibrate(config)
    return compared(model, fitted, recipe, data=data, overlay=overlay, options=options)


def replay(stage: dict[str, Any], recipe: dict[str, Any], *, data: Path, options: Options) -> None:
    """Train one stage, and average its weights if the recipe says so; finished work is kept."""
    run = options.out / stage["name"]
    weights = place(stage["begins"], recipe, options)
    if size := stage.get("restored_at"):
        weights = str(restored(Path(weights), stage, recipe, size=size, data=data, options=options))
    if not is_done(run):
        config = config_of(stage, options)
        check_data(config, stage, data=data, options=options)
        train(
            config,
            data=data,
            run=run,
            weights=weights,
            resume=(run / "weights" / "last.pt").exists(),
            stop_after=1 if options.smoke else stage.get("stop_after"),
            device=options.device,
        )
    if (averaging := stage.get("average")) and not (run / "weights" / "averaged.pt").exists():
        own = (
            "epoch0.pt"
            if options.smoke and averaging["own"].startswith("epoch")
            else averaging["own"]
        )
        start = Path(place(averaging["with"], recipe, options))
        average(run, start=start, share=averaging["share"], own=own)


def config_of(stage: dict[str, Any], options: Options) -> Config:
    """Return the config of a stage with its version of the overlay; for a smoke run a tiny one."""
    config = read_config(ROOT / stage["config"], [])
    overlay = overlay_of(stage.get("overlay"), options)
    config = replace(
        config, epochs=stage["epochs"], overlay=str(overlay.resolve()) if overlay else ""
    )
    if options.smoke:
        config = replace(
            config, epochs=1, batch=4, input_size=SMOKE_SIZE, close_mosaic=0, cache="ram"
        )
    return config


def place(where: str, recipe: dict[str, Any], options: Options) -> str:
    """Return the weights that a recipe names: STAGE/FILE, or `start`.

    Raises:
        NotReproducibleError: the first weights are missing or have changed.
    """
    if where != "start":
        stage, _, file = where.partition("/")
        return str(options.out / stage / "weights" / file)
    if options.smoke:
        return str(recipe["network"])  # a network of random weights
    start = recipe["start"]
    if options.start is None:
        raise NotReproducibleError(f"expected --start with {start['file']}")
    got = hashlib.sha256(options.start.read_bytes()).hexdigest()
    if got != start["sha256"] and not options.other_data:
        raise NotReproducibleError(
            f"{options.start.name}: expected sha256 {start['sha256'][:12]}, got {got[:12]}; "
            "--other-data goes on with it"
        )
    return str(options.start)


def overlay_of(version: dict[str, str] | None, options: Options) -> Path | None:
    """Return a file with a version of the overlay, out of git's history; none without a version.

    Raises:
        NotReproducibleError: git doesn't have it, as in a shallow clone, or has another version.
    """
    if version is None:
        return None
    if options.smoke:
        return ROOT / OVERLAY  # no drawn scene is in any version
    shown = subprocess.run(
        ["git", "show", f"{version['commit']}:{OVERLAY}"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if shown.returncode or hashlib.sha256(shown.stdout).hexdigest() != version["sha256"]:
        raise NotReproducibleError(
            f"git has no {OVERLAY} of {version['commit'][:12]}; in a shallow clone, run "
            "git fetch --unshallow"
        )
    file = options.out / f"overlay-{version['commit'][:12]}.jsonl"
    file.write_bytes(shown.stdout)
    return file


def chosen_data(recipe: dict[str, Any], step: dict[str, Any], options: Options) -> Path:
    """Return the `data.yaml` of a step's sets alone, or of drawn scenes for a smoke run.

    Args:
        recipe: names the sets of all steps.
        step: a stage or the calibration; `more_sets` are those that it takes beside.
        options: where they are.

    Raises:
        NotReproducibleError: no data set was given, or sets are missing from it.
    """
    more = step.get("more_sets", [])
    out = options.out / ("data" if options.smoke else "-".join(["data", *more]))
    if options.smoke:
        if not (out / "data.yaml").exists():
            shares = (0.6, 0.2, 0.2)
            drawn.write_set(out, count=16, seed=7, image_hw=(270, 480), split_shares=shares)
        return out / "data.yaml"
    if options.data is None:
        raise NotReproducibleError("expected --data, or --smoke")
    missing = choose_sets(options.data.parent, [*recipe["sets"], *more], out=out)
    if missing and not options.other_data:
        raise NotReproducibleError(
            f"expected photos of {', '.join(missing)} in {options.data.parent}, found none; "
            "docs/howto/reproduce.md says where each set is from. --other-data goes on without them"
        )
    return out / "data.yaml"


def choose_sets(root: Path, sets: Collection[str], *, out: Path) -> list[str]:
    """Link the photos and labels of some sets into a folder; return the sets that are missing.

    Args:
        root: folder of the joined set, with its `manifest.csv`.
        sets: to keep, by the manifest's column `set`.
        out: folder, created if needed; existing files stay.
    """
    make_folders(out)
    with (root / "manifest.csv").open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        rows = [row for row in reader if row["set"] in sets]
        columns = reader.fieldnames or ()
    for row in rows:
        photo = root / row["image"]
        link = out / "images" / row["split"] / photo.name
        label = out / "labels" / row["split"] / f"{photo.stem}.txt"
        for made, source in ((link, photo), (label, label_file(photo))):
            if not made.is_symlink():
                made.symlink_to(source.resolve())
    with (out / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    (out / "data.yaml").write_text(DATA_YAML)
    return sorted(set(sets) - {row["set"] for row in rows})


def check_data(config: Config, stage: dict[str, Any], *, data: Path, options: Options) -> None:
    """Refuse labels that are not those that the stage was trained on.

    Raises:
        NotReproducibleError: they have changed.
    """
    if options.smoke or options.other_data:
        return
    out = options.out / f"{stage['name']}.data"  # where training prepares them too
    if not is_data_of(prepare_data(config, data=data, out=out), stage["data_hash"]):
        raise NotReproducibleError(
            f"{stage['name']}: expected data with the hash {stage['data_hash'][:12]}, got other "
            "photos or labels; --other-data goes on with them"
        )


def restored(
    weights: Path,
    stage: dict[str, Any],
    recipe: dict[str, Any],
    *,
    size: int,
    data: Path,
    options: Options,
) -> Path:
    """Return weights that training can continue from, restored from an export."""
    run = options.out / stage["name"]
    kept = run.with_name(f"{run.name}.start")  # beside the run, whose folder training empties
    made: Path = kept / "weights" / "restored.pt"
    if not made.exists():
        model = kept / "plates.onnx"
        export(ExportConfig(weights, model, SMOKE_SIZE if options.smoke else size))
        restore(RestoreConfig(model, recipe["network"], data, kept))
    return made


def compared(
    model: Path,
    fitted: dict[str, Any],
    recipe: dict[str, Any],
    *,
    data: Path,
    overlay: Path | None,
    options: Options,
) -> dict[str, Any]:
    """Return the result, measured on val and compared with the shipped model."""
    metrics = evaluate(
        EvaluationConfig(
            data=data,
            out=options.out / "val",
            split="val",
            model=model,
            near=None if recipe.get("alone") else near_model(shipped_model()),
            compare=shipped_model(),
            labels_overlay=overlay,
            plots=False,
        )
    )
    result = {
        "model": str(model),
        "same_bytes": hashlib.sha256(model.read_bytes()).hexdigest() == recipe["sha256"],
        "curve then": recipe["calibration"]["curve"],
        "curve now": [fitted["slope"], fitted["shift"]],
        "val": {"now": headline(metrics), "shipped": headline(metrics["compared"])},
    }
    (options.out / "reproduced.json").write_text(json.dumps(result, indent=2) + "\n")
    return result


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line and replay."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--recipe", type=Path, default=RECIPE, help="default: %(default)s")
    parser.add_argument("--out", type=Path, required=True, help="folder for all of it")
    parser.add_argument("--data", type=Path, help="data.yaml of the joined set")
    parser.add_argument("--start", type=Path, help="the first weights of all")
    parser.add_argument("--smoke", action="store_true", help="on drawn scenes, in minutes")
    parser.add_argument("--other-data", action="store_true", help="go on with other data")
    parser.add_argument("--device", help="cpu, or GPUs such as 0,1; without it, what is there")
    given = vars(parser.parse_args(argv))
    recipe = read_recipe(given.pop("recipe"))
    try:
        result = reproduce(recipe, Options(**given))
    except NotReproducibleError as error:
        sys.exit(f"error: {error}")
    sys.stdout.write(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    run_step(main)
