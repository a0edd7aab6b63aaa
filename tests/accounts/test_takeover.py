"""Sign-ups, links, resets, log-ins and keys of an owner and an attacker, in every order.

Both know the e-mail address; the owner alone reads its letters. The attacker has every password
that the attacker typed. A story passes where at its end nothing of the attacker's opens the
account, and what the owner did last still does.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import timedelta

import pytest

from plateblur.accounts import api_keys, passwords, profiles, sessions, signup, throttle
from plateblur.accounts.gate import StoreGate
from plateblur.accounts.store import Store
from plateblur.accounts.types import (
    AccountClosedError,
    FieldError,
    Identity,
    LinkError,
    UnknownCredentialsError,
)
from tests.accounts.fakes import EMAIL, NOW, CountingHasher, TurnableClock, make_account

OWNERS, ATTACKERS, NEW = "the owner's password", "the attacker's password", "the owner's next one"
FROM_OWNER, FROM_ATTACKER = "203.0.113.7", "198.51.100.9"


class Story:
    """One account's mailbox, and what each of the two holds."""

    def __init__(self, store: Store, gate: StoreGate) -> None:
        self.store, self.gate, self.hasher, self.now = store, gate, CountingHasher(), NOW
        self.mailbox: dict[str, str] = {}
        self.keys: list[str] = []
        self.cookies: list[str] = []
        self.old_identity: Identity | None = None

    def tick(self) -> None:
        self.now += timedelta(seconds=1)

    def sign_up(self, password: str, address: str) -> str:
        """Sign up under the user name that both want; without it once it is taken."""

        def ask(username: str) -> str:
            letter = signup.sign_up(
                self.store, self.hasher, email=EMAIL, password=password, username=username,
                consents=[], address=address, activation_url="https://p/a", now=self.now,
            )  # fmt: skip
            return letter.link.partition("?token=")[2]

        try:
            return ask("ana")
        except FieldError:
            return ask("")

    def owner_signs_up(self) -> None:
        self.mailbox["owner's"] = self.sign_up(OWNERS, FROM_OWNER)

    def attacker_signs_up(self) -> None:
        self.mailbox["attacker's"] = self.sign_up(ATTACKERS, FROM_ATTACKER)

    def owner_opens(self, whose: str) -> None:
        """Open a letter and type the owner's own password."""
        with contextlib.suppress(LinkError, FieldError):
            signup.activate(
                self.store, self.hasher, self.mailbox[whose], password=OWNERS,
                address=FROM_OWNER, now=self.now,
            )  # fmt: skip

    def owner_opens_own(self) -> None:
        self.owner_opens("owner's")

    def owner_opens_attackers(self) -> None:
        self.owner_opens("attacker's")

    def attacker_tries(self) -> None:
        """Log in, make a key, and begin to move the account to another address."""
        try:
            identity = self.gate.authenticate(EMAIL, ATTACKERS, address=FROM_ATTACKER)
        except (UnknownCredentialsError, AccountClosedError):
            return
        self.old_identity = identity
        self.cookies.append(sessions.open_session(self.store, identity, now=self.now))
        made = api_keys.add_key(self.store, identity.account_id, label="", now=self.now)
        self.keys.append(made.key)
        letter = profiles.request_email_change(
            self.store, identity, email="attacker@evil.io", page_url="https://p/e", now=self.now
        )
        self.mailbox["attacker's own"] = letter.link.partition("?token=")[2]

    def attacker_learns_the_password(self) -> None:
        """The owner has an account, and its password leaked."""
        signup.create_account(
            self.store, self.hasher, email=EMAIL, password=ATTACKERS, now=self.now
        )

    def owner_resets(self, *, keep_keys: bool = False) -> None:
        letter = passwords.request_reset(
            self.store, email=EMAIL, page_url="https://p/r", now=self.now
        )
        if letter is not None:
            secret = letter.link.partition("?token=")[2]
            passwords.reset_password(
                self.store, self.hasher, secret, new=NEW, now=self.now, keep_keys=keep_keys
            )

    def attacker_holds(self) -> list[str]:
        """Return what of the attacker's opens the account."""
        opens: list[str] = []

        def works(name: str, ask: Callable[[], object]) -> None:
            try:
                if ask() is not None:
                    opens.append(name)
            except (UnknownCredentialsError, AccountClosedError, LinkError):
                pass

        gate, store = self.gate, self.store
        for name in (EMAIL, "ana"):
            works("password", lambda: gate.authenticate(name, ATTACKERS, address=FROM_ATTACKER))  # noqa: B023
        for key in self.keys:
            works("key", lambda: gate.authenticate_key(key, address=FROM_ATTACKER))  # noqa: B023
        for cookie in self.cookies:
            works("session", lambda: sessions.who_is(store, cookie, now=self.now))  # noqa: B023
        if secret := self.mailbox.get("attacker's own"):
            works("link", lambda: profiles.confirm_email_change(store, secret, now=self.now))
        if (identity := self.old_identity) is not None:  # for requests that were under way
            account_id, version = identity.account_id, identity.credentials_version

            def late_password() -> str:
                passwords.change_password(store, self.hasher, identity, new=ATTACKERS, now=self.now)
                return "changed"

            def late_session() -> object:
                cookie = sessions.open_session(store, identity, now=self.now)
                return sessions.who_is(store, cookie, now=self.now)

            def late_key() -> object:
                return api_keys.add_key(
                    store, account_id, label="", now=self.now, credentials_version=version
                )

            def late_address() -> object:
                return profiles.request_email_change(
                    store, identity, email="a@evil.io", page_url="", now=self.now
                )

            for late in (late_password, late_session, late_key, late_address):
                works(late.__name__, late)
        return opens


O_UP, A_UP = Story.owner_signs_up, Story.attacker_signs_up
O_OWN, O_OTHER = Story.owner_opens_own, Story.owner_opens_attackers
A_TRY, RESET, LEAK = Story.attacker_tries, Story.owner_resets, Story.attacker_learns_the_password
STORIES = {
    "attacker first, owner opens the own letter": ([A_UP, O_UP, O_OWN, A_TRY], OWNERS),
    "attacker second, owner opens the own letter": ([O_UP, A_UP, O_OWN, A_TRY], OWNERS),
    "attacker second, owner opens the wrong letter": ([O_UP, A_UP, O_OTHER, A_TRY], None),
    "owner opens both, the wrong one first": ([O_UP, A_UP, O_OTHER, O_OWN, A_TRY], OWNERS),
    "owner opens both, the own one first": ([O_UP, A_UP, O_OWN, O_OTHER, A_TRY], OWNERS),
    "attacker between and after": ([A_UP, O_UP, A_UP, A_UP, O_OWN, A_TRY], OWNERS),
    "attacker alone, who never signed up opens": ([A_UP, O_OTHER, A_TRY], None),
    "attacker signs up for an account": ([O_UP, O_OWN, A_UP, A_TRY], OWNERS),
    "attacker tries before the owner opens": ([O_UP, A_UP, A_TRY, O_OWN, A_TRY], OWNERS),
    "reset before anything is active": ([O_UP, A_UP, RESET, O_OWN, A_TRY], OWNERS),
    "a leaked password, then a reset": ([LEAK, A_TRY, RESET, A_TRY], NEW),
    "a leaked password, two resets": ([LEAK, A_TRY, RESET, RESET, A_TRY], NEW),
    "a leaked password, sign-ups around a reset": ([LEAK, A_UP, A_TRY, RESET, A_UP, A_TRY], NEW),
}


@pytest.mark.parametrize("name", STORIES)
def test_nothing_of_the_attackers_opens_the_owners_account(
    store: Store, gate: StoreGate, name: str
) -> None:
    acts, owners = STORIES[name]
    story = Story(store, gate)
    for act in acts:
        act(story)
        story.tick()
    assert story.attacker_holds() == []
    if owners is None:
        assert profiles.list_profiles(store) == []
        # The owner loses nothing by it: a sign-up of the owner's own still works.
        story.owner_signs_up()
        story.owner_opens_own()
        owners = OWNERS
    assert gate.authenticate(EMAIL, owners, address=FROM_OWNER).email == EMAIL


def test_the_stories_would_see_an_attacker_who_got_in(store: Store, gate: StoreGate) -> None:
    story = Story(store, gate)
    story.attacker_learns_the_password()
    story.attacker_tries()
    assert set(story.attacker_holds()) >= {"password", "key", "session", "link"}


def test_a_reset_keeps_the_keys_where_their_owner_says_so(store: Store, gate: StoreGate) -> None:
    account_id = make_account(store).account_id
    key = api_keys.add_key(store, account_id, label="", now=NOW).key
    story = Story(store, gate)
    story.owner_resets(keep_keys=True)
    assert gate.authenticate_key(key, address=FROM_OWNER).account_id == account_id
    story.owner_resets()
    with pytest.raises(UnknownCredentialsError):
        gate.authenticate_key(key, address=FROM_OWNER)


def test_a_link_of_before_the_address_was_changed_opens_nothing(store: Store) -> None:
    identity = make_account(store)
    old = passwords.request_reset(store, email=EMAIL, page_url="https://p/r", now=NOW)
    letter = profiles.request_email_change(
        store, identity, email="new@plates.io", page_url="https://p/e", now=NOW
    )
    profiles.confirm_email_change(store, letter.link.partition("?token=")[2], now=NOW)
    assert old is not None
    with pytest.raises(LinkError):
        passwords.reset_password(
            store, CountingHasher(), old.link.partition("?token=")[2], new=NEW, now=NOW
        )


def test_wrong_passwords_at_a_link_are_slowed(store: Store, gate: StoreGate) -> None:
    story = Story(store, gate)
    story.attacker_signs_up()
    for _ in range(5):
        story.owner_opens_attackers()
    checked = story.hasher.verifications
    with pytest.raises(FieldError, match="Too many attempts"):
        signup.activate(
            store, story.hasher, story.mailbox["attacker's"], password=OWNERS,
            address=FROM_OWNER, now=NOW,
        )  # fmt: skip
    assert story.hasher.verifications == checked


@pytest.mark.parametrize("name", [EMAIL, "ana"])
def test_who_signs_up_with_anothers_address_does_not_learn_whether_it_has_an_account(
    store: Store, gate: StoreGate, hasher: CountingHasher, clock: TurnableClock, name: str
) -> None:
    def ask(password: str) -> tuple[str, int]:
        before = hasher.verifications
        try:
            gate.authenticate(name, password, address=FROM_ATTACKER)
        except (UnknownCredentialsError, AccountClosedError) as error:
            return f"{error.cd} {error}", hasher.verifications - before
        return "in", 0

    def look() -> list[tuple[str, int]]:
        clock.turn(hours=2)
        return [ask(password) for password in (ATTACKERS, "wrong " * 3, ATTACKERS, ATTACKERS)]

    story = Story(store, gate)
    story.attacker_signs_up()
    without = look()
    make_account(store)
    assert look() == without
    assert without[0] == ("1016 Not activated yet.", 2)


def test_the_password_of_an_own_sign_up_forgives_no_guesses_at_the_account(
    store: Store, gate: StoreGate
) -> None:
    make_account(store)
    story = Story(store, gate)
    story.attacker_signs_up()
    for number in range(throttle.FREE_PER_PAIR):
        with pytest.raises((UnknownCredentialsError, AccountClosedError)):
            gate.authenticate(
                EMAIL, ATTACKERS if number % 2 else f"guess {number}", address=FROM_ATTACKER
            )
    with pytest.raises(UnknownCredentialsError) as caught:
        gate.authenticate(EMAIL, "one more", address=FROM_ATTACKER)
    assert caught.value.retry_after_s
