"""What each minimum confidence misses is counted on the photos, with both kinds of labels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from benchmarks.thresholds import CONFIDENCES, measure
from plateblur.sets.predictions import read_predictions
from plateblur.types import BlurOptions
from plateblur.web.schemas import RETURNED_ABOVE
from tests.datasets.drawn import draw

NEAR = (40.0, 60.0, 120.0, 84.0)  # 24 px of 240: 1:10
FAR = (200.0, 100.0, 216.0, 106.0)  # 1:40
SIGN = (10.0, 180.0, 60.0, 195.0)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two photos: one with a labelled near plate, one with an unlabelled far one."""
    for name, plate in (("a", NEAR), ("b", FAR)):
        draw(tmp_path / "images" / "val" / f"{name}.png", 0, plates=(plate,))
    (tmp_path / "labels" / "val").mkdir(parents=True)
    x1, y1, x2, y2 = NEAR
    shares = np.array([x1 + x2, y1 + y2, 2 * (x2 - x1), 2 * (y2 - y1)]) / 2 / [320, 240, 320, 240]
    label = "0 " + " ".join(f"{share:.6f}" for share in shares) + "\n"
    (tmp_path / "labels" / "val" / "a.txt").write_text(label)
    (tmp_path / "data.yaml").write_text(yaml.safe_dump({"val": "images/val"}))
    add = {"image": "b.png", "action": "add", "boxes": [FAR], "reason": "unlabelled plate"}
    (tmp_path / "overlay.jsonl").write_text(json.dumps(add) + "\n")
    stored = [
        {"image": "a.png", "boxes": [[*NEAR, 0.8], [*SIGN, 0.22], [*SIGN, 0.04]]},
        {"image": "b.png", "boxes": [[*FAR, 0.3]]},
    ]
    (tmp_path / "stored.jsonl").write_text("".join(json.dumps(one) + "\n" for one in stored))
    return tmp_path / "data.yaml"


def test_misses_and_false_boxes_are_counted_at_each_confidence(data: Path) -> None:
    predictions = read_predictions(data.parent / "stored.jsonl")
    found = measure(data, predictions, overlay=data.parent / "overlay.jsonl")
    rows = {row["min_confidence"]: row for row in found["corrected"]}
    assert {c: (rows[c]["all"]["missed"], rows[c]["false_boxes"]) for c in CONFIDENCES} == {
        **dict.fromkeys((0.05, 0.1, 0.15, 0.2), (0, 1)),
        **dict.fromkeys((0.25, 0.3), (0, 0)),
        **dict.fromkeys((0.4, 0.45, 0.5, 0.6, 0.7, 0.8), (1, 0)),
        0.9: (2, 0),
    }
    assert rows[0.9]["within 1:15"] == {"plates": 1, "missed": 1, "covered99": 0}
    assert rows[0.2]["within 1:15"] == {"plates": 1, "missed": 0, "covered99": 1}
    original = {row["min_confidence"]: row for row in found["original"]}
    assert original[0.25]["all"]["plates"] == 1
    assert original[0.25]["false_boxes_per_photo"] == 0.5  # the far plate has no label there
    assert found["counted"] == {
        **{"floor": 0.05, "plates_a_photo": 1.0, "predictions_a_photo": 1.5},
        "photos_of_10000_predictions": 6667,
    }


def test_photos_without_predictions_are_refused(data: Path) -> None:
    with pytest.raises(ValueError, match="2 photos, 2 have none"):
        measure(data, {}, overlay=data.parent / "overlay.jsonl")


def test_the_table_has_a_row_for_each_confidence_that_something_blurs_from() -> None:
    assert {BlurOptions().min_confidence, RETURNED_ABOVE} <= set(CONFIDENCES)
