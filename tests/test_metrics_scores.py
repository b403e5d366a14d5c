"""From scores to answers, confidences and agreement."""

from __future__ import annotations

from dataclasses import asdict
from functools import reduce
from itertools import pairwise
from operator import add

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy.special import log_softmax, rel_entr, softmax

from trtcheck.metrics.scores import (
    ScoreDrift,
    answers,
    divergences,
    in_top_k,
    kl_divergence,
    probabilities,
)

NAN, INF = np.nan, np.inf


@pytest.mark.parametrize(
    ("row", "answer"),
    [
        ([1, 3, 2], 1),
        ([2, 2, 1], 0),  # a finite tie goes to the first class
        ([0, 0, 0], 0),
        ([NAN, 9, 1], -1),  # argmax would say 0
        ([9, 1, NAN], -1),
        ([NAN, NAN, NAN], -1),
        ([1, INF, 2], 1),
        ([1, INF, INF], -1),  # argmax would say 1
        ([INF, INF, INF], -1),
        ([-INF, -INF, -5], 2),
        ([-INF, -INF, -INF], -1),  # argmax would say 0
        ([INF, NAN, 0], -1),
    ],
)
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", ml_dtypes.bfloat16])
def test_answers(row, answer, dtype):
    assert answers(np.array([row]).astype(dtype)).tolist() == [answer]


def test_no_classes_give_no_answers():
    assert answers(np.zeros((2, 0))).tolist() == [-1, -1]


@given(npst.arrays(np.float32, (4, 5), elements=st.floats(-50, 50, width=32)))
def test_probabilities_are_the_softmax_of_logits(logits):
    logits = logits - 60  # never mistaken for probabilities
    np.testing.assert_allclose(probabilities(logits), softmax(logits.astype(float), axis=1), atol=1e-12)
    logs = log_softmax(logits.astype(float), axis=1)
    np.testing.assert_allclose(probabilities(logs), np.exp(logs), atol=1e-12)


@given(npst.arrays(np.float64, (4, 7), elements=st.floats(0.01, 1)))
def test_probabilities_are_kept(shares):
    shares /= shares.sum(axis=1, keepdims=True)
    np.testing.assert_array_equal(probabilities(shares), shares)
    narrow = shares.astype(np.float16)
    np.testing.assert_array_equal(probabilities(narrow), narrow.astype(float))


def test_probabilities_beyond_the_finite():
    found = probabilities(
        np.array([[NAN, 1, 2], [1, INF, 3], [INF, 1, INF], [-INF, 0, -INF], [1e300, 0, -1e300]])
    )
    np.testing.assert_array_equal(found, [[NAN, NAN, NAN], [0, 1, 0], [0.5, 0, 0.5], [0, 1, 0], [1, 0, 0]])


@given(
    npst.arrays(np.float32, (6, 5), elements=st.integers(-3, 3).map(float)),
    npst.arrays(np.int32, 6, elements=st.integers(-1, 4)),
    st.integers(1, 7),
)
def test_in_top_k_is_a_stable_sort(scores, labels, k):
    ranked = np.argsort(-scores, axis=1, kind="stable")[:, :k].tolist()
    expected = [int(label) in row for label, row in zip(labels, ranked, strict=True)]
    assert in_top_k(scores, labels, k).tolist() == expected


def test_no_answer_is_in_no_top_k():
    scores = np.array([[9, NAN, 1], [INF, INF, 0], [-INF, -INF, -INF], [3, 2, 1]])
    assert in_top_k(scores, np.zeros(4, int), 3).tolist() == [False, False, False, True]
    assert in_top_k(scores[:0], np.zeros(0, int), 3).shape == (0,)


@given(npst.arrays(np.float64, (2, 4, 6), elements=st.floats(0.001, 1)))
def test_kl_is_scipys(pair):
    p, q = pair / pair.sum(axis=2, keepdims=True)
    np.testing.assert_allclose(kl_divergence(p, q), np.maximum(rel_entr(p, q).sum(axis=1), 0), atol=1e-12)


def test_kl_at_zeros_and_nan():
    p = np.array([[0.5, 0.5, 0], [1, 0, 0], [1, 0, 0], [NAN, NAN, NAN], [0, 1, 0]])
    q = np.array([[1, 0, 0], [1, 0, 0], [0.25, 0.75, 0], [1, 0, 0], [NAN, NAN, NAN]])
    found = kl_divergence(p, q)
    assert 300 < found[0] < 400  # large, but a number
    np.testing.assert_allclose(found[1:], [0, np.log(4), NAN, NAN])


@settings(deadline=None)
@given(
    npst.arrays(np.float32, (2, 12, 4), elements=st.one_of(st.floats(-4, 4, width=32), st.just(NAN))),
    st.lists(st.integers(0, 12), max_size=4),
)
def test_score_drift_of_shards_adds_up_to_the_whole(pair, cuts):
    reference, candidate = pair
    ends = [0, *sorted(cuts), 12]
    parts = [ScoreDrift.of(reference[a:b], candidate[a:b], 2) for a, b in pairwise(ends)]
    whole = asdict(ScoreDrift.of(reference, candidate, 2))
    assert asdict(reduce(add, parts, ScoreDrift(k=2))) == pytest.approx(whole)


def test_agreement_counts_images_without_an_answer_as_disagreement():
    reference = np.array([[3, 2, 1], [3, 2, 1], [NAN, 2, 1], [1, 2, 3]], float)
    candidate = np.array([[1, 3, 2], [3, 2, NAN], [NAN, 2, 1], [1, 2, 3]], float)
    drift = ScoreDrift.of(reference, candidate, 2)
    assert (drift.images, drift.top1_same, drift.kl_images) == (4, 1, 2)
    assert drift.top1_agreement == 0.25
    assert drift.top_k_agreement == 0.25  # class 0 is the engine's third in image 0
    p, q = softmax(reference[0]), softmax(candidate[0])
    assert drift.kl_max == pytest.approx(rel_entr(p, q).sum())
    assert drift.kl_mean == pytest.approx(drift.kl_max / 2)


def test_nothing_seen_is_undefined_and_not_perfect():
    assert np.isnan([ScoreDrift().top1_agreement, ScoreDrift().top_k_agreement, ScoreDrift().kl_mean]).all()


ROW = npst.arrays(
    np.float64, 5, elements=st.one_of(st.floats(-1000, 1000), st.sampled_from([NAN, INF, -INF, 0.0]))
)
SHARES = npst.arrays(np.float64, 5, elements=st.floats(0.01, 1)).map(lambda row: row / row.sum())
COARSE = SHARES.map(lambda row: np.round(row * 8) / 8)  # as an engine's few bits: the sum need not be 1


@st.composite
def two_sides(draw):
    """Rows of logits, probabilities and neither, some of them the same on both sides."""
    old = [draw(st.one_of(ROW, SHARES, st.just(np.full(5, -INF)))) for _ in range(6)]
    new = [row if draw(st.booleans()) else draw(st.one_of(ROW, SHARES, COARSE)) for row in old]
    return np.array(old), np.array(new)


@settings(deadline=None)
@given(two_sides())
def test_divergences_are_those_of_the_probabilities(pair):
    old, new = pair
    expected = kl_divergence(probabilities(old), probabilities(new, old))
    np.testing.assert_allclose(divergences(old, new), expected, rtol=1e-9, atol=1e-12)


def test_a_mass_that_is_lost_diverges_by_a_large_number():
    found = divergences(np.array([[0.0, 0.0, -5.0]]), np.array([[0.0, -5000.0, -5.0]]))
    assert 300 < found[0] < 400


def test_more_scores_than_are_looked_at_together_are_all_counted():
    rng = np.random.default_rng(6)
    old = np.round(rng.standard_normal((30, 1500)) * 20).astype(np.float32)  # with ties
    new = old + rng.standard_normal(old.shape).astype(np.float32)
    labels = rng.integers(0, 1500, 30)
    labels[::3] = old[::3].argsort(axis=1)[:, -4]
    order = np.argsort(-old, axis=1, kind="stable")
    expected = (order[:, :5] == labels[:, None]).any(axis=1)
    assert expected[24:].any()
    assert in_top_k(old, labels, 5).tolist() == expected.tolist()
    found = ScoreDrift.of(old, new, 5)
    pairs = zip(old.astype(float), new.astype(float), strict=True)
    each = [rel_entr(softmax(a), softmax(b)).sum() for a, b in pairs]
    assert (found.kl_images, found.kl_max) == (30, pytest.approx(max(each)))
    assert found.kl_sum == pytest.approx(sum(each))
    assert ScoreDrift.of(old, new, 5, (answers(old), answers(new))) == found
