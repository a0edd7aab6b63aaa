"""The colours of a clip's frames: read for the detector, kept as they are for the output.

Frames stay in the clip's own luma and chroma. Only what is hidden goes through RGB and back, so
that everything else keeps its levels, and HDR its depth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import av
import cv2
import numpy as np
from av.sidedata.sidedata import Type
from numpy.typing import NDArray

from plateblur.blur import blur_boxes, hidden_bounds
from plateblur.errors import VideoError
from plateblur.types import BlurOptions, Boxes, Image
from plateblur.video.upright import Upright, side_data

# Source of all codes: ITU-T H.273.
RGB, BT709, UNSAID, BT601 = 0, 1, 2, 6
PQ, HLG = 16, 18
ICTCP = (14, 15)
STUDIO, FULL = 1, 2  # as FFmpeg numbers the range
HD_ROWS = 720  # Source: ITU-R BT.709 is for HD; players take smaller clips for BT.601
SDR_WHITE_NITS = 203.0  # Source: ITU-R BT.2408
BLANK = 0.25  # of the range of luma: dark grey

Planes = tuple[NDArray[Any], NDArray[Any], NDArray[Any]]
"""Luma (H, W) and both chroma (H/2, W/2), uint8, or uint16 with 10 bits; H and W are even."""


@dataclass(frozen=True, slots=True)
class Colours:
    """What the numbers in a frame mean, in the codes of H.273; 2 where the clip doesn't say.

    Attributes:
        matrix: from RGB to luma and chroma.
        full_range: luma fills 0 to 255, not 16 to 235.
        curve: from light to the numbers.
        primaries: which red, green and blue.
        deep: 10 bits are kept.
        light: how bright the screen was that HDR was made on, as x265 takes it.
    """

    matrix: int
    full_range: bool
    curve: int
    primaries: int
    deep: bool
    light: str = ""

    @property
    def pixels(self) -> str:
        """FFmpeg's name of how `Planes` are laid out."""
        return "yuv420p10le" if self.deep else "yuv420p"

    @property
    def range_(self) -> int:
        """FFmpeg's number of the range."""
        return FULL if self.full_range else STUDIO


def colours_of(frame: av.VideoFrame) -> Colours:
    """Return the colour properties of `frame`.

    Raises:
        VideoError: its colours can't be kept.
    """
    kinds = {data.type for data in side_data(frame)}
    curve, bits = frame.color_trc, frame.format.components[0].bits
    has_base = curve in (PQ, HLG, BT709)
    if (Type.DOVI_METADATA in kinds and not has_base) or frame.colorspace in ICTCP:
        raise VideoError("Dolby Vision without an HDR10, HLG or SDR base isn't supported")
    is_rgb = frame.format.is_rgb or frame.colorspace == RGB
    return Colours(
        matrix=BT709 if is_rgb else frame.colorspace,
        full_range=not is_rgb and (frame.color_range == FULL or "yuvj" in frame.format.name),
        curve=curve,
        primaries=frame.color_primaries,
        deep=(deep := bits > 8 and curve in (PQ, HLG)),
        light=hdr_light(frame) if deep else "",
    )


def lost_of(frame: av.VideoFrame, colours: Colours, *, has_alpha: bool = False) -> tuple[str, ...]:
    """Return what the output doesn't keep of the pictures, a sentence each, for people.

    Args:
        frame: as it was decoded.
        colours: of the output.
        has_alpha: WebM says that it has transparency, which is stored beside the frames.
    """
    components = frame.format.components
    # Source: FFmpeg's component flags; the second is the first of the colours.
    has_chroma = len(components) > 1 and not frame.format.is_rgb
    is_halved = has_chroma and (components[1].width, components[1].height) == (
        -(-frame.width // 2),
        -(-frame.height // 2),
    )
    lost = {
        "colours were reduced to 8 bits a channel": components[0].bits > 8 and not colours.deep,
        "colours were reduced to half the resolution (4:2:0)": len(components) > 1
        and not is_halved,
        "interlaced pictures were written as progressive": bool(frame.interlaced_frame),
        "transparency was dropped": has_alpha or any(each.is_alpha for each in components),
    }
    return tuple(what for what, is_so in lost.items() if is_so)


def hdr_light(frame: av.VideoFrame) -> str:
    """Return the mastering display and light level of an HDR frame, in x265's format."""
    blocks = {data.type: bytes(data) for data in side_data(frame)}
    parts = []
    screen = np.frombuffer(blocks.get(Type.MASTERING_DISPLAY_METADATA, b""), np.int32)
    if screen[20:22].all() and len(screen):
        # Source: FFmpeg's AVMasteringDisplayMetadata: ten fractions, then whether they are set.
        values = screen[:20:2] / np.maximum(screen[1:20:2], 1)
        red, green, blue, white = (np.rint(values[:8] * 50_000).astype(int).reshape(4, 2)).tolist()
        lowest, highest = np.rint(values[8:] * 10_000).astype(int).tolist()
        chromas = "".join(
            f"{name}({x},{y})"
            for name, (x, y) in zip("GBRW", (green, blue, red, white), strict=True)
        ).replace("W(", "WP(")
        parts.append(f"master-display={chromas}L({highest},{lowest})")
    brightest = np.frombuffer(blocks.get(Type.CONTENT_LIGHT_LEVEL, b""), np.int32)
    if len(brightest):
        parts.append(f"max-cll={brightest[0]},{brightest[1]}")
    return ":".join(parts)


def shown_image(frame: av.VideoFrame, colours: Colours, upright: Upright) -> Image:
    """Return `frame` as people see it: upright, un-squeezed and in standard range."""
    width, height = upright.shown_wh(frame.width, frame.height)
    image = _rgb(frame, colours, width, height)
    if colours.curve == PQ:
        image = np.asarray(cv2.LUT(image, _PQ_TO_SDR), np.uint8)
    return np.ascontiguousarray(upright.turn(image))


def upright_planes(frame: av.VideoFrame, colours: Colours, upright: Upright) -> Planes:
    """Return `frame` upright, its stored pixels otherwise as they are.

    H.264 stores colour for pairs of pixels, so a last odd row or column is doubled.
    """
    if frame.format.name not in (colours.pixels, f"yuvj{colours.pixels[3:]}"):
        frame = frame.reformat(
            format=colours.pixels,
            src_colorspace=_matrix(frame, frame.colorspace),
            dst_colorspace=_matrix(frame, colours.matrix),
            src_color_range=FULL if frame.format.is_rgb else colours.range_,
            dst_color_range=colours.range_,
        )
    kind = np.uint16 if colours.deep else np.uint8
    y, u, v = (upright.turn(_plane(plane, kind)) for plane in frame.planes[:3])
    height, width = y.shape
    return np.pad(y, ((0, height % 2), (0, width % 2)), mode="edge"), u, v


def blank_planes(image_hw: tuple[int, int], colours: Colours) -> Planes:
    """Return a dark grey frame of even height and width."""
    height, width = image_hw
    top = 1023 if colours.deep else 255
    kind = np.uint16 if colours.deep else np.uint8
    grey = np.full((height // 2, width // 2), (top + 1) // 2, kind)
    return np.full((height, width), round(BLANK * top), kind), grey, grey


def hidden_planes(planes: Planes, boxes: Boxes, colours: Colours, options: BlurOptions) -> Planes:
    """Return `planes` with everything inside the widened boxes unreadable.

    Args:
        planes: upright.
        boxes: (N, 4) pixels of `planes`.
        colours: of `planes`.
        options: method and margin count.
    """
    height, width = planes[0].shape
    bounds = hidden_bounds(boxes, image_hw=(height, width), margin=options.margin)
    if not len(bounds):
        return planes
    # Out to whole blocks of colour and one pixel more, because players mix the colours of blocks.
    bounds[:, :2] = (bounds[:, :2] - 1).clip(0) // 2 * 2
    bounds[:, 2:] = np.minimum((bounds[:, 2:] + 2) // 2 * 2, [width, height])
    image = _rgb(frame_of(planes, colours), colours, width, height)
    blurred = blur_boxes(image, bounds.astype(np.float32), method=options.method, margin=0.0)
    changed = (image != blurred).any(axis=2)  # the soft edge too
    for x1, y1, x2, y2 in bounds:
        changed[y1:y2, x1:x2] = True
    # Colour is stored for blocks of 2 x 2: one with a changed pixel is replaced whole.
    blocks = changed.reshape(height // 2, 2, width // 2, 2).any(axis=(1, 3))
    shown = av.VideoFrame.from_ndarray(blurred, format="rgb24").reformat(
        format=colours.pixels,
        dst_colorspace=_matrix_for(colours.matrix, min(height, width)),
        dst_color_range=colours.range_,
        interpolation="AREA",  # the others take colour from beyond a block
    )
    kind = planes[0].dtype.type
    y, u, v = (_plane(plane, kind) for plane in shown.planes[:3])
    whole = blocks.repeat(2, axis=0).repeat(2, axis=1)
    return (
        np.where(whole, y, planes[0]),
        np.where(blocks, u, planes[1]),
        np.where(blocks, v, planes[2]),
    )


def frame_of(planes: Planes, colours: Colours) -> av.VideoFrame:
    """Return `planes` as a frame with its colour properties."""
    height, width = planes[0].shape
    stacked = np.concatenate([plane.reshape(-1) for plane in planes])
    frame = av.VideoFrame.from_ndarray(
        stacked.reshape(height * 3 // 2, width), format=colours.pixels
    )
    frame.colorspace, frame.color_range = colours.matrix, colours.range_
    frame.color_trc, frame.color_primaries = colours.curve, colours.primaries
    return frame


def _rgb(frame: av.VideoFrame, colours: Colours, width: int, height: int) -> Image:
    """Return (H, W, 3) of a stored frame, its curve left as it is."""
    image = frame.to_ndarray(
        width=width,
        height=height,
        format="rgb24",
        src_colorspace=_matrix(frame, frame.colorspace),
        src_color_range=FULL if frame.format.is_rgb else colours.range_,
        dst_color_range=FULL,
    )
    return image.astype(np.uint8, copy=False)


def _matrix(frame: av.VideoFrame, matrix: int) -> int:
    return _matrix_for(matrix, min(frame.width, frame.height))


def _matrix_for(matrix: int, rows: int) -> int:
    """Return the matrix, guessed like players do if it isn't given."""
    if matrix not in (RGB, UNSAID):
        return matrix
    return BT709 if rows >= HD_ROWS else BT601


def _plane(plane: Any, kind: type[np.generic]) -> NDArray[Any]:
    rows = np.frombuffer(plane, kind).reshape(-1, plane.line_size // np.dtype(kind).itemsize)
    return rows[: plane.height, : plane.width]


def _pq_to_sdr() -> NDArray[np.uint8]:
    """Return for each 8-bit number on the PQ curve the one that shows as much light in SDR.

    For the detector, which learned from photos; brighter than white is white.
    """
    # Source: SMPTE ST 2084.
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    powered = (np.arange(256) / 255) ** (1 / m2)
    nits = 10_000 * (np.maximum(powered - c1, 0) / (c2 - c3 * powered)) ** (1 / m1)
    return np.asarray(255 * (nits / SDR_WHITE_NITS).clip(0, 1) ** (1 / 2.2), np.uint8)


_PQ_TO_SDR = _pq_to_sdr()
