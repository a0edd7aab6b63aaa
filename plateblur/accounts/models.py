"""The store's tables. A test compares them with migrations/.

There are no CHECK constraints on what `plans` reads, because damaged rows must be reported as such
(1008, 1011).
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Any, ClassVar

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Date,
    DateTime,
    Dialect,
    Enum,
    ForeignKey,
    Index,
    Integer,
    String,
    Text,
    TypeDecorator,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from plateblur.accounts.job_types import ItemState, JobState, WebhookState
from plateblur.accounts.types import AccountStatus, InvoiceStatus, Role, TicketStatus


class Utc(TypeDecorator[datetime]):
    """An aware moment in UTC.

    SQLite has no such type and stores text without a zone, which sorts correctly.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the moment as the database stores it.

        Raises:
            ValueError: the moment has no zone.
        """
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"a moment must be aware, got {value!r}")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the moment as the code uses it."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


# SQLite numbers rows automatically only in a column of type INTEGER.
Id = BigInteger().with_variant(Integer(), "sqlite")


def _choice(of: type[StrEnum]) -> Enum:
    """Return the type of a column that holds the text of a member of `of`."""
    return Enum(
        of,
        native_enum=False,
        length=16,
        values_callable=lambda members: [member.value for member in members],
    )


class Base(DeclarativeBase):
    """All tables."""

    type_annotation_map: ClassVar[dict[Any, Any]] = {datetime: Utc, date: Date, str: Text}


class Account(Base):
    """An account. `has_trial` and `has_invoice` say what the other tables must contain."""

    __tablename__ = "accounts"
    # Ids are never reused: a request in flight may still refer to a deleted account.
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    email: Mapped[str]
    email_key: Mapped[str] = mapped_column(Text, unique=True)
    username: Mapped[str | None]
    username_key: Mapped[str | None] = mapped_column(Text, unique=True)
    password_hash: Mapped[str]
    role: Mapped[Role] = mapped_column(_choice(Role))
    status: Mapped[AccountStatus] = mapped_column(_choice(AccountStatus))
    credentials_version: Mapped[int] = mapped_column(Integer)
    has_trial: Mapped[bool] = mapped_column(Boolean)
    has_invoice: Mapped[bool] = mapped_column(Boolean)
    full_name: Mapped[str]
    company: Mapped[str]
    postal_address: Mapped[str]
    country: Mapped[str] = mapped_column(String(2))
    vat_id: Mapped[str]
    created_at: Mapped[datetime]
    activated_at: Mapped[datetime | None]


def _account_id() -> Mapped[int]:
    return mapped_column(Id, ForeignKey("accounts.id", ondelete="CASCADE"), index=True)


class Trial(Base):
    """One trial."""

    __tablename__ = "trials"

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    account_id: Mapped[int] = mapped_column(
        Id, ForeignKey("accounts.id", ondelete="CASCADE"), unique=True
    )
    starts_at: Mapped[datetime]
    ends_at: Mapped[datetime]


class TrialPerson(Base):
    """Keyed hash of a normalised address that had its trial; outlives the account for a period."""

    __tablename__ = "trial_persons"

    person_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    started_at: Mapped[datetime] = mapped_column(index=True)


class PendingSignUp(Base):
    """A sign-up whose link was not opened yet; each has its own password and no account.

    Several can have the same address or user name; none of them owns it.
    """

    __tablename__ = "pending_sign_ups"

    secret_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    email: Mapped[str]
    email_key: Mapped[str] = mapped_column(Text, index=True)
    username: Mapped[str | None]
    username_key: Mapped[str | None] = mapped_column(Text, index=True)
    password_hash: Mapped[str]
    consents: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    signed_up_at: Mapped[datetime]
    expires_at: Mapped[datetime] = mapped_column(index=True)


class ApiKey(Base):
    """A revocable key, found by its prefix and verified by its hash."""

    __tablename__ = "api_keys"

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    account_id: Mapped[int] = _account_id()
    label: Mapped[str]
    prefix: Mapped[str] = mapped_column(String(16), unique=True)
    key_hash: Mapped[str]
    created_at: Mapped[datetime]
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class LoginSession(Base):
    """A browser that logged in to the console."""

    __tablename__ = "sessions"

    id_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    account_id: Mapped[int] = _account_id()
    credentials_version: Mapped[int] = mapped_column(Integer)
    created_at: Mapped[datetime]
    seen_at: Mapped[datetime]


class MailedLink(Base):
    """A single-use secret that was mailed: password reset, new address."""

    __tablename__ = "mailed_links"

    secret_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    account_id: Mapped[int] = _account_id()
    credentials_version: Mapped[int] = mapped_column(Integer)
    purpose: Mapped[str] = mapped_column(String(16))
    detail: Mapped[str]
    expires_at: Mapped[datetime]


class Consent(Base):
    """One line of the consent log; a trigger refuses changes."""

    __tablename__ = "consents"

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    account_id: Mapped[int] = _account_id()
    subject: Mapped[str] = mapped_column(String(64))
    text_version: Mapped[str] = mapped_column(String(32))
    given: Mapped[bool] = mapped_column(Boolean)
    decided_at: Mapped[datetime]


class InvoiceSeries(Base):
    """The last number that each series gave."""

    __tablename__ = "invoice_series"

    series: Mapped[str] = mapped_column(String(16), primary_key=True)
    last_number: Mapped[int] = mapped_column(Integer)


class Invoice(Base):
    """An invoice, and once paid the package that it bought; outlives the account."""

    __tablename__ = "invoices"

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    account_id: Mapped[int | None] = mapped_column(
        Id, ForeignKey("accounts.id", ondelete="SET NULL"), index=True
    )
    number: Mapped[str] = mapped_column(String(32), unique=True)
    kind: Mapped[str] = mapped_column(String(16))
    status: Mapped[InvoiceStatus] = mapped_column(_choice(InvoiceStatus))
    currency: Mapped[str] = mapped_column(String(3))
    net_cents: Mapped[int] = mapped_column(Integer)
    vat_rate_bps: Mapped[int] = mapped_column(Integer)
    vat_cents: Mapped[int] = mapped_column(Integer)
    vat_note: Mapped[str]
    seller: Mapped[dict[str, str]] = mapped_column(JSON)
    buyer: Mapped[dict[str, str]] = mapped_column(JSON)
    issued_at: Mapped[datetime]
    paid_at: Mapped[datetime | None]
    paid_by: Mapped[str | None]
    starts_at: Mapped[datetime | None]
    ends_at: Mapped[datetime | None]
    cancelled_at: Mapped[datetime | None]
    terms: Mapped[dict[str, str]] = mapped_column(JSON, server_default="{}")
    local_vat: Mapped[str] = mapped_column(Text, server_default="")


class CreditNote(Base):
    """What takes an invoice back, whole or in part; outlives the account like the invoice."""

    __tablename__ = "credit_notes"

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    invoice_id: Mapped[int] = mapped_column(
        Id, ForeignKey("invoices.id", ondelete="CASCADE"), unique=True
    )
    number: Mapped[str] = mapped_column(String(32), unique=True)
    reason: Mapped[str]
    net_cents: Mapped[int] = mapped_column(Integer)
    vat_cents: Mapped[int] = mapped_column(Integer)
    issued_at: Mapped[datetime]
    refund_due: Mapped[bool] = mapped_column(Boolean)
    refunded_at: Mapped[datetime | None]


class Withdrawal(Base):
    """A consumer's statement of withdrawal, as it came; goes with the invoices of its year."""

    __tablename__ = "withdrawals"

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    name: Mapped[str]
    contract: Mapped[str]
    email: Mapped[str]
    declared_at: Mapped[datetime] = mapped_column(index=True)
    credit_note: Mapped[str]
    settled_at: Mapped[datetime | None]


class GuestPhoto(Base):
    """A photo that a visitor without an account tried, under the keyed hash of the address."""

    __tablename__ = "guest_photos"

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    block_hash: Mapped[str] = mapped_column(String(64), index=True)
    tried_at: Mapped[datetime] = mapped_column(index=True)


class StrayPayment(Base):
    """A payment that matched no open invoice; the operator has to resolve it."""

    __tablename__ = "stray_payments"

    event_id: Mapped[str] = mapped_column(Text, primary_key=True)
    invoice_number: Mapped[str]
    amount_cents: Mapped[int] = mapped_column(BigInteger)
    currency: Mapped[str]
    why: Mapped[str]
    came_at: Mapped[datetime]
    settled_at: Mapped[datetime | None]


class RequestRow(Base):
    """A counted request: reserved, then settled; deleted when given back.

    With an idempotency key it has two keyed hashes: of the key, and of all that decides the answer.
    """

    __tablename__ = "requests"
    __table_args__ = (
        Index("ix_requests_account_reserved", "account_id", "reserved_at"),
        Index("ix_requests_once", "account_id", "once_key", unique=True),
        # A late settle must never hit another request with the same id.
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    account_id: Mapped[int] = mapped_column(Id, ForeignKey("accounts.id", ondelete="CASCADE"))
    is_trial: Mapped[bool] = mapped_column(Boolean)
    reserved_at: Mapped[datetime]
    lease_until: Mapped[datetime]
    settled_at: Mapped[datetime | None]
    predictions: Mapped[int] = mapped_column(Integer)
    once_key: Mapped[str | None] = mapped_column(String(64))
    once_request: Mapped[str | None] = mapped_column(String(64))
    repeats: Mapped[int] = mapped_column(Integer, server_default="0")


class Job(Base):
    """Photos that are blurred one after the other, later; see `jobs`."""

    __tablename__ = "jobs"
    __table_args__ = (Index("ix_jobs_once", "account_id", "once_key", unique=True),)

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    account_id: Mapped[int] = _account_id()
    state: Mapped[JobState] = mapped_column(_choice(JobState))
    sealed_key: Mapped[bytes]
    options: Mapped[bytes]
    webhook: Mapped[bytes | None]
    webhook_state: Mapped[WebhookState] = mapped_column(_choice(WebhookState))
    webhook_attempts: Mapped[int] = mapped_column(Integer)
    webhook_status: Mapped[int | None] = mapped_column(Integer)
    webhook_at: Mapped[datetime | None]
    once_key: Mapped[str | None] = mapped_column(String(64))
    once_request: Mapped[str | None] = mapped_column(String(64))
    photos: Mapped[int] = mapped_column(Integer)
    bytes_held: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime]
    claimed_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    expires_at: Mapped[datetime] = mapped_column(index=True)


class JobItem(Base):
    """A photo or clip of a job: what came, and later what it became; sealed with the job's key.

    A clip has its `media_type` from the beginning, and a photo when it is done.
    """

    __tablename__ = "job_items"
    __table_args__ = (
        Index("ix_job_items_job", "job_id", "number", unique=True),
        Index("ix_job_items_state", "state"),
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    job_id: Mapped[str] = mapped_column(String(32), ForeignKey("jobs.id", ondelete="CASCADE"))
    number: Mapped[int] = mapped_column(Integer)
    state: Mapped[ItemState] = mapped_column(_choice(ItemState))
    name: Mapped[bytes]
    is_url: Mapped[bool] = mapped_column(Boolean)
    photo: Mapped[bytes | None]
    size: Mapped[int] = mapped_column(BigInteger)
    answer: Mapped[bytes | None]
    media_type: Mapped[str | None]
    predictions: Mapped[int] = mapped_column(Integer)
    token: Mapped[str | None] = mapped_column(String(32))
    lease_until: Mapped[datetime | None]
    attempts: Mapped[int] = mapped_column(Integer)
    cd: Mapped[str | None] = mapped_column(String(4))
    error: Mapped[str | None]


class PackageMonth(Base):
    """Predictions of one month of a paid package."""

    __tablename__ = "package_months"

    account_id: Mapped[int] = mapped_column(
        Id, ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True
    )
    invoice_id: Mapped[int] = mapped_column(Id, primary_key=True)
    starts_at: Mapped[datetime] = mapped_column(primary_key=True)
    predictions: Mapped[int] = mapped_column(Integer)


class UsageDay(Base):
    """What was settled on one UTC day, for the console."""

    __tablename__ = "usage_days"

    account_id: Mapped[int] = mapped_column(
        Id, ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True
    )
    day: Mapped[date] = mapped_column(primary_key=True)
    requests: Mapped[int] = mapped_column(Integer)
    predictions: Mapped[int] = mapped_column(Integer)


class HealthDay(Base):
    """How a part of the service did on one UTC day: a `SlotState` for each slot."""

    __tablename__ = "health_days"

    day: Mapped[date] = mapped_column(primary_key=True)
    part: Mapped[str] = mapped_column(String(32), primary_key=True)
    slots: Mapped[str] = mapped_column(String(288))


class FailedLogin(Base):
    """Failed logins under a keyed hash of account, address or both."""

    __tablename__ = "failed_logins"

    key_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    failures: Mapped[int] = mapped_column(Integer)
    failed_at: Mapped[datetime] = mapped_column(index=True)
    blocked_until: Mapped[datetime | None]


class SignUpRow(Base):
    """A sign-up under the keyed hash of its network block."""

    __tablename__ = "sign_ups"

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    block_hash: Mapped[str] = mapped_column(String(64), index=True)
    signed_up_at: Mapped[datetime] = mapped_column(index=True)


class Ticket(Base):
    """A question to the operator."""

    __tablename__ = "tickets"

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    account_id: Mapped[int] = _account_id()
    subject: Mapped[str]
    status: Mapped[TicketStatus] = mapped_column(_choice(TicketStatus))
    opened_at: Mapped[datetime]


class TicketMessage(Base):
    """One message of a ticket."""

    __tablename__ = "ticket_messages"

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    ticket_id: Mapped[int] = mapped_column(
        Id, ForeignKey("tickets.id", ondelete="CASCADE"), index=True
    )
    by_operator: Mapped[bool] = mapped_column(Boolean)
    text: Mapped[str]
    written_at: Mapped[datetime]
