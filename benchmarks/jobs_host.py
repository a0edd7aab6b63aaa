"""A host of `benchmarks.jobs`: python -m benchmarks.jobs_host URL PORT HOOK_PORT DATA_DIR."""

from __future__ import annotations

import ipaddress
import sys
from pathlib import Path

import uvicorn

from plateblur.accounts.gate import StoreGate
from plateblur.accounts.job_queue import StoreQueue
from plateblur.accounts.jobs import StoreJobs
from plateblur.accounts.store import Store
from plateblur.bounded import BoundedWorkers, WorkLimits
from plateblur.serving import ClipWorker, detector_of, job_limits
from plateblur.web import Settings, create_app
from plateblur.web.connections import BoundedConnection
from plateblur.web.fetcher import PhotoFetcher, Reach

SECRET = "only in this benchmark " * 2


def host(url: str, port: int, hook_port: int, data_dir: Path) -> None:
    """Serve, as `serving.build` does, but with webhooks allowed to the benchmark's receiver."""
    settings = Settings(data_dir=data_dir)
    workers = BoundedWorkers(
        detector_of(settings),
        count=settings.blur_threads,
        limits=WorkLimits.of_photo(
            processor_s=settings.photo_work_s, memory_mb=settings.photo_memory_mb
        ),
    )
    workers.start()
    store, limits = Store(url, secret=SECRET.encode()), job_limits(settings)
    loopback = ipaddress.ip_network("127.0.0.1/32")
    app = create_app(
        workers.blur,
        StoreGate(store),
        settings,
        fetcher=PhotoFetcher(
            timeout_s=10, max_bytes=5 * 1024**2, reach=Reach(also=((loopback, hook_port),))
        ),
        jobs=(StoreJobs(store, limits), StoreQueue(store, limits)),
        blur_clip=ClipWorker(settings),
    )
    uvicorn.run(app, port=port, http=BoundedConnection, ws="none", log_config=None)


if __name__ == "__main__":
    host(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
