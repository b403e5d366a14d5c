"""Several workers: the same report, every engine evaluated once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import suite_models

from trtcheck.cache import MANIFEST, Cache
from trtcheck.spread import model_of, unit_of

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

    counted("_compared", 1)
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


def test_serial_and_three_workers_give_the_same_report_but_for_the_run(mixed):
    serial = mixed.run("--trt-engine=fp16,int8", cache="a", report="one", process=True)
    workers = mixed.run(
        "--trt-engine=fp16,int8", "-n3", cache="b", report="two", process=True, plugins=["xdist"]
    )
    assert serial.parseoutcomes() == {"passed": 30, "failed": 6, "errors": 11, "inconclusive": 7}
    assert workers.parseoutcomes() == serial.parseoutcomes()
    assert (serial.ret, workers.ret) == (1, 1)
    assert without_run(mixed, "one") == without_run(mixed, "two")
    assert (mixed.report("one")["run"]["workers"], mixed.report("two")["run"]["workers"]) == (0, 3)
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
        assert logged(suite.path / "_compared.log") == ["tiny[fp16]", "tiny[fp32]", "tiny[int8]"]
        assert logged(suite.path / "_build.log") == ["tiny[fp16]", "tiny[fp32]", "tiny[int8]"]
        assert {e["cached"] for e in suite.report()["engines"]} == {session > 0}


def test_an_evaluation_that_fails_is_not_tried_again_by_every_item(suite):
    suite.pytester.makeconftest(COUNTING)
    suite.data(**(suite_models.arrays() | {"labels": [9] * 240}))
    suite.run("--trt-engine=fp16", "-n2", plugins=["xdist"], process=True)
    assert logged(suite.path / "_compared.log") == ["tiny[fp16]"]


def test_two_models_of_one_file_say_the_same_of_the_cache(suite):
    suite.toml(name="twin", file="twin.trtcheck.toml")
    for cached in (False, True):
        suite.run("--trt-engine=fp16", "-k", "build").assert_outcomes(passed=2)
        assert [e["cached"] for e in suite.report()["engines"]] == [cached, cached]


def test_nothing_that_an_engine_answers_outlives_a_session(suite):
    suite.run("--trt-engine=fp16,int8")
    folders = sorted(path.name for path in (suite.path / "cache").iterdir())
    assert folders == ["calibration", "engines", "lowered", "reference", "sessions"]
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
    assert not [path for path in tmp_path.glob("trtcheck-*") if path.is_dir()]


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


@pytest.mark.parametrize(
    ("nodeid", "unit", "model"),
    [
        ("a/trtcheck.toml::resnet[int8]::recall", "a/trtcheck.toml::resnet[int8]", "a/trtcheck.toml::resnet"),
        ("x.trtcheck.toml::v-2[q8.b]::latency-b8", "x.trtcheck.toml::v-2[q8.b]", "x.trtcheck.toml::v-2"),
        ("trtcheck.toml::resnet", "trtcheck.toml::resnet", None),  # skipped: no engine was asked for
        ("test_x.py::test_recall[int8]", "test_x.py[int8]", "test_x.py"),
        ("test_x.py::TestIt::test_recall[a-int8-b]", "test_x.py[int8]", "test_x.py"),
        ("test_x.py::test_recall[net-int8]", "test_x.py[net-int8]", "test_x.py"),  # an engine of that name
        ("test_x.py::test_recall[int80]", "test_x.py::test_recall[int80]", None),
        ("test_x.py::test_int8", "test_x.py::test_int8", None),
    ],
)
def test_an_engine_of_a_model_is_one_unit_of_work_and_any_other_test_its_own(nodeid, unit, model):
    assert unit_of(nodeid, ["fp32", "int8", "net-int8"]) == unit
    assert model_of(unit) == model


WHO = """
    import os
    from pathlib import Path

    import pytest

    HERE = Path(__file__).parent


    def pytest_runtest_setup(item):
        with (HERE / "who.log").open("a") as log:
            print(os.environ.get("PYTEST_XDIST_WORKER", "-"), item.nodeid, file=log)


    def pytest_sessionfinish(session):
        sessions = session.config.pluginmanager.getplugin("dsession")
        if sessions is not None:
            (HERE / "scheduler.log").write_text(type(sessions.sched).__name__)
"""


@pytest.fixture
def three(suite):
    """Three models with two engines each and tests in Python; who runs what is logged."""
    for name in ("second", "third"):
        suite.toml(name=name, file=f"{name}.trtcheck.toml")
    suite.pytester.makeconftest(WHO)
    suite.pytester.makepyfile(
        test_python="""
        import pytest

        @pytest.mark.trtcheck(model="tiny")
        def test_recall(trt_check):
            trt_check.recall(drop=0.5)

        @pytest.mark.parametrize("limit", [0.5, 0.6])
        def test_accuracy(trt_check, limit):
            trt_check.accuracy(drop=limit)

        @pytest.mark.parametrize("number", range(20))
        def test_other(number):
            pass
        """
    )
    return suite


def ran(suite) -> list[tuple[str, str]]:
    """Worker and item of every item that ran, in that order."""
    path = suite.path / "who.log"
    lines = [line.split(maxsplit=1) for line in path.read_text().splitlines()]
    path.unlink()
    return [(worker, item) for worker, item in lines]


def units(items: list[tuple[str, str]]) -> dict[str, set[str]]:
    """The workers of every engine of a model."""
    found: dict[str, set[str]] = {}
    for worker, item in items:
        unit = unit_of(item, ["fp16", "fp32", "int8"])
        if model_of(unit) is not None:
            found.setdefault(unit, set()).add(worker)
    return found


def scheduler(suite) -> str:
    return (suite.path / "scheduler.log").read_text()


@pytest.mark.parametrize(
    "more",
    [((), ()), ((), ("randomly",)), (("--reruns=1",), ("rerunfailures",))],
    ids=["plainly", "shuffled", "with reruns"],
)
def test_an_engine_stays_with_one_worker(three, more):
    options, plugins = more
    result = three.run("--trt-engine=fp16,fp32", "-n3", *options, plugins=["xdist", *plugins], process=True)
    assert set(result.parseoutcomes()) <= {"passed", "inconclusive"}
    items = ran(three)
    found = units(items)
    assert len(items) == len(set(items)) == 3 * 2 * 6 + 2 * 3 + 20
    assert len(found) == 3 * 2 + 2
    assert {len(workers) for workers in found.values()} == {1}
    assert scheduler(three) == "EngineScheduling"


def test_workers_begin_with_different_models_so_that_one_computes_the_reference(three):
    three.run("--trt-engine=fp16,fp32", "-n3", "-k", "toml", plugins=["xdist"], process=True)
    first: dict[str, str] = {}
    for worker, item in ran(three):
        first.setdefault(worker, str(model_of(unit_of(item, ()))))
    assert sorted(first.values()) == sorted(
        ["trtcheck.toml::tiny", "second.trtcheck.toml::second", "third.trtcheck.toml::third"]
    )


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ((), "LoadScheduling"),
        (("--trt-engine=fp16", "--dist=worksteal"), "WorkStealingScheduling"),
        (("--trt-engine=fp16", "--dist=loadfile"), "LoadFileScheduling"),
        (("--trt-engine=fp16", "--dist=each"), "EachScheduling"),
    ],
)
def test_who_asks_for_no_engine_or_another_order_gets_that_of_xdist(three, options, name):
    three.run(*options, "-n2", "-k", "build or other", plugins=["xdist"], process=True)
    assert scheduler(three) == name


def test_the_ini_asks_for_engines_too(three):
    three.pytester.makeini("[pytest]\ntrt_engine = fp16,fp32")
    three.run("-n3", plugins=["xdist"], process=True)
    assert {len(workers) for workers in units(ran(three)).values()} == {1}


@pytest.fixture
def broken(three):
    """One of the models fails at what it answers."""
    three.model(suite_models.overflowing(), "overflowing.onnx")
    three.toml(name="second", file="second.trtcheck.toml", onnx="overflowing.onnx")
    return three


def test_last_failed_and_exit_first_work_with_several_workers(broken):
    xdist = {"plugins": ["xdist"], "process": True}
    failed = broken.run("--trt-engine=fp16", "-n3", **xdist).parseoutcomes()["failed"]
    assert failed > 1
    ran(broken)
    again = broken.run("--trt-engine=fp16", "-n3", "--lf", **xdist)
    assert again.parseoutcomes()["failed"] == failed
    assert {unit_of(item, ()) for _worker, item in ran(broken)} == {"second.trtcheck.toml::second[fp16]"}
    for option in ("-x", "--maxfail=1"):
        result = broken.run("--trt-engine=fp16", "-n3", option, **xdist)
        assert 1 <= result.parseoutcomes()["failed"] < failed
        result.stdout.fnmatch_lines(["*stopping after 1 failures*"])


def test_an_item_that_ends_its_worker_fails_once_and_the_others_of_its_engine_run(three):
    three.pytester.makepyfile(
        test_python="""
        import os

        def test_first(trt_precision):
            pass

        def test_ends(trt_precision):
            os._exit(3)

        def test_last(trt_precision):
            pass
        """
    )
    result = three.run(
        "--trt-engine=fp16,fp32,int8", "-n3", "test_python.py", plugins=["xdist"], process=True
    )
    result.assert_outcomes(passed=6, failed=3)
    items = [item for _worker, item in ran(three)]
    assert len(items) == len(set(items)) == 9


TIMED = """
    import time
    from contextlib import contextmanager
    from pathlib import Path

    from trtcheck import comparison
    from trtcheck.latency import contest

    HERE = Path(__file__).parent


    @contextmanager
    def logged(what):
        began = time.monotonic()
        yield
        with (HERE / "times.log").open("a") as log:
            print(what, began, time.monotonic(), file=log)


    def wrap(module, name):
        plain = getattr(module, name)

        def wrapped(*args, **options):
            with logged(name):
                return plain(*args, **options)

        setattr(module, name, wrapped)


    wrap(contest, "_timed")

    import trtcheck.streaming

    wrap(trtcheck.streaming, "stream")
"""


def test_nobody_evaluates_while_another_worker_times_on_the_same_device(suite):
    suite.pytester.makeconftest(TIMED)
    for number in range(4):
        suite.toml(
            f"[models.m{number}.latency]\nrounds = 9\nbatches = [1]\n", name=f"m{number}",
            file=f"m{number}.trtcheck.toml",
        )  # fmt: skip
    suite.run(
        "--trt-engine=fp32", "--trt-latency-budget=5", "-n3", "-k", "outputs or latency", "m0.trtcheck.toml",
        "m1.trtcheck.toml", "m2.trtcheck.toml", "m3.trtcheck.toml", plugins=["xdist"], process=True,
    )  # fmt: skip
    lines = [line.split() for line in (suite.path / "times.log").read_text().splitlines()]
    spans = [(what, float(began), float(ended)) for what, began, ended in lines]
    timed = [span for span in spans if span[0] == "_timed"]
    assert (len(timed), len(spans)) == (4, 8)
    for what, began, ended in timed:
        others = [span for span in spans if span != (what, began, ended)]
        assert not [span for span in others if span[1] < ended and began < span[2]]


def test_an_engine_that_must_be_faster_than_another_is_timed_beside_it_by_one_worker(suite):
    suite.model(name="other.onnx")
    suite.toml(
        '[models.tiny.latency]\nrounds = 9\nbatches = [4]\n[models.tiny.gates]\nfaster_than = "other"\n'
    )
    suite.run(
        "--trt-engine=fp32,other.onnx", "--trt-latency-budget=5", "-n2", "-k", "latency", plugins=["xdist"],
        process=True,
    )  # fmt: skip
    item = suite.item("fp32", "latency")
    assert item["verdict"] in ("pass", "fail", "inconclusive")
    assert "other" in item["contestants"]
