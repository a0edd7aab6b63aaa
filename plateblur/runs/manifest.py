"""The manifest of a run: a JSON line for each photo that was finished, so that it can be resumed.

A file holds the lines of every run that wrote to the same place. Each run begins with a line that
says how it works (software, model, options), and ends with what came of it. In between is a line
for each photo, and where a photo has several, the last one counts.

A line is on the disk before the output gets its name. So an output always has its line, whatever
is killed when; a line whose output is missing belongs to a photo that is done again. What a kill
cuts short is the last line at most: it is dropped when the file is opened, because its output
never got its name.

A line holds no plate text, no pixels and no credentials: of a URL, neither user nor query.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from plateblur.errors import RunError

MANIFEST_NAME = "plateblur-manifest.jsonl"
LOCK_NAME = ".plateblur.lock"  # keeps other runs from a folder of outputs
FORMAT = 1
SOFTWARE = f"plateblur {metadata.version('plateblur')}"
HEAD = '{"manifest": '  # how a file of ours begins
READ_BYTES = 1 << 20
OUTPUTS = ("written", "replaces")  # the names of the versions of an output in a line

State = Literal["done", "failed"]


@dataclass(frozen=True, slots=True)
class Version:
    """Which content a file had.

    Attributes:
        size: bytes.
        stamp: when it was last changed, in ns; in a bucket its ETag. Empty where that can't be
            trusted, because the file was changed while it was looked at.
        sha256: of the content.
    """

    size: int
    stamp: str
    sha256: bytes

    def is_seen_in(self, seen: Seen | None) -> bool:
        """Return whether a file looks unchanged without being read."""
        return seen is not None and self.stamp != "" and (self.size, self.stamp) == seen

    def as_json(self) -> dict[str, Any]:
        """Return what the manifest says of it."""
        return {"size": self.size, "stamp": self.stamp, "sha256": self.sha256.hex()}


Seen = tuple[int, str]
"""Size in bytes and stamp of a file, as its place tells them without reading it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What the manifest says of one output; the rest of the line is read when it is needed.

    Attributes:
        offset: where the line begins, bytes.
        photo: where the input is: an absolute path, or a URL without credentials.
        state: whether it was done.
        run: number of the run that did it.
        given: the input; None where it couldn't be read.
        outputs: what may be under the output's name: what was written, and what that replaces, in
            case that a kill came between the line and the replacement.
        is_final: a failure that the same photo would meet again.
        zones: what tells the photo's zones from others; "" where it has none.
    """

    offset: int
    photo: str
    state: State
    run: int
    given: Version | None
    outputs: tuple[Version, ...]
    is_final: bool
    zones: str = ""

    @property
    def written(self) -> Version | None:
        """The output that was written last; None where there was none."""
        return self.outputs[0] if self.outputs else None


class Manifest:
    """An open manifest; safe to append to from several threads.

    Attributes:
        path: of the file.
        entries: the last line of each output, by the output's name.
        runs: the first line of each run so far, by its number.
        damaged: how many lines can't be read. Their photos count as not done.
    """

    def __init__(self, path: Path, *, is_kept: bool = True, is_read_only: bool = False) -> None:
        """Open the manifest at `path`, or begin one.

        Args:
            path: of the file.
            is_kept: it outlives the run, so each line is brought to the disk.
            is_read_only: the file must exist and isn't changed, so a run may write to it meanwhile.

        Raises:
            RunError: there is a file that is no manifest, or one of a later version.
            OSError: it can't be opened.
        """
        self.path = path
        self.entries: dict[str, Entry] = {}
        self.runs: dict[int, dict[str, Any]] = {}
        self.damaged = 0
        is_new = not path.exists() and not is_read_only
        if is_new:
            path.parent.mkdir(parents=True, exist_ok=True)
        mode = os.O_RDONLY if is_read_only else os.O_RDWR | os.O_CREAT
        self._handle = os.open(path, mode | getattr(os, "O_BINARY", 0), 0o666)
        try:
            self._end = self._read(is_read_only=is_read_only)
        except BaseException:
            os.close(self._handle)
            raise
        self._written = self._synced = 0
        self._is_kept = is_kept
        self._is_broken = False
        self._writing, self._syncing = threading.Lock(), threading.Lock()
        if is_new and is_kept:
            sync_folder(path.parent)

    def append(self, line: dict[str, Any]) -> int:
        """Write a line, and return where it begins once it is on the disk.

        Raises:
            OSError: it can't be written; the manifest is as it was before.
        """
        return self.append_all([line])[0]

    def append_all(self, lines: list[dict[str, Any]]) -> list[int]:
        """Write lines, and return where each begins once all are on the disk.

        They share one fsync, also with those of threads that come at the same time.

        Raises:
            OSError: one can't be written; the manifest is as it was before.
        """
        written = [json.dumps(line).encode() + b"\n" for line in lines]
        with self._writing:
            if self._is_broken:
                raise OSError(f"{self.path} couldn't be written earlier")
            start = self._end
            try:
                self._write_at(start, b"".join(written))
            except OSError:
                self._drop_after(start)
                raise
            offsets = []
            for line, data in zip(lines, written, strict=True):
                self._remember(line, self._end)
                offsets.append(self._end)
                self._end += len(data)
            self._written += 1
            mine = self._written
        with self._syncing:
            if self._is_kept and self._synced < mine:
                latest = self._written
                os.fsync(self._handle)
                self._synced = latest
        return offsets

    def line_at(self, offset: int) -> dict[str, Any]:
        """Return the line that begins at `offset`, bytes."""
        with self._writing:
            os.lseek(self._handle, offset, os.SEEK_SET)
            data = b""
            while b"\n" not in data and (more := os.read(self._handle, READ_BYTES >> 6)):
                data += more
        line: dict[str, Any] = json.loads(data[: data.index(b"\n")])
        return line

    def close(self) -> None:
        """Close the file."""
        os.close(self._handle)

    def _write_at(self, offset: int, data: bytes) -> None:
        os.lseek(self._handle, offset, os.SEEK_SET)
        left = memoryview(data)
        while left:
            left = left[os.write(self._handle, left) :]

    def _drop_after(self, offset: int) -> None:
        """Take back half a line, so that the next doesn't continue it."""
        try:
            os.ftruncate(self._handle, offset)
        except OSError:
            self._is_broken = True

    def _read(self, *, is_read_only: bool) -> int:
        """Read all lines, drop one that was cut short, and return where the file ends."""
        offset = 0
        for data in self._lines():
            if offset == 0 and not _is_ours(data):
                raise RunError(f"{self.path} is no manifest of plateblur: name another file for it")
            if not data.endswith(b"\n"):
                if not is_read_only:
                    os.ftruncate(self._handle, offset)
                break
            try:
                line = json.loads(data)
                if not isinstance(line, dict):
                    raise TypeError
                self._remember(line, offset)
            except (ValueError, TypeError, KeyError):
                self.damaged += 1
            offset += len(data)
        return offset

    def _lines(self) -> Iterator[bytes]:
        """Yield the file's lines; the last may lack its end."""
        waiting = b""
        while more := os.read(self._handle, READ_BYTES):
            *whole, waiting = (waiting + more).split(b"\n")
            for line in whole:
                yield line + b"\n"
        if waiting:
            yield waiting

    def _remember(self, line: dict[str, Any], offset: int) -> None:
        if "manifest" in line:
            if line["manifest"] > FORMAT:
                raise RunError(
                    f"{self.path} was written by a later version, {line['software']}; use that one"
                )
            self.runs[line["run"]] = line
        elif "output" in line:
            self.entries[line["output"]] = Entry(
                offset=offset,
                photo=line["photo"],
                state="done" if line["state"] == "done" else "failed",
                run=line["run"],
                given=None if line["input"] is None else _version(line["input"]),
                outputs=tuple(_version(line[key]) for key in OUTPUTS if line.get(key)),
                is_final=line.get("final", False),
                zones=line.get("zones", ""),
            )


def _is_ours(first_line: bytes) -> bool:
    head = HEAD.encode()
    return first_line.startswith(head) or (
        not first_line.endswith(b"\n") and head.startswith(first_line)
    )


def _version(written: dict[str, Any]) -> Version:
    return Version(written["size"], written["stamp"], bytes.fromhex(written["sha256"]))


def now() -> str:
    """Return the time as the manifest writes it: "2026-11-27T01:30:00Z"."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def sync_folder(folder: Path) -> None:
    """Bring a folder's names to the disk, where the system can."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
