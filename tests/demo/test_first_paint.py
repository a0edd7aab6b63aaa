"""What the demo shows until Gradio has drawn its page."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.types import ASGIApp

from plateblur.demo.blocks import mount_demo
from plateblur.demo.first_paint import FirstPaint
from plateblur.demo.page import Page
from plateblur.demo.photos import Limits, opening_of
from plateblur.demo.visits import Visits
from plateblur.types import BlurOptions
from plateblur.web.fetcher import PhotoFetcher
from tests.demo.fakes import DrawnDetector, drawn_photo
from tests.fakes import SameProcess

pytestmark = pytest.mark.slow  # each worker would take 4 s to import Gradio

GRADIO = '<meta property="og:title" content="Gradio" /><meta\n name="twitter:image" content="/">'
PAGE = f"<html><head>{GRADIO}<script></script></head><gradio-app></gradio-app></html>"
WITH = PAGE.replace(GRADIO, "<title>T</title>").replace("<gradio", "<p>\u00e9</p><gradio", 1)


def answer_of(app: ASGIApp, path: str = "/") -> httpx.Response:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://demo") as client:
            return await client.get(path)

    return asyncio.run(ask())


def in_parts() -> Response:
    return StreamingResponse(iter([PAGE[:20], PAGE[20:30], PAGE[30:]]), media_type="text/html")


@pytest.mark.parametrize(
    ("answers", "body"),
    [
        (lambda: HTMLResponse(PAGE), WITH),
        (in_parts, WITH),
        (lambda: HTMLResponse("<p>another page"), "<p>another page"),
        (lambda: HTMLResponse(PAGE, 404), PAGE),
        (lambda: JSONResponse(PAGE), json.dumps(PAGE)),
    ],
    ids=["page", "in parts", "no place for it", "not found", "no page"],
)
def test_only_the_page_gets_a_first_paint(answers: Callable[[], Response], body: str) -> None:
    async def app(scope: object, receive: object, send: object) -> None:
        await answers()(scope, receive, send)  # type: ignore[arg-type]

    got = answer_of(FirstPaint(app, "<title>T</title>", "<p>\u00e9</p>"))

    assert got.text == body
    assert int(got.headers.get("content-length", len(got.content))) == len(got.content)


@pytest.mark.slow  # Gradio takes seconds to load
@pytest.mark.parametrize("has_scene", [True, False], ids=["scene", "no scene"])
def test_the_page_of_gradio_starts_with_the_scene(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_scene: bool
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    scene = tmp_path / "street-day.jpg"
    scene.write_bytes(drawn_photo())
    scenes = (scene,) if has_scene else ()
    workers = SameProcess(DrawnDetector())
    page = Page(
        workers,
        workers,
        Visits(tmp_path / "gradio"),
        PhotoFetcher(timeout_s=1, max_bytes=1),
        examples=scenes,
        opening=opening_of(DrawnDetector(), scenes, Limits(), BlurOptions()),
    )

    async def app(scope: object, receive: object, send: object) -> None:
        # In a loop, because Gradio leaves one open otherwise.
        mounted = mount_demo(FastAPI(openapi_url=None), page, path="/")
        await mounted(scope, receive, send)  # type: ignore[arg-type]

    html = answer_of(app).text

    assert ('<div id="first">' in html) is has_scene
    head = html.partition("<script")[0]
    assert "<title>PlateBlur</title>" in head
    assert "Gradio" not in head  # nor a picture on another host
    assert "githubusercontent" not in html
    if has_scene:
        body = html.partition("<body")[2]
        assert body.index('<div id="first">') < body.index("<gradio-app")
        assert "<h1>" in body.partition("<gradio-app")[0]  # the title took the mark's place
        assert "TITLE" not in body
