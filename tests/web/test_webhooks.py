"""The signed message that a job is done, checked as a receiver that read the standard would."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta

from plateblur.accounts.job_types import DueWebhook, Webhook
from plateblur.web.webhooks import message, new_secret, signed_headers

FINISHED = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)
KEY = bytes(range(32))
DUE = DueWebhook(
    job_id="job1",
    account_id=1,
    attempt=1,
    webhook=Webhook("https://example.com/done", "whsec_" + base64.b64encode(KEY).decode()),
    created_at=FINISHED - timedelta(minutes=5),
    finished_at=FINISHED,
    expires_at=FINISHED + timedelta(days=1),
    counts={"done": 19, "failed": 1},
)


def test_a_receiver_can_check_who_sent_it() -> None:
    """Source: Standard Webhooks 1.0.0, "Signature scheme"."""
    body = message(DUE, public_url="https://plates.example")
    headers = signed_headers(DUE, body, now=FINISHED + timedelta(seconds=2.9))
    assert headers["webhook-id"] == "msg_job1"
    assert headers["webhook-timestamp"] == str(int(FINISHED.timestamp()) + 2)
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.{body.decode()}".encode()
    expected = hmac.new(KEY, signed, hashlib.sha256).digest()
    version, _, signature = headers["webhook-signature"].partition(",")
    assert version == "v1"
    assert base64.b64decode(signature) == expected
    assert headers["Content-Type"] == "application/json"


def test_it_says_what_is_done_and_where_to_look() -> None:
    told = json.loads(message(DUE, public_url="https://plates.example"))
    assert told == {
        "type": "job.finished",
        "timestamp": "2026-11-27T12:00:00Z",
        "data": {
            "id": "job1",
            "url": "https://plates.example/v1/jobs/job1",
            "created": "2026-11-27T11:55:00Z",
            "expires": "2026-11-28T12:00:00Z",
            "counts": {"done": 19, "failed": 1},
        },
    }


def test_every_secret_is_another_of_32_bytes() -> None:
    secrets = {new_secret() for _ in range(3)}
    assert len(secrets) == 3
    assert all(one.startswith("whsec_") for one in secrets)
    assert all(len(base64.b64decode(one.removeprefix("whsec_"))) == 32 for one in secrets)
