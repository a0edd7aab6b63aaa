"""The `plateblur` command: photos and folders in, blurred photos or detections out."""

from __future__ import annotations

import json
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from functools import partial
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
import typer.main
from typer.core import TyperGroup

from plateblur.cli_live import EXAMPLES as LIVE_EXAMPLES
from plateblur.cli_live import live
from plateblur.cli_options import (
    AlwaysHide,
    ClusterOption,
    CocoFile,
    CsvFile,
    DamagedPhotos,
    DeviceOption,
    DropOtherPictures,
    EngineOption,
    Exact,
    Fast,
    IgnoreZone,
    InstanceMasksFolder,
    Json,
    ListFile,
    ManifestOption,
    Margin,
    MasksFolder,
    MaxPixels,
    MetadataOption,
    MethodOption,
    MinConfidence,
    ModelOption,
    ParquetFile,
    Photos,
    ProjectionOption,
    Quiet,
    Recursive,
    Resume,
    RetryFailed,
    SmallestPlate,
    Thorough,
    Workers,
    YoloFolder,
    ZonesName,
    effort_of,
)
from plateblur.cli_review import APPLY_EXAMPLES, AUDIT_EXIT_CODES, apply, audit, collect, review
from plateblur.cli_runs import (
    blur_clips,
    blur_one_clip,
    check_side_file,
    cluster_at,
    console,
    ending_on_bad_start,
    find_photos,
    finish,
    names_one_file,
    open_detector,
    place_of,
    places_of,
    say,
    settings_of,
)
from plateblur.cli_serving import demo, extra, serve
from plateblur.cores import cores, limit_opencv
from plateblur.detector import OnnxDetector, shipped_model
from plateblur.engines import Device, Engine
from plateblur.photo import MAX_PIXELS, decode
from plateblur.pipeline import DEFAULTS, find_plates, panorama_in
from plateblur.runs.clips import ClipWork, clip_target
from plateblur.runs.files import explain
from plateblur.runs.given import corrections_of
from plateblur.runs.ledger import Again
from plateblur.runs.manifest import SOFTWARE
from plateblur.runs.photos import MaskFolders, photo_maker
from plateblur.runs.plan import Job, Task
from plateblur.runs.progress import Doing, Done, Tally, progress
from plateblur.runs.report import described
from plateblur.runs.run import How, started
from plateblur.runs.settle import PHOTO_FAULTS
from plateblur.runs.sides import Sides
from plateblur.runs.workers import MORE_IN_HAND, done_in_order, pixels_of, room_for
from plateblur.runs.zones import ZoneFiles, zones_of
from plateblur.types import BlurOptions, MetadataPolicy

EXIT_CODES = """
Exit codes: 0 every photo was processed; 1 at least one failed, and is listed at the end;
2 the command could not start.
"""
BLUR_EXAMPLES = """
Examples: plateblur blur holiday.jpg -o blurred.jpg

plateblur blur survey/ -o out/ --recursive --report report.jsonl
"""
VIDEO_EXAMPLES = """
Examples: plateblur video drive.mp4 -o blurred.mp4

plateblur video dashcam/ -o out/ --recursive --metadata safe
"""
DETECT_EXAMPLE = """
Example: plateblur detect survey/ --recursive > plates.jsonl
"""


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


@app.callback(invoke_without_command=True)
def main(
    ctx: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Find licence plates in photos and make them unreadable."""
    ctx.obj = open_detector_for  # for commands in other files
    if version:
        typer.echo(f"plateblur {metadata.version('plateblur')}")
        raise typer.Exit


@app.command(epilog=BLUR_EXAMPLES + EXIT_CODES)
def blur(
    photos: Photos = None,
    out: Annotated[
        str | None,
        typer.Option(
            "-o",
            "--out",
            help="Folder or bucket (s3://...) for the blurred photos, or a file for one photo.",
        ),
    ] = None,
    in_place: Annotated[
        bool, typer.Option("--in-place", help="Overwrite the original photos.")
    ] = False,
    method: MethodOption = DEFAULTS.method,
    margin: Margin = DEFAULTS.margin,
    min_confidence: MinConfidence = DEFAULTS.min_confidence,
    metadata_policy: MetadataOption = DEFAULTS.metadata,
    draw_boxes: Annotated[
        bool, typer.Option("--draw-boxes", help="Also draw boxes and confidences.")
    ] = False,
    ignore_zone: IgnoreZone = None,
    always_hide: AlwaysHide = None,
    zones: ZonesName = None,
    recursive: Recursive = False,
    list_file: ListFile = None,
    resume: Resume = True,
    retry_failed: RetryFailed = False,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite", help="Also replace files that were not written by an earlier run."
        ),
    ] = False,
    exact: Exact = False,
    damaged: DamagedPhotos = DEFAULTS.damaged,
    drop_other_pictures: DropOtherPictures = False,
    manifest: ManifestOption = None,
    report: Annotated[
        Path | None, typer.Option(help="Write a report to this file, one JSON object per photo.")
    ] = None,
    csv: CsvFile = None,
    parquet: ParquetFile = None,
    coco: CocoFile = None,
    yolo: YoloFolder = None,
    masks: MasksFolder = None,
    instance_masks: InstanceMasksFolder = None,
    max_pixels: MaxPixels = MAX_PIXELS,
    fast: Fast = False,
    thorough: Thorough = False,
    smallest_plate_px: SmallestPlate = DEFAULTS.smallest_plate_px,
    projection: ProjectionOption = DEFAULTS.projection,
    model: ModelOption = None,
    engine: EngineOption = "onnxruntime",
    device: DeviceOption = "cpu",
    workers: Workers = None,
    cluster: ClusterOption = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Blur the plates in photos.

    The input files are not changed unless you use --in-place. If a photo fails, no output is
    written for it, and the others are still processed. Ctrl-C finishes the photos in progress and
    stops; run the same command again to continue.
    """
    if (out is None) == (not in_place):
        raise typer.BadParameter("use either -o OUT or --in-place")
    if exact and not find_spec("jpeglib"):
        raise typer.BadParameter('--exact needs an extra: pip install "plateblur[exact]"')
    begun = time.monotonic()
    mask_folders = MaskFolders(masks, instance_masks)
    sides = Sides(report=report, table=csv, parquet=parquet, coco=coco, yolo=yolo)
    options = BlurOptions(
        method=method,
        margin=margin,
        min_confidence=min_confidence,
        metadata=metadata_policy,
        draw_boxes=draw_boxes,
        mask=bool(mask_folders),
        smallest_plate_px=smallest_plate_px,
        effort=effort_of(fast=fast, thorough=thorough),
        projection=projection,
        exact=exact,
        damaged=damaged,
    )
    with ending_on_bad_start():
        target = None if out is None else place_of(out)
        given, listed = places_of(photos or [], list_file)
        work = find_photos(given, listed, recursive=recursive, out=target)
        how = How(
            out=target,
            is_one_file=target is not None and names_one_file(given, work, target),
            manifest=manifest,
            overwrite=overwrite,
            again=Again(redo=not resume, retry_failed=retry_failed),
            settings=settings_of(options, model) | {"max_pixels": max_pixels},
            software=SOFTWARE,
            zones=ZoneFiles(zones_of(ignore_zone or (), always_hide or ()), name=zones),
            sides_of=mask_folders.of,
        )
        with cluster_at(cluster), started(given, work, how) as run:
            for path in sides.files():
                check_side_file(path, run)
            say(run.left.notes, hidden=quiet)
            keeps_pictures = in_place and not drop_other_pictures
            corrections = corrections_of(run.manifest)
            say(corrections.notes(run.left.todo), hidden=quiet)

            def here() -> AbstractContextManager[Doing]:
                detector, number = open_detector_for(
                    engine, device, workers, photos=len(run.left.todo), model=model
                )
                make = photo_maker(
                    lambda data, task: corrections.blur(
                        data, task, detector, options, max_pixels=max_pixels
                    ),
                    room_for(number),
                    mask_folders,
                    run.inputs,
                    is_one_file=run.is_one_file,
                    keeps_pictures=keeps_pictures,
                )
                return nullcontext(run.here(Job.take, make, number + MORE_IN_HAND))

            def elsewhere() -> AbstractContextManager[Doing]:
                from plateblur.runs.cluster import crew_of
                from plateblur.runs.cluster_worker import Order

                order = Order(
                    software=SOFTWARE,
                    options=options,
                    max_pixels=max_pixels,
                    engine=engine,
                    device=device,
                    out=target,
                    is_one_file=run.is_one_file,
                    overwrite=overwrite,
                    keeps_pictures=keeps_pictures,
                    masks=mask_folders,
                    run=run.ledger.settler.run,
                    corrections=corrections,
                )
                return crew_of(run, order, model or shipped_model(), given, workers=workers)

            with here() if cluster is None else elsewhere() as doing:
                tally, outcomes = run.carry_out(doing, "Blurring", console=console, hidden=quiet)
            tally.failures += sides.write(run, outcomes)
    if as_json:
        typer.echo(json.dumps(tally.summary(work, out, seconds=time.monotonic() - begun)))
    finish(tally, work, f" -> {target}" if target else ", in place", hidden=quiet or as_json)


@app.command(epilog=VIDEO_EXAMPLES + EXIT_CODES.replace("photo", "clip"))
def video(
    clips: Annotated[
        list[Path], typer.Argument(metavar="CLIP_OR_FOLDER", help="Clips or folders.", exists=True)
    ],
    out: Annotated[
        Path,
        typer.Option(
            "-o", "--out", help="The blurred clip: .mp4, .mov or .mkv; a folder for several."
        ),
    ],
    method: MethodOption = DEFAULTS.method,
    margin: Margin = DEFAULTS.margin,
    min_confidence: MinConfidence = DEFAULTS.min_confidence,
    sound: Annotated[
        Literal["keep", "drop"],
        typer.Option(help="Keep or drop all sound tracks. Voices are personal data too."),
    ] = "keep",
    metadata_policy: Annotated[
        MetadataPolicy,
        typer.Option(
            "--metadata",
            help="strip removes all metadata; safe keeps time, camera and language of the sound; "
            "keep also keeps location, title and author. Telemetry, subtitles and cover "
            "pictures are always removed.",
        ),
    ] = DEFAULTS.metadata,
    damaged: Annotated[
        Literal["refuse", "hide"],
        typer.Option(
            help="What to do with frames that can't be decoded: refuse the clip, or make them grey."
        ),
    ] = "refuse",
    quality: Annotated[
        Literal["high", "normal", "small"],
        typer.Option(help="Picture quality. high doubles the file size, small halves it."),
    ] = "normal",
    report: Annotated[
        Path | None,
        typer.Option(
            help="Write a report to this file, one JSON object per plate; for a single clip."
        ),
    ] = None,
    recursive: Recursive = False,
    resume: Annotated[
        bool | None,
        typer.Option(
            "--resume/--redo",
            help="Continue interrupted work; skip finished clips. Default for folders.",
        ),
    ] = None,
    retry_failed: RetryFailed = False,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite", help="Also replace files that were not written by an earlier run."
        ),
    ] = False,
    manifest: ManifestOption = None,
    model: ModelOption = None,
    engine: EngineOption = "onnxruntime",
    device: DeviceOption = "cpu",
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Blur the plates in clips, also in frames where they were missed for a moment.

    The output is upright and keeps the clip's times and sound. If any frame fails, no
    clip is produced. Interrupted work is kept next to the output until --resume finishes it or
    another run replaces it.
    """
    from plateblur.video import ClipOptions

    options = BlurOptions(
        method=method, margin=margin, min_confidence=min_confidence, metadata=metadata_policy
    )
    as_written = ClipOptions(sound=sound, damaged=damaged, quality=quality)
    with ending_on_bad_start():
        if len(clips) == 1 and not clips[0].is_dir() and out.suffix and not out.is_dir():
            detector = open_detector(engine, device, model=model)
            work = ClipWork(detector, options, as_written)
            blur_one_clip(
                clips[0], out, work, report, resume=bool(resume), overwrite=overwrite, quiet=quiet,
                as_json=as_json,
            )  # fmt: skip
            return
        if report is not None:
            raise typer.BadParameter("--report is for one clip; a folder has a manifest")
        blur_clips(
            clips,
            How(
                out=out,
                manifest=manifest,
                overwrite=overwrite,
                again=Again(redo=resume is False, retry_failed=retry_failed),
                settings=settings_of(options, model) | asdict(as_written),
                software=SOFTWARE,
                target_inside=clip_target,
            ),
            lambda: ClipWork(open_detector(engine, device, model=model), options, as_written),
            recursive=recursive,
            quiet=quiet,
            as_json=as_json,
        )


@app.command(epilog=DETECT_EXAMPLE + EXIT_CODES)
def detect(
    photos: Photos = None,
    min_confidence: MinConfidence = DEFAULTS.min_confidence,
    recursive: Recursive = False,
    list_file: ListFile = None,
    max_pixels: MaxPixels = MAX_PIXELS,
    fast: Fast = False,
    thorough: Thorough = False,
    smallest_plate_px: SmallestPlate = DEFAULTS.smallest_plate_px,
    projection: ProjectionOption = DEFAULTS.projection,
    model: ModelOption = None,
    engine: EngineOption = "onnxruntime",
    device: DeviceOption = "cpu",
    workers: Workers = None,
    quiet: Quiet = False,
) -> None:
    """Print the plates in photos as JSON, one line per photo.

    Boxes are left, top, right and bottom in pixels of the upright photo. In a panorama, a plate
    across the seam has a box on each side.
    """
    effort = effort_of(fast=fast, thorough=thorough)
    with ending_on_bad_start():
        given, listed = places_of(photos or [], list_file)
        work = find_photos(given, listed, recursive=recursive)
    detector, workers = open_detector_for(
        engine, device, workers, photos=len(work.jobs), model=model
    )
    room = room_for(workers)

    def detect_one(job: Job) -> Done:
        record: dict[str, Any] = {"photo": str(job.photo)}
        try:
            _, data = job.take()
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
        panorama = panorama_in(photo, projection)
        seen_as = "flat" if panorama is None else panorama.projection
        found = described(detections, photo.image_hw, seen_as)
        return Done(record | found, plates=len(detections))

    tally = Tally(failures=list(work.failed))
    for _, done in progress(
        [Task(job, job.photo, "") for job in work.jobs],
        partial(
            done_in_order, do=lambda task: detect_one(task.job), workers=workers + MORE_IN_HAND
        ),
        "Looking",
        tally,
        console=console,
        hidden=quiet,
    ):
        if done is not None and done.error is None:
            typer.echo(json.dumps(done.record))
    finish(tally, work, "", verb="found", hidden=quiet)


app.command(epilog=APPLY_EXAMPLES + EXIT_CODES)(apply)
app.command()(review)
app.command(epilog=AUDIT_EXIT_CODES)(audit)
app.command()(collect)
app.command(epilog=LIVE_EXAMPLES)(live)
app.command()(demo)
app.command()(serve)


def open_detector_for(
    engine: Engine, device: Device, workers: int | None, *, photos: int, model: Path | None
) -> tuple[OnnxDetector, int]:
    """Return the detector, and by how many workers the photos are to be done.

    The cores are shared out: with a photo for each core, looking at one of them takes one thread.
    """
    workers = max(1, min(workers or cores(), photos))
    threads = max(1, cores() // workers)
    limit_opencv(threads)
    return open_detector(engine, device, threads=threads, model=model), workers
