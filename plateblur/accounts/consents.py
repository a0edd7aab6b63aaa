"""The consent log: added to, read, exported; never changed."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import func, insert, select

from plateblur.accounts import fields
from plateblur.accounts.models import Account, Consent
from plateblur.accounts.store import Store
from plateblur.accounts.types import AccountClosedError, FieldError

MAX_LINES = 500  # Source: ours; only a script decides more often.
# Spreadsheets run a cell with such a start as a formula. Source: OWASP, "CSV Injection".
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # noqa: RUF001


@dataclass(frozen=True, slots=True)
class ConsentEntry:
    """One entry of the log.

    Attributes:
        decided_at: UTC.
        subject: what it is about.
        text_version: which text was shown.
        given: given, or refused or withdrawn.
    """

    decided_at: datetime
    subject: str
    text_version: str
    given: bool


def record_consent(
    store: Store,
    account_id: int,
    *,
    subject: str,
    text_version: str,
    given: bool,
    now: datetime,
) -> None:
    """Add an entry; withdrawing a consent is a new entry too, repeating it is not.

    Withdrawing is never refused, even if the log is full.

    Raises:
        FieldError: a text is too long, or the log is full.
        AccountClosedError: the account was deleted.
        StoreUnavailableError: nothing was stored.
    """
    line = {
        "subject": fields.plain_text("subject", subject, max_chars=64),
        "text_version": fields.plain_text("text_version", text_version, max_chars=32),
        "given": given,
    }
    own = Consent.account_id == account_id
    with store.write() as connection:
        account = select(Account.id).where(Account.id == account_id)
        if connection.execute(account.with_for_update(key_share=True)).first() is None:
            raise AccountClosedError("This account was deleted.")
        last = connection.execute(
            select(Consent.subject, Consent.text_version, Consent.given)
            .where(own, Consent.subject == line["subject"])
            .order_by(Consent.id.desc())
            .limit(1)
        ).first()
        if last is not None and last._mapping == line:
            return
        count = connection.execute(select(func.count()).select_from(Consent).where(own))
        if given and count.scalar_one() >= MAX_LINES:
            raise FieldError("given", "Your consent log is full. Please contact us.")
        connection.execute(insert(Consent).values(account_id=account_id, decided_at=now, **line))


def list_consents(store: Store, account_id: int) -> list[ConsentEntry]:
    """Return the account's log, oldest first.

    Raises:
        StoreUnavailableError: the database can't be reached.
    """
    with store.read() as connection:
        rows = connection.execute(
            select(Consent.decided_at, Consent.subject, Consent.text_version, Consent.given)
            .where(Consent.account_id == account_id)
            .order_by(Consent.id)
        ).all()
    return [ConsentEntry(*row) for row in rows]


def consents_as_json(entries: list[ConsentEntry]) -> str:
    """Return the log as a JSON array, moments in ISO 8601."""
    return json.dumps(
        [asdict(entry) | {"decided_at": entry.decided_at.isoformat()} for entry in entries],
        ensure_ascii=False,
        indent=2,
    )


def consents_as_csv(entries: list[ConsentEntry]) -> str:
    """Return the log as CSV that a spreadsheet opens without running anything in it."""
    out = io.StringIO()
    writer = csv.writer(out, quoting=csv.QUOTE_ALL)
    writer.writerow(["decided_at", "subject", "text_version", "given"])
    for entry in entries:
        cells = [entry.decided_at.isoformat(), entry.subject, entry.text_version]
        writer.writerow([*map(_inert, cells), "yes" if entry.given else "no"])
    return out.getvalue()


def _inert(cell: str) -> str:
    return f"'{cell}" if cell.startswith(_FORMULA_STARTS) else cell
