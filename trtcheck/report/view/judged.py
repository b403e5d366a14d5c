"""Tables of what was judged: verdicts, limits and evidence for accuracy and for every class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from trtcheck.case import Check
from trtcheck.report.view import formats
from trtcheck.report.view.links import numbered
from trtcheck.report.view.records import Record, fall
from trtcheck.report.view.statuses import STATUSES, Status
from trtcheck.report.view.tables import AFTER, BEFORE, DROP, Column, Row, Table, descending, of_classes

PER_CLASS = (Check.RECALL.value, Check.PRECISION.value)

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
_DETECTABLE = {
    "recall": Column("detectable", hint="smallest drop in points that would have been found with power .8"),
    "precision": Column(
        "detectable",
        hint="smallest rise of false positives, in points of the other images, that would have been found "
        "with power .8",
    ),
}
_APPROVED = Column("approved")


def class_tables(items: Sequence[Record], check: str) -> tuple[Table, ...]:
    """Recall or precision of every class, a table for each item of *check*."""
    judged = [item for item in items if item["check"] == check and item.get("classes")]
    tables = []
    for number, item in enumerate(judged, start=1):
        caption = f"{check.capitalize()} of every class, worst first"
        if item["alpha"] is not None:
            caption += f"; false-alarm rate over all classes {item['alpha']:g}"
        tables.append(_classes(item["classes"], check, numbered(f"{check}-classes", number), caption))
    return tuple(tables)


def accuracy_table(items: Sequence[Record]) -> Table | None:
    """Accuracy over all images, and that of the first k answers."""
    rows = []
    for item in _accuracy_items(items):
        if item.get("images") is None:
            continue
        rows.append(_accuracy_row("accuracy", item, STATUSES[item["verdict"]]))
        top = item.get("top_k")
        if top:
            gated = STATUSES[top["verdict"]] if top["gated"] and "verdict" in top else None
            rows.append(_accuracy_row(f"top-{top['k']} accuracy", top, gated))
    return _accuracy("accuracy-figures", "Accuracy over all labelled images", rows)


def baseline_tables(items: Sequence[Record]) -> tuple[Table, ...]:
    """The comparisons with the approved baseline: accuracy first, then the worst classes."""
    approved = [item for item in items if item.get("baseline")]
    rows = [
        _accuracy_row("accuracy", item["baseline"], STATUSES[item["baseline"]["verdict"]])
        for item in _accuracy_items(approved)
    ]
    caption = "Accuracy against the approved baseline"
    accuracy = _accuracy("baseline-accuracy", caption, rows, before=_APPROVED)
    tables = [] if accuracy is None else [accuracy]
    for check in PER_CLASS:
        judged = [item["baseline"]["classes"] for item in approved if item["check"] == check]
        for number, classes in enumerate(filter(None, judged), start=1):
            tables.append(_baseline_classes(classes, check, numbered(f"baseline-{check}", number)))
    return tuple(tables)


def _baseline_classes(classes: Sequence[Record], check: str, anchor: str) -> Table:
    """The worst classes only: all stand above already, a second thousand rows would only weigh."""
    caption = f"{check.capitalize()} against the approved baseline, worst first"
    table = _classes(classes, check, anchor, caption, before=_APPROVED)
    if table.folded:
        caption += f": {len(table.rows)} of {len(classes)} classes, all of them in report.json"
    return replace(table, caption=caption, folded=())


def _classes(
    classes: Sequence[Record], check: str, anchor: str, caption: str, *, before: Column = BEFORE
) -> Table:
    def order(row: Record) -> tuple[int, float]:
        return STATUSES[row["verdict"]].rank, descending(row["drop"])

    columns = (
        _VERDICT,
        Column("support", hint="labelled images of the class"),
        before,
        AFTER,
        DROP,
        _LIMIT,
        *_EVIDENCE[check],
        Column("p", hint="one-sided exact p-value, adjusted for the number of classes (Holm)"),
        _DETECTABLE[check],
    )
    rows = []
    for row in sorted(classes, key=order):
        status = STATUSES[row["verdict"]]
        evidence = _evidence(row, row["drop"], row["p_adjusted"])
        rows.append(Row(row["name"], (status, formats.count(row["support"]), *evidence), status))
    return of_classes(anchor, caption, columns, rows)


def _accuracy_items(items: Sequence[Record]) -> list[Record]:
    return [item for item in items if item["check"] == Check.ACCURACY.value]


def _accuracy(anchor: str, caption: str, rows: Sequence[Row], *, before: Column = BEFORE) -> Table | None:
    if not rows:
        return None
    columns = (
        _VERDICT,
        Column("images"),
        before,
        AFTER,
        DROP,
        _LIMIT,
        *_EVIDENCE["recall"],
        Column("p", hint="one-sided exact p-value"),
        _DETECTABLE["recall"],
    )
    return Table(anchor, caption, "figure", columns, tuple(rows))


def _accuracy_row(name: str, row: Record, status: Status | None) -> Row:
    before, after, drop, limit, *rest = _evidence(row, fall(row["before"], row["after"]), row["p"])
    if status is None:
        limit = "not gated"
    cells = (status or "not gated", formats.count(row["images"]), before, after, drop, limit, *rest)
    return Row(name, cells, status)


def _evidence(row: Record, drop: float | None, p: float | None) -> tuple[str | None, ...]:
    """Before, after, drop, limit, b, c, p and what was detectable."""
    return (
        formats.share(row["before"]),
        formats.share(row["after"]),
        formats.points(drop),
        formats.points(row["margin"]),
        formats.count(row["b"]),
        formats.count(row["c"]),
        formats.p_value(p),
        formats.points(row["detectable"]),
    )
