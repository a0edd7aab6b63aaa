"""Payment notices by webhook, signed as Stripe signs them. Off unless a secret is set."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import stripe

from plateblur.accounts.invoices import IssuedInvoice, mark_paid, read_invoice
from plateblur.accounts.store import Store
from plateblur.accounts.types import OrderError

# Source: Stripe's documentation of Checkout; the second one comes for slow ways to pay.
_PAID_EVENTS = {"checkout.session.completed", "checkout.session.async_payment_succeeded"}


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
        raise OrderError("Payments by webhook are turned off.")
    try:
        stripe.Webhook.construct_event(payload, signature, secret)
        event: dict[str, Any] = json.loads(payload)
    except (ValueError, stripe.StripeError) as error:
        raise OrderError("Expected a notice signed by the payment provider.") from error
    try:
        if event["type"] not in _PAID_EVENTS:
            return None
        session = event["data"]["object"]
        if session["payment_status"] != "paid":
            return None
        return Payment(
            event_id=str(event["id"]),
            invoice_number=str(session["client_reference_id"]),
            amount_cents=int(session["amount_total"]),
            currency=str(session["currency"]).upper(),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise OrderError("Expected a notice of a finished checkout session.") from error


def apply_payment(store: Store, payment: Payment, *, now: datetime) -> IssuedInvoice:
    """Mark the payment's invoice as paid; the same notice a second time changes nothing.

    Raises:
        NotFoundError: no such invoice.
        OrderError: another amount or currency than the invoice's.
        StoreUnavailableError: nothing changed; the provider sends the notice again.
    """
    invoice = read_invoice(store, payment.invoice_number, account_id=None)
    expected = (invoice.total_cents, invoice.currency)
    if (payment.amount_cents, payment.currency) != expected:
        raise OrderError(
            f"Expected {invoice.total_cents} cents of {invoice.currency}, "
            f"got {payment.amount_cents} of {payment.currency}."
        )
    return mark_paid(store, invoice.number, paid_by=payment.event_id, now=now)
