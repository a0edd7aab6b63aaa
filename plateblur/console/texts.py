"""What an account agrees to, and how long data is kept.

A changed sentence or text needs a new version.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from plateblur.accounts import links, periods, sessions


@dataclass(frozen=True, slots=True)
class ConsentText:
    """A box of the sign-up form.

    Attributes:
        subject: in the log.
        version: of its sentence and its text in `templates/terms_text.html` or `privacy.html`.
        sentence: the label of the box.
        needed: whether an account requires it.
    """

    subject: str
    version: str
    sentence: str
    needed: bool


NEWS = ConsentText(
    "newsletter", "2026-11-26", "Send me e-mails about new features and prices.", False
)
CONSENTS = (
    ConsentText("terms", "2026-11-27.2", "I agree to the terms of use.", True),
    ConsentText("privacy", "2026-11-27.2", "I have read the privacy notice.", True),
    NEWS,
)


def in_words(period: timedelta) -> str:
    """Return a period of whole hours for people: "1 hour", "14 days"."""
    hours = period // timedelta(hours=1)
    number, unit = (hours // 24, "day") if hours >= 48 or hours == 24 else (hours, "hour")
    return f"{number} {unit}{'s' * (number != 1)}"


KEPT = (
    (
        "Account, profile, API keys, consents, tickets, daily usage",
        "Until you delete your account",
    ),
    ("A sign-up that is not activated", in_words(periods.KEEP_SIGN_UP)),
    (
        "Links in e-mails",
        f"{in_words(links.VALID_FOR['reset'])} to reset a password, "
        f"{in_words(links.VALID_FOR['email'])} to confirm a new address",
    ),
    (
        "Login sessions",
        f"{in_words(sessions.IDLE_FOR)} without use, at most {in_words(sessions.AT_MOST)}",
    ),
    (
        "Time and number of predictions of each request, and the hashes of its idempotency key",
        in_words(periods.KEEP_REQUESTS),
    ),
    (
        "Background jobs: photos, results, file names, URLs and webhooks, encrypted",
        "Photos until they are blurred, results until you fetch them, everything until you delete "
        "the job or up to one hour after it expires",
    ),
    (
        "Number of photos tried without an account, under a hash of the IP address",
        in_words(periods.KEEP_GUEST_PHOTOS),
    ),
    (
        "Failed logins, under a hash of account and IP address",
        f"{in_words(periods.KEEP_FAILED_LOGINS)} after the last one",
    ),
    (
        "Number of sign-ups, under a hash of the network address",
        in_words(periods.KEEP_SIGN_UP_COUNTS),
    ),
    (
        "Hash of your e-mail address, which prevents a second trial",
        f"{periods.KEEP_TRIAL_HASH_YEARS} years from the start of the trial",
    ),
    (
        "Invoices and credit notes, with the name and address printed on them, the country of your "
        "connection if it was evidence for VAT, withdrawals, and records of payments",
        f"{periods.KEEP_INVOICE_YEARS} years from the end of the year of issue (tax law)",
    ),
    (
        "E-mails to you, if this service has no mail server",
        f"{in_words(periods.KEEP_OUTBOX)}, or until you delete your account",
    ),
)
"""What the privacy notice says of periods: kinds of data, and how long each is kept."""
