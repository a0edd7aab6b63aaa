from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import robertlucian
from plateblur.sets import layout
from tests.datasets.drawn import draw

# As VoTT writes it, read in the repository.
ANNOTATION = """\
<annotation verified="yes">
    <folder>Annotation</folder>
    <filename>{name}</filename>
    <size><width>320</width><height>240</height><depth>3</depth></size>
    <object>
    <name>license-plate</name>
    <bndbox><xmin>40.5</xmin><ymin>60.25</ymin><xmax>104.5</xmax><ymax>76.25</ymax></bndbox>
</object>
</annotation>
"""

FRAMES = [
    ("train", "dayride_type1_001.mp4#t=1054"),
    ("valid", "dayride_type1_001.mp4#t=1055"),
    ("train", "dayride_type1_001.mp4#t=1071"),
    ("valid", "nightride_type3_001.mp4#t=486"),
]


def stand_in(root: Path) -> Path:
    for seed, (part, frame) in enumerate(FRAMES):
        draw(root / "dataset" / part / "images" / f"{frame}.jpg", seed)
        annotation = root / "dataset" / part / "annots" / f"{frame}.xml"
        annotation.parent.mkdir(exist_ok=True)
        annotation.write_text(ANNOTATION.format(name=f"{frame}.jpg"))
    return root


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("dayride_type1_001.mp4#t=3.jpg", "train"),
        ("dayride_type1_001.mp4#t=1070.jpg", "train"),
        ("dayride_type1_001.mp4#t=1071.jpg", "val"),
        ("dayride_type1_001.mp4#t=1131.jpg", "val"),
        ("dayride_type1_001.mp4#t=1132.jpg", "test"),
        ("dayride_type1_002.mp4#t=9999.jpg", "val"),
        ("nightride_type3_001.mp4#t=486.jpg", "test"),
    ],
)
def test_a_ride_is_cut_in_time(name: str, split: str) -> None:
    assert robertlucian.split_of_frame(name) == split


@pytest.mark.parametrize("name", ["frame 1.jpg", "dayride_type9_001.mp4#t=3.jpg"])
def test_a_frame_of_no_known_ride_is_an_error(name: str) -> None:
    with pytest.raises(layout.DatasetError, match="of the rides"):
        robertlucian.split_of_frame(name)


def test_the_repository_is_fetched_and_becomes_a_set(
    tmp_path: Path,
    serve_git: Callable[[Path], tuple[str, str]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    address, commit = serve_git(stand_in(tmp_path / "repository"))
    out = tmp_path / "out"
    robertlucian.main(["--out", str(out), "--repository", address, "--commit", commit])
    rows = layout.read_manifest(out)
    assert {row.original_name: row.split for row in rows} == {
        "train/dayride_type1_001.mp4#t=1054.jpg": "train",
        "train/dayride_type1_001.mp4#t=1071.jpg": "val",
        "valid/dayride_type1_001.mp4#t=1055.jpg": "train",
        "valid/nightride_type3_001.mp4#t=486.jpg": "test",
    }
    expected = [[40.5, 60.25, 104.5, 76.25]]
    np.testing.assert_allclose(layout.read_boxes(out, rows[0]), expected, atol=0.001)
    assert "all         4       4               0" in capsys.readouterr().out


def test_an_archive_as_github_makes_it_is_taken(tmp_path: Path) -> None:
    stand_in(tmp_path / "given" / "license-plate-dataset-06aa3c1")
    archive = shutil.make_archive(str(tmp_path / "given"), "zip", tmp_path / "given")
    robertlucian.main([archive, "--out", str(tmp_path / "out")])
    assert len(layout.read_manifest(tmp_path / "out")) == 4


def test_a_frame_without_annotation_is_an_error(tmp_path: Path) -> None:
    root = stand_in(tmp_path)
    next(root.rglob("*=1071.xml")).unlink()
    with pytest.raises(layout.DatasetError, match="expected an annotation"):
        list(robertlucian.photos(root))


def test_a_damaged_annotation_is_an_error(tmp_path: Path) -> None:
    root = stand_in(tmp_path)
    next(root.rglob("*=1071.xml")).write_text("<annotation>")
    with pytest.raises(layout.DatasetError, match="expected Pascal VOC"):
        list(robertlucian.photos(root))
