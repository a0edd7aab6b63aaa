"""Export trained weights to the ONNX model that the service runs, and check that both agree.

    python -m training.export runs/first/weights/best.pt --out runs/first/plates.onnx

The file's metadata says what `plateblur/detector.py` needs to know, and where the model comes from.
The export fails unless torch, ONNX Runtime and, if it is installed, OpenVINO find the same plates
on fixed drawn images.

    python -m training.export runs/first/weights/best.pt --out runs/first/plates.onnx \
        --int8 runs/first/plates-int8.onnx --data DATA.yaml

also writes the model in 8-bit integers, with ranges measured on photos of the train split. To see
what that costs, run `training/evaluate.py --model plates-int8.onnx --compare plates.onnx`.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import importlib.util
import json
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process
from ultralytics import YOLO

from plateblur.letterbox import letterbox
from plateblur.photo import decode
from plateblur.sets.split import split_photos
from training.checkout import run_step

OPSET = 18  # the newest that ultralytics states for its torch range; ONNX Runtime 1.31 runs it
# Two 32-bit runtimes sum in different orders; a plate moved by a hundredth of a pixel is the same.
MOST_DIFFERENCE_PX = 0.05
MOST_DIFFERENCE_CONFIDENCE = 0.001
PARITY_HW = ((384, 640), (640, 640), (640, 480))  # letterboxed inputs of different shapes

CALIBRATION_PHOTOS = 200  # of train; more of them hardly widen the ranges
# One tensor holds boxes and confidences: with one scale for 0 to 640 pixels and 0 to 1, a
# confidence would have three steps. With only the head's last convolutions in floats covered99
# within 1:15 still fell by 0.02 (docs/training-log.md), so the whole head stays in floats.


@dataclass(frozen=True, slots=True)
class Config:
    """One export."""

    weights: Path  # an ultralytics checkpoint of training/train.py
    out: Path  # the ONNX file, written only if the parity check passes
    input_size: int  # longer side at which the detector runs, pixels
    int8: Path | None = None  # the quantised model, written beside the other
    data: Path | None = None  # data.yaml of the set whose train photos give the ranges
    photos: int = CALIBRATION_PHOTOS  # so many of them, evenly spread over the names


def export(config: Config) -> dict[str, Any]:
    """Export, check, write `config.out`, and return the parity figures.

    Raises:
        RuntimeError: torch and ONNX Runtime disagree; nothing was written.
    """
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(shutil.copy(config.weights, folder))
        exported = YOLO(weights).export(
            format="onnx",
            imgsz=config.input_size,
            opset=OPSET,
            dynamic=True,
            simplify=True,
            nms=None,  # of yolo26's two heads the one-to-many, which our NMS follows
        )
        model = onnx.load(exported)
    describe(model, config)
    parity = check_parity(model, YOLO(config.weights).model.float())
    config.out.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, config.out)
    config.out.with_suffix(".parity.json").write_text(json.dumps(parity, indent=2) + "\n")
    if config.int8:
        if config.data is None:
            raise ValueError("int8 needs a data set, whose train photos give the ranges")
        photos = calibration_photos(config.data, most=config.photos)
        quantise(config.out, config.int8, photos)
    return parity


def trained_size(weights: Path) -> int:
    """Return the input size that a run's weights were trained at, pixels.

    Raises:
        ValueError: there is no run.json beside the weights.
    """
    run = weights.parent.parent / "run.json"
    if not run.exists():
        raise ValueError(f"expected --input-size, or a run.json beside {weights.parent.name}/")
    size: int = json.loads(run.read_text())["config"]["input_size"]
    return size


def describe(model: onnx.ModelProto, config: Config) -> None:
    """Replace ultralytics' metadata, which contains paths of this machine, by what is needed."""
    theirs = {entry.key: entry.value for entry in model.metadata_props}
    run = config.weights.parent.parent / "run.json"
    record = json.loads(run.read_text()) if run.exists() else {}
    ours = {
        "names": theirs["names"],
        "stride": theirs["stride"],
        "imgsz": str([config.input_size, config.input_size]),
        "end2end": "False",
        "description": "PlateBlur licence plate detector",
        "license": "AGPL-3.0",
        "ultralytics": theirs["version"],
        "weights_sha256": hashlib.sha256(config.weights.read_bytes()).hexdigest(),
        "commit": str(record.get("commit", "unknown")),
        "data_hash": str(record.get("data_hash", "unknown")),
    }
    del model.metadata_props[:]
    for key, value in ours.items():
        model.metadata_props.add(key=key, value=value)


def check_parity(model: onnx.ModelProto, network: Any) -> dict[str, Any]:
    """Return how much torch and ONNX Runtime differ on drawn inputs, in px and confidence.

    Args:
        model: an export.
        network: ultralytics' detector that it must agree with, in 32-bit floats.

    Raises:
        RuntimeError: they differ by more than float noise explains.
    """
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    openvino = _openvino(model)
    network.eval()
    if hasattr(network, "end2end"):
        network.end2end = False
    rows: list[dict[str, Any]] = []
    for seed, image_hw in enumerate(PARITY_HW):
        batch = drawn_input(seed, image_hw)
        with torch.no_grad():
            expected = network(torch.from_numpy(batch))[0].numpy()
        got = {"onnxruntime": session.run(None, {"images": batch})[0]}
        if openvino is not None:
            got["openvino"] = np.array(openvino([batch])[0])
        rows += [
            {
                "engine": engine,
                "input_hw": image_hw,
                **_difference(expected, one),
            }
            for engine, one in got.items()
        ]
    worst = {key: max(row[key] for row in rows) for key in ("boxes_px", "confidence")}
    if worst["boxes_px"] > MOST_DIFFERENCE_PX or worst["confidence"] > MOST_DIFFERENCE_CONFIDENCE:
        raise RuntimeError(f"torch and what runs the export disagree: {rows}")
    return {
        "opset": OPSET,
        "against": f"torch {torch.__version__}",
        "onnxruntime": onnxruntime.__version__,
        "openvino": None if openvino is None else importlib.metadata.version("openvino"),
        "inputs": rows,
        "most_allowed": {
            "boxes_px": MOST_DIFFERENCE_PX,
            "confidence": MOST_DIFFERENCE_CONFIDENCE,
        },
    }


def _openvino(model: onnx.ModelProto) -> Any:
    """Return the model compiled by OpenVINO in 32-bit floats, or None without OpenVINO.

    In floats, because parity checks the export; OpenVINO runs bf16 where it can.
    """
    if importlib.util.find_spec("openvino") is None:
        return None
    import openvino

    core = openvino.Core()
    read = core.read_model(model.SerializeToString())
    return core.compile_model(read, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})


def calibration_photos(data: Path, *, most: int) -> list[Path]:
    """Return photos of the train split, evenly spread over their sorted names.

    Raises:
        ValueError: there is no such split, or it has no photo.
    """
    photos = sorted(set(split_photos(data, "train")), key=lambda photo: photo.name)
    if not photos:
        raise ValueError(f"expected photos of train in {data}, found none")
    return photos[:: max(1, len(photos) // most)][:most]


def quantise(model: Path, out: Path, photos: Sequence[Path]) -> None:
    """Write the model in 8-bit integers (static QDQ), its head left in floats.

    Args:
        model: an export in floats.
        out: the quantised one; metadata is carried over.
        photos: whose activations give the ranges.
    """
    described = onnx.load(model)
    entries = {entry.key: entry.value for entry in described.metadata_props}
    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(model, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            out,
            _Photos(inputs_of(described, photos)),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            # Signed weights times unsigned activations overflow on CPUs without VNNI, which sum
            # pairs of products in 16 bits. Source: ONNX Runtime, "Quantize ONNX models", on U8S8.
            weight_type=QuantType.QUInt8,
            extra_options={"WeightSymmetric": True},
            per_channel=True,
            calibrate_method=CalibrationMethod.MinMax,
            nodes_to_exclude=head_nodes(onnx.load(prepared)),
        )
    quantised = onnx.load(out)
    del quantised.metadata_props[:]
    for key, value in (entries | {"precision": "int8"}).items():
        quantised.metadata_props.add(key=key, value=value)
    onnx.save(quantised, out)


def head_nodes(model: onnx.ModelProto) -> list[str]:
    """Return the names of the head's nodes: the module of the last convolutions, and what follows.

    Args:
        model: an export; its nodes are named after the network's modules, "/model.23/cv2.0/Conv".
    """
    nodes = model.graph.node
    feeds: dict[str, list[onnx.NodeProto]] = {}
    for node in nodes:
        for name in node.input:
            feeds.setdefault(name, []).append(node)
    leads: dict[str, bool] = {}  # to a convolution
    for node in reversed(nodes):  # in ONNX's topological order, so that what follows is known
        following = [after for name in node.output for after in feeds.get(name, [])]
        leads[node.name] = any(n.op_type == "Conv" or leads[n.name] for n in following)
    last = [n.name for n in nodes if n.op_type == "Conv" and not leads[n.name]]
    modules = {name.split("/")[1] for name in last if name.count("/") >= 2}
    return [
        node.name
        for node in nodes
        if not leads[node.name] or node.name.split("/")[1:2] in [[module] for module in modules]
    ]


class _Photos(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime ships no types
    """Letterboxed photos one by one, as quantisation requests them."""

    def __init__(self, inputs: Iterator[NDArray[np.float32]]) -> None:
        self.inputs = inputs

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """Return the next input, or None at the end."""
        batch = next(self.inputs, None)
        return None if batch is None else {"images": batch}


def inputs_of(model: onnx.ModelProto, photos: Iterable[Path]) -> Iterator[NDArray[np.float32]]:
    """Yield photos as the detector passes them to the model, (1, 3, H, W) float32 in [0, 1]."""
    entries = {entry.key: entry.value for entry in model.metadata_props}
    side, stride = json.loads(entries["imgsz"])[0], int(entries["stride"])
    for photo in photos:
        boxed = letterbox(decode(photo.read_bytes()).pixels, input_size=side, stride=stride).image
        yield boxed.transpose(2, 0, 1)[None].astype(np.float32) / np.float32(255)


def drawn_input(seed: int, image_hw: tuple[int, int]) -> NDArray[np.float32]:
    """Return a (1, 3, H, W) float32 input in [0, 1]: grey noise with bright, lettered rectangles.

    Not a scene: parity is about equal numbers, not about plates.
    """
    random = np.random.default_rng(seed)
    height, width = image_hw
    image = random.normal(0.45, 0.08, (height, width, 3))
    for _ in range(6):
        x, y = random.integers(0, width - 130), random.integers(0, height - 40)
        image[y : y + 32, x : x + 128] = random.uniform(0.75, 1, 3)
        for stroke in range(8, 120, 14):
            image[y + 7 : y + 25, x + stroke : x + stroke + 6] = 0.08
    return image.clip(0, 1).astype(np.float32).transpose(2, 0, 1)[None]


def _difference(expected: NDArray[np.float32], got: NDArray[np.float32]) -> dict[str, float]:
    """Return the largest differences of boxes (pixels) and confidences of two raw outputs."""
    if expected.shape != got.shape:
        raise RuntimeError(f"torch gives {expected.shape}, ONNX Runtime {got.shape}")
    boxes, confidence = (expected - got)[:, :4], (expected - got)[:, 4:]
    return {
        "boxes_px": float(np.abs(boxes).max(initial=0)),
        "confidence": float(np.abs(confidence).max(initial=0)),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line and export."""
    parser = argparse.ArgumentParser(description="Export weights to ONNX, with a parity check.")
    parser.add_argument("weights", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--input-size", type=int, help="pixels; without it, that of the training")
    parser.add_argument("--int8", type=Path, help="also write the model in 8-bit integers")
    parser.add_argument("--data", type=Path, help="data.yaml whose train photos give the ranges")
    parser.add_argument("--photos", type=int, default=CALIBRATION_PHOTOS, help="so many of them")
    arguments = parser.parse_args(argv)
    parity = export(
        Config(
            weights=arguments.weights,
            out=arguments.out,
            input_size=arguments.input_size or trained_size(arguments.weights),
            int8=arguments.int8,
            data=arguments.data,
            photos=arguments.photos,
        )
    )
    sys.stdout.write(json.dumps(parity) + "\n")


if __name__ == "__main__":
    run_step(main)
