"""A console over a store of its own, and people who visit it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from plateblur.accounts.store import Store
from tests.accounts.fakes import SECRET
from tests.console.fakes import Stand, make_stand


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def stand(tmp_path: Path, empty_sqlite: Path) -> Iterator[Stand]:
    shutil.copy(empty_sqlite, tmp_path)
    store = Store(f"sqlite:///{tmp_path}/accounts.sqlite3", secret=SECRET)
    yield make_stand(store, tmp_path)
    store.close()
