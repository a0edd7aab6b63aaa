from __future__ import annotations

import asyncio
import base64
import io
import json
import re
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pillow_heif
import pytest
from PIL import Image as PillowImage

from plateblur.demo.blocks import build_demo, footer_of
from plateblur.demo.page import EXAMPLE_CLIP, NOTHING_SENT, PROGRESS, Page, unused_name
from plateblur.demo.photos import EXAMPLES, OPENING, Limits, opening_of
from plateblur.demo.review import Review
from plateblur.demo.serving import scenes_in
from plateblur.demo.tabs import camera_answer
from plateblur.demo.visits import Visits
from plateblur.drawn import examples as drawn_examples
from plateblur.photo import decode
from plateblur.pipeline import blur_photo
from plateblur.types import BlurOptions
from plateblur.video.looking import WORKERS
from plateblur.web.fetcher import PhotoFetcher
from tests.clips import BlinkingDetector, drawn_clip, driving, frames_of
from tests.demo.fakes import (
    FAINT,
    IMAGE_HW,
    MISSED,
    PLATE,
    DrawnDetector,
    contrast,
    drawn_image,
    drawn_photo,
    uploaded,
)
from tests.fakes import DarkDetector, SameProcess

pytestmark = pytest.mark.slow  # each worker would take 4 s to import Gradio

MARGIN, CONFIDENCE = BlurOptions().margin, BlurOptions().min_confidence
DEFAULTS: Any = ("veil", MARGIN, CONFIDENCE, False, "strip")
VIEW, FILM, DOWNLOAD, ZIP = range(4)


def heic_photo() -> bytes:
    out = io.BytesIO()
    pillow_heif.from_pillow(PillowImage.fromarray(drawn_image())).save(out)
    return out.getvalue()


def turned_photo() -> bytes:
    exif = PillowImage.Exif()
    exif[0x0112] = 6  # stored lying on its side
    out = io.BytesIO()
    lying = PillowImage.fromarray(np.rot90(drawn_image()).copy())
    lying.save(out, "JPEG", exif=exif, quality=93, subsampling=0)
    return out.getvalue()


def page_in(folder: Path, *, fails: bool = False, limits: Limits | None = None) -> Page:
    return clip_page(folder, DrawnDetector(fails=fails), limits=limits)


def visitor(session: str = "one") -> gr.Request:
    return gr.Request(session_hash=session)


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def upload(page: Page, name: str, data: bytes, *, visitor: str = "one") -> str:
    """Upload as the door does, and return the token that the page's methods get."""
    return uploaded(page.visits.uploads, visitor, name, data)


class ByEffort(DrawnDetector):
    """Finds the drawn plates only when it looks hard."""

    def detect(self, image: Any, *, min_confidence: float, **how: Any) -> Any:
        found = super().detect(image, min_confidence=min_confidence, **how)
        return found if how["effort"] == "thorough" else found.at_least(1.01)


def drop(page: Page, *photos: tuple[str, bytes], settings: Any = DEFAULTS) -> list[Any]:
    """Drop photos as the page does; what is shown comes after the emptied drop zone and URL."""
    uploads = [upload(page, name, data) for name, data in photos]
    emptied, url, *shown = page.take(visitor(), PROGRESS, uploads, *settings)
    assert (emptied, url) == (None, "")
    return shown


def event(**data: Any) -> gr.EventData:
    return gr.EventData(None, data)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("car.jpg", drawn_photo("JPEG", quality=91)),
        ("car.png", drawn_photo("PNG")),
        ("car.webp", drawn_photo("WEBP")),
        ("car.heic", heic_photo()),
        ("turned.jpeg", turned_photo()),
    ],
    ids=["jpeg", "png", "webp", "heic", "turned by exif"],
)
def test_the_very_bytes_that_were_dropped_are_blurred(
    tmp_path: Path, name: str, data: bytes
) -> None:
    page = page_in(tmp_path)

    shown = drop(page, (name, data))

    path = Path(shown[DOWNLOAD]["value"])
    assert path.read_bytes() == blur_photo(data, DrawnDetector(), BlurOptions()).data
    assert path.suffix == Path(name).suffix
    blurred = decode(path.read_bytes())
    assert blurred.image_hw == IMAGE_HW
    assert contrast(drawn_image(), PLATE) > 150
    assert contrast(blurred.pixels, PLATE) < 60


def test_a_drop_leaves_nothing_but_the_blurred_photo_on_disk(tmp_path: Path) -> None:
    page = page_in(tmp_path)

    shown = drop(page, ("car.jpg", drawn_photo()))

    assert files_in(tmp_path) == [Path(shown[DOWNLOAD]["value"])]


def test_plates_are_listed_with_confidence_ratio_and_a_crop_that_is_hidden(tmp_path: Path) -> None:
    shown = drop(page_in(tmp_path), ("car.jpg", drawn_photo()))

    [plate] = shown[VIEW]["plates"]
    assert plate["confidence"] == "0.90"
    assert plate["advice"] == "Hidden. 1:12, within 1:15"
    assert plate["crop"].startswith("data:image/jpeg;base64,")
    assert not plate["by_hand"]


@pytest.mark.parametrize(
    ("data", "limits", "fails", "says"),
    [
        (b"no photo", Limits(), False, "could not be read as a photo"),
        (b"", Limits(), False, "could not be read as a photo"),
        (drawn_photo()[:3000], Limits(), False, "could not be read as a photo"),
        (drawn_photo(), Limits(photo_bytes=1000), False, "too large for the demo"),
        (drawn_photo(), Limits(photo_pixels=1000), False, "too large for the demo"),
        (drawn_photo(), Limits(), True, "could not be blurred, so there is no download"),
    ],
    ids=["no photo", "empty", "cut short", "too many bytes", "too many pixels", "detector fails"],
)
def test_a_photo_that_cannot_be_blurred_is_told_and_never_given_out(
    tmp_path: Path, data: bytes, limits: Limits, fails: bool, says: str
) -> None:
    shown = drop(page_in(tmp_path, fails=fails, limits=limits), ("car.jpg", data))

    assert says in shown[VIEW]["failure"]
    assert set(shown[VIEW]) == {"name", "failure"}
    assert shown[DOWNLOAD]["visible"] is False
    assert files_in(tmp_path) == []


def test_a_failure_takes_back_the_download_of_the_photo_before(tmp_path: Path) -> None:
    page = page_in(tmp_path)
    drop(page, ("car.jpg", drawn_photo()))

    drop(page, ("text.jpg", b"no photo"))

    assert files_in(tmp_path) == []


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        (("solid", MARGIN, CONFIDENCE, False, "strip"), 1),
        (("veil", MARGIN, 0.05, False, "strip"), 2),
        (("veil", MARGIN, 0.95, False, "strip"), 0),
    ],
    ids=["another method", "lower confidence", "higher confidence"],
)
def test_other_settings_blur_the_held_photo_again(
    tmp_path: Path, settings: Any, count: int
) -> None:
    page = page_in(tmp_path)
    first = drop(page, ("car.jpg", drawn_photo()))

    shown = page.blur_again(visitor(), *settings)

    path = Path(shown[DOWNLOAD]["value"])
    options = BlurOptions(method=settings[0], min_confidence=settings[2])
    assert path.read_bytes() == blur_photo(drawn_photo(), DrawnDetector(), options).data
    assert len(shown[VIEW]["plates"]) == count
    assert not Path(first[DOWNLOAD]["value"]).exists()


def test_a_missed_plate_is_hidden_once_it_is_drawn_around(tmp_path: Path) -> None:
    page = page_in(tmp_path)
    drop(page, ("car.png", drawn_photo("PNG")))

    shown = page.add_plate(visitor(), event(xyxy=list(MISSED), name="car.png"), *DEFAULTS)

    blurred = decode(Path(shown[DOWNLOAD]["value"]).read_bytes())
    assert contrast(blurred.pixels, MISSED) < 60
    assert contrast(blurred.pixels, PLATE) < 60
    assert [plate["by_hand"] for plate in shown[VIEW]["plates"]] == [True, False]
    assert shown[VIEW]["corrected"]


def test_a_harder_search_finds_what_the_first_missed(tmp_path: Path) -> None:
    page = clip_page(tmp_path, ByEffort())
    two = [("car.png", drawn_photo("PNG")), ("van.png", drawn_photo("PNG"))]
    assert drop(page, *two)[VIEW]["plates"] == []
    drawn = page.add_plate(visitor(), event(xyxy=list(MISSED), name="car.png"), *DEFAULTS)
    assert [plate["by_hand"] for plate in drawn[VIEW]["plates"]] == [True]

    shown = page.blur_again(visitor(), *DEFAULTS, "thorough")
    zipped = page.zip_all(visitor(), PROGRESS, *DEFAULTS, "thorough")

    assert [plate["by_hand"] for plate in shown[VIEW]["plates"]] == [True, False]
    with zipfile.ZipFile(zipped) as archive:
        for name in archive.namelist():
            assert contrast(decode(archive.read(name)).pixels, PLATE) < 60
    back = page.blur_again(visitor(), *DEFAULTS)
    assert [plate["by_hand"] for plate in back[VIEW]["plates"]] == [True]


def test_a_wrong_box_is_removed_and_corrections_are_undone(tmp_path: Path) -> None:
    page = page_in(tmp_path)
    settings = ("veil", MARGIN, 0.05, False, "strip")
    before = drop(page, ("car.png", drawn_photo("PNG")), settings=settings)[VIEW]["plates"]

    removed = page.remove_plate(visitor(), event(xyxy=list(FAINT), name="car.png"), *settings)
    undone = page.uncorrect(visitor(), event(name="car.png"), *settings)

    assert [plate["xyxy"] for plate in removed[VIEW]["plates"]] == [list(PLATE)]
    assert undone[VIEW]["plates"] == before
    assert not undone[VIEW]["corrected"]


@pytest.mark.parametrize(
    "xyxy",
    [[], [1, 2, 3], [1, 2, 1, 9], [0, 0, float("nan"), 9], [0, 0, 1e39, 9]],
    ids=["empty", "three numbers", "no width", "nan", "infinite"],
)
def test_a_box_that_is_none_is_refused(tmp_path: Path, xyxy: list[float]) -> None:
    page = page_in(tmp_path)
    drop(page, ("car.png", drawn_photo("PNG")))

    with pytest.raises(gr.Error, match="A box must"):
        page.add_plate(visitor(), event(xyxy=xyxy, name="car.png"), *DEFAULTS)


def test_several_photos_are_picked_from_and_zipped(tmp_path: Path) -> None:
    page = page_in(tmp_path)
    photo = drawn_photo()
    shown = drop(page, ("a.jpg", photo), ("bad.jpg", b"no photo"), ("A.jpg", photo))

    picked = page.pick(visitor(), event(number=1), *DEFAULTS)
    with pytest.warns(UserWarning, match="1 of 3 photos could not be blurred"):
        zipped = page.zip_all(visitor(), PROGRESS, *DEFAULTS)

    assert [frame["name"] for frame in shown[FILM]["frames"]] == ["a.jpg", "bad.jpg", "A.jpg"]
    assert [frame.get("failed", False) for frame in shown[FILM]["frames"]] == [False, True, False]
    assert (shown[FILM]["shown"], picked[FILM]["shown"]) == (0, 1)
    assert shown[ZIP]["visible"]
    assert picked[VIEW]["name"] == "bad.jpg"
    with zipfile.ZipFile(zipped) as archive:
        assert archive.namelist() == ["a-blurred.jpg", "A-blurred-2.jpg", "NOT-BLURRED.txt"]
        assert contrast(decode(archive.read("a-blurred.jpg")).pixels, PLATE) < 60
        assert archive.read("NOT-BLURRED.txt").startswith(b"bad.jpg: This file could not be read")


def test_the_filmstrip_says_where_a_look_is_wanted(tmp_path: Path) -> None:
    page = page_in(tmp_path)
    settings = ("veil", MARGIN, 0.05, False, "strip")
    drop(page, ("a.jpg", drawn_photo()), ("b.jpg", drawn_photo()), settings=settings)

    removed = page.remove_plate(visitor(), event(xyxy=list(FAINT), name="a.jpg"), *settings)

    first, second = removed[FILM]["frames"]
    assert (first["plates"], first["marks"], first["corrected"]) == (1, [], True)
    assert (second["plates"], second["marks"], second["corrected"]) == (
        2,
        ["unsure"],
        False,
    )
    assert second["thumb"].startswith("data:image/jpeg;base64,")


@pytest.fixture
def opened(tmp_path: Path) -> Page:
    """A page with a drawn scene, as `run_demo` makes it."""
    scene = tmp_path / "scenes" / "street-day.jpg"
    scene.parent.mkdir()
    scene.write_bytes(drawn_photo())
    opening = opening_of(DrawnDetector(), (scene,), Limits(), BlurOptions())
    return replace(page_in(tmp_path / "served"), examples=(scene,), opening=opening)


def test_the_page_opens_with_a_scene_that_is_already_blurred(opened: Page) -> None:
    assert opened.opening is not None
    view = opened.opening.view
    after = decode(base64.b64decode(view["after"].partition(",")[2]))
    assert view["is_example"]
    assert contrast(after.pixels, PLATE) < 60
    assert contrast(after.pixels, MISSED) > 100

    shown = opened.blur_again(visitor(), "solid", *DEFAULTS[1:])

    assert shown[VIEW]["is_example"]
    assert shown[DOWNLOAD]["visible"]


def test_the_opening_scene_is_corrected_like_a_photo(opened: Page) -> None:
    box = event(xyxy=list(MISSED), name="street-day.jpg")
    assert len(opened.add_plate(visitor(), box, *DEFAULTS)[VIEW]["plates"]) == 2
    assert len(opened.blur_again(visitor(), *DEFAULTS)[VIEW]["plates"]) == 2


def test_a_correction_of_a_forgotten_photo_does_not_hit_the_opening_scene(opened: Page) -> None:
    with pytest.raises(gr.Error, match="expired"):
        opened.add_plate(visitor(), event(xyxy=list(MISSED), name="mine.jpg"), *DEFAULTS)


def test_the_opening_scene_is_not_taken_for_a_photo_of_the_visitor(opened: Page) -> None:
    assert opened.api_texts("YES", visitor()) == [NOTHING_SENT, NOTHING_SENT]


def test_a_drawn_scene_is_not_taken_for_training(opened: Page, tmp_path: Path) -> None:
    page = replace(opened, review=Review(tmp_path / "review"))
    page.blur_again(visitor("opening"), *DEFAULTS)
    page.take_example(visitor("picked"), event(number=0), *DEFAULTS)
    for session in ("opening", "picked"):
        with pytest.raises(gr.Error, match="drawn"):
            page.keep(visitor(session), True, *DEFAULTS)
    assert files_in(tmp_path / "review") == []


def test_scenes_and_a_clip_come_with_the_package() -> None:
    scenes = scenes_in(EXAMPLES)
    assert {path.stem for path in scenes} == set(drawn_examples.EXAMPLES)
    assert OPENING in {path.stem for path in scenes}
    assert all(decode(path.read_bytes()).image_hw[0] >= 1000 for path in scenes)
    assert len(frames_of(EXAMPLE_CLIP.read_bytes())) == 54


def test_the_drawn_clip_is_blurred_and_played_beside_the_original(tmp_path: Path) -> None:
    page = clip_page(tmp_path, DarkDetector())

    told, shown, download = page.take_example_clip(visitor(), PROGRESS, "veil", MARGIN, CONFIDENCE)

    assert "in 54 frames" in told
    assert shown["after"] == download["value"]
    assert base64.b64decode(shown["before"].partition(",")[2]) == EXAMPLE_CLIP.read_bytes()
    assert files_in(tmp_path) == [Path(download["value"])]


def test_more_photos_than_allowed_are_not_taken_and_not_kept(tmp_path: Path) -> None:
    page = page_in(tmp_path, limits=Limits(photos=1))

    with pytest.warns(UserWarning, match="Only the first 1 of 2"):
        shown = drop(page, ("a.jpg", drawn_photo()), ("b.jpg", drawn_photo()))

    assert shown[FILM] is None
    assert shown[ZIP]["visible"] is False
    assert len(files_in(tmp_path)) == 1


def test_one_visitor_never_sees_the_photos_of_another(tmp_path: Path) -> None:
    page = page_in(tmp_path)
    drop(page, ("a.jpg", drawn_photo()))

    shown = page.blur_again(visitor("another"), *DEFAULTS)

    assert shown[VIEW] is None
    assert shown[DOWNLOAD]["visible"] is False


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://127.0.0.1/car.jpg", "The URL may not be fetched."),
        ("file:///etc/passwd", "The URL must start with http:// or https://."),
    ],
    ids=["this machine", "a file of this machine"],
)
def test_a_url_that_may_not_be_fetched_is_told(tmp_path: Path, url: str, says: str) -> None:
    shown = page_in(tmp_path).take_url(visitor(), url, *DEFAULTS)

    assert shown[VIEW]["failure"] == says


def test_no_url_changes_nothing(tmp_path: Path) -> None:
    page = page_in(tmp_path)
    drop(page, ("a.jpg", drawn_photo()))

    shown = page.take_url(visitor(), "  ", *DEFAULTS)

    assert shown[VIEW]["name"] == "a.jpg"


@pytest.mark.parametrize(
    ("distance_m", "says"),
    [(5.0, "within 1:15"), (9.0, "may be missed")],
    ids=["near", "far"],
)
def test_the_guidance_says_whether_a_plate_is_large_enough(distance_m: float, says: str) -> None:
    answer = camera_answer(
        "Europe, one row (110 mm)", "Full frame (24 mm high)", 100, distance_m, 0, 1080
    )

    assert says in answer


def test_names_in_a_zip_differ_even_without_regard_to_case() -> None:
    used: set[str] = set()

    assert [unused_name(name, used) for name in ("a.jpg", "A.jpg", "a.jpg")] == [
        "a.jpg",
        "A-2.jpg",
        "a-3.jpg",
    ]


def test_the_page_offers_no_public_interface_of_gradio(tmp_path: Path) -> None:
    async def interface() -> Any:  # In a loop, because Gradio leaves one open otherwise.
        return build_demo(page_in(tmp_path)).get_api_info()

    info = asyncio.run(interface())

    assert info == {"named_endpoints": {}, "unnamed_endpoints": {}}


def take_clip(page: Page, data: bytes, name: str = "drive.mov") -> list[Any]:
    token = upload(page, name, data)
    emptied, *shown = page.take_clip(visitor(), PROGRESS, [token], "veil", MARGIN, CONFIDENCE)
    assert emptied is None
    return shown


def clip_page(folder: Path, detector: Any = None, *, limits: Limits | None = None) -> Page:
    fetcher = PhotoFetcher(timeout_s=1, max_bytes=1)
    workers = SameProcess(detector or BlinkingDetector())
    return Page(workers, workers, Visits(folder), fetcher, limits or Limits())


def test_a_clip_comes_back_blurred_and_alone_on_disk(tmp_path: Path) -> None:
    told, shown, download = take_clip(clip_page(tmp_path), drawn_clip(driving(4)))

    assert "1 plate hidden</strong> in 4 frames" in told
    assert shown == {"after": download["value"]}
    assert files_in(tmp_path) == [Path(download["value"])]
    assert Path(download["value"]).name == "drive-blurred.mp4"
    assert len(frames_of(Path(download["value"]).read_bytes())) == 4


@pytest.mark.parametrize(
    ("data", "detector", "limits", "says"),
    [
        (
            b"<b>no clip",
            BlinkingDetector(),
            Limits(),
            "there is no download: expected a whole clip",
        ),
        (b"12345", BlinkingDetector(), Limits(clip_bytes=4), "larger than"),
        (None, BlinkingDetector(fails=[2]), Limits(), "there is no download: the detector failed"),
    ],
    ids=["no clip", "too large", "a frame fails"],
)
def test_a_clip_that_cannot_be_blurred_is_told_and_takes_back_the_one_before(
    tmp_path: Path, data: bytes | None, detector: Any, limits: Limits, says: str
) -> None:
    take_clip(clip_page(tmp_path), drawn_clip(driving(2)))
    page = clip_page(tmp_path, detector, limits=limits)
    page.visits.new_path("one", "clip", "earlier.mp4").write_bytes(b"earlier")
    before = {path for path in files_in(tmp_path) if path.name != "earlier.mp4"}

    told, shown, download = take_clip(page, drawn_clip(driving(4)) if data is None else data)

    assert says in told
    assert (shown, download["visible"]) == (None, False)
    assert set(files_in(tmp_path)) == before


@pytest.mark.parametrize("way", ["cancel", "leave"])
def test_a_clip_is_ended_by_its_visitor(tmp_path: Path, way: str) -> None:
    class Impatient(BlinkingDetector):
        def detect(self, image: Any, *, min_confidence: float, **how: Any) -> Any:
            ends = page.end_clip if way == "cancel" else page.leave
            ends(visitor("another"))  # which ends no one else's
            if len(self.__dict__["calls"]) == 2:
                ends(visitor())
            return super().detect(image, min_confidence=min_confidence, **how)

    detector = Impatient()
    page = clip_page(tmp_path, detector)

    told, *_ = take_clip(page, drawn_clip(driving(12)))

    assert "Cancelled" in told
    assert len(detector.__dict__["calls"]) <= 3 + WORKERS  # those that are under way end
    assert files_in(tmp_path) == []


@pytest.mark.parametrize(
    ("source_url", "link"),
    [("", "/source.zip"), ("https://a.example/?b=1&c", "https://a.example/?b=1&amp;c")],
    ids=["the running code", "the operator's"],
)
def test_the_page_says_how_long_photos_are_kept_and_where_the_source_code_is(
    tmp_path: Path, source_url: str, link: str
) -> None:
    page = replace(page_in(tmp_path), source_url=source_url)

    async def config_of_the_page() -> Any:  # In a loop, because Gradio leaves one open otherwise.
        return build_demo(page).get_config_file()

    config = json.dumps(asyncio.run(config_of_the_page()))
    footer = footer_of(page)

    assert json.dumps(footer)[1:-1] in config
    assert f'<a href="{link}">source code</a>' in footer
    uploads, visits = page.visits.uploads, page.visits
    assert f"at most {uploads.keep_s / 60:.0f} minutes" in footer
    assert f"{visits.grace_s:.0f} seconds after you close the page" in footer
    assert f"after {visits.keep_s / 60:.0f} minutes without use" in footer
    assert ("stored unblurred" in footer) is (page.review is not None)
    assert not re.search(r"\b[A-Z]{4,}\b", footer.replace("AGPL", ""))  # no mark is left


def test_a_page_that_collects_photos_says_so(tmp_path: Path) -> None:
    page = replace(page_in(tmp_path), review=Review(tmp_path / "review"))
    assert "stored unblurred" in footer_of(page)
