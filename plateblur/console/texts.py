"""What an account agrees to, by version; a changed sentence or text needs a new version."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ConsentText:
    """A box of the sign-up form.

    Attributes:
        subject: in the log.
        version: of its sentence and of the text behind it, in `templates/texts.html`.
        sentence: beside the box.
        needed: whether there is no account without it.
    """

    subject: str
    version: str
    sentence: str
    needed: bool


NEWS = ConsentText("newsletter", "2026-11", "Write to me about new features and prices.", False)
CONSENTS = (
    ConsentText("terms", "2026-11", "I agree to the terms of use.", True),
    ConsentText("privacy", "2026-11", "I have read how my data is handled.", True),
    NEWS,
)
