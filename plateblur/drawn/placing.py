"""Where camera and vehicles go, so that every plate is whole and none is hidden."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from plateblur.drawn.camera import Camera, Floats
from plateblur.drawn.chance import Rng, choice
from plateblur.drawn.plates import Plate, draw_plate
from plateblur.drawn.vehicles import BODIES, LETTERING, PAINTS, Vehicle, mesh_of


def place_all(
    rng: Rng,
    image_hw: tuple[int, int],
    plates: int,
    ratios: tuple[float, float],
    side_deg: tuple[float, float],
    tilt_deg: float,
    regions: Sequence[str],
) -> tuple[Camera, list[Vehicle], list[float]]:
    """Set up the camera and the vehicles: no plate cut off, none behind another vehicle."""
    wanted = np.sort(np.exp(rng.uniform(np.log(ratios[0]), np.log(ratios[1]), plates)))[::-1]
    long_px = max(image_hw)
    close = float(wanted[0]) * image_hw[0] / long_px if plates else 0.03
    # A wide lens for a street, a longer one for a close-up, as a hand with a zoom would choose.
    focal_px = long_px * float(rng.uniform(0.95, 1.25)) * max(1.0, close / 0.035)
    away = focal_px * 0.12 / (close * long_px)
    height_m = float(np.clip(0.75 + 0.16 * away, 0.8, 1.65) + rng.uniform(-0.08, 0.08))
    target = float(rng.uniform(0.60, 0.74))
    camera = Camera(focal_px, image_hw, height_m, float(rng.uniform(2, 5)), tilt_deg)
    vehicles: list[Vehicle] = []
    sides: list[float] = []
    hulls: list[Floats] = []
    home = choice(rng, regions)  # most plates of a street are of one region
    for ratio in wanted:
        vehicle = _vehicle(rng, home if rng.random() < 0.75 else choice(rng, regions))
        for attempt in range(60):
            side = float(rng.uniform(*side_deg))
            first = not vehicles
            spread = (0.12 if plates == 1 else 0.3) if first else 0.44
            reach = np.rad2deg(np.arctan(spread * image_hw[1] / focal_px))
            bearing = float(rng.uniform(-reach, reach))
            if attempt % 2 == 0:  # parallel to the street, as most are
                bearing = float(np.clip(-side, -reach, reach))
            placed, looking = _at_ratio(
                camera, vehicle, ratio, bearing, side, target if first else None
            )
            if _is_clear(placed, looking, vehicles, hulls):
                camera = looking
                vehicles.append(placed)
                sides.append(side)
                hulls.append(_outline(placed, camera))
                break
        if not vehicles:
            raise ValueError(f"no plate of ratio {ratio:.3f} fits an image of {image_hw}")
    return camera, vehicles, sides


def _vehicle(rng: Rng, region: str) -> Vehicle:
    front = bool(rng.random() < 0.45)
    name = choice(rng, ("saloon", "hatchback", "suv", "saloon", "hatchback", "van"))
    plate = draw_plate(rng, region=region, front=front)
    y = plate_height_m(name, plate, front=front)
    return Vehicle(
        name, front, choice(rng, PAINTS), plate, y, (0.0, 8.0), 0.0, choice(rng, LETTERING)
    )


def plate_height_m(body: str, plate: Plate, *, front: bool) -> float:
    """Return how high above the ground the middle of a vehicle's plate is, metres."""
    if front:
        return {"saloon": 0.43, "hatchback": 0.43, "suv": 0.50, "van": 0.50}[body]
    if body == "van":
        return 0.72
    high = plate.size_wh_m[1]
    return max(BODIES[body].profile[0][1] - 0.20 - high / 2 - 0.03, 0.55 + high / 2)


def unplated(rng: Rng) -> list[Vehicle]:
    """Return the vehicles of a scene without plates: a van with lettering and a bare car."""

    def bare(name: str, x: float, z: float) -> Vehicle:
        lettering = choice(rng, LETTERING)
        return Vehicle(name, False, choice(rng, PAINTS), None, 0.7, (x, z), 0.0, lettering)

    side = float(choice(rng, (-1, 1)))
    near = float(rng.uniform(6, 9))
    return [bare("van", side * 1.9, near), bare("hatchback", -side * 1.7, near + 4)]


def _at_ratio(
    camera: Camera,
    vehicle: Vehicle,
    ratio: float,
    bearing_deg: float,
    side_deg: float,
    target: float | None,
) -> tuple[Vehicle, Camera]:
    """Return the vehicle at the distance where its plate has the ratio, and the camera.

    With a target, the camera is pitched until the plate is at that share of the image's height.
    """
    height, _ = camera.image_hw
    plate = vehicle.plate
    if plate is None:
        raise ValueError("a vehicle without a plate has no ratio")
    bearing = np.deg2rad(bearing_deg)
    away = camera.focal_px * plate.size_wh_m[1] / (ratio * height)
    for _ in range(12):
        at = (float(away * np.sin(bearing)), float(away * np.cos(bearing)))
        vehicle = Vehicle(
            vehicle.body, vehicle.front, vehicle.paint, plate, vehicle.plate_y_m, at,
            bearing_deg + side_deg, vehicle.lettering,
        )  # fmt: skip
        if target is not None:
            drop = np.rad2deg(np.arctan2(camera.height_m - vehicle.plate_y_m, away))
            below = np.rad2deg(np.arctan((target - 0.5) * height / camera.focal_px))
            pitch = float(np.clip(drop - below, -6, 24))
            camera = Camera(
                camera.focal_px, camera.image_hw, camera.height_m, pitch, camera.tilt_deg
            )
        flat = camera.project(vehicle.plate_corners())
        away *= float(np.ptp(flat[:, 1])) / (ratio * height)
    return vehicle, camera


def _outline(vehicle: Vehicle, camera: Camera) -> Floats:
    """Return (4,) left, top, right, bottom of all that a vehicle may cover, pixels."""
    corners = mesh_of(vehicle.body, vehicle.front).corners.reshape(-1, 3)[::5]
    corners = np.concatenate([corners * [1.14, 1.01, 1], corners[::3] * [1, 0, 1]])
    flat = camera.project(vehicle.to_world(corners))[:, :2]
    return np.concatenate([flat.min(axis=0), flat.max(axis=0)])


def _is_clear(
    vehicle: Vehicle, camera: Camera, others: Sequence[Vehicle], hulls: Sequence[Floats]
) -> bool:
    """Return whether the plate is fully visible and no vehicles overlap."""
    height, width = camera.image_hw
    flat = camera.project(vehicle.plate_corners())
    low, high = flat[:, :2].min(axis=0), flat[:, :2].max(axis=0)
    if flat[:, 2].min() < 0.3 or low.min() < 3 or high[0] > width - 3 or high[1] > height - 3:
        return False
    mine = _outline(vehicle, camera)
    for other, hull in zip(others, hulls, strict=True):
        clear_px = 0.12 * (high - low).max() + 4
        if _meet(np.concatenate([low, high]), hull, clear_px):
            return False
        theirs = camera.project(other.plate_corners())[:, :2]
        box = np.concatenate([theirs.min(axis=0), theirs.max(axis=0)])
        if vehicle.at_m[1] < other.at_m[1] + 0.5 and _meet(box, mine, clear_px):
            return False
        gap = np.hypot(vehicle.at_m[0] - other.at_m[0], vehicle.at_m[1] - other.at_m[1])
        if gap < 2.3 or _collide(vehicle, other):
            return False
    return True


def _meet(a: Floats, b: Floats, clear_px: float) -> bool:
    apart = (a[:2] - clear_px > b[2:]) | (b[:2] > a[2:] + clear_px)
    return not bool(apart.any())


def _collide(one: Vehicle, two: Vehicle) -> bool:
    """Return whether two vehicles would overlap, by discs along their lengths."""

    def discs(vehicle: Vehicle) -> Floats:
        body = BODIES[vehicle.body]
        along = np.linspace(0.7, body.length - 0.7, 5)
        return vehicle.to_world(np.stack([along * 0, along * 0, along], axis=1))[:, [0, 2]]

    between = np.linalg.norm(discs(one)[:, None] - discs(two)[None], axis=2)
    return bool(between.min() < 2.0)
