"""Rounds of several engines within a budget: scripted timers on a clock of their own, and ONNX Runtime's."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graphs import cnn, save
from hypothesis import given
from hypothesis import strategies as st

from trtcheck.backends.onnxruntime import OrtSession, session_options
from trtcheck.errors import EngineError
from trtcheck.latency.plateau import settled, warm_up
from trtcheck.latency.sampling import Sampled, affordable, block_size, measure, order, run_for
from trtcheck.latency.timing import Block, Clock, Timer, TimingMode

Latency = Callable[[float], float]
"""Milliseconds of a query that begins so many seconds after the first one."""


class VirtualClock:
    """Tells the time that scripted queries have taken."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    @property
    def elapsed(self) -> float:
        return self.now - 1000.0


class ScriptedTimer:
    """Stands in for an engine whose time would be another one every time; it writes down its blocks."""

    mode = TimingMode(Clock.HOST, transfers=False)

    def __init__(self, clock: VirtualClock, latency: Latency | float, log: list[Any], name: str) -> None:
        self.clock, self.log, self.name = clock, log, name
        self.latency: Latency = latency if callable(latency) else lambda _: latency

    def block(self, queries: int) -> Block:
        began, samples = self.clock.now, []
        self.log.append((self.name, queries))
        for _ in range(queries):
            samples.append(self.latency(self.clock.elapsed))
            self.clock.now += samples[-1] / 1e3
        return Block(np.array(samples), self.clock.now - began)


class Measured:
    """A measurement of scripted timers, with all that happened while it ran."""

    def __init__(
        self,
        latencies: Mapping[str, Latency | float],
        *,
        rounds: int = 12,
        budget_s: float = 30.0,
        looks: Sequence[tuple[int, float]] = (),
        undecided: Callable[..., bool] = lambda *_: True,
        pause_s: float = 0.0,
        asking_s: float = 0.0,
    ) -> None:
        self.log: list[Any] = []
        self.asked: list[tuple[int, float]] = []
        self.advanced = 0
        self.clock = VirtualClock()

        def ask(timings: Mapping[str, Any], share: float) -> bool:
            self.asked.append((len(timings["engine"].seconds), share))
            self.clock.now += asking_s
            return undecided(timings, share)

        def between() -> None:
            self.log.append("between")
            self.clock.now += pause_s

        def advance(count: int) -> None:
            self.advanced += count

        timers = {name: ScriptedTimer(self.clock, ms, self.log, name) for name, ms in latencies.items()}
        self.sampled: Sampled = measure(
            timers, rounds=rounds, budget_s=budget_s, undecided=ask,
            looks=looks or [(rounds, 1.0)], between=between, advance=advance, clock=self.clock,
        )  # fmt: skip

    @property
    def rounds(self) -> list[list[tuple[str, int]]]:
        """The blocks of each round, in order."""
        found: list[list[tuple[str, int]]] = []
        for entry in self.log:
            if entry == "between":
                found.append([])
            elif found:
                found[-1].append(entry)
        return found

    @property
    def shape(self) -> tuple[int, int]:
        return self.sampled.timings["engine"].samples_ms.shape


def noisy(ms: float, sd: float, seed: int = 0) -> Latency:
    generator = np.random.default_rng(seed)
    return lambda _: ms * math.exp(sd * generator.standard_normal())


def ramp(ms: float, more: float, tau_s: float) -> Latency:
    """Clocks that ramp up: *more* slower at first."""
    return lambda at: ms * (1 + more * math.exp(-at / tau_s))


def test_two_are_timed_abba_and_baab_in_turn():
    measured = Measured({"engine": 1.0, "approved": 1.2}, rounds=4)
    assert ["".join(name[0] for name, _ in blocks) for blocks in measured.rounds] == ["eaae", "aeea"] * 2


def test_with_three_the_mirror_image_follows_and_the_ends_swap():
    assert order(("A", "B", "C"), 0) == tuple("ABCCBA")
    assert order(("A", "B", "C"), 1) == tuple("CBAABC")


def test_each_gets_two_blocks_a_round_in_a_row_of_samples_with_their_seconds():
    found = Measured({"engine": lambda at: 1.0 + at, "approved": 2.0}).sampled
    assert found.complete
    assert found.looks == ((12, 1.0),)
    assert {name: timed.samples_ms.shape for name, timed in found.timings.items()} == {
        "engine": (12, 50),
        "approved": (12, 50),
    }
    for timed in found.timings.values():
        assert timed.seconds == pytest.approx(timed.samples_ms.sum(axis=1) / 1e3)
    engine = found.timings["engine"].samples_ms
    assert (np.diff(engine.ravel()) > 0).all()  # in the order of measuring


def test_the_machine_is_looked_at_before_every_round_and_progress_counts_rounds():
    measured = Measured({"engine": 1.0}, rounds=5)
    assert measured.log.count("between") == measured.advanced == 5


def test_drift_within_a_round_favours_nobody():
    drifting: Latency = lambda at: 1.0 + 0.02 * at  # noqa: E731
    timings = Measured({"engine": drifting, "approved": drifting}).sampled.timings
    means = {name: timed.samples_ms.mean(axis=1) for name, timed in timings.items()}
    assert np.log(means["engine"] / means["approved"]) == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize(
    ("query_s", "rounds", "seconds", "expected"),
    [
        ([0.001, 0.001], 12, 20, 25),
        ([0.0001, 0.0002], 12, 20, 100),  # 25 of .1 ms would be over in 2.5 ms
        ([0.01, 0.03], 12, 20, 16),  # .8 of 20 s for 24 blocks of 40 ms a query
        ([1.0, 1.0], 12, 20, 1),
        ([0.0001, 0.1], 12, 20, 6),  # the slow one leaves no time for 100
    ],
)
def test_a_block_is_as_long_as_it_needs_and_the_budget_allows(query_s, rounds, seconds, expected):
    assert block_size(query_s, rounds, seconds) == expected


def test_the_size_of_blocks_is_fixed_before_the_first_round_and_the_same_for_all():
    measured = Measured({"engine": noisy(0.3, 0.3), "reference": noisy(1.3, 0.3, 1)})
    assert {queries for blocks in measured.rounds for _, queries in blocks} == {measured.shape[1] // 2}


def test_slow_engines_get_shorter_blocks_so_that_the_rounds_fit():
    measured = Measured({"engine": 40.0, "approved": 40.0})
    assert measured.sampled.complete
    assert 2 <= measured.shape[1] < 50
    assert measured.clock.elapsed <= 30


def test_what_does_not_fit_with_a_query_a_block_is_incomplete():
    measured = Measured({"engine": 1000.0, "approved": 1000.0})
    assert not measured.sampled.complete
    assert measured.shape == (5, 2)  # 10 s of warming up, then 4 s a round
    assert measured.sampled.looks == ((5, 1.0),)
    assert measured.clock.elapsed <= 31


def test_one_round_is_measured_whatever_the_budget():
    measured = Measured({"engine": 4000.0, "approved": 3000.0}, budget_s=1.0)
    assert measured.shape == (1, 2)
    assert not measured.sampled.complete
    assert not measured.sampled.warm_up.plateau


def test_time_spent_between_rounds_is_part_of_the_budget():
    measured = Measured({"engine": 1.0}, budget_s=10.0, pause_s=2.0)
    assert not measured.sampled.complete
    assert measured.clock.elapsed <= 12.1


def test_it_goes_on_to_the_next_look_only_while_undecided():
    looks = [(4, 0.5), (8, 0.25), (12, 0.25)]
    measured = Measured(
        {"engine": 1.0},
        rounds=4,
        looks=looks,
        undecided=lambda timings, _: len(timings["engine"].seconds) < 8,
    )
    assert measured.asked == [(4, 0.5), (8, 0.25)]
    assert measured.sampled.looks == ((4, 0.5), (8, 0.25))
    assert measured.shape[0] == 8


def test_after_the_last_look_nobody_is_asked():
    measured = Measured({"engine": 1.0}, rounds=4, looks=[(4, 0.5), (6, 0.5)])
    assert measured.asked == [(4, 0.5)]
    assert measured.sampled.looks == ((4, 0.5), (6, 0.5))


def test_a_look_that_there_is_no_time_for_leaves_its_share_to_the_last_one():
    measured = Measured({"engine": 9.0, "approved": 9.0}, looks=[(12, 0.5), (24, 0.3), (96, 0.2)])
    assert measured.sampled.looks == ((12, 0.5), (24, 0.5))
    assert affordable([(12, 0.5), (24, 0.25)], 1.0, 40.0) == ((12, 0.5), (24, 0.25))
    assert affordable([(12, 0.5), (24, 0.25)], 1.0, 20.0) == ((12, 0.75),)
    assert affordable([(12, 0.5), (24, 0.25)], 1.0, 1.0) == ((12, 0.75),)


def test_a_look_whose_rounds_turn_out_too_slow_is_not_begun():
    slower: Latency = lambda at: 5.0 if at < 1 else 11.0  # noqa: E731
    measured = Measured({"engine": slower, "approved": slower}, looks=[(12, 0.5), (36, 0.5)])
    assert measured.sampled.looks == ((12, 0.5),)
    assert measured.asked == []
    assert measured.sampled.complete


def test_a_look_that_time_runs_out_in_is_taken_with_the_rounds_that_there_are():
    slowing: Latency = lambda at: 5.0 if at < 8 else 40.0  # noqa: E731
    measured = Measured({"engine": slowing, "approved": slowing}, looks=[(12, 0.5), (36, 0.5)])
    (first, second) = measured.sampled.looks
    assert first == (12, 0.5)
    assert 12 < second[0] < 36
    assert second == (measured.shape[0], 0.5)
    assert measured.sampled.complete


def test_a_look_without_a_round_of_its_own_is_none():
    measured = Measured({"engine": 1.0}, looks=[(12, 0.5), (24, 0.5)], asking_s=60)
    assert measured.asked == [(12, 0.5)]
    assert measured.sampled.looks == ((12, 0.5),)


@pytest.mark.parametrize(
    ("timers", "rounds", "looks"),
    [(("approved",), 12, [(12, 1.0)]), (("engine",), 12, [(6, 1.0)]), (("engine",), 0, [(0, 1.0)])],
)
def test_what_is_no_plan_is_refused(timers, rounds, looks):
    with pytest.raises(ValueError, match="no measurement"):
        Measured(dict.fromkeys(timers, 1.0), rounds=rounds, looks=looks)


def test_an_engine_that_fails_in_the_middle_is_heard():
    def failing(at: float) -> float:
        if at > 3:
            raise EngineError("the device fell off")
        return 5.0

    with pytest.raises(EngineError, match="the device fell off"):
        Measured({"engine": failing, "approved": 5.0})


@pytest.mark.parametrize("wrong", [0.0, float("nan"), float("inf")])
def test_a_time_that_is_none_is_refused(wrong):
    with pytest.raises(EngineError, match="times of an engine's queries cannot be used"):
        Measured({"engine": lambda at: wrong if 0.7 < at < 0.72 else 1.0})


def test_a_time_that_is_missing_is_noticed():
    class Short(ScriptedTimer):
        def block(self, queries: int) -> Block:
            whole = super().block(queries)
            return Block(whole.samples_ms[1:], whole.seconds)

    clock = VirtualClock()
    with pytest.raises(EngineError, match=r"expected: 1 times above 0 ms\n  found:    0 times"):
        run_for(Short(clock, 1.0, [], "engine"), 1.0, clock)


def test_a_cold_start_makes_no_short_blocks():
    measured = Measured({"engine": lambda at: 400.0 if at < 0.4 else 4.0})
    assert measured.shape == (12, 50)


def test_steady_times_settle_after_eight_windows_of_each():
    warm = Measured({"engine": 1.0, "approved": 4.0}).sampled.warm_up
    assert warm.plateau
    assert warm.seconds == pytest.approx(16 * 0.05, abs=0.05)
    assert warm.queries == pytest.approx(400, abs=20)


def test_slow_queries_settle_too():
    warm = Measured({"engine": 300.0, "approved": 300.0}).sampled.warm_up
    assert warm.plateau
    assert warm.queries == 8


def test_clocks_that_ramp_are_waited_for():
    measured = Measured({"engine": ramp(1.0, 0.5, 0.5), "approved": ramp(1.1, 0.5, 0.5)})
    assert measured.sampled.warm_up.plateau
    assert measured.sampled.warm_up.seconds > 1.5
    assert measured.sampled.timings["engine"].samples_ms.max() < 1.03


def test_times_that_never_settle_are_measured_all_the_same():
    measured = Measured({"engine": lambda at: 1.0 * 1.1**at, "approved": 1.0})
    assert not measured.sampled.warm_up.plateau
    assert measured.sampled.warm_up.seconds == pytest.approx(10, abs=0.1)
    assert measured.sampled.complete


def test_one_engine_that_trends_is_enough():
    clock, log = VirtualClock(), []
    timers = {
        "engine": ScriptedTimer(clock, 1.0, log, "engine"),
        "approved": ScriptedTimer(clock, lambda at: 1.0 * 1.1**at, log, "approved"),
    }
    assert not warm_up(timers, 5.0, clock).warm_up.plateau


@pytest.mark.parametrize("seed", range(20))
def test_noise_is_no_trend(seed):
    generator = np.random.default_rng(seed)
    window = [1.0 + 0.05 * generator.standard_normal() for _ in range(200)]
    measured = Measured({"engine": lambda at: window[int(at / 0.05) % 200]})
    assert measured.sampled.warm_up.plateau
    assert measured.sampled.warm_up.seconds < 2


@pytest.mark.parametrize(
    ("medians", "expected"),
    [
        ([1.0] * 8, True),
        ([1.0] * 7, False),
        ([1.0] * 4 + [1.009] * 4, True),
        ([1.0] * 4 + [1.03] * 4, False),
        ([1.0] * 4 + [0.97] * 4, False),
        ([9.0, 5.0] + [1.0] * 8, True),
        ([1.0, 1.0, 1.0, 1.0, 1.0, 1.5, 1.0, 1.0], True),
        ([1 - 0.005 * i for i in range(8)], False),
        ([1.05, 0.95] * 4, True),
    ],
)
def test_what_has_settled(medians, expected):
    assert settled(medians) is expected


def test_an_engine_runs_alone_for_about_as_long_as_asked():
    clock = VirtualClock()
    queries = run_for(ScriptedTimer(clock, noisy(0.7, 0.1), [], "engine"), 2.0, clock)
    assert clock.elapsed == pytest.approx(2.0, rel=0.02)
    assert queries == pytest.approx(2000 / 0.7, rel=0.05)


@given(
    latencies=st.dictionaries(
        st.sampled_from(["approved", "reference", "fp16"]), st.floats(0.02, 3e3), max_size=3
    ),
    engine=st.floats(0.02, 3e3),
    spread=st.floats(0, 1),
    budget=st.floats(0.05, 5),
    rounds=st.integers(1, 12),
    seed=st.integers(0, 99),
)
def test_any_engines_and_budgets_make_a_consistent_measurement(
    latencies, engine, spread, budget, rounds, seed
):
    latencies = {"engine": engine, **latencies}
    looks = [(rounds, 0.5), (2 * rounds, 0.25), (4 * rounds, 0.25)]
    measured = Measured(
        {name: noisy(ms, spread, seed) for name, ms in latencies.items()},
        rounds=rounds, budget_s=budget, looks=looks,
    )  # fmt: skip
    found = measured.sampled
    (shape,) = {timed.samples_ms.shape for timed in found.timings.values()}
    done, queries = shape
    assert list(found.timings) == list(latencies)
    assert done >= 1
    assert queries >= 2
    assert found.looks[-1][0] == done
    assert sum(share for _, share in found.looks) <= 1 + 1e-12
    assert found.complete is (done >= rounds)
    assert measured.advanced == done
    assert all(np.isfinite(timed.samples_ms).all() for timed in found.timings.values())
    longest = max(timed.seconds.max() for timed in found.timings.values())
    slowest = max(latencies.values()) * math.exp(5 * spread) / 1e3  # no query in so many is slower
    if done > 1:
        assert measured.clock.elapsed <= budget + longest + queries / 2 * slowest


def test_sessions_of_onnx_runtime_are_measured_in_real_time(tmp_path: Path):
    feeds = {"x": np.random.default_rng(5).standard_normal((8, 1, 12, 12)).astype(np.float32)}
    path, rounds = save(cnn(), tmp_path / "cnn.onnx"), []
    with OrtSession(path, session_options(1)) as engine, OrtSession(path, session_options(1)) as approved:
        timers: dict[str, Timer] = {"engine": engine.timer(feeds), "approved": approved.timer(feeds)}
        found = measure(
            timers, rounds=3, budget_s=60, undecided=lambda *_: True, looks=[(3, 0.5), (5, 0.5)],
            between=lambda: None, advance=rounds.append,
        )  # fmt: skip
        assert run_for(timers["engine"], 0.01) >= 1
    assert found.complete
    assert found.looks == ((3, 0.5), (5, 0.5))
    assert len(rounds) == 5
    for timed in found.timings.values():
        assert timed.mode == timers["engine"].mode
        assert timed.samples_ms.shape == (5, found.timings["engine"].samples_ms.shape[1])
        assert (timed.samples_ms > 0).all()
        assert (timed.seconds * 1e3 >= timed.samples_ms.sum(axis=1)).all()
