"""Corrected clips of a run: written again from the originals, with the plates that are given."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from plateblur import cli
from plateblur.runs.audit import audit_of, drawn
from plateblur.runs.given import reviewed_run
from plateblur.runs.manifest import MANIFEST_NAME
from plateblur.runs.review_log import MovingPlate, Review, is_written, moving_of, plates_of
from tests.clips import RATE, drawn_clip, driving, frames_of
from tests.fakes import FixedDetector, boxes, encoded, street

FRAME_US = 1_000_000 // RATE
FOUND = [20.0, 20.0, 60.0, 40.0]
ADDED = MovingPlate(((2 * FRAME_US, 100, 80, 140, 100), (4 * FRAME_US, 100, 80, 140, 100)))
CLIP = drawn_clip(driving(7))
Change = Callable[[tuple[MovingPlate, ...]], tuple[MovingPlate, ...]]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    detector = FixedDetector(boxes(FOUND), (0.9,))
    monkeypatch.setattr(cli, "open_detector", lambda *_, **__: detector)
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    for name in ("a.mp4", "b.mp4"):
        Path("in", name).write_bytes(CLIP)
    assert run("video", "in", "-o", "out", "--method", "solid", "--margin", "0").exit_code == 0
    return tmp_path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli.app, [str(each) for each in arguments])


def review(output: str, change: Change = lambda plates: plates) -> None:
    """Save what a person says of a clip: the run's plates, changed."""
    reviewed = reviewed_run(Path("out"))
    (line,) = [line for name, _, line in reviewed.clips() if name == output]
    before = reviewed.log.reviews.get(output)
    moving = change(moving_of(line) if before is None else before.moving)
    state = Review(output, line["input"]["sha256"], (), looked_at=True, by="Ana", moving=moving)
    reviewed.log.save(state, base=0 if before is None else before.revision)


def line_of(output: str) -> dict[str, object]:
    lines = [json.loads(line) for line in Path("out", MANIFEST_NAME).read_text().splitlines()]
    found: dict[str, object] = [line for line in lines if line.get("output") == output][-1]
    return found


def flat_frames(output: str, box: tuple[float, ...] | list[float]) -> list[int]:
    """Return the frames of an output in which a box is hidden."""
    left, top, right, bottom = (int(side) for side in box)
    inside = np.s_[top + 3 : bottom - 3, left + 3 : right - 3]
    frames = frames_of(Path("out", output).read_bytes())
    return [number for number, (_, image) in enumerate(frames) if image[inside].std() < 3]


def with_added(plates: tuple[MovingPlate, ...]) -> tuple[MovingPlate, ...]:
    return (*plates, ADDED)


def test_only_corrected_clips_are_written_again(here: Path) -> None:
    untouched = Path("out/b.mp4").read_bytes()
    assert flat_frames("a.mp4", FOUND) == list(range(7))
    review("a.mp4", lambda plates: (*(replace(plate, hide=False) for plate in plates), ADDED))
    review("b.mp4")
    result = run("apply", "out")
    assert result.exit_code == 0, result.output
    assert "1 plate hidden in 1 clip -> out" in result.stderr
    assert flat_frames("a.mp4", ADDED.keys[0][1:]) == [2, 3, 4]
    assert flat_frames("a.mp4", FOUND) == []
    assert Path("out/b.mp4").read_bytes() == untouched
    line = line_of("a.mp4")
    assert (line["plates"], bool(line["replaces"])) == (1, True)
    assert "nothing to write" in run("apply", "out").stderr
    assert [path.name for path in Path("out").glob(".*.work")] == []
    resumed = run("video", "in", "-o", "out", "--method", "solid", "--margin", "0")
    assert "2 clips done before" in resumed.stderr


def test_what_the_run_found_stays_hidden_beside_what_was_added(here: Path) -> None:
    review("a.mp4", with_added)
    assert run("apply", "out").exit_code == 0
    assert flat_frames("a.mp4", FOUND) == list(range(7))


def test_a_clip_that_was_changed_after_its_review_is_not_written(here: Path) -> None:
    review("a.mp4", with_added)
    review("b.mp4", with_added)
    before = Path("out/a.mp4").read_bytes()
    Path("in/a.mp4").write_bytes(drawn_clip(driving(5)))
    result = run("apply", "out")
    assert result.exit_code == 1
    assert "changed after it was reviewed" in " ".join(result.stderr.split())
    assert Path("out/a.mp4").read_bytes() == before
    assert flat_frames("b.mp4", ADDED.keys[0][1:]) == [2, 3, 4]  # and the other is


def test_an_output_is_replaced_only_by_a_whole_one(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    review("a.mp4", with_added)
    before = Path("out/a.mp4").read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr("plateblur.video.pipeline.put_together", full)
        result = run("apply", "out")
    assert result.exit_code == 1
    assert Path("out/a.mp4").read_bytes() == before
    assert list(Path("out").glob("*.part")) == []
    assert run("apply", "out").exit_code == 0
    assert flat_frames("a.mp4", ADDED.keys[0][1:]) == [2, 3, 4]


def test_blurring_again_keeps_the_plates_that_a_person_corrected(here: Path) -> None:
    review("a.mp4", with_added)
    result = run("video", "in", "-o", "out", "--method", "solid", "--margin", "0", "--redo")
    assert result.exit_code == 0, result.output
    assert "1 clip with corrected boxes" in result.stderr
    assert flat_frames("a.mp4", ADDED.keys[0][1:]) == [2, 3, 4]
    assert flat_frames("a.mp4", FOUND) == list(range(7))
    (line,) = [line for name, _, line in reviewed_run(Path("out")).clips() if name == "a.mp4"]
    assert is_written(reviewed_run(Path("out")).log.reviews["a.mp4"], line)


def test_photos_and_clips_are_both_written_where_one_of_them_fails(here: Path) -> None:
    Path("in/p.png").write_bytes(encoded(street(90, 140), "PNG"))
    assert run("blur", "in", "-o", "out").exit_code == 0
    assert "2 clips of the run passed over" in run("apply", "out", "-o", "other").stderr
    reviewed = reviewed_run(Path("out"))
    ((name, _, photo),) = list(reviewed.lines())
    gone = tuple(replace(plate, hide=False) for plate in plates_of(photo))
    reviewed.log.save(Review(name, photo["input"]["sha256"], gone, by="Ana"), base=0)
    Path("in/p.png").unlink()
    review("a.mp4", with_added)
    result = run("apply", "out")
    assert result.exit_code == 1
    assert "not done: " in result.stderr
    assert flat_frames("a.mp4", ADDED.keys[0][1:]) == [2, 3, 4]


def test_an_audit_is_of_photos_and_says_what_is_known_of_clips(here: Path) -> None:
    for number in range(3):
        data = encoded(street(90, 140, seed=number), "PNG")
        Path(f"in/{number}.png").write_bytes(data)
    Path("in/bad.mp4").write_bytes(b"no clip")
    assert run("blur", "in", "-o", "out").exit_code == 0
    assert run("video", "in", "-o", "out", "--method", "solid", "--margin", "0").exit_code == 1
    review("a.mp4", with_added)
    reviewed = reviewed_run(Path("out"))
    sample = drawn(reviewed, size=None, share=0.5, confidence=0.95, seed=1)
    assert sample.population == 3
    reviewed.log.draw(sample)
    clips = audit_of(reviewed).clips
    assert (clips.done, clips.failed, clips.reviewed) == (2, 1, 1)
    assert (clips.corrected, clips.unwritten) == (1, 1)
    assert audit_of(reviewed).failed == 0
    report = pytest.importorskip("plateblur.review.report", reason="needs the extra workspace")
    text = repr(report.sections_of(audit_of(reviewed), now=report.datetime(2026, 11, 27)))
    assert "2, not part of the claim" in text
    assert "the claim says nothing about clips" in text


def test_a_set_for_training_says_that_clips_are_left_out(here: Path) -> None:
    for number in range(6):
        Path(f"in/{number}.png").write_bytes(encoded(street(90, 140, seed=number), "PNG"))
    assert run("blur", "in", "-o", "out").exit_code == 0
    reviewed = reviewed_run(Path("out"))
    for name, _, line in reviewed.lines():
        sha256 = line["input"]["sha256"]
        reviewed.log.save(Review(name, sha256, (), looked_at=True, by="Ana"), base=0)
    result = run("collect", "out", "-o", "set", "--by", "photo")
    assert result.exit_code == 0, result.output
    assert "left out: 2, because they are clips" in " ".join(result.stderr.split())


def test_a_moving_plate_is_logged_without_its_key_frames_twice(here: Path) -> None:
    review("a.mp4", with_added)
    log = reviewed_run(Path("out")).log
    told = json.loads(log.path.read_text().splitlines()[-1])["tracks"]
    assert [one.get("found") for one in told] == [True, None]
    moved = replace(log.reviews["a.mp4"].moving[0], keys=ADDED.keys)
    review("a.mp4", lambda plates: (moved, *plates[1:]))
    again = reviewed_run(Path("out")).log.reviews["a.mp4"]
    assert again.moving == (moved, ADDED)
    assert again.moving[0].is_corrected


def test_the_original_is_never_changed(here: Path) -> None:
    review("a.mp4", with_added)
    assert run("apply", "out").exit_code == 0
    assert Path("in/a.mp4").read_bytes() == CLIP
    assert len(frames_of(io.BytesIO(CLIP).getvalue())) == 7
