"""How many cores there are to share out: the one rule for the command, the service and engines."""

from __future__ import annotations

import math
import os
from pathlib import Path

QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of a container: microseconds in each period of so many


def cores() -> int:
    """Return how many cores this process may use, at least 1.

    A process may be bound to some of the machine's cores, and a container to a share of their
    time, which counts rounded up.
    """
    bound = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else ()
    return max(1, min(len(bound) or os.cpu_count() or 1, _quota()))


def limit_opencv(threads: int) -> None:
    """Let OpenCV use so many threads in this process, where photos share out the cores."""
    import cv2  # not at the top: whoever only counts cores needs none of it

    cv2.setNumThreads(threads)


def _quota() -> int:
    try:
        quota, period = QUOTA.read_text().split()
        return math.ceil(int(quota) / int(period))
    except (OSError, ValueError, ZeroDivisionError):  # no container, or "max"
        return 1 << 20
