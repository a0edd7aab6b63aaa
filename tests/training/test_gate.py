"""The gate of promotion: what must not get worse, and what counts as better."""

from __future__ import annotations

from typing import Any

import pytest

from training.evaluation.figures import RANGES
from training.gate import (
    FEWEST_KEPT_APART,
    FEWEST_WITHIN_ON_TEST,
    MOST_FALSE_BOXES,
    Looks,
    reasons_to_refuse,
    reasons_to_refuse_near,
)


def change(low: float | None, high: float | None) -> dict[str, Any]:
    value = None if low is None or high is None else (low + high) / 2
    return {"difference": {"value": value, "low": low, "high": high}}


UP, DOWN, SAME = change(0.01, 0.03), change(-0.03, -0.01), change(0.0, 0.0)
A_LITTLE_UP, A_LITTLE_DOWN = change(-0.004, 0.01), change(-0.01, 0.004)
NO_PLATES = change(None, None)
ROWS = [f"{figure}, {name}" for name in ("overall", *RANGES) for figure in ("recall", "covered99")]


def metrics(
    changed: dict[str, dict[str, Any]] | None = None,
    *,
    within: int = FEWEST_WITHIN_ON_TEST,
    plates: int = FEWEST_KEPT_APART,
    false_boxes: float = 0.04,
) -> dict[str, Any]:
    """What `evaluate` tells of a split on which nothing but `changed` differs."""
    rows = dict.fromkeys([*ROWS, "false boxes per photo"], SAME)
    return {
        "overall": {"plates": plates, "false_boxes_per_photo": false_boxes},
        "ranges": {"within 1:15": {"plates": within}},
        "compared": {"differences": rows | (changed or {})},
    }


BETTER = {"recall, overall": UP}


@pytest.mark.parametrize("figure", ROWS)
@pytest.mark.parametrize("where", ["test", "apart"])
def test_a_loss_in_any_range_of_sizes_is_refused_on_either_split(figure: str, where: str) -> None:
    other = next(row for row in ROWS if row != figure)
    worse, same = metrics({figure: DOWN, other: UP}), metrics()
    test, apart = (worse, same) if where == "test" else (same, worse)
    (reason,) = reasons_to_refuse(test, apart)
    on = "test" if where == "test" else "the photos kept apart"
    assert reason == f"significantly worse on {on} in {figure}"


@pytest.mark.parametrize(
    ("test", "apart", "refused"),
    [
        (BETTER, {}, False),
        ({}, BETTER, False),
        ({"recall, overall": A_LITTLE_DOWN}, BETTER, False),
        ({"false boxes per photo": DOWN}, {}, False),
        ({"recall, within 1:15": NO_PLATES}, BETTER, False),
        ({}, {}, True),
        ({"recall, overall": A_LITTLE_UP}, {"covered99, within 1:15": A_LITTLE_UP}, True),
    ],
    ids=[
        *("better on test", "better on those kept apart", "down by chance", "fewer false boxes"),
        *("a range without plates", "the same", "better by chance"),
    ],
)
def test_a_gain_beyond_chance_on_one_split_is_what_it_takes(
    test: dict[str, Any], apart: dict[str, Any], refused: bool
) -> None:
    reasons = reasons_to_refuse(metrics(test), metrics(apart))
    expected = ["on neither split better in any figure by more than chance"]
    assert reasons == (expected if refused else [])


def test_more_false_boxes_are_a_loss_and_never_a_gain() -> None:
    more = {"false boxes per photo": UP}
    reasons = reasons_to_refuse(metrics(more), metrics(BETTER))
    assert reasons == ["significantly worse on test in false boxes per photo"]
    assert len(reasons_to_refuse(metrics(more), metrics())) == 2


@pytest.mark.parametrize(("false_boxes", "refused"), [(0.06, False), (0.0601, True)])
def test_false_boxes_have_a_bound_of_their_own(false_boxes: float, refused: bool) -> None:
    reasons = reasons_to_refuse(metrics(false_boxes=false_boxes), metrics(BETTER))
    told = f"{false_boxes:.3f} false boxes a photo on test; at most {MOST_FALSE_BOXES} are allowed"
    assert reasons == ([told] if refused else [])
    assert bool(reasons_to_refuse(metrics(false_boxes=false_boxes), None)) == refused


@pytest.mark.parametrize(
    ("within", "plates", "reasons"),
    [
        (FEWEST_WITHIN_ON_TEST, FEWEST_KEPT_APART, 0),
        (FEWEST_WITHIN_ON_TEST - 1, FEWEST_KEPT_APART, 1),
        (FEWEST_WITHIN_ON_TEST, FEWEST_KEPT_APART - 1, 1),
        (0, 0, 2),
    ],
)
def test_too_few_plates_decide_nothing(within: int, plates: int, reasons: int) -> None:
    test, apart = metrics(within=within), metrics(BETTER, plates=plates)
    assert len(reasons_to_refuse(test, apart)) == reasons


def test_looks_are_counted_by_the_photos_looked_at(tmp_path: Any) -> None:
    looks = Looks(tmp_path / "docs" / "looks.json")
    assert looks.count("a") == 0
    looks.add({"photos_sha256": "a", "times": 14})
    looks.add({"photos_sha256": "a"})
    looks.add({"photos_sha256": "b"})
    again = Looks(looks.path)
    assert (again.count("a"), again.count("b")) == (15, 1)


# --- The network for near plates -----------------------------------------------------------------

TURNED_GAIN = {"covered99, within 1:15": UP}


def test_a_network_for_near_plates_may_gain_on_turned_photos_alone() -> None:
    more_false = {"false boxes per photo": UP}
    turned = metrics(TURNED_GAIN | more_false)
    assert reasons_to_refuse_near(metrics(more_false), metrics(more_false), turned) == []


@pytest.mark.parametrize("gain", [{}, {"covered99, within 1:15": A_LITTLE_UP}, {ROWS[0]: UP}])
def test_it_must_gain_near_plates_of_turned_photos(gain: dict[str, Any]) -> None:
    (reason,) = reasons_to_refuse_near(metrics(), metrics(BETTER), metrics(gain))
    assert "on turned photos not better within 1:15" in reason


@pytest.mark.parametrize("place", [0, 1, 2], ids=["test", "kept apart", "turned"])
def test_it_must_lose_nothing_anywhere(place: int) -> None:
    found = [metrics(), metrics(), metrics(TURNED_GAIN)]
    found[place]["compared"]["differences"]["recall, 1:30-1:60"] = DOWN
    (reason,) = reasons_to_refuse_near(*found)
    assert reason.startswith("significantly worse on")
    assert reason.endswith("in recall, 1:30-1:60")


@pytest.mark.parametrize("place", [0, 2], ids=["test", "turned"])
def test_its_false_boxes_are_bounded(place: int) -> None:
    found = [metrics(), metrics(), metrics(TURNED_GAIN)]
    found[place]["overall"]["false_boxes_per_photo"] = MOST_FALSE_BOXES + 0.001
    (reason,) = reasons_to_refuse_near(*found)
    assert "0.061 false boxes a photo on test" in reason


def test_it_needs_enough_plates_to_judge_by() -> None:
    few = metrics(within=FEWEST_WITHIN_ON_TEST - 1)
    (reason,) = reasons_to_refuse_near(few, metrics(), metrics(TURNED_GAIN))
    assert "takes at least" in reason
