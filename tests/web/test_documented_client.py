"""The documented client's own class, `System.Net.WebClient` under mono, against a live service.

It writes its whole body before it reads anything, so that an answer which comes earlier, with the
connection's end behind it, is an exception for it. Skipped where mono is not installed.
"""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from plateblur.accounts.gate import StoreGate
from plateblur.accounts.store import open_store
from plateblur.web import Settings, create_app
from plateblur.web.failures import SENTENCES
from tests.accounts.fakes import EMAIL, PASSWORD, CountingHasher
from tests.web.fakes import FakeBlur, running
from tests.web.test_faults import (
    BODY,
    BY_THE_REQUEST,
    BY_THE_STORE,
    PATH,
    TRIAL,
    WAIT_S,
    Live,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("mono") is None or shutil.which("mcs") is None, reason="mono is not installed"
    ),
]

MIB = 1024 * 1024
BEFORE_THE_BODY = sorted({"1001", *BY_THE_STORE} - {"1002", "1004"})
"""Codes that are known before the body is read; 1002 and 1004 come with the quota, after it."""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("client") / "documented_client.exe"
    source = Path(__file__).with_name("documented_client.cs")
    subprocess.run(
        ["mcs", "-r:System.Web.Extensions", f"-out:{program}", str(source)],
        check=True,
        capture_output=True,
        timeout=WAIT_S,
    )
    return program


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    store, blur = open_store(tmp_path / "data"), FakeBlur()
    gate = StoreGate(store, hasher=CountingHasher())
    with running(create_app(blur, gate, Settings(blur_threads=1, queue_limit=0))) as address:
        yield Live(address, store, blur)
    store.close()


def ask(
    program: Path,
    live: Live,
    body: bytes = BODY,
    *,
    user: str = EMAIL,
    at_once: bool = False,
) -> str:
    """Return the line that the client prints."""
    photo = program.with_name(f"{threading.get_ident()}.json")
    photo.write_bytes(body)
    done = subprocess.run(
        [
            *("mono", str(program), live.url + PATH, user, PASSWORD, str(photo)),
            *(["at-once"] if at_once else []),
        ],
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    return done.stdout.strip()


@pytest.mark.parametrize("cd", sorted({**BY_THE_STORE, **BY_THE_REQUEST}))
def test_it_understands_every_code_and_the_photo(program: Path, live: Live, cd: str) -> None:
    if cd in BY_THE_STORE:
        BY_THE_STORE[cd](live)
    else:
        live.account(TRIAL)
    body = BY_THE_REQUEST.get(cd, {}).get("body", BODY)
    assert isinstance(body, bytes)
    told = ask(program, live, body, user="" if cd == "1001" else EMAIL)
    expected = "answer 3" if cd == "answer" else f"{cd} {SENTENCES[cd]}"
    assert told.startswith(expected)


@pytest.mark.parametrize("at_once", [False, True], ids=["asks to continue", "sends at once"])
@pytest.mark.parametrize("cd", [*BEFORE_THE_BODY, "1013"])
def test_it_hears_an_early_refusal_after_a_body_of_any_length(
    program: Path, live: Live, cd: str, at_once: bool
) -> None:
    if cd in BY_THE_STORE:
        BY_THE_STORE[cd](live)
    else:
        live.account(TRIAL)
    for size in (5 * MIB + 1, 32 * MIB):
        user = "" if cd == "1001" else EMAIL
        told = ask(program, live, b" " * size, user=user, at_once=at_once)
        assert told.startswith(f"{cd} {SENTENCES[cd]}")


def test_it_hears_that_the_service_is_busy(program: Path, live: Live) -> None:
    live.account(TRIAL)
    live.blur.wait_for = threading.Event()
    with ThreadPoolExecutor(1) as clients:
        waiting = clients.submit(ask, program, live)
        assert live.blur.entered.acquire(timeout=WAIT_S)
        told = ask(program, live, BODY)
        live.blur.wait_for.set()
        assert told.startswith("2001 ")
        assert "busy" in told
        assert waiting.result().startswith("answer")


def test_it_gets_a_photo_of_the_longest_request(program: Path, live: Live) -> None:
    live.account(TRIAL)
    body = BODY[:-1] + b" " * (5 * MIB - len(BODY)) + b"}"
    assert ask(program, live, body).startswith("answer 3")
