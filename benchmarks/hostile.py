"""Attack the service, and report what came back, what it cost, and how long others waited.

    python -m benchmarks.hostile [--only 3 5] [--soak] [--minutes 5]

The service runs as people start it (one process, SQLite) in a temporary folder. Each attack of the
table at the end is sent as often and as parallel as its row says, while another client posts a
small drawn photo in a loop. `--soak` sends 200 requests drawn from all rows, from several clients,
spread over five minutes. The figures go into `benchmarks/results/hostile.json`; with `--only`, the
other rows stay as they were.

A row is a function that sends one hostile request and returns, in a few words, what came back.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import io
import json
import os
import random
import socket
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

from PIL import Image as PillowImage

from benchmarks.attacks import (
    DOCUMENTED,
    ON_THE_API,
    Attack,
    Service,
    many_keys,
    many_objects,
    street_with_a_profile,
    summary,
)
from benchmarks.attacks_on_pages import ON_PAGES, taken, visitor
from benchmarks.machine import machine
from benchmarks.service import is_ready, make_accounts, serving
from plateblur.drawn.scene import draw_scene

ROOT = Path(__file__).parents[1]


RESULTS = ROOT / "benchmarks" / "results" / "hostile.json"
ACCOUNTS = 24  # A package allows 50 requests a minute.
ATTACKERS = 8  # of the accounts; the others are of the client beside them
WARM_UP = 60  # photos; then memory is what it stays
QUIET_S = 15.0
SETTLE_S = 15.0  # The service gives freed memory back every ten seconds.
PAUSE_S = 0.05  # of the client beside the attack, between two photos
SOAK_REQUESTS, SOAK_CLIENTS = 200, 6
ATTACKS = (*ON_THE_API, *ON_PAGES)


# --- The service -----------------------------------------------------------------------------


@contextmanager
def attacked() -> Iterator[Service]:
    """Run the service with fresh accounts for the block; raises where it crashed."""
    with tempfile.TemporaryDirectory() as folder, name_server() as nameserver:
        # Keys, because passwords are slowed for an address from which some are guessed.
        headers = make_accounts(Path(folder), ACCOUNTS, keys_from=ATTACKERS)
        settings = {"PLATEBLUR_PHOTO_URL_NAMESERVERS": nameserver, "PLATEBLUR_DEMO": "true"}
        with serving(Path(folder), settings=settings) as (port, pid):
            yield Service(port, pid, headers[:ATTACKERS], headers[ATTACKERS:], Path(folder))


@contextmanager
def name_server() -> Iterator[str]:
    """Run a name server for the block that knows no name, and of `silent.test` says nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))

        def answer() -> None:
            while True:
                question, client = server.recvfrom(4096)
                if question == b"end":
                    return
                if b"\x06silent" not in question:
                    unknown = question[:2] + b"\x81\x83" + question[4:6] + bytes(6)
                    name_end = question.index(b"\0", 12) + 5
                    server.sendto(unknown + question[12:name_end], client)

        thread = threading.Thread(target=answer)
        thread.start()
        host, port = server.getsockname()
        try:
            yield f"{host}:{port}"
        finally:
            server.sendto(b"end", (host, port))
            thread.join()


def rss_mib(pid: int) -> float:
    """Return the resident memory of a process and of those that it started."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:  # it has ended meanwhile
        return 0.0
    own = int(status.partition("VmRSS:")[2].split()[0]) / 1024
    return own + sum(rss_mib(int(child)) for child in children)


# --- Measuring -------------------------------------------------------------------------------


@dataclass
class Waits:
    """What the client beside the attacks saw: seconds a photo, and what came instead of one."""

    times_s: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def figures(self) -> dict[str, Any]:
        """Return them in words."""
        times = self.times_s or [float("nan")]
        return {
            "photos": len(self.times_s),
            "median_ms": round(statistics.median(times) * 1000, 1),
            "worst_ms": round(max(times) * 1000, 1),
            "errors": self.errors[:3],
        }


@contextmanager
def somebody_else(service: Service) -> Iterator[Waits]:
    """Post a small photo in a loop for the block, on the accounts of nobody hostile."""
    seen, over = Waits(), threading.Event()
    photo = PillowImage.fromarray(draw_scene(11, plates=2).image).resize((640, 360))
    out = io.BytesIO()
    photo.save(out, "JPEG")
    body = json.dumps({"base64_Photo_String": base64.b64encode(out.getvalue()).decode()}).encode()

    def loop() -> None:
        for authorization in cycle(service.others):
            if over.is_set():
                return
            started = time.perf_counter()
            try:
                answer = service.post(DOCUMENTED, body, authorization=authorization)
            except OSError as error:
                seen.errors.append(type(error).__name__)
                continue
            if answer[1].startswith(b'{"created"'):
                seen.times_s.append(time.perf_counter() - started)
            else:
                seen.errors.append(summary(answer))
            over.wait(PAUSE_S)

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def warm_up(service: Service) -> None:
    """Have every account known, all bodies drawn, and the memory that photos take taken."""
    for make in (many_objects, many_keys, street_with_a_profile):
        make()
    with somebody_else(service) as seen:
        while len(seen.times_s) + len(seen.errors) < WARM_UP:
            time.sleep(0.1)
    large = base64.b64encode(street_with_a_profile()).decode()
    body = json.dumps({"base64_Photo_String": large}).encode()  # Without crops nothing hostile.
    with ThreadPoolExecutor(4) as clients:  # Several at once, so that every worker is at work.
        for authorization in service.attackers:
            clients.submit(service.post, DOCUMENTED, body, authorization=authorization)
    with visitor(service) as client:
        taken(client, "nothing")
    time.sleep(SETTLE_S)


def run(service: Service, attack: Attack) -> dict[str, Any]:
    """Return the figures of one row."""
    before, started = rss_mib(service.pid), time.perf_counter()
    with somebody_else(service) as seen, ThreadPoolExecutor(attack.at_once) as clients:
        came = Counter(clients.map(lambda _: attempt(service, attack), range(attack.times)))
    seconds = time.perf_counter() - started
    time.sleep(SETTLE_S)
    return {
        "item": attack.item,
        "what": attack.what,
        "requests": attack.times,
        "at_once": attack.at_once,
        "came_back": dict(came),
        "seconds": round(seconds, 1),
        "rss_mib": {"before": round(before, 1), "after": round(rss_mib(service.pid), 1)},
        "others": seen.figures(),
    }


def attempt(service: Service, attack: Attack) -> str:
    """Send one request; a network error is an answer too."""
    try:
        return attack.once(service)
    except (OSError, http.client.HTTPException) as error:
        return type(error).__name__


def soak(service: Service, *, minutes: float, quiet_ms: float) -> dict[str, Any]:
    """Return the figures of all rows mixed."""
    before, started = rss_mib(service.pid), time.perf_counter()
    every_s = minutes * 60 / SOAK_REQUESTS
    peak, came = before, Counter[str]()

    def one(number: int) -> str:
        time.sleep(max(0.0, started + number * every_s - time.perf_counter()))
        attack = random.choice([one for one in ATTACKS if one.mixes])  # noqa: S311 - no secret
        return f"{attack.what}: {attempt(service, attack)}"

    with somebody_else(service) as seen, ThreadPoolExecutor(SOAK_CLIENTS) as clients:
        for answer in clients.map(one, range(SOAK_REQUESTS)):
            came[answer] += 1
            peak = max(peak, rss_mib(service.pid))
    seconds = time.perf_counter() - started
    time.sleep(SETTLE_S)
    after, others = rss_mib(service.pid), seen.figures()
    return {
        "requests": SOAK_REQUESTS,
        "clients": SOAK_CLIENTS,
        "seconds": round(seconds, 1),
        "crashed": not is_ready(service.port),
        "came_back": dict(sorted(came.items())),
        "rss_mib": {"before": round(before, 1), "peak": round(peak, 1), "after": round(after, 1)},
        "rss_growth": round(after / before - 1, 3),
        "others": others,
        "median_wait_to_quiet": round(others["median_ms"] / quiet_ms, 2),
    }


def main() -> None:
    """Attack, print and write the figures."""
    parser = argparse.ArgumentParser(description="Attack the service.")
    parser.add_argument("--only", nargs="*", default=None, help="items of the issue")
    parser.add_argument("--soak", action="store_true", help="all of them mixed, nothing else")
    parser.add_argument("--minutes", type=float, default=5, help="of the soak")
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args()
    figures: dict[str, Any] = json.loads(asked.out.read_text()) if asked.out.exists() else {}
    rows = {row["what"]: row for row in figures.get("attacks", [])}
    with attacked() as service:
        warm_up(service)
        with somebody_else(service) as seen:
            time.sleep(QUIET_S)
        figures["machine"] = machine()
        figures["load_average"] = round(
            os.getloadavg()[0], 1
        )  # Above the cores: others worked too.
        figures["quiet"] = seen.figures() | {"rss_mib": round(rss_mib(service.pid), 1)}
        show("quiet", figures["quiet"])
        if asked.soak:
            quiet_ms = figures["quiet"]["median_ms"]
            figures["soak"] = soak(service, minutes=asked.minutes, quiet_ms=quiet_ms)
            show("soak", figures["soak"])
        else:
            for attack in ATTACKS:
                if asked.only is None or attack.item in asked.only:
                    rows[attack.what] = run(service, attack)
                    show(f"item {attack.item}", rows[attack.what])
                    figures["attacks"] = [rows[one.what] for one in ATTACKS if one.what in rows]
                    write(asked.out, figures)
        write(asked.out, figures)


def write(out: Path, figures: dict[str, Any]) -> None:
    """Write the figures; after each row, so that a run that is cut off was not for nothing."""
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(figures, indent=2) + "\n")


def show(title: str, figures: dict[str, Any]) -> None:
    """Print the figures of one row."""
    print(f"{title}: {json.dumps(figures)}", flush=True)


if __name__ == "__main__":
    main()
