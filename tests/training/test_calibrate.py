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
from training.calibrate import (
    UNCHANGED,
    CalibrationRefusedError,
    Config,
    calibrate,
    cross_validated,
    fit_curve,
    main,
    write_curve,
)


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


def tiny_model(path: Path) -> onnx.ModelProto:
    """Return the model of a detector whose raw output is its input, written to `path` too."""
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
    onnx.save(model, path)
    return model


def test_a_second_calibration_takes_the_place_of_the_first(tmp_path: Path) -> None:
    path = tmp_path / "tiny.onnx"
    write_curve(tiny_model(path), path, curve=(3.0, 1.0), fit={"boxes_on_plates": 1})
    write_curve(onnx.load(path), path, curve=(2.0, 0.5), fit=None)
    entries = {e.key: e.value for e in onnx.load(path).metadata_props}
    assert json.loads(entries["calibration"]) == [2.0, 0.5]
    assert "calibration_fit" not in entries
    assert OnnxDetector(path).metadata.calibration == (2.0, 0.5)


def drawn_val(folder: Path, photos: int = 1) -> list[drawn.Scene]:
    """Write drawn scenes without labels as the val split of a set, and return them."""
    (folder / "images" / "val").mkdir(parents=True)
    (folder / "data.yaml").write_text(yaml.safe_dump({"val": "images/val"}))
    scenes = [
        drawn.draw_scene(3 + seed, image_hw=(540, 960), plates=1, ratios=(1 / 12, 1 / 8))
        for seed in range(photos)
    ]
    for number, scene in enumerate(scenes):
        (folder / "images" / "val" / f"{number}.jpg").write_bytes(drawn.encode(scene.image))
    return scenes


@pytest.mark.slow
@pytest.mark.parametrize(("is_corrected", "most"), [(False, 0), (True, 1)], ids=["as is", "mended"])
def test_the_curve_is_fitted_to_corrected_labels(
    is_corrected: bool, most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (scene,) = drawn_val(tmp_path)
    add = {"image": "0.jpg", "action": "add", "boxes": scene.xyxy.tolist(), "reason": "unlabelled"}
    (tmp_path / "overlay.jsonl").write_text(json.dumps(add) + "\n")
    shutil.copy(shipped_model(), tmp_path / "plates.onnx")
    fitted: list[NDArray[np.bool_]] = []

    def fit(_: object, correct: NDArray[np.bool_]) -> tuple[float, float]:
        fitted.append(correct)
        return 1.0, 0.0

    monkeypatch.setattr(calibration, "fit_curve", fit)
    overlay = tmp_path / "overlay.jsonl" if is_corrected else None
    calibrate(Config(tmp_path / "plates.onnx", tmp_path / "data.yaml", overlay, fewest=0))
    assert fitted[0].sum() == most


@pytest.mark.parametrize("correct", [[True] * 3 + [False] * 7, [False] * 7 + [True] * 3])
def test_a_few_boxes_bend_the_curve_but_little(correct: list[bool]) -> None:
    confidence = np.linspace(0.9, 0.06, 10)
    slope, shift = fit_curve(confidence, np.array(correct))
    assert 0.2 < slope < 5
    assert abs(shift) < 4


@pytest.mark.slow
def test_too_few_boxes_are_refused_and_the_model_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn_val(tmp_path, photos=2)
    model = Path(shutil.copy(shipped_model(), tmp_path / "plates.onnx"))
    with pytest.raises(SystemExit) as refusal:
        main([str(model), "--data", str(tmp_path / "data.yaml")])
    assert str(refusal.value.code).startswith("refused: val has too few boxes to calibrate by: of ")
    assert "at least 20" in str(refusal.value.code)
    assert model.read_bytes() == shipped_model().read_bytes()
    assert sorted(path.name for path in tmp_path.glob("*.onnx")) == ["plates.onnx"]


def scored(
    monkeypatch: pytest.MonkeyPatch, confidence: NDArray[np.float64], correct: NDArray[np.bool_]
) -> None:
    """Let `calibrate` see these boxes, two on a photo, in place of a detector's."""

    class Seen:
        box_confidence = confidence
        match = np.where(correct, 0, -1)[None]
        box_photo = np.arange(len(confidence)) // 2
        plate_ratio = np.full(len(confidence), 0.1)
        best_confidence = np.where(correct, confidence, -np.inf)

    monkeypatch.setattr(calibration, "scores_without_curve", lambda *_: Seen)


@pytest.mark.slow
@pytest.mark.parametrize("wrong", [19, 20], ids=["just too few", "just enough"])
def test_each_kind_of_box_is_counted(
    wrong: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn_val(tmp_path)
    tiny_model(tmp_path / "tiny.onnx")
    random = np.random.default_rng(1)
    correct = np.arange(200) >= wrong
    odds = np.where(correct, 1.0, -1.0) * 0.2 + random.normal(0, 0.1, 200)  # far too shy
    scored(monkeypatch, 1 / (1 + np.exp(-odds)), correct)
    config = Config(tmp_path / "tiny.onnx", tmp_path / "data.yaml")
    if wrong < 20:
        with pytest.raises(CalibrationRefusedError, match="181 are on plates and 19 are not"):
            calibrate(config)
        return
    told = calibrate(config)
    assert (told["boxes_on_plates"], told["boxes_elsewhere"], told["helps"]) == (180, 20, True)
    errors = told["cross_validated"]
    assert errors["folds"] == 5
    assert errors["after"]["log_loss"] < errors["before"]["log_loss"] / 2
    entries = {e.key: e.value for e in onnx.load(tmp_path / "tiny.onnx").metadata_props}
    assert json.loads(entries["calibration_fit"]) == told
    assert json.loads(entries["calibration"]) == [told["slope"], told["shift"]]


@pytest.mark.slow
def test_a_curve_that_does_not_help_on_other_photos_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn_val(tmp_path)
    tiny_model(tmp_path / "tiny.onnx")
    random = np.random.default_rng(3)
    confidence = random.uniform(0.05, 0.95, 60)
    scored(monkeypatch, confidence, random.uniform(size=60) < confidence)  # they mean what they say
    main([str(tmp_path / "tiny.onnx"), "--data", str(tmp_path / "data.yaml")])
    told = json.loads(capsys.readouterr().out)
    assert not told["helps"]
    assert told["fitted"] != list(UNCHANGED)
    assert OnnxDetector(tmp_path / "tiny.onnx").metadata.calibration == UNCHANGED


def test_no_box_is_judged_by_a_curve_fitted_to_its_own_photo(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    confidence = np.linspace(0.06, 0.94, 30)
    photo = np.arange(30) // 3
    fitted: list[set[int]] = []

    def fit(some: NDArray[np.float64], _: object) -> tuple[float, float]:
        fitted.append(set(photo[np.isin(confidence, some)].tolist()))
        return 2.0, 0.0

    monkeypatch.setattr(calibration, "fit_curve", fit)
    cross_validated(confidence, confidence > 0.5, photo)
    left_out = [set(range(10)) - photos for photos in fitted]
    assert sorted(number for fold in left_out for number in fold) == list(range(10))
    assert all(len(fold) == 2 for fold in left_out)
