"""Nothing calls home: neither running nor training nor reviewing reaches another machine."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import pytest

from plateblur import drawn
from tests.ports import free_port

ROOT = Path(__file__).parents[1]
GUARD = Path(__file__).parent / "outbound"
SWITCHES = {
    "YOLO_OFFLINE",
    "NO_ALBUMENTATIONS_UPDATE",
    "FIFTYONE_DO_NOT_TRACK",
    "GRADIO_ANALYTICS_ENABLED",
}
# ultralytics and others hold back when they see a test or CI; a user's machine has neither.
SIGNS_OF_A_TEST = {"PYTEST_CURRENT_TEST", "PYTEST_VERSION", "CI", "GITHUB_ACTIONS"}

pytestmark = pytest.mark.slow


def attempts(
    folder: Path, code: str, *words: str | Path, more: Mapping[str, str] | None = None
) -> list[str]:
    """Return what a program tried to reach, run as a user would: outside of any test.

    Args:
        folder: for its files and ultralytics' settings, which say to report.
        code: Python.
        words: its arguments.
        more: variables of its environment.
    """
    log = folder / "attempts.txt"
    environment = {
        name: value
        for name, value in os.environ.items()  # noqa: TID251 - for a child process
        if name not in SWITCHES | SIGNS_OF_A_TEST and not name.startswith("COV_")
    }
    environment |= {
        "OUTBOUND_LOG": str(log),
        "PYTHONPATH": os.pathsep.join([str(GUARD), str(ROOT)]),
        "YOLO_CONFIG_DIR": str(folder),
        **(more or {}),
    }
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return log.read_text().splitlines() if log.exists() else []


def test_the_guard_sees_an_attempt_of_a_process_and_of_its_children(tmp_path: Path) -> None:
    look = "import socket\ntry: socket.getaddrinfo('example.org', 80)\nexcept OSError: pass\n"
    child = (
        f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {look!r}], check=True)\n"
    )
    assert attempts(tmp_path, look + child) == ["socket.getaddrinfo example.org"] * 2


def test_blurring_reaches_nobody(tmp_path: Path) -> None:
    photo = drawn.encode(drawn.draw_scene(1, image_hw=(270, 480), plates=1).image)
    (tmp_path / "photo.jpg").write_bytes(photo)
    blur = "from plateblur.cli import app; app()"
    asked: list[str | Path] = ["blur", tmp_path / "photo.jpg", "-o", tmp_path / "blurred.jpg"]
    assert attempts(tmp_path, blur, *asked) == []
    assert (tmp_path / "blurred.jpg").exists()


@pytest.mark.parametrize("folder", ["plateblur", "training", "datasets", "benchmarks"])
def test_whatever_imports_a_reporting_package_goes_through_its_switch(folder: str) -> None:
    """`training` and `in_fiftyone.imported` switch reports off, if they come before the package."""
    ours = re.compile(r"^(import|from) training\b|YOLO_OFFLINE", re.MULTILINE)
    package = re.compile(r"^\s*(import|from) (ultralytics|albumentations)\b", re.MULTILINE)
    review = re.compile(r"^\s*(import|from) fiftyone\b|import_module\(.fiftyone", re.MULTILINE)
    loud = [
        path.name
        for path in (ROOT / folder).rglob("*.py")
        for text in [path.read_text()]
        if (folder != "training" and package.search(text) and not ours.search(text))
        or review.search(text)
    ]
    assert loud == []


SERVE = """
import subprocess, sys, time, urllib.error, urllib.request
address = f"http://127.0.0.1:{sys.argv[1]}"
server = subprocess.Popen(
    [sys.executable, "serve.py", "--port", sys.argv[1], "--data-dir", sys.argv[2]]
)
try:
    for _ in range(600):
        try:
            if urllib.request.urlopen(f"{address}/readyz", timeout=10).status == 200:
                break
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    urllib.request.urlopen(f"{address}/demo/", timeout=60).read()
finally:
    server.terminate()
    server.wait(60)
"""


@pytest.mark.skipif(not find_spec("gradio"), reason="needs the extra demo")
def test_serving_the_api_and_the_demo_reaches_nobody(tmp_path: Path) -> None:
    asked: list[str | Path] = [str(free_port()), tmp_path / "data"]
    assert attempts(tmp_path, SERVE, *asked, more={"PLATEBLUR_DEMO": "true"}) == []


TRAIN = """
import sys
from training.train import main
main(sys.argv[1:])
"""


@pytest.mark.skipif(not find_spec("ultralytics"), reason="needs the extra train")
def test_training_reaches_nobody(tmp_path: Path) -> None:
    draw: list[str | Path] = [
        ROOT / "datasets" / "synthetic.py",
        tmp_path / "drawn",
        "--count",
        "8",
        "--seed",
        "7",
    ]
    subprocess.run([sys.executable, *map(str, draw)], check=True, capture_output=True, cwd=ROOT)
    asked: list[str | Path] = [
        *("training/configs/smoke.yaml", "--data", tmp_path / "drawn" / "data.yaml"),
        *("--run", tmp_path / "run"),
    ]
    assert attempts(tmp_path, TRAIN, *asked) == []
    assert (tmp_path / "run" / "weights" / "best.pt").exists()


@pytest.mark.skipif(not find_spec("ultralytics"), reason="needs the extra train")
def test_ultralytics_alone_would_reach_somebody(tmp_path: Path) -> None:
    """So the test above isn't true of itself: the same guard, without our switch."""
    assert attempts(tmp_path, "import training.train", more={"YOLO_OFFLINE": "False"}) == [
        "socket.getaddrinfo one.one.one.one",
        "socket.getaddrinfo dns.google",
    ]


@pytest.mark.skipif(not find_spec("fiftyone"), reason="needs the extra review")
def test_reviewing_reaches_nobody(tmp_path: Path) -> None:
    review = "from plateblur.sets.in_fiftyone import fiftyone; fiftyone()"
    own = {"FIFTYONE_DATABASE_DIR": str(tmp_path / "db"), "HOME": str(tmp_path)}
    assert attempts(tmp_path, review, more=own) == []
