"""Where live pictures go: an RTMP or RTSP server, an HLS playlist, or a file."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from queue import Full, Queue
from typing import Any, Literal

import av
from av.container import OutputContainer
from av.video.frame import PictureType

from plateblur.errors import EncodeError
from plateblur.video.colour import Planes, frame_of
from plateblur.video.feed import TIME_BASE
from plateblur.video.picture import Picture
from plateblur.video.reading import AV_ERRORS
from plateblur.video.sound import aac_track, in_step
from plateblur.video.sources import Sound, reason, shown_address
from plateblur.video.types import Quality
from plateblur.video.writing import video_stream

SinkKind = Literal["rtmp", "rtsp", "hls", "file"]

SCHEMES: dict[str, SinkKind] = {"rtmp": "rtmp", "rtmps": "rtmp", "rtsp": "rtsp", "rtsps": "rtsp"}
# MP4 and MOV are written in fragments, readable up to the last one if the machine loses power, and
# become ordinary files when they are closed.
FILES = {
    ".mp4": ("mp4", {"movflags": "hybrid_fragmented"}),
    ".mov": ("mov", {"movflags": "hybrid_fragmented"}),
    ".mkv": ("matroska", {}),
    ".ts": ("mpegts", {}),
}
MUXERS = {"rtmp": "flv", "rtsp": "rtsp", "hls": "hls"}
LIVE_X264 = {"tune": "zerolatency", "bf": "0", "forced-idr": "1"}
OVERLAP_S = 0.05  # by which sound may begin before the end of what was written
KEY_EVERY_S = 2.0  # what a player waits for at most when it joins
HLS_SEGMENTS = 10  # kept; older ones are deleted
SILENT_S = 10.0  # a server that takes nothing for so long counts as lost
WAITING = 16  # frames and sounds that may wait for the sink; a frame of 4K takes 12 MB
# What the muxer waits for sound or picture at most, when one of them stays away.
INTERLEAVED_US = 500_000


@dataclass(frozen=True, slots=True)
class Sink:
    """A sink that was named but not opened.

    Attributes:
        address: as it was given; it may hold a password or a key.
        kind: what it is.
        muxer: FFmpeg's name of how it is written.
        options: for the muxer.
    """

    address: str
    kind: SinkKind
    muxer: str
    options: dict[str, str]

    @property
    def shown(self) -> str:
        """Its name for people, without passwords and keys."""
        return shown_address(self.address)

    @property
    def is_remote(self) -> bool:
        """Whether it is a server, which may be lost and found again."""
        return self.kind in ("rtmp", "rtsp")

    @contextmanager
    def connected(
        self, picture: Picture, sound: Sound | None, quality: Quality
    ) -> Iterator[Sending]:
        """Open it, and close it properly, whatever happens in between.

        Args:
            picture: what its frames are.
            sound: what the source sounds like; None without sound.
            quality: of the pictures.

        Raises:
            EncodeError: it can't be opened, or not be finished.
        """
        with self._telling():
            target = av.open(
                self.address,
                "w",
                format=self.muxer,
                container_options=self.options,
            )
        try:
            with self._telling():
                sending = Sending(target, picture, sound, quality, self._telling)
            yield sending
            with self._telling():
                sending.finish()
        finally:
            with self._telling():
                target.close()

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except AV_ERRORS as error:
            # From None, because the error's text holds the address with its key.
            raise EncodeError(f"{self.shown} can't be written to: {reason(error)}") from None


class Sending:
    """A sink that is open."""

    def __init__(
        self,
        target: OutputContainer,
        picture: Picture,
        sound: Sound | None,
        quality: Quality,
        telling: Callable[[], AbstractContextManager[None]],
    ) -> None:
        """Add the tracks; see `Sink.connected`."""
        self._target = target
        self._picture = replace(picture, time_base=TIME_BASE)
        self._telling = telling
        stream = video_stream(target, self._picture, quality, **LIVE_X264)
        self._video = stream
        self._audio = aac_track(target, *sound) if sound is not None else None
        target.start_encoding()  # which connects
        self._resampler: Any = None
        self._kind: tuple[str, str, int] | None = None
        self._last: int | None = None
        self._heard_s = 0.0
        self._zero_s: float | None = None
        self._key_s = 0.0

    def show(self, planes: Planes, time_s: float) -> None:
        """Write a frame.

        Args:
            planes: of `Picture.written_hw`.
            time_s: when it was taken; the first one is shown at 0.

        Raises:
            EncodeError: it can't be written.
        """
        if self._zero_s is None:
            self._zero_s = self._key_s = time_s
        pts = round((time_s - self._zero_s) / TIME_BASE)
        # Two within a millisecond are the same to FLV.
        pts = pts if self._last is None else max(pts, self._last + TIME_BASE.denominator // 1000)
        self._last = pts
        frame = frame_of(planes, self._picture.colours)
        frame.pts, frame.time_base = pts, TIME_BASE
        if time_s - self._key_s >= KEY_EVERY_S:
            frame.pict_type, self._key_s = PictureType.I, time_s
        with self._telling():
            self._target.mux(self._video.encode(frame))

    def hear(self, frame: av.AudioFrame, time_s: float) -> None:
        """Write sound, unless it is from before the first picture; gaps become silence.

        Args:
            frame: as decoded.
            time_s: when its first sample was taken.

        Raises:
            EncodeError: it can't be written.
        """
        if self._audio is None or self._zero_s is None or time_s < self._zero_s:
            return
        if time_s < self._heard_s - OVERLAP_S:
            return  # a source that came back sends again what was written before
        self._heard_s = time_s + frame.samples / frame.sample_rate
        frame.time_base = Fraction(1, frame.sample_rate)
        frame.pts = round((time_s - self._zero_s) * frame.sample_rate)
        kind = (frame.format.name, frame.layout.name, frame.sample_rate)
        with self._telling():
            if kind != self._kind:
                self._flush()
                self._kind, self._resampler = kind, in_step(self._audio.codec_context)
            for part in self._resampler.resample(frame):
                self._target.mux(self._audio.encode(part))

    def finish(self) -> None:
        """Write what the encoders still hold."""
        if self._zero_s is None:
            return
        self._target.mux(self._video.encode(None))
        if self._audio is not None:
            self._flush()
            self._target.mux(self._audio.encode(None))

    def _flush(self) -> None:
        if self._audio is None:
            return
        for part in self._resampler.resample(None) if self._resampler else ():
            self._target.mux(self._audio.encode(part))


class Sender:
    """Encodes and sends in a thread of its own, so that a server that takes nothing stops nobody.

    FFmpeg can't be interrupted while it waits for a server. The thread of one that never answers
    is left behind; it ends with the connection.
    """

    def __init__(self, sink: Sink, picture: Picture, sound: Sound | None, quality: Quality) -> None:
        """Begin to connect; for what is given see `Sink.connected`."""
        self._sink, self._how = sink, (picture, sound, quality)
        self._waiting: Queue[Callable[[Sending], None] | None] = Queue(maxsize=WAITING)
        self._failure: EncodeError | None = None
        self._acted_s = time.monotonic()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def put(self, act: Callable[[Sending], None]) -> bool:
        """Have `act` done after those before it, and return whether there was room.

        Raises:
            EncodeError: the sink is lost.
        """
        if not self._thread.is_alive():
            raise self._failure or EncodeError(f"{self._sink.shown} can't be written to")
        try:
            self._waiting.put_nowait(act)
        except Full:
            if self._sink.is_remote and time.monotonic() - self._acted_s > SILENT_S:
                raise EncodeError(f"{self._sink.shown} takes nothing any more") from None
            return False
        return True

    def finish(self) -> None:
        """Have all done that was put, and the sink closed.

        Raises:
            EncodeError: it is lost.
        """
        ends_s = time.monotonic() + SILENT_S
        while self._thread.is_alive() and not (self._sink.is_remote and time.monotonic() > ends_s):
            try:
                self._waiting.put(None, timeout=0.1)
            except Full:
                continue
            break
        self._thread.join(SILENT_S if self._sink.is_remote else None)
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            with self._sink.connected(*self._how) as sending:
                while (act := self._waiting.get()) is not None:
                    self._acted_s = time.monotonic()
                    act(sending)
        except EncodeError as error:
            self._failure = error


def sink_of(address: str) -> Sink:
    """Return the sink that an address names.

    Raises:
        ValueError: it is of no known kind.
    """
    scheme, separator, _ = address.partition("://")
    together = {"max_interleave_delta": str(INTERLEAVED_US), "flush_packets": "1"}
    if separator:
        kind = SCHEMES.get(scheme.lower())
        if kind is None:
            raise ValueError(f"expected an address of {', '.join(sorted(SCHEMES))}, got {scheme}")
        over = {"rtsp_transport": "tcp"} if kind == "rtsp" else {}
        return Sink(address, kind, MUXERS[kind], together | over)
    suffix = Path(address).suffix.lower()
    if suffix == ".m3u8":
        hls = {
            "hls_time": f"{KEY_EVERY_S:g}",
            "hls_list_size": str(HLS_SEGMENTS),
            "hls_flags": "delete_segments+independent_segments+temp_file",
        }
        return Sink(address, "hls", MUXERS["hls"], together | hls)
    if suffix not in FILES:
        known = ", ".join([*FILES, ".m3u8"])
        raise ValueError(f"{Path(address).name} must end in {known}")
    muxer, options = FILES[suffix]
    return Sink(address, "file", muxer, together | options)
