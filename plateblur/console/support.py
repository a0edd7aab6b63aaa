"""Support tickets."""

from __future__ import annotations

from typing import Any

from fastapi.responses import Response

from plateblur.accounts import tickets
from plateblur.accounts.tickets import TicketEntry
from plateblur.accounts.types import FieldError
from plateblur.console.door import Visit

TICKETS = "/console/tickets"


def show_tickets(visit: Visit) -> Response:
    """Return the account's tickets, and the form for a new one."""
    return visit.page("tickets.html", tickets=_own_tickets(visit))


def open_ticket(visit: Visit) -> Response:
    """Open a ticket."""
    try:
        ticket_id = tickets.open_ticket(
            visit.parts.store,
            visit.account_id,
            subject=visit.typed("subject"),
            text=visit.typed("text"),
            now=visit.now,
        )
    except FieldError as error:
        return visit.refused("tickets.html", error, tickets=_own_tickets(visit))
    return visit.moved(f"{TICKETS}/{ticket_id}", done="ticket")


def show_ticket(visit: Visit) -> Response:
    """Return one ticket with its messages."""
    return visit.page("ticket.html", **read_ticket(visit, account_id=visit.account_id))


def reply(visit: Visit) -> Response:
    """Add a message."""
    ticket_id, account_id = visit.path_id("ticket_id"), visit.account_id
    try:
        tickets.reply(
            visit.parts.store,
            ticket_id,
            account_id=account_id,
            text=visit.typed("text"),
            now=visit.now,
        )
    except FieldError as error:
        return visit.refused("ticket.html", error, **read_ticket(visit, account_id=account_id))
    return visit.moved(f"{TICKETS}/{ticket_id}", done="replied")


def close(visit: Visit) -> Response:
    """Close a ticket."""
    ticket_id = visit.path_id("ticket_id")
    tickets.close_ticket(visit.parts.store, ticket_id, account_id=visit.account_id)
    return visit.moved(TICKETS, done="closed")


def read_ticket(visit: Visit, *, account_id: int | None) -> dict[str, Any]:
    """Return what the page of the ticket in the path shows.

    Args:
        visit: with the ticket's id in its path.
        account_id: whose it must be; None for the operator.

    Raises:
        NotFoundError: the account has no such ticket.
    """
    ticket_id = visit.path_id("ticket_id")
    store = visit.parts.store
    messages = tickets.read_messages(store, ticket_id, account_id=account_id)
    return {
        "ticket": tickets.read_ticket(store, ticket_id, account_id=account_id),
        "messages": messages,
        "base": TICKETS if account_id is not None else "/console/operator/tickets",
    }


def _own_tickets(visit: Visit) -> list[TicketEntry]:
    return tickets.list_tickets(visit.parts.store, account_id=visit.account_id)
