"""Search hyperparameters on Ray: runs in parallel, judged by how many plates they hide on val.

    python -m training.tune training/configs/yolo26n-640.yaml --data DATA.yaml --out runs/tuning \
        --trials 20 --parallel 2

Each trial is a run of `training.run` in a folder of its own, with the same budget and from the same
weights. Its goal is covered99 on val: the share of plates of which at least 99 % is hidden, with
the export, calibration and second look that would be served. No trial is cut short, because an
early epoch says little while the learning rate falls over the whole budget. Test is never used.

It searches `SPACE`, five numbers: the fewer there are, the sooner twenty trials mean something.
Optuna's TPE chooses the values. A trial that fails is listed with its reason, and the others go on.
Run the same line again after a kill: unfinished trials continue from their last epoch. A higher
`--trials` continues a finished search.

`--out`/trials.csv lists the trials, and `--out`/best.yaml is the config of the best one. Without
`--address` Ray runs on this machine alone; the nodes of a cluster need this checkout, the data and
`--out` at the same paths.

Ray's tasks and not Ray Tune, because a search of Ray Tune can't be given more trials later, and
because ultralytics reports its own figures to Ray Tune after each epoch.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import optuna
import ray
import yaml
from filelock import FileLock, Timeout
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState
from ray.exceptions import RayError

from plateblur.sets.split import data_hash, read_split
from training import run as line
from training.checkout import require_private, run_step
from training.train import Config, read_config

SPACE: dict[str, BaseDistribution] = {
    "learning_rate": FloatDistribution(3e-4, 3e-3, log=True),  # around AdamW's usual 0.001
    "final_learning_rate": FloatDistribution(0.005, 0.1, log=True),  # share of the peak at the end
    "degrees": FloatDistribution(0.0, 10.0),  # of tilt; plates on two wheels lean more than cars'
    "perspective": FloatDistribution(0.0, 0.0008),  # ultralytics allows up to 0.001
    "far_times": IntDistribution(1, 4),  # how often far plates appear
}
FIGURES = ("covered99", "recall", "false_boxes_per_photo")  # of val, in trials.csv


@dataclass(frozen=True, slots=True)
class Search:
    """One search; filled from the command line."""

    base: Config  # all the fields that aren't searched
    data: Path  # data.yaml of a YOLO data set
    out: Path  # folder of the study and its runs
    trials: int  # of the whole study, those of earlier calls included
    hours: float | None = None  # of training, each trial; None: the epochs of `base`
    weights: str | None = None  # to start from; None: as in training.run
    seed: int = 0  # of the sampler
    parallel: int | None = None  # trials at once; None: one for each GPU, at least 1
    gpus: float | None = None  # of one trial; a fraction shares a GPU. None: 1 if there are any
    address: str | None = None  # of a Ray cluster; None: this machine alone


Trial = Callable[[Config, line.Options], float]
"""Takes the steps of one trial, in a process of its own, and returns its covered99."""


def hidden_share(config: Config, options: line.Options) -> float:
    """Take every step of `training.run`, and return the share of val's plates that is hidden."""
    return float(line.run(config, options)["val"]["this"]["covered99"])


def tune(search: Search, trial: Trial = hidden_share) -> optuna.Study:
    """Run the trials that the study still lacks, and write the results after each of them.

    Args:
        search: what to search, and where.
        trial: takes the steps of one.

    Raises:
        ValueError: val has no plates, the study in `out` is of something else or another process is
            writing to it, `out` would be committed, there are fewer GPUs than one trial takes, or
            there would be no trial.
    """
    require_private(search.out)
    if search.trials < 1 or (search.parallel is not None and search.parallel < 1):
        raise ValueError(
            f"expected 1 or more, got --trials {search.trials}, --parallel {search.parallel}"
        )
    search = replace(search, data=search.data.resolve(), out=search.out.resolve())
    if not any(len(photo.truth) for photo in read_split(search.data, "val")):
        raise ValueError(f"expected plates on val of {search.data}, found none to judge trials by")
    search.out.mkdir(parents=True, exist_ok=True)
    with alone_in(search.out), on_ray(search.address):
        study = open_study(search)
        parallel, gpus = room_for(search)
        weights = line.first_weights(search.base, options_of(search, "shared"))
        # A process for each trial, so that nothing of an earlier one is left in its memory.
        start = ray.remote(num_gpus=gpus, max_calls=1, max_retries=0, scheduling_strategy="SPREAD")(
            trial
        ).remote
        waiting = unfinished(study)
        running: dict[Any, int] = {}
        while True:
            while len(running) < parallel and (waiting or len(study.trials) < search.trials):
                number = waiting.pop(0) if waiting else study.ask(SPACE).number
                config = replace(search.base, **study.trials[number].params)
                options = options_of(search, f"trial-{number}", weights)
                running[start(config, options)] = number
            write_results(study, search)
            if not running:
                return study
            (ended, *_), _ = ray.wait(list(running))
            settle(study, running.pop(ended), ended, search)


def options_of(search: Search, name: str, weights: str | None = None) -> line.Options:
    """Return where a trial of this name runs, on what and from what."""
    return line.Options(
        data=search.data,
        out=search.out / name,
        weights=weights or search.weights,
        hours=search.hours,
    )


@contextmanager
def alone_in(out: Path) -> Iterator[None]:
    """Keep other processes from running the same trials.

    Raises:
        ValueError: one does.
    """
    try:
        with FileLock(out / ".lock", timeout=0):
            yield
    except Timeout as error:
        raise ValueError(f"another search is writing to {out}; wait until it has ended") from error


@contextmanager
def on_ray(address: str | None) -> Iterator[None]:
    """Connect to a Ray cluster, or run one on this machine."""
    if address is None:  # "local", because the environment may name a cluster
        ray.init(address="local", include_dashboard=False)
    else:
        ray.init(address=address)
    try:
        yield
    finally:
        ray.shutdown()


def room_for(search: Search) -> tuple[int, float]:
    """Return how many trials run at once, and the GPUs of each.

    Raises:
        ValueError: a trial takes more GPUs than there are; Ray would wait for them forever.
    """
    found = ray.cluster_resources().get("GPU", 0)  # type: ignore[no-untyped-call]
    gpus = min(found, 1) if search.gpus is None else search.gpus
    if gpus > found:
        raise ValueError(f"expected --gpus up to the {found:g} that there are, got {gpus:g}")
    return search.parallel or max(int(found), 1), gpus


def open_study(search: Search) -> optuna.Study:
    """Return the study in `out`, made here if there is none.

    Raises:
        ValueError: it is a search with another config, budget or data.
    """
    study = optuna.create_study(
        study_name="covered99",
        storage=f"sqlite:///{search.out / 'study.db'}",
        direction="maximize",
        load_if_exists=True,
    )
    # A sampler that begins again with the same seed would choose the first trials' values again.
    seed = search.seed + len(study.trials)
    study.sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
    parts = {
        "config": asdict(search.base),
        "data_hash": data_hash(search.data),
        "hours": search.hours,
        "weights": search.weights,
    }
    made_of: dict[str, Any] = json.loads(json.dumps(parts))  # as the study keeps it
    earlier = study.user_attrs.get("made_of", made_of)
    if changed := [name for name, value in made_of.items() if earlier[name] != value]:
        raise ValueError(
            f"{search.out} is a search with another {' and '.join(changed)}; its trials can't be "
            "compared with new ones. Give another --out"
        )
    study.set_user_attr("made_of", made_of)
    return study


def unfinished(study: optuna.Study) -> list[int]:
    """Return the trials that an earlier call began; those without values count as failed."""
    begun = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    for one in begun:
        if set(one.params) != set(SPACE):  # killed while they were chosen
            study.tell(one.number, state=TrialState.FAIL)
    return [one.number for one in begun if set(one.params) == set(SPACE)]


def settle(study: optuna.Study, number: int, ended: Any, search: Search) -> None:
    """Write down how a trial ended; one that failed doesn't count as a bad one."""
    try:
        value = ray.get(ended)
    except RayError as error:
        study.tell(number, state=TrialState.FAIL)
        folder = search.out / f"trial-{number}"
        folder.mkdir(exist_ok=True)
        (folder / "error.txt").write_text(f"{error}\n", encoding="utf-8")
        outcome = f"failed: {reason_of(folder)}"
    else:
        study.tell(number, value)
        outcome = f"covered99 {value:.4f}"
    done = sum(one.state.is_finished() for one in study.trials)
    sys.stderr.write(f"trial {number}: {outcome}; {done} of {search.trials} trials have ended\n")


def reason_of(folder: Path) -> str:
    """Return the last line of a failed trial's error; empty if it has none."""
    error = folder / "error.txt"
    lines = error.read_text(encoding="utf-8").split("\n") if error.exists() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def write_results(study: optuna.Study, search: Search) -> None:
    """Write `trials.csv`, and `best.yaml` once a trial has finished."""
    with (search.out / "trials.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("trial", "state", *FIGURES, *SPACE, "reason"))
        for trial in study.trials:
            folder = search.out / f"trial-{trial.number}"
            figures = figures_of(trial, search)
            reason = reason_of(folder) if trial.state is TrialState.FAIL else ""
            row = [figures.get(name) for name in FIGURES]
            row += [trial.params.get(name) for name in SPACE]
            writer.writerow((trial.number, trial.state.name.lower(), *row, reason))
    best = best_of(study, search)
    if best is not None:
        values = asdict(replace(search.base, **best.params))
        usual = asdict(Config())
        config = {name: value for name, value in values.items() if value != usual[name]}
        (search.out / "best.yaml").write_text(
            f"# Trial {best.number} of {len(study.trials)}: covered99 {best.value:.4f} on val.\n"
            + yaml.safe_dump(config, sort_keys=False)
        )


def figures_of(trial: optuna.trial.FrozenTrial, search: Search) -> dict[str, Any]:
    """Return the figures of a finished trial on val; nothing of another."""
    summary = search.out / f"trial-{trial.number}" / "summary.json"
    if trial.value is None or not summary.exists():
        return {}
    figures: dict[str, Any] = json.loads(summary.read_text())["val"]["this"]
    return figures


def best_of(study: optuna.Study, search: Search) -> optuna.trial.FrozenTrial | None:
    """Return the trial that hides most plates; of several, the one with the fewest false boxes."""
    return max(
        study.get_trials(states=(TrialState.COMPLETE,)),
        key=lambda trial: (
            trial.value or 0.0,
            -figures_of(trial, search).get("false_boxes_per_photo", math.inf),
        ),
        default=None,
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line and search."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("base", type=Path, help="a file of training/configs")
    parser.add_argument("--data", type=Path, required=True, help="data.yaml of a YOLO data set")
    parser.add_argument("--out", type=Path, required=True, help="folder of the search")
    parser.add_argument("--trials", type=int, default=20, help="of the whole search")
    parser.add_argument("--parallel", type=int, help="trials at once; without it, one per GPU")
    parser.add_argument("--gpus", type=float, help="of each trial; 0.5 puts two on a GPU")
    parser.add_argument("--hours", type=float, help="of each trial, instead of the epochs")
    parser.add_argument("--address", help="of a Ray cluster; without it, this machine alone")
    parser.add_argument("--seed", type=int, default=0, help="of the sampler")
    parser.add_argument("--weights", help="begin from this file instead of the shipped model")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE")
    given = vars(parser.parse_args(argv))
    base = read_config(given.pop("base"), given.pop("set"))
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    search = Search(base=base, **given)
    best = best_of(tune(search), search)
    if best is None:
        raise ValueError(f"every trial failed; the reasons are in {given['out']}/trials.csv")
    sys.stdout.write(f"trial {best.number}: covered99 {best.value:.4f} with {best.params}\n")


if __name__ == "__main__":
    run_step(main)
