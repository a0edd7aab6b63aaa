"""The demo's page: drop a photo, see its plates hidden, correct by hand, download.

The page sends no requests to other machines. Photos are held in memory while it is open;
`plateblur/demo/visits.py` says what is on disk and for how long.
"""

from __future__ import annotations

from functools import partial
from html import escape
from typing import Any, cast

import gradio as gr
from fastapi import FastAPI
from starlette.routing import Mount

from plateblur.demo.door import Door
from plateblur.demo.first_paint import FirstPaint
from plateblur.demo.live import LiveView
from plateblur.demo.page import Page
from plateblur.demo.photos import example_views
from plateblur.demo.review import CONSENT
from plateblur.demo.tabs import (
    AT_ONCE,
    HEAVY,
    METHODS,
    PRIVATE,
    api_tab,
    asset,
    asset_html,
    drop_zone,
    guidance_tab,
    live_tab,
    video_tab,
)
from plateblur.formats import BY_SUFFIX
from plateblur.pipeline import DEFAULTS
from plateblur.types import COUNT_FLOOR
from plateblur.web.pages import LOGO
from plateblur.web.source import source_link

THEME = gr.themes.Default(
    primary_hue="blue", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
)
PHOTO_TYPES = ["image", *BY_SUFFIX]
UPLOAD_BYTES = 200 * 1024**2  # of one request: twenty photos as telephones take them, or a clip
WAITING = 32  # in the queue; more are asked to come back later
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
        footer_links=[],
        run_history=False,  # It would keep photos in the browser's storage.
        show_error=False,  # An unforeseen error's text could tell of this machine.
        ssr_mode=False,
        theme=THEME,
        css=asset("page.css"),
        js=asset("page.js"),
    )
    # Gradio's argument for it counts only where the path is "/".
    vars(demo)["favicon_path"] = LOGO
    gradio_app = cast(FastAPI, cast(Mount, mounted.routes[-1]).app)
    gradio_app.add_middleware(
        FirstPaint,
        head=asset("head.html"),
        html=asset("first.html").replace("TITLE", title_of(page)) if page.opening else "",
    )
    gradio_app.add_middleware(
        Door,
        folder=page.visits.folder,
        uploads=page.visits.uploads,
        live=LiveView(page.live_workers or page.workers),
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
        gr.HTML(title_of(page), elem_id="title", apply_default_css=False)
        with gr.Tab("Blur"):
            _blur_tab(page)
        with gr.Tab("Video"):
            video_tab(page)
        with gr.Tab("Live"):
            live_tab()
        with gr.Tab("API") as tab:
            api_tab(page, tab)
        with gr.Tab("Guidance"):
            guidance_tab(page)
        gr.HTML(footer_of(page), elem_id="footer", apply_default_css=False)
        demo.unload(page.leave)
    demo.queue(max_size=WAITING, default_concurrency_limit=AT_ONCE, api_open=False)
    return demo


def title_of(page: Page) -> str:
    """Return the page's title, and whether photos are kept."""
    return asset("title.html").replace("KEPT", KEPT if page.review else NOT_KEPT)


def footer_of(page: Page) -> str:
    """Return what happens to photos, with the periods of the code, and the link to the source."""
    periods_s = {"UPLOAD": page.visits.uploads.keep_s, "KEEP": page.visits.keep_s}
    text = asset("footer.html").replace("STORED", asset("stored.html") if page.review else "")
    text = text.replace("GRACE", f"{page.visits.grace_s:.0f} seconds")
    for name, period_s in periods_s.items():
        text = text.replace(name, f"{period_s / 60:.0f} minutes")
    return text.replace("SOURCE", escape(source_link(page.source_url)))  # last: it may hold a mark


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
                label="Photo URL",
                placeholder="https://example.com/street.jpg",
                max_lines=1,
                submit_btn="Fetch",
                elem_id="url",
            )
            asset_html("camera-shot", None)
            views = example_views(page.examples)
            scenes = asset_html("scenes", views, visible=bool(views))
        with gr.Column(elem_id="output"):
            with gr.Row(elem_id="result"):
                method = gr.Radio(METHODS, value=DEFAULTS.method, label="Method", elem_id="method")
                method.info = METHOD_NOTE
                with gr.Column(elem_id="downloads", min_width=180):
                    download = gr.DownloadButton(
                        visible=False, variant="primary", elem_id="download"
                    )
                    zipper = gr.Button(visible=False, elem_id="make-zip")
                    zipped = gr.DownloadButton(visible="hidden", elem_id="zip")
            film = asset_html("film", None)
            viewer = asset_html("viewer", page.opening and page.opening.view)
            with gr.Accordion("Help improve the detector", open=False, visible=bool(page.review)):
                agreed = gr.Checkbox(label=CONSENT, elem_id="agreed")
                keep = gr.Button("Save this photo for training", size="sm", elem_id="keep")
        with gr.Column(elem_id="settings"), gr.Accordion("More settings", open=False):
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
    shown: list[Any] = [viewer, film, download, zipper]
    on_viewer: dict[str, Any] = HEAVY | {"show_progress_on": viewer}
    photos.upload(page.take, [photos, *settings], [photos, url, *shown], **on_viewer)
    url.submit(page.take_url, [url, *settings], shown, **on_viewer)
    scenes.scene_picked(page.take_example, settings, shown, **on_viewer)
    film.photo_picked(page.pick, settings, shown, trigger_mode="multiple", **on_viewer)
    for control in settings:
        control.change(page.blur_again, settings, shown, trigger_mode="always_last", **on_viewer)
    viewer.plate_added(page.add_plate, settings, shown, show_progress="hidden", **HEAVY)
    viewer.plate_removed(page.remove_plate, settings, shown, show_progress="hidden", **HEAVY)
    viewer.plates_reset(page.uncorrect, settings, shown, show_progress="hidden", **HEAVY)
    zipper.click(page.zip_all, settings, zipped, show_progress_on=zipper, **HEAVY).success(
        None, zipped, None, js=asset("save.js"), **PRIVATE
    )
    if page.review:  # Otherwise there is nothing that could be called.
        keep.click(page.keep, [agreed, *settings], agreed, show_progress="hidden", **HEAVY)
