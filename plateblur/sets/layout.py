"""A data set on disk, as every recipe writes it and merging reads it.

SET/
data.yaml              for ultralytics; paths relative to the file
manifest.csv           one row per photo: where it comes from, what is in it, its sha256
images/<split>/        the photos, without metadata
labels/<split>/        YOLO label files of the same names, empty where there is no plate
"""

from __future__ import annotations

import csv
import hashlib
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal, Protocol, get_args

import numpy as np

from plateblur.boxes import iou_matrix
from plateblur.errors import PhotoError, PlateblurError
from plateblur.guidance import plate_ratios
from plateblur.photo import upright_hw
from plateblur.sets.bare import without_metadata
from plateblur.sets.labels import TruthBoxes, labels_to_xyxy, xyxy_to_labels

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)

VAL_SHARE = TEST_SHARE = 0.1  # of the groups; a tenth is usual, and no figure depends on it

NO_BOXES: TruthBoxes = np.empty((0, 4))
"""The boxes of a photo that was looked at and shows no plate."""

LEAST_PX = 1.0  # of a box's sides; a table of shares read as pixels has boxes below it
LEAST_INSIDE = 0.5  # of a box; labels of cut plates reach over the edge, but not by most of them
SAME_IOU = 0.5  # of two boxes that label one plate
BROKEN_SHOWN = 10  # of the broken labels that a message names

DATA_YAML = """\
# Licence plates, one class. Paths are relative to this file.
train: images/train
val: images/val
test: images/test
names:
  0: plate
"""


class DatasetError(PlateblurError):
    """A data set can't be used: its layout is wrong, it is damaged, or its hash differs."""


@dataclass(frozen=True, slots=True)
class SetCard:
    """What is known about a set, the same for each of its photos.

    Attributes:
        name: short name, the first part of each photo's file name.
        source: where it is from.
        licence: as its authors state it, with what is doubtful about it.
        region: where the plates are from.
    """

    name: str
    source: str
    licence: str
    region: str


class Encoded(Protocol):
    """An encoded photo, such as the path of one."""

    def read_bytes(self) -> bytes: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class SourcePhoto:
    """One photo as a recipe found it.

    Attributes:
        path: the encoded photo.
        xyxy: (N, 4) float64, pixels of the upright image.
        split: the split that its source goes to.
        original_name: its name at the source.
        label: the file that its boxes are from, for messages; None where each photo has none.
        part: name of the set in the manifest where it isn't the card's, so that merging can
            oversample it.
    """

    path: Encoded
    xyxy: TruthBoxes
    split: Split
    original_name: str
    label: Path | None = None
    part: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One photo of the manifest; the fields are its columns.

    Attributes:
        image: path from the set's folder, with forward slashes.
        split: train, val or test.
        set: name of the set that it comes from.
        source: where that set is from.
        licence: as stated.
        region: where the plates are from.
        width: of the upright image, pixels.
        height: of the upright image, pixels.
        plates: how many are labelled.
        smallest_plate_height_ratio: plate height : picture height of the smallest; None without.
        sha256: of the file.
        original_name: its name at the source.
    """

    image: str
    split: Split
    set: str
    source: str
    licence: str
    region: str
    width: int
    height: int
    plates: int
    smallest_plate_height_ratio: float | None
    sha256: str
    original_name: str

    @property
    def name(self) -> str:
        """File name of the photo."""
        return Path(self.image).name

    @property
    def label(self) -> str:
        """Path of the label file from the set's folder."""
        return Path("labels", self.split, self.name).with_suffix(".txt").as_posix()


def split_of(group: str) -> Split:
    """Return the split of everything that shares one source: a ride, a track, a vehicle.

    Chosen by the name's hash, so it is the same on every machine and stays when photos of
    other sources are added.

    Args:
        group: what near-duplicates of each other have in common.
    """
    share = int.from_bytes(hashlib.sha256(group.encode()).digest()[:8], "big") / 2**64
    if share < TEST_SHARE:
        return "test"
    return "val" if share < TEST_SHARE + VAL_SHARE else "train"


def image_hw_of(path: Path) -> tuple[int, int]:
    """Return the height and width of a photo, upright, without decoding its pixels.

    Raises:
        DatasetError: no photo.
    """
    try:
        return upright_hw(path.read_bytes())
    except PhotoError as error:
        raise DatasetError(f"{path}: {error}") from error


def clipped(xyxy: TruthBoxes, *, image_hw: tuple[int, int]) -> TruthBoxes:
    """Return the boxes clipped to the image; one that can't be a plate's is an error.

    Dropping a box silently would turn a photo with plates into one without.

    Args:
        xyxy: (N, 4) float64, pixels.
        image_hw: height and width of the image, pixels.

    Raises:
        ValueError: a box has no area or is smaller than a pixel, or more than half of it is outside
            the image; then the labels are for another size, or not for this photo.
    """
    height, width = image_hw
    within: TruthBoxes = xyxy.clip(0, [width, height, width, height])
    for given, kept in zip(xyxy.tolist(), within.tolist(), strict=True):
        area, left = ((x2 - x1, y2 - y1) for x1, y1, x2, y2 in (given, kept))
        if not min(area) > 0:  # negated, so that NaN is refused too
            raise ValueError(f"box {given} has no area; are its corners the wrong way round?")
        if min(area) < LEAST_PX:
            raise ValueError(f"box {given} is smaller than a pixel; are these shares, not pixels?")
        if not left[0] * left[1] >= LEAST_INSIDE * area[0] * area[1]:
            raise ValueError(f"box {given} lies outside the {width}x{height} photo")
    return within


def smallest_ratio(xyxy: TruthBoxes, *, image_hw: tuple[int, int]) -> float | None:
    """Return the smallest plate ratio of a photo as the manifest gives it, or None without plates.

    Args:
        xyxy: (N, 4) float64, pixels.
        image_hw: height and width of the image, pixels.
    """
    if len(xyxy) == 0:
        return None
    return round(float(plate_ratios(xyxy, image_hw=image_hw).min()), 5)


def same_boxes(one: TruthBoxes, other: TruthBoxes) -> bool:
    """Return whether two labellings of a photo, each (N, 4) float64 pixels, are of the same plates.

    They are if each box overlaps one of the other labelling.
    """
    if not (len(one) == len(other) > 0):
        return len(one) == len(other)
    close = iou_matrix(one.astype(np.float32), other.astype(np.float32)) >= SAME_IOU
    return bool(close.any(axis=0).all() and close.any(axis=1).all())


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Yield a folder to write a new set into, which becomes `out` once it is complete.

    After an error nothing is left.

    Raises:
        DatasetError: it exists and is not empty; a set is never overwritten.
    """
    if out.exists() and any(out.iterdir()):
        raise DatasetError(f"expected {out} to be empty or absent, it holds files")
    part = out.with_name(f".{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        make_folders(part)
        yield part
        if out.exists():
            out.rmdir()
        part.rename(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def make_folders(out: Path) -> None:
    """Create the folders of a set; existing ones stay as they are."""
    for kind in ("images", "labels"):
        for split in SPLITS:
            (out / kind / split).mkdir(parents=True, exist_ok=True)


def write_set(
    out: Path,
    card: SetCard,
    photos: Iterable[SourcePhoto],
    *,
    leave_out_broken: bool = False,
    oversample: Mapping[str, int] | None = None,
) -> list[Row]:
    """Write a set and return its manifest; a repeated photo is written once and counted.

    Args:
        out: folder of the set; not created if anything fails.
        card: what is known about the set.
        photos: in the order of the manifest.
        leave_out_broken: leave out and report a photo with a box that can't be a plate's instead
            of refusing the whole set.
        oversample: as of `write_manifest`.

    Raises:
        DatasetError: `out` holds files, a photo is damaged, a box is broken, a repeated photo has
            other boxes, or there is no photo.
    """
    rows: dict[str, Row] = {}
    written: dict[str, TruthBoxes] = {}
    contradicted: set[str] = set()
    repeated = 0
    broken: list[str] = []
    with new_folder(out) as part:
        for photo in photos:
            data = photo.path.read_bytes()
            name = f"{card.name}-{hashlib.sha256(data).hexdigest()[:12]}"
            try:
                data, suffix, image_hw = without_metadata(data)
                boxes = clipped(photo.xyxy, image_hw=image_hw)
                if name in rows and not same_boxes(boxes, written[name]):
                    contradicted.add(name)
                    raise ValueError(f"the photo of {rows[name].original_name}, with other boxes")
            except PhotoError as error:
                raise DatasetError(f"{photo.original_name}: {error}") from error
            except ValueError as error:
                of = f" ({photo.label})" if photo.label else ""
                broken.append(f"{photo.original_name}{of}: {error}")
                continue
            if name in rows:
                repeated += 1
                continue
            written[name] = boxes
            rows[name] = Row(
                image=f"images/{photo.split}/{name}{suffix}",
                split=photo.split,
                set=photo.part or card.name,
                source=card.source,
                licence=card.licence,
                region=card.region,
                width=image_hw[1],
                height=image_hw[0],
                plates=len(boxes),
                smallest_plate_height_ratio=smallest_ratio(boxes, image_hw=image_hw),
                sha256=hashlib.sha256(data).hexdigest(),
                original_name=photo.original_name,
            )
            write_photo(part, rows[name], data, boxes)
        report_broken(broken, leave_out=leave_out_broken)
        for name in contradicted:
            row = rows.pop(name)
            (part / row.image).unlink()
            (part / row.label).unlink()
        if repeated:
            sys.stderr.write(f"left out, because they repeat a photo and its boxes: {repeated}\n")
        if not rows:
            raise DatasetError(f"{card.name}: expected photos, found none")
        write_manifest(part, list(rows.values()), oversample=oversample)
    return list(rows.values())


def report_broken(broken: Sequence[str], *, leave_out: bool) -> None:
    """Say which photos have broken labels.

    Args:
        broken: a line for each of them.
        leave_out: they are left out.

    Raises:
        DatasetError: there are some, and `leave_out` is false.
    """
    if not broken:
        return
    more = [f"and {len(broken) - BROKEN_SHOWN} more"] if len(broken) > BROKEN_SHOWN else []
    lines = "\n".join(f"  {line}" for line in [*broken[:BROKEN_SHOWN], *more])
    if not leave_out:
        raise DatasetError(
            f"{len(broken)} photos have broken labels; correct them, or leave these photos out "
            f"with --leave-out-broken:\n{lines}"
        )
    sys.stderr.write(f"left out, because their labels are broken: {len(broken)}\n{lines}\n")


def write_photo(root: Path, row: Row, data: bytes, xyxy: TruthBoxes) -> None:
    """Write one photo of a set and its label file.

    Args:
        root: folder of the set.
        row: the photo's row of the manifest.
        data: the photo.
        xyxy: (N, 4) float64, pixels; each with an area inside the image.
    """
    (root / row.image).write_bytes(data)
    (root / row.label).write_text(xyxy_to_labels(xyxy, image_hw=(row.height, row.width)))


def write_manifest(
    root: Path, rows: Sequence[Row], *, oversample: Mapping[str, int] | None = None
) -> None:
    """Write a set's `manifest.csv` and `data.yaml`.

    Args:
        root: folder of the set.
        rows: one per photo.
        oversample: how often `train.txt` lists the train photos of a set, by its name; `data.yaml`
            then names that file. The files and the manifest hold each photo once.
    """
    columns = [field.name for field in fields(Row)]
    with (root / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
    if not oversample:
        (root / "data.yaml").write_text(DATA_YAML)
        return
    # ultralytics takes a list of files too; "./" is the folder of the list.
    train = [row for row in rows if row.split == "train"]
    lines = [f"./{row.image}\n" * oversample.get(row.set, 1) for row in train]
    (root / "train.txt").write_text("".join(lines))
    (root / "data.yaml").write_text(DATA_YAML.replace("images/train", "train.txt"))


def read_manifest(root: Path) -> list[Row]:
    """Return the rows of a set's `manifest.csv`.

    Raises:
        DatasetError: there is none, a column is missing, or a value is invalid.
    """
    path = root / "manifest.csv"
    if not path.is_file():
        raise DatasetError(f"expected a manifest at {path}, found none")
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        missing = {field.name for field in fields(Row)} - set(reader.fieldnames or ())
        if missing:
            raise DatasetError(f"{path}: expected the columns {sorted(missing)} too")
        try:
            return [_row(given) for given in reader]
        except (ValueError, TypeError) as error:
            raise DatasetError(f"{path}, line {reader.line_num}: {error}") from error


def _row(given: dict[str, str]) -> Row:
    if given["split"] not in SPLITS:
        raise ValueError(f"expected a split of {SPLITS}, got {given['split']!r}")
    ratio = given["smallest_plate_height_ratio"]
    return Row(
        image=given["image"],
        split=given["split"],
        set=given["set"],
        source=given["source"],
        licence=given["licence"],
        region=given["region"],
        width=int(given["width"]),
        height=int(given["height"]),
        plates=int(given["plates"]),
        smallest_plate_height_ratio=float(ratio) if ratio else None,
        sha256=given["sha256"],
        original_name=given["original_name"],
    )


def read_boxes(root: Path, row: Row) -> TruthBoxes:
    """Return the labelled boxes of one photo of a set.

    Args:
        root: folder of the set.
        row: the photo's row of the manifest.

    Returns:
        (N, 4) float64, pixels of the upright image.

    Raises:
        DatasetError: there is no label file, or it is damaged.
    """
    try:
        text = (root / row.label).read_text()
        return labels_to_xyxy(text, image_hw=(row.height, row.width))
    except FileNotFoundError as error:
        raise DatasetError(f"expected labels at {root / row.label}, found none") from error
    except ValueError as error:
        raise DatasetError(f"{root / row.label}: {error}") from error


def table(header: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    """Return a text table, the first column to the left, the others to the right.

    Args:
        header: names of the columns.
        lines: values, one per column.
    """
    texts = [list(header), *([str(value) for value in line] for line in lines)]
    widths = [max(len(text[column]) for text in texts) for column in range(len(header))]
    return "\n".join(
        "  ".join(
            value.ljust(width) if column == 0 else value.rjust(width)
            for column, (value, width) in enumerate(zip(text, widths, strict=True))
        ).rstrip()
        for text in texts
    )


def counts(rows: Sequence[Row]) -> str:
    """Return a table of a set's photos, plates and photos without plates, by split.

    Args:
        rows: of the manifest.
    """
    photos = Counter(row.split for row in rows)
    empty = Counter(row.split for row in rows if row.plates == 0)
    plates: Counter[Split] = Counter()
    for row in rows:
        plates[row.split] += row.plates
    lines = [(split, photos[split], plates[split], empty[split]) for split in SPLITS]
    lines_and_all = [*lines, ("all", photos.total(), plates.total(), empty.total())]
    return table(("split", "photos", "plates", "photos without"), lines_and_all)


def run(main: Callable[[], None]) -> None:
    """Run a recipe; a fault of its input ends it with its message and exit code 1.

    Args:
        main: reads the command line and does the work.
    """
    try:
        main()
    except (PlateblurError, OSError) as error:
        sys.exit(f"error: {error}")
