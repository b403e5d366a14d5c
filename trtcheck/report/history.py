"""What is kept of every run: one small JSON file in a folder, from which the report draws how things went."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from trtcheck.cache import write_atomically
from trtcheck.case import Check, Verdict
from trtcheck.digests import short
from trtcheck.errors import ReportError

SCHEMA_VERSION = 1
DRAWN = 50
"""Runs that are read and drawn, the newest."""
WHOLE = 50
"""Up to so many classes the recall of all is kept."""
LOWEST, FALLEN = 20, 20
"""Classes of larger models that are kept besides the key classes: those of lowest recall, and most fallen."""

_NAME = re.compile(r"\d{8}t\d{6}z-[0-9a-f]{8}\.json")

Record = Mapping[str, Any]


def record_of(document: Record) -> dict[str, Any]:
    """What is kept of the run that *document* reports."""
    run, environment = document["run"] or {}, document["environment"] or {}
    backend, ci = environment.get("backend") or {}, run.get("ci") or {}
    models = {model["name"]: model for model in document["models"]}
    return {
        "schema_version": SCHEMA_VERSION,
        "id": uuid.uuid4().hex[:8],
        "started": run.get("started"),
        "version": run.get("version"),
        "commit": ci.get("commit"),
        "ref": ci.get("ref"),
        "verdict": document["verdict"],
        "environment": {
            "backend": " ".join(str(backend[key]) for key in ("name", "version") if backend.get(key)) or None,
            "device": backend.get("device"),
            "driver": backend.get("driver"),
            "python": environment.get("python"),
            **(environment.get("packages") or {}),
        },
        "engines": [
            _engine(engine, models.get(engine["model"]) or {}, _own(document, engine))
            for engine in document["engines"]
        ],
    }


def _own(document: Record, engine: Record) -> list[Record]:
    return [i for i in document["items"] if (i["model"], i["engine"]) == (engine["model"], engine["engine"])]


def _engine(engine: Record, model: Record, items: Sequence[Record]) -> dict[str, Any]:
    accuracy, flips = engine["accuracy"] or {}, engine["flips"] or {}
    return {
        "model": model.get("name", engine["model"]),
        "engine": engine["engine"],
        "verdict": engine["verdict"],
        "backend": engine["backend"],
        "numerics": engine["numerics"],
        "digests": {
            "model": _digest((model.get("model") or {}).get("digest")),
            "data": _digest((model.get("data") or {}).get("digest")),
            "labels": _digest((model.get("data") or {}).get("labels_digest")),
            "calibration": _digest((engine["lowered"] or {}).get("calibration_digest")),
            "lowered": _digest((engine["lowered"] or {}).get("digest")),
        },
        "accuracy": accuracy.get("after"),
        "churn": flips.get("churn"),
        "recall": _recall(engine["classes"], _key_classes(items)),
        "key_classes": sorted(_key_classes(items)),
        "latency": {str(item["batch"]): _times(item) for item in items if item.get("latency")},
    }


def _digest(value: str | None) -> str | None:
    return None if value is None else short(value)


def _key_classes(items: Sequence[Record]) -> set[str]:
    judged = (item for item in items if item["check"] == Check.RECALL.value)
    return {row["name"] for item in judged for row in item.get("classes") or () if row["key"]}


def _recall(classes: Sequence[Record], key: set[str]) -> dict[str, float | None]:
    """Recall of the classes that are kept, by name, in the model's order."""
    chosen = set(range(len(classes)))
    if len(classes) > WHOLE:
        known = [k for k in chosen if classes[k]["after"]["recall"] is not None]
        lowest = sorted(known, key=lambda k: classes[k]["after"]["recall"])[:LOWEST]
        both = [k for k in known if classes[k]["before"]["recall"] is not None]
        fallen = sorted(both, key=lambda k: classes[k]["after"]["recall"] - classes[k]["before"]["recall"])
        chosen = {*lowest, *fallen[:FALLEN], *(k for k in chosen if classes[k]["name"] in key)}
    return {classes[k]["name"]: classes[k]["after"]["recall"] for k in sorted(chosen)}


def _times(item: Record) -> dict[str, Any]:
    return {
        "median_ms": item["latency"]["median_ms"],
        "p95_ms": item["latency"]["p95_ms"],
        "throughput": item["throughput"],
        "verdict": item["verdict"],
        "healthy": not item["health"]["reasons"],
        "environment": item["environment_digest"],
    }


def keep(record: Record, folder: Path) -> None:
    """Writes what `record_of` made of a run into a file of its own.

    Args:
        record: The run.
        folder: Where the runs are kept; made if it is not there.

    Raises:
        ReportError: The folder cannot be written.
    """
    try:
        started = datetime.fromisoformat(record["started"]).astimezone(UTC)
        path = folder / f"{started:%Y%m%dt%H%M%Sz}-{record['id']}.json"
        text = json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        write_atomically(path, text.encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise ReportError(
            "the history of runs cannot be written", where=folder, found=error,
            hint="name another folder: --trt-history=DIR, or keep none: --trt-history=none",
        ) from error  # fmt: skip


def with_earlier(document: Record, record: Record, folder: Path) -> dict[str, Any]:
    """*document* with the runs that *folder* keeps, and its own *record* as the newest."""
    earlier, unreadable = read(folder)
    return {**document, "history": joined(document, [*earlier, record], unreadable)}


def joined(document: Record, runs: Sequence[Record], unreadable: int) -> dict[str, Any]:
    """The history as a report's document has it: the newest *runs*, with the engines of *document* alone."""
    own = {(engine["model"], engine["engine"]) for engine in document["engines"]}
    ordered = sorted(runs, key=lambda run: (run["started"], run["id"]))[-DRAWN:]
    return {
        "unreadable": unreadable,
        "runs": [
            {**run, "engines": [e for e in run["engines"] if (e["model"], e["engine"]) in own]}
            for run in ordered
        ],
    }


def read(folder: Path) -> tuple[list[dict[str, Any]], int]:
    """The newest runs that *folder* keeps, oldest first, and how many of its files could not be read.

    Files with other names are of no concern.
    """
    try:
        names = sorted(path.name for path in folder.iterdir() if _NAME.fullmatch(path.name))[-DRAWN + 1 :]
    except OSError:
        return [], 0
    found = [_read(folder / name) for name in names]
    runs = [run for run in found if run is not None]
    return runs, len(found) - len(runs)


def _read(path: Path) -> dict[str, Any] | None:
    """The run in a file; None where it is damaged or of a newer version."""
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
        return run if is_run(run) else None
    except (OSError, ValueError, RecursionError):
        return None


def is_run(run: Any) -> bool:
    """Whether *run* is what `record_of` makes, as far as pages rely on it."""
    try:
        return (
            run["schema_version"] == SCHEMA_VERSION
            and datetime.fromisoformat(run["started"]).astimezone(UTC).year > 1
            and isinstance(run["id"], str)
            and run["verdict"] in _VERDICTS
            and all(value is None or isinstance(value, str) for value in _texts(run))
            and all(map(_is_engine, run["engines"]))
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return False


def _texts(run: Record) -> list[Any]:
    environment = run["environment"]
    return [run["version"], run["commit"], run["ref"], *environment.keys(), *environment.values()]


_VERDICTS = tuple(Verdict)


def _is_engine(engine: Record) -> bool:
    texts = (*engine["digests"].values(), engine["backend"], engine["numerics"])
    numbers = (engine["accuracy"], engine["churn"], *engine["recall"].values())
    times = engine["latency"].items()
    return (
        isinstance(engine["model"], str)
        and isinstance(engine["engine"], str)
        and engine["verdict"] in _VERDICTS
        and engine["digests"].keys() == {"model", "data", "labels", "calibration", "lowered"}
        and all(text is None or isinstance(text, str) for text in texts)
        and all(number is None or _is_number(number) for number in numbers)
        and all(isinstance(name, str) for name in engine["key_classes"])
        and all(int(batch) > 0 and _are_times(own) for batch, own in times)
    )


def _are_times(own: Record) -> bool:
    return (
        all(_is_number(own[name]) for name in ("median_ms", "p95_ms", "throughput"))
        and own["verdict"] in _VERDICTS
        and isinstance(own["healthy"], bool)
        and isinstance(own["environment"], str)
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300
