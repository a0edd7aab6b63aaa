"""Sheets of the plates that stay readable on large, turned and cut photos, to be kept private.

    python -m benchmarks.misses --data DATA.yaml --overlay datasets/corrections/plates.jsonl \
        --out runs/misses

The sets are those of `benchmarks/looks.py` and `benchmarks/panoramas.py`, whose figures say how
many there are; this shows which. Each cell is a plate that is less than 99 % hidden, with four
times its size around it: its label in blue, what is hidden in orange. They show people's photos,
so `--out` must be a folder that git ignores.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageDraw

from benchmarks import panoramas
from benchmarks.any_way import TILTS, tilted
from benchmarks.looks import (
    FILLS,
    LAYOUTS,
    MOST_CUT,
    MOST_FRAMES,
    MOST_TURNED,
    OPTIONS,
    TURNS,
    Floats,
    Laid,
    cut_to_the_plate,
    side_by_side,
    turned,
)
from plateblur.blur import hidden_bounds
from plateblur.detector import OnnxDetector, shipped_model
from plateblur.guidance import ratio_text
from plateblur.photo import decode
from plateblur.pipeline import find_plates
from plateblur.sets.corrections import read_corrections
from plateblur.sets.metrics import COVERED_SHARE, coverage
from plateblur.sets.split import LabelledPhoto, corrected_photo, read_split
from plateblur.sphere import Panorama
from plateblur.types import Image
from training.checkout import require_private
from training.evaluation.plots import BLUE, ORANGE
from training.evaluation.sheets import Around

CELL_PX, CAPTION_PX, COLUMNS, MOST_CELLS = 240, 16, 6, 60
PANORAMA_WIDTH = 7680


@dataclass(frozen=True, slots=True)
class Miss:
    """A plate that stays readable.

    Attributes:
        image: (H, W, 3) uint8 RGB, of which the plate is a part.
        plate: (4,) its `xyxy`, pixels of `image`.
        hidden: (N, 4) `xyxy` of what is hidden there.
        share: of the plate that is hidden.
    """

    image: Image
    plate: Floats
    hidden: Floats
    share: float


def misses_of(laid: Iterator[Laid], detector: OnnxDetector) -> Iterator[Miss]:
    """Yield the plates of laid photos that stay readable, with what is around them."""
    for one in laid:
        photo = decode(one.data)
        found = find_plates(photo, detector, min_confidence=OPTIONS.min_confidence)
        shares = coverage(one.truth, found.xyxy.astype(np.float64), margin=OPTIONS.margin)
        hidden = hidden_bounds(found.xyxy, image_hw=photo.image_hw, margin=OPTIONS.margin)
        for plate, share in zip(one.truth, shares.tolist(), strict=True):
            if share < COVERED_SHARE:
                yield Miss(photo.pixels, plate, hidden.astype(np.float64), share)


def misses_on_panoramas(photos: Sequence[LabelledPhoto], detector: OnnxDetector) -> Iterator[Miss]:
    """Yield the plates of panoramas, made by projection, that stay readable."""
    width = PANORAMA_WIDTH
    panorama = Panorama((width // 2, width), (width, width // 2))
    count = panoramas.COUNTS[width]
    for scene in panoramas.scenes(photos, width=width, count=count, seed=width):
        found = panoramas.views(scene.image, panorama, detector)
        regions = [r for one in panoramas.regions_of(found, panorama) for r in one]
        hidden = np.array([r.bounds for r in regions], np.float64).reshape(-1, 4)
        for plate, row in zip(scene.plates, panoramas.tally(scene, found, panorama), strict=True):
            if row["covered"] < COVERED_SHARE:
                box = np.concatenate([plate.points.min(axis=0), plate.points.max(axis=0)])
                yield Miss(scene.image, box, hidden, row["covered"])


def draw(misses: Iterator[Miss], path: Path) -> int:
    """Draw the first misses of all on a sheet, and return how many there are.

    Args:
        misses: cut out one by one, so that no more than one image is kept.
        path: of the sheet.
    """
    cells: list[PillowImage.Image] = []
    total = 0
    for miss in misses:
        total += 1
        if len(cells) < MOST_CELLS:
            cells.append(cell(miss))
    rows = max(1, -(-len(cells) // COLUMNS))
    sheet = PillowImage.new("RGB", (COLUMNS * CELL_PX, rows * (CELL_PX + CAPTION_PX)), "white")
    for place, one in enumerate(cells):
        down, across = divmod(place, COLUMNS)
        sheet.paste(one, (across * CELL_PX, down * (CELL_PX + CAPTION_PX)))
    sheet.save(path, quality=88)
    return total


def cell(miss: Miss) -> PillowImage.Image:
    """Return a plate with four times its size around it, and a caption."""
    around = Around(miss.image, miss.plate, side_px=CELL_PX)
    for box in miss.hidden:
        around.outline(box, ORANGE)
    around.outline(miss.plate, BLUE)
    captioned = PillowImage.new("RGB", (CELL_PX, CELL_PX + CAPTION_PX), "white")
    captioned.paste(around.picture)
    height_px = miss.plate[3] - miss.plate[1]
    ratio = ratio_text(height_px / miss.image.shape[0])
    caption = f"{height_px:.0f} px  {ratio}  hidden {miss.share:.2f}"
    ImageDraw.Draw(captioned).text((2, CELL_PX + 2), caption, fill="black")
    return captioned


def main() -> None:
    """Read the command line, and draw the sheets."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="data.yaml of a YOLO data set")
    parser.add_argument("--overlay", type=Path, help="corrections of labels")
    parser.add_argument("--split", default="val")
    parser.add_argument("--model", type=Path, default=shipped_model())
    parser.add_argument("--out", type=Path, required=True, help="folder of the sheets")
    given = parser.parse_args()
    require_private(given.out)
    given.out.mkdir(parents=True, exist_ok=True)
    detector = OnnxDetector(given.model)
    corrections = read_corrections(given.overlay)
    photos = [corrected_photo(photo, corrections) for photo in read_split(given.data, given.split)]
    order = np.random.default_rng(1).permutation(len(photos))
    shuffled = [photos[place] for place in order if len(photos[place].truth)]
    laid: dict[str, Iterator[Laid]] = {}
    for name, (columns, rows) in LAYOUTS.items():
        used = shuffled[: MOST_FRAMES[name] * columns * rows]
        laid[f"frames-{columns}x{rows}"] = side_by_side(used, columns=columns, rows=rows)
    for degrees, quarters in TURNS.items():
        laid[f"turned-{degrees}"] = islice(turned(shuffled, quarters), MOST_TURNED)
    for degrees in TILTS:
        laid[f"tilted-{degrees}"] = tilted(shuffled[:MOST_TURNED], degrees)
    for fill in FILLS:
        laid[f"fills-{fill * 100:.0f}"] = islice(cut_to_the_plate(shuffled, fill), MOST_CUT)
    misses = {name: misses_of(one, detector) for name, one in laid.items()}
    misses["panoramas"] = misses_on_panoramas(photos, detector)
    for name, found in misses.items():
        print(f"{name}: {draw(found, given.out / f'{name}.jpg')} stay readable", flush=True)


if __name__ == "__main__":
    main()
