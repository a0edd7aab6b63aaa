"""Everything behind and beside the vehicles: sky, ground, houses, trees and signs."""

from __future__ import annotations

from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from plateblur.drawn.camera import Camera, paste
from plateblur.drawn.chance import Rng, choice, smooth_noise
from plateblur.drawn.houses import facade
from plateblur.drawn.lettering import write
from plateblur.drawn.light import WHITE, YELLOW, Light, hazy, rgb
from plateblur.drawn.vehicles import upright_quad
from plateblur.types import Image

Reals = NDArray[np.floating[Any]]
Place = Literal["street", "car_park"]
PLACES: tuple[Place, ...] = ("street", "car_park")


def draw_surroundings(
    rng: Rng, camera: Camera, light: Light, place: Place, *, reach_m: tuple[float, float]
) -> Image:
    """Return sky, ground, houses, trees and signs; everything behind or beside the vehicles.

    Args:
        rng: where every choice comes from.
        camera: the camera.
        light: how it is lit.
        place: what it looks like.
        reach_m: how far the vehicles reach sideways and away.
    """
    canvas = _draw_sky_and_ground(rng, camera, light, place, road_m=max(4.2, reach_m[0] + 1.0))
    wall = max(8.0, reach_m[0] + 4.5)
    _draw_skyline(canvas, rng, camera, light)
    if place == "street":
        for side in (-1, 1):
            _draw_row(canvas, rng, camera, light, side * wall)
    else:
        _draw_wall(canvas, rng, camera, light, z=max(20.0, reach_m[1] + 12.0))
    for _ in range(int(rng.integers(3, 7))):
        z = float(rng.uniform(reach_m[1] + 3, reach_m[1] + 30))
        _draw_tree(canvas, rng, camera, light, (float(choice(rng, (-1, 1)) * (wall - 1.8)), z))
    for _ in range(int(rng.integers(1, 4))):
        z = float(rng.uniform(reach_m[1] + 2, reach_m[1] + 14))
        _draw_road_sign(canvas, rng, camera, light, (float(choice(rng, (-1, 1)) * (wall - 2.6)), z))
    return canvas


def _draw_sky_and_ground(
    rng: Rng, camera: Camera, light: Light, place: Place, *, road_m: float
) -> Image:
    rays = camera.rays(2)
    x, y, z = rays[..., 0], rays[..., 1], rays[..., 2]
    rise = (y / np.hypot(x, z) / 0.55).clip(0, 1)[..., None]
    # Clouds are on a plane, so that they get flatter towards the horizon.
    ceiling = 60 / (np.maximum(y, 0) + 0.12)
    sheet = smooth_noise(rng, (512, 512), 9)
    clouds = cv2.remap(sheet, *_tile(x * ceiling + 2048, z * ceiling * 1.6), cv2.INTER_LINEAR)
    clouds = clouds[..., None]
    sky = np.array(light.sky_low) * (1 - rise) + np.array(light.sky_top) * rise
    puff = ((clouds - 0.5) * 3).clip(0, 1) * 0.5 * (0.3 + rise)
    sky = sky * (1 - puff) + (np.array(light.sky_low) * 0.6 + 98 * light.tint[0]) * puff
    distance = camera.height_m / np.maximum(-y, 1e-4)
    gx, gz = x * distance, z * distance
    lumps = smooth_noise(rng, (512, 512), 24) - 0.5
    grain = cv2.GaussianBlur(rng.random((512, 512), dtype=np.float32) - 0.5, (0, 0), 0.8)
    rough = cv2.remap(lumps, *_tile(gx * 22, gz * 22), cv2.INTER_LINEAR)
    stones = cv2.remap(grain, *_tile(gx * 140, gz * 140), cv2.INTER_LINEAR)
    near = np.exp(-gz / 9)
    grey = float(rng.uniform(98, 128))
    ground = grey + 26 * rough + 60 * stones * near
    colour = ground[..., None] * [1.0, 1.0, 1.02]
    soft = np.maximum(0.012, distance * 2 / camera.focal_px)  # a line's edge, at least a pixel

    def stripe(off: Reals, half: float) -> NDArray[np.float32]:
        return np.asarray(((half - np.abs(off)) / soft + 0.5).clip(0, 1), np.float32)

    worn = (0.75 + 0.5 * rough)[..., None]
    if place == "street":
        paved = (((np.abs(gx) - road_m) / soft) + 0.5).clip(0, 1)[..., None]
        joints = np.maximum(stripe((gx + 0.3) % 0.6 - 0.3, 0.008), stripe(gz % 0.6 - 0.3, 0.008))
        slabs = (150 + 26 * rough + 30 * stones * near)[..., None] * [1.02, 1.0, 0.96]
        slabs = slabs * (1 - 0.3 * (joints * near)[..., None])
        colour = colour * (1 - paved) + slabs * paved
        kerb = stripe(np.abs(gx) - road_m, 0.09)[..., None]
        colour = colour * (1 - kerb) + 176 * kerb
        dashes = stripe(gx + float(rng.uniform(-1.0, 1.0)), 0.06) * ((gz % 6) < 3)
        lines = np.maximum(dashes, stripe(np.abs(gx) - road_m + 0.5, 0.05))[..., None]
    else:
        bays = stripe((gx + float(rng.uniform(0, 2.6))) % 2.6 - 1.3, 0.05) * ((gz % 16) < 11)
        lines = np.maximum(bays, stripe(gz % 16 - 5.5, 0.05))[..., None]
    colour = colour * (1 - 0.8 * lines * worn) + 222 * 0.8 * lines * worn
    haze = (1 - np.exp(-np.maximum(gz, 0) / 160))[..., None]
    colour = colour * light.tint * (1 - haze) + np.array(light.sky_low) * haze
    seen = np.where((y < -1e-3)[..., None], colour, sky).clip(0, 255).astype(np.uint8)
    height, width = camera.image_hw
    return np.asarray(cv2.resize(seen, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


def _tile(x: Reals, y: Reals) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return where to read a 512-pixel texture, folded to and fro so that it has no seams."""
    return tuple((511 - np.abs(v % 1022 - 511)).astype(np.float32) for v in (x, y))  # type: ignore[return-value]


def _draw_skyline(canvas: Image, rng: Rng, camera: Camera, light: Light) -> None:
    """Draw what closes the view: hills, then houses that face the camera, then bushes."""
    x = np.linspace(-260, 260, 80)
    ridge = 12 + 7 * np.sin(x / 60 + rng.uniform(0, 6)) + 3 * np.sin(x / 17 + rng.uniform(0, 6))
    line = np.stack([x, ridge, np.full(80, 260.0)], axis=1)
    foot = np.array([[260.0, -2, 260], [-260, -2, 260]])
    pixels = np.rint(camera.project(np.concatenate([line, foot]))[:, :2]).astype(np.int32)
    cv2.fillPoly(canvas, [pixels], rgb(hazy((70, 92, 72), light, 230)), cv2.LINE_AA)
    at = -50.0
    while at < 50:
        wide, high = float(rng.uniform(9, 18)), float(rng.uniform(6, 11))
        front = hazy(facade(rng, light, wide, high, scale=12) / np.array(light.tint), light, 100)
        paste(canvas, front, camera.project(upright_quad(at, 0, at + wide, high, z=100))[:, :2])
        at += wide * float(rng.uniform(1.0, 1.25))
    for at in rng.uniform(-50, 50, 70):
        spot = camera.project(np.array([[at, rng.uniform(0.6, 2.4), 96.0]]))[0]
        radius = max(2, int(camera.focal_px / 96 * rng.uniform(0.8, 2.0)))
        green = rgb(hazy(np.array((66, 92, 56)) + rng.uniform(-14, 14), light, 96))
        cv2.circle(canvas, (int(spot[0]), int(spot[1])), radius, green, -1, cv2.LINE_AA)


def _draw_row(canvas: Image, rng: Rng, camera: Camera, light: Light, x: float) -> None:
    """Draw a row of houses along the street, the far ones first."""
    houses: list[tuple[float, float, float]] = []
    z = 1.5
    while z < 95:
        wide = float(rng.uniform(8, 15))
        houses.append((z, z + wide, float(rng.uniform(7, 15))))
        z += wide + (float(rng.uniform(3, 7)) if rng.random() < 0.2 else 0.0)
    for near, far, high in reversed(houses):
        front = facade(rng, light, far - near, high, scale=30 if near < 22 else 14)
        corners = np.array([[x, high, near], [x, high, far], [x, 0, far], [x, 0, near]])
        if x > 0:  # the far end is on the left there
            corners = corners[[1, 0, 3, 2]]
        seen = camera.project(corners)
        if seen[:, 2].min() < 0.3:
            continue
        shade = 0.80 if x < 0 else 0.96
        front = hazy(front / np.array(light.tint) * shade, light, near)
        gable = np.array([[x, high, far], [x * 3, high, far], [x * 3, 0, far], [x, 0, far]])
        flat = np.rint(camera.project(gable)[:, :2]).astype(np.int32)
        cv2.fillPoly(canvas, [flat], rgb(front.mean(axis=(0, 1)) * 0.7), cv2.LINE_AA)
        paste(canvas, front, seen[:, :2])


def _draw_wall(canvas: Image, rng: Rng, camera: Camera, light: Light, *, z: float) -> None:
    """Draw houses that face the camera, with a hedge before them."""
    x = -60.0
    while x < 60:
        wide, high = float(rng.uniform(10, 20)), float(rng.uniform(6, 13))
        front = hazy(facade(rng, light, wide, high, scale=30) / np.array(light.tint), light, z)
        paste(canvas, front, camera.project(upright_quad(x, 0, x + wide, high, z=z))[:, :2])
        x += wide
    leaves = rng.random((60, 1200, 1)) * 60 + np.array([44.0, 70.0, 38.0])
    hedge = hazy(leaves, light, z - 2)
    paste(canvas, hedge, camera.project(upright_quad(-60, 0, 60, 1.3, z=z - 2))[:, :2])


def _draw_tree(
    canvas: Image, rng: Rng, camera: Camera, light: Light, at_m: tuple[float, float]
) -> None:
    x, z = at_m
    high = float(rng.uniform(3.5, 6))
    foot, crown = camera.project(np.array([[x, 0, z], [x, high, z]]))[:, :2]
    scale = camera.focal_px / z
    points = (int(foot[0]), int(foot[1])), (int(crown[0]), int(crown[1]))
    cv2.line(canvas, *points, rgb(hazy((74, 60, 48), light, z)), max(2, int(0.24 * scale)))
    count = 320
    shade = np.linspace(0.45, 1.2, count)[:, None]
    spread = rng.normal(0, 0.72, (count, 2)) * [1.0, -0.8] - shade * [0.0, 0.25]
    centres = np.rint(crown + spread * scale).astype(int)
    radii = np.rint(rng.uniform(0.06, 0.26, count) * scale).astype(int).clip(1)
    greens = hazy(np.array((66, 98, 46)) * shade + rng.uniform(-8, 8, (count, 3)), light, z)
    for (cx, cy), radius, green in zip(
        centres.tolist(), radii.tolist(), greens.tolist(), strict=True
    ):
        cv2.circle(canvas, (cx, cy), radius, green, -1, cv2.LINE_AA)


def _draw_road_sign(
    canvas: Image, rng: Rng, camera: Camera, light: Light, at_m: tuple[float, float]
) -> None:
    """Draw a sign on a post; signs carry figures and words and are no plates."""
    x, z = at_m
    kind = choice(rng, ("limit", "parking", "town", "street"))
    wide, high = {"limit": (0.7, 0.7), "parking": (0.6, 0.6), "town": (1.5, 0.9)}.get(
        kind, (1.1, 0.28)
    )
    board = np.zeros((int(high * 200), int(wide * 200), 4), np.uint8)
    board[..., 3] = 255
    face = np.zeros((*board.shape[:2], 3), np.uint8)
    middle = (face.shape[1] // 2, face.shape[0] // 2)
    if kind == "limit":
        board[..., 3] = 0
        cover = np.zeros(face.shape[:2], np.uint8)
        cv2.circle(cover, middle, middle[0] - 1, 255, -1, cv2.LINE_AA)
        board[..., 3] = cover
        face[:] = (196, 30, 34)
        cv2.circle(face, middle, int(middle[0] * 0.76), WHITE, -1, cv2.LINE_AA)
        write(face, 1, choice(rng, ("30", "50", "60")), (40, 48, 60, 44))
    elif kind == "parking":
        face[:] = (24, 76, 168)
        write(face, 1, "P", (40, 26, 40, 66), ink=WHITE)
    elif kind == "town":
        face[:] = YELLOW
        write(face, 1, choice(rng, ("ALTDORF", "MILLBROOK", "SANTA ELA")), (30, 40, 240, 46))
        write(face, 1, f"{rng.integers(2, 60)} KM", (90, 110, 120, 34))
    else:
        face[:] = (28, 62, 130)
        write(face, 1, choice(rng, ("MARKET ST", "HARBOUR ROAD", "ELM LANE")), (18, 16, 184, 26),
               ink=WHITE)  # fmt: skip
    board[..., :3] = hazy(face, light, z)
    low = 2.1
    foot, head = camera.project(np.array([[x, 0, z], [x, low + high, z]]))[:, :2]
    points = (int(foot[0]), int(foot[1])), (int(head[0]), int(head[1]))
    thick = max(2, int(0.07 * camera.focal_px / z))
    cv2.line(canvas, *points, rgb(hazy((130, 132, 134), light, z)), thick, cv2.LINE_AA)
    corners = upright_quad(x - wide / 2, low, x + wide / 2, low + high, z=z - 0.05)
    paste(canvas, board, camera.project(corners)[:, :2])
