"""The only way to the demo's page: which requests reach Gradio, and which parts of them.

Gradio is made to be open: it has about sixty routes and trusts much of what a browser sends. The
page needs few of them. `Door` is in front of Gradio and only lets those through:

- A visitor is identified by a random cookie, set when the page is opened. The browser also sends
  the name of its session; the page uses a digest of both, so that knowing a session's name gives
  no access to its photos.
- Uploads end here (`uploads.py`), limited before they are written. Gradio never sees them.
- Of an event, only its number, its session and plain values are passed on: numbers, short texts,
  switches. A file is the token of one of the visitor's own uploads, so that paths can't be sent.
- A frame of the live view is a request of its own, limited in size and in how many are in work. It
  isn't written anywhere.
- A download is only given to the visitor for whom it was made.
- Requests from other sites' pages are refused, and other sites can't show the page in a frame.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import re
import secrets
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import orjson
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from plateblur.demo.live import FRAME_BYTES, BusyError, LiveView
from plateblur.demo.uploads import Arriving, MoreThanAnnouncedError, NoRoomError, Uploads
from plateblur.demo.visits import folder_of_visitor
from plateblur.errors import PlateblurError

COOKIE = "plateblur_demo"
COOKIE_PATTERN = re.compile(r"[A-Za-z0-9_-]{43}")  # 256 bits, as `secrets.token_urlsafe` writes
SESSION_PATTERN = re.compile(r"[A-Za-z0-9_-]{1,64}")  # Gradio's are some ten letters and digits
API = "/gradio_api"
LIVE = "/live"  # where the live view sends its frames
EVENT_BYTES = 64 * 1024  # of an event's body; the page's own are below 10,000
TEXT_CHARS = 4096  # of one text in an event; URLs are the longest
UPLOAD_S = 300.0  # for an upload to arrive: 100 MB over a slow line
FRAME_S = 10.0  # for a frame of the live view to arrive
WAITING = 8  # events per address, waiting or running, of 32 in total
STREAMS = 16  # open per address; each page has two
TOTAL_STREAMS = 512

PAGE_PATHS = re.compile(
    r"/|/config/?|/theme\.css|/favicon\.ico|/manifest\.json|/robots\.txt"
    rf"|/(?:assets|static|svelte)/.*|{API}/(?:theme\.css|startup-events|app_id/?|info/?)"
)
"""What is the same for everybody: the page, its scripts and styles."""

Json = Any


class NotTakenError(Exception):
    """A request that the page never makes; the message is sent to the client."""

    def __init__(self, message: str, status: int = HTTPStatus.BAD_REQUEST) -> None:
        super().__init__(message)
        self.message = message
        self.status = status


@dataclass(frozen=True, slots=True)
class Visitor:
    """The sender of a request.

    Attributes:
        name: digest of the cookie; fit for the name of a folder.
        address: network address.
    """

    name: str
    address: str

    def session(self, given: object) -> str:
        """Return the page's name of a session.

        Args:
            given: the browser's name of it.

        Raises:
            NotTakenError: not a session's name.
        """
        if not isinstance(given, str) or not SESSION_PATTERN.fullmatch(given):
            raise NotTakenError("Expected the name of a session.")
        digest = hashlib.sha256(f"{self.name}/{given}".encode()).hexdigest()[:32]
        return f"{self.name}.{digest}"


class Door:
    """Wraps Gradio's application."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        folder: Path,
        uploads: Uploads,
        live: LiveView,
        events: Mapping[int, tuple[bool, ...]],
        waiting: Callable[[str], int],
        headers: Mapping[str, str],
        upload_bytes: int,
        upload_files: int,
    ) -> None:
        """Wrap `app`.

        Args:
            app: Gradio's application.
            folder: under which `folder_of_visitor` is.
            uploads: where uploads go.
            live: what blurs the frames of the live view.
            events: the allowed events by number, and whether each of their inputs takes files.
            waiting: returns how many events of a network address are waiting or running.
            headers: of every answer.
            upload_bytes: of one request with uploads.
            upload_files: in one request.
        """
        self.app = app
        self._folder = folder
        self._uploads = uploads
        self._live = live
        self._events = dict(events)
        self._waiting = waiting
        self._headers = dict(headers)
        self._upload_bytes = upload_bytes
        self._upload_files = upload_files
        self._streams: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it here."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # the page opens no web socket
            await send({"type": "websocket.close", "code": 1008})
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self._headers)
            await send(message)

        try:
            await self._admit(scope, receive, with_headers)
        except NotTakenError as refused:
            answer = PlainTextResponse(refused.message, status_code=refused.status)
            await answer(scope, receive, with_headers)

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        method, headers = scope["method"], Headers(scope=scope)
        if method in ("GET", "HEAD") and PAGE_PATHS.fullmatch(path):
            kept = _to_be_kept(send) if path.startswith("/assets/") else send
            await self.app(scope, receive, _with_cookie(scope, headers, kept))
            return
        _require_same_origin(headers)
        visitor = _visitor(scope, headers)
        if (method, path) == ("POST", f"{API}/upload"):
            answer = await self._upload(visitor, scope, receive)
            await answer(scope, receive, send)
        elif (method, path) == ("POST", f"{API}/queue/join"):
            if self._waiting(visitor.address) >= WAITING:
                message = "Too many requests at once. Please wait until the current ones are done."
                raise NotTakenError(message, HTTPStatus.SERVICE_UNAVAILABLE)
            body = await self._event(visitor, headers, Request(scope, receive))
            await self.app(_of_length(scope, len(body)), _with_body(body, receive), send)
        elif (method, path) == ("POST", LIVE):
            answer = await self._frame(visitor, Request(scope, receive))
            await answer(scope, receive, send)
        elif (method, path) == ("GET", f"{API}/upload_progress"):
            # An event source does not reconnect after this status. Progress can't be reported,
            # because an upload's file is unknown here until it has arrived.
            await Response(status_code=HTTPStatus.NO_CONTENT)(scope, receive, send)
        elif (method, path) == ("GET", f"{API}/queue/data"):
            session = parse_qs(scope["query_string"].decode("latin-1")).get("session_hash", [""])[0]
            query = urlencode({"session_hash": visitor.session(session)}).encode()
            await self._stream(visitor, {**scope, "query_string": query}, receive, send)
        elif method == "GET" and path.startswith(f"{API}/heartbeat/"):
            session = visitor.session(path.rsplit("/", 1)[1])
            await self._stream(visitor, _at(scope, f"{API}/heartbeat/{session}"), receive, send)
        elif method in ("GET", "HEAD") and path.startswith(f"{API}/file="):
            self._require_own(visitor, path.removeprefix(f"{API}/file="))
            await self.app(scope, receive, send)
        else:
            raise NotTakenError("Page not found.", HTTPStatus.NOT_FOUND)

    async def _upload(self, visitor: Visitor, scope: Scope, receive: Receive) -> Response:
        """Write the files of a request, and return the tokens that they are known by."""
        headers = Headers(scope=scope)
        length = _length(headers)
        if length > self._upload_bytes:
            most = self._upload_bytes / 1024**2
            raise NotTakenError(
                f"Uploads can have at most {most:.0f} MB in total; this one has "
                f"{length / 1024**2:.0f} MB.",
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            )
        _, options = parse_options_header(headers.get("content-type", ""))
        request = Request(scope, receive)
        try:
            with self._uploads.receiving(
                visitor.name, visitor.address, size_bytes=length, files=self._upload_files
            ) as arriving:
                form = _Form(options.get(b"boundary", b""), arriving)
                async with asyncio.timeout(UPLOAD_S):
                    async for chunk in request.stream():
                        await run_in_threadpool(form.write, chunk)
        except NoRoomError as error:
            raise NotTakenError(
                f"The demo is full at the moment: {error}. Please try again in a minute.",
                HTTPStatus.SERVICE_UNAVAILABLE,
            ) from error
        except (FormParserError, MoreThanAnnouncedError, ValueError) as error:
            message = f"Expected a form with up to {self._upload_files} files."
            raise NotTakenError(message) from error
        except (ClientDisconnect, TimeoutError) as error:
            raise NotTakenError(
                "The upload did not complete.", HTTPStatus.REQUEST_TIMEOUT
            ) from error
        return JSONResponse(list(arriving.paths))

    async def _frame(self, visitor: Visitor, request: Request) -> Response:
        """Return a frame of the live view, blurred."""
        if _length(request.headers) > FRAME_BYTES:
            raise NotTakenError("The frame is too large.", HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        method = request.query_params.get("method", "")
        try:
            async with asyncio.timeout(FRAME_S):
                data = await request.body()
            blurred, plates = await run_in_threadpool(
                self._live.blur, visitor.name, visitor.address, data, method
            )
        except BusyError as error:
            message = "The live view is busy. It goes on when there is room."
            raise NotTakenError(message, HTTPStatus.SERVICE_UNAVAILABLE) from error
        except (PlateblurError, ValueError) as error:
            message = "This frame could not be blurred, so it is not shown."
            raise NotTakenError(message) from error
        except (ClientDisconnect, TimeoutError) as error:
            message = "The frame did not arrive."
            raise NotTakenError(message, HTTPStatus.REQUEST_TIMEOUT) from error
        headers = {"Cache-Control": "no-store", "X-Plates": str(plates)}
        return Response(blurred, media_type="image/jpeg", headers=headers)

    async def _event(self, visitor: Visitor, headers: Headers, request: Request) -> bytes:
        """Return the body of an event as Gradio gets it: what the page could have sent."""
        if _length(headers) > EVENT_BYTES:
            raise NotTakenError("The event is too long.", HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        try:
            body = orjson.loads(await request.body())
        except (orjson.JSONDecodeError, ClientDisconnect) as error:
            raise NotTakenError("Expected JSON.") from error
        if not isinstance(body, dict):
            raise NotTakenError("Expected a JSON object.")
        number = body.get("fn_index")
        takes_files = self._events.get(number) if type(number) is int else None
        if takes_files is None:
            raise NotTakenError("Event not found.", HTTPStatus.NOT_FOUND)
        data = body.get("data")
        if not isinstance(data, list) or len(data) != len(takes_files):
            raise NotTakenError(f"Expected {len(takes_files)} values.")
        trigger = body.get("trigger_id")
        return orjson.dumps(
            {
                "session_hash": visitor.session(body.get("session_hash")),
                "fn_index": number,
                "trigger_id": trigger if type(trigger) is int else None,
                "event_data": _event_data(body.get("event_data")),
                "data": [
                    self._files(value) if is_files else _plain(value)
                    for value, is_files in zip(data, takes_files, strict=True)
                ],
            }
        )

    def _files(self, value: Json) -> list[str]:
        """Return the tokens of the uploads that an event names, which `Uploads.take` checks."""
        given = value if isinstance(value, list) else [] if value is None else [value]
        if len(given) > self._upload_files:
            raise NotTakenError(f"Expected up to {self._upload_files} files.")
        tokens = [each.get("path") if isinstance(each, dict) else None for each in given]
        if not all(isinstance(token, str) and len(token) <= TEXT_CHARS for token in tokens):
            raise NotTakenError("Expected uploaded files.")
        return [str(token) for token in tokens]

    async def _stream(self, visitor: Visitor, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on a long-lived request, limited per address and in total."""
        of_one, of_all = self._streams[visitor.address], self._streams.total()
        if of_one >= STREAMS or of_all >= TOTAL_STREAMS:
            raise NotTakenError("Too many open pages.", HTTPStatus.TOO_MANY_REQUESTS)
        self._streams[visitor.address] += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self._streams[visitor.address] -= 1
            self._streams += Counter()  # which drops those at 0

    def _require_own(self, visitor: Visitor, given: str) -> None:
        """Raise `NotTakenError` unless a path is a regular file made for this visitor."""
        own = folder_of_visitor(self._folder, visitor.name).resolve()
        try:
            path = Path("/", given)
            is_own = path == path.resolve() and path.is_relative_to(own) and path.is_file()
        except (OSError, ValueError, RuntimeError):
            is_own = False
        if not is_own:
            raise NotTakenError("File not found.", HTTPStatus.FORBIDDEN)


def _visitor(scope: Scope, headers: Headers) -> Visitor:
    cookie = _cookie(headers)
    if cookie is None:
        raise NotTakenError(
            "Please allow cookies for this page and reload it.", HTTPStatus.FORBIDDEN
        )
    host = (scope.get("client") or ("", 0))[0]
    return Visitor(hashlib.sha256(cookie.encode()).hexdigest()[:32], str(host))


def _cookie(headers: Headers) -> str | None:
    for line in headers.getlist("cookie"):
        for part in line.split(";"):
            name, _, value = part.strip().partition("=")
            if name == COOKIE and COOKIE_PATTERN.fullmatch(value):
                return value
    return None


def _with_cookie(scope: Scope, headers: Headers, send: Send) -> Send:
    """Return `send`, setting the visitor's cookie if it is missing."""
    if _cookie(headers) is not None:
        return send
    cookie: SimpleCookie = SimpleCookie({COOKIE: secrets.token_urlsafe(32)})
    cookie[COOKIE] |= {"path": scope.get("root_path") or "/", "httponly": True, "samesite": "Lax"}
    if scope["scheme"] == "https":
        cookie[COOKIE]["secure"] = True

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            answer = MutableHeaders(scope=message)
            if answer.get("content-type", "").startswith("text/html"):
                answer.append("Set-Cookie", cookie.output(header="").strip())
                answer["Cache-Control"] = "no-store"  # or two visitors could be given one cookie
        await send(message)

    return sent


def _to_be_kept(send: Send) -> Send:
    """Return `send`, letting browsers keep a file whose name has a hash of its content."""

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] == HTTPStatus.OK:
            MutableHeaders(scope=message)["Cache-Control"] = "public, max-age=31536000, immutable"
        await send(message)

    return sent


def _require_same_origin(headers: Headers) -> None:
    origin = headers.get("origin")
    site = headers.get("sec-fetch-site")  # which browsers omit without TLS
    if site is None:
        is_own = origin is None or urlsplit(origin).netloc == headers.get("host", "")
    else:
        is_own = site in ("same-origin", "none")
    if not is_own:
        raise NotTakenError("Expected a request of this page.", HTTPStatus.FORBIDDEN)


def _length(headers: Headers) -> int:
    length = headers.get("content-length", "")
    if not re.fullmatch(r"[0-9]{1,15}", length):
        raise NotTakenError("Expected Content-Length.", HTTPStatus.LENGTH_REQUIRED)
    return int(length)


class _Form:
    """Writes the files of a form as they arrive."""

    def __init__(self, boundary: bytes, arriving: Arriving) -> None:
        """Begin a form.

        Raises:
            FormParserError: `boundary` is not a boundary.
        """
        self._arriving = arriving
        self._header = self._disposition = b""
        self._value = b""
        # The parser limits the number and length of a part's headers.
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._header_name,
                "on_header_value": self._header_value,
                "on_header_end": self._end_header,
                "on_headers_finished": self._begin_file,
                "on_part_data": self._write,
                "on_part_end": arriving.end,
            },
        )

    def write(self, chunk: bytes) -> None:
        """Take in more of the form.

        Raises:
            FormParserError: not a form, or it has a field that is not a file.
            MoreThanAnnouncedError: it is larger than announced.
        """
        self._parser.write(chunk)

    def _begin(self) -> None:
        self._header = self._value = self._disposition = b""

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header = self._value = b""

    def _begin_file(self) -> None:
        _, options = parse_options_header(self._disposition)
        if b"filename" not in options:
            raise FormParserError("a field that is no file")
        self._arriving.begin(options[b"filename"].decode("utf-8", "replace"))

    def _write(self, data: bytes, start: int, end: int) -> None:
        self._arriving.write(data[start:end])


def _plain(value: Json) -> str | int | float | bool | None:
    """Return a plain value.

    Raises:
        NotTakenError: a list, an object, a long text, or not a finite number.
    """
    if isinstance(value, str) and len(value) <= TEXT_CHARS:
        return value
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float) and math.isfinite(value):
        return value
    raise NotTakenError("Expected numbers, switches and short texts.")


def _event_data(value: Json) -> dict[str, Json] | None:
    """Return an event's data: plain values and short lists."""
    if not isinstance(value, dict) or len(value) > 8:
        return None
    taken: dict[str, Json] = {}
    for name, each in value.items():
        if isinstance(each, list):
            if len(each) > 8:
                raise NotTakenError("Expected short lists.")
            taken[name] = [_plain(part) for part in each]
        elif not isinstance(each, dict):
            taken[name] = _plain(each)
    return taken


def _of_length(scope: Scope, length: int) -> Scope:
    """Return a request's scope for another body, of JSON and nothing else."""
    headers = [
        (name, value)
        for name, value in scope["headers"]
        if name not in (b"content-length", b"content-type", b"transfer-encoding")
    ]
    headers += [(b"content-type", b"application/json"), (b"content-length", str(length).encode())]
    return {**scope, "headers": headers, "query_string": b""}


def _with_body(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives `body`, then the connection's messages."""
    given = False

    async def next_message() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return next_message


def _at(scope: Scope, path: str) -> Scope:
    whole = scope.get("root_path", "") + path
    return {**scope, "path": whole, "raw_path": whole.encode(), "query_string": b""}
