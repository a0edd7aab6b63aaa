from __future__ import annotations

import csv
import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from plateblur.sets import layout
from plateblur.sets.bare import without_metadata
from plateblur.sets.labels import TruthBoxes
from tests.datasets.drawn import Edges, draw, encoded, scene

CARD = layout.SetCard("drawn", "this test", "CC0", "nowhere")
SHARED = Path(__file__).parents[3] / "shared" / "data" / "plates"


def boxes(*rows: tuple[float, float, float, float]) -> TruthBoxes:
    return np.array(rows, dtype=np.float64).reshape(-1, 4)


def exif(orientation: int = 1) -> bytes:
    block = Image.Exif()
    block[0x0112] = orientation
    block[0x010F] = "a camera"
    return block.tobytes()


@pytest.mark.parametrize(
    ("group", "split"),
    [("ride 1", "train"), ("ride 8", "val"), ("ride 6", "test"), ("", "train")],
)
def test_a_group_stays_in_its_split_for_ever(group: str, split: str) -> None:
    assert layout.split_of(group) == split


def test_about_a_tenth_of_the_groups_goes_to_val_and_to_test() -> None:
    splits = [layout.split_of(f"group {number}") for number in range(2000)]
    assert {split: round(splits.count(split) / 2000, 1) for split in layout.SPLITS} == {
        "train": 0.8,
        "val": 0.1,
        "test": 0.1,
    }


@pytest.mark.parametrize(
    ("format_", "suffix"), [("JPEG", ".jpg"), ("PNG", ".png"), ("WEBP", ".webp")]
)
def test_a_photo_of_pixels_alone_comes_back_byte_for_byte(format_: str, suffix: str) -> None:
    data = encoded(scene(1), format_)
    assert without_metadata(data) == (data, suffix, (240, 320))


def jpeg_with_thumbnail() -> bytes:
    data = encoded(scene(1))
    app0 = b"\xff\xe0\x00\x16JFXX\x00\x13" + bytes(14)
    return data[:2] + app0 + data[2:]


@pytest.mark.parametrize(
    "data",
    [
        encoded(scene(1), exif=exif()),
        encoded(scene(1), comment="taken by me"),
        jpeg_with_thumbnail(),
        encoded(scene(1)) + b"a film of the moment before",
        encoded(scene(1), "PNG", exif=exif()),
        encoded(scene(1), "PNG") + b"more",
        encoded(scene(1), "WEBP", exif=exif()),
        encoded(scene(1), "WEBP", xmp=b"<x/>"),
    ],
    ids=["exif", "comment", "thumbnail", "trailer", "png", "png-trailer", "webp", "webp-xmp"],
)
def test_metadata_is_left_behind(data: bytes) -> None:
    written, _, image_hw = without_metadata(data)
    image = Image.open(io.BytesIO(written))
    assert image_hw == (240, 320)
    assert not {"exif", "xmp", "comment", "photoshop"} & set(image.info)
    assert without_metadata(written)[0] == written
    difference = np.abs(np.asarray(image, float) - np.asarray(scene(1), float)).mean()
    assert difference < 8  # of 255; the photo is still the photo


def test_a_photo_that_opencv_may_not_read_becomes_a_png() -> None:
    written, suffix, image_hw = without_metadata(encoded(scene(1), "AVIF"))
    assert (suffix, image_hw) == (".png", (240, 320))
    assert Image.open(io.BytesIO(written)).format == "PNG"


def test_a_turned_photo_is_turned_upright() -> None:
    written, _, image_hw = without_metadata(encoded(scene(1), exif=exif(orientation=6)))
    assert image_hw == (320, 240)
    assert Image.open(io.BytesIO(written)).size == (240, 320)


@pytest.mark.parametrize(("orientation", "image_hw"), [(1, (240, 320)), (6, (320, 240))])
def test_a_size_is_that_of_the_upright_photo(
    orientation: int, image_hw: tuple[int, int], tmp_path: Path
) -> None:
    (tmp_path / "a.jpg").write_bytes(encoded(scene(1), exif=exif(orientation)))
    assert layout.image_hw_of(tmp_path / "a.jpg") == image_hw


def test_a_file_that_is_no_photo_has_no_size(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("no photo")
    with pytest.raises(layout.DatasetError, match="expected a JPEG"):
        layout.image_hw_of(tmp_path / "a.jpg")


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ((10, 10, 20, 20), (10, 10, 20, 20)),
        ((-4, -4, 20, 20), (0, 0, 20, 20)),
        ((94, 44, 104, 54), None),
        ((95, 20, 105, 30), (95, 20, 100, 30)),
        ((96, 20, 106, 30), None),
        ((100, 0, 120, 20), None),
        ((20, 20, 20, 30), None),
        ((20, 20, 10, 30), None),
        ((20, 20, float("nan"), 30), None),
    ],
    ids=[
        *("inside", "over the corner", "mostly over the corner", "half over an edge"),
        *("more than half over it", "just outside", "without area", "inverted", "no number"),
    ],
)
def test_boxes_are_clipped_to_the_image_or_refused(given: Edges, kept: Edges | None) -> None:
    if kept is None:
        with pytest.raises(ValueError, match=r"box \["):
            layout.clipped(boxes(given), image_hw=(50, 100))
    else:
        assert layout.clipped(boxes(given), image_hw=(50, 100)).tolist() == [list(kept)]


PLATE: Edges = (32, 60, 96, 84)
INVERTED, OUTSIDE = (96, 84, 32, 60), (900, 60, 964, 84)


@pytest.mark.parametrize("box", [INVERTED, OUTSIDE], ids=["inverted", "outside"])
def test_a_photo_with_a_broken_box_never_becomes_one_without_plates(
    box: Edges, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = [
        layout.SourcePhoto(draw(tmp_path / f"{n}.jpg", n), boxes(b), "train", f"{n}", Path("l.csv"))
        for n, b in enumerate([PLATE, box])
    ]
    with pytest.raises(layout.DatasetError, match=r"1 photos have broken labels.*\n  1 \(l\.csv\)"):
        layout.write_set(tmp_path / "out", CARD, photos)
    assert not list(tmp_path.glob("*out*"))
    rows = layout.write_set(tmp_path / "out", CARD, photos, leave_out_broken=True)
    assert [row.plates for row in rows] == [1]
    assert "left out, because their labels are broken: 1" in capsys.readouterr().err


def test_a_conversion_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    good, bad = (draw(tmp_path / f"{n}.jpg", n) for n in range(2))
    bad.write_bytes(bad.read_bytes()[:900])
    photos = [layout.SourcePhoto(p, layout.NO_BOXES, "train", p.name) for p in (good, bad)]
    with pytest.raises(layout.DatasetError, match="damaged"):
        layout.write_set(tmp_path / "out", CARD, photos)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.jpg", "1.jpg"]
    (tmp_path / "out").mkdir()
    layout.write_set(tmp_path / "out", CARD, photos[:1])
    assert (tmp_path / "out" / "data.yaml").exists()


def write(root: Path, *, photos: int = 2) -> Path:
    plate = boxes((32, 60, 96, 84))
    layout.write_set(
        root / "out",
        CARD,
        [
            layout.SourcePhoto(
                draw(root / f"{n}.jpg", n), plate if n else layout.NO_BOXES, "train", f"{n}"
            )
            for n in range(photos)
        ],
    )
    return root / "out"


def test_a_set_is_read_as_it_was_written(tmp_path: Path) -> None:
    out = write(tmp_path)
    empty, full = layout.read_manifest(out)
    assert (empty.plates, empty.smallest_plate_height_ratio) == (0, None)
    assert (full.plates, full.smallest_plate_height_ratio) == (1, 0.1)
    assert (full.set, full.licence, full.width, full.height) == ("drawn", "CC0", 320, 240)
    assert full.sha256 == hashlib.sha256((out / full.image).read_bytes()).hexdigest()
    np.testing.assert_allclose(layout.read_boxes(out, full), [[32, 60, 96, 84]], atol=0.001)
    assert len(layout.read_boxes(out, empty)) == 0


def test_training_finds_the_splits_through_data_yaml(tmp_path: Path) -> None:
    out = write(tmp_path)
    given = yaml.safe_load((out / "data.yaml").read_text())
    assert given["names"] == {0: "plate"}
    assert all((out / given[split]).is_dir() for split in layout.SPLITS)


def test_the_columns_are_those_of_our_own_data(tmp_path: Path) -> None:
    if not SHARED.is_dir():
        pytest.skip("our own data is not on this machine")
    with (SHARED / "manifest.csv").open() as ours:
        columns = next(csv.reader(ours))
    assert (write(tmp_path) / "manifest.csv").read_text().splitlines()[0] == ",".join(columns)
    assert len(layout.read_manifest(SHARED)) > 6000


def test_a_photo_that_comes_twice_is_written_once(tmp_path: Path) -> None:
    photo = layout.SourcePhoto(draw(tmp_path / "a.jpg", 1), layout.NO_BOXES, "train", "a")
    assert len(layout.write_set(tmp_path / "out", CARD, [photo, photo])) == 1


def test_a_set_is_not_written_over_another(tmp_path: Path) -> None:
    write(tmp_path)
    with pytest.raises(layout.DatasetError, match="to be empty or absent"):
        write(tmp_path)


def test_a_set_without_photos_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(layout.DatasetError, match="expected photos, found none"):
        write(tmp_path, photos=0)


def test_a_damaged_photo_is_named(tmp_path: Path) -> None:
    path = draw(tmp_path / "a.jpg", 1)
    path.write_bytes(path.read_bytes()[:900])
    photo = layout.SourcePhoto(path, layout.NO_BOXES, "train", "rides/a.jpg")
    with pytest.raises(layout.DatasetError, match=r"rides/a\.jpg: .*damaged"):
        layout.write_set(tmp_path / "out", CARD, [photo])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("licence,", "license,", r"expected the columns \['licence'\]"),
        (",train,", ",dev,", "expected a split"),
        (",320,", ",wide,", "line 2: invalid literal"),
    ],
    ids=["column", "split", "number"],
)
def test_a_manifest_of_another_form_is_an_error(
    old: str, new: str, message: str, tmp_path: Path
) -> None:
    path = write(tmp_path) / "manifest.csv"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(layout.DatasetError, match=message):
        layout.read_manifest(path.parent)


def test_a_folder_without_manifest_is_no_set(tmp_path: Path) -> None:
    with pytest.raises(layout.DatasetError, match="expected a manifest"):
        layout.read_manifest(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"), [(None, "found none"), ("0 1 2", "label line 1")], ids=["none", "damaged"]
)
def test_labels_must_be_there_and_whole(text: str | None, message: str, tmp_path: Path) -> None:
    out = write(tmp_path)
    row = layout.read_manifest(out)[0]
    (out / row.label).unlink()
    if text is not None:
        (out / row.label).write_text(text)
    with pytest.raises(layout.DatasetError, match=message):
        layout.read_boxes(out, row)


def test_the_counts_tell_photos_plates_and_photos_without(tmp_path: Path) -> None:
    assert layout.counts(layout.read_manifest(write(tmp_path, photos=3))).splitlines() == [
        "split  photos  plates  photos without",
        "train       3       2               1",
        "val         0       0               0",
        "test        0       0               0",
        "all         3       2               1",
    ]


def test_an_error_of_the_data_ends_a_recipe_with_its_message() -> None:
    def main() -> None:
        raise layout.DatasetError("expected photos, found none")

    with pytest.raises(SystemExit) as ended:
        layout.run(main)
    assert ended.value.code == "error: expected photos, found none"
