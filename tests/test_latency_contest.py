"""The contestants of a measurement: how they are loaded, loaded anew, fed and watched."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from suites import Suite
from test_latency_items import FAST, LATENCY, _at_rest

from trtcheck.case import LatencySpec
from trtcheck.latency import contest
from trtcheck.latency.sampling import RELOAD, measure
from trtcheck.latency.timing import Block, Clock, TimingMode

__all__ = ["_at_rest"]


class FakeTimer:
    """A timer of an engine that takes no time."""

    def __init__(self, clock: Clock = Clock.HOST) -> None:
        self.mode = TimingMode(clock, transfers=False, cuda_graph=False, spin_wait=False)
        self.queries = 0

    def block(self, queries: int) -> Block:
        self.queries += queries
        return Block(np.full(queries, 1.0), queries * 1e-3)


class FakeEngine:
    """An engine that says how it was asked for its timer, and that it was closed."""

    def __init__(self, clock: Clock = Clock.HOST) -> None:
        self.made = FakeTimer(clock)
        self.asked: dict[str, bool] = {}
        self.closed = False

    def timer(self, feeds: object, **asked: bool) -> FakeTimer:
        self.asked = asked
        return self.made

    def close(self) -> None:
        self.closed = True


def loader(loaded: list[FakeEngine], clock: Clock = Clock.HOST) -> Callable[[], Any]:
    def load() -> FakeEngine:
        loaded.append(FakeEngine(clock))
        return loaded[-1]

    return load


def field(spec: LatencySpec | None = None, clock: Clock = Clock.HOST) -> tuple[Any, list[FakeEngine]]:
    entered: list[FakeEngine] = []
    found = contest._Field({}, spec or LatencySpec())
    found.enter("engine", loader(entered, clock))
    return found, entered


def test_transfers_and_spin_wait_are_as_the_suite_asks() -> None:
    for transfers, spin_wait in ((True, False), (False, True)):
        _, [engine] = field(LatencySpec(transfers=transfers, spin_wait=spin_wait))
        assert engine.asked == {"transfers": transfers, "spin_wait": spin_wait}


def test_engines_are_loaded_anew_on_a_processor_alone() -> None:
    assert field()[0].reload(budget=30) is not None
    assert field(clock=Clock.DEVICE)[0].reload(budget=30) is None


def test_engines_are_not_loaded_anew_where_that_would_take_the_time_of_timing() -> None:
    for rounds, anew in ((12, True), (300, False)):
        found, _ = field(LatencySpec(rounds=rounds))
        found._seconds = 0.3  # 1.2 s in 12 rounds, 30 s in 300
        assert (found.reload(budget=30) is not None) is anew


def test_engines_that_are_loaded_anew_take_the_place_of_those_before() -> None:
    found, entered = field()
    again = found.reload(budget=30)
    assert again.load() == {"engine": entered[1].made}
    assert [engine.closed for engine in entered] == [True, False]
    found.close()
    assert entered[1].closed


def test_every_third_round_times_the_engines_just_loaded() -> None:
    found, entered = field()
    sampled = measure(
        found.timers, rounds=9, budget_s=5, looks=((9, 1.0),), undecided=lambda _timings, _share: False,
        between=lambda: None, advance=lambda _steps: None, reload=found.reload(budget=30),
    )  # fmt: skip
    assert len(entered) == 9 / RELOAD
    assert len(sampled.timings["engine"].seconds) == 9
    assert all(engine.made.queries > RELOAD for engine in entered)


def test_energy_is_that_of_a_query(monkeypatch: pytest.MonkeyPatch) -> None:
    counter = iter([100.0, 150.0])
    watch: Any = SimpleNamespace(energy_joules=lambda: next(counter))
    monkeypatch.setattr(contest, "run_for", lambda _timer, _seconds: 25)
    timer: Any = FakeTimer()
    assert contest._joules_per_query(timer, watch) == 2.0


def test_a_measurement_that_could_not_lock_says_so_in_its_notes(
    suite: Suite, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "trtcheck-timing-processor.gate").mkdir()  # nothing that can be locked, even by root
    suite.toml(LATENCY)
    suite.run("--trt-engine=fp32", "-k", "latency-b4", FAST)
    [note] = [note for note in suite.item("fp32", "latency")["notes"] if "timed without" in note]
    assert note.startswith("the processor is timed without keeping others from computing there: ")


def test_rounds_are_made_while_the_lock_is_held(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    @contextmanager
    def lock(uuid: str | None, _log: object) -> Iterator[None]:
        told.append(f"held for {uuid}")
        yield
        told.append("free")

    def measured(*args: Any, **options: Any) -> Any:
        told.append("rounds")
        return measure(*args, **options)

    monkeypatch.setattr(contest, "timing_lock", lock)
    monkeypatch.setattr(contest, "measure", measured)
    suite.toml(LATENCY)
    suite.run("--trt-engine=fp32", "-k", "latency-b4", FAST)
    assert told == ["held for None", "rounds", "free"]
