"""schemathesis against a real server: what the OpenAPI page promises is what the routes do.

Its command runs all its checks. Two things are told to it, because a schema can't say them:

- that a string or file is a photo: data that fits the schema may still be refused (400, 422);
- that the documented endpoint answers errors with 200: it runs with real status codes here.

(Its pytest plugin 4.32 does not work with pytest 9.2, hence the command.)
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from plateblur.accounts.gate import StoreGate
from plateblur.accounts.job_queue import StoreQueue
from plateblur.accounts.jobs import StoreJobs
from plateblur.accounts.quota import utc_now
from plateblur.accounts.store import open_store
from plateblur.accounts.types import PlanKind
from plateblur.serving import job_limits
from plateblur.web import Settings, create_app
from tests.accounts.fakes import EMAIL, PASSWORD, CountingHasher, make_account
from tests.web.fakes import FakeBlur, FakeGate, basic, running

CONFIG = """
[checks]
positive_data_acceptance.expected-statuses = ["2xx", 400, 422{more}]
"""


def run(folder: Path, url: str, authorization: str, *, more: str = "", only: str = ".*") -> None:
    config = folder / "schemathesis.toml"
    config.write_text(CONFIG.format(more=more))
    done = subprocess.run(
        [
            *(str(Path(sys.executable).with_name("schemathesis")), "--config-file"),
            *(str(config), "run", f"{url}/openapi.json", "--seed", "1"),
            *("--include-path-regex", only),
            *("--max-examples", "5", "--header", f"Authorization: {authorization}"),
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:]


@pytest.mark.slow
def test_the_routes_keep_what_the_description_promises(tmp_path: Path) -> None:
    gate = FakeGate(limit=10**9)
    settings = Settings(real_status_codes=True, body_limit=1000, panoramax=True)
    with running(create_app(FakeBlur(), gate, settings)) as url:
        run(tmp_path, url, basic())
    assert gate.requests > 0, "no example was answered with a photo"


@pytest.mark.slow
def test_the_routes_of_jobs_keep_it_too(tmp_path: Path) -> None:
    """A job that was drawn is not there (404), and an account has only so many (429)."""
    store = open_store(tmp_path / "data")
    make_account(store, plan=PlanKind.MONTHLY, now=utc_now())
    settings = Settings(data_dir=tmp_path / "data", body_limit=1000, photo_url=False)
    limits = job_limits(settings)
    app = create_app(
        FakeBlur(),
        StoreGate(store, hasher=CountingHasher()),
        settings,
        jobs=(StoreJobs(store, limits), StoreQueue(store, limits)),
    )
    with running(app) as url:
        authorization = basic(EMAIL, PASSWORD)
        run(tmp_path, url, authorization, more=", 404, 429", only="^/v1/jobs")
        jobs = httpx.get(f"{url}/v1/jobs", headers={"Authorization": authorization}).json()["jobs"]
    store.close()
    assert jobs, "no example was accepted as a job"
