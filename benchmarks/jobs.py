"""Many jobs from several clients, while hosts are killed at random: is every photo answered once?

    python -m benchmarks.jobs [--jobs 200 --photos 20 --clip-every 5 --clients 8]
    python -m benchmarks.jobs --no-kills [--jobs 200 --photos 20 --clients 8 --rounds 5]

Two hosts are two processes of the service that share a PostgreSQL of this run's own. Each client
is an account: it posts jobs, waits for the webhook, fetches each result, and repeats whatever
breaks, as a client of the API would. With kills, some jobs have a short drawn clip beside their
photos, and one host after the other is ended with SIGKILL and started again.

Without kills, one host is compared with `blur_photo` alone in as many threads. The two take turns,
so that other work on the machine meets both; where there is any, compare the processor time of a
photo, because jobs have more processes and so get more of a busy machine. The clients run on the
same cores, so their processor time slows the jobs, and is given beside the service's. The figures
go into `benchmarks/results/jobs.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx

from benchmarks.jobs_clients import PATIENCE_S, Asking, Plan, Seen, client, form, receiver
from benchmarks.jobs_host import SECRET
from benchmarks.machine import machine
from benchmarks.service import PASSWORD, address_of, free_port
from benchmarks.service_load import THREADS, bare_in_its_own_process, cpu_s, photo
from plateblur.accounts import invoices, quota, signup
from plateblur.accounts.credentials import Hasher
from plateblur.accounts.store import Store
from plateblur.accounts.types import PlanKind
from plateblur.detector import shipped_model
from tests.accounts.fakes import Postgres, postgres_binaries
from tests.clips import drawn_clip, driving

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "jobs.json"
KILL_EVERY_S = (6.0, 14.0)
CLIP_FRAMES = 12
BARE_S = 20.0

Command = Callable[[str, int, int], list[str]]
"""From the database's URL, the host's port, and the webhooks' port, to what runs a host."""


class Hosts:
    """Processes of the service, which can be killed and come back."""

    def __init__(self, commands: list[list[str]], ports: list[int]) -> None:
        self._commands, self.ports = commands, ports
        self._processes = [self._started(command) for command in commands]
        self._lock = threading.Lock()

    def _started(self, command: list[str]) -> subprocess.Popen[bytes]:
        quiet = subprocess.DEVNULL
        return subprocess.Popen(command, cwd=ROOT, stdout=quiet, stderr=quiet)

    def wait(self) -> None:
        """Wait until all of them answer."""
        deadline = time.monotonic() + PATIENCE_S
        for port in self.ports:
            while not is_alive(port):
                if time.monotonic() > deadline:
                    raise RuntimeError(f"expected a host on port {port}, got no answer")
                time.sleep(0.2)

    def kill(self, number: int) -> None:
        """Kill one, and start it again."""
        with self._lock:
            self._processes[number].send_signal(signal.SIGKILL)
            self._processes[number].wait()
            self._processes[number] = self._started(self._commands[number])

    @property
    def pids(self) -> list[int]:
        """The process of each."""
        return [process.pid for process in self._processes]

    def end(self) -> None:
        """End all."""
        for process in self._processes:
            process.kill()
            process.wait()


def is_alive(port: int) -> bool:
    """Return whether a service answers on `port`."""
    try:
        return httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=5).is_success
    except httpx.HTTPError:
        return False


def storm(store: Store, url: str, plan: Plan, command: Command, data: bytes) -> Seen:
    """Return what becomes of the jobs of `plan`.

    Args:
        store: open, with the accounts of `make_accounts`.
        url: of the same database.
        plan: what is done.
        command: runs a host.
        data: each photo.
    """
    seen, over = Seen(), threading.Event()
    with served(plan, url, command, seen) as (hosts, hook_port):
        killer = threading.Thread(target=kill_at_random, args=(hosts, seen, over))
        if plan.kills:
            killer.start()
        try:
            jobs = work_through(plan, seen, hosts.ports, data, hook_port)
        finally:
            over.set()
            if plan.kills:
                killer.join()
        hosts.wait()
        seen.reported = count_reported(seen, hosts.ports, jobs)
    seen.counted, seen.counted_predictions = counted_in(store)
    return seen


@contextmanager
def served(plan: Plan, url: str, command: Command, seen: Seen) -> Iterator[tuple[Hosts, int]]:
    """Run the hosts for the block; yields them and the port of the webhooks."""
    with receiver(seen) as hook_port:
        ports = [free_port() for _ in range(plan.hosts)]
        hosts = Hosts([command(url, port, hook_port) for port in ports], ports)
        try:
            hosts.wait()
            yield hosts, hook_port
        finally:
            hosts.end()


def work_through(
    plan: Plan, seen: Seen, ports: list[int], data: bytes, hook_port: int
) -> list[tuple[int, str]]:
    """Have the clients do the jobs of `plan`, and return each with its client."""
    photos = [(f"{number}.jpg", data) for number in range(plan.photos)]
    forms = {False: form(photos, hook_port=hook_port)}
    if plan.clips:
        clip = ("drive.mp4", drawn_clip(driving(CLIP_FRAMES)))
        forms[True] = form([*photos, clip], hook_port=hook_port)
    started = time.monotonic()
    with ThreadPoolExecutor(plan.clients) as clients:
        work = [
            clients.submit(client, plan, seen, ports, number, forms)
            for number in range(plan.clients)
        ]
        jobs = [job for one in work for job in one.result()]
    seen.took_s += time.monotonic() - started
    return jobs


def counted_in(store: Store) -> tuple[int, int]:
    """Return how many photos and clips are counted on all accounts, and how many predictions."""
    with store.read() as connection:
        ids = [row[0] for row in connection.exec_driver_sql("SELECT id FROM accounts")]
    since = datetime(2020, 1, 1, tzinfo=UTC).date()
    days = [day for one in ids for day in quota.days_of_use(store, one, since=since)]
    return sum(day.requests for day in days), sum(day.predictions for day in days)


def compared(
    store: Store, url: str, plan: Plan, command: Command, data: bytes, *, rounds: int
) -> tuple[Seen, dict[str, Any]]:
    """Return what became of the jobs, and their rate beside that of `blur_photo`, in turns."""
    seen, part = Seen(), replace(plan, jobs=plan.jobs // rounds)
    model, database_pid = shipped_model(), postmaster(url)
    alone, rates, cpu, clients_cpu = [bare_in_its_own_process(BARE_S, model)], [], 0.0, 0.0
    jobs: list[tuple[int, str]] = []
    loads = [os.getloadavg()[0]]
    with served(plan, url, command, seen) as (hosts, hook_port):
        for number in range(plan.clients):  # argon2, which the service remembers for minutes
            with closing(Asking(hosts.ports, number, seen)) as asking:
                asking.ask("GET", "/v1/jobs")
        for _ in range(rounds):
            pids = [*hosts.pids, database_pid]
            cpu_before, took_before = sum(map(tree_cpu_s, pids)), seen.took_s
            clients_before = time.process_time()
            jobs += work_through(part, seen, hosts.ports, data, hook_port)
            clients_cpu += time.process_time() - clients_before
            cpu += sum(map(tree_cpu_s, pids)) - cpu_before
            rates.append(part.jobs * part.photos / (seen.took_s - took_before))
            loads.append(os.getloadavg()[0])
            alone.append(bare_in_its_own_process(BARE_S, model))
        seen.reported = count_reported(seen, hosts.ports, jobs)
    seen.counted, seen.counted_predictions = counted_in(store)
    bare = [one["photos_a_second"] for one in alone]
    around = [statistics.mean(pair) for pair in pairwise(bare)]
    bare_cpu = statistics.mean(one["cpu_s_a_photo"] for one in alone)
    jobs_cpu = cpu / (rounds * part.jobs * part.photos)
    return seen, {
        "rounds": rounds,
        "photos_a_second_of_each": {
            "jobs": [round(rate, 2) for rate in rates],
            "blur_photo before, between and after": [round(rate, 2) for rate in bare],
        },
        "jobs_to_blur_photo": {
            "median of the rounds": round(
                statistics.median(rate / by for rate, by in zip(rates, around, strict=True)), 3
            ),
            "by processor time": round(bare_cpu / jobs_cpu, 3),
        },
        "cpu_ms_a_photo": {
            "service and PostgreSQL": round(jobs_cpu * 1000, 1),
            "clients": round(clients_cpu / (rounds * part.jobs * part.photos) * 1000, 1),
            "blur_photo": round(bare_cpu * 1000, 1),
        },
        "load average before and after each round": [round(load, 1) for load in loads],
    }


def postmaster(url: str) -> int:
    """Return the process of the PostgreSQL at `url`."""
    return int(Path(url.partition("host=")[2], "data", "postmaster.pid").read_text().split()[0])


def tree_cpu_s(pid: int) -> float:
    """Return the processor time of a process, and of those that it has begun."""
    try:
        own = cpu_s(pid, with_ended=True)
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:  # it has ended, and its parent counts it
        return 0.0
    return own + sum(tree_cpu_s(int(child)) for child in children)


def kill_at_random(hosts: Hosts, seen: Seen, over: threading.Event) -> None:
    """Kill hosts until `over`; only while all of them answer, so that each has worked."""
    draw = random.Random(7)  # noqa: S311 - which host is no secret
    while not over.wait(draw.uniform(*KILL_EVERY_S)):
        if all(is_alive(port) for port in hosts.ports):
            hosts.kill(draw.randrange(len(hosts.ports)))
            seen.killed += 1


def count_reported(seen: Seen, ports: list[int], jobs: list[tuple[int, str]]) -> int:
    """Return how many jobs whose webhook didn't come say so themselves."""
    deadline, reported = time.monotonic() + 90, 0  # a webhook of a killed host is due in a minute
    while time.monotonic() < deadline and len(seen.webhooks) < len(jobs):
        time.sleep(0.5)
    for number, job_id in jobs:
        if not seen.webhooks[job_id]:
            with closing(Asking(ports, number, seen)) as asking:
                job = asking.ask("GET", f"/v1/jobs/{job_id}").json()
            reported += job["webhook"]["status"] != "delivered"
    return reported


def make_accounts(store: Store, count: int) -> None:
    """Make accounts with a package, as `Asking` logs in."""
    hasher, now = Hasher(), datetime.now(UTC)
    for number in range(count):
        account_id = signup.create_account(
            store, hasher, email=address_of(number), password=PASSWORD, now=now
        )
        invoices.grant_package(store, account_id, PlanKind.YEARLY, now=now)


@contextmanager
def database() -> Iterator[tuple[Store, str]]:
    """Run a PostgreSQL for the block; yields the migrated store and its URL.

    Raises:
        RuntimeError: there are no binaries of PostgreSQL.
    """
    binaries = postgres_binaries()
    if binaries is None:
        raise RuntimeError("expected PostgreSQL on the PATH or in /usr/lib/postgresql, got none")
    with tempfile.TemporaryDirectory(prefix="plateblur-jobs-") as folder:
        cluster = Postgres(binaries, Path(folder))
        store = Store(cluster.url(), secret=SECRET.encode())
        try:
            store.migrate()
            yield store, cluster.url()
        finally:
            store.close()
            cluster.stop()


def figures(plan: Plan, seen: Seen) -> dict[str, Any]:
    """Return what is written of one storm."""
    photos = plan.jobs * plan.photos
    return {
        **asdict(plan),
        "all_photos": photos,
        "all_clips": plan.clips,
        "answered_once": sum(count == 1 for count in seen.answers.values()),
        "answered_more_often": sum(count > 1 for count in seen.answers.values()),
        "clips_answered": seen.clips,
        "failed": seen.failed,
        "lost": seen.lost,
        "counted": seen.counted,
        "predictions": {"told": seen.predictions, "counted": seen.counted_predictions},
        "webhooks": {
            "delivered": len(seen.webhooks),
            "sent again": sum(seen.webhooks.values()) - len(seen.webhooks),
            "wrongly signed": seen.unsigned,
            "reported as not delivered": seen.reported,
        },
        "hosts_killed": seen.killed,
        "requests_sent_again": seen.repeats,
        "seconds": round(seen.took_s, 1),
        "photos_a_second": round(photos / seen.took_s, 2),
    }


def main() -> None:
    """Run the storm, print its figures, and write them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--jobs", type=int, default=Plan().jobs)
    parser.add_argument("--photos", type=int, default=Plan().photos)
    parser.add_argument("--clip-every", type=int, default=Plan().clip_every, help="with kills")
    parser.add_argument("--clients", type=int, default=Plan().clients)
    parser.add_argument("--no-kills", action="store_true")
    parser.add_argument("--rounds", type=int, default=5, help="without kills")
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args()
    # Two hosts share this machine's cores; alone, one has them all as `blur_photo` does.
    plan = Plan(asked.jobs, asked.photos, asked.clip_every, asked.clients)
    if asked.no_kills:
        plan = replace(plan, clip_every=0, hosts=1, kills=False)
    with tempfile.TemporaryDirectory() as folder, database() as (store, url):

        def command(url: str, port: int, hook_port: int) -> list[str]:
            given = [url, str(port), str(hook_port), folder]
            return [sys.executable, "-m", "benchmarks.jobs_host", *given]

        make_accounts(store, plan.clients)
        if plan.kills:
            loads = [os.getloadavg()[0]]
            results = figures(plan, storm(store, url, plan, command, photo()))
            results["load average before and after"] = [
                round(load, 1) for load in (*loads, os.getloadavg()[0])
            ]
        else:
            plan = replace(plan, jobs=plan.jobs // asked.rounds * asked.rounds)
            seen, ratio = compared(store, url, plan, command, photo(), rounds=asked.rounds)
            results = figures(plan, seen) | ratio
    results |= {"machine": machine(), "threads": THREADS}
    print(json.dumps(results, indent=2))
    kept = json.loads(asked.out.read_text()) if asked.out.exists() else {}
    kept["with kills" if plan.kills else "without kills"] = results
    asked.out.write_text(json.dumps(kept, indent=2) + "\n")


if __name__ == "__main__":
    main()
