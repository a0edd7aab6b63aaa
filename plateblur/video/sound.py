"""The sound of a clip: every track of it is copied or encoded as AAC; none is lost unsaid."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, BinaryIO

from av.audio.layout import AudioLayout
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer

from plateblur.errors import VideoError
from plateblur.types import MetadataPolicy
from plateblur.video.reading import AV_ERRORS, OTHER_FRAMES, opened, packets, require_length
from plateblur.video.types import ClipLimits, Container

PCM = {"pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_f32le", "pcm_f64le", "pcm_u8"}
# What players of each kind of file play; MP4 can hold more, but browsers stay silent then.
COPIED: dict[Container, frozenset[str]] = {
    "mp4": frozenset({"aac", "mp3", "opus", "ac3", "eac3", "alac", "flac"}),
    "mov": frozenset({"aac", "mp3", "ac3", "eac3", "alac", *PCM, "pcm_s16be", "pcm_s24be"}),
    "mkv": frozenset(
        {"aac", "mp3", "opus", "ac3", "eac3", "alac", "flac", "vorbis", "mp2", "dca", "truehd"}
        | PCM
    ),
}
# Source: ISO/IEC 14496-3, table 1.18.
AAC_RATES = frozenset(
    {96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000}
)
AAC_LAYOUTS = ("mono", "stereo", "3.0", "4.0", "5.0", "5.1", "7.1")
AAC_BITS_A_CHANNEL = 96_000  # Source: FFmpeg's guide to AAC: 64k a channel is fair, 96k is good
MOST_DAMAGED = 0.5  # of the packets: with more, there is no sound to speak of
OUT_OF_STEP_S = 0.03  # sound that is off by more is moved; Source: ITU-R BT.1359, 45 ms is noticed
# What a decoder needs before the first sample to be heard; players of MKV would play that too.
PRIMING_S: dict[Container, float] = {"mp4": 0.2, "mov": 0.2, "mkv": 0.0}


@dataclass(slots=True)
class SoundTrack:
    """One sound track that is written again.

    Attributes:
        index: of the track in the clip.
        codec: FFmpeg's name of its decoder.
        starts_s: its start on the clip's own clock; None if it is empty.
        packets: how many there are.
        damaged: numbers of those that can't be decoded.
    """

    index: int
    codec: str
    starts_s: Fraction | None = None
    packets: int = 0
    damaged: set[int] = field(default_factory=set)


def read_through(
    clip: BinaryIO, sounds: Sequence[int], pictures: Sequence[int], limits: ClipLimits
) -> tuple[list[SoundTrack], Fraction]:
    """Return what is known of each sound track after decoding all of it, and when the clip ends.

    Because a damaged packet in the output stops a browser, and a sound that can't be read at all
    is to be known before hours of looking at pictures. These are read here, but not decoded.

    Args:
        clip: open to be read.
        sounds: index of each sound track.
        pictures: index of each video track.
        limits: how long they may be.

    Returns:
        The tracks, and when the last packet ends on the clip's own clock, seconds.

    Raises:
        VideoError: a sound track can't be decoded, or a track is too long.
    """
    ends_s = Fraction(0)
    starts_s: Fraction | None = None
    with opened(clip) as source:
        tracks = {
            index: SoundTrack(index, _stream(source, index).codec_context.name) for index in sounds
        }
        for packet in packets(source, [*sounds, *pictures]):
            if packet.pts is not None:
                now_s = packet.pts * packet.time_base
                starts_s = now_s if starts_s is None else min(starts_s, now_s)
                require_length(float(now_s - starts_s), limits)
                ends_s = max(ends_s, (packet.pts + (packet.duration or 0)) * packet.time_base)
            track = tracks.get(packet.stream.index)
            if track is None:
                continue
            try:
                frames = packet.decode()
            except AV_ERRORS:
                track.damaged.add(track.packets)
                frames = []
            for frame in frames:
                if track.starts_s is None and frame.pts is not None:
                    track.starts_s = frame.pts * frame.time_base
            track.packets += bool(packet.size)
    for track in tracks.values():
        if len(track.damaged) > MOST_DAMAGED * track.packets:
            raise VideoError(
                f"the clip's sound ({track.codec}) can't be decoded; it can be written without "
                "sound (sound: drop)"
            )
    return list(tracks.values()), ends_s


def _stream(source: InputContainer, index: int) -> AudioStream:
    stream = source.streams[index]
    if not isinstance(stream, AudioStream):
        raise VideoError(OTHER_FRAMES)
    return stream


def sound_notes(tracks: Sequence[SoundTrack], kind: Container) -> list[str]:
    """Return a sentence for all that doesn't come out as it came."""
    notes = []
    for number, track in enumerate(tracks, start=1):
        if track.damaged:
            notes.append(
                f"sound track {number}: {len(track.damaged)} of {track.packets} packets are "
                "damaged and left out"
            )
        if not _is_copied(track, kind):
            notes.append(f"sound track {number}: {track.codec} is written as AAC")
    return notes


def _is_copied(track: SoundTrack, kind: Container) -> bool:
    return track.codec.removesuffix("float") in COPIED[kind]


class Sounds:
    """The sound tracks on their way into the output: their packets as they are, or as AAC."""

    def __init__(
        self,
        source: InputContainer,
        target: OutputContainer,
        tracks: Sequence[SoundTrack],
        options: tuple[Container, MetadataPolicy],
    ) -> None:
        """Add the tracks to `target`, which must not have been written to."""
        kind, metadata = options
        self._source = source
        self._tracks = {track.index: _Out(source, target, track, kind) for track in tracks}
        for track in self._tracks.values():
            tags = dict(track.stream.metadata)
            track.out.metadata.clear()
            if metadata != "strip" and "language" in tags:
                track.out.metadata["language"] = tags["language"]

    def packets(self, zero_s: Fraction) -> Iterator[Any]:
        """Yield the packets to write, roughly in order.

        Args:
            zero_s: the time on the clip's own clock that becomes 0.
        """
        if not self._tracks:
            return
        for packet in packets(self._source, list(self._tracks)):
            track = self._tracks[packet.stream.index]
            yield from (
                track.copied(packet, zero_s) if track.is_copy else track.encoded(packet, zero_s)
            )
        for track in self._tracks.values():
            yield from track.ended()


class _Out:
    """One track of `Sounds`."""

    def __init__(
        self, source: InputContainer, target: OutputContainer, track: SoundTrack, kind: Container
    ) -> None:
        self.stream = _stream(source, track.index)
        self.is_copy = _is_copied(track, kind)
        self.out: Any = (
            target.add_stream_from_template(self.stream)
            if self.is_copy
            else aac_track(
                target, self.stream.codec_context.sample_rate, self.stream.codec_context.layout
            )
        )
        self._priming_s = PRIMING_S[kind]
        self._damaged = track.damaged
        self._number = -1
        self._resampler: AudioResampler | None = None
        self._kind: tuple[str, str, int] | None = None

    def copied(self, packet: Any, zero_s: Fraction) -> Iterator[Any]:
        self._number += 1
        if packet.dts is None or packet.pts is None or self._number in self._damaged:
            return
        shift = round(zero_s / packet.time_base)
        packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
        # What an edit list cuts away is not heard; what primes the decoder is needed.
        if not packet.is_discard or -self._priming_s <= packet.pts * packet.time_base < 0:
            packet.stream = self.out
            yield packet

    def encoded(self, packet: Any, zero_s: Fraction) -> Iterator[Any]:
        for frame in _decoded(packet):
            if frame.pts is not None:
                frame.pts -= round(zero_s / frame.time_base)
            kind = (frame.format.name, frame.layout.name, frame.sample_rate)
            if kind != self._kind:
                yield from self._encode(None)
                self._kind, self._resampler = kind, in_step(self.out.codec_context)
            yield from self._encode(frame)

    def ended(self) -> Iterator[Any]:
        if not self.is_copy:
            yield from self._encode(None)
            yield from self.out.encode(None)

    def _encode(self, frame: Any) -> Iterator[Any]:
        for part in self._resampler.resample(frame) if self._resampler else ():
            yield from self.out.encode(part)


def _decoded(packet: Any) -> list[Any]:
    try:
        return list(packet.decode())
    except AV_ERRORS:  # found by the check; the gap becomes silence
        return []


def in_step(context: Any) -> AudioResampler:
    """Return what fills gaps with silence and cuts what overlaps, so that sound stays in step."""
    options = {"async": "1", "min_hard_comp": str(OUT_OF_STEP_S)}
    return AudioResampler("fltp", context.layout, context.sample_rate, options=options)


def aac_track(target: OutputContainer, rate: int, source: AudioLayout) -> Any:
    """Add a track of AAC to `target`, and return it.

    Args:
        target: not yet written to.
        rate: of the sound, samples a second; another is used where AAC doesn't have it.
        source: the sound's channels.
    """
    out = target.add_stream("aac", rate=rate if rate in AAC_RATES else 48_000)
    known = {AudioLayout(name).nb_channels: name for name in AAC_LAYOUTS}
    # PCM often doesn't say which channel is which.
    is_known = source.name in AAC_LAYOUTS
    layout = source.name if is_known else known.get(source.nb_channels, "stereo")
    out.codec_context.layout = layout
    out.codec_context.bit_rate = AAC_BITS_A_CHANNEL * AudioLayout(layout).nb_channels
    return out
