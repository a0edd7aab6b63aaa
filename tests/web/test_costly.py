"""A photo that costs too much, and one that nobody waits for: what is answered and counted."""

from __future__ import annotations

import pytest

from plateblur.errors import TooCostlyError, WorkEndedError
from plateblur.web import Settings
from tests.web.fakes import FakeBlur, FakeGate, make_stand, photo_bytes, text_of


@pytest.mark.anyio
@pytest.mark.parametrize(("real", "status"), [(False, 200), (True, 422)], ids=["as told", "real"])
async def test_a_photo_that_costs_too_much_is_2001_and_given_back(real: bool, status: int) -> None:
    gate = FakeGate()
    error = TooCostlyError("it needs more than 40 s of processing")
    stand = make_stand(
        gate=gate, blur=FakeBlur(fails_with=error), settings=Settings(real_status_codes=real)
    )

    answer = await stand.post({"base64_Photo_String": text_of(photo_bytes())})

    assert answer.status_code == status
    assert answer.json()[0]["cd"] == "2001"
    assert "more time or memory" in answer.json()[0]["description"]
    assert "Reference: " in answer.json()[0]["description"]
    assert (gate.requests, gate.predictions) == (0, 0)


@pytest.mark.anyio
async def test_work_that_was_ended_because_its_client_left_is_no_error_and_costs_nothing() -> None:
    gate = FakeGate()
    stand = make_stand(gate=gate, blur=FakeBlur(fails_with=WorkEndedError("the work was ended")))

    answer = await stand.post({"base64_Photo_String": text_of(photo_bytes())})

    assert answer.status_code == 499
    assert (gate.requests, gate.predictions) == (0, 0)
