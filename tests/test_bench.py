"""What pytest-benchmark shows of latency checks, and what it may forbid; the times here are made up."""

from __future__ import annotations

import json
from typing import Any

import pytest

PLUGIN = """
    import logging
    from dataclasses import replace

    import pytest

    from trtcheck import bench
    from trtcheck.case import Check, Outcome, Verdict

    TIMES = {"fp32": [4.0, 5.0, 6.0], "fp16": [1.0, 2.0, 3.0, 10.0]}

    def measured(engine, batch):
        return Outcome(
            model="tiny", engine=engine, check=Check.LATENCY, verdict=Verdict.PASS, message="",
            measured={
                "batch": batch, "latency": {}, "backend": "onnxruntime-cpu",
                "environment_digest": "0123456789abcdef", "precision": engine,
                "timing": {"clock": "host", "transfers": False, "cuda_graph": None, "spin_wait": None},
            },
        )

    def timed(item, engine, batch):
        off = bench.timing_off(item.config)
        if off is not None:
            pytest.skip(off)
        print(f"timed {item.name} at {batch}")
        bench.record(item, measured(engine, batch), TIMES[engine])

    class Item(pytest.Item):
        def __init__(self, *, check, engine, batch, **kwargs):
            super().__init__(**kwargs)
            self.check, self.engine, self.batch = check, engine, batch

        def runtest(self):
            if self.check is Check.LATENCY:
                timed(self, self.engine, self.batch)

        def reportinfo(self):
            return self.path, 0, self.name

    class File(pytest.File):
        def collect(self):
            for engine in TIMES:
                for check, size in ((Check.RECALL, ""), (Check.LATENCY, "-b8")):
                    yield Item.from_parent(
                        self, name=f"tiny[{engine}]::{check.value}{size}", check=check, engine=engine, batch=8
                    )

    def pytest_collect_file(file_path, parent):
        if file_path.suffix == ".timed":
            return File.from_parent(parent, path=file_path)

    @pytest.hookimpl(wrapper=True)
    def pytest_collection_modifyitems(config, items):
        with bench.counted(config, items):
            yield
        assert not any("benchmark" in getattr(item, "fixturenames", ()) for item in items)

    class Checks:
        def __init__(self, item):
            self.item = item

        def latency(self, batch):
            timed(self.item, "fp16", batch)

    @pytest.fixture
    def trt_check(request):
        return Checks(request.node)
"""
TESTS = """
    def test_speed(trt_check):
        trt_check.latency(batch=1)
        trt_check.latency(batch=8)

    def test_other(trt_check):
        pass
"""
LATENCY = [f"tiny[{engine}]::latency-b8" for engine in ("fp32", "fp16")]


class Project:
    """A folder with items that time and items that do not, in which pytest can be run."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester
        self.path = pytester.path
        pytester.makeconftest(PLUGIN)
        pytester.makefile(".timed", tiny="")
        pytester.makefile(".ini", pytest="[pytest]\n")

    def run(self, *args: str, plugins: tuple[str, ...] = ("benchmark",)) -> pytest.RunResult:
        loaded = [argument for plugin in plugins for argument in ("-p", plugin)]
        return self.pytester.runpytest_subprocess(*loaded, "-W", "error", "-v", *args)

    def rows(self, *args: str) -> list[dict[str, Any]]:
        """The rows of pytest-benchmark's JSON."""
        assert self.run("--benchmark-json=rows.json", *args).ret == 0
        rows: list[dict[str, Any]] = json.loads((self.path / "rows.json").read_text())["benchmarks"]
        return rows


@pytest.fixture
def project(pytester, monkeypatch):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)  # these tests may run in one
    return Project(pytester)


def verdicts(result: pytest.RunResult) -> dict[str, str]:
    """``PASSED`` or ``SKIPPED`` by name of the test."""
    lines = [line.split() for line in result.outlines if "::" in line and "%]" in line]
    return {words[0].partition("::")[2]: words[1] for words in lines}


def test_precisions_stand_side_by_side_in_the_table(project):
    result = project.run()
    result.assert_outcomes(passed=4)
    result.stdout.re_match_lines_random([
        r"-* benchmark 'tiny latency-b8': 2 tests -*",
        r"tiny\[fp16\]::latency-b8 +1\.0000 \(1\.0\) +10\.0000 .* 2\.5000 ",
        r"tiny\[fp32\]::latency-b8 +4\.0000 \(4\.00\) +6\.0000 .* 5\.0000 ",
    ])  # fmt: skip


def test_the_json_has_every_time_and_what_was_timed(project):
    rows = {row["name"]: row for row in project.rows()}
    assert list(rows) == LATENCY
    row = rows[LATENCY[1]]
    assert row["fullname"] == f"tiny.timed::{LATENCY[1]}"
    assert row["stats"]["data"] == [0.001, 0.002, 0.003, 0.01]
    assert row["extra_info"] == {
        "model": "tiny", "engine": "fp16", "precision": "fp16", "batch": 8, "backend": "onnxruntime-cpu",
        "environment": "0123456789abcdef", "clock": "host",
    }  # fmt: skip
    assert row["options"]["transfers"] is False


def test_a_test_that_times_two_batch_sizes_has_two_rows(project):
    project.pytester.makepyfile(test_speed=TESTS)
    names = [f"test_speed.py::test_speed::latency-b{batch}" for batch in (1, 8)]
    assert [row["fullname"] for row in project.rows("test_speed.py")] == names


def test_rows_can_be_grouped_by_engine(project):
    result = project.run("--benchmark-group-by=param:engine")
    result.stdout.fnmatch_lines_random(
        ["* benchmark 'engine=fp16': 1 tests *", "* benchmark 'engine=fp32': 1 tests *"]
    )


def test_a_saved_run_is_compared_with(project):
    assert project.run("--benchmark-save=before").ret == 0
    project.pytester.makeconftest(PLUGIN.replace("[1.0, 2.0, 3.0, 10.0]", "[2.0, 4.0, 6.0, 20.0]"))
    result = project.run("--benchmark-compare", "--benchmark-columns=median")
    result.stdout.re_match_lines_random(
        [r"tiny\[fp16\]::latency-b8 \(0001_before\) +2\.5", r"tiny\[fp16\]::latency-b8 \(NOW\) +5\.0"]
    )
    failed = project.run("--benchmark-compare", "--benchmark-compare-fail=median:50%")
    assert failed.ret != 0
    failed.stderr.fnmatch_lines(["*fp16*median*100.00*"])


def test_autosave_keeps_a_run(project):
    assert project.run("--benchmark-autosave").ret == 0
    [saved] = (project.path / ".benchmarks").rglob("0001_*.json")
    assert [row["name"] for row in json.loads(saved.read_text())["benchmarks"]] == LATENCY


def test_only_what_times_runs_with_only(project):
    project.pytester.makepyfile(test_speed=TESTS)
    assert verdicts(project.run("--benchmark-only")) == {
        "test_speed": "PASSED", "test_other": "SKIPPED",
        "tiny[fp32]::recall": "SKIPPED", "tiny[fp32]::latency-b8": "PASSED",
        "tiny[fp16]::recall": "SKIPPED", "tiny[fp16]::latency-b8": "PASSED",
    }  # fmt: skip


def test_what_times_is_left_out_with_skip(project):
    project.pytester.makepyfile(test_speed=TESTS)
    assert verdicts(project.run("--benchmark-skip")) == {
        "test_speed": "SKIPPED", "test_other": "PASSED",
        "tiny[fp32]::recall": "PASSED", "tiny[fp32]::latency-b8": "SKIPPED",
        "tiny[fp16]::recall": "PASSED", "tiny[fp16]::latency-b8": "SKIPPED",
    }  # fmt: skip


def test_nothing_is_timed_where_benchmarks_are_disabled(project):
    result = project.run("--benchmark-disable", "-rs", "-s")
    result.assert_outcomes(passed=2, skipped=2)
    result.stdout.no_fnmatch_line("timed *")
    result.stdout.fnmatch_lines(["SKIPPED*nothing is timed: --benchmark-disable"])


@pytest.mark.parametrize("flags", [
    ["--benchmark-disable", "--benchmark-enable"],
    ["--benchmark-skip", "--benchmark-only"],
])  # fmt: skip
def test_a_flag_that_another_overrides_counts_for_nothing(project, flags):
    assert [row["name"] for row in project.rows(*flags)] == LATENCY


@pytest.mark.parametrize("flags", [["-p", "no:benchmark"], []])
def test_everything_is_timed_without_pytest_benchmark(project, flags):
    project.pytester.makepyfile(test_speed=TESTS)
    result = project.run(*flags, "-s", plugins=())
    result.assert_outcomes(passed=6)
    assert sum("timed " in line for line in result.outlines) == 4


def test_workers_time_though_pytest_benchmark_turns_itself_off(project):
    result = project.run("-n2", "-rP", plugins=("benchmark", "xdist"))
    result.assert_outcomes(passed=4)
    assert sorted(line for line in result.outlines if line.startswith("timed ")) == sorted(
        f"timed {name} at 8" for name in LATENCY
    )
    result.stdout.no_fnmatch_line("* benchmark *tests*")


def test_a_test_that_is_run_again_has_one_row(project):
    project.pytester.makeconftest(
        PLUGIN.replace("bench.record(", "bench.record(item, measured(engine, batch), [9.0]); bench.record(")
    )
    assert [len(row["stats"]["data"]) for row in project.rows()] == [3, 4]


def test_another_pytest_benchmark_is_told_in_the_log_and_makes_no_rows(project):
    project.pytester.makeconftest(
        PLUGIN + "\n    def pytest_sessionstart(session):\n"
        "        del session.config._benchmarksession.disabled\n"
        "\n    def pytest_runtestloop(session):\n        pass\n"
    )
    result = project.run("-rP", "--log-level=WARNING")
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(["*no latency in pytest-benchmark's table: this version*AttributeError*"])
    result.stdout.no_fnmatch_line("* benchmark *tests*")
