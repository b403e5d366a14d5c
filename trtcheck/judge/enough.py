"""What it would take to tell: about how many images of a class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from trtcheck.case import Verdict
from trtcheck.judge.power import (
    BENIGN_FLIPS,
    ROUND_NUMBERS,
    detectable_precision_drops,
    drops_seen,
    minimum_detectable_drops,
    precision_drops_seen,
)
from trtcheck.judge.verdicts import AccuracyVerdict, ClassVerdict, Enough
from trtcheck.metrics.paired import PairedCounts

WORTH_SEEING = 0.2
"""The drop that more images are to show where none was observed, unless even less must be seen."""
ABOVE_MARGIN = 1.25
"""A drop of just the margin is observed half of the time, whatever the number of images: so much more is."""
MOST = 100_000
"""More images of a class than this are not proposed: what they can show has to be searched class by class."""

Seen = Callable[[np.ndarray, int], np.ndarray]
"""Whether so many images show the wanted drops of the classes with these numbers, bool."""
Shown = Callable[[np.ndarray, int], np.ndarray]
"""The smallest drops that so many images of the classes with these numbers show, as fractions."""


def for_accuracy(result: AccuracyVerdict, must_see: float) -> AccuracyVerdict:
    """The *result* with what it would take to tell, from as many flips as were observed."""
    wanted = _wanted(result, must_see)
    if wanted is None:
        return result
    [enough] = _for_shares(
        [result.images], [result.margin], [wanted], [result.c], np.array([result.alpha]), ROUND_NUMBERS[-1]
    )
    return replace(result, enough=enough)


def for_recall(rows: Sequence[ClassVerdict], levels: np.ndarray, must_see: float) -> tuple[ClassVerdict, ...]:
    """The *rows* with what it would take to tell, from as many flips as were observed.

    Args:
        rows: The judged classes (C,).
        levels: The levels (C,) at which their power is stated.
        must_see: The largest detectable drop of a class that is not blind.
    """
    drops = [_wanted(row, must_see) for row in rows]
    margins, better = [row.margin for row in rows], [row.c for row in rows]
    found = _for_shares([row.support for row in rows], margins, drops, better, levels, MOST)
    return tuple(replace(row, enough=enough) for row, enough in zip(rows, found, strict=True))


def for_precision(
    rows: Sequence[ClassVerdict], counts: PairedCounts, levels: np.ndarray, must_see: float
) -> tuple[ClassVerdict, ...]:
    """The *rows* with what it would take to tell, if images of all classes were as many times more.

    Args:
        rows: The judged classes (C,).
        counts: Counts of the classes.
        levels: The levels (C,) at which their power is stated.
        must_see: The largest detectable drop of a class that is not blind.
    """
    # How often a class without images would be answered is not known.
    drops = _numbers([_wanted(row, must_see) if row.support else None for row in rows])
    margins = np.array([row.margin for row in rows])

    def seen(classes: np.ndarray, images: int) -> np.ndarray:
        scaled = _scaled(counts, classes, images)
        return precision_drops_seen(*scaled, levels[classes], margins[classes], drops[classes])

    def shown(classes: np.ndarray, images: int) -> np.ndarray:
        scaled = _scaled(counts, classes, images)
        return detectable_precision_drops(*scaled, levels[classes], margins[classes])

    found = _first_enough(counts.support, drops, seen, shown, MOST)
    return tuple(replace(row, enough=enough) for row, enough in zip(rows, found, strict=True))


def _wanted(row: ClassVerdict | AccuracyVerdict, must_see: float) -> float | None:
    """The drop of *row* that more images are to show: the one observed, or one that is worth seeing.

    None where it is not inconclusive for want of images, or has less to lose.
    """
    if row.verdict is not Verdict.INCONCLUSIVE:
        return None
    worth = max(min(WORTH_SEEING, must_see), ABOVE_MARGIN * row.margin)
    if isinstance(row, ClassVerdict) and row.support == 0:
        return worth
    if row.drop is None or not row.before:
        return None
    if row.fell:
        drop = max(row.drop, ABOVE_MARGIN * row.margin)
        return drop if drop <= row.before else None
    return min(worth, row.before)


def _for_shares(
    images: Sequence[int], limits: Sequence[float], drops: Sequence[float | None], better: Sequence[int],
    levels: np.ndarray, most: int,
) -> list[Enough | None]:  # fmt: skip
    """How many images show *drops* of shares of right answers (C,), if flips stay as frequent as *better*."""
    support, margins, wanted = np.array(images), np.array(limits), _numbers(drops)
    # More flips hide more, and there is room for the drop besides those in either direction.
    flips = np.clip(np.array(better) / np.maximum(support, 1), BENIGN_FLIPS, 0.49)

    def seen(classes: np.ndarray, number: int) -> np.ndarray:
        n = np.full(len(classes), number)
        return drops_seen(n, levels[classes], margins[classes], flips[classes], wanted[classes])

    def shown(classes: np.ndarray, number: int) -> np.ndarray:
        n = np.full(len(classes), number)
        return minimum_detectable_drops(n, levels[classes], margins[classes], flips[classes])

    return _first_enough(support, wanted, seen, shown, most)


def _first_enough(
    support: np.ndarray, drops: np.ndarray, seen: Seen, shown: Shown, most: int
) -> list[Enough | None]:
    """The smallest of the round numbers above *support* (C,) that shows each of the *drops* (C,), if any."""
    found: list[Enough | None] = [None] * len(drops)
    unsettled = np.flatnonzero(~np.isnan(drops))
    for images in (number for number in ROUND_NUMBERS if number <= most):
        larger = unsettled[support[unsettled] < images]
        if not larger.size:
            continue
        enough = larger[seen(larger, images)]
        for k, drop in zip(enough.tolist(), shown(enough, images).tolist(), strict=True):
            found[k] = Enough(images, drop)
        unsettled = np.setdiff1d(unsettled, enough)
    return found


def _numbers(drops: Sequence[float | None]) -> np.ndarray:
    return np.array([np.nan if drop is None else drop for drop in drops])


def _scaled(
    counts: PairedCounts, classes: np.ndarray, images: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """TP, FP, images and images of others of *classes*, if each had so many *images*.

    Where more images flipped than are planned for, images are counted as if they were as many more.
    """
    others = counts.support.sum() - counts.support
    more = images / counts.support[classes]
    flipping = np.maximum(counts.support, counts.fp_c / BENIGN_FLIPS)
    tp, fp, support, others = (
        np.rint(values[classes] * more).astype(np.int64)
        for values in (counts.before, counts.fp_before, flipping, others)
    )
    return tp, fp, support, others
