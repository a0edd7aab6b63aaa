"""Ports for servers that tests start in processes of their own."""

from __future__ import annotations

import itertools
import os
import socket

# Below what systems give out by themselves (Linux: 32768, Source: ip_local_port_range in ip(7)), so
# that no connection takes one between the look and the server's start.
FIRST, EACH = 20_000, 1_000

_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))  # noqa: TID251
_ports = itertools.count(FIRST + (_WORKER % 12) * EACH + os.getpid() % (EACH // 2))


def free_port() -> int:
    """Return a port of 127.0.0.1 that is free, and that no other worker of pytest will be given."""
    while True:
        port = next(_ports)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
