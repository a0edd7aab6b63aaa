"""The service: opens the model and the store, and serves the web application."""

from __future__ import annotations

import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from plateblur.accounts.credentials import Hasher
from plateblur.accounts.gate import StoreGate
from plateblur.accounts.guests import GuestLimits
from plateblur.accounts.health_log import StoreHealth
from plateblur.accounts.job_queue import StoreQueue
from plateblur.accounts.job_types import JobLimits
from plateblur.accounts.jobs import StoreJobs
from plateblur.accounts.mail import outbox_of
from plateblur.accounts.minute import MinuteWindow
from plateblur.accounts.signup import first_operator
from plateblur.accounts.store import Store, open_store
from plateblur.accounts.upkeep import prune
from plateblur.bounded import BoundedWorkers, WorkLimits
from plateblur.console import add_console, check_console_settings
from plateblur.cores import cores
from plateblur.detector import OnnxDetector, model_file
from plateblur.errors import PlateblurError
from plateblur.types import BlurOptions, EncodedClip
from plateblur.web import Settings, SettingsError, create_app
from plateblur.web.connections import BoundedConnection
from plateblur.web.health import has_room
from plateblur.web.logs import configure_logging
from plateblur.web.settings import LOCAL_URL, hand_to_workers

# Of a clip in a job.
CLIP_WORK = 40  # processor seconds for each second of clip, as on the demo page
CLIP_CLOCK = 60  # seconds by the clock
CLIP_COPIES = 4  # of it in memory: as it came, pickled, read, and blurred

WORKER_STARTS_S = 60  # with less, uvicorn restarts slowly loading workers for ever


def run_service(
    *, host: str, port: int, workers: int, data_dir: Path | None, model: str | None
) -> int:
    """Serve until the process is stopped, and return the exit code.

    Args:
        host: address to listen on.
        port: port to listen on.
        workers: processes that share the store.
        data_dir: overrides PLATEBLUR_DATA_DIR.
        model: overrides PLATEBLUR_MODEL.
    """
    try:
        settings = read_settings(host, port, workers, data_dir=data_dir, model=model)
        made = try_parts(settings)
    except (PlateblurError, ValueError, OSError) as error:
        sys.stderr.write(f"The service can't start: {error}\n")
        return 2 if isinstance(error, SettingsError) else 1
    if made:
        show("operator's account, shown once: user {} password {}".format(*made))
    hand_to_workers(settings)
    uvicorn.run(
        "plateblur.serving:build",
        factory=True,
        host=host,
        port=port,
        http=BoundedConnection,
        ws="none",
        workers=workers,
        log_config=None,
        access_log=False,
        server_header=False,
        forwarded_allow_ips=settings.trusted_proxies,
        timeout_graceful_shutdown=settings.shutdown_timeout_s,
        timeout_worker_healthcheck=WORKER_STARTS_S,
    )
    return 0


def read_settings(
    host: str, port: int, workers: int, *, data_dir: Path | None, model: str | None
) -> Settings:
    """Return the settings of the environment, completed by the command line.

    Raises:
        SettingsError: they can't work, or don't work together.
    """
    settings = Settings.from_environment(data_dir=data_dir, model=model)
    if settings.demo and not find_spec("gradio"):
        raise SettingsError("PLATEBLUR_DEMO needs an extra: pip install 'plateblur[demo,serve]'")
    if settings.demo and workers > 1:
        raise SettingsError("the demo needs a single worker (--workers 1)")
    if settings.public_url == LOCAL_URL:
        settings = settings.model_copy(update={"public_url": f"http://{host}:{port}"})
    if workers > 1:
        shared = str(settings.data_dir / "metrics")
        settings = settings.model_copy(update={"metrics_dir": shared})
    return settings


def try_parts(settings: Settings) -> tuple[str, str] | None:
    """Open what no worker can start without, because uvicorn restarts dead workers for ever.

    Returns:
        User name and password of the operator's account if it was created now, else None.

    Raises:
        PlateblurError, ValueError, OSError: a part can't be opened.
    """
    check_console_settings(settings)
    detector_of(settings)()
    open_minute(settings)
    store = open_settings_store(settings)
    try:
        return first_operator(store, Hasher(), now=datetime.now(UTC))
    finally:
        store.close()


def build() -> FastAPI:
    """Return the application of one worker, from the environment that `main` wrote."""
    settings = Settings.from_environment()
    configure_logging(settings.log_level)
    workers = BoundedWorkers(
        detector_of(settings),
        count=settings.blur_threads,
        limits=WorkLimits.of_photo(
            processor_s=settings.photo_work_s, memory_mb=settings.photo_memory_mb
        ),
    )
    workers.start()
    store = open_settings_store(settings)
    guests = GuestLimits(each=settings.guest_photos, together=settings.guest_photos_together)
    gate = StoreGate(store, minute=open_minute(settings), guest_limits=guests)
    limits = job_limits(settings)
    app = create_app(
        workers.blur,
        gate,
        settings,
        jobs=(StoreJobs(store, limits), StoreQueue(store, limits)) if settings.jobs else None,
        blur_clip=ClipWorker(settings) if settings.jobs and settings.jobs_clip_mb else None,
        health_log=StoreHealth(store),
        ready_checks={"model": workers.works, "disk": partial(has_room, settings.data_dir)},
        upkeep=lambda: prune(store, outbox=outbox_of(settings.data_dir), now=datetime.now(UTC)),
    )
    add_console(app, store, gate, settings, announce=show)
    if settings.demo:
        from plateblur.demo.serving import add_demo  # here, because Gradio takes seconds to load

        model = model_file(settings.model)
        add_demo(
            app,
            detector_of(settings),
            model=model,
            public_url=settings.public_url,
            source_url=settings.source_url,
        )
    return app


def show(line: str) -> None:
    """Show a line on the operator's terminal; credentials must not be logged."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def detector_of(settings: Settings) -> Callable[[], OnnxDetector]:
    """Return a function that opens the configured detector; parallel photos share the cores."""
    threads = max(1, cores() // settings.blur_threads)
    return partial(OnnxDetector, model_file(settings.model), threads=threads)


def job_limits(settings: Settings) -> JobLimits:
    """Return how much of jobs may wait."""
    return JobLimits(
        jobs=settings.jobs_per_account,
        photos=settings.jobs_photos,
        account_bytes=settings.jobs_account_mb * 1024**2,
        all_bytes=settings.jobs_mb * 1024**2,
        keep=timedelta(hours=settings.jobs_keep_h),
    )


class ClipWorker:
    """Blurs the clips of jobs, one at a time, in a process that ends with each."""

    def __init__(self, settings: Settings) -> None:
        """Take the limits from `settings`; a process starts with a clip."""
        self._limits = WorkLimits(
            processor_s=CLIP_WORK * settings.jobs_clip_s,
            clock_s=CLIP_CLOCK * settings.jobs_clip_s,
            memory_bytes=(settings.photo_memory_mb + CLIP_COPIES * settings.jobs_clip_mb) * 1024**2,
            file_bytes=CLIP_COPIES * settings.jobs_clip_mb * 1024**2,
        )
        self._workers = BoundedWorkers(
            detector_of(settings), count=1, limits=self._limits, fresh=True
        )
        self._folder = settings.data_dir / "clips"

    def __call__(
        self, data: bytes, options: BlurOptions, ended: threading.Event, *, max_s: float
    ) -> EncodedClip:
        """Return the blurred clip.

        Raises:
            PlateblurError: as of `blur_clip`, or see `Workers.do`.
        """
        # Imported here, because PyAV takes a moment to load.
        from plateblur.video.whole import blur_whole, strangers_limits

        limits = strangers_limits(max_s)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._remove_left_behind()
        # Created here, because a worker that is ended leaves its files behind.
        with tempfile.TemporaryDirectory(prefix="clip-", dir=self._folder) as work:
            blurred, done = self._workers.do(
                *(blur_whole, data, options, limits, Path(work)),
                ended=ended,
                progress=lambda _: None,
            )
        return EncodedClip(
            blurred, done.image_hw, done.frames, done.length_s, done.plates, done.notes
        )

    def _remove_left_behind(self) -> None:
        """Remove what killed processes left: nothing else is as old."""
        oldest_s = time.time() - 2 * self._limits.clock_s
        for folder in self._folder.glob("clip-*"):
            with suppress(OSError):
                if folder.stat().st_mtime < oldest_s:
                    shutil.rmtree(folder)


def open_minute(settings: Settings) -> MinuteWindow | None:
    """Return the configured Redis that also counts requests per minute, if any."""
    return MinuteWindow(settings.redis_url) if settings.redis_url else None


def open_settings_store(settings: Settings) -> Store:
    """Return the configured store, migrated."""
    return open_store(
        settings.data_dir,
        database_url=settings.database_url or None,
        secret=settings.secret_key.encode() or None,
    )
