"""One report of several: the jobs of a CI matrix, each with its own engines, GPUs or models.

Reports that are merged already are taken apart into their jobs first. So it is all the same in which order
jobs are merged, and whether at once or one after another.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from trtcheck import digests
from trtcheck.case import Verdict, worst
from trtcheck.names import listed
from trtcheck.report import document as documents
from trtcheck.report import false_alarm, history
from trtcheck.report.jobs import Job, Pair, Record, called, jobs_of, pair


@dataclass(frozen=True)
class Part:
    """A report to be merged.

    Attributes:
        source: What its folder is called.
        document: What its report.json holds.
    """

    source: str
    document: Record


def merged(parts: Sequence[Part]) -> dict[str, Any]:
    """The report of all *parts* together.

    An engine that several jobs hold for one model is kept once for each, told apart by the job:
    ``int8 @ NVIDIA L4``. What the jobs used of one model that was not the same is told in ``differences``.

    Args:
        parts: Two or more, in any order.
    """
    jobs = sorted((job for part in parts for job in jobs_of(part.document, part.source)), key=_order)
    names = _names(jobs)
    labels = _labels(jobs, names)
    renamed = [called(*each) for each in zip(jobs, names, labels, strict=True)]
    items = sorted((item for job in renamed for item in job.items), key=documents.item_order)
    found = {
        "schema_version": documents.SCHEMA_VERSION,
        "verdict": _worst(items),
        "false_alarm": false_alarm.bound(items),
        "environment": jobs[0].environment,
        "run": _run([job.run for job in jobs]),
        "jobs": [_entry(job, name) for job, name in zip(jobs, names, strict=True)],
        "differences": _differences(jobs, names),
        "models": [_model(name, renamed) for name in sorted({m["name"] for job in jobs for m in job.models})],
        "engines": sorted((engine for job in renamed for engine in job.engines), key=pair),
        "items": items,
    }
    unreadable = [job.unreadable for job in jobs if job.unreadable is not None]
    if unreadable:
        found["history"] = history.joined(found, _runs(renamed), sum(unreadable))
    return found


def _worst(records: Iterable[Record]) -> str:
    return worst(Verdict(record["verdict"]) for record in records).value


def _order(job: Job) -> tuple[str, str, str, str]:
    """Sorts jobs whatever order they came in; the digest decides where nothing else can."""
    told = [[item["nodeid"], item["verdict"], item["message"]] for item in job.items]
    return _wanted(job), str(job.run.get("started")), job.source, digests.of_json([job.run, told])


def _wanted(job: Job) -> str:
    """What a job is called where no other is: its device, else its backend, else its folder."""
    backend = job.environment.get("backend") or {}
    return str(backend.get("device") or backend.get("name") or job.source)


def _names(jobs: Sequence[Job]) -> list[str]:
    """What the jobs are called: with their folder, and at last a number, where others are called the same."""
    wanted = [_wanted(job) for job in jobs]
    count = Counter(wanted)
    return _unique(
        name if count[name] == 1 else f"{name} ({job.source})"
        for name, job in zip(wanted, jobs, strict=True)
    )  # fmt: skip


def _unique(names: Iterable[str], taken: Iterable[str] = ()) -> list[str]:
    used, found = set(taken), []
    for name in names:
        chosen, number = name, 1
        while chosen in used:
            number += 1
            chosen = f"{name} {number}"
        used.add(chosen)
        found.append(chosen)
    return found


def _labels(jobs: Sequence[Job], names: Sequence[str]) -> list[dict[Pair, str]]:
    """What each job's engines are called: by the job where another has an engine of that name, too."""
    count = Counter(pair(engine) for job in jobs for engine in job.engines)
    found: list[dict[Pair, str]] = []
    taken: dict[str, set[str]] = {}
    for (model, engine), number in count.items():
        if number == 1:
            taken.setdefault(model, set()).add(engine)
    for job, name in zip(jobs, names, strict=True):
        labels = {}
        for model, engine in map(pair, job.engines):
            label = engine
            if count[model, engine] > 1:
                [label] = _unique([f"{engine} @ {name}"], taken.setdefault(model, set()))
                taken[model].add(label)
            labels[model, engine] = label
        found.append(labels)
    return found


def _model(name: str, jobs: Sequence[Job]) -> dict[str, Any]:
    """One model of all jobs: the first that evaluated it tells what it is."""
    entries = [entry for job in jobs for entry in job.models if entry["name"] == name]
    first = next((entry for entry in entries if entry["model"] is not None), entries[0])
    return {
        **first,
        "calibration": next((e["calibration"] for e in entries if e["calibration"] is not None), None),
        "gates": next((e["gates"] for e in entries if e["gates"] is not None), None),
        "engines": sorted({engine for entry in entries for engine in entry["engines"]}),
        "verdict": _worst(entries),
    }


_MUST_BE_SAME = (
    ("model", "is", "model", "digest"),
    ("evaluation data", "are", "data", "digest"),
    ("labels", "are", "data", "labels_digest"),
    ("calibration data", "are", "calibration", "digest"),
    ("classes", "are", "classes", None),
    ("limits", "are", "gates", None),
)
"""What it is called, and the field of a model whose own field (None: all of it) tells it apart."""


def _differences(jobs: Sequence[Job], names: Sequence[str]) -> list[str]:
    """What the jobs used of one model that was not the same, in sentences that name every side."""
    told = []
    for what, verb, place, field in _MUST_BE_SAME:
        sides: dict[str, dict[str, list[str]]] = {}
        for job, name in zip(jobs, names, strict=True):
            for model in job.models:
                found = _digest(model.get(place), field)
                if found is not None:
                    sides.setdefault(model["name"], {}).setdefault(found, []).append(name)
        for model_name, own in sorted(sides.items()):
            if len(own) > 1:
                each = "; ".join(f"{digest} on {listed(on)}" for digest, on in own.items())
                told.append(f"{model_name}: the {what} {verb} not the same in all jobs: {each}")
    return told


def _digest(value: Any, field: str | None) -> str | None:
    if not value:
        return None
    if field is None:
        return digests.short(digests.of_json(value))
    digest = value.get(field)
    return None if digest is None else digests.short(digest)


def _run(runs: Sequence[Record]) -> dict[str, Any]:
    """The earliest start, the seconds of all jobs added up, and what was the same in all."""
    return {
        "started": min((run["started"] for run in runs if run.get("started")), default=None),
        "version": _common(runs, "version"),
        "seconds": round(sum(run.get("seconds") or 0.0 for run in runs), 3),
        "command": _common(runs, "command"),
        "workers": max((run.get("workers") or 0 for run in runs), default=0),
        "exitstatus": max((run.get("exitstatus") or 0 for run in runs), default=0),
        "ci": _ci([run.get("ci") for run in runs]),
        "jobs": len(runs),
    }


def _common(records: Sequence[Record], field: str) -> Any:
    """What all of *records* have in *field*; None where that is not the same."""
    values = [record.get(field) for record in records]
    return values[0] if all(value == values[0] for value in values) else None


def _ci(found: Sequence[Record | None]) -> dict[str, Any] | None:
    known = [own for own in found if own is not None]
    if len(known) < len(found) or _common(known, "name") is None:
        return None
    return {field: _common(known, field) for field in ("name", "commit", "ref", "url")}


def _entry(job: Job, name: str) -> dict[str, Any]:
    """A row of ``jobs``, with all that it takes to take the job out again."""
    kept = {"unreadable": job.unreadable, "runs": [run["id"] for run in job.runs]}
    return {
        "name": name,
        "source": job.source,
        "verdict": _worst(job.items),
        "environment": job.environment,
        "run": job.run,
        "models": job.models,
        "history": None if job.unreadable is None else kept,
    }


def _runs(jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """Every run of the jobs' histories once, with the engines of the jobs that it belongs to.

    Jobs that keep their runs in one folder have all runs of it, also those of other devices: such a run
    belongs to the jobs on its own device alone.
    """
    found: dict[str, list[tuple[Job, Record]]] = {}
    for job in jobs:
        for run in job.runs:
            found.setdefault(run["id"], []).append((job, run))
    return [_joined(own) for own in found.values()]


def _joined(own: Sequence[tuple[Job, Record]]) -> dict[str, Any]:
    alike = [(job, run) for job, run in own if _device(run["environment"]) == _device_of(job)]
    engines = {pair(engine): engine for _, run in alike or own for engine in run["engines"]}
    return {**own[0][1], "engines": list(engines.values())}


def _device(environment: Record) -> str | None:
    device: str | None = environment.get("device")
    return device


def _device_of(job: Job) -> str | None:
    return _device(job.environment.get("backend") or {})
