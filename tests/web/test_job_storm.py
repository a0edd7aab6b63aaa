"""Jobs of several clients on PostgreSQL, with two hosts that are killed at random."""

from __future__ import annotations

import sys

import pytest

from benchmarks.jobs import database, figures, make_accounts, storm
from benchmarks.jobs_clients import Plan
from tests.accounts.fakes import postgres_binaries
from tests.web.fakes import photo_bytes

HOST = """
import ipaddress, sys, time
from pathlib import Path
import uvicorn
from plateblur.accounts.gate import StoreGate
from plateblur.accounts.job_queue import StoreQueue
from plateblur.accounts.jobs import StoreJobs
from plateblur.accounts.store import Store
from plateblur.serving import job_limits
from plateblur.web import Settings, create_app
from plateblur.web.fetcher import PhotoFetcher, Reach
from tests.web.fakes import FakeBlur
from benchmarks.jobs_host import SECRET

url, port, hook_port, folder = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
store, settings = Store(url, secret=SECRET.encode()), Settings(data_dir=folder)
blur, limits = FakeBlur(), job_limits(settings)
def slowly(data, options, ended, *, max_pixels):
    time.sleep(0.5)  # so that the first host is killed before all is done
    return blur(data, options, ended, max_pixels=max_pixels)
fetcher = PhotoFetcher(timeout_s=10, max_bytes=10**6,
                       reach=Reach(also=((ipaddress.ip_network("127.0.0.1/32"), hook_port),)))
app = create_app(slowly, StoreGate(store), settings, fetcher=fetcher,
                 jobs=(StoreJobs(store, limits), StoreQueue(store, limits)))
uvicorn.run(app, port=port, log_config=None)
"""


@pytest.mark.slow
@pytest.mark.skipif(postgres_binaries() is None, reason="no PostgreSQL binaries")
def test_every_photo_is_answered_once_and_counted_once_whoever_is_killed(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.jobs.KILL_EVERY_S", (2.0, 6.0))
    plan = Plan(jobs=12, photos=6, clip_every=0, clients=4, hosts=2, kills=True)

    def command(url: str, port: int, hook_port: int) -> list[str]:
        return [sys.executable, "-c", HOST, url, str(port), str(hook_port), str(tmp_path)]

    with database() as (store, url):
        make_accounts(store, plan.clients)
        seen = storm(store, url, plan, command, photo_bytes())
    told = figures(plan, seen)
    assert seen.killed > 0, told
    assert told["answered_once"] == told["counted"] == told["all_photos"] == 72, told
    assert (told["answered_more_often"], told["failed"], told["lost"]) == (0, 0, 0), told
    hooks = told["webhooks"]
    assert hooks["delivered"] + hooks["reported as not delivered"] == plan.jobs, told
    assert hooks["wrongly signed"] == 0
