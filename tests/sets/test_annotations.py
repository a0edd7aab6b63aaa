"""COCO and YOLO as they are written: also without photos, and with boxes at the edge."""

from __future__ import annotations

import io
import json
from pathlib import Path

from plateblur.sets.annotations import Found, write_coco, write_yolo

EDGE = Found("a.jpg", (100, 200), [[-3.0, 10.0, 40.0, 30.0], [300.0, 0.0, 310.0, 5.0]], [0.9, 0.8])


def coco(*photos: Found) -> dict[str, list[dict[str, object]]]:
    file = io.StringIO()
    write_coco(file, lambda: iter(photos))
    told: dict[str, list[dict[str, object]]] = json.loads(file.getvalue())
    return told


def test_coco_without_photos_is_whole() -> None:
    assert coco() == {
        "images": [],
        "annotations": [],
        "categories": [{"id": 1, "name": "plate"}],
    }


def test_coco_numbers_each_photo_and_each_box() -> None:
    told = coco(EDGE, Found("b.jpg", (10, 10), [], []), EDGE)
    assert [image["id"] for image in told["images"]] == [1, 2, 3]
    assert [one["image_id"] for one in told["annotations"]] == [1, 1, 3, 3]
    assert [one["id"] for one in told["annotations"]] == [1, 2, 3, 4]
    assert told["annotations"][0]["bbox"] == [-3.0, 10.0, 43.0, 20.0]


def test_yolo_clips_boxes_and_leaves_out_what_is_outside() -> None:
    written: dict[str, str] = {}
    write_yolo(
        Path("set"),
        lambda: iter([EDGE]),
        lambda path, data: written.__setitem__(path.as_posix(), data.decode()),
    )
    assert written["set/labels/a.txt"] == "0 0.100000 0.200000 0.200000 0.200000\n"
    assert "0: plate" in written["set/data.yaml"]
