"""What the commands over many photos and clips share: what is given, and what is said of it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from plateblur.cli_serving import extra
from plateblur.detector import OnnxDetector, shipped_model
from plateblur.engines import Device, Engine
from plateblur.errors import ModelError, RunError
from plateblur.formats import BY_SUFFIX, TAKEN
from plateblur.runs.clips import (
    CONTAINERS,
    ClipWork,
    clear_work,
    clip_record,
    part_of,
    plate_lines,
    take_clip,
)
from plateblur.runs.files import Outputs, explain, write_atomically
from plateblur.runs.given import GivenClips, corrections_of
from plateblur.runs.manifest import Version
from plateblur.runs.model import model_at
from plateblur.runs.places import is_remote, opened
from plateblur.runs.plan import File, Job, Plan, counted, is_clip, on_disk, plan
from plateblur.runs.progress import Tally
from plateblur.runs.run import How, Run, started
from plateblur.runs.settle import PHOTO_FAULTS
from plateblur.types import BlurOptions

BESIDE = ("crops", "mask", "preview")  # options that change no photo

console = Console(stderr=True)  # standard output is for results alone


def places_of(given: list[str], list_file: Path | None) -> tuple[list[File], list[File]]:
    """Return what was given, and what a list names: photos, folders and URLs.

    Raises:
        RunError: a URL is of a kind that can't be reached.
    """
    places = [place_of(text) for text in given]
    for place in places:
        if isinstance(place, Path) and not place.exists():
            raise typer.BadParameter(f"{place} does not exist")
    if list_file is None:
        return places, []
    try:
        lines = [line.strip() for line in list_file.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{list_file} can't be read: {explain(error)}") from error
    return places, [place_of(line) for line in lines if line and not line.startswith("#")]


def place_of(text: str) -> File:
    """Return what a path or a URL leads to.

    Raises:
        RunError: a URL of a kind that can't be reached.
    """
    return opened(text) if is_remote(text) else Path(text)


def as_path(place: File | None) -> Path | None:
    """Return a place if it is on a disk."""
    return place if isinstance(place, Path) else None


def find_photos(
    given: list[File], listed: Sequence[File] = (), *, recursive: bool, out: File | None = None
) -> Plan:
    """Return what there is to do, or end the command where there is nothing."""
    found = plan(given, listed, recursive=recursive, out=as_path(out))
    require_jobs(found, f"{TAKEN} photos")
    return found


def require_jobs(found: Plan, what: str) -> None:
    """End the command where a plan has nothing to do."""
    if not found.jobs:
        reasons = [f"{path}: {reason}" for path, reason in found.failed]
        reasons += [counted(found.skipped)] if found.skipped else []
        raise typer.BadParameter("; ".join([f"no {what} there", *reasons]))


def names_one_file(given: list[File], work: Plan, out: File) -> bool:
    """Return whether `out` names the blurred photo itself, and not a folder for it."""
    is_one_photo = len(given) == 1 and [job.photo for job in work.jobs] == given
    return is_one_photo and out.suffix.lower() in BY_SUFFIX and not is_folder_there(out)


def is_folder_there(place: File) -> bool:
    """Return whether there is a folder of that name on a disk; a bucket has no empty ones."""
    return isinstance(place, Path) and place.is_dir()


def is_unfit(path: Path, outputs: Outputs) -> bool:
    """Return whether something other than a photo must not be written to `path`."""
    return outputs.holds(path) or path.is_dir() or path.suffix.lower() in BY_SUFFIX


def check_side_file(path: Path, run: Run) -> None:
    """Raise unless a run may write `path` beside its photos.

    Raises:
        typer.BadParameter: it would replace a photo, or the manifest.
    """
    if is_unfit(path, run.inputs) or path.absolute() == run.manifest.path.absolute():
        raise typer.BadParameter(f"{path.name} can't be written over {path}")


def settings_of(options: BlurOptions, model: Path | None) -> dict[str, Any]:
    """Return whatever makes another output of the same photo, as the manifest names it.

    Raises:
        ModelError: the model can't be read.
    """
    found = model_at(model or shipped_model())
    say(found.notes, hidden=False)
    return {"model": found.named(), **shown(options)}


def shown(options: BlurOptions) -> dict[str, Any]:
    """Return the options that make another output of the same photo."""
    return {name: value for name, value in asdict(options).items() if name not in BESIDE}


def blur_one_clip(
    clip: Path,
    out: Path,
    work: ClipWork,
    report: Path | None,
    *,
    resume: bool,
    overwrite: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Blur one clip into the file `out`, or end the command with the reason."""
    if out.suffix.lower() not in CONTAINERS:
        raise typer.BadParameter(f"{out.name} must end in .mp4, .mov or .mkv")
    outputs = Outputs([clip], overwrite=overwrite)
    try:
        outputs.check(out)
    except OSError as error:
        raise typer.BadParameter(explain(error)) from error
    if report is not None and (is_unfit(report, outputs) or report.absolute() == out.absolute()):
        raise typer.BadParameter(f"the report can't be written over {report}")
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=quiet,
    )
    begun = time.monotonic()
    try:
        with bar:
            shown = bar.add_task("Blurring", total=1.0)
            shown_work = replace(work, progress=lambda share: bar.update(shown, completed=share))
            part, done = shown_work.blur(clip, out, resume=resume)
        outputs.write(out, part)
        if report is not None:
            lines = "".join(f"{line}\n" for line in plate_lines(clip, done))
            write_atomically(report, lines.encode())
    except PHOTO_FAULTS as error:
        console.print(f"not done: {clip}: {explain(error)}", style="red", markup=False)
        raise typer.Exit(1) from error
    finally:
        part_of(out).unlink(missing_ok=True)
    clear_work(out)
    plates = "1 plate" if done.plates == 1 else f"{done.plates} plates"
    say([*done.notes, f"{plates} hidden in {done.frames} frames -> {out}"], hidden=quiet or as_json)
    if as_json:
        record = {**clip_record(done), "output": str(out), "seconds": _seconds_since(begun)}
        typer.echo(json.dumps(record))


def blur_clips(
    given: list[Path],
    how: How,
    open_work: Callable[[], ClipWork],
    *,
    recursive: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Blur clips and folders of clips into a folder, one after the other: each uses all cores."""
    begun = time.monotonic()
    places = list[File](given)
    work = plan(places, recursive=recursive, out=as_path(how.out), is_wanted=is_clip)
    require_jobs(work, "clips")
    with started(places, work, how) as run:
        say(run.left.notes, hidden=quiet)
        corrections = corrections_of(run.manifest)
        say(corrections.notes(run.left.todo, "clip"), hidden=quiet)
        clips = replace(open_work(), reviews=corrections.reviews)
        tally = _each_clip(run, take_clip, clips, "Blurring", quiet=quiet)
    if as_json:
        seconds = _seconds_since(begun)
        typer.echo(json.dumps(tally.summary(work, str(how.out), seconds=seconds, what="clip")))
    finish(tally, work, f" -> {how.out}", hidden=quiet or as_json, what="clip")


def _seconds_since(begun: float) -> float:
    return round(time.monotonic() - begun, 1)


def hide_in_clips(given: GivenClips, how: How, work: ClipWork, *, quiet: bool) -> None:
    """Write clips of a run again with the plates that are given, or say why not."""
    places = [job.photo for job in given.work.jobs]
    with started(places, given.work, how) as run:
        clips = replace(work, reviews=given.reviews)
        tally = _each_clip(run, given.take, clips, "Hiding", quiet=quiet)
    finish(tally, given.work, f" -> {how.out}", hidden=quiet, what="clip")


def _each_clip(
    run: Run,
    take: Callable[[Job], tuple[Version, Path]],
    work: ClipWork,
    what: str,
    *,
    quiet: bool,
) -> Tally:
    tally, _ = run.carry_out(
        run.here(take, work.make, 1),
        what,
        console=console,
        hidden=quiet,
        unit="clips",
        after=lambda task: clear_work(on_disk(task.target)),
    )
    return tally


@contextmanager
def cluster_at(address: str | None) -> Iterator[None]:
    """Use a Ray cluster in the block, if one was named."""
    if address is None:
        yield
        return
    with extra("cluster"):
        from plateblur.runs.cluster import connected
    with connected(address):
        yield


@contextmanager
def ending_on_bad_start() -> Iterator[None]:
    """End the command with the reason where it can't start."""
    try:
        yield
    except (ModelError, RunError) as error:
        console.print(f"plateblur: {error}", style="red", markup=False, soft_wrap=True)
        raise typer.Exit(2) from error


def open_detector(
    engine: Engine, device: Device, *, threads: int | None = None, model: Path | None = None
) -> OnnxDetector:
    """Return the detector, or end the command with the reason."""
    with ending_on_bad_start():
        if model is None:
            return OnnxDetector.shipped(engine=engine, device=device, threads=threads)
        return OnnxDetector(model, engine=engine, device=device, threads=threads)


def say(lines: Iterable[str], *, hidden: bool) -> None:
    """Print lines for people."""
    for line in () if hidden else lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def finish(
    tally: Tally,
    work: Plan,
    where: str,
    *,
    verb: str = "hidden",
    hidden: bool,
    what: str = "photo",
) -> None:
    """Say what was done and what was not, and exit with 1 if a photo was left out."""
    for photo, reason in tally.failures:
        console.print(f"not done: {photo}: {reason}", style="red", markup=False, soft_wrap=True)
    say(tally.lines(work, where, verb=verb, what=what), hidden=hidden)
    if tally.failures or tally.not_begun:
        raise typer.Exit(1)
