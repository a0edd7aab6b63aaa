"""Which views of a panorama are planned, in numbers: a change here changes what is looked at."""

from __future__ import annotations

import math

import numpy as np
import pytest

from plateblur.sphere import Panorama, View, across_of, panorama_of, planned_views

WHOLE = Panorama((1000, 2000), (2000, 1000))
LARGE = Panorama((4000, 8000), (8000, 4000))
CROPPED = Panorama((500, 1500), (8000, 4000), (3200, 1700))
STRIP = Panorama((900, 3000), (3000, 1500), (0, 300))


@pytest.mark.parametrize(
    ("panorama", "across", "side_px", "rows"),
    [
        (WHOLE, 90.0, 637, {-58.5: 6, 0.0: 6, 58.5: 6}),
        (
            LARGE,
            38.7697,
            896,
            {
                **{-76.4306: 7, -50.9537: 11, -25.4769: 13, 0.0: 14},
                **{25.4769: 13, 50.9537: 11, 76.4306: 7},
            },
        ),
        (CROPPED, 38.7697, 896, {-25.4769: 4, 0.0: 5, 25.4769: 4}),
        (STRIP, 86.3529, 896, {-59.7765: 6, 0.0: 6, 59.7765: 6}),
    ],
    ids=["whole", "large", "cropped", "strip"],
)
def test_views_are_planned_row_by_row(
    panorama: Panorama, across: float, side_px: int, rows: dict[float, int]
) -> None:
    views = planned_views(panorama, view_px=896)
    found: dict[float, int] = {}
    for view in views:
        pitch = round(math.degrees(view.pitch), 4) + 0.0
        found[pitch] = found.get(pitch, 0) + 1
    assert found == rows
    assert {view.side_px for view in views} == {side_px}
    assert {view.focal_px for view in views} == {panorama.full_wh[0] / (2 * math.pi)}
    assert math.degrees(across_of(panorama, 896)) == pytest.approx(across, abs=1e-3)


def test_the_views_of_a_row_go_once_around() -> None:
    level = [view.yaw for view in planned_views(WHOLE, view_px=896) if abs(view.pitch) < 1e-9]
    assert np.degrees(level).tolist() == pytest.approx([0, 60, 120, 180, 240, 300])
    ahead = [math.degrees(view.yaw) for view in planned_views(CROPPED, view_px=896)[4:9]]
    turns = [(yaw + 180) % 360 - 180 for yaw in ahead]
    assert all(abs(yaw) < 60 for yaw in turns)  # the image is 67 degrees wide, around 0


def test_a_camera_s_axes_are_right_down_and_ahead() -> None:
    straight = View(0, 0, 100, 50)
    assert np.allclose(straight.axes, np.eye(3))
    right = View(math.radians(90), 0, 100, 50)
    assert np.allclose(right.axes, [[0, 0, -1], [0, 1, 0], [1, 0, 0]])
    up = View(0, math.radians(30), 100, 50)
    sine, cosine = 0.5, math.sqrt(3) / 2
    assert np.allclose(up.axes, np.array([[1.0, 0, 0], [0, cosine, sine], [0, -sine, cosine]]))
    any_way = View(1.1, -0.7, 100, 50).axes
    assert np.allclose(any_way @ any_way.T, np.eye(3))
    assert np.linalg.det(any_way) == pytest.approx(1)


def test_a_view_s_middle_looks_ahead_and_its_edges_by_its_focal_length() -> None:
    view = View(0, 0, 100, 50)
    points = np.array([[50, 50], [100, 50], [50, 0], [0, 100]])
    assert view.rays(points).tolist() == [[0, 0, 50], [50, 0, 50], [0, -50, 50], [-50, 50, 50]]


@pytest.mark.parametrize(
    ("image_hw", "full_wh", "left_top"),
    [
        ((900, 3000), (3000, 1500), (0, 300)),
        ((1000, 1500), (2000, 1000), (250, 0)),
        ((700, 1401), (1401, 701), (0, 0)),
    ],
    ids=["strip of a turn", "part of a turn", "an odd width"],
)
def test_an_image_without_a_place_is_around_the_horizon(
    image_hw: tuple[int, int], full_wh: tuple[int, int], left_top: tuple[int, int]
) -> None:
    panorama = panorama_of(None, image_hw=image_hw, projection="equirectangular")
    assert panorama == Panorama(image_hw, full_wh, left_top)


@pytest.mark.parametrize(
    ("image_hw", "is_one"),
    [((84, 3000), True), ((83, 3000), False), ((42, 1500), True), ((41, 1500), False)],
)
def test_what_shows_hardly_any_of_the_sphere_is_flat(
    image_hw: tuple[int, int], is_one: bool
) -> None:
    """Ten degrees from top to bottom are an eighteenth of half a turn."""
    panorama = panorama_of(None, image_hw=image_hw, projection="equirectangular")
    assert (panorama is not None) == is_one


def test_half_the_size_is_half_of_every_number() -> None:
    assert CROPPED.halved() == Panorama((250, 750), (4000, 2000), (1600, 850))
    assert Panorama((1, 1), (2, 1), (1, 0)).halved() == Panorama((1, 1), (1, 1), (0, 0))


@pytest.mark.parametrize("pitch", [-80.0, 0.0, 80.0])
@pytest.mark.parametrize(("yaw", "shown"), [(0.0, True), (28.0, True), (120.0, False)])
def test_of_a_cropped_panorama_only_its_own_directions_are_shown(
    yaw: float, pitch: float, shown: bool
) -> None:
    view = View(math.radians(yaw), math.radians(pitch), 400, CROPPED.focal_px)
    assert CROPPED.shows(view) == (shown and pitch == 0)
    assert WHOLE.shows(view)
