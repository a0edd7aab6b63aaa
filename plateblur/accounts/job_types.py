"""Jobs as the web part knows them: photos that are blurred later, their results, and webhooks.

A job goes: `begin` -> `add` photos -> `open` -> (workers `claim` a few photos each, and `finish`
or `fail` them) -> the results are fetched, each once -> `prune` deletes what has expired. Whatever
waits is encrypted with the job's own key.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from plateblur.accounts.types import Once, PlanPeriod, RequestRefusedError


class JobState(StrEnum):
    """How far a job is."""

    RECEIVING = "receiving"
    WORKING = "working"
    DONE = "done"


class ItemState(StrEnum):
    """How far a photo of a job is."""

    WAITING = "waiting"
    WORKING = "working"
    DONE = "done"
    FAILED = "failed"
    FETCHED = "fetched"


class WebhookState(StrEnum):
    """Whether the webhook was called about the job's end."""

    NONE = "none"
    WAITING = "waiting"
    DELIVERED = "delivered"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class JobLimits:
    """How much may wait.

    Attributes:
        jobs: of one account.
        photos: of one job.
        account_bytes: photos and results of one account.
        all_bytes: of all accounts.
        keep: how long a job and its results are kept.
    """

    jobs: int
    photos: int
    account_bytes: int
    all_bytes: int
    keep: timedelta


@dataclass(frozen=True, slots=True)
class Webhook:
    """Whom to tell that a job is done.

    Attributes:
        url: as the client sent it.
        secret: signs what is sent; `whsec_` and base64.
    """

    url: str
    secret: str


@dataclass(frozen=True, slots=True)
class NewItem:
    """A photo or clip to be blurred.

    Attributes:
        name: of the file, or its URL.
        photo: encoded; None if it is to be fetched.
        url: where it is; None if it came.
        error: why it can't be blurred; such a photo has failed from the beginning.
        media_type: what it becomes, if it is a clip; None for a photo.
    """

    name: str
    photo: bytes | None = None
    url: str | None = None
    error: str | None = None
    media_type: str | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """A photo or clip that this worker is to blur.

    Attributes:
        item_id: the store's row.
        token: what `finish` shows, so that only the newest claim counts; photos that were claimed
            together have the same.
        account_id: whose.
        options: of the job, as it was begun.
        photo: encoded; None if it is to be fetched.
        url: where it is.
        media_type: what it becomes, if it is a clip; None for a photo.
    """

    item_id: int
    token: str
    account_id: int
    options: bytes
    photo: bytes | None
    url: str | None
    media_type: str | None = None


@dataclass(frozen=True, slots=True)
class ItemResult:
    """A blurred photo or clip.

    Attributes:
        photo: encoded.
        media_type: of it.
        answer: what was found in it, JSON.
        predictions: that count.
    """

    photo: bytes
    media_type: str
    answer: bytes
    predictions: int


@dataclass(frozen=True, slots=True)
class ResultView:
    """A result that can be fetched.

    Attributes:
        number: its place in the job, from 1.
        media_type: of it.
        size: in bytes.
    """

    number: int
    media_type: str
    size: int


@dataclass(frozen=True, slots=True)
class ItemView:
    """A photo of a job, as its owner may see it.

    Attributes:
        number: its place in the job, from 1.
        name: of the file, or its URL.
        state: how far it is.
        cd: the error's code, where it failed.
        error: its description.
        answer: what was found in it, JSON; None before it is done.
        media_type: of what it becomes; None for a photo that isn't done.
    """

    number: int
    name: str
    state: ItemState
    cd: str | None
    error: str | None
    answer: bytes | None
    media_type: str | None


@dataclass(frozen=True, slots=True)
class JobView:
    """A job, as its owner may see it."""

    job_id: str
    state: JobState
    created_at: datetime
    finished_at: datetime | None
    expires_at: datetime
    items: tuple[ItemView, ...]
    webhook: WebhookState
    webhook_attempts: int
    webhook_status: int | None


@dataclass(frozen=True, slots=True)
class DueWebhook:
    """A message that is to be sent now.

    Attributes:
        job_id: of the job that is done.
        account_id: whose it is.
        attempt: from 1.
        webhook: whom to tell.
        created_at: when the job was begun.
        finished_at: when its last photo was done.
        expires_at: when its results are deleted.
        counts: photos by state.
    """

    job_id: str
    account_id: int
    attempt: int
    webhook: Webhook
    created_at: datetime
    finished_at: datetime
    expires_at: datetime
    counts: dict[str, int]


class JobLimitError(RequestRefusedError):
    """The account, or the service, has no room for more."""


class JobStore(Protocol):
    """Keeps jobs. Thread-safe; several processes and hosts may share one."""

    def begin(self, account_id: int, *, room_bytes: int) -> str:
        """Return the id of a new job, for which room is held.

        Raises:
            JobLimitError: there is none.
        """
        ...

    def add(self, job_id: str, items: Sequence[NewItem]) -> None:
        """Add at least one photo to a job that isn't open yet: all of them or none.

        Raises:
            JobLimitError: it has more photos than it may have, or more bytes than it has room.
        """
        ...

    def open(
        self, job_id: str, *, options: bytes, webhook: Webhook | None, once: Once | None
    ) -> str:
        """Let the workers begin, and return the id: of an earlier job if this one repeats it.

        Args:
            job_id: from `begin`.
            options: for the blur, as each claim has them.
            webhook: whom to tell that it is done.
            once: makes a repeated request the same job.

        Raises:
            OtherRequestError: the idempotency key belongs to another job; this one is deleted.
        """
        ...

    def delete(self, account_id: int, job_id: str) -> None:
        """Stop a job, and delete everything of it; what was done stays counted.

        Raises:
            NotFoundError: not in this account.
        """
        ...

    def view(self, account_id: int, job_id: str) -> JobView:
        """Return a job.

        Raises:
            NotFoundError: not in this account.
        """
        ...

    def jobs_of(self, account_id: int) -> list[str]:
        """Return the ids of an account's jobs, newest first."""
        ...

    def result_bytes(self, account_id: int, job_id: str, number: int) -> int:
        """Return how long the blurred photo with this number is; raises as `result`."""
        ...

    def result(self, account_id: int, job_id: str, number: int) -> ItemResult:
        """Return the blurred photo with this number.

        Raises:
            NotFoundError: no such job or photo, not done, failed, or fetched before.
        """
        ...

    def results(self, account_id: int, job_id: str) -> list[ResultView]:
        """Return what can be fetched of a job now, by number.

        Raises:
            NotFoundError: no such job, or nothing to fetch.
        """
        ...

    def forget_results(self, account_id: int, job_id: str, numbers: Sequence[int]) -> None:
        """Delete blurred photos that were fetched."""
        ...


class JobQueue(Protocol):
    """Gives photos to workers, and takes what they became; thread-safe, and shared like jobs."""

    def claim(self, *, most: int = 1, clips: bool = False) -> list[Claim]:
        """Return the next photos to blur, of one job of the account that has waited longest.

        Args:
            most: photos. Fewer come where they are large: one that is long, that is to be fetched,
                or that was begun before comes alone.
            clips: return a clip instead; each takes minutes, so photos don't wait behind them.
        """
        ...

    def renew(self, tokens: list[str]) -> set[str]:
        """Keep claims from running out, and return the tokens of those that still hold."""
        ...

    def finish(self, plan: PlanPeriod, done: Sequence[tuple[Claim, ItemResult]]) -> list[bool]:
        """Keep results and count their photos, in one transaction; return which still count.

        Args:
            plan: what they count on.
            done: at least one; claimed together.

        Raises:
            QuotaError: the plan has no room for all of them; nothing was kept or counted.
            JobLimitError: the account has no room for all the results; the same.
        """
        ...

    def fail(self, claim: Claim, *, cd: str, error: str) -> None:
        """Note that the photo can't be blurred; it isn't counted."""
        ...

    def put_back(self, claim: Claim) -> None:
        """Let another worker have the photo."""
        ...

    def due_webhook(self, *, passing_over: Set[int] = frozenset()) -> DueWebhook | None:
        """Return a message to send; it is due again if nothing is noted of it in a minute.

        Args:
            passing_over: accounts of which none is wanted.
        """
        ...

    def note_webhook(self, due: DueWebhook, *, status: int | None) -> None:
        """Note how the receiver answered; None where it didn't."""
        ...
