"""Turn an exported model, such as the shipped one, into weights that training can continue from.

    python -m training.restore --data DATA.yaml --out runs/shipped
    python -m training.train training/configs/yolo26n-896.yaml --data DATA.yaml \
        --run runs/mine --weights runs/shipped/weights/restored.pt

Only the ONNX file of a promoted model is kept, and an export folds each batch norm into the
convolution before it. This gives every convolution its batch norm back: its mean and variance are
those of the convolution's output on train photos, and its scale and shift undo both. So the network
computes what the model computes, and can learn with batch statistics.

You need it to fine-tune on your own set, or to continue if the run folder was deleted.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from ultralytics import __version__ as ultralytics_version
from ultralytics.nn.modules import Conv
from ultralytics.nn.tasks import DetectionModel

from plateblur.detector import shipped_model
from training import export
from training.checkout import run_step
from training.graph import whole_weights
from training.int8 import calibration_photos, inputs_of
from training.train import without_one_to_one_head

MEASURED_PHOTOS = 200  # of train, whose activations give the statistics; more hardly move them


@dataclass(frozen=True, slots=True)
class Config:
    """One restoration."""

    model: Path  # ONNX file of training/export.py
    network: str  # ultralytics' name of the network that it was exported from
    data: Path  # data.yaml of the set whose train photos are looked at
    out: Path  # a run folder: weights/restored.pt, and run.json where the model has a card
    photos: int = MEASURED_PHOTOS  # number of photos, evenly spread over their names


def restore(config: Config) -> Path:
    """Write the weights, in 32-bit floats, and return their path.

    Raises:
        ValueError: the model is no export of that network, or the split train has no photos.
        FileExistsError: `out` holds the weights of a run.
        RuntimeError: the weights would not compute the same as the model; nothing was written.
    """
    made = config.out / "weights" / "restored.pt"
    if any(path != made for path in made.parent.glob("*.pt")):
        raise FileExistsError(f"{config.out} holds the weights of a run; give another folder")
    model = onnx.load(config.model)
    arrays = whole_weights(model)
    network = empty_network(config.network, arrays)
    fill(network, arrays)
    photos = calibration_photos(config.data, most=config.photos)
    separate_batch_norms(network, inputs_of(model, photos))
    export.check_parity(model, network)
    made.parent.mkdir(parents=True, exist_ok=True)
    torch.save(
        {"model": network, "train_args": {"task": "detect"}, "version": ultralytics_version},
        made,
    )
    card = config.model.with_suffix(".json")
    if card.exists():  # so that the next run's record says what came before it
        written = json.loads(card.read_text())
        origin = {"card": {part: written[part] for part in ("name", "sha256", "data_sets")}}
        (config.out / "run.json").write_text(
            json.dumps(written["training"] | origin, indent=2) + "\n"
        )
    return made


def empty_network(name: str, arrays: Mapping[str, NDArray[np.float32]]) -> DetectionModel:
    """Return the network for one class, without the heads that are not exported.

    Args:
        name: ultralytics' name of it, "yolo26n.yaml".
        arrays: weights by the names that the export gives them.
    """
    network = without_one_to_one_head(DetectionModel(name, nc=1, verbose=False))
    last = f"model.{len(network.model) - 1}.cv3.0.2.weight"
    own = network.state_dict()[last]
    if last in arrays and arrays[last].shape[1] != own.shape[1]:
        # Its width depends on the number of classes; a fine-tune keeps the width it started with.
        network.load(DetectionModel(name, verbose=False), verbose=False)
    network.names = {0: "plate"}
    return network


def fill(network: DetectionModel, arrays: Mapping[str, NDArray[np.float32]]) -> None:
    """Give the network a model's weights; its batch norms only add the biases.

    Args:
        network: of `empty_network`.
        arrays: weights and biases by the names that the export gives them.

    Raises:
        ValueError: a weight that the model does not have, or of another shape.
    """

    def take(name: str, into: torch.Tensor) -> None:
        found = arrays.get(name)
        if found is None or found.shape != tuple(into.shape):
            raise ValueError(
                f"expected {name} of shape {tuple(into.shape)} in the model, got "
                f"{'none' if found is None else found.shape}; is it of another network?"
            )
        into.copy_(torch.from_numpy(found.copy()))

    with torch.no_grad():
        for name, module in network.named_modules():
            if isinstance(module, Conv):
                norm = module.bn
                norm.running_mean.zero_()
                norm.running_var.fill_(1 - norm.eps)
                norm.weight.fill_(1)
                take(f"{name}.conv.weight", module.conv.weight)
                take(f"{name}.conv.bias", norm.bias)
            elif isinstance(module, torch.nn.Conv2d) and module.bias is not None:
                take(f"{name}.weight", module.weight)
                take(f"{name}.bias", module.bias)


@torch.no_grad()
def separate_batch_norms(network: DetectionModel, inputs: Iterable[NDArray[np.float32]]) -> None:
    """Give each batch norm the statistics of its inputs, without changing its output.

    Args:
        network: of `fill`.
        inputs: (1, 3, H, W) float32 images in [0, 1], looked at one by one.
    """
    convolutions = {n: m for n, m in network.named_modules() if isinstance(m, Conv)}
    sums: dict[str, torch.Tensor] = {}  # number, sum and sum of squares of each channel's pixels

    def add(name: str, _: Any, __: Any, output: torch.Tensor) -> None:
        pixels = output.double().permute(1, 0, 2, 3).flatten(1)
        ones = torch.full((len(pixels),), float(pixels.shape[1]), dtype=torch.float64)
        seen = torch.stack([ones, pixels.sum(1), pixels.square().sum(1)])
        sums[name] = sums.get(name, torch.zeros_like(seen)) + seen

    hooks = [
        module.conv.register_forward_hook(partial(add, name))
        for name, module in convolutions.items()
    ]
    network.eval()
    for one in inputs:
        network(torch.from_numpy(one))
    for hook in hooks:
        hook.remove()
    for name, module in convolutions.items():
        number, total, squares = sums[name]
        mean = total / number
        variance = (squares / number - mean.square()).clamp(min=0)
        norm = module.bn
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
        norm.bias.add_(mean.float())
        norm.weight.copy_((norm.running_var + norm.eps).sqrt())


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line and restore."""
    parser = argparse.ArgumentParser(description="Make an exported model trainable again.")
    parser.add_argument("--model", type=Path, default=shipped_model(), help="ONNX")
    parser.add_argument("--network", default="yolo26n.yaml", help="that it was exported from")
    parser.add_argument("--data", type=Path, required=True, help="data.yaml of a YOLO data set")
    parser.add_argument("--out", type=Path, required=True, help="run folder, made here")
    parser.add_argument("--photos", type=int, default=MEASURED_PHOTOS, help="so many of train")
    weights = restore(Config(**vars(parser.parse_args(argv))))
    sys.stdout.write(f"{weights}\n")


if __name__ == "__main__":
    run_step(main)
