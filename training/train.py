"""Fine-tune an ultralytics detector on licence plates; a run folder holds all that it was made of.

    python training/train.py training/configs/yolo26n-640.yaml --data DATA.yaml --run runs/first

The same line with `--resume` goes on after a kill, from the last whole epoch. Any field of `Config`
can be overridden with `--set field=value`.
"""

from __future__ import annotations

import argparse
import csv
import ctypes
import hashlib
import json
import os
import platform
import subprocess
import sys
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, fields
from importlib import metadata
from pathlib import Path
from typing import Any

import albumentations as A  # noqa: N812 - the name its own documentation uses
import torch
import yaml
from ultralytics.engine import trainer as trainer_module
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.utils.torch_utils import autocast


@dataclass(frozen=True, slots=True)
class Config:
    """One run's hyperparameters; a YAML file of the same names, and `--set`, fill it."""

    model: str = "yolo26n.pt"  # weights or network to start from; `--weights` gives a local file
    epochs: int = 7  # passes over the train split
    batch: int = 16  # images a step; also the nominal batch, so that each step updates the weights
    input_size: int = 640  # side of the square training image, pixels
    learning_rate: float = 0.001  # peak of AdamW's cosine schedule
    final_learning_rate: float = 0.01  # last learning rate as a fraction of the peak
    warmup_epochs: float = 0.3  # linear warm-up, epochs
    close_mosaic: int = 1  # last epochs without mosaic, so that the end sees whole photos
    degrees: float = 3.0  # random tilt, degrees either way
    perspective: float = 0.0002  # random perspective, ultralytics' unit
    seed: int = 0  # weights, order and augmentation


def plate_augmentations() -> list[A.BasicTransform]:
    """Return pixel transforms for what cameras do to plates; geometry is left to mosaic and affine.

    Grey comes first because all the plate-free scenery that we have is grey: without grey plates
    the detector would learn that grey photos hold none.
    """
    return [
        A.ToGray(p=0.12),
        A.OneOf(
            [A.MotionBlur(blur_limit=(3, 9)), A.GaussianBlur(blur_limit=(3, 7))],
            p=0.12,
        ),
        A.Downscale(scale_range=(0.4, 0.8), p=0.06),
        A.RandomBrightnessContrast(brightness_limit=0.25, contrast_limit=0.25, p=0.15),
        A.RandomGamma(gamma_limit=(50, 160), p=0.1),
        A.ISONoise(p=0.06),
        A.ImageCompression(quality_range=(35, 95), p=0.15),
    ]


# Share of the loss of yolo26's one-to-many head, which is the one that is exported: with NMS it
# finds more plates than the one-to-one head. ultralytics lets the share decay to 0.1.
ONE_TO_MANY_SHARE = 0.8


class PlateTrainer(DetectionTrainer):  # type: ignore[misc]  # mypy skips ultralytics
    """ultralytics' trainer, made quick on CPUs: every core, and channels-last convolutions.

    ultralytics limits channels-last to CUDA; on a 2-core Zen 3 it takes yolo26n at 512 px from
    0.22 to 0.16 s an image with gradients equal within float noise (docs/training-log.md).
    """

    model: Any

    def set_model_attributes(self) -> None:
        """Attach the dataset's classes, then lay the weights out for this device."""
        super().set_model_attributes()
        self.model.criterion = self.model.init_criterion()
        if hasattr(self.model.criterion, "final_o2m"):
            self.model.criterion.final_o2m = ONE_TO_MANY_SHARE
        if self.device.type == "cpu":
            self.model = self.model.to(memory_format=torch.channels_last)
            # ultralytics leaves one core free when it selects the CPU; on two cores that is half.
            self.add_callback("on_train_epoch_start", _use_every_core)

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Return the batch as float images in [0, 1], (N, 3, H, W), in the weights' layout."""
        batch = super().preprocess_batch(batch)
        if self.device.type == "cpu":
            batch["img"] = batch["img"].contiguous(memory_format=torch.channels_last)
        return batch


def _use_every_core(_: DetectionTrainer) -> None:
    torch.set_num_threads(os.cpu_count() or 1)


def keep_freed_memory() -> None:
    """Let glibc keep what tensors free, because the next step asks for the same again.

    Otherwise each step maps and unmaps hundreds of megabytes, and a sixth of the time goes into
    page faults (docs/training-log.md). Source of the parameters: mallopt(3).
    """
    if platform.libc_ver()[0] == "glibc":
        m_trim_threshold, m_mmap_max = -1, -4
        libc = ctypes.CDLL(None)
        libc.mallopt(m_mmap_max, 0)
        libc.mallopt(m_trim_threshold, 2**31 - 1)


def mixed_precision() -> str | bool:
    """Return ultralytics' `amp` for this machine: bf16 where the CPU computes it, fp16 on CUDA.

    Without avx512_bf16 a CPU emulates bf16, and training is nine times slower than in fp32.
    """
    if torch.cuda.is_available():
        return True
    return "bf16" if torch.cpu._is_avx512_bf16_supported() else False


def autocast_on_cpus_too(
    enabled: bool | torch.dtype = True, device: str = "cuda"
) -> AbstractContextManager[Any]:
    """Return ultralytics' autocast, or on a CPU the bf16 that ultralytics refuses there."""
    if enabled is torch.bfloat16 and device == "cpu":
        return torch.autocast("cpu", dtype=torch.bfloat16)
    context: AbstractContextManager[Any] = autocast(enabled, device=device)
    return context


def data_hash(data_yaml: Path) -> str:
    """Return the sha256 over the names and bytes of a data set's labels, train and val."""
    root = data_yaml.parent
    digest = hashlib.sha256()
    for label in sorted((root / "labels").glob("*/*.txt")):
        if label.parent.name in ("train", "val"):
            digest.update(f"{label.parent.name}/{label.name}\n".encode())
            digest.update(label.read_bytes())
    return digest.hexdigest()


def git_commit() -> str:
    """Return the commit of this checkout, with "+changes" where the tree differs from it."""
    here = Path(__file__).parent

    def run(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True)
        return done.stdout.strip()

    commit = run("rev-parse", "HEAD") or "none"
    return f"{commit}+changes" if run("status", "--porcelain") else commit


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
    """Return the hours of the epochs in a run's `results.csv`, over all its stretches.

    Its `time` counts the seconds since the last start, so it falls where a run was resumed.
    """
    with results.open(newline="") as file:
        seconds = [float(row["time"]) for row in csv.DictReader(file)]
    ends = [now for now, then in zip(seconds, [*seconds[1:], 0.0], strict=True) if then < now]
    return round(sum(ends) / 3600, 2)


def read_config(path: Path, overrides: list[str]) -> Config:
    """Return the config of a YAML file with `field=value` overrides applied.

    Raises:
        ValueError: a field that `Config` does not have.
    """
    values = yaml.safe_load(path.read_text()) or {}
    for override in overrides:
        name, _, value = override.partition("=")
        values[name] = yaml.safe_load(value)
    unknown = set(values) - {field.name for field in fields(Config)}
    if unknown:
        known = ", ".join(field.name for field in fields(Config))
        raise ValueError(f"unknown config fields {sorted(unknown)}; there are: {known}")
    return Config(**values)


def train(config: Config, *, data: Path, run: Path, weights: str, resume: bool) -> Path:
    """Train into the folder `run` and return the best weights, chosen on the val split.

    Args:
        config: hyperparameters.
        data: the data set's `data.yaml`.
        run: run folder; made, or with `resume` continued from its last epoch.
        weights: ultralytics weights (`.pt`) or network (`.yaml`) to start from.
        resume: continue `run/weights/last.pt`; at most the epoch that was cut off is lost.
    """
    keep_freed_memory()
    trainer_module.autocast = autocast_on_cpus_too
    run = run.resolve()
    last = run / "weights" / "last.pt"
    if resume and not last.exists():
        raise FileNotFoundError(f"--resume: expected a checkpoint at {last}, found none")
    trainer = PlateTrainer(
        overrides={
            "model": str(last) if resume else weights,
            "resume": str(last) if resume else False,
            "data": str(data.resolve()),
            "project": str(run.parent),
            "name": run.name,
            "exist_ok": True,
            "epochs": config.epochs,
            "batch": config.batch,
            "nbs": config.batch,
            "imgsz": config.input_size,
            "optimizer": "AdamW",
            "lr0": config.learning_rate,
            "lrf": config.final_learning_rate,
            "cos_lr": True,
            "warmup_epochs": config.warmup_epochs,
            "warmup_bias_lr": 0.0,
            "close_mosaic": config.close_mosaic,
            "degrees": config.degrees,
            "perspective": config.perspective,
            "augmentations": plate_augmentations(),
            "amp": mixed_precision(),
            "cache": "ram",
            "seed": config.seed,
            "plots": True,
        }
    )
    record: dict[str, Any] = {
        "config": asdict(config),
        "weights": Path(weights).name,
        "commit": git_commit(),
        "data_hash": data_hash(data),
        "environment": environment(),
    }
    record_file = run / "run.json"
    before = Path(weights).resolve().parent.parent / "run.json"
    if before.exists():
        record["weights_run"] = json.loads(before.read_text())
    if resume and record_file.exists():
        earlier = json.loads(record_file.read_text())
        stretch = {name: earlier[name] for name in ("config", "commit")}
        record["earlier_stretches"] = [*earlier.get("earlier_stretches", []), stretch]
    record_file.write_text(json.dumps(record, indent=2) + "\n")
    trainer.train()
    record["hours"] = hours_trained(run / "results.csv")
    record_file.write_text(json.dumps(record, indent=2) + "\n")
    return run / "weights" / "best.pt"


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("config", type=Path, help="a file of training/configs")
    parser.add_argument("--data", type=Path, required=True, help="data.yaml of a YOLO data set")
    parser.add_argument("--run", type=Path, required=True, help="run folder, made here")
    parser.add_argument("--weights", help="start from this file instead of the config's model")
    parser.add_argument("--resume", action="store_true", help="go on from the last epoch")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE")
    arguments = parser.parse_args()
    config = read_config(arguments.config, arguments.set)
    best = train(
        config,
        data=arguments.data,
        run=arguments.run,
        weights=arguments.weights or config.model,
        resume=arguments.resume,
    )
    sys.stdout.write(f"{best}\n")


if __name__ == "__main__":
    main()
