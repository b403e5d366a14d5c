"""The exact paired test, and the net loss that a margin asks for."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache

import numpy as np
from scipy import special


def mcnemar_p(b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """One-sided exact conditional p-values for "more broke than was fixed".

    McNemar's test in its exact form (Q. McNemar, Psychometrika 12, 1947): given b + c discordant pairs,
    b is Binomial(b + c, 1/2) if harm and benefit are equally likely.

    Args:
        b: Pairs with the reference right and the engine wrong, integers of any shape.
        c: Pairs with the reference wrong and the engine right, same shape.

    Returns:
        P(B >= b) of that shape; 1 where there are no discordant pairs.
    """
    b, c = np.asarray(b, float), np.asarray(c, float)  # small and unsigned counts would wrap
    # The binomial tail is an incomplete beta function (NIST Handbook of Mathematical Functions 8.17.5).
    return np.asarray(np.where(b > 0, special.betainc(np.maximum(b, 1.0), c + 1, 0.5), 1.0), dtype=float)


def smallest_p(b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """The smallest p-values that `mcnemar_p` could have given: those where all discordant pairs are harm."""
    return np.asarray(np.exp2(-(np.asarray(b, float) + np.asarray(c, float))), dtype=float)


def reaches(harm: int, margin: float, n: int) -> bool:
    """Whether a net loss of *harm* images of *n* is a drop, and at least *margin* (a fraction).

    Compared in rational numbers, so that a drop of exactly the margin counts: 0.01 is 1/100 here.
    """
    return harm >= images_needed(margin, n)


def images_needed(margin: float, n: int) -> int:
    """The smallest net loss of images among *n* that `reaches` the *margin* (a fraction)."""
    share = ratio(margin)
    return max(1, -(-share.numerator * n // share.denominator))


def net_loss_needed(margins: Sequence[float], n: np.ndarray) -> np.ndarray:
    """`images_needed` for several *margins* and as many *n*, int64."""
    pairs = zip(margins, np.asarray(n).tolist(), strict=True)
    return np.array([images_needed(margin, images) for margin, images in pairs], np.int64)


@lru_cache(maxsize=4096)
def ratio(share: float) -> Fraction:
    """*share* as the decimal number that it was written as: 0.01 is 1/100."""
    return Fraction(str(share))
