"""A Ray cluster of several nodes on this machine, also on one that is busy with other work.

Ray ends a node whose agent hasn't written down its ports within 15 s, and the agent takes seconds
of a core to start. The ports are chosen here, so they are written down for it.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.ports import free_port

ROOT = Path(__file__).parents[1]
SESSION = Path("/tmp/ray/session_latest")
PORTS = ("metrics_agent", "metrics_export", "runtime_env_agent", "dashboard_agent_listen")
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",  # it reports to nobody
    "RAY_raylet_start_wait_time_s": "300",
    "RAY_worker_register_timeout_seconds": "300",
    "RAY_CLIENT_SERVER_CHECK_CHANNEL_TIMEOUT_S": "300",
    "RAY_worker_niceness": "0",  # by default 15, so other work on the machine would starve them
    "PYTHONPATH": str(ROOT),
}
OBJECTS_BYTES = 80_000_000  # Ray's smallest store; photos don't go through it


class Nodes:
    """Starts and kills nodes.

    Attributes:
        cluster: Ray's own helper.
        address: for drivers.
    """

    def __init__(self) -> None:
        """Prepare a cluster without nodes."""
        from ray.cluster_utils import Cluster

        self.cluster: Any = Cluster()
        self._ports: dict[str, int] = {}
        self._client_port = free_port()
        self._stopping = threading.Event()
        self._writer = threading.Thread(target=self._write_ports, daemon=True)
        self._writer.start()

    @property
    def address(self) -> str:
        """Where drivers reach it."""
        return str(self.cluster.address)

    @property
    def client_address(self) -> str:
        """Where drivers reach it from outside."""
        return f"ray://127.0.0.1:{self._client_port}"

    def add(self, *, cores: int) -> None:
        """Start a node, and wait until it is up; the first is the head."""
        head = {} if self.cluster.head_node else {"ray_client_server_port": self._client_port}
        self._ports = {f"{name}_port": free_port() for name in PORTS}
        self.cluster.add_node(
            num_cpus=cores,
            include_dashboard=False,
            object_store_memory=OBJECTS_BYTES,
            **self._ports,
            **head,
        )

    def kill_one(self) -> None:
        """End one of the nodes that do photos, as a power cut does."""
        self.cluster.remove_node(self.cluster.worker_nodes.copy().pop(), allow_graceful=False)

    def stop(self) -> None:
        """End all nodes."""
        self.cluster.shutdown()
        self._stopping.set()
        self._writer.join()

    def _write_ports(self) -> None:
        while not self._stopping.wait(0.2):
            ports = self._ports
            with suppress(OSError):
                session = SESSION.resolve(strict=True)
                for log in session.glob("logs/raylet*.out"):
                    text = log.read_text(errors="replace")[:50_000]
                    for node in set(re.findall(r"node_id=([0-9a-f]{56})", text)):
                        for name, port in ports.items():
                            file = session / f"{name}_{node}"
                            if not file.exists():
                                file.write_text(str(port))


@contextmanager
def ray_cluster(*, nodes: int) -> Iterator[Nodes]:
    """Run so many nodes with a core each in the block, beside a head without any."""
    before = dict(os.environ)  # noqa: TID251
    os.environ.update(ENVIRONMENT)  # noqa: TID251
    made = Nodes()
    try:
        made.add(cores=0)
        for _ in range(nodes):
            made.add(cores=1)
        yield made
    finally:
        made.stop()
        os.environ.clear()  # noqa: TID251
        os.environ.update(before)  # noqa: TID251
