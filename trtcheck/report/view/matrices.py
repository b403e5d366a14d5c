"""Confusion matrices and the shades of their fields."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from trtcheck.report.view.formats import answer, grouped, number_of, share, shown_engine, signed
from trtcheck.report.view.records import Record

MATRIX_CLASSES = 20
"""Confusion matrices of more classes than this are listed instead of drawn."""
HEAT_LEVELS = 10


@dataclass(frozen=True)
class Count:
    """A field of a confusion matrix; *heat* from 0 to 9 is its share of the row, *hit* what is good.

    Good are the right answers; of a change more of these, and fewer wrong ones.
    """

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
    """The matrices of reference and engine and what changed, where they are small enough to be read."""
    confusion = engine["confusion"]
    names = [row["name"] for row in engine["classes"]]
    if not confusion or len(names) > MATRIX_CLASSES:
        return ()
    # The column of those without an answer says nothing as long as there are none.
    unanswered = any(row[-1] for side in confusion.values() for row in side if len(row) > len(names))
    answers = (*names, answer(None)) if unanswered else tuple(names)
    captions = {"before": "Before: the reference", "after": f"After: {shown_engine(engine['engine'])}"}
    sides = tuple(
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
    changes = tuple(
        (name, _changes(before[: len(answers)], after[: len(answers)], hit))
        for hit, (name, before, after) in enumerate(
            zip(names, confusion["before"], confusion["after"], strict=True)
        )
    )
    return (*sides, Matrix("Difference: after less before", answers, changes))


def _changes(before: Sequence[int], after: Sequence[int], hit: int) -> tuple[Count, ...]:
    """What changed in a row: signed counts, and whether that is good."""
    total = sum(before)
    found = []
    for column, (old, new) in enumerate(zip(before, after, strict=True)):
        good = (new > old) == (column == hit)
        heat = heat_level(abs(new - old), total, right=False)
        found.append(Count(signed(new - old), heat, good and new != old))
    return tuple(found)


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


@dataclass(frozen=True)
class MatrixPicture:
    """A confusion matrix of many classes as a picture: its path, its caption, and what it shows in words."""

    path: str
    caption: str
    told: str


def matrix_pictures(engine: Record) -> tuple[MatrixPicture, ...]:
    """The pictures of an engine with too many classes for numbers; none where they were not drawn."""
    paths = engine.get("confusion_pictures") or {}
    classes = number_of(len(engine["classes"]), "class", "classes")
    accuracy = engine["accuracy"] or {}
    told = {
        "before": f"Confusion of the reference over {classes}; accuracy {share(accuracy.get('before'))}",
        "after": f"Confusion of this engine over {classes}; accuracy {share(accuracy.get('after'))}",
        "difference": f"What changed over {classes}: {_changes_told(engine)}",
    }
    captions = {
        "before": "Before: the reference",
        "after": f"After: {shown_engine(engine['engine'])}",
        "difference": "Difference: after less before",
    }
    return tuple(
        MatrixPicture(paths[side], caption, told[side]) for side, caption in captions.items() if side in paths
    )


def _changes_told(engine: Record) -> str:
    """How many confusions changed, and which the most: ``1 appeared; the largest change is …``."""
    listed = engine["confusions"]
    if not listed:
        return "no confusion"
    totals = engine.get("changed_confusions") or {}
    counts = [
        f"{grouped(totals[direction])} {direction}"
        for direction in ("appeared", "vanished")
        if totals.get(direction)
    ]
    first = listed[0]
    pair = f"{first['truth']} taken for {answer(first['answer'])}"
    largest = f"{pair}, {grouped(first['before'])} before and {grouped(first['after'])} after"
    return "; ".join(filter(None, [" and ".join(counts), f"the largest change is {largest}"]))
