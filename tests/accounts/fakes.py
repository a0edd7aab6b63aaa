"""What the account tests share: a clock to turn, cheap hashing, accounts, a private PostgreSQL."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

from plateblur.accounts import invoices, offers, signup
from plateblur.accounts.credentials import Hasher, Verdict
from plateblur.accounts.gate import StoreGate
from plateblur.accounts.store import Store
from plateblur.accounts.types import AccessError, Identity, PlanKind
from plateblur.accounts.work import WorkQueue

NOW = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
PASSWORD = "a long enough password"
EMAIL = "ana.pop@plates.io"
SECRET = b"tests only " * 4
SELLER = offers.Seller("Plate SRL", "Str. Lungă 1\nBrașov", "RO", "RO1234565", "IBAN RO00")


class TurnableClock:
    """A clock that stands until it is turned."""

    def __init__(self, now: datetime = NOW) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def turn(self, **by: float) -> None:
        self.now += timedelta(**by)


class CountingHasher(Hasher):
    """argon2 at its least cost; counts what it computes."""

    def __init__(self, queue: WorkQueue | None = None) -> None:
        self.verifications = self.hashes = 0
        super().__init__(
            time_cost=1,
            memory_kib=8,
            parallelism=1,
            queue=queue or WorkQueue(at_once=4, waiting=100),
        )
        self.hashes = 0  # that of the constructor is no request's

    def judge(self, password_hash: str | None, secret: str) -> Verdict:
        self.verifications += 1
        return super().judge(password_hash, secret)

    def hash(self, secret: str) -> str:
        self.hashes += 1
        return super().hash(secret)


class Postgres:
    """A private cluster on a Unix socket; stopped and started at will."""

    def __init__(self, binaries: Path, folder: Path) -> None:
        self._binaries = binaries
        self._folder = folder
        self._user = "postgres" if os.geteuid() == 0 else None
        folder.chmod(0o700)
        if self._user:
            shutil.chown(folder, self._user, self._user)
        self._run("initdb", "-D", str(folder / "data"), "-A", "trust", "-U", "postgres", "-N")
        self.start()

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres@/{database}?host={self._folder}"

    def start(self) -> None:
        options = f"-k {self._folder} -c listen_addresses= -c fsync=off -c max_connections=200"
        log = str(self._folder / "log")
        self._run("pg_ctl", "start", "-w", "-D", f"{self._folder}/data", "-l", log, "-o", options)

    def stop(self) -> None:
        self._run("pg_ctl", "stop", "-w", "-m", "immediate", "-D", f"{self._folder}/data")

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._binaries / program), *arguments]
        user = self._user
        subprocess.run(
            command,
            check=True,
            cwd=self._folder,
            stdout=subprocess.DEVNULL,
            user=user,
            group=user,
            extra_groups=[] if user else None,
        )


def postgres_binaries() -> Path | None:
    """Return the folder with initdb, from the PATH or where Debian keeps it."""
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return folders[-1] if folders else None


def make_account(
    store: Store,
    *,
    plan: PlanKind | None = None,
    email: str = EMAIL,
    username: str = "",
    now: datetime = NOW,
) -> Identity:
    account_id = signup.create_account(
        store, CountingHasher(), email=email, password=PASSWORD, username=username, now=now
    )
    if plan is PlanKind.TRIAL:
        signup.start_trial(store, account_id, now=now)
    elif plan is not None:
        invoices.grant_package(store, account_id, plan, now=now)
    return Identity(account_id, email)


def use(gate: StoreGate, identity: Identity, *, predictions: int = 0) -> None:
    """Make one request that succeeds."""
    with gate.admit(identity, gate.active_plan(identity)) as reservation:
        reservation.settle(predictions=predictions)


def storm(url: str, now: datetime, identity: Identity, clients: int, predictions: int) -> int:
    """Return how many of so many parallel requests succeeded; also run in other processes."""
    store = Store(url, secret=SECRET)
    gate = StoreGate(store, hasher=CountingHasher(), clock=lambda: now)
    plan = gate.active_plan(identity)

    def request(_: int) -> bool:
        try:
            with gate.admit(identity, plan) as reservation:
                reservation.settle(predictions=predictions)
        except AccessError as error:
            if error.cd not in {"1002", "1004"}:
                raise
            return False
        return True

    try:
        with ThreadPoolExecutor(clients) as pool:
            return sum(pool.map(request, range(clients)))
    finally:
        store.close()


def die_within_a_request(url: str, now: datetime, identity: Identity) -> None:
    """Be killed after the reservation, before the answer."""
    gate = StoreGate(Store(url, secret=SECRET), hasher=CountingHasher(), clock=lambda: now)
    with gate.admit(identity, gate.active_plan(identity)):
        os.kill(os.getpid(), signal.SIGKILL)
