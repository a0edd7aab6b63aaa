"""From a stranger to an account with a trial: sign up, activate, start the trial."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from plateblur.accounts import fields, plans, throttle
from plateblur.accounts.credentials import Hasher, fast_hash, random_secret
from plateblur.accounts.links import link_to
from plateblur.accounts.mail import Letter
from plateblur.accounts.models import (
    Account,
    Consent,
    PendingSignUp,
    SignUpRow,
    Trial,
    TrialPerson,
)
from plateblur.accounts.store import Store
from plateblur.accounts.types import (
    AccountClosedError,
    AccountStatus,
    BusyError,
    FieldError,
    Identity,
    LinkError,
    PlanKind,
    PlanPeriod,
    Role,
    SignUpLimitError,
    TrialRefusedError,
)

# Source: ours; an office behind one address signs up in a day, a script needs more.
SIGN_UPS_PER_BLOCK = 10
SIGN_UP_WINDOW = timedelta(days=1)
BLOCK_IPV4_BITS = 24
LINK_FOR = timedelta(days=2)  # Source: ours; who signs up in the evening has the next day for it.
# Source: ours; sign-ups with one e-mail that wait at once, the newest ones. To push the owner's out
# in time a stranger needs three networks.
PER_ADDRESS = 25
PENDING_FOR = timedelta(days=7)  # an operator's account never activated is dropped after this


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
    """Keep a sign-up until its link is opened; return the letter to send.

    Whoever signs up with an address that has an account sees no difference, in time neither: its
    owner is told by the letter. Several sign-ups with one address wait side by side, each with its
    own password and link.

    Args:
        store: the store.
        hasher: argon2.
        email: as typed.
        password: as typed.
        consents: for the log of the account, if there ever is one.
        address: the peer's IP address.
        activation_url: the page that takes `?token=`.
        now: UTC.
        username: as typed; "" for none.

    Raises:
        FieldError: a field can't be taken, or the user name is someone's.
        SignUpLimitError: too many from this address block.
        BusyError: nothing was kept or counted.
        StoreUnavailableError: nothing was kept.
    """
    email = fields.parse_email(email)
    if fields.is_throwaway(email):
        raise FieldError("email", "Expected an address that is not of a throwaway provider.")
    username = fields.parse_username(username) if username else ""
    fields.check_password(password)
    decided = [
        asdict(consent)
        | {
            "subject": fields.plain_text("consents", consent.subject, max_chars=64),
            "text_version": fields.plain_text("consents", consent.text_version, max_chars=32),
        }
        for consent in consents
    ]
    counted = _count_sign_up(store, address, now)
    with store.read() as connection:
        _check_username_is_free(connection, username)
    try:
        password_hash = hasher.hash(password)
    except BusyError:
        _uncount_sign_up(store, counted)
        raise
    key = fields.login_key(email)
    secret = random_secret()
    with store.write() as connection:
        store.lock(connection, f"email {key}")
        known = connection.execute(select(Account.id).where(Account.email_key == key)).first()
        connection.execute(
            insert(PendingSignUp).values(
                secret_hash=fast_hash(secret),
                email=email,
                email_key=key,
                username=username or None,
                username_key=fields.login_key(username) or None,
                password_hash=password_hash,
                consents=decided,
                signed_up_at=now,
                expires_at=now + LINK_FOR,
            )
        )
        _keep_newest(connection, key)
    if known is not None:  # its link goes to nobody, so that this sign-up stays without a use
        return Letter(
            email,
            "You already have a PlateBlur account",
            "Somebody, perhaps you, tried to sign up with this address, which has an "
            "account already.\nLog in as usual, or ask for a new password.\n",
        )
    link = link_to(activation_url, secret)
    return Letter(
        email,
        "Activate your PlateBlur account",
        "Open this page within two days, and type the password that you chose, to activate your "
        f"account:\n\n{link}\n\nIf you did not sign up, do nothing.\n",
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
    role: Role = Role.CUSTOMER,
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
        if connection.execute(select(Account.id).where(Account.role == Role.OPERATOR)).first():
            return None
    password = random_secret()
    try:
        create_account(
            store,
            hasher,
            email="operator@localhost.localdomain",
            username="operator",
            password=password,
            role=Role.OPERATOR,
            now=now,
        )
    except FieldError:
        return None  # another worker was first
    return "operator", password


def activate(
    store: Store, hasher: Hasher, secret: str, *, password: str, address: str, now: datetime
) -> Identity:
    """Make an account of the sign-up of a mailed link; return who has now proved to be its owner.

    It takes both the link, which proves the mailbox, and the password of that very sign-up: whoever
    opens the link of a stranger's sign-up gets no account that the stranger can open too. What
    else waited for the same address is dropped. A user name that somebody got meanwhile is left
    away.

    Args:
        store: the store.
        hasher: argon2.
        secret: the link's.
        password: as typed.
        address: the peer's IP address; wrong passwords are slowed.
        now: UTC.

    Raises:
        LinkError: unknown, used or too old, or the address has an account by now.
        FieldError: not the password of this sign-up, or too many wrong ones.
        BusyError: nothing was checked.
        StoreUnavailableError: nothing changed.
    """
    secret_hash = fast_hash(secret)
    with store.read() as connection:
        password_hash = connection.execute(
            select(PendingSignUp.password_hash).where(
                PendingSignUp.secret_hash == secret_hash, PendingSignUp.expires_at > now
            )
        ).scalar()
    if password_hash is None:
        raise _no_sign_up()
    who = f"sign-up {secret_hash}"
    _check_wait(store, who, address, now)
    with hasher.turn():
        _check_wait(store, who, address, now)
        if not hasher.verify(password_hash, password):
            throttle.note_failure(store, login=who, address=address, now=now)
            raise FieldError(
                "password",
                "This is not the password that was chosen with this link. If you signed up more "
                "than once, each letter has a password of its own; or sign up again.",
            )
    with store.write() as connection:
        return _make_account(store, connection, secret_hash, now)


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
        if account is None or account.status != AccountStatus.ACTIVE:
            raise AccountClosedError("The account is not active.")
        if account.has_trial:
            raise TrialRefusedError("This account had its trial.")
        if fields.is_throwaway(account.email):
            raise TrialRefusedError("No trial for addresses of a throwaway provider.")
        person_hash, *earlier = (
            store.keyed_hash("trial person", key) for key in fields.person_keys(account.email)
        )
        store.lock(connection, person_hash)
        if connection.execute(
            select(TrialPerson).where(TrialPerson.person_hash.in_([person_hash, *earlier]))
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
    """Drop sign-ups whose link is too old, accounts never activated, and old sign-up counts."""
    with store.write() as connection:
        connection.execute(delete(PendingSignUp).where(PendingSignUp.expires_at <= now))
        connection.execute(
            delete(Account).where(
                Account.status == AccountStatus.PENDING, Account.created_at < now - PENDING_FOR
            )
        )
        connection.execute(delete(SignUpRow).where(SignUpRow.signed_up_at < now - SIGN_UP_WINDOW))


def _count_sign_up(store: Store, address: str, now: datetime) -> int:
    """Return the row of one more sign-up.

    Raises:
        SignUpLimitError: there are too many.
    """
    block = fields.address_block(
        address, ipv4_bits=BLOCK_IPV4_BITS, ipv6_bits=fields.SITE_IPV6_BITS
    )
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
        return connection.execute(
            insert(SignUpRow)
            .values(block_hash=block_hash, signed_up_at=now)
            .returning(SignUpRow.id)
        ).scalar_one()


def _uncount_sign_up(store: Store, counted: int) -> None:
    with store.write() as connection:
        connection.execute(delete(SignUpRow).where(SignUpRow.id == counted))


def _keep_newest(connection: Connection, email_key: str) -> None:
    """Drop the oldest of too many sign-ups with one address; a stranger needs that many for it."""
    kept = (
        select(PendingSignUp.secret_hash)
        .where(PendingSignUp.email_key == email_key)
        .order_by(PendingSignUp.signed_up_at.desc(), PendingSignUp.secret_hash)
        .limit(PER_ADDRESS)
    )
    connection.execute(
        delete(PendingSignUp).where(
            PendingSignUp.email_key == email_key, PendingSignUp.secret_hash.not_in(kept)
        )
    )


def _check_wait(store: Store, who: str, address: str, now: datetime) -> None:
    if wait_s := throttle.wait_s(store, login=who, address=address, now=now):
        raise FieldError("password", f"Too many tries. Wait {wait_s} s, then try again.")


def _no_sign_up() -> LinkError:
    return LinkError(
        "The link is unknown, was used before, or is too old; log in, or sign up again."
    )


def _make_account(
    store: Store, connection: Connection, secret_hash: str, now: datetime
) -> Identity:
    """Turn one sign-up into an active account, and drop the others of its address.

    Raises:
        LinkError: it was used or replaced meanwhile, or the address has an account by now.
    """
    own = select(PendingSignUp).where(PendingSignUp.secret_hash == secret_hash)
    found = connection.execute(own).first()
    if found is not None:
        store.lock(connection, f"email {found.email_key}")
        found = connection.execute(own).first()  # as the lock found it
    if found is None:
        raise _no_sign_up()
    signed_up = found
    connection.execute(delete(PendingSignUp).where(PendingSignUp.email_key == signed_up.email_key))
    username = signed_up.username or ""
    try:
        _check_username_is_free(connection, username)
    except FieldError:
        username = ""
    try:
        account_id = _insert_account(
            connection,
            email=signed_up.email,
            username=username,
            password_hash=signed_up.password_hash,
            role=Role.CUSTOMER,
            now=now,
        )
    except FieldError as error:
        raise LinkError("The address has an account by now; log in with it.") from error
    for consent in signed_up.consents:
        connection.execute(
            insert(Consent).values(
                account_id=account_id, decided_at=signed_up.signed_up_at, **consent
            )
        )
    _activate(connection, account_id, now)
    return Identity(account_id, signed_up.email)


def _check_username_is_free(connection: Connection, username: str) -> None:
    """Refuse an account's user name, whether or not the address that asks has an account.

    Were it refused only where the address has none, a taken name would tell which it is. What
    waits for its link holds no name.

    Raises:
        FieldError: the user name is someone's.
    """
    taken = select(Account.id).where(Account.username_key == fields.login_key(username))
    if username and connection.execute(taken).first():
        raise FieldError("username", "This user name is taken.")


def _insert_account(
    connection: Connection,
    *,
    email: str,
    username: str,
    password_hash: str,
    role: Role,
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
                status=AccountStatus.PENDING,
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
        .where(Account.id == account_id, Account.status == AccountStatus.PENDING)
        .values(status=AccountStatus.ACTIVE, activated_at=now)
    )
