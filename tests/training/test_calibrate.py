"""Calibration: of the boxes with confidence 0.5 about half are plates."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from plateblur.detector import OnnxDetector, calibrated
from training.calibrate import fit_curve, write_curve


@pytest.mark.parametrize(
    ("slope", "shift"), [(1.0, 0.0), (2.2, 0.3), (0.6, -1.0)], ids=["right", "shy", "bold"]
)
def test_a_curve_is_found_again(slope: float, shift: float) -> None:
    random = np.random.default_rng(5)
    confidence = random.uniform(0.05, 0.95, 20_000)
    correct = random.uniform(size=20_000) < calibrated(confidence, slope=slope, shift=shift)
    found = fit_curve(confidence, correct)
    assert found == pytest.approx((slope, shift), abs=0.1)


def test_a_curve_keeps_the_order_and_the_ends() -> None:
    confidence = np.array([0.0, 0.2, 0.5, 0.9, 1.0])
    curved = calibrated(confidence, slope=2.0, shift=-0.5)
    assert (np.diff(curved) > 0).all()
    assert curved.min() >= 0
    assert curved.max() <= 1


def test_a_second_calibration_takes_the_place_of_the_first(tmp_path: Path) -> None:
    tensor = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["images"], ["output0"])],
        "tiny",
        [tensor("images", onnx.TensorProto.FLOAT, ["n", 3, "h", "w"])],
        [tensor("output0", onnx.TensorProto.FLOAT, ["n", 3, "h", "w"])],
    )
    model = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8
    )
    onnx.helper.set_model_props(
        model, {"imgsz": "[64, 64]", "stride": "32", "names": "{0: 'plate'}"}
    )
    path = tmp_path / "tiny.onnx"
    write_curve(model, path, slope=3.0, shift=1.0)
    write_curve(onnx.load(path), path, slope=2.0, shift=0.5)
    entries = [e.value for e in onnx.load(path).metadata_props if e.key == "calibration"]
    assert [json.loads(entry) for entry in entries] == [[2.0, 0.5]]
    assert OnnxDetector(path).metadata.calibration == (2.0, 0.5)
