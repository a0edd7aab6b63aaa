"""The `plateblur` command: photos and folders in, blurred photos or detections out."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from plateblur.detector import Engine, OnnxDetector
from plateblur.errors import ModelError, PlateblurError
from plateblur.guidance import plate_ratios, ratio_text
from plateblur.photo import MAX_PIXELS, decode
from plateblur.pipeline import DEFAULTS, blur_photo, find_plates
from plateblur.types import BlurOptions, Detections, MetadataPolicy, Method

EXIT_CODES = """
Exit codes: 0 every photo was done; 1 at least one was not, and is listed at the end;
2 the command could not start.
"""
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".heic", ".heif", ".avif"})

app = typer.Typer(
    name="plateblur",
    help="Find licence plates in photos and make them unreadable.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console(stderr=True)  # standard output is for results alone

Photos = Annotated[
    list[Path],
    typer.Argument(metavar="PHOTO_OR_FOLDER...", help="Photos, or folders of photos.", exists=True),
]
MinConfidence = Annotated[
    float,
    typer.Option(min=0.001, max=1.0, help="Smallest confidence of a detection, 0 to 1."),
]
Recursive = Annotated[bool, typer.Option(help="Look into folders within folders too.")]
EngineOption = Annotated[
    Engine, typer.Option(help="What runs the model; openvino needs the extra of that name.")
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
    method: Annotated[
        Method,
        typer.Option(
            help="veil can't be undone, nor can solid; mosaic and gaussian are cosmetic: "
            "what they hide can be worked out by an attacker."
        ),
    ] = DEFAULTS.method,
    margin: Annotated[
        float,
        typer.Option(min=0.0, max=2.0, help="Share of a box's size hidden beyond it, a side."),
    ] = DEFAULTS.margin,
    min_confidence: MinConfidence = DEFAULTS.min_confidence,
    metadata_policy: Annotated[
        MetadataPolicy,
        typer.Option(
            "--metadata",
            help="strip: ICC profile alone leaves; safe: also capture time, camera and panorama "
            "tags; keep: everything but embedded thumbnails and previews.",
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
    engine: EngineOption = "onnxruntime",
) -> None:
    """Blur the plates of photos.

    The input stays as it is unless --in-place is given. A photo that can't be done leaves no
    output; the others are done all the same.
    """
    if (out is None) == (not in_place):
        raise typer.BadParameter("give either -o OUT or --in-place")
    jobs = find_photos(photos, recursive=recursive)
    options = BlurOptions(
        method=method,
        margin=margin,
        min_confidence=min_confidence,
        metadata=metadata_policy,
        draw_boxes=draw_boxes,
    )
    detector = open_detector(engine)
    one_file = out is not None and is_one_photo(photos) and out.suffix.lower() in SUFFIXES
    written: set[Path] = set()
    failures: list[tuple[Path, str]] = []
    lines: list[str] = []
    for job in progress(jobs, "Blurring"):
        target = job.photo if out is None else out if one_file else out / job.inside
        record: dict[str, Any] = {"photo": str(job.photo)}
        try:
            check_target(target, job.photo, in_place=in_place, overwrite=overwrite, taken=written)
            blurred = blur_photo(job.photo.read_bytes(), detector, options, max_pixels=max_pixels)
            write_atomically(target, blurred.data)
        except (PlateblurError, OSError) as error:
            reason = explain(error)
            failures.append((job.photo, reason))
            record["error"] = reason
        else:
            written.add(target.absolute())
            record |= {"output": str(target), **described(blurred.detections, blurred.image_hw)}
        lines.append(json.dumps(record))
    if report is not None:
        write_atomically(report, "".join(f"{line}\n" for line in lines).encode())
    finish(failures, done=len(jobs) - len(failures))


@app.command(epilog=EXIT_CODES)
def detect(
    photos: Photos,
    min_confidence: MinConfidence = DEFAULTS.min_confidence,
    recursive: Recursive = False,
    max_pixels: Annotated[int, typer.Option(min=1, help="Largest photo taken.")] = MAX_PIXELS,
    engine: EngineOption = "onnxruntime",
) -> None:
    """Print the plates of photos, one JSON object a line; nothing else on standard output.

    Boxes are in pixels of the upright photo: left, top, right, bottom.
    """
    jobs = find_photos(photos, recursive=recursive)
    detector = open_detector(engine)
    failures: list[tuple[Path, str]] = []
    for job in progress(jobs, "Looking"):
        try:
            photo = decode(job.photo.read_bytes(), max_pixels=max_pixels)
            detections = find_plates(photo, detector, min_confidence=min_confidence)
        except (PlateblurError, OSError) as error:
            failures.append((job.photo, explain(error)))
            continue
        found = described(detections, photo.image_hw)
        typer.echo(json.dumps({"photo": str(job.photo), **found}))
    finish(failures, done=len(jobs) - len(failures))


def find_photos(given: list[Path], *, recursive: bool) -> list[Job]:
    """Return the photos given and those in the folders given, in order of their names.

    In a folder only files with a photo's suffix count; a file given by name is always tried.
    """
    jobs: list[Job] = []
    for path in given:
        if path.is_dir():
            found = sorted(path.rglob("*") if recursive else path.iterdir())
            jobs += [
                Job(photo, photo.relative_to(path))
                for photo in found
                if photo.suffix.lower() in SUFFIXES and photo.is_file()
            ]
        else:
            jobs.append(Job(path, Path(path.name)))
    if not jobs:
        known = ", ".join(sorted(SUFFIXES))
        raise typer.BadParameter(f"no photos there; looked for {known}")
    return jobs


def is_one_photo(given: list[Path]) -> bool:
    """Return whether a single photo, and no folder, was given."""
    return len(given) == 1 and given[0].is_file()


def open_detector(engine: Engine) -> OnnxDetector:
    """Return the shipped detector, or end the command with the reason."""
    try:
        return OnnxDetector.shipped(engine=engine)
    except ModelError as error:
        console.print(f"plateblur: {error}", style="red", markup=False)
        raise typer.Exit(2) from error


def check_target(
    target: Path, photo: Path, *, in_place: bool, overwrite: bool, taken: set[Path]
) -> None:
    """Raise unless a blurred photo may be written to `target`.

    Raises:
        FileExistsError: the input itself, another photo of this run, or an earlier file.
    """
    if in_place:
        return
    if target.absolute() in taken:
        raise FileExistsError(f"another photo of this run was written to {target}")
    if target.exists() and target.samefile(photo):
        raise FileExistsError("the output is the photo itself; --in-place allows that")
    if target.exists() and not overwrite:
        raise FileExistsError(f"{target} is there already; --overwrite replaces it")


def write_atomically(target: Path, data: bytes) -> None:
    """Write `data` to `target` whole or not at all, making its folder."""
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=".plateblur-", suffix=".part")
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        part.chmod(target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~_umask())
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _umask() -> int:
    current = os.umask(0o077)
    os.umask(current)
    return current


def described(detections: Detections, image_hw: tuple[int, int]) -> dict[str, Any]:
    """Return detections as the JSON that both commands write."""
    height, width = image_hw
    return {
        "width": width,
        "height": height,
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
    return str(error)


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
