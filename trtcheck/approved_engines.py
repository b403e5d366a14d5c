"""Approved engines, kept in the cache by the digest of their file: what later engines are timed against.

The cache's own engines are kept by what they are made from, and TensorRT makes another file of the same
every time: the one that was approved would be lost with the first rebuild.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
from contextlib import suppress
from pathlib import Path

from trtcheck import digests
from trtcheck.cache import APPROVED, Cache, stem
from trtcheck.errors import EngineError

_log = logging.getLogger("trtcheck")


def keep(cache_root: Path, engine: Path, digest: str) -> Path:
    """Keeps the file *engine* as it is now, and says where.

    A file of the cache, which is never written again, is linked; any other is copied, since whoever makes
    it anew may well write into it.

    Args:
        cache_root: The cache folder.
        engine: The engine's file; not read where one of this digest is kept already.
        digest: Digest of the file when it was timed.

    Raises:
        EngineError: The file is gone, or another one by now.
        OptionError: The cache folder cannot be written, or has no room.
    """
    cache = Cache(cache_root)
    place = _place(cache_root, digest, engine.suffix)
    if place is None:
        raise EngineError("the engine cannot be kept: this is no digest", where=engine, found=digest)
    with cache.locked(APPROVED, digest):
        if find(cache_root, digest, engine.suffix) is not None:
            return place
        _require(engine, digest)
        temporary = cache.temporary(APPROVED)
        try:
            with cache.writable():
                copied = temporary / place.name
                _link_or_copy(engine, copied, own=cache_root.resolve() in engine.resolve().parents)
                copied.replace(place)
                _touch(place)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return place


def find(cache_root: Path, digest: str, suffix: str) -> Path | None:
    """The approved engine of this digest, or None: not kept on this machine, or damaged, which is told.

    Args:
        cache_root: The cache folder.
        digest: What a baseline names; the whole file is read to see that it still has it.
        suffix: Suffix of the engine's file.
    """
    place = _place(cache_root, digest, suffix)
    if place is None or not place.is_file():
        return None
    _touch(place)  # before it is read, so that a session that ends meanwhile leaves it
    try:
        whole = digests.of_files([place]) == digest
    except OSError:
        whole = False
    if whole:
        return place
    _log.warning("trtcheck: the approved engine %s is damaged and is not compared with", place)
    with suppress(OSError):  # a cache that can only be read
        place.unlink()
    return None


def _place(cache_root: Path, digest: str, suffix: str) -> Path | None:
    """Where an engine is kept; None for a digest that is none, since a baseline's text is anybody's."""
    if not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
        return None
    harmless = re.fullmatch(r"\.[A-Za-z0-9_-]{1,16}", suffix) and suffix not in (".lock", ".cache")
    return cache_root / APPROVED / f"{stem(digest)}{suffix if harmless else ''}"


def _require(engine: Path, digest: str) -> None:
    try:
        found = digests.of_files([engine])
    except OSError as error:
        raise EngineError("the engine that was timed cannot be read", where=engine, found=error) from error
    if found != digest:
        raise EngineError(
            "the engine is another one than was timed", where=engine, expected=digests.short(digest),
            found=digests.short(found), hint="let nothing write it while pytest runs, and time it again",
        )  # fmt: skip


def _link_or_copy(source: Path, target: Path, *, own: bool) -> None:
    if own:
        with suppress(OSError):  # a file system without hard links
            os.link(source, target)
            return
    shutil.copyfile(source, target)


def _touch(place: Path) -> None:
    """Notes that the engine was used, so that others are removed before it."""
    with suppress(OSError):  # a cache that can only be read
        os.utime(place)
