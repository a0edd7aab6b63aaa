"""The whole story of an account in Debian's chromium, against a really served application."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import httpx
import pytest

from plateblur.accounts import signup
from plateblur.accounts.credentials import Hasher
from plateblur.accounts.gate import StoreGate
from plateblur.accounts.job_queue import StoreQueue
from plateblur.accounts.jobs import StoreJobs
from plateblur.accounts.profiles import list_profiles
from plateblur.accounts.quota import utc_now
from plateblur.accounts.store import open_store
from plateblur.console import add_console
from plateblur.serving import job_limits
from plateblur.web import Settings, create_app
from plateblur.web.fetcher import PhotoFetcher
from tests.console.fakes import link_in, text_of_letter
from tests.web.fakes import FakeBlur, basic, documented_client, photo_bytes, running, text_of

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
from playwright.sync_api import Browser, Page, expect, sync_playwright  # noqa: E402

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
PATIENCE_MS = 120_000  # CI may train a model beside it
HOOK = "https://shop.example/blurred"
EMAIL, PASSWORD = "ana.pop@plates.io", "correct horse battery staple"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="chromium is not installed"),
]


class Receiver:
    """The receiver of a customer's webhooks."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []

    def check(self, url: str) -> None:
        assert url == HOOK

    async def post(self, url: str, body: bytes, headers: dict[str, str]) -> int:
        assert (url, headers["webhook-signature"][:3]) == (HOOK, "v1,")
        self.heard.append(body)
        return 204


@dataclass(frozen=True)
class Served:
    """The service while it is served, and its first operator's password."""

    url: str
    folder: Path
    operators_password: str
    receiver: Receiver

    def letter_to(self, address: str) -> str:
        """Return the letter to an address, once it is there: it leaves after the answer."""
        deadline = time.monotonic() + PATIENCE_MS / 1000
        while time.monotonic() < deadline:
            for path in (self.folder / "outbox").glob("*.eml"):
                if f"To: {address}\n" in (letter := text_of_letter(path)):
                    return letter
            time.sleep(0.1)
        raise AssertionError(f"no letter to {address}")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("data")
    store = open_store(folder)
    made = signup.first_operator(store, Hasher(), now=utc_now())
    assert made is not None
    settings = Settings(data_dir=folder)
    gate, limits, receiver = StoreGate(store), job_limits(settings), Receiver()
    app = create_app(
        FakeBlur(),
        gate,
        settings,
        fetcher=cast(PhotoFetcher, receiver),
        jobs=(StoreJobs(store, limits), StoreQueue(store, limits)),
    )
    add_console(app, store, gate, settings)
    with running(app) as url:
        yield Served(url, folder, made[1], receiver)
    store.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        yield browser
        browser.close()


def open_page(browser: Browser, *, width: int = 1280, **more: bool) -> Page:
    context = browser.new_context(viewport={"width": width, "height": 900}, **more)  # type: ignore[arg-type]
    context.set_default_timeout(PATIENCE_MS)
    return context.new_page()


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def log_in(page: Page, served: Served, username: str, password: str) -> None:
    page.goto(f"{served.url}/console/login")
    page.get_by_label("E-mail or user name").fill(username)
    page.get_by_label("Password").fill(password)
    press(page, "Log in")
    page.get_by_role("heading", name="Overview").wait_for()


def sign_up(page: Page, served: Served, email: str) -> None:
    page.goto(f"{served.url}/console/signup")
    page.get_by_label("E-mail", exact=True).fill(email)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_label("I agree to the terms of use.").check()
    page.get_by_label("I have read the privacy notice.").check()
    press(page, "Sign up")
    page.get_by_role("heading", name="Check your inbox").wait_for()


def activate(page: Page, served: Served, email: str) -> None:
    page.goto(served.url + link_in(served.letter_to(email)))
    page.get_by_label("Password").fill(PASSWORD)
    press(page, "Activate and log in")
    page.get_by_text("Your account is active.").wait_for()


def ask(served: Served, email: str) -> None:
    """Make a request as the documented client makes it."""
    answer = httpx.post(
        f"{served.url}/plateblurer.aspx",
        json={"base64_Photo_String": text_of(photo_bytes())},
        headers={"Authorization": basic(email, PASSWORD)},
        timeout=PATIENCE_MS / 1000,
    )
    assert documented_client(answer)[0] == "answer"


def try_without_an_account(page: Page, served: Served, photo: Path) -> None:
    """Send the sample and an own photo on the front page."""
    page.goto(f"{served.url}/#try")
    for own in (False, True):
        if own:
            page.get_by_label("Photo file").set_input_files(str(photo))
        press(page, "Blur the photo")
        expect(page.locator("#try-status")).to_contain_text("3 plates in ")
        saved = "own-blurred.jpg" if own else "street-blurred.jpg"
        expect(page.locator("#try-save")).to_have_attribute("download", saved)


def copy_key_and_curl(page: Page, served: Served, photo: Path) -> str:
    """Create a key, send a photo with the curl line that the page shows, and return the key."""
    page.get_by_role("link", name="API keys").click()
    page.get_by_label("Name").fill("camera")
    press(page, "Create key")
    key = page.get_by_label("The new key", exact=True).inner_text()
    line = page.locator("#new-curl").inner_text()
    line = re.sub(r"https?://[^/\s]+", served.url, line)  # the setting names another port
    (photo.parent / "street.jpg").write_bytes(photo.read_bytes())
    subprocess.run(["sh", "-c", line], cwd=photo.parent, check=True)
    assert (photo.parent / "blurred.jpg").read_bytes().startswith(b"\xff\xd8")
    return key


def send_a_job(served: Served, key: str, photo: Path) -> None:
    """Send a job, wait for its webhook, and fetch the result."""
    bearer = {"Authorization": f"Bearer {key}"}
    told = httpx.post(
        f"{served.url}/v1/jobs",
        headers=bearer,
        files=[("photo", ("a.jpg", photo.read_bytes())), ("photo", ("b.jpg", photo.read_bytes()))],
        data={"webhook_url": HOOK},
        timeout=PATIENCE_MS / 1000,
    ).json()
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while not served.receiver.heard:
        assert time.monotonic() < deadline, "no webhook"
        time.sleep(0.1)
    message = json.loads(served.receiver.heard[0])
    assert (message["data"]["id"], message["data"]["counts"]) == (told["id"], {"done": 2})
    result = f"{served.url}{told['url']}/photos/1"
    assert httpx.get(result, headers=bearer).headers["content-type"] == "image/jpeg"
    assert httpx.get(result, headers=bearer).status_code == 404  # fetched once, then gone


def ask_for_help(page: Page, operator: Page, served: Served) -> None:
    """Open a ticket; the operator's answer appears on the open page."""
    page.goto(f"{served.url}/console/tickets")
    page.get_by_label("Subject").fill("Panoramas")
    page.get_by_label("Message").fill("Do you take them?")
    press(page, "Send")
    page.get_by_text("Panoramas").first.wait_for()
    page.goto(f"{served.url}/console/tickets/1")
    operator.goto(f"{served.url}/console/operator/tickets/1")
    operator.get_by_role("textbox").fill("Yes, under /v1.")
    press(operator, "Send")
    page.get_by_text("Yes, under /v1.").wait_for()  # without reloading the page


def figure(page: Page, name: str, value: int) -> None:
    """Wait until the page, not loaded anew, shows the value."""
    page.locator(f'strong[data-live="{name}"]', has_text=f"{value:,}").wait_for()


def test_the_story_of_an_account(browser: Browser, served: Served, tmp_path: Path) -> None:
    page = open_page(browser)
    complaints: list[str] = []
    asked: list[str] = []
    page.on("pageerror", lambda one: complaints.append(str(one)))
    page.on("console", lambda one: complaints.append(one.text) if "Policy" in one.text else None)
    page.on("request", lambda one: asked.append(one.url))

    photo = tmp_path / "own.jpg"
    photo.write_bytes(photo_bytes())
    try_without_an_account(page, served, photo)
    page.get_by_role("link", name="Sign up").click()
    sign_up(page, served, EMAIL)
    activate(page, served, EMAIL)

    press(page, "Start free trial")
    figure(page, "requests_left", 50)
    page.locator("#live").wait_for()
    ask(served, EMAIL)
    figure(page, "requests_used", 1)
    figure(page, "requests_left", 49)
    figure(page, "predictions_used", 5)
    key = copy_key_and_curl(page, served, photo)

    page.get_by_role("link", name="Order", exact=True).click()
    page.get_by_label("Monthly").check()
    page.get_by_label("Name", exact=True).fill("Ana Pop")
    page.get_by_label("Postal address").fill("Str. Lungă 7\nBrașov")
    page.get_by_label("Country").select_option("RO")
    press(page, "Continue to the total")
    expect(page.locator(".amounts .total")).to_contain_text("80.00 USD")
    page.get_by_label("I agree to the terms of use.").check()
    page.get_by_label("As soon as it is paid.").check()
    press(page, "Order with obligation to pay")
    page.get_by_text("Thank you for your order.").wait_for()
    number = page.locator("tbody th").inner_text()

    operator = open_page(browser, width=390)
    log_in(operator, served, "operator", served.operators_password)
    operator.goto(f"{served.url}/console/operator/invoices")
    operator.get_by_role("link", name=f"Mark as paid {number}").click()
    press(operator, "Mark as paid")
    operator.get_by_text("Marked as paid. The plan is active.").wait_for()
    page.locator("#invoices .good", has_text="paid").wait_for()  # without reloading the page

    page.goto(f"{served.url}/console")
    page.get_by_role("heading", name="Monthly plan").wait_for()
    ask(served, EMAIL)
    figure(page, "predictions_left", 9_995)
    send_a_job(served, key, photo)
    figure(page, "predictions_left", 9_985)
    ask_for_help(page, operator, served)
    operator.context.close()

    page.goto(f"{served.url}/console/invoices")
    with page.expect_download() as download:
        page.get_by_role("link", name=f"PDF of {number}").click()
    assert download.value.suggested_filename == f"{number}.pdf"
    assert Path(download.value.path()).read_bytes().startswith(b"%PDF-")

    page.get_by_role("link", name="Consents").click()
    with page.expect_download() as download:
        page.get_by_role("link", name="Export as JSON").click()
    log = json.loads(Path(download.value.path()).read_text(encoding="utf-8"))
    assert [entry["subject"] for entry in log] == ["terms", "privacy", "newsletter"]

    page.goto(f"{served.url}/console/profile/delete")
    page.get_by_label("Your password").fill(PASSWORD)
    page.get_by_label("Permanently delete my account").check()
    press(page, "Delete account")
    page.get_by_text("Your account has been deleted.").wait_for()
    page.context.close()

    store = open_store(served.folder)
    assert [one.role for one in list_profiles(store)] == ["operator"]
    store.close()
    assert complaints == []
    assert [url for url in asked if not url.startswith((served.url, "data:", "blob:"))] == []


def test_everything_works_without_javascript_and_fits_a_phone(
    browser: Browser, served: Served
) -> None:
    email = "ion@plates.io"
    page = open_page(browser, width=390, java_script_enabled=False)
    sign_up(page, served, email)
    activate(page, served, email)
    press(page, "Start free trial")
    ask(served, email)
    page.reload()
    figure(page, "requests_used", 1)
    page.get_by_role("link", name="API keys").click()
    press(page, "Create key")
    assert page.get_by_label("The new key", exact=True).inner_text().startswith("pb_")
    widths = open_page(browser, width=390)
    log_in(widths, served, email, PASSWORD)
    for path in ("", "/order", "/invoices", "/keys", "/profile", "/consents", "/tickets"):
        widths.goto(f"{served.url}/console{path}")
        assert widths.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, path
    widths.context.close()
    page.context.close()


def test_a_form_is_filled_in_and_mended_by_keyboard(browser: Browser, served: Served) -> None:
    page = open_page(browser)
    page.goto(f"{served.url}/console/login")
    page.get_by_label("E-mail or user name").focus()
    page.keyboard.type("nobody")
    page.keyboard.press("Tab")
    page.keyboard.type("wrong password here")
    page.keyboard.press("Enter")
    summary = page.get_by_role("alert")
    summary.wait_for()
    expect(summary).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # the summary's link leads to the field
    assert page.evaluate("document.activeElement.id || location.hash.slice(1)") == "username"
    assert page.get_by_label("E-mail or user name").get_attribute("aria-invalid") == "true"
    page.context.close()
