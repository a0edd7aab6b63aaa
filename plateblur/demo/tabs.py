"""The tabs beside the main one, and what all of the demo's layout is made with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from plateblur.demo import api, camera, sketches
from plateblur.demo.clips import LIMITS as CLIP_LIMITS
from plateblur.demo.page import NOTHING_SENT, Page
from plateblur.guidance import GUIDANCE_RATIO, advice
from plateblur.pipeline import DEFAULTS
from plateblur.types import COUNT_FLOOR
from plateblur.web.sketches import angle_sketches

ASSETS = Path(__file__).parent / "assets"
AT_ONCE = 2  # photos in parallel: one is decoded while the detector has the other
PRIVATE: dict[str, Any] = {"api_visibility": "private"}
HEAVY: dict[str, Any] = PRIVATE | {"concurrency_id": "photos", "concurrency_limit": AT_ONCE}

METHODS = [("Veil", "veil"), ("Solid", "solid"), ("Mosaic", "mosaic"), ("Gaussian", "gaussian")]
CLIP_EMPTY = '<p class="pb-done">The blurred clip appears here.</p>'


def drop_zone(**options: Any) -> gr.File:
    """Return Gradio's upload, of which events get tokens of `Uploads` and never a path.

    Its value is the list of texts that `Door` makes of it, so Gradio has no file to look after and
    opens none. Not a subclass, because Gradio would write a stub of it next to this file.

    Args:
        options: those of `gr.File`.
    """
    zone = gr.File(**options)
    zone.data_model = None
    vars(zone)["preprocess"] = _tokens
    vars(zone)["api_info"] = lambda: {"type": "array", "items": {"type": "string"}}
    return zone


def _tokens(value: Any) -> list[str]:
    given = value if isinstance(value, list) else []
    return [token for token in given if isinstance(token, str)]


def api_tab(page: Page, tab: gr.Tab) -> None:
    """Lay out the tab that shows the documented request and response."""
    gr.HTML(asset("api.html"), apply_default_css=False)
    with gr.Row():
        crops = gr.Radio(["YES", "NO"], value="YES", label="boundingBoxCrop")
        endpoint = gr.Textbox(page.endpoint, label="Endpoint", max_lines=1, elem_id="endpoint")
    with gr.Row():
        with gr.Column(min_width=320):
            asked = _json_code("Request", NOTHING_SENT)
            copy_asked = gr.Button("Copy full request", size="sm", elem_id="copy-request")
        with gr.Column(min_width=320):
            answered = _json_code("Response", NOTHING_SENT)
            copy_answered = gr.Button("Copy full response", size="sm", elem_id="copy-response")
    snippets: list[Any] = []
    for title, language, colours in api.LANGUAGES:
        with gr.Tab(title):
            code = api.snippet(language, endpoint=page.endpoint, crops=True)
            snippets.append(
                gr.Code(
                    code,
                    language=colours,
                    interactive=False,
                    show_label=False,
                    wrap_lines=True,
                    elem_id=f"snippet-{language}",
                )
            )
    with gr.Accordion("Send this request to a server", open=False):
        gr.HTML(asset("send.html"), apply_default_css=False)
        with gr.Row():
            user = gr.Textbox(label="User", elem_id="user")
            password = gr.Textbox(label="Password or API key", type="password", elem_id="password")
        send = gr.Button("Send request", elem_id="send")
        answer = _json_code("Response of the server", elem_id="server-answer")
    whole = gr.Textbox(visible="hidden")

    shown: list[Any] = [asked, answered]
    tab.select(page.api_texts, crops, shown, **HEAVY)
    crops.change(page.api_texts, crops, shown, **HEAVY)
    gr.on(
        [crops.change, endpoint.change], page.snippets, [crops, endpoint], snippets,
        show_progress="hidden", trigger_mode="always_last", **PRIVATE,
    )  # fmt: skip
    for button, body in [(copy_asked, page.whole_request), (copy_answered, page.whole_response)]:
        button.click(body, crops, whole, **HEAVY).then(
            None, whole, None, js=asset("copy.js"), **PRIVATE
        )
    # Sent by the browser, so that only that server gets the credentials.
    send.click(page.whole_request, crops, whole, **HEAVY).then(
        None, [whole, endpoint, user, password], answer, js=asset("send.js"), **PRIVATE
    )


def _json_code(label: str, value: str = "", *, elem_id: str | None = None) -> gr.Code:
    # Without Gradio's own buttons, which would copy the shortened text.
    return gr.Code(
        value,
        label=label,
        elem_id=elem_id,
        language="json",
        interactive=False,
        max_lines=30,
        wrap_lines=True,
        buttons=[],
    )


def video_tab(page: Page) -> None:
    """Lay out the tab that blurs a clip."""
    text = asset("video.html").replace("SECONDS", f"{CLIP_LIMITS.length_s:.0f}")
    megabytes = f"{page.limits.clip_bytes / 1024**2:.0f}"
    gr.HTML(
        f'<div class="pb-text">{text.replace("MEGABYTES", megabytes)}</div>',
        apply_default_css=False,
    )
    with gr.Row(elem_id="video-work"):
        with gr.Column(min_width=300):
            method = gr.Radio(METHODS, value=DEFAULTS.method, label="Method")
            margin = gr.Slider(0, 1, value=DEFAULTS.margin, step=0.05, label="Margin")
            confidence = gr.Slider(
                COUNT_FLOOR, 0.95, value=DEFAULTS.min_confidence, step=0.05, label="Confidence"
            )
            clip = drop_zone(
                label="Drop or choose a clip", file_types=["video"], elem_id="clip", height=150
            )
            cancel = gr.Button("Cancel", size="sm", elem_id="clip-cancel")
        with gr.Column(min_width=300, scale=2):
            outcome = gr.HTML(
                CLIP_EMPTY, elem_id="clip-outcome", apply_default_css=False, min_height=120
            )
            shown = gr.Video(
                label="Blurred clip", visible=False, interactive=False, elem_id="clip-shown",
                buttons=[],
            )  # fmt: skip
            download = gr.DownloadButton(visible=False, variant="primary", elem_id="clip-download")
    clip.upload(
        page.take_clip, [clip, method, margin, confidence], [clip, outcome, shown, download],
        show_progress_on=outcome, concurrency_id="clips", concurrency_limit=1, **PRIVATE,
    )  # fmt: skip
    # In its own queue, so that it doesn't wait for the clip that it should end.
    cancel.click(
        page.end_clip, show_progress="hidden",
        concurrency_id="cancel", concurrency_limit=None, **PRIVATE,
    )  # fmt: skip


def live_tab() -> None:
    """Lay out the tab that blurs what the camera of the visitor's device sees."""
    gr.HTML(f'<div class="pb-text">{asset("live-text.html")}</div>', apply_default_css=False)
    asset_html("live", None)


def guidance_tab(page: Page) -> None:
    """Lay out the tab that teaches how to take photos."""
    gr.HTML(asset("guidance.html"), apply_default_css=False)
    gr.HTML(angle_sketches(), apply_default_css=False)
    gr.HTML(asset("camera.html"), apply_default_css=False)
    with gr.Row():
        with gr.Column(min_width=300):
            plate = gr.Dropdown(list(camera.PLATES_MM), label="Plate")
            sensor = gr.Dropdown(list(camera.SENSORS_MM), label="Sensor")
            focals, distances, tilts, _ = camera.RANGES
            focal = gr.Slider(*focals, value=12, step=0.5, label="Focal length, mm")
            distance = gr.Slider(*distances, value=6, step=0.5, label="Distance, m")
            tilt = gr.Slider(*tilts, value=15, step=1, label="Tilt angle, degrees")
            height = gr.Dropdown(
                [720, 1080, 1440, 2160, 3024], value=1080, label="Picture height, px"
            )
        with gr.Column(min_width=300):
            controls: list[Any] = [plate, sensor, focal, distance, tilt, height]
            start = camera_answer(*(control.value for control in controls))
            answer = gr.HTML(start, elem_id="camera", apply_default_css=False)
    gr.on(
        [control.change for control in controls], camera_answer, controls, answer,
        show_progress="hidden", trigger_mode="always_last", **PRIVATE,
    )  # fmt: skip
    if page.card is not None and "figures" in page.card:
        gr.HTML(
            asset("recall.html").replace("PLOT", sketches.recall_plot(page.card["figures"])),
            apply_default_css=False,
        )


def camera_answer(
    plate: str, sensor: str, focal_mm: float, distance_m: float, tilt_deg: float, height_px: int
) -> str:
    """Return HTML that says how large a plate is in the picture, and up to which distance.

    Args:
        plate: one of `camera.PLATES_MM`.
        sensor: one of `camera.SENSORS_MM`.
        focal_mm: focal length.
        distance_m: from the lens to the plate.
        tilt_deg: how far the camera looks down on the plate.
        height_px: height of the picture.

    Raises:
        gr.Error: they are none that the controls have.
    """
    numbers = (focal_mm, distance_m, tilt_deg, height_px)
    is_known = plate in camera.PLATES_MM and sensor in camera.SENSORS_MM
    if not is_known or not all(type(each) in (int, float) for each in numbers):
        raise gr.Error("Invalid values.", print_exception=False)
    ranges = zip(numbers, camera.RANGES, strict=True)
    if not all(low <= each <= high for each, (low, high) in ranges):
        raise gr.Error("Invalid values.", print_exception=False)
    lens = {
        "plate_mm": camera.PLATES_MM[plate],
        "sensor_mm": camera.SENSORS_MM[sensor],
        "focal_mm": focal_mm,
        "tilt_deg": tilt_deg,
    }
    share = camera.plate_share(distance_m=distance_m, **lens)
    farthest_m = camera.farthest_m(GUIDANCE_RATIO, **lens)
    return (
        f"<p>The plate is <strong>{share * height_px:.0f} pixels</strong> of {height_px} high: "
        f"<strong>{advice(share)}</strong>. This lens keeps plates at 1:15 or larger up to "
        f"<strong>{farthest_m:.1f} m</strong>.</p>{sketches.picture_sketch(share, GUIDANCE_RATIO)}"
    )


def asset(name: str) -> str:
    """Return the text of a file of `plateblur/demo/assets`."""
    return (ASSETS / name).read_text(encoding="utf-8")


def asset_html(name: str, value: object, *, visible: bool = True) -> gr.HTML:
    """Return a component whose page, style and script are files of `plateblur/demo/assets`."""
    return gr.HTML(
        value,
        html_template=asset(f"{name}.html"),
        css_template=asset(f"{name}.css"),
        js_on_load=asset(f"{name}.js"),
        apply_default_css=False,
        visible=visible,
        elem_id=name,
    )
