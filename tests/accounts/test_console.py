"""The console's side: profile, password, sessions, consents, tickets, deletion."""

from __future__ import annotations

import csv
import io
import json
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import IntegrityError

from plateblur.accounts import (
    api_keys,
    consents,
    faqs,
    invoices,
    passwords,
    profiles,
    sessions,
    tickets,
)
from plateblur.accounts.gate import StoreGate
from plateblur.accounts.mail import Email
from plateblur.accounts.models import Base
from plateblur.accounts.store import Store, StoreUnavailableError
from plateblur.accounts.types import (
    FieldError,
    LinkError,
    NotFoundError,
    PlanKind,
    Role,
    UnknownCredentialsError,
)
from tests.accounts.fakes import (
    EMAIL,
    NOW,
    PASSWORD,
    SELLER,
    CountingHasher,
    make_account,
    use,
)

HERE = "203.0.113.7"
NO_OUTBOX = Path("no outbox")
NEW_PASSWORD = "another long password"


def fill_profile(store: Store, account_id: int, **changes: str) -> None:
    values = {
        "full_name": "Ana Pop",
        "company": "",
        "postal_address": "Str. Lungă 7\nBrașov",
        "country": "RO",
        "vat_id": "",
        "username": "",
    }
    profiles.change_profile(store, account_id, **(values | changes))


def secret_of(letter: Email | None) -> str:
    assert letter is not None
    return letter.link.partition("?token=")[2]


def test_a_profile_is_seen_and_changed(store: Store) -> None:
    account_id = make_account(store).account_id
    fill_profile(store, account_id, company=" Plate SRL ", vat_id="ro 18547290", username="ana")
    profile = profiles.read_profile(store, account_id)
    assert (profile.company, profile.vat_id, profile.username) == ("Plate SRL", "RO18547290", "ana")
    assert profiles.find_profile(store, "ANA") == profiles.find_profile(store, EMAIL) == profile


@pytest.mark.parametrize(
    ("containing", "found"),
    [("", 3), ("PLATES.io", 2), ("onut", 1), ("%", 1), ("_", 0), ("nobody", 0)],
    ids=["everybody", "e-mail", "user name", "per cent", "underscore", "nobody"],
)
def test_the_operator_finds_accounts_by_a_part_of_their_name(
    store: Store, containing: str, found: int
) -> None:
    make_account(store, email="ana@plates.io")
    make_account(store, email="ion@plates.io", username="Ionut")
    make_account(store, email="100%@else.org")
    assert len(profiles.list_profiles(store, containing=containing)) == found


@pytest.mark.parametrize(
    ("field", "text"),
    [("vat_id", "DE123"), ("country", "Romania"), ("full_name", "a\0"), ("company", "x" * 201),
     ("username", "taken"), ("username", "a@b")],
    ids=["VAT form", "country", "NUL", "long", "taken", "at"],
)  # fmt: skip
def test_a_field_that_cannot_be_taken_is_named(store: Store, field: str, text: str) -> None:
    make_account(store, email="ion@plates.io", username="taken")
    account_id = make_account(store).account_id
    with pytest.raises(FieldError) as caught:
        fill_profile(store, account_id, **{field: text})
    assert caught.value.field == field


def test_what_is_typed_is_kept_as_text(store: Store) -> None:
    account_id = make_account(store).account_id
    nasty = "Robert'); DROP TABLE accounts;-- {{7*7}} <b>"
    fill_profile(store, account_id, full_name=nasty)
    assert profiles.read_profile(store, account_id).full_name == nasty


def test_a_session_opens_with_the_password_only(store: Store, gate: StoreGate) -> None:
    identity = make_account(store)
    cookie = sessions.log_in(store, gate, username=EMAIL, password=PASSWORD, address=HERE, now=NOW)
    known = sessions.who_is(store, cookie, now=NOW)
    assert known == sessions.LoggedIn(identity.account_id, EMAIL, Role.CUSTOMER, 0)
    assert sessions.who_is(store, "x", now=NOW) is None
    new = api_keys.add_key(store, identity.account_id, label="", now=NOW)
    with pytest.raises(UnknownCredentialsError):
        sessions.log_in(store, gate, username=EMAIL, password=new.key, address=HERE, now=NOW)
    with store.read() as connection:
        assert cookie not in str(connection.execute(text("SELECT * FROM sessions")).all())


@pytest.mark.parametrize("end", ["log out", "idle", "too long", "locked", "password", "deleted"])
def test_a_session_ends(store: Store, gate: StoreGate, end: str) -> None:
    account_id = make_account(store).account_id
    cookie = sessions.log_in(store, gate, username=EMAIL, password=PASSWORD, address=HERE, now=NOW)
    now = NOW
    if end == "log out":
        sessions.log_out(store, cookie)
    elif end == "idle":
        now = NOW + sessions.IDLE_FOR
    elif end == "too long":
        while now < NOW + sessions.AT_MOST:
            assert sessions.who_is(store, cookie, now=now) is not None
            now += timedelta(hours=11)
    elif end == "locked":
        profiles.lock_account(store, account_id)
        profiles.unlock_account(store, account_id)
    elif end == "password":
        identity = gate.authenticate(EMAIL, PASSWORD, address=HERE)
        passwords.change_password(store, CountingHasher(), identity, new=NEW_PASSWORD, now=NOW)
    else:
        profiles.delete_account(store, account_id, outbox=NO_OUTBOX)
    assert sessions.who_is(store, cookie, now=now) is None


def test_a_forgotten_password_is_set_once_by_mail(store: Store, gate: StoreGate) -> None:
    make_account(store)
    letter = passwords.request_reset(store, email=EMAIL.upper(), page_url="https://p/r", now=NOW)
    secret = secret_of(letter)
    with pytest.raises(FieldError):
        passwords.reset_password(store, CountingHasher(), secret, new="short", now=NOW)
    passwords.reset_password(store, CountingHasher(), secret, new=NEW_PASSWORD, now=NOW)
    gate.authenticate(EMAIL, NEW_PASSWORD, address=HERE)
    with pytest.raises(LinkError):
        passwords.reset_password(store, CountingHasher(), secret, new=PASSWORD, now=NOW)


def test_a_reset_link_is_good_for_an_hour_and_for_its_purpose(store: Store) -> None:
    make_account(store)
    letter = passwords.request_reset(store, email=EMAIL, page_url="https://p/r", now=NOW)
    with pytest.raises(LinkError):
        profiles.confirm_email_change(store, secret_of(letter), now=NOW)
    with pytest.raises(LinkError):
        passwords.reset_password(
            store, CountingHasher(), secret_of(letter), new=NEW_PASSWORD,
            now=NOW + timedelta(hours=1),
        )  # fmt: skip
    assert passwords.request_reset(store, email="x@plates.io", page_url="", now=NOW) is None


def test_a_new_address_counts_once_its_owner_says_so(store: Store, gate: StoreGate) -> None:
    identity = make_account(store)
    new = "ana@new.example.org"
    letter = profiles.request_email_change(
        store, identity, email=new, page_url="https://p/e", now=NOW
    )
    assert letter.to == new
    assert profiles.read_profile(store, identity.account_id).email == EMAIL
    profiles.confirm_email_change(store, secret_of(letter), now=NOW)
    assert gate.authenticate(new, PASSWORD, address=HERE).email == new


def test_an_address_that_got_an_account_meanwhile_stays_with_it(store: Store) -> None:
    identity = make_account(store)
    letter = profiles.request_email_change(
        store, identity, email="ion@plates.io", page_url="https://p/e", now=NOW
    )
    make_account(store, email="ion@plates.io")
    with pytest.raises(LinkError):
        profiles.confirm_email_change(store, secret_of(letter), now=NOW)


def test_the_consent_log_is_only_added_to(store: Store) -> None:
    account_id = make_account(store).account_id
    for given in (True, False):
        consents.record_consent(
            store, account_id, subject="news", text_version="1", given=given, now=NOW
        )
    assert [entry.given for entry in consents.list_consents(store, account_id)] == [True, False]
    with (
        pytest.raises((StoreUnavailableError, IntegrityError)) as caught,
        store.write() as connection,
    ):
        connection.execute(text("UPDATE consents SET given = true"))
    assert "append only" in str(caught.value.__cause__ or caught.value)


def test_the_consent_log_is_exported_as_json_and_csv(store: Store) -> None:
    account_id = make_account(store).account_id
    consents.record_consent(
        store, account_id, subject="știri", text_version="1", given=True, now=NOW
    )
    entries = consents.list_consents(store, account_id)
    assert json.loads(consents.consents_as_json(entries)) == [
        {"decided_at": NOW.isoformat(), "subject": "știri", "text_version": "1", "given": True}
    ]
    rows = list(csv.reader(io.StringIO(consents.consents_as_csv(entries))))
    assert rows[1] == [NOW.isoformat(), "știri", "1", "yes"]


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_no_cell_of_the_csv_is_a_formula(start: str) -> None:
    nasty = start + 'HYPERLINK("http://evil","x")'
    entry = consents.ConsentEntry(NOW, nasty, nasty, given=True)
    rows = list(csv.reader(io.StringIO(consents.consents_as_csv([entry]), newline="")))
    assert rows[1][1] == rows[1][2] == "'" + nasty


def test_a_ticket_is_opened_answered_and_closed(store: Store) -> None:
    account_id = make_account(store).account_id
    other = make_account(store, email="ion@plates.io").account_id
    ticket_id = tickets.open_ticket(
        store, account_id, subject="Night photos", text="Too dark?\nHelp", now=NOW
    )
    tickets.reply(store, ticket_id, account_id=None, text="Use infrared.", now=NOW)
    messages = tickets.read_messages(store, ticket_id, account_id=account_id)
    assert [(m.by_operator, m.text) for m in messages] == [
        (False, "Too dark?\nHelp"), (True, "Use infrared."),
    ]  # fmt: skip
    tickets.close_ticket(store, ticket_id, account_id=account_id)
    assert tickets.list_tickets(store, account_id=None)[0].status == "closed"
    assert tickets.list_tickets(store, account_id=other) == []
    with pytest.raises(NotFoundError):
        tickets.read_messages(store, ticket_id, account_id=other)
    with pytest.raises(NotFoundError):
        tickets.reply(store, ticket_id, account_id=other, text="mine", now=NOW)


def test_one_account_opens_so_many_tickets(store: Store) -> None:
    account_id = make_account(store).account_id
    for _ in range(tickets.MAX_OPEN_TICKETS):
        tickets.open_ticket(store, account_id, subject="s", text="t", now=NOW)
    with pytest.raises(FieldError):
        tickets.open_ticket(store, account_id, subject="s", text="t", now=NOW)


def test_the_faqs_answer() -> None:
    assert all(faq.question.endswith("?") and faq.answer for faq in faqs.FAQS)


def test_deletion_leaves_no_personal_data_and_keeps_the_invoice(
    store: Store, gate: StoreGate, tmp_path: Path
) -> None:
    identity = make_account(store, plan=PlanKind.TRIAL, username="anaspecial")
    account_id = identity.account_id
    fill_profile(store, account_id, full_name="Ana Pop", username="anaspecial")
    invoice = invoices.place_order(store, account_id, PlanKind.MONTHLY, seller=SELLER, now=NOW)
    api_keys.add_key(store, account_id, label="keylabel", now=NOW)
    consents.record_consent(
        store, account_id, subject="news", text_version="1", given=True, now=NOW
    )
    tickets.open_ticket(store, account_id, subject="ticketsubject", text="tickettext", now=NOW)
    passwords.request_reset(store, email=EMAIL, page_url="https://p/r", now=NOW)
    sessions.log_in(store, gate, username=EMAIL, password=PASSWORD, address=HERE, now=NOW)
    use(gate, identity, predictions=2)
    profiles.delete_account(store, account_id, outbox=NO_OUTBOX)

    with store.read() as connection:
        counts = {
            table.name: connection.execute(select(func.count()).select_from(table)).scalar()
            for table in Base.metadata.sorted_tables
        }
        everything = " ".join(
            str(row)
            for table in Base.metadata.sorted_tables
            for row in connection.execute(select(table)).all()
        )
    kept = {name for name, count in counts.items() if count}
    assert kept == {"invoices", "invoice_series", "trial_persons"}
    words = [EMAIL, "anaspecial", "keylabel", "ticketsubject", "tickettext"]
    assert not [word for word in words if word in everything]
    assert invoices.read_invoice(store, invoice.number, account_id=None).buyer["name"] == "Ana Pop"
    if store.is_sqlite:
        raw = b"".join(path.read_bytes() for path in tmp_path.glob("accounts.sqlite3*"))
        assert raw
        assert not [word for word in words if word.encode() in raw]
