"""The documented client against a live server over the real store, with faults let in.

Each code of the error table comes from what causes it in the store; then databases stop, disks
fill up and workers are killed with requests in flight.
"""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from sqlalchemy import func, select, text

from plateblur.accounts import profiles, quota
from plateblur.accounts.gate import StoreGate
from plateblur.accounts.models import RequestRow
from plateblur.accounts.quota import utc_now
from plateblur.accounts.store import Store, open_store
from plateblur.accounts.types import Identity, PlanKind
from plateblur.web import Settings, create_app
from plateblur.web.failures import SENTENCES
from tests.accounts.conftest import postgres, url
from tests.accounts.fakes import (
    EMAIL,
    PASSWORD,
    SECRET,
    CountingHasher,
    Postgres,
    make_account,
    use,
)
from tests.ports import free_port
from tests.web.fakes import FakeBlur, basic, documented_client, photo_bytes, running, text_of

pytestmark = pytest.mark.slow

__all__ = ["postgres", "url"]  # fixtures of the account tests

PATH = "/plateblurer.aspx"
BODY = json.dumps({"base64_Photo_String": text_of(photo_bytes())}).encode()
WAIT_S = 120  # far above what a loaded machine needs


@dataclass
class Live:
    """A server on loopback, the blur in it, and the store behind it."""

    url: str
    store: Store
    blur: FakeBlur

    def post(self, *, body: bytes = BODY, authorization: str | None = None) -> tuple[str, object]:
        """Return what the documented client makes of the answer."""
        known = basic(EMAIL, PASSWORD) if authorization is None else authorization
        headers = {"Authorization": known} if known else {}
        return documented_client(
            httpx.post(self.url + PATH, content=body, headers=headers, timeout=WAIT_S)
        )

    def account(self, plan: PlanKind | None, *, days_ago: float = 0) -> Identity:
        return make_account(self.store, plan=plan, now=utc_now() - timedelta(days=days_ago))


@pytest.fixture
def live(url: str) -> Iterator[Live]:
    store, blur = Store(url, secret=SECRET), FakeBlur()
    gate = StoreGate(store, hasher=CountingHasher())
    with running(create_app(blur, gate, Settings())) as address:
        yield Live(address, store, blur)
    store.close()


on_sqlite = pytest.mark.parametrize("url", ["sqlite"], indirect=True)
on_postgres = pytest.mark.parametrize("url", ["postgresql"], indirect=True)


# --- Every code ------------------------------------------------------------------------------


def use_up(live: Live, plan: PlanKind) -> None:
    identity = live.account(plan)
    # Ahead, so that on a slow machine the minute is not over before the server is asked.
    gate = StoreGate(
        live.store, hasher=CountingHasher(), clock=lambda: utc_now() + timedelta(minutes=10)
    )
    for _ in range(50):
        use(gate, identity)


def damaged(live: Live, plan: PlanKind, statement: str) -> None:
    live.account(plan)
    with live.store.write() as connection:
        connection.execute(text(statement))


def locked(live: Live) -> None:
    profiles.lock_account(live.store, live.account(PlanKind.TRIAL).account_id)


Cause = Callable[[Live], object]
TRIAL, MONTHLY = PlanKind.TRIAL, PlanKind.MONTHLY
BY_THE_STORE: dict[str, Cause] = {
    "1002": lambda live: use_up(live, TRIAL),
    "1003": lambda live: live.account(TRIAL, days_ago=7.01),
    "1004": lambda live: use_up(live, MONTHLY),
    "1005": lambda live: live.account(MONTHLY, days_ago=40),
    "1006": lambda live: live.account(None),
    "1007": lambda live: damaged(live, TRIAL, "DELETE FROM trials"),
    "1008": lambda live: damaged(live, TRIAL, "UPDATE trials SET ends_at = starts_at"),
    "1009": lambda live: damaged(live, TRIAL, "ALTER TABLE trials RENAME TO gone"),
    "1010": lambda live: damaged(live, MONTHLY, "DELETE FROM invoices"),
    "1011": lambda live: damaged(live, MONTHLY, "UPDATE invoices SET kind = 'weekly'"),
    "1012": lambda live: damaged(live, MONTHLY, "ALTER TABLE invoices RENAME TO gone"),
    "1015": lambda live: None,
    "1016": locked,
}
BY_THE_REQUEST: dict[str, dict[str, object]] = {
    "answer": {},
    "1001": {"authorization": ""},
    "1013": {"body": b"{" + b" " * 5 * 1024 * 1024 + b"}"},
    "1014": {"body": b"not JSON"},
    "2001": {"body": json.dumps({"base64_Photo_String": text_of(photo_bytes()[:40])}).encode()},
}


@on_sqlite
@pytest.mark.parametrize("cd", sorted({**BY_THE_STORE, **BY_THE_REQUEST}))
def test_the_documented_client_understands_every_code(live: Live, cd: str) -> None:
    if cd in BY_THE_STORE:
        BY_THE_STORE[cd](live)
    else:
        live.account(TRIAL)
    told, answer = live.post(**BY_THE_REQUEST.get(cd, {}))  # type: ignore[arg-type]
    assert told == cd
    if cd == "answer":
        assert isinstance(answer, dict)
        assert answer["predictions"]
        return
    assert str(answer).startswith(SENTENCES[cd])
    with live.store.read() as connection:
        kept = connection.execute(select(func.count()).select_from(RequestRow)).scalar_one()
    assert kept == (50 if cd in {"1002", "1004"} else 0)


def test_every_code_of_the_table_is_there() -> None:
    assert {*BY_THE_STORE, *BY_THE_REQUEST} == {"answer", *SENTENCES}


# --- Counting --------------------------------------------------------------------------------


@pytest.mark.slow
def test_sixty_four_clients_over_the_wire_get_exactly_fifty(live: Live) -> None:
    live.account(TRIAL)
    with ThreadPoolExecutor(64) as clients:
        codes = [told for told, _ in clients.map(lambda _: live.post(), range(64))]
    assert (codes.count("answer"), codes.count("1002")) == (50, 14)


# --- Faults ----------------------------------------------------------------------------------


@on_postgres
@pytest.mark.parametrize(("plan", "cd"), [(TRIAL, "1009"), (MONTHLY, "1012")])
def test_a_database_that_stops_within_a_request_is_told_and_comes_back(
    live: Live, postgres: Postgres, plan: PlanKind, cd: str
) -> None:
    identity = live.account(plan)
    assert live.post()[0] == "answer"
    while live.blur.entered.acquire(blocking=False):
        pass
    live.blur.wait_for = threading.Event()
    with ThreadPoolExecutor(1) as clients:
        waiting = clients.submit(live.post)
        assert live.blur.entered.acquire(timeout=WAIT_S)
        postgres.stop()
        try:
            live.blur.wait_for.set()
            assert waiting.result()[0] == cd
            assert live.post()[0] == "1009"  # the first look-up of all
            assert httpx.get(live.url + "/readyz", timeout=WAIT_S).status_code == 503
            assert httpx.get(live.url + "/healthz", timeout=WAIT_S).is_success
        finally:
            postgres.start()
    assert live.post()[0] == "answer"
    assert httpx.get(live.url + "/readyz", timeout=WAIT_S).is_success
    assert settled(live.store, identity) == 2


@contextmanager
def full_disk() -> Iterator[None]:
    """Let no file of this process grow or change for the block: each write fails in the kernel."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@on_sqlite
@pytest.mark.parametrize(("plan", "cd"), [(TRIAL, "1009"), (MONTHLY, "1012")])
def test_a_full_disk_is_told_and_counts_nothing(live: Live, plan: PlanKind, cd: str) -> None:
    identity = live.account(plan)
    assert live.post()[0] == "answer"
    with full_disk():
        told = live.post()[0]
    assert told == cd
    assert live.post()[0] == "answer"
    assert settled(live.store, identity) == 2


def settled(store: Store, identity: Identity) -> int:
    with store.read() as connection:
        return connection.execute(
            select(func.count())
            .select_from(RequestRow)
            .where(RequestRow.account_id == identity.account_id, RequestRow.settled_at.is_not(None))
        ).scalar_one()


WORKER = """
import sys, uvicorn
from pathlib import Path
from threading import Event
from plateblur.accounts.gate import StoreGate
from plateblur.accounts.store import open_store
from plateblur.web import Settings, create_app
from tests.accounts.fakes import CountingHasher
from tests.web.fakes import FakeBlur

folder, port, sleeps = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "sleeps"
blur = FakeBlur()
if sleeps:
    def blur(data, options, ended, *, max_pixels):
        Event().wait()
gate = StoreGate(open_store(folder), hasher=CountingHasher())
app = create_app(blur, gate, Settings(blur_threads=2))
uvicorn.run(app, host="127.0.0.1", port=port, log_config=None)
"""


@contextmanager
def worker(folder: Path, *, sleeps: bool) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Run a process that serves the store in `folder`, and never ends a photo if it sleeps."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(folder), str(port), "sleeps" if sleeps else "works"],
        cwd=Path(__file__).parents[2],
    )
    try:
        until(lambda: answers(port))
        yield f"http://127.0.0.1:{port}", process
    finally:
        process.kill()
        process.wait(WAIT_S)


def answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=WAIT_S).is_success
    except httpx.HTTPError:
        return False


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.05)


@pytest.mark.slow
def test_of_a_killed_workers_requests_none_is_answered_and_none_stays_counted(
    tmp_path: Path,
) -> None:
    store = open_store(tmp_path)
    identity = make_account(store, plan=TRIAL, now=utc_now())
    headers = {"Authorization": basic(EMAIL, PASSWORD)}

    def post(address: str) -> str:
        try:
            answer = httpx.post(address + PATH, content=BODY, headers=headers, timeout=WAIT_S)
        except httpx.HTTPError:
            return "nothing"
        return documented_client(answer)[0]

    def in_flight() -> int:
        with store.read() as connection:
            return connection.execute(
                select(func.count()).select_from(RequestRow).where(RequestRow.settled_at.is_(None))
            ).scalar_one()

    with (
        worker(tmp_path, sleeps=True) as (doomed, process),
        worker(tmp_path, sleeps=False) as (other, _),
        ThreadPoolExecutor(3) as clients,
    ):
        lost = [clients.submit(post, doomed) for _ in range(3)]  # two in work, one in the queue
        until(lambda: in_flight() == 2)
        process.send_signal(signal.SIGKILL)
        assert [one.result() for one in lost] == ["nothing"] * 3
        assert [post(other) for _ in range(3)] == ["answer"] * 3
    assert settled(store, identity) == 3
    gate = StoreGate(store, hasher=CountingHasher())
    plan = gate.active_plan(identity)
    assert gate.usage(identity, plan).window_requests in {5, 3}  # three, once their leases end
    days = quota.days_of_use(store, identity.account_id, since=plan.starts_at.date())
    assert sum(day.requests for day in days) == 3
    store.close()


# --- Injection -------------------------------------------------------------------------------

EVIL = [
    "' OR '1'='1",
    "ana.pop@plates.io' --",
    "x'; DROP TABLE accounts; --",
    "a\r\nX-Evil: 1",
    "{{7*7}}",
    "=cmd|' /C calc'!A0",
    "%s%s%n",
]


@on_sqlite
def test_what_is_typed_as_a_name_stays_a_name(live: Live) -> None:
    live.account(TRIAL)
    for evil in EVIL:
        for user, secret in ((evil, PASSWORD), (EMAIL, evil)):
            answer = httpx.post(
                live.url + PATH,
                content=BODY,
                headers={"Authorization": basic(user, secret)},
                timeout=WAIT_S,
            )
            assert documented_client(answer)[0] == "1015"
            assert "x-evil" not in answer.headers
            assert evil not in answer.text


@on_sqlite
@pytest.mark.parametrize(
    "target", ["/%0d%0aX-Evil:%201", "/v1/usage?x=%0d%0aX-Evil:%201", "//evil.example/%2e%2e"]
)
def test_no_header_of_an_answer_is_made_of_what_was_asked(live: Live, target: str) -> None:
    answer = httpx.get(live.url + target, headers={"Origin": "https://evil.example"}, timeout=60)
    assert "x-evil" not in answer.headers
    assert "evil" not in str(answer.headers).lower()
