"""What of a photo's metadata may leave with it; a thumbnail never does, because it shows the plate.

Nothing is copied as a block. Each policy builds the metadata anew from values that it names
(`strip`, `safe`) or that hold no image (`keep`).
"""

from __future__ import annotations

import struct
import xml.etree.ElementTree as ET
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass, replace
from typing import Any

import defusedxml.ElementTree
from defusedxml.common import DefusedXmlException
from PIL import ExifTags, Image

from plateblur.types import MetadataPolicy

GPANO = "http://ns.google.com/photos/1.0/panorama/"  # Source: Google's Photo Sphere XMP metadata
RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
IPTC_RESOURCE = 0x0404  # Source: Adobe Photoshop file format, image resource IDs

# Source: EXIF 2.32, tables 4 and 8. Capture time and camera; no place, owner or serial number.
SAFE_TAGS = frozenset({0x010F, 0x0110, 0x0132})  # Make, Model, DateTime
SAFE_EXIF_TAGS = frozenset(
    {
        *(0x829A, 0x829D, 0x8827),  # ExposureTime, FNumber, ISO
        *(0x9003, 0x9004, 0x9010, 0x9011, 0x9012),  # DateTimeOriginal, ...Digitized, offsets
        *(0x9291, 0x9292, 0x920A, 0xA405),  # SubSecTimeOriginal.., FocalLength, ...In35mmFilm
        *(0xA433, 0xA434),  # LensMake, LensModel
    }
)
# Pointers to other directories, and what describes the pixels as they were stored.
NEVER_TAGS = frozenset({0x0112, 0x014A, 0x0111, 0x0117, 0x0201, 0x0202, 0x8769, 0x8825})
NEVER_EXIF_TAGS = frozenset({0xA002, 0xA003, 0xA005})  # pixel dimensions, interoperability
# How the files begin that thumbnails and previews are stored as, plain and in base64.
IMAGE_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG", b"WEBPVP8", b"ftypheic", b"ftypavif", b"II*\0")
BASE64_SIGNATURES = ("/9j/", "iVBORw0KGg", "UklGR")
# XMP carries images in properties far longer than any text; Source: XMP part 1, 1.1.3.1, gives
# 65,502 bytes to a whole packet.
LONGEST_XMP_VALUE = 4096


@dataclass(frozen=True, slots=True)
class Metadata:
    """Metadata of a photo, as stored; every part may be absent.

    Attributes:
        icc: ICC profile of the pixels.
        exif: EXIF block, with or without its `Exif` prefix.
        xmp: XMP packet.
        iptc: IPTC record of a Photoshop resource.
        comment: a JPEG's comment.
        text: a PNG's text chunks.
    """

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    comment: bytes | None = None
    text: tuple[tuple[str, str], ...] = ()


def apply_policy(metadata: Metadata, policy: MetadataPolicy) -> Metadata:
    """Return what may leave under `policy`; a damaged block is left out, never passed on.

    Args:
        metadata: of the photo as it came.
        policy: "strip" leaves the ICC profile, without which colours shift; "safe" also capture
            time, camera and the panorama's projection; "keep" all but what holds an image.

    Raises:
        ValueError: an unknown policy.
    """
    if policy == "strip":
        return Metadata(icc=metadata.icc)
    if policy == "safe":
        return Metadata(
            icc=metadata.icc,
            exif=_copy_exif(metadata.exif, SAFE_TAGS, SAFE_EXIF_TAGS, gps=False),
            xmp=_panorama_xmp(metadata.xmp),
        )
    if policy == "keep":
        return replace(
            metadata,
            exif=_copy_exif(metadata.exif, None, None, gps=True),
            xmp=_xmp_without_images(metadata.xmp),
            iptc=None if _holds_image(metadata.iptc) else metadata.iptc,
            comment=None if _holds_image(metadata.comment) else metadata.comment,
            text=tuple(pair for pair in metadata.text if not _holds_image(pair[1])),
        )
    raise ValueError(f"metadata must be 'strip', 'safe' or 'keep', got {policy!r}")


def _holds_image(value: object) -> bool:
    if isinstance(value, bytes):
        return any(signature in value for signature in IMAGE_SIGNATURES)
    if isinstance(value, str):
        compact = "".join(value.split())
        return len(compact) > LONGEST_XMP_VALUE or compact.startswith(BASE64_SIGNATURES)
    if isinstance(value, tuple | list):
        return len(value) > LONGEST_XMP_VALUE or any(_holds_image(part) for part in value)
    return False


def _copy_exif(
    block: bytes | None,
    tags: frozenset[int] | None,
    exif_tags: frozenset[int] | None,
    *,
    gps: bool,
) -> bytes | None:
    """Return a new EXIF block with the named tags, or with all harmless ones where None.

    The directory of the thumbnail (IFD1) is never read, so it can't be copied.
    """
    if not block:
        return None
    source, copy = Image.Exif(), Image.Exif()
    directories: list[
        tuple[dict[int, Any], MutableMapping[int, Any], frozenset[int] | None, frozenset[int]]
    ]
    try:
        source.load(block)
        directories = [(dict(source), copy, tags, NEVER_TAGS)]
        exif = source.get_ifd(ExifTags.IFD.Exif)
        directories.append((exif, copy.get_ifd(ExifTags.IFD.Exif), exif_tags, NEVER_EXIF_TAGS))
        if gps:
            place = source.get_ifd(ExifTags.IFD.GPSInfo)
            directories.append((place, copy.get_ifd(ExifTags.IFD.GPSInfo), None, frozenset()))
    except (SyntaxError, ValueError, KeyError, TypeError, OSError, struct.error):
        return None
    for values, target, wanted, never in directories:
        for tag, value in values.items():
            named = wanted is None or tag in wanted
            if named and tag not in never and not _holds_image(value) and _writable(tag, value):
                target[tag] = value
    for directory in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
        if not copy.get_ifd(directory):
            copy._ifds.pop(directory, None)
    return copy.tobytes() if len(copy) or copy._ifds else None


def _writable(tag: int, value: Any) -> bool:
    """Return whether Pillow can write this value; cameras store types that it can't."""
    alone = Image.Exif()
    alone[tag] = value
    try:
        alone.tobytes()
    except (struct.error, ValueError, TypeError, KeyError, AttributeError, OverflowError):
        return False
    return True


def _parse_xmp(packet: bytes | None) -> ET.Element | None:
    if not packet:
        return None
    try:
        root: ET.Element = defusedxml.ElementTree.fromstring(packet.strip(b"\0 \n\r\t"))
    except (ET.ParseError, DefusedXmlException, ValueError):
        return None
    return root


def _panorama_xmp(packet: bytes | None) -> bytes | None:
    """Return an XMP packet with the GPano values of `packet` alone, or None without any."""
    root = _parse_xmp(packet)
    if root is None:
        return None
    values = {
        name.removeprefix(f"{{{GPANO}}}"): value
        for element in root.iter()
        for name, value in [*element.attrib.items(), (element.tag, element.text or "")]
        if name.startswith(f"{{{GPANO}}}") and value.strip() and not _holds_image(value)
    }
    if not values:
        return None
    ET.register_namespace("x", "adobe:ns:meta/")
    ET.register_namespace("rdf", RDF)
    ET.register_namespace("GPano", GPANO)
    meta = ET.Element("{adobe:ns:meta/}xmpmeta")
    rdf = ET.SubElement(meta, f"{{{RDF}}}RDF")
    attributes = {f"{{{GPANO}}}{name}": value for name, value in values.items()}
    ET.SubElement(rdf, f"{{{RDF}}}Description", {f"{{{RDF}}}about": "", **attributes})
    return ET.tostring(meta)


def _xmp_without_images(packet: bytes | None) -> bytes | None:
    """Return `packet` without the properties whose value is, or may be, an encoded image."""
    root = _parse_xmp(packet)
    if root is None:
        return None
    for parent in list(root.iter()):
        for child in list(parent):
            if any(_holds_image(value) for value in _own_values(child)):
                parent.remove(child)
        for name in [n for n, value in parent.attrib.items() if _holds_image(value)]:
            del parent.attrib[name]
    return ET.tostring(root)


def _own_values(element: ET.Element) -> Iterator[str]:
    yield element.text or ""
    yield element.tail or ""
