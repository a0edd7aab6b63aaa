"""What a photo's file holds beside the photo: further pictures, maps of light and depth, clips.

Only the photo itself is blurred and written. Whatever else is there would show its plates, so it is
dropped, and said.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import Any

from PIL import Image as PillowImage
from PIL import JpegImagePlugin, MpoImagePlugin

from plateblur.headers import boxes_of, jpeg_segments

# Source: CIPA DC-007 (Multi-Picture Format), 5.2.3.3: previews of the photo itself.
MPF_PREVIEWS = ("Large Thumbnail (VGA Equivalent)", "Large Thumbnail (Full HD Equivalent)")
# How maps name themselves in their own metadata. Source: Android's Ultra HDR image format, 1.0;
# Apple's auxiliary image types; Google's depth map metadata.
GAIN_MAP = re.compile(rb"hdr-gain-map|hdrgainmap|HDRGainMap", re.ASCII)
DEPTH_MAP = re.compile(rb"aux:depth|aux:disparity|depthData|photos/1\.0/depthmap", re.ASCII)
MOTION = re.compile(rb"MotionPhoto|MicroVideo", re.ASCII)
DEPTH_AUXILIARY = re.compile(rb"auxid:2\b|aux(iliary)?:(depth|disparity)", re.ASCII)
TONE_MAP = b"tmap"  # Source: ISO/IEC 23008-12, amendment 1: an item that applies a gain map
# Source: Android's motion photo format, 1.0; `moov` is that of an image sequence, and a clip that
# is put behind a photo begins with `ftyp`.
CLIP_BOXES = frozenset({b"mpvd", b"moov", b"ftyp"})
MOST_PICTURES = 100  # that are counted
HEAD_BYTES = 1 << 16  # of a further image, in which its metadata lies

GAIN, DEPTH = "its gain map for HDR screens was dropped", "its depth map was dropped"
CLIP = "the clip in it was dropped"


@dataclass(frozen=True, slots=True)
class Companions:
    """What was dropped.

    Attributes:
        pictures: how many further pictures.
        notes: a sentence for each kind, for people.
    """

    pictures: int = 0
    notes: tuple[str, ...] = ()


class _IndexedFile(MpoImagePlugin.MpoImageFile):
    """Pillow's reader without its look for a resolution in EXIF: that warns of a damaged block."""

    def _read_dpi_from_exif(self) -> None:
        pass


def companions_of(stored: PillowImage.Image, data: bytes) -> Companions:
    """Return what the file `data` holds beside the photo `stored`."""
    if isinstance(stored, JpegImagePlugin.JpegImageFile):
        pictures, maps = _in_jpeg(data)
    else:
        pictures, maps = getattr(stored, "n_frames", 1) - 1, []
        if data[4:8] == b"ftyp":
            pictures += len(_found(_behind_boxes(data)))
            maps = _in_boxes(data, stored.info)
    said = [f"{pictures} more picture{'s' * (pictures > 1)} in it dropped"] if pictures else []
    return Companions(pictures, (*said, *maps))


def _in_boxes(data: bytes, info: dict[Any, Any]) -> list[str]:
    """Return which maps and clips a HEIF or AVIF holds."""
    boxes = list(boxes_of(data))
    auxiliary = b" ".join([data[start:end] for name, start, end in boxes if name == b"auxC"])
    auxiliary = auxiliary.lower()
    items = (data[start:end] for name, start, end in boxes if name == b"infe")
    # Source: ISO/IEC 14496-12, 8.11.6: version and flags, number, protection and type of an item.
    types = {item[10 if item[:1] == b"\3" else 8 :][:4] for item in items}
    kinds = {
        GAIN: TONE_MAP in types or b"gain" in auxiliary,
        DEPTH: bool(info.get("depth_images")) or DEPTH_AUXILIARY.search(auxiliary) is not None,
        CLIP: any(name in CLIP_BOXES for name, *_ in boxes[1:]),
    }
    return [note for note, is_there in kinds.items() if is_there]


def _behind_boxes(data: bytes) -> bytes:
    """Return what lies behind the boxes of a HEIF or AVIF."""
    end = 0
    for name, start, after in boxes_of(data):
        if start - end not in (8, 16) or not name.isalnum():  # a box within another, or none
            break
        end = after
    return data[end:]


def _in_jpeg(data: bytes) -> tuple[int, list[str]]:
    """Return how many further pictures a JPEG holds, and which maps and clips.

    What its index tells, and what lies behind it without an index.
    """
    end = max((end for _, _, end in jpeg_segments(data)), default=0)
    behind = data[end:]
    if not behind.strip(b"\0"):
        return 0, []
    own = data[: min(end, HEAD_BYTES)]
    heads, notes = _indexed(data) or _found(behind), []
    for note, name in ((GAIN, GAIN_MAP), (DEPTH, DEPTH_MAP)):
        named = [head for head in heads if name.search(head)]
        if not named and name.search(own):  # named by the photo's own metadata alone
            named = heads[:1]
        heads = [head for head in heads if head not in named]
        notes += [note] * len(named)
    if b"ftyp" in behind or MOTION.search(own):
        notes.append(CLIP)
    return len(heads), list(dict.fromkeys(notes))


def _indexed(data: bytes) -> list[bytes]:
    """Return how the further images of a JPEG begin, previews left out; none without an index."""
    try:
        indexed = _IndexedFile(io.BytesIO(data))
        entries = (indexed.mpinfo or {})[0xB002]  # Source: CIPA DC-007, 5.2.3, MP entries
        base = indexed.info["mpoffset"]
    except (OSError, SyntaxError, ValueError, LookupError, TypeError, AttributeError):
        return []
    heads = []
    for entry in entries[1:]:
        start = base + entry["DataOffset"]
        if (
            entry["Attribute"]["MPType"] not in MPF_PREVIEWS
            and data[start : start + 2] == b"\xff\xd8"
        ):
            heads.append(data[start : start + HEAD_BYTES])
    return heads


def _found(behind: bytes) -> list[bytes]:
    """Return how the JPEGs begin that lie behind one, each after the end of the one before."""
    heads: list[bytes] = []
    at = behind.find(b"\xff\xd8\xff")
    while at >= 0 and len(heads) < MOST_PICTURES:
        segments = list(jpeg_segments(behind, at=at + 2))
        if any(marker == 0xDA for marker, _, _ in segments):
            heads.append(behind[at : at + HEAD_BYTES])
        at = behind.find(b"\xff\xd8\xff", max(segments[-1][2], at + 3) if segments else at + 3)
    return heads
