"""The environment of processes that tests start with nothing of this one's, but counted."""

from __future__ import annotations

import os


def counted() -> dict[str, str]:
    """Return what has a process's lines counted as covered, if this one's are; else nothing."""
    name = "COVERAGE_PROCESS_CONFIG"  # Source: coverage.py 7.10, `[run] patch = subprocess`
    value = os.environ.get(name)  # noqa: TID251 - it is no setting of ours
    return {name: value} if value else {}
