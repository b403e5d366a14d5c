"""Comparison with counts alone, where it is not known which images were answered how."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from scipy import stats

from trtcheck.case import DropTest, Verdict
from trtcheck.judge import family
from trtcheck.judge.accuracy import judged
from trtcheck.judge.classes import class_rows, possible, precision_fell, shares
from trtcheck.judge.family import Evidence, Pooled, Rules
from trtcheck.judge.paired import images_needed, net_loss_needed
from trtcheck.judge.power import PLANNED_POWER
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
    bad_before, bad_after, n = (np.asarray(a, np.int64) for a in (bad_before, bad_after, n))
    p = stats.hypergeom.sf(bad_after - 1, 2 * n, bad_before + bad_after, n)
    return np.asarray(np.where(n == 0, 1.0, p), dtype=float)


def smallest_fisher_p(bad_before: np.ndarray, bad_after: np.ndarray, n: np.ndarray) -> np.ndarray:
    """The smallest p-value that `fisher_p` can attain with as many bad images on both sides together."""
    total = np.asarray(bad_before, np.int64) + bad_after
    most = np.minimum(total, n)
    return fisher_p(total - most, most, n)


@lru_cache(maxsize=4096)
def detectable_drop(n: int, bad_before: int, alpha: float, margin: float = 0.0) -> float | None:
    """The smallest true drop that Fisher's test finds with power .8 against *bad_before* of *n* images.

    Args:
        n: Images.
        bad_before: Bad images among them when the counts were approved, taken as they are.
        alpha: Level of the test after planning for the number of classes.
        margin: Observed drop that is needed besides significance, as a fraction.

    Returns:
        The drop as a fraction, rounded up to a tenth of a point; None where none can be seen.
    """
    low, high = bad_before, n + 1  # the smallest significant number of bad images, n + 1 where none is
    while low < high:
        middle = (low + high) // 2
        if fisher_p(np.array(bad_before), np.array(middle), np.array(n)) <= alpha:
            high = middle
        else:
            low = middle + 1
    needed = max(low, bad_before + images_needed(margin, n))
    drops = np.arange(1, 1001) / 1000
    rates = bad_before / n + drops if n else drops
    seen = (rates <= 1) & (stats.binom.sf(needed - 1, n, np.minimum(rates, 1.0)) >= PLANNED_POWER)
    return float(drops[seen.argmax()]) if seen.any() else None


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
    fell = tp - after.tp >= net_loss_needed(rules.margins, n)
    bad = _Bad(n - tp, after.fn, n)
    drops = _detectable(bad, rules, after, rules.margins)
    found = _family(bad, rules, after, then, after.recall, fell, drops)
    return RecallVerdict(*found, rules.alpha, rules.test)


def precision(before: Counts, after: Confusion, rules: Rules) -> PrecisionVerdict:
    """Judges precision from counts; see `trtcheck.judge.precision` and `recall` here."""
    rules = _without_single_answers(rules)
    tp, fp = np.asarray(before["tp"]), np.asarray(before["fp"])
    then = shares(tp, tp + fp)
    fell = precision_fell((tp, fp), (after.tp, after.fp), rules.margins)
    bad = _Bad(fp, after.fp, after.support.sum() - after.support)
    # The margin is one of precision, not of the share of false positives: power is stated without it.
    rises = _detectable(bad, rules, after, (0.0,) * len(rules.margins))
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
        interval=None, detectable=detectable_drop(n, n - right_before, alpha, drop), drop=drop, alpha=alpha,
        test=rule, floor=None, target=None, must_see=must_see,
    )  # fmt: skip


def _without_single_answers(rules: Rules) -> Rules:
    return replace(rules, test=DropTest.PAIRED) if rules.test is DropTest.PROVEN else rules


@dataclass(frozen=True, eq=False)
class _Bad:
    """Bad images of each class *before* and *after*, among as many *images* (C,)."""

    before: np.ndarray
    after: np.ndarray
    images: np.ndarray


def _detectable(bad: _Bad, rules: Rules, after: Confusion, margins: Sequence[float]) -> np.ndarray:
    """The smallest rise of the share of bad images that would be found (C,); NaN where none would."""
    levels = family.planning_levels(after.support > 0, rules)
    columns = (bad.images.tolist(), bad.before.tolist(), levels.tolist(), margins)
    seen = [
        detectable_drop(images, before, level, margin) if images else None
        for images, before, level, margin in zip(*columns, strict=True)
    ]
    return np.array([np.nan if rise is None else rise for rise in seen])


def _family(
    bad: _Bad, rules: Rules, after: Confusion, then: np.ndarray, now: np.ndarray, fell: np.ndarray,
    detectable: np.ndarray,
) -> tuple[Verdict, tuple[ClassVerdict, ...], PooledVerdict]:  # fmt: skip
    """The family of classes judged by Fisher's test on their bad images."""
    tested = after.support > 0
    p = np.where(tested, fisher_p(bad.before, bad.after, bad.images), 1.0)
    pooled = _pooled(int(bad.before.sum()), int(bad.after.sum()), int(after.support.sum()))
    failures = family.decide(
        p, smallest_fisher_p(bad.before, bad.after, bad.images), fell, pooled, tested=tested,
        keys=np.array(rules.keys, bool), alpha=rules.alpha, pooled_drop=rules.pooled_drop,
    )  # fmt: skip
    net = bad.after - bad.before
    rows = class_rows(
        rules, support=after.support, before=then, after=now, b=np.maximum(net, 0), c=np.maximum(-net, 0),
        p=p, detectable=possible(detectable, then), interval=None,
    )  # fmt: skip
    return family.judge(Evidence(rows, fell, failures, pooled), rules)


def _pooled(bad_before: int, bad_after: int, images: int) -> Pooled:
    p = fisher_p(np.array(bad_before), np.array(bad_after), np.array(images))
    return Pooled(images, max(bad_after - bad_before, 0), max(bad_before - bad_after, 0), float(p))
