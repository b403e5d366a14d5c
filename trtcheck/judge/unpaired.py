"""Comparison with counts alone, where it is not known which images were answered how."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
from scipy import stats

from trtcheck.case import Verdict
from trtcheck.judge.classes import (
    AccuracyVerdict,
    ClassesVerdict,
    ClassVerdict,
    judge_family,
    precision_fell,
    verdict_of,
)
from trtcheck.judge.paired import PLANNED_POWER, images_needed, reaches
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


def recall(
    before: Counts, after: Confusion, *, classes: Sequence[str], margins: Sequence[float], alpha: float
) -> ClassesVerdict:
    """Judges recall from counts; see `trtcheck.judge.recall`.

    Args:
        before: Counts of the approved engine.
        after: Confusion of the engine.
        classes: Class names.
        margins: Accepted drop of each class as a fraction.
        alpha: False-alarm rate over all classes together.
    """
    tp, n = np.asarray(before["tp"]), after.support
    fell = [reaches(int(tp[k] - after.tp[k]), margins[k], int(n[k])) for k in range(len(classes))]
    shares = [t / of if of else None for t, of in zip(tp.tolist(), n.tolist(), strict=True)]
    return _family(classes, after, shares, after.recall, margins, margins, n - tp, after.fn, n, fell, alpha)


def precision(
    before: Counts, after: Confusion, *, classes: Sequence[str], margins: Sequence[float], alpha: float
) -> ClassesVerdict:
    """Judges precision from counts; see `trtcheck.judge.precision` and `recall` here."""
    tp, fp = np.asarray(before["tp"]), np.asarray(before["fp"])
    fell = [
        precision_fell((int(tp[k]), int(fp[k])), (int(after.tp[k]), int(after.fp[k])), margins[k])
        for k in range(len(classes))
    ]
    shares = [t / (t + f) if t + f else None for t, f in zip(tp.tolist(), fp.tolist(), strict=True)]
    others = after.support.sum() - after.support
    # The margin is one of precision, not of the share of false positives: power is stated without it.
    planned = [0.0] * len(classes)
    return _family(
        classes, after, shares, after.precision, margins, planned, fp, after.fp, others, fell, alpha
    )


def accuracy(before: Counts, after: Confusion, *, drop: float, alpha: float) -> AccuracyVerdict:
    """Judges accuracy from counts; see `trtcheck.judge.accuracy`."""
    n = int(after.support.sum())
    right_before, right_after = int(np.sum(before["tp"])), int(after.tp.sum())
    p = float(fisher_p(np.array(n - right_before), np.array(n - right_after), np.array(n)))
    net = right_before - right_after
    detectable = detectable_drop(n, n - right_before, alpha, drop)
    return AccuracyVerdict(
        verdict=verdict_of(reaches(net, drop, n), p <= alpha, detectable),
        images=n, before=right_before / n, after=right_after / n, margin=drop,
        b=max(net, 0), c=max(-net, 0), p=p, detectable=detectable,
    )  # fmt: skip


def _family(
    classes: Sequence[str],
    after: Confusion,
    shares: Sequence[float | None],
    now: np.ndarray,
    margins: Sequence[float],
    planned: Sequence[float],
    bad_before: np.ndarray,
    bad_after: np.ndarray,
    n: np.ndarray,
    fell: Sequence[bool],
    alpha: float,
) -> ClassesVerdict:
    p = fisher_p(bad_before, bad_after, n)
    net = bad_after - bad_before
    share = alpha / max(1, int((after.support > 0).sum()))
    seen = [
        detectable_drop(int(n[k]), int(bad_before[k]), share, planned[k]) if after.support[k] else None
        for k in range(len(classes))
    ]
    rows = [
        ClassVerdict(
            name=name, support=int(after.support[k]), before=shares[k],
            after=None if np.isnan(now[k]) else float(now[k]), margin=margins[k],
            b=max(int(net[k]), 0), c=max(int(-net[k]), 0), p=float(p[k]) if after.support[k] else 1.0,
            p_adjusted=1.0, detectable=seen[k],
            verdict=Verdict.PASS if after.support[k] else Verdict.SKIPPED,
        )
        for k, name in enumerate(classes)
    ]  # fmt: skip
    return judge_family(rows, fell, alpha)
