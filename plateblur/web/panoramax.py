"""`POST /blur/`: what a Panoramax instance expects of its blurring service (`API_BLUR_URL`).

Source: "Picture blurring" in the documentation of Panoramax' API. Its client sends the form field
`picture`, asks for `multipart/form-data`, has no timeout, and takes any status but 2xx for a
failure, after which it tries a few times more. It sends a key only as Basic authentication, if the
URL has one.
"""

from __future__ import annotations

from asyncio import sleep
from http import HTTPStatus

import httpx
import numpy as np
import orjson
from fastapi import APIRouter, Request, Security
from fastapi.responses import Response
from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header

from plateblur.accounts.types import PaidQuotaError, Usage
from plateblur.formats import JPEG, sniff
from plateblur.types import BlurOptions, BlurredPhoto
from plateblur.web.credentials import BASIC, BEARER, let_in
from plateblur.web.failures import NOTHING, Failure
from plateblur.web.form import parse_form
from plateblur.web.openapi import PHOTO_FIELD, RATE_LIMIT_HEADERS, problems
from plateblur.web.service import (
    Service,
    Written,
    blur_counted,
    rate_limit_headers,
    receive_spooled,
)
from plateblur.web.spool import Spool

SERVICE_NAME = "PlateBlur"  # Panoramax finds the tags of an earlier run by it.
FIELD = "picture"
MAX_ACCEPT_CHARS = 1000
MAX_WAITS = 3  # For a place in the plan's minute.
LONGEST_WAIT_S = 60  # The plan's window; a used up month is refused immediately.
METADATA_KEPT = BlurOptions(metadata="keep")


def panoramax_router(service: Service) -> APIRouter:
    """Return the route."""
    router = APIRouter(tags=["neighbours"])

    @router.post(
        "/blur/",
        summary="Blur a picture for a Panoramax instance",
        response_model=None,
        dependencies=[Security(BASIC), Security(BEARER)],
        openapi_extra={
            "parameters": [
                {
                    "name": "keep",
                    "in": "query",
                    "required": False,
                    "description": "Taken and ignored: unblurred parts are never kept.",
                    "schema": {"type": "string", "maxLength": 8},
                }
            ],
            "requestBody": {
                "required": True,
                "content": {
                    "multipart/form-data": {
                        "schema": {
                            "type": "object",
                            "required": [FIELD],
                            "properties": {
                                FIELD: {**PHOTO_FIELD, "description": "The picture, a JPEG."}
                            },
                        }
                    }
                },
            },
        },
        responses={
            200: {
                "description": "The blurred picture with its metadata, except previews and maker "
                "notes; as a form with the parts image and metadata if the `Accept` header asks "
                "for one.",
                "content": {
                    "image/jpeg": {"schema": {"type": "string", "format": "binary"}},
                    "multipart/form-data": {"schema": {"type": "object"}},
                },
                "headers": RATE_LIMIT_HEADERS,
            },
            **problems(400, 401, 402, 403, 408, 413, 415, 422, 429, 500, 503),
        },
    )
    async def blur(request: Request) -> Response:
        access = await let_in(service.gate, request, bearer=True)
        limits = service.limits_of(access.plan)
        as_form = _accepts_form(request.headers.get("accept", ""))
        most = limits.body_bytes
        with service.room_for_body(access), service.spool(access, most_bytes=most) as body:
            await receive_spooled(service, request, body, max_bytes=most)

            def answer(photo: BlurredPhoto, usage: Usage | None) -> Written:
                headers = rate_limit_headers(usage, now=service.now())
                return _as_form(photo, headers) if as_form else _as_image(photo, headers)

            async def blurred() -> Response:
                async with service.turn_in_memory(access, body.size):
                    return await blur_counted(
                        service,
                        request,
                        access,
                        await _picture(request, body),
                        METADATA_KEPT,
                        limits=limits,
                        sends=lambda photo: [photo.data],
                        answer=answer,
                    )

            for _ in range(MAX_WAITS):
                try:
                    return await blurred()
                except Failure as failure:
                    wait_s = int(failure.headers.get("Retry-After", "0"))
                    if failure.cd != PaidQuotaError.cd or wait_s > LONGEST_WAIT_S:
                        raise
                await sleep(wait_s)
            return await blurred()

    return router


async def _picture(request: Request, body: Spool) -> bytes:
    """Return the JPEG of the form in `body`.

    Raises:
        Failure: 1013, no picture; 1014, no form or no JPEG.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "multipart/form-data":
        raise Failure(
            "1014",
            f"Send multipart/form-data with the picture in the field {FIELD}.",
            status=HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        )
    _, data = await parse_form(request, body, photo=FIELD)
    if not data:
        raise Failure("1013", sentence=NOTHING, status=HTTPStatus.UNPROCESSABLE_ENTITY)
    if sniff(data) is not JPEG:
        raise Failure("1014", "The picture must be a JPEG.", status=HTTPStatus.UNPROCESSABLE_ENTITY)
    return data


def _accepts_form(accept: str) -> bool:
    """Return whether a form is asked for by name: `*/*` means the picture alone."""
    accepted = parse_accept_header(accept[:MAX_ACCEPT_CHARS], MIMEAccept)
    return any(name == "multipart/form-data" and quality > 0 for name, quality in accepted)


def _as_image(photo: BlurredPhoto, headers: dict[str, str]) -> Written:
    return Written(photo.data, JPEG.media_type, headers)


def _as_form(photo: BlurredPhoto, headers: dict[str, str]) -> Written:
    """Return the picture with its metadata.

    Plates are no annotations: Panoramax would publish them as tags of the picture.
    """
    corners = photo.detections.xyxy.round().astype(np.int64).tolist()
    metadata = {
        "service_name": SERVICE_NAME,
        "blurring_id": "",  # Nothing is kept that it could name.
        "annotations": [],
        "info": [
            {
                "class": "plate",
                "confidence": round(float(confidence), 3),
                "xywh": [left, top, right - left, bottom - top],
            }
            for (left, top, right, bottom), confidence in zip(
                corners, photo.detections.confidence, strict=True
            )
        ],
    }
    form = httpx.Request(
        "POST",
        "http://localhost/",
        files={
            "metadata": ("metadata", orjson.dumps(metadata), "application/json"),
            "image": ("picture.jpg", photo.data, JPEG.media_type),
        },
    )
    return Written(form.read(), form.headers["content-type"], headers)
