"""What a run over photos is to do: every entry of a folder is a photo, or skipped with a reason."""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from plateblur.formats import BY_SUFFIX, OTHER_SUFFIXES, other_picture, sniff
from plateblur.runs.files import explain, is_part

LEADS_NOWHERE = (errno.ENOENT, errno.ELOOP, errno.ENOTDIR)  # of a link
HEAD_BYTES = 256  # of a file, to tell whether it is a picture
APPLE_DOUBLE = (
    b"\0\x05\x16\x07"  # Source: RFC 1740, appendix A; macOS keeps attributes in `._` files
)

# Reasons, as one and as several.
FOLDER = ("folder (see --recursive)", "folders (see --recursive)")
LINKED_FOLDER = ("folder behind a link", "folders behind links")
BROKEN_LINK = ("broken link", "broken links")
SPECIAL = ("special file", "special files")
APPLE = ("._ file of macOS", "._ files of macOS")
UNFINISHED = ("unfinished file of an earlier run", "unfinished files of an earlier run")
OUTPUT = ("output folder of an earlier run", "output folders of earlier runs")
NO_SUFFIX = ("file without a suffix", "files without a suffix")
GIVEN_TWICE = ("photo given twice", "photos given twice")

Reason = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Job:
    """One photo to do.

    Attributes:
        photo: as given, or found in a folder that was given.
        inside: its path relative to that folder; its name alone where it was given itself.
    """

    photo: Path
    inside: Path


@dataclass(slots=True)
class Plan:
    """What is to be done, and what is not.

    Attributes:
        jobs: in order of what was given; within a folder by name.
        skipped: what is no photo to do, and why.
        failed: what may be a photo or hold some, and can't be looked at, and why.
    """

    jobs: list[Job] = field(default_factory=list)
    skipped: list[tuple[Path, Reason]] = field(default_factory=list)
    failed: list[tuple[Path, str]] = field(default_factory=list)


def plan(given: Iterable[Path], *, recursive: bool, out: Path | None = None) -> Plan:
    """Return what to do with the photos given and with all that lies in the folders given.

    A file given by name is always tried. In a folder a file is a photo if its suffix or its first
    bytes say so, also those of a picture that is not taken: it fails by name and not in silence.

    Args:
        given: files and folders that exist.
        recursive: look into folders within folders too.
        out: what lies in it, below a folder given, was written by an earlier run.
    """
    found = Plan()
    for path in given:
        if path.is_dir():
            _plan_folder(path, found, recursive=recursive, out=out)
        else:
            found.jobs.append(Job(path, Path(path.name)))
    return found


def share_targets(work: Plan, target_of: Callable[[Job], Path]) -> set[Job]:
    """Return the jobs whose output an earlier one of the run takes.

    A photo that was given twice is no second job: it goes from the plan's jobs to those skipped.
    """
    takers: dict[Path, Job] = {}
    jobs: list[Job] = []
    shared: set[Job] = set()
    for job in work.jobs:
        taker = takers.setdefault(target_of(job).absolute(), job)
        if taker is not job and is_same_file(job.photo, taker.photo):
            work.skipped.append((job.photo, GIVEN_TWICE))
            continue
        jobs.append(job)
        if taker is not job:
            shared.add(job)
    work.jobs = jobs
    return shared


def is_same_file(one: Path, other: Path) -> bool:
    """Return whether two paths lead to one file that is there."""
    return one.exists() and other.exists() and one.samefile(other)


def counted(skipped: Iterable[tuple[Path, Reason]]) -> str:
    """Return how often each reason holds: "12 skipped: 10 .txt, 2 folders behind links"."""
    counts = Counter(reason for _, reason in skipped)
    if not counts:
        return ""
    told = ", ".join(f"{n} {one if n == 1 else many}" for (one, many), n in counts.most_common())
    return f"{counts.total()} skipped: {told}"


def _plan_folder(folder: Path, found: Plan, *, recursive: bool, out: Path | None) -> None:
    waiting = [_entries(folder, found)]  # a stack, because folders may be nested deeply
    while waiting:
        entry = next(waiting[-1], None)
        if entry is None:
            waiting.pop()
            continue
        try:
            reason = _reason_to_skip(entry, given=folder, recursive=recursive, out=out)
        except OSError as error:
            found.failed.append((entry, explain(error)))
            continue
        if reason is not None:
            found.skipped.append((entry, reason))
        elif entry.is_dir():
            waiting.append(_entries(entry, found))
        else:
            found.jobs.append(Job(entry, entry.relative_to(folder)))


def _entries(folder: Path, found: Plan) -> Iterator[Path]:
    try:
        with os.scandir(folder) as listed:
            names = sorted(entry.name for entry in listed)
    except OSError as error:
        found.failed.append((folder, explain(error)))
        names = []
    return (folder / name for name in names)


def _reason_to_skip(path: Path, *, given: Path, recursive: bool, out: Path | None) -> Reason | None:
    """Return why an entry of a folder is no photo to do, or None for a photo and a folder to enter.

    Raises:
        OSError: it can't be told.
    """
    try:
        mode = path.stat().st_mode
    except OSError as error:
        if error.errno not in LEADS_NOWHERE:
            raise
        # A picture's name that leads nowhere is a picture that can't be done.
        return None if _is_named_as_picture(path) else BROKEN_LINK
    if stat.S_ISDIR(mode):
        if path.is_symlink():
            return LINKED_FOLDER
        if out is not None and _is_output(path, out, given=given):
            return OUTPUT
        return None if recursive else FOLDER
    if not stat.S_ISREG(mode):
        return SPECIAL
    if is_part(path):
        return UNFINISHED
    if path.name.startswith("._") and _head(path).startswith(APPLE_DOUBLE):
        return APPLE
    if _is_named_as_picture(path):
        return None
    head = _head(path)
    if sniff(head) is not None or other_picture(head) is not None:
        return None
    return (path.suffix.lower(), path.suffix.lower()) if path.suffix else NO_SUFFIX


def _is_named_as_picture(path: Path) -> bool:
    suffix = path.suffix.lower()
    return suffix in BY_SUFFIX or suffix in OTHER_SUFFIXES


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEAD_BYTES)


def _is_output(folder: Path, out: Path, *, given: Path) -> bool:
    """Return whether `folder` lies in `out`, where `out` lies in the folder that was given."""
    written_to = out.resolve()
    is_inside = given.resolve() in written_to.parents
    return is_inside and folder.resolve().is_relative_to(written_to)
