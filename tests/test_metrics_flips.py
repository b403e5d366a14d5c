"""Images whose answer changed."""

from __future__ import annotations

from functools import reduce
from itertools import pairwise
from operator import add

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from trtcheck.metrics.flips import KEPT, Flips

NAN, INF = np.nan, np.inf


def sure(*shares: float) -> np.ndarray:
    """Probabilities of two classes, the first given."""
    return np.array([[share, 1 - share] for share in shares])


def test_a_flip_says_what_it_was_and_became():
    flips = Flips.of(np.array([0, 1, 1]), sure(0.9, 0.2, 0.7), sure(0.3, 0.1, 0.4), start=50)
    assert (flips.total, flips.broken, flips.fixed, flips.images) == (2, 1, 1, 3)
    assert flips.churn == pytest.approx(2 / 3)
    first, second = flips.worst
    assert (first.index, first.truth, first.before, first.after) == (50, 0, 0, 1)
    assert (first.confidence_before, first.confidence_after, first.lost) == pytest.approx((0.9, 0.7, 0.6))
    assert (second.index, second.before, second.after) == (52, 0, 1)


def test_worst_come_first_and_their_number_is_bounded():
    count = 3 * KEPT
    before = np.linspace(0.51, 0.99, count)
    flips = Flips.of(np.zeros(count, int), sure(*before), sure(*np.full(count, 0.25)))
    assert (flips.total, flips.broken, len(flips.worst)) == (count, count, KEPT)
    assert [flip.index for flip in flips.worst] == list(range(count - 1, count - 1 - KEPT, -1))


def test_flips_without_a_label_are_neither_broken_nor_fixed():
    flips = Flips.of(np.array([-1, -1]), sure(0.9, 0.9), np.array([[0.1, 0.9], [NAN, NAN]]))
    assert (flips.total, flips.broken, flips.fixed) == (2, 0, 0)


def test_losing_the_answer_loses_the_whole_confidence():
    truth = np.zeros(4, int)
    after = np.array([[NAN, 0.1], [INF, INF], [0.0, INF], [0.4, 0.6]])
    flips = Flips.of(truth, sure(0.8, 0.7, 0.9, 0.95), after)
    found = {flip.index: (flip.after, round(flip.lost, 9)) for flip in flips.worst}
    # An overflow to one +inf takes all the probability; ranked by NaN it would come last.
    assert found == {0: (-1, 0.8), 1: (-1, 0.7), 2: (1, 0.9), 3: (1, 0.55)}
    assert [flip.index for flip in flips.worst] == [2, 0, 1, 3]
    assert np.isnan([flips.worst[1].confidence_after, flips.worst[2].confidence_after]).all()
    assert flips.broken == 4


def test_gaining_an_answer_loses_nothing():
    [flip] = Flips.of(np.array([1]), np.array([[NAN, 1.0]]), sure(0.2)).worst
    assert (flip.before, flip.after, flip.lost) == (-1, 1, 0.0)
    assert np.isnan(flip.confidence_before)


def test_the_best_classes_come_along_the_most_probable_first():
    before = np.array([[0.1, 0.5, 0.0, 0.25, 0.1, 0.05]])
    after = np.array([[0.2, 0.2, 0.2, 0.4, NAN, 0.0]])
    [flip] = Flips.of(np.array([1]), before, np.nan_to_num(after)).worst
    assert flip.top_before == ((1, 0.5), (3, 0.25), (0, 0.1), (4, 0.1), (5, 0.05))
    assert flip.top_after == ((3, 0.4), (0, 0.2), (1, 0.2), (2, 0.2), (4, 0.0))
    [gone] = Flips.of(np.array([1]), before, after).worst
    assert gone.after == -1
    assert gone.top_after == ((3, 0.4), (0, 0.2), (1, 0.2), (2, 0.2), (5, 0.0))


def test_the_best_of_logits_are_probabilities_and_of_nan_there_are_none():
    before, after = np.array([[2.0, 0.0], [1.0, -1.0]]), np.array([[0.0, INF], [NAN, 3.0]])
    first, second = sorted(Flips.of(np.zeros(2, int), before, after).worst, key=lambda flip: flip.index)
    assert first.top_before == ((0, pytest.approx(0.8808, abs=1e-4)), (1, pytest.approx(0.1192, abs=1e-4)))
    assert first.top_after == ((1, 1.0), (0, 0.0))
    assert second.top_after == ()


@settings(deadline=None)
@given(
    npst.arrays(np.float32, (2, 150, 3), elements=st.one_of(st.sampled_from([0, 1, 2, NAN]))),
    st.lists(st.integers(0, 150), max_size=5),
    st.randoms(use_true_random=False),
)
def test_shards_in_any_order_add_up_to_the_whole(pair, cuts, random):
    truth = np.arange(150) % 3
    ends = [0, *sorted(cuts), 150]
    parts = [Flips.of(truth[a:b], pair[0, a:b], pair[1, a:b], a) for a, b in pairwise(ends)]
    random.shuffle(parts)
    whole, merged = Flips.of(truth, *pair), reduce(add, parts, Flips())
    # NaN confidences are unequal to themselves; their text is not.
    assert repr(merged) == repr(whole)


def test_nothing_seen_has_no_churn():
    assert np.isnan(Flips().churn)
