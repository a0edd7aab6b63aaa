"""The command: what it writes, what it never writes over, and how it says what went wrong."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage
from typer.testing import CliRunner, Result

from plateblur import cli
from plateblur.detector import OnnxDetector, shipped_model
from plateblur.draw import COLOUR
from plateblur.errors import DetectionError, ModelError
from plateblur.photo import decode
from plateblur.pipeline import blur_photo
from plateblur.types import Detections, Image, Searched
from tests.clips import drawn_clip, driving, frames_of
from tests.fakes import FixedDetector, boxes, encoded, opened, street

STREET = street(90, 140)
PLATE = [40.0, 30.0, 90.0, 45.0]
DATA = encoded(STREET, "PNG")
BROKEN = DATA[: len(DATA) // 2]
OTHER_SIZE = encoded(street(50, 60), "PNG")


class ByWidth(FixedDetector):
    """Finds the plate in images as wide as the street, nothing in narrow ones, fails at 77."""

    def detect(self, image: Image, *, min_confidence: float, **how: Any) -> Detections:
        if image.shape[1] == 77:
            raise DetectionError("the detector failed on this photo")
        found = super().detect(image, min_confidence=min_confidence)
        return found if image.shape[1] == 140 else found.at_least(1.01)


@pytest.fixture(autouse=True)
def detector(monkeypatch: pytest.MonkeyPatch) -> None:
    fixed = ByWidth(boxes(PLATE), (0.9,))
    monkeypatch.setattr(cli, "open_detector", lambda _engine, _device: fixed)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli.app, [str(each) for each in arguments])


def tree(folder: Path) -> dict[str, bytes]:
    """Return every file below `folder`, hidden ones too, and its bytes."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def is_blurred(data: bytes) -> bool:
    return bool((decode(data).pixels[30:45, 40:90] != STREET[30:45, 40:90]).any())


def put(files: dict[str, bytes], folder: Path) -> None:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


# --- Where it writes ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("out", "written"),
    [
        ("b.png", "b.png"),
        ("B.PNG", "B.PNG"),
        ("new/deep/b.png", "new/deep/b.png"),
        ("out", "out/a.png"),
        ("out/", "out/a.png"),
        ("there.png", "there.png/a.png"),
    ],
    ids=["file", "capitals", "file-in-new-folder", "folder", "slash", "folder-named-like-a-photo"],
)
def test_one_photo_goes_to_a_file_or_a_folder(here: Path, out: str, written: str) -> None:
    put({"a.png": DATA}, here)
    if out == "there.png":
        (here / out).mkdir()
    result = run("blur", "a.png", "-o", out)
    assert result.exit_code == 0, result.output
    assert tree(here).keys() == {"a.png", written}
    assert is_blurred((here / written).read_bytes())
    assert (here / "a.png").read_bytes() == DATA


FOLDER = {
    "in/a.png": DATA,
    "in/B.JPG": encoded(STREET),
    "in/note.txt": b"no photo",
    "in/deep/er/c.webp": encoded(STREET, "WEBP"),
    "in/deep/a.png": DATA,
}


@pytest.mark.parametrize(
    ("options", "written"),
    [
        ([], {"a.png", "B.JPG"}),
        (["--recursive"], {"a.png", "B.JPG", "deep/a.png", "deep/er/c.webp"}),
    ],
    ids=["flat", "recursive"],
)
def test_a_folder_keeps_its_structure(here: Path, options: list[str], written: set[str]) -> None:
    put(FOLDER, here)
    result = run("blur", "in", "-o", "out", *options)
    assert result.exit_code == 0, result.output
    assert tree(here / "out").keys() == written
    assert all(is_blurred(data) for data in tree(here / "out").values())
    assert tree(here / "in") == {k.removeprefix("in/"): v for k, v in FOLDER.items()}


def test_what_an_earlier_run_wrote_below_the_folder_is_no_input(here: Path) -> None:
    put(FOLDER, here)
    assert run("blur", "in", "-o", "in/out", "--recursive").exit_code == 0
    before = tree(here)
    assert run("blur", "in", "-o", "in/out", "--recursive", "--overwrite").exit_code == 0
    assert tree(here).keys() == before.keys()


def test_an_output_folder_above_the_input_is_fine(here: Path) -> None:
    put({"in/a.png": DATA}, here)
    assert run("blur", "in", "-o", ".").exit_code == 0
    assert is_blurred((here / "a.png").read_bytes())


def test_an_earlier_output_is_only_replaced_when_told(here: Path) -> None:
    put({"a.png": DATA, "out/a.png": b"earlier"}, here)
    refused = run("blur", "a.png", "-o", "out")
    assert refused.exit_code == 1
    assert "--overwrite replaces it" in refused.stderr
    assert (here / "out/a.png").read_bytes() == b"earlier"
    assert run("blur", "a.png", "-o", "out", "--overwrite").exit_code == 0
    assert is_blurred((here / "out/a.png").read_bytes())


@pytest.mark.parametrize(
    ("given", "out"),
    [
        (["in"], "in"),
        (["in"], "in/../in"),
        (["in/a.png"], "in"),
        (["in/a.png"], "in/a.png"),
        (["in"], "link"),
        (["in/a.png"], "link/a.png"),
        (["in/a.png"], "alias.png"),
        (["in/a.png"], "hard.png"),
        (["alias.png"], "in/a.png"),
        (["in/a.png", "other/a.png"], "other"),
        (["other", "in"], "in"),
    ],
    ids=[
        *("its-folder", "its-folder-round-about", "photo-to-its-folder", "itself"),
        *("linked-folder", "through-a-linked-folder", "link-to-it", "hard-link-to-it"),
        *("given-by-a-link", "over-another-input", "folder-over-another-input"),
    ],
)
@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]], ids=["", "overwrite"])
def test_no_input_is_ever_written_over(
    here: Path, given: list[str], out: str, overwrite: list[str]
) -> None:
    put({"in/a.png": DATA, "other/a.png": DATA}, here)
    (here / "link").symlink_to(here / "in")
    (here / "alias.png").symlink_to(here / "in/a.png")
    (here / "hard.png").hardlink_to(here / "in/a.png")
    before = tree(here)
    result = run("blur", *given, "-o", out, *overwrite)
    assert result.exit_code == 1
    assert "not done" in result.stderr
    assert tree(here) == before
    assert (here / "alias.png").is_symlink()


def test_a_dot_means_this_folder_and_is_refused(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put({"in/a.png": DATA}, here)
    monkeypatch.chdir(here / "in")
    assert run("blur", ".", "-o", ".", "--overwrite").exit_code == 1
    assert run("blur", "a.png", "-o", ".", "--overwrite").exit_code == 1
    assert tree(here) == {"in/a.png": DATA}


def test_in_place_replaces_the_photo_and_keeps_its_mode(here: Path) -> None:
    put({"in/a.png": DATA, "in/deep/b.png": DATA}, here)
    (here / "in/a.png").chmod(0o640)
    result = run("blur", "in", "--in-place", "--recursive")
    assert result.exit_code == 0, result.output
    assert tree(here).keys() == {"in/a.png", "in/deep/b.png"}
    assert all(is_blurred(data) for data in tree(here).values())
    assert (here / "in/a.png").stat().st_mode & 0o777 == 0o640


def test_in_place_goes_through_a_link_to_the_photo_itself(here: Path) -> None:
    put({"real/a.png": DATA}, here)
    (here / "link.png").symlink_to(here / "real/a.png")
    assert run("blur", "link.png", "--in-place").exit_code == 0
    assert (here / "link.png").is_symlink()
    assert is_blurred((here / "real/a.png").read_bytes())


def test_in_place_leaves_a_photo_that_can_not_be_done_as_it_was(here: Path) -> None:
    put({"a.png": DATA, "b.png": BROKEN}, here)
    assert run("blur", "a.png", "b.png", "--in-place").exit_code == 1
    assert is_blurred((here / "a.png").read_bytes())
    assert (here / "b.png").read_bytes() == BROKEN


@pytest.mark.parametrize(
    "arguments",
    [["a.png"], ["a.png", "-o", "out", "--in-place"]],
    ids=["neither", "both"],
)
def test_the_output_is_named_once(here: Path, arguments: list[str]) -> None:
    put({"a.png": DATA}, here)
    result = run("blur", *arguments)
    assert result.exit_code == 2
    assert tree(here) == {"a.png": DATA}


def test_two_photos_of_one_name_do_not_share_an_output(here: Path) -> None:
    put({"x/a.png": DATA, "y/a.png": OTHER_SIZE}, here)
    result = run("blur", "x/a.png", "y/a.png", "-o", "out", "--overwrite")
    assert result.exit_code == 1
    assert "another photo of this run" in result.stderr
    assert decode((here / "out/a.png").read_bytes()).image_hw == (90, 140)


def test_a_name_of_another_format_is_refused(here: Path) -> None:
    put({"a.png": DATA}, here)
    result = run("blur", "a.png", "-o", "b.jpg")
    assert result.exit_code == 1
    assert "PNG" in result.stderr
    assert tree(here) == {"a.png": DATA}


# --- When something fails -------------------------------------------------------------------


def test_one_bad_photo_stops_no_other_and_leaves_no_output(here: Path) -> None:
    files = {
        "in/1-bad.png": BROKEN,
        "in/2-good.png": DATA,
        "in/3-fails.png": encoded(street(50, 77), "PNG"),
        "in/4-empty.jpg": b"",
        "in/5-good.png": DATA,
    }
    put(files, here)
    result = run("blur", "in", "-o", "out")
    assert result.exit_code == 1
    assert tree(here / "out").keys() == {"2-good.png", "5-good.png"}
    told = [line for line in result.stderr.splitlines() if line.startswith("not done: ")]
    assert [line.split(":")[1].strip() for line in told] == [
        *("in/1-bad.png", "in/3-fails.png", "in/4-empty.jpg"),
    ]
    assert "2 photos done, 3 not" in result.stderr
    assert result.stdout == ""


def test_a_failure_leaves_no_folder_and_no_earlier_output_behind(here: Path) -> None:
    put({"a.png": BROKEN, "out/a.png": b"earlier"}, here)
    assert run("blur", "a.png", "-o", "new").exit_code == 1
    assert run("blur", "a.png", "-o", "out", "--overwrite").exit_code == 1
    assert tree(here) == {"a.png": BROKEN, "out/a.png": b"earlier"}


@pytest.mark.parametrize("step", ["replace", "chmod"])
def test_a_failing_write_leaves_neither_a_part_nor_a_spoilt_file(
    here: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    put({"a.png": DATA, "out/a.png": b"earlier"}, here)

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, step, fail)
    result = run("blur", "a.png", "-o", "out", "--overwrite")
    assert result.exit_code == 1
    assert "No space left on device" in result.stderr
    assert tree(here) == {"a.png": DATA, "out/a.png": b"earlier"}


def test_a_disk_that_fills_up_midway_leaves_the_earlier_file(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put({"a.png": DATA}, here)

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    assert run("blur", "a.png", "--in-place").exit_code == 1
    assert tree(here) == {"a.png": DATA}


def test_too_little_memory_for_one_photo_stops_no_other(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put({"a.png": OTHER_SIZE, "b.png": DATA}, here)

    def short_of_memory(data: bytes, *rest: Any, **options: Any) -> Any:
        if data == OTHER_SIZE:
            raise MemoryError
        return blur_photo(data, *rest, **options)

    monkeypatch.setattr(cli, "blur_photo", short_of_memory)
    result = run("blur", "a.png", "b.png", "-o", "out")
    assert result.exit_code == 1
    assert "not done: a.png: MemoryError" in result.stderr
    assert tree(here / "out").keys() == {"b.png"}


def test_an_unreadable_photo_is_listed_and_the_others_are_done(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put({"in/a.png": DATA, "in/b.png": DATA}, here)
    whole = Path.read_bytes

    def read(path: Path) -> bytes:  # a mode of 000 stops no test that runs as root
        if path.name == "a.png" and path.parent.name == "in":
            raise PermissionError(13, "Permission denied", str(path))
        return whole(path)

    monkeypatch.setattr(Path, "read_bytes", read)
    result = run("blur", "in", "-o", "out")
    assert result.exit_code == 1
    assert "not done: in/a.png: Permission denied" in result.stderr
    assert [path.name for path in (here / "out").iterdir()] == ["b.png"]


def test_an_output_folder_that_is_a_file_is_told(here: Path) -> None:
    put({"a.png": DATA, "b.png": DATA, "out": b"a file"}, here)
    result = run("blur", "a.png", "b.png", "-o", "out")
    assert result.exit_code == 1
    assert tree(here) == {"a.png": DATA, "b.png": DATA, "out": b"a file"}


@pytest.mark.parametrize("command", [["blur", "-o", "out"], ["detect"]], ids=["blur", "detect"])
@pytest.mark.parametrize("given", ["empty", "texts", "absent.png"])
def test_without_a_photo_there_is_nothing_to_start(
    here: Path, command: list[str], given: str
) -> None:
    put({"texts/note.txt": b"no photo"}, here)
    (here / "empty").mkdir()
    result = run(command[0], given, *command[1:])
    assert result.exit_code == 2
    assert result.stdout == ""
    assert tree(here).keys() == {"texts/note.txt"}


@pytest.mark.parametrize(
    "options",
    [
        *(["--min-confidence", "0"], ["--min-confidence", "1.1"], ["--min-confidence", "nan"]),
        *(["--min-confidence", "many"], ["--margin", "-0.1"], ["--margin", "nan"]),
        *(["--margin", "inf"], ["--method", "ellipse"], ["--metadata", "all"]),
        *(["--max-pixels", "0"], ["--engine", "torch"], ["--no-such-option"]),
        *(["--device", "gpu"], ["--fast", "--thorough"], ["--smallest-plate-px", "0.5"]),
        ["--smallest-plate-px", "nan"],
    ],
    ids=" ".join,
)
def test_options_out_of_range_do_not_start(here: Path, options: list[str]) -> None:
    put({"a.png": DATA}, here)
    assert run("blur", "a.png", "-o", "out", *options).exit_code == 2
    assert tree(here) == {"a.png": DATA}


def test_without_a_model_nothing_starts(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.chdir(here)
    put({"a.png": DATA}, here)

    def missing(**_: object) -> OnnxDetector:
        raise ModelError("expected an ONNX model named plates.onnx, found no such file")

    monkeypatch.setattr(OnnxDetector, "shipped", missing)
    result = run("blur", "a.png", "-o", "out")
    assert result.exit_code == 2
    assert "plates.onnx" in result.stderr
    assert tree(here) == {"a.png": DATA}


# --- Options --------------------------------------------------------------------------------


def test_options_reach_the_blur(here: Path) -> None:
    exif = PillowImage.Exif()
    exif[0x010F] = "Cameramaker"
    put({"a.png": encoded(STREET, "PNG", exif=exif.tobytes())}, here)
    result = run(
        *("blur", "a.png", "-o", "b.png", "--method", "solid", "--margin", "0"),
        *("--metadata", "keep", "--draw-boxes"),
    )
    assert result.exit_code == 0, result.output
    pixels = np.array(opened((here / "b.png").read_bytes()))
    assert tuple(pixels[37, 60]) == (64, 64, 64)
    assert tuple(pixels[30, 60]) == COLOUR
    assert np.array_equal(pixels[60:], STREET[60:])
    assert b"Cameramaker" in (here / "b.png").read_bytes()
    assert run("blur", "a.png", "-o", "c.png", "--min-confidence", "0.95").exit_code == 0
    assert not is_blurred((here / "c.png").read_bytes())
    assert b"Cameramaker" not in (here / "c.png").read_bytes()


def test_the_pixel_limit_is_an_option(here: Path) -> None:
    put({"a.png": DATA}, here)
    result = run("blur", "a.png", "-o", "out", "--max-pixels", "1000")
    assert result.exit_code == 1
    assert "at most 1000 pixels" in result.stderr


FOUND = {
    "width": 140,
    "height": 90,
    "detections": [{"xyxy": PLATE, "confidence": 0.9, "plate_ratio": "1:6"}],
}


def test_the_report_has_a_line_for_each_photo_done_or_not(here: Path) -> None:
    put({"in/a.png": DATA, "in/b.png": BROKEN, "in/c.png": OTHER_SIZE}, here)
    result = run("blur", "in", "-o", "out", "--report", "new/report.jsonl")
    assert result.exit_code == 1
    lines = [json.loads(line) for line in (here / "new/report.jsonl").read_text().splitlines()]
    assert lines == [
        {"photo": "in/a.png", "output": "out/a.png", **FOUND},
        {"photo": "in/b.png", "error": lines[1]["error"]},
        {
            **{"photo": "in/c.png", "output": "out/c.png"},
            **{"width": 60, "height": 50, "detections": []},
        },
    ]
    assert "damaged or truncated" in lines[1]["error"]


@pytest.mark.parametrize("report", ["a.png", "alias.txt", "out/a.png", "folder"])
def test_the_report_never_takes_a_photos_place(here: Path, report: str) -> None:
    put({"a.png": DATA}, here)
    (here / "alias.txt").symlink_to(here / "a.png")
    (here / "folder").mkdir()
    assert run("blur", "a.png", "-o", "out", "--report", report).exit_code == 2
    assert tree(here) == {"a.png": DATA, "alias.txt": DATA}


def test_a_report_that_can_not_be_written_is_told(here: Path) -> None:
    put({"a.png": DATA, "taken": b"a file"}, here)
    result = run("blur", "a.png", "-o", "out", "--report", "taken/report.jsonl")
    assert result.exit_code == 1
    assert "not done: taken/report.jsonl" in result.stderr
    assert is_blurred((here / "out/a.png").read_bytes())


def test_detect_prints_one_object_a_line_and_nothing_else(here: Path) -> None:
    put({"in/a.png": DATA, "in/b.png": BROKEN, "in/deep/c.png": OTHER_SIZE}, here)
    before = tree(here)
    result = run("detect", "in", "--recursive")
    assert result.exit_code == 1
    assert [json.loads(line) for line in result.stdout.splitlines()] == [
        {"photo": "in/a.png", **FOUND},
        {"photo": "in/deep/c.png", "width": 60, "height": 50, "detections": []},
    ]
    assert list(json.loads(result.stdout.splitlines()[0])) == [
        *("photo", "width", "height", "detections"),
    ]
    assert "not done: in/b.png" in result.stderr
    assert tree(here) == before


def test_the_report_says_that_a_photo_was_treated_as_a_panorama(here: Path) -> None:
    gpano = "http://ns.google.com/photos/1.0/panorama/"
    xmp = (
        "<rdf:Description xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#' "
        f"xmlns:GPano='{gpano}' GPano:ProjectionType='equirectangular'/>"
    ).encode()
    put({"a.jpg": encoded(STREET, xmp=xmp), "b.jpg": encoded(STREET)}, here)
    tagged, plain = map(json.loads, run("detect", "a.jpg", "b.jpg").stdout.splitlines())
    assert tagged["projection"] == "equirectangular"
    assert "projection" not in plain
    as_asked = [("flat", None), ("equirectangular", "equirectangular")]
    for asked, told in as_asked:
        (line,) = run("detect", "a.jpg", "--projection", asked).stdout.splitlines()
        assert json.loads(line).get("projection") == told
    assert run("blur", "a.jpg", "b.jpg", "-o", "out", "--report", "r.jsonl").exit_code == 0
    records = [json.loads(line) for line in (here / "r.jsonl").read_text().splitlines()]
    assert [record.get("projection") for record in records] == ["equirectangular", None]
    assert run("blur", "a.jpg", "-o", "c.jpg", "--projection", "fisheye").exit_code == 2


def test_detect_gives_pixels_of_the_upright_photo(here: Path) -> None:
    exif = PillowImage.Exif()
    exif[0x0112] = 8
    turned = np.ascontiguousarray(np.rot90(STREET, -1))
    put({"a.png": encoded(turned, "PNG", exif=exif.tobytes())}, here)
    found = json.loads(run("detect", "a.png").stdout)
    assert (found["width"], found["height"]) == (140, 90)


@pytest.mark.parametrize(
    ("options", "effort", "px"),
    [
        ([], "default", 12.0),
        (["--fast"], "fast", 12.0),
        (["--thorough", "--smallest-plate-px", "9"], "thorough", 9.0),
    ],
    ids=["default", "fast", "thorough"],
)
@pytest.mark.parametrize("command", ["detect", "blur"])
def test_how_hard_to_look_reaches_the_detector_and_is_told(
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    options: list[str],
    effort: str,
    px: float,
) -> None:
    asked: list[dict[str, Any]] = []

    class Telling(FixedDetector):
        def detect(self, image: Image, *, min_confidence: float, **how: Any) -> Detections:
            asked.append(how)
            return replace(
                super().detect(image, min_confidence=min_confidence), searched=Searched(6, 11.9)
            )

    monkeypatch.setattr(cli, "open_detector", lambda _engine, _device: Telling(boxes(PLATE)))
    put({"a.png": DATA}, here)
    if command == "detect":
        result = run("detect", "a.png", *options)
        (line,) = result.stdout.splitlines()
    else:
        result = run("blur", "a.png", "-o", "out", "--report", "told.jsonl", *options)
        (line,) = (here / "told.jsonl").read_text().splitlines()
    assert result.exit_code == 0
    assert asked == [{"smallest_plate_px": px, "effort": effort}]
    told = json.loads(line)
    assert (told["looks"], told["smallest_plate_px"]) == (6, 11.9)


@pytest.mark.parametrize(("least", "count"), [("0.9", 1), ("0.95", 0)], ids=["at", "above"])
def test_detect_keeps_the_smallest_confidence(here: Path, least: str, count: int) -> None:
    put({"a.png": DATA}, here)
    least = str(np.nextafter(np.float32(least), np.float32(0)))
    found = json.loads(run("detect", "a.png", "--min-confidence", least).stdout)
    assert len(found["detections"]) == count


def test_names_that_are_no_utf8_are_reported(here: Path) -> None:
    name = os.fsdecode(b"plate-\xff.png")
    try:
        put({name: BROKEN}, here)
    except OSError:
        pytest.skip("this file system takes UTF-8 alone")
    result = run("blur", name, "-o", "out", "--report", "report.jsonl")
    assert result.exit_code == 1
    assert json.loads((here / "report.jsonl").read_text())["photo"] == name
    assert run("detect", name).exit_code == 1


# --- Help -----------------------------------------------------------------------------------


def plain(text: str) -> str:
    """Return help text without colours, frames and line breaks."""
    return " ".join(re.sub(r"\x1b\[[0-9;]*m|[│╭╮╰╯─]", " ", text).split())


def test_the_version_is_the_packages() -> None:
    result = run("--version")
    assert result.exit_code == 0
    assert result.stdout == f"plateblur {metadata.version('plateblur')}\n"


@pytest.mark.parametrize("arguments", [[], ["blur"], ["detect"]], ids=["whole", "blur", "detect"])
def test_help_tells_the_exit_codes(arguments: list[str]) -> None:
    result = run(*arguments, "--help")
    assert result.exit_code == 0
    assert "Exit codes: 0 every photo was done; 1 at least one was not" in plain(result.stdout)


def test_help_says_which_methods_are_cosmetic() -> None:
    told = plain(run("blur", "--help").stdout)
    assert "mosaic and gaussian are cosmetic" in told
    for default in ("[default: veil]", "[default: strip]"):
        assert default in told
    assert "[default: 0.45]" in told  # minimum confidence
    assert "[default: 0.25]" in told  # margin


# --- The real command -----------------------------------------------------------------------

COMMAND = [sys.executable, "-m", "plateblur.cli"]
needs_model = pytest.mark.skipif(not shipped_model().is_file(), reason="no model is shipped yet")


@needs_model
def test_the_command_itself_blurs_a_folder_and_detects(here: Path) -> None:
    put({"in/a.jpg": encoded(STREET), "in/b.png": DATA}, here)
    command = [str(Path(sys.executable).parent / "plateblur")]
    blurred = subprocess.run([*command, "blur", "in", "-o", "out"], capture_output=True, text=True)
    assert blurred.returncode == 0, blurred.stderr
    assert blurred.stdout == ""
    assert tree(here / "out").keys() == {"a.jpg", "b.png"}
    found = subprocess.run([*command, "detect", "in"], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert [json.loads(line)["photo"] for line in found.stdout.splitlines()] == [
        *("in/a.jpg", "in/b.png"),
    ]


STOPPED_MIDWAY = """
import os, sys, time
from plateblur import cli
from pathlib import Path
real = os.fsync
def stop(number):
    real(number)
    print("written", flush=True)
    time.sleep(60)
os.fsync = stop
cli.write_atomically(Path("a.png"), b"new" * 100_000)
"""


def test_a_kill_midway_leaves_the_earlier_photo_whole(here: Path) -> None:
    put({"a.png": DATA}, here)
    with subprocess.Popen([sys.executable, "-c", STOPPED_MIDWAY], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"written\n"
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert (here / "a.png").read_bytes() == DATA
    left = [name for name in tree(here) if name != "a.png"]
    assert all(name.startswith(".plateblur-") and name.endswith(".part") for name in left)
    # What a kill leaves is no photo to the next run.
    assert [job.photo.name for job in cli.find_photos([here], recursive=True)] == ["a.png"]


def test_ctrl_c_midway_leaves_nothing_behind(here: Path) -> None:
    put({"a.png": DATA}, here)
    with subprocess.Popen(
        [sys.executable, "-c", STOPPED_MIDWAY], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        child.send_signal(signal.SIGINT)
        started = time.monotonic()
        child.wait()
    assert time.monotonic() - started < 30
    assert tree(here) == {"a.png": DATA}


def test_the_operators_commands_are_among_the_commands(here: Path) -> None:
    listed = run("--help")
    made = CliRunner().invoke(
        cli.app,
        [
            *("accounts", "create", "ana@example.com", "--password-stdin", "--activate"),
            *("--plan", "trial", "--data-dir", "store"),
        ],
        input="a-long-enough-password\n",
    )
    assert "accounts" in listed.output
    assert made.exit_code == 0, made.output
    assert "ana@example.com" in run("accounts", "list", "--data-dir", "store").output
    assert (here / "store").is_dir()


def test_photos_are_blurred_without_loading_the_store() -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-c"),
            "import sys; from plateblur import cli; print('sqlalchemy' in sys.modules)",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "False"


CLIP = drawn_clip(driving(4))


def test_a_clip_is_blurred_and_says_how_many_plates(here: Path) -> None:
    (here / "in.mp4").write_bytes(CLIP)

    done = run("video", "in.mp4", "-o", "out/clip.mp4")

    assert done.exit_code == 0
    assert "plates hidden in 4 frames" in done.stderr
    assert len(frames_of((here / "out" / "clip.mp4").read_bytes())) == 4
    assert [path.name for path in (here / "out").iterdir()] == ["clip.mp4"]
    assert (here / "in.mp4").read_bytes() == CLIP


@pytest.mark.parametrize(
    ("data", "out", "code", "says"),
    [
        (b"no clip", "out.mp4", 1, "not done: in.mp4: expected a clip"),
        (CLIP, "out.webm", 2, "is an MP4"),
        (CLIP, "there.mp4", 2, "is there already"),
        (CLIP, "in.mp4", 2, "was given itself"),
    ],
    ids=["no clip", "another kind", "an earlier output", "the clip itself"],
)
def test_a_clip_that_cannot_be_done_leaves_nothing(
    here: Path, data: bytes, out: str, code: int, says: str
) -> None:
    (here / "in.mp4").write_bytes(data)
    (here / "there.mp4").write_bytes(b"earlier")

    done = run("video", "in.mp4", "-o", out)

    assert done.exit_code == code
    assert says in " ".join(done.stderr.replace("\u2502", " ").split())
    assert {path.name for path in here.iterdir()} == {"in.mp4", "there.mp4"}
    assert (here / "in.mp4").read_bytes() == data
    assert (here / "there.mp4").read_bytes() == b"earlier"
