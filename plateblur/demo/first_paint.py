"""What the demo shows until Gradio has drawn its page: the title and the opening scene, blurred.

Gradio's page is empty until about eighty scripts and styles are there. The scene is in that page
already, as a value of the viewer, so it is shown from there and takes no request of its own.

Gradio's page also describes itself to sites that preview links: as "Gradio", with a picture on
another host. That is replaced by a description of this page.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SCRIPTS = b"<script"  # the first one ends what describes the page
PREVIEW = re.compile(rb'<meta\s+(?:property="og:|name="twitter:)[^>]*>')
BODY = b"<gradio-app"  # what Gradio's page is drawn into


@dataclass(frozen=True, slots=True)
class FirstPaint:
    """Wraps Gradio's application, and adds to its page.

    Attributes:
        app: Gradio's application, of which the page is the only HTML.
        head: describes the page, in place of Gradio's own description.
        html: what the page's body begins with; the viewer's script removes it.
    """

    app: ASGIApp
    head: str
    html: str

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start: Message | None = None
        page = bytearray()

        async def sent(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start" and _is_page(message):
                start = message  # sent when its length is known
            elif start is not None and message["type"] == "http.response.body":
                page.extend(message.get("body", b""))
                if not message.get("more_body", False):
                    whole = self._with_html(bytes(page))
                    MutableHeaders(scope=start)["content-length"] = str(len(whole))
                    await send(start)
                    await send({"type": "http.response.body", "body": whole})
            else:
                await send(message)

        await self.app(scope, receive, sent)

    def _with_html(self, page: bytes) -> bytes:
        description, scripts, rest = page.partition(SCRIPTS)
        before, body, after = rest.partition(BODY)
        if not scripts or not body:
            return page
        description = PREVIEW.sub(b"", description) + self.head.encode()
        return description + scripts + before + self.html.encode() + body + after


def _is_page(start: Message) -> bool:
    headers = MutableHeaders(scope=start)
    is_html = headers.get("content-type", "").startswith("text/html")
    return is_html and start["status"] == HTTPStatus.OK
