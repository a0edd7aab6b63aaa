"""Start a larger detector from a smaller one: twice the channels, and the same boxes.

    python -m training.restore --data DATA.yaml --out runs/shipped
    python -m training.widen runs/shipped/weights/restored.pt --out runs/wide
    python -m training.train training/configs/yolo26s-896.yaml --data DATA.yaml \
        --run runs/mine --weights runs/wide/weights/widened.pt

Each channel of the small network gets several copies in the large one, and whatever reads it shares
its weights out among the copies. With equal shares all copies would learn the same, so each share
is random and only their sum is kept: the function stays the same whatever the noise.
Source: T. Chen, I. Goodfellow, J. Shlens, "Net2Net", 2016, arXiv:1511.05641, section 2.1.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from ultralytics import __version__ as ultralytics_version
from ultralytics.nn.modules.block import Attention
from ultralytics.nn.tasks import DetectionModel

from training import export
from training.checkout import run_step
from training.train import without_one_to_one_head

# Copies whose shares are alike learn alike. With 1 the gradients of most copies hardly agree, and a
# random step of all weights moves boxes and confidences as much as in the smaller network; with
# more it moves them further.
NOISE = 1.0


@dataclass(frozen=True, slots=True)
class Config:
    """One widening."""

    weights: Path  # a checkpoint of training/restore.py or training/train.py
    out: Path  # a run folder: weights/widened.pt, and run.json where the smaller run has one
    network: str  # ultralytics' name of one that differs only in its widths
    noise: float = NOISE  # standard deviation of the shares, in that of a layer's weights
    seed: int = 0  # of the noise


def widen(config: Config) -> Path:
    """Write the larger network's weights and return their path.

    Convolutions are written in 16-bit floats, as ultralytics writes those of a run, and batch norms
    in 32, because a restored model's variances can be too small for 16.

    Raises:
        ValueError: the networks differ in more than their widths.
        RuntimeError: they would not find the same; nothing was written.
    """
    made = config.out / "weights" / "widened.pt"
    if any(path != made for path in made.parent.glob("*.pt")):
        raise FileExistsError(f"{config.out} holds the weights of a run; give another folder")
    saved = torch.load(config.weights, map_location="cpu", weights_only=False)
    # A finished run keeps its moving average as the model, an unfinished one beside the model.
    narrow = without_one_to_one_head((saved.get("ema") or saved["model"]).float())
    wide = DetectionModel(config.network, nc=narrow.model[-1].nc, verbose=False)
    wide = without_one_to_one_head(wide)
    wide.names = narrow.names
    fill(wide, narrow, noise=config.noise, seed=config.seed)
    boxes_px, confidence = difference(narrow, wide)
    if boxes_px > export.MOST_DIFFERENCE_PX or confidence > export.MOST_DIFFERENCE_CONFIDENCE:
        raise RuntimeError(f"boxes differ by up to {boxes_px} px, confidences by {confidence}")
    for module in wide.modules():
        if isinstance(module, nn.Conv2d):
            module.half()
    made.parent.mkdir(parents=True, exist_ok=True)
    torch.save(
        {"model": wide, "train_args": {"task": "detect"}, "version": ultralytics_version}, made
    )
    record_file = config.weights.resolve().parent.parent / "run.json"
    if record_file.exists():  # so that the next run's record says what came before it
        widened = {"to": config.network, "noise": config.noise, "seed": config.seed}
        record = json.loads(record_file.read_text()) | {"widened": widened}
        (config.out / "run.json").write_text(json.dumps(record, indent=2) + "\n")
    return made


@torch.no_grad()
def fill(wide: DetectionModel, narrow: DetectionModel, *, noise: float, seed: int) -> None:
    """Give the wide network weights with which it computes what the narrow one does.

    Args:
        wide: whose weights are replaced.
        narrow: in 32-bit floats, of the same layers.
        noise: standard deviation of the shares, in those of a layer's weights.
        seed: of the noise.

    Raises:
        ValueError: the networks differ in more than their widths.
    """
    if wide.state_dict().keys() != narrow.state_dict().keys():
        raise ValueError("expected networks that differ only in their widths, got different layers")
    sources = dict(narrow.named_modules())
    random = torch.Generator().manual_seed(seed)
    by_head = heads_copied(wide, narrow)
    for name, module in wide.named_modules():
        source = sources[name]
        if isinstance(module, nn.Conv2d):
            outputs = by_head.get(f"{name} out", copied(module.out_channels, source.out_channels))
            inputs = by_head.get(f"{name} in", copied(module.in_channels, source.in_channels))
            weight = source.weight[outputs]
            if source.groups == 1:  # a depthwise one reads a single channel, the one it copies
                weight = shared_out(weight, inputs, noise=noise, random=random)
            module.weight.copy_(weight)
            if module.bias is not None:
                module.bias.copy_(source.bias[outputs])
        elif isinstance(module, nn.BatchNorm2d):
            convolution = f"{name.removesuffix('.bn')}.conv out"
            outputs = by_head.get(convolution, copied(module.num_features, source.num_features))
            for part in ("weight", "bias", "running_mean", "running_var"):
                getattr(module, part).copy_(getattr(source, part)[outputs])


def copied(wide: int, narrow: int) -> torch.Tensor:
    """Return which of the narrow layer's channels each of the wide one's copies, (wide,) int64.

    Copies lie side by side: 0 0 1 1 2 2. So halves of a layer's channels are copies of its halves,
    and layers joined one after the other are copies of the layers joined: what splits or
    concatenates channels needs no care where all widths are doubled.
    """
    return torch.arange(wide) * narrow // wide


def heads_copied(wide: DetectionModel, narrow: DetectionModel) -> dict[str, torch.Tensor]:
    """Return the maps of `copied` inside attention, where whole heads are copied.

    Returns:
        (channels,) int64 by the convolution's name and its side: "model.10.m.0.attn.qkv.conv out".

    Raises:
        ValueError: the heads themselves are wider.
    """
    maps: dict[str, torch.Tensor] = {}
    sources = dict(narrow.named_modules())
    for name, module in wide.named_modules():
        if isinstance(module, Attention):
            source = sources[name]
            if (module.key_dim, module.head_dim) != (source.key_dim, source.head_dim):
                raise ValueError(f"expected heads of {source.head_dim} channels in {name}")
            heads = copied(module.num_heads, source.num_heads)[:, None]
            # Per head: key_dim channels of the query, as many of the key, then those of the value.
            three, value = 2 * source.key_dim + source.head_dim, source.head_dim
            maps[f"{name}.qkv.conv out"] = (heads * three + torch.arange(three)).flatten()
            by_value = (heads * value + torch.arange(value)).flatten()
            maps[f"{name}.pe.conv out"] = maps[f"{name}.proj.conv in"] = by_value
    return maps


def shared_out(
    weight: torch.Tensor, inputs: torch.Tensor, *, noise: float, random: torch.Generator
) -> torch.Tensor:
    """Return weights for the copies of each input channel, which sum to those of the channel.

    Args:
        weight: (out, in, height, width) of a convolution.
        inputs: (wide in,) int64, the channel that each wide channel copies.
        noise: standard deviation of the shares, in that of the weights.
        random: draws them.

    Returns:
        (out, wide in, height, width). A channel that has no second copy keeps its weights.
    """
    copies = inputs.bincount(minlength=weight.shape[1])[:, None, None]
    even = (weight / copies)[:, inputs]
    drawn = noise * even.std() * torch.randn(even.shape, generator=random)
    mean = torch.zeros_like(weight).index_add_(1, inputs, drawn) / copies
    return even + drawn - mean[:, inputs]


@torch.no_grad()
def difference(one: DetectionModel, other: DetectionModel) -> tuple[float, float]:
    """Return how much two detectors differ at most on drawn inputs, in pixels and confidence."""
    boxes_px = confidence = 0.0
    for seed, image_hw in enumerate(export.PARITY_HW):
        image = torch.from_numpy(export.drawn_input(seed, image_hw))
        apart = (one.eval()(image)[0] - other.eval()(image)[0]).abs()
        boxes_px = max(boxes_px, apart[:, :4].max().item())
        confidence = max(confidence, apart[:, 4:].max().item())
    return boxes_px, confidence


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line and widen."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("weights", type=Path, help="of the smaller network")
    parser.add_argument("--out", type=Path, required=True, help="run folder, made here")
    parser.add_argument("--network", default="yolo26s.yaml", help="ultralytics' name of the larger")
    parser.add_argument("--noise", type=float, default=NOISE, help="how uneven the shares are")
    parser.add_argument("--seed", type=int, default=0, help="of the noise")
    sys.stdout.write(f"{widen(Config(**vars(parser.parse_args(argv))))}\n")


if __name__ == "__main__":
    run_step(main)
