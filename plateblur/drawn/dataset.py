"""A data set of drawn scenes."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from plateblur.drawn.chance import choice
from plateblur.drawn.scene import draw_scene, encode
from plateblur.drawn.surroundings import PLACES
from plateblur.sets import layout


def write_set(
    out: Path,
    *,
    count: int,
    seed: int,
    split_shares: tuple[float, float, float] = (0.8, 0.1, 0.1),
    image_hw: tuple[int, int] = (720, 1280),
) -> dict[str, int]:
    """Write `count` scenes with YOLO labels, `data.yaml` and `manifest.csv` into `out`.

    One scene in ten has no plates. Scene i of a seed is the same whatever the count.

    Args:
        out: output folder; created if missing.
        count: how many scenes.
        seed: where every random choice comes from.
        split_shares: shares of train, val and test; they add up to 1.
        image_hw: height and width of each image, pixels.

    Returns:
        How many scenes each split holds.

    Raises:
        ValueError: a share is negative or they don't add up to 1.
    """
    if min(split_shares) < 0 or abs(sum(split_shares) - 1) > 1e-6:
        raise ValueError(f"split_shares must be 0 or more and add up to 1, got {split_shares}")
    ends = np.rint(np.cumsum(split_shares) * count).astype(int)
    order = np.random.default_rng(seed).permutation(count)
    counts: dict[str, int] = dict.fromkeys(layout.SPLITS, 0)
    rows: list[layout.Row] = []
    layout.make_folders(out)
    for i in range(count):
        split = layout.SPLITS[int(np.searchsorted(ends, order[i], side="right"))]
        scene = draw_scene(**_varied(seed, i, image_hw))
        name = f"drawn-{seed}-{i:05d}.jpg"
        photo, xyxy = encode(scene.image), scene.xyxy.astype(np.float64)
        row = layout.Row(
            image=f"images/{split}/{name}",
            split=split,
            set="drawn",
            source="datasets/synthetic.py",
            licence="AGPL-3.0",
            region=" ".join(sorted(set(scene.regions))),
            width=image_hw[1],
            height=image_hw[0],
            plates=len(xyxy),
            smallest_plate_height_ratio=layout.smallest_ratio(xyxy, image_hw=image_hw),
            sha256=hashlib.sha256(photo).hexdigest(),
            original_name=name,
        )
        layout.write_photo(out, row, photo, xyxy)
        counts[split] += 1
        rows.append(row)
    layout.write_manifest(out, rows)
    return counts


def _varied(seed: int, index: int, image_hw: tuple[int, int]) -> dict[str, Any]:
    """Return the arguments of scene `index` of a data set: sizes, angles and light mixed."""
    rng = np.random.default_rng([seed, index])
    far, near = choice(rng, ((1 / 45, 1 / 20), (1 / 30, 1 / 12), (1 / 14, 1 / 7)))
    side = float(choice(rng, (15.0, 30.0, 50.0)))
    tilt = float(choice(rng, (1.0, 4.0, 12.0)))
    return {
        "seed": int(rng.integers(0, 2**31)),
        "image_hw": image_hw,
        "plates": 0 if rng.random() < 0.1 else int(rng.integers(1, 5)),
        "ratios": (far, near),
        "side_deg": (-side, side),
        "tilt_deg": (-tilt, tilt),
        "lit": choice(rng, ("day", "day", "day", "dusk", "night")),
        "place": choice(rng, PLACES),
    }
