"""The exact paired test, its correction for many classes and what it can see."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache

import numpy as np
from scipy import stats

PLANNED_POWER = 0.8
"""Power at which the minimum detectable drop is stated."""
BENIGN_FLIPS = 0.02
"""Share of images assumed to flip harmlessly in either direction when power is planned."""


def mcnemar_p(b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """One-sided exact conditional p-values for "more broke than was fixed".

    McNemar's test in its exact form (Q. McNemar, Psychometrika 12, 1947): given b + c discordant pairs,
    b is Binomial(b + c, 1/2) if harm and benefit are equally likely.

    Args:
        b: Pairs with the reference right and the engine wrong, integers of any shape.
        c: Pairs with the reference wrong and the engine right, same shape.

    Returns:
        P(B >= b) of that shape; 1 where there are no discordant pairs.
    """
    b, c = np.asarray(b, np.int64), np.asarray(c, np.int64)  # small and unsigned counts would wrap
    return np.asarray(stats.binom.sf(b - 1, b + c, 0.5), dtype=float)


def holm(p: np.ndarray) -> np.ndarray:
    """Adjusted p-values of Holm's step-down procedure (S. Holm, Scand. J. Statist. 6, 1979).

    Args:
        p: p-values (K,).

    Returns:
        Adjusted p-values (K,), at most 1; rejecting those at or below alpha bounds the family's false
        alarms by alpha whatever the dependence between the tests.
    """
    order = np.argsort(p, kind="stable")
    scaled = np.asarray(p, dtype=float)[order] * np.arange(len(p), 0, -1)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return adjusted


def reaches(harm: int, margin: float, n: int) -> bool:
    """Whether a net loss of *harm* images of *n* is a drop, and at least *margin* (a fraction).

    Compared in rational numbers, so that a drop of exactly the margin counts: 0.01 is 1/100 here.
    """
    return harm >= images_needed(margin, n)


def images_needed(margin: float, n: int) -> int:
    """The smallest net loss of images among *n* that `reaches` the *margin* (a fraction)."""
    return max(1, math.ceil(Fraction(str(margin)) * n))


def minimum_detectable_drop(n: int, alpha: float, margin: float = 0.0) -> float | None:
    """The smallest true drop that the exact test finds with power .8 among *n* images.

    Power is summed over all outcomes, not approximated, under 2 % benign flips each way.

    Args:
        n: Images of the class.
        alpha: Level of the test after planning for the number of classes.
        margin: Observed drop that is needed besides significance, as a fraction.

    Returns:
        The drop as a fraction, rounded up to a tenth of a point; None where none can be seen.
    """
    return _smallest_seen(n, round(alpha, 12), margin)


@lru_cache(maxsize=4096)
def _smallest_seen(n: int, alpha: float, margin: float) -> float | None:
    steps = int(1000 * (1 - 2 * BENIGN_FLIPS))
    if n == 0 or _power(n, steps / 1000, alpha, margin) < PLANNED_POWER:
        return None
    low, high = 0, steps  # power rises with the drop: bisect in tenths of a point
    while high - low > 1:
        middle = (low + high) // 2
        if _power(n, middle / 1000, alpha, margin) >= PLANNED_POWER:
            high = middle
        else:
            low = middle
    return high / 1000


def _power(n: int, drop: float, alpha: float, margin: float) -> float:
    """Probability that *n* images with a true *drop* show a significant drop of at least *margin*."""
    harm, discordant = BENIGN_FLIPS + drop, 2 * BENIGN_FLIPS + drop
    low, high = np.asarray(stats.binom.ppf([1e-9, 1 - 1e-9], n, discordant))
    m = np.arange(int(low), int(high) + 1)
    # The smallest b with P(B >= b) <= alpha.
    critical = np.asarray(stats.binom.isf(alpha, m, 0.5)).astype(int) + 1
    needed = np.maximum(critical, (m + images_needed(margin, n) + 1) // 2)  # b - c with c = m - b
    weight = stats.binom.pmf(m, n, discordant)
    return float(weight @ stats.binom.sf(needed - 1, m, harm / discordant))
