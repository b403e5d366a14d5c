"""Confusion matrices and the shades of their fields."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from trtcheck.report.view.formats import answer, grouped, shown_engine
from trtcheck.report.view.records import Record

MATRIX_CLASSES = 25
"""Confusion matrices of more classes than this are listed instead of drawn."""
HEAT_LEVELS = 10


@dataclass(frozen=True)
class Count:
    """A field of a confusion matrix; *heat* from 0 to 9 is its share of the row, *hit* the right answers."""

    text: str
    heat: int
    hit: bool


@dataclass(frozen=True)
class Matrix:
    """A confusion matrix: rows are the truth, columns the answers."""

    caption: str
    answers: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Count, ...]], ...]


def matrices(engine: Record) -> tuple[Matrix, ...]:
    """The matrices of reference and engine, where they are small enough to be read."""
    confusion = engine["confusion"]
    names = [row["name"] for row in engine["classes"]]
    if not confusion or len(names) > MATRIX_CLASSES:
        return ()
    # The column of those without an answer says nothing as long as there are none.
    unanswered = any(row[-1] for side in confusion.values() for row in side if len(row) > len(names))
    answers = (*names, answer(None)) if unanswered else tuple(names)
    captions = {"before": "Before: the reference", "after": f"After: {shown_engine(engine['engine'])}"}
    return tuple(
        Matrix(
            caption,
            answers,
            tuple(
                (name, _counts(row[: len(answers)], hit))
                for hit, (name, row) in enumerate(zip(names, confusion[side], strict=True))
            ),
        )
        for side, caption in captions.items()
    )


def _counts(row: Sequence[int], hit: int) -> tuple[Count, ...]:
    total = sum(row)
    return tuple(
        Count(grouped(count), heat_level(count, total, right=column == hit), column == hit)
        for column, count in enumerate(row)
    )


def heat_level(count: int, total: int, *, right: bool) -> int:
    """The shade of a field, 0 for none to 9 for the whole row.

    Wrong answers go by the root of their share: one per cent of errors has to be seen, too.
    """
    if count <= 0 or total <= 0:
        return 0
    share = count / total
    level = round(share * (HEAT_LEVELS - 1)) if right else 1 + int(math.sqrt(share) * (HEAT_LEVELS - 2))
    return min(max(level, 1), HEAT_LEVELS - 1)
