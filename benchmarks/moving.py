"""Moving clips of photos with labels: in how many frames is each plate hidden, and what beside it?

    python -m benchmarks.moving --data DATA.yaml --overlay datasets/corrections/plates.jsonl \
        --split val --clips 12 --mosaics 12

A window pans and zooms over a photo, with motion blur and H.264; the labels move with it, so they
are exact in every frame. Each clip is blurred in three ways: every frame by itself, followed from
frame to frame, and as `plateblur video` does it, which looks closer where a plate should be.
Photos of at least 1200 px width are few, and of one city. So there are clips of mosaics as well:
frames of 2 x 2 smaller street photos, whose plates are further away.
Nothing of the photos gets into the results. The split test is for reporting alone.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.any_way import EDGES
from benchmarks.looks import Laid, as_they_are, side_by_side
from benchmarks.machine import machine
from plateblur.blur import SOLID_GREY, hidden_bounds
from plateblur.detector import OnnxDetector
from plateblur.photo import decode
from plateblur.sets.corrections import read_corrections
from plateblur.sets.split import LabelledPhoto, corrected_photo, read_split
from plateblur.tracks import STILL, TRACK_FLOOR, Frames, hidden_boxes
from plateblur.types import BlurOptions, Boxes, Image
from plateblur.video import blur_clip
from plateblur.video.looking import camera_step

RESULTS = Path(__file__).parent / "results" / "moving.json"
# Source of what follows: ../shared/tools/moving.py, which lays such clips out and scores them too.
WIDTH_PX, SMALLEST_WIDTH_PX = 960, 1200
RATE, FRAMES = 25, 50
ZOOM = (0.45, 0.95)  # of the photo that is in the window, at the beginning and at the end
BLUR_PX = 14  # sideways, at most
LEVELS, HIDDEN, FEWEST_VISIBLE = 12, 0.99, 0.6
SEED = 3
STREETS = "oi-google1800"  # the set whose photos mosaics are made of: streets of the whole world
COLUMNS = ROWS = 2  # of a mosaic
OPTIONS = BlurOptions(method="solid")

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Clip:
    """A clip and where the plates are.

    Attributes:
        data: as encoded.
        plates: (N, 4) pixels, of each frame.
    """

    data: bytes
    plates: list[Boxes]


def lay(photo: Laid) -> Clip:
    """Return a clip that pans and zooms over a photo."""
    image = decode(photo.data).pixels
    height, width = image.shape[:2]
    rows = round(WIDTH_PX * height / width) // 2 * 2
    out, plates = io.BytesIO(), []
    with av.open(out, "w", format="mp4") as clip:
        stream: Any = clip.add_stream(
            "libx264", rate=RATE, options={"crf": "23", "preset": "veryfast"}
        )
        stream.width, stream.height, stream.pix_fmt = WIDTH_PX, rows, "yuv420p"
        for number in range(FRAMES):
            share = ZOOM[0] + (ZOOM[1] - ZOOM[0]) * number / (FRAMES - 1)
            wide, high, scale = width * share, height * share, WIDTH_PX / (width * share)
            x = float(np.clip((width - wide) * (0.5 + 0.5 * np.sin(number / 9)), 0, width - wide))
            y = float(
                np.clip((height - high) * (0.5 + 0.5 * np.cos(number / 11)), 0, height - high)
            )
            move = np.array([[scale, 0, -x * scale], [0, scale, -y * scale]], np.float32)
            shown = cv2.warpAffine(image, move, (WIDTH_PX, rows), flags=cv2.INTER_AREA)
            length = int(abs(BLUR_PX * np.sin(number / 6)))
            if length > 1:
                shown = cv2.blur(shown, (length, 1))
            frame = av.VideoFrame.from_ndarray(np.asarray(shown, np.uint8), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            clip.mux(stream.encode(frame))
            plates.append(_seen((photo.truth - [x, y, x, y]) * scale, (rows, WIDTH_PX)))
        clip.mux(stream.encode(None))
    return Clip(out.getvalue(), plates)


def _seen(boxes: NDArray[np.float64], image_hw: tuple[int, int]) -> Boxes:
    """Return the boxes of which enough is in the frame, clipped to it."""
    inside = boxes.clip(0, [image_hw[1], image_hw[0]] * 2)
    whole, left = ((each[:, 2:] - each[:, :2]).prod(axis=1) for each in (boxes, inside))
    return np.asarray(inside[left > FEWEST_VISIBLE * whole], np.float32)


def images_of(data: bytes) -> list[Image]:
    """Return the frames of a clip."""
    with av.open(io.BytesIO(data), "r") as clip:
        return [
            frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)
            for frame in clip.decode(video=0)
        ]


def ways(clip: Clip, detector: OnnxDetector) -> dict[str, list[tuple[Mask, Mask]]]:
    """Return by way, for each frame, which pixels are hidden, and which of these were changed."""
    images = images_of(clip.data)
    found = [detector.detect(image, min_confidence=TRACK_FLOOR) for image in images]
    grey = [np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8) for image in images]
    steps = [STILL, *(camera_step(a, b) for a, b in itertools.pairwise(grey))]
    times_s = [number / RATE for number in range(len(images))]
    followed, _ = hidden_boxes(Frames(found, times_s, steps), min_confidence=OPTIONS.min_confidence)
    out = io.BytesIO()
    blur_clip(io.BytesIO(clip.data), out, detector, OPTIONS)
    alone = [each.at_least(OPTIONS.min_confidence).xyxy for each in found]
    return {
        "each frame by itself": [(mask, mask) for mask in _masks(alone, images)],
        "followed": [(mask, mask) for mask in _masks(followed, images)],
        "plateblur video": [
            (is_grey, is_grey & (np.abs(after.astype(int) - before).max(axis=2) > LEVELS))
            for before, after in zip(images, images_of(out.getvalue()), strict=True)
            for is_grey in [np.abs(after.astype(int) - SOLID_GREY).max(axis=2) <= LEVELS]
        ],
    }


def _masks(boxes: Iterable[Boxes], images: Sequence[Image]) -> Iterator[Mask]:
    for each, image in zip(boxes, images, strict=True):
        mask = np.zeros(image.shape[:2], np.bool_)
        for x1, y1, x2, y2 in hidden_bounds(each, image_hw=mask.shape, margin=OPTIONS.margin):
            mask[y1:y2, x1:x2] = True
        yield mask


def chosen_of(
    photos: Sequence[LabelledPhoto], *, clips: int, mosaics: int
) -> dict[str, Iterator[Laid]]:
    """Return by kind of clip the photos that are laid, chosen at random."""
    labelled = [photo for photo in photos if len(photo.truth)]
    wide = _shuffled([photo for photo in labelled if photo.image_hw[1] >= SMALLEST_WIDTH_PX])
    streets = _shuffled([photo for photo in labelled if photo.group.get("set") == STREETS])
    return {
        "photos": as_they_are(wide[:clips]),
        "mosaics": side_by_side(streets[: mosaics * COLUMNS * ROWS], columns=COLUMNS, rows=ROWS),
    }


def _shuffled(photos: Sequence[LabelledPhoto]) -> list[LabelledPhoto]:
    order = np.random.default_rng(SEED).permutation(len(photos))
    return [photos[place] for place in order]


def measure(photos: Iterable[Laid], detector: OnnxDetector) -> dict[str, Any]:
    """Return by way how many plates in frames are hidden, and the share of scenery beside them."""
    counts: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(lambda: [0, 0]))
    beside: dict[str, list[float]] = defaultdict(list)
    clips = 0
    for clips, photo in enumerate(photos, start=1):
        print(f"clip {clips}", flush=True)
        clip = lay(photo)
        for way, frames in ways(clip, detector).items():
            for (hidden, changed), plates in zip(frames, clip.plates, strict=True):
                scenery = changed.copy()
                for box in plates:
                    x1, y1 = np.floor(box[:2]).astype(int)
                    x2, y2 = np.ceil(box[2:]).astype(int)
                    ratio = float(box[3] - box[1]) / len(hidden)
                    name = next(name for name, lower in EDGES.items() if ratio >= lower)
                    counts[way][name][0] += 1
                    counts[way][name][1] += bool(hidden[y1:y2, x1:x2].mean() >= HIDDEN)
                    scenery[y1:y2, x1:x2] = False
                beside[way].append(float(scenery.mean()))
    return {"clips": clips, "frames each": FRAMES} | {
        way: {
            **{
                name: {"plates in frames": n, "hidden": k, "share": round(k / n, 4)}
                for name in EDGES
                if name in counts[way]
                for n, k in [counts[way][name]]
            },
            "scenery hidden beside plates, share of a frame": round(float(np.mean(shares)), 5),
        }
        for way, shares in beside.items()
    }


def main() -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="data.yaml of a YOLO data set")
    parser.add_argument("--overlay", type=Path, required=True, help="corrections of labels")
    parser.add_argument("--split", choices=["val", "test"], default="val")
    parser.add_argument("--clips", type=int, default=12, help="of photos; 0 leaves their figures")
    parser.add_argument(
        "--mosaics", type=int, default=12, help="of mosaics; 0 leaves their figures"
    )
    given = parser.parse_args()
    corrections = read_corrections(given.overlay)
    photos = [corrected_photo(photo, corrections) for photo in read_split(given.data, given.split)]
    detector = OnnxDetector.shipped()
    kinds = chosen_of(photos, clips=given.clips, mosaics=given.mosaics)
    known = json.loads(RESULTS.read_text())["figures"] if RESULTS.exists() else {}
    for kind, laid in kinds.items():
        figures = measure(laid, detector)
        if not figures["clips"]:
            continue
        print(kind, json.dumps(figures, indent=2), flush=True)
        known[given.split] = known.get(given.split, {}) | {kind: figures}
        written = {"machine": machine(), "figures": known}
        RESULTS.write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
