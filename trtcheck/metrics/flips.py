"""Images whose answer changed between reference and engine."""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np

from trtcheck.metrics.scores import Best, answers, probabilities, top

KEPT = 100
"""How many flips are kept: those that lost most confidence in the reference's answer."""
BEST = 5
"""How many of an image's most probable classes are kept with its flip."""

Top = tuple[tuple[int, float], ...]
"""Class numbers with their probabilities, the most probable first."""


@dataclass(frozen=True)
class Flip:
    """One image whose answer changed.

    Attributes:
        index: Position of the image in the data.
        truth: Its label, -1 for none.
        before: The reference's answer.
        after: The engine's answer, -1 for none.
        confidence_before: The reference's probability of its own answer.
        confidence_after: The engine's probability of its own answer; NaN where it has none.
        lost: By how much the probability of the reference's answer fell; the reference's whole
            confidence where the engine has no answer.
        top_before: The reference's `BEST` most probable classes; those without a probability are left out.
        top_after: The engine's.
    """

    index: int
    truth: int
    before: int
    after: int
    confidence_before: float
    confidence_after: float
    lost: float
    top_before: Top = ()
    top_after: Top = ()

    @property
    def rank(self) -> tuple[float, int]:
        """Worst first, then by position."""
        return (-self.lost, self.index)


@dataclass(frozen=True)
class Flips:
    """Counts of changed answers and the worst of them; shards add up.

    Attributes:
        total: Images whose answer changed.
        broken: Of these, right before and wrong after.
        fixed: Of these, wrong before and right after.
        images: Images compared.
        worst: At most `KEPT` flips, worst first.
    """

    total: int = 0
    broken: int = 0
    fixed: int = 0
    images: int = 0
    worst: tuple[Flip, ...] = ()

    @classmethod
    def of(
        cls, truth: np.ndarray, reference: np.ndarray, candidate: np.ndarray, start: int = 0,
        best: Best | None = None,
    ) -> Flips:  # fmt: skip
        """Flips of one batch.

        Args:
            truth: Labels (N,), -1 for none.
            reference: Class scores of the reference (N, C).
            candidate: Class scores of the engine (N, C).
            start: Index of the first image.
            best: The `answers` to both, where they are known.
        """
        before, after = (answers(reference), answers(candidate)) if best is None else best
        changed = np.flatnonzero(before != after)
        if not changed.size:
            return cls(images=len(truth))
        label, old, new = truth[changed], before[changed], after[changed]
        p_old = probabilities(reference[changed])
        p_new = probabilities(candidate[changed], reference[changed])
        rows = np.arange(len(changed))
        confidence = np.where(old >= 0, p_old[rows, old], np.nan)
        own = np.where(new >= 0, p_new[rows, new], np.nan)
        lost = np.nan_to_num(confidence - np.where(new >= 0, p_new[rows, old], 0.0))
        # Chosen before anything is made of them: a broken engine changes every answer of a batch.
        kept = np.lexsort((changed, -lost))[:KEPT]
        columns = (start + changed, label, old, new, confidence, own, lost)
        before_best, after_best = top(p_old[kept], BEST), top(p_new[kept], BEST)
        worst = tuple(
            Flip(*values, *best)
            for values, *best in zip(
                zip(*(column[kept].tolist() for column in columns), strict=True),
                before_best, after_best, strict=True,
            )
        )  # fmt: skip
        return cls(
            total=len(changed),
            broken=int(((old == label) & (label >= 0)).sum()),
            fixed=int(((new == label) & (label >= 0)).sum()),
            images=len(truth),
            worst=worst,
        )

    def __add__(self, other: Flips) -> Flips:
        """The flips of both sets of images, the worst of both kept."""
        return Flips(
            self.total + other.total,
            self.broken + other.broken,
            self.fixed + other.fixed,
            self.images + other.images,
            tuple(heapq.nsmallest(KEPT, self.worst + other.worst, key=lambda flip: flip.rank)),
        )

    @property
    def churn(self) -> float:
        """Share of images whose answer changed; NaN without images."""
        return self.total / self.images if self.images else float("nan")
