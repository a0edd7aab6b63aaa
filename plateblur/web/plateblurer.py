"""`POST /plateblurer.aspx`: the documented endpoint, JSON in, JSON out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from anyio import to_thread
from fastapi import APIRouter, Request, Security
from fastapi.responses import Response

from plateblur.types import BlurOptions
from plateblur.web.body import decode_base64, parse_json_object, read_body, refuse_no_photo
from plateblur.web.credentials import BASIC, let_in
from plateblur.web.failures import DOCUMENTED_PATH, NOTHING, Failure
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
    for name in ("base64_Photo_String", "photo_url", "boundingBoxCrop", "plate_output")
}
ERROR_BY_STATUS = "An error, if the service returns errors with their HTTP status."
NOT_GIVEN = frozenset({"", "NO"})  # Source: contract; compared stripped and in upper case.


@dataclass(frozen=True, slots=True)
class Asked:
    """A parsed request; exactly one of `data` and `url` is given."""

    data: bytes | None
    url: str | None
    crops: bool


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
    packed = _photo_field(fields, "base64_Photo_String")
    url = _photo_field(fields, "photo_url")
    if packed is None and url is None:
        raise Failure("1013", sentence=NOTHING, status=400)
    if packed is not None and url is not None:
        raise Failure("1014", "Only one of base64_Photo_String and photo_url may be given.")
    if packed is None:
        return Asked(None, url, any(switches))
    data = decode_base64(packed, field="base64_Photo_String")
    refuse_no_photo(data)
    return Asked(data, None, any(switches))


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
        with service.room_for_body(access):
            body = await read_body(request, timeout_s=service.settings.body_timeout_s)
            asked = await to_thread.run_sync(parse_asked, body)
            del body  # Up to 5 MB that would wait in the queue with the photo.
            limits = service.documented_limits
            data = asked.data or b""
            if asked.url:
                with service.spool(access, most_bytes=limits.body_bytes) as spool:
                    most = limits.body_bytes
                    await fetch_photo(service, access, asked.url, spool, max_bytes=most)
                    data = await read_photo(spool)
            return await blur_counted(
                service,
                request,
                access,
                data,
                # Below the default, because everything that is returned must be blurred.
                BlurOptions(min_confidence=RETURNED_ABOVE, draw_boxes=True, crops=asked.crops),
                limits=limits,
                sends=lambda photo: (photo.data, *photo.crops),
                answer=lambda photo, _: Written(
                    documented_answer(photo, created=created, crops=asked.crops),
                    "application/json",
                ),
            )

    return router


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
