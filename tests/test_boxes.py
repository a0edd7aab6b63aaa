"""Boxes: rounded outward, widened, compared and suppressed; nothing inside a box gets lost."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plateblur.boxes import (
    box_overlap,
    expand,
    iou_matrix,
    keepers,
    non_max_suppression,
    pixel_bounds,
)
from plateblur.types import Boxes
from tests.fakes import boxes

HW = (480, 640)
HUGE = float(np.finfo(np.float32).max)


def sides(limit: float) -> st.SearchStrategy[list[float]]:
    side = st.floats(-limit, limit, width=32)
    return st.tuples(side, side, side, side).map(
        lambda s: [min(s[0], s[2]), min(s[1], s[3]), max(s[0], s[2]), max(s[1], s[3])]
    )


def some_boxes(limit: float = 1000.0, *, most: int = 8) -> st.SearchStrategy[Boxes]:
    return st.lists(sides(limit), max_size=most).map(lambda rows: boxes(*rows))


@given(some_boxes())
def test_every_pixel_that_a_box_touches_is_within_its_bounds(xyxy: Boxes) -> None:
    bounds = pixel_bounds(xyxy, image_hw=HW)
    assert bounds.dtype == np.int64
    for (x1, y1, x2, y2), (left, top, right, bottom) in zip(xyxy, bounds, strict=True):
        assert left <= max(x1, 0) or x1 > HW[1]
        assert top <= max(y1, 0) or y1 > HW[0]
        assert right >= min(x2, HW[1])
        assert bottom >= min(y2, HW[0])
        assert 0 <= left <= HW[1]
        assert 0 <= right <= HW[1]
        assert 0 <= top <= HW[0]
        assert 0 <= bottom <= HW[0]


@given(some_boxes())
def test_bounds_reach_at_most_a_pixel_beyond_the_box(xyxy: Boxes) -> None:
    inner = xyxy.clip(0, [HW[1], HW[0], HW[1], HW[0]])
    bounds = pixel_bounds(xyxy, image_hw=HW)
    assert (inner[:, :2] - bounds[:, :2] <= 1).all()
    assert (bounds[:, 2:] - inner[:, 2:] <= 1).all()


@pytest.mark.parametrize(
    ("box", "bounds"),
    [
        ([10, 20, 30, 40], [10, 20, 30, 40]),
        ([10.1, 20.9, 30.1, 40.9], [10, 20, 31, 41]),
        ([-5.5, -5.5, 5, 5], [0, 0, 5, 5]),
        ([635, 475, 700, 500], [635, 475, 640, 480]),
        ([10.5, 10.5, 10.5, 10.5], [10, 10, 11, 11]),
        ([10, 10, 10, 10], [10, 10, 10, 10]),
        ([-20, -20, -10, -10], [0, 0, 0, 0]),
        ([700, 500, 800, 600], [640, 480, 640, 480]),
        ([-HUGE, -HUGE, HUGE, HUGE], [0, 0, 640, 480]),
        ([5, 5, 1e20, 1e20], [5, 5, 640, 480]),
    ],
    ids=[
        *("whole", "outward", "left-top", "right-bottom", "within-a-pixel", "empty"),
        *("left-of-image", "right-of-image", "all-numbers", "beyond-int64"),
    ],
)
def test_bounds_are_rounded_outward_and_clipped(box: list[float], bounds: list[int]) -> None:
    assert pixel_bounds(boxes(box), image_hw=HW).tolist() == [bounds]


@pytest.mark.parametrize(
    "box",
    [[np.nan, 0, 1, 1], [0, 0, np.inf, 1], [30, 0, 10, 5], [0, 30, 5, 10]],
    ids=["nan", "infinite", "right-before-left", "bottom-before-top"],
)
def test_a_box_that_would_hide_nothing_is_refused(box: list[float]) -> None:
    with pytest.raises(ValueError, match="xyxy must"):
        pixel_bounds(boxes(box), image_hw=HW)


@pytest.mark.parametrize(
    "call",
    [
        lambda xyxy: pixel_bounds(xyxy, image_hw=HW),
        lambda xyxy: expand(xyxy, 0.1),
        lambda xyxy: iou_matrix(xyxy, boxes()),
        lambda xyxy: iou_matrix(boxes(), xyxy),
        lambda xyxy: non_max_suppression(xyxy, np.zeros(2, np.float32), iou_threshold=0.5),
    ],
    ids=["pixel_bounds", "expand", "iou_matrix-a", "iou_matrix-b", "non_max_suppression"],
)
@pytest.mark.parametrize("shape", [(4,), (2, 5), (1, 2, 4)], ids=str)
def test_arrays_that_are_no_boxes_are_refused(
    call: Callable[[Boxes], object], shape: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match=r"shape \(N, 4\)"):
        call(np.zeros(shape, np.float32))


@given(some_boxes(), st.floats(0, 2))
def test_a_widened_box_covers_the_box(xyxy: Boxes, margin: float) -> None:
    wide = expand(xyxy, margin)
    assert wide.shape == xyxy.shape
    assert (wide[:, :2] <= xyxy[:, :2]).all()
    assert (wide[:, 2:] >= xyxy[:, 2:]).all()


def test_a_margin_is_a_share_of_the_box_on_each_side() -> None:
    assert expand(boxes([100, 100, 200, 120]), 0.15).tolist() == [[85, 97, 215, 123]]


@pytest.mark.parametrize("margin", [-0.01, np.nan, np.inf], ids=str)
def test_a_margin_that_would_uncover_is_refused(margin: float) -> None:
    with pytest.raises(ValueError, match="margin"):
        expand(boxes([0, 0, 1, 1]), margin)


@given(some_boxes(), some_boxes())
def test_iou_is_a_share_and_the_same_both_ways(a: Boxes, b: Boxes) -> None:
    iou = iou_matrix(a, b)
    assert iou.shape == (len(a), len(b))
    assert ((iou >= 0) & (iou <= 1)).all()
    assert np.array_equal(iou, iou_matrix(b, a).T)


@given(some_boxes(HUGE))
def test_iou_of_boxes_of_any_size_is_a_number(xyxy: Boxes) -> None:
    assert np.isfinite(iou_matrix(xyxy, xyxy)).all()


@pytest.mark.parametrize(
    ("other", "iou"),
    [
        ([0, 0, 10, 10], 1.0),
        ([0, 0, 10, 5], 0.5),
        ([5, 0, 15, 10], 1 / 3),
        ([10, 0, 20, 10], 0.0),
        ([3, 3, 3, 3], 0.0),
    ],
    ids=["same", "half", "shifted", "touching", "empty"],
)
def test_iou_of_known_boxes(other: list[float], iou: float) -> None:
    assert iou_matrix(boxes([0, 0, 10, 10]), boxes(other))[0, 0] == pytest.approx(iou)


detections = some_boxes(100.0, most=12).flatmap(
    lambda xyxy: st.tuples(
        st.just(xyxy),
        st.lists(st.floats(0, 1, width=32), min_size=len(xyxy), max_size=len(xyxy)).map(
            lambda c: np.array(c, np.float32)
        ),
        st.floats(0, 1),
    )
)


@pytest.mark.slow
@given(detections)
def test_nms_keeps_the_best_and_nothing_that_overlaps_it(
    given_: tuple[Boxes, np.ndarray, float],
) -> None:
    xyxy, confidence, threshold = given_
    kept = non_max_suppression(xyxy, confidence, iou_threshold=threshold)
    if len(xyxy):
        assert confidence[kept[0]] == confidence.max()
    assert (np.diff(confidence[kept]) <= 0).all()
    among = iou_matrix(xyxy[kept], xyxy[kept])
    np.fill_diagonal(among, 0)
    assert (among <= np.float32(threshold)).all()


@pytest.mark.slow
@given(detections)
def test_nms_drops_only_what_a_better_box_stands_for(
    given_: tuple[Boxes, np.ndarray, float],
) -> None:
    xyxy, confidence, threshold = given_
    kept = non_max_suppression(xyxy, confidence, iou_threshold=threshold)
    for i in set(range(len(xyxy))) - set(kept.tolist()):
        overlap = iou_matrix(xyxy[i][None], xyxy[kept])[0]
        assert ((overlap > threshold) & (confidence[kept] >= confidence[i])).any()


@given(detections)
def test_nms_of_what_nms_kept_keeps_it_all(given_: tuple[Boxes, np.ndarray, float]) -> None:
    xyxy, confidence, threshold = given_
    kept = non_max_suppression(xyxy, confidence, iou_threshold=threshold)
    again = non_max_suppression(xyxy[kept], confidence[kept], iou_threshold=threshold)
    assert again.tolist() == list(range(len(kept)))


def test_nms_refuses_confidences_of_other_boxes() -> None:
    with pytest.raises(ValueError, match="confidence must have shape"):
        non_max_suppression(boxes([0, 0, 1, 1]), np.zeros(2, np.float32), iou_threshold=0.5)


def greedy(
    xyxy: Boxes, order: list[int], iou_threshold: float, cut: list[bool], cut_inside: float
) -> list[int]:
    """NMS as it is told, every box against every other."""
    keeper = [-1] * len(xyxy)
    for best in order:
        if keeper[best] >= 0:
            continue
        for other in range(len(xyxy)):
            if keeper[other] >= 0:
                continue
            x1, y1 = np.maximum(xyxy[best, :2], xyxy[other, :2])
            x2, y2 = np.minimum(xyxy[best, 2:], xyxy[other, 2:])
            shared = max(0.0, float(x2 - x1)) * max(0.0, float(y2 - y1))
            size = float(np.prod(xyxy[other, 2:] - xyxy[other, :2]))
            size_best = float(np.prod(xyxy[best, 2:] - xyxy[best, :2]))
            is_same = shared / (size + size_best - shared) > iou_threshold
            if is_same or (cut[other] and shared / size >= cut_inside):
                keeper[other] = best
        keeper[best] = best
    return keeper


corners = st.tuples(*[st.integers(0, 30)] * 2, *[st.integers(1, 20)] * 2)


@given(
    st.lists(st.tuples(corners, st.booleans()), max_size=15),
    st.sampled_from([0.1, 0.3, 0.5, 0.7]),
    st.randoms(use_true_random=False),
)
def test_comparing_neighbours_alone_is_the_same_as_comparing_all(
    rows: list[tuple[tuple[int, int, int, int], bool]], iou_threshold: float, random: Random
) -> None:
    xyxy = boxes(*([x, y, x + w, y + h] for (x, y, w, h), _ in rows))
    cut = [one for _, one in rows]
    order = list(range(len(rows)))
    random.shuffle(order)
    found = keepers(
        np.array(order, np.int64),
        box_overlap(xyxy, least=min(iou_threshold, 0.5)),
        iou_threshold=iou_threshold,
        cut=np.array(cut, np.bool_),
        cut_inside=0.5,
    )
    assert found.tolist() == greedy(xyxy, order, iou_threshold, cut, 0.5)


@pytest.mark.parametrize("least", [0.05, 0.3, 0.6])
def test_boxes_that_are_not_compared_share_too_little(least: float) -> None:
    drawn = np.random.default_rng(0)
    left_top = drawn.uniform(-40, 40, (120, 2)).astype(np.float32)
    size = drawn.uniform(1, [60, 12], (120, 2)).astype(np.float32)
    xyxy = np.concatenate([left_top, left_top + size], axis=1)
    area = size.prod(axis=1)
    overlap = box_overlap(xyxy, least=least)
    for best, iou in enumerate(iou_matrix(xyxy, xyxy)):
        rows, found, inside = overlap(best, np.ones(len(xyxy), np.bool_))
        others = np.setdiff1d(np.arange(len(xyxy)), rows)
        shared = iou * (area[best] + area) / (1 + iou)
        assert (iou[others] < least).all()
        assert (shared[others] / area[others] < least).all()
        assert found == pytest.approx(iou[rows], abs=1e-4)
        assert inside == pytest.approx(shared[rows] / area[rows], abs=1e-3)
