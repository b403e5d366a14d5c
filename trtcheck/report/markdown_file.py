"""Where the report's summary is written: into its folder, and onto the page of a CI job."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trtcheck.cache import write_atomically
from trtcheck.errors import ReportError
from trtcheck.report.markdown import MARK, summary

NAME = "summary.md"


def write(document: Mapping[str, Any], folder: Path) -> Path:
    """Writes ``summary.md`` into the report's *folder*.

    Raises:
        ReportError: It cannot be written, or is a file of somebody else.
    """
    path = folder / NAME
    refuse_foreign(folder)
    try:
        write_atomically(path, summary(document))
    except OSError as error:
        raise ReportError("the summary cannot be written", where=path, found=error) from error
    return path


def refuse_foreign(folder: Path) -> None:
    """Refuses to replace a ``summary.md`` in *folder* that trtcheck did not write.

    Raises:
        ReportError: It is somebody else's, or cannot be read.
    """
    path = folder / NAME
    try:
        with path.open("rb") as file:
            own = file.read(len(MARK)) == MARK.encode() and not path.is_symlink()
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise ReportError("the summary cannot be written", where=path, found=error) from error
    if not own:
        raise ReportError(
            "this file was not written by trtcheck and would be lost", where=path,
            hint="name another folder: pytest --trt-report=DIR",
        )  # fmt: skip


def append(document: Mapping[str, Any], path: Path, folder: str) -> str | None:
    """Adds the summary to the page of a CI job; what goes wrong is told and is no error of the run.

    Args:
        document: The report.
        path: The file that ``GITHUB_STEP_SUMMARY`` names; other programs write into it, too.
        folder: The report's folder as a person names it.

    Returns:
        What is to be told, or None.
    """
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write("\n" + summary(document, elsewhere=folder))
    except OSError as error:
        return f"the page of the CI job has no summary: GITHUB_STEP_SUMMARY cannot be written: {error}"
    return None
