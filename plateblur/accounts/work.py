"""A bounded queue for costly work; if it is full, callers get an error instead of waiting."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from plateblur.accounts.types import BusyError

WAIT_S = 5.0  # Source: ours; many times what a full queue takes, unless the machine is overloaded.
RETRY_S = 2

Result = TypeVar("Result")


class WorkQueue:
    """Runs work in a few threads and lets a bounded number of callers wait; thread-safe."""

    def __init__(self, *, at_once: int, waiting: int, wait_s: float = WAIT_S) -> None:
        """Set the bounds.

        Args:
            at_once: pieces of work at the same time, each with its memory.
            waiting: threads that may wait for one of them to end.
            wait_s: the longest wait.
        """
        self._places = threading.BoundedSemaphore(at_once + waiting)
        self._turns = threading.BoundedSemaphore(at_once)
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="work")
        self._wait_s = wait_s
        self._mine = threading.local()

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Hold a turn for the block; reentrant per thread.

        Raises:
            BusyError: too many are waiting, or the wait was too long.
        """
        if getattr(self._mine, "turn", False):
            yield
            return
        if not self._places.acquire(blocking=False):
            raise BusyError(retry_after_s=RETRY_S)
        try:
            if not self._turns.acquire(timeout=self._wait_s):
                raise BusyError(retry_after_s=RETRY_S)
            self._mine.turn = True
            try:
                yield
            finally:
                self._mine.turn = False
                self._turns.release()
        finally:
            self._places.release()

    def run(self, work: Callable[[], Result]) -> Result:
        """Return what `work` returns, computed in a turn.

        Raises:
            BusyError: as `turn`.
        """
        with self.turn():
            return self._threads.submit(work).result()
