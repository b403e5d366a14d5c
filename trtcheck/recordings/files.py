"""Text files of a recording, read without waiting for what is no file."""

from __future__ import annotations

from pathlib import Path

from trtcheck.errors import EngineError


def read_text(path: Path) -> str:
    """The text of the file at *path*.

    Raises:
        EngineError: It cannot be read, is no regular file (reading a pipe would never end), or is no text.
    """
    try:
        if path.exists() and not path.is_file():
            raise EngineError("cannot be read", where=path, expected="a file", found="something else")
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError, MemoryError) as error:
        raise EngineError("cannot be read", where=path, found=error) from error
