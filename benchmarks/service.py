"""The service as people start it, for the benchmarks that send it requests."""

from __future__ import annotations

import base64
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from plateblur.accounts import api_keys, invoices, signup
from plateblur.accounts.credentials import Hasher
from plateblur.accounts.store import open_store
from plateblur.accounts.types import PlanKind

ROOT = Path(__file__).parents[1]
PASSWORD = "only in this benchmark"  # noqa: S105 - of accounts in a temporary folder


def address_of(number: int) -> str:
    """Return the e-mail address of an account of `make_accounts`, counted from 0."""
    return f"account{number}@example.com"


def make_accounts(data_dir: Path, count: int, *, keys_from: int | None = None) -> list[str]:
    """Return `Authorization` headers of new accounts with a package.

    Args:
        data_dir: folder of the store.
        count: of accounts.
        keys_from: from this one on they show an API key instead of the password; None: never.
    """
    store, hasher, now = open_store(data_dir), Hasher(), datetime.now(UTC)
    headers = []
    for number in range(count):
        email, secret = address_of(number), PASSWORD
        account_id = signup.create_account(store, hasher, email=email, password=PASSWORD, now=now)
        invoices.grant_package(store, account_id, PlanKind.YEARLY, now=now)
        if keys_from is not None and number >= keys_from:
            secret = api_keys.add_key(store, account_id, label="", now=now).key
        headers.append("Basic " + base64.b64encode(f"{email}:{secret}".encode()).decode())
    store.close()
    return headers


@contextmanager
def serving(
    data_dir: Path, *, model: Path | None = None, settings: Mapping[str, str] | None = None
) -> Iterator[tuple[int, int]]:
    """Run the service for the block; yields its port and its process id.

    Args:
        data_dir: folder of the store.
        model: the detector's; the shipped one where None.
        settings: environment variables beside those of this process.

    Raises:
        RuntimeError: it did not start, or ended within the block.
    """
    port = free_port()
    command = [sys.executable, str(ROOT / "serve.py"), "--port", str(port)]
    process = subprocess.Popen(
        [*command, "--data-dir", str(data_dir), *(("--model", str(model)) if model else ())],
        env=os.environ | dict(settings or {}),  # noqa: TID251 - for a child
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while not is_ready(port):
            if process.poll() is not None:
                raise RuntimeError(f"the service ended with {process.returncode}")
            time.sleep(0.2)
        yield port, process.pid
        if process.poll() is not None:
            raise RuntimeError(f"the service crashed: {process.returncode}")
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def free_port() -> int:
    """Return a port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_ready(port: int) -> bool:
    """Return whether the service answers that it can take photos."""
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except OSError:
        return False
