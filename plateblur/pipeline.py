"""A real photo in, a blurred photo out: the whole way, one line a step."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from plateblur.blur import blur_boxes, opaque_boxes
from plateblur.boxes import non_max_suppression, pixel_bounds
from plateblur.colours import to_srgb
from plateblur.detector import NMS_IOU_THRESHOLD
from plateblur.draw import draw_detections
from plateblur.metadata import Metadata
from plateblur.photo import MAX_BYTES, MAX_PIXELS, Photo, decode, encode
from plateblur.types import BlurOptions, BlurredPhoto, Detections, Detector, Image

COUNT_FLOOR = 0.05  # Source: contract, section 3: all that is kept at this floor is counted.

DEFAULTS = BlurOptions()


def blur_photo(
    data: bytes,
    detector: Detector,
    options: BlurOptions = DEFAULTS,
    *,
    max_bytes: int = MAX_BYTES,
    max_pixels: int = MAX_PIXELS,
) -> BlurredPhoto:
    """Return the photo in `data` with its plates unreadable, in the format that it came in.

    Args:
        data: an encoded photo: JPEG, PNG, WebP, HEIC or AVIF.
        detector: what finds the plates.
        options: how the photo is to be blurred.
        max_bytes: the longest `data` that is taken.
        max_pixels: the most pixels that are decoded.

    Raises:
        PhotoError: `data` can't be taken.
        DetectionError: the detector failed.
        EncodeError: the result could not be written.
        ValueError: `options` are out of range.
    """
    _require_sound(options)
    photo = decode(data, max_bytes=max_bytes, max_pixels=max_pixels)
    predictions = find_plates(
        photo, detector, min_confidence=min(COUNT_FLOOR, options.min_confidence)
    )
    return hide_plates(photo, predictions, options)


def find_plates(photo: Photo, detector: Detector, *, min_confidence: float) -> Detections:
    """Return the plates in all views of `photo`, most confident first.

    Raises:
        DetectionError: the detector failed.
    """
    found = [detector.detect(view, min_confidence=min_confidence) for view in photo.views]
    if len(found) == 1:
        return found[0]
    xyxy = np.vstack([each.xyxy for each in found])
    confidence = np.hstack([each.confidence for each in found])
    kept = non_max_suppression(xyxy, confidence, iou_threshold=NMS_IOU_THRESHOLD)
    return Detections(xyxy[kept], confidence[kept])


def hide_plates(photo: Photo, predictions: Detections, options: BlurOptions) -> BlurredPhoto:
    """Return `photo` with those of `predictions` hidden that are confident enough.

    Raises:
        EncodeError: the result could not be written.
        ValueError: `options` are out of range.
    """
    _require_sound(options)
    detections = predictions.at_least(options.min_confidence)
    blurred = blur_boxes(
        photo.pixels, detections.xyxy, method=options.method, margin=options.margin
    )
    if photo.alpha is not None:
        alpha = opaque_boxes(photo.alpha, detections.xyxy, margin=options.margin)
        photo = replace(photo, alpha=alpha)
    shown = draw_detections(blurred, detections) if options.draw_boxes else blurred
    return BlurredPhoto(
        data=encode(photo, shown, metadata=options.metadata),
        format=photo.format,
        image_hw=photo.image_hw,
        detections=detections,
        predictions_counted=int((predictions.confidence >= COUNT_FLOOR).sum()),
        crops=_crops(photo, blurred, detections) if options.crops else (),
    )


def _require_sound(options: BlurOptions) -> None:
    # Above 1, or with NaN, nothing would be confident enough and the photo would leave as it came.
    if not 0 < options.min_confidence <= 1:
        raise ValueError(
            f"min_confidence must be above 0 and at most 1, got {options.min_confidence}"
        )


def _crops(photo: Photo, blurred: Image, detections: Detections) -> tuple[bytes, ...]:
    """Return a cut-out of each detection from the blurred image, in the photo's format.

    None carries metadata: a large ICC profile would go out once for each plate.
    """
    height, width = photo.image_hw
    bounds = pixel_bounds(detections.xyxy, image_hw=photo.image_hw)
    turned = to_srgb(photo.metadata.icc)
    crops = []
    for x1, y1, x2, y2 in bounds:
        # At least one pixel: there is a crop for each detection.
        left, top = min(x1, width - 1), min(y1, height - 1)
        inside = np.s_[top : max(y2, top + 1), left : max(x2, left + 1)]
        alpha = None if photo.alpha is None else photo.alpha[inside]
        part = replace(photo, alpha=alpha, metadata=Metadata())
        crops.append(encode(part, turned(blurred[inside]), metadata="strip"))
    return tuple(crops)
