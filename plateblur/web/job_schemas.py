"""The models of `/v1/jobs`."""

from __future__ import annotations

import base64
import binascii
from datetime import datetime
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, field_validator

from plateblur.accounts.job_types import ItemState, ItemView, JobState, JobView, WebhookState
from plateblur.web.fetcher import MAX_URL_CHARS
from plateblur.web.schemas import DetectAnswer, HideOptions

CLIP_TYPE = "video/mp4"  # what clips become


class JobOptions(HideOptions):
    """How to blur the photos of a job, and whom to tell that it is done."""

    webhook_url: str | None = Field(
        None,
        max_length=MAX_URL_CHARS,
        description="Public http or https URL that is called when the job is done.",
        json_schema_extra={"examples": ["https://example.com/plateblur"]},
    )
    webhook_secret: str | None = Field(
        None,
        pattern="^whsec_[A-Za-z0-9+/]{32,86}={0,2}$",
        description="Signs the call: whsec_ and 24 to 64 bytes in base64. By default, the service "
        "makes one and returns it once.",
    )

    @field_validator("webhook_secret")
    @classmethod
    def _require_base64(cls, secret: str | None) -> str | None:
        if secret is not None:
            try:
                base64.b64decode(secret.partition("_")[2], validate=True)
            except binascii.Error as error:
                raise ValueError("must be whsec_ and base64 with its padding") from error
        return secret


class JobRequest(JobOptions):
    """Photos by URL, and how to blur them."""

    photo_urls: list[Annotated[str, Field(max_length=MAX_URL_CHARS)]] = Field(
        min_length=1,
        description="Public http or https URLs of the photos. Each is fetched when its turn comes.",
        json_schema_extra={
            "examples": [["https://example.com/1.jpg", "https://example.com/2.jpg"]]
        },
    )


class JobAccepted(BaseModel):
    """A job that was accepted."""

    id: str
    url: str = Field(description="Where its progress is.")
    photos: int
    webhook_secret: str | None = Field(
        None, description="Signs the call of your webhook_url; it isn't shown again."
    )


class ClipAnswer(BaseModel):
    """What was hidden in a clip."""

    width_px: int
    height_px: int
    frames: int = Field(description="Frames that were searched.")
    length_s: float
    plates: int = Field(description="Plates that were followed and hidden.")
    notes: list[str] = Field(description="What was left out or converted.")
    predictions_counted: int = Field(description="What the plan counts: one for each frame.")


class JobPhoto(BaseModel):
    """A photo or clip of a job."""

    number: int = Field(description="Its place in the job, from 1.")
    name: str = Field(description="The file's name, or the URL.")
    status: ItemState = Field(
        description="done: the result can be fetched. fetched: it was, and is deleted."
    )
    result_url: str | None = Field(None, description="Where the blurred photo or clip is, once.")
    cd: str | None = Field(None, description="The error code, if it failed.")
    error: str | None = Field(None, description="Why it failed. It isn't counted.")
    detections: DetectAnswer | None = Field(
        None, description="What was found in a photo, once it is done."
    )
    clip: ClipAnswer | None = Field(None, description="What was found in a clip, once it is done.")


class JobWebhook(BaseModel):
    """Whether your webhook was called."""

    status: WebhookState
    attempts: int
    last_status: int | None = Field(
        None, description="The HTTP status of the last answer; null if there was none."
    )


class JobAnswer(BaseModel):
    """A job and its photos."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "5e884898da28047151d0e56f8dc62927",
                    "status": "working",
                    "created": "2026-05-02T12:28:09Z",
                    "finished": None,
                    "expires": "2026-05-03T12:28:09Z",
                    "counts": {"waiting": 1, "done": 1},
                    "photos": [
                        {
                            "number": 1,
                            "name": "street.jpg",
                            "status": "done",
                            "result_url": "/v1/jobs/5e884898da28047151d0e56f8dc62927/photos/1",
                        },
                        {"number": 2, "name": "corner.jpg", "status": "waiting"},
                    ],
                    "webhook": {"status": "waiting", "attempts": 0},
                }
            ]
        }
    )

    id: str
    status: JobState
    created: datetime
    finished: datetime | None
    expires: datetime = Field(description="When the job and its results are deleted.")
    counts: dict[ItemState, int] = Field(description="Number of photos by status.")
    photos: list[JobPhoto]
    webhook: JobWebhook


class JobList(BaseModel):
    """The ids of your jobs, newest first."""

    jobs: list[str]


def job_path(job_id: str) -> str:
    """Return the path of a job."""
    return f"/v1/jobs/{job_id}"


def job_answer(view: JobView) -> JobAnswer:
    """Return a job as its owner sees it."""
    states = [one.state for one in view.items]
    return JobAnswer(
        id=view.job_id,
        status=view.state,
        created=view.created_at,
        finished=view.finished_at,
        expires=view.expires_at,
        counts={state: states.count(state) for state in ItemState if state in states},
        photos=[
            JobPhoto(
                number=one.number,
                name=one.name,
                status=one.state,
                result_url=(
                    f"{job_path(view.job_id)}/photos/{one.number}"
                    if one.state is ItemState.DONE
                    else None
                ),
                cd=one.cd,
                error=one.error,
                detections=_found(one, DetectAnswer, is_clip=False),
                clip=_found(one, ClipAnswer, is_clip=True),
            )
            for one in view.items
        ],
        webhook=JobWebhook(
            status=view.webhook,
            attempts=view.webhook_attempts,
            last_status=view.webhook_status,
        ),
    )


FoundT = TypeVar("FoundT", bound=BaseModel)


def _found(one: ItemView, kind: type[FoundT], *, is_clip: bool) -> FoundT | None:
    """Return what was found, if it is a photo, or a clip, as asked."""
    if one.answer is None or (one.media_type == CLIP_TYPE) is not is_clip:
        return None
    return kind.model_validate_json(one.answer)
