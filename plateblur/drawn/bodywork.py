"""Vehicles painted onto a scene: skin, windows, wheels, lamps, lettering and the plate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

from plateblur.drawn.camera import Camera, Floats, paste
from plateblur.drawn.ends import end_face
from plateblur.drawn.lettering import ink_on, signboard
from plateblur.drawn.light import Light, tinted
from plateblur.drawn.vehicles import BODIES, Body, Mesh, Vehicle, mesh_of, side_seen, upright_quad
from plateblur.types import Image


def draw_vehicle(canvas: Image, vehicle: Vehicle, camera: Camera, light: Light) -> None:
    """Draw shadow, wheels, skin, the end towards the camera and the plate, in that order."""
    mesh = mesh_of(vehicle.body, vehicle.front)
    world = vehicle.to_world(mesh.corners.reshape(-1, 3))
    seen = camera.project(world)
    height, width = canvas.shape[:2]
    pad = 0.4 * (seen[:, 0].max() - seen[:, 0].min())
    x1, x2 = (int(np.clip(v, 0, width)) for v in (seen[:, 0].min() - pad, seen[:, 0].max() + pad))
    y1, y2 = (int(np.clip(v, 0, height)) for v in (seen[:, 1].min() - 4, seen[:, 1].max() + pad))
    if x2 - x1 < 4 or y2 - y1 < 4:
        return
    part = canvas[y1:y2, x1:x2]
    _shade_ground(part, vehicle, camera, (x1, y1))
    fine = 2 if part.shape[0] * part.shape[1] < 500_000 else 1
    layer = np.zeros((part.shape[0] * fine, part.shape[1] * fine, 4), np.uint8)

    def on_layer(points: Floats) -> Floats:
        flat = camera.project(vehicle.to_world(points))[:, :2]
        return np.asarray((flat - [x1, y1]) * fine, np.float64)

    def polygon(points: Floats, colour: Any) -> None:
        pixels = np.rint((on_layer(points) - 0.5) * 16).clip(-1e6, 1e6).astype(np.int32)
        cv2.fillPoly(layer, [pixels], (*(int(c) for c in colour), 255), cv2.LINE_8, 4)

    body = BODIES[vehicle.body]
    side = side_seen(vehicle)
    _draw_under(polygon, body, light)
    for mirror in {-1.0, 1.0} - {side}:
        _draw_mirror(polygon, mirror, body, vehicle, camera, light)
    _draw_skin(layer, mesh, vehicle, camera, light, (x1, y1), fine)
    if side:
        _draw_side(polygon, layer, on_layer, side, body, vehicle, light)
        _draw_mirror(polygon, side, body, vehicle, camera, light)
    across = on_layer(upright_quad(-0.5, 0.4, 0.5, 0.5, z=0))
    px_per_m = float(np.clip(np.linalg.norm(across[1] - across[0]), 60, 1400))
    face = end_face(mesh.end, body, vehicle, light, px_per_m)
    half, top = float(mesh.end[:, 0].max()), float(mesh.end[:, 1].max())
    paste(layer, face, on_layer(upright_quad(-half, 0.20, half, top, z=-0.001)))
    if fine == 2:
        layer = np.asarray(
            cv2.resize(layer, part.shape[1::-1], interpolation=cv2.INTER_AREA), np.uint8
        )
    alpha = layer[..., 3:].astype(np.float32) / 255
    # The layer's colours are already weighed by coverage, because empty pixels are black.
    part[:] = np.rint(part * (1 - alpha) + layer[..., :3]).clip(0, 255)
    if vehicle.plate is not None:
        flat = camera.project(vehicle.plate_corners())[:, :2]
        paste(canvas, tinted(vehicle.plate.image, light.plate_tint), flat)
    if light.lamps:
        _glow(canvas, vehicle, camera, half)


def _shade_ground(
    part: Image, vehicle: Vehicle, camera: Camera, origin_xy: tuple[int, int]
) -> None:
    body = BODIES[vehicle.body]
    for grow, strength in ((0.22, 0.45), (-0.02, 0.6)):
        w, near, far = body.half_width + grow, -grow, body.length + grow
        points = np.array([[-w, 0, near], [w, 0, near], [w, 0, far], [-w, 0, far]], np.float64)
        seen = camera.project(vehicle.to_world(points))
        if seen[:, 2].min() < 0.2:
            continue
        shadow = np.zeros(part.shape[:2], np.float32)
        flat = np.rint((seen[:, :2] - origin_xy) * 16).clip(-1e6, 1e6).astype(np.int32)
        cv2.fillPoly(shadow, [flat], 1.0, cv2.LINE_8, 4)
        soft = max(1.0, camera.focal_px / seen[:, 2].mean() * 0.06)
        small = cv2.resize(shadow, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
        small = cv2.GaussianBlur(small, (0, 0), soft / 4 + 0.3)
        shadow = np.asarray(cv2.resize(small, part.shape[1::-1]), np.float32)
        part[:] = np.rint(part * (1 - strength * shadow[..., None]))


def _draw_under(polygon: Callable[[Floats, Any], None], body: Body, light: Light) -> None:
    """Draw the dark underside and the tyres that are seen below the body."""
    dark = tinted((26, 26, 28), light.tint)
    w = body.half_width * 0.84
    polygon(upright_quad(-w, 0.12, w, 0.4, z=0.5), dark)
    polygon(np.array([[-w, 0.16, 0.2], [w, 0.16, 0.2], [w, 0.16, 4], [-w, 0.16, 4]], float), dark)
    for at in (body.length - 0.82, 0.78):
        for side in (-1, 1):
            inner, outer = side * (body.half_width - 0.23), side * (body.half_width - 0.03)
            tyre = upright_quad(min(inner, outer), 0.0, max(inner, outer), 0.5, z=at - 0.26)
            polygon(tyre, tinted((22, 22, 23), light.tint))


def _draw_skin(
    layer: Image,
    mesh: Mesh,
    vehicle: Vehicle,
    camera: Camera,
    light: Light,
    origin_xy: tuple[int, int],
    fine: int,
) -> None:
    """Fill the faces that look at the camera, the far ones first."""
    world = vehicle.to_world(mesh.corners.reshape(-1, 3)).reshape(-1, 4, 3)
    normal = np.cross(world[:, 2] - world[:, 0], world[:, 1] - world[:, 3])
    normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-9
    centre = world.mean(axis=1)
    inside = vehicle.to_world(np.array([[0.0, 0.7, BODIES[vehicle.body].length / 2]]))
    outward = np.where(((centre - inside) * normal).sum(axis=1) < 0, -1.0, 1.0)
    normal *= outward[:, None]
    to_eye = np.array([0, camera.height_m, 0]) - centre
    facing = (to_eye * normal).sum(axis=1) > 0
    seen = camera.project(world.reshape(-1, 3)).reshape(-1, 4, 3)
    facing &= seen[:, :, 2].min(axis=1) > 0.2
    to_eye /= np.linalg.norm(to_eye, axis=1, keepdims=True)
    sun = np.array(light.sun) / np.linalg.norm(light.sun)
    bright = 0.50 + 0.42 * (normal @ sun).clip(0) + 0.12 * normal[:, 1]
    bright *= 0.72 + 0.28 * ((centre[:, 1] - 0.2) / 0.6).clip(0, 1)
    mirror = 2 * (to_eye * normal).sum(axis=1, keepdims=True) * normal - to_eye
    shine = (mirror[:, 1].clip(0, 1) ** 0.7)[:, None]
    spark = ((mirror @ sun).clip(0) ** 24)[:, None]
    sky = np.array(light.sky_low) * 0.6 + np.array(light.sky_top) * 0.4
    painted = np.array(vehicle.paint) * bright[:, None] * light.tint
    # What the paint mirrors: sky above, dark street below, a hard edge at the horizon.
    street = 1 - 0.22 * (1 / (1 + np.exp(mirror[:, 1:2] * 14)))
    painted = (
        painted * street * (1 - 0.22 * shine) + sky * 0.30 * shine + 90 * spark * light.tint[0]
    )
    glimpse = ((centre[:, 1:2] - 0.9) / 0.7).clip(0, 1) ** 2  # brighter towards the roof
    shine = shine * (0.55 + 0.75 * glimpse)
    window = np.array([20, 24, 28]) * np.array(light.tint) * (1 - 0.5 * shine) + sky * 0.45 * shine
    colours = np.where(mesh.glass[:, None], window, painted).clip(0, 255)
    flat = np.rint(((seen[:, :, :2] - origin_xy) * fine - 0.5) * 16)
    flat = flat.clip(-1e6, 1e6).astype(np.int32)
    far_first = np.argsort(-seen[:, :, 2].mean(axis=1))
    for i in far_first[facing[far_first]]:
        cv2.fillConvexPoly(layer, flat[i], (*colours[i].tolist(), 255), cv2.LINE_8, 4)
    layer[..., :3] = cv2.GaussianBlur(layer[..., :3], (0, 0), 0.8 * fine)
    layer[..., :3] *= layer[..., 3:] > 0


def _draw_mirror(
    polygon: Callable[[Floats, Any], None],
    side: float,
    body: Body,
    vehicle: Vehicle,
    camera: Camera,
    light: Light,
) -> None:
    z = body.length - body.front_glass[1] + 0.3 if vehicle.front else body.front_glass[1] - 0.3
    x, y = side * (body.half_width + 0.09), body.shoulder + 0.08
    turn = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    # Between a circle and a square, as mirrors are.
    round_x, round_y = (np.sign(v) * np.abs(v) ** 0.6 for v in (np.cos(turn), np.sin(turn)))
    for share, shade in ((1.0, 0.55), (0.75, 0.8 if vehicle.front else 0.3)):
        shape = np.stack([x + 0.115 * share * round_x, y + 0.075 * share * round_y,
                          np.full(24, z)], axis=1)  # fmt: skip
        if camera.project(vehicle.to_world(shape))[:, 2].min() > 0.3:
            polygon(shape, tinted(np.array(vehicle.paint) * shade, light.tint))


def _draw_side(
    polygon: Callable[[Floats, Any], None],
    layer: Image,
    on_layer: Callable[[Floats], Floats],
    side: float,
    body: Body,
    vehicle: Vehicle,
    light: Light,
) -> None:
    """Draw wheels, door lines, handles and lettering on the side that is seen."""
    along = [body.length - z for z in body.pillars] if vehicle.front else list(body.pillars)
    x = side * (body.half_width + 0.004)
    turn = np.linspace(0, 2 * np.pi, 40, endpoint=False)

    def disc(z: float, radius: float, y: float, *, end: float = 2 * np.pi) -> Floats:
        arc = turn * end / (2 * np.pi)
        return np.stack(
            [np.full(40, x), y + radius * np.sin(arc), z + radius * np.cos(arc)], axis=1
        )

    for z in (0.80, body.length - 0.80):
        polygon(disc(z, 0.385, 0.33, end=np.pi), tinted((16, 16, 17), light.tint))
        polygon(disc(z, 0.32, 0.32), tinted((28, 28, 29), light.tint))
        polygon(disc(z, 0.22, 0.32), tinted((150, 152, 156), light.tint))
        for spoke in np.arange(5) * 2 * np.pi / 5 + 0.3:
            hole = disc(z + 0.14 * np.cos(spoke), 0.055, 0.32 + 0.14 * np.sin(spoke))
            polygon(hole, tinted((48, 48, 50), light.tint))
    dark = tinted(np.array(vehicle.paint) * 0.45, light.tint)
    for z in along:
        polygon(np.array([[x, 0.34, z], [x, body.shoulder, z], [x, body.shoulder, z + 0.012],
                          [x, 0.34, z + 0.012]]), dark)  # fmt: skip
        polygon(np.array([[x, 0.80, z + 0.1], [x, 0.83, z + 0.1], [x, 0.83, z + 0.26],
                          [x, 0.80, z + 0.26]]), dark)  # fmt: skip
    if vehicle.body == "van":
        start, stop = (0.5, 2.8) if not vehicle.front else (2.3, 4.6)
        if side < 0:
            start, stop = stop, start
        corners = [[x * 0.97, 1.62, start], [x * 0.97, 1.62, stop], [x, 0.98, stop],
                   [x, 0.98, start]]  # fmt: skip
        sign = signboard(vehicle.lettering, ink_on(vehicle.paint), light, (120, 460))
        paste(layer, sign, on_layer(np.array(corners)))


def _glow(canvas: Image, vehicle: Vehicle, camera: Camera, half: float) -> None:
    """Add the light of the lamps: white in front, red behind; it stays clear of the plate."""
    body = BODIES[vehicle.body]
    ends = dict(enumerate(body.profile))
    top = ends[len(body.profile) - 1][1] if vehicle.front else ends[0][1]
    y = top - 0.16 if vehicle.front else (0.87 if vehicle.body == "van" else top - 0.16)
    colour = np.array([150, 140, 112] if vehicle.front else [130, 22, 14], np.float32)
    spots = np.array([[-half * 0.84, y, -0.02], [half * 0.84, y, -0.02]])
    for x, y_px, depth in camera.project(vehicle.to_world(spots)):
        radius = camera.focal_px / max(depth, 0.3) * 0.26
        x1, y1 = int(max(x - radius, 0)), int(max(y_px - radius, 0))
        x2 = int(min(x + radius, canvas.shape[1]))
        y2 = int(min(y_px + radius, canvas.shape[0]))
        if x1 >= x2 or y1 >= y2:
            continue
        ys, xs = np.mgrid[y1:y2, x1:x2]
        far = np.hypot(xs - x, ys - y_px) / radius
        part = canvas[y1:y2, x1:x2]
        part[:] = (part + colour * ((1 - far).clip(0) ** 2)[..., None]).clip(0, 255)
