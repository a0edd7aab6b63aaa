"""TIFF, BMP and GIF: formats that photos are seldom kept in, and what of them is a still photo."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import TiffImagePlugin

from plateblur.errors import PhotoDecodeError
from plateblur.formats import HEIF, HEIF_BRANDS, TIFF
from plateblur.headers import boxes_of
from plateblur.types import Image

ANIMATED = (
    "expected a still photo, got an animation; save one of its images as a photo, or make it a "
    "clip and use `plateblur video`"
)
ADVICE = {"camera raw": "develop it to JPEG or TIFF first"}
"""What to do with a picture that isn't taken, by its name, where it isn't to be converted."""

# Source: TIFF 6.0, sections 3 and 8, and Adobe's DNG 1.7 and TIFF/EP: tags and values.
NEW_SUBFILE_TYPE, SUB_IFDS, PHOTOMETRIC, DNG_VERSION = 0x00FE, 0x014A, 0x0106, 0xC612
BITS_PER_SAMPLE = 0x0102
REDUCED, CFA, LINEAR_RAW = 1, 32803, 34892
LOSSLESS = frozenset({"raw", "packbits", "tiff_lzw", "tiff_adobe_deflate"})
SEQUENCE_BRANDS = frozenset({b"hevc", b"hevx", b"hevm", b"hevs", b"msf1"})
TRANSPARENT = 255  # index of it in the palettes that are written here


def refuse_several(stored: PillowImage.Image, format_: str, data: bytes) -> None:
    """Raise where a file is no still photo of one page.

    A JPEG or HEIF with several pictures is taken; see `companions.py`.

    Args:
        stored: as opened, no pixel decoded.
        format_: its name.
        data: the file.

    Raises:
        PhotoDecodeError: it is animated, has several pages, or is a raw photo.
    """
    if format_ == TIFF.name and isinstance(stored, TiffImagePlugin.TiffImageFile):
        tags = stored.tag_v2
        is_raw = DNG_VERSION in tags or tags.get(PHOTOMETRIC) in (CFA, LINEAR_RAW)
        # Its first image is then a preview, as in NEF, ARW, PEF and others.
        if is_raw or tags.get(NEW_SUBFILE_TYPE) == REDUCED or SUB_IFDS in tags:
            raise PhotoDecodeError(
                f"expected a TIFF of one image, got a camera raw; {ADVICE['camera raw']}"
            )
        pages = stored.n_frames
        if pages > 1:
            raise PhotoDecodeError(
                f"expected a TIFF of one page, got {pages}; save each as a photo of its own first"
            )
    elif format_ == HEIF.name:
        is_sequence = data[8:12] in SEQUENCE_BRANDS & HEIF_BRANDS
        if is_sequence and any(name == b"moov" for name, _, _ in boxes_of(data)):
            raise PhotoDecodeError(ANIMATED)
    elif getattr(stored, "is_animated", False):
        raise PhotoDecodeError(ANIMATED)


def tiff_compression(stored: PillowImage.Image) -> str | None:
    """Return how a TIFF is to be compressed: as it was, or without loss; None for another photo."""
    if not isinstance(stored, TiffImagePlugin.TiffImageFile):
        return None
    compression = str(stored.info.get("compression"))
    return compression if compression in LOSSLESS else "tiff_lzw"


def has_depth(stored: PillowImage.Image) -> bool:
    """Return whether a TIFF has more than 8 bits a channel."""
    if not isinstance(stored, TiffImagePlugin.TiffImageFile):
        return False
    return bool(max(stored.tag_v2.get(BITS_PER_SAMPLE, (1,))) > 8)


def gif_image(old: Image, new: Image, alpha: NDArray[np.uint8] | None) -> PillowImage.Image:
    """Return `new` with the colours of `old`, which came from a GIF, so at most 256.

    What wasn't changed stays to the bit; the rest gets the nearest of these colours.

    Args:
        old: (H, W, 3) uint8 RGB, as decoded.
        new: (H, W, 3) uint8 RGB.
        alpha: (H, W) uint8 opacity of `new`, or None.
    """
    weights = np.array([1 << 16, 1 << 8, 1])
    codes, places = np.unique(old.reshape(-1, 3) @ weights, return_inverse=True)
    most = TRANSPARENT if alpha is not None else 256
    if len(codes) > most:  # a cut-out that is blurred already
        return PillowImage.fromarray(new).quantize(most)
    colours = np.stack([codes >> 16, codes >> 8 & 255, codes & 255], axis=1)
    index = places.reshape(old.shape[:2]).astype(np.uint8)
    changed = (old != new).any(axis=2)
    wanted, back = np.unique(new[changed], axis=0, return_inverse=True)
    nearest = [int(((colours - one) ** 2).sum(axis=1).argmin()) for one in wanted.astype(np.int64)]
    index[changed] = np.array(nearest, np.uint8)[back.ravel()]
    image = PillowImage.fromarray(index)
    if alpha is not None:
        index = np.where(alpha == 0, np.uint8(TRANSPARENT), index)
        image = PillowImage.fromarray(index)
        image.info["transparency"] = TRANSPARENT
    image.putpalette(colours.astype(np.uint8).tobytes())
    return image
