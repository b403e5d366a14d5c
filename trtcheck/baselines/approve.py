"""What a run does to the baselines: says how they stand, or writes them when asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trtcheck.baselines import store
from trtcheck.baselines.documents import shown
from trtcheck.case import Check, EngineKind, Precision, Verdict, applies
from trtcheck.errors import BaselineError

if TYPE_CHECKING:
    from trtcheck.evaluation import Evaluation


def state(root: Path, evaluation: Evaluation) -> dict[str, Any]:
    """How the baseline of *evaluation* stands in an ordinary run, JSON-ready."""
    changes = {"changes": [asdict(change) for change in store.changed(root, evaluation)]}
    try:
        approved = store.find(root, evaluation)
    except BaselineError as error:
        return told("refused", store.path_of(root, evaluation), root, str(error)) | changes
    if approved.baseline is None:
        return told("missing", approved.path, root, approved.notes[0])
    message = "; ".join(approved.notes) or "the approved baseline was compared"
    return told("compared", approved.path, root, message) | changes


def write(
    root: Path, evaluation: Evaluation, items: Sequence[Mapping[str, Any]], *, interrupted: bool
) -> dict[str, Any]:
    """Approves *evaluation* unless it is unhealthy, and says what was done, JSON-ready.

    Args:
        root: Folder of the baselines.
        evaluation: What is approved.
        items: Records of the checks of this model and engine.
        interrupted: Whether the run ended before its end.
    """
    path = store.path_of(root, evaluation)
    changes = {"changes": [asdict(change) for change in store.changed(root, evaluation)]}
    bad = failed(items)
    unjudged = _unjudged(evaluation, items)
    unhealthy = {
        f"{', '.join(bad)} failed": bool(bad),
        "the run was interrupted": interrupted,
        "NaN or infinity": bool(evaluation.nonfinite),
        "; ".join(evaluation.problems.values()): bool(evaluation.problems),
        f"{', '.join(unjudged)} did not run": bool(unjudged),
    }
    reason = next((text for text, found in unhealthy.items() if found), None)
    if reason is not None:
        return told("not written", path, root, f"not written: {reason}") | changes
    try:
        path, changed = store.write(root, evaluation)
    except BaselineError as error:
        return told("failed", path, root, str(error))
    status = "written" if changed else "unchanged"
    return told(status, path, root, f"{status}: {shown(path, root)}") | changes


def failed(items: Sequence[Mapping[str, Any]]) -> list[str]:
    """Checks of which an item failed, each once.

    Latency that is inconclusive is none of them, also where that fails: neither does it speak against the
    answers, nor could a first session ever be approved, which has nothing to be compared with.
    """
    open_times = (Check.LATENCY.value, Verdict.INCONCLUSIVE.value)
    return list(
        dict.fromkeys(i["check"] for i in items if i["fails"] and (i["check"], i["verdict"]) != open_times)
    )


def _unjudged(evaluation: Evaluation, items: Sequence[Mapping[str, Any]]) -> list[str]:
    """Checks without which nothing is approved and that did not run; answers are approved without times.

    A suite file's items must all have run, as far as the engine has them. A suite in Python chooses its
    checks itself: one that counts answers is enough there.
    """
    ran = {i["check"] for i in items}
    record = evaluation.record
    precision = None if record["precision"] is None else Precision(record["precision"])
    declared = [
        check
        for check in record["checks"]
        if check not in {*ran, Check.LATENCY.value}
        and applies(Check(check), precision, EngineKind(record["kind"]))
    ]
    if any(i["nodeid"].endswith(f"[{evaluation.engine}]::{i['check']}") for i in items):
        return declared
    counting = {Check.ACCURACY.value, Check.RECALL.value, Check.PRECISION.value}
    return [] if ran & counting else [check for check in declared if check in counting]


def told(status: str, path: Path, root: Path, message: str) -> dict[str, Any]:
    """How a baseline stands, JSON-ready."""
    return {"status": status, "path": shown(path, root), "message": message}
