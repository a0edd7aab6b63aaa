"""Orders, numbers without gaps, payment, and the paper."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import func, select

from plateblur.accounts import invoice_papers, invoices, payments, profiles
from plateblur.accounts.gate import StoreGate
from plateblur.accounts.invoices import IssuedInvoice
from plateblur.accounts.models import Invoice
from plateblur.accounts.offers import Seller
from plateblur.accounts.store import Store
from plateblur.accounts.types import Identity, InvoiceStatus, NotFoundError, OrderError, PlanKind
from tests.accounts.fakes import NOW, SELLER, TurnableClock, make_account

WEBHOOK_SECRET = "whsec_tests_only"


def make_buyer(
    store: Store, *, email: str = "ana@plates.io", country: str = "RO", vat_id: str = ""
) -> Identity:
    identity = make_account(store, email=email)
    profiles.change_profile(
        store,
        identity.account_id,
        full_name="Ștefan Țărănuș",
        company="",
        postal_address="Str. Lungă 7",
        country=country,
        vat_id=vat_id,
        username="",
    )
    return identity


def order(
    store: Store, buyer: Identity, kind: PlanKind = PlanKind.MONTHLY, *, now: datetime = NOW
) -> IssuedInvoice:
    return invoices.place_order(store, buyer.account_id, kind, seller=SELLER, now=now)


@pytest.mark.parametrize(
    ("kind", "country", "vat_id", "total_cents"),
    [
        (PlanKind.MONTHLY, "RO", "", 9680),
        (PlanKind.YEARLY, "RO", "", 98736),
        (PlanKind.MONTHLY, "DE", "DE123456788", 8000),
        (PlanKind.YEARLY, "US", "", 81600),
    ],
    ids=["at home", "yearly", "reverse charge", "abroad"],
)
def test_an_order_makes_an_invoice_with_its_vat(
    store: Store, kind: PlanKind, country: str, vat_id: str, total_cents: int
) -> None:
    invoice = order(store, make_buyer(store, country=country, vat_id=vat_id), kind)
    assert (invoice.number, invoice.status) == ("PB-2026-000001", "issued")
    assert invoice.total_cents == total_cents
    assert invoice.buyer["country"] == country


def test_an_order_needs_a_whole_address(store: Store) -> None:
    with pytest.raises(OrderError):
        order(store, make_account(store))


def test_a_second_click_gives_the_same_invoice(store: Store) -> None:
    buyer = make_buyer(store)
    first = order(store, buyer)
    assert order(store, buyer) == first
    assert order(store, buyer, PlanKind.YEARLY).number == "PB-2026-000002"


def test_unpaid_invoices_are_bounded(store: Store) -> None:
    buyer = make_buyer(store)
    for number in range(invoices.MAX_OPEN_INVOICES):
        seller = replace(SELLER, how_to_pay=str(number))
        invoices.place_order(store, buyer.account_id, PlanKind.MONTHLY, seller=seller, now=NOW)
    with pytest.raises(OrderError):
        order(store, buyer)


def test_the_series_starts_again_each_year(store: Store) -> None:
    buyer = make_buyer(store)
    order(store, buyer)
    later = order(store, buyer, PlanKind.YEARLY, now=datetime(2027, 1, 1, tzinfo=UTC))
    assert later.number == "PB-2027-000001"


def test_numbers_have_no_gaps_under_concurrency_and_failures(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    buyers = [make_buyer(store, email=f"a{number}@plates.io") for number in range(12)]
    issued = invoices._issued
    broken = {buyer.account_id for buyer in buyers[::3]}

    def fails_for_some(row: object) -> IssuedInvoice:
        invoice = issued(row)  # type: ignore[arg-type]
        if row.account_id in broken:  # type: ignore[attr-defined]
            raise RuntimeError("failed after its number was taken")
        return invoice

    monkeypatch.setattr(invoices, "_issued", fails_for_some)

    def place(buyer: Identity) -> str | None:
        try:
            return order(store, buyer).number
        except RuntimeError:
            return None

    with ThreadPoolExecutor(12) as pool:
        numbers = [number for number in pool.map(place, buyers) if number]
    assert sorted(numbers) == [f"PB-2026-{number:06d}" for number in range(1, 9)]
    with store.read() as connection:
        assert connection.execute(select(func.count()).select_from(Invoice)).scalar() == 8


def test_paying_opens_the_package_once(store: Store, gate: StoreGate, clock: TurnableClock) -> None:
    buyer = make_buyer(store)
    invoice = order(store, buyer)
    with ThreadPoolExecutor(4) as pool:
        paid = list(
            pool.map(
                lambda _: invoices.mark_paid(store, invoice.number, paid_by="operator", now=NOW),
                range(4),
            )
        )
    assert len(set(map(str, paid))) == 1
    assert (paid[0].starts_at, paid[0].ends_at) == (NOW, datetime(2026, 4, 10, 12, tzinfo=UTC))
    again = invoices.mark_paid(
        store, invoice.number, paid_by="operator", now=NOW + timedelta(days=3)
    )
    assert again == paid[0]
    assert gate.active_plan(buyer).kind is PlanKind.MONTHLY


def test_an_early_renewal_follows_the_running_package(store: Store) -> None:
    buyer = make_buyer(store)
    first = invoices.mark_paid(store, order(store, buyer).number, paid_by="operator", now=NOW)
    second = invoices.mark_paid(store, order(store, buyer).number, paid_by="operator", now=NOW)
    assert second.starts_at == first.ends_at


def test_an_invoice_of_another_account_is_not_found(store: Store) -> None:
    invoice = order(store, make_buyer(store))
    stranger = make_account(store, email="ion@plates.io")
    with pytest.raises(NotFoundError):
        invoices.read_invoice(store, invoice.number, account_id=stranger.account_id)
    with pytest.raises(NotFoundError):
        invoices.mark_paid(store, "PB-2026-999999", paid_by="operator", now=NOW)


def test_a_granted_package_is_no_sale(store: Store, gate: StoreGate) -> None:
    identity = make_account(store, plan=PlanKind.YEARLY)
    granted = invoices.list_invoices(store, account_id=identity.account_id)[0]
    assert (granted.number, granted.total_cents) == ("GRANT-2026-000001", 0)
    assert gate.active_plan(identity).kind is PlanKind.YEARLY


def test_the_seller_needs_a_sound_vat_number() -> None:
    with pytest.raises(ValueError, match="VAT number of DE"):
        Seller("X", "Y", "DE", "RO1234565")


@pytest.fixture
def paper() -> IssuedInvoice:
    nasty = "<script>alert(1)</script>{{7*7}}\nȘtefan Țărănuș 日本"
    return IssuedInvoice(
        1, "PB-2026-000001", PlanKind.YEARLY, InvoiceStatus.ISSUED, "USD", 81600, 2550, 20808, "",
        {"name": "Plate SRL", "country": "RO", "vat_id": "RO1", "how_to_pay": "IBAN 1"},
        {"name": nasty, "postal_address": "Str. Lungă 7", "country": "FI", "vat_id": ""},
        NOW, None, None, None, None,
    )  # fmt: skip


def test_the_page_escapes_what_was_typed(paper: IssuedInvoice) -> None:
    page = invoice_papers.paper_html(paper, stylesheet="/a.css", logo="/l.svg")
    assert "<script" not in page
    assert "<style" not in page
    assert '<link rel="stylesheet" href="/a.css">' in page
    assert "{{7*7}}" in page
    for words in (
        "VAT 25.5 %",
        "1,024.08",
        "unpaid",
        "IBAN 1",
        "日本",
        "Finland",
        "twelve months",
        "<dt>Payment reference</dt><dd><strong>PB-2026-000001",
    ):
        assert words in page


def test_the_pdf_holds_letters_beyond_latin_1(paper: IssuedInvoice) -> None:
    pdf = invoice_papers.paper_pdf(paper)
    assert pdf.startswith(b"%PDF-")
    assert len(pdf) > 5_000
    paid = replace(paper, status=InvoiceStatus.PAID, paid_at=NOW, starts_at=NOW, ends_at=NOW)
    page = invoice_papers.paper_html(paid, stylesheet="", logo="")
    assert "paid on 2026-03-10" in page
    assert "How to pay" not in page


def notice(invoice: IssuedInvoice, **changes: object) -> bytes:
    session = {
        "object": "checkout.session",
        "payment_status": "paid",
        "client_reference_id": invoice.number,
        "amount_total": invoice.total_cents,
        "currency": "usd",
    }
    event = {
        "id": "evt_1",
        "object": "event",
        "type": "checkout.session.completed",
        "data": {"object": session | changes},
    }
    return json.dumps(event).encode()


def sign(payload: bytes, *, secret: str = WEBHOOK_SECRET, age_s: int = 0) -> str:
    moment = int(time.time()) - age_s
    digest = hmac.new(secret.encode(), f"{moment}.".encode() + payload, hashlib.sha256)
    return f"t={moment},v1={digest.hexdigest()}"


def test_a_signed_notice_pays_once(store: Store) -> None:
    invoice = order(store, make_buyer(store))
    payload = notice(invoice)
    payment = payments.read_payment(payload, sign(payload), secret=WEBHOOK_SECRET)
    assert payment is not None
    paid = payments.apply_payment(store, payment, now=NOW)
    assert paid.status == "paid"
    assert payments.apply_payment(store, payment, now=NOW + timedelta(days=1)) == paid


@pytest.mark.parametrize(
    ("changes", "secret", "signer", "age_s"),
    [
        ({}, "", WEBHOOK_SECRET, 0),
        ({}, WEBHOOK_SECRET, "another", 0),
        ({}, WEBHOOK_SECRET, WEBHOOK_SECRET, 301),
        ({"client_reference_id": None, "amount_total": None}, WEBHOOK_SECRET, WEBHOOK_SECRET, 0),
    ],
    ids=["turned off", "forged", "replayed later", "of another form"],
)
def test_a_notice_that_is_not_sound_is_refused(
    store: Store, changes: dict[str, object], secret: str, signer: str, age_s: int
) -> None:
    payload = notice(order(store, make_buyer(store)), **changes)
    with pytest.raises(OrderError):
        payments.read_payment(payload, sign(payload, secret=signer, age_s=age_s), secret=secret)


@pytest.mark.parametrize("garbage", ["", "t=,v1=", "nonsense", "v1=é"])
def test_a_signature_that_is_none_is_refused(garbage: str) -> None:
    with pytest.raises(OrderError):
        payments.read_payment(b"\xff{}", garbage, secret=WEBHOOK_SECRET)


@pytest.mark.parametrize(
    "changes", [{"amount_total": 1}, {"currency": "eur"}], ids=["amount", "currency"]
)
def test_another_amount_pays_nothing(store: Store, changes: dict[str, object]) -> None:
    invoice = order(store, make_buyer(store))
    payload = notice(invoice, **changes)
    payment = payments.read_payment(payload, sign(payload), secret=WEBHOOK_SECRET)
    assert payment is not None
    with pytest.raises(OrderError):
        payments.apply_payment(store, payment, now=NOW)
    assert invoices.read_invoice(store, invoice.number, account_id=None).status == "issued"


def test_a_session_not_paid_yet_is_let_pass(store: Store) -> None:
    payload = notice(order(store, make_buyer(store)), payment_status="unpaid")
    assert payments.read_payment(payload, sign(payload), secret=WEBHOOK_SECRET) is None
