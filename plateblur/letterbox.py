"""Fit an image into a model's input, and map boxes back; both here so that they change together."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from plateblur.types import Boxes, Image

LINEAR_TO = 1.125  # times smaller: up to here linear sampling takes at least 7/8 of each pixel
PAD_GREY = 114  # Source: letterbox fill used in training; a change needs a new model.


@dataclass(frozen=True, slots=True)
class Letterbox:
    """An image resized with its aspect kept, then filled to a multiple of the stride.

    Attributes:
        image: (h, w, 3) uint8 RGB; h and w are multiples of the stride.
        scale_xy: letterboxed pixels per image pixel, across and down; they differ by rounding.
        image_hw: height and width of the image before, pixels.
        turn: quarter turns to the left, between resizing and filling.
    """

    image: Image
    scale_xy: tuple[float, float]
    image_hw: tuple[int, int]
    turn: int = 0

    def undo(self, xyxy: Boxes) -> Boxes:
        """Return boxes of the letterboxed image in pixels of the image before, clipped to it.

        Args:
            xyxy: (N, 4) float32, pixels of `self.image`.

        Returns:
            (N, 4) float32.
        """
        height, width = self.image_hw
        # In float64, because a number near float32's largest would overflow.
        resized_hw = (height * self.scale_xy[1], width * self.scale_xy[0])
        upright = turned_back(xyxy.astype(np.float64), turn=self.turn, image_hw=resized_hw)
        restored = upright / np.array([*self.scale_xy, *self.scale_xy])
        clipped: Boxes = restored.clip(0, [width, height, width, height]).astype(np.float32)
        return clipped


def turned_back(
    xyxy: NDArray[np.float64], *, turn: int, image_hw: tuple[float, float]
) -> NDArray[np.float64]:
    """Return boxes of an image turned to the left, in pixels of the image before.

    Args:
        xyxy: (N, 4) float64, pixels of `numpy.rot90(image, turn)`.
        turn: quarter turns, 0 to 3.
        image_hw: height and width of the image before, pixels.
    """
    height, width = image_hw
    x1, y1, x2, y2 = xyxy.T
    sides = (
        (x1, y1, x2, y2),
        (width - y2, x1, width - y1, x2),
        (width - x2, height - y2, width - x1, height - y1),
        (y1, height - x2, y2, height - x1),
    )
    return np.stack(sides[turn], axis=1)


class Pyramid:
    """An image, and the halved copy that it was last resized from; smaller ones begin there.

    The whole of a photo is looked at in several sizes, and for the small ones most of the work is
    halving it.

    Attributes:
        image: (H, W, 3) uint8 RGB.
    """

    def __init__(self, image: Image) -> None:
        """Begin with the image alone."""
        self.image = image
        self._halved = image

    @property
    def image_hw(self) -> tuple[int, int]:
        """Height and width, pixels."""
        return (self.image.shape[0], self.image.shape[1])

    def part(self, edges: tuple[int, int, int, int]) -> Pyramid:
        """Return this, or a pyramid of a part of the image.

        Args:
            edges: left, top, right, bottom of the part, pixels.
        """
        left, top, right, bottom = edges
        height, width = self.image_hw
        if edges == (0, 0, width, height):
            return self
        return Pyramid(self.image[top:bottom, left:right])

    def resized(self, size_wh: tuple[int, int]) -> Image:
        """Return the image in another size, the same whatever was asked for before."""
        halved = self._halved
        if halved.shape[1] < size_wh[0] or halved.shape[0] < size_wh[1]:
            halved = self.image
        self._halved = _halved(halved, size_wh)
        return _resized(self._halved, size_wh)


def letterbox(pyramid: Pyramid, *, input_size: int, stride: int, turn: int = 0) -> Letterbox:
    """Return an image with its longer side at `input_size`, filled to the next stride.

    The fill goes right and below only, and no further than the stride asks, so that a 16:9 photo
    does not pay for a square.

    Args:
        pyramid: of the image.
        input_size: length of the longer side, pixels; a multiple of `stride`.
        stride: the model's largest stride, pixels.
        turn: quarter turns to the left, 0 to 3; after resizing, so that no large copy is made.

    Raises:
        ValueError: the image is empty, or `input_size` is no positive multiple of `stride`.
    """
    height, width = pyramid.image_hw
    if not height or not width:
        raise ValueError(f"image must have pixels, got shape {pyramid.image.shape}")
    if stride <= 0 or input_size <= 0 or input_size % stride:
        raise ValueError(f"input_size must be a positive multiple of {stride}, got {input_size}")
    scale = input_size / max(height, width)
    new_h, new_w = max(1, round(height * scale)), max(1, round(width * scale))
    resized = np.rot90(pyramid.resized((new_w, new_h)), turn)
    padded_hw = [math.ceil(side / stride) * stride for side in resized.shape[:2]]
    padded = np.full((*padded_hw, 3), PAD_GREY, np.uint8)
    padded[: resized.shape[0], : resized.shape[1]] = resized
    return Letterbox(padded, (new_w / width, new_h / height), (height, width), turn)


def _resized(image: Image, size_wh: tuple[int, int]) -> Image:
    """Return `image` in another size.

    Averaging when shrinking, because linear sampling skips strokes of far plates: even where less
    than half is left, one plate of val in 83 was lost by it. OpenCV averages pairs of pixels at ten
    times the speed of any other number, so the image is halved as often as that goes. The little
    that is left of a 1080p photo after that is sampled: the same plates of val are hidden.
    """
    image = _halved(image, size_wh)
    shrink = max(image.shape[1] / size_wh[0], image.shape[0] / size_wh[1])
    interpolation = cv2.INTER_AREA if shrink > LINEAR_TO else cv2.INTER_LINEAR
    return _as_image(cv2.resize(image, size_wh, interpolation=interpolation))


def _halved(image: Image, size_wh: tuple[int, int]) -> Image:
    """Return `image` halved as often as it goes without becoming smaller than another size."""
    while (
        image.shape[1] >= 2 * size_wh[0]
        and image.shape[0] >= 2 * size_wh[1]
        and image.shape[0] % 2 == image.shape[1] % 2 == 0
    ):
        half_wh = (image.shape[1] // 2, image.shape[0] // 2)
        image = _as_image(cv2.resize(image, half_wh, interpolation=cv2.INTER_AREA))
    return image


def _as_image(resized: cv2.typing.MatLike) -> Image:
    return np.asarray(resized, np.uint8)


@dataclass(frozen=True, slots=True)
class CutOut:
    """A square around a box, resized, and the way back.

    Attributes:
        image: (S, S, 3) uint8 RGB.
        scale: cut-out pixels per image pixel.
        origin_xy: left and top of the square, pixels of the image; negative beyond its edge.
        image_hw: height and width of the image, pixels.
        turn: quarter turns of the square to the left.
    """

    image: Image
    scale: float
    origin_xy: tuple[int, int]
    image_hw: tuple[int, int]
    turn: int = 0

    def undo(self, xyxy: Boxes) -> Boxes:
        """Return boxes of the cut-out, (N, 4) float32, in pixels of the image, clipped to it."""
        height, width = self.image_hw
        square_hw = (self.image.shape[0], self.image.shape[1])
        upright = turned_back(xyxy.astype(np.float64), turn=self.turn, image_hw=square_hw)
        restored = upright / self.scale + np.array(self.origin_xy * 2)
        clipped: Boxes = restored.clip(0, [width, height, width, height]).astype(np.float32)
        return clipped


def cut_out(
    image: Image, box: NDArray[np.floating[Any]], *, width_px: int, side_px: int, turn: int = 0
) -> CutOut:
    """Return the square around `box`, scaled so that the box is `width_px` wide in it.

    A box counts as at least twice as wide as high, so that a plate of two lines is not cut. What
    lies beyond the image is filled.

    Args:
        image: (H, W, 3) uint8 RGB.
        box: (4,) `xyxy`, pixels of `image`; not empty, and inside it.
        width_px: width of the box in the cut-out, pixels.
        side_px: height and width of the cut-out, pixels.
        turn: quarter turns to the left of the cut-out; what is wide is so after turning.
    """
    height, width = image.shape[:2]
    across, down = (0, 1) if turn % 2 == 0 else (1, 0)
    box_width = max(box[2 + across] - box[across], 2 * (box[2 + down] - box[down]))
    side = max(1, round(float(box_width) * side_px / width_px))
    left, top = (math.floor(float(box[i] + box[i + 2] - side) / 2) for i in (0, 1))
    scale = side_px / side
    x1, y1, x2, y2 = max(0, left), max(0, top), min(width, left + side), min(height, top + side)
    # Of what is seen alone, because the square around a near plate may be larger than the image.
    new_x1, new_y1 = math.floor((x1 - left) * scale), math.floor((y1 - top) * scale)
    new_x2 = max(new_x1 + 1, round((x2 - left) * scale))
    new_y2 = max(new_y1 + 1, round((y2 - top) * scale))
    seen_wh = (new_x2 - new_x1, new_y2 - new_y1)
    filled = np.full((side_px, side_px, 3), PAD_GREY, np.uint8)
    filled[new_y1:new_y2, new_x1:new_x2] = _resized(image[y1:y2, x1:x2], seen_wh)
    turned = np.ascontiguousarray(np.rot90(filled, turn))
    return CutOut(turned, scale, (left, top), (height, width), turn)
