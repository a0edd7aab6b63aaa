"""The plan of the looks at a photo, and how what they find becomes one list."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plateblur.looks import (
    LARGEST_INPUT,
    LAYER_STEP,
    LONGEST_PLATE,
    NEAR_EDGE_PX,
    SEEN_PX,
    SMALL_LOOK_FROM,
    Look,
    Plan,
    Seen,
    added,
    merged,
    new_or_surer,
    plan_looks,
    seen_in_photo,
)
from plateblur.types import Boxes, Detections, Effort
from tests.fakes import boxes


def planned(
    image_hw: tuple[int, int], effort: Effort = "default", smallest_plate_px: float = 12.0
) -> Plan:
    """The plan with the shipped model's input size and stride."""
    return plan_looks(
        image_hw, input_size=896, stride=32, smallest_plate_px=smallest_plate_px, effort=effort
    )


def inputs_mpx(plan: Plan) -> float:
    """What the model computes, in megapixels of input: the cost of a plan."""
    cost = 0.0
    for look in (*plan.looks, *plan.further):
        left, top, right, bottom = look.part
        sides = right - left, bottom - top
        cost += look.input_size**2 * min(sides) / max(sides) / 1e6
    return cost


@pytest.mark.parametrize(
    ("image_hw", "effort", "looks", "most_mpx", "smallest_px"),
    [
        ((1080, 1920), "fast", 1, 0.46, 12.0),
        ((1080, 1920), "default", 2, 0.49, 12.0),
        ((1920, 1080), "default", 2, 0.49, 12.0),
        ((1080, 1920), "thorough", 16, 9.4, 3.4),
        ((720, 1280), "default", 2, 0.49, 8.0),
        ((480, 640), "default", 2, 0.7, 4.0),
        ((1536, 2048), "default", 2, 0.8, 12.0),
        ((3000, 4000), "default", 14, 13, 6.7),
        ((3000, 4000), "fast", 1, 0.61, 25.0),
        ((3000, 4000), "thorough", 108, 102, 3.4),
        ((2160, 3840), "default", 10, 8, 6.8),
        ((3840, 7680), "default", 32, 33, 6.7),
        ((7071, 14142), "default", 99, 112, 6.7),
        ((50000, 2000), "default", 109, 103, 6.8),
        ((1, 1), "default", 2, 0.9, 12.0),
        ((1, 5000), "default", 7, 0.01, 6.7),
        ((5000, 1), "thorough", 40, 0.04, 3.4),
    ],
)
def test_the_plan_fits_the_photo(
    image_hw: tuple[int, int], effort: Effort, looks: int, most_mpx: float, smallest_px: float
) -> None:
    plan = planned(image_hw, effort)
    assert plan.searched.looks == len(plan.looks) + len(plan.further) == looks
    assert plan.searched.smallest_plate_px <= smallest_px
    assert inputs_mpx(plan) <= most_mpx
    if effort == "fast":
        assert plan.searched.smallest_plate_px == pytest.approx(smallest_px, abs=0.05)


def test_an_ordinary_photo_has_one_look_at_the_whole_and_a_small_one() -> None:
    plan = planned((1080, 1920))
    whole = (0, 0, 1920, 1080)
    assert plan.looks == (Look(whole, 896), Look(whole, 224, narrowest=SMALL_LOOK_FROM))


@pytest.mark.parametrize("px", [6.0, 12.0, 24.0, 48.0, 500.0])
def test_the_smallest_plate_decides_what_a_large_photo_costs(px: float) -> None:
    plan = planned((3840, 7680), smallest_plate_px=px)
    assert plan.searched.smallest_plate_px <= px
    finer = planned((3840, 7680), smallest_plate_px=px / 2)
    assert inputs_mpx(finer) >= inputs_mpx(plan)


def test_the_cost_follows_the_area_and_not_its_square() -> None:
    costs = [inputs_mpx(planned((side, 2 * side))) for side in (3536, 7071)]
    assert costs[1] < 5 * costs[0]


sizes = st.integers(1, 20_000)


@pytest.mark.slow
@given(height=sizes, width=sizes, px=st.floats(4, 100), thorough=st.booleans())
def test_a_plate_of_any_size_is_whole_in_a_look_that_shows_it_large_enough(
    height: int, width: int, px: float, thorough: bool
) -> None:
    """Five times as wide as high, of the size asked for up to what the small look sees."""
    effort: Effort = "thorough" if thorough else "default"
    plan = planned((height, width), smallest_plate_px=px, effort=effort)
    looks = (*plan.looks, *plan.further)
    parts = np.array([look.part for look in looks])
    shown = np.array([look.input_size for look in looks])
    scale = shown / (parts[:, 2:] - parts[:, :2]).max(axis=1)
    assert (parts[:, :2] >= 0).all()
    assert (parts[:, 2:] <= [width, height]).all()
    assert (parts[:, :2] < parts[:, 2:]).all()
    assert (shown % 32 == 0).all()
    assert shown.max() <= 896 * LARGEST_INPUT
    rng = np.random.default_rng(height + width)
    smallest = min(max(px, plan.smallest_plate_px), height, width / LONGEST_PLATE)
    largest = min(height, width / LONGEST_PLATE, max(height, width) * SEEN_PX / 224)
    if smallest < px:
        return  # such a photo has no room for the plate
    for _ in range(20):
        plate_h = np.exp(rng.uniform(np.log(smallest), np.log(max(smallest, largest))))
        plate_wh = np.array([LONGEST_PLATE * plate_h, plate_h])
        at = rng.uniform(0, 1, 2) * (np.array([width, height]) - plate_wh)
        whole = (parts[:, :2] <= at + 1).all(axis=1)
        whole &= (parts[:, 2:] >= at + plate_wh - 1).all(axis=1)
        seen_px = plate_h * scale[whole]
        assert ((seen_px >= SEEN_PX * 0.999) & (plate_wh[0] * scale[whole] <= 1120)).any()


@pytest.mark.parametrize(
    "changes",
    [
        {"image_hw": (0, 5)},
        {"smallest_plate_px": 0.5},
        {"smallest_plate_px": float("nan")},
        {"smallest_plate_px": float("inf")},
        {"effort": "hard"},
    ],
    ids=["empty", "too-small", "nan", "inf", "effort"],
)
def test_what_cant_be_planned_is_refused(changes: dict[str, object]) -> None:
    given_ = {"image_hw": (10, 10), **changes}
    with pytest.raises(ValueError, match=f"{next(iter(changes))} must be"):
        planned(**given_)  # type: ignore[arg-type]


def test_thorough_also_looks_at_each_turned_copy() -> None:
    assert get_args(Effort) == ("fast", "default", "thorough")
    plain = planned((1080, 1920)).looks
    thorough = planned((1080, 1920), "thorough")
    assert thorough.looks == plain
    assert not set(thorough.further) & set(plain)
    for turn in (1, 2, 3):
        turned = [look for look in thorough.further if look.turn == turn]
        assert [(look.part, look.input_size) for look in turned] == [
            (look.part, look.input_size) for look in plain
        ]
    assert LAYER_STEP > 1


# What a look found, in the photo. The photo is 1000 x 500, its left half a tile shown at its size.

HALF = Look((0, 0, 500, 500), 500)


@pytest.mark.parametrize(
    ("box", "cut"),
    [
        ([100, 100, 200, 120], False),
        ([0, 100, 100, 120], False),
        ([100, 480, 200, 500], False),
        ([450, 100, 500, 120], True),
        ([450, 100, 500 - NEAR_EDGE_PX + 0.5, 120], True),
        ([450, 100, 500 - NEAR_EDGE_PX - 0.5, 120], False),
    ],
    ids=["inside", "photo's left", "photo's bottom", "inner edge", "near it", "beside it"],
)
def test_a_box_is_cut_where_the_tile_ends_and_not_the_photo(box: list[float], cut: bool) -> None:
    seen = seen_in_photo(HALF, boxes(box), np.array([0.9], np.float32), (500, 1000))
    assert seen.cut.tolist() == [cut]


def test_boxes_of_a_tile_are_moved_to_where_it_lies() -> None:
    look = Look((500, 100, 1000, 500), 500, turn=2)
    seen = seen_in_photo(look, boxes([10, 20, 60, 40]), np.array([0.9], np.float32), (500, 1000))
    assert seen.xyxy.tolist() == [[510, 120, 560, 140]]
    assert seen.turn.tolist() == [2]


@pytest.mark.parametrize(("turn", "shown_px"), [(0, 40), (1, 100), (2, 40), (3, 100)])
def test_a_plate_is_shown_as_high_as_it_is_across_its_letters(turn: int, shown_px: float) -> None:
    look = Look((500, 0, 1000, 500), 1000, turn=turn)  # at twice its size
    seen = seen_in_photo(look, boxes([10, 20, 60, 40]), np.array([0.9], np.float32), (500, 1000))
    assert (seen.shown_px.tolist(), seen.scale.tolist()) == ([shown_px], [2])


def test_a_further_box_counts_where_it_is_new_or_surer() -> None:
    to = Detections(boxes([0, 0, 100, 40], [200, 0, 300, 40]), np.array([0.8, 0.5], np.float32))
    xyxy = boxes([2, 0, 100, 40], [2, 0, 100, 40], [2, 0, 100, 40], [80, 0, 180, 40])
    confidence = np.array([0.7, 0.8, 0.9, 0.1], np.float32)
    assert new_or_surer(xyxy, confidence, to).tolist() == [False, False, True, True]
    assert new_or_surer(boxes(), confidence[:0], to).tolist() == []


def test_the_small_look_keeps_what_is_a_quarter_of_the_photo() -> None:
    look = Look((0, 0, 1000, 500), 224, narrowest=0.25)
    found = boxes([0, 0, 249, 50], [0, 0, 251, 50], [0, 0, 100, 124], [0, 0, 100, 126])
    seen = seen_in_photo(look, found, np.full(4, 0.9, np.float32), (500, 1000))
    assert seen.xyxy[:, 2:].tolist() == [[251, 50], [100, 126]]


def seen(*rows: tuple[list[float], float, bool], coarse: bool = False) -> Seen:
    """One look's boxes, with confidence and whether they are cut."""
    return Seen(
        boxes(*(box for box, _, _ in rows)),
        np.array([confidence for _, confidence, _ in rows], np.float32),
        np.array([cut for _, _, cut in rows], np.bool_),
        np.zeros(len(rows), np.int64),
        np.full(len(rows), 20, np.float32),
        np.full(len(rows), 0.5, np.float32),
        np.full(len(rows), coarse),
    )


WHOLE = [400.0, 100, 600, 140]
LEFT_HALF = [400.0, 100, 500, 140]
RIGHT_HALF = [500.0, 100, 600, 140]
ELSEWHERE = [100.0, 300, 200, 320]
COARSE = [405.0, 105, 595, 136]


@pytest.mark.parametrize(
    ("fine", "coarse", "stays"),
    [(0.9, 0.9, WHOLE), (0.9, 0.99, WHOLE), (0.5, 0.95, COARSE)],
    ids=["as sure", "a bit surer", "much surer"],
)
def test_the_small_look_draws_a_box_only_where_it_is_much_surer(
    fine: float, coarse: float, stays: list[float]
) -> None:
    one = merged([seen((COARSE, coarse, False), coarse=True), seen((WHOLE, fine, False))])
    assert one.xyxy.tolist() == [stays]
    assert one.confidence.tolist() == pytest.approx([max(fine, coarse)])


@pytest.mark.parametrize(
    ("looks", "kept"),
    [
        ([seen((WHOLE, 0.6, False)), seen((LEFT_HALF, 0.9, True))], [(WHOLE, 0.9)]),
        ([seen((LEFT_HALF, 0.9, True)), seen((WHOLE, 0.6, False))], [(WHOLE, 0.9)]),
        (
            [seen((LEFT_HALF, 0.9, True)), seen((RIGHT_HALF, 0.5, True))],
            [(LEFT_HALF, 0.9), (RIGHT_HALF, 0.5)],
        ),
        (
            [
                seen((WHOLE, 0.3, False)),
                seen((LEFT_HALF, 0.9, True)),
                seen((RIGHT_HALF, 0.5, True)),
            ],
            [(WHOLE, 0.9)],
        ),
        (
            [seen((WHOLE, 0.6, False), (ELSEWHERE, 0.7, False))],
            [(ELSEWHERE, 0.7), (WHOLE, 0.6)],
        ),
        ([seen((WHOLE, 0.6, False)), seen((WHOLE, 0.8, False))], [(WHOLE, 0.8)]),
        (
            [seen((WHOLE, 0.6, False)), seen((LEFT_HALF, 0.5, False))],
            [(WHOLE, 0.6), (LEFT_HALF, 0.5)],
        ),
        ([seen((LEFT_HALF, 0.6, True))], [(LEFT_HALF, 0.6)]),
        ([seen(), seen()], []),
    ],
    ids=[
        *("cut after whole", "cut before whole", "two halves", "halves and whole", "two plates"),
        *("the surer of two", "a whole part stays", "cut alone", "none"),
    ],
)
def test_one_plate_is_one_box_and_no_sighting_is_lost(
    looks: list[Seen], kept: list[tuple[list[float], float]]
) -> None:
    found = merged(looks)
    assert found.xyxy.tolist() == [box for box, _ in kept]
    assert found.confidence.tolist() == pytest.approx([confidence for _, confidence in kept])


@given(
    st.lists(
        st.tuples(
            st.tuples(*[st.integers(0, 60)] * 2, *[st.integers(1, 40)] * 2),
            st.floats(0.0625, 1, width=32),
            st.booleans(),
        ),
        max_size=12,
    )
)
def test_whatever_the_looks_see_the_surest_box_lies_on_something_kept_as_sure(
    rows: list[tuple[tuple[int, int, int, int], float, bool]],
) -> None:
    given_ = [([float(x), y, x + w, y + h], c, cut) for (x, y, w, h), c, cut in rows]
    found = merged([seen(row) for row in given_] or [seen()])
    assert list(found.confidence) == sorted(found.confidence, reverse=True)
    for box, confidence, _ in given_:
        sure: Boxes = found.xyxy[found.confidence >= np.float32(confidence)]
        x1, y1, x2, y2 = box
        overlap = np.minimum(sure[:, 2:], [x2, y2]) - np.maximum(sure[:, :2], [x1, y1])
        assert (overlap > 0).all(axis=1).any()


sightings = st.lists(
    st.tuples(
        st.tuples(*[st.integers(0, 60)] * 2, *[st.integers(1, 40)] * 2),
        st.floats(0.0625, 1, width=32),
    ),
    max_size=8,
)


@given(sightings, sightings)
def test_further_looks_take_nothing_away(
    usual: list[tuple[tuple[int, int, int, int], float]],
    further: list[tuple[tuple[int, int, int, int], float]],
) -> None:
    first, more = (
        Detections(
            boxes(*([float(x), y, x + w, y + h] for (x, y, w, h), _ in rows)),
            np.array([confidence for _, confidence in rows], np.float32),
        )
        for rows in (usual, further)
    )
    found = added(more.xyxy, more.confidence, to=first)
    assert list(found.confidence) == sorted(found.confidence, reverse=True)
    assert len(found) <= len(first) + len(more)
    for each in (first, more):
        for box, confidence in zip(each.xyxy, each.confidence, strict=True):
            holds = (found.xyxy[:, :2] <= box[:2]).all(axis=1)
            holds &= (found.xyxy[:, 2:] >= box[2:]).all(axis=1)
            assert (found.confidence[holds] >= confidence).any()
