"""How much faster an engine is, whether it keeps a limit, and when a growing measurement may be judged."""

from __future__ import annotations

import math

import numpy as np

from trtcheck.case import Verdict
from trtcheck.judge.family import ALPHA, check_alpha
from trtcheck.judge.latency import check_same_rounds
from trtcheck.judge.latency_bounds import SESSION_SD, SESSION_SD_ABSOLUTE, bounds, hodges_lehmann, per_round
from trtcheck.judge.verdicts import LimitVerdict, Speedup

FIRST_SHARE = 0.75
"""Share of alpha that the first of several looks may spend: most verdicts fall there, and its bounds are only
7 % wider for it. The others share the rest; doubled rounds narrow their bounds by more than that costs."""
STEPS = 2**20
"""Shares are rounded down to one part of so many, so that they add up exactly."""


def speedup(
    baseline: np.ndarray,
    engine: np.ndarray,
    *,
    alpha: float = ALPHA,
    session_sd: float = SESSION_SD,
    statistic: str = "median",
) -> Speedup:
    """How many times as fast as *baseline* the *engine* is, with a two-sided interval.

    Args:
        baseline: Times (rounds, samples) or (rounds,).
        engine: Times of the same rounds.
        alpha: Chance that the interval misses.
        session_sd: Standard deviation of the log ratio between sessions.
        statistic: What sums a round up.

    Raises:
        ValueError: There are no rounds, their numbers differ, or a time is not positive and finite.
    """
    check_alpha(alpha)
    slow, fast = per_round(baseline, statistic, "baseline"), per_round(engine, statistic, "engine")
    check_same_rounds(slow, fast, "baseline", "engine")
    found = bounds(slow - fast, alpha / 2, session_sd)
    return Speedup(
        ratio=math.exp(hodges_lehmann(slow - fast)),
        low=None if found is None else math.exp(found.low),
        high=None if found is None else math.exp(found.high),
        confidence=1 - alpha,
    )


def within(
    times: np.ndarray,
    limit: float,
    *,
    alpha: float = ALPHA,
    session_sd: float = SESSION_SD_ABSOLUTE,
    statistic: str = "median",
    larger_is_better: bool = False,
) -> LimitVerdict:
    """Holds a figure against a limit of its own, for example a median of 5 ms or 1000 images a second.

    Fails if it is shown to be beyond the limit, passes if it is shown to keep it, else is inconclusive.

    Args:
        times: Times (rounds, samples), or one positive figure a round (rounds,), in the unit of *limit*.
        limit: Largest accepted value; smallest where *larger_is_better*.
        alpha: Chance of a failure where the figure is just the limit, at most.
        session_sd: Standard deviation of the log figure between sessions.
        statistic: What sums a round up.
        larger_is_better: Whether *limit* is a floor.

    Raises:
        ValueError: There are no rounds, a figure is not positive and finite, or neither is the limit.
    """
    if not (math.isfinite(limit) and limit > 0):
        raise ValueError(f"limit is {limit}, expected a number above 0")
    logs = per_round(times, statistic)
    found, measured = bounds(logs, alpha, session_sd), math.exp(hodges_lehmann(logs))
    if found is None:
        return LimitVerdict(measured, None, None, limit, alpha, Verdict.INCONCLUSIVE)
    low, high = math.exp(found.low), math.exp(found.high)
    best, worst = (high, low) if larger_is_better else (low, high)
    sign = -1 if larger_is_better else 1
    verdict = Verdict.INCONCLUSIVE
    if sign * best > sign * limit:
        verdict = Verdict.FAIL
    elif sign * worst <= sign * limit:
        verdict = Verdict.PASS
    return LimitVerdict(measured, low, high, limit, alpha, verdict)


def looks(rounds: int, most: int) -> tuple[tuple[int, float], ...]:
    """When an adaptive measurement may ask for its verdict, and the share of alpha of each look.

    Looks double until *most*; where that leaves room for one only, it has all of alpha. The shares sum to 1
    at most, so that all looks together have the level of one, whatever their dependence (Bonferroni).

    Args:
        rounds: Rounds before the first look.
        most: Rounds that the measurement may take at most.

    Raises:
        ValueError: Either is below 1.
    """
    if rounds < 1 or most < 1:
        raise ValueError(f"{rounds} rounds of at most {most}: expected 1 or more")
    counts = [min(rounds, most)]
    while counts[-1] * 2 <= most:
        counts.append(counts[-1] * 2)
    if len(counts) == 1:
        return ((counts[0], 1.0),)
    counts[-1] = most
    later = math.floor(STEPS * (1 - FIRST_SHARE) / (len(counts) - 1)) / STEPS
    return ((counts[0], FIRST_SHARE), *((count, later) for count in counts[1:]))
