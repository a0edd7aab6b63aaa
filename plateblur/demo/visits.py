"""A visitor's photos while a page is open: in memory, limited in time and size.

An upload is on disk until the page reads it (`uploads.py`), and then held in memory. After that,
only blurred photos are on disk, waiting for their download. Both are deleted soon after the page is
closed, or after `keep_s` without use. The page states these periods (`assets/footer.html`).
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from plateblur.demo.uploads import ROOM, Room, Uploads
from plateblur.types import Detections, Effort

KEEP_S = 30 * 60  # long enough to look at twenty photos
GRACE_S = 60  # after the connection ends, because a phone drops it while its screen is dark
SWEEP_EVERY_S = 15
MAX_HELD_BYTES = 1024**3  # of all visits; the least recently used goes first


@dataclass(frozen=True, slots=True, eq=False)
class DroppedPhoto:
    """One photo that was dropped into the page.

    Attributes:
        name: the file's name, for people and for the download; never logged.
        data: as received; empty if it was refused.
        found: what the detector found, down to its floor.
        plates: `found` after corrections by hand; those added come first, with confidence 1.
        by_hand: how many of `plates` were added.
        failure: why it could not be blurred, for people; empty if it could.
        url: where it was fetched from; empty if it was dropped.
        effort: how hard `found` was looked for.
        image_hw: height and width of the upright image, pixels; (0, 0) if it was refused.
        thumb: a small picture of it as a data URL, for the filmstrip; "" without one.
        is_example: a drawn scene of the page, not a photo of the visitor.
    """

    name: str
    data: bytes
    found: Detections
    plates: Detections
    by_hand: int = 0
    failure: str = ""
    url: str = ""
    effort: Effort = "default"
    image_hw: tuple[int, int] = (0, 0)
    thumb: str = ""
    is_example: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Visit:
    """What one open page holds.

    Attributes:
        photos: in the order in which they were dropped.
        shown: index of the one on show.
    """

    photos: tuple[DroppedPhoto, ...] = ()
    shown: int = 0

    @property
    def photo(self) -> DroppedPhoto | None:
        """The photo on show."""
        return self.photos[self.shown] if self.photos else None


@dataclass(slots=True)
class _Held:
    visit: Visit
    ends_s: float
    files: dict[str, Path] = field(default_factory=dict)


class Visits:
    """All open pages; thread-safe."""

    def __init__(
        self,
        folder: Path,
        *,
        keep_s: float = KEEP_S,
        grace_s: float = GRACE_S,
        max_held_bytes: int = MAX_HELD_BYTES,
        room: Room = ROOM,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Keep files in `folder`, and nothing else may be kept there.

        Args:
            folder: Gradio's folder; whatever grows old in it is removed.
            keep_s: how long a visit lasts without use.
            grace_s: how long it lasts after its page was closed.
            max_held_bytes: the most that all visits' photos may take in memory.
            room: how much may wait in `uploads`.
            clock: seconds since the epoch, as files' times are.
        """
        self.folder = folder
        self.uploads = Uploads(folder / "uploads", room=room, clock=clock)
        self.keep_s = keep_s
        self.grace_s = grace_s
        self._max_held_bytes = max_held_bytes
        self._clock = clock
        self._lock = threading.Lock()
        self._held: OrderedDict[str, _Held] = OrderedDict()

    def get(self, session: str) -> Visit:
        """Return what the page of `session` holds; an empty visit if that was forgotten."""
        with self._lock:
            held = self._held.get(session)
            if held is None:
                return Visit()
            self._use(session, held)
            return held.visit

    def put(self, session: str, visit: Visit) -> None:
        """Hold `visit` for `session`; others are forgotten where memory would run out."""
        with self._lock:
            held = self._held.setdefault(session, _Held(visit, 0))
            held.visit = visit
            self._use(session, held)
            while len(self._held) > 1 and self._held_bytes() > self._max_held_bytes:
                self._forget(next(iter(self._held)))

    def new_path(self, session: str, kind: str, name: str) -> Path:
        """Return the path for a new download; replaces the last one of its `kind`.

        Args:
            session: whose it is.
            kind: what it replaces.
            name: the name that the download is to have.
        """
        with self._lock:
            held = self._held.setdefault(session, _Held(Visit(), 0))
            self._use(session, held)
            _remove_file(held.files.pop(kind, None))
            # A new folder each time, because a browser may not ask again for the same address.
            path = self._folder_of(session) / secrets.token_urlsafe(16) / name
            path.parent.mkdir(parents=True)
            held.files[kind] = path
            return path

    def drop_file(self, session: str, kind: str) -> None:
        """Remove the file of that `kind`, which is no longer what the page shows."""
        with self._lock:
            if held := self._held.get(session):
                _remove_file(held.files.pop(kind, None))

    def leave(self, session: str) -> None:
        """Let the visit end soon: its page was closed or its connection lost."""
        with self._lock:
            if held := self._held.get(session):
                held.ends_s = min(held.ends_s, self._clock() + self.grace_s)

    def sweep(self) -> None:
        """Forget visits that have ended, and remove files that are no longer needed."""
        self.uploads.sweep()
        with self._lock:
            now_s = self._clock()
            for session in [s for s, held in self._held.items() if held.ends_s <= now_s]:
                self._forget(session)
            wanted = {path for held in self._held.values() for path in held.files.values()}
            # Not `rglob`, which fails where an upload's folder goes away under it.
            for parent, folders, files in os.walk(self.folder, topdown=False):
                for name in (*files, *folders):
                    _remove_if_old(Path(parent, name), wanted, before_s=now_s - self.keep_s)

    def sweep_forever(self, *, every_s: float = SWEEP_EVERY_S) -> threading.Thread:
        """Start a thread that sweeps until the process ends, and return it."""

        def sweep_again_and_again() -> None:
            while True:
                time.sleep(every_s)
                self.sweep()

        thread = threading.Thread(target=sweep_again_and_again, name="sweep", daemon=True)
        thread.start()
        return thread

    def _use(self, session: str, held: _Held) -> None:
        held.ends_s = self._clock() + self.keep_s
        self._held.move_to_end(session)

    def _held_bytes(self) -> int:
        return sum(len(p.data) for held in self._held.values() for p in held.visit.photos)

    def _forget(self, session: str) -> None:
        del self._held[session]
        shutil.rmtree(self._folder_of(session), ignore_errors=True)

    def _folder_of(self, session: str) -> Path:
        # Hashed, because the browser says what its session is called.
        of_visitor = folder_of_visitor(self.folder, session)
        return of_visitor / hashlib.sha256(session.encode()).hexdigest()


def visitor_of(session: str) -> str:
    """Return the name of the visitor whose a session is, as the `Door` names sessions."""
    return session.partition(".")[0]


def folder_of_visitor(folder: Path, session: str) -> Path:
    """Return where the files for the downloads of a session's visitor are."""
    return folder / "visits" / hashlib.sha256(visitor_of(session).encode()).hexdigest()


def _remove_file(path: Path | None) -> None:
    if path is not None:
        path.unlink(missing_ok=True)
        _remove_empty(path.parent)


def _remove_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:  # not empty, or already removed
        return


def _remove_if_old(path: Path, wanted: set[Path], *, before_s: float) -> None:
    try:
        if path in wanted or path.lstat().st_mtime > before_s:
            return
        if path.is_dir():
            _remove_empty(path)
        else:
            path.unlink()
    except FileNotFoundError:  # a download or a visit that ended removed it meanwhile
        return
