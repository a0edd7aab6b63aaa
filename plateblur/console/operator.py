"""The operator's pages: all accounts, invoices and tickets."""

from __future__ import annotations

import re
from http import HTTPStatus

from fastapi.responses import Response

from plateblur.accounts import (
    api_keys,
    credit_notes,
    invoices,
    payments,
    profiles,
    tickets,
    withdrawals,
)
from plateblur.accounts.mail import Email
from plateblur.accounts.types import FieldError, InvoiceStatus, OrderError
from plateblur.console import orders, support
from plateblur.console.door import Visit
from plateblur.console.home import read_chart, read_figures

OPERATOR = "/console/operator"
PER_PAGE = 50


def show_accounts(visit: Visit) -> Response:
    """Return a page of accounts, filtered by `q` if it is given."""
    asked = visit.request.query_params
    containing = asked.get("q", "")[:320]
    after_text = asked.get("after", "")
    after_id = int(after_text) if re.fullmatch(r"\d{1,18}", after_text, re.ASCII) else 0
    found = []
    if containing.isprintable():  # what is not is in no address, and PostgreSQL takes no NUL
        found = profiles.list_profiles(
            visit.parts.store, containing=containing, after_id=after_id, limit=PER_PAGE
        )
    more = found[-1].account_id if len(found) == PER_PAGE else None
    return visit.page("operator.html", accounts=found, containing=containing, more=more)


def show_account(visit: Visit) -> Response:
    """Return one account: plan, usage, keys, invoices."""
    store, account_id = visit.parts.store, visit.path_id("account_id")
    profile = profiles.read_profile(store, account_id)
    return visit.page(
        "account.html",
        profile=profile,
        figures=read_figures(visit, account_id=account_id, email=profile.email, now=visit.now),
        chart=read_chart(visit, account_id),
        keys=api_keys.list_keys(store, account_id),
        invoices=invoices.list_invoices(store, account_id=account_id),
    )


def lock(visit: Visit) -> Response:
    """Lock an account; never the operator's own."""
    account_id = visit.path_id("account_id")
    if account_id == visit.account_id:
        return visit.sorry(HTTPStatus.CONFLICT, "You can't lock your own account.")
    profiles.lock_account(visit.parts.store, account_id)
    return visit.moved(f"{OPERATOR}/accounts/{account_id}", done="locked")


def unlock(visit: Visit) -> Response:
    """Unlock an account, or activate one that never was."""
    account_id = visit.path_id("account_id")
    profiles.unlock_account(visit.parts.store, account_id)
    return visit.moved(f"{OPERATOR}/accounts/{account_id}", done="unlocked")


def show_invoices(visit: Visit) -> Response:
    """Return all invoices, credit notes and withdrawals, newest first, and unmatched payments."""
    store, year = visit.parts.store, visit.now.year
    return visit.page(
        "operator_invoices.html",
        invoices=invoices.list_invoices(store, account_id=None),
        credit_notes=credit_notes.list_credit_notes(store, account_id=None),
        withdrawals=withdrawals.list_withdrawals(store),
        strays=payments.list_stray_payments(store),
        abroad={one: invoices.consumers_abroad_cents(store, year=one) for one in (year, year - 1)},
    )


def print_invoice(visit: Visit) -> Response:
    """Return any invoice as a page to print."""
    number = visit.path_invoice()
    return orders.paper(invoices.read_invoice(visit.parts.store, number, account_id=None))


def print_credit_note(visit: Visit) -> Response:
    """Return any credit note as a page to print."""
    number = visit.path_invoice()
    return orders.paper(credit_notes.read_credit_note(visit.parts.store, number, account_id=None))


def show_paid(visit: Visit) -> Response:
    """Ask before an invoice is marked as paid, with what to check first."""
    number = visit.path_invoice()
    invoice = invoices.read_invoice(visit.parts.store, number, account_id=None)
    if invoice.status is InvoiceStatus.CANCELLED:
        raise OrderError("The invoice was cancelled.")
    return visit.page("operator_paid.html", invoice=invoice)


def mark_paid(visit: Visit) -> Response:
    """Mark an invoice as paid, which activates its plan; a second time changes nothing.

    It may have been paid twice, so that the operator has to refund one payment.
    """
    number = visit.path_invoice()
    paid = invoices.mark_paid(visit.parts.store, number, paid_by="operator", now=visit.now)
    done = "paid" if paid.paid_at == visit.now else "paid-before"
    return visit.moved(f"{OPERATOR}/invoices", done=done)


def show_refund(visit: Visit) -> Response:
    """Return the form that takes an invoice back."""
    number = visit.path_invoice()
    invoice = invoices.read_invoice(visit.parts.store, number, account_id=None)
    return visit.page("operator_refund.html", invoice=invoice)


def refund(visit: Visit) -> Response:
    """Issue a credit note; the plan of the invoice ends."""
    number = visit.path_invoice()
    credit_notes.refund(
        visit.parts.store,
        number,
        net_cents=_cents(visit.typed("net")),
        reason=visit.typed("reason"),
        now=visit.now,
    )
    return visit.moved(f"{OPERATOR}/invoices", done="credited")


def mark_refunded(visit: Visit) -> Response:
    """Mark the money of a credit note as paid back."""
    credit_notes.mark_refunded(visit.parts.store, visit.path_invoice(), now=visit.now)
    return visit.moved(f"{OPERATOR}/invoices", done="refunded")


def settle_withdrawal(visit: Visit) -> Response:
    """Mark a statement of withdrawal as answered."""
    withdrawals.settle(visit.parts.store, visit.path_id("withdrawal_id"), now=visit.now)
    return visit.moved(f"{OPERATOR}/invoices", done="answered")


def settle_payment(visit: Visit) -> Response:
    """Mark an unmatched payment as resolved."""
    payments.settle_stray_payment(visit.parts.store, visit.typed("event_id"), now=visit.now)
    return visit.moved(f"{OPERATOR}/invoices", done="settled")


def show_tickets(visit: Visit) -> Response:
    """Return all tickets, newest first."""
    everybodys = tickets.list_tickets(visit.parts.store, account_id=None)
    return visit.page("operator_tickets.html", tickets=everybodys)


def show_ticket(visit: Visit) -> Response:
    """Return one ticket with its messages."""
    return visit.page("ticket.html", **support.read_ticket(visit, account_id=None))


def answer(visit: Visit) -> Response:
    """Answer a ticket; its owner gets an e-mail that quotes nothing of it."""
    store, ticket_id = visit.parts.store, visit.path_id("ticket_id")
    try:
        tickets.reply(store, ticket_id, account_id=None, text=visit.typed("text"), now=visit.now)
    except FieldError as error:
        return visit.refused("ticket.html", error, **support.read_ticket(visit, account_id=None))
    page = visit.parts.url(f"{support.TICKETS}/{ticket_id}")
    mail = Email(
        tickets.read_ticket(store, ticket_id, account_id=None).email,
        f"New answer to your PlateBlur ticket {ticket_id}",
        f"Hello,\n\nThere is a new answer to your support ticket. Log in to read it:\n\n{page}\n",
    )
    return visit.moved(f"{OPERATOR}/tickets/{ticket_id}", done="replied", mail=mail)


def close_ticket(visit: Visit) -> Response:
    """Close a ticket."""
    tickets.close_ticket(visit.parts.store, visit.path_id("ticket_id"), account_id=None)
    return visit.moved(f"{OPERATOR}/tickets", done="closed")


def _cents(text: str) -> int:
    """Return an amount with up to two digits after the point, in cents; 0 for anything else."""
    found = re.fullmatch(r"(\d{1,7})(?:\.(\d{1,2}))?", text.strip(), re.ASCII)
    return int(found[1]) * 100 + int((found[2] or "").ljust(2, "0")) if found else 0
