"""A clip in, a blurred clip out: every plate hidden in every frame, or no clip; needs PyAV.

Two passes: the first looks for plates in every frame, the second writes the clip with the tracks
of all plates hidden (`plateblur/tracks.py`). What leaves is an MP4 with H.264, upright, each frame
shown when it was, with the sound as it came where MP4 players take it and as AAC elsewhere. Nothing
else leaves: no metadata, no place, no cover picture, no subtitles, no telemetry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, BinaryIO

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.stream import Disposition
from av.video.reformatter import Colorspace
from av.video.stream import VideoStream

from plateblur.blur import blur_boxes
from plateblur.errors import EncodeError, VideoError
from plateblur.pipeline import DEFAULTS
from plateblur.tracks import TRACK_FLOOR, hidden_boxes
from plateblur.types import Boxes, Detections, Detector, Image, Method

# By name, because FFmpeg also has readers that open whatever address a playlist names.
CONTAINERS = "mov,matroska,webm,avi,mpegts,mpeg"
VIDEO_CODECS = "h264,hevc,av1,libdav1d,vp8,vp9,libvpx,libvpx-vp9,mpeg4,mpeg2video,mjpeg"
SOUND_CODECS = (
    "aac,mp3,mp3float,opus,libopus,vorbis,ac3,eac3,alac,flac,amrnb,amrwb,"
    "pcm_s16le,pcm_s16be,pcm_s24le,pcm_f32le,pcm_u8,pcm_mulaw,pcm_alaw"
)
COPIED_SOUND = frozenset({"aac", "mp3", "mp3float", "opus", "libopus", "ac3", "eac3"})  # in MP4
ENCODER = {"crf": "20", "preset": "veryfast"}  # Source: x264; 18 to 23 are hard to tell apart
LOOKING_SHARE = 0.7  # of the work, for the progress: the rest is writing
HD_ROWS = 720  # Source: ITU-R BT.709 is for HD; smaller clips that don't say are BT.601
OTHER_FRAMES = "expected the same frames when the clip was read again"
UNSAID = 2  # Source: ITU-T H.273, code 2: not specified

# What PyAV raises on damaged or hostile clips, beside FFmpeg's own errors.
_AV_ERRORS = (
    *(av.error.FFmpegError, OSError, ValueError, LookupError, TypeError, EOFError),
    *(NotImplementedError, MemoryError, RuntimeError, ArithmeticError),
)


@dataclass(frozen=True, slots=True)
class ClipLimits:
    """What is taken.

    Attributes:
        length_s: of a clip.
        frames: of a clip.
        frame_pixels: of one frame.
    """

    length_s: float = 6 * 3600
    frames: int = 2_000_000
    frame_pixels: int = 36_000_000  # 8K


@dataclass(frozen=True, slots=True)
class BlurredClip:
    """What was written.

    Attributes:
        image_hw: height and width of each frame, upright, pixels.
        frames: how many.
        length_s: from the first frame to the last.
        plates: how many were followed and hidden.
    """

    image_hw: tuple[int, int]
    frames: int
    length_s: float
    plates: int


@dataclass(frozen=True, slots=True)
class _Frame:
    image: Image
    pts: int
    time_s: float


def blur_clip(
    clip: BinaryIO,
    out: BinaryIO,
    detector: Detector,
    *,
    method: Method = DEFAULTS.method,
    margin: float = DEFAULTS.margin,
    min_confidence: float = DEFAULTS.min_confidence,
    limits: ClipLimits = ClipLimits(),
    progress: Callable[[float], None] = lambda _: None,
) -> BlurredClip:
    """Write `clip` to `out` with its plates unreadable, and return what was written.

    Where anything is raised, what stands in `out` is to be thrown away.

    Args:
        clip: open to be read, and able to seek.
        out: open to be written, and able to seek.
        detector: what finds the plates.
        method: as for `blur_boxes`.
        margin: as for `blur_boxes`.
        min_confidence: a plate is hidden, in all its frames, if it was found once with as much.
        limits: what is taken.
        progress: is told the share of the work that is done, 0 to 1; the work ends with whatever
            it raises.

    Raises:
        VideoError: the clip can't be taken, or one of its frames can't be read.
        DetectionError: the detector failed.
        EncodeError: the result could not be written.
        ValueError: `min_confidence` or another option is out of range.
    """
    if not 0 < min_confidence <= 1:
        raise ValueError(f"min_confidence must be above 0 and at most 1, got {min_confidence}")
    blur_boxes(np.zeros((1, 1, 3), np.uint8), _no_boxes(), method=method, margin=margin)
    floor = min(TRACK_FLOOR, min_confidence)
    found, pts, times_s, image_hw = _look(clip, detector, floor, limits, progress)
    hidden, plates = hidden_boxes(found, times_s, min_confidence=min_confidence)

    def blur(image: Image, boxes: Boxes) -> Image:
        return blur_boxes(image, boxes, method=method, margin=margin)

    _write(clip, out, blur, hidden, pts, image_hw, limits, progress)
    progress(1.0)
    return BlurredClip(image_hw, len(pts), times_s[-1] - times_s[0], plates)


def _no_boxes() -> Boxes:
    return np.zeros((0, 4), np.float32)


def _look(
    clip: BinaryIO,
    detector: Detector,
    floor: float,
    limits: ClipLimits,
    progress: Callable[[float], None],
) -> tuple[list[Detections], list[int], list[float], tuple[int, int]]:
    """Return detections, time stamp and time of each frame, and the height and width of all."""
    found: list[Detections] = []
    pts: list[int] = []
    times_s: list[float] = []
    image_hw = (0, 0)
    with _opened(clip, limits) as source:
        length_s = _length_s(source)
        for frame in _frames(source, limits):
            found.append(detector.detect(frame.image, min_confidence=floor))
            pts.append(frame.pts)
            times_s.append(frame.time_s)
            image_hw = (frame.image.shape[0], frame.image.shape[1])
            if length_s > 0:
                progress(LOOKING_SHARE * min(1.0, (frame.time_s - times_s[0]) / length_s))
            else:  # A browser's recording doesn't say how long it is.
                progress(0.0)
    if not found:
        raise VideoError("expected a clip, got one without a frame")
    return found, pts, times_s, image_hw


def _write(
    clip: BinaryIO,
    out: BinaryIO,
    blur: Callable[[Image, Boxes], Image],
    hidden: list[Boxes],
    pts: list[int],
    image_hw: tuple[int, int],
    limits: ClipLimits,
    progress: Callable[[float], None],
) -> None:
    """Write the clip with the boxes of each frame hidden.

    Raises:
        VideoError: other frames come than those that were looked at.
    """
    with _opened(clip, limits) as source, _written(out) as target:
        video = _video(source)
        with _encoding():
            picture = _picture(target, video, image_hw)
        sound = _Sound(source, target)
        count = 0
        for frame in _frames(source, limits, sound=sound):
            seen = count < len(pts) and frame.pts == pts[count]
            if not seen or frame.image.shape[:2] != image_hw:
                raise VideoError(OTHER_FRAMES)
            blurred = blur(frame.image, hidden[count])
            with _encoding():
                _encode(target, picture, blurred, frame.pts, video)
            count += 1
            progress(LOOKING_SHARE + (1 - LOOKING_SHARE) * count / len(pts))
        if count != len(pts):
            raise VideoError(OTHER_FRAMES)
        with _encoding():
            target.mux(picture.encode(None))
            sound.end()


@contextmanager
def _opened(clip: BinaryIO, limits: ClipLimits) -> Iterator[InputContainer]:
    """Open a clip whose kind, codec, size and length are taken.

    Raises:
        VideoError: they are not.
    """
    clip.seek(0)
    known = {
        "format_whitelist": CONTAINERS,
        "codec_whitelist": f"{VIDEO_CODECS},{SOUND_CODECS}",
        "protocol_whitelist": "none",
    }
    try:
        source = av.open(clip, "r", container_options=known)
    except _AV_ERRORS as error:
        raise VideoError("expected a clip as MP4, MOV, WebM, MKV, AVI or MPEG, whole") from error
    with source:
        _require_taken(source, limits)
        yield source


def _require_taken(source: InputContainer, limits: ClipLimits) -> None:
    video = _video(source)
    try:
        codec, pixels = video.codec_context.name, video.width * video.height
    except _AV_ERRORS as error:
        raise VideoError("expected pictures of a known codec") from error
    if codec not in VIDEO_CODECS.split(","):
        raise VideoError(f"expected H.264, H.265, AV1, VP8, VP9, MPEG or MJPEG, got {codec}")
    _require_size(pixels, limits)
    _require_length(_length_s(source), limits)
    if video.frames > limits.frames:
        raise VideoError(f"expected up to {limits.frames} frames, got {video.frames}")


def _video(source: InputContainer) -> VideoStream:
    """Return the stream of pictures that players show; never a cover."""
    video = source.streams.best("video")
    if not isinstance(video, VideoStream) or video.disposition & Disposition.attached_pic:
        raise VideoError("expected a clip with pictures, got none")
    return video


def _require_size(pixels: int, limits: ClipLimits) -> None:
    if pixels > limits.frame_pixels:
        raise VideoError(
            f"expected frames of up to {limits.frame_pixels / 1e6:.1f} megapixels, "
            f"got {pixels / 1e6:.1f}"
        )


def _require_length(length_s: float, limits: ClipLimits) -> None:
    if length_s > limits.length_s:
        raise VideoError(f"expected up to {limits.length_s:.0f} s, got {length_s:.0f} s")


def _length_s(source: InputContainer) -> float:
    """Return how long the clip says it is, 0 where it doesn't say."""
    return float(source.duration or 0) / av.time_base


def _frames(
    source: InputContainer, limits: ClipLimits, *, sound: _Sound | None = None
) -> Iterator[_Frame]:
    """Yield every frame, upright, in the order in which they are shown.

    Raises:
        VideoError: a frame is damaged, of another size than the first, or has no time after the
            one before it; or there are too many.
    """
    video = _video(source)
    video.thread_type = "AUTO"
    first: _Frame | None = None
    last: _Frame | None = None
    for count, frame in enumerate(_read(source, video, sound), start=1):
        if first is None:
            first = frame
        if frame.image.shape != first.image.shape:
            raise VideoError("expected frames of one size")
        if last is not None and frame.pts <= last.pts:
            raise VideoError("expected frames whose time rises")
        if count > limits.frames:
            raise VideoError(f"expected up to {limits.frames} frames, got more")
        _require_size(frame.image.shape[0] * frame.image.shape[1], limits)
        _require_length(frame.time_s - first.time_s, limits)
        last = frame
        yield frame


def _read(source: InputContainer, video: VideoStream, sound: _Sound | None) -> Iterator[_Frame]:
    wanted = [video] if sound is None or sound.stream is None else [video, sound.stream]
    packets = source.demux(wanted)
    while True:
        try:
            packet: Any = next(packets, None)
            if packet is None:
                return
            if packet.is_corrupt:
                raise VideoError("expected a whole clip, got one that is cut short or damaged")
            is_video = packet.stream.index == video.index
            frames = [_upright(frame, video) for frame in packet.decode()] if is_video else []
        except _AV_ERRORS as error:
            raise VideoError("expected frames that can be read, got a damaged one") from error
        if not is_video and sound is not None:
            with _encoding():
                sound.take(packet)
        yield from frames


def _upright(frame: av.VideoFrame, video: VideoStream) -> _Frame:
    """Return a decoded frame as it is shown.

    Raises:
        VideoError: it is damaged, has no time, or is turned by less than a right angle.
    """
    pts = frame.pts if frame.pts is not None else frame.dts
    if frame.is_corrupt or pts is None or video.time_base is None:
        raise VideoError("expected frames that can be read, got a damaged one")
    if frame.rotation % 90:
        raise VideoError(f"expected a clip turned by right angles, got {frame.rotation} degrees")
    stored = frame.to_ndarray(format="rgb24", src_colorspace=_colours(frame))
    image = np.ascontiguousarray(np.rot90(stored, frame.rotation // 90))  # both turn to the left
    return _Frame(image.astype(np.uint8, copy=False), pts, float(pts * video.time_base))


def _colours(frame: av.VideoFrame) -> Colorspace | int:
    if frame.colorspace not in (0, UNSAID):  # 0 is RGB, or an encoder that left it out
        return int(frame.colorspace)
    return Colorspace.ITU709 if min(frame.width, frame.height) >= HD_ROWS else Colorspace.ITU601


@contextmanager
def _written(out: BinaryIO) -> Iterator[OutputContainer]:
    """Open the MP4 that is written, and end it; it is left as it is where something is raised."""
    with _encoding():
        target = av.open(out, "w", format="mp4")
    try:
        yield target
    except BaseException:
        with _quiet():
            target.close()
        raise
    with _encoding():
        target.close()


@contextmanager
def _encoding() -> Iterator[None]:
    try:
        yield
    except _AV_ERRORS as error:
        raise EncodeError("the blurred clip could not be written") from error


@contextmanager
def _quiet() -> Iterator[None]:
    try:
        yield
    except _AV_ERRORS:  # what is half written is thrown away anyhow
        return


def _picture(target: OutputContainer, video: VideoStream, image_hw: tuple[int, int]) -> VideoStream:
    """Add the stream of blurred frames to `target`, timed as `video` is."""
    rate = video.average_rate or video.guessed_rate or Fraction(30)
    picture = target.add_stream("libx264", rate=rate, options=dict(ENCODER))
    context: Any = picture.codec_context
    context.height, context.width = (side + side % 2 for side in image_hw)
    context.pix_fmt = "yuv420p"
    context.time_base = video.time_base
    context.colorspace = context.color_primaries = context.color_trc = 1  # BT.709, H.273
    context.color_range = 1  # studio swing, H.273 as FFmpeg numbers it
    source: Any = video.codec_context
    if source.color_trc not in (0, UNSAID):  # The levels stay as they are, so their curve does.
        context.color_trc, context.color_primaries = source.color_trc, source.color_primaries
    return picture


def _encode(
    target: OutputContainer, picture: VideoStream, image: Image, pts: int, video: VideoStream
) -> None:
    height, width = image.shape[:2]
    # H.264 stores colour for pairs of pixels, so a last odd row or column is doubled.
    even = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    frame = av.VideoFrame.from_ndarray(even, format="rgb24")
    stored = frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709)
    stored.pts, stored.time_base = pts, video.time_base
    target.mux(picture.encode(stored))


class _Sound:
    """The clip's sound on its way to the MP4: its packets as they are, or encoded as AAC."""

    def __init__(self, source: InputContainer, target: OutputContainer) -> None:
        self.stream = source.streams.best("audio")
        self._target = target
        self._out: Any = None
        self._copied = False
        if not isinstance(self.stream, AudioStream) or self.stream.codec_context is None:
            self.stream = None
            return
        name = self.stream.codec_context.name
        if name not in SOUND_CODECS.split(","):
            self.stream = None
            return
        self._copied = name in COPIED_SOUND
        with _encoding():
            if self._copied:
                self._out = target.add_stream_from_template(self.stream)
                self._out.metadata.clear()
            else:
                self._out = target.add_stream("aac", rate=self.stream.codec_context.sample_rate)
                one = self.stream.codec_context.channels == 1
                self._out.codec_context.layout = "mono" if one else "stereo"

    def take(self, packet: Any) -> None:
        """Pass on one packet of sound."""
        if self._copied:
            if packet.dts is not None:
                packet.stream = self._out
                self._target.mux(packet)
            return
        for frame in packet.decode():
            self._target.mux(self._out.encode(frame))

    def end(self) -> None:
        """Pass on what the encoder still holds."""
        if self._out is not None and not self._copied:
            self._target.mux(self._out.encode(None))
