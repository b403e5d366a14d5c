"""The jobs that a report of several was made of."""

from __future__ import annotations

from trtcheck.report.view.formats import backend_name, figure, with_unit
from trtcheck.report.view.records import Record
from trtcheck.report.view.statuses import STATUSES
from trtcheck.report.view.tables import Column, Row, Table


def of_document(document: Record) -> Table | None:
    """The jobs; None where the report is of one."""
    jobs = document.get("jobs")
    if not jobs:
        return None
    columns = (
        Column("verdict", text=True), Column("backend", text=True), Column("device", text=True),
        Column("started", text=True), Column("duration"), Column("report", text=True),
        Column("command", text=True),
    )  # fmt: skip
    return Table("jobs", "The jobs of this report", "job", columns, tuple(map(_row, jobs)))


def _row(job: Record) -> Row:
    backend, run = job["environment"].get("backend") or {}, job["run"]
    cells = (
        STATUSES[job["verdict"]],
        backend_name(backend) or None,
        backend.get("device"),
        run.get("started"),
        with_unit(figure(run.get("seconds"), ".1f"), "s"),
        job["source"],
        run.get("command"),
    )
    return Row(job["name"], cells)
