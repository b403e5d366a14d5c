"""The tables of the check ``latency``: times, what they were held against, and what was approved."""

from __future__ import annotations

from collections.abc import Sequence

from trtcheck import names
from trtcheck.report import speeds
from trtcheck.report.view import formats
from trtcheck.report.view.records import Record
from trtcheck.report.view.statuses import STATUSES, Status
from trtcheck.report.view.tables import Column, Row, Table


def _name(item: Record) -> str:
    return f"batch {item['batch']}"


def _ms(value: float | None) -> str | None:
    return None if value is None else names.significant(value)


def speedup(found: Record | speeds.Faster | None) -> str | None:
    """A speed-up and its interval: ``2.31x (2.28 to 2.34)``."""
    if found is None:
        return None
    faster = found if isinstance(found, speeds.Faster) else speeds.Faster(**found, by="")
    if faster.low is None or faster.high is None:
        return f"{speeds.times(faster.ratio)}x"
    return f"{speeds.times(faster.ratio)}x ({speeds.times(faster.low)} to {speeds.times(faster.high)})"


def figures(items: Sequence[Record]) -> Table:
    """Times of a query, throughput, energy and speed-up of every batch size."""
    percentiles = ("p90", "p95", "p99")
    columns = (
        Column("median", hint="of a query, in ms"),
        *(Column(name, hint=_INDICATIVE if name == "p99" else "") for name in percentiles),
        Column("spread", hint="standard deviation of single queries, in ms"),
        Column("images/s"),
        Column("mJ/image"),
        Column("against the reference", hint="speed-up and its interval; above 1 the engine is faster"),
    )

    def row(item: Record) -> Row:
        figures = item["latency"]
        marks = {name: "~ " if name in figures["indicative"] else "" for name in percentiles}
        cells = (
            _ms(figures["median_ms"]),
            *(f"{marks[name]}{_ms(figures[f'{name}_ms'])}" for name in percentiles),
            names.significant(figures["stddev_ms"], 2),
            names.significant(item["throughput"]),
            _ms(item["energy_mj"]),
            speedup(item["speedups"].get(speeds.REFERENCE)),
        )
        return Row(_name(item), cells)

    caption = "Time of a query, throughput and energy by batch size"
    return Table("latency-figures", caption, "batch size", columns, tuple(map(row, items)))


_INDICATIVE = (
    "~ is indicative: fewer queries than MLPerf asks for (24 576 for p90, 57 344 for p95, 270 336 for p99)"
)


def beside(items: Sequence[Record]) -> Table:
    """What was timed in the same rounds, and what was missing there."""
    columns = (
        Column("timed beside it", text=True),
        Column("median", hint="of a query, in ms"),
        Column("p95"),
        Column("images/s"),
        Column("the engine against it", hint="speed-up and its interval; above 1 the engine is faster"),
    )
    rows = []
    for item in items:
        for name, figures in item["contestants"].items():
            cells = (
                figures.get("shown") or name,
                _ms(figures["median_ms"]),
                _ms(figures["p95_ms"]),
                names.significant(figures["throughput"]),
                speedup(item["speedups"].get(name)),
            )
            rows.append(Row(_name(item), cells))
        rows += [
            Row(_name(item), (f"{name}: took no part", None, None, None, None), detail=why)
            for name, why in item["absent"].items()
        ]
    caption = "What was timed in the same rounds as the engine"
    return Table("latency-beside", caption, "batch size", columns, tuple(rows))


_RULES = {
    "interleaved": "same rounds",
    "ratio": "stored ratios to the reference",
    "absolute": "stored times",
    "none": "nothing to compare with",
}


def judged(items: Sequence[Record]) -> Table:
    """What was held against what was approved, or against a rival."""
    columns = (
        Column("verdict", text=True),
        Column("figure", text=True),
        Column("compared by", text=True),
        Column("change", hint="of time, + is slower"),
        Column("its bounds", hint="each one-sided"),
        Column("limit"),
        Column("would have failed", hint="smallest slowdown found with power .8"),
        Column("rounds"),
        Column("sessions", hint="stored ones that counted"),
    )
    rows = tuple(_judged_row(item, row) for item in items for row in item["judged"])
    levels = {names.confidence(1 - row["alpha"]) for item in items for row in item["judged"]}
    level = f", bounds at {levels.pop()}" if len(levels) == 1 else ""
    return Table("latency-judged", f"Changes of time{level}", "batch size", columns, rows)


def standing(item: Record, row: Record) -> tuple[Status, str]:
    """The verdict of a comparison and its reason, where the state of the machine leaves it one."""
    status = STATUSES[row["verdict"]]
    if item["health"]["reasons"] and row["verdict"] != "inconclusive":
        # What such times say by themselves must not pass for a verdict.
        return STATUSES["inconclusive"], f"{status.word} by itself, but the times do not count"
    return status, row["reason"]


def figure_name(row: Record) -> str:
    """The figure that a comparison is about, and whether it counts."""
    figure = row["what"] if row["what"] != "faster_than" else f"against {row.get('against')}"
    return figure if row["gated"] or row["verdict"] == "fail" else f"{figure} (told only)"


def _judged_row(item: Record, row: Record) -> Row:
    counts = row["gated"] or row["verdict"] == "fail"
    status, reason = standing(item, row)
    bounds = None
    if row["low"] is not None and row["high"] is not None:
        bounds = f"{formats.change(row['low'])} to {formats.change(row['high'])}"
    cells = (
        status,
        figure_name(row),
        _RULES[row["rule"]],
        formats.change(row["effect"]),
        bounds,
        formats.change(row["tolerance"]),
        formats.change(row["detectable"]),
        formats.count(row["rounds"]),
        formats.count(row["sessions"]),
    )
    coloured = status if counts and status != STATUSES["pass"] else None
    return Row(_name(item), cells, coloured, reason)


def limits(items: Sequence[Record]) -> Table:
    """What was held against a limit of its own."""
    columns = (
        Column("verdict", text=True),
        Column("gate", text=True),
        Column("limit"),
        Column("measured"),
        Column("its bounds", hint="each one-sided; without bounds figure and limit are compared plainly"),
    )
    rows = []
    for item in items:
        for row in item["limits"]:
            status, reason = standing(item, {**row, "reason": ""})
            bounds = None
            if row["low"] is not None and row["high"] is not None:
                bounds = f"{_ms(row['low'])} to {_ms(row['high'])}"
            cells = (status, row["gate"], format(row["limit"], "g"), _ms(row["measured"]), bounds)
            rows.append(Row(_name(item), cells, None if status.word == "pass" else status, reason))
    return Table("latency-limits", "Limits of times", "batch size", columns, tuple(rows))


def approved(items: Sequence[Record]) -> Table:
    """How the approved times stand."""
    columns = (Column("status", text=True), Column("stored sessions"))
    rows = []
    for item in items:
        found = item["latency_baseline"]
        path, message = found["path"] or "", found["message"] or ""
        told = message if path in message else f"{path}: {message}"
        rows.append(Row(_name(item), (found["status"], formats.count(found["sessions"])), detail=told))
    return Table("latency-approved", "Approved times", "batch size", columns, tuple(rows))
