"""Options that several commands share, and what they mean."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from plateblur.detector import model_file
from plateblur.engines import Device, Engine
from plateblur.pipeline import DEFAULTS
from plateblur.types import Damaged, Effort, MetadataPolicy, Method, Projection


def finite(value: float) -> float:
    """Return `value`; NaN passes a check of ranges, so it is refused here."""
    if not math.isfinite(value):
        raise typer.BadParameter(f"expected a number, got {value}")
    return value


Photos = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="PHOTO_OR_FOLDER",
        help="Photos, folders of photos, ZIP files, or URLs: s3://, gs://, az://, https://.",
    ),
]
ListFile = Annotated[
    Path | None,
    typer.Option(
        "--list",
        metavar="FILE",
        exists=True,
        dir_okay=False,
        help="Text file with one photo, folder or URL per line, in addition to those given.",
    ),
]
ModelOption = Annotated[
    Path | None,
    typer.Option(
        "--model",
        metavar="FILE|NAME",
        parser=model_file,
        help="ONNX model that finds the plates, with its card (.json) beside it, or the name of "
        "one that is shipped beside the default: `clear`, trained on clearly licensed photos "
        "alone.",
    ),
]
ManifestOption = Annotated[
    Path | None,
    typer.Option(
        "--manifest",
        metavar="FILE",
        dir_okay=False,
        help="Manifest of the run; by default plateblur-manifest.jsonl in the output folder.",
    ),
]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume/--redo",
        help="Skip what an earlier run did, unless the input or an option has changed; --redo does "
        "everything again.",
    ),
]
RetryFailed = Annotated[
    bool,
    typer.Option("--retry-failed", help="Also retry inputs that are damaged or unsupported."),
]
MetadataOption = Annotated[
    MetadataPolicy,
    typer.Option(
        "--metadata",
        help="strip removes everything except the colour profile and a panorama's projection; "
        "safe also keeps time, camera and other panorama tags; keep keeps most metadata, "
        "including the GPS position, but no thumbnails and previews.",
    ),
]
IgnoreZone = Annotated[
    list[str] | None,
    typer.Option(
        "--ignore-zone",
        metavar="ZONE",
        help="Plates that lie wholly in this zone stay visible: LEFT,TOP,RIGHT,BOTTOM in shares of "
        "the photo (0,0.85,1,1), or a mask picture that is white there. Can be repeated.",
    ),
]
AlwaysHide = Annotated[
    list[str] | None,
    typer.Option(
        "--always-hide",
        metavar="ZONE",
        help="Hide this zone in every photo, such as a logo. Can be repeated.",
    ),
]
ZonesName = Annotated[
    str | None,
    typer.Option(
        "--zones",
        metavar="NAME",
        help="Name of text files among the photos that define zones for their folder: one per "
        "line, ignore or hide, then the zone.",
    ),
]
MinConfidence = Annotated[
    float,
    typer.Option(
        min=0.001,
        max=1.0,
        callback=finite,
        help="Plates below this confidence stay visible. Lower values hide more, with more false "
        "hits. 0 to 1.",
    ),
]
MethodOption = Annotated[
    Method,
    typer.Option(
        help="How to blur. veil and solid can't be undone; mosaic and gaussian are cosmetic: "
        "an attacker may be able to recover what they hide."
    ),
]
Margin = Annotated[
    float,
    typer.Option(
        min=0.0,
        max=2.0,
        callback=finite,
        help="Extra area to blur on each side of a plate, as a share of its size.",
    ),
]
Recursive = Annotated[bool, typer.Option(help="Include subfolders.")]
Fast = Annotated[
    bool,
    typer.Option(
        "--fast", help="Search the whole photo once, scaled down. Faster, but misses more."
    ),
]
Thorough = Annotated[
    bool,
    typer.Option(
        "--thorough",
        help="Also search enlarged parts and rotated copies. Many times slower.",
    ),
]
MaxPixels = Annotated[int, typer.Option(min=1, help="Maximum size of a photo, in pixels.")]
SmallestPlate = Annotated[
    float,
    typer.Option(
        "--smallest-plate-px",
        min=1.0,
        max=1000.0,
        callback=finite,
        help="Height of the smallest plate to search for, in pixels. Lower values take longer on "
        "large photos.",
    ),
]
ProjectionOption = Annotated[
    Projection,
    typer.Option(
        help="Projection of the photos. auto: equirectangular if their metadata says so, "
        "otherwise flat. Any other value is used for all photos.",
    ),
]
EngineOption = Annotated[
    Engine,
    typer.Option(
        help="Inference engine. openvino and openvino-int8 require the extra openvino. auto uses "
        "the fastest one."
    ),
]
DeviceOption = Annotated[
    Device,
    typer.Option(
        help="Where to run the model. auto uses a CUDA GPU if ONNX Runtime supports it, or the CPU."
    ),
]


CsvFile = Annotated[
    Path | None, typer.Option("--csv", help="Write a table with one row per photo.")
]
ParquetFile = Annotated[
    Path | None, typer.Option("--parquet", help="Write the same table, with all boxes, as Parquet.")
]
CocoFile = Annotated[
    Path | None, typer.Option("--coco", help="Write the boxes as COCO annotations.")
]
YoloFolder = Annotated[
    Path | None, typer.Option("--yolo", help="Folder for the boxes as YOLO labels.")
]
MasksFolder = Annotated[
    Path | None, typer.Option("--masks", help="Folder for masks: 255 where a photo is hidden.")
]
InstanceMasksFolder = Annotated[
    Path | None,
    typer.Option("--instance-masks", help="Folder for 16-bit masks that number the plates."),
]
Workers = Annotated[
    int | None,
    typer.Option(
        min=1, help="Number of photos to process in parallel; by default, the number of cores."
    ),
]
ClusterOption = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        metavar="ADDRESS",
        help="Blur the photos on a Ray cluster: auto for the one of this machine, HOST:PORT, or "
        "ray://HOST:PORT. Requires plateblur[cluster].",
    ),
]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Only print errors.")]
Json = Annotated[bool, typer.Option("--json", help="Print a summary as one JSON object.")]


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
        help="refuse a truncated JPEG, or hide the rows that can't be decoded: they turn grey."
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
        raise typer.BadParameter("use either --fast or --thorough, not both")
    return "fast" if fast else "thorough" if thorough else DEFAULTS.effort
