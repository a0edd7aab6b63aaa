"""A JPEG written again with its blocks as they came, except those that show what is hidden.

A JPEG holds its picture in blocks of 8 x 8 samples, each as 64 quantised coefficients. Blocks that
hold a hidden or otherwise changed pixel are computed from the changed pixels; nothing of their
old coefficients goes in. All others keep theirs to the bit, so no photo loses quality however often
it is blurred.

jpeglib, of the extra `exact`, reads and writes the coefficients. It works through temporary files,
which it removes; the photo is in one of them as it came, without its metadata.
"""

from __future__ import annotations

import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from plateblur.errors import EncodeError
from plateblur.jpeg import JpegCoding, bare_jpeg, with_head
from plateblur.types import Image

# Source: JFIF 1.02, page 3: Y, Cb and Cr of a pixel, to which 128 is added for Cb and Cr.
YCC = np.array(
    [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]], np.float32
)
LIBRARY = "turbo210"  # of those that jpeglib holds: the newest libjpeg-turbo
LARGEST = 1023  # Source: JPEG (ITU-T T.81), F.1.2: of a coefficient of 8-bit samples

Coefficients = NDArray[np.int16]
"""(rows, columns, 8, 8) int16: the blocks of one component, quantised."""


class NotExactError(Exception):
    """A photo can't be written with its blocks as they came; the message says why."""


def is_available() -> bool:
    """Return whether the extra `exact` is installed."""
    return find_spec("jpeglib") is not None


def rewrite(jpeg: JpegCoding, pixels: Image, changed: NDArray[np.bool_], *, head: bytes) -> bytes:
    """Return a JPEG with `changed` pixels taken from `pixels` and all other blocks as they came.

    Args:
        jpeg: the photo as it came.
        pixels: (H, W, 3) uint8 RGB, in the orientation that is stored.
        changed: (H, W), which pixels may show nothing of the old ones.
        head: the segments of metadata that it is to have.

    Raises:
        NotExactError: its coding is one that can't be kept.
        EncodeError: what was written isn't what was to be written.
    """
    if jpeg.not_exact is not None:
        raise NotExactError(jpeg.not_exact)
    import jpeglib  # an extra, and not needed for anything else

    jpeglib.version.set(LIBRARY)
    with tempfile.TemporaryDirectory(prefix="plateblur-") as folder:
        given, written = Path(folder) / "given.jpg", Path(folder) / "written.jpg"
        given.write_bytes(bare_jpeg(jpeg.data))
        try:
            coded = jpeglib.read_dct(str(given))
            blocks = _blocks(coded)
            sampling = np.asarray(coded.samp_factor)[: len(blocks)]
            tables = [coded.qt[number] for number in coded.quant_tbl_no]
        except (OSError, ValueError, IndexError, TypeError) as error:
            raise NotExactError("its coefficients can't be read") from error
        per_sample, left_over = np.divmod(sampling.max(axis=0), sampling)
        if left_over.any():
            raise NotExactError("its colours are sampled at uneven steps")
        for plane, old in enumerate(blocks):
            rows, columns = _touched(changed, old.shape[:2], per_sample[plane])
            samples = _samples(pixels, rows, columns, per_sample[plane], YCC[plane])
            old[rows, columns] = _quantised(samples, tables[plane])
        try:
            coded.Y, coded.Cb, coded.Cr = [*blocks, None, None][:3]
            coded.write_dct(str(written), flags=["+OPTIMIZE_CODING"])
            data = written.read_bytes()
            again = _blocks(jpeglib.read_dct(str(written)))
        except (OSError, ValueError) as error:
            raise EncodeError("the blurred photo could not be written as JPEG") from error
    # Because the old blocks of a plate would be there if jpeglib had passed them on.
    if not all(np.array_equal(*pair) for pair in zip(blocks, again, strict=True)):
        raise EncodeError("the blurred photo was written with other blocks than it was to have")
    return with_head(data, head)


def _blocks(coded: Any) -> list[Coefficients]:
    """Return copies of a JPEG's components, which `coded` reads when they are asked for."""
    planes = [coded.Y, coded.Cb, coded.Cr] if coded.num_components == 3 else [coded.Y]
    return [np.array(plane, np.int16) for plane in planes]


def _touched(
    changed: NDArray[np.bool_], grid: tuple[int, ...], per_sample: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return rows and columns, (N,) each, of the blocks that a changed pixel lies in.

    Args:
        changed: (H, W).
        grid: rows and columns of blocks of the component.
        per_sample: (2,) height and width in pixels of one of its samples.
    """
    down, across = (8 * per_sample).tolist()
    padded = np.zeros((grid[0] * down, grid[1] * across), np.bool_)
    height, width = changed.shape
    padded[:height, :width] = changed[: len(padded), : padded.shape[1]]
    touched = padded.reshape(grid[0], down, grid[1], across).any(axis=(1, 3))
    rows, columns = np.nonzero(touched)
    return rows, columns


def _samples(
    pixels: Image,
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    per_sample: NDArray[np.int64],
    weights: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Return one component of the given blocks, (N, 8, 8) float32, around 0.

    Beyond its edges an image is continued with its last pixels.
    """
    height, width = pixels.shape[:2]
    down, across = per_sample.tolist()
    y = (rows[:, None] * 8 * down + np.arange(8 * down)).clip(max=height - 1)
    x = (columns[:, None] * 8 * across + np.arange(8 * across)).clip(max=width - 1)
    levels = (pixels[y[:, :, None], x[:, None, :]] * weights).sum(axis=-1, dtype=np.float32)
    samples = levels.reshape(-1, 8, down, 8, across).mean(axis=(2, 4))
    return np.asarray(samples - (128 if weights.sum() > 0.5 else 0), np.float32)


def _quantised(samples: NDArray[np.float32], table: NDArray[np.uint16]) -> Coefficients:
    """Return the coefficients of blocks of samples, (N, 8, 8) each.

    Source: JPEG (ITU-T T.81), A.3.3 and A.3.4; OpenCV's transform is the same.
    """
    levels = np.array([cv2.dct(block) for block in samples], np.float32).reshape(-1, 8, 8)
    return np.asarray(np.rint(levels / table).clip(-LARGEST, LARGEST), np.int16)
