from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from plateblur.demo.photos import NO_PLATES
from plateblur.demo.visits import DroppedPhoto, Visit, Visits


@dataclass
class Clock:
    now_s: float = 1_000_000.0

    def __call__(self) -> float:
        return self.now_s


def visit_of(size_bytes: int) -> Visit:
    return Visit((DroppedPhoto("car.jpg", bytes(size_bytes), NO_PLATES, NO_PLATES),))


def kept_file(visits: Visits, clock: Clock, session: str = "one") -> Path:
    path = visits.new_path(session, "photo", "car-blurred.jpg")
    path.write_bytes(b"blurred")
    os.utime(path, (clock.now_s, clock.now_s))
    return path


@pytest.mark.parametrize(
    ("closed", "later_s", "remains"),
    [
        (False, 99, True),
        (False, 100, False),
        (True, 9, True),
        (True, 10, False),
    ],
    ids=["in use", "not used for long", "just closed", "closed for a while"],
)
def test_a_visit_and_its_files_are_forgotten_in_time(
    tmp_path: Path, closed: bool, later_s: float, remains: bool
) -> None:
    clock = Clock()
    visits = Visits(tmp_path, keep_s=100, grace_s=10, clock=clock)
    visits.put("one", visit_of(10))
    path = kept_file(visits, clock)
    if closed:
        visits.leave("one")

    clock.now_s += later_s
    visits.sweep()

    assert path.exists() is remains
    assert bool(visits.get("one").photos) is remains


def test_a_page_that_comes_back_keeps_its_visit(tmp_path: Path) -> None:
    clock = Clock()
    visits = Visits(tmp_path, keep_s=100, grace_s=10, clock=clock)
    visits.put("one", visit_of(10))
    visits.leave("one")
    visits.get("one")

    clock.now_s += 50
    visits.sweep()

    assert visits.get("one").photos


@pytest.mark.parametrize(
    ("age_s", "remains"), [(99, True), (101, False)], ids=["arriving", "abandoned"]
)
def test_an_upload_that_nobody_took_is_removed(tmp_path: Path, age_s: float, remains: bool) -> None:
    clock = Clock()
    upload = tmp_path / "a hash" / "car.jpg"
    upload.parent.mkdir()
    upload.write_bytes(b"a plate that can be read")
    for path in (upload, upload.parent):
        os.utime(path, (clock.now_s - age_s, clock.now_s - age_s))

    Visits(tmp_path, keep_s=100, clock=clock).sweep()

    assert upload.exists() is remains


def test_a_new_download_replaces_the_last_of_its_kind_under_another_address(tmp_path: Path) -> None:
    visits = Visits(tmp_path)
    first = visits.new_path("one", "photo", "car.jpg")
    first.write_bytes(b"1")
    zipped = visits.new_path("one", "zip", "all.zip")
    zipped.write_bytes(b"2")

    second = visits.new_path("one", "photo", "car.jpg")

    assert second != first
    assert not first.exists()
    assert zipped.exists()


@pytest.mark.parametrize("session", ["../../etc", "", "a/b"], ids=["up", "none", "a path"])
def test_no_name_of_a_session_leads_out_of_the_folder(tmp_path: Path, session: str) -> None:
    path = Visits(tmp_path).new_path(session, "photo", "car.jpg")

    assert path.resolve().is_relative_to(tmp_path.resolve() / "visits")


def test_the_least_recently_used_visit_goes_where_memory_would_run_out(tmp_path: Path) -> None:
    visits = Visits(tmp_path, max_held_bytes=25)
    visits.put("one", visit_of(10))
    visits.put("two", visit_of(10))
    visits.get("one")

    visits.put("three", visit_of(10))

    assert [bool(visits.get(name).photos) for name in ("one", "two", "three")] == [
        True,
        False,
        True,
    ]


def test_a_visit_larger_than_all_memory_is_still_held_alone(tmp_path: Path) -> None:
    visits = Visits(tmp_path, max_held_bytes=5)

    visits.put("one", visit_of(10))

    assert visits.get("one").photos
