"""One and two workers side by side, as threads and on Ray; and where 100 nodes would saturate.

    python -m benchmarks.cluster [--photos 240]
    python -m benchmarks.cluster --long 10000

Everything runs on this machine: the command in a process of its own, Ray's nodes with a core each
beside a head without any, and moto's S3 server. Drawn 1080p JPEGs. What doesn't depend on the
machine is counted: bytes that a photo sends through Ray, lines of the manifest, requests to the
bucket. How many photos a second the driver could serve follows from its own processor time. The
figures go into `benchmarks/results/cluster.json`; `docs/measured_runs.py` makes the calculation.

`--long` does a run over so many small photos on Ray instead, from and to the bucket: the command is
killed (SIGKILL) and run again, and a node is killed.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np

from benchmarks.machine import machine
from benchmarks.survey import CALL, SIZES, Lines, check, draw, resident_mb, run_part
from plateblur.cores import cores
from plateblur.runs.cluster_worker import Ended, Given, Line, Reply
from plateblur.runs.manifest import MANIFEST_NAME, Manifest
from plateblur.runs.plan import Job, Task
from plateblur.runs.progress import Done
from plateblur.runs.settle import Before
from tests.buckets import Bucket, is_open, wait_for
from tests.ports import free_port
from tests.rays import Nodes, ray_cluster

RESULTS = Path(__file__).parent / "results" / "cluster.json"
SIZE = (1080, 1920)
SCENES = 12
BATCHES = (1, 16, 256)  # lines that the driver writes with one fsync
LONGEST_S = 7200.0  # that a long run may take until its node is killed
IN_BUCKET = 2  # lines of a photo: before its output is put there, and after
AT_WORK = 0.1  # of the photos are done: everything is loaded, and every worker has its hands full


def run(
    arguments: Sequence[str],
    environment: dict[str, str] | None = None,
    *,
    manifest: Path,
    photos: int,
) -> dict[str, float]:
    """Run the command, and return its seconds, processor time and largest memory.

    `at_work` is the photos a second between the first tenth of the photos and the last photo,
    without what a start and an end cost, and `at_work_busy` the machine's busy share in that time.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    lines, marks = Lines(manifest), list[tuple[int, float, tuple[float, float]]]()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    machine_before = _busy_and_all()
    started = time.monotonic()
    largest = worker = 0.0
    everything = {**os.environ, **(environment or {})}  # noqa: TID251
    command = [sys.executable, "-c", CALL, *arguments]
    with subprocess.Popen(command, env=everything, stderr=subprocess.DEVNULL) as child:
        while child.poll() is None:
            time.sleep(0.2)
            largest = max(largest, resident_mb(child.pid))
            worker = max([worker, *map(resident_mb, workers_of_ray())])
            done = min(lines.update(), photos)
            if done >= AT_WORK * photos and (not marks or done > marks[-1][0]):
                marks.append((done, time.monotonic(), _busy_and_all()))
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, command)
    seconds = time.monotonic() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    (first, first_s, first_ticks), (last, last_s, last_ticks) = marks[0], marks[-1]
    return {
        "seconds": seconds,
        "cpu_s": cpu,
        "memory_mb": largest,
        "worker_mb": worker,
        "machine_busy": _busy(machine_before, _busy_and_all()),
        "at_work": (last - first) / (last_s - first_s),
        "at_work_busy": _busy(first_ticks, last_ticks),
    }


def _busy(before: tuple[float, float], after: tuple[float, float]) -> float:
    """Return the share of the machine's processor time that was used."""
    return (after[0] - before[0]) / (after[1] - before[1])


def workers_of_ray() -> list[int]:
    """Return the process ids of Ray's workers on this machine that do photos."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has ended
            if path.read_bytes().startswith(b"ray::Worker"):
                found.append(int(path.parent.name))
    return found


def _busy_and_all() -> tuple[float, float]:
    """Return the machine's busy and whole processor time so far, in ticks."""
    ticks = list(map(int, Path("/proc/stat").read_text().splitlines()[0].split()[1:9]))
    return float(sum(ticks) - ticks[3] - ticks[4]), float(sum(ticks))


def row(name: str, photos: int, took: dict[str, float], *, driver_alone: bool) -> dict[str, Any]:
    """Return what a run showed; on a cluster its processor time is the driver's alone."""
    shown: dict[str, Any] = {
        "how": name,
        "photos": photos,
        "seconds": round(took["seconds"], 1),
        "photos a second": round(photos / took["seconds"], 2),
        "busy share of the machine": round(took["machine_busy"], 3),
        "photos a second at work": round(took["at_work"], 2),
        "busy share at work": round(took["at_work_busy"], 3),
    }
    if driver_alone:
        return shown | {
            "driver CPU ms a photo": round(1000 * took["cpu_s"] / photos, 2),
            "worker MB": round(took["worker_mb"]),
        }
    return shown | {
        "photos a core hour": round(3600 * photos / took["cpu_s"]),
        "busy share of the cores": round(took["cpu_s"] / took["seconds"] / cores(), 3),
        "memory MB": round(took["memory_mb"]),
    }


@contextmanager
def s3(log: Path) -> Iterator[Bucket]:
    """Start moto's S3 server, which writes a line for each request into `log`."""
    port = free_port()
    environment = {
        "AWS_ACCESS_KEY_ID": "drawn",
        "AWS_SECRET_ACCESS_KEY": "drawn",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
    }
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with log.open("w") as file, subprocess.Popen(command, stdout=file, stderr=file) as child:
        try:
            wait_for(lambda: is_open(port))
            bucket = Bucket("s3://survey", environment)
            bucket.call("make", bucket.url, "")
            yield bucket
        finally:
            child.terminate()


def requests_in(log: Path) -> Counter[str]:
    """Return how many requests of each kind the server has answered."""
    return Counter(re.findall(r'"(GET|HEAD|PUT|POST|DELETE) ', log.read_text()))


def side_by_side(given: Path, folder: Path, photos: int, cluster: Nodes) -> list[dict[str, Any]]:
    """Return runs of the same photos: threads and Ray, one worker and two."""
    rows = []
    for where, more in (("this machine", []), ("Ray", ["--cluster", cluster.address])):
        for workers in (1, 2):
            out = folder / f"{where}-{workers}"
            line = ["blur", str(given), "-o", str(out), "-q", "--workers", str(workers), *more]
            took = run(line, manifest=out / MANIFEST_NAME, photos=photos)
            check(given, out, out / MANIFEST_NAME)
            name = f"{where}, {workers} {'worker' if workers == 1 else 'workers'}"
            rows.append(row(name, photos, took, driver_alone=bool(more)))
            print(rows[-1])
    return rows


def killed_node(given: Path, folder: Path, photos: int, cluster: Nodes) -> dict[str, Any]:
    """Return a run from a disk to the same disk in which a node is killed halfway."""
    out = folder / "killed"
    command = ["blur", str(given), "-o", str(out), "-q", "--cluster", cluster.address]
    lines = Lines(out / MANIFEST_NAME)
    with subprocess.Popen([sys.executable, "-c", CALL, *command]) as child:
        wait_for(lambda: lines.update() >= photos // 2 or child.poll() is not None)
        at = lines.count
        cluster.kill_one()
        code = child.wait()
    cluster.add(cores=1)
    return {
        "photos": photos,
        "node killed after": at,
        "exit code": code,
        **check(given, out, out / MANIFEST_NAME),
    }


def through_a_bucket(
    bucket: Bucket, log: Path, given: Path, photos: int, cluster: Nodes
) -> list[dict[str, Any]]:
    """Return runs from S3 to S3 here and on Ray, and how many requests a photo takes."""
    rows = []
    some = sorted(given.glob("*.jpg"))[:photos]
    bucket.put({f"in/{path.name}": path.read_bytes() for path in some})
    for name, more in (("this machine", []), ("Ray", ["--cluster", cluster.address])):
        seen = requests_in(log)
        line = ["blur", "s3://survey/in", "-o", f"s3://survey/{name[:3]}", "-q", *more]
        manifest = Path(f"{log}-{name[:3]}.jsonl")
        took = run(
            [*line, "--manifest", str(manifest)],
            bucket.environment,
            manifest=manifest,
            photos=len(some),
        )
        made = requests_in(log) - seen
        each = {kind: round(count / len(some), 2) for kind, count in sorted(made.items())}
        shown = row(f"S3 to S3, {name}", len(some), took, driver_alone=bool(more))
        rows.append(shown | {"requests a photo": each})
        if len(bucket.files(name[:3])) != len(some):
            raise ValueError("a photo is missing in the bucket")
    return rows


def long_run(bucket: Bucket, folder: Path, photos: int, cluster: Nodes) -> dict[str, Any]:
    """Return a run from S3 to S3 in which the command is killed, then a node, checked in the end.

    Raises:
        ValueError: a photo is lost, or an output isn't as its last line says.
    """
    given, out, manifest = folder / "many", folder / "many-out", folder / "many.jsonl"
    draw(given, photos=photos, scenes=min(photos, 100), sizes=SIZES)
    bucket.call("put", f"{bucket.url}/many", str(given))
    line = ["blur", f"{bucket.url}/many", "-o", f"{bucket.url}/many-out", "-q"]
    line += ["--cluster", cluster.address, "--manifest", str(manifest)]
    lines = Lines(manifest)
    at = [photos * share // 10 for share in (3, 6)]
    killed = run_part(line, lines, until=at[0] * IN_BUCKET)
    ended = Event()
    loss = Thread(target=_lose_a_node, args=(cluster, manifest, at[1] * IN_BUCKET, ended))
    loss.start()
    rest = run_part(line, lines, until=None)
    ended.set()
    loss.join()
    out.mkdir()
    bucket.call("get", f"{bucket.url}/many-out", str(out))
    seconds = killed.seconds + rest.seconds
    return {
        "photos": photos,
        "sizes": [f"{width} x {height}" for height, width in SIZES],
        "command killed after": killed.lines // IN_BUCKET,
        "node killed after": at[1],
        "exit codes": [killed.code, rest.code],
        "seconds": round(seconds, 1),
        "photos a second": round(photos / seconds, 2),
        "memory MB of the command, 10 equal parts of its time": [
            round(float(np.median(some))) for some in np.array_split(rest.memory_mb, 10)
        ],
        **check(given, out, manifest, lines_each=IN_BUCKET),
    }


def _lose_a_node(cluster: Nodes, manifest: Path, after: int, ended: Event) -> None:
    lines = Lines(manifest)
    wait_for(lambda: lines.update() >= after or ended.is_set(), timeout_s=LONGEST_S)
    cluster.kill_one()


def parts(folder: Path, sample: Path) -> dict[str, Any]:
    """Return bytes of the messages, and lines a second, with lines as a run wrote them."""
    lines = [json.loads(line) for line in sample.read_text().splitlines()]
    photo = next(line for line in lines if "output" in line)
    task = Task(Job(Path(photo["photo"]), Path(photo["output"])), Path("/out/a.jpg"), "a.jpg")
    sizes = {
        "to the worker": Given(1, task, Before(None, may_count=False)),
        "line to the driver": Line(1, photo, None),
        "answer": Reply(1, 100),
        "end to the driver": Ended(1, Done(line=100, plates=2)),
    }
    rates = {}
    for batch in BATCHES:
        manifest = Manifest(folder / f"{batch}.jsonl")
        manifest.append({"manifest": 1, "run": 1, "software": "", "settings": {}})
        count, started = 0, time.monotonic()
        while time.monotonic() - started < 2:
            manifest.append_all([photo] * batch)
            count += batch
        rates[str(batch)] = round(count / (time.monotonic() - started))
        manifest.close()
    photos = sorted((folder / "in").glob("*.jpg"))
    return {
        "message bytes": {name: len(pickle.dumps(one)) for name, one in sizes.items()},
        "manifest lines a second, by lines an fsync": rates,
        "photo bytes": round(sum(path.stat().st_size for path in photos) / len(photos)),
        "output bytes": photo["written"]["size"],
    }


def _all_figures(
    bucket: Bucket, log: Path, folder: Path, asked: argparse.Namespace, cluster: Nodes
) -> dict[str, Any]:
    given = folder / "in"
    draw(given, photos=asked.photos, scenes=min(asked.photos, SCENES), sizes=[SIZE])
    return {
        "machine": machine(),
        "photo": f"{SIZE[1]} x {SIZE[0]} JPEG, drawn",
        "side by side": side_by_side(given, folder, asked.photos, cluster),
        "node killed": killed_node(given, folder, asked.photos, cluster),
        "bucket": through_a_bucket(bucket, log, given, asked.in_bucket, cluster),
        "parts": parts(folder, folder / "this machine-2" / MANIFEST_NAME),
    }


def main() -> None:
    """Read the command line, measure, and write the figures."""
    parser = argparse.ArgumentParser(description="Measure workers side by side, and on Ray.")
    parser.add_argument("--photos", type=int, default=240)
    parser.add_argument("--in-bucket", type=int, default=60)
    parser.add_argument("--long", type=int, help="a run of so many photos that is killed, alone")
    parser.add_argument("--results", type=Path, default=RESULTS)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="plateblur-cluster-") as name:
        folder = Path(name)
        log = folder / "s3.log"
        with s3(log) as bucket:
            os.environ.update(bucket.environment)  # noqa: TID251 - Ray's nodes inherit it
            with ray_cluster(nodes=2) as cluster:
                if asked.long:
                    figures = json.loads(asked.results.read_text())
                    figures["long run"] = long_run(bucket, folder, asked.long, cluster)
                else:
                    figures = _all_figures(bucket, log, folder, asked, cluster)
    print(json.dumps(figures, indent=1))
    asked.results.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
