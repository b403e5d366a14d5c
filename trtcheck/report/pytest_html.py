"""The link to the report on the page of pytest-html, a plugin of its own."""

from __future__ import annotations

import os
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from trtcheck.report import view


def link(document: Mapping[str, Any], index: Path, page: Path) -> str:
    """A paragraph of HTML with the verdict's sentence and a link.

    Args:
        document: The report.
        index: Its first page.
        page: The page that the paragraph will stand on.
    """
    status = view.STATUSES[document["verdict"]]
    told = escape(f"{status.shape} {status.word}: {view.headline(document)}")
    return f'<p>trtcheck: {told} (<a href="{escape(_href(index, page.parent))}">the report</a>)</p>'


def _href(target: Path, folder: Path) -> str:
    try:
        relative = os.path.relpath(target, folder)
    except ValueError:  # another drive of Windows
        return target.as_uri()
    return quote(Path(relative).as_posix())
