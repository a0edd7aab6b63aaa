"""Against a real uvicorn on loopback: what streams, waits, hangs up, floods or shuts down."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from plateblur.errors import PlateblurError
from plateblur.web import Settings, create_app
from plateblur.web.pages import CLIENTS, Client, render_client
from tests.web.fakes import (
    PASSWORD,
    USER,
    FakeBlur,
    FakeGate,
    basic,
    documented_client,
    photo_bytes,
    running,
    text_of,
)

pytestmark = pytest.mark.slow

PATH = "/plateblurer.aspx"
LIMIT = 5 * 1024 * 1024
PHOTO = photo_bytes()
BODY = json.dumps({"base64_Photo_String": text_of(PHOTO)}).encode()
AUTH = {"Authorization": basic()}
WAIT_S = 120  # for what comes at once, on a machine that does much else


class Served:
    """One server for the whole file; each test gets fresh counts and a blur that works."""

    def __init__(self) -> None:
        self.blur, self.gate = FakeBlur(), FakeGate(limit=10_000)
        self.settings = Settings(blur_threads=2, queue_limit=2, body_limit=6)
        self.app: FastAPI = create_app(self.blur, self.gate, self.settings)
        self.url = ""


@pytest.fixture(scope="module")
def started() -> Iterator[Served]:
    served = Served()
    with running(served.app) as url:
        served.url = url
        yield served


@pytest.fixture
def served(started: Served) -> Served:
    started.blur.wait_for = started.blur.fails_with = None
    started.blur.asked.clear()
    while started.blur.entered.acquire(blocking=False):
        pass
    started.gate.requests = started.gate.predictions = 0
    started.gate.limit = 10_000
    return started


def raw(
    url: str, *chunks: bytes, pause_s: float = 0, read: bool = True, ending: bytes | None = None
) -> bytes:
    """Send `chunks` as they are, and return what comes back, all or up to `ending`."""
    host, _, port = url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=WAIT_S) as connection:
        for chunk in chunks:
            connection.sendall(chunk)
            time.sleep(pause_s)
        if not read:
            return b""
        answer = b""
        while part := connection.recv(65536):
            answer += part
            if ending and answer.endswith(ending):
                break
        return answer


def head(*lines: str) -> bytes:
    top = (f"POST {PATH} HTTP/1.1", "Host: x", f"Authorization: {basic()}", *lines, "", "")
    return "\r\n".join(top).encode()


def code_in(answer: bytes) -> str:
    top, _, body = answer.partition(b"\r\n\r\n")
    assert top.startswith(b"HTTP/1.1 200")
    return str(json.loads(body)[0]["cd"])


def until(condition: object, *, seconds: float = WAIT_S) -> None:
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.01)


def exactly(size: int) -> bytes:
    """Return a body of `size` bytes that holds a photo."""
    return BODY[:-1] + b" " * (size - len(BODY)) + b"}"


class TestTheSizeOfABody:
    @pytest.mark.parametrize(
        ("size", "cd"),
        [(LIMIT, "answer"), (LIMIT + 1, "1013"), (3 * LIMIT, "1013")],
        ids=["at the limit", "one over", "thrice"],
    )
    @pytest.mark.parametrize("chunked", [False, True], ids=["announced", "chunked"])
    def test_five_mebibytes_are_taken_and_no_more(
        self, served: Served, size: int, cd: str, chunked: bool
    ) -> None:
        body = exactly(size)
        parts = (body[i : i + 65536] for i in range(0, size, 65536))
        content = parts if chunked else body
        answer = httpx.post(served.url + PATH, content=content, headers=AUTH, timeout=WAIT_S)
        assert documented_client(answer)[0] == cd

    def test_a_sender_who_lies_low_is_cut_off_at_what_he_said(self, served: Served) -> None:
        answer = raw(served.url, head("Content-Length: 10", "Connection: close") + BODY)
        assert code_in(answer[: answer.rfind(b"]") + 1]) == "1014"

    def test_a_sender_who_lies_high_and_hangs_up_costs_nothing(self, served: Served) -> None:
        raw(served.url, head(f"Content-Length: {len(BODY) + 1}") + BODY, read=False)
        time.sleep(0.3)
        assert served.gate.requests == 0
        assert httpx.get(served.url + "/healthz", timeout=WAIT_S).is_success

    def test_a_sender_who_never_ends_is_heard_for_a_bounded_time(self, served: Served) -> None:
        chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
        # 75 MB: more than what is taken and what is heard out together.
        try:
            answer = raw(served.url, head("Transfer-Encoding: chunked"), *([chunk] * 1200))
        except ConnectionError:
            answer = b""
        assert not answer or code_in(answer) == "1013"

    def test_a_sender_who_waits_for_100_continue_is_refused_before_he_sends(
        self, served: Served
    ) -> None:
        lines = (f"Content-Length: {LIMIT + 1}", "Expect: 100-continue")
        started = time.perf_counter()
        answer = raw(served.url, head(*lines))
        assert code_in(answer) == "1013"
        assert b"connection: close" in answer.lower()
        assert time.perf_counter() - started < Settings().body_timeout_s

    def test_a_sender_who_waits_for_100_continue_is_told_to(self, served: Served) -> None:
        lines = (f"Content-Length: {len(BODY)}", "Expect: 100-continue", "Connection: close")
        answer = raw(served.url, head(*lines), BODY, pause_s=0.2)
        assert answer.startswith(b"HTTP/1.1 100 Continue")
        assert b'"predictions"' in answer

    def test_compressed_bodies_are_refused(self, served: Served) -> None:
        headers = AUTH | {"Content-Encoding": "gzip"}
        answer = httpx.post(
            served.url + PATH, content=b"\x1f\x8b\x08", headers=headers, timeout=WAIT_S
        )
        assert documented_client(answer)[0] == "1014"


@pytest.fixture(scope="module")
def impatient() -> Iterator[str]:
    with running(create_app(FakeBlur(), FakeGate(), Settings(body_timeout_s=0.5))) as url:
        yield url


class TestTheSpeedOfABody:
    def test_a_body_that_stops_is_1014_in_time(self, impatient: str) -> None:
        request = head("Content-Length: 5000") + b"{"
        assert code_in(raw(impatient, request, ending=b"}]")) == "1014"

    def test_a_body_that_drips_is_1014_in_time(self, impatient: str) -> None:
        answer = raw(impatient, head("Content-Length: 20"), *([b" "] * 20), pause_s=0.05)
        assert code_in(answer) == "1014"


class TestAnswersBeforeTheBody:
    @pytest.mark.parametrize("size", [1000, LIMIT], ids=["small", "full"])
    def test_a_client_that_writes_first_and_reads_later_hears_1015(
        self, served: Served, size: int
    ) -> None:
        lines = ("Host: x", f"Authorization: {basic(USER, 'wrong')}", f"Content-Length: {size}")
        request = "\r\n".join((f"POST {PATH} HTTP/1.1", *lines, "", "")).encode()
        answer = raw(served.url, request, b" " * size, pause_s=0.2)
        assert code_in(answer) == "1015"


class TestTheQueue:
    def test_who_finds_no_room_is_told_to_come_back(self, served: Served) -> None:
        served.blur.wait_for = threading.Event()
        with ThreadPoolExecutor(4) as clients, httpx.Client(headers=AUTH, timeout=WAIT_S) as client:
            waiting = [
                clients.submit(client.post, served.url + PATH, content=BODY) for _ in range(4)
            ]
            until(lambda: served.app.state.service.photos.taken == 4)
            documented = client.post(served.url + PATH, content=BODY)
            modern = client.post(served.url + "/v1/blur", files={"photo": ("a.jpg", PHOTO)})
            served.blur.wait_for.set()
            codes = [documented_client(one.result())[0] for one in waiting]
        assert codes == ["answer"] * 4
        assert documented_client(documented)[0] == "2001"
        assert documented.headers["retry-after"] == "2"
        assert (modern.status_code, modern.json()["cd"]) == (503, "2001")
        assert modern.headers["retry-after"] == "2"
        assert served.gate.requests == 4
        assert served.app.state.service.photos.taken == 0

    def test_bodies_in_memory_are_bounded_and_one_account_leaves_room_for_others(
        self, served: Served
    ) -> None:
        host, _, port = served.url.removeprefix("http://").partition(":")
        slow = [socket.create_connection((host, int(port))) for _ in range(4)]
        bodies = served.app.state.service.bodies
        try:
            for one in slow:
                one.sendall(head("Content-Length: 50") + b"{")
            until(lambda: bodies.taken == 4)
            answer = httpx.post(served.url + PATH, content=BODY, headers=AUTH, timeout=WAIT_S)
            assert bodies.enter(holder=8)
            assert bodies.enter(holder=9)
            assert not bodies.enter(holder=10)
        finally:
            bodies.leave(holder=8)
            bodies.leave(holder=9)
            for one in slow:
                one.close()
        assert documented_client(answer)[0] == "2001"
        until(lambda: served.app.state.service.bodies.taken == 0)

    def test_the_event_loop_answers_while_photos_are_blurred(self, served: Served) -> None:
        served.blur.wait_for = threading.Event()
        with ThreadPoolExecutor(2) as clients:
            waiting = [
                clients.submit(
                    httpx.post, served.url + PATH, content=BODY, headers=AUTH, timeout=WAIT_S
                )
                for _ in range(2)
            ]
            until(lambda: len(served.blur.asked) == 2)
            assert httpx.get(served.url + "/healthz", timeout=WAIT_S).is_success
            served.blur.wait_for.set()
            assert all(one.result().is_success for one in waiting)


class TestClientsThatHangUp:
    def test_one_that_hangs_up_during_the_blur_is_not_charged(self, served: Served) -> None:
        served.blur.wait_for = threading.Event()
        host, _, port = served.url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(head(f"Content-Length: {len(BODY)}") + BODY)
            assert served.blur.entered.acquire(timeout=WAIT_S)
            assert served.gate.requests == 1
        time.sleep(0.3)
        served.blur.wait_for.set()
        until(lambda: served.gate.requests == 0)
        until(lambda: served.app.state.service.photos.taken == 0)
        assert served.gate.predictions == 0

    def test_one_that_hangs_up_in_the_queue_is_not_blurred_at_all(self, served: Served) -> None:
        served.blur.wait_for = threading.Event()
        host, _, port = served.url.removeprefix("http://").partition(":")
        with ThreadPoolExecutor(2) as clients:
            waiting = [
                clients.submit(
                    httpx.post, served.url + PATH, content=BODY, headers=AUTH, timeout=WAIT_S
                )
                for _ in range(2)
            ]
            until(lambda: len(served.blur.asked) == 2)
            with socket.create_connection((host, int(port))) as connection:
                connection.sendall(head(f"Content-Length: {len(BODY)}") + BODY)
                until(lambda: served.app.state.service.photos.taken == 3)
            time.sleep(0.3)
            served.blur.wait_for.set()
            assert all(one.result().is_success for one in waiting)
        until(lambda: served.app.state.service.photos.taken == 0)
        assert len(served.blur.asked) == 2
        assert served.gate.requests == 2


def test_sixty_four_parallel_clients_with_fifty_left_get_exactly_fifty() -> None:
    gate = FakeGate(limit=50)
    with (
        running(create_app(FakeBlur(), gate, Settings())) as url,
        ThreadPoolExecutor(64) as clients,
        httpx.Client(headers=AUTH, timeout=60, limits=httpx.Limits(max_connections=64)) as client,
    ):
        answers = list(clients.map(lambda _: client.post(url + PATH, content=BODY), range(64)))
    codes = [documented_client(one)[0] for one in answers]
    assert (codes.count("answer"), codes.count("1002")) == (50, 14)
    assert gate.requests == 50


def test_requests_in_flight_finish_on_shutdown() -> None:
    blur, gate = FakeBlur(wait_for=threading.Event()), FakeGate()
    app = create_app(blur, gate, Settings())
    with ThreadPoolExecutor(1) as clients:
        with running(app, timeout_graceful_shutdown=20) as url:
            waiting = clients.submit(
                httpx.post, url + PATH, content=BODY, headers=AUTH, timeout=WAIT_S
            )
            assert blur.entered.acquire(timeout=WAIT_S)
            assert blur.wait_for is not None
            threading.Timer(0.5, blur.wait_for.set).start()
        assert documented_client(waiting.result())[0] == "answer"
    assert gate.requests == 1


@pytest.mark.parametrize("fails", [False, True], ids=["works", "fails"])
def test_upkeep_is_done_at_the_start_and_a_failure_of_it_stops_nothing(fails: bool) -> None:
    done = threading.Event()

    def upkeep() -> None:
        done.set()
        if fails:
            raise PlateblurError("the store is away")

    app = create_app(FakeBlur(), FakeGate(), Settings(), upkeep=upkeep)
    with running(app) as url:
        assert done.wait(60)
        assert httpx.get(url + "/healthz", timeout=60).is_success


RUNNERS = {
    "python": [sys.executable],
    "javascript": ["node"],
    "php": ["php"],
    "curl": ["sh"],
}


@pytest.mark.parametrize("works", [True, False], ids=["success", "error"])
@pytest.mark.parametrize(
    "client", [one for one in CLIENTS if one.name in RUNNERS], ids=lambda one: one.name
)
def test_the_clients_on_the_page_work(
    served: Served, tmp_path: Path, client: Client, works: bool
) -> None:
    runner = RUNNERS[client.name]
    if shutil.which(runner[0]) is None:
        pytest.skip(f"{runner[0]} is not installed")
    served.gate.limit = 10_000 if works else 0
    suffix = Path(client.template).suffixes[0]
    source, photo, result = tmp_path / f"blur{suffix}", tmp_path / "in.jpg", tmp_path / "out.jpg"
    source.write_text(render_client(client, public_url=served.url))
    photo.write_bytes(PHOTO)
    done = subprocess.run(
        [*runner, str(source), str(photo), str(result)],
        env={"PATH": os.defpath, "PLATEBLUR_USER": USER, "PLATEBLUR_PASSWORD": PASSWORD}
        | {"PATH": ":".join({str(Path(shutil.which(runner[0]) or "").parent), os.defpath})},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if works:
        assert done.returncode == 0, done.stderr
        assert result.read_bytes() == PHOTO
    else:
        assert done.returncode == 1
        assert "1002" in done.stderr
        assert not result.exists()
