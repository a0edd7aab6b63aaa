"""Drawn photos for the stand-ins; no person's photo is needed to test a recipe."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

Edges = tuple[float, float, float, float]


def scene(
    seed: int, *, size_wh: tuple[int, int] = (320, 240), plates: tuple[Edges, ...] = ()
) -> Image.Image:
    """Return blurred patches of colour with white plates in them; another seed looks different."""
    patches = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    image = Image.fromarray(patches).resize(size_wh, Image.Resampling.BICUBIC)
    for plate in plates:
        ImageDraw.Draw(image).rectangle(plate, "white", "black")
    return image


def encoded(image: Image.Image, format_: str = "JPEG", **options: Any) -> bytes:
    """Return the photo of an image."""
    out = io.BytesIO()
    image.save(out, format_, **options)
    return out.getvalue()


def draw(path: Path, seed: int, **options: Any) -> Path:
    """Write the photo of a scene and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    formats = {".jpg": "JPEG", ".png": "PNG", ".webp": "WEBP"}
    path.write_bytes(encoded(scene(seed, **options), formats[path.suffix]))
    return path
