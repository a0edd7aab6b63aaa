"""Cancelled orders, withdrawals and refunds; and when a consumer may withdraw."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from plateblur.accounts import (
    credit_notes,
    exchange,
    invoice_papers,
    invoices,
    profiles,
    withdrawals,
)
from plateblur.accounts.gate import StoreGate
from plateblur.accounts.invoices import IssuedInvoice
from plateblur.accounts.offers import OrderTerms
from plateblur.accounts.periods import withdrawal_ends_at, withdrawal_last_day
from plateblur.accounts.store import Store
from plateblur.accounts.types import (
    Identity,
    InvoiceStatus,
    NoInvoiceError,
    NotFoundError,
    OrderError,
    PlanKind,
)
from tests.accounts.fakes import NOW, SELLER
from tests.accounts.test_invoices import make_buyer

DAY = timedelta(days=1)
CONSUMER = OrderTerms(starts_now=True)


def order(store: Store, buyer: Identity, terms: OrderTerms = CONSUMER) -> IssuedInvoice:
    return invoices.place_order(
        store, buyer.account_id, PlanKind.MONTHLY, seller=SELLER, now=NOW, terms=terms
    )


def pay(store: Store, invoice: IssuedInvoice, *, now: datetime = NOW) -> IssuedInvoice:
    return invoices.mark_paid(store, invoice.number, paid_by="operator", now=now)


def test_an_unpaid_order_is_cancelled_by_a_credit_note_and_never_paid(store: Store) -> None:
    buyer = make_buyer(store)
    invoice = order(store, buyer)
    note = credit_notes.cancel_order(store, buyer.account_id, invoice.number, now=NOW)
    assert (note.number, note.total_cents) == ("CN-2026-000001", invoice.total_cents)
    assert not note.refund_due
    assert note.invoice.status is InvoiceStatus.CANCELLED
    with pytest.raises(OrderError, match="cancelled"):
        pay(store, invoice)
    with pytest.raises(OrderError):
        credit_notes.cancel_order(store, buyer.account_id, invoice.number, now=NOW)
    with pytest.raises(NotFoundError):
        credit_notes.mark_refunded(store, note.number, now=NOW)
    assert order(store, buyer).number != invoice.number


def test_a_paid_order_is_not_cancelled_and_nobody_elses_is(store: Store) -> None:
    buyer = make_buyer(store)
    invoice = order(store, buyer)
    stranger = make_buyer(store, email="ion@plates.io")
    with pytest.raises(NotFoundError):
        credit_notes.cancel_order(store, stranger.account_id, invoice.number, now=NOW)
    with pytest.raises(NotFoundError):
        credit_notes.withdraw(store, stranger.account_id, invoice.number, now=NOW)
    pay(store, invoice)
    with pytest.raises(OrderError):
        credit_notes.cancel_order(store, buyer.account_id, invoice.number, now=NOW)


@pytest.mark.parametrize(("days", "net_cents"), [(0, 8000), (3, 7226), (13, 4646)])
def test_a_consumer_who_withdraws_pays_for_the_days_used(
    store: Store, gate: StoreGate, days: int, net_cents: int
) -> None:
    buyer = make_buyer(store)
    pay(store, order(store, buyer))
    now = NOW + days * DAY + timedelta(hours=5)
    note = credit_notes.withdraw(store, buyer.account_id, "PB-2026-000001", now=now)
    assert note.net_cents == net_cents
    assert note.refund_due
    with pytest.raises(NoInvoiceError):
        gate.active_plan(buyer)
    credit_notes.mark_refunded(store, note.number, now=now)
    (listed,) = credit_notes.list_credit_notes(store, account_id=buyer.account_id)
    assert listed.refunded_at == now
    page = invoice_papers.paper_html(listed, stylesheet="/a.css", logo="/l.svg")
    for words in ("Credit note CN-2026-000001", "PB-2026-000001", "-", "paid back on"):
        assert words in page
    assert invoice_papers.paper_pdf(listed).startswith(b"%PDF-")


def test_without_consent_the_plan_starts_after_the_period_and_all_is_paid_back(
    store: Store, gate: StoreGate
) -> None:
    buyer = make_buyer(store)
    paid = pay(store, order(store, buyer, OrderTerms(starts_now=False)))
    assert paid.starts_at == withdrawal_ends_at(NOW)
    with pytest.raises(NoInvoiceError, match="starts on 2026-03-25"):
        gate.active_plan(buyer)
    note = credit_notes.withdraw(store, buyer.account_id, paid.number, now=NOW + 14 * DAY)
    assert note.total_cents == paid.total_cents


def test_who_withdrew_once_cannot_use_up_the_next_plan_and_withdraw_again(
    store: Store, gate: StoreGate
) -> None:
    buyer = make_buyer(store)
    first, second = order(store, buyer), order(store, buyer, OrderTerms(terms_version="2"))
    pay(store, first)
    assert not invoices.has_withdrawn(store, buyer.account_id)
    credit_notes.withdraw(store, buyer.account_id, first.number, now=NOW)
    assert invoices.has_withdrawn(store, buyer.account_id)
    assert pay(store, second).starts_at == withdrawal_ends_at(NOW)  # though it was ordered before
    with pytest.raises(NoInvoiceError):
        gate.active_plan(buyer)
    credit_notes.withdraw(store, buyer.account_id, second.number, now=NOW)
    business = order(store, buyer, OrderTerms(is_business=True))
    assert pay(store, business).starts_at == NOW  # has no right to withdraw


def test_a_business_and_a_late_consumer_do_not_withdraw(store: Store) -> None:
    buyer = make_buyer(store)
    business = order(store, buyer, OrderTerms(is_business=True, starts_now=False))
    assert pay(store, business).starts_at == NOW
    with pytest.raises(OrderError):
        credit_notes.withdraw(store, buyer.account_id, business.number, now=NOW)
    late = order(store, buyer)
    with pytest.raises(OrderError):
        credit_notes.withdraw(
            store, buyer.account_id, late.number, now=withdrawal_ends_at(late.issued_at)
        )


@pytest.mark.parametrize(
    ("ordered", "last"),
    [("2026-11-26", "2026-12-10"), ("2026-11-28", "2026-12-14"), ("2026-11-29", "2026-12-14")],
    ids=["Thursday", "Saturday", "Sunday"],
)
def test_the_period_ends_on_a_working_day_everywhere(ordered: str, last: str) -> None:
    at = datetime.fromisoformat(ordered).replace(hour=23, tzinfo=UTC)
    assert withdrawal_last_day(at) == date.fromisoformat(last)
    assert withdrawal_ends_at(at) == datetime.fromisoformat(last).replace(tzinfo=UTC) + 1.5 * DAY


def test_the_operator_refunds_a_part_with_its_tax(store: Store) -> None:
    buyer = make_buyer(store)
    paid = pay(store, order(store, buyer))
    for net_cents, reason in ((0, "x"), (paid.net_cents + 1, "x"), (1, " "), (1, "a\nb")):
        with pytest.raises(OrderError):
            credit_notes.refund(store, paid.number, net_cents=net_cents, reason=reason, now=NOW)
    note = credit_notes.refund(store, paid.number, net_cents=1000, reason="Outage", now=NOW)
    assert (note.net_cents, note.vat_cents) == (1000, 1000 * paid.vat_rate_bps // 10_000)
    with pytest.raises(OrderError):
        credit_notes.refund(store, paid.number, net_cents=1000, reason="Again", now=NOW)


def test_a_total_that_is_not_the_one_shown_is_not_ordered(store: Store) -> None:
    buyer = make_buyer(store)
    with pytest.raises(OrderError, match="check the order again"):
        invoices.place_order(
            store, buyer.account_id, PlanKind.MONTHLY, seller=SELLER, now=NOW, total_cents=8000
        )


def test_statements_wait_for_the_operator(store: Store) -> None:
    statement, problems = withdrawals.read_statement(
        name=" Ana ", contract="PB-2026-000001", email="ana@plates.io"
    )
    assert problems == {}
    withdrawals.keep(store, statement, credit_note="", now=NOW)
    (entry,) = withdrawals.list_withdrawals(store)
    assert (entry.statement.name, entry.settled_at) == ("Ana", None)
    withdrawals.settle(store, entry.withdrawal_id, now=NOW)
    with pytest.raises(NotFoundError):
        withdrawals.settle(store, entry.withdrawal_id, now=NOW)
    _, problems = withdrawals.read_statement(name="", contract="\0", email="nobody")
    assert set(problems) == {"name", "contract", "email"}


def test_sales_abroad_to_consumers_are_summed_by_year(store: Store) -> None:
    buyers = {
        country: make_buyer(store, email=f"{country}@plates.io", country=country)
        for country in ("RO", "DE", "US")
    }
    for buyer in buyers.values():
        pay(store, order(store, buyer))
    pay(store, order(store, buyers["DE"], OrderTerms(is_business=True)))
    in_euros = invoices.place_order(
        *(store, buyers["DE"].account_id, PlanKind.YEARLY),
        seller=replace(SELLER, currency="EUR"),
        now=NOW,
        terms=CONSUMER,
    )
    pay(store, in_euros)
    assert invoices.consumers_abroad_cents(store, year=2026) == {"USD": 80_00, "EUR": 816_00}
    assert invoices.consumers_abroad_cents(store, year=2025) == {}


@pytest.mark.parametrize("first", ["withdraw", "refund", "cancel", "pay"])
def test_of_many_who_take_an_order_back_together_one_does(
    store: Store, gate: StoreGate, first: str
) -> None:
    buyer = make_buyer(store)
    invoice = order(store, buyer)
    if first != "cancel":
        pay(store, invoice)
    own = (store, buyer.account_id, invoice.number)

    def take_back(number: int) -> str:
        try:
            if number % 2 and first in {"withdraw", "cancel"}:
                credit_notes.withdraw(*own, now=NOW)
            elif first == "cancel":
                credit_notes.cancel_order(*own, now=NOW)
            elif first == "pay" and number % 2:
                pay(store, invoice)
                return ""
            else:
                credit_notes.refund(store, invoice.number, net_cents=1, reason="x", now=NOW)
        except OrderError:
            return ""
        return "taken back"

    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(take_back, range(8)))
    assert done.count("taken back") == 1
    (note,) = credit_notes.list_credit_notes(store, account_id=None)
    assert note.number == "CN-2026-000001"
    assert note.invoice.status is InvoiceStatus.CANCELLED
    with pytest.raises(NoInvoiceError):
        gate.active_plan(buyer)
    next_one = order(store, buyer)
    assert credit_notes.cancel_order(*own[:2], next_one.number, now=NOW).number == "CN-2026-000002"


def test_an_account_that_is_deleted_during_a_withdrawal_keeps_its_papers(
    store: Store, tmp_path: Path
) -> None:
    buyer = make_buyer(store)
    paid = pay(store, order(store, buyer))
    note = credit_notes.withdraw(store, buyer.account_id, paid.number, now=NOW)
    profiles.delete_account(store, buyer.account_id, outbox=tmp_path)
    credit_notes.mark_refunded(store, note.number, now=NOW)
    (listed,) = credit_notes.list_credit_notes(store, account_id=None)
    assert (listed.number, listed.invoice.account_id) == (note.number, None)
    assert credit_notes.list_credit_notes(store, account_id=buyer.account_id) == []


@pytest.mark.parametrize(
    "text", ["", "4.35", "4.35 2026-03-02 BNR", "4.35 2026-03-11 BNR", "0 2026-03-10 BNR", "x y z"],
    ids=["empty", "no date", "too old", "of tomorrow", "nothing", "words"],
)  # fmt: skip
def test_without_a_rate_of_these_days_nothing_is_invoiced(tmp_path: Path, text: str) -> None:
    file = tmp_path / "rate"
    file.write_text(text)
    for path in (file, tmp_path / "missing"):
        with pytest.raises(OrderError, match="exchange rate"):
            exchange.read_rate(path, "RON", today=NOW.date())


def test_the_vat_is_stated_in_the_national_currency(tmp_path: Path, store: Store) -> None:
    file = tmp_path / "rate"
    file.write_text("4.3512 2026-03-09 National Bank of Romania\n")
    rate = exchange.read_rate(file, "RON", today=NOW.date())
    invoice = order(store, make_buyer(store), OrderTerms(rate=rate))
    assert invoice.vat_cents == 1680
    assert invoice.local_vat == (
        "VAT in national currency: 73.10 RON, at 4.3512 RON for 1 USD "
        "(National Bank of Romania, 2026-03-09)."
    )
    assert "73.10 RON" in invoice_papers.paper_html(invoice, stylesheet="", logo="")
