"""Export trained weights to the ONNX model that the service runs, and check that both agree.

    python -m training.export runs/first/weights/best.pt --out runs/first/plates.onnx

The file's metadata says what `plateblur/detector.py` needs to know, and where the model comes from.
`training/graph.py` rewrites its graph so that it runs faster. The export fails unless torch, ONNX
Runtime and, if it is installed, OpenVINO find the same plates on fixed drawn images.
`training/int8.py` writes the same model in 8-bit integers.
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
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from ultralytics import YOLO

from training.checkout import run_step
from training.graph import faster

OPSET = 18  # the newest that ultralytics states for its torch range; ONNX Runtime 1.31 runs it
# Two 32-bit runtimes sum in different orders; a plate moved by a hundredth of a pixel is the same.
MOST_DIFFERENCE_PX = 0.05
MOST_DIFFERENCE_CONFIDENCE = 0.001
PARITY_HW = ((384, 640), (640, 640), (640, 480))  # letterboxed inputs of different shapes


@dataclass(frozen=True, slots=True)
class Config:
    """One export."""

    weights: Path  # an ultralytics checkpoint of training/train.py
    out: Path  # the ONNX file, written only if the parity check passes
    input_size: int  # longer side at which the detector runs, pixels


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
    model = faster(model)
    describe(model, config)
    parity = check_parity(model, YOLO(config.weights).model.float())
    config.out.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, config.out)
    config.out.with_suffix(".parity.json").write_text(json.dumps(parity, indent=2) + "\n")
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
    arguments = parser.parse_args(argv)
    parity = export(
        Config(
            weights=arguments.weights,
            out=arguments.out,
            input_size=arguments.input_size or trained_size(arguments.weights),
        )
    )
    sys.stdout.write(json.dumps(parity) + "\n")


if __name__ == "__main__":
    run_step(main)
