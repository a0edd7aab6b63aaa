"""A long run over drawn photos that is killed at random and resumed, checked against its outputs.

    python -m benchmarks.survey --photos 10000 --kills 3
    python -m benchmarks.survey --names 100000

The command runs as a user runs it, with the shipped model, in processes of its own. They are
killed with SIGKILL, and the same line is run again. In the end each output must be there once,
whole, and as the last line of the manifest says. Photos are small, so that ten thousand take
minutes; every one has content of its own. With `--names`, it is measured instead what a run with
nothing to do takes for its list of photos. Figures go into `benchmarks/results/survey.json`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.machine import machine
from plateblur.cli_runs import settings_of
from plateblur.cores import cores
from plateblur.drawn.scene import draw_scene
from plateblur.photo import MAX_PIXELS
from plateblur.pipeline import DEFAULTS
from plateblur.runs.files import seen_at
from plateblur.runs.manifest import MANIFEST_NAME, SOFTWARE, Version
from plateblur.runs.plan import Task, on_disk, plan
from plateblur.runs.run import How, started

RESULTS = Path(__file__).parent / "results" / "survey.json"
SIZES = ((180, 640), (240, 640), (320, 640), (360, 640))  # of the photos in turn, height and width
LOOK_EVERY_S = 0.5  # at the memory and the manifest
CALL = "from plateblur.cli import app; app()"  # as the installed command does
PARTS_OF_RUN = 10  # that memory is reported for


@dataclass(slots=True)
class Part:
    """One process of the run.

    Attributes:
        seconds: wall-clock time.
        memory_mb: resident, of the process and its children, at each look.
        lines: of photos in the manifest when it ends.
        code: exit code; negative for the signal that ended it.
    """

    seconds: float
    memory_mb: list[float]
    lines: int
    code: int


def draw(folder: Path, *, photos: int, scenes: int, sizes: Sequence[tuple[int, int]]) -> None:
    """Write drawn photos, each with content of its own."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(1)
    images = [
        draw_scene(seed=seed, plates=1 + seed % 3, image_hw=sizes[seed % len(sizes)]).image
        for seed in range(scenes)
    ]
    for number in range(photos):
        image = images[number % scenes].copy()
        image[:16, :16] = rng.integers(0, 256, (16, 16, 3))
        quality = [cv2.IMWRITE_JPEG_QUALITY, 90]
        cv2.imwrite(str(folder / f"{number:06}.jpg"), image[..., ::-1], quality)


class Lines:
    """Counts the photos in a growing manifest without reading any line twice."""

    def __init__(self, manifest: Path) -> None:
        """Begin with the first line of `manifest`."""
        self._path = manifest
        self._read = 0
        self.count = 0

    def update(self) -> int:
        """Return how many there are now."""
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._read)
                new = file.read()
            self._read += len(new)
            self.count += new.count(b'"state"')
        return self.count


def run_part(arguments: Sequence[str], lines: Lines, *, until: int | None) -> Part:
    """Run the command; kill it once the manifest has so many photos, or let it end."""
    started = time.monotonic()
    memory: list[float] = []
    with subprocess.Popen([sys.executable, "-c", CALL, *arguments]) as child:
        while child.poll() is None:
            time.sleep(LOOK_EVERY_S)
            memory.append(resident_mb(child.pid))
            if until is not None and lines.update() >= until:
                child.send_signal(signal.SIGKILL)
                break
        code = child.wait()
    return Part(time.monotonic() - started, memory, lines.update(), code)


def resident_mb(pid: int) -> float:
    """Return the resident memory of a process and of all below it; 0 where it has ended."""
    try:
        status = Path(f"/proc/{pid}/smaps_rollup").read_text()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return 0.0
    rss = next((line.split()[1] for line in status.splitlines() if line.startswith("Rss:")), "0")
    return int(rss) / 1000 + sum(resident_mb(int(child)) for child in children)


def check(given: Path, out: Path, manifest: Path, *, lines_each: int = 1) -> dict[str, int]:
    """Return what the manifest and the outputs show.

    Args:
        given: the photos.
        out: the outputs.
        manifest: of the run.
        lines_each: that a photo has which was done once.

    Raises:
        ValueError: a photo is lost, or an output isn't as its last line says.
    """
    lines = [json.loads(line) for line in manifest.read_text().splitlines()]
    last = {line["output"]: line for line in lines if "output" in line}
    names = {path.name for path in given.glob("*.jpg")}
    there = {path.name for path in out.glob("*.jpg")}
    if not names == there == set(last):
        raise ValueError(f"{len(names)} photos, {len(there)} outputs, {len(last)} in the manifest")
    for name, line in last.items():
        hashes = [hashlib.sha256((folder / name).read_bytes()) for folder in (given, out)]
        recorded = [line["input"]["sha256"], line["written"]["sha256"]]
        if [each.hexdigest() for each in hashes] != recorded or line["state"] != "done":
            raise ValueError(f"{name} isn't as the manifest says")
    turns = Counter(line["output"] for line in lines if "output" in line)
    return {
        "outputs as their last line says": len(last),
        "different outputs": len({line["written"]["sha256"] for line in last.values()}),
        "photos whose turn was cut off by a kill": sum(
            math.ceil(count / lines_each) - 1 for count in turns.values()
        ),
        "unfinished files left by kills": len(list(out.glob(".plateblur-*.part"))),
        "plates": sum(line["plates"] for line in last.values()),
        "manifest, bytes a photo": round(manifest.stat().st_size / len(last)),
    }


def measure(photos: int, kills: int, workers: int, folder: Path) -> dict[str, Any]:
    """Return what a run shows that is killed so often and resumed."""
    given, out = folder / "in", folder / "out"
    draw(given, photos=photos, scenes=min(photos, 100), sizes=SIZES)
    chance = random.Random(1)  # noqa: S311 - when to kill
    points = sorted(chance.sample(range(photos // 10, photos * 9 // 10), kills))
    line = ["blur", str(given), "-o", str(out), "-q", "--workers", str(workers)]
    lines = Lines(out / MANIFEST_NAME)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    parts = [run_part(line, lines, until=until) for until in [*points, None]]
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    shown = check(given, out, out / MANIFEST_NAME)
    again = run_part(line, lines, until=None)
    seconds = sum(part.seconds for part in parts)
    busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "machine": machine(),
        "photos": photos,
        "sizes": [f"{width} x {height}" for height, width in SIZES],
        "workers": workers,
        "killed after": [part.lines for part in parts[:-1]],
        "exit codes": [part.code for part in parts],
        "seconds": round(seconds, 1),
        "photos a second": round(photos / seconds, 2),
        "photos a core hour": round(photos / busy * 3600),
        "busy share of the cores": round(busy / seconds / cores(), 3),
        f"memory MB of each process, {PARTS_OF_RUN} equal parts of its time": [
            [round(float(np.median(some))) for some in np.array_split(part.memory_mb, PARTS_OF_RUN)]
            for part in parts
            if len(part.memory_mb) >= PARTS_OF_RUN
        ],
        "seconds of a run with nothing to do": round(again.seconds, 2),
        **shown,
    }


def measure_names(count: int, folder: Path) -> dict[str, Any]:
    """Return what a run with nothing to do takes, over so many photos and over a hundredth."""
    few, many = (_done_before(number, folder / str(number)) for number in (count // 100, count))
    return {
        "photos": count,
        "seconds": round(many.seconds, 1),
        "memory MB": round(max(many.memory_mb)),
        "KB a photo": round(1000 * (max(many.memory_mb) - max(few.memory_mb)) / (count * 0.99), 2),
    }


def _done_before(count: int, folder: Path) -> Part:
    """Run the command over files that the manifest has as done."""
    given, out = folder / "in", folder / "out"
    for place in (given, out):
        place.mkdir(parents=True)
        for number in range(count):
            (place / f"{number:06}.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    work = plan([given], recursive=False, out=out)
    settings = settings_of(DEFAULTS, None) | {"max_pixels": MAX_PIXELS}
    with started([given], work, How(out=out, settings=settings, software=SOFTWARE)) as run:
        for at in range(0, count, 1000):
            run.manifest.append_all([_done_line(task) for task in run.tasks[at : at + 1000]])
    part = run_part(
        ["blur", str(given), "-o", str(out), "-q"], Lines(out / MANIFEST_NAME), until=None
    )
    if part.code:
        raise RuntimeError(f"expected a run with nothing to do, got exit code {part.code}")
    return part


def _done_line(task: Task) -> dict[str, Any]:
    """Return a line of the manifest, as for a photo that was done."""
    there = [
        Version(*(seen_at(path) or (0, "")), bytes(32)).as_json()
        for path in (on_disk(task.job.photo), on_disk(task.target))
    ]
    line = {"photo": task.job.address, "output": task.output, "state": "done", "run": 1}
    return {**line, "input": there[0], "written": there[1], "plates": 0, "seconds": 0.1}


def main() -> None:
    """Read the command line, measure, and write the figures."""
    parser = argparse.ArgumentParser(description="Kill and resume a long run.")
    parser.add_argument("--photos", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--workers", type=int, default=cores())
    parser.add_argument("--names", type=int, help="measure the list of so many photos alone")
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="plateblur-survey-") as folder:
        if given.names:
            figures = json.loads(given.results.read_text())
            figures["nothing to do"] = measure_names(given.names, Path(folder))
        else:
            figures = measure(given.photos, given.kills, given.workers, Path(folder))
    print(json.dumps(figures, indent=1))
    given.results.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
