"""Login sessions of the console: revocable rows, found by a hashed cookie.

A session stores the account's `credentials_version`: one created with an old password, even at the
moment of a reset, is not valid.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import and_, delete, insert, or_, select, update

from plateblur.accounts.credentials import fast_hash, random_secret
from plateblur.accounts.models import Account, LoginSession
from plateblur.accounts.store import Store
from plateblur.accounts.types import AccountStatus, Gate, Identity, Role, UnknownCredentialsError

# Source: OWASP Session Management Cheat Sheet asks for both; the lengths are ours.
IDLE_FOR = timedelta(hours=12)
AT_MOST = timedelta(days=14)
TOUCH_EVERY = timedelta(minutes=1)
MAX_SESSIONS = 20  # Source: ours; browsers of one account, those seen last.


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """The account of a session.

    Attributes:
        account_id: the store's id.
        email: as signed up.
        role: what it may do.
        credentials_version: the account's.
    """

    account_id: int
    email: str
    role: Role
    credentials_version: int


def log_in(
    store: Store, gate: Gate, *, username: str, password: str, address: str, now: datetime
) -> str:
    """Return the cookie of a new session; API keys do not open the console.

    Raises:
        UnknownCredentialsError: unknown user or wrong password, or too many failures before.
        AccountClosedError: not activated, closed or locked.
        BusyError: nothing was checked.
        TrialStoreError: the store can't be reached.
        StoreUnavailableError: the same, a moment later.
    """
    identity = gate.authenticate(username, password, address=address)
    if identity.api_key_id is not None:
        raise UnknownCredentialsError("API keys can't be used to log in here. Use your password.")
    return open_session(store, identity, now=now)


def open_session(store: Store, identity: Identity, *, now: datetime) -> str:
    """Return the cookie of a new session for an identity just proved; the oldest makes room.

    Raises:
        StoreUnavailableError: nothing was kept.
    """
    cookie = random_secret()
    own = LoginSession.account_id == identity.account_id
    kept = (
        select(LoginSession.id_hash)
        .where(own)
        .order_by(LoginSession.seen_at.desc(), LoginSession.id_hash)
        .limit(MAX_SESSIONS - 1)
    )
    with store.write() as connection:
        connection.execute(delete(LoginSession).where(own, LoginSession.id_hash.not_in(kept)))
        connection.execute(
            insert(LoginSession).values(
                id_hash=fast_hash(cookie),
                account_id=identity.account_id,
                credentials_version=identity.credentials_version,
                created_at=now,
                seen_at=now,
            )
        )
    return cookie


def who_is(store: Store, cookie: str, *, now: datetime, touch: bool = True) -> LoggedIn | None:
    """Return the account of a session; None if it is unknown, ended or the account is closed.

    Args:
        store: the store.
        cookie: as sent.
        now: UTC.
        touch: whether this counts as use; a page's automatic requests must not keep it alive.

    Raises:
        StoreUnavailableError: the database can't be reached.
    """
    id_hash = fast_hash(cookie)
    with store.read() as connection:
        row = connection.execute(
            select(
                Account.id,
                Account.email,
                Account.role,
                Account.credentials_version,
                LoginSession.seen_at,
            )
            .join(
                LoginSession,
                and_(
                    LoginSession.account_id == Account.id,
                    LoginSession.credentials_version == Account.credentials_version,
                ),
            )
            .where(
                LoginSession.id_hash == id_hash,
                LoginSession.seen_at > now - IDLE_FOR,
                LoginSession.created_at > now - AT_MOST,
                Account.status == AccountStatus.ACTIVE,
            )
        ).first()
    if row is None:
        return None
    if touch and now - row.seen_at >= TOUCH_EVERY:
        with store.write() as connection:
            connection.execute(
                update(LoginSession).where(LoginSession.id_hash == id_hash).values(seen_at=now)
            )
    return LoggedIn(row.id, row.email, row.role, row.credentials_version)


def log_out(store: Store, cookie: str) -> None:
    """End the session of a cookie.

    Raises:
        StoreUnavailableError: nothing changed.
    """
    with store.write() as connection:
        connection.execute(delete(LoginSession).where(LoginSession.id_hash == fast_hash(cookie)))


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
