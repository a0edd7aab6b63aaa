"""A run: its lock, its manifest, what is left to do, and doing it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from filelock import FileLock, Timeout
from rich.console import Console

from plateblur.errors import RunError
from plateblur.runs.files import Outputs, explain, remove_parts
from plateblur.runs.ledger import Again, Ledger, Resumed
from plateblur.runs.manifest import LOCK_NAME, MANIFEST_NAME, Manifest, Version
from plateblur.runs.places import Remote, RemoteOutputs, claimed
from plateblur.runs.plan import File, Job, Plan, Task, tasks_of
from plateblur.runs.progress import Doing, Done, Tally, progress
from plateblur.runs.report import Outcome
from plateblur.runs.workers import done_in_order
from plateblur.runs.zones import ZoneFiles

ContentT = TypeVar("ContentT")


@dataclass(frozen=True, slots=True, kw_only=True)
class How:
    """How a run works.

    Attributes:
        out: folder of the outputs, or the one output; None: in the place of the photos.
        is_one_file: `out` is the output itself.
        manifest: file of the manifest; by default it is in the folder of the outputs.
        overwrite: replace files that the manifest doesn't know.
        again: what is done again.
        settings: whatever makes another output of the same photo, as JSON.
        software: name and version of what writes the outputs.
        zones: of the photos.
        sides_of: what is written beside the output of a photo, and must be there for it to count
            as done.
        target_inside: the path of an output below `out`, from that of the photo.
    """

    out: File | None
    is_one_file: bool = False
    manifest: Path | None = None
    overwrite: bool = False
    again: Again = field(default_factory=Again)
    settings: dict[str, Any]
    software: str
    zones: ZoneFiles = field(default_factory=ZoneFiles)
    sides_of: Callable[[Task], list[Path]] = lambda _: []
    target_inside: Callable[[Path], Path] = lambda inside: inside


@dataclass(frozen=True, slots=True)
class Run:
    """An open run.

    Attributes:
        work: its plan.
        tasks: all that it is about.
        left: what of them is to be done.
        ledger: decides and writes down.
        manifest: open.
        inputs: knows the photos that were given.
        is_one_file: the output was named itself.
    """

    work: Plan
    tasks: list[Task]
    left: Resumed
    ledger: Ledger
    manifest: Manifest
    inputs: Outputs
    is_one_file: bool

    def here(
        self,
        take: Callable[[Job], tuple[Version, ContentT]],
        make: Callable[[Task, ContentT], tuple[dict[str, Any], bytes | Path]],
        workers: int,
    ) -> Doing:
        """Return what does tasks by threads of this process.

        Args:
            take: reads a photo.
            make: blurs it.
            workers: how many at the same time.
        """

        def do(task: Task) -> Done:
            ledger = self.ledger
            return ledger.settler.settle(task, ledger.before(task), ledger.append, take, make)

        return partial(done_in_order, do=do, workers=workers)

    def carry_out(
        self,
        doing: Doing,
        what: str,
        *,
        console: Console,
        hidden: bool,
        unit: str = "photos",
        after: Callable[[Task], object] = lambda _: None,
    ) -> tuple[Tally, list[Outcome]]:
        """Do what is left, and return what came of everything, in the order of the plan.

        Args:
            doing: does it: `here`, or a cluster.
            what: is done, for the progress bar.
            console: for the progress bar.
            hidden: show none.
            unit: what is done, as several.
            after: called when an output is in its place.
        """
        outcomes = {task: self._earlier(task) for task in self.left.done}
        tally = Tally(before=len(self.left.done), failures=list(self.work.failed))
        for task, reason in self.left.failed:
            tally.failures.append((task.job.photo, f"{reason} (--retry-failed tries it again)"))
            outcomes[task] = self._earlier(task)
        for task, done in progress(
            self.left.todo,
            doing,
            what,
            tally,
            console=console,
            hidden=hidden,
            unit=unit,
        ):
            outcomes[task] = Outcome(task, done)
            if done is not None and done.error is None:
                after(task)
        try:
            self.ledger.end(tally.counts())
        except OSError as error:
            tally.failures.append((self.manifest.path, explain(error)))
        return tally, [outcomes[task] for task in self.tasks]

    def _earlier(self, task: Task) -> Outcome:
        return Outcome(task, Done(line=self.manifest.entries[task.output].offset))


@contextmanager
def started(given: list[File], work: Plan, how: How) -> Iterator[Run]:
    """Begin a run: nothing else writes to its place until it ends.

    Args:
        given: photos and folders, as they were given.
        work: what is in them.
        how: where outputs go, and how they are made.

    Raises:
        RunError: another run writes there, or its place or manifest can't be used.
    """
    in_place = how.out is None
    place = _manifest_place(given, how)
    with ExitStack() as stack:
        try:
            is_locked = _lock(stack, given, how)
            is_kept = place is not None
            if place is None:
                folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="plateblur-"))
                place = Path(folder, MANIFEST_NAME)
            photos = [job.photo for job in work.jobs if isinstance(job.photo, Path)]
            inputs = Outputs(photos, overwrite=how.overwrite, in_place=in_place)
            if inputs.holds(place):
                raise RunError(f"the manifest can't be written over {place}")
            manifest = Manifest(place, is_kept=is_kept)
            stack.callback(manifest.close)
            outputs: Outputs | RemoteOutputs = inputs
            if isinstance(how.out, Remote):
                outputs = RemoteOutputs(overwrite=how.overwrite)
            tasks = [
                _with_zones(task, how.zones)
                for task in tasks_of(work, lambda job: _target(job, how), _naming(how, place))
            ]
            if is_locked:
                remove_parts(
                    {task.target.parent for task in tasks if isinstance(task.target, Path)}
                )
            token = uuid4().hex if isinstance(how.out, Remote) and not how.is_one_file else None
            earlier = {begun["lock"] for begun in manifest.runs.values() if "lock" in begun}
            ledger = Ledger(
                manifest,
                outputs,
                how.settings,
                software=how.software,
                again=how.again,
                sides_of=how.sides_of,
                in_place=in_place,
                lock=token,
            )
            if isinstance(how.out, Remote) and token is not None:
                stack.enter_context(claimed(how.out, token, earlier=earlier))
        except OSError as error:
            raise RunError(f"the run can't start: {explain(error)}") from error
        yield Run(
            work, tasks, ledger.left(tasks), ledger, manifest, inputs, is_one_file=how.is_one_file
        )


def _manifest_place(given: list[File], how: How) -> Path | None:
    """Return the manifest's file; None where there is no place that a next run would look in."""
    if how.manifest is not None:
        return how.manifest
    if how.is_one_file:
        return None
    if isinstance(how.out, Path):
        return how.out / MANIFEST_NAME
    if how.out is not None:
        raise RunError(f"outputs in {how.out} need --manifest FILE, a file on a disk")
    folder = _only_folder(given)
    return None if folder is None else folder / MANIFEST_NAME


def _only_folder(given: list[File]) -> Path | None:
    """Return the folder that was given, where nothing else was."""
    if len(given) == 1 and isinstance(given[0], Path) and given[0].is_dir():
        return given[0]
    return None


def _lock(stack: ExitStack, given: list[File], how: How) -> bool:
    """Keep other runs from the folder of the outputs, and from the manifest.

    Returns:
        Whether there is such a folder, which is ours now.

    Raises:
        RunError: another run has them.
    """
    locks: dict[Path, Path] = {}
    if isinstance(how.out, Path) and not how.is_one_file:
        locks[how.out / LOCK_NAME] = how.out
    elif how.out is None and (folder := _only_folder(given)) is not None:
        locks[folder / LOCK_NAME] = folder
    is_ours = bool(locks)
    if how.manifest is not None:
        locks[how.manifest.with_name(f"{how.manifest.name}.lock")] = how.manifest
    for lock, locked in locks.items():
        lock.parent.mkdir(parents=True, exist_ok=True)
        try:
            stack.enter_context(FileLock(lock, timeout=0))
        except Timeout as error:
            raise RunError(
                f"another run is writing to {locked}; wait until it has ended"
            ) from error
    return is_ours


def _target(job: Job, how: How) -> File:
    if how.out is None:
        if not isinstance(job.photo, Path):
            raise RunError(f"{job.photo} can't be replaced in place; give -o OUT")
        return job.photo.resolve()  # a link stays, and the photo itself is replaced
    if how.is_one_file:
        return how.out
    inside = how.target_inside(job.inside)
    return how.out.below(inside) if isinstance(how.out, Remote) else how.out / inside


def _naming(how: How, manifest: Path) -> Callable[[File], str]:
    """Return what gives each output its name in the manifest: its path below the outputs."""
    base = how.out if how.out is not None else manifest.parent.resolve()

    def output_of(target: File) -> str:
        if how.is_one_file:
            return target.name
        if isinstance(target, Remote):
            return target.address.removeprefix(f"{base}".rstrip("/")).lstrip("/")
        try:
            return target.absolute().relative_to(Path(str(base)).absolute()).as_posix()
        except ValueError:  # in place, behind a link
            return target.absolute().as_posix()

    return output_of


def _with_zones(task: Task, zones: ZoneFiles) -> Task:
    found, name = zones.of(task.job)
    return Task(task.job, task.target, task.output, task.is_taken, found, name)
