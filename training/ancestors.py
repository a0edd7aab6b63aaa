"""The earlier runs that a run builds on, and the data that all of them were trained on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any


def earlier_runs(
    record: Mapping[str, Any], card: Mapping[str, Any] | None
) -> Iterator[tuple[Mapping[str, Any], list[dict[str, Any]] | None]]:
    """Yield the earlier runs, latest first, each with its data sets or None if unknown.

    A restored model ends the list, because its card names the sets of all runs before its own.

    Args:
        record: of the run.
        card: of the shipped model, which may be what the run was restored from.
    """
    before = record.get("weights_run")
    while before:
        if "card" in before:
            yield before, before["card"]["data_sets"]
            return
        if card is not None and before == card["training"]:
            yield before, card["data_sets"]
            return
        yield before, before.get("data_sets")
        before = before.get("weights_run")


def all_data_sets(
    own: Iterable[dict[str, Any]], record: Mapping[str, Any], card: Mapping[str, Any] | None
) -> list[dict[str, Any]]:
    """Return the data sets of a run and of all runs before it, because its weights contain both.

    Args:
        own: of the run.
        record: of the run.
        card: of the shipped model.
    """
    sets = {one["set"]: one for one in own}
    for _, earlier in earlier_runs(record, card):
        for one in earlier or [UNKNOWN_SETS]:
            sets.setdefault(one["set"], {"trained_on_by": "an earlier run", **one})
    return list(sets.values())


UNKNOWN_SETS = {
    "set": "unknown",
    "source": "an earlier run that didn't write down its sets",
    "licence": "unknown",
    "region": "unknown",
    "photos": {"train": 0, "val": 0, "test": 0},
}
