"""Simulated suites, and what trtcheck and other rules say of them; benchmarks/verdicts.py makes tables of it.

A suite is simulated as the counts of its classes: of n images, each gets worse with probability flips + drop
and better with probability flips.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import false_discovery_control

from trtcheck import judge
from trtcheck.judge.family import POOLED_DROP, Failures, failures
from trtcheck.judge.paired import net_loss_needed

RULES = ("naive", "McNemar", "Holm", "BH", "trtcheck")
SEED = 4
ALPHA = 0.01
MARGIN = 0.01
RECALL = 0.8
"""Recall of the reference in every class, so that answers can change in both directions."""
BLOCK = 1_000_000
"""Classes simulated at a time, over all suites: bounds the memory."""


@dataclass(frozen=True)
class Cell:
    """One kind of suite.

    Attributes:
        classes: Classes of the suite.
        images: Images of each class.
        flips: Probability that an image gets worse without harm done, and the same for better.
        drop: True drop of recall.
        everywhere: Whether all classes have it, or only the first one.
        key: Whether the first class is a key class.
    """

    classes: int
    images: int
    flips: float
    drop: float = 0.0
    everywhere: bool = False
    key: bool = False

    @property
    def drops(self) -> np.ndarray:
        """The true drop of every class (C,)."""
        return np.where(self.everywhere | (np.arange(self.classes) == 0), self.drop, 0.0)

    @property
    def generator(self) -> np.random.Generator:
        """Random numbers of this cell's own; key classes do not change what happens to the images."""
        thousandths = [round(1000 * share) for share in (self.flips, self.drop)]
        return np.random.default_rng([SEED, self.classes, self.images, *thousandths, self.everywhere])

    def failures(self, b: np.ndarray, c: np.ndarray) -> Failures:
        """What trtcheck fails in one suite, from the counts of its classes (C,)."""
        keys = (np.arange(self.classes) == 0) & self.key
        margins = (MARGIN,) * self.classes
        n = np.full(self.classes, self.images)
        return failures(b, c, n, margins=margins, keys=keys, alpha=ALPHA, pooled_drop=POOLED_DROP)

    def trtcheck(self, b: np.ndarray, c: np.ndarray) -> np.ndarray:
        """Whether trtcheck fails each suite (S,), from counts (S, C)."""
        found = (self.failures(*suite) for suite in zip(b, c, strict=True))
        return np.array([bool(one.classes.any() or one.pooled) for one in found])


def by_others(b: np.ndarray, c: np.ndarray, images: int) -> dict[str, np.ndarray]:
    """Whether the other rules fail each suite (S,), from counts (S, C).

    All but the naive one ask for the margin and for a significant p-value of the same exact test.
    """
    p = judge.mcnemar_p(b, c)
    fell = b - c >= net_loss_needed((MARGIN,), np.array([images]))
    holm = np.array([judge.holm(row) for row in p])
    return {
        "naive": ((b - c) / images > MARGIN).any(axis=1),
        "McNemar": (fell & (p <= ALPHA)).any(axis=1),
        "Holm": (fell & (holm <= ALPHA)).any(axis=1),
        "BH": (fell & (false_discovery_control(p, axis=1) <= ALPHA)).any(axis=1),
    }


def failed(cell: Cell, suites: int) -> dict[str, int]:
    """How many of the *suites* each rule fails."""
    rng = cell.generator
    worse = cell.flips + cell.drops
    shares = np.stack([worse, np.full_like(worse, cell.flips), 1 - worse - cell.flips], axis=1)
    totals = dict.fromkeys(RULES, 0)
    at_once = max(1, BLOCK // cell.classes)
    for start in range(0, suites, at_once):
        size = (min(at_once, suites - start), cell.classes)
        b, c, _ = np.moveaxis(rng.multinomial(cell.images, shares, size=size), 2, 0)
        verdicts = by_others(b, c, cell.images) | {"trtcheck": cell.trtcheck(b, c)}
        for rule, suite_fails in verdicts.items():
            totals[rule] += int(suite_fails.sum())
    return totals


def labels(cell: Cell, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels of one suite: truth, the reference's answers, the engine's.

    Besides the flips of the counts, as many wrong answers become another wrong class. Wrong answers are
    spread evenly over the other classes.
    """
    truth = np.repeat(np.arange(cell.classes), cell.images)

    def another(label: np.ndarray) -> np.ndarray:
        return (label + rng.integers(1, cell.classes, len(truth))) % cell.classes

    lot = rng.random(len(truth))
    worse = cell.flips + cell.drops[truth]
    before = np.where(lot < RECALL, truth, another(truth))
    wrong = another(truth)
    after = np.where(lot < worse, wrong, before)
    after = np.where((lot >= RECALL) & (lot < RECALL + cell.flips), truth, after)
    return truth, before, np.where(lot >= 1 - cell.flips, wrong, after)


def same_verdicts(cell: Cell, suites: int) -> int:
    """In how many suites judge.recall on label vectors fails what the counts say."""
    rng, same = cell.generator, 0
    for _ in range(suites):
        truth, before, after = labels(cell, rng)
        lost, won = (before == truth) & (after != truth), (before != truth) & (after == truth)
        b, c = (change.reshape(cell.classes, cell.images).sum(axis=1) for change in (lost, won))
        expected = cell.failures(b, c)
        found = judge.recall(truth, before, after, classes=cell.classes, drop=MARGIN, alpha=ALPHA)
        fails = [row.verdict is judge.Verdict.FAIL for row in found.classes]
        pooled = found.pooled.verdict is judge.Verdict.FAIL
        suite_fails = found.verdict is judge.Verdict.FAIL
        same += (fails, pooled, suite_fails) == (
            expected.classes.tolist(), expected.pooled, bool(expected.classes.any() or expected.pooled),
        )  # fmt: skip
    return same


def precision_failed(cell: Cell, suites: int) -> int:
    """How many of the *suites* judge.precision fails on label vectors."""
    rng, alarms = cell.generator, 0
    for _ in range(suites):
        verdict = judge.precision(*labels(cell, rng), classes=cell.classes, drop=MARGIN, alpha=ALPHA).verdict
        alarms += verdict is judge.Verdict.FAIL
    return alarms
