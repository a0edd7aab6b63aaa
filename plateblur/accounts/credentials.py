"""Passwords, API keys, random secrets, and the memory of what was verified. No store."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

# Source: OWASP Password Storage Cheat Sheet, argon2id with m=19456 (19 MiB), t=2, p=1; salt and
# hash lengths from RFC 9106, section 4. RFC 9106's own 64 MiB would let a few strangers who guess
# at once fill a small server's memory.
TIME_COST = 2
MEMORY_KIB = 19_456
PARALLELISM = 1

MAX_SECRET_BYTES = 1024  # Source: ours; no password or key that we took is as long.
CACHE_FOR = timedelta(minutes=5)  # Source: ours; bounds the life of a verified secret in memory.
CACHE_ENTRIES = 4096  # Source: ours; some 0.5 MB.

_API_KEY = re.compile(r"pb_([a-z2-7]{12})_[A-Za-z0-9_-]{43}")


class Hasher:
    """argon2id with its cost; at most a few at once, because each holds its memory."""

    def __init__(
        self,
        *,
        time_cost: int = TIME_COST,
        memory_kib: int = MEMORY_KIB,
        parallelism: int = PARALLELISM,
        max_parallel: int = 4,
    ) -> None:
        """Set the cost; tests take a cheap one.

        Args:
            time_cost: passes.
            memory_kib: memory of one hash.
            parallelism: lanes of one hash.
            max_parallel: hashes computed at once in this process.
        """
        self._argon2 = PasswordHasher(time_cost, memory_kib, parallelism)
        self.turn = threading.BoundedSemaphore(max_parallel)
        self._dummy = self._argon2.hash(secrets.token_bytes(32))

    def hash(self, secret: str) -> str:
        """Return the hash with its parameters and salt, as argon2 writes it."""
        return self._argon2.hash(_bytes(secret))

    def verify(self, password_hash: str | None, secret: str) -> bool:
        """Return whether the secret made the hash; without a hash, False at the same cost."""
        try:
            self._argon2.verify(password_hash or self._dummy, _bytes(secret))
        except (Argon2Error, InvalidHashError):
            return False
        return password_hash is not None

    def is_outdated(self, password_hash: str) -> bool:
        """Return whether the hash was made at another cost than today's."""
        return self._argon2.check_needs_rehash(password_hash)


class VerifiedCache:
    """Remembers for a short time which secrets argon2 found right, in this process only.

    argon2 on every request would cost more than the photo. An entry is no secret and can't be
    turned back into one: it is HMAC-SHA256, under a random key that never leaves this process, of
    account, `credentials_version` and secret. The version is read from the store on each request,
    and a changed password, a revoked key or a lock raises it, so that in every worker the old
    entries are never found again. Wrong secrets are not remembered.
    """

    def __init__(
        self, *, keep_for: timedelta = CACHE_FOR, max_entries: int = CACHE_ENTRIES
    ) -> None:
        """Start empty, under a new key."""
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
    return secret.encode("utf-8", "surrogatepass")[:MAX_SECRET_BYTES]
