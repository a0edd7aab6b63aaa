"""The account tests run on SQLite, and on a private PostgreSQL where its binaries are found."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import delete

from plateblur.accounts.gate import StoreGate
from plateblur.accounts.models import Base
from plateblur.accounts.store import Store
from tests.accounts.fakes import (
    SECRET,
    CountingHasher,
    Postgres,
    TurnableClock,
    postgres_binaries,
)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    binaries = postgres_binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL binaries on the PATH or in /usr/lib/postgresql")
    folder = Path(tempfile.mkdtemp(prefix="plateblur-pg-"))
    cluster = Postgres(binaries, folder)
    store = Store(cluster.url(), secret=SECRET)
    store.migrate()
    store.close()
    try:
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def url(request: pytest.FixtureRequest, tmp_path: Path, empty_sqlite: Path) -> str:
    """An empty, migrated store's URL, once on each database."""
    if request.param == "sqlite":
        shutil.copy(empty_sqlite, tmp_path)
        return f"sqlite:///{tmp_path}/accounts.sqlite3"
    cluster: Postgres = request.getfixturevalue("postgres")
    store = Store(cluster.url(), secret=SECRET)
    with store.write() as connection:
        for table in reversed(Base.metadata.sorted_tables):
            connection.execute(delete(table))
    store.close()
    return cluster.url()


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    store = Store(url, secret=SECRET)
    yield store
    store.close()


@pytest.fixture
def clock() -> TurnableClock:
    return TurnableClock()


@pytest.fixture
def hasher() -> CountingHasher:
    return CountingHasher()


@pytest.fixture
def gate(store: Store, hasher: CountingHasher, clock: TurnableClock) -> StoreGate:
    return StoreGate(store, hasher=hasher, clock=clock)
