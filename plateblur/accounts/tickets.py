"""Support tickets: opened by an account, answered by an operator."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Select, delete, func, insert, select, update

from plateblur.accounts import fields
from plateblur.accounts.models import Account, Ticket, TicketMessage
from plateblur.accounts.store import Store
from plateblur.accounts.types import FieldError, NotFoundError, TicketStatus

MAX_TEXT_CHARS = 10_000
MAX_OPEN_TICKETS = 20  # Source: ours, as the one above; both bound what one account can store.
MAX_MESSAGES = 200
MAX_TICKETS = 200  # closed ones count; the oldest of those makes room
MAX_MESSAGES_A_DAY = 50  # of an account; answers do not count


@dataclass(frozen=True, slots=True)
class TicketEntry:
    """A ticket in a list.

    Attributes:
        ticket_id: the store's row.
        account_id: whose.
        email: whose.
        subject: one line.
        status: whether it waits for an answer.
        opened_at: UTC.
    """

    ticket_id: int
    account_id: int
    email: str
    subject: str
    status: TicketStatus
    opened_at: datetime


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a ticket."""

    by_operator: bool
    text: str
    written_at: datetime


def open_ticket(store: Store, account_id: int, *, subject: str, text: str, now: datetime) -> int:
    """Return the id of a new ticket.

    Raises:
        FieldError: empty or too long, too many tickets are open, or too much was written today.
        NotFoundError: the account was deleted.
        StoreUnavailableError: nothing was stored.
    """
    subject = fields.plain_text("subject", subject, max_chars=200)
    if not subject:
        raise FieldError("subject", "Enter a subject.")
    with store.write() as connection:
        account = select(Account.id).where(Account.id == account_id)
        if connection.execute(account.with_for_update(key_share=True)).first() is None:
            raise NotFoundError("This account was deleted.")
        count = connection.execute(
            select(func.count())
            .select_from(Ticket)
            .where(Ticket.account_id == account_id, Ticket.status == TicketStatus.OPEN)
        ).scalar_one()
        if count >= MAX_OPEN_TICKETS:
            raise FieldError(
                "subject", f"You can have at most {MAX_OPEN_TICKETS} open tickets. Close one first."
            )
        _make_room(connection, account_id)
        ticket_id = connection.execute(
            insert(Ticket)
            .values(account_id=account_id, subject=subject, status=TicketStatus.OPEN, opened_at=now)
            .returning(Ticket.id)
        ).scalar_one()
        _add_message(connection, ticket_id, text, by_operator=False, now=now)
    return ticket_id


def reply(
    store: Store, ticket_id: int, *, account_id: int | None, text: str, now: datetime
) -> None:
    """Add a message; the ticket is open again.

    Args:
        store: the store.
        ticket_id: which.
        account_id: who writes; None for the operator.
        text: lines.
        now: UTC.

    Raises:
        FieldError: empty or too long, the ticket is full, or too much was written today.
        NotFoundError: the account has no such ticket.
        StoreUnavailableError: nothing was stored.
    """
    with store.write() as connection:
        if account_id is not None:
            account = select(Account.id).where(Account.id == account_id)
            connection.execute(account.with_for_update(key_share=True))
        _set_status(connection, ticket_id, account_id, TicketStatus.OPEN)
        _add_message(connection, ticket_id, text, by_operator=account_id is None, now=now)


def close_ticket(store: Store, ticket_id: int, *, account_id: int | None) -> None:
    """Close a ticket; `account_id` as in `reply`.

    Raises:
        NotFoundError: the account has no such ticket.
        StoreUnavailableError: nothing changed.
    """
    with store.write() as connection:
        _set_status(connection, ticket_id, account_id, TicketStatus.CLOSED)


def list_tickets(store: Store, *, account_id: int | None, limit: int = 100) -> list[TicketEntry]:
    """Return an account's tickets, newest first; for the operator (None) everybody's.

    Raises:
        StoreUnavailableError: the database can't be reached.
    """
    query = _entries(account_id)
    with store.read() as connection:
        rows = connection.execute(query.order_by(Ticket.id.desc()).limit(limit)).all()
    return [TicketEntry(*row) for row in rows]


def read_ticket(store: Store, ticket_id: int, *, account_id: int | None) -> TicketEntry:
    """Return one ticket; `account_id` as in `reply`.

    Raises:
        NotFoundError: the account has no such ticket.
        StoreUnavailableError: the database can't be reached.
    """
    with store.read() as connection:
        row = connection.execute(_entries(account_id).where(Ticket.id == ticket_id)).first()
    if row is None:
        raise NotFoundError("Ticket not found.")
    return TicketEntry(*row)


def read_messages(store: Store, ticket_id: int, *, account_id: int | None) -> list[Message]:
    """Return a ticket's messages, oldest first; `account_id` as in `reply`.

    Raises:
        NotFoundError: the account has no such ticket.
        StoreUnavailableError: the database can't be reached.
    """
    query = (
        select(TicketMessage.by_operator, TicketMessage.text, TicketMessage.written_at)
        .join(Ticket, Ticket.id == TicketMessage.ticket_id)
        .where(Ticket.id == ticket_id)
        .order_by(TicketMessage.id)
    )
    if account_id is not None:
        query = query.where(Ticket.account_id == account_id)
    with store.read() as connection:
        rows = connection.execute(query).all()
    if not rows:
        raise NotFoundError("Ticket not found.")
    return [Message(*row) for row in rows]


def _entries(account_id: int | None) -> Select[*tuple[Any, ...]]:
    query = select(
        Ticket.id, Ticket.account_id, Account.email, Ticket.subject, Ticket.status, Ticket.opened_at
    ).join(Account, Account.id == Ticket.account_id)
    return query if account_id is None else query.where(Ticket.account_id == account_id)


def _set_status(
    connection: Connection, ticket_id: int, account_id: int | None, status: TicketStatus
) -> None:
    change = update(Ticket).where(Ticket.id == ticket_id).values(status=status)
    if account_id is not None:
        change = change.where(Ticket.account_id == account_id)
    if not connection.execute(change).rowcount:
        raise NotFoundError("Ticket not found.")


def _add_message(
    connection: Connection, ticket_id: int, text: str, *, by_operator: bool, now: datetime
) -> None:
    text = fields.plain_text("text", text, max_chars=MAX_TEXT_CHARS, lines=True)
    if not text:
        raise FieldError("text", "Enter a message.")
    count = connection.execute(
        select(func.count()).select_from(TicketMessage).where(TicketMessage.ticket_id == ticket_id)
    ).scalar_one()
    if count >= MAX_MESSAGES:
        raise FieldError("text", "This ticket has too many messages. Please open a new one.")
    if not by_operator:
        _count_day(connection, ticket_id, now)
    connection.execute(
        insert(TicketMessage).values(
            ticket_id=ticket_id, by_operator=by_operator, text=text, written_at=now
        )
    )


def _count_day(connection: Connection, ticket_id: int, now: datetime) -> None:
    """Refuse more than a day's messages of the ticket's account.

    Raises:
        FieldError: there were as many.
    """
    owner = select(Ticket.account_id).where(Ticket.id == ticket_id).scalar_subquery()
    written = connection.execute(
        select(func.count())
        .select_from(TicketMessage)
        .join(Ticket, Ticket.id == TicketMessage.ticket_id)
        .where(
            Ticket.account_id == owner,
            TicketMessage.by_operator.is_(False),
            TicketMessage.written_at > now - timedelta(days=1),
        )
    ).scalar_one()
    if written >= MAX_MESSAGES_A_DAY:
        raise FieldError("text", f"You can send at most {MAX_MESSAGES_A_DAY} messages a day.")


def _make_room(connection: Connection, account_id: int) -> None:
    kept = (
        select(Ticket.id)
        .where(Ticket.account_id == account_id)
        .order_by((Ticket.status == TicketStatus.OPEN).desc(), Ticket.id.desc())
        .limit(MAX_TICKETS - 1)
    )
    connection.execute(
        delete(Ticket).where(Ticket.account_id == account_id, Ticket.id.not_in(kept))
    )
