"""The detector on tiny models: what they say of themselves and what they answer is checked."""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.capi import onnxruntime_pybind11_state as ort

from plateblur import drawn, engines
from plateblur.detector import MOST_LOOKS, OnnxDetector, near_model, shipped_model
from plateblur.engines import NVIDIA, PROVIDERS, Device, Engine
from plateblur.errors import DetectionError, ModelError
from plateblur.guidance import within_guidance
from plateblur.types import Effort
from tests.fakes import boxes, street

METADATA = {"imgsz": "[64, 64]", "stride": "32", "names": "{0: 'plate'}"}
END_TO_END = METADATA | {"end2end": "True"}
IMAGE = street(48, 96)  # at 64 px: 32 x 64, two thirds of its size

Rows = list[list[float]]


def save(
    folder: Path,
    answer: Any,
    metadata: dict[str, str],
    *,
    takes: list[int | str] | None = None,
    nodes: list[onnx.NodeProto] | None = None,
    type_: int = TensorProto.FLOAT,
) -> Path:
    """Write a model that gives `answer` whatever it sees, or what `nodes` make of it."""
    array = np.asarray(answer, np.float32 if type_ == TensorProto.FLOAT else np.int64)
    given = helper.make_tensor_value_info(
        "images", TensorProto.FLOAT, takes or ["batch", 3, "height", "width"]
    )
    gives = helper.make_tensor_value_info("output0", type_, None)
    graph = helper.make_graph(
        nodes or [helper.make_node("Identity", ["answer"], ["output0"])],
        "tiny",
        [given],
        [gives],
        [numpy_helper.from_array(array, "answer")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, metadata)
    path = folder / "tiny.onnx"
    onnx.save(model, path)
    return path


def first_look(model: Path) -> OnnxDetector:
    """The detector without its second look: tiny models answer the same whatever they see."""
    return OnnxDetector(model, second_look=False)


def raw(rows: Rows) -> Any:
    """Return rows of centre, size and confidence as (1, 5, anchors)."""
    return np.array(rows, np.float32).reshape(-1, 5).T[None]


def end_to_end(rows: Rows) -> Any:
    """Return rows of corners, confidence and class as (1, K, 6)."""
    return np.array(rows, np.float32).reshape(-1, 6)[None]


ANSWERS: dict[str, tuple[Callable[[Rows], Any], dict[str, str], Rows]] = {
    "raw": (raw, METADATA, [[20, 10, 16, 8, 0.9], [50, 25, 10, 4, 0.4], [20, 10, 16, 8, 0.01]]),
    "end-to-end": (
        end_to_end,
        END_TO_END,
        [[12, 6, 28, 14, 0.9, 0], [45, 23, 55, 27, 0.4, 0], [12, 6, 28, 14, 0.01, 0]],
    ),
}


@pytest.mark.parametrize(("shaped", "metadata", "rows"), ANSWERS.values(), ids=ANSWERS)
def test_both_kinds_of_output_give_boxes_of_the_image(
    tmp_path: Path, shaped: Callable[[Rows], Any], metadata: dict[str, str], rows: Rows
) -> None:
    detector = first_look(save(tmp_path, shaped(rows), metadata))
    found = detector.detect(IMAGE, min_confidence=0.25, effort="fast")
    assert found.confidence.tolist() == pytest.approx([0.9, 0.4])
    assert np.allclose(found.xyxy, boxes([18, 9, 42, 21], [67.5, 34.5, 82.5, 40.5]))
    assert found.xyxy.dtype == np.float32


@pytest.mark.parametrize(
    ("curve", "expected"),
    [("[1.0, 0.0]", [0.9, 0.4]), ("[2.0, 0.0]", [81 / 82, 16 / 52]), ("[1.0, -9.0]", [])],
    ids=["none", "steeper", "all below"],
)
def test_confidences_follow_the_model_s_calibration(
    tmp_path: Path, curve: str, expected: list[float]
) -> None:
    rows: Rows = [[20, 10, 16, 8, 0.9], [50, 25, 10, 4, 0.4]]
    path = save(tmp_path, raw(rows), METADATA | {"calibration": curve})
    found = first_look(path).detect(IMAGE, min_confidence=0.25, effort="fast")
    assert found.confidence.tolist() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("min_confidence", "count"), [(0.4, 2), (0.41, 1), (0.95, 0)], ids=["at", "above", "none"]
)
def test_the_smallest_confidence_is_kept(tmp_path: Path, min_confidence: float, count: int) -> None:
    rows: Rows = [[20, 10, 16, 8, 0.9], [50, 25, 10, 4, 0.4]]
    found = first_look(save(tmp_path, raw(rows), METADATA)).detect(
        IMAGE, min_confidence=float(np.float32(min_confidence)), effort="fast"
    )
    assert len(found) == count


def test_of_two_boxes_on_a_plate_the_better_stays(tmp_path: Path) -> None:
    rows: Rows = [[20, 10, 16, 8, 0.5], [21, 10, 16, 8, 0.9], [40, 10, 16, 8, 0.3]]
    found = first_look(save(tmp_path, raw(rows), METADATA)).detect(
        IMAGE, min_confidence=0.25, effort="fast"
    )
    assert found.confidence.tolist() == pytest.approx([0.9, 0.3])


@pytest.mark.parametrize("rows", [[], [[20, 10, 16, 8, 0.01]]], ids=["no-anchors", "unsure"])
def test_no_plates_is_a_result(tmp_path: Path, rows: Rows) -> None:
    found = OnnxDetector(save(tmp_path, raw(rows), METADATA)).detect(
        IMAGE, min_confidence=0.25, effort="fast"
    )
    assert found.xyxy.shape == (0, 4)


def test_a_box_in_the_fill_is_dropped_and_one_at_the_edge_is_clipped(tmp_path: Path) -> None:
    image = street(40, 96)  # 27 of 32 rows of the input
    rows: Rows = [[20, 31, 8, 2, 0.9], [2, 2, 16, 16, 0.8]]
    found = first_look(save(tmp_path, raw(rows), METADATA)).detect(
        image, min_confidence=0.25, effort="fast"
    )
    assert found.confidence.tolist() == pytest.approx([0.8])
    assert found.xyxy[0, :2].tolist() == [0, 0]


def test_a_box_turned_inside_out_still_covers_its_corners(tmp_path: Path) -> None:
    rows: Rows = [[28, 14, 12, 6, 0.9, 0]]
    found = OnnxDetector(save(tmp_path, end_to_end(rows), END_TO_END)).detect(
        IMAGE, min_confidence=0.25, effort="fast"
    )
    assert np.allclose(found.xyxy, [[18, 9, 42, 21]])


HUGE = float(np.finfo(np.float32).max)


@pytest.mark.parametrize(
    ("answer", "metadata"),
    [
        (end_to_end([[-HUGE, -HUGE, HUGE, HUGE, 0.9, 0], [12, 6, 28, 14, 0.5, 0]]), END_TO_END),
        (raw([[32, 16, HUGE, HUGE, 0.9], [20, 10, 16, 8, 0.5]]), METADATA),
    ],
    ids=["end-to-end", "raw"],
)
def test_a_box_of_any_size_is_clipped_and_hides_what_it_covers(
    tmp_path: Path, answer: Any, metadata: dict[str, str]
) -> None:
    found = OnnxDetector(save(tmp_path, answer, metadata)).detect(
        IMAGE, min_confidence=0.25, effort="fast"
    )
    assert found.xyxy.tolist()[0] == [0, 0, 96, 48]


NONSENSE: dict[str, tuple[Any, dict[str, str]]] = {
    "nan-confidence": (raw([[20, 10, 16, 8, np.nan]]), METADATA),
    "nan-box": (raw([[np.nan, 10, 16, 8, 0.9], [20, 10, 16, 8, 0.9]]), METADATA),
    "infinite-box": (end_to_end([[0, 0, np.inf, 8, 0.9, 0]]), END_TO_END),
    "confidence-above-1": (raw([[20, 10, 16, 8, 7.5]]), METADATA),
    "confidence-below-0": (raw([[20, 10, 16, 8, -3.0]]), METADATA),
    "two-classes": (np.zeros((1, 6, 9)), METADATA),
    "raw-called-end-to-end": (np.zeros((1, 5, 84)), END_TO_END),
    "end-to-end-called-raw": (np.zeros((1, 300, 6)), METADATA),
    "no-batch": (np.zeros((5, 9)), METADATA),
    "empty-batch": (np.zeros((0, 5, 9)), METADATA),
    "two-images": (np.zeros((2, 5, 9)), METADATA),
    "one-number": (np.zeros(()), METADATA),
}


@pytest.mark.parametrize(("answer", "metadata"), NONSENSE.values(), ids=NONSENSE)
def test_an_answer_that_makes_no_sense_is_a_failure_and_not_no_plates(
    tmp_path: Path, answer: Any, metadata: dict[str, str]
) -> None:
    detector = OnnxDetector(save(tmp_path, answer, metadata))
    with pytest.raises(DetectionError, match="expected"):
        detector.detect(IMAGE, min_confidence=0.25, effort="fast")


def test_a_graph_that_fails_is_a_detection_error(tmp_path: Path) -> None:
    nodes = [helper.make_node("Reshape", ["images", "shape"], ["output0"])]
    path = save(tmp_path, 0.0, METADATA, nodes=nodes)
    model = onnx.load(path)
    model.graph.initializer.append(numpy_helper.from_array(np.array([7, 11], np.int64), "shape"))
    onnx.save(model, path)
    with pytest.raises(DetectionError, match="failed on an input"):
        OnnxDetector(path).detect(IMAGE, min_confidence=0.25, effort="fast")


def test_the_input_is_rgb_of_0_to_1_with_channels_first(tmp_path: Path) -> None:
    """The model answers with the means of its channels, as the box of one sure detection."""
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["means"], axes=[2, 3], keepdims=1),
        helper.make_node("Squeeze", ["means", "last"], ["row"]),
        helper.make_node("Concat", ["row", "rest"], ["all"], axis=1),
        helper.make_node("Unsqueeze", ["all", "last"], ["output0"]),
    ]
    path = save(tmp_path, 0.0, METADATA, nodes=nodes)
    model = onnx.load(path)
    model.graph.initializer.extend(
        [
            numpy_helper.from_array(np.array([2], np.int64), "last"),
            numpy_helper.from_array(np.array([[1.0, 0.9]], np.float32), "rest"),
        ]
    )
    # Squeeze needs rank 3: the last axis alone goes, then the one before it.
    model.graph.node[1].input[1] = "both"
    model.graph.initializer.append(numpy_helper.from_array(np.array([2, 3], np.int64), "both"))
    onnx.save(model, path)
    image = np.zeros((64, 64, 3), np.uint8)
    image[:] = (255, 51, 0)
    found = OnnxDetector(path).detect(image, min_confidence=0.5, effort="fast")
    # centre (1.0, 0.2), size (0.0, 1.0): no width, so nothing; wider with blue
    assert len(found) == 0
    image[:] = (255, 51, 204)
    (box,) = OnnxDetector(path).detect(image, min_confidence=0.5, effort="fast").xyxy
    assert np.allclose(box, [1 - 0.4, 0, 1 + 0.4, 0.7])


MODELS: dict[str, tuple[dict[str, str], list[int | str] | None]] = {
    "no-metadata": ({}, None),
    "no-stride": ({"imgsz": "[64, 64]", "names": "{0: 'plate'}"}, None),
    "no-number": (METADATA | {"stride": "wide"}, None),
    "stride-0": (METADATA | {"stride": "0"}, None),
    "negative-stride": (METADATA | {"stride": "-32"}, None),
    "size-no-multiple": (METADATA | {"imgsz": "[65, 65]"}, None),
    "size-0": (METADATA | {"imgsz": "[0, 0]"}, None),
    "size-of-text": (METADATA | {"imgsz": "['a', 'b']"}, None),
    "size-alone": (METADATA | {"imgsz": "64"}, None),
    "code": (METADATA | {"imgsz": "__import__('os').getcwd()"}, None),
    "two-classes": (METADATA | {"names": "{0: 'plate', 1: 'car'}"}, None),
    "no-class": (METADATA | {"names": "{}"}, None),
    "classes-from-1": (METADATA | {"names": "{1: 'plate'}"}, None),
    "calibration-of-text": (METADATA | {"calibration": "steep"}, None),
    "calibration-turned-round": (METADATA | {"calibration": "[-1.0, 0.0]"}, None),
    "calibration-without-end": (METADATA | {"calibration": "[1e999, 0.0]"}, None),
    "fixed-size": (METADATA, [1, 3, 64, 64]),
    "no-image": (METADATA, ["batch", 3]),
}


@pytest.mark.parametrize(("metadata", "takes"), MODELS.values(), ids=MODELS)
def test_a_model_that_does_not_fit_is_refused_when_loaded(
    tmp_path: Path, metadata: dict[str, str], takes: list[int | str] | None
) -> None:
    with pytest.raises(ModelError, match="expected"):
        OnnxDetector(save(tmp_path, raw([]), metadata, takes=takes))


def test_a_model_of_whole_numbers_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path, np.zeros((1, 5, 1)), METADATA, type_=TensorProto.INT64)
    with pytest.raises(ModelError, match="float32 output"):
        OnnxDetector(path)


@pytest.mark.parametrize(
    "data", [b"", b"no model", b"\x08\x07\x12\x04"], ids=["empty", "text", "cut"]
)
def test_a_file_that_is_no_model_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "tiny.onnx"
    path.write_bytes(data)
    with pytest.raises(ModelError, match=r"tiny\.onnx"):
        OnnxDetector(path)


def test_a_model_that_is_not_there_is_refused_by_its_name_alone(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="found no such file") as raised:
        OnnxDetector(tmp_path / "none.onnx")
    assert str(tmp_path) not in str(raised.value)


def test_an_unknown_engine_or_device_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path, raw([]), METADATA)
    with pytest.raises(ValueError, match="engine must be"):
        OnnxDetector(path, engine="cuda")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="device must be"):
        OnnxDetector(path, device="gpu")  # type: ignore[arg-type]


GPUS: list[Device] = ["cuda", "tensorrt", "directml", "coreml"]


@pytest.mark.parametrize("device", GPUS)
def test_a_device_that_isnt_there_is_an_error_and_never_the_cpu_instead(
    tmp_path: Path, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path, raw([]), METADATA)
    if PROVIDERS[device] in onnxruntime.get_available_providers():
        pytest.skip("it is there")
    with pytest.raises(ModelError, match=PROVIDERS[device]):
        OnnxDetector(path, device=device)
    # A package that brings the provider, on a machine without the device.
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: list(PROVIDERS.values()))
    loaded: list[str] = []
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: loaded.append(device))
    monkeypatch.setattr(engines, "_load_cuda", engines._load_cuda.__wrapped__)
    with (
        pytest.warns(UserWarning, match="Specified provider"),
        pytest.raises(ModelError, match="no such device"),
    ):
        OnnxDetector(path, device=device)
    assert loaded == ([device] if device in NVIDIA else [])


def test_missing_libraries_of_a_device_are_named_and_nothing_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if PROVIDERS["cuda"] in onnxruntime.get_available_providers():
        pytest.skip("they are there")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: list(PROVIDERS.values()))
    said = "Failed to load libcudart.so.13: no such file\nPlease follow ...\n"
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: sys.stdout.write(said))
    monkeypatch.setattr(engines, "_load_cuda", engines._load_cuda.__wrapped__)
    with (
        pytest.warns(UserWarning, match="Specified provider"),
        pytest.raises(ModelError, match=r"can't load its libraries: .* no such file$"),
    ):
        OnnxDetector(save(tmp_path, raw([]), METADATA), device="cuda")
    assert capsys.readouterr().out == ""


class Failing:
    """The inner session of a device that takes a model, and fails when it runs it."""

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self._inner = session._sess

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def run(self, *_: Any) -> Any:
        raise ort.EPFail("cuDNN is not available")


def with_a_failing_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this machine have a GPU, on which models can be opened but not run."""
    opened = engines.open_session

    def open_session(model: Path, *, threads: int | None, device: Device = "cpu") -> Any:
        session = opened(model, threads=threads)
        if device != "cpu":
            session._sess = Failing(session)
        return session

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: list(PROVIDERS.values()))
    monkeypatch.setattr(engines, "open_session", open_session)


@pytest.mark.parametrize("device", GPUS)
def test_a_device_that_fails_is_an_error_at_the_start_and_not_replaced_by_the_cpu(
    tmp_path: Path,
    device: Device,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with_a_failing_gpu(monkeypatch)
    with pytest.raises(ModelError, match=rf"'{device}' to run tiny\.onnx: cuDNN is not available"):
        OnnxDetector(save(tmp_path, raw([]), METADATA), device=device)
    assert capsys.readouterr().out == ""


def test_a_gpu_that_fails_is_not_taken_where_the_choice_is_left_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_a_failing_gpu(monkeypatch)
    path = save(tmp_path, raw([]), METADATA)
    assert OnnxDetector(path, device="auto").runs_on == "onnxruntime on cpu"


def test_an_engine_that_fails_later_on_is_an_error_too(tmp_path: Path) -> None:
    """ONNX Runtime would run the model on the CPU instead, and print so."""
    session = engines.open_session(save(tmp_path, raw([]), METADATA), threads=None)
    session._sess = Failing(session)
    with pytest.raises(ort.EPFail):
        session.run(None, {"images": np.zeros((1, 3, 32, 32), np.float32)})


def test_openvino_is_for_the_cpu(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="runs on the CPU"):
        OnnxDetector(save(tmp_path, raw([]), METADATA), engine="openvino", device="cuda")


@pytest.mark.parametrize("engine", ["auto", "onnxruntime"])
def test_what_is_left_open_is_chosen_and_told(tmp_path: Path, engine: Engine) -> None:
    shaped, metadata, rows = ANSWERS["raw"]
    path = save(tmp_path, shaped(rows), metadata)
    detector = OnnxDetector(path, engine=engine, device="auto", second_look=False)
    chosen, _, device = detector.runs_on.partition(" on ")
    assert chosen in (("onnxruntime", "openvino") if engine == "auto" else ("onnxruntime",))
    assert device in ("cpu", "cuda")
    assert len(detector.detect(IMAGE, min_confidence=0.25, effort="fast")) == 2


@pytest.mark.slow
def test_looks_in_batches_find_what_looks_one_by_one_find(
    shipped: OnnxDetector, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = drawn.draw_scene(5, image_hw=(600, 1600), plates=2, ratios=(1 / 40, 1 / 20))
    alone = shipped.detect(scene.image, min_confidence=0.05, smallest_plate_px=7.5)
    monkeypatch.setattr(shipped, "_batch", 3)
    together = shipped.detect(scene.image, min_confidence=0.05, smallest_plate_px=7.5)
    assert alone.searched is not None
    assert alone.searched.looks >= 4
    assert np.allclose(alone.xyxy, together.xyxy, atol=0.05)
    assert np.allclose(alone.confidence, together.confidence, atol=1e-3)


@pytest.mark.parametrize(
    "image",
    [np.zeros((9, 9), np.uint8), np.zeros((9, 9, 4), np.uint8), np.zeros((9, 9, 3), np.float32)],
    ids=["grey", "rgba", "float"],
)
def test_what_is_no_image_is_refused(tmp_path: Path, image: Any) -> None:
    with pytest.raises(ValueError, match=r"image must be \(H, W, 3\) uint8"):
        OnnxDetector(save(tmp_path, raw([]), METADATA)).detect(
            image, min_confidence=0.25, effort="fast"
        )


@pytest.mark.parametrize("min_confidence", [0.0, -0.1, 1.01, np.nan], ids=str)
def test_a_threshold_out_of_range_is_refused(tmp_path: Path, min_confidence: float) -> None:
    detector = OnnxDetector(save(tmp_path, raw([]), METADATA))
    with pytest.raises(ValueError, match="min_confidence must be"):
        detector.detect(IMAGE, min_confidence=min_confidence, effort="fast")


@pytest.mark.slow
def test_openvino_finds_the_same(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    shaped, metadata, rows = ANSWERS["raw"]
    path = save(tmp_path, shaped(rows), metadata)
    one, other = (
        OnnxDetector(path, engine=engine).detect(IMAGE, min_confidence=0.25, effort="fast")
        for engine in ("onnxruntime", "openvino")
    )
    assert np.allclose(one.xyxy, other.xyxy)


# --- The shipped model ----------------------------------------------------------------------

needs_model = pytest.mark.skipif(not shipped_model().is_file(), reason="no model is shipped yet")


@pytest.fixture(scope="module")
def shipped() -> OnnxDetector:
    return OnnxDetector.shipped(threads=2)


@pytest.mark.slow
@needs_model
def test_the_shipped_model_finds_a_drawn_plate(shipped: OnnxDetector) -> None:
    scene = drawn.draw_scene(3, image_hw=(540, 960), plates=1, ratios=(1 / 12, 1 / 8))
    found = shipped.detect(scene.image, min_confidence=0.25)
    assert within_guidance(float(scene.ratios[0]))
    centre = (scene.xyxy[0, :2] + scene.xyxy[0, 2:]) / 2
    assert any((box[:2] <= centre).all() and (centre <= box[2:]).all() for box in found.xyxy)


@pytest.mark.slow
@needs_model
def test_the_shipped_model_says_the_same_in_several_threads_at_once(
    shipped: OnnxDetector,
) -> None:
    images = [street(270, 480, seed=seed) for seed in range(4)]
    alone = [shipped.detect(image, min_confidence=0.001, effort="fast") for image in images]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda i: shipped.detect(i, min_confidence=0.001), images * 2))
    for expected, found in zip(alone * 2, together, strict=True):
        assert np.allclose(expected.xyxy, found.xyxy, atol=1e-2)
        assert np.allclose(expected.confidence, found.confidence, atol=1e-4)


@needs_model
@pytest.mark.parametrize("hw", [(1, 1), (1, 3000), (2000, 2), (31, 33)], ids=str)
def test_the_shipped_model_takes_images_of_any_shape(
    shipped: OnnxDetector, hw: tuple[int, int]
) -> None:
    found = shipped.detect(np.zeros((*hw, 3), np.uint8), min_confidence=0.25)
    assert found.xyxy.shape == (len(found), 4)


# The second look. The first sees a box of 24 px at 30, 15 in `IMAGE`, in an input of 64 by 32. A
# cut-out is 256 by 256, so that a model which counts what it sees can answer it otherwise.


def seen_by_size(folder: Path, first: Rows, second: Rows) -> Path:
    """A model that gives `first` for the whole image and `second` for each cut-out."""
    rows = max(len(first), len(second))
    answers = [[*each, *[[0.0] * 5] * (rows - len(each))] for each in (first, second)]
    array = np.concatenate([raw(each) for each in answers])
    nodes = [
        helper.make_node("Shape", ["images"], ["height"], start=2, end=3),
        helper.make_node("Constant", [], ["large"], value_ints=[200]),
        helper.make_node("GreaterOrEqual", ["height", "large"], ["cut out"]),
        helper.make_node("Cast", ["cut out"], ["row"], to=TensorProto.INT64),
        helper.make_node("Gather", ["answer", "row"], ["output0"], axis=0),
    ]
    return save(folder, array, METADATA, nodes=nodes)


def red_cells(folder: Path, *, cell: int = 8) -> Path:
    """A model that finds a plate in each cell of its input which is red all over.

    Its output is raw: a box of the cell's size for every cell, as sure as the cell's reddest part
    is, and none where the cell is anything but red.
    """
    sides = [cell, cell]
    nodes = [
        helper.make_node("Split", ["images"], ["red", "green", "blue"], axis=1, num_outputs=3),
        helper.make_node("Max", ["green", "blue"], ["other"]),
        helper.make_node("Sub", ["red", "other"], ["redness"]),
        helper.make_node("AveragePool", ["redness"], ["means"], kernel_shape=sides, strides=sides),
        helper.make_node("Clip", ["means", "zero", "one"], ["shares"]),
        helper.make_node("Sub", ["shares", "shares"], ["zeros"]),
        helper.make_node("Add", ["zeros", "one"], ["ones"]),
        # centres: the running number of the cell, in cells, less half of one
        helper.make_node("CumSum", ["ones", "across"], ["columns"]),
        helper.make_node("CumSum", ["ones", "down"], ["rows"]),
        helper.make_node("Mul", ["columns", "side"], ["right"]),
        helper.make_node("Mul", ["rows", "side"], ["bottom"]),
        helper.make_node("Sub", ["right", "half"], ["x"]),
        helper.make_node("Sub", ["bottom", "half"], ["y"]),
        helper.make_node("Mul", ["ones", "side"], ["w"]),
        helper.make_node("Concat", ["x", "y", "w", "w", "shares"], ["grid"], axis=1),
        helper.make_node("Reshape", ["grid", "flat"], ["output0"]),
    ]
    path = save(folder, 0.0, METADATA, nodes=nodes)
    model = onnx.load(path)
    model.opset_import[0].version = 18
    numbers = {
        "zero": np.float32(0),
        "one": np.float32(1),
        "side": np.float32(cell),
        "half": np.float32(cell / 2),
        "across": np.int64(3),
        "down": np.int64(2),
        "flat": np.array([0, 5, -1], np.int64),
    }
    model.graph.initializer.extend(
        [numpy_helper.from_array(np.asarray(value), name) for name, value in numbers.items()]
    )
    onnx.save(model, path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("at_xy", "effort"),
    [
        ((3, 5), "default"),
        ((201, 150), "default"),
        ((480, 250), "default"),
        ((940, 524), "default"),
        ((201, 150), "thorough"),
    ],
    ids=["first tile", "middle", "across", "last corner", "thorough"],
)
def test_a_plate_too_small_for_one_look_is_found_where_it_lies(
    tmp_path: Path, at_xy: tuple[int, int], effort: Effort
) -> None:
    """The photo is 15 times as large as the input: in one look a plate of 16 px is nothing."""
    image = np.full((540, 960, 3), 90, np.uint8)
    x, y = at_xy
    image[y : y + 16, x : x + 20] = (255, 0, 0)
    detector = OnnxDetector(red_cells(tmp_path), second_look=False)
    assert len(detector.detect(image, min_confidence=0.3, effort="fast")) == 0
    found = detector.detect(image, min_confidence=0.3, effort=effort, smallest_plate_px=6)
    assert len(found) >= 1
    assert found.searched is not None
    assert found.searched.looks > 50
    assert found.searched.smallest_plate_px <= 6
    for box in found.xyxy:
        assert (box[:2] <= [x + 20, y + 16]).all()
        assert (box[2:] >= [x, y]).all()


@pytest.mark.parametrize("turn", [0, 1, 2, 3])
def test_what_a_turned_look_finds_lies_in_the_upright_image(tmp_path: Path, turn: int) -> None:
    """A cell at the input's right edge is at another side of the image for each turn."""
    image = np.full((64, 64, 3), 90, np.uint8)
    corner = {0: np.s_[:8, 56:], 1: np.s_[56:, 56:], 2: np.s_[56:, :8], 3: np.s_[:8, :8]}[turn]
    image[corner] = (255, 0, 0)
    seen: list[Any] = []
    detector = OnnxDetector(red_cells(tmp_path), second_look=False)
    run = detector._run
    detector._run = lambda batch: seen.append(batch) or run(batch)  # type: ignore[func-returns-value]
    xyxy = detector.detect(image, min_confidence=0.9, effort="thorough").xyxy
    rows, columns = corner
    left, top = columns.start or 0, rows.start or 0
    assert any(np.allclose(box, [left, top, left + 8, top + 8]) for box in xyxy)
    assert (xyxy[:, :2] >= [left - 1, top - 1]).all()
    assert (xyxy[:, 2:] <= [left + 9, top + 9]).all()
    whole = [batch for batch in seen if batch.shape[2:] == (64, 64)]
    # the turned copy has the corner at the top right of the input
    assert any(batch[0, 0, :8, 56:].min() > 0.9 for batch in whole)


def test_thorough_never_hides_less_than_the_default(tmp_path: Path) -> None:
    """The copy turned by 180 degrees shows a surer box that ends two rows before the plate does."""
    image = np.full((62, 64, 3), 90, np.uint8)
    image[6:14, 16:24] = (255, 0, 0)
    image[14:16, 16:24] = (255, 128, 128)
    detector = OnnxDetector(red_cells(tmp_path), second_look=False)
    usual = detector.detect(image, min_confidence=0.5)
    thorough = detector.detect(image, min_confidence=0.5, effort="thorough")
    assert usual.xyxy.tolist() == [[16, 8, 24, 16]]
    assert thorough.xyxy.tolist() == [[16, 6, 24, 16]]
    assert thorough.confidence[0] > usual.confidence[0]


def with_near(folder: Path, found: Rows, near: Rows) -> Path:
    """Write a model that finds one thing, and beside it its network for near plates."""
    path = save(folder, raw(near), METADATA)
    path.rename(folder / "tiny-near.onnx")
    return save(folder, raw(found), METADATA)


FAR: Rows = [[20, 16, 4, 4, 0.9]]
NEAR_ONE: Rows = [[20, 8, 16, 8, 0.7]]  # in the input of 32 px that the second network gets


def test_the_network_for_near_plates_adds_what_it_finds(tmp_path: Path) -> None:
    detector = first_look(with_near(tmp_path, FAR, NEAR_ONE))
    found = detector.detect(IMAGE, min_confidence=0.3)
    fast = detector.detect(IMAGE, min_confidence=0.3, effort="fast")
    assert found.searched is not None
    assert found.searched.looks == 3
    assert len(fast) == 1
    assert np.allclose(found.xyxy[0], fast.xyxy[0])  # the surer one stays as it is
    assert np.allclose(found.xyxy[1], [36, 12, 84, 36])
    assert found.confidence.tolist() == pytest.approx([0.9, 0.7])
    assert len(detector.detect(IMAGE, min_confidence=0.8)) == 1


def test_the_network_for_near_plates_may_be_anywhere(tmp_path: Path) -> None:
    (tmp_path / "beside").mkdir()
    near = near_model(with_near(tmp_path / "beside", FAR, NEAR_ONE))
    alone = save(tmp_path, raw(FAR), METADATA)
    assert near is not None
    assert near_model(alone) is None
    assert len(first_look(alone).detect(IMAGE, min_confidence=0.3)) == 1
    both = OnnxDetector(alone, second_look=False, near=near)
    assert len(both.detect(IMAGE, min_confidence=0.3)) == 2
    with pytest.raises(ModelError, match="nothere"):
        OnnxDetector(alone, near=tmp_path / "nothere.onnx")


def test_the_network_for_near_plates_finds_no_far_ones(tmp_path: Path) -> None:
    small = [[20, 8, 2.4, 1, 0.9]]  # 0.075 of the photo's width
    detector = first_look(with_near(tmp_path, FAR, small))
    assert len(detector.detect(IMAGE, min_confidence=0.3)) == 1


def test_the_network_for_near_plates_takes_nothing_away(tmp_path: Path) -> None:
    """Where it sees less of a plate, less surely, the box stays as it was."""
    found: Rows = [[20, 16, 20, 12, 0.9]]
    less: Rows = [[10, 8, 8, 4, 0.5]]
    alone = first_look(save(tmp_path, raw(found), METADATA)).detect(IMAGE, min_confidence=0.3)
    both = first_look(with_near(tmp_path, found, less)).detect(IMAGE, min_confidence=0.3)
    assert both.xyxy.tolist() == alone.xyxy.tolist()
    assert both.confidence.tolist() == alone.confidence.tolist()


@pytest.mark.parametrize(("sure", "reaches_over"), [(0.8, False), (0.95, True)])
def test_a_plate_that_it_is_surer_of_gets_a_box_over_both(
    tmp_path: Path, sure: float, reaches_over: bool
) -> None:
    found: Rows = [[20, 16, 20, 12, 0.9]]
    larger: Rows = [[10, 8, 12, 6, sure]]  # of 36 x 18 px around the same middle
    alone = first_look(save(tmp_path, raw(found), METADATA)).detect(IMAGE, min_confidence=0.3)
    both = first_look(with_near(tmp_path, found, larger)).detect(IMAGE, min_confidence=0.3)
    assert len(both) == len(alone)
    assert alone.xyxy[0].tolist() == [15, 15, 45, 33]
    row = both.xyxy[both.confidence.argmax()].tolist()
    assert row == ([12, 15, 48, 33] if reaches_over else [15, 15, 45, 33])


UNSURE: Rows = [[20, 10, 16, 8, 0.7]]
THERE_IF_40_PX: Rows = [[128, 128, 40, 20, 0.3]]  # in the cut-out that shows the plate 40 px wide
THERE_IF_144_PX: Rows = [[128, 128, 144, 72, 0.3]]
BESIDE: Rows = [[40, 40, 40, 20, 0.9], [220, 220, 144, 72, 0.9]]
HARDLY: Rows = [[128, 128, 40, 20, 0.05], [128, 128, 144, 72, 0.09]]


@pytest.mark.parametrize(
    ("second", "confidence"),
    [
        (THERE_IF_40_PX, 0.7),
        (THERE_IF_144_PX, 0.7),
        ([*BESIDE, *THERE_IF_144_PX], 0.7),
        (HARDLY, 0.35),
        (BESIDE, 0.35),
        ([], 0.35),
    ],
    ids=["small", "large", "among others", "hardly", "beside it", "nothing"],
)
def test_an_unsure_plate_counts_half_unless_it_is_seen_at_another_size(
    tmp_path: Path, second: Rows, confidence: float
) -> None:
    path = seen_by_size(tmp_path, UNSURE, second)
    found = OnnxDetector(path).detect(IMAGE, min_confidence=0.1, effort="fast")
    assert found.confidence.tolist() == pytest.approx([confidence])
    assert np.allclose(found.xyxy, [[18, 9, 42, 21]])
    kept = OnnxDetector(path).detect(IMAGE, min_confidence=0.5, effort="fast")
    assert len(kept) == (confidence >= 0.5)
    assert len(first_look(path).detect(IMAGE, min_confidence=0.5, effort="fast")) == 1


# The second look shows the box, 24 px wide, 40, 64, 144, 32 and 96 px wide. A box that the model
# sees 32 px wide is on the plate at 32 and 40, one of 64 at 64 and 96, one of 144 at 144 and 96.


def seen_at(**confidences: float) -> Rows:
    """What the model finds in the middle of a cut-out, by width: w32=0.9."""
    widths = {int(name[1:]): confidence for name, confidence in confidences.items()}
    return [[128.0, 128, width, width / 2, one] for width, one in widths.items()]


@pytest.mark.parametrize(
    ("first", "second", "confidence"),
    [
        (0.1, seen_at(w32=0.9, w144=0.7), 0.7),
        (0.1, seen_at(w32=0.6, w64=0.8), 0.6),
        (0.1, seen_at(w32=0.95, w144=0.92), 0.92),
        (0.3, seen_at(w64=0.8), 0.3),
        (0.3, seen_at(w32=0.9), 0.3),
        (0.3, seen_at(w32=0.05, w144=0.05), 0.15),
        (0.1, [], 0.1),
        (0.04, seen_at(w32=0.9, w144=0.7), None),
        (0.6, seen_at(w32=0.9, w144=0.7), 0.6),
    ],
    ids=[
        *("four sizes", "four others", "sure ones", "two sizes", "two others", "none"),
        *("none and low", "too low to be looked at", "hidden already"),
    ],
)
def test_a_small_plate_is_raised_to_what_three_sizes_agree_on(
    tmp_path: Path, first: float, second: Rows, confidence: float | None
) -> None:
    path = seen_by_size(tmp_path, [[20, 10, 16, 8, first]], second)
    found = OnnxDetector(path).detect(IMAGE, min_confidence=0.05, effort="fast")
    expected = [] if confidence is None else [pytest.approx(confidence, abs=0.01)]
    assert found.confidence.tolist() == expected


def test_a_plate_that_was_seen_large_is_not_raised(tmp_path: Path) -> None:
    """24 px high in the input: a zoom shows nothing that the first look did not."""
    large: Rows = [[30, 16, 48, 24, 0.3]]
    path = seen_by_size(tmp_path, large, seen_at(w32=0.9, w144=0.7))
    found = OnnxDetector(path).detect(IMAGE, min_confidence=0.05, effort="fast")
    assert found.confidence.tolist() == pytest.approx([0.3])


@pytest.mark.parametrize(
    ("image_hw", "effort", "is_raised"),
    [((48, 96), "fast", True), ((32, 64), "fast", False), ((32, 64), "thorough", True)],
    ids=["shown smaller", "shown as it is", "asked to look hard"],
)
def test_a_plate_is_raised_where_enlarging_shows_more(
    tmp_path: Path, image_hw: tuple[int, int], effort: Effort, is_raised: bool
) -> None:
    path = seen_by_size(tmp_path, [[20, 10, 16, 8, 0.1]], seen_at(w32=0.9, w144=0.7))
    found = OnnxDetector(path).detect(street(*image_hw), min_confidence=0.05, effort=effort)
    assert (found.confidence.max() > 0.6) == is_raised


def test_what_is_raised_does_not_depend_on_what_is_asked_for(tmp_path: Path) -> None:
    second = seen_at(w32=0.9, w144=0.7)
    detector = OnnxDetector(seen_by_size(tmp_path, [[20, 10, 16, 8, 0.1]], second))
    for asked in (0.05, 0.45, 0.7 - 1e-6):
        found = detector.detect(IMAGE, min_confidence=asked, effort="fast")
        assert found.confidence.tolist() == pytest.approx([0.7])


@pytest.mark.parametrize(
    ("row", "again", "becomes"),
    [
        ([20, 10, 16, 8, 0.7], 0.9, "second"),
        ([20, 10, 16, 8, 0.95], 0.9, "second"),
        ([20, 10, 16, 8, 0.95], 0.4, "first"),
        ([30, 16, 30, 24, 0.95], 0.9, "first"),
        ([30, 16, 30, 24, 0.7], 0.9, "both"),
    ],
    ids=["unsure", "sure", "not sure again", "seen large", "seen large and unsure"],
)
def test_a_box_that_was_seen_small_moves_and_a_large_unsure_one_reaches_over_both(
    tmp_path: Path, row: list[float], again: float, becomes: str
) -> None:
    """The second look sees the plate twice as wide as high, an eighth further right."""
    x, y, width, height = (1.5 * side for side in row[:4])
    path = seen_by_size(tmp_path, [row], [[128 + 8, 128, 64, 32, again]])
    (box,) = OnnxDetector(path).detect(IMAGE, min_confidence=0.3, effort="fast").xyxy
    first = np.array([x - width / 2, y - height / 2, x + width / 2, y + height / 2])
    wide = max(width, 2 * height)
    second = np.array([x - wide * 3 / 8, y - wide / 4, x + wide * 5 / 8, y + wide / 4])
    both = np.hstack([np.minimum(first, second)[:2], np.maximum(first, second)[2:]])
    expected = {"first": first, "second": second, "both": both}[becomes]
    assert box.tolist() == pytest.approx(expected.tolist(), abs=0.6)


@pytest.mark.parametrize("confidence", [0.95, 0.9, 0.19], ids=["sure", "at the edge", "too unsure"])
def test_sure_boxes_and_those_that_are_never_blurred_stay_as_they_are(
    tmp_path: Path, confidence: float
) -> None:
    told = float(np.float32(confidence) + np.float32(1e-6))
    path = seen_by_size(tmp_path, [[20, 10, 16, 8, told]], [])
    found = OnnxDetector(path).detect(IMAGE, min_confidence=0.1, effort="fast")
    assert found.confidence.tolist() == pytest.approx([confidence], abs=1e-5)


def test_an_unsure_plate_that_fills_the_photo_is_left_as_it_is(tmp_path: Path) -> None:
    """Zoomed out it has grey around it, and no photo of a sign alone is worth a readable plate."""
    for width, confidence in ((33, 0.7), (31, 0.35)):
        path = seen_by_size(tmp_path, [[32, 16, width, 24, 0.7]], [])
        found = OnnxDetector(path).detect(IMAGE, min_confidence=0.1, effort="fast")
        assert found.confidence.tolist() == pytest.approx([confidence])


def test_what_counts_half_goes_behind_what_counts_whole(tmp_path: Path) -> None:
    path = seen_by_size(tmp_path, [[20, 10, 16, 8, 0.8], [50, 25, 10, 4, 0.95]], [])
    found = OnnxDetector(path).detect(IMAGE, min_confidence=0.1, effort="fast")
    assert found.confidence.tolist() == pytest.approx([0.95, 0.4])
    assert found.xyxy[0, 0] > found.xyxy[1, 0]


def test_of_a_crowd_the_rest_stays_hidden(tmp_path: Path) -> None:
    crowd: Rows = [[1.0 + 2 * i, 2.0 + 4 * j, 1, 1, 0.6] for i in range(30) for j in range(4)]
    path = seen_by_size(tmp_path, crowd, [])
    found = OnnxDetector(path).detect(street(64, 64), min_confidence=0.1, effort="fast")
    assert len(found) == len(crowd)
    assert int((found.confidence < 0.5).sum()) == MOST_LOOKS


def test_a_second_look_that_fails_is_an_error_and_no_plate_let_through(tmp_path: Path) -> None:
    path = seen_by_size(tmp_path, UNSURE, [[128, 128, 40, 20, float("nan")]])
    with pytest.raises(DetectionError, match="NaN"):
        OnnxDetector(path).detect(IMAGE, min_confidence=0.25, effort="fast")
