from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import merge as command
from plateblur.sets import layout, merge
from tests.datasets.drawn import encoded, scene

ROOT = Path(__file__).parents[2]
PLATE = (32.0, 60.0, 96.0, 84.0)  # 24 px of 240: 1:10


def a_set(
    root: Path,
    name: str,
    photos: Sequence[tuple[layout.Split, bytes]],
    *,
    licence: str = "MIT",
    plates: Sequence[tuple[float, float, float, float]] = (PLATE,),
) -> Path:
    """Write a set; its photos have the same plates and keep what metadata they have."""
    sources = []
    for number, (split, data) in enumerate(photos):
        path = root / f"{name}.source" / f"{number}.photo"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        sources.append(
            layout.SourcePhoto(path, np.array(plates, dtype=np.float64), split, f"{number}")
        )
    layout.write_set(root / name, layout.SetCard(name, "drawn", licence, "nowhere"), sources)
    return root / name


def joined(sets: Sequence[Path], out: Path, *options: str) -> list[layout.Row]:
    command.main([*map(str, sets), "--out", str(out), *options])
    return layout.read_manifest(out)


def removed(out: Path) -> list[dict[str, str]]:
    with (out / "removed.csv").open() as file:
        return list(csv.DictReader(file))


def smaller(seed: int) -> bytes:
    return encoded(scene(seed).resize((200, 150), Image.Resampling.LANCZOS), "WEBP", quality=60)


VERSIONS = {
    "the same file": encoded(scene(1)),
    "written again": encoded(scene(1), quality=30),
    "resized": encoded(scene(1).resize((160, 120), Image.Resampling.BILINEAR)),
    "another format": smaller(1),
    "brighter": encoded(scene(1).point(lambda level: min(255, int(level * 1.15)))),
    "upright again": encoded(
        scene(1).transpose(Image.Transpose.ROTATE_90),
        exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0",
    ),
}


@pytest.mark.parametrize("version", VERSIONS)
def test_a_version_of_a_photo_is_its_near_duplicate(version: str) -> None:
    hashes = [merge.perceptual_hash(data) for data in (encoded(scene(1)), VERSIONS[version])]
    assert list(merge.near_pairs(np.array(hashes, np.uint64), near_bits=merge.NEAR_BITS))


def test_different_scenes_are_no_near_duplicates() -> None:
    hashes = [merge.perceptual_hash(encoded(scene(seed))) for seed in range(40)]
    pairs = merge.near_pairs(np.array(hashes, np.uint64), near_bits=merge.NEAR_BITS)
    assert list(pairs) == []


def test_pairs_are_found_within_and_across_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merge, "HASHES_A_BLOCK", 2)
    hashes = np.array([0, 2**64 - 1, 3, 2**63, 2**64 - 1], np.uint64)
    found = list(merge.near_pairs(hashes, near_bits=2))
    assert found == [(0, 2, 2), (0, 3, 1), (1, 4, 0)]


@pytest.mark.slow
@given(
    hashes=st.lists(st.sampled_from([0, 1, 3, 2**63, 2**64 - 1, 2**64 - 2]), max_size=9),
    near_bits=st.integers(0, 64),
)
def test_every_pair_within_the_bits_is_found_once(hashes: list[int], near_bits: int) -> None:
    found = list(merge.near_pairs(np.array(hashes, np.uint64), near_bits=near_bits))
    pairs = [(i, j) for j in range(len(hashes)) for i in range(j)]
    bits = {(i, j): (hashes[i] ^ hashes[j]).bit_count() for i, j in pairs}
    assert sorted(found) == sorted((i, j, n) for (i, j), n in bits.items() if n <= near_bits)


def test_two_sets_become_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = a_set(tmp_path, "a", [("train", encoded(scene(1))), ("test", encoded(scene(2)))])
    b = a_set(tmp_path, "b", [("train", encoded(scene(3))), ("val", encoded(scene(4)))])
    rows = joined([a, b], tmp_path / "out")
    assert [(row.set, row.split) for row in rows] == [
        ("a", "train"),
        ("a", "test"),
        ("b", "train"),
        ("b", "val"),
    ]
    for row in rows:
        data = (tmp_path / "out" / row.image).read_bytes()
        assert hashlib.sha256(data).hexdigest() == row.sha256
        np.testing.assert_allclose(layout.read_boxes(tmp_path / "out", row), [PLATE], atol=0.001)
    assert "all         4       4               0" in capsys.readouterr().out


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("version", ["the same file", "written again", "another format"])
def test_a_planted_leak_is_refused_by_name(
    split: layout.Split, version: str, tmp_path: Path
) -> None:
    a = a_set(tmp_path, "a", [("test", encoded(scene(1))), ("test", encoded(scene(2)))])
    b = a_set(tmp_path, "b", [(split, VERSIONS[version]), (split, encoded(scene(3)))])
    with pytest.raises(layout.DatasetError) as refused:
        joined([a, b], tmp_path / "out")
    (test, _), (leak, _) = layout.read_manifest(a), layout.read_manifest(b)
    assert f"{leak.image} (b) is {test.image} (a)" in str(refused.value)
    assert str(refused.value).count("bits") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_planted_leak_ends_the_script_with_code_1(tmp_path: Path) -> None:
    a = a_set(tmp_path, "a", [("test", encoded(scene(1)))])
    b = a_set(tmp_path, "b", [("train", smaller(1))])
    done = subprocess.run(
        [sys.executable, "datasets/merge.py", str(a), str(b), "--out", str(tmp_path / "out")],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert layout.read_manifest(b)[0].image in done.stderr


def test_a_leak_is_refused_even_if_its_test_photo_is_filtered_out(tmp_path: Path) -> None:
    a = a_set(tmp_path, "a", [("test", encoded(scene(1)))], licence="unstated")
    b = a_set(tmp_path, "b", [("train", smaller(1))])
    with pytest.raises(layout.DatasetError, match=r"what a test photo shows \(1\)"):
        joined([a, b], tmp_path / "out", "--licence", "MIT")


def test_leaks_can_be_left_out_of_train(tmp_path: Path) -> None:
    a = a_set(tmp_path, "a", [("test", smaller(1))])
    b = a_set(tmp_path, "b", [("train", encoded(scene(1))), ("train", encoded(scene(2)))])
    rows = joined([a, b], tmp_path / "out", "--drop-leaks")
    assert [(row.set, row.split) for row in rows] == [("a", "test"), ("b", "train")]
    (gone,) = removed(tmp_path / "out")
    assert (gone["set"], gone["reason"], gone["of"]) == ("b", "test photo", rows[0].name)


def test_of_near_duplicates_the_larger_is_kept_and_val_before_train(tmp_path: Path) -> None:
    a = a_set(tmp_path, "a", [("train", smaller(1)), ("train", encoded(scene(2)))])
    b = a_set(tmp_path, "b", [("train", encoded(scene(1))), ("val", smaller(2))])
    rows = joined([a, b], tmp_path / "out")
    assert [(row.set, row.split, row.width) for row in rows] == [
        ("b", "train", 320),
        ("b", "val", 200),
    ]
    assert [gone["reason"] for gone in removed(tmp_path / "out")] == ["near-duplicate"] * 2


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ([], {"mit", "doubt", "none"}),
        (["--licence", "MIT"], {"mit"}),
        (["--licence", "mit", "--licence", "cc by*"], {"mit", "doubt"}),
        (["--licence", "CC BY*", "--licence", "*", "--not-licence", "*but*"], {"mit", "none"}),
        (["--not-licence", "unstated*"], {"mit", "doubt"}),
    ],
    ids=["all", "one", "two, any case", "not the doubtful", "not the unstated"],
)
def test_licences_are_filtered_by_patterns(
    options: list[str], kept: set[str], tmp_path: Path
) -> None:
    licences = {
        "mit": "MIT",
        "doubt": "CC BY 4.0 in data.yaml, but README says all rights reserved",
        "none": "unstated (asks for citation)",
    }
    sets = [
        a_set(tmp_path, name, [("train", encoded(scene(seed)))], licence=licence)
        for seed, (name, licence) in enumerate(licences.items())
    ]
    assert {row.set for row in joined(sets, tmp_path / "out", *options)} == kept


def test_a_filter_that_leaves_nothing_names_the_licences(tmp_path: Path) -> None:
    a = a_set(tmp_path, "a", [("train", encoded(scene(1)))])
    with pytest.raises(layout.DatasetError, match=r"no photo is left; the licences are \['MIT'\]"):
        joined([a], tmp_path / "out", "--licence", "CC0")


def test_a_cap_takes_the_same_train_photos_each_time(tmp_path: Path) -> None:
    photos: list[tuple[layout.Split, bytes]] = [("train", encoded(scene(n))) for n in range(5)]
    photos += [("test", encoded(scene(n))) for n in range(5, 8)]
    a = a_set(tmp_path, "a", photos)
    first = joined([a], tmp_path / "out", "--cap", "a=2")
    again = joined([a], tmp_path / "again", "--cap", "a=2")
    assert [row.split for row in first] == ["train"] * 2 + ["test"] * 3
    assert first == again
    assert {gone["reason"] for gone in removed(tmp_path / "out")} == {"cap"}


def test_an_oversampled_set_is_listed_several_times_and_held_once(tmp_path: Path) -> None:
    a = a_set(tmp_path, "a", [("train", encoded(scene(1))), ("val", encoded(scene(2)))])
    b = a_set(tmp_path, "b", [("train", encoded(scene(3)))])
    rows = joined([a, b], tmp_path / "out", "--oversample", "b=3")
    assert len(rows) == 3
    lines = (tmp_path / "out" / "train.txt").read_text().splitlines()
    assert lines == [f"./{rows[0].image}", *[f"./{rows[2].image}"] * 3]
    assert "train: train.txt\n" in (tmp_path / "out" / "data.yaml").read_text()


@pytest.mark.parametrize("option", ["--cap", "--oversample"])
@pytest.mark.parametrize(
    ("value", "message"), [("c=2", r"expected sets of \['a'\]"), ("a", "expected SET=N")]
)
def test_numbers_are_given_for_sets_that_are_there(
    option: str, value: str, message: str, tmp_path: Path
) -> None:
    a = a_set(tmp_path, "a", [("train", encoded(scene(1)))])
    with pytest.raises(layout.DatasetError, match=message):
        joined([a], tmp_path / "out", option, value)


def overlay(path: Path, *corrections: dict[str, Any]) -> Path:
    lines = [json.dumps({"reason": "a test", **correction}) for correction in corrections]
    path.write_text("\n".join(lines))
    return path


def test_an_overlay_mends_labels_on_the_way(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a = a_set(tmp_path, "a", [("train", encoded(scene(n))) for n in range(3)])
    names = [row.name for row in layout.read_manifest(a)]
    corrections = overlay(
        tmp_path / "overlay.jsonl",
        {"image": names[0], "action": "add", "boxes": [[200, 100, 260, 112]]},
        {"image": names[1], "action": "remove", "boxes": [PLATE]},
        {"image": "elsewhere.jpg", "action": "remove", "boxes": [PLATE]},
    )
    rows = joined([a], tmp_path / "out", "--overlay", str(corrections))
    assert [(row.plates, row.smallest_plate_height_ratio) for row in rows] == [
        (2, 0.05),
        (0, None),
        (1, 0.1),
    ]
    assert "corrections: 2 applied, 1 of photos not here" in capsys.readouterr().out


def test_a_leak_that_an_overlay_drops_is_left_out_and_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a = a_set(tmp_path, "a", [("train", encoded(scene(1))), ("train", encoded(scene(2)))])
    b = a_set(tmp_path, "b", [("test", encoded(scene(1)))])
    twin = layout.read_manifest(a)[0].name
    drop = overlay(tmp_path / "overlay.jsonl", {"image": twin, "action": "drop", "boxes": []})
    with pytest.raises(layout.DatasetError, match=re.escape(twin)):
        joined([a, b], tmp_path / "refused")
    rows = joined([a, b], tmp_path / "out", "--overlay", str(drop))
    assert sorted(row.split for row in rows) == ["test", "train"]
    assert twin not in {row.name for row in rows}
    assert "left out, overlay: 1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("boxes", "message"), [([[0, 0, 9, 9]], "one labelled box"), ([], "correction line 1")]
)
def test_a_correction_that_does_not_fit_is_an_error(
    boxes: list[list[int]], message: str, tmp_path: Path
) -> None:
    a = a_set(tmp_path, "a", [("train", encoded(scene(1)))])
    name = layout.read_manifest(a)[0].name
    stale = overlay(tmp_path / "overlay.jsonl", {"image": name, "action": "remove", "boxes": boxes})
    with pytest.raises(layout.DatasetError, match=message):
        joined([a], tmp_path / "out", "--overlay", str(stale))


def test_metadata_is_stripped_from_sets_that_kept_it(tmp_path: Path) -> None:
    a = a_set(tmp_path, "a", [("train", encoded(scene(1)))])
    (row,) = layout.read_manifest(a)
    data = encoded(scene(1), comment="taken by me at home")
    (a / row.image).write_bytes(data)
    layout.write_manifest(a, [replace(row, sha256=hashlib.sha256(data).hexdigest())])
    (written,) = joined([a], tmp_path / "out")
    found = (tmp_path / "out" / written.image).read_bytes()
    assert b"at home" not in found
    assert written.sha256 == hashlib.sha256(found).hexdigest()
    assert Image.open(io.BytesIO(found)).size == (320, 240)


def test_a_photo_of_another_format_gets_the_name_of_its_new_one(tmp_path: Path) -> None:
    a = a_set(tmp_path, "a", [("train", encoded(scene(1)))])
    (row,) = layout.read_manifest(a)
    data, image = encoded(scene(1), "AVIF"), row.image.replace(".jpg", ".avif")
    (a / image).write_bytes(data)
    sha256 = hashlib.sha256(data).hexdigest()
    layout.write_manifest(a, [replace(row, image=image, sha256=sha256)])
    (written,) = joined([a], tmp_path / "out")
    assert written.image == row.image.replace(".jpg", ".png")
    assert len(layout.read_boxes(tmp_path / "out", written)) == 1


def test_plate_ratios_are_counted_by_set_and_split(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    heights = (24.0, 16.1, 12.0, 8.1, 4.0, 3.9)  # of 240: at or just above each edge, and below
    plates = [(10.0, 10.0, 90.0, 10.0 + height) for height in heights]
    a = a_set(tmp_path, "a", [("train", encoded(scene(1)))], plates=plates)
    b = a_set(tmp_path, "b", [("train", encoded(scene(2))), ("test", encoded(scene(3)))])
    joined([a, b], tmp_path / "out")
    with (tmp_path / "out" / "distribution.csv").open() as file:
        rows = list(csv.DictReader(file))
    buckets = (">=1:10", "1:10-1:15", "1:15-1:20", "1:20-1:30", "1:30-1:60", "<1:60")
    assert [(r["set"], r["split"], r["bucket"], r["plates"]) for r in rows] == [
        *(("a", "train", bucket, "1") for bucket in buckets),
        *(("b", "train", bucket, "1" if bucket == ">=1:10" else "0") for bucket in buckets),
        *(("b", "test", bucket, "1" if bucket == ">=1:10" else "0") for bucket in buckets),
    ]
    assert "plates  split  >=1:10  1:10-1:15" in capsys.readouterr().out


def test_a_photo_that_was_changed_is_an_error(tmp_path: Path) -> None:
    a = a_set(tmp_path, "a", [("train", encoded(scene(1)))])
    (row,) = layout.read_manifest(a)
    (a / row.image).write_bytes(encoded(scene(2)))
    with pytest.raises(
        layout.DatasetError, match=f"expected sha256 {row.sha256}, got another file"
    ):
        joined([a], tmp_path / "out")


def test_a_photo_that_is_gone_is_an_error(tmp_path: Path) -> None:
    a = a_set(tmp_path, "a", [("train", encoded(scene(1)))])
    (a / layout.read_manifest(a)[0].image).unlink()
    with pytest.raises(layout.DatasetError, match="expected the photo"):
        joined([a], tmp_path / "out")


def test_two_photos_of_one_name_are_an_error(tmp_path: Path) -> None:
    a, b = (a_set(tmp_path, n, [("train", encoded(scene(s)))]) for s, n in enumerate("ab"))
    (row,) = layout.read_manifest(b)
    name = layout.read_manifest(a)[0].name
    for path, to in ((b / row.image, name), (b / row.label, Path(name).with_suffix(".txt").name)):
        path.rename(path.with_name(to))
    layout.write_manifest(b, [replace(row, image=f"images/train/{name}")])
    with pytest.raises(layout.DatasetError, match="both hold a"):
        joined([a, b], tmp_path / "out")
