"""The bank transfer on an unpaid invoice, and its QR code for banking apps."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import cv2
import numpy as np
import pytest

from plateblur.accounts import credit_notes, invoice_papers, invoices
from plateblur.accounts.invoices import IssuedInvoice
from plateblur.accounts.offers import Seller
from plateblur.accounts.store import Store
from plateblur.accounts.types import PlanKind
from tests.accounts.fakes import NOW, SELLER
from tests.accounts.test_invoices import make_buyer

IBAN = "RO49AAAA1B31007593840000"
IN_EUROS = replace(SELLER, iban=IBAN, bic="AAAAROBU", currency="EUR")


def order(store: Store, seller: Seller = IN_EUROS) -> IssuedInvoice:
    buyer = make_buyer(store)
    return invoices.place_order(store, buyer.account_id, PlanKind.MONTHLY, seller=seller, now=NOW)


def read_code(invoice: IssuedInvoice) -> list[str]:
    """Return the lines that a banking app reads from the code."""
    code = invoice_papers.transfer_code(invoice)
    assert code is not None
    dark = np.array([list(row) for row in code.matrix], dtype=np.uint8) != 0
    image = np.where(np.pad(dark, 4), 0, 255).astype(np.uint8)
    large = cv2.resize(image, None, fx=8, fy=8, interpolation=cv2.INTER_NEAREST)
    return cv2.QRCodeDetector().detectAndDecode(large)[0].split("\n")


def test_a_banking_app_reads_the_transfer_of_an_unpaid_invoice(store: Store) -> None:
    invoice = order(store)
    assert invoice.total_cents == 96_80
    assert read_code(invoice) == [
        *("BCD", "002", "1", "SCT"),
        *("AAAAROBU", "Plate SRL", IBAN, "EUR96.8"),
        *("", "", "PB-2026-000001"),
    ]


@pytest.mark.slow
def test_page_and_pdf_show_the_transfer(store: Store) -> None:
    invoice = order(store)
    page = invoice_papers.paper_html(invoice, stylesheet="/a.css", logo="/l.svg")
    for words in ("RO49 AAAA 1B31 0075 9384 0000", "AAAAROBU", "PB-2026-000001", "<svg", "EUR"):
        assert words in page
    assert "style=" not in page
    with_code = invoice_papers.paper_pdf(invoice)
    without = invoice_papers.paper_pdf(replace(invoice, currency="USD"))
    assert with_code.startswith(b"%PDF-")
    assert len(with_code) > len(without)


@pytest.mark.parametrize(
    "seller",
    [SELLER, replace(IN_EUROS, currency="USD"), replace(IN_EUROS, iban="", bic="")],
    ids=["no account", "dollars", "euros without an account"],
)
def test_other_invoices_have_the_reference_alone(store: Store, seller: Seller) -> None:
    invoice = order(store, seller)
    assert invoice_papers.transfer_code(invoice) is None
    page = invoice_papers.paper_html(invoice, stylesheet="/a.css", logo="/l.svg")
    assert "<svg" not in page
    assert "Payment reference" in page
    assert ("IBAN" in dict(invoice_papers.transfer_of(invoice))) == bool(seller.iban)


def test_what_needs_no_payment_asks_for_none(store: Store) -> None:
    invoice = order(store)
    paid = invoices.mark_paid(store, invoice.number, paid_by="operator", now=NOW)
    note = credit_notes.refund(
        store, paid.number, net_cents=1, reason="x", now=NOW + timedelta(days=1)
    )
    for paper in (paid, note, note.invoice):
        page = invoice_papers.paper_html(paper, stylesheet="/a.css", logo="/l.svg")
        assert "<svg" not in page
        assert "How to pay" not in page


def test_a_long_name_still_fits_the_code(store: Store) -> None:
    seller = replace(IN_EUROS, name="Ștefănescu și Asociații " * 8)
    assert read_code(order(store, seller))[5] == seller.name[:70].strip()


@pytest.mark.parametrize(
    "wrong",
    [{"iban": "RO49AAAA1B31007593840001"}, {"iban": IBAN, "bic": "AAAA"}, {"bic": "AAAAROBU"}],
    ids=["check digits", "no BIC", "BIC alone"],
)
def test_a_mistyped_account_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="expected"):
        replace(SELLER, **wrong)
