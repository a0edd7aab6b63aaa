"""Shared by the routes: the parts given to `create_app`, and the counted processing of a photo."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from typing import Protocol

from anyio import to_thread
from fastapi import Request
from fastapi.responses import Response
from starlette.types import Receive, Scope, Send

from plateblur.accounts.types import (
    Gate,
    Once,
    PlanKind,
    PlanPeriod,
    QuotaError,
    RepeatError,
    Usage,
)
from plateblur.errors import (
    PhotoDecodeError,
    PhotoTooLargeError,
    PlateblurError,
    TooCostlyError,
    WorkEndedError,
)
from plateblur.types import BlurOptions, BlurredPhoto, EncodedClip
from plateblur.web.body import MAX_BODY_BYTES, receive_body, refuse_no_photo
from plateblur.web.credentials import AnyAccess
from plateblur.web.failures import ClientGoneError, Failure, answer_too_long, busy
from plateblur.web.fetcher import FetchError, PhotoFetcher
from plateblur.web.metrics import Metrics
from plateblur.web.middleware import WAS_HEAD
from plateblur.web.once import REPLAYED, repeat_failure
from plateblur.web.room import Holder, Slots, Turns
from plateblur.web.schemas import answer_bytes
from plateblur.web.settings import Settings
from plateblur.web.spool import IN_MEMORY_BYTES, Spool

LOG = logging.getLogger("plateblur.web")

MAX_ANSWER_BYTES = 32 * 1024**2  # Six times the longest request; usual answers are about as long.
MAX_SENDING_BYTES = 16 * MAX_ANSWER_BYTES  # In one worker; an account has half of it at most.
SEND_BYTES = 256 * 1024
GUESTS_AT_ONCE = 4  # In one worker, from the first byte of their photos on.
SPOOL_DIR = "spool"  # In the data folder.


class Blur(Protocol):
    """Blurs a photo."""

    def __call__(
        self, data: bytes, options: BlurOptions, ended: threading.Event, *, max_pixels: int
    ) -> BlurredPhoto:
        """Return the blurred photo.

        Args:
            data: an encoded photo.
            options: how it is to be blurred.
            ended: the work may stop once it is set, because nobody waits any more.
            max_pixels: the most that are decoded.
        """
        ...


class BlurClip(Protocol):
    """Blurs a clip; one at a time, others wait."""

    def __call__(
        self, data: bytes, options: BlurOptions, ended: threading.Event, *, max_s: float
    ) -> EncodedClip:
        """Return the blurred clip.

        Args:
            data: an encoded clip.
            options: method, margin, confidence and metadata count.
            ended: the work stops once it is set.
            max_s: the longest clip that is accepted.
        """
        ...


@dataclass(frozen=True, slots=True)
class PhotoLimits:
    """The largest photo that a request may bring.

    Attributes:
        body_bytes: of the whole request.
        pixels: of the decoded photo.
        answer_bytes: of what is sent back.
    """

    body_bytes: int
    pixels: int
    answer_bytes: int


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
    blur_clip: BlurClip | None = None
    threads: ThreadPoolExecutor = field(init=False)
    turns: Turns = field(init=False)
    photos: Slots = field(init=False)
    bodies: Slots = field(init=False)
    fetches: Slots = field(init=False)
    answers: Slots = field(init=False)
    disk: Slots = field(init=False)
    large: Turns = field(init=False)
    guests: Slots = field(init=False)
    spool_dir: Path = field(init=False)

    def __post_init__(self) -> None:
        """Make the bounds that the settings ask for."""
        settings = self.settings
        pool = ThreadPoolExecutor(settings.blur_threads, thread_name_prefix="blur")
        object.__setattr__(self, "threads", pool)
        object.__setattr__(self, "turns", Turns(settings.blur_threads))
        object.__setattr__(self, "photos", Slots(settings.blur_threads + settings.queue_limit))
        bodies, fetches = settings.body_limit, settings.photo_url_limit
        object.__setattr__(self, "bodies", Slots(bodies, each=max(1, bodies * 3 // 4)))
        object.__setattr__(self, "fetches", Slots(fetches, each=max(1, fetches // 4)))
        answers = Slots(MAX_SENDING_BYTES, each=MAX_SENDING_BYTES // 2)
        object.__setattr__(self, "answers", answers)
        disk_bytes = settings.spool_mb * 1024**2
        object.__setattr__(self, "disk", Slots(disk_bytes, each=disk_bytes // 2))
        object.__setattr__(self, "large", Turns(settings.blur_threads))
        object.__setattr__(self, "guests", Slots(GUESTS_AT_ONCE))
        object.__setattr__(self, "spool_dir", settings.data_dir / SPOOL_DIR)

    @property
    def documented_limits(self) -> PhotoLimits:
        """Return the limits of the documented endpoint."""
        return PhotoLimits(MAX_BODY_BYTES, self.settings.max_pixels, MAX_ANSWER_BYTES)

    def limits_of(self, plan: PlanPeriod) -> PhotoLimits:
        """Return the limits of `/v1` on a plan."""
        settings = self.settings
        on_trial = plan.kind is PlanKind.TRIAL
        body_bytes = (settings.v1_trial_max_mb if on_trial else settings.v1_max_mb) * 1024**2
        # As base64 it is a third longer; the rest is for a photo that is longer when blurred.
        answer_bytes = max(MAX_ANSWER_BYTES, 2 * body_bytes)
        return PhotoLimits(body_bytes, settings.v1_max_pixels, answer_bytes)

    @contextmanager
    def room_for_body(self, access: AnyAccess) -> Iterator[None]:
        """Hold one of the places for a body.

        Raises:
            Failure: busy.
        """
        holder = access.holder
        with self.bodies.take(retry_s=self.settings.busy_retry_s, holder=holder):
            yield

    def spool(self, access: AnyAccess, *, most_bytes: int) -> Spool:
        """Return a spool for up to `most_bytes` of a request."""
        return Spool(
            self.spool_dir,
            self.disk,
            most_bytes=most_bytes,
            holder=access.holder,
            retry_s=self.settings.busy_retry_s,
        )

    @asynccontextmanager
    async def turn_in_memory(self, access: AnyAccess, size: int) -> AsyncIterator[None]:
        """Wait until so many bytes may be read into the memory, and hold the place for the block.

        There are few places for what is longer than `IN_MEMORY_BYTES`; the rest has its room from
        `room_for_body`.
        """
        if size <= IN_MEMORY_BYTES:
            yield
            return
        async with self.large.take(access.holder):
            yield


async def receive_spooled(
    service: Service, request: Request, spool: Spool, *, max_bytes: int
) -> None:
    """Receive the body of `request` into `spool`.

    Raises:
        Failure: 1013, too long; 1014, compressed or too slow; busy, no room on the disk.
        ClientGoneError: the connection was closed before the end.
    """
    timeout_s = service.settings.body_timeout_s
    await receive_body(request, spool.write, timeout_s=timeout_s, max_bytes=max_bytes)


async def fetch_photo(
    service: Service, access: AnyAccess, url: str, spool: Spool, *, max_bytes: int
) -> None:
    """Fetch the photo behind `url` into `spool`.

    Raises:
        Failure: 1014, switched off, not to be fetched, or nothing there; busy, where the account
            or the service waits for too many hosts already, or the disk has no room.
    """
    if not service.settings.photo_url:
        raise Failure("1014", "Photos by URL are switched off here.")
    retry_s, holder = service.settings.busy_retry_s, access.holder
    try:
        with service.fetches.take(retry_s=retry_s, holder=holder):
            await service.fetcher.fetch_into(spool.write, url, max_bytes=max_bytes)
    except FetchError as error:
        raise Failure("1014", str(error), status=HTTPStatus.UNPROCESSABLE_ENTITY) from error


async def read_photo(spool: Spool) -> bytes:
    """Return the photo in `spool`, sniffed; the spool is empty afterwards.

    Raises:
        Failure: 1014, it doesn't begin like a photo.
    """
    data = await to_thread.run_sync(spool.read)
    spool.clear()
    refuse_no_photo(data)
    return data


@dataclass(frozen=True, slots=True)
class Written:
    """An answer that is ready to be sent."""

    content: bytes
    media_type: str
    headers: dict[str, str] = field(default_factory=dict)


class WatchedAnswer(Response):
    """An answer that says whether all of it was handed to the connection.

    A server can only know that the operating system took the last byte, not whether the client read
    it.
    """

    def __init__(
        self, written: Written, *, on_sent: Callable[[], None], on_lost: Callable[[], None]
    ) -> None:
        """Take what is to be called, in a thread, when it was sent or when it was not.

        Nothing was sent to a client that only asked for the headers.
        """
        super().__init__(
            written.content, media_type=written.media_type, headers=dict(written.headers)
        )
        self._on_sent = on_sent
        self.on_lost = on_lost

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it in pieces, so that a slow reader keeps it in memory once and not three times."""
        gone = asyncio.create_task(_until_gone(receive))
        was_sent = False
        try:
            start = {"status": self.status_code, "headers": self.raw_headers}
            await send({"type": "http.response.start", **start})
            async for piece in self.pieces():
                await send({"type": "http.response.body", "body": piece, "more_body": True})
                # That the connection broke is heard of in other turns of the loop.
                await asyncio.sleep(0)
            # The server takes the next message once what is before it is with the kernel.
            await send({"type": "http.response.body", "body": b"", "more_body": True})
            await asyncio.sleep(0)
            was_sent = not gone.done() and not scope.get(WAS_HEAD)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            gone.cancel()
            if not was_sent:
                LOG.info(
                    "answer not taken",
                    extra={"fields": {"reference": scope["state"]["reference"]}},
                )
            done = self._on_sent if was_sent else self.on_lost
            await asyncio.get_running_loop().run_in_executor(None, done)

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the body."""
        for piece in cut(self.body):
            yield piece


def cut(data: bytes | memoryview) -> Iterator[bytes]:
    """Yield `data` in the pieces in which it is sent."""
    view = memoryview(data)
    for at in range(0, len(view), SEND_BYTES):
        yield bytes(view[at : at + SEND_BYTES])


async def blur_counted(
    service: Service,
    request: Request,
    access: AnyAccess,
    data: bytes,
    options: BlurOptions,
    *,
    limits: PhotoLimits,
    once: Once | None = None,
    sends: Callable[[BlurredPhoto], Iterable[bytes]],
    answer: Callable[[BlurredPhoto, Usage | None], Written],
) -> Response:
    """Count the request, blur the photo, write the answer, settle the count, and send the answer.

    All in one `admit` block. Whatever fails before the last byte is with the operating system, a
    client that hung up included, has the gate give the request back. Settled before it is sent,
    because only settling tells whether the month has enough predictions left; so a process that
    is killed between the two has counted an answer that was not sent.

    Args:
        service: the parts.
        request: whose client is watched.
        access: whose request, and on what it counts.
        data: the photo.
        options: for the blur.
        limits: of the photo and the answer.
        once: counts the request once, however often it is sent.
        sends: what of a blurred photo the answer holds as base64 or as it is.
        answer: writes it.

    Raises:
        Failure: 1014, over the pixel limit, or its key can't be repeated; 2001, the photo could not
            be blurred, its answer would be too long, or no room.
        AccessError: 1002 or 1004.
        ClientGoneError: the client hung up.
    """
    gone = threading.Event()
    holder = access.holder

    def work() -> WatchedAnswer:
        if gone.is_set():
            raise ClientGoneError
        with ExitStack() as undo:
            admitted = access.admit(service.gate, once)
            reservation = undo.enter_context(admitted)
            started = time.perf_counter()
            photo = blurred(service, data, options, gone, max_pixels=limits.pixels)
            service.metrics.blur_s.observe(time.perf_counter() - started)
            size = answer_bytes(sends(photo), predictions=len(photo.detections))
            if size > limits.answer_bytes:
                raise answer_too_long(limits.answer_bytes)
            if not service.answers.enter(holder=holder, size=size):
                raise busy(service.settings.busy_retry_s)
            undo.callback(service.answers.leave, holder=holder, size=size)
            written = answer(photo, access.usage(service.gate))
            if reservation.is_repeat:
                written = replace(written, headers=written.headers | {REPLAYED: "true"})
            if gone.is_set():
                raise ClientGoneError
            reservation.settle(predictions=photo.predictions_counted)
            leave = undo.pop_all()
        counted = 0 if reservation.is_repeat else photo.predictions_counted

        def sent() -> None:
            service.metrics.predictions.inc(counted)
            leave.close()

        def lost() -> None:
            reservation.unsettle()
            leave.close()

        return WatchedAnswer(written, on_sent=sent, on_lost=lost)

    try:
        with service.photos.take(retry_s=service.settings.busy_retry_s):
            service.metrics.waiting.inc()
            try:
                return await _while_watched(service, request, holder, work, gone)
            finally:
                service.metrics.waiting.dec()
    except Failure as failure:
        if failure.status == HTTPStatus.SERVICE_UNAVAILABLE:
            service.metrics.refused_busy.inc()
        raise
    except RepeatError as error:
        raise repeat_failure(error, retry_s=service.settings.busy_retry_s) from error
    except QuotaError as error:
        usage = await asyncio.get_running_loop().run_in_executor(None, access.usage, service.gate)
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
    service: Service,
    request: Request,
    holder: Holder,
    work: Callable[[], WatchedAnswer],
    gone: threading.Event,
) -> WatchedAnswer:
    """Return what `work` returns, in its turn; `gone` is set where the client hangs up before."""

    async def watch() -> None:
        await _until_gone(request.receive)
        gone.set()

    watcher: asyncio.Task[None] = asyncio.create_task(watch())
    try:
        async with service.turns.take(holder):
            working = asyncio.get_running_loop().run_in_executor(service.threads, work)
            try:
                return await asyncio.shield(working)
            except asyncio.CancelledError:
                gone.set()
                working.add_done_callback(_give_back)
                raise
    finally:
        watcher.cancel()
        with suppress(asyncio.CancelledError):
            await watcher


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _give_back(working: asyncio.Future[WatchedAnswer]) -> None:
    if not working.cancelled() and working.exception() is None:
        working.get_loop().run_in_executor(None, working.result().on_lost)


def blurred(
    service: Service, data: bytes, options: BlurOptions, gone: threading.Event, *, max_pixels: int
) -> BlurredPhoto:
    """Return the blurred photo.

    Raises:
        Failure: 1014, over the pixel limit; 2001, anything else.
        ClientGoneError: `gone` was set.
    """
    try:
        return service.blur(data, options, gone, max_pixels=max_pixels)
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
