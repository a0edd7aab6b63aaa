"""The running jobs of each open page, so that they end when its visitor cancels or leaves."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Jobs:
    """The running jobs; thread-safe."""

    def __init__(self) -> None:
        """Begin with none."""
        self._lock = threading.Lock()
        self._in_work: set[tuple[str, str, threading.Event]] = set()

    @contextmanager
    def working(self, session: str, kind: str) -> Iterator[threading.Event]:
        """Yield an event that is set when the job should end.

        Args:
            session: for whom it is.
            kind: of job, as "clip".
        """
        job = (session, kind, threading.Event())
        with self._lock:
            self._in_work.add(job)
        try:
            yield job[2]
        finally:
            with self._lock:
                self._in_work.remove(job)

    def end(self, session: str, kind: str | None = None) -> None:
        """End the jobs of `session`, or only those of one kind."""
        with self._lock:
            for whose, what, ended in self._in_work:
                if whose == session and kind in (None, what):
                    ended.set()

    def are_in_work(self, session: str) -> bool:
        """Return whether there is a job of `session`."""
        with self._lock:
            return any(whose == session for whose, _, _ in self._in_work)
