"""Decode a photo to an upright RGB image, and encode a blurred image as the same kind of photo.

Limits are checked before a pixel is decoded. Only the formats below are taken, each by its own
decoder, chosen by the first bytes and never by what a sender says.
"""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import cv2
import numpy as np
import pillow_heif
from numpy.typing import NDArray
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    ImageCms,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)
from PIL import Image as PillowImage
from PIL.PngImagePlugin import PngInfo

from plateblur.companions import companions_of
from plateblur.display import Display, display_of, with_display
from plateblur.errors import EncodeError, PhotoDecodeError, PhotoTooLargeError
from plateblur.exact import NotExactError, rewrite
from plateblur.formats import (
    AVIF,
    BMP,
    GIF,
    HEIF,
    JPEG,
    PNG,
    TAKEN,
    TIFF,
    WEBP,
    Format,
    other_picture,
    sniff,
)
from plateblur.headers import is_animated_png, is_deep, is_lossless_webp, refuse_costly
from plateblur.jpeg import (
    SWAPPED_AXES,
    JpegCoding,
    JpegFile,
    as_key,
    coding_of,
    cut_note,
    decode_cut,
    decode_plain,
    encode_plain,
    header_segments,
    loaded,
    standard_qualities,
    with_head,
)
from plateblur.metadata import IPTC_RESOURCE, Metadata, apply_policy, photoshop_segment
from plateblur.metadata import orientation as exif_orientation
from plateblur.rarer import ADVICE, ANIMATED, gif_image, has_depth, refuse_several, tiff_compression
from plateblur.types import Damaged, Image, MetadataPolicy

MAX_BYTES = 100 * 1024 * 1024  # of one encoded photo; a 100-megapixel JPEG at quality 95 fits
MAX_PIXELS = 100_000_000  # of one decoded photo: 300 MB as RGB
LOSSY_QUALITY = 90  # WebP, HEIF and AVIF do not tell the quality they were written at
MAX_TEXT = 64  # PNG text chunks carried through at most

# Source: EXIF 2.32, 4.6.4 A. How a stored image is turned upright.
UPRIGHT: dict[int, Callable[[Any], Any]] = {
    2: lambda stored: cv2.flip(stored, 1),
    3: lambda stored: cv2.rotate(stored, cv2.ROTATE_180),
    4: lambda stored: cv2.flip(stored, 0),
    5: cv2.transpose,
    6: lambda stored: cv2.rotate(stored, cv2.ROTATE_90_CLOCKWISE),
    7: lambda stored: cv2.transpose(cv2.rotate(stored, cv2.ROTATE_180)),
    8: lambda stored: cv2.rotate(stored, cv2.ROTATE_90_COUNTERCLOCKWISE),
}

# What the decoders raise on damaged or hostile files; Pillow wraps only some of it. UserWarning is
# raised where warnings are errors: Pillow warns of an AVIF's damaged EXIF block.
_DECODER_ERRORS = (
    *(OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, AttributeError),
    *(ArithmeticError, AssertionError, RuntimeError, MemoryError, SystemError, UserWarning),
    *(struct.error, zlib.error, PillowImage.DecompressionBombError, ImageCms.PyCMSError),
    cv2.error,
)


@dataclass(frozen=True, slots=True)
class Photo:
    """A decoded photo.

    Attributes:
        pixels: (H, W, 3) uint8 RGB, upright.
        format: one of the names in `formats.FORMATS`.
        alpha: (H, W) uint8 opacity, or None where the photo has none.
        is_grey: the photo has one channel, and is written with one again.
        metadata: as stored.
        jpeg: how it was coded, if it is a JPEG.
        is_lossless: a WebP without loss.
        compression: of a TIFF, as Pillow calls it.
        notes: what was lost on the way, a sentence each, for people.
        pictures_dropped: further pictures in the file, which are not written.
    """

    pixels: Image
    format: str
    alpha: NDArray[np.uint8] | None = None
    is_grey: bool = False
    metadata: Metadata = field(default_factory=Metadata)
    jpeg: JpegCoding | None = None
    is_lossless: bool = False
    compression: str | None = None
    notes: tuple[str, ...] = ()
    pictures_dropped: int = 0

    @property
    def image_hw(self) -> tuple[int, int]:
        """Height and width of the upright image, pixels."""
        return self.pixels.shape[0], self.pixels.shape[1]

    @property
    def views(self) -> tuple[Image, ...]:
        """Images in which plates must be looked for, each (H, W, 3) uint8 RGB.

        With transparency there are three: the stored colours, which anyone can bring back, and
        what is seen on white and on black paper, because a plate can be drawn in opacity alone.
        """
        if self.alpha is None or self.alpha.min() == 255:
            return (self.pixels,)
        colours = PillowImage.fromarray(self.pixels)
        opacity = PillowImage.fromarray(self.alpha)
        papers = [PillowImage.new("RGB", colours.size, paper) for paper in ("white", "black")]
        seen = (np.array(PillowImage.composite(colours, paper, opacity)) for paper in papers)
        return (self.pixels, *seen)


def decode(
    data: bytes,
    *,
    max_bytes: int = MAX_BYTES,
    max_pixels: int = MAX_PIXELS,
    damaged: Damaged = "refuse",
) -> Photo:
    """Return the photo in `data`: upright, RGB, 8 bits a channel.

    16 bits a channel become 8; CMYK becomes RGB through its ICC profile; colours under full
    transparency are dropped, because a plate may hide there.

    Args:
        data: an encoded photo of one of the formats in `formats.FORMATS`.
        max_bytes: the longest `data` that is taken.
        max_pixels: the most pixels, width times height, that are decoded.
        damaged: what becomes of a JPEG that is cut.

    Raises:
        PhotoTooLargeError: over one of the limits; nothing was decoded.
        PhotoDecodeError: no such photo, damaged, animated, or of several pages.
    """
    if len(data) > max_bytes:
        raise PhotoTooLargeError(f"expected at most {max_bytes} bytes, got {len(data)}")
    refuse_costly(data, max_pixels=max_pixels)
    format_, stored = _open(data)
    width, height = stored.size
    if width * height > max_pixels:
        raise PhotoTooLargeError(
            f"expected at most {max_pixels} pixels, got {width} x {height} = {width * height}"
        )
    if width < 1 or height < 1:
        raise PhotoDecodeError(f"expected a photo with pixels, got {width} x {height}")
    notes: list[str] = []
    try:
        refuse_several(stored, format_, data)
        companions = companions_of(stored, data)
        pixels, opacity, was_converted = decode_plain(stored, data), None, False
        if pixels is None:
            try:
                stored = loaded(stored, data)
            except _DECODER_ERRORS:
                cut = decode_cut(stored, data) if damaged == "hide" else None
                if cut is None:
                    raise
                pixels, first_row = cut
                notes.append(cut_note(first_row, height))
            else:
                pixels, opacity, was_converted = _to_rgb(stored)
        metadata = _metadata(stored, data)
        if stored.mode == "F":
            raise PhotoDecodeError("expected whole numbers as colours, got floating-point ones")
        if is_deep(data) or has_depth(stored):
            notes.append("its colours were reduced to 8 bits a channel")
        orientation = _orientation(metadata)
        is_grey = stored.mode in ("1", "L", "LA", "I", "I;16", "I;16B", "I;16L")
        jpeg = coding_of(stored, data, orientation=orientation)
        if jpeg is not None and notes:
            jpeg = replace(jpeg, not_exact="it is damaged")
        if orientation in UPRIGHT:
            pixels = UPRIGHT[orientation](pixels)
            opacity = None if opacity is None else UPRIGHT[orientation](opacity)
    except _DECODER_ERRORS as error:
        raise PhotoDecodeError(
            f"expected a whole {format_} photo, got a damaged or truncated one"
        ) from error
    if opacity is not None:
        pixels[opacity == 0] = 0
    if was_converted:  # the profile described the colours before
        metadata = replace(metadata, icc=None)
        notes.append(f"its {stored.mode} colours were converted to RGB")
    if metadata.icc is not None or is_grey:  # the profile describes the colours alone
        metadata = replace(metadata, display=replace(metadata.display, cicp=None))
    return Photo(
        pixels=pixels,
        format=format_,
        alpha=opacity,
        is_grey=is_grey,
        metadata=metadata,
        jpeg=jpeg,
        is_lossless=format_ == "WEBP" and is_lossless_webp(data),
        compression=tiff_compression(stored),
        notes=(*notes, *companions.notes),
        pictures_dropped=companions.pictures,
    )


def upright_hw(data: bytes) -> tuple[int, int]:
    """Return the height and width of the photo in `data`, upright, from its header alone.

    Raises:
        PhotoDecodeError: no such photo, or a damaged header.
    """
    format_, stored = _open(data)
    width, height = stored.size
    try:
        orientation = _orientation(_metadata(stored, data))
    except _DECODER_ERRORS as error:
        raise PhotoDecodeError(f"expected a {format_} photo, got damaged metadata") from error
    return (width, height) if orientation in SWAPPED_AXES else (height, width)


def encode_exactly(
    photo: Photo, pixels: Image, changed: NDArray[np.bool_], *, metadata: MetadataPolicy
) -> bytes:
    """Return a JPEG with its blocks as they came, except those that hold a changed pixel.

    It keeps the orientation in which it is stored, and says so in its EXIF block.

    Args:
        photo: a JPEG, as decoded.
        pixels: (H, W, 3) uint8 RGB, upright.
        changed: (H, W), the pixels of which nothing old may be written.
        metadata: what of the photo's metadata is written again.

    Raises:
        NotExactError: it isn't a JPEG, or one whose blocks can't be kept.
        EncodeError: it could not be written.
    """
    if photo.jpeg is None:
        raise NotExactError(f"it is {photo.format}")
    jpeg = photo.jpeg
    kept = apply_policy(photo.metadata, metadata, orientation=jpeg.orientation)
    if jpeg.orientation in UPRIGHT:
        turn_back = UPRIGHT[{6: 8, 8: 6}.get(jpeg.orientation, jpeg.orientation)]
        pixels, changed = turn_back(pixels), turn_back(changed.view(np.uint8)).view(np.bool_)
    try:
        data = rewrite(jpeg, pixels, changed, head=_jpeg_head(photo, kept))
        return with_display(data, kept.display)
    except _DECODER_ERRORS as error:
        raise EncodeError("the blurred photo could not be written as JPEG") from error


def encode(photo: Photo, pixels: Image, *, metadata: MetadataPolicy) -> bytes:
    """Return `pixels` as a photo of the kind that `photo` is.

    A JPEG is written at its own quantisation and chroma subsampling, so that what was not changed
    stays as it was.

    Args:
        photo: the photo that the pixels come from; its alpha is written too.
        pixels: (H, W, 3) uint8 RGB, upright.
        metadata: what of the photo's metadata is written again.

    Raises:
        EncodeError: the encoder failed.
        ValueError: the photo's alpha is not of the size of `pixels`.
    """
    if photo.alpha is not None and photo.alpha.shape != pixels.shape[:2]:
        raise ValueError(f"alpha {photo.alpha.shape} does not fit pixels {pixels.shape[:2]}")
    kept = apply_policy(photo.metadata, metadata)
    try:
        return with_display(_encoded(photo, pixels, kept), kept.display)
    except _DECODER_ERRORS as error:
        raise EncodeError(f"the blurred photo could not be written as {photo.format}") from error


def _encoded(photo: Photo, pixels: Image, kept: Metadata) -> bytes:
    if photo.format == GIF.name:
        return _saved(gif_image(photo.pixels, pixels, photo.alpha), GIF.name, {})
    quality = _standard_quality(photo)
    if quality is not None and photo.jpeg is not None:
        data = encode_plain(pixels, quality, photo.jpeg.subsampling)
        is_bare = replace(kept, display=Display()) == Metadata()
        return data if is_bare else with_head(data, _jpeg_head(photo, kept))
    image = _as_pillow(photo, pixels)
    options = _encoder_options(photo, kept)
    if photo.format == "HEIF":
        return _saved_heif(image, options)
    try:
        return _saved(image, photo.format, options)
    except OSError:
        if photo.format != "JPEG":
            raise
        # Pillow gives libjpeg 2 bytes a pixel for all scans; noise at quality 100 needs more.
        return _saved(image, "JPEG", options | {"progressive": False})


def _jpeg_head(photo: Photo, kept: Metadata) -> bytes:
    """Return the segments of metadata that the JPEG of `photo` begins with."""
    one_pixel = PillowImage.new("L" if photo.is_grey else "RGB", (1, 1))
    return header_segments(_saved(one_pixel, JPEG.name, _encoder_options(photo, kept)))


def _standard_quality(photo: Photo) -> int | None:
    """Return the quality at which libjpeg writes `photo` as it came, or None where Pillow must.

    Pillow first copies the pixels, 4 bytes each, but without it there are no tables of a camera.
    """
    if photo.jpeg is None or photo.jpeg.progressive or photo.is_grey or photo.format != JPEG.name:
        return None
    return standard_qualities().get(as_key(photo.jpeg.quantisation))


def _as_pillow(photo: Photo, pixels: Image) -> PillowImage.Image:
    image = PillowImage.fromarray(pixels)
    if photo.is_grey:
        image = image.convert("L")
    if photo.alpha is not None:
        image.putalpha(PillowImage.fromarray(photo.alpha))
    return image


def _saved(image: PillowImage.Image, format_: str, options: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    image.save(out, format_, **options)
    return out.getvalue()


def _saved_heif(image: PillowImage.Image, options: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    image.info |= {name: options[name] for name in ("icc_profile",) if name in options}
    pillow_heif.from_pillow(image).save(out, **options)
    return out.getvalue()


def _open(data: bytes) -> tuple[str, PillowImage.Image]:
    """Return a photo's format, and the photo with its header read and no pixel decoded."""
    format_, open_ = _recognise(data)
    try:
        return format_, open_(io.BytesIO(data))
    except _DECODER_ERRORS as error:
        raise PhotoDecodeError(f"expected a {format_} photo, got a damaged header") from error


def _recognise(data: bytes) -> tuple[str, Callable[[io.BytesIO], PillowImage.Image]]:
    """Return a photo's format and what opens it, by its first bytes.

    Each decoder is called by name and not through `Image.open`, because that tries others too,
    and warns or raises at pixel limits of its own that are global to the process.
    """
    format_ = sniff(data)
    if format_ is None:
        raise PhotoDecodeError(f"expected a {TAKEN} photo, got {_named(data)}")
    if format_ is PNG and is_animated_png(data):  # here, because Pillow warns of some of them
        raise PhotoDecodeError(ANIMATED)
    return format_.name, _OPENERS[format_]


def _named(data: bytes) -> str:
    """Return what `data` is, for people, and what to do with it where that is known."""
    if not data:
        return "no bytes"
    other = other_picture(data)
    if other is not None:
        return f"a {other}; {ADVICE.get(other, 'convert it to JPEG or PNG first')}"
    return f"bytes beginning {data[:8].hex(' ')}"


_OPENERS: dict[Format, Callable[[io.BytesIO], PillowImage.Image]] = {
    JPEG: JpegFile,
    PNG: PngImagePlugin.PngImageFile,
    WEBP: WebPImagePlugin.WebPImageFile,
    HEIF: pillow_heif.HeifImageFile,
    AVIF: AvifImagePlugin.AvifImageFile,
    TIFF: TiffImagePlugin.TiffImageFile,
    BMP: BmpImagePlugin.BmpImageFile,
    GIF: GifImagePlugin.GifImageFile,
}


def _orientation(metadata: Metadata) -> int:
    """Return how the stored image is turned, 1 to 8; EXIF says so, and XMP where EXIF does not."""
    orientation = exif_orientation(metadata.exif)
    if orientation == 1 and metadata.xmp:
        match = re.search(rb"tiff:Orientation(?:=\"|>)([1-8])", metadata.xmp)
        orientation = int(match[1]) if match else 1
    return orientation


def _to_rgb(stored: PillowImage.Image) -> tuple[Image, NDArray[np.uint8] | None, bool]:
    """Return the colours as RGB, the opacity or None, and whether the ICC profile was used up."""
    if stored.mode in ("I;16", "I;16B", "I;16L", "I"):
        levels = np.asarray(stored).astype(np.int64)
        grey = (levels >> 8).clip(0, 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2), None, False
    if stored.mode == "CMYK":
        profile = stored.info.get("icc_profile")
        converted = None
        if profile:
            with suppress(ImageCms.PyCMSError, OSError):  # damaged, or of other than CMYK
                converted = ImageCms.profileToProfile(
                    stored, io.BytesIO(profile), ImageCms.createProfile("sRGB"), outputMode="RGB"
                )
        return np.array(converted or stored.convert("RGB")), None, True
    if stored.has_transparency_data:
        rgba = np.asarray(stored.convert("RGBA"))
        return np.ascontiguousarray(rgba[..., :3]), np.ascontiguousarray(rgba[..., 3]), False
    return np.array(stored.convert("RGB")), None, stored.mode == "LAB"


def _metadata(stored: PillowImage.Image, data: bytes) -> Metadata:
    info = stored.info
    resources = info.get("photoshop")
    text = getattr(stored, "text", {})
    return Metadata(
        icc=_sound_profile(info.get("icc_profile")),
        exif=_as_bytes(info.get("exif")) or _raw_profile(info.get("Raw profile type exif")),
        xmp=_as_bytes(info.get("xmp") or info.get("XML:com.adobe.xmp")),
        iptc=_as_bytes(resources.get(IPTC_RESOURCE)) if isinstance(resources, dict) else None,
        comment=_as_bytes(info.get("comment")),
        text=tuple(
            (str(key), str(value))
            for key, value in list(text.items())[:MAX_TEXT]
            if key != "XML:com.adobe.xmp" and not key.startswith("Raw profile")
        ),
        display=replace(display_of(data), dpi=_dpi(stored)),
    )


def _dpi(stored: PillowImage.Image) -> tuple[float, float] | None:
    """Return the density of a TIFF or BMP, dots per inch across and down."""
    if not isinstance(stored, TiffImagePlugin.TiffImageFile | BmpImagePlugin.BmpImageFile):
        return None
    across, down = stored.info.get("dpi") or (0, 0)
    return (float(across), float(down)) if across > 0 and down > 0 else None


def _sound_profile(profile: object) -> bytes | None:
    """Return an ICC profile that can be opened, or None."""
    if not isinstance(profile, bytes) or not profile:
        return None
    try:
        ImageCms.ImageCmsProfile(io.BytesIO(profile))
    except (OSError, TypeError):
        return None
    return profile


def _raw_profile(text: object) -> bytes | None:
    """Return the EXIF block that ImageMagick writes into a PNG as lines of hexadecimal text."""
    if not isinstance(text, str):
        return None
    try:
        return bytes.fromhex("".join(text.split("\n")[3:])) or None
    except ValueError:
        return None


def _as_bytes(value: object) -> bytes | None:
    if isinstance(value, str):
        return value.encode("utf-8", "replace")
    return value if isinstance(value, bytes) and value else None


def _encoder_options(photo: Photo, kept: Metadata) -> dict[str, Any]:
    """Return what Pillow's encoder of the photo's format is to be given."""
    options: dict[str, Any] = {"icc_profile": kept.icc, "exif": kept.exif, "xmp": kept.xmp}
    if photo.format == "JPEG":
        if photo.jpeg is None:
            options |= {"quality": LOSSY_QUALITY}
        else:
            options |= {
                "qtables": photo.jpeg.quantisation,
                "subsampling": photo.jpeg.subsampling,
                "progressive": photo.jpeg.progressive,
            }
        if kept.iptc:
            options["extra"] = photoshop_segment(kept.iptc)
        if kept.comment:
            options["comment"] = kept.comment
        if kept.xmp and len(kept.xmp) > 65_502:  # Source: XMP part 3, 1.1.3, one JPEG segment
            options["xmp"] = None
        if kept.exif and len(kept.exif) > 65_533:  # Source: JPEG, B.1.1.4, length of a segment
            options["exif"] = None
    elif photo.format == "PNG":
        texts = PngInfo()
        for key, value in kept.text:
            texts.add_itxt(key, value)
        if kept.xmp:
            texts.add_itxt("XML:com.adobe.xmp", kept.xmp.decode("utf-8", "replace"))
        options = {"icc_profile": kept.icc, "exif": kept.exif, "pnginfo": texts}
    elif photo.format in (TIFF.name, BMP.name):
        options = {"icc_profile": kept.icc, "dpi": kept.display.dpi}
        options["compression"] = photo.compression
    elif photo.is_lossless:
        options |= {"lossless": True, "exact": True}
    else:
        options |= {"quality": LOSSY_QUALITY}
        if photo.format == HEIF.name and kept.display.cicp is not None:
            primaries, transfer = kept.display.cicp
            options |= {"color_primaries": primaries, "transfer_characteristics": transfer}
    return {name: value for name, value in options.items() if value is not None}
