"""What the licences of data sets allow, as far as their authors state it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

# Licences under which anyone may use and pass on the photos. Source: opensource.org/licenses and
# creativecommons.org/licenses; those with NC (no commercial use) or ND (no changes) are not among
# them.
OPEN = re.compile(r"(CC0|CC BY(-SA)?( \d\.\d)?|MIT|Apache-2\.0|AGPL-3\.0|ODbL)\b(?!-N[CD])")
DOUBT = re.compile(r"unstated|not stated|\blooks?\b|\bbut\b|reserved|not covered|does not vouch")
OWNER = re.compile(r"github(?:\.com/| )?(?P<owner>[\w.-]+)/(?P<repository>[\w.-]+)")


def is_clear(licence: str) -> bool:
    """Return whether a licence, as a manifest states it, is open without restrictions."""
    return bool(OPEN.match(licence)) and not DOUBT.search(licence)


def attribution(one: Mapping[str, Any]) -> str:
    """Return the credit of a set: who published it, where, its licence, and what was changed.

    Args:
        one: `set`, `source` and `licence`, as a manifest has them.
    """
    published = OWNER.search(one["source"])
    by = f" by {published['owner']} on GitHub" if published else ""
    return (
        f"{one['set']}{by} ({one['source']}). Licence as stated: {one['licence']}. "
        "Changed: a sample, photos reduced and stored without metadata, labels converted and "
        "corrected."
    )


def train_photos(sets: Iterable[Mapping[str, Any]]) -> tuple[int, int]:
    """Return how many train photos come from sets without a clear licence, and how many there are.

    Args:
        sets: each with its `licence` and its `photos` by split.
    """
    counts = [(one["photos"]["train"], is_clear(one["licence"])) for one in sets]
    return sum(n for n, clear in counts if not clear), sum(n for n, _ in counts)


def licences_sentence(sets: Iterable[Mapping[str, Any]]) -> str:
    """Return a sentence with the share of train photos without a clear licence."""
    sets = list(sets)
    unclear, every = train_photos(sets)
    if not unclear:
        return f"All {every} training photos come from sets under clear, open licences."
    names = [one["set"] for one in sets if one["photos"]["train"] and not is_clear(one["licence"])]
    return (
        f"{unclear} of {every} training photos ({unclear / every:.0%}) come from sets without a "
        f"clear licence: {', '.join(names)}."
    )
