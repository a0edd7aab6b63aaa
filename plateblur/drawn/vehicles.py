"""The shapes of vehicles: bodies, positions, and their skin as faces."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from plateblur.drawn.camera import Floats
from plateblur.drawn.light import Colour
from plateblur.drawn.plates import Plate


@dataclass(frozen=True, slots=True)
class Body:
    """A body's shape, metres; z runs from its rear to its front.

    Attributes:
        half_width: half its width.
        shoulder: height of the line under the side windows.
        profile: (z, height) of the roof line seen from the side.
        rear_glass: z from and to of the rear window; empty if it has none.
        front_glass: z from and to of the windscreen.
        side_glass: z from and to of the side windows.
        pillars: z of the pillars between them.
    """

    half_width: float
    shoulder: float
    profile: tuple[tuple[float, float], ...]
    rear_glass: tuple[float, float] | tuple[()]
    front_glass: tuple[float, float]
    side_glass: tuple[float, float]
    pillars: tuple[float, ...]

    @property
    def length(self) -> float:
        """Return how long it is."""
        return self.profile[-1][0]


BODIES = {
    "saloon": Body(
        0.91, 0.90,
        ((0, 0.96), (0.5, 1.02), (0.62, 1.03), (1.35, 1.39), (1.9, 1.44), (2.6, 1.41), (3.4, 1.02),
         (4.25, 0.90), (4.6, 0.74)),
        (0.68, 1.32), (2.66, 3.34), (0.98, 3.1), (1.45, 2.2),
    ),
    "hatchback": Body(
        0.88, 0.93,
        ((0, 1.0), (0.1, 1.06), (0.42, 1.40), (0.9, 1.48), (2.1, 1.46), (2.95, 1.04), (3.8, 0.91),
         (4.05, 0.76)),
        (0.11, 0.40), (2.16, 2.9), (0.5, 2.7), (0.85, 1.6),
    ),
    "suv": Body(
        0.94, 1.04,
        ((0, 1.08), (0.1, 1.14), (0.36, 1.58), (0.8, 1.68), (2.35, 1.66), (3.05, 1.2),
         (4.2, 1.05), (4.5, 0.90)),
        (0.11, 0.36), (2.4, 3.0), (0.5, 2.85), (0.95, 1.75),
    ),
    "van": Body(
        0.98, 1.12,
        ((0, 1.92), (0.25, 1.97), (3.3, 1.97), (4.15, 1.24), (4.85, 1.08), (5.05, 0.92)),
        (), (3.36, 4.12), (3.0, 3.95), (3.1,),
    ),
}  # fmt: skip

PAINTS: tuple[Colour, ...] = (
    (206, 208, 210), (150, 154, 160), (84, 88, 94), (34, 36, 40), (232, 232, 228), (150, 28, 32),
    (28, 58, 120), (58, 98, 140), (36, 74, 58), (168, 148, 112), (196, 92, 34),
)  # fmt: skip

LETTERING = (
    ("FRESH FISH DAILY", "CALL 555 0142"), ("NORTH STAR", "PLUMBING & HEATING"),
    ("BAKERY LANE", "BREAD SINCE 1974"), ("QUICK PARCEL 24", "555 0199"),
    ("GREEN LEAF", "GARDEN CARE 555 0117"), ("ELECTRO 2000", "INSTALL  REPAIR"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Vehicle:
    """A vehicle on the ground with one end towards the camera.

    Attributes:
        body: key of `BODIES`.
        front: whether its front is towards the camera, else its rear.
        paint: RGB.
        plate: its plate, or none.
        plate_y_m: height of the plate's centre above the ground.
        at_m: x and z of the middle of the end towards the camera.
        heading_deg: how far its length is turned away from the camera's z axis.
        lettering: two lines on a van's sides and doors.
    """

    body: str
    front: bool
    paint: Colour
    plate: Plate | None
    plate_y_m: float
    at_m: tuple[float, float]
    heading_deg: float
    lettering: tuple[str, str]

    def to_world(self, points: Floats) -> Floats:
        """Return (N, 3) world points of (N, 3) points of the vehicle."""
        angle = np.deg2rad(self.heading_deg)
        x = points[:, 0] * np.cos(angle) + points[:, 2] * np.sin(angle) + self.at_m[0]
        z = points[:, 2] * np.cos(angle) - points[:, 0] * np.sin(angle) + self.at_m[1]
        return np.stack([x, points[:, 1], z], axis=1)

    def plate_corners(self) -> Floats:
        """Return the plate's (4, 3) corners in the world, clockwise from top left."""
        if self.plate is None:
            raise ValueError("a vehicle without a plate has no plate corners")
        half_w, half_h = self.plate.size_wh_m[0] / 2, self.plate.size_wh_m[1] / 2
        low, high = self.plate_y_m - half_h, self.plate_y_m + half_h
        return self.to_world(upright_quad(-half_w, low, half_w, high, z=-0.03))


def upright_quad(x1: float, y1: float, x2: float, y2: float, *, z: float) -> Floats:
    """Return (4, 3) corners of an upright rectangle, clockwise from its top left, metres."""
    return np.array([[x1, y2, z], [x2, y2, z], [x2, y1, z], [x1, y1, z]], np.float64)


@dataclass(frozen=True, slots=True)
class Mesh:
    """A vehicle's skin as four-cornered faces.

    Attributes:
        corners: (F, 4, 3) metres, the vehicle's own axes.
        glass: (F,) whether the face is a window.
        end: (P, 2) x and y of the outline of the flat end towards the camera.
    """

    corners: Floats
    glass: NDArray[np.bool_]
    end: Floats


@lru_cache(maxsize=16)
def mesh_of(name: str, front: bool) -> Mesh:
    """Return the skin of a body, lofted through about fifty cross sections along its length."""
    body = BODIES[name]
    z = np.unique(
        np.concatenate([[0, 0.02, 0.05, 0.09, 0.14], np.linspace(0.2, body.length - 0.2, 56),
                        body.length - np.array([0.14, 0.09, 0.05, 0.02, 0])])
    )  # fmt: skip
    at = body.length - z if front else z  # measured from the rear
    heights = np.array(body.profile)
    grid = np.linspace(0, body.length, 400)
    smooth = np.interp(grid, heights[:, 0], heights[:, 1])
    smooth = np.convolve(np.pad(smooth, 10, mode="edge"), np.ones(21) / 21, mode="valid")
    top = np.interp(at, grid, smooth)
    near_end = np.minimum(z, body.length - z)
    half = body.half_width * (1 - 0.085 * np.exp(-near_end / 0.10))
    shoulder = np.minimum(body.shoulder, top - 0.07)
    rise = ((top - shoulder - 0.07) / (max(h for _, h in body.profile) - body.shoulder)).clip(0, 1)
    lean = 0.90 if name == "van" else 0.76
    roof = half * (0.93 - (0.93 - lean) * rise)
    roof_y = top - 0.035
    columns = [
        (half * 0.95, np.full_like(z, 0.20)),
        (half * 0.99, np.full_like(z, 0.33)),
        (half, np.full_like(z, 0.58)),
        (half * 0.985, shoulder),
    ]
    for t in (0.08, 0.5, 0.9, 1.0):
        columns.append((half * 0.985 * (1 - t) + roof * t, shoulder * (1 - t) + roof_y * t))
    columns += [(roof * 0.90, top - 0.014), (roof * 0.5, top - 0.003), (roof * 0.0, top)]
    right = np.stack([np.stack([x, y, z], axis=1) for x, y in columns], axis=1)  # (S, C, 3)
    left = right[:, ::-1] * [-1, 1, 1]
    ring = np.concatenate([right, left[:, 1:]], axis=1)
    corners = np.stack([ring[:-1, :-1], ring[:-1, 1:], ring[1:, 1:], ring[1:, :-1]], axis=2)
    mid_at, mid_rise = (at[:-1] + at[1:]) / 2, (rise[:-1] + rise[1:]) / 2

    def within(span: tuple[float, float] | tuple[()]) -> NDArray[np.bool_]:
        return (mid_at > span[0]) & (mid_at < span[1]) if span else np.zeros(len(mid_at), np.bool_)

    beside = within(body.side_glass) & (mid_rise > 0.25)
    for pillar in body.pillars:
        beside &= np.abs(mid_at - pillar) > 0.045
    over = within(body.rear_glass) | within(body.front_glass)
    column = np.arange(ring.shape[1] - 1)
    mirrored = np.minimum(column, len(column) - 1 - column)
    glass = (beside[:, None] & np.isin(mirrored, (4, 5))) | (over[:, None] & (mirrored >= 8))
    return Mesh(corners.reshape(-1, 4, 3), glass.reshape(-1), ring[0, :, :2])


def side_seen(vehicle: Vehicle) -> float:
    """Return -1 or 1 for the side that the camera sees, in the vehicle's own x; 0 for neither."""
    angle = np.deg2rad(vehicle.heading_deg)
    lateral = -(vehicle.at_m[0] * np.cos(angle) - vehicle.at_m[1] * np.sin(angle))
    half = BODIES[vehicle.body].half_width
    return 1.0 if lateral > half else -1.0 if lateral < -half else 0.0
