"""A real photo in, a blurred photo out: the whole way, one line a step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from plateblur.blur import blur_boxes, hidden_bounds, opaque_boxes
from plateblur.boxes import non_max_suppression, pixel_bounds
from plateblur.colours import to_srgb
from plateblur.draw import draw_detections
from plateblur.exact import NotExactError, is_available
from plateblur.faces import LAYOUTS, faces_of
from plateblur.formats import BMP, GIF, PNG, TIFF
from plateblur.looks import NMS_IOU_THRESHOLD
from plateblur.masks import InstanceMask, instance_mask
from plateblur.metadata import Metadata
from plateblur.outlines import (
    Region,
    blur_regions,
    box_regions,
    flat_regions,
    opaque_regions,
)
from plateblur.panorama import Spherical, find_on_panorama, outline_regions
from plateblur.photo import (
    MAX_BYTES,
    MAX_PIXELS,
    Photo,
    decode,
    encode,
    encode_exactly,
    jpeg_preview,
)
from plateblur.sphere import panorama_of
from plateblur.types import (
    COUNT_FLOOR,
    BlurOptions,
    BlurredPhoto,
    Boxes,
    Detections,
    Detector,
    Effort,
    Image,
    Projection,
    Searched,
)
from plateblur.zones import NO_ZONES, Zones

# Formats whose pixels come out as they went in, where nothing hides them.
LOSSLESS = frozenset({PNG.name, TIFF.name, BMP.name, GIF.name})
WITHOUT_METADATA = frozenset({TIFF.name, BMP.name, GIF.name})

DEFAULTS = BlurOptions()
LEAST_CONFIDENCE = 1e-9  # below that of any plate that is given


def blur_photo(
    data: bytes,
    detector: Detector,
    options: BlurOptions = DEFAULTS,
    *,
    max_bytes: int = MAX_BYTES,
    max_pixels: int = MAX_PIXELS,
    zones: Zones = NO_ZONES,
) -> BlurredPhoto:
    """Return the photo in `data` with its plates unreadable, in the format that it came in.

    Args:
        data: an encoded photo of one of the formats in `formats.FORMATS`.
        detector: what finds the plates.
        options: how the photo is to be blurred.
        max_bytes: the longest `data` that is taken.
        max_pixels: the most pixels that are decoded.
        zones: where plates stay visible, and what is hidden always.

    Raises:
        PhotoError: `data` can't be taken.
        DetectionError: the detector failed.
        EncodeError: the result could not be written.
        ValueError: `options` are out of range.
    """
    photo = decode(data, max_bytes=max_bytes, max_pixels=max_pixels, damaged=options.damaged)
    predictions = find_plates(
        photo,
        detector,
        min_confidence=min(COUNT_FLOOR, options.min_confidence),
        smallest_plate_px=options.smallest_plate_px,
        effort=options.effort,
        projection=options.projection,
    )
    return hide_plates(photo, predictions, options, in_place=True, zones=zones)


def blur_given(
    data: bytes,
    plates: Detections,
    options: BlurOptions = DEFAULTS,
    *,
    detector: Detector | None = None,
    max_bytes: int = MAX_BYTES,
    max_pixels: int = MAX_PIXELS,
    zones: Zones = NO_ZONES,
) -> BlurredPhoto:
    """Return the photo in `data` with `plates` hidden, however unsure, in the format it came in.

    Zones to ignore are for what a detector finds; a plate that was given is hidden everywhere.

    Args:
        data: an encoded photo of one of the formats in `formats.FORMATS`.
        plates: what is hidden, pixels of the upright photo.
        options: how the photo is to be blurred.
        detector: what finds more plates, which are hidden too; None to look for none.
        max_bytes: the longest `data` that is taken.
        max_pixels: the most pixels that are decoded.
        zones: where plates that are found stay visible, and what is hidden always.

    Raises:
        PhotoError: `data` can't be taken.
        DetectionError: the detector failed.
        EncodeError: the result could not be written.
        ValueError: `options` are out of range, or `plates` holds no boxes that can be hidden.
    """
    photo = decode(data, max_bytes=max_bytes, max_pixels=max_pixels, damaged=options.damaged)
    ignored = 0
    if detector is not None:
        found = find_plates(
            photo,
            detector,
            min_confidence=options.min_confidence,
            smallest_plate_px=options.smallest_plate_px,
            effort=options.effort,
            projection=options.projection,
        )
        is_ignored = zones.is_ignored(found, photo.image_hw)
        ignored = int(is_ignored.sum())
        plates = plates.and_those(found.take(~is_ignored))
    blurred = hide_plates(
        photo,
        plates,
        replace(options, min_confidence=LEAST_CONFIDENCE),
        in_place=True,
        zones=Zones(hide=zones.hide),
    )
    return replace(blurred, ignored=ignored)


def find_plates(
    photo: Photo,
    detector: Detector,
    *,
    min_confidence: float,
    smallest_plate_px: float = DEFAULTS.smallest_plate_px,
    effort: Effort = DEFAULTS.effort,
    projection: Projection = DEFAULTS.projection,
) -> Detections:
    """Return the plates in all views of `photo`, most confident first.

    On a panorama they have outlines.

    Args:
        photo: as decoded.
        detector: what finds the plates.
        min_confidence: the smallest confidence kept.
        smallest_plate_px: height of the smallest plate that is to be found, pixels.
        effort: how hard to look.
        projection: how the photo shows the world.

    Raises:
        DetectionError: the detector failed.
        PhotoDecodeError: the photo isn't of the projection that was named.
        ValueError: an argument is out of range.
    """
    panorama = panorama_in(photo, projection)
    look = detector.detect
    if panorama is not None:
        look = partial(find_on_panorama, sphere=panorama, detector=detector)
    found = [
        look(
            view,
            min_confidence=min_confidence,
            smallest_plate_px=smallest_plate_px,
            effort=effort,
        )
        for view in photo.views
    ]
    if len(found) == 1:
        return found[0]
    corners = [each.corners for each in found if each.corners is not None]
    in_all_views = Detections(
        np.vstack([each.xyxy for each in found]),
        np.hstack([each.confidence for each in found]),
        _searched(found),
        np.vstack(corners) if corners else None,
    )
    return in_all_views.take(
        non_max_suppression(
            in_all_views.xyxy, in_all_views.confidence, iou_threshold=NMS_IOU_THRESHOLD
        )
    )


def panorama_in(photo: Photo, projection: Projection) -> Spherical | None:
    """Return where `photo` lies on the sphere, or None where it is no panorama.

    Raises:
        PhotoDecodeError: its aspect isn't one of a cubemap or of a dual fisheye picture.
        ValueError: an unknown projection.
    """
    if projection in LAYOUTS:
        return faces_of(photo.image_hw, projection)
    return panorama_of(photo.metadata.xmp, image_hw=photo.image_hw, projection=projection)


def _searched(found: Sequence[Detections]) -> Searched | None:
    """Return how all views were searched; None where a detector doesn't say."""
    searched = [each.searched for each in found if each.searched is not None]
    if len(searched) < len(found):
        return None
    return Searched(
        sum(one.looks for one in searched), max(one.smallest_plate_px for one in searched)
    )


def hide_plates(
    photo: Photo,
    predictions: Detections,
    options: BlurOptions,
    *,
    in_place: bool = False,
    zones: Zones = NO_ZONES,
) -> BlurredPhoto:
    """Return `photo` with those of `predictions` hidden that are confident enough.

    Args:
        photo: as decoded.
        predictions: what was found in it.
        options: how it is to be blurred.
        in_place: the photo's pixels may be lost, so that no copy of them is needed.
        zones: where plates stay visible, and what is hidden always.

    Raises:
        EncodeError: the result could not be written.
        ValueError: `options` are out of range.
    """
    if options.exact and not is_available():
        raise ValueError('exact needs the extra of that name: pip install "plateblur[exact]"')
    detections = predictions.at_least(options.min_confidence)
    ignored = zones.is_ignored(detections, photo.image_hw)
    detections = detections.take(~ignored)
    panorama = panorama_in(photo, options.projection)
    # Where the parts that don't change are kept as they came, writing needs the old pixels too.
    in_place = in_place and not options.exact and photo.format != GIF.name
    if detections.corners is None:
        hidden = hidden_bounds(
            detections.xyxy, image_hw=photo.image_hw, margin=options.margin
        ).tolist()
        blurred = blur_boxes(
            photo.pixels,
            detections.xyxy,
            method=options.method,
            margin=options.margin,
            in_place=in_place,
        )
        if photo.alpha is not None:
            alpha = opaque_boxes(photo.alpha, detections.xyxy, margin=options.margin)
            photo = replace(photo, alpha=alpha)
    else:
        regions = _regions(
            detections.xyxy, detections.corners, panorama, photo.image_hw, margin=options.margin
        )
        hidden = [region.bounds for region in regions]
        blurred = blur_regions(photo.pixels, regions, method=options.method, in_place=in_place)
        if photo.alpha is not None:
            photo = replace(photo, alpha=opaque_regions(photo.alpha, regions))
    always = zones.regions(photo.image_hw)
    if always:
        blurred = blur_regions(blurred, always, method=options.method, in_place=True)
        if photo.alpha is not None:
            photo = replace(photo, alpha=opaque_regions(photo.alpha, always))
    shown = draw_detections(blurred, detections) if options.draw_boxes else blurred
    hidden += [region.bounds for region in always]
    data, notes = _written(photo, shown, hidden, options)
    return BlurredPhoto(
        data=data,
        format=photo.format,
        image_hw=photo.image_hw,
        detections=detections,
        predictions_counted=int((predictions.confidence >= COUNT_FLOOR).sum()),
        crops=_crops(photo, blurred, detections) if options.crops else (),
        projection="flat" if panorama is None else panorama.projection,
        ignored=int(ignored.sum()),
        mask=_mask(detections, always, panorama, photo, options) if options.mask else None,
        notes=(*photo.notes, *notes),
        pictures_dropped=photo.pictures_dropped,
        preview=jpeg_preview(to_srgb(photo.metadata.icc)(shown)) if options.preview else b"",
    )


def _written(
    photo: Photo, shown: Image, hidden: Iterable[Sequence[int]], options: BlurOptions
) -> tuple[bytes, list[str]]:
    """Return the encoded photo, and what was lost that was to be kept.

    Args:
        photo: as decoded.
        shown: its pixels as they are to be.
        hidden: `xyxy` of what is hidden, whole pixels, of which nothing old may be written.
        options: how it is to be blurred.
    """
    notes = []
    if options.metadata != "strip" and photo.format in WITHOUT_METADATA:
        notes.append(f"metadata isn't kept in a {photo.format}")
    if options.exact and photo.format not in LOSSLESS and not photo.is_lossless:
        changed = (shown != photo.pixels).any(axis=2)
        for x1, y1, x2, y2 in hidden:
            changed[y1:y2, x1:x2] = True
        try:
            return encode_exactly(photo, shown, changed, metadata=options.metadata), notes
        except NotExactError as reason:
            notes.append(f"encoded again, not kept bit for bit: {reason}")
    return encode(photo, shown, metadata=options.metadata), notes


def _mask(
    detections: Detections,
    always: list[Region],
    panorama: Spherical | None,
    photo: Photo,
    options: BlurOptions,
) -> InstanceMask:
    """Return which pixels of `photo` are hidden for which of `detections`."""
    corners = detections.corners
    if corners is None:
        corners = np.full((len(detections), 4, 2), np.nan, np.float32)
    regions = [
        _regions(
            detections.xyxy[row : row + 1],
            corners[row : row + 1],
            panorama,
            photo.image_hw,
            margin=options.margin,
        )
        for row in range(len(detections))
    ]
    return instance_mask(regions, always, image_hw=photo.image_hw)


def _regions(
    xyxy: Boxes,
    corners: NDArray[np.float32],
    panorama: Spherical | None,
    image_hw: tuple[int, int],
    *,
    margin: float,
) -> list[Region]:
    """Return the pixels that are hidden for detections with outlines, and for boxes among them."""
    is_box = np.isnan(corners).all(axis=(1, 2))
    boxes = box_regions(xyxy[is_box], image_hw=image_hw, margin=margin)
    if panorama is None:
        return boxes + flat_regions(corners[~is_box], image_hw=image_hw, margin=margin)
    return boxes + outline_regions(corners[~is_box], panorama, margin=margin)


def _crops(photo: Photo, blurred: Image, detections: Detections) -> tuple[bytes, ...]:
    """Return a cut-out of each detection from the blurred image, in the photo's format.

    None carries metadata: a large ICC profile would go out once for each plate.
    """
    height, width = photo.image_hw
    bounds = pixel_bounds(detections.xyxy, image_hw=photo.image_hw)
    turned = to_srgb(photo.metadata.icc)
    shown_as = Metadata(display=photo.metadata.display)
    crops = []
    for x1, y1, x2, y2 in bounds:
        # At least one pixel: there is a crop for each detection.
        left, top = min(x1, width - 1), min(y1, height - 1)
        inside = np.s_[top : max(y2, top + 1), left : max(x2, left + 1)]
        alpha = None if photo.alpha is None else photo.alpha[inside]
        part = replace(photo, alpha=alpha, pixels=blurred[inside], metadata=shown_as)
        crops.append(encode(part, turned(blurred[inside]), metadata="strip"))
    return tuple(crops)
