"""Shared by the routes: the parts given to `create_app`, and the counted processing of a photo."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from http import HTTPStatus

from fastapi import Request
from fastapi.responses import Response
from starlette.types import Receive, Scope, Send

from plateblur.accounts.types import AccessError, Gate, QuotaError, Reservation, Usage
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
from plateblur.web.failures import ClientGoneError, Failure, answer_too_long, busy
from plateblur.web.fetcher import FetchError, PhotoFetcher
from plateblur.web.metrics import Metrics
from plateblur.web.schemas import answer_bytes
from plateblur.web.settings import Settings

LOG = logging.getLogger("plateblur.web")

Blur = Callable[[bytes, BlurOptions, threading.Event], BlurredPhoto]
"""Blurs an encoded photo; may stop once the event is set, because nobody waits any more."""

MAX_ANSWER_BYTES = 32 * 1024**2  # Six times the longest request; usual answers are about as long.
MAX_SENDING_BYTES = 16 * MAX_ANSWER_BYTES  # In one worker; an account has half of it at most.
SEND_BYTES = 256 * 1024


Holder = int | None


class Slots:
    """A limit on concurrent use; requests beyond it are refused, not queued.

    Args:
        limit: how much there is, in places or bytes.
        each: how much of it one account may have.
    """

    def __init__(self, limit: int, *, each: int | None = None) -> None:
        self._limit = limit
        self._each = limit if each is None else each
        self._taken: Counter[Holder] = Counter()
        self._lock = threading.Lock()

    @property
    def taken(self) -> int:
        """How much is inside."""
        return self._taken.total()

    def enter(self, *, holder: Holder = None, size: int = 1) -> bool:
        """Return whether there was room, which is then taken."""
        with self._lock:
            if self.taken + size > self._limit or self._taken[holder] + size > self._each:
                return False
            self._taken[holder] += size
            return True

    def leave(self, *, holder: Holder = None, size: int = 1) -> None:
        """Give room back."""
        with self._lock:
            self._taken[holder] -= size
            self._taken += Counter()  # Removes holders of nothing.

    @contextmanager
    def take(self, *, retry_s: int, holder: Holder = None, size: int = 1) -> Iterator[None]:
        """Be inside for the block.

        Raises:
            Failure: busy.
        """
        if not self.enter(holder=holder, size=size):
            raise busy(retry_s)
        try:
            yield
        finally:
            self.leave(holder=holder, size=size)


class Turns:
    """Places for photos being processed, given to one account after the other.

    Not first come, first served, because then the many photos of one account would make all others
    wait. Only for use in the event loop's thread.
    """

    def __init__(self, places: int) -> None:
        self._free = places
        self._waiting: dict[Holder, deque[asyncio.Future[None]]] = {}

    @asynccontextmanager
    async def take(self, holder: Holder) -> AsyncIterator[None]:
        """Wait for a place, and hold it for the block."""
        if self._free:
            self._free -= 1
        else:
            turn = asyncio.get_running_loop().create_future()
            self._waiting.setdefault(holder, deque()).append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if not turn.cancelled():  # It was given a place that it does not need any more.
                    self._pass_on()
                raise
        try:
            yield
        finally:
            self._pass_on()

    def _pass_on(self) -> None:
        """Give a place to the account that has waited longest since its last one."""
        while self._waiting:
            holder = next(iter(self._waiting))
            turns = self._waiting.pop(holder)
            turn = turns.popleft()
            if turns:
                self._waiting[holder] = turns  # Behind all others.
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1


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
    turns: Turns = field(init=False)
    photos: Slots = field(init=False)
    bodies: Slots = field(init=False)
    fetches: Slots = field(init=False)
    answers: Slots = field(init=False)

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

    @contextmanager
    def room_for_body(self, access: Access) -> Iterator[None]:
        """Hold one of the places for a body in memory.

        Raises:
            Failure: busy.
        """
        holder = access.identity.account_id
        with self.bodies.take(retry_s=self.settings.busy_retry_s, holder=holder):
            yield


async def fetch_photo(service: Service, access: Access, url: str) -> bytes:
    """Return the photo behind `url`, sniffed.

    Raises:
        Failure: 1014, switched off, not to be fetched, or no photo there; busy, where the account
            or the service waits for too many hosts already.
    """
    if not service.settings.photo_url:
        raise Failure("1014", "Photos by URL are switched off here.")
    retry_s, holder = service.settings.busy_retry_s, access.identity.account_id
    try:
        with service.fetches.take(retry_s=retry_s, holder=holder):
            data = await service.fetcher.fetch(url)
    except FetchError as error:
        raise Failure("1014", str(error), status=HTTPStatus.UNPROCESSABLE_ENTITY) from error
    refuse_no_photo(data)
    return data


@dataclass(frozen=True, slots=True)
class Written:
    """An answer that is ready to be sent."""

    content: bytes
    media_type: str
    headers: dict[str, str] = field(default_factory=dict)


class CountedAnswer(Response):
    """An answer whose request stays counted only if all of it was handed to the connection.

    A server can only know that the operating system took the last byte, not whether the client read
    it.
    """

    def __init__(
        self,
        written: Written,
        *,
        reservation: Reservation,
        leave: ExitStack,
        on_sent: Callable[[], None],
    ) -> None:
        super().__init__(
            written.content, media_type=written.media_type, headers=dict(written.headers)
        )
        self._reservation = reservation
        self._leave = leave
        self._on_sent = on_sent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it in pieces, so that a slow reader keeps it in memory once and not three times."""
        gone = asyncio.create_task(_until_gone(receive))
        was_sent = False
        try:
            start = {"status": self.status_code, "headers": self.raw_headers}
            await send({"type": "http.response.start", **start})
            body = memoryview(self.body)
            for at in range(0, len(body), SEND_BYTES):
                if at:  # That the connection broke is heard of in other turns of the loop.
                    await asyncio.sleep(0)
                piece = bytes(body[at : at + SEND_BYTES])
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            # The server takes the next message once what is before it is with the kernel.
            await send({"type": "http.response.body", "body": b"", "more_body": True})
            await asyncio.sleep(0)
            was_sent = not gone.done()
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            gone.cancel()
            if was_sent:
                self._on_sent()
                self._leave.close()
            else:
                LOG.info(
                    "answer not taken; given back",
                    extra={"fields": {"reference": scope["state"]["reference"]}},
                )
                await asyncio.get_running_loop().run_in_executor(None, self.give_back)

    def give_back(self) -> None:
        """Give the request back, because its response was not and will not be sent."""
        self._reservation.unsettle()
        self._leave.close()


async def blur_counted(
    service: Service,
    request: Request,
    access: Access,
    data: bytes,
    options: BlurOptions,
    *,
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
        access: identity and plan.
        data: the photo.
        options: for the blur.
        sends: what of a blurred photo the answer holds as base64 or as it is.
        answer: writes it.

    Raises:
        Failure: 1014, over the pixel limit; 2001, the photo could not be blurred, its answer would
            be too long, or no room.
        AccessError: 1002 or 1004.
        ClientGoneError: the client hung up.
    """
    gone = threading.Event()
    holder = access.identity.account_id

    def work() -> CountedAnswer:
        if gone.is_set():
            raise ClientGoneError
        with ExitStack() as undo:
            reservation = undo.enter_context(service.gate.admit(access.identity, access.plan))
            started = time.perf_counter()
            photo = _blurred(service, data, options, gone)
            service.metrics.blur_s.observe(time.perf_counter() - started)
            size = answer_bytes(sends(photo), predictions=len(photo.detections))
            if size > MAX_ANSWER_BYTES:
                raise answer_too_long(MAX_ANSWER_BYTES)
            if not service.answers.enter(holder=holder, size=size):
                raise busy(service.settings.busy_retry_s)
            undo.callback(service.answers.leave, holder=holder, size=size)
            written = answer(photo, _usage(service.gate, access))
            if gone.is_set():
                raise ClientGoneError
            reservation.settle(predictions=photo.predictions_counted)
            leave = undo.pop_all()
        count = partial(service.metrics.predictions.inc, photo.predictions_counted)
        return CountedAnswer(written, reservation=reservation, leave=leave, on_sent=count)

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
    service: Service,
    request: Request,
    holder: Holder,
    work: Callable[[], CountedAnswer],
    gone: threading.Event,
) -> CountedAnswer:
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


def _give_back(working: asyncio.Future[CountedAnswer]) -> None:
    if not working.cancelled() and working.exception() is None:
        working.get_loop().run_in_executor(None, working.result().give_back)


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
    """Return the usage for the headers; a response does not fail without them."""
    try:
        return gate.usage(access.identity, access.plan)
    except AccessError:
        return None
