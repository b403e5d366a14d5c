"""Time of a query and throughput against batch size, a line an engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from trtcheck.names import significant
from trtcheck.report.charts import axes, marks
from trtcheck.report.charts.chart import Chart, Key
from trtcheck.report.charts.marks import Mark
from trtcheck.report.charts.scales import Linear, Log, Scale
from trtcheck.report.view import formats

Item = Mapping[str, Any]
Lines = Mapping[str, Sequence[tuple[int, float]]]
"""Batch size and figure of every engine, by its name."""

WIDTH, HEIGHT = 560, 286
MOST_LINES = 12
_LEFT, _TOP, _BOTTOM = 64, 34, 236


def of_items(items: Sequence[Item], anchor: str, numbers: str, place: str = "") -> tuple[Chart, ...]:
    """The two pictures; none where there is but one batch size.

    Args:
        items: Latency items of one model as the report's document has them, of one environment.
        anchor: Beginning of the pictures' ids.
        numbers: Id of the table that has the numbers.
        place: Where it was timed, where the report has several places.
    """
    by_engine: dict[str, list[Item]] = {}
    for item in sorted(items, key=lambda item: item["batch"]):
        by_engine.setdefault(formats.shown_engine(item["engine"]), []).append(item)
    if len({item["batch"] for item in items}) < 2:
        return ()
    kept = dict(list(by_engine.items())[:MOST_LINES])
    left = len(by_engine) - len(kept)

    def lines(figure: Callable[[Item], float]) -> Lines:
        return {name: [(item["batch"], figure(item)) for item in own] for name, own in kept.items()}

    times = lines(lambda item: float(item["latency"]["median_ms"]))
    rates = lines(lambda item: float(item["throughput"]))
    every = [[value for own in found.values() for _, value in own] for found in (times, rates)]
    rising = Log.around(every[0], _BOTTOM, _TOP)
    from_zero = Linear.around(every[1], _BOTTOM, _TOP, zero=True)
    where = f", {place}" if place else ""
    return (
        _chart(f"{anchor}-time", f"Time of a query by batch size{where}", "ms", times, rising, numbers, left),
        _chart(
            f"{anchor}-throughput", f"Throughput by batch size{where}", "images/s", rates, from_zero, numbers,
            left,
        ),
    )  # fmt: skip


def _chart(
    anchor: str, title: str, unit: str, lines: Lines, up: Scale, numbers: str, left: int
) -> Chart:  # fmt: skip
    sizes = sorted({size for own in lines.values() for size, _ in own})
    across = Log.around(sizes, _LEFT, WIDTH - 14, base=2.0)
    ticks = sizes if len(sizes) <= 9 else None
    found: list[Mark] = [
        *axes.beside(up, _LEFT, WIDTH - 14, unit, "{:g}".format),
        *axes.below(across, _TOP, _BOTTOM, "images of a query", "{:g}".format, ticks),
    ]
    for series, (name, own) in enumerate(lines.items()):
        points = [(across(size), up(value)) for size, value in own]
        found.append(marks.polyline(points, f"trace series-{series % marks.COLORS}"))
        found += [
            marks.point(x, y, series, title=f"{name}, batch {size}: {significant(value)} {unit}")
            for (x, y), (size, value) in zip(points, own, strict=True)
        ]
    return Chart(
        anchor=anchor,
        title=title,
        description=_told(lines, unit, left),
        width=WIDTH,
        height=HEIGHT,
        marks=tuple(found),
        legend=tuple(Key(marks.point(0, 0, series), name) for series, name in enumerate(lines)),
        numbers=numbers,
    )


def _told(lines: Lines, unit: str, left: int) -> str:
    parts = [
        f"{name}: from {significant(own[0][1])} {unit} at batch {own[0][0]} to {significant(own[-1][1])} "
        f"{unit} at batch {own[-1][0]}"
        for name, own in lines.items()
    ]
    if left:
        parts.append(f"{formats.number_of(left, 'engine', 'engines')} more in the table")
    return "; ".join(parts) + "."
