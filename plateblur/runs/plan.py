"""What a run over photos is to do: every entry of a folder is a photo, or skipped with a reason."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from plateblur.errors import PhotoTooLargeError, RunError
from plateblur.formats import BY_SUFFIX, OTHER_SUFFIXES, other_picture, sniff
from plateblur.photo import MAX_BYTES
from plateblur.runs.files import explain, is_part, seen_at
from plateblur.runs.manifest import LOCK_NAME, MANIFEST_NAME, Seen, Version
from plateblur.runs.places import Remote, is_zip, named_twice, opened_zip, remote_files
from plateblur.runs.places import is_folder as is_remote_folder
from plateblur.runs.review_log import REVIEW_LOCK_NAME, REVIEW_NAME
from plateblur.zones import NO_ZONES, Zones

LEADS_NOWHERE = (errno.ENOENT, errno.ELOOP, errno.ENOTDIR)  # of a link
CLIP_SUFFIXES = frozenset(
    {
        *(".mp4", ".mov", ".m4v", ".webm", ".mkv", ".avi", ".mpg", ".mpeg", ".3gp"),
        *(".ts", ".mts", ".m2ts", ".wmv"),
    }
)
FRESH_NS = 2_000_000_000  # a FAT disk counts time in steps of 2 s
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
OF_RUN = ("file of an earlier run", "files of earlier runs")
OUTPUT = ("output folder of an earlier run", "output folders of earlier runs")
NO_SUFFIX = ("file without a suffix", "files without a suffix")
GIVEN_TWICE = ("photo given twice", "photos given twice")

Reason = tuple[str, str]

File = Path | Remote
"""A photo, or where one goes: on a disk, or in a place that fsspec reaches."""


def on_disk(file: File) -> Path:
    """Return `file` if it is on a disk.

    Raises:
        RunError: it isn't.
    """
    if isinstance(file, Remote):
        raise RunError(f"expected a file on a disk, got {file}")
    return file


@dataclass(frozen=True, slots=True)
class Job:
    """One photo to do.

    Attributes:
        photo: as given, or found in a folder that was given.
        inside: its path relative to that folder; its name alone where it was given itself.
    """

    photo: File
    inside: Path

    @property
    def address(self) -> str:
        """Where the photo is, for the manifest: an absolute path, or a URL without credentials."""
        photo = self.photo
        return os.path.normpath(photo.absolute()) if isinstance(photo, Path) else photo.address

    def seen(self) -> Seen | None:
        """Return what tells the photo from another without reading it; None where it is gone."""
        return seen_at(self.photo) if isinstance(self.photo, Path) else self.photo.seen()

    def take(self, *, max_bytes: int = MAX_BYTES) -> tuple[Version, bytes]:
        """Return the photo, and what it is known again by.

        Raises:
            PhotoTooLargeError: it has more bytes.
            OSError: it can't be read.
        """
        seen = self.seen()
        now = time.time_ns()
        if seen is not None and seen[0] > max_bytes:
            raise PhotoTooLargeError(f"expected at most {max_bytes} bytes, got {seen[0]}")
        data = self.photo.read_bytes()
        stamp = "" if seen is None or seen[0] != len(data) else seen[1]
        if isinstance(self.photo, Path) and stamp and now - int(stamp) < FRESH_NS:
            stamp = ""  # changed once more in the same moment, it would look the same
        return Version(len(data), stamp, hashlib.sha256(data).digest()), data


@dataclass(frozen=True, slots=True)
class Task:
    """A job and its output.

    Attributes:
        job: what is to be done.
        target: where the output goes.
        output: what the manifest calls it: its path below the folder of outputs.
        is_taken: another photo of the run goes there.
        zones: where plates stay visible, and what is hidden always.
        zones_name: what tells these zones from others.
    """

    job: Job
    target: File
    output: str
    is_taken: bool = False
    zones: Zones = field(default=NO_ZONES, compare=False)
    zones_name: str = ""


@dataclass(slots=True)
class Plan:
    """What is to be done, and what is not.

    Attributes:
        jobs: in order of what was given; within a folder by name.
        skipped: what is no photo to do, and why.
        failed: what may be a photo or hold some, and can't be looked at, and why.
    """

    jobs: list[Job] = field(default_factory=list)
    skipped: list[tuple[File, Reason]] = field(default_factory=list)
    failed: list[tuple[File, str]] = field(default_factory=list)


def plan(
    given: Iterable[File],
    listed: Iterable[File] = (),
    *,
    recursive: bool,
    out: Path | None = None,
    is_wanted: Callable[[Path], bool] = lambda path: is_photo(path),
) -> Plan:
    """Return what to do with the photos given and with all that lies in the folders given.

    A file given by name is always tried. In a folder a file is a photo if its suffix or its first
    bytes say so, also those of a picture that is not taken: it fails by name and not in silence.
    In a bucket the suffix alone says so, because reading the first bytes would cost a request.

    Args:
        given: files, folders and ZIP files that exist; a ZIP file counts as a folder.
        listed: more of them, and files whose path is kept below the output folder, because a list
            may name many that are called alike. What isn't there fails by name.
        recursive: look into folders within folders too.
        out: what lies in it, below a folder given, was written by an earlier run.
        is_wanted: whether a file of a folder is one to do.
    """
    found = Plan()
    kept = [(path, Path(path.name), False) for path in given]
    kept += [(path, _kept(path), True) for path in listed]
    for path, inside, is_listed in kept:
        if isinstance(path, Remote):
            # A list may be long, and whether a place is a folder costs a request.
            is_file = is_listed and path.suffix.lower() in BY_SUFFIX
            is_folder = False if is_file else None
            _plan_remote(path, inside, found, recursive=recursive, is_folder=is_folder)
        elif is_zip(path):
            _plan_remote(opened_zip(path), inside, found, recursive=True, is_folder=True)
            found.failed += [
                (path, f"it holds {name} {count} times, and only the last can be read")
                for name, count in named_twice(path).items()
            ]
        elif path.is_dir():
            _plan_folder(path, found, recursive=recursive, out=out, is_wanted=is_wanted)
        else:
            found.jobs.append(Job(path, inside))
    return found


def tasks_of(
    work: Plan, target_of: Callable[[Job], File], output_of: Callable[[File], str]
) -> list[Task]:
    """Return the plan's jobs with their outputs.

    A photo that was given twice is no second job: it goes from the plan's jobs to those skipped.
    Where two photos would have one output, the second is marked.
    """
    takers: dict[str, Job] = {}
    tasks: list[Task] = []
    for job in work.jobs:
        target = target_of(job)
        place = str(target.absolute()) if isinstance(target, Path) else target.address
        taker = takers.setdefault(place, job)
        if taker is not job and _is_same_file(job.photo, taker.photo):
            work.skipped.append((job.photo, GIVEN_TWICE))
            continue
        tasks.append(Task(job, target, output_of(target), is_taken=taker is not job))
    return tasks


def _is_same_file(one: File, other: File) -> bool:
    """Return whether two paths lead to one file that is there."""
    if isinstance(one, Remote) or isinstance(other, Remote):
        return one == other
    return one.exists() and other.exists() and one.samefile(other)


def counted(skipped: Iterable[tuple[File, Reason]]) -> str:
    """Return how often each reason holds: "12 skipped: 10 .txt, 2 folders behind links"."""
    counts = Counter(reason for _, reason in skipped)
    if not counts:
        return ""
    reasons = ", ".join(f"{n} {one if n == 1 else many}" for (one, many), n in counts.most_common())
    return f"{counts.total()} skipped: {reasons}"


def _kept(path: File) -> Path:
    """Return where a listed file goes below the output folder: its own path, if that is safe."""
    own = path if isinstance(path, Path) else Path(urlsplit(path.address).path.lstrip("/"))
    return own if not own.is_absolute() and ".." not in own.parts and own.name else Path(path.name)


def _plan_remote(
    place: Remote, inside: Path, found: Plan, *, recursive: bool, is_folder: bool | None = None
) -> None:
    try:
        if not (is_remote_folder(place) if is_folder is None else is_folder):
            found.jobs.append(Job(place, inside))
            return
        for file, below in remote_files(place, recursive=recursive):
            if below is None:
                found.skipped.append((file, FOLDER))
            elif below.name in (MANIFEST_NAME, LOCK_NAME):
                found.skipped.append((file, OF_RUN))
            elif ".." in below.parts or below.is_absolute() or "\\" in str(below):
                found.failed.append((file, "its path would lead out of the output folder"))
            elif file.suffix.lower() in BY_SUFFIX or file.suffix.lower() in OTHER_SUFFIXES:
                found.jobs.append(Job(file, Path(below)))
            else:
                found.skipped.append((file, _by_suffix(file.suffix)))
    except OSError as error:
        found.failed.append((place, explain(error)))


def _plan_folder(
    folder: Path,
    found: Plan,
    *,
    recursive: bool,
    out: Path | None,
    is_wanted: Callable[[Path], bool],
) -> None:
    waiting = [_entries(folder, found)]  # a stack, because folders may be nested deeply
    while waiting:
        entry = next(waiting[-1], None)
        if entry is None:
            waiting.pop()
            continue
        try:
            reason = _reason_to_skip(
                entry, given=folder, recursive=recursive, out=out, is_wanted=is_wanted
            )
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


def _reason_to_skip(
    path: Path,
    *,
    given: Path,
    recursive: bool,
    out: Path | None,
    is_wanted: Callable[[Path], bool],
) -> Reason | None:
    """Return why an entry of a folder is no photo to do, or None for a photo and a folder to enter.

    Raises:
        OSError: the file system doesn't say.
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
    if path.name in (MANIFEST_NAME, LOCK_NAME, REVIEW_NAME, REVIEW_LOCK_NAME):
        return OF_RUN
    return None if is_wanted(path) else _by_suffix(path.suffix)


def _by_suffix(suffix: str) -> Reason:
    return (suffix.lower(), suffix.lower()) if suffix else NO_SUFFIX


def is_photo(path: Path) -> bool:
    """Return whether a file is named as a picture, or begins as one."""
    if _is_named_as_picture(path):
        return True
    head = _head(path)
    return sniff(head) is not None or other_picture(head) is not None


def is_clip(path: Path) -> bool:
    """Return whether a file is named as a clip."""
    return path.suffix.lower() in CLIP_SUFFIXES


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
