"""Times that a device took by itself, read as a measurement."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import suite_models
from recordings_fake_trtexec import output_json, times_json
from suites import Suite

from trtcheck.case import LatencySpec, Verdict
from trtcheck.errors import EngineError
from trtcheck.judge import LatencyRule, latency_absolute, within
from trtcheck.latency.measurement import ENGINE, Measurement
from trtcheck.latency.recorded import recorded_measurement, session_ids
from trtcheck.latency.timing import Clock, TimingMode
from trtcheck.recordings import Recording, read_recording


def recording(
    folder: Path, *runs: list[float], transfers: bool = True, version: int = 10, said: str = "", rows: int = 8
) -> Recording:
    """A folder of one trtexec output, with a file of times for each of *runs*."""
    folder.mkdir()
    (folder / "0000.json").write_text(output_json({"scores": np.zeros((rows, 4), np.float32)}))
    names = [f"times-{number}.json" for number in range(len(runs))]
    for name, run in zip(names, runs, strict=True):
        (folder / name).write_text(times_json(run, transfers=transfers, version=version))
    (folder / "recording.toml").write_text(f"times = {names}\n{said}" if names else said)
    return read_recording(folder)


def measured(read: Recording, **spec: Any) -> Measurement:
    return recorded_measurement(read, LatencySpec(**spec))


def test_times_with_and_without_transfers(tmp_path: Path) -> None:
    read = recording(tmp_path / "board", [2.0, 4.0, 3.0])
    alone, whole = (measured(read, transfers=wanted).timings[ENGINE] for wanted in (False, True))
    np.testing.assert_allclose(whole.samples_ms, [[2.0, 4.0, 3.0]])
    np.testing.assert_allclose(alone.samples_ms, [[1.6, 3.2, 2.4]])  # a fifth is transfers
    assert alone.mode == TimingMode(Clock.DEVICE, False, None, None)
    assert whole.mode == TimingMode(Clock.DEVICE, True, None, None)


@pytest.mark.parametrize("version", [7, 8, 10, 11])
def test_throughput_is_that_of_the_whole_run(tmp_path: Path, version: int) -> None:
    # A query every 10 ms: the last one begins after 20 ms and takes 3.
    moved = version < 11
    found = measured(recording(tmp_path / "board", [2.0, 4.0, 3.0], version=version, transfers=moved))
    assert found.batch == 8
    np.testing.assert_allclose(found.timings[ENGINE].seconds, [0.023])
    assert found.joules_per_query is None


def test_how_it_was_timed_is_in_the_sidecar(tmp_path: Path) -> None:
    said = "cuda_graph = true\nspin_wait = false\npower_w = 10\n"
    found = measured(recording(tmp_path / "board", [2.0, 4.0, 3.0], said=said))
    assert found.timings[ENGINE].mode == TimingMode(Clock.DEVICE, False, True, False)
    # 10 W over 23 ms, in which there were three queries.
    assert found.joules_per_query == pytest.approx(0.23 / 3)


def test_a_run_is_cut_into_rounds(tmp_path: Path) -> None:
    times = [2.0 + number / 1000 for number in range(245)]
    read = recording(tmp_path / "board", times, transfers=False, version=11)
    found = measured(read)
    samples, seconds = found.timings[ENGINE].samples_ms, found.timings[ENGINE].seconds
    np.testing.assert_allclose(samples, np.reshape(times[:240], (12, 20)), rtol=1e-5)
    np.testing.assert_allclose(seconds[:11], 0.2)  # a query every 10 ms
    np.testing.assert_allclose(seconds[11], 0.19 + 0.002239, rtol=1e-5)
    assert found.looks == ((12, 1.0),)
    assert measured(read, rounds=20).timings[ENGINE].samples_ms.shape == (20, 12)
    assert measured(read, rounds=1000).timings[ENGINE].samples_ms.shape == (24, 10)  # no fewer than 10


def test_every_run_has_its_rounds(tmp_path: Path) -> None:
    first, second = [2.0] * 100, [3.0] * 130
    found = measured(recording(tmp_path / "board", first, second)).timings[ENGINE]
    assert found.samples_ms.shape == (20, 10)  # the longer one counts with as many queries as the shorter
    np.testing.assert_allclose(np.median(found.samples_ms, axis=1), [1.6] * 10 + [2.4] * 10)
    few = measured(recording(tmp_path / "few", [2.0, 4.0, 3.0], [2.5, 3.5, 4.5, 9.0])).timings[ENGINE]
    np.testing.assert_allclose(few.samples_ms, [[1.6, 3.2, 2.4], [2.0, 2.8, 3.6]])
    np.testing.assert_allclose(few.seconds, [0.023, 0.0245])


def test_runs_are_told_apart_by_their_times(tmp_path: Path) -> None:
    first, second = [2.0, 4.0], [2.0, 4.5]
    one, other = session_ids(recording(tmp_path / "board", first, second))
    assert one != other
    assert session_ids(recording(tmp_path / "again", first)) == (one,)  # the same file, wherever it lies
    assert session_ids(recording(tmp_path / "none")) == ()


def test_a_run_that_became_slower_all_the_time_was_not_warm(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.01, 240)
    steady = recording(tmp_path / "steady", (2 + noise).tolist())
    ramp = recording(tmp_path / "ramp", (2 + noise + np.linspace(0, 0.4, 240)).tolist())
    assert measured(steady).warm_up.plateau
    assert not measured(ramp).warm_up.plateau
    assert measured(recording(tmp_path / "short", [2.0, 2.2, 2.4])).warm_up.plateau  # too few to see a trend
    assert measured(steady).health.unknown != ()


def test_times_that_were_written_without_starts_follow_each_other(tmp_path: Path) -> None:
    read = recording(tmp_path / "board", [1.0])
    (tmp_path / "board" / "times-0.json").write_text(
        '[{"latencyMs": 2, "computeMs": 1.5}, {"latencyMs": 4, "computeMs": 3.5}]'
    )
    read = read_recording(read.path)
    np.testing.assert_allclose(measured(read).timings[ENGINE].seconds, [0.006])


def test_the_batch_is_what_a_query_held(tmp_path: Path) -> None:
    assert measured(recording(tmp_path / "one", [1.0], rows=3)).batch == 3
    assert measured(recording(tmp_path / "said", [1.0], said="batch = 16\nimages = 5")).batch == 16
    np.savez(tmp_path / "board.npz", scores=np.zeros((6, 4), np.float32))
    (tmp_path / "t.json").write_text(times_json([1.0]))
    sidecar = tmp_path / "board.recording.toml"
    sidecar.write_text('times = "t.json"')
    with pytest.raises(EngineError) as caught:
        measured(read_recording(tmp_path / "board.npz"))
    assert str(caught.value) == (
        f"{sidecar}: how many images a timed query had is not known\n"
        "  expected: batch = (images of a query) in the sidecar\n"
        "  found:    6 rows in one npz file"
    )
    sidecar.write_text('times = "t.json"\nbatch = 2')
    assert measured(read_recording(tmp_path / "board.npz")).batch == 2


def test_transfers_that_were_not_timed_are_not_made_up(tmp_path: Path) -> None:
    read = recording(tmp_path / "board", [2.0, 3.0], transfers=False, version=11)
    with pytest.raises(EngineError) as caught:
        measured(read, transfers=True)
    message = str(caught.value)
    assert message.startswith(f"{read.path / 'recording.toml'}: the recording's times hold no transfers")
    assert "transfers = true" in message
    assert "--includeDataTransfers" in message


def test_a_recording_without_times_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r'the recording has no times[^$]*times = "times\.json"'):
        measured(recording(tmp_path / "none"))
    with pytest.raises(EngineError, match=r"laps\.json is not there"):
        measured(recording(tmp_path / "lost", said='times = "laps.json"'))


def test_a_computation_of_no_time_is_refused(tmp_path: Path) -> None:
    read = recording(tmp_path / "board", [2.0])
    (read.path / "times-0.json").write_text('[{"latencyMs": 2, "computeMs": 0, "h2dMs": 2}]')
    read = read_recording(read.path)
    assert measured(read, transfers=True).timings[ENGINE].samples_ms.tolist() == [[2.0]]
    with pytest.raises(EngineError, match="a query took no time"):
        measured(read)


@pytest.mark.parametrize(
    "entry",
    [{"latencyMs": 1e300, "computeMs": 1.0}, {"latencyMs": 1e-320, "computeMs": 1e-320},
     {"latencyMs": 2.0, "computeMs": 1e-300}, {"latencyMs": 2.0, "computeMs": 1.0, "startH2dMs": 1e308},
     {"latencyMs": 2.0, "computeMs": 1.0, "startH2dMs": -1.0}],
)  # fmt: skip
def test_times_that_no_device_takes_are_damage(tmp_path: Path, entry: dict[str, float]) -> None:
    read = recording(tmp_path / "board", [2.0])
    (read.path / "times-0.json").write_text(json.dumps([{"latencyMs": 2.0, "computeMs": 1.5}, entry]))
    with pytest.raises(EngineError) as caught:
        read_recording(read.path)
    assert "times-0.json: entry 1 is no time" in str(caught.value)
    assert "1e-06" in str(caught.value)


def test_times_in_another_order_than_they_were_taken_are_refused(tmp_path: Path) -> None:
    read = recording(tmp_path / "board", [2.0, 3.0, 4.0])
    path = read.path / "times-0.json"
    path.write_text(json.dumps(json.loads(path.read_text())[::-1]))
    with pytest.raises(EngineError, match="entry 1 began before the one above it"):
        read_recording(read.path)


@pytest.mark.parametrize("key", ["batch", "images"])
def test_sizes_of_a_sidecar_are_no_larger_than_any_array(tmp_path: Path, key: str) -> None:
    with pytest.raises(EngineError, match=f"{key} has a wrong value"):
        recording(tmp_path / "board", [2.0], said=f"{key} = 1{'0' * 400}\n")


# Judged by the same functions


def runs_of(seed: int, count: int, median: float = 2.0) -> list[list[float]]:
    """Times of *count* runs of 240 queries, whose medians differ by .3 % as those of processes do."""
    rng = np.random.default_rng(seed)
    levels = median * np.exp(rng.normal(0, 0.003, count))
    return [(level * np.exp(rng.normal(0, 0.01, 240))).tolist() for level in levels]


def test_a_recording_s_times_are_judged_as_any_others_are(tmp_path: Path) -> None:
    def samples(name: str, runs: list[list[float]]) -> np.ndarray:
        return measured(recording(tmp_path / name, *runs)).timings[ENGINE].samples_ms

    approved = samples("approved", runs_of(0, 6)).reshape(6, -1)
    same, slower = samples("same", runs_of(1, 1)), samples("slower", runs_of(2, 1, median=2.2))
    medians = np.median(approved, axis=1)
    for now, expected in ((same, Verdict.PASS), (slower, Verdict.FAIL)):
        verdict = latency_absolute(medians, float(np.median(now)), tolerance=0.03)
        assert (verdict.verdict, verdict.rule, verdict.sessions) == (expected, LatencyRule.ABSOLUTE, 6)
    few = latency_absolute(medians[:4], float(np.median(same)))
    assert (few.verdict, few.rule) == (Verdict.INCONCLUSIVE, LatencyRule.NONE)
    # About 1.76 ms of computation.
    assert within(slower, 2.0).verdict is Verdict.PASS
    assert within(slower, 1.5).verdict is Verdict.FAIL


def recorded_board(suite: Suite, folder: str, runs: list[list[float]]) -> str:
    """A recording of the suite's model at batch 8 with a file of times for each of *runs*."""
    path = suite.path / folder / "orin"
    path.mkdir(parents=True)
    pixels = suite_models.images(32)[0].astype(np.float32).reshape(32, 1, 8, 8) / 255
    session = onnxruntime.InferenceSession(str(suite.path / "model.onnx"), providers=["CPUExecutionProvider"])
    for number in range(4):
        answers = session.run(None, {"images": pixels[8 * number : 8 * number + 8]})[0]
        (path / f"{number:04d}.json").write_text(output_json({"scores": answers}))
    names = [f"times-{number}.json" for number in range(len(runs))]
    for name, run in zip(names, runs, strict=True):
        (path / name).write_text(times_json(run))
    (path / "recording.toml").write_text(f'times = {names}\ndevice = "Orin"\npower_w = 10\n')
    return f"--trt-engine={folder}/orin"


def test_a_recording_is_approved_and_the_next_one_compared(suite: Suite) -> None:
    suite.model()
    suite.data(**suite_models.arrays(32))
    limits = "[models.tiny.gates]\nlatency_slowdown = 0.03\nlatency_ms = 2.0\nenergy_mj = {}\n"
    suite.toml(f"[models.tiny.latency]\n{limits.format(20)}")
    base = recorded_board(suite, "base", runs_of(0, 6))
    suite.run(base, "-k", "latency", "--trt-update-baselines").assert_outcomes(passed=1, deselected=5)
    same, slower = (
        recorded_board(suite, name, runs_of(1, 1, median))
        for name, median in (("same", 2.0), ("slower", 2.3))
    )
    suite.run(same, "-k", "latency").assert_outcomes(passed=1, deselected=5)
    item = suite.item("orin", "latency")
    assert (item["batch"], item["numerics"]) == (8, "recorded")
    assert item["judged"][0]["sessions"] == 6
    assert item["energy_mj"] == pytest.approx(12.5, rel=0.01)  # 10 W for 10 ms and 8 images
    assert item["health"]["unknown"] != []
    failed = suite.run(slower, "-k", "latency")
    failed.assert_outcomes(failed=1, deselected=5)
    failed.stdout.fnmatch_lines(["*1[45] % slower than what 6 stored sessions predict*"])
    suite.toml(f"[models.tiny.latency]\n{limits.format(12)}")
    failed = suite.run(same, "-k", "latency")
    failed.assert_outcomes(failed=1, deselected=5)
    failed.stdout.fnmatch_lines(["*energy 12.*at most 12*"])


def test_a_recording_is_not_passed_off_as_another_batch_size(suite: Suite) -> None:
    suite.data(**suite_models.arrays(32))
    board = recorded_board(suite, "now", runs_of(1, 1))
    suite.pytester.makepyfile(
        test_board="""
        import pytest

        @pytest.mark.parametrize("batch", [8, 16])
        def test_speed(trt_check, batch):
            assert trt_check.latency(batch=batch, ms=100.0).measured["batch"] == 8
        """
    )
    result = suite.run("test_board.py", board)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*orin was recorded at another batch size*", "*batch 16*", "*batch 8*"])


def test_limits_may_be_those_of_a_recordings_batch_size(suite: Suite) -> None:
    suite.data(**suite_models.arrays(32))
    board = recorded_board(suite, "now", runs_of(1, 1))
    suite.toml("[models.tiny.latency]\n[models.tiny.gates]\nlatency_ms = {8 = 0.5}\n")
    assert suite.run(board, "-k", "latency").ret == 1
    [record] = [item for item in suite.report()["items"] if item["check"] == "latency"]
    assert (record["verdict"], record["limits"][0]["limit"]) == ("fail", 0.5)


def test_times_that_trend_are_inconclusive_and_not_approved(suite: Suite) -> None:
    suite.data(**suite_models.arrays(32))
    suite.toml("[models.tiny.latency]\n[models.tiny.gates]\nlatency_ms = 3\n")
    ramp = recorded_board(suite, "ramp", [np.linspace(1.0, 2.5, 400).tolist()])
    suite.run(ramp, "-k", "latency", "--trt-update-baselines")
    item = suite.item("orin", "latency")
    assert item["verdict"] == "inconclusive"
    assert "did not settle" in item["message"]
    assert item["health"]["reasons"] != []
    assert not list((suite.path / "baselines").rglob("latency-*.json"))


@pytest.mark.parametrize("limits", ["{9 = 1.0}", "{1 = 1.0}"])
def test_limits_that_leave_out_the_batch_of_a_recording_are_refused(suite: Suite, limits: str) -> None:
    suite.data(**suite_models.arrays(32))
    suite.toml(f"[models.tiny.latency]\n[models.tiny.gates]\nlatency_ms = {limits}\n")
    failed = suite.run(recorded_board(suite, "board", runs_of(0, 1)), "-k", "latency")
    failed.assert_outcomes(failed=1, deselected=5)
    failed.stdout.fnmatch_lines(["*latency_ms of tiny has no limit for the batch size of the recording orin*",
                                 "*expected: a limit for batch 8*"])  # fmt: skip


def test_a_limit_for_the_batch_of_a_recording_is_held_against_it(suite: Suite) -> None:
    suite.data(**suite_models.arrays(32))
    suite.toml("[models.tiny.latency]\n[models.tiny.gates]\nlatency_ms = {1 = 9.0, 8 = 1.0}\n")
    suite.run(recorded_board(suite, "board", runs_of(0, 1)), "-k", "latency").assert_outcomes(
        failed=1, deselected=5
    )
    [limit] = suite.item("orin", "latency")["limits"]
    assert (limit["gate"], limit["limit"], limit["verdict"]) == ("latency_ms", 1.0, "fail")


def test_a_rival_that_is_not_there_is_told_of_a_recording_too(suite: Suite) -> None:
    suite.data(**suite_models.arrays(32))
    suite.toml('[models.tiny.latency]\n[models.tiny.gates]\nfaster_than = "nope"\n')
    failed = suite.run(recorded_board(suite, "board", runs_of(0, 1)), "-k", "latency")
    failed.stdout.fnmatch_lines(
        ["*faster_than names an engine that is not there: 'nope'*",
         "*expected: fp32, *, or of --trt-engine: orin", "*found: *nope",
         "*try: *faster_than in [[]models.NAME.gates]: * its name without the ending"]
    )  # fmt: skip


def test_a_recording_is_not_compared_with_its_own_times(suite: Suite) -> None:
    suite.data(**suite_models.arrays(32))
    suite.toml("[models.tiny.latency]\n")
    board = recorded_board(suite, "board", runs_of(0, 6))
    suite.run(board, "-k", "latency", "--trt-update-baselines")
    suite.run(board, "-k", "latency")
    item = suite.item("orin", "latency")
    assert item["judged"][0]["rule"] == "none"
    assert "these very times are among the approved ones" in " ".join(item["notes"])
    assert item["latency_baseline"]["status"] == "too few"
    assert item["verdict"] == "inconclusive"
