"""Open Images V7, class "Vehicle registration plate", through FiftyOne's dataset zoo.

    pip install fiftyone
    python datasets/openimages.py --out datasets/out/openimages

Layout, as FiftyOne arranges a download (fiftyone/utils/openimages.py, docs.voxel51.com/
integrations/open_images.html): `{train,validation,test}/data/ID.jpg`, boxes as shares of the
picture in `labels/detections.csv`, and names of the classes' ids in `metadata/classes.csv`. Only
FiftyOne's download is used, not its database.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from plateblur.sets import in_fiftyone, layout, recipe

ZOO_NAME = "open-images-v7"
CLASS = "Vehicle registration plate"
CARD = layout.SetCard(
    name="openimages",
    source="storage.googleapis.com/openimages (V7)",
    licence="CC BY 4.0 (boxes); photos listed as CC BY 2.0, which Open Images does not vouch for",
    region="world, street photos",
)

SPLIT_OF_PART: dict[str, layout.Split] = {"train": "train", "validation": "val", "test": "test"}
EDGES = ("XMin", "YMin", "XMax", "YMax")


def fetch_zoo(to: Path, *, max_photos: int | None) -> Path:
    """Download the photos that show a plate unless they exist, and return the folder.

    Args:
        to: folder for FiftyOne's zoo.
        max_photos: at most that many of each split; default: all.

    Raises:
        DatasetError: FiftyOne is not installed.
    """
    try:
        fiftyone, zoo = in_fiftyone.imported("fiftyone", "fiftyone.zoo")
    except ModuleNotFoundError as error:
        raise layout.DatasetError(
            "expected FiftyOne: pip install fiftyone, or give SOURCE"
        ) from error
    fiftyone.config.dataset_zoo_dir = str(to)
    _, folder = zoo.download_zoo_dataset(
        ZOO_NAME,
        splits=list(SPLIT_OF_PART),
        label_types=["detections"],
        classes=[CLASS],
        max_samples=max_photos,
    )
    return Path(folder)


def photos(root: Path) -> Iterator[layout.SourcePhoto]:
    """Yield the photos in their own splits; those with a box around a group of plates are left out.

    A group's box says that there are plates in it, not where each of them is.

    Args:
        root: folder that holds `train`, `validation` or `test`.

    Raises:
        DatasetError: not FiftyOne's layout.
    """
    for part, split in SPLIT_OF_PART.items():
        if not (root / part).is_dir():
            continue
        boxes, in_groups = _plates(root / part)
        for path in sorted((root / part / "data").glob("*.jpg")):
            if path.stem not in boxes or path.stem in in_groups:
                continue
            height, width = layout.image_hw_of(path)
            shares = np.array(boxes[path.stem], dtype=np.float64)
            yield layout.SourcePhoto(
                path, shares * [width, height, width, height], split, path.name
            )


def _plates(part: Path) -> tuple[dict[str, list[list[float]]], set[str]]:
    """Return each photo's plates as shares of it, and the photos with a box around a group.

    Row by row, because the boxes of train are 14.6 million rows of all 600 classes.
    """
    classes = _rows(part / "metadata" / "classes.csv")
    plate_ids = {row[0] for row in classes if row[1:] == [CLASS]}
    boxes: dict[str, list[list[float]]] = {}
    in_groups = set()
    rows = _rows(part / "labels" / "detections.csv")
    try:
        column = {name: number for number, name in enumerate(next(rows))}
        image, class_, is_group = (column[n] for n in ("ImageID", "LabelName", "IsGroupOf"))
        edges = [column[edge] for edge in EDGES]
        for row in rows:
            if row[class_] in plate_ids:
                boxes.setdefault(row[image], []).append([float(row[edge]) for edge in edges])
                if row[is_group] == "1":
                    in_groups.add(row[image])
    except (StopIteration, LookupError, ValueError) as error:
        raise layout.DatasetError(f"{part}: expected Open Images' boxes, got {error!r}") from error
    return boxes, in_groups


def _rows(path: Path) -> Iterator[list[str]]:
    if not path.is_file():
        raise layout.DatasetError(f"expected FiftyOne's layout with {path}, found none")
    with path.open(newline="", encoding="utf-8") as file:
        yield from csv.reader(file)


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line, download, convert and print the counts."""
    parser = recipe.command_line(__doc__)
    parser.add_argument("source", type=Path, nargs="?", help="a download of FiftyOne; else made")
    parser.add_argument("--max-photos", type=int, help="at most so many of each split")
    given = parser.parse_args(argv)
    work = given.out.with_name(f"{given.out.name}.source")
    root = given.source or fetch_zoo(work, max_photos=given.max_photos)
    recipe.write(given, CARD, photos(root))


if __name__ == "__main__":
    layout.run(main)
