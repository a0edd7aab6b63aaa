"""Every photo format that is taken, once: what it is called, and how its bytes begin.

A name or a media type that someone else gave to a photo is never asked: the first bytes decide.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Format:
    """A format that photos are read and written in.

    Attributes:
        name: as Pillow calls it; `Photo.format`.
        suffixes: of file names, in lower case; the first is given to new files.
        media_type: as in HTTP's `Content-Type`.
    """

    name: str
    suffixes: tuple[str, ...]
    media_type: str


JPEG = Format("JPEG", (".jpg", ".jpeg", ".jpe", ".jfif", ".jpg_large", ".mpo"), "image/jpeg")
PNG = Format("PNG", (".png",), "image/png")
WEBP = Format("WEBP", (".webp",), "image/webp")
HEIF = Format("HEIF", (".heic", ".heif", ".hif", ".heics", ".heifs"), "image/heic")
AVIF = Format("AVIF", (".avif", ".avifs"), "image/avif")
TIFF = Format("TIFF", (".tif", ".tiff"), "image/tiff")
BMP = Format("BMP", (".bmp", ".dib"), "image/bmp")
GIF = Format("GIF", (".gif",), "image/gif")

FORMATS = {each.name: each for each in (JPEG, PNG, WEBP, HEIF, AVIF, TIFF, BMP, GIF)}
# What the service takes. Source: contract, section 1.
SERVED = {each.name: each for each in (JPEG, PNG, WEBP, HEIF, AVIF)}
BY_SUFFIX = {suffix: each for each in FORMATS.values() for suffix in each.suffixes}
TAKEN = "JPEG, PNG, WebP, HEIC, AVIF, TIFF, BMP or GIF"  # for messages
SERVED_NAMES = "JPEG, PNG, WebP, HEIC or AVIF"

# Source: ISO/IEC 23008-12, B.4 and annexes B and C: the major brands of HEIF files.
HEIF_BRANDS = frozenset(
    (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1")
)
AVIF_BRANDS = frozenset((b"avif", b"avis"))  # Source: AV1 Image File Format 1.1, section 6
LONGEST_BRANDS = 256  # bytes of `ftyp` that are read; real ones have some dozens

# Source: the formats' specifications. Pictures that are known and not taken, by how they begin.
OTHER_PICTURES = {
    b"II+\0": "BigTIFF",
    b"MM\0+": "BigTIFF",
    b"8BPS": "Photoshop document",
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"FUJIFILMCCD-RAW": "camera raw",  # RAF
    b"IIU\0": "camera raw",  # RW2
    b"IIRO": "camera raw",  # ORF
    b"IIRS": "camera raw",
    b"MMOR": "camera raw",
    b"FOVb": "camera raw",  # X3F
    b"\0MRM": "camera raw",
    b"II\x1a\0\0\0HEAPCCDR": "camera raw",  # CRW
}
CR2_MARK = slice(8, 10), b"CR"  # in what is a TIFF otherwise

OTHER_SUFFIXES = frozenset(
    {
        *(".psd", ".jxl", ".jp2", ".j2k", ".jxr", ".ico"),
        *(".ppm", ".pgm", ".pnm", ".tga", ".exr", ".hdr"),
        *(".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".sr2", ".raf", ".orf", ".rw2"),
        *(".pef", ".srw", ".x3f", ".3fr", ".iiq", ".raw", ".gpr"),
    }
)
"""Suffixes of pictures that are not taken."""


def sniff(data: bytes) -> Format | None:
    """Return the format that a photo is in by its first bytes; 256 of them are enough.

    It says nothing about what follows: the rest may be damaged.
    """
    if data.startswith(b"\xff\xd8\xff"):
        return JPEG
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return PNG
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return WEBP
    if data[4:8] == b"ftyp":
        major = data[8:12]
        length = min(int.from_bytes(data[:4]), LONGEST_BRANDS)
        brands = {data[at : at + 4] for at in range(16, length, 4)}
        if major in AVIF_BRANDS or (major in (b"mif1", b"msf1") and brands & AVIF_BRANDS):
            return AVIF
        if major in HEIF_BRANDS:
            return HEIF
    if data[:4] in (b"II*\0", b"MM\0*") and data[CR2_MARK[0]] != CR2_MARK[1]:
        return TIFF
    if data[:2] == b"BM" and data[6:10] == b"\0\0\0\0" and len(data) > 26:  # reserved bytes
        return BMP
    if data.startswith((b"GIF87a", b"GIF89a")):
        return GIF
    return None


# Source: ISO/IEC 14496-12 and Apple's QuickTime File Format: how files without `ftyp` begin.
QUICKTIME_ATOMS = (b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
# Source: Matroska, ISO/IEC 13818-1 (program stream), and Microsoft's ASF: how they begin.
CLIP_STARTS = (b"\x1a\x45\xdf\xa3", b"\0\0\x01\xba", b"\x30\x26\xb2\x75\x8e\x66\xcf\x11")
TS_SYNC, TS_PACKET_BYTES, TS_STAMP_BYTES = b"\x47", 188, 4  # Source: ISO/IEC 13818-1, and Blu-ray


def is_clip(data: bytes) -> bool:
    """Return whether a file begins as a clip; 400 bytes are enough.

    It says nothing about what follows: the rest may be damaged, or hold sound alone.
    """
    if data[4:8] == b"ftyp":
        return sniff(data) is None and other_picture(data) is None
    if data[4:8] in QUICKTIME_ATOMS or data.startswith(CLIP_STARTS):
        return True
    if data[:4] == b"RIFF" and data[8:12] == b"AVI ":
        return True
    return any(
        data[at : at + 1] == TS_SYNC == data[at + step : at + step + 1]
        for at, step in ((0, TS_PACKET_BYTES), (TS_STAMP_BYTES, TS_PACKET_BYTES + TS_STAMP_BYTES))
    )


def other_picture(data: bytes) -> str | None:
    """Return the name of a picture format that is known and not taken, by its first bytes."""
    if sniff(data) is not None:
        return None
    if data[:4] in (b"II*\0", b"MM\0*") or data[4:12] == b"ftypcrx ":  # CR2 and CR3
        return "camera raw"
    return next((name for begin, name in OTHER_PICTURES.items() if data.startswith(begin)), None)
