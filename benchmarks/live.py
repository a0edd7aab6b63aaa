"""A live picture for ten minutes: memory over time, and what became of each frame.

Usage: python -m benchmarks.live [--minutes 10 --rate 5 --delay 0.5]

A clip of drawn streets, small, is played at its own speed by `plateblur live` into a file, with
the shipped model. Memory of the whole process is sampled every ten seconds. Figures go to
benchmarks/results/live.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from benchmarks.machine import machine, tree_of
from plateblur.drawn import draw_scene

RESULTS = Path(__file__).parent / "results" / "live.json"
PLATEBLUR = "from plateblur.cli import app; app()"  # as the installed command does
FRAME_HW, DRAWN_HW = (270, 480), (324, 576)
SCENE_S = 10.0
SAMPLE_S = 10.0
SETTLED_S = 120.0  # until then buffers, pools and the model's own memory grow to their size


def write(path: Path, *, seconds: float, rate: int) -> None:
    """Write a clip that pans over two drawn streets, with a tone."""
    scenes = [draw_scene(n, image_hw=DRAWN_HW, plates=3, ratios=(1 / 16, 1 / 10)) for n in (0, 1)]
    spare = np.subtract(DRAWN_HW, FRAME_HW)
    with av.open(str(path), "w") as target:
        picture: Any = target.add_stream("libx264", rate=rate, options={"preset": "ultrafast"})
        picture.height, picture.width = FRAME_HW
        picture.pix_fmt = "yuv420p"
        sound: Any = target.add_stream("aac", rate=48_000, layout="mono")
        for number in range(round(seconds * rate)):
            scene = scenes[int(number / rate / SCENE_S) % 2].image
            y, x = (spare * (number / rate / SCENE_S % 1)).astype(int)
            image = np.ascontiguousarray(scene[y : y + FRAME_HW[0], x : x + FRAME_HW[1]])
            target.mux(picture.encode(av.VideoFrame.from_ndarray(image)))
            tone = np.sin(np.arange(48_000 // rate) / 20, dtype=np.float32)[None] * 0.2
            heard = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
            heard.sample_rate, heard.time_base = 48_000, Fraction(1, 48_000)
            heard.pts = number * (48_000 // rate)
            target.mux(sound.encode(heard))
        target.mux(picture.encode(None))
        target.mux(sound.encode(None))


def watched(command: list[str]) -> tuple[dict[str, int], list[tuple[float, float]], float]:
    """Return the counts of the command, seconds and megabytes over time, and processor seconds."""
    begun_s = time.monotonic()
    memory: list[tuple[float, float]] = []
    used_s = 0.0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            time.sleep(SAMPLE_S)
            rss_mb, now_s = tree_of(process.pid)
            used_s = max(used_s, now_s)
            if rss_mb:
                memory.append((round(time.monotonic() - begun_s), round(rss_mb)))
        printed = process.stdout.read() if process.stdout else ""
    if process.returncode != 0:
        raise SystemExit(f"the command ended with {process.returncode}")
    return json.loads(printed), memory, used_s


def main() -> None:
    """Draw, play, and write the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--rate", type=int, default=5, help="frames a second")
    parser.add_argument("--delay", type=float, default=0.5, help="as of the command, seconds")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "in.mp4", Path(folder) / "out.mkv"
        write(source, seconds=given.minutes * 60, rate=given.rate)
        command = [sys.executable, "-c", PLATEBLUR, "live", str(source), "-o", str(out)]
        counts, memory, used_s = watched([*command, "--delay", str(given.delay), "--json"])
        with av.open(str(out), "r") as clip:
            length_s = float(clip.duration or 0) / av.time_base
    settled = [mb for at_s, mb in memory if at_s >= SETTLED_S]
    first, last = (settled[: len(settled) // 4], settled[-len(settled) // 4 :])
    figures = {
        "machine": machine(),
        "source": f"{given.minutes:g} minutes of {FRAME_HW[1]} x {FRAME_HW[0]} at {given.rate} "
        "frames a second, played at its own speed into an MKV file, "
        f"{given.delay:g} s behind",
        "frames": counts,
        "length_out_s": round(length_s, 1),
        "processor_s": round(used_s),
        "memory_mb_most": max(mb for _, mb in memory),
        "memory_mb_settled": {
            "first_quarter": round(float(np.mean(first))) if first else None,
            "last_quarter": round(float(np.mean(last))) if last else None,
        },
        "memory_mb_over_time": [
            {"at_s": at_s, "mb": mb} for at_s, mb in memory[:: max(1, len(memory) // 20)]
        ],
    }
    RESULTS.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
