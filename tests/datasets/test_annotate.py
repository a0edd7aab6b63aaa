"""The detector's boxes for labelling tools, and what comes back of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import annotate
import folder
from plateblur.sets import forms, layout
from plateblur.sets.files import photos_in
from tests.datasets.drawn import draw

PLATE = (40.0, 60.0, 104.0, 76.0)


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two photos; the detector finds a plate on the first."""
    root = tmp_path / "photos"
    draw(root / "ride 1" / "a.jpg", 1)
    draw(root / "ride 1" / "b.jpg", 2)

    def annotated(root: Path, *_: Any, **__: Any) -> list[annotate.Annotated]:
        found = {"a.jpg": [[*PLATE, 0.9]]}
        return [
            annotate.Annotated(
                path.relative_to(root).as_posix(),
                layout.image_hw_of(path),
                np.array(found.get(path.name, []), dtype=np.float64).reshape(-1, 5),
            )
            for path in photos_in(root)
        ]

    monkeypatch.setattr(annotate, "annotated", annotated)
    return root


def boxes_of(root: Path, form: str, out: Path) -> dict[str, list[list[float]]]:
    folder.main([str(root), "--form", form, "--out", str(out), "--name", "mine"])
    rows = layout.read_manifest(out)
    return {
        Path(row.original_name).name: layout.read_boxes(out, row).round(1).tolist() for row in rows
    }


@pytest.mark.slow
def test_boxes_for_cvat_come_back_as_they_went(photos: Path, tmp_path: Path) -> None:
    annotate.main([str(photos), "--form", "coco", "--out", str(photos / "boxes.json")])
    found = boxes_of(photos, "coco", tmp_path / "out")
    assert found == {"a.jpg": [list(PLATE)], "b.jpg": []}


@pytest.mark.slow
def test_label_studio_s_tasks_come_back_once_somebody_did_them(
    photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "tasks.json"
    annotate.main([str(photos), "--form", "label-studio", "--out", str(out)])
    first, second = json.loads(out.read_text())
    assert first["data"]["image"] == "/data/local-files/?d=ride%201/a.jpg"
    kept = first["predictions"][0]["result"]
    corrected = {"was_cancelled": False, "result": kept}
    cancelled = {"was_cancelled": True, "result": []}
    export = [first | {"annotations": [corrected, cancelled]}, second | {"annotations": []}]
    (photos / "export.json").write_text(json.dumps(export))
    assert boxes_of(photos, "label-studio", tmp_path / "out") == {"a.jpg": [list(PLATE)]}
    assert len(list(forms.read_label_studio(photos))) == 1


def test_a_turned_rectangle_of_label_studio_becomes_the_box_around_it(tmp_path: Path) -> None:
    draw(tmp_path / "a.jpg", 1)  # 320 x 240
    edges = {"x": 50, "y": 50, "width": 10, "height": 10, "rotation": 90}
    value = {**edges, "rectanglelabels": ["plate"]}
    result = {"type": "rectanglelabels", "original_width": 320, "original_height": 240}
    task = {
        "data": {"image": "a.jpg"},
        "annotations": [{"result": [result | {"value": value}]}],
    }
    (tmp_path / "export.json").write_text(json.dumps([task]))
    (labelled,) = forms.read_label_studio(tmp_path)
    # 32 wide and 24 high, turned clockwise around (160, 120): to the left, and down.
    np.testing.assert_allclose(labelled.xyxy, [[136, 120, 160, 152]], atol=1e-6)


@pytest.mark.parametrize("text", ["{", "{}", '[{"annotations": 3}]', "[4]"])
def test_another_json_is_refused_by_name(text: str, tmp_path: Path) -> None:
    (tmp_path / "export.json").write_text(text)
    with pytest.raises(layout.DatasetError, match=r"export\.json: expected Label Studio"):
        list(forms.read_label_studio(tmp_path))


def test_somebody_s_work_is_not_written_over(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "boxes.json"
    out.write_text("work")
    with pytest.raises(layout.DatasetError, match="is there already"):
        annotate.main([str(photos), "--form", "coco", "--out", str(out)])
    assert out.read_text() == "work"


@pytest.mark.slow
def test_the_shipped_detector_annotates_drawn_scenes(tmp_path: Path) -> None:
    from plateblur import drawn

    scene = drawn.draw_scene(3, image_hw=(540, 960), plates=1, ratios=(1 / 12, 1 / 8))
    (tmp_path / "a.jpg").write_bytes(drawn.encode(scene.image))
    annotate.main([str(tmp_path), "--form", "coco", "--out", str(tmp_path / "boxes.json")])
    told = json.loads((tmp_path / "boxes.json").read_text())
    assert (told["images"][0]["width"], told["images"][0]["height"]) == (960, 540)
    x, y, wide, high = told["annotations"][0]["bbox"]
    np.testing.assert_allclose([x, y, x + wide, y + high], scene.xyxy[0], atol=8)
