"""Photos larger than the documented endpoint takes: who may send them, and what they cost."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from fastapi import Request

from plateblur.accounts.types import PlanKind
from plateblur.errors import PhotoTooLargeError
from plateblur.web import Settings
from plateblur.web.body import MAX_BODY_BYTES, receive_body
from plateblur.web.failures import Failure
from plateblur.web.room import Slots
from plateblur.web.spool import IN_MEMORY_BYTES, PIECE_BYTES, Spool
from tests.web.fakes import (
    KEY,
    FakeBlur,
    FakeGate,
    Stand,
    basic,
    documented_client,
    make_stand,
    photo_bytes,
    running,
    text_of,
)
from tests.web.test_fetcher import attacker, fetcher_to, ok, sending

MIB = 1024 * 1024
BEARER = {"Authorization": f"Bearer {KEY}"}
PHOTO = photo_bytes()
WAIT_S = 120


def photo_of(size: int) -> bytes:
    """Return a JPEG of `size` bytes; what is behind its end is skipped by its decoder."""
    return PHOTO + b"plate " * ((size - len(PHOTO)) // 6 + 1)


def stand_of(folder: Path, *, kind: PlanKind = PlanKind.TRIAL, **settings: int) -> Stand:
    return make_stand(gate=FakeGate(kind=kind), settings=Settings(data_dir=folder, **settings))


def form(size: int) -> dict[str, tuple[str, bytes, str]]:
    return {"photo": ("panorama.jpg", photo_of(size), "image/jpeg")}


# --- What is taken ------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.anyio
@pytest.mark.parametrize("as_form", [True, False], ids=["form", "JSON"])
@pytest.mark.parametrize("path", ["/v1/blur", "/v1/detect"])
async def test_v1_takes_photos_that_the_documented_endpoint_refuses(
    tmp_path: Path, path: str, as_form: bool
) -> None:
    stand = stand_of(tmp_path)
    size = 12 * MIB
    if as_form:
        answer = await stand.client.post(path, files=form(size), headers=BEARER)
    else:
        body = {"photo": text_of(photo_of(size))}
        answer = await stand.client.post(path, json=body, headers=BEARER)
    assert answer.status_code == 200
    documented = await stand.post({"base64_Photo_String": text_of(photo_of(size))})
    cd, description = documented_client(documented)
    assert cd == "1013"
    assert str(description).startswith(
        "Input request too long! Maximum 5 MB per request are allowed"
    )
    assert stand.gate.requests == 1
    service = stand.app.state.service
    assert (service.disk.taken, service.bodies.taken) == (0, 0)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("kind", "megabytes", "most"),
    [
        (PlanKind.TRIAL, 6, None),
        (PlanKind.TRIAL, 7, 7),
        (PlanKind.MONTHLY, 7, None),
        (PlanKind.YEARLY, 7, None),
        (PlanKind.MONTHLY, 9, 9),
    ],
)
async def test_how_much_is_taken_depends_on_the_plan(
    tmp_path: Path, kind: PlanKind, megabytes: int, most: int | None
) -> None:
    stand = stand_of(tmp_path, kind=kind, v1_trial_max_mb=7, v1_max_mb=9)
    answer = await stand.client.post("/v1/blur", files=form(megabytes * MIB), headers=BEARER)
    if most is None:
        assert answer.status_code == 200
        return
    problem = answer.json()
    assert (answer.status_code, problem["cd"]) == (413, "1013")
    sentence = f"Input request too long! Maximum {most} MB per request are allowed"
    assert problem["title"] == problem["detail"] == sentence
    assert stand.gate.requests == 0


@pytest.mark.anyio
async def test_each_endpoint_has_its_own_limit_of_pixels() -> None:
    stand = make_stand(settings=Settings(max_pixels=1000, v1_max_pixels=2000))
    await stand.post({"base64_Photo_String": text_of(PHOTO)})
    await stand.client.post("/v1/blur", files=form(1000), headers=BEARER)
    assert stand.blur.max_pixels == [1000, 2000]


@pytest.mark.anyio
async def test_too_many_pixels_are_told_with_both_numbers() -> None:
    error = PhotoTooLargeError("expected at most 10 pixels, got 4 x 3 = 12")
    stand = make_stand(blur=FakeBlur(fails_with=error))
    answer = await stand.client.post("/v1/blur", files=form(1000), headers=BEARER)
    assert answer.status_code == 413
    assert "at most 10 pixels, got 4 x 3 = 12" in answer.json()["detail"]


# --- Where it waits -----------------------------------------------------------------------------


def spool_in(folder: Path, disk: Slots, *, most_bytes: int = 64 * MIB) -> Spool:
    return Spool(folder, disk, most_bytes=most_bytes, holder=1, retry_s=2)


def files_of_this_process(folder: Path) -> list[Path]:
    """Return what this process holds open in `folder`, with or without a name."""
    held = []
    for one in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            if str(one.readlink()).startswith(str(folder)):
                held.append(one)
    return held


@pytest.mark.anyio
async def test_what_is_on_the_disk_has_no_name_and_cannot_be_read(tmp_path: Path) -> None:
    disk = Slots(64 * MIB)
    photo = photo_of(9 * MIB)
    with spool_in(tmp_path, disk) as spool:
        for at in range(0, len(photo), 65536):
            await spool.write(photo[at : at + 65536])
        assert disk.taken == 64 * MIB
        assert list(tmp_path.iterdir()) == []
        (held,) = files_of_this_process(tmp_path)
        on_disk = held.read_bytes()
        assert len(on_disk) > 8 * MIB
        assert b"plate plate" not in on_disk
        assert PHOTO[:64] not in on_disk
        assert len(spool._memory) < PIECE_BYTES
        assert spool.read() == photo
        assert b"".join(spool.pieces()) == photo
    assert files_of_this_process(tmp_path) == []
    assert disk.taken == 0


@pytest.mark.anyio
async def test_what_the_documented_endpoint_takes_is_never_on_the_disk(tmp_path: Path) -> None:
    disk = Slots(0)
    with spool_in(tmp_path / "none", disk) as spool:
        await spool.write(bytes(IN_MEMORY_BYTES))
        assert spool.read() == bytes(IN_MEMORY_BYTES)
        with pytest.raises(Failure, match="2001"):
            await spool.write(b"x")
    assert not (tmp_path / "none").exists()


@pytest.mark.anyio
async def test_a_disk_that_is_full_is_busy_and_not_an_error(tmp_path: Path) -> None:
    """A file where the folder should be fails every write, as a full disk does."""
    (tmp_path / "spool").write_bytes(b"")
    answer = await stand_of(tmp_path).client.post("/v1/blur", files=form(6 * MIB), headers=BEARER)
    assert (answer.status_code, answer.json()["cd"]) == (503, "2001")
    assert answer.headers["retry-after"] == "2"


@pytest.mark.anyio
async def test_the_room_on_the_disk_is_counted_before_it_is_used(tmp_path: Path) -> None:
    stand = stand_of(tmp_path, spool_mb=200)
    disk = stand.app.state.service.disk
    assert disk.enter(holder=7, size=95 * MIB)
    answer = await stand.client.post("/v1/blur", files=form(6 * MIB), headers=BEARER)
    assert answer.status_code == 503
    disk.leave(holder=7, size=95 * MIB)
    answer = await stand.client.post("/v1/blur", files=form(6 * MIB), headers=BEARER)
    assert answer.status_code == 200


def slowly(chunks: list[bytes], pause_s: float) -> Request:
    async def receive() -> dict[str, object]:
        await asyncio.sleep(pause_s)
        chunk = chunks.pop(0)
        return {"type": "http.request", "body": chunk, "more_body": bool(chunks)}

    scope = {"type": "http", "headers": [], "method": "POST", "path": "/", "state": {}}
    return Request(scope, receive)


@pytest.mark.anyio
@pytest.mark.slow  # it sends slowly
@pytest.mark.parametrize(("more", "in_time"), [(8, True), (0, False)], ids=["large", "small"])
async def test_a_large_body_has_more_time_to_arrive(more: int, in_time: bool) -> None:
    got = 0

    async def keep(chunk: bytes) -> None:
        nonlocal got
        got += len(chunk)

    chunks = [bytes(MAX_BODY_BYTES + 1 if more else 1), *([bytes(64 * 1024)] * more), b"x", b"x"]
    request = slowly(chunks, 0.12)
    limits = {"timeout_s": 0.3, "max_bytes": 64 * MIB}
    if in_time:
        await receive_body(request, keep, **limits)  # type: ignore[arg-type]
        assert got == MAX_BODY_BYTES + 1 + more * 64 * 1024 + 2
    else:
        with pytest.raises(Failure, match="1014"):
            await receive_body(slowly([b"x"] * 4, 0.12), keep, **limits)  # type: ignore[arg-type]


# --- Many at once -------------------------------------------------------------------------------


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, Stand]]:
    stand = stand_of(tmp_path, blur_threads=2)
    with running(stand.app) as url:
        yield url, stand


@pytest.mark.slow
def test_few_large_photos_are_in_memory_while_many_wait(served: tuple[str, Stand]) -> None:
    url, stand = served
    service = stand.app.state.service
    stand.blur.wait_for = threading.Event()

    def post(_: int) -> int:
        answer = httpx.post(url + "/v1/blur", files=form(8 * MIB), headers=BEARER, timeout=WAIT_S)
        return answer.status_code

    with ThreadPoolExecutor(10) as clients:
        asked = [clients.submit(post, number) for number in range(10)]
        for _ in range(2):
            assert stand.blur.entered.acquire(timeout=WAIT_S)
        while service.bodies.taken < 10:
            threading.Event().wait(0.05)
        assert len(stand.blur.asked) == service.photos.taken == 2  # the others are on the disk
        small = httpx.post(
            url + "/plateblurer.aspx", content=b"{}", headers={"Authorization": basic()}
        )
        assert documented_client(small)[0] == "1013"  # and nobody else waits for them
        stand.blur.wait_for.set()
        assert {one.result() for one in asked} == {200}
    assert stand.gate.requests == 10
    assert (service.disk.taken, service.bodies.taken) == (0, 0)


@pytest.mark.slow
def test_an_upload_that_breaks_off_leaves_nothing(served: tuple[str, Stand]) -> None:
    url, stand = served
    service = stand.app.state.service

    async def broken() -> AsyncIterator[bytes]:
        for _ in range(9):
            yield bytes(MIB)
        raise ConnectionResetError

    async def post() -> None:
        async with httpx.AsyncClient() as client:
            await client.post(url + "/v1/blur", content=broken(), headers=BEARER)

    with pytest.raises(ConnectionResetError):
        asyncio.run(post())
    for _ in range(int(WAIT_S / 0.05)):
        if not service.disk.taken and not service.bodies.taken:
            break
        threading.Event().wait(0.05)
    assert (service.disk.taken, service.bodies.taken) == (0, 0)
    assert files_of_this_process(service.spool_dir) == []


@pytest.mark.anyio
async def test_a_photo_by_url_may_be_as_large(tmp_path: Path) -> None:
    async with attacker(sending(ok(photo_of(7 * MIB)))) as (port, _):
        stand = make_stand(
            fetcher=fetcher_to(port, max_bytes=MIB, timeout_s=WAIT_S),
            settings=Settings(data_dir=tmp_path),
        )
        asked = {"photo_url": f"http://photos.example:{port}/a.jpg"}
        answer = await stand.client.post("/v1/detect", json=asked, headers=BEARER)
        documented = await stand.post(asked)
    assert answer.status_code == 200, answer.text
    assert documented_client(documented)[0] == "1014"
    assert stand.app.state.service.disk.taken == 0
    assert list((tmp_path / "spool").iterdir()) == []
