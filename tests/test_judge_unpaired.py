"""Verdicts from counts alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from trtcheck.case import Verdict
from trtcheck.judge import unpaired
from trtcheck.metrics.confusion import Confusion

PASS, FAIL, INCONCLUSIVE, SKIPPED = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.SKIPPED


def counts(confusion: Confusion) -> dict[str, list[int]]:
    return {name: getattr(confusion, name).tolist() for name in ("tp", "fp", "fn", "tn")}


def confused(n: int, *wrong: int) -> Confusion:
    """As many classes as *wrong* has figures: *n* images each, so many of them taken for the next class."""
    matrix = np.zeros((len(wrong), len(wrong) + 1), int)
    for k, count in enumerate(wrong):
        matrix[k, k] = n - count
        matrix[k, (k + 1) % len(wrong)] += count
    return Confusion(matrix)


@settings(deadline=None)
@given(st.integers(1, 200).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(0, n))))
def test_fisher_is_scipys(case):
    n, before, after = case
    table = [[after, n - after], [before, n - before]]
    found = unpaired.fisher_p(np.array(before), np.array(after), np.array(n))
    assert float(found) == pytest.approx(stats.fisher_exact(table, "greater").pvalue, rel=1e-6)


def test_fisher_without_images_shows_nothing():
    assert unpaired.fisher_p(np.array([0, 1]), np.array([0, 5]), np.array([0, 10]))[0] == 1.0


def judged(function, before, after, margin=0.01):
    names = [str(k) for k in range(after.classes)]
    return function(counts(before), after, classes=names, margins=[margin] * len(names), alpha=0.01)


@pytest.mark.parametrize(
    ("wrong", "verdict"), [(100, PASS), (90, PASS), (109, PASS), (112, INCONCLUSIVE), (160, FAIL)]
)
def test_recall_from_counts(wrong, verdict):
    row = judged(unpaired.recall, confused(1000, 100, 0), confused(1000, wrong, 0)).classes[0]
    assert row.verdict is verdict
    assert (row.before, row.after) == (0.9, (1000 - wrong) / 1000)
    assert (row.b, row.c) == (max(0, wrong - 100), max(0, 100 - wrong))


@pytest.mark.parametrize(("wrong", "verdict"), [(100, PASS), (90, PASS), (115, INCONCLUSIVE), (160, FAIL)])
def test_precision_from_counts(wrong, verdict):
    row = judged(unpaired.precision, confused(1000, 100, 0), confused(1000, wrong, 0)).classes[1]
    assert row.verdict is verdict
    assert (row.before, row.after) == (1000 / 1100, 1000 / (1000 + wrong))


def test_recall_needs_no_more_than_the_right_answers():
    before = counts(confused(1000, 100, 0)) | {"fn": [0, 0]}  # an edit of one column only
    names = ["a", "b"]
    row = unpaired.recall(
        before, confused(1000, 160, 0), classes=names, margins=[0.01] * 2, alpha=0.01
    ).classes[0]
    assert (row.before, row.verdict) == (0.9, FAIL)


@pytest.mark.parametrize(("wrong", "verdict"), [(100, PASS), (125, INCONCLUSIVE), (200, FAIL)])
def test_accuracy_from_counts(wrong, verdict):
    result = unpaired.accuracy(
        counts(confused(1000, 100, 0)), confused(1000, wrong, 0), drop=0.01, alpha=0.01
    )
    assert (result.images, result.before, result.after) == (2000, 0.95, 1 - wrong / 2000)
    assert result.verdict is verdict


def test_a_class_without_images_is_skipped():
    after = Confusion(np.array([[500, 0, 0], [0, 0, 0]]))
    for function in (unpaired.recall, unpaired.precision):
        result = judged(function, after, after)
        assert [row.verdict for row in result.classes] == (
            [PASS, SKIPPED] if function is unpaired.recall else [INCONCLUSIVE, SKIPPED]
        )
        empty = result.classes[1]
        assert (empty.before, empty.after, empty.p, empty.detectable) == (None, None, 1.0, None)


def test_few_images_are_inconclusive():
    same = confused(8, 0, 0)
    assert judged(unpaired.recall, same, same).verdict is INCONCLUSIVE
    assert (
        unpaired.accuracy(counts(confused(3, 0, 0)), confused(3, 0, 0), drop=0.01, alpha=0.01).verdict
        is INCONCLUSIVE
    )


@pytest.mark.parametrize(
    ("n", "bad", "alpha", "margin"), [(50, 5, 0.01, 0), (1000, 100, 0.001, 0.01), (200, 10, 0.01, 0.2)]
)
def test_the_detectable_drop_is_that_of_a_simulation(n, bad, alpha, margin):
    rng, rounds = np.random.default_rng(n), 40_000

    def found(drop: float) -> float:
        after = rng.binomial(n, bad / n + drop, rounds)
        p = unpaired.fisher_p(np.full(rounds, bad), after, np.full(rounds, n))
        return float(np.mean((p <= alpha) & (after - bad >= margin * n - 1e-9)))

    drop = unpaired.detectable_drop(n, bad, alpha, margin)
    noise = 4 * np.sqrt(0.8 * 0.2 / rounds)
    assert found(drop) > 0.8 - noise
    assert found(drop - 0.001) < 0.8 + noise


def test_a_pass_from_counts_says_what_it_could_have_seen():
    # Pairs see a drop of 2.7 points in 1000 images, counts only one of about 5; 0.0 would claim everything.
    row = judged(unpaired.recall, confused(1000, 100, 0), confused(1000, 100, 0)).classes[0]
    assert 0.045 < row.detectable < 0.07
    assert unpaired.detectable_drop(0, 0, 0.01) is None
    assert unpaired.detectable_drop(3, 0, 0.01) is None
    assert unpaired.detectable_drop(1000, 1000, 0.01) is None  # nothing left to lose
