"""The exact paired test, Holm's correction and what a number of images can show."""

from __future__ import annotations

import math
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from trtcheck.judge import holm, mcnemar_p, minimum_detectable_drop
from trtcheck.judge.paired import BENIGN_FLIPS, images_needed, reaches


@settings(deadline=None)
@given(st.integers(0, 300), st.integers(0, 300))
def test_mcnemar_is_the_exact_binomial_test(b, c):
    expected = stats.binomtest(b, b + c, 0.5, "greater").pvalue if b + c else 1.0
    assert float(mcnemar_p(np.array(b), np.array(c))) == pytest.approx(expected, rel=1e-9)


def test_mcnemar_by_hand():
    assert mcnemar_p(np.array([5, 0, 3, 10]), np.array([0, 5, 1, 10])) == pytest.approx(
        [1 / 32, 1, 5 / 16, 0.5880985]
    )


def test_small_unsigned_counts_do_not_wrap():
    b, c = np.array([0, 200], np.uint8), np.array([0, 100], np.uint8)
    assert mcnemar_p(b, c) == pytest.approx([1.0, stats.binom.sf(199, 300, 0.5)])


def naive_holm(p: list[float]) -> list[float]:
    """Holm's adjusted p-value from its definition: the largest of (K - j) p over the j smaller ones."""
    order = sorted(range(len(p)), key=lambda k: p[k])
    return [
        min(1.0, max((len(p) - j) * p[order[j]] for j in range(order.index(k) + 1))) for k in range(len(p))
    ]


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_is_its_definition(p):
    assert holm(np.array(p)).tolist() == pytest.approx(naive_holm(p))


def test_holm_is_more_than_a_cut_at_alpha_by_the_number_of_classes():
    # Bonferroni would give 4 times each; the textbook's step-down multiplies by 4, 3, 2, 1.
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])


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


@pytest.mark.parametrize(
    ("n", "alpha", "points"),
    [(20, 0.01, 49), (50, 0.01, 23), (100, 0.01, 13), (200, 0.01, 7.7), (1000, 0.01, 2.7), (50, 5e-6, 49)],
)
def test_the_guide_to_how_many_images_are_needed(n, alpha, points):
    found = minimum_detectable_drop(n, alpha) * 100
    assert found == pytest.approx(points, abs=0.05 if points < 10 else 0.5)


@pytest.mark.parametrize(
    ("n", "alpha", "margin"), [(20, 0.01, 0), (60, 0.01, 0.2), (200, 1e-4, 0.01), (1000, 0.01, 0.04)]
)
def test_power_is_that_of_a_simulation(n, alpha, margin):
    rng, rounds = np.random.default_rng(n), 40_000

    def found(drop: float) -> float:
        b, c, _ = rng.multinomial(
            n, [BENIGN_FLIPS + drop, BENIGN_FLIPS, 1 - 2 * BENIGN_FLIPS - drop], rounds
        ).T
        return float(np.mean((mcnemar_p(b, c) <= alpha) & (b - c >= margin * n - 1e-9)))

    drop = minimum_detectable_drop(n, alpha, margin)
    noise = 4 * np.sqrt(0.8 * 0.2 / rounds)
    assert found(drop) > 0.8 - noise
    assert found(drop - 0.001) < 0.8 + noise


def test_few_images_can_show_nothing():
    assert minimum_detectable_drop(0, 0.01) is None
    assert minimum_detectable_drop(6, 0.01) is None  # 2 ** -6 is above .01
    assert minimum_detectable_drop(8, 0.01) > 0.8
    assert minimum_detectable_drop(100, 0.01, 1.0) is None  # nobody loses every image against benign flips


@given(st.integers(1, 400), st.sampled_from([0.05, 0.01, 1e-3, 1e-5]))
@settings(deadline=None, max_examples=30)
def test_stricter_levels_and_margins_see_less(n, alpha):
    def drop(alpha: float, margin: float = 0.0) -> float:
        found = minimum_detectable_drop(n, alpha, margin)
        return 2.0 if found is None else found

    assert drop(alpha) <= drop(alpha / 10)
    assert drop(alpha) <= drop(alpha, 0.1) <= drop(alpha, 0.3)
