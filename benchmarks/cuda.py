"""What the detector finds through CUDA and on the CPU of the same machine, and how fast.

    python -m benchmarks.cuda --data DATA.yaml --overlay datasets/corrections/plates.jsonl

- found: photos of a split, decoded and searched as they are served, on both. A plate counts as
  hidden as in `benchmarks/looks.py`. Beside it, how far apart the boxes of both are, and what TF32
  finds, which ONNX Runtime would use by default. The same photos once more show what they cost when
  each shape has its session.
- one photo: a drawn photo of 1080p in a warm process, from bytes to bytes.
- many photos: such photos by as many workers as there are cores, as `plateblur blur` does it.
- one look: one run of the model at 896 x 512, alone and in a batch, and at shapes that it has not
  had before, with the options that we set and with others.

Each part is written when it is done; one that fails is written as failed, and the others go on.
Photos that aren't searched after `--most-seconds` are left out, and the results say how many were.
No part falls back to the CPU where CUDA fails. Nothing of the photos gets into the results.
TensorRT isn't tried. `--device cpu` is for a rehearsal without a GPU.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import importlib.metadata
import io
import json
import re
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeAlias
from unittest.mock import patch

import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image as PillowImage

from benchmarks.machine import machine
from plateblur import engines
from plateblur.boxes import iou_matrix
from plateblur.cores import cores, limit_opencv
from plateblur.detector import OnnxDetector, shipped_model
from plateblur.drawn.scene import draw_scene
from plateblur.engines import Device
from plateblur.photo import decode
from plateblur.pipeline import blur_photo, find_plates
from plateblur.runs.workers import done_in_order
from plateblur.second_look import LOOK_SIDE_PX
from plateblur.sets.corrections import read_corrections
from plateblur.sets.metrics import PhotoBoxes, score_photos
from plateblur.sets.split import LabelledPhoto, corrected_photo, read_split
from plateblur.types import BlurOptions, Detections, Image

Answers: TypeAlias = list[Detections | None]
"""What was found in each photo; None where it wasn't searched."""

RESULTS = Path(__file__).parent / "results" / "cuda.json"
OPTIONS = BlurOptions()
LOOK_HW = (512, 896)  # of the whole look at a 1080p photo
BATCHES = (1, engines.GPU_BATCH)
RUNS = 15  # of which the median counts, on a GPU
RUNS_ON_CPU = 6
NEW_SHAPES_HW = ((640, 896), (672, 896))
CUT_OUT_HW = (LOOK_SIDE_PX, LOOK_SIDE_PX)
MOST_MS = 8000.0  # for shapes that are new
SAME_IOU = 0.5
SCENES = 4
TF32 = {"use_tf32": "1"}
OTHERS = {  # options of the CUDA provider beside ours
    "TF32": TF32,
    "exhaustive search": {"cudnn_conv_algo_search": "EXHAUSTIVE"},
    "channels last": {"prefer_nhwc": "1"},
}
PACKAGES = (
    *("onnxruntime-gpu", "onnxruntime", "nvidia-cuda-runtime", "nvidia-cudnn-cu13"),
    *("nvidia-cublas", "numpy", "opencv-python-headless", "pillow", "simplejpeg"),
)


def main() -> None:
    """Read the command line, measure, and write the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="data.yaml of a YOLO data set")
    parser.add_argument("--overlay", type=Path, help="corrections of labels")
    parser.add_argument("--split", default="val")
    parser.add_argument("--every", type=int, default=1, help="take every n-th photo")
    parser.add_argument("--photos", type=int, default=128, help="drawn photos of many photos")
    parser.add_argument("--most-seconds", type=float, default=90.0, help="of a search of the split")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    device: Device = given.device
    corrections = read_corrections(given.overlay)
    labelled = [
        replace(photo, truth=corrected_photo(photo, corrections).truth)
        for photo in read_split(given.data, given.split)[:: given.every]
    ]
    gpu = Gpu()
    results: dict[str, Any] = {
        "machine": machine(),
        "gpu": gpu.name,
        "split": f"{given.split}, one photo of {given.every}" if given.every > 1 else given.split,
    }
    answers: Answers = [None] * len(labelled)
    most_s = given.most_seconds
    outputs: dict[int, NDArray[np.float32]] = {}
    parts: dict[str, Callable[[], Any]] = {
        "opening": lambda: opening(device, gpu),
        "software": software,
        "found on cpu": lambda: found(labelled, "cpu", answers, most_s),
        f"found on {device}": lambda: found(labelled, device, answers, most_s),
        "one photo": lambda: one_photo(device),
        "many photos": lambda: many_photos(device, given.photos, gpu),
        "one look on cpu": lambda: one_look("cpu", outputs),
        f"one look on {device}": lambda: one_look(device, outputs),
    }
    if device == "cuda":
        parts["found on cuda in TF32"] = lambda: found(labelled, device, answers, most_s, TF32)
        parts |= {
            f"one look on cuda, {name}": partial(one_look, device, outputs, options)
            for name, options in OTHERS.items()
        }
    failed = []
    for name, measure in parts.items():
        started = time.perf_counter()
        try:
            results[name] = measure()
        except Exception as error:  # noqa: BLE001 - the other parts are still worth having
            failed.append(name)
            results[name] = {"failed": f"{type(error).__name__}: {error}"}
            traceback.print_exc()
        given.results.write_text(json.dumps(results, indent=2) + "\n")
        seconds = time.perf_counter() - started
        print(json.dumps({name: results[name]}, indent=2), f"{seconds:.1f} s", flush=True)
        gc.collect()  # a session keeps its memory as long as it is there
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def opening(device: Device, gpu: Gpu) -> Any:
    """Return what runs the model where, how long it takes to open, and what memory it takes."""
    started = time.perf_counter()
    detector = detector_on(device)
    seconds = time.perf_counter() - started
    blur_each(drawn_photos(), detector)
    taken_mb = gpu.taken_mb()
    with tempfile.TemporaryDirectory() as folder:
        nodes = nodes_by_provider(device, Path(folder))
    return {
        "runs on": detector.runs_on,
        "device auto runs on": OnnxDetector.shipped(device="auto").runs_on,
        "seconds until ready": round(seconds, 2),
        "GPU memory after some 1080p photos one by one, MB": taken_mb,
        "nodes of the model by provider": nodes,
    }


def detector_on(device: Device, *, threads: int | None = None) -> OnnxDetector:
    """Return the shipped detector on a device, and on no other.

    Raises:
        RuntimeError: it runs elsewhere.
    """
    detector = OnnxDetector.shipped(device=device, threads=threads)
    if detector.runs_on != f"onnxruntime on {device}":
        raise RuntimeError(f"expected {device}, got {detector.runs_on}")
    return detector


def nodes_by_provider(device: Device, folder: Path) -> Mapping[str, int]:
    """Return how many nodes of the model each provider runs, as ONNX Runtime's profile has it."""
    options = onnxruntime.SessionOptions()
    options.enable_profiling = True
    options.profile_file_prefix = str(folder / "profile")
    provider = engines.PROVIDERS[device]
    session = onnxruntime.InferenceSession(shipped_model(), options, providers=[provider])
    session.run(None, {session.get_inputs()[0].name: scenes(1, LOOK_HW)})
    events = json.loads(Path(session.end_profiling()).read_text())
    nodes = Counter(
        event["args"]["provider"]
        for event in events
        if event["name"].endswith("_kernel_time") and event["args"].get("provider")
    )
    if provider not in nodes:
        raise RuntimeError(f"expected nodes on {provider}, got {dict(nodes)}")
    return nodes


# What is found


def found(
    photos: Sequence[LabelledPhoto],
    device: Device,
    known: Answers,
    most_s: float,
    options: Mapping[str, str] | None = None,
) -> Any:
    """Return what is hidden of the photos, and how it differs from what the CPU found.

    Args:
        photos: with their plates.
        device: what to look with.
        known: what the CPU found in each photo; the search on the CPU fills it.
        most_s: seconds after which no other photo is begun.
        options: of the CUDA provider, other than ours.
    """
    limit_opencv(1)
    workers = max(1, cores() // 2)
    table: dict[str, Any] = {"of photos": len(photos)}
    with patch.dict(engines.CUDA_OPTIONS, options or {}):
        detector = detector_on(device, threads=max(1, cores() // workers))
        answers, seconds = search(photos, detector, workers, most_s)
        searched = [answer for answer in answers if answer is not None]
        if device != "cpu" and len(searched) == len(photos):
            again, seconds_again = search(photos, detector, workers, most_s)
            done = sum(answer is not None for answer in again)
            table["photos a second, again"] = round(done / seconds_again, 1)
    table["photos a second"] = round(len(searched) / seconds, 1)
    if device == "cpu":
        known[:] = answers
    both = [
        (cpu, answer)
        for cpu, answer in zip(known, answers, strict=True)
        if cpu is not None and answer is not None
    ]
    return table | scores(photos, answers) | (differences(both) if device != "cpu" else {})


def search(
    photos: Sequence[LabelledPhoto], detector: OnnxDetector, workers: int, most_s: float
) -> tuple[Answers, float]:
    """Return what is found in each photo at the shipped defaults, and the seconds it took."""

    def find(photo: LabelledPhoto) -> Detections:
        return find_plates(
            decode(photo.path.read_bytes()), detector, min_confidence=OPTIONS.min_confidence
        )

    stopping = threading.Event()
    timer = threading.Timer(most_s, stopping.set)
    timer.daemon = True
    timer.start()
    started = time.perf_counter()
    done = done_in_order(photos, find, workers=workers, stopping=stopping)
    answers = [answer for _, answer in done]
    timer.cancel()
    return answers, time.perf_counter() - started


def scores(photos: Sequence[LabelledPhoto], answers: Answers) -> dict[str, Any]:
    """Return how many plates are hidden in the photos that were searched, and other boxes."""
    searched = [
        (photo, answer) for photo, answer in zip(photos, answers, strict=True) if answer is not None
    ]
    scored = score_photos(
        [
            PhotoBoxes(
                photo.image_hw,
                photo.truth,
                answer.xyxy.astype(np.float64),
                answer.confidence.astype(np.float64),
            )
            for photo, answer in searched
        ],
        min_confidence=OPTIONS.min_confidence,
        margin=OPTIONS.margin,
    )
    return {
        "photos": len(searched),
        "hidden": int(scored.hidden.sum()),
        "covered99": round(float(scored.hidden.mean()), 4),
        "false boxes": int(scored.off_plates.sum()),
        "boxes": sum(len(answer) for _, answer in searched),
    }


def differences(both: Sequence[tuple[Detections, Detections]]) -> dict[str, Any]:
    """Return how far the boxes of the same photos are apart; each goes with the nearest one."""
    edges_px, confidences, alone = [0.0], [0.0], 0
    for one, other in both:
        iou = iou_matrix(one.xyxy, other.xyxy)
        pairs = [
            (row, int(iou[row].argmax()))
            for row in range(len(one))
            if iou[row].max(initial=0) >= SAME_IOU
        ]
        alone += len(one) + len(other) - 2 * len(pairs)
        for row, column in pairs:
            edges_px.append(float(np.abs(one.xyxy[row] - other.xyxy[column]).max()))
            confidences.append(abs(float(one.confidence[row] - other.confidence[column])))
    return {
        "photos compared": len(both),
        "boxes that only one of them has": alone,
        "largest difference of an edge in px": round(max(edges_px), 4),
        "99 % of edges differ by at most, px": round(float(np.quantile(edges_px, 0.99)), 4),
        "largest difference of a confidence": round(max(confidences), 6),
    }


# How fast


def one_look(
    device: Device,
    known: dict[int, NDArray[np.float32]],
    options: Mapping[str, str] | None = None,
) -> Any:
    """Return milliseconds of one run of the model, and how far its output is from the CPU's.

    Args:
        device: what to look with.
        known: outputs of the CPU by the size of the batch; the first to look fills it.
        options: of the CUDA provider, other than ours.
    """
    with patch.dict(engines.CUDA_OPTIONS, options or {}):  # sessions are opened later on as well
        return looks_of(device, known)


def looks_of(device: Device, known: dict[int, NDArray[np.float32]]) -> Any:
    """Return what `one_look` does, with the options that are set."""
    started = time.perf_counter()
    session = engines.open_session(shipped_model(), threads=None)
    look = engines.open_engine(
        shipped_model(),
        session,
        engine="onnxruntime",
        device=device,
        threads=None,
        tried_hws=[LOOK_HW],
    ).run
    table: dict[str, Any] = {"seconds until ready": round(time.perf_counter() - started, 2)}
    for batch in BATCHES:
        images = scenes(batch, LOOK_HW)
        times = [timed(look, images) for _ in range(RUNS_ON_CPU if device == "cpu" else RUNS)]
        output = look(images)
        cpu = known.setdefault(batch, output)
        likely = cpu[:, 4] >= OPTIONS.min_confidence
        apart = np.abs(output - cpu)
        table[f"batch of {batch}"] = {
            "first ms": times[0],
            "median ms": round(float(np.median(times[1:])), 2),
            "boxes furthest from the CPU's, px of the input": round(
                float(np.where(likely[:, None], apart[:, :4], 0).max()), 4
            ),
            "confidences furthest from the CPU's": round(float(apart[:, 4].max()), 6),
        }
    if device != "cpu":
        table["a shape for the first time, ms"] = timed_while_short(
            look, [(1, shape) for shape in NEW_SHAPES_HW]
        )
        cut_outs = [(batch, CUT_OUT_HW) for batch in range(1, engines.GPU_BATCH + 1)]
        for which in ("for the first time", "again"):
            table[f"1 to {len(cut_outs)} cut-outs of the second look, {which}, ms"] = (
                timed_while_short(look, cut_outs)
            )
    return table


def timed(look: engines.Run, images: NDArray[np.float32]) -> float:
    """Return the milliseconds of one run."""
    started = time.perf_counter()
    look(images)
    return round((time.perf_counter() - started) * 1000, 2)


def timed_while_short(
    look: engines.Run, shapes: Sequence[tuple[int, tuple[int, int]]]
) -> list[float]:
    """Return the milliseconds of one run for each batch and size, up to the one that is too much.

    So there may be fewer times than shapes.
    """
    times: list[float] = []
    for batch, image_hw in shapes:
        if sum(times) > MOST_MS:
            break
        times.append(timed(look, scenes(batch, image_hw)))
    return times


def one_photo(device: Device) -> Any:
    """Return the median milliseconds of one 1080p photo, from bytes to bytes."""
    photos = drawn_photos()
    table = {}
    limit_opencv(cores())
    for name in dict.fromkeys(("cpu", device)):
        detector = detector_on(name)
        blur_each(photos, detector)  # to warm up, and so that the GPU knows the shapes
        times = []
        for _ in range(3):
            for data in photos:
                started = time.perf_counter()
                blur_photo(data, detector, OPTIONS)
                times.append(time.perf_counter() - started)
        table[name] = {
            "median ms": round(float(np.median(times)) * 1000, 1),
            "least ms": round(min(times) * 1000, 1),
        }
    return table


def many_photos(device: Device, count: int, gpu: Gpu) -> Any:
    """Return photos a second, by workers that share out the cores."""
    drawn = drawn_photos()
    photos = [drawn[number % len(drawn)] for number in range(count)]
    table = {}
    workers = max(1, min(cores(), count))
    limit_opencv(1)
    for name in dict.fromkeys(("cpu", device)):
        blur = partial(blur_photo, detector=detector_on(name, threads=1), options=OPTIONS)
        for data in drawn:  # to warm up, and so that a GPU knows the shapes
            blur(data)
        started = time.perf_counter()
        done = done_in_order(photos, blur, workers=workers, stopping=threading.Event())
        plates = sum(len(blurred.detections) for _, blurred in done if blurred)
        seconds = time.perf_counter() - started
        table[name] = {
            "photos": count,
            "workers": workers,
            "plates": plates,
            "photos a second": round(count / seconds, 1),
            "GPU memory in MB": gpu.taken_mb(),
        }
    return table


def blur_each(photos: Sequence[bytes], detector: OnnxDetector) -> None:
    """Blur photos and forget them."""
    for data in photos:
        blur_photo(data, detector, OPTIONS)


def drawn_photos() -> list[bytes]:
    """Return JPEGs of 1080p."""
    photos = []
    for seed in range(SCENES):
        out = io.BytesIO()
        PillowImage.fromarray(drawn_scene(seed)).save(out, "JPEG", quality=90)
        photos.append(out.getvalue())
    return photos


def scenes(batch: int, image_hw: tuple[int, int]) -> NDArray[np.float32]:
    """Return a batch of drawn scenes as the model takes them."""
    height, width = image_hw
    small = [
        cv2.resize(drawn_scene(number % SCENES), (width, height)).transpose(2, 0, 1)
        for number in range(batch)
    ]
    return np.stack(small).astype(np.float32) / np.float32(255)


@cache
def drawn_scene(seed: int) -> Image:
    """Return a drawn scene of 1080p."""
    return draw_scene(seed).image


# Where it ran


class Gpu:
    """The first GPU, if there is one, and how much of its memory was taken since the start."""

    def __init__(self) -> None:
        """Look for a GPU."""
        self._handle: Any = None
        self.name: Any = None
        try:
            import pynvml  # type: ignore[import-untyped]
        except ImportError:
            return
        try:
            pynvml.nvmlInit()
            self._handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        except pynvml.NVMLError:
            return
        self._read = pynvml.nvmlDeviceGetMemoryInfo
        self.name = {
            "name": str(pynvml.nvmlDeviceGetName(self._handle)),
            "driver": str(pynvml.nvmlSystemGetDriverVersion()),
            "compute capability": ".".join(
                map(str, pynvml.nvmlDeviceGetCudaComputeCapability(self._handle))
            ),
            "memory in MB": round(self._read(self._handle).total / 1e6),
        }
        self._before = self._read(self._handle).used

    def taken_mb(self) -> int | None:
        """Return the megabytes that were taken since, by the context of CUDA too."""
        if self._handle is None:
            return None
        taken: int = self._read(self._handle).used - self._before
        return round(taken / 1e6)


def software() -> Any:
    """Return versions of packages, and of the libraries of NVIDIA that are loaded."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    maps = Path("/proc/self/maps")
    paths = set(re.findall(r"/\S+\.so[.\d]*", maps.read_text())) if maps.exists() else set()
    loaded = sorted(
        Path(path).name
        for path in paths
        if re.search(r"cudnn|cublas|cudart|curand|nvrtc|libcuda|onnxruntime", Path(path).name)
    )
    cudnn = None
    if any(name.startswith("libcudnn.so") for name in loaded):
        cudnn = ctypes.CDLL("libcudnn.so.9").cudnnGetVersion()
    return {
        "ONNX Runtime": onnxruntime.__version__,
        "built for CUDA": getattr(onnxruntime, "cuda_version", None),
        "cuDNN": cudnn,
        "packages": versions,
        "loaded": loaded,
        "TensorRT": "not tried",
    }


if __name__ == "__main__":
    main()
