"""Comparison with counts alone, where it is not known which images were answered how."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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
from trtcheck.judge.paired import reaches
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
        P(at least bad_after | total) of that shape (R. A. Fisher, JRSS 98, 1935). Images are the same on
        both sides, so this asks more evidence than the paired test would.
    """
    return np.asarray(stats.hypergeom.sf(bad_after - 1, 2 * n, bad_before + bad_after, n), dtype=float)


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
    tp, fn = np.asarray(before["tp"]), np.asarray(before["fn"])
    n = after.support
    fell = [reaches(int(tp[k] - after.tp[k]), margins[k], int(n[k])) for k in range(len(classes))]
    shares = [t / (t + f) if t + f else None for t, f in zip(tp.tolist(), fn.tolist(), strict=True)]
    return _family(classes, after, shares, after.recall, margins, fn, after.fn, n, fell, alpha)


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
    return _family(classes, after, shares, after.precision, margins, fp, after.fp, others, fell, alpha)


def accuracy(before: Counts, after: Confusion, *, drop: float, alpha: float) -> AccuracyVerdict:
    """Judges accuracy from counts; see `trtcheck.judge.accuracy`."""
    n = int(after.support.sum())
    right_before, right_after = int(np.sum(before["tp"])), int(after.tp.sum())
    p = float(fisher_p(np.array(n - right_before), np.array(n - right_after), np.array(n)))
    net = right_before - right_after
    return AccuracyVerdict(
        verdict=verdict_of(reaches(net, drop, n), p <= alpha, 0.0),
        images=n, before=right_before / n, after=right_after / n, margin=drop,
        b=max(net, 0), c=max(-net, 0), p=p, detectable=None,
    )  # fmt: skip


def _family(
    classes: Sequence[str],
    after: Confusion,
    shares: Sequence[float | None],
    now: np.ndarray,
    margins: Sequence[float],
    bad_before: np.ndarray,
    bad_after: np.ndarray,
    n: np.ndarray,
    fell: Sequence[bool],
    alpha: float,
) -> ClassesVerdict:
    p = fisher_p(bad_before, bad_after, n)
    net = bad_after - bad_before
    rows = [
        ClassVerdict(
            name=name, support=int(after.support[k]), before=shares[k],
            after=None if np.isnan(now[k]) else float(now[k]), margin=margins[k],
            b=max(int(net[k]), 0), c=max(int(-net[k]), 0), p=float(p[k]), p_adjusted=1.0, detectable=0.0,
            verdict=Verdict.PASS if after.support[k] else Verdict.SKIPPED,
        )
        for k, name in enumerate(classes)
    ]  # fmt: skip
    return judge_family(rows, fell, alpha)
