"""`/v1/jobs` with a real store: what is taken, worked on, told, fetched once, and refused."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import io
import json
import os
import shutil
import struct
import threading
import time
import zipfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from anyio import to_thread
from fastapi import FastAPI
from sqlalchemy import select, update

from plateblur.accounts.gate import StoreGate
from plateblur.accounts.job_queue import StoreQueue
from plateblur.accounts.job_types import Claim, ItemResult, ItemState
from plateblur.accounts.jobs import StoreJobs
from plateblur.accounts.models import JobItem, PackageMonth
from plateblur.accounts.quota import utc_now
from plateblur.accounts.store import Store, StoreUnavailableError
from plateblur.accounts.types import PREDICTIONS_PER_MONTH, Identity, PlanKind, PlanPeriod
from plateblur.errors import PhotoDecodeError, TooCostlyError, VideoError, WorkEndedError
from plateblur.photo import decode
from plateblur.serving import ClipWorker, job_limits
from plateblur.types import BlurOptions, BlurredPhoto, EncodedClip
from plateblur.web import Settings, create_app
from plateblur.web.failures import ClientGoneError
from plateblur.web.fetcher import PhotoFetcher
from plateblur.web.job_forms import MAX_ZIP_ENTRIES
from plateblur.web.job_work import JobWork
from plateblur.web.service import BlurClip
from tests.accounts.fakes import EMAIL, PASSWORD, SECRET, CountingHasher, make_account
from tests.clips import drawn_clip, driving, frames_of
from tests.web.fakes import CONFIDENCES, FakeBlur, basic, photo_bytes
from tests.web.test_fetcher import attacker, fetcher_to, ok, sending

pytestmark = [pytest.mark.anyio, pytest.mark.slow]  # each starts a service

PHOTO, OTHER = photo_bytes(), photo_bytes("PNG", size_wh=(80, 48))
WAIT_S = 300
ANA = {"Authorization": basic(EMAIL, PASSWORD)}
ION = {"Authorization": basic("ion@plates.io", PASSWORD)}


@dataclass
class Stand:
    blur: FakeBlur
    store: Store
    app: FastAPI
    client: httpx.AsyncClient
    ana: Identity

    async def begin(self, **content: Any) -> dict[str, Any]:
        answer = await self.client.post("/v1/jobs", headers=ANA, **content)
        assert answer.status_code == 202, answer.text
        told: dict[str, Any] = answer.json()
        assert answer.headers["location"] == told["url"] == f"/v1/jobs/{told['id']}"
        return told

    async def done(self, told: dict[str, Any]) -> dict[str, Any]:
        return await until(self.client, told["url"], lambda job: job["status"] == "done")

    def counted(self) -> tuple[int, int]:
        from plateblur.accounts.quota import days_of_use

        days = days_of_use(self.store, self.ana.account_id, since=utc_now().date())
        return sum(one.requests for one in days), sum(one.predictions for one in days)


async def until(
    client: httpx.AsyncClient, path: str, condition: Callable[[dict[str, Any]], bool]
) -> dict[str, Any]:
    deadline = time.monotonic() + WAIT_S
    while True:
        job: dict[str, Any] = (await client.get(path, headers=ANA)).json()
        if condition(job):
            return job
        assert time.monotonic() < deadline, job
        await asyncio.sleep(0.05)


Make = Callable[..., Any]


@pytest.fixture
def made(tmp_path: Path, empty_sqlite: Path) -> Make:
    """Make a stand whose service works on jobs, for the block."""

    @asynccontextmanager
    async def make(
        *,
        blur: FakeBlur | None = None,
        fetcher: PhotoFetcher | None = None,
        blur_clip: BlurClip | None = None,
        **settings: Any,
    ) -> AsyncIterator[Stand]:
        shutil.copy(empty_sqlite, tmp_path)
        store = Store(f"sqlite:///{tmp_path}/accounts.sqlite3", secret=SECRET)
        now = utc_now()
        ana = make_account(store, plan=PlanKind.MONTHLY, now=now)
        make_account(store, plan=PlanKind.MONTHLY, email="ion@plates.io", now=now)
        asked = Settings(data_dir=tmp_path, public_url="https://plateblur.test", **settings)
        limits = job_limits(asked)
        blur = blur or FakeBlur()
        app = create_app(
            blur,
            StoreGate(store, hasher=CountingHasher()),
            asked,
            fetcher=fetcher,
            jobs=(StoreJobs(store, limits), StoreQueue(store, limits)),
            blur_clip=blur_clip,
        )
        transport = httpx.ASGITransport(app=app, client=("198.51.100.7", 4711))
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://plateblur.test") as client,
        ):
            yield Stand(blur, store, app, client, ana)
        store.close()

    return make


def files(*photos: bytes) -> list[tuple[str, tuple[str, bytes]]]:
    return [("photo", (f"street {n}.jpg", photo)) for n, photo in enumerate(photos, 1)]


def zip_of(entries: dict[str, bytes], *, how: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", how) as opened:
        for name, data in entries.items():
            opened.writestr(name, data)
    return out.getvalue()


# --- What is done --------------------------------------------------------------------------------


async def test_photos_of_a_form_are_blurred_and_fetched_once(made: Make) -> None:
    async with made() as stand:
        data = {"method": "solid", "min_confidence": "0.3"}
        told = await stand.begin(files=files(PHOTO, OTHER), data=data)
        assert told["photos"] == 2
        job = await stand.done(told)
        assert job["counts"] == {"done": 2}
        assert [one["name"] for one in job["photos"]] == ["street 1.jpg", "street 2.jpg"]
        assert job["photos"][1]["detections"]["width_px"] == 80
        assert len(job["photos"][0]["detections"]["detections"]) == 2
        assert stand.blur.asked == [BlurOptions(method="solid", min_confidence=0.3)] * 2
        assert stand.counted() == (2, 10)
        for one, kind in zip(job["photos"], ("image/jpeg", "image/png"), strict=True):
            result = await stand.client.get(one["result_url"], headers=ANA)
            assert result.status_code == 200
            assert result.headers["content-type"] == kind
            again = await stand.client.get(one["result_url"], headers=ANA)
            assert again.status_code == 404
            assert again.headers["content-type"] == "application/problem+json"
        job = await stand.done(told)
        assert job["counts"] == {"fetched": 2}
        assert job["photos"][0]["detections"]["width_px"] == 64
        assert stand.app.state.service.answers.taken == 0


async def test_all_results_are_fetched_in_one_zip_once(made: Make) -> None:
    async with made() as stand:
        told = await stand.begin(files=files(PHOTO, OTHER, PHOTO))
        await stand.done(told)
        path = told["url"] + "/results"
        first = await stand.client.get(told["url"] + "/photos/3", headers=ANA)
        assert (await stand.client.get(path, headers=ION)).status_code == 404
        answer = await stand.client.get(path, headers=ANA)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/zip")
        assert "content-length" not in answer.headers
        with zipfile.ZipFile(io.BytesIO(answer.content)) as packed:
            assert packed.testzip() is None
            assert packed.namelist() == ["1.jpg", "2.png"]
            # Sizes and checksums come first, for programs that unpack what still arrives.
            assert [entry.flag_bits & 0x08 for entry in packed.infolist()] == [0, 0]
            assert packed.read("1.jpg") == first.content
            assert decode(packed.read("2.png")).format == "PNG"
        again = await stand.client.get(path, headers=ANA)
        assert again.status_code == 404
        assert again.headers["content-type"] == "application/problem+json"
        assert (await stand.done(told))["counts"] == {"fetched": 3}
        assert stand.app.state.service.answers.taken == 0


@pytest.mark.parametrize("path", ["/photos/1", "/results"])
async def test_whoever_asks_for_the_headers_only_loses_no_result(made: Make, path: str) -> None:
    async with made() as stand:
        told = await stand.begin(files=files(PHOTO))
        await stand.done(told)
        head = await stand.client.head(told["url"] + path, headers=ANA)
        assert (head.status_code, head.content) == (200, b"")
        answer = await stand.client.get(told["url"] + path, headers=ANA)
        assert answer.status_code == 200
        assert answer.content
        assert stand.app.state.service.answers.taken == 0


async def test_a_zip_that_breaks_off_takes_no_result_with_it(
    made: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with made() as stand:
        told = await stand.begin(files=files(PHOTO, PHOTO))
        await stand.done(told)
        result = StoreJobs.result

        def lose_second(self: StoreJobs, account: int, job: str, number: int) -> ItemResult:
            if number == 2:
                raise StoreUnavailableError("gone")
            return result(self, account, job, number)

        with monkeypatch.context() as broken:
            broken.setattr(StoreJobs, "result", lose_second)
            with pytest.raises(AssertionError):  # not complete; uvicorn breaks the connection
                await stand.client.get(told["url"] + "/results", headers=ANA)
        assert (await stand.done(told))["counts"] == {"done": 2}
        assert stand.app.state.service.answers.taken == 0
        answer = await stand.client.get(told["url"] + "/results", headers=ANA)
        assert len(zipfile.ZipFile(io.BytesIO(answer.content)).namelist()) == 2


async def test_one_photo_that_fails_leaves_those_claimed_with_it_alone(made: Make) -> None:
    class Picky(FakeBlur):
        def __call__(self, data: bytes, *given: Any, **named: Any) -> BlurredPhoto:
            if data == OTHER:
                raise PhotoDecodeError("expected a photo")
            return super().__call__(data, *given, **named)

    async with made(blur=Picky()) as stand:
        job = await stand.done(await stand.begin(files=files(PHOTO, OTHER, PHOTO)))
        assert [one["status"] for one in job["photos"]] == ["done", "failed", "done"]
        assert stand.counted() == (2, 10)


async def test_photos_claimed_together_count_as_far_as_the_plan_reaches(made: Make) -> None:
    async with made() as stand:
        month = update(PackageMonth).values(predictions=PREDICTIONS_PER_MONTH - 12)
        await stand.done(await stand.begin(files=files(PHOTO)))
        with stand.store.write() as connection:
            connection.execute(month)
        job = await stand.done(await stand.begin(files=files(*[PHOTO] * 4)))
        states = sorted(one["status"] for one in job["photos"])
        assert states == ["done", "done", "failed", "failed"]
        assert {one["cd"] for one in job["photos"] if one["cd"]} == {"1004"}
        assert stand.counted() == (3, 15)


async def test_photos_claimed_together_rest_together_where_their_plan_cannot_be_read(
    made: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    really_read, really_note = StoreGate.active_plan, JobWork._note_error
    together = asyncio.Barrier(3)
    broken: list[str] = []

    def active_plan(gate: StoreGate, identity: Identity) -> PlanPeriod:
        if not identity.email and not broken:  # asked by the workers, for the first time
            broken.append("now")
            raise StoreUnavailableError("no answer")
        return really_read(gate, identity)

    async def noted(work: JobWork, error: Exception, claim: Claim) -> None:
        await asyncio.wait_for(together.wait(), WAIT_S)
        await really_note(work, ClientGoneError(), claim)  # put back, instead of half a minute

    monkeypatch.setattr(StoreGate, "active_plan", active_plan)
    monkeypatch.setattr(JobWork, "_note_error", noted)
    async with made() as stand:
        job = await stand.done(await stand.begin(files=files(PHOTO, OTHER, PHOTO)))
        assert broken
        assert job["counts"] == {"done": 3}


async def test_a_result_does_not_wait_long_for_those_of_photos_claimed_with_it(
    made: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plateblur.web.job_work.KEEP_AFTER_S", 0.01)
    goes_on = threading.Event()

    class Slow(FakeBlur):
        def __call__(self, data: bytes, *given: Any, **named: Any) -> BlurredPhoto:
            if data == OTHER:
                goes_on.wait(WAIT_S)
            return super().__call__(data, *given, **named)

    async with made(blur=Slow(), blur_threads=2) as stand:
        told = await stand.begin(files=files(PHOTO, OTHER))
        job = await until(stand.client, told["url"], lambda job: "done" in job["counts"])
        assert job["counts"] == {"done": 1, "working": 1}
        goes_on.set()
        assert (await stand.done(told))["counts"] == {"done": 2}


async def test_photos_in_work_are_put_back_when_the_service_stops(made: Make) -> None:
    entered = threading.Event()

    class Stuck(FakeBlur):
        def __call__(
            self, data: bytes, options: BlurOptions, ended: threading.Event, **named: Any
        ) -> BlurredPhoto:
            entered.set()
            assert ended.wait(WAIT_S)
            raise WorkEndedError("the work was ended")

    async with made(blur=Stuck()) as stand:
        await stand.begin(files=files(*[PHOTO] * 3))
        assert await to_thread.run_sync(entered.wait, WAIT_S)
        url = stand.store.engine.url
    store = Store(url, secret=SECRET)
    with store.read() as connection:
        rows = connection.execute(select(JobItem.state, JobItem.token, JobItem.attempts)).all()
    store.close()
    assert [tuple(row) for row in rows] == [(ItemState.WAITING, None, 0)] * 3


async def test_a_zip_is_taken_apart_and_nothing_in_it_is_skipped_in_silence(made: Make) -> None:
    packed = zip_of(
        {
            "tour/1.jpg": PHOTO,
            "tour/": b"",
            "tour/notes.txt": b"no photo",
            "__MACOSX/tour/._1.jpg": b"x",
            "tour/.DS_Store": b"x",
            "..\\..\\2.png": OTHER,
        }
    )
    async with made() as stand:
        told = await stand.begin(files=[("photo", ("tour.zip", packed))])
        job = await stand.done(told)
        assert [(one["name"], one["status"]) for one in job["photos"]] == [
            ("1.jpg", "done"),
            ("notes.txt", "failed"),
            ("2.png", "done"),
        ]
        assert job["photos"][1]["cd"] == "1014"
        assert "no JPEG" in job["photos"][1]["error"]
        assert stand.counted() == (2, 10)


async def test_photos_by_url_are_fetched_when_their_turn_comes(made: Make) -> None:
    async with attacker(sending(ok(PHOTO))) as (port, _), made(fetcher=fetcher_to(port)) as stand:
        urls = [f"http://photos.example:{port}/1.jpg", "http://photos.example:1/2.jpg"]
        told = await stand.begin(json={"photo_urls": urls, "effort": "fast"})
        job = await stand.done(told)
        assert [one["status"] for one in job["photos"]] == ["done", "failed"]
        assert job["photos"][0]["name"] == urls[0]
        assert job["photos"][1]["cd"] == "1014"
        assert "port" in job["photos"][1]["error"]
        assert stand.blur.asked == [BlurOptions(effort="fast")]
        assert stand.counted() == (1, 5)


async def test_a_photo_that_fails_has_its_code_and_is_not_counted(made: Make) -> None:
    async with made(blur=FakeBlur(fails_with=PhotoDecodeError("expected a photo"))) as stand:
        job = await stand.done(await stand.begin(files=files(PHOTO)))
        (one,) = job["photos"]
        assert (one["status"], one["cd"], one["result_url"]) == ("failed", "2001", None)
        assert "damaged" in one["error"]
        assert stand.counted() == (0, 0)


async def test_a_job_that_is_deleted_is_gone(made: Make) -> None:
    async with made() as stand:
        told = await stand.begin(files=files(PHOTO))
        await stand.done(told)
        assert (await stand.client.delete(told["url"], headers=ANA)).status_code == 204
        for answer in (
            await stand.client.get(told["url"], headers=ANA),
            await stand.client.get(told["url"] + "/photos/1", headers=ANA),
            await stand.client.delete(told["url"], headers=ANA),
        ):
            assert answer.status_code == 404
        assert (await stand.client.get("/v1/jobs", headers=ANA)).json() == {"jobs": []}


async def test_another_account_finds_nothing(made: Make) -> None:
    async with made() as stand:
        told = await stand.begin(files=files(PHOTO))
        await stand.done(told)
        paths = [
            told["url"],
            told["url"] + "/photos/1",
            told["url"] + "/photos/" + "9" * 30,
            "/v1/jobs/" + "0" * 32,
            "/v1/jobs/%00",
        ]
        for path in paths:
            assert (await stand.client.get(path, headers=ION)).status_code == 404, path
        assert (await stand.client.delete(told["url"], headers=ION)).status_code == 404
        assert (await stand.client.get("/v1/jobs", headers=ION)).json() == {"jobs": []}
        assert (await stand.client.get(told["url"])).status_code == 401
        assert (await stand.client.get("/v1/jobs", headers=ANA)).json() == {"jobs": [told["id"]]}


async def test_a_request_that_is_sent_again_is_the_same_job(made: Make) -> None:
    async with made() as stand:
        headers = ANA | {"Idempotency-Key": "tour 7"}
        send = stand.client.post
        first = await send("/v1/jobs", headers=headers, files=files(PHOTO))
        again = await send("/v1/jobs", headers=headers, files=files(PHOTO))
        other = await send("/v1/jobs", headers=headers, files=files(OTHER))
        assert (first.status_code, again.status_code, other.status_code) == (202, 202, 422)
        assert first.json()["id"] == again.json()["id"]
        await stand.done(first.json())
        assert stand.counted() == (1, 5)


# --- Webhooks ------------------------------------------------------------------------------------


def receiver(answer: bytes, heard: list[tuple[str, bytes]]) -> Callable[..., Awaitable[None]]:
    async def handle(request: str, writer: asyncio.StreamWriter) -> None:
        reader: Any = writer._transport.get_protocol()._stream_reader  # type: ignore[attr-defined]
        length = int(request.lower().partition("content-length:")[2].split()[0])
        heard.append((request, await reader.readexactly(length)))
        writer.write(answer)

    return handle


@pytest.mark.slow  # each waits for a second, as a service does between webhooks
@pytest.mark.parametrize("own_secret", [False, True], ids=["ours", "theirs"])
async def test_a_webhook_is_called_and_signed_as_the_standard_says(
    made: Make, own_secret: bool
) -> None:
    heard: list[tuple[str, bytes]] = []
    key = bytes(range(32))
    secret = "whsec_" + base64.b64encode(key).decode()
    async with (
        attacker(receiver(b"HTTP/1.1 204 No Content\r\n\r\n", heard)) as (port, _),
        made(fetcher=fetcher_to(port)) as stand,
    ):
        data = {"webhook_url": f"http://hooks.example:{port}/done?token=1"}
        if own_secret:
            data["webhook_secret"] = secret
        told = await stand.begin(files=files(PHOTO), data=data)
        job = await until(
            stand.client, told["url"], lambda job: job["webhook"]["status"] == "delivered"
        )
        assert job["webhook"] == {"status": "delivered", "attempts": 1, "last_status": 204}
    ((request, body),) = heard
    lines = (line.partition(": ") for line in request.split("\r\n")[1:])
    headers = httpx.Headers([(name, value) for name, _, value in lines])
    assert request.startswith("POST /done?token=1 HTTP/1.1")
    message = json.loads(body)
    assert message["type"] == "job.finished"
    assert message["data"]["id"] == told["id"]
    assert message["data"]["url"] == "https://plateblur.test" + told["url"]
    assert message["data"]["counts"] == {"done": 1}
    assert headers["webhook-id"] == f"msg_{told['id']}"
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < WAIT_S
    if own_secret:
        assert told["webhook_secret"] == secret
    used = base64.b64decode(told["webhook_secret"].removeprefix("whsec_"))
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.digest(used, signed, hashlib.sha256)).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    assert b"street" not in body


@pytest.mark.slow  # it waits for two seconds, as a service does between webhooks
async def test_a_webhook_that_leads_inside_is_not_called_and_that_is_reported(made: Make) -> None:
    heard: list[tuple[str, bytes]] = []
    answer = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\n\r\n"
    async with (
        attacker(receiver(answer, heard)) as (port, _),
        made(fetcher=fetcher_to(port)) as stand,
    ):
        redirected = await stand.begin(
            files=files(PHOTO), data={"webhook_url": f"http://hooks.example:{port}/"}
        )
        job = await until(
            stand.client, redirected["url"], lambda job: job["webhook"]["last_status"] == 302
        )
        assert job["webhook"]["status"] == "waiting"
        assert len(heard) == 1  # the redirect was not followed
    async with made() as stand:
        inside = await stand.begin(files=files(PHOTO), data={"webhook_url": "http://127.0.0.1/"})
        job = await until(stand.client, inside["url"], lambda job: job["webhook"]["attempts"] > 0)
        assert job["webhook"]["last_status"] is None


class Receivers:
    """Receivers of webhooks; those at /slow answer once they are let go."""

    def __init__(self) -> None:
        self.let_go = asyncio.Event()
        self.slow: list[str] = []

    def check(self, url: str) -> None:
        assert url.startswith("http://hooks.example/")

    async def post(self, url: str, body: bytes, headers: dict[str, str]) -> int:
        del body, headers
        if url.endswith("/slow"):
            self.slow.append(url)
            await self.let_go.wait()
        return 204


@pytest.mark.slow
async def test_an_account_with_slow_receivers_delays_nobody_elses_webhooks(made: Make) -> None:
    receivers = Receivers()
    async with made(fetcher=cast(PhotoFetcher, receivers)) as stand:
        slow = {"webhook_url": "http://hooks.example/slow"}
        told = [await stand.begin(files=files(PHOTO), data=slow) for _ in range(3)]
        for one in told:
            await stand.done(one)
        quick = await stand.client.post(
            "/v1/jobs",
            headers=ION,
            files=files(PHOTO),
            data={"webhook_url": "http://hooks.example/quick"},
        )
        deadline = time.monotonic() + WAIT_S
        while True:
            job = (await stand.client.get(quick.json()["url"], headers=ION)).json()
            if job["webhook"]["status"] == "delivered":
                break
            assert time.monotonic() < deadline, job
            await asyncio.sleep(0.05)
        assert len(receivers.slow) == 1  # one of an account at a time
        receivers.let_go.set()
        for one in told:
            await until(
                stand.client, one["url"], lambda job: job["webhook"]["status"] == "delivered"
            )


# --- What is refused -----------------------------------------------------------------------------


def many_entries(count: int) -> bytes:
    """Return a ZIP whose end tells of `count` entries, as a bomb for whoever lists them."""
    packed = bytearray(zip_of({"1.jpg": PHOTO}))
    struct.pack_into("<HH", packed, len(packed) - 14, count, count)
    return bytes(packed)


def zip64() -> bytes:
    packed = zip_of({"1.jpg": PHOTO})
    return packed[:-22] + b"PK\6\7" + bytes(16) + packed[-22:]


REFUSED: dict[str, tuple[dict[str, Any], int, str]] = {
    "nothing": ({"files": [("photo", ("a.jpg", b""))]}, 422, "1014"),
    "no file": ({"data": {"method": "veil"}, "files": {}}, 415, "1014"),
    "no photo": ({"files": files(PHOTO, b"text")}, 422, "1014"),
    "another field": ({"files": [("picture", ("a.jpg", PHOTO))]}, 400, "1014"),
    "an option that is none": ({"files": files(PHOTO), "data": {"colour": "1"}}, 422, "1014"),
    "a bad option": ({"files": files(PHOTO), "data": {"margin": "7"}}, 422, "1014"),
    "no URL": ({"json": {"photo_urls": []}}, 422, "1014"),
    "a URL that is a number": ({"json": {"photo_urls": [5]}}, 422, "1014"),
    "a URL that is too long": ({"json": {"photo_urls": ["http://" + "a" * 2042]}}, 422, "1014"),
    "a form of another site": (
        {
            "files": files(PHOTO),
            "headers": {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
        },
        403,
        "1014",
    ),
    "no JSON": ({"content": b"{"}, 400, "1014"),
    "a bad webhook": ({"files": files(PHOTO), "data": {"webhook_url": "ftp://a/"}}, 422, "1014"),
    "a weak secret": (
        {
            "files": files(PHOTO),
            "data": {"webhook_url": "https://a.example/", "webhook_secret": "whsec_QUJD"},
        },
        422,
        "1014",
    ),
    "too many entries": ({"files": files(many_entries(MAX_ZIP_ENTRIES + 1))}, 422, "1014"),
    "a ZIP64": ({"files": files(zip64())}, 422, "1014"),
    "a bomb of many entries": (
        {"files": files(zip_of({f"{n}.jpg": bytes(4 * 1024**2) for n in range(3)}))},
        422,
        "1014",
    ),
    "a ZIP that is cut": ({"files": files(zip_of({"1.jpg": PHOTO})[:-30])}, 422, "1014"),
    "a form that is none": (
        {"content": b"x", "headers": {"Content-Type": "multipart/form-data; boundary=b"}},
        400,
        "1014",
    ),
    "too large": ({"content": b"x" * (2 * 1024**2 + 1)}, 413, "1013"),
    "too many photos": ({"files": files(*[PHOTO] * 4)}, 429, "1004"),
}


@pytest.mark.slow
async def test_what_cannot_be_a_job_leaves_none(made: Make) -> None:
    async with made(jobs_photos=3, jobs_request_mb=2) as stand:
        service = stand.app.state.service
        for name, (content, status, cd) in REFUSED.items():
            given = content | {"headers": ANA | content.get("headers", {})}
            answer = await stand.client.post("/v1/jobs", **given)
            assert (answer.status_code, answer.json()["cd"]) == (status, cd), (name, answer.text)
            with stand.store.read() as connection:
                for table in ("jobs", "job_items"):
                    rows = connection.exec_driver_sql(f"SELECT * FROM {table}")  # noqa: S608
                    assert rows.all() == [], name
            assert (service.disk.taken, service.bodies.taken) == (0, 0), name


@pytest.mark.parametrize(
    ("packed", "error"),
    [
        (zip_of({"1.jpg": PHOTO}, how=zipfile.ZIP_LZMA), "stored or deflated"),
        (zip_of({"1.jpg": PHOTO + bytes(6 * 1024**2)}), "5 MB"),
        (zip_of({"1.zip": zip_of({"1.jpg": PHOTO})}), "no JPEG"),
        (zip_of({"1.jpg": PHOTO}).replace(PHOTO[40:44], b"\0\0\0\0", 1), ""),
    ],
    ids=["another compression", "a bomb", "a ZIP in a ZIP", "damaged"],
)
async def test_an_entry_that_cannot_be_taken_fails_alone(
    made: Make, packed: bytes, error: str
) -> None:
    async with made(v1_max_mb=5) as stand:
        job = await stand.done(await stand.begin(files=files(packed, PHOTO)))
        assert job["photos"][1]["status"] == "done"
        if error:
            assert error in job["photos"][0]["error"]


async def test_an_account_without_room_is_told_and_keeps_what_it_has(made: Make) -> None:
    async with made(jobs_account_mb=1) as stand:
        first = await stand.begin(files=files(PHOTO))
        large = PHOTO + bytes(700_000)
        answer = await stand.client.post("/v1/jobs", headers=ANA, files=files(large))
        assert answer.status_code == 429
        assert "1 MB" in answer.json()["detail"]
        assert (await stand.done(first))["counts"] == {"done": 1}


async def test_jobs_can_be_switched_off(tmp_path: Path) -> None:
    from tests.web.fakes import make_stand

    answer = await make_stand(settings=Settings(data_dir=tmp_path)).client.get("/v1/jobs")
    assert answer.status_code == 404


# --- Clips ---------------------------------------------------------------------------------------

CLIP = b"\0\0\0\x18ftypisom" + bytes(600)


@dataclass
class FakeClips:
    """Blurs every clip alike; can be told to fail, or to go on until it is ended."""

    frames: int = 300
    fails_with: Exception | None = None
    goes_on: bool = False
    entered: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)
    max_s: list[float] = field(default_factory=list)

    def __call__(
        self, data: bytes, options: BlurOptions, ended: threading.Event, *, max_s: float
    ) -> EncodedClip:
        self.max_s.append(max_s)
        self.entered.set()
        if self.goes_on:
            assert ended.wait(WAIT_S)
            self.ended.set()
            raise WorkEndedError("the work was ended")
        if self.fails_with is not None:
            raise self.fails_with
        return EncodedClip(b"blurred " + data, (120, 160), self.frames, 10.0, 2, ("No sound.",))


async def test_a_clip_is_blurred_beside_the_photos_and_counted_by_its_frames(made: Make) -> None:
    clips = FakeClips()
    async with made(blur_clip=clips) as stand:
        packed = zip_of({"tour/drive.mp4": CLIP, "1.jpg": PHOTO})
        files = [("clip", ("drive.mov", CLIP)), ("photo", ("all.zip", packed))]
        job = await stand.done(await stand.begin(files=files))
        assert [one["status"] for one in job["photos"]] == ["done"] * 3
        first, second, third = job["photos"]
        assert (
            first["clip"]
            == second["clip"]
            == {
                "width_px": 160,
                "height_px": 120,
                "frames": 300,
                "length_s": 10.0,
                "plates": 2,
                "notes": ["No sound."],
                "predictions_counted": 300,
            }
        )
        assert first["detections"] is None
        assert third["clip"] is None
        assert third["detections"] is not None
        answer = await stand.client.get(first["result_url"], headers=ANA)
        assert answer.headers["content-type"] == "video/mp4"
        assert answer.content == b"blurred " + CLIP
        assert (await stand.client.get(first["result_url"], headers=ANA)).status_code == 404
        assert stand.counted() == (3, 2 * 300 + len(CONFIDENCES))
        assert clips.max_s == [60, 60]


@pytest.mark.slow
async def test_photos_do_not_wait_behind_a_clip_and_a_deleted_one_stops(
    made: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plateblur.web.job_work.RENEW_S", 0.05)
    clips = FakeClips(goes_on=True)
    async with made(blur_clip=clips) as stand:
        long = await stand.begin(files=[("photo", ("a.mp4", CLIP))] * 5)
        await stand.done(await stand.begin(files=files(PHOTO, PHOTO)))
        assert clips.entered.is_set()
        assert len(clips.max_s) == 1  # one at a time
        await stand.client.delete(long["url"], headers=ANA)
        assert await to_thread.run_sync(clips.ended.wait, WAIT_S)
        clips.goes_on = False
        await stand.done(await stand.begin(files=[("photo", ("b.mp4", CLIP))]))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fails_with", "cd", "error"),
    [
        (VideoError("expected at most 60 s, got 90 s"), "2001", "at most 60 s, got 90 s"),
        (TooCostlyError("it needs more"), "2001", "more time or memory"),
        (KeyError("a bug"), "2001", "unexpected"),
    ],
    ids=["too long", "too costly", "a bug"],
)
async def test_a_clip_that_fails_has_its_reason_and_is_not_counted(
    made: Make, fails_with: Exception, cd: str, error: str
) -> None:
    async with made(blur_clip=FakeClips(fails_with=fails_with)) as stand:
        job = await stand.done(await stand.begin(files=[("clip", ("a.mp4", CLIP))]))
        (one,) = job["photos"]
        assert (one["status"], one["cd"]) == ("failed", cd)
        assert error in one["error"]
        assert stand.counted() == (0, 0)


@pytest.mark.slow
async def test_a_clip_with_more_frames_than_the_month_has_left_is_refused_whole(
    made: Make,
) -> None:
    clips = FakeClips(frames=6_000)
    async with made(blur_clip=clips) as stand:
        job = await stand.done(await stand.begin(files=[("clip", ("a.mp4", CLIP))] * 2))
        assert [one["cd"] for one in job["photos"]] == [None, "1004"]
        assert stand.counted() == (1, 6_000)
        clips.frames = 4_000
        await stand.done(await stand.begin(files=[("clip", ("b.mp4", CLIP))]))
        assert stand.counted() == (2, 10_000)
        looked_at = len(clips.max_s)
        job = await stand.done(await stand.begin(files=[("clip", ("c.mp4", CLIP))]))
        assert job["photos"][0]["cd"] == "1004"
        assert len(clips.max_s) == looked_at  # nothing is left, so no minutes are spent on it


async def test_a_clip_has_limits_of_its_own(made: Make) -> None:
    large, long_photo = CLIP + bytes(2 * 1024**2), PHOTO + bytes(6 * 1024**2)
    async with made(blur_clip=FakeClips(), jobs_clip_mb=1, v1_max_mb=5) as stand:
        packed = zip_of({"a.mp4": large, "b.jpg": long_photo}, how=zipfile.ZIP_STORED)
        job = await stand.done(await stand.begin(files=files(packed)))
        assert [one["error"] for one in job["photos"]] == [
            "a clip may have 1 MB.",
            "a photo may have 5 MB.",
        ]
        refused = await stand.client.post("/v1/jobs", headers=ANA, files=files(large))
        assert refused.status_code == 422
        assert "a clip may have 1 MB" in refused.json()["detail"]


@pytest.mark.parametrize("blur_clip", [None, FakeClips()], ids=["no worker", "switched off"])
async def test_where_clips_are_not_accepted_one_is_no_photo(
    made: Make, blur_clip: BlurClip | None
) -> None:
    async with made(blur_clip=blur_clip, jobs_clip_mb=0) as stand:
        refused = await stand.client.post("/v1/jobs", headers=ANA, files=files(CLIP))
        assert refused.status_code == 422
        assert "the bytes are no JPEG" in refused.json()["detail"]


@pytest.mark.slow
async def test_a_real_clip_goes_through_a_process_of_its_own(made: Make, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, jobs_clip_mb=8)
    left_behind = tmp_path / "clips" / "clip-of-a-killed-process"
    left_behind.mkdir(parents=True)
    os.utime(left_behind, (0, 0))
    clips = [drawn_clip(driving(20)), drawn_clip(driving(20))[:-40], drawn_clip(driving(120))]
    async with made(blur_clip=ClipWorker(settings), jobs_clip_mb=8, jobs_clip_s=10) as stand:
        told = await stand.begin(files=[("clip", (f"{n}.mp4", c)) for n, c in enumerate(clips)])
        job = await stand.done(told)
        good, _, long = job["photos"]
        assert good["clip"]["frames"] == good["clip"]["predictions_counted"] == 20
        answer = await stand.client.get(good["result_url"], headers=ANA)
        assert len(frames_of(answer.content)) == 20
        assert long["status"] == "failed"
        assert "The clip can't be blurred" in long["error"]
    assert list((tmp_path / "clips").iterdir()) == []
