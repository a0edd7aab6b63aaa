"""Payment notices by webhook, signed as Stripe signs them. Off unless a secret is set."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import stripe
from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from plateblur.accounts.invoices import IssuedInvoice, mark_paid, read_invoice
from plateblur.accounts.models import StrayPayment
from plateblur.accounts.periods import invoices_kept_since
from plateblur.accounts.store import Store
from plateblur.accounts.types import NotFoundError, OrderError

# Source: Stripe's documentation of Checkout; the second one comes for slow ways to pay.
_PAID_EVENTS = {"checkout.session.completed", "checkout.session.async_payment_succeeded"}
_MAX_ID_CHARS = 200  # Source: Stripe's API reference, `client_reference_id`; ids are shorter.
_MAX_CENTS = 10**12  # far above any price, far below what a column holds


@dataclass(frozen=True, slots=True)
class Payment:
    """A payment that the provider vouches for.

    Attributes:
        event_id: the provider's.
        invoice_number: from the session's `client_reference_id`.
        amount_cents: what was paid.
        currency: three capital letters.
    """

    event_id: str
    invoice_number: str
    amount_cents: int
    currency: str


def read_payment(payload: bytes, signature: str, *, secret: str) -> Payment | None:
    """Return the payment in a notice; None for a genuine notice of something else.

    Args:
        payload: the body as it came, not parsed.
        signature: the `Stripe-Signature` header.
        secret: the endpoint's signing secret; "" turns the webhook off.

    Raises:
        OrderError: turned off, not genuine, too old, or not of the form that Stripe documents.
    """
    if not secret:
        raise OrderError("Payments by webhook are disabled.")
    try:
        stripe.Webhook.construct_event(payload, signature, secret)
        event: dict[str, Any] = json.loads(payload)
    except (ValueError, stripe.StripeError) as error:
        raise OrderError("The signature of the payment provider is missing or wrong.") from error
    try:
        if event["type"] not in _PAID_EVENTS:
            return None
        session = event["data"]["object"]
        if session["payment_status"] != "paid":
            return None
        payment = Payment(
            event_id=_id_of(event["id"]),
            invoice_number=_id_of(session["client_reference_id"] or "none"),
            amount_cents=int(session["amount_total"]),
            currency=_id_of(session["currency"]).upper(),
        )
        if not 0 <= payment.amount_cents <= _MAX_CENTS:
            raise ValueError("an amount that nobody pays")
        return payment
    except (KeyError, TypeError, ValueError) as error:
        raise OrderError("Expected a completed checkout session.") from error


class StrayPaymentError(OrderError):
    """The payment opened nothing; it is kept for the operator."""


@dataclass(frozen=True, slots=True)
class StrayEntry:
    """A payment that could not be matched to an open invoice.

    Attributes:
        event_id: the provider's.
        invoice_number: as the payment named it; there may be no such invoice.
        amount_cents: what was paid.
        currency: three capital letters.
        why: why it could not be matched.
        came_at: UTC.
        settled_at: when the operator marked it as resolved, UTC; None until then.
    """

    event_id: str
    invoice_number: str
    amount_cents: int
    currency: str
    why: str
    came_at: datetime
    settled_at: datetime | None


def apply_payment(store: Store, payment: Payment, *, now: datetime) -> IssuedInvoice:
    """Mark the payment's invoice as paid; the same notice a second time changes nothing.

    Raises:
        StrayPaymentError: there is no such invoice, it was cancelled or paid before, its
            account is gone, or the amount or currency is another; the payment was kept for the
            operator.
        StoreUnavailableError: nothing changed; the provider sends the notice again.
    """
    try:
        invoice = read_invoice(store, payment.invoice_number, account_id=None)
    except NotFoundError:
        raise _keep_stray(store, payment, "Invoice not found.", now) from None
    if (payment.amount_cents, payment.currency) != (invoice.total_cents, invoice.currency):
        why = (
            f"Expected {invoice.total_cents} cents of {invoice.currency}, "
            f"got {payment.amount_cents} of {payment.currency}."
        )
        raise _keep_stray(store, payment, why, now)
    try:
        paid = mark_paid(store, invoice.number, paid_by=payment.event_id, now=now)
    except OrderError as error:
        raise _keep_stray(store, payment, str(error), now) from error
    if paid.paid_by != payment.event_id:
        raise _keep_stray(store, payment, "The invoice was already paid.", now)
    if paid.account_id is None:
        raise _keep_stray(store, payment, "The invoice's account was deleted.", now)
    return paid


def list_stray_payments(store: Store, *, limit: int = 100) -> list[StrayEntry]:
    """Return the unmatched payments: open ones first, then newest first.

    Raises:
        StoreUnavailableError: the database can't be reached.
    """
    with store.read() as connection:
        rows = connection.execute(
            select(
                StrayPayment.event_id,
                StrayPayment.invoice_number,
                StrayPayment.amount_cents,
                StrayPayment.currency,
                StrayPayment.why,
                StrayPayment.came_at,
                StrayPayment.settled_at,
            )
            .order_by(StrayPayment.settled_at.is_not(None), StrayPayment.came_at.desc())
            .limit(limit)
        ).all()
    return [StrayEntry(*row) for row in rows]


def settle_stray_payment(store: Store, event_id: str, *, now: datetime) -> None:
    """Mark a payment as resolved, for example refunded.

    Raises:
        NotFoundError: no such payment, or already resolved.
        StoreUnavailableError: nothing changed.
    """
    with store.write() as connection:
        changed = connection.execute(
            update(StrayPayment)
            .where(StrayPayment.event_id == event_id, StrayPayment.settled_at.is_(None))
            .values(settled_at=now)
        ).rowcount
    if not changed:
        raise NotFoundError("Payment not found.")


def prune(store: Store, *, now: datetime) -> None:
    """Delete settled payments with the invoices of their year.

    Raises:
        StoreUnavailableError: nothing changed.
    """
    with store.write() as connection:
        connection.execute(
            delete(StrayPayment).where(
                StrayPayment.came_at < invoices_kept_since(now),
                StrayPayment.settled_at.is_not(None),
            )
        )


def _keep_stray(store: Store, payment: Payment, why: str, now: datetime) -> StrayPaymentError:
    """Store a payment once, however often its notice comes; return the error to raise."""
    try:
        with store.write() as connection:
            connection.execute(
                insert(StrayPayment).values(
                    event_id=payment.event_id,
                    invoice_number=payment.invoice_number,
                    amount_cents=payment.amount_cents,
                    currency=payment.currency,
                    why=why,
                    came_at=now,
                )
            )
    except IntegrityError:
        pass  # stored when it first came
    return StrayPaymentError(why)


def _id_of(value: object) -> str:
    """Return an id that any database takes.

    Raises:
        ValueError: empty, too long, or with characters that no id has.
    """
    text = str(value)
    if not 0 < len(text) <= _MAX_ID_CHARS or not text.isprintable():
        raise ValueError("expected an id")
    return text
