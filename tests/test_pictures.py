"""The pictures of README and docs are what `docs/draw_pictures.py` makes of today's code."""

from __future__ import annotations

import importlib
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pil
from PIL import ImageSequence

from plateblur.demo.photos import EXAMPLES
from plateblur.detector import shipped_model
from plateblur.drawn import write_examples

ROOT = Path(__file__).parents[1]
ASSETS = ROOT / "docs" / "assets"
AGAIN = "run: make pictures"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SHOWN = re.compile(r"!\[[^\]]+\]\(([^)\s]+)\)|<img src=\"([^\"]+)\"")
MOST_BYTES = {"clip.webp": 1_500_000}
MOST_BYTES_IN_ALL = 3_000_000
BLOCK_PX = 12  # about the height of a plate in the smallest of the pictures
MOST_APART = 28.0  # of 255; below it are an edge of a box moved by a pixel, and WebP's own losses

pictures: Any = importlib.import_module("docs.draw_pictures")
shipped = pytest.mark.skipif(not shipped_model().is_file(), reason="no model is shipped yet")


def frames_of(data: bytes) -> list[Pil.Image]:
    with Pil.open(io.BytesIO(data)) as picture:
        return [frame.convert("RGB") for frame in ImageSequence.Iterator(picture)]


def apart(one: Pil.Image, two: Pil.Image) -> float:
    """Return how far two pictures of one size are apart where they are farthest, block by block."""
    small = one.width // BLOCK_PX, one.height // BLOCK_PX
    arrays = [np.asarray(each.resize(small, Pil.Resampling.BOX), np.float64) for each in (one, two)]
    return float(np.abs(arrays[0] - arrays[1]).max())


@shipped
@pytest.mark.slow
@pytest.mark.parametrize("name", ["before-after.webp", "methods.webp", "ratios.webp", "clip.webp"])
def test_a_picture_is_what_the_script_makes(name: str) -> None:
    made = frames_of(pictures.PICTURES[name]())
    kept = frames_of((ASSETS / name).read_bytes())
    assert [frame.size for frame in kept] == [frame.size for frame in made], AGAIN
    assert max(map(apart, kept, made)) < MOST_APART, AGAIN


@shipped
@pytest.mark.slow
@pytest.mark.parametrize("name", ["street.jpg", "street-blurred.jpg", "clip.jpg"])
def test_a_picture_of_the_front_page_is_what_the_script_makes(name: str) -> None:
    made = frames_of(pictures.SITE_PICTURES[name]())
    kept = frames_of((pictures.SITE / name).read_bytes())
    assert [frame.size for frame in kept] == [frame.size for frame in made], AGAIN
    assert max(map(apart, kept, made)) < MOST_APART, AGAIN


@pytest.mark.slow
def test_the_scenes_that_come_with_the_demo_are_drawn_ones(tmp_path: Path) -> None:
    for drawn in write_examples(tmp_path):
        pixels = (np.asarray(Pil.open(path), np.int16) for path in (drawn, EXAMPLES / drawn.name))
        assert np.abs(np.subtract(*pixels)).mean() < 3


def test_the_sketches_of_the_docs_are_those_of_the_pages() -> None:
    assert (ASSETS / "angles.svg").read_bytes() == pictures.angles(), AGAIN


def test_a_picture_in_which_a_plate_became_readable_counts_as_stale() -> None:
    (picture,) = frames_of((ASSETS / "before-after.webp").read_bytes())
    half = picture.height * 3 // 2
    before = picture.crop((0, 60, half, picture.height))
    after = picture.crop((picture.width - half, 60, picture.width, picture.height))
    assert apart(before, after) > MOST_APART


def test_the_plot_shows_the_figures_that_the_promotion_wrote() -> None:
    assert (ASSETS / "recall.svg").read_bytes() == pictures.recall(), AGAIN


def test_the_plot_shows_original_labels_beside_corrected_ones() -> None:
    figures = json.loads((ROOT / "docs" / "figures.json").read_text())
    alone = {key: value for key, value in figures.items() if key != "labels_as_they_are"}
    both, one = pictures.recall_svg(figures), pictures.recall_svg(alone)
    assert "original labels" in both
    assert both.count("<circle") == 2 * one.count("<circle") + 2  # and two in the legend
    for group in figures["labels_as_they_are"]["by_ratio"].values():
        assert f">{group['recall']['value']:.0%}</text>" in both


@pytest.mark.slow
def test_the_screenshot_shows_the_page_as_it_is() -> None:
    pytest.importorskip("gradio")
    recorded = json.loads(pictures.RECORD.read_text())
    assert recorded == {"demo.webp": pictures.page_digest()}, AGAIN


def test_the_pictures_are_small() -> None:
    sizes = {path.name: path.stat().st_size for path in ASSETS.iterdir()}
    assert set(pictures.PICTURES) <= set(sizes)
    assert [name for name, most in MOST_BYTES.items() if sizes[name] > most] == []
    assert sum(sizes.values()) < MOST_BYTES_IN_ALL


def test_every_picture_of_a_page_is_there_and_every_picture_is_shown() -> None:
    shown = {
        (page.parent / (found[1] or found[2])).resolve()
        for page in PAGES
        for found in SHOWN.finditer(page.read_text())
    }
    assert [path for path in shown if not path.is_file()] == []
    assert [name for name in pictures.PICTURES if ASSETS / name not in shown] == []
