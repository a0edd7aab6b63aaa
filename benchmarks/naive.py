"""Time `plateblur` against what a user would write alone, on the same 1080p JPEGs.

    python -m benchmarks.naive
    python -m benchmarks.naive --photos FOLDER --results benchmarks/results/naive_real.json

The rivals: a dozen lines around ultralytics' `predict` with our own ONNX file, the same lines
around the detector of the PyPI package fastanpr (yolov8n at 640 px), and the floor: decoding, one
run of the model and encoding, with nothing in between. Each works in a process of its own, because
the threads of one engine slow another's. They take each photo in turn, so that a noisy minute hits
all.

Two things are timed: one photo in a warm process, and a folder from an empty process to the last
file. What travels to another machine is the ratios; they go into the results with the machine's
name. Photos that are given are scaled to 1080p in a temporary folder; without any, scenes are
drawn. `naive_real.json` has photos of val, which have more small plates to look at again. Nothing
of a photo goes into the results.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.machine import machine
from plateblur.detector import OnnxDetector, shipped_model
from plateblur.pipeline import blur_photo
from plateblur.types import BlurOptions

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results" / "naive.json"
WIDTH, HEIGHT = 1920, 1080
QUALITY = 90  # of the photos, and of what the floor writes
INPUT_SIZE = 896  # what the model was exported for; ultralytics would look at 640 px otherwise
WARM_UP = 3  # photos

Bgr = NDArray[np.uint8]
Do = Callable[[Path, Path], None]
"""Blur the first, write the second."""


def naive() -> Do:
    """Return the lines that a user writes with ultralytics and OpenCV."""
    from ultralytics import YOLO

    model = YOLO(shipped_model(), task="detect")

    def do(photo: Path, out: Path) -> None:
        image = read(photo)
        found = model.predict(image, imgsz=INPUT_SIZE, conf=0.45, verbose=False)[0]
        blur(image, found.boxes.xyxy.int().tolist())
        cv2.imwrite(str(out), image)

    return do


def fastanpr() -> Do:
    """Return the same lines around fastanpr's detector."""
    from benchmarks import rivals

    with tempfile.TemporaryDirectory() as work:
        find = rivals.fastanpr(Path(work))

    def do(photo: Path, out: Path) -> None:
        image = read(photo)
        rows = find(image[..., ::-1])
        blur(image, rows[rows[:, 4] >= rivals.RIVAL_CONFIDENCE, :4].astype(int).tolist())
        cv2.imwrite(str(out), image)

    return do


def read(photo: Path) -> Bgr:
    """Return a photo as OpenCV reads it."""
    image = cv2.imread(str(photo))
    if image is None:
        raise ValueError(f"expected a photo, got {photo.name}")
    return np.asarray(image, np.uint8)


def blur(image: Bgr, boxes: list[list[int]]) -> None:
    """Blur boxes of an image, in place."""
    for x1, y1, x2, y2 in boxes:
        image[y1:y2, x1:x2] = cv2.GaussianBlur(image[y1:y2, x1:x2], (0, 0), 10)


def ours(engine: str) -> Do:
    """Return what `plateblur blur` does to one photo, at its defaults."""
    detector = OnnxDetector.shipped(engine=engine)  # type: ignore[arg-type] # checked there

    def do(photo: Path, out: Path) -> None:
        out.write_bytes(blur_photo(photo.read_bytes(), detector, BlurOptions()).data)

    return do


def floor(engine: str) -> Do:
    """Return the least there is to do: decode, run the model once, encode."""
    detector = OnnxDetector.shipped(engine=engine)  # type: ignore[arg-type] # checked there
    height = round(INPUT_SIZE * HEIGHT / WIDTH / 32 + 0.49) * 32
    batch = np.zeros((1, 3, height, INPUT_SIZE), np.float32)

    def do(photo: Path, out: Path) -> None:
        image = read(photo)
        detector._run(batch)
        cv2.imwrite(str(out), image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])

    return do


CONTESTANTS: dict[str, Callable[[], Do]] = {
    "ultralytics": naive,
    "fastanpr": fastanpr,
    "plateblur onnxruntime": lambda: ours("onnxruntime"),
    "plateblur openvino": lambda: ours("openvino"),
    "plateblur openvino-int8": lambda: ours("openvino-int8"),
    "floor onnxruntime": lambda: floor("onnxruntime"),
    "floor openvino": lambda: floor("openvino"),
    "floor openvino-int8": lambda: floor("openvino-int8"),
}


def serve(name: str, out: Path) -> None:
    """Do each photo whose path comes on standard input, and answer with its seconds."""
    do = CONTESTANTS[name]()
    print("ready", flush=True)
    for line in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        do(Path(line.strip()), out / "out.jpg")
        print("took", time.perf_counter() - wall, time.process_time() - cpu, flush=True)


def folder_script(name: str, photos: Path, out: Path) -> None:
    """Do all photos of a folder, one after another, as the user's script would."""
    do = CONTESTANTS[name]()
    for photo in sorted(photos.iterdir()):
        do(photo, out / photo.name)


class Contestant:
    """A process of a benchmark that does on request what is timed, and answers with its seconds.

    It says "ready" once it is, and "took" with wall and CPU seconds for each line that it gets.
    """

    def __init__(self, command: list[str]) -> None:
        """Start Python with these arguments and wait until it is ready."""
        self._process = subprocess.Popen(
            [sys.executable, *command],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment(),
        )  # fmt: skip
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("expected pipes to the process")
        self._input: IO[str] = self._process.stdin
        self._answers: IO[str] = self._process.stdout
        self._answer("ready")

    def seconds(self, line: str) -> tuple[float, float]:
        """Return the wall and CPU seconds that it took to do what the line says."""
        self._input.write(f"{line}\n")
        self._input.flush()
        _, wall, cpu = self._answer("took").split()
        return float(wall), float(cpu)

    def close(self) -> None:
        """End it."""
        self._input.close()
        self._process.wait()

    def _answer(self, word: str) -> str:
        for line in self._answers:  # ultralytics says more than it is asked
            if line.startswith(word):
                return line
        raise RuntimeError("the process ended")


def environment() -> dict[str, str]:
    """Return the environment of the contestants: this tree, and no downloads."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "YOLO_OFFLINE": "True"}  # noqa: TID251 - for child processes


def time_warm(names: list[str], photos: list[Path], work: Path) -> dict[str, NDArray[np.float64]]:
    """Return for each contestant (N, 2): wall and CPU seconds of each photo."""
    running = {}
    for number, name in enumerate(names):
        out = work / f"warm-{number}"
        out.mkdir()
        running[name] = Contestant([__file__, "--serve", name, "--out", str(out)])
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for photo in [*photos[:WARM_UP], *photos]:
        for name, contestant in running.items():
            times[name].append(contestant.seconds(str(photo)))
    for contestant in running.values():
        contestant.close()
    return {name: np.array(rows[WARM_UP:]) for name, rows in times.items()}


def time_folder(name: str, photos: Path, out: Path) -> tuple[float, float]:
    """Return the wall and CPU seconds of a folder in a fresh process."""
    out.mkdir()
    if name.startswith("plateblur"):
        engine = name.split()[1]
        call = "from plateblur.cli import app; app()"  # as the installed command does
        command = ["-c", call, "blur", str(photos), "-o", str(out), "--engine", engine]
    else:
        command = [__file__, "--folder", name, "--photos", str(photos), "--out", str(out)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, *command],
        check=True,
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wall = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if len(list(out.glob("*.jpg"))) != len(list(photos.iterdir())):
        raise RuntimeError(f"{name} left photos out")
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def prepare(given: Path | None, count: int, out: Path) -> None:
    """Write `count` 1080p JPEGs: given photos that are wide enough, scaled, or drawn scenes."""
    out.mkdir()
    if given is None:
        from plateblur.drawn.scene import draw_scene

        scenes = (draw_scene(seed) for seed in range(min(count, 12)))
        images = [np.asarray(scene.image[..., ::-1], np.uint8) for scene in scenes]
    else:
        found = (read(path) for path in sorted(given.iterdir()))
        images = [image for image in found if image.shape[1] >= 800]
    chosen = [images[i * len(images) // count] for i in range(count)]
    for number, image in enumerate(chosen):
        height, width = image.shape[:2]
        scale = max(WIDTH / width, HEIGHT / height)
        large = cv2.resize(
            image, (round(width * scale + 0.5), round(height * scale + 0.5)),
            interpolation=cv2.INTER_CUBIC,
        )  # fmt: skip
        top, left = (large.shape[0] - HEIGHT) // 2, (large.shape[1] - WIDTH) // 2
        photo = large[top : top + HEIGHT, left : left + WIDTH]
        cv2.imwrite(str(out / f"{number:04}.jpg"), photo, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])


def warm_table(times: dict[str, NDArray[np.float64]]) -> dict[str, Any]:
    """Return medians in milliseconds, and each of ours as a multiple of each rival."""
    table: dict[str, Any] = {
        name: {
            "wall_ms": round(float(np.median(rows[:, 0])) * 1000, 1),
            "least_wall_ms": round(float(rows[:, 0].min()) * 1000, 1),
            "cpu_ms": round(float(np.median(rows[:, 1])) * 1000, 1),
        }
        for name, rows in times.items()
    }
    for name in [name for name in times if name.startswith("plateblur")]:
        table[name]["times"] = {
            rival: {
                # Photo by photo, because both were given it in the same moment.
                "wall": round(float(np.median(times[name][:, 0] / times[rival][:, 0])), 2),
                "least_wall": round(float(times[name][:, 0].min() / times[rival][:, 0].min()), 2),
                "cpu": round(float(np.median(times[name][:, 1] / times[rival][:, 1])), 2),
            }
            for rival in times
            if not rival.startswith("plateblur")
        }
    return table


def folder_table(times: dict[str, NDArray[np.float64]]) -> dict[str, Any]:
    """Return the least seconds of a folder, and each of ours as a multiple of each rival."""
    table: dict[str, Any] = {
        name: {
            "wall_s": [round(float(wall), 2) for wall in rows[:, 0]],
            "cpu_s": round(float(rows[:, 1].min()), 2),
        }
        for name, rows in times.items()
    }
    for name in [name for name in times if name.startswith("plateblur")]:
        table[name]["times"] = {
            rival: {
                "wall": round(float(np.median(times[name][:, 0] / times[rival][:, 0])), 2),
                "least_wall": round(float(times[name][:, 0].min() / times[rival][:, 0].min()), 2),
                "cpu": round(float(times[name][:, 1].min() / times[rival][:, 1].min()), 2),
            }
            for rival in times
            if not rival.startswith("plateblur")
        }
    return table


def main() -> None:
    """Read the command line, time all, and write the ratios."""
    parser = argparse.ArgumentParser(description="Time plateblur against a dozen lines.")
    parser.add_argument("--photos", type=Path, help="folder of photos; drawn scenes without it")
    parser.add_argument("--count", type=int, default=120, help="photos of the folder")
    parser.add_argument("--warm", type=int, default=40, help="photos in a warm process; 0: none")
    parser.add_argument("--rounds", type=int, default=3, help="runs of the folder; 0: none")
    parser.add_argument("--only", nargs="+", default=list(CONTESTANTS), choices=CONTESTANTS)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(given.serve, given.out)
        return
    if given.folder:
        folder_script(given.folder, given.photos, given.out)
        return
    packages = ("onnxruntime", "openvino", "ultralytics-opencv-headless", "opencv-python-headless")
    table: dict[str, Any] = {
        "machine": machine(),
        "load_average": round(os.getloadavg()[0], 1),  # beyond the cores, compare CPU times
        "packages": {name: importlib.metadata.version(name) for name in packages},
        "photos": f"{given.count} JPEGs of {WIDTH} x {HEIGHT}, "
        + ("scaled from given photos" if given.photos else "drawn"),
    }
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        prepare(given.photos, given.count, work / "photos")
        if given.warm:
            photos = sorted((work / "photos").iterdir())[: given.warm]
            table["one photo, warm"] = warm_table(time_warm(given.only, photos, work))
        if given.rounds:
            names = [name for name in given.only if not name.startswith("floor")]
            rows: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
            for round_ in range(given.rounds):
                for i, name in enumerate(names):
                    out = work / f"folder-{round_}-{i}"
                    rows[name].append(time_folder(name, work / "photos", out))
            table["folder"] = folder_table({name: np.array(r) for name, r in rows.items()})
    given.results.write_text(json.dumps(table, indent=2) + "\n")
    print(json.dumps(table, indent=2))


if __name__ == "__main__":
    main()
