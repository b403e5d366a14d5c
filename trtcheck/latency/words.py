"""Latency verdicts in words and numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trtcheck.case import Verdict
from trtcheck.judge import LatencyRule, LatencyVerdict
from trtcheck.judge.latency_bounds import EVENT_MS
from trtcheck.latency.judged import FASTER_THAN, MEDIAN, P95, THROUGHPUT, Judged, Limited
from trtcheck.names import confidence, percent, significant

_UNITS = {
    "latency_ms": "ms", "latency_p95_ms": "ms", "throughput": "images/s", "energy_mj": "mJ an image",
    "speedup": "x the reference",
}  # fmt: skip
_NAMES = {
    "latency_ms": "median", "latency_p95_ms": "p95", "throughput": "throughput",
    "energy_mj": "energy", "speedup": "speed",
}  # fmt: skip
_FIGURES = {MEDIAN: "median", P95: "p95", THROUGHPUT: "throughput"}


def milliseconds(value: float) -> str:
    """A time with four significant digits: ``0.7891 ms``, ``12.35 ms``."""
    return f"{significant(value)} ms"


def times(figures: Mapping[str, Any]) -> str:
    """What was measured of the engine."""
    tail = ", ".join(f"{name} {significant(figures[f'{name}_ms'])}" for name in ("p95", "p99"))
    marked = ": indicative" if "p99" in figures["indicative"] else ""
    return (
        f"median {milliseconds(figures['median_ms'])} ({tail}{marked}), "
        f"{significant(figures['throughput'])} images/s"
    )


def change(row: Judged, then: str | None = None) -> str:
    """A figure against what was approved: by how much it changed, how sure that is, what could be missed.

    Args:
        row: The figure.
        then: Its value then and now, in words, where it is told.
    """
    verdict = row.verdict
    if verdict.effect is None or verdict.low is None or verdict.high is None:
        return verdict.reason
    if row.what == FASTER_THAN:
        return _rival(row, verdict.effect)
    moved = slower(verdict.effect) if row.what != THROUGHPUT else _throughput(verdict.effect)
    head = f"{_FIGURES[row.what]}{'' if then is None else f' {then}'}: {moved} than {_against(row)}"
    return f"{head} ({_evidence(verdict)})"


def then_and_now(row: Judged, then: float, now: float) -> str:
    """A time of the approved engine and of this one, over all queries.

    Times that jump make these another ratio than the change, which is that of the rounds; then that is said.
    """
    verdict, told = row.verdict, f"{milliseconds(then)} -> {milliseconds(now)}"
    if verdict.low is None or verdict.high is None or verdict.low <= now / then - 1 <= verdict.high:
        return told
    return f"{told} over all queries, round by round"


def _against(row: Judged) -> str:
    if row.verdict.rule is LatencyRule.INTERLEAVED:
        return f"{row.against}, timed in the same {row.verdict.rounds} rounds"
    return f"what {row.against} predict"


def slower(effect: float) -> str:
    """``5.3 % slower``, ``0.2 % faster``."""
    return f"{percent(abs(effect))} {'slower' if effect >= 0 else 'faster'}"


def _throughput(effect: float) -> str:
    change = 1 / (1 + effect) - 1
    return f"{percent(abs(change))} {'lower' if change < 0 else 'higher'}"


def _rival(row: Judged, effect: float) -> str:
    verdict = row.verdict
    between = f"{signed(verdict.low)} to {signed(verdict.high)} at {confidence(1 - verdict.alpha)} a side"
    return f"{slower(effect)} than {row.against} ({between})"


def signed(change: float | None) -> str:
    """A change of time in percent with its sign: ``+5.3 %``."""
    if change is None:
        return "unknown"
    return f"{'+' if change >= 0 else '-'}{percent(abs(change))}"


def _evidence(verdict: LatencyVerdict) -> str:
    sure = f"{signed(verdict.low)} to {signed(verdict.high)} at {confidence(1 - verdict.alpha)} a side"
    limit = f"limit {signed(verdict.tolerance)}"
    seen = None
    if verdict.detectable is not None:
        seen = f"{signed(verdict.detectable)} would have failed"
    return ", ".join(filter(None, [sure, limit, seen]))


def too_short(unsure: float, tolerance: float) -> str:
    """That an engine is too fast for CUDA events, which leave *unsure* a part of its time."""
    return (
        f"CUDA events are good to {EVENT_MS * 1e3:g} µs, {percent(unsure)} of this time, so that no slowdown "
        f"can be held to {percent(tolerance)}: time a larger batch, or raise the limit"
    )


def limit(row: Limited) -> str:
    """A figure against its limit."""
    unit, name = _UNITS[row.gate], _NAMES[row.gate]
    bound = "at least" if row.gate in ("throughput", "speedup") else "at most"
    wanted = f"{row.gate}: {bound} {significant(row.limit)} {unit}"
    if row.measured is None:
        return f"{name} could not be measured ({wanted})"
    between = ""
    if row.low is not None and row.high is not None:
        between = f", measured {significant(row.low)} to {significant(row.high)}"
    return f"{name} {significant(row.measured)} {unit} ({wanted}{between})"


def failures(
    rows: Sequence[Judged], limits: Sequence[Limited], told: Mapping[str, tuple[float, float]]
) -> list[str]:
    """What failed, a clause each; *told* has a figure's values then and now, in ms."""
    found = [
        change(row, then_and_now(row, *told[row.what]) if row.what in told else None)
        for row in rows
        if row.verdict.verdict is Verdict.FAIL
    ]
    return found + [limit(row) for row in limits if row.verdict is Verdict.FAIL]
