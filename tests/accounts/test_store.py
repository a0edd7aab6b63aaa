"""Opening, migrating and losing the database."""

from __future__ import annotations

import re
import sqlite3
import stat
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, select, text
from sqlalchemy.exc import StatementError

from plateblur.accounts.models import Account, Base
from plateblur.accounts.store import (
    Store,
    StoreUnavailableError,
    _prepare_sqlite,
    open_store,
)
from tests.accounts.fakes import SECRET, Postgres, make_account

ACCOUNTS = Path(__file__).parents[2] / "plateblur" / "accounts"


def empty_postgres(postgres: Postgres, name: str) -> str:
    store = Store(postgres.url(), secret=SECRET)
    with store.engine.connect() as connection:
        automatic = connection.execution_options(isolation_level="AUTOCOMMIT")
        automatic.execute(text(f"DROP DATABASE IF EXISTS {name}"))
        automatic.execute(text(f"CREATE DATABASE {name}"))
    store.close()
    return postgres.url(name)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/empty.sqlite3"
    return empty_postgres(request.getfixturevalue("postgres"), "empty")


def test_migrations_lead_from_nothing_to_the_models(empty_url: str) -> None:
    store = Store(empty_url, secret=SECRET)
    assert not store.is_ready()
    store.migrate()
    store.migrate()
    assert store.is_ready()
    with store.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
    store.close()


@pytest.mark.slow
def test_workers_that_start_at_once_migrate_once(empty_url: str) -> None:
    barrier = threading.Barrier(6)

    def start(_: int) -> bool:
        store = Store(empty_url, secret=SECRET)
        barrier.wait()
        store.migrate()
        try:
            return store.is_ready()
        finally:
            store.close()

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(start, range(6)))


class RefusingConnection(sqlite3.Connection):
    """Refuses the change to WAL, as SQLite does to one of two that make it at once."""

    refusals = 0

    def execute(self, sql: str, parameters: Sequence[str] = ()) -> sqlite3.Cursor:  # type: ignore[override]
        if "journal_mode" in sql and RefusingConnection.refusals > 0:
            RefusingConnection.refusals -= 1
            raise sqlite3.OperationalError("database is locked")
        return super().execute(sql, parameters)


def test_a_connection_that_may_not_turn_on_wal_yet_asks_again(tmp_path: Path) -> None:
    RefusingConnection.refusals = 2
    connection = sqlite3.connect(tmp_path / "new.sqlite3", factory=RefusingConnection)
    _prepare_sqlite(connection, None)
    assert RefusingConnection.refusals == 0
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


def test_a_step_that_fails_leaves_nothing(empty_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from alembic import op

    def broken(_statement: str) -> None:
        raise RuntimeError("disk full")

    store = Store(empty_url, secret=SECRET)
    with monkeypatch.context() as patch:
        patch.setattr(op, "execute", broken)
        with pytest.raises(RuntimeError):
            store.migrate()
    assert inspect(store.engine).get_table_names() == []
    store.migrate()
    assert store.is_ready()
    store.close()


def test_a_write_that_fails_leaves_nothing(store: Store) -> None:
    identity = make_account(store)
    with suppress(RuntimeError), store.write() as connection:
        connection.execute(text("DELETE FROM accounts"))
        raise RuntimeError("boom")
    with store.read() as connection:
        assert connection.execute(select(Account.id)).scalars().all() == [identity.account_id]


@pytest.mark.parametrize(("durable", "level"), [(True, 2), (False, 1)], ids=["yes", "no"])
def test_a_commit_waits_for_the_disk_where_it_must(store: Store, durable: bool, level: int) -> None:
    with store.write(durable=not durable):
        pass  # what another transaction of the same connection asked for does not stay
    with store.write(durable=durable) as connection:
        if store.is_sqlite:
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == level
        else:
            assert connection.exec_driver_sql("SHOW synchronous_commit").scalar_one() == "on"


def test_a_moment_without_a_zone_is_a_bug(store: Store) -> None:
    with pytest.raises(StatementError, match="aware"), store.read() as connection:
        connection.execute(select(Account.id).where(Account.created_at > datetime(2026, 1, 1)))


def test_a_database_that_is_not_there_is_told(tmp_path: Path) -> None:
    for url in (f"sqlite:///{tmp_path}/no/such.db", f"postgresql://x@/x?host={tmp_path}"):
        store = Store(url, secret=SECRET)
        assert not store.is_ready()
        with pytest.raises(StoreUnavailableError) as caught, store.read():
            pytest.fail("connected to nothing")
        assert str(tmp_path) not in str(caught.value)
        store.close()


@pytest.mark.slow
def test_a_server_that_closed_its_connections_is_connected_again(postgres: Postgres) -> None:
    store = Store(postgres.url(), secret=SECRET, pool_size=1)
    other = Store(postgres.url(), secret=SECRET)
    mine = text("SELECT pg_backend_pid()")
    with store.read() as connection:
        before = connection.execute(mine).scalar_one()
    with store.write() as connection:
        assert connection.execute(mine).scalar_one() == before
    with other.read() as connection:
        connection.execute(text("SELECT pg_terminate_backend(:pid, 60000)"), {"pid": before})
    with store.read() as connection:
        assert connection.execute(mine).scalar_one() != before
    store.close()
    other.close()


@pytest.mark.slow
def test_a_server_that_vanished_silently_is_connected_again(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(postgres.url(), secret=SECRET, pool_size=1)
    mine = text("SELECT pg_backend_pid()")
    with store.read() as connection:
        before = connection.execute(mine).scalar_one()

    def no_answer(_: object) -> bool:
        raise store.engine.dialect.loaded_dbapi.OperationalError("timed out")

    monkeypatch.setattr(store.engine.dialect, "do_ping", no_answer)
    with store.read() as connection:  # Used a moment ago, so it isn't asked.
        assert connection.execute(mine).scalar_one() == before
    monkeypatch.setattr("plateblur.accounts.store.PING_AFTER_S", -1)
    with store.read() as connection:
        assert connection.execute(mine).scalar_one() != before
    store.close()


def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    (tmp_path / "accounts.sqlite3").write_bytes(b"not a database" * 100)
    with pytest.raises(StoreUnavailableError):
        open_store(tmp_path)


def test_a_full_disk_is_told_and_leaves_the_store_usable(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    with store.engine.connect() as connection:  # SQLite's own stand-in for a full disk
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StoreUnavailableError), store.write() as connection:
        connection.execute(
            text("INSERT INTO invoice_series SELECT hex(randomblob(200)), 1 FROM "
                 "(WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 999) "
                 "SELECT i FROM n)")
        )  # fmt: skip
    with store.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 1000000")
    make_account(store)
    store.close()


def test_the_data_folder_is_its_owners_alone(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    store = open_store(folder)
    make_account(store)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert modes.keys() >= {"accounts.sqlite3", "secret.key"}
    assert set(modes.values()) == {0o600}
    again = open_store(folder)
    assert again.keyed_hash("a", "b") == store.keyed_hash("a", "b") != store.keyed_hash("a", "c")
    store.close()
    again.close()


@pytest.mark.parametrize(
    ("url", "secret"),
    [("mysql://x/y", SECRET), ("sqlite:///x", b"short"), ("accounts.db", SECRET)],
    ids=["mysql", "short", "no URL"],
)
def test_what_the_store_cannot_be_made_of_is_a_bug(url: str, secret: bytes) -> None:
    with pytest.raises(ValueError, match="must"):
        Store(url, secret=secret)


def test_no_statement_is_put_together_from_what_came_in() -> None:
    # Values reach the database as parameters alone; the f-strings left are of constants.
    for path in ACCOUNTS.rglob("*.py"):
        source = path.read_text()
        assert not re.search(r"\btext\(f|execute\(\s*f[\"']", source) or path.name == "store.py"
