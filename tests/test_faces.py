"""Cubemaps and dual fisheye pictures: a plate is hidden wherever it lies, across edges too."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plateblur import faces as module
from plateblur.boxes import iou_matrix
from plateblur.detector import OnnxDetector
from plateblur.drawn.scene import draw_scene
from plateblur.errors import DetectionError, PhotoDecodeError
from plateblur.faces import Faces, faces_of, parts_in_faces
from plateblur.panorama import find_on_panorama, outline_regions
from plateblur.pipeline import blur_photo
from plateblur.sphere import View, planned_views
from plateblur.types import BlurOptions, Detections, Image, Projection
from tests.fakes import boxes, encoded, opened
from tests.test_panorama import DARK, PALE, PLACES, PatchDetector, Sometimes

pytestmark = pytest.mark.slow

LAYOUTS: dict[str, tuple[Projection, tuple[int, int]]] = {
    "3x2": ("cubemap", (240, 360)),
    "strip": ("cubemap", (120, 720)),
    "column": ("cubemap", (720, 120)),
    "cross": ("cubemap", (360, 480)),
    "upright-cross": ("cubemap", (480, 360)),
    "lenses": ("dual-fisheye", (240, 480)),
    "lenses-below": ("dual-fisheye", (480, 240)),
}
EDGES = PLACES | {
    "edge-of-two-faces": (45, 0),
    "corner-of-three-faces": (45, 35),
    "lower-corner": (-135, -35),
    "edge-of-the-top": (0, 45),
    "rim-of-a-lens": (93, 10),
}


def laid(name: str) -> Faces:
    projection, image_hw = LAYOUTS[name]
    return faces_of(image_hw, projection)


def sees(sphere: Faces) -> tuple[np.ndarray, np.ndarray]:
    """Return the direction of each pixel, (H, W, 3), and which pixels show something."""
    height, width = sphere.image_hw
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    points = np.stack([x, y], axis=-1)
    shown = np.zeros((height, width), np.bool_)
    for face in sphere.faces:
        left, top, right, bottom = face.cell
        inside = (points > [left, top]).all(axis=-1) & (points < [right, bottom]).all(axis=-1)
        shown |= inside & face.holds(points)
    return sphere.rays(points), shown


def with_plate(sphere: Faces, yaw: float, pitch: float, *, degrees: float = 12) -> Image:
    """Return a pale picture with one dark plate, twice as wide as high, seen from straight on."""
    rays, shown = sees(sphere)
    axes = View(math.radians(yaw), math.radians(pitch), 2, 1.0).axes
    right, down, ahead = np.moveaxis(rays @ axes.T, -1, 0)
    half = math.tan(math.radians(degrees / 2))
    in_front = np.where(ahead > 0.1, ahead, np.inf)
    is_plate = (np.abs(right / in_front) < half) & (np.abs(down / in_front) < half / 2)
    image = np.full((*sphere.image_hw, 3), PALE, np.uint8)
    image[is_plate & (ahead > 0.1) & shown] = DARK
    return image


def hidden_by(found: Detections, sphere: Faces, *, margin: float = 0.0) -> np.ndarray:
    hidden = np.zeros(sphere.image_hw, np.bool_)
    assert found.corners is not None
    is_box = np.isnan(found.corners).all(axis=(1, 2))
    for x1, y1, x2, y2 in found.xyxy[is_box].astype(int):
        hidden[y1:y2, x1:x2] = True
    for region in outline_regions(found.corners[~is_box], sphere, margin=margin):
        x1, y1, x2, y2 = region.bounds
        hidden[y1:y2, x1:x2] |= region.mask
    return hidden


@pytest.mark.parametrize("name", LAYOUTS)
@given(st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda ray: np.linalg.norm(ray) > 0.1))
@settings(max_examples=40)
def test_a_direction_s_point_leads_back_to_it(name: str, ray: tuple[float, ...]) -> None:
    sphere = laid(name)
    direction = np.array(ray) / np.linalg.norm(ray)
    point = sphere.points(direction).astype(np.float32)
    assert float(sphere.rays(point) @ direction) > math.cos(0.1 * sphere.faces[0].pixel_angle)


@pytest.mark.parametrize(
    ("name", "point", "ray"),
    [
        ("cross", (180, 180), (0, 0, 1)),
        ("cross", (120, 180), (-0.7071, 0, 0.7071)),
        ("cross", (300, 180), (1, 0, 0)),
        ("cross", (60, 180), (-1, 0, 0)),
        ("cross", (420, 180), (0, 0, -1)),
        ("cross", (180, 60), (0, -1, 0)),
        ("cross", (180, 300), (0, 1, 0)),
        ("upright-cross", (180, 420), (0, 0, -1)),
        ("upright-cross", (180, 365), (0, 0.7071, -0.7071)),
        ("3x2", (180, 180), (0, 0, 1)),
        ("strip", (60, 60), (1, 0, 0)),
        ("lenses", (120, 120), (0, 0, 1)),
        ("lenses", (360, 120), (0, 0, -1)),
        ("lenses", (120 + 120 * 90 / 95, 120), (1, 0, 0)),
        ("lenses", (360 - 120 * 90 / 95, 120), (1, 0, 0)),
    ],
)
def test_cells_look_where_the_layout_says(
    name: str, point: tuple[float, float], ray: tuple[float, ...]
) -> None:
    assert np.allclose(laid(name).rays(np.array(point)), ray, atol=0.05)


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_view_shows_what_lies_in_its_direction(name: str) -> None:
    sphere = laid(name)
    rays, _ = sees(sphere)
    colours = (128 + 100 * rays).round().astype(np.uint8)
    views = planned_views(sphere, view_px=300)
    for view, picture in module.pictures(colours, sphere, views):
        at = np.arange(view.side_px) + 0.5
        seen = view.rays(np.stack(np.meshgrid(at, at), axis=-1))
        seen /= np.linalg.norm(seen, axis=-1, keepdims=True)
        # Colours end with each cell, so the last pixel counts twice.
        assert np.abs(picture.astype(int) - (128 + 100 * seen)).max() < 3


def test_what_two_lenses_see_is_shown_whole_from_each() -> None:
    sphere = laid("lenses")
    image = np.zeros((240, 480, 3), np.uint8)
    image[:, :240] = 200
    view = View(math.pi / 2, 0.0, 100, 60.0)
    first, second = (picture for _, picture in module.pictures(image, sphere, [view]))
    at = np.arange(100) + 0.5
    rays = view.rays(np.stack([at, np.full(100, 50.0)], axis=-1))
    degrees = np.degrees(np.arctan2(rays[:, 0], rays[:, 2]))
    assert (first[50, degrees < 94.5] == 200).all()
    assert (first[50, degrees > 95.5] == 0).all()
    assert (second[50, degrees > 85.5] == 0).all()
    assert (second[50, degrees < 84.5] == 200).all()


@pytest.mark.parametrize(("yaw", "pitch"), EDGES.values(), ids=EDGES)
@pytest.mark.parametrize("name", LAYOUTS)
def test_a_plate_is_hidden_wherever_it_is_and_little_beside_it(
    name: str, yaw: float, pitch: float
) -> None:
    sphere = laid(name)
    image = with_plate(sphere, yaw, pitch)
    found = find_on_panorama(image, sphere, PatchDetector(), min_confidence=0.5)
    # A view shows the edges of a face smaller than they are: half of its pixel is more than one.
    hidden = hidden_by(found, sphere, margin=0.1)
    is_plate = image[..., 0] == DARK
    assert is_plate.any()
    assert (hidden | ~is_plate).all()
    assert hidden.sum() < 6 * is_plate.sum() + 100


@pytest.mark.parametrize("name", ["cross", "lenses"])
def test_boxes_hold_the_outline_in_each_cell(name: str) -> None:
    sphere = laid(name)
    image = with_plate(sphere, 90 if name == "lenses" else 45, 0)
    found = find_on_panorama(image, sphere, PatchDetector(), min_confidence=0.5)
    in_boxes = np.zeros(sphere.image_hw, np.bool_)
    for x1, y1, x2, y2 in found.xyxy.astype(int):
        in_boxes[y1:y2, x1:x2] = True
    assert (in_boxes | (image[..., 0] > DARK)).all()
    assert found.corners is not None
    assert len(found) == 2
    assert np.array_equal(found.corners[0], found.corners[1])


@given(st.sampled_from(list(LAYOUTS)), st.floats(-180, 180), st.floats(-90, 90), st.floats(3, 25))
@settings(max_examples=60, deadline=None)
def test_all_pixels_of_an_outline_are_hidden_wherever_it_lies(
    name: str, yaw: float, pitch: float, degrees: float
) -> None:
    sphere = laid(name)
    view = View(math.radians(yaw), math.radians(pitch), 200, 100 / math.tan(math.radians(degrees)))
    outline = view.rays(np.array([[0, 50], [200, 50], [200, 150], [0, 150]]))
    corners = sphere.points(outline).astype(np.float32)
    found = Detections(boxes([0, 0, 1, 1]), np.ones(1, np.float32), None, corners[None])
    hidden = hidden_by(found, sphere)
    rays, shown = sees(sphere)
    right, down, ahead = np.moveaxis(rays @ view.axes.T, -1, 0)
    scale = view.focal_px / np.where(ahead > 0, ahead, np.inf)
    x, y = right * scale + 100, down * scale + 100
    inside = shown & (ahead > 0) & (x > 0.5) & (x < 199.5) & (y > 50.5) & (y < 149.5)
    assert hidden[inside].all()
    # Nothing is hidden that lies farther off than a pixel and a bit.
    slack = 2.5 * sphere.faces[0].pixel_angle * view.focal_px / math.cos(math.radians(degrees)) ** 2
    near = (ahead > 0) & (x > -slack) & (x < 200 + slack) & (y > 50 - slack) & (y < 150 + slack)
    assert near[hidden].all()


def test_a_box_across_cells_that_lie_apart_is_hidden_as_it_is_and_by_its_parts() -> None:
    sphere = laid("3x2")
    image = np.full((240, 360, 3), PALE, np.uint8)
    image[110:130, 100:140] = DARK  # over four faces that have no such neighbours
    found = find_on_panorama(image, sphere, PatchDetector(), min_confidence=0.5)
    assert hidden_by(found, sphere, margin=0.1)[110:130, 100:140].all()


@pytest.mark.parametrize(
    "at", [(20, 20), (340, 460), (100, 110)], ids=["empty", "empty-below", "half-empty"]
)
def test_what_lies_in_an_empty_cell_is_hidden_too(at: tuple[int, int]) -> None:
    sphere = laid("cross")
    image = np.full((360, 480, 3), PALE, np.uint8)
    y, x = at
    image[y : y + 10, x : x + 20] = DARK
    found = find_on_panorama(image, sphere, PatchDetector(), min_confidence=0.5)
    assert hidden_by(found, sphere, margin=0.1)[y : y + 10, x : x + 20].all()
    parts, beyond = parts_in_faces(boxes([x, y, x + 20, y + 10]), sphere)
    assert beyond == [0]
    assert len(parts) == (1 if at == (100, 110) else 0)


@pytest.mark.parametrize("fails_at", [1, 2, 9])
def test_one_look_that_fails_fails_the_picture(fails_at: int) -> None:
    image = np.full((240, 360, 3), PALE, np.uint8)
    with pytest.raises(DetectionError):
        find_on_panorama(image, laid("3x2"), Sometimes(fails_at), min_confidence=0.5)


def test_fast_looks_at_the_picture_as_it_is() -> None:
    image = np.full((240, 360, 3), PALE, np.uint8)
    fast = Sometimes(0)
    find_on_panorama(image, laid("3x2"), fast, min_confidence=0.5, effort="fast")
    assert fast.looks == 1


@pytest.mark.parametrize(
    ("projection", "image_hw"),
    [("cubemap", (1080, 1920)), ("cubemap", (1, 1)), ("dual-fisheye", (300, 400))],
)
def test_a_picture_of_another_aspect_is_refused(
    projection: Projection, image_hw: tuple[int, int]
) -> None:
    data = encoded(np.full((*image_hw, 3), PALE, np.uint8), "PNG")
    with pytest.raises(PhotoDecodeError, match="aspect of"):
        blur_photo(data, PatchDetector(), BlurOptions(projection=projection))


@pytest.mark.parametrize("name", ["cross", "lenses"])
def test_it_leaves_blurred_and_says_how_it_was_taken(name: str) -> None:
    projection, _ = LAYOUTS[name]
    image = with_plate(laid(name), 45, -30)
    data = encoded(image, "PNG") if name == "cross" else encoded(image, "WEBP", lossless=True)
    blurred = blur_photo(data, PatchDetector(), BlurOptions(method="solid", projection=projection))
    assert blurred.projection == projection
    pixels = np.array(opened(blurred.data).convert("RGB")).astype(int)
    assert pixels[image[..., 0] == DARK].min() > 40


@pytest.fixture(scope="module")
def shipped() -> OnnxDetector:
    return OnnxDetector.shipped()


DRAWN: dict[str, tuple[Projection, tuple[int, int]]] = {
    "3x2": ("cubemap", (1280, 1920)),
    "cross": ("cubemap", (1920, 2560)),
    "lenses": ("dual-fisheye", (1440, 2880)),
}
# Faces' middles and edges, the rims of lenses, and below.
DIRECTIONS = [(0, 0), (45, 0), (92, 0), (138, 3), (180, 0), (-135, -4), (-90, 0), (0, -45)]


@pytest.mark.slow
@pytest.mark.parametrize("name", DRAWN)
def test_drawn_plates_in_known_directions_are_hidden(name: str, shipped: OnnxDetector) -> None:
    """Each plate counts that the shipped model finds in the drawn scene itself."""
    projection, image_hw = DRAWN[name]
    sphere = faces_of(image_hw, projection)
    rays, shown = sees(sphere)
    image = np.full((*image_hw, 3), 120, np.uint8)
    plates: dict[str, np.ndarray] = {}
    for seed, (yaw, pitch) in enumerate(DIRECTIONS):
        scene = draw_scene(seed, plates=1, ratios=(1 / 16, 1 / 14))
        plate = scene.xyxy[0]
        alone = shipped.detect(scene.image, min_confidence=0.45)
        height, width = scene.image.shape[:2]
        view = View(math.radians(yaw), math.radians(pitch), 2, 1.0)
        right, down, ahead = np.moveaxis(rays @ view.axes.T, -1, 0)
        focal = width / 2 / math.tan(math.radians(35))
        in_front = np.where(ahead > 0.1, ahead, np.inf)
        x = right / in_front * focal + (plate[0] + plate[2]) / 2
        y = down / in_front * focal + (plate[1] + plate[3]) / 2
        inside = shown & (ahead > math.cos(math.radians(22)))
        inside &= (x >= 0) & (x < width) & (y >= 0) & (y < height)
        image[inside] = scene.image[y[inside].astype(int), x[inside].astype(int)]
        if iou_matrix(alone.xyxy, plate[None]).max(initial=0) > 0.5:
            on_plate = (x > plate[0]) & (x < plate[2]) & (y > plate[1]) & (y < plate[3])
            plates[f"{yaw} {pitch}"] = inside & on_plate
    found = find_on_panorama(image, sphere, shipped, min_confidence=BlurOptions().min_confidence)
    hidden = hidden_by(found, sphere, margin=BlurOptions().margin)
    shares = {where: float(hidden[plate].mean()) for where, plate in plates.items()}
    assert len(shares) >= 6
    assert min(shares.values()) >= 0.99, shares
