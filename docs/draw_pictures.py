"""Make the pictures of the README and the documentation from drawn scenes and figures files.

    python -m docs.draw_pictures             # all of them
    python -m docs.draw_pictures recall.svg  # some

Run it (`make pictures`) after a change of the model, of how a blur looks, or of the demo's page.
`tests/test_pictures.py` fails where the pictures in `docs/assets/` are stale. They show no real
car: every street is drawn by `plateblur/drawn/`.
"""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import av
import numpy as np
from PIL import Image as Pil
from PIL import ImageDraw, ImageFont

from docs.draw_recall import recall_svg
from plateblur import BlurOptions, OnnxDetector, blur_photo
from plateblur.drawn import Driver, draw_scene, draw_traffic, encode
from plateblur.photo import decode
from plateblur.types import Image, Method
from plateblur.video import blur_clip
from plateblur.web.sketches import angles_svg

ROOT = Path(__file__).parents[1]
ASSETS = Path(__file__).parent / "assets"
SITE = ROOT / "plateblur" / "web" / "static"
"""Where the service's front page has its pictures."""
RECORD = ASSETS / "pictures.json"
"""What the demo's page said when its screenshot was taken."""

BLUE, RED, ORANGE = (28, 58, 120), (150, 28, 32), (196, 92, 34)
STREET = 5  # seed of a street in the sun
STANDING = (
    Driver(1, "eu", "saloon", True, BLUE, -1.55, 8.9),
    Driver(4, "uk", "hatchback", False, ORANGE, 1.45, 7.6),
    Driver(9, "eu", "suv", True, RED, -0.35, 19.0),
)
DRIVING = (
    Driver(1, "eu", "saloon", True, BLUE, -1.5, 25.0, -6.5),
    Driver(4, "uk", "hatchback", False, ORANGE, 1.4, 6.2, 2.2),
    Driver(9, "eu", "suv", True, RED, -1.5, 38.0, -6.5),
)
METHODS: tuple[Method, ...] = ("veil", "solid", "mosaic", "gaussian")
RATIOS = (10, 15, 30, 60)
SITE_WH = (1440, 960)
CLIP_HW, CLIP_FRAMES, CLIP_RATE = (432, 768), 54, 12
SCREEN_WH = (1280, 860)
PATIENCE_S = 300  # for the demo to start, and to blur a photo, on a machine under load


@cache
def detector() -> OnnxDetector:
    """Return the shipped detector."""
    return OnnxDetector.shipped()


@cache
def street() -> bytes:
    """Return the drawn photo that most pictures show."""
    return encode(next(draw_traffic(STREET, STANDING, image_hw=(1080, 1620), pitch_deg=0.6)))


def before_after() -> bytes:
    """Return the drawn photo beside what `blur_photo` makes of it."""
    after = blur_photo(street(), detector()).data
    panels = [
        _labelled(decode(photo).pixels, label, size_wh=(792, 528))
        for photo, label in ((street(), "before"), (after, "after"))
    ]
    return _webp(_side_by_side(panels))


def methods() -> bytes:
    """Return the nearest plate of the drawn photo, hidden by each method."""
    boxes = detector().detect(decode(street()).pixels, min_confidence=0.45).xyxy
    nearest = boxes[np.argmax(boxes[:, 3] - boxes[:, 1])]
    x, y = (int(middle) for middle in (nearest[:2] + nearest[2:]) / 2)
    photos = {"before": street()} | {
        method: blur_photo(street(), detector(), BlurOptions(method=method)).data
        for method in METHODS
    }
    panels = [
        _labelled(decode(photo).pixels[y - 140 : y + 140, x - 210 : x + 210], label, (306, 204))
        for label, photo in photos.items()
    ]
    return _webp(_side_by_side(panels))


def ratios() -> bytes:
    """Return one drawn car at four plate ratios."""
    panels = []
    for denominator in RATIOS:
        scene = draw_scene(
            3,
            image_hw=(720, 960),
            plates=1,
            ratios=(1 / denominator, 1 / denominator),
            regions=("eu",),
            side_deg=(-10, 10),
        )
        panels.append(_labelled(scene.image, f"1:{denominator}", (388, 291)))
    return _webp(_side_by_side(panels))


def clip() -> bytes:
    """Return an animation: a drawn clip, blurred by `blur_clip` to the right of a moving line."""
    frames = _clip_frames()
    made = io.BytesIO()
    frames[0].save(
        made, "WEBP", save_all=True, append_images=frames[1:], duration=round(1000 / CLIP_RATE),
        loop=0, quality=74, method=4,
    )  # fmt: skip
    return made.getvalue()


def site_clip() -> bytes:
    """Return the frames of `clip` as a video, which a visitor can stop."""
    return _mp4([np.asarray(frame) for frame in _clip_frames()], crf=27)


def site_poster() -> bytes:
    """Return the frame that the page shows before the video is played."""
    return _jpeg(_clip_frames()[CLIP_FRAMES // 4])


def site_before() -> bytes:
    """Return the drawn photo that visitors try."""
    return _jpeg(Pil.fromarray(decode(street()).pixels).resize(SITE_WH, Pil.Resampling.LANCZOS))


def site_after() -> bytes:
    """Return what `blur_photo` makes of it."""
    return blur_photo(site_before(), detector()).data


@cache
def _clip_frames() -> list[Pil.Image]:
    images = list(
        draw_traffic(
            STREET, DRIVING, image_hw=CLIP_HW, frames=CLIP_FRAMES, rate=CLIP_RATE, pitch_deg=2.5
        )
    )
    source, out = io.BytesIO(_mp4(images)), io.BytesIO()
    blur_clip(source, out, detector())
    frames = []
    for number, (before, after) in enumerate(zip(images, _frames(out), strict=True)):
        # From right to left and back, so that each plate is seen on both sides of the line.
        share = 0.5 + 0.36 * np.cos(2 * np.pi * number / CLIP_FRAMES)
        at = round(share * CLIP_HW[1])
        shown = np.concatenate([before[:, :at], after[:, at:]], axis=1)
        shown[:, max(at - 1, 0) : at + 2] = 255
        frame = Pil.fromarray(shown)
        _label(frame, "before", right=at - 12)
        _label(frame, "after", left=at + 14)
        frames.append(frame)
    return frames


def recall() -> bytes:
    """Return the plot of the shipped detector's recall by plate ratio."""
    return recall_svg(json.loads((ROOT / "docs" / "figures.json").read_text())).encode()


def angles() -> bytes:
    """Return the sketches of side and tilt angle that the demo and the service show too."""
    return angles_svg().encode()


def demo() -> bytes:
    """Return a screenshot of the demo's page with the drawn photo, and record what it said.

    Needs Playwright and Chromium.
    """
    from playwright.sync_api import sync_playwright

    with TemporaryDirectory() as folder:
        photo = Path(folder) / "street.jpg"
        photo.write_bytes(street())
        command = [sys.executable, "app.py", "--port", "0"]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as served:
            try:
                address = (served.stdout or io.StringIO()).readline().split()[-1]
                with sync_playwright() as started:
                    browser = started.chromium.launch(
                        executable_path="/usr/bin/chromium", args=["--no-sandbox"]
                    )
                    width, height = SCREEN_WH
                    page = browser.new_page(viewport={"width": width, "height": height})
                    page.set_default_timeout(PATIENCE_S * 1000)
                    page.goto(address)
                    page.wait_for_selector("#viewer .pb-empty")
                    page.set_input_files("#photos input[type=file]", photo)
                    page.wait_for_selector("#download:has-text('street')")
                    page.wait_for_timeout(1500)  # until what fades in has done so
                    shot = page.screenshot()
                    browser.close()
            finally:
                served.terminate()
    RECORD.write_text(json.dumps({"demo.webp": page_digest()}, indent=2) + "\n")
    return _webp(Pil.open(io.BytesIO(shot)).convert("RGB"))


def page_digest() -> str:
    """Return a digest of what the demo's page says and how it is laid out, without its code."""
    import asyncio

    import gradio as gr

    from plateblur.demo.blocks import build_demo
    from plateblur.demo.page import Page
    from plateblur.demo.tabs import ASSETS as PAGE_ASSETS
    from plateblur.demo.visits import Visits
    from plateblur.web.fetcher import PhotoFetcher

    async def said() -> list[Any]:  # in a loop, because otherwise Gradio keeps one open
        with TemporaryDirectory() as folder:
            nobody: Any = None
            visits = Visits(Path(folder) / "gradio")
            page = Page(nobody, nobody, visits, PhotoFetcher(timeout_s=1, max_bytes=1))
            blocks = build_demo(page).blocks.values()
        parts = [block for block in blocks if isinstance(block, gr.components.Component)]
        return [
            [str(getattr(part, key, "")) for key in ("label", "info", "choices", "visible")]
            for part in parts
        ]

    assets = [path.read_text() for path in sorted(PAGE_ASSETS.iterdir())]
    shown = json.dumps([asyncio.run(said()), assets])
    return hashlib.sha256(shown.encode()).hexdigest()


PICTURES: dict[str, Callable[[], bytes]] = {
    "before-after.webp": before_after,
    "methods.webp": methods,
    "ratios.webp": ratios,
    "clip.webp": clip,
    "recall.svg": recall,
    "angles.svg": angles,
    "demo.webp": demo,
}
SITE_PICTURES: dict[str, Callable[[], bytes]] = {
    "street.jpg": site_before,
    "street-blurred.jpg": site_after,
    "clip.mp4": site_clip,
    "clip.jpg": site_poster,
}


def _labelled(image: Image, label: str, size_wh: tuple[int, int]) -> Pil.Image:
    """Return the image in another size, with a label and round corners."""
    panel = Pil.fromarray(image).resize(size_wh, Pil.Resampling.LANCZOS)
    _label(panel, label, left=12)
    corners = Pil.new("L", (size_wh[0] * 4, size_wh[1] * 4))
    ImageDraw.Draw(corners).rounded_rectangle((0, 0, *corners.size), 56, fill=255)
    panel.putalpha(corners.resize(size_wh, Pil.Resampling.LANCZOS))
    return panel


def _label(image: Pil.Image, text: str, *, left: int = 0, right: int | None = None) -> None:
    """Write into the top of the image, from `left` on or up to `right`."""
    font = ImageFont.load_default(size=20)
    draw = ImageDraw.Draw(image, "RGBA")
    width = draw.textlength(text, font=font) + 20
    start = left if right is None else right - width
    draw.rounded_rectangle((start, 12, start + width, 44), 8, fill=(15, 23, 42, 205))
    draw.text((start + 10, 27), text, fill=(255, 255, 255), font=font, anchor="lm")


def _side_by_side(panels: list[Pil.Image], gap: int = 16) -> Pil.Image:
    width = sum(panel.width for panel in panels) + gap * (len(panels) - 1)
    row = Pil.new("RGBA", (width, panels[0].height))
    at = 0
    for panel in panels:
        row.paste(panel, (at, 0))
        at += panel.width + gap
    return row


def _webp(image: Pil.Image) -> bytes:
    made = io.BytesIO()
    image.save(made, "WEBP", quality=86, method=6)
    return made.getvalue()


def _jpeg(image: Pil.Image) -> bytes:
    made = io.BytesIO()
    image.save(made, "JPEG", quality=84, optimize=True)
    return made.getvalue()


def _mp4(images: list[Image], *, crf: int = 12) -> bytes:
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as target:
        stream = target.add_stream("libx264", rate=CLIP_RATE, options={"crf": str(crf)})
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for image in images:
            target.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        target.mux(stream.encode(None))
    return out.getvalue()


def _frames(clip: io.BytesIO) -> Iterator[Image]:
    clip.seek(0)
    with av.open(clip, "r") as source:
        for frame in source.decode(video=0):
            yield frame.to_ndarray(format="rgb24").astype(np.uint8)


def main(names: list[str]) -> None:
    """Make the pictures that are named, those of the front page too; all without names."""
    for name in names or [*PICTURES, *SITE_PICTURES]:
        made = (PICTURES | SITE_PICTURES)[name]()
        path = (ASSETS if name in PICTURES else SITE) / name
        path.write_bytes(made)
        sys.stdout.write(f"{path.relative_to(ROOT)}: {len(made) / 1000:.0f} kB\n")


if __name__ == "__main__":
    main(sys.argv[1:])
