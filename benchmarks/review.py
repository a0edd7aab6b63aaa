"""A run of drawn photos reviewed in a real browser: by mouse, touch and keys, with two reviewers.

    python -m benchmarks.review --photos 2000 --corrections 50

The boxes of the drawn photos are known, so `plateblur apply` hides them without a detector, except
in every tenth photo, which stands for misses. They are looked through in Debian's chromium as
people do. On the way the page is reloaded and the server killed with unsaved changes, and two
reviewers change the same photo. Then the corrections are applied, and the manifest and every output
are checked. Memory of page and server, and times, go into `benchmarks/results/review.json`; they
are this machine's.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Browser, BrowserContext, Locator, Page, sync_playwright

from plateblur.cores import cores
from plateblur.drawn.scene import draw_scene, encode
from plateblur.runs.given import reviewed_run
from plateblur.runs.review_log import Review, is_written
from plateblur.sets.annotations import Found, write_coco

RESULTS = Path(__file__).parent / "results" / "review.json"
CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--enable-precise-memory-info"]
CALL = "from plateblur.cli import app; app()"  # as the installed command does
SCENES, IMAGE_HW = 12, (360, 640)  # each photo is a part of a scene, in another light
CUT_PX = 60  # of a scene that a photo leaves out
PATIENCE_S = 120.0


def draw(folder: Path, *, photos: int) -> None:
    """Write drawn photos, and the boxes of their plates as COCO in `plates.json`.

    They are parts of a few scenes, each darker or brighter than the last. Every tenth has no boxes.
    """
    (folder / "in").mkdir(parents=True)
    rng = np.random.default_rng(0)
    scenes = [
        draw_scene(seed=seed, plates=2, ratios=(1 / 30, 1 / 10), image_hw=IMAGE_HW)
        for seed in range(min(SCENES, photos))
    ]
    height, width = IMAGE_HW[0] - CUT_PX, IMAGE_HW[1] - CUT_PX
    found = []
    for number in range(photos):
        scene = scenes[number % len(scenes)]
        left, top = rng.integers(0, CUT_PX, 2).tolist()
        part = scene.image[top : top + height, left : left + width] * rng.uniform(0.6, 1.1)
        name = f"in/{number:05}.jpg"
        (folder / name).write_bytes(encode(part.clip(0, 255).astype(np.uint8)))
        boxes = (scene.xyxy - [left, top, left, top]).clip(0, [width, height, width, height])
        seen = [box for box in boxes.round(1).tolist() if box[2] > box[0] and box[3] > box[1]]
        kept = [] if number % 10 == 9 else seen
        found.append(Found(name, (height, width), kept, [1.0] * len(kept)))
    with (folder / "plates.json").open("w") as file:
        write_coco(file, lambda: iter(found))


@dataclass(slots=True)
class Server:
    """`plateblur review` in a process of its own.

    Attributes:
        process: running.
        address: with the token.
    """

    process: subprocess.Popen[str]
    address: str

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self.address.split(":")[2].split("/")[0])

    def memory_mb(self) -> dict[str, float]:
        """Return its resident memory now and at most, MB."""
        found_lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        values = {
            line.split(":")[0]: line.split()[1] for line in found_lines if line.startswith("Vm")
        }
        return {
            "now": round(int(values["VmRSS"]) / 1024, 1),
            "peak": round(int(values["VmHWM"]) / 1024, 1),
        }

    def kill(self) -> None:
        """Kill it as a power cut does."""
        self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


def serve(run: Path, *, port: int = 0) -> Server:
    """Start the workspace of a run."""
    command = [sys.executable, "-c", CALL, "review", str(run), "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    if process.stdout is None:
        raise RuntimeError("no output")
    line = process.stdout.readline()
    return Server(process, line.split()[1])


@contextmanager
def browser() -> Iterator[Browser]:
    """Start chromium."""
    with sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield opened
        opened.close()


class Reviewer:
    """A person at the page, with a browser of their own."""

    def __init__(self, browser: Browser, address: str, name: str, **look: Any) -> None:
        """Open the page and enter a name."""
        size: Any = look.pop("viewport", {"width": 1440, "height": 900})
        self.context: BrowserContext = browser.new_context(viewport=size, has_touch=True, **look)
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE_S * 1000)
        self.faults: list[str] = []
        self.asked: list[str] = []
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.name = name
        self.open(address)

    def open(self, address: str) -> float:
        """Open an address; return the seconds until the first photo is there."""
        begun = time.monotonic()
        self.page.goto(address)
        self.wait_for_photo()
        seconds = time.monotonic() - begun
        if self.page.locator("#name-dialog[open]").count():
            self.page.get_by_label("Name", exact=True).fill(self.name)
            self.page.get_by_role("button", name="Start").click()
        return seconds

    def wait(self, is_so: Callable[[], bool], what: str) -> None:
        """Wait until something holds."""
        end = time.monotonic() + PATIENCE_S
        while not is_so():
            if time.monotonic() > end:
                raise TimeoutError(f"{what}; the page says {self.says()!r}")
            self.page.wait_for_timeout(50)

    def wait_for_photo(self) -> None:
        """Wait until the photo is there, before and after."""
        loaded = (
            "['before', 'after'].every((id) => "
            "document.querySelector(`#${id} .whole`)?.naturalWidth > 0)"
        )
        self.wait(lambda: bool(self.page.evaluate(loaded)), "no photo")

    def says(self) -> str:
        """Return what the page says about saving."""
        return self.page.locator("#saved").inner_text()

    def wait_until_saved(self) -> None:
        """Wait until the server has everything."""
        self.page.wait_for_timeout(50)
        self.wait(lambda: self.says() == "Saved", "not saved")

    def output(self) -> str:
        """Return the name of the photo that is open."""
        return self.page.locator("#name").inner_text()

    def press(self, *keys: str) -> None:
        """Press keys, one after the other."""
        for key in keys:
            self.page.keyboard.press(key)

    def go(self, output: str) -> None:
        """Go to a photo by the arrow keys."""
        self.page.locator("#viewer").focus()
        for _ in range(10_000):
            if self.output() == output:
                self.wait_for_photo()
                return
            before = self.output()
            self.press("ArrowRight")
            self.wait(lambda before=before: self.output() != before, "no next photo")  # type: ignore[misc]
        raise LookupError(output)

    def next(self) -> None:
        """Go to the next photo."""
        before = self.output()
        self.page.locator("#viewer").focus()
        self.press("ArrowRight")
        self.wait(lambda: self.output() != before, "no next photo")
        self.wait_for_photo()

    def draw_by_mouse(self) -> None:
        """Draw a box in the upper left of the photo."""
        x, y = self._corner()
        self.page.locator("#viewer").focus()
        self.press("Escape", "d")
        mouse = self.page.mouse
        mouse.move(x, y)
        mouse.down()
        mouse.move(x + 40, y + 20, steps=3)
        mouse.move(x + 90, y + 30)
        mouse.up()

    def drag_by_touch(self) -> None:
        """Move the first box with a finger; without one, draw one with it."""
        plates = self.page.locator(".plate")
        if plates.count():
            left, top, width, height = place_of(plates.first)
            x, y = left + width / 2, top + height / 2
        else:
            self.page.get_by_role("button", name="Draw").tap()
            x, y = self._corner()
        self._touch([(x, y), (x + 8, y + 3), (x + 24, y + 14), (x + 40, y + 20)])

    def add_by_keys(self) -> None:
        """Add a box in the middle, move it, make it larger, undo and redo."""
        self.page.locator("#viewer").focus()
        self.press("Escape", "a", "Shift+ArrowUp", "Shift+ArrowRight", "Alt+ArrowDown")
        self.press("Control+z", "Control+z", "Control+Shift+z", "Control+Shift+z")

    def unhide_by_keys(self) -> None:
        """Say that the first box is no plate."""
        self.page.locator("#viewer").focus()
        self.press("Escape", "Tab", "h")

    def memory_mb(self) -> float:
        """Return the memory of the page's scripts, MB."""
        session = self.context.new_cdp_session(self.page)
        session.send("HeapProfiler.collectGarbage")
        session.send("Performance.enable")
        metrics = session.send("Performance.getMetrics")["metrics"]
        (used,) = [each["value"] for each in metrics if each["name"] == "JSHeapUsedSize"]
        return round(float(used) / 1e6, 1)

    def _corner(self) -> tuple[float, float]:
        """Return where the photo begins, a little inside, pixels of the window."""
        left, top, _, _ = place_of(self.page.locator("#before .whole"))
        return max(left, 0.0) + 30, top + 30

    def _touch(self, way: list[tuple[float, float]]) -> None:
        session = self.context.new_cdp_session(self.page)
        kinds = ["touchStart", *["touchMove"] * (len(way) - 1)]
        for kind, (x, y) in zip(kinds, way, strict=True):
            session.send(
                "Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]}
            )
        session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        session.detach()


def place_of(part: Locator) -> tuple[float, float, float, float]:
    """Return where a part of the page is: left, top, width and height in pixels of the window."""
    box = part.bounding_box()
    if box is None:
        raise LookupError("it isn't in the page")
    return box["x"], box["y"], box["width"], box["height"]


def correct(reviewer: Reviewer, corrections: int) -> list[str]:
    """Correct so many photos, one after the other, and return their outputs."""
    ways = [
        reviewer.draw_by_mouse,
        reviewer.drag_by_touch,
        reviewer.add_by_keys,
        reviewer.unhide_by_keys,
    ]
    outputs = []
    for number in range(corrections):
        has_box = reviewer.page.locator(".plate").count() > 0
        way = ways[number % len(ways)]
        if not has_box and way == reviewer.unhide_by_keys:
            way = reviewer.add_by_keys
        outputs.append(reviewer.output())
        way()
        if number == corrections // 2:
            reviewer.page.reload()  # before it is saved
            reviewer.wait_for_photo()
        reviewer.wait_until_saved()
        reviewer.next()
    return outputs


def survive_a_kill(server: Server, reviewer: Reviewer, run: Path) -> tuple[Server, list[str]]:
    """Kill the server while two changes aren't saved; return the new one and their outputs."""
    outputs = [reviewer.output()]
    reviewer.draw_by_mouse()
    server.kill()
    reviewer.add_by_keys()
    reviewer.wait(lambda: reviewer.says().startswith("Not saved"), "no warning")
    again = serve(run, port=server.port)
    reviewer.open(again.address)
    reviewer.wait_until_saved()
    return again, outputs


def meet(one: Reviewer, other: Reviewer) -> str:
    """Let two reviewers change the same photo; return its output, with the boxes of both."""
    other.go(one.output())
    other.page.route("**/api/changes*", lambda route: route.abort())  # hears nothing for a while
    one.draw_by_mouse()
    one.wait_until_saved()
    other.add_by_keys()
    other.page.get_by_role("button", name="Hide the boxes of both").click()
    other.page.unroute("**/api/changes*")
    other.wait_until_saved()
    return one.output()


def reviews_of(run: Path) -> dict[str, Review]:
    """Return what the log of a run says."""
    return reviewed_run(run).log.reviews


def digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each output."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.jpg")
    }


def check(run: Path, before: dict[str, str], corrected: set[str]) -> None:
    """Raise unless exactly the corrected outputs were written again, as the log says."""
    after = digests(run)
    changed = {name for name, digest in after.items() if before[name] != digest}
    if changed != corrected or set(before) != set(after):
        raise AssertionError(f"expected {sorted(corrected)} to change, got {sorted(changed)}")
    reviewed = reviewed_run(run)
    for output, entry, line in reviewed.lines():
        if line["written"]["sha256"] != after[output]:
            raise AssertionError(f"{output}: the manifest has another hash")
        review = reviewed.log.reviews.get(output)
        if review is not None and not is_written(review, line):
            raise AssertionError(f"{output} isn't as it was reviewed")
        if entry.state != "done":
            raise AssertionError(f"{output} wasn't done")


def plateblur(*arguments: str) -> None:
    """Run the command."""
    subprocess.run([sys.executable, "-c", CALL, *arguments], check=True)


def measure(folder: Path, *, photos: int, corrections: int) -> dict[str, Any]:
    """Do the whole review in `folder`, check it, and return times and memory."""
    run = folder / "out"
    draw(folder, photos=photos)
    plateblur("apply", str(folder / "plates.json"), str(folder / "in"), "-o", str(run), "--quiet")
    before = digests(run)
    server = serve(run)
    try:
        with browser() as opened:
            ana = Reviewer(opened, server.address, "Ana")
            first_s = ana.open(server.address)
            memory: dict[str, Any] = {"page_mb_at_first": ana.memory_mb()}
            begun = time.monotonic()
            corrected = correct(ana, corrections)
            seconds = time.monotonic() - begun
            ana.page.locator("#strip").focus()
            for part in range(1, 21):  # all along the strip, so that thumbnails are made
                ana.page.locator("#strip").evaluate(
                    "(strip, share) => { strip.scrollLeft = share * strip.scrollWidth; }", part / 20
                )
                ana.page.wait_for_timeout(400)
            memory |= {"page_mb_after": ana.memory_mb(), "server_mb": server.memory_mb()}
            in_page = ana.page.locator(".item").count()
            server, unsaved = survive_a_kill(server, ana, run)
            ana.next()
            both = meet(ana, Reviewer(opened, server.address, "Ben"))
            faults = ana.faults
            outside = [url for url in ana.asked if not url.startswith("http://127.0.0.1:")]
    finally:
        server.kill()
    wanted = {*corrected, *unsaved, both}
    missing = wanted - {name for name, one in reviews_of(run).items() if one.is_corrected}
    if missing or faults or outside:
        raise AssertionError(f"lost: {missing}, faults: {faults}, other hosts: {outside}")
    begun = time.monotonic()
    plateblur("apply", str(run), "--quiet")
    apply_s = time.monotonic() - begun
    check(run, before, wanted)
    return {
        "photos": photos,
        "corrections": len(wanted),
        "first_photo_s": round(first_s, 2),
        "seconds_a_correction": round(seconds / corrections, 2),
        "apply_s": round(apply_s, 1),
        "items_in_page": in_page,
        **memory,
        "cores": cores(),
    }


def main() -> None:
    """Measure, and write what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=int, default=2000)
    parser.add_argument("--corrections", type=int, default=50)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(Path(folder), photos=given.photos, corrections=given.corrections)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
