"""What takes an invoice back: cancelled orders, withdrawals and refunds.

An issued invoice is never changed or deleted. A credit note with a number of its own takes it back,
and the plan that it paid for ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, insert, select, update

from plateblur.accounts.invoices import (
    WITHDRAWN,
    IssuedInvoice,
    forget_unpaid,
    lock_account,
    next_number,
    read_invoice,
)
from plateblur.accounts.models import CreditNote, Invoice
from plateblur.accounts.periods import withdrawal_ends_at
from plateblur.accounts.store import Store
from plateblur.accounts.types import InvoiceStatus, NotFoundError, OrderError
from plateblur.accounts.vat import tax_cents

CANCELLED = "Order cancelled before it was paid."
MAX_REASON_CHARS = 200


@dataclass(frozen=True, slots=True)
class IssuedCreditNote:
    """A credit note, and the invoice that it takes back.

    Attributes:
        number: e.g. CN-2026-000001.
        invoice: as issued.
        reason: a sentence.
        net_cents: taken back.
        vat_cents: taken back.
        issued_at: UTC.
        refund_due: whether the invoice was paid, so that money goes back.
        refunded_at: when the operator said that it went back, UTC.
    """

    number: str
    invoice: IssuedInvoice
    reason: str
    net_cents: int
    vat_cents: int
    issued_at: datetime
    refund_due: bool
    refunded_at: datetime | None

    @property
    def total_cents(self) -> int:
        """Return what is taken back."""
        return self.net_cents + self.vat_cents


def cancel_order(store: Store, account_id: int, number: str, *, now: datetime) -> IssuedCreditNote:
    """Cancel an unpaid order.

    Raises:
        NotFoundError: the account has no such invoice.
        OrderError: it was paid or cancelled.
        StoreUnavailableError: nothing changed.
    """
    invoice = read_invoice(store, number, account_id=account_id)
    if invoice.status is not InvoiceStatus.ISSUED:
        raise OrderError("Only an order that isn't paid can be cancelled.")
    return _take_back(store, invoice, invoice.net_cents, reason=CANCELLED, now=now)


def may_withdraw(invoice: IssuedInvoice, *, now: datetime) -> bool:
    """Return whether its buyer is a consumer who may still withdraw."""
    return (
        invoice.is_of_consumer
        and invoice.status is not InvoiceStatus.CANCELLED
        and now < withdrawal_ends_at(invoice.issued_at)
    )


def owed_back_cents(invoice: IssuedInvoice, *, now: datetime) -> int:
    """Return the net amount that a withdrawal takes back.

    All of it, unless the consumer asked for an immediate start: then the whole days on which the
    plan was active are paid for. Source: Directive 2011/83/EU, articles 7(3) and 14(3).

    Args:
        invoice: paid or not.
        now: UTC.
    """
    if invoice.starts_at is None or invoice.ends_at is None or now <= invoice.starts_at:
        return invoice.net_cents
    if invoice.terms.get("starts_now") != "yes":
        return invoice.net_cents
    used = (min(now, invoice.ends_at) - invoice.starts_at).days
    days = (invoice.ends_at - invoice.starts_at).days
    return invoice.net_cents - invoice.net_cents * used // days


def withdraw(store: Store, account_id: int, number: str, *, now: datetime) -> IssuedCreditNote:
    """Take an order back for a consumer who withdraws within the period.

    Raises:
        NotFoundError: the account has no such invoice.
        OrderError: the buyer isn't a consumer, or the period is over.
        StoreUnavailableError: nothing changed.
    """
    invoice = read_invoice(store, number, account_id=account_id)
    if not may_withdraw(invoice, now=now):
        raise OrderError("The period for withdrawing from this order is over.")
    net_cents = owed_back_cents(invoice, now=now)
    return _take_back(store, invoice, net_cents, reason=WITHDRAWN, now=now)


def refund(
    store: Store, number: str, *, net_cents: int, reason: str, now: datetime
) -> IssuedCreditNote:
    """Take an order back for the operator, whole or in part; its plan ends.

    Raises:
        NotFoundError: no such invoice.
        OrderError: it was cancelled, is a grant, or the amount or reason can't be.
        StoreUnavailableError: nothing changed.
    """
    invoice = read_invoice(store, number, account_id=None)
    reason = reason.strip()
    if not invoice.buyer or invoice.status is InvoiceStatus.CANCELLED:
        raise OrderError("This invoice can't be refunded: it was cancelled, or nobody paid it.")
    if not 0 < net_cents <= invoice.net_cents:
        raise OrderError(f"Enter a net amount of up to {invoice.net_cents / 100:.2f}.")
    if not 0 < len(reason) <= MAX_REASON_CHARS or not reason.isprintable():
        raise OrderError(f"Enter a reason of up to {MAX_REASON_CHARS} characters.")
    return _take_back(store, invoice, net_cents, reason=reason, now=now)


def mark_refunded(store: Store, number: str, *, now: datetime) -> None:
    """Mark the money of a credit note as paid back.

    Raises:
        NotFoundError: no such credit note, or nothing is due.
        StoreUnavailableError: nothing changed.
    """
    with store.write() as connection:
        changed = connection.execute(
            update(CreditNote)
            .where(
                CreditNote.number == number,
                CreditNote.refund_due.is_(True),
                CreditNote.refunded_at.is_(None),
            )
            .values(refunded_at=now)
        ).rowcount
    if not changed:
        raise NotFoundError("Credit note not found.")


def list_credit_notes(
    store: Store, *, account_id: int | None, limit: int = 100
) -> list[IssuedCreditNote]:
    """Return an account's credit notes, newest first; for the operator (None) everybody's.

    Raises:
        StoreUnavailableError: the database can't be reached.
    """
    query = _columns(account_id).order_by(CreditNote.id.desc()).limit(limit)
    with store.read() as connection:
        rows = connection.execute(query).all()
    return [_issued(store, row) for row in rows]


def read_credit_note(store: Store, number: str, *, account_id: int | None) -> IssuedCreditNote:
    """Return one credit note of an account; `account_id` as in `list_credit_notes`.

    Raises:
        NotFoundError: the account has no such credit note.
        StoreUnavailableError: the database can't be reached.
    """
    with store.read() as connection:
        row = connection.execute(_columns(account_id).where(CreditNote.number == number)).first()
    if row is None:
        raise NotFoundError("Credit note not found.")
    return _issued(store, row)


def _take_back(
    store: Store, invoice: IssuedInvoice, net_cents: int, *, reason: str, now: datetime
) -> IssuedCreditNote:
    with store.write() as connection:
        if invoice.account_id is not None:
            lock_account(connection, invoice.account_id)
        own = Invoice.id == invoice.invoice_id
        # As the lock found it: it may have been paid or cancelled a moment ago.
        status = connection.execute(select(Invoice.status).where(own).with_for_update()).scalar()
        if status != invoice.status:
            raise OrderError("The invoice was paid or cancelled a moment ago. Please try again.")
        number = next_number(store, connection, f"CN-{now.year}")
        connection.execute(
            insert(CreditNote).values(
                invoice_id=invoice.invoice_id,
                number=number,
                reason=reason,
                net_cents=net_cents,
                vat_cents=_vat_of(invoice, net_cents),
                issued_at=now,
                refund_due=status == InvoiceStatus.PAID,
            )
        )
        _end(connection, invoice, now)
    return read_credit_note(store, number, account_id=None)


def _vat_of(invoice: IssuedInvoice, net_cents: int) -> int:
    if net_cents == invoice.net_cents:
        return invoice.vat_cents
    return tax_cents(net_cents, invoice.vat_rate_bps)


def _end(connection: Connection, invoice: IssuedInvoice, now: datetime) -> None:
    connection.execute(
        update(Invoice)
        .where(Invoice.id == invoice.invoice_id)
        .values(status=InvoiceStatus.CANCELLED, cancelled_at=now)
    )
    if invoice.account_id is not None:
        forget_unpaid(connection, invoice.account_id)


def _columns(account_id: int | None) -> Select[*tuple[Any, ...]]:
    query = select(
        CreditNote.number,
        Invoice.number.label("invoice_number"),
        CreditNote.reason,
        CreditNote.net_cents,
        CreditNote.vat_cents,
        CreditNote.issued_at,
        CreditNote.refund_due,
        CreditNote.refunded_at,
    ).join(Invoice, Invoice.id == CreditNote.invoice_id)
    return query if account_id is None else query.where(Invoice.account_id == account_id)


def _issued(store: Store, row: Row[*tuple[Any, ...]]) -> IssuedCreditNote:
    values = dict(row._mapping)
    invoice = read_invoice(store, values.pop("invoice_number"), account_id=None)
    return IssuedCreditNote(invoice=invoice, **values)
