"""What all tests share: an empty store to copy, and hypothesis' settings.

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


@pytest.fixture(scope="session")
def empty_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated file to copy, which is faster than to migrate for each test."""
    path = tmp_path_factory.mktemp("empty") / "accounts.sqlite3"
    store = Store(f"sqlite:///{path}", secret=SECRET)
    store.migrate()
    store.close()
    return path
