"""Processing a dropped photo for the viewer."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from plateblur.boxes import expand, pixel_bounds
from plateblur.demo.visits import DroppedPhoto, Visit
from plateblur.errors import (
    PhotoDecodeError,
    PhotoTooLargeError,
    PlateblurError,
    TooCostlyError,
)
from plateblur.formats import FORMATS
from plateblur.guidance import hidden_advice, marks, plate_ratios, within_guidance
from plateblur.photo import Photo, decode
from plateblur.pipeline import find_plates, hide_plates
from plateblur.types import (
    COUNT_FLOOR,
    BlurOptions,
    BlurredPhoto,
    Detections,
    Detector,
    Effort,
    Image,
)
from plateblur.web.settings import PHOTO_PIXELS

PREVIEW_PX = 1600  # longer side of what the page shows; the download has every pixel
CROP_PX = 320
EXAMPLE_PX = 240
THUMB_PX = 192
EXAMPLES = Path(__file__).parent / "examples"  # drawn by `plateblur.drawn.write_examples`
OPENING = "street-day"  # the scene that the page opens with
PREVIEW_QUALITY = 85
MOST_BY_HAND = 100  # boxes that a person adds to one photo
CROP_CONTEXT = 0.4  # of the box's size, per side; a veiled plate alone can't be recognised
NO_PLATES = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))


@dataclass(frozen=True, slots=True)
class Limits:
    """What the demo accepts.

    Attributes:
        photo_bytes: of one encoded photo.
        photo_pixels: of one decoded photo.
        photos: at once.
        clip_bytes: of one clip.
    """

    photo_bytes: int = 40 * 1024 * 1024
    photo_pixels: int = PHOTO_PIXELS
    photos: int = 20
    clip_bytes: int = 100 * 1024 * 1024


def open_photo(detector: Detector, name: str, data: bytes, limits: Limits) -> DroppedPhoto:
    """Return the photo with its plates found.

    Args:
        detector: what finds the plates.
        name: the file's name.
        data: the encoded photo.
        limits: what is accepted.

    Raises:
        PlateblurError: that could not be.
    """
    photo = _decode(data, limits)
    found = find_plates(photo, detector, min_confidence=COUNT_FLOOR)
    thumb = _picture_url(_on_white(photo), THUMB_PX)
    return DroppedPhoto(name, data, found, found, image_hw=photo.image_hw, thumb=thumb)


def open_example(detector: Detector, path: Path, limits: Limits) -> DroppedPhoto:
    """Return a drawn scene of the page with its plates found.

    Raises:
        PlateblurError: it can't be read or searched.
        OSError: it can't be read.
    """
    photo = open_photo(detector, path.name, path.read_bytes(), limits)
    return replace(photo, is_example=True)


@dataclass(frozen=True, slots=True)
class Opening:
    """What the page shows before a visitor has done anything.

    Attributes:
        photo: a drawn scene.
        view: what the viewer shows of it.
    """

    photo: DroppedPhoto
    view: dict[str, Any]


def opening_of(
    detector: Detector, examples: Sequence[Path], limits: Limits, options: BlurOptions
) -> Opening | None:
    """Return what the page opens with: the scene named `OPENING`, or the first; None without any.

    Raises:
        PlateblurError: it can't be blurred.
        OSError: it can't be read.
    """
    if not examples:
        return None
    path = next((path for path in examples if path.stem == OPENING), examples[0])
    photo = open_example(detector, path, limits)
    _, view = blur_and_view(detector, photo, options, limits)
    return Opening(photo, view)


def search_again(
    detector: Detector, photo: DroppedPhoto, effort: Effort, limits: Limits
) -> DroppedPhoto:
    """Return the photo with its plates looked for as hard as `effort` says.

    Plates added by hand stay; plates removed by hand are back if they are detected again.

    Raises:
        PlateblurError: it can't be searched; there must be no output.
    """
    decoded = _decode(photo.data, limits)
    found = find_plates(decoded, detector, min_confidence=COUNT_FLOOR, effort=effort)
    plates = found.after_boxes(photo.plates.xyxy[: photo.by_hand])
    return replace(photo, found=found, plates=plates, effort=effort)


def failed_photo(name: str, reason: str) -> DroppedPhoto:
    """Return a photo that can't be shown, and nothing of it but its name."""
    return DroppedPhoto(name, b"", NO_PLATES, NO_PLATES, failure=reason)


def blur_dropped(
    _: Detector, photo: DroppedPhoto, options: BlurOptions, limits: Limits
) -> BlurredPhoto:
    """Return the photo with its plates, as corrected, hidden.

    Raises:
        PlateblurError: it can't be blurred; there must be no output.
    """
    return hide_plates(_decode(photo.data, limits), photo.plates, options)


def blur_and_view(
    detector: Detector, photo: DroppedPhoto, options: BlurOptions, limits: Limits
) -> tuple[BlurredPhoto, dict[str, Any]]:
    """Return what `blur_dropped` does, and what the viewer shows of it.

    Raises:
        PlateblurError: it can't be blurred; there must be no output.
    """
    blurred = blur_dropped(detector, photo, options, limits)
    return blurred, view_of(photo, blurred, limits)


def add_plate(photo: DroppedPhoto, xyxy: Sequence[float]) -> DroppedPhoto:
    """Return the photo with one more plate, as sure as can be.

    Args:
        photo: as it was.
        xyxy: four numbers, pixels of the upright image, in any order of corners.

    Raises:
        ValueError: not four finite numbers, no area, or too many plates already.
    """
    if photo.by_hand >= MOST_BY_HAND:
        raise ValueError(f"at most {MOST_BY_HAND} boxes can be added to a photo")
    corners = _box(xyxy).reshape(2, 2)
    box = np.hstack([corners.min(axis=0), corners.max(axis=0)])[None]
    if (box[0, :2] >= box[0, 2:]).any():
        raise ValueError("a box must have an area")
    plates = photo.plates.after_boxes(box)
    return replace(photo, plates=plates, by_hand=photo.by_hand + 1)


def remove_plate(photo: DroppedPhoto, xyxy: Sequence[float]) -> DroppedPhoto:
    """Return the photo without the plate whose box is `xyxy`, if there is one.

    Raises:
        ValueError: not four finite numbers.
    """
    wrong = (photo.plates.xyxy == _box(xyxy)).all(axis=1)
    plates = photo.plates.take(~wrong)
    return replace(photo, plates=plates, by_hand=photo.by_hand - int(wrong[: photo.by_hand].sum()))


def _box(xyxy: Sequence[float]) -> NDArray[np.float32]:
    """Return a box sent by a browser as (4,) float32.

    Raises:
        ValueError: not a box.
    """
    is_box = isinstance(xyxy, list | tuple) and len(xyxy) == 4
    if not is_box or not all(type(side) in (int, float) for side in xyxy):
        raise ValueError("a box must be four finite numbers")
    with np.errstate(over="ignore"):
        box = np.array(xyxy, np.float64).astype(np.float32)
    if not np.isfinite(box).all():
        raise ValueError("a box must be four finite numbers")
    return box


def uncorrect(photo: DroppedPhoto) -> DroppedPhoto:
    """Return the photo with its plates as the detector found them."""
    return replace(photo, plates=photo.found, by_hand=0)


def blurred_name(name: str, blurred: BlurredPhoto) -> str:
    """Return the name of the blurred photo: "car-blurred.jpg"."""
    path = PurePath(name.replace("\\", "/"))
    own = FORMATS[blurred.format].suffixes
    suffix = path.suffix if path.suffix.lower() in own else own[0]
    return f"{path.stem or 'photo'}-blurred{suffix}"


def view_of(photo: DroppedPhoto, blurred: BlurredPhoto, limits: Limits) -> dict[str, Any]:
    """Return what the viewer shows: previews of before and after, and each plate.

    The preview of after is made from the very bytes of the download.

    Args:
        photo: as it was dropped.
        blurred: what became of it.
        limits: those that it was taken with.
    """
    before = _on_white(_decode(photo.data, limits))
    after = _on_white(decode(blurred.data, max_bytes=2**40, max_pixels=limits.photo_pixels))
    height, width = blurred.image_hw
    return {
        "name": photo.name,
        "before": _picture_url(before, PREVIEW_PX),
        "after": _picture_url(after, PREVIEW_PX),
        "width": width,
        "height": height,
        "corrected": photo.plates is not photo.found,
        "is_example": photo.is_example,
        "plates": _plates_of(photo, blurred, after),
    }


def _plates_of(photo: DroppedPhoto, blurred: BlurredPhoto, after: Image) -> list[dict[str, Any]]:
    detections = blurred.detections
    ratios = plate_ratios(detections.xyxy, image_hw=blurred.image_hw)
    around = pixel_bounds(expand(detections.xyxy, CROP_CONTEXT), image_hw=blurred.image_hw)
    plates = []
    for number, (x1, y1, x2, y2) in enumerate(around):
        crop = after[y1 : max(y2, y1 + 1), x1 : max(x2, x1 + 1)]
        plates.append(
            {
                "xyxy": detections.xyxy[number].tolist(),
                "confidence": f"{detections.confidence[number]:.2f}",
                "by_hand": number < photo.by_hand,
                "within": within_guidance(float(ratios[number])),
                "advice": hidden_advice(float(ratios[number])),
                "crop": _picture_url(crop, CROP_PX) if crop.size else "",
            }
        )
    return plates


def _decode(data: bytes, limits: Limits) -> Photo:
    return decode(data, max_bytes=limits.photo_bytes, max_pixels=limits.photo_pixels)


def _on_white(photo: Photo) -> Image:
    return photo.views[-1]


def _picture_url(image: Image, longer_px: int) -> str:
    """Return `image`, no larger than asked for, as an address that holds the picture itself."""
    small = PillowImage.fromarray(np.ascontiguousarray(image))
    small.thumbnail((longer_px, longer_px))
    out = io.BytesIO()
    small.save(out, "JPEG", quality=PREVIEW_QUALITY)
    return data_url(out.getvalue(), "image/jpeg")


def data_url(data: bytes, media_type: str) -> str:
    """Return an address that holds the data itself."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def explain(error: PlateblurError, limits: Limits) -> str:
    """Return why a photo could not be blurred, and what to do."""
    if isinstance(error, PhotoTooLargeError):
        return (
            f"This photo is too large for the demo, which accepts up to "
            f"{limits.photo_bytes / 1024**2:.0f} MB and {limits.photo_pixels / 1e6:.0f} megapixels "
            f"({error}). Use the plateblur command for larger photos."
        )
    if isinstance(error, TooCostlyError):
        return (
            f"This photo takes more work than the demo allows: {error}. Try saving it again as a "
            f"plain JPEG, or use the plateblur command."
        )
    if isinstance(error, PhotoDecodeError):
        return (
            f"This file could not be read as a photo: {error}. Try saving it again as JPEG or PNG."
        )
    return f"This photo could not be blurred, so there is no download: {error}."


def film_of(visit: Visit, *, min_confidence: float) -> dict[str, Any] | None:
    """Return what the filmstrip shows of several photos; None where there is no choice.

    Args:
        visit: the photos.
        min_confidence: plates below it aren't hidden.
    """
    if len(visit.photos) < 2:
        return None
    frames = [_frame(photo, min_confidence) for photo in visit.photos]
    return {"frames": frames, "shown": visit.shown}


def _frame(photo: DroppedPhoto, min_confidence: float) -> dict[str, Any]:
    if photo.failure:
        return {"name": photo.name, "failed": True}
    hidden = photo.plates.at_least(min_confidence)
    found = hidden.take(np.arange(len(hidden.xyxy)) >= photo.by_hand)
    return {
        "name": photo.name,
        "thumb": photo.thumb,
        "plates": len(hidden.xyxy),
        "marks": marks(found.xyxy, found.confidence, image_hw=photo.image_hw),
        "corrected": photo.plates is not photo.found,
    }


def example_views(examples: Sequence[Path]) -> list[dict[str, str]]:
    """Return the name and a small picture of each drawn scene.

    Args:
        examples: photos that the operator offers.

    Raises:
        PhotoError: one of them is no photo.
    """
    return [
        {
            "name": path.stem.replace("-", " ").replace("_", " ").capitalize(),
            "picture": _picture_url(_on_white(decode(path.read_bytes())), EXAMPLE_PX),
        }
        for path in examples
    ]
