"""Work on what strangers send, in processes that can be ended: bounded in time and in memory.

No limit on bytes, pixels or scans tells for sure what a file costs its decoder, and a thread that
is inside of a decoder can't be ended. So a photo or clip goes its whole way in a worker, a process
of its own that loads the detector once and then does one job after another:

- The kernel ends it when a job takes too much of the processors (RLIMIT_CPU), so that a photo is
  judged alike on a machine that is busy; and it refuses memory beyond a limit (RLIMIT_DATA, counted
  from when the worker is loaded).
- The parent ends it when a job takes too much wall-clock time, or when nobody is waiting for it.
- It can't write a file, unless its limits say so, or dump its memory (RLIMIT_FSIZE, RLIMIT_CORE).
- It gets no environment, so none of the service's secrets.
- It ends with its parent, even where that is killed: the kernel signals the end of a pipe.

A worker that ended is replaced at once. Each has a connection of its own, so that the end of one
leaves the others alone. Pools of the kept libraries share one pipe and one lock between all their
workers, import the program that started them once more in each, or can't end a single job; what was
compared is in docs/decisions/0005-bounded-work.md.
"""

from __future__ import annotations

import math
import pickle
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Protocol, TypeVar

from plateblur.errors import PlateblurError, TooCostlyError, WorkEndedError
from plateblur.pipeline import blur_photo
from plateblur.types import BlurOptions, BlurredPhoto, Detector

T = TypeVar("T")

START_S = 60.0  # for a worker to load its detector, on a machine that is busy
CLOCK_TIMES = 3  # times the processor time, because other work may use the processors
LOOK_S = 0.2  # how often somebody's leaving is looked for
SPENT_SHARE = 0.25  # of its memory limit: a worker that holds as much after a job is replaced
BASE_FILES = 64  # that a worker may have open

# Given to Python itself, because the worker is not to run what the parent's program is.
_BEGIN = (
    "import sys; sys.path[:] = sys.argv[2:]; from plateblur.bounded import _work_on; _work_on()"
)


@dataclass(frozen=True, slots=True)
class WorkLimits:
    """What one job may cost.

    Attributes:
        processor_s: of all processors together, whole seconds.
        clock_s: from when a worker has it, in wall-clock time.
        memory_bytes: beyond what the worker holds when it has loaded its detector.
        file_bytes: of each file that it writes; 0 lets it write none.
    """

    processor_s: int
    clock_s: float
    memory_bytes: int
    file_bytes: int = 0

    @classmethod
    def of_photo(cls, *, processor_s: int, memory_mb: int) -> WorkLimits:
        """Return the limits of one photo, which may wait for other work on the processors."""
        return cls(processor_s, CLOCK_TIMES * processor_s, memory_mb * 1024**2)


class Workers(Protocol):
    """Does jobs for whoever calls, each with a detector as its first argument."""

    def do(
        self,
        job: Callable[..., T],
        *arguments: object,
        ended: threading.Event | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> T:
        """Return what `job(detector, *arguments)` returns, or raise what it raises.

        Args:
            job: a function that can be imported by its name.
            arguments: picklable, as what comes back is.
            ended: the job is ended when it is set.
            progress: is called with what the job reports; such a job takes `progress` as a keyword.

        Raises:
            TooCostlyError: over a limit, or the worker broke on it.
            WorkEndedError: `ended` was set, or no work is done any more.
        """
        ...

    def close(self) -> None:
        """End all jobs; no more are done."""
        ...


class BoundedWorkers:
    """A fixed number of workers; safe to call from several threads at once."""

    def __init__(
        self,
        make_detector: Callable[[], Detector],
        *,
        count: int,
        limits: WorkLimits,
        fresh: bool = False,
    ) -> None:
        """Begin without a worker: each is started by its first job, or by `start`.

        Args:
            make_detector: picklable, and quick to refuse: it is called in each worker.
            count: jobs at once; more wait.
            limits: of each job.
            fresh: a worker does one job alone, and its memory is free again after it.
        """
        self._closed = threading.Event()
        self._places: queue.LifoQueue[_Place] = queue.LifoQueue()
        self._all = [_Place(make_detector, limits, fresh, self._closed) for _ in range(count)]
        for place in self._all:
            self._places.put(place)

    def start(self) -> None:
        """Start all workers, without waiting for them to be loaded."""
        for place in self._all:
            place.start()

    def do(
        self,
        job: Callable[..., T],
        *arguments: object,
        ended: threading.Event | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> T:
        """See `Workers.do`."""
        place = self._take(ended or threading.Event())
        try:
            return place.do(job, arguments, ended or threading.Event(), progress)
        finally:
            self._places.put(place)

    def blur(
        self, data: bytes, options: BlurOptions, ended: threading.Event, *, max_pixels: int
    ) -> BlurredPhoto:
        """Return what `blur_photo` returns.

        Raises:
            PlateblurError: as of `blur_photo`, or see `Workers.do`.
        """
        return self.do(_blur, data, options, max_pixels, ended=ended)

    def works(self) -> bool:
        """Return whether a worker can be had; without a wait for one that is at work."""
        try:
            place = self._places.get_nowait()
        except queue.Empty:
            return not self._closed.is_set()
        try:
            place.do(_nothing, (), threading.Event(), None)
        except PlateblurError:
            return False
        finally:
            self._places.put(place)
        return True

    def close(self) -> None:
        """End all workers at once; jobs that are in work raise `WorkEndedError`."""
        if self._closed.is_set():
            return
        self._closed.set()
        for place in self._all:
            place.end()
        for _ in self._all:  # each comes back at once, because its job sees that it has ended
            self._places.get().drop()

    def _take(self, ended: threading.Event) -> _Place:
        while True:
            if self._closed.is_set() or ended.is_set():
                raise WorkEndedError("the work was ended")
            try:
                return self._places.get(timeout=LOOK_S)
            except queue.Empty:
                continue


@dataclass(frozen=True, slots=True, weakref_slot=True)
class _Worker:
    process: subprocess.Popen[bytes]
    connection: Connection

    def is_gone(self, *, idle: bool) -> bool:
        """Return whether it has ended; an idle one has nothing to say but that."""
        return self.process.poll() is not None or (idle and self.connection.poll(0))

    def kill(self) -> None:
        _kill(self.process)
        self.connection.close()


def _kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    if process.stdin:
        process.stdin.close()


class _Place:
    """One place to work, with a worker or without; a job at a time."""

    def __init__(
        self,
        make_detector: Callable[[], Detector],
        limits: WorkLimits,
        fresh: bool,
        closed: threading.Event,
    ) -> None:
        self._make_detector = make_detector
        self._limits = limits
        self._fresh = fresh
        self._closed = closed
        self._lock = threading.Lock()  # over whether there is a worker
        self._worker: _Worker | None = None
        self._is_loaded = False

    def start(self) -> _Worker:
        """Return the worker, which may still be loading."""
        with self._lock:
            if self._closed.is_set():
                raise WorkEndedError("the work was ended")
            if self._worker is None or self._worker.is_gone(idle=self._is_loaded):
                self._forget()
                self._worker = _start_worker(self._make_detector, self._limits)
            return self._worker

    def end(self) -> None:
        """End the worker, if there is one; whoever has a job there sees that it is gone."""
        with self._lock:
            if self._worker is not None:
                self._worker.process.kill()

    def do(
        self,
        job: Callable[..., T],
        arguments: tuple[object, ...],
        ended: threading.Event,
        progress: Callable[[float], None] | None,
    ) -> T:
        task = pickle.dumps((job, arguments, progress is not None), pickle.HIGHEST_PROTOCOL)
        worker = self.start()
        is_good = False
        try:
            if not self._is_loaded:
                self._answer(worker, START_S, ended, progress)
                self._is_loaded = True
            worker.connection.send_bytes(task)
            del task  # up to 40 MB that would wait with the job
            result, is_spent = self._answer(worker, self._limits.clock_s, ended, progress)
            is_good = not is_spent and not self._fresh
        except (EOFError, OSError) as error:
            if self._closed.is_set():
                raise WorkEndedError("the work was ended") from error
            raise self._why(worker) from error
        finally:
            if not is_good:
                self.drop()
                if not self._fresh:
                    with suppress(WorkEndedError, OSError):
                        self.start()  # so that the next job does not wait for the loading
        if isinstance(result, BaseException):
            raise result
        return result  # type: ignore[no-any-return]

    def _why(self, worker: _Worker) -> TooCostlyError:
        """Return what a worker ended of that the parent did not end."""
        with suppress(subprocess.TimeoutExpired):
            worker.process.wait(START_S)
        if worker.process.returncode == -signal.SIGXCPU:
            return TooCostlyError(f"it needs more than {self._limits.processor_s} s of processing")
        return TooCostlyError(
            f"it can't be decoded within {self._limits.memory_bytes / 1e6:.0f} MB of memory, "
            "or breaks its decoder"
        )

    def _answer(
        self,
        worker: _Worker,
        clock_s: float,
        ended: threading.Event,
        progress: Callable[[float], None] | None,
    ) -> tuple[Any, bool]:
        """Return the result or error of a job, and whether its worker holds too much now."""
        ends_s = time.monotonic() + clock_s
        while True:
            left_s = ends_s - time.monotonic()
            if ended.is_set() or self._closed.is_set():
                raise WorkEndedError("the work was ended")
            if left_s <= 0:
                raise TooCostlyError(f"it needs more than {clock_s:.0f} s")
            if worker.connection.poll(min(left_s, LOOK_S)):
                kind, value, is_spent = pickle.loads(worker.connection.recv_bytes())  # noqa: S301
                if kind == "progress" and progress is not None:
                    progress(value)
                elif kind == "done":
                    return value, is_spent

    def drop(self) -> None:
        """End the worker, if there is one, and wait until it is gone."""
        with self._lock:
            self._forget()

    def _forget(self) -> None:
        if self._worker is not None:
            self._worker.kill()
        self._worker, self._is_loaded = None, False


def _start_worker(make_detector: Callable[[], Detector], limits: WorkLimits) -> _Worker:
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-I", "-c", _BEGIN, str(theirs.fileno()), *sys.path],
            stdin=subprocess.PIPE,  # nothing is ever written there; that it ends is the message
            stdout=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(),),
            env={},
            start_new_session=True,  # Ctrl-C is for the parent, which then ends its workers
        )
    connection = Connection(ours.detach())
    worker = _Worker(process, connection)
    weakref.finalize(worker, _kill, process)  # of whoever was not closed
    try:
        connection.send_bytes(pickle.dumps((make_detector, limits)))
    except OSError:
        worker.kill()
        raise
    return worker


# What follows runs in the worker.


# Where lines aren't counted as covered, a worker runs them, which may write no file about it.
# tests/test_bounded.py tests what they do.


def _work_on() -> None:  # pragma: no cover
    """Do jobs until the parent has gone."""
    _end_with_parent()
    connection = Connection(int(sys.argv[1]))
    make_detector, limits = pickle.loads(connection.recv_bytes())  # noqa: S301 - from the parent
    detector = make_detector()
    loaded_bytes = _data_bytes()
    _limit(loaded_bytes + limits.memory_bytes, limits.file_bytes)
    connection.send_bytes(pickle.dumps(("done", None, False)))
    while True:
        try:
            job, arguments, tells = pickle.loads(connection.recv_bytes())  # noqa: S301
        except EOFError:
            return
        _limit_processor(limits.processor_s)
        result = _result(job, detector, arguments, connection if tells else None)
        is_spent = _data_bytes() - loaded_bytes > SPENT_SHARE * limits.memory_bytes
        connection.send_bytes(pickle.dumps(("done", result, is_spent), pickle.HIGHEST_PROTOCOL))
        del job, arguments, result


def _result(
    job: Callable[..., Any],
    detector: Detector,
    arguments: tuple[object, ...],
    connection: Connection | None,
) -> Any:
    """Return what a job returns or raises."""

    def tell(share: float) -> None:
        if connection is not None:
            connection.send_bytes(pickle.dumps(("progress", share, False)))

    keywords = {"progress": tell} if connection is not None else {}
    try:
        return job(detector, *arguments, **keywords)
    except Exception as error:  # noqa: BLE001 - whatever it is, the parent raises it
        if _lacked_memory(error):
            return TooCostlyError("it needs more memory than is given to one photo or clip")
        if not isinstance(error, PlateblurError):
            error.add_note("".join(traceback.format_tb(error.__traceback__)))
        error.__cause__ = error.__context__ = None
        try:
            pickle.loads(pickle.dumps(error))  # noqa: S301
        except Exception:  # noqa: BLE001 - any class may not bear it
            return RuntimeError(type(error).__name__)
        return error


def _lacked_memory(error: BaseException | None) -> bool:
    """Return whether a refused allocation is what an error comes from."""
    while error is not None:
        if isinstance(error, MemoryError) or "OutOfMemory" in str(error):  # as OpenCV says it
            return True
        error = error.__cause__ or error.__context__
    return False


def _end_with_parent() -> None:  # pragma: no cover
    """Have the kernel end this process when the parent's end of its standard input is closed.

    By a signal, because it has to hold while a decoder is at work, and no thread of Python's then
    need run. Only the parent ends a worker otherwise: a signal to a whole group of processes, as
    systemd's, must not break the photos that the parent still waits for.
    """
    import fcntl
    import os
    import select

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    fcntl.fcntl(0, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(0, fcntl.F_SETFL, fcntl.fcntl(0, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([0], [], [], 0)[0]:  # it had gone before
        sys.exit(1)


def _limit(memory_bytes: int, file_bytes: int) -> None:  # pragma: no cover
    """Have the kernel refuse more memory, and larger files."""
    import resource

    for what, most in (
        (resource.RLIMIT_DATA, memory_bytes),
        (resource.RLIMIT_FSIZE, file_bytes),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, BASE_FILES),
    ):
        resource.setrlimit(what, (most, most))


def _limit_processor(seconds: int) -> None:  # pragma: no cover
    """Have the kernel end this process when it has been at work for so much longer."""
    import resource

    used_s = math.ceil(time.process_time())
    resource.setrlimit(resource.RLIMIT_CPU, (used_s + seconds, resource.RLIM_INFINITY))


def _data_bytes() -> int:
    """Return how much of its memory limit this process uses; 0 where the kernel doesn't tell."""
    try:
        with open("/proc/self/status", encoding="ascii") as status:  # noqa: PTH123
            line = next(line for line in status if line.startswith("VmData:"))
    except (OSError, StopIteration):
        return 0
    return int(line.split()[1]) * 1024


def _blur(detector: Detector, data: bytes, options: BlurOptions, max_pixels: int) -> BlurredPhoto:
    return blur_photo(data, detector, options, max_pixels=max_pixels)


def _nothing(_: Detector) -> None:
    pass
