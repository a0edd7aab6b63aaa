"""Which looks a photo gets, and how what they find becomes one list of boxes; pure NumPy.

The network takes any size of input, but the smaller a plate is in it, the more often it is missed.
So looks are planned from the photo's size and the smallest plate that is to be found:

- the whole photo, as far as it isn't shrunk too far;
- where it is, overlapping tiles that show the smallest plate at the height that the network needs,
  and where they are many, larger tiles in between, so that a plate of any size is whole in a tile;
- a small look at the whole photo, for plates that fill it: at the full size they are larger than
  anything that the network was trained on;
- where a second network for near plates belongs to the model, its look at the whole photo;
- with the effort "thorough", finer tiles, and the same looks at copies turned by quarter turns.
  What they find is added to what the other looks find, which stays.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from plateblur.boxes import Overlap, box_overlap, iou_matrix, keepers
from plateblur.types import SMALLEST_PLATE_PX, Boxes, Detections, Effort, Searched

# Source of the numbers: val split, benchmarks/looks.py and docs/explanation/detection.md.
SEEN_PX = 5.6  # height of a plate of 12 px in the input, when a 1080p photo is scaled to 896
LARGEST_INPUT = 1.25  # of the model's input size: how large an input may be before tiles are cut
LAYER_STEP = 4  # from the smallest plate of a layer of tiles to that of the next coarser look
LONGEST_PLATE = 5  # width : height; an EU plate has 4.7
SMALL_INPUT = 0.25  # of the model's input size: the look for plates that fill the photo
NEAR_INPUT = 0.4  # of the input size: the look of the network for near plates
NEAR_LOOK_FROM = (
    0.08  # of the photo's width or height; its narrower boxes go. benchmarks/any_way.py
)
SMALL_LOOK_FROM = 0.25  # of the photo's width or height; the small look's narrower boxes go
# Where a photo has to be cut into tiles, they show it so much larger than asked. Source: frames of
# 8 x 4 photos of val, in which plates of 7 to 12 px were missed at 1.5 (benchmarks/looks.py).
TILES_FINER = 1.75
ORDINARY_LOOKS = 2  # at a photo that needs no tiles: the whole, and the small one
THOROUGH_STEP = 2  # "thorough" looks for plates so many times smaller
NMS_IOU_THRESHOLD = 0.5  # plates lie in one plane and hardly overlap; a tighter one keeps doubles
NEAR_EDGE_PX = 2  # of the input: a box this near to a tile's edge counts as cut by it
COARSE_LESS = 0.1  # confidence that a coarse box must be ahead by, to be the one that stays
COARSE_UNDER = 0.5  # of the photo: above it the small look draws better boxes than a larger one
CUT_INSIDE = 0.5  # share of a cut box inside a better one, from which both are one plate


@dataclass(frozen=True, slots=True)
class Look:
    """One run of the model on a part of a photo.

    Attributes:
        part: left, top, right, bottom in pixels of the photo; right and bottom exclusive.
        input_size: longer side of that part in the model's input.
        turn: quarter turns to the left, of the part as it is shown to the model.
        narrowest: share of the photo's width or height that a box must reach to be kept.
    """

    part: tuple[int, int, int, int]
    input_size: int
    turn: int = 0
    narrowest: float = 0.0


@dataclass(frozen=True, slots=True)
class Plan:
    """The looks at one photo.

    Attributes:
        looks: in no order that matters.
        further: those that only "thorough" has, beside the ones of the default.
        smallest_plate_px: height of the smallest plate that they show as large as the network
            needs it, pixels of the photo; smaller ones are found by chance.
    """

    looks: tuple[Look, ...]
    smallest_plate_px: float
    further: tuple[Look, ...] = ()

    @property
    def searched(self) -> Searched:
        """How the photo is searched, as reported with the detections."""
        return Searched(len(self.looks) + len(self.further), round(self.smallest_plate_px, 1))


def plan_looks(
    image_hw: tuple[int, int],
    *,
    input_size: int,
    stride: int,
    smallest_plate_px: float = SMALLEST_PLATE_PX,
    effort: Effort = "default",
) -> Plan:
    """Return the looks at a photo.

    Args:
        image_hw: height and width of the upright photo, pixels.
        input_size: longer side of the input that the model was trained on, pixels.
        stride: the model's largest stride, pixels.
        smallest_plate_px: height of the smallest plate that is to be found, pixels.
        effort: "fast", one look whatever the size; "default"; or "thorough".

    Raises:
        ValueError: no such effort, a plate of less than 1 px, or a photo without pixels.
    """
    if effort not in ("fast", "default", "thorough"):
        raise ValueError(f"effort must be 'fast', 'default' or 'thorough', got {effort!r}")
    if not 1 <= smallest_plate_px < math.inf:
        raise ValueError(f"smallest_plate_px must be at least 1, got {smallest_plate_px}")
    height, width = image_hw
    if height < 1 or width < 1:
        raise ValueError(f"image_hw must be at least 1 x 1, got {height} x {width}")
    longest = max(height, width)
    if effort == "fast":
        look = Look((0, 0, width, height), input_size)
        return Plan((look,), longest * SEEN_PX / input_size)
    shape = {"input_size": input_size, "stride": stride}
    looks = _looks_of_turn(image_hw, 0, smallest_plate_px, **shape)
    further: list[Look] = []
    if effort == "thorough":
        finer_px = max(1.0, smallest_plate_px / THOROUGH_STEP)
        finer = _looks_of_turn(image_hw, 0, finer_px, **shape)
        further = [look for look in finer if look not in looks]
        for turn in (1, 2, 3):
            further += _looks_of_turn(image_hw, turn, smallest_plate_px, **shape)
    reached = min(
        max(look.part[2] - look.part[0], look.part[3] - look.part[1]) * SEEN_PX / look.input_size
        for look in (*looks, *further)
    )
    return Plan(tuple(looks), reached, tuple(further))


def near_look(image_hw: tuple[int, int], *, input_size: int, stride: int) -> Look:
    """Return the look of the network for near plates at a photo.

    Args:
        image_hw: height and width of the upright photo, pixels.
        input_size: longer side of the input that the network was trained on, pixels.
        stride: its largest stride, pixels.
    """
    whole = (0, 0, image_hw[1], image_hw[0])
    return Look(whole, _up(input_size * NEAR_INPUT, stride), narrowest=NEAR_LOOK_FROM)


def _looks_of_turn(
    image_hw: tuple[int, int], turn: int, smallest_px: float, *, input_size: int, stride: int
) -> list[Look]:
    """Return the looks at one turned copy: tiles from fine to coarse, the whole, the small one."""
    height, width = image_hw
    longest = max(height, width)
    largest_input = _up(input_size * LARGEST_INPUT, stride)
    looks: list[Look] = []
    plate_px = smallest_px
    if longest * SEEN_PX / plate_px > largest_input:
        plate_px /= TILES_FINER
    while longest * SEEN_PX / plate_px > largest_input:
        # What the next coarser look sees well must be larger than what two tiles could both cut.
        coarser_px = min(plate_px * LAYER_STEP, longest * SEEN_PX / input_size)
        overlap = 2 * LONGEST_PLATE * coarser_px
        longest_tile = largest_input * plate_px / SEEN_PX
        columns = _spans(width, longest_tile, overlap)
        rows = _spans(height, longest_tile, overlap)
        size = max(columns[0][1] - columns[0][0], rows[0][1] - rows[0][0])
        shown = min(largest_input, _up(size * SEEN_PX / plate_px, stride))
        looks += [
            Look((left, top, right, bottom), shown, turn)
            for (top, bottom), (left, right) in product(rows, columns)
        ]
        plate_px *= LAYER_STEP
    whole = (0, 0, width, height)
    shown = max(input_size, _up(longest * SEEN_PX / plate_px, stride))
    looks.append(Look(whole, shown, turn))
    looks.append(Look(whole, _up(input_size * SMALL_INPUT, stride), turn, SMALL_LOOK_FROM))
    return looks


def _up(size: float, stride: int) -> int:
    """Return the next multiple of the stride; a rounding error doesn't count as more."""
    return max(1, math.ceil(round(size / stride, 6))) * stride


def _spans(length: int, longest: float, overlap: float) -> list[tuple[int, int]]:
    """Return equal spans of at most `longest` that cover 0 to `length`, overlapping evenly.

    Neighbours share at least `overlap`, or half of a span where that is less. The last one ends
    with `length`.
    """
    if length <= longest:
        return [(0, length)]
    shared = min(overlap, longest / 2)
    count = math.ceil(round((length - shared) / (longest - shared), 6))
    span = math.ceil((length + (count - 1) * shared) / count)
    starts = [round(index * (length - span) / (count - 1)) for index in range(count)]
    return [(start, start + span) for start in starts]


@dataclass(frozen=True, slots=True)
class Seen:
    """What looks found.

    Attributes:
        xyxy: (N, 4) float32, pixels of the photo.
        confidence: (N,) float32.
        cut: (N,) bool, the box may go on beyond the edge of what its look saw.
        turn: (N,) int64, quarter turns of the copy in which it was found.
        shown_px: (N,) float32, height at which its look showed it, pixels of the input.
        scale: (N,) float32, of that look: pixels of the input per pixel of the photo.
        coarse: (N,) bool, found by the small look, and small enough for others to draw it better.
    """

    xyxy: Boxes
    confidence: NDArray[np.float32]
    cut: NDArray[np.bool_]
    turn: NDArray[np.int64]
    shown_px: NDArray[np.float32]
    scale: NDArray[np.float32]
    coarse: NDArray[np.bool_]


def seen_in_photo(
    look: Look, xyxy: Boxes, confidence: NDArray[np.float32], image_hw: tuple[int, int]
) -> Seen:
    """Return what one look found, in the photo.

    Args:
        look: of a plan.
        xyxy: (N, 4) float32, pixels of the look's part.
        confidence: (N,) float32.
        image_hw: height and width of the photo.
    """
    height, width = image_hw
    left, top, right, bottom = look.part
    in_photo = xyxy + np.array([left, top, left, top], np.float32)
    shares = (in_photo[:, 2:] - in_photo[:, :2]) / np.array([width, height], np.float32)
    kept = shares.max(axis=1, initial=0) >= look.narrowest
    in_photo = in_photo[kept]
    # An edge of the photo cuts the plate itself, so there a box is as whole as it can be.
    inner = np.array([left > 0, top > 0, right < width, bottom < height])
    scale = look.input_size / max(right - left, bottom - top)
    cut = (np.abs(in_photo - np.array(look.part, np.float32)) * scale < NEAR_EDGE_PX) & inner
    down = 1 if look.turn % 2 == 0 else 0
    return Seen(
        in_photo,
        confidence[kept],
        cut.any(axis=1),
        np.full(len(in_photo), look.turn, np.int64),
        (in_photo[:, 2 + down] - in_photo[:, down]) * np.float32(scale),
        np.full(len(in_photo), scale, np.float32),
        (shares.max(axis=1, initial=0)[kept] < COARSE_UNDER) & (look.narrowest > 0),
    )


def merged(seen: Sequence[Seen]) -> Seen:
    """Return the boxes of all looks, one a plate, most confident first.

    By the rule of `one_a_plate`; coarse boxes go first only where they are ahead by `COARSE_LESS`,
    because they may end inside of their plate.
    """
    names = [one.name for one in fields(Seen)]
    every = Seen(*(np.concatenate([getattr(each, name) for each in seen]) for name in names))
    kept, sure = one_a_plate(
        every.confidence,
        every.cut,
        box_overlap(every.xyxy, least=min(NMS_IOU_THRESHOLD, CUT_INSIDE)),
        handicap=COARSE_LESS * every.coarse,
    )
    every = replace(every, confidence=sure)
    return Seen(*(getattr(every, name)[kept] for name in names))


def added(xyxy: Boxes, confidence: NDArray[np.float32], to: Detections) -> Detections:
    """Return detections with those of further looks, so that nothing is shown that was hidden.

    Each detection stays, at least as confident as it was. One that a further box is on reaches over
    both. The other further boxes are plates of their own.

    Args:
        xyxy: (N, 4) float32, the further boxes.
        confidence: (N,) float32.
        to: the detections, without outlines.
    """
    joined_xyxy, joined = to.xyxy.copy(), to.confidence.copy()
    iou = iou_matrix(xyxy, to.xyxy)
    best = iou.argmax(axis=1) if len(to) else np.zeros(len(xyxy), np.int64)
    is_on = iou.max(axis=1, initial=0) > NMS_IOU_THRESHOLD
    np.minimum.at(joined_xyxy[:, :2], best[is_on], xyxy[is_on, :2])
    np.maximum.at(joined_xyxy[:, 2:], best[is_on], xyxy[is_on, 2:])
    np.maximum.at(joined, best[is_on], confidence[is_on])
    every = Detections(
        np.concatenate([joined_xyxy, xyxy[~is_on]]), np.concatenate([joined, confidence[~is_on]])
    )
    return every.take(np.argsort(-every.confidence, kind="stable"))


def new_or_surer(xyxy: Boxes, confidence: NDArray[np.float32], to: Detections) -> NDArray[np.bool_]:
    """Return which of the boxes, (N,) bool, are on no detection, or surer than the one they are on.

    Args:
        xyxy: (N, 4) float32.
        confidence: (N,) float32.
        to: the detections.
    """
    on = iou_matrix(xyxy, to.xyxy) > NMS_IOU_THRESHOLD
    as_sure = to.confidence[None] >= confidence[:, None]
    return np.asarray(~(on & as_sure).any(axis=1), np.bool_)


def one_a_plate(
    confidence: NDArray[np.float32],
    cut: NDArray[np.bool_],
    overlap: Overlap,
    *,
    handicap: float | NDArray[np.floating] = 0.0,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return which of all looks' boxes stay, most confident first, and all confidences.

    Whole boxes go before cut ones, then the more confident. A box gives way to one before it that
    it overlaps by more than `NMS_IOU_THRESHOLD`; a cut one also where at least `CUT_INSIDE` of it
    lies inside. The box that stays is as confident as the best that gave way to it, because both
    are sightings of one plate. Of two halves that no look saw whole both stay.

    Args:
        confidence: (N,) float32.
        cut: (N,) bool, the box may go on beyond the edge of what its look saw, or is loose.
        overlap: how the boxes overlap, in a flat photo or on the sphere.
        handicap: taken off the confidence where the order is made, (N,).

    Returns:
        (K,) int64 indices, and (N,) float32.
    """
    order = np.lexsort((handicap - confidence, cut)).astype(np.int64)
    keeper = keepers(
        order, overlap, iou_threshold=NMS_IOU_THRESHOLD, cut=cut, cut_inside=CUT_INSIDE
    )
    sure = confidence.copy()
    np.maximum.at(sure, keeper, confidence)
    kept = order[keeper[order] == order]
    return kept[np.argsort(-sure[kept], kind="stable")], sure
