"""Rate-limits password guessing, for all workers together: the counters are in the store.

There are three counters, each under a keyed hash and deleted an hour after its last failure:

- account and address together: after a few failures this pair must wait, twice as long each time;
- address: the same after more failures, for any accounts;
- account, from everywhere: never makes anyone wait, since strangers could then lock its owner out.
  Above its limit, each new address has one attempt for that account instead of a few.

So the right password always works from an address that did not guess. Passwords that the gate
remembers are not checked here, nor are API keys, which can't be guessed.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from math import ceil

from sqlalchemy import Connection, delete, insert, select, update

from plateblur.accounts.fields import SITE_IPV6_BITS, address_block
from plateblur.accounts.models import FailedLogin
from plateblur.accounts.periods import KEEP_FAILED_LOGINS
from plateblur.accounts.store import Store

# Source: ours, within NIST SP 800-63B-4, 3.2.2 (at most 100 failures in a row on one account);
# slow enough that a pair gets some 10 guesses in the first hour.
FREE_PER_PAIR = 5
FREE_PER_PAIR_UNDER_ATTACK = 1
FREE_PER_ADDRESS = 50
ATTACK_PER_ACCOUNT = 20
MAX_WAIT = timedelta(minutes=15)


def wait_s(store: Store, *, login: str, address: str, now: datetime) -> int:
    """Return for how many seconds this pair must not be checked; 0 where it may.

    Args:
        store: the store.
        login: whose credential is tried; the same text for the same account.
        address: the peer's IP address.
        now: UTC.
    """
    with store.read() as connection:
        return _waits_s(connection, _keys(store, login, address)[:2], now)


def note_failure(store: Store, *, login: str, address: str, now: datetime) -> None:
    """Count a failure on all three counters; they may be lost in a power cut."""
    with store.write(durable=False) as connection:
        _count_all(store, connection, _keys(store, login, address), now)


def take_turn(store: Store, *, login: str, address: str, now: datetime) -> int:
    """Count one use, or return for how many seconds the next must wait.

    For actions that are limited like failed logins. Checked and counted in one transaction, so that
    parallel requests pass no more often than sequential ones.
    """
    if waits_s := wait_s(store, login=login, address=address, now=now):
        return waits_s  # before anything is locked, so that a flood doesn't block writers
    keys = _keys(store, login, address)
    with store.write(durable=False) as connection:
        for key in (keys[2], keys[1], keys[0]):
            store.lock(connection, key)
        waits_s = _waits_s(connection, keys[:2], now)
        if not waits_s:
            _count_all(store, connection, keys, now)
    return waits_s


def note_success(store: Store, *, login: str, address: str) -> None:
    """Reset the pair's failures; not the address's, or one account could clear them."""
    pair = _keys(store, login, address)[0]
    with store.read() as connection:
        known = connection.execute(
            select(FailedLogin.key_hash).where(FailedLogin.key_hash == pair)
        ).first()
    if known:
        with store.write() as connection:
            connection.execute(delete(FailedLogin).where(FailedLogin.key_hash == pair))


def prune(store: Store, *, now: datetime) -> None:
    """Delete expired counters."""
    with store.write() as connection:
        connection.execute(
            delete(FailedLogin).where(FailedLogin.failed_at < now - KEEP_FAILED_LOGINS)
        )


def _keys(store: Store, login: str, address: str) -> tuple[str, str, str]:
    block = address_block(address, ipv4_bits=32, ipv6_bits=SITE_IPV6_BITS)
    return (
        store.keyed_hash("login pair", f"{login}\0{block}"),
        store.keyed_hash("login address", block),
        store.keyed_hash("login account", login),
    )


def _waits_s(connection: Connection, keys: tuple[str, ...], now: datetime) -> int:
    until = connection.execute(
        select(FailedLogin.blocked_until).where(
            FailedLogin.key_hash.in_(keys), FailedLogin.blocked_until > now
        )
    ).scalars()
    return max((ceil((moment - now).total_seconds()) for moment in until if moment), default=0)


def _count_all(
    store: Store, connection: Connection, keys: tuple[str, str, str], now: datetime
) -> None:
    pair, from_address, account = keys
    # Always in this order, so that two failures never deadlock.
    of_account = _count(store, connection, account, free=None, now=now)
    under_attack = of_account > ATTACK_PER_ACCOUNT
    _count(store, connection, from_address, free=FREE_PER_ADDRESS, now=now)
    free = FREE_PER_PAIR_UNDER_ATTACK if under_attack else FREE_PER_PAIR
    _count(store, connection, pair, free=free, now=now)


def _count(
    store: Store, connection: Connection, key: str, *, free: int | None, now: datetime
) -> int:
    """Return the counter's failures with this one; set the wait where `free` are used up."""
    store.lock(connection, key)
    row = connection.execute(
        select(FailedLogin.failures, FailedLogin.failed_at).where(FailedLogin.key_hash == key)
    ).first()
    fresh = row is not None and row.failed_at >= now - KEEP_FAILED_LOGINS
    failures = 1 + (row.failures if row is not None and fresh else 0)
    blocked_until = None
    if free is not None and failures >= free:
        doublings = min(failures - free, 20)  # 2**20 s is far above the longest wait
        blocked_until = now + min(timedelta(seconds=2**doublings), MAX_WAIT)
    values = {"failures": failures, "failed_at": now, "blocked_until": blocked_until}
    if row is None:
        connection.execute(insert(FailedLogin).values(key_hash=key, **values))
    else:
        connection.execute(update(FailedLogin).where(FailedLogin.key_hash == key).values(**values))
    return failures
