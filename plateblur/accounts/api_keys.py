"""API keys: made, listed, revoked. A key is shown once; the store holds its hash."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, insert, select, update

from plateblur.accounts import fields
from plateblur.accounts.credentials import Hasher, NewApiKey, new_api_key
from plateblur.accounts.models import Account, ApiKey
from plateblur.accounts.store import Store
from plateblur.accounts.types import AccountClosedError, FieldError, NotFoundError

MAX_KEYS = 20  # Source: ours; enough for a key per device, few enough to look over.


@dataclass(frozen=True, slots=True)
class ApiKeyEntry:
    """What the console shows of a key.

    Attributes:
        api_key_id: the store's row.
        label: its owner's name for it.
        prefix: the key's beginning, by which its owner knows it.
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
    store: Store, hasher: Hasher, account_id: int, *, label: str, now: datetime
) -> NewApiKey:
    """Return a new key; nobody can read it again.

    Raises:
        FieldError: the label can't be taken, or there are too many keys.
        AccountClosedError: the account is gone.
        StoreUnavailableError: nothing was kept.
    """
    label = fields.plain_text("label", label, max_chars=80)
    prefix, key = new_api_key()
    key_hash = hasher.hash(key)
    with store.write() as connection:
        account = select(Account.id).where(Account.id == account_id)
        if connection.execute(account.with_for_update(key_share=True)).first() is None:
            raise AccountClosedError("The account is gone.")
        count = connection.execute(
            select(func.count())
            .select_from(ApiKey)
            .where(ApiKey.account_id == account_id, ApiKey.revoked_at.is_(None))
        ).scalar_one()
        if count >= MAX_KEYS:
            raise FieldError("label", f"Expected at most {MAX_KEYS} keys; revoke one first.")
        api_key_id = connection.execute(
            insert(ApiKey)
            .values(
                account_id=account_id,
                label=label,
                prefix=prefix,
                key_hash=key_hash,
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
        changed = connection.execute(
            update(ApiKey)
            .where(
                ApiKey.id == api_key_id,
                ApiKey.account_id == account_id,
                ApiKey.revoked_at.is_(None),
            )
            .values(revoked_at=now)
        ).rowcount
        if not changed:
            raise NotFoundError("The account has no such key, or it was revoked before.")
        connection.execute(
            update(Account)
            .where(Account.id == account_id)
            .values(credentials_version=Account.credentials_version + 1)
        )
