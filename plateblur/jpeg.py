"""JPEG as it is coded: decoded and encoded without Pillow where that gives the same pixels.

A photo that was not changed must come out as it went in, so tables, subsampling and the order of
the scans stay with it.
"""

from __future__ import annotations

import functools
import io
import itertools
import re
from dataclasses import dataclass, field

import cv2
import numpy as np
import simplejpeg
from PIL import Image as PillowImage
from PIL import JpegImagePlugin

from plateblur.headers import jpeg_segments
from plateblur.types import Image

# OpenCV's names of Pillow's numbers of the chroma subsampling.
SAMPLINGS = {
    0: cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    1: cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422,
    2: cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
}
END_OF_JPEG = b"\xff\xd9"
# A marker that is not part of a scan: there, 0xFF is followed by 0 or counts the restarts.
_JPEG_SEGMENT = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")
# Source: JPEG (ITU-T T.81), table B.1. Starts of frames; between them lie DHT, JPG and DAC.
_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_START_OF_SCAN = 0xDA
_COMMENT = 0xFE
SWAPPED_AXES = frozenset({5, 6, 7, 8})  # orientations in which rows become columns
GREY = 128  # of what can't be decoded
NOISE_BYTES = 4096  # put behind a cut; no block of 64 coefficients needs as many
MOST_SEGMENTS = 10_000  # of a JPEG without its end that are read; real ones have some hundreds


@dataclass(frozen=True, slots=True)
class JpegCoding:
    """How a JPEG was coded, so that what is outside the boxes can be written without new loss.

    Attributes:
        quantisation: tables of 64, by their number, in the orientation of the upright image.
        subsampling: Pillow's number of the chroma subsampling, in the upright image.
        progressive: whether the scans refine each other.
        data: the photo as it came.
        orientation: how it is turned upright, 1 to 8 as in EXIF.
        not_exact: why its blocks can't be kept as they came, or None.
    """

    quantisation: dict[int, list[int]]
    subsampling: int
    progressive: bool
    data: bytes = field(default=b"", repr=False, compare=False)
    orientation: int = field(default=1, compare=False)
    not_exact: str | None = None


class JpegFile(JpegImagePlugin.JpegImageFile):
    """Pillow's decoder without its look for a resolution in EXIF: that warns of a damaged block."""

    def _read_dpi_from_exif(self) -> None:
        pass


def coding_of(stored: PillowImage.Image, data: bytes, *, orientation: int) -> JpegCoding | None:
    """Return how a JPEG was coded, or None for another photo.

    Args:
        stored: the photo, its header read.
        data: the photo.
        orientation: how it is turned upright, as in EXIF.
    """
    is_transposed = orientation in SWAPPED_AXES
    if not isinstance(stored, JpegImagePlugin.JpegImageFile):
        return None
    tables = {number: list(table) for number, table in stored.quantization.items()}
    subsampling = JpegImagePlugin.get_sampling(stored)
    # Pillow can't write chroma that is halved downwards alone, and CMYK had none: keep it whole.
    if subsampling < 0 or (subsampling == 1 and is_transposed):
        subsampling = 0
    if is_transposed:  # a turned block has its frequencies turned
        tables = {
            number: np.array(table).reshape(8, 8).T.ravel().tolist()
            for number, table in tables.items()
        }
    return JpegCoding(
        quantisation=tables,
        subsampling=subsampling,
        progressive=bool(stored.info.get("progressive")),
        data=data,
        orientation=orientation,
        not_exact=_not_exact(stored),
    )


def _not_exact(stored: JpegImagePlugin.JpegImageFile) -> str | None:
    """Return why a JPEG's blocks can't be kept as they came, or None."""
    if stored.mode not in ("L", "RGB"):
        return f"it is a {stored.mode} JPEG"
    ids = bytes(id_ for id_, *_ in stored.layer)
    if stored.mode == "RGB" and (stored.info.get("adobe_transform") == 0 or ids == b"RGB"):
        return "its colours are coded as RGB"
    return None


def bare_jpeg(data: bytes) -> bytes:
    """Return a JPEG without its metadata, and without what follows it."""
    parts = [b"\xff\xd8"]
    for marker, start, end in jpeg_segments(data):
        if not (0xE0 <= marker <= 0xEF or marker in (_COMMENT, END_OF_JPEG[1])):
            parts.append(data[start:end])
    return b"".join([*parts, END_OF_JPEG])


def header_segments(data: bytes) -> bytes:
    """Return the segments of metadata that a JPEG begins with."""
    leading = itertools.takewhile(
        lambda segment: 0xE0 <= segment[0] <= 0xEF or segment[0] == _COMMENT, jpeg_segments(data)
    )
    return b"".join(data[start:end] for _, start, end in leading)


def with_head(data: bytes, head: bytes) -> bytes:
    """Return a JPEG whose metadata are those of `head`, as `header_segments` returns them."""
    return b"\xff\xd8" + head + bare_jpeg(data)[2:]


def is_cut(data: bytes) -> bool:
    """Return whether a JPEG with a scan ends before its end marker."""
    segments = list(jpeg_segments(data))
    if all(marker != _START_OF_SCAN for marker, _, _ in segments):
        return False
    last, _, end = segments[-1]
    return last != END_OF_JPEG[1] and end == len(data)  # else it is damaged before


def decode_cut(stored: PillowImage.Image, data: bytes) -> tuple[Image, int] | None:
    """Return the pixels of a JPEG that is cut, and from which row on they can't be decoded.

    Those rows are grey, from the first row of blocks on that isn't whole: it is where the picture
    depends on what is put behind the cut. None for what isn't a cut JPEG in grey or colour.

    Args:
        stored: the photo, its header read.
        data: the photo.
    """
    if not isinstance(stored, JpegImagePlugin.JpegImageFile) or stored.mode not in ("L", "RGB"):
        return None
    if not is_cut(data):
        return None
    noise = np.random.default_rng(0).integers(0, 255, NOISE_BYTES, np.uint8).tobytes()
    size = (stored.height, stored.width, 3)
    pixels, other = np.empty(size, np.uint8), np.empty(size, np.uint8)
    try:
        for filling, buffer in ((b"", pixels), (noise, other)):
            simplejpeg.decode_jpeg(data + filling + END_OF_JPEG, "RGB", buffer=buffer, strict=False)
    except ValueError:
        return None
    differ = (pixels != other).any(axis=(1, 2))
    first = int(differ.argmax()) if differ.any() else stored.height
    if first < stored.height:
        first -= first % (8 * max(down for _, _, down, _ in stored.layer))
    pixels[first:] = GREY
    return pixels, first


def decode_plain(stored: PillowImage.Image, data: bytes) -> Image | None:
    """Return the pixels of an ordinary colour JPEG as stored, or None where Pillow must look.

    It takes a third of Pillow's time. Pillow ignores what libjpeg warns of, so a photo that causes
    a warning is left to it.
    """
    if not isinstance(stored, JpegImagePlugin.JpegImageFile) or stored.mode != "RGB":
        return None
    # Of Pillow's size: no more is written, even where the two read another size in the header.
    pixels = np.empty((stored.height, stored.width, 3), np.uint8)
    try:
        decoded = simplejpeg.decode_jpeg(
            data, "RGB", fastdct=False, fastupsample=False, buffer=pixels, strict=True
        )
    except ValueError:
        return None
    return pixels if decoded.shape == pixels.shape else None


def loaded(stored: PillowImage.Image, data: bytes) -> PillowImage.Image:
    """Return the photo with its pixels decoded; a JPEG may lack its end marker, and nothing else.

    Raises:
        OSError: it is cut or damaged; Pillow's decoders raise other errors too.
    """
    try:
        stored.load()
    except OSError:
        colours = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}.get(stored.mode)
        if not isinstance(stored, JpegFile) or colours is None or not _has_all_scans(data):
            raise
        ended = data + END_OF_JPEG
        size = (stored.height, stored.width, len(stored.mode))
        # Strictly, because Pillow would fill what is missing with grey.
        simplejpeg.decode_jpeg(ended, colours, buffer=np.empty(size, np.uint8), strict=True)
        stored = JpegFile(io.BytesIO(ended))
        stored.load()
    return stored


def _has_all_scans(data: bytes) -> bool:
    """Return whether a JPEG without its end marker has a last scan for each of its coefficients.

    The scans themselves may be cut. Each but the last of a progressive JPEG leaves the decoder
    content, so what is missing behind it must be found here.
    """
    missing: set[tuple[int, int]] = set()  # component and coefficient
    at = 2
    for _ in range(MOST_SEGMENTS):
        if not (match := _JPEG_SEGMENT.search(data, at)):
            return not missing
        marker, at = data[match.start(1)], match.end()
        length = int.from_bytes(data[at : at + 2])
        content = data[at + 2 : at + length]
        if marker in _FRAME_MARKERS and len(content) >= 6:
            missing = {(id_, k) for id_ in content[6:18:3] for k in range(64)}
        elif marker == _START_OF_SCAN and len(content) >= 6:
            first, last, bits = content[-3:]
            if bits & 0x0F == 0:  # no bit is left for a later scan
                here = content[1:-3:2][:4]
                missing -= {(id_, k) for id_ in here for k in range(first, min(last, 63) + 1)}
        elif marker == END_OF_JPEG[1]:
            return False  # something else is wrong with it
        at += max(length, 2)
    return False


def cut_note(first_row: int, height: int) -> str:
    """Return what was lost of a JPEG that is cut.

    Raises:
        ValueError: all of it.
    """
    if first_row == 0:
        raise ValueError("nothing can be decoded")
    if first_row == height:
        return "it is cut: finer detail is missing"
    return f"it is cut: the lowest {height - first_row} of {height} rows turned grey"


@functools.cache
def standard_qualities() -> dict[tuple[tuple[int, ...], ...], int]:
    """Return the quality, 1 to 100, by the tables that libjpeg writes at it."""
    pixel = np.zeros((1, 1, 3), np.uint8)
    written = {quality: encode_plain(pixel, quality, 0) for quality in range(1, 101)}
    return {as_key(JpegFile(io.BytesIO(data)).quantization): q for q, data in written.items()}


def encode_plain(pixels: Image, quality: int, subsampling: int) -> bytes:
    """Return `pixels` as a JPEG, to the byte as Pillow writes it.

    Not by simplejpeg: below a quality of 96 its DCT is the fast one, which loses more.
    """
    bgr = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    sampling = (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, SAMPLINGS[subsampling])
    done, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality, *sampling])
    if not done:
        raise OSError("OpenCV wrote no JPEG")
    return data.tobytes()


def as_key(tables: dict[int, list[int]]) -> tuple[tuple[int, ...], ...]:
    """Return quantisation tables as a key of a dictionary."""
    return tuple(tuple(tables[number]) for number in sorted(tables))
