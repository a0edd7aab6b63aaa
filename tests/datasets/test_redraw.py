"""Labels drawn again: what is shown, what is told of the drawings, and which labels move."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as PillowImage

import redraw
from plateblur.sets import layout
from plateblur.sets.corrections import correct, parse_corrections
from tests.datasets.drawn import encoded, scene
from tests.datasets.test_merge import a_set

Box = NDArray[np.float64]

PLATE = (100.0, 100.0, 180.0, 120.0)
ADDED = (20.0, 30.0, 60.0, 42.0)


def cut_out(*, control: bool = False, label: tuple[float, ...] = PLATE) -> redraw.CutOut:
    """Return a cut-out of twice the plate's width, in which a per cent is 1.6 by 0.8 pixels."""
    return redraw.CutOut("a.jpg", "drawn", label, (240, 320), (60.0, 70.0, 220.0, 150.0), control)


def percent(box: tuple[float, ...]) -> list[float]:
    """Return a box as it is read off the ruler of `cut_out`."""
    x1, y1, x2, y2 = box
    return [(x1 - 60) / 1.6, (y1 - 70) / 0.8, (x2 - 60) / 1.6, (y2 - 70) / 0.8]


def shifted(by_px: float) -> Box:
    return np.array(PLATE) + by_px


def written(path: Path, *boxes: list[float] | None) -> Path:
    lines = [json.dumps({"id": n, "box": box}) for n, box in enumerate(boxes)]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    splits: list[layout.Split] = ["test", "test", "train"]
    photos = [(split, encoded(scene(n, plates=(PLATE,)))) for n, split in enumerate(splits)]
    return a_set(tmp_path, "a", photos, plates=(PLATE,))


def test_a_box_is_read_off_the_ruler_in_pixels_of_the_photo(tmp_path: Path) -> None:
    file = written(tmp_path / "a.jsonl", percent(PLATE), None)
    drawn = redraw.read_drawn(file, [cut_out(), cut_out()])
    assert list(drawn) == [0]
    np.testing.assert_allclose(drawn[0], PLATE)


def test_a_box_beyond_the_photo_ends_at_its_edge(tmp_path: Path) -> None:
    at_edge = redraw.CutOut("a.jpg", "a", PLATE, (240, 320), (-80.0, 70.0, 80.0, 150.0), False)
    file = written(tmp_path / "a.jsonl", [10, 20, 90, 60])
    np.testing.assert_allclose(redraw.read_drawn(file, [at_edge])[0], [0, 86, 64, 118])


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"id": 1, "box": None}, "an id below 1"),
        ({"id": 0, "box": [50, 10, 40, 20]}, "x1 < x2"),
        ({"id": 0, "box": [50, 10, 60]}, "x1 < x2"),
    ],
    ids=["no such cut-out", "inside out", "three edges"],
)
def test_a_line_that_is_no_drawing_is_refused(
    tmp_path: Path, line: dict[str, object], said: str
) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(json.dumps(line))
    with pytest.raises(layout.DatasetError, match=said):
        redraw.read_drawn(file, [cut_out()])


def test_boxes_reach_each_level_up_to_their_overlap() -> None:
    narrower = np.array([100.0, 100.0, 164.0, 120.0])  # four fifths of the plate
    assert redraw.levels(np.array(PLATE), np.array(PLATE)) == 1
    assert redraw.levels(np.array(PLATE), narrower) == pytest.approx(0.7)
    assert redraw.levels(np.array(PLATE), np.array(ADDED)) == 0


def test_of_each_edge_the_median_stands_and_one_person_s_slip_does_not_move_it() -> None:
    middle = redraw.medians([{0: shifted(0)}, {0: shifted(1)}, {0: shifted(30), 1: shifted(0)}])
    assert list(middle) == [0]
    np.testing.assert_allclose(middle[0], shifted(1))


def test_agreement_is_told_apart_for_controls_and_by_distance() -> None:
    far = (100.0, 100.0, 120.0, 105.0)
    cut_outs = [cut_out(), cut_out(control=True), cut_out(label=far)]
    drawn = [dict.fromkeys(range(3), np.array(PLATE))] * 2
    told = redraw.agreement(cut_outs, drawn)
    assert told["drawn, down to 1:30"] == {
        "plates": 1,
        "drawers with each other": 1,
        "one with the label": 1,
        "median with the label": 1,
        "detector with the label": None,
        "detector with the median": None,
    }
    assert told["controls, down to 1:30"]["plates"] == 1
    assert told["drawn, below 1:30"]["drawers with each other"] == 1
    assert told["drawn, below 1:30"]["median with the label"] == 0


@pytest.mark.parametrize(
    ("cut", "boxes", "moves"),
    [
        (cut_out(), (3, 3, 4), True),
        (cut_out(control=True), (3, 3, 4), False),
        (cut_out(), (0, 0, 0.1), False),
        (cut_out(), (3, 3, 40), False),
        (cut_out(label=ADDED), (3, 3, 4), False),
    ],
    ids=["loose", "control", "sound", "people disagree", "another plate"],
)
def test_a_label_moves_where_people_agree_on_another_box(
    cut: redraw.CutOut, boxes: tuple[float, ...], *, moves: bool
) -> None:
    records = redraw.redrawn([cut], [{0: shifted(by)} for by in boxes])
    assert len(records) == moves
    if moves:
        (mended,) = correct(np.array([PLATE]), parse_corrections(json.dumps(records[0])))
        np.testing.assert_allclose(mended, shifted(3))


def test_who_drew_alone_agrees_with_nobody_but_the_labels() -> None:
    (told,) = redraw.agreement([cut_out()], [{0: np.array(PLATE)}]).values()
    assert (told["drawers with each other"], told["one with the label"]) == (None, 1)


def test_a_detector_stands_beside_people_and_a_plate_that_it_missed_counts() -> None:
    missed = redraw.CutOut("b.jpg", "drawn", PLATE, (240, 320), (60, 70, 220, 150), False)
    found = {"a.jpg": np.array([[*ADDED, 0.9], [*PLATE, 0.6]]), "b.jpg": np.zeros((0, 5))}
    drawn = [dict.fromkeys(range(2), np.array(ADDED))]
    (told,) = redraw.agreement([cut_out(), missed], drawn, found).values()
    assert told["detector with the label"] == 0.5
    assert told["detector with the median"] == 0


def test_two_people_are_too_few_to_move_a_label() -> None:
    with pytest.raises(layout.DatasetError, match="drawings of 3 people, got 2"):
        redraw.redrawn([cut_out()], [{0: shifted(3)}] * 2)


def test_sheets_show_plates_without_their_labels(root: Path, tmp_path: Path) -> None:
    overlay = tmp_path / "overlay.jsonl"
    overlay.touch()
    words = [str(root), "--split", "test", "--only", "a", "--overlay", str(overlay)]
    redraw.main([*words, "--sheets", str(tmp_path / "sheets")])
    key = redraw.read_key(tmp_path / "sheets")
    assert len(key) == 2
    for one in key:
        x1, y1, x2, y2 = one.area
        assert x1 < PLATE[0]
        assert y1 < PLATE[1]
        assert x2 > PLATE[2]
        assert y2 > PLATE[3]
        assert not np.allclose([x1 + x2, y1 + y2], [PLATE[0] + PLATE[2], PLATE[1] + PLATE[3]])
    with PillowImage.open(tmp_path / "sheets" / "sheet-000.png") as sheet:
        width, height = redraw.CELL_WH
        assert sheet.size == (2 * width, 3 * height)
        x1, y1, x2, y2 = key[0].area
        middle = (round((140 - x1) / (x2 - x1) * width), round((110 - y1) / (y2 - y1) * height))
        assert min(sheet.getpixel(middle)[:2]) > 150  # type: ignore[index]  # the white plate


def test_added_plates_are_drawn_again_and_others_are_controls(root: Path, tmp_path: Path) -> None:
    name = next(row.name for row in layout.read_manifest(root) if row.split == "test")
    overlay = tmp_path / "overlay.jsonl"
    record = {"image": name, "action": "add", "boxes": [ADDED], "reason": "unlabelled plate"}
    overlay.write_text(json.dumps(record) + "\n")
    chosen = redraw.choose(
        root,
        split="test",
        corrections=parse_corrections(overlay.read_text()),
        sets=(),
        added=True,
        controls=1,
        seed=0,
    )
    assert sorted((one.label, one.control) for one in chosen) == [(ADDED, False), (PLATE, True)]


def test_what_was_drawn_becomes_corrections_and_a_summary(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overlay, sheets = tmp_path / "overlay.jsonl", tmp_path / "sheets"
    overlay.touch()
    words = [str(root), "--split", "test", "--overlay", str(overlay), "--sheets", str(sheets)]
    redraw.main([*words, "--only", "a"])
    key = redraw.read_key(sheets)
    files = []
    for person, by in enumerate((3.0, 3.0, 3.5)):
        boxes = []
        for one in key:
            area = np.array(one.area)
            inside = (shifted(by) - np.tile(area[:2], 2)) / np.tile(area[2:] - area[:2], 2)
            boxes.append((inside * 100).tolist())
        files.append(written(tmp_path / f"{person}.jsonl", *boxes))
    given = [word for file in files for word in ("--drawn", str(file))]
    redraw.main([*words, *given, "--summary", str(tmp_path / "summary.json")])
    assert overlay.read_text() == ""
    redraw.main([*words, *given, "--move"])
    assert "2 of 2 labels moved" in capsys.readouterr().out
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["a, down to 1:30"]["plates"] == 2
    for moved in parse_corrections(overlay.read_text()):
        np.testing.assert_allclose(moved.boxes[0], shifted(3.0), atol=0.06)
