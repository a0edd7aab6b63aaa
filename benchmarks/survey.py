"""A long run over drawn photos that is killed at random and resumed, checked against its outputs.

    python -m benchmarks.survey --photos 2000 --kills 3

The command runs as a user runs it, with the shipped model, in processes of its own. They are
killed with SIGKILL, and the same line is run again. In the end each output must be there once,
whole, and as the last line of the manifest says. Speed, memory and busy cores go into
`benchmarks/results/survey.json`; they are this machine's.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from plateblur.cores import cores
from plateblur.drawn.scene import draw_scene
from plateblur.runs.manifest import MANIFEST_NAME

RESULTS = Path(__file__).parent / "results" / "survey.json"
SCENES = 12  # drawn; each photo is one of them with noise of its own
IMAGE_HW = (1080, 1920)
LOOK_EVERY_S = 0.25  # at the memory
CALL = "from plateblur.cli import app; app()"  # as the installed command does


@dataclass(slots=True)
class Part:
    """One process of the run.

    Attributes:
        seconds: by the clock.
        memory_mb: resident, at each look.
        done: photos that are done when it ends, of all.
        code: exit code; negative for the signal that ended it.
    """

    seconds: float
    memory_mb: list[float]
    done: int
    code: int


def draw(folder: Path, *, photos: int) -> None:
    """Write drawn photos, each with content of its own."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(1)
    scenes = [draw_scene(seed=seed, plates=3, image_hw=IMAGE_HW).image for seed in range(SCENES)]
    for number in range(photos):
        image = scenes[number % SCENES].copy()
        image[:16, :16] = rng.integers(0, 256, (16, 16, 3))
        quality = [cv2.IMWRITE_JPEG_QUALITY, 90]
        cv2.imwrite(str(folder / f"{number:06}.jpg"), image[..., ::-1], quality)


def run_part(given: Path, out: Path, *, workers: int, until: int | None) -> Part:
    """Run the command; kill it once so many photos are done, or let it end."""
    command = [sys.executable, "-c", CALL, "blur", str(given), "-o", str(out), "-q"]
    started = time.monotonic()
    memory: list[float] = []
    with subprocess.Popen([*command, "--workers", str(workers)]) as child:
        while child.poll() is None:
            time.sleep(LOOK_EVERY_S)
            memory.append(resident_mb(child.pid))
            if until is not None and outputs_in(out) >= until:
                child.send_signal(signal.SIGKILL)
                break
        code = child.wait()
    return Part(time.monotonic() - started, memory, outputs_in(out), code)


def resident_mb(pid: int) -> float:
    """Return the resident memory of a process; 0 where it has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def outputs_in(folder: Path) -> int:
    """Return how many outputs have their name."""
    return sum(1 for _ in folder.glob("*.jpg")) if folder.exists() else 0


def check(given: Path, out: Path) -> dict[str, int]:
    """Return what the manifest and the outputs show.

    Raises:
        ValueError: a photo is lost, or an output isn't as its last line says.
    """
    lines = [json.loads(line) for line in (out / MANIFEST_NAME).read_text().splitlines()]
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
    return {
        "outputs as their last line says": len(last),
        "photos whose turn was cut off by a kill": sum("output" in one for one in lines)
        - len(last),
        "unfinished files left by kills": len(list(out.glob(".plateblur-*.part"))),
        "plates": sum(line["plates"] for line in last.values()),
    }


def measure(photos: int, kills: int, workers: int, folder: Path) -> dict[str, Any]:
    """Return what a run shows that is killed so often and resumed."""
    given, out = folder / "in", folder / "out"
    draw(given, photos=photos)
    chance = random.Random(1)  # noqa: S311 - when to kill
    points = sorted(chance.sample(range(photos // 10, photos * 9 // 10), kills))
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    parts = [run_part(given, out, workers=workers, until=until) for until in [*points, None]]
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    shown = check(given, out)
    again = run_part(given, out, workers=workers, until=None)
    seconds = sum(part.seconds for part in parts)
    busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    tail = parts[-1].memory_mb
    return {
        "machine": f"{cores()} cores, {platform.processor() or platform.machine()}",
        "photos": photos,
        "size": f"{IMAGE_HW[1]} x {IMAGE_HW[0]}",
        "workers": workers,
        "killed after": [part.done for part in parts[:-1]],
        "exit codes": [part.code for part in parts],
        "seconds": round(seconds, 1),
        "photos a second": round(photos / seconds, 2),
        "photos a core hour": round(photos / busy * 3600),
        "busy share of the cores": round(busy / seconds / cores(), 3),
        "largest memory MB": [round(max(part.memory_mb, default=0)) for part in parts],
        "memory MB in the last part, second to last quarter": [
            round(float(np.median(some)))
            for some in np.array_split(np.array(tail), 4)[1:]
            if len(some)
        ],
        "seconds of a run with nothing to do": round(again.seconds, 2),
        **shown,
    }


def main() -> None:
    """Read the command line, measure, and write the figures."""
    parser = argparse.ArgumentParser(description="Kill and resume a long run.")
    parser.add_argument("--photos", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--workers", type=int, default=cores())
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="plateblur-survey-") as folder:
        figures = measure(given.photos, given.kills, given.workers, Path(folder))
    print(json.dumps(figures, indent=1))
    given.results.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
