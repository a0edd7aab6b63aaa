"""How far a run is, and what came of it; Ctrl-C ends it when the photos in hand are done."""

from __future__ import annotations

import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Task as Bar
from rich.text import Text

from plateblur.runs.plan import File, Job, Plan, Task, counted


@dataclass(frozen=True, slots=True)
class Done:
    """What came of one photo.

    Attributes:
        record: what the report says of it, where no line of the manifest does.
        line: where its line of the manifest begins, bytes.
        plates: how many were found; 0 where it failed.
        ignored: how many of them lay in a zone that is ignored.
        error: why it was not done, or None.
        notes: what was lost on the way, a sentence each.
        is_known: an earlier run had done it, as its content showed.
        is_disk_full: it failed because there is no room, as every other photo would.
    """

    record: dict[str, Any] | None = None
    line: int | None = None
    plates: int = 0
    ignored: int = 0
    error: str | None = None
    notes: tuple[str, ...] = ()
    is_known: bool = False
    is_disk_full: bool = False


@dataclass(slots=True)
class Tally:
    """What came of a run; `before` counts what an earlier run had done."""

    plates: int = 0
    ignored: int = 0
    with_plates: int = 0
    without_plates: int = 0
    before: int = 0
    not_begun: int = 0
    failures: list[tuple[File, str]] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)

    @property
    def done(self) -> int:
        """Return how many photos were done."""
        return self.with_plates + self.without_plates

    def add(self, job: Job, done: Done | None) -> None:
        """Count one photo; None is one that was not begun."""
        if done is None:
            self.not_begun += 1
        elif done.error is not None:
            self.failures.append((job.photo, done.error))
        elif done.is_known:
            self.before += 1
        else:
            self.notes.update(done.notes)
            self.plates += done.plates
            self.ignored += done.ignored
            self.with_plates += done.plates > 0
            self.without_plates += done.plates == 0

    def lines(self, work: Plan, where: str, *, verb: str, what: str = "photo") -> list[str]:
        """Return what was done and what was not, a line each.

        Args:
            work: what there was to do.
            where: where the photos went, as the end of a sentence.
            verb: what was done to plates.
            what: was worked on.
        """
        done = f"{number(self.plates, 'plate')} {verb} in {number(self.with_plates, what)}"
        if self.without_plates:
            done += f", {number(self.without_plates, what)} without plates"
        ignored = f"{number(self.ignored, 'plate')} in ignored zones stayed visible"
        return [
            done + (where if self.done else ""),
            *([f"{number(self.before, what)} done before"] if self.before else []),
            *([ignored] if self.ignored else []),
            *(f"{number(count, what)}: {note}" for note, count in self.notes.most_common()),
            *([f"{number(len(self.failures), what)} not done"] if self.failures else []),
            *([f"stopped: {number(self.not_begun, what)} not begun"] if self.not_begun else []),
            *([counted(work.skipped)] if work.skipped else []),
        ]

    def counts(self) -> dict[str, int]:
        """Return what a run did, as the manifest tells it."""
        return {
            "done": self.done,
            "plates": self.plates,
            "ignored": self.ignored,
            "done_before": self.before,
            "not_done": len(self.failures),
            "not_begun": self.not_begun,
        }

    def summary(
        self, work: Plan, out: str | None, *, seconds: float, what: str = "photo"
    ) -> dict[str, Any]:
        """Return what a run over photos, or over `what` else, did, as JSON."""
        return {
            f"{what}s": self.done,
            "plates": self.plates,
            "with_plates": self.with_plates,
            "without_plates": self.without_plates,
            "ignored": self.ignored,
            "done_before": self.before,
            "not_done": [{what: str(path), "error": reason} for path, reason in self.failures],
            "not_begun": self.not_begun,
            "notes": dict(self.notes),
            "skipped": dict(Counter(one for _, (one, _) in work.skipped)),
            "output": out,
            "seconds": round(seconds, 1),
        }


class Doing(Protocol):
    """Does tasks, here or elsewhere."""

    def __call__(
        self, tasks: list[Task], *, stopping: threading.Event
    ) -> Iterator[tuple[Task, Done | None]]:
        """Yield each task with what came of it, or None where it was not begun.

        Where `stopping` is set, tasks in hand are finished and no other is begun.
        """


class Speed(ProgressColumn):
    """How many a second."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Bar) -> Text:
        """Return the speed, once there is one."""
        return Text(f"{task.speed:.1f} {self._unit}/s" if task.speed else "")


def progress(
    tasks: list[Task],
    doing: Doing,
    what: str,
    tally: Tally,
    *,
    console: Console,
    hidden: bool,
    unit: str = "photos",
) -> Iterator[tuple[Task, Done | None]]:
    """Do the tasks, and yield what came of each.

    A progress bar on standard error says how far it is, where there are several.
    """
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Speed(unit),
        TextColumn("{task.fields[plates]} plates"),
        TextColumn("{task.fields[failed]}", style="red"),
        TimeRemainingColumn(),
        console=console,
        disable=hidden or len(tasks) < 2,
    )
    stopping = threading.Event()
    with bar, finishing_on_ctrl_c(stopping):
        shown = bar.add_task(what, total=len(tasks), plates=0, failed="")
        for task, done in doing(tasks, stopping=stopping):
            tally.add(task.job, done)
            if done is not None and done.is_disk_full:
                stopping.set()
            failed = f"{len(tally.failures)} not done" if tally.failures else ""
            bar.update(
                shown,
                advance=done is not None,
                plates=tally.plates,
                failed=failed,
                description="Stopping" if stopping.is_set() else what,
            )
            yield task, done


@contextmanager
def finishing_on_ctrl_c(stopping: threading.Event) -> Iterator[None]:
    """Let Ctrl-C, or a service's stop, set `stopping`; the second time it ends the command."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    caught = (signal.SIGINT, signal.SIGTERM)
    before = {which: signal.getsignal(which) for which in caught}

    def stop(which: int, _frame: object) -> None:
        stopping.set()
        signal.signal(which, before[signal.Signals(which)] or signal.SIG_DFL)

    for which in caught:
        signal.signal(which, stop)
    try:
        yield
    finally:
        for which, handler in before.items():
            signal.signal(which, handler or signal.SIG_DFL)


def number(count: int, what: str) -> str:
    """Return how many there are: "1 photo", "2 photos"."""
    return f"{count} {what}{'' if count == 1 else 's'}"
