"""Fit an image into a model's input, and map boxes back; both here so that they change together."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from plateblur.types import Boxes, Image

PAD_GREY = 114  # Source: letterbox fill used in training; a change needs a new model.


@dataclass(frozen=True, slots=True)
class Letterbox:
    """An image resized with its aspect kept, then filled to a multiple of the stride.

    Attributes:
        image: (h, w, 3) uint8 RGB; h and w are multiples of the stride.
        scale_xy: letterboxed pixels per image pixel, across and down; they differ by rounding.
        image_hw: height and width of the image before, pixels.
    """

    image: Image
    scale_xy: tuple[float, float]
    image_hw: tuple[int, int]

    def undo(self, xyxy: Boxes) -> Boxes:
        """Return boxes of the letterboxed image in pixels of the image before, clipped to it.

        Args:
            xyxy: (N, 4) float32, pixels of `self.image`.

        Returns:
            (N, 4) float32.
        """
        height, width = self.image_hw
        # In float64, because a number near float32's largest would overflow.
        restored = xyxy.astype(np.float64) / np.array([*self.scale_xy, *self.scale_xy])
        clipped: Boxes = restored.clip(0, [width, height, width, height]).astype(np.float32)
        return clipped


def letterbox(image: Image, *, input_size: int, stride: int) -> Letterbox:
    """Return `image` with its longer side at `input_size`, filled to the next stride.

    The fill goes right and below only, and no further than the stride asks, so that a 16:9 photo
    does not pay for a square.

    Args:
        image: (H, W, 3) uint8 RGB.
        input_size: length of the longer side, pixels; a multiple of `stride`.
        stride: the model's largest stride, pixels.

    Raises:
        ValueError: `image` is empty, or `input_size` is no positive multiple of `stride`.
    """
    height, width = image.shape[:2]
    if not height or not width:
        raise ValueError(f"image must have pixels, got shape {image.shape}")
    if stride <= 0 or input_size <= 0 or input_size % stride:
        raise ValueError(f"input_size must be a positive multiple of {stride}, got {input_size}")
    scale = input_size / max(height, width)
    new_h, new_w = max(1, round(height * scale)), max(1, round(width * scale))
    # Averaging when shrinking: linear sampling would skip strokes of far plates in large photos.
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    resized = cv2.resize(image, (new_w, new_h), interpolation=interpolation)
    padded_hw = (math.ceil(new_h / stride) * stride, math.ceil(new_w / stride) * stride)
    padded = np.full((*padded_hw, 3), PAD_GREY, np.uint8)
    padded[:new_h, :new_w] = resized
    return Letterbox(padded, (new_w / width, new_h / height), (height, width))


@dataclass(frozen=True, slots=True)
class CutOut:
    """A square around a box, resized, and the way back.

    Attributes:
        image: (S, S, 3) uint8 RGB.
        scale: cut-out pixels per image pixel.
        origin_xy: left and top of the square, pixels of the image; negative beyond its edge.
        image_hw: height and width of the image, pixels.
    """

    image: Image
    scale: float
    origin_xy: tuple[int, int]
    image_hw: tuple[int, int]

    def undo(self, xyxy: Boxes) -> Boxes:
        """Return boxes of the cut-out, (N, 4) float32, in pixels of the image, clipped to it."""
        height, width = self.image_hw
        restored = xyxy.astype(np.float64) / self.scale + np.array(self.origin_xy * 2)
        clipped: Boxes = restored.clip(0, [width, height, width, height]).astype(np.float32)
        return clipped


def cut_out(image: Image, box: NDArray[np.floating[Any]], *, width_px: int, side_px: int) -> CutOut:
    """Return the square around `box`, scaled so that the box is `width_px` wide in it.

    A box counts as at least twice as wide as high, so that a plate of two lines is not cut. What
    lies beyond the image is filled.

    Args:
        image: (H, W, 3) uint8 RGB.
        box: (4,) `xyxy`, pixels of `image`; not empty, and inside it.
        width_px: width of the box in the cut-out, pixels.
        side_px: height and width of the cut-out, pixels.
    """
    height, width = image.shape[:2]
    box_width = max(box[2] - box[0], 2 * (box[3] - box[1]))
    side = max(1, round(float(box_width) * side_px / width_px))
    left, top = (math.floor(float(box[i] + box[i + 2] - side) / 2) for i in (0, 1))
    scale = side_px / side
    x1, y1, x2, y2 = max(0, left), max(0, top), min(width, left + side), min(height, top + side)
    # Of what is seen alone, because the square around a near plate may be larger than the image.
    new_x1, new_y1 = math.floor((x1 - left) * scale), math.floor((y1 - top) * scale)
    new_x2 = max(new_x1 + 1, round((x2 - left) * scale))
    new_y2 = max(new_y1 + 1, round((y2 - top) * scale))
    seen_wh = (new_x2 - new_x1, new_y2 - new_y1)
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    filled = np.full((side_px, side_px, 3), PAD_GREY, np.uint8)
    filled[new_y1:new_y2, new_x1:new_x2] = cv2.resize(
        image[y1:y2, x1:x2], seen_wh, interpolation=interpolation
    )
    return CutOut(filled, scale, (left, top), (height, width))
