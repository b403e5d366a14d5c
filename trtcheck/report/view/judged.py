"""Tables of what was judged: verdicts, limits and evidence for accuracy and for every class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from trtcheck.case import Check, DropTest
from trtcheck.names import percent
from trtcheck.report.charts import dumbbell
from trtcheck.report.charts.chart import Chart
from trtcheck.report.view import formats
from trtcheck.report.view.evidence import (
    DETECTABLE,
    TOLD_P,
    VERDICT,
    Field,
    change,
    evidence,
    in_points,
    p_of_classes,
    status,
    tabled,
)
from trtcheck.report.view.links import numbered
from trtcheck.report.view.records import PER_CLASS, Record, fall, own_verdict
from trtcheck.report.view.room import Room
from trtcheck.report.view.statuses import STATUSES
from trtcheck.report.view.tables import BEFORE, Column, Table, descending, of_classes

_POOLED_EVIDENCE = {
    "recall": (Column("newly wrong"), Column("newly right")),
    "precision": (
        Column("new false", hint="b: images newly given to a wrong class"),
        Column("gone false", hint="c: images no longer given to a wrong class"),
    ),
}
_APPROVED = Column("approved")


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
        rows.append({**item, "name": "accuracy", "verdict": own_verdict(item)})
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
    count = len(baseline["classes"])
    if len(table.rows) < count:
        caption += f": {len(table.rows)} of {formats.grouped(count)} classes, all of them in report.json"
    return replace(table, caption=caption, folded=())


def _pooled(item: Record, judged: Record, anchor: str) -> list[Table]:
    """The one row of all classes together, unless the rule has no test of them."""
    pooled, check = judged["pooled"], item["check"]
    if pooled["verdict"] == "skipped":
        return []
    wrong, right = _POOLED_EVIDENCE[check]
    fields = (
        Field(VERDICT, status),
        Field(Column("images"), lambda r: formats.count(r["images"])),
        Field(wrong, lambda r: formats.count(r["b"])),
        Field(right, lambda r: formats.count(r["c"])),
        Field(Column("drop"), lambda r: in_points(r["drop"])),
        Field(Column("limit"), lambda r: in_points(r["margin"])),
        Field(Column("p"), lambda r: formats.p_value(r["p"])),
        Field(Column("level", hint="a p-value above it is no failure"), lambda r: f"{r['alpha']:g}"),
        Field(Column("detectable"), lambda r: in_points(r["detectable"])),
    )
    columns, rows = tabled(fields, [pooled], lambda _: "all")
    against = "" if judged is item else f", against the approved baseline{_counted(judged)}"
    caption = f"{check.capitalize()}, all classes together{against}: a small harm spread over many"
    return [Table(anchor, caption, "classes", columns, rows)]


def _classes(
    item: Record, judged: Record, anchor: str, caption: str, room: Room, *, before: Column = BEFORE
) -> Table:
    """The classes of *judged*, which is the *item* itself or its comparison with the baseline."""
    check = item["check"]
    p, p_field = p_of_classes(judged["test"], paired=judged.get("paired", True))
    fields = (
        Field(VERDICT, status),
        Field(
            Column("key", hint="key classes share a part of the false-alarm rate of their own"),
            lambda r: "key" if r["key"] else "",
            lambda r: bool(r["key"]),
        ),
        Field(Column("support", hint="labelled images of the class"), lambda r: formats.count(r["support"])),
        *change(before, judged["alpha"], lambda r: r["drop"]),
        *evidence(check),
        Field(p, lambda r: formats.p_value(r[p_field])),
        Field(DETECTABLE[check], lambda r: formats.points(r["detectable"])),
    )
    ordered = sorted(judged["classes"], key=_worst)
    failed = sum(row["verdict"] == "fail" for row in ordered)
    most = max(room.worst, min(failed, room.classes))
    kept = ordered if len(ordered) <= room.classes else ordered[:most]
    if len(kept) < len(ordered):
        caption += f"; {len(kept)} of {formats.grouped(len(ordered))} classes, {formats.grouped(failed)} fail"
        unsure = sum(row["verdict"] == "inconclusive" for row in ordered)
        caption += f", {formats.grouped(unsure)} are inconclusive" if unsure else ""
    columns, rows = tabled(fields, kept, lambda r: str(r["name"]))
    return of_classes(anchor, caption, columns, rows)


def _accuracy_items(items: Sequence[Record]) -> list[Record]:
    return [item for item in items if item["check"] == Check.ACCURACY.value]


def _accuracy(anchor: str, caption: str, rows: Sequence[Record], *, before: Column = BEFORE) -> Table | None:
    if not rows:
        return None
    used = all(row["test"] == DropTest.PAIRED.value for row in rows)
    p = Column("p", hint="one-sided exact p-value" + ("" if used else f"; without a paired test {TOLD_P}"))
    fields = (
        Field(VERDICT, lambda r: status(r) or "not gated"),
        Field(Column("images"), lambda r: formats.count(r["images"])),
        *change(before, max(row["alpha"] for row in rows), lambda r: fall(r["before"], r["after"])),
        Field(
            Column("target", hint="smallest accepted share of the reference's accuracy"),
            lambda r: "none" if r["target"] is None else percent(r["target"]),
            lambda r: r["target"] is not None,
        ),
        *evidence("recall"),
        Field(p, lambda r: formats.p_value(r["p"])),
        Field(DETECTABLE["recall"], lambda r: formats.points(r["detectable"])),
    )
    columns, found = tabled(fields, rows, lambda r: str(r["name"]))
    return Table(anchor, caption, "figure", columns, found)
