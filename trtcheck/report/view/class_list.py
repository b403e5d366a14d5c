"""All classes in several orders, as light as a page can have them: a thousand classes are a thousand rows."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from trtcheck.report.view import formats
from trtcheck.report.view.links import class_page
from trtcheck.report.view.records import Record, fall
from trtcheck.report.view.room import Room
from trtcheck.report.view.tables import descending

_NONE = "\N{EN DASH}"
COLUMNS = (
    "class", "support", "recall before", "recall now", "drop of recall", "precision before", "precision now",
    "drop of precision",
)  # fmt: skip
"""What stands in a row; drops are in points."""


@dataclass(frozen=True)
class Order:
    """The classes in one order: *rows* are all of them, or the first."""

    anchor: str
    name: str
    caption: str
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class ClassList:
    """The classes of an engine in several orders.

    Attributes:
        worst: Id of the judged table, worst first.
        orders: The other orders.
        page: The page that lists all classes of the model, where they are too many for this one; else None.
        count: How many classes there are.
        columns: What stands in the cells of a row.
    """

    worst: str
    orders: tuple[Order, ...]
    page: str | None
    count: str
    columns: tuple[str, ...] = COLUMNS


def of_engine(engine: Record, worst: str, room: Room) -> ClassList | None:
    """The classes of *engine*; None where there are none.

    Args:
        engine: The engine.
        worst: Id of the table that has them worst first.
        room: How much the page may hold.
    """
    classes: Sequence[Record] = engine["classes"]
    if not classes:
        return None
    many = len(classes) > room.classes
    return ClassList(
        worst=worst,
        orders=tuple(_order(classes, *order, room) for order in _ORDERS if order[2] is not None or not many),
        page=class_page(engine["model"]) if many else None,
        count=formats.grouped(len(classes)),
    )


def _order(
    classes: Sequence[Record], anchor: str, name: str, key: Callable[[Record], object] | None, room: Room
) -> Order:
    if key is None:
        chosen = list(classes)
    else:
        ordered = sorted(classes, key=key)  # type: ignore[arg-type]
        chosen = ordered if len(classes) <= room.classes // 2 else ordered[: room.listed]
    count = formats.grouped(len(classes))
    if len(chosen) == len(classes):
        caption = f"All {count} classes, {name}"
    else:
        caption = f"The first {len(chosen)} of {count} classes, {name}"
    return Order(f"classes-{anchor}", name, caption, tuple(map(_cells, chosen)))


def _cells(row: Record) -> tuple[str, ...]:
    figures: list[str | None] = []
    for name in ("recall", "precision"):
        before, after = row["before"][name], row["after"][name]
        figures += (formats.share(before), formats.share(after), formats.points(fall(before, after)))
    return (row["name"], formats.grouped(row["support"]), *(figure or _NONE for figure in figures))


def _drop(figure: str) -> Callable[[Record], float]:
    """Sorts the largest drop first and what is undefined last."""
    return lambda row: descending(fall(row["before"][figure], row["after"][figure]))


def _lowest(figure: str) -> Callable[[Record], tuple[bool, float]]:
    """Sorts the lowest value after first and what is undefined last."""
    return lambda row: (row["after"][figure] is None, row["after"][figure] or 0.0)


def _natural(row: Record) -> list[tuple[bool, int, str]]:
    """Sorts names as people count: class 9 before class 10."""
    parts = re.findall(r"\d{1,18}|\D+|\d+", row["name"].casefold())
    return [(not part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts]


_ORDERS: tuple[tuple[str, str, Callable[[Record], object] | None], ...] = (
    ("listed", "in the model's order", None),
    ("by-name", "by name", _natural),
    ("by-support", "by support", lambda row: -row["support"]),
    ("by-recall", "lowest recall now first", _lowest("recall")),
    ("by-precision", "lowest precision now first", _lowest("precision")),
    ("by-recall-drop", "largest drop of recall first", _drop("recall")),
    ("by-precision-drop", "largest drop of precision first", _drop("precision")),
)
