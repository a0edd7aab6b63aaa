"""The log of reviews: what a kill, a second program and a second reviewer can do to it."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from plateblur.errors import RunError
from plateblur.runs.review_log import (
    ConflictError,
    Plate,
    Review,
    ReviewLog,
    Sample,
    is_written,
    review_place,
    to_hide,
)

BOX = (40.0, 30.0, 90.0, 45.0)
OTHER = (10.0, 10.0, 30.0, 20.0)
FOUND = Plate(BOX, confidence=0.9, found=BOX)
ADDED = Plate(OTHER)


def state(*plates: Plate, by: str = "Ana", output: str = "a.png") -> Review:
    return Review(output, "00", plates, by=by)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "plateblur-review.jsonl"


def test_what_is_saved_is_read_again_with_its_history(place: Path) -> None:
    log = ReviewLog(place)
    assert not place.exists()
    first = log.save(state(FOUND), base=0)
    second = log.save(replace(state(FOUND, ADDED), looked_at=True), base=first.revision)
    log.draw(Sample(("a.png",), 10, 7, 0.01, 0.95))
    again = ReviewLog(place)
    assert again.reviews == {"a.png": second}
    assert (again.changes, again.sample) == (["a.png", "a.png"], log.sample)
    assert second.revision == 2
    assert second.at.endswith("Z")
    assert second.is_corrected
    assert not first.is_corrected


def test_two_who_change_the_boxes_of_a_photo_are_both_kept(place: Path) -> None:
    ana, ben = ReviewLog(place), ReviewLog(place)  # as two programs have it open
    ana.save(state(FOUND, ADDED), base=0)
    with pytest.raises(ConflictError) as refused:
        ben.save(state(replace(FOUND, hide=False), by="Ben"), base=0)
    assert refused.value.current.by == "Ana"
    assert refused.value.current.plates == (FOUND, ADDED)
    both = ben.save(state(FOUND, ADDED, by="Ben"), base=refused.value.current.revision)
    assert both.revision == 2


def test_looking_at_a_photo_is_no_conflict_with_the_same_boxes(place: Path) -> None:
    log = ReviewLog(place)
    log.save(state(FOUND), base=0)
    assert log.save(replace(state(FOUND, by="Ben"), looked_at=True), base=0).revision == 2


def test_half_a_line_of_a_killed_program_is_dropped_and_nothing_else(place: Path) -> None:
    ReviewLog(place).save(state(FOUND), base=0)
    whole = place.read_bytes()
    place.write_bytes(whole + b'{"output": "b.png", "revi')
    log = ReviewLog(place)
    assert set(log.reviews) == {"a.png"}
    log.save(state(ADDED, output="c.png"), base=0)
    assert place.read_bytes().startswith(whole)
    assert b"revi\n" not in place.read_bytes()
    assert set(ReviewLog(place).reviews) == {"a.png", "c.png"}
    assert [json.loads(line) for line in place.read_text().splitlines()]


def test_a_line_that_cannot_be_read_is_counted(place: Path) -> None:
    ReviewLog(place).save(state(FOUND), base=0)
    place.write_text(place.read_text() + '{"output": "b.png"}\n')
    assert ReviewLog(place).damaged == 1


@pytest.mark.parametrize("text", ['{"manifest": 1}\n', '{"review": 99}\n', "hello\n"])
def test_another_file_is_not_written_to(place: Path, text: str) -> None:
    place.write_text(text)
    with pytest.raises(RunError):
        ReviewLog(place)
    assert place.read_text() == text


def test_many_at_once_lose_nothing(place: Path) -> None:
    logs = [ReviewLog(place) for _ in range(4)]

    def write(number: int) -> None:
        for each in range(20):
            logs[number].save(state(FOUND, output=f"{number}-{each}.png"), base=0)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ReviewLog(place).reviews) == 80


def test_hidden_boxes_come_with_the_surest_first_and_outlines_where_there_are_some() -> None:
    corners = ((1.0, 1.0), (9.0, 2.0), (9.0, 6.0), (1.0, 5.0))
    outlined = Plate((1.0, 1.0, 9.0, 6.0), confidence=0.95, found=BOX, corners=corners)
    hidden = to_hide([FOUND, replace(FOUND, hide=False), outlined, ADDED])
    assert hidden.xyxy.tolist() == [list(OTHER), [1, 1, 9, 6], list(BOX)]
    assert np.allclose(hidden.confidence, [1.0, 0.95, 0.9])
    assert hidden.corners is not None
    assert hidden.corners[1].tolist() == [list(corner) for corner in corners]
    assert to_hide([FOUND]).corners is None
    assert len(to_hide([])) == 0


def test_an_output_is_written_if_it_hides_these_boxes_and_no_others() -> None:
    line = {"detections": [{"xyxy": list(BOX), "confidence": 0.9}]}
    assert is_written(state(FOUND, replace(ADDED, hide=False)), line)
    assert not is_written(state(FOUND, ADDED), line)
    assert not is_written(state(), line)


def test_the_log_is_beside_its_manifest(tmp_path: Path) -> None:
    assert review_place(tmp_path / "plateblur-manifest.jsonl").name == "plateblur-review.jsonl"
    assert review_place(tmp_path / "2026.jsonl").name == "2026-review.jsonl"
