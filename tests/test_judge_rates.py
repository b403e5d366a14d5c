"""Exact bounds of a share."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from trtcheck.judge.rates import clopper_pearson


@settings(deadline=None)
@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_bounds_are_those_of_the_exact_test(counts):
    k, n = counts
    expected = stats.binomtest(k, n).proportion_ci(0.95, "exact")
    assert clopper_pearson(k, n, 0.975) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_a_published_example():
    # Clopper and Pearson's own kind of table: 10 of 100 at 95 %, two-sided.
    assert clopper_pearson(10, 100, 0.975) == pytest.approx((0.0490, 0.1762), abs=5e-5)


def test_none_and_all_and_nothing_at_all():
    assert clopper_pearson(0, 300, 0.95) == pytest.approx((0, 1 - 0.05 ** (1 / 300)))  # the rule of three
    assert clopper_pearson(300, 300, 0.95) == pytest.approx((0.05 ** (1 / 300), 1))
    assert clopper_pearson(0, 0, 0.95) == (0, 1)


@pytest.mark.parametrize("share", [0.001, 0.02, 0.3, 0.9])
def test_either_bound_misses_the_true_share_no_more_often_than_promised(share):
    n = 150
    bounds = np.array([clopper_pearson(k, n, 0.99) for k in range(n + 1)])
    chance = stats.binom.pmf(np.arange(n + 1), n, share)
    assert chance[bounds[:, 0] > share].sum() <= 0.01
    assert chance[bounds[:, 1] < share].sum() <= 0.01


@pytest.mark.parametrize("counts", [(3, 2, 0.95), (-1, 2, 0.95), (1, 2, 1.0)])
def test_what_is_no_share_is_refused(counts):
    with pytest.raises(ValueError, match="expected 0 <= k <= n"):
        clopper_pearson(*counts)
