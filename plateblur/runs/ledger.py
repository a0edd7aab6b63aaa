"""What of a run is to be done, by its manifest; and doing one photo so that none is lost or twice.

Whether a photo is done is first judged by size and time of the last change, of the photo and of
its output. Where those differ, or can't be trusted, the content is compared by its hash when the
photo's turn comes.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, TypeVar

from plateblur.errors import EncodeError, PhotoError, PlateblurError, VideoError
from plateblur.runs.files import explain
from plateblur.runs.manifest import FORMAT, OUTPUTS, Entry, Manifest, Seen, Version
from plateblur.runs.plan import Job, Task
from plateblur.runs.progress import Done

# What goes wrong with one photo and stops no other.
PHOTO_FAULTS = (PlateblurError, OSError, MemoryError)
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
        """Write an output, after `first`; return how it looks where `first` couldn't be told."""


@dataclass(frozen=True, slots=True)
class Again:
    """Which photos are done again though the manifest has them.

    Attributes:
        redo: all of them.
        retry_failed: those that failed because of themselves, such as damaged ones. Others that
            failed are always tried again.
    """

    redo: bool = False
    retry_failed: bool = False


@dataclass(slots=True)
class Resumed:
    """What is left of a run.

    Attributes:
        todo: what is to be done.
        done: what an earlier run did.
        failed: what failed earlier and would fail again, and why.
        notes: what people should know: a sentence each.
    """

    todo: list[Task] = field(default_factory=list)
    done: list[Task] = field(default_factory=list)
    failed: list[tuple[Task, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class Ledger:
    """The manifest of one run, and where its outputs go; safe to share by threads."""

    def __init__(
        self,
        manifest: Manifest,
        outputs: Written,
        settings: dict[str, Any],
        *,
        software: str,
        again: Again,
        sides_of: Callable[[Task], list[Path]] = lambda _: [],
        in_place: bool = False,
    ) -> None:
        """Begin a run.

        Args:
            manifest: open.
            outputs: where they go.
            settings: model and options: whatever makes another output of the same photo.
            software: name and version of what writes the outputs.
            again: what is done again.
            sides_of: what else must be there for a photo to count as done.
            in_place: the outputs replace the photos.

        Raises:
            OSError: the manifest can't be written.
        """
        self.manifest = manifest
        self._outputs = outputs
        self._settings = json.loads(json.dumps(settings))  # as it will be read again
        self._software = software
        self._again = again
        self._sides_of = sides_of
        self._in_place = in_place
        self._run = max(manifest.runs, default=0) + 1
        manifest.append(
            {
                "manifest": FORMAT,
                "run": self._run,
                "started": _now(),
                "software": software,
                "settings": settings,
            }
        )

    def left(self, tasks: Iterable[Task]) -> Resumed:
        """Return what is to be done of `tasks`; nothing is read but sizes and times."""
        left = Resumed()
        changed: Counter[str] = Counter()
        older: Counter[str] = Counter()
        for task in tasks:
            entry = self.manifest.entries.get(task.output)
            if entry is None or task.is_taken or self._again.redo:
                left.todo.append(task)
            elif told := self._settings_changed(task, entry):
                changed[told] += 1
                left.todo.append(task)
            elif _surely(self._would_fail_again, task, entry):
                left.failed.append((task, self.manifest.line_at(entry.offset)["error"]))
            elif _surely(self._looks_done, task, entry):
                left.done.append(task)
                software = self.manifest.runs[entry.run]["software"]
                older[software] += software != self._software
            else:
                left.todo.append(task)
        left.notes += [f"changed since {n} were done: {told}" for told, n in changed.items()]
        left.notes += [
            f"kept: {n} done by {software}; --redo does them again with {self._software}"
            for software, n in older.items()
            if n
        ]
        if self.manifest.damaged:
            left.notes.append(
                f"{self.manifest.path}: {self.manifest.damaged} damaged lines are passed over"
            )
        return left

    def settle(
        self,
        task: Task,
        take: Callable[[Job], tuple[Version, ContentT]],
        make: Callable[[Task, ContentT], tuple[dict[str, Any], bytes | Path]],
    ) -> Done:
        """Do one task, unless its content shows that it is done, and write down what came of it.

        Args:
            task: what is to be done.
            take: reads the photo.
            make: blurs it, and returns what the manifest says of it and the output.
        """
        started = time.monotonic()
        entry = self.manifest.entries.get(task.output)
        line: dict[str, Any] = {
            "photo": task.job.address,
            "output": task.output,
            "state": "done",
            "run": self._run,
            "input": None,
            **({"zones": task.zones_name} if task.zones_name else {}),
        }
        try:
            if task.is_taken:
                raise FileExistsError(f"another photo of this run is written to {task.target}")
            given, content = take(task.job)
            line["input"] = given.as_json()
            if entry is not None and self._is_done(task, entry, given):
                return self._known(task, entry, given)
            ours, replaced = self._ours(task, entry, given)
            self._outputs.check(task.target, ours=ours)
            record, data = make(task, content)
            digest = _digest(data)

            def write_down(seen: Seen) -> None:
                line.update(seconds=round(time.monotonic() - started, 3), **record)
                line["written"] = Version(*seen, digest).as_json()
                if replaced is not None:
                    line["replaces"] = replaced.as_json()
                done.append(self.manifest.append(line))

            done: list[int] = []
            later = self._outputs.write(task.target, data, ours=ours, first=write_down)
            if later is not None:
                line["written"]["stamp"] = later[1]
                done.append(self.manifest.append(line))
        except PHOTO_FAULTS as error:
            return self._failed(task, entry, line, error, time.monotonic() - started)
        return Done(
            line=done[-1],
            plates=record["plates"],
            ignored=record.get("ignored", 0),
            notes=tuple(record.get("notes", ())),
        )

    def end(self, outcome: dict[str, Any]) -> None:
        """Write down what came of the run.

        Raises:
            OSError: it can't be written.
        """
        self.manifest.append({"ended": _now(), "run": self._run, "outcome": outcome})

    def _settings_changed(self, task: Task, entry: Entry) -> str:
        """Return what has changed since a photo was done: "min_confidence was 0.45, is 0.3"."""
        before = self.manifest.runs.get(entry.run, {}).get("settings", {})
        told = [
            f"{name} was {_shown(before.get(name))}, is {_shown(self._settings.get(name))}"
            for name in self._settings | before
            if before.get(name) != self._settings.get(name)
        ]
        return ", ".join([*told, *(["zones"] if entry.zones != task.zones_name else [])])

    def _would_fail_again(self, task: Task, entry: Entry) -> bool:
        if (
            entry.state != "failed"
            or self._again.retry_failed
            or not entry.is_final
            or entry.given is None
        ):
            return False
        return _is_of(task, entry) and entry.given.is_seen_in(task.job.seen())

    def _looks_done(self, task: Task, entry: Entry) -> bool:
        if (
            entry.state != "done"
            or not _is_of(task, entry)
            or entry.written is None
            or entry.given is None
        ):
            return False
        if not self._has_sides(task):
            return False
        if self._in_place:
            return entry.written.is_seen_in(task.job.seen())
        is_there = entry.written.is_seen_in(self._outputs.seen(task.target))
        return is_there and entry.given.is_seen_in(task.job.seen())

    def _is_done(self, task: Task, entry: Entry, given: Version) -> bool:
        """Return whether the content of a photo, and of its output, shows that it is done."""
        if self._again.redo or self._settings_changed(task, entry) or entry.state != "done":
            return False
        if entry.written is None or entry.given is None or not self._has_sides(task):
            return False
        if self._in_place:
            return given.sha256 == entry.written.sha256
        return given.sha256 == entry.given.sha256 and self._holds(task, entry.written)

    def _has_sides(self, task: Task) -> bool:
        return all(path.is_file() for path in self._sides_of(task))

    def _holds(self, task: Task, version: Version) -> bool:
        """Return whether the output is of this version."""
        seen = self._outputs.seen(task.target)
        if seen is None or seen[0] != version.size:
            return False
        return version.is_seen_in(seen) or self._outputs.digest(task.target) == version.sha256

    def _known(self, task: Task, entry: Entry, given: Version) -> Done:
        """Write a photo's line again with the stamps it has now, so that they are trusted."""
        line = self.manifest.line_at(entry.offset)
        line["photo"] = task.job.address
        if self._in_place:
            line["written"] = given.as_json()
        else:
            line["input"] = given.as_json()
            size, stamp = self._outputs.seen(task.target) or (0, "")
            line["written"] |= {"size": size, "stamp": stamp}
        return Done(line=self.manifest.append(line), is_known=True)

    def _ours(
        self, task: Task, entry: Entry | None, given: Version
    ) -> tuple[Seen | None, Version | None]:
        """Return the output that an earlier run made of this photo, if that is what is there."""
        if self._in_place or entry is None:
            return None, None
        is_same = entry.given is not None and entry.given.sha256 == given.sha256
        if _is_of(task, entry) or is_same:
            for version in entry.outputs:
                if self._holds(task, version):
                    return self._outputs.seen(task.target), version
        return None, None

    def _failed(
        self,
        task: Task,
        entry: Entry | None,
        line: dict[str, Any],
        error: Exception,
        seconds: float,
    ) -> Done:
        """Write down that a photo failed.

        Not where its place is another's: that one's line must stay the last. And not where the
        disk is full: without a line, the photo is tried again as well.
        """
        reason = explain(error)
        record = {"photo": str(task.job.photo), "error": reason}
        is_anothers = entry is not None and bool(entry.outputs) and not _is_of(task, entry)
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
        with suppress(OSError):
            return Done(line=self.manifest.append(line), error=reason)
        return Done(record=record, error=reason)


def _surely(is_so: Callable[[Task, Entry], bool], task: Task, entry: Entry) -> bool:
    """Return whether it is so; what can't be looked at now is seen when its turn comes."""
    try:
        return is_so(task, entry)
    except OSError:
        return False


def _is_of(task: Task, entry: Entry) -> bool:
    return entry.photo == task.job.address


def _digest(data: bytes | Path) -> bytes:
    if isinstance(data, bytes):
        return hashlib.sha256(data).digest()
    with data.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _shown(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
