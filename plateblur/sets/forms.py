"""Label formats: YOLO, Pascal VOC, COCO, CSV and Label Studio.

Layouts, each from its own documentation:

- yolo (docs.ultralytics.com/datasets/detect): `images/.../a.jpg` with `labels/.../a.txt`, or both
  side by side; class names in `data.yaml`. An empty file means that a photo shows no plate. A
  polygon counts as the box around it.
- voc (the PASCAL VOC development kit): an `.xml` of the photo's name, beside it or in a folder of
  their own; `object/name` and `object/bndbox`. Read as edges in pixels from 0, as labelImg, VoTT
  and CVAT write them.
- coco (cocodataset.org/#format-data): one or more `.json` with `images`, `annotations` and
  `categories`; `bbox` is x, y, width, height, and where it is missing the box is around the
  polygons of `segmentation`. A photo with a crowd box is left out.
- csv: one or more `.csv`, a row per box, with a header: `image` or `filename`; `x1,y1,x2,y2` or
  `xmin,ymin,xmax,ymax`, pixels; optionally `class`, `width` and `height`. A row without numbers
  means that a photo shows none. Commas, semicolons or tabs separate the columns.
- label-studio (labelstud.io, "JSON" export): one or more `.json`, a list of tasks;
  `rectanglelabels` and `polygonlabels` in percent of the picture. A task that nobody submitted is
  left out.

If voc, coco, csv or label-studio state a picture size, it must be that of the photo. A label file
is of one photo, and a name in it must not fit several photos: otherwise that is an error.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote
from xml.etree.ElementTree import ParseError

import defusedxml.ElementTree
import numpy as np
from defusedxml.common import DefusedXmlException
from PIL import Image as PillowImage
from PIL import UnidentifiedImageError

from plateblur.sets import layout
from plateblur.sets.files import (
    each_of_one_photo,
    files_in,
    named_photo,
    nearest,
    photos_by_name,
    photos_in,
    the_one,
)
from plateblur.sets.labels import TruthBoxes, label_file, labels_to_xyxy

DrawnOn = Literal["upright", "raster"]
"""What labels were drawn on: the picture as it is shown, or as it is stored, before its EXIF turn.

Tools differ in it, and most label files don't say.
"""

ORIENTATION = 0x0112  # Source: EXIF 2.3, the tag of this name; 1 is upright
# Source: the columns of TensorFlow's, Kaggle's and Roboflow's tables.
CLASS_COLUMNS = ("class", "label", "class_name", "category", "label_name", "labelname")
# Source: Label Studio's documentation; results that say something about the picture as a whole.
NO_REGIONS = {
    *("choices", "datetime", "number", "pairwise", "ranker", "rating", "relation", "taxonomy"),
    "textarea",
}
BESIDE = ("classes.txt", "obj.names", "train.txt", "val.txt", "test.txt")  # text files of YOLO sets


@dataclass(frozen=True, slots=True)
class Labelled:
    """The labels of one photo, of whatever class.

    Attributes:
        path: the photo, or for a single annotation that annotation.
        classes: the class of each box.
        xyxy: (N, 4) float64, pixels of the picture that the labels were drawn on.
        label: the file that the boxes are from.
        size_wh: of the picture as the label file states it, pixels; None where it doesn't.
        in_shares: the file gives shares of the picture; then `xyxy` are pixels of the upright one.
    """

    path: Path
    classes: tuple[str, ...]
    xyxy: TruthBoxes
    label: Path
    size_wh: tuple[int, int] | None = None
    in_shares: bool = False

    def of(self, classes: Collection[str]) -> TruthBoxes:
        """Return the boxes of these classes, (M, 4) float64."""
        return self.xyxy[[name in classes for name in self.classes]].reshape(-1, 4)


def orientation_of(path: Path) -> int:
    """Return a photo's EXIF orientation, 1 to 8; 1 where it has none, or Pillow doesn't open it."""
    try:
        with PillowImage.open(path) as stored:
            return int(stored.getexif().get(ORIENTATION, 1))
    except (UnidentifiedImageError, OSError, ValueError, TypeError):
        return 1


def upright_boxes(photo: Labelled, boxes: TruthBoxes, *, drawn_on: DrawnOn | None) -> TruthBoxes:
    """Return boxes of a photo in pixels of the upright image.

    Args:
        photo: with its labels.
        boxes: (N, 4) float64 of them, pixels of the picture that they were drawn on.
        drawn_on: which picture that is; needed where the photo has an EXIF turn.

    Raises:
        ValueError: it is unknown what the labels were drawn on, or they state another size.
    """
    height, width = layout.image_hw_of(photo.path)
    orientation = orientation_of(photo.path)
    swapped = orientation >= 5  # Source: EXIF 2.3; 5 to 8 swap the axes
    raster_wh = (height, width) if swapped else (width, height)
    if orientation != 1 and drawn_on is None and len(boxes):
        raise ValueError(
            f"the photo is turned when shown (EXIF orientation {orientation}); say with --drawn-on "
            "whether the labels were drawn on the upright picture or on the raster as stored"
        )
    on_raster = drawn_on == "raster" and orientation != 1
    expected = raster_wh if on_raster else (width, height)
    if photo.size_wh not in (None, expected):
        raise ValueError(f"the labels are of a picture of {photo.size_wh}, the photo is {expected}")
    if not on_raster:
        return boxes
    if photo.in_shares:
        boxes = boxes * np.tile([raster_wh[0] / width, raster_wh[1] / height], 2)
    return turned(boxes, orientation=orientation, raster_wh=raster_wh)


def turned(xyxy: TruthBoxes, *, orientation: int, raster_wh: tuple[int, int]) -> TruthBoxes:
    """Return boxes of the stored raster in pixels of the upright image.

    Args:
        xyxy: (N, 4) float64, pixels of the raster.
        orientation: EXIF orientation, 1 to 8.
        raster_wh: width and height of the raster, pixels.
    """
    width, height = raster_wh
    x, y = xyxy[:, [0, 2]], xyxy[:, [1, 3]]
    if orientation in (2, 3, 7, 8):  # mirrored or turned so that x runs the other way
        x = (width - x)[:, ::-1]
    if orientation in (3, 4, 6, 7):
        y = (height - y)[:, ::-1]
    if orientation >= 5:
        x, y = y, x
    return np.stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]], axis=1)


def orphans(form: str, root: Path) -> list[Path]:
    """Return the label files of a folder that have no photo.

    COCO and CSV have none, because a missing photo that they name is an error.
    """
    if form == "voc":
        return sorted(set(files_in(root, ".xml")) - set(_voc_annotations(root).values()))
    if form == "yolo":
        known = {label.resolve() for label in _yolo_labels(root).values()}
        texts = (path for path in files_in(root, ".txt") if path.name not in BESIDE)
        return [path for path in texts if path.resolve() not in known and _is_label(path, root)]
    return []


def _is_label(path: Path, root: Path) -> bool:
    if "labels" in path.relative_to(root).parts:
        return True
    try:
        return len(
            labels_to_xyxy(path.read_text(), image_hw=(1, 1), plate_classes=())
        ) == 0 and bool(path.read_text().strip())
    except (ValueError, OSError):
        return False


def read_yolo(root: Path) -> Iterator[Labelled]:
    """Yield what the label files of a YOLO folder say."""
    names = _yolo_names(root)
    for path, label in _yolo_labels(root).items():
        text = _text_of(label)
        try:
            numbers = sorted({int(line.split()[0]) for line in text.splitlines() if line.strip()})
            size = layout.image_hw_of(path)
            boxes = [
                labels_to_xyxy(text, image_hw=size, plate_classes={number}) for number in numbers
            ]
        except ValueError as error:
            raise layout.DatasetError(f"{label}: {error}") from error
        if unknown := [number for number in numbers if names and number not in names]:
            raise layout.DatasetError(
                f"{label}: expected the classes {sorted(names)} of data.yaml, got {unknown}"
            )
        yield Labelled(
            path=path,
            label=label,
            in_shares=True,
            classes=tuple(
                names.get(number, str(number))
                for number, found in zip(numbers, boxes, strict=True)
                for _ in found
            ),
            xyxy=np.vstack([np.empty((0, 4)), *boxes]),
        )


def _yolo_names(root: Path) -> dict[int, str]:
    path = root / "data.yaml"
    if not path.is_file():
        return {}
    import yaml  # not at the top: it comes with the extra `data`

    try:
        given = yaml.safe_load(_text_of(path))["names"]
        if not isinstance(given, dict | list):
            raise TypeError(f"got {given!r}")
        items = given.items() if isinstance(given, dict) else enumerate(given)
        return {int(number): str(name) for number, name in items}
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise layout.DatasetError(f"{path}: expected `names` of the classes: {error}") from error


def _yolo_labels(root: Path) -> dict[Path, Path]:
    """Return the label file of each photo that has one.

    It is in the twin of the last folder named `images`, or beside the photo.
    """
    found = {}
    for path in photos_in(root):
        places = (label_file(path), path.with_suffix(".txt"))
        labels = [one for at in places for one in (at, at.with_suffix(".TXT")) if one.is_file()]
        if labels:
            found[path] = labels[0]
    return each_of_one_photo(found)


def _text_of(path: Path) -> str:
    """Return the text of a label file, which may begin with a byte order mark.

    Raises:
        DatasetError: it isn't UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise layout.DatasetError(f"{path}: expected text in UTF-8, got {error}") from error


def read_voc(root: Path) -> Iterator[Labelled]:
    """Yield what the annotations of a Pascal VOC folder say."""
    for path, annotation in _voc_annotations(root).items():
        yield replace(voc_objects(annotation), path=path)


def _voc_annotations(root: Path) -> dict[Path, Path]:
    """Return the annotation of each photo that has one, by their names and the nearest folder."""
    annotations: dict[str, list[Path]] = {}
    for path in files_in(root, ".xml"):
        annotations.setdefault(path.stem, []).append(path)
    return each_of_one_photo(
        {
            path: the_one(nearest(path, annotations[path.stem]), of=path, name=path.stem)
            for path in photos_in(root)
            if path.stem in annotations
        }
    )


def voc_objects(annotation: Path) -> Labelled:
    """Return the objects of one Pascal VOC annotation.

    Raises:
        DatasetError: the XML is none of Pascal VOC, or an object has no name or box.
    """
    classes, rows = [], []
    try:
        tree = defusedxml.ElementTree.fromstring(annotation.read_bytes())
        if tree.tag != "annotation":  # other XML, such as a photo's sidecar, has no objects
            raise ValueError(f"<{tree.tag}>")
        stated = [int(tree.findtext(f"size/{side}") or 0) for side in ("width", "height")]
        for item in tree.iter("object"):
            classes.append(item.findtext("name", default="").strip())
            if not classes[-1]:
                raise ValueError("an object without a name")
            edges = ("xmin", "ymin", "xmax", "ymax")
            rows.append([float(item.findtext(f"bndbox/{edge}", default="")) for edge in edges])
    except (ParseError, DefusedXmlException, TypeError, ValueError) as error:
        raise layout.DatasetError(f"{annotation}: expected Pascal VOC, got {error}") from error
    return Labelled(
        path=annotation,
        classes=tuple(classes),
        xyxy=np.array(rows, dtype=np.float64).reshape(-1, 4),
        label=annotation,
        size_wh=_stated(stated),
    )


def _stated(size_wh: Sequence[int]) -> tuple[int, int] | None:
    """Return a stated size; None for 0, which tools write if they don't know it."""
    width, height = size_wh
    return (width, height) if width and height else None


def read_coco(root: Path) -> Iterator[Labelled]:
    """Yield what the COCO files of a folder say; photos with a crowd box are left out."""
    by_name = photos_by_name(root)
    for path in files_in(root, ".json"):
        try:
            for name, has_crowd, labels in _coco_images(path, json.loads(_text_of(path))):
                if not has_crowd:
                    yield replace(labels, path=named_photo(name, near=path, by_name=by_name))
        except (KeyError, TypeError, ValueError) as error:
            raise layout.DatasetError(f"{path}: expected COCO, got {error!r}") from error


def coco_file(path: Path) -> dict[str, Labelled]:
    """Return the boxes of one COCO file by the names that it gives photos, crowd boxes too.

    Whether there are such photos isn't asked.

    Raises:
        DatasetError: it is no COCO file, or names a photo twice.
        OSError: it can't be read.
    """
    found: dict[str, Labelled] = {}
    try:
        for name, _, labels in _coco_images(path, json.loads(_text_of(path))):
            if name in found:
                raise layout.DatasetError(f"{path}: expected each photo once, got {name} twice")
            found[name] = labels
    except (KeyError, TypeError, ValueError) as error:
        raise layout.DatasetError(f"{path}: expected COCO, got {error!r}") from error
    return found


def yolo_file(label: Path, photo: Path) -> Labelled:
    """Return all boxes of one YOLO label file, of whatever class.

    Raises:
        DatasetError: a line is no label, or the photo is none.
        OSError: one can't be read.
    """
    text = _text_of(label)
    size = layout.image_hw_of(photo)
    try:
        numbers = {int(line.split()[0]) for line in text.splitlines() if line.strip()}
        boxes = labels_to_xyxy(text, image_hw=size, plate_classes=numbers)
    except ValueError as error:
        raise layout.DatasetError(f"{label}: {error}") from error
    return Labelled(photo, ("",) * len(boxes), boxes, label, in_shares=True)


def _coco_images(path: Path, given: dict[str, Any]) -> Iterator[tuple[str, bool, Labelled]]:
    """Yield each photo's name, whether one of its boxes is around a crowd, and its boxes."""
    for kind in ("categories", "images"):  # files that were joined by hand have the same ids twice
        ids = Counter(one["id"] for one in given[kind])
        if twice := [number for number, times in ids.items() if times > 1]:
            raise ValueError(f"the id {twice[0]} twice in {kind}")
    names = {category["id"]: str(category["name"]) for category in given["categories"]}
    annotations: dict[Any, list[dict[str, Any]]] = {image["id"]: [] for image in given["images"]}
    for annotation in given["annotations"]:
        annotations[annotation["image_id"]].append(annotation)
    for image in given["images"]:
        of_photo = annotations[image["id"]]
        boxes = [_coco_box(annotation) for annotation in of_photo]
        has_crowd = any(annotation.get("iscrowd") for annotation in of_photo)
        name = str(image["file_name"])
        labels = Labelled(
            path=Path(name),
            label=path,
            size_wh=_stated([int(image.get(side) or 0) for side in ("width", "height")]),
            classes=tuple(names[annotation["category_id"]] for annotation in of_photo),
            xyxy=np.array(boxes, dtype=np.float64).reshape(-1, 4),
        )
        yield name, has_crowd, labels


def _coco_box(annotation: Mapping[str, Any]) -> list[float]:
    """Return an annotation's box as `xyxy`."""
    if annotation.get("bbox"):
        x, y, width, height = annotation["bbox"]
        return [x, y, x + width, y + height]
    polygons = annotation.get("segmentation")
    if not isinstance(polygons, list) or not polygons:
        raise ValueError(f"annotation {annotation.get('id')} without a bbox or polygons")
    points = np.concatenate([np.reshape(polygon, (-1, 2)) for polygon in polygons])
    return [*points.min(axis=0).tolist(), *points.max(axis=0).tolist()]


def read_csv(root: Path) -> Iterator[Labelled]:
    """Yield what the CSV files of a folder say."""
    by_name = photos_by_name(root)
    for path in files_in(root, ".csv"):
        boxes: dict[str, list[tuple[str, list[float]]]] = {}
        sizes: dict[str, tuple[int, int] | None] = {}
        text = _text_of(path)
        header = text.partition("\n")[0]
        reader = csv.DictReader(
            io.StringIO(text, newline=""), delimiter=max(",;\t", key=header.count)
        )
        reader.fieldnames = [name.strip().lower() for name in reader.fieldnames or ()]
        name_column, edges, class_column = _csv_columns(path, reader.fieldnames)
        for row in reader:
            if not any((row[name] or "").strip() for name in reader.fieldnames):
                continue  # tables end in such rows
            found = boxes.setdefault(row[name_column], [])
            try:
                sizes[row[name_column]] = _stated(
                    [int(row.get(side) or 0) for side in ("width", "height")]
                )
                if any((row[edge] or "").strip() for edge in edges):
                    class_ = (row[class_column] or "").strip() if class_column else "plate"
                    if not class_:
                        raise ValueError(f"expected a {class_column} of the box, got none")
                    found.append((class_, [float(row[edge]) for edge in edges]))
            except (TypeError, ValueError) as error:
                raise layout.DatasetError(f"{path}, line {reader.line_num}: {error}") from error
        for name, found in boxes.items():
            yield Labelled(
                path=named_photo(name, near=path, by_name=by_name),
                label=path,
                size_wh=sizes[name],
                classes=tuple(class_ for class_, _ in found),
                xyxy=np.array([box for _, box in found], dtype=np.float64).reshape(-1, 4),
            )


def read_label_studio(root: Path) -> Iterator[Labelled]:
    """Yield what the JSON exports of Label Studio in a folder say; unsubmitted tasks give nothing.

    If several people annotated a photo, the last one counts.
    """
    by_name = photos_by_name(root)
    for path in files_in(root, ".json"):
        try:
            tasks = json.loads(_text_of(path))
            if not isinstance(tasks, list):
                raise TypeError("no list of tasks")
            for task in tasks:
                done = [one for one in task["annotations"] if not one.get("was_cancelled")]
                if done:
                    where = unquote(task["data"]["image"]).rpartition("?d=")[2]
                    photo = named_photo(where.lstrip("/"), near=path, by_name=by_name)
                    yield _of_label_studio(photo, path, done[-1]["result"])
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise layout.DatasetError(
                f"{path}: expected Label Studio's JSON export, got {error!r}"
            ) from error


def _of_label_studio(photo: Path, label: Path, results: list[dict[str, Any]]) -> Labelled:
    height, width = layout.image_hw_of(photo)
    classes, rows, size_wh = [], [], None
    for result in (one for one in results if one["type"] not in NO_REGIONS):
        kind = str(result["type"])
        if kind not in ("rectanglelabels", "polygonlabels"):  # left out, it would be background
            raise ValueError(
                f"{photo.name}: expected rectangles or polygons with labels, not {kind}"
            )
        if result.get("image_rotation"):
            raise ValueError(f"{photo.name}: expected boxes on the picture as it is, not rotated")
        size_wh = (int(result["original_width"]), int(result["original_height"]))
        value = result["value"]
        if kind == "polygonlabels":
            corners = np.array(value["points"], dtype=np.float64) / 100 * [width, height]
        else:
            sides = (value["width"] / 100 * width, value["height"] / 100 * height)
            # Source: Label Studio's documentation; turned clockwise around the top left corner.
            angle = np.radians(value.get("rotation", 0))
            turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
            corners = np.array([[0, 0], [sides[0], 0], sides, [0, sides[1]]]) @ turn
            corners += [value["x"] / 100 * width, value["y"] / 100 * height]
        rows.append(np.concatenate([corners.min(axis=0), corners.max(axis=0)]))
        classes.append(str(value[kind][0]))
    return Labelled(
        path=photo,
        classes=tuple(classes),
        xyxy=np.array(rows, dtype=np.float64).reshape(-1, 4),
        label=label,
        size_wh=size_wh,
        in_shares=True,
    )


def _csv_columns(path: Path, header: Sequence[str]) -> tuple[str, tuple[str, ...], str | None]:
    """Return the columns of the photo's name, of the edges and, if there is one, of the class."""
    names = [name for name in ("image", "filename") if name in header]
    forms = [("x1", "y1", "x2", "y2"), ("xmin", "ymin", "xmax", "ymax")]
    edges = [form for form in forms if set(form) <= set(header)]
    if not names or not edges:
        raise layout.DatasetError(
            f"{path}: expected the columns image or filename, and x1,y1,x2,y2 or "
            f"xmin,ymin,xmax,ymax; got {', '.join(header)}"
        )
    return names[0], edges[0], next((one for one in CLASS_COLUMNS if one in header), None)


READERS: dict[str, Callable[[Path], Iterator[Labelled]]] = {
    "yolo": read_yolo,
    "voc": read_voc,
    "coco": read_coco,
    "csv": read_csv,
    "label-studio": read_label_studio,
}
