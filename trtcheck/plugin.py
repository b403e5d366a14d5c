"""The pytest plugin: options, hooks and nothing else; everything heavy is imported where it is needed."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from trtcheck.fixtures import ort_baseline, trt_case, trt_check, trt_engine, trt_precision
from trtcheck.state import known_runtime, runtime_of

if TYPE_CHECKING:
    from trtcheck.items import SuiteFile

__all__ = ["ort_baseline", "trt_case", "trt_check", "trt_engine", "trt_precision"]

_OPTIONS = (
    ("engine", "LIST", "engines to test, comma-separated: fp32, tf32, fp16, bf16, int8, or paths of .onnx "
     "files, TensorRT engines or recorded outputs"),
    ("backend", "NAME", "what runs the engines: auto (default), tensorrt, tensorrt-rtx, onnxruntime, "
     "onnxruntime-cuda or onnxruntime-cpu"),
    ("baselines", "DIR", "folder of the approved results (default: baselines)"),
    ("report", "DIR", "folder of the report (default: reports)"),
    ("history", "DIR", "folder in which every run is kept for the report's history, or none (default: "
     "history in the report's folder)"),
    ("cache", "DIR", "folder of lowered models, engines and reference answers (default: the user's cache)"),
    ("cache-size", "SIZE", "what the cache may take after a run, the oldest go first; none for no limit "
     "(default: 20GB)"),
    ("latency-budget", "SECONDS", "what measuring one engine at one batch size may take (default: 30)"),
    ("modelopt-python", "PATH", "the Python that has NVIDIA's ModelOpt (default: the one that runs pytest)"),
    ("shards", "K", "cut every data set over K processes of this machine; with --trt-executor: into K parts"),
    ("executor", "URL", "the Dask scheduler whose workers evaluate the parts: dask://HOST:PORT or "
     "dask+file:PATH"),
    ("reference", "PLACE", "where the FP32 reference runs: auto (default: on the GPU beside an engine that "
     "runs there), cpu or cuda"),
    ("devices", "LIST", "GPUs to use, one for each worker of pytest-xdist: all, or numbers such as 0,2"),
)  # fmt: skip
_FLAGS = (
    ("update-baselines", "approve this run's results: write the baselines of every engine that neither "
     "failed nor erred"),
    ("build-only", "build the engines and check nothing else; TensorRT for RTX builds without a GPU"),
    ("strict", "fail items that are inconclusive"),
    ("rebuild", "make engines and lowered models anew instead of taking them from the cache"),
)  # fmt: skip


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds one group of options, each with an ini key of the same meaning."""
    group = parser.getgroup("trtcheck", "accuracy and performance regressions of TensorRT engines")
    for name, metavar, text in _OPTIONS:
        group.addoption(f"--trt-{name}", metavar=metavar, default=None, help=text)
        key = f"trt_{name.replace('-', '_')}"
        parser.addini(key, f"as --trt-{name}: {text}", type="string", default="")
    for name, text in _FLAGS:
        group.addoption(f"--trt-{name}", action="store_true", default=False, help=text)


def pytest_configure(config: pytest.Config) -> None:
    """Reads what was asked for, and starts collecting results where this process reports them."""
    config.addinivalue_line(
        "markers",
        "trtcheck(model=NAME, **gates): the model of trtcheck.toml that trt_case takes, and limits "
        "(recall_drop, precision_drop, latency_slowdown, …) for trt_check",
    )
    if _anything_asked(config):
        runtime_of(config)  # now, so that what cannot be used is told before anything begins
    if not hasattr(config, "workerinput"):
        from trtcheck.recorder import Recorder

        config.pluginmanager.register(Recorder(config), "trtcheck-recorder")


def _anything_asked(config: pytest.Config) -> bool:
    """Whether an option or ini key of ours is given."""
    names = [name for name, *_ in (*_OPTIONS, *_FLAGS)]
    keys = [f"trt_{name.replace('-', '_')}" for name, *_ in _OPTIONS]
    return any(config.getoption(f"--trt-{name}") not in (None, False) for name in names) or any(
        config.getini(key) for key in keys
    )


def pytest_unconfigure(config: pytest.Config) -> None:
    """Removes the session's shared results."""
    runtime = known_runtime(config)
    if runtime is not None:
        runtime.close()


@pytest.hookimpl(wrapper=True)
def pytest_sessionstart(session: pytest.Session) -> Generator[None, None, None]:
    """Meets the workers of an executor, before the header tells of them."""
    runtime = known_runtime(session.config)
    if runtime is not None:
        runtime.meet_crew()
    return (yield)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tells a worker of pytest-xdist where the session's results are shared, and which GPU is its own."""
    from trtcheck import devices

    runtime = runtime_of(node.config)
    node.workerinput["trtcheck_shared"] = str(runtime.shared)
    node.workerinput["trtcheck_gpus"] = devices.to_worker(runtime.settings.gpus, node.gateway.spec.env)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config, specs: Sequence[Any]) -> None:
    """Gives each worker on this machine a GPU: its process has it before any code of the tests runs.

    A worker that is started in place of one that died gets its specification, and with it its GPU.
    """
    from trtcheck import devices

    gpus = runtime_of(config).settings.gpus
    devices.place((spec.env for spec in specs if spec.popen), gpus)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keeps the items of an engine with one worker, where engines are tested in the order of ``load``."""
    engines = runtime_of(config).spread_by()
    if engines is None or config.getoption("dist") != "load":
        return None
    from trtcheck.spread import EngineScheduling

    return EngineScheduling(config, log, engines)


def pytest_report_header(config: pytest.Config) -> str | None:
    """One line where engines were asked for."""
    runtime = known_runtime(config)
    return None if runtime is None else runtime.header()


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> SuiteFile | None:
    """Collects ``trtcheck.toml`` and ``*.trtcheck.toml``."""
    if not file_path.name.endswith("trtcheck.toml"):
        return None
    from trtcheck.suite import is_suite

    if not is_suite(file_path):
        return None
    from trtcheck.items import SuiteFile

    return SuiteFile.from_parent(parent, path=file_path)


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> Generator[None, None, None]:
    """Shows pytest-benchmark what is timed; with ``--trt-build-only``, leaves what only builds."""
    if known_runtime(config) is None:  # then no item concerns trtcheck
        return (yield)
    from trtcheck.bench import counted

    with counted(config, list(items)):
        yield
    if not config.getoption("--trt-build-only"):
        return
    from trtcheck.items import only_builds

    dropped = [item for item in items if not only_builds(item)]
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        items[:] = [item for item in items if only_builds(item)]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs a test that wants an engine once for every engine that was asked for."""
    if "trt_precision" in metafunc.fixturenames:
        engines = runtime_of(metafunc.config).engine_params(metafunc.definition.path.parent)
        metafunc.parametrize("trt_precision", engines, indirect=True, scope="session")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Lets the records of an item's checks ride on its report, from worker to controller."""
    report = yield
    if known_runtime(item.config) is None:
        return report
    from trtcheck.item_records import records_of

    records = records_of(item, call, report)
    if records:
        report.trtcheck_records = records  # type: ignore[attr-defined]
    return report


def pytest_report_teststatus(
    report: pytest.CollectReport | pytest.TestReport,
) -> tuple[str, str, tuple[str, dict[str, bool]]] | None:
    """Gives inconclusive items a letter and a word of their own."""
    records = getattr(report, "trtcheck_records", ())
    if report.when == "call" and report.passed and any(r["verdict"] == "inconclusive" for r in records):
        return "inconclusive", "I", ("INCONCLUSIVE", {"yellow": True})
    return None
