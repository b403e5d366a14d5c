"""From class scores to answers, confidences and agreement."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from trtcheck.metrics.confusion import NO_ANSWER

Best = tuple[np.ndarray, np.ndarray]
"""The answers (N,) of the reference and of the engine."""

_SUM_TOLERANCE = 5e-3  # FP16 probabilities of 1000 classes sum to 1 within this
_TINY = float(np.finfo(np.float64).tiny)
_LOG_TINY = math.log(_TINY)
_BLOCK = 16_384
"""Scores that are looked at together: their float64 copies stay in a core's cache."""


def answers(scores: np.ndarray) -> np.ndarray:
    """The class with the highest score of every row.

    Args:
        scores: Class scores (N, C).

    Returns:
        int64 labels (N,); `NO_ANSWER` where a row holds NaN, several classes share +inf or all have
        -inf, since what an argmax says there is chance. Finite ties go to the first class, as
        ``numpy.argmax`` has it.
    """
    if scores.shape[1] == 0:
        return np.full(len(scores), NO_ANSWER)
    best = scores.argmax(axis=1)  # NaN counts as the highest, and -inf is only where all are
    highest = scores[np.arange(len(scores)), best]
    undefined = np.isnan(highest) | (highest == -np.inf)
    infinite = np.flatnonzero(highest == np.inf)
    if infinite.size:
        undefined[infinite] = (scores[infinite] == np.inf).sum(axis=1) > 1
    return np.where(undefined, NO_ANSWER, best)


def are_probabilities(scores: np.ndarray) -> np.ndarray:
    """Which rows of *scores* (N, C) are non-negative with sum 1; bool (N,)."""
    with np.errstate(invalid="ignore", over="ignore"):
        total = scores.astype(np.float64).sum(axis=1)
        return np.asarray((scores >= 0).all(axis=1) & (np.abs(total - 1) < _SUM_TOLERANCE))


def probabilities(scores: np.ndarray, like: np.ndarray | None = None) -> np.ndarray:
    """Rows as probabilities: kept where they already are, else their softmax.

    Args:
        scores: Class scores (N, C): logits, log-probabilities or probabilities.
        like: The reference's scores (N, C), which decide what the rows of *scores* are: an engine's
            probabilities may be too coarse to sum to 1. None lets the rows decide themselves.

    Returns:
        float64 (N, C); NaN rows stay NaN, a single +inf has all the mass.
    """
    already = are_probabilities(scores if like is None else like)
    scores = scores.astype(np.float64)
    beyond = (scores == np.inf).any(axis=1, keepdims=True) & ~np.isnan(scores).any(axis=1, keepdims=True)
    scores = np.where(beyond, np.where(scores == np.inf, 0.0, -np.inf), scores)
    with np.errstate(invalid="ignore", over="ignore"):
        shifted = np.exp(scores - scores.max(axis=1, keepdims=True))
        soft = shifted / shifted.sum(axis=1, keepdims=True)
    return np.where((already & ~beyond[:, 0])[:, None], scores, soft)


def top(shares: np.ndarray, k: int) -> list[tuple[tuple[int, float], ...]]:
    """The *k* most probable classes of every row with their probabilities; equal ones by class number.

    Args:
        shares: Probabilities (N, C); classes without a finite one are left out.
        k: How many.
    """
    left = np.where(np.isfinite(shares), shares, -np.inf)
    rows = np.arange(len(left))
    found: list[list[tuple[int, float]]] = [[] for _ in rows]
    # A few passes instead of a sort: of 22 000 classes five are wanted.
    for _ in range(min(k, left.shape[1])):
        best = left.argmax(axis=1)
        for own, label, share in zip(found, best.tolist(), left[rows, best].tolist(), strict=True):
            if share > -np.inf:
                own.append((label, share))
        left[rows, best] = -np.inf
    return [tuple(own) for own in found]


def in_top_k(scores: np.ndarray, labels: np.ndarray, k: int, best: np.ndarray | None = None) -> np.ndarray:
    """Whether each label is among its row's k highest scores; never where the row has no answer.

    Args:
        scores: Class scores (N, C).
        labels: Labels (N,); negative ones are never in the top k.
        k: How many classes count, at most C.
        best: The `answers` to *scores*, where they are known.

    Returns:
        bool (N,). Equal scores are ranked by class number, so that k classes count and no more.
    """
    best = answers(scores) if best is None else best
    asked = (labels >= 0) & (best != NO_ANSWER)
    found = asked & (best == labels) & (k > 0)
    rest = np.flatnonzero(asked & ~found)
    columns = np.arange(scores.shape[1])
    for rows in _in_blocks(rest, scores.shape[1]):
        part, own = scores[rows], scores[rows, labels[rows]][:, None]
        ahead = (part > own).sum(axis=1)
        near = np.flatnonzero(ahead < k)
        ties = (part[near] == own[near]) & (columns < labels[rows[near], None])
        ahead[near] += ties.sum(axis=1)
        found[rows] = ahead < k
    return np.asarray(found)


def _in_blocks(rows: np.ndarray, classes: int) -> Iterator[np.ndarray]:
    """*rows* by as many as stay in a core's cache."""
    step = max(1, _BLOCK // max(classes, 1))
    for first in range(0, len(rows), step):
        yield rows[first : first + step]


@dataclass(frozen=True)
class ScoreDrift:
    """How far two sets of class scores are apart; shards add up.

    Attributes:
        images: Images compared.
        top1_same: Images on which both give the same answer.
        top_k_kept: Images whose reference answer is among the engine's k best.
        kl_sum: Sum of the Kullback-Leibler divergences KL(reference || engine), in nats.
        kl_max: Largest of them.
        kl_images: Images on which it is defined (both rows have probabilities).
        k: k of *top_k_kept*.
    """

    images: int = 0
    top1_same: int = 0
    top_k_kept: int = 0
    kl_sum: float = 0.0
    kl_max: float = 0.0
    kl_images: int = 0
    k: int = 5

    @classmethod
    def of(cls, reference: np.ndarray, candidate: np.ndarray, k: int, best: Best | None = None) -> ScoreDrift:
        """Drift of *candidate* scores (N, C) from *reference* scores (N, C).

        Args:
            reference: Scores of the reference.
            candidate: Scores of the engine.
            k: k of *top_k_kept*.
            best: The `answers` to both, where they are known.
        """
        before, after = (answers(reference), answers(candidate)) if best is None else best
        # Images without an answer agree with nothing, not even with each other.
        same = (before == after) & (before != NO_ANSWER)
        divergence = divergences(reference, candidate)
        known = divergence[~np.isnan(divergence)]
        return cls(
            images=len(reference),
            top1_same=int(same.sum()),
            top_k_kept=int(in_top_k(candidate, before, k, after).sum()),
            kl_sum=float(known.sum()),
            kl_max=float(known.max(initial=0.0)),
            kl_images=len(known),
            k=k,
        )

    def __add__(self, other: ScoreDrift) -> ScoreDrift:
        """The drift over both sets of images."""
        return ScoreDrift(
            self.images + other.images,
            self.top1_same + other.top1_same,
            self.top_k_kept + other.top_k_kept,
            self.kl_sum + other.kl_sum,
            max(self.kl_max, other.kl_max),
            self.kl_images + other.kl_images,
            other.k,
        )

    @property
    def top1_agreement(self) -> float:
        """Share of images with the same answer; NaN without images."""
        return self.top1_same / self.images if self.images else float("nan")

    @property
    def top_k_agreement(self) -> float:
        """Share of images whose reference answer is among the engine's k best."""
        return self.top_k_kept / self.images if self.images else float("nan")

    @property
    def kl_mean(self) -> float:
        """Mean Kullback-Leibler divergence in nats; NaN where none is defined."""
        return self.kl_sum / self.kl_images if self.kl_images else float("nan")


def divergences(reference: np.ndarray, candidate: np.ndarray) -> np.ndarray:
    """`kl_divergence` of every row of the `probabilities` of two sets of class scores (N, C).

    Of logits they are not made: their logarithms are differences of scores. The last digits differ.
    """
    found = np.zeros(len(reference))
    for rows in _in_blocks(np.arange(len(reference)), reference.shape[1]):
        block = slice(rows[0], rows[-1] + 1)
        old, new = reference[block].astype(np.float64), candidate[block].astype(np.float64)
        changed = (old != new).any(axis=1)
        found[block] = np.where(old.max(axis=1) == -np.inf, np.nan, 0.0)  # of rows that are equal
        if changed.any():
            found[rows[changed]] = _divergences(old[changed], new[changed])
    return found


def _divergences(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """The same of float64 rows that stay in the cache."""
    highest = old.max(axis=1), new.max(axis=1)
    finite = np.isfinite(highest[0]) & np.isfinite(highest[1])
    already = old.min(axis=1) >= 0
    if already.any():
        already = are_probabilities(old)
    logits, kept = finite & ~already, finite & already
    if logits.all():
        return _of_logits(old, new, *highest)
    found = np.empty(len(old))
    found[logits] = _of_logits(old[logits], new[logits], highest[0][logits], highest[1][logits])
    found[kept] = kl_divergence(old[kept], new[kept])
    odd = ~finite
    if odd.any():
        found[odd] = kl_divergence(probabilities(old[odd]), probabilities(new[odd], old[odd]))
    return found


def _of_logits(
    old: np.ndarray, new: np.ndarray, highest_old: np.ndarray, highest_new: np.ndarray
) -> np.ndarray:
    """The same of rows without NaN and +inf that are no probabilities, given the highest of each."""
    with np.errstate(over="ignore"):
        old = old - highest_old[:, None]
        new = new - highest_new[:, None]
    shares = np.exp(old)
    total = shares.sum(axis=1)
    old -= np.log(total)[:, None]
    new -= np.log(np.exp(new).sum(axis=1))[:, None]
    np.maximum(old, _LOG_TINY, out=old)
    np.maximum(new, _LOG_TINY, out=new)
    shares /= total[:, None]
    sums = np.einsum("ij,ij->i", shares, np.subtract(old, new, out=old))
    return np.asarray(np.maximum(sums, 0.0))


def kl_divergence(reference: np.ndarray, candidate: np.ndarray) -> np.ndarray:
    """KL(reference || candidate) of every row.

    Args:
        reference: Probabilities (N, C).
        candidate: Probabilities (N, C).

    Returns:
        float64 (N,) in nats, NaN where a row holds NaN. A zero of the candidate where the reference has
        mass is read as the smallest positive float, so that the divergence is large but finite.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = reference * (np.log(np.maximum(reference, _TINY)) - np.log(np.maximum(candidate, _TINY)))
    # An exact zero of the reference contributes nothing, whatever stands beside it.
    terms = np.where(reference == 0, np.where(np.isnan(candidate), np.nan, 0.0), terms)
    return np.asarray(np.maximum(terms.sum(axis=1), 0.0))
