"""A plugin of pytest that limits the processor time of a mutant's tests; see `mutants`.

mutmut limits wall-clock time, so that on a busy machine it would count tests as too long that are
only waiting for their turn.
"""

from __future__ import annotations

import math
import os
import resource
from pathlib import Path
from time import process_time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

CLEAN = Path("clean-cpu-s.txt")  # processor time of the tests without a change; in mutmut's copy


def pytest_configure(config: pytest.Config) -> None:
    """Limit the processor time of a mutant."""
    del config
    if "__mutmut_" in os.environ.get("MUTANT_UNDER_TEST", ""):  # noqa: TID251 - set by mutmut
        limit_s = cpu_limit_s(float(CLEAN.read_text()))
        end_s = math.ceil(process_time() + limit_s)
        resource.setrlimit(resource.RLIMIT_CPU, (end_s, end_s + 1))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write down how much processor time the tests need without a change."""
    del session
    if "__mutmut_" not in os.environ.get("MUTANT_UNDER_TEST", ""):  # noqa: TID251 - set by mutmut
        before_s = float(CLEAN.read_text()) if CLEAN.exists() else 0.0
        CLEAN.write_text(str(max(before_s, process_time())))


def cpu_limit_s(clean_s: float) -> float:
    """Return the most processor time that a mutant's tests may take, in seconds.

    Args:
        clean_s: what all tests of the row take without a change.
    """
    return 10 + 4 * clean_s
