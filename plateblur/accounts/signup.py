"""Signing up, activating an account, and starting the trial."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from plateblur.accounts import fields, plans, throttle
from plateblur.accounts.credentials import Hasher, fast_hash, random_secret
from plateblur.accounts.links import link_to
from plateblur.accounts.mail import Email
from plateblur.accounts.models import (
    Account,
    Consent,
    PendingSignUp,
    SignUpRow,
    Trial,
    TrialPerson,
)
from plateblur.accounts.periods import (
    KEEP_INACTIVE,
    KEEP_SIGN_UP,
    KEEP_SIGN_UP_COUNTS,
    trial_hashes_kept_since,
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

# Source: ours; enough for an office behind one address, too few for a script.
SIGN_UPS_PER_BLOCK = 10
BLOCK_IPV4_BITS = 24
# Source: ours; pending sign-ups of one e-mail address, of which the newest are kept. To push the
# owner's out in time, an attacker needs three networks.
PER_ADDRESS = 25


@dataclass(frozen=True, slots=True)
class ConsentGiven:
    """A check box of the sign-up form.

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
) -> Email:
    """Store a sign-up until its link is opened; return the e-mail to send.

    Signing up with an address that already has an account looks the same, in timing too: only the
    e-mail tells its owner. Several sign-ups of one address can be pending, each with its own
    password and link.

    Args:
        store: the store.
        hasher: argon2.
        email: as typed.
        password: as typed.
        consents: for the consent log of the future account.
        address: the peer's IP address.
        activation_url: the page that takes `?token=`.
        now: UTC.
        username: as typed; "" for none.

    Raises:
        FieldError: a field is not valid, or the user name is taken.
        SignUpLimitError: too many from this network block.
        BusyError: nothing was stored or counted.
        StoreUnavailableError: nothing was stored.
    """
    email = fields.parse_email(email)
    if fields.is_throwaway(email):
        raise FieldError("email", "Disposable e-mail addresses aren't accepted.")
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
                expires_at=now + KEEP_SIGN_UP,
            )
        )
        _keep_newest(connection, key)
    if known is not None:  # this sign-up's link is sent to nobody, so it can't be activated
        return Email(
            email,
            "You already have a PlateBlur account",
            "Hello,\n\nSomeone, probably you, just tried to sign up for PlateBlur with this e-mail "
            "address. You already have an account, so you can simply log in. If you forgot your "
            "password, you can reset it on the login page.\n\nIf this wasn't you, you can ignore "
            "this e-mail.\n",
        )
    link = link_to(activation_url, secret)
    return Email(
        email,
        "Activate your PlateBlur account",
        "Hello,\n\nThanks for signing up for PlateBlur. To activate your account, open this link "
        f"and enter the password you chose:\n\n{link}\n\nThe link expires in "
        f"{KEEP_SIGN_UP.days} days. If you didn't sign up, you can ignore this e-mail.\n",
        link,
    )


def problems_of(*, email: str, username: str, password: str) -> dict[str, str]:
    """Return everything that is wrong with what was typed, by field; asks no store.

    Args:
        email: as typed.
        username: as typed; "" for none.
        password: as typed.
    """

    def check_email() -> None:
        if fields.is_throwaway(fields.parse_email(email)):
            raise FieldError("email", "Disposable e-mail addresses aren't accepted.")

    def check_username() -> None:
        if username:
            fields.parse_username(username)

    problems: dict[str, str] = {}
    for check in (check_email, check_username, lambda: fields.check_password(password)):
        try:
            check()
        except FieldError as error:
            problems[error.field] = str(error)
    return problems


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
    """Return the id of an account created by the operator, without an e-mail or limits.

    Raises:
        FieldError: a field is not valid, or is taken.
        StoreUnavailableError: nothing was stored.
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
    """Create an operator's account if there is none; return its user name and password.

    If several workers start together, one of them creates it. Show the password once, on the
    terminal, and never in a log.

    Raises:
        StoreUnavailableError: nothing was stored.
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
    """Create the account of a mailed link's sign-up; return its owner's identity.

    It needs both the link, which proves the mailbox, and the password of that very sign-up. So
    nobody can be tricked into activating an account that a stranger signed up for. Other pending
    sign-ups of the address are deleted. A user name that was taken in the meantime is dropped.

    Args:
        store: the store.
        hasher: argon2.
        secret: the link's.
        password: as typed.
        address: the peer's IP address; wrong passwords are rate-limited.
        now: UTC.

    Raises:
        LinkError: invalid, used or expired, or the address already has an account.
        FieldError: not the password of this sign-up, or too many attempts.
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
                "This isn't the password you chose when you signed up with this link. If you "
                "signed up more than once, use the link of the right e-mail, or sign up again.",
            )
    with store.write() as connection:
        return _make_account(store, connection, secret_hash, now)


def start_trial(store: Store, account_id: int, *, now: datetime) -> PlanPeriod:
    """Start the trial, once per person, even if the earlier account was deleted.

    To recognise the person, a keyed hash of the normalised address is kept for a period; see
    `periods.KEEP_TRIAL_HASH_YEARS`.

    Raises:
        TrialRefusedError: this account or person had one, or the address is disposable.
        AccountClosedError: the account was deleted or is not active.
        StoreUnavailableError: nothing changed.
    """
    with store.write() as connection:
        account = connection.execute(
            select(Account.email, Account.status, Account.has_trial)
            .where(Account.id == account_id)
            .with_for_update(key_share=True)
        ).first()
        if account is None or account.status != AccountStatus.ACTIVE:
            raise AccountClosedError("This account is not active.")
        if account.has_trial:
            raise TrialRefusedError("This account has already used its trial.")
        if fields.is_throwaway(account.email):
            raise TrialRefusedError("The trial isn't available for disposable e-mail addresses.")
        person_hash, *earlier = (
            store.keyed_hash("trial person", key) for key in fields.person_keys(account.email)
        )
        store.lock(connection, person_hash)
        if connection.execute(
            select(TrialPerson).where(TrialPerson.person_hash.in_([person_hash, *earlier]))
        ).first():
            raise TrialRefusedError("You have already used your trial with this e-mail address.")
        connection.execute(insert(TrialPerson).values(person_hash=person_hash, started_at=now))
        ends_at = plans.trial_end(now)
        trial_id = connection.execute(
            insert(Trial)
            .values(account_id=account_id, starts_at=now, ends_at=ends_at)
            .returning(Trial.id)
        ).scalar_one()
        connection.execute(update(Account).where(Account.id == account_id).values(has_trial=True))
    return PlanPeriod(PlanKind.TRIAL, now, ends_at, trial_id)


def prune_trial_hashes(store: Store, *, now: datetime) -> None:
    """Delete the hashes of trials that started long ago."""
    with store.write() as connection:
        connection.execute(
            delete(TrialPerson).where(TrialPerson.started_at < trial_hashes_kept_since(now))
        )


def prune_pending(store: Store, *, now: datetime) -> None:
    """Delete sign-ups whose link has expired, accounts never activated, and old sign-up counts."""
    with store.write() as connection:
        connection.execute(delete(PendingSignUp).where(PendingSignUp.expires_at <= now))
        connection.execute(
            delete(Account).where(
                Account.status == AccountStatus.PENDING, Account.created_at < now - KEEP_INACTIVE
            )
        )
        connection.execute(
            delete(SignUpRow).where(SignUpRow.signed_up_at < now - KEEP_SIGN_UP_COUNTS)
        )


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
                SignUpRow.signed_up_at > now - KEEP_SIGN_UP_COUNTS,
            )
        ).scalar_one()
        if count >= SIGN_UPS_PER_BLOCK:
            raise SignUpLimitError("Too many sign-ups from your network today. Try again tomorrow.")
        return connection.execute(
            insert(SignUpRow)
            .values(block_hash=block_hash, signed_up_at=now)
            .returning(SignUpRow.id)
        ).scalar_one()


def _uncount_sign_up(store: Store, counted: int) -> None:
    with store.write() as connection:
        connection.execute(delete(SignUpRow).where(SignUpRow.id == counted))


def _keep_newest(connection: Connection, email_key: str) -> None:
    """Delete the oldest of too many pending sign-ups of one address."""
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
        raise FieldError("password", f"Too many attempts. Try again in {wait_s} s.")


def _no_sign_up() -> LinkError:
    return LinkError("This link is invalid, expired or already used. Log in, or sign up again.")


def _make_account(
    store: Store, connection: Connection, secret_hash: str, now: datetime
) -> Identity:
    """Turn one sign-up into an active account, and delete the others of its address.

    Raises:
        LinkError: it was used or replaced in the meantime, or the address already has an account.
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
        raise LinkError("This e-mail address already has an account. Log in instead.") from error
    for consent in signed_up.consents:
        connection.execute(
            insert(Consent).values(
                account_id=account_id, decided_at=signed_up.signed_up_at, **consent
            )
        )
    _activate(connection, account_id, now)
    return Identity(account_id, signed_up.email)


def _check_username_is_free(connection: Connection, username: str) -> None:
    """Refuse a user name that an account has, whether or not the address has an account too.

    Otherwise a taken name would reveal whether the address has an account. Pending sign-ups don't
    reserve a name.

    Raises:
        FieldError: the user name is taken.
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
        FieldError: the address or user name is taken.
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
        raise FieldError(
            "email", "This e-mail address or user name already has an account."
        ) from error


def _activate(connection: Connection, account_id: int, now: datetime) -> None:
    connection.execute(
        update(Account)
        .where(Account.id == account_id, Account.status == AccountStatus.PENDING)
        .values(status=AccountStatus.ACTIVE, activated_at=now)
    )
