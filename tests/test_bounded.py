"""Work in processes that can be ended: what is bounded, and that nothing is left."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from plateblur.bounded import BoundedWorkers, WorkLimits
from plateblur.errors import PhotoDecodeError, TooCostlyError, WorkEndedError
from plateblur.pipeline import blur_photo
from plateblur.types import BlurOptions
from tests import jobs
from tests.demo.fakes import DrawnDetector, drawn_photo

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="the kernel's limits are Linux's"),
]

LIMITS = WorkLimits(processor_s=1, clock_s=60, memory_bytes=200_000_000)
SOON_S = 30.0  # on a machine that trains a model meanwhile


@pytest.fixture
def workers() -> Iterator[BoundedWorkers]:
    made = BoundedWorkers(jobs.make_nothing, count=1, limits=LIMITS)
    yield made
    made.close()


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    started = time.monotonic()
    yield
    assert time.monotonic() - started < seconds


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    own = Path(f"/proc/{process}")
    is_ended = "\nState:\tZ" in (own / "status").read_text(encoding="ascii")
    return not is_ended or len(list((own / "task").iterdir())) > 1


def wait_until_gone(process: int) -> None:
    end_s = time.monotonic() + SOON_S
    while is_alive(process):
        assert time.monotonic() < end_s, "the worker lives on"
        time.sleep(0.02)


def test_a_photo_is_blurred_as_it_is_without_workers() -> None:
    workers = BoundedWorkers(DrawnDetector, count=1, limits=WorkLimits(20, 60, 500_000_000))

    done = workers.blur(drawn_photo(), BlurOptions(), threading.Event(), max_pixels=10**6)
    workers.close()

    assert done.data == blur_photo(drawn_photo(), DrawnDetector(), BlurOptions()).data


def test_one_worker_does_one_job_after_the_other(workers: BoundedWorkers) -> None:
    first = workers.do(jobs.own_process)

    assert workers.do(jobs.own_process) == first != os.getpid()
    assert workers.do(jobs.add, 2, 3) == 5
    assert workers.works()


@pytest.mark.parametrize(
    ("job", "arguments", "says"),
    [
        (jobs.loop, (), "it needs more than 1 s of processing"),
        (jobs.hold, (400_000_000,), "more memory than"),
        (jobs.hold_within, (400_000_000,), "more memory than"),
        (jobs.crash, (), "breaks its decoder"),
        (jobs.leave, (), "breaks its decoder"),
    ],
    ids=["in C", "memory", "memory within a decoder", "crash", "leaves"],
)
def test_what_costs_too_much_is_ended_and_the_next_job_done(
    workers: BoundedWorkers, job: object, arguments: tuple[object, ...], says: str
) -> None:
    workers.do(jobs.own_process)

    with within(SOON_S), pytest.raises(TooCostlyError, match=says):
        workers.do(job, *arguments)  # type: ignore[arg-type]

    assert workers.do(jobs.add, 2, 3) == 5


def test_a_job_that_waits_for_ever_is_ended_by_the_clock() -> None:
    workers = BoundedWorkers(jobs.make_nothing, count=1, limits=WorkLimits(60, 1, 10**9))

    with within(SOON_S), pytest.raises(TooCostlyError, match="it needs more than 1 s"):
        workers.do(jobs.sleep, 600)

    workers.close()


def test_a_job_within_its_limits_is_not_ended(workers: BoundedWorkers) -> None:
    assert workers.do(jobs.hold, 100_000_000) == 100_000_000


def test_a_worker_that_is_killed_while_it_waits_is_replaced(workers: BoundedWorkers) -> None:
    idle = workers.do(jobs.own_process)
    os.kill(idle, signal.SIGKILL)
    wait_until_gone(idle)

    assert workers.do(jobs.own_process) != idle


def test_a_worker_that_holds_on_to_memory_is_replaced(workers: BoundedWorkers) -> None:
    held = workers.do(jobs.keep, 60_000_000)

    assert workers.do(jobs.own_process) != held
    wait_until_gone(held)


def test_a_fresh_worker_does_one_job_alone() -> None:
    workers = BoundedWorkers(jobs.make_nothing, count=1, limits=LIMITS, fresh=True)

    assert workers.do(jobs.own_process) != workers.do(jobs.own_process)
    workers.close()


def test_errors_of_a_job_are_raised_and_its_worker_goes_on(workers: BoundedWorkers) -> None:
    first = workers.do(jobs.own_process)

    with pytest.raises(PhotoDecodeError, match="expected a photo, got none"):
        workers.do(jobs.fail)
    with pytest.raises(KeyError, match="a bug") as bug:
        workers.do(jobs.stumble)

    assert "jobs.py" in bug.value.__notes__[0]
    assert workers.do(jobs.own_process) == first


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_a_job_ends_with_whoever_waited_for_it(when: str) -> None:
    workers = BoundedWorkers(jobs.make_nothing, count=1, limits=WorkLimits(60, 60, 10**9))
    process = workers.do(jobs.own_process)
    ended = threading.Event()
    timer = threading.Timer(0 if when == "before" else 0.3, ended.set)
    timer.start()
    if when == "before":
        timer.join()

    with within(SOON_S), pytest.raises(WorkEndedError):
        workers.do(jobs.loop, ended=ended)

    if when == "meanwhile":
        wait_until_gone(process)
    assert workers.do(jobs.add, 2, 3) == 5
    workers.close()


def test_the_bad_job_of_one_worker_leaves_the_others_alone() -> None:
    workers = BoundedWorkers(jobs.make_nothing, count=2, limits=WorkLimits(3, 60, 10**9))
    workers.start()
    with ThreadPoolExecutor(4) as threads:
        bad = threads.submit(workers.do, jobs.loop)
        slowest_s = 0.0
        workers.do(jobs.add, 2, 3)
        while not bad.done():
            started = time.monotonic()
            assert workers.do(jobs.add, 2, 3) == 5
            slowest_s = max(slowest_s, time.monotonic() - started)
        with pytest.raises(TooCostlyError):
            bad.result()
    workers.close()

    assert slowest_s < 1.0


def test_jobs_that_wait_for_a_place_end_when_nobody_waits_for_them() -> None:
    workers = BoundedWorkers(jobs.make_nothing, count=1, limits=WorkLimits(60, 60, 10**9))
    gone = threading.Event()
    with ThreadPoolExecutor(2) as threads:
        busy = threads.submit(workers.do, jobs.sleep, 60)
        time.sleep(0.2)
        waiting = threads.submit(workers.do, jobs.add, 2, 3, ended=gone)
        assert workers.works()
        gone.set()
        with pytest.raises(WorkEndedError):
            waiting.result(SOON_S)
        workers.close()
        with pytest.raises(WorkEndedError):
            busy.result(SOON_S)
    with pytest.raises(WorkEndedError):
        workers.do(jobs.add, 2, 3)
    assert not workers.works()


def test_progress_is_told_in_order(workers: BoundedWorkers) -> None:
    told: list[float] = []

    assert workers.do(jobs.count, 4, progress=told.append) == 4
    assert told == [0, 0.25, 0.5, 0.75]


def test_a_detector_that_cannot_be_made_is_told_and_not_waited_for() -> None:
    workers = BoundedWorkers(jobs.refuse, count=1, limits=LIMITS)

    with within(SOON_S), pytest.raises(TooCostlyError):
        workers.do(jobs.add, 2, 3)
    assert not workers.works()
    workers.close()


def test_a_worker_writes_no_file_and_knows_no_secret(
    workers: BoundedWorkers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLATEBLUR_SECRET_KEY", "hidden")
    path = tmp_path / "photo"

    with pytest.raises(OSError, match="too large"):
        workers.do(jobs.write, str(path))

    assert not path.exists() or path.stat().st_size == 0
    assert "PLATEBLUR_SECRET_KEY" not in workers.do(jobs.environment)


PARENT = """
import threading
from plateblur.bounded import BoundedWorkers, WorkLimits
from tests import jobs
workers = BoundedWorkers(jobs.make_nothing, count=2, limits=WorkLimits(600, 600, 10**9))
print(workers.do(jobs.own_process), flush=True)
threading.Thread(target=workers.do, args=(jobs.{job}, *{arguments})).start()
"""


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("job", ["loop", "sleep"])
def test_no_worker_outlives_its_parent(ending: signal.Signals, job: str) -> None:
    program = PARENT.format(job=job, arguments=(600,) if job == "sleep" else ())
    environment = {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, env=environment, text=True
    ) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        time.sleep(0.5)
        assert is_alive(worker)
        os.kill(worker, signal.SIGTERM)  # as systemd does to all of a service
        os.kill(worker, signal.SIGINT)
        time.sleep(0.1)
        assert is_alive(worker)
        parent.send_signal(ending)
        parent.wait(SOON_S)
    wait_until_gone(worker)
