"""Columns of what was judged: values before and after, limits, evidence, and what is missing to tell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from trtcheck.case import DropTest
from trtcheck.names import confidence
from trtcheck.report.view import formats
from trtcheck.report.view.records import Record
from trtcheck.report.view.statuses import STATUSES, Status
from trtcheck.report.view.tables import AFTER, DROP, Column, Row

VERDICT = Column("verdict", text=True)
_LIMIT = Column("limit", hint="accepted drop in points")
_EVIDENCE = {
    "recall": (
        Column("newly wrong", hint="b: only the reference answers right"),
        Column("newly right", hint="c: only the engine answers right"),
    ),
    "precision": (
        Column("new false", hint="b: images of other classes that only the engine puts here"),
        Column("gone false", hint="c: images of other classes that only the reference puts here"),
    ),
}
DETECTABLE = {
    "recall": Column("detectable", hint="smallest drop in points that would have been found with power .8"),
    "precision": Column(
        "detectable", hint="smallest drop of precision in points that would have been found with power .8"
    ),
}
TOLD_P = "it is told, and decides nothing"


@dataclass(frozen=True)
class Field:
    """A column, what stands in it for a record, and whether a table of *records* has it at all."""

    column: Column
    cell: Callable[[Record], Status | str | None]
    wanted: Callable[[Record], bool] | None = None

    def among(self, records: Sequence[Record]) -> bool:
        """Whether a table of *records* has the column."""
        return self.wanted is None or any(map(self.wanted, records))


def tabled(
    fields: Sequence[Field], records: Sequence[Record], name: Callable[[Record], str]
) -> tuple[tuple[Column, ...], tuple[Row, ...]]:
    """Columns and rows of the *records*, with those fields that one of them has."""
    shown = [field for field in fields if field.among(records)]
    rows = (Row(name(r), tuple(field.cell(r) for field in shown), status(r), missing(r)) for r in records)
    return tuple(field.column for field in shown), tuple(rows)


def p_of_classes(test: str, *, paired: bool) -> tuple[Column, str]:
    """The column of the classes' p-values, and the field that stands in it."""
    exact = "one-sided exact p-value" if paired else "one-sided p-value of Fisher's exact test on the counts"
    if test != DropTest.PAIRED.value:
        return Column("p", hint=f"{exact} of the class alone; {TOLD_P}"), "p"
    hint = (
        f"{exact}, adjusted for the number of classes: those with too few changed answers for any p-value "
        "to count are left out (Tarone; their p is 1), the others adjusted by Holm"
    )
    return Column("p, Tarone-Holm", hint=hint), "p_adjusted"


def change(before: Column, alpha: float, drop: Callable[[Record], float | None]) -> tuple[Field, ...]:
    """Before, after, the drop with its interval, and the limits."""
    interval = Column(
        "drop's interval",
        hint=f"in points; each end is a one-sided bound with {confidence(1 - alpha)} confidence (Tango)",
    )
    floor = Column("floor", hint="smallest accepted value, whatever the reference's")
    return (
        Field(before, lambda r: formats.share(r["before"])),
        Field(AFTER, lambda r: formats.share(r["after"])),
        Field(DROP, lambda r: formats.points(drop(r))),
        Field(interval, lambda r: formats.interval(r["interval"]), lambda r: r["interval"] is not None),
        Field(_LIMIT, lambda r: "not gated" if r["verdict"] is None else formats.points(r["margin"])),
        Field(floor, _floor, lambda r: r["floor"] is not None),
    )


def evidence(check: str) -> tuple[Field, Field]:
    """What changed for the worse and for the better."""
    worse, better = _EVIDENCE[check]
    return (
        Field(worse, lambda r: formats.count(r["b"])),
        Field(better, lambda r: formats.count(r["c"])),
    )


def _floor(row: Record) -> str:
    if row["floor"] is None:
        return "none"
    reached = (row["after"] or 0.0) >= row["floor"] or not row.get("support", 1)
    return f"{formats.share(row['floor'])}{'' if reached else ' missed'}"


def missing(row: Record) -> str:
    """Why an inconclusive row is, and what it would take to tell."""
    if row["verdict"] != "inconclusive":
        return ""
    parts = []
    if row.get("support") == 0:
        parts.append("no images")
    elif row["before"] == 0:
        parts.append("nothing to lose: the reference is never right")
    elif row["before"] is None:
        parts.append("no answer of the reference is this class: nothing can be compared")
    elif row["after"] is None:
        parts.append("no answer is this class any more")
    else:
        fell = _fell(row)
        if fell:
            parts.append("the drop can be noise")
        if row.get("blind", not fell and row["enough"] is not None):
            seen = in_points(row["detectable"])
            parts.append(
                "no drop is sure to be seen" if seen is None else f"drops under {seen} cannot be seen"
            )
    if row.get("enough"):
        images = formats.grouped(row["enough"]["images"])
        parts.append(f"about {images} images would show {in_points(row['enough']['drop'])}")
    return "; ".join(parts)


def _fell(row: Record) -> bool:
    """Whether a drop reaches its margin, decided by the counts' own fractions as the judge does.

    Of floats .8 - .79 is more than .01, and .3 - .2 less than .1.
    """
    before, after = (Fraction(row[side]).limit_denominator(_MOST_IMAGES) for side in ("before", "after"))
    return before > after and before - after >= Fraction(str(row["margin"]))


_MOST_IMAGES = 10_000_000
"""A float tells fractions with denominators up to so many images apart."""


def in_points(value: float | None) -> str | None:
    """A difference of fractions in percentage points."""
    return formats.with_unit(formats.points(value), "points")


def status(row: Record) -> Status | None:
    """The verdict; None where there is none."""
    return None if row["verdict"] is None else STATUSES[row["verdict"]]
