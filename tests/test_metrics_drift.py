"""Errors of output tensors, against plain formulas."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import fields
from functools import reduce
from itertools import pairwise
from operator import add

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy.spatial.distance import cosine as cosine_distance
from sklearn.metrics import max_error, mean_squared_error

from trtcheck.metrics.drift import OutputDrift

NAN, INF = np.nan, np.inf
FINITE = st.floats(-1000, 1000, width=32).filter(lambda x: x == 0 or abs(x) > 1e-3)
ANY = st.one_of(FINITE, st.sampled_from([NAN, INF, -INF]))


@settings(deadline=None)
@given(npst.arrays(np.float32, (2, 5, 3), elements=FINITE))
def test_figures_are_those_of_plain_formulas(pair):
    reference, candidate = pair
    drift = OutputDrift.of("y", reference, candidate)
    a, b = reference.astype(float).ravel(), candidate.astype(float).ravel()
    assert drift.max_abs == pytest.approx(max_error(a, b))
    assert drift.max_rel == pytest.approx(
        max([abs(y - x) / abs(x) for x, y in zip(a, b, strict=True) if x], default=0)
    )
    assert (drift.elements, drift.finite, drift.different) == (15, 15, int((a != b).sum()))
    if a.any():
        assert drift.relative_l2 == pytest.approx(np.linalg.norm(a - b) / np.linalg.norm(a))
    if a.any() and b.any():
        assert drift.cosine == pytest.approx(1 - cosine_distance(a, b), abs=1e-9)
    mse = mean_squared_error(a, b)
    if mse and np.ptp(a):
        assert drift.psnr == pytest.approx(20 * np.log10(np.ptp(a)) - 10 * np.log10(mse))


@settings(deadline=None)
@given(npst.arrays(np.float32, (2, 9, 2), elements=ANY), st.lists(st.integers(0, 9), max_size=3))
def test_shards_add_up_to_the_whole(pair, cuts):
    reference, candidate = pair
    ends = sorted({0, 9, *cuts})
    parts = [OutputDrift.of("y", reference[a:b], candidate[a:b], a) for a, b in pairwise(ends)]
    whole = OutputDrift.of("y", reference, candidate)
    for merged in (reduce(add, parts), reduce(add, reversed(parts))):
        for figure in fields(OutputDrift):
            expected, found = getattr(whole, figure.name), getattr(merged, figure.name)
            assert found == (pytest.approx(expected) if isinstance(expected, float) else expected), (
                figure.name
            )


def test_what_is_not_finite_is_counted_and_left_out_of_the_figures():
    reference = np.array([[1, 2], [3, 4], [5, 6], [NAN, INF]])
    candidate = np.array([[1, 2.5], [NAN, INF], [-INF, NAN], [NAN, INF]])
    drift = OutputDrift.of("y", reference, candidate, start=100)
    assert (drift.nan, drift.inf, drift.first_bad) == (2, 2, 101)
    assert (drift.elements, drift.finite, drift.different) == (8, 2, 5)
    assert (drift.max_abs, drift.max_rel) == (0.5, 0.25)
    assert drift.relative_l2 == pytest.approx(0.5 / np.sqrt(5))


def test_what_the_reference_does_not_know_is_no_fault_of_the_engine():
    drift = OutputDrift.of("y", np.array([[NAN, INF, -INF]]), np.array([[1.0, 2.0, -INF]]))
    assert (drift.nan, drift.inf, drift.first_bad, drift.different) == (0, 0, None, 2)
    # But a NaN where the reference is infinite is one.
    assert OutputDrift.of("y", np.array([[INF]]), np.array([[NAN]])).nan == 1


def test_nothing_finite_is_undefined_and_not_perfect():
    drift = OutputDrift.of("y", np.ones((2, 2)), np.full((2, 2), NAN))
    assert np.isnan([drift.relative_l2, drift.cosine, drift.psnr]).all()


@pytest.mark.parametrize(
    ("reference", "candidate", "relative_l2", "cosine", "psnr"),
    [
        ([[1.0, 2.0]], [[1.0, 2.0]], 0, 1, INF),
        ([[0.0, 0.0]], [[0.0, 0.0]], 0, NAN, INF),
        ([[0.0, 0.0]], [[1.0, 0.0]], INF, NAN, NAN),
        ([[2.0, 2.0]], [[1.0, 2.0]], 1 / np.sqrt(8), 3 / np.sqrt(10), NAN),  # no range, so no peak
        ([[1.0, 2.0]], [[-1.0, -2.0]], 2, -1, 10 * np.log10(2 / 20)),
    ],
)
def test_limiting_cases(reference, candidate, relative_l2, cosine, psnr):
    drift = OutputDrift.of("y", np.array(reference), np.array(candidate))
    np.testing.assert_allclose([drift.relative_l2, drift.cosine, drift.psnr], [relative_l2, cosine, psnr])


def test_fp64_beyond_its_own_range_is_infinite_and_warns_nobody():
    drift = OutputDrift.of("y", np.array([[1e308, 1e-310]]), np.array([[-1e308, 1e300]]))
    assert drift.max_abs == drift.max_rel == INF
    assert np.isnan([drift.cosine, drift.psnr]).all()  # -1.0 would read as "opposite"


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.int8, np.uint8, np.int64, bool])
def test_element_types(dtype):
    drift = OutputDrift.of("y", np.array([[0, 1], [1, 1]], dtype), np.array([[1, 1], [0, 1]], dtype))
    assert (drift.max_abs, drift.different, drift.elements) == (1, 2, 4)


def test_outputs_without_elements():
    drift = OutputDrift.of("y", np.zeros((3, 0)), np.zeros((3, 0)))
    assert (drift.elements, drift.finite) == (0, 0)


@given(npst.arrays(np.float32, (6, 5), elements=st.floats(-(2.0**90), 2.0**90, width=32)), st.integers(1, 5))
def test_errors_are_counted_by_their_power_of_two_and_add_up(values, cut):
    old = np.zeros_like(values)
    whole = OutputDrift.of("y", old, values)
    error = np.abs(values.astype(np.float64)).ravel()
    assert whole.exact == int((error == 0).sum())
    for exponent, count in whole.errors:
        assert count == int(((error >= 2.0**exponent) & (error < 2.0 ** (exponent + 1))).sum())
    assert whole.exact + sum(count for _, count in whole.errors) == whole.finite == values.size
    parts = OutputDrift.of("y", old[:cut], values[:cut]) + OutputDrift.of("y", old[cut:], values[cut:])
    assert (parts.exact, parts.errors) == (whole.exact, whole.errors)


def test_what_is_not_finite_is_in_no_bin():
    drift = OutputDrift.of("y", np.array([[1.0, np.nan, 3.0]]), np.array([[np.inf, 1.0, 3.25]]))
    assert (drift.exact, drift.errors) == (0, ((-2, 1),))


@given(npst.arrays(np.float64, 8, elements=st.floats(allow_nan=False, allow_infinity=False)))
def test_the_power_of_two_is_that_of_frexp(values):
    drift = OutputDrift.of("y", np.zeros((1, 8)), values[None])
    expected = Counter(max(math.frexp(value)[1] - 1, -1023) for value in np.abs(values) if value)
    assert drift.errors == tuple(sorted(expected.items()))
    assert drift.exact == (values == 0).sum()


def test_integers_are_in_no_bin():
    for dtype in (np.int64, np.uint8, bool):
        drift = OutputDrift.of("y", np.array([[0, 1]], dtype), np.array([[1, 1]], dtype))
        assert (drift.exact, drift.errors, drift.finite) == (0, (), 2)


def test_more_elements_than_are_looked_at_together_are_all_counted():
    rng = np.random.default_rng(3)
    old = rng.standard_normal((5, 3, 4001)).astype(np.float32)
    new = (old + 1e-3 * rng.standard_normal(old.shape)).astype(np.float32)
    new[4, 2, 4000] = old[4, 2, 4000] + 2
    drift = OutputDrift.of("y", old, new, 100)
    a, b = old.astype(float), new.astype(float)
    assert (drift.elements, drift.finite, drift.different) == (a.size, a.size, int((a != b).sum()))
    assert drift.max_abs == np.abs(b - a).max()
    assert drift.max_rel == (np.abs(b - a) / np.abs(a)).max()
    assert (drift.low, drift.high) == (a.min(), a.max())
    assert drift.sum_error2 == pytest.approx(((b - a) ** 2).sum(), rel=1e-12)
    assert drift.sum_reference2 == pytest.approx((a * a).sum(), rel=1e-12)
    assert drift.sum_candidate2 == pytest.approx((b * b).sum(), rel=1e-12)
    assert drift.sum_product == pytest.approx((a * b).sum(), rel=1e-12)
    assert drift.exact + sum(count for _, count in drift.errors) == a.size
    new[3, 2, 7] = NAN  # in the fourth image, far behind the first elements
    assert OutputDrift.of("y", old, new, 100).first_bad == 103


def test_an_engine_that_is_the_reference_differs_nowhere():
    same = np.random.default_rng(4).standard_normal((3, 9000)).astype(np.float32)
    drift = OutputDrift.of("y", same, same.copy())
    assert (drift.different, drift.max_abs, drift.max_rel, drift.errors) == (0, 0.0, 0.0, ())
    assert drift.exact == drift.finite == 27_000
    assert (drift.relative_l2, drift.cosine, drift.psnr) == (0.0, pytest.approx(1.0), INF)
