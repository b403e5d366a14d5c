"""From the name of a check to its outcome: the workbench measures, the check's own module judges."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from trtcheck.case import Case, Check, EngineKind, EngineSpec, Gates, OnFinding, Outcome, Verdict, applies
from trtcheck.errors import BackendError, EngineError, TrtcheckError

if TYPE_CHECKING:
    import numpy as np

    from trtcheck.backends.base import BuiltEngine
    from trtcheck.session import Workbench
    from trtcheck.settings import Settings


def timed_batches(case: Case, engine: EngineSpec) -> tuple[int | None, ...]:
    """The batch sizes at which *engine* is timed; a recording has but its own, which is None here."""
    if case.latency is None:
        return ()
    return (None,) if engine.kind is EngineKind.RECORDING else case.latency.batches


def prepare(
    workbench: Workbench, settings: Settings, case: Case, engine: EngineSpec, check: Check,
    batch: int | None = None,
) -> None:  # fmt: skip
    """Does the work of *check* that a session does once, which finds what is wrong with suite or data.

    Raises:
        TrtcheckError: The case cannot be opened, or the engine not built or run.
    """
    if check is Check.CALIBRATION:
        workbench.built(case, engine)
        workbench.resolve(case)
    elif check is Check.BATCH_INVARIANCE:
        workbench.batch_invariance(case, engine)
    elif check is Check.LATENCY:
        from trtcheck.latency import item

        item.prepare(workbench, settings, case, engine, batch)
    elif check is not Check.BUILD:
        from trtcheck.checks import require_known_classes

        require_known_classes(workbench.evaluation(case, engine), case.gates)


def judge(workbench: Workbench, settings: Settings, case: Case, engine: EngineSpec, check: Check) -> Outcome:
    """What *check* of *case* and *engine*, any but ``latency``, comes to, the approved baseline included.

    Raises:
        TrtcheckError: The case cannot be opened, or the engine not built or run.
    """
    strict = strict_by(settings, case.gates) is not None
    return replace(_judge(workbench, settings, case, engine, check), strict=strict)


def judge_latency(
    workbench: Workbench, settings: Settings, case: Case, engine: EngineSpec, batch: int | None
) -> tuple[Outcome, np.ndarray]:
    """What ``latency`` of *case* and *engine* comes to, and the times (S,) of the engine's queries in ms.

    Args:
        workbench: Builds and times.
        settings: What the user asked for.
        case: The case.
        engine: The engine.
        batch: Images of a query; None for a recording's.

    Raises:
        TrtcheckError: The case cannot be opened, or the engine not built or run.
    """
    from trtcheck.latency import item

    outcome, samples = item.judge(workbench, settings, case, engine, batch)
    # What is being approved is compared with nothing, which is no fault of it.
    strict = strict_by(settings, case.gates) is not None and not settings.update_baselines
    return replace(outcome, strict=strict), samples


def strict_by(settings: Settings, gates: Gates) -> str | None:
    """What makes an inconclusive item fail, as the user wrote it; None where nothing does."""
    if settings.strict:
        return "--trt-strict"
    return 'on_inconclusive = "fail"' if gates.on_inconclusive is OnFinding.FAIL else None


def _judge(workbench: Workbench, settings: Settings, case: Case, engine: EngineSpec, check: Check) -> Outcome:
    if not applies(check, engine.precision, engine.kind):
        return Outcome(
            model=case.name, engine=engine.name, check=check, verdict=Verdict.SKIPPED,
            message=_INAPPLICABLE[check].format(engine.name),
        )  # fmt: skip
    if check is Check.BUILD:
        return _build(workbench, case, engine)
    if check is Check.CALIBRATION:
        from trtcheck.calibration.check import outcome as of_calibration

        findings = workbench.calibration(case, engine)
        return of_calibration(case, engine, workbench.built(case, engine), findings)
    if check is Check.BATCH_INVARIANCE:
        from trtcheck.batch_invariance import outcome as of_batches

        result = workbench.batch_invariance(case, engine)
        return of_batches(case, engine, workbench.built(case, engine), result)
    return _of_evaluation(workbench, settings, case, engine, check)


_INAPPLICABLE = {
    Check.CALIBRATION: "{} is not made by INT8 calibration: there are no calibration data to check",
    Check.BATCH_INVARIANCE: "the answers of {} are recorded: they cannot be asked for in other batches",
}


def _of_evaluation(
    workbench: Workbench, settings: Settings, case: Case, engine: EngineSpec, check: Check
) -> Outcome:
    from trtcheck import checks
    from trtcheck.baselines import store

    evaluation = workbench.evaluation(case, engine)
    checks.require_known_classes(evaluation, case.gates)
    find = None if settings.update_baselines else partial(store.find, settings.baselines, evaluation)
    return checks.CHECKS[check](evaluation, case.gates, find)


def _build(workbench: Workbench, case: Case, engine: EngineSpec) -> Outcome:
    from trtcheck import engine_check

    built = workbench.built(case, engine)
    return engine_check.build(case, engine, built, _beside(workbench, case, engine))


def _beside(workbench: Workbench, case: Case, engine: EngineSpec) -> BuiltEngine | TrtcheckError | str | None:
    """The TensorRT engine that is built besides, what speaks against the model, or why nothing was built."""
    try:
        workbench.open_beside()
    except BackendError as error:
        return " ".join(str(error).split())
    try:
        return workbench.beside(case, engine)
    except (EngineError, BackendError) as error:
        return error
