"""Who gets in, at what cost, and what a damaged or absent store says."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import delete, literal_column, select, text, update

from plateblur.accounts import api_keys, invoices, passwords, profiles, throttle
from plateblur.accounts.credentials import Hasher, VerifiedCache, api_key_prefix, fast_hash
from plateblur.accounts.gate import StoreGate
from plateblur.accounts.models import Account, FailedLogin, Invoice, Trial
from plateblur.accounts.store import Store
from plateblur.accounts.types import (
    AccountClosedError,
    Gate,
    Identity,
    InvoiceMissingError,
    InvoiceStoreError,
    InvoiceUnreadableError,
    NoInvoiceError,
    PlanError,
    PlanKind,
    TrialMissingError,
    TrialStoreError,
    TrialUnreadableError,
    UnknownCredentialsError,
)
from tests.accounts.fakes import (
    EMAIL,
    NOW,
    PASSWORD,
    SECRET,
    CountingHasher,
    Postgres,
    TurnableClock,
    make_account,
    use,
)

HERE = "203.0.113.7"
ELSEWHERE = "198.51.100.9"


def test_the_store_gate_is_a_gate(gate: StoreGate) -> None:
    as_web_sees_it: Gate = gate
    assert as_web_sees_it.is_ready()


@pytest.mark.parametrize(
    "username", [EMAIL, "ANA.POP@Plates.io", "anapop", "AnaPop"],
    ids=["e-mail", "e-mail in capitals", "user name", "user name in capitals"],
)  # fmt: skip
def test_the_password_lets_in_by_either_name(store: Store, gate: StoreGate, username: str) -> None:
    known = make_account(store, username="anapop")
    assert gate.authenticate(username, PASSWORD, address=HERE) == known


@pytest.mark.parametrize(
    ("username", "secret"),
    [
        (EMAIL, "wrong"), ("nobody@plates.io", PASSWORD), ("", PASSWORD), (EMAIL, ""),
        ("' OR 1=1 --", PASSWORD), ("a\0b", PASSWORD), (EMAIL, "x" * 100_000), (EMAIL, "\ud800"),
    ],
    ids=[
        "wrong password", "unknown user", "no user", "no password", "SQL", "NUL", "long",
        "surrogate",
    ],
)  # fmt: skip
def test_everything_wrong_costs_one_verification_and_says_the_same(
    store: Store, gate: StoreGate, hasher: CountingHasher, username: str, secret: str
) -> None:
    make_account(store)
    with pytest.raises(UnknownCredentialsError) as caught:
        gate.authenticate(username, secret, address=HERE)
    assert str(caught.value) == "Unknown user, or wrong password or key."
    assert hasher.verifications == 1


def test_a_right_password_is_verified_once_in_five_minutes(
    store: Store, gate: StoreGate, hasher: CountingHasher, clock: TurnableClock
) -> None:
    make_account(store)
    for _ in range(5):
        gate.authenticate(EMAIL, PASSWORD, address=HERE)
    assert hasher.verifications == 1
    clock.turn(minutes=5)
    gate.authenticate(EMAIL, PASSWORD, address=HERE)
    assert hasher.verifications == 2


def test_a_burst_on_a_cold_cache_verifies_at_most_once_a_turn(
    store: Store, gate: StoreGate, hasher: CountingHasher
) -> None:
    make_account(store)
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda _: gate.authenticate(EMAIL, PASSWORD, address=HERE), range(32)))
    assert hasher.verifications <= 4


def test_the_cache_is_bounded_and_holds_no_secret() -> None:
    cache = VerifiedCache(max_entries=3)
    for number in range(5):
        cache.remember(str(number), PASSWORD, now=NOW)
    assert len(cache) == 3
    assert not cache.knows("0", PASSWORD, now=NOW)
    assert cache.knows("4", PASSWORD, now=NOW)
    assert PASSWORD not in repr(vars(cache))


def change_password(store: Store, identity: Identity) -> None:
    passwords.change_password(
        store, CountingHasher(), identity, new="another long password", now=NOW
    )


def lock(store: Store, identity: Identity) -> None:
    profiles.lock_account(store, identity.account_id)


def remove(store: Store, identity: Identity) -> None:
    profiles.delete_account(store, identity.account_id, outbox=Path("no outbox"))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (change_password, UnknownCredentialsError),
        (lock, AccountClosedError),
        (remove, UnknownCredentialsError),
    ],
    ids=["password changed", "locked", "deleted"],
)
def test_a_remembered_password_is_worth_nothing_after(
    store: Store, gate: StoreGate, change: object, error: type[Exception]
) -> None:
    identity = make_account(store)
    gate.authenticate(EMAIL, PASSWORD, address=HERE)
    assert callable(change)
    change(store, identity)
    with pytest.raises(error):
        gate.authenticate(EMAIL, PASSWORD, address=HERE)


def test_an_account_not_activated_is_told_so_only_with_the_right_password(
    store: Store, gate: StoreGate
) -> None:
    make_account(store)
    with store.write() as connection:
        connection.execute(update(Account).values(status="pending"))
    with pytest.raises(AccountClosedError):
        gate.authenticate(EMAIL, PASSWORD, address=HERE)
    with pytest.raises(UnknownCredentialsError):
        gate.authenticate(EMAIL, "wrong", address=HERE)


def test_a_key_lets_in_with_and_without_the_user_until_it_is_revoked(
    store: Store, gate: StoreGate, hasher: CountingHasher, clock: TurnableClock
) -> None:
    owner = make_account(store)
    make_account(store, email="ion@plates.io")
    new = api_keys.add_key(store, owner.account_id, label="camera", now=NOW)
    known = Identity(owner.account_id, EMAIL, new.api_key_id)
    assert gate.authenticate(EMAIL, new.key, address=HERE) == known
    assert gate.authenticate_key(new.key, address=HERE) == known
    assert hasher.verifications == 0
    with pytest.raises(UnknownCredentialsError):
        gate.authenticate("ion@plates.io", new.key, address=HERE)
    with pytest.raises(UnknownCredentialsError):
        gate.authenticate_key(new.key[:-1] + "!", address=HERE)
    api_keys.revoke_key(store, owner.account_id, new.api_key_id, now=clock())
    with pytest.raises(UnknownCredentialsError):
        gate.authenticate_key(new.key, address=HERE)


def test_a_key_is_stored_as_a_hash_and_hidden_from_reprs(store: Store) -> None:
    owner = make_account(store)
    new = api_keys.add_key(store, owner.account_id, label="", now=NOW)
    with store.read() as connection:
        stored = " ".join(map(str, connection.execute(text("SELECT * FROM api_keys")).one()))
    prefix = api_key_prefix(new.key)
    assert prefix is not None
    assert prefix in stored
    assert new.key.removeprefix(f"pb_{prefix}_") not in stored + repr(new)
    assert fast_hash(new.key) in stored


def test_last_used_is_true_to_a_minute(store: Store, gate: StoreGate, clock: TurnableClock) -> None:
    owner = make_account(store)
    new = api_keys.add_key(store, owner.account_id, label="", now=NOW)
    seen = []
    for seconds in (0, 59, 1):
        clock.turn(seconds=seconds)
        gate.authenticate_key(new.key, address=HERE)
        seen.append(api_keys.list_keys(store, owner.account_id)[0].last_used_at)
    assert seen == [NOW, NOW, NOW + timedelta(seconds=60)]


def test_a_password_hashed_at_an_older_cost_is_hashed_anew(
    store: Store, clock: TurnableClock
) -> None:
    make_account(store)
    stronger = Hasher(time_cost=2, memory_kib=16, parallelism=1)
    gate = StoreGate(store, hasher=stronger, clock=clock)
    gate.authenticate(EMAIL, PASSWORD, address=HERE)
    with store.read() as connection:
        password_hash = connection.execute(select(Account.password_hash)).scalar_one()
    assert not stronger.is_outdated(password_hash)
    StoreGate(store, hasher=stronger, clock=clock).authenticate(EMAIL, PASSWORD, address=HERE)


def fail(gate: StoreGate, count: int, *, username: str = EMAIL, address: str = HERE) -> None:
    for _ in range(count):
        with pytest.raises(UnknownCredentialsError):
            gate.authenticate(username, "wrong", address=address)


@pytest.mark.parametrize("username", [EMAIL, "nobody@plates.io"], ids=["known", "unknown"])
def test_guessing_from_one_address_waits_twice_as_long_each_time(
    store: Store, gate: StoreGate, hasher: CountingHasher, clock: TurnableClock, username: str
) -> None:
    make_account(store)
    fail(gate, throttle.FREE_PER_PAIR, username=username)
    for wait_s in (1, 2, 4, 8):
        verified = hasher.verifications
        with pytest.raises(UnknownCredentialsError) as caught:
            gate.authenticate(username, PASSWORD, address=HERE)
        assert caught.value.retry_after_s == wait_s
        assert hasher.verifications == verified, "a guess that must wait was checked"
        clock.turn(seconds=wait_s)
        fail(gate, 1, username=username)


def test_strangers_cannot_lock_the_owner_out(
    store: Store, gate: StoreGate, clock: TurnableClock
) -> None:
    make_account(store, username="anapop")
    gate.authenticate(EMAIL, PASSWORD, address=HERE)
    for host in range(30):
        fail(gate, 1, address=f"192.0.2.{host}")
    fail(gate, throttle.FREE_PER_PAIR)
    gate.authenticate(EMAIL, PASSWORD, address=HERE)  # remembered
    clock.turn(minutes=6)
    gate.authenticate("anapop", PASSWORD, address=ELSEWHERE)  # not remembered any more


def test_an_account_under_attack_gives_each_new_address_one_guess(
    store: Store, gate: StoreGate
) -> None:
    make_account(store)
    for host in range(throttle.ATTACK_PER_ACCOUNT):
        fail(gate, 1, address=f"192.0.2.{host}")
    fail(gate, 1, address=ELSEWHERE)
    with pytest.raises(UnknownCredentialsError) as caught:
        gate.authenticate(EMAIL, "wrong", address=ELSEWHERE)
    assert caught.value.retry_after_s


def test_one_address_guessing_at_many_accounts_waits_too(store: Store, gate: StoreGate) -> None:
    make_account(store)
    for number in range(throttle.FREE_PER_ADDRESS):
        fail(gate, 1, username=f"user{number}@plates.io")
    with pytest.raises(UnknownCredentialsError) as caught:
        gate.authenticate(EMAIL, PASSWORD, address=HERE)
    assert caught.value.retry_after_s == 1


def test_all_networks_of_one_ipv6_subscriber_count_as_one_address(
    store: Store, gate: StoreGate
) -> None:
    make_account(store)
    for number in range(throttle.FREE_PER_PAIR):
        fail(gate, 1, address=f"2001:db8:1:{number:x}::7")
    with pytest.raises(UnknownCredentialsError) as caught:
        gate.authenticate(EMAIL, PASSWORD, address="2001:db8:1:ff::7")
    assert caught.value.retry_after_s
    gate.authenticate(EMAIL, PASSWORD, address="2001:db8:1:100::7")


def test_failures_are_forgotten_after_an_hour_and_name_nobody(
    store: Store, gate: StoreGate, clock: TurnableClock
) -> None:
    make_account(store)
    fail(gate, throttle.FREE_PER_PAIR - 1)
    with store.read() as connection:
        stored = str(connection.execute(select(FailedLogin.key_hash)).all())
    assert EMAIL not in stored
    assert HERE not in stored
    clock.turn(hours=1, seconds=1)
    fail(gate, throttle.FREE_PER_PAIR - 1)
    gate.authenticate(EMAIL, PASSWORD, address=HERE)


BROKEN_TRIAL = "UPDATE trials SET ends_at = starts_at"
BROKEN_INVOICE = "UPDATE invoices SET ends_at = starts_at"


@pytest.mark.parametrize(
    ("plan", "damage", "error"),
    [
        (PlanKind.TRIAL, "DELETE FROM trials", TrialMissingError),
        (PlanKind.TRIAL, BROKEN_TRIAL, TrialUnreadableError),
        (PlanKind.TRIAL, "ALTER TABLE trials RENAME TO gone", TrialStoreError),
        (PlanKind.MONTHLY, "DELETE FROM invoices", InvoiceMissingError),
        (PlanKind.MONTHLY, BROKEN_INVOICE, InvoiceUnreadableError),
        (PlanKind.MONTHLY, "UPDATE invoices SET starts_at = NULL", InvoiceUnreadableError),
        (PlanKind.MONTHLY, "UPDATE invoices SET kind = 'weekly'", InvoiceUnreadableError),
        (PlanKind.MONTHLY, "UPDATE invoices SET kind = 'trial'", InvoiceUnreadableError),
        (PlanKind.MONTHLY, "ALTER TABLE invoices RENAME TO gone", InvoiceStoreError),
        (None, "SELECT 1", NoInvoiceError),
    ],
    ids=[
        "1007 trial's row gone", "1008 trial ends as it starts", "1009 trials not reached",
        "1010 invoice's row gone", "1011 ends as it starts", "1011 no start", "1011 no such kind",
        "1011 a trial's kind", "1012 invoices not reached", "1006 neither",
    ],
)  # fmt: skip
def test_each_damage_has_its_code(
    store: Store, gate: StoreGate, plan: PlanKind | None, damage: str, error: type[PlanError]
) -> None:
    identity = make_account(store, plan=plan)
    with store.write() as connection:
        connection.execute(text(damage))
    try:
        with pytest.raises(error) as caught:
            gate.active_plan(identity)
        assert type(caught.value) is error
        assert "SQL" not in str(caught.value).upper()
    finally:
        if "RENAME" in damage:
            with store.write() as connection:
                connection.execute(text(f"ALTER TABLE gone RENAME TO {damage.split()[2]}"))


@pytest.mark.parametrize("column", ["starts_at", "ends_at"])
def test_text_that_is_no_moment_is_unreadable(
    tmp_path: object, clock: TurnableClock, column: str
) -> None:
    store = Store(f"sqlite:///{tmp_path}/accounts.sqlite3", secret=SECRET)
    store.migrate()
    identity = make_account(store, plan=PlanKind.TRIAL)
    paid = make_account(store, plan=PlanKind.YEARLY, email="ion@plates.io")
    with store.write() as connection:
        connection.execute(update(Trial).values({column: literal_column("'garbage'")}))
        connection.execute(update(Invoice).values({column: literal_column("17")}))
    gate = StoreGate(store, hasher=CountingHasher(), clock=clock)
    with pytest.raises(TrialUnreadableError):
        gate.active_plan(identity)
    with pytest.raises(InvoiceUnreadableError):
        gate.active_plan(paid)
    store.close()


def test_a_running_package_outweighs_a_damaged_trial_and_an_old_damaged_invoice(
    store: Store, gate: StoreGate, clock: TurnableClock
) -> None:
    identity = make_account(store, plan=PlanKind.MONTHLY)
    with store.write() as connection:
        connection.execute(update(Account).values(has_trial=True))
        connection.execute(delete(Trial))
        connection.execute(update(Invoice).values(kind="weekly"))
    invoices.grant_package(store, identity.account_id, PlanKind.YEARLY, now=NOW)
    clock.turn(days=40)
    assert gate.active_plan(identity).kind is PlanKind.YEARLY


@pytest.fixture
def stopped_and_started(postgres: Postgres) -> Iterator[Postgres]:
    yield postgres
    postgres_is_back = Store(postgres.url(), secret=SECRET)
    if not postgres_is_back.is_ready():
        postgres.start()
    postgres_is_back.close()


@pytest.mark.slow
@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_a_database_that_stops_is_told_and_comes_back_without_a_restart(
    store: Store, gate: StoreGate, stopped_and_started: Postgres
) -> None:
    trial = make_account(store, plan=PlanKind.TRIAL)
    paid = make_account(store, plan=PlanKind.MONTHLY, email="ion@plates.io")
    gate.authenticate(EMAIL, PASSWORD, address=HERE)
    plan = gate.active_plan(paid)
    use(gate, paid)
    # The store stops within the request.
    with pytest.raises(InvoiceStoreError), gate.admit(paid, plan) as reservation:  # noqa: PT012
        stopped_and_started.stop()
        reservation.settle(predictions=1)
    assert not gate.is_ready()
    with pytest.raises(TrialStoreError):
        gate.authenticate(EMAIL, PASSWORD, address=HERE)
    with pytest.raises(TrialStoreError):
        gate.active_plan(trial)
    with pytest.raises(InvoiceStoreError), gate.admit(paid, plan):
        pytest.fail("admitted without a store")
    stopped_and_started.start()
    assert gate.is_ready()
    assert gate.authenticate(EMAIL, PASSWORD, address=HERE) == trial
    use(gate, trial)
    use(gate, paid, predictions=2)
    usage = gate.usage(paid, plan)
    assert (usage.window_requests, usage.predictions) == (3, 2)  # one is left to its lease
