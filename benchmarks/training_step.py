"""Seconds an image of a training step on this machine's CPU, for each thing that train.py does.

    python -m benchmarks.training_step

Each way runs in a process of its own, several times over in turn, so that a noisy minute hits all
of them; the median counts. Ratios to ultralytics' own way go into
`benchmarks/results/training_step.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import training  # noqa: F401 - before ultralytics, which then reports nothing
from benchmarks.machine import machine

RESULTS = Path(__file__).parent / "results" / "training_step.json"
IMAGES = 16  # in a batch
INPUT_SIZE = 512  # side of the square training image, pixels
STEPS = 5  # of one run; the first is not counted
ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Way:
    """One way to train: threads, memory layout, precision, and whether freed memory is kept."""

    name: str
    threads: int
    channels_last: bool = False
    bf16: bool = False
    keeps_memory: bool = False


def ways() -> list[Way]:
    """Return the ways that are compared, ultralytics' own first."""
    cores = os.cpu_count() or 1
    return [
        Way("ultralytics: a core left free", max(1, cores - 1)),
        Way("every core", cores),
        Way("every core, channels-last", cores, channels_last=True),
        Way("every core, channels-last, memory kept", cores, True, keeps_memory=True),
        Way("the last in bf16", cores, True, bf16=True, keeps_memory=True),
    ]


def seconds_an_image(way: Way) -> float:
    """Return the median over the steps of one run of yolo26n; to be called in a fresh process."""
    import torch
    from ultralytics.nn.tasks import DetectionModel
    from ultralytics.utils import DEFAULT_CFG

    from training.train import keep_freed_memory

    if way.keeps_memory:
        keep_freed_memory()
    torch.manual_seed(0)
    torch.set_num_threads(way.threads)
    layout = torch.channels_last if way.channels_last else torch.contiguous_format
    network = DetectionModel("yolo26n.yaml", nc=1, verbose=False).to(memory_format=layout).train()
    network.args = DEFAULT_CFG
    optimizer = torch.optim.AdamW(network.parameters(), 1e-4)
    images = torch.rand(IMAGES, 3, INPUT_SIZE, INPUT_SIZE).contiguous(memory_format=layout)
    batch = {
        "img": images,
        "batch_idx": torch.arange(IMAGES).float(),
        "cls": torch.zeros(IMAGES, 1),
        "bboxes": torch.tensor([[0.5, 0.5, 0.2, 0.1]]).repeat(IMAGES, 1),
    }
    times = []
    for _ in range(STEPS):
        started = time.perf_counter()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=way.bf16):
            loss, _ = network.loss(batch, network(images))
        loss.sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        times.append((time.perf_counter() - started) / IMAGES)
    return statistics.median(times[1:])


def measure() -> dict[str, list[float]]:
    """Return the seconds an image of each way, one value a round."""
    measured: dict[str, list[float]] = {way.name: [] for way in ways()}
    for _ in range(ROUNDS):
        for number, way in enumerate(ways()):
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.training_step", "--way", str(number)],
                cwd=RESULTS.parents[2],
                capture_output=True,
                text=True,
                check=True,
            )
            measured[way.name].append(float(done.stdout.split()[-1]))
    return measured


def main() -> None:
    """Measure every way and write the ratios, or print the seconds of one."""
    parser = argparse.ArgumentParser(description="Time a training step on this CPU.")
    parser.add_argument("--way", type=int, help="measure this one alone, in this process")
    number = parser.parse_args().way
    if number is not None:
        print(seconds_an_image(ways()[number]))
        return
    medians = {name: statistics.median(times) for name, times in measure().items()}
    base = next(iter(medians.values()))
    figures = {
        "machine": machine(),
        "network": f"yolo26n, {IMAGES} images of {INPUT_SIZE} px",
        "seconds_an_image": {name: round(value, 4) for name, value in medians.items()},
        "times_as_fast": {name: round(base / value, 2) for name, value in medians.items()},
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(figures, indent=2) + "\n")
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
