"""What a request brought: in memory, and beyond a few megabytes sealed on the disk.

A large upload may take minutes to arrive and then wait for its turn. Meanwhile it must not fill the
memory, and no photo may be readable on a disk. So each piece beyond `IN_MEMORY_BYTES` is encrypted
with AES-GCM, under a random key that only this process's memory holds, and written to a file that
has no name. The file's space is free again as soon as the request or its process has ended, however
it ended. What is left in the disk's blocks can't be read, because the key is gone.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import BinaryIO, Self, cast

from anyio import to_thread
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from plateblur.web.failures import busy
from plateblur.web.room import Holder, Slots

IN_MEMORY_BYTES = 5 * 1024**2  # The longest documented request, which is never on a disk.
PIECE_BYTES = 1024**2
TAG_BYTES = 16  # Source: AES-GCM, which adds as much to each piece.


class Spool:
    """The bytes of one request, written once from the front and read as often as needed.

    Not safe to use from several threads at once.

    Attributes:
        size: bytes written.
    """

    def __init__(
        self, folder: Path, disk: Slots, *, most_bytes: int, holder: Holder, retry_s: int
    ) -> None:
        """Begin empty and in memory.

        Args:
            folder: where the file is made if one is needed.
            disk: counts the bytes on it.
            most_bytes: as many are counted once a file is needed, since the end isn't known.
            holder: whose bytes they are.
            retry_s: seconds after which to try again, sent where there is no room.
        """
        self.size = 0
        self._folder = folder
        self._disk = disk
        self._most_bytes = most_bytes
        self._holder = holder
        self._retry_s = retry_s
        self._memory = bytearray()
        self._sealed: BinaryIO | None = None
        self._cipher: AESGCM | None = None
        self._count = 0
        self._held = ExitStack()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Forget everything."""
        self.clear()

    async def write(self, chunk: bytes) -> None:
        """Add `chunk`.

        Raises:
            Failure: busy, because the disk has no room.
        """
        self._memory += chunk
        self.size += len(chunk)
        if self._sealed is None and self.size <= IN_MEMORY_BYTES:
            return
        while len(self._memory) >= PIECE_BYTES:
            await to_thread.run_sync(self._seal_piece)

    def pieces(self) -> Iterator[bytes]:
        """Yield everything, from the front, in pieces.

        Raises:
            OSError: the disk failed.
        """
        if self._sealed is not None and self._cipher is not None:
            self._sealed.seek(0)
            for number in range(self._count):
                sealed = self._sealed.read(PIECE_BYTES + TAG_BYTES)
                yield self._cipher.decrypt(_nonce(number), sealed, None)
        for at in range(0, len(self._memory), PIECE_BYTES):
            with memoryview(self._memory) as view:
                piece = bytes(view[at : at + PIECE_BYTES])  # a slice without it is a copy more
            yield piece

    def read(self) -> bytes:
        """Return everything."""
        return bytes(self._memory) if self._sealed is None else b"".join(self.pieces())

    def clear(self) -> None:
        """Forget everything, and give the room back."""
        self._held.close()
        self._sealed = self._cipher = None
        self._memory = bytearray()
        self._count = self.size = 0

    def _seal_piece(self) -> None:
        try:
            if self._sealed is None or self._cipher is None:
                self._open()
            sealed, cipher = cast("BinaryIO", self._sealed), cast("AESGCM", self._cipher)
            piece = bytes(self._memory[:PIECE_BYTES])
            sealed.write(cipher.encrypt(_nonce(self._count), piece, None))
        except OSError as error:
            raise busy(self._retry_s) from error
        del self._memory[:PIECE_BYTES]
        self._count += 1

    def _open(self) -> None:
        room = self._disk.take(retry_s=self._retry_s, holder=self._holder, size=self._most_bytes)
        self._held.enter_context(room)
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = TemporaryFile(dir=self._folder, buffering=0)  # noqa: SIM115 - `clear` closes it
        self._sealed = cast("BinaryIO", self._held.enter_context(file))
        self._cipher = AESGCM(secrets.token_bytes(32))


def _nonce(number: int) -> bytes:
    """Return the nonce of a piece; its number alone, because each spool has a key of its own."""
    return number.to_bytes(12)
