"""Time one run of the model on each engine, and count what each finds.

    python -m benchmarks.engines --data DATA.yaml --overlay datasets/corrections/plates.jsonl

Each engine works in a process of its own, because the threads of one slow another's, and they run
in turn, so that a noisy minute hits all. The first one is what the others are compared with. Beside
the engines that `--engine` offers, two things are timed that we don't use: the graph before
`training/graph.py` rewrote it, if the model's file still has it, and bf16. ONNX Runtime waits by
spinning, as it does where one photo has all cores; with two threads that costs processor time.

With `--data`, photos of val are searched with each, as in `benchmarks/any_way.py`. Nothing of the
photos gets into the results.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx
import onnxruntime
import openvino
from numpy.typing import NDArray

from benchmarks.any_way import NEW, ranges
from benchmarks.looks import as_they_are, find
from benchmarks.machine import machine
from benchmarks.naive import Contestant
from plateblur.detector import OnnxDetector, shipped_model
from plateblur.engines import Engine, int8_model
from plateblur.sets.corrections import read_corrections
from plateblur.sets.split import LabelledPhoto, corrected_photo, read_split
from plateblur.types import Effort
from training.graph import faster

RESULTS = Path(__file__).parent / "results" / "engines.json"
INPUTS = {"1080p photo": (512, 896), "square photo": (896, 896), "small look": (224, 384)}
THREADS = (1, 2)
ROUNDS, WARM_UP = 30, 3
PACKAGES = ("onnxruntime", "openvino")

Run = Callable[[NDArray[np.float32]], object]


def by_onnxruntime(model: Path, threads: int) -> Run:
    """Return a model on ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda batch: session.run(None, {"images": batch})


def by_openvino(model: Path, threads: int, *, precision: str) -> Run:
    """Return a model on OpenVINO."""
    config = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": precision,
    }
    compiled = openvino.Core().compile_model(model, "CPU", config)
    return lambda batch: compiled.create_infer_request().infer([batch])


CONTESTANTS: dict[str, tuple[str, Callable[[Path, int], Run]]] = {
    # Their names, the file that they run, and how.
    "onnxruntime": ("rewritten.onnx", by_onnxruntime),
    "onnxruntime, graph as exported": ("exported.onnx", by_onnxruntime),
    "openvino": ("rewritten.onnx", lambda *of: by_openvino(*of, precision="f32")),
    "openvino, bf16": ("rewritten.onnx", lambda *of: by_openvino(*of, precision="bf16")),
    "openvino-int8": ("int8.onnx", lambda *of: by_openvino(*of, precision="f32")),
}


def prepare(model: Path, folder: Path) -> None:
    """Write the files that are run."""
    exported = onnx.load(model)
    rewritten = faster(exported)
    onnx.save(rewritten, folder / "rewritten.onnx")
    if len(rewritten.graph.node) != len(exported.graph.node):
        onnx.save(exported, folder / "exported.onnx")
    if int8_model(model).is_file():
        (folder / "int8.onnx").write_bytes(int8_model(model).read_bytes())


def serve(name: str, folder: Path, threads: int) -> None:
    """Run the input that each line names, and answer with its seconds."""
    file, opened = CONTESTANTS[name]
    run = opened(folder / file, threads)
    random = np.random.default_rng(0)
    batches = {each: random.random((1, 3, *hw), np.float32) for each, hw in INPUTS.items()}
    print("ready", flush=True)
    for line in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        run(batches[line.strip()])
        print("took", time.perf_counter() - wall, time.process_time() - cpu, flush=True)


def times(folder: Path, threads: int, rounds: int) -> dict[str, Any]:
    """Return for each input and contestant milliseconds, and how many times as fast it is."""
    given = ["--folder", str(folder), "--threads", str(threads)]
    running = {
        name: Contestant(["-m", "benchmarks.engines", "--serve", name, *given])
        for name, (file, _) in CONTESTANTS.items()
        if (folder / file).exists()
    }
    table: dict[str, Any] = {}
    for name in INPUTS:
        rows: dict[str, list[tuple[float, float]]] = {each: [] for each in running}
        for _ in range(WARM_UP + rounds):
            for each, contestant in running.items():
                rows[each].append(contestant.seconds(name))
        taken = {each: np.array(row[WARM_UP:]) for each, row in rows.items()}
        first = next(iter(taken.values()))
        table[name] = {
            each: {
                "wall_ms": round(float(np.median(one[:, 0])) * 1000, 1),
                "least_wall_ms": round(float(one[:, 0].min()) * 1000, 1),
                "cpu_ms": round(float(np.median(one[:, 1])) * 1000, 1),
                "times_as_fast": round(float(np.median(first[:, 0] / one[:, 0])), 2),
                "of_cpu_time": round(float(np.median(one[:, 1] / first[:, 1])), 2),
            }
            for each, one in taken.items()
        }
    for contestant in running.values():
        contestant.close()
    return table


def found(model: Path, val: Sequence[LabelledPhoto], efforts: Sequence[Effort]) -> dict[str, Any]:
    """Return what each engine hides of val, and its CPU seconds, by effort."""
    table: dict[str, Any] = {}
    engines: list[Engine] = ["onnxruntime", "openvino"]
    if int8_model(model).is_file():
        engines.append("openvino-int8")
    for effort in efforts:
        for engine in engines:
            detector = OnnxDetector(model, engine=engine, threads=1)
            started = time.process_time()
            figures = ranges(find(as_they_are(val), detector, effort=effort))
            figures["cpu_s"] = round(time.process_time() - started, 1)
            table.setdefault(effort, {})[engine] = figures
    return table


def main() -> None:
    """Read the command line, time and search, and write the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, help="data.yaml; without it, nothing is searched")
    parser.add_argument("--overlay", type=Path, help="corrections of labels, JSON lines")
    parser.add_argument("--model", type=Path, default=shipped_model())
    parser.add_argument("--effort", nargs="+", choices=get_args(Effort), default=["default"])
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="0: time nothing")
    parser.add_argument("--results", type=Path, default=RESULTS, help="other parts in it stay")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(given.serve, given.folder, given.threads)
        return
    table = json.loads(given.results.read_text()) if given.results.exists() else {}
    table["machine"] = machine()
    table["packages"] = {name: importlib.metadata.version(name) for name in PACKAGES}
    if given.rounds:
        table["load_average"] = round(os.getloadavg()[0], 1)  # beyond the cores, compare CPU times
        with tempfile.TemporaryDirectory() as folder:
            prepare(given.model, Path(folder))
            table["one run"] = {
                str(threads): times(Path(folder), threads, given.rounds) for threads in THREADS
            }
    if given.data:
        corrections = read_corrections(given.overlay)
        val = [corrected_photo(photo, corrections) for photo in read_split(given.data, "val")]
        val = [photo for photo in val if photo.group["set"] != NEW]
        table["found"] = found(given.model, val, given.effort)
    given.results.write_text(json.dumps(table, indent=2) + "\n")
    print(json.dumps(table, indent=2))


if __name__ == "__main__":
    main()
