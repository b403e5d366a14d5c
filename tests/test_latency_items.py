"""Latency items of a suite: what is collected, timed, compared, approved and said."""

from __future__ import annotations

import json
from typing import Any

import pytest

from conftest import Suite
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
    import suite_models

    assert timed.run("--trt-engine=fp32", "--trt-update-baselines", FAST).ret == 0
    timed.model(suite_models.laboured())
    result = timed.run("--trt-engine=fp32", "-k", "latency-b4", FAST)
    [record] = latency_items(timed).values()
    assert record["verdict"] == "fail", record["message"]
    assert result.ret == 1
    assert "slower than the approved engine" in record["message"]
    assert "changed since the baseline was approved" in json.dumps(record["notes"])


def test_a_fixed_batch_size_that_is_not_asked_for_is_an_error_with_the_line_to_write(suite: Suite) -> None:
    import suite_models

    suite.model(suite_models.classifier(batch=4))
    suite.toml("[models.tiny.latency]\nbatches = [1]\n")
    result = suite.run("--trt-engine=fp32", "-k", "latency")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*its batch size is fixed*", "*batches = [[]4[]]*"])


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


@pytest.mark.parametrize("text", ["0", "-3", "soon", "1e9", ""])
def test_a_budget_that_is_none_is_a_usage_error(timed: Suite, text: str) -> None:
    result = timed.run("--trt-engine=fp32", f"--trt-latency-budget={text or ' '}")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*--trt-latency-budget*"])


@pytest.mark.parametrize(
    "line",
    ["batches = []", "batches = [0]", "batches = [1, 1]", 'batches = "1"', "rounds = 3", 'spin_wait = "yes"',
     "batch = 4"],
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
