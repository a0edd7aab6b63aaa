"""The workspace in Debian's chromium, small: what `benchmarks/review.py` does with 2,000 photos."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from plateblur import cli
from plateblur.runs.given import reviewed_run
from tests.fakes import FixedDetector, boxes, encoded, street

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
from playwright.sync_api import Browser

from benchmarks import review
from benchmarks.review import Reviewer, Server

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path(review.CHROMIUM).exists(), reason="chromium is not installed"),
]
PHOTOS = 14
PLATE, SMALL = [200.0, 200.0, 300.0, 230.0], [400.0, 100.0, 420.0, 106.0]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with review.browser() as opened:
        yield opened


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    detector = FixedDetector(boxes(PLATE, SMALL), (0.9, 0.5))
    monkeypatch.setattr(cli, "open_detector", lambda *_, **__: detector)
    (tmp_path / "in").mkdir()
    for number in range(PHOTOS):
        photo = encoded(street(400, 600, seed=number), "JPEG")
        (tmp_path / "in" / f"{number:02}.jpg").write_bytes(photo)
    out = tmp_path / "out"
    result = CliRunner().invoke(cli.app, ["blur", str(tmp_path / "in"), "-o", str(out)])
    assert result.exit_code == 0, result.output
    return out


@pytest.fixture
def server(run: Path) -> Iterator[Server]:
    started = review.serve(run)
    yield started
    started.kill()


def test_corrections_by_mouse_touch_and_keys_survive_and_are_applied(
    browser: Browser, run: Path, server: Server
) -> None:
    before = review.digests(run)
    ana = Reviewer(browser, server.address, "Ana")
    wanted = set(review.correct(ana, 8))
    server.process, server.address = _killed(server, ana, run, wanted)
    ana.next()
    wanted.add(review.meet(ana, Reviewer(browser, server.address, "Ben")))
    reviews = review.reviews_of(run)
    assert {name for name, one in reviews.items() if one.is_corrected} == wanted
    met = reviews[ana.output()]
    assert met.by == "Ben"
    assert sum(plate.found is None and plate.hide for plate in met.plates) == 2
    assert ana.faults == []
    assert [url for url in ana.asked if not url.startswith("http://127.0.0.1:")] == []
    result = CliRunner().invoke(cli.app, ["apply", str(run)])
    assert result.exit_code == 0, result.output
    review.check(run, before, wanted)


def _killed(server: Server, ana: Reviewer, run: Path, wanted: set[str]) -> tuple:  # type: ignore[type-arg]
    again, unsaved = review.survive_a_kill(server, ana, run)
    wanted.update(unsaved)
    return again.process, again.address


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 1024, 390])
def test_the_page_is_accessible_and_fits(
    browser: Browser, server: Server, scheme: str, width: int
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    size = {"width": width, "height": 844}
    ana = Reviewer(browser, server.address, "Ana", viewport=size, color_scheme=scheme)
    ana.page.locator(".plate").first.focus()
    found = axe.run(ana.page)
    assert found.violations_count == 0, found.generate_report()
    outside = """[...document.querySelectorAll('header *, .bar button')].filter((part) => {
        const box = part.getBoundingClientRect();
        return box.width > 1 && (box.right > innerWidth + 1 || box.left < -1);
    }).map((part) => part.id || part.textContent)"""
    assert ana.page.evaluate(outside) == []
    ana.press("?")
    assert axe.run(ana.page).violations_count == 0
    ana.context.close()


def test_a_photo_is_looked_at_and_undone_by_keys_alone(
    browser: Browser, run: Path, server: Server
) -> None:
    ana = Reviewer(browser, server.address, "Ana")
    first = ana.output()
    ana.page.locator("#viewer").focus()
    ana.press("Tab", "Tab", "h", "Control+z", "Enter")
    ana.wait(lambda: ana.output() != first, "no next photo")
    ana.wait_until_saved()
    said = reviewed_run(run).log.reviews[first]
    assert (said.looked_at, said.is_corrected, said.by) == (True, False, "Ana")
    ana.page.locator("#filter").select_option("open")
    assert ana.page.locator("#done").inner_text() == f"1 of {PHOTOS} looked at"
    assert ana.page.locator("#filter option:checked").inner_text() == (
        f"Not looked at ({PHOTOS - 1})"
    )
    ana.context.close()
