"""Photos that are given for retraining: a YOLO data set, with consent, without metadata."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
import pillow_heif
import pytest
import yaml
from PIL import Image as PillowImage

from plateblur.demo.photos import Limits, add_plate, open_photo
from plateblur.demo.review import CONSENT, Review, ReviewFullError, example_of
from plateblur.demo.visits import DroppedPhoto
from plateblur.sets.labels import labels_to_xyxy
from tests.demo.fakes import IMAGE_HW, MISSED, PLATE, DrawnDetector, drawn_image, drawn_photo

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def dropped(data: bytes | None = None) -> DroppedPhoto:
    return open_photo(DrawnDetector(), "me at home.jpg", data or drawn_photo(), Limits())


def saved(folder: Path, photo: DroppedPhoto) -> tuple[Path, Path]:
    """Save a photo, and return where its image and its label are."""
    example = example_of(DrawnDetector(), photo, 0.25)
    Review(folder).save(example, now=NOW)
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
        saved(tmp_path, dropped(drawn_photo(quality=95 - quality)))

    told = yaml.safe_load((tmp_path / "data.yaml").read_text())

    assert told["names"] == {0: "plate"}
    for split in ("train", "val"):
        photos = list((tmp_path / told[split]).iterdir())
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
        full.save(another, now=NOW)

    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
