"""What argon2 may cost, however many ask at once; and how a password is spelled."""

from __future__ import annotations

import threading
import time
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import select, update

from plateblur.accounts import credentials, fields, mail, periods, signup
from plateblur.accounts.credentials import Hasher, Verdict
from plateblur.accounts.gate import StoreGate
from plateblur.accounts.models import Account, FailedLogin
from plateblur.accounts.store import Store
from plateblur.accounts.types import BusyError, FieldError, UnknownCredentialsError
from plateblur.accounts.work import WorkQueue
from tests.accounts.fakes import EMAIL, NOW, PASSWORD, CountingHasher, TurnableClock, make_account

HERE = "203.0.113.7"
COMPOSED = "pârolă foarte lungă"
DECOMPOSED = unicodedata.normalize("NFD", COMPOSED)


def test_every_hasher_of_a_process_waits_in_one_queue() -> None:
    assert Hasher()._queue is Hasher()._queue is credentials.QUEUE


def test_few_hash_at_once_some_wait_and_the_rest_is_told_so() -> None:
    queue = WorkQueue(at_once=2, waiting=3)
    go, inside = threading.Event(), []

    def work() -> str:
        inside.append(threading.current_thread().name)
        go.wait(600)  # a test that fails ends; one on a busy machine isn't hurried
        return "hashed"

    def ask(_: int) -> str:
        try:
            return queue.run(work)
        except BusyError as error:
            return f"busy, {error.retry_after_s} s"

    with ThreadPoolExecutor(40) as pool:
        asked = [pool.submit(ask, number) for number in range(40)]
        end_s = time.monotonic() + 300
        while sum(one.done() for one in asked) < 35 or len(inside) < 2:
            assert time.monotonic() < end_s
            time.sleep(0.001)
        assert len(inside) == 2
        go.set()
        told = sorted(one.result() for one in asked)
    assert told == ["busy, 2 s"] * 35 + ["hashed"] * 5
    # Each thread that ever hashed keeps the memory of a hash: there are no more than two.
    assert len(set(inside)) == 2


def test_nobody_waits_for_ever() -> None:
    queue = WorkQueue(at_once=1, waiting=5, wait_s=0.01)
    with ThreadPoolExecutor(1) as pool, queue.turn(), pytest.raises(BusyError):
        pool.submit(queue.run, lambda: None).result()
    assert queue.run(lambda: "free again") == "free again"


def test_a_busy_moment_counts_nothing_against_anybody(store: Store, clock: TurnableClock) -> None:
    queue = WorkQueue(at_once=1, waiting=0)
    hasher = CountingHasher(queue)
    make_account(store)
    gate = StoreGate(store, hasher=hasher, clock=clock)
    with ThreadPoolExecutor(1) as pool, queue.turn():
        for _ in range(signup.SIGN_UPS_PER_BLOCK + 1):
            with pytest.raises(BusyError):
                pool.submit(gate.authenticate, EMAIL, "wrong", address=HERE).result()
            with pytest.raises(BusyError):
                pool.submit(
                    signup.sign_up, store, hasher, email="ion@plates.io", password=PASSWORD,
                    consents=[], address=HERE, activation_url="", now=NOW,
                ).result()  # fmt: skip
    with store.read() as connection:
        assert connection.execute(select(FailedLogin.failures)).all() == []
    gate.authenticate(EMAIL, PASSWORD, address=HERE)


def test_guesses_of_one_address_that_come_at_once_are_slowed_as_those_in_a_row(
    store: Store, clock: TurnableClock
) -> None:
    make_account(store)
    hasher = CountingHasher(WorkQueue(at_once=4, waiting=60))
    gate = StoreGate(store, hasher=hasher, clock=clock)

    def guess(number: int) -> None:
        with pytest.raises(UnknownCredentialsError):
            gate.authenticate(EMAIL, f"wrong {number}", address=HERE)

    with ThreadPoolExecutor(40) as pool:
        list(pool.map(guess, range(40)))
    assert hasher.verifications < 5 + 4  # the free ones, and those that were in their turn


@pytest.mark.parametrize(
    ("chosen", "typed"),
    [(COMPOSED, DECOMPOSED), (DECOMPOSED, COMPOSED), (DECOMPOSED, DECOMPOSED)],
    ids=["NFC then NFD", "NFD then NFC", "NFD"],
)
def test_a_password_is_the_same_however_its_letters_are_spelled(
    store: Store, gate: StoreGate, hasher: CountingHasher, chosen: str, typed: str
) -> None:
    account_id = signup.create_account(store, hasher, email=EMAIL, password=chosen, now=NOW)
    assert gate.authenticate(EMAIL, typed, address=HERE).account_id == account_id
    assert hasher.hashes == 1


def test_a_password_hashed_as_it_was_typed_still_works_and_is_hashed_anew(
    store: Store, clock: TurnableClock
) -> None:
    make_account(store)
    hasher = CountingHasher()
    as_before = hasher._argon2.hash(DECOMPOSED.encode())
    assert hasher.judge(as_before, DECOMPOSED) is Verdict.RIGHT_AS_TYPED
    assert hasher.judge(as_before, COMPOSED) is Verdict.WRONG
    with store.write() as connection:
        connection.execute(update(Account).values(password_hash=as_before))
    for typed in (DECOMPOSED, COMPOSED):
        gate = StoreGate(store, hasher=hasher, clock=clock)
        assert gate.authenticate(EMAIL, typed, address=HERE).email == EMAIL


def test_a_password_is_measured_as_it_is_hashed_and_never_begins_as_a_key() -> None:
    fields.check_password(unicodedata.normalize("NFD", "ă" * 120 + "bcdefgh"))
    for refused in ("ă" * 130 + "bcd", "a" * 1_000_000, "pb_abcdefghijkl", DECOMPOSED[:12]):
        with pytest.raises(FieldError):
            fields.check_password(refused)


def test_the_docs_say_the_bounds_of_the_code() -> None:
    page = (Path(__file__).parents[2] / "docs" / "howto" / "service.md").read_text()
    megabytes = credentials.HASHES_AT_ONCE * credentials.MEMORY_KIB // 1024
    assert credentials.HASHES_AT_ONCE == 4
    assert f"at most four hashes at once ({megabytes} MB)" in page
    assert f"{credentials.HASHES_WAITING} more requests may wait" in page
    assert f"at most {mail.MAX_OUTBOX_EMAILS:,}" in page
    assert f"at most {periods.KEEP_OUTBOX.days} days" in page
