"""The live form of the front page in Debian's chromium."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from plateblur.web import Settings, create_app
from tests.web.fakes import PASSWORD, USER, FakeBlur, FakeGate, photo_bytes, running

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
SIZES = {"desktop": (1280, 900), "phone": (390, 844)}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="chromium is not installed"),
]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running(create_app(FakeBlur(), FakeGate(), Settings())) as url:
        yield url


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(params=list(SIZES.values()), ids=list(SIZES))
def page(request: pytest.FixtureRequest, browser: Browser, url: str) -> Iterator[Page]:
    width, height = request.param
    page = browser.new_page(viewport={"width": width, "height": height})
    page.set_default_timeout(60_000)
    asked: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda one: asked.append(one.url))
    page.on("console", lambda one: complaints.append(one.text))
    page.on("pageerror", lambda one: complaints.append(str(one)))
    page.goto(url)
    yield page
    page.close()
    assert complaints == []
    assert [one for one in asked if not one.startswith((url, "data:"))] == []


def send(page: Page, *, secret: str, photo: Path | None) -> str:
    page.get_by_label("E-mail or user name").fill(USER)
    page.get_by_label("Password or API key").fill(secret)
    if photo:
        page.get_by_label("Photo file").set_input_files(str(photo))
    page.get_by_role("button", name="Send photo").click()
    expect(page.locator("#try-send")).to_be_enabled(timeout=60_000)
    return str(page.get_by_role("status").inner_text())


def test_the_form_sends_what_it_shows_and_shows_the_photo(page: Page, tmp_path: Path) -> None:
    photo = tmp_path / "street.jpg"
    photo.write_bytes(photo_bytes(size_wh=(320, 180)))
    assert send(page, secret=PASSWORD, photo=photo).startswith("3 plates in ")
    assert '"base64_Photo_String": "/9j/' in page.locator("#try-request").inner_text()
    assert '"tagName": "License Plate"' in page.locator("#try-answer").inner_text()
    shown = page.locator("#try-final")
    shown.wait_for()
    assert shown.evaluate("image => [image.naturalWidth, image.naturalHeight]") == [320, 180]


def test_the_form_shows_the_code_of_an_error(page: Page) -> None:
    assert send(page, secret="wrong", photo=None).startswith("1015: Unknown user")
    assert page.locator("#try-photos").is_hidden()


def test_nothing_is_wider_than_the_screen(page: Page, url: str) -> None:
    for path in ("/", "/docs"):
        page.goto(url + path)
        assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
