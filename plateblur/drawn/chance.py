"""Random choices; every one comes from the generator that is handed in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

Rng = np.random.Generator
T = TypeVar("T")
LETTERS = "ABCDEFGHJKLMNPRSTUVWXYZ"  # without I, O and Q, which most regions leave out


def random_letters(rng: Rng, count: int) -> str:
    """Return `count` letters of plates."""
    return "".join(LETTERS[i] for i in rng.integers(0, len(LETTERS), count))


def random_digits(rng: Rng, count: int) -> str:
    """Return `count` digits, the first of them not 0."""
    return str(rng.integers(1, 10)) + "".join(str(i) for i in rng.integers(0, 10, count - 1))


def choice(rng: Rng, values: Sequence[T]) -> T:
    """Return one of the values."""
    return values[int(rng.integers(0, len(values)))]


def smooth_noise(rng: Rng, hw: tuple[int, int], cells: int) -> NDArray[np.float32]:
    """Return (h, w) smooth noise, 0 to 1, with about `cells` lumps across."""
    coarse = rng.random((max(2, cells * hw[0] // hw[1]), cells)).astype(np.float32)
    fine = rng.random((max(2, 3 * cells * hw[0] // hw[1]), 3 * cells)).astype(np.float32)
    size = (hw[1], hw[0])
    lumps = cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC) * 0.68
    lumps = lumps + cv2.resize(fine, size, interpolation=cv2.INTER_CUBIC) * 0.32
    return np.asarray(lumps.clip(0, 1), np.float32)
