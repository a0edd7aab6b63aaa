"""The table of pages, and `add_console`, which adds them to the web application."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import cache, partial
from http import HTTPStatus
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import Response
from jinja2 import Environment
from starlette.staticfiles import StaticFiles

from plateblur.accounts.credentials import Hasher
from plateblur.accounts.quota import utc_now
from plateblur.accounts.store import Store
from plateblur.accounts.types import Gate
from plateblur.console import entry, home, keys, legal, operator, orders, profile, support
from plateblur.console.door import For, Page, Visit, add_page, who_visits
from plateblur.console.parts import Parts, mailer_of, seller_of
from plateblur.console.payments import add_payments
from plateblur.web.pages import make_environment
from plateblur.web.settings import Settings

HERE = Path(__file__).parent

PAGES = (
    Page("GET", "/console/signup", entry.show_sign_up, For.ANYONE),
    Page("POST", "/console/signup", entry.sign_up, For.ANYONE),
    Page("GET", entry.SENT, entry.show_sent, For.ANYONE),
    Page("GET", entry.ACTIVATE, entry.show_activate, For.ANYONE),
    Page("POST", entry.ACTIVATE, entry.activate, For.ANYONE),
    Page("GET", "/console/login", entry.show_log_in, For.ANYONE),
    Page("POST", "/console/login", entry.log_in, For.ANYONE),
    Page("POST", "/console/logout", entry.log_out, For.ANYONE),
    Page("GET", entry.FORGOTTEN, entry.show_forgotten, For.ANYONE),
    Page("POST", entry.FORGOTTEN, entry.forgotten, For.ANYONE),
    Page("GET", entry.RESET, entry.show_reset, For.ANYONE),
    Page("POST", entry.RESET, entry.reset, For.ANYONE),
    Page("GET", entry.CONFIRM_EMAIL, entry.show_confirm_email, For.ANYONE),
    Page("POST", entry.CONFIRM_EMAIL, entry.confirm_email, For.ANYONE),
    Page("GET", "/faq", legal.show_faq, For.ANYONE),
    Page("GET", "/support", legal.show_support, For.ANYONE),
    Page("GET", "/terms", legal.show_terms, For.ANYONE),
    Page("GET", "/privacy", legal.show_privacy, For.ANYONE),
    Page("GET", legal.WITHDRAW, legal.show_withdraw, For.ANYONE),
    Page("POST", legal.WITHDRAW, legal.check_withdrawal, For.ANYONE),
    Page("POST", f"{legal.WITHDRAW}/confirm", legal.withdraw, For.ANYONE),
    Page("GET", f"{legal.WITHDRAW}/done", legal.show_withdrawn, For.ANYONE),
    Page("GET", "/console/faqs", legal.moved_faqs, For.ANYONE),
    Page("GET", "/console/texts", legal.moved_texts, For.ANYONE),
    Page("GET", "/console", home.show_home),
    Page("GET", "/console/events", home.stream_figures, touches=False),
    Page("POST", "/console/trial", home.start_trial),
    Page("GET", "/console/order", orders.show_order),
    Page("POST", "/console/order", orders.review),
    Page("POST", "/console/order/confirm", orders.order),
    Page("GET", "/console/invoices", orders.show_invoices),
    Page("GET", "/console/invoices/{number}", orders.print_invoice),
    Page("GET", "/console/invoices/{number}/pdf", orders.download_invoice),
    Page("GET", "/console/invoices/{number}/cancel", orders.show_cancel),
    Page("POST", "/console/invoices/{number}/cancel", orders.cancel),
    Page("GET", "/console/credit-notes/{number}", orders.print_credit_note),
    Page("GET", "/console/credit-notes/{number}/pdf", orders.download_credit_note),
    Page("GET", "/console/keys", keys.show_keys),
    Page("POST", "/console/keys", keys.add_key),
    Page("POST", "/console/keys/{key_id}/revoke", keys.revoke_key),
    Page("GET", "/console/profile", profile.show_profile),
    Page("POST", "/console/profile", profile.change_profile),
    Page("POST", "/console/profile/password", profile.change_password),
    Page("POST", "/console/profile/email", profile.change_email),
    Page("GET", "/console/profile/delete", profile.show_delete),
    Page("POST", "/console/profile/delete", profile.delete),
    Page("GET", "/console/consents", profile.show_consents),
    Page("POST", "/console/consents", profile.change_news),
    Page("GET", "/console/consents.json", profile.export_consents_json),
    Page("GET", "/console/consents.csv", profile.export_consents_csv),
    Page("GET", "/console/tickets", support.show_tickets),
    Page("POST", "/console/tickets", support.open_ticket),
    Page("GET", "/console/tickets/{ticket_id}", support.show_ticket),
    Page("POST", "/console/tickets/{ticket_id}", support.reply),
    Page("POST", "/console/tickets/{ticket_id}/close", support.close),
    Page("GET", "/console/operator", operator.show_accounts, For.OPERATOR),
    Page("GET", "/console/operator/accounts/{account_id}", operator.show_account, For.OPERATOR),
    Page("POST", "/console/operator/accounts/{account_id}/lock", operator.lock, For.OPERATOR),
    Page("POST", "/console/operator/accounts/{account_id}/unlock", operator.unlock, For.OPERATOR),
    Page("GET", "/console/operator/invoices", operator.show_invoices, For.OPERATOR),
    Page("GET", "/console/operator/invoices/{number}", operator.print_invoice, For.OPERATOR),
    Page("GET", "/console/operator/invoices/{number}/paid", operator.show_paid, For.OPERATOR),
    Page("POST", "/console/operator/invoices/{number}/paid", operator.mark_paid, For.OPERATOR),
    Page("GET", "/console/operator/invoices/{number}/refund", operator.show_refund, For.OPERATOR),
    Page("POST", "/console/operator/invoices/{number}/refund", operator.refund, For.OPERATOR),
    Page(
        "GET",
        "/console/operator/credit-notes/{number}",
        operator.print_credit_note,
        For.OPERATOR,
    ),
    Page(
        "POST",
        "/console/operator/credit-notes/{number}/refunded",
        operator.mark_refunded,
        For.OPERATOR,
    ),
    Page(
        "POST",
        "/console/operator/withdrawals/{withdrawal_id}/settle",
        operator.settle_withdrawal,
        For.OPERATOR,
    ),
    Page("POST", "/console/operator/payments", operator.settle_payment, For.OPERATOR),
    Page("GET", "/console/operator/tickets", operator.show_tickets, For.OPERATOR),
    Page("GET", "/console/operator/tickets/{ticket_id}", operator.show_ticket, For.OPERATOR),
    Page("POST", "/console/operator/tickets/{ticket_id}", operator.answer, For.OPERATOR),
    Page(
        "POST",
        "/console/operator/tickets/{ticket_id}/close",
        operator.close_ticket,
        For.OPERATOR,
    ),
)


def add_console(
    app: FastAPI,
    store: Store,
    gate: Gate,
    settings: Settings,
    *,
    hasher: Hasher | None = None,
    clock: Callable[[], datetime] = utc_now,
    announce: Callable[[str], None] = lambda line: None,
) -> None:
    """Add the console's pages and the payment webhook to `app`.

    Args:
        app: from `create_app`, whose middleware sends the headers.
        store: open and migrated.
        gate: over the same store.
        settings: of this deployment.
        hasher: argon2 at its cost.
        clock: aware, UTC.
        announce: shows a line on the operator's terminal: the file and link of an e-mail that was
            not sent. Not a log, because the link gives access to an account.

    Raises:
        ValueError: mail or seller settings that can't work.
    """
    parts = Parts(
        store=store,
        gate=gate,
        hasher=hasher or Hasher(),
        mailer=mailer_of(settings),
        settings=settings,
        seller=seller_of(settings),
        clock=clock,
        templates=_templates(),
        announce=announce,
    )
    app.mount("/console/static", StaticFiles(directory=HERE / "static"), name="console-static")
    for page in PAGES:
        add_page(app, parts, page)
    for method in ("GET", "POST"):
        add_page(app, parts, Page(method, "/console/{rest:path}", _nowhere, For.ANYONE))
    add_payments(app, parts)
    app.state.has_console = True
    app.state.visitor = partial(who_visits, parts)


def check_console_settings(settings: Settings) -> None:
    """Refuse settings with which `add_console` would fail.

    Raises:
        ValueError: mail or seller settings that can't work.
    """
    mailer_of(settings)
    seller_of(settings)


def _nowhere(visit: Visit) -> Response:
    return visit.sorry(HTTPStatus.NOT_FOUND, "This page doesn't exist.")


@cache
def _templates() -> Environment:
    """Return the console's templates over those of the other pages."""
    environment = make_environment(HERE / "templates")
    environment.filters["moment"] = home.moment
    environment.filters["money"] = _money
    return environment


def _money(cents: int) -> str:
    return f"{cents // 100:,}.{cents % 100:02d}"
