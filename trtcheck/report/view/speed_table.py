"""Time and throughput of all engines of a model against batch size, on the first page."""

from __future__ import annotations

from collections.abc import Sequence

from trtcheck import names
from trtcheck.latency.measurement import APPROVED
from trtcheck.report import speeds
from trtcheck.report.charts import batches
from trtcheck.report.charts.chart import Chart
from trtcheck.report.view import formats
from trtcheck.report.view.records import Record
from trtcheck.report.view.statuses import STATUSES, WARNING
from trtcheck.report.view.tables import Column, Row, Table
from trtcheck.report.view.time_tables import speedup

MANY_MODELS = 12
"""Of more models the first page has the tables alone."""
MOST_PLACES = 3
"""Environments that have pictures."""


def of_model(model: str, anchor: str, items: Sequence[Record]) -> Table | None:
    """All engines of *model* at every batch size, the widest first; None where nothing was timed."""
    own = [item for item in items if item["model"] == model]
    every = sorted(speeds.timed(own), key=lambda item: (item["batch"], -_width(item), item["engine"]))
    if not every:
        return None
    rivals = _rivals(every)
    approved = any(APPROVED in item["speedups"] for item in every)
    columns = (
        Column("batch"),
        Column("verdict", text=True),
        Column("median", hint="of a query, in ms"),
        Column("p95", hint="likewise"),
        Column("images/s"),
        Column("mJ/image"),
        Column("against the reference", hint="speed-up and its interval; above 1 the engine is faster"),
        *([_APPROVED] if approved else []),
        *(Column(f"against {formats.shown_engine(name)}", hint=_hint(name, every)) for name in rivals),
    )
    rows = tuple(_row(item, every, rivals, approved=approved) for item in every)
    caption = f"{model}: time of a query and throughput by batch size and engine"
    return Table(_anchor(anchor), caption, "engine", columns, rows)


_APPROVED = Column("against the approved engine", hint="likewise, in the same rounds")


def _anchor(anchor: str) -> str:
    return f"{anchor}-speed"


def charts_of_model(model: str, anchor: str, document: Record) -> tuple[Chart, ...]:
    """Time and throughput against batch size, in pictures of their own for every environment.

    There are none in a report of many models, and none where there is but one batch size.
    """
    if len(document["models"]) > MANY_MODELS:
        return ()
    places: dict[str, list[Record]] = {}
    for item in speeds.timed([item for item in document["items"] if item["model"] == model]):
        places.setdefault(item["environment_digest"], []).append(item)
    ordered = sorted(places.values(), key=lambda own: -len(own))[:MOST_PLACES]
    return tuple(
        chart
        for number, own in enumerate(ordered, start=1)
        for chart in batches.of_items(
            sorted(own, key=lambda item: (-_width(item), item["engine"])),
            f"{anchor}-place-{number}",
            _anchor(anchor),
            _place(own[0]) if len(ordered) > 1 else "",
        )
    )


def _place(item: Record) -> str:
    """Where an item was timed, as far as other items may have been timed elsewhere."""
    found = item["environment"]
    return f"{found.get('backend', item['backend'])} on {found.get('device', 'an unknown device')}"


def _width(item: Record) -> int:
    width = speeds.width(item)
    return -1 if width is None else width


def _rivals(items: Sequence[Record]) -> list[str]:
    """Engines of a wider precision than another's, the widest first."""
    found = [other for item in items for other in speeds.wider(item, items)]
    ordered = sorted(found, key=lambda other: (-_width(other), other["engine"]))
    return list(dict.fromkeys(other["engine"] for other in ordered))


def _hint(name: str, items: Sequence[Record]) -> str:
    """How the ratios of a column were found."""
    ways = {
        speeds.faster(item, other).by
        for item in items
        for other in speeds.wider(item, items)
        if other["engine"] == name
    }
    return "speed-up, " + " or ".join(sorted(ways)) + "; ▲ slower"


def _row(item: Record, items: Sequence[Record], rivals: Sequence[str], *, approved: bool) -> Row:
    beside = {other["engine"]: speeds.faster(item, other) for other in speeds.wider(item, items)}
    status = STATUSES[item["verdict"]]
    slower = any(found.is_slower for found in beside.values())
    cells = (
        formats.grouped(item["batch"]),
        status,
        names.significant(item["latency"]["median_ms"]),
        names.significant(item["latency"]["p95_ms"]),
        names.significant(item["throughput"]),
        None if item["energy_mj"] is None else names.significant(item["energy_mj"]),
        speedup(item["speedups"].get(speeds.REFERENCE)),
        *([speedup(item["speedups"].get(APPROVED))] if approved else []),
        *(_against(beside.get(name)) for name in rivals),
    )
    coloured = status if item["verdict"] != "pass" else WARNING if slower else None
    return Row(formats.shown_engine(item["engine"]), cells, coloured)


def _against(found: speeds.Faster | None) -> str | None:
    told = speedup(found)
    return f"{told} ▲" if found is not None and found.is_slower else told
