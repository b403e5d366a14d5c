"""The folder of a session's results: it goes with the session or, where that was killed, with a later one.

Its owner holds a lock in it as long as it lives; the system lets go of that whatever ends the process. So a
folder whose lock nobody holds is one that nobody uses.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path

PREFIX = "trtcheck-"
OWNER = "owner.lock"
"""The file that the owner of a folder holds the lock of."""
_BEGINS = 60.0
"""Seconds in which an owner may come to hold the lock that it made the file of."""


class SessionFolder:
    """A folder that no other session has, in the system's temporary folder.

    What killed sessions of this user left there is removed first.
    """

    def __init__(self) -> None:
        from filelock import FileLock

        remove_abandoned(Path(tempfile.gettempdir()))
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX))
        self._lock = FileLock(self.path / OWNER)
        self._lock.acquire()

    @property
    def used(self) -> bool:
        """Whether the session left anything in it."""
        return any(path.name != OWNER for path in self.path.iterdir())

    def close(self) -> None:
        """Removes the folder."""
        self._lock.release()
        shutil.rmtree(self.path, ignore_errors=True)


def remove_abandoned(parent: Path) -> None:
    """Removes the folders of killed sessions in *parent*.

    Of those that are named like one and belong to this user, one is taken for it where its lock is there, is
    a minute old and held by nobody; anything else stays.
    """
    from filelock import FileLock, Timeout

    for folder in parent.glob(f"{PREFIX}*"):
        lock = folder / OWNER
        try:
            if folder.is_symlink() or not lock.is_file() or not _is_ours(folder):
                continue
            if time.time() - lock.stat().st_ctime < _BEGINS:
                continue
            with FileLock(lock, timeout=0):
                pass
        except (Timeout, OSError):  # it works, or another session removes it now
            continue
        shutil.rmtree(folder, ignore_errors=True)


def _is_ours(folder: Path) -> bool:
    """Whether *folder* belongs to the user of this process; where the system tells no owners, it does."""
    return not hasattr(os, "getuid") or folder.stat().st_uid == os.getuid()
