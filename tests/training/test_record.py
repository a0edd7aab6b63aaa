"""What is kept of a measured detector, for the docs to quote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.datasets.drawn import draw
from training.evaluate import evaluate
from training.evaluation.config import Config
from training.record import record

PLATE = (40.0, 60.0, 120.0, 84.0)


@pytest.fixture
def evaluation(tmp_path: Path) -> Path:
    """A drawn photo with a plate that no label names, found by one detector and not by another."""
    draw(tmp_path / "images" / "val" / "a.png", 0, plates=(PLATE,))
    (tmp_path / "data.yaml").write_text(yaml.safe_dump({"val": "images/val"}))
    overlay = tmp_path / "overlay.jsonl"
    add = {"image": "a.png", "action": "add", "boxes": [PLATE], "reason": "unlabelled plate"}
    overlay.write_text(json.dumps(add) + "\n")
    (tmp_path / "manifest.csv").write_text("image,set,region\nimages/val/a.png,drawn,nowhere\n")
    for name, boxes in {"finds": [[*PLATE, 0.9]], "misses": []}.items():
        found = {"image": "a.png", "boxes": boxes}
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(found) + "\n")
    evaluate(
        Config(
            data=tmp_path / "data.yaml",
            split="val",
            out=tmp_path / "out",
            model=tmp_path / "finds.jsonl",
            compare=tmp_path / "misses.jsonl",
            labels_overlay=overlay,
            plots=False,
        )
    )
    return tmp_path / "out"


def test_an_entry_holds_the_figures_and_what_they_were_without_corrections(
    evaluation: Path, tmp_path: Path
) -> None:
    entry = record(evaluation, name="first", runs=tmp_path / "runs.json")
    assert json.loads((tmp_path / "runs.json").read_text()) == {"first": entry}
    assert (entry["split"], entry["labels"]) == ("val", "corrected")
    assert entry["figures"]["covered99, within 1:15"] == 1
    assert entry["labels_as_they_are"]["false_boxes_per_photo"] == 1
    difference = entry["compared"]["differences"]["covered99, within 1:15"]["difference"]
    assert difference["value"] == 1


def test_an_entry_tells_ap_by_set_for_near_and_far_plates(evaluation: Path, tmp_path: Path) -> None:
    entry = record(evaluation, name="first", runs=tmp_path / "runs.json")
    assert entry["ap50_95_by_set"] == {
        "down to 1:30": {"drawn": {"plates": 1, "ap50_95": 1.0}},
        "below 1:30": {},
    }


def test_no_photo_is_named_in_an_entry(evaluation: Path, tmp_path: Path) -> None:
    record(evaluation, name="first", runs=tmp_path / "runs.json")
    assert "a.png" not in (tmp_path / "runs.json").read_text()


def test_an_entry_takes_the_place_of_one_with_its_name(evaluation: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs.json"
    runs.write_text(json.dumps({"first": {}, "second": {"kept": True}}))
    entry = record(evaluation, name="first", runs=runs)
    assert json.loads(runs.read_text()) == {"first": entry, "second": {"kept": True}}


@pytest.mark.parametrize(("before", "hours"), [(None, 1.5), (0.75, 2.25)], ids=["one", "two"])
def test_the_hours_of_a_run_count_those_before_it(
    before: float | None, hours: float, evaluation: Path, tmp_path: Path
) -> None:
    told: dict[str, Any] = {"config": {"epochs": 2}, "hours": 1.5}
    if before is not None:
        told["weights_run"] = {"config": {}, "hours": before}
    (tmp_path / "run.json").write_text(json.dumps(told))
    entry = record(evaluation, name="first", runs=tmp_path / "runs.json", run=tmp_path)
    assert entry["training"] == {"config": {"epochs": 2}, "hours": hours}
