"""One measurement at a time: a lock for every GPU, and one for the processor of a machine."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from trtcheck.errors import OptionError

_FOLDER = "trtcheck-timing"


@contextmanager
def timing_lock(uuid: str | None, wait: Callable[[str], None] | None = None) -> Iterator[None]:
    """Times alone: other processes that want to time on the same device wait, those of other users, too.

    The locks lie in the system's temporary folder and are those of processes that run: one that is killed
    holds none. Their files stay, since deleting one that another process waits for would let two in.
    Containers with temporary folders of their own do not see each other's.

    Args:
        uuid: The GPU; None for the processor.
        wait: Told once, in a sentence, where another process has to be waited for.

    Raises:
        OptionError: The temporary folder cannot be used.
    """
    from filelock import FileLock, Timeout

    path = _place(uuid)
    try:
        path.parent.mkdir(exist_ok=True)
        # Another user locks what this one made; where it is theirs, they made it so.
        with suppress(OSError):
            path.parent.chmod(0o1777)
        lock = FileLock(path, mode=0o666)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if wait is not None:
                wait(f"another process is timing on {_called(uuid)}: waiting for it to end ({path})")
            lock.acquire()
    except OSError as error:
        raise OptionError(
            f"timing on {_called(uuid)} cannot be locked against other processes", where=path, found=error,
            hint="make the folder writable for all users, or remove it while nothing is timed; TMPDIR names "
            "another place",
        ) from error  # fmt: skip
    try:
        yield
    finally:
        lock.release()


def _called(uuid: str | None) -> str:
    return "the processor" if uuid is None else f"the GPU {uuid}"


def _place(uuid: str | None) -> Path:
    name = "processor" if uuid is None else re.sub(r"[^A-Za-z0-9-]+", "-", uuid)
    return Path(tempfile.gettempdir()) / _FOLDER / f"{name}.lock"
