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

from plateblur.accounts import invoices, payments, profiles
from plateblur.accounts.store import Store
from plateblur.accounts.types import PlanKind
from tests.accounts.fakes import EMAIL, NOW, SECRET, SELLER
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


def another(notice_of: bytes, event_id: str) -> bytes:
    """Return the same payment's words under another event of the provider."""
    return json.dumps(json.loads(notice_of) | {"id": event_id}).encode()


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
    ids=["forged", "too little", "Invoice not found", "not paid yet"],
)
async def test_what_is_no_payment_of_the_invoice_leaves_it_unpaid(
    paying: Stand, changes: dict[str, object], secret: str, status: HTTPStatus
) -> None:
    assert (await post(paying, notice(**changes), secret=secret)).status_code == status
    assert status_of(paying) == "issued"


async def test_without_its_secret_there_is_no_such_route(stand: Stand) -> None:
    assert (await post(stand, notice())).status_code == HTTPStatus.NOT_FOUND


@pytest.mark.slow
@pytest.mark.parametrize("first_by", ["the provider", "the operator"])
async def test_a_second_payment_is_logged_and_shown_to_the_operator(
    paying: Stand, caplog: pytest.LogCaptureFixture, first_by: str
) -> None:
    if first_by == "the provider":
        assert (await post(paying, notice())).status_code == HTTPStatus.OK
    else:
        invoices.mark_paid(paying.store, "PB-2026-000001", paid_by="operator", now=NOW)
    paid = invoices.read_invoice(paying.store, "PB-2026-000001", account_id=None)
    second = another(notice(), "evt_2")
    for _ in range(2):  # the provider sends again what was not taken
        answer = await post(paying, second)
        assert answer.status_code == HTTPStatus.CONFLICT
        assert "already paid" in answer.json()["detail"]
    assert "unmatched payment" in caplog.text
    assert invoices.read_invoice(paying.store, "PB-2026-000001", account_id=None) == paid
    (stray,) = payments.list_stray_payments(paying.store)
    assert (stray.event_id, stray.amount_cents, stray.settled_at) == ("evt_2", 9680, None)

    operator = await paying.visit_as("boss@plates.io", role="operator")
    page = "/console/operator/invoices"
    text = (await operator.get(page)).text
    assert "Unmatched payments" in text
    assert "evt_2" in text
    done = await operator.send("/console/operator/payments", {"event_id": "evt_2"}, page=page)
    assert done.headers["location"] == f"{page}?done=settled"
    assert "resolved 2026-03-10" in (await operator.get(page)).text
    again = await operator.send("/console/operator/payments", {"event_id": "evt_2"}, page=page)
    assert again.status_code == HTTPStatus.NOT_FOUND


@pytest.mark.parametrize(
    ("changes", "why"),
    [({"amount_total": 1}, "Expected 9680 cents"), ({"currency": "eur"}, "of EUR"),
     ({"client_reference_id": None}, "Invoice not found"),
     ({"client_reference_id": "PB-2026-000009"}, "Invoice not found")],
    ids=["amount", "currency", "no invoice named", "another invoice"],
)  # fmt: skip
async def test_money_that_fits_no_invoice_is_shown_too(
    paying: Stand, changes: dict[str, object], why: str
) -> None:
    assert (await post(paying, notice(**changes))).status_code == HTTPStatus.CONFLICT
    (stray,) = payments.list_stray_payments(paying.store)
    assert why in stray.why


async def test_money_for_a_deleted_account_is_shown(paying: Stand, tmp_path: Path) -> None:
    account_id = profiles.find_profile(paying.store, EMAIL).account_id
    profiles.delete_account(paying.store, account_id, outbox=tmp_path)
    assert (await post(paying, notice())).status_code == HTTPStatus.CONFLICT
    (stray,) = payments.list_stray_payments(paying.store)
    assert "deleted" in stray.why
    assert status_of(paying) == "paid"


@pytest.mark.parametrize(
    "changes",
    [{"client_reference_id": "x" * 5_000}, {"client_reference_id": "a\0"},
     {"amount_total": 10**30}, {"amount_total": -1}, {"currency": "\ud800"}],
    ids=["long", "NUL", "huge", "negative", "surrogate"],
)  # fmt: skip
async def test_a_notice_that_no_store_takes_is_refused(
    paying: Stand, changes: dict[str, object]
) -> None:
    assert (await post(paying, notice(**changes))).status_code == HTTPStatus.BAD_REQUEST
    assert payments.list_stray_payments(paying.store) == []


async def test_a_notice_that_is_longer_than_any_is_not_read(paying: Stand) -> None:
    answer = await post(paying, b" " * (256 * 1024 + 1))
    assert answer.status_code == 413


async def test_an_operator_who_marks_a_paid_invoice_is_told(paying: Stand) -> None:
    assert (await post(paying, notice())).status_code == HTTPStatus.OK
    paying.clock.turn(minutes=1)
    operator = await paying.visit_as("boss@plates.io", role="operator")
    page = "/console/operator/invoices"
    done = await operator.send(f"{page}/PB-2026-000001/paid", {}, page="/console/profile")
    assert done.headers["location"] == f"{page}?done=paid-before"
    assert "already paid" in (await operator.get(f"{page}?done=paid-before")).text
