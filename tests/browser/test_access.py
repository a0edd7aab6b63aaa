"""Every page of the service: no finding of axe and nothing wider than the screen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.furnished import (
    CUSTOMERS,
    EMAIL,
    OPERATOR,
    OPERATORS,
    PASSWORD,
    PUBLIC,
    Furnished,
    furnished,
)

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright  # noqa: E402

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
PATIENCE_MS = 120_000
WIDTHS = (390, 1024, 1440)
SCHEMES = ("light", "dark")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="chromium is not installed"),
]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Furnished]:
    with furnished(tmp_path_factory.mktemp("data")) as served:
        yield served


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        yield browser
        browser.close()


def visit(browser: Browser, served: Furnished, email: str = "") -> BrowserContext:
    context = browser.new_context()
    context.set_default_timeout(PATIENCE_MS)
    if email:
        page = context.new_page()
        page.goto(f"{served.url}/console/login")
        page.get_by_label("E-mail or user name").fill(email)
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Log in", exact=True).click()
        page.get_by_role("heading", name="Overview").wait_for()
        page.close()
    return context


def findings(page: Page, name: str) -> list[str]:
    """Return what is wrong with an open page in any size and scheme."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    wrong = []
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        if page.evaluate("document.documentElement.scrollWidth - innerWidth") > 0:
            wrong.append(f"{name} {width}: wider than the screen")
        for scheme in SCHEMES:
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            found = axe.run(page)
            if found.violations_count:
                wrong.append(f"{name} {width} {scheme}: {found.generate_report()}")
    return wrong


@pytest.mark.parametrize(
    ("email", "paths"),
    [("", PUBLIC), (EMAIL, CUSTOMERS), (OPERATOR, OPERATORS)],
    ids=["public", "customer", "operator"],
)
def test_every_page_is_accessible(
    browser: Browser, served: Furnished, email: str, paths: tuple[str, ...]
) -> None:
    context = visit(browser, served, email)
    page = context.new_page()
    wrong = []
    for url in served.pages(paths):
        page.goto(url)
        wrong += findings(page, url.removeprefix(served.url))
    context.close()
    assert wrong == []


def test_pages_that_follow_a_form_are_accessible(browser: Browser, served: Furnished) -> None:
    stranger = visit(browser, served).new_page()
    stranger.goto(f"{served.url}/console/signup")
    stranger.evaluate("document.querySelector('main form').noValidate = true")
    stranger.get_by_role("button", name="Sign up", exact=True).click()
    stranger.get_by_role("alert").wait_for()
    wrong = findings(stranger, "sign-up with errors")
    stranger.goto(f"{served.url}/withdraw")
    for label, text in (("name", "Ion Pop"), ("contract", "PB-1"), ("email", "ion@plates.io")):
        stranger.locator(f"#{label}").fill(text)
    stranger.locator("main form button").click()
    stranger.get_by_role("button", name="Confirm withdrawal").wait_for()
    wrong += findings(stranger, "withdrawal to confirm")
    stranger.context.close()

    customer = visit(browser, served, EMAIL).new_page()
    customer.goto(f"{served.url}/console/order")
    customer.get_by_role("button", name="Continue to the total").click()
    customer.get_by_role("button", name="Order with obligation to pay").wait_for()
    wrong += findings(customer, "order to confirm")
    customer.goto(f"{served.url}/console/keys")
    customer.get_by_role("button", name="Create key").click()
    customer.get_by_label("The new key", exact=True).wait_for()
    wrong += findings(customer, "new key")
    customer.context.close()
    assert wrong == []


def test_languages_are_chosen_by_pointer_and_arrow_keys(
    browser: Browser, served: Furnished
) -> None:
    context = visit(browser, served)
    page = context.new_page()
    page.goto(served.url)
    shown = page.locator(".client:visible")
    expect(shown).to_have_count(1)
    expect(shown).to_contain_text("base64")
    page.get_by_role("tab", name="PHP").click()
    expect(shown).to_have_id("example-php")
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("tab", name="C#", exact=True)).to_be_focused()
    expect(shown).to_have_id("example-csharp")
    page.keyboard.press("End")
    expect(shown).to_have_id("example-vbnet")
    page.keyboard.press("ArrowRight")
    expect(shown).to_have_id("example-curl")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Home")
    page.keyboard.press("Tab")  # into the panel: the button that copies
    expect(page.locator("#example-curl .copy")).to_be_focused()
    context.close()


def test_without_javascript_every_example_is_shown(browser: Browser, served: Furnished) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(served.url)
    expect(page.locator(".client:visible")).to_have_count(6)
    expect(page.get_by_role("heading", name="Python", exact=True)).to_be_visible()
    context.close()


def test_an_old_link_to_an_error_leads_to_the_reference(
    browser: Browser, served: Furnished
) -> None:
    context = visit(browser, served)
    page = context.new_page()
    page.goto(f"{served.url}/#cd-1004")
    page.wait_for_url(f"{served.url}/docs#cd-1004")
    context.close()


def test_the_chart_tells_its_values_to_pointer_and_keyboard(
    browser: Browser, served: Furnished
) -> None:
    context = visit(browser, served, EMAIL)
    page = context.new_page()
    page.goto(f"{served.url}/console")
    days = page.locator(".columns > li")
    expect(days).to_have_count(14)
    days.nth(12).hover()
    expect(days.nth(12).locator(".tip")).to_have_css("opacity", "1")
    expect(days.nth(12).locator(".tip")).to_contain_text("26 requests")
    days.last.focus()
    page.keyboard.press("ArrowLeft")
    expect(days.nth(12)).to_be_focused()
    page.keyboard.press("Home")
    expect(days.first).to_be_focused()
    page.get_by_text("Show as a table").click()
    expect(page.locator("#as-table tbody tr")).to_have_count(14)
    context.close()
