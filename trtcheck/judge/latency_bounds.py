"""From rounds to an estimate with bounds: Hodges-Lehmann, a trimmed t, and what differs between sessions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from trtcheck.judge.family import check_alpha

SESSION_SD = 0.0015
"""Standard deviation between processes of the log ratio of two engines timed in the same rounds. Measured on
an H100: .10 to .14 % over 8 processes, of which one was .31 % off; at 1 % this covers .35 %."""
SESSION_SD_PROCESSOR = 0.003
"""The same on a processor, where memory lies differently with every loading: .2 to .44 % between processes on
an ordinary virtual machine, .27 to .35 % between loadings in one process."""
SESSION_SD_ABSOLUTE = 0.003
"""The same of one engine's log time: .30 % over separate processes on the same H100."""
EVENT_MS = 0.0005
"""The same of a time between two CUDA events, in ms, however long it is: the resolution that CUDA documents
of ``cuEventElapsedTime``. Two loadings of one engine of 19 microseconds were that far apart on an H100."""
FEWEST_ROUNDS = 8
"""Fewer rounds do not show what is an outlier."""
TRIMMED = 6
"""One part of so many is trimmed at each end: 1 of 8 rounds, 2 of 12, 4 of 24."""
FEWEST_SESSIONS = 5
"""Stored sessions from which anything is concluded."""
CAUTION = 0.8
"""Confidence of the upper bound that stands for the spread of few sessions."""
KNOWN = 1e6
"""Degrees of freedom of a standard error that is as good as known."""

STATISTICS = {"median": 50.0, "p95": 95.0, "mean": None}
"""What sums a round up, with its percentile."""


@dataclass(frozen=True)
class Bounds:
    """An estimate on the log scale.

    Attributes:
        estimate: Hodges-Lehmann estimate, or this session's difference to stored ones.
        low: One-sided lower bound.
        high: One-sided upper bound.
        se: Standard error, what differs between sessions included.
        freedom: Its degrees of freedom.
    """

    estimate: float
    low: float
    high: float
    se: float
    freedom: float

    def power_needs(self, power: float) -> float:
        """How far beyond a margin the truth must lie for the lower bound to be beyond it with that *power*.

        By the noncentral t distribution: another measurement's bound is as uncertain as this one's spread.
        """
        if self.se == 0:
            return 0.0
        distance = (self.estimate - self.low) / self.se
        return float(special.nctdtrinc(self.freedom, 1 - power, distance)) * self.se


def per_round(times: np.ndarray, statistic: str, name: str = "times") -> np.ndarray:
    """Logarithm of one figure a round, float64 (rounds,).

    Args:
        times: Positive times (rounds, samples) in any unit, or one figure a round (rounds,).
        statistic: ``"median"``, ``"p95"`` or ``"mean"`` of a round's samples.
        name: What to call the times in errors.

    Raises:
        ValueError: The times have another shape, a round has no samples, one is not positive and finite, or
            the statistic is unknown.
    """
    if statistic not in STATISTICS:
        raise ValueError(f"statistic is {statistic!r}, expected one of: {', '.join(STATISTICS)}")
    found = np.asarray(times, dtype=np.float64)
    if found.ndim not in (1, 2) or (found.ndim == 2 and not found.shape[1]):
        raise ValueError(
            f"{name}: expected (rounds, samples) with one sample or more, or (rounds,), got {found.shape}"
        )
    wrong = ~(np.isfinite(found) & (found > 0))
    if wrong.any():
        where = tuple(int(axis) for axis in np.argwhere(wrong)[0])
        raise ValueError(f"{name}: expected positive finite figures, got {found[where]} at {list(where)}")
    if found.ndim == 1:
        return np.asarray(np.log(found))
    percentile = STATISTICS[statistic]
    summed = found.mean(axis=1) if percentile is None else np.percentile(found, percentile, axis=1)
    return np.asarray(np.log(summed))


def bounds(logs: np.ndarray, alpha: float, session_sd: float) -> Bounds | None:
    """Hodges-Lehmann estimate of the centre of *logs*, and bounds that hold for other sessions too.

    The rounds' own bounds are Student's on the trimmed mean (Tukey and McLaughlin, Sankhya A 25, 1963), so
    that a hiccup in a round or two does not blind the rest. What differs between sessions is added in
    quadrature to their distance (Zou and Donner, Statistics in Medicine 27, 2008).

    Args:
        logs: One figure a round (rounds,).
        alpha: Chance that a bound is on the wrong side; each of them has it.
        session_sd: Standard deviation of the log figure between sessions.

    Returns:
        The bounds; None where there are fewer than eight rounds.

    Raises:
        ValueError: *alpha* is no level, or the session term negative or not finite.
    """
    check_alpha(alpha)
    check_session_sd(session_sd)
    if len(logs) < FEWEST_ROUNDS:
        return None
    estimate, (centre, se, freedom) = hodges_lehmann(logs), trimmed_mean(logs)
    t, z = -float(special.stdtrit(freedom, alpha)), -float(special.ndtri(alpha))
    distance = math.hypot(t * se, z * session_sd)
    both = math.hypot(se, session_sd)
    # Two estimates of one centre: where they are at odds, the bounds embrace both.
    return Bounds(
        estimate=estimate, low=min(centre - distance, estimate), high=max(centre + distance, estimate),
        se=both, freedom=min(freedom * min(both / se, KNOWN) ** 4, KNOWN) if se else KNOWN,
    )  # fmt: skip


def hodges_lehmann(logs: np.ndarray) -> float:
    """The median of the means of all pairs of *logs* (rounds,), each with itself too.

    Raises:
        ValueError: There are no rounds.
    """
    if not len(logs):
        raise ValueError("expected a round or more, got none")
    return float(np.median(walsh_averages(logs)))


def walsh_averages(logs: np.ndarray) -> np.ndarray:
    """Means of all pairs of *logs* (rounds,), each with itself too: (rounds * (rounds + 1) / 2,)."""
    first, second = np.triu_indices(len(logs))
    return np.asarray((logs[first] + logs[second]) / 2)


def trimmed_mean(logs: np.ndarray) -> tuple[float, float, int]:
    """Mean without a sixth of the rounds at each end, its standard error and degrees of freedom.

    The standard error is that of Tukey and McLaughlin: from the winsorized variance, scaled to what is left.
    """
    rounds, cut = len(logs), len(logs) // TRIMMED
    left = rounds - 2 * cut
    in_order = np.sort(logs)
    inner = in_order[cut : rounds - cut]
    winsorized = np.clip(in_order, inner[0], inner[-1])
    spread = float(((winsorized - winsorized.mean()) ** 2).sum())
    return float(inner.mean()), math.sqrt(spread / (left * (left - 1))), left - 1


def check_session_sd(session_sd: float) -> None:
    """Raises ValueError where *session_sd* is no standard deviation."""
    if not (math.isfinite(session_sd) and session_sd >= 0):
        raise ValueError(f"session_sd is {session_sd}, expected 0 or more")


def session_sd(
    stored_ratios: Sequence[float], standard_errors: Sequence[float], least: float = SESSION_SD
) -> float:
    """What differs between sessions: the default, or more where five stored sessions or more show it.

    The spread of the stored ratios less what their rounds explain. It is taken at its upper 80 % bound,
    (K - 1) s^2 / chi^2(.2, K - 1), since a term that is too small makes false alarms, one that is too large
    costs a little power. It never falls below the default: sessions differ in few and large steps (one of
    eight was .31 % off on the H100, the others .1 % at most), and a dozen may not have met one.

    Args:
        stored_ratios: Log ratios of the same two engines, one a session.
        standard_errors: Their standard errors from the spread of the rounds, in the same order.
        least: The default.

    Raises:
        ValueError: The two differ in length, or hold what is not finite, or negative standard errors.
    """
    ratios, errors = np.asarray(stored_ratios, dtype=float), np.asarray(standard_errors, dtype=float)
    if ratios.ndim != 1 or ratios.shape != errors.shape:
        raise ValueError(f"expected as many standard errors as ratios, got {ratios.shape} and {errors.shape}")
    if not (np.isfinite(ratios).all() and np.isfinite(errors).all() and (errors >= 0).all()):
        raise ValueError("expected finite ratios, and finite standard errors of 0 or more")
    if len(ratios) < FEWEST_SESSIONS:
        return least
    freedom = len(ratios) - 1
    spread = freedom * float(ratios.var(ddof=1)) / float(special.chdtri(freedom, CAUTION))
    return max(least, math.sqrt(max(0.0, spread - float((errors**2).mean()))))
