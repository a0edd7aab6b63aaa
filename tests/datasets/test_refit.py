"""Loose labels of train, moved onto boxes whose excess val has told."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import refit
from plateblur.sets import findings, layout
from plateblur.sets.corrections import correct, parse_corrections
from tests.datasets.drawn import encoded, scene
from tests.datasets.test_merge import a_set

Box = NDArray[np.float64]

HW = (240, 320)
PLATE = np.array([100.0, 100.0, 180.0, 120.0])  # 80 by 20 pixels
BESIDE = PLATE + np.array([6.0, 4.0, 6.0, 4.0])
SOUND = [refit.Excess(from_px, 9, 0.0, 0.0) for from_px in refit.BANDS_PX]


def photo(truth: list[Box], found: list[Box], confidence: float = 0.9) -> findings.Reviewed:
    row = layout.Row(
        "images/train/a.jpg", "train", "drawn", "", "MIT", "", HW[1], HW[0], 1, None, "", ""
    )
    boxes = np.array(found, dtype=np.float64).reshape(-1, 4)
    return findings.Reviewed(
        Path("a.jpg"),
        row,
        np.array(truth, dtype=np.float64).reshape(-1, 4),
        np.column_stack([boxes, np.full(len(boxes), confidence)]),
    )


def grown(box: Box, *, wide: float, high: float) -> Box:
    """Return a box whose excess is these shares of its own width and height a side."""
    width, height = box[2] - box[0], box[3] - box[1]
    more_x, more_y = wide * width / (1 - 2 * wide), high * height / (1 - 2 * high)
    larger: Box = box + np.array([-more_x, -more_y, more_x, more_y])
    return larger


def test_what_boxes_have_too_much_is_measured_and_taken_off_exactly() -> None:
    loose = grown(PLATE, wide=0.02, high=0.1)
    excess = refit.measure_excess([photo([PLATE], [loose])] * refit.MIN_PLATES)
    assert [(e.from_px, e.plates) for e in excess] == [
        (0, 0),
        (8, refit.MIN_PLATES),
        (30, 0),
        (140, 0),
    ]
    assert (excess[1].width, excess[1].height) == (0.02, 0.1)
    np.testing.assert_allclose(refit.without_excess(loose, excess), PLATE, atol=0.01)


def test_a_few_wild_labels_do_not_move_the_median() -> None:
    photos = [photo([PLATE], [PLATE])] * 11 + [photo([BESIDE], [PLATE])] * 9
    assert refit.measure_excess(photos)[1] == refit.Excess(8, 20, 0.0, 0.0)


def test_too_few_plates_tell_nothing_and_tight_boxes_are_not_made_larger() -> None:
    few = [photo([PLATE], [grown(PLATE, wide=0.1, high=0.1)])] * (refit.MIN_PLATES - 1)
    assert refit.measure_excess(few)[1] == refit.Excess(8, len(few), 0.0, 0.0)
    tight = [photo([grown(PLATE, wide=0.05, high=0.05)], [PLATE])] * refit.MIN_PLATES
    assert refit.measure_excess(tight)[1] == refit.Excess(8, len(tight), 0.0, 0.0)


def test_a_label_beside_its_plate_moves_onto_it() -> None:
    record = refit.refit(photo([BESIDE], [PLATE]), SOUND, agree_iou=0.85)
    mended = correct(np.array([BESIDE]), parse_corrections(json.dumps(record)))
    np.testing.assert_allclose(mended, [PLATE], atol=0.05)


@pytest.mark.parametrize(
    ("truth", "found", "confidence"),
    [
        ([PLATE], [PLATE + 1], 0.9),
        ([BESIDE], [PLATE], 0.3),
        ([PLATE + np.array([60.0, 0.0, 60.0, 0.0])], [PLATE], 0.9),
        ([PLATE], [], 0.9),
        ([], [PLATE], 0.9),
    ],
    ids=["they agree", "an unsure box", "another plate", "not found", "not labelled"],
)
def test_other_labels_stay(truth: list[Box], found: list[Box], confidence: float) -> None:
    assert refit.refit(photo(truth, found, confidence), SOUND, agree_iou=0.85) is None


def test_a_stricter_agreement_moves_a_label_that_is_a_little_off() -> None:
    near = photo([PLATE], [PLATE + 1])
    assert refit.refit(near, SOUND, agree_iou=0.85) is None
    assert refit.refit(near, SOUND, agree_iou=0.95) is not None


def test_the_label_of_a_cut_plate_stays_at_the_edge() -> None:
    cut = np.array([0.5, 100.0, 60.0, 126.0])
    record = refit.refit(photo([cut], [np.array([5.0, 100.0, 62.0, 120.0])]), SOUND, agree_iou=0.85)
    assert record is not None
    assert record["boxes"] == [[0.5, 100.0, 62.0, 120.0]]


def test_of_two_labels_on_one_plate_one_moves() -> None:
    two = [BESIDE, PLATE + np.array([8.0, 5.0, 8.0, 5.0])]
    record = refit.refit(photo(two, [PLATE]), SOUND, agree_iou=0.85)
    assert record is not None
    assert record["replaces"] == [(BESIDE).tolist()]
    correct(np.array(two), parse_corrections(json.dumps(record)))


def test_a_set_gets_its_corrections(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    val: list[layout.Split] = ["val"] * refit.MIN_PLATES
    splits: list[layout.Split] = ["train", "train", *val]
    photos = [(split, encoded(scene(n))) for n, split in enumerate(splits)]
    root = a_set(tmp_path, "a", photos)
    labelled = {row.name: layout.read_boxes(root, row) for row in layout.read_manifest(root)}

    def found(config: findings.Config) -> list[findings.Reviewed]:
        rows = [row for row in layout.read_manifest(root) if row.split == config.split]
        more = 0.1 if config.split == "val" else 0.2  # train's labels are off by the rest
        return [
            replace(
                photo([], []),
                row=row,
                truth=labelled[row.name],
                found=np.array([[*grown(labelled[row.name][0], wide=0, high=more), 0.9]]),
            )
            for row in rows
        ]

    monkeypatch.setattr(findings, "read_reviewed", found)
    overlay = tmp_path / "overlay.jsonl"
    refit.main([str(root), "--overlay", str(overlay)])
    moved = parse_corrections(overlay.read_text())
    assert len(moved) == 2
    assert "10.0%" in capsys.readouterr().out
    label = labelled[moved[0].image][0]
    assert moved[0].boxes[0][3] - moved[0].boxes[0][1] > label[3] - label[1]
