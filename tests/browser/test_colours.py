"""A browser as witness: it shows the output with the colours of the input."""

from __future__ import annotations

import base64
import shutil
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from plateblur.display import Display, with_display
from plateblur.formats import FORMATS, sniff
from plateblur.pipeline import blur_photo
from tests.fakes import FixedDetector, boxes, encoded, street

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium isn't installed"),
]

CASES = Path(__file__).parents[3] / "shared" / "cases"
PLATE = FixedDetector(boxes([40, 30, 90, 48]))
# As a page shows a photo, in the colours of a common screen.
SHOW = """async (address) => {
    const photo = new Image(); photo.src = address; await photo.decode();
    const canvas = document.createElement("canvas");
    canvas.width = 80; canvas.height = 60;
    const context = canvas.getContext("2d", {colorSpace: "srgb"});
    context.drawImage(photo, 0, 0, 80, 60);
    return Array.from(context.getImageData(0, 0, 80, 60).data);
}"""
Show = Callable[[bytes], NDArray[np.int64]]


@pytest.fixture(scope="module")
def show() -> Iterator[Show]:
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()

        def shown(data: bytes) -> NDArray[np.int64]:
            format_ = sniff(data)
            assert format_ is not None
            media_type = FORMATS[format_.name].media_type
            address = f"data:{media_type};base64,{base64.b64encode(data).decode()}"
            return np.array(page.evaluate(SHOW, address)).reshape(60, 80, 4)[..., :3]

        yield shown
        browser.close()


def png_with(name: bytes, content: bytes) -> bytes:
    data = encoded(street(), "PNG")
    crc = zlib.crc32(name + content)
    chunk = struct.pack(">L", len(content)) + name + content + struct.pack(">L", crc)
    return data[:33] + chunk + data[33:]


@pytest.mark.parametrize(
    ("name", "content"),
    [(b"gAMA", struct.pack(">L", 100_000)), (b"cICP", bytes([12, 13, 0, 1]))],
    ids=["gamma", "p3"],
)
def test_a_png_is_shown_in_the_colours_of_the_input(
    show: Show, name: bytes, content: bytes
) -> None:
    data = png_with(name, content)
    before, after = show(data), show(blur_photo(data, PLATE).data)
    assert np.array_equal(before[30:], after[30:])
    plain = show(encoded(street(), "PNG"))
    assert np.abs(before - plain)[30:].mean() > 1  # it matters


def test_an_avif_of_high_range_is_shown_in_the_colours_of_the_input(show: Show) -> None:
    case = CASES / "avif-10bit-bt2100pq.avif"
    made = with_display(encoded(street(), "AVIF", speed=10), Display(cicp=(9, 16)))
    data = case.read_bytes() if case.exists() else made
    blurred = blur_photo(data, FixedDetector()).data
    before, after = show(data), show(blurred)
    plain = blurred.replace(b"nclx" + blurred[blurred.index(b"nclx") + 4 :][:4], b"nclx\0\1\0\x0d")
    # It was encoded again, in 8 bits; PQ stretches its range, so a little of that shows.
    assert (lost := np.abs(before - after).mean()) < 6
    assert np.abs(before - show(plain)).mean() > 2 * lost or not case.exists()
