"""Ordering a plan, and the invoices of an account."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

from fastapi.responses import HTMLResponse, Response
from starlette.background import BackgroundTask

from plateblur.accounts import fields, invoice_papers, invoices, plans, profiles, vat
from plateblur.accounts.invoices import IssuedInvoice
from plateblur.accounts.mail import Email
from plateblur.accounts.types import (
    PAID_REQUESTS_PER_WINDOW,
    PAID_WINDOW,
    PREDICTIONS_PER_MONTH,
    FieldError,
    OrderError,
    PlanKind,
)
from plateblur.accounts.work import WorkQueue
from plateblur.console.door import Visit

INVOICES = "/console/invoices"
STYLESHEET = "/console/static/invoice.css"
# Source: ours; a PDF takes a tenth of a second in which no other Python code of the process runs.
PAPERS = WorkQueue(at_once=1, waiting=4)


@cache
def countries() -> tuple[tuple[str, str], ...]:
    """Return ISO 3166-1 codes and English names, by name. Source: the tz database's own table."""
    table = (files("tzdata") / "zoneinfo" / "iso3166.tab").read_text(encoding="utf-8")
    rows = [line.split("\t") for line in table.splitlines() if not line.startswith("#")]
    return tuple(sorted(((code, name) for code, name in rows), key=lambda row: row[1]))


def show_order(visit: Visit) -> Response:
    """Return the form, filled in from the profile."""
    profile = profiles.read_profile(visit.parts.store, visit.account_id)
    typed = {
        "kind": visit.request.query_params.get("kind", PlanKind.MONTHLY.value),
        "full_name": profile.full_name,
        "company": profile.company,
        "postal_address": profile.postal_address,
        "country": profile.country,
        "vat_id": profile.vat_id,
        "taxable": "yes" if profile.vat_id else "",
    }
    return visit.page("order.html", order=typed, **_choices(visit))


def order(visit: Visit) -> Response:
    """Save the address in the profile, issue the invoice and e-mail it."""
    seller, store = visit.parts.seller, visit.parts.store
    if seller is None:
        raise OrderError(
            "Orders aren't available yet: the operator of this service hasn't set up a seller."
        )
    profile = profiles.read_profile(store, visit.account_id)
    try:
        kind = _kind(visit.typed("kind"))
        profiles.change_profile(
            store,
            visit.account_id,
            full_name=_needed(visit, "full_name", "Enter a name."),
            company=visit.typed("company"),
            postal_address=_needed(visit, "postal_address", "Enter a postal address."),
            country=_country(visit),
            vat_id=_vat_id(visit),
            username=profile.username,
        )
    except FieldError as error:
        return visit.refused("order.html", error, order=visit.again, **_choices(visit))
    visit.count_email("invoice", str(visit.account_id))
    invoice = invoices.place_order(store, visit.account_id, kind, seller=seller, now=visit.now)
    response = visit.moved(INVOICES, done="ordered")
    response.background = BackgroundTask(
        visit.parts.send_later, lambda: _letter(visit, invoice, profile.email)
    )
    return response


def show_invoices(visit: Visit) -> Response:
    """Return the list."""
    own = invoices.list_invoices(visit.parts.store, account_id=visit.account_id)
    return visit.page("invoices.html", invoices=own, seller=visit.parts.seller)


def print_invoice(visit: Visit) -> Response:
    """Return an invoice of the account as a page to print."""
    return paper(_own_invoice(visit))


def download_invoice(visit: Visit) -> Response:
    """Return an invoice of the account as a PDF."""
    return pdf(_own_invoice(visit))


def paper(invoice: IssuedInvoice) -> Response:
    """Return an invoice as a page to print."""
    return HTMLResponse(invoice_papers.invoice_html(invoice, stylesheet=STYLESHEET))


def pdf(invoice: IssuedInvoice) -> Response:
    """Return an invoice as a PDF file.

    Raises:
        BusyError: too many are being made.
    """
    name = f'attachment; filename="{invoice.number}.pdf"'  # a number of ours, not typed
    return Response(
        PAPERS.run(lambda: invoice_papers.invoice_pdf(invoice)),
        media_type="application/pdf",
        headers={"Content-Disposition": name},
    )


def _own_invoice(visit: Visit) -> IssuedInvoice:
    return invoices.read_invoice(
        visit.parts.store, visit.path_invoice(), account_id=visit.account_id
    )


def _letter(visit: Visit, invoice: IssuedInvoice, email: str) -> Email:
    return Email(
        email,
        f"Your PlateBlur invoice {invoice.number}",
        f"Hello,\n\nThank you for your order. Your invoice is attached. Your plan starts as soon "
        f"as it is paid.\n\nYou can find all your invoices here:\n\n"
        f"{visit.parts.url(INVOICES)}\n",
        attachment=(f"{invoice.number}.pdf", invoice_papers.invoice_pdf(invoice)),
    )


def _choices(visit: Visit) -> dict[str, Any]:
    return {
        "prices": {kind.value: cents for kind, cents in plans.PRICE_CENTS.items()},
        "currency": invoices.CURRENCY,
        "predictions_a_month": PREDICTIONS_PER_MONTH,
        "requests_a_window": PAID_REQUESTS_PER_WINDOW,
        "window_s": PAID_WINDOW.seconds,
        "countries": countries(),
        "seller": visit.parts.seller,
    }


def _kind(text: str) -> PlanKind:
    for kind in plans.PRICE_CENTS:
        if text == kind.value:
            return kind
    raise FieldError("kind", "Choose a plan.")


def _needed(visit: Visit, name: str, message: str) -> str:
    text = visit.typed(name)
    if not text.strip():
        raise FieldError(name, message)
    return text


def _country(visit: Visit) -> str:
    country = fields.parse_country(visit.typed("country"))
    if country not in dict(countries()):
        raise FieldError("country", "Choose a country.")
    return country


def _vat_id(visit: Visit) -> str:
    """Return the VAT number of a taxable person; anybody else's is ignored.

    Raises:
        FieldError: a taxable person in the EU must give one.
    """
    if not visit.ticked("taxable"):
        return ""
    vat_id = visit.typed("vat_id")
    if not vat_id.strip() and vat.is_in_eu(visit.typed("country")):
        raise FieldError("vat_id", "Enter the VAT number of your business.")
    return vat_id
