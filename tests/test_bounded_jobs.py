"""What a worker answers about a job, in this process: results, progress, and each kind of error."""

from __future__ import annotations

import mmap
import pickle
import sys
from multiprocessing.connection import Pipe
from typing import Any

import pytest

from plateblur import bounded
from plateblur.bounded import WorkLimits
from plateblur.errors import PhotoDecodeError, TooCostlyError
from tests.fakes import FixedDetector

DETECTOR = FixedDetector()


class UnpicklableError(Exception):
    """Can't be handed to another process."""

    def __init__(self) -> None:
        super().__init__("of the photo")
        self.held = lambda: None


def answer(job: Any, *arguments: object) -> Any:
    return bounded._result(job, DETECTOR, arguments, None)


def raising(error: BaseException, cause: BaseException | None = None) -> Any:
    def job(_: object) -> None:
        raise error from cause

    return job


def test_a_job_gets_the_detector_and_its_arguments() -> None:
    assert answer(lambda detector, *rest: (detector is DETECTOR, rest), 1, "b") == (True, (1, "b"))


def test_a_job_that_reports_does_so_while_it_runs() -> None:
    def job(_: object, *, progress: Any) -> str:
        progress(0.25)
        progress(0.5)
        return "made"

    ours, its = Pipe()
    assert bounded._result(job, DETECTOR, (), its) == "made"
    assert [pickle.loads(ours.recv_bytes()) for _ in range(2)] == [  # noqa: S301 - ours
        ("progress", 0.25, False),
        ("progress", 0.5, False),
    ]
    assert not ours.poll()


def test_an_error_of_ours_comes_back_as_it_is() -> None:
    error = answer(raising(PhotoDecodeError("expected a photo"), KeyError("of a decoder")))
    assert isinstance(error, PhotoDecodeError)
    assert str(error) == "expected a photo"
    assert (error.__cause__, error.__context__) == (None, None)
    assert not hasattr(error, "__notes__")


def test_a_bug_comes_back_with_where_it_was() -> None:
    error = answer(raising(KeyError("a bug")))
    assert isinstance(error, KeyError)
    (note,) = error.__notes__
    assert "test_bounded_jobs.py" in note
    assert "in job" in note


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (MemoryError(), None),
        (PhotoDecodeError("expected a photo"), MemoryError()),
        (RuntimeError("OpenCV(5.0): OutOfMemoryError"), None),
        (PhotoDecodeError("expected a photo"), RuntimeError("OutOfMemory")),
    ],
    ids=["Python's", "behind another", "OpenCV's", "OpenCV's behind another"],
)
def test_a_lack_of_memory_is_a_photo_that_costs_too_much(
    error: BaseException, cause: BaseException | None
) -> None:
    assert isinstance(answer(raising(error, cause)), TooCostlyError)


def test_an_error_that_cannot_be_handed_over_is_named_and_says_nothing_of_the_photo() -> None:
    error = answer(raising(UnpicklableError()))
    assert type(error) is RuntimeError
    assert error.args == ("UnpicklableError",)


def test_whatever_ends_the_process_is_not_an_answer() -> None:
    with pytest.raises(KeyboardInterrupt):
        answer(raising(KeyboardInterrupt()))


@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
def test_memory_that_is_held_is_counted() -> None:
    before = bounded._data_bytes()
    held = mmap.mmap(
        -1, 64 * 1024**2, mmap.MAP_PRIVATE
    )  # a bytearray may come from what was freed before
    assert bounded._data_bytes() - before >= len(held) - 8 * 1024**2


def test_a_photos_limits_leave_the_clock_three_times_as_long() -> None:
    limits = WorkLimits.of_photo(processor_s=40, memory_mb=2048)
    assert limits == WorkLimits(40, 120, 2 * 1024**3, file_bytes=0)
