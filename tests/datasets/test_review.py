"""Labels beside detections: what is suspicious, and what a person's tags become."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import numpy as np
import pytest

import corrected
from plateblur.sets import findings, in_fiftyone, layout
from plateblur.sets.corrections import append_corrections, correct, parse_corrections
from tests.datasets.drawn import draw, encoded, scene

ROOT = Path(__file__).parents[2]
OVERLAY = ROOT / "datasets" / "corrections" / "plates.jsonl"
PLATE = (32.0, 60.0, 96.0, 84.0)
BELOW = (32.0, 88.0, 96.0, 112.0)
FAR_OFF = (200.0, 160.0, 280.0, 190.0)
LOOSE = (20.0, 50.0, 110.0, 100.0)


def photo(
    truth: list[tuple[float, ...]], found: list[tuple[float, ...]], path: Path = Path("a.jpg")
) -> findings.Reviewed:
    row = layout.Row(
        f"images/val/{path.name}", "val", "drawn", "drawn", "MIT", "", 320, 240, 1, None, "", ""
    )
    boxes = np.array(truth, dtype=np.float64).reshape(-1, 4)
    return findings.Reviewed(path, row, boxes, np.array(found, dtype=np.float64).reshape(-1, 5))


@pytest.mark.parametrize(
    ("truth", "found", "kinds"),
    [
        ([PLATE], [(*PLATE, 0.9)], []),
        ([], [], []),
        ([], [(*FAR_OFF, 0.9)], ["unlabelled"]),
        ([], [(*FAR_OFF, 0.4)], []),
        ([LOOSE], [(*PLATE, 0.9)], ["loose", "missed"]),
        ([BELOW], [(*PLATE, 0.9)], ["loose", "missed"]),
        ([PLATE], [], ["missed"]),
        ([PLATE, BELOW], [(*PLATE, 0.9)], ["missed"]),
        ([PLATE], [(*PLATE, 0.9), (*FAR_OFF, 0.8)], ["unlabelled"]),
    ],
    ids=[
        "a matching box",
        "an empty photo",
        "a sure box without a label",
        "an unsure box",
        "a label larger than its plate",
        "a label below its plate",
        "a plate that is not found",
        "a found plate above another that is not",
        "a second plate without a label",
    ],
)
def test_what_labels_and_boxes_disagree_about(
    truth: list[tuple[float, ...]], found: list[tuple[float, ...]], kinds: list[str]
) -> None:
    suspects = findings.suspicious(photo(truth, found), min_confidence=0.25)
    assert [finding.kind for finding in suspects] == kinds


def test_the_largest_miss_ranks_first() -> None:
    near, far = findings.suspicious(photo([LOOSE, PLATE], []), min_confidence=0.25)
    assert near.rank > far.rank


def test_photos_that_look_alike_are_told(tmp_path: Path) -> None:
    paths = [
        draw(tmp_path / "a.jpg", 1),
        draw(tmp_path / "b.jpg", 1, size_wh=(160, 120)),
        draw(tmp_path / "c.jpg", 2),
    ]
    found = list(findings.near_duplicates([photo([], [], path) for path in paths]))
    assert [(finding.image, finding.other) for finding in found] == [("b.jpg", "a.jpg")]


def sample(
    truth: dict[Any, list[str]], detections: dict[Any, list[str]], photo_tags: Sequence[str] = ()
) -> Any:
    """Return what FiftyOne hands out for a photo of 320x240 pixels, boxes with their tags."""

    def boxes(tagged: dict[Any, list[str]]) -> SimpleNamespace:
        return SimpleNamespace(
            detections=[
                SimpleNamespace(
                    id=str(box),
                    bounding_box=in_fiftyone._to_shares(box, (320, 240)),
                    tags=tags,
                    confidence=0.9,
                )
                for box, tags in tagged.items()
            ]
        )

    class Sample(dict[str, Any]):
        filepath = "somewhere/a.webp"
        tags = photo_tags

    return Sample(
        truth=boxes(truth),
        detections=boxes(detections),
        size_wh=[320, 240],
        labelled={str(box): list(box) for box in truth},
    )


def test_tags_become_corrections_that_mend_the_labels() -> None:
    tagged = sample(
        {BELOW: [], FAR_OFF: ["remove", "a poster"]},
        {PLATE: ["move"], LOOSE: [], (150.0, 10.0, 190.0, 30.0): ["add"]},
    )
    records = in_fiftyone.tagged_corrections([tagged])
    reasons = {record["action"]: record["reason"] for record in records}
    assert reasons["remove"] == "a poster"
    assert reasons["move"] == "label is not where the plate is"
    mended = correct(
        np.array([BELOW, FAR_OFF]), parse_corrections("\n".join(map(json.dumps, records)))
    )
    np.testing.assert_allclose(mended, [PLATE, (150, 10, 190, 30)], atol=0.1)


def test_boxes_drawn_moved_and_deleted_in_the_app_are_corrections_too() -> None:
    shown = sample({PLATE: [], FAR_OFF: [], BELOW: ["remove"]}, {LOOSE: []})
    kept, deleted, _ = shown["truth"].detections
    kept.bounding_box = in_fiftyone._to_shares(LOOSE, (320, 240))
    drawn = SimpleNamespace(id="new", tags=["half covered"], confidence=None)
    drawn.bounding_box = in_fiftyone._to_shares((150.0, 10.0, 190.0, 30.0), (320, 240))
    shown["truth"].detections.remove(deleted)
    shown["truth"].detections.append(drawn)
    records = in_fiftyone.tagged_corrections([shown])
    assert [(record["action"], record["reason"]) for record in records] == [
        ("remove", "deleted in the App"),
        ("remove", "no plate"),
        ("move", "moved in the App"),
        ("add", "half covered"),
    ]
    corrected_boxes = correct(
        np.array([PLATE, FAR_OFF, BELOW]), parse_corrections("\n".join(map(json.dumps, records)))
    )
    np.testing.assert_allclose(corrected_boxes, [LOOSE, (150, 10, 190, 30)], atol=0.1)


def test_what_was_not_saved_is_not_replaced(tmp_path: Path) -> None:
    class Kept(list[Any]):
        name = "plateblur-set-val"

        def has_field(self, _: str) -> bool:
            return True

    dataset = Kept([sample({}, {PLATE: ["add"]})])
    fo = SimpleNamespace(list_datasets=lambda: [dataset.name], load_dataset=lambda _: dataset)
    overlay = tmp_path / "overlay.jsonl"
    config = findings.Config(tmp_path / "set", "val", Path("m.onnx"), overlay=overlay)
    with pytest.raises(layout.DatasetError, match="holds 1 corrections that were not saved"):
        in_fiftyone.require_saved(fo, config)
    append_corrections(overlay, in_fiftyone.tagged_corrections(dataset))
    in_fiftyone.require_saved(fo, config)


@pytest.mark.parametrize(
    ("truth", "detections", "expected"),
    [
        ({PLATE: ["add"]}, {}, "expected one tag of"),
        ({}, {PLATE: ["remove"]}, "expected one tag of"),
        ({}, {PLATE: ["add", "mark"]}, "expected one tag of"),
        ({}, {PLATE: ["mark"]}, "a second tag that says what"),
        ({}, {PLATE: ["move"]}, "expected a label to move"),
    ],
    ids=["label added", "box removed", "two actions", "mark without a reason", "nothing to move"],
)
def test_a_tag_that_does_not_fit_is_refused_by_name(
    truth: dict[Any, list[str]], detections: dict[Any, list[str]], expected: str
) -> None:
    with pytest.raises(layout.DatasetError, match=f"a.webp: .*{expected}"):
        in_fiftyone.tagged_corrections([sample(truth, detections)])


def test_a_photo_that_another_split_holds_too_is_dropped() -> None:
    (record,) = in_fiftyone.tagged_corrections([sample({PLATE: []}, {}, photo_tags=["drop"])])
    (drop,) = parse_corrections(json.dumps(record))
    assert (drop.image, drop.action, len(drop.boxes)) == ("a.webp", "drop", 0)


def test_what_an_overlay_corrects_is_counted_by_split(tmp_path: Path) -> None:
    rows = [
        layout.Row(f"images/{split}/{split}.jpg", split, "", "", "", "", 9, 9, 0, None, "", "")
        for split in layout.SPLITS
    ]
    (tmp_path / "manifest.csv").touch()
    layout.write_manifest(tmp_path, rows)
    add = {"action": "add", "boxes": [PLATE, FAR_OFF], "reason": "unlabelled"}
    drop = {"action": "drop", "boxes": [], "reason": "also in test"}
    lines = [{"image": "train.jpg"} | add, {"image": "train.jpg"} | drop, {"image": "x.jpg"} | add]
    (tmp_path / "overlay.jsonl").write_text("\n".join(map(json.dumps, lines)))
    out = tmp_path / "counted.json"
    corrected.main([str(tmp_path), str(tmp_path / "overlay.jsonl"), "--out", str(out)])
    none = {"add": 0, "remove": 0, "move": 0, "mark": 0, "drop": 0}
    assert json.loads(out.read_text()) == {
        "train": none | {"add": 2, "drop": 1},
        "val": none,
        "test": none,
    }


def test_saving_twice_adds_a_correction_once_and_keeps_what_is_there(tmp_path: Path) -> None:
    overlay = tmp_path / "overlay.jsonl"
    overlay.write_text(
        '{"image": "b.webp", "action": "remove", "boxes": [[1, 2, 3, 4]], "reason": "a sign"}\n'
    )
    records = in_fiftyone.tagged_corrections([sample({}, {PLATE: ["add"]})])
    assert len(append_corrections(overlay, records)) == 1
    assert append_corrections(overlay, records) == []
    images = [c.image for c in parse_corrections(overlay.read_text())]
    assert images == ["b.webp", "a.webp"]


def test_the_corrections_of_the_repository_give_a_reason_each_and_none_twice() -> None:
    corrections = parse_corrections(OVERLAY.read_text())
    assert len(corrections) > 50
    lines = OVERLAY.read_text().splitlines()
    assert len(lines) == len(set(lines)) == len(corrections)


MANAGED = """
import runpy, sys
import fiftyone as fo
dataset = fo.load_dataset(sys.argv[1])
views = dataset.list_saved_views()
assert {"unlabelled", "missed", "by mistakenness"} <= set(views), views
for sample in dataset.load_saved_view("unlabelled").iter_samples(autosave=True):
    for box in sample["detections"].detections:
        if box.confidence > 0.5:
            box.tags.append("add")
sys.argv = [*sys.argv[2:], "--save", "--overlay", "overlay.jsonl"]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("fiftyone") is None or not Path("/proc").exists(),
    reason="needs the extra `review`",
)
def test_fiftyone_shows_the_faults_and_saves_what_a_person_tags(tmp_path: Path) -> None:
    sources = []
    for number in range(3):
        path = tmp_path / f"{number}.jpg"
        path.write_bytes(encoded(scene(number, plates=(PLATE,))))
        boxes = np.array([PLATE] if number else []).reshape(-1, 4)
        sources.append(layout.SourcePhoto(path, boxes, "val", f"{number}"))
    root = tmp_path / "drawn"
    rows = layout.write_set(root, layout.SetCard("drawn", "drawn", "MIT", "nowhere"), sources)
    found = {0: [[*PLATE, 0.9]], 1: [[*PLATE, 0.9]], 2: []}
    stored = tmp_path / "predictions.jsonl"
    stored.write_text(
        "".join(
            json.dumps({"image": row.name, "boxes": found[int(row.original_name)]}) + "\n"
            for row in rows
        )
    )
    alone = {
        **os.environ,  # noqa: TID251 - for a child process
        "FIFTYONE_DATABASE_DIR": str(tmp_path / "database"),
        "FIFTYONE_CONFIG_PATH": str(tmp_path / "none.json"),
    }
    words = [str(root), "--split", "val", "--predictions", str(stored)]

    def run(*more: str) -> str:
        done = subprocess.run(
            [sys.executable, *more], cwd=tmp_path, capture_output=True, text=True, env=alone
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    recipe = ROOT / "datasets" / "review.py"
    told = run(str(recipe), *words, "--findings", "findings.csv", "--summary", "summary.json")
    summary = json.loads((tmp_path / "summary.json").read_text())["val"]
    numbers = summary["sets"]["drawn"]
    assert list(numbers) == ["photos", *get_args(findings.Kind)]
    ours = {kind: numbers[kind] for kind in ("photos", "unlabelled", "loose", "missed")}
    assert ours == {"photos": 3, "unlabelled": 1, "loose": 0, "missed": 1}
    assert not any(row.name in (tmp_path / "summary.json").read_text() for row in rows)
    assert ["set", "photos", *get_args(findings.Kind)] in [
        line.split() for line in told.splitlines()
    ]  # FiftyOne says a word of its own before
    assert "unlabelled" in (tmp_path / "findings.csv").read_text()

    told = run("-c", MANAGED, "plateblur-drawn-val", str(recipe), *words)
    assert "1 corrections added" in told
    (correction,) = parse_corrections((tmp_path / "overlay.jsonl").read_text())
    np.testing.assert_allclose(correction.boxes, [PLATE], atol=0.1)
