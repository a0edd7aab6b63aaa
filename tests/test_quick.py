"""`make quick` stays quick: no worker imports what takes seconds and no quick test needs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import SLOW_FILE

ROOT = Path(__file__).parents[1]
# What each of them took to import on two cores: 0.7 to 5 s, in every worker.
HEAVY = {
    *("albumentations", "fiftyone", "gradio", "nbclient", "playwright", "schemathesis", "torch"),
    *("ray", "rfc3987_syntax", "ultralytics"),
}
COLLECT = """
import json, sys
import pytest
code = pytest.main(["--collect-only", "-qq", "-m", "not slow", "-p", "no:cacheprovider"])
print(json.dumps([int(code), sorted({name.split(".")[0] for name in sys.modules})]))
"""


@pytest.mark.slow
def test_collecting_the_quick_tests_imports_nothing_that_takes_seconds() -> None:
    done = subprocess.run(
        [sys.executable, "-c", COLLECT], capture_output=True, text=True, cwd=ROOT, check=True
    )
    code, modules = json.loads(done.stdout.splitlines()[-1])
    assert code == 0
    assert not HEAVY & set(modules)


@pytest.mark.parametrize(
    ("text", "slow"),
    [
        ("pytestmark = pytest.mark.slow\n", True),
        ("pytestmark = pytest.mark.slow  # why\n", True),
        ('pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]\n', True),
        ("pytestmark = [\n    pytest.mark.anyio,\n    pytest.mark.slow,\n]\n", True),
        ("pytestmark = pytest.mark.anyio\n", False),
        (
            "pytestmark = [pytest.mark.anyio]\n\n\n@pytest.mark.slow\ndef test() -> None: ...\n",
            False,
        ),
        ("@pytest.mark.slow\ndef test() -> None: ...\n", False),
    ],
)
def test_a_file_is_slow_throughout_where_it_says_so_itself(text: str, slow: bool) -> None:
    assert bool(SLOW_FILE.search(text)) is slow
