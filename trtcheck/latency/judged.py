"""From times to verdicts: which rule compares what, and what the limits say."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import special

from trtcheck import judge
from trtcheck.baselines.latency_schema import LatencyBaseline
from trtcheck.case import Gates, Verdict
from trtcheck.judge import LatencyRule, LatencyVerdict
from trtcheck.judge.latency_bounds import (
    EVENT_MS,
    FEWEST_SESSIONS,
    SESSION_SD,
    SESSION_SD_ABSOLUTE,
    SESSION_SD_PROCESSOR,
)
from trtcheck.latency.measurement import APPROVED, ENGINE, REFERENCE, Timings
from trtcheck.latency.stored import figures_of, ratios, ratios_of_seconds
from trtcheck.latency.timing import Clock

if TYPE_CHECKING:
    from trtcheck.judge import LimitVerdict

MEDIAN, P95, THROUGHPUT, FASTER_THAN = "median", "p95", "throughput", "faster_than"


@dataclass(frozen=True)
class Judged:
    """One figure held against what was approved, or against a rival.

    Attributes:
        what: ``"median"``, ``"p95"``, ``"throughput"`` or ``"faster_than"``.
        gated: Whether an inconclusive answer counts; a failure always does.
        against: With what, in words.
        verdict: The judge's answer; changes are changes of time, also those of throughput.
    """

    what: str
    gated: bool
    against: str
    verdict: LatencyVerdict


@dataclass(frozen=True)
class Limited:
    """One figure held against a limit.

    Attributes:
        gate: The gate's name.
        limit: The limit.
        measured: The figure.
        low: Lower confidence bound; None for a figure without one.
        high: Upper bound.
        alpha: Chance of a failure where the figure is just the limit, at most; None for a plain comparison.
        verdict: Pass, fail or inconclusive.
    """

    gate: str
    limit: float
    measured: float | None
    low: float | None
    high: float | None
    alpha: float | None
    verdict: Verdict


def compared(
    timings: Mapping[str, Timings], baseline: LatencyBaseline | None, gates: Gates, share: float = 1.0
) -> tuple[Judged, ...]:
    """Median, 95th percentile, throughput and rival, by the strongest rule that there are data for.

    Args:
        timings: Times by contestant.
        baseline: What was approved; None for nothing.
        gates: The limits.
        share: The share of alpha that this look may spend.
    """
    alpha = gates.alpha * share
    tail = gates.latency_p95_slowdown
    found = [
        _judged(MEDIAN, True, timings, baseline, gates.latency_slowdown, alpha),
        _judged(
            P95, tail is not None, timings, baseline, gates.latency_slowdown if tail is None else tail, alpha
        ),
    ]
    if gates.throughput_drop is not None:
        # A drop of a fifth is a quarter more time.
        tolerance = 1 / (1 - gates.throughput_drop) - 1
        found.append(_judged(THROUGHPUT, True, timings, baseline, tolerance, alpha))
    if gates.faster_than is not None:
        verdict = _against_rival(gates.faster_than, timings, alpha, session_sd(timings, baseline))
        found.append(Judged(FASTER_THAN, True, gates.faster_than, verdict))
    return tuple(found)


def _against_rival(rival: str, timings: Mapping[str, Timings], alpha: float, sd: float) -> LatencyVerdict:
    if rival in timings:
        return judge.latency(
            timings[rival].samples_ms, timings[ENGINE].samples_ms, tolerance=0.0, alpha=alpha, session_sd=sd
        )
    return LatencyVerdict(
        rule=LatencyRule.INTERLEAVED, effect=None, low=None, high=None, detectable=None, tolerance=0.0,
        alpha=alpha, rounds=0, sessions=0, session_sd=sd, verdict=Verdict.INCONCLUSIVE,
        reason=f"{rival} was not timed in the same rounds",
    )  # fmt: skip


def undecided(
    timings: Mapping[str, Timings], baseline: LatencyBaseline | None, gates: Gates, batch: int, share: float
) -> bool:
    """Whether more rounds could settle what is open: not where stored sessions or a reference are missing."""
    rows = compared(timings, baseline, gates, share)
    if any(row.verdict.verdict is Verdict.FAIL for row in rows):
        return False
    open_rows = any(
        row.gated
        and row.verdict.verdict is Verdict.INCONCLUSIVE
        and row.verdict.rule is LatencyRule.INTERLEAVED
        and not beyond_clock(row, timings[ENGINE])
        for row in rows
    )
    limits = limited(timings, baseline, gates, batch, share)
    return open_rows or any(
        row.verdict is Verdict.INCONCLUSIVE and row.measured is not None for row in limits
    )


def limited(
    timings: Mapping[str, Timings], baseline: LatencyBaseline | None, gates: Gates, batch: int,
    share: float = 1.0,
) -> tuple[Limited, ...]:  # fmt: skip
    """The absolute limits, each by its confidence bounds.

    Args:
        timings: Times by contestant.
        baseline: What was approved, for the spread between its sessions.
        gates: The limits.
        batch: Images of a query.
        share: The share of alpha that this look may spend.
    """
    return tuple(_limited(timings, gates, batch, gates.alpha * share, session_sd(timings, baseline)))


def _limited(
    timings: Mapping[str, Timings], gates: Gates, batch: int, alpha: float, of_ratios: float
) -> Iterator[Limited]:
    engine, reference = timings[ENGINE], timings.get(REFERENCE)
    for gate, statistic in (("latency_ms", "median"), ("latency_p95_ms", "p95")):
        limit = gates.at_batch(gate, batch)
        if limit is not None:
            found = judge.within(
                engine.samples_ms, limit, alpha=alpha, statistic=statistic, session_sd=_absolute_sd(engine)
            )
            overall = figures_of(engine, batch)[f"{statistic}_ms"]
            yield _embracing(_of_limit(gate, found), overall)
    least = gates.at_batch("throughput", batch)
    if least is not None:
        queries = engine.samples_ms.shape[1]
        rates = queries * batch / engine.seconds
        found = judge.within(rates, least, alpha=alpha, larger_is_better=True)
        yield _embracing(_of_limit("throughput", found), figures_of(engine, batch)["throughput"])
    if gates.speedup is not None:
        if reference is None:
            yield Limited("speedup", gates.speedup, None, None, None, None, Verdict.INCONCLUSIVE)
        else:
            faster = np.exp(-ratios(engine, reference, 50))
            found = judge.within(
                faster, gates.speedup, alpha=alpha, session_sd=of_ratios, larger_is_better=True
            )
            yield _of_limit("speedup", found)


def _of_limit(gate: str, found: LimitVerdict) -> Limited:
    return Limited(gate, found.limit, found.measured, found.low, found.high, found.alpha, found.verdict)


def _embracing(row: Limited, overall: float) -> Limited:
    """The row with the figure of all queries together, and its bounds widened to that.

    The bounds leave out the rounds that are furthest off, which is right for comparisons; a limit must not be
    kept by leaving out what is beyond it.
    """
    if row.low is None or row.high is None:
        return replace(row, measured=overall)
    low, high = min(row.low, overall), max(row.high, overall)
    at_odds = low < row.limit < high
    return replace(
        row, measured=overall, low=low, high=high, verdict=Verdict.INCONCLUSIVE if at_odds else row.verdict
    )


def of_energy(joules_per_query: float | None, gates: Gates, batch: int) -> Limited | None:
    """The energy of an image against its limit, compared plainly; None where there is no limit."""
    limit = gates.at_batch("energy_mj", batch)
    if limit is None:
        return None
    measured = None if joules_per_query is None else joules_per_query * 1e3 / batch
    verdict = Verdict.INCONCLUSIVE if measured is None else Verdict.FAIL if measured > limit else Verdict.PASS
    return Limited("energy_mj", limit, measured, None, None, None, verdict)


def session_sd(timings: Mapping[str, Timings], baseline: LatencyBaseline | None) -> float:
    """What differs between sessions, from those that are stored of the very engine that was approved last.

    A rebuilt engine may be another one: its speed-up would pass for unrest, and hide slowdowns as large.
    """
    sessions = () if baseline is None else baseline.sessions
    stored = [
        (s.ratio, s.ratio_se or 0.0)
        for s in sessions
        if s.ratio is not None and baseline is not None and s.engine_digest == baseline.engine_digest
    ]
    engine = timings[ENGINE]
    least = SESSION_SD_PROCESSOR if engine.mode.clock is Clock.HOST else SESSION_SD
    spread = judge.session_sd([ratio for ratio, _ in stored], [error for _, error in stored], least)
    return math.hypot(spread, clock_sd(engine))


def clock_sd(engine: Timings) -> float:
    """What the clock adds to the session term, as a part of the time: much for an engine of microseconds."""
    if engine.mode.clock is Clock.HOST:
        return 0.0
    return EVENT_MS / float(np.median(engine.samples_ms))


def beyond_clock(row: Judged, engine: Timings) -> bool:
    """Whether a row is open because of the clock, which no number of rounds makes good."""
    verdict = row.verdict
    if row.what == FASTER_THAN or verdict.effect is None or verdict.verdict is not Verdict.INCONCLUSIVE:
        return False
    return bool(-special.ndtri(verdict.alpha) * clock_sd(engine) > math.log1p(verdict.tolerance))


def _absolute_sd(engine: Timings) -> float:
    return math.hypot(SESSION_SD_ABSOLUTE, clock_sd(engine))


def _judged(
    what: str, gated: bool, timings: Mapping[str, Timings], baseline: LatencyBaseline | None,
    tolerance: float, alpha: float,
) -> Judged:  # fmt: skip
    engine, approved, reference = timings[ENGINE], timings.get(APPROVED), timings.get(REFERENCE)
    if approved is not None:
        figures = {
            MEDIAN: (approved.samples_ms, engine.samples_ms),
            P95: (approved.samples_ms, engine.samples_ms),
            THROUGHPUT: (approved.seconds, engine.seconds),
        }
        verdict = judge.latency(
            *figures[what], tolerance=tolerance, alpha=alpha, statistic="p95" if what == P95 else "median",
            session_sd=session_sd(timings, baseline),
        )  # fmt: skip
        return Judged(what, gated, "the approved engine", verdict)
    sessions = () if baseline is None else tuple(map(asdict, baseline.sessions))
    stored = [session[_RATIOS[what]] for session in sessions if session[_RATIOS[what]] is not None]
    if reference is not None and len(stored) >= FEWEST_SESSIONS:
        verdict = judge.latency_ratio(
            stored, _ratios_now(what, engine, reference), tolerance=tolerance, alpha=alpha,
            session_sd=session_sd(timings, baseline),
        )  # fmt: skip
        return Judged(what, gated, f"{len(stored)} stored ratios to the reference", verdict)
    batch = 1 if baseline is None else baseline.batch
    verdict = judge.latency_absolute(
        [_time(what, session) for session in sessions], _time(what, figures_of(engine, batch)),
        tolerance=tolerance, alpha=alpha, session_sd=_absolute_sd(engine),
    )  # fmt: skip
    return Judged(what, gated, f"{len(sessions)} stored sessions", verdict)


_RATIOS = {MEDIAN: "ratio", P95: "ratio_p95", THROUGHPUT: "ratio_seconds"}
"""By figure: the stored ratio to the reference."""


def _ratios_now(what: str, engine: Timings, reference: Timings) -> np.ndarray:
    if what == THROUGHPUT:
        return ratios_of_seconds(engine, reference)
    return ratios(engine, reference, 95 if what == P95 else 50)


def _time(what: str, figures: Mapping[str, Any]) -> float:
    """The time that a figure is about, stored or of now: what a query takes, or an image."""
    return float(1 / figures["throughput"] if what == THROUGHPUT else figures[f"{what}_ms"])
