"""Models on NVIDIA devices, for which the CPU stands in: a session for each shape of input."""

from __future__ import annotations

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper
from onnxruntime.capi import onnxruntime_pybind11_state as ort

from plateblur import drawn, engines
from plateblur.detector import OnnxDetector, shipped_model
from plateblur.engines import NVIDIA, PROVIDERS, Device, Run
from plateblur.errors import DetectionError, ModelError
from plateblur.types import Detections, Image

FIRST_HW = (16, 32)
pytestmark = pytest.mark.slow  # it opens many sessions
needs_model = pytest.mark.skipif(not shipped_model().exists(), reason="no model is shipped")


class Watched:
    """A session on the CPU that notes the shape of each input it was given."""

    def __init__(self, session: onnxruntime.InferenceSession, gpu: Gpu) -> None:
        self._session = session
        self._gpu = gpu
        self.shapes: list[tuple[int, ...]] = []

    def get_inputs(self) -> Any:
        return self._session.get_inputs()

    def run(self, names: Any, inputs: dict[str, NDArray[np.float32]]) -> Any:
        if self._gpu.open_sessions() > self._gpu.runs_room:
            raise ort.RuntimeException("out of memory")
        self.shapes.append(next(iter(inputs.values())).shape)
        return self._session.run(names, inputs)


class Gpu:
    """A GPU that the CPU stands in for.

    Attributes:
        shapes: of the inputs that each session was given, in the order in which they were opened.
        room: for so many sessions at a time.
        runs_room: so many may be open while one runs.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.shapes: list[list[tuple[int, ...]]] = []
        self.room = self.runs_room = 100
        self._sessions: list[weakref.ref[Watched]] = []
        self._opened = engines.open_session
        monkeypatch.setattr(engines, "open_session", self._open_session)
        monkeypatch.setattr(
            onnxruntime, "get_available_providers", lambda: list(PROVIDERS.values())
        )

    def _open_session(self, model: Path, *, threads: int | None, device: Device = "cpu") -> Any:
        session = self._opened(model, threads=threads)
        if device == "cpu":
            return session
        if self.open_sessions() >= self.room:
            raise ModelError("out of memory")
        watched = Watched(session, self)
        self.shapes.append(watched.shapes)
        self._sessions.append(weakref.ref(watched))
        return watched

    def open_sessions(self) -> int:
        """Return how many sessions haven't been closed."""
        gc.collect()
        return sum(session() is not None for session in self._sessions)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    return Gpu(monkeypatch)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model that answers each image with the means of its squares of 4 x 4 pixels."""
    images = helper.make_tensor_value_info(
        "images", TensorProto.FLOAT, ["batch", 3, "height", "width"]
    )
    output = helper.make_tensor_value_info("output0", TensorProto.FLOAT, None)
    sides = [4, 4]
    pool = helper.make_node(
        "AveragePool", ["images"], ["output0"], kernel_shape=sides, strides=sides
    )
    graph = helper.make_graph([pool], "means", [images], [output])
    path = tmp_path / "means.onnx"
    opset = helper.make_opsetid("", 17)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), path)
    return path


def run_on(device: Device, model: Path) -> Run:
    return engines.open_engine(
        model,
        engines.open_session(model, threads=1),
        engine="onnxruntime",
        device=device,
        threads=1,
        tried_hws=[FIRST_HW],
    ).run


def noise(count: int, height: int, width: int) -> NDArray[np.float32]:
    shape = (count, 3, height, width)
    return np.random.default_rng(count).random(shape, np.float32)


@pytest.mark.parametrize("device", NVIDIA)
def test_each_shape_has_a_session_that_sees_no_other(gpu: Gpu, model: Path, device: Device) -> None:
    run, expected = run_on(device, model), run_on("cpu", model)
    inputs = [noise(1, *FIRST_HW), noise(1, 32, 16), noise(2, 16, 16), noise(1, 16, 16)]
    for batch in inputs * 3:
        np.testing.assert_array_equal(run(batch), expected(batch))
    assert [set(shapes) for shapes in gpu.shapes] == [{batch.shape} for batch in inputs]


@pytest.mark.parametrize("device", ["directml", "coreml"])
def test_other_devices_have_one_session_for_every_shape(
    gpu: Gpu, model: Path, device: Device
) -> None:
    run = run_on(device, model)
    for count in (1, 3, 8):
        assert len(run(noise(count, 16, 16))) == count
    assert [shape[0] for shape in gpu.shapes[0]] == [1, 1, 3, 8]
    assert len(gpu.shapes) == 1


@pytest.mark.parametrize(
    ("count", "run_as"), [(1, 1), (2, 2), (3, 4), (4, 4), (5, 8), (7, 8), (8, 8), (9, 9)]
)
def test_a_batch_is_filled_up_and_the_answers_to_the_filling_are_dropped(
    gpu: Gpu, model: Path, count: int, run_as: int
) -> None:
    run, batch = run_on("cuda", model), noise(count, 16, 16)
    before = batch.copy()
    np.testing.assert_array_equal(run(batch), run_on("cpu", model)(batch))
    np.testing.assert_array_equal(batch, before)
    assert gpu.shapes[-1] == [(run_as, 3, 16, 16)]


def test_batches_of_any_size_need_few_sessions(gpu: Gpu, model: Path) -> None:
    run = run_on("cuda", model)
    for count in range(1, engines.GPU_BATCH + 1):
        run(noise(count, *FIRST_HW))
    assert len(gpu.shapes) == len(engines.NVIDIA_BATCHES)


def test_the_session_that_was_unused_the_longest_is_closed(
    gpu: Gpu, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "KEPT_SHAPES", 2)
    run = run_on("cuda", model)
    first, second, third = noise(1, *FIRST_HW), noise(1, 16, 16), noise(1, 32, 32)
    for batch in (second, first, third, first, third):
        run(batch)
        assert gpu.open_sessions() <= 2
    assert len(gpu.shapes) == 3  # the first was in use all the time
    run(second)
    assert len(gpu.shapes) == 4
    assert gpu.open_sessions() == 2


def test_threads_share_the_sessions(gpu: Gpu, model: Path) -> None:
    run = run_on("cuda", model)
    inputs = [noise(count, side, side) for count in (1, 3) for side in (16, 32, 48)]
    expected = [run_on("cpu", model)(batch) for batch in inputs]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(run, inputs * 20))
    for answer, known in zip(answers, expected * 20, strict=True):
        np.testing.assert_array_equal(answer, known)
    assert len(gpu.shapes) == 1 + len(inputs)  # one for the input that the device was tried on


def test_a_session_that_cant_be_opened_later_on_fails_the_photo_and_not_the_next(
    gpu: Gpu, model: Path
) -> None:
    run = run_on("cuda", model)
    gpu.room = 0
    with pytest.raises(DetectionError, match=r"\(4, 3, 16, 16\)"):
        run(noise(3, 16, 16))
    gpu.room = 1
    assert len(run(noise(3, 16, 16))) == 3


@pytest.mark.parametrize("which", ["room", "runs_room"])
def test_where_memory_is_short_the_other_sessions_are_closed(
    gpu: Gpu, model: Path, which: str
) -> None:
    run, expected = run_on("cuda", model), run_on("cpu", model)
    setattr(gpu, which, 2)
    for batch in [noise(1, 16, 16), noise(1, 32, 32), noise(1, 48, 48)] * 2:
        np.testing.assert_array_equal(run(batch), expected(batch))
        assert gpu.open_sessions() <= 2


def test_libraries_are_loaded_once_because_loading_takes_what_others_print(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loads: list[int] = []
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: loads.append(1))
    engines._load_cuda.cache_clear()
    for _ in range(2):
        assert engines._load_cuda() == ""
    engines._load_cuda.cache_clear()
    assert len(loads) == 1


def test_what_a_batch_should_not_answer_stays_an_error(
    gpu: Gpu, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A filled batch that gets too few or too many answers must not look as if it got enough."""
    run = run_on("cuda", model)
    for answers in (1, 3, 5):
        monkeypatch.setattr(
            Watched, "run", lambda *_, n=answers: [np.zeros((n, 3, 4, 4), np.float32)]
        )
        assert len(run(noise(3, 16, 16))) != 3


@needs_model
def test_photos_of_several_shapes_are_searched_as_on_the_cpu(gpu: Gpu) -> None:
    on_gpu, on_cpu = OnnxDetector.shipped(device="cuda"), OnnxDetector.shipped(threads=2)
    wide = drawn.draw_scene(3, image_hw=(270, 480), plates=1, ratios=(1 / 12, 1 / 8)).image
    tall = np.ascontiguousarray(wide[:, 100:300])

    def search(detector: OnnxDetector, photo: Image) -> Detections:
        return detector.detect(photo, min_confidence=0.01)

    expected = [search(on_cpu, photo) for photo in (wide, tall)]
    assert len(expected[0]) > 0
    for photo, known in zip((wide, tall, wide), (*expected, expected[0]), strict=True):
        found = search(on_gpu, photo)
        np.testing.assert_allclose(found.xyxy, known.xyxy, atol=1e-2)
        np.testing.assert_allclose(found.confidence, known.confidence, atol=1e-4)
    assert all(len(set(shapes)) == 1 for shapes in gpu.shapes)
    assert sum(map(len, gpu.shapes)) > len(gpu.shapes)
