"""Whether anything changed that an open page of the console may show."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import InstrumentedAttribute

from plateblur.accounts.models import (
    Account,
    ApiKey,
    CreditNote,
    Invoice,
    StrayPayment,
    Ticket,
    TicketMessage,
    Withdrawal,
)
from plateblur.accounts.store import Store
from plateblur.accounts.types import TicketStatus


def pulse(store: Store, account_id: int | None) -> tuple[int, ...]:
    """Return counts that are others once a ticket, an invoice or a key changed.

    Args:
        store: the store.
        account_id: whose; None for everybody's, as the operator sees them.

    Raises:
        StoreUnavailableError: the database can't be reached.
    """

    def count(what: InstrumentedAttribute[Any], *where: ColumnElement[bool]) -> Any:
        return select(func.count(what)).where(*where).scalar_subquery()

    def of(column: InstrumentedAttribute[Any]) -> tuple[ColumnElement[bool], ...]:
        return () if account_id is None else (column == account_id,)

    tickets = select(Ticket.id).where(*of(Ticket.account_id))
    invoices = select(Invoice.id).where(*of(Invoice.account_id))
    counts = [
        count(Ticket.id, *of(Ticket.account_id)),
        count(Ticket.id, *of(Ticket.account_id), Ticket.status == TicketStatus.OPEN),
        count(TicketMessage.id, TicketMessage.ticket_id.in_(tickets)),
        count(Invoice.id, *of(Invoice.account_id)),
        count(Invoice.paid_at, *of(Invoice.account_id)),
        count(Invoice.cancelled_at, *of(Invoice.account_id)),
        count(CreditNote.refunded_at, CreditNote.invoice_id.in_(invoices)),
        count(ApiKey.id, *of(ApiKey.account_id)),
        count(ApiKey.last_used_at, *of(ApiKey.account_id)),
        count(ApiKey.revoked_at, *of(ApiKey.account_id)),
    ]
    if account_id is None:
        counts += [
            count(Account.id),
            count(StrayPayment.event_id),
            count(StrayPayment.settled_at),
            count(Withdrawal.id),
            count(Withdrawal.settled_at),
        ]
    with store.read() as connection:
        return tuple(connection.execute(select(*counts)).one())
