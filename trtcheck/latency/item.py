"""From an item to its outcome: what is timed beside the engine, and how its baseline stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from trtcheck.backends.untimed import why_untimed
from trtcheck.baselines import latency_approve, latency_store
from trtcheck.case import BY_BATCH, WIDTHS, Case, Check, EngineKind, EngineSpec, Outcome, Precision, Verdict
from trtcheck.errors import BaselineError, CaseError
from trtcheck.latency import judged
from trtcheck.latency.check import Standing, outcome
from trtcheck.latency.contest import Wanted, require_batch
from trtcheck.latency.measurement import APPROVED, ENGINE, REFERENCE
from trtcheck.latency.stored import comparable

if TYPE_CHECKING:
    from trtcheck.baselines.latency_schema import LatencyBaseline
    from trtcheck.latency.record import LatencyResult
    from trtcheck.session import Workbench
    from trtcheck.settings import Settings


def prepare(
    workbench: Workbench, settings: Settings, case: Case, engine: EngineSpec, batch: int | None
) -> None:
    """Finds what is wrong with suite or data before anything is timed.

    Raises:
        CaseError: Gate ``faster_than`` names no engine.
        TrtcheckError: The case cannot be opened, the engine not built, or the batch size is impossible.
    """
    if case.gates.faster_than is not None:
        _engine_called(case.gates.faster_than, settings)
    workbench.built(case, engine)
    resolved = workbench.resolve(case)
    if batch is not None:
        require_batch(case, resolved, batch)


def judge(
    workbench: Workbench, settings: Settings, case: Case, engine: EngineSpec, batch: int | None
) -> tuple[Outcome, np.ndarray]:
    """What the check ``latency`` comes to, and the times (S,) of the engine's queries in ms.

    Args:
        workbench: Builds and times.
        settings: What the user asked for.
        case: The case.
        engine: The engine.
        batch: Images of a query; None for a recording's.

    Raises:
        TrtcheckError: The engine cannot be built, loaded or run.
    """
    if case.gates.faster_than is not None:
        _engine_called(case.gates.faster_than, settings)
    why = untimed(workbench, case, engine)
    if why is not None:
        skipped = Outcome(
            model=case.name, engine=engine.name, check=Check.LATENCY, verdict=Verdict.SKIPPED, message=why,
            numerics=workbench.built(case, engine).numerics,
        )  # fmt: skip
        return skipped, np.empty(0)
    case = replace(case, gates=replace(case.gates, faster_than=_rival_name(workbench, case, engine)))
    result = measured(workbench, settings, case, engine, batch)
    if engine.kind is EngineKind.RECORDING:
        _require_limits(case, engine, result.measurement.batch)
    samples = result.measurement.timings[ENGINE].samples_ms.ravel()
    return outcome(result, case.gates, _standing(settings, result)), samples


def _require_limits(case: Case, engine: EngineSpec, batch: int) -> None:
    """Refuses limits a batch size that leave out the recording's: they would hold whatever it took.

    Raises:
        CaseError: There are such limits.
    """
    for gate in BY_BATCH:
        limits = getattr(case.gates, gate)
        if isinstance(limits, Mapping) and batch not in limits:
            raise CaseError(
                f"{gate} of {case.name} has no limit for the batch size of the recording {engine.name}",
                where=engine.path, expected=f"a limit for batch {batch}",
                found=", ".join(f"batch {size}" for size in limits),
                hint=f"in [models.{case.name}.gates]: {gate} = {{{batch} = …}}, beside the others",
            )  # fmt: skip


def measured(
    workbench: Workbench, settings: Settings, case: Case, engine: EngineSpec, batch: int | None
) -> LatencyResult:
    """What was measured, once a session."""
    size = 0 if batch is None else batch
    rival = _rival(workbench, settings, case, engine)
    wanted = Wanted(
        batch=size, budget=settings.latency_budget,
        rival=rival,
        find=partial(_baseline, settings, case.name, engine.name, size),
        undecided=lambda timings, baseline, share: judged.undecided(
            timings, baseline, case.gates, size, share
        ),
    )  # fmt: skip
    return workbench.latency(case, engine, wanted)


def untimed(workbench: Workbench, case: Case, engine: EngineSpec) -> str | None:
    """Why there is nothing to time, in a sentence; None where there is."""
    built = workbench.built(case, engine)
    if engine.kind is EngineKind.RECORDING:
        if built.facts.get("times") is None:
            return f"the recording {engine.name} has no times: trtexec --exportTimes writes them"
        return None
    return why_untimed(built)


def _rival_name(workbench: Workbench, case: Case, engine: EngineSpec) -> str | None:
    """The engine that must be slower than *engine*, where the gate bears on it.

    A limit for the whole model asks nothing of the rival itself, nor of engines of no narrower precision; of
    those whose precision is not known (files) it is asked.
    """
    name = case.gates.faster_than
    if name is None or name == engine.name:
        return None
    known = {precision.value: precision for precision in Precision}
    rival, own = known.get(name), engine.precision
    if engine.kind is EngineKind.RECORDING:
        own = known.get(workbench.built(case, engine).facts.get("precision") or "")
    if rival is not None and own is not None and WIDTHS[own] >= WIDTHS[rival]:
        return None
    return name


def _rival(workbench: Workbench, settings: Settings, case: Case, engine: EngineSpec) -> EngineSpec | None:
    """The engine of gate ``faster_than``, to be timed beside *engine*; None for none, and for a recording.

    Raises:
        CaseError: There is no such engine, or its time cannot be taken.
        TrtcheckError: It cannot be built.
    """
    if case.gates.faster_than is None or engine.kind is EngineKind.RECORDING:
        return None
    rival = _engine_called(case.gates.faster_than, settings)
    where = f"faster_than = '{rival.name}' of {case.name}[{engine.name}]"
    if rival.name in (ENGINE, APPROVED, REFERENCE):
        raise CaseError(
            f"{where} is the name of something else that is timed", found=rival.name,
            hint="rename the engine's file",
        )  # fmt: skip
    why = "nothing is timed of a recording beside an engine that runs here"
    if rival.kind is not EngineKind.RECORDING:
        why = why_untimed(workbench.built(case, rival)) or ""
    if why:
        raise CaseError(f"{where} cannot be judged", expected="an engine that is timed here", found=why)
    return rival


def _engine_called(name: str, settings: Settings) -> EngineSpec:
    """The engine *name*: one that was asked for, or a precision.

    Raises:
        CaseError: There is none.
    """
    for engine in settings.engines or ():
        if engine.name == name:
            return engine
    known = [precision.value for precision in Precision]
    if name in known:
        return EngineSpec(name, Precision(name))
    there = ", ".join(engine.name for engine in settings.engines or () if engine.name not in known)
    raise CaseError(
        f"faster_than names an engine that is not there: '{name}'",
        expected=", ".join(known) + (f", or of --trt-engine: {there}" if there else ""), found=name,
        hint="faster_than in [models.NAME.gates]: a file of --trt-engine goes by its name without the ending",
    )  # fmt: skip


def _baseline(
    settings: Settings, model: str, engine: str, batch: int, environment: Mapping[str, Any], lowered: str
) -> LatencyBaseline | None:
    """The approved baseline, where there is one that may be compared."""
    if settings.update_baselines:
        return None
    try:
        return latency_store.find(settings.baselines, model, engine, batch, environment, lowered).baseline
    except BaselineError:
        return None  # told where the times are judged


def _standing(settings: Settings, result: LatencyResult) -> Standing:
    run = result.run
    state = latency_approve.state(settings.baselines, run)
    if settings.update_baselines:
        return Standing({**state, "status": "approving", "message": "this run is being approved"})
    try:
        found = latency_store.find(
            settings.baselines, run.model, run.engine, run.batch, run.environment, run.lowered
        )
    except BaselineError as error:
        return Standing(state, error=str(error))
    if found.baseline is None:
        return Standing(state)
    beside = result.run.session.reference
    baseline = comparable(found.baseline, beside, {run.session.id for run in result.runs})
    there, left = len(found.baseline.sessions), len(baseline.sessions)
    notes = found.notes
    if left < there:
        notes = (*notes, "these very times are among the approved ones; they are compared with the others")
    foreign = sum(
        session.ratio is not None and session.reference != beside for session in found.baseline.sessions
    )
    if foreign and beside is not None and APPROVED not in result.measurement.timings:
        told = f"{foreign} of {left} stored sessions"
        notes = (*notes, f"the reference of {told} was another one: their ratios to it are not compared")
    return Standing(state, baseline, notes)
