"""`python serve.py`: open the model and the store, and serve the web application."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from plateblur.accounts.credentials import Hasher
from plateblur.accounts.gate import StoreGate
from plateblur.accounts.mail import outbox_of
from plateblur.accounts.minute import MinuteWindow
from plateblur.accounts.signup import first_operator
from plateblur.accounts.store import Store, open_store
from plateblur.accounts.upkeep import prune
from plateblur.bounded import BoundedWorkers, WorkLimits
from plateblur.console import add_console, check_console_settings
from plateblur.detector import OnnxDetector, shipped_model
from plateblur.errors import PlateblurError
from plateblur.web import Settings, SettingsError, create_app
from plateblur.web.connections import BoundedConnection
from plateblur.web.health import has_room
from plateblur.web.logs import configure_logging
from plateblur.web.settings import LOCAL_URL, hand_to_workers, settings_help

WORKER_STARTS_S = 60  # with less, uvicorn starts workers anew for ever where they load slowly
CLOCK_TIMES = 3  # as long by the clock as of the processors, which other work may have meanwhile


def main() -> None:
    """Read the command line and the environment, then serve until told to stop."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=settings_help(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--data-dir", type=Path, help="before PLATEBLUR_DATA_DIR")
    parser.add_argument("--model", help="before PLATEBLUR_MODEL")
    parser.add_argument("--workers", type=int, default=1, help="processes that share the store")
    asked = parser.parse_args()
    try:
        settings = Settings.from_environment(data_dir=asked.data_dir, model=asked.model)
    except SettingsError as error:
        parser.exit(2, f"serve.py: {error}\n")
    if settings.public_url == LOCAL_URL:
        settings = replace(settings, public_url=f"http://{asked.host}:{asked.port}")
    if settings.demo and not find_spec("gradio"):
        parser.exit(2, "serve.py: PLATEBLUR_DEMO needs the extra demo\n")
    if settings.demo and asked.workers > 1:
        parser.exit(2, "serve.py: the demo holds its visits in one process; use one worker\n")
    if asked.workers > 1:
        settings = replace(settings, metrics_dir=str(settings.data_dir / "metrics"))
    # What no worker could start without is tried here: uvicorn starts dead ones again for ever.
    try:
        check_console_settings(settings)
        detector_of(settings)()
        open_minute(settings)
        store = open_settings_store(settings)
        made = first_operator(store, Hasher(), now=datetime.now(UTC))
        store.close()
    except (PlateblurError, ValueError, OSError) as error:
        parser.exit(1, f"serve.py: {error}\n")
    if made:
        show("operator's account, shown once: user {} password {}".format(*made))
    hand_to_workers(settings)
    uvicorn.run(
        "serve:build",
        factory=True,
        app_dir=str(Path(__file__).parent),
        host=asked.host,
        port=asked.port,
        http=BoundedConnection,
        ws="none",
        workers=asked.workers,
        log_config=None,
        access_log=False,
        server_header=False,
        forwarded_allow_ips=settings.trusted_proxies,
        timeout_graceful_shutdown=settings.shutdown_timeout_s,
        timeout_worker_healthcheck=WORKER_STARTS_S,
    )


def build() -> FastAPI:
    """Return the application of one worker, from the environment that `main` wrote."""
    settings = Settings.from_environment()
    configure_logging(settings.log_level)
    workers = BoundedWorkers(
        detector_of(settings),
        count=settings.blur_threads,
        limits=WorkLimits(
            processor_s=settings.photo_work_s,
            clock_s=CLOCK_TIMES * settings.photo_work_s,
            memory_bytes=settings.photo_memory_mb * 1024**2,
        ),
    )
    workers.start()
    store = open_settings_store(settings)
    gate = StoreGate(store, minute=open_minute(settings))
    app = create_app(
        partial(workers.blur, max_pixels=settings.max_pixels),
        gate,
        settings,
        ready_checks={"model": workers.works, "disk": partial(has_room, settings.data_dir)},
        upkeep=lambda: prune(store, outbox=outbox_of(settings.data_dir), now=datetime.now(UTC)),
    )
    add_console(app, store, gate, settings, announce=show)
    if settings.demo:
        from app import add_demo  # Not at the top, because Gradio takes seconds to load.

        model = Path(settings.model or shipped_model())
        add_demo(
            app,
            detector_of(settings),
            model=model,
            public_url=settings.public_url,
            source_url=settings.source_url,
        )
    return app


def show(line: str) -> None:
    """Show a line on the terminal of who started the service; what opens an account is no log."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def detector_of(settings: Settings) -> Callable[[], OnnxDetector]:
    """Return what opens the detector that `settings` name; photos in work share the cores."""
    threads = max(1, (os.cpu_count() or 1) // settings.blur_threads)
    return partial(OnnxDetector, Path(settings.model or shipped_model()), threads=threads)


def open_minute(settings: Settings) -> MinuteWindow | None:
    """Return the Redis that counts the minute beside the store, where `settings` name one."""
    return MinuteWindow(settings.redis_url) if settings.redis_url else None


def open_settings_store(settings: Settings) -> Store:
    """Return the store that `settings` name, migrated."""
    return open_store(
        settings.data_dir,
        database_url=settings.database_url or None,
        secret=settings.secret_key.encode() or None,
    )


if __name__ == "__main__":
    main()
