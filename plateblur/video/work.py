"""Intermediate files of a clip, so that its work can be resumed after being killed.

It contains the boxes that were found, and segments of the blurred pictures. No picture with
a readable plate, unless it was missed.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import Any, BinaryIO

ENDS_BYTES = 1 << 20  # of a clip's beginning and end, to know it again by


class Work:
    """The folder of one clip's work."""

    def __init__(self, folder: Path, *, of: str, resume: bool) -> None:
        """Open `folder`, and empty it unless it holds work `of` the same kind to be resumed."""
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        mark = folder / "of.txt"
        same = resume and mark.is_file() and mark.read_text() == of
        if not same:
            for path in folder.iterdir():
                path.unlink()
            mark.write_text(of)

    def journal(self, name: str) -> Journal:
        """Return the journal of that name."""
        return Journal(self.folder / f"{name}.jsonl")

    def segment(self, picture: int, number: int) -> Path:
        """Return the path of a segment of blurred pictures."""
        return self.folder / f"picture-{picture}-{number:06d}.mp4"


class Journal:
    """Lines that outlive a kill; the last may be cut short and is then not read."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> list[Any]:
        """Return the values that were written, and drop a line that was cut short."""
        if not self._path.exists():
            return []
        data = self._path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            os.truncate(self._path, len(whole))
        return [json.loads(line) for line in whole.splitlines()]

    def write(self, values: Generator[Any]) -> Generator[Any]:
        """Yield `values` after adding each to the journal; closes it if iteration ends early."""
        with self._path.open("a", encoding="utf-8") as file, closing(values):
            for value in values:
                file.write(json.dumps(value) + "\n")
                file.flush()
                yield value


def known_again(clip: BinaryIO, *settings: object) -> str:
    """Return what identifies the work on this clip with these settings."""
    digest = hashlib.sha256(repr(settings).encode())
    size = clip.seek(0, os.SEEK_END)
    digest.update(str(size).encode())
    for start in (0, max(0, size - ENDS_BYTES)):
        clip.seek(start)
        digest.update(clip.read(ENDS_BYTES))
    return digest.hexdigest()
