"""The first page after login: the plan and its live usage."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

import orjson
from anyio import to_thread
from fastapi.responses import Response
from sse_starlette import EventSourceResponse, ServerSentEvent

from plateblur.accounts import profiles, quota, sessions, signup
from plateblur.accounts.pulse import pulse
from plateblur.accounts.store import StoreUnavailableError
from plateblur.accounts.types import (
    PREDICTIONS_PER_MONTH,
    AccessError,
    AccountClosedError,
    Identity,
    InvoiceStoreError,
    PlanError,
    PlanKind,
    Role,
    TrialStoreError,
)
from plateblur.console.chart import Chart, chart_of
from plateblur.console.door import HOME, Visit

SHOWN_DAYS = 14
LOOK_EVERY_S = 1.0
STREAM_FOR_S = 300.0  # then the browser reconnects, and its session is checked again
KEEP_ALIVE_S = 15.0  # Source: WHATWG HTML, 9.2.7 "a comment line every 15 seconds or so"
STREAMS_PER_ACCOUNT = 4
STREAMS = 200  # in one worker
COME_BACK_MS = 2_000
COME_BACK_LATER_MS = 60_000


@dataclass(frozen=True, slots=True)
class Figures:
    """The usage of a plan, formatted for display.

    Attributes:
        kind: "trial", "monthly", "yearly"; "none" where no plan runs.
        cd: the code that a request would get for lack of a plan, else "".
        why: why there is no plan, else "".
        ends: the plan's end.
        requests_used: in the plan's window.
        requests_left: of it.
        requests_limit: the most that the window allows.
        requests_reset: when it allows more.
        predictions_used: in the running month; on the trial today.
        predictions_left: of the month; None on the trial, which does not limit them.
        predictions_reset: when the month's count starts again, or "".
    """

    kind: str
    cd: str = ""
    why: str = ""
    ends: str = ""
    requests_used: int = 0
    requests_left: int = 0
    requests_limit: int = 0
    requests_reset: str = ""
    predictions_used: int = 0
    predictions_left: int | None = None
    predictions_reset: str = ""


def moment(at: datetime) -> str:
    """Return a moment as all pages write it."""
    return f"{at:%Y-%m-%d %H:%M} UTC"


def read_figures(visit: Visit, *, account_id: int, email: str, now: datetime) -> Figures:
    """Return an account's figures as of now.

    Raises:
        AccountClosedError: the account was deleted.
        AccessError: the store can't be reached.
        StoreUnavailableError: the same.
    """
    gate = visit.parts.gate
    identity = Identity(account_id, email)
    try:
        plan = gate.active_plan(identity)
    except (TrialStoreError, InvoiceStoreError):
        raise
    except PlanError as error:
        return Figures("none", cd=error.cd, why=str(error))
    usage = gate.usage(identity, plan)
    predictions = usage.predictions
    if usage.predictions_limit is None:
        today = quota.days_of_use(visit.parts.store, account_id, since=now.date())
        predictions = sum(day.predictions for day in today)
    return Figures(
        kind=plan.kind.value,
        ends=moment(plan.ends_at),
        requests_used=usage.window_requests,
        requests_left=max(0, usage.window_limit - usage.window_requests),
        requests_limit=usage.window_limit,
        requests_reset=moment(usage.window_resets_at) if plan.kind is PlanKind.TRIAL else "",
        predictions_used=predictions,
        predictions_left=None
        if usage.predictions_limit is None
        else max(0, usage.predictions_limit - predictions),
        predictions_reset=moment(usage.month_resets_at) if usage.month_resets_at else "",
    )


def show_home(visit: Visit) -> Response:
    """Return the page with the current figures; its script keeps them up to date."""
    store, account_id = visit.parts.store, visit.account_id
    profile = profiles.read_profile(store, account_id)
    return visit.page(
        "home.html",
        figures=_own_figures(visit, visit.now),
        profile=profile,
        chart=read_chart(visit, account_id),
        predictions_limit=PREDICTIONS_PER_MONTH,
    )


def read_chart(visit: Visit, account_id: int) -> Chart:
    """Return the chart of an account's last days.

    Raises:
        StoreUnavailableError: the database can't be reached.
    """
    today = visit.now.date()
    since = today - timedelta(days=SHOWN_DAYS - 1)
    used = quota.days_of_use(visit.parts.store, account_id, since=since)
    return chart_of(used, today=today, days=SHOWN_DAYS)


def start_trial(visit: Visit) -> Response:
    """Start the trial, once per person."""
    signup.start_trial(visit.parts.store, visit.account_id, now=visit.now)
    return visit.moved(HOME, done="trial")


def stream_figures(visit: Visit) -> Response:
    """Return the figures as server-sent events, and when anything else on a page changed."""
    return EventSourceResponse(_events(visit), ping=KEEP_ALIVE_S)


async def _events(visit: Visit) -> AsyncIterator[ServerSentEvent]:
    with _place(visit.account_id) as free:
        if not free:
            yield ServerSentEvent(retry=COME_BACK_LATER_MS)
            return
        yield ServerSentEvent(retry=COME_BACK_MS)
        shown, beat, ends_at = None, None, time.monotonic() + STREAM_FOR_S
        while time.monotonic() < ends_at:
            seen = await to_thread.run_sync(_look, visit)
            if seen is None:
                return
            figures, now_beat = seen
            if figures != shown:
                shown = figures
                yield ServerSentEvent(event="figures", data=orjson.dumps(figures).decode())
            if now_beat != beat and beat is not None:
                yield ServerSentEvent(event="changed", data="")
            beat = now_beat
            await asyncio.sleep(LOOK_EVERY_S)


def _look(visit: Visit) -> tuple[Figures, tuple[int, ...]] | None:
    """Return figures and counts; None if the session has ended or the store does not answer."""
    now = visit.parts.clock()
    try:
        who = sessions.who_is(visit.parts.store, visit.session, now=now, touch=False)
        if who is None:
            return None
        whose = None if who.role is Role.OPERATOR else who.account_id
        return _own_figures(visit, now), pulse(visit.parts.store, whose)
    except (AccessError, StoreUnavailableError):
        return None


def _own_figures(visit: Visit, now: datetime) -> Figures:
    if visit.who is None:
        raise AccountClosedError("Nobody is logged in.")
    return read_figures(visit, account_id=visit.account_id, email=visit.who.email, now=now)


_streams: Counter[int] = Counter()
_streams_lock = threading.Lock()


@contextmanager
def _place(account_id: int) -> Iterator[bool]:
    """Tell whether one more stream may be open, and hold its place meanwhile."""
    with _streams_lock:
        free = _streams[account_id] < STREAMS_PER_ACCOUNT and _streams.total() < STREAMS
        _streams[account_id] += free
    try:
        yield free
    finally:
        with _streams_lock:
            _streams[account_id] -= free
            if not _streams[account_id]:
                del _streams[account_id]
