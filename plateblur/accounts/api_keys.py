"""API keys: created, listed, revoked. A key is shown once; the store holds its SHA-256.

A key has 256 random bits. It can't be guessed, so a slow hash would not add protection: it is
looked up on each request, without rate limits.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, func, insert, select, update

from plateblur.accounts import fields
from plateblur.accounts.credentials import NewApiKey, fast_hash, new_api_key
from plateblur.accounts.models import Account, ApiKey
from plateblur.accounts.store import Store
from plateblur.accounts.types import AccountClosedError, FieldError, NotFoundError

# Source: ours; enough for a key per device, few enough to keep an overview.
MAX_KEYS = 20
MAX_REVOKED = 50  # those revoked longest ago are deleted


@dataclass(frozen=True, slots=True)
class ApiKeyEntry:
    """What the console shows of a key.

    Attributes:
        api_key_id: the store's row.
        label: its owner's name for it.
        prefix: the key's beginning, by which its owner recognises it.
        created_at: UTC.
        last_used_at: UTC, true to a minute; None before the first use.
        revoked_at: UTC; None while it works.
    """

    api_key_id: int
    label: str
    prefix: str
    created_at: datetime
    last_used_at: datetime | None
    revoked_at: datetime | None


def add_key(
    store: Store,
    account_id: int,
    *,
    label: str,
    now: datetime,
    credentials_version: int | None = None,
) -> NewApiKey:
    """Return a new key; it can't be read again.

    Args:
        store: the store.
        account_id: whose.
        label: its owner's name for it.
        now: UTC.
        credentials_version: the account's when the session of who asks was looked at, so that no
            request that was under way outlives a password reset; None for the operator.

    Raises:
        FieldError: the label can't be taken, or there are too many keys.
        AccountClosedError: the account was deleted, or its password was just changed.
        StoreUnavailableError: nothing was stored.
    """
    label = fields.plain_text("label", label, max_chars=80)
    prefix, key = new_api_key()
    with store.write() as connection:
        version = connection.execute(
            select(Account.credentials_version)
            .where(Account.id == account_id)
            .with_for_update(key_share=True)
        ).scalar()
        if version is None or credentials_version not in {None, version}:
            raise AccountClosedError("This account was deleted, or its password was changed.")
        count = connection.execute(
            select(func.count())
            .select_from(ApiKey)
            .where(ApiKey.account_id == account_id, ApiKey.revoked_at.is_(None))
        ).scalar_one()
        if count >= MAX_KEYS:
            raise FieldError("label", f"You can have at most {MAX_KEYS} keys. Revoke one first.")
        api_key_id = connection.execute(
            insert(ApiKey)
            .values(
                account_id=account_id,
                label=label,
                prefix=prefix,
                key_hash=fast_hash(key),
                created_at=now,
            )
            .returning(ApiKey.id)
        ).scalar_one()
    return NewApiKey(api_key_id, key)


def list_keys(store: Store, account_id: int) -> list[ApiKeyEntry]:
    """Return the account's keys, newest first, revoked ones too.

    Raises:
        StoreUnavailableError: the database can't be reached.
    """
    with store.read() as connection:
        rows = connection.execute(
            select(
                ApiKey.id,
                ApiKey.label,
                ApiKey.prefix,
                ApiKey.created_at,
                ApiKey.last_used_at,
                ApiKey.revoked_at,
            )
            .where(ApiKey.account_id == account_id)
            .order_by(ApiKey.id.desc())
        ).all()
    return [
        ApiKeyEntry(
            row.id, row.label, f"pb_{row.prefix}", row.created_at, row.last_used_at, row.revoked_at
        )
        for row in rows
    ]


def revoke_key(store: Store, account_id: int, api_key_id: int, *, now: datetime) -> None:
    """Make a key work no more, from its next request on and in every worker.

    Raises:
        NotFoundError: the account has no such working key.
        StoreUnavailableError: nothing changed.
    """
    with store.write() as connection:
        if not _revoke(connection, account_id, now=now, api_key_id=api_key_id):
            raise NotFoundError("Key not found, or already revoked.")


def revoke_all(connection: Connection, account_id: int, *, now: datetime) -> int:
    """Make every key of the account work no more; return how many did.

    Args:
        connection: in a write.
        account_id: whose.
        now: UTC.
    """
    return _revoke(connection, account_id, now=now)


def _revoke(
    connection: Connection, account_id: int, *, now: datetime, api_key_id: int | None = None
) -> int:
    working = update(ApiKey).where(ApiKey.account_id == account_id, ApiKey.revoked_at.is_(None))
    if api_key_id is not None:
        working = working.where(ApiKey.id == api_key_id)
    changed = connection.execute(working.values(revoked_at=now)).rowcount
    kept = (
        select(ApiKey.id)
        .where(ApiKey.account_id == account_id, ApiKey.revoked_at.is_not(None))
        .order_by(ApiKey.revoked_at.desc(), ApiKey.id.desc())
        .limit(MAX_REVOKED)
    )
    connection.execute(
        delete(ApiKey).where(
            ApiKey.account_id == account_id,
            ApiKey.revoked_at.is_not(None),
            ApiKey.id.not_in(kept),
        )
    )
    return changed
