from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plateblur.sets.corrections import correct, parse_corrections
from plateblur.sets.labels import label_file, labels_to_xyxy, xyxy_to_labels

HW = (1080, 1920)
PLATE = [100.0, 200.0, 200.0, 240.0]
FAR_PLATE = [900.0, 500.0, 920.0, 508.0]


@pytest.mark.parametrize(
    ("photo", "label"),
    [
        ("set/images/train/a.b.webp", "set/labels/train/a.b.txt"),
        ("images/old/images/a.jpg", "images/old/labels/a.txt"),
        ("set/a.jpg", "set/a.txt"),
        ("set/images", "set/images.txt"),
    ],
    ids=["usual", "the last of two", "no such folder", "a photo of that name"],
)
def test_labels_stand_where_ultralytics_looks(photo: str, label: str) -> None:
    assert label_file(Path(photo)) == Path(label)


def test_a_line_becomes_a_box_in_pixels() -> None:
    boxes = labels_to_xyxy("0 0.5 0.5 0.25 0.1\n", image_hw=(100, 200))
    assert boxes == pytest.approx(np.array([[75, 45, 125, 55]]))


@pytest.mark.parametrize("text", ["", "\n\n"], ids=["no text", "empty lines"])
def test_a_file_without_lines_has_no_plates(text: str) -> None:
    assert labels_to_xyxy(text, image_hw=HW).shape == (0, 4)
    assert xyxy_to_labels(np.zeros((0, 4)), image_hw=HW) == ""


def test_a_polygon_becomes_the_box_around_it() -> None:
    boxes = labels_to_xyxy("0 0.1 0.2 0.3 0.2 0.4 0.6 0.2 0.5", image_hw=(100, 100))
    assert boxes == pytest.approx(np.array([[10, 20, 40, 60]]))


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("0 0.5 0.5 0.2", "got 3 numbers"),
        ("0 0.5 0.5 0.2 0.1 0.93", "polygon|numbers"),
        ("plate 0.5 0.5 0.2 0.1", "whole class number"),
        ("0 0.5 0.5 wide 0.1", "whole class number"),
        ("0 960 540 100 40", "pixels"),
        ("0 0.5 0.5 nan 0.1", "between 0 and 1"),
        ("0 0.5 0.5 0 0.1", "an area"),
        ("3 0.5 0.5 0.2 0.1", "expected class 0, got 3"),
    ],
    ids=["short", "five numbers", "named class", "word", "pixels", "NaN", "flat", "other class"],
)
def test_a_malformed_line_is_refused_by_its_number(line: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=f"label line 2: .*({complaint})"):
        labels_to_xyxy(f"0 0.5 0.5 0.2 0.1\n{line}", image_hw=HW)


def test_other_classes_of_a_foreign_set_are_left_out_when_the_plates_are_named() -> None:
    text = "0 0.2 0.2 0.1 0.1\n7 0.5 0.5 0.2 0.1\n"
    assert len(labels_to_xyxy(text, image_hw=HW, plate_classes={7})) == 1


@settings(deadline=None)  # a busy machine is no failure
@given(
    left=st.floats(0, 1900),
    top=st.floats(0, 1060),
    width=st.floats(1, 400),
    height=st.floats(1, 300),
)
def test_boxes_come_back_from_labels(left: float, top: float, width: float, height: float) -> None:
    box = np.array([[left, top, left + width, top + height]])
    back = labels_to_xyxy(xyxy_to_labels(box, image_hw=HW), image_hw=HW)
    clipped = box.clip(0, [1920, 1080, 1920, 1080])
    assert back == pytest.approx(clipped, abs=0.003)


@pytest.mark.parametrize(
    "box",
    [[5.0, 5.0, 5.0, 9.0], [2000.0, 5.0, 2100.0, 9.0], [float("nan"), 5.0, 9.0, 9.0]],
    ids=["flat", "beside the image", "NaN"],
)
def test_a_box_without_area_in_the_image_is_no_label(box: list[float]) -> None:
    with pytest.raises(ValueError, match="no area inside"):
        xyxy_to_labels(np.array([box]), image_hw=HW)


def test_boxes_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(N, 4\)"):
        xyxy_to_labels(np.zeros((2, 5)), image_hw=HW)


def overlay(**changes: Any) -> str:
    line = {"image": "a.webp", "action": "add", "boxes": [FAR_PLATE], "reason": "unlabelled"}
    return json.dumps({**line, **changes})


@pytest.mark.parametrize(
    ("line", "truth"),
    [
        (overlay(), [PLATE, FAR_PLATE]),
        (overlay(action="remove", boxes=[PLATE]), []),
        (overlay(action="move", boxes=[FAR_PLATE], replaces=[PLATE]), [FAR_PLATE]),
        (overlay(action="mark", reason="lettering of a van"), [PLATE]),
        (overlay(action="drop", boxes=[]), [PLATE]),
    ],
    ids=["add", "remove", "move", "mark", "drop"],
)
def test_a_correction_mends_the_truth(line: str, truth: list[list[float]]) -> None:
    before = np.array([PLATE])
    assert correct(before, parse_corrections(line)).tolist() == truth
    assert before.tolist() == [PLATE]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (overlay(boxes=[PLATE]), "labelled already"),
        (overlay(action="remove"), "one labelled box for each"),
        (overlay(action="move", replaces=[FAR_PLATE]), "one labelled box for each"),
        (overlay(action="remove", boxes=[PLATE, PLATE]), "one labelled box for each"),
    ],
    ids=["added twice", "removed twice", "moved from nowhere", "one label meant by two"],
)
def test_a_stale_correction_is_not_passed_over(line: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        correct(np.array([PLATE]), parse_corrections(line))


def test_a_photo_without_labels_has_none_to_remove() -> None:
    with pytest.raises(ValueError, match="the photo has none"):
        correct(np.zeros((0, 4)), parse_corrections(overlay(action="remove")))


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("not JSON", "Expecting value"),
        (overlay(action="blur"), "action must be one of"),
        (overlay(reason=" "), "expected a reason"),
        (overlay(boxes=[]), "at least one box"),
        (overlay(action="drop"), "none to drop a photo, got 1"),
        (overlay(boxes=[[1, 2, 3]]), "reshape"),
        (overlay(action="move"), "`replaces`"),
        (overlay(replaces=[PLATE]), "`replaces`"),
        (overlay(comment="x"), "expected the fields"),
        ('{"image": "a.webp"}', "expected the fields"),
    ],
    ids=[
        *("no JSON", "action", "no reason", "no box", "a box to drop", "three numbers"),
        *("moved from nothing", "replaces without a move", "unknown field", "missing fields"),
    ],
)
def test_a_malformed_correction_is_refused_by_its_number(line: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=f"correction line 3: .*{complaint}"):
        parse_corrections(f"{overlay()}\n\n{line}\n")
