"""What a request may cost: argon2 last, in one bounded queue; bounded rows, bounded letters."""

from __future__ import annotations

import asyncio
import shutil
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http import HTTPStatus
from pathlib import Path

import pytest

from plateblur.accounts import consents, sessions, throttle, tickets
from plateblur.accounts.passwords import request_reset
from plateblur.accounts.profiles import find_profile
from plateblur.accounts.store import Store
from plateblur.console.console import PAGES
from tests.accounts.fakes import EMAIL, NOW, PASSWORD, SECRET
from tests.console.fakes import ADDRESS_OF_INVOICE, Stand, Visitor, hidden, link_in, make_stand
from tests.console.test_entry import FORM, NEW_PASSWORD
from tests.web.fakes import basic

pytestmark = [pytest.mark.slow, pytest.mark.anyio]

LINK = "x" * 43


@contextmanager
def full_queue(stand: Stand) -> Iterator[None]:
    """Take every place in which a hash could wait."""
    places = stand.hasher._queue._places
    with ExitStack() as taken:
        while places.acquire(blocking=False):
            taken.callback(places.release)
        yield


async def reset_link(stand: Stand) -> str:
    letter = request_reset(
        stand.store, email=EMAIL, page_url="http://plates.test/console/reset", now=NOW
    )
    assert letter is not None
    return link_in(letter.body)


async def activation_link(stand: Stand, email: str = "new@plates.io") -> str:
    await stand.visitor().send("/console/signup", FORM | {"email": email})
    return link_in(stand.letters()[-1])


async def test_a_hundred_resets_without_a_link_hash_nothing(stand: Stand) -> None:
    visitor = stand.visitor()
    token = hidden((await visitor.get(f"/console/reset?token={LINK}")).text, "csrf")
    answers = await asyncio.gather(
        *(
            visitor.client.post(
                "/console/reset",
                data={"csrf": token, "token": f"{number:043}", "password": NEW_PASSWORD},
            )
            for number in range(100)
        )
    )
    assert {answer.status_code for answer in answers} == {HTTPStatus.BAD_REQUEST}
    assert (stand.hasher.hashes, stand.hasher.verifications) == (0, 0)


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("/console/reset", {"token": LINK, "password": NEW_PASSWORD}),
        ("/console/reset", {"token": "OWN", "password": "short"}),
        ("/console/activate", {"token": LINK, "password": PASSWORD}),
        ("/console/signup", FORM | {"password": "short"}),
        ("/console/signup", FORM | {"email": "nonsense"}),
        ("/console/signup", FORM | {"email": "a@plates.io" * 10_000}),
        ("/console/signup", FORM | {"username": "taken"}),
        ("/console/signup", FORM | {"consent_terms": ""}),
        ("/console/profile/password", {"old": PASSWORD, "password": "short"}),
        ("/console/profile/email", {"email": "nonsense", "email_password": PASSWORD}),
        ("/console/profile/delete", {"password": PASSWORD}),
        ("/console/keys", {"label": "camera"}),
    ],
    ids=[
        "reset, no link", "reset, short", "activate, no link", "sign-up, short",
        "sign-up, no address", "sign-up, long address", "sign-up, taken name",
        "sign-up, no consent", "password, short", "address, none", "delete, unsure", "a key",
    ],
)  # fmt: skip
async def test_cheap_checks_come_before_argon2(
    stand: Stand, path: str, form: dict[str, str]
) -> None:
    stand.make_account("taken@plates.io", username="taken")
    visitor = await stand.visit_as()
    if form.get("token") == "OWN":
        form = form | {"token": (await reset_link(stand)).partition("token=")[2]}
    page = "/console/profile" if "profile/" in path and "delete" not in path else ""
    page = "/console/order" if "signup" in path or "reset" in path or "activate" in path else page
    # The password was right a moment ago, and must not be remembered here.
    stand.clock.turn(minutes=6)
    before = (stand.hasher.hashes, stand.hasher.verifications)
    await visitor.send(path, form, page=page)
    assert (stand.hasher.hashes, stand.hasher.verifications) == before


async def test_a_form_without_its_token_hashes_nothing(stand: Stand) -> None:
    stand.make_account()
    before = (stand.hasher.hashes, stand.hasher.verifications)
    for page in PAGES:
        if page.method == "POST":
            await stand.visitor().client.post(page.path, data=FORM | {"username": EMAIL})
    assert (stand.hasher.hashes, stand.hasher.verifications) == before


@pytest.mark.parametrize(
    "path",
    ["/console/signup", "/console/login", "/console/activate", "/console/reset",
     "/console/profile/password", "/console/profile/email", "/console/profile/delete"],
)  # fmt: skip
async def test_where_too_many_hash_a_page_says_when_to_come_again(stand: Stand, path: str) -> None:
    visitor = await stand.visit_as()
    stand.clock.turn(minutes=6)  # the log-in is not remembered any more
    form = FORM | {"username": EMAIL, "old": PASSWORD, "email_password": PASSWORD, "sure": "yes"}
    if path == "/console/signup":
        form["username"] = ""
    if path == "/console/reset":
        form["token"] = (await reset_link(stand)).partition("token=")[2]
    if path == "/console/activate":
        form["token"] = (await activation_link(stand)).partition("token=")[2]
    with full_queue(stand):
        answer = await visitor.send(path, form, page="/console/order")
    assert answer.status_code == HTTPStatus.SERVICE_UNAVAILABLE
    assert answer.headers["retry-after"] == "2"
    assert "try again shortly" in answer.text
    again = await visitor.send(path, form, page="/console/order")
    assert again.status_code == HTTPStatus.SEE_OTHER, "it was used up by the busy answer"


async def test_where_too_many_hash_the_api_says_so_in_its_own_form(stand: Stand) -> None:
    stand.make_account()
    client = stand.visitor().client
    headers = {"Authorization": basic(EMAIL, PASSWORD)}
    with full_queue(stand):
        documented = await client.post("/plateblurer.aspx", json={}, headers=headers)
        modern = await client.get("/v1/usage", headers=headers)
    assert documented.status_code == HTTPStatus.OK
    (error,) = documented.json()
    assert (error["cd"], documented.headers["retry-after"]) == ("2001", "2")
    assert "busy" in error["description"]
    assert modern.status_code == HTTPStatus.SERVICE_UNAVAILABLE
    assert (modern.json()["cd"], modern.headers["retry-after"]) == ("2001", "2")
    assert (await client.get("/v1/usage", headers=headers)).json()["cd"] == "1006"


@pytest.mark.parametrize("kept", [False, True], ids=["by default", "kept"])
async def test_a_reset_by_mail_revokes_the_keys_unless_told_otherwise(
    stand: Stand, kept: bool
) -> None:
    visitor = await stand.visit_as()
    made = await visitor.send("/console/keys", {"label": "camera"})
    key = made.text.partition('<code id="new-key">pb_')[2].partition("</code>")[0]
    link = await reset_link(stand)
    form = {"token": link.partition("token=")[2], "password": NEW_PASSWORD}
    done = await stand.visitor().send(
        "/console/reset", form | ({"keep_keys": "yes"} if kept else {}), page=link
    )
    assert done.headers["location"].endswith("done=password" if kept else "done=password-keys")
    answer = await visitor.client.get("/v1/usage", headers={"Authorization": f"Bearer pb_{key}"})
    assert answer.json()["cd"] == ("1006" if kept else "1015")


async def test_another_persons_letter_activates_nothing(stand: Stand) -> None:
    link = await activation_link(stand)
    visitor = stand.visitor()
    form = {"token": link.partition("token=")[2], "password": "the reader's own password"}
    refused = await visitor.send("/console/activate", form, page=link)
    assert refused.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
    assert '<a href="#password">' in refused.text
    assert (await visitor.get("/console")).headers["location"] == "/console/login"


@pytest.mark.parametrize(
    "path",
    ["/console/tickets/{}", "/console/keys/{}/revoke", "/console/operator/accounts/{}",
     "/console/operator/tickets/{}", "/console/tickets/{}/close", "/console/invoices/{}",
     "/console/operator?after={}"],
)  # fmt: skip
@pytest.mark.parametrize(
    "number", ["9" * 5_000, str(2**63), "0" * 5_000 + "1", "1" * 19, "²", "-1", "x"],
    ids=["5,000 digits", "over BIGINT", "zeros", "19 digits", "no digit", "negative", "letter"],
)  # fmt: skip
async def test_a_number_that_no_id_can_be_is_not_found(
    stand: Stand, path: str, number: str
) -> None:
    operator = await stand.visit_as(role="operator")
    for answer in (
        await operator.get(path.format(number)),
        await operator.send(path.format(number), {"text": "x"}, page="/console"),
    ):
        expected = {HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED}
        assert answer.status_code in (expected | {HTTPStatus.OK} if "?" in path else expected)


async def test_a_new_log_in_ends_the_session_before_it_and_there_are_so_many(stand: Stand) -> None:
    visitor = await stand.visit_as()
    kept = dict(visitor.client.cookies)
    visitor.client.cookies.delete("plateblur-session")
    for _ in range(sessions.MAX_SESSIONS):
        stand.clock.turn(seconds=1)
        await visitor.log_in()
        visitor.client.cookies.delete("plateblur-session")
    thief = stand.visitor()
    thief.client.cookies.update(kept)
    assert (await thief.get("/console")).headers["location"] == "/console/login"


async def test_letters_to_other_addresses_are_slowed(stand: Stand) -> None:
    visitor = await stand.visit_as()
    answers = [
        await visitor.send(
            "/console/profile/email",
            {"email": f"stranger{number}@plates.io", "email_password": PASSWORD},
            page="/console/profile",
        )
        for number in range(2 * throttle.FREE_PER_PAIR)
    ]
    assert answers[-1].status_code == HTTPStatus.TOO_MANY_REQUESTS
    assert int(answers[-1].headers["retry-after"]) >= 1
    assert len(stand.letters()) == throttle.FREE_PER_PAIR


async def test_letters_that_are_asked_for_at_once_are_slowed_as_those_in_a_row(
    stand: Stand,
) -> None:
    stand.make_account()
    visitor = stand.visitor()
    form = {"email": EMAIL, "csrf": hidden((await visitor.get("/console/forgotten")).text, "csrf")}
    answers = await asyncio.gather(
        *(visitor.client.post("/console/forgotten", data=form) for _ in range(30))
    )
    sent = [answer for answer in answers if answer.status_code == HTTPStatus.SEE_OTHER]
    assert len(sent) == len(stand.letters()) == throttle.FREE_PER_PAIR


async def test_one_account_does_not_fill_the_queue_by_changing_its_password(stand: Stand) -> None:
    visitor = await stand.visit_as()
    password, form = PASSWORD, {}
    for number in range(throttle.FREE_PER_PAIR + 1):
        form = {"old": password, "password": f"another long password {number}"}
        answer = await visitor.send("/console/profile/password", form, page="/console/profile")
        if answer.status_code == HTTPStatus.SEE_OTHER:
            password = form["password"]
            await visitor.log_in(EMAIL, password)
    assert answer.status_code == HTTPStatus.TOO_MANY_REQUESTS


async def test_invoices_are_not_mailed_without_end(stand: Stand) -> None:
    visitor = await stand.visit_as()
    for _ in range(2 * throttle.FREE_PER_PAIR):
        answer = await visitor.order(ADDRESS_OF_INVOICE | {"kind": "monthly"})
    assert answer.status_code == HTTPStatus.TOO_MANY_REQUESTS
    assert len(stand.letters()) == throttle.FREE_PER_PAIR


async def test_invoices_are_drawn_one_at_a_time(stand: Stand) -> None:
    visitor = await stand.visit_as()
    await visitor.order(ADDRESS_OF_INVOICE | {"kind": "monthly"})
    path = "/console/invoices/PB-2026-000001/pdf"
    answers = await asyncio.gather(*(visitor.get(path) for _ in range(30)))
    told = [answer.status_code for answer in answers]
    assert HTTPStatus.OK in told
    assert set(told) <= {HTTPStatus.OK, HTTPStatus.SERVICE_UNAVAILABLE}
    assert told.count(HTTPStatus.SERVICE_UNAVAILABLE) > 0
    assert (await visitor.get(path)).content.startswith(b"%PDF")


async def test_a_mail_server_that_hangs_holds_up_no_page(
    tmp_path: Path, empty_sqlite: Path
) -> None:
    shutil.copy(empty_sqlite, tmp_path)
    store = Store(f"sqlite:///{tmp_path}/accounts.sqlite3", secret=SECRET)
    with socket.create_server(("127.0.0.1", 0), backlog=100) as silent:
        port = silent.getsockname()[1]
        stand = make_stand(
            store, tmp_path, smtp_host="127.0.0.1", smtp_port=port, smtp_security="none"
        )
        visitor = stand.visitor()
        token = hidden((await visitor.get("/console/forgotten")).text, "csrf")
        asked = []
        for number in range(45):  # more than all threads that answer requests
            email = f"a{number}@plates.io"
            stand.make_account(email)
            form = {"csrf": token, "email": email}
            asked.append(asyncio.create_task(visitor.client.post("/console/forgotten", data=form)))
        await asyncio.sleep(1)
        async with asyncio.timeout(5):
            assert (await stand.visitor().get("/console/login")).status_code == HTTPStatus.OK
        assert not all(one.done() for one in asked)
    answers = await asyncio.gather(*asked)  # nobody listens any more: each letter fails at once
    assert {answer.status_code for answer in answers} == {HTTPStatus.SEE_OTHER}
    store.close()


async def test_the_consent_log_takes_a_change_alone_and_taking_back_always(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consents, "MAX_LINES", 3)
    visitor = await stand.visit_as()

    async def decide(given: str) -> int:
        return (await visitor.send("/console/consents", {"given": given})).status_code

    for given in ("yes", "yes", "no", "no", "yes"):
        assert await decide(given) == HTTPStatus.SEE_OTHER
    assert await decide("no") == HTTPStatus.SEE_OTHER
    assert await decide("yes") == HTTPStatus.CONFLICT
    log = consents.list_consents(stand.store, find_profile(stand.store, EMAIL).account_id)
    assert [entry.given for entry in log] == [True, False, True, False]


async def test_tickets_and_what_is_written_on_a_day_have_a_bound(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tickets, "MAX_TICKETS", 3)
    monkeypatch.setattr(tickets, "MAX_MESSAGES_A_DAY", 6)
    account_id = stand.make_account()
    visitor = stand.visitor()
    await visitor.log_in()
    for number in range(5):
        opened = await visitor.send("/console/tickets", {"subject": f"{number}", "text": "t"})
        path = opened.headers["location"].partition("?")[0]
        if number != 1:
            await visitor.send(f"{path}/close", {}, page=path)
    left = tickets.list_tickets(stand.store, account_id=account_id)
    assert [one.subject for one in left] == ["4", "3", "1"]

    async def write() -> int:
        return (await visitor.send(path, {"text": "more"})).status_code

    # Two of the five tickets have left with their messages.
    assert [await write() for _ in range(4)] == [303, 303, 303, 422]
    tickets.reply(stand.store, left[0].ticket_id, account_id=None, text="answer", now=NOW)
    stand.clock.turn(days=1, seconds=1)
    await visitor.log_in()
    assert await write() == HTTPStatus.SEE_OTHER


async def test_whoever_held_the_old_address_is_told(stand: Stand) -> None:
    visitor: Visitor = await stand.visit_as()
    form = {"email": "new@plates.io", "email_password": PASSWORD}
    await visitor.send("/console/profile/email", form, page="/console/profile")
    link = link_in(stand.letters()[-1])
    await visitor.send("/console/email", {"token": link.partition("token=")[2]}, page=link)
    letter = stand.letters()[-1]
    assert f"To: {EMAIL}" in letter
    assert "new@plates.io" not in letter


async def test_letters_of_a_deleted_account_leave_the_outbox(stand: Stand) -> None:
    visitor = await stand.visit_as()
    stand.make_account("ion@plates.io")
    await visitor.send("/console/forgotten", {"email": EMAIL.upper()})
    form = {"email": "new@plates.io", "email_password": PASSWORD}
    await visitor.send("/console/profile/email", form, page="/console/profile")
    await visitor.send("/console/forgotten", {"email": "ion@plates.io"})
    assert len(stand.letters()) == 3
    await visitor.send("/console/profile/delete", {"password": PASSWORD, "sure": "yes"})
    (left,) = stand.letters()
    assert "To: ion@plates.io" in left
