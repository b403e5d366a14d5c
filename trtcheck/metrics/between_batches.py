"""What an image's outputs differ by between the batches that it stands in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from trtcheck.metrics.scores import answers

Scores = tuple[str, Callable[[np.ndarray], np.ndarray]]
"""Name of the output with the class scores, and what makes (N, C) of its rows."""


@dataclass(frozen=True)
class OutputDifference:
    """The largest difference of one output between batches.

    Attributes:
        name: Its name.
        exact: Whether it holds integers, truths or text, which are compared exactly.
        difference: Norm of the difference (L2) between an image's row alone and in another batch, as a
            fraction of the norm of the row alone, or of the median over the images where that is larger: an
            output near zero is no reason for alarm. Of an exact output: the share of a row that differs.
        image: The image with the largest, its index in the data set; None where nothing differs.
        batch: The size of the batch in which it differs so.
        beyond: Images that differ by more than the tolerance; of an exact output: by anything.
        nonfinite: Images with NaN or an infinity in one batch and not in another.
        nonfinite_image: The first of them.
        nonfinite_batch: The size of that batch.
    """

    name: str
    exact: bool
    difference: float
    image: int | None
    batch: int | None
    beyond: int
    nonfinite: int = 0
    nonfinite_image: int | None = None
    nonfinite_batch: int | None = None


@dataclass(frozen=True)
class AnswerDifference:
    """Images whose answer depends on the batch.

    Attributes:
        differing: How many.
        image: The first of them, its index in the data set; None where there is none.
        batch: The size of the batch in which it is answered otherwise.
        alone: Its answer alone; `trtcheck.metrics.confusion.NO_ANSWER` for none.
        there: Its answer in that batch.
    """

    differing: int = 0
    image: int | None = None
    batch: int | None = None
    alone: int | None = None
    there: int | None = None


def batch_axis(alone: tuple[int, ...], other: tuple[int, ...], small: int, large: int) -> int | None:
    """The axis of an output along which images stand; None where there is none.

    Args:
        alone: The output's shape for a batch of *small* images; one image may lack the axis (``squeeze``).
        other: Its shape for a batch of *large* images; of several axes of the same size the first is taken.
        small: The one size.
        large: The other.
    """
    for axis, size in enumerate(other):
        rest = (*other[:axis], *other[axis + 1 :])
        if size == large and (
            alone == (*other[:axis], small, *other[axis + 1 :]) or (small == 1 and alone == rest)
        ):
            return axis
    return None


class Watched:
    """One output of several images, compared with what it was in the batch that came first.

    Args:
        name: Its name.
        row: The shape of what it holds for one image.
        axis: The axis of a batch along which images stand.
        indices: Index of every image in the data set.
        answered: Makes class scores (N, C) of its rows; None where it holds none.
    """

    def __init__(
        self, name: str, row: tuple[int, ...], axis: int, indices: Sequence[int],
        answered: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> None:  # fmt: skip
        self.name = name
        self.elements = 0
        """Finite numbers, or values of an exact output, that have been compared."""
        self._row = row
        self._axis = axis
        self._indices = indices
        self._answered = answered
        self._first: dict[int, np.ndarray] = {}
        self._first_answer: dict[int, int] = {}
        self._largest_norm = 0.0
        count = len(indices)
        self._norms, self._worst = np.zeros(count), np.zeros(count)
        self._where = np.zeros(count, np.int64)
        self._nonfinite = np.zeros(count, np.int64)
        self._changed: dict[int, AnswerDifference] = {}

    def take(self, value: np.ndarray, batch: np.ndarray) -> bool:
        """Compares the rows of *value*; False where it has another shape than before.

        Args:
            value: The output for *batch*.
            batch: Position of every image of the batch among those that are tried.
        """
        if value.shape == self._row and len(batch) == 1:
            rows = value[None]
        elif value.shape == (*self._row[: self._axis], len(batch), *self._row[self._axis :]):
            rows = np.moveaxis(value, self._axis, 0)
        else:
            return False
        found = None if self._answered is None else answers(self._answered(rows))
        flat = rows.reshape(len(batch), -1)
        for place, image in enumerate(batch.tolist()):
            if image not in self._first:
                self._first[image] = flat[place].copy()
                self._norms[image] = _norm(flat[place])
            else:
                self._compare(image, flat[place], len(batch))
            if found is not None:
                self._compare_answer(image, int(found[place]), len(batch))
        return True

    def _compare(self, image: int, row: np.ndarray, size: int) -> None:
        before = self._first[image]
        if is_exact(row):
            different = float(np.mean(before != row)) if row.size else 0.0
            self.elements += row.size
        else:
            a, b = before.astype(np.float64), row.astype(np.float64)
            finite = np.isfinite(a) & np.isfinite(b)
            alike = finite | (a == b) | (np.isnan(a) & np.isnan(b))
            if not alike.all() and not self._nonfinite[image]:
                self._nonfinite[image] = size
            different = _norm(b[finite] - a[finite])
            self.elements += int(finite.sum())
            self._largest_norm = max(self._largest_norm, _norm(row))
        if not different <= self._worst[image]:  # NaN, of numbers too large to square, counts as larger
            self._worst[image], self._where[image] = different, size

    def _compare_answer(self, image: int, answer: int, size: int) -> None:
        alone = self._first_answer.setdefault(image, answer)
        if answer != alone and image not in self._changed:
            self._changed[image] = AnswerDifference(1, self._indices[image], size, alone, answer)

    def difference(self, tolerance: float) -> OutputDifference:
        """What differs; images beyond *tolerance* are counted."""
        exact = any(is_exact(row) for row in self._first.values())
        relative = self._worst if exact else self._relative()
        beyond = relative > 0 if exact else ~(relative <= tolerance)
        worst = int(relative.argmax())
        differs = bool(relative[worst] != 0)
        bad = np.flatnonzero(self._nonfinite)
        return OutputDifference(
            name=self.name, exact=exact, difference=float(relative[worst]),
            image=self._indices[worst] if differs else None,
            batch=int(self._where[worst]) if differs else None,
            beyond=int(beyond.sum()), nonfinite=len(bad),
            nonfinite_image=self._indices[bad[0]] if bad.size else None,
            nonfinite_batch=int(self._nonfinite[bad[0]]) if bad.size else None,
        )  # fmt: skip

    def _relative(self) -> np.ndarray:
        """The largest difference of every image, as a fraction of its output's norm (count,)."""
        scale = np.maximum(self._norms, np.median(self._norms))
        scale[scale == 0] = self._largest_norm or 1.0
        with np.errstate(invalid="ignore"):  # NaN, which counts as beyond every limit, of two infinities
            return np.asarray(self._worst / scale)

    def answers(self) -> AnswerDifference:
        """Whose answer differs."""
        if not self._changed:
            return AnswerDifference()
        first = self._changed[min(self._changed)]
        return AnswerDifference(len(self._changed), first.image, first.batch, first.alone, first.there)


def is_exact(values: np.ndarray) -> bool:
    """Whether *values* are integers, truths or text (bfloat16 has numpy kind V)."""
    return values.dtype.kind not in "fV"


def _norm(values: np.ndarray) -> float:
    """L2 norm of the finite numbers of *values*; 0 of exact ones."""
    if is_exact(values):
        return 0.0
    numbers = values.astype(np.float64)
    with np.errstate(over="ignore"):  # infinite, where numbers are too large to square
        return float(np.linalg.norm(numbers[np.isfinite(numbers)]))


def watch(
    alone: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray], sizes: tuple[int, int],
    indices: Sequence[int], scores: Scores | None,
) -> tuple[dict[str, Watched], dict[str, str]]:  # fmt: skip
    """What compares each output, and why the others cannot be compared, in sentences, both by name.

    Args:
        alone: The outputs of a batch of the first size.
        other: The outputs of a batch of the second.
        sizes: Both sizes.
        indices: Index of every image in the data set.
        scores: Name of the output with the class scores, and what makes (N, C) of its rows.
    """
    watched, uncompared = {}, {}
    for name, value in other.items():
        axis = batch_axis(alone[name].shape, value.shape, *sizes) if name in alone else None
        if axis is None:
            shapes = [list(found[name].shape) if name in found else "none" for found in (alone, other)]
            uncompared[name] = (
                f"output '{name}' has no row for each image: its shapes are {shapes[0]} and {shapes[1]} in "
                f"batches of {sizes[0]} and {sizes[1]}"
            )
            continue
        row = (*value.shape[:axis], *value.shape[axis + 1 :])
        answered = scores[1] if scores is not None and scores[0] == name else None
        watched[name] = Watched(name, row, axis, indices, answered)
    return watched, uncompared
