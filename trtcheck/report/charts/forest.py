"""How much times changed, with bounds, against the limit and what stored sessions did among themselves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trtcheck.report.charts import axes, marks
from trtcheck.report.charts.chart import Chart, Key
from trtcheck.report.charts.marks import Mark
from trtcheck.report.charts.scales import Linear
from trtcheck.report.view import formats
from trtcheck.report.view.statuses import Status
from trtcheck.report.view.time_tables import figure_name, standing

WIDTH = 580
MOST_ROWS = 20
_LEFT, _RIGHT, _TOP, _ROW = 198, WIDTH - 112, 16, 28
_SHAPES = {"pass": 0, "fail": 1, "inconclusive": 2}
"""By verdict: the series whose shape its point has."""
_REACH = 5.0
"""The picture ends at this many times the largest change or limit: bounds may be anywhere beyond."""


@dataclass(frozen=True)
class _Row:
    """One comparison: its name, its verdict, and the changes of time that are drawn, as fractions of 1."""

    name: str
    status: Status
    effect: float
    low: float
    high: float
    tolerance: float
    detectable: float | None
    stored: tuple[float, ...]


def of_items(items: Sequence[Mapping[str, Any]], anchor: str, numbers: str) -> tuple[Chart, ...]:
    """Pictures of what was held against approved times, and against rivals: none where nothing was.

    Args:
        items: Latency items of an engine as the report's document has them, by batch size.
        anchor: Beginning of the pictures' ids.
        numbers: Id of the table that has the numbers.
    """
    every = [(item, row) for item in items for row in item["judged"] if row["effect"] is not None]
    against = {
        "what was approved": [_row(*pair) for pair in every if pair[1]["what"] != "faster_than"],
        "the engine that must be slower": [_row(*pair) for pair in every if pair[1]["what"] == "faster_than"],
    }
    return tuple(
        _chart(f"{anchor}-{number}", what, rows, numbers)
        for number, (what, rows) in enumerate(against.items(), start=1)
        if rows
    )


def _row(item: Mapping[str, Any], row: Mapping[str, Any]) -> _Row:
    effect = row["effect"]
    return _Row(
        name=f"batch {item['batch']}: {figure_name(row)}",
        status=standing(item, row)[0],
        effect=effect,
        low=effect if row["low"] is None else row["low"],
        high=effect if row["high"] is None else row["high"],
        tolerance=row["tolerance"],
        detectable=row["detectable"],
        stored=_stored(item, row),
    )


def _stored(item: Mapping[str, Any], row: Mapping[str, Any]) -> tuple[float, ...]:
    """By how much each stored session was off the middle of all, in the figure that was compared.

    Stored ratios to the reference are the median's alone; beside times of the same rounds they tell more than
    absolute times, which move with the machine.
    """
    sessions = item["latency_baseline"].get("stored") or ()
    ratios = [session["ratio"] for session in sessions if session["ratio"] is not None]
    if row["what"] == "median" and row["rule"] != "absolute" and len(ratios) > 1:
        return _off(ratios)
    if row["rule"] == "ratio" or row["what"] not in ("median", "p95", "throughput"):
        return ()
    if row["what"] == "throughput":
        return _off([1 / session["throughput"] for session in sessions])
    return _off([session[f"{row['what']}_ms"] for session in sessions])


def _off(times: Sequence[float]) -> tuple[float, ...]:
    """Changes from the geometric mean, which is what sessions are compared with; one alone says nothing."""
    if len(times) < 2:
        return ()
    logs = [math.log(time) for time in times]
    middle = sum(logs) / len(logs)
    return tuple(math.exp(log - middle) - 1 for log in logs)


def _chart(anchor: str, what: str, rows: Sequence[_Row], numbers: str) -> Chart:
    worst = sorted(rows, key=lambda row: (row.status.rank, -row.effect))[:MOST_ROWS]
    shown = [row for row in rows if row in worst][:MOST_ROWS]
    across = _scale(shown)
    bottom = _TOP + _ROW * len(shown) + 4
    found: list[Mark] = [
        *axes.below(across, _TOP, bottom, "change of time, + is slower", _percent),
        marks.line(across(0), _TOP, across(0), bottom, "axis"),
    ]
    for number, row in enumerate(shown):
        found += _drawn(row, across, _TOP + _ROW * (number + 0.5))
    return Chart(
        anchor=anchor,
        title=f"Change of time against {what}",
        description=_told(rows, len(shown)),
        width=WIDTH,
        height=int(bottom) + 40,
        marks=tuple(found),
        legend=_legend(shown),
        numbers=numbers,
    )


def _scale(rows: Sequence[_Row]) -> Linear:
    """Holds all changes and limits; bounds as far as these are not lost beside them."""
    core = [value for row in rows for value in (row.effect, row.tolerance)]
    reach = _REACH * max(*map(abs, core), 1e-3)
    wide = [value for row in rows for value in (row.low, row.high, *row.stored)]
    wide += [row.detectable for row in rows if row.detectable is not None]
    held = (min(max(value, -reach), reach) for value in wide)
    return Linear.around([*core, *held], _LEFT, _RIGHT, zero=True, least=0.01)


def _drawn(row: _Row, across: Linear, y: float) -> list[Mark]:
    """Name, stored sessions, what would have failed, limit, bounds, change and verdict of one row."""
    found = [marks.text(8, y + 4, marks.fitted(row.name, _LEFT - 18), "label")]
    if row.detectable is not None:
        start, end = across(0), across(row.detectable)
        told = f"{formats.change(row.detectable)} would have failed"
        found.append(
            marks.polyline([(start, y + 5), (start, y + 9), (end, y + 9), (end, y + 5)], "bracket", told)
        )
    found += [marks.line(across(value), y + 3, across(value), y + 11, "session") for value in row.stored]
    limit = across(row.tolerance)
    found.append(
        marks.line(limit, y - 11, limit, y + 11, "limit", f"limit {formats.change(row.tolerance)}")
    )  # fmt: skip
    low, high = across(row.low), across(row.high)
    found.append(marks.line(low, y, high, y, "whisker"))
    # An end beyond the picture has no stop.
    inside = (end for end in (row.low, row.high) if across.low <= end <= across.high)
    found += [marks.line(across(end), y - 4, across(end), y + 4, "whisker") for end in inside]
    word = row.status.word
    told = f"{formats.change(row.effect)}, {formats.change(row.low)} to {formats.change(row.high)}: {word}"
    found.append(marks.point(across(row.effect), y, _SHAPES.get(word, 0), word, told, size=5.5))
    found.append(marks.text(_RIGHT + 10, y + 4, f"{row.status.shape} {word}", f"strong verdict {word}"))
    return found


def _legend(rows: Sequence[_Row]) -> tuple[Key, ...]:
    found = [
        Key(marks.line(-11, 0, 11, 0, "whisker"), "one-sided bounds"),
        Key(marks.line(0, -8, 0, 8, "limit"), "limit"),
    ]
    if any(row.detectable is not None for row in rows):
        bracket = marks.polyline([(-10, 0), (-10, 4), (10, 4), (10, 0)], "bracket")
        found.append(Key(bracket, "smallest slowdown that would have failed (power .8)"))
    if any(row.stored for row in rows):
        found.append(
            Key(marks.line(0, -4, 0, 4, "session"), "stored sessions, each against the middle of all")
        )  # fmt: skip
    return tuple(found)


def _told(rows: Sequence[_Row], shown: int) -> str:
    ordered = sorted(rows, key=lambda row: (row.status.rank, -row.effect))
    parts = [
        f"{row.name}: {formats.change(row.effect)} ({formats.change(row.low)} to {formats.change(row.high)}, "
        f"limit {formats.change(row.tolerance)}): {row.status.word}"
        for row in ordered[:4]
    ]
    if len(rows) > 4:
        parts.append(f"{len(rows) - 4} more in the table")
    if shown < len(rows):
        parts.append(f"{len(rows) - shown} of them are not drawn")
    return "; ".join(parts) + "."


def _percent(value: float) -> str:
    sign = "+" if value > 0 else "\N{MINUS SIGN}" if value < 0 else ""
    return f"{sign}{abs(100 * value):.6g} %"
