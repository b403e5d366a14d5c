"""Confusion matrices and the per-class figures that follow from them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, reduce
from operator import iadd

import numpy as np

NO_LABEL = -1
"""Truth of an image that has no label: it is compared, but never counted as right or wrong."""
NO_ANSWER = -1
"""Predicted label where the scores name no class (NaN): always a wrong answer."""
DENSE = 1 << 22
"""Fields up to which a whole matrix is counted; of more the pairs are sorted instead."""
CHUNK = 1 << 15
"""Images counted at a time: few enough that their labels stay in the processor's cache from step to step."""


def in_chunks(classes: int, cells: int = 0, **vectors: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
    """Labels of the same images, a chunk at a time, as indices that can be counted.

    Args:
        classes: Number of classes C.
        cells: How many counts are made of a chunk; a chunk has at least as many images, so that adding up
            the counts of the chunks costs less than counting.
        vectors: Two or three vectors of integer labels (N,) by name, -1 for none.

    Yields:
        The vectors' chunks as intp arrays, with C in place of -1; one empty chunk where there are no images.

    Raises:
        ValueError: The arrays differ in length, or hold something else than labels of the classes.
    """
    names, labels = tuple(vectors), label_vectors(**vectors)
    size = max(CHUNK, cells)
    for start in range(0, max(len(labels[0]), 1), size):
        chunks = (vector[start : start + size] for vector in labels)
        yield tuple(_indices(name, chunk, classes) for name, chunk in zip(names, chunks, strict=True))


def label_vectors(**vectors: np.ndarray) -> tuple[np.ndarray, ...]:
    """Labels of the same images as arrays; plain lists are taken, too.

    Args:
        vectors: Two or three vectors of integer labels (N,) by name, -1 for none.

    Raises:
        ValueError: The vectors differ in length, or hold something else than labels.
    """
    # An empty list holds no numbers at all, and would be one of floats.
    arrays = {
        name: np.asarray(given, None if len(np.shape(given)) != 1 or len(given) else np.intp)
        for name, given in vectors.items()
    }
    shapes = {array.shape for array in arrays.values()}
    if len(shapes) > 1 or any(len(shape) != 1 for shape in shapes):
        *most, last = (f"{name} {array.shape}" for name, array in arrays.items())
        count = {2: "two", 3: "three"}[len(arrays)]
        raise ValueError(f"{', '.join(most)} and {last} must be {count} equal vectors")
    for name, array in arrays.items():
        if array.dtype.kind not in "iub":
            raise ValueError(f"{name} must hold integer labels, got {array.dtype}")
    return tuple(arrays.values())


def _indices(name: str, labels: np.ndarray, classes: int) -> np.ndarray:
    """The labels as intp, with C in place of -1."""
    indices = labels.astype(np.intp, copy=False)
    # Read as unsigned numbers, negative ones are too large: mostly one look is enough. Unsigned labels are
    # looked at as they are, for a huge one would turn negative.
    unsigned = labels if labels.dtype.kind == "u" else indices.view(np.uintp)
    if not labels.size or unsigned.max() < classes:
        return indices
    if labels.min() < -1 or labels.max() >= classes:
        raise ValueError(f"{name} holds labels outside -1..{classes - 1}")
    return np.minimum(indices.view(np.uintp), np.uintp(classes)).view(np.intp)


def confusion_matrix(truth: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Counts of every pair of true and predicted label.

    Args:
        truth: Integer labels (N,), `NO_LABEL` for images that do not count.
        predicted: Integer answers (N,), `NO_ANSWER` where there was none.
        classes: Number of classes C.

    Returns:
        int64 counts (C, C + 1); the last column counts the images without an answer.

    Raises:
        ValueError: The arrays differ in length, or hold something else than labels of the classes.
    """
    width = classes + 1  # of the rows, too: the last one counts the images without a label
    chunks = in_chunks(classes, width * width, truth=truth, predicted=predicted)
    counts = reduce(iadd, (_count_pairs(row, column, width) for row, column in chunks))
    return counts.reshape(width, width)[:-1]


def _count_pairs(row: np.ndarray, column: np.ndarray, width: int) -> np.ndarray:
    """Counts of every cell of a square matrix of that *width*, flat."""
    cell = row * width
    cell += column  # in place: a second array would not stay in the cache
    return np.bincount(cell, minlength=width * width)


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Element-wise ratio, NaN where the denominator is zero."""
    out = np.full(numerator.shape, np.nan)
    np.divide(numerator, denominator, out=out, where=denominator > 0)
    return out


@dataclass(frozen=True)
class Averages:
    """Averages over classes; NaN classes (no image, never predicted) are left out, as scikit-learn does.

    Attributes:
        precision: Average precision as a fraction.
        recall: Average recall as a fraction.
        f1: Average F1 as a fraction.
    """

    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, eq=False)
class Confusion:
    """How often each class was answered to each, with what follows from it.

    Only pairs that occur are kept: of 22 000 classes the whole matrix takes 3.9 GB. Undefined figures are
    NaN, as with scikit-learn's ``zero_division=np.nan``.

    Attributes:
        classes: Number of classes C.
        cells: Pairs that occur, ascending: truth * (C + 1) + answer, with C for no answer.
        counts: Images of each pair.
    """

    classes: int
    cells: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, truth: np.ndarray, predicted: np.ndarray, classes: int) -> Confusion:
        """The confusion of *predicted* against *truth*; arguments and errors are `confusion_matrix`'s."""
        width = classes + 1
        if width * width <= DENSE:
            return cls.of_matrix(confusion_matrix(truth, predicted, classes))
        chunks = in_chunks(classes, truth=truth, predicted=predicted)
        cells = np.concatenate([row * width + column for row, column in chunks])
        labelled = cells[cells < classes * width]
        return cls(classes, *np.unique(labelled, return_counts=True))

    @classmethod
    def of_matrix(cls, matrix: np.ndarray) -> Confusion:
        """The confusion whose *matrix* (C, C + 1) this is, the last column for no answer."""
        flat = matrix.ravel()
        cells = np.flatnonzero(flat)
        return cls(len(matrix), cells, flat[cells])

    def __add__(self, other: Confusion) -> Confusion:
        """The confusion of both sets of images together."""
        cells = np.union1d(self.cells, other.cells)
        return Confusion(self.classes, cells, self.at(cells) + other.at(cells))

    def at(self, cells: np.ndarray) -> np.ndarray:
        """Images of each of the *cells*, numbered as the attribute is."""
        if not len(self.cells):
            return np.zeros(len(cells), np.int64)
        place = np.minimum(np.searchsorted(self.cells, cells), len(self.cells) - 1)
        return np.where(self.cells[place] == cells, self.counts[place], 0)

    def row(self, k: int) -> np.ndarray:
        """What was answered to class *k* (C + 1,), last no answer."""
        width = self.classes + 1
        return self.at(np.arange(k * width, (k + 1) * width))

    @cached_property
    def truth(self) -> np.ndarray:
        """The class of each pair that occurs."""
        return self.cells // (self.classes + 1)

    @cached_property
    def answer(self) -> np.ndarray:
        """The answer of each pair that occurs, C for none."""
        return self.cells % (self.classes + 1)

    @cached_property
    def matrix(self) -> np.ndarray:
        """All counts (C, C + 1), rows the truth, last column "no answer"; large where classes are many."""
        whole = np.zeros((self.classes, self.classes + 1), np.int64)
        whole.ravel()[self.cells] = self.counts
        return whole

    def _by(self, kind: np.ndarray) -> np.ndarray:
        """Images by the *kind* of their pair (C,)."""
        counted = np.bincount(kind, self.counts, self.classes)[: self.classes]
        return counted.astype(np.int64)  # sums of counts are exact in float64 up to 2^53

    @cached_property
    def support(self) -> np.ndarray:
        """Labelled images of each class (C,)."""
        return self._by(self.truth)

    @cached_property
    def tp(self) -> np.ndarray:
        """True positives (C,)."""
        return self.at(np.arange(self.classes) * (self.classes + 2))

    @cached_property
    def fp(self) -> np.ndarray:
        """False positives (C,)."""
        return np.asarray(self._by(self.answer) - self.tp)

    @cached_property
    def fn(self) -> np.ndarray:
        """False negatives (C,), images without an answer among them."""
        return np.asarray(self.support - self.tp)

    @cached_property
    def tn(self) -> np.ndarray:
        """True negatives (C,)."""
        return np.asarray(self.counts.sum() - self.tp - self.fp - self.fn)

    @cached_property
    def recall(self) -> np.ndarray:
        """TP / (TP + FN) (C,), NaN for a class without images."""
        return _ratio(self.tp, self.support)

    @cached_property
    def precision(self) -> np.ndarray:
        """TP / (TP + FP) (C,), NaN for a class that was never predicted."""
        return _ratio(self.tp, self.tp + self.fp)

    @cached_property
    def f1(self) -> np.ndarray:
        """2 TP / (2 TP + FP + FN) (C,), NaN for a class with neither images nor predictions."""
        return _ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    @property
    def accuracy(self) -> float:
        """Share of labelled images that were answered right; NaN without any."""
        total = int(self.counts.sum())
        return int(self.tp.sum()) / total if total else float("nan")

    @property
    def macro(self) -> Averages:
        """Unweighted averages over classes."""
        return self._average(np.ones(self.classes))

    @property
    def weighted(self) -> Averages:
        """Averages over classes weighted by support."""
        return self._average(self.support.astype(float))

    def _average(self, weights: np.ndarray) -> Averages:
        def over(values: np.ndarray) -> float:
            known = ~np.isnan(values)
            if not known.any():
                return float("nan")
            # Where only classes without images are known, all weigh the same, as in scikit-learn.
            return float(np.average(values[known], weights=weights[known] if weights[known].any() else None))

        return Averages(over(self.precision), over(self.recall), over(self.f1))


@dataclass(frozen=True, eq=False)
class Changes:
    """The pairs of truth and answer whose number changed, ascending.

    Attributes:
        truth: Class of each pair (M,).
        answer: Answer of each pair (M,), C for none.
        before: Images of each pair before (M,).
        after: Images of each pair after (M,).
    """

    truth: np.ndarray
    answer: np.ndarray
    before: np.ndarray
    after: np.ndarray

    @classmethod
    def of(cls, before: Confusion, after: Confusion) -> Changes:
        """What changed from *before* to *after*, which have the same classes."""
        cells = np.union1d(before.cells, after.cells)
        cells = cells[before.at(cells) != after.at(cells)]
        width = before.classes + 1
        return cls(cells // width, cells % width, before.at(cells), after.at(cells))
