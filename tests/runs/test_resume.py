"""Runs that are repeated, interrupted and killed: no photo is lost, done twice or half written."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from typer.testing import CliRunner, Result

from plateblur import cli
from plateblur.detector import shipped_model
from plateblur.runs import given as corrections
from plateblur.runs.files import digest_of
from plateblur.runs.manifest import LOCK_NAME, MANIFEST_NAME, SOFTWARE
from plateblur.types import Detections, Image
from tests.fakes import FixedDetector, boxes, encoded, street

PLATE = [40.0, 30.0, 90.0, 45.0]
PHOTO = encoded(street(90, 140), "PNG")
OTHER = encoded(street(90, 140, seed=1), "PNG")
BROKEN = PHOTO[: len(PHOTO) // 2]
LONG_AGO_S = 1_700_000_000


class Counting(FixedDetector):
    """Remembers how often it was asked."""

    asked: list[int] = []  # noqa: RUF012 - emptied by the fixture

    def detect(self, image: Image, *, min_confidence: float, **how: Any) -> Detections:
        self.asked.append(1)
        return super().detect(image, min_confidence=min_confidence)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    Counting.asked.clear()
    monkeypatch.setattr(cli, "open_detector", lambda *_, **__: Counting(boxes(PLATE), (0.9,)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def put(name: str, data: bytes = PHOTO, *, age: bool = True) -> Path:
    """Write a photo that was last changed long ago, so that its time is trusted."""
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    if age:
        os.utime(path, (LONG_AGO_S, LONG_AGO_S))
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli.app, [str(each) for each in arguments])


def blur(*options: object) -> Result:
    return run("blur", "in", "-o", "out", *options)


def looks() -> int:
    """Return how many photos were looked at since the last time this was asked."""
    count = len(Counting.asked)
    Counting.asked.clear()
    return count


def lines(folder: str = "out") -> list[dict[str, Any]]:
    text = Path(folder, MANIFEST_NAME).read_text()
    return [json.loads(line) for line in text.splitlines()]


def last_lines(folder: str = "out") -> dict[str, dict[str, Any]]:
    return {line["output"]: line for line in lines(folder) if "output" in line}


# --- Running the same line again ------------------------------------------------------------


@pytest.mark.parametrize("age", [True, False], ids=["old-photos", "photos-written-just-now"])
def test_the_same_line_again_does_nothing(here: Path, age: bool) -> None:
    for name in "abc":
        put(f"in/{name}.png", age=age)
    assert blur().exit_code == 0
    assert looks() == 3
    before = {path.name: path.stat().st_mtime_ns for path in Path("out").glob("*.png")}
    again = blur()
    assert again.exit_code == 0, again.output
    assert looks() == 0
    assert "3 photos done before" in again.stderr
    assert {path.name: path.stat().st_mtime_ns for path in Path("out").glob("*.png")} == before


def test_what_is_done_is_not_even_read(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put("in/a.png")
    assert blur().exit_code == 0
    put("in/b.png")
    read: list[str] = []
    whole = Path.read_bytes

    def noting(path: Path) -> bytes:
        read.append(path.name)
        return whole(path)

    monkeypatch.setattr(Path, "read_bytes", noting)
    assert blur().exit_code == 0
    assert read == ["b.png"]


def test_only_what_is_new_or_changed_or_gone_is_done(here: Path) -> None:
    for name in "abcd":
        put(f"in/{name}.png")
    assert blur().exit_code == 0
    looks()
    put("in/b.png", OTHER, age=False)
    Path("out/c.png").unlink()
    put("in/e.png")
    old = Path("out/b.png").read_bytes()
    result = blur()
    assert result.exit_code == 0, result.output
    assert looks() == 3
    assert "2 photos done before" in result.stderr
    assert Path("out/b.png").read_bytes() != old
    assert Path("out/c.png").exists()
    assert Path("out/e.png").exists()


def test_a_photo_that_was_only_touched_is_not_done_again(here: Path) -> None:
    put("in/a.png")
    blur()
    looks()
    put("in/a.png", age=False)
    assert blur().exit_code == 0
    assert looks() == 0


def test_a_photo_of_the_same_size_and_another_content_is_noticed(here: Path) -> None:
    photo = put("in/a.png", PHOTO)
    blur()
    looks()
    photo.write_bytes(PHOTO[:-1] + b"\0")  # behind the image's end
    assert blur().exit_code in (0, 1)
    assert looks() <= 1
    assert (
        last_lines()["a.png"]["input"]["sha256"] == hashlib.sha256(photo.read_bytes()).hexdigest()
    )


def test_a_moved_survey_is_known_by_its_content(here: Path) -> None:
    put("in/a.png")
    blur()
    looks()
    Path("in").rename("moved")
    assert run("blur", "moved", "-o", "out").exit_code == 0
    assert looks() == 0
    assert last_lines()["a.png"]["photo"] == str(here / "moved" / "a.png")


def test_another_photo_of_that_name_does_not_replace_the_first_ones_output(here: Path) -> None:
    put("in/a.png")
    put("second/a.png", OTHER)
    blur()
    first = Path("out/a.png").read_bytes()
    result = run("blur", "second", "-o", "out")
    assert result.exit_code == 1
    assert "--overwrite replaces it" in result.stderr
    assert Path("out/a.png").read_bytes() == first
    looks()
    assert blur().exit_code == 0
    assert looks() == 0  # the first one's line is still the last


def test_an_output_that_someone_changed_is_not_replaced(here: Path) -> None:
    put("in/a.png")
    blur()
    Path("out/a.png").write_bytes(b"retouched by hand")
    result = blur()
    assert result.exit_code == 1
    assert "--overwrite replaces it" in result.stderr
    assert Path("out/a.png").read_bytes() == b"retouched by hand"
    assert blur("--overwrite").exit_code == 0


def test_redo_does_everything_again(here: Path) -> None:
    put("in/a.png")
    put("in/b.png")
    blur()
    looks()
    assert blur("--redo").exit_code == 0
    assert looks() == 2


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--min-confidence", "0.3"], "min_confidence was 0.45, is 0.3"),
        (["--method", "solid"], "method was veil, is solid"),
        (["--always-hide", "0,0,0.1,0.1"], "zones"),
    ],
    ids=["number", "word", "zone"],
)
def test_a_changed_option_is_noticed_and_said(here: Path, options: list[str], says: str) -> None:
    put("in/a.png")
    blur()
    looks()
    result = blur(*options)
    assert result.exit_code == 0, result.output
    assert f"changed since 1 were done: {says}" in result.stderr
    assert looks() == 1
    assert blur(*options).exit_code == 0
    assert looks() == 0


def test_a_changed_model_is_noticed_and_said(here: Path) -> None:
    put("in/a.png")
    Path("mine.onnx").write_bytes(b"first")
    sha256 = hashlib.sha256(b"first").hexdigest()
    Path("mine.json").write_text(json.dumps({"name": "my-plates-1", "sha256": sha256}))
    assert blur("--model", "mine.onnx").exit_code == 0
    assert lines()[0]["settings"]["model"] == f"my-plates-1 ({sha256[:12]})"
    looks()
    Path("mine.onnx").write_bytes(b"second")
    result = blur("--model", "mine.onnx")
    assert "model was my-plates-1" in result.stderr
    assert "card of another model" in result.stderr
    assert looks() == 1


def test_another_version_of_the_software_is_said_and_keeps_what_is_done(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put("in/a.png")
    blur()
    looks()
    monkeypatch.setattr(cli, "SOFTWARE", "plateblur 99")
    result = blur()
    assert f"kept: 1 done by {SOFTWARE}; --redo does them again" in result.stderr
    assert looks() == 0


# --- Failures -------------------------------------------------------------------------------


def test_a_damaged_photo_is_listed_again_and_tried_when_asked_or_mended(here: Path) -> None:
    put("in/a.png", BROKEN)
    put("in/b.png")
    assert blur().exit_code == 1
    again = blur()
    assert again.exit_code == 1
    assert "not done: in/a.png" in again.stderr
    assert "--retry-failed tries it again" in again.stderr
    assert len([line for line in lines() if line.get("output") == "a.png"]) == 1
    assert blur("--retry-failed").exit_code == 1
    assert len([line for line in lines() if line.get("output") == "a.png"]) == 2
    put("in/a.png", PHOTO, age=False)
    assert blur().exit_code == 0
    assert Path("out/a.png").exists()


def test_a_failure_of_the_machine_is_tried_again(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put("in/a.png")
    with monkeypatch.context() as patch:

        def short_of_memory(*_: Any, **__: Any) -> Any:
            raise MemoryError

        patch.setattr(corrections, "blur_photo", short_of_memory)
        assert blur().exit_code == 1
    assert last_lines()["a.png"]["state"] == "failed"
    assert blur().exit_code == 0


def test_a_photo_that_is_gone_is_named_once(here: Path) -> None:
    put("in/a.png")
    Path("in/gone.png").symlink_to("nowhere")
    result = blur()
    assert result.exit_code == 1
    assert "not done: in/gone.png: No such file or directory\n" in result.stderr
    assert last_lines()["gone.png"]["error"] == "No such file or directory"


@pytest.mark.slow
def test_a_full_disk_stops_the_run_instead_of_failing_every_photo(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(30):
        put(f"in/{number:02}.png")
    with monkeypatch.context() as patch:

        def full(*_: Any, **__: Any) -> Any:
            raise OSError(errno.ENOSPC, "No space left on device")

        patch.setattr("plateblur.runs.workers.AHEAD", 1)
        patch.setattr("plateblur.runs.files.tempfile.mkstemp", full)
        result = blur("--workers", 1)
    assert result.exit_code == 1
    failed = result.stderr.count("No space left on device")
    assert 1 <= failed < 20
    assert f"stopped: {30 - failed} photos not begun" in result.stderr
    assert blur().exit_code == 0
    assert len(list(Path("out").glob("*.png"))) == 30


def test_a_changed_photo_that_fails_and_is_mended_still_replaces_its_own_output(here: Path) -> None:
    put("in/a.png")
    assert blur().exit_code == 0
    put("in/a.png", BROKEN, age=False)
    assert blur().exit_code == 1
    put("in/a.png", OTHER, age=False)
    result = blur()
    assert result.exit_code == 0, result.output


def test_the_report_covers_what_an_earlier_run_did(here: Path) -> None:
    put("in/a.png")
    put("in/b.png", BROKEN)
    assert blur("--report", "first.jsonl").exit_code == 1
    assert blur("--report", "second.jsonl").exit_code == 1
    assert Path("first.jsonl").read_text() == Path("second.jsonl").read_text()
    assert json.loads(Path("second.jsonl").read_text().splitlines()[0])["output"] == "out/a.png"


# --- What a line says -----------------------------------------------------------------------


def test_a_line_says_what_was_done_with_what(here: Path) -> None:
    photo = put("in/deep/a.png")
    assert blur("--recursive").exit_code == 0
    begin, line, end = lines()
    assert (begin["run"], begin["software"]) == (1, SOFTWARE)
    assert begin["settings"]["smallest_plate_px"] == 12.0
    assert digest_of(shipped_model()).hex()[:12] in begin["settings"]["model"]
    assert (line["photo"], line["output"]) == (str(here / "in/deep/a.png"), "deep/a.png")
    assert (line["state"], line["plates"], line["run"]) == ("done", 1, 1)
    assert line["input"]["sha256"] == hashlib.sha256(photo.read_bytes()).hexdigest()
    written = Path("out/deep/a.png")
    assert line["written"]["size"] == written.stat().st_size
    assert line["written"]["sha256"] == hashlib.sha256(written.read_bytes()).hexdigest()
    assert line["seconds"] >= 0
    assert end["outcome"] == {
        **{"done": 1, "plates": 1, "ignored": 0, "done_before": 0, "not_done": 0},
        "not_begun": 0,
    }


# --- In place -------------------------------------------------------------------------------


def test_in_place_is_done_once(here: Path) -> None:
    put("in/a.png")
    put("in/b.png")
    assert run("blur", "in", "--in-place").exit_code == 0
    blurred = Path("in/a.png").read_bytes()
    looks()
    again = run("blur", "in", "--in-place")
    assert again.exit_code == 0, again.output
    assert looks() == 0
    assert Path("in/a.png").read_bytes() == blurred
    put("in/a.png", OTHER, age=False)
    assert run("blur", "in", "--in-place").exit_code == 0
    assert looks() == 1


# --- Two at the same time -------------------------------------------------------------------


def test_a_second_run_on_the_same_folder_is_refused(here: Path) -> None:
    put("in/a.png")
    Path("out").mkdir()
    with FileLock(Path("out") / LOCK_NAME):
        refused = blur()
        elsewhere = blur("--manifest", "elsewhere.jsonl")
    assert refused.exit_code == elsewhere.exit_code == 2
    assert "another run is writing to out; wait until it has ended" in refused.stderr
    assert not Path("out/a.png").exists()
    assert blur().exit_code == 0


def test_a_second_run_with_the_same_manifest_is_refused(here: Path) -> None:
    put("in/a.png")
    with FileLock("mine.jsonl.lock"):
        assert blur("--manifest", "mine.jsonl").exit_code == 2
    assert blur("--manifest", "mine.jsonl").exit_code == 0
    assert not Path("out", MANIFEST_NAME).exists()


@pytest.mark.parametrize("name", ["in/a.png", "in/note.txt"])
def test_the_manifest_never_takes_another_files_place(here: Path, name: str) -> None:
    put("in/a.png")
    put("in/note.txt", b"something else")
    before = Path(name).read_bytes()
    result = blur("--manifest", name)
    assert result.exit_code == 2
    assert Path(name).read_bytes() == before


# --- Killed ---------------------------------------------------------------------------------


class KilledError(BaseException):
    """Ends a run in the middle, as a kill does."""


@pytest.mark.parametrize("way", [["-o", "out"], ["--in-place"]], ids=["out", "in-place"])
@pytest.mark.parametrize("earlier", [False, True], ids=["first-time", "over-an-earlier-output"])
def test_killed_between_the_line_and_the_output(
    here: Path, monkeypatch: pytest.MonkeyPatch, way: list[str], earlier: bool
) -> None:
    put("in/a.png")
    if earlier:
        assert run("blur", "in", *way).exit_code == 0
        put("in/a.png", OTHER, age=False)
    looks()
    whole = Path.replace
    for _ in range(2):  # killed twice at the same point
        with monkeypatch.context() as patch:

            def kill(path: Path, target: Path) -> Path:
                if path.name.endswith(".part"):
                    raise KilledError
                return whole(path, target)

            patch.setattr(Path, "replace", kill)
            with pytest.raises(KilledError):
                run("blur", "in", *way)
    assert looks() == 2
    result = run("blur", "in", *way)
    assert result.exit_code == 0, result.output
    assert looks() == 1
    folder = "in" if way == ["--in-place"] else "out"
    check_against_manifest(Path(folder), ["a.png"])
    assert run("blur", "in", *way).exit_code == 0
    assert looks() == 0


SLOW = """
import sys, time
from plateblur import cli
from plateblur.runs.manifest import SOFTWARE
from tests.fakes import FixedDetector, boxes
class Slow(FixedDetector):
    def detect(self, image, **options):
        time.sleep(0.02)
        return super().detect(image, **options)
cli.open_detector = lambda *_, **__: Slow(boxes([40, 30, 90, 45]))
cli.app(sys.argv[1:])
"""


def in_a_process(*arguments: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}  # noqa: TID251
    return subprocess.Popen([sys.executable, "-c", SLOW, *arguments], env=environment)


def check_against_manifest(folder: Path, names: list[str]) -> None:
    """Raise unless there are these outputs alone, each as its last line says."""
    told = last_lines(str(folder))
    there = sorted(path.name for path in folder.glob("*.png"))
    assert there == sorted(told) == sorted(names)
    for name, line in told.items():
        data = (folder / name).read_bytes()
        assert line["state"] == "done"
        assert line["written"]["sha256"] == hashlib.sha256(data).hexdigest()


@pytest.mark.slow
@pytest.mark.parametrize("way", [["-o", "out"], ["--in-place"]], ids=["out", "in-place"])
def test_killed_at_random_and_resumed_everything_is_done_once(here: Path, way: list[str]) -> None:
    names = [f"{number:02}.png" for number in range(30)]
    for number, name in enumerate(names):
        put(f"in/{name}", encoded(street(90, 140, seed=number), "PNG"))
    given = {name: Path("in", name).read_bytes() for name in names}
    folder = Path("in" if way == ["--in-place"] else "out")
    chance = random.Random(3)
    for _ in range(3):
        size = manifest_size(folder)
        with in_a_process("blur", "in", *way, "-q", "--workers", "2") as child:
            wait_until(partial(has_grown_or_ended, folder, size, child))
            time.sleep(chance.uniform(0, 0.15))
            child.kill()
        for name in names:  # each is as it was, or whole and blurred
            for data in [path.read_bytes() for path in [folder / name] if path.exists()]:
                assert data == given[name] or data.endswith(b"IEND\xaeB`\x82")
    with in_a_process("blur", "in", *way, "-q") as child:
        assert child.wait() == 0
    check_against_manifest(folder, names)
    for name, line in last_lines(str(folder)).items():
        first = next(each for each in lines(str(folder)) if each.get("output") == name)
        assert first["input"]["sha256"] == hashlib.sha256(given[name]).hexdigest()
        assert line["plates"] == 1
    assert not list(folder.glob(".plateblur-*.part"))


def has_grown_or_ended(folder: Path, size: int, child: subprocess.Popen[bytes]) -> bool:
    return manifest_size(folder) > size or child.poll() is not None


def manifest_size(folder: Path) -> int:
    path = folder / MANIFEST_NAME
    return path.stat().st_size if path.exists() else 0


def wait_until(holds: Callable[[], bool], *, timeout_s: float = 120) -> None:
    end = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_photos_that_end_in_the_same_moment_each_have_their_line(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    barrier = threading.Barrier(4)

    class Together(FixedDetector):
        def detect(self, image: Image, *, min_confidence: float, **how: Any) -> Detections:
            barrier.wait(timeout=60)
            return super().detect(image, min_confidence=min_confidence)

    for number in range(8):
        put(f"in/{number}.png")
    monkeypatch.setattr(cli, "open_detector", lambda *_, **__: Together(boxes(PLATE)))
    assert blur("--workers", "4").exit_code == 0
    check_against_manifest(Path("out"), [f"{number}.png" for number in range(8)])
