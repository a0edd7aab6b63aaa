"""The demo along, in a real browser; skipped where there is none."""

from __future__ import annotations

import asyncio
import base64
import io
import ipaddress
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import uvicorn
from fastapi import FastAPI

from plateblur.demo.blocks import mount_demo
from plateblur.demo.page import Page as DemoPage
from plateblur.demo.photos import Limits
from plateblur.demo.review import Review
from plateblur.demo.serving import add_demo
from plateblur.demo.visits import Visits
from plateblur.detector import shipped_model
from plateblur.photo import decode
from plateblur.types import Detections, Image
from plateblur.web import Settings, create_app
from plateblur.web.fetcher import PhotoFetcher, Reach
from plateblur.web.middleware import HEADERS, PAGE_POLICY
from tests.clips import IMAGE_HW as CLIP_HW
from tests.clips import drawn_clip, driving, frames_of
from tests.demo.fakes import (
    IMAGE_HW,
    MISSED,
    PLATE,
    DrawnDetector,
    contrast,
    drawn_image,
    drawn_photo,
)
from tests.fakes import DarkDetector, SameProcess, files_in, opened
from tests.web.fakes import FakeBlur, FakeGate, running

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Dialog, Page, Route

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
if CHROMIUM is None:
    pytest.skip("no chromium is installed", allow_module_level=True)

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-quic",
    "--no-first-run",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]
# Gradio 6.31.0 uses what pandas 4 is about to drop, in its count of past events.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::pandas.errors.Pandas4Warning")]
PATIENCE_S = 240.0  # CI may train a model beside it


class SeesBoth(DrawnDetector):
    """Finds the plate of the drawn photo, and in the drawn clip, which is smaller, that of it."""

    def detect(self, image: Image, *, min_confidence: float, **how: Any) -> Detections:
        if image.shape[:2] == CLIP_HW:
            return DarkDetector().detect(image, min_confidence=min_confidence)
        return super().detect(image, min_confidence=min_confidence)


def holds_something(path: Path) -> bool:
    """Whether there is a file that isn't empty."""
    try:
        return path.stat().st_size > 0
    except FileNotFoundError:
        return False


@dataclass
class Served:
    """The demo while it is served: where, and where it may write."""

    address: str
    folder: Path
    photo_url: str
    review: Path
    outside: list[str] = field(default_factory=list)

    def files(self) -> list[Path]:
        """Return the files that hold something; the demo may delete them meanwhile."""
        return [path for path in files_in(self.folder) if holds_something(path)]


class PhotoServer(BaseHTTPRequestHandler):
    """Serves one drawn photo."""

    def do_GET(self) -> None:
        data = drawn_photo()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def photo_server() -> Iterator[int]:
    """Serve a photo on a port of loopback."""
    with ThreadingHTTPServer(("127.0.0.1", 0), PhotoServer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("demo")
    review = tmp_path_factory.mktemp("review")
    with (
        pytest.MonkeyPatch.context() as patch,
        socket.create_server(("127.0.0.1", 0)) as listening,
        photo_server() as photo_port,
    ):
        patch.setattr(tempfile, "tempdir", str(folder))
        patch.setenv("GRADIO_IS_E2E_TEST", "1")  # Gradio then sees at once that a page was closed
        visits = Visits(folder / "gradio", grace_s=0)
        near = (ipaddress.ip_network("127.0.0.0/8"), photo_port)
        fetcher = PhotoFetcher(
            timeout_s=PATIENCE_S, max_bytes=Limits().photo_bytes, reach=Reach(also=(near,))
        )
        visits.sweep_forever(every_s=0.2)
        servers: list[uvicorn.Server] = []

        async def serve() -> None:
            workers = SameProcess(SeesBoth())
            page = DemoPage(workers, workers, visits, fetcher, review=Review(review))
            app = mount_demo(FastAPI(openapi_url=None), page, path="/")
            config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)
            servers.append(uvicorn.Server(config))
            await servers[0].serve(sockets=[listening])

        thread = threading.Thread(target=lambda: asyncio.run(serve()))
        thread.start()
        yield Served(
            f"http://127.0.0.1:{listening.getsockname()[1]}/",
            folder,
            f"http://127.0.0.1:{photo_port}/from-afar.jpg",
            review,
        )
        servers[0].should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(params=[(1280, 900)], ids=["desktop"])
def page(browser: Browser, served: Served, request: pytest.FixtureRequest) -> Iterator[Page]:
    width, height = request.param
    context = browser.new_context(
        viewport={"width": width, "height": height}, permissions=["clipboard-read"]
    )
    context.set_default_timeout(PATIENCE_S * 1000)
    opened = context.new_page()
    opened.on("request", lambda asked: served.outside.append(asked.url))
    opened.goto(served.address)
    opened.wait_for_selector("#viewer .pb-empty")
    yield opened
    context.close()
    own = (served.address, "data:", "blob:")
    assert [url for url in served.outside if not url.startswith(own)] == []


def drop(page: Page, *photos: tuple[str, bytes]) -> None:
    files = [{"name": n, "mimeType": "image/jpeg", "buffer": data} for n, data in photos]
    page.set_input_files("#photos input[type=file]", files)  # type: ignore[arg-type]
    page.wait_for_function(
        "name => document.querySelector('#viewer .pb-failure strong').textContent.startsWith(name)"
        " || "
        "document.querySelector('#download')?.innerText.includes(name)",
        arg=photos[0][0].rsplit(".", 1)[0],
    )


def downloaded(page: Page, button: str) -> tuple[str, bytes]:
    with page.expect_download() as download:
        page.click(button)
    return download.value.suggested_filename, Path(download.value.path()).read_bytes()


def wait_for_plates(page: Page, count: int) -> None:
    page.wait_for_function(
        "count => document.querySelectorAll('#viewer .pb-plates li').length === count", arg=count
    )


def test_a_photo_is_dropped_blurred_otherwise_and_downloaded(page: Page, served: Served) -> None:
    drop(page, ("car.jpg", drawn_photo()))
    veiled = page.get_attribute("#viewer .pb-after", "src")
    row = page.inner_text("#viewer .pb-plates li")
    with page.expect_event("requestfinished"):
        page.click("#method label:has-text('Solid')")
    page.wait_for_function(
        "old => document.querySelector('#viewer .pb-after').src !== old", arg=veiled
    )
    page.focus("#viewer .pb-range")
    page.keyboard.press("ArrowRight")
    name, data = downloaded(page, "#download")

    assert "confidence 0.90" in row
    assert "1:12, within 1:15" in row
    assert "51%" in (page.get_attribute("#viewer .pb-stage", "style") or "")
    assert name == "car-blurred.jpg"
    photo = decode(data)
    assert (photo.format, photo.image_hw) == ("JPEG", IMAGE_HW)
    assert contrast(drawn_image(), PLATE) > 150
    assert contrast(photo.pixels, PLATE) < 20
    assert not any(path.read_bytes() == drawn_photo() for path in served.files())


def test_a_corrupt_photo_gets_a_friendly_message_and_no_download(page: Page) -> None:
    drop(page, ("broken.jpg", drawn_photo()[:3000]))

    assert "could not be read as a photo" in page.inner_text("#viewer [role=alert]")
    assert not page.is_visible("#download")


def test_plates_are_added_with_mouse_and_keyboard_and_removed(page: Page) -> None:
    drop(page, ("car.png", drawn_photo("PNG")))
    page.click("text=Correct by hand")
    stage = page.locator("#viewer .pb-boxes").bounding_box()
    assert stage is not None
    height, width = IMAGE_HW
    at = [(MISSED[i] / width, MISSED[i + 1] / height) for i in (0, 2)]
    points = [(stage["x"] + x * stage["width"], stage["y"] + y * stage["height"]) for x, y in at]
    page.mouse.move(*points[0])
    page.mouse.down()
    page.mouse.move(*points[1], steps=4)
    page.mouse.up()
    wait_for_plates(page, 2)
    page.click("#viewer .pb-new")
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Enter")
    wait_for_plates(page, 3)
    page.click("#viewer .pb-boxes button >> nth=0")
    wait_for_plates(page, 2)
    page.wait_for_selector("#viewer .pb-stage:not([data-busy])")

    photo = decode(downloaded(page, "#download")[1])
    assert contrast(photo.pixels, MISSED) < 60
    assert contrast(photo.pixels, PLATE) < 60


def test_a_box_at_the_edge_is_removed_and_the_focus_is_kept(page: Page) -> None:
    drop(page, ("car.png", drawn_photo("PNG")))
    page.click("text=Correct by hand")
    stage = page.locator("#viewer .pb-boxes").bounding_box()
    assert stage is not None
    right, top = stage["x"] + stage["width"], stage["y"]
    page.mouse.move(right - 40, top + 20)
    page.mouse.down()
    page.mouse.move(right + 30, top - 30, steps=4)
    page.mouse.up()
    wait_for_plates(page, 2)
    remove = page.locator("#viewer .pb-boxes button").first
    box, stage = remove.bounding_box(), page.locator("#viewer .pb-boxes").bounding_box()
    assert box is not None
    assert stage is not None
    assert box["x"] + box["width"] <= stage["x"] + stage["width"] + 1
    assert box["y"] >= stage["y"] - 1
    remove.focus()
    page.keyboard.press("Enter")
    wait_for_plates(page, 1)
    label = "document.activeElement.getAttribute('aria-label')"
    assert page.evaluate(label) == "Remove the box of plate 1"
    page.keyboard.press("Enter")
    page.wait_for_selector("text=No plate found. If there is one:")
    assert page.evaluate("document.activeElement.className") == "pb-new"


def test_before_and_after_meet_under_the_pointer(page: Page) -> None:
    drop(page, ("car.jpg", drawn_photo()))
    stage = page.locator("#viewer .pb-stage").bounding_box()
    assert stage is not None
    page.mouse.move(stage["x"] + stage["width"] / 4, stage["y"] + 50)

    page.wait_for_function("Math.abs(document.querySelector('#viewer .pb-range').value - 25) < 2")


def test_methods_are_chosen_by_arrows(page: Page) -> None:
    page.wait_for_function(
        "new Set([...document.querySelectorAll('#method input')].map((one) => one.name)).size === 1"
    )
    page.focus("#method input[value=veil]")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")

    page.wait_for_selector("#method input[value=mosaic]:checked:focus")
    outline = page.locator("#method label:has(:focus)").evaluate(
        "(label) => getComputedStyle(label).outlineStyle"
    )
    assert outline == "solid"


@pytest.mark.parametrize("saves", [False, True], ids=["not saved", "saved"])
def test_leaving_with_unsaved_corrections_asks(page: Page, saves: bool) -> None:
    drop(page, ("car.jpg", drawn_photo()))
    page.click("text=Correct by hand")
    page.click("#viewer .pb-boxes button >> nth=0")
    wait_for_plates(page, 0)
    page.wait_for_selector("#viewer .pb-stage:not([data-busy])")
    if saves:
        downloaded(page, "#download")
    asked: list[str] = []

    def answer(dialog: Dialog) -> None:
        asked.append(dialog.type)
        dialog.accept()

    page.on("dialog", answer)
    page.reload()
    page.wait_for_selector("#viewer .pb-empty")

    assert asked == ([] if saves else ["beforeunload"])


def test_the_whole_documented_answer_is_copied_from_the_api_tab(page: Page) -> None:
    drop(page, ("car.jpg", drawn_photo()))
    page.click("role=tab[name='API']")
    page.wait_for_selector("text=final_photo")
    page.click("#copy-response")
    end_s = time.monotonic() + PATIENCE_S
    while not (text := page.evaluate("navigator.clipboard.readText()")):
        assert time.monotonic() < end_s
        page.wait_for_timeout(100)
    body = json.loads(text)

    assert list(body) == ["created", "predictions", "final_photo"]


def test_the_request_is_sent_to_a_server_and_its_error_is_shown(page: Page, served: Served) -> None:
    sent: list[str | None] = []
    address = served.address + "elsewhere.aspx"  # Under the demo's own, so that nothing is outside.

    def answer(route: Route) -> None:
        sent.append(route.request.post_data)
        error = [{"cd": "1001", "description": route.request.headers.get("authorization")}]
        route.fulfill(json=error)

    page.route(address, answer)
    drop(page, ("car.jpg", drawn_photo()))
    page.click("role=tab[name='API']")
    page.fill("#endpoint input, #endpoint textarea", address)
    page.click("text=Send this request to a server")
    page.fill("#user input, #user textarea", "me")
    page.fill("#password input", "\u00fc")
    page.click("#send")
    page.wait_for_selector("#server-answer >> text=1001")

    assert "Basic bWU6w7w=" in page.inner_text("#server-answer")
    assert json.loads(sent[0] or "")["boundingBoxCrop"] == "YES"


def test_several_photos_come_as_a_zip_and_nothing_is_left_when_the_page_is_closed(
    page: Page, served: Served
) -> None:
    drop(page, ("car-1.jpg", drawn_photo()), ("broken.jpg", b"no photo"))
    name, data = downloaded(page, "#make-zip")
    assert name == "blurred-photos.zip"
    on_disk = {path.name for path in served.files()}
    page.close()
    end_s = time.monotonic() + PATIENCE_S
    while served.files() and time.monotonic() < end_s:
        time.sleep(0.1)

    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.namelist() == ["car-1-blurred.jpg", "NOT-BLURRED.txt"]
    assert on_disk == {"car-1-blurred.jpg", "blurred-photos.zip"}
    assert served.files() == []


def test_a_photo_behind_a_url_is_shown_and_named_in_the_request(page: Page, served: Served) -> None:
    page.fill("#url input, #url textarea", served.photo_url)
    page.click("#url button:has-text('Fetch')")
    page.wait_for_selector("#download >> text=from-afar-blurred.jpg")
    _, data = downloaded(page, "#download")
    page.click("role=tab[name='API']")
    page.wait_for_selector(f"text={served.photo_url}")

    assert contrast(decode(data).pixels, PLATE) < 60


def test_a_photo_is_pasted(page: Page) -> None:
    # The page listens some moments after it is shown; its handler says that it took the event.
    page.wait_for_function(
        """base64 => {
          const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
          const pasted = new DataTransfer();
          pasted.items.add(new File([bytes], "pasted.jpg", { type: "image/jpeg" }));
          const about = { clipboardData: pasted, bubbles: true, cancelable: true };
          return !document.body.dispatchEvent(new ClipboardEvent("paste", about));
        }""",
        arg=base64.b64encode(drawn_photo()).decode(),
        polling=500,
    )
    page.wait_for_selector("#download >> text=pasted-blurred.jpg")


def test_a_photo_is_taken_with_the_camera(page: Page) -> None:
    page.click("text=Use the camera")
    page.wait_for_function("document.querySelector('#camera-shot video').videoWidth > 0")
    page.click("text=Take the photo")
    page.wait_for_selector("#download >> text=camera-blurred.jpg")

    assert page.is_visible("text=Use the camera")
    assert page.evaluate("document.querySelector('#camera-shot video').srcObject") is None


@pytest.fixture(scope="module")
def watching(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser whose camera sees the drawn photo."""
    film = tmp_path_factory.mktemp("camera") / "street.y4m"
    height, width = IMAGE_HW
    subprocess.run(
        [
            *("ffmpeg", "-v", "error", "-f", "rawvideo", "-pix_fmt", "rgb24"),
            *("-s", f"{width}x{height}", "-r", "10", "-i", "-", "-pix_fmt", "yuv420p", str(film)),
        ],
        input=drawn_image().tobytes() * 10,
        check=True,
    )
    flags = [*FLAGS, f"--use-file-for-fake-video-capture={film}"]
    # Of the same Playwright, because a thread can have but one.
    chromium = browser.browser_type.launch(executable_path=CHROMIUM, args=flags)
    yield chromium
    chromium.close()


def test_the_live_view_shows_blurred_frames_alone(watching: Browser, served: Served) -> None:
    page = watching.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(PATIENCE_S * 1000)
    page.goto(served.address)
    page.click("role=tab[name='Live']")
    page.click("text=Start the camera")
    page.wait_for_function("document.querySelector('.pb-live-shown')?.width > 300")
    page.wait_for_selector("text=/1 plate hidden, .* frames a second/")

    picture = page.evaluate("document.querySelector('.pb-live-shown').toDataURL('image/png')")
    image = np.asarray(opened(base64.b64decode(picture.partition(",")[2])).convert("RGB"))
    assert image.shape[:2] == IMAGE_HW
    assert contrast(image, PLATE) < 30
    assert contrast(image, MISSED) > 100
    assert not page.is_visible(".pb-live-seen")

    page.click("text=Stop the camera")
    page.wait_for_selector("text=Start the camera")
    assert not page.is_visible(".pb-live-shown")
    assert page.evaluate("document.querySelector('.pb-live-seen').srcObject") is None
    page.close()


def test_the_live_view_ends_when_its_tab_is_left(page: Page) -> None:
    page.click("role=tab[name='Live']")
    page.click("text=Start the camera")
    page.wait_for_selector(".pb-live-shown:visible")
    page.click("role=tab[name='Video']")

    page.wait_for_function("document.querySelector('.pb-live-seen').srcObject === null")


def test_ten_photos_are_picked_from(page: Page) -> None:
    drop(page, *((f"street-{number}.jpg", drawn_photo()) for number in range(10)))
    page.click("#film .pb-frame >> nth=9")
    page.wait_for_selector("#download >> text=street-9-blurred.jpg")
    assert page.is_visible("#make-zip >> text=Download all 10 as a zip")

    page.focus("#film .pb-film")
    for key in ("Home", "ArrowRight", "ArrowRight"):  # faster than the photos are blurred
        page.keyboard.press(key)
    page.wait_for_selector("#download >> text=street-2-blurred.jpg")
    chosen = page.locator("#film [aria-selected=true]")
    assert chosen.get_attribute("aria-label") == "3. street-2.jpg, 1 plate"
    assert page.evaluate("document.activeElement.className") == "pb-film"


def test_a_photo_is_saved_for_training_only_with_consent(page: Page, served: Served) -> None:
    drop(page, ("car.jpg", drawn_photo()))
    page.click("text=Help improve the detector")
    page.click("#keep")
    page.wait_for_selector("text=Please tick the box to agree first.")
    assert list(served.review.rglob("*")) == []
    page.check("#agreed input")
    page.click("#keep")
    page.wait_for_selector("text=Saved as")

    assert len(list(served.review.glob("images/*/*.jpg"))) == 1
    assert (served.review / "data.yaml").is_file()


def test_a_clip_is_blurred_played_and_downloaded(page: Page, served: Served) -> None:
    page.click("role=tab[name='Video']")
    clip = drawn_clip(driving(8), sound="aac")
    page.set_input_files(
        "#clip input[type=file]",
        {"name": "drive.mp4", "mimeType": "video/mp4", "buffer": clip},
    )
    page.wait_for_selector("#clip-outcome >> text=1 plate hidden")
    page.wait_for_function(
        "[...document.querySelectorAll('#clip-shown video')].every((one) => one.readyState >= 2)"
    )
    before, after = (
        page.get_attribute(f"#clip-shown .pb-clip-{side}", "src") or ""
        for side in ("before", "after")
    )
    assert before.startswith("blob:")
    assert "/gradio_api/file=" in after
    name, data = downloaded(page, "#clip-download")

    assert name == "drive-blurred.mp4"
    assert len(frames_of(data)) == 8
    assert not any(path.read_bytes() == clip for path in served.files())
    assert {path.name for path in served.files()} == {"drive-blurred.mp4"}


def test_a_file_that_is_no_clip_gets_a_friendly_message(page: Page) -> None:
    page.click("role=tab[name='Video']")
    page.set_input_files(
        "#clip input[type=file]",
        {"name": "drive.mp4", "mimeType": "video/mp4", "buffer": b"no clip"},
    )
    page.wait_for_selector("#clip-outcome [role=alert] >> text=This clip could not be blurred")

    assert not page.is_visible("#clip-download")


def test_the_demo_within_the_service_gets_a_real_1001_and_loosens_no_other_page(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    apps: list[FastAPI] = []

    def build() -> FastAPI:  # in the server's loop, as `serve.py` does
        app = create_app(FakeBlur(), FakeGate(), Settings(demo=True))
        add_demo(app, DrawnDetector, model=Path("none.onnx"), public_url="http://localhost:8000")
        apps.append(app)
        return app

    with running(build, factory=True) as url:  # type: ignore[arg-type]
        context = browser.new_context()
        context.set_default_timeout(PATIENCE_S * 1000)
        page = context.new_page()
        asked: list[str] = []
        told: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda line: told.append(line.text))
        policies: dict[str, str] = {}
        answers = {path: context.request.get(url + path) for path in ("/demo", "/demo/", "/docs")}
        for path, answer in answers.items():
            policies[path] = answer.headers["content-security-policy"]
        without_scripts = context.new_page()
        without_scripts.route("**/assets/*.js", lambda route: None)  # which never come
        without_scripts.goto(f"{url}/demo/", wait_until="commit")
        early = without_scripts.wait_for_selector("#first img[alt$='hidden']")
        assert early is not None
        early_is = early.get_attribute("src")
        without_scripts.close()
        page.goto(f"{url}/demo")
        page.wait_for_selector("#viewer >> text=A drawn example")
        page.wait_for_selector("#first", state="detached")
        assert page.get_attribute("#viewer .pb-after", "src") == early_is
        drop(page, ("car.jpg", drawn_photo()))
        page.click("text=Use the camera")
        page.wait_for_function("document.querySelector('#camera-shot video').videoWidth > 0")
        page.click("role=tab[name='API']")
        page.wait_for_selector("text=final_photo")
        page.fill("#endpoint input, #endpoint textarea", f"{url}/plateblurer.aspx")
        page.click("text=Send this request to a server")
        page.click("#send")
        page.wait_for_selector("#server-answer >> text=1001")
        context.close()
    apps[0].state.demo_folder.cleanup()

    assert answers["/docs"].headers["permissions-policy"] == HEADERS["Permissions-Policy"]
    assert policies["/docs"] == PAGE_POLICY
    assert "unsafe" not in policies["/docs"]
    assert "default-src 'self'" in policies["/demo/"]
    assert [line for line in told if "Content Security Policy" in line] == []
    assert [each for each in asked if not each.startswith((url, "data:", "blob:"))] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_each_tab_is_accessible(browser: Browser, served: Served, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
    page.set_default_timeout(PATIENCE_S * 1000)
    page.goto(served.address)
    drop(page, ("a.jpg", drawn_photo()), ("b.jpg", drawn_photo()), ("c.jpg", b"no photo"))
    page.wait_for_selector("#film .pb-failed")
    for tab in ("Blur", "Video", "Live", "API", "Guidance"):
        page.click(f"role=tab[name='{tab}']")
        if tab == "API":
            page.wait_for_selector("text=final_photo")
        page.wait_for_function(
            "document.getAnimations().every((one) => one.playState === 'finished')"
        )
        found = axe.run(page)
        assert found.violations_count == 0, (tab, found.generate_report())
    page.close()


@pytest.mark.parametrize("page", [(390, 844)], ids=["phone"], indirect=True)
def test_each_tab_fits_a_phone_and_is_accessible_on_it(page: Page) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    for tab in ("Guidance", "API", "Live", "Video", "Blur"):
        seen = page.locator(f"button[role=tab]:visible:text-is('{tab}')")
        if not seen.count():  # it doesn't fit beside the others
            page.click(".overflow-menu > button")
            seen = page.locator(f".overflow-dropdown button:has-text('{tab}')")
        seen.first.click()
        page.wait_for_timeout(300)
        wide = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        found = axe.run(page)

        assert wide <= 0, tab
        assert found.violations_count == 0, (tab, found.generate_report())


@pytest.mark.skipif(not shipped_model().exists(), reason="no model is shipped yet")
def test_the_command_prints_its_address_and_leaves_no_folder_when_it_is_stopped(
    tmp_path: Path,
) -> None:
    command = [sys.executable, str(Path(__file__).parents[2] / "app.py"), "--port", "0"]
    environment = {"PATH": os.defpath, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as demo:
        assert demo.stdout is not None
        line = demo.stdout.readline()
        folders = list(tmp_path.glob("plateblur-demo-*"))
        demo.terminate()
        code = demo.wait(timeout=PATIENCE_S)

    assert line.startswith("PlateBlur demo: http://127.0.0.1:")
    assert len(folders) == 1
    assert list(tmp_path.glob("plateblur-demo-*")) == []
    assert code == 0
