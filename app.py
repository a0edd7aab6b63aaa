"""The demo: drop a photo, see its plates hidden, correct by hand, download.

    python app.py --host 127.0.0.1 --port 7860 --examples FOLDER_OF_DRAWN_SCENES

The page asks nothing of any other machine. Photos are held in memory while the page is open; see
`plateblur/demo/visits.py` for what is on disk and for how long.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from html import escape
from pathlib import Path
from typing import Any, cast

import gradio as gr
import uvicorn
from fastapi import FastAPI
from fastapi.responses import RedirectResponse
from starlette.routing import Mount

from plateblur.bounded import BoundedWorkers, WorkLimits
from plateblur.demo.door import Door
from plateblur.demo.folder import DemoFolder
from plateblur.demo.page import NO_URL, Page
from plateblur.demo.photos import Limits, example_views
from plateblur.demo.review import CONSENT, Review
from plateblur.demo.tabs import (
    AT_ONCE,
    HEAVY,
    METHODS,
    api_tab,
    asset,
    asset_html,
    drop_zone,
    guidance_tab,
    video_tab,
)
from plateblur.demo.visits import Visits
from plateblur.detector import OnnxDetector, shipped_model
from plateblur.errors import ModelError
from plateblur.formats import BY_SUFFIX
from plateblur.pipeline import COUNT_FLOOR, DEFAULTS
from plateblur.types import Detector
from plateblur.web.fetcher import PhotoFetcher
from plateblur.web.source import add_source, source_link

THEME = gr.themes.Default(
    primary_hue="blue", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
)
PHOTO_TYPES = ["image", *BY_SUFFIX]
PHOTO_LIMITS = WorkLimits(processor_s=40, clock_s=120, memory_bytes=2 * 1024**3)
CLIP_LIMITS = WorkLimits(
    processor_s=40 * 60, clock_s=60 * 60, memory_bytes=2 * 1024**3, file_bytes=512 * 1024**2
)
UPLOAD_BYTES = 200 * 1024**2  # of one request: twenty photos as telephones take them, or a clip
FETCH_TIMEOUT_S = 15.0  # as long as a person waits for a page
STOP_S = 3  # for photos in work when the demo is stopped
WAITING = 32  # in the queue; more are told to come back
DEMO_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; media-src 'self' data: blob:; "
    "font-src 'self' data:; worker-src 'self' blob:; connect-src 'self' data: blob: {connect}; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS = {
    "Permissions-Policy": "camera=(self), geolocation=(), microphone=()",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
}

METHOD_NOTE = (
    "Veil and solid can't be undone. Mosaic and gaussian are cosmetic: an attacker may be able to "
    "recover what they hide."
)
NOT_KEPT = "Photos and clips are deleted about a minute after you close this page."
KEPT = f"{NOT_KEPT} A photo is stored longer only if you agree to it below the photo."
EFFORTS = [("One look", "fast"), ("Default", "default"), ("Thorough", "thorough")]
POLICIES = [
    ("Remove everything except the colour profile", "strip"),
    ("Also keep time, camera and panorama tags", "safe"),
    ("Keep most metadata, including the GPS position", "keep"),
]


def mount_demo(app: FastAPI, page: Page, *, path: str, connect: str = "http: https:") -> FastAPI:
    """Return `app` with the demo's page.

    Args:
        app: an application without the page.
        page: answers what a person does on it.
        path: where it is to be.
        connect: sources that the page may connect to beside its own, as a Content-Security-Policy
            names them; the API tab sends requests to any server that a person types in.
    """
    demo = build_demo(page)
    demo.has_launched = True  # Otherwise Gradio checks no path that it is asked for.
    mounted: FastAPI = gr.mount_gradio_app(
        app,
        demo,
        path=path,
        footer_links=["settings"],
        run_history=False,  # It would keep photos in the browser's storage.
        show_error=False,  # An unforeseen error's text could tell of this machine.
        ssr_mode=False,
        theme=THEME,
        css=asset("page.css"),
        js=asset("page.js"),
    )
    gradio_app = cast(FastAPI, cast(Mount, mounted.routes[-1]).app)
    gradio_app.add_middleware(
        Door,
        folder=page.visits.folder,
        uploads=page.visits.uploads,
        events=events_of(demo),
        waiting=partial(waiting_of, demo),
        headers=HEADERS | {"Content-Security-Policy": DEMO_POLICY.format(connect=connect)},
        upload_bytes=UPLOAD_BYTES,
        upload_files=page.limits.photos,
    )
    return mounted


def events_of(demo: gr.Blocks) -> dict[int, tuple[bool, ...]]:
    """Return what may be asked of the page: of each event whether its inputs take files."""
    return {
        number: tuple(isinstance(block, gr.File) for block in event.inputs)
        for number, event in demo.fns.items()
        if event.fn is not None and not any(kind == "unload" for _, kind in event.targets)
    }


def build_demo(page: Page) -> gr.Blocks:
    """Return the demo's page, not yet served."""
    kept_s = int(page.visits.keep_s)
    demo = gr.Blocks(title="PlateBlur", analytics_enabled=False, delete_cache=(60, kept_s))
    with demo:
        kept = KEPT if page.review else NOT_KEPT
        title = asset("title.html").replace("KEPT", kept)
        gr.HTML(title, elem_id="title", apply_default_css=False)
        with gr.Tab("Blur"):
            _blur_tab(page)
        with gr.Tab("Video"):
            video_tab(page)
        with gr.Tab("API") as tab:
            api_tab(page, tab)
        with gr.Tab("Guidance"):
            guidance_tab(page)
        gr.HTML(_footer(page), elem_id="footer", apply_default_css=False)
        demo.unload(page.leave)
    demo.queue(max_size=WAITING, default_concurrency_limit=AT_ONCE, api_open=False)
    return demo


def _footer(page: Page) -> str:
    """Return what becomes of photos, as the code does it, and where the source code is."""
    minutes = {"UPLOAD": page.visits.uploads.keep_s, "KEEP": page.visits.keep_s}
    text = asset("footer.html").replace("SOURCE", escape(source_link(page.source_url)))
    text = text.replace("GRACE", f"{page.visits.grace_s:.0f} seconds")
    for name, seconds in minutes.items():
        text = text.replace(name, f"{seconds / 60:.0f} minutes")
    return text.replace("STORED", asset("stored.html") if page.review else "")


def waiting_of(demo: gr.Blocks, address: str) -> int:
    """Return how many events of a network address wait in Gradio's queue or are in work."""
    queue = demo._queue
    waiting = [
        event for each in queue.event_queue_per_concurrency_id.values() for event in each.queue
    ]
    in_work = [event for job in queue.active_jobs for event in job or ()]
    clients = (event.request.client for event in (*waiting, *in_work))
    return sum(client is not None and client.host == address for client in clients)


def _blur_tab(page: Page) -> None:
    with gr.Row(elem_id="work"):  # On a phone one below the other, in this order.
        with gr.Column(elem_id="input"):
            photos = drop_zone(
                label=f"Drop, paste or choose up to {page.limits.photos} photos",
                file_count="multiple",
                file_types=PHOTO_TYPES,
                elem_id="photos",
                height=150,
            )
            url = gr.Textbox(
                NO_URL,
                label="Photo URL",
                info='Leave it at "NO" to use photos from your device.',
                max_lines=1,
                submit_btn="Fetch",
                elem_id="url",
            )
            asset_html("camera-shot", None)
            views = example_views(page.examples)
            scenes = asset_html("scenes", views, visible=bool(views))
            picker = gr.Radio(label="Photos", choices=[], visible=False, elem_id="picker")
        with gr.Column(elem_id="output"):
            viewer = asset_html("viewer", None)
            with gr.Row(equal_height=True):
                download = gr.DownloadButton(visible=False, variant="primary", elem_id="download")
                zipper = gr.Button(visible=False, elem_id="make-zip")
                zipped = gr.DownloadButton("Download the zip", visible=False, elem_id="zip")
            with gr.Accordion("Help improve the detector", open=False, visible=bool(page.review)):
                agreed = gr.Checkbox(label=CONSENT, elem_id="agreed")
                keep = gr.Button("Save this photo for training", size="sm", elem_id="keep")
        with gr.Column(elem_id="settings"):
            method = gr.Radio(METHODS, value=DEFAULTS.method, label="Method", info=METHOD_NOTE)
            with gr.Accordion("More settings", open=False):
                margin = gr.Slider(0, 1, value=DEFAULTS.margin, step=0.05, label="Margin")
                margin.info = "Extra area to hide on each side of a plate, as a share of its size."
                min_confidence = gr.Slider(
                    COUNT_FLOOR, 0.95, value=DEFAULTS.min_confidence, step=0.05, label="Confidence"
                )
                min_confidence.info = (
                    "Plates below this confidence stay visible. Lower values hide more, with more "
                    "false hits."
                )
                draw_boxes = gr.Checkbox(DEFAULTS.draw_boxes, label="Draw boxes on the photo")
                metadata = gr.Radio(POLICIES, value=DEFAULTS.metadata, label="Metadata")
                effort = gr.Radio(EFFORTS, value=DEFAULTS.effort, label="Search")
                effort.info = (
                    "Thorough also searches enlarged parts and rotated copies of the photo. "
                    "It takes many times as long."
                )

    settings: list[Any] = [method, margin, min_confidence, draw_boxes, metadata, effort]
    shown: list[Any] = [viewer, picker, download, zipper, zipped]
    on_viewer: dict[str, Any] = HEAVY | {"show_progress_on": viewer}
    photos.upload(page.take, [photos, *settings], [photos, url, *shown], **on_viewer)
    url.submit(page.take_url, [url, *settings], shown, **on_viewer)
    scenes.scene_picked(page.take_example, settings, shown, **on_viewer)
    picker.input(page.pick, [picker, *settings], shown, **on_viewer)
    for control in settings:
        control.change(page.blur_again, settings, shown, trigger_mode="always_last", **on_viewer)
    viewer.plate_added(page.add_plate, settings, shown, show_progress="hidden", **HEAVY)
    viewer.plate_removed(page.remove_plate, settings, shown, show_progress="hidden", **HEAVY)
    viewer.plates_reset(page.uncorrect, settings, shown, show_progress="hidden", **HEAVY)
    zipper.click(page.zip_all, settings, zipped, **HEAVY)
    if page.review:  # Otherwise there is nothing that could be called.
        keep.click(page.keep, [agreed, *settings], agreed, show_progress="hidden", **HEAVY)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve the demo until it is stopped, and return the exit code."""
    parser = argparse.ArgumentParser(description="Serve the demo.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument(
        "--port", type=int, default=7860, help="port to listen on; 0 for any free port"
    )
    parser.add_argument("--examples", type=Path, help="folder of drawn scenes to offer as examples")
    parser.add_argument(
        "--review-dir", type=Path, help="store photos here for training if people agree to it"
    )
    parser.add_argument(
        "--source-url", default="", help="where your changed source code is; default: /source.zip"
    )
    parser.add_argument(
        "--model", type=Path, default=shipped_model(), help="ONNX model of the detector"
    )
    asked = parser.parse_args(arguments)
    for ending in (signal.SIGINT, signal.SIGTERM):  # an exit, so that the folder is removed
        signal.signal(ending, lambda *_: sys.exit(0))
    # All that this process writes is under one folder, which only its owner can read.
    with DemoFolder() as folder:
        tempfile.tempdir = folder
        try:
            OnnxDetector(asked.model)  # An error is told here; the workers load it once more.
            page = page_of(
                partial(OnnxDetector, asked.model, threads=1),
                Path(folder),
                count=AT_ONCE,
                examples=tuple(sorted(asked.examples.glob("*.jpg"))) if asked.examples else (),
                card=card_of(asked.model),
                review=Review(asked.review_dir) if asked.review_dir else None,
                source_url=asked.source_url,
            )
            listening = socket.create_server((asked.host, asked.port))
        except (ModelError, OSError) as error:
            sys.stderr.write(f"The demo can't start: {error}\n")
            return 2
        with listening:
            asyncio.run(serve(page, listening))
    return 0


def add_demo(
    app: FastAPI,
    make_detector: Callable[[], Detector],
    *,
    model: Path,
    public_url: str,
    source_url: str = "",
) -> None:
    """Put the demo at /demo of the service, which has one worker; photos are not counted there.

    It has workers of its own, so that its visitors' photos never wait before those of accounts.
    What the demo writes is in one folder, removed when the process ends. The page needs scripts
    and styles within it, so under /demo, and only there, the service's policy is another.
    """
    folder = DemoFolder()
    tempfile.tempdir = folder.name
    app.state.demo_folder = folder  # as long as the app is, because it is removed with it
    page = page_of(
        make_detector,
        Path(folder.name),
        count=1,
        card=card_of(model),
        endpoint=f"{public_url}/plateblurer.aspx",
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
        **more,
    )


def card_of(model: Path) -> dict[str, Any] | None:
    """Return the card that lies beside a model, if there is one."""
    card = model.with_suffix(".json")
    return json.loads(card.read_text(encoding="utf-8")) if card.exists() else None


async def serve(page: Page, listening: socket.socket) -> None:
    """Serve the page, and print its address; return when it is stopped.

    Asynchronous from the start, because Gradio leaves an event loop open for each of its locks
    that it makes outside of one.
    """
    app = FastAPI(openapi_url=None)
    add_source(app, page.source_url)
    mount_demo(app, page, path="/")
    page.visits.sweep_forever()
    host, port = listening.getsockname()[:2]
    sys.stdout.write(f"PlateBlur demo: http://{host}:{port}\n")
    sys.stdout.flush()
    # An open page keeps a connection, so waiting for all of them to end would be for ever.
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=STOP_S)
    try:
        await uvicorn.Server(config).serve(sockets=[listening])
    finally:
        page.close()


if __name__ == "__main__":
    sys.exit(main())
