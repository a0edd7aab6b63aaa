"""Folders as people have them: each oddity is read right, or refused with its file's name.

What is never allowed: a dropped box, another photo's boxes, or a labelled photo without plates.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import folder
from plateblur.sets import forms, layout
from tests.datasets.drawn import draw, encoded, scene

PLATE = (40, 60, 104, 76)  # of a 320x240 photo
YOLO = "0 0.225 0.28333333 0.2 0.06666667\n"
BOX = "<bndbox><xmin>40</xmin><ymin>60</ymin><xmax>104</xmax><ymax>76</ymax></bndbox>"
VOC = f"<annotation><object><name>plate</name>{BOX}</object></annotation>"
TABLE = "filename,xmin,ymin,xmax,ymax\n"
IMAGE = {"id": 1, "file_name": "a.jpg"}
OF_IMAGE = {"id": 1, "image_id": 1, "category_id": 1}


def coco(*annotations: dict[str, Any], images: tuple[dict[str, Any], ...] = (IMAGE,)) -> str:
    categories = [{"id": 1, "name": "plate"}]
    whole = [OF_IMAGE | one for one in annotations]
    return json.dumps({"categories": categories, "images": images, "annotations": whole})


def label_studio(*results: dict[str, Any]) -> str:
    size = {"original_width": 320, "original_height": 240}
    done = {"result": [size | one for one in results]}
    return json.dumps([{"data": {"image": "/data/upload/a.jpg"}, "annotations": [done]}])


RECTANGLE = {"x": 12.5, "y": 25, "width": 20, "height": 100 / 15}
CORNERS = [[12.5, 25], [32.5, 25], [32.5, 100 * 76 / 240], [12.5, 100 * 76 / 240]]


def converted(form: str, root: Path, *options: str) -> list[layout.Row]:
    out = root.with_name("out")
    folder.main([str(root), "--form", form, "--name", "mine", "--out", str(out), *options])
    return layout.read_manifest(out)


def boxes(root: Path, form: str, *options: str) -> list[list[float]]:
    (row,) = converted(form, root, *options)
    found: list[list[float]] = layout.read_boxes(root.with_name("out"), row).tolist()
    return found


def put(root: Path, name: str, content: str | bytes, *photos: str) -> Path:
    """A folder of photos, each another scene, with one file beside them."""
    for number, photo in enumerate(photos or ("a.jpg",)):
        path = draw((root / photo).with_suffix(Path(photo).suffix.lower()), number)
        path.rename(root / photo)
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


@pytest.mark.parametrize(
    ("form", "name", "content"),
    [
        ("yolo", "a.txt", "\ufeff" + YOLO.replace("\n", "\r\n")),
        ("yolo", "a.TXT", YOLO),
        ("voc", "a.XML", VOC),
        ("voc", "a.xml", VOC.replace("<object>", "<size><depth>1</depth></size><object>")),
        ("coco", "a.json", "\ufeff" + coco({"bbox": [40, 60, 64, 16]})),
        ("coco", "a.JSON", coco({"bbox": [40, 60, 64, 16]})),
        ("coco", "a.json", coco({"segmentation": [[40, 60, 104, 60, 104, 76, 40, 76]]})),
        (
            "coco",
            "a.json",
            coco({"bbox": [], "segmentation": [[40, 60, 70, 76], [80, 70, 104, 76]]}),
        ),
        ("csv", "a.csv", "\ufeffFilename;XMin;YMin;XMax;YMax\r\na.jpg;40;60;104;76\r\n;;;;\r\n"),
        ("csv", "a.CSV", "image\tx1\ty1\tx2\ty2\na.jpg\t40\t60\t104\t76\n"),
        ("csv", "sub/a.csv", TABLE + "C:\\photos\\a.jpg,40,60,104,76\n"),
        (
            "label-studio",
            "a.json",
            label_studio(
                {"type": "rectanglelabels", "value": RECTANGLE | {"rectanglelabels": ["plate"]}},
                {"type": "choices", "value": {"choices": ["night"]}},
            ),
        ),
        (
            "label-studio",
            "a.json",
            label_studio(
                {"type": "polygonlabels", "value": {"points": CORNERS, "polygonlabels": ["plate"]}}
            ),
        ),
    ],
    ids=[
        *("byte order mark and CRLF", "TXT", "XML", "a grey photo", "COCO with a mark", "JSON"),
        *("COCO polygon", "COCO polygons without a box", "Excel's table", "tabs", "Windows' paths"),
        *("a choice about the picture", "Label Studio polygon"),
    ],
)
def test_a_box_is_read_however_it_was_written(
    form: str, name: str, content: str, tmp_path: Path
) -> None:
    found = boxes(put(tmp_path / "in", name, content), form)
    np.testing.assert_allclose(found, [PLATE], atol=0.01)


@pytest.mark.parametrize(
    ("form", "name", "content", "message"),
    [
        ("yolo", "a.txt", b"\xff\xfe0\x00", r"a\.txt: expected text in UTF-8"),
        ("yolo", "data.yaml", "names: plate\n", r"expected `names` of the classes: got 'plate'"),
        ("voc", "a.xml", "<x:xmpmeta xmlns:x='adobe:ns:meta/'/>", "expected Pascal VOC, got <"),
        ("voc", "a.xml", VOC.replace("plate", ""), "an object without a name"),
        ("coco", "a.json", coco({}), r"annotation 1 without a bbox or polygons"),
        ("coco", "a.json", coco({"segmentation": {"counts": "a"}}), "without a bbox or polygons"),
        ("coco", "a.json", coco({"bbox": [40, 60]}), "expected COCO"),
        (
            "coco",
            "a.json",
            coco(images=(IMAGE, IMAGE | {"file_name": "b.jpg"})),
            "id 1 twice in im",
        ),
        ("csv", "a.csv", b"image,x1,y1,x2,y2\n\xe9.jpg,1,2,3,4\n", "expected text in UTF-8"),
        ("csv", "a.csv", "image,x1,y1,x2,y2,label\na.jpg,1,2,9,9,\n", "line 2: expected a label"),
        ("csv", "a.csv", TABLE + "a.jpg,40,60,104\n", "line 2: float"),
        ("csv", "a.csv", TABLE + "a.jpg,0.1,0.2,0.3,0.4\n", "smaller than a pixel; are these shar"),
        ("csv", "a.csv", TABLE + "a.jpg,10,20,30,40\n" * 5, "are these percent of the picture"),
        ("csv", "notes.csv", "", "expected the columns image or filename"),
        (
            "label-studio",
            "a.json",
            label_studio({"type": "brushlabels", "value": {"brushlabels": ["plate"]}}),
            "a.jpg: expected rectangles or polygons with labels, not brushlabels",
        ),
        (
            "label-studio",
            "a.json",
            label_studio({"type": "rectanglelabels", "value": RECTANGLE | {"rectanglelabels": []}}),
            "expected Label Studio's JSON export",
        ),
        (
            "yolo",
            "b.txt",
            YOLO,
            "found none that fit a photo; photos: 1, labels without a photo: 1",
        ),
    ],
)
def test_what_cant_be_read_is_refused_by_name(
    form: str, name: str, content: str | bytes, message: str, tmp_path: Path
) -> None:
    root = put(tmp_path / "in", name, content)
    if name == "data.yaml":
        (root / "a.txt").write_text(YOLO)
    with pytest.raises(layout.DatasetError, match=message):
        converted(form, root)
    assert not list(tmp_path.glob("*out*"))


@pytest.mark.parametrize("column", ["class", "label", "Class_Name", "category"])
def test_a_table_s_classes_are_never_all_taken_for_plates(column: str, tmp_path: Path) -> None:
    rows = "a.jpg,40,60,104,76,plate\na.jpg,20,30,200,200,car\n"
    root = put(tmp_path / "in", "a.csv", TABLE.replace("\n", f",{column}\n") + rows)
    with pytest.raises(layout.DatasetError, match=r"the classes are \['car', 'plate'\]"):
        converted("csv", root)
    assert len(boxes(root, "csv", "--class", "plate")) == 1


@pytest.mark.parametrize(
    ("form", "name", "content", "photos", "message"),
    [
        ("yolo", "a.txt", YOLO, ("a.jpg", "a.png"), r"a\.txt: expected labels of one photo"),
        ("voc", "a.xml", VOC, ("x/a.jpg", "y/a.jpg"), r"a\.xml: expected labels of one photo"),
        ("csv", "a.csv", TABLE + "a.jpg,40,60,104,76\n", ("x/a.jpg", "y/a.jpg"), "expected one fi"),
        (
            "coco",
            "a.json",
            coco({"bbox": [40, 60, 64, 16]}),
            ("x/a.jpg", "y/a.jpg"),
            "expected one",
        ),
    ],
    ids=["a format each", "one annotation", "one row", "one entry"],
)
def test_labels_that_fit_two_photos_are_refused(
    form: str, name: str, content: str, photos: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    with pytest.raises(layout.DatasetError, match=message):
        converted(form, put(tmp_path / "in", name, content, *photos))


def test_a_photo_with_two_annotations_is_refused(tmp_path: Path) -> None:
    root = put(tmp_path / "in", "old/a.xml", VOC, "photos/a.jpg")
    put(root, "new/a.xml", "<annotation/>", "photos/a.jpg")
    with pytest.raises(layout.DatasetError, match=r"a\.jpg: expected one file for a, got .*new"):
        converted("voc", root)


def two_tables(root: Path, second: str) -> Path:
    """Two tables of one photo."""
    put(root, "1.csv", TABLE + "a.jpg,,,,\n", "a.jpg", "b.jpg")
    (root / "2.csv").write_text(TABLE + second + "b.jpg,40,60,104,76\n")
    return root


def test_a_photo_labelled_twice_in_different_ways_is_refused_or_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = two_tables(tmp_path / "in", "a.jpg,40,60,104,76\n")
    with pytest.raises(
        layout.DatasetError, match=r"a\.jpg \(.*2\.csv\): the photo of a\.jpg, with"
    ):
        converted("csv", root)
    (row,) = converted("csv", root, "--leave-out-broken")
    assert row.original_name == "b.jpg"
    assert len(list(root.with_name("out").rglob("*.jpg"))) == 1
    assert "left out, because their labels are broken: 1" in capsys.readouterr().err


def test_a_photo_labelled_twice_in_one_way_is_written_once_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(converted("csv", two_tables(tmp_path / "in", "a.jpg,,,,\n"))) == 2
    assert "because they repeat a photo and its boxes: 1" in capsys.readouterr().err


def test_a_copy_of_a_photo_without_its_boxes_makes_no_negative_of_it(tmp_path: Path) -> None:
    root = put(tmp_path / "in", "a.txt", "")
    shutil.copyfile(root / "a.jpg", root / "copy.jpg")
    (root / "copy.txt").write_text(YOLO)
    with pytest.raises(layout.DatasetError, match=r"copy\.jpg .* the photo of a\.jpg, with other"):
        converted("yolo", root)


@pytest.mark.parametrize("form", ["yolo", "voc", "coco", "csv", "label-studio"])
def test_what_macos_and_windows_leave_in_folders_is_passed_over(
    form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    contents = {
        "yolo": ("labels/a.txt", YOLO),
        "voc": ("labels/a.xml", VOC),
        "coco": ("labels/a.json", coco({"bbox": [40, 60, 64, 16]})),
        "csv": ("labels/a.csv", TABLE + "a.jpg,40,60,104,76\n"),
        "label-studio": ("labels/a.json", label_studio()),
    }
    name, content = contents[form]
    root = put(tmp_path / "in", name, content, "images/a.jpg")
    for path in (root / name, root / "images/a.jpg"):
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7\0")
    for left in (".DS_Store", "Thumbs.db", "desktop.ini", "images/.DS_Store"):
        (root / left).write_bytes(b"\0\5")
    (row,) = converted(form, root)
    assert row.original_name == "images/a.jpg"
    assert "labels without a photo: 0" in capsys.readouterr().out


def test_linked_folders_are_read_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(tmp_path / "disk", "labels/a.txt", YOLO, "images/a.JPG")
    root = tmp_path / "in"
    root.mkdir()
    for name in ("images", "labels"):
        (root / name).symlink_to(tmp_path / "disk" / name)
    (root / "images" / "again").symlink_to(root / "images")  # round and round
    assert len(boxes(root, "yolo")) == 1
    assert "labels without a photo: 0" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["../photos/a.jpg", "{root}/photos/a.jpg", "/mnt/d/a.jpg"])
def test_a_table_may_give_whole_paths(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    line = f"{name.format(root=tmp_path / 'in')},40,60,104,76\n"
    put(tmp_path / "in", "labels/a.csv", TABLE + line, "photos/a.jpg")
    monkeypatch.chdir(tmp_path)
    (row,) = converted("csv", Path("in"))
    assert row.original_name == "photos/a.jpg"
    assert "no label speaks of them: 0" in capsys.readouterr().out


def test_photos_of_other_formats_are_taken_too(tmp_path: Path) -> None:
    root = put(
        tmp_path / "in", "a.csv", TABLE + "a.bmp,40,60,104,76\nb.tif,40,60,104,76\n", "c.jpg"
    )
    for name in ("a.bmp", "b.tif"):
        scene(ord(name[0])).save(root / name)
    rows = converted("csv", root)
    assert sorted(row.original_name for row in rows) == ["a.bmp", "b.tif"]
    assert {Path(row.image).suffix for row in rows} == {".png"}


@pytest.mark.parametrize(
    "polygon", ["0 0.1 0.2 0.4 0.2 0.4 0.5 0.1 0.5\n", "0 .1 .2 .4 .3 .2 .5\n"]
)
def test_polygons_and_boxes_may_be_mixed_in_yolo(polygon: str, tmp_path: Path) -> None:
    found = boxes(put(tmp_path / "in", "a.txt", YOLO + polygon), "yolo")
    np.testing.assert_allclose(found, [PLATE, (32, 48, 128, 120)], atol=0.01)


@pytest.mark.parametrize("names", ["names: [plate]", "names:\n  0: plate", "names: {'0': plate}"])
def test_the_names_of_classes_are_a_list_or_a_mapping(names: str, tmp_path: Path) -> None:
    root = put(tmp_path / "in", "a.txt", YOLO)
    (root / "data.yaml").write_text(f"\ufeff{names}\n", encoding="utf-8")
    assert len(boxes(root, "yolo", "--class", "plate")) == 1


def test_a_turned_photo_in_label_studio_asks_what_was_drawn_on(tmp_path: Path) -> None:
    rectangle = {"type": "rectanglelabels", "value": RECTANGLE | {"rectanglelabels": ["plate"]}}
    root = put(tmp_path / "in", "a.json", label_studio(rectangle))
    exif = Image.Exif()
    exif[forms.ORIENTATION] = 3
    (root / "a.jpg").write_bytes(encoded(scene(1), exif=exif))
    with pytest.raises(layout.DatasetError, match="say with --drawn-on"):
        converted("label-studio", root)
    found = boxes(root, "label-studio", "--drawn-on", "raster")
    np.testing.assert_allclose(found, [(320 - 104, 240 - 76, 320 - 40, 240 - 60)], atol=0.01)


def test_a_file_that_cant_be_opened_ends_a_recipe_with_one_line() -> None:
    def main() -> None:
        raise PermissionError(13, "Permission denied", "a.txt")

    with pytest.raises(SystemExit, match=r"error: .*Permission denied: 'a\.txt'"):
        layout.run(main)
