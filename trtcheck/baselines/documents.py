"""What every baseline file has in common: how it is read, told to be damaged or newer, and written."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from trtcheck.cache import write_atomically
from trtcheck.errors import BaselineError

T = TypeVar("T")

UPDATE = "the same command with --trt-update-baselines"
"""What approves results: the command is the user's own."""

LATENCY_PREFIX = "latency-"
"""How the names of latency baselines begin; those of accuracy begin with a backend's name."""


def dump(document: Mapping[str, Any]) -> str:
    """The text of a baseline file: sorted, one value a line, the same for the same results.

    Raises:
        ValueError: It holds NaN or infinity, which JSON has not.
    """
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def parse(content: str, where: Path, version: int, read: Callable[[dict[str, Any]], T]) -> T:
    """What *read* makes of the document in *content*.

    Args:
        content: Text of the file.
        where: The file.
        version: The only schema version that *read* knows.
        read: Takes the document apart; a KeyError, TypeError, ValueError and the like mean damage.

    Raises:
        BaselineError: It is damaged, or of a schema that this version does not read.
    """
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise _damaged(where, error) from error
    found = document.get("schema_version") if isinstance(document, dict) else None
    if isinstance(found, bool) or not isinstance(found, int):
        raise _damaged(where, "no schema_version")
    if found > version:
        raise BaselineError(
            "the baseline was written by a newer trtcheck", where=where,
            expected=f"schema_version {version}", found=found,
            hint="pip install --upgrade pytest-trtcheck",
        )  # fmt: skip
    if found < version:
        raise _damaged(where, f"schema_version {found}, which never existed")
    try:
        return read(document)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, zlib.error) as error:
        raise _damaged(where, f"{type(error).__name__}: {error}") from error


def _damaged(where: Path, found: object) -> BaselineError:
    return BaselineError(
        "the baseline is damaged", where=where, expected="what --trt-update-baselines writes", found=found,
        hint=f"restore it (git checkout -- {where}), or make it anew: {UPDATE}",
    )  # fmt: skip


def read_text(path: Path) -> str | None:
    """Content of the file at *path*; None where there is none.

    Raises:
        BaselineError: It is there and cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise BaselineError("the baseline cannot be read", where=path, found=error) from error


def write_text(path: Path, content: str) -> None:
    """Writes *content* to *path* atomically.

    Raises:
        BaselineError: The folder cannot be written.
    """
    try:
        write_atomically(path, content)
    except (OSError, UnicodeEncodeError) as error:  # a class folder's name may be no Unicode
        raise BaselineError("the baseline cannot be written", where=path, found=error) from error


def shown(path: Path, root: Path) -> str:
    """The file at *path* as messages name it: with the folder *root* of the baselines in front."""
    return path.relative_to(root.parent).as_posix()


def count(value: object) -> int:
    """*value*, if it is a whole number of 0 or more.

    Raises:
        ValueError: It is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{value!r} is no count")
    return value


def text(value: object) -> str:
    """*value*, if it is a string.

    Raises:
        TypeError: It is not.
    """
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no string")
    return value
