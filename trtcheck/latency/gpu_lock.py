"""Who computes on a device, and who times there: a lock for every GPU, and one for a machine's processor."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

Tell = Callable[[str], None]
"""Told once, in a sentence, that another process has to be waited for."""


@contextmanager
def timing_lock(uuid: str | None, wait: Tell | None = None) -> Iterator[str | None]:
    """Times alone: no other process computes on the device by `using`, and none times there.

    The locks lie in the system's temporary folder and belong to processes that run, those of other users,
    too: one that was killed holds none. Their files stay, since deleting one that another process waits for
    would let two in. A container that has a temporary folder of its own sees no others. Where the file cannot
    be used (another user made it unreadable) the measurement goes on without the lock, and says so: the state
    of the device shows whether somebody else computes there.

    Whoever holds it must neither wait for a lock under which others compute (see `using`), nor enter that.

    Args:
        uuid: The GPU; None for the processor.
        wait: See `Tell`.

    Yields:
        None, or in a sentence why others are not kept from the device.
    """
    with _held(uuid, shared=False, tell=wait) as missing:
        device = _words(uuid)
        yield missing and f"{device} is timed without keeping others from computing there: {missing}"


@contextmanager
def using(uuid: str | None, wait: Tell | None = None) -> Iterator[None]:
    """Computes on a device beside others who do, and while nobody times there.

    A timing that waits comes before whoever begins to compute later, or it would wait for as long as the
    workers of a session always have something to do. Therefore whoever computes must end without the others:
    inside of this, nothing may wait for a lock whose holder computes (that of an engine that is built, of a
    result that is made), for a process that computes, or enter this again.

    Where there is no such lock (Windows has none that is shared, or the file cannot be used) it goes on at
    once: then timings alone exclude each other, or nothing does, which the timing tells.

    Args:
        uuid: The GPU; None for the processor.
        wait: See `Tell`.
    """
    with _held(uuid, shared=True, tell=wait):
        yield


@contextmanager
def _held(uuid: str | None, *, shared: bool, tell: Tell | None) -> Iterator[str | None]:
    """The device's lock; what is yielded is why there is none."""
    told: list[str] = []

    def waits() -> None:
        if not told and tell is not None:
            tell(f"another process works on {_words(uuid)}: waiting for it to end ({_place(uuid)})")
        told.append("once")

    missing = None
    with ExitStack() as stack:
        try:
            _take(stack, _place(uuid), shared, waits)
        except (OSError, NotImplementedError) as error:  # the latter: a file system without locks
            missing = str(error)
        yield missing


if sys.platform == "win32":
    _ASK_AGAIN = 0.25
    """Seconds between two attempts: whoever waits must not disturb whoever times."""

    def _take(stack: ExitStack, path: Path, shared: bool, waits: Callable[[], None]) -> None:
        from filelock import FileLock, Timeout

        if shared:
            return
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            waits()
            lock.acquire(poll_interval=_ASK_AGAIN)
        stack.callback(lock.release)

else:
    import fcntl

    _PASSING = 0.02
    """Seconds after which whoever was only passing the gate is gone."""

    def _take(stack: ExitStack, path: Path, shared: bool, waits: Callable[[], None]) -> None:
        """Locks the file at *path* until *stack* ends.

        All pass a gate one by one, and whoever waits for the lock itself waits in the gate: those who come
        later stay behind it, so that a timing does not wait for ever for the last who computes.

        Raises:
            OSError: A file cannot be opened or locked.
        """
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        with ExitStack() as passing:
            _lock(passing, path.with_suffix(".gate"), fcntl.LOCK_EX, waits)
            _lock(stack, path, kind, waits)

    def _lock(stack: ExitStack, path: Path, kind: int, waits: Callable[[], None]) -> None:
        file = _opened(path)
        stack.callback(os.close, file)
        if not _free(file, kind):
            time.sleep(_PASSING)
            if not _free(file, kind):
                waits()
                fcntl.flock(file, kind)  # sleeps in the kernel: whoever waits must not disturb whoever times
        # A forked child may hold the same open file: closing this one would not unlock it.
        stack.callback(fcntl.flock, file, fcntl.LOCK_UN)

    def _free(file: int, kind: int) -> bool:
        """Locks the *file* if nobody is in the way."""
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _opened(path: Path) -> int:
        """The file, made if there is none.

        Readable and writable for all, whatever the umask: another user's process locks the same file. It must
        not be asked to be made where it is there: Linux refuses that for another user's file in a folder like
        ``/tmp`` (fs.protected_regular).
        """
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
        with contextlib.suppress(FileNotFoundError):
            return os.open(path, flags)
        try:
            file = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:  # made a moment ago
            return os.open(path, flags)
        os.fchmod(file, 0o666)
        return file


def _words(uuid: str | None) -> str:
    return "the processor" if uuid is None else f"the GPU {uuid}"


def _place(uuid: str | None) -> Path:
    """The lock's file."""
    name = "processor" if uuid is None else re.sub(r"[^A-Za-z0-9-]+", "-", uuid)
    return Path(tempfile.gettempdir()) / f"trtcheck-timing-{name}.lock"
