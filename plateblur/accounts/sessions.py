"""Log-ins to the console: rows that can be revoked, found by a hashed cookie."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, insert, or_, select, update

from plateblur.accounts.credentials import fast_hash, random_secret
from plateblur.accounts.models import Account, LoginSession
from plateblur.accounts.store import Store
from plateblur.accounts.types import Gate, UnknownCredentialsError

# Source: OWASP Session Management Cheat Sheet asks for both; the lengths are ours.
IDLE_FOR = timedelta(hours=12)
AT_MOST = timedelta(days=14)
TOUCH_EVERY = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """Who a cookie speaks for.

    Attributes:
        account_id: the store's id.
        email: as signed up.
        role: "customer" or "operator".
    """

    account_id: int
    email: str
    role: str


def log_in(
    store: Store, gate: Gate, *, username: str, password: str, address: str, now: datetime
) -> str:
    """Return the cookie of a new session; API keys do not open the console.

    Raises:
        UnknownCredentialsError: unknown user or wrong password, or too many failures before.
        AccountClosedError: not activated, closed or locked.
        TrialStoreError: the store can't be reached.
        StoreUnavailableError: the same, a moment later.
    """
    identity = gate.authenticate(username, password, address=address)
    if identity.api_key_id is not None:
        raise UnknownCredentialsError("An API key does not open the console; use the password.")
    cookie = random_secret()
    with store.write() as connection:
        connection.execute(
            insert(LoginSession).values(
                id_hash=fast_hash(cookie),
                account_id=identity.account_id,
                created_at=now,
                seen_at=now,
            )
        )
    return cookie


def who_is(store: Store, cookie: str, *, now: datetime, touch: bool = True) -> LoggedIn | None:
    """Return who the cookie speaks for; None where it is unknown, ended or of a closed account.

    Args:
        store: the store.
        cookie: as sent.
        now: UTC.
        touch: whether a person is there; what a page asks by itself must not keep it logged in.

    Raises:
        StoreUnavailableError: the database can't be reached.
    """
    id_hash = fast_hash(cookie)
    with store.read() as connection:
        row = connection.execute(
            select(Account.id, Account.email, Account.role, LoginSession.seen_at)
            .join(LoginSession, LoginSession.account_id == Account.id)
            .where(
                LoginSession.id_hash == id_hash,
                LoginSession.seen_at > now - IDLE_FOR,
                LoginSession.created_at > now - AT_MOST,
                Account.status == "active",
            )
        ).first()
    if row is None:
        return None
    if touch and now - row.seen_at >= TOUCH_EVERY:
        with store.write() as connection:
            connection.execute(
                update(LoginSession).where(LoginSession.id_hash == id_hash).values(seen_at=now)
            )
    return LoggedIn(row.id, row.email, row.role)


def log_out(store: Store, cookie: str) -> None:
    """End the session of a cookie.

    Raises:
        StoreUnavailableError: nothing changed.
    """
    with store.write() as connection:
        connection.execute(delete(LoginSession).where(LoginSession.id_hash == fast_hash(cookie)))


def log_out_everywhere(store: Store, account_id: int) -> None:
    """End all sessions of an account.

    Raises:
        StoreUnavailableError: nothing changed.
    """
    with store.write() as connection:
        connection.execute(delete(LoginSession).where(LoginSession.account_id == account_id))


def prune(store: Store, *, now: datetime) -> None:
    """Drop sessions that ended by themselves."""
    with store.write() as connection:
        connection.execute(
            delete(LoginSession).where(
                or_(
                    LoginSession.seen_at <= now - IDLE_FOR,
                    LoginSession.created_at <= now - AT_MOST,
                )
            )
        )
