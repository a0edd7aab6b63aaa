"""The last seconds of a live picture: which frames are searched, and what is hidden in each.

A frame waits here for as long as the delay lets it. Meanwhile it is searched, and so are the frames
after it, so that the tracker knows what is to come. When no frame is left to be searched, those in
which a plate should be but wasn't found are searched there again, more closely. A frame that wasn't
searched when its time is over leaves without boxes, and must not be shown.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field

import av
import numpy as np
from numpy.typing import NDArray

from plateblur.boxes import iou_matrix
from plateblur.tracks import DRAW_OUT_S, GAP_S, Follower, Frames, Step, Track, boxes_of, places_of
from plateblur.types import Boxes, Detections
from plateblur.video.looking import SAME_IOU, none_found, with_more

REMEMBERED_S = GAP_S + DRAW_OUT_S  # a plate unseen for longer is not bridged or carried on
APART_S = 0.001  # of two frames at least
WAITING_BYTES = 512 * 1024**2  # of frames: 170 of 1080p, 40 of 4K


@dataclass(slots=True, eq=False)
class LiveFrame:
    """One frame on its way.

    Attributes:
        frame: its pixels; None if they can't be decoded, and when it has left.
        time_s: when it was taken, by this machine's clock.
        step: how the camera moved since the frame before.
        found: its plates; None as long as it hasn't been searched.
        is_begun: whether it is being searched, or was.
        places: (N, 4) where plates should be that weren't found; they are looked at next.
        looked_at: (N, 4) where it was looked at more closely.
        converting: held while its pixels are read, which two threads can't do at once.
    """

    frame: av.VideoFrame | None
    time_s: float
    step: Step
    found: Detections | None = None
    is_begun: bool = False
    places: Boxes = field(default_factory=lambda: np.zeros((0, 4), np.float32))
    looked_at: Boxes = field(default_factory=lambda: np.zeros((0, 4), np.float32))
    converting: threading.Lock = field(default_factory=threading.Lock)

    def left(self) -> av.VideoFrame | None:
        """Return its pixels, and let go of them."""
        with self.converting:
            frame, self.frame = self.frame, None
        return frame


@dataclass(frozen=True, slots=True)
class Due:
    """A frame whose time has come.

    Attributes:
        frame: its pixels; None if they can't be decoded.
        time_s: when it was taken.
        boxes: what must be hidden in it; None if it wasn't searched in time.
    """

    frame: av.VideoFrame | None
    time_s: float
    boxes: Boxes | None


class Window:
    """The frames that wait, and what was found in those that left; thread-safe."""

    def __init__(self, *, min_confidence: float, frame_bytes: int) -> None:
        """Begin without frames.

        Args:
            min_confidence: a plate is hidden from when it was found once with as much.
            frame_bytes: of each frame, to limit how many wait.
        """
        self._min_confidence = min_confidence
        self._room = max(2, WAITING_BYTES // frame_bytes)
        self._changed = threading.Condition()
        self._frames: list[LiveFrame] = []  # those that left come first
        self._left = 0
        self._is_closed = False
        self._follower = Follower(min_confidence=min_confidence)

    @property
    def plates(self) -> int:
        """How many plates were found so far."""
        return self._follower.begun

    @property
    def waiting(self) -> int:
        """How many frames wait."""
        return len(self._frames) - self._left

    def add(self, new: LiveFrame) -> bool:
        """Take in the next frame, unless there is no room; return whether there was.

        It counts as taken after the frames before it, whatever its source says.
        """
        with self._changed:
            if len(self._frames) - self._left >= self._room:
                return False
            if self._frames:
                new.time_s = max(new.time_s, self._frames[-1].time_s + APART_S)
            self._frames.append(new)
            self._changed.notify()
            return True

    def next_to_search(self) -> tuple[LiveFrame, Boxes | None] | None:
        """Return the next frame to search, when there is one; None after `close`.

        First the newest that isn't searched: on a machine that can't search them all it tells the
        tracker most, and is the one that is most likely to be done in time. Where all are searched,
        the one that leaves first of those that are worth a closer look, with the places to look
        at, (N, 4).
        """
        with self._changed:
            while not self._is_closed:
                waiting = self._frames[self._left :]
                for each in reversed(waiting):
                    if not each.is_begun and each.frame is not None:
                        each.is_begun = True
                        return each, None
                for each in waiting:
                    if len(places := each.places):
                        each.places = places[:0]
                        each.looked_at = np.vstack([each.looked_at, places])
                        return each, places
                self._changed.wait()
            return None

    def searched(self, frame: LiveFrame, found: Detections) -> None:
        """Note what was found in a frame, or more of it; too late where that has left."""
        with self._changed:
            frame.found = found if frame.found is None else with_more(frame.found, found)

    def forget_after(self, time_s: float) -> int:
        """Drop the waiting frames taken at `time_s` or later, and return how many there were."""
        with self._changed:
            keep = max(self._left, bisect_left(self._frames, time_s, key=lambda each: each.time_s))
            dropped = len(self._frames) - keep
            del self._frames[keep:]
            return dropped

    def due(self, until_s: float) -> list[Due]:
        """Return the waiting frames taken up to `until_s`, in order; they leave."""
        with self._changed:
            frames, first = list(self._frames), self._left
            found = [each.found for each in frames]
        last = bisect_right(frames, until_s, key=lambda each: each.time_s)
        if last <= first:
            return []
        clip = Frames(
            found=[each or none_found() for each in found],
            times_s=[each.time_s for each in frames],
            steps=[each.step for each in frames],
        )
        tracks = self._tracks(clip, first, last)
        hidden: list[list[NDArray[np.float64]]] = [[] for _ in frames]
        missed: list[list[NDArray[np.float64]]] = [[] for _ in frames]
        for track in tracks:
            for frame, box in boxes_of(track, clip, min_confidence=self._min_confidence):
                hidden[frame].append(box)
            for frame, box in places_of(track, clip):
                missed[frame].append(box)
        leaving = [
            Due(each.left(), each.time_s, None if found[at] is None else _boxes(hidden[at]))
            for at, each in enumerate(frames[first:last], start=first)
        ]
        gone = min(bisect_left(clip.times_s, until_s - REMEMBERED_S), last)
        self._follower.forget(gone)
        with self._changed:
            for each in frames[first:last]:
                each.is_begun, each.places = True, each.places[:0]
            for each, places in zip(frames[last:], missed[last:], strict=True):
                if each.found is not None and each.frame is not None:
                    each.places = _new(_boxes(places), each.looked_at)
            del self._frames[:gone]
            self._left = last - gone
            self._changed.notify_all()
        return leaving

    def _tracks(self, clip: Frames, first: int, last: int) -> list[Track]:
        """Return the plates that were followed so far, for the frames from `first` to `last`.

        Those before `first` have left, those from `last` on are looked ahead to.
        """
        ahead = self._follower.ahead()
        for frame in range(first, len(clip.found)):
            seen = (frame, clip.found[frame], clip.times_s[frame], clip.steps[frame])
            ahead.see(*seen)
            if frame < last:
                self._follower.see(*seen)
        # An older one has its unsure sightings already.
        return [
            ahead.drawn_back(track, clip) if track.frames[0] >= first else track
            for track in ahead.tracks
        ]

    def close(self) -> None:
        """Let whoever waits for a frame to search go."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()


def _boxes(boxes: list[NDArray[np.float64]]) -> Boxes:
    return np.array(boxes, np.float32).reshape(-1, 4)


def _new(places: Boxes, looked_at: Boxes) -> Boxes:
    """Return the places that weren't looked at yet."""
    return places[~(iou_matrix(places, looked_at) > SAME_IOU).any(axis=1)]
