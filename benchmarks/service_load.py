"""Load on the documented endpoint against bare `blur_photo`, on the same cores, in one run.

    python -m benchmarks.service_load [--seconds 120]

The service runs as people start it (one process, SQLite), and 16 clients in this process post the
same drawn 1080p JPEG; their sending and reading is paid from the same cores. Before and after it,
a process of its own calls `blur_photo` in as many threads as the service has for photos. Absolute
times are this machine's; what travels is the ratio. The figures go into
`benchmarks/results/service_load.json`.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from benchmarks.machine import machine
from benchmarks.service import make_accounts, serving
from plateblur import drawn
from plateblur.detector import OnnxDetector, shipped_model
from plateblur.pipeline import blur_photo
from plateblur.types import BlurOptions
from plateblur.web.schemas import RETURNED_ABOVE
from plateblur.web.settings import Settings

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "service_load.json"
PATH = "/plateblurer.aspx"
ACCOUNTS = 100  # A package allows 50 requests a minute; so many allow 83 a second.
CLIENTS = 16
MEMORY_AFTER = (200, 2000)  # requests
ALONE = 60  # requests of one client, to part the photo from what is not the photo
BARE_SHARE = 4  # a quarter of the load's time goes to `blur_photo` alone, before and after it
WARM_UP = 5  # photos
THREADS = Settings().blur_threads


@dataclass
class Load:
    """What the clients saw.

    Attributes:
        times_s: of each answered request.
        errors: what came instead of an answer.
        took_s: from the first request to the last answer.
        rss_kib: resident memory of the service after so many requests.
    """

    times_s: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    took_s: float = 0.0
    rss_kib: dict[int, int] = field(default_factory=dict)


def photo() -> bytes:
    """Return the drawn JPEG, 1920x1080."""
    return drawn.encode(drawn.draw_scene(11, plates=3).image)


def bare(seconds: float, model: Path) -> dict[str, float]:
    """Return photos a second and CPU seconds a photo of `blur_photo` in `THREADS` threads."""
    data = photo()
    options = BlurOptions(min_confidence=RETURNED_ABOVE, draw_boxes=True)
    detector = OnnxDetector(model, threads=max(1, (os.cpu_count() or 1) // THREADS))
    for _ in range(WARM_UP):
        blur_photo(data, detector, options)
    started, cpu = time.perf_counter(), time.process_time()

    def work(_: int) -> int:
        done = 0
        while time.perf_counter() - started < seconds:
            blur_photo(data, detector, options)
            done += 1
        return done

    with ThreadPoolExecutor(THREADS) as pool:
        photos = sum(pool.map(work, range(THREADS)))
    return {
        "photos_a_second": photos / (time.perf_counter() - started),
        "cpu_s_a_photo": (time.process_time() - cpu) / photos,
    }


def bare_in_its_own_process(seconds: float, model: Path) -> dict[str, float]:
    """Return what `bare` measures, without the service's or the clients' memory around it."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks.service_load"),
            *("--bare", str(seconds), "--model", str(model)),
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def post(connection: http.client.HTTPConnection, body: bytes, authorization: str) -> str:
    """Send one request; return "" for a photo, else the beginning of what came."""
    connection.request(
        "POST", PATH, body, {"Authorization": authorization, "Content-Type": "application/json"}
    )
    answer = connection.getresponse().read()
    return "" if answer.startswith(b'{"created"') else answer[:80].decode(errors="replace")


def load(
    port: int, pid: int, body: bytes, headers: list[str], *, seconds: float, requests: int
) -> Load:
    """Return what `CLIENTS` see in so many seconds, or in as many more as `requests` need."""
    seen, numbers, lock = Load(), count(), threading.Lock()
    started = time.perf_counter()

    def client(_: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        while True:
            with lock:
                number = next(numbers)
            asked = time.perf_counter()
            if number >= requests and asked - started >= seconds:
                break
            error = post(connection, body, headers[number % len(headers)])
            took = time.perf_counter() - asked
            with lock:
                seen.errors += [error] if error else []
                seen.times_s += [] if error else [took]
                if len(seen.times_s) in MEMORY_AFTER:
                    seen.rss_kib[len(seen.times_s)] = rss_kib(pid)
        connection.close()

    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(client, range(CLIENTS)))
    seen.took_s = time.perf_counter() - started
    return seen


def not_the_photo(port: int, body: bytes, headers: list[str], *, requests: int) -> float:
    """Return the share of a request's time that is not the photo, of one client alone.

    Alone, because with many the rest waits for the photo of somebody else. The service's own
    metrics give both times.
    """
    before = metrics(port)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    for number in range(requests):
        if error := post(connection, body, headers[number % len(headers)]):
            raise RuntimeError(f"expected a photo, got {error}")
    connection.close()
    after = metrics(port)
    return 1 - (after["blur"] - before["blur"]) / (after["request"] - before["request"])


def metrics(port: int) -> dict[str, float]:
    """Return the seconds that the service spent on photos, and on whole requests."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    patterns = {
        "blur": r"^plateblur_blur_seconds_sum (\S+)",
        "request": rf'^plateblur_request_seconds_sum{{route="{PATH}"}} (\S+)',
    }
    found = {name: re.search(pattern, text, re.MULTILINE) for name, pattern in patterns.items()}
    return {name: float(one[1]) if one else 0.0 for name, one in found.items()}


def rss_kib(pid: int) -> int:
    """Return the resident memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


def cpu_s(pid: int, *, with_ended: bool = False) -> float:
    """Return the CPU seconds that a process has used, and its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11 : 15 if with_ended else 13])) / os.sysconf("SC_CLK_TCK")


def measure(*, seconds: float, requests: int, model: Path) -> dict[str, object]:
    """Return the figures of one run."""
    body = json.dumps({"base64_Photo_String": base64.b64encode(photo()).decode()}).encode()
    alone = [bare_in_its_own_process(seconds / BARE_SHARE, model)]
    with tempfile.TemporaryDirectory() as folder:
        headers = make_accounts(Path(folder), ACCOUNTS)
        with serving(Path(folder), model=model) as (port, pid):
            # Each account's first request pays for argon2; the service remembers it for minutes.
            not_the_photo(port, body, headers, requests=ACCOUNTS)
            share = not_the_photo(port, body, headers, requests=ALONE)
            cpu_before = cpu_s(pid)
            seen = load(port, pid, body, headers, seconds=seconds, requests=requests)
            cpu_a_photo = (cpu_s(pid) - cpu_before) / max(1, len(seen.times_s))
    alone.append(bare_in_its_own_process(seconds / BARE_SHARE, model))
    bare_rate = statistics.mean(one["photos_a_second"] for one in alone)
    bare_cpu = statistics.mean(one["cpu_s_a_photo"] for one in alone)
    rate = len(seen.times_s) / seen.took_s
    few, many = (seen.rss_kib.get(after, 0) for after in MEMORY_AFTER)
    cuts = statistics.quantiles(seen.times_s, n=100)
    return {
        "machine": machine(),
        "photo": f"drawn JPEG, 1920x1080, {len(body)} bytes of JSON",
        "clients": CLIENTS,
        "seconds": round(seen.took_s, 1),
        "requests": len(seen.times_s) + len(seen.errors),
        "errors": len(seen.errors),
        "first_errors": seen.errors[:3],
        "photos_a_second": {
            "service": round(rate, 2),
            "blur_photo before and after": [round(one["photos_a_second"], 2) for one in alone],
        },
        "service_to_blur_photo": round(rate / bare_rate, 3),
        "median_ms": round(statistics.median(seen.times_s) * 1000, 1),
        "p99_ms": round(cuts[98] * 1000, 1),
        "share_not_the_photo": round(share, 4),
        "cpu_ms_a_photo": {
            "service": round(cpu_a_photo * 1000, 1),
            "blur_photo": round(bare_cpu * 1000, 1),
        },
        "rss_mib": {str(after): round(kib / 1024, 1) for after, kib in seen.rss_kib.items()},
        "rss_growth": round(many / few - 1, 4) if few and many else None,
    }


def main() -> None:
    """Measure and write the figures, or print those of `blur_photo` alone."""
    parser = argparse.ArgumentParser(description="Load the documented endpoint.")
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--requests", type=int, default=MEMORY_AFTER[-1], help="at least so many")
    parser.add_argument("--model", type=Path, default=shipped_model())
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--bare", type=float, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.bare is not None:
        print(json.dumps(bare(asked.bare, asked.model)))
        return
    figures = measure(seconds=asked.seconds, requests=asked.requests, model=asked.model)
    asked.out.parent.mkdir(exist_ok=True)
    asked.out.write_text(json.dumps(figures, indent=2) + "\n")
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
