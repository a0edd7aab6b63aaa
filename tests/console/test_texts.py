"""The privacy notice says what the code does: periods, logs and links are those of the code."""

from __future__ import annotations

import logging
import re
from datetime import timedelta
from html import unescape

import pytest

from plateblur.accounts import links, periods, sessions
from plateblur.accounts.faqs import FAQS
from plateblur.console.texts import KEPT, in_words
from tests.accounts.fakes import EMAIL
from tests.console.fakes import Stand, make_stand

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("period", "words"),
    [
        (timedelta(hours=1), "1 hour"), (timedelta(hours=12), "12 hours"),
        (timedelta(hours=24), "1 day"), (timedelta(days=2), "2 days"),
        (timedelta(days=14), "14 days"),
    ],
)  # fmt: skip
def test_a_period_is_said_in_words(period: timedelta, words: str) -> None:
    assert in_words(period) == words


async def test_the_notice_states_the_periods_that_upkeep_deletes_by(stand: Stand) -> None:
    page = unescape((await stand.visitor().get("/privacy")).text)
    for data, period in KEPT:
        assert data in page
        assert period in page
    said = dict(KEPT)
    for data, constant in (
        ("E-mails to you, if this service has no mail server", periods.KEEP_OUTBOX),
        ("A sign-up that is not activated", periods.KEEP_SIGN_UP),
        (
            "Time and number of predictions of each request, and the hashes of its idempotency key",
            periods.KEEP_REQUESTS,
        ),
        ("Links in e-mails", links.VALID_FOR["reset"]),
        ("Login sessions", sessions.AT_MOST),
    ):
        assert in_words(constant) in said[data]
    for years in (periods.KEEP_INVOICE_YEARS, periods.KEEP_TRIAL_HASH_YEARS):
        assert any(period.startswith(f"{years} years") for period in said.values())
        assert f"{years} years" in FAQS[-1].answer


async def test_a_request_logs_what_the_notice_says_and_nothing_else(
    stand: Stand, caplog: pytest.LogCaptureFixture
) -> None:
    visitor = await stand.visit_as()
    with caplog.at_level(logging.INFO, logger="plateblur"):
        caplog.clear()
        await visitor.get("/console?note=secret-words")
    (record,) = [one for one in caplog.records if one.getMessage() == "request"]
    told = vars(record)["fields"]
    assert set(told) == {
        "reference", "method", "route", "status", "cd", "account", "duration_ms",
        "body_bytes", "sent_bytes",
    }  # fmt: skip
    assert told["route"] == "/console"
    for hidden in ("secret-words", EMAIL, "198.51.100.7"):
        assert hidden not in str(told)
    page = " ".join(unescape((await visitor.get("/privacy")).text).split())
    for words in (
        "the time, a random reference, the method and route, the status and error code, your "
        "account number, the duration, and the size of request and response",
        "IP addresses, passwords and keys are never logged",
    ):
        assert words in page


@pytest.mark.parametrize("path", ["/console/login", "/privacy", "/console", "/"])
async def test_every_page_links_to_the_source_code_and_the_notice(stand: Stand, path: str) -> None:
    visitor = await stand.visit_as()
    if path == "/console/login":
        visitor = stand.visitor()
    footer = (await visitor.get(path)).text.partition("<footer>")[2]
    assert re.search(r'<a href="/source\.zip">Source code \(AGPL\)</a>', footer)
    assert '<a href="/privacy">' in footer


async def test_a_changed_service_links_to_its_own_source_code(
    stand: Stand, tmp_path_factory: pytest.TempPathFactory
) -> None:
    changed = "https://blur.example/changes.git"
    other = make_stand(stand.store, tmp_path_factory.mktemp("other"), source_url=changed)
    footer = (await other.visitor().get("/console/login")).text.partition("<footer>")[2]
    assert f'<a href="{changed}">Source code (AGPL)</a>' in footer


@pytest.mark.parametrize("demo", [False, True], ids=["api alone", "with demo"])
async def test_the_notice_speaks_of_the_demo_only_where_there_is_one(
    stand: Stand, tmp_path_factory: pytest.TempPathFactory, demo: bool
) -> None:
    other = make_stand(stand.store, tmp_path_factory.mktemp("other"), demo=demo)
    page = (await other.visitor().get("/privacy")).text
    assert ('href="/demo/"' in page) is demo
