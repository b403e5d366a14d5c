"""Facts and the table of the check ``batch_invariance``: what images differ by between batches."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from trtcheck.case import Check
from trtcheck.names import percent
from trtcheck.report.view import formats
from trtcheck.report.view.facts import Fact, fact, known
from trtcheck.report.view.records import Record
from trtcheck.report.view.statuses import STATUSES
from trtcheck.report.view.tables import Column, Row, Table


@dataclass(frozen=True)
class Batches:
    """What the check of batch invariance found."""

    facts: tuple[Fact, ...]
    table: Table


def of_items(items: Iterable[Record]) -> Batches | None:
    """The figures of the first check of batch invariance among *items* that has any."""
    for item in items:
        if item["check"] == Check.BATCH_INVARIANCE.value and item.get("outputs"):
            return Batches(_facts(item), _table(item))
    return None


def _facts(item: Record) -> tuple[Fact, ...]:
    answers = item["answers"]
    images = formats.grouped(item["images"])
    return known(
        (
            fact("images tried", f"{images} of {formats.grouped(item['total'])}"),
            fact("batch sizes", ", ".join(map(formats.grouped, item["sizes"]))),
            fact("limit", f"{item['tolerance']:g} of an output's norm"),
            fact(
                "answers that change with the batch",
                None if answers is None else f"{formats.grouped(answers['differing'])} of {images}",
            ),
        )
    )


def _table(item: Record) -> Table:
    """The largest difference of every output, beside those that tell whose it is."""
    beside = [(name, item[field]) for field, name in _BESIDE.items() if item[field] is not None]
    columns = (
        Column("largest difference", hint="of an image's output: share of its norm (L2) or values; ✗ fails"),
        Column("in image"),
        Column("in a batch of"),
        Column("images beyond the limit"),
        Column("images NaN or infinite", hint="in one batch and not in another"),
        *(Column(name) for name, _ in beside),
    )
    found = [({row["name"]: row for row in rows}) for _, rows in beside]
    rows = tuple(_row(row, [others.get(row["name"]) for others in found]) for row in item["outputs"])
    caption = "Every image alone and in other batches: what its outputs differ by"
    return Table("batch-invariance-figures", caption, "output", columns, rows)


_BESIDE = {"repeated": "the same batch twice", "reference": "original model"}
"""Differences that tell whose fault one is, where they were looked for."""


def _row(row: Record, beside: Iterable[Record | None]) -> Row:
    beyond = row["nonfinite"] or (row["beyond"] and not row["exact"])
    cells = (
        f"{_difference(row)} ✗" if beyond else _difference(row),
        "none" if row["image"] is None else str(row["image"]),
        "none" if row["batch"] is None else formats.grouped(row["batch"]),
        formats.count(row["beyond"]),
        formats.count(row["nonfinite"]),
        *(None if other is None else _difference(other) for other in beside),
    )
    return Row(row["name"], cells, STATUSES["fail"] if beyond else None)


def _difference(row: Record) -> str:
    if row["difference"] is None:
        return "infinite"
    if row["exact"]:
        return f"{percent(row['difference'])} of the values"
    return format(row["difference"], ".2g")
