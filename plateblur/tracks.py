"""Follow each plate through a clip, so that it stays hidden where the detector missed it; NumPy.

All frames are known before the first is blurred, so a track is filled in both directions: gaps
between two sightings are bridged, and each end is drawn out, to before the plate was first found
and after it was last found. How the camera moved from frame to frame is known too, so that a plate
that stands still in the street is where it was, however the camera shook meanwhile.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from plateblur.boxes import iou_matrix
from plateblur.types import Boxes, Detections

TRACK_FLOOR = 0.05  # confidence of what may go on with a track that was sure of its plate once
GAP_S = 2.5  # longer unseen than this, and it is taken for another plate
DRAW_OUT_S = 0.5  # before the first sighting and after the last: a pole, a turn, blur by motion
LOOK_OUT_S = 1.0  # as far beyond its ends a plate is looked for again, more closely
GROWTH_PER_S = 1.0  # of a box's size on each side, for each second away from the nearest sighting
WEAK_IOU = 0.2  # of an unsure box with where the plate should be; noise elsewhere starts nothing
REACH = 1.5  # of a box's longer side: how far a plate may be from where it should be
MAX_SIZE_CHANGE = 2.0  # of a plate's height from one sighting to the next
SPEED_SIGHTINGS = 4  # the last so many tell the speed; fewer shake, more lag in a bend
KEPT_SIGHTINGS = 12  # of a plate that is followed without an end; no box depends on more
STEADY_SIGHTINGS = 2  # on each side: a box that is smaller than its neighbours missed a part

Step = NDArray[np.float64]
"""(4,) a, b, x, y: what stood at (u, v) in the frame before stands at (a u - b v + x, b u + a v +
y) in this one."""

STILL: Step = np.array([1.0, 0.0, 0.0, 0.0])


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


@dataclass(frozen=True, slots=True)
class Frames:
    """What is known of the frames of a clip.

    Attributes:
        found: the plates in each, down to `TRACK_FLOOR` or lower.
        times_s: when each is shown, seconds, rising.
        steps: how the camera moved since the frame before; `STILL` for the first.
    """

    found: Sequence[Detections]
    times_s: Sequence[float]
    steps: Sequence[Step]

    def __post_init__(self) -> None:
        """Refuse what doesn't belong together."""
        if not len(self.found) == len(self.times_s) == len(self.steps):
            raise ValueError(
                f"expected a time and a step for each of {len(self.found)} frames, got "
                f"{len(self.times_s)} and {len(self.steps)}"
            )
        if any(later <= earlier for earlier, later in itertools.pairwise(self.times_s)):
            raise ValueError("expected times that rise")


def hidden_boxes(clip: Frames, *, min_confidence: float) -> tuple[list[Boxes], list[Track]]:
    """Return the boxes to hide in each frame, and the plates that were followed.

    What was found with enough confidence is always among them, where it was found.

    Args:
        clip: its frames.
        min_confidence: a plate is hidden if it was found once with as much.
    """
    hidden: list[list[NDArray[np.float64]]] = [[] for _ in clip.found]
    tracks = follow(clip, min_confidence=min_confidence)
    for track in tracks:
        for frame, box in boxes_of(track, clip, min_confidence=min_confidence):
            hidden[frame].append(box)
    return [np.array(boxes, np.float32).reshape(-1, 4) for boxes in hidden], tracks


def boxes_of(
    track: Track, clip: Frames, *, min_confidence: float
) -> list[tuple[int, NDArray[np.float64]]]:
    """Return the boxes that hide one plate, each with its frame; a frame may have several.

    Where it was found unsurely, often in part only, both that and its place between the sure
    sightings are hidden.
    """
    sure = _sure_part(track, min_confidence)
    return filled(track, clip) + (
        filled(sure, clip) if 0 < len(sure.frames) < len(track.frames) else []
    )


def _sure_part(track: Track, min_confidence: float) -> Track:
    """Return `track` with its sure sightings alone."""
    sure = [at for at, each in enumerate(track.confidence) if each >= min_confidence]
    return Track(
        frames=[track.frames[at] for at in sure],
        xyxy=[track.xyxy[at] for at in sure],
        confidence=[track.confidence[at] for at in sure],
    )


def follow(clip: Frames, *, min_confidence: float) -> list[Track]:
    """Return the tracks of all plates that were found once with `min_confidence`."""
    follower = Follower(min_confidence=min_confidence)
    for frame, found in enumerate(clip.found):
        follower.see(frame, found, clip.times_s[frame], clip.steps[frame])
    return [follower.drawn_back(track, clip) for track in follower.tracks]


class Follower:
    """Carries each plate from frame to frame.

    Sure detections go on with the nearest track or begin one; unsure ones only go on with a track
    that they lie on. Source of the two rounds: Zhang et al., "ByteTrack" (ECCV 2022).

    Attributes:
        begun: how many plates were found so far.
    """

    def __init__(self, *, min_confidence: float) -> None:
        """Begin without tracks; one begins with a detection of `min_confidence`."""
        self.begun = 0
        self._min_confidence = min_confidence
        self._done: list[_Live] = []
        self._live: list[_Live] = []
        self._used: set[tuple[int, int]] = set()

    @property
    def tracks(self) -> list[Track]:
        """The track of each plate."""
        return [each.track for each in self._done + self._live]

    def see(self, frame: int, found: Detections, now_s: float, step: Step) -> None:
        """Go on with the next frame.

        Args:
            frame: its index, one more than that of the last.
            found: the plates in it.
            now_s: when it is shown, seconds.
            step: how the camera moved since the last.
        """
        for track in self._live:
            track.carry(step)
        self._done += [track for track in self._live if now_s - track.times_s[-1] > GAP_S]
        live = [track for track in self._live if now_s - track.times_s[-1] <= GAP_S]
        boxes = found.xyxy.astype(np.float64)
        sure = found.confidence >= self._min_confidence
        weak = ~sure & (found.confidence >= TRACK_FLOOR)
        expected = np.array([track.expected(now_s) for track in live]).reshape(-1, 4)
        pairs = _pairs(_distances(expected, boxes, sure))
        taken = {row for row, _ in pairs}
        left = np.array([row not in taken for row in range(len(live))], np.bool_)
        pairs += _pairs(np.where(left[:, None], _misfits(expected, boxes, weak), np.inf))
        matched = {column for _, column in pairs}
        self._used |= {(frame, column) for column in matched}
        for row, column in pairs:
            live[row].add(frame, now_s, boxes[column], float(found.confidence[column]))
        for column in np.flatnonzero(sure).tolist():
            if column not in matched:
                live.append(_Live())
                live[-1].add(frame, now_s, boxes[column], float(found.confidence[column]))
                self._used.add((frame, column))
                self.begun += 1
        self._live = live

    def drawn_back(self, track: Track, clip: Frames) -> Track:
        """Return `track` with the unsure sightings before its first one, back to a gap."""
        return _drawn_back(track, clip, self._used)

    def ahead(self) -> Follower:
        """Return a copy that can go on by itself, without the plates that are long gone."""
        copy = Follower(min_confidence=self._min_confidence)
        copy._live = [each.copy() for each in self._live]
        return copy

    def forget(self, frames: int) -> None:
        """Drop what was seen in the first `frames` frames; the others are numbered from 0 again.

        Of each plate a few sightings stay, which tell its speed and its place.
        """
        self._done, self._used = [], set()
        self._live = [kept for each in self._live if (kept := each.copy(since=frames)).track.frames]


def _drawn_back(track: Track, clip: Frames, used: set[tuple[int, int]]) -> Track:
    """Return `track` with the unsure sightings before its first one, back to a gap."""
    live = _Live()
    for at in range(min(SPEED_SIGHTINGS, len(track.frames)) - 1, -1, -1):
        for frame in range(live.track.frames[-1] if live.times_s else 0, track.frames[at], -1):
            live.carry(_back(clip.steps[frame]))
        live.add(track.frames[at], -clip.times_s[track.frames[at]], track.xyxy[at], 1.0)
    before: list[tuple[int, NDArray[np.float64], float]] = []
    for frame in range(track.frames[0] - 1, -1, -1):
        live.carry(_back(clip.steps[frame + 1]))
        if -clip.times_s[frame] - live.times_s[-1] > GAP_S:
            break
        found = clip.found[frame]
        free = np.array([(frame, column) not in used for column in range(len(found))], np.bool_) & (
            found.confidence >= TRACK_FLOOR
        )
        boxes = found.xyxy.astype(np.float64)
        expected = live.expected(-clip.times_s[frame])[None]
        for _, column in _pairs(_misfits(expected, boxes, free)):
            confidence = float(found.confidence[column])
            live.add(frame, -clip.times_s[frame], boxes[column], confidence)
            before.insert(0, (frame, boxes[column], confidence))
            used.add((frame, column))
    return Track(
        frames=[frame for frame, _, _ in before] + track.frames,
        xyxy=[box for _, box, _ in before] + track.xyxy,
        confidence=[confidence for _, _, confidence in before] + track.confidence,
    )


def unseen(clip: Frames, *, min_confidence: float) -> list[NDArray[np.float64]]:
    """Return for each frame where plates should be that were not found in it, (N, 4).

    That is worth a closer look.
    """
    places: list[list[NDArray[np.float64]]] = [[] for _ in clip.found]
    for track in follow(clip, min_confidence=min_confidence):
        for frame, box in places_of(track, clip):
            places[frame].append(box)
    return [np.array(boxes, np.float64).reshape(-1, 4) for boxes in places]


def places_of(track: Track, clip: Frames) -> list[tuple[int, NDArray[np.float64]]]:
    """Return where one plate should be in the frames in which it wasn't found, with the frame."""
    seen = set(track.frames)
    places = filled(track, clip, beyond_s=LOOK_OUT_S, growth_per_s=0.0)
    return [(frame, box) for frame, box in places if frame not in seen]


def filled(
    track: Track,
    clip: Frames,
    *,
    beyond_s: float = DRAW_OUT_S,
    growth_per_s: float = GROWTH_PER_S,
) -> list[tuple[int, NDArray[np.float64]]]:
    """Return a box for each frame from shortly before the first sighting to shortly after the last.

    A sighting stays, widened to what its neighbours say. In between the box moves with the camera
    and evenly beside it; beyond the ends it goes on at the speed that it had. The further from a
    sighting, the larger it is.

    Args:
        track: at least one sighting.
        clip: its frames.
        beyond_s: how far each end is drawn out.
        growth_per_s: of a box's size on each side, for each second away from a sighting.
    """
    filler = [
        *itertools.chain(*(_bridged(track, at, clip) for at in range(len(track.frames) - 1))),
        *_beyond(track, clip, 1, beyond_s),
        *_beyond(track, clip, -1, beyond_s),
    ]
    return [
        *zip(track.frames, _steady(track, clip), strict=True),
        *((frame, _grown(box, growth_per_s * away_s)) for frame, box, away_s in filler),
    ]


def _steady(track: Track, clip: Frames) -> list[NDArray[np.float64]]:
    """Return each sighting, widened to the median of it and of those around it.

    Those before and after it are averaged in pairs, so that a plate that moves evenly stays where
    it was found.
    """
    boxes = np.array(track.xyxy).reshape(-1, 4)
    if len(boxes) <= 2 * STEADY_SIGHTINGS:
        return list(boxes)
    frames = np.array(track.frames)
    inner = np.arange(STEADY_SIGHTINGS, len(boxes) - STEADY_SIGHTINGS)
    times_s = np.array(clip.times_s)[frames]
    span_s = times_s[inner + STEADY_SIGHTINGS] - times_s[inner - STEADY_SIGHTINGS]
    inner = inner[span_s <= 2 * DRAW_OUT_S]
    near = [boxes[inner]]
    for away in range(1, STEADY_SIGHTINGS + 1):
        before, after = inner - away, inner + away
        near.append(
            (
                _carried(boxes[before], frames[before], frames[inner], clip.steps)
                + _carried(boxes[after], frames[after], frames[inner], clip.steps)
            )
            / 2
        )
    middle = np.median(near, axis=0)
    boxes[inner, :2] = np.minimum(boxes[inner, :2], middle[:, :2])
    boxes[inner, 2:] = np.maximum(boxes[inner, 2:], middle[:, 2:])
    return list(boxes)


def _bridged(
    track: Track, at: int, clip: Frames
) -> Iterator[tuple[int, NDArray[np.float64], float]]:
    """Yield frame, box and seconds from a sighting for the frames between two sightings."""
    first, last = track.frames[at], track.frames[at + 1]
    start_s, end_s = clip.times_s[first], clip.times_s[last]
    after = track.xyxy[at + 1]
    backwards = {}
    for frame in range(last - 1, first, -1):
        after = _moved(after, _back(clip.steps[frame + 1]))
        backwards[frame] = after
    before = track.xyxy[at]
    for frame in range(first + 1, last):
        before = _moved(before, clip.steps[frame])
        now_s = clip.times_s[frame]
        passed = (now_s - start_s) / (end_s - start_s)
        box = (1 - passed) * before + passed * backwards[frame]
        yield frame, box, min(now_s - start_s, end_s - now_s)


def _beyond(
    track: Track, clip: Frames, way: int, beyond_s: float
) -> Iterator[tuple[int, NDArray[np.float64], float]]:
    """Yield boxes after the last sighting (`way` 1) or before the first (-1)."""
    end = -1 if way == 1 else 0
    frame, box = track.frames[end], track.xyxy[end]
    speed = np.tile(_end_speed(track, clip, way), 2)
    end_s = clip.times_s[frame]
    while 0 <= frame + way < len(clip.times_s):
        step = clip.steps[frame + 1] if way == 1 else _back(clip.steps[frame])
        passed_s = clip.times_s[frame + way] - clip.times_s[frame]
        frame += way
        away_s = abs(clip.times_s[frame] - end_s)
        if away_s > beyond_s:
            return
        box = _moved(box + passed_s * speed, step)
        yield frame, box, away_s


def _grown(box: NDArray[np.float64], growth: float) -> NDArray[np.float64]:
    grow = (box[2:] - box[:2]) * growth
    return np.hstack([box[:2] - grow, box[2:] + grow])


def _end_speed(track: Track, clip: Frames, way: int) -> NDArray[np.float64]:
    """Return how fast the plate moves beside the camera's own movement at one end, (2,) px/s."""
    order = slice(-SPEED_SIGHTINGS, None) if way == 1 else slice(SPEED_SIGHTINGS - 1, None, -1)
    frames = np.array(track.frames[order])
    here = _carried(
        np.array(track.xyxy[order]), frames, np.full(len(frames), frames[-1]), clip.steps
    )
    return _speed(here, [clip.times_s[frame] for frame in frames])


class _Live:
    """A track that is still followed.

    Attributes:
        track: so far.
        here: (K, 4) its last sightings, carried to where the camera sees them now.
        times_s: of those.
    """

    def __init__(self) -> None:
        self.track = Track()
        self.here = np.zeros((0, 4))
        self.times_s: list[float] = []

    def add(self, frame: int, now_s: float, box: NDArray[np.float64], confidence: float) -> None:
        self.track.frames.append(frame)
        self.track.xyxy.append(box)
        self.track.confidence.append(confidence)
        self.here = np.vstack([self.here[1 - SPEED_SIGHTINGS :], box])
        self.times_s = [*self.times_s[1 - SPEED_SIGHTINGS :], now_s]

    def copy(self, *, since: int = 0) -> _Live:
        """Return a copy without the sightings before frame `since`, which becomes frame 0."""
        copy = _Live()
        copy.here, copy.times_s = self.here, self.times_s
        first = max(bisect_left(self.track.frames, since), len(self.track.frames) - KEPT_SIGHTINGS)
        copy.track.frames.extend(frame - since for frame in self.track.frames[first:])
        copy.track.xyxy.extend(self.track.xyxy[first:])
        copy.track.confidence.extend(self.track.confidence[first:])
        return copy

    def carry(self, step: Step) -> None:
        if step is not STILL:
            self.here = _moved(self.here, step)

    def expected(self, now_s: float) -> NDArray[np.float64]:
        """Return where the plate should be now, (4,)."""
        past_s = now_s - self.times_s[-1]
        return np.asarray(
            self.here[-1] + past_s * np.tile(_speed(self.here, self.times_s), 2), np.float64
        )


def _speed(here: NDArray[np.float64], times_s: Sequence[float]) -> NDArray[np.float64]:
    """Return how fast the middle of (K, 4) boxes moves, (2,) px/s; 0 where there is but one."""
    if len(here) < 2:
        return np.zeros(2)
    first, last = here[0], here[-1]
    way = (last[:2] + last[2:] - first[:2] - first[2:]) / 2
    return np.asarray(way / (times_s[-1] - times_s[0]), np.float64)


def _carried(
    boxes: NDArray[np.float64],
    first: NDArray[np.int64],
    last: NDArray[np.int64],
    steps: Sequence[Step],
) -> NDArray[np.float64]:
    """Return where the camera sees in frames `last`, (N,), what it saw in frames `first`."""
    boxes, at = boxes.copy(), first.copy()
    while (behind := np.flatnonzero(at < last)).size:
        at[behind] += 1
        boxes[behind] = _moved(boxes[behind], np.array([steps[frame] for frame in at[behind]]).T)
    while (ahead := np.flatnonzero(at > last)).size:
        back = np.array([_back(steps[frame]) for frame in at[ahead]]).T
        boxes[ahead], at[ahead] = _moved(boxes[ahead], back), at[ahead] - 1
    return boxes


def _moved(boxes: NDArray[np.float64], step: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return boxes, (4,) or (N, 4), after a step, (4,) or (4, N)."""
    a, b, x, y = step
    left, top, right, bottom = boxes.T
    u, v = (left + right) / 2, (top + bottom) / 2
    width, height = (np.hypot(a, b) / 2 * side for side in (right - left, bottom - top))
    new_u, new_v = a * u - b * v + x, b * u + a * v + y
    return np.stack([new_u - width, new_v - height, new_u + width, new_v + height], axis=-1)


def _back(step: Step) -> Step:
    """Return the step from this frame to the one before."""
    a, b, x, y = step
    size = a * a + b * b
    c, d = a / size, -b / size
    return np.array([c, d, -(c * x - d * y), -(d * x + c * y)])


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
