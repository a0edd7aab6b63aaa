"""One video track of a clip: how its frames are stored and shown, the same from first to last."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import BinaryIO

import av
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray

from plateblur.errors import VideoError
from plateblur.types import Image
from plateblur.video.colour import Colours, Planes, colours_of, lost_of, shown_image, upright_planes
from plateblur.video.reading import (
    Stored,
    has_alpha,
    opened,
    read_frames,
    require_length,
    require_size,
)
from plateblur.video.types import ClipLimits
from plateblur.video.upright import Upright, upright_of

FALLBACK_RATE = Fraction(30)  # frames a second of a clip that doesn't say
GREY_WIDTH_PX = 480  # finds shifts of a pixel of 1080p within half a pixel; Source: drawn pans


@dataclass(frozen=True, slots=True)
class Picture:
    """A video track.

    Attributes:
        index: of the track in the clip.
        stored_wh: width and height of its frames as stored, pixels.
        upright: how they are shown.
        colours: what their numbers mean.
        time_base: of their times, seconds.
        rate: frames a second, about.
        lost: what the output doesn't keep, a sentence each.
    """

    index: int
    stored_wh: tuple[int, int]
    upright: Upright
    colours: Colours
    time_base: Fraction
    rate: Fraction
    lost: tuple[str, ...] = ()

    @property
    def image_hw(self) -> tuple[int, int]:
        """Height and width as people see it, pixels."""
        width, height = self.upright.shown_wh(*self.stored_wh)
        return (width, height) if self.upright.transposed else (height, width)

    @property
    def upright_hw(self) -> tuple[int, int]:
        """Height and width of the frames turned upright, not stretched, pixels."""
        width, height = self.stored_wh
        return (width, height) if self.upright.transposed else (height, width)

    @property
    def written_hw(self) -> tuple[int, int]:
        """Height and width of the frames that are written: upright, not stretched, even."""
        height, width = self.upright_hw
        return height + height % 2, width + width % 2

    def image(self, frame: av.VideoFrame) -> Image:
        """Return a frame as people see it, for the detector."""
        return shown_image(frame, self.colours, self.upright)

    def grey(self, frame: av.VideoFrame) -> NDArray[np.uint8]:
        """Return a frame as people see it, grey and small, to measure the camera's movement."""
        width, height = self.upright.shown_wh(*self.stored_wh)
        scale = GREY_WIDTH_PX / self.image_hw[1]
        small = frame.to_ndarray(
            width=max(2, round(width * scale)), height=max(2, round(height * scale)), format="gray"
        )
        return np.ascontiguousarray(self.upright.turn(small.astype(np.uint8, copy=False)))

    def planes(self, frame: av.VideoFrame) -> Planes:
        """Return a frame upright, as it is written."""
        return upright_planes(frame, self.colours, self.upright)


def picture_of(clip: BinaryIO, index: int, limits: ClipLimits, *, hide_damaged: bool) -> Picture:
    """Return the properties of a video track from its first frame.

    Raises:
        VideoError: there is no frame, or it can't be shown as players show it.
    """
    with opened(clip) as source:
        stream = source.streams[index]
        frames = read_frames(source, index, hide_damaged=hide_damaged)
        first = next((stored.frame for stored in frames if stored.frame is not None), None)
        if first is None or not isinstance(stream, VideoStream) or stream.time_base is None:
            raise VideoError("expected a clip, got one without a frame")
        picture = Picture(
            index=index,
            stored_wh=(first.width, first.height),
            upright=upright_of(first, stream.sample_aspect_ratio),
            colours=(colours := colours_of(first)),
            time_base=stream.time_base,
            rate=stream.average_rate or stream.guessed_rate or FALLBACK_RATE,
            lost=lost_of(first, colours, has_alpha=has_alpha(stream)),
        )
    height, width = picture.image_hw
    require_size(height * width, limits)
    return picture


def checked(frames: Iterable[Stored], picture: Picture, limits: ClipLimits) -> Iterator[Stored]:
    """Yield the frames of a track as long as they are of one kind and not too many.

    Raises:
        VideoError: they aren't.
    """
    start: int | None = None
    for count, stored in enumerate(frames, start=1):
        start = stored.pts if start is None else start
        if count > limits.frames:
            raise VideoError(f"expected up to {limits.frames} frames, got more")
        require_length(float((stored.pts - start) * picture.time_base), limits)
        frame = stored.frame
        if frame is not None:
            if (frame.width, frame.height) != picture.stored_wh:
                raise VideoError("expected frames of one size")
            if upright_of(frame, picture.upright.pixel_aspect) != picture.upright:
                raise VideoError("expected frames that are all turned the same way")
            if frame.color_trc != picture.colours.curve:
                raise VideoError("expected frames of one colour curve (SDR, PQ or HLG)")
        yield stored
