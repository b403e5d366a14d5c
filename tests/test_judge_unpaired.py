"""Verdicts from counts alone."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from trtcheck.case import DropTest, Verdict
from trtcheck.judge import unpaired
from trtcheck.judge.family import Rules
from trtcheck.judge.paired import images_needed
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
    return Confusion.of_matrix(matrix)


@settings(deadline=None)
@given(st.integers(1, 200).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(0, n))))
def test_fisher_is_scipys(case):
    n, before, after = case
    table = [[after, n - after], [before, n - before]]
    found = unpaired.fisher_p(np.array(before), np.array(after), np.array(n))
    assert float(found) == pytest.approx(stats.fisher_exact(table, "greater").pvalue, rel=1e-6)


@pytest.mark.parametrize(
    ("n", "before", "after"),
    [(10_000, 900, 1100), (10_000, 5000, 4900), (1_000_000, 3, 40), (100_000, 99_990, 100_000),
     (50_000, 0, 2000), (300, 200, 299)],
)  # fmt: skip
def test_fisher_of_many_images_is_scipys_hypergeometric_tail(n, before, after):
    expected = stats.hypergeom.logsf(after - 1, 2 * n, before + after, n)
    found = float(unpaired.fisher_p(np.array(before), np.array(after), np.array(n)))
    assert found == pytest.approx(np.exp(expected), rel=1e-6)


def test_fisher_without_images_shows_nothing():
    assert unpaired.fisher_p(np.array([0, 1]), np.array([0, 5]), np.array([0, 10]))[0] == 1.0


def rules(classes: int, **more) -> Rules:
    given = {
        "drop": 0.01, "floor": None, "class_drops": None, "class_floors": None, "key_classes": (),
        "alpha": 0.01, "test": "paired", "pooled_drop": 0.002, "must_see": 0.6,
    }  # fmt: skip
    return Rules.of(classes, **(given | more))


def judged(function, before, after, **more):
    return function(counts(before), after, rules(after.classes, **more))


def judged_accuracy(before, after, test=DropTest.PAIRED):
    return unpaired.accuracy(counts(before), after, drop=0.01, alpha=0.01, test=test, must_see=0.6)


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
    row = unpaired.recall(before, confused(1000, 160, 0), rules(2)).classes[0]
    assert (row.before, row.verdict) == (0.9, FAIL)


@pytest.mark.parametrize(("wrong", "verdict"), [(100, PASS), (125, INCONCLUSIVE), (200, FAIL)])
def test_accuracy_from_counts(wrong, verdict):
    result = judged_accuracy(confused(1000, 100, 0), confused(1000, wrong, 0))
    assert (result.images, result.before, result.after) == (2000, 0.95, 1 - wrong / 2000)
    assert result.verdict is verdict


def test_a_class_without_images_is_skipped():
    after = Confusion.of_matrix(np.array([[500, 0, 0], [0, 0, 0]]))
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
    assert judged_accuracy(confused(3, 0, 0), confused(3, 0, 0)).verdict is INCONCLUSIVE


@pytest.mark.parametrize(
    ("n", "bad", "alpha", "margin"), [(50, 5, 0.01, 0), (1000, 100, 0.001, 0.01), (200, 10, 0.01, 0.2)]
)
def test_the_detectable_drop_is_that_of_a_simulation(n, bad, alpha, margin):
    rng, rounds = np.random.default_rng(n), 40_000

    def found(drop: float) -> float:
        after = rng.binomial(n, bad / n + drop, rounds)
        p = unpaired.fisher_p(np.full(rounds, bad), after, np.full(rounds, n))
        return float(np.mean((p <= alpha) & (after - bad >= margin * n - 1e-9)))

    drop = unpaired.detectable_drop(n, bad, alpha, images_needed(margin, n))
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


def test_the_smallest_p_value_of_fishers_test_is_attained_where_all_bad_images_are_on_one_side():
    for n, before, after in ((10, 3, 2), (10, 8, 9), (5, 0, 0), (7, 7, 7)):
        total = before + after
        every = [
            float(unpaired.fisher_p(np.array(total - k), np.array(k), np.array(n)))
            for k in range(max(0, total - n), min(total, n) + 1)
        ]
        found = unpaired.smallest_fisher_p(np.array(before), np.array(after), np.array(n))
        assert float(found) == pytest.approx(min(every))


def test_key_classes_and_a_plain_threshold_hold_for_counts_too():
    before, after = confused(1000, 100, 0, 0), confused(1000, 112, 0, 0)
    plain = judged(unpaired.recall, before, after)
    assert (plain.verdict, plain.pooled.verdict) == (PASS, PASS)
    assert judged(unpaired.recall, before, after, key_classes=["0"]).verdict is INCONCLUSIVE
    threshold = judged(unpaired.recall, before, after, test="threshold")
    assert (threshold.verdict, threshold.classes[0].verdict) == (FAIL, FAIL)
    assert threshold.pooled.verdict is SKIPPED


def test_a_small_harm_to_every_class_is_found_in_the_counts_of_all_together():
    before, after = confused(1000, *[100] * 20), confused(1000, *[109] * 20)
    result = judged(unpaired.recall, before, after)
    assert result.named(FAIL) == ()
    assert (result.verdict, result.pooled.verdict, result.pooled.b) == (FAIL, FAIL, 180)


def test_proof_takes_the_answers_of_single_images():
    before = confused(100_000, 10, 10)
    for function in (unpaired.recall, unpaired.precision):
        result = judged(function, before, before, test="proven")
        assert (result.verdict, result.test) == (PASS, DropTest.PAIRED)
        assert {row.interval for row in result.classes} == {None}
    assert judged_accuracy(before, before, DropTest.PROVEN).test is DropTest.PAIRED


def test_what_counts_could_have_missed_is_not_what_pairs_would_have_seen():
    before = confused(1000, 100, 100, 100)
    for function in (unpaired.recall, unpaired.precision):
        result = judged(function, before, before)
        found = result.pooled.detectable
        assert found == unpaired.detectable_drop(3000, 300, 0.005, 6) > 0.02  # pairs: 1.6 points
    # A drop of precision that does not reach its margin is never found.
    rows = judged(unpaired.precision, before, before, drop=0.3).classes
    assert all(row.detectable > 0.3 for row in rows)


def test_counts_propose_no_number_of_images_that_only_pairs_would_do_with():
    small = judged_accuracy(confused(5, 0, 0), confused(5, 0, 0))
    assert (small.verdict, small.enough) == (INCONCLUSIVE, None)


def test_counts_that_cannot_be_are_no_evidence():
    before = counts(confused(10, 0, 0, 0)) | {"fp": [20, 20, 20]}  # each is possible, all together are not
    result = unpaired.precision(before, confused(10, 1, 1, 1), rules(3))
    assert (result.pooled.p, result.pooled.verdict) == (1.0, PASS)


def test_a_thousand_different_classes_take_no_time_without_pairs_either():
    rng = np.random.default_rng(7)
    matrices = []
    for share in (0.1, 0.12):
        support = np.arange(1000) * 10 + 5
        wrong = rng.binomial(support, share)
        matrix = np.zeros((1000, 1001), int)
        matrix[np.arange(1000), np.arange(1000)] = support - wrong
        matrix[np.arange(1000), (np.arange(1000) + 1) % 1000] = wrong
        matrices.append(Confusion.of_matrix(matrix))
    start = time.perf_counter()
    for function in (unpaired.recall, unpaired.precision):
        judged(function, *matrices)
    assert time.perf_counter() - start < 5


def test_classes_in_which_counts_can_show_nothing_cost_nothing():
    # One bad image among 999 classes each: Fisher's test gives .5 at best, so that they are not counted.
    quiet = [1] * 999
    result = judged(unpaired.recall, confused(50, 0, *quiet), confused(50, 9, *quiet))
    assert result.classes[0].p_adjusted == pytest.approx(2 * result.classes[0].p)
    assert result.classes[0].verdict is FAIL
