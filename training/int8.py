"""Write a model in 8-bit integers, which OpenVINO runs faster on CPUs with VNNI.

    python -m training.int8 plateblur/models/plates.onnx --data DATA.yaml

It writes `plates.int8.onnx` beside the model, which `--engine openvino-int8` runs. Confidences are
calibrated by the model's own curve, so the file stays valid after `training/calibrate.py`. It is
for the weights it was made from; beside a model with other weights, the engine refuses it.

Ranges come from photos of the train split. Convolutions, and what only moves their maps, compute in
integers. Activations don't: OpenVINO then computes each inside its convolution, and without that
they take longer than the convolutions save. ONNX Runtime has no such kernels, and runs this file
slower than the model itself.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from plateblur.engines import int8_model
from plateblur.letterbox import Pyramid, letterbox
from plateblur.photo import decode
from plateblur.sets.split import split_photos
from training.checkout import run_step
from training.graph import faster

CALIBRATION_PHOTOS = 200  # of train; more of them hardly move the ranges
IN_INTEGERS = ("Add", "Concat", "Conv", "MaxPool", "Resize", "Split")


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
    """Write a model in 8-bit integers (static QDQ), its head in floats.

    Args:
        model: an export in floats.
        out: the quantised one; metadata is carried over.
        photos: whose activations give the ranges.
    """
    described = faster(onnx.load(model))
    entries = {entry.key: entry.value for entry in described.metadata_props}
    with tempfile.TemporaryDirectory() as folder:
        rewritten, prepared = Path(folder) / "rewritten.onnx", Path(folder) / "prepared.onnx"
        onnx.save(described, rewritten)
        quant_pre_process(rewritten, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            out,
            _Photos(inputs_of(described, photos)),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            # OpenVINO has kernels for signed weights alone. Times unsigned activations they
            # overflow on CPUs without VNNI, which sum pairs of products in 16 bits; 7 bits don't.
            # Source: ONNX Runtime, "Quantize ONNX models", on U8S8.
            weight_type=QuantType.QInt8,
            reduce_range=True,
            per_channel=True,
            calibrate_method=CalibrationMethod.MinMax,
            op_types_to_quantize=IN_INTEGERS,
            # One tensor holds boxes and confidences: with one scale for 0 to 640 pixels and 0 to 1,
            # a confidence would have three steps. With only the head's last convolutions in floats
            # covered99 within 1:15 still fell by 0.02 for an earlier detector, so the whole head
            # stays in floats.
            nodes_to_exclude=head_nodes(onnx.load(prepared)),
            extra_options={
                "OpTypesToExcludeOutputQuantization": ["Conv"],
                # Means of each photo's range: of the widest, four plates of 340 within 1:15 were
                # lost on val, and none of these.
                "CalibMovingAverage": True,
            },
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
        boxed = letterbox(
            Pyramid(decode(photo.read_bytes()).pixels), input_size=side, stride=stride
        ).image
        yield boxed.transpose(2, 0, 1)[None].astype(np.float32) / np.float32(255)


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line and write the file."""
    parser = argparse.ArgumentParser(description="Write a model in 8-bit integers.")
    parser.add_argument("model", type=Path, help="ONNX file of training/export.py")
    parser.add_argument(
        "--data", type=Path, required=True, help="data.yaml whose train photos give the ranges"
    )
    parser.add_argument("--photos", type=int, default=CALIBRATION_PHOTOS, help="so many of them")
    given = parser.parse_args(argv)
    photos = calibration_photos(given.data, most=given.photos)
    quantise(given.model, int8_model(given.model), photos)
    sys.stdout.write(f"wrote {int8_model(given.model).name} with ranges of {len(photos)} photos\n")


if __name__ == "__main__":
    run_step(main)
