"""What all tests share: how they are dealt out, an empty store to copy, hypothesis' settings.

Hypothesis draws the same cases everywhere and minds no slow machine.
"""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from hypothesis import settings

from plateblur.accounts.store import Store
from tests.accounts.fakes import SECRET

settings.register_profile("steady", derandomize=True, deadline=None, database=None)
settings.load_profile("steady")

# What a shell starts in the background ignores SIGINT, and so would the programs that tests start
# and stop with it.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, and keep a file's tests with one worker.

    What a file's fixtures start (a server, a browser, a training run) is then started once. Tests
    that share nothing may name groups of their own, so that several workers take part in a file.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))


@pytest.fixture(scope="session")
def empty_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated file to copy, which is faster than to migrate for each test."""
    path = tmp_path_factory.mktemp("empty") / "accounts.sqlite3"
    store = Store(f"sqlite:///{path}", secret=SECRET)
    store.migrate()
    store.close()
    return path
