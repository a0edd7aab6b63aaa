"""A plate of a clip as its box at a few key frames: what people correct, and what is then hidden.

Between two key frames the box moves evenly in time; before the first and after the last there is
none. Times are whole microseconds on the clip's own clock, so that the first and the last frame of
a plate are exactly those that were meant, at whatever rate the clip runs.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from plateblur.types import Boxes

TOLERANCE = 0.1  # of a box's shorter side: how far it may be from where the key frames put it
LEAST_TOLERANCE_PX = 1.0

Key = tuple[int, float, float, float, float]
"""Time in microseconds, then left, top, right and bottom in pixels of the frame as shown."""

Keys = tuple[Key, ...]
"""Key frames of one plate; their times rise."""


def micros(pts: int, time_base: Fraction) -> int:
    """Return a time of a video track in whole microseconds."""
    return round(pts * time_base * 1_000_000)


def box_at(keys: Keys, time_us: int) -> NDArray[np.float64] | None:
    """Return the box at a time, (4,); None before the first key frame and after the last."""
    after = bisect_right(keys, time_us, key=lambda key: key[0])
    if after == 0:
        return None
    before_us, *before = keys[after - 1]
    if before_us == time_us:
        return np.array(before)
    if after == len(keys):
        return None
    next_us, *following = keys[after]
    passed = (time_us - before_us) / (next_us - before_us)
    return (1 - passed) * np.array(before) + passed * np.array(following)


def boxes_at(plates: Iterable[Keys], time_us: int) -> Boxes:
    """Return the boxes of all plates that are there at a time, (N, 4) float32."""
    boxes = (box_at(keys, time_us) for keys in plates)
    return np.array([box for box in boxes if box is not None], np.float32).reshape(-1, 4)


def key_frames(
    times_us: Sequence[int], xyxy: NDArray[np.float64], *, image_hw: tuple[int, int]
) -> Keys:
    """Return a few key frames that hide all of a plate's boxes.

    At the time of each box, the box between the key frames covers the part of it that lies in the
    picture, and is larger by twice `TOLERANCE` at most, or by 2 px and rounding.

    Args:
        times_us: of each box, rising.
        xyxy: (N, 4) pixels.
        image_hw: height and width of the frames, pixels.

    Returns:
        Key frames in whole pixels; none where no box lies in the picture.
    """
    height, width = image_hw
    boxes = xyxy.clip(0, [width, height, width, height])
    inside = (boxes[:, 2:] - boxes[:, :2] >= 1).all(axis=1)
    boxes, times = boxes[inside], np.array(times_us, np.float64)[inside]
    if not len(boxes):
        return ()
    kept = _bends(times, boxes)
    wider = np.zeros((len(kept), 4))
    for at in range(len(kept) - 1):
        part = slice(kept[at], kept[at + 1] + 1)
        off = (_between(times[part], boxes[part]) - boxes[part]) * [1, 1, -1, -1]
        short = off.max(axis=0).clip(0)
        wider[at], wider[at + 1] = np.maximum(wider[at], short), np.maximum(wider[at + 1], short)
    outward = boxes[kept] + wider * [-1, -1, 1, 1]
    whole = np.hstack([np.floor(outward[:, :2]), np.ceil(outward[:, 2:])])
    return tuple(
        (round(time), left, top, right, bottom)
        for time, (left, top, right, bottom) in zip(
            times[kept].tolist(), whole.tolist(), strict=True
        )
    )


def _bends(times: NDArray[np.float64], boxes: NDArray[np.float64]) -> list[int]:
    """Return the rows between which the boxes move evenly, within the tolerance.

    Source: Douglas and Peucker (1973), with the sides of a box in place of a line's distance.
    """
    sides = (boxes[:, 2:] - boxes[:, :2]).min(axis=1)
    allowed = np.maximum(TOLERANCE * sides, LEAST_TOLERANCE_PX)
    kept = {0, len(boxes) - 1}
    waiting = [(0, len(boxes) - 1)]
    while waiting:
        first, last = waiting.pop()
        part = slice(first, last + 1)
        off = np.abs(_between(times[part], boxes[part]) - boxes[part]).max(axis=1) / allowed[part]
        worst = first + int(off.argmax())
        if off.max() > 1:
            kept.add(worst)
            waiting += [(first, worst), (worst, last)]
    return sorted(kept)


def _between(times: NDArray[np.float64], boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the boxes that move evenly from the first to the last, at the times of all, (N, 4)."""
    length = max(times[-1] - times[0], 1.0)
    passed = ((times - times[0]) / length)[:, None]
    return np.asarray((1 - passed) * boxes[0] + passed * boxes[-1], np.float64)
