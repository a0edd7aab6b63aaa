"""Other detectors are counted with the same code as ours."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import yaml

from benchmarks import rivals
from tests.datasets.drawn import draw

PLATE = (40.0, 60.0, 120.0, 84.0)


def test_the_cascade_gives_boxes_that_all_count() -> None:
    image = np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)
    rows = rivals.cascade()(image)
    assert rows.shape[1:] == (5,)
    assert ((rows[:, 4] >= 0.5) & (rows[:, 4] <= 1)).all()
    assert rivals.RIVAL_CONFIDENCE <= 0.5


def test_a_rival_has_a_row_with_and_one_without_corrected_labels(tmp_path: Path) -> None:
    draw(tmp_path / "images" / "val" / "a.png", 0, plates=(PLATE,))
    (tmp_path / "labels" / "val").mkdir(parents=True)
    (tmp_path / "data.yaml").write_text(yaml.safe_dump({"val": "images/val"}))
    overlay = tmp_path / "overlay.jsonl"
    add = {"image": "a.png", "action": "add", "boxes": [PLATE], "reason": "unlabelled plate"}
    overlay.write_text(json.dumps(add) + "\n")
    stored = tmp_path / "stored.jsonl"
    stored.write_text(json.dumps({"image": "a.png", "boxes": [[*PLATE, 0.9]]}) + "\n")
    rows = rivals.measure(
        stored, data=tmp_path / "data.yaml", split="val", out=tmp_path / "out", overlay=overlay
    )
    assert rows["figures"]["covered99, within 1:15"] == 1
    assert rows["figures"]["false_boxes_per_photo"] == 0
    assert rows["labels as they are"]["false_boxes_per_photo"] == 1
    assert rows["labels as they are"]["recall"] is None
