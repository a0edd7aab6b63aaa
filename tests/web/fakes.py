"""Small stand-ins for the library and the accounts, and a real server on loopback."""

from __future__ import annotations

import asyncio
import base64
import io
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import httpx
import numpy as np
import pillow_heif
import uvicorn
from fastapi import FastAPI
from PIL import Image as PillowImage
from PIL import UnidentifiedImageError

from plateblur.accounts.types import (
    AccessError,
    DailyQuotaError,
    HealthLog,
    Identity,
    Once,
    PlanKind,
    PlanPeriod,
    UnknownCredentialsError,
    Usage,
)
from plateblur.errors import PhotoDecodeError
from plateblur.types import BlurOptions, BlurredPhoto, Detections, Searched
from plateblur.web import Settings, create_app
from plateblur.web.connections import BoundedConnection
from plateblur.web.fetcher import PhotoFetcher

USER, PASSWORD, KEY = "ana@example.org", "pass:wörd", "pb_key_of_ana"
NOW = datetime(2026, 5, 2, 12, 28, 9, 989_700, tzinfo=UTC)
PHOTO_URL_PATH = "/a.jpg"
CONFIDENCES = (0.9, 0.5453594, 0.21, 0.2, 0.1)
"""Of the plates that the fake blur finds in every photo, least confident first in its answer."""


def photo_bytes(format_: str = "JPEG", *, size_wh: tuple[int, int] = (64, 48)) -> bytes:
    out = io.BytesIO()
    PillowImage.new("RGB", size_wh, (40, 90, 140)).save(out, format_)
    return out.getvalue()


def heic_bytes(*, size_wh: tuple[int, int] = (64, 48)) -> bytes:
    pillow_heif.register_heif_opener()
    return photo_bytes("HEIF", size_wh=size_wh)


def text_of(photo: bytes) -> str:
    return base64.b64encode(photo).decode()


def basic(user: str = USER, secret: str = PASSWORD) -> str:
    return "Basic " + base64.b64encode(f"{user}:{secret}".encode()).decode()


@dataclass
class FakeBlur:
    """Finds the same plates in every photo; can be told to fail or to wait."""

    confidences: tuple[float, ...] = CONFIDENCES
    fails_with: Exception | None = None
    wait_for: threading.Event | None = None
    entered: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    asked: list[BlurOptions] = field(default_factory=list)
    max_pixels: list[int] = field(default_factory=list)

    def __call__(
        self, data: bytes, options: BlurOptions, ended: threading.Event, *, max_pixels: int
    ) -> BlurredPhoto:
        self.asked.append(options)
        self.max_pixels.append(max_pixels)
        self.entered.release()
        if self.wait_for is not None:
            assert self.wait_for.wait(20)
        if self.fails_with is not None:
            raise self.fails_with
        try:
            with PillowImage.open(io.BytesIO(data)) as opened:
                format_, (width, height) = str(opened.format), opened.size
                opened.load()
        except (UnidentifiedImageError, OSError) as error:
            raise PhotoDecodeError("expected a photo") from error
        everything = Detections(
            np.array(
                [[-1, 3, width / 2 + i, height + 2] for i in range(len(self.confidences))],
                dtype=np.float32,
            ).reshape(-1, 4),
            np.array(self.confidences, dtype=np.float32),
            Searched(6, 11.9),
        )
        kept = everything.at_least(options.min_confidence)
        return BlurredPhoto(
            data=photo_bytes(format_, size_wh=(width, height)),
            format=format_,
            image_hw=(height, width),
            detections=kept,
            predictions_counted=len(everything),
            crops=tuple(f"crop {i}".encode() for i in range(len(kept))) if options.crops else (),
            preview=photo_bytes() if options.preview else b"",
        )


class FakeReservation:
    def __init__(self, gate: FakeGate, *, is_repeat: bool = False) -> None:
        self._gate = gate
        self._is_repeat = is_repeat
        self._predictions: int | None = None

    @property
    def settled(self) -> bool:
        return self._predictions is not None

    @property
    def is_repeat(self) -> bool:
        return self._is_repeat

    def settle(self, *, predictions: int) -> None:
        if self._gate.settle_fails_with is not None:
            raise self._gate.settle_fails_with
        if self._is_repeat:
            return
        self._predictions = predictions
        self._gate.predictions += predictions

    def unsettle(self) -> None:
        self._gate.predictions -= self._predictions or 0
        self._predictions = None


@dataclass
class FakeGate:
    """Accounts in memory: one user; counts as the contract says; can be told to fail anywhere."""

    limit: int = 50
    kind: PlanKind = PlanKind.TRIAL
    requests: int = 0
    guests: int = 0
    guest_limit: int = 10
    predictions: int = 0
    reserved: int = 0
    ready: bool = True
    authenticate_fails_with: Exception | None = None
    plan_fails_with: Exception | None = None
    admit_fails_with: Exception | None = None
    settle_fails_with: Exception | None = None
    usage_fails_with: Exception | None = None
    repeats: bool = False
    onces: list[Once | None] = field(default_factory=list)
    addresses: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def authenticate(self, username: str, secret: str, *, address: str) -> Identity:
        self.addresses.append(address)
        if self.authenticate_fails_with is not None:
            raise self.authenticate_fails_with
        if (username, secret) not in {(USER, PASSWORD), (USER, KEY), ("ana", PASSWORD)}:
            raise UnknownCredentialsError
        return Identity(7, USER)

    def authenticate_key(self, key: str, *, address: str) -> Identity:
        if key != KEY:
            raise UnknownCredentialsError
        return Identity(7, USER, api_key_id=3)

    def active_plan(self, identity: Identity) -> PlanPeriod:
        if self.plan_fails_with is not None:
            raise self.plan_fails_with
        return PlanPeriod(self.kind, NOW - timedelta(days=1), NOW + timedelta(days=6), plan_id=1)

    @contextmanager
    def admit(
        self, identity: Identity, plan: PlanPeriod, *, once: Once | None = None
    ) -> Iterator[FakeReservation]:
        self.onces.append(once)
        if self.admit_fails_with is not None:
            raise self.admit_fails_with
        if once is not None and self.repeats:
            yield FakeReservation(self, is_repeat=True)
            return
        with self.lock:
            if self.requests >= self.limit:
                raise DailyQuotaError(retry_after_s=60)
            self.requests += 1
        reservation = FakeReservation(self)
        try:
            yield reservation
        finally:
            if not reservation.settled:
                with self.lock:
                    self.requests -= 1

    @contextmanager
    def admit_guest(self, *, address: str) -> Iterator[FakeReservation]:
        self.addresses.append(address)
        with self.lock:
            if self.guests >= self.guest_limit:
                raise DailyQuotaError(retry_after_s=60)
            self.guests += 1
        yield FakeReservation(self)  # whatever comes of it, as visitors' photos count

    def usage(self, identity: Identity, plan: PlanPeriod) -> Usage:
        if self.usage_fails_with is not None:
            raise self.usage_fails_with
        return Usage(self.requests, self.limit, NOW + timedelta(seconds=90), 0, None, None)

    def is_ready(self) -> bool:
        return self.ready


@dataclass
class Stand:
    """An app with its fakes, and a client that talks to it without a socket."""

    blur: FakeBlur
    gate: FakeGate
    app: FastAPI
    client: httpx.AsyncClient

    async def post(
        self, body: object, *, authorization: str | None = None, path: str = "/plateblurer.aspx"
    ) -> httpx.Response:
        headers = {"Authorization": basic() if authorization is None else authorization}
        return await self.client.post(path, json=body, headers=headers)


def make_stand(
    *,
    blur: FakeBlur | None = None,
    gate: FakeGate | None = None,
    fetcher: PhotoFetcher | None = None,
    settings: Settings | None = None,
    ready_checks: dict[str, Callable[[], bool]] | None = None,
    health_log: HealthLog | None = None,
    now: Callable[[], datetime] = lambda: NOW,
) -> Stand:
    blur, gate = blur or FakeBlur(), gate or FakeGate()
    app = create_app(
        blur,
        gate,
        settings or Settings(),
        fetcher=fetcher,
        now=now,
        health_log=health_log,
        ready_checks=ready_checks,
    )
    client = httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app, client=("198.51.100.7", 4711)),
        base_url="http://plateblur.test",
    )
    return Stand(blur, gate, app, client)


def documented_client(answer: httpx.Response) -> tuple[str, object]:
    """Return what the client on the product page makes of `answer`.

    Its `WebClient.UploadData` throws on anything but 2xx; only then it looks for "predictions".
    """
    if not answer.is_success:
        raise AssertionError(f"WebException: {answer.status_code}")
    if answer.text.find("predictions") > 0:
        return "answer", answer.json()
    errors = answer.json()
    assert isinstance(errors, list)
    return str(errors[0]["cd"]), errors[0]["description"]


def access_errors() -> list[type[AccessError]]:
    """Return every error of the gate that has a code."""
    found: list[type[AccessError]] = []
    waiting = [AccessError]
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        if hasattr(kind, "cd"):
            found.append(kind)
    return sorted(found, key=lambda kind: kind.cd)


@contextmanager
def running(
    app: FastAPI, *, http: type[BoundedConnection] = BoundedConnection, **more: object
) -> Iterator[str]:
    """Serve `app` on a free port of loopback, and return its address."""
    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=0,
        http=http,
        ws="none",
        log_config=None,
        access_log=False,
        **more,  # type: ignore[arg-type]
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    deadline = time.monotonic() + 120
    while not server.started:
        assert time.monotonic() < deadline, "the server did not start"
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(60)
        assert not thread.is_alive()
