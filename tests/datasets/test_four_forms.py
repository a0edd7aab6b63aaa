"""Photos in four label forms, as tools export them, become one set that can be trained on."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

import folder
import merge
from plateblur.sets import layout
from plateblur.sets.split import check_trainable, read_split
from tests.datasets.drawn import draw

BOX = (40, 60, 104, 76)  # of a 320x240 photo
SPLITS = ("train", "valid", "test", "train")  # of the photos of each form; the last has no plate


def boxes(number: int) -> list[tuple[int, int, int, int]]:
    return [] if number == 3 else [BOX]


def roboflow(root: Path, seed: int) -> None:
    for number, split in enumerate(SPLITS):
        name = f"{number}_jpg.rf.{number:032x}"
        draw(root / split / "images" / f"{name}.jpg", seed + number)
        label = root / split / "labels" / f"{name}.txt"
        label.parent.mkdir(parents=True, exist_ok=True)
        line = "0 0.225 0.283333 0.2 0.066667\r\n"
        label.write_text(line * len(boxes(number)))
    (root / "data.yaml").write_text("train: ../train/images\nval: ../valid/images\nnames: ['p']\n")
    (root / "README.roboflow.txt").write_text("exported\n")


def label_img(root: Path, seed: int) -> None:
    for number, split in enumerate(SPLITS):
        draw(root / split / "JPEGImages" / f"{number}.jpg", seed + number)
        edges = "".join(
            f"<{edge}>{value}</{edge}>"
            for edge, value in zip(("xmin", "ymin", "xmax", "ymax"), BOX, strict=True)
        )
        one = f"<object><name>plate</name><bndbox>{edges}</bndbox></object>"
        size = "<size><width>320</width><height>240</height><depth>3</depth></size>"
        annotation = root / split / "Annotations" / f"{number}.xml"
        annotation.parent.mkdir(parents=True, exist_ok=True)
        annotation.write_text(f"<annotation>{size}{one * len(boxes(number))}</annotation>")


def cvat(root: Path, seed: int) -> None:
    (root / "annotations").mkdir(parents=True)
    for split in dict.fromkeys(SPLITS):
        images, annotations = [], []
        for number in (one for one, of in enumerate(SPLITS) if of == split):
            draw(root / "images" / split / f"{number}.jpg", seed + number)
            images.append({"id": number, "file_name": f"{number}.jpg"})
            for x1, y1, x2, y2 in boxes(number):
                xywh = [x1, y1, x2 - x1, y2 - y1]
                annotations.append({"image_id": number, "category_id": 1, "bbox": xywh})
        categories = [{"id": 1, "name": "plate"}]
        given = {"images": images, "annotations": annotations, "categories": categories}
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(given))


def a_table(root: Path, seed: int) -> None:
    rows: list[tuple[object, ...]] = [("filename", "class", "xmin", "ymin", "xmax", "ymax")]
    for number, split in enumerate(SPLITS):
        draw(root / split / f"{number}.jpg", seed + number)
        name = f"{split}/{number}.jpg"
        rows += [(name, "plate", *box) for box in boxes(number)] or [(name, *("",) * 5)]
    with (root / "labels.csv").open("w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file).writerows(rows)


FORMS: dict[str, Callable[[Path, int], None]] = {
    "yolo": roboflow,
    "voc": label_img,
    "coco": cvat,
    "csv": a_table,
}


def test_four_forms_become_one_set_to_train_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sets = []
    for seed, (form, write) in enumerate(FORMS.items()):
        write(tmp_path / form, 10 * seed)
        sets.append(str(tmp_path / f"set-{form}"))
        words = [str(tmp_path / form), "--form", form, "--name", form, "--keep-splits"]
        folder.main([*words, "--out", sets[-1]])
        assert "no label speaks of them: 0\nlabels without a photo: 0" in capsys.readouterr().out
    merge.main([*sets, "--out", str(tmp_path / "all"), "--near-bits", "0"])
    rows = layout.read_manifest(tmp_path / "all")
    counted = {(row.set, row.split): row.plates for row in rows if row.plates}
    assert counted == {(form, split): 1 for form in FORMS for split in layout.SPLITS}
    assert len(rows) == 16
    data = tmp_path / "all" / "data.yaml"
    assert check_trainable(data) == []
    for split in layout.SPLITS:
        truth = [photo.truth.round().tolist() for photo in read_split(data, split)]
        assert all(found in ([], [list(map(float, BOX))]) for found in truth)
