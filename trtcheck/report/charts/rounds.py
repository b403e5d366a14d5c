"""How long queries took in every round: a box, a line and a median for each contestant."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from trtcheck.names import percent, significant
from trtcheck.report.charts import axes, marks, panels
from trtcheck.report.charts.chart import Chart, Key
from trtcheck.report.charts.marks import Mark
from trtcheck.report.charts.panels import Panel
from trtcheck.report.charts.scales import Linear
from trtcheck.report.view.contestants import title
from trtcheck.report.view.formats import number_of
from trtcheck.report.view.tables import Column, Row, Table

WIDTH = 572
MOST_BOXES = 24
"""Rounds beyond which medians and lines alone are drawn."""
_ROOM = 2.0
"""Times are drawn as far from the boxes of all rounds as this many times their extent."""
_LEFT, _TOP, _PANEL, _GAP, _BELOW = 60, 34, 150, 26, 40

Quantiles = Sequence[Sequence[float]]
"""Of each round 5th, 25th, 50th, 75th and 95th percentile in ms, or the median alone."""


def of_item(item: Mapping[str, Any], anchor: str) -> Chart:
    """The rounds of a latency item: what older reports have no quantiles of has its medians.

    Args:
        item: The item as the report's document has it.
        anchor: Id of the picture.
    """
    known = item.get("round_quantiles_ms") or {}
    series: dict[str, Quantiles] = {
        name: known.get(name) or [[median] for median in medians]
        for name, medians in item["round_medians_ms"].items()
    }
    stack = panels.stacked(
        {name: _shown(rows) for name, rows in series.items()}, _TOP, _PANEL, _GAP
    )  # fmt: skip
    bottom, rounds = stack[-1].bottom, len(item["round_medians_ms"]["engine"])
    across = Linear(0.5, rounds + 0.5, _LEFT, WIDTH - 14, wanted=8)
    return Chart(
        anchor=anchor,
        title=f"Time of a query in every round at batch {item['batch']}",
        description=_told(item, series),
        width=WIDTH,
        height=int(bottom) + _BELOW,
        marks=(*_axes(stack, across, rounds), *_drawn(series, stack, across)),
        legend=tuple(Key(marks.point(0, 0, k), title(item, name)) for k, name in enumerate(series)),
        table=_table(item, series, anchor),
    )


def _shown(rows: Quantiles) -> tuple[float, float]:
    """What of the times is drawn: all, unless a few queries are so slow that the rest would be a line."""
    boxes = [value for row in rows for value in (row[1:4] if len(row) == 5 else row)]
    low, high = min(boxes), max(boxes)
    room = _ROOM * max(high - low, 0.01 * high)
    return max(min(map(min, rows)), low - room), min(max(map(max, rows)), high + room)


def _middle(row: Sequence[float]) -> float:
    return row[len(row) // 2]


def _axes(stack: Sequence[Panel], across: Linear, rounds: int) -> list[Mark]:
    """The axis of times of every panel, and that of rounds below the last one."""
    ticks = [value for value in across.ticks() if value == int(value) and 1 <= value <= rounds]
    found: list[Mark] = []
    for number, panel in enumerate(stack):
        words = "time of a query in ms" if not number else ""
        found += axes.beside(panel.up, _LEFT, WIDTH - 14, words, "{:g}".format)
    found += axes.below(across, stack[-1].bottom, stack[-1].bottom, "round", "{:g}".format, ticks)
    return found


def _drawn(series: Mapping[str, Quantiles], stack: Sequence[Panel], across: Linear) -> list[Mark]:
    order = list(series)
    found: list[Mark] = []
    for panel in stack:
        for place, name in enumerate(panel.names):
            rows = series[name]
            slot = (across.end - across.start) / len(rows)
            own = slot / len(panel.names)
            xs = [
                across(number) - slot / 2 + own * (place + 0.5) for number, _ in enumerate(rows, start=1)
            ]  # fmt: skip
            found += _series(rows, xs, min(0.62 * own, 12.0), panel.up, order.index(name))
    return found


def _series(rows: Quantiles, xs: Sequence[float], width: float, up: Linear, series: int) -> list[Mark]:
    """One contestant: its lines, its boxes where there is room, and its medians."""
    style = f"series-{series % marks.COLORS}"
    found: list[Mark] = []
    spread = [(x, row) for x, row in zip(xs, rows, strict=True) if len(row) == 5]
    if spread:
        found.append(marks.strokes(((x, up(row[0]), x, up(row[4])) for x, row in spread), f"line {style}"))
    if spread and len(rows) <= MOST_BOXES:
        sides = ((x - width / 2, up(row[3]), width, up(row[1]) - up(row[3])) for x, row in spread)
        found.append(marks.boxes(sides, f"box {style}"))
    middles = [(x, up(_middle(row))) for x, row in zip(xs, rows, strict=True)]
    if len(rows) > MOST_BOXES or not spread:
        found.append(marks.polyline(middles, f"trace soft {style}"))
    # Shapes tell contestants apart; of very many rounds some have them.
    stride = math.ceil(len(rows) / MOST_BOXES)
    size = min(4.0, max(2.0, width / 2 + 0.5))
    found.append(marks.points(middles[::stride], series, size))
    return found


def _told(item: Mapping[str, Any], series: Mapping[str, Quantiles]) -> str:
    parts = []
    for name, rows in series.items():
        middles = [_middle(row) for row in rows]
        low, high = min(middles), max(middles)
        parts.append(
            f"{title(item, name)}: medians of {number_of(len(rows), 'round', 'rounds')} between "
            f"{significant(low)} and {significant(high)} ms, {percent(high / low - 1)} apart"
        )
        slowest = max(map(max, rows))
        if slowest > _shown(rows)[1]:
            parts.append(
                f"of {title(item, name)} some queries took longer than is drawn, "
                f"up to {significant(slowest)} ms"
            )
    return "; ".join(parts) + "."


def _table(item: Mapping[str, Any], series: Mapping[str, Quantiles], anchor: str) -> Table:
    columns: list[Column] = []
    for name, quantiles in series.items():
        columns.append(Column(title(item, name), hint="median"))
        if len(quantiles[0]) == 5:
            columns += [Column("p25 to p75"), Column("p5 to p95")]
    rows = []
    for number in range(len(next(iter(series.values())))):
        cells: list[str] = []
        for quantiles in series.values():
            row = quantiles[number]
            cells.append(significant(_middle(row)))
            if len(row) == 5:
                cells += [_between(row[1], row[3]), _between(row[0], row[4])]
        rows.append(Row(str(number + 1), tuple(cells)))
    caption = f"Time of a query in every round at batch {item['batch']}, in ms"
    return Table(f"{anchor}-numbers", caption, "round", tuple(columns), tuple(rows), unit="rounds")


def _between(low: float, high: float) -> str:
    return f"{significant(low)} to {significant(high)}"
