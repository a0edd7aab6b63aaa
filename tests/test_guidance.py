from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plateblur.guidance import (
    BUCKET_NAMES,
    advice,
    bucket_indices,
    hidden_advice,
    marks,
    plate_ratios,
    ratio_text,
    within_guidance,
)


def bucket_name(ratio: float) -> str:
    (index,) = bucket_indices(np.array([ratio]))
    return BUCKET_NAMES[index]


@pytest.mark.parametrize(
    ("box_height_px", "text"),
    [(87.1, "1:12.4"), (72, "1:15"), (49, "1:22.1"), (108, "1:10"), (1080, "1:1"), (0, "1:inf")],
    ids=["usual", "on the edge", "far", "whole number", "whole picture", "flat"],
)
def test_a_ratio_is_written_as_people_write_it(box_height_px: float, text: str) -> None:
    boxes = np.array([[0, 100, 50, 100 + box_height_px]])
    assert ratio_text(plate_ratios(boxes, image_hw=(1080, 1920))[0]) == text


@pytest.mark.parametrize(
    ("ratio", "bucket"),
    [
        (0.5, ">=1:10"),
        (1 / 10, ">=1:10"),
        (0.0999, "1:10-1:15"),
        (1 / 15, "1:10-1:15"),
        (0.0666, "1:15-1:20"),
        (1 / 20, "1:15-1:20"),
        (1 / 30, "1:20-1:30"),
        (1 / 60, "1:30-1:60"),
        (0.0166, "<1:60"),
        (0.0, "<1:60"),
    ],
)
def test_a_plate_on_an_edge_is_in_the_nearer_bucket(ratio: float, bucket: str) -> None:
    assert bucket_name(ratio) == bucket


@pytest.mark.parametrize(
    ("ratio", "said"),
    [
        (1 / 12.4, "1:12.4, within 1:15"),
        (1 / 15, "1:15, within 1:15"),
        (1 / 22, "1:22, may be missed: come closer or use a longer lens"),
    ],
    ids=["near", "on the edge", "far"],
)
def test_people_are_told_what_to_do(ratio: float, said: str) -> None:
    assert advice(ratio) == said


@pytest.mark.parametrize(
    ("ratio", "said"),
    [
        (1 / 12.4, "Hidden. 1:12.4, within 1:15"),
        (1 / 83, "Hidden. Small (1:83): look for others like it"),
    ],
    ids=["near", "far"],
)
def test_a_hidden_plate_is_never_said_to_be_missed(ratio: float, said: str) -> None:
    assert hidden_advice(ratio) == said


BOX = [100.0, 100.0, 200.0, 150.0]


@pytest.mark.parametrize(
    ("xyxy", "confidence", "expected"),
    [
        ([], [], []),
        ([BOX], [0.9], []),
        ([BOX], [0.59], ["unsure"]),
        ([[100, 100, 140, 120]], [0.9], ["small"]),
        ([[0, 100, 100, 150]], [0.9], ["edge"]),
        ([[900, 100, 999, 150]], [0.9], ["edge"]),
        ([BOX, [0, 0, 20, 10]], [0.9, 0.5], ["edge", "small", "unsure"]),
    ],
    ids=["none", "sure", "unsure", "small", "left edge", "right edge", "all"],
)
def test_a_photo_is_marked_for_what_to_look_at(
    xyxy: list[list[float]], confidence: list[float], expected: list[str]
) -> None:
    boxes = np.array(xyxy, np.float32).reshape(-1, 4)
    assert marks(boxes, np.array(confidence), image_hw=(1000, 1000)) == expected


@settings(deadline=None)  # a busy machine is no failure
@given(ratio=st.floats(min_value=1e-4, max_value=1))
def test_the_text_and_the_verdict_never_disagree(ratio: float) -> None:
    written = float(ratio_text(ratio).removeprefix("1:"))
    assert (written <= 15) == within_guidance(ratio) or written == pytest.approx(15, abs=1e-6)
    assert BUCKET_NAMES.index(bucket_name(ratio)) <= 1 or not within_guidance(ratio)


def test_no_boxes_have_no_ratios() -> None:
    assert plate_ratios(np.zeros((0, 4)), image_hw=(1080, 1920)).shape == (0,)


def test_an_image_without_height_is_refused() -> None:
    with pytest.raises(ValueError, match="image_hw must be positive"):
        plate_ratios(np.zeros((1, 4)), image_hw=(0, 1920))
