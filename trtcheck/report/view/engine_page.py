"""The page of one engine: its verdicts, and all that was measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from trtcheck.report.charts.chart import Chart
from trtcheck.report.view import (
    batches,
    calibrated,
    class_list,
    facts,
    gallery,
    gates,
    history,
    judged,
    measured,
    room,
    timed,
)
from trtcheck.report.view.batches import Batches
from trtcheck.report.view.calibrated import Calibration
from trtcheck.report.view.class_list import ClassList
from trtcheck.report.view.facts import Fact
from trtcheck.report.view.findings import Finding, findings
from trtcheck.report.view.formats import shown_engine
from trtcheck.report.view.gallery import Gallery
from trtcheck.report.view.history import History
from trtcheck.report.view.links import page_names
from trtcheck.report.view.matrices import Matrix, MatrixPicture, matrices, matrix_pictures
from trtcheck.report.view.records import PER_CLASS, Pair, Record, own_items, pair, worst_first
from trtcheck.report.view.room import Room
from trtcheck.report.view.sentences import engine_headline
from trtcheck.report.view.statuses import STATUSES, WARNING, Status
from trtcheck.report.view.tables import Table
from trtcheck.report.view.timed import Latency


@dataclass(frozen=True)
class EngineView:
    """The page of one engine; what was not measured is empty or None."""

    page: str
    model: str
    engine: str
    status: Status
    headline: str
    numerics: str | None
    facts: tuple[Fact, ...]
    overflow: str | None
    problems: tuple[str, ...]
    notes: tuple[str, ...]
    findings: tuple[Finding, ...]
    gates: Table | None
    dumbbells: tuple[Chart, ...]
    classes: tuple[Table, ...]
    listed: ClassList | None
    accuracy: tuple[Table, ...]
    matrices: tuple[Matrix, ...]
    pictures: tuple[MatrixPicture, ...]
    confusions: tuple[Table, ...]
    flips: tuple[Fact, ...]
    gallery: Gallery | None
    calibration: Calibration | None
    outputs: Table | None
    errors: tuple[Chart, ...]
    agreement: tuple[Fact, ...]
    batches: Batches | None
    latency: Latency | None
    history: History | None
    lowered: tuple[Fact, ...]
    beside: tuple[Fact, ...]
    kept: Table | None
    baseline: tuple[Fact, ...]
    compared: tuple[Table, ...]
    warning: Status = WARNING

    @property
    def contents(self) -> tuple[tuple[str, str], ...]:
        """The sections that the page has, by their id."""
        found = (
            ("held", "Gates", self.gates),
            ("classes", "Classes", self.classes),
            ("confusion", "Confusion", self.matrices or self.pictures or self.confusions),
            ("flips", "Changed answers", self.flips),
            ("accuracy", "Accuracy", self.accuracy),
            ("outputs", "Outputs", self.outputs or self.agreement or self.problems),
            ("batch-invariance", "Batch invariance", self.batches),
            ("latency", "Latency", self.latency),
            ("history", "History", self.history),
            ("calibration", "Calibration", self.calibration),
            ("lowered", "How it was made", self.lowered or self.kept),
            ("baseline", "Approved baseline", self.baseline or self.compared),
        )
        return tuple((anchor, name) for anchor, name, there in found if there)


def engines(document: Record) -> tuple[EngineView, ...]:
    """The pages of the engines of *document*."""
    pages = page_names(document)
    return tuple(_engine(document, engine, pages) for engine in document["engines"])


def _engine(document: Record, engine: Record, pages: Mapping[Pair, str]) -> EngineView:
    items, space = own_items(document, engine), room.of_report(len(pages))
    ordered = worst_first(items)
    # What several checks have in common is said once.
    told = Counter(note for item in ordered for note in item["notes"])
    drawn = matrices(engine)
    return EngineView(
        page=pages[pair(engine)],
        model=engine["model"],
        engine=shown_engine(engine["engine"]),
        status=STATUSES[engine["verdict"]],
        headline=engine_headline(engine, ordered),
        numerics=engine["numerics"],
        facts=facts.of_engine(engine),
        overflow=engine["overflow"],
        problems=tuple(engine["problems"]),
        notes=tuple(note for note in engine["notes"] if told[note] != 1),
        findings=tuple(
            replace(finding, notes=tuple(note for note in finding.notes if told[note] == 1))
            for finding in findings(ordered, pages)
        ),
        gates=gates.of_items(ordered),
        dumbbells=_dumbbells(ordered, engine, space),
        classes=_class_tables(ordered, engine, space),
        listed=class_list.of_engine(engine, "recall-classes", space),
        accuracy=_accuracy_tables(ordered, engine),
        matrices=drawn,
        pictures=matrix_pictures(engine),
        confusions=measured.confusion_tables(engine, beside_matrix=bool(drawn)),
        flips=facts.of_flips(engine, ordered),
        gallery=gallery.of_engine(engine, space),
        calibration=calibrated.of_items(ordered),
        outputs=measured.outputs_table(engine, ordered),
        errors=measured.histograms(engine, ordered),
        agreement=facts.of_agreement(engine["agreement"]),
        batches=batches.of_items(ordered),
        latency=timed.of_items(items, space),
        history=history.of_engine(document, engine, space),
        lowered=facts.of_build(engine),
        beside=facts.of_beside(engine.get("beside")),
        kept=measured.kept_table(engine),
        baseline=facts.of_baseline(engine["baseline"]),
        compared=judged.baseline_tables(ordered, space),
    )


def _class_tables(items: Sequence[Record], engine: Record, space: Room) -> tuple[Table, ...]:
    """Recall and precision of every class; without a check's verdicts the plain figures."""
    tables: list[Table] = []
    for check in PER_CLASS:
        found = judged.class_tables(items, check, space)
        if not found and engine["classes"]:
            found = (measured.class_table(engine["classes"], check, space),)
        tables += found
    return tuple(tables)


def _dumbbells(items: Sequence[Record], engine: Record, space: Room) -> tuple[Chart, ...]:
    """Recall and precision before and after, as pictures."""
    drawn = tuple(chart for check in PER_CLASS for chart in judged.dumbbells(items, check, space))
    return drawn or measured.dumbbells(engine["classes"], space)


def _accuracy_tables(items: Sequence[Record], engine: Record) -> tuple[Table, ...]:
    accuracy = judged.accuracy_table(items)
    averages = measured.averages_table(engine, with_accuracy=accuracy is None)
    return tuple(table for table in (accuracy, averages) if table is not None)
