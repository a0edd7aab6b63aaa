"""The pinhole camera that sees a scene, and its lens."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from plateblur.drawn.chance import Rng
from plateblur.drawn.light import Lit
from plateblur.types import Image

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Camera:
    """A pinhole camera above the ground at x = z = 0.

    Attributes:
        focal_px: focal length in pixels.
        image_hw: height and width of its image, pixels.
        height_m: how far above the ground it is held.
        pitch_deg: how far it looks down.
        tilt_deg: how far it is turned about its axis.
    """

    focal_px: float
    image_hw: tuple[int, int]
    height_m: float
    pitch_deg: float
    tilt_deg: float

    @property
    def rotation(self) -> Floats:
        """Return the (3, 3) turn from world to camera axes."""
        pitch, tilt = np.deg2rad([self.pitch_deg, self.tilt_deg])
        down = np.array(
            [[1, 0, 0], [0, np.cos(pitch), np.sin(pitch)], [0, -np.sin(pitch), np.cos(pitch)]]
        )
        turn = np.array(
            [[np.cos(tilt), -np.sin(tilt), 0], [np.sin(tilt), np.cos(tilt), 0], [0, 0, 1]]
        )
        return np.asarray(turn @ down, np.float64)

    def project(self, points: Floats) -> Floats:
        """Return (N, 3): image x, image y and depth in metres of (N, 3) points in metres."""
        seen = (points - [0.0, self.height_m, 0.0]) @ self.rotation.T
        depth = seen[:, 2]
        safe = np.where(depth > 0.05, depth, 0.05)
        x = self.image_hw[1] / 2 + self.focal_px * seen[:, 0] / safe
        y = self.image_hw[0] / 2 - self.focal_px * seen[:, 1] / safe
        return np.stack([x, y, depth], axis=1)

    def rays(self, step: int) -> NDArray[np.float32]:
        """Return (h, w, 3) float32 world directions through every `step`-th pixel."""
        height, width = self.image_hw
        ys, xs = np.mgrid[0:height:step, 0:width:step] + (step - 1) / 2
        x = (xs - width / 2) / self.focal_px
        y = (height / 2 - ys) / self.focal_px
        return np.asarray(np.stack([x, y, np.ones_like(x)], axis=-1) @ self.rotation, np.float32)


def paste(canvas: Image, texture: Image, quad: Floats) -> None:
    """Lay an RGB or RGBA texture over the four corners `quad`, clockwise from top left.

    If the canvas is RGBA too, covered pixels become opaque.

    A large texture is shrunk first, because the warp itself takes one sample a pixel.
    """
    height, width = canvas.shape[:2]
    low = np.floor(quad.min(axis=0)).astype(int) - 1
    high = np.ceil(quad.max(axis=0)).astype(int) + 2
    x1, y1 = int(max(low[0], 0)), int(max(low[1], 0))
    x2, y2 = int(min(high[0], width)), int(min(high[1], height))
    if x1 >= x2 or y1 >= y2:
        return
    sides = np.linalg.norm(quad - np.roll(quad, -1, axis=0), axis=1)
    fit = np.ceil([max(sides[0], sides[2]), max(sides[1], sides[3])]).astype(int).clip(2)
    size = (int(min(fit[0], texture.shape[1])), int(min(fit[1], texture.shape[0])))
    if size != texture.shape[1::-1]:
        texture = np.asarray(cv2.resize(texture, size, interpolation=cv2.INTER_AREA), np.uint8)
    if texture.shape[2] == 3:
        texture = np.dstack([texture, np.full(texture.shape[:2], 255, np.uint8)])
    h, w = texture.shape[:2]
    # Corner to corner: pixel centres are at +0.5, OpenCV counts them as whole numbers.
    source = np.array([[0, 0], [w, 0], [w, h], [0, h]], np.float32) - 0.5
    target = (quad - [x1, y1] - 0.5).astype(np.float32)
    matrix = cv2.getPerspectiveTransform(source, target)
    warped = cv2.warpPerspective(
        texture, matrix, (x2 - x1, y2 - y1), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    cover = np.zeros(((y2 - y1) * 2, (x2 - x1) * 2), np.uint8)
    corners = np.rint((quad - [x1, y1]) * 2 * 16 - 8).astype(np.int32)
    cv2.fillConvexPoly(cover, corners, 255, cv2.LINE_AA, 4)
    covered = cv2.resize(cover, (x2 - x1, y2 - y1), interpolation=cv2.INTER_AREA)
    alpha = warped[..., 3:] * (covered[..., None] * np.float32(1 / 65025))
    warped[..., 3] = 255
    part = canvas[y1:y2, x1:x2]
    part[:] = np.rint(part + (warped[..., : part.shape[2]] - part.astype(np.float32)) * alpha)


def soften(canvas: Image, sigma: float) -> Image:
    """Return the background, out of focus; the nearer the vehicles, the softer."""
    sigma = float(np.clip(sigma, 0.6, 7.0))
    if sigma < 2:
        return np.asarray(cv2.GaussianBlur(canvas, (0, 0), sigma), np.uint8)
    small = cv2.resize(canvas, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), sigma / 2)
    return np.asarray(cv2.resize(small, canvas.shape[1::-1]), np.uint8)


def through_lens(canvas: Image, rng: Rng, lit: Lit) -> Image:
    """Return the image as a camera would: a little soft, noisy, darker towards the corners."""
    height, width = canvas.shape[:2]
    scale = max(height, width) / 1920
    soft = cv2.GaussianBlur(canvas, (0, 0), max(0.3, float(rng.uniform(0.45, 0.8)) * scale))
    ys = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    xs = np.linspace(-1, 1, width, dtype=np.float32)[None]
    dark = np.float32(1.07) - np.float32(rng.uniform(0.06, 0.14)) * (xs**2 + ys**2)
    sigma = {"day": 1.6, "dusk": 2.6, "night": 4.0}[lit] * float(rng.uniform(0.7, 1.2))
    # One tile of noise, shifted for each colour: drawing six million numbers is half the time.
    tile = rng.standard_normal((height + 16, width + 16), dtype=np.float32) * np.float32(sigma)
    image = np.empty_like(canvas)
    for channel, (dy, dx) in enumerate(((0, 0), (5, 9), (11, 3))):
        noise = tile[dy : dy + height, dx : dx + width]
        image[..., channel] = (soft[..., channel] * dark + noise).clip(0, 255)
    return image
