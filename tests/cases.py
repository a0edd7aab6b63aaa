"""How many cases of a property are drawn."""

from __future__ import annotations

from hypothesis import settings


def at_most(count: int) -> settings:
    """Draw up to `count` cases, or as many as `make quick` draws where that is fewer."""
    usual = settings().max_examples  # of the profile that tests/conftest.py has loaded
    return settings(max_examples=min(count, usual))
