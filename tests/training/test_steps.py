"""`python -m training` lists every step, in order."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from training.__main__ import STEPS

ROOT = Path(__file__).parents[2]


def test_the_list_names_each_page_that_can_be_run() -> None:
    runnable = {
        page.stem
        for page in (ROOT / "training").glob("*.py")
        if page.stem != "__main__" and 'if __name__ == "__main__":' in page.read_text()
    }
    assert {step for steps in STEPS.values() for step in steps} == runnable


def test_the_list_comes_without_torch_and_in_order() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "training"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    places = [done.stdout.index(f"-m training.{step}") for s in STEPS.values() for step in s]
    assert places == sorted(places)
    assert "torch" not in done.stderr
