"""Shared by all tests: how workers divide them, an empty store to copy, hypothesis' settings.

Hypothesis draws the same cases everywhere, without a time limit, and fewer of them in `make quick`.
"""

from __future__ import annotations

import functools
import gc
import re
import signal
from pathlib import Path

import pytest
import typer.main
import typer.testing
from hypothesis import settings

from plateblur.accounts.store import Store
from plateblur.runs import model
from plateblur.runs.files import digest_of
from tests.accounts.fakes import SECRET

settings.register_profile("steady", derandomize=True, deadline=None, database=None)
settings.register_profile("quick", settings.get_profile("steady"), max_examples=20)
settings.load_profile("steady")

# A shell's background jobs ignore SIGINT, and so would the programs that tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A runner builds the whole command line each time: 30 ms, for hundreds of commands in the tests.
typer.testing._get_command = functools.cache(typer.main.get_command)  # type: ignore[attr-defined]


@functools.cache
def _digest_of_version(path: Path, _size: int, _mtime_ns: int) -> bytes:
    return digest_of(path)


def _digest_once(path: Path) -> bytes:
    seen = path.stat()
    return _digest_of_version(path, seen.st_size, seen.st_mtime_ns)


# Each command that blurs hashes the shipped model: 15 ms, for as many commands.
model.digest_of = _digest_once  # type: ignore[attr-defined]

QUICK = "not slow"  # the expression after -m in `make quick`
SLOW_FILE = re.compile(r"^pytestmark = (\[[^\]]*)?pytest\.mark\.slow\b", re.MULTILINE)


def pytest_configure(config: pytest.Config) -> None:
    """Draw fewer cases in `make quick`."""
    if config.option.markexpr == QUICK:
        settings.load_profile("quick")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Don't import a file whose tests are all slow in `make quick`.

    Every worker imports every file. Torch, Gradio, Playwright and notebooks take 10 s to import,
    so the files that need them are slow throughout.
    """
    if config.option.markexpr != QUICK or collection_path.suffix != ".py":
        return None
    return SLOW_FILE.search(collection_path.read_text(encoding="utf-8")) is not None or None


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, and keep a file's tests with one worker.

    What a file's fixtures start (a server, a browser, a training run) is then started once. Tests
    that share nothing may name groups of their own, so that several workers take part in a file.
    A slow test that fails runs once more, because browsers, databases and servers now and then fail
    to start on a machine under load; pytest's last line counts these reruns.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.flaky(reruns=1))
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))


def pytest_collection_finish() -> None:
    """Keep what was imported out of further garbage collections, each of which would look at it."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def empty_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated file to copy, which is faster than to migrate for each test."""
    path = tmp_path_factory.mktemp("empty") / "accounts.sqlite3"
    store = Store(f"sqlite:///{path}", secret=SECRET)
    store.migrate()
    store.close()
    return path
