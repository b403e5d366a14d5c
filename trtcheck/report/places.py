"""Places in the report's folder, named from outside of it."""

from __future__ import annotations

from pathlib import Path

from trtcheck.case import Check
from trtcheck.report.view.links import check_anchor, page_stem


def shown(path: Path, start: Path) -> str:
    """*path* as a person in the folder *start* names it: relative where it lies below, with ``/`` between."""
    return (path.relative_to(start) if path.is_relative_to(start) else path).as_posix()


def of_check(folder: str, model: str, engine: str, check: Check) -> str:
    """Where the report in *folder* tells what *check* found; of several items of one check the worst.

    Known before the report is written, on any worker: page and anchor follow from the names.

    Args:
        folder: The report's folder, as `shown`.
        model: Name of the model.
        engine: Name of the engine; "" for a model of which no engine was tested.
        check: The check.
    """
    if not engine:
        return f"{folder}/index.html"
    return f"{folder}/{page_stem(model, engine)}.html#{check_anchor(check.value)}"
