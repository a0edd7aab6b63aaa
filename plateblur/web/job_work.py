"""The work on jobs inside the service: photos are blurred, and webhooks called, as they become due.

Each process of the service takes part, on one host or several. It claims a few small photos of a
job together, and keeps their results together, because a transaction costs about as much for one as
for eight. A photo of a job waits for its turn among the photos of requests, so that an account with
many of them makes nobody wait. A clip takes minutes, so each process does one at a time beside the
photos.
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

CLAIM_PHOTOS = (
    8  # Together, if they are small: half a second of work. Source: ours, benchmarks/jobs.py.
)
KEEP_AFTER_S = 1.0  # The first result waits no longer for those of the photos claimed with it.
KEEP_BYTES = 8 * 1024**2  # Results in memory that wait for others.
POLL_S = 1.0  # Other processes' jobs are noticed as late; this process's own at once.
RENEW_S = 8.0  # A quarter of what a claim lasts.
WEBHOOKS_AT_ONCE = 16  # Source: ours; each may take as long as a photo by URL.
BROKEN_S = 5.0  # Until the store is asked again after a failure.
CLIP_GROWTH = 2  # A blurred clip may be so many times as long as the longest that is accepted.

Blurred = tuple[Claim, BlurredPhoto]
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
        self._at_hand = 0  # photos that were claimed and aren't blurred yet
        self._fewer = asyncio.Event()
        self._choosing = asyncio.Lock()
        self._called: set[int] = set()  # accounts whose receiver is being called
        self.news = asyncio.Event()

    async def run(self) -> None:
        """Work on whatever is due."""
        async with asyncio.TaskGroup() as group:
            loops = [self._photos(group), self._renewals()]
            if self._service.blur_clip is not None:
                loops.append(self._clips())
            loops += [self._webhooks() for _ in range(WEBHOOKS_AT_ONCE)]
            for loop in loops:
                group.create_task(loop)

    async def _photos(self, group: asyncio.TaskGroup) -> None:
        while True:
            # One more than are blurred at once, so that a photo is at hand when another is done.
            while self._at_hand > self._service.settings.blur_threads:
                self._fewer.clear()
                await self._fewer.wait()
            if found := await self._found(most=CLAIM_PHOTOS):
                self._at_hand += len(found[0])
                group.create_task(self._work_on(*found))

    async def _clips(self) -> None:
        while True:
            if found := await self._found(clips=True):
                await self._work_on(*found)

    async def _found(
        self, *, most: int = 1, clips: bool = False
    ) -> tuple[list[Claim], PlanPeriod] | None:
        """Return photos or a clip to work on; None after a rest, where there were none."""
        self.news.clear()
        try:
            found = await to_thread.run_sync(partial(self._next, most=most, clips=clips))
        except PlateblurError as error:
            await _rest_after(error)
            return None
        if found is None:
            with suppress(TimeoutError):
                await asyncio.wait_for(self.news.wait(), POLL_S)
            return None
        claims, plan = found
        if isinstance(plan, Exception):
            # Together, because what isn't the photos' fault ends in a rest.
            await asyncio.gather(*(self._note_error(plan, claim) for claim in claims))
            return None
        return claims, plan

    def _next(self, *, most: int, clips: bool) -> tuple[list[Claim], PlanPeriod | Exception] | None:
        """Claim photos or a clip; return them with their account's plan, or why it has none."""
        claims = self._queue.claim(most=most, clips=clips)
        if not claims:
            return None
        try:
            return claims, self._service.gate.active_plan(Identity(claims[0].account_id, ""))
        except Exception as error:  # noqa: BLE001 - noted of each photo
            return claims, error

    async def _work_on(self, claims: list[Claim], plan: PlanPeriod) -> None:
        token, ended = claims[0].token, threading.Event()
        self._in_work[token] = ended
        try:
            if claims[0].media_type is None:
                await self._blur_all(claims, plan, ended)
            else:
                await self._blur_clip(claims[0], plan, ended)
        except asyncio.CancelledError:
            for claim in claims:  # Those that were finished are past claiming.
                await asyncio.shield(to_thread.run_sync(self._queue.put_back, claim))
            raise
        finally:
            del self._in_work[token]

    async def _blur_all(
        self, claims: list[Claim], plan: PlanPeriod, ended: threading.Event
    ) -> None:
        """Blur the photos, and keep the results together, unless that makes one wait long."""
        clock = asyncio.get_running_loop().time
        pending = {asyncio.create_task(self._blur(claim, plan, ended)) for claim in claims}
        done: list[Blurred] = []
        keep_at = 0.0
        try:
            while pending or done:
                if done and (
                    not pending
                    or clock() >= keep_at
                    or sum(len(photo.data) for _, photo in done) >= KEEP_BYTES
                ):
                    await self._finish(done, plan, ended)
                    done = []
                    continue
                wait_s = max(0.0, keep_at - clock()) if done else None
                blurred, pending = await asyncio.wait(
                    pending, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED
                )
                keep_at = keep_at if done else clock() + KEEP_AFTER_S
                done += [one for task in blurred if (one := task.result()) is not None]
        except asyncio.CancelledError:
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)
            raise

    async def _blur(self, claim: Claim, plan: PlanPeriod, ended: threading.Event) -> Blurred | None:
        """Return a blurred photo; None where it failed, which is noted."""
        service = self._service
        try:
            limits, data = service.limits_of(plan), claim.photo
            if data is None:
                data = await self._fetched(claim, plan, most_bytes=limits.body_bytes)
            options = JobOptions.model_validate_json(claim.options).options()

            def blur(data: bytes) -> BlurredPhoto:
                photo = blurred(service, data, options, ended, max_pixels=limits.pixels)
                if len(photo.data) > limits.answer_bytes:
                    raise answer_too_long(limits.answer_bytes)
                return photo

            async with service.turns.take(claim.account_id):
                working = asyncio.get_running_loop().run_in_executor(service.threads, blur, data)
                return claim, await _until_done(working, ended)
        except Exception as error:  # noqa: BLE001 - the other photos go on whatever it was
            await self._note_error(error, claim)
            return None
        finally:
            self._at_hand -= 1
            self._fewer.set()

    async def _fetched(self, claim: Claim, plan: PlanPeriod, *, most_bytes: int) -> bytes:
        service, access = self._service, Access(Identity(claim.account_id, ""), plan)
        with service.spool(access, most_bytes=most_bytes) as spool:
            await fetch_photo(service, access, claim.url or "", spool, max_bytes=most_bytes)
            return await read_photo(spool)

    async def _finish(self, done: list[Blurred], plan: PlanPeriod, ended: threading.Event) -> None:
        """Keep results and count their photos; one by one where not all can be kept."""

        def finish() -> None:
            results = []
            for claim, photo in done:
                answer = detect_answer(photo, created=self._service.now()).model_dump_json()
                media_type, counted = MEDIA_TYPES[photo.format], photo.predictions_counted
                result = ItemResult(photo.data, media_type, answer.encode(), counted)
                results.append((claim, result))
            self._keep(plan, results)

        # Not in a turn, in which the next photo may be blurred meanwhile.
        working = asyncio.get_running_loop().run_in_executor(None, finish)
        try:
            await _until_done(working, ended)
        except Exception as error:  # noqa: BLE001 - the other photos go on whatever it was
            if len(done) == 1:
                await self._note_error(error, done[0][0])
                return
            forget(error)
            for one in done:
                await self._finish([one], plan, ended)

    def _keep(self, plan: PlanPeriod, results: list[tuple[Claim, ItemResult]]) -> None:
        """Keep results, and count the photos whose claims still hold."""
        still = self._queue.finish(plan, results)
        counted = [one.predictions for (_, one), held in zip(results, still, strict=True) if held]
        self._service.metrics.predictions.inc(sum(counted))

    async def _note_error(self, error: Exception, claim: Claim) -> None:
        """Note why a photo or clip wasn't blurred, or put it back where it isn't its fault."""
        forget(error)
        match error:
            case ClientGoneError():  # The workers have ended.
                await self._note(self._queue.put_back, claim)
            case Failure():
                await self._fail(claim, error)
            case AccessError() if error.cd in {"1009", "1012"}:
                await self._note(self._queue.put_back, claim)
                await asyncio.sleep(BROKEN_S)
            case AccessError():
                await self._fail(claim, Failure.of_access(error))
            case JobLimitError():
                await self._fail(claim, Failure("2001", str(error)))
            case PlateblurError():
                await _rest_after(error)  # The claim runs out.
            case _:
                _log_unexpected(error)
                unexpected = "Something unexpected happened on our side."
                await self._fail(claim, Failure("2001", unexpected))

    async def _blur_clip(self, claim: Claim, plan: PlanPeriod, ended: threading.Event) -> None:
        service, settings = self._service, self._service.settings

        def work() -> None:
            # Before minutes of work; `finish` decides.
            _refuse_used_up(plan, service.gate.usage(Identity(claim.account_id, ""), plan))
            on_trial = plan.kind is PlanKind.TRIAL
            max_s = settings.jobs_trial_clip_s if on_trial else settings.jobs_clip_s
            options = JobOptions.model_validate_json(claim.options).options()
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
            self._keep(plan, [(claim, ItemResult(clip.data, CLIP_TYPE, found, clip.frames))])

        # Not in a photo's turn, which it would hold for minutes.
        working = asyncio.get_running_loop().run_in_executor(None, work)
        try:
            await _until_done(working, ended)
        except Exception as error:  # noqa: BLE001 - the other clips go on whatever it was
            await self._note_error(error, claim)

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
