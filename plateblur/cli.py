"""The `plateblur` command: photos and folders in, blurred photos or detections out."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import cv2
import typer
import typer.main
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from typer.core import TyperGroup

from plateblur.cli_options import (
    DeviceOption,
    EngineOption,
    Fast,
    Margin,
    MethodOption,
    MinConfidence,
    Photos,
    ProjectionOption,
    Quiet,
    Recursive,
    SmallestPlate,
    Thorough,
    Workers,
    effort_of,
)
from plateblur.cli_serving import demo, extra, serve
from plateblur.detector import Device, Engine, OnnxDetector
from plateblur.errors import EncodeError, ModelError, PlateblurError, VideoError
from plateblur.formats import BY_SUFFIX, TAKEN
from plateblur.photo import MAX_PIXELS, decode
from plateblur.pipeline import DEFAULTS, blur_photo, find_plates, panorama_in
from plateblur.runs.files import Outputs, explain, put_in_place, write_atomically
from plateblur.runs.plan import Job, Plan, counted, plan, share_targets
from plateblur.runs.progress import Done, Tally, progress
from plateblur.runs.report import described
from plateblur.runs.workers import PIXELS_A_WORKER, PixelsInHand, cores, pixels_of
from plateblur.types import BlurOptions, MetadataPolicy

if TYPE_CHECKING:  # PyAV takes a while to load, and only `video` needs it
    from plateblur.video import BlurredClip

EXIT_CODES = """
Exit codes: 0 every photo was done; 1 at least one was not, and is listed at the end;
2 the command could not start.
"""
BLUR_EXAMPLES = """
Examples: plateblur blur holiday.jpg -o blurred.jpg

plateblur blur survey/ -o out/ --recursive --report report.jsonl
"""
DETECT_EXAMPLE = """
Example: plateblur detect survey/ --recursive > plates.jsonl
"""
# What goes wrong with one photo and stops no other.
PHOTO_FAULTS = (PlateblurError, OSError, MemoryError)


class Commands(TyperGroup):
    """The commands; `accounts` is listed where the extra `serve` is installed.

    It is imported only when it is used, because loading the store takes longer than blurring a
    photo.
    """

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the commands, in the order of the help."""
        served = ["accounts"] if find_spec("sqlalchemy") else []
        return [*super().list_commands(ctx), *served]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return the command of that name, or None."""
        if cmd_name != "accounts":
            return super().get_command(ctx, cmd_name)
        with extra("serve"):
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
    rich_markup_mode="markdown",  # else the lines of a docstring stay lines
    pretty_exceptions_enable=False,
)
console = Console(stderr=True)  # standard output is for results alone


@app.callback(invoke_without_command=True)
def main(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Find licence plates in photos and make them unreadable."""
    if version:
        typer.echo(f"plateblur {metadata.version('plateblur')}")
        raise typer.Exit


@app.command(epilog=BLUR_EXAMPLES + EXIT_CODES)
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
    workers: Workers = None,
    quiet: Quiet = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print what was done as one JSON object.")
    ] = False,
) -> None:
    """Blur the plates of photos.

    The input stays as it is unless --in-place is given. A photo that can't be done leaves no
    output; the others are done all the same. Ctrl-C finishes the photos in hand and stops.
    """
    if (out is None) == (not in_place):
        raise typer.BadParameter("give either -o OUT or --in-place")
    started = time.monotonic()
    work = find_photos(photos, recursive=recursive, out=out)
    outputs = Outputs([job.photo for job in work.jobs], overwrite=overwrite, in_place=in_place)
    if report is not None:
        check_report(report, outputs)
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
    one_file = out is not None and is_one_file(photos, out)

    def target_of(job: Job) -> Path:
        if out is None:  # through a link: the photo itself is to be replaced and not the link
            return job.photo.resolve()
        return out if one_file else out / job.inside

    shared = share_targets(work, target_of)
    detector, workers = open_detector_for(engine, device, workers, photos=len(work.jobs))
    room = PixelsInHand(PIXELS_A_WORKER * workers)

    def blur_one(job: Job) -> Done:
        record: dict[str, Any] = {"photo": str(job.photo)}
        target = target_of(job)
        try:
            if job in shared:
                raise FileExistsError(f"another photo of this run is written to {target}")
            outputs.check(target)
            data = job.photo.read_bytes()
            with room.of(pixels_of(data)):
                blurred = blur_photo(data, detector, options, max_pixels=max_pixels)
            if one_file:
                check_suffix(target, blurred.format)
            outputs.write(target, blurred.data)
        except PHOTO_FAULTS as error:
            reason = explain(error)
            return Done(record | {"error": reason}, error=reason)
        found = described(blurred.detections, blurred.image_hw, blurred.projection)
        return Done(record | {"output": str(target), **found}, plates=len(blurred.detections))

    tally = Tally(failures=list(work.failed))
    lines = [{"photo": str(path), "error": reason} for path, reason in work.failed]
    for job, done in progress(
        work.jobs, blur_one, "Blurring", workers, tally, console=console, hidden=quiet
    ):
        not_begun = {"photo": str(job.photo), "error": "not begun: the run was stopped"}
        lines.append(not_begun if done is None else done.record)
    lines += [{"skipped": str(path), "reason": one} for path, (one, _) in work.skipped]
    if report is not None:
        try:
            write_atomically(report, "".join(f"{json.dumps(line)}\n" for line in lines).encode())
        except OSError as error:
            tally.failures.append((report, explain(error)))
    if as_json:
        typer.echo(json.dumps(tally.summary(work, out, seconds=time.monotonic() - started)))
    finish(tally, work, f" -> {out}" if out is not None else ", in place", hidden=quiet or as_json)


@app.command(epilog=EXIT_CODES)
def video(
    clip: Annotated[Path, typer.Argument(help="The clip.", exists=True, dir_okay=False)],
    out: Annotated[Path, typer.Option("-o", "--out", help="The blurred clip: .mp4, .mov or .mkv.")],
    method: MethodOption = DEFAULTS.method,
    margin: Margin = DEFAULTS.margin,
    min_confidence: MinConfidence = DEFAULTS.min_confidence,
    sound: Annotated[
        Literal["keep", "drop"],
        typer.Option(help="keep every sound track, or drop them: voices are personal data too."),
    ] = "keep",
    metadata_policy: Annotated[
        MetadataPolicy,
        typer.Option(
            "--metadata",
            help="strip: none; safe: time of recording, camera and language of the sound; keep: "
            "also place, title and author. Telemetry, subtitles and covers never stay.",
        ),
    ] = DEFAULTS.metadata,
    damaged: Annotated[
        Literal["refuse", "hide"],
        typer.Option(
            help="refuse a clip with pictures that can't be decoded, or hide these: they turn grey."
        ),
    ] = "refuse",
    quality: Annotated[
        Literal["high", "normal", "small"],
        typer.Option(
            help="Quality of the pictures; high doubles the file's size, small halves it."
        ),
    ] = "normal",
    report: Annotated[
        Path | None,
        typer.Option(help="Write one JSON object a plate to this file: when it was where."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with work that was interrupted.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a blurred clip of an earlier run.")
    ] = False,
    engine: EngineOption = "onnxruntime",
    device: DeviceOption = "cpu",
) -> None:
    """Blur the plates of a clip, also in frames in which they were missed.

    The output is upright and keeps the clip's times and sound. If one frame can't be done, there
    is no output. Work that was interrupted is kept beside the output until --resume finishes it or
    another run replaces it.
    """
    from plateblur.video import ClipOptions, blur_clip

    containers: dict[str, Literal["mp4", "mov", "mkv"]]
    containers = {".mp4": "mp4", ".mov": "mov", ".mkv": "mkv"}
    if (container := containers.get(out.suffix.lower())) is None:
        raise typer.BadParameter(f"{out.name} must end in .mp4, .mov or .mkv")
    try:
        outputs = Outputs([clip], overwrite=overwrite)
        outputs.check(out)
    except OSError as error:
        raise typer.BadParameter(explain(error)) from error
    if report is not None:
        check_report(report, outputs)
        if report.absolute() == out.absolute():
            raise typer.BadParameter(f"the report can't be written over {report}")
    options = BlurOptions(
        method=method, margin=margin, min_confidence=min_confidence, metadata=metadata_policy
    )
    how = ClipOptions(container=container, sound=sound, damaged=damaged, quality=quality)
    detector = open_detector(engine, device)
    work, part = (out.parent / f".{out.name}.{kind}" for kind in ("work", "part"))
    out.parent.mkdir(parents=True, exist_ok=True)
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(), console=console
    )
    try:
        with clip.open("rb") as given, part.open("w+b") as file, bar:
            task = bar.add_task("Blurring", total=1.0)
            done = blur_clip(
                given,
                file,
                detector,
                options,
                how,
                progress=lambda share: bar.update(task, completed=share),
                work=work,
                resume=resume,
            )
        put_in_place(part, out)
        if report is not None:
            lines = "".join(f"{line}\n" for line in plate_lines(clip, done))
            write_atomically(report, lines.encode())
    except (PlateblurError, OSError, MemoryError) as error:
        console.print(f"not done: {clip}: {explain(error)}", style="red", markup=False)
        if isinstance(error, VideoError):  # it would be refused again
            shutil.rmtree(work, ignore_errors=True)
        raise typer.Exit(1) from error
    finally:
        part.unlink(missing_ok=True)
    shutil.rmtree(work, ignore_errors=True)
    for note in done.notes:
        console.print(note, markup=False, highlight=False)
    plates = "1 plate" if done.plates == 1 else f"{done.plates} plates"
    console.print(f"{plates} hidden in {done.frames} frames", highlight=False)


def plate_lines(clip: Path, done: BlurredClip) -> Iterator[str]:
    """Yield one JSON object for each plate that was followed through a clip.

    Boxes are in pixels of the clip as shown.
    """
    height, width = done.image_hw
    for number, plate in enumerate(done.followed, start=1):
        sightings = zip(plate.times_s, plate.track.xyxy, plate.track.confidence, strict=True)
        yield json.dumps(
            {
                "clip": str(clip),
                "plate": number,
                "video_track": plate.picture,
                "width": width,
                "height": height,
                "sightings": [
                    {
                        "time_s": round(time_s, 3),
                        "xyxy": [round(float(side), 1) for side in box],
                        "confidence": round(confidence, 4),
                    }
                    for time_s, box, confidence in sightings
                ],
            }
        )


@app.command(epilog=DETECT_EXAMPLE + EXIT_CODES)
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
    workers: Workers = None,
    quiet: Quiet = False,
) -> None:
    """Print the plates of photos, one JSON object a line; nothing else on standard output.

    Boxes are in pixels of the upright photo: left, top, right, bottom. In a panorama a plate across
    the seam has one on each side.
    """
    effort = effort_of(fast=fast, thorough=thorough)
    work = find_photos(photos, recursive=recursive)
    detector, workers = open_detector_for(engine, device, workers, photos=len(work.jobs))
    room = PixelsInHand(PIXELS_A_WORKER * workers)

    def detect_one(job: Job) -> Done:
        record: dict[str, Any] = {"photo": str(job.photo)}
        try:
            data = job.photo.read_bytes()
            with room.of(pixels_of(data)):
                photo = decode(data, max_pixels=max_pixels)
                detections = find_plates(
                    photo,
                    detector,
                    min_confidence=min_confidence,
                    smallest_plate_px=smallest_plate_px,
                    effort=effort,
                    projection=projection,
                )
        except PHOTO_FAULTS as error:
            return Done(record, error=explain(error))
        seen_as = "flat" if panorama_in(photo, projection) is None else "equirectangular"
        found = described(detections, photo.image_hw, seen_as)
        return Done(record | found, plates=len(detections))

    tally = Tally(failures=list(work.failed))
    for _, done in progress(
        work.jobs, detect_one, "Looking", workers, tally, console=console, hidden=quiet
    ):
        if done is not None and done.error is None:
            typer.echo(json.dumps(done.record))
    finish(tally, work, "", verb="found", hidden=quiet)


app.command()(demo)
app.command()(serve)


def find_photos(given: list[Path], *, recursive: bool, out: Path | None = None) -> Plan:
    """Return what there is to do, or end the command where there is nothing."""
    found = plan(given, recursive=recursive, out=out)
    if not found.jobs:
        told = [f"{path}: {reason}" for path, reason in found.failed]
        told += [counted(found.skipped)] if found.skipped else []
        raise typer.BadParameter("; ".join([f"no {TAKEN} photos there", *told]))
    return found


def is_one_file(given: list[Path], out: Path) -> bool:
    """Return whether `out` names the blurred photo itself, and not a folder for it."""
    one_photo = len(given) == 1 and given[0].is_file()
    return one_photo and out.suffix.lower() in BY_SUFFIX and not out.is_dir()


def check_report(report: Path, outputs: Outputs) -> None:
    """Raise unless the report may be written to `report`: it must not replace a photo.

    Raises:
        typer.BadParameter: it would.
    """
    if outputs.holds(report) or report.is_dir() or report.suffix.lower() in BY_SUFFIX:
        raise typer.BadParameter(f"the report can't be written over {report}")


def check_suffix(target: Path, format_: str) -> None:
    """Raise unless a photo of `format_` may be called `target`.

    Raises:
        EncodeError: another format goes by that name.
    """
    if BY_SUFFIX[target.suffix.lower()].name != format_:
        raise EncodeError(f"the photo is a {format_} and stays one; {target.name} says otherwise")


def open_detector_for(
    engine: Engine, device: Device, workers: int | None, *, photos: int
) -> tuple[OnnxDetector, int]:
    """Return the shipped detector, and by how many workers the photos are to be done.

    The cores are shared out: with a photo for each core, looking at one of them takes one thread.
    """
    workers = min(workers or cores(), photos)
    threads = max(1, cores() // workers)
    cv2.setNumThreads(threads)
    return open_detector(engine, device, threads=threads), workers


def open_detector(engine: Engine, device: Device, *, threads: int | None = None) -> OnnxDetector:
    """Return the shipped detector, or end the command with the reason."""
    try:
        return OnnxDetector.shipped(engine=engine, device=device, threads=threads)
    except ModelError as error:
        console.print(f"plateblur: {error}", style="red", markup=False)
        raise typer.Exit(2) from error


def finish(tally: Tally, work: Plan, where: str, *, verb: str = "hidden", hidden: bool) -> None:
    """Say what was done and what was not, and exit with 1 if a photo was left out."""
    for photo, reason in tally.failures:
        console.print(f"not done: {photo}: {reason}", style="red", markup=False, soft_wrap=True)
    if not hidden:
        for line in tally.told(work, where, verb=verb):
            console.print(line, highlight=False, markup=False, soft_wrap=True)
    if tally.failures or tally.not_begun:
        raise typer.Exit(1)
