"""The check ``latency``: whether an engine became slower, and whether it is as fast as it must be."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from trtcheck import judge
from trtcheck.baselines.latency_schema import LatencyBaseline
from trtcheck.case import Check, Gates, Outcome, Verdict
from trtcheck.judge import LatencyRule, Speedup
from trtcheck.latency import words
from trtcheck.latency.contest import MOST_ROUNDS
from trtcheck.latency.environment import digest
from trtcheck.latency.judged import (
    MEDIAN,
    P95,
    Judged,
    Limited,
    beyond_clock,
    clock_sd,
    compared,
    limited,
    of_energy,
    session_sd,
)
from trtcheck.latency.measurement import APPROVED, ENGINE, REFERENCE, Timings
from trtcheck.latency.record import LatencyResult
from trtcheck.latency.stored import figures_of

QUANTILES = (5, 25, 50, 75, 95)
"""Percentiles that the report has of the queries of every round."""
_DIGITS = 6
"""Of these; a picture of 400 pixels needs no more."""
HARDLY_FASTER = 2.0
"""Below this speed-up over the reference a reduced precision is disappointing, which is said."""


@dataclass(frozen=True)
class Standing:
    """How the latency baseline stands.

    Attributes:
        state: ``status``, ``path``, ``message`` and ``sessions``, JSON-ready.
        baseline: What may be compared; None for nothing.
        notes: What a reader should know of it.
        error: Why there must be no comparison; None where nothing forbids it.
    """

    state: Mapping[str, Any]
    baseline: LatencyBaseline | None = None
    notes: tuple[str, ...] = ()
    error: str | None = None


def outcome(result: LatencyResult, gates: Gates, standing: Standing) -> Outcome:
    """Judges a measurement.

    Args:
        result: What was measured.
        gates: The limits.
        standing: The baseline.
    """
    measured = result.measurement
    share = measured.looks[-1][1]
    rows = compared(measured.timings, standing.baseline, gates, share)
    gained = {
        name: judge.speedup(
            timed.samples_ms, measured.timings[ENGINE].samples_ms, alpha=gates.alpha,
            session_sd=session_sd(measured.timings, standing.baseline),
        )
        for name, timed in measured.timings.items()
        if name != ENGINE
    }  # fmt: skip
    energy = of_energy(measured.joules_per_query, gates, measured.batch)
    limits = limited(measured.timings, standing.baseline, gates, measured.batch, share)
    limits += () if energy is None else (energy,)
    figures = figures_of(measured.timings[ENGINE], measured.batch)
    verdict, message = _concluded(result, rows, limits, figures, standing)
    state = {**_stands(standing, rows), "stored": _stored(standing)}
    return Outcome(
        model=result.run.model, engine=result.run.engine, check=Check.LATENCY, verdict=verdict,
        message=f"at batch {measured.batch}: {message}", numerics=result.numerics,
        measured=_measured(result, rows, limits, figures, gained, state),
        notes=(*_notes(result, rows, gained), *standing.notes), warnings=_warnings(result),
    )  # fmt: skip


def _concluded(
    result: LatencyResult, rows: Sequence[Judged], limits: Sequence[Limited], figures: Mapping[str, Any],
    standing: Standing,
) -> tuple[Verdict, str]:  # fmt: skip
    """The verdict, and the reason in words."""
    told = words.times(figures)
    failed = words.failures(rows, limits, _then_and_now(result))
    judged = [row for row in rows if row.verdict.rule is not LatencyRule.NONE]
    if standing.error is not None:
        return Verdict.ERROR, f"{standing.error}\n  meanwhile: {'; '.join([*failed, told])}"
    if result.run.unhealthy:
        meanwhile = "; ".join([*failed, told])
        return Verdict.INCONCLUSIVE, f"{'; '.join(result.run.unhealthy)}; meanwhile: {meanwhile}"
    if failed:
        return Verdict.FAIL, "; ".join([*failed, told])
    open_rows = [row for row in judged if row.gated and row.verdict.verdict is Verdict.INCONCLUSIVE]
    open_limits = [row for row in limits if row.verdict is Verdict.INCONCLUSIVE]
    if open_rows or open_limits:
        clauses = [f"cannot tell: {words.change(row)}{_why(row)}" for row in open_rows]
        clauses += [f"cannot tell: {words.limit(row)}" for row in open_limits]
        return Verdict.INCONCLUSIVE, "; ".join([*clauses, *_next(result, open_rows, open_limits), told])
    held = [words.limit(row) for row in limits] + [words.change(row) for row in judged if row.gated]
    if all(row.verdict.rule is LatencyRule.NONE for row in rows if row.what == MEDIAN):
        # The limits hold, which is something; that nothing was compared stands in the notes and the report.
        missing = next(row.verdict.reason for row in rows if row.what == MEDIAN)
        nothing = [str(standing.state["message"] if standing.baseline is None else missing)]
        nothing += [
            result.measurement.absent[name] for name in (APPROVED,) if name in result.measurement.absent
        ]
        return (Verdict.PASS if held else Verdict.INCONCLUSIVE), "; ".join([*held, told, *nothing])
    return Verdict.PASS, "; ".join([told, *held])


def _next(result: LatencyResult, rows: Sequence[Judged], limits: Sequence[Limited]) -> list[str]:
    """What might settle what is open: more rounds, as long as there can be more and they could tell."""
    timings, (asked, _) = result.measurement.timings, result.measurement.looks[0]
    taken = len(timings[ENGINE].seconds)
    more = any(
        row.verdict.rule is LatencyRule.INTERLEAVED and not beyond_clock(row, timings[ENGINE]) for row in rows
    ) or any(row.measured is not None for row in limits)
    if not more or len(timings) == 1 or taken >= asked * MOST_ROUNDS:  # a recording, or all that are made
        return []
    return [f"more than {taken} rounds may tell: a larger --trt-latency-budget"]


def _why(row: Judged) -> str:
    # Where there is no effect the reason is all that `words.change` tells.
    return f": {row.verdict.reason}" if row.verdict.reason and row.verdict.effect is not None else ""


def _stands(standing: Standing, rows: Sequence[Judged]) -> Mapping[str, Any]:
    """How the baseline stands, now that it is known whether it sufficed for a comparison."""
    median = next(row.verdict for row in rows if row.what == MEDIAN)
    if standing.baseline is None or median.rule is not LatencyRule.NONE:
        return standing.state
    return {**standing.state, "status": "too few", "message": median.reason}


def _stored(standing: Standing) -> list[dict[str, Any]]:
    """The stored sessions that count here, the oldest first; *ratio* is the median's to the reference's."""
    sessions = () if standing.baseline is None else standing.baseline.sessions
    return [
        {
            "started": session.started,
            "median_ms": session.median_ms,
            "p95_ms": session.p95_ms,
            "throughput": session.throughput,
            "ratio": None if session.ratio is None else math.exp(session.ratio),
        }
        for session in sessions
    ]


def _then_and_now(result: LatencyResult) -> dict[str, tuple[float, float]]:
    """Median and 95th percentile of the approved engine and of this one in ms, where both were timed here."""
    timings = result.measurement.timings
    if APPROVED not in timings:
        return {}
    then, now = (figures_of(timings[name], 1) for name in (APPROVED, ENGINE))
    return {what: (then[f"{what}_ms"], now[f"{what}_ms"]) for what in (MEDIAN, P95)}


def _notes(result: LatencyResult, rows: Sequence[Judged], gained: Mapping[str, Speedup]) -> tuple[str, ...]:
    """What a reader should know beside the verdict."""
    found = [
        f"p95 is too noisy to be judged: {words.change(row)}"
        for row in rows
        if row.what == P95 and not row.gated and row.verdict.verdict is Verdict.INCONCLUSIVE
        and row.verdict.rule is not LatencyRule.NONE
    ]  # fmt: skip
    found += [f"{name} took no part: {why}" for name, why in result.measurement.absent.items()]
    if result.measurement.unlocked is not None:
        found.append(result.measurement.unlocked)
    found += _too_short(result, rows)
    of_reference = gained.get(REFERENCE)
    narrow = result.precision not in (None, "fp32", "tf32")
    if of_reference is not None and narrow and of_reference.ratio < HARDLY_FASTER:
        found.append(
            f"{result.run.engine} is {of_reference.ratio:.2f}x as fast as the reference, "
            f"less than {HARDLY_FASTER:g}x"
        )
    return tuple(found)


def _too_short(result: LatencyResult, rows: Sequence[Judged]) -> list[str]:
    """That queries are too short for their clock."""
    engine = result.measurement.timings[ENGINE]
    tolerances = [row.verdict.tolerance for row in rows if row.gated and beyond_clock(row, engine)]
    return [words.too_short(clock_sd(engine), min(tolerances))] if tolerances else []


def _warnings(result: LatencyResult) -> tuple[str, ...]:
    return tuple(f"it might help: {hint}" for hint in result.measurement.health.hints if result.run.unhealthy)


def _measured(
    result: LatencyResult, rows: Sequence[Judged], limits: Sequence[Limited], figures: Mapping[str, Any],
    gained: Mapping[str, Speedup], state: Mapping[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """The item's figures; see docs/report-schema.md."""
    measured = result.measurement
    rivals = {name: timed for name, timed in measured.timings.items() if name != ENGINE}
    energy = measured.joules_per_query
    return {
        "batch": measured.batch,
        "backend": result.backend,
        "precision": result.precision,
        "timing": asdict(measured.timings[ENGINE].mode),
        "latency": {name: value for name, value in figures.items() if name != "throughput"},
        "throughput": figures["throughput"],
        "energy_mj": None if energy is None else energy * 1e3 / measured.batch,
        "round_medians_ms": {
            name: np.median(timed.samples_ms, axis=1).tolist() for name, timed in measured.timings.items()
        },
        "round_quantiles_ms": {
            name: _quantiles(timed.samples_ms) for name, timed in measured.timings.items()
        },
        "contestants": {
            name: _contestant(timed, measured.batch, result.shown.get(name)) for name, timed in rivals.items()
        },
        "absent": dict(measured.absent),
        "speedups": {name: asdict(found) for name, found in gained.items()},
        "judged": [
            {"what": row.what, "gated": row.gated, "against": row.against, **asdict(row.verdict)}
            for row in rows
        ],
        "limits": [asdict(row) for row in limits],
        "warm_up": asdict(measured.warm_up),
        "looks": [list(look) for look in measured.looks],
        "health": {**asdict(measured.health), "reasons": list(result.run.unhealthy)},
        "environment": dict(result.run.environment),
        "environment_digest": digest(result.run.environment),
        "latency_baseline": dict(state),
    }


def _quantiles(samples_ms: np.ndarray) -> list[list[float]]:
    """`QUANTILES` of the queries of every round, in ms; *samples_ms* is (rounds, queries)."""
    found = np.percentile(samples_ms, QUANTILES, axis=1).T.tolist()
    return [[float(f"{value:.{_DIGITS}g}") for value in row] for row in found]


def _contestant(timed: Timings, batch: int, shown: str | None) -> dict[str, Any]:
    figures = figures_of(timed, batch)
    wanted = ("median_ms", "p90_ms", "p95_ms", "p99_ms", "indicative", "throughput")
    return {**{name: figures[name] for name in wanted}, "timing": asdict(timed.mode), "shown": shown}
