"""What a number of images can show: the published guide, brute force, simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from trtcheck.judge.paired import images_needed, mcnemar_p
from trtcheck.judge.power import (
    BENIGN_FLIPS,
    detectable_precision_drops,
    drops_seen,
    false_positives_needed,
    minimum_detectable_drop,
    minimum_detectable_drops,
    precision_drops_seen,
)


@pytest.mark.parametrize(
    ("n", "alpha", "points"),
    [(20, 0.01, 49), (50, 0.01, 23), (100, 0.01, 13), (200, 0.01, 7.7), (1000, 0.01, 2.7), (50, 5e-6, 49)],
)
def test_the_guide_to_how_many_images_are_needed(n, alpha, points):
    found = minimum_detectable_drop(n, alpha) * 100
    assert found == pytest.approx(points, abs=0.05 if points < 10 else 0.5)


def power_by_enumeration(n: int, gaining: float, losing: float, alpha: float, needed: int) -> float:
    """The chance that the paired test fails a class, over every possible number of losses and gains."""
    b, c = (counts.ravel() for counts in np.meshgrid(np.arange(n + 1), np.arange(n + 1)))
    b, c = b[b + c <= n], c[b + c <= n]
    chance = stats.multinomial.pmf(
        np.stack([b, c, n - b - c], axis=1), n, [losing, gaining, max(1 - losing - gaining, 0)]
    )
    significant = stats.binom.sf(b - 1, b + c, 0.5) <= alpha
    return float(chance[significant & (b - c >= needed)].sum())


def smallest_by_enumeration(n: int, alpha: float, margin: float, flips: float = BENIGN_FLIPS) -> float:
    def seen(steps: int) -> bool:
        losing = flips + steps / 1000
        return power_by_enumeration(n, flips, losing, alpha, images_needed(margin, n)) >= 0.8

    low, high = 0, round(1000 * (1 - 2 * flips))
    if n == 0 or not seen(high):
        return math.nan
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if seen(middle) else (middle, high)
    return high / 1000


def test_many_classes_at_once_are_each_as_brute_force_finds_them():
    grid = [
        (n, alpha, margin)
        for n in (0, 1, 3, 8, 23, 60, 61, 150)
        for alpha in (1.0, 0.05, 0.01, 2.5e-6)
        for margin in (0.0, 0.01, 0.2, 1.0)
    ]
    n, alpha, margins = (np.array(column) for column in zip(*grid, strict=True))
    expected = [smallest_by_enumeration(*row) for row in grid]
    found = minimum_detectable_drops(n.astype(int), alpha, margins)
    assert found.tolist() == pytest.approx(expected, nan_ok=True, abs=1e-12)


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


def test_millions_of_images_are_bound_by_the_margin():
    assert minimum_detectable_drop(20_000_000, 0.005, 0.002) == 0.003
    assert minimum_detectable_drop(20_000_000, 1.0, 0.002) == 0.003
    assert minimum_detectable_drop(20_000_000, 0.005) == 0.001


@given(st.integers(1, 400), st.sampled_from([0.05, 0.01, 1e-3, 1e-5]))
@settings(deadline=None, max_examples=30)
def test_stricter_levels_and_margins_see_less(n, alpha):
    def drop(alpha: float, margin: float = 0.0) -> float:
        found = minimum_detectable_drop(n, alpha, margin)
        return 2.0 if found is None else found

    assert drop(alpha) <= drop(alpha / 10)
    assert drop(alpha) <= drop(alpha, 0.1) <= drop(alpha, 0.3)


def test_no_classes_at_all():
    nothing = np.array([], int)
    assert minimum_detectable_drops(nothing, 0.01, nothing).tolist() == []
    assert detectable_precision_drops(nothing, nothing, nothing, nothing, 0.01, nothing).tolist() == []


@given(st.integers(1, 400), st.sampled_from([0.0, 0.02, 0.1, 0.3, 0.49]), st.floats(0, 1))
@settings(deadline=None, max_examples=50)
def test_a_drop_is_seen_from_the_smallest_on(n, flips, drop):
    row = np.array([n]), np.array([0.01])
    (smallest,) = minimum_detectable_drops(*row, np.zeros(1), flips)
    for asked in (drop, float(np.nan_to_num(smallest)), float(np.nan_to_num(smallest)) - 0.001):
        assert drops_seen(*row, np.zeros(1), np.array([flips]), np.array([asked]))[0] == (
            asked >= smallest - 1e-9
        )


def test_more_harmless_flips_hide_more():
    n, none = np.array([150]), np.zeros(1)
    drops = [minimum_detectable_drops(n, 0.01, none, flips)[0] for flips in (0.0, 0.02, 0.1, 0.3)]
    assert drops == sorted(drops)
    assert drops[2] == smallest_by_enumeration(150, 0.01, 0, 0.1) > drops[1]


@pytest.mark.parametrize(("n", "alpha"), [(-1, 0.01), (10, 0.0), (10, 1.5), (10, math.nan)])
def test_what_is_no_test_is_refused(n, alpha):
    with pytest.raises(ValueError, match="images at level"):
        minimum_detectable_drop(n, alpha)


@given(st.integers(1, 500), st.integers(0, 500), st.sampled_from([0.0, 0.001, 0.01, 0.1, 0.5, 1.0]))
def test_the_false_positives_that_a_margin_needs(tp, fp, margin):
    def drop(more: float) -> float:
        return tp / (tp + fp) - tp / (tp + fp + more)

    needed = false_positives_needed(tp, fp, margin)
    if math.isinf(needed):
        assert tp / (tp + fp) <= margin
    else:
        assert drop(needed) >= margin - 1e-12
        assert needed == 1 or drop(needed - 1) < margin


@pytest.mark.parametrize(
    ("tp", "fp", "margin", "needed"),
    [(90, 10, 0.0, 1), (90, 10, 0.1, 13), (90, 10, 0.9, math.inf), (1, 0, 0.5, 1), (99, 0, 0.01, 1)],
)
def test_false_positives_by_hand(tp, fp, margin, needed):
    assert false_positives_needed(tp, fp, margin) == needed


def precision_drop_by_enumeration(
    tp: int, fp: int, support: int, others: int, alpha: float, margin: float
) -> float:
    flips, needed = BENIGN_FLIPS * support / others, false_positives_needed(tp, fp, margin)
    for steps in range(1, 1000 * tp // (tp + fp)):
        more = tp / (tp / (tp + fp) - steps / 1000) - tp - fp
        losing = flips + more / others
        if losing + flips > 1:
            break
        if power_by_enumeration(others, flips, losing, alpha, needed) >= 0.8:
            return steps / 1000
    return math.nan


@pytest.mark.parametrize(
    "row",
    [
        (18, 2, 20, 100, 0.01, 0.01),
        (18, 2, 20, 100, 1e-4, 0.3),
        (5, 0, 10, 40, 0.05, 0.0),
        (40, 60, 100, 150, 0.01, 0.1),
        (20, 80, 20, 8, 0.01, 0.0),
        (3, 0, 3, 5, 0.01, 0.0),
        (50, 0, 60, 120, 1.0, 0.1),
    ],
)
def test_the_detectable_drop_of_precision_is_that_of_brute_force(row):
    found = detectable_precision_drops(*(np.array([value]) for value in row))
    assert found[0] == pytest.approx(precision_drop_by_enumeration(*row), nan_ok=True)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 400), st.sampled_from([0.0, 0.01, 0.2]))
def test_a_drop_of_precision_is_seen_from_the_smallest_on(tp, fp, others, margin):
    row = (*(np.array([count]) for count in (tp, fp, 60, others)), 0.01, np.array([margin]))
    (smallest,) = detectable_precision_drops(*row)
    for drop in (0.0, 0.001, 0.099, 0.1, 0.35, 1.0, float(np.nan_to_num(smallest)), smallest - 0.001):
        assert precision_drops_seen(*row, np.array([np.nan_to_num(drop)]))[0] == (drop >= smallest - 1e-9)


def test_precision_of_many_classes_among_many_images():
    tp, fp = np.array([40, 40, 0, 40, 40]), np.array([10, 10, 5, 10, 0])
    support, others = np.array([50, 50, 50, 50, 50]), np.array([49_950, 20_000_000, 49_950, 0, 49_950])
    margins = np.array([0.01, 0.01, 0.01, 0.01, 1.0])
    found = detectable_precision_drops(tp, fp, support, others, 2.5e-6, margins)
    # About one benign new false positive is planned for, so the number of other images hardly matters.
    assert found[0] == pytest.approx(found[1], abs=0.001)
    # 24 new false positives at least, 2.5e-6 being 2 ** -19, and eight of ten times.
    assert 0.2 < found[0] < 0.35
    assert np.isnan(found[2:]).all()


def test_simulated_false_positives_are_found_as_often_as_planned():
    rng, rounds = np.random.default_rng(3), 40_000
    tp, fp, support, others, alpha = 160, 40, 200, 9800, 1e-3
    (drop,) = detectable_precision_drops(
        *(np.array([count]) for count in (tp, fp, support, others)), alpha, np.array([0.02])
    )

    def found(drop: float) -> float:
        more = tp / (tp / (tp + fp) - drop) - tp - fp
        flips = BENIGN_FLIPS * support / others
        b, c, _ = rng.multinomial(
            others, [flips + more / others, flips, 1 - 2 * flips - more / others], rounds
        ).T
        after = tp / (tp + fp + b - c)
        return float(np.mean((mcnemar_p(b, c) <= alpha) & (tp / (tp + fp) - after >= 0.02 - 1e-12)))

    noise = 4 * np.sqrt(0.8 * 0.2 / rounds)
    assert found(drop) > 0.8 - noise
    assert found(drop - 0.001) < 0.8 + noise
