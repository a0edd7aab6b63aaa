"""The demo as a server: on its own, or at /demo of the service."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI
from fastapi.responses import RedirectResponse

from plateblur.bounded import BoundedWorkers, WorkLimits
from plateblur.demo.blocks import mount_demo
from plateblur.demo.folder import DemoFolder
from plateblur.demo.page import Page
from plateblur.demo.photos import EXAMPLES, Limits, opening_of
from plateblur.demo.review import Review
from plateblur.demo.tabs import AT_ONCE
from plateblur.demo.visits import Visits
from plateblur.detector import OnnxDetector
from plateblur.errors import PlateblurError
from plateblur.pipeline import DEFAULTS
from plateblur.types import Detector
from plateblur.web.failures import DOCUMENTED_PATH
from plateblur.web.fetcher import PhotoFetcher
from plateblur.web.settings import PHOTO_MEMORY_MB, PHOTO_WORK_S
from plateblur.web.source import add_source

PHOTO_LIMITS = WorkLimits.of_photo(processor_s=PHOTO_WORK_S, memory_mb=PHOTO_MEMORY_MB)
CLIP_LIMITS = WorkLimits(
    processor_s=40 * 60,
    clock_s=60 * 60,
    memory_bytes=PHOTO_LIMITS.memory_bytes,
    file_bytes=512 * 1024**2,
)
LIVE_LIMITS = WorkLimits(processor_s=5, clock_s=15, memory_bytes=512 * 1024**2)
FETCH_TIMEOUT_S = 15.0  # as long as a person waits for a page
STOP_S = 3  # for photos in work when the demo is stopped


def run_demo(
    *,
    host: str,
    port: int,
    examples: Path | None,
    review_dir: Path | None,
    model: Path,
    source_url: str = "",
) -> int:
    """Serve the demo until it is stopped, and return the exit code.

    Args:
        host: address to listen on.
        port: port to listen on; 0 for any free port.
        examples: folder of drawn scenes that the page offers in place of its own.
        review_dir: folder for photos that people agree to store for training; None for none.
        model: the detector's ONNX file.
        source_url: where the source code is offered; "" for the running code itself.
    """
    for ending in (signal.SIGINT, signal.SIGTERM):  # an exit, so that the folder is removed
        signal.signal(ending, lambda *_: sys.exit(0))
    # Everything that this process writes is in one folder, which only its owner can read.
    with DemoFolder() as folder, _temporary_files_in(folder):
        try:
            scenes = scenes_in(examples or EXAMPLES)
            # Loaded here too, where an error is reported, and no worker has to start first.
            opening = opening_of(OnnxDetector(model), scenes, Limits(), DEFAULTS)
            page = page_of(
                partial(OnnxDetector, model, threads=1),
                Path(folder),
                count=AT_ONCE,
                examples=scenes,
                opening=opening,
                card=card_of(model),
                review=Review(review_dir) if review_dir else None,
                source_url=source_url,
            )
            listening = socket.create_server((host, port))
        except (PlateblurError, OSError) as error:
            sys.stderr.write(f"The demo can't start: {error}\n")
            return 2
        with listening:
            asyncio.run(serve(page, listening))
    return 0


@contextmanager
def _temporary_files_in(folder: str) -> Iterator[None]:
    before, tempfile.tempdir = tempfile.tempdir, folder
    try:
        yield
    finally:
        tempfile.tempdir = before


def add_demo(
    app: FastAPI,
    make_detector: Callable[[], Detector],
    *,
    model: Path,
    public_url: str,
    source_url: str = "",
) -> None:
    """Serve the demo at /demo of the service, which has one worker; its photos are not counted.

    It has its own workers, so that its visitors never delay the photos of accounts. The demo writes
    to one folder, removed when the process ends. The page needs inline scripts and styles, so
    only /demo has a different content security policy.
    """
    folder = DemoFolder()
    tempfile.tempdir = folder.name
    app.state.demo_folder = folder  # as long as the app is, because it is removed with it
    scenes = scenes_in(EXAMPLES)
    page = page_of(
        make_detector,
        Path(folder.name),
        count=1,
        examples=scenes,
        opening=opening_of(make_detector(), scenes, Limits(), DEFAULTS),
        card=card_of(model),
        endpoint=public_url + DOCUMENTED_PATH,
        source_url=source_url,
    )
    app.add_api_route("/demo", lambda: RedirectResponse("/demo/"), include_in_schema=False)
    mount_demo(app, page, path="/demo", connect=public_url)
    page.visits.sweep_forever()


def page_of(
    make_detector: Callable[[], Detector], folder: Path, *, count: int, **more: Any
) -> Page:
    """Return a page whose photos and clips are blurred in processes of their own.

    Args:
        make_detector: picklable; called in each of those processes.
        folder: where it may write.
        count: photos at once.
        more: what else a `Page` has.
    """
    return Page(
        BoundedWorkers(make_detector, count=count, limits=PHOTO_LIMITS),
        BoundedWorkers(make_detector, count=1, limits=CLIP_LIMITS, fresh=True),
        Visits(folder / "gradio"),
        PhotoFetcher(timeout_s=FETCH_TIMEOUT_S, max_bytes=Limits().photo_bytes),
        live_workers=BoundedWorkers(make_detector, count=1, limits=LIVE_LIMITS),
        **more,
    )


def scenes_in(folder: Path) -> tuple[Path, ...]:
    """Return the drawn scenes of a folder, in the order of their names."""
    return tuple(sorted(folder.glob("*.jpg")))


def card_of(model: Path) -> dict[str, Any] | None:
    """Return the card next to a model, if there is one."""
    card = model.with_suffix(".json")
    return json.loads(card.read_text(encoding="utf-8")) if card.exists() else None


async def serve(page: Page, listening: socket.socket) -> None:
    """Serve the page, and print its address; return when it is stopped.

    Asynchronous from the start, because Gradio leaks an event loop for each lock that it creates
    outside of one.
    """
    app = FastAPI(openapi_url=None)
    add_source(app, page.source_url)
    mount_demo(app, page, path="/")
    page.visits.sweep_forever()
    host, port = listening.getsockname()[:2]
    sys.stdout.write(f"PlateBlur demo: http://{host}:{port}\n")
    sys.stdout.flush()
    # An open page keeps a connection, so waiting for all of them to end would take for ever.
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=STOP_S)
    try:
        await uvicorn.Server(config).serve(sockets=[listening])
    finally:
        page.close()
