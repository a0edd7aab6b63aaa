"""What stands around every request: reference, log line, headers, the last net, the body's rest."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Mapping

from fastapi import Request
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from plateblur.web.failures import Failure, answer_failure
from plateblur.web.logs import where_raised
from plateblur.web.metrics import Metrics
from plateblur.web.settings import Settings

LOG = logging.getLogger("plateblur.web")

DRAIN_BYTES = 20 * 1024 * 1024  # Four times what is taken: a sender who overshot by a bit is heard.
CLIENT_GONE_STATUS = 499  # Source: nginx's code for a client that closed the connection.

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
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
    """Gives each request a reference, writes one log line and counts it; sends strict headers."""

    def __init__(self, app: ASGIApp, *, settings: Settings, metrics: Metrics) -> None:
        self.app = app
        self._settings = settings
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
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
                    "told": {
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
    """Answers what no route expected with 2001 and a reference; the log says where it happened."""

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
        except Exception as error:  # noqa: BLE001 - the border: whatever it was, the client is told
            request = Request(scope)
            # Not the message of the error: what failed may have put anything into it.
            LOG.error(
                "unexpected error",
                extra={
                    "told": {
                        "reference": request.state.reference,
                        "error": type(error).__name__,
                        "where": where_raised(error),
                    }
                },
            )
            if started:
                return
            failure = Failure("2001", "Something unexpected happened on our side.")
            real = self._settings.real_status_codes
            response = answer_failure(request, failure, real_status_codes=real)
            await response(scope, receive, send)


class HearOut:
    """Sends an early answer at once, then takes in the rest of the body before the connection ends.

    Closing on a client that still sends makes its TCP stack throw our answer away; the documented
    client then never sees the error array. What is taken in is dropped, and bounded.
    """

    def __init__(self, app: ASGIApp, *, hear_out_s: float) -> None:
        self.app = app
        self._hear_out_s = hear_out_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        names = {name for name, _ in scope["headers"]}
        body_ended = not names & {b"content-length", b"transfer-encoding"}
        # Who waits for "100 Continue" sends nothing before it, so there is nothing to take in.
        asked_to_continue = b"expect" not in names

        async def counted() -> Message:
            nonlocal body_ended, asked_to_continue
            asked_to_continue = True
            message = await receive()
            body_ended = body_ended or not message.get("more_body", False)
            return message

        async def hearing(message: Message) -> None:
            if message["type"] == "http.response.start" and not body_ended:
                MutableHeaders(scope=message)["Connection"] = "close"
            ends = message["type"] == "http.response.body" and not message.get("more_body", False)
            if ends and not body_ended and asked_to_continue:
                await send({**message, "more_body": True})
                await _take_in(counted, timeout_s=self._hear_out_s)
                message = {"type": "http.response.body", "body": b"", "more_body": False}
            await send(message)

        await self.app(scope, counted, hearing)


async def _take_in(receive: Receive, *, timeout_s: float) -> None:
    taken = 0
    try:
        async with asyncio.timeout(timeout_s):
            while taken < DRAIN_BYTES:
                message = await receive()
                taken += len(message.get("body", b""))
                if not message.get("more_body", False):
                    return
    except TimeoutError:
        return
