"""From values to JSON: the documented answer key by key, and the models of `/v1`."""

from __future__ import annotations

from collections.abc import Iterable
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
        photo: blurred, with boxes drawn, and with crops where they are asked for.
        created: moment of the request, UTC.
        crops: whether `boundingBoxPhoto` is to be there.
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
    return orjson.dumps(
        {
            "created": f"{created:%Y-%m-%dT%H:%M:%S}.{created.microsecond // 1000:03d}Z",
            "predictions": predictions,
            "final_photo": base64_text(photo.data),
        }
    )


def answer_bytes(parts: Iterable[bytes], *, predictions: int) -> int:
    """Return about how long an answer with `parts` will be, before it is written.

    Args:
        parts: what stands in it as base64.
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


class BlurRequest(BaseModel):
    """How a photo is to be blurred; exactly one of `photo` and `photo_url` is given."""

    model_config = ConfigDict(extra="forbid")

    photo: str | None = Field(
        None,
        description="The photo, standard base64.",
        json_schema_extra={"contentEncoding": "base64", "examples": [EXAMPLE_PHOTO]},
    )
    photo_url: str | None = Field(None, description="Where the photo is; http or https.")
    method: Method = Field(DEFAULTS.method, description="How a plate is hidden.")
    margin: float = Field(
        DEFAULTS.margin,
        ge=0,
        le=1,
        description="Share of a box's size that is hidden beyond it on each side.",
    )
    min_confidence: float = Field(
        DEFAULTS.min_confidence,
        ge=COUNT_FLOOR,
        le=1,
        description="The smallest confidence of a detection that is blurred.",
    )
    metadata: MetadataPolicy = Field(
        DEFAULTS.metadata, description="What of the photo's metadata is written again."
    )
    draw_boxes: bool = Field(DEFAULTS.draw_boxes, description="Draw the detections.")
    effort: Effort = Field(
        DEFAULTS.effort,
        description="How hard to look: fast is one look; thorough also looks closer and at copies "
        "turned by quarter turns, and takes many times as long.",
    )
    projection: Projection = Field(
        DEFAULTS.projection,
        description="How the photo shows the world: auto goes by its panorama tags.",
    )

    def options(self) -> BlurOptions:
        """Return what the blur takes."""
        return BlurOptions(
            method=self.method,
            margin=self.margin,
            min_confidence=self.min_confidence,
            metadata=self.metadata,
            draw_boxes=self.draw_boxes,
            effort=self.effort,
            projection=self.projection,
        )


class Box(BaseModel):
    """A plate's box as fractions of the upright photo."""

    left: float = Field(ge=0, le=1)
    top: float = Field(ge=0, le=1)
    width: float = Field(ge=0, le=1)
    height: float = Field(ge=0, le=1)


class Detection(BaseModel):
    """One plate."""

    confidence: float = Field(ge=0, le=1)
    box: Box


class DetectAnswer(BaseModel):
    """What was found."""

    created: datetime
    width_px: int
    height_px: int
    detections: list[Detection]
    predictions_counted: int = Field(description="What the request counts on a paid plan.")
    looks: int | None = Field(
        None, description="How often the model looked at the photo or a part of it."
    )
    smallest_plate_px: float | None = Field(
        None,
        description="Height in pixels of the smallest plate that was looked for; smaller ones are "
        "found by chance.",
    )
    projection: Projection = Field(
        "flat", description="Other than flat where the photo was treated as a panorama."
    )


class BlurAnswer(DetectAnswer):
    """What was found, and the blurred photo."""

    media_type: str
    photo: str = Field(description="The blurred photo, standard base64.")


class Allowance(BaseModel):
    """What a limit allows."""

    used: int
    limit: int
    left: int
    resets_at: datetime


class UsageAnswer(BaseModel):
    """What the plan has used and has left."""

    plan: PlanKind
    starts_at: datetime
    ends_at: datetime
    requests: Allowance = Field(description="In the plan's window: a UTC day, or the last 60 s.")
    predictions: Allowance | None = Field(description="In the running month of a paid package.")


class Problem(BaseModel):
    """An error after RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    cd: str | None = Field(None, description="The code of the documented error table.")


PROBLEM_SCHEMA = Problem.model_json_schema()


class DocumentedRequest(BaseModel):
    """The documented request; further fields are ignored."""

    base64_Photo_String: str | None = Field(  # noqa: N815 - the documented name
        "NO",
        description='The photo, standard base64; "NO" where photo_url is given.',
        json_schema_extra={"examples": [EXAMPLE_PHOTO]},
    )
    photo_url: str | None = Field("NO", description='Where the photo is, or "NO".')
    boundingBoxCrop: str | None = Field(  # noqa: N815 - the documented name
        "NO", pattern="^([Yy][Ee][Ss]|[Nn][Oo]|)$", description="YES: cut out each plate."
    )
    plate_output: str | None = Field(
        "NO", pattern="^([Yy][Ee][Ss]|[Nn][Oo]|)$", description="The same under another name."
    )


class DocumentedPrediction(BaseModel):
    """One plate, as documented."""

    probability: float
    tagId: str  # noqa: N815 - the documented name
    tagName: str  # noqa: N815 - the documented name
    boundingBox: Box  # noqa: N815 - the documented name
    boundingBoxPhoto: str | None = None  # noqa: N815 - the documented name


class DocumentedAnswer(BaseModel):
    """The documented success."""

    created: str
    predictions: list[DocumentedPrediction]
    final_photo: str


class DocumentedError(BaseModel):
    """The one element of the documented error array."""

    cd: str
    description: str


def detect_answer(photo: BlurredPhoto, *, created: datetime) -> DetectAnswer:
    """Return what was found in `photo`."""
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
    """Return what was found in `photo`, and the photo."""
    found = detect_answer(photo, created=created)
    return BlurAnswer(
        **dict(found), media_type=MEDIA_TYPES[photo.format], photo=base64_text(photo.data)
    )


def usage_answer(plan: PlanPeriod, usage: Usage) -> UsageAnswer:
    """Return the plan's figures."""
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
    """Whether the service, and each part that it needs, is well."""

    status: str
    parts: dict[str, bool]
