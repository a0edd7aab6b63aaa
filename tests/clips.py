"""Drawn clips: a dark plate with bright letters that drives through a street."""

from __future__ import annotations

import io
import struct
from collections.abc import Collection, Sequence
from fractions import Fraction
from typing import Any

import av
import cv2
import numpy as np

from plateblur.errors import DetectionError
from plateblur.types import Detections, Image
from plateblur.video.looking import TILE_PX
from tests.fakes import DarkDetector, boxes, street

RATE = 10  # frames a second
IMAGE_HW = (120, 160)
PLATE_WH = (40, 14)
TURNED_LEFT = (0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
"""Matrix of a clip that is stored turned to the left, as a phone held upright stores it.

Source: ISO/IEC 14496-12, 8.3.2.
"""


class BlinkingDetector(DarkDetector):
    """Misses the plate in some calls, counted from 0, and fails in some."""

    def __init__(self, *, misses: Collection[int] = (), fails: Collection[int] = ()) -> None:
        super().__init__()
        object.__setattr__(self, "calls", [])
        object.__setattr__(self, "misses", misses)
        object.__setattr__(self, "fails", fails)

    def detect(self, image: Image, *, min_confidence: float, **how: Any) -> Detections:
        calls: list[tuple[int, ...]] = self.__dict__["calls"]
        calls.append(image.shape)
        if len(calls) - 1 in self.__dict__["fails"]:
            raise DetectionError("the detector failed")
        if len(calls) - 1 in self.__dict__["misses"]:
            return Detections(boxes(), np.zeros(0, np.float32))
        return super().detect(image, min_confidence=min_confidence)


def seen_in_tiles(sheet: Image, *, min_confidence: float) -> Detections:
    """Return the dark plates of the cut-outs on a sheet, all found unsurely."""
    found = []
    for row in range(0, sheet.shape[0], TILE_PX):
        for column in range(0, sheet.shape[1], TILE_PX):
            tile = sheet[row : row + TILE_PX, column : column + TILE_PX]
            seen = DarkDetector().detect(tile, min_confidence=min_confidence)
            found += [box + np.tile([column, row], 2) for box in seen.xyxy]
    return Detections(boxes(*found), np.full(len(found), 0.2, np.float32))


def plate_at(frame: int) -> tuple[int, int, int, int]:
    """Return where the plate is in a frame of `driving`, `xyxy`."""
    left = 10 + 3 * frame
    return left, 60, left + PLATE_WH[0], 60 + PLATE_WH[1]


def driving(frames: int = 20, *, plate: bool = True) -> list[Image]:
    """Return the frames of a clip in which a plate drives to the right."""
    ground = street(*IMAGE_HW).clip(90, 255)
    images = []
    for frame in range(frames):
        image = ground.copy()
        if plate:
            x1, y1, x2, y2 = plate_at(frame)
            image[y1:y2, x1:x2] = 10
            at = (x1 + 2, y2 - 3)
            cv2.putText(image, "AB12", at, cv2.FONT_HERSHEY_SIMPLEX, 0.42, (250, 250, 250), 1)
        images.append(image)
    return images


def drawn_clip(
    images: Sequence[Image],
    *,
    kind: str = "mp4",
    codec: str = "libx264",
    sound: str = "",
    pts: Sequence[int] | None = None,
    turned: bool = False,
) -> bytes:
    """Return `images` as a clip.

    Args:
        images: of one size, even sides.
        kind: of the container.
        codec: of the pictures.
        sound: codec of a tone as long as the clip; none where empty.
        pts: time of each frame, in tenths of a second; evenly where None.
        turned: store the images turned to the left, and say so.
    """
    out = io.BytesIO()
    with av.open(out, "w", format=kind) as target:
        target.metadata["title"] = "a title that tells who filmed"
        options = {"crf": "10"} if codec == "libx264" else {"crf": "6", "b": "2000000"}
        picture: Any = target.add_stream(codec, rate=RATE, options=options)
        stored = [np.rot90(image).copy() if turned else image for image in images]
        picture.height, picture.width = stored[0].shape[:2]
        picture.pix_fmt = "yuv420p"
        tone: Any = target.add_stream(sound, rate=48_000, layout="mono") if sound else None
        for number, image in enumerate(stored):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            if pts is not None:
                frame.pts = pts[number]
            target.mux(picture.encode(frame))
        target.mux(picture.encode(None))
        if tone is not None:
            samples = np.sin(np.arange(4800 * len(images)) / 20, dtype=np.float32)[None]
            heard = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
            heard.sample_rate = 48_000
            target.mux(tone.encode(heard))
            target.mux(tone.encode(None))
    data = bytearray(out.getvalue())
    if turned:
        at = data.index(b"tkhd") + 4 + 40
        data[at : at + 36] = struct.pack(">9i", *TURNED_LEFT)
    return bytes(data)


def frames_of(data: bytes) -> list[tuple[float, Image]]:
    """Return the time, seconds, and the pixels of each frame as players show it."""
    with av.open(io.BytesIO(data), "r") as source:
        return [
            (
                float(frame.time or 0),
                np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90),
            )
            for frame in source.decode(video=0)
        ]


ORIENTATIONS = {
    "as stored": (1, 0, 0, 1),
    "mirrored": (-1, 0, 0, 1),
    "half turn": (-1, 0, 0, -1),
    "upside down, mirrored": (1, 0, 0, -1),
    "turned right": (0, 1, -1, 0),
    "turned left": (0, -1, 1, 0),
    "turned left, mirrored": (0, 1, 1, 0),
    "turned right, mirrored": (0, -1, -1, 0),
}
"""The display matrices of right angles: a, b, c, d of x' = a x + c y, y' = b x + d y."""


def with_matrix(data: bytes, a: float, b: float, c: float, d: float) -> bytes:
    """Return an MP4 with another display matrix for its first track."""
    changed = bytearray(data)
    at = changed.index(b"tkhd") + 4 + 40
    rows = [round(entry * (1 << 16)) for entry in (a, b, 0, c, d, 0, 0, 0)]
    changed[at : at + 36] = struct.pack(">9i", *rows, 1 << 30)
    return bytes(changed)


def stored_for(image: Image, a: int, b: int, c: int, d: int) -> Image:
    """Return how `image` is stored so that a matrix of `ORIENTATIONS` shows it as it is."""
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    if a or d:
        straight: Image = image[rows if d > 0 else -1 - rows, columns if a > 0 else -1 - columns]
        return straight
    mirrored = image[:: 1 if b > 0 else -1, :: 1 if c > 0 else -1]
    return np.ascontiguousarray(mirrored.swapaxes(0, 1))


def beep(seconds: float, *, at_s: float, rate: int = 48_000, channels: int = 2) -> Any:
    """Return silence with a tone from `at_s` on, (channels, N) float32."""
    time = np.arange(round(seconds * rate)) / rate
    tone = np.where(time >= at_s, 0.8 * np.sin(2 * np.pi * 440 * time), 0)
    return np.tile(tone.astype(np.float32), (channels, 1))


def recorded(
    pictures: Sequence[Sequence[Image]],
    *,
    kind: str,
    codec: str = "libx264",
    sounds: Sequence[str] = (),
    start_s: float = 0.0,
    sound_late_s: float = 0.0,
    beep_s: float = 0.0,
    pixel_aspect: Fraction | None = None,
    pixels: str = "yuv420p",
    options: dict[str, str] | None = None,
    colours: dict[str, int] | None = None,
    metadata: dict[str, str] | None = None,
) -> bytes:
    """Return video tracks and sound tracks as one clip.

    Args:
        pictures: the images of each video track, `RATE` a second.
        kind: of the container.
        codec: of the pictures.
        sounds: codec of each sound track; a tone sets in at `beep_s`.
        start_s: time of the first frame, and of the sound.
        sound_late_s: the sound begins so much later.
        beep_s: silence in the sound before its tone.
        pixel_aspect: width to height of a stored pixel.
        pixels: FFmpeg's name of their layout.
        options: of the encoder of the pictures.
        colours: attributes of H.273 for the encoder.
        metadata: of the container.
    """
    out = io.BytesIO()
    length_s = len(pictures[0]) / RATE
    with av.open(out, "w", format=kind) as target:
        target.metadata.update(metadata or {})
        streams: list[Any] = []
        for images in pictures:
            stream: Any = target.add_stream(codec, rate=RATE, options=options or {"crf": "10"})
            stream.height, stream.width = images[0].shape[:2]
            stream.pix_fmt = pixels
            if pixel_aspect:
                stream.codec_context.sample_aspect_ratio = pixel_aspect
            for name, code in (colours or {}).items():
                setattr(stream.codec_context, name, code)
            streams.append(stream)
        tones: list[Any] = []
        for number, name in enumerate(sounds):
            rate = 22_050 if name.startswith("adpcm") else 48_000
            tone: Any = target.add_stream(name, rate=rate, layout="stereo")
            tone.codec_context.bit_rate = 128_000
            tone.metadata["language"] = ("eng", "deu", "fra")[number % 3]
            tones.append(tone)
        for number in range(len(pictures[0])):
            for stream, images in zip(streams, pictures, strict=True):
                image = np.ascontiguousarray(images[number])
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                if pixels != "yuv420p" or colours:
                    told = colours or {}
                    frame = frame.reformat(
                        format=pixels,
                        dst_colorspace=told.get("colorspace"),
                        dst_color_range=told.get("color_range"),
                    )
                frame.pts = number + round(start_s * RATE)
                frame.time_base = Fraction(1, RATE)
                target.mux(stream.encode(frame))
        for stream in streams:
            target.mux(stream.encode(None))
        for tone in tones:
            rate = tone.codec_context.sample_rate
            samples = beep(length_s, at_s=beep_s, rate=rate)
            for first in range(0, samples.shape[1], 1000):
                part = np.ascontiguousarray(samples[:, first : first + 1000])
                heard = av.AudioFrame.from_ndarray(part, format="fltp", layout="stereo")
                heard.sample_rate, heard.time_base = rate, Fraction(1, rate)
                heard.pts = first + round((start_s + sound_late_s) * rate)
                target.mux(tone.encode(heard))
            target.mux(tone.encode(None))
    return out.getvalue()


def flashing(frames: int = 20, *, at: int = 10) -> list[Image]:
    """Return the frames of a clip that is dim and turns bright in frame `at`; without plates."""
    dim, bright = np.full((*IMAGE_HW, 3), 80, np.uint8), np.full((*IMAGE_HW, 3), 220, np.uint8)
    return [bright if frame >= at else dim for frame in range(frames)]


def shown_and_heard_at(data: bytes) -> tuple[float, float]:
    """Return when a clip of `flashing` with a beep turns bright and when it beeps, seconds."""
    with av.open(io.BytesIO(data), "r") as source:
        flash = next(
            float(frame.time or 0)
            for frame in source.decode(video=0)
            if frame.to_ndarray(format="gray").mean() > 150
        )
    with av.open(io.BytesIO(data), "r") as source:
        for frame in source.decode(audio=0):
            loud = np.abs(_samples(frame)).max(axis=0) > 0.2
            if loud.any():
                return flash, float(frame.time or 0) + int(loud.argmax()) / frame.sample_rate
    raise AssertionError("no beep")


def _samples(frame: av.AudioFrame) -> Any:
    """Return (channels, N) float, -1 to 1."""
    array = av.AudioResampler("fltp", frame.layout, frame.sample_rate).resample(frame)
    return np.hstack([part.to_ndarray() for part in array])


def without_packet(data: bytes, *, pid: int, number: int) -> bytes:
    """Return a transport stream that lacks one packet of `pid`, as after a bad reception."""
    packets = [data[at : at + 188] for at in range(0, len(data), 188)]
    ours = [n for n, packet in enumerate(packets) if int.from_bytes(packet[1:3]) & 0x1FFF == pid]
    del packets[ours[number]]
    return b"".join(packets)
