"""Folders of clips: done one after the other, resumed, each fault by name."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from plateblur import cli
from plateblur.runs.clips import clip_target
from plateblur.runs.manifest import LOCK_NAME, MANIFEST_NAME
from tests.clips import drawn_clip, driving, frames_of
from tests.fakes import FixedDetector, boxes

CLIP = drawn_clip(driving(4))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    detector = FixedDetector(boxes([20.0, 20.0, 60.0, 40.0]), (0.9,))
    monkeypatch.setattr(cli, "open_detector", lambda *_, **__: detector)
    monkeypatch.chdir(tmp_path)
    for name, data in {
        "in/a.mp4": CLIP,
        "in/deep/b.MP4": CLIP,
        "in/bad.mp4": b"no clip",
        "in/note.txt": b"x",
    }.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(data)
    return tmp_path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli.app, [str(each) for each in arguments])


def files(folder: str) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in Path(folder).rglob("*")}


@pytest.mark.slow
def test_a_folder_of_clips_is_blurred_and_resumed(here: Path) -> None:
    first = run("video", "in", "-o", "out", "--recursive")
    assert first.exit_code == 1
    assert "not done: in/bad.mp4: " in first.stderr
    assert "hidden in 2 clips -> out" in first.stderr
    assert "1 skipped: 1 .txt" in first.stderr
    assert files("out") == {"a.mp4", "deep", "deep/b.MP4", MANIFEST_NAME, LOCK_NAME}
    assert len(frames_of(Path("out/a.mp4").read_bytes())) == 4
    lines = [json.loads(line) for line in Path("out", MANIFEST_NAME).read_text().splitlines()]
    done = next(line for line in lines if line.get("output") == "a.mp4")
    assert (done["frames"], done["state"]) == (4, "done")
    assert lines[0]["settings"]["quality"] == "normal"
    written = Path("out/a.mp4").stat().st_mtime_ns
    Path("in/bad.mp4").unlink()
    again = run("video", "in", "-o", "out", "--recursive")
    assert again.exit_code == 0, again.output
    assert "2 clips done before" in again.stderr
    assert Path("out/a.mp4").stat().st_mtime_ns == written


def test_photos_and_clips_of_a_folder_share_an_output_folder(here: Path) -> None:
    Path("in/bad.mp4").unlink()
    assert run("video", "in", "-o", "out").exit_code == 0
    assert run("blur", "in", "-o", "out").exit_code == 2  # no photos there
    assert "1 clip done before" in run("video", "in", "-o", "out").stderr


@pytest.mark.parametrize(
    ("inside", "target"),
    [("a.mp4", "a.mp4"), ("d/A.MOV", "d/A.MOV"), ("a.avi", "a.avi.mp4"), ("a.ts", "a.ts.mp4")],
)
def test_a_container_that_is_not_written_becomes_mp4(inside: str, target: str) -> None:
    assert clip_target(Path(inside)) == Path(target)


def test_a_pipe_is_refused_and_not_waited_for(here: Path) -> None:
    os.mkfifo("pipe.mp4")

    done = run("video", "pipe.mp4", "-o", "out.mp4")

    assert done.exit_code == 1
    assert "expected a file, got a pipe" in " ".join(done.output.split())
    assert not Path("out.mp4").exists()
    assert run("video", "pipe.mp4", "in/a.mp4", "-o", "out").exit_code == 1
    assert files("out") == {"a.mp4", MANIFEST_NAME, LOCK_NAME}


def test_a_report_of_plates_is_for_one_clip(here: Path) -> None:
    assert run("video", "in", "-o", "out", "--report", "r.jsonl").exit_code == 2
    assert not Path("out").exists()
