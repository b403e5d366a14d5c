"""How far an engine's output tensors are from the reference's."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

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
        old = reference.reshape(len(reference), -1).astype(np.float64)
        new = candidate.reshape(len(candidate), -1).astype(np.float64)
        was_finite = np.isfinite(old)
        nan = np.isnan(new) & ~np.isnan(old)
        inf = np.isinf(new) & was_finite
        bad = np.flatnonzero((nan | inf).any(axis=1))
        both = was_finite & np.isfinite(new)
        a, b = old[both], new[both]
        with np.errstate(over="ignore"):  # FP64 may leave its own range; the figure is infinite then
            error = np.abs(b - a)
            nonzero = a != 0
            relative = error[nonzero] / np.abs(a[nonzero])
            squares = float(error @ error), float(a @ a), float(b @ b), float(a @ b)
        exact, errors = (0, ()) if reference.dtype.kind in "iub" else _by_size(error)
        return cls(
            name=name,
            elements=old.size,
            different=int((~((old == new) | (np.isnan(old) & np.isnan(new)))).sum()),
            nan=int(nan.sum()),
            inf=int(inf.sum()),
            first_bad=start + int(bad[0]) if bad.size else None,
            max_abs=float(error.max(initial=0.0)),
            max_rel=float(relative.max(initial=0.0)),
            sum_error2=squares[0],
            sum_reference2=squares[1],
            sum_candidate2=squares[2],
            sum_product=squares[3],
            low=float(a.min(initial=np.inf)),
            high=float(a.max(initial=-np.inf)),
            finite=int(both.sum()),
            exact=exact,
            errors=errors,
        )

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


def _by_size(error: np.ndarray) -> tuple[int, tuple[tuple[int, int], ...]]:
    r"""How many absolute *error*\ s (float64, N) are zero, and how many of the others have which exponent."""
    # The exponent stands in the bits: a logarithm of every element would cost more than all else here.
    counts = np.bincount(error.view(np.int64) >> 52, minlength=1)
    # Zero shares its exponent with what is too small for a normal number.
    exact = error.size - int(np.count_nonzero(error)) if counts[0] else 0
    counts[0] -= exact
    return exact, tuple((int(e) - _BIAS, int(counts[e])) for e in np.flatnonzero(counts))
