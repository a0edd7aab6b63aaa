"""A connection with a timeout for every wait: for headers, for a body, for a slow reader.

uvicorn only times out idle connections between requests. Hypercorn and Granian time out headers
too, but not clients that don't read a large response, and they don't limit the connections of a
process. So this is uvicorn's own class with timeouts added.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEADER_S: Final = 10.0  # Source: our limit for Caddy; nginx's default is 60.
GRACE_S: Final = 60.0
MIN_BYTES_S: Final = 32 * 1024
"""After the grace, a sender or reader must have kept this average rate."""
MAX_CONNECTIONS: Final = 800  # Below the 1,024 open files that a process may have by default.
LOOK_EVERY_S: Final = 1.0

# A peer that vanished silently is noticed within two minutes.
KEEP_ALIVE: Final = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}


class BoundedConnection(H11Protocol):
    """uvicorn's HTTP/1.1 connection, closed if its peer is too slow.

    Attributes:
        header_s: time for a header to arrive completely.
        grace_s: time for a body or a response, in addition to what `MIN_BYTES_S` allows.
        max_connections: per process; the one that has waited longest for a header is closed.
    """

    header_s = HEADER_S
    grace_s = GRACE_S
    max_connections = MAX_CONNECTIONS
    look_every_s = LOOK_EVERY_S

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._state: object = None
        self._since = self.loop.time()
        self._received_bytes = 0
        self._paused_at: float | None = None
        self._paused_s = 0.0
        self._sent_bytes = 0
        self._look: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept the connection, and close another one if there are too many."""
        super().connection_made(transport)
        # So that waiting for the buffer means waiting until the kernel has every byte.
        transport.set_write_buffer_limits(high=0)
        _notice_vanished_peers(transport)
        self._look_again()
        if len(self.connections) > self.max_connections:
            ours = [one for one in self.connections if isinstance(one, BoundedConnection)]
            waiting = [one for one in ours if one._waits_for_header()]
            oldest = min(waiting, key=lambda one: one._since, default=self)
            oldest.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop looking at the clock."""
        if self._look is not None:
            self._look.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what comes."""
        self._received_bytes += len(data)
        super().data_received(data)
        self._note_state()

    def on_response_complete(self) -> None:
        """Begin to wait for the next request."""
        super().on_response_complete()
        self._paused_s = self._sent_bytes = 0
        self._note_state()

    def pause_writing(self) -> None:
        """Note that the peer has not taken everything yet."""
        super().pause_writing()
        self._paused_at = self.loop.time()
        self._sent_bytes += self.transport.get_write_buffer_size()

    def resume_writing(self) -> None:
        """Note that the peer has taken everything."""
        super().resume_writing()
        if self._paused_at is not None:
            self._paused_s += self.loop.time() - self._paused_at
            self._paused_at = None

    def _waits_for_header(self) -> bool:
        return self.conn.their_state is h11.IDLE

    def _note_state(self) -> None:
        """Restart the timeout when the peer has started another part of a request."""
        if self._state is not self.conn.their_state:
            self._state = self.conn.their_state
            self._since = self.loop.time()
            self._received_bytes = 0

    def _look_again(self) -> None:
        self._look = self.loop.call_later(self.look_every_s, self._look_at_the_clock)

    def _look_at_the_clock(self) -> None:
        if self._is_too_slow(self.loop.time()):
            self.transport.abort()
        else:
            self._look_again()

    def _is_too_slow(self, now: float) -> bool:
        if self._paused_at is not None:
            spent_s = self._paused_s + now - self._paused_at
            return spent_s > self.grace_s + self._sent_bytes / MIN_BYTES_S
        self._note_state()
        if self._waits_for_header():
            return now - self._since > self.header_s
        if self.conn.their_state is h11.SEND_BODY:
            return now - self._since > self.grace_s + self._received_bytes / MIN_BYTES_S
        return False


def _notice_vanished_peers(transport: asyncio.Transport) -> None:
    connected = transport.get_extra_info("socket")
    if connected is None or connected.family not in {socket.AF_INET, socket.AF_INET6}:
        return
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEP_ALIVE.items():
        if hasattr(socket, name):  # Not on every system.
            connected.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
