"""What the law wants to be shown: terms, privacy, provider, and the withdrawal function.

The texts are filled in from the settings; a lawyer's list is the operator's to add.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi.responses import RedirectResponse, Response

from plateblur.accounts import credit_notes, fields, invoices, withdrawals
from plateblur.accounts.credit_notes import IssuedCreditNote
from plateblur.accounts.faqs import FAQS
from plateblur.accounts.invoices import IssuedInvoice
from plateblur.accounts.mail import Email
from plateblur.accounts.periods import KEEP_INVOICE_YEARS
from plateblur.accounts.types import NotFoundError, OrderError
from plateblur.accounts.withdrawals import Statement
from plateblur.console.door import Visit
from plateblur.console.home import moment
from plateblur.console.parts import Parts
from plateblur.console.texts import CONSENTS, KEPT

WITHDRAW = "/withdraw"
VERSIONS = {text.subject: text.version for text in CONSENTS}
TERMS_VERSION = VERSIONS["terms"]


def show_faq(visit: Visit) -> Response:
    """Return the questions with their answers."""
    return visit.page("faqs.html", faqs=FAQS)


def show_support(visit: Visit) -> Response:
    """Return how to reach the operator."""
    return visit.page("support.html")


def show_terms(visit: Visit) -> Response:
    """Return the terms of use, with the right of withdrawal and its form."""
    return visit.page("terms.html", **_texts(visit.parts))


def show_privacy(visit: Visit) -> Response:
    """Return the privacy notice."""
    return visit.page("privacy.html", **_texts(visit.parts))


def moved_faqs(_: Visit) -> Response:
    """Lead from the page's old address."""
    return RedirectResponse("/faq", status_code=HTTPStatus.MOVED_PERMANENTLY)


def moved_texts(_: Visit) -> Response:
    """Lead from the page's old address."""
    return RedirectResponse("/privacy", status_code=HTTPStatus.MOVED_PERMANENTLY)


def terms_file(parts: Parts) -> str:
    """Return the terms of use as a file to keep."""
    return parts.templates.get_template("terms_file.html").render(**_texts(parts))


def start_in_words(invoice: IssuedInvoice) -> str:
    """Return when a plan starts, after "Your plan starts"."""
    if invoice.terms.get("starts_now") == "no":
        return (
            "when the invoice is paid and the 14 days for withdrawing are over, because you did "
            "not ask for an earlier start."
        )
    return "as soon as the invoice is paid, or when your present plan ends."


def show_withdraw(visit: Visit) -> Response:
    """Return the form of a withdrawal, filled in as far as it is known."""
    email = visit.who.email if visit.who else ""
    asked = visit.request.query_params.get("contract", "")[:200]
    return _form(visit, {"name": "", "contract": asked, "email": email})


def check_withdrawal(visit: Visit) -> Response:
    """Show the statement once more, with the button that sends it."""
    statement, problems = _statement(visit)
    if problems:
        return _form(visit, visit.again, problems=problems)
    return visit.page("withdraw_confirm.html", statement=statement)


def withdraw(visit: Visit) -> Response:
    """Take the statement, answer by e-mail, and take the order back where it is surely theirs.

    Without logging in, or for an order that can't be withdrawn from, it goes to the operator.
    """
    statement, problems = _statement(visit)
    if problems:
        return _form(visit, visit.again, problems=problems)
    visit.count_email("withdrawal", fields.login_key(statement.email))
    note = _taken_back(visit, statement.contract)
    number = note.number if note else ""
    withdrawals.keep(visit.parts.store, statement, credit_note=number, now=visit.now)
    mail = _receipt(visit, statement, note)
    return visit.moved(f"{WITHDRAW}/done", mail=mail)


def show_withdrawn(visit: Visit) -> Response:
    """Say that the statement has arrived."""
    return visit.page("withdrawn.html")


def _taken_back(visit: Visit, contract: str) -> IssuedCreditNote | None:
    """Return the credit note of an order of the account that is logged in, if there is such."""
    if visit.who is None:
        return None
    try:
        return credit_notes.withdraw(
            visit.parts.store, visit.account_id, contract.strip().upper(), now=visit.now
        )
    except (NotFoundError, OrderError):
        return None


def _receipt(visit: Visit, statement: Statement, note: IssuedCreditNote | None) -> Email:
    """Return the acknowledgement on a durable medium, with the statement, its date and time."""
    if note is None:
        next_step = "We will check it and answer to this address."
    elif note.refund_due:
        next_step = (
            f"Your plan has ended. We will refund {note.total_cents / 100:,.2f} "
            f"{note.invoice.currency} within 14 days, in the way in which you paid. Credit note "
            f"{note.number} is in the console."
        )
    else:
        next_step = f"Your order is cancelled by credit note {note.number}. Nothing is to be paid."
    return Email(
        statement.email,
        "We have received your withdrawal",
        f"Hello,\n\nWe received the following statement on {moment(visit.now)}.\n\n"
        f"I hereby withdraw from my contract for a PlateBlur plan.\nContract: "
        f"{statement.contract}\nName: {statement.name}\nE-mail: {statement.email}\n\n"
        f"{next_step}\n",
    )


def _statement(visit: Visit) -> tuple[Statement, dict[str, str]]:
    return withdrawals.read_statement(
        name=visit.typed("name"), contract=visit.typed("contract"), email=visit.typed("email")
    )


def _form(visit: Visit, values: Any, *, problems: dict[str, str] | None = None) -> Response:
    own: list[IssuedInvoice] = []
    if visit.who is not None:
        everything = invoices.list_invoices(visit.parts.store, account_id=visit.account_id)
        own = [one for one in everything if credit_notes.may_withdraw(one, now=visit.now)]
    return visit.page(
        "withdraw.html",
        status=HTTPStatus.UNPROCESSABLE_ENTITY if problems else HTTPStatus.OK,
        problems=problems or {},
        values=values,
        own=own,
    )


def _texts(parts: Parts) -> dict[str, Any]:
    settings = parts.settings
    return {
        "version": VERSIONS,
        "seller": parts.seller,
        "kept": KEPT,
        "invoice_years": KEEP_INVOICE_YEARS,
        "controller": parts.seller,
        "privacy_contact": settings.privacy_contact or settings.seller_email,
        "recipients": [one for one in settings.privacy_recipients.split("\\n") if one.strip()],
        "authority": settings.privacy_authority,
        "by_mail": bool(settings.smtp_host),
        "by_card": bool(settings.payment_webhook_secret),
        "demo": settings.demo,
        "guest_photos": settings.guest_photos,
        "withdraw_url": parts.url(WITHDRAW),
    }
