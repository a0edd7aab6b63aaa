"""A drawn road with vehicles where they are wanted: for pictures and clips."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from plateblur.drawn.bodywork import draw_vehicle
from plateblur.drawn.camera import Camera, soften, through_lens
from plateblur.drawn.light import Colour, light_at
from plateblur.drawn.placing import plate_height_m
from plateblur.drawn.plates import draw_plate
from plateblur.drawn.surroundings import draw_surroundings
from plateblur.drawn.vehicles import Vehicle
from plateblur.types import Image

LENS = 1.75  # focal length : image width; a phone at two times zoom
CAMERA_M = 1.15  # above the road: low, so that near plates stay in the picture
LETTERING = ("NORTH STAR", "PLUMBING & HEATING")


@dataclass(frozen=True, slots=True)
class Driver:
    """A vehicle that drives straight along the road.

    Attributes:
        seed: of its plate.
        region: of its plate.
        body: key of `plateblur.drawn.vehicles.BODIES`.
        front: whether it shows its front.
        paint: RGB.
        x_m: distance from the middle of the road, to the right.
        z_m: distance from the camera in the first frame.
        speed_m: how much farther away it is a second later; negative if it approaches.
    """

    seed: int
    region: str
    body: str
    front: bool
    paint: Colour
    x_m: float
    z_m: float
    speed_m: float = 0.0


def draw_traffic(
    seed: int,
    drivers: Sequence[Driver],
    *,
    image_hw: tuple[int, int],
    frames: int = 1,
    rate: float = 10.0,
    pitch_deg: float = 3.0,
) -> Iterator[Image]:
    """Yield the frames of a clip by a camera that stays where it is, (H, W, 3) uint8 RGB.

    Args:
        seed: of the street, its light and the camera's noise.
        drivers: who is on the road.
        image_hw: height and width of the image, pixels.
        frames: how many.
        rate: frames a second.
        pitch_deg: how far the camera looks down.
    """
    rng = np.random.default_rng(seed)
    light = light_at(rng, "day")
    camera = Camera(LENS * image_hw[1], image_hw, CAMERA_M, pitch_deg, 0.0)
    street = soften(draw_surroundings(rng, camera, light, "street", reach_m=(3.2, 22.0)), 1.2)
    for frame in range(frames):
        canvas = street.copy()
        vehicles = [_vehicle(driver, frame / rate) for driver in drivers]
        for vehicle in sorted(vehicles, key=lambda v: -v.at_m[1]):
            if vehicle.at_m[1] > 1:
                draw_vehicle(canvas, vehicle, camera, light)
        # The same noise in each frame: a clip of it is half as large.
        yield through_lens(canvas, np.random.default_rng(seed), "day")


def _vehicle(driver: Driver, after_s: float) -> Vehicle:
    plate = draw_plate(np.random.default_rng(driver.seed), region=driver.region, front=driver.front)
    return Vehicle(
        driver.body,
        driver.front,
        driver.paint,
        plate,
        plate_height_m(driver.body, plate, front=driver.front),
        (driver.x_m, driver.z_m + driver.speed_m * after_s),
        0.0,
        LETTERING,
    )
