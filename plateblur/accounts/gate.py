"""The `Gate` over the store: authentication, plans, and counting a request around its work."""

from __future__ import annotations

import contextlib
import hmac
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import BigInteger, Connection, Text, bindparam, select, update

from plateblur.accounts import guests, plans, quota, throttle
from plateblur.accounts.credentials import (
    Hasher,
    Verdict,
    VerifiedCache,
    api_key_prefix,
    fast_hash,
)
from plateblur.accounts.fields import login_key
from plateblur.accounts.guests import GuestLimits, GuestReservation
from plateblur.accounts.minute import MinuteWindow
from plateblur.accounts.models import Account, ApiKey, Invoice, PendingSignUp, Trial, Utc
from plateblur.accounts.quota import Clock, Reserved, utc_now
from plateblur.accounts.store import Store, StoreUnavailableError
from plateblur.accounts.types import (
    AccountClosedError,
    AccountStatus,
    BusyError,
    Identity,
    InvoiceMissingError,
    InvoiceStatus,
    InvoiceStoreError,
    InvoiceUnreadableError,
    Once,
    PlanError,
    PlanKind,
    PlanPeriod,
    TrialMissingError,
    TrialStoreError,
    TrialUnreadableError,
    UnknownCredentialsError,
    Usage,
)

LEASE = timedelta(minutes=2)  # Source: ours; far above the longest a photo may wait and take.
TOUCH_KEY_EVERY = timedelta(minutes=1)  # "last used" is for people; a write per request is not.

_log = logging.getLogger(__name__)

# The statements of every request, built once; see `quota`.
_OF_ACCOUNT = bindparam("of_account", type_=BigInteger())
_OF_LOGIN = bindparam("of_login", type_=Text())
_BY_LOGIN = select(
    Account.id,
    Account.email,
    Account.status,
    Account.password_hash,
    Account.credentials_version,
)
_BY_EMAIL = _BY_LOGIN.where(Account.email_key == _OF_LOGIN)
_BY_USERNAME = _BY_LOGIN.where(Account.username_key == _OF_LOGIN)
_SIGN_UP = (
    select(PendingSignUp.password_hash)
    .where(PendingSignUp.expires_at > bindparam("now", type_=Utc()))
    .order_by(PendingSignUp.signed_up_at.desc())
    .limit(1)
)
_SIGN_UP_BY_EMAIL = _SIGN_UP.where(PendingSignUp.email_key == _OF_LOGIN)
_SIGN_UP_BY_USERNAME = _SIGN_UP.where(PendingSignUp.username_key == _OF_LOGIN)
_BY_KEY = (
    select(
        Account.id,
        Account.email,
        Account.email_key,
        Account.username_key,
        Account.status,
        Account.credentials_version,
        ApiKey.id.label("key_id"),
        ApiKey.key_hash,
        ApiKey.last_used_at,
    )
    .join(ApiKey, ApiKey.account_id == Account.id)
    .where(ApiKey.prefix == bindparam("of_prefix", type_=Text()), ApiKey.revoked_at.is_(None))
)
_MARKERS = select(Account.has_trial, Account.has_invoice).where(Account.id == _OF_ACCOUNT)
_TRIAL = select(Trial.id, Trial.starts_at, Trial.ends_at).where(Trial.account_id == _OF_ACCOUNT)
_PACKAGES = select(Invoice.id, Invoice.kind, Invoice.starts_at, Invoice.ends_at).where(
    Invoice.account_id == _OF_ACCOUNT, Invoice.status == InvoiceStatus.PAID
)
_PACKAGE_IDS = select(Invoice.id).where(
    Invoice.account_id == _OF_ACCOUNT, Invoice.status == InvoiceStatus.PAID
)


_OLD_HASH = "$argon2"  # of keys made before they were looked up by their SHA-256


@dataclass(frozen=True, slots=True, repr=False)
class _Account:
    """The account that a login names."""

    account_id: int
    email: str
    status: str
    password_hash: str
    credentials_version: int

    @property
    def subject(self) -> str:
        """Return what a remembered password belongs to."""
        return f"{self.account_id}:{self.credentials_version}"


class StoreGate:
    """`Gate` for threads and processes that share one store.

    Authenticating takes one look-up. Anything in the form of an API key is only treated as one.
    argon2 runs only for passwords that `VerifiedCache` does not know: an unknown user and a wrong
    password each cost exactly one verification, plus one if a sign-up with that name is pending.
    """

    def __init__(
        self,
        store: Store,
        *,
        hasher: Hasher | None = None,
        verified: VerifiedCache | None = None,
        minute: MinuteWindow | None = None,
        guest_limits: GuestLimits | None = None,
        lease: timedelta = LEASE,
        clock: Clock = utc_now,
    ) -> None:
        """Join the parts.

        Args:
            store: open and migrated.
            hasher: argon2.
            verified: remembers verified passwords.
            minute: refuses floods before the store is asked; None if only the store counts.
            guest_limits: how many photos visitors without an account may try.
            lease: after this time, the request of a worker that died is given back.
            clock: aware, UTC.
        """
        self._store = store
        self._hasher = hasher or Hasher()
        self._verified = verified or VerifiedCache()
        self._minute = minute
        self._guest_limits = guest_limits or GuestLimits()
        self._lease = lease
        self._clock = clock

    def authenticate(self, username: str, secret: str, *, address: str) -> Identity:
        """Return who this is; see `Gate`.

        Raises:
            UnknownCredentialsError: unknown user, wrong secret, or too many failures before.
            AccountClosedError: right credentials, but the account is not active.
            BusyError: too many passwords are being checked; this one was not.
            TrialStoreError: the store can't be reached.
        """
        login, prefix = login_key(username), api_key_prefix(secret)
        with _raising(TrialStoreError):
            if prefix is not None:
                return self._of_key(secret, prefix, login, address)
            return self._of_password(login, secret, address)

    def authenticate_key(self, key: str, *, address: str) -> Identity:
        """Return whose API key this is; raises as `authenticate`."""
        prefix = api_key_prefix(key)
        if prefix is None:
            raise _unknown()
        with _raising(TrialStoreError):
            return self._of_key(key, prefix, None, address)

    def active_plan(self, identity: Identity) -> PlanPeriod:
        """Return the plan on which this account's requests count.

        A damaged trial does not matter while a package is active.

        Raises:
            PlanError: there is none; the class says why.
            AccountClosedError: the account was deleted.
        """
        trial: PlanPeriod | None = None
        packages: list[PlanPeriod] = []
        damage: PlanError | None = None
        now = self._clock()
        with _raising(TrialStoreError), self._store.read() as connection:
            markers = connection.execute(_MARKERS, {"of_account": identity.account_id}).first()
            if markers is None:
                raise AccountClosedError("This account was deleted.")
            if markers.has_trial:
                try:
                    trial = _read_trial(connection, identity.account_id)
                except (TrialMissingError, TrialUnreadableError) as error:
                    damage = error
        if markers.has_invoice:
            with _raising(InvoiceStoreError), self._store.read() as connection:
                packages, unreadable = _read_packages(connection, identity.account_id)
            if not any(package.holds(now) for package in packages):
                damage = damage or unreadable
        if damage is not None and not any(package.holds(now) for package in packages):
            raise damage
        return plans.choose_plan(trial, packages, now=now)

    @contextlib.contextmanager
    def admit(
        self, identity: Identity, plan: PlanPeriod, *, once: Once | None = None
    ) -> Iterator[_StoreReservation]:
        """Count one request on entering; give it back unless it was settled on leaving.

        Raises:
            QuotaError: on entering; nothing was counted.
            RepeatError: on entering; its key was sent before, and it can't be repeated.
            PlanError: the store can't be reached.
            AccountClosedError: the account was deleted.
        """
        with contextlib.ExitStack() as undo:
            # Redis must not count a repeat, which it can't recognise.
            minute = None if plan.kind is PlanKind.TRIAL or once is not None else self._minute
            if minute is not None and minute.enter(identity.account_id):
                undo.callback(minute.leave, identity.account_id)
            with _raising(_fault_of(plan)):
                reserved = quota.reserve(
                    self._store,
                    identity.account_id,
                    plan,
                    lease=self._lease,
                    once=self._hashes(identity, once),
                    clock=self._clock,
                )
            if reserved.is_repeat:
                yield _StoreReservation(self._store, reserved, self._clock)
                return
            undo.callback(self._give_back, reserved)
            reservation = _StoreReservation(self._store, reserved, self._clock)
            try:
                yield reservation
            finally:
                if reservation.is_settled:
                    undo.pop_all()

    @contextlib.contextmanager
    def admit_guest(self, *, address: str) -> Iterator[GuestReservation]:
        """Count one photo of a visitor without an account; see `Gate`.

        Raises:
            DailyQuotaError: on entering; nothing was counted.
            TrialStoreError: the store can't be reached.
        """
        with _raising(TrialStoreError):
            reservation = guests.admit(self._store, address, self._guest_limits, now=self._clock())
        yield reservation

    def usage(self, identity: Identity, plan: PlanPeriod) -> Usage:
        """Return the current usage.

        Raises:
            PlanError: the store can't be reached.
        """
        with _raising(_fault_of(plan)):
            return quota.usage(self._store, identity.account_id, plan, now=self._clock())

    def is_ready(self) -> bool:
        """Return whether the store answers."""
        return self._store.is_ready()

    def _hashes(self, identity: Identity, once: Once | None) -> quota.OnceHashes | None:
        """Return what the store keeps of a key: nothing that tells the key or the photo."""
        if once is None:
            return None
        keyed_hash = self._store.keyed_hash
        return quota.OnceHashes(
            keyed_hash("idempotency key", f"{identity.account_id} {once.key}"),
            keyed_hash("idempotent request", once.fingerprint.hex()),
        )

    def _give_back(self, reserved: Reserved) -> None:
        try:
            quota.give_back(self._store, reserved)
        except StoreUnavailableError:
            _log.warning("request %d is left to its lease", reserved.request_id)

    def _of_password(self, login: str, password: str, address: str) -> Identity:
        now = self._clock()
        with self._store.read() as connection:
            found = _find_account(connection, login)
        if found is None or not self._verified.knows(found.subject, password, now=now):
            found = self._verify(found, login, password, address, now)
        if found.status != AccountStatus.ACTIVE:
            raise AccountClosedError(f"The account is {found.status}.")
        return Identity(
            found.account_id, found.email, credentials_version=found.credentials_version
        )

    def _of_key(self, key: str, prefix: str, login: str | None, address: str) -> Identity:
        """Look the key up: 256 random bits are neither slowed nor hashed slowly."""
        now = self._clock()
        with self._store.read() as connection:
            row = connection.execute(_BY_KEY, {"of_prefix": prefix}).first()
        if row is None or not (
            login is None or (login and login in (row.email_key, row.username_key))
        ):
            raise _unknown()
        if row.key_hash.startswith(_OLD_HASH):
            self._renew_key(row.key_id, row.key_hash, key, address, now)
        elif not hmac.compare_digest(row.key_hash, fast_hash(key)):
            raise _unknown()
        if row.status != AccountStatus.ACTIVE:
            raise AccountClosedError(f"The account is {row.status}.")
        self._touch(row.key_id, row.last_used_at, now)
        return Identity(row.id, row.email, row.key_id, row.credentials_version)

    def _renew_key(
        self, api_key_id: int, old_hash: str, key: str, address: str, now: datetime
    ) -> None:
        """Verify a key that was made when keys were hashed slowly, once, and keep its fast hash."""
        who = f"key {api_key_id}"
        self._check_wait(who, address, now)
        with self._hasher.turn():
            self._check_wait(who, address, now)
            if not self._hasher.verify(old_hash, key):
                throttle.note_failure(self._store, login=who, address=address, now=now)
                raise _unknown()
        with self._store.write() as connection:
            connection.execute(
                update(ApiKey).where(ApiKey.id == api_key_id).values(key_hash=fast_hash(key))
            )

    def _verify(
        self, found: _Account | None, login: str, password: str, address: str, now: datetime
    ) -> _Account:
        """Return the account of a password; run argon2 once, remember right ones, count wrong ones.

        A pending sign-up with this login is checked too, in the same way whether or not the login
        has an account. Otherwise the response, or its timing, would reveal whether there is one.

        Raises:
            UnknownCredentialsError: wrong, or this peer must wait before the next attempt.
            AccountClosedError: it is the password of the newest pending sign-up.
            BusyError: nothing was checked.
        """
        who = f"account {found.account_id}" if found else f"name {login}"
        self._check_wait(who, address, now)
        with self._store.read() as connection:
            signed_up_hash = _find_sign_up(connection, login, now)
        with self._hasher.turn():
            if found and self._verified.knows(found.subject, password, now=now):
                return found  # another thread has just verified it
            self._check_wait(who, address, now)
            verdict = self._hasher.judge(found.password_hash if found else None, password)
            if found is None or verdict is Verdict.WRONG:
                waits = signed_up_hash and self._hasher.verify(signed_up_hash, password)
                throttle.note_failure(self._store, login=who, address=address, now=now)
                raise AccountClosedError("Not activated yet.") if waits else _unknown()
            self._verified.remember(found.subject, password, now=now)
        throttle.note_success(self._store, login=who, address=address)
        if verdict is Verdict.RIGHT_AS_TYPED or self._hasher.is_outdated(found.password_hash):
            self._renew_password(found, password)
        return found

    def _renew_password(self, found: _Account, password: str) -> None:
        with contextlib.suppress(BusyError):  # the next log-in tries again
            password_hash = self._hasher.hash(password)
            with self._store.write() as connection:
                connection.execute(
                    update(Account)
                    .where(
                        Account.id == found.account_id,
                        Account.password_hash == found.password_hash,
                    )
                    .values(password_hash=password_hash)
                )

    def _check_wait(self, who: str, address: str, now: datetime) -> None:
        wait_s = throttle.wait_s(self._store, login=who, address=address, now=now)
        if wait_s:
            raise UnknownCredentialsError(
                f"Too many failures from this address; wait {wait_s} seconds.",
                retry_after_s=wait_s,
            )

    def _touch(self, api_key_id: int, used_at: datetime | None, now: datetime) -> None:
        if used_at is not None and now - used_at < TOUCH_KEY_EVERY:
            return
        with self._store.write(durable=False) as connection:
            connection.execute(
                update(ApiKey).where(ApiKey.id == api_key_id).values(last_used_at=now)
            )


class _StoreReservation:
    """`Reservation` of one row."""

    def __init__(self, store: Store, reserved: Reserved, clock: Clock) -> None:
        self._store = store
        self._reserved = reserved
        self._clock = clock
        self.is_settled = False

    @property
    def is_repeat(self) -> bool:
        """Whether the request was counted when it was first sent."""
        return self._reserved.is_repeat

    def settle(self, *, predictions: int) -> None:
        """Keep the request counted, and add its predictions to the month.

        Raises:
            QuotaError: nothing was counted.
            PlanError: the store can't be reached; leaving the block gives the request back.
            ValueError: `predictions` is negative, or it was settled before.
        """
        if self.is_repeat:
            return
        if self.is_settled:
            raise ValueError("a reservation is settled once")
        with _raising(_fault_of(self._reserved.plan)):
            quota.settle(self._store, self._reserved, predictions=predictions, clock=self._clock)
        self.is_settled = True

    def unsettle(self) -> None:
        """Let leaving the block give the request back after all: its answer was not sent."""
        self.is_settled = False


def _unknown() -> UnknownCredentialsError:
    return UnknownCredentialsError("Unknown user, or wrong password or key.")


def _find_account(connection: Connection, login: str) -> _Account | None:
    if not login:
        return None
    by_login = _BY_EMAIL if "@" in login else _BY_USERNAME
    row = connection.execute(by_login, {"of_login": login}).first()
    return _Account(*row) if row is not None else None


def _find_sign_up(connection: Connection, login: str, now: datetime) -> str | None:
    """Return the password's hash of the newest sign-up that waits."""
    by_login = _SIGN_UP_BY_EMAIL if "@" in login else _SIGN_UP_BY_USERNAME
    return connection.execute(by_login, {"of_login": login, "now": now}).scalar()


def _fault_of(plan: PlanPeriod) -> Callable[[str], PlanError]:
    return TrialStoreError if plan.kind is PlanKind.TRIAL else InvoiceStoreError


@contextlib.contextmanager
def _raising(fault: Callable[[str], PlanError]) -> Iterator[None]:
    try:
        yield
    except StoreUnavailableError as error:
        raise fault("The accounts' database does not answer; try again in a moment.") from error


def _read_trial(connection: Connection, account_id: int) -> PlanPeriod:
    try:
        row = connection.execute(_TRIAL, {"of_account": account_id}).first()
        if row is None:
            raise TrialMissingError("The account's trial is not in the store.")
        return PlanPeriod(PlanKind.TRIAL, row.starts_at, row.ends_at, row.id)
    except (TypeError, ValueError) as error:
        raise TrialUnreadableError("The trial's start and end can't be read.") from error


def _read_packages(
    connection: Connection, account_id: int
) -> tuple[list[PlanPeriod], PlanError | None]:
    """Return the readable paid packages, and what to say of the others."""
    paid = {"of_account": account_id}
    packages: list[PlanPeriod] = []
    damage: PlanError | None = None
    try:
        rows = list(connection.execute(_PACKAGES, paid).all())
    except (TypeError, ValueError) as error:  # some row's moment is none: read the others alone
        rows = []
        damage = _unreadable_invoice(error)
        for invoice_id in connection.execute(_PACKAGE_IDS, paid).scalars().all():
            with contextlib.suppress(TypeError, ValueError):
                one = _PACKAGES.where(Invoice.id == invoice_id)
                rows.append(connection.execute(one, paid).one())
    if not rows and damage is None:
        damage = InvoiceMissingError("The account's paid invoice is not in the store.")
    for row in rows:
        try:
            kind = PlanKind(row.kind)
            if kind is PlanKind.TRIAL:
                raise ValueError("an invoice must be of a package")
            packages.append(PlanPeriod(kind, row.starts_at, row.ends_at, row.id))
        except (TypeError, ValueError) as error:
            damage = _unreadable_invoice(error)
    return packages, damage


def _unreadable_invoice(cause: Exception) -> InvoiceUnreadableError:
    damage = InvoiceUnreadableError("A paid invoice's package can't be read.")
    damage.__cause__ = cause
    return damage
