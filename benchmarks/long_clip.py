"""A long clip, killed twice and resumed: memory over time, what a kill costs, whether all is there.

Usage: python -m benchmarks.long_clip [--minutes 60 --rate 25 --height 1080 --out FOLDER]

Draws a plate that drives through a street for a minute, repeats that minute, runs `plateblur video`
on it, kills it once while it looks and once while it writes, resumes it, and prints a line of JSON.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

LOOP_S = 60
SAMPLE_S = 1.0


def draw(path: Path, *, minutes: float, rate: int, height: int) -> int:
    """Write the clip, and return its number of frames."""
    width = height * 16 // 9
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:height, :width]
    waves = [110 + 60 * np.sin(rows / 90 + c) + 40 * np.cos(columns / 130 + c) for c in range(3)]
    street = (np.dstack(waves) + rng.normal(0, 3, (height, width, 1))).clip(60, 255)
    street = street.astype(np.uint8)
    count = round(minutes * 60 * rate)
    loop: list[tuple[bytes, int, int, bool]] = []
    with av.open(str(path), "w") as target:
        stream: Any = target.add_stream(
            "libx264", rate=rate, options={"preset": "ultrafast", "bf": "0"}
        )
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = Fraction(1, rate)
        drawn = min(count, LOOP_S * rate)
        for number in range(drawn):
            image = street.copy()
            left, top = 200 + number % 1000, height // 2
            image[top : top + 60, left : left + 240] = 245
            for letter in range(6):
                x = left + 20 + 36 * letter
                image[top + 12 : top + 48, x : x + 10 + 4 * (letter % 3)] = 20
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, rate)
            for packet in stream.encode(frame):
                loop.append((bytes(packet), packet.pts, packet.dts, packet.is_keyframe))
                target.mux(packet)
        for packet in stream.encode(None):
            loop.append((bytes(packet), packet.pts, packet.dts, packet.is_keyframe))
            target.mux(packet)
        for number in range(drawn, count):
            data, _, _, is_key = loop[number % drawn]
            packet = av.Packet(data)
            packet.pts = packet.dts = number
            packet.time_base, packet.stream = Fraction(1, rate), stream
            packet.is_keyframe = is_key
            target.mux(packet)
    return count


def lines(path: Path) -> int:
    """Return how many lines a journal has."""
    return path.read_bytes().count(b"\n") if path.exists() else 0


def rss_mb(process: subprocess.Popen[bytes]) -> float:
    """Return the memory of a process."""
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--rate", type=int, default=25)
    parser.add_argument("--height", type=int, default=1080)
    parser.add_argument("--out", type=Path, default=None)
    given = parser.parse_args()
    folder = given.out or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    clip, out = folder / "long.mp4", folder / "out.mp4"
    count = draw(clip, minutes=given.minutes, rate=given.rate, height=given.height)
    work = folder / ".out.mp4.work"
    command = ["plateblur", "video", str(clip), "-o", str(out), "--overwrite"]
    start = time.monotonic()
    memory: list[tuple[float, float]] = []
    done_before: list[dict[str, int]] = []

    def stopped(process: subprocess.Popen[bytes], run: int) -> bool:
        looked = lines(work / "looked-0.jsonl")
        segments = len(list(work.glob("picture-*.mp4"))) if work.exists() else 0
        if (run == 0 and looked > count // 2) or (run == 1 and segments >= 1):
            process.kill()
            done_before.append({"looked": looked, "segments": segments})
            return True
        return False

    for run in range(3):
        with subprocess.Popen([*command, *(["--resume"] if run else [])]) as process:
            while process.poll() is None:
                memory.append((round(time.monotonic() - start, 1), round(rss_mb(process))))
                if stopped(process, run):
                    break
                time.sleep(SAMPLE_S)
    with av.open(str(out), "r") as source:
        frames = sum(1 for packet in source.demux(video=0) if packet.size)
    report = {
        "frames": count,
        "frames_out": frames,
        "killed_after": done_before,
        "seconds": round(time.monotonic() - start),
        "memory_mb_each_tenth": [mb for _, mb in memory[:: max(1, len(memory) // 10)]],
        "memory_mb_most": max(mb for _, mb in memory),
        "left_behind": sorted(path.name for path in folder.iterdir()),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
