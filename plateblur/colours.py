"""The colours of a cut-out, which has no profile: turned into those that are meant without one."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageCms

from plateblur.types import Image


def to_srgb(profile: bytes | None) -> Callable[[Image], Image]:
    """Return what turns the colours of an image with this ICC profile into sRGB.

    Where there is no profile, or one of sRGB, or one that is damaged or is not of RGB, colours stay
    as they are: that is how they are shown without a profile.

    Args:
        profile: an ICC profile of any size; it is read once.
    """
    if profile is None:
        return _as_they_are
    try:
        stored = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        described = (stored.profile.profile_description or "").strip()
        if stored.profile.xcolor_space.strip() != "RGB" or described.startswith("sRGB"):
            return _as_they_are
        transform = ImageCms.buildTransform(stored, ImageCms.createProfile("sRGB"), "RGB", "RGB")
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
        return _as_they_are

    def turned(image: Image) -> Image:
        return np.array(transform.apply(PillowImage.fromarray(np.ascontiguousarray(image))))

    return turned


def _as_they_are(image: Image) -> Image:
    return image
