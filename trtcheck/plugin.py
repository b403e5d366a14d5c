"""The pytest plugin: options, hooks and nothing else; everything heavy is imported where it is needed."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from trtcheck.fixtures import ort_baseline, trt_case, trt_check, trt_engine, trt_precision
from trtcheck.runtime import RUNTIME, Runtime

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
    """Reads the options, and starts collecting results where this process reports them."""
    config.addinivalue_line(
        "markers",
        "trtcheck(model=NAME, **gates): the model of trtcheck.toml that trt_case takes, and limits "
        "(recall_drop, precision_drop, latency_slowdown, …) for trt_check",
    )
    runtime = Runtime.of_config(config)
    config.stash[RUNTIME] = runtime
    if not runtime.is_worker:
        from trtcheck.recorder import Recorder

        config.pluginmanager.register(Recorder(config, runtime), "trtcheck-recorder")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Removes the session's shared results."""
    runtime = config.stash.get(RUNTIME, None)
    if runtime is not None:
        runtime.close()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tells a worker of pytest-xdist where the session's results are shared."""
    node.workerinput["trtcheck_shared"] = str(node.config.stash[RUNTIME].shared)


def pytest_report_header(config: pytest.Config) -> str | None:
    """One line where engines were asked for."""
    return config.stash[RUNTIME].header()


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> SuiteFile | None:
    """Collects ``trtcheck.toml`` and ``*.trtcheck.toml``."""
    if file_path.suffix != ".toml":
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
        engines = metafunc.config.stash[RUNTIME].engine_params(metafunc.definition.path.parent)
        metafunc.parametrize("trt_precision", engines, indirect=True, scope="session")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Lets the records of an item's checks ride on its report, from worker to controller."""
    report = yield
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
