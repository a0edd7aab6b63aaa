"""The only folder that a demo process writes to, and removing those of dead processes."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
import time
from pathlib import Path

PREFIX = "plateblur-demo-"
LOCK = "lock"
STARTING_S = 60  # a folder without a lock may just be being created


class DemoFolder(tempfile.TemporaryDirectory[str]):
    """A folder only its owner can read; removed with the process, or by the next one.

    A running process holds a lock on a file in its folder. The kernel releases it however the
    process ends. A process id would not do, because it is always the same in a container.
    """

    def __init__(self) -> None:
        """Remove what dead processes left behind, and make a folder.

        Raises:
            OSError: it can't be made.
        """
        remove_leftovers(Path(tempfile.gettempdir()))
        super().__init__(prefix=PREFIX, ignore_cleanup_errors=True)
        self._lock = os.open(Path(self.name, LOCK), os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def cleanup(self) -> None:
        """Remove the folder, and give up the lock."""
        super().cleanup()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def remove_leftovers(parent: Path) -> list[Path]:
    """Remove the folders of dead processes, and return them.

    Args:
        parent: where the folders are; folders of other users are ignored.
    """
    removed = []
    for folder in parent.glob(f"{PREFIX}*"):
        try:
            status = folder.lstat()
            if stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and _is_left(folder):
                shutil.rmtree(folder, ignore_errors=True)
                removed.append(folder)
        except FileNotFoundError:  # another process was quicker
            continue
    return removed


def _is_left(folder: Path) -> bool:
    try:
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return time.time() - folder.lstat().st_mtime > STARTING_S
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(lock)
    return True
