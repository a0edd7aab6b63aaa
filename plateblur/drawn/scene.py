"""A street scene whose plates are known to the pixel."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pil

from plateblur.drawn.bodywork import draw_vehicle
from plateblur.drawn.camera import soften, through_lens
from plateblur.drawn.light import Lit, light_at
from plateblur.drawn.placing import place_all, unplated
from plateblur.drawn.plates import REGIONS
from plateblur.drawn.surroundings import Place, draw_surroundings
from plateblur.drawn.vehicles import mesh_of
from plateblur.types import Image


@dataclass(frozen=True, slots=True)
class Scene:
    """A drawn image and its plates, the nearest first.

    Attributes:
        image: (H, W, 3) uint8 RGB, upright.
        xyxy: (N, 4) float32, pixels of `image`: tight around each plate, border included.
        quads: (N, 4, 2) float32, each plate's corners clockwise from its own top left.
        texts: the text of each plate.
        regions: which of `REGIONS` each plate is of.
        side_deg: (N,) float32, angle between the plate's normal and the line to the camera, seen
            from above; 0 is head-on.
        tilt_deg: how far the camera was turned about its axis.
    """

    image: Image
    xyxy: NDArray[np.float32]
    quads: NDArray[np.float32]
    texts: tuple[str, ...]
    regions: tuple[str, ...]
    side_deg: NDArray[np.float32]
    tilt_deg: float

    @property
    def ratios(self) -> NDArray[np.float32]:
        """Return (N,) plate ratios: box height : image height."""
        heights = (self.xyxy[:, 3] - self.xyxy[:, 1]) / self.image.shape[0]
        return np.asarray(heights, np.float32)


def draw_scene(
    seed: int,
    *,
    image_hw: tuple[int, int] = (1080, 1920),
    plates: int = 2,
    ratios: tuple[float, float] = (1 / 30, 1 / 14),
    side_deg: tuple[float, float] = (-25.0, 25.0),
    tilt_deg: tuple[float, float] = (-2.0, 2.0),
    lit: Lit = "day",
    place: Place = "street",
    regions: Sequence[str] = REGIONS,
) -> Scene:
    """Return a street scene with plates, the same bits for the same arguments.

    Args:
        seed: where every random choice comes from.
        image_hw: height and width of the image, pixels.
        plates: maximum number; one is left out if it would hide another or be cut off, but
            the first always finds its place.
        ratios: smallest and largest plate ratio (box height : image height).
        side_deg: smallest and largest side angle of a plate, -70 to 70.
        tilt_deg: smallest and largest turn of the camera about its axis, -45 to 45.
        lit: time of day.
        place: street with houses on both sides, or car park.
        regions: what plates to draw from, some of `REGIONS`.

    Raises:
        ValueError: an argument is outside its range, or no plate of that size fits.
    """
    _check(image_hw, plates, ratios, side_deg, tilt_deg, regions)
    rng = np.random.default_rng(seed)
    light = light_at(rng, lit)
    camera, vehicles, sides = place_all(
        rng, image_hw, plates, ratios, side_deg, float(rng.uniform(*tilt_deg)), regions
    )
    shown = vehicles or unplated(rng)
    reach = [v.to_world(mesh_of(v.body, v.front).corners.reshape(-1, 3)) for v in shown]
    points = np.concatenate(reach)
    reach_m = (min(float(np.abs(points[:, 0]).max()), 14.0), float(points[:, 2].max()))
    canvas = draw_surroundings(rng, camera, light, place, reach_m=reach_m)
    nearest = min(v.at_m[1] for v in shown)
    canvas = soften(canvas, camera.focal_px / nearest * 0.0022)
    for vehicle in sorted(shown, key=lambda v: -v.at_m[1]):
        draw_vehicle(canvas, vehicle, camera, light)
    image = through_lens(canvas, rng, lit)
    quads = [camera.project(v.plate_corners())[:, :2] for v in vehicles]
    quads_px = np.array(quads, np.float32).reshape(-1, 4, 2)
    xyxy = np.concatenate([quads_px.min(axis=1), quads_px.max(axis=1)], axis=1)
    known = [v.plate for v in vehicles if v.plate is not None]
    return Scene(
        image,
        xyxy,
        quads_px,
        tuple(plate.text for plate in known),
        tuple(plate.region for plate in known),
        np.array(sides, np.float32),
        camera.tilt_deg,
    )


def _check(
    image_hw: tuple[int, int],
    plates: int,
    ratios: tuple[float, float],
    side_deg: tuple[float, float],
    tilt_deg: tuple[float, float],
    regions: Sequence[str],
) -> None:
    if min(image_hw) < 64:
        raise ValueError(f"image_hw must be at least 64 each, got {image_hw}")
    if plates < 0:
        raise ValueError(f"plates must be 0 or more, got {plates}")
    if not 0.002 <= ratios[0] <= ratios[1] <= 0.5:
        raise ValueError(f"ratios must rise within 0.002 and 0.5, got {ratios}")
    if not -70 <= side_deg[0] <= side_deg[1] <= 70:
        raise ValueError(f"side_deg must rise within -70 and 70, got {side_deg}")
    if not -45 <= tilt_deg[0] <= tilt_deg[1] <= 45:
        raise ValueError(f"tilt_deg must rise within -45 and 45, got {tilt_deg}")
    unknown = [region for region in regions if region not in REGIONS]
    if unknown or not regions:
        raise ValueError(f"regions must be some of {', '.join(REGIONS)}, got {tuple(regions)}")


QUALITY = 90  # Source: what phones write, about; 4:2:0 like theirs


def encode(image: Image, *, exif: Pil.Exif | None = None) -> bytes:
    """Return `image` as a JPEG photo."""
    photo = io.BytesIO()
    Pil.fromarray(image).save(photo, "JPEG", quality=QUALITY, exif=exif or Pil.Exif())
    return photo.getvalue()
