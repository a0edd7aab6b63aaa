"""Encryption of what waits in the store, with a key for each job.

AES-256-GCM of the library `cryptography`. A job's key is random and kept wrapped: encrypted with a
key that is derived from the store's secret. So the database alone tells nothing, and once the row
with the wrapped key is deleted, what it encrypted can't be read by anyone.
"""

from __future__ import annotations

import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from plateblur.errors import PlateblurError

KEY_BYTES = 32
NONCE_BYTES = 12  # Source: NIST SP 800-38D, the length for which AES-GCM is made.


class SealError(PlateblurError):
    """What is in the store was written with another secret, or was changed."""


class Seal:
    """Encrypts with one key; what is sealed for one purpose can't be opened for another."""

    def __init__(self, key: bytes) -> None:
        """Take a key of `KEY_BYTES`."""
        self._key = key
        self._cipher = AESGCM(key)

    @classmethod
    def new(cls) -> Seal:
        """Return one with a new random key."""
        return cls(secrets.token_bytes(KEY_BYTES))

    @classmethod
    def unwrap(cls, wrapped: bytes, *, by: Seal, purpose: str) -> Seal:
        """Return the one that `wrap` wrapped.

        Raises:
            SealError: by another, for another purpose, or changed.
        """
        return cls(by.open(wrapped, purpose=purpose))

    def wrap(self, *, by: Seal, purpose: str) -> bytes:
        """Return its key, sealed by another."""
        return by.close(self._key, purpose=purpose)

    def close(self, data: bytes, *, purpose: str) -> bytes:
        """Return `data` encrypted."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, data, purpose.encode())

    def open(self, sealed: bytes, *, purpose: str) -> bytes:
        """Return what was closed for this purpose.

        Raises:
            SealError: with another key, for another purpose, or changed.
        """
        try:
            view = memoryview(sealed)  # a photo is copied often enough
            return self._cipher.decrypt(view[:NONCE_BYTES], view[NONCE_BYTES:], purpose.encode())
        except InvalidTag as error:
            raise SealError("expected data sealed with this key, got something else") from error
