"""The pages of an account: figures, orders, keys, profile, consents, tickets; the operator's."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import io
import json
import os
import re
import shutil
import signal
import socket
import time
from http import HTTPStatus
from pathlib import Path

import httpx
import pytest
import uvicorn
from sse_starlette.sse import AppStatus

from plateblur.accounts import api_keys, consents, invoices, sessions, signup
from plateblur.accounts.profiles import find_profile, read_profile
from plateblur.accounts.store import Store
from plateblur.accounts.types import Identity, NotFoundError, PlanKind, UnknownCredentialsError
from plateblur.console import home
from plateblur.console.door import Visit
from tests.accounts.fakes import EMAIL, NOW, PASSWORD, SECRET, use
from tests.console.fakes import ADDRESS_OF_INVOICE, Stand, Visitor, hidden, link_in, make_stand

pytestmark = pytest.mark.anyio

NASTY = "<script>alert(1)</script>{{7*7}}'); DROP TABLE accounts;--"


def account_id(stand: Stand, email: str = EMAIL) -> int:
    return find_profile(stand.store, email).account_id


async def order(visitor: Visitor, **changes: str) -> str:
    """Order a package; return where the browser is sent."""
    form = ADDRESS_OF_INVOICE | {"kind": "monthly"} | changes
    answer = await visitor.order(form)
    assert answer.status_code == HTTPStatus.SEE_OTHER, answer.text
    return answer.headers["location"]


async def test_the_trial_starts_once(stand: Stand) -> None:
    visitor = await stand.visit_as()
    assert "1006" in (await visitor.get("/console")).text
    answer = await visitor.send("/console/trial", {}, page="/console")
    assert answer.headers["location"] == "/console?done=trial"
    text = (await visitor.get("/console")).text
    assert "2026-03-17 12:00 UTC" in text
    assert "Start free trial" not in text
    again = await visitor.send("/console/trial", {}, page="/console/keys")
    assert again.status_code == HTTPStatus.CONFLICT


async def test_the_figures_are_those_of_the_gate(stand: Stand) -> None:
    visitor = await stand.visit_as()
    identity = Identity(account_id(stand), EMAIL)
    signup.start_trial(stand.store, identity.account_id, now=NOW)
    use(stand.gate, identity, predictions=3)
    text = (await visitor.get("/console")).text
    for name, value in (("requests_used", 1), ("requests_left", 49), ("predictions_used", 3)):
        assert f'<strong data-live="{name}">{value}</strong>' in text
    invoices.grant_package(stand.store, identity.account_id, PlanKind.YEARLY, now=NOW)
    use(stand.gate, identity, predictions=4)
    text = (await visitor.get("/console")).text
    assert '<strong data-live="predictions_left">9,996</strong>' in text


async def test_the_stream_tells_each_change_and_ends_with_the_session(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(home, "LOOK_EVERY_S", 0.01)
    visitor = await stand.visit_as()
    identity = Identity(account_id(stand), EMAIL)
    signup.start_trial(stand.store, identity.account_id, now=NOW)
    looks = iter(["use", "rest", "use", "log out", "rest"])
    look = home._look

    def look_while_things_happen(visit: Visit) -> tuple[home.Figures, tuple[int, ...]] | None:
        seen = look(visit)
        match next(looks):
            case "use":
                use(stand.gate, identity)
            case "log out":
                sessions.log_out(stand.store, visit.session)
        return seen

    monkeypatch.setattr(home, "_look", look_while_things_happen)
    answer = await visitor.get("/console/events")
    assert answer.headers["content-type"].startswith("text/event-stream")
    figures = [
        json.loads(line) for line in re.findall(r"^data: (.+?)\s*$", answer.text, re.MULTILINE)
    ]
    assert [one["requests_used"] for one in figures] == [0, 1, 2]
    assert next(looks, "none left") == "none left"
    assert home._streams == {}


async def test_more_streams_than_one_person_needs_are_told_to_come_back_later(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(home, "STREAMS_PER_ACCOUNT", 0)
    visitor = await stand.visit_as()
    assert (await visitor.get("/console/events")).text.strip() == "retry: 60000"


@pytest.mark.slow
async def test_a_stream_ends_when_the_service_is_stopped(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise an open console page would hold the process for its whole time to shut down."""
    monkeypatch.setattr(AppStatus, "should_exit", False)  # the signal sets it for the process
    visitor = await stand.visit_as()
    config = uvicorn.Config(stand.app, log_level="error", timeout_graceful_shutdown=60)
    server = uvicorn.Server(config)
    before = signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn raises it again at its end
    try:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            serving = asyncio.create_task(server.serve(sockets=[listening]))
            url = f"http://127.0.0.1:{listening.getsockname()[1]}/console/events"
            cookies = dict(visitor.client.cookies)
            async with (
                httpx.AsyncClient(cookies=cookies, timeout=30) as client,
                client.stream("GET", url) as answer,
            ):
                lines = answer.aiter_lines()
                assert await anext(lines) == "retry: 2000"
                os.kill(os.getpid(), signal.SIGTERM)
                told = time.monotonic()
                with contextlib.suppress(httpx.RemoteProtocolError):  # it breaks off
                    async for _ in lines:
                        pass
            await serving
    finally:
        signal.signal(signal.SIGTERM, before)
    assert time.monotonic() - told < 20
    assert home._streams == {}


@pytest.mark.slow
async def test_an_order_is_an_invoice_on_the_list_on_paper_and_in_the_mail(stand: Stand) -> None:
    visitor = await stand.visit_as()
    assert await order(visitor) == "/console/invoices?done=ordered"
    assert "PB-2026-000001" in (await visitor.get("/console/invoices")).text
    page = await visitor.get("/console/invoices/PB-2026-000001")
    assert "Ana Pop" in page.text
    assert '<link rel="stylesheet" href="/console/static/invoice.css">' in page.text
    pdf = await visitor.get("/console/invoices/PB-2026-000001/pdf")
    assert pdf.content.startswith(b"%PDF-")
    assert pdf.headers["content-disposition"] == 'attachment; filename="PB-2026-000001.pdf"'
    assert (
        f"To: {EMAIL}\nSubject: Your PlateBlur order and invoice PB-2026-000001"
        in stand.letters()[0]
    )


@pytest.mark.parametrize(
    ("field", "changes"),
    [("kind", {"kind": "trial"}), ("full_name", {"full_name": " "}),
     ("postal_address", {"postal_address": ""}), ("country", {"country": "XX"}),
     ("country", {"country": ""}), ("vat_id", {"taxable": "yes"}),
     ("vat_id", {"taxable": "yes", "vat_id": "DE1"})],
)  # fmt: skip
async def test_an_order_that_lacks_something_names_it(
    stand: Stand, field: str, changes: dict[str, str]
) -> None:
    visitor = await stand.visit_as()
    form = ADDRESS_OF_INVOICE | {"kind": "monthly"} | changes
    answer = await visitor.send("/console/order", form)
    assert answer.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
    assert f'<a href="#{field}">' in answer.text
    assert invoices.list_invoices(stand.store, account_id=None) == []


@pytest.mark.slow
async def test_a_vat_number_counts_for_a_taxable_person_only(stand: Stand) -> None:
    visitor = await stand.visit_as()
    await order(visitor, vat_id="RO1234565")
    await order(visitor, vat_id="RO1234565", taxable="yes", kind="yearly")
    yearly, monthly = invoices.list_invoices(stand.store, account_id=account_id(stand))
    assert (monthly.buyer["vat_id"], yearly.buyer["vat_id"]) == ("", "RO1234565")


async def test_a_key_is_shown_once_and_works_until_it_is_revoked(stand: Stand) -> None:
    visitor = await stand.visit_as()
    shown = await visitor.send("/console/keys", {"label": "camera"})
    key = re.search(r"pb_[a-z2-7]{12}_[\w-]{43}", shown.text)
    assert key is not None
    assert key[0] not in (await visitor.get("/console/keys")).text
    assert stand.gate.authenticate_key(key[0], address="203.0.113.9").email == EMAIL
    key_id = api_keys.list_keys(stand.store, account_id(stand))[0].api_key_id
    await visitor.send(f"/console/keys/{key_id}/revoke", {}, page="/console/keys")
    with pytest.raises(UnknownCredentialsError):
        stand.gate.authenticate_key(key[0], address="203.0.113.9")


@pytest.mark.slow
async def test_other_peoples_things_are_not_there(stand: Stand) -> None:
    owner = await stand.visit_as("owner@plates.io")
    await order(owner)
    await owner.send("/console/keys", {"label": ""})
    await owner.send("/console/tickets", {"subject": "Mine", "text": "Only mine"})
    visitor = await stand.visit_as()
    for path in ("invoices/PB-2026-000001", "invoices/PB-2026-000001/pdf", "tickets/1"):
        assert (await visitor.get(f"/console/{path}")).status_code == HTTPStatus.NOT_FOUND
    for path in ("keys/1/revoke", "tickets/1", "tickets/1/close"):
        answer = await visitor.send(f"/console/{path}", {"text": "x"}, page="/console/keys")
        assert answer.status_code == HTTPStatus.NOT_FOUND
    assert (
        api_keys.list_keys(stand.store, account_id(stand, "owner@plates.io"))[0].revoked_at is None
    )


@pytest.mark.slow
async def test_what_was_typed_stays_text_on_every_page(stand: Stand) -> None:
    visitor = await stand.visit_as()
    operator = await stand.visit_as("boss@plates.io", role="operator")
    await order(visitor, full_name=NASTY, company=NASTY, postal_address=NASTY)
    await visitor.send("/console/keys", {"label": NASTY[:80]})
    await visitor.send("/console/tickets", {"subject": NASTY, "text": NASTY})
    own = ("order", "invoices", "invoices/PB-2026-000001", "keys", "profile", "tickets/1")
    all_ = ("operator/invoices", "operator/tickets", "operator/tickets/1", f"operator?q={NASTY}")
    pages = [await visitor.get(f"/console/{path}") for path in own]
    pages += [await operator.get(f"/console/{path}") for path in all_]
    for page in pages:
        assert page.status_code == HTTPStatus.OK
        assert "<script>" not in page.text
        assert "{{7*7}}" in page.text or "invoices" in str(page.url)
        assert ">49" not in page.text
    assert NASTY in read_profile(stand.store, account_id(stand)).full_name


async def test_the_profile_is_changed_and_a_refused_one_is_shown_as_typed(stand: Stand) -> None:
    visitor = await stand.visit_as()
    form = ADDRESS_OF_INVOICE | {"username": "ana"}
    answer = await visitor.send("/console/profile", form | {"vat_id": "DE1", "company": "Typed"})
    assert answer.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
    assert 'value="Typed"' in answer.text
    await visitor.send("/console/profile", form)
    assert read_profile(stand.store, account_id(stand)).username == "ana"


async def test_another_password_needs_the_old_one_and_ends_the_session(stand: Stand) -> None:
    visitor = await stand.visit_as()
    form = {"old": "wrong password here", "password": "another long password"}
    wrong = await visitor.send("/console/profile/password", form, page="/console/profile")
    assert '<a href="#old">' in wrong.text
    done = await visitor.send(
        "/console/profile/password", form | {"old": PASSWORD}, page="/console/profile"
    )
    assert done.headers["location"] == "/console/login?done=password"
    assert (await visitor.log_in(EMAIL, "another long password")).status_code == 303


async def test_an_open_session_cannot_guess_the_password(stand: Stand) -> None:
    visitor = await stand.visit_as()
    form = {"password": "wrong password here", "sure": "yes"}
    for _ in range(7):
        answer = await visitor.send("/console/profile/delete", form)
    assert "Too many attempts" in answer.text


async def test_a_key_deletes_no_account(stand: Stand) -> None:
    visitor = await stand.visit_as()
    key = api_keys.add_key(stand.store, account_id(stand), label="", now=NOW).key
    answer = await visitor.send("/console/profile/delete", {"password": key, "sure": "yes"})
    assert "not enough" in answer.text
    assert account_id(stand)


@pytest.mark.slow
async def test_another_address_counts_once_its_letter_is_opened(stand: Stand) -> None:
    visitor = await stand.visit_as()
    form = {"email": "new@plates.io", "email_password": PASSWORD}
    await visitor.send("/console/profile/email", form, page="/console/profile")
    letter = stand.letters()[0]
    assert "To: new@plates.io" in letter
    link = link_in(letter)
    token = hidden((await visitor.get(link)).text, "token")
    done = await visitor.send("/console/email", {"token": token}, page=link)
    assert done.headers["location"] == "/console/login?done=email"
    assert (await visitor.log_in("new@plates.io")).headers["location"] == "/console"


async def test_consents_are_seen_changed_and_exported(stand: Stand) -> None:
    visitor = await stand.visit_as()
    for given in ("yes", "no"):
        await visitor.send("/console/consents", {"given": given})
    exported = await visitor.get("/console/consents.json")
    assert exported.headers["content-disposition"] == 'attachment; filename="consents.json"'
    assert [(one["subject"], one["given"]) for one in exported.json()] == [
        ("newsletter", True), ("newsletter", False),
    ]  # fmt: skip
    table = list(csv.DictReader(io.StringIO((await visitor.get("/console/consents.csv")).text)))
    assert [row["given"] for row in table] == ["yes", "no"]
    assert "You are not subscribed" in (await visitor.get("/console/consents")).text


async def test_a_formula_in_the_log_is_inert_in_a_spreadsheet(stand: Stand) -> None:
    visitor = await stand.visit_as()
    consents.record_consent(
        stand.store, account_id(stand), subject="=cmd|' /C calc'!A0", text_version="+1",
        given=True, now=NOW,
    )  # fmt: skip
    text = (await visitor.get("/console/consents.csv")).text
    row = list(csv.reader(io.StringIO(text)))[1]
    assert [cell[0] for cell in row[1:3]] == ["'", "'"]


async def test_a_deleted_account_is_gone_with_its_session(stand: Stand) -> None:
    visitor = await stand.visit_as()
    unsure = await visitor.send("/console/profile/delete", {"password": PASSWORD})
    assert '<a href="#sure">' in unsure.text
    done = await visitor.send("/console/profile/delete", {"password": PASSWORD, "sure": "yes"})
    assert done.headers["location"] == "/console/login?done=deleted"
    with pytest.raises(NotFoundError):
        account_id(stand)
    assert (await visitor.get("/console")).headers["location"] == "/console/login"


@pytest.mark.slow
async def test_a_ticket_is_opened_answered_and_closed(stand: Stand) -> None:
    visitor = await stand.visit_as()
    operator = await stand.visit_as("boss@plates.io", role="operator")
    empty = await visitor.send("/console/tickets", {"subject": "Hello", "text": ""})
    assert '<a href="#text">' in empty.text
    opened = await visitor.send("/console/tickets", {"subject": "Hello", "text": "A question"})
    assert opened.headers["location"] == "/console/tickets/1?done=ticket"
    assert "Hello" in (await operator.get("/console/operator/tickets")).text
    await operator.send("/console/operator/tickets/1", {"text": "An answer"})
    assert "An answer" in (await visitor.get("/console/tickets/1")).text
    letter = stand.letters()[0]
    assert f"To: {EMAIL}" in letter
    assert "An answer" not in letter.partition("\n\n")[2]
    await visitor.send("/console/tickets/1/close", {}, page="/console/tickets/1")
    assert "closed" in (await operator.get("/console/operator/tickets/1")).text


@pytest.mark.slow
async def test_the_operator_finds_an_account_and_marks_its_invoice_paid(stand: Stand) -> None:
    visitor = await stand.visit_as()
    operator = await stand.visit_as("boss@plates.io", role="operator")
    await order(visitor)
    found = (await operator.get("/console/operator?q=ANA")).text
    assert EMAIL in found
    assert "boss@plates.io" not in found.partition("<table>")[2]
    assert "No accounts found" in (await operator.get("/console/operator?q=%00")).text
    paid = await operator.send(
        "/console/operator/invoices/PB-2026-000001/paid", {}, page="/console/operator/invoices"
    )
    assert paid.headers["location"] == "/console/operator/invoices?done=paid"
    identity = Identity(account_id(stand), EMAIL)
    assert stand.gate.active_plan(identity).kind is PlanKind.MONTHLY
    assert (
        "monthly until"
        in (await operator.get(f"/console/operator/accounts/{identity.account_id}")).text
    )


async def test_the_operator_does_not_lock_itself_out(stand: Stand) -> None:
    operator = await stand.visit_as("boss@plates.io", role="operator")
    own = f"/console/operator/accounts/{account_id(stand, 'boss@plates.io')}"
    answer = await operator.send(f"{own}/lock", {}, page=own)
    assert answer.status_code == HTTPStatus.CONFLICT
    assert (await operator.get("/console/operator")).status_code == HTTPStatus.OK


async def test_a_service_that_is_tried_out_says_that_its_seller_is_a_sample(stand: Stand) -> None:
    visitor = await stand.visit_as()
    assert "Sample seller" in (await visitor.get("/console/order")).text


async def test_without_a_seller_no_orders_are_taken(tmp_path: Path, empty_sqlite: Path) -> None:
    shutil.copy(empty_sqlite, tmp_path)
    store = Store(f"sqlite:///{tmp_path}/accounts.sqlite3", secret=SECRET)
    stand = make_stand(
        store, tmp_path, mode="production", secret_key="0f" * 32, public_url="https://plates.test"
    )
    stand.make_account()
    visitor = stand.visitor(url="https://plates.test")
    await visitor.log_in()
    assert "Orders aren't available yet" in (await visitor.get("/console/order")).text
    form = ADDRESS_OF_INVOICE | {"kind": "monthly"}
    answer = await visitor.send("/console/order", form, page="/console/keys")
    assert answer.status_code == HTTPStatus.CONFLICT
    assert invoices.list_invoices(store, account_id=None) == []
    store.close()
