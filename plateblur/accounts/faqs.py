"""Frequently asked questions with their answers, shown on the console."""

from __future__ import annotations

from dataclasses import dataclass

from plateblur.accounts.periods import KEEP_INVOICE_YEARS, KEEP_TRIAL_HASH_YEARS
from plateblur.accounts.types import (
    PAID_REQUESTS_PER_WINDOW,
    PAID_WINDOW,
    PREDICTIONS_PER_MONTH,
    TRIAL_PERIOD,
    TRIAL_REQUESTS_PER_DAY,
)


@dataclass(frozen=True, slots=True)
class Faq:
    """One question and its answer, plain text."""

    question: str
    answer: str


FAQS = (
    Faq(
        "What does the trial include?",
        f"{TRIAL_REQUESTS_PER_DAY} requests a day (UTC) for {TRIAL_PERIOD.days} days. It's free, "
        "needs no credit card, and is available once per person.",
    ),
    Faq(
        "What counts as a prediction?",
        "Every plate that the detector finds in a photo. This includes uncertain ones with a "
        "probability of 0.20 or less, which are not part of the response. In a clip that you send "
        "as a job, each frame counts as one.",
    ),
    Faq(
        "What do the paid plans include?",
        f"{PREDICTIONS_PER_MONTH:,} predictions a month and {PAID_REQUESTS_PER_WINDOW} requests in "
        f"any {PAID_WINDOW.seconds} seconds. The yearly plan is counted by month too, from the day "
        "it starts.",
    ),
    Faq(
        "Do failed requests count?",
        "No. If you don't get a blurred photo, the request doesn't count.",
    ),
    Faq(
        "Do you store my photos?",
        "No. Photos are processed in memory. Neither photos nor their URLs are stored or logged. "
        "There are two exceptions, both encrypted: a request of more than 5 MB is on disk until it "
        "is processed, and a background job until you fetch its results, delete it or it expires.",
    ),
    Faq(
        "When does a paid plan start?",
        "As soon as its invoice is paid or, if you already have a paid plan, when that plan ends.",
    ),
    Faq(
        "Should my program send my password?",
        "Use an API key instead. You can create one in the console and revoke it at any time, "
        "without changing your password.",
    ),
    Faq(
        "What is kept when I delete my account?",
        f"Your invoices, which tax law requires for {KEEP_INVOICE_YEARS} years, and for "
        f"{KEEP_TRIAL_HASH_YEARS} years a hash of your e-mail address, to prevent a second trial. "
        "Everything else is deleted immediately.",
    ),
)
