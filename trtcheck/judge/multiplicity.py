"""Corrections of p-values for the number of classes tested together."""

from __future__ import annotations

import numpy as np

ROUNDING = 1e-9
"""Relative error of a p-value, generously."""


def holm(p: np.ndarray) -> np.ndarray:
    """Adjusted p-values of Holm's step-down procedure (S. Holm, Scand. J. Statist. 6, 1979).

    Args:
        p: p-values (K,).

    Returns:
        Adjusted p-values (K,), at most 1; rejecting those at or below alpha bounds the family's false
        alarms by alpha whatever the dependence between the tests.
    """
    order = np.argsort(p, kind="stable")
    return _stepped_down(np.asarray(p, float)[order] * np.arange(len(p), 0, -1), order)


def tarone_holm(p: np.ndarray, smallest: np.ndarray, alpha: float) -> np.ndarray:
    """Adjusted p-values of the Tarone-Holm procedure for tests with few outcomes.

    A test that cannot reach a p-value as small as the one at hand cannot be the false alarm that the
    correction allows for, and is not counted (R. E. Tarone, Biometrics 46, 1990). So each p-value is
    multiplied by the number of tests, of those with no smaller p-value, that could have attained it, and
    never falls below a smaller one's result: the step-down form of G. Hommel and F. Krummenauer (Biometrics
    54, 1998). It rejects whatever Holm's or Tarone's own procedure rejects. Dropping the tests of
    Tarone's first step for good would not: they can pass once others were rejected.

    Which tests count depends on the attainable p-values alone, hence on what the exact tests are conditional
    on (the number of changed answers), not on which way these answers changed.

    Args:
        p: p-values (K,).
        smallest: The smallest p-value that each test could have attained (K,).
        alpha: Level at which the results are read.

    Returns:
        Adjusted p-values (K,), at most 1, and 1 for tests that could not have attained alpha; rejecting those
        at or below alpha bounds the family's false alarms by alpha whatever the dependence between the tests.
    """
    p = np.asarray(p, float)
    smallest = np.minimum(np.asarray(smallest, float), p)
    order = np.argsort(p, kind="stable")
    # Those passed attained less, so they are among those that could. Equal ones are equal but for rounding.
    could = np.searchsorted(np.sort(smallest), p[order] * (1 + ROUNDING), side="right") - np.arange(len(p))
    return np.where(smallest <= alpha, _stepped_down(p[order] * could, order), 1.0)


def _stepped_down(scaled: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Adjusted p-values in their own order, from *scaled* ones in the order of p."""
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return adjusted
