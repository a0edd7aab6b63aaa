"""Options that several commands share, and what they mean."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from plateblur.detector import Device, Engine
from plateblur.pipeline import DEFAULTS
from plateblur.types import Damaged, Effort, Method, Projection


def finite(value: float) -> float:
    """Return `value`; NaN passes a check of ranges, so it is refused here."""
    if not math.isfinite(value):
        raise typer.BadParameter(f"expected a number, got {value}")
    return value


Photos = Annotated[
    list[Path],
    typer.Argument(metavar="PHOTO_OR_FOLDER", help="Photos, or folders of photos.", exists=True),
]
MinConfidence = Annotated[
    float,
    typer.Option(
        min=0.001,
        max=1.0,
        callback=finite,
        help="Smallest confidence of a detection, 0 to 1.",
    ),
]
MethodOption = Annotated[
    Method,
    typer.Option(
        help="veil can't be undone, nor can solid; mosaic and gaussian are cosmetic: "
        "what they hide can be worked out by an attacker."
    ),
]
Margin = Annotated[
    float,
    typer.Option(
        min=0.0,
        max=2.0,
        callback=finite,
        help="Share of a box's size hidden beyond it, a side.",
    ),
]
Recursive = Annotated[bool, typer.Option(help="Look into folders within folders too.")]
Fast = Annotated[
    bool,
    typer.Option("--fast", help="Look once, at the whole photo scaled down: quick, misses more."),
]
Thorough = Annotated[
    bool,
    typer.Option(
        "--thorough",
        help="Also look closer, and at copies turned by quarter turns: many times slower.",
    ),
]
SmallestPlate = Annotated[
    float,
    typer.Option(
        "--smallest-plate-px",
        min=1.0,
        max=1000.0,
        callback=finite,
        help="Height of the smallest plate to look for, pixels. Less takes longer on large photos.",
    ),
]
ProjectionOption = Annotated[
    Projection,
    typer.Option(
        help="auto takes a photo for a panorama where its tags say so; equirectangular takes every "
        "photo for one; flat none.",
    ),
]
EngineOption = Annotated[
    Engine,
    typer.Option(
        help="What runs the model; openvino needs the extra of that name; auto takes the faster."
    ),
]
DeviceOption = Annotated[
    Device,
    typer.Option(
        help="Where it runs; auto: a GPU through CUDA if ONNX Runtime has it, else the CPU."
    ),
]


Workers = Annotated[
    int | None,
    typer.Option(
        min=1, help="Photos done at the same time; as many as there are cores by default."
    ),
]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Say nothing but what went wrong.")]


Exact = Annotated[
    bool,
    typer.Option(
        "--exact",
        help="Keep a JPEG bit for bit outside the plates: no loss, but slower. Needs an extra: "
        "pip install 'plateblur[exact]'.",
    ),
]
DamagedPhotos = Annotated[
    Damaged,
    typer.Option(
        help="refuse a JPEG that is cut, or hide the rows that can't be decoded: they turn grey."
    ),
]
DropOtherPictures = Annotated[
    bool,
    typer.Option(
        "--drop-other-pictures",
        help="With --in-place: replace files that hold more pictures than the one that is blurred, "
        "such as stereo photos. The others are lost.",
    ),
]


def effort_of(*, fast: bool, thorough: bool) -> Effort:
    """Return how hard to look.

    Raises:
        typer.BadParameter: both were asked for.
    """
    if fast and thorough:
        raise typer.BadParameter("give --fast or --thorough, not both")
    return "fast" if fast else "thorough" if thorough else DEFAULTS.effort
