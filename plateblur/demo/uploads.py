"""Files that visitors uploaded: their limits, their owners, and how they are read.

A visitor never names a path. An upload is identified by a random token that only its visitor gets
and only they can use. Space is reserved before a byte is written, by the announced length of the
request, so that no visitor, address or crowd can fill the disk.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from plateblur.errors import PlateblurError

KEEP_S = 10 * 60  # the page asks for what it uploaded right away; this allows for the queue
NAME_CHARS = 80  # of an upload's name: file systems take 255 bytes, and four may be one character


class NoRoomError(PlateblurError):
    """The visitor, the address or the whole demo holds as much as is allowed."""


class MoreThanAnnouncedError(PlateblurError):
    """More arrives than the request announced, or than is allowed."""


class NotThereError(PlateblurError):
    """There is no such upload, it belongs to another visitor, or it has changed."""


@dataclass(frozen=True, slots=True)
class Room:
    """How much may be on disk at the same time, including uploads in progress.

    Attributes:
        visitor_bytes: of one visitor.
        address_bytes: of one network address, behind which may be several visitors.
        total_bytes: of all.
        visitor_files: of one visitor.
        total_files: of all.
        free_bytes: what must stay free on the disk.
    """

    visitor_bytes: int = 256 * 1024**2
    address_bytes: int = 512 * 1024**2
    total_bytes: int = 1024**3
    visitor_files: int = 40
    total_files: int = 1000
    free_bytes: int = 256 * 1024**2


ROOM = Room()


@dataclass(frozen=True, slots=True)
class _Kept:
    """An upload that waits, or one that is on its way: then `path` is None."""

    visitor: str
    address: str
    size_bytes: int
    since_s: float
    path: Path | None


class Arriving:
    """Files on their way to disk, one after the other.

    Attributes:
        paths: of each file that was begun, by the token that its visitor takes it with:
            "RANDOM/NAME", where NAME is the `safe_name` of what its sender calls it.
    """

    def __init__(self, folder: Path, *, size_bytes: int, files: int) -> None:
        """Begin with none; space is reserved for `size_bytes` in `files` files."""
        self.paths: dict[str, Path] = {}
        self._folder = folder
        self._left_bytes = size_bytes
        self._left_files = files
        self._open: BinaryIO | None = None

    def begin(self, name: str) -> None:
        """Begin a file.

        Raises:
            MoreThanAnnouncedError: it is one more than may come.
        """
        self.end()
        self._left_files -= 1
        if self._left_files < 0:
            raise MoreThanAnnouncedError("more files came than may")
        token = f"{secrets.token_urlsafe(24)}/{safe_name(name)}"
        path = self._folder / token
        path.parent.mkdir(parents=True, mode=0o700)
        self._open = path.open("xb")
        self.paths[token] = path

    def write(self, data: bytes) -> None:
        """Write more of the file that was begun last.

        Raises:
            MoreThanAnnouncedError: more than announced.
        """
        self._left_bytes -= len(data)
        if self._left_bytes < 0 or self._open is None:
            raise MoreThanAnnouncedError("more came than was announced")
        self._open.write(data)

    def end(self) -> None:
        """End the file that was begun last, if there is one."""
        if self._open is not None:
            self._open.close()
            self._open = None


class Uploads:
    """The uploads that no event has used yet; thread-safe."""

    def __init__(
        self,
        folder: Path,
        *,
        room: Room = ROOM,
        keep_s: float = KEEP_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Keep files in `folder`, which is made when it is needed.

        Args:
            folder: nothing else may be kept there.
            room: how much may wait.
            keep_s: how long an upload waits to be taken.
            clock: seconds, of any beginning.
        """
        self._folder = folder
        self._room = room
        self.keep_s = keep_s
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: dict[str, _Kept] = {}

    @contextmanager
    def receiving(
        self, visitor: str, address: str, *, size_bytes: int, files: int = 1
    ) -> Iterator[Arriving]:
        """Yield an object to write arriving files to; they are kept if the block succeeds.

        Args:
            visitor: whose they are.
            address: network address that they come from.
            size_bytes: of all together, as the request says.
            files: maximum number of files.

        Raises:
            NoRoomError: no space; nothing was written.
        """
        ticket = f"{secrets.token_hex(8)}-arrives"
        with self._lock:
            self._require_room(visitor, address, size_bytes, files)
            self._kept[ticket] = _Kept(visitor, address, size_bytes, self._clock(), None)
        arriving = Arriving(self._folder, size_bytes=size_bytes, files=files)
        try:
            yield arriving
            arriving.end()
            with self._lock:
                for token, path in arriving.paths.items():
                    size = path.stat().st_size
                    self._kept[token] = _Kept(visitor, address, size, self._clock(), path)
        except BaseException:
            arriving.end()
            for path in arriving.paths.values():
                _remove(path)
            raise
        finally:
            with self._lock:
                del self._kept[ticket]

    def take(self, visitor: str, token: str, *, max_bytes: int) -> bytes:
        """Return the bytes of an upload of this visitor, and remove it from disk.

        Only a regular file is opened, never through a link, although only this process should be
        able to put anything there.

        Raises:
            NotThereError: it is not there, or of another visitor.
            NoRoomError: it is longer than `max_bytes`; it is removed all the same.
        """
        with self._lock:
            kept = self._kept.get(token)
            if kept is None or kept.path is None or kept.visitor != visitor:
                raise NotThereError("there is no such upload")
            del self._kept[token]
        try:
            return _read_whole(kept.path, max_bytes=max_bytes)
        finally:
            _remove(kept.path)

    def drop(self, visitor: str, token: str) -> None:
        """Remove an upload; nothing happens if it is not this visitor's."""
        with self._lock:
            kept = self._kept.get(token)
            if kept is None or kept.path is None or kept.visitor != visitor:
                return
            del self._kept[token]
        _remove(kept.path)

    def sweep(self) -> None:
        """Remove expired uploads."""
        now_s = self._clock()
        with self._lock:
            old = {
                token: kept.path
                for token, kept in self._kept.items()
                if kept.path is not None and now_s - kept.since_s >= self.keep_s
            }
            for token in old:
                del self._kept[token]
        for path in old.values():
            _remove(path)

    def _require_room(self, visitor: str, address: str, size_bytes: int, files: int) -> None:
        held = list(self._kept.values())
        own = [each for each in held if each.visitor == visitor]
        near = [each for each in held if each.address == address]
        for these, most in (
            (own, self._room.visitor_bytes),
            (near, self._room.address_bytes),
            (held, self._room.total_bytes),
        ):
            if sum(each.size_bytes for each in these) + size_bytes > most:
                raise NoRoomError(f"expected at most {most / 1024**2:.0f} MB of waiting uploads")
        for these, count in ((own, self._room.visitor_files), (held, self._room.total_files)):
            if len(these) + files > count:
                raise NoRoomError(f"expected at most {count} waiting uploads")
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if shutil.disk_usage(self._folder).free < size_bytes + self._room.free_bytes:
            raise NoRoomError("the disk is almost full")


def safe_name(name: str) -> str:
    """Return a name as one that a file may have anywhere: short, printable, no folders."""
    last = re.split(r"[/\\]", name)[-1]
    kept = "".join(c for c in last if c.isprintable() and c not in '<>:"|?*').strip(". ")
    stem, dot, suffix = kept.rpartition(".")
    if not dot or len(suffix) > 8:
        stem, suffix = kept, ""
    stem = stem[: NAME_CHARS - len(suffix)] or "photo"
    return f"{stem}.{suffix}" if suffix else stem


def _read_whole(path: Path, *, max_bytes: int) -> bytes:
    """Return the content of a regular file.

    Raises:
        NotThereError: missing, not a regular file, or a link.
        NoRoomError: it is too long.
    """
    try:
        # Don't follow links, and don't wait for the writer of a FIFO.
        opened = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(opened, "rb") as source:  # noqa: PTH123 - a descriptor, no path
            status = os.fstat(source.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise NotThereError("the upload is no regular file")
            if status.st_size > max_bytes:
                raise NoRoomError(f"expected at most {max_bytes} bytes, got {status.st_size}")
            return source.read(max_bytes)
    except OSError as error:
        raise NotThereError("the upload was incomplete") from error


def _remove(path: Path) -> None:
    shutil.rmtree(path.parent, ignore_errors=True)  # which holds this one file
