from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

import folder
from plateblur.sets import fetch, forms, layout
from tests.datasets.drawn import draw, encoded, scene

PLATE, CAR = (40, 60, 104, 76), (20, 30, 200, 200)
# Of a 320x240 photo, the plate and the car above.
YOLO_PLATE, YOLO_CAR = "0.225 0.28333333 0.2 0.06666667", "0.34375 0.47916667 0.5625 0.70833333"
VOC = "<annotation><object><name>{}</name><bndbox>{}</bndbox></object></annotation>"


def yolo(root: Path) -> None:
    """Three photos in Ultralytics' layout: a plate and a car, none, and one that none labelled."""
    for number, split in ((1, "train"), (2, "valid"), (3, "valid")):
        draw(root / "images" / split / f"{number}.jpg", number)
        (root / "labels" / split).mkdir(parents=True, exist_ok=True)
    (root / "labels" / "train" / "1.txt").write_text(f"1 {YOLO_PLATE}\n0 {YOLO_CAR}\n")
    (root / "labels" / "valid" / "2.txt").write_text("")
    (root / "data.yaml").write_text("names: [car, plate]\n")


def voc(root: Path) -> None:
    """The same; the names of photos come again in the other split, annotations stand apart."""
    edges = ("xmin", "ymin", "xmax", "ymax")

    def box(values: tuple[int, int, int, int]) -> str:
        pairs = zip(edges, values, strict=True)
        return "".join(f"<{edge}>{value}</{edge}>" for edge, value in pairs)

    for number, split in ((1, "train"), (2, "valid"), (3, "valid")):
        draw(root / split / "images" / f"{number}.jpg", number)
        (root / split / "annots").mkdir(exist_ok=True)
    one = VOC.format("plate", box(PLATE)).removesuffix("</annotation>")
    two = VOC.format("car", box(CAR)).removeprefix("<annotation>")
    (root / "train" / "annots" / "1.xml").write_text(one + two)
    (root / "valid" / "annots" / "2.xml").write_text("<annotation></annotation>")


def coco_json(**changes: Any) -> str:
    x1, y1, x2, y2 = PLATE
    given: dict[str, Any] = {
        "categories": [{"id": 7, "name": "plate"}, {"id": 8, "name": "car"}],
        "images": [
            {"id": 1, "file_name": "1.jpg", "width": 320, "height": 240},
            {"id": 2, "file_name": "2.jpg", "width": 320, "height": 240},
            {"id": 4, "file_name": "4.jpg", "width": 320, "height": 240},
        ],
        "annotations": [
            {"image_id": 1, "category_id": 7, "bbox": [x1, y1, x2 - x1, y2 - y1], "iscrowd": 0},
            {"image_id": 1, "category_id": 8, "bbox": [20, 30, 180, 170], "iscrowd": 0},
            {"image_id": 4, "category_id": 7, "bbox": [0, 0, 300, 200], "iscrowd": 1},
        ],
    }
    return json.dumps(given | changes)


def coco(root: Path) -> None:
    """The same, and a photo with a crowd of plates; the labels in a folder of their own."""
    for number, split in ((1, "train"), (2, "valid"), (3, "valid"), (4, "train")):
        draw(root / split / f"{number}.jpg", number)
    (root / "annotations").mkdir()
    (root / "annotations" / "instances_all.json").write_text(coco_json())


def csv(root: Path) -> None:
    """The same, as TensorFlow's object detection tools write it."""
    for number, split in ((1, "train"), (2, "valid"), (3, "valid")):
        draw(root / split / f"{number}.jpg", number)
    (root / "labels.csv").write_text(
        "filename,width,height,class,xmin,ymin,xmax,ymax\n"
        "train/1.jpg,320,240,plate,40,60,104,76\n"
        "train/1.jpg,320,240,car,20,30,200,200\n"
        "valid/2.jpg,320,240,,,,,\n"
    )


STAND_INS: dict[str, Callable[[Path], None]] = {"yolo": yolo, "voc": voc, "coco": coco, "csv": csv}


def made(form: str, root: Path) -> Path:
    root.mkdir()
    STAND_INS[form](root)
    return root


def converted(form: str, source: Path, out: Path, *options: str) -> list[layout.Row]:
    given = ["--form", form, "--out", str(out), "--name", "mine", "--class", "plate"]
    folder.main([str(source), *given, *options])
    return layout.read_manifest(out)


@pytest.mark.parametrize("form", STAND_INS)
def test_a_folder_of_each_form_becomes_a_set(
    form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    rows = converted(form, made(form, tmp_path / "given"), out, "--licence", "CC0")
    rows.sort(key=lambda row: Path(row.original_name).name)
    assert [(Path(row.original_name).name, row.plates) for row in rows] == [
        ("1.jpg", 1),
        ("2.jpg", 0),
    ]
    assert {(row.set, row.licence) for row in rows} == {("mine", "CC0")}
    np.testing.assert_allclose(layout.read_boxes(out, rows[0]), [PLATE], atol=0.001)
    printed = capsys.readouterr().out
    assert "all         2       1               1" in printed
    assert f"no label speaks of them: {2 if form == 'coco' else 1}" in printed


@pytest.mark.parametrize("form", STAND_INS)
def test_the_splits_of_a_folder_can_be_kept(form: str, tmp_path: Path) -> None:
    rows = converted(form, made(form, tmp_path / "given"), tmp_path / "out", "--keep-splits")
    assert {Path(row.original_name).name: row.split for row in rows} == {
        "1.jpg": "train",
        "2.jpg": "val",
    }


def test_an_archive_is_downloaded_checked_and_converted(
    tmp_path: Path, serve_files: Callable[[Path], str]
) -> None:
    source = made("yolo", tmp_path / "given")
    with zipfile.ZipFile(tmp_path / "given.zip", "w") as archive:
        for path in source.rglob("*.*"):
            archive.write(path, path.relative_to(source))
    given = ["--form", "yolo", "--name", "mine", "--class", "plate", "--out", str(tmp_path / "out")]
    url = f"{serve_files(tmp_path)}/given.zip"
    folder.main([*given, "--url", url, "--sha256", fetch.sha256_of(tmp_path / "given.zip")])
    assert len(layout.read_manifest(tmp_path / "out")) == 2


@pytest.mark.parametrize(
    ("wanted", "found"),
    [([], None), (["plate"], {"plate"}), (["plate", "car"], {"plate", "car"}), (["boat"], None)],
    ids=["none of two", "one", "both", "unknown"],
)
def test_the_classes_of_plates_are_named_where_there_are_several(
    wanted: list[str], found: set[str] | None, tmp_path: Path
) -> None:
    labelled = list(forms.read_yolo(made("yolo", tmp_path / "given")))
    if found is None:
        with pytest.raises(layout.DatasetError, match=r"the classes are \['car', 'plate'\]"):
            folder.plate_classes(labelled, wanted)
    else:
        assert folder.plate_classes(labelled, wanted) == found


def test_yolo_labels_may_stand_beside_the_photos_and_have_no_names(tmp_path: Path) -> None:
    draw(tmp_path / "a.jpg", 1)
    (tmp_path / "a.txt").write_text(f"3 {YOLO_PLATE}\n")
    (labelled,) = forms.read_yolo(tmp_path)
    assert labelled.classes == ("3",)
    np.testing.assert_allclose(labelled.xyxy, [PLATE], atol=0.001)


def test_coco_files_may_stand_beside_the_photos(tmp_path: Path) -> None:
    for number in (1, 2, 4):
        draw(tmp_path / "train" / f"{number}.jpg", number)
    (tmp_path / "train" / "_annotations.coco.json").write_text(coco_json())
    assert [photo.path.name for photo in forms.read_coco(tmp_path)] == ["1.jpg", "2.jpg"]


@pytest.mark.parametrize(
    ("name", "pattern", "group"),
    [
        ("train/car_jpg.rf.0123456789abcdef0123456789abcdef.jpg", None, "car"),
        ("train/car.jpg", None, "car"),
        ("ride7/frame12.jpg", r"ride\d+", "ride7"),
        ("ride7/frame12.jpg", r"ride(\d+)/", "7"),
    ],
    ids=["Roboflow's versions", "a photo", "a ride", "a ride's number"],
)
def test_near_duplicates_share_a_group(name: str, pattern: str | None, group: str) -> None:
    assert folder.group_of(name, re.compile(pattern) if pattern else None) == group


def test_a_pattern_that_finds_no_group_is_an_error() -> None:
    with pytest.raises(layout.DatasetError, match="to match each name"):
        folder.group_of("a.jpg", re.compile("ride"))


def test_a_folder_that_is_no_split_is_an_error() -> None:
    with pytest.raises(layout.DatasetError, match="expected a folder named"):
        folder.folder_split("photos/a.jpg")


@pytest.mark.parametrize(
    ("form", "name", "text", "message"),
    [
        ("yolo", "labels/train/1.txt", "0 1 2\n", r"1\.txt: label line 1"),
        ("yolo", "labels/train/1.txt", "plate 0.5 0.5 0.1 0.1\n", r"1\.txt: invalid literal"),
        ("yolo", "data.yaml", "nc: 2\n", "expected `names`"),
        ("voc", "train/annots/1.xml", "<annotation><object>", "expected Pascal VOC"),
        ("voc", "train/annots/1.xml", VOC.format("plate", ""), "expected Pascal VOC"),
        ("voc", "train/annots/1.xml", "<!DOCTYPE a [<!ENTITY b 'c'>]><a/>", "expected Pascal VOC"),
        ("coco", "annotations/instances_all.json", "{", "expected COCO"),
        ("coco", "annotations/instances_all.json", coco_json(categories=[]), "expected COCO"),
        (
            "coco",
            "annotations/instances_all.json",
            coco_json(images=[{"id": 1, "file_name": "9.jpg"}], annotations=[]),
            "expected the photo 9.jpg, found none",
        ),
        ("csv", "labels.csv", "image,left,top\n", "expected the columns"),
        ("csv", "labels.csv", "image,x1,y1,x2,y2\n1.jpg,1,2,3,wide\n", "line 2: could not convert"),
        ("csv", "labels.csv", "image,x1,y1,x2,y2\n9.jpg,1,2,3,4\n", "expected the photo 9.jpg"),
    ],
)
def test_damaged_labels_are_named(
    form: str, name: str, text: str, message: str, tmp_path: Path
) -> None:
    root = made(form, tmp_path / "given")
    (root / name).write_text(text)
    with pytest.raises(layout.DatasetError, match=message):
        list(forms.READERS[form](root))


EDGES = dict(zip(("xmin", "ymin", "xmax", "ymax"), PLATE, strict=True))
BOX = "".join(f"<{edge}>{value}</{edge}>" for edge, value in EDGES.items())
SIZE = "<size><width>{}</width><height>{}</height></size>"
TURNED = 6  # EXIF: the raster is to be turned clockwise by a quarter


def labelled_photo(root: Path, form: str, *, orientation: int, stated: str = "") -> None:
    """A photo stored as 320x240, with PLATE drawn on its raster, and its label of some form."""
    exif = Image.Exif()
    exif[forms.ORIENTATION] = orientation
    draw(root / "a.jpg", 1)
    (root / "a.jpg").write_bytes(encoded(scene(1), exif=exif))
    if form == "yolo":
        (root / "a.txt").write_text(f"0 {YOLO_PLATE}\n")
    elif form == "voc":
        one = VOC.format("plate", BOX).replace("<object>", f"{stated}<object>", 1)
        (root / "a.xml").write_text(one)
    elif form == "coco":
        x1, y1, x2, y2 = PLATE
        box = {"image_id": 1, "category_id": 1, "bbox": [x1, y1, x2 - x1, y2 - y1]}
        image = {"id": 1, "file_name": "a.jpg"}
        categories = [{"id": 1, "name": "plate"}]
        given = {"categories": categories, "images": [image], "annotations": [box]}
        (root / "a.json").write_text(json.dumps(given))
    else:
        (root / "a.csv").write_text(f"image,x1,y1,x2,y2\na.jpg,{','.join(map(str, PLATE))}\n")


def convert(form: str, root: Path, out: Path, *options: str) -> Path:
    folder.main([str(root), "--form", form, "--out", str(out), "--name", "mine", *options])
    return out


@pytest.mark.parametrize("form", STAND_INS)
def test_labels_of_a_turned_photo_ask_what_they_were_drawn_on(form: str, tmp_path: Path) -> None:
    labelled_photo(tmp_path / "in", form, orientation=TURNED)
    with pytest.raises(layout.DatasetError, match=r"EXIF orientation 6\); say with --drawn-on"):
        convert(form, tmp_path / "in", tmp_path / "out")
    out = convert(form, tmp_path / "in", tmp_path / "raster", "--drawn-on", "raster")
    (row,) = layout.read_manifest(out)
    x1, y1, x2, y2 = PLATE
    turned = [[240 - y2, x1, 240 - y1, x2]]
    np.testing.assert_allclose(layout.read_boxes(out, row), turned, atol=0.01)
    assert (row.width, row.height) == (240, 320)


def test_labels_drawn_on_the_upright_picture_stay(tmp_path: Path) -> None:
    labelled_photo(tmp_path / "in", "csv", orientation=TURNED)
    out = convert("csv", tmp_path / "in", tmp_path / "out", "--drawn-on", "upright")
    (row,) = layout.read_manifest(out)
    np.testing.assert_allclose(layout.read_boxes(out, row), [PLATE], atol=0.01)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_turn_as_pillow_turns_pictures(orientation: int) -> None:
    raster = Image.new("L", (30, 20))
    raster.paste(255, (3, 5, 10, 8))
    exif = raster.getexif()
    exif[forms.ORIENTATION] = orientation
    upright = ImageOps.exif_transpose(raster)
    given = np.array([[3.0, 5.0, 10.0, 8.0]])
    (box,) = forms.turned(given, orientation=orientation, raster_wh=(30, 20)).tolist()
    assert tuple(box) == upright.getbbox()


@pytest.mark.parametrize(
    ("stated", "refused"),
    [((320, 240), False), ((0, 0), False), ((640, 480), True), ((240, 320), True)],
    ids=["the photo's", "not known", "before it was made smaller", "turned"],
)
def test_a_stated_size_must_be_that_of_the_photo(
    stated: tuple[int, int], refused: bool, tmp_path: Path
) -> None:
    labelled_photo(tmp_path / "in", "voc", orientation=1, stated=SIZE.format(*stated))
    if refused:
        with pytest.raises(layout.DatasetError, match=r"a\.jpg \(.*a\.xml\): the labels are of a"):
            convert("voc", tmp_path / "in", tmp_path / "out")
        assert not (tmp_path / "out").exists()
    else:
        convert("voc", tmp_path / "in", tmp_path / "out")


def test_a_class_number_without_a_name_is_an_error(tmp_path: Path) -> None:
    yolo(tmp_path / "in")
    (tmp_path / "in/labels/valid/2.txt").write_text(f"7 {YOLO_PLATE}\n")
    with pytest.raises(layout.DatasetError, match=r"2\.txt: expected the classes .*got \[7\]"):
        converted("yolo", tmp_path / "in", tmp_path / "out")


def test_inverted_corners_in_a_table_are_an_error_and_name_the_table(tmp_path: Path) -> None:
    draw(tmp_path / "in" / "a.jpg", 1)
    (tmp_path / "in" / "a.csv").write_text("image,x1,y1,x2,y2\na.jpg,104,76,40,60\n")
    with pytest.raises(layout.DatasetError, match=r"a\.jpg \(.*a\.csv\): box .* has no area"):
        convert("csv", tmp_path / "in", tmp_path / "out")
    assert not list(tmp_path.glob("*out*"))


def test_a_photo_with_cars_alone_is_no_photo_without_plates_unless_you_say_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    yolo(tmp_path / "in")
    (tmp_path / "in/labels/valid/2.txt").write_text(f"0 {YOLO_CAR}\n")
    assert len(converted("yolo", tmp_path / "in", tmp_path / "out")) == 1
    printed = capsys.readouterr().out
    assert "boxes of other classes, left out: car 2" in printed
    assert "all their boxes are of other classes: 1" in printed
    assert len(converted("yolo", tmp_path / "in", tmp_path / "more", "--negatives")) == 2


@pytest.mark.parametrize(
    ("form", "orphan"), [("yolo", "labels/train/9.txt"), ("voc", "train/annots/9.xml")]
)
def test_labels_without_a_photo_are_counted(
    form: str, orphan: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = made(form, tmp_path / "in")
    (root / orphan).write_text("")
    (root / "classes.txt").write_text("plate\n")
    converted(form, root, tmp_path / "out")
    assert "labels without a photo: 1" in capsys.readouterr().out


def test_roboflow_s_own_layout_with_what_macos_leaves_in_it(tmp_path: Path) -> None:
    root = tmp_path / "in"
    name = "car_jpg.rf.0123456789abcdef0123456789abcdef"
    draw(root / "train" / "images" / f"{name}.jpg", 1)
    for path in (".DS_Store", f"train/images/._{name}.jpg", "train/images/.DS_Store"):
        (root / path).write_bytes(b"no photo")
    (root / "train" / "labels").mkdir()
    (root / "train" / "labels" / f"{name}.txt").write_text(f"0 {YOLO_PLATE}\n")
    (root / "data.yaml").write_text("train: ../train/images\nnc: 1\nnames: ['plate']\n")
    (row,) = converted("yolo", root, tmp_path / "out", "--keep-splits")
    assert (row.split, row.plates) == ("train", 1)
