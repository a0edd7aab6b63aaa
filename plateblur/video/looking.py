"""Look for plates in every frame of a clip."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from plateblur.types import Detections

ItemT = TypeVar("ItemT")
DoneT = TypeVar("DoneT")

WORKERS = max(
    2, (os.cpu_count() or 2) // 4
)  # a detector and an encoder use several cores by themselves


def in_order(work: Callable[[ItemT], DoneT], items: Iterable[ItemT]) -> Iterator[DoneT]:
    """Yield `work` of each item, in order, done by several threads at once.

    Only a few items are taken ahead, because frames are large.
    """
    ahead: deque[Future[DoneT]] = deque()
    with ThreadPoolExecutor(WORKERS) as pool:
        try:
            for item in items:
                ahead.append(pool.submit(work, item))
                if len(ahead) > WORKERS:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for each in ahead:
                each.cancel()


def none_found() -> Detections:
    """Return the detections of a frame in which nothing can be seen."""
    return Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))
