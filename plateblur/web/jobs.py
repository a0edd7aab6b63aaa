"""`/v1/jobs`: photos and clips, blurred in the background; each result can be fetched once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from typing import Any

from anyio import to_thread
from fastapi import APIRouter, Request, Security
from fastapi.responses import Response

from plateblur.accounts.job_types import JobLimitError, JobStore, NewItem, Webhook
from plateblur.accounts.types import NotFoundError, Once, RepeatError, RequestRefusedError
from plateblur.errors import PlateblurError
from plateblur.web.credentials import BASIC, BEARER, Access, let_in, recognise
from plateblur.web.failures import NOTHING, Failure, busy, problem
from plateblur.web.fetcher import FetchError
from plateblur.web.job_forms import (
    ZIP_GROWTH,
    MostBytes,
    Received,
    receive_form,
    receive_json,
)
from plateblur.web.job_schemas import (
    CLIP_TYPE,
    JobAccepted,
    JobAnswer,
    JobList,
    JobOptions,
    JobRequest,
    job_answer,
    job_path,
)
from plateblur.web.once import idempotency_key, repeat_failure
from plateblur.web.openapi import ONCE_PARAMETER, PHOTO_FIELD, problems
from plateblur.web.packed import COPIES, ZIP_TYPE, PackedAnswer
from plateblur.web.schemas import MEDIA_TYPES
from plateblur.web.service import (
    MAX_SENDING_BYTES,
    Service,
    WatchedAnswer,
    Written,
    receive_spooled,
)
from plateblur.web.spool import Spool
from plateblur.web.webhooks import new_secret

# Photos that the store is given together, as each commit takes a moment.
KEPT_AT_ONCE = 64
KEPT_BYTES = 2 * 1024**2  # in memory, beside the file that is read


def jobs_router(service: Service, store: JobStore, on_opened: Callable[[], None]) -> APIRouter:
    """Return the routes.

    Args:
        service: the parts.
        store: keeps the jobs.
        on_opened: is called when one was opened.
    """
    router = APIRouter(
        prefix="/v1/jobs", tags=["jobs"], dependencies=[Security(BASIC), Security(BEARER)]
    )
    retry_s = service.settings.busy_retry_s

    @router.post(
        "",
        summary="Blur photos and clips in the background",
        response_model=None,
        status_code=HTTPStatus.ACCEPTED,
        openapi_extra=_request_extra(),
        responses={
            202: {
                "model": JobAccepted,
                "description": "The job was accepted.",
                "headers": {
                    "Location": {
                        "schema": {"type": "string"},
                        "description": "Where its progress is.",
                    }
                },
            },
            **problems(400, 401, 402, 403, 408, 409, 413, 415, 422, 429, 500, 503),
        },
    )
    async def begin(request: Request) -> Response:
        access = await let_in(service.gate, request, bearer=True)
        key = idempotency_key(request)
        most = service.settings.jobs_request_mb * 1024**2
        with service.room_for_body(access), service.spool(access, most_bytes=most) as body:
            await receive_spooled(service, request, body, max_bytes=most)
            async with service.turn_in_memory(access, body.size):
                take = partial(_take, service, store, access, request, body, key=key)
                accepted = await to_thread.run_sync(take)
        on_opened()
        return Response(
            accepted.model_dump_json(exclude_none=True),
            status_code=HTTPStatus.ACCEPTED,
            media_type="application/json",
            headers={"Location": accepted.url},
        )

    @router.get(
        "",
        summary="List your jobs",
        response_model=None,
        responses={200: {"model": JobList}, **problems(401, 403, 429, 500, 503)},
    )
    async def jobs(request: Request) -> Response:
        identity = await recognise(service.gate, request, bearer=True)
        ids = await to_thread.run_sync(store.jobs_of, identity.account_id)
        return _json(JobList(jobs=ids))

    @router.get(
        "/{job_id}",
        summary="Get the progress of a job",
        response_model=None,
        responses={200: {"model": JobAnswer}, **problems(401, 403, 404, 429, 500, 503)},
    )
    async def job(request: Request, job_id: str) -> Response:
        identity = await recognise(service.gate, request, bearer=True)
        try:
            view = await to_thread.run_sync(store.view, identity.account_id, _id(job_id))
        except NotFoundError as error:
            return _not_found(request, error)
        return _json(job_answer(view))

    @router.delete(
        "/{job_id}",
        summary="Cancel a job and delete everything of it",
        response_model=None,
        status_code=HTTPStatus.NO_CONTENT,
        responses={
            204: {"description": "The job is gone. What was done stays counted."},
            **problems(401, 403, 404, 429, 500, 503),
        },
    )
    async def cancel(request: Request, job_id: str) -> Response:
        identity = await recognise(service.gate, request, bearer=True)
        try:
            await to_thread.run_sync(store.delete, identity.account_id, _id(job_id))
        except NotFoundError as error:
            return _not_found(request, error)
        return Response(status_code=HTTPStatus.NO_CONTENT)

    @router.get(
        "/{job_id}/photos/{number}",
        summary="Fetch a blurred photo or clip, once",
        response_model=None,
        responses={
            200: {
                "description": "The blurred photo or clip. It is deleted once you have received "
                "all of it.",
                "content": {
                    media_type: {"schema": {"type": "string", "format": "binary"}}
                    for media_type in (*MEDIA_TYPES.values(), CLIP_TYPE)
                },
            },
            **problems(401, 403, 404, 429, 500, 503),
        },
    )
    async def result(request: Request, job_id: str, number: str) -> Response:
        identity = await recognise(service.gate, request, bearer=True)
        mine, place = (identity.account_id, _id(job_id)), _number(number)
        holder = identity.account_id

        def find() -> WatchedAnswer:
            size = store.result_bytes(*mine, place)
            if not service.answers.enter(holder=holder, size=size):
                raise busy(retry_s)
            leave = partial(service.answers.leave, holder=holder, size=size)
            try:
                found = store.result(*mine, place)
            except BaseException:
                leave()
                raise

            def sent() -> None:
                leave()
                store.forget_results(*mine, [place])

            written = Written(found.photo, found.media_type)
            return WatchedAnswer(written, on_sent=sent, on_lost=leave)

        try:
            return await to_thread.run_sync(find)
        except NotFoundError as error:
            return _not_found(request, error)

    @router.get(
        "/{job_id}/results",
        summary="Fetch all results that are done in a ZIP, once",
        response_model=None,
        responses={
            200: {
                "description": "The blurred photos and clips that are done and weren't fetched, "
                "each named by its number. They are deleted once you have received the whole ZIP.",
                "content": {ZIP_TYPE: {"schema": {"type": "string", "format": "binary"}}},
            },
            **problems(401, 403, 404, 429, 500, 503),
        },
    )
    async def results(request: Request, job_id: str) -> Response:
        identity = await recognise(service.gate, request, bearer=True)
        mine = (identity.account_id, _id(job_id))
        holder = identity.account_id

        def find() -> PackedAnswer:
            found = store.results(*mine)
            # A clip may be so long that it gets all that an account may have.
            size = min(COPIES * max(one.size for one in found), MAX_SENDING_BYTES // 2)
            if not service.answers.enter(holder=holder, size=size):
                raise busy(retry_s)
            leave = partial(service.answers.leave, holder=holder, size=size)

            def sent() -> None:
                leave()
                store.forget_results(*mine, [one.number for one in found])

            def read(number: int) -> bytes:
                return store.result(*mine, number).photo

            return PackedAnswer(found, read, on_sent=sent, on_lost=leave)

        try:
            return await to_thread.run_sync(find)
        except NotFoundError as error:
            return _not_found(request, error)

    return router


def _take(
    service: Service,
    store: JobStore,
    access: Access,
    request: Request,
    body: Spool,
    *,
    key: str | None,
) -> JobAccepted:
    """Make a job of `body`.

    Raises:
        Failure: 1013, no photo; 1014, anything else that is wrong with it; no room.
    """
    account_id, digest = access.identity.account_id, hashlib.sha256()
    try:
        job_id = store.begin(account_id, room_bytes=ZIP_GROWTH * body.size)
    except JobLimitError as error:
        raise _no_room(error) from error

    waiting: list[NewItem] = []

    def keep() -> None:
        if waiting:
            store.add(job_id, waiting)
            waiting.clear()

    def add(item: NewItem) -> None:
        content = item.url.encode() if item.url else item.photo or b""
        digest.update(hashlib.sha256(content).digest())
        waiting.append(item)
        if len(waiting) == KEPT_AT_ONCE or sum(map(_length, waiting)) >= KEPT_BYTES:
            keep()

    try:
        received = _receive(service, access, request, body, add)
        keep()
        options = received.options
        webhook = _webhook(service, options)
        said = options.model_dump_json(exclude={"webhook_secret"}).encode()
        digest.update(said)
        once = None if key is None else Once(key, digest.digest())
        blur_options = options.model_dump_json(exclude={"webhook_url", "webhook_secret"})
        opened = store.open(job_id, options=blur_options.encode(), webhook=webhook, once=once)
    except JobLimitError as error:
        _drop(store, account_id, job_id)
        raise _no_room(error) from error
    except RepeatError as error:
        raise repeat_failure(error, retry_s=service.settings.busy_retry_s) from error
    except BaseException:
        _drop(store, account_id, job_id)
        raise
    return JobAccepted(
        id=opened,
        url=job_path(opened),
        photos=received.photos,
        # Of a repeated request, the secret is that of the first answer.
        webhook_secret=webhook.secret if webhook and opened == job_id else None,
    )


def _length(item: NewItem) -> int:
    return len(item.photo or b"")


def _receive(
    service: Service,
    access: Access,
    request: Request,
    body: Spool,
    add: Callable[[NewItem], None],
) -> Received:
    content_type = request.headers.get("content-type", "")
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type == "multipart/form-data":
        clip_mb = 0 if service.blur_clip is None else service.settings.jobs_clip_mb
        most = MostBytes(service.limits_of(access.plan).body_bytes, clip_mb * 1024**2)
        received = receive_form(body, content_type, add, most=most)
    elif media_type in {"", "application/json"} or media_type.endswith("+json"):
        received = receive_json(body, add)
    else:
        raise Failure(
            "1014",
            "Send multipart/form-data or application/json.",
            status=HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        )
    if not received.photos:
        raise Failure("1013", sentence=NOTHING, status=HTTPStatus.UNPROCESSABLE_ENTITY)
    return received


def _webhook(service: Service, options: JobOptions) -> Webhook | None:
    if options.webhook_url is None:
        return None
    try:
        service.fetcher.check(options.webhook_url)
    except FetchError as error:
        raise Failure(
            "1014", f"webhook_url: {error}", status=HTTPStatus.UNPROCESSABLE_ENTITY
        ) from error
    return Webhook(options.webhook_url, options.webhook_secret or new_secret())


def _drop(store: JobStore, account_id: int, job_id: str) -> None:
    with suppress(PlateblurError):  # It expires by itself.
        store.delete(account_id, job_id)


def _no_room(error: RequestRefusedError) -> Failure:
    return Failure("1004", str(error), status=HTTPStatus.TOO_MANY_REQUESTS)


def _id(text: str) -> str:
    """Return a job's id as the store may be asked for it; PostgreSQL can't store NUL."""
    return text if text.isalnum() and text.isascii() and len(text) == 32 else "-"


def _number(text: str) -> int:
    """Return a photo's number, or 0, which no photo has."""
    return int(text) if text.isdecimal() and text.isascii() and len(text) < 9 else 0


def _not_found(request: Request, error: NotFoundError) -> Response:
    return problem(request, status=HTTPStatus.NOT_FOUND, detail=str(error))


def _json(answer: JobAnswer | JobList) -> Response:
    return Response(answer.model_dump_json(), media_type="application/json")


def _request_extra() -> dict[str, Any]:
    by_form = JobOptions.model_json_schema()
    by_form["title"] = "JobForm"
    by_form["properties"] |= {
        "photo": {
            "type": "array",
            "items": {**PHOTO_FIELD, "description": "A photo, a clip, or a ZIP of them."},
            "description": "Photos, clips and ZIPs; the field can be there several times.",
        },
        "photo_url": {
            "type": "array",
            "items": {"type": "string"},
            "description": "Public http or https URLs; the field can be there several times.",
        },
    }
    return {
        "parameters": [ONCE_PARAMETER],
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {"schema": by_form},
                "application/json": {"schema": JobRequest.model_json_schema()},
            },
        },
    }
