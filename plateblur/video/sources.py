"""Where live pictures come from: a camera, a network stream, or a file played at its own speed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import av
import cv2
from av.audio.layout import AudioLayout
from av.container import InputContainer

from plateblur.errors import VideoError
from plateblur.video.reading import (
    AV_ERRORS,
    CONTAINERS,
    SOUND_CODECS,
    VIDEO_CODECS,
    has_alpha,
    is_known_sound,
    opened,
    require_known_pictures,
)

Kind = Literal["camera", "file", "rtsp", "rtmp", "http"]

CAMERA = "camera:"  # and its number: 0 is the first
OPEN_S, READ_S = 10.0, 10.0  # how long a source may be silent before it counts as lost
NETWORK: dict[str, tuple[Kind, dict[str, str]]] = {
    **dict.fromkeys(
        ("rtsp", "rtsps"),
        # Over TCP, because a lost packet of UDP spoils pictures until the next key frame.
        ("rtsp", {"rtsp_transport": "tcp", "protocol_whitelist": "rtsp,rtp,tcp,tls,udp,crypto"}),
    ),
    **dict.fromkeys(
        ("rtmp", "rtmps"), ("rtmp", {"protocol_whitelist": "rtmp,rtmps,tcp,tls,crypto"})
    ),
    # FFmpeg's reader of HLS goes on from these to no file of this machine.
    **dict.fromkeys(
        ("http", "https"), ("http", {"protocol_whitelist": "http,https,tcp,tls,crypto,data"})
    ),
}
"""By the scheme of a URL: what it is, and FFmpeg's options for it."""
FORMATS: dict[Kind, str] = {
    "rtsp": "rtsp",
    "rtmp": "flv,live_flv",
    "http": f"{CONTAINERS},flv,live_flv,mpjpeg,hls",
}


@dataclass(frozen=True, slots=True)
class Source:
    """A source that was named but not opened.

    Attributes:
        address: as it was given; it may hold a password.
        kind: what it is.
    """

    address: str
    kind: Kind

    @property
    def shown(self) -> str:
        """Its name for people, without passwords, keys and tokens."""
        return shown_address(self.address)

    @property
    def is_paced(self) -> bool:
        """Whether it comes as fast as it is read."""
        return self.kind in ("file", "http")

    @contextmanager
    def connected(self) -> Iterator[Live]:
        """Open it.

        Raises:
            VideoError: it can't be opened, or has no picture.
        """
        if self.kind == "camera":
            with _camera(int(self.address.removeprefix(CAMERA))) as live:
                yield live
        elif self.kind == "file":
            with _readable(Path(self.address)) as clip, opened(clip) as container:
                yield _Container(container, ends=True)
        else:
            with _stream(self) as container:
                yield _Container(container, ends=container.duration is not None)


Sound = tuple[int, AudioLayout]
"""Samples a second, and channels."""


class Live:
    """A source that is open.

    Attributes:
        rate: pictures a second, about; None where it doesn't say.
        pixel_aspect: width to height of a stored pixel; None where it doesn't say.
        has_alpha: whether it says that it has transparency beside its frames.
        sound: samples a second and channels; None without sound.
        ends: whether it is over at its end; if not, its end means that it was lost.
        notes: what is left out, a sentence each.
    """

    rate: Fraction | None = None
    pixel_aspect: Fraction | None = None
    has_alpha = False
    sound: Sound | None = None
    ends = False
    notes: tuple[str, ...] = ()

    def frames(self) -> Iterator[av.VideoFrame | av.AudioFrame | None]:
        """Yield pictures and sound as they come; None for what can't be decoded.

        Raises:
            VideoError: it was lost.
        """
        raise NotImplementedError


def source_of(address: str) -> Source:
    """Return the source that an address names.

    Raises:
        ValueError: it is of no known kind, or no such file or camera can be.
    """
    if address.startswith(CAMERA):
        if not address.removeprefix(CAMERA).isdecimal():
            raise ValueError("expected a camera's number, as camera:0")
        return Source(address, "camera")
    if address.startswith("/dev/video") and address.removeprefix("/dev/video").isdecimal():
        return Source(CAMERA + address.removeprefix("/dev/video"), "camera")
    scheme, separator, _ = address.partition("://")
    if separator:
        kind, _ = NETWORK.get(scheme.lower(), (None, None))
        if kind is None:
            raise ValueError(f"expected an address of {', '.join(sorted(NETWORK))}, got {scheme}")
        return Source(address, kind)
    return Source(address, "file")


def shown_address(address: str) -> str:
    """Return an address without what may be secret: passwords, stream keys and tokens.

    A key of RTMP is in the path, one of HTTP in the query, so of a URL only scheme and host stay.
    """
    if "://" not in address:
        return address
    try:
        parts = urlsplit(address)
        port = f":{parts.port}" if parts.port else ""
        return f"{parts.scheme}://{parts.hostname or ''}{port}"
    except ValueError:
        return "the address"


def reason(error: BaseException) -> str:
    """Return why something of FFmpeg failed; its own text may hold the whole address."""
    if isinstance(error, av.error.ExitError):
        return "no answer in time"
    if isinstance(error, av.error.FFmpegError):
        return str(error.strerror).lower()
    return "it can't be read"


@contextmanager
def _stream(source: Source) -> Iterator[InputContainer]:
    _, options = NETWORK[source.address.partition("://")[0].lower()]
    known = options | {
        "format_whitelist": FORMATS[source.kind],
        "codec_whitelist": f"{VIDEO_CODECS},{SOUND_CODECS}",
    }
    try:
        container = av.open(
            source.address,
            "r",
            format="rtsp" if source.kind == "rtsp" else None,
            container_options=known,
            timeout=(OPEN_S, READ_S),
            metadata_errors="replace",
        )
    except AV_ERRORS as error:
        # From None, because the error's text holds the address with its password.
        raise VideoError(f"{source.shown} can't be opened: {reason(error)}") from None
    with container:
        yield container


@contextmanager
def _readable(path: Path) -> Iterator[Any]:
    try:
        clip = path.open("rb")
    except OSError as error:
        raise VideoError(f"{path} can't be opened: {error.strerror}") from error
    with clip:
        yield clip


class _Container(Live):
    """What FFmpeg reads."""

    def __init__(self, container: InputContainer, *, ends: bool) -> None:
        """Choose the tracks that players show and play first.

        Raises:
            VideoError: there is no picture.
        """
        picture: Any = container.streams.best("video")
        if picture is None or picture.codec_context is None:
            raise VideoError("expected a source with pictures of a known codec, got none")
        require_known_pictures(picture.codec_context.name)
        self._container = container
        self._picture = picture
        self._picture.thread_type = "AUTO"
        self.rate = self._picture.average_rate or self._picture.guessed_rate
        self.pixel_aspect = self._picture.sample_aspect_ratio
        self.has_alpha = has_alpha(self._picture)
        heard: Any = container.streams.best("audio")
        has_sound = heard is not None and is_known_sound(heard)
        self._heard = heard if has_sound else None
        if has_sound:
            self.sound = heard.codec_context.sample_rate, heard.codec_context.layout
        self.ends = ends
        self.notes = self._left_out()

    def _left_out(self) -> tuple[str, ...]:
        streams = self._container.streams
        kinds = {
            "video track": len(streams.video) - 1,
            "sound track": len(streams.audio) - (self._heard is not None),
            "subtitle track": len(streams.subtitles),
            "data track": len(streams.data),
        }
        return tuple(
            f"left out: {count} {kind if count == 1 else kind + 's'}"
            for kind, count in kinds.items()
            if count
        )

    def frames(self) -> Iterator[av.VideoFrame | av.AudioFrame | None]:
        """See `Live.frames`."""
        chosen = [self._picture, *([self._heard] if self._heard is not None else [])]
        wanted = self._container.demux(chosen)
        while (packet := _next(wanted)) is not None:
            is_picture = packet.stream.index == self._picture.index
            try:
                frames: list[Any] = packet.decode()
            except AV_ERRORS:
                frames = [None] if is_picture and packet.size else []
            for frame in frames:
                yield None if frame is not None and is_picture and frame.is_corrupt else frame


def _next(packets: Iterator[Any]) -> Any:
    try:
        return next(packets, None)
    except AV_ERRORS as error:
        raise VideoError(reason(error)) from None


@contextmanager
def _camera(number: int) -> Iterator[Live]:
    """Open a camera of this machine, through OpenCV: PyAV is built without cameras."""
    device = cv2.VideoCapture(number)
    try:
        if not device.isOpened():
            raise VideoError(f"camera:{number} can't be opened")
        yield _Camera(device)
    finally:
        device.release()


class _Camera(Live):
    """A camera of this machine; it has no sound."""

    def __init__(self, device: cv2.VideoCapture) -> None:
        self._device = device
        per_second = device.get(cv2.CAP_PROP_FPS)
        self.rate = Fraction(round(per_second)) if 1 <= per_second <= 1000 else None

    def frames(self) -> Iterator[av.VideoFrame | av.AudioFrame | None]:
        """See `Live.frames`."""
        start_s = time.monotonic()
        while True:
            pixels: Any
            is_read, pixels = self._device.read()
            if not is_read:
                raise VideoError("the camera gives no more pictures")
            # Converted here, so that every later step finds the layout of any other clip.
            frame = av.VideoFrame.from_ndarray(pixels, format="bgr24").reformat(format="yuv420p")
            frame.time_base = Fraction(1, 90_000)
            frame.pts = round((time.monotonic() - start_s) / frame.time_base)
            yield frame
