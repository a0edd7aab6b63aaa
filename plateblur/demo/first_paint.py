"""What the demo shows until Gradio has drawn its page: the title and the opening scene, blurred.

Gradio's page is empty until about eighty scripts and styles are there. The scene is in that page
already, as a value of the viewer, so it is shown from there and takes no request of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

BEFORE = b"<gradio-app"  # what Gradio's page is drawn into


@dataclass(frozen=True, slots=True)
class FirstPaint:
    """Wraps Gradio's application, and adds to its page.

    Attributes:
        app: Gradio's application, of which the page is the only HTML.
        html: what the page's body begins with; the viewer's script removes it.
    """

    app: ASGIApp
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
        at = page.find(BEFORE)
        return page if at < 0 else page[:at] + self.html.encode() + page[at:]


def _is_page(start: Message) -> bool:
    headers = MutableHeaders(scope=start)
    is_html = headers.get("content-type", "").startswith("text/html")
    return is_html and start["status"] == HTTPStatus.OK
