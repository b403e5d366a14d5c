"""Comparison with counts alone, where it is not known which images were answered how."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from trtcheck.case import DropTest, Verdict
from trtcheck.judge import family
from trtcheck.judge.accuracy import judged
from trtcheck.judge.classes import class_rows, possible, precision_fell, shares
from trtcheck.judge.family import Evidence, Pooled, Rules
from trtcheck.judge.paired import images_needed, net_loss_needed
from trtcheck.judge.power import ROUNDING, STEPS, different, new_false_positives_needed, smallest_step
from trtcheck.judge.verdicts import (
    AccuracyVerdict,
    ClassVerdict,
    PooledVerdict,
    PrecisionVerdict,
    RecallVerdict,
)
from trtcheck.metrics.confusion import Confusion

Counts = Mapping[str, Sequence[int]]
"""Vectors ``tp``, ``fp``, ``fn``, ``tn`` (C,), by name."""


def fisher_p(bad_before: np.ndarray, bad_after: np.ndarray, n: np.ndarray) -> np.ndarray:
    """One-sided p-values of Fisher's exact test for "more bad images than before".

    Args:
        bad_before: Bad images of *n* before, integers of any shape.
        bad_after: Bad images of *n* after, same shape.
        n: Images on either side, same shape.

    Returns:
        P(at least bad_after | total) of that shape (R. A. Fisher, JRSS 98, 1935); 1 without images. Images
        are the same on both sides, so this asks more evidence than the paired test would.
    """
    before, after, n = np.broadcast_arrays(*(np.asarray(a, np.int64) for a in (bad_before, bad_after, n)))
    shape, (before, after, n) = before.shape, (before.ravel(), after.ravel(), n.ravel())
    total = before + after
    # The sum begins at its own or the likeliest outcome and goes on for a dozen standard deviations.
    last = np.minimum(np.maximum(after, total // 2) + np.ceil(6 * np.sqrt(total)).astype(np.int64) + 30, n)
    lengths = np.maximum(np.minimum(last, total) - after + 1, 0)
    test = np.repeat(np.arange(len(n)), lengths)
    bad = np.arange(lengths.sum()) - (np.cumsum(lengths) - lengths - after)[test]
    chance = np.exp(
        _log_ways(n[test], bad) + _log_ways(n[test], total[test] - bad) - _log_ways(2 * n, total)[test]
    )
    p = np.minimum(np.bincount(test, chance, minlength=len(n)), 1.0)
    # Where no outcome is better, or none is possible, there is no evidence.
    return np.asarray(np.where(after <= np.maximum(total - n, 0), 1.0, p).reshape(shape))


def _log_ways(n: np.ndarray, k: np.ndarray) -> np.ndarray:
    """Logarithm of the number of ways to choose *k* of *n*; minus infinity where there are none."""
    ways = special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(n - k + 1)
    return np.asarray(np.where((k >= 0) & (k <= n), ways, -np.inf))


def smallest_fisher_p(bad_before: np.ndarray, bad_after: np.ndarray, n: np.ndarray) -> np.ndarray:
    """The smallest p-value that `fisher_p` can attain with as many bad images on both sides together."""
    total = np.asarray(bad_before, np.int64) + bad_after
    most = np.minimum(total, n)
    return fisher_p(total - most, most, n)


def detectable_drop(n: int, bad_before: int, alpha: float, needed: int = 1) -> float | None:
    """`detectable_drops` of one class; None where none can be seen."""
    (drop,) = detectable_drops(np.array([n]), np.array([bad_before]), np.array([alpha]), np.array([needed]))
    return None if np.isnan(drop) else float(drop)


def detectable_drops(
    n: np.ndarray, bad_before: np.ndarray, alpha: np.ndarray, needed: np.ndarray
) -> np.ndarray:
    """The smallest true drops that Fisher's test finds with power .8 against *bad_before* of *n* images.

    Args:
        n: Images of each class, integers (C,).
        bad_before: Bad images among them when the counts were approved, taken as they are (C,).
        alpha: Level of the test after planning for the number of classes (C,).
        needed: Rise of the number of bad images that is needed besides significance (C,).

    Returns:
        The drops as fractions (C,), rounded up to a tenth of a point; NaN where none can be seen.
    """
    (n, bad_before, alpha, needed), back = different(n, bad_before, alpha, needed)
    n, bad_before, needed = (counts.astype(np.int64) for counts in (n, bad_before, needed))
    # The smallest significant number of bad images, n + 1 where none is; Hoeffding's bound tells one.
    log = -np.log(alpha)
    rise = np.ceil(log + np.sqrt(log**2 + 4 * log * bad_before)).astype(np.int64)
    low, high = bad_before - 1, np.minimum(bad_before + rise, n + 1)
    while (high - low > 1).any():
        middle = (low + high + 1) // 2
        significant = fisher_p(bad_before, np.minimum(middle, n), n) <= alpha
        significant |= middle > n
        low, high = np.where(significant, low, middle), np.where(significant, middle, high)
    least = np.minimum(np.maximum(high, bad_before + needed), n + 1)
    images = np.maximum(n, 1)

    def power(steps: np.ndarray) -> np.ndarray:
        found = special.betainc(
            np.maximum(least, 1), images - least + 1, np.minimum(bad_before / images + steps / STEPS, 1)
        )
        return np.asarray(np.where((least <= n) & (n > 0), found, 0.0))

    highest = (STEPS * (1 - bad_before / images) + ROUNDING).astype(np.int64)
    return np.asarray((smallest_step(power, highest) / STEPS)[back])


def recall(before: Counts, after: Confusion, rules: Rules) -> RecallVerdict:
    """Judges recall from counts; see `trtcheck.judge.recall`.

    Args:
        before: Counts of the approved engine.
        after: Confusion of the engine.
        rules: What the classes are held against; proof of harmlessness takes the answers of single images,
            so that ``proven`` is judged as ``paired`` here.
    """
    rules = _without_single_answers(rules)
    tp, n = np.asarray(before["tp"]), after.support
    then = shares(tp, n)
    needed = net_loss_needed(rules.margins, n)
    bad = _Bad(n - tp, after.fn, n)
    drops = detectable_drops(n, bad.before, family.planning_levels(n > 0, rules), needed)
    found = _family(bad, rules, after, then, after.recall, tp - after.tp >= needed, drops)
    return RecallVerdict(*found, rules.alpha, rules.test)


def precision(before: Counts, after: Confusion, rules: Rules) -> PrecisionVerdict:
    """Judges precision from counts; see `trtcheck.judge.precision` and `recall` here."""
    rules = _without_single_answers(rules)
    tp, fp = np.asarray(before["tp"]), np.asarray(before["fp"])
    then = shares(tp, tp + fp)
    fell = precision_fell((tp, fp), (after.tp, after.fp), rules.margins)
    bad = _Bad(fp, after.fp, after.support.sum() - after.support)
    needed = new_false_positives_needed(tp, fp, rules.margins)
    possible = np.isfinite(needed)
    levels = family.planning_levels(after.support > 0, rules)
    rises = detectable_drops(bad.images, fp, levels, np.where(possible, needed, 1).astype(np.int64))
    rises = np.where(possible, rises, np.nan)
    drops = then - shares(tp, tp + fp + rises * bad.images)
    found = _family(bad, rules, after, then, after.precision, fell, drops)
    return PrecisionVerdict(*found, rules.alpha, rules.test)


def accuracy(
    before: Counts, after: Confusion, *, drop: float, alpha: float, test: DropTest, must_see: float
) -> AccuracyVerdict:
    """Judges accuracy from counts; see `trtcheck.judge.accuracy`."""
    n = int(after.support.sum())
    right_before, right_after = int(np.sum(before["tp"])), int(after.tp.sum())
    rule = DropTest.PAIRED if test is DropTest.PROVEN else test
    p = float(fisher_p(np.array(n - right_before), np.array(n - right_after), np.array(n)))
    net = right_before - right_after
    return judged(
        images=n, right_before=right_before, right_after=right_after, b=max(net, 0), c=max(-net, 0), p=p,
        interval=None, detectable=detectable_drop(n, n - right_before, alpha, images_needed(drop, n)),
        drop=drop, alpha=alpha, test=rule, floor=None, target=None, must_see=must_see,
    )  # fmt: skip


def _without_single_answers(rules: Rules) -> Rules:
    return replace(rules, test=DropTest.PAIRED) if rules.test is DropTest.PROVEN else rules


@dataclass(frozen=True, eq=False)
class _Bad:
    """Bad images of each class *before* and *after*, among as many *images* (C,)."""

    before: np.ndarray
    after: np.ndarray
    images: np.ndarray


def _family(
    bad: _Bad, rules: Rules, after: Confusion, then: np.ndarray, now: np.ndarray, fell: np.ndarray,
    detectable: np.ndarray,
) -> tuple[Verdict, tuple[ClassVerdict, ...], PooledVerdict]:  # fmt: skip
    """The family of classes judged by Fisher's test on their bad images."""
    tested = after.support > 0
    p = np.where(tested, fisher_p(bad.before, bad.after, bad.images), 1.0)
    margin = rules.pooled_margin(after.support)
    pooled = _pooled(int(bad.before.sum()), int(bad.after.sum()), int(after.support.sum()), margin)
    failures = family.decide(
        p, smallest_fisher_p(bad.before, bad.after, bad.images), fell, pooled, tested=tested,
        keys=np.array(rules.keys, bool), alpha=rules.alpha,
    )  # fmt: skip
    net = bad.after - bad.before
    rows = class_rows(
        rules, support=after.support, before=then, after=now, fell=fell, b=np.maximum(net, 0),
        c=np.maximum(-net, 0), p=p, detectable=possible(detectable, then), interval=None,
    )  # fmt: skip
    bad_before, level = int(bad.before.sum()), rules.alpha * family.POOLED_SHARE
    seen = detectable_drop(
        pooled.images, min(bad_before, pooled.images), level, images_needed(margin, pooled.images)
    )
    return family.judge(Evidence(rows, failures, seen), rules)


def _pooled(bad_before: int, bad_after: int, images: int, margin: float) -> Pooled:
    possible = min(bad_before, images)  # counts that were edited by hand may be more than there are
    p = fisher_p(np.array(possible), np.array(bad_after), np.array(images))
    return Pooled(images, max(bad_after - bad_before, 0), max(bad_before - bad_after, 0), float(p), margin)
