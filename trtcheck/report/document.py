"""The report's document: plain JSON, described in docs/report-schema.md; every view is made from it."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trtcheck.case import Check, Outcome, Verdict, worst
from trtcheck.metrics.confusion import Changes, Confusion
from trtcheck.outputs_check import agreement_row, drift_row
from trtcheck.report import false_alarm, flip_rows, matrix_pictures, speeds

if TYPE_CHECKING:
    import numpy as np

    from trtcheck.evaluation import Evaluation

SCHEMA_VERSION = 1
FULL_MATRIX = 100
"""Confusion matrices of more classes than this are given as their largest changes only."""
LISTED_CONFUSIONS = 50


def _worst(verdicts: Iterable[str]) -> str:
    return worst(Verdict(verdict) for verdict in verdicts).value


def item(nodeid: str, outcome: Outcome) -> dict[str, Any]:
    """The record of one check; a figure of the check never takes the place of the item's own fields."""
    own = {
        "nodeid": nodeid,
        "model": outcome.model,
        "engine": outcome.engine or None,
        "check": outcome.check.value,
        "verdict": outcome.verdict.value,
        "numerics": None if outcome.numerics is None else outcome.numerics.value,
        "message": outcome.message,
        "notes": list(outcome.notes),
        "warnings": list(outcome.warnings),
        "fails": outcome.fails,
    }
    return {**own, **plain(outcome.measured), **own}


def document(
    *,
    items: Sequence[Mapping[str, Any]],
    evaluations: Sequence[Evaluation],
    baselines: Mapping[tuple[str, str], Mapping[str, Any]],
    environment: Mapping[str, Any],
    run: Mapping[str, Any],
    root: Path,
    pictures: Collection[str] = (),
) -> dict[str, Any]:
    """The whole report.

    Args:
        items: Records of `item`.
        evaluations: What was evaluated.
        baselines: State of the baseline by model and engine (see docs/report-schema.md).
        environment: The fingerprint of machine and libraries.
        run: Start (ISO 8601), duration in seconds and other facts of this run.
        root: Paths below it are given relative to it.
        pictures: The pictures that stand beside it, by their path below the report.
    """
    ordered = speeds.with_warnings(sorted(items, key=item_order))
    done = {(e.model, e.engine): e for e in evaluations}
    pairs = sorted({(i["model"], i["engine"]) for i in ordered if i["engine"] is not None} | done.keys())
    engines = []
    for model, engine in pairs:
        own = [i for i in ordered if (i["model"], i["engine"]) == (model, engine)]
        found = done.get((model, engine))
        engines.append(
            {
                **_engine_items(model, engine, own),
                **(_evaluated(found, root, pictures) if found is not None else _NOT_EVALUATED),
                "baseline": baselines.get((model, engine)),
            }
        )
    names = sorted({i["model"] for i in ordered} | {model for model, _ in done})
    return {
        "schema_version": SCHEMA_VERSION,
        "verdict": _worst(i["verdict"] for i in ordered),
        "false_alarm": false_alarm.bound(ordered),
        "environment": plain(environment),
        "run": plain(run),
        "models": [
            plain(_model(name, ordered, [e for e in evaluations if e.model == name], root)) for name in names
        ],
        "engines": [plain(engine) for engine in engines],
        "items": ordered,
    }


def item_order(record: Mapping[str, Any]) -> tuple[str, str, int, int, str]:
    """Sorts items by model, engine, check and batch size."""
    checks = [check.value for check in Check]
    check, batch = record["check"], record.get("batch") or 0
    return (record["model"], record["engine"] or "", checks.index(check), batch, record["nodeid"])


def _engine_items(model: str, engine: str, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    numerics = [i["numerics"] for i in items if i["numerics"] is not None]
    builds = [i for i in items if i["check"] == Check.BUILD.value]
    facts = builds[0] if builds else {}
    return {
        "model": model,
        "engine": engine,
        "verdict": _worst(i["verdict"] for i in items),
        "numerics": numerics[0] if numerics else None,
        "checks": {
            check: _worst(i["verdict"] for i in items if i["check"] == check)
            for check in dict.fromkeys(i["check"] for i in items)
        },
        "backend": facts.get("backend"),
        "cached": facts.get("cached"),
        "facts": facts.get("facts"),
        "lowered": facts.get("lowered"),
        "beside": facts.get("beside"),
        "notes": list(dict.fromkeys(note for i in items for note in i["notes"])),
    }


_NOT_EVALUATED: Mapping[str, Any] = {
    "precision": None, "reference": None, "images": None, "labelled": None, "classes": [], "accuracy": None,
    "top_k": None, "averages": None, "confusion": None, "confusion_pictures": None, "confusions": [],
    "changed_confusions": None, "outputs": [], "agreement": None,
    "flips": None, "overflow": None, "problems": [],
}  # fmt: skip


def _evaluated(evaluation: Evaluation, root: Path, pictures: Collection[str]) -> dict[str, Any]:
    record = evaluation.record
    found = {
        **_NOT_EVALUATED,
        "precision": record["precision"],
        "reference": record["reference"],
        "backend": record["environment"]["backend"]["name"],
        "numerics": record["numerics"],
        "cached": record["cached"],
        "facts": record["facts"],
        "lowered": _relative(record["lowered"], root),
        "images": evaluation.images,
        "outputs": [drift_row(drift) for drift in evaluation.outputs],
        "agreement": agreement_row(evaluation),
        "overflow": evaluation.overflow,
        "problems": list(evaluation.problems.values()),
    }  # fmt: skip
    if evaluation.labels is None:
        return found
    names = evaluation.classes
    labels, counted = evaluation.labels, evaluation.labels.counted
    before = Confusion.of(labels.truth, labels.reference, len(names))
    after = Confusion.of(labels.truth, labels.candidate, len(names))
    small = len(names) <= FULL_MATRIX
    drawn = matrix_pictures.names(evaluation)
    return {
        **found,
        "labelled": int(counted.sum()),
        "accuracy": {"before": before.accuracy, "after": after.accuracy},
        "top_k": {
            "k": evaluation.top_k,
            "before": _share(labels.reference_top_k[counted]),
            "after": _share(labels.candidate_top_k[counted]),
        },
        "averages": {
            side: {"macro": asdict(c.macro), "weighted": asdict(c.weighted)}
            for side, c in (("before", before), ("after", after))
        },
        "classes": [
            {
                "name": name,
                "support": int(before.support[k]),
                "before": _counts(before, k),
                "after": _counts(after, k),
            }
            for k, name in enumerate(names)
        ],
        "confusion": {"before": before.matrix.tolist(), "after": after.matrix.tolist()} if small else None,
        "confusion_pictures": drawn if drawn and set(drawn.values()) <= set(pictures) else None,
        **_changes(Changes.of(before, after), names),
        "flips": flip_rows.of(evaluation, root, pictures),
    }


def _share(hits: np.ndarray) -> float | None:
    return int(hits.sum()) / len(hits) if len(hits) else None


def _counts(confusion: Confusion, k: int) -> dict[str, Any]:
    counts = {name: int(getattr(confusion, name)[k]) for name in ("tp", "fp", "fn", "tn")}
    return {**counts, **{name: float(getattr(confusion, name)[k]) for name in ("precision", "recall", "f1")}}


def _changes(changes: Changes, names: Sequence[str]) -> dict[str, Any]:
    """The wrong answers that changed most in number, largest first, half the room for each direction."""
    import numpy as np

    change = changes.after - changes.before
    wrong = changes.truth != changes.answer
    more, fewer = np.flatnonzero(wrong & (change > 0)), np.flatnonzero(wrong & (change < 0))
    half = LISTED_CONFUSIONS // 2
    both = np.concatenate(
        [
            own[np.argsort(-np.abs(change[own]), kind="stable")][: max(half, LISTED_CONFUSIONS - len(other))]
            for own, other in ((more, fewer), (fewer, more))
        ]
    )
    order = both[np.argsort(-np.abs(change[both]), kind="stable")]
    columns = (changes.truth, changes.answer, changes.before, changes.after)
    rows = zip(*(column[order].tolist() for column in columns), strict=True)
    return {
        "confusions": [
            {
                "truth": names[truth],
                "answer": None if answer == len(names) else names[answer],
                "before": before,
                "after": after,
            }
            for truth, answer, before, after in rows
        ],
        "changed_confusions": {"appeared": len(more), "vanished": len(fewer)},
    }


def _model(
    name: str, items: Sequence[Mapping[str, Any]], evaluations: Sequence[Evaluation], root: Path
) -> dict[str, Any]:
    own = [i for i in items if i["model"] == name]
    found: dict[str, Any] = {"name": name, "verdict": _worst(i["verdict"] for i in own)}
    asked = {i["engine"] for i in own if i["engine"] is not None} | {e.engine for e in evaluations}
    found["engines"] = sorted(asked)
    found["gates"] = next((i["gates"] for i in own if i.get("gates") is not None), None)
    if not evaluations:
        return {**found, "model": None, "data": None, "calibration": None, "classes": []}
    first = evaluations[0]
    record = first.record
    return {
        **found,
        "model": _relative(record["model"], root),
        "data": _relative({**record["data"], "images": first.images}, root),
        "calibration": next(
            (_relative(e.record["calibration"], root) for e in evaluations if e.record["calibration"]), None
        ),
        "classes": list(first.classes),
    }


def _relative(record: Mapping[str, Any], root: Path) -> dict[str, Any]:
    """The *record* with absolute paths below *root* made relative, also several in a row."""

    def shown(value: str) -> str:
        path = Path(value)
        return (
            path.relative_to(root).as_posix() if path.is_absolute() and path.is_relative_to(root) else value
        )

    return {
        key: ", ".join(map(shown, value.split(", "))) if isinstance(value, str) else value
        for key, value in record.items()
    }


def plain(value: Any) -> Any:
    """*value* as JSON has it: NaN and infinity become None, tuples lists; anything else is refused.

    Raises:
        TypeError: A value is no builtin, for example a numpy scalar.
    """
    if type(value) is float:
        return value if math.isfinite(value) else None
    if value is None or type(value) in (bool, int, str):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    raise TypeError(f"{type(value).__name__} {value!r} does not belong in a report")
