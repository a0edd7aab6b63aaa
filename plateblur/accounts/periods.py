"""How long the service keeps data that outlives its first use.

One list, for the rules and for the privacy page. `upkeep.prune` deletes what is older.
"""

from __future__ import annotations

from datetime import date, datetime, time, timedelta

KEEP_OUTBOX = timedelta(days=14)  # Source: ours; the links in these e-mails expire much earlier.
KEEP_REQUESTS = timedelta(days=2)  # The longest quota window is a UTC day.
KEEP_SIGN_UP = timedelta(days=2)  # Source: ours; an evening's sign-up can be activated next day.
KEEP_INACTIVE = timedelta(days=7)  # Source: ours; accounts that an operator made, never activated.
KEEP_SIGN_UP_COUNTS = timedelta(days=1)  # The window in which sign-ups are limited.
KEEP_GUEST_PHOTOS = timedelta(days=1)  # The window in which visitors' photos are limited.
KEEP_FAILED_LOGINS = timedelta(hours=1)  # Source: ours; see throttle.py.
# Source: ours; as long as the general limitation period of Romanian law (Civil Code, art. 2517).
KEEP_TRIAL_HASH_YEARS = 3
# Source: Directive 2006/112/EC, article 369k(2): records of sales to consumers in other EU
# countries are kept for ten years from 31 December of the year of the sale.
KEEP_INVOICE_YEARS = 10
KEEP_HEALTH = timedelta(days=90)  # What the status page shows, as most do.
WITHDRAWAL = timedelta(days=14)  # Source: Directive 2011/83/EU, article 9(1).


def invoices_kept_since(now: datetime) -> datetime:
    """Return the start of the oldest calendar year whose invoices must still be kept.

    Args:
        now: UTC.
    """
    return datetime(now.year - KEEP_INVOICE_YEARS, 1, 1, tzinfo=now.tzinfo)


def withdrawal_last_day(ordered_at: datetime) -> date:
    """Return the last day on which a consumer may withdraw from an order.

    Source: Directive 2011/83/EU, article 9 (14 days from the conclusion of a contract on a
    service), and Regulation 1182/71, article 3: the day of the order isn't counted, and a period
    that would end on a Saturday or Sunday ends on the next working day. Public holidays are not
    known here.

    Args:
        ordered_at: UTC.
    """
    day = ordered_at.date() + WITHDRAWAL
    return day + timedelta(days=max(0, 7 - day.weekday()) if day.weekday() >= 5 else 0)


def withdrawal_ends_at(ordered_at: datetime) -> datetime:
    """Return the moment at which that day is over everywhere on Earth, UTC.

    Args:
        ordered_at: UTC.
    """
    midnight = datetime.combine(withdrawal_last_day(ordered_at), time(), tzinfo=ordered_at.tzinfo)
    return midnight + timedelta(days=1, hours=12)


def trial_hashes_kept_since(now: datetime) -> datetime:
    """Return the moment before which a trial's hash is deleted.

    Args:
        now: UTC.
    """
    year = now.year - KEEP_TRIAL_HASH_YEARS
    day = 28 if (now.month, now.day) == (2, 29) else now.day
    return now.replace(year=year, day=day)
