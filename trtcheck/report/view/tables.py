"""What a table is: columns, rows worst first, and the rest folded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from trtcheck.report.view.statuses import Status

SHOWN_ROWS = 50
"""Rows of a table before the rest is folded."""


@dataclass(frozen=True)
class Column:
    """A column of a table; *text* columns are aligned left, *hint* explains the heading."""

    name: str
    text: bool = False
    hint: str = ""


@dataclass(frozen=True)
class Row:
    """A row of a table: its heading and its cells, None where a figure is undefined.

    Attributes:
        name: The heading.
        cells: One a column.
        status: What colours the row, if anything.
        detail: What is to be said of the row in a line of its own, or "".
        href: Id of the place on the page that the heading leads to, or "".
    """

    name: str
    cells: tuple[Status | str | None, ...]
    status: Status | None = None
    detail: str = ""
    href: str = ""


@dataclass(frozen=True)
class Table:
    """A table, worst row first; *folded* are the rows that are opened on demand.

    Attributes:
        anchor: Its id on the page.
        caption: What it shows.
        head: Heading of the column of row headings.
        columns: The other columns.
        rows: Rows always shown.
        folded: The rest.
        unit: What a row is, in the plural.
    """

    anchor: str
    caption: str
    head: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    folded: tuple[Row, ...] = ()
    unit: str = "rows"


BEFORE = Column("before")
AFTER = Column("after")
DROP = Column("drop", hint="in points")


def of_classes(anchor: str, caption: str, columns: Sequence[Column], rows: Sequence[Row]) -> Table:
    """A table of classes, folded where they are many."""
    return folding(Table(anchor, caption, "class", tuple(columns), tuple(rows), unit="classes"))


def folding(table: Table, shown: int = SHOWN_ROWS) -> Table:
    """*table* with only the first rows *shown*."""
    return replace(table, rows=table.rows[:shown], folded=table.rows[shown:])


def descending(value: float | None) -> float:
    """Sorts the largest first and what is undefined last."""
    return math.inf if value is None else -value
