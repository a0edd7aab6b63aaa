"""Write blurred pictures in segments, and put them together with the sound."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import av
from av.container import InputContainer, OutputContainer

from plateblur.errors import EncodeError
from plateblur.types import MetadataPolicy
from plateblur.video.colour import Planes, frame_of
from plateblur.video.picture import Picture
from plateblur.video.reading import AV_ERRORS
from plateblur.video.sound import Sounds, SoundTrack
from plateblur.video.types import Container, Quality

SEGMENT_FRAMES = 900  # half a minute of a usual clip: what a kill costs at most while writing
MUXERS: dict[Container, str] = {"mp4": "mp4", "mov": "mov", "mkv": "matroska"}
# Source: x264 and x265; 18 to 23 are hard to tell from the input, a step of 6 doubles the size.
CRF: dict[Quality, str] = {"high": "16", "normal": "20", "small": "26"}
PRESET = "veryfast"  # Source: x264's guide: the size of the next slower is a tenth less, at most
REORDERED = 2  # frames: B-frames that other B-frames build on, as both encoders make them

# When and with what a clip was filmed. Apple's and Google's names as FFmpeg gives them.
SAFE_METADATA = frozenset(
    {
        *("creation_time", "date", "make", "model", "com.apple.quicktime.creationdate"),
        *("com.apple.quicktime.make", "com.apple.quicktime.model", "com.android.manufacturer"),
        *("com.android.model", "com.android.capture.fps"),
    }
)
# What the muxer writes itself, and what may hold pictures or rights in a maker-specific form.
NEVER_METADATA = frozenset(
    {"major_brand", "minor_version", "compatible_brands", "encoder", "handler_name", "vendor_id"}
)


def write_segment(
    path: Path, picture: Picture, frames: Iterable[Planes], times: Sequence[int], quality: Quality
) -> None:
    """Encode frames as one segment, with its first at time 0; there is no file until it is whole.

    Args:
        path: of the segment.
        picture: the track that it belongs to.
        frames: of `Picture.written_hw`.
        times: of each, in the time base of `picture`.
        quality: of the pictures.

    Raises:
        EncodeError: it could not be written.
    """
    part = path.with_suffix(".part")
    with written(part, "mp4") as target:
        with encoding():
            stream = video_stream(target, picture, quality)
        for planes, pts in zip(frames, times, strict=True):
            frame = frame_of(planes, picture.colours)
            frame.pts, frame.time_base = pts - times[0], picture.time_base
            with encoding():
                target.mux(stream.encode(frame))
        with encoding():
            target.mux(stream.encode(None))
    part.replace(path)


def video_stream(target: OutputContainer, picture: Picture, quality: Quality, **more: str) -> Any:
    """Add the track to `target` that frames of `picture` are encoded into.

    Args:
        target: not yet written to.
        picture: the track that they come from.
        quality: of the pictures.
        more: options of the encoder.
    """
    deep = picture.colours.deep
    options = {"crf": CRF[quality], "preset": PRESET, **more}
    if deep:
        light = f":{picture.colours.light}" if picture.colours.light else ""
        options["x265-params"] = f"log-level=error{light}"
    # HDR goes into H.265, which is what players of HDR decode.
    stream: Any = target.add_stream(
        "libx265" if deep else "libx264", rate=picture.rate, options=options
    )
    context = stream.codec_context
    context.height, context.width = picture.written_hw
    context.pix_fmt = picture.colours.pixels
    context.time_base = picture.time_base
    context.sample_aspect_ratio = picture.upright.upright_aspect
    context.colorspace, context.color_range = picture.colours.matrix, picture.colours.range_
    context.color_trc, context.color_primaries = picture.colours.curve, picture.colours.primaries
    if deep:
        context.codec_tag = "hvc1"  # Apple's players take no other
    return stream


@dataclass(frozen=True, slots=True)
class Written:
    """A video track that is ready to be put into the output.

    Attributes:
        picture: how it was written.
        segments: files, in order; each holds `SEGMENT_FRAMES` frames, the last may hold fewer.
        times: of all frames, in the time base of `picture`.
    """

    picture: Picture
    segments: Sequence[Path]
    times: Sequence[int]


def put_together(
    out: BinaryIO,
    pictures: Sequence[Written],
    sound: tuple[InputContainer, Sequence[SoundTrack]],
    zero_s: Fraction,
    options: tuple[Container, MetadataPolicy],
) -> None:
    """Write pictures and sound as one clip whose times start at 0.

    Args:
        out: open to be written, and able to seek.
        pictures: the video tracks.
        sound: the clip, just opened, and its tracks that are written again.
        zero_s: the time on the clip's own clock that becomes 0.
        options: the output format and metadata policy.

    Raises:
        VideoError: the sound can't be read.
        EncodeError: it could not be written.
    """
    kind, policy = options
    source, tracks = sound
    with ExitStack() as open_, written(out, MUXERS[kind], tags=policy != "strip") as target:
        with encoding():
            target.metadata.update(kept_metadata(source.metadata, policy))
            streams = []
            for each in pictures:
                first = open_.enter_context(av.open(str(each.segments[0]), "r"))
                stream: Any = target.add_stream_from_template(first.streams.video[0])
                stream.metadata.clear()
                stream.time_base = each.picture.time_base
                streams.append(stream)
            sounds = Sounds(source, target, tracks, options)
        packets = [
            *map(_packets, streams, pictures, [zero_s] * len(pictures)),
            sounds.packets(zero_s),
        ]
        for packet in heapq.merge(*packets, key=lambda packet: packet.dts * packet.time_base):
            with encoding():
                target.mux(packet)


def kept_metadata(metadata: dict[str, str], policy: MetadataPolicy) -> dict[str, str]:
    """Return what of a clip's metadata goes with it.

    `safe` keeps when and with what it was filmed; `keep` all but what the file itself says anew,
    so place, title and author too.
    """
    if policy == "strip":
        return {}
    if policy == "safe":
        return {key: value for key, value in metadata.items() if key.lower() in SAFE_METADATA}
    return {key: value for key, value in metadata.items() if key.lower() not in NEVER_METADATA}


def _packets(stream: Any, track: Written, zero_s: Fraction) -> Iterator[Any]:
    """Yield the packets of all segments, their times on one clock."""
    time_base, times = track.picture.time_base, track.times
    shift = round(zero_s / time_base)
    step = max(1, round(1 / track.picture.rate / time_base))
    number = 0
    for segment, path in enumerate(track.segments):
        start = times[segment * SEGMENT_FRAMES]
        with av.open(str(path), "r") as source:
            for packet in source.demux(video=0):
                if packet.pts is None:
                    continue
                # B-frames are decoded before they are shown, by so many frames at most.
                early = number - REORDERED
                packet.pts = start + round(packet.pts * packet.time_base / time_base) - shift
                packet.dts = (times[early] if early >= 0 else times[0] + early * step) - shift
                if packet.dts > packet.pts:
                    raise EncodeError("the encoder reorders frames further than expected")
                packet.duration = round((packet.duration or 0) * packet.time_base / time_base)
                packet.time_base, packet.stream = time_base, stream
                number += 1
                yield packet
    if number != len(times):
        raise EncodeError(f"expected {len(times)} frames in the segments, got {number}")


@contextmanager
def written(out: BinaryIO | Path, muxer: str, *, tags: bool = False) -> Iterator[OutputContainer]:
    """Open the output and finish it; it is left unfinished if an exception is raised."""
    options = {"movflags": "use_metadata_tags"} if tags and muxer != "matroska" else {}
    with encoding():
        target = av.open(
            str(out) if isinstance(out, Path) else out, "w", format=muxer, options=options
        )
    try:
        yield target
    except BaseException:
        with _quiet():
            target.close()
        raise
    with encoding():
        target.close()


@contextmanager
def encoding() -> Iterator[None]:
    """Turn what PyAV raises into `EncodeError`."""
    try:
        yield
    except AV_ERRORS as error:
        raise EncodeError("the blurred clip could not be written") from error


@contextmanager
def _quiet() -> Iterator[None]:
    try:
        yield
    except AV_ERRORS:  # the unfinished output is discarded anyway
        return
