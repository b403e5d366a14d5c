"""How far an engine's output tensors are from the reference's."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import final

import numpy as np


@dataclass(frozen=True)
class OutputDrift:
    """Error of one output over all images seen; shards add up.

    Elements that are finite in the reference and not in the engine are counted as *nan* or *inf* and left
    out of the error figures, which would otherwise say nothing.

    Attributes:
        name: Name of the output.
        elements: Elements compared.
        different: Elements that differ at all.
        nan: Elements that are NaN in the engine where the reference has a number.
        inf: Elements that are infinite in the engine where the reference is finite.
        first_bad: Index of the first image with such an element, or None.
        max_abs: Largest absolute error.
        max_rel: Largest error relative to the reference's element, where that is not zero.
        sum_error2: Sum of squared errors.
        sum_reference2: Sum of squared reference elements.
        sum_candidate2: Sum of squared engine elements.
        sum_product: Sum of products of both.
        low: Smallest reference element.
        high: Largest reference element.
        finite: Elements that are finite on both sides.
        exact: Of these, without any error; 0 for integers, whose distance says little.
        errors: Of the others, how many have an absolute error from 2^e to below 2^(e+1): pairs of e and that
            number, ascending. At e = -1023 are all below 2^-1022, at 1024 the infinite ones (two FP64 numbers
            may be that far apart); none for integers.
    """

    name: str
    elements: int = 0
    different: int = 0
    nan: int = 0
    inf: int = 0
    first_bad: int | None = None
    max_abs: float = 0.0
    max_rel: float = 0.0
    sum_error2: float = 0.0
    sum_reference2: float = 0.0
    sum_candidate2: float = 0.0
    sum_product: float = 0.0
    low: float = float("inf")
    high: float = float("-inf")
    finite: int = 0
    exact: int = 0
    errors: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, name: str, reference: np.ndarray, candidate: np.ndarray, start: int = 0) -> OutputDrift:
        """Drift of one batch.

        Args:
            name: Name of the output.
            reference: Numbers of the reference, any shape, first axis the image.
            candidate: Numbers of the engine, same shape.
            start: Index of the first image.
        """
        old, new = reference.reshape(-1), candidate.reshape(-1)
        sums = _Sums(min(old.size, _BLOCK), integers=reference.dtype.kind in "iub")
        for first in range(0, old.size, _BLOCK):
            sums.add(old[first : first + _BLOCK], new[first : first + _BLOCK], first)
        bad = None if sums.first_bad is None else start + sums.first_bad // (old.size // len(reference))
        return cls(
            name=name, elements=old.size, different=sums.different, nan=sums.nan, inf=sums.inf, first_bad=bad,
            max_abs=sums.max_abs, max_rel=sums.max_rel, sum_error2=sums.error2,
            sum_reference2=sums.reference2, sum_candidate2=sums.candidate2, sum_product=sums.product,
            low=sums.low, high=sums.high, finite=sums.finite, exact=sums.exact, errors=sums.errors,
        )  # fmt: skip

    def __add__(self, other: OutputDrift) -> OutputDrift:
        """The drift over both sets of images."""
        bad = [index for index in (self.first_bad, other.first_bad) if index is not None]
        return OutputDrift(
            name=self.name,
            elements=self.elements + other.elements,
            different=self.different + other.different,
            nan=self.nan + other.nan,
            inf=self.inf + other.inf,
            first_bad=min(bad, default=None),
            max_abs=max(self.max_abs, other.max_abs),
            max_rel=max(self.max_rel, other.max_rel),
            sum_error2=self.sum_error2 + other.sum_error2,
            sum_reference2=self.sum_reference2 + other.sum_reference2,
            sum_candidate2=self.sum_candidate2 + other.sum_candidate2,
            sum_product=self.sum_product + other.sum_product,
            low=min(self.low, other.low),
            high=max(self.high, other.high),
            finite=self.finite + other.finite,
            exact=self.exact + other.exact,
            errors=tuple(sorted((Counter(dict(self.errors)) + Counter(dict(other.errors))).items())),
        )

    @property
    def relative_l2(self) -> float:
        """Norm of the error over norm of the reference; NaN where nothing is finite."""
        if not self.finite:
            return float("nan")
        if self.sum_reference2 == 0:
            return 0.0 if self.sum_error2 == 0 else float("inf")
        return float(np.sqrt(self.sum_error2 / self.sum_reference2))

    @property
    def cosine(self) -> float:
        """Cosine of the angle between both tensors, over all images; NaN where undefined."""
        norm = math.sqrt(self.sum_reference2) * math.sqrt(self.sum_candidate2)
        if norm == 0 or not math.isfinite(norm):
            return float("nan")
        return min(1.0, max(-1.0, self.sum_product / norm))

    @property
    def psnr(self) -> float:
        """Peak signal-to-noise ratio in dB, the peak being the reference's range; inf without error."""
        if not self.finite:
            return float("nan")
        if self.sum_error2 == 0:
            return float("inf")
        span = self.high - self.low
        if span == 0 or not math.isfinite(self.sum_error2):
            return float("nan")
        return 10 * math.log10(span * span * self.finite / self.sum_error2)


_BIAS = 1023
"""Of the exponent of a float64."""
_EXPONENTS = 2048
"""How many there are."""
_BLOCK = 16_384
"""Elements that are looked at together: their float64 copies stay in a core's cache."""


@final
class _Sums:
    """The figures of an `OutputDrift`, added up block by block; attributes are named as there.

    Args:
        room: Elements of the largest block.
        integers: Whether the reference's elements are integers, whose errors have no sizes.
    """

    def __init__(self, room: int, *, integers: bool) -> None:
        self._integers = integers
        self._old, self._new, self._error, self._work = np.empty((4, room))
        self._sizes = np.zeros(_EXPONENTS, np.int64)
        self.different = self.nan = self.inf = self.finite = self.exact = 0
        self.first_bad: int | None = None
        self.max_abs = self.max_rel = 0.0
        self.error2 = self.reference2 = self.candidate2 = self.product = 0.0
        self.low, self.high = math.inf, -math.inf

    @property
    def errors(self) -> tuple[tuple[int, int], ...]:
        """Errors by their exponents."""
        return tuple((int(e) - _BIAS, int(self._sizes[e])) for e in np.flatnonzero(self._sizes))

    def add(self, reference: np.ndarray, candidate: np.ndarray, first: int) -> None:
        """Adds one block (n,), whose first element has the index *first*."""
        n = len(reference)
        old, new, error, work = self._old[:n], self._new[:n], self._error[:n], self._work[:n]
        np.copyto(old, reference, casting="unsafe")
        np.copyto(new, candidate, casting="unsafe")
        # FP64 may leave its own range; the figure is infinite then.
        with np.errstate(over="ignore", invalid="ignore"):
            np.subtract(new, old, out=error)
            error2 = _product(error, error)
            if not math.isfinite(error2):  # as it is wherever an element is not
                old, new = self._numbers(old, new, first)
                error, work = new - old, work[: len(old)]
                error2 = _product(error, error)
            if old.size:
                self._add_numbers(old, new, np.abs(error, out=error), work)
        self.error2 += error2

    def _numbers(self, old: np.ndarray, new: np.ndarray, first: int) -> tuple[np.ndarray, np.ndarray]:
        """Counts what is not finite; returns the elements that are so on both sides."""
        was_finite = np.isfinite(old)
        nan = np.isnan(new) & ~np.isnan(old)
        inf = np.isinf(new) & was_finite
        bad = np.flatnonzero(nan | inf)
        if bad.size and self.first_bad is None:
            self.first_bad = first + int(bad[0])
        self.nan += int(np.count_nonzero(nan))
        self.inf += int(np.count_nonzero(inf))
        both = was_finite & np.isfinite(new)
        same = (old == new) | (np.isnan(old) & np.isnan(new))
        self.different += int(np.count_nonzero(~both & ~same))
        return old[both], new[both]

    def _add_numbers(self, old: np.ndarray, new: np.ndarray, error: np.ndarray, work: np.ndarray) -> None:
        """Adds finite elements with their absolute errors; *work* is written to."""
        self.finite += old.size
        self.low = min(self.low, float(old.min()))
        self.high = max(self.high, float(old.max()))
        squares = _product(old, old)
        self.reference2 += squares
        largest = float(error.max())
        if largest == 0:  # an engine that is the reference: there is nothing more to find
            self.candidate2 += squares
            self.product += squares
            self.exact += 0 if self._integers else old.size
            return
        self.candidate2 += _product(new, new)
        self.product += _product(old, new)
        self.max_abs = max(self.max_abs, largest)
        np.abs(old, out=work)
        if work.min() == 0:
            np.putmask(work, work == 0, np.inf)  # nothing is relative to zero
        self.max_rel = max(self.max_rel, float(np.divide(error, work, out=work).max()))
        wrong = int(np.count_nonzero(error))
        self.different += wrong
        if not self._integers:
            self.exact += old.size - wrong
            self._add_sizes(error, old.size - wrong, work.view(np.int64))

    def _add_sizes(self, error: np.ndarray, exact: int, work: np.ndarray) -> None:
        """Counts exponents of absolute errors, of which *exact* are zero."""
        # They stand in the bits: a logarithm of every element would cost more than all else here.
        self._sizes += np.bincount(np.right_shift(error.view(np.int64), 52, out=work), minlength=_EXPONENTS)
        self._sizes[0] -= exact  # zero shares its exponent with what is too small for a normal number


def _product(a: np.ndarray, b: np.ndarray) -> float:
    """Inner product of float64 (n,).

    Not by BLAS: OpenBLAS takes threads from 10 000 elements on, which take the cores from inference, and the
    last digits would depend on their number.
    """
    return float(np.einsum("i,i->", a, b))
