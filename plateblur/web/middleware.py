"""Middleware for every request: reference, log, headers, unexpected errors, unread bodies."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress

from fastapi import Request
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from plateblur.web.failures import DOCUMENTED_PATH, Failure, answer_failure, forget
from plateblur.web.logs import where_raised
from plateblur.web.metrics import Metrics
from plateblur.web.settings import Settings

LOG = logging.getLogger("plateblur.web")

HEAR_OUT_BYTES = 64 * 1024 * 1024  # Twelve times the limit: photos straight from a camera.
HEAR_OUT_IDLE_S = 10.0  # An active sender is never silent for longer.
LINGER_IDLE_S = 3.0  # .NET waits 0.35 s for "100 Continue", curl 1 s, before they send anyway.
CLIENT_GONE_STATUS = 499  # Source: nginx's code for a client that closed the connection.

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "media-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
ANSWER_POLICY = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
HEADERS: Mapping[str, str] = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=()",
    "Cross-Origin-Opener-Policy": "same-origin",
}
HSTS = "max-age=31536000; includeSubDomains"  # Source: hstspreload.org, at least a year.


class Observe:
    """Gives each request a reference, logs and counts it, and adds strict headers."""

    def __init__(self, app: ASGIApp, *, settings: Settings, metrics: Metrics) -> None:
        self.app = app
        self._settings = settings
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if scope["path"].lower() == DOCUMENTED_PATH:  # any case, as the original service's server
            scope["path"] = DOCUMENTED_PATH
        state = scope.setdefault("state", {})
        state["reference"] = uuid.uuid4().hex[:16]
        started = time.perf_counter()
        status = CLIENT_GONE_STATUS
        sent_bytes = 0

        async def observed(message: Message) -> None:
            nonlocal status, sent_bytes
            if message["type"] == "http.response.start":
                status = message["status"]
                self._add_headers(
                    MutableHeaders(scope=message),
                    state["reference"],
                    static=scope["path"].startswith(("/static/", "/console/static/")),
                )
            elif message["type"] == "http.response.body":
                sent_bytes += len(message.get("body", b""))
            await send(message)

        try:
            await self.app(scope, receive, observed)
        finally:
            route = getattr(scope.get("route"), "path", None) or "-"
            duration_s = time.perf_counter() - started
            cd = state.get("cd", "")
            self._metrics.requests.labels(route, str(status), cd).inc()
            self._metrics.duration_s.labels(route).observe(duration_s)
            LOG.info(
                "request",
                extra={
                    "fields": {
                        "reference": state["reference"],
                        "method": scope["method"],
                        "route": route,
                        "status": status,
                        "cd": cd or None,
                        "account": state.get("account_id"),
                        "duration_ms": round(duration_s * 1000, 1),
                        "body_bytes": state.get("body_bytes"),
                        "sent_bytes": sent_bytes,
                    }
                },
            )

    def _add_headers(self, headers: MutableHeaders, reference: str, *, static: bool) -> None:
        for name, value in HEADERS.items():
            headers.setdefault(name, value)
        is_page = headers.get("content-type", "").startswith("text/html")
        headers.setdefault("Content-Security-Policy", PAGE_POLICY if is_page else ANSWER_POLICY)
        headers.setdefault("Cache-Control", "no-cache" if static else "no-store")
        headers["X-Request-Id"] = reference
        if self._settings.mode == "production":
            headers.setdefault("Strict-Transport-Security", HSTS)


class LastNet:
    """Turns unexpected errors into 2001 with a reference; the log says where they happened."""

    def __init__(self, app: ASGIApp, *, settings: Settings) -> None:
        self.app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def noted(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, noted)
        except Exception as error:  # noqa: BLE001 - the client gets a response whatever it was
            request = Request(scope)
            # Not the error's message, because it could contain anything.
            LOG.error(
                "unexpected error",
                extra={
                    "fields": {
                        "reference": request.state.reference,
                        "error": type(error).__name__,
                        "where": where_raised(error),
                    }
                },
            )
            forget(error)
            if started:
                return
            failure = Failure("2001", "Something unexpected happened on our side.")
            real = self._settings.real_status_codes
            response = answer_failure(request, failure, real_status_codes=real)
            await response(scope, receive, send)


class HearOut:
    """Reads the rest of a refused body before the early response is sent.

    The documented client, .NET's `WebClient`, reads nothing before it has written everything. For
    it, an earlier response and a closed connection are a network error. The rest is discarded, and
    limited in bytes and time.

    If the client asked for "100 Continue" and did not get it, the response is sent first. The same
    goes for a body that is too long to read or took too long. What the client sends nevertheless is
    read while the connection is still open, so that it can read the response.
    """

    def __init__(self, app: ASGIApp, *, hear_out_s: float) -> None:
        self.app = app
        self._hear_out_s = hear_out_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        announced = headers.get("content-length", "0")  # Digits; the server refuses anything else.
        body_ended = int(announced) == 0 and "transfer-encoding" not in headers
        # The first read of the body sends "100 Continue" to a client that waits for it.
        sends_now = "expect" not in headers
        linger_s: float | None = None

        async def counted() -> Message:
            nonlocal body_ended, sends_now
            sends_now = True
            message = await receive()
            body_ended = body_ended or not message.get("more_body", False)
            return message

        async def hearing(message: Message) -> None:
            nonlocal linger_s
            if message["type"] == "http.response.start" and not body_ended:
                MutableHeaders(scope=message)["Connection"] = "close"
                if not scope["state"].get("hear_out", True):
                    linger_s = LINGER_IDLE_S
                elif not sends_now or int(announced) > HEAR_OUT_BYTES:
                    linger_s = self._hear_out_s
                else:
                    await _take_in(counted, timeout_s=self._hear_out_s, idle_s=HEAR_OUT_IDLE_S)
            ends = message["type"] == "http.response.body" and not message.get("more_body", False)
            if ends and linger_s is not None:
                await send({**message, "more_body": True})
                await _take_in(counted, timeout_s=linger_s, idle_s=LINGER_IDLE_S)
                message = {"type": "http.response.body", "body": b"", "more_body": False}
            await send(message)

        await self.app(scope, counted, hearing)


async def _take_in(receive: Receive, *, timeout_s: float, idle_s: float) -> None:
    """Read and discard until the end, `HEAR_OUT_BYTES`, or a timeout."""
    taken = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            while taken < HEAR_OUT_BYTES:
                async with asyncio.timeout(idle_s):
                    message = await receive()
                taken += len(message.get("body", b""))
                if not message.get("more_body", False):
                    return


WAS_HEAD = "plateblur_was_head"  # in the scope


class HeadAsGet:
    """Answers HEAD like GET without the body, for probes and caches."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self.app(scope, receive, send)
            return

        async def bodiless(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        as_get = {**scope, "method": "GET", WAS_HEAD: True}
        try:
            await self.app(as_get, receive, bodiless)
        finally:
            scope["route"] = as_get.get("route")  # For the log.
