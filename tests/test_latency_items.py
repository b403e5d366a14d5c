"""Latency items of a suite: what is collected, timed, compared, approved and said."""

from __future__ import annotations

import json
import shutil
from typing import Any
from xml.etree import ElementTree

import numpy as np
import onnx
import pytest
import suite_models
from onnx import helper, numpy_helper
from suites import Suite

from trtcheck.latency import health, plateau
from trtcheck.latency.measurement import Health

LATENCY = "[models.tiny.latency]\nbatches = [1, 4]\nrounds = 8\n"
FAST = "--trt-latency-budget=5"


def latency_items(suite: Suite, folder: str = "reports") -> dict[str, dict[str, Any]]:
    """Records of the latency items by the end of their node id."""
    return {
        i["nodeid"].partition("::")[2]: i for i in suite.report(folder)["items"] if i["check"] == "latency"
    }


class FakeQuietWatch:
    """Stands in for what watches the machine: other tests run beside these, on the same processor."""

    def __init__(self, gpu_uuid: str | None, *, threads: int) -> None:
        assert gpu_uuid is None
        assert threads >= 1

    def __enter__(self) -> FakeQuietWatch:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def sample(self) -> None:
        pass

    def end(self) -> Health:
        return Health()

    def energy_joules(self) -> None:
        return None


@pytest.fixture(autouse=True)
def _at_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the machine pass for one at rest, and times that do not settle for ones that do."""
    monkeypatch.setattr(health, "watch", FakeQuietWatch)
    monkeypatch.setattr(plateau, "settled", lambda medians: len(medians) >= 2)


@pytest.fixture
def timed(suite: Suite) -> Suite:
    """A suite whose model is timed at two batch sizes."""
    suite.toml(LATENCY)
    return suite


def test_one_item_an_engine_and_batch_size_and_none_without_the_table(suite: Suite) -> None:
    suite.toml(LATENCY)
    collected = suite.run("--trt-engine=fp32,fp16", "--collect-only", "-q").stdout.str()
    for engine in ("fp32", "fp16"):
        for batch in (1, 4):
            assert f"tiny[{engine}]::latency-b{batch}" in collected
    suite.toml()
    assert "latency" not in suite.run("--trt-engine=fp32", "--collect-only", "-q").stdout.str()


def test_fp32_is_timed_on_the_cpu_and_what_is_emulated_is_skipped_with_the_reason(timed: Suite) -> None:
    result = timed.run("--trt-engine=fp32,fp16", "-k", "latency", FAST, "-rs")
    items = latency_items(timed)
    assert "only fp32 is native" in result.stdout.str()
    assert {name: items[name]["verdict"] for name in items if "fp16" in name} == {
        "tiny[fp16]::latency-b1": "skipped", "tiny[fp16]::latency-b4": "skipped",
    }  # fmt: skip
    record = items["tiny[fp32]::latency-b4"]
    assert record["batch"] == 4
    assert record["timing"] == {
        "clock": "host", "transfers": False, "cuda_graph": False, "spin_wait": False,
    }  # fmt: skip
    figures = record["latency"]
    assert 0 < figures["min_ms"] <= figures["median_ms"] <= figures["p95_ms"] <= figures["p99_ms"]
    assert "p99" in figures["indicative"]
    assert record["contestants"]["reference"]["median_ms"] > 0
    low, ratio, high = (record["speedups"]["reference"][name] for name in ("low", "ratio", "high"))
    assert low <= ratio <= high
    # Nothing is approved yet: measured, and compared with nothing.
    assert record["verdict"] == "inconclusive"
    assert "no latency baseline yet" in record["message"]
    assert "--trt-update-baselines" in record["message"]


def test_what_is_approved_is_timed_beside_the_engine_in_the_next_session(timed: Suite) -> None:
    first = timed.run("--trt-engine=fp32", "--trt-update-baselines", FAST)
    assert first.ret == 0
    files = sorted(path.name for path in (timed.path / "baselines" / "tiny" / "fp32").glob("latency-*.json"))
    assert [name.split("-")[1] for name in files] == ["b1", "b4"]
    second = timed.run("--trt-engine=fp32", "-k", "latency", FAST)
    assert second.ret == 0
    for record in latency_items(timed).values():
        median = next(row for row in record["judged"] if row["what"] == "median")
        assert median["rule"] == "interleaved"
        assert record["latency_baseline"]["status"] == "compared"
        assert record["verdict"] != "fail"


def test_a_slower_model_fails_against_the_approved_engine(timed: Suite) -> None:
    """The approved engine is one convolution; the new one does the same work many times over."""
    assert timed.run("--trt-engine=fp32", "--trt-update-baselines", FAST).ret == 0
    timed.model(suite_models.laboured())
    result = timed.run("--trt-engine=fp32", "-k", "latency-b4", FAST)
    [record] = latency_items(timed).values()
    assert record["verdict"] == "fail", record["message"]
    assert result.ret == 1
    assert "slower than the approved engine" in record["message"]
    assert "changed since the baseline was approved" in json.dumps(record["notes"])


def test_a_fixed_batch_size_that_is_not_asked_for_is_an_error_with_the_line_to_write(suite: Suite) -> None:
    suite.model(suite_models.classifier(batch=4))
    suite.toml("[models.tiny.latency]\nbatches = [1]\n")
    result = suite.run("--trt-engine=fp32", "-k", "latency")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*its batch size is fixed*", "*batches = [[]4[]]*"])


def of_pairs() -> onnx.ModelProto:
    """The classifier with a shape of two images in it, whose batch size is open all the same."""
    made = suite_models.classifier()
    [flatten] = [node for node in made.graph.node if node.op_type == "Flatten"]
    flatten.CopyFrom(helper.make_node("Reshape", ["halves", "pair"], ["flat"], name="pair up"))
    made.graph.initializer.append(numpy_helper.from_array(np.array([2, 2]), "pair"))
    return made


def test_a_batch_size_that_breaks_an_engine_is_told_with_the_line_to_change(timed: Suite) -> None:
    timed.model(of_pairs())
    timed.toml(LATENCY, batch=2)
    result = timed.run("--trt-engine=fp32", "-k", "recall or latency-b4", FAST)
    result.assert_outcomes(passed=1, failed=1, deselected=6)
    result.stdout.fnmatch_lines(
        ["*model.onnx: tiny[[]fp32] cannot be timed at batch 4",
         "*expected: a model that takes 4 images, as it takes 2",
         "*found: *failed on a batch; found: *Reshape*",
         "*try: *take 4 out of batches in [[]models.tiny.latency]"]
    )  # fmt: skip
    # At the size of the other checks it is no matter of batches.
    timed.toml(LATENCY, batch=4)
    result = timed.run("--trt-engine=fp32", "-k", "latency-b4", FAST)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*failed on a batch"])
    result.stdout.no_fnmatch_line("*cannot be timed*")


def test_why_the_approved_engine_took_no_part_is_told_where_nothing_is_compared(timed: Suite) -> None:
    options = ("--trt-engine=fp32", "-k", "latency-b4", FAST)
    assert timed.run(*options, "--trt-update-baselines").ret == 0
    shutil.rmtree(timed.path / "cache" / "approved")
    timed.run(*options)
    [record] = latency_items(timed).values()
    assert record["verdict"] == "inconclusive"
    [_, missing, absent, hint] = record["message"].split("; ")
    assert missing == "1 stored session, 5 are needed: 4 more"
    assert absent.endswith("is not kept on this machine")
    assert hint.startswith("try: approve once more here (--trt-update-baselines), and keep the cache folder")


@pytest.mark.parametrize(
    ("gate", "verdict"),
    [("latency_ms = 100000.0", "pass"), ("latency_ms = {4 = 1e-7}", "fail"), ("speedup = 1e6", "fail"),
     ("throughput = {1 = 1e-9, 4 = 1e9}", "fail")],
)  # fmt: skip
def test_limits_are_judged_where_nothing_is_approved(suite: Suite, gate: str, verdict: str) -> None:
    suite.toml(f"{LATENCY}[models.tiny.gates]\n{gate}\n")
    suite.run("--trt-engine=fp32", "-k", "latency-b4", FAST)
    [record] = latency_items(suite).values()
    assert record["verdict"] == verdict, record["message"]
    assert record["limits"][0]["verdict"] == verdict


def test_an_approval_under_strict_stays_possible_although_nothing_is_compared(timed: Suite) -> None:
    assert timed.run("--trt-engine=fp32", "--trt-update-baselines", "--trt-strict", FAST).ret == 0
    assert timed.run("--trt-engine=fp32", "-k", "nothing_like_it", "--trt-strict").ret == 5


def test_the_fixture_times_one_batch_size(suite: Suite) -> None:
    suite.toml(LATENCY)
    suite.pytester.makepyfile(
        """
        def test_fast_enough(trt_check):
            outcome = trt_check.latency(batch=2, ms=1e5)
            assert outcome.measured["batch"] == 2
            assert outcome.measured["latency"]["samples"] > 0
        """
    )
    result = suite.run("test_the_fixture_times_one_batch_size.py", "--trt-engine=fp32", FAST)
    assert result.ret == 0
    [record] = [i for i in suite.report()["items"] if i["check"] == "latency"]
    assert record["batch"] == 2


@pytest.mark.parametrize("text", ["0", "-3", "soon", "1e9", "", "2", "\u0663\u0660"])
def test_a_budget_that_is_none_is_a_usage_error(timed: Suite, text: str) -> None:
    result = timed.run("--trt-engine=fp32", f"--trt-latency-budget={text or ' '}")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*--trt-latency-budget*"])


@pytest.mark.parametrize(
    "line",
    ["batches = []", "batches = [0]", "batches = [1, 1]", 'batches = "1"', "rounds = 3", 'spin_wait = "yes"',
     "batch = 4", "batches = [2147483647]"],
)  # fmt: skip
def test_a_wrong_latency_table_is_a_collection_error_that_names_the_key(suite: Suite, line: str) -> None:
    suite.toml(f"[models.tiny.latency]\n{line}\n")
    result = suite.run("--trt-engine=fp32")
    assert result.ret == 2
    result.stdout.fnmatch_lines([f"*models.tiny.latency.{line.split(' ')[0]}*"])


def test_checks_that_name_latency_need_the_table(suite: Suite) -> None:
    suite.toml(checks=["latency"])
    result = suite.run("--trt-engine=fp32")
    assert result.ret == 2
    result.stdout.fnmatch_lines(["*models.tiny.checks names latency*"])


def test_a_budget_of_the_ini_file_is_named_as_what_it_is(timed: Suite) -> None:
    result = timed.run("--trt-engine=fp32", "-o", "trt_latency_budget=soon")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*ini key trt_latency_budget is no time*"])
    kept = timed.run("--trt-engine=fp32", "-o", "trt_latency_budget=soon", FAST, "--collect-only", "-q")
    assert kept.ret == 0  # the command line comes first


@pytest.mark.parametrize(
    ("limit", "found"),
    [("{16 = 1e-9}", 16), ('{1 = 5.0, "8" = 9.0}', 8), ("{4 = 1.0, 40 = 10.0}", 40)],
)  # fmt: skip
def test_a_limit_for_a_batch_size_that_is_not_timed_would_hold_whatever_happens(
    suite: Suite, limit: str, found: int
) -> None:
    suite.toml(f"{LATENCY}[models.tiny.gates]\nlatency_p95_ms = {limit}\n")
    result = suite.run("--trt-engine=fp32", FAST)
    assert result.ret == 2
    result.stdout.fnmatch_lines(
        ["*models.tiny.gates.latency_p95_ms has a limit for a batch size that is not timed*",
         "*one of batches = [[]1, 4[]]*", f"*found: *batch {found}"]
    )  # fmt: skip
    # Where latency is not among the checks, the limits are those of tests in Python.
    suite.toml(f"{LATENCY}[models.tiny.gates]\nlatency_p95_ms = {limit}\n", checks=["build"])
    assert suite.run("--trt-engine=fp32", FAST).ret == 0


@pytest.mark.parametrize("key", ["\uff11", "\u00b2", "-1", "0", " 1", "1_0", ""])
def test_batch_sizes_of_limits_are_plain_digits(suite: Suite, key: str) -> None:
    suite.toml(f'{LATENCY}[models.tiny.gates]\nlatency_ms = {{"{key}" = 5.0}}\n')
    result = suite.run("--trt-engine=fp32", FAST)
    assert result.ret == 2
    result.stdout.fnmatch_lines(["*models.tiny.gates.latency_ms has a wrong value*"])


@pytest.mark.parametrize(
    "wrong",
    ["batch='x'", "batch=''", "batch=0", "batch=-1", "batch=True", "batch=1.5", "batch=float('nan')",
     "batch=10**12", "batch=2**31 - 1", "batch=[1]", "ms='x'", "ms=float('nan')", "ms={2: 1e-9}",
     "p95_ms={4: 1e-9}", "throughput_drop=1", "speedup=0", "faster_than=''", "slowdown=-0.1"],
)  # fmt: skip
def test_what_the_fixture_cannot_time_is_a_failure_that_names_the_argument(suite: Suite, wrong: str) -> None:
    suite.pytester.makepyfile(test_wrong=f"def test_wrong(trt_check): trt_check.latency({wrong})")
    result = suite.run("test_wrong.py", "--trt-engine=fp32", FAST)
    assert result.ret == 1
    name = wrong.partition("=")[0]
    result.stdout.re_match_lines([rf".*trt_check\.latency\(\): (latency_)?{name} has a wrong value"])
    [record] = [i for i in suite.report()["items"] if i["check"] == "latency"]
    assert record["verdict"] == "error"


def test_a_mark_that_names_no_model_is_a_sentence(suite: Suite) -> None:
    suite.pytester.makepyfile(
        test_mark="""
        import pytest

        @pytest.mark.trtcheck(model=["tiny"])
        def test_mark(trt_check):
            trt_check.build()
        """
    )
    result = suite.run("test_mark.py", "--trt-engine=fp32")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*which model is meant?*", "*found: *tiny*"])


def test_what_was_held_against_limits_comes_back_from_workers(timed: Suite) -> None:
    with (timed.path / "trtcheck.toml").open("a") as file:
        file.write("\n[models.tiny.gates]\nlatency_ms = 60000\nthroughput = 0.001\n")
    args = ("--trt-engine=fp32", "-k", "latency", FAST, "-n", "1")
    assert timed.run(*args, plugins=["xdist"], process=True, report="one").ret == 0
    limits = latency_items(timed, "one")["tiny[fp32]::latency-b1"]["limits"]
    assert [row["gate"] for row in limits] == ["latency_ms", "throughput"]


def test_workers_time_as_one_process_does(timed: Suite) -> None:
    args = ("--trt-engine=fp32,fp16", "-k", "latency", FAST)
    assert timed.run(*args, "-n", "2", plugins=["xdist"], process=True, report="two").ret == 0
    items = latency_items(timed, "two")
    assert {name: item["verdict"] for name, item in items.items()} == {
        "tiny[fp32]::latency-b1": "inconclusive", "tiny[fp32]::latency-b4": "inconclusive",
        "tiny[fp16]::latency-b1": "skipped", "tiny[fp16]::latency-b4": "skipped",
    }  # fmt: skip
    record = items["tiny[fp32]::latency-b4"]
    assert record["batch"] == 4
    assert len(record["round_medians_ms"]["engine"]) == len(record["round_medians_ms"]["reference"]) >= 1


def test_figures_stand_in_junit_by_model_engine_and_batch_size(timed: Suite) -> None:
    timed.run("--trt-engine=fp32", "-k", "latency-b4", FAST, "--junitxml=junit.xml")
    properties = {
        found.get("name"): found.get("value")
        for found in ElementTree.parse(timed.path / "junit.xml").iter("property")
    }
    prefix = "trtcheck.tiny.fp32.latency.b4"
    assert properties[f"{prefix}.verdict"] == "inconclusive"
    assert float(properties[f"{prefix}.median_ms"]) > 0
    assert float(properties[f"{prefix}.throughput"]) > 0
    assert not any(name.startswith("trtcheck.tiny.fp32.latency.b1") for name in properties)


@pytest.fixture
def _serial(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets inner runs have pytest-benchmark where these tests run in a worker: there it turns itself off."""
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)


@pytest.mark.usefixtures("_serial")
def test_items_of_a_suite_are_rows_of_pytest_benchmark(timed: Suite) -> None:
    args = ("--trt-engine=fp32,fp16", FAST)
    result = timed.run(*args, "--benchmark-only", "--benchmark-json=rows.json", plugins=["benchmark"])
    assert result.ret == 0
    rows = {row["name"]: row for row in json.loads((timed.path / "rows.json").read_text())["benchmarks"]}
    assert sorted(rows) == ["tiny[fp32]::latency-b1", "tiny[fp32]::latency-b4"]
    items = latency_items(timed)
    assert set(items) == {
        f"tiny[{engine}]::latency-b{size}" for engine in ("fp32", "fp16") for size in (1, 4)
    }
    row, record = rows["tiny[fp32]::latency-b4"], items["tiny[fp32]::latency-b4"]
    assert row["stats"]["median"] == pytest.approx(record["latency"]["median_ms"] / 1e3)
    assert row["stats"]["rounds"] == record["latency"]["samples"]
    assert row["extra_info"]["environment"] == record["environment_digest"]
    assert (row["extra_info"]["precision"], row["extra_info"]["batch"]) == ("fp32", 4)


@pytest.mark.parametrize("flag", ["--benchmark-disable", "--benchmark-skip"])
def test_pytest_benchmark_may_forbid_timing_and_nothing_else(timed: Suite, flag: str) -> None:
    result = timed.run("--trt-engine=fp32", "--trt-update-baselines", flag, plugins=["benchmark"])
    assert result.ret == 0
    assert "skipped" in str(result.parseoutcomes())
    assert timed.item("fp32", "recall")["verdict"] == "pass"
    assert not list((timed.path / "baselines").rglob("latency-*"))


@pytest.mark.usefixtures("_serial")
def test_a_rerun_is_one_record_and_one_row(timed: Suite) -> None:
    timed.toml(f"{LATENCY}[models.tiny.gates]\nlatency_ms = 1e-9\n")
    result = timed.run(
        "--trt-engine=fp32", "-k", "latency-b4", FAST, "--reruns=2", "--benchmark-json=rows.json",
        plugins=["benchmark", "rerunfailures"],
    )  # fmt: skip
    assert result.ret == 1
    assert result.parseoutcomes()["rerun"] == 2
    assert [record["verdict"] for record in latency_items(timed).values()] == ["fail"]
    assert len(json.loads((timed.path / "rows.json").read_text())["benchmarks"]) == 1


def test_only_builds_means_that_nothing_is_timed(timed: Suite) -> None:
    collected = timed.run("--trt-engine=fp32", "--trt-build-only", "--collect-only", "-q").stdout.str()
    assert "tiny[fp32]::build" in collected
    assert "latency" not in collected
