"""What a run takes and writes beside its photos: zones, masks, annotations, tables."""

from __future__ import annotations

import csv
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner, Result

from plateblur import cli
from plateblur.photo import decode
from plateblur.runs.manifest import MANIFEST_NAME
from plateblur.sets.annotations import Found, write_yolo
from plateblur.sets.forms import read_coco, read_yolo
from plateblur.types import Detections, Image
from tests.fakes import FixedDetector, boxes, encoded, street

STREET = street(90, 140)
PLATE = [40.0, 30.0, 90.0, 45.0]
SECOND = [100.0, 60.0, 130.0, 80.0]
PHOTO = encoded(STREET, "PNG")
EMPTY = encoded(street(50, 60), "PNG")


class InWide(FixedDetector):
    """Finds its plates in photos as wide as the street."""

    def detect(self, image: Image, *, min_confidence: float, **how: Any) -> Detections:
        found = super().detect(image, min_confidence=min_confidence)
        return found if image.shape[1] == 140 else found.at_least(1.01)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    detector = InWide(boxes(PLATE, SECOND), (0.9, 0.8))
    monkeypatch.setattr(cli, "open_detector", lambda *_, **__: detector)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def put(name: str, data: bytes = PHOTO) -> None:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_bytes(data)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli.app, [str(each) for each in arguments])


def line_of(output: str) -> dict[str, Any]:
    lines = [json.loads(line) for line in Path("out", MANIFEST_NAME).read_text().splitlines()]
    found: dict[str, Any] = [line for line in lines if line.get("output") == output][-1]
    return found


def is_visible(output: str, box: list[float]) -> bool:
    x1, y1, x2, y2 = (int(side) for side in box)
    pixels = decode(Path("out", output).read_bytes()).pixels
    return bool((pixels[y1:y2, x1:x2] == STREET[y1:y2, x1:x2]).all())


# --- Zones ----------------------------------------------------------------------------------


def test_an_ignored_plate_stays_visible_and_the_manifest_and_the_summary_say_so(here: Path) -> None:
    put("in/a.png")
    result = run(
        *("blur", "in", "-o", "out", "--ignore-zone", "0.7,0.6,1,1", "--report", "r.jsonl"),
    )
    assert result.exit_code == 0, result.output
    assert is_visible("a.png", SECOND)
    assert not is_visible("a.png", PLATE)
    line = line_of("a.png")
    assert (line["plates"], line["ignored"], len(line["detections"])) == (1, 1, 1)
    assert "1 plate in ignored zones stayed visible" in result.stderr
    assert json.loads(Path("r.jsonl").read_text())["ignored"] == 1


def test_a_mask_picture_is_a_zone(here: Path) -> None:
    put("in/a.png")
    mask = np.zeros((90, 140, 3), np.uint8)
    mask[50:] = 255
    put("bonnet.png", encoded(mask, "PNG"))
    assert run("blur", "in", "-o", "out", "--ignore-zone", "bonnet.png").exit_code == 0
    assert is_visible("a.png", SECOND)
    assert not is_visible("a.png", PLATE)


def test_zone_files_hold_for_their_folder_and_those_in_it(here: Path) -> None:
    for name in ("in/a.png", "in/car/b.png", "in/car/deep/c.png"):
        put(name)
    put("in/car/zones.txt", b"# our car\n\nignore 0.7,0.6,1,1  # bonnet\n")
    put("in/car/deep/zones.txt", b"hide 0,0,0.1,1\n")
    result = run("blur", "in", "-o", "out", "--recursive", "--zones", "zones.txt")
    assert result.exit_code == 0, result.output
    visible = [is_visible(name, SECOND) for name in ("a.png", "car/b.png", "car/deep/c.png")]
    assert visible == [False, True, True]
    assert is_visible("car/b.png", [0, 0, 14, 20])
    assert not is_visible("car/deep/c.png", [0, 0, 14, 20])
    put("in/car/zones.txt", b"")
    again = run("blur", "in", "-o", "out", "--recursive", "--zones", "zones.txt")
    assert "changed since 2 were done: zones" in again.stderr
    assert not is_visible("car/b.png", SECOND)


def test_a_zone_file_is_not_believed_unless_it_is_asked_for(here: Path) -> None:
    put("in/a.png")
    put("in/zones.txt", b"ignore 0,0,1,1\n")
    assert run("blur", "in", "-o", "out").exit_code == 0
    assert not is_visible("a.png", PLATE)


@pytest.mark.parametrize(
    "text", ["ignore", "ignroe 0,0,1,1", "ignore 0,0,2,1", "hide nothere.png", "\xff"]
)
def test_a_zone_file_that_makes_no_sense_stops_the_run(here: Path, text: str) -> None:
    put("in/a.png")
    put("in/zones.txt", b"ignore 0,0,0.1,0.1\n" + text.encode("latin-1") + b"\n")
    result = run("blur", "in", "-o", "out", "--zones", "zones.txt")
    assert result.exit_code == 2
    assert "zones.txt" in result.stderr
    assert not Path("out/a.png").exists()


@pytest.mark.parametrize("zone", ["0,0,2,1", "nothere.png", "in/note.txt"])
def test_a_zone_that_makes_no_sense_stops_the_run(here: Path, zone: str) -> None:
    put("in/a.png")
    put("in/note.txt", b"no picture")
    for option in ("--ignore-zone", "--always-hide"):
        assert run("blur", "in", "-o", "out", option, zone).exit_code == 2
    assert not Path("out").exists()


# --- Masks ----------------------------------------------------------------------------------


def test_masks_show_what_is_hidden_and_for_which_plate(here: Path) -> None:
    put("in/deep/a.png")
    put("in/b.png", EMPTY)
    options = ["--recursive", "--masks", "m", "--instance-masks", "i", "--margin", "0"]
    assert run("blur", "in", "-o", "out", *options).exit_code == 0
    binary = cv2.imread("m/deep/a.png.png", cv2.IMREAD_UNCHANGED)
    instances = cv2.imread("i/deep/a.png.png", cv2.IMREAD_UNCHANGED)
    assert binary is not None
    assert instances is not None
    assert (str(binary.dtype), str(instances.dtype)) == ("uint8", "uint16")
    assert (instances[30:45, 40:90] == 1).all()
    assert (instances[60:80, 100:130] == 2).all()
    assert np.array_equal(binary == 255, instances > 0)
    assert (instances > 0).sum() == 50 * 15 + 30 * 20
    empty = cv2.imread("m/b.png.png", cv2.IMREAD_UNCHANGED)
    assert empty is not None
    assert not empty.any()


def test_a_photo_whose_mask_is_missing_is_done_again(here: Path) -> None:
    put("in/a.png")
    assert run("blur", "in", "-o", "out").exit_code == 0
    assert run("blur", "in", "-o", "out", "--masks", "m").exit_code == 0
    assert Path("m/a.png.png").exists()
    again = run("blur", "in", "-o", "out", "--masks", "m")
    assert "1 photo done before" in again.stderr


def test_a_mask_is_never_written_over_a_photo(here: Path) -> None:
    put("in/a.png")
    put("in/a.png.png")
    assert run("blur", "in", "-o", "out", "--masks", "in").exit_code == 1
    assert Path("in/a.png.png").read_bytes() == PHOTO


# --- Annotations ----------------------------------------------------------------------------


def test_coco_is_read_again(here: Path) -> None:
    put("in/deep/a.png")
    put("in/b.png", EMPTY)
    put("in/c.png", PHOTO[:200])
    options = ["--recursive", "--coco", "set/plates.json"]
    assert run("blur", "in", "-o", "set/out", *options).exit_code == 1
    found = {each.path: each for each in read_coco(here / "set")}
    assert set(found) == {here / "set/out/deep/a.png", here / "set/out/b.png"}
    assert found[here / "set/out/deep/a.png"].xyxy.tolist() == [PLATE, SECOND]
    assert found[here / "set/out/deep/a.png"].classes == ("plate", "plate")
    assert len(found[here / "set/out/b.png"].xyxy) == 0
    told = json.loads(Path("set/plates.json").read_text())
    assert [each["score"] for each in told["annotations"]] == [0.9, 0.8]


def test_yolo_is_read_again(here: Path) -> None:
    put("in/deep/a.png")
    put("in/b.png", EMPTY)
    options = ["--recursive", "--yolo", "set"]
    assert run("blur", "in", "-o", "set/images", *options).exit_code == 0
    found = {each.path: each for each in read_yolo(here / "set")}
    assert set(found) == {here / "set/images/deep/a.png", here / "set/images/b.png"}
    photo = found[here / "set/images/deep/a.png"]
    assert np.allclose(photo.xyxy, [PLATE, SECOND], atol=0.01)
    assert photo.classes == ("plate", "plate")
    assert Path("set/labels/b.txt").read_text() == ""


def test_two_photos_that_would_share_a_label_file_are_not_mixed_up(tmp_path: Path) -> None:
    photos = [Found("a.jpg", (10, 10), [], []), Found("a.png", (10, 10), [], [])]
    with pytest.raises(ValueError, match=r"a\.png and a\.jpg would share"):
        write_yolo(tmp_path, lambda: iter(photos), lambda path, data: None)


def test_annotations_cover_what_an_earlier_run_did(here: Path) -> None:
    put("in/a.png")
    assert run("blur", "in", "-o", "out").exit_code == 0
    put("in/b.png")
    assert run("blur", "in", "-o", "out", "--coco", "plates.json").exit_code == 0
    assert len(json.loads(Path("plates.json").read_text())["images"]) == 2


# --- Tables ---------------------------------------------------------------------------------


def test_the_table_has_a_row_a_photo(here: Path) -> None:
    put("in/a.png")
    put("in/=b.png", PHOTO[:200])
    options = ["--csv", "table.csv", "--ignore-zone", "0.7,0.6,1,1"]
    assert run("blur", "in", "-o", "out", *options).exit_code == 1
    with Path("table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    done = next(row for row in rows if row["photo"] == "in/a.png")
    assert (done["state"], done["plates"], done["ignored"]) == ("done", "1", "1")
    assert done["output"] == "out/a.png"
    failed = next(row for row in rows if row["state"] == "failed")
    assert "damaged" in failed["error"]
    assert failed["output"] == ""


def test_a_cell_that_a_spreadsheet_would_run_is_text(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put("in/=1+1.png")
    monkeypatch.chdir(here / "in")
    assert run("blur", "=1+1.png", "-o", "../out", "--csv", "../table.csv").exit_code == 0
    assert (here / "table.csv").read_text().splitlines()[1].startswith("'=1+1.png,")


@pytest.mark.parametrize("option", ["--csv", "--coco", "--report", "--parquet"])
@pytest.mark.parametrize("name", ["in/a.png", "new.jpg", f"out/{MANIFEST_NAME}", "folder"])
def test_no_table_takes_the_place_of_something_else(here: Path, option: str, name: str) -> None:
    put("in/a.png")
    Path("folder").mkdir()
    assert run("blur", "in", "-o", "out", option, name).exit_code == 2
    assert Path("in/a.png").read_bytes() == PHOTO
    assert not Path("out/a.png").exists()


@pytest.mark.slow
@pytest.mark.skipif(not find_spec("pyarrow"), reason="needs the extra parquet")
def test_parquet_has_the_boxes_too(here: Path) -> None:
    from pyarrow import parquet

    put("in/a.png")
    put("in/b.png", PHOTO[:200])
    assert run("blur", "in", "-o", "out", "--parquet", "t.parquet").exit_code == 1
    done, failed = parquet.read_table("t.parquet").to_pylist()
    assert (done["state"], done["plates"], done["width"]) == ("done", 2, 140)
    assert done["detections"][0]["xyxy"] == PLATE
    assert (failed["state"], failed["detections"]) == ("failed", None)
