"""Sign-up, activation, log-in, a forgotten password."""

from __future__ import annotations

import re
from http import HTTPStatus

import httpx
import pytest

from plateblur.accounts import signup, throttle
from plateblur.accounts.consents import list_consents
from plateblur.accounts.profiles import find_profile
from plateblur.accounts.types import AccessError
from tests.accounts.fakes import EMAIL, PASSWORD
from tests.console.fakes import Stand, Visitor, hidden, link_in

pytestmark = pytest.mark.anyio

NEW_PASSWORD = "another long password"
FORM = {
    "email": EMAIL,
    "username": "",
    "password": PASSWORD,
    "consent_terms": "yes",
    "consent_privacy": "yes",
}


async def sign_up(visitor: Visitor, **changes: str) -> httpx.Response:
    return await visitor.send("/console/signup", FORM | changes)


async def follow(visitor: Visitor, letter: str, **form: str) -> httpx.Response:
    """Open a letter's link, then press the button of its page."""
    link = link_in(letter)
    shown = await visitor.get(link)
    token = hidden(shown.text, "token")
    return await visitor.send(link.partition("?")[0], form | {"token": token}, page=link)


def without_tokens(answer: httpx.Response) -> tuple[int, str, list[str]]:
    """Return what of an answer may tell something."""
    told = re.sub(r'[0-9a-f]{64}|<p class="note">Reference: \w+', "", answer.text)
    headers = {name: value for name, value in answer.headers.items() if name != "x-request-id"}
    return answer.status_code, told, sorted(f"{name}: {value}" for name, value in headers.items())


async def test_from_the_form_over_the_letter_into_the_console(stand: Stand) -> None:
    visitor = stand.visitor()
    answer = await sign_up(visitor, username="ana")
    assert answer.headers["location"] == "/console/sent?done=signup"
    (letter,) = stand.letters()
    assert f"To: {EMAIL}" in letter
    assert stand.told[0].endswith(link_in(letter))
    assert (await visitor.log_in()).status_code == HTTPStatus.UNPROCESSABLE_ENTITY
    done = await follow(visitor, letter, password=PASSWORD)
    assert done.headers["location"] == "/console?done=activated"
    assert "Your account is active" in (await visitor.get("/console?done=activated")).text
    assert (await stand.visitor().log_in("ana")).headers["location"] == "/console"
    assert EMAIL in (await visitor.get("/console")).text
    consents = list_consents(stand.store, find_profile(stand.store, EMAIL).account_id)
    assert [(entry.subject, entry.given) for entry in consents] == [
        ("terms", True), ("privacy", True), ("newsletter", False),
    ]  # fmt: skip


async def test_opening_the_link_alone_uses_nothing_up(stand: Stand) -> None:
    visitor = stand.visitor()
    await sign_up(visitor)
    (letter,) = stand.letters()
    for _ in range(3):  # as mail scanners do
        assert (await visitor.get(link_in(letter))).status_code == HTTPStatus.OK
    await follow(visitor, letter, password=PASSWORD)
    answer = await follow(stand.visitor(), letter, password=PASSWORD)
    assert answer.status_code == HTTPStatus.BAD_REQUEST
    assert "already used" in answer.text


@pytest.mark.parametrize(
    ("field", "value"),
    [("email", "nonsense"), ("email", "a@mailinator.com"), ("password", "short"),
     ("username", "a@b"), ("consent_terms", ""), ("consent_privacy", "")],
)  # fmt: skip
async def test_a_field_that_cannot_be_taken_is_named_and_the_rest_kept(
    stand: Stand, field: str, value: str
) -> None:
    answer = await sign_up(stand.visitor(), consent_newsletter="yes", **{field: value})
    assert answer.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
    assert f'<a href="#{field}">' in answer.text
    assert re.search(rf'id="{field}"[^>]*aria-describedby="[^"]*{field}-bad"', answer.text)
    assert re.search(r'id="consent_newsletter"[^>]*checked', answer.text)
    assert PASSWORD not in answer.text
    assert stand.letters() == []


async def test_sign_up_tells_nobody_who_has_an_account(stand: Stand) -> None:
    stand.make_account(EMAIL, username="taken")
    known = await sign_up(stand.visitor())
    unknown = await sign_up(stand.visitor(), email="nobody@plates.io")
    assert without_tokens(known) == without_tokens(unknown)
    known = await sign_up(stand.visitor(), username="taken")
    unknown = await sign_up(stand.visitor(), email="nobody@plates.io", username="taken")
    assert known.status_code == unknown.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
    assert without_tokens(known)[1].replace(EMAIL, "nobody@plates.io") == without_tokens(unknown)[1]


async def test_a_reset_tells_nobody_who_has_an_account(stand: Stand) -> None:
    stand.make_account()
    asked = [
        await stand.visitor().send("/console/forgotten", {"email": email})
        for email in (EMAIL, "nobody@plates.io", "nonsense")
    ]
    assert len({str(without_tokens(answer)) for answer in asked}) == 1
    assert len(stand.letters()) == 1


async def test_a_wrong_password_and_an_unknown_user_are_answered_alike(stand: Stand) -> None:
    stand.make_account()
    known = await stand.visitor().log_in(EMAIL, "wrong password here")
    unknown = await stand.visitor().log_in("nobody@plates.io", "wrong password here")
    assert known.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
    assert without_tokens(known)[1].replace(EMAIL, "") == without_tokens(unknown)[1].replace(
        "nobody@plates.io", ""
    )


async def test_sign_ups_of_one_network_are_limited(stand: Stand) -> None:
    visitor = stand.visitor()
    for number in range(signup.SIGN_UPS_PER_BLOCK):
        await sign_up(visitor, email=f"a{number}@plates.io")
    assert (await sign_up(visitor)).status_code == HTTPStatus.TOO_MANY_REQUESTS


async def test_guessing_at_the_log_in_is_slowed_and_the_owner_elsewhere_is_not(
    stand: Stand,
) -> None:
    stand.make_account()
    guesser = stand.visitor()
    for _ in range(throttle.FREE_PER_PAIR):
        await guesser.log_in(EMAIL, "wrong password here")
    answer = await guesser.log_in()
    assert answer.status_code == HTTPStatus.TOO_MANY_REQUESTS
    assert int(answer.headers["retry-after"]) >= 1
    assert (await stand.visitor(address="203.0.113.9").log_in()).status_code == HTTPStatus.SEE_OTHER


@pytest.mark.slow
async def test_nobody_fills_a_mailbox_with_reset_letters(stand: Stand) -> None:
    stand.make_account()
    visitor = stand.visitor()
    answers = [
        await visitor.send("/console/forgotten", {"email": EMAIL})
        for _ in range(2 * throttle.FREE_PER_PAIR)
    ]
    assert answers[-1].status_code == HTTPStatus.TOO_MANY_REQUESTS
    assert len(stand.letters()) == throttle.FREE_PER_PAIR
    # Asking for letters is not guessing: the log-in is as open as before.
    assert (await visitor.log_in()).status_code == HTTPStatus.SEE_OTHER


async def test_a_forgotten_password_is_set_by_the_letter_and_ends_sessions(stand: Stand) -> None:
    visitor = await stand.visit_as()
    await visitor.send("/console/forgotten", {"email": EMAIL})
    letter = stand.letters()[0]
    refused = await follow(stand.visitor(), letter, password="short")
    assert refused.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
    assert hidden(refused.text, "token") in letter
    done = await follow(stand.visitor(), letter, password=NEW_PASSWORD)
    assert done.headers["location"] == "/console/login?done=password"
    assert (await visitor.get("/console")).headers["location"] == "/console/login"
    assert (await visitor.log_in(EMAIL, NEW_PASSWORD)).headers["location"] == "/console"


async def test_links_go_to_the_public_address_whatever_host_was_asked(stand: Stand) -> None:
    await sign_up(stand.visitor(url="http://evil.example"))
    assert "evil.example" not in stand.letters()[0]


async def test_a_line_break_in_a_field_makes_no_header(stand: Stand) -> None:
    answer = await sign_up(stand.visitor(), email="a@plates.io\r\nBcc: b@plates.io")
    assert answer.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
    assert stand.letters() == []
    answer = await stand.visitor().get("/console/sent?done=a%0d%0aSet-Cookie:%20x=1")
    assert "x=1" not in str(answer.headers)


async def test_logging_out_ends_the_session_in_the_store(stand: Stand) -> None:
    visitor = await stand.visit_as()
    kept = dict(visitor.client.cookies)
    answer = await visitor.send("/console/logout", {}, page="/console")
    assert answer.headers["location"] == "/console/login?done=logged-out"
    thief = stand.visitor()
    thief.client.cookies.update(kept)
    assert (await thief.get("/console")).headers["location"] == "/console/login"


async def test_a_log_in_takes_no_cookie_that_was_there_before(stand: Stand) -> None:
    stand.make_account()
    visitor = stand.visitor()
    visitor.client.cookies.set("plateblur-session", "x" * 43)
    given = (await visitor.log_in()).headers["set-cookie"]
    assert re.match(r"plateblur-session=[A-Za-z0-9_-]{43}; HttpOnly; Path=/; SameSite=lax", given)
    assert "xxx" not in given


async def test_a_broken_store_is_a_page_that_says_so(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    visitor = await stand.visit_as()
    stand.store.close()
    (stand.folder / "accounts.sqlite3").write_bytes(b"no database any more" * 400)
    answer = await visitor.get("/console")
    assert answer.status_code == HTTPStatus.SERVICE_UNAVAILABLE
    assert answer.headers["retry-after"] == "5"
    assert "SQL" not in answer.text


async def test_a_locked_account_is_out_at_once(stand: Stand) -> None:
    visitor = await stand.visit_as()
    operator = await stand.visit_as("boss@plates.io", role="operator")
    account_id = find_profile(stand.store, EMAIL).account_id
    page = f"/console/operator/accounts/{account_id}"
    await operator.send(f"{page}/lock", {}, page=page)
    assert (await visitor.get("/console")).headers["location"] == "/console/login"
    with pytest.raises(AccessError):
        stand.gate.authenticate(EMAIL, PASSWORD, address="203.0.113.9")
    await operator.send(f"{page}/unlock", {}, page=page)
    assert (await visitor.log_in()).headers["location"] == "/console"
