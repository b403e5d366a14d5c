"""Speed-ups, limits, and looks at a measurement that grows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trtcheck import judge
from trtcheck.judge import Verdict
from trtcheck.judge.latency_bounds import bounds

PASS, FAIL, INCONCLUSIVE = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE


def times(seed: int = 0, rounds: int = 12, sd: float = 0.01) -> np.ndarray:
    return np.random.default_rng(seed).lognormal(0, sd, (rounds, 50))


def test_a_speedup_is_how_many_times_as_fast():
    slow, fast = 2.3 * times(1), times(2)
    found = judge.speedup(slow, fast)
    assert found.low < 2.3 < found.high
    assert found.ratio == pytest.approx(2.3, rel=0.01)
    assert found.confidence == 0.99
    back = judge.speedup(fast, slow)
    assert (back.ratio, back.low, back.high) == pytest.approx(
        (1 / found.ratio, 1 / found.high, 1 / found.low)
    )


def test_the_interval_of_a_speedup_is_two_sided():
    slow, fast = times(1), times(2)
    found = judge.speedup(slow, fast, alpha=0.02)
    one_sided = judge.latency(fast, slow, alpha=0.01)
    assert (found.low, found.high) == pytest.approx((1 + one_sided.low, 1 + one_sided.high))


def test_few_rounds_have_a_speedup_but_no_interval():
    found = judge.speedup(3 * times(rounds=7), times(rounds=7))
    assert found.ratio == pytest.approx(3)
    assert (found.low, found.high) == (None, None)
    with pytest.raises(ValueError, match="a round or more"):
        judge.speedup(np.empty((0, 5)), np.empty((0, 5)))


def test_a_limit_is_held_missed_or_open():
    found = judge.within(5 * times(), 5.1)
    assert found.low < 5 < found.high < 5.1
    assert found.measured == pytest.approx(5, rel=0.01)
    assert found.verdict is PASS
    assert judge.within(5 * times(), 5.0).verdict is INCONCLUSIVE
    assert judge.within(5 * times(), 4.9).verdict is FAIL
    assert judge.within(5 * times(), found.high).verdict is PASS
    assert judge.within(5 * times(), found.low).verdict is INCONCLUSIVE


@settings(deadline=None)
@given(st.floats(0.9, 1.1), st.integers(0, 500))
def test_a_floor_is_a_limit_upside_down(limit, seed):
    figures = np.random.default_rng(seed).lognormal(0, 0.01, 12)
    floor = judge.within(figures, limit, larger_is_better=True)
    ceiling = judge.within(1 / figures, 1 / limit)
    assert floor.verdict is ceiling.verdict
    assert (floor.low, floor.measured, floor.high) == pytest.approx(
        (1 / ceiling.high, 1 / ceiling.measured, 1 / ceiling.low)
    )


def test_floors_are_held_missed_or_open():
    images = 1000 * times()[:, 0]
    wanted = {900: PASS, 1000: INCONCLUSIVE, 1100: FAIL}
    found = {floor: judge.within(images, floor, larger_is_better=True).verdict for floor in wanted}
    assert found == wanted


def test_few_rounds_hold_no_limit():
    found = judge.within(times(rounds=7), 100.0)
    assert (found.verdict, found.low, found.high) == (INCONCLUSIVE, None, None)
    assert found.measured == pytest.approx(1, rel=0.01)


@pytest.mark.parametrize("limit", [0.0, -1.0, np.nan, np.inf])
def test_a_limit_that_is_none_is_refused(limit):
    with pytest.raises(ValueError, match="limit is"):
        judge.within(times(), limit)


def test_the_tail_has_limits_of_its_own():
    figures = np.ones((12, 100))
    figures[:, :6] = 2.0
    assert judge.within(figures, 1.5).verdict is PASS
    assert judge.within(figures, 1.5, statistic="p95").verdict is FAIL


@pytest.mark.parametrize(
    ("rounds", "most", "expected"),
    [(12, 12, [12]), (12, 23, [12]), (12, 24, [12, 24]), (12, 96, [12, 24, 48, 96]),
     (12, 100, [12, 24, 48, 100]), (12, 5, [5]), (12, 1, [1])],
)  # fmt: skip
def test_looks_double_up_to_the_last(rounds, most, expected):
    assert [count for count, _ in judge.looks(rounds, most)] == expected


@settings(deadline=None)
@given(st.integers(1, 1000), st.integers(1, 100_000))
def test_all_looks_together_spend_what_one_would(rounds, most):
    plan = judge.looks(rounds, most)
    counts, shares = [count for count, _ in plan], [share for _, share in plan]
    assert counts == sorted(set(counts))
    assert 0.9999 < sum(shares) <= 1
    assert min(shares) > 0
    assert shares[0] == (1.0 if len(plan) == 1 else 0.75)


@pytest.mark.parametrize(("rounds", "most"), [(0, 5), (5, 0)])
def test_looks_need_rounds(rounds, most):
    with pytest.raises(ValueError, match="expected 1 or more"):
        judge.looks(rounds, most)


# Simulated measurements: what is promised, with bounds that are missed where the promise is not kept.

TOLERANCE = np.log(1.02)
MEASUREMENTS = 2000


def scattered(kind: str) -> np.ndarray:
    """Log ratios (measurements, 96) of identical engines: rounds, and what differs between sessions."""
    rng = np.random.default_rng([11, len(kind)])
    shape = (MEASUREMENTS, 96)
    rounds = {
        "calm": lambda: rng.normal(0, 0.0024, shape),
        "noisy": lambda: rng.normal(0, 0.02, shape),
        "hiccups": lambda: rng.normal(0, 0.01, shape) * np.where(rng.random(shape) < 0.1, 8, 1),
        "heavy tails": lambda: 0.01 * rng.standard_t(3, shape),
    }[kind]()
    return rounds + rng.normal(0, 0.001, (MEASUREMENTS, 1))


def verdicts(logs: np.ndarray, slowdown: float, plan: tuple[tuple[int, float], ...]) -> dict[Verdict, float]:
    """Shares of the verdicts of a measurement that goes on while it is open."""
    counts = dict.fromkeys((PASS, FAIL, INCONCLUSIVE), 0)
    for measurement in logs + np.log1p(slowdown):
        verdict = INCONCLUSIVE
        for rounds, share in plan:
            found = bounds(measurement[:rounds], 0.01 * share, 0.0015)
            verdict = FAIL if found.low > TOLERANCE else INCONCLUSIVE if found.high > TOLERANCE else PASS
            if verdict is not INCONCLUSIVE:
                break
        counts[verdict] += 1
    return {verdict: count / len(logs) for verdict, count in counts.items()}


@pytest.mark.parametrize("kind", ["calm", "noisy", "hiccups", "heavy tails"])
def test_a_growing_measurement_keeps_its_promises(kind):
    logs, plan = scattered(kind), judge.looks(12, 96)
    # Three standard errors of 2000 measurements at 1 % are .67 %.
    assert verdicts(logs, 0.0, plan)[PASS] >= 0.95
    assert verdicts(logs, 0.0, plan)[FAIL] <= 0.0067
    assert verdicts(logs, 0.02, plan)[FAIL] <= 0.0167
    assert verdicts(logs, 0.02, plan)[PASS] <= 0.0167
    assert verdicts(logs, 0.05, plan)[FAIL] >= 0.95


def test_looking_again_and_again_at_full_alpha_would_break_them():
    unspent = tuple((rounds, 1.0) for rounds in range(12, 97, 4))
    assert verdicts(scattered("noisy"), 0.02, unspent)[FAIL] > 0.02


def test_calm_rounds_need_no_second_look():
    once = ((12, 1.0),)
    assert verdicts(scattered("calm"), 0.0, once)[PASS] >= 0.95
    assert verdicts(scattered("calm"), 0.05, once)[FAIL] >= 0.95


def test_bounds_are_missed_as_often_as_they_may_be():
    rng = np.random.default_rng(8)
    for rounds in (8, 12, 24):
        found = [bounds(rng.normal(0, 0.01, rounds), 0.05, 0.0) for _ in range(4000)]
        # 5 % each; three standard errors are 1 %, and trimming few rounds costs some tenths.
        assert np.mean([one.low > 0 for one in found]) == pytest.approx(0.05, abs=0.012)
        assert np.mean([one.high < 0 for one in found]) == pytest.approx(0.05, abs=0.012)
