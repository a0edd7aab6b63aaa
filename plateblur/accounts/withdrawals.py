"""Statements of withdrawal by consumers, as they came, for the operator.

Source: Directive 2011/83/EU, article 11a (as amended by Directive 2023/2673): a consumer must be
able to withdraw by an online function, with name, contract and an address for the confirmation, and
gets the statement with date and time on a durable medium. It works without logging in, so that
nothing may change by it alone: anybody could send it. `credit_notes.withdraw` takes an order back.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, func, insert, select, update

from plateblur.accounts import fields
from plateblur.accounts.models import Withdrawal
from plateblur.accounts.periods import invoices_kept_since
from plateblur.accounts.store import Store
from plateblur.accounts.types import EmailLimitError, FieldError, NotFoundError

MOST_WAITING = 10_000  # a few megabytes
TRY_AGAIN_S = 3600


@dataclass(frozen=True, slots=True)
class Statement:
    """A consumer's statement of withdrawal.

    Attributes:
        name: of the consumer.
        contract: what names the contract, such as the invoice's number.
        email: where the confirmation goes.
    """

    name: str
    contract: str
    email: str


@dataclass(frozen=True, slots=True)
class WithdrawalEntry:
    """A statement in the operator's list.

    Attributes:
        withdrawal_id: the store's row.
        statement: as it came.
        declared_at: UTC.
        credit_note: the number of the credit note that answered it, or "".
        settled_at: when it was answered, UTC.
    """

    withdrawal_id: int
    statement: Statement
    declared_at: datetime
    credit_note: str
    settled_at: datetime | None


def read_statement(*, name: str, contract: str, email: str) -> tuple[Statement, dict[str, str]]:
    """Return a statement as typed, and what is wrong with it by field.

    Args:
        name: as typed.
        contract: as typed.
        email: as typed.
    """
    problems: dict[str, str] = {}
    read = {"name": name, "contract": contract, "email": email}
    for field, words in (("name", "your name"), ("contract", "the number of your invoice")):
        try:
            read[field] = fields.plain_text(field, read[field], max_chars=200)
            if not read[field]:
                raise FieldError(field, f"Enter {words}.")
        except FieldError as error:
            problems[field] = str(error)
    try:
        read["email"] = fields.parse_email(email, deliverable=False)
    except FieldError as error:
        problems["email"] = str(error)
    return Statement(**read), problems


def keep(store: Store, statement: Statement, *, credit_note: str, now: datetime) -> None:
    """Keep a statement for the operator; one that a credit note answered is settled.

    Raises:
        EmailLimitError: so many wait for the operator that strangers must have sent them.
        StoreUnavailableError: it was not kept.
    """
    with store.write() as connection:
        waiting = select(func.count()).where(Withdrawal.settled_at.is_(None))
        if not credit_note and connection.execute(waiting).scalar_one() >= MOST_WAITING:
            raise EmailLimitError(retry_after_s=TRY_AGAIN_S)
        connection.execute(
            insert(Withdrawal).values(
                name=statement.name,
                contract=statement.contract,
                email=statement.email,
                declared_at=now,
                credit_note=credit_note,
                settled_at=now if credit_note else None,
            )
        )


def list_withdrawals(store: Store, *, limit: int = 100) -> list[WithdrawalEntry]:
    """Return the statements: open ones first, then newest first.

    Raises:
        StoreUnavailableError: the database can't be reached.
    """
    with store.read() as connection:
        rows = connection.execute(
            select(Withdrawal.__table__)
            .order_by(Withdrawal.settled_at.is_not(None), Withdrawal.declared_at.desc())
            .limit(limit)
        ).all()
    return [
        WithdrawalEntry(
            row.id,
            Statement(row.name, row.contract, row.email),
            row.declared_at,
            row.credit_note,
            row.settled_at,
        )
        for row in rows
    ]


def settle(store: Store, withdrawal_id: int, *, now: datetime) -> None:
    """Mark a statement as answered.

    Raises:
        NotFoundError: no such statement, or already answered.
        StoreUnavailableError: nothing changed.
    """
    with store.write() as connection:
        changed = connection.execute(
            update(Withdrawal)
            .where(Withdrawal.id == withdrawal_id, Withdrawal.settled_at.is_(None))
            .values(settled_at=now)
        ).rowcount
    if not changed:
        raise NotFoundError("Withdrawal not found.")


def prune(store: Store, *, now: datetime) -> None:
    """Delete answered statements with the invoices of their year.

    Raises:
        StoreUnavailableError: nothing changed.
    """
    with store.write() as connection:
        connection.execute(
            delete(Withdrawal).where(
                Withdrawal.declared_at < invoices_kept_since(now),
                Withdrawal.settled_at.is_not(None),
            )
        )
