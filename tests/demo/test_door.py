"""The demo asked by raw HTTP, as an attacker would, alone at / and within the service at /demo."""

from __future__ import annotations

import asyncio
import contextlib
import io
import itertools
import json
import os
import re
import secrets
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn
from fastapi import FastAPI

from plateblur.demo.blocks import UPLOAD_BYTES, build_demo, events_of, mount_demo
from plateblur.demo.door import COOKIE
from plateblur.demo.live import FRAME_BYTES
from plateblur.demo.page import Page
from plateblur.demo.photos import Limits
from plateblur.demo.review import Review
from plateblur.demo.tabs import asset
from plateblur.demo.uploads import Room
from plateblur.demo.visits import Visits
from plateblur.types import Detections, Image
from plateblur.web import Settings, create_app
from plateblur.web.fetcher import PhotoFetcher
from plateblur.web.pages import LOGO
from tests.demo.fakes import PLATE, DrawnDetector, contrast, drawn_photo
from tests.fakes import SameProcess, files_in, opened
from tests.web.fakes import FakeBlur, FakeGate, running

# Gradio 6.31.0 uses what pandas 4 is about to drop, in its count of past events.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::pandas.errors.Pandas4Warning")]

SETTINGS = ["veil", 0.25, 0.45, False, "strip", "default"]
ROOM = Room(visitor_bytes=2_000_000, visitor_files=25, address_bytes=4_000_000)
API = "/gradio_api"


class CountingDetector(DrawnDetector):
    """Counts what it looked at; waits where it is told to."""

    looked = 0
    may_go_on = threading.Event()
    may_go_on.set()

    def detect(self, image: Image, *, min_confidence: float, **_: object) -> Detections:
        CountingDetector.looked += 1
        assert CountingDetector.may_go_on.wait(60)
        return super().detect(image, min_confidence=min_confidence)


@dataclass
class Demo:
    """A served demo: where, what is behind it, and where it may write."""

    url: str
    page: Page
    folder: Path
    events: dict[int, tuple[bool, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        async def shapes() -> dict[int, tuple[bool, ...]]:  # Gradio leaves a loop open otherwise.
            return events_of(build_demo(self.page))

        self.events = asyncio.run(shapes())

    def uploads(self) -> list[Path]:
        return [path for path in (self.folder / "gradio" / "uploads").rglob("*") if path.is_file()]


@dataclass
class Visitor:
    """Asks by raw HTTP; with the cookie of a visitor unless it is taken away."""

    demo: Demo
    session: str = "session1"
    client: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=60))

    def __post_init__(self) -> None:
        self.client.cookies[COOKIE] = secrets.token_urlsafe(32)  # as the page would set it

    def upload(self, *photos: tuple[str, bytes]) -> httpx.Response:
        files = [("files", photo) for photo in photos]
        return self.client.post(f"{self.demo.url}{API}/upload", files=files)

    def join(self, number: int, data: list[Any], **more: Any) -> httpx.Response:
        body = {"fn_index": number, "data": data, "session_hash": self.session, **more}
        return self.client.post(f"{self.demo.url}{API}/queue/join", json=body)

    def answer(self) -> dict[str, Any]:
        """Return what the event that was joined last came to."""
        asked = {"session_hash": self.session}
        with self.client.stream("GET", f"{self.demo.url}{API}/queue/data", params=asked) as told:
            for line in told.iter_lines():
                message = json.loads(line.removeprefix("data: ") or "{}")
                if message.get("msg") in ("process_completed", "unexpected_error"):
                    return dict(message)
        raise AssertionError("no answer came")

    def event(self, number: int, data: list[Any], **more: Any) -> dict[str, Any]:
        joined = self.join(number, data, **more)
        assert joined.status_code == 200, joined.text
        return self.answer()

    def drop(self, *photos: tuple[str, bytes]) -> dict[str, Any]:
        tokens = self.upload(*photos).json()
        return self.event(TAKE, [[file_data(token) for token in tokens], *SETTINGS])


TAKE, TAKE_URL, TAKE_EXAMPLE, PICK, BLUR_AGAIN, ADD_PLATE, REMOVE_PLATE = 0, 1, 2, 3, 4, 10, 11
ZIP, KEEP, CLIP, API_TEXTS, CAMERA, LEAVE = 13, 15, 16, 19, 28, 29


def file_data(path: Any, **more: Any) -> dict[str, Any]:
    return {"path": path, "meta": {"_type": "gradio.FileData"}, **more}


def page_in(folder: Path) -> Page:
    workers = SameProcess(CountingDetector())
    fetcher = PhotoFetcher(timeout_s=1, max_bytes=1)
    review = Review(folder / "review")
    limits = Limits(photo_bytes=1_000_000)
    return Page(
        workers, workers, Visits(folder / "gradio", room=ROOM), fetcher, limits, review=review
    )


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[Demo]:
    """Serve the demo at /, as `app.py` does."""
    page = page_in(folder)
    servers: list[uvicorn.Server] = []

    async def serve() -> None:
        app = mount_demo(FastAPI(openapi_url=None), page, path="/")
        config = uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1)
        servers.append(uvicorn.Server(config))
        await servers[0].serve(sockets=[listening])

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=lambda: asyncio.run(serve()))
        thread.start()
        end_s = time.monotonic() + 60
        while not servers or not servers[0].started:
            assert thread.is_alive(), "the demo did not start"
            assert time.monotonic() < end_s, "the demo did not start"
            time.sleep(0.01)
        yield Demo(f"http://127.0.0.1:{listening.getsockname()[1]}", page, folder)
        servers[0].should_exit = True
        thread.join()


@contextlib.contextmanager
def within(folder: Path) -> Iterator[Demo]:
    """Serve the demo at /demo of the service, as `serve.py` does."""
    page = page_in(folder)

    def build() -> FastAPI:  # in the server's loop, as `serve.py` does
        app = create_app(FakeBlur(), FakeGate(), Settings(demo=True))
        return mount_demo(app, page, path="/demo")

    with running(build, factory=True) as url:  # type: ignore[arg-type]
        yield Demo(f"{url}/demo", page, folder)


@pytest.fixture(scope="module", params=[alone, within], ids=["alone", "within the service"])
def demo(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Demo]:
    folder = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(folder))
        with request.param(folder) as served:
            yield served


@pytest.fixture
def visitor(demo: Demo) -> Iterator[Visitor]:
    made = Visitor(demo)
    yield made
    made.client.close()


@pytest.fixture
def stranger(demo: Demo) -> Iterator[Visitor]:
    """Another visitor, who knows what the first one's session is called."""
    made = Visitor(demo)
    yield made
    made.client.close()


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret.jpg"
    path.write_bytes(drawn_photo())
    path.chmod(0o600)
    return path


def test_the_page_has_the_logo(visitor: Visitor) -> None:
    assert 'src="favicon.ico"' in asset("title.html")
    icon = visitor.client.get(f"{visitor.demo.url}/favicon.ico")
    assert icon.headers["content-type"] == "image/svg+xml"
    assert icon.content == LOGO.read_bytes()


def test_the_numbers_of_events_are_those_that_are_tried_here(tmp_path: Path) -> None:
    async def names() -> dict[int, str]:  # In a loop, because Gradio leaves one open otherwise.
        fns = build_demo(page_in(tmp_path)).fns
        return {number: fn.fn.__name__ for number, fn in fns.items() if fn.fn is not None}

    named = asyncio.run(names())

    assert [named[number] for number in (TAKE, TAKE_URL, TAKE_EXAMPLE, PICK, BLUR_AGAIN)] == [
        *("take", "take_url", "take_example", "pick", "blur_again")
    ]
    assert [named[number] for number in (ADD_PLATE, REMOVE_PLATE, ZIP, KEEP, CLIP)] == [
        *("add_plate", "remove_plate", "zip_all", "keep", "take_clip")
    ]
    assert [named[number] for number in (API_TEXTS, CAMERA, LEAVE)] == [
        *("api_texts", "camera_answer", "leave")
    ]


def test_a_photo_that_was_uploaded_is_blurred_and_downloaded(visitor: Visitor) -> None:
    done = visitor.drop(("car.jpg", drawn_photo()))

    view, _, download = done["output"]["data"][2:5]
    assert view["before"].startswith("data:image/jpeg")
    path = download["value"]["path"]
    photo = visitor.client.get(f"{visitor.demo.url}{API}/file={path}")
    assert photo.status_code == 200
    assert photo.content[:3] == b"\xff\xd8\xff"
    assert photo.headers["content-type"] == "image/jpeg"
    assert visitor.demo.uploads() == []


PATHS = ["SECRET", "/dev/zero", "/dev/stdin", "/proc/self/environ", "/etc/passwd", "../../secret",
         "", "FIFO", "http://127.0.0.1/x.jpg", "https://example.com/x.jpg", "file:///etc/passwd",
         "LINK", "FOLDER"]  # fmt: skip


def named(path: str, secret: Path) -> str:
    """Return the path that a case is about, made where it has to be."""
    other = secret if path == "SECRET" or not path.isalpha() else secret.with_name(path)
    if path == "FIFO":
        os.mkfifo(other)
    elif path == "LINK":
        other.symlink_to(secret)
    elif path == "FOLDER":
        other.mkdir()
    return str(other) if path == "SECRET" or other != secret else path


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("number", [TAKE, CLIP], ids=["photo", "clip"])
def test_no_file_that_was_not_uploaded_is_opened(
    visitor: Visitor, secret: Path, path: str, number: int
) -> None:
    looked, started = CountingDetector.looked, time.monotonic()
    value: Any = file_data(named(path, secret), url="http://127.0.0.1/", orig_name="car.jpg")
    data = [[value], *SETTINGS] if number == TAKE else [value, *SETTINGS[:3]]

    done = visitor.event(number, data)

    assert "The upload was incomplete" in json.dumps(done["output"])
    assert "before" not in json.dumps(done["output"])
    assert CountingDetector.looked == looked
    assert time.monotonic() - started < 10
    assert secret.exists()


@pytest.mark.parametrize(
    "value",
    [
        "SECRET", ["SECRET"], [["SECRET"]], {"a": {"path": "SECRET"}}, [{"path": ["SECRET"]}],
        [{"path": None}], 7, True, [None], [{"path": "x" * 5000}], [{}] * 21,
    ],
    ids=repr,
)  # fmt: skip
def test_what_is_no_upload_is_refused_at_the_door(
    visitor: Visitor, secret: Path, value: Any
) -> None:
    filled = json.loads(json.dumps(value).replace("SECRET", str(secret)))

    assert visitor.join(TAKE, [filled, *SETTINGS]).status_code == 400


HOSTILE: list[Any] = [
    {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}},
    [{"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}],
    {"__type__": "update", "value": "/etc/passwd"},
    {"value": {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}},
    [], {}, [[[]]], "x" * 5000, 1e400,
]  # fmt: skip


def test_every_event_refuses_objects_and_long_texts_in_every_place(visitor: Visitor) -> None:
    hostile = itertools.cycle(json.dumps(each).replace("Infinity", "1e400") for each in HOSTILE)
    for number, takes_files in visitor.demo.events.items():
        for place in [at for at, is_files in enumerate(takes_files) if not is_files]:
            values = [json.dumps(0)] * len(takes_files)
            values[place] = next(hostile)
            content = (
                f'{{"fn_index": {number}, "session_hash": "s", "data": [{", ".join(values)}]}}'
            )
            answer = visitor.client.post(
                f"{visitor.demo.url}{API}/queue/join",
                content=content,
                headers={"Content-Type": "application/json"},
            )
            assert answer.status_code == 400, (number, values)


@pytest.mark.parametrize(
    "values",
    [["veil"] * 20, [None] * 20, [0] * 20, [-1] * 20, [True] * 20, ["\0"] * 20, [1e308] * 20],
    ids=["text", "none", "zero", "below", "switch", "nul", "huge"],
)
def test_every_event_answers_plain_values_that_are_none_of_its_own(
    visitor: Visitor, values: list[Any]
) -> None:
    for number, takes_files in visitor.demo.events.items():
        data = [None if is_files else v for v, is_files in zip(values, takes_files, strict=False)]
        event_data = {"number": values[0], "xyxy": values[:4]}
        done = visitor.event(number, data, event_data=event_data, trigger_id=10**9)
        assert done["msg"] == "process_completed", number
        assert "/" + "etc" not in json.dumps(done)


@pytest.mark.parametrize(
    "event_data",
    [
        None, {}, [], "x", {"xyxy": None}, {"xyxy": {}}, {"xyxy": "1234"}, {"xyxy": [1, 2, 3]},
        {"xyxy": ["a", "b", "c", "d"]}, {"xyxy": [1, 1, 1, 1]}, {"xyxy": [0, 0, 1e39, 5]},
        {"xyxy": [True, True, False, False]}, {"number": 10**6}, {"number": -1}, {"number": "0"},
        {"number": {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}},
    ],
    ids=repr,
)  # fmt: skip
@pytest.mark.parametrize("number", [TAKE_EXAMPLE, ADD_PLATE, REMOVE_PLATE])
def test_what_a_part_of_the_page_tells_may_be_anything(
    visitor: Visitor, number: int, event_data: Any
) -> None:
    visitor.drop(("car.jpg", drawn_photo()))

    done = visitor.event(number, SETTINGS, event_data=event_data)

    if done["success"]:  # for there is no such plate to be removed
        assert len(done["output"]["data"][0]["plates"]) == 1
        assert not done["output"]["data"][0]["corrected"] or number == REMOVE_PLATE
    assert "Traceback" not in json.dumps(done)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b"null", b"{", b'{"fn_index": 0}', b'{"fn_index": "0", "data": []}',
        b'{"fn_index": true, "data": []}', b'{"fn_index": 99, "data": []}',
        b'{"fn_index": 28, "data": [], "session_hash": "a"}',
        b'{"fn_index": 15, "data": [], "session_hash": "../x"}',
        b'{"fn_index": 15, "data": [], "session_hash": ["a"]}',
        b'{"fn_index": 15, "data": []}',
        b'{"fn_index": 15, "session_hash": "a", "data": ' + b"[" * 30_000 + b"]" * 30_000 + b"}",
        b" " * 70_000,
    ],
    ids=lambda body: repr(body)[:60],
)  # fmt: skip
def test_what_is_no_event_is_refused(visitor: Visitor, body: bytes) -> None:
    answer = visitor.client.post(
        f"{visitor.demo.url}{API}/queue/join",
        content=body,
        headers={"Content-Type": "application/json"},
    )

    assert answer.status_code in (400, 404, 413)


def test_a_visitor_gets_nothing_of_another_whose_names_it_knows(
    visitor: Visitor, stranger: Visitor
) -> None:
    token, other = visitor.upload(("car.jpg", drawn_photo()), ("b.jpg", drawn_photo())).json()
    shown = visitor.event(TAKE, [[file_data(token)], *SETTINGS])["output"]["data"]
    path = shown[4]["value"]["path"]
    ours, theirs = f"{visitor.demo.url}{API}/file={path}", f"{stranger.demo.url}{API}/file={path}"

    assert stranger.client.get(theirs).status_code == 403
    assert stranger.client.get(theirs, headers={"Range": "bytes=0-9"}).status_code == 403
    assert stranger.client.head(theirs).status_code == 403
    assert stranger.event(BLUR_AGAIN, SETTINGS)["output"]["data"][0] is None
    assert "Drop a photo" in json.dumps(stranger.event(API_TEXTS, ["YES"])["output"])
    taken = stranger.event(TAKE, [[file_data(other)], *SETTINGS])
    assert "The upload was incomplete" in json.dumps(taken["output"])
    assert visitor.client.get(ours).status_code == 200


def test_the_answers_to_one_visitor_are_not_heard_by_another(
    visitor: Visitor, stranger: Visitor
) -> None:
    assert visitor.join(BLUR_AGAIN, SETTINGS).status_code == 200

    heard = ""
    asked = {"session_hash": visitor.session}
    # Gradio breaks the connection off, because it knows no session that is called so.
    with (
        contextlib.suppress(httpx.RemoteProtocolError),
        stranger.client.stream("GET", f"{stranger.demo.url}{API}/queue/data", params=asked) as told,
    ):
        for text in told.iter_text():
            heard += text

    assert "session_not_found" in heard
    assert "process_" not in heard
    assert visitor.answer()["success"]


FILES = ["/etc/passwd", "/proc/self/environ", "app.py", "../app.py", "", ".", "SECRET", "UPLOAD",
         "LOCK", "VISITS", "http://127.0.0.1/", "https://example.com/x.jpg", "%2e%2e/app.py",
         "//etc/passwd", "/\x00"]  # fmt: skip


@pytest.mark.parametrize("path", FILES)
def test_no_file_is_served_that_was_not_made_for_the_visitor(
    visitor: Visitor, secret: Path, path: str
) -> None:
    [token] = visitor.upload(("car.jpg", drawn_photo())).json()
    gradio = visitor.demo.folder / "gradio"
    places = {
        "SECRET": secret,
        "UPLOAD": gradio / "uploads" / token,
        "VISITS": gradio / "visits",
        "LOCK": gradio / "uploads",
    }
    asked = f"{visitor.demo.url}{API}/file={places.get(path, path)}".replace("\x00", "%00")

    assert visitor.client.get(asked).status_code == 403


ROUTES = [
    ("POST", "/run/take"), ("POST", "/run/predict"), ("POST", "/api/take"), ("POST", "/call/take"),
    ("POST", "/call/v2/take"), ("GET", "/call/take/x"), ("POST", "/component_server"),
    ("POST", "/process_recording"), ("POST", "/stream/x"), ("POST", "/stream/x/close"),
    ("GET", "/stream/a/b/1/playlist.m3u8"), ("GET", "/stream/a/b/1/playlist-file"),
    ("GET", "/proxy=http://127.0.0.1/"), ("GET", "/file/etc/passwd"), ("POST", "/reset"),
    ("POST", "/cancel"), ("POST", "/vibe-edit"), ("GET", "/vibe-code"), ("POST", "/vibe-code"),
    ("GET", "/dev/reload"), ("GET", "/runs"), ("GET", "/queue/status"), ("GET", "/user"),
    ("GET", "/openapi.json"), ("GET", "/deep_link"), ("GET", "/token"), ("GET", "/login_check"),
    ("PUT", "/upload"), ("DELETE", "/upload"), ("GET", "/custom_component/x/client/component/x"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_routes_that_the_page_does_not_use_are_closed(
    visitor: Visitor, method: str, path: str
) -> None:
    body = {"data": [[file_data("/etc/passwd")], *SETTINGS], "fn_index": 0, "session_hash": "a"}

    answer = visitor.client.request(
        method, f"{visitor.demo.url}{API}{path}", json=None if method == "GET" else body
    )

    assert answer.status_code == 404


@pytest.mark.parametrize("path", ["/monitoring", "/monitoring/summary", "/login", "/docs", "/x"])
def test_pages_that_are_none_are_closed(visitor: Visitor, path: str) -> None:
    assert visitor.client.get(visitor.demo.url + path).status_code == 404


@pytest.mark.parametrize(
    "path", ["/queue/data?session_hash=a", "/heartbeat/a", "/file=/etc/passwd", "/upload_progress"]
)
def test_without_the_pages_cookie_nothing_is_answered(demo: Demo, path: str) -> None:
    join = {"fn_index": BLUR_AGAIN, "data": SETTINGS, "session_hash": "a"}

    assert httpx.get(f"{demo.url}{API}{path}").status_code == 403
    assert httpx.post(f"{demo.url}{API}/queue/join", json=join).status_code == 403
    photo = [("files", ("a.jpg", b"x"))]
    assert httpx.post(f"{demo.url}{API}/upload", files=photo).status_code == 403
    own = {"Cookie": f"{COOKIE}=short"}
    assert httpx.post(f"{demo.url}{API}/upload", files=photo, headers=own).status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_another_sites_page_can_do_nothing(visitor: Visitor, headers: dict[str, str]) -> None:
    visitor.client.headers.update(headers)

    assert visitor.upload(("a.jpg", b"x")).status_code == 403
    assert visitor.join(BLUR_AGAIN, SETTINGS).status_code == 403


def test_the_cookie_is_for_this_page_alone_and_not_for_scripts(demo: Demo) -> None:
    told = httpx.get(f"{demo.url}/")

    path = "/demo" if demo.url.endswith("/demo") else "/"
    cookie = told.headers["set-cookie"]
    assert cookie.split("; ")[1:] == ["HttpOnly", f"Path={path}", "SameSite=Lax"]
    assert len(cookie.split("; ")[0]) == len(COOKIE) + 1 + 43
    assert told.headers["cache-control"] == "no-store"
    again = httpx.get(f"{demo.url}/", headers={"Cookie": cookie.split("; ")[0]})
    assert "set-cookie" not in again.headers


def test_scripts_are_kept_by_browsers_and_the_page_is_not(visitor: Visitor) -> None:
    page = visitor.client.get(f"{visitor.demo.url}/").text
    (script,) = re.findall(r'src="\./(assets/index-[^"]+\.js)"', page)

    kept = visitor.client.get(f"{visitor.demo.url}/{script}").headers["cache-control"]
    missing = visitor.client.get(f"{visitor.demo.url}/assets/none.js")

    assert kept == "public, max-age=31536000, immutable"
    assert missing.status_code == 404
    assert "immutable" not in missing.headers.get("cache-control", "")


@pytest.mark.parametrize("path", ["/", f"{API}/file=/etc/passwd", "/theme.css", "/none"])
def test_every_answer_keeps_other_pages_out(visitor: Visitor, path: str) -> None:
    headers = visitor.client.get(visitor.demo.url + path).headers

    policy = headers["content-security-policy"]
    assert "frame-ancestors 'none'" in policy
    assert "default-src 'self'" in policy
    assert headers["x-frame-options"] == "DENY"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


def test_a_request_with_too_much_is_refused_before_a_byte_of_it(visitor: Visitor) -> None:
    before = visitor.demo.uploads()
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    endless = visitor.client.post(
        f"{visitor.demo.url}{API}/upload", content=iter([b"x"]), headers=headers
    )
    host, port = visitor.demo.url.split("/")[2].split(":")
    path = f"{'/demo' if visitor.demo.url.endswith('/demo') else ''}{API}/upload"
    with socket.create_connection((host, int(port)), timeout=20) as raw:
        raw.sendall(
            f"POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\n"
            f"Cookie: {COOKIE}={visitor.client.cookies[COOKIE]}\r\n"
            f"Content-Type: multipart/form-data; boundary=x\r\n"
            f"Content-Length: {UPLOAD_BYTES + 1}\r\n\r\n".encode()
        )
        answer = raw.recv(100)

    assert endless.status_code == 411
    assert answer.startswith(b"HTTP/1.1 413")
    assert visitor.demo.uploads() == before


def test_uploads_are_bounded_for_a_visitor_and_come_back_when_they_are_taken(
    visitor: Visitor, stranger: Visitor
) -> None:
    before = set(visitor.demo.uploads())
    large = ("a.jpg", bytes(900_000))
    kept = [visitor.upload(large).status_code for _ in range(5)]
    tokens = [path.relative_to(visitor.demo.folder / "gradio" / "uploads").as_posix()
              for path in set(visitor.demo.uploads()) - before]  # fmt: skip

    assert kept == [200, 200, 503, 503, 503]
    assert len(tokens) == 2
    assert stranger.upload(large).status_code == 200
    visitor.event(TAKE, [[file_data(token) for token in tokens], *SETTINGS])
    assert visitor.upload(large).status_code == 200


def test_an_upload_that_breaks_off_leaves_nothing(visitor: Visitor) -> None:
    before = files_in(visitor.demo.folder)
    host, port = visitor.demo.url.split("/")[2].split(":")
    path = f"{'/demo' if visitor.demo.url.endswith('/demo') else ''}{API}/upload"
    with socket.create_connection((host, int(port))) as raw:
        raw.sendall(
            f"POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\n"
            f"Cookie: {COOKIE}={visitor.client.cookies[COOKIE]}\r\n"
            f"Content-Type: multipart/form-data; boundary=x\r\n"
            f"Content-Length: 1800000\r\n\r\n--x\r\n"
            'Content-Disposition: form-data; name="files"; filename="a.jpg"\r\n\r\n'.encode()
            + bytes(1_500_000)
        )
    end_s = time.monotonic() + 20
    while visitor.upload(("a.jpg", bytes(1_000_000))).status_code != 200:
        assert time.monotonic() < end_s, "the room was not given back"
        time.sleep(0.1)

    left = files_in(visitor.demo.folder) - before
    assert [path.stat().st_size for path in left] == [1_000_000]


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"a=b", "application/x-www-form-urlencoded"),
        (b"--x--\r\n", "multipart/form-data"),
        (b"garbage", "multipart/form-data; boundary=x"),
        (b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n--x--\r\n',
         "multipart/form-data; boundary=x"),
    ],
    ids=["no form", "no boundary", "garbage", "a field"],
)  # fmt: skip
def test_what_is_no_upload_form_is_refused(visitor: Visitor, content: bytes, kind: str) -> None:
    answer = visitor.client.post(
        f"{visitor.demo.url}{API}/upload", content=content, headers={"Content-Type": kind}
    )

    assert answer.status_code == 400 or answer.json() == []


def test_more_photos_than_are_taken_are_refused_together(visitor: Visitor) -> None:
    before = visitor.demo.uploads()

    assert visitor.upload(*[(f"{n}.jpg", b"x") for n in range(21)]).status_code == 400
    assert visitor.demo.uploads() == before


def test_a_photo_is_kept_for_training_by_its_visitor_alone(
    visitor: Visitor, stranger: Visitor
) -> None:
    visitor.drop(("car.jpg", drawn_photo(quality=71)))
    review = visitor.demo.folder / "review"

    refused = [
        stranger.event(KEEP, [True, *SETTINGS]),
        visitor.event(KEEP, [False, *SETTINGS]),
        visitor.event(KEEP, ["yes", *SETTINGS]),
    ]
    assert not any(each["success"] for each in refused)
    assert not list(review.rglob("*.jpg"))
    assert visitor.event(KEEP, [True, *SETTINGS])["success"]
    assert len(list(review.rglob("*.jpg"))) == 1


def test_one_address_cannot_fill_the_queue(visitor: Visitor) -> None:
    tokens = visitor.upload(*[("a.jpg", drawn_photo())] * 10).json()
    CountingDetector.may_go_on.clear()
    try:
        joined = [
            visitor.join(TAKE, [[file_data(token)], *SETTINGS]).status_code for token in tokens
        ]
    finally:
        CountingDetector.may_go_on.set()

    assert joined[:8] == [200] * 8
    assert joined[8:] == [503] * 2
    assert visitor.answer()["msg"] == "process_completed"
    end_s = time.monotonic() + 60
    while visitor.join(BLUR_AGAIN, SETTINGS).status_code != 200:
        assert time.monotonic() < end_s
        time.sleep(0.1)


def test_pages_that_stay_open_are_bounded_for_one_address(visitor: Visitor) -> None:
    with contextlib.ExitStack() as open_pages:
        statuses = []
        for number in range(18):
            stream = visitor.client.stream("GET", f"{visitor.demo.url}{API}/heartbeat/s{number}")
            statuses.append(open_pages.enter_context(stream).status_code)

    assert statuses.count(429) >= 2
    assert statuses[:10] == [200] * 10


def test_an_example_of_what_is_shown_holds_no_path_of_an_upload(visitor: Visitor) -> None:
    [token] = visitor.upload(("car.jpg", drawn_photo())).json()

    assert not token.startswith("/")
    assert str(visitor.demo.folder) not in token
    assert io.BytesIO(token.encode()).read().endswith(b"/car.jpg")


def send_frame(visitor: Visitor, content: bytes, **more: Any) -> httpx.Response:
    asked = {"method": "solid", **more.pop("params", {})}
    return visitor.client.post(f"{visitor.demo.url}/live", content=content, params=asked, **more)


def test_a_frame_of_the_live_view_comes_back_blurred(visitor: Visitor) -> None:
    before = files_in(visitor.demo.folder)
    answer = send_frame(visitor, drawn_photo())

    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["x-plates"] == "1"
    assert answer.headers["cache-control"] == "no-store"
    assert contrast(np.asarray(opened(answer.content)), PLATE) < 20
    assert files_in(visitor.demo.folder) <= before


@pytest.mark.parametrize(
    ("content", "more", "status"),
    [
        (b"", {}, 400),
        (b"hello", {}, 400),
        (drawn_photo("PNG"), {}, 400),
        (drawn_photo(), {"params": {"method": "none"}}, 400),
        (bytes(FRAME_BYTES + 1), {}, 413),
        (drawn_photo(), {"headers": {"Origin": "https://elsewhere.example"}}, 403),
    ],
    ids=["nothing", "no photo", "no JPEG", "no method", "too large", "another site's page"],
)
def test_what_is_no_frame_is_refused(
    visitor: Visitor, content: bytes, more: dict[str, Any], status: int
) -> None:
    answer = send_frame(visitor, content, **more)

    assert answer.status_code == status
    assert not answer.content.startswith(b"\xff\xd8")


def test_a_frame_without_a_length_or_a_cookie_is_refused(visitor: Visitor) -> None:
    def chunks() -> Iterator[bytes]:
        yield drawn_photo()

    endless = visitor.client.post(f"{visitor.demo.url}/live", content=chunks())
    visitor.client.cookies.clear()
    unknown = send_frame(visitor, drawn_photo())

    assert (endless.status_code, unknown.status_code) == (411, 403)


def test_one_visitor_has_one_frame_in_work(visitor: Visitor) -> None:
    CountingDetector.may_go_on.clear()
    first: list[httpx.Response] = []
    thread = threading.Thread(target=lambda: first.append(send_frame(visitor, drawn_photo())))
    looked = CountingDetector.looked
    thread.start()
    try:
        end_s = time.monotonic() + 60
        while CountingDetector.looked == looked:
            assert time.monotonic() < end_s
            time.sleep(0.01)
        second = send_frame(visitor, drawn_photo())
    finally:
        CountingDetector.may_go_on.set()
        thread.join()

    assert second.status_code == 503
    assert first[0].status_code == 200
