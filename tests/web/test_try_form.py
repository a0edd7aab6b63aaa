"""The live form of the front page in Debian's chromium."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from plateblur.web import Settings, create_app
from tests.web.fakes import (
    PASSWORD,
    USER,
    FakeBlur,
    FakeGate,
    heic_bytes,
    photo_bytes,
    running,
)

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
SIZES = {"desktop": (1280, 900), "phone": (390, 844)}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="chromium is not installed"),
]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running(create_app(FakeBlur(), FakeGate(guest_limit=100), Settings())) as url:
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
    assert [one for one in asked if not one.startswith((url, f"blob:{url}"))] == []


def send(page: Page, *, secret: str, photo: Path | None) -> str:
    page.get_by_text("Send it with your account").click()
    page.get_by_label("E-mail or user name").fill(USER)
    page.get_by_label("Password or API key").fill(secret)
    if photo:
        page.get_by_label("Photo file").set_input_files(str(photo))
    return press(page)


def press(page: Page) -> str:
    page.get_by_role("button", name="Blur the photo").click()
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
    for path in ("/", "/docs", "/pricing", "/status"):
        page.goto(url + path)
        assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0


def test_a_visitor_tries_the_sample_at_once_and_a_photo_without_an_account(
    page: Page, tmp_path: Path
) -> None:
    assert press(page).startswith("3 plates in ")
    request = page.locator("#try-request").inner_text()
    assert "/try\n" in request
    assert "Authorization" not in request
    assert page.locator("#try-save").get_attribute("download") == "street-blurred.jpg"
    photo = tmp_path / "my car.webp"
    photo.write_bytes(photo_bytes("WEBP", size_wh=(200, 100)))
    page.get_by_label("Photo file").set_input_files(str(photo))
    assert page.get_by_label("Your own photo").is_checked()
    assert press(page).startswith("3 plates in ")
    assert page.locator("#try-save").get_attribute("download") == "my car-blurred.webp"


def test_a_heic_is_shown_as_a_jpeg_and_saved_as_what_it_is(page: Page, tmp_path: Path) -> None:
    photo = tmp_path / "IMG_0001.HEIC"
    photo.write_bytes(heic_bytes(size_wh=(64, 48)))
    page.get_by_label("Photo file").set_input_files(str(photo))
    assert press(page).startswith("3 plates in ")
    assert '"preview": "YES"' in page.locator("#try-request").inner_text()
    assert page.locator("#try-save").get_attribute("download") == "IMG_0001-blurred.heic"
    shown = page.locator("#try-final")
    shown.wait_for()
    assert shown.evaluate("image => image.naturalWidth") > 0


def test_the_pointer_and_the_keyboard_move_the_line_between_before_and_after(page: Page) -> None:
    figure = page.locator("#compare")
    box = figure.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 4, box["y"] + 40)
    assert figure.evaluate("one => parseFloat(one.style.getPropertyValue('--at'))") < 30
    figure.get_by_role("slider").press("End")
    assert figure.evaluate("one => one.style.getPropertyValue('--at')") == "100.0%"
