"""A run as a table, a row a photo: CSV for people, Parquet for programs."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import BinaryIO, TextIO

from plateblur.errors import RunError
from plateblur.runs.manifest import Manifest
from plateblur.runs.report import NOT_BEGUN, Outcome

COLUMNS = (
    *("photo", "output", "state", "plates", "ignored", "smallest_plate_px", "width", "height"),
    *("seconds", "error"),
)
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet would run a cell that begins so
ROWS_A_GROUP = 10_000

Row = dict[str, str | int | float | None]


def rows(outcomes: list[Outcome], manifest: Manifest) -> Iterator[Row]:
    """Yield a row for each photo, in the order of the plan."""
    for outcome in outcomes:
        row: Row = dict.fromkeys(COLUMNS)
        row |= {"photo": str(outcome.task.job.photo), "output": str(outcome.task.target)}
        if outcome.done is None:
            row |= {"state": "not begun", "error": NOT_BEGUN}
        elif outcome.done.line is None:
            row |= {"state": "failed", "error": outcome.done.error}
        else:
            line = manifest.line_at(outcome.done.line)
            row |= {name: line[name] for name in COLUMNS[2:] if name in line}
        if row["state"] != "done":
            row["output"] = None
        yield row


def write_csv(file: TextIO, outcomes: list[Outcome], manifest: Manifest) -> None:
    """Write the table as CSV, safe to open in a spreadsheet."""
    table = csv.DictWriter(file, COLUMNS)
    table.writeheader()
    for row in rows(outcomes, manifest):
        table.writerow(
            {
                name: f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
                for name, value in row.items()
            }
        )


def write_parquet(file: BinaryIO, outcomes: list[Outcome], manifest: Manifest) -> None:
    """Write the table as Parquet, with the detections of each photo.

    Raises:
        RunError: pyarrow is not installed.
        OSError: it can't be written.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise RunError("--parquet needs: pip install 'plateblur[parquet]'") from error
    detection = pyarrow.struct(
        [("xyxy", pyarrow.list_(pyarrow.float32())), ("confidence", pyarrow.float32())]
    )
    text, whole, real = pyarrow.string(), pyarrow.int64(), pyarrow.float64()
    kinds = (text, text, text, whole, whole, real, whole, whole, real, text)
    columns = list(zip(COLUMNS, kinds, strict=True))
    schema = pyarrow.schema([*columns, ("detections", pyarrow.list_(detection))])
    with parquet.ParquetWriter(file, schema) as writer:
        for start in range(0, len(outcomes), ROWS_A_GROUP):
            some = outcomes[start : start + ROWS_A_GROUP]
            group = [
                _plain(row) | {"detections": _detections(outcome, manifest)}
                for outcome, row in zip(some, rows(some, manifest), strict=True)
            ]
            writer.write_table(pyarrow.Table.from_pylist(group, schema=schema))


def _plain(row: Row) -> dict[str, object]:
    """Return a row whose texts are UTF-8; a file's name may be any bytes."""
    return {
        name: value.encode(errors="replace").decode() if isinstance(value, str) else value
        for name, value in row.items()
    }


def _detections(outcome: Outcome, manifest: Manifest) -> list[dict[str, object]] | None:
    if outcome.done is None or outcome.done.line is None:
        return None
    found = manifest.line_at(outcome.done.line).get("detections")
    if found is None:
        return None
    return [{"xyxy": each["xyxy"], "confidence": each["confidence"]} for each in found]
