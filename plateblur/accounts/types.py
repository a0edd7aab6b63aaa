"""The interface between the accounts and the web part, which imports nothing else of accounts.

A request goes: `authenticate` -> `active_plan` -> (the body is read and checked) -> `admit` ->
the photo is blurred -> `Reservation.settle` -> the response is sent. Leaving the `admit` block
without `settle` gives the request back.

The error tree, with the codes of the documented contract ("cd"):

    AccessError
    |-- UnknownCredentialsError   1015  unknown user, or wrong password or key
    |-- AccountClosedError        1016  not activated yet, closed or locked
    |-- PlanError                       no plan that allows requests
    |   |-- TrialExpiredError     1003
    |   |-- PackageExpiredError   1005
    |   |-- NoInvoiceError        1006
    |   |-- TrialMissingError     1007  the store says that a trial exists, the look-up gave no row
    |   |-- TrialUnreadableError  1008
    |   |-- TrialStoreError       1009  store not reached while looking for the trial
    |   |-- InvoiceMissingError   1010
    |   |-- InvoiceUnreadableError 1011
    |   `-- InvoiceStoreError     1012  store not reached while looking for the invoice
    `-- QuotaError                      the plan's allowance is used up for now
        |-- DailyQuotaError       1002
        `-- PaidQuotaError        1004

    BusyError                         no capacity for costly work, such as checking a password
    RepeatError                       a request with an idempotency key that can't be taken
    |-- OtherRequestError             the key was sent with another request
    |-- InProgressError               the first request with the key isn't finished
    `-- TooManyRepeatsError

The console's errors have a tree of their own; their messages may be shown to the user:

    RequestRefusedError
    |-- FieldError                the value of a named field is not valid
    |-- LinkError                 the mailed link is invalid, used or expired
    |-- TrialRefusedError         no (second) trial for this person
    |-- SignUpLimitError          too many sign-ups from this network block
    |-- EmailLimitError           too many e-mails were requested
    |-- OrderError                the order or its payment is not accepted
    `-- NotFoundError             not in this account
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import ClassVar, Protocol

from plateblur.errors import PlateblurError

# What the plans allow. Source: the product page's packages (contract, section 3).
TRIAL_PERIOD = timedelta(days=7)
TRIAL_REQUESTS_PER_DAY = 50
PAID_REQUESTS_PER_WINDOW = 50
PAID_WINDOW = timedelta(seconds=60)
PREDICTIONS_PER_MONTH = 10_000


class PlanKind(StrEnum):
    """The packages of the product page."""

    TRIAL = "trial"
    MONTHLY = "monthly"
    YEARLY = "yearly"


# Source: the product page's packages (contract, section 3); the yearly one is 15 % off.
PRICE_CENTS = {PlanKind.MONTHLY: 80_00, PlanKind.YEARLY: 816_00}
CURRENCY = "USD"
"""Of the prices, unless the seller has set another."""


HEALTH_SLOT = timedelta(minutes=5)
SLOTS_PER_DAY = timedelta(days=1) // HEALTH_SLOT


class SlotState(StrEnum):
    """How a part of the service did in five minutes: one letter of a `PartDay`."""

    UNKNOWN = "-"
    WORKED = "+"
    FAILED = "!"


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """One check of all parts.

    Attributes:
        at: UTC.
        parts: of each part whether it works.
    """

    at: datetime
    parts: Mapping[str, bool]


@dataclass(frozen=True, slots=True)
class PartDay:
    """One UTC day of one part of the service.

    Attributes:
        day: UTC.
        part: as in `HealthCheck`.
        slots: a `SlotState` for each of `SLOTS_PER_DAY` slots.
    """

    day: date
    part: str
    slots: str


class HealthLog(Protocol):
    """Keeps checks of all workers, for the status page."""

    def note(self, checks: Iterable[HealthCheck]) -> None:
        """Keep checks.

        Raises:
            PlateblurError: none was kept.
        """

    def days(self, *, since: date) -> list[PartDay]:
        """Return the days of each part, oldest first.

        Raises:
            PlateblurError: they can't be read.
        """


class Role(StrEnum):
    """What an account may do in the console."""

    CUSTOMER = "customer"
    OPERATOR = "operator"


class AccountStatus(StrEnum):
    """Whether an account may be used: only an active one may."""

    PENDING = "pending"
    ACTIVE = "active"
    LOCKED = "locked"


class InvoiceStatus(StrEnum):
    """How far an invoice is."""

    ISSUED = "issued"
    PAID = "paid"
    CANCELLED = "cancelled"


class TicketStatus(StrEnum):
    """Whether a ticket waits for an answer."""

    OPEN = "open"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Identity:
    """An account that proved who it is.

    Attributes:
        account_id: the store's id; the only thing of an account that may be logged.
        email: as signed up.
        api_key_id: the key that was shown, or None where the password was.
        credentials_version: the account's when it was proved; what is done in its name later is
            refused where the account has another one by then.
    """

    account_id: int
    email: str
    api_key_id: int | None = None
    credentials_version: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class PlanPeriod:
    """A trial or a paid package, over or not.

    Attributes:
        kind: which package.
        starts_at: UTC.
        ends_at: UTC, exclusive.
        plan_id: the store's row of it (trial or invoice).
    """

    kind: PlanKind
    starts_at: datetime
    ends_at: datetime
    plan_id: int

    def __post_init__(self) -> None:
        """Refuse a period that ends before it starts.

        Raises:
            ValueError: `ends_at` is not after `starts_at`.
        """
        if self.ends_at <= self.starts_at:
            raise ValueError(f"a plan must end after {self.starts_at}, got {self.ends_at}")

    def holds(self, now: datetime) -> bool:
        """Return whether `now` lies in the period."""
        return self.starts_at <= now < self.ends_at


@dataclass(frozen=True, slots=True)
class Usage:
    """What a plan has used and has left; a None limit does not apply to the plan.

    Attributes:
        window_requests: requests counted in the plan's window (UTC day, or the last 60 s).
        window_limit: the most that the window allows.
        window_resets_at: UTC moment at which at least one more request is allowed.
        predictions: predictions counted in the running month of a paid package; else 0.
        predictions_limit: the most that a month allows, or None on the trial.
        month_resets_at: UTC moment at which the month's predictions start again, or None.
    """

    window_requests: int
    window_limit: int
    window_resets_at: datetime
    predictions: int
    predictions_limit: int | None
    month_resets_at: datetime | None


@dataclass(frozen=True, slots=True)
class Once:
    """What makes a request count once, however often it is sent.

    Attributes:
        key: the client's name for the request.
        fingerprint: of all that decides its answer; a repeat has the same one.
    """

    key: str
    fingerprint: bytes


class Reservation(Protocol):
    """One request that was counted before its work."""

    @property
    def is_repeat(self) -> bool:
        """Whether the request was counted when it was first sent, so that it isn't again."""
        ...

    def settle(self, *, predictions: int) -> None:
        """Keep the request counted, and add its predictions to the month, in one transaction.

        To be called once, after the blur and right before the answer is sent.

        Raises:
            PaidQuotaError: the month has fewer than `predictions` left; nothing was counted.
        """
        ...

    def unsettle(self) -> None:
        """Let leaving the block give the request back after all: its answer was not sent."""
        ...


class Gate(Protocol):
    """Lets requests in. Thread-safe; several processes may share one store."""

    def authenticate(self, username: str, secret: str, *, address: str) -> Identity:
        """Return who this is; `username` is an e-mail or user name, `secret` a password or key.

        Args:
            username: as sent.
            secret: as sent.
            address: the peer's IP address; failures are slowed per account and per address.

        Raises:
            UnknownCredentialsError: in the same time for an unknown user and a wrong password.
            AccountClosedError: right credentials of an account that may not be used.
            BusyError: too many passwords are being checked.
        """
        ...

    def authenticate_key(self, key: str, *, address: str) -> Identity:
        """Return whose API key this is (for `Authorization: Bearer`); raises as above."""
        ...

    def active_plan(self, identity: Identity) -> PlanPeriod:
        """Return the plan that this account's requests count on, or raise a `PlanError`."""
        ...

    def admit(
        self, identity: Identity, plan: PlanPeriod, *, once: Once | None = None
    ) -> AbstractContextManager[Reservation]:
        """Count one request on entering; give it back unless it was settled on leaving.

        Args:
            identity: whose request.
            plan: on which it counts.
            once: counts it once for all requests with the same key, within 24 hours.

        Raises:
            QuotaError: on entering; nothing was counted.
            RepeatError: on entering; nothing was counted.
        """
        ...

    def admit_guest(self, *, address: str) -> AbstractContextManager[Reservation]:
        """Count one photo of a visitor without an account; it counts even if it fails.

        Args:
            address: the visitor's IP address, or "".

        Raises:
            DailyQuotaError: on entering, the address or all visitors had their photos of the day.
        """
        ...

    def usage(self, identity: Identity, plan: PlanPeriod) -> Usage:
        """Return what is used and left, as of now."""
        ...

    def is_ready(self) -> bool:
        """Return whether the store answers; for readiness probes."""
        ...


class AccessError(PlateblurError):
    """Base; `cd` is the code of the documented contract.

    Attributes:
        cd: four digits.
        retry_after_s: seconds after which the same request may pass, where that is known.
    """

    cd: ClassVar[str]

    def __init__(self, message: str = "", *, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class BusyError(PlateblurError):
    """Too many requests for costly work, such as checking a password; nothing was done.

    Attributes:
        retry_after_s: seconds after which there is likely to be capacity.
    """

    def __init__(self, *, retry_after_s: int) -> None:
        super().__init__("The service is busy. Please try again shortly.")
        self.retry_after_s = retry_after_s


class RepeatError(PlateblurError):
    """A request with an idempotency key that can't be taken; nothing was counted."""


class OtherRequestError(RepeatError):
    """The key was sent with another request."""


class InProgressError(RepeatError):
    """The first request with the key isn't finished."""


class TooManyRepeatsError(RepeatError):
    """The request was repeated too often."""


class UnknownCredentialsError(AccessError):
    """Unknown user, or wrong password or key."""

    cd = "1015"


class AccountClosedError(AccessError):
    """The account is not activated yet, or is closed or locked."""

    cd = "1016"


class PlanError(AccessError):
    """No plan that allows requests."""


class TrialExpiredError(PlanError):
    """The trial is over, and no package is paid."""

    cd = "1003"


class PackageExpiredError(PlanError):
    """A package was paid, its period is over."""

    cd = "1005"


class NoInvoiceError(PlanError):
    """Neither a trial nor a paid invoice."""

    cd = "1006"


class TrialMissingError(PlanError):
    """The store says that a trial exists; the look-up gave no row."""

    cd = "1007"


class TrialUnreadableError(PlanError):
    """The trial's row has missing or impossible values."""

    cd = "1008"


class TrialStoreError(PlanError):
    """The store can't be reached while looking for the trial."""

    cd = "1009"


class InvoiceMissingError(PlanError):
    """The store says that an invoice exists; the look-up gave no row."""

    cd = "1010"


class InvoiceUnreadableError(PlanError):
    """The invoice's row has missing or impossible values."""

    cd = "1011"


class InvoiceStoreError(PlanError):
    """The store can't be reached while looking for the invoice."""

    cd = "1012"


class QuotaError(AccessError):
    """The plan's allowance is used up for now."""


class DailyQuotaError(QuotaError):
    """More than the trial's requests this UTC day."""

    cd = "1002"


class PaidQuotaError(QuotaError):
    """Too many requests in the last 60 s, or the month's predictions are used up."""

    cd = "1004"


class RequestRefusedError(PlateblurError):
    """A request on the console is refused; the message may be shown to the user."""


class FieldError(RequestRefusedError):
    """The value of a field is not valid.

    Attributes:
        field: the argument's name.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class LinkError(RequestRefusedError):
    """The mailed link is invalid, used or expired."""


class TrialRefusedError(RequestRefusedError):
    """No trial for this account: it or its owner already had one."""


class SignUpLimitError(RequestRefusedError):
    """Too many sign-ups from this network block today."""


class EmailLimitError(RequestRefusedError):
    """Too many e-mails were requested.

    Attributes:
        retry_after_s: seconds until another can be requested.
    """

    def __init__(self, *, retry_after_s: int) -> None:
        super().__init__(f"Too many e-mails were requested. Try again in {retry_after_s} s.")
        self.retry_after_s = retry_after_s


class OrderError(RequestRefusedError):
    """The order or its payment is not accepted."""


class NotFoundError(RequestRefusedError):
    """Not in this account."""
