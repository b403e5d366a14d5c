"""Fixtures that several test files share."""

from __future__ import annotations

import importlib
import pkgutil
import signal

import pytest
import suite_models
from skip_guard import pytest_runtest_makereport
from suites import Suite

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
