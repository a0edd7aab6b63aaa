"""What a model must show before `training/promote.py` makes it the shipped one.

It is compared with the shipped model on two splits: test, which was looked at many times, and the
photos that its run kept apart, which only this gate looks at. On both the rules are the same:

* enough plates to judge by;
* in no range of sizes a significant loss of recall or covered99;
* no significantly more false boxes, and on test never more than `MOST_FALSE_BOXES` a photo, so that
  many small steps can't add up;
* and on one of the two a gain beyond chance.

Significant means that the 95 % interval of the paired difference excludes zero. Every
look at a split is recorded in `docs/promotion-looks.json`, because a split that is looked at often
becomes a split that choices are made on.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from training.ancestors import earlier_runs

# Source: the rule of three; of n plates without a loss, 3/n may still be lost (95 %): 3 and 6 %.
FEWEST_WITHIN_ON_TEST = 100
FEWEST_KEPT_APART = 50

# Source: the upper end of the 95 % interval of the 0.042 (27 boxes on 643 photos) of the detector
# that was shipped in November 2026.
MOST_FALSE_BOXES = 0.06

FALSE_BOXES = "false boxes per photo"
"""The row of `evaluation.figures.differences` in which less is better."""


def reasons_to_refuse(test: Mapping[str, Any], apart: Mapping[str, Any] | None) -> list[str]:
    """Return why a candidate may not replace the shipped model; nothing if it may.

    Args:
        test: metrics of `training/evaluate.py` on the test split, `compared` with the shipped model
            if there is one.
        apart: the same on the photos that were kept apart; None where there is no shipped model.
    """
    reasons = [*_too_few(test, apart)]
    false_boxes = test["overall"]["false_boxes_per_photo"]
    if false_boxes is not None and false_boxes > MOST_FALSE_BOXES:
        reasons.append(
            f"{false_boxes:.3f} false boxes a photo on test; at most {MOST_FALSE_BOXES} are allowed"
        )
    if apart is None:
        return reasons
    gained = False
    for name, metrics in (("test", test), ("the photos kept apart", apart)):
        changes = metrics["compared"]["differences"]
        lost = [figure for figure in changes if _direction(figure, changes[figure]) < 0]
        if lost:
            reasons.append(f"significantly worse on {name} in {'; '.join(lost)}")
        gained = gained or any(_direction(figure, changes[figure]) > 0 for figure in changes)
    if not gained:
        reasons.append("on neither split better in any figure by more than chance")
    return reasons


def reasons_to_refuse_near(
    test: Mapping[str, Any], apart: Mapping[str, Any], turned: Mapping[str, Any]
) -> list[str]:
    """Return why a network for near plates may not be shipped; nothing if it may.

    It only adds boxes. So upright photos must not become worse in any figure but false boxes, of
    which it can only have more: they are bounded as for the detector. And it must gain what it is
    for, beyond chance: plates within 1:15 of photos that are turned.

    Args:
        test: metrics of the shipped detector with it on test, `compared` with the one in place.
        apart: the same on the photos that were kept apart.
        turned: the same on test, turned by a quarter.
    """
    reasons = [*_too_few(test, apart)]
    for name, metrics in (("test", test), ("test turned", turned)):
        false_boxes = metrics["overall"]["false_boxes_per_photo"]
        if false_boxes > MOST_FALSE_BOXES:
            reasons.append(
                f"{false_boxes:.3f} false boxes a photo on {name}; at most {MOST_FALSE_BOXES} are "
                "allowed"
            )
    for name, metrics in (("test", test), ("the photos kept apart", apart), ("turned", turned)):
        changes = metrics["compared"]["differences"]
        lost = [one for one in changes if one != FALSE_BOXES and _direction(one, changes[one]) < 0]
        if lost:
            reasons.append(f"significantly worse on {name} in {'; '.join(lost)}")
    gain = "covered99, within 1:15"
    if _direction(gain, turned["compared"]["differences"][gain]) <= 0:
        reasons.append("on turned photos not better within 1:15 by more than chance")
    return reasons


def _too_few(test: Mapping[str, Any], apart: Mapping[str, Any] | None) -> Iterator[str]:
    within = test["ranges"]["within 1:15"]["plates"]
    if within < FEWEST_WITHIN_ON_TEST:
        yield (
            f"test has {within} plates within 1:15; to judge by them takes at least "
            f"{FEWEST_WITHIN_ON_TEST}"
        )
    if apart is not None and apart["overall"]["plates"] < FEWEST_KEPT_APART:
        yield (
            f"the photos kept apart have {apart['overall']['plates']} plates; to judge by them "
            f"takes at least {FEWEST_KEPT_APART}"
        )


def _direction(figure: str, row: Mapping[str, Any]) -> int:
    """Return 1 for a gain beyond chance, -1 for a loss beyond chance, 0 for neither."""
    low, high = row["difference"]["low"], row["difference"]["high"]
    if low is None or low <= 0 <= high:
        return 0
    better = low > 0
    return 1 if better != (figure == FALSE_BOXES) else -1


def seen_before(
    sets: Collection[str], record: Mapping[str, Any], card: Mapping[str, Any] | None
) -> list[str]:
    """Return which of the sets kept apart an earlier run may have trained on in full.

    A photo that an earlier run was trained on is not new to the weights.

    Args:
        sets: of which a quarter was kept apart.
        record: of the run; those of the runs before it are in `weights_run`.
        card: of the shipped model, which names the sets if a record doesn't.
    """
    seen: set[str] = set()
    for before, data_sets in earlier_runs(record, card):
        if data_sets is None:
            return sorted(sets)
        apart = before["config"].get("kept_apart") or ()
        seen |= {one["set"] for one in data_sets} - set(apart)
    return sorted(seen & set(sets))


class Looks:
    """The file that counts how often each split was used to decide on a promotion.

    A JSON list, an entry per look: `date`, `split`, `photos_sha256` (of the names of its photos),
    `model_sha256`, `outcome`; `times` where an entry counts for several.
    """

    def __init__(self, path: Path) -> None:
        """Read the file; without one, there were no looks."""
        self.path = path
        self.entries: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []

    def count(self, photos_sha256: str) -> int:
        """Return how often the split with these photos was looked at."""
        return sum(
            entry.get("times", 1)
            for entry in self.entries
            if entry["photos_sha256"] == photos_sha256
        )

    def add(self, entry: Mapping[str, Any]) -> None:
        """Add a look, and write the file."""
        self.entries.append(dict(entry))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(self.entries, indent=2) + "\n")
