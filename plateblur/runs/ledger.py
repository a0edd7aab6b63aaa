"""What of a run is to be done, by its manifest.

Whether a photo is done is first judged by size and time of the last change, of the photo and of
its output. Where those differ, or can't be trusted, the content is compared by its hash when the
photo's turn comes, in `settle.py`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from plateblur.runs.manifest import FORMAT, Entry, Manifest, now
from plateblur.runs.plan import Task
from plateblur.runs.settle import Before, Settler, Written, is_of


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
    """The manifest of one run, and where its outputs go; safe to share by threads.

    Attributes:
        manifest: open.
        settler: does the photos.
    """

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
        lock: str | None = None,
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
            lock: what the run's lock in a bucket will be known again by.

        Raises:
            OSError: the manifest can't be written.
        """
        self.manifest = manifest
        self._settings = json.loads(json.dumps(settings))  # as it will be read again
        self._software = software
        self._again = again
        run = max(manifest.runs, default=0) + 1
        self.settler = Settler(outputs, run, in_place, sides_of)
        manifest.append(
            {
                "manifest": FORMAT,
                "run": run,
                "started": now(),
                "software": software,
                "settings": settings,
                **({} if lock is None else {"lock": lock}),
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
            elif change := self._settings_changed(task, entry):
                changed[change] += 1
                left.todo.append(task)
            elif _surely(self._would_fail_again, task, entry):
                left.failed.append((task, self.manifest.line_at(entry.offset)["error"]))
            elif _surely(self.settler.looks_done, task, entry):
                left.done.append(task)
                software = self.manifest.runs[entry.run]["software"]
                older[software] += software != self._software
            else:
                left.todo.append(task)
        left.notes += [f"changed since {n} were done: {change}" for change, n in changed.items()]
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

    def before(self, task: Task) -> Before:
        """Return what the manifest knows of a photo."""
        entry = self.manifest.entries.get(task.output)
        is_same = entry is not None and not self._settings_changed(task, entry)
        return Before(entry, may_count=is_same and not self._again.redo)

    def append(self, line: dict[str, Any], *, onto: int | None = None) -> int:
        """Write a line of one photo, as `settle.Append` says."""
        return self.manifest.append(self.completed(line, onto))

    def completed(self, line: dict[str, Any], onto: int | None) -> dict[str, Any]:
        """Return `line`, on top of what the line at `onto` says if that is given."""
        return line if onto is None else self.manifest.line_at(onto) | line

    def end(self, outcome: dict[str, Any]) -> None:
        """Write down what came of the run.

        Raises:
            OSError: it can't be written.
        """
        self.manifest.append({"ended": now(), "run": self.settler.run, "outcome": outcome})

    def _settings_changed(self, task: Task, entry: Entry) -> str:
        """Return what has changed since a photo was done: "min_confidence was 0.45, is 0.3"."""
        before = self.manifest.runs.get(entry.run, {}).get("settings", {})
        changes = [
            f"{name} was {_shown(before.get(name))}, is {_shown(self._settings.get(name))}"
            for name in self._settings | before
            if before.get(name) != self._settings.get(name)
        ]
        return ", ".join([*changes, *(["zones"] if entry.zones != task.zones_name else [])])

    def _would_fail_again(self, task: Task, entry: Entry) -> bool:
        if (
            entry.state != "failed"
            or self._again.retry_failed
            or not entry.is_final
            or entry.given is None
        ):
            return False
        return is_of(task, entry) and entry.given.is_seen_in(task.job.seen())


def _surely(is_so: Callable[[Task, Entry], bool], task: Task, entry: Entry) -> bool:
    """Return whether it is so; what can't be looked at now is seen when its turn comes."""
    try:
        return is_so(task, entry)
    except OSError:
        return False


def _shown(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
