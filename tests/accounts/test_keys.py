"""API keys are looked up: neither slowed, nor hashed slowly, nor counted as guesses."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import func, select

from plateblur.accounts import api_keys, throttle
from plateblur.accounts.credentials import new_api_key
from plateblur.accounts.gate import StoreGate
from plateblur.accounts.models import ApiKey, FailedLogin
from plateblur.accounts.store import Store
from plateblur.accounts.types import AccountClosedError, FieldError, UnknownCredentialsError
from tests.accounts.fakes import EMAIL, NOW, PASSWORD, CountingHasher, make_account

HERE = "203.0.113.7"


def count_failures(store: Store) -> int:
    with store.read() as connection:
        return connection.execute(select(func.count()).select_from(FailedLogin)).scalar_one()


def test_a_revoked_key_in_use_locks_no_other_device_out(
    store: Store, gate: StoreGate, hasher: CountingHasher
) -> None:
    account_id = make_account(store).account_id
    lost, other = (api_keys.add_key(store, account_id, label="", now=NOW) for _ in range(2))
    gate.authenticate(EMAIL, PASSWORD, address=HERE)
    api_keys.revoke_key(store, account_id, lost.api_key_id, now=NOW)
    for _ in range(2 * throttle.FREE_PER_ADDRESS):
        with pytest.raises(UnknownCredentialsError) as caught:
            gate.authenticate(EMAIL, lost.key, address=HERE)
        assert caught.value.retry_after_s is None
        with pytest.raises(UnknownCredentialsError) as caught:
            gate.authenticate_key(lost.key, address=HERE)
        assert caught.value.retry_after_s is None
    assert gate.authenticate_key(other.key, address=HERE).api_key_id == other.api_key_id
    assert gate.authenticate(EMAIL, other.key, address=HERE).api_key_id == other.api_key_id
    gate.authenticate(EMAIL, PASSWORD, address=HERE)  # remembered through the revocation
    assert hasher.verifications == 1
    assert count_failures(store) == 0


def test_a_key_passes_while_its_address_guesses_at_passwords(
    store: Store, gate: StoreGate, hasher: CountingHasher
) -> None:
    account_id = make_account(store).account_id
    key = api_keys.add_key(store, account_id, label="", now=NOW).key
    for _ in range(throttle.FREE_PER_PAIR):
        with pytest.raises(UnknownCredentialsError):
            gate.authenticate(EMAIL, "wrong", address=HERE)
    assert gate.authenticate(EMAIL, key, address=HERE).account_id == account_id
    assert gate.authenticate_key(key, address=HERE).account_id == account_id


@pytest.mark.parametrize("kind", ["of nobody", "of a known beginning", "of no form"])
def test_a_wrong_key_costs_a_look_up_alone(
    store: Store, gate: StoreGate, hasher: CountingHasher, kind: str
) -> None:
    key = api_keys.add_key(store, make_account(store).account_id, label="", now=NOW).key
    wrong = {
        "of nobody": new_api_key()[1],
        "of a known beginning": key[:-4] + ("AAAA" if key[-4:] != "AAAA" else "BBBB"),
        "of no form": "x" * 60,
    }[kind]
    with pytest.raises(UnknownCredentialsError):
        gate.authenticate_key(wrong, address=HERE)
    assert hasher.verifications == 0
    assert count_failures(store) == 0


@pytest.mark.slow
def test_keys_have_a_bound_and_so_have_revoked_ones(store: Store) -> None:
    account_id = make_account(store).account_id
    for number in range(api_keys.MAX_REVOKED + 10):
        made = api_keys.add_key(store, account_id, label=str(number), now=NOW)
        later = NOW + timedelta(seconds=number)
        api_keys.revoke_key(store, account_id, made.api_key_id, now=later)
    for _ in range(api_keys.MAX_KEYS):
        api_keys.add_key(store, account_id, label="works", now=NOW)
    with pytest.raises(FieldError):
        api_keys.add_key(store, account_id, label="", now=NOW)
    labels = [entry.label for entry in api_keys.list_keys(store, account_id)]
    assert labels[: api_keys.MAX_KEYS] == ["works"] * api_keys.MAX_KEYS
    assert labels[api_keys.MAX_KEYS :] == [
        str(number) for number in range(api_keys.MAX_REVOKED + 9, 9, -1)
    ]
    with store.read() as connection:
        rows = connection.execute(select(func.count()).select_from(ApiKey)).scalar_one()
    assert rows == api_keys.MAX_KEYS + api_keys.MAX_REVOKED


def test_a_key_asked_for_under_an_old_password_is_not_made(store: Store) -> None:
    account_id = make_account(store).account_id
    with pytest.raises(AccountClosedError):
        api_keys.add_key(store, account_id, label="", now=NOW, credentials_version=7)
    assert api_keys.list_keys(store, account_id) == []
