"""How an engine went over the runs that were kept, and what those runs were."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from trtcheck.names import fraction, significant
from trtcheck.report.charts import trend
from trtcheck.report.charts.chart import Chart
from trtcheck.report.charts.trend import Series, Trend
from trtcheck.report.view import formats
from trtcheck.report.view.records import Record, fall
from trtcheck.report.view.room import Room
from trtcheck.report.view.statuses import STATUSES
from trtcheck.report.view.tables import Column, Row, Table, descending

MOST_BATCHES = 4
SHOWN_RUNS = 15
"""Runs of the table on the first page, the newest."""
SHOWN_CHANGES = 4


@dataclass(frozen=True)
class History:
    """How an engine went: a sentence, pictures, and their numbers."""

    sentence: str
    charts: tuple[Chart, ...]
    tables: tuple[Table, ...]


def of_engine(document: Record, engine: Record, room: Room) -> History | None:
    """The history of *engine*; None where none is kept."""
    kept = document.get("history")
    if not kept:
        return None
    runs = [(run, own) for run in kept["runs"] if (own := _own(run, engine)) is not None]
    if not runs:
        return None
    if len(runs) < 2:
        return History("This is the first run of this engine that is kept.", (), ())
    labels = tuple(_label(run) for run, _ in runs)
    days = {_started(run).date() for run, _ in runs}
    dates = tuple(_started(run).strftime("%Y-%m-%d" if len(days) > 1 else "%H:%M:%S") for run, _ in runs)
    changes = _changes(runs)
    classes = _chosen(engine, runs[-1][1], room.lines - 1)
    series = _answers(runs, classes)
    times = _times(runs)
    marked = tuple((number, "; ".join(what)) for number, what in enumerate(changes) if what)
    drawn = (
        trend.draw(
            Trend(
                "history-recall", "Recall and accuracy over runs", "recall, accuracy", labels, dates, series,
                marked, "history-numbers",
            ),
            fraction,
        ),
        trend.draw(
            Trend(
                "history-latency", "Median time of a query over runs", "median, in ms", labels, dates, times,
                marked, "history-times",
            ),
            significant,
        ),
    )  # fmt: skip
    shown = range(len(runs))[-room.runs :]
    tables = [
        _table(
            "history-numbers", "Recall and accuracy of the last runs", runs, shown, changes, series, fraction
        )
    ]
    if times:
        caption = "Median in ms of the last runs"
        tables.append(_table("history-times", caption, runs, shown, changes, times, significant))
    return History(_sentence(len(runs), kept), tuple(c for c in drawn if c is not None), tuple(tables))


def _own(run: Record, engine: Record) -> Record | None:
    same = (
        own for own in run["engines"] if (own["model"], own["engine"]) == (engine["model"], engine["engine"])
    )
    return next(same, None)


def _label(run: Record) -> str:
    """Date and, where it is known, commit of a run."""
    return f"{_started(run):%Y-%m-%d %H:%M}{_commit(run, ' ')}"


def _started(run: Record) -> datetime:
    return datetime.fromisoformat(run["started"]).astimezone(UTC)


def _commit(run: Record, before: str = "") -> str:
    return f"{before}{run['commit'][:7]}" if run.get("commit") else ""


def _chosen(engine: Record, newest: Record, most: int) -> list[str]:
    """The classes that are drawn: key classes, those that fell most, and those of lowest recall."""
    recall: Record = newest["recall"]
    key = [name for name in newest["key_classes"] if recall.get(name) is not None]
    before = {row["name"]: row["before"]["recall"] for row in engine["classes"] if row["name"] in recall}
    known = [name for name, value in recall.items() if value is not None]
    fallen = sorted(known, key=lambda name: descending(fall(before.get(name), recall[name])))
    lowest = sorted(known, key=lambda name: recall[name])
    return list(dict.fromkeys([*key, *fallen[:2], *lowest]))[:most]


def _answers(runs: Sequence[tuple[Record, Record]], classes: Sequence[str]) -> tuple[Series, ...]:
    failed = frozenset(n for n, (_, own) in enumerate(runs) if own["verdict"] in ("fail", "error"))
    breaks = frozenset(
        number
        for name in ("data", "labels")
        for number in _changed([own["digests"].get(name) for _, own in runs])
    )
    accuracy = Series("accuracy", tuple(own["accuracy"] for _, own in runs), failed, breaks)
    of_classes = (
        Series(f"recall of '{name}'", tuple(own["recall"].get(name) for _, own in runs), breaks=breaks)
        for name in classes
    )
    return tuple(s for s in (accuracy, *of_classes) if any(value is not None for value in s.values))


def _changed(values: Sequence[str | None]) -> dict[int, tuple[str, str]]:
    """The runs in which a value is another one than it was when it was last known, with both."""
    found, last = {}, None
    for number, value in enumerate(values):
        if value is None:
            continue  # a run that did not get that far changed nothing
        if last is not None and value != last:
            found[number] = (last, value)
        last = value
    return found


def _times(runs: Sequence[tuple[Record, Record]]) -> tuple[Series, ...]:
    batches = sorted({int(batch) for _, own in runs for batch in own["latency"]})[:MOST_BATCHES]
    found = []
    for batch in batches:
        timed = [own["latency"].get(str(batch)) for _, own in runs]
        unfit = frozenset(n for n, own in enumerate(timed) if own and not own["healthy"])
        breaks, last = set(), None
        for number, own in enumerate(timed):
            if own:
                if last is not None and own["environment"] != last:
                    breaks.add(number)
                last = own["environment"]
        values = tuple(own["median_ms"] if own else None for own in timed)
        found.append(Series(f"batch {batch}", values, unfit, frozenset(breaks)))
    return tuple(found)


def _changes(runs: Sequence[tuple[Record, Record]]) -> list[list[str]]:
    """What changed in each run against what was known before."""
    found: list[list[str]] = [[] for _ in runs]
    digests = [own["digests"] for _, own in runs]
    for digest, what in _FILES:
        for number in _changed([own.get(digest) for own in digests]):
            found[number].append(f"{what} changed")
    for number in _changed([own.get("lowered") for own in digests]):
        found[number] = found[number] or ["lowered model changed"]
    environment = _environment_changes([run["environment"] for run, _ in runs])
    return [[*files, *others] for files, others in zip(found, environment, strict=True)]


_FILES = (
    ("model", "model"),
    ("data", "evaluation data"),
    ("labels", "labels"),
    ("calibration", "calibration data"),
)


def _environment_changes(environments: Sequence[Record]) -> list[list[str]]:
    """What of the environment changed in each run; what a run did not know did not change."""
    found: list[list[str]] = [[] for _ in environments]
    for name in sorted({name for environment in environments for name in environment}):
        for number, (old, new) in _changed([own.get(name) for own in environments]).items():
            found[number].append(f"{name} {old} → {new}")
    return [
        texts if len(texts) <= SHOWN_CHANGES + 1
        else [*texts[:SHOWN_CHANGES], f"{len(texts) - SHOWN_CHANGES} more changes"]
        for texts in found
    ]  # fmt: skip


def _table(
    anchor: str, caption: str, runs: Sequence[tuple[Record, Record]], numbers: Sequence[int],
    changes: Sequence[Sequence[str]], series: Sequence[Series], shown: Callable[[float], str],
) -> Table:  # fmt: skip
    """What the *series* were in the runs of these *numbers*, newest first."""
    rows = []
    for number in reversed(numbers):
        run, own = runs[number]
        values = (s.values[number] for s in series)
        cells = (
            STATUSES[own["verdict"]],
            *(None if value is None else shown(value) for value in values),
        )
        detail = "; ".join(changes[number])
        rows.append(Row(_label(run), cells, detail=detail))
    columns = (Column("verdict", text=True), *(Column(s.name) for s in series))
    return Table(anchor, f"{caption}, newest first", "run", columns, tuple(rows))


def _sentence(count: int, kept: Record) -> str:
    lost = kept["unreadable"]
    files = formats.number_of(lost, "file of the history", "files of the history")
    damaged = f"; {files} could not be read" if lost else ""
    return (
        f"{formats.number_of(count, 'run', 'runs')} of this engine are drawn{damaged}. A hollow mark of "
        "accuracy is a run in which the engine failed, one of times a run in which they do not count; a "
        "dashed line is a change of something else."
    )


def _all_changes(runs: Sequence[Record]) -> list[list[str]]:
    """What changed in each run: its environment, and the files of any engine, with its model's name."""
    found = _environment_changes([run["environment"] for run in runs])
    for pair in sorted({(own["model"], own["engine"]) for run in runs for own in run["engines"]}):
        owns = [
            next((own for own in run["engines"] if (own["model"], own["engine"]) == pair), None)
            for run in runs
        ]
        for digest, what in _FILES:
            for number in _changed([own["digests"].get(digest) if own else None for own in owns]):
                told = f"{what} of {pair[0]} changed"
                if told not in found[number]:
                    found[number].append(told)
    return found


def of_index(document: Record) -> Table | None:
    """The last runs; None where no history is kept, or this is its first run."""
    kept = document.get("history")
    if not kept or len(kept["runs"]) < 2:
        return None
    rows = []
    runs = kept["runs"]
    changes = _all_changes(runs)
    for number in reversed(range(max(0, len(runs) - SHOWN_RUNS), len(runs))):
        run = runs[number]
        failed = [f"{own['model']} {formats.shown_engine(own['engine'])}" for own in run["engines"]
                  if own["verdict"] in ("fail", "error")]  # fmt: skip
        cells = (
            _commit(run) or None,
            STATUSES[run["verdict"]],
            f"{', '.join(failed[:3])}{f' and {len(failed) - 3} more' if len(failed) > 3 else ''}" or "none",
        )
        rows.append(Row(f"{_started(run):%Y-%m-%d %H:%M}", cells, detail="; ".join(changes[number])))
    columns = (Column("commit", text=True), Column("verdict", text=True), Column("failed", text=True))
    lost = kept["unreadable"]
    damaged = f"; {formats.number_of(lost, 'file', 'files')} could not be read" if lost else ""
    caption = f"The last runs, newest first, in UTC, with what changed{damaged}"
    return Table("runs", caption, "run", columns, tuple(rows))
