"""The message that a job is done, signed as Standard Webhooks (1.0.0) describes."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from datetime import datetime

import orjson

from plateblur.accounts.job_types import DueWebhook
from plateblur.web.job_schemas import job_path

SECRET_PREFIX = "whsec_"  # noqa: S105 - Source: Standard Webhooks, as is all that follows.
SECRET_BYTES = 32
EVENT = "job.finished"


def new_secret() -> str:
    """Return a new signing secret."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def message(due: DueWebhook, *, public_url: str) -> bytes:
    """Return the body: what happened, and where to look; no name, URL or photo."""
    return orjson.dumps(
        {
            "type": EVENT,
            "timestamp": due.finished_at,
            "data": {
                "id": due.job_id,
                "url": public_url + job_path(due.job_id),
                "created": due.created_at,
                "expires": due.expires_at,
                "counts": due.counts,
            },
        },
        option=orjson.OPT_UTC_Z,
    )


def signed_headers(due: DueWebhook, body: bytes, *, now: datetime) -> dict[str, str]:
    """Return the headers of one attempt; the id is the same in all of them."""
    message_id, timestamp = f"msg_{due.job_id}", str(int(now.timestamp()))
    key = base64.b64decode(due.webhook.secret.removeprefix(SECRET_PREFIX))
    signed = b".".join((message_id.encode(), timestamp.encode(), body))
    signature = base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
    return {
        "Content-Type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": f"v1,{signature}",
    }
