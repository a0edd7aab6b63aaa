"""The model in 8-bit integers: which file is taken, and that it finds what the model finds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from plateblur import drawn, engines
from plateblur.boxes import iou_matrix
from plateblur.detector import OnnxDetector, offered_models, shipped_model
from plateblur.engines import Engine, int8_model
from plateblur.errors import ModelError

pytest.importorskip("openvino")

MODELS = shipped_model().parent
IN_INTEGERS = sorted(MODELS.glob("*.int8.onnx"))
IMAGE = np.full((48, 96, 3), 128, np.uint8)


def save(path: Path, *, weights: str | None = "one", confidence: float = 0.9) -> Path:
    """Write a model that sees one plate, whatever it is shown."""
    row = np.array([20, 10, 16, 8, confidence], np.float32).reshape(1, 5, 1)
    graph = helper.make_graph(
        [helper.make_node("Identity", ["answer"], ["output0"])],
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, "h", "w"])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(row, "answer")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    known = {"imgsz": "[64, 64]", "stride": "32", "names": "{0: 'plate'}"}
    helper.set_model_props(model, known | ({"weights_sha256": weights} if weights else {}))
    onnx.save(model, path)
    return path


def confidence(model: Path, engine: Engine) -> float:
    detector = OnnxDetector(model, engine=engine, second_look=False)
    assert detector.runs_on == f"{engine} on cpu"
    found = detector.detect(IMAGE, min_confidence=0.1, effort="fast")
    return round(float(found.confidence[0]), 2)


def test_the_file_beside_the_model_is_run(tmp_path: Path) -> None:
    model = save(tmp_path / "tiny.onnx")
    save(tmp_path / "tiny.int8.onnx", confidence=0.8)
    assert confidence(model, "openvino") == 0.9
    assert confidence(model, "openvino-int8") == 0.8


def test_without_that_file_the_engine_is_refused(tmp_path: Path) -> None:
    model = save(tmp_path / "tiny.onnx")
    with pytest.raises(ModelError, match=r"needs tiny\.int8\.onnx beside tiny\.onnx"):
        OnnxDetector(model, engine="openvino-int8")


@pytest.mark.parametrize(
    ("of_model", "of_int8"), [("one", "two"), ("one", None), (None, None)], ids=str
)
def test_a_file_with_other_weights_is_refused(
    tmp_path: Path, of_model: str | None, of_int8: str | None
) -> None:
    model = save(tmp_path / "tiny.onnx", weights=of_model)
    save(tmp_path / "tiny.int8.onnx", weights=of_int8)
    for engine in ("openvino-int8", "auto"):
        with pytest.raises(ModelError, match=r"tiny\.int8\.onnx to be made from tiny\.onnx"):
            OnnxDetector(model, engine=engine)


def test_a_gpu_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="engine 'openvino-int8' runs on the CPU"):
        OnnxDetector(save(tmp_path / "tiny.onnx"), engine="openvino-int8", device="cuda")


@pytest.mark.parametrize("has_int8", [False, True])
def test_auto_tries_it_where_it_is_there_for_each_network_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_int8: bool
) -> None:
    tried: list[list[str]] = []

    def fastest(runs: dict[Engine, engines.Run], _: object) -> Engine:
        tried.append(list(runs))
        return list(runs)[-1]

    monkeypatch.setattr(engines, "_fastest", fastest)
    model = save(tmp_path / "tiny.onnx")
    save(tmp_path / "tiny-near.onnx")
    if has_int8:
        save(tmp_path / "tiny.int8.onnx")
    detector = OnnxDetector(model, engine="auto")
    floats = ["onnxruntime", "openvino"]
    assert tried == [[*floats, "openvino-int8"] if has_int8 else floats, floats]
    assert detector.runs_on == f"{tried[0][-1]} on cpu"


@pytest.mark.parametrize(("flags", "expected"), [("avx512_bf16", False), ("amx_bf16", True)])
def test_bf16_is_for_cpus_that_compute_it_fast(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str, expected: bool
) -> None:
    (tmp_path / "cpuinfo").write_text(f"flags\t\t: fpu {flags} avx2\n")
    monkeypatch.setattr(engines, "CPU_INFO", tmp_path / "cpuinfo")
    assert engines._has_amx() is expected
    monkeypatch.setattr(engines, "CPU_INFO", tmp_path / "none")
    assert not engines._has_amx()


@pytest.mark.parametrize("threads", [None, 1, 2])
@pytest.mark.parametrize("engine", ["openvino", "openvino-int8"])
@pytest.mark.parametrize("has_amx", [False, True])
def test_openvino_computes_in_float32_where_bf16_is_slow(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    engine: Engine,
    threads: int | None,
    has_amx: bool,
) -> None:
    asked: list[dict[str, object]] = []

    class Core:
        def compile_model(self, _: Path, device: str, config: dict[str, object]) -> None:
            asked.append({"device": device} | config)

    monkeypatch.setattr("openvino.Core", Core)
    monkeypatch.setattr(engines, "_has_amx", lambda: has_amx)
    model = save(tmp_path / "tiny.onnx")
    save(tmp_path / "tiny.int8.onnx")
    OnnxDetector(model, engine=engine, threads=threads)
    assert [each["device"] for each in asked] == ["CPU"]
    assert [each.get("INFERENCE_PRECISION_HINT") for each in asked] == [None if has_amx else "f32"]


@pytest.mark.slow
def test_a_shape_that_comes_often_gets_a_model_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import openvino

    compiled: list[object] = []
    really = openvino.Core.compile_model

    def counted(core: object, model: object, *rest: object) -> object:
        compiled.append(model)
        return really(core, model, *rest)

    monkeypatch.setattr("openvino.Core.compile_model", counted)
    monkeypatch.setattr(engines, "OWN_FROM", 3)
    monkeypatch.setattr(engines, "MOST_OWN", 2)
    shipped = OnnxDetector(shipped_model(), engine="openvino-int8")
    start = len(compiled)
    draws = np.random.default_rng(0)
    batches = [draws.random((1, 3, 64, 32 * n), np.float32) for n in (1, 2, 3)]
    before = [shipped._run(batch) for batch in batches]
    for _ in range(4):
        for batch, expected in zip(batches, before, strict=True):
            np.testing.assert_allclose(shipped._run(batch), expected, rtol=1e-3, atol=0.02)
    assert len(compiled) - start == 2
    assert shipped._run(batches[2][:, :, :32]).shape[0] == 1


def test_the_fastest_is_the_one_that_does_all_inputs_of_a_photo_in_the_least_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    last: list[tuple[int, ...]] = [()]

    def slow_to_change(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        clock[0] += 0.1 if batch.shape == last[0] else 1.0
        last[0] = batch.shape
        return batch

    def steady(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        clock[0] += 0.2
        return batch

    runs: dict[Engine, engines.Run] = {"openvino": slow_to_change, "onnxruntime": steady}
    assert engines._fastest(runs, [(64, 64), (32, 32)]) == "onnxruntime"
    assert engines._fastest(runs, [(64, 64)]) == "openvino"


def test_no_int8_file_is_offered_as_a_model_of_its_own() -> None:
    assert not [name for name in offered_models() if "int8" in name]


@pytest.mark.parametrize("path", IN_INTEGERS, ids=lambda path: path.name)
def test_each_that_is_shipped_has_the_weights_of_its_model(path: Path) -> None:
    model = path.with_name(path.name.replace(".int8", ""))
    assert int8_model(model) == path
    of, made_from = (
        {one.key: one.value for one in onnx.load(each).metadata_props}["weights_sha256"]
        for each in (model, path)
    )
    assert of == made_from


@pytest.mark.slow
@pytest.mark.skipif(not IN_INTEGERS, reason="none is shipped")
def test_the_shipped_one_finds_what_the_model_finds_on_drawn_scenes() -> None:
    floats, integers = (
        OnnxDetector(shipped_model(), engine=engine, threads=1)
        for engine in ("onnxruntime", "openvino-int8")
    )
    matched = plates = 0
    for seed in range(6):
        scene = drawn.draw_scene(seed, image_hw=(540, 960), plates=2, ratios=(1 / 25, 1 / 8))
        one, other = (
            each.detect(scene.image, min_confidence=0.25, effort="fast")
            for each in (floats, integers)
        )
        plates += len(one)
        matched += int((iou_matrix(one.xyxy, other.xyxy).max(axis=1, initial=0) > 0.7).sum())
    assert plates >= 6
    assert matched >= 0.9 * plates
