"""What a number of images can show: the smallest true drop that the exact test finds with power .8."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from scipy import special

from trtcheck.judge.paired import net_loss_needed, ratio

PLANNED_POWER = 0.8
"""Power at which the minimum detectable drop is stated."""
BENIGN_FLIPS = 0.02
"""Share of images assumed to flip harmlessly in either direction when power is planned."""
ROUND_NUMBERS = tuple(
    digit * 10**zeros for zeros in range(1, 8) for digit in (1, 2, 5) if zeros < 7 or digit == 1
)
"""Numbers of images that are proposed: 10 to 10 million."""
STEPS = 1000
"""Drops are stated in tenths of a point."""
ROUNDING = 1e-9
"""Error of a drop in steps, generously."""
NEGLIGIBLE = 1e-12
"""Outcomes with a smaller probability are left out of the sum: less than 1e-9 in all."""

Power = Callable[[np.ndarray], np.ndarray]


@lru_cache(maxsize=4096)
def minimum_detectable_drop(n: int, alpha: float, margin: float = 0.0) -> float | None:
    """The smallest true drop that the exact test finds with power .8 among *n* images.

    Power is summed over all outcomes, not approximated, under 2 % benign flips each way.

    Args:
        n: Images of the class.
        alpha: Level of the test after planning for the number of classes, above 0; 1 asks for no evidence.
        margin: Observed drop that is needed besides significance, as a fraction.

    Returns:
        The drop as a fraction, rounded up to a tenth of a point; None where none can be seen.

    Raises:
        ValueError: *n* is no number of images, or *alpha* no level.
    """
    if n < 0 or not 0 < alpha <= 1:
        raise ValueError(f"{n} images at level {alpha}: expected 0 or more, and above 0 to 1")
    drop = float(minimum_detectable_drops(np.array([n]), alpha, np.array([margin]))[0])
    return None if np.isnan(drop) else drop


def minimum_detectable_drops(
    n: np.ndarray,
    alpha: float | np.ndarray,
    margins: np.ndarray,
    flips: float | np.ndarray = BENIGN_FLIPS,
) -> np.ndarray:
    """`minimum_detectable_drop` for many classes.

    Args:
        n: Images of each class, integers (C,).
        alpha: Level of the test, one for all or (C,), above 0.
        margins: Observed drops that are needed besides significance, as fractions (C,).
        flips: Share of images taken to flip harmlessly in either direction, one for all or (C,), below .5.

    Returns:
        The drops (C,) as fractions; NaN where none can be seen.
    """
    (images, alphas, margins, benign), back = different(n, alpha, margins, flips)
    power = _power(images, benign, alphas, net_loss_needed(margins.tolist(), images.astype(np.int64)))
    highest = (STEPS * (1 - 2 * benign) + ROUNDING).astype(np.int64)
    return np.asarray((smallest_step(lambda steps: power(steps / STEPS), highest) / STEPS)[back])


def drops_seen(
    n: np.ndarray, alpha: np.ndarray, margins: np.ndarray, flips: np.ndarray, drops: np.ndarray
) -> np.ndarray:
    """Whether `minimum_detectable_drops` are at most *drops* (C,), at a tenth of the work; bool (C,)."""
    (images, alphas, margins, flips, wanted), back = different(n, alpha, margins, flips, drops)
    steps = np.floor(STEPS * wanted + ROUNDING)
    power = _power(images, flips, alphas, net_loss_needed(margins.tolist(), images.astype(np.int64)))
    harm = np.minimum(steps / STEPS, 1 - 2 * flips)
    return np.asarray(((steps > 0) & (power(harm) >= PLANNED_POWER))[back])


def different(n: np.ndarray, *more: float | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What differs among the classes' figures, in rows (F, D), and which of that each class has (C,)."""
    columns = [np.broadcast_to(column, np.shape(n)) for column in (n, *more)]
    figures, back = np.unique(np.column_stack(columns).astype(float), axis=0, return_inverse=True)
    return figures.T, back.reshape(-1)


def detectable_precision_drops(
    tp: np.ndarray,
    fp: np.ndarray,
    support: np.ndarray,
    others: np.ndarray,
    alpha: float | np.ndarray,
    margins: np.ndarray,
) -> np.ndarray:
    """The smallest true drops of precision that the test on false positives finds with power .8.

    The harm is that images of other classes are newly put into the class, the true positives as they are. As
    many of them are taken to flip harmlessly each way as 2 % of the class's own images.

    Args:
        tp: True positives of each class before, integers (C,).
        fp: False positives of each class before (C,).
        support: Images of each class (C,).
        others: Images of the other classes (C,).
        alpha: Level of the test, one for all or (C,), above 0.
        margins: Observed drops of precision that are needed besides significance, as fractions (C,).

    Returns:
        The drops of precision (C,) as fractions, rounded up to a tenth of a point; NaN where none can be
        seen, or where precision is undefined or 0.
    """
    told, highest, power = _precision_power(tp, fp, support, others, alpha, margins)
    drops = np.full(told.shape, np.nan)
    drops[told] = smallest_step(power, highest) / STEPS
    return drops


def precision_drops_seen(
    tp: np.ndarray,
    fp: np.ndarray,
    support: np.ndarray,
    others: np.ndarray,
    alpha: float | np.ndarray,
    margins: np.ndarray,
    drops: np.ndarray,
) -> np.ndarray:
    """Whether `detectable_precision_drops` are at most *drops* (C,), at a tenth of the work; bool (C,)."""
    told, highest, power = _precision_power(tp, fp, support, others, alpha, margins)
    steps = np.floor(STEPS * np.asarray(drops, float)[told] + ROUNDING).astype(np.int64)
    seen = np.zeros(told.shape, bool)
    seen[told] = (steps > 0) & (power(np.minimum(steps, highest)) >= PLANNED_POWER)
    return seen


def _precision_power(
    tp: np.ndarray,
    fp: np.ndarray,
    support: np.ndarray,
    others: np.ndarray,
    alpha: float | np.ndarray,
    margins: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, Power]:
    """Which classes can show a drop of precision, bool (C,); their largest drops and power, in steps."""
    tp, fp, support, others = (np.asarray(counts, np.int64) for counts in (tp, fp, support, others))
    needed = new_false_positives_needed(tp, fp, margins.tolist())
    before, given = tp / np.maximum(tp + fp, 1), tp + fp
    # Few others leave room for few flips: a quarter of them each way at most.
    flips = np.minimum(BENIGN_FLIPS * support / np.maximum(others, 1), 0.25)
    worst = tp / np.maximum(given + others * (1 - 2 * flips), 1)
    highest = np.floor(STEPS * (before - worst)).astype(np.int64)
    told = (highest > 0) & np.isfinite(needed)
    before, given, others = before[told], given[told], others[told]
    power = _power(others, flips[told], np.broadcast_to(alpha, tp.shape)[told], needed[told])

    def of_drop(steps: np.ndarray) -> np.ndarray:
        after = before - steps / STEPS
        return power(given * steps / STEPS / after / others)

    return told, highest[told], of_drop


def new_false_positives_needed(tp: np.ndarray, fp: np.ndarray, margins: Sequence[float]) -> np.ndarray:
    """`false_positives_needed` for many classes (C,)."""
    rows = zip(tp.tolist(), fp.tolist(), margins, strict=True)
    return np.array([false_positives_needed(*row) for row in rows], float)


def false_positives_needed(tp: int, fp: int, margin: float) -> float:
    """The smallest number of new false positives that costs *margin* of precision, infinite where none does.

    At least one; exact, so that a drop of exactly the margin counts.
    """
    share = ratio(margin)
    left = share.denominator * tp - share.numerator * (tp + fp)
    if left <= 0:
        return np.inf
    return max(1, -(-share.denominator * tp * (tp + fp) // left) - (tp + fp))


def _power(n: np.ndarray, flips: np.ndarray, alpha: np.ndarray, needed: np.ndarray) -> Power:
    """The exact power of many tests as a function of their harm.

    Of *n* images each, a share *flips* gets better by chance, as many get worse by chance, and the *harm* is
    the share that gets worse besides. The sum runs over c, the images that got better: its terms do not
    depend on the harm, and b, given c, is binomial. A test finds the harm if b - c is at least *needed* and
    significant at *alpha*.

    Args:
        n: Images (T,).
        flips: Share that flips harmlessly in either direction (T,).
        alpha: Level (T,).
        needed: Net loss of images that is needed besides significance (T,).
    """
    test, c = _ranges(n, flips)
    weight = _binomial(c, n[test], flips[test])
    test, c, weight = (values[weight > NEGLIGIBLE] for values in (test, c, weight))
    b = np.maximum(_critical(c, alpha, test), c + needed[test])
    possible = b <= n[test] - c
    test, c, weight, b = (values[possible] for values in (test, c, weight, b))
    others = n[test] - c - b + 1

    def power(harm: np.ndarray) -> np.ndarray:
        worse = np.minimum((flips + harm) / (1 - flips), 1.0)  # given that it did not get better
        found = special.betainc(b, others, worse[test])
        return np.bincount(test, weight * found, minlength=len(n))

    return power


def _ranges(n: np.ndarray, flips: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The counts with a probability that matters under Binomial(n, flips), and the tests they belong to.

    All tests' in a row. Bernstein's inequality bounds both tails.
    """
    mean, log = n * flips, -np.log(NEGLIGIBLE)
    reach = log / 3 + np.sqrt(log**2 / 9 + 2 * log * mean * (1 - flips))
    first = np.maximum(np.floor(mean - reach), 0).astype(np.int64)
    last = np.minimum(np.ceil(mean + reach), n).astype(np.int64)
    lengths = last - first + 1
    test = np.repeat(np.arange(len(n)), lengths)
    return test, (np.arange(lengths.sum()) - (np.cumsum(lengths) - lengths - first)[test]).astype(float)


def _binomial(k: np.ndarray, n: np.ndarray, share: np.ndarray) -> np.ndarray:
    """P(K = k) for Binomial(n, share)."""
    ways = special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(n - k + 1)
    return np.asarray(np.exp(ways + special.xlogy(k, share) + special.xlog1py(n - k, -share)))


def _critical(c: np.ndarray, alphas: np.ndarray, test: np.ndarray) -> np.ndarray:
    """The smallest b that is significant beside *c* at the level of its *test*, by bisection.

    See `trtcheck.judge.paired.mcnemar_p`.
    """
    levels, which = np.unique(alphas, return_inverse=True)
    span = int(c.max(initial=0)) + 1
    different, back = np.unique(which[test] * span + c.astype(np.int64), return_inverse=True)
    alpha, c = levels[different // span], (different % span).astype(float)
    log = -np.log(alpha)
    low = np.where(alpha < 1, 0.0, -1.0)  # b = 0 is never significant below a level of 1
    high = np.maximum(
        np.ceil(c + log + np.sqrt(log**2 + 4 * log * c)), 0.0
    )  # significant by Hoeffding's bound
    while (high - low > 1).any():
        middle = np.ceil((low + high) / 2)
        significant = special.betainc(middle, c + 1, 0.5) <= alpha
        low, high = np.where(significant, low, middle), np.where(significant, middle, high)
    return np.asarray(high[back])


def smallest_step(power: Power, highest: np.ndarray) -> np.ndarray:
    """The smallest step, 1 to *highest* (T,), with the planned power, which rises; NaN where none has it."""
    low, high = np.zeros_like(highest), highest
    none = power(highest) < PLANNED_POWER
    while (high - low > 1).any():
        middle = (low + high + 1) // 2
        seen = power(middle) >= PLANNED_POWER
        low, high = np.where(seen, low, middle), np.where(seen, middle, high)
    return np.where(none, np.nan, high)
