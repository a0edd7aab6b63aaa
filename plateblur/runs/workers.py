"""Many photos at the same time: one for each core, and no more pixels than fit."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from plateblur.errors import PhotoError
from plateblur.photo import upright_hw

# A JPEG takes 10 bytes a pixel while it is decoded, blurred and encoded: about 250 MB a worker.
PIXELS_A_WORKER = 25_000_000
AHEAD = 64  # photos a worker that may be done while an earlier one still is in hand
MORE_IN_HAND = 2  # than there are cores: one is read and one is written while others are blurred

JobT = TypeVar("JobT")
DoneT = TypeVar("DoneT")


def pixels_of(data: bytes) -> int:
    """Return how many pixels a photo has; 0 for what will be refused."""
    try:
        return math.prod(upright_hw(data))
    except PhotoError:
        return 0


class PixelsInHand:
    """Lets photos begin while their pixels together stay below a limit; one alone always may."""

    def __init__(self, most: int, *, photos: int | None = None) -> None:
        """Set the limits.

        Args:
            most: pixels at the same time.
            photos: at the same time; None: any number.
        """
        self._most = most
        self._photos = photos
        self._now = self._begun = 0
        self._changed = threading.Condition()
        self._next = threading.Lock()  # held by who waits, so that small ones don't keep passing

    @contextmanager
    def of(self, pixels: int) -> Iterator[None]:
        """Wait until there is room for a photo of so many pixels, and keep it while it is done."""
        with self._next, self._changed:
            self._changed.wait_for(lambda: self._has_room(pixels))
            self._now += pixels
            self._begun += 1
        try:
            yield
        finally:
            with self._changed:
                self._now -= pixels
                self._begun -= 1
                self._changed.notify_all()

    def _has_room(self, pixels: int) -> bool:
        if self._photos is not None and self._begun >= self._photos:
            return False
        return not self._now or self._now + pixels <= self._most


def room_for(workers: int) -> PixelsInHand:
    """Return the room for so many photos that are blurred at the same time."""
    return PixelsInHand(PIXELS_A_WORKER * workers, photos=workers)


def done_in_order(
    jobs: Iterable[JobT],
    do: Callable[[JobT], DoneT],
    *,
    workers: int,
    stopping: threading.Event,
) -> Iterator[tuple[JobT, DoneT | None]]:
    """Yield each job with what came of it, in the order of the jobs, done by several threads.

    Threads, because decoding, looking, blurring and encoding leave Python's lock to others.

    Args:
        jobs: what is to be done.
        do: does one; what it raises ends the run once the others in hand are done.
        workers: how many are done at the same time.
        stopping: where it is set, jobs in hand are finished and no other is begun.

    Yields:
        The job and its outcome, or None where it was not begun.
    """

    def begin(job: JobT) -> DoneT | None:
        return None if stopping.is_set() else do(job)

    waiting: deque[tuple[JobT, Future[DoneT | None]]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="photo") as pool:
        try:
            for job in jobs:
                waiting.append((job, pool.submit(begin, job)))
                if len(waiting) > AHEAD * workers:
                    first, outcome = waiting.popleft()
                    yield first, outcome.result()
            while waiting:
                first, outcome = waiting.popleft()
                yield first, outcome.result()
        except BaseException:
            stopping.set()
            raise
