"""Verdicts on a time by stored sessions, and what differs between sessions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from trtcheck import judge
from trtcheck.judge import LatencyRule, Verdict
from trtcheck.judge.latency_bounds import SESSION_SD, SESSION_SD_ABSOLUTE

PASS, FAIL, INCONCLUSIVE = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE
STORED = np.array([-0.71, -0.70, -0.69, -0.705, -0.695, -0.70])


def test_the_prediction_bound_by_hand():
    # Mean -.7, squares 2 * .01^2 + 2 * .005^2 over 5; 3.365 is t(.99) for 5 degrees of freedom.
    sd = np.sqrt(2.5e-4 / 5)
    reach = 3.36493 * sd * np.sqrt(1 + 1 / 6)
    verdict = judge.latency_ratio(STORED, -0.66)
    assert verdict.effect == pytest.approx(np.expm1(0.04))
    assert (verdict.low, verdict.high) == pytest.approx((np.expm1(0.04 - reach), np.expm1(0.04 + reach)))
    assert (verdict.rule, verdict.sessions, verdict.rounds) == (LatencyRule.RATIO, 6, 0)
    assert verdict.session_sd == pytest.approx(sd)
    assert verdict.verdict is INCONCLUSIVE


def test_a_bound_at_the_tolerance_is_where_it_fails():
    sd = STORED.std(ddof=1)
    reach = stats.t.ppf(0.99, 5) * sd * np.sqrt(1 + 1 / 6) + np.log(1.02)
    assert judge.latency_ratio(STORED, -0.7 + reach + 1e-9).verdict is FAIL
    assert judge.latency_ratio(STORED, -0.7 + reach - 1e-9).verdict is INCONCLUSIVE


def test_the_detectable_slowdown_is_found_four_times_in_five():
    verdict = judge.latency_ratio(STORED, -0.7)
    shift = np.log1p(verdict.detectable) - np.log(1.02)
    noncentral = shift / (STORED.std(ddof=1) * np.sqrt(1 + 1 / 6))
    assert stats.nct.sf(stats.t.ppf(0.99, 5), 5, noncentral) == pytest.approx(0.8)


@settings(deadline=None)
@given(st.floats(1e-3, 1e3), st.floats(0.5, 2))
def test_times_are_judged_as_their_logs_are(unit, factor):
    stored, now = np.exp(STORED), float(np.exp(-0.7)) * factor
    absolute = judge.latency_absolute(stored * unit, now * unit)
    ratio = judge.latency_ratio(STORED, -0.7 + np.log(factor), session_sd=SESSION_SD_ABSOLUTE)
    assert (absolute.rule, absolute.verdict) == (LatencyRule.ABSOLUTE, ratio.verdict)
    assert (absolute.low, absolute.high) == pytest.approx((ratio.low, ratio.high), abs=1e-9)


@pytest.mark.parametrize(
    ("stored", "reason"),
    [(0, "0 stored sessions, 5 are needed: 5 more"), (1, "1 stored session, 5 are needed: 4 more"),
     (4, "4 stored sessions, 5 are needed: 1 more")],
)  # fmt: skip
def test_few_sessions_are_no_verdict(stored, reason):
    for verdict in (judge.latency_ratio([0.1] * stored, 5.0), judge.latency_absolute([0.1] * stored, 5.0)):
        assert (verdict.verdict, verdict.rule, verdict.reason) == (INCONCLUSIVE, LatencyRule.NONE, reason)
        assert (verdict.sessions, verdict.effect, verdict.detectable) == (stored, None, None)


def test_sessions_that_agree_by_luck_do_not_make_it_sure():
    reach = stats.t.ppf(0.99, 4) * SESSION_SD_ABSOLUTE * np.sqrt(1.2)
    verdict = judge.latency_absolute([3.0] * 5, 3.0)
    assert verdict.verdict is PASS
    assert verdict.high == pytest.approx(np.expm1(reach))
    assert judge.latency_absolute([3.0] * 5, 3.0 * 1.02 * np.exp(reach - 1e-6)).verdict is INCONCLUSIVE
    assert judge.latency_absolute([3.0] * 5, 3.0 * 1.02 * np.exp(reach + 1e-6)).verdict is FAIL


def test_rounds_that_scatter_are_no_surer_than_they_are():
    calm, wild = np.full(12, 0.1), 0.1 + np.array([-0.1, 0.1] * 6)
    stored = [0.1, 0.1005, 0.0995, 0.1, 0.1]
    sure, unsure = judge.latency_ratio(stored, calm), judge.latency_ratio(stored, wild)
    assert sure.effect == pytest.approx(unsure.effect, abs=1e-9)
    assert (sure.verdict, unsure.verdict) == (PASS, INCONCLUSIVE)
    assert (sure.rounds, unsure.session_sd > 10 * sure.session_sd) == (12, True)


@pytest.mark.parametrize(
    ("rule", "stored", "now", "message"),
    [(judge.latency_ratio, [0.1] * 5, [], "a round or more"), (judge.latency_ratio, [0.1] * 5, np.nan, "now"),
     (judge.latency_ratio, [np.inf] * 5, 0.1, "stored"), (judge.latency_absolute, [0.1, 0.0], 0.1, "stored"),
     (judge.latency_absolute, [0.1] * 5, -1.0, "now"), (judge.latency_ratio, [[0.1]], 0.1, "stored")],
)  # fmt: skip
def test_figures_that_are_none_are_refused(rule, stored, now, message):
    with pytest.raises(ValueError, match=message):
        rule(stored, now)


def test_what_differs_between_sessions_is_the_default_until_five_show_more():
    wide = [0.0, 0.02, -0.02, 0.01]
    assert judge.session_sd([], []) == SESSION_SD
    assert judge.session_sd(wide, [0.0] * 4) == SESSION_SD
    # Squares .001 around 0; the upper 80 % bound by the chi-squared distribution.
    expected = np.sqrt(1e-3 / stats.chi2.ppf(0.2, 4))
    assert judge.session_sd([*wide, -0.01], [0.0] * 5) == pytest.approx(expected)


def test_what_the_rounds_explain_is_no_difference_between_sessions():
    ratios = np.array([0.0, 0.02, -0.02, 0.01, -0.01])
    full, less = judge.session_sd(ratios, [0.0] * 5), judge.session_sd(ratios, [0.01] * 5)
    assert full**2 - less**2 == pytest.approx(0.01**2)
    assert judge.session_sd(ratios, [0.1] * 5) == SESSION_SD
    assert judge.session_sd([0.5] * 30, [0.0] * 30) == SESSION_SD


@pytest.mark.parametrize(
    ("ratios", "errors"), [([0.1], []), ([np.nan], [0.1]), ([0.1], [-0.1]), ([0.1], [np.inf])]
)
def test_ratios_and_errors_that_do_not_fit_are_refused(ratios, errors):
    with pytest.raises(ValueError, match="expected"):
        judge.session_sd(ratios, errors)


def test_few_sessions_do_not_make_the_term_too_small():
    rng = np.random.default_rng(7)
    found = np.array([judge.session_sd(rng.normal(0, 0.004, 5), [0.0] * 5) for _ in range(2000)])
    # 80 % by design; three standard errors of 2000 draws are 2.7 %.
    assert (found >= 0.004).mean() == pytest.approx(0.8, abs=0.03)
