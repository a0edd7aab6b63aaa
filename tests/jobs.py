"""Jobs that are hard on a worker, which it imports by their names."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from plateblur.errors import PhotoDecodeError
from plateblur.types import Detector


def make_nothing() -> Detector:
    """Return no detector, for jobs that need none."""
    return None  # type: ignore[return-value]


def refuse() -> Detector:
    """Fail as a model does that can't be loaded."""
    raise RuntimeError("no model")


def add(_: Detector, a: int, b: int) -> int:
    return a + b


def own_process(_: Detector) -> int:
    return os.getpid()


def loop(_: Detector) -> int:
    """Be inside of a C function for minutes, with Python's lock, as a decoder may be."""
    return len(bin(pow(7, 20_000_000)))


def sleep(_: Detector, seconds: float) -> None:
    time.sleep(seconds)


def hold(_: Detector, size_bytes: int) -> int:
    return int(np.ones(size_bytes, np.uint8).sum())


def hold_within(_: Detector, size_bytes: int) -> int:
    """Lack memory as a decoder does, whose errors are turned into those of a photo."""
    try:
        return int(np.ones(size_bytes, np.uint8).sum())
    except MemoryError as error:
        raise PhotoDecodeError("expected a whole photo") from error


def keep(_: Detector, size_bytes: int) -> int:
    """Hold on to memory after the job."""
    KEPT.append(np.ones(size_bytes, np.uint8))
    return os.getpid()


KEPT: list[object] = []


def crash(_: Detector) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def leave(_: Detector) -> None:
    os._exit(0)


def fail(_: Detector) -> None:
    raise PhotoDecodeError("expected a photo, got none")


def stumble(_: Detector) -> None:
    raise KeyError("a bug")


def write(_: Detector, path: str) -> int:
    return Path(path).write_bytes(b"photo")


def environment(_: Detector) -> dict[str, str]:
    told = Path("/proc/self/environ").read_text(encoding="utf-8")
    return dict(line.split("=", 1) for line in told.split("\0") if line)


def count(_: Detector, steps: int, *, progress: Callable[[float], None]) -> int:
    for step in range(steps):
        progress(step / steps)
    return steps
