"""Plates hidden in equirectangular panoramas, by views and by looking at the panorama as it is.

    python -m benchmarks.panoramas --data DATA.yaml --split val

Panoramas are made by projecting labelled photos onto a sphere: in rings at several heights, some
of them steep, some across the seam, one over the nadir. So each plate's outline is known exactly.
A photo keeps its pixel size where it fits, so that what is found in it alone can be found there.
Photos stay in memory and out of the results, which go into `benchmarks/results/panoramas.json`.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from benchmarks.machine import machine
from plateblur.detector import OnnxDetector
from plateblur.metadata import RDF
from plateblur.outlines import Region, box_regions
from plateblur.panorama import find_on_panorama, outline_regions
from plateblur.photo import decode
from plateblur.pipeline import blur_photo
from plateblur.sets.split import LabelledPhoto, read_split
from plateblur.sphere import Panorama
from plateblur.types import COUNT_FLOOR, BlurOptions, Detections, Image

RESULTS = Path(__file__).parent / "results" / "panoramas.json"
MARGIN, MIN_CONFIDENCE = BlurOptions().margin, BlurOptions().min_confidence
PEAK_WIDTH_PX = 14_142  # 100 megapixels
# Usual sizes of 360 degree cameras, and how many panoramas of each.
COUNTS = {4096: 4, 7680: 4, 11_000: 2}
WIDEST_PHOTO = math.radians(48)  # wider photos are made smaller, so that rings don't overlap
# (pitch, photos in the ring), degrees: street level and below; and the nadir with slopes around.
LAYOUTS = (((-4, 6), (-54, 4), (50, 3)), ((-28, 6), (-84, 1), (28, 5)))
BANDS = {"within 20": (0, 20), "20 to 45": (20, 45), "45 to 70": (45, 70), "beyond 70": (70, 90)}
GRID = (np.arange(48) + 0.5) / 48  # of points in a plate, across and down
FALSE_SHARE = 0.1  # of a region's pixels on any label, below which it is a false box


@dataclass(frozen=True)
class Plate:
    """One labelled plate on a panorama.

    Attributes:
        points: (P, 2) points spread over it, pixels of the panorama.
        latitude: of its middle, degrees.
        height_px: in the photo as it was laid.
        photo: number of the photo it is in.
        in_photo: its box there, `xyxy`, pixels of the photo as it was laid.
    """

    points: NDArray[np.float64]
    latitude: float
    height_px: float
    photo: int
    in_photo: tuple[float, ...]


@dataclass(frozen=True)
class Scene:
    """A panorama with its plates, and the photos that it was made of."""

    image: Image
    plates: list[Plate]
    photos: list[tuple[Image, NDArray[np.float64]]]
    labels: NDArray[np.bool_]


def axes_of(yaw: float, pitch: float, roll: float) -> NDArray[np.float64]:
    """Return right, down and ahead of a camera as (3, 3) rays."""
    cy, sy, cp, sp = math.cos(yaw), math.sin(yaw), math.cos(pitch), math.sin(pitch)
    right, ahead = np.array([cy, 0, -sy]), np.array([cp * sy, -sp, cp * cy])
    down = np.cross(ahead, right)
    cr, sr = math.cos(roll), math.sin(roll)
    return np.array([right * cr + down * sr, down * cr - right * sr, ahead])


def scenes(
    photos: Sequence[LabelledPhoto], *, width: int, count: int, seed: int
) -> Iterator[Scene]:
    """Yield `count` panoramas of `width` pixels."""
    rng = np.random.default_rng(seed)
    order = [photos[i] for i in rng.permutation(len(photos)) if len(photos[i].truth)]
    at = 0
    for number in range(count):
        layout = LAYOUTS[number % len(LAYOUTS)]
        chosen = sum(in_ring for _, in_ring in layout)
        yield scene(order[at : at + chosen], layout, width=width, rng=rng)
        at += chosen


def scene(
    photos: Sequence[LabelledPhoto],
    layout: Sequence[tuple[int, int]],
    *,
    width: int,
    rng: np.random.Generator,
) -> Scene:
    """Return one panorama of photos."""
    height = width // 2
    panorama = Panorama((height, width), (width, height))
    rows = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    sky, ground = np.array([150, 175, 205], np.float32), np.array([95, 92, 88], np.float32)
    soft = (sky + (ground - sky) * rows).astype(np.uint8)
    image = np.ascontiguousarray(np.broadcast_to(soft, (height, width, 3)))
    owner = np.zeros((height, width), np.uint8)
    places = [
        (math.radians(pitch + rng.uniform(-4, 4)), 2 * math.pi * (i + rng.uniform(0, 0.15)) / n)
        for pitch, n in layout
        for i in range(n)
    ]
    turn = rng.uniform(0, 2 * math.pi)
    plates: list[tuple[int, NDArray[np.float64], NDArray[np.float64], tuple[float, ...]]] = []
    laid = []
    for number, (photo, (pitch, yaw)) in enumerate(zip(photos, places, strict=False), 1):
        picture, truth = decode(photo.path.read_bytes()).pixels, photo.truth.astype(np.float64)
        scale = min(1.0, panorama.focal_px * 2 * math.tan(WIDEST_PHOTO / 2) / max(picture.shape))
        small_wh = (round(picture.shape[1] * scale), round(picture.shape[0] * scale))
        small = cv2.resize(picture, small_wh, interpolation=cv2.INTER_AREA).astype(np.uint8)
        laid.append((small, truth * scale))
        axes = axes_of(yaw + turn, pitch, math.radians(rng.uniform(-6, 6)))
        lay(image, owner, small, axes, panorama, number)
        for x1, y1, x2, y2 in truth * scale:
            grid = np.stack(np.meshgrid(x1 + (x2 - x1) * GRID, y1 + (y2 - y1) * GRID), axis=-1)
            flat = grid.reshape(-1, 2) - [small_wh[0] / 2, small_wh[1] / 2]
            rays = np.column_stack([flat, np.full(len(flat), panorama.focal_px)]) @ axes
            plates.append((number, panorama.points(rays), rays, (x1, y1, x2, y2)))
    outlines = [np.array([r[0], r[len(GRID) - 1], r[-1], r[-len(GRID)]]) for _, _, r, _ in plates]
    corners = panorama.points(np.array(outlines)).astype(np.float32)
    labels = hidden_of(outline_regions(corners, panorama, margin=0.0), (height, width))
    known = []
    for number, points, rays, box in plates:
        x, y = points.astype(np.int64).T
        x, y = x % width, y.clip(0, height - 1)
        if (owner[y, x] == number).all():
            ray = rays.mean(axis=0)
            latitude = math.degrees(math.asin(-ray[1] / float(np.linalg.norm(ray))))
            known.append(Plate(np.column_stack([x, y]), latitude, box[3] - box[1], number - 1, box))
    return Scene(image, known, laid, labels)


def lay(
    image: Image,
    owner: NDArray[np.uint8],
    photo: Image,
    axes: NDArray[np.float64],
    panorama: Panorama,
    number: int,
) -> None:
    """Project `photo` onto the panorama, in place; smaller pixels of it are averaged there."""
    height, width = owner.shape
    rows_at_once = 256
    longitude = ((np.arange(width, dtype=np.float32) + 0.5) / width - 0.5) * 2 * np.float32(math.pi)
    for top in range(0, height, rows_at_once):
        rows = np.arange(top, min(height, top + rows_at_once), dtype=np.float32)
        latitude = (0.5 - (rows + 0.5) / height) * np.float32(math.pi)
        level, up = np.cos(latitude)[:, None], np.sin(latitude)[:, None]
        seen = [
            level * (a[0] * np.sin(longitude) + a[2] * np.cos(longitude)).astype(np.float32)[None]
            - np.float32(a[1]) * up
            for a in axes
        ]
        ahead = np.where(seen[2] > 0.1, seen[2], np.inf)
        u = seen[0] / ahead * np.float32(panorama.focal_px) + np.float32(photo.shape[1] / 2)
        v = seen[1] / ahead * np.float32(panorama.focal_px) + np.float32(photo.shape[0] / 2)
        inside = (u >= 0) & (v >= 0) & (u < photo.shape[1]) & (v < photo.shape[0])
        inside &= np.isfinite(ahead)
        if not inside.any():
            continue
        picture = cv2.remap(
            photo, u - 0.5, v - 0.5, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        image[top : top + len(rows)][inside] = picture[inside]
        owner[top : top + len(rows)][inside] = number


def hidden_of(regions: Sequence[Region], image_hw: tuple[int, int]) -> NDArray[np.bool_]:
    """Return which pixels the regions hide, (H, W)."""
    hidden = np.zeros(image_hw, np.bool_)
    for region in regions:
        x1, y1, x2, y2 = region.bounds
        hidden[y1:y2, x1:x2] |= region.mask
    return hidden


def regions_of(found: Detections, panorama: Panorama) -> list[list[Region]]:
    """Return the regions of each detection that is sure enough."""
    sure = found.at_least(MIN_CONFIDENCE)
    if sure.corners is None:
        return [
            box_regions(box[None], image_hw=panorama.image_hw, margin=MARGIN) for box in sure.xyxy
        ]
    return [outline_regions(one[None], panorama, margin=MARGIN) for one in sure.corners]


Way = Callable[[Image, Panorama, OnnxDetector], Detections]


def flat(image: Image, panorama: Panorama, detector: OnnxDetector) -> Detections:
    """One look at the panorama as it is."""
    return detector.detect(image, min_confidence=COUNT_FLOOR, effort="fast")


def tiles(image: Image, panorama: Panorama, detector: OnnxDetector) -> Detections:
    """Looks that fit the panorama's size, as at any photo."""
    return detector.detect(image, min_confidence=COUNT_FLOOR)


def views(image: Image, panorama: Panorama, detector: OnnxDetector) -> Detections:
    """Look in views."""
    return find_on_panorama(image, panorama, detector, min_confidence=COUNT_FLOOR)


WAYS: dict[str, Way] = {"one flat look": flat, "flat tiles": tiles, "views": views}


def tally(scene: Scene, found: Detections, panorama: Panorama) -> list[dict[str, float]]:
    """Return for each plate what its latitude, its height and its hidden share are."""
    hidden = hidden_of([r for one in regions_of(found, panorama) for r in one], panorama.image_hw)
    return [
        {
            "latitude": abs(plate.latitude),
            "height_px": plate.height_px,
            "covered": float(hidden[plate.points[:, 1], plate.points[:, 0]].mean()),
        }
        for plate in scene.plates
    ]


def is_false(labels: NDArray[np.bool_], regions: Sequence[Region]) -> bool:
    """Return whether a detection is on no label; parts beyond the image are ignored."""
    on_label = pixels = 0
    for region in regions:
        x1, y1, x2, y2 = region.bounds
        on_label += int((labels[y1:y2, x1:x2] & region.mask).sum())
        pixels += int(region.mask.sum())
    return on_label < FALSE_SHARE * pixels


def alone(scene: Scene, detector: OnnxDetector) -> tuple[list[float], int]:
    """Return the hidden share of each plate where its photo is looked at alone, and false boxes."""
    shares, false, hidden = [], 0, {}
    for number in sorted({plate.photo for plate in scene.plates}):
        picture, truth = scene.photos[number]
        found = detector.detect(picture, min_confidence=MIN_CONFIDENCE)
        each = [
            box_regions(box[None], image_hw=picture.shape[:2], margin=MARGIN) for box in found.xyxy
        ]
        hidden[number] = hidden_of([one for regions in each for one in regions], picture.shape[:2])
        labels = box_regions(truth.astype(np.float32), image_hw=picture.shape[:2], margin=0.0)
        false += sum(is_false(hidden_of(labels, picture.shape[:2]), regions) for regions in each)
    for plate in scene.plates:
        picture = scene.photos[plate.photo][0]
        x1, y1, x2, y2 = plate.in_photo
        x = (x1 + (x2 - x1) * GRID).astype(int).clip(0, picture.shape[1] - 1)
        y = (y1 + (y2 - y1) * GRID).astype(int).clip(0, picture.shape[0] - 1)
        shares.append(float(hidden[plate.photo][np.ix_(y, x)].mean()))
    return shares, false


def covered99(rows: Sequence[dict[str, float]]) -> dict[str, float | int]:
    """Return how many plates there are, and the share of which at least 99 % is hidden."""
    share = np.mean([row["covered"] >= 0.99 for row in rows]) if rows else math.nan
    return {"plates": len(rows), "covered99": round(float(share), 4)}


def summary(rows: Sequence[dict[str, float]]) -> dict[str, dict[str, float | int]]:
    """Return the share of plates hidden: of all, of those of 12 px and more, and by latitude."""
    table = {"all": covered99(rows)}
    table["12 px and more"] = covered99([row for row in rows if row["height_px"] >= 12])
    for name, (low, high) in BANDS.items():
        inside = [row for row in rows if low <= row["latitude"] < high]
        if inside:
            table[f"{name} degrees of the horizon"] = covered99(inside)
    return table


def peak() -> dict[str, float]:
    """Return what one large panorama takes, measured in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.panoramas", "--peak"],
        cwd=RESULTS.parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    return {str(name): value for name, value in json.loads(done.stdout).items()}


def measure_peak() -> dict[str, float]:
    """Return time and memory of the whole way, bytes to bytes, of a drawn panorama of 100 MP."""
    detector = OnnxDetector.shipped()
    data = drawn_panorama(PEAK_WIDTH_PX)
    detector.detect(np.zeros((1080, 1920, 3), np.uint8), min_confidence=COUNT_FLOOR)
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts from here
    started = time.process_time()
    blurred = blur_photo(data, detector, max_pixels=2 * PEAK_WIDTH_PX**2)
    seconds = time.process_time() - started
    pixels = PEAK_WIDTH_PX * (PEAK_WIDTH_PX // 2)
    searched = blurred.detections.searched
    return {
        "megapixels": round(pixels / 1e6, 1),
        "looks": searched.looks if searched else 0,
        "CPU seconds": round(seconds, 1),
        "peak MB above the decoded photo": round((resident("VmHWM") - before - 3 * pixels) / 1e6),
    }


def resident(name: str) -> int:
    """Return a line of this process's status, bytes."""
    status = Path("/proc/self/status").read_text()
    return (
        int(next(line.split()[1] for line in status.splitlines() if line.startswith(name))) * 1024
    )


def drawn_panorama(width: int) -> bytes:
    """Return a JPEG with a panorama's tags: soft colours, and some plates without a vehicle."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(60, 200, (width // 64, width // 32, 3), dtype=np.uint8)
    image = cv2.resize(coarse, (width, width // 2), interpolation=cv2.INTER_CUBIC)
    for x, y in rng.integers(0, [width - 130, width // 2 - 40], (30, 2)).tolist():
        cv2.rectangle(image, (x, y), (x + 120, y + 30), (240, 240, 240), cv2.FILLED)
        cv2.putText(image, "AB 123 CD", (x + 5, y + 23), 0, 0.7, (10, 10, 10), 2)
    gpano = "http://ns.google.com/photos/1.0/panorama/"
    xmp = f"<rdf:Description xmlns:rdf='{RDF}' xmlns:GPano='{gpano}' "
    xmp += "GPano:ProjectionType='equirectangular'/>"
    out = io.BytesIO()
    PillowImage.fromarray(image).save(out, "JPEG", quality=90, xmp=xmp.encode())
    return out.getvalue()


def measure(width: int, given: argparse.Namespace, detector: OnnxDetector) -> dict[str, object]:
    """Return the figures of panoramas of one width."""
    count = COUNTS[width]
    photos = read_split(given.data, given.split)
    panorama = Panorama((width // 2, width), (width, width // 2))
    names = [*WAYS, "photos alone"]
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    false, seconds = dict.fromkeys(names, 0), dict.fromkeys(WAYS, 0.0)
    looks = 0
    for one in scenes(photos, width=width, count=count, seed=width):
        for name, way in WAYS.items():
            started = time.process_time()
            found = way(one.image, panorama, detector)
            seconds[name] += time.process_time() - started
            if name == "views" and found.searched:
                looks += found.searched.looks
            rows[name] += tally(one, found, panorama)
            false[name] += sum(is_false(one.labels, r) for r in regions_of(found, panorama))
        shares, false_alone = alone(one, detector)
        false["photos alone"] += false_alone
        at = len(rows["photos alone"])
        rows["photos alone"] += [
            {**row, "covered": share} for row, share in zip(rows["views"][at:], shares, strict=True)
        ]
    return {
        "panoramas": count,
        "looks a panorama": round(looks / count),
        "hidden": {name: summary(of_way) for name, of_way in rows.items()},
        "false boxes a panorama": {n: round(c / count, 2) for n, c in false.items()},
        "CPU seconds a panorama": {n: round(s / count, 2) for n, s in seconds.items()},
    }


def main() -> None:
    """Read the command line, measure, and write the figures."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--data", type=Path, help="data.yaml of a YOLO data set")
    parser.add_argument("--split", default="val")
    parser.add_argument("--widths", type=int, nargs="*", choices=COUNTS, default=list(COUNTS))
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--peak", action="store_true", help="print time and memory of 100 MP")
    given = parser.parse_args()
    if given.peak:
        print(json.dumps(measure_peak()))
        return
    detector = OnnxDetector.shipped()
    table = {
        "machine": f"{machine()}, onnxruntime",
        "split": given.split,
        "100 MP": peak(),
        "by width": {str(width): measure(width, given, detector) for width in given.widths},
    }
    given.results.write_text(json.dumps(table, indent=2) + "\n")
    print(json.dumps(table, indent=2))


if __name__ == "__main__":
    main()
