"""A reader as witness: an OCR engine reads drawn plates before the blur, and nothing after it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal

import cv2
import numpy as np
import pytest

from plateblur import drawn
from plateblur.blur import blur_boxes, hidden_bounds
from plateblur.detector import OnnxDetector, shipped_model
from plateblur.photo import decode
from plateblur.pipeline import blur_photo
from plateblur.types import Image
from tests.fakes import boxes, encoded

pytestmark = pytest.mark.slow

rapidocr = pytest.importorskip("rapidocr_onnxruntime")

Read = Callable[[Image], str]
RUN = 3  # as many characters in a row would be a plate read in part

# Egypt's and the Gulf's plates bear Arabic, which this engine's model does not read; of the others
# one each, in the fonts of the drawn set.
READABLE = ("eu", "uk", "us", "india")


@pytest.fixture(scope="module")
def read() -> Read:
    # By default it enlarges what is shorter than 736 px, which takes four times as long and reads
    # no more of plates this large.
    engine = rapidocr.RapidOCR(intra_op_num_threads=2, det_limit_side_len=320, det_limit_type="min")

    def text_of(image: Image) -> str:
        found, _ = engine(np.ascontiguousarray(image[..., ::-1]), use_cls=False)
        return letters(" ".join(line[1] for line in found or []))

    return text_of


def letters(text: str) -> str:
    """Return the letters and digits alone; what engines mix up is made one."""
    plain = re.sub(r"[^A-Z0-9]", "", text.upper())
    return plain.translate(str.maketrans("OQDIZSB", "0001258"))


def runs(text: str) -> set[str]:
    plain = letters(text)
    return {plain[i : i + RUN] for i in range(len(plain) - RUN + 1)}


def on_a_car(plate: Image, *, height_px: int) -> tuple[Image, list[float]]:
    """Return a plate on plain paint, and its box."""
    scale = height_px / plate.shape[0]
    width_px = round(plate.shape[1] * scale)
    resized = cv2.resize(plate, (width_px, height_px), interpolation=cv2.INTER_AREA)
    image = np.full((3 * height_px, width_px + 4 * height_px, 3), (96, 108, 128), np.uint8)
    x, y = 2 * height_px, height_px
    image[y : y + height_px, x : x + width_px] = resized
    return image, [x, y, x + width_px, y + height_px]


@pytest.mark.parametrize("method", ["veil", "solid"])
@pytest.mark.parametrize("region", READABLE)
def test_plates_are_read_before_the_blur_and_not_after_it(
    read: Read, region: str, method: Literal["veil", "solid"]
) -> None:
    was_read = 0
    for seed in range(2):
        plate = drawn.draw_plate(np.random.default_rng(seed), region=region, front=True)
        image, box = on_a_car(plate.image, height_px=90)
        was_read += bool(runs(plate.text) & runs(read(image)))
        after = read(blur_boxes(image, boxes(box), method=method, margin=0.15))
        assert not runs(plate.text) & runs(after), after
    assert was_read == 2  # else the witness is blind and proves nothing


@pytest.mark.parametrize("method", ["veil", "solid"])
def test_what_is_left_of_a_plate_holds_no_text_when_contrast_is_pulled_up(
    read: Read, method: Literal["veil", "solid"]
) -> None:
    """The first that someone curious would try."""
    plate = drawn.draw_plate(np.random.default_rng(5), region="eu", front=True)
    image, box = on_a_car(plate.image, height_px=120)
    blurred = blur_boxes(image, boxes(box), method=method, margin=0.15)
    ((x1, y1, x2, y2),) = hidden_bounds(boxes(box), image_hw=image.shape[:2], margin=0.15)
    hidden = cv2.cvtColor(blurred[y1:y2, x1:x2], cv2.COLOR_RGB2GRAY)
    pulled = cv2.createCLAHE(clipLimit=40).apply(hidden)
    assert not runs(plate.text) & runs(read(np.repeat(pulled[..., None], 3, axis=2)))


@pytest.mark.skipif(not shipped_model().is_file(), reason="no model is shipped yet")
def test_the_shipped_detector_leaves_nothing_to_read_in_drawn_scenes(read: Read) -> None:
    detector = OnnxDetector.shipped(threads=2)
    was_read = 0
    for seed in range(3):
        scene = drawn.draw_scene(
            seed, image_hw=(720, 1280), plates=1, ratios=(1 / 10, 1 / 8), regions=READABLE
        )
        ((x1, y1, x2, y2),) = scene.xyxy.astype(int)
        near = np.s_[max(0, y1 - 60) : y2 + 60, max(0, x1 - 60) : x2 + 60]
        texts = runs(scene.texts[0])
        was_read += bool(texts & runs(read(scene.image[near])))
        blurred = blur_photo(encoded(scene.image, quality=92), detector)
        assert len(blurred.detections) >= 1
        after = read(decode(blurred.data).pixels[near])
        assert not texts & runs(after), after
    assert was_read >= 2
