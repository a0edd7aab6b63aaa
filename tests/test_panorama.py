"""Panoramas: every direction is looked at, and what is hidden there is the plate's own outline."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as PillowImage
from PIL.PngImagePlugin import PngInfo

from plateblur import equirectangular
from plateblur import panorama as module
from plateblur.demo.photos import Limits, add_plate, open_photo, remove_plate
from plateblur.errors import DetectionError
from plateblur.faces import Faces, faces_of
from plateblur.metadata import panorama_tags
from plateblur.outlines import blur_regions
from plateblur.panorama import VIEW_HEIGHTS, find_on_panorama, outline_regions
from plateblur.photo import decode
from plateblur.pipeline import blur_photo, find_plates, hide_plates
from plateblur.sphere import OVERLAP, Panorama, View, panorama_of, planned_views
from plateblur.types import BlurOptions, Detections, Image
from tests.cases import at_most
from tests.fakes import BrokenDetector, boxes, encoded, opened

WHOLE = Panorama((360, 720), (720, 360))
CROPPED = Panorama((200, 400), (720, 360), (100, 90))
DARK, PALE = 20, 190


class PatchDetector:
    """Finds each dark patch of an image, as a box."""

    def detect(self, image: Image, *, min_confidence: float, **how: Any) -> Detections:
        is_dark = (image.max(axis=2) <= 60).astype(np.uint8)
        _, _, patches, _ = cv2.connectedComponentsWithStats(is_dark)
        found = [[x, y, x + w, y + h] for x, y, w, h, _ in patches[1:].tolist()]
        return Detections(boxes(*found), np.full(len(found), 0.9, np.float32))


def xmp(**tags: Any) -> bytes:
    """Return an XMP packet with GPano tags."""
    inside = " ".join(f"GPano:{name}='{value}'" for name, value in tags.items())
    return (
        "<x:xmpmeta xmlns:x='adobe:ns:meta/'>"
        "<rdf:RDF xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'>"
        "<rdf:Description rdf:about='' "
        f"xmlns:GPano='http://ns.google.com/photos/1.0/panorama/' {inside}/>"
        "</rdf:RDF></x:xmpmeta>"
    ).encode()


def tags_of(panorama: Panorama, **more: Any) -> dict[str, Any]:
    """Return the tags that tell where `panorama` lies."""
    return {
        "ProjectionType": "equirectangular",
        "CroppedAreaImageWidthPixels": panorama.image_hw[1],
        "CroppedAreaImageHeightPixels": panorama.image_hw[0],
        "FullPanoWidthPixels": panorama.full_wh[0],
        "FullPanoHeightPixels": panorama.full_wh[1],
        "CroppedAreaLeftPixels": panorama.left_top[0],
        "CroppedAreaTopPixels": panorama.left_top[1],
    } | more


def pixel_rays(panorama: Panorama | Faces) -> np.ndarray:
    """Return the direction of each pixel, (H, W, 3)."""
    height, width = panorama.image_hw
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    return panorama.rays(np.stack([x, y], axis=-1))


def with_plate(
    panorama: Panorama | Faces, yaw: float, pitch: float, *, degrees: float = 10
) -> Image:
    """Return a pale panorama with one dark plate, twice as wide as high, seen from straight on."""
    axes = View(math.radians(yaw), math.radians(pitch), 2, 1.0).axes
    right, down, ahead = np.moveaxis(pixel_rays(panorama) @ axes.T, -1, 0)
    half = math.tan(math.radians(degrees / 2))
    in_front = np.where(ahead > 0.1, ahead, np.inf)
    is_plate = (np.abs(right / in_front) < half) & (np.abs(down / in_front) < half / 2)
    is_plate &= ahead > 0.1
    image = np.full((*panorama.image_hw, 3), PALE, np.uint8)
    image[is_plate] = DARK
    return image


def hidden_by(found: Detections, panorama: Panorama | Faces, *, margin: float = 0.0) -> np.ndarray:
    assert found.corners is not None
    hidden = np.zeros(panorama.image_hw, np.bool_)
    for region in outline_regions(found.corners, panorama, margin=margin):
        x1, y1, x2, y2 = region.bounds
        hidden[y1:y2, x1:x2] |= region.mask
    return hidden


@given(st.floats(0.01, 719.9), st.floats(0.01, 359.9))
def test_a_point_s_direction_leads_back_to_it(x: float, y: float) -> None:
    assert np.allclose(WHOLE.points(WHOLE.rays(np.array([x, y]))), [x, y], atol=1e-6)
    assert np.allclose(CROPPED.points(CROPPED.rays(np.array([x / 2, y / 2]))), [x / 2, y / 2])


@pytest.mark.parametrize(
    ("point", "ray"),
    [
        ((360, 180), (0, 0, 1)),
        ((540, 180), (1, 0, 0)),
        ((180, 180), (-1, 0, 0)),
        ((0, 180), (0, 0, -1)),
        ((360, 0), (0, -1, 0)),
        ((360, 360), (0, 1, 0)),
    ],
    ids=["middle", "right", "left", "seam", "zenith", "nadir"],
)
def test_directions_are_right_down_and_ahead(
    point: tuple[int, int], ray: tuple[int, int, int]
) -> None:
    assert np.allclose(WHOLE.rays(np.array(point)), ray, atol=1e-12)


@pytest.mark.parametrize("width", [400, 2048, 5760, 7680, 11000, 14142], ids=lambda w: f"{w}px")
@pytest.mark.parametrize("smallest_px", [6, 12, 40], ids=lambda px: f"{px}px-plates")
def test_whatever_is_no_wider_than_the_overlap_lies_whole_in_a_view(
    width: int, smallest_px: int
) -> None:
    panorama = Panorama((width // 2, width), (width, width // 2))
    views = planned_views(panorama, view_px=VIEW_HEIGHTS * smallest_px)
    half = math.atan(views[0].side_px / 2 / views[0].focal_px)
    rng = np.random.default_rng(0)
    middle = rng.normal(size=(500, 3))
    middle /= np.linalg.norm(middle, axis=1, keepdims=True)
    is_whole = np.zeros(len(middle), np.bool_)
    radius = half * OVERLAP * 0.9
    for view in views:
        right, down, ahead = np.moveaxis(middle @ view.axes.T, -1, 0)
        # How far the view's four edges are: planes through the eye.
        across = half - np.arctan2(np.abs(right), ahead)
        along = half - np.arctan2(np.abs(down), ahead)
        is_whole |= (across >= radius) & (along >= radius)
    assert is_whole.all()


@pytest.mark.parametrize("width", [2048, 7680, 14142], ids=lambda w: f"{w}px")
def test_the_pixels_that_are_looked_at_are_in_proportion_to_the_panorama_s(width: int) -> None:
    panorama = Panorama((width // 2, width), (width, width // 2))
    views = planned_views(panorama, view_px=1920)
    assert sum(view.side_px**2 for view in views) < 4.5 * panorama.image_hw[0] * width


def test_only_views_with_some_of_a_cropped_panorama_are_planned() -> None:
    whole = planned_views(Panorama((2000, 4000), (4000, 2000)), view_px=800)
    strip = planned_views(Panorama((500, 4000), (4000, 2000), (0, 750)), view_px=800)
    part = planned_views(Panorama((500, 1000), (4000, 2000), (0, 750)), view_px=800)
    assert len(part) < len(strip) / 2 < len(strip) < len(whole)


@pytest.mark.parametrize("panorama", [WHOLE, CROPPED], ids=["whole", "cropped"])
def test_a_view_shows_what_lies_in_its_direction(panorama: Panorama) -> None:
    colours = (128 + 100 * pixel_rays(panorama)).round().astype(np.uint8)
    shown = 0
    for view, picture in module._pictures(colours, panorama, view_px=1920):
        at = np.arange(view.side_px) + 0.5
        rays = view.rays(np.stack(np.meshgrid(at, at), axis=-1))
        rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
        x, y = np.moveaxis(panorama.points(rays), -1, 0)
        height, width = panorama.image_hw
        inside = (x > 1) & (x < width - 1) & (y > 1) & (y < height - 1)
        if panorama is WHOLE:  # across the seam as well
            inside = (y > 1) & (y < height - 1)
        error = np.abs(picture.astype(int) - (128 + 100 * rays))
        assert error[inside].max(initial=0) < 3
        beyond = (x < -1) | (x > width + 1) | (y < -1) | (y > height + 1)
        if panorama is CROPPED:
            assert (picture[beyond] == 114).all()
        shown += int(inside.sum())
    assert shown > panorama.image_hw[0] * panorama.image_hw[1]


def test_rows_wider_than_opencv_can_turn_are_shown_all_around() -> None:
    width = equirectangular.WIDEST_BLOCK + 7_001
    shades = (np.arange(width) * 250 / width).astype(np.uint8)
    image = np.ascontiguousarray(np.broadcast_to(shades[None, :, None], (4, width, 3)))
    across = np.tile(np.linspace(5, width - 5, 64, dtype=np.float32), (8, 1))
    row = np.full((8, 64), 1.5, np.float32)
    panorama = Panorama((4, width), (width, 4))
    picture = equirectangular._band(image, panorama, across, row, shift=0.0)
    assert np.abs(picture[..., 0] - across * 250 / width).max() < 2


PLACES = {
    "ahead": (0, 0),
    "at-the-seam": (180, 0),
    "beside-the-seam": (176, -20),
    "slope": (70, -40),
    "steep": (-130, -75),
    "nadir": (30, -90),
    "beside-the-nadir": (30, -86),
    "zenith": (0, 90),
    "high": (100, 65),
}


@pytest.mark.parametrize(("yaw", "pitch"), PLACES.values(), ids=PLACES)
def test_a_plate_is_hidden_wherever_it_is_and_little_beside_it(yaw: float, pitch: float) -> None:
    image = with_plate(WHOLE, yaw, pitch)
    found = find_on_panorama(image, WHOLE, PatchDetector(), min_confidence=0.5)
    hidden = hidden_by(found, WHOLE)
    is_plate = image[..., 0] == DARK
    assert (hidden | ~is_plate).all()
    latitude = np.cos(np.linspace(math.pi / 2, -math.pi / 2, 360))[:, None]
    # Upright in one of the views: turned by 30 degrees at most, and so the box around it.
    assert (hidden * latitude).sum() < 3.5 * (is_plate * latitude).sum() + 100 * latitude.min()


@pytest.mark.parametrize(("yaw", "pitch"), PLACES.values(), ids=PLACES)
def test_the_box_holds_all_of_the_outline_on_its_side(yaw: float, pitch: float) -> None:
    image = with_plate(WHOLE, yaw, pitch)
    found = find_on_panorama(image, WHOLE, PatchDetector(), min_confidence=0.5)
    in_boxes, hidden = np.zeros(WHOLE.image_hw, np.bool_), hidden_by(found, WHOLE)
    for x1, y1, x2, y2 in found.xyxy:
        assert 0 <= x1 < x2 <= 720
        assert 0 <= y1 < y2 <= 360
        # And it holds little more: pixels are wider the nearer they are to a pole.
        rows, columns = np.nonzero(hidden[int(y1) : math.ceil(y2), int(x1) : math.ceil(x2)])
        assert rows.min() < 2
        assert y2 - y1 - rows.max() < 3
        wide = 1 / math.cos(math.radians(min(85.0, abs(pitch) + 5)))
        assert columns.min() < 2 * wide
        assert x2 - x1 - columns.max() < 3 * wide
        in_boxes[math.floor(y1) : math.ceil(y2), math.floor(x1) : math.ceil(x2)] = True
    assert (in_boxes | (image[..., 0] > DARK)).all()


def test_a_plate_on_a_cubemap_is_hidden_and_little_beside_it() -> None:
    """One place of one layout, for `make quick`; `test_faces.py` has them all."""
    cubemap = faces_of((240, 360), "cubemap")
    image = with_plate(cubemap, 45, 0, degrees=12)  # across the edge of two faces
    found = find_on_panorama(image, cubemap, PatchDetector(), min_confidence=0.5)
    hidden, is_plate = hidden_by(found, cubemap, margin=0.1), image[..., 0] == DARK
    assert is_plate.sum() > 100
    assert (hidden | ~is_plate).all()
    assert hidden.sum() < 6 * is_plate.sum()


@pytest.mark.parametrize("place", ["slope", "steep", "nadir", "high"])
def test_a_plate_that_views_show_tilted_is_one_plate(place: str) -> None:
    found = find_on_panorama(
        with_plate(WHOLE, *PLACES[place]), WHOLE, PatchDetector(), min_confidence=0.5
    )
    assert found.corners is not None
    assert len({outline.tobytes() for outline in found.corners}) == 1


def test_a_plate_across_the_seam_is_there_once_for_each_side() -> None:
    image = with_plate(WHOLE, 180, 0)
    found = find_on_panorama(image, WHOLE, PatchDetector(), min_confidence=0.5)
    assert found.corners is not None
    left, right = sorted(found.xyxy.tolist())
    assert left[0] == 0
    assert right[2] == 720
    assert np.array_equal(found.corners[0], found.corners[1])


@given(st.floats(-180, 180), st.floats(-90, 90), st.floats(3, 30), st.sampled_from([0, 0.25]))
@at_most(40)
def test_all_pixels_of_an_outline_are_hidden_wherever_it_lies(
    yaw: float, pitch: float, degrees: float, margin: float
) -> None:
    view = View(math.radians(yaw), math.radians(pitch), 200, 100 / math.tan(math.radians(degrees)))
    corners = WHOLE.points(view.rays(np.array([[0, 50], [200, 50], [200, 150], [0, 150]])))
    hidden = np.zeros(WHOLE.image_hw, np.bool_)
    for region in outline_regions(corners[None].astype(np.float32), WHOLE, margin=margin):
        x1, y1, x2, y2 = region.bounds
        hidden[y1:y2, x1:x2] |= region.mask
    grow = margin * np.array([200, 100])
    inside = np.stack(
        np.meshgrid(
            np.linspace(0.5 - grow[0], 199.5 + grow[0], 90),
            np.linspace(50.5 - grow[1], 149.5 + grow[1], 60),
        ),
        axis=-1,
    )
    x, y = np.floor(WHOLE.points(view.rays(inside))).astype(int).reshape(-1, 2).T
    assert hidden[y.clip(0, 359), x % 720].all()
    # Nothing is hidden that lies farther off than a pixel and a bit.
    y, x = np.nonzero(hidden)
    rays = WHOLE.rays(np.column_stack([x + 0.5, y + 0.5])) @ view.axes.T
    assert (rays[:, 2] > 0).all()
    slack = 2.5 / WHOLE.focal_px / np.abs(rays[:, 2:]) ** 2 * view.focal_px
    at = rays[:, :2] / rays[:, 2:] * view.focal_px + 100
    assert (at[:, 0] > -grow[0] - slack[:, 0]).all()
    assert (at[:, 1] < 150 + grow[1] + slack[:, 0]).all()


@dataclass
class Sometimes:
    """Fails on one of its looks, and finds nothing in the others."""

    fails_at: int
    looks: int = field(default=0)

    def detect(self, image: Image, *, min_confidence: float, **how: Any) -> Detections:
        self.looks += 1
        if self.looks == self.fails_at:
            raise DetectionError("the detector failed")
        return Detections(boxes(), np.zeros(0, np.float32))


@pytest.mark.parametrize("fails_at", [1, 2, 9, 19], ids=lambda n: f"look-{n}")
def test_one_look_that_fails_fails_the_panorama(fails_at: int) -> None:
    image = np.full((360, 720, 3), PALE, np.uint8)
    with pytest.raises(DetectionError):
        find_on_panorama(image, WHOLE, Sometimes(fails_at), min_confidence=0.5)


def test_without_plates_nothing_is_found_and_fast_looks_once() -> None:
    image = np.full((360, 720, 3), PALE, np.uint8)
    counting = Sometimes(0)
    found = find_on_panorama(image, WHOLE, counting, min_confidence=0.5)
    assert len(found) == 0
    assert found.corners is not None
    assert found.corners.shape == (0, 4, 2)
    assert counting.looks == 19
    find_on_panorama(image, WHOLE, fast := Sometimes(0), min_confidence=0.5, effort="fast")
    assert fast.looks == 1


class Crowd:
    """Finds plates without end in every look, each somewhere else."""

    def detect(self, image: Image, *, min_confidence: float, **how: Any) -> Detections:
        rng = np.random.default_rng(image.shape[0])
        at = rng.random((120, 2)) * [image.shape[1] - 40, image.shape[0] - 12]
        xyxy = np.hstack([at, at + np.array([12, 4])]).astype(np.float32)
        return Detections(xyxy, np.full(120, 0.9, np.float32))


@pytest.mark.slow
def test_thousands_of_boxes_take_no_minutes() -> None:
    panorama = Panorama((1000, 2000), (2000, 1000))
    image = np.full((1000, 2000, 3), PALE, np.uint8)
    start = time.process_time()
    found = find_on_panorama(image, panorama, Crowd(), min_confidence=0.5)
    assert found.corners is not None
    regions = outline_regions(found.corners, panorama, margin=0.25)
    blur_regions(image, regions, method="veil")
    assert len(found) > 1000
    assert time.process_time() - start < 20


TOLD = tags_of(CROPPED)
SEEN_AS = {
    "whole": ({"ProjectionType": "equirectangular"}, (360, 720), WHOLE),
    "capitals-and-space": ({"ProjectionType": " Equirectangular "}, (360, 720), WHOLE),
    "cropped": (TOLD, (200, 400), CROPPED),
    "made-smaller": (TOLD, (100, 200), Panorama((100, 200), (360, 180), (50, 45))),
    "half-told": (
        {"ProjectionType": "equirectangular", "FullPanoWidthPixels": 9},
        (360, 720),
        WHOLE,
    ),
    "beyond-the-sphere": (TOLD | {"CroppedAreaLeftPixels": 400}, (360, 720), WHOLE),
    "negative": (TOLD | {"CroppedAreaTopPixels": -5}, (360, 720), WHOLE),
    "no-sphere": (TOLD | {"FullPanoHeightPixels": 700}, (360, 720), WHOLE),
    "no-area": (TOLD | {"CroppedAreaImageWidthPixels": 0}, (360, 720), WHOLE),
    "no-number": (TOLD | {"FullPanoWidthPixels": "nan"}, (360, 720), WHOLE),
    "strip-of-a-turn": (
        {"ProjectionType": "equirectangular"},
        (100, 720),
        Panorama((100, 720), (720, 360), (0, 130)),
    ),
    "part-of-a-turn": (
        {"ProjectionType": "equirectangular"},
        (200, 300),
        Panorama((200, 300), (400, 200), (50, 0)),
    ),
    "hardly-distorted": (
        tags_of(Panorama((200, 400), (7200, 3600), (100, 900))),
        (200, 400),
        None,
    ),
    "cylindrical": ({"ProjectionType": "cylindrical"}, (360, 720), None),
    "no-projection": ({"FullPanoWidthPixels": 720}, (360, 720), None),
}


@pytest.mark.parametrize(("tags", "image_hw", "expected"), SEEN_AS.values(), ids=SEEN_AS)
def test_tags_tell_whether_and_how_a_photo_is_a_panorama(
    tags: dict[str, Any], image_hw: tuple[int, int], expected: Panorama | None
) -> None:
    assert panorama_of(xmp(**tags), image_hw=image_hw, projection="auto") == expected
    assert panorama_of(xmp(**tags), image_hw=image_hw, projection="flat") is None


def test_without_tags_it_is_one_where_you_say_so() -> None:
    assert panorama_of(None, image_hw=(360, 720), projection="auto") is None
    assert panorama_of(None, image_hw=(360, 720), projection="equirectangular") == WHOLE
    with pytest.raises(ValueError, match="projection must be"):
        panorama_of(None, image_hw=(360, 720), projection="fisheye")  # type: ignore[arg-type]


@given(st.lists(st.integers(-(10**9), 10**9), min_size=6, max_size=6))
def test_no_tags_make_more_views_than_the_pixels_are_worth(numbers: list[int]) -> None:
    names = list(TOLD)[1:]
    tags = {"ProjectionType": "equirectangular", **dict(zip(names, numbers, strict=True))}
    panorama = panorama_of(xmp(**tags), image_hw=(1000, 2000), projection="auto")
    if panorama is not None:
        assert len(planned_views(panorama, view_px=1920)) < 200


@pytest.mark.slow
@given(st.binary(max_size=200))
def test_no_packet_stops_a_photo(packet: bytes) -> None:
    for xmp_packet in (packet, xmp(**TOLD)[:-20] + packet, b"<a>" * 5000 + packet):
        panorama_of(xmp_packet, image_hw=(200, 400), projection="auto")


@pytest.mark.slow
@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "HEIF", "AVIF"])
def test_a_panorama_leaves_blurred_and_as_a_panorama(format_: str) -> None:
    image = with_plate(WHOLE, 180, -30)
    tags = {"xmp": xmp(**tags_of(WHOLE, PoseHeadingDegrees=77.5))}
    data = encoded(image, format_, **({"pnginfo": gpano_text()} if format_ == "PNG" else tags))
    blurred = blur_photo(data, PatchDetector(), BlurOptions(method="solid"))
    assert blurred.projection == "equirectangular"
    assert len(blurred.detections) == 2
    pixels = np.array(opened(blurred.data).convert("RGB")).astype(int)
    assert pixels[image[..., 0] == DARK].min() > 40  # nothing of the dark plate, all of it grey
    kept = panorama_tags(decode(blurred.data).metadata.xmp)
    assert kept == {name: str(value) for name, value in tags_of(WHOLE).items()}


def gpano_text() -> PngInfo:
    """Return a PNG's text chunk with the tags of a whole panorama."""
    texts = PngInfo()
    texts.add_itxt("XML:com.adobe.xmp", xmp(**tags_of(WHOLE)).decode())
    return texts


def test_the_same_photo_without_tags_is_flat_unless_you_say_so() -> None:
    data = encoded(with_plate(WHOLE, 0, 0), "JPEG", quality=95)
    assert blur_photo(data, PatchDetector()).projection == "flat"
    told = blur_photo(data, PatchDetector(), BlurOptions(projection="equirectangular"))
    assert told.projection == "equirectangular"


def test_a_cut_out_of_a_panorama_is_no_panorama() -> None:
    data = encoded(with_plate(WHOLE, 0, 0), "JPEG", xmp=xmp(**tags_of(WHOLE)))
    (crop,) = blur_photo(data, PatchDetector(), BlurOptions(crops=True)).crops
    assert decode(crop).metadata.xmp is None


def test_a_box_without_an_outline_is_hidden_as_it_is() -> None:
    image = with_plate(WHOLE, 0, -60)
    photo = decode(encoded(image, "JPEG", quality=95, xmp=xmp(**tags_of(WHOLE))))
    found = find_plates(photo, PatchDetector(), min_confidence=0.5)
    assert found.corners is not None
    both = Detections(
        np.vstack([found.xyxy, boxes([10, 10, 60, 40])]),
        np.ones(len(found) + 1, np.float32),
        corners=np.concatenate([found.corners, np.full((1, 4, 2), np.nan, np.float32)]),
    )
    blurred = hide_plates(photo, both, BlurOptions(method="solid", margin=0.0))
    pixels = np.array(opened(blurred.data).convert("RGB")).astype(int)
    assert (np.abs(pixels[12:38, 12:58] - 64) < 12).all()
    assert pixels[image[..., 0] == DARK].min() > 40


def test_corrections_by_hand_keep_the_outlines_of_the_other_plates() -> None:
    image = with_plate(WHOLE, 0, -60)
    data = encoded(image, "PNG", pnginfo=gpano_text())
    dropped = open_photo(name="a.png", data=data, detector=PatchDetector(), limits=Limits())
    corners = dropped.plates.corners
    assert corners is not None
    more = add_plate(dropped, [10, 10, 60, 40])
    assert more.plates.corners is not None
    assert np.isnan(more.plates.corners[0]).all()
    assert np.array_equal(more.plates.corners[1:], corners)
    fewer = remove_plate(more, more.plates.xyxy[1].tolist())
    assert fewer.plates.corners is not None
    assert len(fewer.plates.corners) == len(corners)
    again = remove_plate(more, [10, 10, 60, 40])
    assert again.plates.corners is not None
    assert np.array_equal(again.plates.corners, corners)


def test_opacity_does_not_show_what_an_outline_hides() -> None:
    image = with_plate(WHOLE, 180, -50)
    alpha = np.full(WHOLE.image_hw, 200, np.uint8)
    alpha[image[..., 0] == DARK] = 120
    rgba = PillowImage.fromarray(np.dstack([image, alpha]))
    photo = decode(encoded(rgba, "WEBP", lossless=True, xmp=xmp(**tags_of(WHOLE))))
    blurred = blur_photo(
        encoded(rgba, "WEBP", lossless=True, exact=True, xmp=xmp(**tags_of(WHOLE))),
        PatchDetector(),
    )
    assert photo.alpha is not None
    opacity = np.array(opened(blurred.data).getchannel("A"))
    assert (opacity[image[..., 0] == DARK] == 255).all()


def test_a_broken_detector_lets_no_panorama_out() -> None:
    data = encoded(with_plate(WHOLE, 0, 0), "JPEG", xmp=xmp(**tags_of(WHOLE)))
    with pytest.raises(DetectionError):
        blur_photo(data, BrokenDetector())


@pytest.mark.parametrize(
    "corners",
    [[[0, 180], [359, 180], [540, 180], [180, 300]], [[np.nan, 0], [9, 0], [9, 9], [0, 9]]],
    ids=["half-a-turn", "nan"],
)
def test_an_outline_that_can_not_be_hidden_is_never_passed_over(corners: Any) -> None:
    with pytest.raises(ValueError, match="must"):
        outline_regions(np.array([corners], np.float32), WHOLE, margin=0.1)
