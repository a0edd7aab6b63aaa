"""From a stranger to an account with a trial: sign up, activate, start the trial."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from plateblur.accounts import fields, plans
from plateblur.accounts.credentials import Hasher, random_secret
from plateblur.accounts.links import make_link, use_link
from plateblur.accounts.mail import Letter
from plateblur.accounts.models import Account, Consent, SignUpRow, Trial, TrialPerson
from plateblur.accounts.plans import PlanPeriod
from plateblur.accounts.store import Store
from plateblur.accounts.types import (
    AccountClosedError,
    FieldError,
    PlanKind,
    SignUpLimitError,
    TrialRefusedError,
)

# Source: ours; an office behind one address signs up in a day, a script needs more.
SIGN_UPS_PER_BLOCK = 10
SIGN_UP_WINDOW = timedelta(days=1)
BLOCK_IPV4_BITS = 24
BLOCK_IPV6_BITS = 64  # Source: RFC 6177, the smallest network a site gets.
PENDING_FOR = timedelta(days=7)  # an account never activated is dropped after this


@dataclass(frozen=True, slots=True)
class ConsentGiven:
    """A box of the sign-up form.

    Attributes:
        subject: what it is about, e.g. "terms", "privacy", "newsletter".
        text_version: which text was shown.
        given: whether it was ticked.
    """

    subject: str
    text_version: str
    given: bool


def sign_up(
    store: Store,
    hasher: Hasher,
    *,
    email: str,
    password: str,
    consents: Sequence[ConsentGiven],
    address: str,
    activation_url: str,
    now: datetime,
    username: str = "",
) -> Letter:
    """Keep a pending account; return the letter to send.

    Whoever signs up with an address that has an account sees no difference: its owner is told by
    the letter. An account that was never activated is taken over by the newer sign-up.

    Args:
        store: the store.
        hasher: argon2.
        email: as typed.
        password: as typed.
        consents: kept in the log.
        address: the peer's IP address.
        activation_url: the page that takes `?token=`.
        now: UTC.
        username: as typed; "" for none.

    Raises:
        FieldError: a field can't be taken, or the user name is someone's.
        SignUpLimitError: too many from this address block.
        StoreUnavailableError: nothing was kept.
    """
    email = fields.parse_email(email)
    if fields.is_throwaway(email):
        raise FieldError("email", "Expected an address that is not of a throwaway provider.")
    username = fields.parse_username(username) if username else ""
    fields.check_password(password)
    _count_sign_up(store, address, now)
    password_hash = hasher.hash(password)
    key = fields.login_key(email)
    with store.write() as connection:
        store.lock(connection, f"email {key}")
        _check_username_is_free(connection, username, pending_of=key)
        known = connection.execute(
            select(Account.id, Account.status).where(Account.email_key == key)
        ).first()
        if known is not None and known.status != "pending":
            return Letter(
                email,
                "You already have a PlateBlur account",
                "Somebody, perhaps you, tried to sign up with this address, which has an "
                "account already.\nLog in as usual, or ask for a new password.\n",
            )
        if known is not None:
            connection.execute(delete(Account).where(Account.id == known.id))
        account_id = _insert_account(
            connection,
            email=email,
            username=username,
            password_hash=password_hash,
            role="customer",
            now=now,
        )
        for consent in consents:
            connection.execute(
                insert(Consent).values(
                    account_id=account_id,
                    subject=fields.plain_text("consents", consent.subject, max_chars=64),
                    text_version=fields.plain_text("consents", consent.text_version, max_chars=32),
                    given=consent.given,
                    decided_at=now,
                )
            )
        link = make_link(
            connection,
            account_id=account_id,
            purpose="activate",
            page_url=activation_url,
            now=now,
        )
    return Letter(
        email,
        "Activate your PlateBlur account",
        f"Open this page within two days to activate your account:\n\n{link}\n\n"
        "If you did not sign up, do nothing.\n",
        link,
    )


def create_account(
    store: Store,
    hasher: Hasher,
    *,
    email: str,
    password: str,
    now: datetime,
    username: str = "",
    role: str = "customer",
    active: bool = True,
) -> int:
    """Return the id of an account that the operator makes; no letter, no limits.

    Raises:
        FieldError: a field can't be taken, or is someone's.
        StoreUnavailableError: nothing was kept.
    """
    email = fields.parse_email(email, deliverable=False)
    username = fields.parse_username(username) if username else ""
    fields.check_password(password)
    password_hash = hasher.hash(password)
    with store.write() as connection:
        account_id = _insert_account(
            connection,
            email=email,
            username=username,
            password_hash=password_hash,
            role=role,
            now=now,
        )
        if active:
            _activate(connection, account_id, now)
    return account_id


def first_operator(store: Store, hasher: Hasher, *, now: datetime) -> tuple[str, str] | None:
    """Make an operator's account where there is none; return its user name and password.

    Of several workers that start at once one makes it. The password is for the terminal of who
    started the service, once, and not for a log that is kept.

    Raises:
        StoreUnavailableError: nothing was kept.
    """
    with store.read() as connection:
        if connection.execute(select(Account.id).where(Account.role == "operator")).first():
            return None
    password = random_secret()
    try:
        create_account(
            store,
            hasher,
            email="operator@localhost.localdomain",
            username="operator",
            password=password,
            role="operator",
            now=now,
        )
    except FieldError:
        return None  # another worker was first
    return "operator", password


def activate(store: Store, secret: str, *, now: datetime) -> int:
    """Make the account of a mailed activation link active; return its id.

    It does not log in, so that who only follows the link of a stranger's sign-up gets nothing.

    Raises:
        LinkError: unknown, used or too old.
        StoreUnavailableError: nothing changed.
    """
    with store.write() as connection:
        account_id, _ = use_link(connection, secret, purpose="activate", now=now)
        _activate(connection, account_id, now)
    return account_id


def start_trial(store: Store, account_id: int, *, now: datetime) -> PlanPeriod:
    """Start the trial; once per person, also after the account was deleted.

    Of the person only a keyed hash of the normalised address is kept.

    Raises:
        TrialRefusedError: this account or person had one, or the address is a throwaway.
        AccountClosedError: the account is gone or not active.
        StoreUnavailableError: nothing changed.
    """
    with store.write() as connection:
        account = connection.execute(
            select(Account.email, Account.status, Account.has_trial)
            .where(Account.id == account_id)
            .with_for_update(key_share=True)
        ).first()
        if account is None or account.status != "active":
            raise AccountClosedError("The account is not active.")
        if account.has_trial:
            raise TrialRefusedError("This account had its trial.")
        if fields.is_throwaway(account.email):
            raise TrialRefusedError("No trial for addresses of a throwaway provider.")
        person_hash = store.keyed_hash("trial person", fields.person_key(account.email))
        store.lock(connection, person_hash)
        if connection.execute(
            select(TrialPerson).where(TrialPerson.person_hash == person_hash)
        ).first():
            raise TrialRefusedError("The owner of this address had a trial before.")
        connection.execute(insert(TrialPerson).values(person_hash=person_hash))
        ends_at = plans.trial_end(now)
        trial_id = connection.execute(
            insert(Trial)
            .values(account_id=account_id, starts_at=now, ends_at=ends_at)
            .returning(Trial.id)
        ).scalar_one()
        connection.execute(update(Account).where(Account.id == account_id).values(has_trial=True))
    return PlanPeriod(PlanKind.TRIAL, now, ends_at, trial_id)


def prune_pending(store: Store, *, now: datetime) -> None:
    """Drop accounts that were never activated, and old sign-up counts."""
    with store.write() as connection:
        connection.execute(
            delete(Account).where(
                Account.status == "pending", Account.created_at < now - PENDING_FOR
            )
        )
        connection.execute(delete(SignUpRow).where(SignUpRow.signed_up_at < now - SIGN_UP_WINDOW))


def _count_sign_up(store: Store, address: str, now: datetime) -> None:
    block = fields.address_block(address, ipv4_bits=BLOCK_IPV4_BITS, ipv6_bits=BLOCK_IPV6_BITS)
    block_hash = store.keyed_hash("sign-up block", block)
    with store.write() as connection:
        store.lock(connection, block_hash)
        count = connection.execute(
            select(func.count())
            .select_from(SignUpRow)
            .where(
                SignUpRow.block_hash == block_hash,
                SignUpRow.signed_up_at > now - SIGN_UP_WINDOW,
            )
        ).scalar_one()
        if count >= SIGN_UPS_PER_BLOCK:
            raise SignUpLimitError("Too many sign-ups from your network today; try tomorrow.")
        connection.execute(insert(SignUpRow).values(block_hash=block_hash, signed_up_at=now))


def _check_username_is_free(
    connection: Connection, username: str, *, pending_of: str | None = None
) -> None:
    """Refuse somebody's user name, whether or not the address that asks has an account.

    Were it refused only where the address has none, a taken name would tell which it is.

    Args:
        connection: in a write.
        username: "" for none.
        pending_of: the e-mail key whose account gives way if it was never activated.

    Raises:
        FieldError: the user name is someone's.
    """
    taken = select(Account.id).where(
        Account.username_key == fields.login_key(username),
        or_(Account.status != "pending", Account.email_key != (pending_of or "")),
    )
    if username and connection.execute(taken).first():
        raise FieldError("username", "This user name is taken.")


def _insert_account(
    connection: Connection,
    *,
    email: str,
    username: str,
    password_hash: str,
    role: str,
    now: datetime,
) -> int:
    """Return the id of a new pending account.

    Raises:
        FieldError: the address or user name is someone's.
    """
    _check_username_is_free(connection, username)
    try:
        return connection.execute(
            insert(Account)
            .values(
                email=email,
                email_key=fields.login_key(email),
                username=username or None,
                username_key=fields.login_key(username) or None,
                password_hash=password_hash,
                role=role,
                status="pending",
                credentials_version=0,
                has_trial=False,
                has_invoice=False,
                full_name="",
                company="",
                postal_address="",
                country="",
                vat_id="",
                created_at=now,
                activated_at=None,
            )
            .returning(Account.id)
        ).scalar_one()
    except IntegrityError as error:
        raise FieldError("email", "This address or user name has an account.") from error


def _activate(connection: Connection, account_id: int, now: datetime) -> None:
    connection.execute(
        update(Account)
        .where(Account.id == account_id, Account.status == "pending")
        .values(status="active", activated_at=now)
    )
