"""What a run writes beside its outputs when it is asked to, from its manifest."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from plateblur.errors import RunError
from plateblur.runs.files import being_written, explain, write_atomically
from plateblur.runs.report import Outcome, report_lines
from plateblur.runs.run import Run
from plateblur.runs.tables import write_csv, write_parquet
from plateblur.sets.annotations import Found, write_coco, write_yolo


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """Files that a run writes when it has ended; None for those that weren't asked for.

    Attributes:
        report: a JSON object a photo.
        table: CSV, a row a photo.
        parquet: the same with the detections.
        coco: annotations of all outputs.
        yolo: folder of label files.
    """

    report: Path | None = None
    table: Path | None = None
    parquet: Path | None = None
    coco: Path | None = None
    yolo: Path | None = None

    def files(self) -> list[Path]:
        """Return the files that are written over."""
        asked = (self.report, self.table, self.parquet, self.coco)
        labels = [] if self.yolo is None else [self.yolo / "data.yaml"]
        return [path for path in asked if path is not None] + labels

    def write(self, run: Run, outcomes: list[Outcome]) -> list[tuple[Path, str]]:
        """Write what was asked for, and return what couldn't be written and why."""
        manifest = run.manifest

        def report(file: TextIO) -> None:
            file.writelines(f"{line}\n" for line in report_lines(outcomes, run.work, manifest))

        def coco(file: TextIO) -> None:
            base = (self.coco or Path()).absolute().parent
            write_coco(file, lambda: _found(run, outcomes, lambda one: _beside(one, base)))

        def below() -> Iterator[Found]:
            return _found(run, outcomes, lambda one: one.task.job.inside.as_posix())

        failures: list[tuple[Path, str]] = []
        texts: list[tuple[Path | None, Callable[[TextIO], None]]] = [
            (self.report, report),
            (self.table, lambda file: write_csv(file, outcomes, manifest)),
            (self.coco, coco),
        ]
        for path, write in texts:
            if path is not None:
                with _noting(path, failures), _text_file(path) as file:
                    write(file)
        if self.parquet is not None:
            with _noting(self.parquet, failures), being_written(self.parquet) as binary:
                write_parquet(binary, outcomes, manifest)
        if self.yolo is not None:
            with _noting(self.yolo, failures):
                write_yolo(self.yolo, below, write_atomically)
        return failures


def _found(run: Run, outcomes: list[Outcome], name_of: Callable[[Outcome], str]) -> Iterator[Found]:
    """Yield what was found in each photo that was done in this run or before."""
    for outcome in outcomes:
        if outcome.done is None or outcome.done.line is None:
            continue
        line = run.manifest.line_at(outcome.done.line)
        if line["state"] == "done":
            yield Found(
                name=name_of(outcome),
                image_hw=(line["height"], line["width"]),
                xyxy=[each["xyxy"] for each in line["detections"]],
                confidence=[each["confidence"] for each in line["detections"]],
            )


def _beside(outcome: Outcome, base: Path) -> str:
    """Return an output's path as seen from the folder `base`, or its URL."""
    target = outcome.task.target
    if not isinstance(target, Path):
        return str(target)
    return Path(os.path.relpath(target.absolute(), base)).as_posix()


@contextmanager
def _text_file(path: Path) -> Iterator[TextIO]:
    with being_written(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", errors="surrogateescape", newline="")
        yield text
        text.flush()
        text.detach()


@contextmanager
def _noting(path: Path, failures: list[tuple[Path, str]]) -> Iterator[None]:
    try:
        yield
    except (OSError, RunError, ValueError) as error:
        failures.append((path, explain(error)))
