"""What is measured, and how."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from plateblur.types import BlurOptions


@dataclass(frozen=True, slots=True)
class Config:
    """What to measure, and how; the command line's options."""

    data: Path  # data.yaml of a YOLO data set
    out: Path  # folder of the report; made here
    split: str = "test"  # "val" to choose by, "test" to report
    kept_apart: tuple[str, ...] = ()  # of train only what is kept apart of these sets: for the gate
    model: Path = Path()  # ONNX model, or a file of stored predictions
    compare: Path | None = None  # a second one, measured on the same photos
    manifest: Path | None = None  # CSV with each photo's set and region; else beside the data
    labels_overlay: Path | None = None  # corrections of labels, JSON lines
    min_confidence: float = BlurOptions().min_confidence  # smallest confidence that is blurred
    margin: float = BlurOptions().margin  # widening of a box on each side, share of its size
    confidence_floor: float = 0.001  # boxes are kept down to this, for AP and the thresholds
    target_recall: float = 0.985  # "which threshold gives this recall within 1:15?"
    near: Path | None = None  # network for near plates; else the one beside the model, if any
    turn: int = 0  # quarter turns to the left of every photo, 0 to 3
    threads: int | None = None  # of the detector; all cores without it
    second_look: bool = True  # of the detector at boxes that it is not sure of, as it is served
    angles: int = 0  # drawn scenes an angle, for recall by side and tilt; none without it
    plots: bool = True  # draw the plots, which the report shows
    contact_sheet: bool = False  # also draw the worst misses and the false boxes
    resamples: int = 2000  # of the paired bootstrap
    seed: int = 0  # of the paired bootstrap
