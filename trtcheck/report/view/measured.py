"""Tables of what was measured: figures of an engine beside those of its reference, without a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trtcheck.case import Check
from trtcheck.report.charts import dumbbell, histogram
from trtcheck.report.charts.chart import Chart
from trtcheck.report.view import formats
from trtcheck.report.view.records import Record, fall
from trtcheck.report.view.room import Room
from trtcheck.report.view.statuses import STATUSES
from trtcheck.report.view.tables import (
    AFTER,
    BEFORE,
    DROP,
    Column,
    Row,
    Table,
    descending,
    folding,
    of_classes,
)

SHOWN_CONFUSIONS = 10
"""Confusions listed beside a matrix before the rest is folded."""
MOST_HISTOGRAMS = 6


def class_table(classes: Sequence[Record], figure: str, room: Room) -> Table:
    """Recall or precision of every class, largest drop first."""

    def drop(row: Record) -> float | None:
        return fall(row["before"][figure], row["after"][figure])

    most = len(classes) if len(classes) <= room.classes else room.worst
    rows = [
        Row(
            row["name"],
            (
                formats.count(row["support"]),
                formats.share(row["before"][figure]),
                formats.share(row["after"][figure]),
                formats.points(drop(row)),
            ),
        )
        for row in sorted(classes, key=lambda row: descending(drop(row)))[:most]
    ]
    caption = f"{figure.capitalize()} of every class, largest drop first; not judged in this run"
    if len(rows) < len(classes):
        caption += f"; {len(rows)} of {formats.grouped(len(classes))} classes"
    return of_classes(f"{figure}-classes", caption, (Column("support"), BEFORE, AFTER, DROP), rows)


def dumbbells(classes: Sequence[Record], room: Room) -> tuple[Chart, ...]:
    """Recall and precision of the classes that fell most, where no check judged them."""
    drawn = []
    for figure in ("recall", "precision"):
        rows = [
            {"name": row["name"], "before": row["before"][figure], "after": row["after"][figure]}
            for row in classes
        ]
        ordered = sorted(rows, key=lambda row: descending(fall(row["before"], row["after"])))
        drawn.append(dumbbell.of_classes(ordered, figure, f"{figure}-picture", f"{figure}-classes", room))
    return tuple(chart for chart in drawn if chart is not None)


def averages_table(engine: Record, *, with_accuracy: bool) -> Table | None:
    """Averages over the classes; *with_accuracy* where no table of judged accuracy stands beside."""
    found: list[tuple[str, Any, Any]] = []
    accuracy, averages = engine["accuracy"], engine["averages"]
    if accuracy and with_accuracy:
        found.append(("accuracy", accuracy["before"], accuracy["after"]))
    if averages:
        before, after = averages["before"], averages["after"]
        found += [
            (f"{kind} {figure.replace('f1', 'F1')}", before[kind][figure], after[kind][figure])
            for kind in ("macro", "weighted")
            for figure in ("precision", "recall", "f1")
        ]
    if not found:
        return None
    rows = tuple(
        Row(name, (formats.share(before), formats.share(after), formats.points(fall(before, after))))
        for name, before, after in found
    )
    caption = "Averages over the classes: macro counts every class alike, weighted by its support"
    return Table("averages", caption, "figure", (BEFORE, AFTER, DROP), rows)


def confusion_tables(engine: Record, *, beside_matrix: bool) -> tuple[Table, ...]:
    """The confusions that appeared, and those that vanished, the largest change first."""
    directions = (
        ("appeared", "Confusions that appeared: wrong answers that became more", 1),
        ("vanished", "Confusions that vanished: wrong answers that became fewer", -1),
    )
    tables = []
    for anchor, caption, sign in directions:
        rows = tuple(
            Row(
                row["truth"],
                (
                    formats.answer(row["answer"]),
                    formats.count(row["before"]),
                    formats.count(row["after"]),
                    formats.signed(row["after"] - row["before"]),
                ),
            )
            for row in engine["confusions"]
            if (row["after"] - row["before"]) * sign > 0
        )
        total = (engine.get("changed_confusions") or {}).get(anchor, len(rows))
        if total > len(rows):
            caption += f"; the largest {len(rows)} of {formats.grouped(total)}"
        columns = (Column("answered", text=True), BEFORE, AFTER, Column("change"))
        table = Table(f"confusions-{anchor}", caption, "truth", columns, rows, unit="confusions")
        tables.append(folding(table, SHOWN_CONFUSIONS) if beside_matrix else table)
    return tuple(table for table in tables if table.rows)


def histograms(engine: Record, items: Sequence[Record]) -> tuple[Chart, ...]:
    """How large the errors of the first outputs are."""
    limits = (item.get("limits") or {} for item in items if item["check"] == Check.OUTPUTS.value)
    limit = next((found["max_abs"] for found in limits if found.get("max_abs") is not None), None)
    drawn = (
        histogram.of_output(row, f"errors-{number}", limit)
        for number, row in enumerate(engine["outputs"][:MOST_HISTOGRAMS], start=1)
    )
    return tuple(chart for chart in drawn if chart is not None)


def outputs_table(engine: Record, items: Sequence[Record]) -> Table | None:
    """Errors of every output, with the limits that its check had."""
    if not engine["outputs"]:
        return None
    columns = (
        Column("values"),
        Column("different", hint="values that are not exactly equal"),
        Column("NaN"),
        Column("infinite"),
        Column("first in image", hint="first image with NaN or infinity"),
        Column("max abs", hint="largest absolute error"),
        Column("max rel", hint="largest relative error"),
        Column("relative L2"),
        Column("cosine"),
        Column("PSNR", hint="in dB"),
    )
    checked = [item for item in items if item["check"] == Check.OUTPUTS.value]
    limits = {
        name: value
        for item in checked
        for name, value in (item.get("limits") or {}).items()
        if value is not None
    }
    gated = ", ".join(f"{name} {value:g}" for name, value in limits.items()) or "none set"
    caption = f"Outputs against the reference; limits: {gated}"
    return Table("outputs-figures", caption, "output", columns, tuple(map(_output, engine["outputs"])))


def _output(row: Record) -> Row:
    cells = (
        formats.count(row["elements"]),
        formats.count(row["different"]),
        formats.count(row["nan"]),
        formats.count(row["inf"]),
        "none" if row["first_bad"] is None else str(row["first_bad"]),
        formats.figure(row["max_abs"]),
        formats.figure(row["max_rel"]),
        formats.figure(row["relative_l2"]),
        formats.figure(row["cosine"], ".6f"),
        formats.figure(row["psnr"], ".1f"),
    )
    return Row(row["name"], cells, STATUSES["fail"] if row["nan"] or row["inf"] else None)


def kept_table(engine: Record) -> Table | None:
    """Nodes that stayed wide, grouped by the reason."""
    groups: dict[tuple[str, str], list[str]] = {}
    for node in (engine["lowered"] or {}).get("kept", ()):
        groups.setdefault((node["reason"], node["op"]), []).append(node["node"])
    if not groups:
        return None
    ordered = sorted(groups.items(), key=lambda group: (-len(group[1]), group[0]))
    rows = tuple(
        Row(reason, (op, formats.count(len(nodes)), formats.nodes(nodes))) for (reason, op), nodes in ordered
    )
    columns = (Column("operation", text=True), Column("nodes"), Column("names", text=True))
    return folding(Table("kept", "Nodes that stayed wide, and why", "reason", columns, rows, unit="reasons"))
