"""What two engines answered on the same images, counted class by class."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import reduce
from operator import add

import numpy as np

from trtcheck.metrics.confusion import in_chunks


@dataclass(frozen=True, eq=False)
class PairedCounts:
    """Counts of one class each, int64 (C,), of a reference and a candidate on the same images; shards add up.

    Images without a label are not in them. An image without an answer is answered wrongly, and is no
    class's false positive.

    Attributes:
        support: Labelled images of the class.
        before: Of these, right by the reference.
        after: Of these, right by the candidate.
        b: Of these, right by the reference and wrong by the candidate.
        c: The reverse.
        fp_before: Images of other classes that the reference puts into the class.
        fp_after: The same of the candidate.
        fp_b: Images of other classes that only the candidate puts into the class.
        fp_c: Images of other classes that only the reference puts into the class.
    """

    support: np.ndarray
    before: np.ndarray
    after: np.ndarray
    b: np.ndarray
    c: np.ndarray
    fp_before: np.ndarray
    fp_after: np.ndarray
    fp_b: np.ndarray
    fp_c: np.ndarray

    def __add__(self, other: PairedCounts) -> PairedCounts:
        """The counts over both sets of images."""
        names = [field.name for field in fields(self)]
        return PairedCounts(**{name: getattr(self, name) + getattr(other, name) for name in names})


def paired_counts(
    truth: np.ndarray, reference: np.ndarray, candidate: np.ndarray, classes: int
) -> PairedCounts:
    """Class by class, what *reference* and *candidate* got right and wrong on the same images.

    Args:
        truth: Integer labels (N,), -1 for images that do not count.
        reference: Integer answers (N,) of the reference, -1 where it had none.
        candidate: Integer answers (N,) of the candidate, -1 where it had none.
        classes: Number of classes C.

    Raises:
        ValueError: The arrays differ in length, or hold something else than labels of the classes.
    """
    chunks = in_chunks(classes, 4 * classes, truth=truth, reference=reference, candidate=candidate)
    return reduce(add, (_count(classes, *chunk) for chunk in chunks))


def _count(classes: int, truth: np.ndarray, before: np.ndarray, after: np.ndarray) -> PairedCounts:
    """The counts of one chunk, in which C is no label and no answer."""
    labelled = truth < classes
    if not labelled.all():
        truth, before, after = truth[labelled], before[labelled], after[labelled]
    was_right, is_right = before == truth, after == truth
    outcome = truth * 4
    outcome += 2 * was_right
    outcome += is_right
    cells = np.bincount(outcome, minlength=4 * classes).reshape(classes, 4)
    _, c, b, both = cells.T
    right_before = both + b
    # Only images whose answer changed have a false positive that the other engine does not have.
    changed = before != after
    fp_b = _answers(after[changed & ~is_right], classes)
    fp_c = _answers(before[changed & ~was_right], classes)
    fp_before = _answers(before, classes) - right_before
    return PairedCounts(
        support=cells.sum(axis=1),
        before=right_before,
        after=both + c,
        b=b.copy(),
        c=c.copy(),
        fp_before=fp_before,
        fp_after=fp_before + fp_b - fp_c,
        fp_b=fp_b,
        fp_c=fp_c,
    )


def _answers(answers: np.ndarray, classes: int) -> np.ndarray:
    """How often each class is the answer (C,); no answer is none."""
    return np.bincount(answers, minlength=classes + 1)[:classes]
