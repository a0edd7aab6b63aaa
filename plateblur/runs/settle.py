"""Doing one photo so that none is lost, done twice or half written; also on another machine.

What is known of the photo comes with it, and lines for the manifest go through `append`. So the
same steps run in a thread beside the manifest and on a worker of a cluster far from it.
"""

from __future__ import annotations

import errno
import hashlib
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from plateblur.errors import EncodeError, PhotoError, PlateblurError, VideoError
from plateblur.runs.files import explain
from plateblur.runs.manifest import OUTPUTS, Entry, Seen, Version
from plateblur.runs.plan import Job, Task
from plateblur.runs.progress import Done

# What goes wrong with one photo and stops no other.
PHOTO_FAULTS = (PlateblurError, OSError, MemoryError)
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
FINAL_FAULTS = (PhotoError, VideoError, EncodeError)  # the same photo would meet them again

OF_ALL = ("photo", "output", "state", "run", "input", "zones")  # of a line, done or failed

ContentT = TypeVar("ContentT")


class Written(Protocol):
    """Where outputs go; `files.Outputs` on a disk."""

    def seen(self, target: Any) -> Seen | None:
        """Return what tells the output from another without reading it."""

    def digest(self, target: Any) -> bytes:
        """Return the SHA-256 of the output."""

    def check(self, target: Any, *, ours: Seen | None = None) -> None:
        """Raise `FileExistsError` unless an output may be written there."""

    def write(
        self, target: Any, data: Any, *, ours: Seen | None, first: Callable[[Seen], object]
    ) -> Seen | None:
        """Write an output, after `first`; return how it looks where `first` is unknown."""


class Append(Protocol):
    """Brings a line of the manifest to the disk, and returns where it begins, in bytes."""

    def __call__(self, line: dict[str, Any], *, onto: int | None = None) -> int:
        """Append `line`, on top of what the line at `onto` says if that is given.

        Raises:
            OSError: it can't be written.
        """


@dataclass(frozen=True, slots=True)
class Before:
    """What the manifest knows of a photo.

    Attributes:
        entry: its last line; None where there is none.
        may_count: that line was written with the same settings, so its output may count as done.
    """

    entry: Entry | None
    may_count: bool


@dataclass(frozen=True, slots=True)
class Settler:
    """Does the photos of one run.

    Attributes:
        outputs: where they go.
        run: its number.
        in_place: the outputs replace the photos.
        sides_of: what else must be there for a photo to count as done.
    """

    outputs: Written
    run: int
    in_place: bool
    sides_of: Callable[[Task], list[Path]]

    def settle(
        self,
        task: Task,
        before: Before,
        append: Append,
        take: Callable[[Job], tuple[Version, ContentT]],
        make: Callable[[Task, ContentT], tuple[dict[str, Any], bytes | Path]],
    ) -> Done:
        """Do one task, unless its content shows that it is done, and write down what came of it.

        Args:
            task: what is to be done.
            before: what the manifest knows of it.
            append: writes to the manifest.
            take: reads the photo.
            make: blurs it, and returns what the manifest says of it and the output.
        """
        started = time.monotonic()
        entry = before.entry
        line: dict[str, Any] = {
            "photo": task.job.address,
            "output": task.output,
            "state": "done",
            "run": self.run,
            "input": None,
            **({"zones": task.zones_name} if task.zones_name else {}),
        }
        try:
            if task.is_taken:
                raise FileExistsError(f"another photo of this run is written to {task.target}")
            given, content = take(task.job)
            line["input"] = given.as_json()
            if entry is not None and before.may_count and self._is_done(task, entry, given):
                return self._known(task, entry, given, append)
            ours, replaced = self._ours(task, entry, given)
            self.outputs.check(task.target, ours=ours)
            record, data = make(task, content)
            digest = _digest(data)

            def write_down(seen: Seen) -> None:
                line.update(seconds=round(time.monotonic() - started, 3), **record)
                line["written"] = Version(*seen, digest).as_json()
                if replaced is not None:
                    line["replaces"] = replaced.as_json()
                done.append(append(line))

            done: list[int] = []
            later = self.outputs.write(task.target, data, ours=ours, first=write_down)
            if later is not None:
                line["written"]["stamp"] = later[1]
                done.append(append(line))
        except PHOTO_FAULTS as error:
            return self._failed(task, entry, line, error, time.monotonic() - started, append)
        return Done(
            line=done[-1],
            plates=record["plates"],
            ignored=record.get("ignored", 0),
            notes=tuple(record.get("notes", ())),
        )

    def looks_done(self, task: Task, entry: Entry) -> bool:
        """Return whether sizes and times alone show that a photo is done."""
        if (
            entry.state != "done"
            or not is_of(task, entry)
            or entry.written is None
            or entry.given is None
        ):
            return False
        if not self._has_sides(task):
            return False
        if self.in_place:
            return entry.written.is_seen_in(task.job.seen())
        is_there = entry.written.is_seen_in(self.outputs.seen(task.target))
        return is_there and entry.given.is_seen_in(task.job.seen())

    def _is_done(self, task: Task, entry: Entry, given: Version) -> bool:
        """Return whether the content of a photo, and of its output, shows that it is done."""
        if entry.state != "done":
            return False
        if entry.written is None or entry.given is None or not self._has_sides(task):
            return False
        if self.in_place:
            return given.sha256 == entry.written.sha256
        return given.sha256 == entry.given.sha256 and self._holds(task, entry.written)

    def _has_sides(self, task: Task) -> bool:
        return all(path.is_file() for path in self.sides_of(task))

    def _holds(self, task: Task, version: Version) -> bool:
        """Return whether the output is of this version."""
        seen = self.outputs.seen(task.target)
        if seen is None or seen[0] != version.size:
            return False
        return version.is_seen_in(seen) or self.outputs.digest(task.target) == version.sha256

    def _known(self, task: Task, entry: Entry, given: Version, append: Append) -> Done:
        """Write a photo's line again with the stamps it has now, so that they are trusted."""
        if self.in_place:
            now = {"written": given.as_json()}
        else:
            written = entry.written or given  # there is one, or the photo wouldn't be done
            seen = self.outputs.seen(task.target) or (0, "")
            now = {"input": given.as_json(), "written": Version(*seen, written.sha256).as_json()}
        line = {"photo": task.job.address, "output": task.output, **now}
        return Done(line=append(line, onto=entry.offset), is_known=True)

    def _ours(
        self, task: Task, entry: Entry | None, given: Version
    ) -> tuple[Seen | None, Version | None]:
        """Return the output that an earlier run made of this photo, if that is what is there."""
        if self.in_place or entry is None:
            return None, None
        is_same = entry.given is not None and entry.given.sha256 == given.sha256
        if is_of(task, entry) or is_same:
            for version in entry.outputs:
                if self._holds(task, version):
                    return self.outputs.seen(task.target), version
        return None, None

    def _failed(
        self,
        task: Task,
        entry: Entry | None,
        line: dict[str, Any],
        error: Exception,
        seconds: float,
        append: Append,
    ) -> Done:
        """Write down that a photo failed.

        Not where its place is another's: that one's line must stay the last. And not where the
        disk is full: without a line, the photo is tried again as well.
        """
        reason = explain(error).removesuffix(f" ({task.job.photo})")  # whose line it is
        record = {"photo": str(task.job.photo), "error": reason}
        is_anothers = entry is not None and bool(entry.outputs) and not is_of(task, entry)
        if isinstance(error, FileExistsError) or is_anothers:
            return Done(record=record, error=reason)
        there = [line[name] for name in OUTPUTS if name in line]  # it got as far as its output
        there += [version.as_json() for version in entry.outputs] if entry is not None else []
        line = {name: line[name] for name in OF_ALL if name in line} | {
            "state": "failed",
            "final": isinstance(error, FINAL_FAULTS),
            "seconds": round(seconds, 3),
            "error": reason,
        }
        line |= dict(zip(OUTPUTS, there, strict=False))
        is_disk_full = isinstance(error, OSError) and error.errno in DISK_FULL
        with suppress(OSError):
            return Done(line=append(line), error=reason, is_disk_full=is_disk_full)
        return Done(record=record, error=reason, is_disk_full=is_disk_full)


def is_of(task: Task, entry: Entry) -> bool:
    """Return whether a line of the manifest is of the photo of this task."""
    return entry.photo == task.job.address


def _digest(data: bytes | Path) -> bytes:
    if isinstance(data, bytes):
        return hashlib.sha256(data).digest()
    with data.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
