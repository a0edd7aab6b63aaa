"""A clip in the workspace in Debian's chromium: corrected at key frames, and applied."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose
from typer.testing import CliRunner

from plateblur import cli
from plateblur.key_frames import Keys, box_at
from plateblur.runs.given import reviewed_run
from tests.clips import IMAGE_HW, RATE, drawn_clip, driving, frames_of
from tests.fakes import FixedDetector, boxes, encoded, street

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
from playwright.sync_api import Browser

from benchmarks import review
from benchmarks.review import Reviewer, Server, place_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path(review.CHROMIUM).exists(), reason="chromium is not installed"),
]
FRAMES = 20
FOUND = (20.0, 20.0, 60.0, 40.0)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with review.browser() as opened:
        yield opened


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    detector = FixedDetector(boxes(list(FOUND)), (0.5,))
    monkeypatch.setattr(cli, "open_detector", lambda *_, **__: detector)
    given, out = tmp_path / "in", tmp_path / "out"
    given.mkdir()
    (given / "clip.mp4").write_bytes(drawn_clip(driving(FRAMES)))
    (given / "photo.jpg").write_bytes(encoded(street(400, 600), "JPEG"))
    options = ["-o", str(out), "--method", "solid", "--margin", "0"]
    for command in ("video", "blur"):
        result = CliRunner().invoke(cli.app, [command, str(given), *options])
        assert result.exit_code == 0, result.output
    return out


@pytest.fixture
def server(run: Path) -> Iterator[Server]:
    started = review.serve(run)
    yield started
    started.kill()


class ClipReviewer(Reviewer):
    """A person who looks at the clip."""

    def open_clip(self) -> None:
        self.page.locator("#filter").select_option("clips")
        self.wait(lambda: self.output() == "clip.mp4", "no clip")
        self.at(0)

    def at(self, frame: int) -> None:
        """Wait until a frame is shown."""
        shown = self.page.locator(f'#timeline[data-shown="{frame}"]')
        self.wait(lambda: shown.count() == 1, f"frame {frame} isn't shown")

    def go_to(self, frame: int, *, since: int) -> None:
        self.page.locator("#viewer").focus()
        self.press(*["ArrowRight" if frame > since else "ArrowLeft"] * abs(frame - since))
        self.at(frame)

    def window(self, x: float, y: float) -> tuple[float, float]:
        """Return where a place of the frame is in the window."""
        left, top, width, _ = place_of(self.page.locator("#before .whole"))
        scale = width / IMAGE_HW[1]
        return left + x * scale, top + y * scale

    def drag(self, *way: tuple[float, float]) -> None:
        """Drag the mouse over places of the frame."""
        mouse, (start, *rest) = self.page.mouse, [self.window(*place) for place in way]
        mouse.move(*start)
        mouse.down()
        for place in rest:
            mouse.move(*place, steps=4)
        mouse.up()


def moving(run: Path) -> list[Keys]:
    """Return the key frames of the plates that people added."""
    plates = reviewed_run(run).log.reviews["clip.mp4"].moving
    return [plate.keys for plate in plates if plate.found is None]


def frames_in(keys: Keys) -> list[int]:
    return [round(time * RATE / 1_000_000) for time, *_ in keys]


def flat_frames(run: Path, keys: Keys) -> list[int]:
    """Return the frames of the output in which the box of a plate is hidden, or its last one."""
    found = []
    for frame, (_, image) in enumerate(frames_of((run / "clip.mp4").read_bytes())):
        box = box_at(keys, frame * 1_000_000 // RATE)
        x1, y1, x2, y2 = (int(side) for side in (keys[-1][1:] if box is None else box))
        if image[y1 + 3 : y2 - 3, x1 + 3 : x2 - 3].std() < 3:
            found.append(frame)
    return found


def test_a_plate_is_corrected_at_key_frames_and_applied(
    browser: Browser, run: Path, server: Server
) -> None:
    ana = ClipReviewer(browser, server.address, "Ana")
    ana.open_clip()
    # A plate that was missed is drawn by mouse, and follows its way at key frames.
    ana.go_to(3, since=0)
    ana.press("d")
    ana.drag((30, 75), (60, 90), (70, 95))
    ana.wait_until_saved()
    (drawn,) = moving(run)
    assert frames_in(drawn) == [3, FRAMES - 1]
    assert_allclose(drawn[0][1:], (30, 75, 70, 95), atol=1)
    ana.go_to(9, since=3)
    ana.drag((50, 85), (80, 85), (90, 75))
    ana.wait_until_saved()
    (dragged,) = moving(run)
    assert frames_in(dragged) == [3, 9, FRAMES - 1]
    assert_allclose(dragged[1][1:], (70, 65, 110, 85), atol=1.5)
    # By keys: moved, undone and redone, and ended.
    ana.go_to(13, since=9)
    ana.press(*["Shift+ArrowRight"] * 3, *["Alt+ArrowDown"] * 2, "Control+z", "Control+Shift+z")
    ana.press("o")
    ana.wait_until_saved()
    (ended,) = moving(run)
    assert frames_in(ended) == [3, 9, 13]
    before = box_at(dragged, dragged[0][0] + 1_000_000)  # frame 13, as it was
    assert before is not None
    assert ended[2][1] > before[0] + 1
    # A false hit is taken back from the timeline.
    ana.page.locator("#rows .span").first.focus()
    ana.press("Enter", "h")
    ana.press("Control+z", "Control+Shift+z")
    ana.page.locator("#viewer").focus()
    ana.press("Enter")
    ana.wait_until_saved()
    said = reviewed_run(run).log.reviews["clip.mp4"]
    assert (said.looked_at, [plate.hide for plate in said.moving]) == (True, [False, True])
    assert ana.faults == []
    result = CliRunner().invoke(cli.app, ["apply", str(run)])
    assert result.exit_code == 0, result.output
    assert flat_frames(run, ended) == list(range(3, 14))
    assert flat_frames(run, ((0, *FOUND), (1, *FOUND))) == []
    ana.context.close()


def test_a_plate_is_shortened_by_touch_and_played(
    browser: Browser, run: Path, server: Server
) -> None:
    ana = ClipReviewer(browser, server.address, "Ana")
    ana.open_clip()
    ana.page.locator("#rows .span").first.tap()
    left, top, width, height = place_of(ana.page.locator(".end-of[data-way=end]"))
    y = top + height / 2
    rows_left, _, rows_width, _ = place_of(ana.page.locator("#rows"))
    x = rows_left + rows_width * 10 / (FRAMES - 1)
    ana._touch([(left + width / 2, y), (left - 40, y), (x + 20, y), (x, y)])
    ana.wait_until_saved()
    (plate,) = reviewed_run(run).log.reviews["clip.mp4"].moving
    assert frames_in(plate.keys)[-1] == 10
    assert plate.is_corrected
    ana.at(10)
    ana.page.locator("#viewer").focus()
    ana.press("Home", "Space")
    ana.at(FRAMES - 1)  # played to the end
    assert ana.page.locator("#play").get_attribute("aria-pressed") == "false"
    assert ana.faults == []
    ana.context.close()


def test_the_page_moves_boxes_as_the_program_hides_them(browser: Browser, server: Server) -> None:
    ana = ClipReviewer(browser, server.address, "Ana")
    rng = np.random.default_rng(0)
    times = np.cumsum(rng.integers(1, 90_000, 12)).tolist()
    keys: Keys = tuple((time, *rng.uniform(0, 900, 4).tolist()) for time in times)
    asked = [times[0] - 1, *times, *rng.integers(times[0], times[-1], 30).tolist(), times[-1] + 1]
    script = """async ([keys, times]) => {
        const { boxAt } = await import('/assets/keys.js');
        return times.map((time) => boxAt(keys, time));
    }"""
    for time, box in zip(asked, ana.page.evaluate(script, [keys, asked]), strict=True):
        wanted = box_at(keys, time)
        assert (box is None) == (wanted is None)
        if wanted is not None:
            assert_allclose(box, wanted, atol=1e-6)
    turned = ana.page.evaluate(
        """async (keys) => {
            const { startingAt, endingAt, withoutKey } = await import('/assets/keys.js');
            const [a, b] = [keys[0][0], keys.at(-1)[0]];
            return [startingAt(keys, b + 5), endingAt(keys, a - 5), startingAt(keys, a - 5),
                endingAt(keys, b + 5), withoutKey(keys.slice(0, 1), a)];
        }""",
        keys,
    )
    assert [len(one) for one in turned] == [1, 1, 13, 13, 1]
    ana.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 1024, 390])
def test_the_timeline_is_accessible_and_fits(
    browser: Browser, server: Server, scheme: str, width: int
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    size = {"width": width, "height": 844}
    ana = ClipReviewer(browser, server.address, "Ana", viewport=size, color_scheme=scheme)
    ana.open_clip()
    ana.page.locator("#rows .span").first.click()
    found = axe.run(ana.page)
    assert found.violations_count == 0, found.generate_report()
    outside = """[...document.querySelectorAll('header *, .bar button, .transport *')].filter(
        (part) => {
            const box = part.getBoundingClientRect();
            return box.width > 1 && (box.right > innerWidth + 1 || box.left < -1);
        }).map((part) => part.id || part.textContent)"""
    assert ana.page.evaluate(outside) == []
    ana.context.close()
