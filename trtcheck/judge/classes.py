"""Verdicts on per-class recall and precision, from three vectors of labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

import numpy as np

from trtcheck.case import DropTest, Verdict
from trtcheck.judge import family
from trtcheck.judge.enough import for_precision, for_recall
from trtcheck.judge.family import Evidence, Pooled, Rules
from trtcheck.judge.paired import mcnemar_p, smallest_p
from trtcheck.judge.power import detectable_precision_drops, minimum_detectable_drops
from trtcheck.judge.tango import score_interval
from trtcheck.judge.verdicts import ClassVerdict, PrecisionVerdict, RecallVerdict
from trtcheck.metrics.confusion import NO_LABEL, label_vectors
from trtcheck.metrics.paired import PairedCounts, paired_counts


def recall(
    truth: np.ndarray,
    reference: np.ndarray,
    candidate: np.ndarray,
    *,
    classes: Sequence[str] | int,
    drop: float = 0.01,
    alpha: float = family.ALPHA,
    test: DropTest | str = DropTest.PAIRED,
    floor: float | None = None,
    class_drops: Mapping[str, float] | None = None,
    class_floors: Mapping[str, float] | None = None,
    key_classes: Sequence[str] = (),
    pooled_drop: float | None = None,
    must_see: float = family.MUST_SEE,
) -> RecallVerdict:
    """Judges whether any class lost recall.

    Args:
        truth: Integer labels (N,), -1 for images without one.
        reference: Answers of the reference (N,), -1 for none.
        candidate: Answers of the engine on the same images (N,), -1 for none: a wrong answer.
        classes: Class names in the order of their numbers, or how many there are.
        drop: The drop that is too much, as a fraction: a smaller one is accepted, one of exactly as much not.
        alpha: False-alarm rate over all classes and the pooled test together.
        test: ``"paired"``: a class fails whose drop is significant, too (exact paired test, Tarone-Holm);
            ``"threshold"``: whatever reaches the margin fails; ``"proven"``: whatever is not proven to be
            harmless fails (upper Tango score bound below the margin).
        floor: Smallest accepted recall, whatever the reference's.
        class_drops: *drop* of single classes, by name or pattern (fnmatch); the first pattern that fits
            counts.
        class_floors: *floor* of single classes, in the same way.
        key_classes: Names or patterns of the classes that share a part of alpha of their own.
        pooled_drop: Smallest drop over all classes together that the pooled test fails, as a fraction; None
            for a fifth of what the classes' drops accept together.
        must_see: A class whose minimum detectable drop is larger is blind: a pass would mean nothing.

    Raises:
        ValueError: The vectors differ in length or hold labels outside the classes; a limit is no fraction.
    """
    rules = Rules.of(
        classes, drop=drop, floor=floor, class_drops=class_drops, class_floors=class_floors,
        key_classes=key_classes, alpha=alpha, test=test, pooled_drop=pooled_drop, must_see=must_see,
    )  # fmt: skip
    return recall_of(paired_counts(truth, reference, candidate, len(rules.classes)), rules)


def precision(
    truth: np.ndarray,
    reference: np.ndarray,
    candidate: np.ndarray,
    *,
    classes: Sequence[str] | int,
    drop: float = 0.01,
    alpha: float = family.ALPHA,
    test: DropTest | str = DropTest.PAIRED,
    floor: float | None = None,
    class_drops: Mapping[str, float] | None = None,
    class_floors: Mapping[str, float] | None = None,
    key_classes: Sequence[str] = (),
    pooled_drop: float | None = None,
    must_see: float = family.MUST_SEE,
) -> PrecisionVerdict:
    """Judges whether any class lost precision through new false positives.

    The test is the paired one on the false-positive indicator over the labelled images not of the class;
    the drop is that of precision itself. A fall of precision that comes from lost true positives alone is
    a fall of recall, and is judged there.

    Args:
        truth: Integer labels (N,), -1 for images without one.
        reference: Answers of the reference (N,), -1 for none.
        candidate: Answers of the engine on the same images (N,), -1 for none.
        classes: Class names in the order of their numbers, or how many there are.
        drop: The drop that is too much, as a fraction: a smaller one is accepted, one of exactly as much not.
        alpha: False-alarm rate over all classes and the pooled test together.
        test: As of `recall`.
        floor: Smallest accepted precision, whatever the reference's.
        class_drops: *drop* of single classes, by name or pattern (fnmatch); the first pattern that fits
            counts.
        class_floors: *floor* of single classes, in the same way.
        key_classes: Names or patterns of the classes that share a part of alpha of their own.
        pooled_drop: Smallest net share of images newly given to a wrong class that the pooled test fails;
            None for a fifth of what the classes' drops accept together.
        must_see: A class whose minimum detectable drop is larger is blind: a pass would mean nothing.

    Raises:
        ValueError: The vectors differ in length or hold labels outside the classes; a limit is no fraction.
    """
    rules = Rules.of(
        classes, drop=drop, floor=floor, class_drops=class_drops, class_floors=class_floors,
        key_classes=key_classes, alpha=alpha, test=test, pooled_drop=pooled_drop, must_see=must_see,
    )  # fmt: skip
    return precision_of(truth, reference, candidate, rules)


def recall_of(counts: PairedCounts, rules: Rules) -> RecallVerdict:
    """`recall` from counts."""
    n = counts.support
    failures = family.failures(
        counts.b, counts.c, n, margins=rules.margins, keys=np.array(rules.keys, bool), alpha=rules.alpha,
        pooled_drop=rules.pooled_margin(n),
    )  # fmt: skip
    levels = family.planning_levels(n > 0, rules)
    before, after = shares(counts.before, n), shares(counts.after, n)
    detectable = minimum_detectable_drops(n, levels, np.array(rules.margins))
    rows = class_rows(
        rules, support=n, before=before, after=after, fell=failures.fell, b=counts.b, c=counts.c,
        p=failures.p, detectable=possible(detectable, before),
        interval=score_interval(counts.b, counts.c, n, 1 - rules.alpha),
    )  # fmt: skip
    seen = family.pooled_detectable(failures.together, rules.alpha)
    verdict, rows, overall = family.judge(Evidence(rows, failures, seen), rules)
    told = for_recall(rows, levels, rules.must_see)
    return RecallVerdict(verdict, told, overall, rules.alpha, rules.test)


def precision_of(
    truth: np.ndarray, reference: np.ndarray, candidate: np.ndarray, rules: Rules
) -> PrecisionVerdict:
    """`precision` under *rules*."""
    truth, reference, candidate = label_vectors(truth=truth, reference=reference, candidate=candidate)
    counts = paired_counts(truth, reference, candidate, len(rules.classes))
    n, b, c = counts.support, counts.fp_b, counts.fp_c
    others = n.sum() - n
    tp_before, tp_after = counts.before, counts.after
    fell = precision_fell((tp_before, counts.fp_before), (tp_after, counts.fp_after), rules.margins)
    pooled = _pooled_false_positives(truth, reference, candidate, rules.pooled_margin(n))
    p = mcnemar_p(b, c)
    failures = family.decide(
        p, smallest_p(b, c), fell, pooled, tested=n > 0, keys=np.array(rules.keys, bool), alpha=rules.alpha,
    )  # fmt: skip
    levels = family.planning_levels(n > 0, rules)
    before = shares(tp_before, tp_before + counts.fp_before)
    after = shares(tp_after, tp_after + counts.fp_after)
    margins = np.array(rules.margins)
    detectable = detectable_precision_drops(tp_before, counts.fp_before, n, others, levels, margins)
    rows = class_rows(
        rules, support=n, before=before, after=after, fell=fell, b=b, c=c, p=p,
        detectable=possible(detectable, before),
        interval=_precision_interval(counts, others, before, 1 - rules.alpha),
    )  # fmt: skip
    seen = family.pooled_detectable(pooled, rules.alpha)
    verdict, rows, overall = family.judge(Evidence(rows, failures, seen), rules)
    told = for_precision(rows, counts, levels, rules.must_see)
    return PrecisionVerdict(verdict, told, overall, rules.alpha, rules.test)


def _pooled_false_positives(
    truth: np.ndarray, reference: np.ndarray, candidate: np.ndarray, margin: float
) -> Pooled:
    """Images given to a wrong class by one side only.

    Those that both sides give to wrong classes, also to different ones, got neither worse nor better.
    """
    labelled = truth != NO_LABEL
    was = labelled & (reference >= 0) & (reference != truth)
    now = labelled & (candidate >= 0) & (candidate != truth)
    b, c = int((now & ~was).sum()), int((was & ~now).sum())
    return Pooled(int(labelled.sum()), b, c, float(mcnemar_p(np.array(b), np.array(c))), margin)


def _precision_interval(
    counts: PairedCounts, others: np.ndarray, before: np.ndarray, confidence: float
) -> tuple[np.ndarray, np.ndarray]:
    """The interval of each class's drop of precision.

    It is that of the share of images newly given to the class (Tango's), carried over to precision with the
    true positives as they are.
    """
    ends = score_interval(counts.fp_b, counts.fp_c, others, confidence)
    low, high = (
        before - shares(counts.after, counts.after + np.maximum(counts.fp_before + end * others, 0.0))
        for end in ends
    )
    return low, high


def precision_fell(
    before: tuple[np.ndarray, np.ndarray], after: tuple[np.ndarray, np.ndarray], margins: Sequence[float]
) -> np.ndarray:
    """Whether precision fell by its margin, bool (C,); exact, from (TP, FP) before and after."""
    columns = (values.tolist() for values in (*before, *after))
    return np.array(
        [
            _precision_fell((tp, fp), (tp_after, fp_after), margin)
            for tp, fp, tp_after, fp_after, margin in zip(*columns, margins, strict=True)
        ],
        bool,
    )


def _precision_fell(before: tuple[int, int], after: tuple[int, int], margin: float) -> bool:
    if sum(before) == 0 or sum(after) == 0:
        return False
    fall = Fraction(before[0], sum(before)) - Fraction(after[0], sum(after))
    return fall > 0 and fall >= Fraction(str(margin))


def shares(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Element-wise share, NaN of nothing."""
    out = np.full(np.shape(part), np.nan)
    np.divide(part, whole, out=out, where=np.asarray(whole) > 0)
    return out


def possible(detectable: np.ndarray, before: np.ndarray) -> np.ndarray:
    """The *detectable* drops; NaN where one is larger than all that can be lost."""
    return np.where(detectable <= before, detectable, np.nan)


def class_rows(
    rules: Rules, *, support: np.ndarray, before: np.ndarray, after: np.ndarray, fell: np.ndarray,
    b: np.ndarray, c: np.ndarray, p: np.ndarray, detectable: np.ndarray,
    interval: tuple[np.ndarray, np.ndarray] | None,
) -> tuple[ClassVerdict, ...]:  # fmt: skip
    """Every class with its figures, verdicts to come."""
    unknown = np.full(len(p), np.nan)
    low, high = (unknown, unknown) if interval is None else interval
    low = np.where(np.isnan(before) | np.isnan(after), np.nan, low)
    return tuple(
        ClassVerdict(
            name=name, support=n, before=number(old), after=number(new), margin=margin, fell=dropped,
            floor=floor, key=key, b=worse, c=better, p=p_value, p_adjusted=1.0,
            interval=None if number(lower) is None else (lower, upper),
            detectable=number(seen), blind=not seen <= rules.must_see, enough=None, verdict=Verdict.SKIPPED,
        )
        for (name, margin, floor, key), dropped, (n, worse, better), (old, new, p_value, lower, upper, seen)
        in zip(
            zip(rules.classes, rules.margins, rules.floors, rules.keys, strict=True), fell.tolist(),
            np.column_stack([support, b, c]).tolist(),
            np.column_stack([before, after, p, low, high, detectable]).tolist(), strict=True,
        )
    )  # fmt: skip


def number(value: float) -> float | None:
    """*value*, None for NaN."""
    return None if value != value else value
