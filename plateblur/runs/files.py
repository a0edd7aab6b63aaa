"""Files that a run writes: whole or not at all, and never over a photo that was given."""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from plateblur.runs.manifest import Seen

PART_PREFIX, PART_SUFFIX = ".plateblur-", ".part"

Put = Callable[[Path, Path], object]
"""Make the first path the second, at once."""


class Outputs:
    """Where a run may write its photos; safe to share by threads."""

    def __init__(
        self, inputs: Iterable[Path], *, overwrite: bool = False, in_place: bool = False
    ) -> None:
        """Remember what must not be written over.

        Args:
            inputs: the photos that were given; those that aren't there are passed over.
            overwrite: replace files of earlier runs.
            in_place: replace the photos that were given.
        """
        self._inputs = {identity(path) for path in inputs if path.exists()}
        self._overwrite = overwrite
        self._in_place = in_place
        self._written: set[tuple[int, int]] = set()
        self._lock = threading.Lock()

    def holds(self, path: Path) -> bool:
        """Return whether `path` is one of the photos that were given, by whatever name."""
        return path.exists() and identity(path) in self._inputs

    def seen(self, target: Path) -> Seen | None:
        """Return what tells the file at `target` from another without reading it, or None."""
        return seen_at(target)

    def digest(self, target: Path) -> bytes:
        """Return the SHA-256 of the file at `target`."""
        return digest_of(target)

    def check(self, target: Path, *, ours: Seen | None = None) -> None:
        """Raise unless a blurred photo may be written to `target`.

        Args:
            target: where it goes.
            ours: what an earlier run wrote there, which may be replaced.

        Raises:
            FileExistsError: an input of this run, an output of it, or an earlier file.
        """
        if self._in_place or not target.exists():
            return
        # By identity, because on some disks names that differ in case are one file.
        if identity(target) in self._written:
            raise FileExistsError(f"another photo of this run was written to {target}")
        if self.holds(target):
            raise FileExistsError(f"{target} was given itself; --in-place alone replaces those")
        if not self._overwrite and (ours is None or seen_at(target) != ours):
            raise FileExistsError(f"{target} is there already; --overwrite replaces it")

    def write(
        self,
        target: Path,
        data: bytes | Path,
        *,
        ours: Seen | None = None,
        first: Callable[[Seen], object] = lambda _: None,
    ) -> Seen | None:
        """Write `data` to `target`, whole or not at all, making its folder.

        Args:
            target: where it goes.
            data: what is written; a path is a whole file in the same folder, which is moved.
            ours: what an earlier run wrote there, which may be replaced.
            first: called with its size and time when `data` is on the disk, before it has its name.

        Returns:
            None; the file keeps the size and time that `first` was given.

        Raises:
            FileExistsError: there is what must not be written over.
            OSError: it can't be written.
        """

        def put(part: Path, target: Path) -> None:
            status = part.stat()
            first((status.st_size, str(status.st_mtime_ns)))
            with self._lock:  # what is there now may have come since the first check
                self.check(target, ours=ours)
                part.replace(target)
                self._written.add(identity(target))

        if isinstance(data, Path):
            try:
                put_in_place(data, target, put=put)
            finally:
                data.unlink(missing_ok=True)
            return None
        with being_written(target, put=put) as file:
            file.write(data)
        return None


@contextmanager
def being_written(target: Path, *, put: Put = Path.replace) -> Iterator[BinaryIO]:
    """Open a file that becomes `target` at the end, or goes where anything is raised."""
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=PART_PREFIX, suffix=PART_SUFFIX)
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        put_in_place(part, target, put=put)
    finally:
        part.unlink(missing_ok=True)


def put_in_place(part: Path, target: Path, *, put: Put = Path.replace) -> None:
    """Make the whole file `part` become `target`, with the rights that a new file would have."""
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.chmod(target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~UMASK)
    put(part, target)


def write_atomically(target: Path, data: bytes) -> None:
    """Write `data` to `target` whole or not at all, making its folder."""
    with being_written(target) as file:
        file.write(data)


def is_part(path: Path) -> bool:
    """Return whether a file is one that a run was writing when it was killed."""
    return path.name.startswith(PART_PREFIX) and path.name.endswith(PART_SUFFIX)


def remove_parts(folders: Iterable[Path]) -> None:
    """Remove what killed runs left in folders that nothing else is writing to.

    Raises:
        OSError: one can't be removed.
    """
    for folder in folders:
        for part in folder.glob(f"{PART_PREFIX}*{PART_SUFFIX}"):
            part.unlink(missing_ok=True)


def identity(path: Path) -> tuple[int, int]:
    """Return what is the same for all names of one file, whatever links lead to it."""
    status = path.stat()
    return status.st_dev, status.st_ino


def seen_at(path: Path) -> Seen | None:
    """Return size and time of the last change of a file, or None where there is none."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_size, str(status.st_mtime_ns)


def digest_of(path: Path) -> bytes:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def explain(error: Exception) -> str:
    """Return one line for people about an error of the world."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror} ({error.filename})" if error.filename else error.strerror
    return str(error) or type(error).__name__


def _umask() -> int:
    current = os.umask(0o077)
    os.umask(current)
    return current


UMASK = _umask()  # read once: reading it sets it for a moment, for all threads
