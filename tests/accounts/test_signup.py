"""Sign-up, activation and the one trial per person."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import insert, select

from plateblur.accounts import profiles, signup
from plateblur.accounts.consents import list_consents
from plateblur.accounts.gate import StoreGate
from plateblur.accounts.mail import Email
from plateblur.accounts.models import PendingSignUp, TrialPerson
from plateblur.accounts.signup import ConsentGiven
from plateblur.accounts.store import Store
from plateblur.accounts.types import (
    AccountClosedError,
    FieldError,
    LinkError,
    PlanKind,
    SignUpLimitError,
    TrialRefusedError,
)
from plateblur.accounts.upkeep import prune
from tests.accounts.fakes import EMAIL, NOW, PASSWORD, CountingHasher, make_account

HERE = "203.0.113.7"


def sign_up(
    store: Store, *, email: str = EMAIL, address: str = HERE, username: str = "", day: float = 0
) -> Email:
    return signup.sign_up(
        store,
        CountingHasher(),
        email=email,
        username=username,
        password=PASSWORD,
        consents=[ConsentGiven("terms", "2026-01", True), ConsentGiven("news", "1", False)],
        address=address,
        activation_url="https://plates.example/activate",
        now=NOW + timedelta(days=day),
    )


def secret_of(letter: Email) -> str:
    return letter.link.partition("?token=")[2]


def activate(store: Store, letter: Email, *, password: str = PASSWORD, day: float = 0) -> int:
    return signup.activate(
        store,
        CountingHasher(),
        secret_of(letter),
        password=password,
        address=HERE,
        now=NOW + timedelta(days=day),
    ).account_id


def test_the_story_from_sign_up_to_the_trial(store: Store, gate: StoreGate) -> None:
    letter = sign_up(store, username="ana")
    assert letter.to == EMAIL
    assert letter.link.startswith("https://plates.example/activate?token=")
    assert letter.link in letter.body
    with pytest.raises(AccountClosedError):
        gate.authenticate("ana", PASSWORD, address=HERE)
    account_id = activate(store, letter)
    identity = gate.authenticate("ana", PASSWORD, address=HERE)
    assert identity.account_id == account_id
    trial = signup.start_trial(store, account_id, now=NOW)
    assert trial.ends_at == NOW + timedelta(days=7)
    assert gate.active_plan(identity).kind is PlanKind.TRIAL
    assert [(c.subject, c.given) for c in list_consents(store, account_id)] == [
        ("terms", True), ("news", False),
    ]  # fmt: skip


@pytest.mark.parametrize("case", ["used", "old", "unknown", "many newer ones"])
def test_an_activation_link_works_once_and_for_two_days(store: Store, case: str) -> None:
    letter, day = sign_up(store), 0
    if case == "used":
        activate(store, letter)
    elif case == "old":
        day = 2
    elif case == "unknown":
        letter = replace(letter, link="https://plates.example/activate?token=" + "x" * 43)
    else:
        for number in range(signup.PER_ADDRESS):
            sign_up(store, address=f"198.51.{number}.9", day=(number + 1) / 1000)
    with pytest.raises(LinkError):
        activate(store, letter, day=day)


def test_an_address_with_an_account_is_told_by_letter_only(store: Store) -> None:
    activate(store, sign_up(store))
    letter = sign_up(store, email=EMAIL.upper())
    assert (letter.to.casefold(), letter.link) == (EMAIL, "")
    assert "already" in letter.subject


def test_a_taken_user_name_does_not_tell_whether_the_address_has_an_account(store: Store) -> None:
    make_account(store, email="ion@plates.io", username="taken")
    activate(store, sign_up(store))
    for email in (EMAIL, "nobody@plates.io"):
        with pytest.raises(FieldError) as caught:
            sign_up(store, email=email, username="taken")
        assert caught.value.field == "username"


def test_a_sign_up_that_was_never_activated_holds_no_user_name(
    store: Store, gate: StoreGate
) -> None:
    sign_up(store, username="ana", email="ion@plates.io")
    late = sign_up(store, username="ana", email="late@plates.io")
    activate(store, sign_up(store, username="ana"))
    assert gate.authenticate("ana", PASSWORD, address=HERE).email == EMAIL
    # Who comes too late for the name gets the account without it.
    assert profiles.read_profile(store, activate(store, late)).username == ""


@pytest.mark.parametrize(
    ("email", "username", "field"),
    [("a@mailinator.com", "", "email"), ("nonsense", "", "email"), (EMAIL, "taken", "username"),
     (EMAIL, "a:b", "username")],
    ids=["throwaway", "no address", "taken name", "bad name"],
)  # fmt: skip
def test_a_sign_up_that_cannot_be_taken_names_its_field(
    store: Store, email: str, username: str, field: str
) -> None:
    make_account(store, email="ion@plates.io", username="Taken")
    with pytest.raises(FieldError) as caught:
        sign_up(store, email=email, username=username)
    assert caught.value.field == field


def test_sign_ups_are_limited_by_block_and_day(store: Store) -> None:
    for number in range(signup.SIGN_UPS_PER_BLOCK):
        sign_up(store, email=f"a{number}@plates.io", address=f"203.0.113.{number}")
    with pytest.raises(SignUpLimitError):
        sign_up(store, address="203.0.113.200")
    sign_up(store, address="203.0.114.1")
    sign_up(store, email="later@plates.io", day=1)


def test_parallel_sign_ups_of_one_address_make_one_account(store: Store) -> None:
    with ThreadPoolExecutor(6) as pool:
        letters = list(pool.map(lambda _: sign_up(store), range(6)))

    def click(letter: Email) -> bool:
        try:
            activate(store, letter)
        except LinkError:
            return False
        return True

    with ThreadPoolExecutor(10) as pool:
        assert sum(pool.map(click, letters * 2)) == 1
    assert len(profiles.list_profiles(store)) == 1


def test_a_dead_sign_up_is_dropped_with_its_link_and_an_operators_after_a_week(
    store: Store,
) -> None:
    sign_up(store)
    signup.create_account(
        store, CountingHasher(), email="p@plates.io", password=PASSWORD, now=NOW, active=False
    )
    make_account(store, email="ion@plates.io")
    prune(store, outbox=Path("no outbox"), now=NOW + timedelta(days=2))
    with store.read() as connection:
        assert connection.execute(select(PendingSignUp)).all() == []
    assert len(profiles.list_profiles(store)) == 2
    prune(store, outbox=Path("no outbox"), now=NOW + timedelta(days=8))
    assert [p.email for p in profiles.list_profiles(store)] == ["ion@plates.io"]


@pytest.mark.parametrize(
    "email", [EMAIL, "ana.pop+again@plates.io", "ANA.POP@PLATES.IO"],
    ids=["same", "tag", "case"],
)  # fmt: skip
def test_one_trial_per_person_also_after_deletion(store: Store, email: str) -> None:
    first = make_account(store, plan=PlanKind.TRIAL)
    with pytest.raises(TrialRefusedError):
        signup.start_trial(store, first.account_id, now=NOW)
    profiles.delete_account(store, first.account_id, outbox=Path("no outbox"))
    again = make_account(store, email=email)
    with pytest.raises(TrialRefusedError):
        signup.start_trial(store, again.account_id, now=NOW)
    assert not profiles.read_profile(store, again.account_id).has_trial


def test_a_trial_noted_before_more_rules_were_known_still_counts(store: Store) -> None:
    noted = store.keyed_hash("trial person", "ana.pop@protonmail.com")
    with store.write() as connection:
        connection.execute(insert(TrialPerson).values(person_hash=noted, started_at=NOW))
    again = make_account(store, email="Ana.Pop+x@protonmail.com")
    with pytest.raises(TrialRefusedError):
        signup.start_trial(store, again.account_id, now=NOW)


def test_parallel_clicks_start_one_trial(store: Store) -> None:
    accounts = [make_account(store, email=f"ana+{n}@plates.io").account_id for n in range(5)]

    def click(account_id: int) -> bool:
        try:
            signup.start_trial(store, account_id, now=NOW)
        except TrialRefusedError:
            return False
        return True

    with ThreadPoolExecutor(10) as pool:
        assert sum(pool.map(click, accounts * 2)) == 1


def test_no_trial_before_activation_or_for_throwaway_addresses(store: Store) -> None:
    account_id = signup.create_account(
        store, CountingHasher(), email=EMAIL, password=PASSWORD, now=NOW, active=False
    )
    with pytest.raises(AccountClosedError):
        signup.start_trial(store, account_id, now=NOW)
    spam = make_account(store, email="a@mailinator.com")
    with pytest.raises(TrialRefusedError):
        signup.start_trial(store, spam.account_id, now=NOW)


def test_the_first_operator_is_made_once(store: Store, gate: StoreGate) -> None:
    made = signup.first_operator(store, CountingHasher(), now=NOW)
    assert made is not None
    gate.authenticate(*made, address=HERE)
    assert profiles.find_profile(store, made[0]).role == "operator"
    assert signup.first_operator(store, CountingHasher(), now=NOW) is None
