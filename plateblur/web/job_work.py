"""The work on jobs inside the service: photos are blurred, and webhooks called, as they become due.

Each process of the service takes part, on one host or several. A photo of a job waits for its turn
among the photos of requests, so that an account with many of them makes nobody wait. A clip takes
minutes, so each process does one at a time beside the photos.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TypeVar

from anyio import to_thread

from plateblur.accounts.job_types import Claim, ItemResult, JobLimitError, JobQueue
from plateblur.accounts.types import (
    AccessError,
    DailyQuotaError,
    Identity,
    PaidQuotaError,
    PlanKind,
    PlanPeriod,
    Usage,
)
from plateblur.errors import PlateblurError, TooCostlyError, VideoError, WorkEndedError
from plateblur.types import BlurOptions, BlurredPhoto, EncodedClip
from plateblur.web.credentials import Access
from plateblur.web.failures import (
    ClientGoneError,
    Failure,
    answer_too_long,
    describe,
    forget,
)
from plateblur.web.fetcher import FetchError
from plateblur.web.job_schemas import CLIP_TYPE, ClipAnswer, JobOptions
from plateblur.web.logs import where_raised
from plateblur.web.schemas import MEDIA_TYPES, detect_answer
from plateblur.web.service import Service, blurred, fetch_photo, read_photo
from plateblur.web.webhooks import message, signed_headers

LOG = logging.getLogger("plateblur.web")

POLL_S = 1.0  # Other processes' jobs are noticed as late; this process's own at once.
RENEW_S = 8.0  # A quarter of what a claim lasts.
WEBHOOKS_AT_ONCE = 16  # Source: ours; each may take as long as a photo by URL.
BROKEN_S = 5.0  # Until the store is asked again after a failure.
CLIP_GROWTH = 2  # A blurred clip may be so many times as long as the longest that is accepted.

DoneT = TypeVar("DoneT")


class JobWork:
    """Runs until it is cancelled.

    Attributes:
        news: set when this process has opened a job.
    """

    def __init__(self, service: Service, queue: JobQueue) -> None:
        self._service = service
        self._queue = queue
        self._in_work: dict[str, threading.Event] = {}  # by token: set where nobody waits any more
        self._choosing = asyncio.Lock()
        self._called: set[int] = set()  # accounts whose receiver is being called
        self.news = asyncio.Event()

    async def run(self) -> None:
        """Work on whatever is due."""
        # One more than are blurred at once, so that a photo is at hand when another is done.
        loops = [self._items() for _ in range(self._service.settings.blur_threads + 1)]
        if self._service.blur_clip is not None:
            loops.append(self._items(clips=True))
        async with asyncio.TaskGroup() as group:
            loops += [self._webhooks() for _ in range(WEBHOOKS_AT_ONCE)]
            for loop in (*loops, self._renewals()):
                group.create_task(loop)

    async def _items(self, *, clips: bool = False) -> None:
        while True:
            try:
                found = await to_thread.run_sync(partial(self._next, clips=clips))
            except PlateblurError as error:
                await _rest_after(error)
                continue
            if found is None:
                self.news.clear()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self.news.wait(), POLL_S)
                continue
            claim, plan = found
            ended = self._in_work[claim.token] = threading.Event()
            try:
                await self._work_on(claim, plan, ended)
            finally:
                del self._in_work[claim.token]

    def _next(self, *, clips: bool) -> tuple[Claim, PlanPeriod | Exception] | None:
        """Claim a photo or clip, and return it with its account's plan, or why there is none."""
        claim = self._queue.claim(clips=clips)
        if claim is None:
            return None
        try:
            return claim, self._service.gate.active_plan(Identity(claim.account_id, ""))
        except Exception as error:  # noqa: BLE001 - `_work_on` raises it
            return claim, error

    async def _work_on(
        self, claim: Claim, plan: PlanPeriod | Exception, ended: threading.Event
    ) -> None:
        try:
            if isinstance(plan, Exception):
                raise plan
            if claim.media_type is None:
                await self._blur(claim, plan, ended)
            else:
                await self._blur_clip(claim, plan, ended)
        except asyncio.CancelledError:
            await asyncio.shield(to_thread.run_sync(self._queue.put_back, claim))
            raise
        except ClientGoneError as error:  # The workers have ended.
            forget(error)
            await self._note(self._queue.put_back, claim)
        except Failure as failure:
            forget(failure)
            await self._fail(claim, failure)
        except AccessError as error:
            forget(error)
            if error.cd in {"1009", "1012"}:
                await self._note(self._queue.put_back, claim)
                await asyncio.sleep(BROKEN_S)
            else:
                await self._fail(claim, Failure.of_access(error))
        except JobLimitError as error:
            await self._fail(claim, Failure("2001", str(error)))
        except PlateblurError as error:
            await _rest_after(error)  # The claim runs out.
        except Exception as error:  # noqa: BLE001 - the other photos go on whatever it was
            _log_unexpected(error)
            await self._fail(claim, Failure("2001", "Something unexpected happened on our side."))

    async def _blur(self, claim: Claim, plan: PlanPeriod, ended: threading.Event) -> None:
        service, holder = self._service, claim.account_id
        limits = service.limits_of(plan)
        data = claim.photo
        if data is None:
            access = Access(Identity(claim.account_id, ""), plan)
            with service.spool(access, most_bytes=limits.body_bytes) as spool:
                most = limits.body_bytes
                await fetch_photo(service, access, claim.url or "", spool, max_bytes=most)
                data = await read_photo(spool)
        options = JobOptions.model_validate_json(claim.options).options()

        def blur(data: bytes) -> BlurredPhoto:
            photo = blurred(service, data, options, ended, max_pixels=limits.pixels)
            if len(photo.data) > limits.answer_bytes:
                raise answer_too_long(limits.answer_bytes)
            return photo

        def finish(photo: BlurredPhoto) -> None:
            answer = detect_answer(photo, created=service.now()).model_dump_json().encode()
            media_type, counted = MEDIA_TYPES[photo.format], photo.predictions_counted
            result = ItemResult(photo.data, media_type, answer, counted)
            if self._queue.finish(claim, plan, result):
                service.metrics.predictions.inc(counted)

        loop = asyncio.get_running_loop()
        async with service.turns.take(holder):
            working = loop.run_in_executor(service.threads, blur, data)
            photo = await _until_done(working, ended)
        # Not in its turn, in which the next photo may be blurred meanwhile.
        await _until_done(loop.run_in_executor(None, finish, photo), ended)

    async def _blur_clip(self, claim: Claim, plan: PlanPeriod, ended: threading.Event) -> None:
        service, settings = self._service, self._service.settings
        identity = Identity(claim.account_id, "")
        usage = await to_thread.run_sync(service.gate.usage, identity, plan)
        _refuse_used_up(plan, usage)  # Before minutes of work; `finish` decides.
        on_trial = plan.kind is PlanKind.TRIAL
        max_s = settings.jobs_trial_clip_s if on_trial else settings.jobs_clip_s
        options = JobOptions.model_validate_json(claim.options).options()

        def work() -> None:
            clip = _blurred_clip(service, claim.photo or b"", options, ended, max_s=max_s)
            if len(clip.data) > CLIP_GROWTH * settings.jobs_clip_mb * 1024**2:
                raise answer_too_long(CLIP_GROWTH * settings.jobs_clip_mb * 1024**2)
            height, width = clip.image_hw
            answer = ClipAnswer(
                width_px=width,
                height_px=height,
                frames=clip.frames,
                length_s=round(clip.length_s, 3),
                plates=clip.plates,
                notes=list(clip.notes),
                predictions_counted=clip.frames,
            )
            found = answer.model_dump_json().encode()
            result = ItemResult(clip.data, CLIP_TYPE, found, clip.frames)
            if self._queue.finish(claim, plan, result):
                service.metrics.predictions.inc(clip.frames)

        # Not in a photo's turn, which it would hold for minutes.
        await _until_done(asyncio.get_running_loop().run_in_executor(None, work), ended)

    async def _fail(self, claim: Claim, failure: Failure) -> None:
        reference = f"{claim.item_id:016x}"
        LOG.info(
            "photo of a job failed",
            extra={
                "fields": {
                    "reference": reference,
                    "cd": failure.cd,
                    "account": claim.account_id,
                }
            },
        )
        error = describe(failure, reference=reference)

        def fail(claim: Claim) -> None:
            self._queue.fail(claim, cd=failure.cd, error=error)

        await self._note(fail, claim)

    async def _note(self, note: Callable[[Claim], None], claim: Claim) -> None:
        try:
            await to_thread.run_sync(note, claim)
        except PlateblurError as error:
            await _rest_after(error)

    async def _renewals(self) -> None:
        while True:
            await asyncio.sleep(RENEW_S)
            tokens = list(self._in_work)
            if not tokens:
                continue
            try:
                held = await to_thread.run_sync(self._queue.renew, tokens)
            except PlateblurError as error:
                await _rest_after(error)
                continue
            for token in set(tokens) - held:  # Its job was deleted.
                if ended := self._in_work.get(token):
                    ended.set()

    async def _webhooks(self) -> None:
        """Call receivers, one of each account at a time: slow ones delay no other account."""
        while True:
            due = None
            try:
                async with self._choosing:
                    choose = partial(self._queue.due_webhook, passing_over=set(self._called))
                    due = await to_thread.run_sync(choose)
                    if due is None:
                        await asyncio.sleep(POLL_S)
                        continue
                    self._called.add(due.account_id)
                body = message(due, public_url=self._service.settings.public_url.rstrip("/"))
                headers = signed_headers(due, body, now=self._service.now())
                status: int | None = None
                try:
                    status = await self._service.fetcher.post(due.webhook.url, body, headers)
                except FetchError as error:
                    forget(error)
                note = partial(self._queue.note_webhook, due, status=status)
                await to_thread.run_sync(note)
            except PlateblurError as error:
                await _rest_after(error)
            except Exception as error:  # noqa: BLE001 - the other webhooks go on whatever it was
                _log_unexpected(error)
                await asyncio.sleep(BROKEN_S)
            finally:
                if due is not None:
                    self._called.discard(due.account_id)


async def _until_done(working: asyncio.Future[DoneT], ended: threading.Event) -> DoneT:
    """Return what a thread works on; where this is cancelled, end that first."""
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        ended.set()  # Ends the worker process, so this is soon.
        with suppress(PlateblurError, Failure, ClientGoneError):
            await working
        raise


def _blurred_clip(
    service: Service, data: bytes, options: BlurOptions, ended: threading.Event, *, max_s: float
) -> EncodedClip:
    """Return the blurred clip.

    Raises:
        Failure: 2001.
        ClientGoneError: `ended` was set.
    """
    if service.blur_clip is None:
        raise Failure("2001", "Clips aren't accepted here.")
    try:
        return service.blur_clip(data, options, ended, max_s=max_s)
    except WorkEndedError as error:
        raise ClientGoneError from error
    except TooCostlyError as error:
        raise Failure("2001", "The clip takes more time or memory than one clip may take.") from (
            error
        )
    except VideoError as error:
        raise Failure("2001", f"The clip can't be blurred: {error}.") from error
    except PlateblurError as error:
        raise Failure("2001", "The clip could not be blurred.") from error


def _refuse_used_up(plan: PlanPeriod, usage: Usage) -> None:
    """Raise where a plan has nothing left.

    Raises:
        QuotaError: it hasn't.
    """
    if plan.kind is PlanKind.TRIAL:
        if usage.window_requests >= usage.window_limit:
            raise DailyQuotaError("the day's requests are used up")
    elif usage.predictions_limit is not None and usage.predictions >= usage.predictions_limit:
        raise PaidQuotaError("the month's predictions are used up")


def _log_unexpected(error: Exception) -> None:
    """Log what and where it was, not its message, because it could contain anything."""
    where = where_raised(error)
    LOG.error(
        "unexpected error in a job",
        extra={"fields": {"error": type(error).__name__, "where": where}},
    )
    forget(error)


async def _rest_after(error: PlateblurError) -> None:
    LOG.warning(
        "work on jobs failed, will be retried", extra={"fields": {"error": type(error).__name__}}
    )
    forget(error)
    await asyncio.sleep(BROKEN_S)
