"""Open an untrusted clip, list its contents, and read its frames and their times."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, BinaryIO

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Disposition, Stream
from av.video.frame import PictureType
from av.video.stream import VideoStream

from plateblur.errors import VideoError
from plateblur.video.types import ClipLimits, ClipOptions

# By name, because FFmpeg also has readers that open whatever address a playlist names.
CONTAINERS = "mov,matroska,webm,avi,mpegts,mpeg,asf"
VIDEO_CODECS = (
    "h264,hevc,av1,libdav1d,vp8,vp9,libvpx,libvpx-vp9,mpeg4,mpeg2video,mpeg1video,mjpeg,h263,"
    "wmv1,wmv2,wmv3,vc1,msmpeg4v2,msmpeg4,dvvideo,prores"
)
SOUND_CODECS = (
    "aac,aac_latm,mp1,mp1float,mp2,mp2float,mp3,mp3float,opus,libopus,vorbis,ac3,eac3,truehd,mlp,"
    "dca,alac,flac,amrnb,amrwb,wmav1,wmav2,wmapro,wmalossless,wmavoice,adpcm_ms,adpcm_ima_wav,"
    "adpcm_ima_qt,adpcm_yamaha,adpcm_swf,g726,g726le,g722,gsm,gsm_ms,qdm2,speex,wavpack,tta,"
    "pcm_alaw,pcm_mulaw,pcm_u8,pcm_s8,pcm_s16le,pcm_s16be,pcm_s24le,pcm_s24be,pcm_s32le,pcm_s32be,"
    "pcm_f32le,pcm_f32be,pcm_f64le,pcm_f64be,pcm_bluray,pcm_dvd,s302m"
)
KNOW_THEIR_END = ("matroska", "mov", "avi")  # the others' length is a guess
CUT_SHORT_S = 1.0  # less than this missing at the end is how containers round
OTHER_FRAMES = "expected the same frames when the clip was read again"
NUDGED_S = 1.0  # a time that steps back by less is moved on, by more it is another clock

# What PyAV raises on damaged or hostile clips, beside FFmpeg's own errors.
AV_ERRORS = (
    *(av.error.FFmpegError, OSError, ValueError, LookupError, TypeError, EOFError),
    *(NotImplementedError, MemoryError, RuntimeError, ArithmeticError),
)


@dataclass(frozen=True, slots=True)
class Contents:
    """What a clip holds.

    Attributes:
        pictures: index of each video track, the one that players show first.
        sounds: index of each sound track.
        length_s: as the clip says; 0 if it doesn't.
        end_s: when it ends on its own clock, as its header says; 0 if it doesn't.
        notes: what is left out; one sentence each.
    """

    pictures: tuple[int, ...]
    sounds: tuple[int, ...]
    length_s: float
    end_s: float
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Stored:
    """One frame as it is stored.

    Attributes:
        pts: when it is shown, in the time base of its track; rises from frame to frame.
        frame: None if it can't be decoded.
    """

    pts: int
    frame: av.VideoFrame | None


@contextmanager
def opened(clip: BinaryIO) -> Iterator[InputContainer]:
    """Open a clip of a known kind.

    Raises:
        VideoError: it is none.
    """
    clip.seek(0)
    known = {
        "format_whitelist": CONTAINERS,
        "codec_whitelist": f"{VIDEO_CODECS},{SOUND_CODECS}",
        "protocol_whitelist": "none",
    }
    try:
        source = av.open(clip, "r", container_options=known, metadata_errors="replace")
    except AV_ERRORS as error:
        raise VideoError(
            "expected a whole clip: MP4, MOV, WebM, MKV, AVI, MPEG, TS or WMV"
        ) from error
    with source:
        yield source


def contents_of(source: InputContainer, options: ClipOptions, limits: ClipLimits) -> Contents:
    """Return the contents of the clip.

    Raises:
        VideoError: it holds something that is neither supported nor left out.
    """
    pictures = _pictures(source)
    if len(pictures) > limits.pictures:
        raise VideoError(f"expected up to {limits.pictures} video tracks, got {len(pictures)}")
    for stream in pictures:
        _require_supported(stream, limits)
    length_s, start_s = (
        float(value or 0) / av.time_base for value in (source.duration, source.start_time)
    )
    end_s = start_s + length_s
    if source.format.name.startswith("matroska"):  # there it is the time of the end
        end_s, length_s = length_s, max(0.0, length_s - start_s)
    require_length(length_s, limits)
    sounds = source.streams.audio if options.sound == "keep" else ()
    if len(sounds) > limits.sounds:
        raise VideoError(f"expected up to {limits.sounds} sound tracks, got {len(sounds)}")
    for sound in sounds:
        if not is_known_sound(sound):
            raise VideoError(
                "the clip's sound is in a format that isn't supported; it can be written without "
                "sound (sound: drop)"
            )
    return Contents(
        pictures=tuple(stream.index for stream in pictures),
        sounds=tuple(stream.index for stream in sounds),
        length_s=length_s,
        end_s=end_s if source.format.name.startswith(KNOW_THEIR_END) else 0.0,
        notes=_left_out(source, options),
    )


def require_end(contents: Contents, ends_s: Fraction, options: ClipOptions) -> tuple[str, ...]:
    """Return the note about a truncated clip.

    Args:
        contents: from the clip's header.
        ends_s: when the last packet in it ends.
        options: whether damage is refused.

    Raises:
        VideoError: it is cut short, and damage is refused.
    """
    missing_s = contents.end_s - float(ends_s)
    if missing_s <= CUT_SHORT_S:
        return ()
    if options.damaged == "refuse":
        raise VideoError(
            f"the clip is cut short: its last {missing_s:.1f} s are missing; the rest can "
            "be written (damaged: hide)"
        )
    return (f"the clip is cut short: its last {missing_s:.1f} s are missing",)


def _pictures(source: InputContainer) -> list[VideoStream]:
    best = source.streams.best("video")
    pictures = [stream for stream in source.streams.video if not _is_cover(stream)]
    if not pictures:
        raise VideoError("expected a clip with pictures, got none")
    return sorted(pictures, key=lambda stream: stream is not best and stream != best)


def _is_cover(stream: Stream) -> bool:
    covers = Disposition.attached_pic | Disposition.timed_thumbnails
    return bool(stream.disposition & covers)


def _left_out(source: InputContainer, options: ClipOptions) -> tuple[str, ...]:
    """Return a sentence for each kind of track that is not written again."""
    dropped = source.streams.audio if options.sound == "drop" else ()
    kinds = {
        "sound track": len(dropped),
        "cover picture": sum(_is_cover(stream) for stream in source.streams.video),
        "subtitle track": len(source.streams.subtitles),
        "data track (telemetry, time codes)": len(source.streams.data),
        "attached file": len(source.streams.attachments),
        "chapter mark": len(source.chapters()),
    }
    return tuple(
        f"left out: {count} {kind if count == 1 else _several(kind)}"
        for kind, count in kinds.items()
        if count
    )


def _several(kind: str) -> str:
    noun, bracket, more = kind.partition(" (")
    return f"{noun}s{bracket}{more}"


def _require_supported(stream: VideoStream, limits: ClipLimits) -> None:
    context: Any = stream.codec_context
    if context is None:
        raise VideoError("expected pictures of a known codec, got one that isn't supported")
    require_known_pictures(context.name)
    require_size(context.width * context.height, limits)
    if stream.frames > limits.frames:
        raise VideoError(f"expected up to {limits.frames} frames, got {stream.frames}")


def require_known_pictures(codec: str) -> None:
    """Raise `VideoError` for pictures of a codec that isn't supported."""
    if codec not in VIDEO_CODECS.split(","):
        raise VideoError(f"expected H.264, H.265, AV1, VP8, VP9, MPEG or MJPEG, got {codec}")


def is_known_sound(stream: AudioStream) -> bool:
    """Return whether the sound is of a codec that is supported."""
    context: Any = stream.codec_context
    return context is not None and context.name in SOUND_CODECS.split(",")


def has_alpha(stream: VideoStream) -> bool:
    """Return whether WebM says that it has transparency, which is stored beside the frames."""
    return stream.metadata.get("alpha_mode") == "1"


def require_size(pixels: float, limits: ClipLimits) -> None:
    """Raise `VideoError` for frames of more `pixels` than is allowed."""
    if pixels > limits.frame_pixels:
        raise VideoError(
            f"expected frames of up to {limits.frame_pixels / 1e6:.1f} megapixels, "
            f"got {pixels / 1e6:.1f}"
        )


def require_length(length_s: float, limits: ClipLimits) -> None:
    """Raise `VideoError` for a longer clip than is allowed."""
    if length_s > limits.length_s:
        raise VideoError(f"expected up to {limits.length_s:.0f} s, got {length_s:.0f} s")


def read_frames(
    source: InputContainer, index: int, *, hide_damaged: bool, skip: int = 0
) -> Iterator[Stored]:
    """Yield every frame of one video track, in the order in which they are shown.

    Args:
        source: just opened.
        index: of the track.
        hide_damaged: yield None for frames that can't be decoded or that build on such a frame.
        skip: this many packets are not decoded; the next one must hold a key frame.

    Raises:
        VideoError: a frame is damaged and `hide_damaged` isn't set, or its time isn't known.
    """
    stream = source.streams[index]
    if not isinstance(stream, VideoStream) or stream.time_base is None:
        raise VideoError("expected a video track with a time base")
    if hide_damaged:
        stream.codec_context.thread_count = 1  # then an error belongs to the packet just given
    else:
        stream.thread_type = "AUTO"
    clock = _Clock(stream.time_base, in_order=source.format.name == "avi")
    state = _Damage(hide=hide_damaged)
    for packet in packets(source, [index], skip=skip):
        clock.saw(packet)
        for frame in state.decode(packet, clock):
            pts = clock.time_of(frame)
            for lost in state.lost_before(pts):
                yield from state.settled(Stored(clock.rising(lost), None))
            spoilt = state.is_spoilt(frame, pts)
            yield from state.settled(Stored(clock.rising(pts), None if spoilt else frame))
    for lost in state.lost_before(None):
        yield from state.settled(Stored(clock.rising(lost), None))
    yield from state.settled(None)


def packets(source: InputContainer, indices: Sequence[int], *, skip: int = 0) -> Iterator[Any]:
    """Yield the packets of some tracks from number `skip` on; the last are empty and end them.

    Raises:
        VideoError: the clip can't be read on.
    """
    wanted = source.demux([source.streams[index] for index in indices])
    count = 0
    while True:
        try:
            packet = next(wanted, None)
        except AV_ERRORS as error:
            raise VideoError("the clip is cut short or damaged") from error
        if packet is None:
            return
        count += 1
        if count > skip or not packet.size:
            yield packet


def frames_after(
    clip: BinaryIO, index: int, known: Sequence[int], *, hide_damaged: bool
) -> Iterator[Stored]:
    """Yield the frames of a video track that are shown after those of `known`.

    Reading begins at a key frame close before them. Where the frames from there on are not
    those of `known`, all are read from the start.

    Args:
        clip: open to be read.
        index: of the track.
        known: times of the first frames.
        hide_damaged: as for `read_frames`.

    Raises:
        VideoError: as for `read_frames`, or the clip begins with other frames than `known`.
    """
    if not known:
        with opened(clip) as source:
            yield from read_frames(source, index, hide_damaged=hide_damaged)
        return
    for skip in sorted({_key_packet_before(clip, index, known[-1]), 0}, reverse=True):
        with opened(clip) as source:
            frames = read_frames(source, index, hide_damaged=hide_damaged, skip=skip)
            again = []
            for stored in frames:
                again.append(stored.pts)
                if stored.pts >= known[-1]:
                    break
            if again == list(known[max(0, len(known) - len(again)) :]):
                yield from frames
                return
    raise VideoError(OTHER_FRAMES)


def _key_packet_before(clip: BinaryIO, index: int, pts: int) -> int:
    """Return how many packets come before the last key frame that is shown at `pts` or earlier."""
    found = 0
    with opened(clip) as source:
        in_order = source.format.name == "avi"
        for number, packet in enumerate(packets(source, [index])):
            time = shown_at(packet, in_order=in_order)
            if time is None:
                continue
            if packet.is_keyframe and time <= pts:
                found = number
            if (packet.dts if packet.dts is not None else time) > pts:
                break
    return found


def shown_at(packet: Any, *, in_order: bool) -> int | None:
    """Return when what is in `packet` is shown; None for the empty packet at the end."""
    pts: int | None = packet.dts if in_order or packet.pts is None else packet.pts
    return pts


class _Clock:
    """When each frame is shown.

    AVI stores no such times, only that frames come at an even rate. What FFmpeg makes of that is
    wrong where frames are stored in another order than shown: there the frame that comes out of
    the decoder as the n-th is shown when the n-th packet is due.
    """

    def __init__(self, time_base: Fraction, *, in_order: bool) -> None:
        self.in_order = in_order
        self.pending: list[int] = []
        self._time_base = time_base
        self._last: int | None = None

    def saw(self, packet: Any) -> None:
        """Note a packet that is about to be decoded."""
        if self.in_order and packet.size and packet.dts is not None:
            heapq.heappush(self.pending, packet.dts)

    def lost(self, time: int) -> None:
        """Note that no frame comes of the packet of that time."""
        if time in self.pending:
            self.pending.remove(time)
            heapq.heapify(self.pending)

    def time_of(self, frame: av.VideoFrame) -> int:
        """Return when a decoded frame is shown.

        Raises:
            VideoError: nothing tells.
        """
        if self.in_order and self.pending:
            return heapq.heappop(self.pending)
        pts = frame.pts if frame.pts is not None else frame.dts
        if pts is None:
            raise VideoError("expected frames with a time, got one without")
        return pts

    def rising(self, pts: int) -> int:
        """Return `pts`, or the tick after the last frame where that was shown no earlier.

        Raises:
            VideoError: it steps back too far to be a slip.
        """
        if self._last is not None and pts <= self._last:
            if (self._last - pts) * self._time_base > NUDGED_S:
                raise VideoError("expected frames whose times rise, got a clock that jumps back")
            pts = self._last + 1
        self._last = pts
        return pts


class _Damage:
    """Decode packets, and know which frames can't be trusted.

    That are damaged ones and all that build on them: up to the next key frame, and those shown
    before that one but stored behind it.
    """

    def __init__(self, *, hide: bool) -> None:
        self._hide = hide
        self._seen_key = False
        self._spoilt = False
        self._clean_from: int | None = None
        self._bad: set[int] = set()
        self._lost: list[int] = []
        self._held: list[Stored] = []
        self._shown_spoilt = False

    def decode(self, packet: Any, clock: _Clock) -> list[Any]:
        """Return the frames that come out of the decoder after `packet`.

        Raises:
            VideoError: it is damaged, and such frames are not to be hidden.
        """
        time = shown_at(packet, in_order=clock.in_order)
        if packet.is_keyframe and not packet.is_corrupt:
            self._seen_key = True
            if self._spoilt:
                self._spoilt, self._clean_from = False, time
        frames: list[Any] = []
        try:
            frames = packet.decode()
        except AV_ERRORS as error:
            if not self._seen_key:  # a recording that begins between key frames; nobody sees this
                if time is not None:
                    clock.lost(time)
                return []
            self._found(error)
            if time is not None and packet.size:
                clock.lost(time)
                heapq.heappush(self._lost, time)
        if packet.is_corrupt and self._seen_key:
            self._found(None)
        if time is not None and (
            self._spoilt or (self._clean_from is not None and time < self._clean_from)
        ):
            self._bad.add(time)
            if clock.in_order:
                self._bad.update(clock.pending)
        return frames

    def _found(self, error: BaseException | None) -> None:
        if not self._hide:
            raise VideoError(
                "a picture of the clip is damaged; the pictures that can't be decoded can be "
                "blanked (damaged: hide)"
            ) from error
        self._spoilt = True

    def is_spoilt(self, frame: av.VideoFrame, pts: int) -> bool:
        """Return whether a decoded frame is damaged, or builds on one that is."""
        if frame.is_corrupt:
            self._found(None)
            self._shown_spoilt = True
            return True
        if frame.key_frame:
            self._shown_spoilt = False
        bad = pts in self._bad
        self._bad.discard(pts)
        return bad or self._shown_spoilt

    def settled(self, stored: Stored | None) -> Iterator[Stored]:
        """Yield frames once it is known that nothing shown later spoils them.

        B-frames build on frames that are shown later: those before a damaged frame are spoilt
        with it, back to the last frame that is none. After the last frame comes None.
        """
        if stored is not None:
            self._held.append(stored)
            frame = stored.frame
            if self._hide and frame is not None and frame.pict_type == PictureType.B:
                return
        held, self._held = self._held, []
        spoilt = any(each.frame is None for each in held)
        yield from (Stored(each.pts, None) for each in held) if spoilt else held

    def lost_before(self, pts: int | None) -> Iterator[int]:
        """Yield the times of frames that never came, up to `pts`; all of them where it is None."""
        while self._lost and (pts is None or self._lost[0] <= pts):
            lost = heapq.heappop(self._lost)
            if lost != pts:
                yield lost
