"""The report's folder: pages, pictures, ``report.json`` and ``summary.md``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trtcheck.cache import write_atomically
from trtcheck.errors import ReportError
from trtcheck.report import html, markdown_file

DOCUMENT = "report.json"


def write(document: Mapping[str, Any], folder: Path, drawn: Mapping[str, bytes] | None = None) -> None:
    """Writes the whole report of *document* into *folder*.

    Args:
        document: The report as docs/report-schema.md describes it.
        folder: Made if it is not there.
        drawn: Pictures by their path below the report; None keeps those that are there.

    Raises:
        ReportError: The folder cannot be written, or holds a file of the same name that trtcheck did not
            write.
    """
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)
    _refuse_foreign(folder / DOCUMENT)
    markdown_file.refuse_foreign(folder)
    html.write(document, folder, drawn)
    try:
        # A path of pytest may hold bytes that are no UTF-8, as lone surrogates.
        write_atomically(folder / DOCUMENT, (text + "\n").encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise ReportError("the report cannot be written", where=folder, found=error) from error
    markdown_file.write(document, folder)


def is_document(found: Any) -> bool:
    """Whether what a ``report.json`` holds is a report of trtcheck, of whichever version."""
    return isinstance(found, dict) and {"schema_version", "items"} <= found.keys()


def _refuse_foreign(path: Path) -> None:
    """Refuses to replace a ``report.json`` that is no report of trtcheck.

    Raises:
        ReportError: It is somebody else's.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return
    except (ValueError, RecursionError):
        found = None
    if not is_document(found):
        raise ReportError(
            "this file was not written by trtcheck and would be lost", where=path,
            hint="name another folder: pytest --trt-report=DIR",
        )  # fmt: skip
