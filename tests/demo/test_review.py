"""Photos that are given for retraining: a YOLO data set, with consent, without metadata."""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
import pillow_heif
import pytest
import yaml
from PIL import Image as PillowImage

from plateblur.demo.photos import Limits, add_plate, open_photo
from plateblur.demo.review import CARD, CONSENT, Review, ReviewFullError, example_of
from plateblur.demo.visits import DroppedPhoto
from plateblur.sets import layout
from plateblur.sets.findings import Config as ReviewConfig
from plateblur.sets.findings import read_reviewed
from plateblur.sets.labels import labels_to_xyxy
from plateblur.sets.merge import Config, merge
from plateblur.sets.predictions import write_predictions
from plateblur.sets.split import read_split, split_photos
from tests.demo.fakes import IMAGE_HW, MISSED, PLATE, DrawnDetector, drawn_image, drawn_photo

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def dropped(data: bytes | None = None) -> DroppedPhoto:
    return open_photo(DrawnDetector(), "me at home.jpg", data or drawn_photo(), Limits())


def saved(folder: Path, photo: DroppedPhoto, visitor: str = "one") -> tuple[Path, Path]:
    """Save a photo, and return where its image and its label are."""
    example = example_of(DrawnDetector(), photo, 0.25)
    Review(folder).save(example, visitor=visitor, now=NOW)
    (image,) = folder.glob(f"images/*/{example.name}.*")
    (label,) = folder.glob(f"labels/*/{example.name}.txt")
    return image, label


def test_a_corrected_photo_is_saved_with_its_plates_as_yolo_labels(tmp_path: Path) -> None:
    image, label = saved(tmp_path, add_plate(dropped(), MISSED))

    boxes = labels_to_xyxy(label.read_text(), image_hw=IMAGE_HW)
    np.testing.assert_allclose(boxes, [MISSED, PLATE], atol=0.01)
    read = cv2.imread(str(image))
    assert read is not None
    assert read.shape[:2] == IMAGE_HW
    assert image.parent.name == label.parent.name
    [line] = (tmp_path / "consents.jsonl").read_text().splitlines()
    assert json.loads(line) == {"photo": image.stem, "agreed": NOW.isoformat(), "to": CONSENT}
    everything = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"me at home" not in everything


def test_saving_again_replaces_the_labels(tmp_path: Path) -> None:
    saved(tmp_path, dropped())

    _, label = saved(tmp_path, add_plate(dropped(), MISSED))

    assert len(label.read_text().splitlines()) == 2
    assert len(list(tmp_path.glob("images/*/*"))) == 1


def test_no_metadata_is_kept_and_the_photo_is_upright(tmp_path: Path) -> None:
    exif = PillowImage.Exif()
    exif[0x0112], exif[0x010F] = 6, "a camera"
    out = io.BytesIO()
    PillowImage.fromarray(np.rot90(drawn_image()).copy()).save(out, "JPEG", exif=exif, quality=93)

    image, _ = saved(tmp_path, dropped(out.getvalue()))

    with PillowImage.open(image) as read:
        assert (read.height, read.width) == IMAGE_HW
        assert len(read.getexif()) == 0


def test_a_format_that_training_cannot_read_is_kept_as_jpeg(tmp_path: Path) -> None:
    out = io.BytesIO()
    pillow_heif.from_pillow(PillowImage.fromarray(drawn_image())).save(out)

    image, _ = saved(tmp_path, dropped(out.getvalue()))

    assert image.suffix == ".jpg"
    assert cv2.imread(str(image)) is not None


@pytest.mark.parametrize("count", [1, 12], ids=["one photo", "many"])
def test_both_splits_of_the_data_set_have_photos(tmp_path: Path, count: int) -> None:
    for quality in range(count):
        saved(tmp_path, dropped(drawn_photo(quality=95 - quality)), f"visitor {quality}")

    told = yaml.safe_load((tmp_path / "data.yaml").read_text())

    assert told["names"] == {0: "plate"}
    for split in ("train", "val"):
        photos = split_photos(tmp_path / "data.yaml", split)
        assert photos
        for photo in photos:  # where ultralytics looks for its label
            label = Path(str(photo).replace("/images/", "/labels/")).with_suffix(".txt")
            assert label.is_file()
    assert len(list(tmp_path.glob("images/*/*"))) == count


def test_a_folder_that_is_full_takes_no_more_and_stays_as_it_is(tmp_path: Path) -> None:
    image, _ = saved(tmp_path, dropped())
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    another = example_of(DrawnDetector(), dropped(drawn_photo(quality=50)), 0.25)

    full = Review(tmp_path, max_bytes=image.stat().st_size + 1000)
    with pytest.raises(ReviewFullError):
        full.save(another, visitor="one", now=NOW)

    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def of_visitors(folder: Path, count: int) -> list[layout.Row]:
    """Let visitors donate two photos each, in the first of which a plate was missed."""
    for number in range(count):
        visitor = f"visitor {number}"
        saved(folder, add_plate(dropped(drawn_photo(quality=95 - number)), MISSED), visitor)
        saved(folder, dropped(drawn_photo(quality=60 - number)), visitor)
    return layout.read_manifest(folder)


def test_the_manifest_has_what_merging_and_training_need(tmp_path: Path) -> None:
    rows = of_visitors(tmp_path, 1)

    assert {row.image for row in rows} == {
        path.relative_to(tmp_path).as_posix() for path in tmp_path.glob("images/*/*")
    }
    assert sorted((row.set, row.plates) for row in rows) == [("donated", 1), ("donated-missed", 2)]
    for row in rows:
        assert (row.height, row.width) == IMAGE_HW
        assert row.original_name == row.name  # not what its sender calls it
        assert row.sha256 == hashlib.sha256((tmp_path / row.image).read_bytes()).hexdigest()
        assert len(layout.read_boxes(tmp_path, row)) == row.plates
    assert "visitor" not in (tmp_path / "manifest.csv").read_text().replace(CARD.source, "")


def test_the_photos_of_a_visitor_go_to_one_split(tmp_path: Path) -> None:
    rows = of_visitors(tmp_path, 8)

    assert len(rows) == 16
    of_split = Counter(row.split for row in rows)
    assert set(of_split) == {"train", "val"}
    assert all(count % 2 == 0 for count in of_split.values())
    listed = Counter(split_photos(tmp_path / "data.yaml", "train"))
    for row in rows:
        times = listed[tmp_path / row.image]
        assert times == (0 if row.split == "val" else 3 if row.set == "donated-missed" else 1)


def test_a_photo_of_two_visitors_is_there_once(tmp_path: Path) -> None:
    for number in range(8):
        saved(tmp_path, dropped(), f"visitor {number}")

    (row,) = layout.read_manifest(tmp_path)
    assert [path.name for path in tmp_path.glob("images/*/*")] == [row.name]


@pytest.mark.slow
def test_donated_photos_are_merged_reviewed_and_read_for_training(tmp_path: Path) -> None:
    donated = tmp_path / "donated"
    rows = of_visitors(donated, 8)
    write_predictions({row.name: np.empty((0, 5)) for row in rows}, tmp_path / "found.jsonl")

    merge(
        [donated],
        tmp_path / "all",
        Config(near_bits=-1, oversample={"donated-missed": 3}, wanted=["to train*"]),
    )
    reviewed = read_reviewed(
        ReviewConfig(
            root=donated,
            split="val",
            model=Path("none.onnx"),
            predictions=tmp_path / "found.jsonl",
            overlay=None,
            sets=[],
        )
    )

    merged = layout.read_manifest(tmp_path / "all")
    assert {row.name for row in merged} == {row.name for row in rows}
    assert {photo.row.name for photo in reviewed} == {r.name for r in rows if r.split == "val"}
    for data in (donated / "data.yaml", tmp_path / "all" / "data.yaml"):
        assert sum(len(read_split(data, split)) for split in ("train", "val")) == len(rows)


def test_a_removed_photo_leaves_the_manifest_when_the_demo_starts(tmp_path: Path) -> None:
    rows = of_visitors(tmp_path, 2)
    for path in (tmp_path / rows[0].image, tmp_path / rows[0].label):
        path.unlink()

    Review(tmp_path)

    assert layout.read_manifest(tmp_path) == rows[1:]
    assert rows[0].name not in (tmp_path / "train.txt").read_text()


def test_a_folder_of_an_earlier_version_gets_its_manifest(tmp_path: Path) -> None:
    rows = of_visitors(tmp_path, 2)
    for name in ("manifest.csv", "train.txt", "data.yaml"):
        (tmp_path / name).unlink()

    Review(tmp_path)

    assert [row.image for row in layout.read_manifest(tmp_path)] == [row.image for row in rows]
    assert split_photos(tmp_path / "data.yaml", "val")


def test_a_photo_without_its_label_stops_the_demo_from_starting(tmp_path: Path) -> None:
    image, label = saved(tmp_path, dropped())
    label.unlink()
    (tmp_path / "manifest.csv").unlink()

    with pytest.raises(layout.DatasetError, match=image.stem):
        Review(tmp_path)


def test_an_empty_folder_stays_empty(tmp_path: Path) -> None:
    Review(tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []
