"""What buyers must be shown: the total, the terms, the provider, and how to withdraw."""

from __future__ import annotations

import email
import email.policy
from collections.abc import Iterator
from datetime import timedelta
from html import unescape
from http import HTTPStatus
from pathlib import Path

import pytest

from plateblur.accounts import invoices, withdrawals
from plateblur.accounts.store import Store
from plateblur.accounts.types import EmailLimitError, InvoiceStatus
from tests.accounts.conftest import postgres, url  # noqa: F401 - fixtures
from tests.accounts.fakes import EMAIL, NOW, SECRET
from tests.console.fakes import ADDRESS_OF_INVOICE, Stand, make_stand

pytestmark = pytest.mark.anyio

FORM = ADDRESS_OF_INVOICE | {"kind": "monthly"}
SELLER = {
    "seller_name": "Drawn Plates SRL",
    "seller_address": "Str. Lungă 7\\nBrașov",
    "seller_country": "RO",
    "seller_vat_id": "RO1234565",
    "seller_email": "office@plates.io",
    "seller_phone": "+40 21 555 0100",
}
STATEMENT = {"name": "Ana Pop", "contract": "PB-2026-000001", "email": EMAIL}


@pytest.fixture
def selling(tmp_path: Path, url: str) -> Iterator[Stand]:  # noqa: F811 - SQLite, then PostgreSQL
    store = Store(url, secret=SECRET)
    yield make_stand(store, tmp_path, **SELLER)
    store.close()


async def test_the_total_with_vat_and_the_seller_are_beside_the_button(selling: Stand) -> None:
    visitor = await selling.visit_as()
    page = unescape((await visitor.send("/console/order", FORM | {"country": "DE"})).text)
    before_button = page.partition("Order with obligation to pay")[0]
    for words in (
        *("80.00 USD", "VAT 19 %", "15.20 USD", "95.20 USD", "article 58"),
        *("Drawn Plates SRL", "office@plates.io", "+40 21 555 0100", "until 2026-03-24"),
        *("before the 14 days are over", "/terms#withdrawal"),
    ):
        assert words in before_button, words
    assert invoices.list_invoices(selling.store, account_id=None) == []


@pytest.mark.parametrize(
    ("missing", "field"), [({"agreed": ""}, "agreed"), ({"start_now": ""}, "start_now")]
)
async def test_nothing_is_ordered_without_agreement_and_a_chosen_start(
    selling: Stand, missing: dict[str, str], field: str
) -> None:
    visitor = await selling.visit_as()
    answer = await visitor.order(FORM, **missing)
    assert answer.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
    assert f'<a href="#{field}">' in answer.text
    assert invoices.list_invoices(selling.store, account_id=None) == []


@pytest.mark.slow
async def test_a_business_is_not_asked_about_withdrawing(selling: Stand) -> None:
    visitor = await selling.visit_as()
    form = FORM | {"taxable": "yes", "country": "US"}
    page = (await visitor.send("/console/order", form)).text
    assert "start_now" not in page
    answer = await visitor.order(form, start_now="")
    assert answer.headers["location"] == "/console/invoices?done=ordered"
    (invoice,) = invoices.list_invoices(selling.store, account_id=None)
    assert "article 44" in invoice.vat_note
    assert not invoice.is_of_consumer


async def test_the_confirmation_has_the_invoice_and_the_terms_as_files(selling: Stand) -> None:
    visitor = await selling.visit_as()
    await visitor.order(FORM)
    (path,) = (selling.folder / "outbox").glob("*.eml")
    message = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
    html = message.get_body(("html",))
    assert html is not None
    assert "Thank you for your order" in html.get_content()
    files = {one.get_filename(): one.get_payload(decode=True) for one in message.iter_attachments()}
    assert bytes(files["PB-2026-000001.pdf"]).startswith(b"%PDF-")
    terms = bytes(files["terms.html"]).decode()
    for words in ("Drawn Plates SRL", "Right of withdrawal", "Model withdrawal form", "/withdraw"):
        assert words in terms
    assert "until 2026-03-24" in selling.letters()[0]


@pytest.mark.slow
async def test_an_unpaid_order_can_be_cancelled(selling: Stand) -> None:
    visitor = await selling.visit_as()
    await visitor.order(FORM)
    path = "/console/invoices/PB-2026-000001/cancel"
    assert (await visitor.send(path, {})).headers["location"].endswith("done=cancelled")
    page = (await visitor.get("/console/invoices")).text
    assert "CN-2026-000001" in page
    assert "How to pay" not in page
    assert (await visitor.get(path)).status_code == HTTPStatus.CONFLICT
    pdf = await visitor.get("/console/credit-notes/CN-2026-000001/pdf")
    assert pdf.content.startswith(b"%PDF-")
    stranger = await selling.visit_as("ion@plates.io")
    for part in ("", "/pdf"):
        answer = await stranger.get(f"/console/credit-notes/CN-2026-000001{part}")
        assert answer.status_code == HTTPStatus.NOT_FOUND


@pytest.mark.slow
async def test_an_owner_who_withdraws_gets_the_order_taken_back_at_once(selling: Stand) -> None:
    visitor = await selling.visit_as()
    await visitor.order(FORM)
    invoices.mark_paid(selling.store, "PB-2026-000001", paid_by="operator", now=NOW)
    assert "/withdraw?contract=PB-2026-000001" in (await visitor.get("/withdraw")).text
    shown = await visitor.send("/withdraw", STATEMENT)
    assert "Confirm withdrawal" in shown.text
    done = await visitor.send("/withdraw/confirm", STATEMENT, page="/withdraw")
    assert done.headers["location"] == "/withdraw/done"
    (invoice,) = invoices.list_invoices(selling.store, account_id=None)
    assert invoice.status is InvoiceStatus.CANCELLED
    letter = selling.letters()[-1]
    for words in ("2026-03-10 12:00 UTC", "PB-2026-000001", "Ana Pop", "refund 96.80 USD"):
        assert words in letter
    (entry,) = withdrawals.list_withdrawals(selling.store)
    assert entry.credit_note == "CN-2026-000001"


@pytest.mark.slow
async def test_who_withdrew_before_is_offered_no_immediate_start(selling: Stand) -> None:
    visitor = await selling.visit_as()
    await visitor.order(FORM)
    invoices.mark_paid(selling.store, "PB-2026-000001", paid_by="operator", now=NOW)
    await visitor.send("/withdraw/confirm", STATEMENT, page="/withdraw")
    page = (await visitor.send("/console/order", FORM)).text
    assert "You have withdrawn from an order before" in page
    assert 'name="start_now" value="yes"' not in page
    refused = await visitor.order(FORM, start_now="yes")
    assert refused.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
    done = await visitor.order(FORM, start_now="no")
    assert done.headers["location"] == "/console/invoices?done=ordered"


@pytest.mark.slow
async def test_a_stranger_who_withdraws_changes_nothing_but_is_heard(selling: Stand) -> None:
    visitor = await selling.visit_as()
    await visitor.order(FORM)
    stranger = selling.visitor(address="203.0.113.9")
    await stranger.send("/withdraw/confirm", STATEMENT | {"email": "x@plates.io"}, page="/withdraw")
    (invoice,) = invoices.list_invoices(selling.store, account_id=None)
    assert invoice.status is InvoiceStatus.ISSUED
    assert "To: x@plates.io" in selling.letters()[-1]
    operator = await selling.visit_as("boss@plates.io", role="operator")
    page = (await operator.get("/console/operator/invoices")).text
    assert "Mark as answered" in page
    (entry,) = withdrawals.list_withdrawals(selling.store)
    settled = await operator.send(
        f"/console/operator/withdrawals/{entry.withdrawal_id}/settle",
        {},
        page="/console/operator/invoices",
    )
    assert settled.headers["location"].endswith("done=answered")


async def test_statements_are_slowed_like_log_ins(selling: Stand) -> None:
    visitor = selling.visitor()
    answers = [
        await visitor.send("/withdraw/confirm", STATEMENT, page="/withdraw") for _ in range(9)
    ]
    assert answers[-1].status_code == HTTPStatus.TOO_MANY_REQUESTS
    assert len(withdrawals.list_withdrawals(selling.store)) < 9


async def test_strangers_cannot_fill_the_disk_with_statements(
    selling: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(withdrawals, "MOST_WAITING", 1)
    statement = withdrawals.Statement("Ana Pop", "PB-2026-000001", EMAIL)
    withdrawals.keep(selling.store, statement, credit_note="", now=NOW)
    with pytest.raises(EmailLimitError):
        withdrawals.keep(selling.store, statement, credit_note="", now=NOW)
    withdrawals.keep(selling.store, statement, credit_note="CN-2026-000001", now=NOW)
    (waiting, _) = withdrawals.list_withdrawals(selling.store)
    withdrawals.settle(selling.store, waiting.withdrawal_id, now=NOW)
    withdrawals.keep(selling.store, statement, credit_note="", now=NOW)


@pytest.mark.slow
async def test_the_operator_is_asked_before_an_invoice_is_paid_and_can_refund_it(
    selling: Stand,
) -> None:
    visitor = await selling.visit_as()
    await visitor.order(FORM)
    operator = await selling.visit_as("boss@plates.io", role="operator")
    base = "/console/operator/invoices/PB-2026-000001"
    asked = (await operator.get(f"{base}/paid")).text
    assert "Ana Pop" in asked
    assert "consumer" in asked
    await operator.send(f"{base}/paid", {})
    refused = await operator.send(f"{base}/refund", {"net": "1e9", "reason": "x"})
    assert refused.status_code == HTTPStatus.CONFLICT
    done = await operator.send(f"{base}/refund", {"net": "10.5", "reason": "Outage"})
    assert done.headers["location"].endswith("done=credited")
    page = (await operator.get("/console/operator/invoices")).text
    assert "-12.71" in page
    back = "/console/operator/credit-notes/CN-2026-000001"
    await operator.send(f"{back}/refunded", {}, page="/console/operator/invoices")
    assert "paid back on" in (await operator.get(back)).text


async def test_a_country_that_a_proxy_tells_is_kept_and_compared(
    tmp_path: Path, empty_sqlite: Path
) -> None:
    (tmp_path / "accounts.sqlite3").write_bytes(empty_sqlite.read_bytes())
    store = Store(f"sqlite:///{tmp_path}/accounts.sqlite3", secret=SECRET)
    stand = make_stand(store, tmp_path, **SELLER, country_header="CF-IPCountry")
    visitor = await stand.visit_as()
    visitor.client.headers["CF-IPCountry"] = "fr"
    await visitor.order(FORM)
    (invoice,) = invoices.list_invoices(store, account_id=None)
    assert invoice.terms["network_country"] == "FR"
    operator = await stand.visit_as("boss@plates.io", role="operator")
    page = (await operator.get("/console/operator/invoices/PB-2026-000001/paid")).text
    assert "second piece of evidence" in page
    store.close()


async def test_without_an_exchange_rate_that_is_needed_nothing_is_ordered(
    tmp_path: Path, empty_sqlite: Path
) -> None:
    (tmp_path / "accounts.sqlite3").write_bytes(empty_sqlite.read_bytes())
    store = Store(f"sqlite:///{tmp_path}/accounts.sqlite3", secret=SECRET)
    rate = tmp_path / "rate"
    more = {"seller_vat_currency": "RON", "exchange_rate_file": str(rate)}
    visitor = await make_stand(store, tmp_path, **SELLER, **more).visit_as()
    refused = await visitor.send("/console/order", FORM)
    assert refused.status_code == HTTPStatus.CONFLICT
    rate.write_text("4.3512 2026-03-09 BNR")
    assert "73.10 RON" in (await visitor.send("/console/order", FORM)).text
    store.close()


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/terms", ("Drawn Plates SRL", "14 days", "Model withdrawal form", "copyright")),
        ("/privacy", ("Drawn Plates SRL", "article 6(1)(b)", "Stripe", "A host, Berlin",
                      "ANSPDCP", "dpo@plates.io", "10 years")),
        ("/support", ("office@plates.io", "+40 21 555 0100", "/status")),
        ("/faq", ("What counts as a prediction?", "/support")),
        ("/pricing", ("80 USD", "/console/order?kind=yearly")),
        ("/", ("Drawn Plates SRL", "Withdraw from contract here")),
    ],
    ids=["terms", "privacy", "support", "faq", "pricing", "front"],
)  # fmt: skip
async def test_the_pages_for_everybody_say_what_the_settings_say(
    tmp_path: Path, empty_sqlite: Path, path: str, words: tuple[str, ...]
) -> None:
    (tmp_path / "accounts.sqlite3").write_bytes(empty_sqlite.read_bytes())
    store = Store(f"sqlite:///{tmp_path}/accounts.sqlite3", secret=SECRET)
    more = {
        "privacy_contact": "dpo@plates.io",
        "privacy_recipients": "A host, Berlin\\nA backup, Paris",
        "privacy_authority": "ANSPDCP, Bucharest",
        "payment_webhook_secret": "whsec_0123456789abcdef0123456789abcdef",
    }
    visitor = make_stand(store, tmp_path, **SELLER, **more).visitor()
    text = unescape((await visitor.get(path)).text)
    for word in words:
        assert word in text, word
    store.close()


@pytest.mark.parametrize(("old", "new"), [("faqs", "/faq"), ("texts", "/privacy")])
async def test_old_addresses_lead_to_the_new_pages(stand: Stand, old: str, new: str) -> None:
    answer = await stand.visitor().get(f"/console/{old}")
    assert answer.status_code == HTTPStatus.MOVED_PERMANENTLY
    assert answer.headers["location"] == new


async def test_sign_up_names_everything_at_once_and_keeps_what_was_typed(stand: Stand) -> None:
    form = {"email": "nonsense", "username": "x", "password": "short"}
    answer = await stand.visitor().send("/console/signup", form)
    assert answer.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
    for field in ("email", "username", "password", "consent_terms", "consent_privacy"):
        assert f'<a href="#{field}">' in answer.text
    assert 'value="nonsense"' in answer.text
    assert 'value="x"' in answer.text
    assert 'value="short"' not in answer.text


async def test_a_page_that_loads_itself_does_not_keep_the_session_alive(stand: Stand) -> None:
    visitor = await stand.visit_as()
    for _ in range(30):
        stand.clock.now += timedelta(minutes=30)
        answer = await visitor.client.get("/console", headers={"PlateBlur-Live": "1"})
    assert answer.headers.get("location") == "/console/login"
