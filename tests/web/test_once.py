"""`Idempotency-Key` on `/v1`: what is a repeat, and what is answered."""

from __future__ import annotations

from typing import Any

import pytest

from plateblur.accounts.types import (
    InProgressError,
    Once,
    OtherRequestError,
    RepeatError,
    TooManyRepeatsError,
)
from tests.web.fakes import KEY, FakeGate, Stand, make_stand, photo_bytes, text_of
from tests.web.test_fetcher import attacker, fetcher_to, ok, sending

pytestmark = pytest.mark.anyio

PHOTO = photo_bytes()
OTHER_PHOTO = photo_bytes(size_wh=(80, 48))
BEARER = {"Authorization": f"Bearer {KEY}"}
ID = "5f1f6b1e-8a55-4c0e-9c39-3a1d5f0f9a10"


async def once(stand: Stand, path: str = "/v1/blur", *, key: str = ID, **content: Any) -> Once:
    """Send one request, and return the idempotency key and hash that reached the gate."""
    content = content or {"json": {"photo": text_of(PHOTO)}}
    headers = BEARER | {"Idempotency-Key": key}
    answer = await stand.client.post(path, headers=headers, **content)
    assert answer.status_code == 200, answer.text
    told = stand.gate.onces[-1]
    assert told is not None
    return told


async def test_a_repeat_is_recognised_however_it_is_sent() -> None:
    stand = make_stand()
    as_json = {"photo": text_of(PHOTO), "method": "solid", "margin": 0.5}
    form = {"photo": ("a.jpg", PHOTO)}
    sent = [
        await once(stand, json=as_json),
        await once(stand, json=dict(reversed(as_json.items()))),
        await once(stand, files=form, data={"margin": "0.5", "method": "solid"}),
        await once(stand, files=form, data={"method": "solid", "margin": "0.50"}),
        await once(stand, key=f'"{ID}"', json=as_json),
    ]
    assert len(set(sent)) == 1
    assert sent[0].key == ID


async def test_whatever_decides_the_answer_makes_another_request() -> None:
    stand = make_stand()
    sent = [
        await once(stand),
        await once(stand, "/v1/detect"),
        await once(stand, json={"photo": text_of(OTHER_PHOTO)}),
        await once(stand, json={"photo": text_of(PHOTO), "method": "solid"}),
        await once(stand, json={"photo": text_of(PHOTO), "metadata": "keep"}),
        await once(stand, json={"photo": text_of(PHOTO), "effort": "fast"}),
        await once(stand, key="another key"),
    ]
    assert len(set(sent)) == len(sent)


async def test_another_photo_behind_the_same_url_is_another_request() -> None:
    fingerprints = []
    for photo in (PHOTO, PHOTO, OTHER_PHOTO):
        async with attacker(sending(ok(photo))) as (port, _):
            stand = make_stand(fetcher=fetcher_to(port))
            url = f"http://photos.example:{port}/a.jpg"
            told = await once(stand, json={"photo_url": url})
            fingerprints.append(told.fingerprint)
    assert len(set(fingerprints)) == 3  # the port is another each time
    async with attacker(sending(ok(PHOTO))) as (port, _):
        stand = make_stand(fetcher=fetcher_to(port))
        url = f"http://photos.example:{port}/a.jpg"
        assert (await once(stand, json={"photo_url": url})) == (
            await once(stand, json={"photo_url": url})
        )


async def test_a_repeat_gets_the_same_answer_and_says_so() -> None:
    stand = make_stand(gate=FakeGate())
    headers = BEARER | {"Idempotency-Key": ID}
    files = {"photo": ("a.jpg", PHOTO)}
    first = await stand.client.post("/v1/blur", files=files, headers=headers)
    stand.gate.repeats = True
    again = await stand.client.post("/v1/blur", files=files, headers=headers)
    assert again.content == first.content
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert (stand.gate.requests, stand.gate.predictions) == (1, 5)
    metric = stand.app.state.service.metrics.predictions
    assert next(iter(metric.collect())).samples[0].value == 5


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (OtherRequestError(), 422, "already sent with another request"),
        (InProgressError(), 409, "isn't finished"),
        (TooManyRepeatsError("The request was repeated 10 times."), 429, "repeated 10 times"),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("path", ["/v1/blur", "/v1/detect"])
async def test_what_cannot_be_repeated_is_told(
    path: str, error: RepeatError, status: int, words: str
) -> None:
    stand = make_stand(gate=FakeGate(admit_fails_with=error))
    headers = BEARER | {"Idempotency-Key": ID}
    answer = await stand.client.post(path, files={"photo": ("a.jpg", PHOTO)}, headers=headers)
    assert (answer.status_code, answer.json()["cd"]) == (status, "1014")
    assert words in answer.json()["detail"]
    assert ("retry-after" in answer.headers) is (status == 409)
    assert ID not in answer.text
    assert stand.blur.asked == []


@pytest.mark.parametrize(
    "key",
    ["", " ", '""', "é", "a" * 256, '"a', "a\tb"],
    ids=["empty", "blank", "quoted nothing", "not ASCII", "long", "half quoted", "a tab"],
)
async def test_a_key_that_is_none_is_refused_before_the_photo_is_read(key: str) -> None:
    stand = make_stand()
    headers = [(name.encode(), value.encode()) for name, value in BEARER.items()]
    headers.append((b"Idempotency-Key", key.encode()))
    answer = await stand.client.post("/v1/blur", files={"photo": ("a.jpg", PHOTO)}, headers=headers)
    expected = 200 if key == '"a' else 400  # a quotation mark is a character like any other
    assert answer.status_code == expected
    assert (len(stand.gate.onces) == 1) is (expected == 200)


async def test_two_keys_are_refused() -> None:
    headers = [*BEARER.items(), ("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    answer = await make_stand().client.post(
        "/v1/blur", files={"photo": ("a.jpg", PHOTO)}, headers=headers
    )
    assert answer.status_code == 400


async def test_a_request_without_a_key_and_the_documented_endpoint_know_no_repeats() -> None:
    stand = make_stand()
    await stand.client.post("/v1/blur", files={"photo": ("a.jpg", PHOTO)}, headers=BEARER)
    await stand.client.post(
        "/plateblurer.aspx",
        json={"base64_Photo_String": text_of(PHOTO)},
        headers={"Authorization": "Basic " + "YW5hQGV4YW1wbGUub3JnOnBiX2tleV9vZl9hbmE=",
                 "Idempotency-Key": ID},
    )  # fmt: skip
    assert stand.gate.onces == [None, None]


async def test_several_photos_get_an_answer_that_helps() -> None:
    files = [("photo", (f"{n}.jpg", PHOTO)) for n in range(3)]
    answer = await make_stand().client.post("/v1/blur", files=files, headers=BEARER)
    assert answer.status_code == 400
    assert "The form has 3 files. Send one photo per request" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("option", "value"),
    [("method", "solid"), ("margin", 0.3), ("metadata", "keep"), ("draw_boxes", True)],
)
async def test_detect_refuses_what_has_no_effect_on_it(option: str, value: object) -> None:
    body = {"photo": text_of(PHOTO), option: value}
    answer = await make_stand().client.post("/v1/detect", json=body, headers=BEARER)
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith(
        f"Invalid request data! {option}: has no effect here; leave it out."
    )
