"""What follows from looking again: which boxes, how often, and what becomes of them."""

from __future__ import annotations

import numpy as np
import pytest

from plateblur.second_look import (
    CONFIRMED_FROM,
    CORRECTED_UNDER_PX,
    LOOK_WIDTHS_PX,
    LOWERED_FROM,
    RAISED_BELOW,
    RAISED_UNDER_PX,
    SURE_FROM,
    TRUSTED_FROM,
    FirstLook,
    corrected,
    is_decided,
    second_opinion,
)

LARGE_PX, SMALL_PX = RAISED_UNDER_PX, CORRECTED_UNDER_PX - 0.5


def first(confidence: float, *, px: float = LARGE_PX, may_rise: bool = True) -> FirstLook:
    return FirstLook(
        np.array([confidence], np.float32), np.array([px], np.float32), np.array([may_rise])
    )


def sizes(*confidences: float) -> np.ndarray:
    return np.array([confidences], np.float32)


def below(value: float) -> float:
    return float(np.nextafter(np.float32(value), np.float32(0)))


@pytest.mark.parametrize(
    ("confidence", "px", "may_rise", "raisable"),
    [
        (0.3, 10.0, True, True),
        (0.3, 10.0, False, False),
        (below(RAISED_BELOW), 10.0, True, True),
        (RAISED_BELOW, 10.0, True, False),
        (0.3, below(RAISED_UNDER_PX), True, True),
        (0.3, RAISED_UNDER_PX, True, False),
    ],
    ids=["usual", "shown large", "unsure enough", "too sure", "small enough", "too large"],
)
def test_a_small_unsure_box_may_be_raised(
    confidence: float, px: float, may_rise: bool, raisable: bool
) -> None:
    assert first(confidence, px=px, may_rise=may_rise).raisable.tolist() == [raisable]


@pytest.mark.parametrize(
    ("confidence", "px", "again", "decided"),
    [
        # A large box that may be lowered: until a size confirms it, or three have not.
        (0.6, LARGE_PX, (), False),
        (0.6, LARGE_PX, (0.0,), False),
        (0.6, LARGE_PX, (0.0, below(CONFIRMED_FROM)), False),
        (0.6, LARGE_PX, (0.0, CONFIRMED_FROM), True),
        (0.6, LARGE_PX, (0.0, 0.0, 0.0), True),
        # The ends of the range of confidences that are looked at for that.
        (LOWERED_FROM, LARGE_PX, (0.0,), False),
        (below(LOWERED_FROM), LARGE_PX, (), True),
        (below(SURE_FROM), LARGE_PX, (0.0,), False),
        (SURE_FROM, LARGE_PX, (), True),
        # A sure box that was shown small: one look, for its edges.
        (0.95, SMALL_PX, (), False),
        (0.95, SMALL_PX, (0.0,), True),
        (0.95, CORRECTED_UNDER_PX, (), True),
        # An unsure small one: until three sizes agree, or three can't any more.
        (0.3, SMALL_PX, (0.95, 0.95), False),
        (0.3, SMALL_PX, (0.95, 0.95, SURE_FROM), True),
        (0.3, SMALL_PX, (0.95, 0.95, below(SURE_FROM)), False),
        (0.3, SMALL_PX, (0.2, 0.3), False),
        (0.3, SMALL_PX, (0.2, 0.3, 0.1), True),
        (0.3, SMALL_PX, (0.2, 0.31, 0.1), False),
    ],
)
def test_a_box_is_looked_at_until_the_answer_is_clear(
    confidence: float, px: float, again: tuple[float, ...], decided: bool
) -> None:
    looked = np.array(again, np.float32).reshape(1, len(again))
    assert is_decided(first(confidence, px=px), looked).tolist() == [decided]


def test_boxes_are_decided_on_their_own() -> None:
    both = FirstLook(
        np.array([0.6, 0.95], np.float32), np.array([50, 50], np.float32), np.array([True, True])
    )
    assert is_decided(both, np.zeros((2, 1), np.float32)).tolist() == [False, True]


@pytest.mark.parametrize(
    ("confidence", "px", "again", "opinion"),
    [
        (0.6, LARGE_PX, (0.0, 0.0, below(CONFIRMED_FROM)), 0.3),
        (0.6, LARGE_PX, (0.0, 0.0, CONFIRMED_FROM), 0.6),
        (LOWERED_FROM, LARGE_PX, (0.0, 0.0, 0.0), LOWERED_FROM / 2),
        (0.19, LARGE_PX, (0.0, 0.0, 0.0), 0.19),
        (SURE_FROM, LARGE_PX, (0.0, 0.0, 0.0), SURE_FROM),
        (0.3, 10.0, (0.95, 0.92, 0.97, 0.0, 0.0), 0.92),
        (0.3, 10.0, (0.95, 0.92, 0.2, 0.0, 0.0), 0.3),  # two of them are not enough
        (0.6, 10.0, (0.95, 0.92, 0.97, 0.0, 0.0), 0.6),  # sure enough as it is
    ],
)
def test_the_opinion_is_half_the_same_or_what_three_sizes_reach(
    confidence: float, px: float, again: tuple[float, ...], opinion: float
) -> None:
    answer = second_opinion(first(confidence, px=px), sizes(*again))
    assert answer.dtype == np.float32
    assert answer.tolist() == pytest.approx([opinion], rel=1e-6)


BOX = np.array([[10, 20, 50, 32]], np.float32)
SEEN = np.array([[[12, 18, 48, 30], [11, 21, 60, 31]]], np.float32)


@pytest.mark.parametrize(
    ("px", "may_rise", "again", "expected"),
    [
        (10.0, True, (TRUSTED_FROM, 0.9), [12, 18, 48, 30]),
        (10.0, True, (below(TRUSTED_FROM), 0.9), [11, 21, 60, 31]),
        (10.0, True, (below(TRUSTED_FROM), 0.1), [10, 20, 50, 32]),
        (RAISED_UNDER_PX, True, (0.9, 0.0), [10, 18, 50, 32]),
        (10.0, False, (0.9, 0.0), [10, 18, 50, 32]),
        (RAISED_UNDER_PX, True, (0.1, 0.9), [10, 20, 60, 32]),
    ],
    ids=["moves", "to the next size", "nobody is sure", "large: both", "shown large: both", "next"],
)
def test_a_small_box_moves_and_another_reaches_over_both(
    px: float, may_rise: bool, again: tuple[float, ...], expected: list[float]
) -> None:
    looked = first(0.6, px=px, may_rise=may_rise)
    assert corrected(looked, BOX, sizes(*again), SEEN).tolist() == [expected]


def test_there_are_as_many_sizes_as_must_agree_and_more() -> None:
    assert len(set(LOOK_WIDTHS_PX)) == len(LOOK_WIDTHS_PX) == 5
