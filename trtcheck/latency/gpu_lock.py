"""One measurement at a time: a lock for every GPU, and one for the processor of a machine."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_ASK_AGAIN = 0.25
"""Seconds between two attempts: whoever waits must not disturb whoever times."""


@contextmanager
def timing_lock(uuid: str | None, wait: Callable[[str], None] | None = None) -> Iterator[None]:
    """Times alone: other processes that want to time on the same device wait, those of other users, too.

    The locks lie in the system's temporary folder and belong to processes that run: one that was killed holds
    none. Their files stay, since deleting one that another process waits for would let two in. A container
    that has a temporary folder of its own sees no others. Where the file cannot be used (another user made it
    unreadable) the measurement goes on without the lock, and says so: the state of the device shows whether
    somebody else computes there.

    Args:
        uuid: The GPU; None for the processor.
        wait: Told once, in a sentence, that another process has to be waited for, or why there is no lock.
    """
    from filelock import FileLock, Timeout

    told = wait or (lambda _: None)
    device = "the processor" if uuid is None else f"the GPU {uuid}"
    path = _place(uuid)
    # Readable and writable for all, whatever the umask: another user's process locks the same file.
    lock = FileLock(path, mode=0o666)
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            told(f"another process times on {device}: waiting for it to end ({path})")
            lock.acquire(poll_interval=_ASK_AGAIN)
    except (OSError, NotImplementedError) as error:  # the latter: a file system without locks
        told(f"{device} is timed without keeping others from timing there, too: {error}")
    try:
        yield
    finally:
        lock.release()  # nothing where it is not held


def _place(uuid: str | None) -> Path:
    """The lock's file."""
    name = "processor" if uuid is None else re.sub(r"[^A-Za-z0-9-]+", "-", uuid)
    return Path(tempfile.gettempdir()) / f"trtcheck-timing-{name}.lock"
