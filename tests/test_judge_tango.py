"""Tango's score interval against published examples, its definition and its coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from trtcheck.judge.tango import images_to_prove, score_interval

tables = st.integers(1, 500).flatmap(
    lambda n: st.integers(0, n).flatmap(
        lambda b: st.integers(0, n - b).map(lambda c: (b, c, n)),
    )
)
confidences = st.sampled_from([0.6, 0.9, 0.95, 0.975, 0.99, 1 - 1e-6])


def ends(b: int, c: int, n: int, confidence: float) -> tuple[float, float]:
    low, high = score_interval(np.array(b), np.array(c), np.array(n), confidence)
    return float(low), float(high)


@pytest.mark.parametrize(
    ("table", "confidence", "expected", "digits"),
    [
        # Tango 1998, section 6: sleeping difficulties, 95 %; soft contact lenses, lower end at 90 %.
        ((9, 3, 32), 0.975, (-0.027, 0.390), 3),
        ((0, 1, 44), 0.95, (-0.096, None), 3),
        # Fagerland, Lydersen and Laake 2014, Table II: airway hyper-responsiveness, 95 %.
        ((1, 7, 21), 0.975, (-0.517, -0.026), 3),
        # Cavo 2012, as in the tests of the R package contingencytables.
        ((6, 16, 161), 0.975, (-0.1240, -0.0054), 4),
        # R's PropCIs::scoreci.mp(25, 28, 618, .9), which takes the gains first.
        ((28, 25, 618), 0.95, (-0.0148, 0.0247), 4),
    ],
)
def test_published_examples(table, confidence, expected, digits):
    for found, published in zip(ends(*table, confidence), expected, strict=True):
        assert published is None or found == pytest.approx(published, abs=0.5 * 10**-digits)


@pytest.mark.parametrize("n", [1, 7, 50, 20_000, 10**8])
def test_where_nothing_changed_there_is_a_closed_form(n):
    z = stats.norm.ppf(0.99)
    low, high = ends(0, 0, n, 0.99)
    assert high == pytest.approx(z**2 / (n + z**2), rel=1e-6)
    assert low == -high


@pytest.mark.parametrize("n", [1, 5, 300])
def test_where_all_were_lost_there_is_a_closed_form(n):
    z2 = stats.norm.ppf(0.99) ** 2
    low, high = ends(n, 0, n, 0.99)
    assert high == 1
    assert low == pytest.approx((n - z2) / (n + z2))


def test_no_pairs_tell_nothing():
    assert ends(0, 0, 0, 0.99) == (-1, 1)


def likeliest_smaller_share(b: int, c: int, n: int, d: float) -> float:
    """The share of gains that maximises the likelihood where losses are more frequent by *d* >= 0."""

    def slope(q: float) -> float:
        return b / (q + d) + c / q - 2 * (n - b - c) / (1 - 2 * q - d)

    if b + c == n:  # nothing is left for pairs that agree
        return (1 - d) / 2
    low, high = 1e-15, (1 - d) / 2 * (1 - 1e-12)
    return 0.0 if slope(low) <= 0 else float(optimize.brentq(slope, low, high, xtol=1e-16))


def score(b: int, c: int, n: int, d: float) -> float:
    """Tango's statistic, from a likelihood that is maximised numerically."""
    if d < 0:
        return -score(c, b, n, -d)
    q = likeliest_smaller_share(b, c, n, d)
    return (b - c - n * d) / math.sqrt(n * (2 * q + d - d**2))


@settings(deadline=None)
@given(tables, confidences)
def test_the_score_statistic_is_z_at_the_ends(table, confidence):
    b, c, n = table
    z = stats.norm.ppf(confidence)
    low, high = ends(b, c, n, confidence)
    if c < n:
        assert score(b, c, n, low) == pytest.approx(z, rel=1e-4)
    if b < n:
        assert score(b, c, n, high) == pytest.approx(-z, rel=1e-4)


@given(tables, confidences)
def test_it_holds_the_estimate_and_stays_within_bounds(table, confidence):
    b, c, n = table
    low, high = ends(b, c, n, confidence)
    assert -1 <= low <= (b - c) / n + 1e-12
    assert (b - c) / n - 1e-12 <= high <= 1


@given(tables, confidences)
def test_losses_and_gains_mirror_each_other(table, confidence):
    b, c, n = table
    low, high = ends(b, c, n, confidence)
    assert ends(c, b, n, confidence) == (-high, -low)


@given(tables)
def test_more_confidence_is_wider_and_more_pairs_are_narrower(table):
    b, c, n = table
    low, high = ends(b, c, n, 0.95)
    surer = ends(b, c, n, 0.99)
    assert surer[0] <= low <= high <= surer[1]
    more = ends(10 * b, 10 * c, 10 * n, 0.95)
    assert more[1] - more[0] < high - low


@pytest.mark.parametrize(
    ("n", "losing", "gaining"),
    [(20, 0.1, 0.1), (50, 0.02, 0.02), (50, 0.3, 0.02), (100, 0.05, 0.15), (60, 0.5, 0.4)],
)
def test_coverage_is_near_the_nominal_one(n, losing, gaining):
    b, c = (counts.ravel() for counts in np.meshgrid(np.arange(n + 1), np.arange(n + 1)))
    possible = b + c <= n
    b, c = b[possible], c[possible]
    chance = stats.multinomial.pmf(
        np.stack([b, c, n - b - c], axis=1), n, [losing, gaining, 1 - losing - gaining]
    )
    low, high = score_interval(b, c, np.full_like(b, n), 0.975)
    true = losing - gaining
    assert chance.sum() == pytest.approx(1)
    assert 0.935 < chance[(low <= true) & (true <= high)].sum() < 0.99


def test_it_takes_arrays_of_any_shape_and_counts_of_any_size():
    b = np.array([[0, 5, 200], [10**7, 1, 0]], np.int32)
    c = np.array([[0, 0, 3], [10**7, 0, 10**8]], np.int32)
    n = np.array([[0, 5, 255], [10**8, 10**8, 10**8]], np.int32)
    low, high = score_interval(b, c, n, 0.99)
    assert low.shape == high.shape == (2, 3)
    for at in np.ndindex(2, 3):
        assert (low[at], high[at]) == ends(int(b[at]), int(c[at]), int(n[at]), 0.99)


@pytest.mark.parametrize(
    ("table", "confidence"), [((3, 3, 5), 0.95), ((-1, 3, 5), 0.95), ((1, 1, 5), 1.0), ((1, 1, 5), 0.0)]
)
def test_what_is_no_table_or_no_confidence_is_refused(table, confidence):
    with pytest.raises(ValueError, match=r"pairs that lost|confidence of one end"):
        ends(*table, confidence)


@pytest.mark.parametrize("margin", [0.005, 0.01, 0.1])
def test_the_fewest_pairs_that_can_prove_a_margin(margin):
    fewest = images_to_prove(margin, 0.99)
    upper = [float(score_interval(0, 0, n, 0.99)[1]) for n in (fewest - 1, fewest)]
    assert upper[1] < margin <= upper[0]


def test_nothing_proves_that_there_is_no_difference_at_all():
    assert images_to_prove(0.0, 0.99) is None
