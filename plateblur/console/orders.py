"""Ordering a plan: the form, the review with its total, the order; invoices and credit notes."""

from __future__ import annotations

from http import HTTPStatus
from pathlib import Path
from typing import Any

from fastapi.responses import HTMLResponse, Response
from starlette.background import BackgroundTask

from plateblur.accounts import (
    credit_notes,
    exchange,
    fields,
    invoice_papers,
    invoices,
    offers,
    profiles,
    vat,
)
from plateblur.accounts.fields import countries
from plateblur.accounts.invoice_papers import Paper
from plateblur.accounts.invoices import IssuedInvoice
from plateblur.accounts.mail import Email
from plateblur.accounts.offers import OrderTerms, Seller
from plateblur.accounts.periods import withdrawal_last_day
from plateblur.accounts.types import (
    PAID_REQUESTS_PER_WINDOW,
    PAID_WINDOW,
    PREDICTIONS_PER_MONTH,
    PRICE_CENTS,
    FieldError,
    InvoiceStatus,
    OrderError,
    PlanKind,
)
from plateblur.accounts.work import WorkQueue
from plateblur.console import legal
from plateblur.console.door import Visit

INVOICES = "/console/invoices"
STYLESHEET = "/console/static/invoice.css"
LOGO = "/static/logo.svg"
# Source: ours; a PDF takes a tenth of a second in which no other Python code of the process runs.
PAPERS = WorkQueue(at_once=1, waiting=4)
PLAN_NAMES = {PlanKind.MONTHLY: "Monthly plan", PlanKind.YEARLY: "Yearly plan"}


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


def review(visit: Visit) -> Response:
    """Save the address in the profile; show the total, the terms and the button that orders."""
    _seller(visit)
    profile = profiles.read_profile(visit.parts.store, visit.account_id)
    problems = _problems(visit)
    if not problems:
        try:
            profiles.change_profile(
                visit.parts.store,
                visit.account_id,
                full_name=visit.typed("full_name"),
                company=visit.typed("company"),
                postal_address=visit.typed("postal_address"),
                country=visit.typed("country"),
                vat_id=visit.typed("vat_id") if visit.ticked("taxable") else "",
                username=profile.username,
            )
        except FieldError as error:
            problems = {error.field: str(error)}
    if problems:
        return visit.page(
            "order.html",
            status=HTTPStatus.UNPROCESSABLE_ENTITY,
            problems=problems,
            order=visit.again,
            **_choices(visit),
        )
    return _show_review(visit)


def order(visit: Visit) -> Response:
    """Issue the invoice of what was reviewed, and e-mail the confirmation with the terms."""
    seller, kind = _seller(visit), _kind(visit)
    problems = {}
    if not visit.ticked("agreed"):
        problems["agreed"] = "Please agree to the terms of use."
    if not visit.ticked("taxable") and visit.typed("start_now") not in {"yes", "no"}:
        problems["start_now"] = "Choose when your plan starts."
    elif (
        not visit.ticked("taxable")
        and visit.ticked("start_now")
        and invoices.has_withdrawn(visit.parts.store, visit.account_id)
    ):
        problems["start_now"] = (
            "You have withdrawn from an order before, so this plan starts after the 14 days."
        )
    if problems:
        return _show_review(visit, problems=problems)
    visit.count_email("invoice", str(visit.account_id))
    shown = visit.typed("total_cents")
    invoice = invoices.place_order(
        visit.parts.store,
        visit.account_id,
        kind,
        seller=seller,
        now=visit.now,
        terms=_terms(visit, seller),
        total_cents=int(shown) if shown.isascii() and shown.isdecimal() and len(shown) < 10 else -1,
    )
    email = visit.who.email if visit.who else ""
    response = visit.moved(INVOICES, done="ordered")
    response.background = BackgroundTask(
        visit.parts.send_later, lambda: _confirmation(visit, invoice, email)
    )
    return response


def show_invoices(visit: Visit) -> Response:
    """Return the list of invoices and credit notes."""
    store = visit.parts.store
    own = invoices.list_invoices(store, account_id=visit.account_id)
    notes = credit_notes.list_credit_notes(store, account_id=visit.account_id)
    may = {one.number for one in own if credit_notes.may_withdraw(one, now=visit.now)}
    return visit.page(
        "invoices.html",
        invoices=own,
        credit_notes=notes,
        may_withdraw=may,
        transfer_of=invoice_papers.transfer_of,
        transfer_code=invoice_papers.transfer_svg,
        code_hint=invoice_papers.CODE_HINT,
    )


def show_cancel(visit: Visit) -> Response:
    """Ask before an unpaid order is cancelled."""
    invoice = _own_invoice(visit)
    if invoice.status is not InvoiceStatus.ISSUED:
        raise OrderError("Only an order that isn't paid can be cancelled.")
    return visit.page("cancel.html", invoice=invoice)


def cancel(visit: Visit) -> Response:
    """Cancel an unpaid order."""
    number = visit.path_invoice()
    credit_notes.cancel_order(visit.parts.store, visit.account_id, number, now=visit.now)
    return visit.moved(INVOICES, done="cancelled")


def print_invoice(visit: Visit) -> Response:
    """Return an invoice of the account as a page to print."""
    return paper(_own_invoice(visit))


def download_invoice(visit: Visit) -> Response:
    """Return an invoice of the account as a PDF."""
    return pdf(_own_invoice(visit))


def print_credit_note(visit: Visit) -> Response:
    """Return a credit note of the account as a page to print."""
    number = visit.path_invoice()
    return paper(
        credit_notes.read_credit_note(visit.parts.store, number, account_id=visit.account_id)
    )


def download_credit_note(visit: Visit) -> Response:
    """Return a credit note of the account as a PDF."""
    number = visit.path_invoice()
    return pdf(
        credit_notes.read_credit_note(visit.parts.store, number, account_id=visit.account_id)
    )


def paper(sheet: Paper) -> Response:
    """Return an invoice or credit note as a page to print."""
    return HTMLResponse(invoice_papers.paper_html(sheet, stylesheet=STYLESHEET, logo=LOGO))


def pdf(sheet: Paper) -> Response:
    """Return an invoice or credit note as a PDF file.

    Raises:
        BusyError: too many are being made.
    """
    name = f'attachment; filename="{sheet.number}.pdf"'  # a number of ours, not typed
    return Response(
        PAPERS.run(lambda: invoice_papers.paper_pdf(sheet)),
        media_type="application/pdf",
        headers={"Content-Disposition": name},
    )


def _show_review(visit: Visit, *, problems: dict[str, str] | None = None) -> Response:
    seller, kind = _seller(visit), _kind(visit)
    profile = profiles.read_profile(visit.parts.store, visit.account_id)
    terms = _terms(visit, seller)
    quoted = offers.quote(
        kind,
        seller=seller,
        buyer_country=profile.country,
        buyer_vat_id=profile.vat_id,
        terms=terms,
    )
    return visit.page(
        "order_review.html",
        status=HTTPStatus.UNPROCESSABLE_ENTITY if problems else HTTPStatus.OK,
        problems=problems or {},
        kind=kind.value,
        plan=PLAN_NAMES[kind],
        profile=profile,
        country=dict(countries()).get(profile.country, profile.country),
        is_business=terms.is_business,
        quote=quoted,
        local_vat=terms.rate.stated(quoted.tax.amount_cents, priced_in=seller.currency)
        if terms.rate and quoted.tax.amount_cents
        else "",
        last_day=withdrawal_last_day(visit.now),
        may_start_now=not invoices.has_withdrawn(visit.parts.store, visit.account_id),
        **_choices(visit),
    )


def _seller(visit: Visit) -> Seller:
    if visit.parts.seller is None:
        raise OrderError(
            "Orders aren't available yet: the operator of this service hasn't set up a seller."
        )
    return visit.parts.seller


def _terms(visit: Visit, seller: Seller) -> OrderTerms:
    """Return the terms of the order in the form.

    Raises:
        OrderError: there is no exchange rate that an invoice could be issued at.
    """
    settings = visit.parts.settings
    rate = None
    if settings.seller_vat_currency not in ("", seller.currency) and seller.vat_id:
        rate = exchange.read_rate(
            Path(settings.exchange_rate_file),
            settings.seller_vat_currency,
            today=visit.now.date(),
        )
    header = settings.country_header
    network = visit.request.headers.get(header, "").upper() if header else ""
    return OrderTerms(
        is_business=visit.ticked("taxable"),
        starts_now=visit.ticked("start_now"),
        terms_version=legal.TERMS_VERSION,
        network_country=network if network in dict(countries()) else "",
        in_one_stop_shop=settings.seller_oss,
        due_days=settings.seller_due_days,
        rate=rate,
    )


def _own_invoice(visit: Visit) -> IssuedInvoice:
    return invoices.read_invoice(
        visit.parts.store, visit.path_invoice(), account_id=visit.account_id
    )


def _confirmation(visit: Visit, invoice: IssuedInvoice, email: str) -> Email:
    """Return the confirmation on a durable medium: order, terms, and how to withdraw."""
    total = f"{invoice.total_cents / 100:,.2f} {invoice.currency}"
    paragraphs = [
        "Hello,",
        f"Thank you for your order of the {PLAN_NAMES[invoice.kind].lower()}. The total is "
        f"{total}, of which {invoice.vat_cents / 100:,.2f} {invoice.currency} are VAT.",
        "The invoice and our terms of use, as you agreed to them, are attached. Your plan starts "
        + legal.start_in_words(invoice),
        "You can find all your invoices here:",
        visit.parts.url(INVOICES),
    ]
    if invoice.is_of_consumer:
        paragraphs += [
            "You have the right to withdraw from this contract until "
            f"{withdrawal_last_day(invoice.issued_at)} without giving a reason, on this page:",
            visit.parts.url(legal.WITHDRAW),
            "The instructions and the withdrawal form are in the attached terms.",
        ]
    seller = invoice.seller
    contact = [seller.get(name, "") for name in ("name", "postal_address", "email", "phone")]
    paragraphs.append("\n".join(filter(None, contact)))
    return Email(
        email,
        f"Your PlateBlur order and invoice {invoice.number}",
        "\n\n".join(paragraphs) + "\n",
        attachments=(
            (f"{invoice.number}.pdf", invoice_papers.paper_pdf(invoice)),
            ("terms.html", legal.terms_file(visit.parts).encode()),
        ),
    )


def _choices(visit: Visit) -> dict[str, Any]:
    return {
        "prices": {kind.value: cents for kind, cents in PRICE_CENTS.items()},
        "currency": visit.parts.settings.price_currency,
        "predictions_a_month": PREDICTIONS_PER_MONTH,
        "requests_a_window": PAID_REQUESTS_PER_WINDOW,
        "window_s": PAID_WINDOW.seconds,
        "countries": countries(),
        "seller": visit.parts.seller,
    }


def _problems(visit: Visit) -> dict[str, str]:
    """Return everything that is wrong with the form, by field."""
    problems: dict[str, str] = {}
    if visit.typed("kind") not in {kind.value for kind in PRICE_CENTS}:
        problems["kind"] = "Choose a plan."
    for name, message in (("full_name", "Enter a name."), ("postal_address", "Enter an address.")):
        if not visit.typed(name).strip():
            problems[name] = message
    try:
        country = fields.parse_country(visit.typed("country"))
    except FieldError:
        country = ""
    if country not in dict(countries()):
        problems["country"] = "Choose a country."
    if visit.ticked("taxable") and vat.is_in_eu(country) and not visit.typed("vat_id").strip():
        problems["vat_id"] = "Enter the VAT number of your business."
    return problems


def _kind(visit: Visit) -> PlanKind:
    for kind in PRICE_CENTS:
        if visit.typed("kind") == kind.value:
            return kind
    raise OrderError("Choose a plan.")
