from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import rodosol_alpr
from plateblur.sets import layout
from tests.datasets.drawn import draw

ANNOTATION = "type: car\nplate: {plate}\nlayout: Brazilian\ncorners: {corners}\n"
CORNERS = "41,60 104,62 103,76 40,75"
PLATES = {1: "DRW0001", 2: "DRW0001", 3: "DRW0002", 4: "DRW0008"}


def stand_in(root: Path) -> Path:
    for number, plate in PLATES.items():
        folder = root / "RodoSol-ALPR" / "images" / ("cars-br" if number < 3 else "motorcycles-me")
        path = draw(folder / f"img_{number:06}.jpg", number)
        path.with_suffix(".txt").write_text(ANNOTATION.format(plate=plate, corners=CORNERS))
    return root


def test_the_stand_in_becomes_a_set_with_each_vehicle_in_one_split(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    rodosol_alpr.main([str(stand_in(tmp_path / "given")), "--out", str(out)])
    rows = layout.read_manifest(out)
    assert [(row.original_name, row.split) for row in rows] == [
        ("cars-br/img_000001.jpg", layout.split_of("DRW0001")),
        ("cars-br/img_000002.jpg", layout.split_of("DRW0001")),
        ("motorcycles-me/img_000003.jpg", layout.split_of("DRW0002")),
        ("motorcycles-me/img_000004.jpg", layout.split_of("DRW0008")),
    ]
    for row in rows:
        np.testing.assert_allclose(layout.read_boxes(out, row), [[40, 60, 104, 76]], atol=0.001)
    assert "all         4       4               0" in capsys.readouterr().out
    assert "DRW" not in (out / "manifest.csv").read_text()


@pytest.mark.parametrize(
    "annotation",
    ["type: car\n", ANNOTATION.format(plate="A", corners="1,2 3,4"), None],
    ids=["no corners", "two corners", "no file"],
)
def test_an_annotation_without_a_plate_is_an_error(annotation: str | None, tmp_path: Path) -> None:
    path = next(stand_in(tmp_path).rglob("img_000003.txt"))
    path.unlink()
    if annotation is not None:
        path.write_text(annotation)
    with pytest.raises(layout.DatasetError, match="expected"):
        list(rodosol_alpr.photos(tmp_path))
