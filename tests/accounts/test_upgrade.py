"""What a store of the version before becomes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import text

from plateblur.accounts import (
    consents,
    credit_notes,
    invoice_papers,
    invoices,
    passwords,
    profiles,
    sessions,
    signup,
)
from plateblur.accounts.credentials import fast_hash, new_api_key
from plateblur.accounts.gate import StoreGate
from plateblur.accounts.store import MIGRATIONS, Store
from plateblur.accounts.types import AccountClosedError, Identity, LinkError, Once, PlanKind
from tests.accounts.fakes import EMAIL, NOW, PASSWORD, SECRET, CountingHasher
from tests.accounts.test_store import empty_url  # noqa: F401 - a fixture

HERE = "203.0.113.7"
COOKIE = "c" * 43
RESET, ACTIVATION = "r" * 43, "a" * 43
PENDING = "ion@plates.io"


@pytest.fixture
def key() -> str:
    return new_api_key()[1]


@pytest.fixture
def old_store(empty_url: str, key: str) -> Iterator[Store]:  # noqa: F811
    """A store at the first revision, with an account, a sign-up and what hangs on them."""
    store = Store(empty_url, secret=SECRET)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    with store.write() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
    hasher = CountingHasher()
    account = (
        "INSERT INTO accounts (email, email_key, username, username_key, password_hash, role, "
        "status, credentials_version, has_trial, has_invoice, full_name, company, postal_address, "
        "country, vat_id, created_at) VALUES (:email, :email, :username, :username, :hash, "
        "'customer', :status, :version, :no, :no, '', '', '', '', '', :at)"
    )
    at = NOW.replace(tzinfo=None) if store.is_sqlite else NOW
    later = at + timedelta(hours=1)
    with store.write() as connection:

        def insert(statement: str, **values: object) -> None:
            connection.execute(text(statement), values)

        for email, username, status, version in (
            (EMAIL, None, "active", 3), (PENDING, "ion", "pending", 0),
            ("made@plates.io", None, "pending", 0), ("late@plates.io", None, "pending", 0),
        ):  # fmt: skip
            insert(account, email=email, username=username, status=status, version=version,
                   hash=hasher.hash(PASSWORD), no=False, at=at)  # fmt: skip
        rows = connection.execute(text("SELECT email, id FROM accounts")).all()
        ids = {row.email: row.id for row in rows}
        insert("INSERT INTO sessions VALUES (:hash, :id, :at, :at)",
               hash=fast_hash(COOKIE), id=ids[EMAIL], at=at)  # fmt: skip
        insert("INSERT INTO api_keys (account_id, label, prefix, key_hash, created_at) "
               "VALUES (:id, 'camera', :prefix, :hash, :at)",
               id=ids[EMAIL], prefix=key[3:15], hash=hasher.hash(key), at=at)  # fmt: skip
        for secret, email, purpose in ((RESET, EMAIL, "reset"), (ACTIVATION, PENDING, "activate")):
            insert("INSERT INTO mailed_links VALUES (:hash, :id, :purpose, '', :until)",
                   hash=fast_hash(secret), id=ids[email], purpose=purpose, until=later)  # fmt: skip
        insert("INSERT INTO trial_persons VALUES (:hash)", hash="0" * 64)
        for email in (PENDING, "late@plates.io"):  # the latter's link was pruned
            insert("INSERT INTO consents (account_id, subject, text_version, given, decided_at) "
                   "VALUES (:id, 'terms', '1', :yes, :at)", id=ids[email], yes=True,
                   at=at)  # fmt: skip
    store.migrate()
    yield store
    store.close()


def test_who_was_logged_in_stays_so_and_links_under_way_still_work(old_store: Store) -> None:
    assert sessions.who_is(old_store, COOKIE, now=NOW) is not None
    passwords.reset_password(
        old_store, CountingHasher(), RESET, new="another long password", now=NOW
    )
    assert sessions.who_is(old_store, COOKIE, now=NOW) is None


def test_a_key_that_was_hashed_slowly_is_verified_once_and_then_looked_up(
    old_store: Store, key: str
) -> None:
    hasher = CountingHasher()
    gate = StoreGate(old_store, hasher=hasher, clock=lambda: NOW)
    for _ in range(3):
        assert gate.authenticate_key(key, address=HERE).email == EMAIL
    assert hasher.verifications == 1
    with old_store.read() as connection:
        assert connection.execute(text("SELECT key_hash FROM api_keys")).scalar() == fast_hash(key)


def test_a_sign_up_under_way_stands_apart_and_its_link_works(old_store: Store) -> None:
    gate = StoreGate(old_store, hasher=CountingHasher(), clock=lambda: NOW)
    with pytest.raises(AccountClosedError):  # 1016: it waits for its link
        gate.authenticate(PENDING, PASSWORD, address=HERE)
    emails = {one.email: one.status for one in profiles.list_profiles(old_store)}
    assert emails == {EMAIL: "active", "made@plates.io": "pending"}
    made = signup.activate(
        old_store, CountingHasher(), ACTIVATION, password=PASSWORD, address=HERE, now=NOW
    )
    assert gate.authenticate("ion", PASSWORD, address=HERE) == made
    (given,) = consents.list_consents(old_store, made.account_id)
    assert (given.subject, given.given) == ("terms", True)
    with pytest.raises(LinkError):
        signup.activate(
            old_store, CountingHasher(), ACTIVATION, password=PASSWORD, address=HERE, now=NOW
        )


def test_requests_of_the_version_before_stay_counted(empty_url: str) -> None:  # noqa: F811
    """From 0003, which knew neither idempotency keys nor jobs, with requests in flight."""
    store = Store(empty_url, secret=SECRET)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    with store.write() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0003")
    at = NOW.replace(tzinfo=None) if store.is_sqlite else NOW
    hasher = CountingHasher()
    with store.write() as connection:
        connection.execute(
            text(
                "INSERT INTO accounts (email, email_key, password_hash, role, status, "
                "credentials_version, has_trial, has_invoice, full_name, company, postal_address, "
                "country, vat_id, created_at) VALUES (:email, :email, :hash, 'customer', 'active', "
                "0, :yes, :no, '', '', '', '', '', :at)"
            ),
            {"email": EMAIL, "hash": hasher.hash(PASSWORD), "yes": True, "no": False, "at": at},
        )
        account_id = connection.execute(text("SELECT id FROM accounts")).scalar_one()
        connection.execute(
            text("INSERT INTO trials (account_id, starts_at, ends_at) VALUES (:id, :at, :until)"),
            {"id": account_id, "at": at, "until": at + timedelta(days=7)},
        )
        for settled_at, lease in ((at, 0), (at, 0), (None, 60), (None, 0)):
            connection.execute(
                text(
                    "INSERT INTO requests (account_id, is_trial, reserved_at, lease_until, "
                    "settled_at, predictions) VALUES (:id, :yes, :at, :until, :settled, 3)"
                ),
                {
                    "id": account_id,
                    "yes": True,
                    "at": at,
                    "until": at + timedelta(seconds=lease),
                    "settled": settled_at,
                },
            )
    store.migrate()
    gate = StoreGate(store, hasher=hasher, clock=lambda: NOW)
    ana = gate.authenticate(EMAIL, PASSWORD, address=HERE)
    plan = gate.active_plan(ana)
    assert gate.usage(ana, plan).window_requests == 3
    once = Once("key", b"a photo")
    for is_repeat in (False, True):
        with gate.admit(ana, plan, once=once) as reservation:
            reservation.settle(predictions=1)
            assert reservation.is_repeat is is_repeat
    assert gate.usage(ana, plan).window_requests == 4
    store.close()


def test_invoices_of_the_version_before_stay_valid(empty_url: str) -> None:  # noqa: F811
    """From 0005, which knew neither terms nor credit notes, with a paid and an unpaid invoice."""
    store = Store(empty_url, secret=SECRET)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    with store.write() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0005")
    at = NOW.replace(tzinfo=None) if store.is_sqlite else NOW
    party = json.dumps({"name": "Ana", "postal_address": "A 1", "country": "RO", "vat_id": ""})
    with store.write() as connection:
        connection.execute(
            text(
                "INSERT INTO accounts (email, email_key, password_hash, role, status, "
                "credentials_version, has_trial, has_invoice, full_name, company, postal_address, "
                "country, vat_id, created_at) VALUES (:email, :email, 'x', 'customer', 'active', "
                "0, :no, :yes, '', '', '', '', '', :at)"
            ),
            {"email": EMAIL, "yes": True, "no": False, "at": at},
        )
        account_id = connection.execute(text("SELECT id FROM accounts")).scalar_one()
        for number, status, paid_at in (
            ("PB-2026-000001", "paid", at),
            ("PB-2026-000002", "issued", None),
        ):
            connection.execute(
                text(
                    "INSERT INTO invoices (account_id, number, kind, status, currency, net_cents, "
                    "vat_rate_bps, vat_cents, vat_note, seller, buyer, issued_at, paid_at, "
                    "starts_at, ends_at) VALUES (:id, :number, 'monthly', :status, 'USD', 8000, "
                    "2100, 1680, '', :party, :party, :at, :paid, :paid, :ends)"
                ),
                {"id": account_id, "number": number, "status": status, "party": party, "at": at,
                 "paid": paid_at, "ends": paid_at and paid_at + timedelta(days=31)},
            )  # fmt: skip
    store.migrate()
    gate = StoreGate(store, hasher=CountingHasher(), clock=lambda: NOW)
    assert gate.active_plan(Identity(account_id, EMAIL)).kind is PlanKind.MONTHLY
    unpaid, paid = invoices.list_invoices(store, account_id=account_id)
    assert (unpaid.terms, paid.local_vat, paid.is_of_consumer) == ({}, "", True)
    assert invoice_papers.paper_pdf(unpaid).startswith(b"%PDF-")
    invoices.mark_paid(store, unpaid.number, paid_by="operator", now=NOW)
    note = credit_notes.withdraw(store, account_id, paid.number, now=NOW)
    assert note.total_cents == 9680
    store.close()
