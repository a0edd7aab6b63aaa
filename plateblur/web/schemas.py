"""JSON: the documented response key by key, and the models of `/v1`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from typing import Any

import numpy as np
import orjson
import pybase64
from pydantic import BaseModel, ConfigDict, Field

from plateblur.accounts.types import PlanKind, PlanPeriod, Usage
from plateblur.formats import SERVED
from plateblur.types import (
    COUNT_FLOOR,
    BlurOptions,
    BlurredPhoto,
    Effort,
    MetadataPolicy,
    Method,
    Projection,
)

TAG_ID = "6b333d95-e461-4155-890c-9921158f7d17"  # Source: contract; constant, there is one class.
TAG_NAME = "License Plate"  # Source: contract.
RETURNED_ABOVE = 0.20  # Source: contract; predictions at or below it are counted, not returned.
PROBABILITY_DIGITS = 7  # Source: the product page's example; as many as a float32 has.
FRACTION_DIGITS = 9  # Source: the product page's example.
PREDICTION_BYTES = 512  # A generous round number; the documented one has 215 without its photo.
DEFAULTS = BlurOptions()

EXAMPLE_PHOTO = (  # A grey PNG of 16 x 16 pixels: the shortest that a generated client can send.
    "iVBORw0KGgoAAAANSUhEUgAAABAAAAAQCAAAAAA6mKC9AAAAEUlEQVR42mNsYEAFTAwjWgAAmZAAoFDIQrAAAAAASUVO"
    "RK5CYII="
)

MEDIA_TYPES = {each.name: each.media_type for each in SERVED.values()}


def documented_answer(photo: BlurredPhoto, *, created: datetime, crops: bool) -> bytes:
    """Return the documented JSON, keys in the documented order.

    Args:
        photo: blurred, with boxes drawn, and with crops and preview if requested.
        created: moment of the request, UTC.
        crops: whether to include `boundingBoxPhoto`.
    """
    predictions: list[dict[str, Any]] = []
    for index, confidence in _most_confident_first(photo):
        if confidence <= RETURNED_ABOVE:
            continue
        prediction: dict[str, Any] = {
            "probability": confidence,
            "tagId": TAG_ID,
            "tagName": TAG_NAME,
            "boundingBox": fractions(photo, index),
        }
        if crops:
            prediction["boundingBoxPhoto"] = base64_text(photo.crops[index])
        predictions.append(prediction)
    answer = {
        "created": f"{created:%Y-%m-%dT%H:%M:%S}.{created.microsecond // 1000:03d}Z",
        "predictions": predictions,
        "final_photo": base64_text(photo.data),
    }
    if photo.preview:
        answer["preview"] = base64_text(photo.preview)
    return orjson.dumps(answer)


def answer_bytes(parts: Iterable[bytes], *, predictions: int) -> int:
    """Return the approximate length of a response with `parts`, before it is written.

    Args:
        parts: what it contains as base64.
        predictions: how many.
    """
    return sum(4 * (len(part) + 2) // 3 for part in parts) + predictions * PREDICTION_BYTES


def fractions(photo: BlurredPhoto, index: int) -> dict[str, float]:
    """Return box `index` as fractions of the upright photo, within 0 to 1."""
    height, width = photo.image_hw
    shares = photo.detections.xyxy[index].astype(np.float64) / [width, height, width, height]
    # Rounded before they are subtracted, so that left + width does not pass the photo's edge.
    left, top, right, bottom = (round(float(share), FRACTION_DIGITS) for share in shares.clip(0, 1))
    return {
        "left": left,
        "top": top,
        "width": round(right - left, FRACTION_DIGITS),
        "height": round(bottom - top, FRACTION_DIGITS),
    }


def base64_text(data: bytes) -> str:
    """Return `data` as standard base64 without line breaks."""
    return pybase64.b64encode_as_string(data)


def _most_confident_first(photo: BlurredPhoto) -> list[tuple[int, float]]:
    rounded = [round(float(one), PROBABILITY_DIGITS) for one in photo.detections.confidence]
    return sorted(enumerate(rounded), key=lambda pair: -pair[1])


class SearchOptions(BaseModel):
    """How to search a photo."""

    model_config = ConfigDict(extra="forbid")

    min_confidence: float = Field(
        DEFAULTS.min_confidence,
        ge=COUNT_FLOOR,
        le=1,
        description="Plates below this confidence aren't returned, and stay visible. Lower values "
        "find more, with more false hits.",
    )
    effort: Effort = Field(
        DEFAULTS.effort,
        description="How thoroughly to search. fast looks once; thorough also searches enlarged "
        "parts and rotated copies, and takes many times as long.",
    )
    projection: Projection = Field(
        DEFAULTS.projection,
        description="Whether the photo is a 360-degree panorama; auto decides by its metadata.",
    )

    def options(self) -> BlurOptions:
        """Return the options for the search."""
        return BlurOptions(
            min_confidence=self.min_confidence, effort=self.effort, projection=self.projection
        )


class HideOptions(SearchOptions):
    """How to search a photo, and how to blur it."""

    method: Method = Field(DEFAULTS.method, description="How plates are blurred.")
    margin: float = Field(
        DEFAULTS.margin,
        ge=0,
        le=1,
        description="Extra area to blur on each side of a plate, as a share of its size.",
    )
    metadata: MetadataPolicy = Field(
        DEFAULTS.metadata,
        description="strip removes everything except the colour profile; safe also keeps time, "
        "camera and panorama tags; keep keeps most metadata, including the GPS position.",
    )
    draw_boxes: bool = Field(
        DEFAULTS.draw_boxes, description="Draw the detected boxes on the photo."
    )

    def options(self) -> BlurOptions:
        """Return the options for the blur."""
        return replace(
            super().options(),
            method=self.method,
            margin=self.margin,
            metadata=self.metadata,
            draw_boxes=self.draw_boxes,
        )


class OnePhoto(BaseModel):
    """A photo; send exactly one of `photo` and `photo_url`."""

    photo: str | None = Field(
        None,
        description="The photo, base64-encoded.",
        json_schema_extra={"contentEncoding": "base64", "examples": [EXAMPLE_PHOTO]},
    )
    photo_url: str | None = Field(None, description="Public http or https URL of the photo.")


class DetectRequest(SearchOptions, OnePhoto):
    """A photo and how to search it; send exactly one of `photo` and `photo_url`."""


class BlurRequest(HideOptions, DetectRequest):
    """A photo and how to blur it; send exactly one of `photo` and `photo_url`."""


class Box(BaseModel):
    """A plate's box as fractions of the upright photo."""

    left: float = Field(ge=0, le=1)
    top: float = Field(ge=0, le=1)
    width: float = Field(ge=0, le=1)
    height: float = Field(ge=0, le=1)


class Detection(BaseModel):
    """A detected plate."""

    confidence: float = Field(ge=0, le=1)
    box: Box


EXAMPLE_ANSWER: dict[str, Any] = {
    "created": "2026-05-02T12:28:09.989700Z",
    "width_px": 1920,
    "height_px": 1080,
    "detections": [
        {
            "confidence": 0.9132,
            "box": {"left": 0.4125, "top": 0.6, "width": 0.0775, "height": 0.0333},
        }
    ],
    "predictions_counted": 2,
    "looks": 6,
    "smallest_plate_px": 11.9,
    "projection": "flat",
}


class DetectAnswer(BaseModel):
    """The detections."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE_ANSWER]})

    created: datetime
    width_px: int
    height_px: int
    detections: list[Detection]
    predictions_counted: int = Field(
        description="Number of predictions that count toward a paid plan."
    )
    looks: int | None = Field(
        None, description="How many times the model was run on the photo or a part of it."
    )
    smallest_plate_px: float | None = Field(
        None,
        description="Height in pixels of the smallest plate that this search is made for; smaller "
        "plates are often missed.",
    )
    projection: Projection = Field(
        "flat", description="Any other value means that the photo was treated as a panorama."
    )


class BlurAnswer(DetectAnswer):
    """The detections and the blurred photo."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [EXAMPLE_ANSWER | {"media_type": "image/png", "photo": EXAMPLE_PHOTO}]
        }
    )

    media_type: str
    photo: str = Field(description="The blurred photo, base64-encoded.")


class Allowance(BaseModel):
    """Usage of a limit."""

    used: int
    limit: int
    left: int
    resets_at: datetime


class UsageAnswer(BaseModel):
    """Usage of the current plan."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "plan": "monthly",
                    "starts_at": "2026-05-01T00:00:00Z",
                    "ends_at": "2026-06-01T00:00:00Z",
                    "requests": {
                        "used": 3,
                        "limit": 50,
                        "left": 47,
                        "resets_at": "2026-05-02T12:28:41Z",
                    },
                    "predictions": {
                        "used": 1204,
                        "limit": 10000,
                        "left": 8796,
                        "resets_at": "2026-06-01T00:00:00Z",
                    },
                }
            ]
        }
    )

    plan: PlanKind
    starts_at: datetime
    ends_at: datetime
    requests: Allowance = Field(
        description="In the current window: a UTC day on the trial, 60 seconds on paid plans."
    )
    predictions: Allowance | None = Field(description="In the current month of a paid plan.")


class Problem(BaseModel):
    """An error as problem details (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    cd: str | None = Field(None, description="The error code.")


PROBLEM_SCHEMA = Problem.model_json_schema()


class DocumentedRequest(BaseModel):
    """The documented request; unknown fields are ignored."""

    base64_Photo_String: str | None = Field(  # noqa: N815 - the documented name
        "NO",
        description='The photo, base64-encoded, or "NO" if you send photo_url.',
        json_schema_extra={"examples": [EXAMPLE_PHOTO]},
    )
    photo_url: str | None = Field(
        "NO", description='Public http or https URL of the photo, or "NO".'
    )
    boundingBoxCrop: str | None = Field(  # noqa: N815 - the documented name
        "NO",
        pattern="^([Yy][Ee][Ss]|[Nn][Oo]|)$",
        description="YES to get a cut-out of each plate.",
    )
    plate_output: str | None = Field(
        "NO", pattern="^([Yy][Ee][Ss]|[Nn][Oo]|)$", description="Alias of boundingBoxCrop."
    )
    preview: str | None = Field(
        "NO",
        pattern="^([Yy][Ee][Ss]|[Nn][Oo]|)$",
        description="YES to also get the result as a small JPEG, for browsers that can't show "
        "HEIC.",
    )


class DocumentedPrediction(BaseModel):
    """A plate in the documented response."""

    probability: float
    tagId: str  # noqa: N815 - the documented name
    tagName: str  # noqa: N815 - the documented name
    boundingBox: Box  # noqa: N815 - the documented name
    boundingBoxPhoto: str | None = None  # noqa: N815 - the documented name


class DocumentedAnswer(BaseModel):
    """The documented response."""

    created: str
    predictions: list[DocumentedPrediction]
    final_photo: str
    preview: str | None = None


class DocumentedError(BaseModel):
    """An error of the documented endpoint."""

    cd: str
    description: str


def detect_answer(photo: BlurredPhoto, *, created: datetime) -> DetectAnswer:
    """Return the detections in `photo`."""
    height, width = photo.image_hw
    searched = photo.detections.searched
    return DetectAnswer(
        created=created,
        width_px=width,
        height_px=height,
        detections=[
            Detection(confidence=confidence, box=Box(**fractions(photo, index)))
            for index, confidence in _most_confident_first(photo)
        ],
        predictions_counted=photo.predictions_counted,
        looks=searched.looks if searched else None,
        smallest_plate_px=searched.smallest_plate_px if searched else None,
        projection=photo.projection,
    )


def blur_answer(photo: BlurredPhoto, *, created: datetime) -> BlurAnswer:
    """Return the detections and the blurred photo."""
    found = detect_answer(photo, created=created)
    return BlurAnswer(
        **dict(found), media_type=MEDIA_TYPES[photo.format], photo=base64_text(photo.data)
    )


def usage_answer(plan: PlanPeriod, usage: Usage) -> UsageAnswer:
    """Return the plan's usage."""
    return UsageAnswer(
        plan=plan.kind,
        starts_at=plan.starts_at,
        ends_at=plan.ends_at,
        requests=_allowance(usage.window_requests, usage.window_limit, usage.window_resets_at),
        predictions=(
            None
            if usage.predictions_limit is None or usage.month_resets_at is None
            else _allowance(usage.predictions, usage.predictions_limit, usage.month_resets_at)
        ),
    )


def _allowance(used: int, limit: int, resets_at: datetime) -> Allowance:
    return Allowance(used=used, limit=limit, left=max(0, limit - used), resets_at=resets_at)


class Health(BaseModel):
    """Status of the service and its parts."""

    status: str
    parts: dict[str, bool]
