"""A run's folder: whether it may be written, its versions and machine, its progress."""

from __future__ import annotations

import csv
import json
import os
import platform
import sys
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import torch


def is_done(run: Path) -> bool:
    """Return whether a run was trained to its end: only then does its record have hours."""
    record = run / "run.json"
    return record.exists() and "hours" in json.loads(record.read_text())


def require_new(run: Path) -> None:
    """Refuse a folder with weights or a finished run, because training would overwrite it.

    Raises:
        FileExistsError: it does.
    """
    if any((run / "weights").glob("*.pt")) or is_done(run):
        raise FileExistsError(
            f"{run} holds a run, which is never overwritten; give another folder "
            "with --run, or go on with it by --resume"
        )


# Source: ultralytics' `check_resume`: a resumed run takes these from its checkpoint.
KEPT_BY_RESUMING = (
    *("epochs", "learning_rate", "final_learning_rate", "warmup_epochs", "degrees", "perspective"),
    *("model", "seed"),
)


def require_same_config(earlier: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Refuse to resume a run with other values where its checkpoint decides.

    Otherwise ultralytics would go on with the old ones, and the run's record name the new ones.

    Args:
        earlier: config of the run's record.
        config: with which it is to be resumed.

    Raises:
        ValueError: one differs.
    """
    changed = [
        f"{name} {earlier[name]} (now {config[name]})"
        for name in KEPT_BY_RESUMING
        if name in earlier and earlier[name] != config[name]
    ]
    if changed:
        raise ValueError(
            f"the run was begun with {', '.join(changed)}, and a resumed run keeps these; resume "
            "it with the same values, or begin a new run"
        )


def require_unfinished(run: Path) -> None:
    """Refuse to resume a run that has no checkpoint, or that has ended.

    Raises:
        FileNotFoundError: no checkpoint.
        FileExistsError: it has ended; ultralytics takes the optimiser's state out of its weights.
    """
    last = run / "weights" / "last.pt"
    if not last.exists():
        raise FileNotFoundError(f"--resume: expected a checkpoint at {last}, found none")
    if is_done(run):
        raise FileExistsError(
            f"{run} has ended; go on from its weights in a new run: --run NEW --weights {last}"
        )


def environment() -> dict[str, Any]:
    """Return the versions and the machine that a run's figures depend on."""
    packages = ("torch", "ultralytics-opencv-headless", "albumentations", "numpy")
    return {
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in packages},
        "cpu_count": os.cpu_count(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cuda": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
    }


def hours_trained(results: Path) -> float:
    """Return the hours of all stretches of a run, from the last epoch of its `results.csv`."""
    with results.open(newline="") as file:
        return round([float(row["time"]) for row in csv.DictReader(file)][-1] / 3600, 4)


def count_from_the_start(trainer: Any, *, hours: float) -> None:
    """Let a resumed run count its time and its epochs from its first stretch on.

    ultralytics counts both from the resumption. It then mistakes the epochs left in a budget of
    hours for the total, and ends too early.

    Args:
        trainer: at the start of an epoch.
        hours: of the stretches before.
    """
    if trainer.start_epoch:
        trainer.train_time_start -= hours * 3600
        trainer.start_epoch = 0


def tell_progress(trainer: Any) -> None:
    """Write after an epoch how many are done and when the last one will be."""
    done, of = trainer.epoch + 1, trainer.epochs
    if done > of:  # the best weights are validated once more
        return
    spent_s = time.time() - trainer.train_time_start
    epoch_s = spent_s / (done - trainer.start_epoch)
    ends = time.strftime("%a %H:%M", time.localtime(time.time() + epoch_s * (of - done)))
    sys.stderr.write(f"epoch {done} of {of}, {epoch_s / 60:.1f} min each; done about {ends}\n")


def stop_early(trainer: Any, *, after: int) -> None:
    """End training after an epoch, counted from 1."""
    trainer.stop = trainer.stop or trainer.epoch + 1 >= after
