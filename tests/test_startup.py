"""What pytest loads of trtcheck: almost nothing where nobody asks for it, and nothing heavy to collect."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

LOADED = """
import json, pathlib, sys
import pytest
pytest.main({arguments!r})
pathlib.Path("loaded.json").write_text(json.dumps(sorted(sys.modules)))
"""
LIGHT = {
    "trtcheck",
    "trtcheck.errors",
    "trtcheck.fixtures",
    "trtcheck.plugin",
    "trtcheck.recorder",
    "trtcheck.state",
}
HEAVY = {"numpy", "onnx", "onnxruntime", "scipy", "PIL", "tensorrt", "polygraphy", "jinja2"}
BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def loaded(arguments: list[str], folder: Path) -> set[str]:
    """The modules that a run of pytest in a process of its own has loaded in the end."""
    code = LOADED.format(arguments=["-p", "trtcheck", "-p", "no:cacheprovider", *arguments])
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return set(json.loads((folder / "loaded.json").read_text()))


@pytest.fixture
def plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project that merely has the plugin installed."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    (tmp_path / "pyproject.toml").write_text("[tool.other]\n")
    (tmp_path / "test_plain.py").write_text(
        "def test_passes():\n    pass\n\ndef test_fails():\n    assert 0\n"
    )
    return tmp_path


@pytest.mark.parametrize("arguments", [["--help"], ["--markers"], ["--collect-only"], []], ids=str)
def test_a_project_without_engines_loads_options_and_fixtures_alone(plain, arguments):
    assert {name for name in loaded(arguments, plain) if name.partition(".")[0] == "trtcheck"} == LIGHT


def test_an_option_is_read_before_anything_is_collected(plain):
    command = [sys.executable, "-m", "pytest", "-p", "trtcheck", "--trt-backend=none"]
    done = subprocess.run(command, cwd=plain, capture_output=True, text=True, check=False)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "--trt-backend=none is not known" in done.stderr


def test_an_ini_key_is_read_before_anything_is_collected(plain):
    (plain / "pytest.ini").write_text("[pytest]\ntrt_cache_size = much\n")
    command = [sys.executable, "-m", "pytest", "-p", "trtcheck"]
    done = subprocess.run(command, cwd=plain, capture_output=True, text=True, check=False)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "--trt-cache-size is no size" in done.stderr


def test_collecting_many_models_loads_nothing_heavy(plain, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from startup import write_suite

    write_suite(plain, 40)
    names = loaded(["--collect-only", "-q", "trtcheck.toml"], plain)
    assert "trtcheck.items" in names
    assert not {name.partition(".")[0] for name in names} & HEAVY
    assert not {name for name in names if name.startswith(("trtcheck.session", "trtcheck.backends.onnx"))}


def test_the_benchmark_prints_what_the_plugin_costs():
    command = [sys.executable, str(BENCHMARKS / "startup.py"), "--quick", "--models", "50"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    [row] = [line for line in done.stdout.splitlines() if line.startswith("| 50 |")]
    # Six checks of each engine, two of them timed, and calibration of one: pytest collects as many tests.
    assert row.split("|")[2].strip() == "1250"
    assert "none of numpy" in row
