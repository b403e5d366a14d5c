"""What running engines calls, held against the bindings that are installed; nox holds it against others."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import trtcheck

SCRIPT = Path(__file__).parent / "signatures" / "check.py"
sys.path.insert(0, str(SCRIPT.parent))

import check  # noqa: E402

BACKENDS = Path(trtcheck.__file__).parent / "backends"
RUNNING = ("trt_engine.py", "trt_context.py", "trt_runtime.py", "trt_describe.py")
BINDINGS = {
    "engine",
    "runtime",
    "library",
    "config",
    "cache",
    "inspector",
    "kernels",
    "strategies",
    "_context",
}
"""What variables and attributes of those modules are called that hold objects of the bindings."""

OURS = {"library", "engine", "runtime", "log"}  # fields of Opened
ELSEWHERE = {"__version__", "errors", "init_libnvinfer_plugins", "Severity", "ERROR", "JSON"}


def test_the_installed_bindings_have_all_that_is_called():
    done = subprocess.run(
        [sys.executable, SCRIPT, "tensorrt_rtx"], capture_output=True, text=True, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "has all that trtcheck calls" in done.stdout


def test_what_is_missing_or_takes_other_arguments_is_listed():
    import tensorrt_rtx

    class Runtime:
        def __init__(self) -> None:
            """__init__(self: Runtime) -> None"""

        engine_host_code_allowed = False

    parts = {name: getattr(tensorrt_rtx, name) for name in check.RUN if name != "Runtime"}
    found = check.missing(SimpleNamespace(**parts, Runtime=Runtime))
    assert found == [
        "Runtime.__init__: is called with 1 arguments, takes [(0, 0)]",
        "Runtime.deserialize_cuda_engine: is not there",
    ]


def called(file: str) -> set[str]:
    """Attributes of the bindings' objects that *file* uses."""
    found = set()
    for node in ast.walk(ast.parse((BACKENDS / file).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute):
            owner = node.value
            name = owner.id if isinstance(owner, ast.Name) else getattr(owner, "attr", "")
            if name in BINDINGS:
                found.add(node.attr)
    return found - OURS - ELSEWHERE


@pytest.mark.parametrize("file", RUNNING)
def test_the_list_of_signatures_holds_all_that_the_code_calls(file):
    tables = (check.RUN, check.LAYOUTS, check.INSPECT, check.RTX)
    known = {name for table in tables for kind, members in table.items() for name in (kind, *members)}
    assert called(file) <= known
    assert called(file)
