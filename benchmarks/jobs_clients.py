"""The clients of `benchmarks.jobs`: what they send, wait for, fetch, and saw."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import io
import json
import threading
import time
import uuid
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx

from benchmarks.service import PASSWORD, address_of

HOOK_KEY = bytes(range(32))
AHEAD = 2  # jobs that a client has under way
PATIENCE_S = 900.0
LOOK_AFTER_S = 10.0  # at a job whose webhook didn't come, because its host was killed
IDLE_S = 2.0  # after which a connection isn't used again; the service closes it after 5
FORM_TYPE = "multipart/form-data; boundary=boundary-of-the-benchmark"


@dataclass(frozen=True, slots=True)
class Plan:
    """What is done.

    Attributes:
        jobs: in all.
        photos: of each job.
        clip_every: of so many jobs, one has a clip beside its photos; 0 for none.
        clients: accounts, each with its share of the jobs.
        hosts: processes of the service.
        kills: whether hosts are killed.
    """

    jobs: int = 200
    photos: int = 20
    clip_every: int = 5
    clients: int = 8
    hosts: int = 2
    kills: bool = True

    @property
    def clips(self) -> int:
        """Return how many clips there are in all."""
        return sum(self.has_clip(number) for number in range(self.jobs))

    def has_clip(self, number: int) -> bool:
        """Return whether the job with this number, from 0, has a clip."""
        return self.clip_every > 0 and number % self.clip_every == 0


@dataclass
class Seen:
    """What the clients saw, and what the store says.

    Attributes:
        answers: how often each result was received whole, by job and number.
        clips: whole clips among them.
        predictions: that the jobs say were counted.
        failed: photos and clips that the service reported as failed.
        lost: results that were gone before they were received.
        webhooks: valid messages by job.
        unsigned: messages whose signature was wrong.
        reported: webhooks that a job reports as not delivered.
        repeats: requests that were sent again, because a host was gone.
        killed: hosts.
        counted: photos and clips on the accounts.
        counted_predictions: on the accounts.
        called: notified of each webhook.
        took_s: from the first job to the last result.
    """

    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    clips: int = 0
    predictions: int = 0
    failed: int = 0
    lost: int = 0
    webhooks: Counter[str] = field(default_factory=Counter)
    unsigned: int = 0
    reported: int = 0
    repeats: int = 0
    killed: int = 0
    counted: int = 0
    counted_predictions: int = 0
    took_s: float = 0.0
    called: threading.Condition = field(default_factory=threading.Condition)


@contextmanager
def receiver(seen: Seen) -> Iterator[int]:
    """Receive webhooks for the block, and check their signatures; yields the port."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            signed = f"{self.headers['webhook-id']}.{self.headers['webhook-timestamp']}.".encode()
            digest = hmac.digest(HOOK_KEY, signed + body, hashlib.sha256)
            right = f"v1,{base64.b64encode(digest).decode()}" == self.headers["webhook-signature"]
            with seen.called:
                if right:
                    seen.webhooks[json.loads(body)["data"]["id"]] += 1
                else:
                    seen.unsigned += 1
                seen.called.notify_all()
            self.send_response(204 if right else 400)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


def form(files: list[tuple[str, bytes]], *, hook_port: int) -> bytes:
    """Return the body that begins a job; made once, because it costs the same cores."""
    secret = "whsec_" + base64.b64encode(HOOK_KEY).decode()
    fields = {"webhook_url": f"http://127.0.0.1:{hook_port}/", "webhook_secret": secret}
    photos = [("photo", (filename, data)) for filename, data in files]
    request = httpx.Request(
        "POST", "http://127.0.0.1", headers={"Content-Type": FORM_TYPE}, data=fields, files=photos
    )
    return request.read()


def client(
    plan: Plan, seen: Seen, ports: list[int], number: int, forms: dict[bool, bytes]
) -> list[tuple[int, str]]:
    """Do this client's share of the jobs, and return them with its number."""
    open_jobs: list[str] = []
    done: list[tuple[int, str]] = []
    packed = not plan.kills or number % 2 == 0  # With kills, half of the clients fetch one by one.
    with closing(Asking(ports, number, seen, packed=packed)) as asking:
        for mine in range(number, plan.jobs, plan.clients):
            open_jobs.append(asking.begin(forms[plan.has_clip(mine)]))
            if len(open_jobs) > AHEAD:
                done.append((number, asking.fetch_all(open_jobs.pop(0))))
        done += [(number, asking.fetch_all(job)) for job in open_jobs]
    return done


@dataclass(frozen=True, slots=True)
class Answer:
    """What a host said."""

    status: int
    content: bytes

    def json(self) -> Any:
        """Return the content, parsed."""
        return json.loads(self.content)


class Asking:
    """A client of the API that tries again, at the other host, whatever breaks.

    With the standard library's connections, because the clients cost the same cores.
    """

    def __init__(self, ports: list[int], number: int, seen: Seen, *, packed: bool = True) -> None:
        self._connections = [
            http.client.HTTPConnection("127.0.0.1", port, timeout=120) for port in ports
        ]
        self._at, self._seen, self._packed = number, seen, packed
        self._used_s = 0.0
        login = base64.b64encode(f"{address_of(number)}:{PASSWORD}".encode()).decode()
        self._headers = {"Authorization": f"Basic {login}"}

    def close(self) -> None:
        """Close the connections."""
        for connection in self._connections:
            connection.close()

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        """Return an answer that is no failure of a host."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            connection = self._connections[self._at % len(self._connections)]
            if time.monotonic() - self._used_s > IDLE_S:
                connection.close()
            try:
                connection.request(method, path, body, self._headers | headers)
                response = connection.getresponse()
                answer = Answer(response.status, response.read())
                self._used_s = time.monotonic()
                if answer.status < 500 and answer.status not in (409, 429):
                    return answer
            except (OSError, http.client.HTTPException):
                connection.close()  # The next request opens it again.
                self._seen.repeats += 1
            if time.monotonic() > deadline:
                raise RuntimeError(f"expected an answer to {method} {path}, got none")
            self._at += 1
            time.sleep(0.3)

    def begin(self, body: bytes) -> str:
        """Return the id of a new job."""
        headers = {
            "Idempotency-Key": str(uuid.uuid4()),
            "Content-Type": FORM_TYPE,
        }
        answer = self.ask("POST", "/v1/jobs", body, **headers)
        if answer.status != HTTPStatus.ACCEPTED:
            raise RuntimeError(f"expected 202, got {answer.status} {answer.content[:200]!r}")
        return str(answer.json()["id"])

    def fetch_all(self, job_id: str) -> str:
        """Wait for a job, and fetch its results."""
        path = f"/v1/jobs/{job_id}"
        while True:
            with self._seen.called:
                self._seen.called.wait_for(lambda: self._seen.webhooks[job_id], LOOK_AFTER_S)
            job = self.ask("GET", path).json()
            if job["status"] == "done":
                break
        packed = self.ask("GET", f"{path}/results") if self._packed else None
        results = unpacked(packed.content) if packed else {}
        for one in job["photos"]:
            if one["status"] == "failed":
                self._seen.failed += 1
                continue
            number = one["number"]
            if packed is None:
                answer = self.ask("GET", f"{path}/photos/{number}")
                if answer.status == HTTPStatus.OK:
                    results[number] = answer.content
            with self._seen.called:
                found = one["clip"] or one["detections"]
                self._seen.predictions += found["predictions_counted"]
                if number not in results:
                    self._seen.lost += 1
                elif is_clip(results[number]) if one["clip"] else is_jpeg(results[number]):
                    self._seen.answers[job_id, number] += 1
                    self._seen.clips += one["clip"] is not None
        return job_id


def unpacked(data: bytes) -> dict[int, bytes]:
    """Return the results in a ZIP by number; none where something else came."""
    if not zipfile.is_zipfile(io.BytesIO(data)):
        return {}
    with zipfile.ZipFile(io.BytesIO(data)) as packed:
        return {int(name.partition(".")[0]): packed.read(name) for name in packed.namelist()}


def is_clip(data: bytes) -> bool:
    """Return whether an MP4 came."""
    return data[4:8] == b"ftyp"


def is_jpeg(data: bytes) -> bool:
    """Return whether a JPEG came, whole."""
    return data.startswith(b"\xff\xd8") and data.endswith(b"\xff\xd9")
