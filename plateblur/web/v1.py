"""`/v1`: blur, detect and usage with HTTP status codes, for new projects."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, TypeVar

from anyio import to_thread
from fastapi import APIRouter, Request, Security
from fastapi.responses import Response
from pydantic import ValidationError
from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header

from plateblur.accounts.types import Usage
from plateblur.types import BlurredPhoto
from plateblur.web.body import decode_base64, parse_json_object, refuse_no_photo
from plateblur.web.credentials import BASIC, BEARER, Access, let_in
from plateblur.web.failures import NOTHING, Failure
from plateblur.web.form import parse_form
from plateblur.web.once import idempotency_key, once_of
from plateblur.web.openapi import RATE_LIMIT_HEADERS, answers, problems, request_extra
from plateblur.web.schemas import (
    MEDIA_TYPES,
    BlurAnswer,
    BlurRequest,
    DetectAnswer,
    DetectRequest,
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
    read_photo,
    receive_spooled,
)
from plateblur.web.spool import Spool

MAX_ACCEPTED = 32  # Types in an `Accept` header; browsers send eight.
# In addition to the types themselves, what clients call them by mistake or out of habit.
OFFERED = (
    *MEDIA_TYPES.values(),
    "image/jpg",
    "application/json",
    "application/json; charset=utf-8",
)


def v1_router(service: Service) -> APIRouter:
    """Return the routes under `/v1`."""
    router = APIRouter(prefix="/v1", tags=["v1"], dependencies=[Security(BASIC), Security(BEARER)])

    @router.post(
        "/blur",
        summary="Blur the licence plates in a photo",
        response_model=None,
        openapi_extra=request_extra(BlurRequest),
        responses=answers(
            {
                "model": BlurAnswer,
                "content": {
                    media_type: {"schema": {"type": "string", "format": "binary"}}
                    for media_type in MEDIA_TYPES.values()
                },
                "description": "The blurred photo, as JSON if the `Accept` header prefers it.",
            },
            406,
            409,
        ),
    )
    async def blur(request: Request) -> Response:
        created = service.now()
        access = await let_in(service.gate, request, bearer=True)
        as_json = _prefers_json(request.headers.get("accept", "*/*"))
        key = idempotency_key(request)
        async with asked_photo(service, request, access, BlurRequest) as (asked, data):

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
                limits=service.limits_of(access.plan),
                once=await to_thread.run_sync(once_of, key, "blur", asked, data),
                sends=lambda photo: [photo.data],
                answer=answer,
            )

    @router.post(
        "/detect",
        summary="Detect the licence plates in a photo",
        response_model=None,
        openapi_extra=request_extra(DetectRequest),
        responses=answers(
            {
                "model": DetectAnswer,
                "description": "The detections, without the photo.",
            },
            409,
        ),
    )
    async def detect(request: Request) -> Response:
        created = service.now()
        access = await let_in(service.gate, request, bearer=True)
        key = idempotency_key(request)
        async with asked_photo(service, request, access, DetectRequest) as (asked, data):

            def answer(photo: BlurredPhoto, usage: Usage | None) -> Written:
                written = detect_answer(photo, created=created).model_dump_json().encode()
                return Written(written, "application/json", rate_limit_headers(usage, now=created))

            return await blur_counted(
                service,
                request,
                access,
                data,
                asked.options(),
                limits=service.limits_of(access.plan),
                once=await to_thread.run_sync(once_of, key, "detect", asked, data),
                sends=lambda _: [],
                answer=answer,
            )

    @router.get(
        "/usage",
        summary="Get the usage of your plan",
        response_model=None,
        responses={
            200: {"model": UsageAnswer, "headers": RATE_LIMIT_HEADERS},
            **problems(401, 402, 403, 429, 500, 503),
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


Asked = TypeVar("Asked", bound=DetectRequest)


@asynccontextmanager
async def asked_photo(
    service: Service, request: Request, access: Access, model: type[Asked]
) -> AsyncIterator[tuple[Asked, bytes]]:
    """Receive a request and its photo, and hold the room that they take for the block.

    Raises:
        Failure: 1013, no photo or too long; 1014, anything else that is wrong with it; busy.
        ClientGoneError: the connection was closed before its end.
    """
    most = service.limits_of(access.plan).body_bytes
    announced = request.headers.get("content-length", "")
    expected = min(most, int(announced)) if announced.isdecimal() else most
    with service.room_for_body(access), service.spool(access, most_bytes=expected) as body:
        await receive_spooled(service, request, body, max_bytes=most)
        async with service.turn_in_memory(access, body.size):
            asked, data = await parse_asked(request, body, model)
            body.clear()
            if not asked.photo_url:
                yield asked, data
                return
        with service.spool(access, most_bytes=most) as fetched:
            await fetch_photo(service, access, asked.photo_url, fetched, max_bytes=most)
            async with service.turn_in_memory(access, fetched.size):
                yield asked, await read_photo(fetched)


async def parse_asked(request: Request, body: Spool, model: type[Asked]) -> tuple[Asked, bytes]:
    """Return the request, and the photo's bytes if it includes them.

    Raises:
        Failure: 1013, no photo; 1014, anything else that is wrong with the body.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type == "multipart/form-data":
        fields, data = await parse_form(request, body, photo="photo")
        asked = _validated(fields, model, strings=True)
    elif media_type in {"", "application/json"} or media_type.endswith("+json"):
        asked, data = await to_thread.run_sync(_parse_json, body, model)
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


def _parse_json(body: Spool, model: type[Asked]) -> tuple[Asked, bytes]:
    asked = _validated(parse_json_object(body.read()), model, strings=False)
    return asked, decode_base64(asked.photo, field="photo") if asked.photo else b""


def _validated(fields: dict[str, Any], model: type[Asked], *, strings: bool) -> Asked:
    """Return the request; errors are reported at most once per known field."""
    known = {name: value for name, value in fields.items() if name in model.model_fields}
    without_effect = [name for name in fields if name in BlurRequest.model_fields.keys() - known]
    unknown = len(fields) - len(known) - len(without_effect)
    causes = [f"{name}: has no effect here; leave it out." for name in without_effect]
    causes += [f"{unknown} unknown field{'s' * (unknown > 1)}."] if unknown else []
    try:
        if strings:
            asked = model.model_validate_strings(known)
        else:
            asked = model.model_validate(known, strict=True)
    except ValidationError as error:
        # Only names of our own fields and pydantic's messages; nothing that was sent.
        faults = error.errors(include_url=False, include_input=False, include_context=False)
        causes = [f"{one['loc'][0]}: {one['msg']}." for one in faults] + causes
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
