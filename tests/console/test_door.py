"""What holds on every page: forms, roles, cookies, headers."""

from __future__ import annotations

import json
import re
import shutil
from http import HTTPStatus
from pathlib import Path

import pytest

from plateblur.accounts.store import Store
from plateblur.console.console import PAGES
from plateblur.console.door import MAX_FORM_BYTES, For, Page
from tests.accounts.fakes import PASSWORD, SECRET
from tests.console.fakes import Stand, make_stand

pytestmark = pytest.mark.anyio

FORMS = [page for page in PAGES if page.method == "POST"]
OF_OPERATOR = [page for page in PAGES if page.whom is For.OPERATOR]
NOT_OF_ANYONE = [page for page in PAGES if page.whom is not For.ANYONE]


def address(page: Page) -> str:
    """Return a path of the page; what it names need not be there."""
    path = re.sub(r"\{number\}", "PB-2026-000001", page.path)
    return re.sub(r"\{\w+:int\}", "1", path)


def named(page: Page) -> str:
    return f"{page.method} {page.path}"


async def test_a_form_without_the_token_of_its_page_is_refused(stand: Stand) -> None:
    victim = await stand.visit_as("victim@plates.io", role="operator")
    attacker = stand.visitor()
    stolen = re.search(r"[0-9a-f]{64}", (await attacker.get("/console/login")).text)
    assert stolen is not None
    assert (await victim.get("/console/operator")).status_code == HTTPStatus.OK
    for page in FORMS:
        for form in ({}, {"csrf": ""}, {"csrf": stolen[0]}, {"csrf": "ü"}):
            answer = await victim.client.post(address(page), data={"password": PASSWORD} | form)
            assert answer.status_code == HTTPStatus.FORBIDDEN, (named(page), form)
            assert "has expired" in answer.text, (named(page), form)
        # It neither logged the victim out nor locked the account.
        still = await victim.get("/console/operator")
        assert still.status_code == HTTPStatus.OK, named(page)


async def test_the_token_of_before_the_log_in_is_no_good_after_it(stand: Stand) -> None:
    stand.make_account()
    visitor = stand.visitor()
    before = re.search(r"[0-9a-f]{64}", (await visitor.get("/console/login")).text)
    assert before is not None
    await visitor.log_in()
    answer = await visitor.client.post("/console/keys", data={"csrf": before[0]})
    assert answer.status_code == HTTPStatus.FORBIDDEN


@pytest.mark.slow
@pytest.mark.parametrize("page", NOT_OF_ANYONE, ids=named)
async def test_a_stranger_is_sent_to_the_log_in(stand: Stand, page: Page) -> None:
    visitor = stand.visitor()
    answer = await visitor.client.request(page.method, address(page), data={"csrf": "x"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/console/login")
    assert answer.text == ""


@pytest.mark.slow
@pytest.mark.parametrize("page", OF_OPERATOR, ids=named)
async def test_the_operators_pages_are_for_the_operator(stand: Stand, page: Page) -> None:
    visitor = await stand.visit_as()
    token = re.search(r'value="([0-9a-f]{64})"', (await visitor.get("/console")).text)
    assert token is not None
    answer = await visitor.client.request(page.method, address(page), data={"csrf": token[1]})
    assert answer.status_code == HTTPStatus.FORBIDDEN
    assert "Only the operator" in answer.text


@pytest.mark.slow
async def test_every_page_has_strict_headers_and_no_inline_code(stand: Stand) -> None:
    visitor = await stand.visit_as(role="operator")
    shown = 0
    for page in PAGES:
        if page.method != "GET" or page.path == "/console/events":
            continue
        answer = await visitor.get(address(page))
        headers = answer.headers
        assert headers["cache-control"] == "no-store", page.path
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        if headers.get("content-type", "").startswith("text/html"):
            shown += 1
            assert "form-action 'self'" in policy
            assert "<style" not in answer.text
            assert not re.search(r"<script(?![^>]*\bsrc=\"/)", answer.text)
            assert not re.search(r'\s(?:style|on[a-z]+)="', answer.text)
            for link in re.findall(r'(?:src|href|action)="([^"]*)"', answer.text):
                assert link.startswith(("/", "#")), link
    assert shown > 20


@pytest.mark.slow
async def test_every_field_has_its_label(stand: Stand) -> None:
    visitor = await stand.visit_as(role="operator")
    for page in PAGES:
        if page.method == "GET" and page.path != "/console/events":
            text = (await visitor.get(address(page))).text
            ids = re.findall(r'<(?:input|select|textarea) id="([^"]+)"', text)
            assert len(ids) == len(set(ids)), page.path
            for name in ids:
                assert f'<label for="{name}"' in text or f'class="check" for="{name}"' in text, name


async def test_the_session_cookie_is_out_of_reach_of_scripts_and_in_production_of_plain_http(
    tmp_path: Path, empty_sqlite: Path
) -> None:
    shutil.copy(empty_sqlite, tmp_path)
    store = Store(f"sqlite:///{tmp_path}/accounts.sqlite3", secret=SECRET)
    stand = make_stand(
        store, tmp_path, mode="production", secret_key="0f" * 32, public_url="https://plates.test"
    )
    stand.make_account()
    visitor = stand.visitor(url="https://plates.test")
    answer = await visitor.log_in()
    given = answer.headers.get_list("set-cookie")
    session = next(cookie for cookie in given if "session" in cookie)
    assert session.startswith("__Host-plateblur-session=")
    for words in ("HttpOnly", "SameSite=lax", "Secure", "Path=/"):
        assert words in session
    assert "Domain" not in session
    assert (await visitor.get("/console")).status_code == HTTPStatus.OK
    # A letter's link opens an account: in production it is on no terminal.
    await visitor.send("/console/forgotten", {"email": "ana.pop@plates.io"})
    assert len(stand.letters()) == 1
    assert stand.told == []
    store.close()


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"a=" + b"x" * MAX_FORM_BYTES, "application/x-www-form-urlencoded", 413),
        (b"&".join([b"a=b"] * 50), "application/x-www-form-urlencoded", 400),
        (b"\xff\xfe", "application/x-www-form-urlencoded", 400),
        (b"{}", "application/json", 415),
        (b"--x\r\n\r\n", "multipart/form-data; boundary=x", 415),
        (b"", "", 415),
    ],
    ids=["too long", "many fields", "no ASCII", "JSON", "multipart", "nothing"],
)
async def test_what_is_no_form_is_refused(
    stand: Stand, body: bytes, content_type: str, status: int
) -> None:
    answer = await stand.visitor().client.post(
        "/console/login", content=body, headers={"Content-Type": content_type}
    )
    assert answer.status_code == status
    assert answer.headers["content-type"].startswith("text/html")


@pytest.mark.parametrize(
    "path",
    ["/nowhere", "/tickets/1", "/tickets/99999999999999999999999", "/invoices/PB-2026-000001",
     "/invoices/PB-2026-000001/pdf", "/invoices/%00", "/invoices/..%2f..%2fetc", "/keys/x"],
)  # fmt: skip
async def test_what_is_not_there_is_a_page_that_says_so(stand: Stand, path: str) -> None:
    visitor = await stand.visit_as()
    answer = await visitor.get(f"/console{path}")
    assert answer.status_code == HTTPStatus.NOT_FOUND
    assert answer.headers["content-type"].startswith("text/html")


async def test_the_front_page_links_to_the_console(stand: Stand) -> None:
    text = (await stand.visitor().get("/")).text
    for path in ("/console/login", "/console/signup", "/faq", "/terms", "/privacy", "/support"):
        assert f'href="{path}"' in text
    at_home = (await (await stand.visit_as()).get("/")).text
    assert 'href="/console"' in at_home
    assert 'href="/console/login"' not in at_home


async def test_the_console_is_in_no_description_of_the_api(stand: Stand) -> None:
    assert "console" not in json.dumps((await stand.visitor().get("/openapi.json")).json())


async def test_a_session_left_alone_ends_though_its_page_still_asks(stand: Stand) -> None:
    visitor = await stand.visit_as()
    page = next(page for page in PAGES if page.path == "/console/events")
    assert not page.touches
    stand.clock.turn(hours=13)
    assert (await visitor.get("/console/events")).headers["location"] == "/console/login"
