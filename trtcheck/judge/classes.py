"""Verdicts on accuracy and on per-class recall and precision, from three vectors of labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from trtcheck.case import Verdict
from trtcheck.judge.paired import holm, mcnemar_p, minimum_detectable_drop, reaches
from trtcheck.metrics.confusion import NO_LABEL, Confusion

MUST_SEE = 0.6
"""A class whose minimum detectable drop is larger than this is blind: its pass would mean nothing."""


@dataclass(frozen=True)
class ClassVerdict:
    """One class before and after.

    Attributes:
        name: The class.
        support: Its labelled images.
        before: Recall (or precision) of the reference as a fraction; None where undefined.
        after: The same of the engine.
        margin: The accepted drop.
        b: Images on which the reference was right and the engine wrong; for precision, images of other
            classes that only the engine puts into this class.
        c: The reverse.
        p: One-sided exact p-value.
        p_adjusted: The same after Holm over the classes.
        detectable: Smallest drop that would have been found with power .8; None where none would.
        verdict: Pass, fail, inconclusive, or skipped for a class that has no images.
    """

    name: str
    support: int
    before: float | None
    after: float | None
    margin: float
    b: int
    c: int
    p: float
    p_adjusted: float
    detectable: float | None
    verdict: Verdict

    @property
    def drop(self) -> float | None:
        """Before minus after, as a fraction; None where either is undefined."""
        return None if self.before is None or self.after is None else self.before - self.after


@dataclass(frozen=True)
class ClassesVerdict:
    """The verdict on all classes and each of them, in the order of the classes.

    Attributes:
        verdict: Fail if any class fails; inconclusive if every class with images is; else pass.
        classes: The classes' own verdicts.
        alpha: False-alarm rate over all classes together.
    """

    verdict: Verdict
    classes: tuple[ClassVerdict, ...]
    alpha: float

    def named(self, verdict: Verdict) -> tuple[ClassVerdict, ...]:
        """The classes with that verdict, largest drop first."""
        chosen = (row for row in self.classes if row.verdict is verdict)
        return tuple(sorted(chosen, key=lambda row: -(row.drop or 0.0)))


@dataclass(frozen=True)
class AccuracyVerdict:
    """Accuracy before and after.

    Attributes:
        verdict: Pass, fail or inconclusive.
        images: Labelled images.
        before: Accuracy of the reference as a fraction.
        after: Accuracy of the engine.
        margin: The accepted drop.
        b: Images that only the reference answered right.
        c: Images that only the engine answered right.
        p: One-sided exact p-value.
        detectable: Smallest drop that would have been found with power .8; None where none would.
    """

    verdict: Verdict
    images: int
    before: float
    after: float
    margin: float
    b: int
    c: int
    p: float
    detectable: float | None


def recall(
    truth: np.ndarray,
    reference: np.ndarray,
    candidate: np.ndarray,
    *,
    classes: Sequence[str],
    drop: float = 0.01,
    alpha: float = 0.01,
    class_drops: Mapping[str, float] | None = None,
) -> ClassesVerdict:
    """Judges whether any class lost recall.

    Args:
        truth: Integer labels (N,), -1 for images without one.
        reference: Answers of the reference (N,), -1 for none.
        candidate: Answers of the engine on the same images (N,), -1 for none: a wrong answer.
        classes: Class names in the order of their numbers.
        drop: Largest accepted drop as a fraction.
        alpha: False-alarm rate over all classes together (exact paired test, Holm over the classes that
            have images).
        class_drops: Accepted drops of single classes by name.

    Raises:
        ValueError: The vectors differ in length or hold labels outside the classes.
    """
    truth, reference, candidate = np.asarray(truth), np.asarray(reference), np.asarray(candidate)
    before = Confusion.of(truth, reference, len(classes))
    after = Confusion.of(truth, candidate, len(classes))
    broken = (reference == truth) & (candidate != truth)
    fixed = (reference != truth) & (candidate == truth)
    margins = [(class_drops or {}).get(name, drop) for name in classes]
    b, c = _count(truth[broken], len(classes)), _count(truth[fixed], len(classes))
    rows = [
        ClassVerdict(
            name=name, support=n, before=_number(before.recall[k]), after=_number(after.recall[k]),
            margin=margins[k], b=int(b[k]), c=int(c[k]), p=1.0, p_adjusted=1.0, detectable=None,
            verdict=Verdict.PASS if n else Verdict.SKIPPED,
        )
        for k, (name, n) in enumerate(zip(classes, before.support.tolist(), strict=True))
    ]  # fmt: skip
    fell = [reaches(row.b - row.c, row.margin, row.support) for row in rows]
    return judge_family(_tested(rows, before.support.tolist(), margins, alpha), fell, alpha)


def precision(
    truth: np.ndarray,
    reference: np.ndarray,
    candidate: np.ndarray,
    *,
    classes: Sequence[str],
    drop: float = 0.01,
    alpha: float = 0.01,
    class_drops: Mapping[str, float] | None = None,
) -> ClassesVerdict:
    """Judges whether any class lost precision through new false positives.

    The test is the paired one on the false-positive indicator over the labelled images not of the class;
    the drop is that of precision itself. A fall of precision that comes from lost true positives alone is
    a fall of recall, and is judged there.

    Args:
        truth: Integer labels (N,), -1 for images without one.
        reference: Answers of the reference (N,), -1 for none.
        candidate: Answers of the engine on the same images (N,), -1 for none.
        classes: Class names in the order of their numbers.
        drop: Largest accepted drop as a fraction.
        alpha: False-alarm rate over all classes together.
        class_drops: Accepted drops of single classes by name.

    Raises:
        ValueError: The vectors differ in length or hold labels outside the classes.
    """
    truth, reference, candidate = np.asarray(truth), np.asarray(reference), np.asarray(candidate)
    before = Confusion.of(truth, reference, len(classes))
    after = Confusion.of(truth, candidate, len(classes))
    wrong_before = (truth != NO_LABEL) & (reference != truth) & (reference >= 0)
    wrong_after = (truth != NO_LABEL) & (candidate != truth) & (candidate >= 0)
    differ = reference != candidate
    margins = [(class_drops or {}).get(name, drop) for name in classes]
    b = _count(candidate[wrong_after & differ], len(classes))
    c = _count(reference[wrong_before & differ], len(classes))
    rows = [
        ClassVerdict(
            name=name, support=n, before=_number(before.precision[k]), after=_number(after.precision[k]),
            margin=margins[k], b=int(b[k]), c=int(c[k]), p=1.0, p_adjusted=1.0, detectable=None,
            verdict=Verdict.PASS if n else Verdict.SKIPPED,
        )
        for k, (name, n) in enumerate(zip(classes, before.support.tolist(), strict=True))
    ]  # fmt: skip
    total = int(before.support.sum())
    sizes = [total - n for n in before.support.tolist()]
    fell = [
        precision_fell(
            (int(before.tp[k]), int(before.fp[k])), (int(after.tp[k]), int(after.fp[k])), margins[k]
        )
        for k in range(len(rows))
    ]
    # The margin is one of precision, not of the share of false positives: power is stated without it.
    return judge_family(_tested(rows, sizes, [0.0] * len(rows), alpha), fell, alpha)


def accuracy(
    truth: np.ndarray,
    reference: np.ndarray,
    candidate: np.ndarray,
    *,
    drop: float = 0.01,
    alpha: float = 0.01,
) -> AccuracyVerdict:
    """Judges whether accuracy over all labelled images fell.

    Args:
        truth: Integer labels (N,), -1 for images without one.
        reference: Answers of the reference (N,), -1 for none.
        candidate: Answers of the engine on the same images (N,), -1 for none: a wrong answer.
        drop: Largest accepted drop as a fraction.
        alpha: False-alarm rate of the exact paired test.
    """
    truth, reference, candidate = np.asarray(truth), np.asarray(reference), np.asarray(candidate)
    counted = truth != NO_LABEL
    return top_k_accuracy(
        (reference == truth)[counted], (candidate == truth)[counted], drop=drop, alpha=alpha
    )


def top_k_accuracy(
    reference: np.ndarray, candidate: np.ndarray, *, drop: float = 0.01, alpha: float = 0.01
) -> AccuracyVerdict:
    """Judges a share of right answers, given which of the labelled images each side answered right.

    Args:
        reference: Whether the reference was right, bool (N,).
        candidate: Whether the engine was right, bool (N,).
        drop: Largest accepted drop as a fraction.
        alpha: False-alarm rate of the exact paired test.

    Raises:
        ValueError: There are no images, or the vectors differ in length.
    """
    n = len(reference)
    if n == 0 or reference.shape != candidate.shape:
        raise ValueError(f"two equal vectors with at least one image, got {n} and {len(candidate)}")
    b, c = int((reference & ~candidate).sum()), int((candidate & ~reference).sum())
    p = float(mcnemar_p(np.array(b), np.array(c)))
    detectable = minimum_detectable_drop(n, alpha, drop)
    fell = reaches(b - c, drop, n)
    return AccuracyVerdict(
        verdict=verdict_of(fell, p <= alpha, detectable),
        images=n, before=int(reference.sum()) / n, after=int(candidate.sum()) / n,
        margin=drop, b=b, c=c, p=p, detectable=detectable,
    )  # fmt: skip


def _tested(
    rows: Sequence[ClassVerdict], sizes: Sequence[int], planned: Sequence[float], alpha: float
) -> list[ClassVerdict]:
    """The rows with the paired test's p-value and with the drop that *sizes* images could have shown.

    The planning level is the family's share by the number of classes with images, fixed before any count
    is seen; *planned* is the observed drop that is needed besides significance, in shares of *sizes*.
    """
    p = mcnemar_p(np.array([row.b for row in rows]), np.array([row.c for row in rows]))
    share = alpha / max(1, sum(row.verdict is not Verdict.SKIPPED for row in rows))
    return [
        row
        if row.verdict is Verdict.SKIPPED
        else replace(row, p=float(p[k]), detectable=minimum_detectable_drop(sizes[k], share, planned[k]))
        for k, row in enumerate(rows)
    ]


def judge_family(rows: Sequence[ClassVerdict], fell: Sequence[bool], alpha: float) -> ClassesVerdict:
    """Judges the classes that have images as one family, from their p-values.

    Args:
        rows: Every class with its p-value; those to be skipped are marked so.
        fell: Whether each class's observed drop reaches its margin.
        alpha: False-alarm rate over all classes together, kept by Holm's procedure.
    """
    tested = [k for k, row in enumerate(rows) if row.verdict is not Verdict.SKIPPED]
    judged = list(rows)
    for k, adjusted in zip(tested, holm(np.array([rows[k].p for k in tested])), strict=True):
        verdict = verdict_of(fell[k], bool(adjusted <= alpha), rows[k].detectable)
        if verdict is Verdict.PASS and _says_nothing(rows[k]):
            verdict = Verdict.INCONCLUSIVE
        judged[k] = replace(rows[k], p_adjusted=float(adjusted), verdict=verdict)
    return ClassesVerdict(_overall([judged[k].verdict for k in tested]), tuple(judged), alpha)


def _says_nothing(row: ClassVerdict) -> bool:
    """Whether a pass would be empty: what was never right cannot get worse, what is gone has no precision."""
    return (row.before == 0 and not row.after) or (row.before is not None and row.after is None)


def verdict_of(fell: bool, significant: bool, detectable: float | None) -> Verdict:
    """The verdict on one drop; *detectable* tells whether a pass would mean anything."""
    if fell:
        return Verdict.FAIL if significant else Verdict.INCONCLUSIVE
    blind = detectable is None or detectable > MUST_SEE
    return Verdict.INCONCLUSIVE if blind else Verdict.PASS


def _overall(verdicts: Sequence[Verdict]) -> Verdict:
    if Verdict.FAIL in verdicts:
        return Verdict.FAIL
    if all(verdict is Verdict.INCONCLUSIVE for verdict in verdicts):
        return Verdict.INCONCLUSIVE
    return Verdict.PASS


def precision_fell(before: tuple[int, int], after: tuple[int, int], margin: float) -> bool:
    """Whether precision fell, and by at least *margin*; exact, from (TP, FP) before and after."""
    if sum(before) == 0 or sum(after) == 0:
        return False
    fall = Fraction(before[0], sum(before)) - Fraction(after[0], sum(after))
    return fall > 0 and fall >= Fraction(str(margin))


def _count(labels: np.ndarray, classes: int) -> np.ndarray:
    """Images of each class (C,) among *labels*; those without a label are left out."""
    return np.bincount(labels[labels >= 0].astype(np.int64), minlength=classes)


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
