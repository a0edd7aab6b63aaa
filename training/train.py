"""Fine-tune an ultralytics detector on licence plates; a run folder records what it was made from.

    python -m training.train training/configs/yolo26n-640.yaml --data DATA.yaml --run runs/first

The same line with `--resume` continues after a kill, from the last complete epoch. Any field of
`Config` can be overridden with `--set field=value`. `--hours 5` fits the epochs into five hours,
with the learning rate reaching its end by then.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import platform
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from matplotlib import font_manager
from ultralytics.data import utils as data_utils
from ultralytics.engine import trainer as trainer_module
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.utils import plotting
from ultralytics.utils.callbacks import get_default_callbacks, raytune, tensorboard
from ultralytics.utils.loss import v8DetectionLoss
from ultralytics.utils.torch_utils import ModelEMA, autocast

from plateblur.guidance import FAR_RATIO, plate_ratios
from plateblur.photo import upright_hw
from plateblur.sets.corrections import correct, parse_corrections
from plateblur.sets.labels import label_file, labels_to_xyxy, xyxy_to_labels
from plateblur.sets.split import (
    check_trainable,
    data_hash,
    data_sets_of,
    is_kept_apart,
    sets_of,
    split_photos,
)
from training import augment
from training.checkout import ROOT, git_commit, run_step
from training.runs import (
    count_from_the_start,
    environment,
    hours_trained,
    require_new,
    require_same_config,
    require_unfinished,
    stop_early,
    tell_progress,
)


@dataclass(frozen=True, slots=True)
class Config:
    """One run's hyperparameters, from a YAML file with the same names and from `--set`."""

    model: str = "yolo26n.pt"  # weights or network to start from; `--weights` gives a local file
    epochs: int = 7  # passes over the train split
    batch: int = 16  # images a step; also the nominal batch, so that each step updates the weights
    input_size: int = 640  # side of the square training image, pixels
    learning_rate: float = 0.001  # peak of AdamW's cosine schedule
    final_learning_rate: float = 0.01  # last learning rate as a fraction of the peak
    warmup_epochs: float = 0.3  # linear warm-up, epochs
    freeze: int = 0  # first modules whose weights stay; the 11 of the backbone cost half of a step
    close_mosaic: int = 1  # last epochs without mosaic, so that the end sees whole photos
    degrees: float = 0.0  # random tilt, degrees either way; boxes of tilted plates get loose
    perspective: float = 0.0  # random perspective, ultralytics' unit; loose boxes too
    seed: int = 0  # weights, order and augmentation
    augmentation: str = "first"  # list of training/augment.py: "first", "plates" or "any-way"
    overlay: str = ""  # corrections of labels, JSON lines; a path from the repository's root
    far_times: int = 1  # how often an epoch shows a train photo with a far plate
    marked_times: int = 1  # the same for a photo with a marked false box
    set_times: dict[str, int] = field(default_factory=dict)  # the same by the manifest's set
    kept_apart: tuple[str, ...] = ()  # sets of which a quarter is kept for the gate, never seen
    every: int = 1  # of how many train photos an epoch shows one; sets of `set_times` come whole
    cache: str = "ram"  # where decoded photos are kept: "ram", or "disk" where they don't fit
    validated: str = "each"  # epochs after which val is looked at: "each", or the "last" alone

    def __post_init__(self) -> None:
        """Refuse values that would make training fail hours later."""
        if self.augmentation not in augment.LISTS:
            raise ValueError(
                f"augmentation must be one of {sorted(augment.LISTS)}, got {self.augmentation!r}"
            )
        if self.cache not in ("ram", "disk"):
            raise ValueError(f"cache must be 'ram' or 'disk', got {self.cache!r}")
        if self.validated not in ("each", "last"):
            raise ValueError(f"validated must be 'each' or 'last', got {self.validated!r}")
        numbers = ("far_times", "marked_times", "every")
        times = {name: getattr(self, name) for name in numbers}
        for name, value in (times | self.set_times).items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")


# The weights that are kept are a moving average of those of the last steps. ultralytics' 0.9999 and
# 2000 suit runs of 100 epochs; in one of 3,000 steps they average over the last four.
AVERAGE_SHARE = 0.2  # of a run's steps are averaged over
AVERAGE_STEPS = 500  # or so many, where that is fewer
AVERAGE_RAMP = 0.4  # of those steps pass until the average holds on to two thirds as much


class PlateTrainer(DetectionTrainer):  # type: ignore[misc]  # mypy skips ultralytics
    """ultralytics' trainer, faster on CPUs: every core, and channels-last convolutions.

    ultralytics limits channels-last to CUDA; `benchmarks/training_step.py` measures what it and
    the others bring on a CPU.
    """

    model: Any
    train_loader: Any
    epochs: int
    best: Path
    last: Path

    def get_model(self, *arguments: Any, **keywords: Any) -> Any:
        """Return the network without yolo26's one-to-one head.

        With NMS the one-to-many head finds more plates, so it is the one that is exported. Alone
        it gets the whole loss and chooses the best epoch, and a step is faster.
        """
        return without_one_to_one_head(super().get_model(*arguments, **keywords))

    def set_model_attributes(self) -> None:
        """Attach the dataset's classes, then lay the weights out for this device."""
        super().set_model_attributes()
        # Here, because with several GPUs each process has an ultralytics of its own.
        v8DetectionLoss.get_assigned_targets_and_loss = loss_in_float32
        trainer_module.ModelEMA = self.average
        if self.device.type == "cpu":
            self.model = self.model.to(memory_format=torch.channels_last)
            # ultralytics leaves one core free when it selects the CPU; on two cores that is half.
            self.add_callback("on_train_epoch_start", _use_every_core)

    def average(self, model: Any) -> ModelEMA:
        """Return the moving average of the weights, over as many steps as suit the run."""
        steps = int(AVERAGE_SHARE * self.epochs * len(self.train_loader))
        steps = min(max(steps, 1), AVERAGE_STEPS)
        return ModelEMA(model, decay=1 - 1 / steps, tau=AVERAGE_RAMP * steps)

    def build_dataset(self, img_path: str, mode: str = "train", batch: int | None = None) -> Any:
        """Return ultralytics' dataset, after checking that it has our augmentations."""
        dataset = super().build_dataset(img_path, mode, batch)
        if mode == "train":
            augment.require_augmentations(dataset, self.args.augmentations)
        return dataset

    def _close_dataloader_mosaic(self) -> None:
        """End mosaic; ultralytics builds the augmentations again for that."""
        super()._close_dataloader_mosaic()
        augment.require_augmentations(self.train_loader.dataset, self.args.augmentations)

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Return the batch as float images in [0, 1], (N, 3, H, W), in the weights' layout."""
        batch = super().preprocess_batch(batch)
        if self.device.type == "cpu":
            batch["img"] = batch["img"].contiguous(memory_format=torch.channels_last)
        return batch

    def save_model(self) -> bool:
        """Write the checkpoints whole or not at all, because a kill may come in between."""
        whole = (self.best, self.last)  # in this order: a run resumes from the last one
        parts = [path.with_suffix(".part") for path in whole]
        for part in parts:
            part.unlink(missing_ok=True)
        self.best, self.last = parts
        try:
            was_saved: bool = super().save_model()
        finally:
            self.best, self.last = whole
        for part, path in zip(parts, whole, strict=True):
            if part.exists():
                part.replace(path)
        return was_saved


def without_one_to_one_head(network: Any) -> Any:
    """Return an ultralytics detector without yolo26's one-to-one head."""
    head = network.model[-1]
    if getattr(head, "one2one_cv2", None) is not None:
        del head.one2one_cv2, head.one2one_cv3
    return network


def own_font(_: str = "") -> str:
    """Return the file of a font that comes with matplotlib, for the labels in ultralytics' plots.

    Without it ultralytics downloads Arial from GitHub.
    """
    return font_manager.findfont("DejaVu Sans")


# Not in `train`, because with several GPUs each process has an ultralytics of its own.
data_utils.check_font = plotting.check_font = own_font


def _use_every_core(_: DetectionTrainer) -> None:
    torch.set_num_threads(os.cpu_count() or 1)


def keep_freed_memory() -> None:
    """Let glibc keep freed memory, because the next step needs the same amount again.

    Otherwise each step maps and unmaps hundreds of megabytes, and page faults take a sixth of
    the time (docs/training-log.md). Source of the parameters: mallopt(3).
    """
    if platform.libc_ver()[0] == "glibc":
        m_trim_threshold, m_mmap_max = -1, -4
        libc = ctypes.CDLL(None)
        libc.mallopt(m_mmap_max, 0)
        libc.mallopt(m_trim_threshold, 2**31 - 1)


def with_tensorboard() -> dict[str, list[Callable[[Any], None]]]:
    """Return ultralytics' callbacks and those that write the figures of each epoch for TensorBoard.

    Others (MLflow, Weights & Biases) follow ultralytics' own settings. The drawing of the network
    is left out: it traces the network before each training. So is Ray Tune's callback, which warns
    wherever Ray is installed; `training/tune.py` doesn't need it.
    """
    raytune.callbacks.clear()
    every: dict[str, list[Callable[[Any], None]]] = get_default_callbacks()
    for event, callback in tensorboard.callbacks.items():
        if event != "on_train_start":
            every[event].append(callback)
    return every


def give_back_memory(_: DetectionTrainer) -> None:
    """Return the memory that validation freed to the system; training can't use its pieces.

    Validation batches have other shapes; without this a run at 768 px grows by 2 GB per epoch.
    """
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def mixed_precision(device: str | None = None) -> str | bool:
    """Return ultralytics' `amp` for a device: bf16 where it computes it, else fp16 on GPUs alone.

    Without avx512_bf16 a CPU emulates bf16, and training is nine times slower than in fp32. For
    fp16 ultralytics first asks its hub for weights to try it with; for bf16 it doesn't.

    Args:
        device: "cpu", or GPUs such as "0,1"; without it, what is there.
    """
    if device != "cpu" and torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else True
    return "bf16" if torch.cpu._is_avx512_bf16_supported() else False


def autocast_on_cpus_too(
    enabled: bool | torch.dtype = True, device: str = "cuda"
) -> AbstractContextManager[Any]:
    """Return ultralytics' autocast, or on a CPU the bf16 that ultralytics refuses there."""
    if enabled is torch.bfloat16 and device == "cpu":
        return torch.autocast("cpu", dtype=torch.bfloat16)
    context: AbstractContextManager[Any] = autocast(enabled, device=device)
    return context


ultralytics_loss = v8DetectionLoss.get_assigned_targets_and_loss


def loss_in_float32(
    criterion: v8DetectionLoss, predictions: dict[str, Any], *arguments: Any, **keywords: Any
) -> Any:
    """Return ultralytics' losses of the predictions, computed in 32-bit floats.

    ultralytics computes them inside autocast. With bf16's 8 bits an edge 64 to 128 cells
    from the picture's corner is known to half a cell, 4 px at stride 8, and boxes stay loose.
    """
    exact = {name: predictions[name].float() for name in ("boxes", "scores")}
    # Only height, width and type of the features are read.
    exact["feats"] = [features[:1].float() for features in predictions["feats"]]
    with torch.autocast(exact["boxes"].device.type, enabled=False):
        return ultralytics_loss(criterion, exact, *arguments, **keywords)


def prepare_data(config: Config, *, data: Path, out: Path) -> Path:
    """Return the `data.yaml` to train on: `data` itself, or a corrected, oversampled copy.

    The copy links to the photos and has its own labels, so that the set stays unchanged and you
    can see what was trained on. It excludes test.

    Args:
        config: names the overlay, how often hard photos appear, and the share of photos used.
        data: the data set's `data.yaml`.
        out: folder of the copy, made here; an earlier one is replaced.

    Raises:
        ValueError: a correction that does not fit the labels.
    """
    as_it_is = (
        not (config.overlay or config.set_times or config.kept_apart)
        and config.far_times == config.every == 1
    )
    if as_it_is and config.cache == "ram":  # on disk the cache would be beside the set's photos
        return data
    shutil.rmtree(out, ignore_errors=True)
    overlay = (ROOT / config.overlay).read_text(encoding="utf-8") if config.overlay else ""
    corrections = parse_corrections(overlay)
    described = yaml.safe_load(data.read_text())
    sets = sets_of(data)
    dropped = {one.image for one in corrections if one.action == "drop"} | {
        name for name in sets if is_kept_apart(name, sets, of=config.kept_apart)
    }
    applied = 0
    for split in ("train", "val"):
        images, labels = out / "images" / split, out / "labels" / split
        images.mkdir(parents=True)
        labels.mkdir(parents=True)
        listed: list[str] = []
        photos = split_photos(data, split)
        if split == "train":
            whole = [one for one in photos if sets.get(one.name) in config.set_times]
            photos = [one for one in photos if sets.get(one.name) not in config.set_times][
                :: config.every
            ] + whole
        for photo in (one for one in photos if split != "train" or one.name not in dropped):
            link = images / photo.name
            if not link.exists():  # a list may name a photo several times
                own = [c for c in corrections if c.image == photo.name]
                applied += len(own)
                label = label_file(photo)
                image_hw = upright_hw(photo.read_bytes())
                text = label.read_text() if label.exists() else ""
                try:
                    labelled = labels_to_xyxy(text, image_hw=image_hw)
                except ValueError as error:
                    raise ValueError(f"{label}: {error}") from error
                truth = correct(labelled, own)
                link.symlink_to(photo.resolve())
                kept = xyxy_to_labels(truth, image_hw=image_hw) if own else text
                (labels / f"{photo.stem}.txt").write_text(kept)
                far = plate_ratios(truth, image_hw=image_hw).min(initial=1) < FAR_RATIO
                marked = any(c.action == "mark" for c in own)
                times = max(
                    config.far_times if far else 1,
                    config.marked_times if marked else 1,
                    config.set_times.get(sets.get(photo.name, ""), 1),
                )
            listed += [f"./images/{split}/{photo.name}\n"] * (times if split == "train" else 1)
        (out / f"{split}.txt").write_text("".join(listed))
        sys.stderr.write(f"{split}: {len(listed)} photos an epoch\n")
    sys.stderr.write(f"corrections: {applied} applied, of {len(corrections)}\n")
    prepared = out / "data.yaml"
    prepared.write_text(
        yaml.safe_dump({"train": "train.txt", "val": "val.txt", "names": described["names"]})
    )
    return prepared


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


def train(
    config: Config,
    *,
    data: Path,
    run: Path,
    weights: str,
    resume: bool,
    hours: float | None = None,
    stop_after: int | None = None,
    device: str | None = None,
) -> Path:
    """Train into the folder `run` and return the best weights, chosen on the val split.

    Args:
        config: hyperparameters.
        data: the data set's `data.yaml`.
        run: run folder; made, or with `resume` continued from its last epoch.
        weights: ultralytics weights (`.pt`) or network (`.yaml`) to start from. Where the config's
            model is a network, those weights that fit are used.
        resume: continue `run/weights/last.pt`; at most the interrupted epoch is lost.
        hours: budget over all stretches, in place of the config's epochs.
        stop_after: end after this epoch, the learning rate falling as for all of them.
        device: "cpu", or GPUs such as "0,1", trained on at once; without it, what is there.
    """
    run = run.resolve()
    last = run / "weights" / "last.pt"
    if resume:
        require_unfinished(run)
    else:
        require_new(run)
    keep_freed_memory()
    trainer_module.autocast = autocast_on_cpus_too
    takes_over = config.model.endswith(".yaml") and weights.endswith(".pt")
    network = config.model if takes_over else weights
    record_file = run / "run.json"
    earlier = json.loads(record_file.read_text()) if resume and record_file.exists() else {}
    if earlier:
        require_same_config(earlier["config"], asdict(config))
    hours = hours or earlier.get("hours_budget")
    spent = hours_trained(run / "results.csv") if resume else 0.0
    if hours is not None and spent >= hours:
        raise ValueError(f"the run has had its {hours:g} hours; give it more with --hours")
    sys.stderr.writelines(f"{note}\n" for note in check_trainable(data))
    manifest = data.parent / "manifest.csv"
    # Beside the run, because ultralytics empties its folder before it trains on several GPUs.
    data = prepare_data(config, data=data, out=run.with_name(f"{run.name}.data"))
    trainer = PlateTrainer(
        overrides={
            "model": str(last) if resume else network,
            **({"pretrained": weights} if takes_over else {}),
            "resume": str(last) if resume else False,
            "data": str(data.resolve()),
            "project": str(run.parent),
            "name": run.name,
            "exist_ok": True,
            # With one epoch ultralytics stops after it, whatever the budget of hours.
            "epochs": config.epochs if hours is None else max(config.epochs, 2),
            "batch": config.batch,
            "nbs": config.batch,
            "imgsz": config.input_size,
            "optimizer": "AdamW",
            "lr0": config.learning_rate,
            "lrf": config.final_learning_rate,
            "cos_lr": True,
            "warmup_epochs": config.warmup_epochs,
            "warmup_bias_lr": 0.0,
            "freeze": config.freeze or None,
            "close_mosaic": config.close_mosaic,
            "degrees": config.degrees,
            "perspective": config.perspective,
            "augmentations": augment.LISTS[config.augmentation](),
            "amp": mixed_precision(device),
            "cache": config.cache,
            "val": config.validated == "each",
            "seed": config.seed,
            "save_period": 1,  # weights/epoch0.pt and so on: the last epoch need not be the best
            "plots": True,
            **({} if hours is None else {"time": hours}),
            **({} if device is None else {"device": device}),
        },
        _callbacks=with_tensorboard(),
    )
    trainer.add_callback("on_train_epoch_start", partial(count_from_the_start, hours=spent))
    trainer.add_callback("on_fit_epoch_end", tell_progress)
    trainer.add_callback("on_fit_epoch_end", give_back_memory)
    if stop_after is not None:
        trainer.add_callback("on_fit_epoch_end", partial(stop_early, after=stop_after))
    record: dict[str, Any] = {
        "config": asdict(config),
        "weights": Path(weights).name,
        "commit": git_commit(),
        "data_hash": data_hash(data),
        "environment": {**environment(), "device": device, "amp": mixed_precision(device)},
    }
    if manifest.exists():  # so that the card of a later run can name them too
        names = {photo.name for split in ("train", "val") for photo in split_photos(data, split)}
        record["data_sets"] = data_sets_of(manifest, photos=names)
    if hours is not None:
        record["hours_budget"] = hours
    before = Path(weights).resolve().parent.parent / "run.json"
    if before.exists():
        record["weights_run"] = json.loads(before.read_text())
    if earlier:
        record |= {name: earlier[name] for name in ("weights", "weights_run") if name in earlier}
        stretch = {name: earlier[name] for name in ("config", "commit")}
        record["earlier_stretches"] = [*earlier.get("earlier_stretches", []), stretch]
    written = json.dumps(record, indent=2) + "\n"
    # Not before, because training on several GPUs starts with an emptied run folder.
    trainer.add_callback("on_train_start", lambda _: record_file.write_text(written))
    trainer.train()
    record["hours"] = hours_trained(run / "results.csv")
    record_file.write_text(json.dumps(record, indent=2) + "\n")
    return run / "weights" / "best.pt"


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("config", type=Path, help="a file of training/configs")
    parser.add_argument("--data", type=Path, required=True, help="data.yaml of a YOLO data set")
    parser.add_argument("--run", type=Path, required=True, help="run folder, made here")
    parser.add_argument("--weights", help="start from this file instead of the config's model")
    parser.add_argument("--resume", action="store_true", help="go on from the last epoch")
    parser.add_argument("--hours", type=float, help="budget, instead of the config's epochs")
    parser.add_argument("--device", help="cpu, or GPUs such as 0,1; without it, what is there")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE")
    arguments = parser.parse_args(argv)
    config = read_config(arguments.config, arguments.set)
    best = train(
        config,
        data=arguments.data,
        run=arguments.run,
        weights=arguments.weights or config.model,
        resume=arguments.resume,
        hours=arguments.hours,
        device=arguments.device,
    )
    sys.stdout.write(f"{best}\n")


if __name__ == "__main__":
    run_step(main)
