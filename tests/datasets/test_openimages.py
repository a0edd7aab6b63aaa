from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import openimages
from plateblur.sets import layout
from tests.datasets.drawn import draw

HEADER = (
    "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,"
    "IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside"
)
PLATE, CAR = "/m/01jfm_", "/m/0k4j"


def stand_in(root: Path) -> Path:
    """Draw a download as FiftyOne arranges it; some labels are of photos that it left out."""
    for part, first in (("train", 1), ("validation", 11)):
        for number in range(first, first + 4):
            draw(root / part / "data" / f"{number:016x}.jpg", number)
        lines = [
            f"{first:016x},xclick,{PLATE},1,0.125,0.325,0.25,0.5,0,0,0,0,0",
            f"{first:016x},xclick,{CAR},1,0.1,0.9,0.1,0.9,0,0,0,0,0",
            f"{first + 1:016x},xclick,{PLATE},1,0.125,0.325,0.25,0.5,1,1,0,0,0",
            f"{first + 1:016x},xclick,{PLATE},1,0.5,0.75,0.5,0.625,0,0,0,0,0",
            f"{first + 2:016x},xclick,{PLATE},1,0,1,0,1,0,0,1,0,0",  # a group of plates
            f"{first + 3:016x},xclick,{CAR},1,0.1,0.9,0.1,0.9,0,0,0,0,0",
            f"{first + 99:016x},xclick,{PLATE},1,0.1,0.2,0.1,0.2,0,0,0,0,0",
        ]
        for name, text in {
            "labels/detections.csv": "\n".join([HEADER, *lines]) + "\n",
            "metadata/classes.csv": f"{CAR},Car\n{PLATE},Vehicle registration plate\n",
        }.items():
            path = root / part / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
    return root


def test_the_stand_in_becomes_a_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    openimages.main([str(stand_in(tmp_path / "zoo")), "--out", str(out)])
    rows = layout.read_manifest(out)
    assert [(row.original_name, row.split, row.plates) for row in rows] == [
        (f"{1:016x}.jpg", "train", 1),
        (f"{2:016x}.jpg", "train", 2),
        (f"{11:016x}.jpg", "val", 1),
        (f"{12:016x}.jpg", "val", 2),
    ]
    found = layout.read_boxes(out, rows[1])
    np.testing.assert_allclose(found, [[40, 60, 104, 120], [160, 120, 240, 150]], atol=0.001)
    assert "all         4       6               0" in capsys.readouterr().out


def test_the_zoo_is_asked_for_plates_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module in FiftyOne's place, with the two names of it that the recipe calls."""
    asked: dict[str, Any] = {}
    fiftyone, zoo = types.ModuleType("fiftyone"), types.ModuleType("fiftyone.zoo")
    config = types.SimpleNamespace(dataset_zoo_dir=None)

    def download_zoo_dataset(name: str, **options: Any) -> tuple[object, str]:
        asked.update(options, name=name)
        return object(), str(stand_in(Path(config.dataset_zoo_dir) / name))

    fiftyone.__dict__["config"] = config
    zoo.__dict__["download_zoo_dataset"] = download_zoo_dataset
    monkeypatch.setitem(sys.modules, "fiftyone", fiftyone)
    monkeypatch.setitem(sys.modules, "fiftyone.zoo", zoo)
    openimages.main(["--out", str(tmp_path / "out"), "--max-photos", "7"])
    assert asked == {
        "name": "open-images-v7",
        "splits": ["train", "validation", "test"],
        "label_types": ["detections"],
        "classes": ["Vehicle registration plate"],
        "max_samples": 7,
    }
    assert config.dataset_zoo_dir == str(tmp_path / "out.source")
    assert len(layout.read_manifest(tmp_path / "out")) == 4


def test_without_fiftyone_the_recipe_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "fiftyone", None)
    with pytest.raises(layout.DatasetError, match="pip install fiftyone"):
        openimages.main(["--out", str(tmp_path / "out")])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("labels/detections.csv", None, "expected FiftyOne's layout"),
        ("labels/detections.csv", f"{HEADER}\n1,2\n", "expected Open Images' boxes"),
        ("metadata/classes.csv", None, "expected FiftyOne's layout"),
    ],
    ids=["no boxes", "damaged boxes", "no classes"],
)
def test_another_layout_is_an_error(
    name: str, text: str | None, message: str, tmp_path: Path
) -> None:
    path = stand_in(tmp_path) / "train" / name
    path.unlink()
    if text is not None:
        path.write_text(text)
    with pytest.raises(layout.DatasetError, match=message):
        list(openimages.photos(tmp_path))
