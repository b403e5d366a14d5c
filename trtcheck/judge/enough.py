"""What it would take to tell: about how many images of a class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from trtcheck.case import Verdict
from trtcheck.judge.power import (
    ROUND_NUMBERS,
    detectable_precision_drops,
    enough_images,
    precision_drops_seen,
)
from trtcheck.judge.verdicts import ClassVerdict, Enough
from trtcheck.metrics.paired import PairedCounts

WORTH_SEEING = 0.2
"""The drop that a blind class is to be able to show."""
MOST = 100_000
"""More images of a class than this are not proposed where proposals have to be searched class by class."""


def wanted(row: ClassVerdict, fell: bool) -> float | None:
    """The drop of *row* that more images are to show: the one observed, or one that is worth seeing.

    None where the class is not inconclusive for want of images.
    """
    if row.verdict is not Verdict.INCONCLUSIVE:
        return None
    if row.support == 0:
        return WORTH_SEEING
    if row.drop is None or not row.before:
        return None
    return min(row.drop if fell else WORTH_SEEING, row.before)


def for_recall(row: ClassVerdict, fell: bool, level: float) -> ClassVerdict:
    """The *row* with what it would take to tell.

    Args:
        row: The judged class.
        fell: Whether its observed drop reaches the margin.
        level: The level at which its power is stated.
    """
    drop = wanted(row, fell)
    return row if drop is None else replace(row, enough=enough_images(drop, level))


def for_precision(
    rows: Sequence[ClassVerdict], fell: np.ndarray, counts: PairedCounts, levels: np.ndarray
) -> tuple[ClassVerdict, ...]:
    """The *rows* with what it would take to tell, if images of all classes were as many times more.

    Args:
        rows: The judged classes (C,).
        fell: Whether each class's observed drop reaches the margin, bool (C,).
        counts: Counts of the classes.
        levels: The levels (C,) at which their power is stated.
    """
    asked = [wanted(row, bool(f)) if row.support else None for row, f in zip(rows, fell, strict=True)]
    drops = np.array([np.nan if drop is None else drop for drop in asked])
    unsettled = np.flatnonzero(~np.isnan(drops))
    found: dict[int, Enough] = {}
    for images in (number for number in ROUND_NUMBERS if number <= MOST):
        larger = unsettled[counts.support[unsettled] < images]
        scaled = _scaled(counts, larger, images)
        seen = larger[precision_drops_seen(*scaled, levels[larger], np.zeros(len(larger)), drops[larger])]
        shown = detectable_precision_drops(*_scaled(counts, seen, images), levels[seen], np.zeros(len(seen)))
        found |= {k: Enough(images, drop) for k, drop in zip(seen.tolist(), shown.tolist(), strict=True)}
        unsettled = np.setdiff1d(unsettled, seen)
    return tuple(replace(row, enough=found.get(k)) for k, row in enumerate(rows))


def _scaled(
    counts: PairedCounts, classes: np.ndarray, images: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """TP, FP, images and images of others of *classes*, if each had so many *images*."""
    others = counts.support.sum() - counts.support
    more = images / counts.support[classes]
    tp, fp, support, others = (
        np.rint(values[classes] * more).astype(np.int64)
        for values in (counts.before, counts.fp_before, counts.support, others)
    )
    return tp, fp, support, others
