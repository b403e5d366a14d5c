"""What loading the plugin costs, what may be missing, and who may import whom."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import trtcheck

PACKAGE = Path(trtcheck.__file__).parent
HEAVY = {
    "numpy", "onnx", "onnxruntime", "tensorrt", "polygraphy", "sklearn", "scipy", "jinja2", "rich", "PIL",
    "ml_dtypes", "distributed", "dask",
}  # fmt: skip
MODULES = sorted(
    ".".join(("trtcheck", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
)

AT_EXIT = """
import atexit, json, pathlib, sys
atexit.register(lambda: pathlib.Path("loaded.json").write_text(json.dumps(sorted(sys.modules))))
"""


def loaded_by(code: str, folder: Path) -> set[str]:
    """Top-level packages that are loaded when *code* ends."""
    done = subprocess.run(
        [sys.executable, "-c", AT_EXIT + code], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return {name.partition(".")[0] for name in json.loads((folder / "loaded.json").read_text())}


RUN = "import pytest, sys; sys.exit(int(pytest.main({arguments!r})) not in (0, 5))"


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["--collect-only"], ["--markers"], ["test_plain.py"]],
    ids=lambda arguments: arguments[0],
)
def test_a_project_that_merely_has_it_installed_loads_nothing_heavy(tmp_path, monkeypatch, arguments):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    (tmp_path / "test_plain.py").write_text("def test_nothing():\n    pass\n")
    (tmp_path / "pyproject.toml").write_text("[tool.other]\n")
    loaded = loaded_by(
        RUN.format(arguments=["-p", "trtcheck", "-p", "no:cacheprovider", *arguments]), tmp_path
    )
    assert "trtcheck" in loaded
    assert not loaded & HEAVY


def test_importing_the_package_loads_nothing_but_itself(tmp_path):
    loaded = loaded_by("import trtcheck", tmp_path)
    assert "trtcheck" in loaded
    assert not loaded & (HEAVY | {"pytest", "_pytest"})


def test_reading_a_suite_and_collecting_loads_nothing_heavy(suite):
    arguments = ["-p", "trtcheck", "--trt-engine=fp16,int8", "--collect-only", "-q"]
    loaded = loaded_by(RUN.format(arguments=arguments), suite.path)
    assert not loaded & HEAVY


WITHOUT = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {missing!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
"""
OPTIONAL = ["onnxruntime", "tensorrt", "tensorrt_rtx", "sklearn", "torch", "xdist", "distributed"]


def test_every_module_can_be_imported_without_the_optional_packages(tmp_path):
    imports = "import importlib\n" + "".join(f"importlib.import_module({name!r})\n" for name in MODULES)
    loaded_by(WITHOUT.format(missing=OPTIONAL) + imports, tmp_path)
    assert len(MODULES) > 40


def test_every_module_of_the_report_can_be_imported_first(tmp_path):
    """Pictures are made of what pages are made of, and pages of pictures: whoever begins, it must work."""
    report = [name for name in MODULES if name.startswith("trtcheck.report")]
    loaded_by(
        "import importlib, sys\n"
        f"for name in {report!r}:\n"
        "    for known in [known for known in sys.modules if known.partition('.')[0] == 'trtcheck']:\n"
        "        del sys.modules[known]\n"
        "    importlib.import_module(name)\n",
        tmp_path,
    )
    assert len(report) > 40


def test_without_onnxruntime_an_engine_that_is_asked_for_is_a_usage_error_that_says_what_to_install(suite):
    code = WITHOUT.format(missing=["onnxruntime"]) + (
        "import importlib.util as u\nfound = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'onnxruntime' else found(name, *rest)\n"
        "import pytest\nsys.exit(pytest.main(['-p', 'trtcheck', '--trt-engine=fp16']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=suite.path, capture_output=True, text=True, check=False
    )
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert 'pip install "pytest-trtcheck[cpu]"' in done.stderr
    assert "Traceback" not in done.stderr


def imported(module: Path) -> set[str]:
    """Every module that a file imports, anywhere in it, but for type checkers."""
    tree = ast.parse(module.read_text(encoding="utf-8"))
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    names: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module.name} imports relatively"
            names.update({str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)})
    return names


def files(*parts: str) -> list[Path]:
    found = [path for part in parts for path in sorted(PACKAGE.glob(part))]
    assert found
    return found


@pytest.mark.parametrize(
    "file", files("judge/*.py", "metrics/*.py", "case.py"), ids=lambda p: str(p.relative_to(PACKAGE))
)
def test_what_judges_knows_neither_pytest_nor_backends_nor_files(file):
    own = ("case", "given", "judge", "metrics", "names", "errors")
    allowed = ("numpy", "scipy", *(f"trtcheck.{name}" for name in own))
    standard = set(sys.stdlib_module_names) - {
        "io",
        "json",
        "os",
        "shutil",
        "socket",
        "subprocess",
        "tempfile",
    }
    for name in imported(file) - {"__future__.annotations"}:
        top = name.partition(".")[0]
        assert top in standard or name == "trtcheck" or name.startswith(allowed), (
            f"{file.name} imports {name}"
        )


def test_pytest_is_imported_by_the_plugin_alone():
    users = {str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py") if "pytest" in imported(path)}
    assert users == {
        "plugin.py", "state.py", "runtime.py", "items.py", "item_records.py", "fixtures.py",
        "check_fixture.py", "recorder.py", "bench.py",
    }  # fmt: skip


def test_nobody_imports_the_inside_of_pytest():
    for path in PACKAGE.rglob("*.py"):
        assert not {name for name in imported(path) if name.startswith("_pytest")}, path


def test_lowering_and_emulation_share_no_code():
    def inner(*parts: str) -> set[str]:
        return {name for path in files(*parts) for name in imported(path) if name.startswith("trtcheck.")}

    assert not {name for name in inner("backends/*.py") if name.startswith("trtcheck.precision")}
    assert not {name for name in inner("precision/*.py") if name.startswith("trtcheck.backends")}


def test_the_report_is_made_from_plain_data():
    for path in files("report/html.py", "report/terminal.py"):
        ours = {name for name in imported(path) if name.startswith("trtcheck.")}
        assert not {
            name
            for name in ours
            if not name.startswith(
                ("trtcheck.report", "trtcheck.names", "trtcheck.cache", "trtcheck.errors", "trtcheck.case")
            )
        }, path
