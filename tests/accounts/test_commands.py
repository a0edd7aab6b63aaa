"""The operator's commands, each on the same data folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from plateblur.accounts import invoices, signup
from plateblur.accounts.commands import app
from plateblur.accounts.gate import StoreGate
from plateblur.accounts.profiles import change_profile
from plateblur.accounts.store import open_store
from plateblur.accounts.types import PlanKind, TrialRefusedError
from tests.accounts.fakes import EMAIL, NOW, PASSWORD, SELLER, CountingHasher

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def run(*arguments: str, stdin: str = "") -> Result:
        command = [*arguments, "--data-dir", str(tmp_path)]
        return CliRunner().invoke(app, command, input=stdin)

    return run


@pytest.mark.slow
@pytest.mark.parametrize("plan", list(PlanKind))
def test_create_makes_an_account_that_works(run: Run, tmp_path: Path, plan: PlanKind) -> None:
    made = run(
        "create", EMAIL, "--password-stdin", "--activate", "--plan", plan, stdin=PASSWORD + "\n"
    )
    assert made.exit_code == 0, made.output
    assert PASSWORD not in made.output
    store = open_store(tmp_path)
    gate = StoreGate(store)
    identity = gate.authenticate(EMAIL, PASSWORD, address="127.0.0.1")
    assert gate.active_plan(identity).kind is plan
    store.close()
    assert f"{plan} until" in run("list").output


@pytest.mark.slow
def test_an_account_is_shown_locked_unlocked_and_deleted(run: Run) -> None:
    run("create", EMAIL, "--password-stdin", "--username", "ana", stdin=PASSWORD)
    assert "status: pending" in run("show", EMAIL).output
    assert run("unlock", EMAIL).output == "unlocked\n"
    assert "status: active" in run("show", "ana").output
    assert run("lock", "ana").output == "locked\n"
    key = run("add-key", "ana", "--label", "camera").output.strip()
    shown = run("show", "ana").output
    assert "status: locked" in shown
    assert "'camera' active" in shown
    assert key not in shown
    assert run("delete", "ana", stdin="n\n").exit_code == 1
    assert run("delete", "ana", "--yes").output == "deleted\n"
    assert run("list").output == ""


@pytest.mark.slow
def test_mark_paid_opens_the_package(run: Run, tmp_path: Path) -> None:
    run("create", EMAIL, "--password-stdin", "--activate", stdin=PASSWORD)
    store = open_store(tmp_path)
    change_profile(
        store, 1, full_name="Ana", company="", postal_address="Str. 1", country="RO", vat_id="",
        username="",
    )  # fmt: skip
    invoice = invoices.place_order(store, 1, PlanKind.YEARLY, seller=SELLER, now=NOW)
    store.close()
    assert "yearly" in run("mark-paid", invoice.number).output
    assert "yearly paid 987.36 USD" in run("show", EMAIL).output


@pytest.mark.parametrize(
    "arguments",
    [("show", "nobody"), ("lock", "nobody"), ("mark-paid", "PB-1"), ("delete", "nobody", "--yes"),
     ("create", "nonsense", "--password-stdin")],
    ids=lambda arguments: arguments[0],
)  # fmt: skip
def test_what_cannot_be_done_is_one_line_and_status_1(run: Run, arguments: tuple[str]) -> None:
    result = run(*arguments, stdin=PASSWORD)
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1


def test_a_password_is_never_an_argument(run: Run) -> None:
    assert run("create", EMAIL).exit_code == 2


@pytest.mark.slow
def test_inside_the_services_environment_no_option_is_needed(tmp_path: Path) -> None:
    secret = "a key of the service, 32 bytes or more"
    environment = {
        "PLATEBLUR_DATA_DIR": str(tmp_path / "data"),
        "PLATEBLUR_DATABASE_URL": f"sqlite:///{tmp_path}/elsewhere.sqlite3",
        "PLATEBLUR_SECRET_KEY": secret,
    }
    command = ["create", EMAIL, "--password-stdin", "--activate", "--plan", "trial"]
    made = CliRunner().invoke(app, command, input=PASSWORD, env=environment)
    assert made.exit_code == 0, made.output
    assert EMAIL in CliRunner().invoke(app, ["list"], env=environment).output
    store = open_store(
        tmp_path / "data",
        database_url=environment["PLATEBLUR_DATABASE_URL"],
        secret=secret.encode(),
    )
    again = signup.create_account(
        store, CountingHasher(), email="ana.pop+2@plates.io", password=PASSWORD, now=NOW
    )
    with pytest.raises(TrialRefusedError):
        signup.start_trial(store, again, now=NOW)
    store.close()


def test_a_secret_too_short_is_one_line(tmp_path: Path) -> None:
    command = ["create", EMAIL, "--password-stdin", "--data-dir", str(tmp_path)]
    done = CliRunner().invoke(app, command, input=PASSWORD, env={"PLATEBLUR_SECRET_KEY": "short"})
    assert (done.exit_code, done.stderr.count("\n")) == (1, 1)
    assert "32 bytes" in done.stderr
