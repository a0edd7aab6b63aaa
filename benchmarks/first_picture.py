"""How long the first picture takes on each page that opens with one, in a real browser.

    python -m benchmarks.first_picture

The demo, the service with the demo at `/demo`, and the workspace of a run of drawn photos are
served one after the other. A first visit warms each. Then Debian's chromium opens it several times,
each time in a new context, without cookies and with nothing in its cache.

- `picture_s`: from the start of the navigation until the blurred picture is on the screen: decoded,
  in the window, and two animation frames later, so that it is painted.
- `usable_s`: until it also answers: on the demo the slider between before and after, in the
  workspace the buttons and the boxes.

Median and slowest visit go into `benchmarks/results/first_picture.json`, with the machine and its
load before and after: how many processes wanted a core. Run nothing beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from playwright.sync_api import Browser, Page

from benchmarks.machine import machine
from benchmarks.review import CALL, browser, draw, plateblur, serve
from benchmarks.service import serving

RESULTS = Path(__file__).parent / "results" / "first_picture.json"
PATIENCE_S = 120
PHOTOS = 2000  # of the run whose workspace is opened
VISITS = 7
DEMO_PICTURE = 'img[alt="The photo with its plates hidden"]'
DEMO_SLIDER = "#viewer .pb-work:not([hidden]) .pb-range"
WORKSPACE_PICTURE, WORKSPACE_READY = "#after .whole", "html[data-ready] #plates"

WATCH = """
(() => {
  const LEAST_PX = 100;
  const times = (window.firstPicture = {});
  localStorage.setItem("plateblur-by", "benchmark"); // or the workspace asks for a name first
  const isSeen = (node) => {
    if (!node.complete || !node.naturalWidth) return false;
    const box = node.getBoundingClientRect();
    const isLarge = Math.min(box.width, box.height) > LEAST_PX;
    const isInSight = box.top + LEAST_PX < innerHeight && box.left + LEAST_PX < innerWidth;
    const isShown = node.checkVisibility({ opacityProperty: true, visibilityProperty: true });
    return isLarge && isInSight && isShown;
  };
  const look = () => {
    const isThere = [...document.querySelectorAll(PICTURE)].some(isSeen);
    if (isThere && !("picture_s" in times)) {
      times.picture_s = 0;
      requestAnimationFrame(() => requestAnimationFrame((now) => (times.picture_s = now / 1000)));
    }
    const isReady = isThere && times.picture_s && document.querySelector(READY);
    if (isReady) times.usable_s = performance.now() / 1000;
    else requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
})();
"""


@dataclass(frozen=True, slots=True)
class Waits:
    """How long visitors waited for something, seconds.

    Attributes:
        median: of all visits.
        slowest: of all visits.
    """

    median: float
    slowest: float


def visits(browser: Browser, address: str, picture: str, ready: str, *, count: int) -> Any:
    """Open a page so many times, and return how long picture and controls took.

    Args:
        browser: already running.
        address: of the page.
        picture: selector of the blurred picture.
        ready: selector of what is there once it answers.
        count: visits after the first, which isn't counted.
    """
    watch = WATCH.replace("PICTURE", json.dumps(picture)).replace("READY", json.dumps(ready))
    seen: list[dict[str, float]] = []
    for _ in range(count + 1):
        context = browser.new_context(viewport={"width": 1440, "height": 900})
        context.add_init_script(watch)
        page = context.new_page()
        page.goto(address, wait_until="commit")
        seen.append(_seen(page))
        context.close()
    return {
        name: asdict(Waits(round(median(each), 2), round(max(each), 2)))
        for name in ("picture_s", "usable_s")
        for each in [[visit[name] for visit in seen[1:]]]
    }


def _seen(page: Page) -> dict[str, float]:
    """Return both times of a page, once they are known."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        times: dict[str, float] = page.evaluate("window.firstPicture ?? {}")
        if "usable_s" in times:
            return times
        page.wait_for_timeout(100)
    raise TimeoutError(f"{page.url.partition('?')[0]} shows no picture")


@contextmanager
def demo() -> Iterator[str]:
    """Serve the demo; yield its address."""
    command = [sys.executable, "-c", CALL, "demo", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            said = process.stdout.readline() if process.stdout else ""
            yield said.removeprefix("PlateBlur demo: ").strip()
        finally:
            process.terminate()


@contextmanager
def workspace(folder: Path, *, photos: int) -> Iterator[str]:
    """Serve the workspace of a run of drawn photos; yield its address."""
    draw(folder, photos=photos)
    boxes, run = folder / "plates.json", folder / "out"
    plateblur("apply", str(boxes), str(folder / "in"), "-o", str(run), "--quiet")
    server = serve(run)
    try:
        yield server.address
    finally:
        server.kill()


def measure(*, photos: int, count: int) -> dict[str, Any]:
    """Return the waits of each page."""
    pages: dict[str, Any] = {}
    with browser() as opened, tempfile.TemporaryDirectory() as folder:
        with demo() as address:
            pages["demo"] = visits(opened, address, DEMO_PICTURE, DEMO_SLIDER, count=count)
        with serving(Path(folder) / "data", settings={"PLATEBLUR_DEMO": "true"}) as (port, _):
            address = f"http://127.0.0.1:{port}/demo/"
            pages["/demo"] = visits(opened, address, DEMO_PICTURE, DEMO_SLIDER, count=count)
        with workspace(Path(folder), photos=photos) as address:
            pages["review"] = visits(
                opened, address, WORKSPACE_PICTURE, WORKSPACE_READY, count=count
            )
    return pages


def main() -> None:
    """Measure, and write what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=int, default=PHOTOS)
    parser.add_argument("--visits", type=int, default=VISITS)
    given = parser.parse_args()
    load = [round(os.getloadavg()[0], 1)]
    pages = measure(photos=given.photos, count=given.visits)
    load.append(round(os.getloadavg()[0], 1))
    about = {"machine": machine(), "load_average": load}
    result = {**about, "visits": given.visits, "run_photos": given.photos, **pages}
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
