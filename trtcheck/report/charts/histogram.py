"""How large the errors of an output are: bars over powers of two, and those without any error."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from trtcheck.report.charts import axes, marks
from trtcheck.report.charts.chart import Chart
from trtcheck.report.charts.marks import Mark
from trtcheck.report.charts.scales import Linear, Log
from trtcheck.report.view.formats import grouped
from trtcheck.report.view.tables import Column, Row, Table

WIDTH, HEIGHT = 580, 250
_LEFT, _TOP, _BOTTOM = 60, 34, 200
_EXACT = 46
"""Pixels of the bar of those without error."""
MOST_BARS = 28
_FAR = 1e120
"""Errors beyond it, and below its reciprocal, stand at the picture's ends."""


def of_output(row: Mapping[str, Any], anchor: str, limit: float | None) -> Chart | None:
    """The histogram of an output's absolute errors.

    Args:
        row: The output as the report's document has it.
        anchor: Id of the picture.
        limit: Largest accepted error, where one is set.

    Returns:
        The picture; None where nothing was compared as numbers.
    """
    errors = row.get("errors") or {"exact": 0, "bins": []}
    bins = _merged(errors["bins"])
    total = errors["exact"] + sum(count for _, _, count in bins)
    if not total:
        return None
    shares = [(low, high, count / total) for low, high, count in bins]
    exact = errors["exact"] / total
    up = Linear.around([exact, *(share for _, _, share in shares)], _BOTTOM, _TOP, zero=True, wanted=4)
    edges = [low for low, _, _ in shares] + [high for _, high, _ in shares]
    edges += [limit] if limit else []
    edges = [min(max(edge, 1 / _FAR), _FAR) for edge in edges]
    start = _LEFT + _EXACT + 16
    across = Log.around(edges, start, WIDTH - 14) if edges else Log(1e-9, 1.0, start, WIDTH - 14)
    return Chart(
        anchor=anchor,
        title=f"Absolute errors of output '{row['name']}'",
        description=_told(row, exact, shares, total),
        width=WIDTH,
        height=HEIGHT,
        marks=(
            *axes.beside(up, _LEFT, WIDTH - 14, "share of the values", lambda v: f"{100 * v:g} %"),
            *axes.below(across, _TOP, _BOTTOM, "absolute error", _power),
            *_bars(across, up, exact, shares),
            *([] if not limit else _limit(across, limit)),
        ),
        table=_table(anchor, row["name"], errors["exact"], bins, total),
    )


def _merged(bins: list[list[int]]) -> list[tuple[float, float, int]]:
    """Bins with their ends; where they are many, neighbours are put together."""
    if not bins:
        return []
    first, last = bins[0][0], bins[-1][0]
    width = max(1, math.ceil((last - first + 1) / MOST_BARS))
    counts: dict[int, int] = {}
    for exponent, count in bins:
        place = (exponent - first) // width
        counts[place] = counts.get(place, 0) + count
    return [
        (_two(first + place * width), _two(first + (place + 1) * width), count)
        for place, count in sorted(counts.items())
    ]


def _two(exponent: int) -> float:
    return math.ldexp(1.0, exponent) if exponent < 1024 else math.inf


def _power(value: float) -> str:
    return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e").replace("e+", "e")


def _bars(across: Log, up: Linear, exact: float, shares: list[tuple[float, float, float]]) -> list[Mark]:
    found = [
        _bar(_LEFT + 8, _LEFT + _EXACT, up, exact, "bar soft", f"exact: {_percent(exact)}"),
        marks.text(_LEFT + 4 + _EXACT / 2, _BOTTOM + 15, "exact", "tick", "middle"),
    ]
    for low, high, share in shares:
        title = f"{low:.2g} to {high:.2g}: {_percent(share)}"
        found.append(_bar(across(low) + 0.5, across(high) - 0.5, up, share, "bar", title))
    return found


def _bar(left: float, right: float, up: Linear, share: float, kind: str, title: str) -> Mark:
    return marks.rect(left, up(share), right - left, _BOTTOM - up(share), kind, title)


def _limit(across: Log, limit: float) -> list[Mark]:
    x = across(limit)
    return [
        marks.line(x, _TOP, x, _BOTTOM, "limit", f"limit {limit:g}"),
        marks.text(x - 4, _TOP - 4, f"limit {limit:g}", "", "end"),
    ]


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _told(row: Mapping[str, Any], exact: float, shares: list[tuple[float, float, float]], total: int) -> str:
    parts = [f"{grouped(total)} values, {_percent(exact)} of them without error"]
    passed = exact
    for _, high, share in shares:
        passed += share
        if passed >= 0.5 > passed - share:
            parts.append(f"half of all errors are below {high:.2g}")
    if row.get("max_abs") is not None:
        parts.append(f"the largest is {row['max_abs']:.3g}")
    return "; ".join(parts) + "."


def _table(anchor: str, name: str, exact: int, bins: list[tuple[float, float, int]], total: int) -> Table:
    rows = [Row("none", (grouped(exact), _percent(exact / total)))] if exact else []
    rows += [
        Row(f"{low:.3g} to {high:.3g}", (grouped(count), _percent(count / total)))
        for low, high, count in bins
    ]
    columns = (Column("values"), Column("share"))
    caption = f"Values of output '{name}' by their absolute error"
    return Table(f"{anchor}-numbers", caption, "error", columns, tuple(rows))
