"""Reviewed photos of a run as a data set, which merging and training take as it is."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from plateblur.runs.reviewed_set import _splits_of
from plateblur.sets import layout
from plateblur.sets.merge import Config, merge
from plateblur.sets.places import cell_of
from plateblur.sets.split import data_hash, read_split, split_photos
from tests.fakes import encoded, street
from tests.runs.test_apply import MISSED, PLATE, SECOND, here, review, run

__all__ = ["here"]
RIDES = ("north", "south", "east")


def ride(name: str, photos: int = 3) -> list[str]:
    """Write the photos of a ride, and return the names of their outputs."""
    folder = Path("in") / name
    folder.mkdir(parents=True)
    names = [f"{name}/{number}.png" for number in range(photos)]
    for each in names:
        seed = int.from_bytes(each.encode()) % 1000
        (Path("in") / each).write_bytes(encoded(street(90, 140, seed=seed), "PNG"))
    return names


@pytest.fixture
def reviewed(here: Path) -> list[str]:
    """A run of three rides, of which one photo was not looked at; plates were missed in one."""
    names = [name for each in RIDES for name in ride(each)]
    assert run("blur", "in", "-o", "out", "--recursive").exit_code == 0
    for name in names[:-1]:
        review(name, add=name == names[0], hide_found=name != names[1])
    return names


def test_what_was_looked_at_becomes_a_set_by_ride(reviewed: list[str]) -> None:
    result = run("collect", "out", "-o", "set", "--name", "mine", "--licence", "CC BY 4.0")

    assert result.exit_code == 0, result.output
    assert "left out: 1, because nobody has looked at them" in result.output
    rows = {row.original_name: row for row in layout.read_manifest(Path("set"))}
    assert sorted(rows) == sorted(reviewed[:-1])
    for each in RIDES:
        assert len({row.split for name, row in rows.items() if name.startswith(each)}) == 1
    assert {row.split for row in rows.values()} >= {"train", "val"}
    assert {name for name, row in rows.items() if row.set == "mine-missed"} == {reviewed[0]}
    assert {row.licence for row in rows.values()} == {"CC BY 4.0"}
    boxes = layout.read_boxes(Path("set"), rows[reviewed[0]])
    np.testing.assert_allclose(sorted(boxes.tolist()), sorted([PLATE, SECOND, MISSED]), atol=0.1)
    assert rows[reviewed[1]].plates == 0  # both were said to be no plates
    assert (Path("set") / rows[reviewed[0]].image).read_bytes() == Path(
        "in", reviewed[0]
    ).read_bytes()


def test_training_sees_a_photo_with_a_missed_plate_more_often(reviewed: list[str]) -> None:
    result = run("collect", "out", "-o", "set", "--by", "photo", "--times", "4")

    assert result.exit_code == 0, result.output
    (missed,) = [row for row in layout.read_manifest(Path("set")) if row.set == "reviewed-missed"]
    listed = [path.name for path in split_photos(Path("set/data.yaml"), "train")]
    assert listed.count(missed.name) == (4 if missed.split == "train" else 0)
    assert len(read_split(Path("set/data.yaml"), "val")) > 0
    assert data_hash(Path("set/data.yaml"))


def test_the_set_is_merged_as_it_is(reviewed: list[str]) -> None:
    assert run("collect", "out", "-o", "set").exit_code == 0

    merge([Path("set")], Path("all"), Config(oversample={"reviewed-missed": 2}, drop_leaks=True))

    assert {row.set for row in layout.read_manifest(Path("all"))} <= {"reviewed", "reviewed-missed"}


def test_a_photo_that_was_changed_after_the_review_stops_it(reviewed: list[str]) -> None:
    Path("in", reviewed[2]).write_bytes(encoded(street(90, 140, seed=7), "PNG"))

    result = run("collect", "out", "-o", "set")

    assert result.exit_code == 2
    assert "was changed after it was reviewed" in result.output
    assert not Path("set").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--by", "place"], "has no position"),
        (["--group", "(unknown)"], "doesn't match --group"),
        (["--group", "("], "no regular expression"),
        (["--group", "png"], "choose --group or --by photo"),
        (["--name", "a/b"], "takes a-z"),
    ],
    ids=["no position", "no match", "no pattern", "one group", "name"],
)
def test_what_cannot_be_split_is_refused(
    reviewed: list[str], arguments: list[str], says: str
) -> None:
    result = run("collect", "out", "-o", "set", *arguments)

    assert result.exit_code == 2
    assert says in " ".join(result.output.split())
    assert not Path("set").exists()


def test_nothing_that_was_looked_at_makes_no_set(here: Path) -> None:
    ride("north")
    run("blur", "in", "-o", "out", "--recursive")

    result = run("collect", "out", "-o", "set")

    assert result.exit_code == 2
    assert "no photo of the run was looked at" in " ".join(result.output.split())


@pytest.mark.parametrize("count", range(2, 12))
def test_train_and_val_are_never_empty(count: int) -> None:
    for start in range(20):
        splits = _splits_of([f"ride-{start}-{number}" for number in range(count)])
        assert {"train", "val"} <= set(splits.values())


def located(north: float, east: float) -> bytes:
    exif = PillowImage.Exif()
    gps = exif.get_ifd(0x8825)
    for at, (value, signs) in enumerate(((north, "SN"), (east, "WE"))):
        gps[2 * at + 1] = signs[value >= 0]
        gps[2 * at + 2] = (abs(value), 0.0, 0.0)
    out = io.BytesIO()
    PillowImage.new("RGB", (8, 8)).save(out, "JPEG", exif=exif)
    return out.getvalue()


def test_photos_of_one_place_share_a_cell() -> None:
    assert cell_of(located(52.5200, 13.4050)) == cell_of(located(52.5201, 13.4051))
    assert cell_of(located(52.5200, 13.4050)) != cell_of(located(52.5300, 13.4050))
    assert cell_of(located(52.52, 13.405)) != cell_of(located(-52.52, 13.405))
    assert cell_of(encoded(street(8, 8), "JPEG")) == cell_of(b"no photo") == ""
