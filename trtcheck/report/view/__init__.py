"""What the pages show: the report's document as ordered, formatted text, without any HTML.

The names below are imported when they are first used: pictures (`trtcheck.report.charts`) are made of this
package's formats and tables, and pages of pictures.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trtcheck.report.view.classes_page import class_pages
    from trtcheck.report.view.engine_page import engines
    from trtcheck.report.view.index_page import index
    from trtcheck.report.view.links import page_names
    from trtcheck.report.view.matrices import heat_level
    from trtcheck.report.view.sentences import headline
    from trtcheck.report.view.statuses import STATUSES

_HOME = {
    "STATUSES": "statuses",
    "class_pages": "classes_page",
    "engines": "engine_page",
    "headline": "sentences",
    "heat_level": "matrices",
    "index": "index_page",
    "page_names": "links",
}

__all__ = ["STATUSES", "class_pages", "engines", "headline", "heat_level", "index", "page_names"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
