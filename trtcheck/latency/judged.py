"""From times to verdicts: which rule compares what, and what the limits say."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from trtcheck import judge
from trtcheck.baselines.latency_schema import FEWEST_SESSIONS, LatencyBaseline, StoredSession
from trtcheck.case import Gates, Verdict
from trtcheck.judge import LatencyRule, LatencyVerdict
from trtcheck.judge.latency_bounds import SESSION_SD, SESSION_SD_PROCESSOR
from trtcheck.latency.measurement import APPROVED, ENGINE, REFERENCE, Timings
from trtcheck.latency.stored import ratios
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
    rival = gates.faster_than
    if rival is not None and rival in timings:
        verdict = judge.latency(
            timings[rival].samples_ms, timings[ENGINE].samples_ms, tolerance=0.0, alpha=alpha,
            session_sd=session_sd(timings, baseline),
        )  # fmt: skip
        found.append(Judged(FASTER_THAN, True, rival, verdict))
    return tuple(found)


def undecided(
    timings: Mapping[str, Timings], baseline: LatencyBaseline | None, gates: Gates, batch: int, share: float
) -> bool:
    """Whether more rounds could settle what is open: not where stored sessions are what is missing."""
    rows = compared(timings, baseline, gates, share)
    if any(row.verdict.verdict is Verdict.FAIL for row in rows):
        return False
    open_rows = any(
        row.gated
        and row.verdict.verdict is Verdict.INCONCLUSIVE
        and row.verdict.rule is LatencyRule.INTERLEAVED
        for row in rows
    )
    limits = limited(timings, baseline, gates, batch, share)
    return open_rows or any(row.verdict is Verdict.INCONCLUSIVE for row in limits)


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
            found = judge.within(engine.samples_ms, limit, alpha=alpha, statistic=statistic)
            yield _of_limit(gate, found)
    least = gates.at_batch("throughput", batch)
    if least is not None:
        queries = engine.samples_ms.shape[1]
        rates = queries * batch / engine.seconds
        yield _of_limit("throughput", judge.within(rates, least, alpha=alpha, larger_is_better=True))
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
    least = SESSION_SD_PROCESSOR if timings[ENGINE].mode.clock is Clock.HOST else SESSION_SD
    return judge.session_sd([ratio for ratio, _ in stored], [error for _, error in stored], least)


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
    sessions = () if baseline is None else baseline.sessions
    of_ratio, percentile = _RATIOS.get(what, (None, 50))
    stored = [] if of_ratio is None else [value for s in sessions if (value := of_ratio(s)) is not None]
    if reference is not None and len(stored) >= FEWEST_SESSIONS:
        now = ratios(engine, reference, percentile)
        verdict = judge.latency_ratio(
            np.array(stored), now, tolerance=tolerance, alpha=alpha, session_sd=session_sd(timings, baseline)
        )
        return Judged(what, gated, f"{len(stored)} stored ratios to the reference", verdict)
    times = np.array([] if baseline is None else [_TIMES[what](s, baseline.batch) for s in sessions])
    verdict = judge.latency_absolute(times, _time_now(what, engine), tolerance=tolerance, alpha=alpha)
    return Judged(what, gated, f"{len(times)} stored sessions", verdict)


_RATIOS: Mapping[str, tuple[Callable[[StoredSession], float | None], int]] = {
    MEDIAN: (lambda s: s.ratio, 50),
    P95: (lambda s: s.ratio_p95, 95),
}
"""By figure: the stored ratio to the reference, and the percentile that it is one of."""

_TIMES: Mapping[str, Callable[[StoredSession, int], float]] = {
    MEDIAN: lambda s, _batch: s.median_ms,
    P95: lambda s, _batch: s.p95_ms,
    THROUGHPUT: lambda s, batch: batch / s.throughput,
}
"""By figure: the stored time of a query."""


def _time_now(what: str, engine: Timings) -> float:
    if what == THROUGHPUT:
        return float(engine.seconds.sum() / engine.samples_ms.size)
    return float(np.percentile(engine.samples_ms, 95 if what == P95 else 50))
