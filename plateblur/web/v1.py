"""`/v1`: blur, detect and usage with HTTP status codes, for new projects."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from http import HTTPStatus
from typing import Any

from anyio import to_thread
from fastapi import APIRouter, Request, Security
from fastapi.responses import Response
from pydantic import ValidationError
from python_multipart.exceptions import FormParserError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header

from plateblur.accounts.types import Usage
from plateblur.types import BlurOptions, BlurredPhoto
from plateblur.web.body import (
    MAX_BODY_BYTES,
    decode_base64,
    parse_json_object,
    read_body,
    refuse_no_photo,
)
from plateblur.web.credentials import BASIC, BEARER, Access, let_in
from plateblur.web.failures import NOTHING, Failure
from plateblur.web.schemas import (
    MEDIA_TYPES,
    PROBLEM_SCHEMA,
    BlurAnswer,
    BlurRequest,
    DetectAnswer,
    UsageAnswer,
    blur_answer,
    detect_answer,
    usage_answer,
)
from plateblur.web.service import (
    Service,
    Written,
    blur_counted,
    fetch_photo,
    rate_limit_headers,
)

MAX_ACCEPTED = 32  # Types in an `Accept` header; browsers send eight.
# In addition to the types themselves, what clients call them by mistake or out of habit.
OFFERED = (
    *MEDIA_TYPES.values(),
    "image/jpg",
    "application/json",
    "application/json; charset=utf-8",
)
MAX_FIELDS = 16  # Twice the number of fields that exist.
MAX_FIELD_BYTES = 8 * 1024  # The longest is a URL.

_PHOTO_FIELD = {
    "type": "string",
    "format": "binary",
    "description": "The photo: JPEG, PNG, WebP, HEIC or AVIF.",
}


def v1_router(service: Service) -> APIRouter:
    """Return the routes under `/v1`."""
    router = APIRouter(prefix="/v1", tags=["v1"], dependencies=[Security(BASIC), Security(BEARER)])

    async def asked_photo(request: Request, access: Access) -> tuple[BlurRequest, bytes]:
        body = await read_body(request, timeout_s=service.settings.body_timeout_s)
        asked, data = await parse_asked(request, body)
        if asked.photo_url:
            data = await fetch_photo(service, access, asked.photo_url)
        return asked, data

    @router.post(
        "/blur",
        summary="Blur the licence plates in a photo",
        response_model=None,
        openapi_extra=_request_extra(),
        responses=_answers(
            {
                "model": BlurAnswer,
                "content": {
                    media_type: {"schema": {"type": "string", "format": "binary"}}
                    for media_type in MEDIA_TYPES.values()
                },
                "description": "The blurred photo, as JSON if the `Accept` header prefers it.",
            },
            406,
        ),
    )
    async def blur(request: Request) -> Response:
        created = service.now()
        access = await let_in(service.gate, request, bearer=True)
        as_json = _prefers_json(request.headers.get("accept", "*/*"))
        with service.room_for_body(access):
            asked, data = await asked_photo(request, access)

            def answer(photo: BlurredPhoto, usage: Usage | None) -> Written:
                headers = rate_limit_headers(usage, now=created)
                headers["PlateBlur-Detections"] = str(len(photo.detections))
                if as_json:
                    written = blur_answer(photo, created=created).model_dump_json().encode()
                    return Written(written, "application/json", headers)
                return Written(photo.data, MEDIA_TYPES[photo.format], headers)

            return await blur_counted(
                service,
                request,
                access,
                data,
                asked.options(),
                sends=lambda photo: [photo.data],
                answer=answer,
            )

    @router.post(
        "/detect",
        summary="Detect the licence plates in a photo",
        response_model=None,
        openapi_extra=_request_extra(),
        responses=_answers(
            {
                "model": DetectAnswer,
                "description": "The detections, without the photo.",
            }
        ),
    )
    async def detect(request: Request) -> Response:
        created = service.now()
        access = await let_in(service.gate, request, bearer=True)
        with service.room_for_body(access):
            asked, data = await asked_photo(request, access)

            def answer(photo: BlurredPhoto, usage: Usage | None) -> Written:
                written = detect_answer(photo, created=created).model_dump_json().encode()
                return Written(written, "application/json", rate_limit_headers(usage, now=created))

            options = BlurOptions(
                min_confidence=asked.min_confidence,
                effort=asked.effort,
                projection=asked.projection,
            )
            return await blur_counted(
                service,
                request,
                access,
                data,
                options,
                sends=lambda _: [],
                answer=answer,
            )

    @router.get(
        "/usage",
        summary="Get the usage of your plan",
        response_model=None,
        responses={
            200: {"model": UsageAnswer, "headers": _RATE_LIMIT_HEADERS},
            **_problems(401, 402, 403, 429, 500, 503),
        },
    )
    async def usage(request: Request) -> Response:
        access = await let_in(service.gate, request, bearer=True)
        figures = await to_thread.run_sync(_usage, service, access)
        return Response(
            usage_answer(access.plan, figures).model_dump_json(),
            media_type="application/json",
            headers=rate_limit_headers(figures, now=service.now()),
        )

    return router


async def parse_asked(request: Request, body: bytes) -> tuple[BlurRequest, bytes]:
    """Return the request, and the photo's bytes if it includes them.

    Raises:
        Failure: 1013, no photo; 1014, anything else that is wrong with the body.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type == "multipart/form-data":
        fields, data = await _parse_form(request, body)
        asked = _validated(fields, strings=True)
    elif media_type in {"", "application/json"} or media_type.endswith("+json"):
        asked, data = await to_thread.run_sync(_parse_json, body)
    else:
        raise Failure(
            "1014",
            "Send multipart/form-data or application/json.",
            status=HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        )
    if not data and not asked.photo_url:
        raise Failure("1013", sentence=NOTHING, status=HTTPStatus.UNPROCESSABLE_ENTITY)
    if data and asked.photo_url:
        raise Failure(
            "1014",
            "Only one of photo and photo_url may be given.",
            status=HTTPStatus.UNPROCESSABLE_ENTITY,
        )
    if data:
        refuse_no_photo(data)
    return asked, data


def _parse_json(body: bytes) -> tuple[BlurRequest, bytes]:
    asked = _validated(parse_json_object(body), strings=False)
    return asked, decode_base64(asked.photo, field="photo") if asked.photo else b""


class _InMemoryParser(MultiPartParser):
    """Starlette's parser, which never spools a photo to disk here."""

    spool_max_size = MAX_BODY_BYTES + 1


async def _parse_form(request: Request, body: bytes) -> tuple[dict[str, str], bytes]:
    async def once() -> AsyncGenerator[bytes, None]:
        yield body

    try:
        parser = _InMemoryParser(
            request.headers,
            once(),
            max_files=1,
            max_fields=MAX_FIELDS,
            max_part_size=MAX_FIELD_BYTES,
        )
        form = await parser.parse()
    except (MultiPartException, FormParserError, LookupError, UnicodeDecodeError) as error:
        raise Failure("1014", "The form is not valid multipart/form-data.") from error
    fields: dict[str, str] = {}
    data = b""
    try:
        for name, value in form.multi_items():
            if isinstance(value, UploadFile):
                if name != "photo":
                    raise Failure("1014", "The photo's form field must be named photo.")
                data = await value.read()
            elif name == "photo" or name in fields:
                raise Failure("1014", "A form field is there twice, or the photo is no file.")
            else:
                fields[name] = value
    finally:
        await form.close()
    return fields, data


def _validated(fields: dict[str, Any], *, strings: bool) -> BlurRequest:
    """Return the request; errors are reported at most once per known field."""
    known = {name: value for name, value in fields.items() if name in BlurRequest.model_fields}
    unknown = len(fields) - len(known)
    causes = [f"{unknown} unknown field{'s' * (unknown > 1)}."] if unknown else []
    try:
        if strings:
            asked = BlurRequest.model_validate_strings(known)
        else:
            asked = BlurRequest.model_validate(known, strict=True)
    except ValidationError as error:
        # Only names of our own fields and pydantic's messages; nothing that was sent.
        told = error.errors(include_url=False, include_input=False, include_context=False)
        causes = [f"{one['loc'][0]}: {one['msg']}." for one in told] + causes
    if causes:
        raise Failure("1014", " ".join(causes), status=HTTPStatus.UNPROCESSABLE_ENTITY)
    return asked


def _usage(service: Service, access: Access) -> Usage:
    return service.gate.usage(access.identity, access.plan)


def _prefers_json(accept: str) -> bool:
    """Return whether JSON is preferred to an image; an image where both are as welcome.

    Raises:
        Failure: 1014, neither is welcome.
    """
    ranges = ",".join(accept.split(",", MAX_ACCEPTED)[:MAX_ACCEPTED])
    chosen = parse_accept_header(ranges or "*/*", MIMEAccept).best_match(OFFERED)
    if chosen is None:
        raise Failure(
            "1014",
            "The answer is an image or application/json.",
            status=HTTPStatus.NOT_ACCEPTABLE,
        )
    return chosen.startswith("application/json")


_RATE_LIMIT_HEADERS: dict[str, Any] = {
    name: {"schema": {"type": "integer", "minimum": 0}, "description": text}
    for name, text in (
        ("RateLimit-Limit", "Requests allowed per window (day or minute)."),
        ("RateLimit-Remaining", "Requests remaining in this window."),
        ("RateLimit-Reset", "Seconds until more requests are available."),
    )
}

_PROBLEM_TEXTS = {
    400: "1014: the request body is malformed.",
    401: "1001 or 1015: credentials are missing or wrong.",
    402: "1003, 1005 or 1006: there is no active plan.",
    403: "1016: the account isn't active.",
    406: "1014: the `Accept` header allows neither an image nor JSON.",
    408: "1014: the request body took too long to arrive.",
    413: "1013: larger than 5 MB, or 1014: too many pixels.",
    415: "1014: unsupported content type or encoding.",
    422: "1013 or 1014: no photo, an invalid photo, or an invalid option.",
    429: "1002 or 1004: the plan's limit is reached for now.",
    500: "2001: the photo could not be blurred.",
    503: "2001: the service is busy, or 1009 or 1012: the database is unavailable.",
}


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {
        status: {
            "description": _PROBLEM_TEXTS[status],
            "content": {"application/problem+json": {"schema": PROBLEM_SCHEMA}},
        }
        for status in statuses
    }


def _answers(success: dict[str, Any], *more: int) -> dict[int | str, dict[str, Any]]:
    return {
        200: {**success, "headers": _RATE_LIMIT_HEADERS},
        **_problems(400, 401, 402, 403, *more, 408, 413, 415, 422, 429, 500, 503),
    }


def _request_extra() -> dict[str, Any]:
    by_json = BlurRequest.model_json_schema()
    by_form = BlurRequest.model_json_schema()
    by_form["properties"]["photo"] = _PHOTO_FIELD
    return {
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {"schema": by_form},
                "application/json": {"schema": by_json},
            },
        },
    }
