"""A package's minute in a real Redis beside the store: what it turns away, and what not."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from plateblur.accounts import quota
from plateblur.accounts.gate import StoreGate
from plateblur.accounts.minute import MinuteWindow
from plateblur.accounts.quota import utc_now
from plateblur.accounts.store import Store
from plateblur.accounts.types import Identity, PaidQuotaError, PlanKind
from tests.accounts.fakes import CountingHasher, make_account, use
from tests.ports import free_port

PAID = 50  # requests in 60 s


class Redis:
    """A private server on a port of loopback; stopped and started at will."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.port = free_port()
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        self._process = subprocess.Popen(
            ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""],
            cwd=self._folder,
            stdout=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=5).close()
                return
            except OSError:
                assert time.monotonic() < deadline, "redis-server did not start"
                time.sleep(0.05)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(60)


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")
    server = Redis(tmp_path)
    yield server
    server.stop()


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> datetime:
    """A moment at which `limits` stands still, so that a slow machine's minute does not pass."""
    moment = utc_now()
    still = SimpleNamespace(time=moment.timestamp)
    monkeypatch.setattr("limits.storage.redis.time", still)
    return moment


@pytest.fixture
def hosts(store: Store, redis: Redis, now: datetime) -> Iterator[list[StoreGate]]:
    """Two gates that are patient with Redis, and ask one that failed again at once."""
    minutes = [MinuteWindow(redis.url, answer_s=60, left_alone_s=0) for _ in range(2)]
    yield [
        StoreGate(store, hasher=CountingHasher(), minute=minute, clock=lambda: now)
        for minute in minutes
    ]
    for minute in minutes:
        minute.close()


@pytest.fixture
def paid(store: Store, now: datetime) -> Identity:
    return make_account(store, plan=PlanKind.MONTHLY, now=now)


def test_who_is_over_the_minute_is_turned_away_before_the_database(
    hosts: list[StoreGate], paid: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = hosts[0].active_plan(paid)
    for number in range(PAID):
        use(hosts[number % 2], paid)

    def untouched(*_: object, **__: object) -> None:
        pytest.fail("the database was asked")

    monkeypatch.setattr(quota, "reserve", untouched)
    for host in hosts:
        with pytest.raises(PaidQuotaError) as caught, host.admit(paid, plan):
            pytest.fail("admitted")
        assert caught.value.retry_after_s is not None
        assert 1 <= caught.value.retry_after_s <= 61


def test_parallel_clients_of_two_hosts_get_exactly_50(
    hosts: list[StoreGate], paid: Identity
) -> None:
    def request(number: int) -> bool:
        try:
            use(hosts[number % 2], paid)
        except PaidQuotaError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(request, range(64))) == PAID


def test_a_request_that_fails_is_given_back_there_too(
    hosts: list[StoreGate], paid: Identity
) -> None:
    gate = hosts[0]
    plan = gate.active_plan(paid)
    for _ in range(PAID + 5):
        with pytest.raises(RuntimeError), gate.admit(paid, plan):
            raise RuntimeError
    for _ in range(PAID):
        use(gate, paid)
    with pytest.raises(PaidQuotaError):
        use(gate, paid)


def test_the_trial_is_counted_by_the_store_alone(
    store: Store, redis: Redis, hosts: list[StoreGate], now: datetime
) -> None:
    identity = make_account(store, plan=PlanKind.TRIAL, now=now)
    use(hosts[0], identity)
    minute = MinuteWindow(redis.url, answer_s=60)
    assert [minute.enter(identity.account_id) for _ in range(PAID)] == [True] * PAID
    minute.close()


@pytest.mark.slow
def test_without_redis_the_store_decides_and_with_it_again_no_restart_is_needed(
    redis: Redis, hosts: list[StoreGate], paid: Identity
) -> None:
    gate = hosts[0]
    plan = gate.active_plan(paid)
    for _ in range(PAID - 1):
        use(gate, paid)
    # Redis stops within a request that fails.
    with pytest.raises(RuntimeError), gate.admit(paid, plan):  # noqa: PT012
        redis.stop()
        raise RuntimeError
    use(gate, paid)
    with pytest.raises(PaidQuotaError):
        use(gate, paid)
    redis.start()  # it has forgotten everything; the store has not
    with pytest.raises(PaidQuotaError):
        use(gate, paid)


def test_a_redis_that_is_gone_is_left_alone_for_a_while() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound and not listening: refused
        minute = MinuteWindow(f"redis://127.0.0.1:{nobody.getsockname()[1]}", left_alone_s=1000)
        assert minute.enter(1) is False
        nobody.listen()
        nobody.settimeout(0)
        assert minute.enter(1) is False
        with pytest.raises(BlockingIOError):
            nobody.accept()


@pytest.mark.parametrize("url", ["memory://", "http://x", "redis://h:port"])
def test_another_url_is_a_bug(url: str) -> None:
    with pytest.raises(ValueError, match="url"):
        MinuteWindow(url)
