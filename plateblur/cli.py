"""The `plateblur` command: photos and folders in, blurred photos or detections out."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer
import typer.main
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from typer.core import TyperGroup

from plateblur.detector import Device, Engine, OnnxDetector
from plateblur.errors import EncodeError, ModelError, PlateblurError
from plateblur.guidance import plate_ratios, ratio_text
from plateblur.photo import MAX_PIXELS, decode
from plateblur.pipeline import DEFAULTS, blur_photo, find_plates, panorama_in
from plateblur.types import BlurOptions, Detections, Effort, MetadataPolicy, Method, Projection

EXIT_CODES = """
Exit codes: 0 every photo was done; 1 at least one was not, and is listed at the end;
2 the command could not start.
"""
FORMATS = {
    **{".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP"},
    **{".heic": "HEIF", ".heif": "HEIF", ".avif": "AVIF"},
}


class Commands(TyperGroup):
    """The commands, `accounts` among them where the extra `serve` is installed.

    It is imported when it is called for, because the store takes longer to load than a photo to
    blur.
    """

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the commands, in the order of the help."""
        served = ["accounts"] if find_spec("sqlalchemy") else []
        return [*super().list_commands(ctx), *served]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return the command of that name, or None."""
        if cmd_name != "accounts" or cmd_name not in self.list_commands(ctx):
            return super().get_command(ctx, cmd_name)
        from plateblur.accounts.commands import app as accounts

        command = typer.main.get_command(accounts)
        command.name = cmd_name
        return command


app = typer.Typer(
    name="plateblur",
    cls=Commands,
    help="Find licence plates in photos and make them unreadable.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console(stderr=True)  # standard output is for results alone


def finite(value: float) -> float:
    """Return `value`; NaN passes a check of ranges, so it is refused here."""
    if not math.isfinite(value):
        raise typer.BadParameter(f"expected a number, got {value}")
    return value


Photos = Annotated[
    list[Path],
    typer.Argument(metavar="PHOTO_OR_FOLDER...", help="Photos, or folders of photos.", exists=True),
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


@dataclass(frozen=True, slots=True)
class Job:
    """One photo to do.

    Attributes:
        photo: as given, or found in a folder that was given.
        inside: its path relative to that folder; its name alone where it was given itself.
    """

    photo: Path
    inside: Path


def effort_of(*, fast: bool, thorough: bool) -> Effort:
    """Return how hard to look.

    Raises:
        typer.BadParameter: both were asked for.
    """
    if fast and thorough:
        raise typer.BadParameter("give --fast or --thorough, not both")
    return "fast" if fast else "thorough" if thorough else DEFAULTS.effort


@app.callback(invoke_without_command=True)
def main(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Find licence plates in photos and make them unreadable."""
    if version:
        typer.echo(f"plateblur {metadata.version('plateblur')}")
        raise typer.Exit


@app.command(epilog=EXIT_CODES)
def blur(
    photos: Photos,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="Folder for the blurred photos; a file for one photo."),
    ] = None,
    in_place: Annotated[
        bool, typer.Option("--in-place", help="Replace the photos themselves.")
    ] = False,
    method: MethodOption = DEFAULTS.method,
    margin: Margin = DEFAULTS.margin,
    min_confidence: MinConfidence = DEFAULTS.min_confidence,
    metadata_policy: Annotated[
        MetadataPolicy,
        typer.Option(
            "--metadata",
            help="strip: only the ICC profile and a panorama's projection stay; safe: also capture "
            "time, camera and other panorama tags; keep: everything but embedded thumbnails and "
            "previews.",
        ),
    ] = DEFAULTS.metadata,
    draw_boxes: Annotated[
        bool, typer.Option("--draw-boxes", help="Draw boxes and confidences too.")
    ] = False,
    recursive: Recursive = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace blurred photos of an earlier run.")
    ] = False,
    report: Annotated[
        Path | None, typer.Option(help="Write one JSON object a photo to this file.")
    ] = None,
    max_pixels: Annotated[int, typer.Option(min=1, help="Largest photo taken.")] = MAX_PIXELS,
    fast: Fast = False,
    thorough: Thorough = False,
    smallest_plate_px: SmallestPlate = DEFAULTS.smallest_plate_px,
    projection: ProjectionOption = DEFAULTS.projection,
    engine: EngineOption = "onnxruntime",
    device: DeviceOption = "cpu",
) -> None:
    """Blur the plates of photos.

    The input stays as it is unless --in-place is given. A photo that can't be done leaves no
    output; the others are done all the same.
    """
    if (out is None) == (not in_place):
        raise typer.BadParameter("give either -o OUT or --in-place")
    jobs = find_photos(photos, recursive=recursive, out=out)
    inputs = {identity(job.photo) for job in jobs}
    if report is not None:
        check_report(report, inputs)
    options = BlurOptions(
        method=method,
        margin=margin,
        min_confidence=min_confidence,
        metadata=metadata_policy,
        draw_boxes=draw_boxes,
        smallest_plate_px=smallest_plate_px,
        effort=effort_of(fast=fast, thorough=thorough),
        projection=projection,
    )
    detector = open_detector(engine, device)
    one_file = out is not None and is_one_file(photos, out)
    written: set[Path] = set()
    failures: list[tuple[Path, str]] = []
    lines: list[str] = []
    for job in progress(jobs, "Blurring"):
        # Through a link, because the photo itself is to be replaced and not the link to it.
        target = job.photo.resolve() if out is None else out if one_file else out / job.inside
        record: dict[str, Any] = {"photo": str(job.photo)}
        try:
            if not in_place:
                check_target(target, inputs=inputs, overwrite=overwrite, taken=written)
            blurred = blur_photo(job.photo.read_bytes(), detector, options, max_pixels=max_pixels)
            if one_file:
                check_suffix(target, blurred.format)
            write_atomically(target, blurred.data)
        except (PlateblurError, OSError, MemoryError) as error:
            reason = explain(error)
            failures.append((job.photo, reason))
            record["error"] = reason
        else:
            written.add(target.absolute())
            found = described(blurred.detections, blurred.image_hw, blurred.projection)
            record |= {"output": str(target), **found}
        lines.append(json.dumps(record))
    if report is not None:
        try:
            write_atomically(report, "".join(f"{line}\n" for line in lines).encode())
        except OSError as error:
            failures.append((report, explain(error)))
    finish(failures, done=len(written))


def video(
    clip: Annotated[Path, typer.Argument(help="The clip.", exists=True, dir_okay=False)],
    out: Annotated[Path, typer.Option("-o", "--out", help="Where the blurred MP4 goes.")],
    method: MethodOption = DEFAULTS.method,
    margin: Margin = DEFAULTS.margin,
    min_confidence: MinConfidence = DEFAULTS.min_confidence,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a blurred clip of an earlier run.")
    ] = False,
    engine: EngineOption = "onnxruntime",
    device: DeviceOption = "cpu",
) -> None:
    """Blur the plates of a clip, also in frames in which they were missed.

    What leaves is an MP4, upright, with the clip's sound and times and without its metadata. Where
    one frame can't be done there is no output.
    """
    from plateblur.video import blur_clip

    if out.suffix.lower() != ".mp4":
        raise typer.BadParameter(f"the blurred clip is an MP4; {out.name} says otherwise")
    try:
        check_target(out, inputs={identity(clip)}, overwrite=overwrite, taken=set())
    except OSError as error:
        raise typer.BadParameter(explain(error)) from error
    detector = open_detector(engine, device)
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(), console=console
    )
    try:
        with clip.open("rb") as given, being_written(out) as part, bar:
            task = bar.add_task("Blurring", total=1.0)
            done = blur_clip(
                given,
                part,
                detector,
                method=method,
                margin=margin,
                min_confidence=min_confidence,
                progress=lambda share: bar.update(task, completed=share),
            )
    except (PlateblurError, OSError, MemoryError) as error:
        console.print(f"not done: {clip}: {explain(error)}", style="red", markup=False)
        raise typer.Exit(1) from error
    console.print(f"{done.plates} plates hidden in {done.frames} frames", highlight=False)


if find_spec("av"):  # the extra `video`
    app.command(epilog=EXIT_CODES)(video)


@app.command(epilog=EXIT_CODES)
def detect(
    photos: Photos,
    min_confidence: MinConfidence = DEFAULTS.min_confidence,
    recursive: Recursive = False,
    max_pixels: Annotated[int, typer.Option(min=1, help="Largest photo taken.")] = MAX_PIXELS,
    fast: Fast = False,
    thorough: Thorough = False,
    smallest_plate_px: SmallestPlate = DEFAULTS.smallest_plate_px,
    projection: ProjectionOption = DEFAULTS.projection,
    engine: EngineOption = "onnxruntime",
    device: DeviceOption = "cpu",
) -> None:
    """Print the plates of photos, one JSON object a line; nothing else on standard output.

    Boxes are in pixels of the upright photo: left, top, right, bottom. In a panorama a plate across
    the seam has one on each side.
    """
    effort = effort_of(fast=fast, thorough=thorough)
    jobs = find_photos(photos, recursive=recursive)
    detector = open_detector(engine, device)
    failures: list[tuple[Path, str]] = []
    for job in progress(jobs, "Looking"):
        try:
            photo = decode(job.photo.read_bytes(), max_pixels=max_pixels)
            detections = find_plates(
                photo,
                detector,
                min_confidence=min_confidence,
                smallest_plate_px=smallest_plate_px,
                effort=effort,
                projection=projection,
            )
        except (PlateblurError, OSError, MemoryError) as error:
            failures.append((job.photo, explain(error)))
            continue
        seen_as = "flat" if panorama_in(photo, projection) is None else "equirectangular"
        found = described(detections, photo.image_hw, seen_as)
        typer.echo(json.dumps({"photo": str(job.photo), **found}))
    finish(failures, done=len(jobs) - len(failures))


def find_photos(given: list[Path], *, recursive: bool, out: Path | None = None) -> list[Job]:
    """Return the photos given and those in the folders given, in order of their names.

    In a folder only files with a photo's suffix count; a file given by name is always tried.
    What stands in `out` below a folder is left: it was blurred by an earlier run.
    """
    jobs: list[Job] = []
    for path in given:
        if path.is_dir():
            try:
                found = sorted(path.rglob("*") if recursive else path.iterdir())
            except OSError as error:
                raise typer.BadParameter(explain(error)) from error
            jobs += [
                Job(photo, photo.relative_to(path))
                for photo in found
                if photo.suffix.lower() in FORMATS
                and photo.is_file()
                and not (out is not None and is_earlier_output(photo, out, given=path))
            ]
        else:
            jobs.append(Job(path, Path(path.name)))
    if not jobs:
        known = ", ".join(sorted(FORMATS))
        raise typer.BadParameter(f"no photos there; looked for {known}")
    return jobs


def is_earlier_output(photo: Path, out: Path, *, given: Path) -> bool:
    """Return whether `photo` stands in `out`, where `out` stands in the folder that was given."""
    out_folder = out.resolve()
    is_inside = given.resolve() in out_folder.parents
    return is_inside and photo.parent.resolve().is_relative_to(out_folder)


def identity(path: Path) -> tuple[int, int]:
    """Return what is the same for all names of one file, whatever links lead to it."""
    status = path.stat()
    return status.st_dev, status.st_ino


def is_one_file(given: list[Path], out: Path) -> bool:
    """Return whether `out` names the blurred photo itself, and not a folder for it."""
    one_photo = len(given) == 1 and given[0].is_file()
    return one_photo and out.suffix.lower() in FORMATS and not out.is_dir()


def check_report(report: Path, inputs: set[tuple[int, int]]) -> None:
    """Raise unless the report may be written to `report`: it must not replace a photo.

    Raises:
        typer.BadParameter: it would.
    """
    is_input = report.exists() and identity(report) in inputs
    if is_input or report.is_dir() or report.suffix.lower() in FORMATS:
        raise typer.BadParameter(f"the report can't be written over {report}")


def check_suffix(target: Path, format_: str) -> None:
    """Raise unless a photo of `format_` may be called `target`.

    Raises:
        EncodeError: another format goes by that name.
    """
    if FORMATS[target.suffix.lower()] != format_:
        raise EncodeError(f"the photo is a {format_} and stays one; {target.name} says otherwise")


def open_detector(engine: Engine, device: Device) -> OnnxDetector:
    """Return the shipped detector, or end the command with the reason."""
    try:
        return OnnxDetector.shipped(engine=engine, device=device)
    except ModelError as error:
        console.print(f"plateblur: {error}", style="red", markup=False)
        raise typer.Exit(2) from error


def check_target(
    target: Path, *, inputs: set[tuple[int, int]], overwrite: bool, taken: set[Path]
) -> None:
    """Raise unless a blurred photo may be written to `target`.

    Raises:
        FileExistsError: an input of this run, an output of it, or an earlier file.
    """
    if target.absolute() in taken:
        raise FileExistsError(f"another photo of this run was written to {target}")
    if target.exists() and identity(target) in inputs:
        raise FileExistsError(f"{target} was given itself; --in-place alone replaces those")
    if target.exists() and not overwrite:
        raise FileExistsError(f"{target} is there already; --overwrite replaces it")


def write_atomically(target: Path, data: bytes) -> None:
    """Write `data` to `target` whole or not at all, making its folder."""
    with being_written(target) as file:
        file.write(data)


@contextmanager
def being_written(target: Path) -> Iterator[BinaryIO]:
    """Open a file that becomes `target` at the end, or goes where anything is raised."""
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=".plateblur-", suffix=".part")
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.chmod(target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~_umask())
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _umask() -> int:
    current = os.umask(0o077)
    os.umask(current)
    return current


def described(detections: Detections, image_hw: tuple[int, int], projection: str) -> dict[str, Any]:
    """Return detections, and how they were looked for, as the JSON that both commands write."""
    height, width = image_hw
    searched = detections.searched
    return {
        "width": width,
        "height": height,
        **({} if projection == "flat" else {"projection": projection}),
        **({} if searched is None else asdict(searched)),
        "detections": [
            {
                "xyxy": [round(side, 1) for side in box],
                "confidence": round(confidence, 4),
                "plate_ratio": ratio_text(ratio),
            }
            for box, confidence, ratio in zip(
                detections.xyxy.tolist(),
                detections.confidence.tolist(),
                plate_ratios(detections.xyxy, image_hw=image_hw).tolist(),
                strict=True,
            )
        ],
    }


def explain(error: Exception) -> str:
    """Return one line for people about an error of the world."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror} ({error.filename})" if error.filename else error.strerror
    return str(error) or type(error).__name__


def progress(jobs: Iterable[Job], what: str) -> Iterator[Job]:
    """Yield the jobs with a progress bar on standard error, where there are several."""
    listed = list(jobs)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=len(listed) < 2,
    )
    with bar:
        yield from bar.track(listed, description=what)


def finish(failures: list[tuple[Path, str]], *, done: int) -> None:
    """List what was not done, and exit with 1 if there is any."""
    for photo, reason in failures:
        console.print(f"not done: {photo}: {reason}", style="red", markup=False, soft_wrap=True)
    if failures:
        console.print(f"{done} photos done, {len(failures)} not", highlight=False)
        raise typer.Exit(1)
