"""Drawn clips: a dark plate with bright letters that drives through a street."""

from __future__ import annotations

import io
import struct
from collections.abc import Collection, Sequence
from typing import Any

import av
import cv2
import numpy as np

from plateblur.errors import DetectionError
from plateblur.types import Detections, Image
from tests.fakes import DarkDetector, boxes, street

RATE = 10  # frames a second
IMAGE_HW = (120, 160)
PLATE_WH = (40, 14)
TURNED_LEFT = (0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
"""Matrix of a clip that is stored turned to the left, as a phone held upright stores it.

Source: ISO/IEC 14496-12, 8.3.2.
"""


class BlinkingDetector(DarkDetector):
    """Misses the plate in some calls, counted from 0, and fails in some."""

    def __init__(self, *, misses: Collection[int] = (), fails: Collection[int] = ()) -> None:
        super().__init__()
        object.__setattr__(self, "calls", [])
        object.__setattr__(self, "misses", misses)
        object.__setattr__(self, "fails", fails)

    def detect(self, image: Image, *, min_confidence: float, **how: Any) -> Detections:
        calls: list[tuple[int, ...]] = self.__dict__["calls"]
        calls.append(image.shape)
        if len(calls) - 1 in self.__dict__["fails"]:
            raise DetectionError("the detector failed")
        if len(calls) - 1 in self.__dict__["misses"]:
            return Detections(boxes(), np.zeros(0, np.float32))
        return super().detect(image, min_confidence=min_confidence)


def plate_at(frame: int) -> tuple[int, int, int, int]:
    """Return where the plate is in a frame of `driving`, `xyxy`."""
    left = 10 + 3 * frame
    return left, 60, left + PLATE_WH[0], 60 + PLATE_WH[1]


def driving(frames: int = 20, *, plate: bool = True) -> list[Image]:
    """Return the frames of a clip in which a plate drives to the right."""
    ground = street(*IMAGE_HW).clip(90, 255)
    images = []
    for frame in range(frames):
        image = ground.copy()
        if plate:
            x1, y1, x2, y2 = plate_at(frame)
            image[y1:y2, x1:x2] = 10
            at = (x1 + 2, y2 - 3)
            cv2.putText(image, "AB12", at, cv2.FONT_HERSHEY_SIMPLEX, 0.42, (250, 250, 250), 1)
        images.append(image)
    return images


def drawn_clip(
    images: Sequence[Image],
    *,
    kind: str = "mp4",
    codec: str = "libx264",
    sound: str = "",
    pts: Sequence[int] | None = None,
    turned: bool = False,
) -> bytes:
    """Return `images` as a clip.

    Args:
        images: of one size, even sides.
        kind: of the container.
        codec: of the pictures.
        sound: codec of a tone as long as the clip; none where empty.
        pts: time of each frame, in tenths of a second; evenly where None.
        turned: store the images turned to the left, and say so.
    """
    out = io.BytesIO()
    with av.open(out, "w", format=kind) as target:
        target.metadata["title"] = "a title that tells who filmed"
        options = {"crf": "10"} if codec == "libx264" else {"crf": "6", "b": "2000000"}
        picture: Any = target.add_stream(codec, rate=RATE, options=options)
        stored = [np.rot90(image).copy() if turned else image for image in images]
        picture.height, picture.width = stored[0].shape[:2]
        picture.pix_fmt = "yuv420p"
        tone: Any = target.add_stream(sound, rate=48_000, layout="mono") if sound else None
        for number, image in enumerate(stored):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            if pts is not None:
                frame.pts = pts[number]
            target.mux(picture.encode(frame))
        target.mux(picture.encode(None))
        if tone is not None:
            samples = np.sin(np.arange(4800 * len(images)) / 20, dtype=np.float32)[None]
            heard = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
            heard.sample_rate = 48_000
            target.mux(tone.encode(heard))
            target.mux(tone.encode(None))
    data = bytearray(out.getvalue())
    if turned:
        at = data.index(b"tkhd") + 4 + 40
        data[at : at + 36] = struct.pack(">9i", *TURNED_LEFT)
    return bytes(data)


def frames_of(data: bytes) -> list[tuple[float, Image]]:
    """Return the time, seconds, and the pixels of each frame as players show it."""
    with av.open(io.BytesIO(data), "r") as source:
        return [
            (
                float(frame.time or 0),
                np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90),
            )
            for frame in source.decode(video=0)
        ]
