"""Photos of visitors without an account: a few for each address, and a limit for all together.

Only a keyed hash of the address is kept, for a day. The limits hold for all workers together,
because the photos are counted in the store.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from math import ceil

from sqlalchemy import ColumnElement, Connection, delete, func, insert, select

from plateblur.accounts.fields import SITE_IPV6_BITS, address_block
from plateblur.accounts.models import GuestPhoto
from plateblur.accounts.periods import KEEP_GUEST_PHOTOS
from plateblur.accounts.store import Store
from plateblur.accounts.types import DailyQuotaError


@dataclass(frozen=True, slots=True)
class GuestLimits:
    """How many photos visitors may try within 24 hours.

    Attributes:
        each: of one IPv4 address or IPv6 site.
        together: of all visitors.
    """

    each: int = 10
    together: int = 500


class GuestReservation:
    """A photo that was counted before its work; see `Reservation`.

    It stays counted whatever comes of it. Else photos that fail late would wear out the service
    without an account and without an end.
    """

    is_repeat = False

    def settle(self, *, predictions: int) -> None:
        """Do nothing: predictions of visitors count on no plan."""
        del predictions

    def unsettle(self) -> None:
        """Do nothing: an answer that was lost stays counted, too."""


def admit(store: Store, address: str, limits: GuestLimits, *, now: datetime) -> GuestReservation:
    """Count one photo.

    Args:
        store: the store.
        address: the visitor's IP address.
        limits: how many photos there are.
        now: UTC.

    Raises:
        DailyQuotaError: the address or all visitors together had theirs; nothing was counted.
        StoreUnavailableError: nothing was counted.
    """
    block = address_block(address, ipv4_bits=32, ipv6_bits=SITE_IPV6_BITS)
    block_hash = store.keyed_hash("guest", block)
    with store.write(durable=False) as connection:
        store.lock(connection, "guests")  # of all visitors, because one limit is
        _check(connection, limits.each, now, GuestPhoto.block_hash == block_hash)
        _check(connection, limits.together, now)
        connection.execute(insert(GuestPhoto).values(block_hash=block_hash, tried_at=now))
    return GuestReservation()


def prune(store: Store, *, now: datetime) -> None:
    """Delete photos that no limit counts any longer.

    Raises:
        StoreUnavailableError: nothing changed.
    """
    with store.write() as connection:
        connection.execute(delete(GuestPhoto).where(GuestPhoto.tried_at <= now - KEEP_GUEST_PHOTOS))


def _check(connection: Connection, limit: int, now: datetime, *whose: ColumnElement[bool]) -> None:
    """Raise where `limit` photos were tried, with the time until the oldest of them is a day old.

    Raises:
        DailyQuotaError: they were.
    """
    query = select(func.count(), func.min(GuestPhoto.tried_at)).where(
        GuestPhoto.tried_at > now - KEEP_GUEST_PHOTOS, *whose
    )
    tried, oldest = connection.execute(query).one()
    if tried >= limit:
        wait = oldest + KEEP_GUEST_PHOTOS - now if oldest else KEEP_GUEST_PHOTOS
        raise DailyQuotaError(retry_after_s=ceil(wait.total_seconds()))
