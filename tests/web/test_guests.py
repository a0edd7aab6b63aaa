"""Photos of visitors without an account: the same answers, a few a day, from our own page alone."""

from __future__ import annotations

import pytest

from plateblur.errors import DetectionError
from plateblur.web import Settings
from tests.web.fakes import FakeBlur, FakeGate, make_stand, photo_bytes, text_of

pytestmark = pytest.mark.anyio

PHOTO = {"base64_Photo_String": text_of(photo_bytes())}


async def test_a_visitor_gets_the_documented_answer_without_an_account() -> None:
    stand = make_stand()
    answer = await stand.client.post("/try", json=PHOTO)
    assert list(answer.json()) == ["created", "predictions", "final_photo"]
    assert stand.gate.addresses == ["198.51.100.7"]
    assert (stand.gate.guests, stand.gate.requests) == (1, 0)
    assert stand.blur.asked[0].draw_boxes


async def test_the_allowance_ends_and_a_photo_that_failed_counts() -> None:
    gate = FakeGate(guest_limit=2)
    broken = make_stand(gate=gate, blur=FakeBlur(fails_with=DetectionError("no")))
    assert (await broken.client.post("/try", json=PHOTO)).json()[0]["cd"] == "2001"
    assert gate.guests == 1
    stand = make_stand(gate=gate)
    assert "predictions" in (await stand.client.post("/try", json=PHOTO)).json()
    refused = await stand.client.post("/try", json=PHOTO)
    assert refused.json()[0]["cd"] == "1002"
    assert refused.headers["retry-after"] == "60"


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_pages_of_others_send_nothing(site: str) -> None:
    stand = make_stand()
    answer = await stand.client.post("/try", json=PHOTO, headers={"Sec-Fetch-Site": site})
    assert answer.json()[0]["cd"] == "1014"
    assert stand.gate.guests == 0


async def test_a_visitor_has_nothing_fetched() -> None:
    stand = make_stand()
    answer = await stand.client.post("/try", json={"photo_url": "http://a.example/b.jpg"})
    assert "need an account" in answer.json()[0]["description"]
    assert stand.gate.guests == 0


async def test_the_operator_can_switch_it_off() -> None:
    stand = make_stand(settings=Settings(guest_photos=0))
    assert (await stand.client.post("/try", json=PHOTO)).status_code == 404
    front = (await stand.client.get("/")).text
    assert 'data-guest="0"' in front
    assert "No account needed" not in front
    assert "0 photos a day" not in front + (await stand.client.get("/pricing")).text


async def test_only_a_client_that_asks_gets_a_preview() -> None:
    stand = make_stand()
    answer = await stand.post(PHOTO | {"preview": "yes"})
    assert list(answer.json()) == ["created", "predictions", "final_photo", "preview"]
    assert "preview" not in (await stand.post(PHOTO)).json()
    assert (await stand.post(PHOTO | {"preview": "perhaps"})).json()[0]["cd"] == "1014"
