"""A folder of entries that are made once, verified when read and never seen half-written.

An entry is the folder ``<root>/<kind>/<key>/`` with its files and a ``manifest.json`` that lists their
digests. It is made in a temporary folder beside it and renamed, under a file lock; lock files stay, since
deleting one while another process waits for it would let two processes in.

Beside the entries there are files that backends keep (``<root>/<kind>/*.cache``), and the approved engines
(see `trtcheck.approved_engines`).
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from stat import S_ISREG
from typing import Any

from trtcheck import digests
from trtcheck.errors import OptionError

_log = logging.getLogger("trtcheck")

MANIFEST = "manifest.json"
APPROVED = "approved"
"""Folder of the approved engines."""

_MAKING = ".making-"
_ABANDONED_AFTER = 24 * 3600.0
_APPROVED_STAYS = 30 * 24 * 3600.0
"""How much longer than an entry an approved engine stays, in seconds.

An entry can be made again, an approved engine cannot; but those that another approval superseded must not
crowd the entries out in the end.
"""
_SESSIONS = "sessions"
_BEGINS = 60.0
"""Seconds in which a session may come to hold the lock that it made the file of."""


@dataclass(frozen=True)
class Entry:
    """A finished cache entry.

    Attributes:
        folder: Where its files are.
        manifest: What its maker returned, with ``files`` (name to digest) added.
        fresh: Whether it was made by this call.
        repaired: Whether it was made because the one that was there is damaged.
    """

    folder: Path
    manifest: dict[str, Any]
    fresh: bool
    repaired: bool = False


class Cache:
    """Entries below *root*, by kind and key.

    Args:
        root: The folder; made when the first entry is.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def get(self, kind: str, key: str) -> Entry | None:
        """The entry if it is there and whole; a damaged one is reported and removed."""
        folder = self._folder(kind, key)
        if not folder.is_dir():
            return None
        manifest = _read_manifest(folder)
        if manifest is not None:
            _touch(folder)
            return Entry(folder, manifest, fresh=False)
        _log.warning("trtcheck: damaged cache entry %s is made anew", folder)
        shutil.rmtree(folder, ignore_errors=True)
        return None

    def get_or_make(
        self,
        kind: str,
        key: str,
        make: Callable[[Path], dict[str, Any]],
        *,
        stale: Callable[[], bool] = lambda: False,
    ) -> Entry:
        """The entry, made by ``make(folder)`` if it is not there.

        Args:
            kind: Sub-folder, for example ``"lowered"``.
            key: Digest of everything the entry depends on.
            make: Writes the entry's files into the folder it is given; returns its manifest, JSON-ready.
            stale: Asked under the entry's lock: whether one that is there is to be made anew.

        Raises:
            OptionError: The cache folder cannot be written, or has no room for what *make* writes.
        """
        with self.locked(kind, key):
            there = self._folder(kind, key).is_dir()
            anew = there and stale()
            found = None if anew else self.get(kind, key)
            if found is not None:
                return found
            temporary = self.temporary(kind)
            try:
                with self.writable(only=temporary):
                    manifest = make(temporary)
                return replace(self.commit(kind, key, temporary, manifest), repaired=there and not anew)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)

    def commit(self, kind: str, key: str, temporary: Path, manifest: dict[str, Any]) -> Entry:
        """Turns the finished folder *temporary* into the entry; the caller holds the lock."""
        folder = self._folder(kind, key)
        with self.writable():
            files = sorted(path for path in temporary.iterdir() if path.is_file())
            kept = {path.name: digests.of_files([path]) for path in files}
            whole = {**manifest, "files": {**kept, MANIFEST: digests.of_json(manifest)}}
            (temporary / MANIFEST).write_text(json.dumps(whole, indent=1, sort_keys=True), encoding="utf-8")
            # mkdtemp makes private folders; a cache may be shared.
            temporary.chmod(0o777 & ~_umask())
            if folder.is_dir():  # made anew: another session may be reading the one that was there
                aside = folder.with_name(f"{_MAKING}{uuid.uuid4().hex}")
                folder.rename(aside)
                shutil.rmtree(aside, ignore_errors=True)
            temporary.replace(folder)
        return Entry(folder, whole, fresh=True)

    @contextmanager
    def locked(self, kind: str, key: str) -> Iterator[None]:
        """Holds the entry's lock; other processes that want the same entry wait."""
        from filelock import FileLock

        folder = self._folder(kind, key)
        path = folder.with_suffix(".lock")
        try:
            with self.writable():
                path.parent.mkdir(parents=True, exist_ok=True)
                lock = FileLock(path)
                lock.acquire()
        except OptionError:
            if not folder.is_dir():
                raise
            yield  # a cache that can only be read needs no lock
            return
        try:
            yield
        finally:
            lock.release()

    def temporary(self, kind: str) -> Path:
        """A new empty folder beside the entries of *kind*, to be handed to `commit`."""
        parent = self.root / kind
        with self.writable():
            parent.mkdir(parents=True, exist_ok=True)
            _remove_abandoned(parent)
            return Path(tempfile.mkdtemp(prefix=_MAKING, dir=parent))

    def begin_session(self) -> Callable[[], None]:
        """Says that a session works: until it ends `trim` leaves what was used since it began.

        Returns:
            What ends it.
        """
        from filelock import FileLock

        folder = self.root / _SESSIONS
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _sessions_at_work(folder)  # removes the files of those that were killed
            # The name tells the time: probing a lock changes that of the file.
            path = folder / f"{int(time.time())}-{uuid.uuid4().hex}.lock"
            lock = FileLock(path)
            lock.acquire()
        except OSError:  # what is needed may be there already; whatever has to be written says so
            return lambda: None

        def end() -> None:
            lock.release()
            with suppress(OSError):
                path.unlink(missing_ok=True)

        return end

    def trim(self, limit: int, *, unused_since: float) -> int:
        """Removes the entries that were used longest ago until the rest takes *limit* bytes or less.

        Approved engines stay longer than entries, see `_APPROVED_STAYS`, but the limit holds for them too.

        Args:
            limit: Bytes that may stay.
            unused_since: Entries that were used after this time (seconds since the epoch) stay in any case,
                as does what was used since the first of the sessions began that are at work now.

        Returns:
            The number of entries removed.
        """
        unused_since = min([unused_since, *_sessions_at_work(self.root / _SESSIONS)])
        kept = sorted(_kept(self.root), key=lambda each: each.goes)
        total = sum(each.size for each in kept)
        removed = 0
        for each in kept:
            if total <= limit:
                break
            if each.used < unused_since and _remove_unless_locked(each.place):
                total -= each.size
                removed += 1
        return removed

    def _folder(self, kind: str, key: str) -> Path:
        return self.root / kind / stem(key)

    @contextmanager
    def writable(self, only: Path | None = None) -> Iterator[None]:
        """Blames the cache for what the system refuses; with *only*, not for files outside of that folder.

        Raises:
            OptionError: The cache folder cannot be written, or has no room.
        """
        try:
            yield
        except OSError as error:
            # A full disk names no file where a write fails, only where an open does.
            if only is not None and _names_file_outside(only, error):
                raise
            raise OptionError(
                "the cache folder cannot be used", where=self.root, found=error,
                hint="name a writable folder with enough room: pytest --trt-cache=DIR",
            ) from error  # fmt: skip


def stem(key: str) -> str:
    """The digest *key* as the name of files and folders."""
    return key.removeprefix("sha256:")[:40]


def _touch(folder: Path) -> None:
    """Notes that the entry was used, so that others are removed before it."""
    with suppress(OSError):  # a cache that can only be read
        os.utime(folder / MANIFEST)


@dataclass(frozen=True)
class _Kept:
    """An entry, an approved engine, or a file that a backend keeps.

    Attributes:
        used: When it was used last, seconds since the epoch.
        goes: Its turn to be removed: the smallest first.
        size: Bytes that its removal frees.
        place: The folder or file.
    """

    used: float
    goes: float
    size: int
    place: Path


def _kept(root: Path) -> Iterator[_Kept]:
    """Everything that may be removed."""
    for file in root.glob("*/*.cache"):
        with suppress(OSError):
            found = file.stat()
            yield _Kept(found.st_mtime, found.st_mtime, found.st_size, file)
    linked = set()
    for file in (root / APPROVED).glob("*"):
        with suppress(OSError):  # another process removed it
            found = file.stat()
            if file.suffix != ".lock" and S_ISREG(found.st_mode):
                linked.add((found.st_dev, found.st_ino))
                yield _Kept(found.st_mtime, found.st_mtime + _APPROVED_STAYS, found.st_size, file)
    for manifest in root.glob(f"*/*/{MANIFEST}"):
        folder = manifest.parent
        if folder.name.startswith(_MAKING):
            continue
        with suppress(OSError):
            files = [path.stat() for path in folder.iterdir()]
            # A file that is linked as approved engine is counted there, and goes only when that goes.
            size = sum(each.st_size for each in files if (each.st_dev, each.st_ino) not in linked)
            used = manifest.stat().st_mtime
            yield _Kept(used, used, size, folder)


def _sessions_at_work(folder: Path) -> list[float]:
    """When each session that still works began; files of sessions that ended are removed."""
    from filelock import FileLock, Timeout

    found = []
    for path in folder.glob("*.lock"):
        began = float(path.name.partition("-")[0])
        if time.time() - began < _BEGINS:
            found.append(began)
            continue
        try:
            with FileLock(path, timeout=0):
                pass  # nobody holds it; removed afterwards, since Windows removes no open file
            path.unlink(missing_ok=True)
        except (Timeout, OSError):
            found.append(began)
    return found


def _remove_unless_locked(place: Path) -> bool:
    from filelock import FileLock, Timeout

    try:
        with FileLock(place.with_suffix(".lock"), timeout=0):
            if place.is_file():
                place.unlink()
                return True
            # Renamed first: nobody finds an entry without some of its files.
            doomed = place.with_name(f"{_MAKING}{uuid.uuid4().hex}")
            place.rename(doomed)
            shutil.rmtree(doomed, ignore_errors=True)
    except (Timeout, OSError):
        return False
    return True


def _names_file_outside(folder: Path, error: OSError) -> bool:
    named = error.filename
    return isinstance(named, str | Path) and folder.resolve() not in Path(named).resolve().parents


def _remove_abandoned(parent: Path) -> None:
    """Removes temporary folders in *parent* in which nobody wrote for a day: who made them was killed."""
    for folder in parent.glob(f"{_MAKING}*"):
        try:
            newest = max(path.stat().st_mtime for path in (folder, *folder.iterdir()))
        except OSError:  # another process renamed or removed it
            continue
        if time.time() - newest > _ABANDONED_AFTER:
            shutil.rmtree(folder, ignore_errors=True)


def _read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest if it and every file it lists are whole."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        files = dict(manifest["files"])
        told = {name: value for name, value in manifest.items() if name != "files"}
        whole = files.pop(MANIFEST) == digests.of_json(told) and all(
            digests.of_files([folder / name]) == digest for name, digest in files.items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return manifest if whole else None


def write_atomically(path: Path, content: str | bytes) -> None:
    """Writes *content* (text as UTF-8) to *path*: a reader sees the old file or the new one, never a part.

    Raises:
        OSError: The folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
        # mkstemp makes private files; a report or baseline is read by others.
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
