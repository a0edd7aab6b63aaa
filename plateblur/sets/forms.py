"""Label forms of others: YOLO, Pascal VOC, COCO, CSV, and UFPR-ALPR's and RodoSol-ALPR's text.

Layouts, each from its own documentation:

- yolo (docs.ultralytics.com/datasets/detect): `images/.../a.jpg` with `labels/.../a.txt`, or both
  side by side; class names in `data.yaml`. An empty file says that a photo shows no plate.
- voc (the PASCAL VOC development kit): an `.xml` of the photo's name, beside it or in a folder of
  their own; `object/name` and `object/bndbox`. Read as edges in pixels from 0, as labelImg, VoTT
  and CVAT write them.
- coco (cocodataset.org/#format-data): one or more `.json` with `images`, `annotations` and
  `categories`; `bbox` is x, y, width, height. A photo with a crowd box is left out.
- csv: one or more `.csv`, a row a box, with a header: `image` or `filename`; `x1,y1,x2,y2` or
  `xmin,ymin,xmax,ymax`; optionally `class`. A row without numbers says that a photo shows none.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError

import defusedxml.ElementTree
import numpy as np
import yaml
from defusedxml.common import DefusedXmlException

from plateblur.sets import layout
from plateblur.sets.labels import TruthBoxes, label_file, labels_to_xyxy


@dataclass(frozen=True, slots=True)
class Labelled:
    """The labels of one photo, of whatever class.

    Attributes:
        path: the photo, or for a single annotation that annotation.
        classes: the class of each box.
        xyxy: (N, 4) float64, pixels of the upright image.
    """

    path: Path
    classes: tuple[str, ...]
    xyxy: TruthBoxes

    def of(self, classes: Collection[str]) -> TruthBoxes:
        """Return the boxes of these classes, (M, 4) float64."""
        return self.xyxy[[name in classes for name in self.classes]].reshape(-1, 4)


def read_yolo(root: Path) -> Iterator[Labelled]:
    """Yield what the label files of a YOLO folder say."""
    names = _yolo_names(root)
    for path in layout.photos_in(root):
        label = _yolo_label(path)
        if not label.is_file():
            continue
        text = label.read_text()
        try:
            numbers = sorted({int(line.split()[0]) for line in text.splitlines() if line.strip()})
            size = layout.image_hw_of(path)
            boxes = [
                labels_to_xyxy(text, image_hw=size, plate_classes={number}) for number in numbers
            ]
        except ValueError as error:
            raise layout.DatasetError(f"{label}: {error}") from error
        yield Labelled(
            path=path,
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
    try:
        given = yaml.safe_load(path.read_text())["names"]
        items = given.items() if isinstance(given, dict) else enumerate(given)
        return {int(number): str(name) for number, name in items}
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise layout.DatasetError(f"{path}: expected `names` of the classes: {error}") from error


def _yolo_label(path: Path) -> Path:
    """Return where a photo's labels are: in the last `images` folder's twin, or beside it."""
    twin = label_file(path)
    return twin if twin.is_file() else path.with_suffix(".txt")


def read_voc(root: Path) -> Iterator[Labelled]:
    """Yield what the annotations of a Pascal VOC folder say."""
    annotations = _by_stem(root.rglob("*.xml"))
    for path in layout.photos_in(root):
        if path.stem in annotations:
            found = voc_objects(_nearest(path, annotations[path.stem]))
            yield Labelled(path, found.classes, found.xyxy)


def voc_objects(annotation: Path) -> Labelled:
    """Return the objects of one Pascal VOC annotation.

    Raises:
        DatasetError: no such XML, or an object without a name or a box.
    """
    classes, rows = [], []
    try:
        for item in defusedxml.ElementTree.fromstring(annotation.read_bytes()).iter("object"):
            classes.append(item.findtext("name", default="").strip())
            edges = ("xmin", "ymin", "xmax", "ymax")
            rows.append([float(item.findtext(f"bndbox/{edge}", default="")) for edge in edges])
    except (ParseError, DefusedXmlException, TypeError, ValueError) as error:
        raise layout.DatasetError(f"{annotation}: expected Pascal VOC, got {error}") from error
    return Labelled(annotation, tuple(classes), np.array(rows, dtype=np.float64).reshape(-1, 4))


def read_coco(root: Path) -> Iterator[Labelled]:
    """Yield what the COCO files of a folder say; photos with a crowd box are left out."""
    for path in sorted(root.rglob("*.json")):
        try:
            yield from _coco_photos(root, path, json.loads(path.read_text(encoding="utf-8")))
        except (KeyError, TypeError, ValueError) as error:
            raise layout.DatasetError(f"{path}: expected COCO, got {error!r}") from error


def _coco_photos(root: Path, path: Path, given: dict[str, Any]) -> Iterator[Labelled]:
    names = {category["id"]: str(category["name"]) for category in given["categories"]}
    annotations: dict[Any, list[dict[str, Any]]] = {image["id"]: [] for image in given["images"]}
    for annotation in given["annotations"]:
        annotations[annotation["image_id"]].append(annotation)
    by_name = _by_name(root)
    for image in given["images"]:
        of_photo = annotations[image["id"]]
        if any(annotation.get("iscrowd") for annotation in of_photo):
            continue
        xywh = np.array([annotation["bbox"] for annotation in of_photo], dtype=np.float64)
        xywh = xywh.reshape(-1, 4)
        yield Labelled(
            path=_photo(image["file_name"], near=path, by_name=by_name),
            classes=tuple(names[annotation["category_id"]] for annotation in of_photo),
            xyxy=np.hstack([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]]),
        )


def read_csv(root: Path) -> Iterator[Labelled]:
    """Yield what the CSV files of a folder say."""
    by_name = _by_name(root)
    for path in sorted(root.rglob("*.csv")):
        boxes: dict[str, list[tuple[str, list[float]]]] = {}
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            name_column, edges = _csv_columns(path, reader.fieldnames or ())
            for row in reader:
                found = boxes.setdefault(row[name_column], [])
                if any((row[edge] or "").strip() for edge in edges):
                    try:
                        box = [float(row[edge]) for edge in edges]
                    except (TypeError, ValueError) as error:
                        raise layout.DatasetError(
                            f"{path}, line {reader.line_num}: {error}"
                        ) from error
                    found.append((row.get("class") or "plate", box))
        for name, found in boxes.items():
            yield Labelled(
                path=_photo(name, near=path, by_name=by_name),
                classes=tuple(class_ for class_, _ in found),
                xyxy=np.array([box for _, box in found], dtype=np.float64).reshape(-1, 4),
            )


def _csv_columns(path: Path, header: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    names = [name for name in ("image", "filename") if name in header]
    forms = [("x1", "y1", "x2", "y2"), ("xmin", "ymin", "xmax", "ymax")]
    edges = [form for form in forms if set(form) <= set(header)]
    if not names or not edges:
        raise layout.DatasetError(
            f"{path}: expected the columns image or filename, and x1,y1,x2,y2 or "
            f"xmin,ymin,xmax,ymax; got {', '.join(header)}"
        )
    return names[0], edges[0]


def _by_stem(paths: Iterator[Path]) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in sorted(paths):
        found.setdefault(path.stem, []).append(path)
    return found


def _by_name(root: Path) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in layout.photos_in(root):
        found.setdefault(path.name, []).append(path)
    return found


def _nearest(path: Path, candidates: Sequence[Path]) -> Path:
    """Return the candidate that shares the most of its folders with `path`.

    So `train/images/1.jpg` goes with `train/annots/1.xml` and not with `valid/annots/1.xml`.
    """
    return max(candidates, key=lambda found: len(set(found.parts) & set(path.parts)))


def _photo(name: str, *, near: Path, by_name: dict[str, list[Path]]) -> Path:
    """Return the photo that a label file names: by its path from there, or else by its name."""
    beside = near.parent / name
    if beside.is_file():
        return beside
    candidates = by_name.get(Path(name).name, [])
    if not candidates:
        raise layout.DatasetError(f"{near}: expected the photo {name}, found none")
    return _nearest(near.with_name(near.stem.removeprefix("instances_")) / name, candidates)


READERS: dict[str, Callable[[Path], Iterator[Labelled]]] = {
    "yolo": read_yolo,
    "voc": read_voc,
    "coco": read_coco,
    "csv": read_csv,
}


def fields_of(annotation: Path) -> dict[str, str]:
    """Return the `name: value` lines of an annotation; a name that comes again is passed over.

    Args:
        annotation: text file of UFPR-ALPR or RodoSol-ALPR.

    Raises:
        DatasetError: there is none.
    """
    if not annotation.is_file():
        raise layout.DatasetError(f"expected an annotation at {annotation}, found none")
    found: dict[str, str] = {}
    for line in annotation.read_text(encoding="utf-8", errors="replace").splitlines():
        name, colon, value = line.partition(":")
        if colon:
            found.setdefault(name.strip(), value.strip())
    return found


def corner_box(text: str) -> TruthBoxes:
    """Return the box around four corners.

    Args:
        text: `x,y x,y x,y x,y`, pixels.

    Returns:
        (1, 4) float64, pixels.

    Raises:
        ValueError: not four points.
    """
    points = np.array([pair.split(",") for pair in text.split()], dtype=np.float64)
    if points.shape != (4, 2):
        raise ValueError(f"expected 4 corners, got {text!r}")
    return np.concatenate([points.min(axis=0), points.max(axis=0)])[None]
