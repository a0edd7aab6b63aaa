"""Passwords, API keys, random secrets, and the memory of what was verified. No store."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import re
import secrets
import threading
import unicodedata
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from plateblur.accounts.work import WorkQueue

# Source: OWASP Password Storage Cheat Sheet, argon2id with m=19456 (19 MiB), t=2, p=1; salt and
# hash lengths from RFC 9106, section 4. RFC 9106's own 64 MiB would let a few parallel
# guesses fill the memory of a small server.
TIME_COST = 2
MEMORY_KIB = 19_456
PARALLELISM = 1

# Source: ours. They run in their own threads, because the C library keeps a hash's memory for the
# thread that used it: in the 40 threads that all requests share, four parallel hashes ended up
# holding 760 MB. A waiting request blocks one of those 40, so that more than half stay free.
HASHES_AT_ONCE = 4
HASHES_WAITING = 14

MAX_SECRET_CHARS = 1024  # Source: ours; longer than any password or key that we accept.
CACHE_FOR = timedelta(minutes=5)  # Source: ours; bounds the life of a verified secret in memory.
CACHE_ENTRIES = 4096  # Source: ours; about 0.5 MB.

_API_KEY = re.compile(r"pb_([a-z2-7]{12})_[A-Za-z0-9_-]{43}")


QUEUE = WorkQueue(at_once=HASHES_AT_ONCE, waiting=HASHES_WAITING)
"""One per process; every `Hasher` uses it unless it is given another."""


class Verdict(Enum):
    """What argon2 says of a secret."""

    WRONG = "wrong"
    RIGHT = "right"
    RIGHT_AS_TYPED = "right, but hashed before passwords were normalised"


class Hasher:
    """argon2id with its parameters; every hash waits in a bounded queue.

    Passwords are hashed in NFC, so that it doesn't matter how a keyboard composes letters. Source:
    NIST SP 800-63B-4, 3.1.1.2, "normalize before hashing".
    """

    def __init__(
        self,
        *,
        time_cost: int = TIME_COST,
        memory_kib: int = MEMORY_KIB,
        parallelism: int = PARALLELISM,
        queue: WorkQueue = QUEUE,
    ) -> None:
        """Set the cost; tests take a cheap one.

        Args:
            time_cost: passes.
            memory_kib: memory of one hash.
            parallelism: lanes of one hash.
            queue: where hashes wait.
        """
        self._argon2 = PasswordHasher(time_cost, memory_kib, parallelism)
        self._queue = queue
        self._dummy = self.hash(random_secret())

    def turn(self) -> contextlib.AbstractContextManager[None]:
        """Hold one of the queue's turns, to look again at what may have changed meanwhile.

        Raises:
            BusyError: on entering.
        """
        return self._queue.turn()

    def hash(self, secret: str) -> str:
        """Return the hash with its parameters and salt, as argon2 writes it.

        Raises:
            BusyError: no place in the queue.
        """
        return self._queue.run(lambda: self._argon2.hash(_bytes(secret)))

    def judge(self, password_hash: str | None, secret: str) -> Verdict:
        """Return whether the secret made the hash; without a hash it is wrong at the same cost.

        Raises:
            BusyError: no place in the queue; nothing was checked.
        """
        typed = secret[:MAX_SECRET_CHARS].encode("utf-8", "surrogatepass")
        spellings = {_bytes(secret): Verdict.RIGHT}
        spellings.setdefault(typed, Verdict.RIGHT_AS_TYPED)

        def look() -> Verdict:
            for spelling, verdict in spellings.items():
                with contextlib.suppress(Argon2Error, InvalidHashError):
                    self._argon2.verify(password_hash or self._dummy, spelling)
                    return verdict if password_hash is not None else Verdict.WRONG
            return Verdict.WRONG

        return self._queue.run(look)

    def verify(self, password_hash: str | None, secret: str) -> bool:
        """Return whether the secret made the hash; as `judge`."""
        return self.judge(password_hash, secret) is not Verdict.WRONG

    def is_outdated(self, password_hash: str) -> bool:
        """Return whether the hash was made with other parameters than today's."""
        return self._argon2.check_needs_rehash(password_hash)


class VerifiedCache:
    """Remembers for a short time which passwords argon2 verified, in this process only.

    argon2 on every request would cost more than the photo. An entry can't be turned back into the
    password: it is an HMAC-SHA256 of account, `credentials_version` and password, with a random key
    that stays in this process. The version is read from the store on each request, and changing the
    password or locking the account raises it, so that old entries are never found again in any
    worker. Wrong passwords and API keys are not remembered.
    """

    def __init__(
        self, *, keep_for: timedelta = CACHE_FOR, max_entries: int = CACHE_ENTRIES
    ) -> None:
        """Start empty, with a new key."""
        self._key = secrets.token_bytes(32)
        self._keep_for = keep_for
        self._max_entries = max_entries
        self._until: OrderedDict[bytes, datetime] = OrderedDict()
        self._lock = threading.Lock()

    def knows(self, subject: str, secret: str, *, now: datetime) -> bool:
        """Return whether this secret was found right for the subject a short time ago."""
        entry = self._entry(subject, secret)
        with self._lock:
            until = self._until.get(entry)
            if until is not None and until <= now:
                del self._until[entry]
            return until is not None and now < until

    def remember(self, subject: str, secret: str, *, now: datetime) -> None:
        """Keep that this secret is right for the subject; the oldest entry makes room."""
        entry = self._entry(subject, secret)
        with self._lock:
            self._until[entry] = now + self._keep_for
            self._until.move_to_end(entry)
            while len(self._until) > self._max_entries:
                self._until.popitem(last=False)

    def __len__(self) -> int:
        """Return how many entries are held."""
        return len(self._until)

    def _entry(self, subject: str, secret: str) -> bytes:
        # A subject is made of numbers and fixed words, so NUL parts the two without doubt.
        return hmac.digest(self._key, subject.encode() + b"\0" + _bytes(secret), "sha256")


@dataclass(frozen=True, slots=True, repr=False)
class NewApiKey:
    """A key just made: shown once, never stored.

    Attributes:
        api_key_id: the store's row.
        key: what the client sends.
    """

    api_key_id: int
    key: str


def new_api_key() -> tuple[str, str]:
    """Return the look-up prefix and the whole of a new key, 256 random bits beside the prefix."""
    alphabet = "abcdefghijklmnopqrstuvwxyz234567"
    prefix = "".join(secrets.choice(alphabet) for _ in range(12))
    return prefix, f"pb_{prefix}_{secrets.token_urlsafe(32)}"


def api_key_prefix(secret: str) -> str | None:
    """Return the look-up prefix where the secret has a key's form."""
    match = _API_KEY.fullmatch(secret)
    return match[1] if match else None


def random_secret() -> str:
    """Return 256 random bits for a link or a cookie."""
    return secrets.token_urlsafe(32)


def fast_hash(secret: str) -> str:
    """Return the SHA-256 of a `random_secret`; 256 random bits need no slow hash."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _bytes(secret: str) -> bytes:
    normal = unicodedata.normalize("NFC", secret[:MAX_SECRET_CHARS])
    return normal.encode("utf-8", "surrogatepass")
