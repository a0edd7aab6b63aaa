"""A data set's hash, and the photos that are kept apart."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from plateblur import drawn
from plateblur.sets.labels import label_file
from plateblur.sets.layout import DatasetError
from plateblur.sets.split import (
    LabelledPhoto,
    check_trainable,
    data_hash,
    data_sets_of,
    is_data_of,
    is_kept_apart,
    kept_apart_of,
    split_photos,
)

LABEL = "0 0.5 0.5 0.1 0.1\n"


def a_set(root: Path, *, train: str = "images/train", photos: str = "images/train") -> Path:
    """Write a set of one photo in train and one in val; the photos are never decoded here."""
    for split, folder in (("train", photos), ("val", "images/val")):
        labels = root / folder.replace("images", "labels")
        for made in (root / folder, labels):
            made.mkdir(parents=True)
        (root / folder / f"{split}.jpg").write_bytes(split.encode())
        (labels / f"{split}.txt").write_text(LABEL)
    (root / "list.txt").write_text(f"{photos}/train.jpg\n")
    (root / "data.yaml").write_text(f"train: {train}\nval: images/val\n")
    return root / "data.yaml"


@pytest.mark.parametrize(
    ("train", "photos"),
    [
        ("images/train", "images/train"),
        ("list.txt", "images/train"),
        ("[list.txt]", "images/train"),
        ("train/images", "train/images"),  # Roboflow's layout
        ("other/images", "other/images"),
    ],
)
@pytest.mark.parametrize("changed", ["label", "photo", "another photo"])
def test_the_hash_covers_photos_and_labels_wherever_they_are(
    tmp_path: Path, train: str, photos: str, changed: str
) -> None:
    data = a_set(tmp_path, train=train, photos=photos)
    before = data_hash(data)
    assert is_data_of(data, before)
    folder = tmp_path / photos
    if changed == "label":
        (tmp_path / photos.replace("images", "labels") / "train.txt").write_text(LABEL * 2)
    elif changed == "photo":
        (folder / "train.jpg").write_bytes(b"another")
    else:
        (folder / "more.jpg").write_bytes(b"more")
        (tmp_path / "list.txt").write_text(f"{photos}/train.jpg\n{photos}/more.jpg\n")
    assert data_hash(data) != before
    assert not is_data_of(data, before)


@pytest.mark.parametrize("missing", ["photos", "labels"])
def test_nothing_to_hash_is_an_error(tmp_path: Path, missing: str) -> None:
    data = a_set(tmp_path)
    folder = {"photos": "images/train", "labels": "labels/train"}[missing]
    for path in (tmp_path / folder).iterdir():
        path.unlink()
    with pytest.raises(ValueError, match="found none"):
        data_hash(data)


def test_a_hash_of_before_still_names_its_labels(tmp_path: Path) -> None:
    data = a_set(tmp_path)
    labels = "".join(f"{split}/{split}.txt\n{LABEL}" for split in ("train", "val"))
    recorded = hashlib.sha256(labels.encode()).hexdigest()
    assert is_data_of(data, recorded)
    (tmp_path / "labels" / "val" / "val.txt").write_text(LABEL * 2)
    assert not is_data_of(data, recorded)


def test_no_labels_at_all_are_those_of_no_run(tmp_path: Path) -> None:
    (tmp_path / "data.yaml").write_text("train: images/train\nval: images/val\n")
    assert not is_data_of(tmp_path / "data.yaml", hashlib.sha256(b"").hexdigest())


def test_the_same_quarter_of_a_set_is_kept_apart_everywhere() -> None:
    sets = {f"{number}.jpg": "new" if number % 2 else "old" for number in range(2000)}
    apart = [name for name in sets if is_kept_apart(name, sets, of=["new"])]
    assert all(sets[name] == "new" for name in apart)
    assert 200 < len(apart) < 300
    assert not any(is_kept_apart(name, sets, of=[]) for name in sets)

    photos = [LabelledPhoto(Path(n), (1, 1), None, {"set": s}) for n, s in sets.items()]  # type: ignore[arg-type]
    assert [photo.path.name for photo in kept_apart_of(photos, ["new"])] == apart
    with pytest.raises(ValueError, match="to keep apart, found none"):
        kept_apart_of(photos, ["absent"])


def test_the_sets_of_a_manifest_are_counted_by_photo(tmp_path: Path) -> None:
    rows = ["image,split,set,source,licence,region", *["a.jpg,train,own,here,MIT,Spain"] * 2]
    rows += ["b.jpg,val,own,here,MIT,Spain", "c.jpg,train,other,there,,"]
    (tmp_path / "manifest.csv").write_text("\n".join(rows) + "\n")
    own, other = data_sets_of(tmp_path / "manifest.csv")
    assert own["photos"] == {"train": 1, "val": 1, "test": 0}
    assert (other["set"], other["licence"]) == ("other", "")
    assert [one["set"] for one in data_sets_of(tmp_path / "manifest.csv", photos={"c.jpg"})] == [
        "other"
    ]


@pytest.fixture(scope="module")
def drawn_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    drawn.write_set(folder, count=4, seed=3, image_hw=(90, 160), split_shares=(0.5, 0.5, 0.0))
    return folder


@pytest.fixture
def drawn_set(drawn_once: Path, tmp_path: Path) -> Path:
    shutil.copytree(drawn_once, tmp_path, dirs_exist_ok=True)
    return tmp_path / "data.yaml"


def photos_of(data: Path) -> list[Path]:
    return sorted((data.parent / "images" / "train").glob("*.*"))


def test_a_sound_set_is_trained_on_and_photos_without_labels_are_counted(drawn_set: Path) -> None:
    assert check_trainable(drawn_set) == []
    label_file(photos_of(drawn_set)[0]).unlink()
    assert check_trainable(drawn_set) == [
        "train: 1 of 2 photos have no label file and count as photos without plates"
    ]


@pytest.mark.parametrize("names", ["[car, plate]", "{0: car, 1: plate}", "[]", "plate"])
def test_a_set_of_more_classes_is_refused_before_it_is_trained_on(
    names: str, drawn_set: Path
) -> None:
    lines = drawn_set.read_text().split("names:")[0]
    drawn_set.write_text(f"{lines}names: {names}\n")
    with pytest.raises(ValueError, match="expected `names` with one class, plates, got"):
        check_trainable(drawn_set)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("0 0.5 0.5 1.2 0.1\n", "expected shares of the picture between 0 and 1"),
        ("1 0.5 0.5 0.1 0.1\n", "expected class 0, got 1"),
        ("0 40 60 104 76\n", "are these pixels"),
    ],
)
def test_a_broken_label_of_train_is_refused_by_name(
    content: str, message: str, drawn_set: Path
) -> None:
    label = label_file(photos_of(drawn_set)[0])
    label.write_text(content)
    with pytest.raises(ValueError, match=f"{label.name}: label line 1: .*{message}"):
        check_trainable(drawn_set)


def test_a_broken_photo_and_a_label_that_is_no_text_are_refused_by_name(drawn_set: Path) -> None:
    first, second = photos_of(drawn_set)
    label_file(first).write_bytes(b"\xff\xfe0")
    with pytest.raises(ValueError, match=f"{label_file(first).name}: .*can't decode"):
        check_trainable(drawn_set)
    label_file(first).write_text("")
    second.write_bytes(b"")
    with pytest.raises(DatasetError, match=f"{second.name}: "):
        check_trainable(drawn_set)


@pytest.mark.parametrize("second", ["1.jpg", "1.png"])
def test_photos_of_one_name_in_two_folders_are_refused(second: str, drawn_set: Path) -> None:
    for photo, name in zip(photos_of(drawn_set), ("x/1.jpg", f"y/{second}"), strict=True):
        moved = photo.parent / name
        moved.parent.mkdir()
        photo.rename(moved)
    with pytest.raises(ValueError, match="has the name of"):
        check_trainable(drawn_set)


def test_label_files_in_capitals_are_no_photos_without_plates(drawn_set: Path) -> None:
    label = label_file(photos_of(drawn_set)[0])
    label.rename(label.with_suffix(".TXT"))
    with pytest.raises(ValueError, match=r"\.TXT: expected the suffix \.txt"):
        check_trainable(drawn_set)


def test_an_empty_val_is_refused_before_anything_is_trained(drawn_set: Path) -> None:
    for photo in (drawn_set.parent / "images" / "val").glob("*.*"):
        photo.unlink()
    with pytest.raises(ValueError, match="expected photos in the split 'val'"):
        check_trainable(drawn_set)


def test_a_split_may_be_in_linked_folders(drawn_set: Path) -> None:
    first, second = photos_of(drawn_set)
    for kind, moved in (("images", second), ("labels", label_file(second))):
        elsewhere = drawn_set.parent / "elsewhere" / kind
        elsewhere.mkdir(parents=True)
        moved.rename(elsewhere / moved.name)
        (drawn_set.parent / kind / "train" / "more").symlink_to(elsewhere)
    assert [photo.name for photo in split_photos(drawn_set, "train")] == [first.name, second.name]
    assert check_trainable(drawn_set) == []


def test_a_val_of_train_photos_is_told(drawn_set: Path) -> None:
    drawn_set.write_text(drawn_set.read_text().replace("images/val", "images/train"))
    (note,) = check_trainable(drawn_set)
    assert note.startswith("val: 2 photos are in train too; figures on photos")
