"""Verdicts on shares of right answers over all images."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from trtcheck.case import DropTest, Verdict
from trtcheck.judge.enough import WORTH_SEEING
from trtcheck.judge.family import ALPHA, MUST_SEE
from trtcheck.judge.paired import mcnemar_p, reaches
from trtcheck.judge.power import enough_images, minimum_detectable_drop
from trtcheck.judge.tango import score_interval
from trtcheck.judge.verdicts import AccuracyVerdict, Enough
from trtcheck.metrics.confusion import NO_LABEL


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
        drop: Largest accepted drop as a fraction; a drop of exactly as much fails.
        alpha: False-alarm rate of the exact paired test.
        test: As of `trtcheck.judge.recall`.
        floor: Smallest accepted accuracy, whatever the reference's.
        target: Smallest accepted share of the reference's accuracy, as MLPerf Inference asks for (.99, .999).
        must_see: Where the minimum detectable drop is larger, a pass would mean nothing.

    Raises:
        ValueError: No image has a label, the vectors differ in length, or a limit is no fraction.
    """
    truth, reference, candidate = np.asarray(truth), np.asarray(reference), np.asarray(candidate)
    if truth.ndim != 1 or not truth.shape == reference.shape == candidate.shape:
        raise ValueError(f"three equal vectors, got {truth.shape}, {reference.shape} and {candidate.shape}")
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
        drop: Largest accepted drop as a fraction; a drop of exactly as much fails.
        alpha: False-alarm rate of the exact paired test.
        test: As of `trtcheck.judge.recall`.
        floor: Smallest accepted share, whatever the reference's.
        target: Smallest accepted share of the reference's.
        must_see: Where the minimum detectable drop is larger, a pass would mean nothing.

    Raises:
        ValueError: There are no images, the vectors differ in length, or a limit is no fraction.
    """
    n = len(reference)
    if n == 0 or reference.shape != candidate.shape:
        raise ValueError(f"two equal vectors with at least one image, got {n} and {len(candidate)}")
    b, c = int((reference & ~candidate).sum()), int((candidate & ~reference).sum())
    rule = DropTest(test)
    low, high = score_interval(np.array(b), np.array(c), np.array(n), 1 - alpha)
    level = 1.0 if rule is DropTest.THRESHOLD else alpha
    return judged(
        images=n, right_before=int(reference.sum()), right_after=int(candidate.sum()), b=b, c=c,
        p=float(mcnemar_p(np.array(b), np.array(c))), interval=(float(low), float(high)),
        detectable=minimum_detectable_drop(n, level, drop), drop=drop, alpha=alpha, test=rule, floor=floor,
        target=target, must_see=must_see,
    )  # fmt: skip


def judged(
    *, images: int, right_before: int, right_after: int, b: int, c: int, p: float,
    interval: tuple[float, float] | None, detectable: float | None, drop: float, alpha: float,
    test: DropTest, floor: float | None, target: float | None, must_see: float,
) -> AccuracyVerdict:  # fmt: skip
    """The verdict on counts and what a test made of them."""
    for name, value in {"drop": drop, "floor": floor, "target": target}.items():
        if value is not None and not 0 <= value <= 1:
            raise ValueError(f"{name} is {value}, expected a fraction from 0 to 1 (0.01 is one point)")
    before, after = right_before / images, right_after / images
    fell = reaches(right_before - right_after, drop, images)
    if detectable is not None and detectable > before:
        detectable = None  # more than can be lost
    blind = detectable is None or detectable > must_see
    short = (floor is not None and after < floor) or (
        target is not None and right_after < Fraction(str(target)) * right_before
    )
    verdict = Verdict.FAIL if short else _verdict(fell, p <= alpha, blind, interval, drop, test)
    enough: Enough | None = None
    if verdict is Verdict.INCONCLUSIVE and right_before:
        wanted = min(before - after if fell else WORTH_SEEING, before)
        enough = enough_images(wanted, alpha)
    return AccuracyVerdict(
        verdict=verdict, images=images, before=before, after=after, margin=drop, b=b, c=c, p=p,
        interval=interval, detectable=detectable, enough=enough, floor=floor, target=target, alpha=alpha,
        test=test,
    )  # fmt: skip


def _verdict(
    fell: bool, significant: bool, blind: bool, interval: tuple[float, float] | None, drop: float,
    test: DropTest,
) -> Verdict:  # fmt: skip
    match test:
        case DropTest.THRESHOLD:
            return Verdict.FAIL if fell else Verdict.PASS
        case DropTest.PROVEN:
            return Verdict.PASS if interval is not None and interval[1] < drop else Verdict.FAIL
        case DropTest.PAIRED:
            if fell:
                return Verdict.FAIL if significant else Verdict.INCONCLUSIVE
            return Verdict.INCONCLUSIVE if blind else Verdict.PASS
