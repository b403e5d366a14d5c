"""Where latency baselines are, whether one may be compared with a run, and what one becomes by a session."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trtcheck.baselines import documents, latency_schema
from trtcheck.baselines.documents import LATENCY_PREFIX, UPDATE
from trtcheck.baselines.latency_schema import LatencyBaseline, LatencyRun
from trtcheck.digests import short
from trtcheck.errors import BaselineError
from trtcheck.latency.environment import differences, explain, file_part
from trtcheck.names import slug

MOST_SESSIONS = 30
"""Stored sessions; with more the oldest go. Their bound is 8 % wider than one over any number of sessions."""


@dataclass(frozen=True)
class ApprovedLatency:
    """What the baseline folder has for an engine at one batch size, in one environment.

    Attributes:
        path: The file's place.
        baseline: What was approved, or None where there is nothing that may be compared.
        notes: What a reader should know: that it is missing, or that the model changed.
        elsewhere: The environment most like this one that has a baseline, where this one has none.
    """

    path: Path
    baseline: LatencyBaseline | None
    notes: tuple[str, ...]
    elsewhere: Mapping[str, Any] | None = None


def path_of(root: Path, model: str, engine: str, batch: int, environment: Mapping[str, Any]) -> Path:
    """``<root>/<model>/<engine>/latency-b<batch>-<environment>.json``."""
    return root / slug(model) / slug(engine) / f"{_start(batch)}{file_part(environment)}.json"


def _start(batch: int) -> str:
    return f"{LATENCY_PREFIX}b{batch}-"


def find(
    root: Path, model: str, engine: str, batch: int, environment: Mapping[str, Any], lowered: str
) -> ApprovedLatency:
    """The approved baseline of an engine at one batch size, checked to be comparable.

    A baseline of another lowered model is compared: what was approved is what users were promised, and a
    slower model is slower.

    Args:
        root: Folder of the baselines.
        model: Name of the case.
        engine: Name of the engine.
        batch: Images of a query.
        environment: Where the run is made; another one's times are never compared.
        lowered: Digest of the lowered model.

    Raises:
        BaselineError: The file cannot be read, or is that of something else.
    """
    path = path_of(root, model, engine, batch, environment)
    content = documents.read_text(path)
    if content is None:
        return _missing(path, model, engine, batch, environment)
    baseline = latency_schema.parse(content, path)
    _require_same(baseline, path, model, engine, batch, environment)
    return ApprovedLatency(path, baseline, _notes(baseline, lowered))


def _require_same(
    baseline: LatencyBaseline, path: Path, model: str, engine: str, batch: int, environment: Mapping[str, Any]
) -> None:
    of, own = _words(baseline.model, baseline.engine, baseline.batch), _words(model, engine, batch)
    if of != own:
        raise BaselineError(
            "the baseline was approved for another model, engine or batch size", where=path, expected=own,
            found=of, hint=f"restore the file, or make it anew: {UPDATE}",
        )  # fmt: skip
    if differences(baseline.environment, environment):
        raise BaselineError(
            "the baseline was made elsewhere, and times of two environments are never compared", where=path,
            found=explain(baseline.environment, environment),
            hint=f"restore the file, or approve results of this place: {UPDATE}",
        )  # fmt: skip


def _words(model: str, engine: str, batch: int) -> str:
    return f"{model}[{engine}] at batch {batch}"


def _notes(baseline: LatencyBaseline, lowered: str) -> tuple[str, ...]:
    if baseline.lowered == lowered:
        return ()
    return (
        "the lowered model, or how it is built, changed since the baseline was approved "
        f"({short(baseline.lowered)} -> {short(lowered)}): compared with what was approved",
    )


def _missing(
    path: Path, model: str, engine: str, batch: int, environment: Mapping[str, Any]
) -> ApprovedLatency:
    place = "/".join(path.parts[-4:])
    text = f"no latency baseline yet: {place}; what makes it: {UPDATE}"
    others = [
        (len(differences(baseline.environment, environment)), name, baseline.environment)
        for name, baseline in _beside(path.parent, batch)
        if (baseline.model, baseline.engine, baseline.batch) == (model, engine, batch)
    ]
    if not others:
        return ApprovedLatency(path, None, (text,))
    _, name, elsewhere = min(others, key=lambda other: other[:2])
    beside = f"{name} is of another environment and is not compared: {explain(elsewhere, environment)}"
    return ApprovedLatency(path, None, (text, beside), elsewhere)


def _beside(folder: Path, batch: int) -> Iterator[tuple[str, LatencyBaseline]]:
    """Names and contents of the baselines in *folder* at this batch size; one that is damaged is no help."""
    for path in sorted(folder.glob(f"{_start(batch)}*.json")):
        try:
            content = documents.read_text(path)
            if content is not None:
                yield path.name, latency_schema.parse(content, path)
        except BaselineError:
            continue


def extended(approved: LatencyBaseline | None, run: LatencyRun) -> LatencyBaseline:
    """The baseline with the session of *run*, at most `MOST_SESSIONS` of them.

    Sessions of another lowered model do not stay: with two models among them, what differs between
    sessions would be taken for noise, and hide as much. A session that is there already is replaced where
    it stands, so that approving a recording again, or a rerun test, adds nothing.

    Args:
        approved: What there is; None where it is nothing, or nothing that may be compared.
        run: What is approved.
    """
    same = approved is not None and approved.lowered == run.lowered
    there = approved.sessions if approved is not None and same else ()
    if any(session.id == run.session.id for session in there):
        sessions = tuple(run.session if session.id == run.session.id else session for session in there)
    else:
        sessions = (*there, run.session)
    return LatencyBaseline(
        model=run.model, engine=run.engine, batch=run.batch, environment=run.environment,
        lowered=run.lowered, engine_digest=run.session.engine_digest, engine_suffix=run.engine_suffix,
        sessions=sessions[-MOST_SESSIONS:],
    )  # fmt: skip
