"""What is in work for which open page, so that its visitor can end it, by leaving too."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Jobs:
    """The jobs in work; safe to call from several threads at once."""

    def __init__(self) -> None:
        """Begin with none."""
        self._lock = threading.Lock()
        self._in_work: set[tuple[str, str, threading.Event]] = set()

    @contextmanager
    def working(self, session: str, kind: str) -> Iterator[threading.Event]:
        """Give what is set when a job is to end.

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
        """End the jobs of `session`; where a kind is given, those of it."""
        with self._lock:
            for whose, what, ended in self._in_work:
                if whose == session and kind in (None, what):
                    ended.set()

    def are_in_work(self, session: str) -> bool:
        """Return whether there is a job of `session`."""
        with self._lock:
            return any(whose == session for whose, _, _ in self._in_work)
