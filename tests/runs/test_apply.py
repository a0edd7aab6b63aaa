"""Boxes that are given: a run's corrections are written again, COCO and YOLO are hidden."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as PillowImage
from typer.testing import CliRunner, Result

from plateblur import cli
from plateblur.photo import decode
from plateblur.runs.given import reviewed_run
from plateblur.runs.manifest import MANIFEST_NAME
from plateblur.runs.review_log import Plate, Review, plates_of
from tests.fakes import FixedDetector, boxes, encoded, street

STREET = street(90, 140)
PLATE, SECOND, MISSED = [40.0, 30.0, 90.0, 45.0], [100.0, 60.0, 130.0, 80.0], [5.0, 5.0, 25.0, 15.0]
PHOTO = encoded(STREET, "PNG")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    detector = FixedDetector(boxes(PLATE, SECOND), (0.9, 0.6))
    monkeypatch.setattr(cli, "open_detector", lambda *_, **__: detector)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def put(*names: str, data: bytes = PHOTO) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(data)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli.app, [str(each) for each in arguments])


def is_hidden(output: str, box: list[float]) -> bool:
    x1, y1, x2, y2 = (int(side) for side in box)
    pixels = decode(Path(output).read_bytes()).pixels
    return bool((pixels[y1:y2, x1:x2] != STREET[y1:y2, x1:x2]).any(axis=2).mean() > 0.9)


def review(output: str, *, folder: str = "out", hide_found: bool = True, add: bool = False) -> None:
    """Save what a person says of a photo: whether what was found is a plate, and what is one."""
    reviewed = reviewed_run(Path(folder))
    (line,) = [line for name, _, line in reviewed.lines() if name == output]
    plates = tuple(replace(each, hide=hide_found) for each in plates_of(line))
    plates += (Plate((5.0, 5.0, 25.0, 15.0)),) if add else ()
    base = reviewed.log.reviews[output].revision if output in reviewed.log.reviews else 0
    state = Review(output, line["input"]["sha256"], plates, looked_at=True, by="Ana")
    reviewed.log.save(state, base=base)


def last_line(output: str) -> dict[str, object]:
    lines = [json.loads(line) for line in Path("out", MANIFEST_NAME).read_text().splitlines()]
    return [line for line in lines if line.get("output") == output][-1]  # type: ignore[no-any-return]


# --- Corrections of a run -------------------------------------------------------------------


def test_only_corrected_photos_are_written_again_from_the_originals(here: Path) -> None:
    put("in/a.png", "in/deep/b.png", "in/c.png")
    assert run("blur", "in", "-o", "out", "--recursive", "--margin", "0").exit_code == 0
    before = {name: Path("out", name).read_bytes() for name in ("a.png", "c.png")}
    review("a.png")
    review("deep/b.png", hide_found=False, add=True)
    result = run("apply", "out")
    assert result.exit_code == 0, result.output
    assert "1 plate hidden in 1 photo -> out" in result.stderr
    assert {name: Path("out", name).read_bytes() for name in before} == before
    assert is_hidden("out/deep/b.png", MISSED)
    assert not is_hidden("out/deep/b.png", PLATE)
    line = last_line("deep/b.png")
    assert [each["xyxy"] for each in line["detections"]] == [MISSED]  # type: ignore[attr-defined]
    assert line["replaces"]
    again = run("apply", "out")
    assert "nothing to write" in again.stderr
    resumed = run("blur", "in", "-o", "out", "--recursive", "--margin", "0")
    assert "3 photos done before" in resumed.stderr


def test_a_photo_that_was_changed_after_its_review_is_not_written(here: Path) -> None:
    put("in/a.png")
    assert run("blur", "in", "-o", "out").exit_code == 0
    review("a.png", add=True)
    before = Path("out/a.png").read_bytes()
    put("in/a.png", data=encoded(street(90, 140, seed=4), "PNG"))
    result = run("apply", "out")
    assert result.exit_code == 1
    assert "changed after it was reviewed" in result.stderr
    assert Path("out/a.png").read_bytes() == before


def test_a_correction_that_could_not_be_written_is_tried_again(here: Path) -> None:
    put("in/a.png")
    assert run("blur", "in", "-o", "out").exit_code == 0
    review("a.png", add=True)
    Path("in/a.png").rename("in/away.png")
    assert run("apply", "out").exit_code == 1
    Path("in/away.png").rename("in/a.png")
    result = run("apply", "out")
    assert "nothing to write" not in result.stderr
    assert result.exit_code == 0, result.output
    assert is_hidden("out/a.png", MISSED)


def test_blurring_again_keeps_what_a_person_corrected(here: Path) -> None:
    put("in/a.png", "in/b.png")
    assert run("blur", "in", "-o", "out").exit_code == 0
    review("a.png", hide_found=False, add=True)
    assert run("apply", "out").exit_code == 0
    result = run("blur", "in", "-o", "out", "--method", "solid")
    assert result.exit_code == 0, result.output
    assert "1 photo with corrected boxes" in result.stderr
    assert is_hidden("out/a.png", MISSED)
    assert not is_hidden("out/a.png", PLATE)
    assert is_hidden("out/b.png", PLATE)


def test_zones_of_the_run_must_be_given_again(here: Path) -> None:
    put("in/a.png")
    zone = ("--always-hide", "0,0.9,1,1")
    assert run("blur", "in", "-o", "out", *zone).exit_code == 0
    review("a.png", add=True)
    refused = run("apply", "out")
    assert refused.exit_code == 2
    assert "--always-hide" in refused.stderr
    assert run("apply", "out", *zone).exit_code == 0
    assert is_hidden("out/a.png", [0.0, 82.0, 140.0, 90.0])
    assert is_hidden("out/a.png", MISSED)


def test_a_correction_is_hidden_in_a_zone_that_is_ignored(here: Path) -> None:
    put("in/a.png")
    zone = ("--ignore-zone", "0,0,0.3,0.3")
    assert run("blur", "in", "-o", "out", *zone).exit_code == 0
    review("a.png", add=True)
    assert run("apply", "out", *zone).exit_code == 0
    assert is_hidden("out/a.png", MISSED)


def test_a_run_in_place_has_no_originals(here: Path) -> None:
    put("in/a.png")
    assert run("blur", "in", "--in-place").exit_code == 0
    review("a.png", folder="in", add=True)
    result = run("apply", "in")
    assert result.exit_code == 2
    assert "was replaced by its output" in " ".join(result.stderr.split())


@pytest.mark.parametrize("option", [("--method", "solid"), ("--detect",), ("--margin", "0.5")])
def test_corrected_photos_get_the_options_of_their_run(here: Path, option: tuple[str, ...]) -> None:
    put("in/a.png")
    assert run("blur", "in", "-o", "out").exit_code == 0
    assert run("apply", "out", *option).exit_code == 2


def test_the_boxes_of_a_run_are_hidden_in_another_place_with_other_options(here: Path) -> None:
    put("in/a.png")
    assert run("blur", "in", "-o", "out").exit_code == 0
    review("a.png", add=True)
    assert run("apply", "out", "-o", "grey", "--method", "solid", "--masks", "m").exit_code == 0
    assert is_hidden("grey/a.png", MISSED)
    assert is_hidden("grey/a.png", PLATE)
    mask = cv2.imread("m/a.png.png", cv2.IMREAD_UNCHANGED)
    assert mask is not None
    assert mask[10, 15] == 255
    assert not is_hidden("out/a.png", MISSED)  # that run is as it was


def test_a_photo_in_a_zip_file_is_corrected_too(here: Path) -> None:
    import zipfile

    with zipfile.ZipFile("survey.zip", "w") as made:
        made.writestr("deep/a.png", PHOTO)
    assert run("blur", "survey.zip", "-o", "out").exit_code == 0
    review("deep/a.png", add=True)
    assert run("apply", "out").exit_code == 0
    assert is_hidden("out/deep/a.png", MISSED)


# --- COCO and YOLO --------------------------------------------------------------------------


def coco(path: str, **photos: list[list[float]]) -> None:
    """Write a COCO file; a name's `__` is a `/`."""
    names = {name.replace("__", "/") + ".png": found for name, found in photos.items()}
    annotations = [
        {"id": 0, "image_id": number, "category_id": 1, "bbox": [x, y, x2 - x, y2 - y]}
        for number, found in enumerate(names.values())
        for x, y, x2, y2 in found
    ]
    images = [
        {"id": number, "file_name": name, "width": 140, "height": 90}
        for number, name in enumerate(names)
    ]
    told = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "x"}]}
    Path(path).write_text(json.dumps(told))


def test_coco_boxes_are_hidden_and_nothing_is_looked_for(here: Path) -> None:
    put("in/a.png", "in/b.png")
    coco("plates.json", in__a=[MISSED], in__b=[])
    result = run("apply", "plates.json", "-o", "out")
    assert result.exit_code == 0, result.output
    assert is_hidden("out/in/a.png", MISSED)
    assert not is_hidden("out/in/a.png", PLATE)
    assert Path("out/in/b.png").exists()


def test_boxes_come_on_top_of_what_is_found(here: Path) -> None:
    put("in/a.png", "in/b.png")
    coco("plates.json", in__a=[MISSED])
    result = run("apply", "plates.json", "in", "-o", "out", "--detect")
    assert result.exit_code == 0, result.output
    assert is_hidden("out/a.png", MISSED)
    assert is_hidden("out/a.png", PLATE)
    assert is_hidden("out/b.png", PLATE)
    assert not is_hidden("out/b.png", MISSED)


def test_a_photo_without_boxes_is_not_written_unless_plates_are_looked_for(here: Path) -> None:
    put("in/a.png", "in/b.png")
    coco("plates.json", in__a=[MISSED])
    result = run("apply", "plates.json", "in", "-o", "out")
    assert result.exit_code == 1
    assert "no boxes are given for it" in result.stderr
    assert [path.name for path in Path("out").glob("*.png")] == ["a.png"]


def test_a_photo_never_gets_the_boxes_of_another_of_its_name(here: Path) -> None:
    put("in/one/a.png", "in/two/a.png")
    coco("plates.json", one__a=[MISSED])
    result = run("apply", "plates.json", "in", "-o", "out")
    assert result.exit_code == 1
    assert Path("out/one/a.png").exists()
    assert not Path("out/two/a.png").exists()


def test_boxes_of_a_picture_of_another_size_are_refused(here: Path) -> None:
    put("in/a.png", data=encoded(street(50, 60), "PNG"))
    put("in/b.png")
    coco("plates.json", in__a=[MISSED], in__b=[MISSED])
    result = run("apply", "plates.json", "-o", "out")
    assert result.exit_code == 1
    assert "picture of (140, 90)" in " ".join(result.stderr.split())
    assert not Path("out/in/a.png").exists()
    assert is_hidden("out/in/b.png", MISSED)


def test_a_photo_with_an_exif_turn_asks_what_its_boxes_were_drawn_on(here: Path) -> None:
    exif = PillowImage.Exif()
    exif[0x0112] = 3
    turned = encoded(np.ascontiguousarray(STREET[::-1, ::-1]), "PNG", exif=exif)
    put("in/a.png", data=turned)
    coco("plates.json", in__a=[[115.0, 75.0, 135.0, 85.0]])  # MISSED as the raster has it
    refused = run("apply", "plates.json", "-o", "out")
    assert refused.exit_code == 2
    assert "--drawn-on" in " ".join(refused.output.split())
    result = run("apply", "plates.json", "-o", "out", "--drawn-on", "raster")
    assert result.exit_code == 0, result.output
    assert is_hidden("out/in/a.png", MISSED)


def test_yolo_labels_are_hidden(here: Path) -> None:
    put("set/images/deep/a.png", "set/images/b.png", "set/images/c.png")
    put("set/labels/deep/a.txt", data=b"3 0.107143 0.111111 0.142857 0.111111\n")
    put("set/labels/b.txt", data=b"")
    result = run("apply", "set", "-o", "out")
    assert result.exit_code == 1  # nobody says what c.png shows
    assert is_hidden("out/deep/a.png", MISSED)
    assert Path("out/b.png").exists()
    assert not Path("out/c.png").exists()


def test_what_a_run_wrote_as_yolo_and_coco_is_hidden_in_the_originals(here: Path) -> None:
    put("in/a.png")
    sides = ("--coco", "plates.json", "--yolo", "labels")
    assert run("blur", "in", "-o", "out", *sides).exit_code == 0
    for number, source in enumerate(("plates.json", "labels")):
        assert run("apply", source, "in", "-o", f"again{number}").exit_code == 0
        assert is_hidden(f"again{number}/a.png", PLATE)
        assert is_hidden(f"again{number}/a.png", SECOND)


def test_a_damaged_photo_stops_no_other(here: Path) -> None:
    put("in/a.png", data=PHOTO[:100])
    put("in/b.png")
    coco("plates.json", in__a=[MISSED], in__b=[MISSED])
    result = run("apply", "plates.json", "-o", "out")
    assert result.exit_code == 1
    assert not Path("out/in/a.png").exists()
    assert is_hidden("out/in/b.png", MISSED)


@pytest.mark.parametrize("name", ["nothing", "note.json", "note.txt"])
def test_what_has_no_boxes_is_refused(here: Path, name: str) -> None:
    Path("nothing").mkdir()
    put("note.json", data=b"{}")
    put("note.txt", data=b"hello")
    assert run("apply", name, "-o", "out").exit_code == 2
    assert not Path("out").exists()
