"""The commands for what comes after a run: hide what was corrected, look at it, vouch for it."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from plateblur.cli_options import (
    AlwaysHide,
    DeviceOption,
    EngineOption,
    Exact,
    IgnoreZone,
    InstanceMasksFolder,
    ManifestOption,
    Margin,
    MasksFolder,
    MetadataOption,
    MethodOption,
    MinConfidence,
    ModelOption,
    Quiet,
    Workers,
    ZonesName,
    finite,
)
from plateblur.cli_runs import (
    console,
    ending_on_bad_start,
    finish,
    hide_in_clips,
    place_of,
    places_of,
    require_jobs,
    say,
    settings_of,
    shown,
)
from plateblur.cli_serving import extra
from plateblur.cores import cores, limit_opencv
from plateblur.errors import RunError
from plateblur.photo import MAX_PIXELS
from plateblur.pipeline import DEFAULTS, blur_given
from plateblur.runs.audit import audit_of, drawn
from plateblur.runs.clips import ClipWork, clip_options_of
from plateblur.runs.files import write_atomically
from plateblur.runs.given import (
    Given,
    GivenClips,
    Reviewed,
    corrected,
    corrected_clips,
    given_by,
    options_of,
    reviewed_run,
)
from plateblur.runs.ledger import Again
from plateblur.runs.manifest import SOFTWARE
from plateblur.runs.photos import MaskFolders, photo_maker
from plateblur.runs.plan import File, Plan, Task
from plateblur.runs.progress import number
from plateblur.runs.review_log import to_hide
from plateblur.runs.reviewed_set import MISSED, MISSED_TIMES, By, write_reviewed
from plateblur.runs.run import How, started
from plateblur.runs.workers import MORE_IN_HAND, room_for
from plateblur.runs.zones import ZoneFiles, zones_of
from plateblur.sets.forms import DrawnOn
from plateblur.sets.layout import DatasetError, SetCard, counts
from plateblur.types import BlurOptions, BlurredPhoto, Detector

APPLY_EXAMPLES = """
Examples: plateblur apply out/

plateblur apply plates.json survey/ -o out/

plateblur apply labels/ survey/ -o out/ --detect
"""
AUDIT_EXIT_CODES = """
Exit codes: 0 the sample was drawn, or the claim holds; 1 the sample isn't finished, or the claim
doesn't hold; 2 the command could not start.
"""
AUDIT_NAME = "plateblur-audit"
OF_THE_RUN = ("method", "margin", "metadata_policy", "exact", "min_confidence", "model")
"""Options that a run has chosen, so that a corrected photo can't have others."""


RunFolder = Annotated[
    Path,
    typer.Argument(metavar="RUN", help="Output folder of a run.", exists=True, file_okay=False),
]


def apply(
    ctx: typer.Context,
    boxes: Annotated[
        Path,
        typer.Argument(
            metavar="BOXES",
            help="Output folder of a run, its manifest, a COCO file, or a folder of YOLO labels.",
            exists=True,
        ),
    ],
    photos: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PHOTO_OR_FOLDER",
            help="Photos that the boxes are for; by default, those that BOXES names.",
        ),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            "-o",
            "--out",
            help="Folder or bucket for the blurred photos. Without it, BOXES is a run, and its "
            "corrected photos are rewritten.",
        ),
    ] = None,
    detect: Annotated[
        bool, typer.Option("--detect", help="Also look for plates, and hide those too.")
    ] = False,
    drawn_on: Annotated[
        DrawnOn | None,
        typer.Option(
            help="What boxes were drawn on if a photo has an EXIF orientation: the upright "
            "picture, or the raster as it is stored.",
        ),
    ] = None,
    method: MethodOption = DEFAULTS.method,
    margin: Margin = DEFAULTS.margin,
    min_confidence: MinConfidence = DEFAULTS.min_confidence,
    metadata_policy: MetadataOption = DEFAULTS.metadata,
    exact: Exact = False,
    ignore_zone: IgnoreZone = None,
    always_hide: AlwaysHide = None,
    zones: ZonesName = None,
    masks: MasksFolder = None,
    instance_masks: InstanceMasksFolder = None,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Also replace files that no run has written, or that were changed since.",
        ),
    ] = False,
    manifest: ManifestOption = None,
    model: ModelOption = None,
    engine: EngineOption = "onnxruntime",
    device: DeviceOption = "cpu",
    workers: Workers = None,
    quiet: Quiet = False,
) -> None:
    """Hide boxes that you give, without looking for plates.

    After a review, `plateblur apply OUT` writes the corrected photos and clips of the run in OUT
    again, from the originals and with the options of that run. The others stay as they are.
    """
    mask_folders = MaskFolders(masks, instance_masks)
    with ending_on_bad_start():
        if out is None:
            if photos or detect:
                raise typer.BadParameter("photos and --detect need -o OUT")
            _refuse_options_of_the_run(ctx)
            reviewed = reviewed_run(boxes, manifest)
            batches, clips = _corrections(reviewed), _clip_corrections(reviewed)
            if not batches and not clips:
                say([f"nothing to write: {boxes} is as it was reviewed"], hidden=quiet)
        else:
            clips = []
            given = given_by(boxes, places_of(photos or [], None)[0], drawn_on=drawn_on)
            if not detect:
                given.without_detector()
            require_jobs(given.work, "photos with boxes")
            options = BlurOptions(
                method=method,
                margin=margin,
                min_confidence=min_confidence,
                metadata=metadata_policy,
                exact=exact,
            )
            settings = settings_of(options, model) if detect else shown(options)
            batches = [Batch(given, place_of(out), options, settings | {"boxes": "given"})]
        always = ZoneFiles(zones_of(ignore_zone or (), always_hide or ()), name=zones)
        ended: list[int] = []
        for batch in batches:
            photo_count = len(batch.given.work.jobs)
            detector, at_a_time = None, max(1, min(workers or cores(), photo_count))
            if detect:
                detector, at_a_time = ctx.obj(
                    engine, device, workers, photos=photo_count, model=model
                )
            how = How(
                out=batch.out,
                manifest=manifest,
                overwrite=overwrite,
                again=Again(redo=True),
                settings=batch.settings,
                software=SOFTWARE,
                zones=always,
                sides_of=mask_folders.of,
            )
            with _noting_exit(ended):
                _hide(batch, how, detector, mask_folders, workers=at_a_time, quiet=quiet)
        for clip_batch in clips:
            how = How(
                out=boxes,
                manifest=manifest,
                overwrite=overwrite,
                again=Again(redo=True),
                settings=clip_batch.settings,
                software=SOFTWARE,
            )
            with _noting_exit(ended):
                hide_in_clips(clip_batch.given, how, clip_batch.work, quiet=quiet)
    if any(ended):
        raise typer.Exit(max(ended))


def review(
    run: RunFolder,
    manifest: ManifestOption = None,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0 for any free port.")
    ] = 7861,
    open_browser: Annotated[
        bool, typer.Option("--open/--no-open", help="Open the page in your browser.")
    ] = False,
) -> None:
    """Look through a run and correct what is hidden. Requires plateblur[workspace].

    The page shows the run's photos and clips. It is served to this machine only, until Ctrl-C. What
    people change and look at is written beside the manifest; `plateblur apply` then writes what
    was corrected.
    """
    with extra("workspace"):
        from plateblur.review.serving import run_workspace
    with ending_on_bad_start():
        run_workspace(
            run,
            manifest,
            port=port,
            opens_browser=open_browser,
            say=lambda address: typer.echo(f"Open {address} (Ctrl-C ends)"),
        )


def audit(
    run: RunFolder,
    manifest: ManifestOption = None,
    share: Annotated[
        float,
        typer.Option(
            min=0.00001,
            max=0.99999,
            callback=finite,
            help="The claim: fewer than this share of the photos have a readable plate.",
        ),
    ] = 0.01,
    confidence: Annotated[
        float,
        typer.Option(min=0.5, max=0.99999, callback=finite, help="Confidence of the claim."),
    ] = 0.95,
    sample: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Number of photos to draw; by default as many as the claim needs if none of them "
            "has a readable plate.",
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Seed of the draw; by default a random one.")
    ] = None,
    new: Annotated[
        bool, typer.Option("--new", help="Draw a new sample in place of the last one.")
    ] = False,
    report: Annotated[
        Path | None,
        typer.Option(
            help="Where to write the report: FILE.html and FILE.pdf; by default "
            "plateblur-audit beside the manifest.",
        ),
    ] = None,
) -> None:
    """Draw a random sample of a run to review, and report what it says about all photos.

    The first call draws the sample. Look at it with `plateblur review RUN`. The next call writes
    the report as HTML and PDF. Requires plateblur[workspace].
    """
    with extra("workspace"):
        from plateblur.review.report import audit_html, audit_pdf, claim_of
    with ending_on_bad_start():
        reviewed = reviewed_run(run, manifest)
        if new or reviewed.log.sample is None:
            drawn_now = drawn(
                reviewed,
                size=sample,
                share=share,
                confidence=confidence,
                seed=secrets.randbits(32) if seed is None else seed,
            )
            reviewed.log.draw(drawn_now)
            say(
                [
                    f"{number(len(drawn_now.outputs), 'photo')} of {drawn_now.population} drawn. "
                    f"Look at them with: plateblur review {run}"
                ],
                hidden=False,
            )
            return
        audited = audit_of(reviewed)
    typer.echo(claim_of(audited))
    if audited.left:
        raise typer.Exit(1)
    stem = report or reviewed.manifest.path.with_name(AUDIT_NAME)
    now = datetime.now(UTC)
    write_atomically(stem.with_suffix(".html"), audit_html(audited, now=now).encode())
    write_atomically(stem.with_suffix(".pdf"), audit_pdf(audited, now=now))
    say([f"-> {stem.with_suffix('.html')} and .pdf"], hidden=False)
    if not audited.holds:
        raise typer.Exit(1)


def collect(
    run: RunFolder,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of the new data set.")],
    name: Annotated[
        str, typer.Option(help="Short name of the set; the file names of its photos begin with it.")
    ] = "reviewed",
    by: Annotated[
        By,
        typer.Option(
            help="What photos that go to one split have in common: their folder (a ride), the "
            "place where they were taken (500 m, from EXIF), or nothing.",
        ),
    ] = "folder",
    group: Annotated[
        str | None,
        typer.Option(
            metavar="REGEX",
            help="In place of --by: what the names of one ride or place have in common.",
        ),
    ] = None,
    times: Annotated[
        int,
        typer.Option(
            min=1, max=20, help="How often a training run sees a photo with a missed plate."
        ),
    ] = MISSED_TIMES,
    licence: Annotated[str, typer.Option(help="Licence of the photos.")] = "unstated",
    region: Annotated[str, typer.Option(help="Where the plates are from.")] = "unknown",
    manifest: ManifestOption = None,
) -> None:
    """Make a data set for training of the photos of a run that were looked at.

    The photos are unblurred: keep the folder as safe as the originals. Photos that nobody has
    looked at are left out.
    """
    with ending_on_bad_start():
        try:
            pattern = None if group is None else re.compile(group)
        except re.error as error:
            raise typer.BadParameter(f"--group {group!r} is no regular expression") from error
        if not re.fullmatch(r"[a-z0-9_]+", name):
            raise typer.BadParameter(f"--name takes a-z, 0-9 and _, got {name!r}")
        card = SetCard(name, "reviewed photos of a run", licence, region)
        try:
            collected = write_reviewed(
                reviewed_run(run, manifest), out, card, by=by, group=pattern, times=times
            )
        except DatasetError as error:
            raise RunError(str(error)) from error
    missed = sum(row.set != name for row in collected.rows)
    typer.echo(counts(collected.rows))
    say(
        [
            *(f"left out: {each}, because {why}" for why, each in collected.left_out.items()),
            f"{number(missed, 'photo')} with a missed plate: set {name}-{MISSED}, listed {times} "
            "times in train.txt",
            f"-> {out}/data.yaml. The photos in it are unblurred.",
        ],
        hidden=False,
    )


@dataclass(frozen=True, slots=True)
class Batch:
    """Photos that are hidden with the same options.

    Attributes:
        given: the photos, and what is to be hidden.
        out: where they go.
        options: how they are hidden.
        settings: the same, as the manifest names them.
        max_pixels: the most that a photo may have.
        is_again: they are written again in the place of a run's outputs.
    """

    given: Given
    out: File
    options: BlurOptions
    settings: dict[str, Any]
    max_pixels: int = MAX_PIXELS
    is_again: bool = False


@contextmanager
def _noting_exit(ended: list[int]) -> Iterator[None]:
    """Note the exit code of a batch, so that one that fails doesn't keep the next from its turn."""
    try:
        yield
    except typer.Exit as end:
        ended.append(end.exit_code)


def _corrections(reviewed: Reviewed) -> list[Batch]:
    """Return the photos of a run that are to be written again, by the options of their run."""
    batches: dict[str, Batch] = {}
    for number_of_run, given in corrected(reviewed).items():
        settings = reviewed.manifest.runs[number_of_run]["settings"]
        options, max_pixels = options_of(settings)
        batch = batches.setdefault(
            json.dumps(settings),
            Batch(
                Given(Plan()), reviewed.folder, options, settings, max_pixels or MAX_PIXELS, True
            ),
        )
        batch.given.work.jobs.extend(given.work.jobs)
        batch.given.plates.update(given.plates)
    return list(batches.values())


@dataclass(frozen=True, slots=True)
class ClipBatch:
    """Clips that are hidden with the same options.

    Attributes:
        given: the clips, and their plates.
        work: hides them.
        settings: how, as the manifest names it.
    """

    given: GivenClips
    work: ClipWork
    settings: dict[str, Any]


def _clip_corrections(reviewed: Reviewed) -> list[ClipBatch]:
    """Return the clips of a run that are to be written again, by the options of their run."""
    batches: dict[str, ClipBatch] = {}
    for number_of_run, given in corrected_clips(reviewed).items():
        settings = reviewed.manifest.runs[number_of_run]["settings"]
        work = ClipWork(None, options_of(settings)[0], clip_options_of(settings))
        batch = batches.setdefault(json.dumps(settings), ClipBatch(GivenClips(), work, settings))
        batch.given.work.jobs.extend(given.work.jobs)
        batch.given.reviews.update(given.reviews)
    return list(batches.values())


def _hide(
    batch: Batch,
    how: How,
    detector: Detector | None,
    masks: MaskFolders,
    *,
    workers: int,
    quiet: bool,
) -> None:
    """Hide what is given in the photos of a batch, and say what came of it."""
    given, options = batch.given, replace(batch.options, mask=bool(masks))
    nothing = to_hide(())
    limit_opencv(max(1, cores() // workers))
    with started([job.photo for job in given.work.jobs], given.work, how) as run:
        for task in run.tasks:
            wanted = given.of(task.job)
            if wanted is not None and wanted.zones != task.zones_name and batch.is_again:
                raise RunError(
                    "the photos were blurred with zones: give the same --ignore-zone, "
                    "--always-hide and --zones again"
                )

        def hidden(data: bytes, task: Task) -> BlurredPhoto:
            wanted = given.of(task.job)
            return blur_given(
                data,
                nothing if wanted is None else wanted.plates,
                options,
                detector=detector,
                max_pixels=batch.max_pixels,
                zones=task.zones,
            )

        make = photo_maker(
            hidden,
            room_for(workers),
            masks,
            run.inputs,
            is_one_file=False,
            keeps_pictures=False,
        )
        doing = run.here(given.take, make, workers + MORE_IN_HAND)
        tally, _ = run.carry_out(doing, "Hiding", console=console, hidden=quiet)
    if given.without:
        say([f"boxes for {number(given.without, 'other photo')} were passed over"], hidden=quiet)
    if given.clips:
        passed_over = f"{number(given.clips, 'clip')} of the run passed over"
        say([f"{passed_over}: leave -o out to write their corrections"], hidden=quiet)
    finish(tally, given.work, f" -> {how.out}", hidden=quiet)


def _refuse_options_of_the_run(ctx: typer.Context) -> None:
    """Refuse options that the run has chosen already."""
    for name in OF_THE_RUN:
        source = ctx.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            option = next(each.opts[0] for each in ctx.command.params if each.name == name)
            raise typer.BadParameter(
                f"corrected photos get the options of their run; {option} needs -o OUT"
            )
