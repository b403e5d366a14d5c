"""Median and tail of the times of single queries, of an engine and of what was timed beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trtcheck.latency.measurement import ENGINE
from trtcheck.names import significant
from trtcheck.report.charts import axes, marks, panels
from trtcheck.report.charts.chart import Chart, Key
from trtcheck.report.charts.marks import Mark
from trtcheck.report.charts.panels import Panel
from trtcheck.report.view.contestants import title
from trtcheck.report.view.tables import Column, Row, Table

WIDTH = 460
PERCENTILES = ("p50", "p90", "p95", "p99")
_GATES = {"latency_ms": "p50", "latency_p95_ms": "p95"}
"""By gate: the percentile that it limits."""
_LEFT, _TOP, _PANEL, _GAP, _BELOW = 60, 34, 110, 26, 26
_STEP = (WIDTH - 14 - _LEFT) / len(PERCENTILES)

Figures = Mapping[str, float]
"""Percentile → time in ms, as far as they are known."""


def of_item(item: Mapping[str, Any], anchor: str) -> Chart:
    """Percentiles of a latency item, and the limits in force; those of too few queries are hollow.

    Args:
        item: The item as the report's document has it.
        anchor: Id of the picture.
    """
    records = {ENGINE: item["latency"], **item["contestants"]}
    series = {name: _figures(record) for name, record in records.items()}
    unsure = item["latency"]["indicative"]
    hollow = {name: set(record.get("indicative", unsure)) for name, record in records.items()}
    limits = {_GATES[row["gate"]]: row["limit"] for row in item["limits"] if row["gate"] in _GATES}
    ranges = {name: (min(found.values()), max(found.values())) for name, found in series.items()}
    near = {name: limit for name, limit in limits.items() if _is_near(limit, *ranges[ENGINE])}
    ends = (*ranges[ENGINE], *near.values())
    ranges[ENGINE] = min(ends), max(ends)
    stack = panels.stacked(ranges, _TOP, _PANEL, _GAP)
    return Chart(
        anchor=anchor,
        title=f"Percentiles of the time of a query at batch {item['batch']}",
        description=_told(item, series, limits),
        width=WIDTH,
        height=int(stack[-1].bottom) + _BELOW,
        marks=(
            *_axes(stack),
            *(mark for panel in stack for mark in _drawn(item, panel, series, hollow)),
            *(mark for panel in stack if ENGINE in panel.names for mark in _limits(panel, near)),
        ),
        legend=_legend(item, series, hollow, near),
        table=_table(item, series, hollow, anchor),
    )


def _figures(record: Mapping[str, Any]) -> Figures:
    fields = {"p50": "median_ms", "p90": "p90_ms", "p95": "p95_ms", "p99": "p99_ms"}
    return {name: record[field] for name, field in fields.items() if record.get(field) is not None}


def _is_near(limit: float, low: float, high: float) -> bool:
    """Whether a limit fits into the picture without flattening what is in it."""
    return low / 2 <= limit <= 2 * high


def _x(percentile: str) -> float:
    return _LEFT + _STEP * (PERCENTILES.index(percentile) + 0.5)


def _axes(stack: Sequence[Panel]) -> list[Mark]:
    found: list[Mark] = []
    for number, panel in enumerate(stack):
        words = "time of a query in ms" if not number else ""
        found += axes.beside(panel.up, _LEFT, WIDTH - 14, words, "{:g}".format)
    bottom = stack[-1].bottom
    found.append(marks.line(_LEFT, bottom, WIDTH - 14, bottom, "axis"))
    found += [
        marks.text(_x(name), bottom + 17, "median" if name == "p50" else name, "tick", "middle")
        for name in PERCENTILES
    ]
    return found


def _drawn(
    item: Mapping[str, Any], panel: Panel, series: Mapping[str, Figures], hollow: Mapping[str, set[str]]
) -> list[Mark]:
    order = list(series)
    found: list[Mark] = []
    for name in panel.names:
        number, figures = order.index(name), series[name]
        points = [(_x(percentile), panel.up(value)) for percentile, value in figures.items()]
        found.append(marks.polyline(points, f"trace soft series-{number % marks.COLORS}"))
        for percentile, value in figures.items():
            unsure = percentile in hollow[name]
            told = f"{title(item, name)}: {percentile} {significant(value)} ms{', indicative' * unsure}"
            kind = "hollow" if unsure else ""
            found.append(marks.point(_x(percentile), panel.up(value), number, kind, told))
    return found


def _limits(panel: Panel, limits: Mapping[str, float]) -> list[Mark]:
    return [
        marks.line(x - _STEP / 2 + 6, y, x + _STEP / 2 - 6, y, "limit", f"limit of {percentile}: {limit:g}")
        for percentile, limit in limits.items()
        for x, y in [(_x(percentile), panel.up(limit))]
    ]


def _legend(
    item: Mapping[str, Any], series: Mapping[str, Figures], hollow: Mapping[str, set[str]],
    limits: Mapping[str, float],
) -> tuple[Key, ...]:  # fmt: skip
    found = [Key(marks.point(0, 0, number), title(item, name)) for number, name in enumerate(series)]
    if any(figures.keys() & hollow[name] for name, figures in series.items()):
        found.append(Key(marks.point(0, 0, 0, "hollow"), "indicative: from too few queries"))
    if limits:
        found.append(Key(marks.line(-11, 0, 11, 0, "limit"), "limit"))
    return tuple(found)


def _told(item: Mapping[str, Any], series: Mapping[str, Figures], limits: Mapping[str, float]) -> str:
    parts = []
    for name, figures in series.items():
        tail = ", ".join(f"{percentile} {significant(value)}" for percentile, value in figures.items())
        parts.append(f"{title(item, name)}: {tail} ms".replace("p50", "median"))
    parts += [f"limit of the {name} {limit:g} ms".replace("p50", "median") for name, limit in limits.items()]
    return "; ".join(parts) + "."


def _table(
    item: Mapping[str, Any], series: Mapping[str, Figures], hollow: Mapping[str, set[str]], anchor: str
) -> Table:
    def cell(name: str, percentile: str) -> str | None:
        value = series[name].get(percentile)
        if value is None:
            return None
        return f"{'~ ' if percentile in hollow[name] else ''}{significant(value)}"

    return Table(
        f"{anchor}-numbers",
        f"Percentiles of the time of a query at batch {item['batch']}, in ms; ~ is indicative",
        "timed",
        tuple(Column("median" if name == "p50" else name) for name in PERCENTILES),
        tuple(Row(title(item, name), tuple(cell(name, p) for p in PERCENTILES)) for name in series),
    )
