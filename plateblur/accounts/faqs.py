"""Questions that are asked often, with their answers; shown on the console."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Faq:
    """One question and its answer, plain text."""

    question: str
    answer: str


FAQS = (
    Faq(
        "What does the trial allow?",
        "Seven days from its start, 50 requests a UTC day, free and without a card, once per "
        "person.",
    ),
    Faq(
        "What counts as a prediction?",
        "Every plate that the detector keeps in a photo, also those at or below a probability of "
        "0.20, which the answer leaves out.",
    ),
    Faq(
        "What do the paid packages allow?",
        "10,000 predictions a month and 50 requests in any 60 seconds. The yearly package counts "
        "by the month too, from the day on which it starts.",
    ),
    Faq(
        "Is a request that failed counted?",
        "No. A request is counted when it is admitted and given back when no blurred photo left.",
    ),
    Faq(
        "Do you store my photos?",
        "No photo, crop or URL is stored or logged.",
    ),
    Faq(
        "When does a paid package start?",
        "When its invoice is marked as paid, or at the end of the package that still runs.",
    ),
    Faq(
        "Should my program send my password?",
        "Better an API key: make one on the console and send it instead of the password. It is "
        "shown once, and can be revoked alone.",
    ),
    Faq(
        "What stays when I delete my account?",
        "Your invoices, which tax law wants kept, and a keyed hash of your address that stops a "
        "second trial. Everything else is deleted at once.",
    ),
)
