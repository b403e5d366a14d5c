"""The jobs that a report is made of: one, or those of which it was merged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

Record = Mapping[str, Any]
Pair = tuple[str, str]
"""A model and an engine."""

_NAMED = "engine_in_job"
_BY_ENGINE = ("contestants", "speedups", "round_medians_ms", "round_quantiles_ms", "absent")
"""Fields of an item that hold something for each engine, by name."""


@dataclass(frozen=True)
class Job:
    """What one job found, with its engines called as it called them.

    Attributes:
        source: What the folder of its report was called.
        environment: Of the job.
        run: Of the job.
        models: Entries of ``models``, of this job alone.
        engines: Entries of ``engines``.
        items: Entries of ``items``.
        runs: The runs of its history.
        unreadable: Files of its history that could not be read; None where it has no history.
    """

    source: str
    environment: Record
    run: Record
    models: Sequence[Record]
    engines: Sequence[Record]
    items: Sequence[Record]
    runs: Sequence[Record]
    unreadable: int | None


def pair(record: Record) -> Pair:
    """Model and engine of an engine's record."""
    return record["model"], record["engine"]


def jobs_of(document: Record, source: str) -> list[Job]:
    """The jobs of *document*, whose folder is called *source*."""
    kept = document.get("history") or {}
    runs = kept.get("runs") or ()
    if document.get("jobs"):
        return [_apart(document, entry, runs) for entry in document["jobs"]]
    return [
        Job(
            source, document["environment"] or {}, document["run"] or {}, document["models"],
            document["engines"], document["items"], runs, kept.get("unreadable"),
        )
    ]  # fmt: skip


def _apart(document: Record, entry: Record, runs: Sequence[Record]) -> Job:
    """The job *entry* of a merged *document*."""
    name = entry["name"]
    engines = [engine for engine in document["engines"] if engine["job"] == name]
    before = {pair(engine): engine[_NAMED] for engine in engines}
    found = Job(
        entry["source"], entry["environment"], entry["run"], entry["models"], engines,
        [item for item in document["items"] if item["job"] == name],
        _own_runs(runs, before, entry["history"] or {}), (entry["history"] or {}).get("unreadable"),
    )  # fmt: skip
    renamed = _renamed(found, before)
    return replace(
        renamed,
        models=entry["models"],
        engines=[_without(engine) for engine in renamed.engines],
        items=[_without(item) for item in renamed.items],
    )


def _own_runs(runs: Sequence[Record], engines: Mapping[Pair, str], kept: Record) -> list[Record]:
    """Those of *runs* that the job had *kept*, with its own *engines* alone."""
    own = set(kept.get("runs") or ())
    return [
        {**run, "engines": [engine for engine in run["engines"] if pair(engine) in engines]}
        for run in runs
        if run["id"] in own
    ]


def _without(record: Record) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key not in ("job", _NAMED)}


def called(job: Job, name: str, labels: Mapping[Pair, str]) -> Job:
    """*job* as a merged report has it: its engines are called by *labels*, and all say that they are its.

    Args:
        job: The job.
        name: What it is called there.
        labels: The new name of every engine.
    """
    marked = replace(
        job,
        engines=[{**engine, "job": name, _NAMED: engine["engine"]} for engine in job.engines],
        items=[{**item, "job": name} for item in job.items],
    )
    return _renamed(marked, labels)


def _renamed(job: Job, labels: Mapping[Pair, str]) -> Job:
    """*job* with all that names an engine by its new name."""

    def new(model: str, engine: str) -> str:
        return labels.get((model, engine), engine)

    def of_engine(record: Record) -> dict[str, Any]:
        return {**record, "engine": new(*pair(record))}

    def of_item(record: Record) -> dict[str, Any]:
        fields = {
            field: {new(record["model"], name): value for name, value in record[field].items()}
            for field in _BY_ENGINE
            if isinstance(record.get(field), Mapping)
        }
        return {**of_engine(record), **fields}

    return replace(
        job,
        models=[
            {**own, "engines": [new(own["name"], name) for name in own["engines"]]} for own in job.models
        ],
        engines=[of_engine(own) for own in job.engines],
        items=[of_item(own) for own in job.items],
        runs=[{**run, "engines": [of_engine(own) for own in run["engines"]]} for run in job.runs],
    )
