"""`POST /plateblurer.aspx`: the documented endpoint, JSON in, JSON out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from anyio import to_thread
from fastapi import APIRouter, Request, Security
from fastapi.responses import Response

from plateblur.types import BlurOptions
from plateblur.web.body import decode_base64, parse_json_object, read_body, refuse_no_photo
from plateblur.web.credentials import BASIC, OWN_PAGE, AnyAccess, GuestAccess, let_in
from plateblur.web.failures import DOCUMENTED_PATH, GUEST_PATH, NOTHING, Failure
from plateblur.web.schemas import (
    RETURNED_ABOVE,
    DocumentedAnswer,
    DocumentedError,
    DocumentedRequest,
    documented_answer,
)
from plateblur.web.service import Service, Written, blur_counted, fetch_photo, read_photo

# Names are taken in any case, as the original service's server took them.
FIELDS = {
    name.lower(): name
    for name in ("base64_Photo_String", "photo_url", "boundingBoxCrop", "plate_output", "preview")
}
ERROR_BY_STATUS = "An error, if the service returns errors with their HTTP status."
NOT_GIVEN = frozenset({"", "NO"})  # Source: contract; compared stripped and in upper case.


@dataclass(frozen=True, slots=True)
class Asked:
    """A parsed request; exactly one of `data` and `url` is given."""

    data: bytes | None
    url: str | None
    crops: bool
    preview: bool


def parse_asked(body: bytes) -> Asked:
    """Return the request in `body`.

    Raises:
        Failure: 1013, no photo; 1014, anything else that is not as documented.
    """
    if not body.strip():
        raise Failure("1013", sentence=NOTHING, status=400)
    fields = {
        FIELDS.get(name.lower(), name): value for name, value in parse_json_object(body).items()
    }
    switches = [_switch(fields, name) for name in ("boundingBoxCrop", "plate_output")]
    preview = _switch(fields, "preview")
    packed = _photo_field(fields, "base64_Photo_String")
    url = _photo_field(fields, "photo_url")
    if packed is None and url is None:
        raise Failure("1013", sentence=NOTHING, status=400)
    if packed is not None and url is not None:
        raise Failure("1014", "Only one of base64_Photo_String and photo_url may be given.")
    if packed is None:
        return Asked(None, url, any(switches), preview)
    data = decode_base64(packed, field="base64_Photo_String")
    refuse_no_photo(data)
    return Asked(data, None, any(switches), preview)


def documented_router(service: Service) -> APIRouter:
    """Return the route of the documented endpoint."""
    router = APIRouter()

    @router.post(
        DOCUMENTED_PATH,
        summary="Blur a photo (documented endpoint)",
        tags=["documented"],
        dependencies=[Security(BASIC)],
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": DocumentedRequest.model_json_schema()}},
            },
        },
        response_model=None,
        responses={
            200: {
                "description": "The blurred photo, or an error if the service returns those with "
                "status 200.",
                "model": DocumentedAnswer | list[DocumentedError],
            },
            "4XX": {"description": ERROR_BY_STATUS, "model": list[DocumentedError]},
            "5XX": {"description": ERROR_BY_STATUS, "model": list[DocumentedError]},
        },
    )
    async def plateblurer(request: Request) -> Response:
        created = service.now()
        access = await let_in(service.gate, request, bearer=False)
        return await _answered(service, request, access, created)

    if service.settings.guest_photos:

        @router.post(GUEST_PATH, include_in_schema=False)
        async def guest(request: Request) -> Response:
            """Answer a photo from the front page's form, without an account."""
            created = service.now()
            if request.headers.get("sec-fetch-site", "same-origin") not in OWN_PAGE:
                raise Failure("1014", "Only the form on this page can be used without an account.")
            access = GuestAccess(request.client.host if request.client else "")
            with service.guests.take(retry_s=service.settings.busy_retry_s):
                return await _answered(service, request, access, created)

    return router


async def _answered(
    service: Service, request: Request, access: AnyAccess, created: datetime
) -> Response:
    """Return the documented answer to a request that was let in."""
    with service.room_for_body(access):
        body = await read_body(request, timeout_s=service.settings.body_timeout_s)
        asked = await to_thread.run_sync(parse_asked, body)
        del body  # Up to 5 MB that would wait in the queue with the photo.
        limits = service.documented_limits
        data = asked.data or b""
        if asked.url:
            if isinstance(access, GuestAccess):
                raise Failure("1014", "Photos by URL need an account.")
            with service.spool(access, most_bytes=limits.body_bytes) as spool:
                most = limits.body_bytes
                await fetch_photo(service, access, asked.url, spool, max_bytes=most)
                data = await read_photo(spool)
        return await blur_counted(
            service,
            request,
            access,
            data,
            BlurOptions(
                # Below the default, because everything that is returned must be blurred.
                min_confidence=RETURNED_ABOVE,
                draw_boxes=True,
                crops=asked.crops,
                preview=asked.preview,
            ),
            limits=limits,
            sends=lambda photo: (photo.data, photo.preview, *photo.crops),
            answer=lambda photo, _: Written(
                documented_answer(photo, created=created, crops=asked.crops),
                "application/json",
            ),
        )


def _photo_field(fields: dict[str, Any], name: str) -> str | None:
    value = fields.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise Failure("1014", f"{name} must be a string.")
    return None if value[:16].strip().upper() in NOT_GIVEN and not value[16:].strip() else value


def _switch(fields: dict[str, Any], name: str) -> bool:
    value = fields.get(name)
    if value is None:
        return False
    if not isinstance(value, str) or value.strip().upper() not in {"YES", *NOT_GIVEN}:
        raise Failure("1014", f'{name} must be "YES" or "NO".')
    return value.strip().upper() == "YES"
