"""What a run does to the latency baselines: says how they stand, or adds its session when asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trtcheck import approved_engines
from trtcheck.baselines import documents, latency_schema, latency_store
from trtcheck.baselines.approve import failed, told
from trtcheck.baselines.latency_schema import LatencyBaseline, LatencyRun
from trtcheck.errors import BaselineError, TrtcheckError
from trtcheck.judge.latency_bounds import FEWEST_SESSIONS


def state(root: Path, run: LatencyRun) -> dict[str, Any]:
    """How the baseline of *run* stands in an ordinary run, JSON-ready."""
    try:
        approved = latency_store.find(root, run.model, run.engine, run.batch, run.environment, run.lowered)
    except BaselineError as error:
        return {**told("refused", _path(root, run), root, str(error)), "sessions": 0}
    if approved.baseline is None:
        return {**told("missing", approved.path, root, "; ".join(approved.notes)), "sessions": 0}
    message = "; ".join(approved.notes) or "the approved baseline was compared"
    sessions = len(approved.baseline.sessions)
    return {**told("compared", approved.path, root, message), "sessions": sessions}


def write(
    root: Path, cache_root: Path, run: LatencyRun, items: Sequence[Mapping[str, Any]], *, interrupted: bool
) -> dict[str, Any]:
    """Adds the session of *run* to what is approved and keeps its engine, and says what was done, JSON-ready.

    Times are approved without answers (the suite's other items need not have run), but not the times of an
    engine of which any item failed.

    Args:
        root: Folder of the baselines.
        cache_root: The cache folder, where the engine's file is kept.
        run: What is approved.
        items: Records of the checks of this model and engine.
        interrupted: Whether the run ended before its end.
    """
    path, bad, impossible = _path(root, run), failed(items), _impossible(run)
    approved, dropped = _there(root, run)
    stored = 0 if approved is None else len(approved.sessions)
    unhealthy = {
        f"{', '.join(bad)} failed": bool(bad),
        "the run was interrupted": interrupted,
        "; ".join(run.unhealthy): bool(run.unhealthy),
        impossible: bool(impossible),
    }
    reason = next((text for text, found in unhealthy.items() if found), None)
    if reason is not None:
        return {**told("not written", path, root, f"not written: {reason}"), "sessions": stored}
    baseline = latency_store.extended(approved, run)
    text = latency_schema.dump(baseline)
    changed = approved is None or latency_schema.dump(approved) != text
    try:
        if run.engine_path is not None:
            approved_engines.keep(cache_root, Path(run.engine_path), run.session.engine_digest)
        if changed:
            documents.write_text(path, text)
    except TrtcheckError as error:
        return {**told("failed", path, root, str(error)), "sessions": stored}
    status = "written" if changed else "unchanged"
    message = "; ".join(
        [
            f"{status}: {documents.shown(path, root)} ({_stand(baseline, kept=run.engine_path is not None)})",
            *dropped,
        ]
    )
    return {**told(status, path, root, message), "sessions": len(baseline.sessions)}


def _there(root: Path, run: LatencyRun) -> tuple[LatencyBaseline | None, list[str]]:
    """What the session is added to, and what is to be said of what it is not added to.

    A file that may not be compared is replaced, as a baseline of accuracy is: its error asks for that.
    """
    try:
        approved = latency_store.find(
            root, run.model, run.engine, run.batch, run.environment, run.lowered
        ).baseline
    except BaselineError as error:
        return None, [f"what was there is replaced ({str(error).splitlines()[0]})"]
    if approved is None or approved.lowered == run.lowered:
        return approved, []
    return approved, [
        "begun anew, since the lowered model or its build changed: "
        f"dropped {_sessions(len(approved.sessions))}"
    ]


def _stand(baseline: LatencyBaseline, *, kept: bool) -> str:
    """How many sessions there are, and how many it takes as long as they are too few.

    Args:
        baseline: What is approved now.
        kept: Whether there is a file of the engine, to be timed again.
    """
    there = len(baseline.sessions)
    enough = there >= FEWEST_SESSIONS
    without = "without the approved engine's file " if kept else ""
    needs = "" if enough else f"; {without}a comparison needs {FEWEST_SESSIONS}"
    return f"{_sessions(there)}{needs}"


def _sessions(number: int) -> str:
    return f"{number} session{'' if number == 1 else 's'}"


def _impossible(run: LatencyRun) -> str:
    try:
        latency_schema.rounded(run.session)
    except (TypeError, ValueError) as error:
        return f"a figure is none: {error}"
    return ""


def _path(root: Path, run: LatencyRun) -> Path:
    return latency_store.path_of(root, run.model, run.engine, run.batch, run.environment)
