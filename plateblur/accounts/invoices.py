"""Orders, their invoices, and the plans that paid invoices activate."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, delete, func, insert, or_, select, update

from plateblur.accounts import plans, vat
from plateblur.accounts.models import Account, CreditNote, Invoice, InvoiceSeries, PackageMonth
from plateblur.accounts.offers import USUAL_TERMS, OrderTerms, Seller, quote
from plateblur.accounts.periods import invoices_kept_since, withdrawal_ends_at
from plateblur.accounts.store import Store
from plateblur.accounts.types import (
    CURRENCY,
    PRICE_CENTS,
    InvoiceStatus,
    NotFoundError,
    OrderError,
    PlanKind,
)

WITHDRAWN = "Withdrawal from the contract."
"""The reason on a credit note that answers a withdrawal."""
MAX_OPEN_INVOICES = 5  # Source: ours; numbers are never reused, so nobody gets many.


@dataclass(frozen=True, slots=True)
class IssuedInvoice:
    """An invoice as issued, and once paid the period of its package.

    Attributes:
        invoice_id: the store's row.
        number: e.g. PB-2026-000001.
        kind: the package.
        status: whether it is paid.
        currency: of all cents.
        net_cents: the price.
        vat_rate_bps: hundredths of a per cent.
        vat_cents: the tax.
        vat_note: the sentence that the law wants where no tax is charged.
        seller: the seller's fields at that time.
        buyer: name, postal_address, country, vat_id at that time.
        issued_at: UTC.
        paid_at: UTC.
        paid_by: "operator", or the payment provider's event id; None until it is paid.
        starts_at: the package's start, UTC.
        ends_at: its end, exclusive, UTC.
        cancelled_at: when it was taken back by a credit note, UTC.
        terms: what `OrderTerms.kept` kept; empty for invoices of older versions.
        local_vat: the VAT in the national currency, a sentence; "" where it isn't stated.
        account_id: whose; None once the account is deleted.
    """

    invoice_id: int
    number: str
    kind: PlanKind
    status: InvoiceStatus
    currency: str
    net_cents: int
    vat_rate_bps: int
    vat_cents: int
    vat_note: str
    seller: dict[str, str]
    buyer: dict[str, str]
    issued_at: datetime
    paid_at: datetime | None
    paid_by: str | None
    starts_at: datetime | None
    ends_at: datetime | None
    cancelled_at: datetime | None = None
    terms: dict[str, str] = field(default_factory=dict)
    local_vat: str = ""
    account_id: int | None = None

    @property
    def is_open(self) -> bool:
        """Return whether it waits to be paid."""
        return not (self.paid_at or self.cancelled_at)

    @property
    def is_of_consumer(self) -> bool:
        """Return whether the buyer ordered as a consumer, who may withdraw."""
        return (
            bool(self.buyer)
            and self.terms.get("is_business", "") != "yes"
            and not (self.buyer.get("vat_id"))
        )

    @property
    def total_cents(self) -> int:
        """Return what is to be paid."""
        return self.net_cents + self.vat_cents


def place_order(
    store: Store,
    account_id: int,
    kind: PlanKind,
    *,
    seller: Seller,
    now: datetime,
    terms: OrderTerms = USUAL_TERMS,
    total_cents: int | None = None,
) -> IssuedInvoice:
    """Return the invoice of an order, with the profile as the buyer.

    The same order placed twice, e.g. by a second click, gives the same unpaid invoice.

    Args:
        store: the store.
        account_id: who orders.
        kind: a paid package.
        seller: who issues the invoice.
        now: UTC.
        terms: how it is ordered.
        total_cents: what the buyer was shown; None where nothing was shown.

    Raises:
        OrderError: the profile lacks a name, address or country; too much is unpaid; or the total
            isn't what the buyer was shown.
        NotFoundError: the account was deleted.
        StoreUnavailableError: no number was given.
        ValueError: `kind` is the trial.
    """
    if kind not in PRICE_CENTS:
        raise ValueError(f"kind must be a paid package, got {kind}")
    with store.write() as connection:
        profile = connection.execute(
            select(
                Account.full_name,
                Account.company,
                Account.postal_address,
                Account.country,
                Account.vat_id,
            )
            .where(Account.id == account_id)
            .with_for_update(key_share=True)
        ).first()
        if profile is None:
            raise NotFoundError("This account was deleted.")
        name = "\n".join(filter(None, [profile.company, profile.full_name]))
        if not (name and profile.postal_address and profile.country):
            raise OrderError("Enter a name, an address and a country first.")
        buyer = {
            "name": name,
            "postal_address": profile.postal_address,
            "country": profile.country,
            "vat_id": profile.vat_id,
        }
        unpaid = connection.execute(
            _columns().where(Invoice.account_id == account_id, Invoice.status == "issued")
        ).all()
        kept = terms.kept(now=now)
        for row in unpaid:
            if (row.kind, row.buyer, row.seller) == (kind, buyer, asdict(seller)) and (
                row.terms | {"due_on": ""} == kept | {"due_on": ""}
            ):
                return _issued(row)
        if len(unpaid) >= MAX_OPEN_INVOICES:
            raise OrderError(
                f"You have {len(unpaid)} unpaid invoices. Please pay or cancel them first."
            )
        quoted = quote(
            kind,
            seller=seller,
            buyer_country=profile.country,
            buyer_vat_id=profile.vat_id,
            terms=terms,
        )
        if total_cents not in (None, quoted.total_cents):
            raise OrderError("Your billing details have changed. Please check the order again.")
        invoice_id = _issue(
            store,
            connection,
            series=f"PB-{now.year}",
            account_id=account_id,
            kind=kind,
            net_cents=quoted.net_cents,
            tax=quoted.tax,
            seller=asdict(seller),
            buyer=buyer,
            terms=kept,
            local_vat=terms.rate.stated(quoted.tax.amount_cents, priced_in=seller.currency)
            if terms.rate and quoted.tax.amount_cents
            else "",
            currency=seller.currency,
            now=now,
        )
        return _issued(connection.execute(_columns().where(Invoice.id == invoice_id)).one())


def grant_package(store: Store, account_id: int, kind: PlanKind, *, now: datetime) -> IssuedInvoice:
    """Grant a package for free; its invoice has its own number series and names no buyer.

    Raises:
        NotFoundError: the account was deleted.
        StoreUnavailableError: nothing changed.
        ValueError: `kind` is the trial.
    """
    if kind not in PRICE_CENTS:
        raise ValueError(f"kind must be a paid package, got {kind}")
    with store.write() as connection:
        lock_account(connection, account_id)
        invoice_id = _issue(
            store,
            connection,
            series=f"GRANT-{now.year}",
            account_id=account_id,
            kind=kind,
            net_cents=0,
            tax=vat.Vat(0, 0, "Granted by the operator; no sale."),
            seller={},
            buyer={},
            terms={},
            local_vat="",
            currency=CURRENCY,
            now=now,
        )
        row = connection.execute(_columns().where(Invoice.id == invoice_id)).one()
        _open_package(connection, row, paid_by="operator", now=now)
        return _issued(connection.execute(_columns().where(Invoice.id == invoice_id)).one())


def mark_paid(store: Store, number: str, *, paid_by: str, now: datetime) -> IssuedInvoice:
    """Mark an invoice as paid and open its package; a second time changes nothing.

    Args:
        store: the store.
        number: the invoice's.
        paid_by: who says so: "operator", or a payment provider's event id.
        now: UTC.

    Raises:
        NotFoundError: no such invoice.
        OrderError: it was cancelled.
        StoreUnavailableError: nothing changed.
    """
    by_number = _columns().where(Invoice.number == number)
    with store.write() as connection:
        row = connection.execute(by_number).first()
        if row is None:
            raise NotFoundError("Invoice not found.")
        if row.account_id is not None:
            lock_account(connection, row.account_id)
        row = connection.execute(by_number.with_for_update()).one()  # as the lock found it
        if row.status == InvoiceStatus.CANCELLED:
            raise OrderError("The invoice was cancelled.")
        if row.status == InvoiceStatus.ISSUED:
            _open_package(connection, row, paid_by=paid_by, now=now)
        return _issued(connection.execute(by_number).one())


def list_invoices(store: Store, *, account_id: int | None, limit: int = 100) -> list[IssuedInvoice]:
    """Return an account's invoices, newest first; for the operator (None) everybody's.

    Raises:
        StoreUnavailableError: the database can't be reached.
    """
    query = _columns()
    if account_id is not None:
        query = query.where(Invoice.account_id == account_id)
    with store.read() as connection:
        rows = connection.execute(query.order_by(Invoice.id.desc()).limit(limit)).all()
    return [_issued(row) for row in rows]


def read_invoice(store: Store, number: str, *, account_id: int | None) -> IssuedInvoice:
    """Return one invoice of an account; `account_id` as in `list_invoices`.

    Raises:
        NotFoundError: the account has no such invoice.
        StoreUnavailableError: the database can't be reached.
    """
    query = _columns().where(Invoice.number == number)
    if account_id is not None:
        query = query.where(Invoice.account_id == account_id)
    with store.read() as connection:
        row = connection.execute(query).first()
    if row is None:
        raise NotFoundError("Invoice not found.")
    return _issued(row)


def has_withdrawn(store: Store, account_id: int) -> bool:
    """Return whether the account has withdrawn from an order before.

    Its next plan starts when the period of withdrawal is over. Else it could use up a plan in a
    day, withdraw, and begin again.

    Raises:
        StoreUnavailableError: the database can't be reached.
    """
    with store.read() as connection:
        return _has_withdrawn(connection, account_id)


def consumers_abroad_cents(store: Store, *, year: int) -> Counter[str]:
    """Return the net sales of a year to consumers in other countries of the EU, by currency.

    For the threshold of 10,000 EUR: Directive 2006/112/EC, article 59c.

    Raises:
        StoreUnavailableError: the database can't be reached.
    """
    query = _columns().where(
        Invoice.issued_at >= datetime(year, 1, 1, tzinfo=UTC),
        Invoice.issued_at < datetime(year + 1, 1, 1, tzinfo=UTC),
        Invoice.status == InvoiceStatus.PAID,
    )
    with store.read() as connection:
        sold = [_issued(row) for row in connection.execute(query)]
    sums: Counter[str] = Counter()
    for one in sold:
        country = one.buyer.get("country", "")
        if one.is_of_consumer and vat.is_in_eu(country) and country != one.seller["country"]:
            sums[one.currency] += one.net_cents
    return sums


def prune(store: Store, *, now: datetime) -> None:
    """Delete invoices that no law requires any longer; a package still in use keeps its own.

    An account whose last paid invoice is deleted counts as one that never paid.

    Raises:
        StoreUnavailableError: nothing changed.
    """
    old = (
        Invoice.issued_at < invoices_kept_since(now),
        or_(Invoice.ends_at.is_(None), Invoice.ends_at <= now),
    )
    with store.read() as connection:
        found = connection.execute(select(Invoice.id, Invoice.account_id).where(*old)).all()
    for invoice_id, account_id in found:
        with store.write() as connection:
            if account_id is not None:
                account = select(Account.id).where(Account.id == account_id)
                connection.execute(account.with_for_update(key_share=True))
            # As the lock found it: it may have been paid a moment ago.
            own = Invoice.id == invoice_id
            if not connection.execute(delete(Invoice).where(own, *old)).rowcount:
                continue
            connection.execute(delete(PackageMonth).where(PackageMonth.invoice_id == invoice_id))
            if account_id is not None:
                forget_unpaid(connection, account_id)


def forget_unpaid(connection: Connection, account_id: int) -> None:
    """Mark an account without a paid invoice as one that never paid."""
    paid = select(Invoice.id).where(
        Invoice.account_id == account_id, Invoice.status == InvoiceStatus.PAID
    )
    if connection.execute(paid.limit(1)).first() is None:
        connection.execute(
            update(Account).where(Account.id == account_id).values(has_invoice=False)
        )


def lock_account(connection: Connection, account_id: int) -> None:
    """Hold every other write on the account until this transaction ends.

    Raises:
        NotFoundError: the account was deleted.
    """
    account = select(Account.id).where(Account.id == account_id)
    if connection.execute(account.with_for_update(key_share=True)).first() is None:
        raise NotFoundError("This account was deleted.")


def _issue(
    store: Store,
    connection: Connection,
    *,
    series: str,
    account_id: int,
    kind: PlanKind,
    net_cents: int,
    tax: vat.Vat,
    seller: dict[str, str],
    buyer: dict[str, str],
    terms: dict[str, str],
    local_vat: str,
    currency: str,
    now: datetime,
) -> int:
    return connection.execute(
        insert(Invoice)
        .values(
            account_id=account_id,
            number=next_number(store, connection, series),
            kind=kind.value,
            status=InvoiceStatus.ISSUED,
            currency=currency,
            net_cents=net_cents,
            vat_rate_bps=tax.rate_bps,
            vat_cents=tax.amount_cents,
            vat_note=tax.note,
            seller=seller,
            buyer=buyer,
            terms=terms,
            local_vat=local_vat,
            issued_at=now,
        )
        .returning(Invoice.id)
    ).scalar_one()


def next_number(store: Store, connection: Connection, series: str) -> str:
    """Return the series' next number; the paper's own transaction gives it back if it fails.

    The series stays locked until then, so that no later number is out before this one is.
    """
    store.lock(connection, f"series {series}")
    number = connection.execute(
        update(InvoiceSeries)
        .where(InvoiceSeries.series == series)
        .values(last_number=InvoiceSeries.last_number + 1)
        .returning(InvoiceSeries.last_number)
    ).scalar()
    if number is None:
        number = 1
        connection.execute(insert(InvoiceSeries).values(series=series, last_number=number))
    return f"{series}-{number:06d}"


def _open_package(
    connection: Connection, row: Row[*tuple[Any, ...]], *, paid_by: str, now: datetime
) -> None:
    covered_until = None  # an invoice that outlived its account continues no other's package
    if row.account_id is not None:
        covered_until = connection.execute(
            select(func.max(Invoice.ends_at)).where(
                Invoice.account_id == row.account_id, Invoice.status == InvoiceStatus.PAID
            )
        ).scalar()
    start = now
    waits = row.terms.get("starts_now") == "no"
    if row.account_id is not None and row.terms.get("is_business") != "yes":
        waits = waits or _has_withdrawn(connection, row.account_id)
    if waits:
        start = max(now, withdrawal_ends_at(row.issued_at))
    kind = PlanKind(row.kind)
    starts_at, ends_at = plans.package_period(kind, paid_at=start, covered_until=covered_until)
    connection.execute(
        update(Invoice)
        .where(Invoice.id == row.id)
        .values(
            status=InvoiceStatus.PAID,
            paid_at=now,
            paid_by=paid_by,
            starts_at=starts_at,
            ends_at=ends_at,
        )
    )
    connection.execute(update(Account).where(Account.id == row.account_id).values(has_invoice=True))


def _has_withdrawn(connection: Connection, account_id: int) -> bool:
    found = (
        select(CreditNote.id)
        .join(Invoice, Invoice.id == CreditNote.invoice_id)
        .where(Invoice.account_id == account_id, CreditNote.reason == WITHDRAWN)
    )
    return connection.execute(found.limit(1)).first() is not None


def _columns() -> Select[*tuple[Any, ...]]:
    return select(
        Invoice.id,
        Invoice.account_id,
        Invoice.number,
        Invoice.kind,
        Invoice.status,
        Invoice.currency,
        Invoice.net_cents,
        Invoice.vat_rate_bps,
        Invoice.vat_cents,
        Invoice.vat_note,
        Invoice.seller,
        Invoice.buyer,
        Invoice.issued_at,
        Invoice.paid_at,
        Invoice.paid_by,
        Invoice.starts_at,
        Invoice.ends_at,
        Invoice.cancelled_at,
        Invoice.terms,
        Invoice.local_vat,
    )


def _issued(row: Row[*tuple[Any, ...]]) -> IssuedInvoice:
    values = dict(row._mapping)
    kind = PlanKind(values.pop("kind"))
    return IssuedInvoice(invoice_id=values.pop("id"), kind=kind, **values)
