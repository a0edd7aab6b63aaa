"""The demo's own jobs in worker processes: photos, clips and all that is made of them."""

from __future__ import annotations

import json
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path

import gradio as gr
import pytest

from plateblur.bounded import BoundedWorkers, WorkLimits
from plateblur.demo.page import PROGRESS, Page
from plateblur.demo.photos import Limits
from plateblur.demo.review import Review
from plateblur.demo.serving import PHOTO_LIMITS
from plateblur.demo.visits import Visits
from plateblur.web.fetcher import PhotoFetcher
from plateblur.web.settings import Settings
from tests.clips import BlinkingDetector, drawn_clip, driving, frames_of
from tests.demo.fakes import DrawnDetector, drawn_photo, uploaded
from tests.test_headers import png_header
from tests.test_photo import png_of

pytestmark = pytest.mark.slow

SETTINGS = ("veil", 0.25, 0.45, False, "strip")
LIMITS = WorkLimits(30, 120, memory_bytes=400 * 1024**2)
CLIP_LIMITS = WorkLimits(30, 120, memory_bytes=400 * 1024**2, file_bytes=10**8)


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    made = Page(
        BoundedWorkers(DrawnDetector, count=1, limits=LIMITS),
        BoundedWorkers(BlinkingDetector, count=1, limits=CLIP_LIMITS, fresh=True),
        Visits(tmp_path / "gradio"),
        PhotoFetcher(timeout_s=1, max_bytes=1),
        Limits(),
        review=Review(tmp_path / "review"),
    )
    yield made
    made.close()


def visitor() -> gr.Request:
    return gr.Request(session_hash="one")


def drop(page: Page, *photos: bytes) -> list[object]:
    tokens = [uploaded(page.visits.uploads, "one", "car.jpg", data) for data in photos]
    return page.take(visitor(), PROGRESS, tokens, *SETTINGS)[2:]


def test_photos_go_the_whole_way_in_a_worker(page: Page, tmp_path: Path) -> None:
    view, _, download, *_ = drop(page, drawn_photo(), drawn_photo("PNG"))
    zipped = page.zip_all(visitor(), PROGRESS, *SETTINGS)
    texts = page.api_texts("YES", visitor())
    assert page.keep(visitor(), True, *SETTINGS) is False

    assert view["plates"][0]["confidence"] == "0.90"  # type: ignore[index]
    assert Path(download["value"]).read_bytes()[:3] == b"\xff\xd8\xff"  # type: ignore[index]
    assert Path(zipped).stat().st_size > 1000
    assert list(json.loads(texts[1])) == ["created", "predictions", "final_photo"]
    assert len(list(tmp_path.glob("review/images/*/*.jpg"))) == 1


def test_a_photo_that_needs_too_much_memory_is_told_and_the_next_one_blurred(page: Page) -> None:
    side = 5_400  # 29 megapixels with opacity, of which three views are looked at
    rows = zlib.compress((b"\0" + bytes([90, 90, 90, 120]) * side) * side, 1)
    large = png_of(png_header(side, side, colours=6), (b"IDAT", rows))

    refused, *_ = drop(page, large)
    view, *_ = drop(page, drawn_photo())

    assert "it needs more memory than is given to one photo" in refused["failure"]  # type: ignore[index]
    assert "before" in view  # type: ignore[operator]


def test_a_clip_goes_the_whole_way_in_a_worker(page: Page) -> None:
    token = uploaded(page.visits.uploads, "one", "drive.mov", drawn_clip(driving(4)))

    _, told, shown, _ = page.take_clip(visitor(), PROGRESS, [token], "veil", 0.25, 0.45)

    assert "1 plate hidden</strong> in 4 frames" in told
    assert len(frames_of(Path(shown["after"]).read_bytes())) == 4


@pytest.mark.parametrize("way", ["cancel", "leave", "another clip"])
def test_a_clip_in_work_is_ended_at_once(page: Page, way: str) -> None:
    token = uploaded(page.visits.uploads, "one", "drive.mov", drawn_clip(driving(300)))
    answers: list[list[object]] = []
    work = threading.Thread(
        target=lambda: answers.append(
            page.take_clip(visitor(), PROGRESS, [token], "veil", 0.25, 0.45)
        )
    )
    work.start()
    while not page.jobs.are_in_work("one"):
        assert work.is_alive()
    if way == "cancel":
        page.end_clip(visitor())
    elif way == "leave":
        page.leave(visitor())
    else:
        page.take_clip(visitor(), PROGRESS, ["none"], "veil", 0.25, 0.45)
        other = uploaded(page.visits.uploads, "one", "b.mov", drawn_clip(driving(2)))
        page.take_clip(visitor(), PROGRESS, [other], "veil", 0.25, 0.45)
    work.join(60)

    assert "Cancelled" in str(answers[0][1])


def test_a_photo_may_cost_here_what_it_may_cost_in_the_service() -> None:
    settings = Settings()
    assert Limits().photo_pixels == settings.max_pixels
    assert (
        WorkLimits.of_photo(processor_s=settings.photo_work_s, memory_mb=settings.photo_memory_mb)
        == PHOTO_LIMITS
    )
