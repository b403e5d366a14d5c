"""Holm's and the Tarone-Holm correction: definitions, validity and power."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from trtcheck.judge.multiplicity import holm, tarone_holm
from trtcheck.judge.paired import mcnemar_p, smallest_p


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


counts = st.lists(st.tuples(st.integers(0, 16), st.integers(0, 4)), min_size=1, max_size=14)
levels = st.sampled_from([0.2, 0.05, 0.01, 0.0025])


def p_values(pairs: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """The p-values of (b, c) and the smallest attainable ones."""
    b, c = np.array(pairs).T
    return mcnemar_p(b, c), smallest_p(b, c)


def tarone(p: np.ndarray, smallest: np.ndarray, alpha: float) -> np.ndarray:
    """What Tarone's own procedure rejects: alpha / K for the smallest K that at most K tests can reach."""
    k = next(k for k in range(1, len(p) + 1) if (smallest <= alpha / k).sum() <= k)
    return p <= alpha / k


def stepwise(p: np.ndarray, smallest: np.ndarray, alpha: float) -> np.ndarray:
    """Tarone's procedure again and again on what it left, until it rejects nothing."""
    rejected = np.zeros(len(p), bool)
    while not rejected.all():
        left = np.flatnonzero(~rejected)
        now = tarone(p[left], smallest[left], alpha)
        if not now.any():
            break
        rejected[left[now]] = True
    return rejected


@settings(deadline=None, max_examples=300)
@given(counts, levels)
def test_it_rejects_what_holm_and_what_tarone_reject(pairs, alpha):
    p, smallest = p_values(pairs)
    rejected = tarone_holm(p, smallest, alpha) <= alpha
    assert rejected[holm(p) <= alpha].all()
    assert rejected[stepwise(p, smallest, alpha)].all()
    assert (p[rejected] <= alpha).all()
    assert not rejected[smallest > alpha].any()


@given(counts, levels)
def test_it_is_its_definition(pairs, alpha):
    p, smallest = p_values(pairs)
    order = np.argsort(p, kind="stable")
    expected, largest = np.ones(len(p)), 0.0
    for position, k in enumerate(order):
        could = (smallest[order[position:]] <= p[k] * (1 + 1e-9)).sum()
        largest = max(largest, min(1.0, p[k] * could))
        expected[k] = largest if smallest[k] <= alpha else 1.0
    assert tarone_holm(p, smallest, alpha).tolist() == pytest.approx(expected.tolist())


@given(counts, levels)
def test_without_a_smallest_p_value_it_is_holms(pairs, alpha):
    p, _ = p_values(pairs)
    assert tarone_holm(p, np.zeros(len(p)), alpha).tolist() == pytest.approx(holm(p).tolist())


def test_a_worked_example():
    # Example data of the R package MHTdiscrete (TH.p.adjust): three binomial tests.
    p = stats.binom.cdf(1, [8, 5, 6], [0.5, 0.75, 0.6])
    smallest = stats.binom.cdf(0, [8, 5, 6], [0.5, 0.75, 0.6])
    # The smallest, 1/64, could have been any of the three; of the other two, 9/256 comes first.
    assert tarone_holm(p, smallest, 0.05).tolist() == pytest.approx([18 / 256, 3 / 64, 18 / 256])


def test_a_test_that_first_could_not_pass_passes_after_others_were_rejected():
    # At .01 Tarone's K is 2, and a smallest p-value of .008 is above .005; Holm would still ask .01 of it.
    p = np.array([1e-9, 0.008])
    assert not tarone(p, p, 0.01)[1]
    assert holm(p)[1] <= 0.01
    assert tarone_holm(p, p, 0.01).tolist() == pytest.approx([1e-9, 0.008])


def test_classes_in_which_nothing_can_be_shown_cost_nothing():
    b, c = np.array([12] + [1] * 999), np.zeros(1000, int)
    p, smallest = mcnemar_p(b, c), smallest_p(b, c)
    assert holm(p)[0] > 0.2
    assert tarone_holm(p, smallest, 0.01)[0] == 2**-12


def test_p_values_that_are_equal_but_for_rounding_count_as_equal():
    p = np.array([1 / 16 * (1 - 1e-15), 1 / 16])
    assert tarone_holm(p, np.array([1 / 128, 1 / 16]), 0.5).tolist() == pytest.approx([1 / 8, 1 / 8])


def test_where_no_answer_changed_nothing_is_rejected():
    nothing = np.zeros(5, int)
    adjusted = tarone_holm(mcnemar_p(nothing, nothing), smallest_p(nothing, nothing), 0.01)
    assert adjusted.tolist() == [1.0] * 5


def test_no_tests_at_all():
    assert holm(np.array([])).tolist() == []
    assert tarone_holm(np.array([]), np.array([]), 0.01).tolist() == []


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.integers(0, 10), min_size=1, max_size=4),
    st.lists(st.integers(0, 12), max_size=2),
    st.sampled_from([0.3, 0.1, 0.05, 0.01]),
)
def test_false_alarms_are_bounded_by_alpha(changed, harmed, alpha):
    """Summed over all outcomes of the classes with as much harm as benefit, beside others with harm alone."""
    total = 0.0
    for outcome in itertools.product(*(range(m + 1) for m in changed)):
        b = np.array([*outcome, *harmed])
        c = np.array([*(m - k for m, k in zip(changed, outcome, strict=True)), *([0] * len(harmed))])
        adjusted = tarone_holm(mcnemar_p(b, c), smallest_p(b, c), alpha)
        if (adjusted[: len(changed)] <= alpha).any():
            total += float(np.prod(stats.binom.pmf(outcome, changed, 0.5)))
    assert total <= alpha * (1 + 1e-9)


def test_one_bad_class_of_a_thousand_small_ones_is_found():
    rng, found = np.random.default_rng(1), np.zeros((200, 2), bool)
    for row in found:
        b, c, _ = rng.multinomial(50, [0.02, 0.02, 0.96], 1000).T
        b[0], c[0], _ = rng.multinomial(50, [0.42, 0.02, 0.56])
        p = mcnemar_p(b, c)
        row[:] = holm(p)[0] <= 0.005, tarone_holm(p, smallest_p(b, c), 0.005)[0] <= 0.005
    assert found[:, 0].mean() < 0.75
    assert found[:, 1].mean() > 0.98
