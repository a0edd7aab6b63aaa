"""A served console in which every page has something to show."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from sqlalchemy import insert

from plateblur.accounts import (
    api_keys,
    credit_notes,
    invoices,
    profiles,
    signup,
    tickets,
    withdrawals,
)
from plateblur.accounts.credentials import Hasher
from plateblur.accounts.gate import StoreGate
from plateblur.accounts.health_log import StoreHealth
from plateblur.accounts.models import HealthDay, UsageDay
from plateblur.accounts.offers import OrderTerms
from plateblur.accounts.quota import utc_now
from plateblur.accounts.store import open_store
from plateblur.accounts.types import SLOTS_PER_DAY, PlanKind, Role
from plateblur.console import add_console
from plateblur.console.parts import seller_of
from plateblur.web import Settings, create_app
from tests.web.fakes import FakeBlur, running

EMAIL, OPERATOR, PASSWORD = "ana.pop@plates.io", "boss@plates.io", "correct horse battery staple"

PUBLIC = (
    *("/", "/pricing", "/docs", "/status", "/faq", "/support", "/terms", "/privacy"),
    *("/withdraw", "/withdraw/done", "/console/signup", "/console/sent", "/console/login"),
    *("/console/forgotten", "/console/activate?token=x", "/console/reset?token=x"),
)
CUSTOMERS = (
    *("/console", "/console/order", "/console/invoices", "/console/invoices/PB-{year}-000002"),
    *("/console/invoices/PB-{year}-000002/cancel", "/console/credit-notes/CN-{year}-000001"),
    *("/console/keys", "/console/profile", "/console/profile/delete", "/console/consents"),
    *("/console/tickets", "/console/tickets/1", "/console/nowhere", "/withdraw"),
)
OPERATORS = (
    *("/console/operator", "/console/operator/accounts/1", "/console/operator/invoices"),
    *("/console/operator/invoices/PB-{year}-000002/paid", "/console/operator/tickets"),
    *("/console/operator/invoices/PB-{year}-000003/refund", "/console/operator/tickets/1"),
)


@dataclass(frozen=True)
class Furnished:
    """Where it is served."""

    url: str

    def pages(self, paths: tuple[str, ...]) -> list[str]:
        return [self.url + path.format(year=utc_now().year) for path in paths]


@contextmanager
def furnished(folder: Path) -> Iterator[Furnished]:
    """Serve a console with an account of each kind, invoices, tickets, usage and an outage."""
    store, hasher, now = open_store(folder), Hasher(), utc_now()
    settings = Settings(
        data_dir=folder,
        price_currency="EUR",
        seller_name="Drawn Plates SRL",
        seller_address="Str. Lungă 7\\nBrașov",
        seller_country="RO",
        seller_vat_id="RO1234565",
        seller_email="office@plates.io",
        seller_phone="+40 21 555 0100",
        seller_how_to_pay="Please pay by bank transfer.",
        seller_iban="RO49 AAAA 1B31 0075 9384 0000",
        seller_bic="AAAAROBU",
    )
    ids = {
        email: signup.create_account(
            store, hasher, email=email, password=PASSWORD, role=role, now=now
        )
        for email, role in ((EMAIL, Role.CUSTOMER), (OPERATOR, Role.OPERATOR))
    }
    ana = ids[EMAIL]
    profiles.change_profile(
        store, ana, full_name="Ana Pop", company="", postal_address="Str. Lungă 7\nBrașov",
        country="RO", vat_id="", username="ana",
    )  # fmt: skip
    seller = seller_of(settings)
    assert seller is not None

    def order(kind: PlanKind) -> str:
        terms = OrderTerms(terms_version="2026-11-27")
        return invoices.place_order(store, ana, kind, seller=seller, now=now, terms=terms).number

    credit_notes.cancel_order(store, ana, order(PlanKind.YEARLY), now=now)
    order(PlanKind.YEARLY)
    invoices.mark_paid(store, order(PlanKind.MONTHLY), paid_by="operator", now=now)
    key = api_keys.add_key(store, ana, label="camera", now=now, credentials_version=None)
    api_keys.revoke_key(store, ana, key.api_key_id, now=now)
    api_keys.add_key(store, ana, label="website", now=now, credentials_version=None)
    number = tickets.open_ticket(store, ana, subject="A question", text="Does it work?", now=now)
    tickets.reply(store, number, account_id=None, text="Yes, it does.", now=now)
    statement = withdrawals.Statement("Ion Pop", "PB-1", "ion@plates.io")
    withdrawals.keep(store, statement, credit_note="", now=now)
    with store.write() as connection:
        for ago in (0, 1, 2, 4, 5, 6, 9, 11):
            day = (now - timedelta(days=ago)).date()
            used = {"requests": 17 * ago + 9, "predictions": 31 * ago + 4}
            connection.execute(insert(UsageDay).values(account_id=ana, day=day, **used))
    days = [(now - timedelta(days=ago)).date() for ago in range(40)]
    strips = {part: ["+" * SLOTS_PER_DAY] * len(days) for part in ("service", "store", "model")}
    strips["model"][9] = "+" * 200 + "!" * 9 + "+" * 79
    strips["service"][20] = "+" * 100 + "-" * 40 + "+" * 148
    with store.write() as connection:
        for part, strip in strips.items():
            rows = [
                {"day": day, "part": part, "slots": slots}
                for day, slots in zip(days, strip, strict=True)
            ]
            connection.execute(insert(HealthDay), rows)
    gate = StoreGate(store)
    app = create_app(FakeBlur(), gate, settings, health_log=StoreHealth(store))
    add_console(app, store, gate, settings)
    with running(app) as url:
        yield Furnished(url)
    store.close()
