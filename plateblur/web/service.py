"""What the routes share: the parts that `create_app` was given, and the counted way of a photo."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus
from typing import TypeVar

from fastapi import Request

from plateblur.accounts.types import AccessError, Gate, QuotaError, Usage
from plateblur.errors import (
    PhotoDecodeError,
    PhotoTooLargeError,
    PlateblurError,
    TooCostlyError,
    WorkEndedError,
)
from plateblur.types import BlurOptions, BlurredPhoto
from plateblur.web.body import refuse_no_photo
from plateblur.web.credentials import Access
from plateblur.web.failures import ClientGoneError, Failure, busy
from plateblur.web.fetcher import FetchError, PhotoFetcher
from plateblur.web.metrics import Metrics
from plateblur.web.settings import Settings

Blur = Callable[[bytes, BlurOptions, threading.Event], BlurredPhoto]
"""Blurs an encoded photo; where the event is set nobody waits any more, and it may stop."""

Answer = TypeVar("Answer")


class Slots:
    """A bound on how many may be inside at once; who finds none left is refused, not queued."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken = 0

    @property
    def taken(self) -> int:
        """How many are inside."""
        return self._taken

    @contextmanager
    def take(self, *, retry_s: int) -> Iterator[None]:
        """Be inside for the block; only from the event loop's thread.

        Raises:
            Failure: busy.
        """
        if self._taken >= self._limit:
            raise busy(retry_s)
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1


@dataclass(frozen=True, slots=True)
class Service:
    """The parts that one app is made of."""

    blur: Blur
    gate: Gate
    settings: Settings
    fetcher: PhotoFetcher
    metrics: Metrics
    now: Callable[[], datetime]
    ready_checks: dict[str, Callable[[], bool]]
    threads: ThreadPoolExecutor = field(init=False)
    photos: Slots = field(init=False)
    bodies: Slots = field(init=False)

    def __post_init__(self) -> None:
        """Make the bounds that the settings ask for."""
        settings = self.settings
        pool = ThreadPoolExecutor(settings.blur_threads, thread_name_prefix="blur")
        object.__setattr__(self, "threads", pool)
        object.__setattr__(self, "photos", Slots(settings.blur_threads + settings.queue_limit))
        object.__setattr__(self, "bodies", Slots(settings.body_limit))

    @contextmanager
    def room_for_body(self) -> Iterator[None]:
        """Hold one of the places for a body in memory.

        Raises:
            Failure: busy.
        """
        with self.bodies.take(retry_s=self.settings.busy_retry_s):
            yield


async def fetch_photo(service: Service, url: str) -> bytes:
    """Return the photo behind `url`, sniffed.

    Raises:
        Failure: 1014, switched off, not to be fetched, or no photo there.
    """
    if not service.settings.photo_url:
        raise Failure("1014", "Photos by URL are switched off here.")
    try:
        data = await service.fetcher.fetch(url)
    except FetchError as error:
        raise Failure("1014", str(error), status=HTTPStatus.UNPROCESSABLE_ENTITY) from error
    refuse_no_photo(data)
    return data


async def blur_counted(
    service: Service,
    request: Request,
    access: Access,
    data: bytes,
    options: BlurOptions,
    *,
    answer: Callable[[BlurredPhoto, Usage | None], Answer],
) -> Answer:
    """Count the request, blur the photo, write the answer and settle the count.

    All in one thread and one `admit` block, and settled as the last step: whatever fails before,
    a client that hung up included, leaves the block unsettled, and the gate gives the request
    back. What is lost after that is lost on the wire, where nobody can know of it.

    Raises:
        Failure: 1014, over the pixel limit; 2001, the photo could not be blurred, or no room.
        AccessError: 1002 or 1004.
        ClientGoneError: nobody waits any more.
    """
    gone = threading.Event()

    def work() -> Answer:
        if gone.is_set():
            raise ClientGoneError
        with service.gate.admit(access.identity, access.plan) as reservation:
            started = time.perf_counter()
            photo = _blurred(service, data, options, gone)
            service.metrics.blur_s.observe(time.perf_counter() - started)
            written = answer(photo, _usage(service.gate, access))
            if gone.is_set():
                raise ClientGoneError
            reservation.settle(predictions=photo.predictions_counted)
        service.metrics.predictions.inc(photo.predictions_counted)
        return written

    try:
        with service.photos.take(retry_s=service.settings.busy_retry_s):
            service.metrics.waiting.inc()
            try:
                return await _while_watched(request, service.threads, work, gone)
            finally:
                service.metrics.waiting.dec()
    except Failure as failure:
        if failure.status == HTTPStatus.SERVICE_UNAVAILABLE:
            service.metrics.refused_busy.inc()
        raise
    except QuotaError as error:
        usage = await asyncio.get_running_loop().run_in_executor(None, _usage, service.gate, access)
        raise Failure.of_access(error, headers=rate_limit_headers(usage, now=service.now())) from (
            error
        )


def rate_limit_headers(usage: Usage | None, *, now: datetime) -> dict[str, str]:
    """Return the RateLimit fields as commonly sent: of the plan's window, reset in seconds."""
    if usage is None:
        return {}
    left = max(0, usage.window_limit - usage.window_requests)
    reset_s = max(0, round((usage.window_resets_at - now).total_seconds()))
    return {
        "RateLimit-Limit": str(usage.window_limit),
        "RateLimit-Remaining": str(left),
        "RateLimit-Reset": str(reset_s),
    }


async def _while_watched(
    request: Request, threads: ThreadPoolExecutor, work: Callable[[], Answer], gone: threading.Event
) -> Answer:
    """Return what `work` returns; set `gone` where the client hangs up or the task is stopped."""

    async def watch() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        gone.set()

    watcher: asyncio.Task[None] = asyncio.create_task(watch())
    working: Awaitable[Answer] = asyncio.get_running_loop().run_in_executor(threads, work)
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        gone.set()
        raise
    finally:
        watcher.cancel()
        with suppress(asyncio.CancelledError):
            await watcher


def _blurred(
    service: Service, data: bytes, options: BlurOptions, gone: threading.Event
) -> BlurredPhoto:
    try:
        return service.blur(data, options, gone)
    except WorkEndedError as error:
        raise ClientGoneError from error
    except TooCostlyError as error:
        raise Failure(
            "2001",
            "The photo takes more time or memory than is given to one photo.",
            status=HTTPStatus.UNPROCESSABLE_ENTITY,
        ) from error
    except PhotoTooLargeError as error:
        raise Failure(
            "1014",
            f"The photo is larger than is taken: {error}.",
            status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        ) from error
    except PhotoDecodeError as error:
        raise Failure(
            "2001",
            "The photo is damaged and could not be decoded.",
            status=HTTPStatus.UNPROCESSABLE_ENTITY,
        ) from error
    except PlateblurError as error:
        raise Failure("2001", "The photo could not be blurred.") from error


def _usage(gate: Gate, access: Access) -> Usage | None:
    """Return the usage for the headers; an answer does not fail because they can't be told."""
    try:
        return gate.usage(access.identity, access.plan)
    except AccessError:
        return None
