"""The accounts' database: opening, migrating, and surviving faults. The only engine.

SQLite (one host) or PostgreSQL (several). On both, a write is one transaction that commits
completely or not at all. Rules that count lock the account's row first, so that one write on an
account waits for the other and reads its result:

- SQLite: `BEGIN IMMEDIATE` takes the one write lock before anything is read; a second writer
  waits inside SQLite for up to `BUSY_TIMEOUT_S`.
- PostgreSQL: `SELECT ... FOR NO KEY UPDATE` (or an advisory lock) under READ COMMITTED, whose next
  statement sees what the other committed.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
import select
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from sqlite3 import Connection as SqliteConnection
from sqlite3 import OperationalError
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, ExecutionContext, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, DisconnectionError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import ConnectionPoolEntry

from plateblur.errors import PlateblurError

# Source: ours; far above 64 queued writers at a few ms each, also on a busy machine.
BUSY_TIMEOUT_S = 30
SILENT_TIMEOUT_S = 10  # Source: ours; for a server that stops answering.
CONNECT_TIMEOUT_S = 5  # Source: ours; shorter than a health probe's timeout.
WITH_PHOTO = {"plateblur_photo": True}  # execution options of a statement that returns one
PING_AFTER_S = 5  # Source: ours; a connection that was used since is only looked at.
MIGRATIONS = Path(__file__).parent / "migrations"


class StoreUnavailableError(PlateblurError):
    """The database is unreachable, full, damaged, or busy for too long."""


class Store:
    """The engine and the key of the keyed hashes; thread-safe, one per process.

    Attributes:
        engine: SQLAlchemy's.
    """

    def __init__(self, url: str | URL, *, secret: bytes, pool_size: int = 20) -> None:
        """Make the engine; nothing is connected yet.

        Args:
            url: `sqlite:///...` or `postgresql://...`.
            secret: key of the keyed hashes; must be the same in every process and never change.
            pool_size: connections at most, which are kept open, because each new one is a process
                of PostgreSQL

        Raises:
            ValueError: no URL, another database, or a secret under 32 bytes.
        """
        if len(secret) < 32:
            raise ValueError(f"secret must have at least 32 bytes, got {len(secret)}")
        self._secret = secret
        try:
            url = make_url(url)
        except ArgumentError as error:
            raise ValueError("url must be of SQLite or PostgreSQL, got no URL") from error
        if url.drivername in {"postgres", "postgresql"}:
            url = url.set(drivername="postgresql+psycopg")
        if url.drivername == "sqlite":
            self.engine = create_engine(url, pool_size=pool_size, max_overflow=0)
            event.listen(self.engine, "connect", _prepare_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)
        elif url.drivername == "postgresql+psycopg":
            self.engine = create_engine(
                url,
                pool_size=pool_size,
                max_overflow=0,
                connect_args={
                    "connect_timeout": CONNECT_TIMEOUT_S,
                    "tcp_user_timeout": SILENT_TIMEOUT_S * 1000,
                    "options": f"-c lock_timeout={BUSY_TIMEOUT_S}s -c timezone=UTC",
                },
            )
            event.listen(self.engine, "before_cursor_execute", _ask_in_binary)
            event.listen(self.engine, "checkin", _note_use)
            event.listen(self.engine, "checkout", self._refuse_dead)
        else:
            raise ValueError(f"url must be of SQLite or PostgreSQL, got {url.drivername}")

    @property
    def is_sqlite(self) -> bool:
        """Return whether the database is SQLite."""
        return self.engine.dialect.name == "sqlite"

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """Yield a connection that only reads; on PostgreSQL, each statement sees what is committed.

        Raises:
            StoreUnavailableError: on entering, within, or on leaving.
        """
        with _store_faults(), self.engine.connect() as connection:
            if not self.is_sqlite:  # Under READ COMMITTED, BEGIN and COMMIT would change nothing.
                connection.execution_options(isolation_level="AUTOCOMMIT")
            with connection.begin():
                yield connection

    @contextlib.contextmanager
    def write(self, *, durable: bool = True) -> Iterator[Connection]:
        """Yield a connection in one transaction; committed on leaving, undone by any error.

        Args:
            durable: wait until the commit would outlive a power cut. Without it SQLite may lose in
                one what no later durable commit followed; a killed process loses nothing.
                PostgreSQL always waits: it may go down alone, and who reserved would live on.

        Raises:
            StoreUnavailableError: on entering, within, or on leaving; after a lost commit it is
                not known whether the writes are there.
        """
        with _store_faults(), self.engine.connect() as connection:
            connection.execution_options(plateblur_writes="FULL" if durable else "NORMAL")
            with connection.begin():
                yield connection

    def lock(self, connection: Connection, name: str) -> None:
        """Hold every other transaction that locks `name` until this one ends."""
        if not self.is_sqlite:  # BEGIN IMMEDIATE holds them already
            number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], signed=True)
            connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": number})

    def _refuse_dead(
        self, connection: Any, entry: ConnectionPoolEntry, _checked_out: object
    ) -> None:
        """Have the pool replace a connection that the server closed.

        So a server that came back needs no restart of ours. Something to read means that it closed
        the connection. Only asking tells that it vanished silently, which is a round trip.

        Raises:
            DisconnectionError: it did.
        """
        used_s = entry.info.get("used_s")
        if used_s is None:
            return  # a new one
        looking = select.poll()
        looking.register(connection.fileno(), select.POLLIN)
        if looking.poll(0):
            raise DisconnectionError("the server closed the connection")
        if time.monotonic() - used_s > PING_AFTER_S:
            try:
                self.engine.dialect.do_ping(connection)
            except self.engine.dialect.loaded_dbapi.Error as error:
                raise DisconnectionError("the server doesn't answer") from error

    def keyed_hash(self, purpose: str, subject: str) -> str:
        """Return 64 hex digits that can't be linked to `subject` without the secret."""
        message = f"{purpose}\0{subject}".encode("utf-8", "surrogatepass")
        return hmac.new(self._secret, message, hashlib.sha256).hexdigest()

    def migrate(self) -> None:
        """Upgrade the tables to this version; one of several workers does it, the others wait.

        Raises:
            StoreUnavailableError: the database can't be reached.
        """
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        with self.read() as connection:
            heads = MigrationContext.configure(connection).get_current_heads()
        if set(heads) == set(ScriptDirectory.from_config(config).get_heads()):
            return
        with self.write() as connection:
            self.lock(connection, "migrate")
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    def forget_deleted_rows(self) -> None:
        """Move SQLite's journal into the file, because old pages in it still contain deleted rows.

        An active reader keeps its pages until the next call or SQLite's own checkpoint.
        """
        if self.is_sqlite:
            with _store_faults(), self.engine.connect() as connection:
                raw = connection.connection.driver_connection
                if not isinstance(raw, SqliteConnection):
                    raise TypeError(f"expected sqlite3's connection, got {type(raw)}")
                raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def is_ready(self) -> bool:
        """Return whether the database answers and has its tables."""
        try:
            with self.read() as connection:
                connection.execute(text("SELECT 1 FROM accounts LIMIT 1")).first()
        except StoreUnavailableError:
            return False
        return True

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()


def open_store(
    data_dir: Path, *, database_url: str | None = None, secret: bytes | None = None
) -> Store:
    """Return the migrated store of a data folder; missing files and folders are created.

    Args:
        data_dir: holds `accounts.sqlite3` and `secret.key`, readable only by the owner.
        database_url: another database, e.g. `postgresql://...`; None or "" for SQLite.
        secret: instead of `secret.key`; hosts that share a database must share it.

    Raises:
        StoreUnavailableError: the database can't be reached.
        ValueError: another kind of database, or too short a secret.
    """
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    if secret is None:
        secret = _kept_secret(data_dir / "secret.key")
    if not database_url:
        path = (data_dir / "accounts.sqlite3").absolute()
        path.touch(mode=0o600)  # SQLite gives its journal the same mode
        database_url = URL.create("sqlite", database=str(path)).render_as_string()
    store = Store(database_url, secret=secret)
    try:
        store.migrate()
    except StoreUnavailableError:
        store.close()
        raise
    return store


def _kept_secret(path: Path) -> bytes:
    """Return the secret in `path`, created by the first process that links its file there."""
    if not path.exists():
        descriptor, name = tempfile.mkstemp(dir=path.parent)  # mode 600
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32))
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(name)
        Path(name).unlink()
    return bytes.fromhex(path.read_text())


@contextlib.contextmanager
def _store_faults() -> Iterator[None]:
    """Turn the driver's errors into ours, except violated constraints."""
    try:
        yield
    except IntegrityError:
        raise
    except (DBAPIError, PoolTimeoutError) as error:
        raise StoreUnavailableError(
            f"expected the accounts' database to answer, got {type(error).__name__}"
        ) from error


def _note_use(_connection: object, entry: ConnectionPoolEntry) -> None:
    entry.info["used_s"] = time.monotonic()


def _ask_in_binary(
    _connection: Connection,
    cursor: Any,
    _statement: str,
    _parameters: object,
    context: ExecutionContext,
    _many: bool,
) -> None:
    """Have psycopg get a photo as it is; the text that it gets otherwise is twice as long."""
    if context.execution_options.get("plateblur_photo"):
        cursor.format = 1  # Source: psycopg.pq.Format.BINARY; SQLite needs no psycopg


def _prepare_sqlite(connection: SqliteConnection, _record: object) -> None:
    connection.isolation_level = None  # the driver starts no transactions: _begin_sqlite does
    for pragma in (
        f"busy_timeout = {BUSY_TIMEOUT_S * 1000}",  # first: the next one may have to wait
        "foreign_keys = ON",
        "secure_delete = ON",  # deleted personal data is overwritten
    ):
        connection.execute(f"PRAGMA {pragma}").fetchall()
    _turn_on_wal(connection)


def _turn_on_wal(connection: SqliteConnection) -> None:
    """Enable write-ahead logging; if two connections do so together, SQLite refuses one of them.

    Raises:
        OperationalError: refused for longer than a writer waits.
    """
    until = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL").fetchall()
            return
        except OperationalError:
            if time.monotonic() > until:
                raise
            time.sleep(0.02)


def _begin_sqlite(connection: Connection) -> None:
    synchronous = connection.get_execution_options().get("plateblur_writes")
    if synchronous is None:
        connection.exec_driver_sql("BEGIN")
        return
    # FULL: an invoice number that was shown must outlive a power cut.
    connection.exec_driver_sql(f"PRAGMA synchronous = {synchronous}")
    connection.exec_driver_sql("BEGIN IMMEDIATE")
