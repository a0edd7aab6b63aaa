"""The whole way: what leaves is blurred, and nothing leaves when a step fails."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from PIL import Image as PillowImage
from PIL import ImageCms

from plateblur.detector import OnnxDetector, shipped_model
from plateblur.draw import COLOUR
from plateblur.errors import DetectionError, EncodeError, PhotoDecodeError, PhotoTooLargeError
from plateblur.photo import Photo, decode
from plateblur.pipeline import blur_photo, find_plates
from plateblur.types import COUNT_FLOOR, BlurOptions, Method
from tests.fakes import (
    BrokenDetector,
    DarkDetector,
    FixedDetector,
    boxes,
    encoded,
    opened,
    psnr,
    street,
)

SHARED = Path(__file__).parents[2] / "shared" / "data" / "plates" / "images" / "test"
STREET = street(90, 140)
PLATE = [40.0, 30.0, 90.0, 45.0]
WIDENED = np.s_[27:48, 32:98]  # with the shipped margin, rounded outward
DETECTOR = FixedDetector(boxes(PLATE))


def with_plate(text_seed: int) -> PillowImage.Image:
    """Return the street with a pale plate and dark marks that differ by seed."""
    image = STREET.copy()
    rng = np.random.default_rng(text_seed)
    image[WIDENED] = 230
    marks = rng.random((21, 66)) < 0.2
    image[WIDENED][marks] = 10
    return PillowImage.fromarray(image)


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "HEIF", "AVIF"])
def test_a_photo_comes_back_in_its_format_with_its_plate_hidden(format_: str) -> None:
    blurred = blur_photo(encoded(with_plate(1), format_), DETECTOR)
    assert blurred.format == format_
    assert blurred.image_hw == (90, 140)
    assert blurred.detections.xyxy.tolist() == [PLATE]
    pixels = decode(blurred.data).pixels
    assert np.ptp(pixels[34:41, 50:80].astype(int), axis=(0, 1)).max() < 40
    assert psnr(pixels[60:], STREET[60:]) > 28


@pytest.mark.parametrize("has_alpha", [False, True], ids=["opaque", "alpha"])
@pytest.mark.parametrize("draw_boxes", [False, True], ids=["plain", "drawn"])
def test_photos_that_differ_only_inside_the_boxes_become_the_same_bytes(
    has_alpha: bool, draw_boxes: bool
) -> None:
    outputs = []
    for seed in (1, 2):
        image = with_plate(seed)
        if has_alpha:
            alpha = np.full((90, 140), 255, np.uint8)
            alpha[60:, :50] = 90
            # Letters in opacity too, in either photo others, but never fully transparent:
            # there the colours are dropped, and with them what the colour is chosen from.
            alpha[WIDENED] = np.random.default_rng(seed).integers(1, 256, (21, 66))
            image.putalpha(PillowImage.fromarray(alpha))
        options = BlurOptions(draw_boxes=draw_boxes, crops=True)
        outputs.append(blur_photo(encoded(image, "PNG"), DETECTOR, options))
    assert outputs[0].data == outputs[1].data
    assert outputs[0].crops == outputs[1].crops


def test_a_plate_is_hidden_where_it_was_drawn_in_opacity_alone() -> None:
    rgba = np.full((90, 140, 4), 255, np.uint8)
    rgba[34:41, 45:85:4, 3] = 0
    blurred = blur_photo(encoded(PillowImage.fromarray(rgba, "RGBA"), "PNG"), DarkDetector())
    assert len(blurred.detections) == 1
    alpha = np.array(opened(blurred.data).getchannel("A"))
    assert (alpha[34:41, 45:85] == 255).all()


def test_a_plate_under_full_transparency_is_gone() -> None:
    image = with_plate(1)
    alpha = np.full((90, 140), 255, np.uint8)
    alpha[WIDENED] = 0
    image.putalpha(PillowImage.fromarray(alpha))
    blurred = blur_photo(encoded(image, "PNG"), FixedDetector())
    written = np.array(opened(blurred.data))
    assert (written[WIDENED] == 0).all()


def test_a_plate_under_faint_opacity_is_looked_for_in_the_stored_colours() -> None:
    rgba = np.full((90, 140, 4), 255, np.uint8)
    rgba[34:41, 45:85, :3] = 0
    rgba[..., 3] = 3  # on white hardly seen; an editor brings it back
    blurred = blur_photo(encoded(PillowImage.fromarray(rgba, "RGBA"), "PNG"), DarkDetector())
    assert blurred.detections.xyxy[0].tolist() in ([45, 34, 85, 41], [0, 0, 140, 90])
    written = np.array(opened(blurred.data))
    assert np.ptp(written[36:39, 50:80].astype(int), axis=(0, 1)).max() < 60


def test_plates_of_all_views_are_found_once() -> None:
    photo = Photo(pixels=STREET, format="PNG", alpha=np.full((90, 140), 128, np.uint8))
    assert len(photo.views) == 3
    assert len(find_plates(photo, DETECTOR, min_confidence=0.25)) == 1


@pytest.mark.parametrize(
    ("min_confidence", "hidden", "counted"),
    [(0.25, 2, 3), (0.5, 1, 3), (0.05, 3, 3), (0.01, 4, 3), (1.0, 0, 3)],
    ids=["default", "high", "at-the-floor", "below-the-floor", "highest"],
)
def test_what_is_counted_does_not_depend_on_what_is_hidden(
    min_confidence: float, hidden: int, counted: int
) -> None:
    assert COUNT_FLOOR == 0.05
    xyxy = boxes([5, 5, 20, 10], [30, 5, 50, 10], [60, 5, 80, 10], [90, 5, 99, 10])
    detector = FixedDetector(xyxy, (0.9, 0.3, 0.06, 0.02))
    options = BlurOptions(min_confidence=min_confidence)
    blurred = blur_photo(encoded(STREET, "PNG"), detector, options)
    assert len(blurred.detections) == hidden
    assert blurred.predictions_counted == counted
    pixels = decode(blurred.data).pixels
    changed = [
        bool((pixels[5:10, int(x1) : int(x2)] != STREET[5:10, int(x1) : int(x2)]).any())
        for x1, _, x2, _ in xyxy
    ]
    assert sum(changed) == hidden


@pytest.mark.parametrize("value", [0.0, -1.0, 1.5, np.nan], ids=str)
def test_a_threshold_that_would_let_everything_through_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="min_confidence must be"):
        BlurOptions(min_confidence=value)
    with pytest.raises(ValueError, match="min_confidence must be"):
        replace(BlurOptions(), min_confidence=value)


@pytest.mark.parametrize(
    "changes",
    [{"method": "none"}, {"margin": -0.1}, {"margin": np.nan}, {"metadata": "all"}],
    ids=["method", "negative-margin", "nan-margin", "metadata"],
)
@pytest.mark.parametrize("detector", [DETECTOR, FixedDetector()], ids=["plate", "no-plate"])
def test_options_out_of_range_let_nothing_leave(
    changes: dict[str, Any], detector: FixedDetector
) -> None:
    with pytest.raises(ValueError, match="must be"):
        blur_photo(encoded(STREET), detector, replace(BlurOptions(), **changes))


@pytest.mark.parametrize("data", [b"", b"no photo", encoded(STREET)[:500]])
def test_what_is_no_photo_is_refused(data: bytes) -> None:
    with pytest.raises(PhotoDecodeError):
        blur_photo(data, DETECTOR)


def test_limits_are_handed_down() -> None:
    data = encoded(STREET)
    with pytest.raises(PhotoTooLargeError):
        blur_photo(data, DETECTOR, max_bytes=10)
    with pytest.raises(PhotoTooLargeError):
        blur_photo(data, DETECTOR, max_pixels=10)


def test_a_failing_detector_lets_nothing_leave() -> None:
    with pytest.raises(DetectionError):
        blur_photo(encoded(STREET), BrokenDetector())


def test_a_detectors_impossible_box_lets_nothing_leave() -> None:
    for box in ([np.nan, 0, 9, 9], [50, 0, 20, 9]):
        with pytest.raises(ValueError, match="xyxy must"):
            blur_photo(encoded(STREET), FixedDetector(boxes(box)))


def test_a_failing_encoder_lets_nothing_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("no space")

    data = encoded(STREET)
    monkeypatch.setattr("cv2.imencode", fail)
    monkeypatch.setattr(PillowImage.Image, "save", fail)
    with pytest.raises(EncodeError):
        blur_photo(data, DETECTOR)


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "HEIF", "AVIF"])
def test_each_detection_has_its_crop_of_the_blurred_image(format_: str) -> None:
    xyxy = boxes(PLATE, [0, 0, 1, 1], [139.5, 89.5, 200, 200], [150, 100, 160, 110])
    options = BlurOptions(crops=True, draw_boxes=True, metadata="keep")
    exif = PillowImage.Exif()
    exif[0x010F] = "Cameramaker"
    data = encoded(with_plate(1), format_, exif=exif.tobytes())
    blurred = blur_photo(data, FixedDetector(xyxy), options)
    sizes = [opened(crop).size for crop in blurred.crops]
    assert sizes == [(50, 15), (1, 1), (1, 1), (1, 1)]
    first = decode(blurred.crops[0])
    assert first.format == format_
    assert np.ptp(first.pixels[4:11, 8:42].astype(int), axis=(0, 1)).max() < 40
    assert not (first.pixels == COLOUR).all(axis=2).any()
    assert b"Cameramaker" in blurred.data
    assert b"Cameramaker" not in blurred.crops[0]


def test_crops_and_boxes_are_only_made_when_asked() -> None:
    blurred = blur_photo(encoded(with_plate(1), "PNG"), DETECTOR)
    assert blurred.crops == ()
    assert not (decode(blurred.data).pixels == COLOUR).all(axis=2).any()
    drawn = blur_photo(encoded(with_plate(1), "PNG"), DETECTOR, BlurOptions(draw_boxes=True))
    assert (decode(drawn.data).pixels == COLOUR).all(axis=2).any()


@pytest.mark.parametrize("method", get_args(Method))
def test_a_photo_without_plates_leaves_as_it_came(method: Method) -> None:
    options = BlurOptions(method=method)
    blurred = blur_photo(encoded(STREET, "PNG"), FixedDetector(), options)
    assert np.array_equal(decode(blurred.data).pixels, STREET)
    assert len(blurred.detections) == blurred.predictions_counted == 0


def test_the_detector_sees_the_upright_image_down_to_the_counted_floor() -> None:
    seen = []

    class Watching(FixedDetector):
        def detect(self, image: Any, *, min_confidence: float, **how: Any) -> Any:
            seen.append((image.shape, min_confidence, how))
            return super().detect(image, min_confidence=min_confidence, **how)

    exif = PillowImage.Exif()
    exif[0x0112] = 6
    options = BlurOptions(effort="fast", smallest_plate_px=7.0)
    blurred = blur_photo(encoded(STREET, exif=exif.tobytes()), Watching(), options)
    how = {"effort": "fast", "smallest_plate_px": 7.0}
    assert seen == [((140, 90, 3), COUNT_FLOOR, how)]
    assert blurred.image_hw == (140, 90)


@pytest.mark.slow
@pytest.mark.skipif(
    not (SHARED.is_dir() and shipped_model().is_file()), reason="needs shared photos and a model"
)
def test_shared_photos_go_the_whole_way() -> None:
    photos = sorted(SHARED.iterdir())
    detector = OnnxDetector.shipped()
    for photo in photos[:: max(1, len(photos) // 6)][:6]:
        data = photo.read_bytes()
        blurred = blur_photo(data, detector)
        before, after = decode(data), decode(blurred.data)
        assert after.image_hw == before.image_hw == blurred.image_hw
        assert after.format == before.format
        hidden = [
            np.s_[int(y1) : max(int(y2), int(y1) + 1), int(x1) : max(int(x2), int(x1) + 1)]
            for x1, y1, x2, y2 in blurred.detections.xyxy
        ]
        assert all((before.pixels[box] != after.pixels[box]).any() for box in hidden)


def swapped_profile(*, padding: int = 0) -> bytes:
    """Return an ICC profile like sRGB's whose red and green are each other, as large as asked."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, green = profile.index(b"rXYZ"), profile.index(b"gXYZ")
    profile[red : red + 4], profile[green : green + 4] = b"gXYZ", b"rXYZ"
    described = "sRGB".encode("utf-16-be")
    at = profile.index(described)
    profile[at : at + len(described)] = "Swap".encode("utf-16-be")
    profile += bytes(padding)
    profile[:4] = len(profile).to_bytes(4)
    return bytes(profile)


def test_crops_carry_no_profile_and_have_the_colours_that_it_meant() -> None:
    detector = FixedDetector(boxes(*[PLATE] * 20))
    profile = swapped_profile(padding=100_000)
    photo = PillowImage.fromarray(STREET)
    plain = encoded(photo, "PNG")
    data = encoded(photo, "PNG", icc_profile=profile)

    blurred = blur_photo(data, detector, BlurOptions(crops=True))
    as_stored = blur_photo(plain, detector, BlurOptions(crops=True)).crops[0]

    assert opened(blurred.data).info["icc_profile"] == profile
    assert all("icc_profile" not in opened(crop).info for crop in blurred.crops)
    assert sum(map(len, blurred.crops)) < len(profile)
    colours = np.asarray(opened(blurred.crops[0]).convert("RGB")).astype(int)
    stored = np.asarray(opened(as_stored).convert("RGB")).astype(int)
    assert abs(colours - stored[..., [1, 0, 2]]).max() <= 3
    assert abs(colours - stored).max() > 10


@pytest.mark.parametrize("icc", ["sRGB", "damaged", "grey"])
def test_crops_keep_their_colours_where_no_profile_gives_them_others(icc: str) -> None:
    profiles = {
        "sRGB": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
        "damaged": swapped_profile()[:300],
        "grey": ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes(),
    }
    image = PillowImage.fromarray(STREET)
    data = encoded(image, "PNG", icc_profile=profiles[icc])

    crops = blur_photo(data, DETECTOR, BlurOptions(crops=True)).crops

    assert crops == blur_photo(encoded(image, "PNG"), DETECTOR, BlurOptions(crops=True)).crops


@pytest.mark.parametrize("format_", ["PNG", "HEIF"])
def test_a_preview_is_a_jpeg_of_the_blurred_photo(format_: str) -> None:
    options = BlurOptions(preview=True)
    previews = [
        blur_photo(encoded(with_plate(seed), format_), DETECTOR, options).preview for seed in (1, 2)
    ]
    with opened(previews[0]) as image:
        assert (image.format, image.size) == ("JPEG", (140, 90))
    assert previews[0] == previews[1] or format_ == "HEIF"  # lossy before it was blurred
    assert np.ptp(decode(previews[0]).pixels[34:41, 50:80].astype(int), axis=(0, 1)).max() < 40
    assert blur_photo(encoded(with_plate(1), format_), DETECTOR).preview == b""
