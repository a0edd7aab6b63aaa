"""Six chosen scenes, to try the detector and the demo on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pil

from plateblur.drawn.scene import draw_scene, encode

EXAMPLES: dict[str, dict[str, Any]] = {
    "street-day": {"seed": 11, "plates": 3, "regions": ("eu", "uk")},
    "street-dusk": {"seed": 7, "plates": 3, "lit": "dusk", "regions": ("us",)},
    "car-park": {
        "seed": 7,
        "plates": 6,
        "ratios": (1 / 40, 1 / 20),
        "place": "car_park",
        "regions": ("egypt", "gulf"),
    },
    "close-up": {
        "seed": 4,
        "plates": 1,
        "ratios": (1 / 6.2, 1 / 5.8),
        "side_deg": (-12.0, 12.0),
        "regions": ("eu",),
    },
    "phone-upright": {
        "seed": 2,
        "plates": 3,
        "image_hw": (1600, 1200),
        "ratios": (1 / 60, 1 / 34),
        "regions": ("india",),
    },
    "far-traffic": {"seed": 4, "plates": 7, "ratios": (1 / 70, 1 / 38), "side_deg": (-12.0, 12.0)},
}

LYING = "phone-upright"  # stored lying on its side with an EXIF orientation, as phones do


def write_examples(out: Path) -> list[Path]:
    """Write six chosen scenes as JPEG photos into `out` and return their paths."""
    out.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, arguments in EXAMPLES.items():
        image = draw_scene(**arguments).image
        exif = Pil.Exif()
        if name == LYING:
            image = np.ascontiguousarray(np.rot90(image))
            exif[0x010F], exif[0x0110] = "PlateBlur", "Drawn Camera 1"
            exif[0x0112] = 6  # to be shown turned a quarter clockwise
        path = out / f"{name}.jpg"
        path.write_bytes(encode(image, exif=exif))
        paths.append(path)
    return paths
