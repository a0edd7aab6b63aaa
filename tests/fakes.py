"""Small stand-ins for what is costly: detectors that know their answer, and images to feed them."""

from __future__ import annotations

import functools
import io
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pillow_heif
from PIL import Image as PillowImage

from plateblur.errors import DetectionError, WorkEndedError
from plateblur.types import Boxes, Detections, Detector, Image


def boxes(*xyxy: Sequence[float]) -> Boxes:
    """Return (N, 4) float32, also of no boxes at all."""
    return np.array(xyxy, np.float32).reshape(-1, 4)


@dataclass(frozen=True)
class FixedDetector:
    """Finds the boxes that it was given, in every image."""

    xyxy: Boxes = field(default_factory=boxes)
    confidence: tuple[float, ...] = ()

    def detect(self, image: Image, *, min_confidence: float, **how: Any) -> Detections:
        confidence = np.array(self.confidence or [0.9] * len(self.xyxy), np.float32)
        return Detections(self.xyxy, confidence).at_least(min_confidence)


@dataclass(frozen=True)
class DarkDetector:
    """Finds whatever is dark in an image, as one box; blind to anything else."""

    darkest: int = 60

    def detect(self, image: Image, *, min_confidence: float, **how: Any) -> Detections:
        rows, columns = np.nonzero(image.max(axis=2) <= self.darkest)
        if not len(rows):
            return Detections(boxes(), np.zeros(0, np.float32))
        box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        return Detections(boxes(box), np.array([0.9], np.float32))


class BrokenDetector:
    """Fails on every image."""

    def detect(self, image: Image, *, min_confidence: float, **how: Any) -> Detections:
        raise DetectionError("the detector failed")


class SameProcess:
    """Does jobs where it is called, unbounded: for tests whose detector is to be looked into."""

    def __init__(self, detector: Detector) -> None:
        self.detector = detector
        self.is_closed = False

    def do(
        self,
        job: Callable[..., Any],
        *arguments: object,
        ended: threading.Event | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> Any:
        def tell(share: float) -> None:
            if ended is not None and ended.is_set():
                raise WorkEndedError("the work was ended")
            if progress is not None:
                progress(share)

        keywords = {} if progress is None else {"progress": tell}
        return job(self.detector, *arguments, **keywords)

    def close(self) -> None:
        self.is_closed = True


def street(height: int = 120, width: int = 160, *, seed: int = 0) -> Image:
    """Return (H, W, 3): soft ground with some grain, as a camera sees it."""
    return _street(height, width, seed).copy()


@functools.lru_cache(maxsize=64)  # drawing one takes ten times as long as copying it
def _street(height: int, width: int, seed: int) -> Image:
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    waves = [
        110 + 60 * np.sin(rows / (9 + 5 * c)) + 40 * np.cos(columns / (13 + 4 * c))
        for c in range(3)
    ]
    grain = rng.normal(0, 2, (height, width, 1))
    return (np.dstack(waves) + grain).round().clip(0, 255).astype(np.uint8)


def encoded(image: Image | PillowImage.Image, format_: str = "JPEG", **options: Any) -> bytes:
    """Return an image as a photo of `format_`, as Pillow writes it."""
    out = io.BytesIO()
    drawn = image if isinstance(image, PillowImage.Image) else PillowImage.fromarray(image)
    if format_ == "HEIF":
        pillow_heif.from_pillow(drawn).save(out, **options)
    else:
        drawn.save(out, format_, **options)
    return out.getvalue()


def files_in(folder: Path) -> set[Path]:
    """Return all files in a folder; unlike rglob, also while folders in it are deleted."""
    return {Path(inside, name) for inside, _, names in os.walk(folder) for name in names}


def opened(data: bytes) -> PillowImage.Image:
    """Return a photo as Pillow reads it, loaded."""
    if data[4:8] == b"ftyp" and not data[8:12].startswith(b"avi"):
        return pillow_heif.open_heif(io.BytesIO(data)).to_pillow()
    image = PillowImage.open(io.BytesIO(data))
    image.load()
    return image


def psnr(a: Image, b: Image) -> float:
    """Return the peak signal-to-noise ratio of two arrays of one shape, dB."""
    error = float(np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2))
    return float(10 * np.log10(255**2 / error)) if error else float("inf")
