"""The payment webhook: off without its secret; who signs right marks an invoice as paid."""

from __future__ import annotations

import hashlib
import hmac
import json
import shutil
import time
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import httpx
import pytest

from plateblur.accounts import invoices, profiles
from plateblur.accounts.store import Store
from plateblur.accounts.types import PlanKind
from tests.accounts.fakes import NOW, SECRET, SELLER
from tests.console.fakes import ADDRESS_OF_INVOICE, Stand, make_stand

pytestmark = pytest.mark.anyio

WEBHOOK_SECRET = "whsec_of_these_tests_alone_0123456789"


@pytest.fixture
def paying(tmp_path: Path, empty_sqlite: Path) -> Iterator[Stand]:
    shutil.copy(empty_sqlite, tmp_path)
    store = Store(f"sqlite:///{tmp_path}/accounts.sqlite3", secret=SECRET)
    stand = make_stand(store, tmp_path, payment_webhook_secret=WEBHOOK_SECRET)
    account_id = stand.make_account()
    profiles.change_profile(store, account_id, username="", **ADDRESS_OF_INVOICE)
    invoices.place_order(store, account_id, PlanKind.MONTHLY, seller=SELLER, now=NOW)
    yield stand
    store.close()


def notice(**changes: object) -> bytes:
    session = {
        "client_reference_id": "PB-2026-000001",
        "payment_status": "paid",
        "amount_total": 9680,
        "currency": "usd",
    }
    event = {"id": "evt_1", "object": "event", "type": "checkout.session.completed"}
    return json.dumps(event | {"data": {"object": session | changes}}).encode()


async def post(stand: Stand, body: bytes, *, secret: str = WEBHOOK_SECRET) -> httpx.Response:
    now = int(time.time())
    signature = hmac.new(secret.encode(), f"{now}.".encode() + body, hashlib.sha256).hexdigest()
    headers = {"Stripe-Signature": f"t={now},v1={signature}"}
    return await stand.visitor().client.post("/payments/stripe", content=body, headers=headers)


def status_of(stand: Stand) -> str:
    return invoices.read_invoice(stand.store, "PB-2026-000001", account_id=None).status


async def test_a_signed_notice_marks_the_invoice_paid_and_a_second_changes_nothing(
    paying: Stand,
) -> None:
    for _ in range(2):
        answer = await post(paying, notice())
        assert (answer.status_code, answer.json()) == (HTTPStatus.OK, {"taken": True})
    assert status_of(paying) == "paid"


@pytest.mark.parametrize(
    ("changes", "secret", "status"),
    [
        ({}, "whsec_of_somebody_else_0123456789abc", HTTPStatus.BAD_REQUEST),
        ({"amount_total": 1}, WEBHOOK_SECRET, HTTPStatus.CONFLICT),
        ({"client_reference_id": "PB-2026-000009"}, WEBHOOK_SECRET, HTTPStatus.CONFLICT),
        ({"payment_status": "unpaid"}, WEBHOOK_SECRET, HTTPStatus.OK),
    ],
    ids=["forged", "too little", "no such invoice", "not paid yet"],
)
async def test_what_is_no_payment_of_the_invoice_leaves_it_unpaid(
    paying: Stand, changes: dict[str, object], secret: str, status: HTTPStatus
) -> None:
    assert (await post(paying, notice(**changes), secret=secret)).status_code == status
    assert status_of(paying) == "issued"


async def test_without_its_secret_there_is_no_such_route(stand: Stand) -> None:
    assert (await post(stand, notice())).status_code == HTTPStatus.NOT_FOUND


async def test_a_notice_that_is_longer_than_any_is_not_read(paying: Stand) -> None:
    answer = await post(paying, b" " * (256 * 1024 + 1))
    assert answer.status_code == 413
