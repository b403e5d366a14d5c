"""Tables of what was judged: verdicts, limits and evidence for accuracy and for every class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from trtcheck.case import Check, DropTest
from trtcheck.names import confidence, percent
from trtcheck.report.charts import dumbbell
from trtcheck.report.charts.chart import Chart
from trtcheck.report.view import formats
from trtcheck.report.view.links import numbered
from trtcheck.report.view.records import PER_CLASS, Record, fall
from trtcheck.report.view.room import Room
from trtcheck.report.view.statuses import STATUSES, Status
from trtcheck.report.view.tables import (
    AFTER,
    BEFORE,
    DROP,
    Column,
    Row,
    Table,
    descending,
    of_classes,
)

_VERDICT = Column("verdict", text=True)
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
_POOLED_EVIDENCE = {
    "recall": (Column("newly wrong"), Column("newly right")),
    "precision": (
        Column("new false", hint="b: images newly given to a wrong class"),
        Column("gone false", hint="c: images no longer given to a wrong class"),
    ),
}
_DETECTABLE = {
    "recall": Column("detectable", hint="smallest drop in points that would have been found with power .8"),
    "precision": Column(
        "detectable", hint="smallest drop of precision in points that would have been found with power .8"
    ),
}
_TOLD_P = "it is told, and decides nothing"
_APPROVED = Column("approved")


@dataclass(frozen=True)
class _Field:
    """A column, what stands in it for a record, and whether a table of *records* has it at all."""

    column: Column
    cell: Callable[[Record], Status | str | None]
    wanted: Callable[[Record], bool] | None = None

    def among(self, records: Sequence[Record]) -> bool:
        return self.wanted is None or any(map(self.wanted, records))


def _tabled(
    fields: Sequence[_Field], records: Sequence[Record], name: Callable[[Record], str]
) -> tuple[tuple[Column, ...], tuple[Row, ...]]:
    """Columns and rows of the *records*, with those fields that one of them has."""
    shown = [field for field in fields if field.among(records)]
    rows = (Row(name(r), tuple(field.cell(r) for field in shown), _status(r), _missing(r)) for r in records)
    return tuple(field.column for field in shown), tuple(rows)


def class_tables(items: Sequence[Record], check: str, room: Room) -> tuple[Table, ...]:
    """Recall or precision of all classes together and of every class, for each item of *check*."""
    judged = [item for item in items if item["check"] == check and item.get("classes")]
    tables = []
    for number, item in enumerate(judged, start=1):
        caption = (
            f"{check.capitalize()} of every class, worst first; "
            f"false-alarm rate over all classes {item['alpha']:g}"
        )
        if item["test"] != DropTest.PAIRED.value:
            caption = f"{check.capitalize()} of every class, worst first; {_RULES[item['test']]}"
        tables += _pooled(item, item, numbered(f"{check}-pooled", number))
        tables.append(_classes(item, item, numbered(f"{check}-classes", number), caption, room))
    return tuple(tables)


_RULES = {
    DropTest.THRESHOLD.value: "a drop that reaches its limit fails, noise or not",
    DropTest.PROVEN.value: "a drop that is not proven to be below its limit fails",
}


def dumbbells(items: Sequence[Record], check: str, room: Room) -> tuple[Chart, ...]:
    """The pictures of the tables of `class_tables`."""
    judged = [item for item in items if item["check"] == check and item.get("classes")]
    drawn = (
        dumbbell.of_classes(
            sorted(item["classes"], key=_worst), check, numbered(f"{check}-picture", number),
            numbered(f"{check}-classes", number), room,
        )
        for number, item in enumerate(judged, start=1)
    )  # fmt: skip
    return tuple(chart for chart in drawn if chart is not None)


def _worst(row: Record) -> tuple[int, float]:
    return STATUSES[row["verdict"]].rank, descending(row["drop"])


def accuracy_table(items: Sequence[Record]) -> Table | None:
    """Accuracy over all images, and that of the first k answers."""
    rows: list[Record] = []
    for item in _accuracy_items(items):
        if item.get("images") is None:
            continue
        rows.append({**item, "name": "accuracy"})
        top = item.get("top_k")
        if top:
            verdict = top["verdict"] if top["gated"] else None
            rows.append({**top, "name": f"top-{top['k']} accuracy", "verdict": verdict})
    return _accuracy("accuracy-figures", "Accuracy over all labelled images", rows)


def baseline_tables(items: Sequence[Record], room: Room) -> tuple[Table, ...]:
    """The comparisons with the approved baseline: accuracy first, then the worst classes."""
    approved = [item for item in items if item.get("baseline")]
    rows = [
        {**item["baseline"], "name": f"accuracy{_counted(item['baseline'])}"}
        for item in _accuracy_items(approved)
    ]
    caption = "Accuracy against the approved baseline"
    accuracy = _accuracy("baseline-accuracy", caption, rows, before=_APPROVED)
    tables = [] if accuracy is None else [accuracy]
    for check in PER_CLASS:
        judged = [item for item in approved if item["check"] == check and item["baseline"]["classes"]]
        for number, item in enumerate(judged, start=1):
            tables += _pooled(item, item["baseline"], numbered(f"baseline-{check}-pooled", number))
            tables.append(_baseline_classes(item, numbered(f"baseline-{check}", number), room))
    return tuple(tables)


def _counted(baseline: Record) -> str:
    return "" if baseline["paired"] else ", from counts alone"


def _baseline_classes(item: Record, anchor: str, room: Room) -> Table:
    """The worst classes only: all stand above already, a second thousand rows would only weigh."""
    baseline = item["baseline"]
    caption = f"{item['check'].capitalize()} against the approved baseline{_counted(baseline)}, worst first"
    table = _classes(item, baseline, anchor, caption, room, before=_APPROVED)
    if table.folded:
        count = len(baseline["classes"])
        caption += f": {len(table.rows)} of {count} classes, all of them in report.json"
    return replace(table, caption=caption, folded=())


def _pooled(item: Record, judged: Record, anchor: str) -> list[Table]:
    """The one row of all classes together, unless the rule has no test of them."""
    pooled, check = judged["pooled"], item["check"]
    if pooled["verdict"] == "skipped":
        return []
    wrong, right = _POOLED_EVIDENCE[check]
    fields = (
        _Field(_VERDICT, _status),
        _Field(Column("images"), lambda r: formats.count(r["images"])),
        _Field(wrong, lambda r: formats.count(r["b"])),
        _Field(right, lambda r: formats.count(r["c"])),
        _Field(Column("drop"), lambda r: _in_points(r["drop"])),
        _Field(Column("limit"), lambda r: _in_points(r["margin"])),
        _Field(Column("p"), lambda r: formats.p_value(r["p"])),
        _Field(Column("level", hint="a p-value above it is no failure"), lambda r: f"{r['alpha']:g}"),
        _Field(Column("detectable"), lambda r: _in_points(r["detectable"])),
    )
    columns, rows = _tabled(fields, [pooled], lambda _: "all")
    against = "" if judged is item else f", against the approved baseline{_counted(judged)}"
    caption = f"{check.capitalize()}, all classes together{against}: a small harm spread over many"
    return [Table(anchor, caption, "classes", columns, rows)]


def _classes(
    item: Record, judged: Record, anchor: str, caption: str, room: Room, *, before: Column = BEFORE
) -> Table:
    """The classes of *judged*, which is the *item* itself or its comparison with the baseline."""
    check = item["check"]
    p, p_field = _p_of_classes(judged["test"], paired=judged.get("paired", True))
    fields = (
        _Field(_VERDICT, _status),
        _Field(
            Column("key", hint="key classes share a part of the false-alarm rate of their own"),
            lambda r: "key" if r["key"] else "",
            lambda r: bool(r["key"]),
        ),
        _Field(Column("support", hint="labelled images of the class"), lambda r: formats.count(r["support"])),
        *_change(before, judged["alpha"], lambda r: r["drop"]),
        *_evidence(check),
        _Field(p, lambda r: formats.p_value(r[p_field])),
        _Field(_DETECTABLE[check], lambda r: formats.points(r["detectable"])),
    )
    ordered = sorted(judged["classes"], key=_worst)
    kept = ordered if len(ordered) <= room.classes else ordered[: room.worst]
    if len(kept) < len(ordered):
        failed = sum(row["verdict"] == "fail" for row in ordered)
        caption += f"; {len(kept)} of {formats.grouped(len(ordered))} classes, {formats.grouped(failed)} fail"
    columns, rows = _tabled(fields, kept, lambda r: str(r["name"]))
    return of_classes(anchor, caption, columns, rows)


def _p_of_classes(test: str, *, paired: bool) -> tuple[Column, str]:
    """The column of the classes' p-values, and the field that stands in it."""
    exact = "one-sided exact p-value" if paired else "one-sided p-value of Fisher's exact test on the counts"
    if test != DropTest.PAIRED.value:
        return Column("p", hint=f"{exact} of the class alone; {_TOLD_P}"), "p"
    hint = (
        f"{exact}, adjusted for the number of classes: those with too few changed answers for any p-value "
        "to count are left out (Tarone; their p is 1), the others adjusted by Holm"
    )
    return Column("p, Tarone-Holm", hint=hint), "p_adjusted"


def _accuracy_items(items: Sequence[Record]) -> list[Record]:
    return [item for item in items if item["check"] == Check.ACCURACY.value]


def _accuracy(anchor: str, caption: str, rows: Sequence[Record], *, before: Column = BEFORE) -> Table | None:
    if not rows:
        return None
    used = all(row["test"] == DropTest.PAIRED.value for row in rows)
    p = Column("p", hint="one-sided exact p-value" + ("" if used else f"; without a paired test {_TOLD_P}"))
    fields = (
        _Field(_VERDICT, lambda r: _status(r) or "not gated"),
        _Field(Column("images"), lambda r: formats.count(r["images"])),
        *_change(before, max(row["alpha"] for row in rows), lambda r: fall(r["before"], r["after"])),
        _Field(
            Column("target", hint="smallest accepted share of the reference's accuracy"),
            lambda r: "none" if r["target"] is None else percent(r["target"]),
            lambda r: r["target"] is not None,
        ),
        *_evidence("recall"),
        _Field(p, lambda r: formats.p_value(r["p"])),
        _Field(_DETECTABLE["recall"], lambda r: formats.points(r["detectable"])),
    )
    columns, found = _tabled(fields, rows, lambda r: str(r["name"]))
    return Table(anchor, caption, "figure", columns, found)


def _change(before: Column, alpha: float, drop: Callable[[Record], float | None]) -> tuple[_Field, ...]:
    """Before, after, the drop with its interval, and the limits."""
    interval = Column(
        "drop's interval",
        hint=f"in points; each end is a one-sided bound with {confidence(1 - alpha)} confidence (Tango)",
    )
    floor = Column("floor", hint="smallest accepted value, whatever the reference's")
    return (
        _Field(before, lambda r: formats.share(r["before"])),
        _Field(AFTER, lambda r: formats.share(r["after"])),
        _Field(DROP, lambda r: formats.points(drop(r))),
        _Field(interval, lambda r: formats.interval(r["interval"]), lambda r: r["interval"] is not None),
        _Field(_LIMIT, lambda r: "not gated" if r["verdict"] is None else formats.points(r["margin"])),
        _Field(floor, _floor, lambda r: r["floor"] is not None),
    )


def _evidence(check: str) -> tuple[_Field, _Field]:
    worse, better = _EVIDENCE[check]
    return (
        _Field(worse, lambda r: formats.count(r["b"])),
        _Field(better, lambda r: formats.count(r["c"])),
    )


def _floor(row: Record) -> str:
    if row["floor"] is None:
        return "none"
    reached = (row["after"] or 0.0) >= row["floor"] or not row.get("support", 1)
    return f"{formats.share(row['floor'])}{'' if reached else ' missed'}"


def _missing(row: Record) -> str:
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
        drop = row["before"] - row["after"]
        fell = drop > 0 and drop >= row["margin"]
        if fell:
            parts.append("the drop can be noise")
        if row.get("blind", not fell and row["enough"] is not None):
            seen = _in_points(row["detectable"])
            parts.append(
                "no drop is sure to be seen" if seen is None else f"drops under {seen} cannot be seen"
            )
    if row.get("enough"):
        images = formats.grouped(row["enough"]["images"])
        parts.append(f"about {images} images would show {_in_points(row['enough']['drop'])}")
    return "; ".join(parts)


def _in_points(value: float | None) -> str | None:
    return formats.with_unit(formats.points(value), "points")


def _status(row: Record) -> Status | None:
    return None if row["verdict"] is None else STATUSES[row["verdict"]]
