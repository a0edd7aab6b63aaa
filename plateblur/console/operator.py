"""The operator's pages: all accounts, invoices and tickets."""

from __future__ import annotations

import re
from datetime import timedelta
from http import HTTPStatus

from fastapi.responses import Response

from plateblur.accounts import api_keys, invoices, payments, profiles, quota, tickets
from plateblur.accounts.mail import Email
from plateblur.accounts.types import FieldError
from plateblur.console import orders, support
from plateblur.console.door import Visit
from plateblur.console.home import SHOWN_DAYS, read_figures

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
    since = (visit.now - timedelta(days=SHOWN_DAYS - 1)).date()
    days = quota.days_of_use(store, account_id, since=since)
    return visit.page(
        "account.html",
        profile=profile,
        figures=read_figures(visit, account_id=account_id, email=profile.email, now=visit.now),
        days=days,
        most=max((day.requests for day in days), default=0),
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
    """Return all invoices, newest first, and unmatched payments."""
    everybodys = invoices.list_invoices(visit.parts.store, account_id=None)
    strays = payments.list_stray_payments(visit.parts.store)
    return visit.page("operator_invoices.html", invoices=everybodys, strays=strays)


def print_invoice(visit: Visit) -> Response:
    """Return any invoice as a page to print."""
    number = visit.path_invoice()
    return orders.paper(invoices.read_invoice(visit.parts.store, number, account_id=None))


def mark_paid(visit: Visit) -> Response:
    """Mark an invoice as paid, which activates its plan; a second time changes nothing.

    It may have been paid twice, so that the operator has to refund one payment.
    """
    number = visit.path_invoice()
    paid = invoices.mark_paid(visit.parts.store, number, paid_by="operator", now=visit.now)
    done = "paid" if paid.paid_at == visit.now else "paid-before"
    return visit.moved(f"{OPERATOR}/invoices", done=done)


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
