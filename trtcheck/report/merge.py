"""One report of several: the jobs of a CI matrix, each with its own engines, GPUs or models."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trtcheck.case import Verdict, worst
from trtcheck.report import document as documents
from trtcheck.report import false_alarm, history

Record = Mapping[str, Any]


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

    An engine that several parts hold for one model is kept once for each, told apart by the job:
    ``int8 @ NVIDIA L4``. What the jobs used of one model that was not the same is told in ``differences``.

    Args:
        parts: Two or more; their order decides no more than the order of names that would be equal.
    """
    names = _job_names(parts)
    twice = Counter(pair for part in parts for pair in {_pair(engine) for engine in part.document["engines"]})
    renamed = [
        _renamed(part.document, {pair for pair, count in twice.items() if count > 1}, name)
        for part, name in zip(parts, names, strict=True)
    ]
    items = sorted((item for found in renamed for item in found["items"]), key=documents.item_order)
    models = [_model([m for found in renamed for m in found["models"] if m["name"] == name])
              for name in sorted({m["name"] for found in renamed for m in found["models"]})]  # fmt: skip
    found = {
        "schema_version": documents.SCHEMA_VERSION,
        "verdict": worst(Verdict(part["verdict"]) for part in renamed).value,
        "false_alarm": false_alarm.bound(items),
        "environment": renamed[0]["environment"],
        "run": _run([part.document["run"] or {} for part in parts]),
        "jobs": [job for part, name in zip(parts, names, strict=True) for job in _jobs(part, name)],
        "differences": _differences(parts, names),
        "models": models,
        "engines": sorted((engine for part in renamed for engine in part["engines"]), key=_pair),
        "items": items,
    }
    kept = [part["history"] for part in renamed if part.get("history")]
    if kept:
        runs = {run["id"]: run for own in kept for run in own["runs"]}
        found["history"] = history.joined(found, list(runs.values()), sum(own["unreadable"] for own in kept))
    return found


def _pair(record: Record) -> tuple[str, str]:
    return record["model"], record["engine"]


def _job_names(parts: Sequence[Part]) -> list[str]:
    """What tells the jobs apart: the device, else the backend, with the folder where that is the same."""
    wanted = []
    for part in parts:
        backend = (part.document["environment"] or {}).get("backend") or {}
        wanted.append(str(backend.get("device") or backend.get("name") or part.source))
    count = Counter(wanted)
    names = [
        name if count[name] == 1 else f"{name} ({part.source})"
        for name, part in zip(wanted, parts, strict=True)
    ]
    again: Counter[str] = Counter()
    unique = []
    for name in names:
        again[name] += 1
        unique.append(name if again[name] == 1 else f"{name} {again[name]}")
    return unique


def _renamed(document: Record, twice: set[tuple[str, str]], job: str) -> dict[str, Any]:
    """*document* with the engines that other jobs have, too, called by their job."""
    new = {pair: f"{pair[1]} @ {job}" for pair in map(_pair, document["engines"]) if pair in twice}
    if not new:
        return dict(document)

    def engine(record: Record) -> dict[str, Any]:
        return {**record, "engine": new.get((record["model"], record["engine"]), record["engine"])}

    def item(record: Record) -> dict[str, Any]:
        own = engine(record)
        for field in ("contestants", "speedups", "round_medians_ms", "round_quantiles_ms", "absent"):
            if isinstance(own.get(field), Mapping):
                own[field] = {new.get((own["model"], name), name): v for name, v in own[field].items()}
        return own

    found = {
        **document,
        "engines": [engine(own) for own in document["engines"]],
        "items": [item(own) for own in document["items"]],
        "models": [
            {**own, "engines": [new.get((own["name"], name), name) for name in own["engines"]]}
            for own in document["models"]
        ],
    }
    if document.get("history"):
        kept = document["history"]
        runs = [{**run, "engines": [engine(own) for own in run["engines"]]} for run in kept["runs"]]
        found["history"] = {**kept, "runs": runs}
    return found


def _model(entries: Sequence[Record]) -> dict[str, Any]:
    """One model of all jobs: the first that knows something tells it."""
    first = dict(entries[0])
    for field in ("model", "data", "calibration", "gates"):
        first[field] = next((entry[field] for entry in entries if entry.get(field) is not None), None)
    first["classes"] = next((entry["classes"] for entry in entries if entry["classes"]), [])
    first["engines"] = sorted({name for entry in entries for name in entry["engines"]})
    first["verdict"] = worst(Verdict(entry["verdict"]) for entry in entries).value
    return first


def _differences(parts: Sequence[Part], names: Sequence[str]) -> list[str]:
    """What the jobs used of one model that was not the same, in sentences."""
    told = [text for part in parts for text in part.document.get("differences") or ()]
    for what, place, field in _MUST_BE_SAME:
        found: dict[str, dict[str, list[str]]] = {}
        for part, name in zip(parts, names, strict=True):
            for model in part.document["models"]:
                digest = (model.get(place) or {}).get(field)
                if digest is not None:
                    found.setdefault(model["name"], {}).setdefault(digest, []).append(name)
        for model, sides in sorted(found.items()):
            if len(sides) > 1:
                jobs = " and ".join(", ".join(names) for names in sides.values())
                told.append(f"{model}: the {what} of {jobs} are not the same")
    return list(dict.fromkeys(told))


_MUST_BE_SAME = (
    ("model", "model", "digest"),
    ("evaluation data", "data", "digest"),
    ("labels", "data", "labels_digest"),
)


def _run(runs: Sequence[Record]) -> dict[str, Any]:
    """The earliest start, the seconds of all, what was run where it was the same."""
    commands = list(dict.fromkeys(run.get("command") or "" for run in runs))
    return {
        "started": min((run["started"] for run in runs if run.get("started")), default=None),
        "version": next((run["version"] for run in runs if run.get("version")), None),
        "seconds": round(sum(run.get("seconds") or 0.0 for run in runs), 3),
        "command": commands[0] if len(commands) == 1 else f"{len(runs)} jobs",
        "workers": max((run.get("workers") or 0 for run in runs), default=0),
        "exitstatus": max((run.get("exitstatus") or 0 for run in runs), default=0),
        "ci": next((run["ci"] for run in runs if run.get("ci")), None),
    }


def _jobs(part: Part, name: str) -> list[dict[str, Any]]:
    """The job of *part*; of a report that was merged before its own jobs."""
    document = part.document
    before: list[dict[str, Any]] = document.get("jobs") or []
    own = {"environment": document["environment"], "run": document["run"]}
    return before or [{"name": name, "source": part.source, **own}]
