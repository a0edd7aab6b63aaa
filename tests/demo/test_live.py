"""The live view: a frame comes back blurred or not at all, and nobody gets more than their turn."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from plateblur.demo.live import (
    AT_ONCE_OF_ADDRESS,
    FRAME_PIXELS,
    REMEMBERED_S,
    VISITORS,
    BusyError,
    LiveView,
)
from plateblur.errors import DetectionError, PhotoError
from plateblur.types import Detections, Detector, Image
from tests.clips import driving
from tests.fakes import BrokenDetector, DarkDetector, SameProcess, boxes, encoded, opened

DARKEST = 35


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        self.now_s += 0.1
        return self.now_s


def view(detector: Detector | None = None, **more: Any) -> LiveView:
    return LiveView(SameProcess(detector or DarkDetector()), clock=Clock(), **more)


def frame(number: int = 0) -> bytes:
    return encoded(driving(number + 1)[number], "JPEG", quality=95)


def readable(photo: bytes) -> bool:
    return bool((np.asarray(opened(photo)).max(axis=2) < DARKEST).any())


def test_a_frame_comes_back_with_its_plate_hidden() -> None:
    assert readable(frame())

    blurred, plates = view().blur("anna", "10.0.0.1", frame(), "solid")

    assert plates == 1
    assert not readable(blurred)
    assert blurred.startswith(b"\xff\xd8\xff")


class Misses(DarkDetector):
    """Misses the plate from the third frame on."""

    calls = 0

    def detect(self, image: Image, *, min_confidence: float, **how: Any) -> Detections:
        Misses.calls += 1
        if Misses.calls > 2:
            return Detections(boxes(), np.zeros(0, np.float32))
        return super().detect(image, min_confidence=min_confidence)


def test_a_plate_that_was_missed_stays_hidden_for_a_moment_and_for_its_visitor_alone() -> None:
    Misses.calls = 0
    live = view(Misses())
    for number in range(2):
        live.blur("anna", "10.0.0.1", frame(number), "solid")

    blurred, plates = live.blur("anna", "10.0.0.1", frame(2), "solid")
    other, none = live.blur("ben", "10.0.0.2", frame(2), "solid")
    for _ in range(round(REMEMBERED_S / 0.1)):
        late, gone = live.blur("anna", "10.0.0.1", frame(2), "solid")

    assert (plates, readable(blurred)) == (1, False)
    assert (none, readable(other)) == (0, True)
    assert (gone, readable(late)) == (0, True)


@pytest.mark.parametrize(
    "data",
    [b"", b"hello", encoded(driving(1)[0], "PNG"), frame()[:300]],
    ids=["nothing", "no photo", "no JPEG", "cut"],
)
def test_what_is_no_whole_jpeg_is_refused(data: bytes) -> None:
    with pytest.raises(PhotoError):
        view().blur("anna", "10.0.0.1", data, "veil")


def test_a_frame_with_too_many_pixels_is_refused() -> None:
    side = int(FRAME_PIXELS**0.5) + 1
    large = encoded(np.zeros((side, side, 3), np.uint8), "JPEG", quality=20)

    with pytest.raises(PhotoError):
        view().blur("anna", "10.0.0.1", large, "veil")


def test_a_failed_search_gives_no_frame_and_the_turn_back() -> None:
    live = view(BrokenDetector())

    for _ in range(2):
        with pytest.raises(DetectionError):
            live.blur("anna", "10.0.0.1", frame(), "veil")


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(ValueError, match="method"):
        view().blur("anna", "10.0.0.1", frame(), "none")


class Waits(DarkDetector):
    may_go_on = threading.Event()

    def detect(self, image: Image, *, min_confidence: float, **how: Any) -> Detections:
        assert Waits.may_go_on.wait(60)
        return super().detect(image, min_confidence=min_confidence)


@pytest.mark.parametrize(
    ("in_work", "asks"),
    [
        ([("anna", "a")], ("anna", "a")),
        ([(f"visitor {n}", "a") for n in range(AT_ONCE_OF_ADDRESS)], ("anna", "a")),
        ([("one", "a"), ("two", "b"), ("three", "c")], ("anna", "d")),
    ],
    ids=["a visitor's own", "of an address", "of all"],
)
def test_a_frame_waits_for_its_turn(in_work: list[tuple[str, str]], asks: tuple[str, str]) -> None:
    Waits.may_go_on.clear()
    live = view(Waits(), at_once=3)
    done: list[bytes] = []

    def blur(visitor: str, address: str) -> None:
        done.append(live.blur(visitor, address, frame(), "veil")[0])

    threads = [threading.Thread(target=blur, args=who) for who in in_work]
    for thread in threads:
        thread.start()
    while len(live._in_work) < len(in_work):
        pass

    with pytest.raises(BusyError):
        live.blur(*asks, frame(), "veil")
    Waits.may_go_on.set()
    for thread in threads:
        thread.join()

    assert len(done) == len(in_work)
    assert live.blur(*asks, frame(), "veil")[1] == 1


@pytest.mark.slow
def test_only_so_many_visitors_are_remembered() -> None:
    live = view()

    for number in range(VISITORS + 5):
        live.blur(f"visitor {number}", "10.0.0.1", frame(), "solid")

    assert len(live._seen) == VISITORS
