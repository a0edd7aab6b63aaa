"""What the looks find on large, turned and cut photos, and what they cost.

    python -m benchmarks.looks --data DATA.yaml --overlay datasets/corrections/plates.jsonl

Everything is laid out of the photos of a split, in memory, and goes the served way: encoded, then
`decode` and `find_plates`. A plate counts as hidden where at least 99 % of it is under the boxes
with the margin that is blurred.

- frames: photos side by side at their own size, 8 x 4 and 4 x 3 cells of 960 px. What is found in
  them is counted beside what is found in the same cells one by one.
- fill: photos cut so that the plate fills 90 % and 100 % of the width.
- turned: by 90, 180 and 270 degrees.
- effort: the photos of the split that have a plate below 1:60, with each effort.
- cost: frames of 8 x 4 against `smallest_plate_px`.
- engines: the split with each engine that is installed.

`--only` runs some of them; the others stay in the results file as they are. No photo's name gets
there. Times are this machine's, and what travels is their ratio to one look at the whole photo.
"""

from __future__ import annotations

import argparse
import io
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from benchmarks.machine import machine
from plateblur.detector import OnnxDetector, shipped_model
from plateblur.engines import Engine
from plateblur.errors import ModelError
from plateblur.photo import decode
from plateblur.pipeline import find_plates
from plateblur.sets.corrections import read_corrections
from plateblur.sets.metrics import PhotoBoxes, score_photos
from plateblur.sets.split import LabelledPhoto, corrected_photo, read_split, turned_photo
from plateblur.types import BlurOptions, Effort

RESULTS = Path(__file__).parent / "results" / "looks.json"
CELL_PX = 960
LAYOUTS = {"8 x 4": (8, 4), "4 x 3": (4, 3)}
MOST_FRAMES = {"8 x 4": 6, "4 x 3": 12}
COSTS_PX = (6.0, 8.0, 12.0, 24.0)
COST_FRAMES = 1
FILLS = (0.9, 1.0)
FILL_FROM_PX = 80  # width of a plate that is cut out; a narrower one would be enlarged a lot
TURNS = {90: 1, 180: 2, 270: 3}
MOST_CUT = 75  # photos
MOST_TURNED = 25
FAR_RATIO = 1 / 60
SMALL_PX = 12.0
OPTIONS = BlurOptions()

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Laid:
    """A photo laid out for a measurement.

    Attributes:
        data: as encoded.
        truth: (N, 4) float64 `xyxy` of its plates, pixels.
    """

    data: bytes
    truth: Floats


@dataclass(frozen=True, slots=True)
class Found:
    """What was found in laid photos.

    Attributes:
        hidden: (N,) bool, for each plate whether at least 99 % of it is hidden.
        height_px: (N,) float64, of each plate.
        ratio: (N,) float64, plate height : picture height.
        false_boxes: hidden boxes that touch no plate.
        photos: how many.
        seconds: for all of them, decoding included.
        looks: at all of them.
    """

    hidden: NDArray[np.bool_]
    height_px: Floats
    ratio: Floats
    false_boxes: int
    photos: int
    seconds: float
    looks: int

    def figures(self) -> dict[str, Any]:
        """Return the figures as they are written."""
        small = self.ratio < FAR_RATIO
        return {
            "photos": self.photos,
            "plates": len(self.hidden),
            "covered99": _share(self.hidden),
            f"covered99 of plates of {SMALL_PX:g} px and more": _share(
                self.hidden[self.height_px >= SMALL_PX]
            ),
            "covered99 below 1:60": _share(self.hidden[small]),
            "false boxes a photo": round(self.false_boxes / self.photos, 4),
            "looks a photo": round(self.looks / self.photos, 1),
            "seconds a photo": round(self.seconds / self.photos, 3),
        }


def _share(flags: NDArray[np.bool_]) -> float | None:
    return round(float(flags.mean()), 4) if len(flags) else None


def find(
    laid: Iterable[Laid],
    detector: OnnxDetector,
    *,
    effort: Effort = OPTIONS.effort,
    smallest_plate_px: float = OPTIONS.smallest_plate_px,
) -> Found:
    """Return what the served way finds in laid photos."""
    photos, ratios, heights, seconds, looks = [], [], [], 0.0, 0
    for one in laid:
        started = time.perf_counter()
        photo = decode(one.data)
        found = find_plates(
            photo,
            detector,
            min_confidence=OPTIONS.min_confidence,
            smallest_plate_px=smallest_plate_px,
            effort=effort,
        )
        seconds += time.perf_counter() - started
        looks += found.searched.looks if found.searched else 0
        xyxy, confidence = found.xyxy.astype(np.float64), found.confidence.astype(np.float64)
        photos.append(PhotoBoxes(photo.image_hw, one.truth, xyxy, confidence))
        heights.append(one.truth[:, 3] - one.truth[:, 1])
        ratios.append(heights[-1] / photo.image_hw[0])
    scores = score_photos(photos, min_confidence=OPTIONS.min_confidence, margin=OPTIONS.margin)
    return Found(
        hidden=scores.hidden,
        height_px=np.concatenate(heights),
        ratio=np.concatenate(ratios),
        false_boxes=int(scores.off_plates.sum()),
        photos=len(photos),
        seconds=seconds,
        looks=looks,
    )


# What is laid


def pillow(photo: LabelledPhoto) -> PillowImage.Image:
    """Return a photo as the service would see it."""
    return PillowImage.fromarray(decode(photo.path.read_bytes()).pixels)


def encoded(image: PillowImage.Image, truth: Floats, *, quality: int) -> Laid:
    """Return an image as a JPEG of its own."""
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality)
    return Laid(out.getvalue(), truth)


def as_they_are(photos: Sequence[LabelledPhoto]) -> Iterator[Laid]:
    """Yield the photos themselves."""
    for photo in photos:
        yield Laid(photo.path.read_bytes(), photo.truth)


def in_cells(
    photos: Sequence[LabelledPhoto],
) -> Iterator[tuple[PillowImage.Image, Floats]]:
    """Yield photos with their plates, no larger than a cell."""
    for photo in photos:
        image = pillow(photo)
        scale = min(CELL_PX / max(image.size), 1.0)
        if scale < 1:
            smaller = (round(image.width * scale), round(image.height * scale))
            scales = np.array([smaller[0] / image.width, smaller[1] / image.height] * 2)
            yield image.resize(smaller, PillowImage.Resampling.LANCZOS), photo.truth * scales
        else:
            yield image, photo.truth


def one_by_one(photos: Sequence[LabelledPhoto]) -> Iterator[Laid]:
    """Yield what is in the cells as photos of their own."""
    for image, truth in in_cells(photos):
        yield encoded(image, truth, quality=92)


def side_by_side(photos: Sequence[LabelledPhoto], *, columns: int, rows: int) -> Iterator[Laid]:
    """Yield frames of cells, as many as there are photos for."""
    each = columns * rows
    for first in range(0, len(photos) - each + 1, each):
        grey = (114, 114, 114)
        frame = PillowImage.new("RGB", (columns * CELL_PX, rows * CELL_PX), grey)
        plates = []
        for cell, (image, truth) in enumerate(in_cells(photos[first : first + each])):
            at = (cell % columns * CELL_PX, cell // columns * CELL_PX)
            frame.paste(image, at)
            plates.append(truth + np.array(at * 2))
        yield encoded(frame, np.concatenate(plates), quality=92)


def cut_to_the_plate(photos: Sequence[LabelledPhoto], fill: float) -> Iterator[Laid]:
    """Yield photos with one plate, cut so that it fills so much of the width."""
    for photo in photos:
        if len(photo.truth) != 1:
            continue
        x1, y1, x2, y2 = photo.truth[0]
        height, width = photo.image_hw
        new_w = (x2 - x1) / fill
        new_h = max(new_w * 0.75, (y2 - y1) / min(fill, 0.98))
        if x2 - x1 < FILL_FROM_PX or new_w > width or new_h > height:
            continue
        left = int(np.clip((x1 + x2 - new_w) / 2, 0, width - new_w))
        top = int(np.clip((y1 + y2 - new_h) / 2, 0, height - new_h))
        cut = pillow(photo).crop((left, top, int(left + new_w), int(top + new_h)))
        truth = photo.truth - np.array([left, top] * 2)
        yield encoded(cut, truth.clip(0, [cut.width, cut.height] * 2), quality=94)


def turned(photos: Sequence[LabelledPhoto], quarters: int) -> Iterator[Laid]:
    """Yield photos with a plate, turned to the left."""
    for photo in photos:
        if not len(photo.truth):
            continue
        image = PillowImage.fromarray(np.rot90(np.asarray(pillow(photo)), quarters))
        yield encoded(image, turned_photo(photo, quarters).truth, quality=94)


# What is measured


def measure_frames(photos: Sequence[LabelledPhoto], detector: OnnxDetector) -> Any:
    """Return for each layout what is hidden in frames and in their cells one by one."""
    table = {}
    for name, (columns, rows) in LAYOUTS.items():
        each = columns * rows
        used = photos[: min(len(photos) // each, MOST_FRAMES[name]) * each]
        alone = find(one_by_one(used), detector)
        frames = find(side_by_side(used, columns=columns, rows=rows), detector)
        large = alone.height_px >= SMALL_PX
        table[name] = {
            "frames": frames.figures(),
            "one by one": alone.figures(),
            "share of one by one": round(float(frames.hidden.sum() / alone.hidden.sum()), 4),
            f"share of one by one, {SMALL_PX:g} px and more": round(
                float(frames.hidden[large].sum() / alone.hidden[large].sum()), 4
            ),
            "false boxes a look": round(frames.false_boxes / frames.looks, 4),
            "false boxes a cell": round(frames.false_boxes / frames.photos / columns / rows, 4),
        }
    return table


def measure_fill(photos: Sequence[LabelledPhoto], detector: OnnxDetector) -> Any:
    """Return what is hidden where the plate fills the photo, with one look and by default."""
    return {
        f"{fill:.0%}": {
            effort: find(
                islice(cut_to_the_plate(photos, fill), MOST_CUT), detector, effort=effort
            ).figures()
            for effort in ("fast", "default")
        }
        for fill in FILLS
    }


def measure_turned(photos: Sequence[LabelledPhoto], detector: OnnxDetector) -> Any:
    """Return what is hidden of turned photos, by default and with the effort thorough."""
    return {
        str(degrees): {
            effort: find(
                islice(turned(photos, quarters), MOST_TURNED), detector, effort=effort
            ).figures()
            for effort in ("default", "thorough")
        }
        for degrees, quarters in TURNS.items()
    }


def measure_effort(photos: Sequence[LabelledPhoto], detector: OnnxDetector) -> Any:
    """Return what each effort hides of the photos that have a plate below 1:60."""
    far = [
        photo
        for photo in photos
        if (photo.truth[:, 3] - photo.truth[:, 1] < FAR_RATIO * photo.image_hw[0]).any()
    ]
    return {
        effort: find(as_they_are(far), detector, effort=effort).figures()
        for effort in get_args(Effort)
    }


def measure_cost(photos: Sequence[LabelledPhoto], detector: OnnxDetector) -> Any:
    """Return what the smallest plate costs on large frames, in times of one look."""
    columns, rows = LAYOUTS["8 x 4"]
    frames = list(side_by_side(photos[: COST_FRAMES * columns * rows], columns=columns, rows=rows))
    find(frames[:1], detector, effort="fast")  # to warm up
    once = find(frames, detector, effort="fast")
    table = {"one look": once.figures() | {"times one look": 1.0}}
    for px in COSTS_PX:
        found = find(frames, detector, smallest_plate_px=px)
        times = round(found.seconds / once.seconds, 1)
        table[f"{px:g} px"] = found.figures() | {"times one look": times}
    return table


def measure_engines(photos: Sequence[LabelledPhoto], _: OnnxDetector) -> Any:
    """Return what each installed engine hides of the split."""
    table = {}
    for engine in get_args(Engine):
        if engine == "auto":
            continue
        try:
            detector = OnnxDetector.shipped(engine=engine)
        except ModelError:
            continue  # not installed
        table[detector.runs_on] = find(as_they_are(photos), detector).figures()
    return table


PIECES = {
    "frames": measure_frames,
    "fill": measure_fill,
    "turned": measure_turned,
    "effort": measure_effort,
    "cost": measure_cost,
    "engines": measure_engines,
}
SHUFFLED = {"frames", "cost", "fill", "turned"}  # the split is in the order of its sets


def main() -> None:
    """Read the command line, measure, and write the figures."""
    parser = argparse.ArgumentParser(description="Measure what the looks find and cost.")
    parser.add_argument("--data", type=Path, required=True, help="data.yaml of a YOLO data set")
    parser.add_argument("--overlay", type=Path, help="corrections of labels")
    parser.add_argument("--split", default="val")
    parser.add_argument("--only", nargs="+", choices=list(PIECES), default=list(PIECES))
    parser.add_argument("--photos", type=int, help="at most so many, for a quick try")
    parser.add_argument("--engine", choices=get_args(Engine), default="onnxruntime")
    parser.add_argument("--threads", type=int, help="of one look; all cores by default")
    parser.add_argument("--model", type=Path, default=shipped_model())
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    corrections = read_corrections(given.overlay)
    photos = [
        replace(photo, truth=corrected_photo(photo, corrections).truth)
        for photo in read_split(given.data, given.split)
    ][: given.photos]
    shuffled = [photo for photo in photos if len(photo.truth)]
    order = np.random.default_rng(1).permutation(len(shuffled))
    shuffled = [shuffled[index] for index in order]
    detector = OnnxDetector(given.model, engine=given.engine, threads=given.threads)
    results = json.loads(given.results.read_text()) if given.results.exists() else {}
    for piece in given.only:
        measured = PIECES[piece](shuffled if piece in SHUFFLED else photos, detector)
        results[piece] = {
            "machine": machine(),
            "engine": detector.runs_on,
            "split": given.split,
            "figures": measured,
        }
        given.results.write_text(json.dumps(results, indent=2) + "\n")
        print(json.dumps({piece: results[piece]}, indent=2), flush=True)


if __name__ == "__main__":
    main()
