"""What runs the model: ONNX Runtime or OpenVINO, on a CPU or a GPU; engines are imported here."""

from __future__ import annotations

import io
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as ort

from plateblur.cores import cores
from plateblur.errors import DetectionError, ModelError

Engine = Literal["auto", "onnxruntime", "openvino", "openvino-int8"]
"""What runs the model; "auto" tries those that are there, and takes the fastest.

"openvino-int8" runs the model's version in 8-bit integers, the file `int8_model` beside it.
"""

Device = Literal["auto", "cpu", "cuda", "tensorrt", "directml", "coreml"]
"""Where; "auto" takes a GPU through CUDA where ONNX Runtime has one, and the CPU otherwise."""

PROVIDERS: dict[str, str] = {  # Source: ONNX Runtime's names of them.
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "directml": "DmlExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
}
NVIDIA = ("cuda", "tensorrt")

CUDA_OPTIONS = {
    # As the CPU computes. TF32, the default, keeps 10 of 23 bits, which moves confidences.
    "use_tf32": "0",
    # The default takes eight times as long to plan a new shape of input, on an H200 with version
    # 1.29. Source: sgl-project/sglang-omni, pull request 2176.
    "cudnn_conv_algo_search": "HEURISTIC",
    # Many sessions share the GPU, so each takes what it needs, not the next power of two.
    "arena_extend_strategy": "kSameAsRequested",
}

CPU_INFO = Path("/proc/cpuinfo")  # Linux alone has it

TRIES = 5  # of each engine where the fastest is to be taken
GPU_BATCH = 8  # images at once; on a CPU a batch takes as long as its images one by one
NVIDIA_BATCHES = (1, 2, 4, GPU_BATCH)  # a batch in between is filled up, so that shapes are few
# Shapes of inputs that have a session on an NVIDIA device. Source: 148 photos of val, every fourth,
# of all sizes: 31 shapes, and of 343 runs 332 had another one than the run before.
KEPT_SHAPES = 32

# OpenVINO prepares a model again whenever the input's shape differs from that of the run before, as
# it does within each photo: 6 ms a run on our test machine. A model compiled for one shape alone
# needs none of that, but 1.2 s to compile, so a shape gets one after as many runs as that costs.
OWN_FROM, MOST_OWN = 200, 16  # runs of a shape, and shapes

# onnxruntime's errors share no base but Exception.
_ORT_ERRORS = (
    *(ort.Fail, ort.InvalidArgument, ort.NoSuchFile, ort.NoModel, ort.EngineError),
    *(ort.RuntimeException, ort.InvalidProtobuf, ort.NotImplemented, ort.InvalidGraph, ort.EPFail),
    *(ort.ModelLoadCanceled, ort.ModelLoaded, ort.ModelRequiresCompilation, ort.NotFound),
    *(ort.DeviceReset, RuntimeError, ValueError, MemoryError),
)

Session: TypeAlias = onnxruntime.InferenceSession
Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""What a model answers to a batch of images, (N, 3, H, W) float32."""


@dataclass(frozen=True, slots=True)
class Running:
    """A model that is ready to run.

    Attributes:
        run: raises `DetectionError` where the engine fails.
        engine: which one was taken.
        device: where it runs.
        batch: how many images it takes at once.
    """

    run: Run
    engine: Engine
    device: Device
    batch: int


def open_engine(
    model: Path,
    session: Session,
    *,
    engine: Engine,
    device: Device,
    threads: int | None,
    tried_hws: Sequence[tuple[int, int]],
) -> Running:
    """Return a model on the engine and the device that were asked for.

    Args:
        model: an ONNX file.
        session: of that file on the CPU.
        engine: "auto" tries those that are installed, and takes the fastest.
        device: what isn't there is an error, never the CPU instead; "auto" takes a GPU or the CPU.
        threads: of one call; None leaves it to the engine.
        tried_hws: heights and widths of inputs as they follow one another in a photo, pixels; a
            device is tried on the first, engines on all.

    Raises:
        ModelError: an engine or a device isn't there, or can't take the model.
        ValueError: no such engine or device.
    """
    if engine not in get_args(Engine):
        raise ValueError(f"engine must be one of {get_args(Engine)}, got {engine!r}")
    if device not in get_args(Device):
        raise ValueError(f"device must be one of {get_args(Device)}, got {device!r}")
    is_openvino = engine in ("openvino", "openvino-int8")
    if is_openvino and device not in ("auto", "cpu"):
        raise ModelError(f"engine {engine!r} runs on the CPU alone here, not on {device!r}")
    run = _onnxruntime(session)
    if device not in ("auto", "cpu"):
        run = _open_tried(model, threads=threads, device=device, tried_hw=tried_hws[0])
    elif device == "auto" and not is_openvino:
        run, device = _gpu_or(run, model, threads=threads, tried_hw=tried_hws[0])
    else:
        device = "cpu"
    runs: dict[Engine, Run] = {}
    if not is_openvino:
        runs["onnxruntime"] = run
    tries = engine == "auto" and device == "cpu" and find_spec("openvino") is not None
    if engine == "openvino" or tries:
        runs["openvino"] = _openvino(model, threads=threads)
    if engine == "openvino-int8" or (tries and int8_model(model).is_file()):
        runs["openvino-int8"] = _openvino_int8(model, session, threads=threads)
    name = _fastest(runs, tried_hws)
    return Running(runs[name], name, device, 1 if device == "cpu" else GPU_BATCH)


def open_session(model: Path, *, threads: int | None, device: Device = "cpu") -> Session:
    """Return a model that ONNX Runtime has loaded.

    Raises:
        ModelError: no such file, no ONNX model, or a device that isn't there.
    """
    if not model.is_file():
        raise ModelError(f"expected an ONNX model named {model.name}, found no such file")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = 3  # errors only; they are raised as well
    # Threads that wait by spinning save a tenth of a run that has all cores (benchmarks/naive.py).
    # After a run, or where others work beside it, they would take the cores from decoding.
    spins = threads is None
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spins)))
    options.add_session_config_entry("session.force_spinning_stop", "1")
    provider = PROVIDERS[device]
    if provider not in onnxruntime.get_available_providers():
        raise ModelError(
            f"device {device!r} needs an ONNX Runtime with {provider}, and the installed one has "
            f"none; docs/howto/gpu-and-openvino.md lists which package brings it"
        )
    missing = _load_cuda() if device in NVIDIA else ""
    try:
        session = onnxruntime.InferenceSession(
            model,
            options,
            providers=[(provider, CUDA_OPTIONS if device == "cuda" else {})],
            enable_fallback=0,  # else a failing device would be replaced by the CPU, even later on
        )
    except _ORT_ERRORS as error:
        expected = "an ONNX model in" if device == "cpu" else f"device {device!r} to run"
        raise ModelError(f"expected {expected} {model.name}: {_reason(error)}") from error
    if session.get_providers()[0] != provider:  # its library or the device isn't there
        raise ModelError(
            f"device {device!r} was asked for, and {provider} "
            + (f"can't load its libraries: {missing}" if missing else "found no such device")
        )
    return session


@cache  # once in a process: sessions are opened while other threads print
def _load_cuda() -> str:
    """Load CUDA's libraries where NVIDIA's packages bring them; return what was missing."""
    said = io.StringIO()
    with redirect_stdout(said):  # it prints, and a command's output is read by others
        onnxruntime.preload_dlls()
    return "; ".join(line for line in said.getvalue().splitlines() if line.startswith("Failed"))


def _open_tried(
    model: Path, *, threads: int | None, device: Device, tried_hw: tuple[int, int]
) -> Run:
    """Return a model on a GPU that has run once, because some libraries are loaded only then.

    Raises:
        ModelError: the device isn't there, or can't run the model.
    """
    if device in NVIDIA:
        run = _by_shape(model, device=device, first_hw=tried_hw)
    else:
        run = _onnxruntime(open_session(model, threads=threads, device=device))
    try:
        run(_grey(tried_hw))
    except DetectionError as error:
        reason = _reason(error.__cause__ or error)
        raise ModelError(f"expected device {device!r} to run {model.name}: {reason}") from error
    return run


def _reason(error: BaseException) -> str:
    """Return what an error of ONNX Runtime says, of one of CUDA without where it was raised."""
    text = str(error)
    return text[max(text.find("CUDA failure"), 0) :].partition(" ; ")[0]


def _onnxruntime(session: Session) -> Run:
    name = session.get_inputs()[0].name

    def run(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        try:
            output: NDArray[np.float32] = session.run(None, {name: batch})[0]
        except _ORT_ERRORS as error:
            raise DetectionError(f"the detector failed on an input {batch.shape}") from error
        return output

    return run


def _by_shape(model: Path, *, device: Device, first_hw: tuple[int, int]) -> Run:
    """Return a model on an NVIDIA device that plans its convolutions once for each shape of input.

    A session plans them again whenever the shape differs from that of the run before, however often
    it had it: ONNX Runtime 1.20 to 1.31 remembers one plan for each convolution (`last_x_dims` in
    its providers/cuda/nn/conv.cc), and none of its options changes that. So each shape gets a
    session of its own. The one that was unused the longest is closed where there would be too many,
    and all of them where a run fails, because they may have the memory that it needs.

    Args:
        model: an ONNX file.
        device: "cuda" or "tensorrt".
        first_hw: height and width of the first input, pixels; its session is opened now.

    Raises:
        ModelError: the device isn't there, or can't take the model.
    """
    lock = Lock()  # opens one session at a time; runs of a session wait in ONNX Runtime

    @lru_cache(KEPT_SHAPES)
    def opened(_shape: tuple[int, ...]) -> Run:
        # One thread is enough: on the CPU it only computes shapes.
        return _onnxruntime(open_session(model, threads=1, device=device))

    opened((1, 3, *first_hw))

    def answered(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        count = len(batch)
        missing = next((size for size in NVIDIA_BATCHES if size >= count), count) - count
        if missing:
            batch = np.concatenate([batch, np.zeros((missing, *batch.shape[1:]), np.float32)])
        try:
            with lock:
                session_run = opened(batch.shape)
        except ModelError as error:
            raise DetectionError(f"the detector failed on an input {batch.shape}") from error
        output = session_run(batch)
        return output[: len(output) - missing]

    def run(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        with suppress(DetectionError):  # the error itself would keep its session open
            return answered(batch)
        with lock:
            opened.cache_clear()
        return answered(batch)

    return run


def _gpu_or(
    run: Run, model: Path, *, threads: int | None, tried_hw: tuple[int, int]
) -> tuple[Run, Device]:
    """Return a model on a GPU through CUDA, or where there is none the one given, on the CPU."""
    if PROVIDERS["cuda"] in onnxruntime.get_available_providers():
        with suppress(ModelError):  # the package for GPUs, on a machine without one
            tried = _open_tried(model, threads=threads, device="cuda", tried_hw=tried_hw)
            return tried, "cuda"
    return run, "cpu"


def _grey(image_hw: tuple[int, int]) -> NDArray[np.float32]:
    """Return a batch of one grey image."""
    return np.full((1, 3, *image_hw), 0.5, np.float32)


def _fastest(runs: dict[Engine, Run], tried_hws: Sequence[tuple[int, int]]) -> Engine:
    """Return the name of the fastest engine; which that is depends on the CPU, so it is tried."""
    seconds = dict.fromkeys(runs, math.inf)
    if len(runs) > 1:
        greys = [_grey(one) for one in tried_hws]
        for _ in range(TRIES):  # in turn, so that a noisy moment hits all; the first warms up
            for name, run in runs.items():
                started = time.perf_counter()
                for grey in greys:
                    run(grey)
                seconds[name] = min(seconds[name], time.perf_counter() - started)
    return min(seconds, key=lambda each: seconds[each])


def int8_model(model: Path) -> Path:
    """Return where the version of a model in 8-bit integers is, if it has one."""
    return model.with_suffix(".int8.onnx")


def _openvino_int8(model: Path, session: Session, *, threads: int | None) -> Run:
    """Return the version of a model in 8-bit integers.

    Raises:
        ModelError: there is none, or it was made from another model.
    """
    small = int8_model(model)
    if not small.is_file():
        raise ModelError(
            f"engine 'openvino-int8' needs {small.name} beside {model.name}, which "
            "training/int8.py writes"
        )
    of, made_from = (
        one.get_modelmeta().custom_metadata_map.get("weights_sha256")
        for one in (session, open_session(small, threads=1))
    )
    if of is None or of != made_from:
        raise ModelError(
            f"expected {small.name} to be made from {model.name}, and its weights are others; "
            "write it again with training/int8.py"
        )
    return _openvino(small, threads=threads)


def _openvino(model: Path, *, threads: int | None) -> Run:
    try:
        import openvino
    except ImportError as error:
        raise ModelError("OpenVINO's engines need: pip install 'plateblur[openvino]'") from error
    config: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
    if threads:  # of one call; the other cores are for calls beside it, which else would queue
        streams = max(1, cores() // threads)
        config = {"NUM_STREAMS": streams, "INFERENCE_NUM_THREADS": streams * threads}
    if not _has_amx():
        # OpenVINO's choice is bf16 on each CPU that has it. Without AMX that is slower than float32
        # (benchmarks/engines.py), and less exact.
        config["INFERENCE_PRECISION_HINT"] = "f32"
    core = openvino.Core()
    try:
        for_any = core.compile_model(model, "CPU", config)
    except RuntimeError as error:
        raise ModelError(f"expected a model that OpenVINO can compile in {model.name}") from error
    own: dict[tuple[int, ...], openvino.CompiledModel] = {}
    counts: Counter[tuple[int, ...]] = Counter()
    lock = Lock()

    def compiled_for(shape: tuple[int, ...]) -> openvino.CompiledModel:
        with lock:  # one is compiled at a time, and the others wait for it
            counts[shape] += 1
            if counts[shape] == OWN_FROM and len(own) < MOST_OWN:
                network = core.read_model(model)
                network.reshape(list(shape))
                own[shape] = core.compile_model(network, "CPU", config)
        return own.get(shape, for_any)

    def run(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        try:
            # A request of its own for each call: requests are not to be shared by threads.
            results = compiled_for(batch.shape).create_infer_request().infer([batch])
        except RuntimeError as error:
            raise DetectionError(f"the detector failed on an input {batch.shape}") from error
        return np.array(results[0])

    return run


def _has_amx() -> bool:
    """Return whether the CPU multiplies matrices of bf16 fast; False where it can't be known."""
    return CPU_INFO.is_file() and "amx_bf16" in CPU_INFO.read_text().split()
