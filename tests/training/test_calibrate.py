"""Calibration: of the boxes with confidence 0.5 about half are plates."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml
from numpy.typing import NDArray

from plateblur import drawn
from plateblur.detector import OnnxDetector, calibrated, shipped_model
from training import calibrate as calibration
from training.calibrate import Config, calibrate, fit_curve, write_curve


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


@pytest.mark.parametrize(("is_corrected", "most"), [(False, 0), (True, 1)], ids=["as is", "mended"])
def test_the_curve_is_fitted_to_corrected_labels(
    is_corrected: bool, most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = drawn.draw_scene(3, image_hw=(540, 960), plates=1, ratios=(1 / 12, 1 / 8))
    (tmp_path / "images" / "val").mkdir(parents=True)
    (tmp_path / "images" / "val" / "a.jpg").write_bytes(drawn.encode(scene.image))
    (tmp_path / "data.yaml").write_text(yaml.safe_dump({"val": "images/val"}))
    add = {"image": "a.jpg", "action": "add", "boxes": scene.xyxy.tolist(), "reason": "unlabelled"}
    (tmp_path / "overlay.jsonl").write_text(json.dumps(add) + "\n")
    shutil.copy(shipped_model(), tmp_path / "plates.onnx")
    fitted: list[NDArray[np.bool_]] = []

    def fit(_: object, correct: NDArray[np.bool_]) -> tuple[float, float]:
        fitted.append(correct)
        return 1.0, 0.0

    monkeypatch.setattr(calibration, "fit_curve", fit)
    overlay = tmp_path / "overlay.jsonl" if is_corrected else None
    calibrate(Config(tmp_path / "plates.onnx", tmp_path / "data.yaml", overlay))
    assert fitted[0].sum() == most


@pytest.mark.parametrize("correct", [[True] * 3 + [False] * 7, [False] * 7 + [True] * 3])
def test_a_few_boxes_bend_the_curve_but_little(correct: list[bool]) -> None:
    confidence = np.linspace(0.9, 0.06, 10)
    slope, shift = fit_curve(confidence, np.array(correct))
    assert 0.2 < slope < 5
    assert abs(shift) < 4
