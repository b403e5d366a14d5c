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
    """A confusion matrix (C, C + 1), rows the truth, last column "no answer", with what follows from it.

    Undefined figures are NaN, as with scikit-learn's ``zero_division=np.nan``.
    """

    matrix: np.ndarray

    @classmethod
    def of(cls, truth: np.ndarray, predicted: np.ndarray, classes: int) -> Confusion:
        """The confusion of *predicted* against *truth*; see `confusion_matrix`."""
        return cls(confusion_matrix(truth, predicted, classes))

    def __add__(self, other: Confusion) -> Confusion:
        """The confusion of both sets of images together."""
        return Confusion(self.matrix + other.matrix)

    @property
    def classes(self) -> int:
        """The number of classes C."""
        return len(self.matrix)

    @cached_property
    def support(self) -> np.ndarray:
        """Labelled images of each class (C,)."""
        return np.asarray(self.matrix.sum(axis=1))

    @cached_property
    def tp(self) -> np.ndarray:
        """True positives (C,)."""
        return np.diagonal(self.matrix).copy()

    @cached_property
    def fp(self) -> np.ndarray:
        """False positives (C,)."""
        return np.asarray(self.matrix[:, :-1].sum(axis=0) - self.tp)

    @cached_property
    def fn(self) -> np.ndarray:
        """False negatives (C,), images without an answer among them."""
        return np.asarray(self.support - self.tp)

    @cached_property
    def tn(self) -> np.ndarray:
        """True negatives (C,)."""
        return np.asarray(self.matrix.sum() - self.tp - self.fp - self.fn)

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
        total = int(self.matrix.sum())
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
