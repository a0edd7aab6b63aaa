"""Find plates: plan the looks > look > merge > a second look.

The model is an ONNX file as `training/export.py` writes it: input `images` (N, 3, H, W) float32
RGB in [0, 1], H and W multiples of the stride; output either raw, (N, 4 + classes, anchors) with
boxes as centre and size, or end to end, (N, K, 6) with x1, y1, x2, y2, confidence, class. Which
one, the classes, the stride and the input size are read from the file's metadata and checked.

A second network for near plates, which sees them any way round, may belong to a model: the file
`NAME-near.onnx` beside `NAME.onnx`. What it finds is added to what the model finds.

How many looks a photo gets is planned in `looks.py`. Boxes that are small or unsure are then shown
to the model again, in cut-outs at several sizes; `second_look.py` says what follows from that.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from itertools import groupby, islice
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from plateblur.boxes import iou_matrix, non_max_suppression
from plateblur.engines import Device, Engine, Session, open_engine, open_session
from plateblur.errors import DetectionError, ModelError
from plateblur.letterbox import Pyramid, cut_out, letterbox
from plateblur.looks import (
    NMS_IOU_THRESHOLD,
    ORDINARY_LOOKS,
    Look,
    Seen,
    added,
    merged,
    near_look,
    new_or_surer,
    plan_looks,
    seen_in_photo,
)
from plateblur.second_look import (
    CORRECTED_UNDER_PX,
    FILLS_FROM,
    LOOK_AGAIN_FROM,
    LOOK_IOU,
    LOOK_SIDE_PX,
    LOOK_WIDTHS_PX,
    RAISED_BELOW_SCALE,
    SURE_FROM,
    FirstLook,
    corrected,
    is_decided,
    second_opinion,
)
from plateblur.types import (
    SMALLEST_PLATE_PX,
    Boxes,
    Detections,
    Effort,
    Image,
    require_confidence,
)

FARTHEST_PX = 1e9  # beyond any image

# How many boxes are looked at again; the rest keep their confidence, and so are hidden.
MOST_LOOKS, MORE_LOOKS = 32, 8  # with one first look, and for each further one

FloatT = TypeVar("FloatT", bound=np.floating[Any])


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
        runs_on: engine and device that were taken, as "onnxruntime on cpu".
    """

    def __init__(
        self,
        model: Path,
        *,
        engine: Engine = "onnxruntime",
        device: Device = "cpu",
        threads: int | None = None,
        second_look: bool = True,
        near: Path | None = None,
    ) -> None:
        """Load `model`, and its network for near plates.

        Args:
            model: an ONNX file of `training/export.py`.
            engine: "openvino" and "openvino-int8" need the extra `openvino`; "auto" takes a second
                or more to choose where it is installed.
            device: what isn't there is an error, never the CPU instead.
            threads: threads of one call; None leaves it to the engine (all cores).
            second_look: look again at boxes that the model is not sure of.
            near: an ONNX file, too; without it, the one beside `model`, if there is one.

        Raises:
            ModelError: no such file, no ONNX model, metadata that does not fit, or an engine or a
                device that isn't there.
        """
        session = open_session(model, threads=threads)
        _check_input_and_output(session)
        self.metadata = _read_metadata(session)
        self._second_look = second_look
        side, stride = self.metadata.input_size, self.metadata.stride
        running = open_engine(
            model,
            session,
            engine=engine,
            device=device,
            threads=threads,
            # As of a 1080p photo: the whole, and a cut-out.
            tried_hws=[
                (math.ceil(side * 9 / 16 / stride) * stride, side),
                (LOOK_SIDE_PX, LOOK_SIDE_PX),
            ],
        )
        self._run, self._batch = running.run, running.batch
        self.runs_on = f"{running.engine} on {running.device}"
        near = near or near_model(model)
        self._near = (
            OnnxDetector(near, engine=engine, device=running.device, threads=threads)
            if near
            else None
        )

    @classmethod
    def shipped(
        cls,
        *,
        engine: Engine = "onnxruntime",
        device: Device = "cpu",
        threads: int | None = None,
    ) -> OnnxDetector:
        """Return the detector that this version of plateblur ships."""
        return cls(shipped_model(), engine=engine, device=device, threads=threads)

    def detect(
        self,
        image: Image,
        *,
        min_confidence: float,
        smallest_plate_px: float = SMALLEST_PLATE_PX,
        effort: Effort = "default",
    ) -> Detections:
        """Return the plates of `image`, most confident first.

        Args:
            image: (H, W, 3) uint8 RGB, upright, of any size.
            min_confidence: the smallest confidence kept, above 0 and at most 1.
            smallest_plate_px: height of the smallest plate that is to be found, pixels of `image`;
                what "fast" reaches follows from the image's size alone.
            effort: one look; looks that fit the image; finer and turned ones as well.

        Returns:
            Boxes in pixels of `image`, one a plate; none of them empty. `searched` says how many
            looks there were and how small a plate they showed.

        Raises:
            DetectionError: the engine failed, or its answer makes no sense.
            ValueError: `image` is not (H, W, 3) uint8, or an argument is out of range.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ValueError(f"image must be (H, W, 3) uint8, got {image.shape} {image.dtype}")
        require_confidence(min_confidence)
        plan = plan_looks(
            (image.shape[0], image.shape[1]),
            input_size=self.metadata.input_size,
            stride=self.metadata.stride,
            smallest_plate_px=smallest_plate_px,
            effort=effort,
        )
        floor = min(min_confidence, LOOK_AGAIN_FROM)
        whole = Pyramid(image)
        seen = self._seen_in_all(whole, plan.looks, min_confidence=floor)
        found = self._look_again(image, merged(seen), looks=len(plan.looks))
        if plan.further:
            seen += self._seen_in_all(whole, plan.further, min_confidence=floor)
            every = self._look_again(image, merged(seen), looks=plan.searched.looks)
            found = added(every.xyxy, every.confidence, to=found)
        searched = plan.searched
        if self._near and effort != "fast":
            near = self._near.near_plates(whole, min_confidence=min_confidence)
            # Its boxes are looser, so one that is less sure would only hide more of the scene.
            new = new_or_surer(near.xyxy, near.confidence, found)
            found = added(near.xyxy[new], near.confidence[new], to=found)
            searched = replace(searched, looks=searched.looks + 1)
        return replace(found, searched=searched).at_least(min_confidence)

    def near_plates(self, whole: Pyramid, *, min_confidence: float) -> Seen:
        """Return what one look finds that shows near plates best, one box a plate.

        Args:
            whole: the upright photo, of any size.
            min_confidence: the smallest confidence kept.
        """
        side, stride = self.metadata.input_size, self.metadata.stride
        look = near_look(whole.image_hw, input_size=side, stride=stride)
        return merged([*self._seen(whole, [look], min_confidence=min_confidence)])

    def _seen_in_all(
        self, whole: Pyramid, looks: Sequence[Look], *, min_confidence: float
    ) -> list[Seen]:
        """Return what each of the looks finds."""
        return [
            one
            for alike in _in_batches(looks, self._batch)
            for one in self._seen(whole, alike, min_confidence=min_confidence)
        ]

    def _seen(
        self, whole: Pyramid, looks: Sequence[Look], *, min_confidence: float
    ) -> Iterator[Seen]:
        """Yield what each of one batch of looks finds."""
        boxed = [
            letterbox(
                whole.part(look.part),
                input_size=look.input_size,
                stride=self.metadata.stride,
                turn=look.turn,
            )
            for look in looks
        ]
        answers = self._look([one.image for one in boxed])
        for look, one, (xyxy, confidence) in zip(looks, boxed, answers, strict=True):
            likely = confidence >= min_confidence
            xyxy, confidence = one.undo(xyxy[likely]), confidence[likely]
            in_part = (xyxy[:, 2:] > xyxy[:, :2]).all(axis=1)  # in the fill it hides nothing
            yield seen_in_photo(look, xyxy[in_part], confidence[in_part], whole.image_hw)

    def _look_again(self, image: Image, seen: Seen, *, looks: int) -> Detections:
        """Return the detections, most confident first, small and unsure ones as zooms show them."""
        most = MOST_LOOKS + MORE_LOOKS * (looks - 1)
        small = seen.shown_px < CORRECTED_UNDER_PX
        unsure = (seen.confidence >= LOOK_AGAIN_FROM) & (seen.confidence < SURE_FROM)
        unsure &= seen.xyxy[:, 2] - seen.xyxy[:, 0] < FILLS_FROM * image.shape[1]
        rows = np.flatnonzero((small | unsure) & self._second_look)[:most]
        # A photo that gets but one look at its own size is not searched for what it hardly shows.
        may_rise = (seen.scale[rows] < RAISED_BELOW_SCALE) | (looks > ORDINARY_LOOKS)
        first = FirstLook(seen.confidence[rows], seen.shown_px[rows], may_rise)
        again = np.zeros((len(rows), len(LOOK_WIDTHS_PX)), np.float32)
        boxes = np.repeat(seen.xyxy[rows, None], len(LOOK_WIDTHS_PX), axis=1)
        for size, width_px in enumerate(LOOK_WIDTHS_PX):
            undecided = np.flatnonzero(~is_decided(first, again[:, :size]))
            for start in range(0, len(undecided), self._batch):
                some = undecided[start : start + self._batch]
                again[some, size], boxes[some, size] = self._zoom(image, seen, rows[some], width_px)
        xyxy, confidence = seen.xyxy.copy(), seen.confidence.copy()
        confidence[rows] = second_opinion(first, again)
        xyxy[rows] = corrected(first, xyxy[rows], again, boxes)
        # Once more, because two boxes on a plate may have become the same.
        kept = non_max_suppression(xyxy, confidence, iou_threshold=NMS_IOU_THRESHOLD)
        return Detections(xyxy[kept], confidence[kept])

    def _zoom(
        self, image: Image, seen: Seen, rows: NDArray[np.int64], width_px: int
    ) -> tuple[NDArray[np.float32], Boxes]:
        """Return confidence and box of the plate at each row's box, shown `width_px` wide.

        Confidence is 0, and the box the row's own, where no plate is seen there.
        """
        confidences, boxes = np.zeros(len(rows), np.float32), seen.xyxy[rows].copy()
        cuts = [
            cut_out(image, box, width_px=width_px, side_px=LOOK_SIDE_PX, turn=turn)
            for box, turn in zip(boxes, seen.turn[rows].tolist(), strict=True)
        ]
        for row, (cut, (xyxy, confidence)) in enumerate(
            zip(cuts, self._look([cut.image for cut in cuts]), strict=True)
        ):
            there = cut.undo(xyxy)
            confidence = np.where(
                iou_matrix(there, boxes[row, None])[:, 0] >= LOOK_IOU, confidence, 0
            )
            if confidence.max(initial=0) > 0:
                best = confidence.argmax()
                confidences[row], boxes[row] = confidence[best], there[best]
        return confidences, boxes

    def _look(
        self, images: Sequence[Image]
    ) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """Return what one run of the model finds in each image, before NMS.

        Args:
            images: letterboxed, all of one size.

        Returns:
            For each image (N, 4) `xyxy` in its pixels, and (N,) confidence.
        """
        height, width = images[0].shape[:2]
        batch = np.empty((len(images), 3, height, width), np.float32)
        for image, planes in zip(images, batch, strict=True):
            # Plane by plane, because engines copy a batch whose channels lie side by side.
            for plane, into in zip(cv2.split(image), planes, strict=True):
                np.divide(plane, np.float32(255), out=into, dtype=np.float32)
        output = self._run(batch)
        if output.ndim != 3 or len(output) != len(images):
            raise DetectionError(
                f"expected the boxes of {len(images)} images, got an output {output.shape}"
            )
        return [self._decode(rows) for rows in output]

    def _decode(
        self, output: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return (N, 4) `xyxy` in letterboxed pixels and (N,) confidence of one image's output."""
        width = 6 if self.metadata.end_to_end else 4 + len(self.metadata.classes)
        rows = output if self.metadata.end_to_end else output.T
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
    odds = (slope * logit(confidence) + shift).clip(-80, 80)  # beyond, a float32 overflows
    chance = 1 / (1 + np.exp(-odds))
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


def model_file(named: str) -> Path:
    """Return the path of a model that a user named.

    Args:
        named: "" for the one that everybody gets, the name of one that is shipped beside it, such
            as "clear" for `plates-clear.onnx`, or the path of an ONNX file.
    """
    if not named:
        return shipped_model()
    if named in offered_models():
        return shipped_model().with_name(f"plates-{named}.onnx")
    return Path(named)


def offered_models() -> list[str]:
    """Return the names of the models that are shipped beside the one that everybody gets."""
    shipped = shipped_model()
    names = (path.stem.removeprefix("plates-") for path in shipped.parent.glob("plates-*.onnx"))
    return sorted(name for name in names if name != "near" and "." not in name)  # .int8


def near_model(model: Path) -> Path | None:
    """Return the path of the network for near plates beside a model, None if there is none."""
    near = model.with_name(f"{model.stem}-near{model.suffix}")
    return near if near.is_file() else None


def _in_batches(looks: Sequence[Look], most: int) -> Iterator[list[Look]]:
    """Yield up to `most` looks at a time, in their order, that give inputs of one size."""

    def shape(look: Look) -> tuple[int, int, int, int]:
        left, top, right, bottom = look.part
        return right - left, bottom - top, look.input_size, look.turn

    for _, alike in groupby(looks, key=shape):
        while batch := list(islice(alike, most)):
            yield batch


def _check_input_and_output(session: Session) -> None:
    """Raise `ModelError` unless the model takes images of any size and gives numbers."""
    takes, gives = session.get_inputs(), session.get_outputs()
    if len(takes) != 1 or takes[0].type != "tensor(float)" or len(takes[0].shape) != 4:
        got = [(each.type, each.shape) for each in takes]
        raise ModelError(f"expected one float32 input (N, 3, H, W), got {got}")
    if any(isinstance(side, int) for side in takes[0].shape[2:]):
        raise ModelError(f"expected an input of any height and width, got {takes[0].shape}")
    if gives[0].type != "tensor(float)":
        raise ModelError(f"expected a float32 output, got {gives[0].type}")


def _read_metadata(session: Session) -> ModelMetadata:
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
