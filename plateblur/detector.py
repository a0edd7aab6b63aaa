"""Find plates: letterbox > run > NMS > undo > a second look. The only inference engine.

The model is an ONNX file as `training/export.py` writes it: input `images` (N, 3, H, W) float32
RGB in [0, 1], H and W multiples of the stride; output either raw, (N, 4 + classes, anchors) with
boxes as centre and size, or end to end, (N, K, 6) with x1, y1, x2, y2, confidence, class. Which
one, the classes, the stride and the input size are read from the file's metadata and checked.

A box that the model is not sure of is looked at again by the same model, in cut-outs that show it
at several sizes. Where it finds no plate in any of them, the confidence is halved: lettering,
lamps and badges look like a plate at one size, plates at several. The second look only lowers
confidences; it moves no box and finds no plate. What it brings and what it costs on photos is in
docs/training-log.md.
"""

from __future__ import annotations

import ast
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as ort

from plateblur.boxes import iou_matrix, non_max_suppression
from plateblur.errors import DetectionError, ModelError
from plateblur.letterbox import cut_out, letterbox
from plateblur.types import Detections, Image

Engine = Literal["onnxruntime", "openvino"]

FARTHEST_PX = 1e9  # beyond any image
NMS_IOU_THRESHOLD = 0.5  # plates lie in one plane and hardly overlap; a tighter one keeps doubles.

# The second look. Source of the numbers: chosen on the val split, docs/training-log.md.
UNSURE_FROM, SURE_FROM = 0.2, 0.9  # confidences between which a box is looked at again
LOOK_WIDTHS_PX = (40, 64, 144)  # of the box in the cut-outs
LOOK_SIDE_PX = 256  # of a cut-out; a multiple of the stride of every model that is exported here
LOOK_IOU = 0.4  # from which a box in a cut-out is on the plate that is looked for
LOOK_CONFIDENCE = 0.1  # from which it confirms the plate
MOST_LOOKS = 32  # boxes of one image; the rest keep their confidence, and so are hidden

# onnxruntime's errors share no base but Exception.
_ORT_ERRORS = (
    *(ort.Fail, ort.InvalidArgument, ort.NoSuchFile, ort.NoModel, ort.EngineError),
    *(ort.RuntimeException, ort.InvalidProtobuf, ort.NotImplemented, ort.InvalidGraph, ort.EPFail),
    *(ort.ModelLoadCanceled, ort.ModelLoaded, ort.ModelRequiresCompilation, ort.NotFound),
    *(ort.DeviceReset, RuntimeError, ValueError, MemoryError),
)

FloatT = TypeVar("FloatT", bound=np.floating[Any])

_Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """What a model says of itself.

    Attributes:
        input_size: longer side of the letterboxed image, pixels.
        stride: height and width of the input are multiples of this, pixels.
        classes: class names in order; one, the plate.
        end_to_end: the output needs no decoding of centres and sizes.
        calibration: slope and shift, over the log-odds, that make the network's confidence mean
            what it says; fitted by `training/calibrate.py`.
    """

    input_size: int
    stride: int
    classes: tuple[str, ...]
    end_to_end: bool
    calibration: tuple[float, float] = (1.0, 0.0)


class OnnxDetector:
    """A loaded model; safe to call from several threads, a call changes nothing.

    Attributes:
        metadata: what the model file says of itself.
    """

    def __init__(
        self,
        model: Path,
        *,
        engine: Engine = "onnxruntime",
        threads: int | None = None,
        second_look: bool = True,
    ) -> None:
        """Load `model`.

        Args:
            model: an ONNX file of `training/export.py`.
            engine: "openvino" needs the extra of that name; half the time in bf16 on CPUs with it.
            threads: threads of one call; None leaves it to the engine (all cores).
            second_look: look again at boxes that the model is not sure of.

        Raises:
            ModelError: no such file, no ONNX model, or metadata that does not fit.
        """
        session = _open_session(model, threads=threads)
        _check_input_and_output(session)
        self.metadata = _read_metadata(session)
        self._second_look = second_look
        self._run: _Run
        if engine == "openvino":
            self._run = _openvino(model, threads=threads)
        elif engine == "onnxruntime":
            self._run = _onnxruntime(session)
        else:
            raise ValueError(f"engine must be 'onnxruntime' or 'openvino', got {engine!r}")

    @classmethod
    def shipped(cls, *, engine: Engine = "onnxruntime", threads: int | None = None) -> OnnxDetector:
        """Return the detector that this version of plateblur ships."""
        return cls(shipped_model(), engine=engine, threads=threads)

    def detect(self, image: Image, *, min_confidence: float) -> Detections:
        """Return the plates of `image`, most confident first.

        Args:
            image: (H, W, 3) uint8 RGB, upright.
            min_confidence: the smallest confidence kept, above 0 and at most 1.

        Returns:
            Boxes in pixels of `image`, after NMS; none of them empty.

        Raises:
            DetectionError: the engine failed, or its answer makes no sense.
            ValueError: `image` is not (H, W, 3) uint8, or `min_confidence` is out of range.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ValueError(f"image must be (H, W, 3) uint8, got {image.shape} {image.dtype}")
        if not 0 < min_confidence <= 1:
            raise ValueError(f"min_confidence must be above 0 and at most 1, got {min_confidence}")
        boxed = letterbox(image, input_size=self.metadata.input_size, stride=self.metadata.stride)
        xyxy, confidence = self._look(boxed.image)
        likely = confidence >= min_confidence
        xyxy, confidence = boxed.undo(xyxy[likely]), confidence[likely]
        in_image = (xyxy[:, 2:] > xyxy[:, :2]).all(axis=1)  # a plate in the fill hides nothing
        xyxy, confidence = xyxy[in_image], confidence[in_image]
        kept = non_max_suppression(xyxy, confidence, iou_threshold=NMS_IOU_THRESHOLD)
        found = Detections(xyxy[kept], confidence[kept])
        return self._look_again(image, found).at_least(min_confidence)

    def _look_again(self, image: Image, found: Detections) -> Detections:
        """Return the detections, most confident first, unsure ones lowered unless confirmed."""
        unsure = (found.confidence >= UNSURE_FROM) & (found.confidence < SURE_FROM)
        confidence = found.confidence.copy()
        for row in np.flatnonzero(unsure & self._second_look)[:MOST_LOOKS]:
            if not any(self._confirms(image, found.xyxy[row], width) for width in LOOK_WIDTHS_PX):
                confidence[row] /= 2
        order = np.argsort(-confidence, kind="stable")
        return Detections(found.xyxy[order], confidence[order])

    def _confirms(self, image: Image, box: NDArray[np.float32], width_px: int) -> bool:
        """Return whether a plate is found at `box` where it is shown `width_px` wide."""
        cut = cut_out(image, box, width_px=width_px, side_px=LOOK_SIDE_PX)
        xyxy, confidence = self._look(cut.image)
        there = cut.undo(xyxy[confidence >= LOOK_CONFIDENCE])
        return bool((iou_matrix(there, box[None]) >= LOOK_IOU).any())

    def _look(self, image: Image) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return (N, 4) `xyxy` in pixels of a letterboxed image and (N,) confidence, before NMS."""
        batch = image.transpose(2, 0, 1)[None].astype(np.float32) / np.float32(255)
        return self._decode(self._run(batch))

    def _decode(
        self, output: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return (N, 4) `xyxy` in letterboxed pixels and (N,) confidence of one image's output."""
        width = 6 if self.metadata.end_to_end else 4 + len(self.metadata.classes)
        if output.ndim != 3 or len(output) != 1:
            raise DetectionError(f"expected the boxes of one image, got an output {output.shape}")
        rows = output[0] if self.metadata.end_to_end else output[0].T
        if rows.shape[1] != width:
            raise DetectionError(f"expected {width} values a box, got an output {output.shape}")
        if not np.isfinite(rows).all():
            raise DetectionError("expected finite numbers from the model, got NaN or infinity")
        if self.metadata.end_to_end:
            corners, confidence = rows[:, :4], rows[:, 4]
        else:
            sides = rows[:, :4].clip(-FARTHEST_PX, FARTHEST_PX)  # their sums must not overflow
            centre, half = sides[:, :2], sides[:, 2:] / 2
            corners = np.hstack([centre - half, centre + half])
            confidence = rows[:, 4:].max(axis=1)
        # A hundredth beyond is the rounding of a quantised model.
        if ((confidence < -0.01) | (confidence > 1.01)).any():
            raise DetectionError("expected confidences of 0 to 1 from the model, got others")
        # A box turned inside out covers what its corners span; left so, it would hide nothing.
        first, second = corners[:, :2], corners[:, 2:]
        ordered = np.hstack([np.minimum(first, second), np.maximum(first, second)])
        slope, shift = self.metadata.calibration
        return ordered, calibrated(confidence.clip(0, 1), slope=slope, shift=shift)


def calibrated(confidence: NDArray[FloatT], *, slope: float, shift: float) -> NDArray[FloatT]:
    """Return confidences moved along a logistic curve; their order stays.

    Args:
        confidence: (N,) 0 to 1.
        slope: of the curve over the log-odds, above 0.
        shift: of the curve, in log-odds.
    """
    if (slope, shift) == (1.0, 0.0):
        return confidence
    chance = 1 / (1 + np.exp(-(slope * logit(confidence) + shift)))
    curved: NDArray[FloatT] = chance.astype(confidence.dtype)
    return curved


def logit(confidence: NDArray[FloatT]) -> NDArray[FloatT]:
    """Return the log-odds of (N,) confidences; 0 and 1 count as a millionth from it."""
    inside = confidence.clip(1e-6, 1 - 1e-6)
    odds: NDArray[FloatT] = np.log(inside / (1 - inside))
    return odds


def shipped_model() -> Path:
    """Return the path of the model inside the package."""
    return Path(str(resources.files("plateblur") / "models" / "plates.onnx"))


def _open_session(model: Path, *, threads: int | None) -> onnxruntime.InferenceSession:
    if not model.is_file():
        raise ModelError(f"expected an ONNX model named {model.name}, found no such file")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = 3  # errors only; they are raised as well
    # Threads that wait by spinning would take the cores from the next photo's decoding.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except _ORT_ERRORS as error:
        raise ModelError(f"expected an ONNX model in {model.name}: {error}") from error


def _check_input_and_output(session: onnxruntime.InferenceSession) -> None:
    """Raise `ModelError` unless the model takes images of any size and gives numbers."""
    takes, gives = session.get_inputs(), session.get_outputs()
    if len(takes) != 1 or takes[0].type != "tensor(float)" or len(takes[0].shape) != 4:
        got = [(each.type, each.shape) for each in takes]
        raise ModelError(f"expected one float32 input (N, 3, H, W), got {got}")
    if any(isinstance(side, int) for side in takes[0].shape[2:]):
        raise ModelError(f"expected an input of any height and width, got {takes[0].shape}")
    if gives[0].type != "tensor(float)":
        raise ModelError(f"expected a float32 output, got {gives[0].type}")


def _read_metadata(session: onnxruntime.InferenceSession) -> ModelMetadata:
    entries: dict[str, str] = session.get_modelmeta().custom_metadata_map
    try:
        sides = ast.literal_eval(entries["imgsz"])
        names = ast.literal_eval(entries["names"])
        metadata = ModelMetadata(
            input_size=int(max(sides)),
            stride=int(entries["stride"]),
            classes=tuple(names[i] for i in range(len(names))),
            end_to_end=entries.get("end2end", "False") == "True",
            calibration=_read_curve(entries.get("calibration", "[1.0, 0.0]")),
        )
    except (KeyError, ValueError, SyntaxError, TypeError) as error:
        raise ModelError(
            "expected ONNX metadata imgsz, names and stride as training/export.py writes them, "
            f"got keys {sorted(entries)}"
        ) from error
    if len(metadata.classes) != 1:
        raise ModelError(f"expected one class, the plate, got {metadata.classes}")
    if metadata.stride <= 0 or metadata.input_size <= 0 or metadata.input_size % metadata.stride:
        raise ModelError(
            f"expected an input size that is a multiple of the stride, got {metadata.input_size} "
            f"and {metadata.stride}"
        )
    return metadata


def _read_curve(written: str) -> tuple[float, float]:
    slope, shift = map(float, ast.literal_eval(written))
    if not (slope > 0 and math.isfinite(slope) and math.isfinite(shift)):
        raise ValueError(f"expected a calibration of a slope above 0 and a shift, got {written}")
    return slope, shift


def _onnxruntime(session: onnxruntime.InferenceSession) -> _Run:
    name = session.get_inputs()[0].name

    def run(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        try:
            output: NDArray[np.float32] = session.run(None, {name: batch})[0]
        except _ORT_ERRORS as error:
            raise DetectionError(f"the detector failed on an input {batch.shape}") from error
        return output

    return run


def _openvino(model: Path, *, threads: int | None) -> _Run:
    try:
        import openvino
    except ImportError as error:
        raise ModelError("engine 'openvino' needs: pip install 'plateblur[openvino]'") from error
    config: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
    if threads:  # of one call; the other cores are for calls beside it, which else would queue
        streams = max(1, (os.cpu_count() or 1) // threads)
        config = {"NUM_STREAMS": streams, "INFERENCE_NUM_THREADS": streams * threads}
    try:
        compiled = openvino.Core().compile_model(model, "CPU", config)
    except RuntimeError as error:
        raise ModelError(f"expected a model that OpenVINO can compile in {model.name}") from error

    def run(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        try:
            # A request of its own for each call: requests are not to be shared by threads.
            results = compiled.create_infer_request().infer([batch])
        except RuntimeError as error:
            raise DetectionError(f"the detector failed on an input {batch.shape}") from error
        return np.array(results[0])

    return run
