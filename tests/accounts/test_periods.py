"""What the service deletes by itself, and when: just before its period ends and just after."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, insert, select, text

from plateblur.accounts import invoices, mail, payments, periods, profiles, signup
from plateblur.accounts.gate import StoreGate
from plateblur.accounts.mail import Email, Mailer, MailError
from plateblur.accounts.models import Base, Invoice, PackageMonth, StrayPayment, TrialPerson
from plateblur.accounts.store import Store
from plateblur.accounts.types import (
    NoInvoiceError,
    PackageExpiredError,
    PlanKind,
    TrialExpiredError,
    TrialRefusedError,
)
from plateblur.accounts.upkeep import prune
from tests.accounts.fakes import (
    EMAIL,
    NOW,
    SELLER,
    CountingHasher,
    TurnableClock,
    make_account,
    use,
)
from tests.accounts.test_store import empty_url  # noqa: F401 - a fixture
from tests.accounts.test_upgrade import key, old_store  # noqa: F401 - fixtures

NO_OUTBOX = Path("no outbox")
LAST_DAY = datetime(2037, 1, 1, tzinfo=UTC) - timedelta(seconds=1)  # of ten years after 2026
AFTER = datetime(2037, 1, 1, tzinfo=UTC)


def rows(store: Store, table: type[Base]) -> int:
    with store.read() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()


def test_an_email_in_the_outbox_is_deleted_after_its_period_without_another_one(
    store: Store, tmp_path: Path
) -> None:
    mailer = Mailer(sender="PlateBlur <no-reply@plates.io>", outbox=tmp_path, clock=lambda: NOW)
    old, young = (mailer.send(Email(EMAIL, "Hello", "Text\n")) for _ in range(2))
    assert old is not None
    assert young is not None
    for path, age in ((old, timedelta(seconds=1)), (young, -timedelta(seconds=1))):
        written = (NOW - periods.KEEP_OUTBOX - age).timestamp()
        os.utime(path, (written, written))
    prune(store, outbox=tmp_path, now=NOW)
    assert (old.exists(), young.exists()) == (False, True)


def test_an_outbox_that_cannot_be_cleaned_up_is_an_error_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "old.eml").touch()

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(MailError):
        mail.prune_outbox(tmp_path, now=datetime.now(UTC) + 2 * periods.KEEP_OUTBOX)


def test_an_invoice_is_deleted_ten_years_after_the_end_of_its_year(
    store: Store, gate: StoreGate, clock: TurnableClock
) -> None:
    buyer = make_account(store, plan=PlanKind.MONTHLY)
    use(gate, buyer, predictions=3)
    prune(store, outbox=NO_OUTBOX, now=LAST_DAY)
    assert (rows(store, Invoice), rows(store, PackageMonth)) == (1, 1)
    clock.now = AFTER
    with pytest.raises(PackageExpiredError):
        gate.active_plan(buyer)
    prune(store, outbox=NO_OUTBOX, now=AFTER)
    assert (rows(store, Invoice), rows(store, PackageMonth)) == (0, 0)
    with pytest.raises(NoInvoiceError):  # and not 1010, which is for a store that lost a row
        gate.active_plan(buyer)
    assert not profiles.read_profile(store, buyer.account_id).has_invoice


def test_an_account_whose_old_invoices_are_deleted_keeps_its_trial_and_its_other_invoices(
    store: Store, gate: StoreGate, clock: TurnableClock
) -> None:
    buyer = make_account(store, plan=PlanKind.TRIAL)
    invoices.grant_package(store, buyer.account_id, PlanKind.MONTHLY, now=NOW)
    later = make_account(store, plan=PlanKind.MONTHLY, email="ion@plates.io")
    invoices.grant_package(store, later.account_id, PlanKind.MONTHLY, now=LAST_DAY)
    clock.now = AFTER
    prune(store, outbox=NO_OUTBOX, now=AFTER)
    with pytest.raises(TrialExpiredError):
        gate.active_plan(buyer)
    assert gate.active_plan(later).kind is PlanKind.MONTHLY


def test_an_invoice_whose_package_still_runs_is_kept(store: Store, gate: StoreGate) -> None:
    buyer = make_account(store)
    paid_late = datetime(2036, 12, 1, tzinfo=UTC)
    profiles.change_profile(
        store, buyer.account_id, full_name="Ana Pop", company="", postal_address="Str. Lungă 7",
        country="RO", vat_id="", username="",
    )  # fmt: skip
    ordered = invoices.place_order(store, buyer.account_id, PlanKind.YEARLY, seller=SELLER, now=NOW)
    invoices.mark_paid(store, ordered.number, paid_by="operator", now=paid_late)
    prune(store, outbox=NO_OUTBOX, now=AFTER)
    assert rows(store, Invoice) == 1
    prune(store, outbox=NO_OUTBOX, now=datetime(2037, 12, 1, tzinfo=UTC))
    assert rows(store, Invoice) == 0


def test_an_invoice_that_outlived_its_account_is_deleted_too(store: Store) -> None:
    buyer = make_account(store, plan=PlanKind.MONTHLY)
    profiles.delete_account(store, buyer.account_id, outbox=NO_OUTBOX)
    assert rows(store, Invoice) == 1
    prune(store, outbox=NO_OUTBOX, now=AFTER)
    assert rows(store, Invoice) == 0


def test_a_payment_is_deleted_with_the_invoices_of_its_year_once_it_was_dealt_with(
    store: Store,
) -> None:
    with store.write() as connection:
        for event_id, settled_at in (("settled", NOW), ("open", None)):
            connection.execute(
                insert(StrayPayment).values(
                    event_id=event_id, invoice_number="PB-2026-000001", amount_cents=1,
                    currency="USD", why="", came_at=NOW, settled_at=settled_at,
                )
            )  # fmt: skip
    prune(store, outbox=NO_OUTBOX, now=LAST_DAY)
    assert rows(store, StrayPayment) == 2
    prune(store, outbox=NO_OUTBOX, now=AFTER)
    assert [one.event_id for one in payments.list_stray_payments(store)] == ["open"]


def test_the_hash_of_a_trial_is_deleted_after_three_years(store: Store) -> None:
    first = make_account(store, plan=PlanKind.TRIAL)
    profiles.delete_account(store, first.account_id, outbox=NO_OUTBOX)
    again = make_account(store)
    in_three_years = NOW.replace(year=NOW.year + 3)
    prune(store, outbox=NO_OUTBOX, now=in_three_years)
    with pytest.raises(TrialRefusedError):
        signup.start_trial(store, again.account_id, now=in_three_years)
    prune(store, outbox=NO_OUTBOX, now=in_three_years + timedelta(seconds=1))
    assert rows(store, TrialPerson) == 0
    signup.start_trial(store, again.account_id, now=in_three_years + timedelta(seconds=1))


@pytest.mark.parametrize(
    ("now", "since"),
    [
        (datetime(2032, 2, 29, 5, tzinfo=UTC), datetime(2029, 2, 28, 5, tzinfo=UTC)),
        (datetime(2031, 3, 1, 5, tzinfo=UTC), datetime(2028, 3, 1, 5, tzinfo=UTC)),
    ],
    ids=["leap day", "usual"],
)
def test_three_years_back_is_a_day_of_the_calendar(now: datetime, since: datetime) -> None:
    assert periods.trial_hashes_kept_since(now) == since


def test_hashes_from_before_periods_existed_are_kept_for_a_whole_period(
    old_store: Store,  # noqa: F811
) -> None:
    with old_store.read() as connection:
        noted = connection.execute(text("SELECT person_hash FROM trial_persons")).scalars().all()
    assert noted == ["0" * 64]
    now = datetime.now(UTC)
    prune(old_store, outbox=NO_OUTBOX, now=now)
    assert rows(old_store, TrialPerson) == 1
    prune(old_store, outbox=NO_OUTBOX, now=now + timedelta(days=4 * 366))
    assert rows(old_store, TrialPerson) == 0
    with old_store.read() as connection:
        started = connection.execute(text("SELECT started_at FROM trial_persons")).all()
    assert started == []
    with pytest.raises(Exception, match=r"(?i)null"), old_store.write() as connection:
        connection.execute(text("INSERT INTO trial_persons (person_hash) VALUES ('1')"))


def test_counting_is_not_disturbed_by_upkeep(store: Store) -> None:
    hasher = CountingHasher()
    gate = StoreGate(store, hasher=hasher, clock=lambda: NOW)
    buyer = make_account(store, plan=PlanKind.MONTHLY)
    use(gate, buyer, predictions=2)
    prune(store, outbox=NO_OUTBOX, now=NOW)
    assert gate.usage(buyer, gate.active_plan(buyer)).predictions == 2
