"""Who may talk to the workspace: the browser that was given its address, and no other page in it.

The server listens on this machine alone. That keeps out other machines, but not the pages that a
browser shows, so each request must name this server as its host (against DNS rebinding), must not
come from another site or another port, and must have the cookie that the token was traded for.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY_BYTES = 4 << 20  # 500 boxes of a photo take 100 kB; an hour's clip with 2,000 plates 2 MB
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
CLOSED = "Open the address that plateblur review printed in its terminal.\n"
OWN_SITES = ("same-origin", "none")  # Source: Fetch Metadata; none is an address that was typed


@dataclass(frozen=True, slots=True)
class Guard:
    """Lets through what comes from the page itself.

    Attributes:
        app: what is guarded.
        port: that the server listens on.
        token: what the address has that was printed.
    """

    app: ASGIApp
    port: int
    token: str

    @property
    def cookie(self) -> str:
        """Name of the cookie; cookies are shared by all ports of a host."""
        return f"plateblur-review-{self.port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        answer = self._refusal(Request(scope))
        await (answer or self.app)(scope, receive, with_headers)

    def _refusal(self, request: Request) -> Response | None:
        headers = request.headers
        host = headers.get("host", "")
        if host not in (f"127.0.0.1:{self.port}", f"localhost:{self.port}"):
            return PlainTextResponse("This server is only for the machine it runs on.\n", 421)
        given = parse_qs(request.url.query).get("token", [""])[0]
        if request.method == "GET" and request.url.path == "/" and given:
            if not secrets.compare_digest(given.encode(), self.token.encode()):
                return PlainTextResponse(CLOSED, 403)
            answer = RedirectResponse("/", 303)
            answer.set_cookie(self.cookie, self.token, httponly=True, samesite="strict", path="/")
            return answer
        if not self._is_ours(headers, request, host):
            return PlainTextResponse(CLOSED, 403)
        if request.method not in ("GET", "HEAD"):
            length = headers.get("content-length", "")
            if not length.isdecimal() or "transfer-encoding" in headers:
                return PlainTextResponse("Expected a body with its length.\n", 411)
            if int(length) > MAX_BODY_BYTES:
                return PlainTextResponse("The body is too long.\n", 413)
        return None

    def _is_ours(self, headers: Headers, request: Request, host: str) -> bool:
        if headers.get("sec-fetch-site", "none") not in OWN_SITES:
            return False
        if request.method not in ("GET", "HEAD") and headers.get("origin") != f"http://{host}":
            return False
        held = request.cookies.get(self.cookie, "")
        return secrets.compare_digest(held.encode(), self.token.encode())
