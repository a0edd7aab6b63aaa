"""The one rule for how many cores there are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from plateblur import cores as module
from plateblur.cores import cores


@pytest.mark.parametrize(
    ("quota", "bound", "count"),
    [
        ("max 100000", 8, 8),
        ("200000 100000", 8, 2),
        ("150000 100000", 8, 2),
        ("50000 100000", 8, 1),
        ("800000 100000", 3, 3),
        ("0 0", 4, 4),
        (None, 4, 4),
    ],
    ids=[
        "no-quota",
        "two",
        "one-and-a-half",
        "half",
        "more-than-bound",
        "nonsense",
        "no-container",
    ],
)
def test_cores_are_those_that_the_process_may_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str | None, bound: int, count: int
) -> None:
    file = tmp_path / "cpu.max"
    if quota is not None:
        file.write_text(f"{quota}\n")
    monkeypatch.setattr(module, "QUOTA", file)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(bound)), raising=False)
    assert cores() == count
