"""Follow each plate through a clip, so that it stays hidden where the detector missed it; NumPy.

All frames are known before the first is blurred, so a track is filled in both directions: gaps
between two sightings are bridged, and each end is drawn out a little, to before the plate was first
found and after it was last found. How far is a matter of taste; more hides more scenery.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from plateblur.boxes import iou_matrix
from plateblur.types import Boxes, Detections

TRACK_FLOOR = 0.05  # confidence of what may go on with a track that was sure of its plate once
GAP_S = 1.5  # longer unseen than this, and it is taken for another plate
DRAW_OUT_S = 0.5  # before the first sighting and after the last: a pole, a turn, blur by motion
GROWTH_PER_S = 1.0  # of a box's size on each side, for each second away from the nearest sighting
WEAK_IOU = 0.2  # of an unsure box with where the plate should be; noise elsewhere starts nothing
REACH = 1.5  # of a box's longer side: how far a plate may be from where it should be
MAX_SIZE_CHANGE = 2.0  # of a plate's height from one sighting to the next
SPEED_SIGHTINGS = 4  # the last so many tell the speed; fewer shake, more lag in a bend


@dataclass(frozen=True, slots=True)
class Track:
    """The sightings of one plate.

    Attributes:
        frames: indices of the frames, rising.
        xyxy: (4,) float64 pixels, for each of `frames`.
        confidence: for each of `frames`.
    """

    frames: list[int] = field(default_factory=list)
    xyxy: list[NDArray[np.float64]] = field(default_factory=list)
    confidence: list[float] = field(default_factory=list)


def hidden_boxes(
    found: Sequence[Detections], times_s: Sequence[float], *, min_confidence: float
) -> tuple[list[Boxes], list[Track]]:
    """Return the boxes to hide in each frame, and the plates that were followed.

    What was found with enough confidence is always among them, where it was found.

    Args:
        found: of each frame of a clip, down to `TRACK_FLOOR` or lower.
        times_s: when each frame is shown, seconds, rising.
        min_confidence: a plate is hidden if it was found once with as much.

    Raises:
        ValueError: `found` and `times_s` differ in length, or time does not rise.
    """
    if len(found) != len(times_s):
        raise ValueError(f"expected a time for each of {len(found)} frames, got {len(times_s)}")
    if any(later <= earlier for earlier, later in itertools.pairwise(times_s)):
        raise ValueError("expected times that rise")
    hidden: list[list[NDArray[np.float64]]] = [[] for _ in found]
    tracks = [
        track
        for track in follow(found, times_s, min_confidence=min_confidence)
        if max(track.confidence) >= min_confidence
    ]
    for track in tracks:
        for frame, box in filled(track, times_s):
            hidden[frame].append(box)
    return [np.array(boxes, np.float32).reshape(-1, 4) for boxes in hidden], tracks


def follow(
    found: Sequence[Detections], times_s: Sequence[float], *, min_confidence: float
) -> list[Track]:
    """Return the tracks of all plates.

    Sure detections go on with the nearest track or begin one; unsure ones only go on with a track
    that they lie on. Source of the two rounds: Zhang et al., "ByteTrack" (ECCV 2022).

    Args:
        found: of each frame.
        times_s: of each frame.
        min_confidence: of a sure detection.
    """
    done: list[Track] = []
    live: list[Track] = []
    for frame, detections in enumerate(found):
        now_s = times_s[frame]
        done += [track for track in live if now_s - times_s[track.frames[-1]] > GAP_S]
        live = [track for track in live if now_s - times_s[track.frames[-1]] <= GAP_S]
        boxes = detections.xyxy.astype(np.float64)
        sure = detections.confidence >= min_confidence
        weak = ~sure & (detections.confidence >= TRACK_FLOOR)
        expected = np.array([_expected(track, now_s, times_s) for track in live]).reshape(-1, 4)
        pairs = _pairs(_distances(expected, boxes, sure))
        taken = {row for row, _ in pairs}
        left = np.array([row not in taken for row in range(len(live))], np.bool_)
        pairs += _pairs(np.where(left[:, None], _misfits(expected, boxes, weak), np.inf))
        matched = {column for _, column in pairs}
        for row, column in pairs:
            _add(live[row], frame, boxes[column], float(detections.confidence[column]))
        for column in np.flatnonzero(sure).tolist():
            if column not in matched:
                track = Track()
                _add(track, frame, boxes[column], float(detections.confidence[column]))
                live.append(track)
    return done + live


def filled(track: Track, times_s: Sequence[float]) -> list[tuple[int, NDArray[np.float64]]]:
    """Return a box for each frame from shortly before the first sighting to shortly after the last.

    Sightings stay as they are. In between the box moves evenly; beyond the ends it goes on at the
    speed that it had. The further from a sighting, the larger it is.

    Args:
        track: at least one sighting.
        times_s: of each frame.
    """
    times = np.array(times_s, np.float64)
    seen_s = times[track.frames]
    frames = np.flatnonzero((times >= seen_s[0] - DRAW_OUT_S) & (times <= seen_s[-1] + DRAW_OUT_S))
    sides = np.array(track.xyxy)
    at_s = times[frames]
    boxes = np.column_stack([np.interp(at_s, seen_s, sides[:, side]) for side in range(4)])
    for end, beyond in ((0, at_s - seen_s[0]), (-1, at_s - seen_s[-1])):
        outside = beyond < 0 if end == 0 else beyond > 0
        speed = np.tile(_speed(track, times_s, at_start=end == 0), 2)
        boxes[outside] += beyond[outside, None] * speed
    away_s = np.abs(at_s[:, None] - seen_s[None]).min(axis=1)
    grow = (boxes[:, 2:] - boxes[:, :2]) * (GROWTH_PER_S * away_s)[:, None]
    boxes += np.hstack([-grow, grow])
    return list(zip(frames.tolist(), boxes, strict=True))


def _add(track: Track, frame: int, box: NDArray[np.float64], confidence: float) -> None:
    track.frames.append(frame)
    track.xyxy.append(box)
    track.confidence.append(confidence)


def _expected(track: Track, now_s: float, times_s: Sequence[float]) -> NDArray[np.float64]:
    """Return where the plate of `track` should be now, (4,)."""
    past_s = now_s - times_s[track.frames[-1]]
    return track.xyxy[-1] + past_s * np.tile(_speed(track, times_s, at_start=False), 2)


def _speed(track: Track, times_s: Sequence[float], *, at_start: bool) -> NDArray[np.float64]:
    """Return how fast the middle of the plate moves at one end of its track, (2,) pixels a second.

    0 where it was seen once; the slope over `SPEED_SIGHTINGS` at most.
    """
    some = slice(0, SPEED_SIGHTINGS) if at_start else slice(-SPEED_SIGHTINGS, None)
    frames, boxes = track.frames[some], np.array(track.xyxy[some])
    if len(frames) < 2:
        return np.zeros(2)
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2
    passed_s = times_s[frames[-1]] - times_s[frames[0]]
    return np.asarray((middles[-1] - middles[0]) / passed_s, np.float64)


def _distances(
    expected: NDArray[np.float64], boxes: NDArray[np.float64], wanted: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return how far each box is from each expected one, in the longer side of that; inf if not it.

    By distance, because two boxes of a small, fast plate need not overlap.
    """
    middle, other = (expected[:, :2] + expected[:, 2:]) / 2, (boxes[:, :2] + boxes[:, 2:]) / 2
    size, other_size = expected[:, 2:] - expected[:, :2], boxes[:, 2:] - boxes[:, :2]
    apart = np.linalg.norm(middle[:, None] - other[None], axis=2)
    distances = apart / np.maximum(size.max(axis=1, initial=1.0), 1.0)[:, None]
    ratio = np.maximum(size[:, 1], 1.0)[:, None] / np.maximum(other_size[:, 1], 1.0)[None]
    alike = (ratio <= MAX_SIZE_CHANGE) & (ratio >= 1 / MAX_SIZE_CHANGE)
    return np.where(alike & wanted[None] & (distances <= REACH), distances, np.inf)


def _misfits(
    expected: NDArray[np.float64], boxes: NDArray[np.float64], wanted: NDArray[np.bool_]
) -> NDArray[np.float64]:
    overlap = iou_matrix(expected.astype(np.float32), boxes.astype(np.float32))
    return np.where(wanted[None] & (overlap >= WEAK_IOU), 1 - overlap, np.inf)


def _pairs(costs: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Return rows with their columns, the cheapest first, each at most once and none at inf."""
    costs = costs.copy()
    pairs = []
    while costs.size and np.isfinite(best := costs.min()):
        row, column = np.argwhere(costs == best)[0].tolist()
        pairs.append((row, column))
        costs[row], costs[:, column] = np.inf, np.inf
    return pairs
