"""Exact bounds of a share."""

from __future__ import annotations

from scipy import special


def clopper_pearson(k: int, n: int, confidence: float) -> tuple[float, float]:
    """Exact bounds of a share (C. J. Clopper and E. S. Pearson, Biometrika 26, 1934).

    Args:
        k: Images that count.
        n: All images.
        confidence: Confidence of each bound by itself: .975 gives the two-sided 95 % interval.

    Returns:
        Lower and upper bound as fractions; 0 and 1 without images, which tell nothing.

    Raises:
        ValueError: *k* is no part of *n*, or the confidence is no share.
    """
    if not 0 <= k <= n or not 0 < confidence < 1:
        raise ValueError(f"{k} of {n} images at confidence {confidence}: expected 0 <= k <= n and 0 to 1")
    low = float(special.betaincinv(k, n - k + 1, 1 - confidence)) if k > 0 else 0.0
    high = float(special.betaincinv(k + 1, n - k, confidence)) if k < n else 1.0
    return low, high
