"""The exact paired test, and the net loss that a margin asks for."""

from __future__ import annotations

import math
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from trtcheck.judge.paired import images_needed, mcnemar_p, net_loss_needed, reaches, smallest_p


@settings(deadline=None)
@given(st.integers(0, 300), st.integers(0, 300))
def test_mcnemar_is_the_exact_binomial_test(b, c):
    expected = stats.binomtest(b, b + c, 0.5, "greater").pvalue if b + c else 1.0
    assert float(mcnemar_p(np.array(b), np.array(c))) == pytest.approx(expected, rel=1e-9)


def test_mcnemar_by_hand():
    assert mcnemar_p(np.array([5, 0, 3, 10]), np.array([0, 5, 1, 10])) == pytest.approx(
        [1 / 32, 1, 5 / 16, 0.5880985]
    )


@pytest.mark.parametrize(("b", "c"), [(10**6, 10**6 - 3000), (10_100_000, 10**7), (5, 10**7), (400, 2)])
def test_large_counts_are_exact_too(b, c):
    assert float(mcnemar_p(np.array(b), np.array(c))) == pytest.approx(
        stats.binom.sf(b - 1, b + c, 0.5), rel=1e-7
    )


@given(st.integers(0, 500), st.integers(0, 500))
def test_the_smallest_p_value_is_that_of_harm_alone(b, c):
    assert float(smallest_p(np.array(b), np.array(c))) == float(mcnemar_p(np.array(b + c), np.array(0)))


def test_small_unsigned_counts_do_not_wrap():
    b, c = np.array([0, 200], np.uint8), np.array([0, 100], np.uint8)
    assert mcnemar_p(b, c) == pytest.approx([1.0, stats.binom.sf(199, 300, 0.5)])


@given(st.integers(-3000, 3000), st.integers(1, 3000), st.decimals(0, 1, places=4, allow_nan=False))
def test_a_drop_of_exactly_the_margin_counts(harm, n, margin):
    assert reaches(harm, float(margin), n) == (harm > 0 and Decimal(harm) >= margin * n)
    assert images_needed(float(margin), n) == max(1, math.ceil(margin * n))


@pytest.mark.parametrize(
    ("harm", "margin", "n", "expected"),
    [
        (10, 0.01, 1000, True),
        (9, 0.01, 1000, False),
        (7, 0.07, 100, True),  # 0.07 * 100 is 7.000000000000001 in floats
        (29, 0.29, 100, True),
        (28, 0.29, 100, False),  # 0.29 * 100 is 28.999999999999996
        (1, 0.0, 10**6, True),
        (0, 0.0, 10, False),
        (-5, 0.0, 10, False),
        (1, 1e-05, 100_000, True),
    ],
)
def test_margins_are_compared_in_rational_numbers(harm, margin, n, expected):
    assert reaches(harm, margin, n) is expected


def test_margins_and_images_of_many_classes():
    margins, n = (0.01, 0.07, 0.0, 0.29), np.array([1000, 100, 50, 0])
    assert net_loss_needed(margins, n).tolist() == [10, 7, 1, 1]
