"""What strangers send to hurt: each kind costs a bounded amount of time and memory, and is told."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import re
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from plateblur.accounts.types import Identity, Once, PlanKind, PlanPeriod
from plateblur.errors import DetectionError, PhotoDecodeError
from plateblur.types import BlurOptions, BlurredPhoto
from plateblur.web import Settings, create_app
from plateblur.web.body import MAX_JSON_PARTS, decode_base64, parse_json_object
from plateblur.web.connections import BoundedConnection
from plateblur.web.failures import Failure
from plateblur.web.fetcher import FetchError, PhotoFetcher, name_server, resolve_by_dns
from plateblur.web.health import MIN_FREE_BYTES, has_room
from plateblur.web.room import Slots, Turns
from plateblur.web.service import MAX_ANSWER_BYTES
from plateblur.web.settings import SettingsError
from tests.web.fakes import (
    KEY,
    NOW,
    FakeBlur,
    FakeGate,
    FakeReservation,
    basic,
    documented_client,
    make_stand,
    photo_bytes,
    running,
    text_of,
)

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
DOCUMENTED, MODERN = "/plateblurer.aspx", "/v1/blur"
MIB = 1024 * 1024
LIMIT = 5 * MIB
PHOTO = photo_bytes()
BODY = json.dumps({"base64_Photo_String": text_of(PHOTO)}).encode()
BEARER = {"Authorization": f"Bearer {KEY}"}
WAIT_S = 60


def filled(start: bytes, item: bytes, end: bytes, *, size: int = LIMIT) -> bytes:
    """Return a body of nearly `size` bytes."""
    return start + item * ((size - len(start) - len(end)) // len(item)) + end


MANY_OBJECTS = filled(b'{"base64_Photo_String": "QUJD", "x": [{}', b",{}", b"]}")
MANY_KEYS = filled(b'{"photo": "QUJD"', b',"":0', b"}")
ENDLESS_PREFIX = filled(b'{"photo": "data:', b";", b'"}')


# --- What a body may hold ----------------------------------------------------------------------


HOLDING_TOO_MUCH = {
    "objects": MANY_OBJECTS,
    "lists": filled(b'{"x": [[]', b",[]", b"]}"),
    "numbers": filled(b'{"x": [0', b",0", b"]}"),
    "strings": filled(b'{"x": [""', b',""', b"]}"),
    "keys": MANY_KEYS,
    "one in another": filled(b"{", b'"x":[{},[', b"", size=20 * MAX_JSON_PARTS),
    "behind a quote in a string": filled(b'{"a": "\\"", "x": [{}', b",{}", b"]}"),
    "behind a string that ends in a backslash": filled(b'{"a": "\\\\", "x": [{}', b",{}", b"]}"),
    "one more than may be": b'{"x": [' + b"0," * MAX_JSON_PARTS + b"0]}",
}


@pytest.mark.parametrize("body", HOLDING_TOO_MUCH.values(), ids=HOLDING_TOO_MUCH)
def test_a_body_of_too_many_parts_is_refused_before_it_is_parsed(body: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(Failure, match="1014") as refused:
            parse_json_object(body)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert "more than 10000 fields and items" in refused.value.cause
    assert peak < 3 * LIMIT


@pytest.mark.parametrize(
    "field",
    [
        [0] * (MAX_JSON_PARTS - 10),
        ",[{" * MAX_JSON_PARTS,
        '\\",[' * MAX_JSON_PARTS,
        "é, à; " * MAX_JSON_PARTS,
    ],
    ids=["as many as may be", "marks in a string", "quotes and marks in a string", "prose"],
)
def test_what_is_no_part_of_a_body_is_not_counted(field: object) -> None:
    assert parse_json_object(json.dumps({"x": field}).encode()) == {"x": field}


@pytest.mark.parametrize(
    "body",
    [
        b'"' + b'\\"' * (LIMIT // 2),
        filled(b'{"x": "', b",", b'"}'),
        filled(b'{"x": "', b"\\u002c,", b'"}'),
        b'"",' * (LIMIT // 3),
        b'"' * LIMIT,
        b"\\" * LIMIT,
        filled(b'{"x": ', b"1", b"}"),
        b"[" * LIMIT,
        b"{" * LIMIT,
    ],
    ids=lambda body: repr(body[:12]),
)
def test_no_body_takes_long_to_look_through(body: bytes) -> None:
    started = time.process_time()
    with suppress(Failure):
        parse_json_object(body)
    assert time.process_time() - started < 3  # some 0.2 s; quadratic ones took minutes


ENDLESS_PREFIXES = {
    "semicolons": "data:" + ";" * LIMIT,
    "base64 without its comma": "data:" + ";base64" * (LIMIT // 7),
    "white space": " " * LIMIT + "data:",
    "parameters": "data:" + ";a=b" * (LIMIT // 4) + ",",
}


@pytest.mark.parametrize("text", ENDLESS_PREFIXES.values(), ids=ENDLESS_PREFIXES)
def test_no_prefix_takes_long_or_much_to_read(text: str) -> None:
    tracemalloc.start()
    started = time.process_time()
    try:
        if text.strip() == "data:":
            text += "x"
        with pytest.raises(Failure, match="1014"):
            decode_base64(text, field="photo")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert time.process_time() - started < 2
    assert peak < 6 * LIMIT


@pytest.mark.parametrize(
    "prefix",
    ["data:;base64,", "data:image/jpeg;base64,", " \r\n" * 200 + "DATA:image/png;a=b;BASE64,"],
)
def test_a_usual_prefix_is_let_pass(prefix: str) -> None:
    assert decode_base64(prefix + text_of(PHOTO), field="photo") == PHOTO


# --- What is told of it -------------------------------------------------------------------------


UNUSABLE: dict[str, tuple[bytes, str]] = {
    "unknown keys": (
        b"{" + b",".join(b'"%x":0' % i for i in range(MAX_JSON_PARTS - 10)) + b"}",
        "application/json",
    ),
    "one unknown key of 5 MB": (filled(b'{"', b"k", b'": 0}'), "application/json"),
    "a value of 5 MB": (filled(b'{"method": "', b"k", b'"}'), "application/json"),
    "more keys than may be": (MANY_KEYS, "application/json"),
    "unknown fields": (
        b"".join(
            b'--b\r\nContent-Disposition: form-data; name="%d"\r\n\r\nx\r\n' % i for i in range(15)
        )
        + b"--b--\r\n",
        "multipart/form-data; boundary=b",
    ),
    "a field's name of 5 MB": (
        filled(b'--b\r\nContent-Disposition: form-data; name="', b"n", b'"\r\n\r\nx\r\n--b--\r\n'),
        "multipart/form-data; boundary=b",
    ),
    "headers of a part": (
        filled(b"--b\r\n", b"X: y\r\n", b"\r\nx\r\n--b--\r\n"),
        "multipart/form-data; boundary=b",
    ),
}


@pytest.mark.anyio
@pytest.mark.parametrize(("body", "media_type"), UNUSABLE.values(), ids=UNUSABLE)
async def test_what_is_told_of_a_body_is_short_whatever_it_holds(
    body: bytes, media_type: str
) -> None:
    answer = await make_stand().client.post(
        MODERN, content=body, headers=BEARER | {"Content-Type": media_type}
    )
    assert answer.json()["cd"] == "1014"
    assert len(answer.content) < 1000


@pytest.mark.anyio
async def test_unknown_fields_are_told_by_their_number_beside_what_is_wrong_with_known_ones() -> (
    None
):
    body = {"photo": text_of(PHOTO), "margin": 7, "a": 1, "b": 2}
    answer = await make_stand().client.post(MODERN, json=body, headers=BEARER)
    assert answer.status_code == 422
    assert "margin: Input should be less than or equal to 1." in answer.json()["detail"]
    assert "2 unknown fields." in answer.json()["detail"]


@pytest.mark.anyio
@pytest.mark.parametrize(
    "headers",
    [
        {"Accept": ",".join(["text/html"] * 3000)},
        {"Accept": "image/*" + ";" * 15_000},
        {"Content-Type": "multipart/form-data" + "; boundary=b" * 1000},
        {"Authorization": "Basic " + "A" * 16_000},
        {"Authorization": "Bearer " + "A" * 16_000},
        {"Content-Encoding": "," * 15_000},
    ],
    ids=lambda headers: next(iter(headers)),
)
async def test_what_is_told_of_a_header_is_short_whatever_it_holds(headers: dict[str, str]) -> None:
    answer = await make_stand().client.post(
        MODERN + "?" + "a=b&" * 3000, content=BODY, headers=BEARER | headers
    )
    assert answer.status_code >= 400
    assert len(answer.content) < 1000


# --- What is kept of it -------------------------------------------------------------------------


def big_blocks() -> list[int]:
    """Return the sizes of all live blocks of Python's that could be a body or a photo."""
    traces = tracemalloc.take_snapshot().traces
    return [trace.size for trace in traces if trace.size > MIB // 2]


KEPT: dict[str, tuple[str, Callable[[], bytes], dict[str, Any]]] = {
    "too many parts": (DOCUMENTED, lambda: bytes(bytearray(MANY_OBJECTS)), {}),
    "no JSON": (DOCUMENTED, lambda: b"x" * 3 * MIB, {}),
    "no JSON, at v1": (MODERN, lambda: b"x" * 3 * MIB, {}),
    "bad base64": (DOCUMENTED, lambda: b'{"base64_Photo_String": "' + b"*" * 3 * MIB + b'"}', {}),
    "not ASCII": (
        DOCUMENTED,
        lambda: b'{"base64_Photo_String": "' + "é".encode() * MIB + b'"}',
        {},
    ),
    "no photo": (DOCUMENTED, lambda: b'{"base64_Photo_String": "' + b"A" * 4 * MIB + b'"}', {}),
    "a bad option": (MODERN, lambda: b'{"margin": 7, "photo": "' + b"A" * 4 * MIB + b'"}', {}),
    "too long": (DOCUMENTED, lambda: b"x" * 6 * MIB, {}),
    "a photo that is damaged": (DOCUMENTED, lambda: big_photo(), {"blur": PhotoDecodeError("x")}),
    "a photo that fails": (DOCUMENTED, lambda: big_photo(), {"blur": DetectionError("x")}),
    "a bug": (DOCUMENTED, lambda: big_photo(), {"blur": ZeroDivisionError("x")}),
    "over quota": (DOCUMENTED, lambda: big_photo(), {"limit": 0}),
    "a store that fails": (DOCUMENTED, lambda: big_photo(), {"settle": ZeroDivisionError("x")}),
    "a photo that is blurred": (DOCUMENTED, lambda: big_photo(), {}),
}


def big_photo() -> bytes:
    padded = PHOTO + bytes(2 * MIB)
    return json.dumps({"base64_Photo_String": text_of(padded)}).encode()


@pytest.mark.anyio
@pytest.mark.parametrize(("path", "body", "fails"), KEPT.values(), ids=KEPT)
async def test_nothing_of_a_body_is_alive_after_its_answer_without_a_collection(
    path: str, body: Callable[[], bytes], fails: dict[str, Any]
) -> None:
    stand = make_stand(
        blur=FakeBlur(fails_with=fails.get("blur")),
        gate=FakeGate(limit=fails.get("limit", 50), settle_fails_with=fails.get("settle")),
    )
    # Unlike httpx's client, this keeps nothing of its own.
    async with stand.client:
        gc.collect()
        gc.disable()
        tracemalloc.start()
        try:
            await ask(stand.app, path, body())
            await asyncio.sleep(0.1)  # The answer goes out before the last frames are left.
            kept = big_blocks()
        finally:
            tracemalloc.stop()
            gc.enable()
    assert kept == []


async def ask(app: Any, path: str, body: bytes) -> None:
    """Ask an app as a server does, keeping nothing."""
    messages = iter([{"type": "http.request", "body": body, "more_body": False}])
    del body

    async def receive() -> dict[str, Any]:
        message = next(messages, None)
        if message is None:
            await asyncio.sleep(WAIT_S)
            return {"type": "http.disconnect"}
        return message

    async def send(message: Any) -> None:
        pass

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "server": ("x", 80),
        "client": ("198.51.100.7", 4711),
        "scheme": "http",
        "method": "POST",
        "root_path": "",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"authorization", basic().encode()), (b"content-length", b"1")],
        "state": {},
    }
    await app(scope, receive, send)


SERVER = """
import sys, uvicorn
from plateblur.web import Settings, create_app
from plateblur.web.connections import BoundedConnection
from tests.web.fakes import FakeBlur, FakeGate

app = create_app(FakeBlur(), FakeGate(limit=10**9), Settings())
uvicorn.run(app, port=int(sys.argv[1]), http=BoundedConnection, log_config=None, access_log=False)
"""


@dataclass
class Process:
    """A server in a process of its own, whose memory can be looked at."""

    url: str
    pid: int

    def rss_mib(self) -> float:
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024


@pytest.fixture(scope="module")
def process() -> Iterator[Process]:
    if not Path("/proc/self/status").exists():
        pytest.skip("memory is told by Linux's /proc")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = [sys.executable, "-c", SERVER, str(port)]
    started = subprocess.Popen(command, cwd=ROOT)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + WAIT_S
        while not is_alive(url):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        yield Process(url, started.pid)
    finally:
        started.kill()
        started.wait(WAIT_S)


def is_alive(url: str) -> bool:
    try:
        return httpx.get(url + "/healthz").is_success
    except httpx.HTTPError:
        return False


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (DOCUMENTED, MANY_OBJECTS),
        (MODERN, MANY_OBJECTS),
        (MODERN, MANY_KEYS),
        (MODERN, ENDLESS_PREFIX),
        (DOCUMENTED, ENDLESS_PREFIX.replace(b"photo", b"base64_Photo_String")[: LIMIT - 2] + b'"}'),
        (DOCUMENTED, b"x" * LIMIT),
        (DOCUMENTED, b"x" * 2 * LIMIT),
    ],
    ids=["objects", "objects, v1", "keys, v1", "prefix, v1", "prefix", "no JSON", "too long"],
)
def test_thirty_refused_bodies_leave_the_memory_as_it_was_and_nobody_waits(
    process: Process, path: str, body: bytes
) -> None:
    def refused(_: int = 0) -> str:
        answer = httpx.post(
            process.url + path, content=body, headers={"Authorization": basic()}, timeout=WAIT_S
        )
        told = answer.json()
        assert len(answer.content) < 1000
        return str((told[0] if isinstance(told, list) else told)["cd"])

    expected = "1013" if len(body) > LIMIT else "1014"
    for _ in range(4):
        refused()
    before, worst_s = process.rss_mib(), 0.0
    with ThreadPoolExecutor(2) as clients:
        asked = [clients.submit(refused) for _ in range(30)]
        while not all(one.done() for one in asked):
            started = time.perf_counter()
            assert httpx.get(process.url + "/healthz", timeout=WAIT_S).is_success
            worst_s = max(worst_s, time.perf_counter() - started)
        assert {one.result() for one in asked} == {expected}
    assert process.rss_mib() - before < 60  # twelve bodies; one that leaked alone was 125
    assert worst_s < 5


# --- How long an answer may be ------------------------------------------------------------------


@dataclass
class GenerousBlur:
    """Gives a photo and crops of the sizes that it is told."""

    photo_bytes: int
    crop_bytes: int = 0

    def __call__(
        self, data: bytes, options: BlurOptions, ended: threading.Event, *, max_pixels: int
    ) -> BlurredPhoto:
        photo = FakeBlur(confidences=(0.9,) * 65)(data, options, ended, max_pixels=max_pixels)
        crops = (bytes(self.crop_bytes),) * 65 if options.crops else ()
        return replace(photo, data=bytes(self.photo_bytes), crops=crops)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("blur", "path", "cd"),
    [
        (GenerousBlur(1000, crop_bytes=2_500_000), DOCUMENTED, "2001"),
        (GenerousBlur(1000, crop_bytes=300_000), DOCUMENTED, "answer"),
        (GenerousBlur(25 * MIB), DOCUMENTED, "2001"),
        (GenerousBlur(23 * MIB), DOCUMENTED, "answer"),
        (GenerousBlur(49 * MIB), MODERN, "2001"),
        (GenerousBlur(47 * MIB), MODERN, "answer"),
        (GenerousBlur(49 * MIB), "/v1/detect", "answer"),
    ],
    ids=["crops", "smaller", "photo", "smaller photo", "v1", "smaller v1", "no photo in it"],
)
async def test_an_answer_that_is_too_long_is_not_written_and_given_back(
    blur: Any, path: str, cd: str
) -> None:
    stand = make_stand(blur=blur)
    name = "base64_Photo_String" if path == DOCUMENTED else "photo"
    body = {name: text_of(PHOTO)} | ({"boundingBoxCrop": "YES"} if path == DOCUMENTED else {})
    answer = await stand.post(body, path=path)
    most = MAX_ANSWER_BYTES if path == DOCUMENTED else 2 * Settings().v1_trial_max_mb * MIB
    if cd == "answer":
        assert answer.is_success
        assert len(answer.content) <= most
        assert stand.gate.requests == 1
    else:
        told = answer.json()
        error = told[0] if isinstance(told, list) else told
        assert error["cd"] == "2001"
        assert f"more than {most // MIB} MB" in (error.get("description") or error["detail"])
        assert (stand.gate.requests, stand.gate.predictions) == (0, 0)
    assert stand.app.state.service.answers.taken == 0


def test_one_holder_has_no_more_than_its_share_and_all_no_more_than_there_is() -> None:
    slots = Slots(10, each=6)
    assert slots.enter(holder=1, size=6)
    assert not slots.enter(holder=1)
    assert slots.enter(holder=2, size=4)
    assert not slots.enter(holder=3)
    slots.leave(holder=1, size=6)
    assert slots.taken == 4
    assert slots.enter(holder=3, size=6)


# --- When an answer counts ----------------------------------------------------------------------


class HastyConnection(BoundedConnection):
    """Has little patience, so that tests need little too."""

    header_s = 0.6
    grace_s = 0.6
    look_every_s = 0.05
    max_connections = 8


@pytest.fixture(scope="module")
def hasty() -> Iterator[tuple[str, FakeGate]]:
    gate = FakeGate(limit=1000)
    app = create_app(GenerousBlur(20 * MIB), gate, Settings())
    with running(app, http=HastyConnection) as url:
        yield url, gate


def connect(url: str) -> socket.socket:
    host, _, port = url.removeprefix("http://").partition(":")
    return socket.create_connection((host, int(port)), timeout=WAIT_S)


def request_for(path: str, body: bytes) -> bytes:
    lines = ("Host: x", f"Authorization: {basic()}", f"Content-Length: {len(body)}")
    return "\r\n".join((f"POST {path} HTTP/1.1", *lines, "", "")).encode() + body


def read_all(connection: socket.socket) -> bytes:
    """Return what comes until the connection ends, in whatever way."""
    answer = b""
    try:
        while part := connection.recv(1 << 20):
            answer += part
    except ConnectionError:
        pass
    return answer


def until(condition: Callable[[], bool], *, seconds: float = WAIT_S) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.01)


def test_a_reader_who_hangs_up_in_the_midst_of_an_answer_is_not_charged(
    hasty: tuple[str, FakeGate],
) -> None:
    url, gate = hasty
    gate.requests = gate.predictions = 0
    with connect(url) as connection:
        connection.sendall(request_for(DOCUMENTED, BODY))
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")
        assert (gate.requests, gate.predictions) == (1, 65)
    until(lambda: (gate.requests, gate.predictions) == (0, 0))


def test_a_reader_who_takes_nothing_is_left_in_time_and_not_charged(
    hasty: tuple[str, FakeGate],
) -> None:
    url, gate = hasty
    gate.requests = gate.predictions = 0
    with connect(url) as connection:
        connection.sendall(request_for(DOCUMENTED, BODY))
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")
        # The kernel holds some megabytes of the twenty; what it holds counts as taken.
        until(lambda: (gate.requests, gate.predictions) == (0, 0))


def test_a_reader_who_takes_everything_is_charged(hasty: tuple[str, FakeGate]) -> None:
    url, gate = hasty
    gate.requests = gate.predictions = 0
    answer = httpx.post(
        url + DOCUMENTED, content=BODY, headers={"Authorization": basic()}, timeout=WAIT_S
    )
    assert len(answer.json()["final_photo"]) > 20 * MIB
    assert (gate.requests, gate.predictions) == (1, 65)


# --- How long a connection may wait -------------------------------------------------------------


SLOW = {
    "nothing at all": b"",
    "half a header": b"GET /healthz HTTP/1.1\r\nHost: ",
    "a second header, after a first request": b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /",
    "a page's body": b"POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n",
    "a body in pieces": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n",
}


@pytest.mark.parametrize("drips", [False, True], ids=["is silent", "drips"])
@pytest.mark.parametrize("start", SLOW.values(), ids=SLOW)
def test_a_sender_who_never_ends_is_left_in_time(
    hasty: tuple[str, FakeGate], start: bytes, drips: bool
) -> None:
    with connect(hasty[0]) as connection:
        connection.sendall(start)
        over = threading.Event()

        def drip() -> None:
            try:
                while drips and not over.wait(0.1):
                    connection.sendall(b"x")
            except OSError:
                pass

        dripping = threading.Thread(target=drip)
        dripping.start()
        started = time.perf_counter()
        read_all(connection)
        waited_s = time.perf_counter() - started
        over.set()
        dripping.join()
    assert waited_s < 10


def test_whoever_comes_is_heard_although_others_hold_all_connections(
    hasty: tuple[str, FakeGate],
) -> None:
    held = [connect(hasty[0]) for _ in range(30)]
    try:
        assert httpx.get(hasty[0] + "/healthz", timeout=WAIT_S).is_success
    finally:
        for one in held:
            one.close()


def test_a_client_that_keeps_its_connection_may_ask_again(hasty: tuple[str, FakeGate]) -> None:
    with httpx.Client(base_url=hasty[0]) as client:
        for _ in range(6):
            assert client.get("/healthz").is_success
            time.sleep(0.3)


def test_the_service_ends_slow_connections_itself() -> None:
    serving = (ROOT / "plateblur" / "serving.py").read_text()
    assert re.search(r"http=BoundedConnection,\s+ws=\"none\"", serving)


# --- Whose turn it is --------------------------------------------------------------------------


@dataclass
class TwoAccounts(FakeGate):
    """Every user name is an account of its own."""

    def authenticate(self, username: str, secret: str, *, address: str) -> Identity:
        return Identity(len(username), username)

    def active_plan(self, identity: Identity) -> PlanPeriod:
        return PlanPeriod(PlanKind.TRIAL, NOW, NOW + timedelta(days=7), plan_id=1)


@dataclass
class NotingGate(TwoAccounts):
    """Notes in which order accounts are let in."""

    admitted: list[str] = field(default_factory=list)

    @contextmanager
    def admit(
        self, identity: Identity, plan: PlanPeriod, *, once: Once | None = None
    ) -> Iterator[FakeReservation]:
        self.admitted.append(identity.email)
        with super().admit(identity, plan) as reservation:
            yield reservation


def test_an_account_with_many_photos_does_not_have_the_others_wait_behind_them() -> None:
    blur, gate = FakeBlur(wait_for=threading.Event()), NotingGate()
    app = create_app(blur, gate, Settings(blur_threads=1))
    with running(app) as url, ThreadPoolExecutor(16) as clients:

        def post(user: str) -> str:
            headers = {"Authorization": basic(user, "x")}
            answer = httpx.post(url + DOCUMENTED, content=BODY, headers=headers, timeout=WAIT_S)
            return documented_client(answer)[0]

        photos = app.state.service.photos
        answers = []
        for number, user in enumerate(["a"] * 10 + ["bb"] + ["ccc"] * 2, 1):
            answers.append(clients.submit(post, user))
            until(partial(lambda count: photos.taken == count, number))
        assert blur.wait_for is not None
        blur.wait_for.set()
        assert {one.result() for one in answers} == {"answer"}
    assert gate.admitted[:6] == ["a", "a", "bb", "ccc", "a", "ccc"]
    assert gate.admitted[6:] == ["a"] * 7


@pytest.mark.anyio
async def test_a_turn_that_nobody_waits_for_any_more_goes_to_the_next() -> None:
    turns = Turns(1)
    order: list[int] = []

    async def work(holder: int) -> None:
        async with turns.take(holder):
            order.append(holder)
            await asyncio.sleep(0.01)

    working = [asyncio.create_task(work(holder)) for holder in (1, 1, 2, 3)]
    await asyncio.sleep(0)
    working[2].cancel()
    await asyncio.gather(*working, return_exceptions=True)
    assert order == [1, 1, 3]
    async with turns.take(4):  # The place came back.
        pass


# --- Names whose server never answers -----------------------------------------------------------


@contextmanager
def names() -> Iterator[tuple[str, list[bytes]]]:
    """Run a name server that knows `good.test` alone and never answers about `silent.test`."""
    asked: list[bytes] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))

        def answer() -> None:
            while (question := server.recvfrom(4096)) and question[0] != b"end":
                text, client = question
                asked.append(text)
                if b"silent" in text:
                    continue
                end = text.index(b"\0", 12) + 5
                kind = text[end - 4 : end - 2]
                known = b"\x04good\x04test" in text
                record = b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\x7f\0\0\x01"
                has_one = known and kind == b"\0\x01"
                flags = b"\x81\x80" if known else b"\x81\x83"
                counts = b"\0\x01" + (b"\0\x01" if has_one else b"\0\0") + bytes(4)
                reply = text[:2] + flags + counts + text[12:end] + (record if has_one else b"")
                server.sendto(reply, client)

        thread = threading.Thread(target=answer)
        thread.start()
        host, port = server.getsockname()
        try:
            yield f"{host}:{port}", asked
        finally:
            server.sendto(b"end", (host, port))
            thread.join()


def look_up(host: str, nameserver: str, *, timeout_s: float = 3) -> list[str]:
    return asyncio.run(
        resolve_by_dns(host, 80, nameservers=[nameserver], timeout_s=timeout_s), debug=False
    )


def test_a_name_is_looked_up_at_its_name_server() -> None:
    with names() as (nameserver, asked):
        assert look_up("good.test", nameserver) == ["127.0.0.1"]
        for unknown in ("bad.test", "localhost", "x" * 64 + ".test", "a..test", "127.1", "0x7f.1"):
            with pytest.raises(OSError, match="the name"):
                look_up(unknown, nameserver)
        before = len(asked)
        assert look_up("192.0.2.7", nameserver) == ["192.0.2.7"]
        assert look_up("[2001:db8::7]", nameserver) == ["2001:db8::7"]
        assert len(asked) == before


def test_a_name_server_that_is_silent_is_left_in_time() -> None:
    with names() as (nameserver, _):
        started = time.perf_counter()
        with pytest.raises(OSError, match="the name"):
            look_up("a.silent.test", nameserver, timeout_s=0.3)
        assert time.perf_counter() - started < 3


def test_a_look_up_that_is_given_up_keeps_nothing() -> None:
    async def give_up(nameserver: str) -> tuple[int, int]:
        def open_files() -> int:
            folder = Path("/proc/self/fd")
            return len(list(folder.iterdir())) if folder.exists() else 0

        await asyncio.sleep(0)
        before, threads = open_files(), threading.active_count()
        looking = [
            asyncio.create_task(
                resolve_by_dns(f"{number}.silent.test", 80, nameservers=[nameserver], timeout_s=60)
            )
            for number in range(100)
        ]
        await asyncio.sleep(0.5)
        for one in looking:
            one.cancel()
        await asyncio.gather(*looking, return_exceptions=True)
        await asyncio.sleep(0.2)
        assert len(asyncio.all_tasks()) == 1
        return open_files() - before, threading.active_count() - threads

    with names() as (nameserver, _):
        assert asyncio.run(give_up(nameserver)) == (0, 0)


def test_an_account_waits_for_few_silent_name_servers_at_once_and_others_for_none() -> None:
    with names() as (nameserver, _):
        settings = Settings(photo_url_limit=8, photo_url_nameservers=(nameserver,))
        with (
            running(create_app(FakeBlur(), TwoAccounts(), settings)) as url,
            ThreadPoolExecutor(20) as clients,
        ):

            def fetch(number: int, user: str = "a") -> tuple[str, float]:
                host = "unknown.test" if user == "bb" else f"{number}.silent.test"
                started = time.perf_counter()
                answer = httpx.post(
                    url + DOCUMENTED,
                    json={"photo_url": f"http://{host}/a.jpg"},
                    headers={"Authorization": basic(user, "x")},
                    timeout=WAIT_S,
                )
                return documented_client(answer)[0], time.perf_counter() - started

            waiting = [clients.submit(fetch, number) for number in range(20)]
            until(lambda: sum(one.done() for one in waiting) == 18)
            assert {one.result()[0] for one in waiting if one.done()} == {"2001"}
            cd, took_s = fetch(0, "bb")
            assert (cd, took_s < 2) == ("1014", True)
            results = [one.result() for one in waiting]
            assert [cd for cd, _ in results].count("1014") == 2
            assert max(took_s for _, took_s in results) < 10


@pytest.mark.anyio
@pytest.mark.parametrize(
    "url",
    [
        "http://xn--/",
        "http://xn--a/",
        "http://xn--zzzzzzzzzzzzzzzzzzzz/",
        "http://a.xn--/b.jpg",
        "http://\u2488com/",
        "http://" + "a" * 64 + ".example/",
        "http://-.example/",
        "http://a\u200d.example/",
        "http://\u0660a.example/",
        "http://[::1/",
        "http://a:b:c/",
        "http://a.example:99999/",
    ],
)
async def test_a_host_that_is_no_name_is_1014(url: str) -> None:
    answer = await make_stand(
        fetcher=PhotoFetcher(timeout_s=2, max_bytes=10, resolve=nobody_knows)
    ).post({"photo_url": url})
    assert documented_client(answer)[0] == "1014"


async def nobody_knows(host: str, port: int) -> list[str]:
    raise OSError("unknown")


@pytest.mark.anyio
async def test_a_redirect_to_a_host_that_is_no_name_is_refused() -> None:
    fetcher = PhotoFetcher(timeout_s=2, max_bytes=10, resolve=nobody_knows)
    with pytest.raises(FetchError, match="not valid"):
        fetcher._checked("http://xn--/", base=httpx.URL("http://a.example/"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("9.9.9.9", ("9.9.9.9", 53)),
        ("127.0.0.1:5353", ("127.0.0.1", 5353)),
        ("[2620:fe::fe]", ("2620:fe::fe", 53)),
        ("[::1]:54", ("::1", 54)),
    ],
)
def test_a_name_server_is_an_address_and_may_have_a_port(
    text: str, expected: tuple[str, int]
) -> None:
    assert name_server(text) == expected


@pytest.mark.parametrize("text", ["dns.example", "", "1.2.3", "9.9.9.9:port"])
def test_a_name_server_that_is_no_address_is_no_setting(text: str) -> None:
    with pytest.raises(SettingsError, match="PHOTO_URL_NAMESERVERS: must hold ADDRESS"):
        Settings(photo_url_nameservers=(text,))


# --- Watching -----------------------------------------------------------------------------------


def test_a_disk_without_room_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert has_room(tmp_path)
    assert not has_room(tmp_path / "gone")
    usage = type("Usage", (), {"free": MIN_FREE_BYTES - 1})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    assert not has_room(tmp_path)


def test_a_disk_that_takes_no_more_is_told(tmp_path: Path) -> None:
    from tests.web.test_faults import full_disk

    with full_disk():
        assert not has_room(tmp_path)
    assert has_room(tmp_path)


@pytest.mark.parametrize(
    "path", ["/", "/docs", "/healthz", "/readyz", "/openapi.json", "/static/plateblur.css", "/gone"]
)
def test_head_is_get_without_its_body(process: Process, path: str) -> None:
    with httpx.Client(base_url=process.url) as client:
        got = client.get(path)
        head = client.head(path)
        again = client.get(path)
    assert (head.status_code, head.content) == (got.status_code, b"")
    for name in ("content-type", "content-length", "content-security-policy"):
        assert head.headers.get(name) == got.headers.get(name)
    assert again.content == got.content or path in {"/gone", "/readyz"}


def test_head_is_no_way_to_ask_for_a_photo(process: Process) -> None:
    answer = httpx.head(process.url + DOCUMENTED)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


MEMORY_USER = """
import asyncio, ctypes, sys
from pathlib import Path
from plateblur.web import app

def rss_mib():
    return int(Path("/proc/self/status").read_text().partition("VmRSS:")[2].split()[0]) / 1024

async def main():
    app.TRIM_EVERY_S = 0.1
    blocks = [b"x" * (100_000 + number % 2) for number in range(2_000)]
    kept = blocks[::100]  # Freed memory below what is still used stays with the C library.
    held = rss_mib()
    del blocks
    giving = asyncio.create_task(app._give_memory_back())
    await asyncio.sleep(1)
    giving.cancel()
    print(held - rss_mib())

asyncio.run(main())
"""


def test_freed_memory_goes_back_to_the_system() -> None:
    if not hasattr(ctypes.CDLL(None), "malloc_trim"):
        pytest.skip("only glibc can be told to")
    done = subprocess.run(
        [sys.executable, "-c", MEMORY_USER], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert float(done.stdout) > 150  # of 200 MB, 2 of which are kept
