"""Tango's score interval of the difference between two paired proportions."""

from __future__ import annotations

import math

import numpy as np
from scipy import special

HALVINGS = 60
"""Of an interval of length 2 at most: what is left is below the resolution of a double."""


def score_interval(
    b: np.ndarray, c: np.ndarray, n: np.ndarray, confidence: float
) -> tuple[np.ndarray, np.ndarray]:
    """The asymptotic score interval of a paired difference (T. Tango, Statistics in Medicine 17, 1998).

    It holds every difference d that the score test does not reject: |T(d)| <= z, with
    T(d) = (b - c - n d) / sqrt(n (p_b + p_c - d^2)) and p_b, p_c the likeliest shares that differ by d.
    Unlike Wald's interval it has a width where nothing changed: it ends at z^2 / (n + z^2) if b = c = 0.

    Args:
        b: Pairs that lost (right before, wrong after), integers of any shape.
        c: Pairs that gained, same shape.
        n: All pairs, same shape.
        confidence: Confidence of each end by itself, between 0 and 1: .975 gives the two-sided 95 % interval.

    Returns:
        Lower and upper end of the loss p_b - p_c, both of that shape, within [-1, 1]; -1 and 1 without pairs,
        which tell nothing.

    Raises:
        ValueError: The counts are no part of *n*, or the confidence is out of range.
    """
    b, c, n = np.broadcast_arrays(*(np.asarray(counts, float) for counts in (b, c, n)))
    if not 0 < confidence < 1:
        raise ValueError(f"confidence of one end is {confidence}, expected above 0 and below 1")
    if (b < 0).any() or (c < 0).any() or (b + c > n).any():
        raise ValueError("pairs that lost and that gained must be counts, together at most all pairs")
    z = float(special.ndtri(confidence))
    return np.asarray(-_upper_end(c, b, n, z)), _upper_end(b, c, n, z)


def images_to_prove(margin: float, confidence: float) -> int | None:
    """The fewest pairs that prove a difference below *margin* even where nothing changed; None where none do.

    There the upper end of the interval is z^2 / (n + z^2).

    Args:
        margin: The difference that is to be excluded, as a fraction.
        confidence: Confidence of the upper end, as of `score_interval`.
    """
    if margin <= 0:
        return None
    z = float(special.ndtri(confidence))
    return math.floor(z * z * (1 / margin - 1)) + 1


def _upper_end(b: np.ndarray, c: np.ndarray, n: np.ndarray, z: float) -> np.ndarray:
    """The largest difference with T(d) >= -z, by bisection: T falls with d."""
    low, high = -np.ones(b.shape), np.ones(b.shape)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        inside = n * middle - (b - c) <= z * _deviation(b, c, n, middle)
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    return np.asarray(high)


def _deviation(b: np.ndarray, c: np.ndarray, n: np.ndarray, d: np.ndarray) -> np.ndarray:
    """Standard deviation of b - c where the true difference is *d*, with the likeliest shares at that.

    With s pairs on the side that *d* puts behind and l on the other, the smaller share q is the root of
    2 n q^2 + (2 n |d| - l - s - (l - s) |d|) q = s |d| (1 - |d|). Of its two forms, that without
    cancellation is taken.
    """
    larger, smaller, d = np.where(d >= 0, b, c), np.where(d >= 0, c, b), np.abs(d)
    linear = (2 * n - larger + smaller) * d - larger - smaller
    constant = smaller * d * (1 - d)
    root = np.sqrt(linear**2 + 8 * n * constant)
    q = np.where(
        linear > 0,
        2 * constant / np.where(linear > 0, linear + root, 1.0),
        (root - linear) / np.maximum(4 * n, 1.0),
    )
    return np.asarray(np.sqrt(n * (2 * q + d * (1 - d))))
