"""Photos that lie in buckets, behind web addresses or in ZIP files; fsspec reaches them.

Credentials come from the environment and the files that fsspec's own packages read. An address as
it is shown, logged and written down has neither user nor query, because signed URLs have their
signature there.
"""

from __future__ import annotations

import hashlib
import json
import socket
import zipfile
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn
from urllib.parse import urlsplit, urlunsplit

from plateblur.errors import RunError
from plateblur.photo import MAX_BYTES
from plateblur.runs.manifest import LOCK_NAME, Seen, now

# How a place's own listing says which content a file has, the surest first.
STAMPS = ("ETag", "etag", "CRC", "md5Hash", "LastModified", "last_modified", "updated", "mtime")
WEB = ("http://", "https://")
EXTRA = "pip install 'plateblur[buckets]'"


@dataclass(frozen=True, slots=True)
class Remote:
    """A file that fsspec reaches.

    Attributes:
        address: for people and the manifest: a URL without credentials.
        path: what its file system calls it.
        system: an fsspec file system.
    """

    address: str
    path: str = field(repr=False)
    system: Any = field(repr=False, compare=False, hash=False)

    def __str__(self) -> str:
        return self.address

    @property
    def name(self) -> str:
        """The last part of the path."""
        is_web = self.address.startswith(WEB)  # there the path has the query too
        return PurePosixPath(urlsplit(self.address).path if is_web else self.path).name

    @property
    def suffix(self) -> str:
        """The ending of the name, with its dot."""
        return PurePosixPath(self.name).suffix

    def seen(self) -> Seen | None:
        """Return size and stamp, as the place gives them; None where there is no such file."""
        try:
            info = self.system.info(self.path)
        except FileNotFoundError:
            return None
        except Exception as error:  # noqa: BLE001 - every place has errors of its own
            _raise(self.address, error)
        stamp = next((info[name] for name in STAMPS if info.get(name)), "")
        return int(info.get("size") or 0), str(stamp)

    def read_bytes(self) -> bytes:
        """Return the content, up to one byte more than a photo may have.

        Raises:
            OSError: it can't be read.
        """
        try:
            with self.system.open(self.path, "rb", cache_type="none") as file:
                size = getattr(file, "size", None)
                if size == 0:
                    return b""
                # No more than there is: gcsfs asks for parts beyond the end, which is an error.
                most = MAX_BYTES + 1
                return bytes(file.read(most if size is None else min(size, most)))
        except Exception as error:  # noqa: BLE001 - every place has errors of its own
            _raise(self.address, error)

    def write_bytes(self, data: bytes) -> None:
        """Put the content there, whole or not at all, as buckets do.

        Raises:
            OSError: it can't be written.
        """
        try:
            self.system.pipe_file(self.path, data)
        except Exception as error:  # noqa: BLE001 - every place has errors of its own
            _raise(self.address, error)

    def create(self, data: bytes) -> bool:
        """Put the content there unless there is such a file; return whether it was put.

        Raises:
            OSError: it can't be written.
        """
        try:
            self.system.pipe_file(self.path, data, mode="create")
        except Exception as error:  # noqa: BLE001 - every place has errors of its own
            self.system.invalidate_cache()
            if self.seen() is None:
                _raise(self.address, error)
            return False
        return True

    def read_json(self) -> dict[str, Any]:
        """Return the JSON object that a small file holds; empty where it is none, or gone.

        Raises:
            OSError: it can't be read.
        """
        try:
            content = json.loads(self.read_bytes())
        except (FileNotFoundError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def remove(self) -> None:
        """Delete the file.

        Raises:
            OSError: it can't be deleted.
        """
        try:
            self.system.rm_file(self.path)
        except Exception as error:  # noqa: BLE001 - every place has errors of its own
            _raise(self.address, error)

    def below(self, inside: PurePosixPath | Path) -> Remote:
        """Return the file of that path below this folder."""
        tail = inside.as_posix()
        path = f"{self.path.rstrip('/')}/{tail}"
        return Remote(f"{self.address.rstrip('/')}/{tail}", path, self.system)


class RemoteOutputs:
    """Where a run puts its photos, in a bucket; safe to share by threads."""

    def __init__(self, *, overwrite: bool) -> None:
        self._overwrite = overwrite

    def seen(self, target: Remote) -> Seen | None:
        """Return what tells the file at `target` from another without reading it, or None."""
        return target.seen()

    def digest(self, target: Remote) -> bytes:
        """Return the SHA-256 of the file at `target`."""
        return hashlib.sha256(target.read_bytes()).digest()

    def check(self, target: Remote, *, ours: Seen | None = None) -> None:
        """Raise unless a blurred photo may be written to `target`.

        Raises:
            FileExistsError: what is there isn't `ours`, the output of an earlier run.
        """
        if not self._overwrite and target.seen() not in (None, ours):
            raise FileExistsError(f"{target} is there already; --overwrite replaces it")

    def write(
        self,
        target: Remote,
        data: bytes,
        *,
        ours: Seen | None = None,
        first: Callable[[Seen], object],
    ) -> Seen | None:
        """Write `data` to `target` and return how it looks there.

        Raises:
            FileExistsError: there is what must not be written over.
            OSError: it can't be written.
        """
        self.check(target, ours=ours)
        first((len(data), ""))
        target.write_bytes(data)
        return target.seen()


@contextmanager
def claimed(folder: Remote, token: str, *, earlier: Collection[str]) -> Iterator[None]:
    """Keep other runs from `folder` in the block, by an object that is created but once.

    Places compare and create in one step: S3 by `If-None-Match`, GCS by the generation, Azure by
    its own flag. What a killed run left is taken over by the next run with the same manifest.

    Args:
        folder: where outputs go.
        token: of this run, which its manifest has already.
        earlier: tokens of earlier runs of that manifest; none of them is running any more.

    Raises:
        RunError: another run has the folder.
        OSError: the object can't be written.
    """
    lock = folder.below(PurePosixPath(LOCK_NAME))
    holder = {"run": token, "host": socket.gethostname(), "since": now()}
    data = json.dumps(holder).encode()
    is_new = lock.create(data)
    there = lock.read_json()
    if not is_new and there.get("run") in earlier:
        lock.write_bytes(data)
        there = lock.read_json()
    if there.get("run") != token:  # also where the place creates it twice: the last one has it
        raise RunError(
            f"another run is writing to {folder}, since {there.get('since')} on "
            f"{there.get('host')}; wait until it has ended. If it was killed, run its own command "
            f"again, or delete {lock}"
        )
    try:
        yield
    finally:
        with suppress(OSError):
            if lock.read_json().get("run") == token:
                lock.remove()


def is_remote(given: str) -> bool:
    """Return whether `given` is a URL and not a path; one letter before "://" is a disk."""
    scheme, there, _ = given.partition("://")
    return bool(there) and len(scheme) > 1


def is_zip(path: Path) -> bool:
    """Return whether `path` is a ZIP file by its name."""
    return path.suffix.lower() == ".zip" and path.is_file()


def opened(given: str) -> Remote:
    """Return the place that a URL names; nothing is read yet.

    Raises:
        RunError: the package for that kind of place is missing, or it is no such URL.
    """
    import fsspec  # not at the top: most runs need none of it

    try:
        system, path = fsspec.core.url_to_fs(given)
    except (ImportError, ValueError) as error:
        raise RunError(
            f"{without_credentials(given)} can't be reached: expected a kind of place that fsspec "
            f"knows, with its package installed ({EXTRA})"
        ) from error
    return Remote(without_credentials(given), str(path), system)


def opened_zip(path: Path) -> Remote:
    """Return the inside of a ZIP file on a disk.

    Raises:
        RunError: it is no ZIP file.
    """
    from fsspec.implementations.zip import ZipFileSystem

    try:
        system = ZipFileSystem(str(path.absolute()))
    except Exception as error:  # zipfile raises several kinds
        raise RunError(f"{path} can't be read as a ZIP file") from error
    return Remote(f"zip://{path.absolute().as_posix()}", "", system)


def named_twice(path: Path) -> dict[str, int]:
    """Return which names several files of a ZIP file have, and how many."""
    with zipfile.ZipFile(path) as archive:
        counts = Counter(archive.namelist())
    return {name: count for name, count in counts.items() if count > 1}


def remote_files(
    folder: Remote, *, recursive: bool
) -> Iterator[tuple[Remote, PurePosixPath | None]]:
    """Yield the files of a remote folder, by name, and the path of each below it.

    A folder in it has None for a path, where folders are not to be entered.

    Raises:
        OSError: it can't be listed.
    """
    try:
        depth = None if recursive else 1
        found = folder.system.find(folder.path, maxdepth=depth, withdirs=True, detail=True)
    except Exception as error:  # noqa: BLE001 - every place has errors of its own
        _raise(folder.address, error)
    base = folder.path.strip("/")
    for path in sorted(found):
        inside = PurePosixPath(str(path).strip("/").removeprefix(base).lstrip("/"))
        if inside == PurePosixPath():
            continue  # the folder itself
        file = Remote(f"{folder.address.rstrip('/')}/{inside}", str(path), folder.system)
        if found[path].get("type") == "file":
            yield file, inside
        elif not recursive:
            yield file, None


def is_folder(place: Remote) -> bool:
    """Return whether a URL names a folder and not a file.

    Raises:
        OSError: the place can't be reached.
    """
    if place.address.startswith(WEB):
        return False  # a web server has pages and no folders
    try:
        return bool(place.system.isdir(place.path))
    except Exception as error:  # noqa: BLE001 - every place has errors of its own
        _raise(place.address, error)


def without_credentials(url: str) -> str:
    """Return a URL without user, password, query and fragment."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))


def _raise(address: str, error: Exception) -> NoReturn:
    """Raise `error` as an `OSError` whose text is ours: theirs may hold a signed URL."""
    if isinstance(error, FileNotFoundError):
        raise FileNotFoundError(2, "No such file", address) from None
    if isinstance(error, PermissionError):
        raise PermissionError(13, "Permission denied", address) from None
    status = getattr(error, "status", None)
    reason = f"status {status}" if isinstance(status, int) else type(error).__name__
    raise OSError(f"{address} can't be reached: {reason}") from None
