"""The first page: every model and engine, and what was found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trtcheck.report import false_alarm
from trtcheck.report.charts.chart import Chart
from trtcheck.report.view import facts, formats, history, jobs, speed_table, tradeoff
from trtcheck.report.view.changes import SinceApproval, since_approval
from trtcheck.report.view.facts import Fact
from trtcheck.report.view.findings import Finding, Warned, findings, warnings
from trtcheck.report.view.links import check_anchor, page_names
from trtcheck.report.view.records import (
    CHECKS,
    Pair,
    Record,
    fall,
    own_items,
    pair,
    worst_first,
)
from trtcheck.report.view.sentences import headline, summary
from trtcheck.report.view.statuses import STATUSES, WARNING, Status
from trtcheck.report.view.tables import Table
from trtcheck.report.view.tradeoff import Tradeoff


@dataclass(frozen=True)
class Cell:
    """A check's verdict in the table of all engines, and what it keeps quiet.

    Attributes:
        status: The verdict.
        href: The place where it is explained.
        unsure: Inconclusive classes of an item that passes.
        warnings: Warnings of its items.
    """

    status: Status
    href: str
    unsure: int
    warnings: int


@dataclass(frozen=True)
class EngineRow:
    """One engine in the table of all engines; *drop* is its largest fall of a class's recall in points."""

    engine: str
    page: str
    status: Status
    cells: tuple[Cell | None, ...]
    numerics: str | None
    before: str | None
    after: str | None
    drop: str | None
    dropped: str | None
    flips: str | None
    images: str | None


@dataclass(frozen=True)
class ModelView:
    """A model: its verdict, its engines (worst first) and what it was tested with."""

    anchor: str
    name: str
    status: Status
    rows: tuple[EngineRow, ...]
    speed: Table | None
    scaling: tuple[Chart, ...]
    tradeoff: Tradeoff | None
    facts: tuple[Fact, ...]
    gates: tuple[Fact, ...]


@dataclass(frozen=True)
class IndexView:
    """The first page."""

    headline: str
    status: Status
    summary: str
    chance: str
    approval: SinceApproval | None
    checks: tuple[str, ...]
    models: tuple[ModelView, ...]
    problems: tuple[Finding, ...]
    unsure: tuple[Finding, ...]
    warnings: tuple[Warned, ...]
    skipped: tuple[Finding, ...]
    history: Table | None
    jobs: Table | None
    differences: tuple[str, ...]
    environment: tuple[Fact, ...]
    run: tuple[Fact, ...]
    warning: Status = WARNING


def index(document: Record) -> IndexView:
    """The first page of *document*."""
    items = worst_first(document["items"])
    pages = page_names(document)
    made = {item["check"] for item in items}
    checks = tuple(check for check in CHECKS if check in made)
    models = sorted(document["models"], key=lambda model: (STATUSES[model["verdict"]].rank, model["name"]))

    overflows = {pair(engine): engine["overflow"] for engine in document["engines"] if engine["overflow"]}

    def found(*verdicts: str) -> tuple[Finding, ...]:
        return findings(items, pages, verdicts, overflows)

    return IndexView(
        headline=headline(document),
        status=STATUSES[document["verdict"]],
        summary=summary(document),
        chance=false_alarm.sentence(document["false_alarm"]),
        approval=since_approval(document, pages),
        checks=checks,
        models=tuple(
            _model(model, f"model-{number}", document, pages, checks)
            for number, model in enumerate(models, start=1)
        ),
        problems=found("error", "fail"),
        unsure=found("inconclusive"),
        warnings=warnings(items, pages),
        skipped=found("skipped"),
        history=history.of_index(document),
        jobs=jobs.of_document(document),
        differences=tuple(document.get("differences") or ()),
        environment=(
            *facts.of_environment({} if document.get("jobs") else document["environment"] or {}),
            *facts.of_all_beside(document["engines"]),
        ),
        run=facts.of_run(document["run"] or {}),
    )


def _model(
    model: Record, anchor: str, document: Record, pages: Mapping[Pair, str], checks: Sequence[str]
) -> ModelView:
    rows = [
        _engine_row(engine, own_items(document, engine), pages[pair(engine)], checks)
        for engine in document["engines"]
        if engine["model"] == model["name"]
    ]
    return ModelView(
        anchor=anchor,
        name=model["name"],
        status=STATUSES[model["verdict"]],
        rows=tuple(sorted(rows, key=lambda row: (row.status.rank, row.engine))),
        speed=speed_table.of_model(model["name"], anchor, document["items"]),
        scaling=speed_table.charts_of_model(model["name"], anchor, document),
        tradeoff=tradeoff.of_model(model["name"], anchor, document),
        facts=facts.of_model(model),
        gates=facts.of_gates(model["gates"] or {}),
    )


def _engine_row(engine: Record, items: Sequence[Record], page: str, checks: Sequence[str]) -> EngineRow:
    def cell(check: str) -> Cell | None:
        own = [item for item in items if item["check"] == check]
        if not own:
            return None
        return Cell(
            status=min((STATUSES[item["verdict"]] for item in own), key=lambda status: status.rank),
            href=f"{page}#{check_anchor(check)}",
            unsure=sum(map(_unsure_classes, own)),
            warnings=len({text for item in own for text in item["warnings"]}),
        )

    accuracy, flips = engine["accuracy"] or {}, engine["flips"]
    drop, dropped = _largest_fall(engine["classes"])
    return EngineRow(
        engine=formats.shown_engine(engine["engine"]),
        page=page,
        status=STATUSES[engine["verdict"]],
        cells=tuple(cell(check) for check in checks),
        numerics=engine["numerics"],
        before=formats.share(accuracy.get("before")),
        after=formats.share(accuracy.get("after")),
        drop=formats.points(drop),
        dropped=dropped if drop is not None and drop > 0 else None,
        flips=None if flips is None else formats.grouped(flips["total"]),
        images=formats.count(engine["images"]),
    )


def _unsure_classes(item: Record) -> int:
    """How many classes are inconclusive in an item that passes."""
    rows = item.get("classes") or () if item["verdict"] == "pass" else ()
    return sum(row["verdict"] == "inconclusive" for row in rows)


def _largest_fall(classes: Sequence[Record]) -> tuple[float | None, str | None]:
    """The largest fall of a class's recall, as a fraction, and that class."""
    found = [
        (lost, row["name"])
        for row in classes
        if (lost := fall(row["before"]["recall"], row["after"]["recall"])) is not None
    ]
    return max(found, key=lambda fallen: fallen[0], default=(None, None))
