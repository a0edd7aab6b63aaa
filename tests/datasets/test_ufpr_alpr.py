from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import ufpr_alpr
from plateblur.sets import layout
from tests.datasets.drawn import draw

# The two releases differ in how they give the plate; both read in parsers of others.
HEAD = """\
camera: GoPro Hero4 Silver
position_vehicle: 10 20 200 180
\ttype: car
\tmake: Make
\tmodel: Model
\tyear: 2009
plate: DRW-0001
"""
OLD = HEAD + "position_plate: 40 60 64 16\n\tchar1: 42 62 6 12\n"
NEW = HEAD + "corners: 41,60 104,62 103,76 40,75\n\tchar 1: 42 62 6 12\n"

FRAMES = [
    ("training", "track0001[01]", OLD),
    ("training", "track0001[02]", NEW),
    ("validation", "track0061[01]", NEW),
    ("testing", "track0091[01]", OLD),
]


def stand_in(root: Path) -> Path:
    for seed, (part, frame, annotation) in enumerate(FRAMES):
        track = frame.partition("[")[0]
        path = draw(root / "UFPR-ALPR dataset" / part / track / f"{frame}.png", seed)
        path.with_suffix(".txt").write_text(annotation)
    return root


def test_the_stand_in_becomes_a_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    ufpr_alpr.main([str(stand_in(tmp_path / "given")), "--out", str(out)])
    rows = layout.read_manifest(out)
    assert {row.original_name: row.split for row in rows} == {
        "training/track0001[01].png": "train",
        "training/track0001[02].png": "train",
        "validation/track0061[01].png": "val",
        "testing/track0091[01].png": "test",
    }
    for row in rows:
        np.testing.assert_allclose(layout.read_boxes(out, row), [[40, 60, 104, 76]], atol=0.001)
    assert "all         4       4               0" in capsys.readouterr().out


def test_the_manifest_holds_no_plate_text(tmp_path: Path) -> None:
    ufpr_alpr.main([str(stand_in(tmp_path / "given")), "--out", str(tmp_path / "out")])
    assert "DRW" not in (tmp_path / "out" / "manifest.csv").read_text()


@pytest.mark.parametrize(
    "annotation",
    [HEAD, f"{HEAD}position_plate: 40 60\n", f"{HEAD}corners: 41,60 104,62 103,76\n", None],
    ids=["no plate", "two numbers", "three corners", "no file"],
)
def test_an_annotation_without_a_plate_is_an_error(annotation: str | None, tmp_path: Path) -> None:
    path = next(stand_in(tmp_path).rglob("track0061*.txt"))
    path.unlink()
    if annotation is not None:
        path.write_text(annotation)
    with pytest.raises(layout.DatasetError, match="expected"):
        list(ufpr_alpr.photos(tmp_path))


def test_a_track_in_two_parts_is_an_error(tmp_path: Path) -> None:
    root = stand_in(tmp_path) / "UFPR-ALPR dataset"
    path = draw(root / "testing" / "track0001" / "track0001[03].png", 9)
    path.with_suffix(".txt").write_text(OLD)
    with pytest.raises(layout.DatasetError, match="track0001 is in"):
        list(ufpr_alpr.photos(tmp_path))


@pytest.mark.parametrize("name", ["elsewhere/track0001[03].png", "training/track.png"])
def test_a_frame_of_another_layout_is_an_error(name: str, tmp_path: Path) -> None:
    draw(tmp_path / name, 9)
    with pytest.raises(layout.DatasetError, match="expected PART"):
        list(ufpr_alpr.photos(tmp_path))
