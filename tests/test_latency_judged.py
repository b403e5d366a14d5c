"""Which figures are held against what: the order of the rules, and what must never pass for want of data."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
import suite_models
from suites import Suite
from test_latency_items import FAST, LATENCY, _at_rest, latency_items
from test_latency_recorded import recorded_board, runs_of

from trtcheck.baselines.latency_schema import LatencyBaseline, LatencyRun, StoredSession
from trtcheck.case import Gates, Numerics, Verdict
from trtcheck.judge import LatencyRule
from trtcheck.latency import judged
from trtcheck.latency.check import Standing, outcome
from trtcheck.latency.measurement import APPROVED, ENGINE, REFERENCE, Measurement, Timings, WarmUp
from trtcheck.latency.record import LatencyResult
from trtcheck.latency.stored import comparable, figures_of, session_of
from trtcheck.latency.timing import Clock, TimingMode
from trtcheck.report import false_alarm

__all__ = ["_at_rest"]

MODE = TimingMode(Clock.DEVICE, transfers=False, cuda_graph=True, spin_wait=False)


def timings(seed: int = 0, *, ms: float = 1.0, pause_ms: float = 0.1, rounds: int = 12) -> Timings:
    """Made-up times of about *ms*, with a pause between two queries that only throughput feels."""
    samples = ms * np.exp(np.random.default_rng(seed).normal(0, 0.003, (rounds, 50)))
    return Timings(MODE, samples, (samples + pause_ms).sum(axis=1) / 1e3)


def measurement(timed: dict[str, Timings]) -> Measurement:
    return Measurement(4, timed, WarmUp(True, 0.5, 100), ((12, 1.0),))


def stored(number: int, timed: dict[str, Timings], of: str = "the reference") -> StoredSession:
    return session_of(measurement(timed), f"s{number}", "2025-11-01T10:00:00+00:00", "sha256:engine", of)


def baseline(*sessions: StoredSession) -> LatencyBaseline:
    return LatencyBaseline("cats", "fp16", 4, {}, "sha256:lowered", "sha256:engine", ".engine", sessions)


def by_what(rows: tuple[judged.Judged, ...]) -> dict[str, judged.Judged]:
    return {row.what: row for row in rows}


FIVE = baseline(*(stored(n, {ENGINE: timings(n), REFERENCE: timings(n + 50, ms=2)}) for n in range(5)))


def test_the_strongest_rule_that_there_are_data_for_is_taken_for_every_figure():
    gates = Gates(throughput_drop=0.1)
    alone, beside = {ENGINE: timings(9)}, {ENGINE: timings(9), REFERENCE: timings(10, ms=2)}
    for there, known, rule in (
        ({**beside, APPROVED: timings(11)}, FIVE, LatencyRule.INTERLEAVED),
        (beside, FIVE, LatencyRule.RATIO),
        (alone, FIVE, LatencyRule.ABSOLUTE),
        (beside, baseline(*FIVE.sessions[1:]), LatencyRule.NONE),
        (beside, None, LatencyRule.NONE),
    ):  # fmt: skip
        rows = by_what(judged.compared(there, known, gates))
        assert {what: row.verdict.rule for what, row in rows.items()} == dict.fromkeys(
            ("median", "p95", "throughput"), rule
        )


def test_stored_times_are_the_same_figures_as_those_of_now():
    """Twelve rounds of three queries: the 95th percentile by nearest rank is not the interpolated one."""
    few = timings(3)
    few = Timings(MODE, few.samples_ms[:, :3] * np.linspace(1, 3, 3), few.seconds)
    same = baseline(*(stored(n, {ENGINE: few}) for n in range(5)))
    rows = by_what(judged.compared({ENGINE: few}, same, Gates(throughput_drop=0.1)))
    for row in rows.values():
        assert row.verdict.effect == pytest.approx(0, abs=1e-6), row.what


def test_a_longer_pause_between_queries_costs_throughput_and_no_time():
    engine = timings(9, pause_ms=0.4)  # 1.1 ms a query becomes 1.4 ms
    rows = by_what(
        judged.compared({ENGINE: engine, REFERENCE: timings(10, ms=2)}, FIVE, Gates(throughput_drop=0.1))
    )
    assert rows["median"].verdict.verdict is Verdict.PASS
    assert rows["throughput"].verdict.verdict is Verdict.FAIL
    assert rows["throughput"].verdict.effect == pytest.approx(1.4 / 1.1 - 1, abs=0.005)


def test_a_rival_that_was_not_timed_leaves_its_gate_open():
    rows = by_what(judged.compared({ENGINE: timings()}, None, Gates(faster_than="fp16")))
    assert rows["faster_than"].gated
    assert rows["faster_than"].verdict.verdict is Verdict.INCONCLUSIVE
    assert rows["faster_than"].verdict.rule is not LatencyRule.NONE
    assert "fp16 was not timed" in rows["faster_than"].verdict.reason


def test_more_rounds_are_taken_for_what_they_can_settle_only():
    alone = {ENGINE: timings()}
    assert not judged.undecided(alone, None, Gates(speedup=2.0), 4, 1.0)  # no reference
    near = Gates(latency_ms=float(np.median(alone[ENGINE].samples_ms)))
    assert judged.undecided(alone, None, near, 4, 1.0)


def test_what_cannot_fail_takes_no_part_in_the_bound_on_false_alarms():
    rows = judged.compared({ENGINE: timings(), APPROVED: timings(1)}, None, Gates(faster_than="fp16"))
    limits = judged.limited({ENGINE: timings()}, None, Gates(speedup=2.0, latency_ms=5.0), 4)
    item: dict[str, Any] = {
        "check": "latency", "judged": [asdict(row.verdict) for row in rows],
        "limits": [asdict(row) for row in limits], "looks": [[12, 1.0]],
    }  # fmt: skip
    assert false_alarm.bound([item])["tests"] == 3  # median, p95 and the limit on the median


@pytest.mark.parametrize("changed", [{"of": "another version"}, {"mode": {"cuda_graph": False}}])
def test_a_session_names_its_reference_by_what_it_was_and_how_it_was_timed(changed: dict[str, Any]):
    engine, reference = timings(1), timings(2, ms=2)
    own = stored(1, {ENGINE: engine, REFERENCE: reference})
    assert own.reference == stored(2, {ENGINE: timings(3), REFERENCE: timings(4, ms=3)}).reference
    other = replace(reference, mode=replace(MODE, **changed.get("mode", {})))
    found = stored(1, {ENGINE: engine, REFERENCE: other}, changed.get("of", "the reference"))
    assert found.reference != own.reference
    assert stored(1, {ENGINE: engine}).reference is None


def test_ratios_to_another_reference_are_not_compared(suite: Suite):
    """A model that grew makes its reference slower as well: the ratio would stay, and the item pass."""
    suite.toml(LATENCY)
    assert suite.run("--trt-engine=fp32", "--trt-update-baselines", FAST).ret == 0
    [path] = (suite.path / "baselines").rglob("latency-b4-*.json")
    document = json.loads(path.read_text())
    [session] = document["sessions"]
    document["sessions"] = [{**session, "id": f"s{n}"} for n in range(5)]
    path.write_text(json.dumps(document))
    shutil.rmtree(suite.path / "cache" / "approved")

    def median() -> tuple[dict[str, Any], dict[str, Any]]:
        suite.run("--trt-engine=fp32", "-k", "latency-b4", FAST)
        [record] = latency_items(suite).values()
        return next(row for row in record["judged"] if row["what"] == "median"), record

    row, record = median()
    assert row["rule"] == "ratio"
    suite.model(suite_models.laboured())
    row, record = median()
    assert row["rule"] == "absolute"
    assert (row["verdict"], record["verdict"]) == ("fail", "fail")
    assert "the reference of 5 of 5 stored sessions was another one" in json.dumps(record["notes"])


@pytest.mark.parametrize(
    ("engine", "rival", "told"),
    [("fp32,engine.onnx", "engine", "the name of something else that is timed"),
     ("fp32,reference.onnx", "reference", "the name of something else that is timed"),
     ("other.onnx,fp16", "fp16", "emulated"), ("fp32", "fp61", "an engine that is not there")],
)  # fmt: skip
def test_a_rival_that_cannot_be_timed_is_told(suite: Suite, engine: str, rival: str, told: str):
    suite.toml(f'{LATENCY}[models.tiny.gates]\nfaster_than = "{rival}"\n')
    for name in engine.split(","):
        if name.endswith(".onnx"):
            suite.model(name=name)
    result = suite.run(f"--trt-engine={engine}", "-k", "latency-b4 and not fp16", FAST)
    assert result.ret == 1
    assert told in result.stdout.str()


@pytest.mark.parametrize(
    ("rival", "precision", "verdict"),
    [("fp16", "int8", "inconclusive"), ("fp16", "fp16", "pass"), ("int8", "fp16", "pass"),
     ("fp16", None, "inconclusive")],
)  # fmt: skip
def test_a_recording_cannot_show_that_it_is_faster_than_an_engine(
    suite: Suite, rival: str, precision: str | None, verdict: str
):
    suite.data(**suite_models.arrays(32))
    suite.toml(f'[models.tiny.latency]\n[models.tiny.gates]\nlatency_ms = 9\nfaster_than = "{rival}"\n')
    board = recorded_board(suite, "board", runs_of(0, 1))
    if precision is not None:
        sidecar = suite.path / "board" / "orin" / "recording.toml"
        sidecar.write_text(f'precision = "{precision}"\n{sidecar.read_text()}')
    suite.run(board, "-k", "latency")
    item = suite.item("orin", "latency")
    assert item["verdict"] == verdict
    assert (f"{rival} was not timed in the same rounds" in item["message"]) == (verdict == "inconclusive")


def test_a_limit_on_p95_is_not_kept_by_leaving_out_the_rounds_beyond_it():
    samples = timings().samples_ms.copy()
    samples[[3, 8], :20] = 10.0  # two rounds of twelve; 7 % of all queries
    timed = {ENGINE: Timings(MODE, samples, samples.sum(axis=1) / 1e3)}
    [row] = judged.limited(timed, None, Gates(latency_p95_ms=2.0), 4)
    assert (row.verdict, row.high) == (Verdict.INCONCLUSIVE, 10.0)
    assert row.measured == 10.0
    [row] = judged.limited({ENGINE: timings()}, None, Gates(latency_p95_ms=2.0), 4)
    assert row.verdict is Verdict.PASS
    assert row.measured == figures_of(timings(), 4)["p95_ms"]


def uneven(rounds: int = 12) -> dict[str, Timings]:
    """Rounds of 1 ms, in which 24 of 50 queries take 1.5; in two of them all do, and so in most of all."""
    samples = np.ones((12, 50))
    samples[:, :24] = samples[[3, 8]] = 1.5
    return {ENGINE: Timings(MODE, samples[:rounds], samples[:rounds].sum(axis=1) / 1e3)}


@pytest.mark.parametrize(
    ("gate", "limit", "verdict"),
    [("latency_ms", 0.9, Verdict.FAIL), ("latency_ms", 1.2, Verdict.INCONCLUSIVE),
     ("latency_ms", 1.5, Verdict.PASS), ("throughput", 3300.0, Verdict.FAIL),
     ("throughput", 3150.0, Verdict.INCONCLUSIVE), ("throughput", 3100.0, Verdict.PASS)],
)  # fmt: skip
def test_limits_are_held_against_all_queries_where_the_rounds_say_otherwise(
    gate: str, limit: float, verdict: Verdict
):
    [row] = judged.limited(uneven(), None, Gates(**{gate: limit}), 4)
    # 4 images in 1.24 ms a query, but in 1.5 in two rounds of twelve.
    low, measured, high = (0.993, 1.5, 1.5) if gate == "latency_ms" else (3116.9, 3116.9, 3248.4)
    assert (row.low, row.measured, row.high) == pytest.approx((low, measured, high), rel=1e-4)
    assert row.verdict is verdict


def test_a_limit_that_is_just_the_figure_is_kept():
    least = figures_of(uneven()[ENGINE], 4)["throughput"]
    [row] = judged.limited(uneven(), None, Gates(throughput=least), 4)
    assert (row.low, row.measured, row.verdict) == (least, least, Verdict.PASS)


def test_too_few_rounds_for_bounds_have_the_figure_of_all_queries_too():
    [row] = judged.limited(uneven(rounds=7), None, Gates(latency_ms=1.2), 4)
    assert (row.low, row.measured, row.high, row.verdict) == (None, 1.5, None, Verdict.INCONCLUSIVE)


def test_the_session_term_is_that_of_the_clock_and_of_sessions_of_the_approved_engine():
    host = replace(MODE, clock=Clock.HOST)
    own = {ENGINE: timings(ms=1e3)}
    on_host = {ENGINE: replace(own[ENGINE], mode=host)}
    assert judged.session_sd(own, None) == pytest.approx(0.0015, rel=1e-6)
    assert judged.session_sd(on_host, None) == 0.003
    wide = [replace(session, ratio=0.1 * n) for n, session in enumerate(FIVE.sessions)]
    assert judged.session_sd(own, baseline(*wide)) > 0.1
    others = [replace(session, engine_digest="sha256:another") for session in wide]
    assert judged.session_sd(own, baseline(*others)) == judged.session_sd(own, None)


TWINS = {ENGINE: timings(1, ms=0.0196, pause_ms=0), APPROVED: timings(2, ms=0.019, pause_ms=0)}
"""Of 19 microseconds, and .6 apart; two loadings of one engine were .5 apart on an H100."""


def told_of(timed: dict[str, Timings], gates: Gates = Gates()) -> Any:  # noqa: B008 (frozen)
    run = LatencyRun("cats", "fp16", 4, {}, "sha256:lowered", None, ".engine", stored(0, timed))
    result = LatencyResult(measurement(timed), (run,), {}, "onnxruntime-cuda", "fp16", Numerics.NATIVE)
    return outcome(result, gates, Standing({"message": ""}))


def test_medians_that_are_no_measure_of_the_change_are_told_as_what_they_are():
    """Times that jump to twice as much, for the slower engine two rounds earlier."""
    jumps = {APPROVED: timings(1), ENGINE: timings(2, ms=1.1)}
    for name, first in ((APPROVED, 7), (ENGINE, 5)):
        jumps[name].samples_ms[first:] *= 2
    median, p95, _ = told_of(jumps).message.split("; ")
    assert median.startswith(
        "at batch 4: median 1.002 ms -> 2.193 ms over all queries, round by round: 10 % slower than"
    )
    assert p95.startswith("p95 2.007 ms -> 2.209 ms: 10 % slower than")
    steady = told_of({APPROVED: timings(1), ENGINE: timings(2, ms=1.1)})
    assert steady.verdict is Verdict.FAIL
    assert "over all queries" not in steady.message


OPEN = {ENGINE: timings(3, ms=1.02), APPROVED: timings(4)}
"""Just as much slower as is accepted."""


@pytest.mark.parametrize(
    ("timed", "gates", "rounds"),
    [(OPEN, Gates(), 12),
     ({ENGINE: timings(), REFERENCE: timings(1, ms=2)}, Gates(latency_ms=1.0), 12),
     ({ENGINE: timings(3, ms=1.02, rounds=95), APPROVED: timings(4, rounds=95)}, Gates(), 95),
     # Eight times as many as were asked for are all that are made.
     ({ENGINE: timings(3, ms=1.02, rounds=96), APPROVED: timings(4, rounds=96)}, Gates(), None),
     (TWINS, Gates(), None),  # beyond the clock
     ({ENGINE: timings()}, Gates(latency_ms=1.0), None),  # a recording
     ({ENGINE: timings(), APPROVED: timings(1)}, Gates(speedup=2.0), None)],  # no reference
)  # fmt: skip
def test_more_rounds_are_offered_where_they_may_tell(
    timed: dict[str, Timings], gates: Gates, rounds: int | None
):
    found = told_of(timed, gates)
    assert found.verdict is Verdict.INCONCLUSIVE
    offered = [clause for clause in found.message.split("; ") if "--trt-latency-budget" in clause]
    told = [] if rounds is None else [f"more than {rounds} rounds may tell: a larger --trt-latency-budget"]
    assert offered == told


def test_engines_of_microseconds_do_not_fail_by_what_their_clock_cannot_tell():
    assert judged.session_sd(TWINS, None) == pytest.approx(0.0005 / 0.0196, rel=0.01)
    found = told_of(TWINS)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert [note for note in found.notes if "CUDA events are good to 0.5 µs, 2.6 % of this time" in note]
    on_host = {name: replace(timed, mode=replace(MODE, clock=Clock.HOST)) for name, timed in TWINS.items()}
    assert told_of(on_host).verdict is Verdict.FAIL
    assert not judged.undecided(TWINS, None, Gates(), 4, 1.0)  # more rounds would not help
    assert judged.undecided(
        {**TWINS, ENGINE: timings(3, ms=1.02), APPROVED: timings(4)}, None, Gates(), 4, 1.0
    )
    for gates, shown in ((Gates(latency_slowdown=0.2), Verdict.PASS), (Gates(), Verdict.FAIL)):
        slower = timings(1, ms=0.0196 if shown is Verdict.PASS else 0.025)
        found = told_of({**TWINS, ENGINE: slower}, gates)
        assert found.verdict is shown
        assert not any("CUDA events" in note for note in found.notes)


def test_what_the_clock_cannot_tell_counts_for_limits_and_stored_times_too():
    [row] = judged.limited(TWINS, None, Gates(latency_ms=0.0193), 4)
    assert row.verdict is Verdict.INCONCLUSIVE
    [row] = judged.limited(TWINS, None, Gates(latency_ms=0.022), 4)
    assert row.verdict is Verdict.PASS
    five = baseline(*(stored(n, {ENGINE: timings(n, ms=0.019)}) for n in range(5)))
    row = by_what(judged.compared({ENGINE: TWINS[ENGINE]}, five, Gates()))["median"]
    assert (row.verdict.rule, row.verdict.verdict) == (LatencyRule.ABSOLUTE, Verdict.INCONCLUSIVE)


def test_what_is_compared_leaves_out_own_sessions_and_ratios_to_another_reference():
    beside = FIVE.sessions[0].reference
    foreign = replace(FIVE.sessions[1], reference="sha256:another")
    found = comparable(baseline(FIVE.sessions[0], foreign, FIVE.sessions[2]), beside, {"s2"}).sessions
    assert [session.id for session in found] == ["s0", "s1"]
    assert found[0].ratio is not None
    assert (found[1].ratio, found[1].median_ms) == (None, foreign.median_ms)


def test_bounds_are_those_of_the_last_looks_share_of_alpha():
    timed = {ENGINE: timings(1), APPROVED: timings(2)}
    rows = [by_what(judged.compared(timed, None, Gates(), share))["median"].verdict for share in (1.0, 0.75)]
    measured = replace(measurement(timed), looks=((12, 0.75),))
    run = LatencyRun("cats", "fp16", 4, {}, "sha256:lowered", None, ".engine", stored(0, timed))
    result = LatencyResult(measured, (run,), {}, "onnxruntime-cuda", "fp16", Numerics.NATIVE)
    found = outcome(result, Gates(), Standing({"message": ""})).measured["judged"][0]
    assert found["alpha"] == rows[1].alpha != rows[0].alpha
    assert (found["low"], found["high"]) == (rows[1].low, rows[1].high)


@pytest.mark.parametrize(
    ("changes", "told"),
    [({"warm_up": WarmUp(False, 0.5, 100)}, "did not settle within 0.5 s"),
     ({"complete": False, "timings": {ENGINE: timings(rounds=7)}}, "only 7 rounds fitted"),
     ({"complete": False}, None), ({}, None)],
)  # fmt: skip
def test_what_speaks_against_a_measurement(changes: dict[str, Any], told: str | None):
    found = replace(measurement({ENGINE: timings()}), **changes).unhealthy
    assert [told in reason for reason in found] == [True] if told else found == ()
