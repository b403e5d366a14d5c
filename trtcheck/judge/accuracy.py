"""Verdicts on shares of right answers over all images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from trtcheck.case import DropTest, Verdict
from trtcheck.judge.enough import for_accuracy
from trtcheck.judge.family import ALPHA, MUST_SEE, by_rule, check_alpha, check_shares, rule_of
from trtcheck.judge.paired import mcnemar_p, ratio, reaches
from trtcheck.judge.power import minimum_detectable_drop
from trtcheck.judge.tango import score_interval
from trtcheck.judge.verdicts import AccuracyVerdict
from trtcheck.metrics.confusion import NO_LABEL, label_vectors


def accuracy(
    truth: np.ndarray,
    reference: np.ndarray,
    candidate: np.ndarray,
    *,
    drop: float = 0.01,
    alpha: float = ALPHA,
    test: DropTest | str = DropTest.PAIRED,
    floor: float | None = None,
    target: float | None = None,
    must_see: float = MUST_SEE,
) -> AccuracyVerdict:
    """Judges whether accuracy over all labelled images fell.

    Args:
        truth: Integer labels (N,), -1 for images without one.
        reference: Answers of the reference (N,), -1 for none.
        candidate: Answers of the engine on the same images (N,), -1 for none: a wrong answer.
        drop: The drop that is too much, as a fraction: a smaller one is accepted, one of exactly as much not.
        alpha: False-alarm rate of the exact paired test.
        test: As of `trtcheck.judge.recall`.
        floor: Smallest accepted accuracy, whatever the reference's.
        target: Smallest accepted share of the reference's accuracy, as MLPerf Inference asks for (.99, .999).
        must_see: Where the minimum detectable drop is larger, a pass would mean nothing.

    Raises:
        ValueError: No image has a label, the vectors differ in length, or a limit is no fraction.
    """
    truth, reference, candidate = label_vectors(truth=truth, reference=reference, candidate=candidate)
    for name, labels in {"truth": truth, "reference": reference, "candidate": candidate}.items():
        if (labels < NO_LABEL).any():
            raise ValueError(f"{name} holds labels below -1")
    counted = truth != NO_LABEL
    return top_k_accuracy(
        (reference == truth)[counted], (candidate == truth)[counted], drop=drop, alpha=alpha, test=test,
        floor=floor, target=target, must_see=must_see,
    )  # fmt: skip


def top_k_accuracy(
    reference: np.ndarray,
    candidate: np.ndarray,
    *,
    drop: float = 0.01,
    alpha: float = ALPHA,
    test: DropTest | str = DropTest.PAIRED,
    floor: float | None = None,
    target: float | None = None,
    must_see: float = MUST_SEE,
) -> AccuracyVerdict:
    """Judges a share of right answers, given which of the labelled images each side answered right.

    Args:
        reference: Whether the reference was right, bool (N,).
        candidate: Whether the engine was right, bool (N,).
        drop: The drop that is too much, as a fraction: a smaller one is accepted, one of exactly as much not.
        alpha: False-alarm rate of the exact paired test.
        test: As of `trtcheck.judge.recall`.
        floor: Smallest accepted share, whatever the reference's.
        target: Smallest accepted share of the reference's.
        must_see: Where the minimum detectable drop is larger, a pass would mean nothing.

    Raises:
        ValueError: There are no images, the vectors differ in length, or a limit is no fraction.
    """
    reference, candidate = np.asarray(reference), np.asarray(candidate)
    if reference.ndim != 1 or reference.shape != candidate.shape or not reference.size:
        raise ValueError(
            "expected two equal vectors with at least one image (that has a label), "
            f"got {reference.shape} and {candidate.shape}"
        )
    if reference.dtype != bool or candidate.dtype != bool:
        raise ValueError(f"expected bool vectors, got {reference.dtype} and {candidate.dtype}")
    check_alpha(alpha)
    n = len(reference)
    b, c = int((reference & ~candidate).sum()), int((candidate & ~reference).sum())
    rule = rule_of(test)
    low, high = score_interval(np.array(b), np.array(c), np.array(n), 1 - alpha)
    level = 1.0 if rule is DropTest.THRESHOLD else alpha
    result = judged(
        images=n, right_before=int(reference.sum()), right_after=int(candidate.sum()), b=b, c=c,
        p=float(mcnemar_p(np.array(b), np.array(c))), interval=(float(low), float(high)),
        detectable=minimum_detectable_drop(n, level, drop), drop=drop, alpha=alpha, test=rule, floor=floor,
        target=target, must_see=must_see,
    )  # fmt: skip
    return for_accuracy(result, must_see)


def judged(
    *, images: int, right_before: int, right_after: int, b: int, c: int, p: float,
    interval: tuple[float, float] | None, detectable: float | None, drop: float, alpha: float,
    test: DropTest, floor: float | None, target: float | None, must_see: float,
) -> AccuracyVerdict:  # fmt: skip
    """The verdict on counts and what a test made of them."""
    check_shares({"drop": drop, "floor": floor, "target": target, "must_see": must_see})
    before, after = right_before / images, right_after / images
    fell = reaches(right_before - right_after, drop, images)
    if detectable is not None and detectable > before:
        detectable = None  # more than can be lost
    blind = detectable is None or detectable > must_see
    result = AccuracyVerdict(
        verdict=Verdict.FAIL, images=images, before=before, after=after, margin=drop, fell=fell,
        below_floor=floor is not None and after < floor,
        below_target=target is not None and right_after < ratio(target) * right_before,
        b=b, c=c, p=p, interval=interval, detectable=detectable, enough=None, floor=floor, target=target,
        alpha=alpha, test=test,
    )  # fmt: skip
    if result.below_floor or result.below_target:
        return result
    return replace(result, verdict=by_rule(result, fell and p <= alpha, blind, test))
