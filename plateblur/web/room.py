"""Room that requests share: places and bytes that are counted, and turns that are fair."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from plateblur.web.failures import busy

Holder = int | None


class Slots:
    """A limit on concurrent use; requests beyond it are refused, not queued.

    Args:
        limit: how much there is, in places or bytes.
        each: how much of it one account may have.
    """

    def __init__(self, limit: int, *, each: int | None = None) -> None:
        self._limit = limit
        self._each = limit if each is None else each
        self._taken: Counter[Holder] = Counter()
        self._lock = threading.Lock()

    @property
    def taken(self) -> int:
        """How much is inside."""
        return self._taken.total()

    def enter(self, *, holder: Holder = None, size: int = 1) -> bool:
        """Return whether there was room, which is then taken."""
        with self._lock:
            if self.taken + size > self._limit or self._taken[holder] + size > self._each:
                return False
            self._taken[holder] += size
            return True

    def leave(self, *, holder: Holder = None, size: int = 1) -> None:
        """Give room back."""
        with self._lock:
            self._taken[holder] -= size
            self._taken += Counter()  # Removes holders of nothing.

    @contextmanager
    def take(self, *, retry_s: int, holder: Holder = None, size: int = 1) -> Iterator[None]:
        """Be inside for the block.

        Raises:
            Failure: busy.
        """
        if not self.enter(holder=holder, size=size):
            raise busy(retry_s)
        try:
            yield
        finally:
            self.leave(holder=holder, size=size)


class Turns:
    """Places for photos being processed, given to one account after the other.

    Not first come, first served, because then the many photos of one account would make all others
    wait. Only for use in the event loop's thread.
    """

    def __init__(self, places: int) -> None:
        self._free = places
        self._waiting: dict[Holder, deque[asyncio.Future[None]]] = {}

    @asynccontextmanager
    async def take(self, holder: Holder) -> AsyncIterator[None]:
        """Wait for a place, and hold it for the block."""
        if self._free:
            self._free -= 1
        else:
            turn = asyncio.get_running_loop().create_future()
            self._waiting.setdefault(holder, deque()).append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if not turn.cancelled():  # It was given a place that it does not need any more.
                    self._pass_on()
                raise
        try:
            yield
        finally:
            self._pass_on()

    def _pass_on(self) -> None:
        """Give a place to the account that has waited longest since its last one."""
        while self._waiting:
            holder = next(iter(self._waiting))
            turns = self._waiting.pop(holder)
            turn = turns.popleft()
            if turns:
                self._waiting[holder] = turns  # Behind all others.
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
