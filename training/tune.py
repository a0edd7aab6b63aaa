"""Search hyperparameters with short runs; the study is a file that can be resumed and shared.

    python -m training.tune training/configs/yolo26n-640.yaml --data DATA.yaml --out runs/tuning

Each trial is a run of `training.run` in a folder of its own, trained with the same budget of hours
from the same weights, and judged by covered99 on val: the share of plates of which at least 99 % is
hidden, with the export, calibration and second look that would be served. No trial is cut short,
because an early epoch says little while the learning rate falls over the whole budget.

It searches `SPACE`, five numbers: the fewer there are, the sooner twenty trials mean something. The
sampler is Optuna's TPE. Trials are listed in `--out`/trials.csv, and the best becomes the config
`--out`/best.yaml; test is never used. To search in parallel, start the same line once per GPU, each
with its own `--device` and `--seed`: all of them share the study.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import yaml

from training.checkout import run_step


@dataclass(frozen=True, slots=True)
class Range:
    """The range of one field of `train.Config`."""

    low: float
    high: float
    log: bool = False
    whole: bool = False


SPACE: dict[str, Range] = {
    "learning_rate": Range(3e-4, 3e-3, log=True),  # around AdamW's usual 0.001
    "final_learning_rate": Range(0.005, 0.1, log=True),  # share of the peak at the end
    "degrees": Range(0.0, 10.0),  # of tilt; plates on two wheels lean further than cars'
    "perspective": Range(0.0, 0.0008),  # ultralytics allows up to 0.001
    "far_times": Range(1, 4, whole=True),  # how often far plates come
}


@dataclass(frozen=True, slots=True)
class Config:
    """One search; filled from the command line."""

    base: Path  # a file of training/configs; gives all other fields
    data: Path  # data.yaml of a YOLO data set
    out: Path  # folder of the study and its runs
    trials: int  # of this call, in addition to those in the study
    hours: float  # of training, each trial
    weights: str | None = None  # to start from instead of the config's model
    seed: int = 0  # of the sampler; another one for each process that shares a study
    device: str | None = None  # cpu, or a GPU such as 1; without it, what is there


def suggest(trial: optuna.Trial) -> dict[str, Any]:
    """Return a value for each field of `SPACE`."""
    return {
        name: trial.suggest_int(name, int(one.low), int(one.high))
        if one.whole
        else trial.suggest_float(name, one.low, one.high, log=one.log)
        for name, one in SPACE.items()
    }


def train_one(config: Config, values: dict[str, Any], run: Path) -> float:
    """Run one trial in its own process, and return covered99 on val.

    Raises:
        subprocess.CalledProcessError: a step failed; the trial counts as failed, not as a bad one.
    """
    words = [
        *(sys.executable, "-m", "training.run", str(config.base), "--data", str(config.data)),
        *("--out", str(run), "--hours", str(config.hours)),
        *(("--weights", config.weights) if config.weights else ()),
        *(("--device", config.device) if config.device else ()),
    ]
    for name, value in values.items():
        words += ["--set", f"{name}={value}"]
    subprocess.run(words, check=True, stdout=sys.stderr)
    return covered99(run / "summary.json")


def covered99(summary: Path) -> float:
    """Return the share of val's plates that a run's model hides, of its `summary.json`."""
    return float(json.loads(summary.read_text())["val"]["this"]["covered99"])


def tune(config: Config) -> optuna.Study:
    """Run the trials, and write the table and the best config after each."""
    config.out.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        study_name="covered99",
        storage=f"sqlite:///{config.out.resolve() / 'study.db'}",
        sampler=optuna.samplers.TPESampler(seed=config.seed),
        direction="maximize",
        load_if_exists=True,
    )

    def objective(trial: optuna.Trial) -> float:
        return train_one(config, suggest(trial), config.out / f"trial-{trial.number}")

    study.optimize(
        objective,
        n_trials=config.trials,
        callbacks=[lambda study, _: write_results(study, config)],
        catch=(subprocess.CalledProcessError,),
    )
    return study


def write_results(study: optuna.Study, config: Config) -> None:
    """Write `trials.csv`, and `best.yaml` once a trial has finished."""
    with (config.out / "trials.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("trial", "state", "covered99", *SPACE))
        for trial in study.trials:
            values = [trial.params.get(name, "") for name in SPACE]
            goal = "" if trial.value is None else f"{trial.value:.4f}"
            writer.writerow((trial.number, trial.state.name.lower(), goal, *values))
    if any(trial.value is not None for trial in study.trials):
        base = yaml.safe_load(config.base.read_text()) or {}
        (config.out / "best.yaml").write_text(yaml.safe_dump(base | study.best_params))


def main() -> None:
    """Read the command line and search."""
    parser = argparse.ArgumentParser(description="Search hyperparameters with short runs.")
    parser.add_argument("base", type=Path, help="a file of training/configs")
    parser.add_argument("--data", type=Path, required=True, help="data.yaml of a YOLO data set")
    parser.add_argument("--out", type=Path, required=True, help="folder of the study")
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--hours", type=float, default=0.5, help="of training, each trial")
    parser.add_argument("--device", help="cpu, or a GPU such as 1; without it, what is there")
    parser.add_argument("--seed", type=int, default=0, help="of the sampler")
    parser.add_argument("--weights", help="start from this file instead of the config's model")
    config = Config(**vars(parser.parse_args()))
    study = tune(config)
    done = [trial for trial in study.trials if trial.value is not None]
    if not done:
        sys.exit("error: no trial was trained to its end")
    sys.stdout.write(f"{study.best_value:.4f} {study.best_params}\n")


if __name__ == "__main__":
    run_step(main)
