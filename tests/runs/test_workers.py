"""Photos at the same time: in order, bounded, and none of them lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from plateblur import cli
from plateblur.runs.workers import AHEAD, PixelsInHand, done_in_order, room_for
from plateblur.types import Detections, Image
from tests.cases import at_most
from tests.fakes import FixedDetector, boxes, encoded, street


def squares(numbers: list[int], *, workers: int = 3) -> list[tuple[int, int | None]]:
    stopping = threading.Event()
    return list(done_in_order(numbers, lambda n: n * n, workers=workers, stopping=stopping))


@pytest.mark.parametrize("workers", [1, 3, 40])
@pytest.mark.parametrize("count", [0, 1, 2, 500], ids=str)
def test_each_job_is_done_once_and_in_order(count: int, workers: int) -> None:
    assert squares(list(range(count)), workers=workers) == [(n, n * n) for n in range(count)]


def test_no_more_jobs_are_taken_than_may_be_ahead() -> None:
    taken = 0

    def jobs() -> Iterator[int]:
        nonlocal taken
        for n in range(10 * AHEAD):
            taken += 1
            yield n

    stopping = threading.Event()
    results: Any = done_in_order(jobs(), lambda n: n, workers=2, stopping=stopping)
    next(results)
    assert taken <= 2 * AHEAD + 1
    results.close()
    assert stopping.is_set()


def test_a_stop_leaves_what_is_not_begun() -> None:
    stopping = threading.Event()

    def do(n: int) -> int:
        if n == 3:
            stopping.set()
        return n

    results = list(done_in_order(range(50), do, workers=1, stopping=stopping))
    assert results == [(n, n if n <= 3 else None) for n in range(50)]


def test_what_a_job_raises_ends_the_run_once_the_others_in_hand_are_done() -> None:
    begun: list[int] = []
    ended: list[int] = []

    def do(n: int) -> int:
        begun.append(n)
        if n == 0:
            raise KeyError("a bug")
        time.sleep(0.05)
        ended.append(n)
        return n

    with pytest.raises(KeyError):
        list(done_in_order(range(100), do, workers=3, stopping=threading.Event()))
    assert sorted(ended) == sorted(set(begun) - {0})
    assert len(begun) < 100


@given(st.lists(st.integers(0, 150), min_size=1, max_size=30), st.integers(1, 100))
@at_most(25)
def test_pixels_in_hand_stay_below_the_limit_or_belong_to_one_photo(
    photos: list[int], most: int
) -> None:
    room = PixelsInHand(most)
    lock = threading.Lock()
    now: list[int] = []

    def do(pixels: int) -> bool:
        with room.of(pixels):
            with lock:
                now.append(pixels)
                fits = sum(now) <= most or sum(n > 0 for n in now) <= 1
            time.sleep(0.0005)
            with lock:
                now.remove(pixels)
        return fits

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(do, photos))


@pytest.mark.slow
def test_a_large_photo_is_not_passed_for_ever_by_small_ones() -> None:
    room = PixelsInHand(10)
    order: list[str] = []
    with room.of(8):
        large = threading.Thread(target=lambda: _enter(room, 100, order, "large"))
        large.start()
        time.sleep(0.1)  # it waits now
        small = threading.Thread(target=lambda: _enter(room, 1, order, "small"))
        small.start()
        time.sleep(0.1)
        assert order == []
    large.join(5)
    small.join(5)
    assert order == ["large", "small"]


def _enter(room: PixelsInHand, pixels: int, order: list[str], name: str) -> None:
    with room.of(pixels):
        order.append(name)


def test_room_is_given_back_by_a_photo_that_fails() -> None:
    room = PixelsInHand(10)
    with pytest.raises(KeyError), room.of(10):
        raise KeyError
    with room.of(10):
        pass


def test_no_more_photos_are_blurred_at_the_same_time_than_there_are_workers() -> None:
    room, lock = room_for(2), threading.Lock()
    now, most = 0, 0

    def do(_: int) -> None:
        nonlocal now, most
        with room.of(1):
            with lock:
                now += 1
                most = max(most, now)
            time.sleep(0.002)
            with lock:
                now -= 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(do, range(40)))
    assert most == 2


def test_a_photo_is_blurred_while_another_is_brought_to_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one worker; else the cores wait for the disk twice a photo."""
    for number in range(2):
        (tmp_path / f"{number}.png").write_bytes(encoded(street(90, 140, seed=number), "PNG"))
    blurring, others = threading.Event(), threading.Event()

    class Watched(FixedDetector):
        def detect(self, image: Image, **options: Any) -> Detections:
            (others if blurring.is_set() else blurring).set()
            return super().detect(image, **options)

    def slow_disk(handle: int) -> None:
        if blurring.is_set():
            was_blurred.append(others.wait(60))

    was_blurred: list[bool] = []
    monkeypatch.setattr(cli, "open_detector", lambda *_, **__: Watched(boxes([40, 30, 90, 45])))
    monkeypatch.setattr("plateblur.runs.files.os.fsync", slow_disk)
    line = ["blur", str(tmp_path), "-o", str(tmp_path / "out"), "--workers", "1"]
    assert CliRunner().invoke(cli.app, line).exit_code == 0
    assert was_blurred
    assert all(was_blurred)
