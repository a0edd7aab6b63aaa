"""The commands of docs/howto/backup.md: what a backup holds, and what works after a restore."""

from __future__ import annotations

import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from plateblur.accounts import api_keys, quota
from plateblur.accounts.gate import StoreGate
from plateblur.accounts.job_types import JobLimits, NewItem
from plateblur.accounts.jobs import StoreJobs
from plateblur.accounts.store import Store, open_store
from plateblur.accounts.types import Identity, PlanKind
from tests.accounts.fakes import (
    EMAIL,
    PASSWORD,
    SECRET,
    CountingHasher,
    Postgres,
    make_account,
    postgres_binaries,
    use,
)

PAGE = (Path(__file__).parents[2] / "docs" / "howto" / "backup.md").read_text()
LIMITS = JobLimits(jobs=9, photos=9, account_bytes=10**6, all_bytes=10**6, keep=timedelta(days=1))


def fill(store: Store) -> tuple[Identity, str]:
    """Use a store as its people do, and return an account with its API key."""
    now = datetime.now(UTC)
    ana = make_account(store, plan=PlanKind.MONTHLY, now=now)
    key = api_keys.add_key(store, ana.account_id, label="camera", now=now).key
    use(StoreGate(store, hasher=CountingHasher()), ana, predictions=7)
    jobs = StoreJobs(store, LIMITS)
    job_id = jobs.begin(ana.account_id, room_bytes=1000)
    jobs.add(job_id, [NewItem("street.jpg", photo=b"a photo")])
    jobs.open(job_id, options=b"{}", webhook=None, once=None)
    return ana, key


def assert_restored(store: Store, ana: Identity, key: str) -> None:
    gate = StoreGate(store, hasher=CountingHasher())
    assert gate.authenticate(EMAIL, PASSWORD, address="") == ana
    assert gate.authenticate_key(key, address="").account_id == ana.account_id
    plan = gate.active_plan(ana)
    assert (plan.kind, gate.usage(ana, plan).predictions) == (PlanKind.MONTHLY, 7)
    days = quota.days_of_use(store, ana.account_id, since=plan.starts_at.date())
    assert sum(day.requests for day in days) == 1
    use(gate, ana, predictions=1)
    assert StoreJobs(store, LIMITS).jobs_of(ana.account_id) == []
    with store.read() as connection:
        for table in ("jobs", "job_items"):
            assert connection.exec_driver_sql(f"SELECT COUNT(*) FROM {table}").scalar() == 0  # noqa: S608


def commands(heading: str) -> list[str]:
    """Return the shell commands under a heading of the page."""
    section = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


@pytest.mark.slow
def test_a_copy_of_sqlite_brings_everything_back_but_jobs(tmp_path: Path) -> None:
    store = open_store(tmp_path / "data")
    ana, key = fill(store)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    for name in ("python", "plateblur"):
        link = tmp_path / ".venv" / "bin" / name
        link.symlink_to(sys.executable if name == "python" else "/bin/true")
    backup: list[str] = []
    restore: list[str] = []
    for line in commands("SQLite"):
        (restore if restore or line.startswith("cp backup") else backup).append(line)
    run = {"shell": True, "check": True, "cwd": tmp_path}
    subprocess.run("\n".join(["set -e", *backup]), **run)  # type: ignore[call-overload]
    copy = (tmp_path / "backup" / "accounts.sqlite3").read_bytes()
    assert EMAIL.encode() in copy
    assert (tmp_path / "backup" / "accounts.sqlite3").stat().st_mode & 0o077 == 0
    use(StoreGate(store, hasher=CountingHasher()), ana, predictions=100)  # is lost
    store.close()
    subprocess.run("\n".join(["set -e", *restore]), **run)  # type: ignore[call-overload]
    restored = open_store(tmp_path / "data")
    assert_restored(restored, ana, key)
    restored.close()


@pytest.mark.slow
@pytest.mark.skipif(postgres_binaries() is None, reason="no PostgreSQL binaries")
def test_a_dump_of_postgresql_brings_everything_back_but_jobs(
    postgres: Postgres, tmp_path: Path
) -> None:
    binaries = postgres_binaries()
    assert binaries is not None
    admin = Store(postgres.url(), secret=SECRET)
    with admin.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for name in ("before", "after"):
            connection.exec_driver_sql(f"DROP DATABASE IF EXISTS {name}")
            connection.exec_driver_sql(f"CREATE DATABASE {name}")
    admin.close()
    store = Store(postgres.url("before"), secret=SECRET)
    store.migrate()
    ana, key = fill(store)
    store.close()
    dump, restore = (line.split() for line in commands("PostgreSQL")[:2])
    dump = dump[: dump.index(">")]
    file = tmp_path / "plateblur.dump"
    options = [one for one in dump[1:] if one.startswith("--")]
    program = str(binaries / "pg_dump")
    subprocess.run([program, *options, "-f", str(file), "-d", postgres.url("before")], check=True)
    options = [one for one in restore[1:] if one in ("--clean", "--if-exists")]
    program = str(binaries / "pg_restore")
    subprocess.run([program, *options, "-d", postgres.url("after"), str(file)], check=True)
    restored = Store(postgres.url("after"), secret=SECRET)
    restored.migrate()
    assert_restored(restored, ana, key)
    restored.close()
