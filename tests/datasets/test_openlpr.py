from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

import openlpr
from plateblur.sets import layout
from tests.datasets.drawn import draw

# Columns as in Simanno's be/create_db_schema.py.
TABLE = """CREATE TABLE annotations (id INTEGER PRIMARY KEY AUTOINCREMENT, filename VARCHAR,
    imheight INTEGER, imwidth INTEGER, isreviewed BOOLEAN, imgareas TEXT, labelid INTEGER,
    labeltext VARCHAR, isdeleted BOOLEAN)"""
INSERT = "INSERT INTO annotations (filename, imheight, imwidth, imgareas, isdeleted) VALUES "
AREA = {"id": 0, "x": 40, "y": 60, "z": 100, "width": 64, "height": 16}


def stand_in(root: Path) -> Path:
    root.mkdir(parents=True)
    draw(root / "train" / "10.jpg", 1)
    draw(root / "train" / "11.jpg", 2)  # labelled at half its size
    draw(root / "val" / "12.jpg", 3)  # looked at, no plate
    draw(root / "val" / "13.jpg", 4)  # deleted
    draw(root / "val" / "14.jpg", 5)  # not in the database
    half = {name: value // 2 for name, value in AREA.items()}
    with closing(sqlite3.connect(root / "train_and_val.db")) as connection, connection:
        connection.execute(TABLE)
        connection.executemany(
            f"{INSERT} (?, ?, ?, ?, ?)",
            [
                ("10.jpg", 240, 320, json.dumps([AREA]), 0),
                ("11.jpg", 120, 160, json.dumps([half]), None),
                ("12.jpg", 240, 320, "[]", 0),
                ("13.jpg", 240, 320, json.dumps([AREA]), 1),
            ],
        )
    return root


def test_the_repository_is_fetched_and_becomes_a_set(
    tmp_path: Path, serve_git: Callable[[Path], tuple[str, str]]
) -> None:
    address, commit = serve_git(stand_in(tmp_path / "repository"))
    out = tmp_path / "out"
    openlpr.main(["--out", str(out), "--repository", address, "--commit", commit])
    rows = layout.read_manifest(out)
    assert [(row.original_name, row.plates) for row in rows] == [
        ("train/10.jpg", 1),
        ("train/11.jpg", 1),
        ("val/12.jpg", 0),
    ]
    for row in rows[:2]:
        np.testing.assert_allclose(layout.read_boxes(out, row), [[40, 60, 104, 76]], atol=0.001)


def test_a_checkout_on_this_machine_is_taken(tmp_path: Path) -> None:
    root = stand_in(tmp_path / "repository")
    openlpr.main([str(root), "--out", str(tmp_path / "out")])
    assert len(layout.read_manifest(tmp_path / "out")) == 3


def test_an_archive_as_github_makes_it_is_taken(tmp_path: Path) -> None:
    stand_in(tmp_path / "given" / "open-lpr-dataset-plate-detection-6350b78")
    archive = shutil.make_archive(str(tmp_path / "given"), "zip", tmp_path / "given")
    openlpr.main([archive, "--out", str(tmp_path / "out")])
    assert len(layout.read_manifest(tmp_path / "out")) == 3


def test_a_checkout_without_database_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(layout.DatasetError, match=r"expected one of \('train_and_val\.db'"):
        openlpr.find_database(tmp_path)


@pytest.mark.parametrize(
    ("areas", "table"),
    [("[{}]", TABLE), ("{", TABLE), ("[]", TABLE.replace("annotations", "plates"))],
    ids=["areas of another form", "damaged areas", "another table"],
)
def test_a_database_of_another_form_is_an_error(areas: str, table: str, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "train.db")) as connection, connection:
        connection.execute(table)
        if table == TABLE:
            connection.execute(f"{INSERT} ('10.jpg', 240, 320, ?, 0)", (areas,))
    with pytest.raises(layout.DatasetError, match="not Simanno's annotations"):
        openlpr.areas(tmp_path / "train.db")


def test_a_damaged_database_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "train.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(layout.DatasetError, match="not Simanno's annotations"):
        openlpr.areas(tmp_path / "train.db")
