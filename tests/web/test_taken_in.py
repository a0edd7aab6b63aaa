"""What is read of a refused body so that its client can read the answer: never without end."""

from __future__ import annotations

import asyncio

import pytest

from plateblur.web import middleware

pytestmark = pytest.mark.anyio

PART = 1024


class Body:
    """A body in parts of 1 KB; after the last one nothing more comes."""

    def __init__(self, parts: int, *, ends: bool = True) -> None:
        self.parts, self.ends, self.read = parts, ends, 0

    async def receive(self) -> dict[str, object]:
        if self.read == self.parts:
            await asyncio.Event().wait()
        self.read += 1
        more = not self.ends or self.read < self.parts
        return {"type": "http.request", "body": bytes(PART), "more_body": more}


async def test_a_body_is_read_to_its_end() -> None:
    body = Body(5)
    await middleware._take_in(body.receive, timeout_s=60, idle_s=60)
    assert body.read == 5


async def test_a_body_without_end_is_read_to_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(middleware, "HEAR_OUT_BYTES", 10 * PART)
    body = Body(1000, ends=False)
    await middleware._take_in(body.receive, timeout_s=60, idle_s=60)
    assert body.read == 10


async def test_a_body_that_stops_is_not_waited_for() -> None:
    body = Body(3, ends=False)
    await middleware._take_in(body.receive, timeout_s=60, idle_s=0.01)
    assert body.read == 3
