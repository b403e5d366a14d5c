"""Fixtures that several test files share."""

from __future__ import annotations

import importlib
import json
import pkgutil
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import suite_models
from skip_guard import pytest_runtest_makereport

import trtcheck

__all__ = ["pytest_runtest_makereport"]

# pytester forgets what a run in this process imported, and numpy must not be imported twice.
for _name in (
    "jinja2",
    "numpy",
    "onnx.reference",
    "onnxruntime",
    "PIL.Image",
    "rich.progress",
    "scipy.stats",
):
    importlib.import_module(_name)
for _module in pkgutil.walk_packages(trtcheck.__path__, "trtcheck."):
    importlib.import_module(_module.name)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Makes every warning an error: in these tests, not in the demo, which meets packages yet unknown."""
    for item in items:
        item.add_marker(pytest.mark.filterwarnings("error"), append=False)


TOML = {
    "onnx": "model.onnx",
    "data": "eval.npz",
    "calibration": "calibration.npz",
    "classes": list(suite_models.CLASSES),
}
SCALE = "[models.{name}.input]\nscale = 0.00392156862745098\n"


class Suite:
    """A folder with a tiny suite in it, in which pytest can be run."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester
        self.path = pytester.path

    def model(self, made: Any = None, name: str = "model.onnx") -> Path:
        """Writes the model *made*, by default the classifier."""
        return suite_models.save(suite_models.classifier() if made is None else made, self.path / name)

    def data(self, name: str = "eval.npz", **arrays: Any) -> Path:
        """Writes an archive of *arrays*."""
        np.savez(self.path / name, **arrays)
        return self.path / name

    def toml(
        self, tables: str = "", *, name: str = "tiny", file: str = "trtcheck.toml", scaled: bool = True,
        **keys: Any,
    ) -> Path:  # fmt: skip
        """Writes the suite file: the usual keys changed by *keys* (None: left out), and more *tables*."""
        changed = {key: value for key, value in (TOML | keys).items() if value is not None}
        lines = [f"{key} = {json.dumps(value)}" for key, value in changed.items()]
        text = "\n".join([f"[models.{name}]", *lines, SCALE.format(name=name) if scaled else "", tables])
        path = self.path / file
        path.write_text(text, encoding="utf-8")
        return path

    def run(
        self, *args: object, cache: str = "cache", report: str = "reports", process: bool = False,
        plugins: Sequence[str] = (), backend: str | None = "onnxruntime-cpu",
    ) -> pytest.RunResult:  # fmt: skip
        """Runs pytest in the folder, with *cache* and *report* inside it.

        Args:
            *args: More arguments of pytest.
            cache: Cache folder.
            report: Report folder.
            process: Whether it runs in a process of its own.
            plugins: Plugins besides trtcheck; others are not loaded, which takes longer than the run.
            backend: The backend, where *args* name none; None leaves it to the suite. ``auto`` would build
                every engine for TensorRT too.
        """
        run = self.pytester.runpytest_subprocess if process else self.pytester.runpytest_inprocess
        loaded = [argument for plugin in ("trtcheck", *plugins) for argument in ("-p", plugin)]
        chosen = [] if backend is None else [f"--trt-backend={backend}"]
        result = run(*loaded, f"--trt-cache={cache}", f"--trt-report={report}", *chosen, *map(str, args))
        text = f"{result.stdout.str()}\n{result.stderr.str()}"
        for sign in ("INTERNALERROR", "Traceback (most recent call last)", "_multicall", "session.py:"):
            assert sign not in text
        return result

    def report(self, folder: str = "reports") -> dict[str, Any]:
        """The report that the last run wrote."""
        document: dict[str, Any] = json.loads(
            (self.path / folder / "report.json").read_text(encoding="utf-8")
        )
        return document

    def verdicts(self, folder: str = "reports") -> dict[str, str]:
        """Verdicts by ``engine check``."""
        return {f"{i['engine']} {i['check']}": i["verdict"] for i in self.report(folder)["items"]}

    def item(self, engine: str, check: str, folder: str = "reports") -> dict[str, Any]:
        """The record of one check."""
        [found] = [i for i in self.report(folder)["items"] if (i["engine"], i["check"]) == (engine, check)]
        return found


@pytest.fixture(autouse=True, scope="session")
def _as_in_the_foreground() -> None:
    """Lets inner processes be interrupted: a script's background jobs are started deaf to it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _as_at_a_desk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets inner runs print what a person sees: pytest prints more where it finds itself in CI."""
    for name in ("CI", "BUILD_NUMBER", "GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "PYTEST_ADDOPTS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Suite:
    """A suite of the classifier ``tiny`` with 240 images and 64 for calibration."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    made = Suite(pytester)
    made.model()
    made.data(**suite_models.arrays())
    made.data("calibration.npz", images=suite_models.images(64, seed=1)[0])
    made.toml()
    return made
