"""The command: what it writes, what it never writes over, and how it says what went wrong."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
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
from plateblur.cli_runs import find_photos
from plateblur.detector import OnnxDetector, shipped_model
from plateblur.draw import COLOUR
from plateblur.errors import DetectionError, ModelError
from plateblur.photo import decode
from plateblur.pipeline import blur_photo
from plateblur.runs import given
from plateblur.runs.manifest import LOCK_NAME, MANIFEST_NAME
from plateblur.types import Detections, Image, Searched
from tests.clips import drawn_clip, driving, frames_of
from tests.fakes import FixedDetector, boxes, encoded, opened, street

STREET = street(90, 140)
WHITE = PillowImage.new("RGB", (160, 120), "white")
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
    monkeypatch.setattr(cli, "open_detector", lambda *_, **__: fixed)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli.app, [str(each) for each in arguments])


def tree(folder: Path) -> dict[str, bytes]:
    """Return every file below `folder`, hidden ones too, and its bytes; but no run's manifest."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in (MANIFEST_NAME, LOCK_NAME)
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
    assert "2 plates hidden in 2 photos -> out" in result.stderr
    assert "3 photos not done" in result.stderr
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

    monkeypatch.setattr(given, "blur_photo", short_of_memory)
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
    assert tree(here / "out").keys() == {"b.png"}


def test_an_output_folder_that_is_a_file_is_told(here: Path) -> None:
    put({"a.png": DATA, "b.png": DATA, "out": b"a file"}, here)
    result = run("blur", "a.png", "b.png", "-o", "out")
    assert result.exit_code == 2
    assert "the run can't start: File exists (out)" in result.stderr
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


# --- Everything in a folder -----------------------------------------------------------------

JPEG_DATA = encoded(STREET)
APPLE_DOUBLE = b"\0\x05\x16\x07\0\x02\0\0Mac OS X        " + bytes(60)


def test_everything_in_a_folder_is_done_or_said_to_be_skipped(here: Path) -> None:
    pictures = {
        **{"in/a.jpe": JPEG_DATA, "in/b.jfif": JPEG_DATA, "in/c.jpg_large": JPEG_DATA},
        **{"in/d.MPO": JPEG_DATA, "in/e.hif": encoded(STREET, "HEIF"), "in/f": JPEG_DATA},
        **{"in/g.dat": DATA, "in/h.jpg": DATA, "in/._i.jpg": JPEG_DATA},
        "in/j.heics": encoded(STREET, "HEIF"),
    }
    others = {
        **{"in/note.txt": b"no photo", "in/list.TXT": b"no photo", "in/README": b"no photo"},
        **{"in/clip.mp4": b"\0\0\0\x18ftypisom", "in/._a.jpe": APPLE_DOUBLE},
        **{"in/.plateblur-x.part": JPEG_DATA, "in/deep/z.jpg": JPEG_DATA, "away/z.jpg": JPEG_DATA},
    }
    put(pictures | others, here)
    (here / "in/linked").symlink_to(here / "away")
    (here / "in/gone").symlink_to(here / "nowhere")
    (here / "in/circle").symlink_to("circle")
    os.mkfifo(here / "in/pipe.jpg")
    result = run("blur", "in", "-o", "out", "--report", "report.jsonl")
    assert result.exit_code == 0, result.output
    assert tree(here / "out").keys() == {name.removeprefix("in/") for name in pictures}
    assert all(is_blurred(data) for data in tree(here / "out").values())
    assert "10 plates hidden in 10 photos -> out" in result.stderr
    told = next(line for line in result.stderr.splitlines() if "skipped" in line)
    counts, _, reasons = told.partition(" skipped: ")
    assert counts == "11"
    assert set(reasons.split(", ")) == {
        *("2 .txt", "1 .mp4", "1 file without a suffix", "1 ._ file of macOS"),
        *("1 unfinished file of an earlier run", "1 folder (see --recursive)"),
        *("1 folder behind a link", "2 broken links", "1 special file"),
    }
    lines = [json.loads(line) for line in (here / "report.jsonl").read_text().splitlines()]
    accounted = {line.get("photo") or line.get("skipped") for line in lines}
    assert accounted == {f"in/{path.name}" for path in (here / "in").iterdir()}


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("in/scan.psd", b"8BPS" + bytes(50), "got a Photoshop document; convert it to JPEG or PNG"),
        (
            "in/anim",
            encoded(STREET, "GIF", save_all=True, append_images=[WHITE]),
            "animation; save",
        ),
        ("in/raw.CR2", b"II*\0\x10\0\0\0CR" + bytes(50), "got a camera raw; develop it"),
        ("in/raw.nef", b"unknown", "got bytes beginning"),
        ("in/empty.jpe", b"", "got no bytes"),
        ("in/text.jpg", b"no photo", "got bytes beginning"),
    ],
    ids=["psd", "animation-without-suffix", "raw", "unknown-raw", "empty", "text-named-as-photo"],
)
@pytest.mark.parametrize("where", [["-o", "out"], ["--in-place"]], ids=["out", "in-place"])
def test_a_picture_that_is_not_taken_is_never_left_out_in_silence(
    here: Path, name: str, data: bytes, says: str, where: list[str]
) -> None:
    put({"in/a.png": DATA, name: data}, here)
    result = run("blur", "in", *where)
    assert result.exit_code == 1
    assert f"not done: {name}: " in result.stderr
    assert says in result.stderr
    assert (here / name).read_bytes() == data


def test_a_picture_that_leads_nowhere_and_a_folder_that_can_not_be_read_are_listed(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put({"in/a.png": DATA, "in/shut/b.png": DATA}, here)
    (here / "in/gone.jpg").symlink_to(here / "nowhere")
    whole = os.scandir

    def scan(path: Any) -> Any:  # a mode of 000 stops no test that runs as root
        if Path(path).name == "shut":
            raise PermissionError(13, "Permission denied", str(path))
        return whole(path)

    monkeypatch.setattr(os, "scandir", scan)
    result = run("blur", "in", "-o", "out", "--recursive", "--report", "report.jsonl")
    assert result.exit_code == 1
    assert "not done: in/shut: Permission denied" in result.stderr
    assert "not done: in/gone.jpg: No such file" in result.stderr
    assert tree(here / "out").keys() == {"a.png"}
    assert '"in/shut"' in (here / "report.jsonl").read_text()


def test_a_photo_given_twice_is_done_once(here: Path) -> None:
    put({"in/a.png": DATA, "in/b.png": DATA}, here)
    (here / "in/link.png").symlink_to(here / "in/a.png")
    result = run("blur", "in", "in/b.png", "--in-place")
    assert result.exit_code == 0, result.output
    assert "2 plates hidden in 2 photos, in place" in result.stderr
    assert "2 skipped: 2 photos given twice" in result.stderr
    assert run("blur", "in/a.png", "in/a.png", "-o", "out").exit_code == 0


def test_in_place_does_each_name_of_a_file_with_several(here: Path) -> None:
    put({"in/a.png": DATA}, here)
    (here / "in/hard.png").hardlink_to(here / "in/a.png")
    assert run("blur", "in", "--in-place").exit_code == 0
    assert all(is_blurred(data) for data in tree(here).values())


# --- What it says ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"in/a.png": DATA}, "1 plate hidden in 1 photo -> out"),
        (
            {"in/a.png": DATA, "in/b.png": DATA, "in/c.png": OTHER_SIZE},
            "2 plates hidden in 2 photos, 1 photo without plates -> out",
        ),
        (
            {"in/a.png": OTHER_SIZE, "in/b.png": OTHER_SIZE},
            "0 plates hidden in 0 photos, 2 photos without plates -> out",
        ),
        ({"in/a.png": BROKEN}, "0 plates hidden in 0 photos\n1 photo not done"),
    ],
    ids=["one", "several", "none", "nothing-done"],
)
def test_the_summary_says_what_was_done(here: Path, files: dict[str, bytes], says: str) -> None:
    put(files, here)
    result = run("blur", "in", "-o", "out")
    assert says + "\n" in result.stderr
    assert result.stdout == ""


def test_quiet_says_nothing_but_what_went_wrong(here: Path) -> None:
    put({"in/a.png": DATA, "in/b.png": DATA, "in/note.txt": b"x"}, here)
    assert run("blur", "in", "-o", "out", "--quiet").output == ""
    put({"in/c.png": BROKEN}, here)
    again = run("blur", "in", "-o", "again", "-q")
    assert again.exit_code == 1
    assert again.output.startswith("not done: in/c.png: ")
    assert len(again.output.splitlines()) == 1
    found = run("detect", "in/a.png", "-q")
    assert found.stderr == ""
    assert json.loads(found.stdout)["photo"] == "in/a.png"


def test_json_is_one_object_for_programs(here: Path) -> None:
    put({"in/a.png": DATA, "in/b.png": OTHER_SIZE, "in/c.png": BROKEN, "in/d.txt": b""}, here)
    result = run("blur", "in", "-o", "out", "--json")
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    assert told.pop("seconds") >= 0
    assert [each["photo"] for each in told.pop("not_done")] == ["in/c.png"]
    assert told == {
        **{"photos": 2, "plates": 1, "with_plates": 1, "without_plates": 1, "not_begun": 0},
        **{"ignored": 0, "done_before": 0, "notes": {}},
        **{"skipped": {".txt": 1}, "output": "out"},
    }


# --- Several at the same time ---------------------------------------------------------------


class Together(FixedDetector):
    """Answers only once so many photos are looked at in the same moment."""

    barrier = threading.Barrier(3)

    def detect(self, image: Image, *, min_confidence: float, **_: Any) -> Detections:
        self.barrier.wait(timeout=20)
        return super().detect(image, min_confidence=min_confidence)


@pytest.mark.parametrize("command", [["blur", "-o", "out"], ["detect"]], ids=["blur", "detect"])
def test_photos_are_done_at_the_same_time(
    here: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.setattr(cli, "open_detector", lambda *_, **__: Together(boxes(PLATE)))
    put({f"in/{name}.png": DATA for name in "abcdef"}, here)
    result = run(command[0], "in", *command[1:], "--workers", "3")
    assert result.exit_code == 0, result.output


class FirstIsSlowest(FixedDetector):
    """Takes longer for smaller images."""

    def detect(self, image: Image, *, min_confidence: float, **_: Any) -> Detections:
        time.sleep((200 - len(image)) / 1000)
        return super().detect(image, min_confidence=min_confidence)


@pytest.mark.slow
def test_reports_and_results_are_in_the_order_of_the_photos(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "open_detector", lambda *_, **__: FirstIsSlowest(boxes(PLATE)))
    names = [f"in/{i:02}.png" for i in range(12)]
    put({name: encoded(street(80 + 9 * i, 140), "PNG") for i, name in enumerate(names)}, here)
    assert run("blur", "in", "-o", "out", "--report", "r.jsonl", "--workers", "4").exit_code == 0
    lines = (here / "r.jsonl").read_text().splitlines()
    assert [json.loads(line)["photo"] for line in lines] == names
    found = run("detect", "in", "--workers", "4").stdout.splitlines()
    assert [json.loads(line)["photo"] for line in found] == names


def test_the_cores_are_shared_by_the_photos(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int | None] = []

    def opened_with(*_: str, threads: int | None = None, model: Path | None) -> FixedDetector:
        asked.append(threads)
        return FixedDetector(boxes(PLATE))

    monkeypatch.setattr(cli, "open_detector", opened_with)
    monkeypatch.setattr(cli, "cores", lambda: 8)
    put({f"in/{name}.png": DATA for name in "abcd"}, here)
    run("blur", "in/a.png", "-o", "one")
    run("blur", "in", "-o", "four")
    run("blur", "in", "-o", "two", "--workers", "2")
    run("blur", "in", "-o", "many", "--workers", "50")
    assert asked == [8, 2, 4, 2]


SLOW = """
import os, sys, time
from plateblur import cli
from plateblur.cli_runs import find_photos
from tests.fakes import FixedDetector, boxes
class Slow(FixedDetector):
    def detect(self, image, **options):
        os.write(1, b"begun\\n")
        time.sleep(1)
        return super().detect(image, **options)
cli.open_detector = lambda *_, **__: Slow(boxes([40, 30, 90, 45]))
cli.app(sys.argv[1:])
"""


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "terminate"])
def test_stopping_finishes_the_photos_in_hand_and_no_other(
    here: Path, stop: signal.Signals
) -> None:
    put({f"in/{i}.png": DATA for i in range(8)}, here)
    options = ["-o", "out", "--workers", "2", "--report", "report.jsonl"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}  # noqa: TID251
    with subprocess.Popen(
        [sys.executable, "-c", SLOW, "blur", "in", *options],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as child:  # fmt: skip
        assert child.stdout is not None
        assert child.stderr is not None
        assert child.stdout.readline() == "begun\n"
        assert child.stdout.readline() == "begun\n"
        child.send_signal(stop)
        told = child.stderr.read()
        assert child.wait() == 1, told
    done = tree(here / "out")
    assert 2 <= len(done) < 8
    assert all(is_blurred(data) for data in done.values())
    assert f"stopped: {8 - len(done)} photos not begun" in told
    lines = [json.loads(line) for line in (here / "report.jsonl").read_text().splitlines()]
    assert [line["photo"] for line in lines] == [f"in/{i}.png" for i in range(8)]
    assert sum("output" in line for line in lines) == len(done)


def test_a_bug_ends_the_run_and_does_not_hang_it(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Buggy(FixedDetector):
        def detect(self, image: Image, **_: Any) -> Detections:
            raise KeyError("a bug")

    monkeypatch.setattr(cli, "open_detector", lambda *_, **__: Buggy())
    put({f"in/{i}.png": DATA for i in range(8)}, here)
    result = run("blur", "in", "-o", "out")
    assert isinstance(result.exception, KeyError)
    assert tree(here / "out") == {}


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

    monkeypatch.setattr(cli, "open_detector", lambda *_, **__: Telling(boxes(PLATE)))
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
    assert "Exit codes: 0 every photo was processed; 1 at least one failed" in plain(result.stdout)


def test_help_says_which_methods_are_cosmetic() -> None:
    told = plain(run("blur", "--help").stdout)
    assert "mosaic and gaussian are cosmetic" in told
    for default in ("[default: veil]", "[default: strip]"):
        assert default in told
    assert "[default: 0.45]" in told  # minimum confidence
    assert "[default: 0.25]" in told  # margin


# --- The real command -----------------------------------------------------------------------

needs_model = pytest.mark.skipif(not shipped_model().is_file(), reason="no model is shipped yet")


@pytest.mark.slow
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
from plateblur.runs.files import write_atomically
from pathlib import Path
real = os.fsync
def stop(number):
    real(number)
    print("written", flush=True)
    time.sleep(600)
os.fsync = stop
write_atomically(Path("a.png"), b"new" * 100_000)
"""


@pytest.mark.slow
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
    assert [job.photo.name for job in find_photos([here], recursive=True).jobs] == ["a.png"]


@pytest.mark.slow
def test_ctrl_c_midway_leaves_nothing_behind(here: Path) -> None:
    put({"a.png": DATA}, here)
    with subprocess.Popen(
        [sys.executable, "-c", STOPPED_MIDWAY], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        child.send_signal(signal.SIGINT)
        child.wait(timeout=300)  # half of what it would sleep
    assert tree(here) == {"a.png": DATA}


@pytest.mark.slow
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


@pytest.mark.slow
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
    assert "plates hidden in 4 frames -> out/clip.mp4" in done.stderr
    assert len(frames_of((here / "out" / "clip.mp4").read_bytes())) == 4
    assert [path.name for path in (here / "out").iterdir()] == ["clip.mp4"]
    assert (here / "in.mp4").read_bytes() == CLIP


@pytest.mark.parametrize(
    ("data", "out", "code", "says"),
    [
        (b"no clip", "out.mp4", 1, "not done: in.mp4: expected a whole clip"),
        (CLIP, "out.webm", 2, "must end in .mp4, .mov or .mkv"),
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


def test_a_report_tells_where_each_plate_was_and_when(here: Path) -> None:
    (here / "in.mp4").write_bytes(drawn_clip(driving(12)))

    done = run("video", "in.mp4", "-o", "out.mkv", "--report", "plates.jsonl")

    assert done.exit_code == 0
    rows = [json.loads(line) for line in (here / "plates.jsonl").read_text().splitlines()]
    assert f"{len(rows)} plate" in done.stderr
    for row in rows:
        assert (row["clip"], row["width"], row["height"]) == ("in.mp4", 160, 120)
        times = [seen["time_s"] for seen in row["sightings"]]
        assert times == sorted(times)
        assert all(len(seen["xyxy"]) == 4 for seen in row["sightings"])


def test_what_is_left_out_of_a_clip_is_said(here: Path) -> None:
    (here / "in.mp4").write_bytes(drawn_clip(driving(4), sound="aac"))

    done = run("video", "in.mp4", "-o", "out.mp4", "--sound", "drop")

    assert done.exit_code == 0
    assert "left out: 1 sound track" in done.stderr


def test_a_clip_without_a_word_or_as_json(here: Path) -> None:
    (here / "in.mp4").write_bytes(CLIP)

    quiet = run("video", "in.mp4", "-o", "quiet.mp4", "--quiet")
    told = run("video", "in.mp4", "-o", "told.mp4", "--sound", "drop", "--json")

    assert (quiet.exit_code, quiet.output) == (0, "")
    assert told.exit_code == 0
    summary = json.loads(told.stdout)
    assert (summary["frames"], summary["output"]) == (4, "told.mp4")
    assert "hidden" not in told.stderr


def test_clips_as_json(here: Path) -> None:
    put({"in/a.mp4": CLIP, "in/b.mp4": b"no clip"}, here)

    told = run("video", "in", "-o", "out", "--json")

    assert told.exit_code == 1
    summary = json.loads(told.stdout)
    assert (summary["clips"], summary["output"]) == (1, "out")
    assert [one["clip"] for one in summary["not_done"]] == ["in/b.mp4"]


@pytest.mark.slow
def test_a_clip_that_was_killed_is_resumed(here: Path) -> None:
    (here / "in.mp4").write_bytes(drawn_clip(driving(60)))
    work = here / ".out.mp4.work" / "looked-0.jsonl"
    command = [
        sys.executable,
        "-c",
        "from plateblur.cli import app; app()",
        "video",
        "in.mp4",
        "-o",
        "out.mp4",
    ]
    with subprocess.Popen(command, cwd=here, stderr=subprocess.DEVNULL) as killed:
        while killed.poll() is None and not (work.exists() and work.read_bytes().count(b"\n") > 5):
            time.sleep(0.01)
        killed.kill()
    assert not (here / "out.mp4").exists()
    looked = work.read_bytes()

    done = run("video", "in.mp4", "-o", "out.mp4", "--resume")

    assert done.exit_code == 0
    assert looked.count(b"\n") < 60
    assert len(frames_of((here / "out.mp4").read_bytes())) == 60
    assert {path.name for path in here.iterdir()} == {"in.mp4", "out.mp4"}
