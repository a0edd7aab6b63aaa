"""The work on jobs inside the service: photos are blurred, and webhooks called, as they become due.

Each process of the service takes part, on one host or several. A photo of a job waits for its turn
among the photos of requests, so that an account with many of them makes nobody wait.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from anyio import to_thread

from plateblur.accounts.job_types import Claim, ItemResult, JobLimitError, JobQueue
from plateblur.accounts.types import AccessError, Identity
from plateblur.errors import PlateblurError
from plateblur.web.credentials import Access
from plateblur.web.failures import (
    ClientGoneError,
    Failure,
    answer_too_long,
    describe,
    forget,
)
from plateblur.web.fetcher import FetchError
from plateblur.web.job_schemas import JobOptions
from plateblur.web.logs import where_raised
from plateblur.web.schemas import MEDIA_TYPES, detect_answer
from plateblur.web.service import Service, blurred, fetch_photo, read_photo
from plateblur.web.webhooks import message, signed_headers

LOG = logging.getLogger("plateblur.web")

POLL_S = 1.0  # Other processes' jobs are noticed as late; this process's own at once.
RENEW_S = 8.0  # A quarter of what a claim lasts.
BROKEN_S = 5.0  # Until the store is asked again after a failure.


class JobWork:
    """Runs until it is cancelled.

    Attributes:
        news: set when this process has opened a job.
    """

    def __init__(self, service: Service, queue: JobQueue) -> None:
        self._service = service
        self._queue = queue
        self._ended = threading.Event()
        self._claims: dict[str, Claim] = {}
        self.news = asyncio.Event()

    async def run(self) -> None:
        """Work on whatever is due."""
        # One more than are blurred at once, so that a photo is at hand when another is done.
        loops = [self._photos() for _ in range(self._service.settings.blur_threads + 1)]
        try:
            async with asyncio.TaskGroup() as group:
                for loop in (*loops, self._webhooks(), self._renewals()):
                    group.create_task(loop)
        finally:
            self._ended.set()

    async def _photos(self) -> None:
        while True:
            try:
                claim = await to_thread.run_sync(self._queue.claim)
            except PlateblurError as error:
                await _rest_after(error)
                continue
            if claim is None:
                self.news.clear()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self.news.wait(), POLL_S)
                continue
            self._claims[claim.token] = claim
            try:
                await self._work_on(claim)
            finally:
                del self._claims[claim.token]

    async def _work_on(self, claim: Claim) -> None:
        try:
            await self._blur(claim)
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

    async def _blur(self, claim: Claim) -> None:
        service, holder = self._service, claim.account_id
        identity = Identity(claim.account_id, "")
        plan = await to_thread.run_sync(service.gate.active_plan, identity)
        limits = service.limits_of(plan)
        data = claim.photo
        if data is None:
            access = Access(identity, plan)
            with service.spool(access, most_bytes=limits.body_bytes) as spool:
                most = limits.body_bytes
                await fetch_photo(service, access, claim.url or "", spool, max_bytes=most)
                data = await read_photo(spool)
        options = JobOptions.model_validate_json(claim.options).options()

        def work(data: bytes) -> bool:
            photo = blurred(service, data, options, self._ended, max_pixels=limits.pixels)
            if len(photo.data) > limits.answer_bytes:
                raise answer_too_long(limits.answer_bytes)
            answer = detect_answer(photo, created=service.now()).model_dump_json().encode()
            media_type, counted = MEDIA_TYPES[photo.format], photo.predictions_counted
            result = ItemResult(photo.data, media_type, answer, counted)
            if not self._queue.finish(claim, plan, result):
                return False
            service.metrics.predictions.inc(counted)
            return True

        async with service.turns.take(holder):
            working = asyncio.get_running_loop().run_in_executor(service.threads, work, data)
            try:
                await asyncio.shield(working)
            except asyncio.CancelledError:
                self._ended.set()  # Ends the worker process, so this is soon.
                with suppress(PlateblurError, Failure, ClientGoneError):
                    await working
                raise

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
            if self._claims:
                try:
                    await to_thread.run_sync(self._queue.renew, list(self._claims))
                except PlateblurError as error:
                    await _rest_after(error)

    async def _webhooks(self) -> None:
        while True:
            try:
                due = await to_thread.run_sync(self._queue.due_webhook)
                if due is None:
                    await asyncio.sleep(POLL_S)
                    continue
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
