"""What of a photo's metadata may leave with it; a thumbnail never does, because it shows the plate.

Nothing is copied as a block. Each policy builds the metadata anew from values that it names
(`strip`, `safe`) or that hold no image (`keep`). EXIF is read and written here and not by Pillow,
because that warns on damaged blocks and can't write all that cameras store.
"""

from __future__ import annotations

import re
import struct
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import defusedxml.ElementTree
from defusedxml.common import DefusedXmlException

from plateblur.display import Display
from plateblur.types import MetadataPolicy

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
GPANO = "http://ns.google.com/photos/1.0/panorama/"  # Source: Google's Photo Sphere XMP metadata
IPTC_RESOURCE = 0x0404  # Source: Adobe Photoshop file format, image resource IDs
ORIENTATION = 0x0112  # Source: EXIF 2.32, 4.6.4 A
EXIF_POINTER, GPS_POINTER = 0x8769, 0x8825  # Source: EXIF 2.32, 4.6.3

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
NEVER_TAGS = frozenset(
    {
        *(0x0100, 0x0101, 0x0102, 0x0103, 0x0106, 0x0112, 0x0115),  # the pixels as stored
        *(0x0111, 0x0116, 0x0117, 0x011C, 0x0142, 0x0143, 0x0144, 0x0145),  # strips and tiles
        *(0x014A, 0x0201, 0x0202, EXIF_POINTER, GPS_POINTER),  # pointers to more images and tags
        *(0x015B, 0x02BC, 0x83BB, 0x8649, 0xC634),  # whole blocks: JPEG, XMP, IPTC, Photoshop, DNG
    }
)
# Pixel dimensions, interoperability, and MakerNote: only its maker knows where in it, and in what
# disguise, a preview stands.
NEVER_EXIF_TAGS = frozenset({0xA002, 0xA003, 0xA005, 0x927C})
# Source: IPTC-IIM 4.2. Rasterized caption; preview's format, version and data.
NEVER_IPTC = frozenset({(2, 125), (2, 200), (2, 201), (2, 202)})
# Source: the sets' pages. What carries an image, points to one, or tells how it was turned.
NEVER_XMP = frozenset(
    {
        *("{http://ns.adobe.com/xap/1.0/}Thumbnails", "{http://ns.adobe.com/xap/1.0/g/img/}image"),
        *(
            "{http://ns.google.com/photos/1.0/image/}Data",
            "{http://ns.adobe.com/tiff/1.0/}Orientation",
        ),
        "{http://ns.adobe.com/xmp/note/}HasExtendedXMP",
    }
)
# Source: the sets' pages. Sets that tell of what is no longer there: gain and depth maps, sound and
# clips, and where in the file each of them lies.
NEVER_XMP_SETS = tuple(
    f"{{{uri}"
    for uri in (
        *("http://ns.adobe.com/hdr-gain-map/", "http://ns.apple.com/HDRGainMap/"),
        *("http://ns.apple.com/pixeldatainfo/", "http://ns.apple.com/depthData/"),
        *("http://ns.google.com/photos/1.0/container/", "http://ns.google.com/photos/dd/"),
        *("http://ns.google.com/photos/1.0/depthmap/", "http://ns.google.com/photos/1.0/audio/"),
        "http://ns.oplus.com/photos/1.0/camera/",
    )
)
NEVER_XMP_NAMES = re.compile(r"\{[^}]*\}(MotionPhoto|MicroVideo)")  # of several makers' sets
# Source: Google's Photo Sphere XMP metadata, the table of properties.
GPANO_NAMES = frozenset(
    f"{{{GPANO}}}{name}"
    for name in (
        *("UsePanoramaViewer", "CaptureSoftware", "StitchingSoftware", "ProjectionType"),
        *("PoseHeadingDegrees", "PosePitchDegrees", "PoseRollDegrees", "InitialCameraDolly"),
        *("InitialViewHeadingDegrees", "InitialViewPitchDegrees", "InitialViewRollDegrees"),
        *("InitialHorizontalFOVDegrees", "InitialVerticalFOVDegrees", "ExposureLockUsed"),
        *("FirstPhotoDate", "LastPhotoDate", "SourcePhotosCount"),
        *("CroppedAreaImageWidthPixels", "CroppedAreaImageHeightPixels"),
        *("FullPanoWidthPixels", "FullPanoHeightPixels"),
        *("CroppedAreaLeftPixels", "CroppedAreaTopPixels"),
        *("LargestValidInteriorRectLeft", "LargestValidInteriorRectTop"),
        *("LargestValidInteriorRectWidth", "LargestValidInteriorRectHeight"),
    )
)
# Of those, what a viewer needs to show the picture as a panorama: neither time nor heading, nor
# what it was taken with. Each with what its value must look like, so that nothing else gets out.
_NUMBER = re.compile(r"[+-]?\d{1,9}(\.\d{1,9})?", re.ASCII)
_WORD = re.compile(r"[A-Za-z]{1,32}", re.ASCII)
PROJECTION_VALUES = {
    f"{{{GPANO}}}{name}": pattern
    for pattern, names in (
        (_WORD, ("ProjectionType", "UsePanoramaViewer")),
        (
            _NUMBER,
            (
                *("PosePitchDegrees", "PoseRollDegrees"),
                *("CroppedAreaImageWidthPixels", "CroppedAreaImageHeightPixels"),
                *("FullPanoWidthPixels", "FullPanoHeightPixels"),
                *("CroppedAreaLeftPixels", "CroppedAreaTopPixels"),
                *("LargestValidInteriorRectLeft", "LargestValidInteriorRectTop"),
                *("LargestValidInteriorRectWidth", "LargestValidInteriorRectHeight"),
            ),
        ),
    )
    for name in names
}
# How the files begin that thumbnails and previews are stored as, plain and in base64.
IMAGE_SIGNATURES = (
    *(b"\xff\xd8\xff", b"\x89PNG", b"WEBPVP8", b"ftyphei", b"ftypmif", b"ftypavif"),
    *(b"II*\0", b"MM\0*"),
)
BASE64_SIGNATURES = ("/9j/", "iVBORw0KGg", "UklGR")
# What may be bytes written as text: one long run, or lines of 32 and more. No prose has either.
ENCODED_BYTES = re.compile(r"[\w+/=-]{128,}|(?:[\w+/=-]{32,}+\s++){4,}", re.ASCII)
LONGEST_VALUE = 4096  # the smallest thumbnails of cameras are about as long; texts are shorter
LONGEST_XMP = 1 << 20  # of a packet that is read at all; a JPEG's is at most 65,502 bytes
MOST_FIELDS = 512  # of one EXIF directory that are read

for _prefix, _uri in {
    "GPano": GPANO,
    "dc": "http://purl.org/dc/elements/1.1/",
    "exif": "http://ns.adobe.com/exif/1.0/",
    "photoshop": "http://ns.adobe.com/photoshop/1.0/",
    "rdf": RDF,
    "tiff": "http://ns.adobe.com/tiff/1.0/",
    "x": "adobe:ns:meta/",
    "xmp": "http://ns.adobe.com/xap/1.0/",
}.items():
    ET.register_namespace(_prefix, _uri)


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
        display: how the picture is to be shown, beside the profile.
    """

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    comment: bytes | None = None
    text: tuple[tuple[str, str], ...] = ()
    display: Display = field(default_factory=Display)


def apply_policy(metadata: Metadata, policy: MetadataPolicy, *, orientation: int = 1) -> Metadata:
    """Return what may leave under `policy`; a damaged block is left out, never passed on.

    Args:
        metadata: of the photo as it came.
        policy: "strip" keeps what shows the picture right: colours, density and a panorama's
            projection; "safe" also capture time, camera and a panorama's other tags; "keep" all
            but what holds an image or points to one.
        orientation: how the picture is to be turned upright, 1 to 8 as in EXIF.

    Raises:
        ValueError: an unknown policy.
    """
    if policy == "strip":
        return Metadata(
            icc=metadata.icc,
            exif=_copy_exif(None, None, None, gps=False, orientation=orientation),
            xmp=_xmp_of(_projection(metadata.xmp)),
            display=metadata.display,
        )
    if policy == "safe":
        return Metadata(
            icc=metadata.icc,
            exif=_copy_exif(
                metadata.exif, SAFE_TAGS, SAFE_EXIF_TAGS, gps=False, orientation=orientation
            ),
            xmp=_xmp_of(_panorama_values(metadata.xmp)),
            display=metadata.display,
        )
    if policy == "keep":
        return replace(
            metadata,
            exif=_copy_exif(metadata.exif, None, None, gps=True, orientation=orientation),
            xmp=_xmp_without_images(metadata.xmp),
            iptc=_iptc_without_images(metadata.iptc),
            comment=None if _holds_image(metadata.comment or b"") else metadata.comment,
            text=tuple(pair for pair in metadata.text if not any(map(_holds_image, pair))),
        )
    raise ValueError(f"metadata must be 'strip', 'safe' or 'keep', got {policy!r}")


def orientation(exif: bytes | None) -> int:
    """Return the orientation that an EXIF block tells, 1 to 8; 1 where it can't be read."""
    try:
        order, tiff = _tiff(exif or b"")
    except ValueError:
        return 1
    field = _directory(tiff, order, _first_offset(tiff, order)).get(ORIENTATION)
    # SHORT is right; as BYTE or LONG viewers follow it too.
    if field is None or field.type not in (1, 3, 4):
        return 1
    letter = {1: "B", 3: "H", 4: "L"}[field.type]
    value: int = struct.unpack_from(order + letter, field.data)[0]
    return value if 1 <= value <= 8 else 1


def _holds_image(value: bytes | str) -> bool:
    """Return whether `value` is, holds, or is long enough to hold an encoded image."""
    if isinstance(value, bytes):
        if any(signature in value for signature in IMAGE_SIGNATURES):
            return True
        value = value.replace(b"\0", b"").decode("latin-1")  # without the gaps of UTF-16
    if len(value) > LONGEST_VALUE:
        return True
    compact = "".join(value.split())
    return any(s in compact for s in BASE64_SIGNATURES) or bool(ENCODED_BYTES.search(value))


@dataclass(frozen=True, slots=True)
class _Field:
    """One EXIF field: its type, how many values of it there are, and their bytes."""

    type: int
    count: int
    data: bytes


# Source: TIFF 6.0, section 2, and EXIF 2.32, 4.6.2: bytes of one value of each type.
_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}


def _tiff(block: bytes) -> tuple[str, bytes]:
    """Return the byte order, as `struct` names it, and the TIFF inside an EXIF block.

    Raises:
        ValueError: there is none.
    """
    tiff = block.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None or len(tiff) < 8:
        raise ValueError("expected an EXIF block, got no TIFF header")
    return order, tiff


def _first_offset(tiff: bytes, order: str) -> int:
    offset: int = struct.unpack_from(order + "L", tiff, 4)[0]
    return offset


def _directory(tiff: bytes, order: str, offset: int) -> dict[int, _Field]:
    """Return the fields of one directory; those that reach beyond the block are left out."""
    fields: dict[int, _Field] = {}
    if offset + 2 > len(tiff):
        return fields
    count: int = struct.unpack_from(order + "H", tiff, offset)[0]
    for i in range(min(count, MOST_FIELDS)):
        entry = offset + 2 + 12 * i
        if entry + 12 > len(tiff):
            break
        tag, type_, values, start = struct.unpack_from(order + "HHLL", tiff, entry)
        size = _TYPE_BYTES.get(type_, 0) * values
        if size <= 4:
            start = entry + 8
        if 0 < size <= LONGEST_VALUE and start + size <= len(tiff):
            fields[tag] = _Field(type_, values, tiff[start : start + size])
    return fields


def _copy_exif(
    block: bytes | None,
    tags: frozenset[int] | None,
    exif_tags: frozenset[int] | None,
    *,
    gps: bool,
    orientation: int,
) -> bytes | None:
    """Return a new EXIF block with the named tags, or with all harmless ones where None.

    The directory of the thumbnail (IFD1) is never read, so it can't be copied.
    """
    try:
        order, tiff = _tiff(block or b"")
    except ValueError:
        order, tiff = "<", b"II*\0" + bytes(4)
    found = _directory(tiff, order, _first_offset(tiff, order))
    main = _harmless(found, tags, NEVER_TAGS)
    exif = _harmless(_pointed_to(found, EXIF_POINTER, tiff, order), exif_tags, NEVER_EXIF_TAGS)
    place = _pointed_to(found, GPS_POINTER, tiff, order) if gps else {}
    place = _harmless(place, None, frozenset())
    if orientation != 1:
        main[ORIENTATION] = _Field(3, 1, struct.pack(order + "H", orientation))
    if not (main or exif or place):
        return None
    below = {EXIF_POINTER: exif, GPS_POINTER: place}
    for pointer, fields in below.items():
        if fields:
            main[pointer] = _Field(4, 1, b"\0" * 4)
    offset = 8 + len(_packed(main, order, 8))
    tail = b""
    for pointer, fields in below.items():
        if fields:
            main[pointer] = _Field(4, 1, struct.pack(order + "L", offset + len(tail)))
            tail += _packed(fields, order, offset + len(tail))
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return b"Exif\0\0" + mark + struct.pack(order + "L", 8) + _packed(main, order, 8) + tail


def _pointed_to(
    fields: dict[int, _Field], pointer: int, tiff: bytes, order: str
) -> dict[int, _Field]:
    field = fields.get(pointer)
    if field is None or len(field.data) != 4:
        return {}
    return _directory(tiff, order, struct.unpack(order + "L", field.data)[0])


def _harmless(
    fields: dict[int, _Field], wanted: frozenset[int] | None, never: frozenset[int]
) -> dict[int, _Field]:
    return {
        tag: field
        for tag, field in fields.items()
        if (wanted is None or tag in wanted) and tag not in never and not _holds_image(field.data)
    }


def _packed(fields: dict[int, _Field], order: str, offset: int) -> bytes:
    """Return a directory as it stands in the file from `offset` on, its longer values behind it."""
    entries, values = b"", b""
    values_at = offset + 2 + 12 * len(fields) + 4
    for tag, one in sorted(fields.items()):
        entries += struct.pack(order + "HHL", tag, one.type, one.count)
        if len(one.data) <= 4:
            entries += one.data.ljust(4, b"\0")
        else:
            entries += struct.pack(order + "L", values_at + len(values))
            values += one.data + b"\0" * (len(one.data) % 2)
    return struct.pack(order + "H", len(fields)) + entries + b"\0" * 4 + values


def _iptc_without_images(record: bytes | None) -> bytes | None:
    """Return an IPTC record without previews and what may be one; None for a damaged one."""
    kept, at, record = b"", 0, record or b""
    # Some writers fill up with zeros.
    while at < len(record) and record[at:].strip(b"\0"):
        if record[at] != 0x1C or at + 5 > len(record):
            return None
        number, dataset, length = struct.unpack_from(">BBH", record, at + 1)
        end = at + 5 + length
        if end > len(record):  # also the extended lengths, which only large values have
            return None
        if (number, dataset) not in NEVER_IPTC and not _holds_image(record[at + 5 : end]):
            kept += record[at:end]
        at = end
    return kept or None


def _parse_xmp(packet: bytes | None) -> ET.Element | None:
    if not packet or len(packet) > LONGEST_XMP:
        return None
    try:
        root: ET.Element = defusedxml.ElementTree.fromstring(packet.strip(b"\0 \n\r\t"))
    except (ET.ParseError, DefusedXmlException, ValueError, LookupError):
        return None
    return root


def panorama_tags(packet: bytes | None) -> dict[str, str]:
    """Return the tags of an XMP packet that tell a panorama's projection, by their names."""
    return {name.removeprefix(f"{{{GPANO}}}"): value for name, value in _projection(packet).items()}


def _projection(packet: bytes | None) -> dict[str, str]:
    """Return the values of a packet that a viewer needs to show it as a panorama; none if not."""
    kept = {
        name: value.strip()
        for name, value in _panorama_values(packet).items()
        if name in PROJECTION_VALUES and PROJECTION_VALUES[name].fullmatch(value.strip())
    }
    return kept if f"{{{GPANO}}}ProjectionType" in kept else {}


def _panorama_values(packet: bytes | None) -> dict[str, str]:
    """Return the GPano values of a packet by their full names."""
    root = _parse_xmp(packet)
    if root is None:
        return {}
    return {
        name: value
        for element in root.iter()
        for name, value in [*element.attrib.items(), (element.tag, element.text or "")]
        if name in GPANO_NAMES and value.strip() and not _holds_image(value)
    }


def _xmp_of(values: dict[str, str]) -> bytes | None:
    """Return an XMP packet with `values` alone, or None without any."""
    if not values:
        return None
    meta = ET.Element("{adobe:ns:meta/}xmpmeta")
    rdf = ET.SubElement(meta, f"{{{RDF}}}RDF")
    ET.SubElement(rdf, f"{{{RDF}}}Description", {f"{{{RDF}}}about": "", **values})
    return ET.tostring(meta)


def _xmp_without_images(packet: bytes | None) -> bytes | None:
    """Return `packet` without the properties whose value is, or may be, an encoded image."""
    root = _parse_xmp(packet)
    if root is None or any(_holds_image(value) for value in _own_values(root)):
        return None
    for parent in list(root.iter()):
        for child in list(parent):
            if _must_go(child.tag) or any(_holds_image(value) for value in _own_values(child)):
                parent.remove(child)
        for name, value in list(parent.attrib.items()):
            if _must_go(name) or _holds_image(value):
                del parent.attrib[name]
    try:
        return ET.tostring(root)
    except RecursionError:  # nested deeper than any real packet
        return None


def _must_go(name: str) -> bool:
    """Return whether an XMP property holds an image, or tells of one that is gone."""
    is_named = name in NEVER_XMP or NEVER_XMP_NAMES.match(name) is not None
    return is_named or name.startswith(NEVER_XMP_SETS)


def _own_values(element: ET.Element) -> Iterator[str]:
    yield element.text or ""
    yield element.tail or ""


def photoshop_segment(iptc: bytes) -> bytes:
    """Return a JPEG APP13 segment that holds an IPTC record alone, no thumbnail beside it."""
    padded = iptc + b"\0" * (len(iptc) % 2)
    resource = b"8BIM" + struct.pack(">HH", IPTC_RESOURCE, 0) + struct.pack(">L", len(iptc))
    payload = b"Photoshop 3.0\0" + resource + padded
    if len(payload) > 65_533:
        return b""
    return b"\xff\xed" + struct.pack(">H", len(payload) + 2) + payload
