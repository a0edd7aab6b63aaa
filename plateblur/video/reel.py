"""Frames of a clip at any time, decoded when somebody looks at them; a few are held, never all."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Generator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from plateblur.errors import VideoError
from plateblur.key_frames import micros
from plateblur.types import Image
from plateblur.video.picture import Picture, picture_of
from plateblur.video.reading import (
    AV_ERRORS,
    Stored,
    contents_of,
    opened,
    packets,
    read_frames,
    shown_at,
)
from plateblur.video.types import LIMITS, ClipOptions

SILENT = ClipOptions(sound="drop")
HELD_BYTES = 64 << 20  # of decoded frames: 20 of 1080p, so that a step back decodes nothing
READ_ON_US = 1_000_000  # so far ahead it is cheaper to decode on than to open the clip again
# Before the key frame that the clip's index names: some decoders need more to begin with.
FURTHER_BACK_US = (0, 2_000_000, 12_000_000)
THIRD = 3  # a glimpse is of a third of the clip, where it has begun in earnest


class Reel:
    """The first video track of an open clip; for one thread at a time.

    Attributes:
        picture: how its frames are stored and shown.
        times_us: when each frame is shown, microseconds on the clip's own clock, rising.
    """

    def __init__(self, path: Path) -> None:
        """Open the clip, and read its packets through for their times.

        Raises:
            VideoError: it can't be taken.
            OSError: it can't be read.
        """
        self._file = path.open("rb")
        try:
            self.picture = _picture(self._file)
            self.times_us, self._keys_us = self._scan()
        except BaseException:
            self._file.close()
            raise
        self._frames: Generator[Stored] | None = None
        self._held: deque[tuple[int, Stored]] = deque()
        width, height = self.picture.stored_wh
        frame_bytes = width * height * (3 if self.picture.colours.deep else 2)
        self._most_held = max(2, HELD_BYTES // frame_bytes)

    def image_at(self, time_us: int) -> Image:
        """Return the frame that is shown at a time, as people see it.

        Raises:
            VideoError: it can't be decoded.
        """
        stored = self._stored_at(time_us)
        if stored is None or stored.frame is None:
            raise VideoError("this frame can't be decoded; it is blank in a blurred clip")
        return self.picture.image(stored.frame)

    def close(self) -> None:
        """Close the clip."""
        self._forget()
        self._file.close()

    def _scan(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the times of all packets, and of those that hold a key frame, microseconds."""
        times, keys = list[int](), list[int]()
        with opened(self._file) as source:
            in_order = source.format.name == "avi"
            for packet in packets(source, [self.picture.index]):
                pts = shown_at(packet, in_order=in_order)
                if pts is None or not packet.size:
                    continue
                times.append(micros(pts, self.picture.time_base))
                if packet.is_keyframe:
                    keys.append(times[-1])
                if len(times) > LIMITS.frames:
                    raise VideoError(f"expected up to {LIMITS.frames} frames, got more")
        return np.unique(np.array(times, np.int64)), np.unique(np.array(keys, np.int64))

    def _stored_at(self, time_us: int) -> Stored | None:
        if not self._is_near(time_us):
            return self._from_key_frame(time_us)
        try:
            found = self._read_to(time_us)
        except VideoError:
            found = None
        return found or self._from_key_frame(time_us)

    def _is_near(self, time_us: int) -> bool:
        """Return whether a frame is held, or comes soon."""
        if not self._held or self._held[0][0] > time_us:
            return False
        last_us = self._held[-1][0]
        return time_us <= last_us + READ_ON_US or self._key_before(time_us) <= last_us

    def _from_key_frame(self, time_us: int) -> Stored | None:
        key_us = self._key_before(time_us)
        for hide_damaged in (False, True):
            for back_us in FURTHER_BACK_US:
                self._forget()
                self._frames = self._frames_from(key_us - back_us, hide_damaged=hide_damaged)
                try:
                    found = self._read_to(time_us)
                except VideoError:
                    continue
                if found is not None and found.frame is not None:
                    return found
        self._forget()
        return None

    def _key_before(self, time_us: int) -> int:
        row = int(np.searchsorted(self._keys_us, time_us, side="right"))
        return int(self._keys_us[row - 1]) if row else -(1 << 62)

    def _read_to(self, time_us: int) -> Stored | None:
        """Return the frame that is shown at a time, and hold those on the way to it."""
        while self._frames is not None and (not self._held or self._held[-1][0] < time_us):
            stored = next(self._frames, None)
            if stored is None:
                self._frames = None
                break
            self._held.append((micros(stored.pts, self.picture.time_base), stored))
            if len(self._held) > self._most_held:
                self._held.popleft()
        return next((stored for at_us, stored in reversed(self._held) if at_us <= time_us), None)

    def _frames_from(self, time_us: int, *, hide_damaged: bool) -> Generator[Stored]:
        """Yield frames from the key frame at or before a time; all of them where there is none."""
        index = self.picture.index
        with opened(self._file) as source:
            if len(self.times_us) and time_us > self.times_us[0]:
                _seek(source, index, time_us)
            yield from read_frames(source, index, hide_damaged=hide_damaged)

    def _forget(self) -> None:
        if self._frames is not None:
            self._frames.close()
        self._frames = None
        self._held.clear()


def glimpse(path: Path) -> Image:
    """Return a frame that shows what a clip is about, without reading it through.

    Raises:
        VideoError: none can be decoded.
        OSError: it can't be read.
    """
    with path.open("rb") as file:
        picture = _picture(file)
        for share in (THIRD, None):
            with opened(file) as source:
                length_us, start_us = source.duration or 0, source.start_time or 0
                if share is not None:
                    _seek(source, picture.index, start_us + length_us // share)
                frames = read_frames(source, picture.index, hide_damaged=True)
                found = next((each.frame for each in frames if each.frame is not None), None)
                if found is not None:
                    return picture.image(found)
    raise VideoError("expected a clip, got one without a frame that can be decoded")


def _picture(file: BinaryIO) -> Picture:
    with opened(file) as source:
        index = contents_of(source, SILENT, LIMITS).pictures[0]
    file.seek(0, os.SEEK_SET)
    return picture_of(file, index, LIMITS, hide_damaged=True)


def _seek(source: Any, index: int, time_us: int) -> None:
    stream = source.streams[index]
    try:
        source.seek(int(time_us / 1_000_000 / stream.time_base), stream=stream)
    except AV_ERRORS as error:
        raise VideoError("the clip can't be read from there") from error
