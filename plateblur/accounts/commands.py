"""The operator's commands on accounts, mounted as `plateblur accounts`."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from plateblur.accounts import api_keys, invoices, profiles, quota, signup
from plateblur.accounts.credentials import Hasher
from plateblur.accounts.gate import StoreGate
from plateblur.accounts.mail import outbox_of
from plateblur.accounts.profiles import Profile
from plateblur.accounts.quota import utc_now
from plateblur.accounts.store import Store, open_store
from plateblur.accounts.types import AccessError, Identity, PlanKind, Role
from plateblur.errors import PlateblurError

app = typer.Typer(help="Manage the accounts of the service.", no_args_is_help=True)

# The same variables as the service's, so that inside its container no option is needed.
DataDir = Annotated[
    Path, typer.Option(help="The service's data folder.", envvar="PLATEBLUR_DATA_DIR")
]
DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        help="postgresql://... instead of SQLite in the data folder.",
        envvar="PLATEBLUR_DATABASE_URL",
        show_envvar=True,
    ),
]
Login = Annotated[str, typer.Argument(help="E-mail or user name.")]

DEFAULT_DATA_DIR = Path("data")


@app.command()
def create(
    email: Annotated[str, typer.Argument(help="E-mail.")],
    password_stdin: Annotated[
        bool,
        typer.Option(
            "--password-stdin", help="Read the password from the first line of standard input."
        ),
    ] = False,
    activate: Annotated[
        bool, typer.Option("--activate", help="Activate the account immediately.")
    ] = False,
    plan: Annotated[
        PlanKind | None, typer.Option(help="Start the trial, or grant this plan.")
    ] = None,
    username: Annotated[str, typer.Option(help="User name.")] = "",
    operator: Annotated[
        bool, typer.Option("--operator", help="Give the account the operator role.")
    ] = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    database_url: DatabaseUrl = None,
    secret_key: Annotated[
        str,
        typer.Option(
            help="The service's secret key, if it has one.", envvar="PLATEBLUR_SECRET_KEY"
        ),
    ] = "",
) -> None:
    """Create an account, with a plan if you like."""
    if not password_stdin:
        raise typer.BadParameter("use --password-stdin and pass the password on standard input")
    if plan is PlanKind.TRIAL and not activate:
        raise typer.BadParameter("a trial needs --activate")
    password = sys.stdin.readline().rstrip("\r\n")
    # A trial is recorded with the service's key, or the person could get a second one there.
    with _opened(data_dir, database_url, secret=secret_key.encode() or None) as store:
        account_id = signup.create_account(
            store,
            Hasher(),
            email=email,
            username=username,
            password=password,
            role=Role.OPERATOR if operator else Role.CUSTOMER,
            active=activate,
            now=utc_now(),
        )
        if plan is PlanKind.TRIAL:
            signup.start_trial(store, account_id, now=utc_now())
        elif plan is not None:
            invoices.grant_package(store, account_id, plan, now=utc_now())
        typer.echo(f"created account {account_id}")


@app.command("list")
def list_accounts(data_dir: DataDir = DEFAULT_DATA_DIR, database_url: DatabaseUrl = None) -> None:
    """List all accounts: id, status, role, e-mail, plan."""
    with _opened(data_dir, database_url) as store:
        gate = StoreGate(store)
        after_id = 0
        while page := profiles.list_profiles(store, after_id=after_id):
            for profile in page:
                typer.echo(
                    f"{profile.account_id}\t{profile.status}\t{profile.role}\t"
                    f"{profile.email}\t{_plan(gate, profile)}"
                )
            after_id = page[-1].account_id


@app.command()
def show(
    login: Login, data_dir: DataDir = DEFAULT_DATA_DIR, database_url: DatabaseUrl = None
) -> None:
    """Show an account with its plan, API keys, invoices and usage."""
    with _opened(data_dir, database_url) as store:
        profile = profiles.find_profile(store, login)
        for name in ("account_id", "email", "username", "status", "role", "created_at"):
            typer.echo(f"{name}: {getattr(profile, name)}")
        typer.echo(f"plan: {_plan(StoreGate(store), profile)}")
        for key in api_keys.list_keys(store, profile.account_id):
            state = "revoked" if key.revoked_at else "active"
            typer.echo(f"key {key.api_key_id}: {key.prefix}... {key.label!r} {state}")
        for invoice in invoices.list_invoices(store, account_id=profile.account_id):
            typer.echo(
                f"invoice {invoice.number}: {invoice.kind} {invoice.status} "
                f"{invoice.total_cents / 100:.2f} {invoice.currency}"
            )
        for day in quota.days_of_use(store, profile.account_id, since=profile.created_at.date()):
            typer.echo(f"{day.day}: {day.requests} requests, {day.predictions} predictions")


@app.command()
def lock(
    login: Login, data_dir: DataDir = DEFAULT_DATA_DIR, database_url: DatabaseUrl = None
) -> None:
    """Lock an account; its next request is refused."""
    with _opened(data_dir, database_url) as store:
        profiles.lock_account(store, profiles.find_profile(store, login).account_id)
        typer.echo("locked")


@app.command()
def unlock(
    login: Login, data_dir: DataDir = DEFAULT_DATA_DIR, database_url: DatabaseUrl = None
) -> None:
    """Unlock an account, or activate one."""
    with _opened(data_dir, database_url) as store:
        profiles.unlock_account(store, profiles.find_profile(store, login).account_id)
        typer.echo("unlocked")


@app.command("mark-paid")
def mark_paid(
    invoice: Annotated[str, typer.Argument(help="Invoice number.")],
    data_dir: DataDir = DEFAULT_DATA_DIR,
    database_url: DatabaseUrl = None,
) -> None:
    """Mark an invoice as paid, which activates its plan."""
    with _opened(data_dir, database_url) as store:
        now = utc_now()
        paid = invoices.mark_paid(store, invoice, paid_by="operator", now=now)
        state = "is paid" if paid.paid_at == now else f"was already paid, by {paid.paid_by}"
        typer.echo(f"{paid.number} {state}; {paid.kind} from {paid.starts_at} to {paid.ends_at}")


@app.command("add-key")
def add_key(
    login: Login,
    label: Annotated[str, typer.Option(help="A name for the key.")] = "",
    data_dir: DataDir = DEFAULT_DATA_DIR,
    database_url: DatabaseUrl = None,
) -> None:
    """Create an API key and print it."""
    with _opened(data_dir, database_url) as store:
        account_id = profiles.find_profile(store, login).account_id
        typer.echo(api_keys.add_key(store, account_id, label=label, now=utc_now()).key)


@app.command()
def delete(
    login: Login,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask for confirmation.")] = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    database_url: DatabaseUrl = None,
) -> None:
    """Delete an account and its personal data; invoices are kept."""
    with _opened(data_dir, database_url) as store:
        profile = profiles.find_profile(store, login)
        if not yes:
            typer.confirm(f"Permanently delete account {profile.account_id}?", abort=True)
        profiles.delete_account(store, profile.account_id, outbox=outbox_of(data_dir))
        typer.echo("deleted")


@contextlib.contextmanager
def _opened(
    data_dir: Path, database_url: str | None, *, secret: bytes | None = None
) -> Iterator[Store]:
    """Yield the store; an error is printed as one line on stderr, with status 1."""
    try:
        store = open_store(data_dir, database_url=database_url, secret=secret)
        try:
            yield store
        finally:
            store.close()
    except (PlateblurError, ValueError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error


def _plan(gate: StoreGate, profile: Profile) -> str:
    try:
        plan = gate.active_plan(Identity(profile.account_id, profile.email))
    except AccessError as error:
        return f"none ({error.cd})"
    return f"{plan.kind} until {plan.ends_at:%Y-%m-%d %H:%M} UTC"
