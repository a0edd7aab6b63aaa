from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from plateblur.boxes import expand, pixel_bounds
from plateblur.sets.metrics import (
    IOU_THRESHOLDS,
    PhotoBoxes,
    Share,
    average_precision,
    calibration,
    coverage,
    expected_calibration_error,
    figures,
    match_boxes,
    over_blur,
    paired_bootstrap,
    score_photos,
    share,
    threshold_for_recall,
    wilson_interval,
)
from tests.cases import at_most

Floats = NDArray[np.float64]
HW = (900, 1600)
PLATE = [100.0, 100.0, 200.0, 160.0]  # 1:15 of 900 px
SMALL_PLATE = [400.0, 100.0, 440.0, 120.0]  # 1:45
NONE: list[list[float]] = []


def boxes(rows: list[list[float]]) -> Floats:
    return np.array(rows, dtype=np.float64).reshape(-1, 4)


def photo(truth: list[list[float]], found: list[list[float]]) -> PhotoBoxes:
    """A photo from truth boxes and found boxes, the latter with their confidence at the end."""
    rows = np.array(found, dtype=np.float64).reshape(-1, 5)
    return PhotoBoxes(HW, boxes(truth), rows[:, :4], rows[:, 4])


def measured(*photos: PhotoBoxes, margin: float = 0.0) -> tuple[Share, Share, Share, int]:
    one = figures(score_photos(photos, min_confidence=0.25, margin=margin))
    return one.recall, one.covered99, one.missed, one.false_boxes


@pytest.mark.parametrize(
    ("found", "recalled", "hidden", "missed", "false_boxes"),
    [
        ([[*PLATE, 0.9]], 1, 1, 0, 0),
        (NONE, 0, 0, 1, 0),
        ([[*PLATE, 0.24]], 0, 0, 1, 0),
        ([[*PLATE, 0.25]], 1, 1, 0, 0),
        ([[100, 100, 160, 160, 0.9]], 1, 0, 0, 0),
        ([[100, 100, 140, 160, 0.9]], 0, 0, 0, 0),
        ([[100, 100, 150, 160, 0.9], [150, 100, 200, 160, 0.4]], 1, 1, 0, 0),
        ([[90, 90, 400, 400, 0.9]], 0, 1, 0, 1),
        ([[600, 600, 700, 640, 0.9]], 0, 0, 1, 1),
    ],
    ids=[
        *("right", "none", "just unsure", "just sure", "loose", "a corner"),
        *("two halves", "far too large", "elsewhere"),
    ],
)
def test_what_happens_to_a_plate_is_counted(
    found: list[list[float]], recalled: int, hidden: int, missed: int, false_boxes: int
) -> None:
    recall, covered99, misses, off = measured(photo([PLATE], found))
    assert (recall.count, covered99.count, misses.count, off) == (
        recalled,
        hidden,
        missed,
        false_boxes,
    )


def test_a_photo_without_plates_has_only_false_boxes() -> None:
    recall, _, _, off = measured(photo([], [[*PLATE, 0.9]]), photo([], []))
    assert (recall, off) == (Share(0, 0, None, None, None), 1)


def test_a_split_without_plates_and_boxes_has_no_figures_but_zero_false_boxes() -> None:
    one = figures(score_photos([photo([], [])], min_confidence=0.25, margin=0.1))
    assert (one.ap50, one.ap50_95, one.mean_coverage, one.false_boxes) == (None, None, None, 0)


@pytest.mark.parametrize(
    ("box", "margin", "covered"),
    [
        (PLATE, 0.0, 1.0),
        ([110, 106, 190, 154], 0.0, 0.64),
        ([110, 106, 190, 154], 0.124, 3800 / 6000 + 0.36666),
        ([110, 106, 190, 154], 0.125, 1.0),
        ([100.9, 100.9, 199.1, 159.1], 0.0, 1.0),
        ([300, 300, 400, 400], 0.1, 0.0),
    ],
    ids=["right", "tight", "just too tight", "widened", "rounded outward", "elsewhere"],
)
def test_coverage_is_the_hidden_share_of_a_plates_pixels(
    box: list[float], margin: float, covered: float
) -> None:
    assert coverage(boxes([PLATE]), boxes([box]), margin=margin) == pytest.approx(covered, abs=1e-4)


def test_over_blur_counts_pixels_outside_plates_once() -> None:
    doubled = boxes([[0, 0, 20, 10], [0, 0, 20, 10]])
    share_of_picture = over_blur(boxes([[0, 0, 10, 10]]), doubled, margin=0, image_hw=(100, 100))
    assert share_of_picture == pytest.approx(0.01)


def test_blur_beyond_the_picture_is_no_over_blur() -> None:
    outside = boxes([[-50, -50, 10, 10], [-9, -9, -2, -2]])
    assert over_blur(boxes([]), outside, margin=0, image_hw=(100, 100)) == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([[*PLATE, 0.5]], [0]),
        ([[*PLATE, 0.5], [*PLATE, 0.9]], [-1, 0]),
        ([[*PLATE, 0.5], [*SMALL_PLATE, 0.9]], [0, 1]),
        ([[600, 600, 700, 640, 0.9]], [-1]),
        (NONE, []),
    ],
    ids=["one", "a double is wrong", "two plates", "elsewhere", "none"],
)
def test_each_plate_is_paired_once_and_the_surest_box_first(
    found: list[list[float]], expected: list[int]
) -> None:
    one = photo([PLATE, SMALL_PLATE], found)
    match = match_boxes(one.truth, one.xyxy, one.confidence, iou_threshold=0.5)
    assert match.tolist() == expected


@pytest.mark.parametrize(
    ("confidence", "correct", "plates", "expected"),
    [
        ([0.9], [True], 1, 1.0),
        ([0.9], [False], 1, 0.0),
        ([], [], 1, 0.0),
        ([0.9, 0.8], [False, True], 1, 0.5),
        ([0.9, 0.8], [True, False], 1, 1.0),
        ([0.9, 0.5], [True, True], 4, 51 / 101),
        ([0.9, 0.5, 0.4], [True, False, True], 2, (51 + 50 * 2 / 3) / 101),
    ],
    ids=[
        *("right", "wrong", "nothing found", "wrong one first", "wrong one last"),
        *("half found", "wrong one between"),
    ],
)
def test_average_precision_is_cocos(
    confidence: list[float], correct: list[bool], plates: int, expected: float
) -> None:
    got = average_precision(np.array(confidence), np.array(correct, dtype=bool), plates=plates)
    assert got == pytest.approx(expected)


def test_without_plates_there_is_no_average_precision() -> None:
    assert average_precision(np.array([0.9]), np.array([False]), plates=0) is None


def test_ap50_95_asks_for_tight_boxes() -> None:
    # 100 of 125 wide: IoU 0.8, right at 0.5 to 0.8 and wrong from 0.85 on.
    loose = photo([[100, 100, 200, 160]], [[100, 100, 225, 160, 0.9]])
    one = figures(score_photos([loose], min_confidence=0.25, margin=0))
    assert one.ap50 == pytest.approx(1.0)
    assert one.ap50_95 == pytest.approx(0.7)
    assert len(IOU_THRESHOLDS) == 10


def test_a_box_counts_in_the_bucket_of_its_plate() -> None:
    scores = score_photos(
        [photo([PLATE, SMALL_PLATE], [[*PLATE, 0.9], [600, 600, 640, 620, 0.8]])],
        min_confidence=0.25,
        margin=0,
    )
    near, far = figures(scores, buckets=[1]), figures(scores, buckets=[4])
    assert (near.recall.count, near.precision.of, near.false_boxes) == (1, 1, 0)
    assert (far.recall.count, far.precision.of, far.false_boxes) == (0, 1, 1)


def test_photos_can_be_counted_apart() -> None:
    scores = score_photos(
        [photo([PLATE], [[*PLATE, 0.9]]), photo([PLATE], [])], min_confidence=0.25, margin=0
    )
    assert figures(scores, photos=np.array([True, False])).recall.value == 1
    assert figures(scores, photos=np.array([False, True])).recall.value == 0


@pytest.mark.parametrize(
    ("count", "of", "low", "high"),
    [
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (5, 10, 0.2366, 0.7634),
        (98, 100, 0.930, 0.9945),
    ],
    ids=["none", "all", "half", "nearly all"],
)
def test_wilson_intervals_are_those_of_the_books(
    count: int, of: int, low: float, high: float
) -> None:
    assert list(wilson_interval(count, of)) == pytest.approx([low, high], abs=1e-4)


@pytest.mark.parametrize(("count", "of"), [(0, 0), (2, 1), (-1, 5)])
def test_a_share_of_nothing_has_no_interval(count: int, of: int) -> None:
    with pytest.raises(ValueError, match="0 <= count <= of"):
        wilson_interval(count, of)


@given(of=st.integers(1, 5000), part=st.floats(0, 1))
def test_a_share_lies_in_its_interval(of: int, part: float) -> None:
    one = share(round(part * of), of)
    assert one.low is not None
    assert one.value is not None
    assert one.high is not None
    assert 0 <= one.low <= one.value <= one.high <= 1


@pytest.mark.parametrize(
    ("target", "threshold"),
    [(1.0, 0.3), (0.75, 0.5), (0.7, 0.5), (0.5, 0.8), (0.01, 0.9)],
)
def test_the_threshold_is_the_highest_that_gives_the_recall(
    target: float, threshold: float
) -> None:
    best = np.array([0.8, 0.3, 0.9, 0.5])
    assert threshold_for_recall(best, target=target) == threshold
    assert (best >= threshold).mean() >= target


@pytest.mark.parametrize("best", [[0.9, -math.inf], []], ids=["a plate without a box", "no plates"])
def test_a_recall_out_of_reach_has_no_threshold(best: list[float]) -> None:
    assert threshold_for_recall(np.array(best), target=1.0) is None


@pytest.mark.parametrize("target", [0.0, 1.1])
def test_a_recall_out_of_range_is_refused(target: float) -> None:
    with pytest.raises(ValueError, match="target must be"):
        threshold_for_recall(np.array([0.5]), target=target)


def test_a_calibrated_model_has_no_gap() -> None:
    confidence = np.repeat([0.25, 0.75], 4)
    correct = np.array([True, False, False, False, True, True, True, False])
    bins = calibration(confidence, correct)
    assert [b.precision.of for b in bins] == [0, 0, 4, 0, 0, 0, 0, 4, 0, 0]
    assert expected_calibration_error(bins) == pytest.approx(0)


def test_a_boastful_model_has_a_gap() -> None:
    bins = calibration(np.array([1.0, 1.0]), np.array([True, False]))
    assert expected_calibration_error(bins) == pytest.approx(0.5)


def test_without_boxes_nothing_is_said_of_calibration() -> None:
    assert expected_calibration_error(calibration(np.zeros(0), np.zeros(0, dtype=bool))) is None


def test_a_model_does_not_differ_from_itself() -> None:
    counts, of = np.array([1.0, 0, 2]), np.array([2.0, 1, 2])
    drawn = paired_bootstrap((counts, counts), (of, of), resamples=200, seed=0)
    assert (drawn.value, drawn.low, drawn.high) == (0, 0, 0)


def test_a_clearly_better_model_is_better_in_every_drawing() -> None:
    ones = np.ones(200)
    drawn = paired_bootstrap((ones * 0.0, ones), (ones, ones), resamples=200, seed=0)
    assert (drawn.value, drawn.low, drawn.high) == (1, 1, 1)


def test_a_lucky_photo_shows_no_difference() -> None:
    ones = np.ones(50)
    one_more = np.eye(50)[0]
    drawn = paired_bootstrap((ones * 0, one_more), (ones, ones), resamples=500, seed=0)
    assert drawn.value == pytest.approx(0.02)
    assert drawn.low == 0


def test_without_plates_there_is_no_difference() -> None:
    zeros = np.zeros(3)
    assert paired_bootstrap((zeros, zeros), (zeros, zeros), resamples=9, seed=0).value is None


def test_models_are_compared_on_the_same_photos_only() -> None:
    three, four = np.ones(3), np.ones(4)
    with pytest.raises(ValueError, match="one length"):
        paired_bootstrap((three, four), (three, three), resamples=9, seed=0)


@pytest.mark.parametrize(
    ("truth", "xyxy", "confidence"),
    [
        (np.zeros((1, 5)), np.zeros((0, 4)), np.zeros(0)),
        (np.zeros((1, 4)), np.zeros((2, 4)), np.zeros(1)),
    ],
    ids=["truth with five columns", "a confidence too few"],
)
def test_arrays_that_do_not_belong_together_are_refused(
    truth: Floats, xyxy: Floats, confidence: Floats
) -> None:
    with pytest.raises(ValueError, match="must have shape"):
        PhotoBoxes(HW, truth, xyxy, confidence)


@st.composite
def drawn_boxes(draw: st.DrawFn, most: int = 6) -> Floats:
    """Boxes inside a 200 x 200 picture, some over each other."""
    rows = draw(
        st.lists(
            st.tuples(st.floats(0, 150), st.floats(0, 150), st.floats(1, 50), st.floats(1, 50)),
            max_size=most,
        )
    )
    return boxes([[x, y, x + w, y + h] for x, y, w, h in rows])


@pytest.mark.parametrize(
    "box",
    [
        [3113.54931640625, 929.1698608398438, 3182.7099609375, 981.3030395507812],
        [3033.62841796875, 2808.9091796875, 3224.142578125, 2933.085205078125],
    ],
    ids=["one", "another"],
)
def test_what_counts_as_hidden_is_what_the_blur_hides(box: list[float]) -> None:
    """Widened in float64, these end a pixel from where the blur, in float32, ends them."""
    found = np.array([box], np.float32)
    hidden = pixel_bounds(expand(found, 0.25), image_hw=(4000, 4000)).astype(np.float64)
    around = hidden + np.array([-1, -1, 1, 1])
    width, height = hidden[0, 2:] - hidden[0, :2]

    assert coverage(hidden, found.astype(np.float64), margin=0.25).tolist() == [1.0]
    assert coverage(around, found.astype(np.float64), margin=0.25).tolist() == [
        width * height / ((width + 2) * (height + 2))
    ]


@at_most(60)
@given(truth=drawn_boxes(), found=drawn_boxes(), margin=st.floats(0, 0.5))
def test_a_wider_margin_or_one_more_box_never_uncovers(
    truth: Floats, found: Floats, margin: float
) -> None:
    covered = coverage(truth, found, margin=margin)
    assert ((covered >= 0) & (covered <= 1)).all()
    assert (coverage(truth, found, margin=margin + 0.1) >= covered).all()
    assert (coverage(truth, found[1:], margin=margin) <= covered).all()
    assert (coverage(truth, truth, margin=margin) == 1).all()


@at_most(60)
@given(truth=drawn_boxes(), found=drawn_boxes(), data=st.data())
def test_figures_stay_in_range_and_ap_falls_with_iou(
    truth: Floats, found: Floats, data: st.DataObject
) -> None:
    confidence = np.array(
        data.draw(st.lists(st.floats(0.01, 1), min_size=len(found), max_size=len(found)))
    )
    one = PhotoBoxes((200, 200), truth, found, confidence.reshape(len(found)))
    scores = score_photos([one], min_confidence=0.25, margin=0.15)
    got = figures(scores)
    for pairs in scores.match:
        plates = pairs[pairs >= 0].tolist()
        assert len(set(plates)) == len(plates)
    # Greedy pairing is one of the ways to pair, so it never pairs more plates than have a box.
    assert (scores.match[0] >= 0).sum() <= (scores.best_confidence > 0).sum()
    if len(truth):
        assert got.ap50 is not None
        assert got.ap50_95 is not None
        assert 0 <= got.ap50_95 <= got.ap50 + 1e-9 <= 1 + 2e-9


@at_most(40)
@given(truth=drawn_boxes())
def test_perfect_boxes_are_perfect(truth: Floats) -> None:
    one = PhotoBoxes((200, 200), truth, truth, np.full(len(truth), 0.9))
    got = figures(score_photos([one], min_confidence=0.25, margin=0))
    assert got.recall.count == got.covered99.count == len(truth)
    assert got.false_boxes == 0
