"""Results of a job in one ZIP, packed while it is sent, so that one of them is in memory at a time.

The results are stored, not compressed, because photos and clips are. Each entry has its size and
checksum before its bytes, so that a program can unpack the ZIP while it arrives.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import AsyncIterator, Callable, Sequence

from anyio import to_thread

from plateblur.accounts.job_types import ResultView
from plateblur.formats import FORMATS
from plateblur.web.job_schemas import CLIP_TYPE
from plateblur.web.schemas import MEDIA_TYPES
from plateblur.web.service import WatchedAnswer, Written, cut

ZIP_TYPE = "application/zip"
COPIES = 2  # of the longest result: as the store has it, and in the ZIP
SUFFIXES = {media_type: FORMATS[name].suffixes[0] for name, media_type in MEDIA_TYPES.items()} | {
    CLIP_TYPE: ".mp4"
}


class PackedAnswer(WatchedAnswer):
    """A ZIP of results; see `WatchedAnswer`."""

    def __init__(
        self,
        found: Sequence[ResultView],
        read: Callable[[int], bytes],
        *,
        on_sent: Callable[[], None],
        on_lost: Callable[[], None],
    ) -> None:
        """Take the results.

        Args:
            found: the results, at least one.
            read: returns the one with a number; called in a thread. What it raises breaks the
                answer off, so that nobody takes a part for the whole.
            on_sent: is called, in a thread, when all was sent.
            on_lost: is called, in a thread, when it was not.
        """
        name = 'attachment; filename="results.zip"'
        empty = Written(b"", ZIP_TYPE, {"Content-Disposition": name})
        super().__init__(empty, on_sent=on_sent, on_lost=on_lost)
        del self.headers["content-length"]
        self._found = found
        self._read = read

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the ZIP."""
        window = _Window()
        packed = zipfile.ZipFile(window, "w", zipfile.ZIP_STORED)

        def pack(one: ResultView) -> bytes:
            name = f"{one.number}{SUFFIXES.get(one.media_type, '')}"
            packed.writestr(zipfile.ZipInfo(name), self._read(one.number))
            return window.take()

        for one in self._found:
            for piece in cut(await to_thread.run_sync(pack, one)):
                yield piece
        packed.close()
        for piece in cut(window.take()):
            yield piece


class _Window(io.BytesIO):
    """The end of a file whose beginning was taken; positions are those of the whole file."""

    def __init__(self) -> None:
        super().__init__()
        self._taken = 0

    def tell(self) -> int:
        return self._taken + super().tell()

    def seek(self, position: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_SET:
            position -= self._taken
        return self._taken + super().seek(position, whence)

    def take(self) -> bytes:
        """Return what is there, and go on behind it."""
        data = self.getvalue()
        self._taken += len(data)
        super().seek(0)
        self.truncate(0)
        return data
