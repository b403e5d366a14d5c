"""Several workers: the same report, every engine evaluated once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import suite_models

from trtcheck.cache import MANIFEST, Cache

COUNTING = """
    from pathlib import Path

    from trtcheck.session import Workbench

    HERE = Path(__file__).parent

    def counted(name, wanted):
        plain = getattr(Workbench, name)

        def count(self, case, engine, *rest):
            with (HERE / f"{name}.log").open("a") as log:
                print(f"{case.name}[{engine.name}]", file=log)
            return plain(self, case, engine, *rest)

        setattr(Workbench, name, count)

    counted("_evaluate", 1)
    counted("_build", 1)
"""


def without_run(suite, folder: str) -> dict[str, Any]:
    document = suite.report(folder)
    del document["run"], document["history"]
    return document


def logged(path: Path) -> list[str]:
    lines = sorted(path.read_text().splitlines())
    path.unlink()
    return lines


@pytest.fixture
def mixed(suite):
    """One model that passes, one that overflows, one whose data are broken; and tests in Python."""
    suite.model(suite_models.overflowing(), "overflowing.onnx")
    suite.toml(name="over", file="over.trtcheck.toml", onnx="overflowing.onnx")
    suite.data("few.npz", **suite_models.arrays(4))
    suite.toml(name="few", file="few.trtcheck.toml", data="few.npz")
    suite.data("broken.npz", **(suite_models.arrays() | {"labels": [9] * 240}))
    suite.toml(name="broken", file="broken.trtcheck.toml", data="broken.npz")
    suite.pytester.makepyfile(
        test_python="""
        import pytest

        @pytest.mark.trtcheck(model="tiny")
        def test_recall(trt_check):
            trt_check.recall(drop=0.01)
        """
    )
    return suite


def test_serial_and_two_workers_give_the_same_report_but_for_the_run(mixed):
    serial = mixed.run("--trt-engine=fp16,int8", cache="a", report="one", process=True)
    workers = mixed.run(
        "--trt-engine=fp16,int8", "-n2", cache="b", report="two", process=True, plugins=["xdist"]
    )
    assert serial.parseoutcomes() == {"passed": 30, "failed": 6, "errors": 11, "inconclusive": 7}
    assert workers.parseoutcomes() == serial.parseoutcomes()
    assert (serial.ret, workers.ret) == (1, 1)
    assert without_run(mixed, "one") == without_run(mixed, "two")
    assert (mixed.report("one")["run"]["workers"], mixed.report("two")["run"]["workers"]) == (0, 2)
    workers.stdout.fnmatch_lines(
        ["FAIL over.trtcheck.toml::over[[]fp16[]]::recall: * reaches *", "*recall of 'left' *"]
    )


@pytest.mark.parametrize(
    ("workers", "plugins"), [([], []), (["-n2"], ["xdist"])], ids=["serial", "two workers"]
)
def test_every_engine_is_evaluated_once_a_session_and_again_in_the_next(suite, workers, plugins):
    suite.pytester.makeconftest(COUNTING)
    suite.model(suite_models.overflowing())
    for session in range(2):
        result = suite.run("--trt-engine=fp32,fp16,int8", *workers, plugins=plugins, process=True)
        assert result.parseoutcomes()["passed"] == 12
        assert logged(suite.path / "_evaluate.log") == ["tiny[fp16]", "tiny[fp32]", "tiny[int8]"]
        assert logged(suite.path / "_build.log") == ["tiny[fp16]", "tiny[fp32]", "tiny[int8]"]
        assert {e["cached"] for e in suite.report()["engines"]} == {session > 0}


def test_an_evaluation_that_fails_is_not_tried_again_by_every_item(suite):
    suite.pytester.makeconftest(COUNTING)
    suite.data(**(suite_models.arrays() | {"labels": [9] * 240}))
    suite.run("--trt-engine=fp16", "-n2", plugins=["xdist"], process=True)
    assert logged(suite.path / "_evaluate.log") == ["tiny[fp16]"]


def test_two_models_of_one_file_say_the_same_of_the_cache(suite):
    suite.toml(name="twin", file="twin.trtcheck.toml")
    for cached in (False, True):
        suite.run("--trt-engine=fp16", "-k", "build").assert_outcomes(passed=2)
        assert [e["cached"] for e in suite.report()["engines"]] == [cached, cached]


def test_only_reference_lowered_models_and_engines_outlive_a_session(suite):
    suite.run("--trt-engine=fp16,int8")
    folders = sorted(path.name for path in (suite.path / "cache").iterdir())
    assert folders == ["engines", "lowered", "reference", "sessions"]
    assert not list((suite.path / "cache" / "sessions").iterdir())

    def kept() -> dict[Path, object]:
        """When each file was written; a manifest's time is that of its last use, so its text counts."""
        files = [
            path for path in (suite.path / "cache").rglob("*") if path.is_file() and path.suffix != ".lock"
        ]
        return {
            path: path.read_text() if path.name == "manifest.json" else path.stat().st_mtime_ns
            for path in files
        }

    before = kept()
    suite.run("--trt-engine=fp16,int8")
    assert kept() == before


def test_the_shared_folder_goes_with_the_session(suite, monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    suite.run("--trt-engine=fp16", "-n2", plugins=["xdist"], process=True).assert_outcomes(passed=6)
    assert not list(tmp_path.glob("trtcheck-*"))


def test_a_damaged_cache_entry_is_made_anew(suite):
    suite.run("--trt-engine=fp16")
    [engine] = (suite.path / "cache" / "engines").glob("*/*.onnx")
    engine.write_bytes(b"damaged")
    suite.run("--trt-engine=fp16").assert_outcomes(passed=6)
    assert suite.item("fp16", "build")["cached"] is False


@pytest.mark.parametrize("change", ["exclude", "calibration", "model"])
def test_what_a_lowered_model_depends_on_is_part_of_its_key(suite, change):
    suite.run("--trt-engine=int8", "-k", "build")
    if change == "exclude":
        suite.toml("[models.tiny.int8]\nexclude = ['compare']")
    elif change == "calibration":
        suite.data("calibration.npz", images=suite_models.images(64, seed=2)[0])
    else:
        suite.model(suite_models.classifier(blind=0.1))
    suite.run("--trt-engine=int8", "-k", "build")
    assert suite.item("int8", "build")["cached"] is False


def test_workers_share_the_processors(mixed):
    mixed.pytester.makeconftest(
        """
        from pathlib import Path

        from trtcheck.backends.onnxruntime import OnnxRuntimeCpu

        plain = OnnxRuntimeCpu.__init__

        def told(self, **given):
            with (Path(__file__).parent / "threads.log").open("a") as log:
                print(given["threads"], file=log)
            plain(self, **given)

        OnnxRuntimeCpu.__init__ = told
        """
    )
    mixed.run("--trt-engine=fp16", "-n2", plugins=["xdist"], process=True)
    from trtcheck.environment import usable_cores

    assert set(logged(mixed.path / "threads.log")) == {str(max(1, usable_cores() // 2))}


def old_entry(folder: Path) -> Path:
    """A cache entry that nobody used for years."""
    made = Cache(folder).get_or_make("engines", "00" * 20, lambda _folder: {}).folder
    os.utime(made / MANIFEST, (1e9, 1e9))
    return made


def test_the_cache_is_trimmed_after_a_run_but_for_what_it_used(suite):
    old = old_entry(suite.path / "cache")
    suite.run("--trt-engine=fp16", "--trt-cache-size=1KB").assert_outcomes(passed=6)
    assert not old.exists()
    kept = {path.parent.parent.name for path in (suite.path / "cache").glob(f"*/*/{MANIFEST}")}
    assert kept == {"engines", "lowered", "reference"}


def test_a_cache_that_cannot_be_trimmed_ends_no_session(suite):
    suite.pytester.makeconftest(
        """
        from trtcheck.cache import Cache

        def trim(self, limit, *, unused_since):
            raise OSError("cannot")

        Cache.trim = trim
        """
    )
    result = suite.run("--trt-engine=fp16", process=True)
    result.assert_outcomes(passed=6)
    assert result.ret == 0


def test_other_tests_leave_the_cache_alone(suite):
    old = old_entry(suite.path / "cache")
    suite.pytester.makepyfile("def test_mine(): pass")
    result = suite.run("-n", "2", "--trt-cache-size=0KB", "test_other_tests_leave_the_cache_alone.py",
                       plugins=("xdist",))  # fmt: skip
    result.assert_outcomes(passed=1)
    assert old.exists()
