"""Verdicts on times: whether an engine became slower than what was approved."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy import special

from trtcheck.case import Verdict
from trtcheck.judge.family import ALPHA, check_alpha
from trtcheck.judge.latency_bounds import (
    FEWEST_ROUNDS,
    FEWEST_SESSIONS,
    SESSION_SD,
    SESSION_SD_ABSOLUTE,
    Bounds,
    bounds,
    check_session_sd,
    hodges_lehmann,
    per_round,
)
from trtcheck.judge.power import PLANNED_POWER
from trtcheck.judge.verdicts import LatencyRule, LatencyVerdict

TOLERANCE = 0.02
"""The slowdown that is accepted where nothing else is said."""


def latency(
    old: np.ndarray,
    new: np.ndarray,
    *,
    tolerance: float = TOLERANCE,
    alpha: float = ALPHA,
    statistic: str = "median",
    session_sd: float = SESSION_SD,
) -> LatencyVerdict:
    """Judges whether *new* is slower than *old*, both timed in the same rounds.

    Fails if the one-sided lower bound of the slowdown exceeds the tolerance, is inconclusive if only the
    upper one does, else passes. The bounds are those of `trtcheck.judge.latency_bounds.bounds` on the
    rounds' log ratios.

    Args:
        old: Times of the approved engine (rounds, samples), in any unit, or one figure a round (rounds,);
            larger is worse.
        new: Times of the engine, as many rounds.
        tolerance: The slowdown that is accepted, .02 is 2 %.
        alpha: Chance of a failure where the slowdown is just the tolerance, at most.
        statistic: What sums a round up: ``"median"``, ``"p95"`` or ``"mean"``.
        session_sd: Standard deviation of the log ratio between sessions.

    Raises:
        ValueError: The numbers of rounds differ, a time is not positive and finite, or a limit is none.
    """
    blank = _blank(LatencyRule.INTERLEAVED, tolerance, alpha, session_sd)
    before, after = per_round(old, statistic, "old"), per_round(new, statistic, "new")
    check_same_rounds(before, after, "old", "new")
    blank = replace(blank, rounds=len(after))
    found = bounds(after - before, alpha, session_sd)
    if found is None:
        return replace(blank, reason=f"{counted(len(after), 'round')}, at least {FEWEST_ROUNDS} are needed")
    return _concluded(blank, found)


def latency_ratio(
    stored: Sequence[float] | np.ndarray,
    now: np.ndarray | float,
    *,
    tolerance: float = TOLERANCE,
    alpha: float = ALPHA,
    session_sd: float = SESSION_SD,
) -> LatencyVerdict:
    """Judges a session's ratio to the reference on the same device by those of stored sessions.

    The lower bound of the slowdown is y - mean - t s sqrt(1 + 1/K), the prediction bound of one more session
    (Hahn and Meeker, Statistical Intervals, 4.7); s is the stored sessions' standard deviation, and at least
    what the session term and this session's own rounds come to.

    Args:
        stored: log(time / the reference's time) of each stored session (K,), which are distinct.
        now: The same of this session: one figure a round (rounds,), or their estimate.
        tolerance: As of `latency`.
        alpha: As of `latency`.
        session_sd: Standard deviation of the log ratio between sessions, at least.

    Raises:
        ValueError: A figure is not finite, there are no rounds, or a limit is none.
    """
    blank = _blank(LatencyRule.RATIO, tolerance, alpha, session_sd)
    rounds, logs = _finite(np.atleast_1d(now), "now"), _finite(stored, "stored")
    own = bounds(rounds, alpha, session_sd)
    return _predicted(
        replace(blank, rounds=0 if np.ndim(now) == 0 else len(rounds)),
        logs, hodges_lehmann(rounds), session_sd if own is None else own.se,
    )  # fmt: skip


def latency_absolute(
    stored: Sequence[float] | np.ndarray,
    now: float,
    *,
    tolerance: float = TOLERANCE,
    alpha: float = ALPHA,
    session_sd: float = SESSION_SD_ABSOLUTE,
) -> LatencyVerdict:
    """Judges a session's time by those of stored sessions, as `latency_ratio` does with ratios.

    Args:
        stored: Time of each stored session (K,), which are distinct, in any unit.
        now: The same of this session.
        tolerance: As of `latency`.
        alpha: As of `latency`.
        session_sd: Standard deviation of the log time between sessions, at least.

    Raises:
        ValueError: A time is not positive and finite, or a limit is none.
    """
    blank = _blank(LatencyRule.ABSOLUTE, tolerance, alpha, session_sd)
    logs = per_round(np.asarray(stored, dtype=float).reshape(-1), "median", "stored")
    return _predicted(blank, logs, float(per_round(np.array([now]), "median", "now")[0]), session_sd)


def check_same_rounds(one: np.ndarray, other: np.ndarray, *names: str) -> None:
    """Raises ValueError where *one* and *other*, called *names*, have not as many rounds."""
    if len(one) != len(other):
        raise ValueError(
            f"{names[0]} has {counted(len(one), 'round')} and {names[1]} {len(other)}: they must be timed in "
            "the same rounds"
        )


def counted(count: int, what: str) -> str:
    """A number of things in words."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def _finite(logs: Sequence[float] | np.ndarray, name: str) -> np.ndarray:
    found = np.asarray(logs, dtype=float)
    if found.ndim != 1 or not np.isfinite(found).all():
        raise ValueError(f"{name}: expected a vector of finite log ratios, got {found.tolist()}")
    return found


def _blank(rule: LatencyRule, tolerance: float, alpha: float, session_sd: float) -> LatencyVerdict:
    """The verdict before anything is compared."""
    check_alpha(alpha)
    check_session_sd(session_sd)
    if not (math.isfinite(tolerance) and tolerance >= 0):
        raise ValueError(f"tolerance is {tolerance}, expected 0 or more (0.02 is 2 %)")
    return LatencyVerdict(
        rule=rule, effect=None, low=None, high=None, detectable=None, tolerance=tolerance, alpha=alpha,
        rounds=0, sessions=0, session_sd=session_sd, verdict=Verdict.INCONCLUSIVE,
    )  # fmt: skip


def _predicted(blank: LatencyVerdict, stored: np.ndarray, now: float, floor: float) -> LatencyVerdict:
    """The verdict by the prediction bound, on the log scale; *floor* is the least standard deviation."""
    sessions = len(stored)
    blank = replace(blank, sessions=sessions)
    if sessions < FEWEST_SESSIONS:
        missing = FEWEST_SESSIONS - sessions
        reason = f"{counted(sessions, 'stored session')}, {FEWEST_SESSIONS} are needed: {missing} more"
        return replace(blank, rule=LatencyRule.NONE, reason=reason)
    sd, freedom = max(float(stored.std(ddof=1)), floor), sessions - 1
    se = sd * math.sqrt(1 + 1 / sessions)
    effect, t = now - float(stored.mean()), -float(special.stdtrit(freedom, blank.alpha))
    found = Bounds(estimate=effect, low=effect - t * se, high=effect + t * se, se=se, freedom=freedom)
    return _concluded(replace(blank, session_sd=sd), found)


def _concluded(blank: LatencyVerdict, found: Bounds) -> LatencyVerdict:
    """The verdict that bounds on the log scale come to."""
    margin, verdict, reason = math.log1p(blank.tolerance), Verdict.PASS, ""
    if found.low > margin:
        verdict = Verdict.FAIL
    elif found.high > margin:
        verdict = Verdict.INCONCLUSIVE
        reason = (
            f"up to {100 * _change(found.high):.1f} % slower cannot be ruled out, "
            f"{100 * blank.tolerance:g} % is accepted"
        )
    return replace(
        blank, effect=_change(found.estimate), low=_change(found.low), high=_change(found.high),
        detectable=_change(margin + found.power_needs(PLANNED_POWER)), verdict=verdict, reason=reason,
    )  # fmt: skip


def _change(log: float) -> float:
    """The share that a difference of logarithms is; beyond all times there are, infinite."""
    try:
        return math.expm1(log)
    except OverflowError:
        return math.inf
