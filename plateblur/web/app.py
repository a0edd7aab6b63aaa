"""`create_app`: builds the web application from its parts."""

from __future__ import annotations

import asyncio
import ctypes
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from typing import Any
from urllib.parse import urljoin

from anyio import to_thread
from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from plateblur.accounts.job_types import JobQueue, JobStore
from plateblur.accounts.types import AccessError, Gate, HealthLog
from plateblur.errors import PlateblurError
from plateblur.web.body import MAX_BODY_BYTES
from plateblur.web.failures import ClientGoneError, Failure, answer_failure, forget, problem
from plateblur.web.fetcher import PhotoFetcher, Reach, resolve_by_dns
from plateblur.web.health import Look, health_router
from plateblur.web.job_work import JobWork
from plateblur.web.jobs import jobs_router
from plateblur.web.metrics import Metrics
from plateblur.web.middleware import CLIENT_GONE_STATUS, HeadAsGet, HearOut, LastNet, Observe
from plateblur.web.once import HEADER, REPLAYED
from plateblur.web.pages import add_pages
from plateblur.web.panoramax import panoramax_router
from plateblur.web.plateblurer import documented_router
from plateblur.web.service import Blur, BlurClip, Service
from plateblur.web.settings import Settings
from plateblur.web.source import LICENCE, add_source, source_link
from plateblur.web.status import Watch
from plateblur.web.v1 import v1_router

LOG = logging.getLogger("plateblur.web")

UPKEEP_EVERY_S = 3600
M_ARENA_MAX = -8  # Source: mallopt(3)
TRIM_EVERY_S = 10.0  # Takes some milliseconds, and slows the next photo by as many.
EXPOSED_HEADERS = (
    REPLAYED,
    "PlateBlur-Detections",
    "RateLimit-Limit",
    "RateLimit-Remaining",
    "RateLimit-Reset",
    "Retry-After",
    "X-Request-Id",
)


def utc_now() -> datetime:
    """Return the present moment, UTC."""
    return datetime.now(UTC)


def create_app(
    blur: Blur,
    gate: Gate,
    settings: Settings,
    *,
    fetcher: PhotoFetcher | None = None,
    jobs: tuple[JobStore, JobQueue] | None = None,
    blur_clip: BlurClip | None = None,
    health_log: HealthLog | None = None,
    ready_checks: Mapping[str, Callable[[], bool]] | None = None,
    upkeep: Callable[[], None] | None = None,
    now: Callable[[], datetime] = utc_now,
) -> FastAPI:
    """Return the web application.

    Args:
        blur: makes the plates of an encoded photo unreadable; called from several threads.
        gate: admits requests and counts them; called from several threads.
        settings: of this deployment.
        fetcher: for `photo_url`; None for one that reaches the public internet.
        jobs: keep photos that are blurred in the background; None for no such routes.
        blur_clip: makes the plates of an encoded clip unreadable; None accepts no clips in jobs.
        health_log: keeps whether the parts work, for the status page; None shows no history.
        ready_checks: further checks of `/readyz` by name, such as the model.
        upkeep: deletes old data; called at the start and every hour, in a thread.
        now: the clock, UTC.
    """
    service = Service(
        blur=blur,
        gate=gate,
        settings=settings,
        fetcher=fetcher
        or PhotoFetcher(
            timeout_s=settings.photo_url_timeout_s,
            max_bytes=MAX_BODY_BYTES,
            reach=Reach(ports=settings.photo_url_ports),
            resolve=partial(resolve_by_dns, nameservers=settings.photo_url_nameservers),
        ),
        metrics=Metrics(shared=bool(settings.metrics_dir)),
        now=now,
        ready_checks=dict(ready_checks or {}),
        blur_clip=blur_clip,
    )

    work = JobWork(service, jobs[1]) if jobs else None
    look = Look(service)
    watch = Watch(look, health_log, now) if health_log else None

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        keeping: list[asyncio.Task[None]] = [asyncio.create_task(_give_memory_back())]
        if work:
            keeping.append(asyncio.create_task(work.run()))
        if watch:
            keeping.append(asyncio.create_task(watch.run()))
        if upkeep:
            keeping.append(asyncio.create_task(_keep_up(upkeep)))
        yield
        for one in keeping:
            one.cancel()
        await asyncio.gather(*keeping, return_exceptions=True)
        await to_thread.run_sync(service.threads.shutdown)

    app = FastAPI(
        title="PlateBlur",
        summary="Find licence plates in photos and make them unreadable.",
        version="1",
        license_info={"name": LICENCE, "identifier": LICENCE},
        openapi_external_docs={
            "description": "Source code of this service",
            "url": urljoin(settings.public_url, source_link(settings.source_url)),
        },
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
        middleware=[
            Middleware(Observe, settings=settings, metrics=service.metrics),
            Middleware(
                CORSMiddleware,
                allow_origins=settings.cors_origins,
                allow_methods=["DELETE", "GET", "POST"],
                allow_headers=["Authorization", "Content-Type", "Accept", HEADER],
                expose_headers=EXPOSED_HEADERS,
            ),
            Middleware(HeadAsGet),
            Middleware(HearOut, hear_out_s=settings.hear_out_s),
            Middleware(LastNet, settings=settings),
        ],
        exception_handlers=_handlers(service),
    )
    app.state.service = service
    app.state.has_jobs = jobs is not None
    app.include_router(documented_router(service))
    app.include_router(v1_router(service))
    if jobs and work:
        app.include_router(jobs_router(service, jobs[0], work.news.set))
    if settings.panoramax:
        app.include_router(panoramax_router(service))
    app.include_router(health_router(service, look))
    add_pages(app, look, watch)
    add_source(app, settings.source_url)
    return app


async def _keep_up(upkeep: Callable[[], None]) -> None:
    while True:
        try:
            await to_thread.run_sync(upkeep)
        except PlateblurError as error:
            LOG.warning(
                "upkeep failed, will be retried", extra={"fields": {"error": type(error).__name__}}
            )
        await asyncio.sleep(UPKEEP_EVERY_S)


async def _give_memory_back() -> None:
    """Make the C library return the memory of large photos soon after they are done.

    glibc keeps up to 64 MB of freed memory per thread for reuse. A lower limit would make each
    photo a fifth slower, because its pages have to be cleared again. Threads share two heaps,
    because memory left over in a thread's own heap can't be used by others.
    """
    library = ctypes.CDLL(None)
    trim = getattr(library, "malloc_trim", None)
    if trim is not None:
        library.mallopt(M_ARENA_MAX, 2)
    while trim is not None:  # Only glibc has it.
        await asyncio.sleep(TRIM_EVERY_S)
        await to_thread.run_sync(trim, 0)


def _handlers(service: Service) -> dict[int | type[Exception], Callable[..., Any]]:
    real = service.settings.real_status_codes

    async def on_failure(request: Request, failure: Failure) -> Response:
        forget(failure)
        return answer_failure(request, failure, real_status_codes=real)

    async def on_access(request: Request, error: AccessError) -> Response:
        forget(error)
        return answer_failure(request, Failure.of_access(error), real_status_codes=real)

    async def on_gone(_: Request, error: ClientGoneError) -> Response:
        forget(error)
        return Response(status_code=CLIENT_GONE_STATUS)

    async def on_http(request: Request, error: HTTPException) -> Response:
        forget(error)
        detail = HTTPStatus(error.status_code).description
        return problem(request, status=error.status_code, detail=detail, headers=error.headers)

    return {
        Failure: on_failure,
        AccessError: on_access,
        ClientGoneError: on_gone,
        HTTPException: on_http,
    }
